"""The injection sweep, whole; with Pythons that are beside this one too, by `python tests/soak/injection.py`."""

from __future__ import annotations

import injection
import pytest
from injected import SCENARIOS

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("name", SCENARIOS)
def test_exception_at_every_line_comes_out_and_leaves_nothing(name: str) -> None:
    """Of every public call: one run for each line that it goes through."""
    total, faults = injection.sweep(name)
    print(f"{name}: {total - len(faults)} of {total}")
    assert faults == []
    assert total > 10
