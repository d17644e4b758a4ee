"""The runner of CPython's tests itself: it says why it cannot run, and no fault of a suite is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
FAKE_SUITE = """
import os, subprocess, time, unittest

class Fake(unittest.TestCase):
    def test_good(self): pass
    def test_bad(self): self.fail("bad")
    def test_crash(self): os.abort()
    def test_hang(self): time.sleep(600)
    def test_excluded(self): self.fail("it has run")
    def test_leaves_a_child(self): os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "600")
    def test_leaves_a_descriptor(self): os.dup(0)
    def test_orphan(self): os.system("setsid sleep 700 & sleep 0.3")
"""
BROKEN_SUITE = """
import subprocess, unittest

def setUpModule(): raise OSError("no set-up")

class Fake(unittest.TestCase):
    def test_good(self): pass
"""
RUN = """
import json, sys
from pathlib import Path
import harness, run_suite
here = Path(sys.argv[1])
harness.TEST_TIMEOUT = 2.0
suite = harness.Suite("subprocess", sys.argv[2], str(here / "excluded.json"), "stand_in")
options = harness.Options([], False, None, False)
report = harness.run_suite(sys.executable, sys.executable, "3.11", suite, [here], here / "log", options)
print(json.dumps([report, run_suite.faults(report, here / "children")]))
"""


def run(place: Path, suite: str) -> tuple[dict[str, Any], list[str]]:
    """Run a suite of our own in a process that may become a subreaper."""
    (place / "stand_in.py").write_text("import subprocess, sys\nsys.modules[__name__] = subprocess\n")
    (place / "suite.py").write_text(suite)
    excluded = [{"match": "*.test_excluded", "category": "private-name", "reason": "looks inside"}]
    (place / "excluded.json").write_text(json.dumps({"entries": excluded}))
    (place / "children").write_text("allowed x\nforbidden y\n")
    command = [sys.executable, "-c", RUN, str(place), "suite"]
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    report, faults = json.loads(done.stdout.splitlines()[-1])
    return report, faults


@pytest.mark.slow
def test_each_fault_is_reported(tmp_path: Path) -> None:
    """A crash and a hang cost their test only; what is left behind is found and ended."""
    report, faults = run(tmp_path, FAKE_SUITE)
    outcomes = {name.removeprefix("Fake.test_"): result["outcome"] for name, result in report["tests"].items()}
    assert outcomes == {
        "good": "pass",
        "bad": "fail",
        "crash": "crash",
        "hang": "hang",
        "excluded": "excluded",
        "leaves_a_child": "pass",
        "leaves_a_descriptor": "pass",
        "orphan": "pass",
    }
    assert [fault for fault in faults if not fault.startswith("left at the end: ")] == [
        "failed: Fake.test_bad",
        "failed: Fake.test_crash",
        "failed: Fake.test_hang",
        "left children: Fake.test_leaves_a_child",
        "left descriptors: Fake.test_leaves_a_descriptor",
        "made by the standard library: forbidden y",
    ]
    assert len([fault for fault in faults if fault.startswith("left at the end: ")]) == 2
    assert sorted(process["cmd"] for process in report["leaked_processes"]) == ["sleep 600", "sleep 700"]


@pytest.mark.slow
def test_a_set_up_that_fails_is_reported(tmp_path: Path) -> None:
    """The tests behind it do not run, which is not a success."""
    report, faults = run(tmp_path, BROKEN_SUITE)
    assert report["outcomes"] == {"notrun": 1}
    assert faults[:3] == [
        "failed: Fake.test_good",
        "the run broke off: setUpModule (suite): OSError: no set-up",
        "no test passed",
    ]


def test_without_a_python_it_fails_and_says_so(tmp_path: Path) -> None:
    """It does not skip: what CI runs would be nothing."""
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, str(HERE / "run_suite.py"), "3.12", "3.13"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("make suite cannot run: no Python 3.12 or 3.13 with its test package")
