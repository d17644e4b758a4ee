"""The parent's half of a spawn: descriptors checked first, the order of steps, signals during the set-up."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import cgroup_folder, isolated
from support.programs import Programs


def lowest_free() -> int:
    fd = os.open("/", os.O_RDONLY)
    os.close(fd)
    return fd


def test_cwd_survives_a_map_over_its_descriptor(mechanism: str) -> None:
    """The directory is the one asked for, also when the map writes to the number of its descriptor."""
    with_fd = os.open("/usr", os.O_RDONLY)
    given = os.open("/tmp", os.O_RDONLY)
    try:
        for fds in ({lowest_free(): with_fd}, {lowest_free() + 1: with_fd}):
            assert fastproc.run("pwd", cwd="/tmp", fds=fds, capture=True).stdout == b"/tmp\n"
        assert fastproc.run("pwd", cwd=given, fds={given: with_fd}, capture=True).stdout == b"/tmp\n"
    finally:
        os.close(with_fd)
        os.close(given)


@pytest.mark.parametrize(
    ("options", "stage"),
    [
        (lambda fd: {"cwd": fd}, "cwd"),
        (lambda fd: {"cgroup": fd}, "cgroup"),
        (lambda fd: {"ctty": fd, "setsid": True}, "ctty"),
        (lambda fd: {"stdin": fd}, "fds"),
        (lambda fd: {"fds": {9: fd}}, "fds"),
    ],
    ids=["cwd", "cgroup", "ctty", "stdin", "fds"],
)
def test_descriptor_that_is_not_open_is_found_before_ours_takes_its_number(
    options: Callable[[int], dict[str, Any]], stage: str
) -> None:
    """EBADF with the stage that asked for it, and never our own pipe in its place."""
    with pytest.raises(fastproc.SpawnError) as caught:
        fastproc.run("true", capture=True, **options(lowest_free()))
    assert (caught.value.errno, caught.value.stage) == (9, stage)


def test_low_limit_of_descriptors_does_not_hinder_other_steps(programs: Programs) -> None:
    """Limits are set when nothing is left to open."""
    options: dict[str, Any] = {"rlimits": {"NOFILE": 3}, "oom_score_adj": 100}
    assert fastproc.run(programs.static_exit, **options).returncode == 0


def stopped_during_spawns() -> list[int]:
    """Spawn under a rain of SIGTSTP to the whole group; returns the number of spawns and of those that took long."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTSTP, lambda *_: None)
    rain = os.fork()
    if rain == 0:
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            os.kill(0, signal.SIGTSTP)
            os.kill(0, signal.SIGCONT)  # what has reached its program may go on
            time.sleep(0.0005)
        os._exit(0)
    count = late = 0
    end = time.monotonic() + 2
    while time.monotonic() < end:
        begin = time.monotonic()
        process = fastproc.start("/bin/true")
        late += time.monotonic() - begin > 0.5
        process.wait(10)
        count += 1
    os.waitpid(rain, 0)
    return [count, late]


@pytest.mark.slow
def test_stop_signals_during_the_set_up_do_not_freeze_the_parent(pid_namespace: None) -> None:
    """A Ctrl-Z between clone and exec does not stop the child there, with its parent waiting for the exec."""
    count, late = isolated(stopped_during_spawns, pid_namespace=True, timeout=30)
    assert count > 50
    assert late == 0


def forks_in_a_handler() -> list[Any]:
    """A handler forks during a run, and the copy leaves through run() by an exception."""
    copies = []

    def fork(*_args: object) -> None:
        pid = os.fork()
        if pid == 0:
            raise SystemExit
        copies.append(pid)

    signal.signal(signal.SIGALRM, fork)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        result = fastproc.run("sleep", "0.5", check=False)
    except SystemExit:
        os._exit(7)
    return [result.returncode, result.killed, os.waitstatus_to_exitcode(os.waitpid(copies[0], 0)[1])]


def test_forked_copy_of_a_run_leaves_the_child_alone() -> None:
    """The copy closes what it has; the child is the parent's (GOTCHAS I2)."""
    assert isolated(forks_in_a_handler) == [0, "", 7]


@pytest.mark.privileged
def test_cgroup_under_a_frozen_one_is_refused(mechanism: str, tmp_path: Path) -> None:
    """Frozen is what cgroup.events says, which an ancestor can cause (GOTCHAS A16)."""
    with cgroup_folder() as outer:
        if outer is None or mechanism == "posix_spawn":
            pytest.skip("no cgroup v2, or a mechanism without it")
        inner = outer / "inner"
        inner.mkdir()
        try:
            (outer / "cgroup.freeze").write_text("1")
            with pytest.raises(fastproc.SpawnError) as caught:
                fastproc.run("true", cgroup=inner)
            assert (caught.value.errno, caught.value.stage) == (16, "cgroup")
            fd = os.open(inner, os.O_RDONLY)
            try:
                with pytest.raises(fastproc.SpawnError) as caught:
                    fastproc.run("true", cgroup=fd)
            finally:
                os.close(fd)
            assert (caught.value.errno, caught.value.stage) == (16, "cgroup")
        finally:
            (outer / "cgroup.freeze").write_text("0")
            inner.rmdir()
