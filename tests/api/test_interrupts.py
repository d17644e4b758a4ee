"""An exception of a signal handler in the middle of a call: a part of the sweep of tests/soak/injection.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "soak"))

import injection

STEP = 23


@pytest.mark.parametrize(
    "name",
    [
        "run-exchange",
        "lines",
        "pipeline-reader",
        "start-lines",
        "start-stop",
        "pool-submit",
        "pool-map",
        "aio-run-asyncio",
    ],
)
def test_exception_at_some_lines_comes_out_and_leaves_nothing(name: str) -> None:
    """That very object; no child, thread or descriptor is left, and the next calls work."""
    count, faults = injection.sweep(name, first=len(name), step=STEP)
    assert faults == []
    assert count > 8
