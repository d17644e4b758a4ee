"""Children of another user, at length: `make soak`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from programs import Programs

HERE = Path(__file__).resolve().parent
PRIVILEGED = str(HERE.parent / "privileged")

pytestmark = [pytest.mark.soak, pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]


@pytest.fixture
def folder() -> Any:
    """A folder that every user can enter."""
    path = Path(f"/tmp/fastproc-soak-{os.getpid()}")
    path.mkdir()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def spied(*arguments: Any) -> Any:
    sys.path.insert(0, PRIVILEGED)
    import test_identity

    return test_identity.spied(*arguments)


@pytest.mark.parametrize("way", ["clone3_vm", "launcher", "fork_pipe"])
def test_target_user_neither_reads_nor_holds_the_parent_for_a_minute(
    programs: Programs, folder: Path, way: str
) -> None:
    """HAZARDS G18, G20: 16 threads, a spy that opens all memory it can and stops all processes it may signal."""
    program = folder / "secret"
    shutil.copy(programs.static_exit, program)
    program.chmod(0o711)
    found = isolated(spied, str(program), way, 16, 60.0, 60.0, pid_namespace=True, timeout=300)
    print(way, found)
    assert (found["opened"], found["hung"], found["same dumpable"], found["failed"]) == (0, 0, True, [])
    assert found["longest"] < 20


def rows(*arguments: Any) -> Any:
    sys.path.insert(0, PRIVILEGED)
    import test_identity

    return test_identity.truth_table(*arguments)


def test_two_thousand_rows_of_the_truth_table(programs: Programs, folder: Path) -> None:
    """Many more combinations than pairs."""
    probe = shutil.copy(programs.probe, folder / "probe")
    found = isolated(rows, str(probe), str(folder / "root"), 2000, pid_namespace=True, timeout=900)
    print(f"{found['rows']} rows, {found['refused']} refused before any child")
    assert found["wrong"] == []
