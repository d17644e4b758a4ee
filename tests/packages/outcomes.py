"""A pytest plugin: writes how each test ended, and how many children there were, to the file OUTCOMES as JSON.

OUTCOMES_ONLY, a JSON list of node ids, chooses tests.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

if os.environ.get("FASTPROC_SUITE_LOG"):
    # From tests/cpython: writes down every child that the standard library makes.
    import fastproc_guarded  # noqa: F401

# The worst of set-up, call and teardown; an expected failure is none, and says nothing when it does not come.
_RANK = ("passed", "skipped", "expected failure", "failed")

_outcomes: dict[str, str] = {}
_children = 0


def _audit(event: str, _args: object) -> None:
    global _children
    if event == "subprocess.Popen":
        _children += 1


sys.addaudithook(_audit)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    only = json.loads(os.environ.get("OUTCOMES_ONLY") or "null")
    if only is not None:
        items[:] = [item for item in items if item.nodeid in only]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = "expected failure" if hasattr(report, "wasxfail") else str(report.outcome)
    _outcomes[report.nodeid] = max(outcome, _outcomes.get(report.nodeid, "passed"), key=_RANK.index)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _outcomes[report.nodeid] = "failed"


def pytest_unconfigure() -> None:
    found = {"children": _children, "popen": sys.modules["subprocess"].Popen.__module__, "outcomes": _outcomes}
    Path(os.environ["OUTCOMES"]).write_text(json.dumps(found), "utf-8")
