"""The tests that take minutes: `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import MECHANISMS, isolated
from support import exits
from support.programs import Programs

HERE = Path(__file__).resolve().parent
NATIVE = str(HERE.parent / "native")

pytestmark = pytest.mark.soak


def test_three_hundred_thousand_spawns_leave_nothing() -> None:
    """0 descriptors, 0 zombies, less than 1 MiB after the first 10,000."""
    done = subprocess.run([sys.executable, str(HERE / "soak_spawn.py"), "300000"], check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("name", MECHANISMS)
def test_each_mechanism_leaves_nothing(name: str) -> None:
    """20,000 by each mechanism."""
    done = subprocess.run([sys.executable, str(HERE / "soak_spawn.py"), "20000", name], check=False)
    assert done.returncode == 0


def noisy(*arguments: object) -> object:
    sys.path.insert(0, NATIVE)
    from test_fd_maps import noisy_spawns

    return noisy_spawns(*arguments)  # type: ignore[arg-type]


def test_no_foreign_descriptor_in_twenty_thousand_children(programs: Programs) -> None:
    """GOTCHAS C1, at length."""
    found = isolated(noisy, programs.probe, 4000, list(MECHANISMS), timeout=1500)
    print(f"foreign descriptors: {len(found['foreign'])} in {found['children']} children")
    assert (found["foreign"], found["children"]) == ([], 20_000)


def flood(*arguments: object) -> object:
    sys.path.insert(0, NATIVE)
    from test_signals import flooded

    return flooded(*arguments)  # type: ignore[arg-type]


def test_no_handler_runs_in_twenty_thousand_children(programs: Programs, pid_namespace: None) -> None:
    """GOTCHAS A1, at length."""
    arguments = (programs.static_exit, programs.hostile, programs.flood, 20_000, list(MECHANISMS))
    found = isolated(flood, *arguments, pid_namespace=True, timeout=1500)
    print(f"handler runs in a child: {found['foreign']} in 20000 children")
    assert found == {"foreign": 0, "heard": True, "bad": [], "unchanged": True}


def test_ten_thousand_expressions_do_what_bash_does(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random pipelines, at length: bytes, files and status as those of bash with pipefail."""
    sys.path.insert(0, str(HERE.parent / "pipeline"))
    from test_bash import Bench, compare_with_bash

    monkeypatch.setenv("K", "outside")
    compared = compare_with_bash(Bench(programs.node, tmp_path), 10_000)
    print(f"expressions as in bash: {compared} of 10000")
    assert compared == 10_000


def reuse(*arguments: object) -> object:
    from support import strangers

    return strangers.try_all(*arguments)  # type: ignore[arg-type]


def test_no_stranger_is_hit_in_a_thousand_tries(programs: Programs, pid_namespace: None) -> None:
    """GOTCHAS D1, D14, at length: every public way to signal, after the number has got another owner."""
    found = isolated(reuse, programs.hostile, 1000, [], pid_namespace=True, timeout=600)
    print(f"strangers hit: {len(found['hits'])} in {found['tries']} tries")
    assert found["hits"] == []
    assert found["tries"] >= 1000


def leave(*arguments: object) -> object:
    from support import exits

    return exits.leave(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("python", exits.PYTHONS)
def test_a_thousand_interpreters_end_silently_while_children_run(python: str, pid_namespace: None) -> None:
    """GOTCHAS I9, at length."""
    found = isolated(leave, python, 1000, pid_namespace=True, timeout=900)
    print(f"{python}: {found['silent']} of {found['done']} interpreters ended silently")
    assert found["done"] >= 1000
    assert found["wrong"] == {}
