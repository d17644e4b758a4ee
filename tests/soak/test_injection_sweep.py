"""The injection sweep, whole; with Pythons that are beside this one too, by `python tests/soak/injection.py`."""

from __future__ import annotations

import injection
import pytest
from injected import SCENARIOS

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("name", SCENARIOS)
def test_exception_at_every_line_comes_out_and_leaves_nothing(name: str) -> None:
    """Of every public call: one run for each line that it goes through."""
    found = injection.sweep(name)
    beyond = sum(found.left_out.values())
    print(f"{name}: {found.count - len(found.faults)} of {found.count}; {beyond} out of reach")
    assert found.faults == []
    assert found.count > 10
