"""An interpreter that ends while children run says nothing, does not crash, and ends nobody (GOTCHAS I9)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from support import exits


def leave(python: str, count: int) -> dict[str, Any]:
    """See exits.py."""
    return exits.leave(python, count)


@pytest.mark.slow
@pytest.mark.parametrize("python", exits.PYTHONS, ids=lambda python: Path(python).parent.parent.name)
def test_interpreter_ends_silently_while_children_run(python: str, pid_namespace: None) -> None:
    """Each kind of handle, left in each way, twice."""
    count = 2 * len(exits.SCRIPTS)
    assert isolated(leave, python, count, pid_namespace=True) == {"done": count, "silent": count, "wrong": {}}
