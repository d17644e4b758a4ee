"""The C core alone: with its fault points, from eight threads. `make asan` and `make tsan` do the same sanitized."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT
from support.programs import harness_sources


@pytest.mark.slow
def test_core_from_eight_threads(tmp_path: Path) -> None:
    """Every mechanism, from eight threads at once, and each fault point."""
    harness = tmp_path / "harness"
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE", "-DFP_FAULTS=1", "-O1", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*command, "-o", str(harness), *harness_sources(), "-lpthread"], check=True, capture_output=True)
    done = subprocess.run([str(harness), "6"], capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ok"), done.stdout + done.stderr
