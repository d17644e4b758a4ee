"""A test that waits for ever fails, and the run goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HANGING = """
import threading
import pytest
import fastproc



def test_event():
    threading.Event().wait()


def test_pool_and_its_clean_up():
    with fastproc.Pool(1) as pool:
        try:
            pool.submit("sleep", "60").result()
        finally:
            threading.Event().wait()


def test_next():
    pass
"""


def test_a_test_that_hangs_fails(tmp_path: Path) -> None:
    """Also one that hangs again while it is cleaned up; the next one runs."""
    tests = Path(__file__).resolve().parents[1]
    (tmp_path / "quick.py").write_text("import conftest\nconftest.BOUND, conftest.BOUND_AGAIN = 0.5, 3.0\n")
    (tmp_path / "test_hanging.py").write_text(HANGING)
    path = os.pathsep.join((str(tmp_path), str(tests), *filter(None, sys.path)))
    options = (
        "-q",
        "-p",
        "conftest",
        "-p",
        "quick",
        "-p",
        "no:cacheprovider",
        "-o",
        "faulthandler_timeout=90",
        f"--rootdir={tmp_path}",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_hanging.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = done.stdout.splitlines()
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED", "ERROR"))]
    assert failed == [f"FAILED test_hanging.py::{name}" for name in ("test_event", "test_pool_and_its_clean_up")], (
        done.stdout
    )
    assert lines[-1].startswith("2 failed, 1 passed"), done.stdout
