"""The core for other POSIX systems than Linux (-DFP_PORTABLE=1): each file without a warning, and all of it run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT
from support.programs import core_sources, harness_sources

PORTABLE = ("-std=gnu11", "-D_GNU_SOURCE", "-DFP_PORTABLE=1", f"-I{ROOT / 'csrc'}")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wvla", "-Werror")


@pytest.mark.parametrize("source", core_sources())
def test_file_compiles_for_other_systems(source: str, tmp_path: Path) -> None:
    """Every file of the core, with the warnings of the build as errors."""
    compiler = os.environ.get("CC", "cc")
    command = [compiler, *PORTABLE, *WARNINGS, "-O2", "-c", "-o", str(tmp_path / "out.o"), str(ROOT / source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_core_for_other_systems_from_eight_threads(tmp_path: Path) -> None:
    """posix_spawn, poll and wait4 alone: runs, pipelines, waits and the fault points that are left."""
    harness = tmp_path / "harness"
    command = [os.environ.get("CC", "cc"), *PORTABLE, *WARNINGS, "-DFP_FAULTS=1", "-O1", "-o", str(harness)]
    subprocess.run([*command, *harness_sources(), "-lpthread"], check=True, capture_output=True)
    done = subprocess.run([str(harness), "4"], capture_output=True, text=True, check=False, timeout=100)
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[-1]) == (0, "ok"), done.stdout + done.stderr
    assert "posix_spawn: 8 threads, 4 rounds each" in done.stdout
    assert sum(", errno 38" in line for line in lines) == 4
