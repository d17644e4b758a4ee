"""Signals to a group of its own: a terminal's Ctrl-C reaches the child all the same."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastproc
from conftest import wait_until
from fastproc import PIPE, _native
from fastproc._engine.fds import OwnedFd
from fastproc._engine.process import Process
from fastproc.containment._member import facts_of

SAYS_INT = "trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.01; done"
# Ready when its parent waits for it: an interrupt in the start itself kills the child.
AWAITED = "until grep -q '^State:.S' /proc/$PPID/status; do sleep 0.01; done; " + SAYS_INT

DRIVER = """
import sys, fastproc
options = {sys.argv[2]: {"pgid": 0, "setsid": True, "kill_tree": True}[sys.argv[2]]}
script = sys.argv[3]
try:
    if sys.argv[1] == "run":
        fastproc.run("sh", "-c", script, stdout=int(sys.argv[4]), **options)
    else:
        with fastproc.start("sh", "-c", script, stdout=int(sys.argv[4]), **options) as process:
            try:
                process.wait()
            except KeyboardInterrupt:
                print("code", process.wait(5))
                raise
except KeyboardInterrupt as error:
    result = getattr(error, "result", None)
    print("caught", result and (result.returncode, result.killed))
"""


@pytest.mark.parametrize("option", ["pgid", "setsid", "kill_tree"])
@pytest.mark.parametrize("way", ["run", "exchange", "wait"])
def test_ctrl_c_of_the_terminal_reaches_a_child_in_its_own_group(way: str, option: str) -> None:
    """GOTCHAS H5: the terminal interrupts our group only; the child's hears of it from us, and ends as it likes."""
    read_end, write_end = os.pipe()
    env = {"FASTPROC_ENGINE": "exchange" if way == "exchange" else ""}
    door = "wait" if way == "wait" else "run"
    arguments = [sys.executable, "-c", DRIVER, door, option, AWAITED, str(write_end)]
    with (
        open(read_end, "rb") as said,
        fastproc.start(arguments, pty=True, pass_fds=[write_end], env_add=env) as process,
    ):
        os.close(write_end)
        assert said.readline() == b"ready\n"
        process.write(b"\x03")
        assert said.readline() == b"interrupted\n"
        found = process.expect(re.compile(rb"caught .*\r\n"), timeout=10)
        assert process.wait(10) == 0
    assert found.data == (b"caught None\r\n" if way == "wait" else b"caught (5, '')\r\n")


@pytest.fixture(params=["pidfd", "number"])
def leader(request: pytest.FixtureRequest) -> Iterator[Process]:
    """A leader of a group that says what it gets, known by its pidfd and without one."""
    with fastproc.start("sh", "-c", SAYS_INT, pgid=0, stdout=PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if request.param == "number":
            process._pidfd.close()
        yield process


def test_interrupt_group_reaches_the_leader_and_its_members(leader: Process) -> None:
    """All of the group get it; once the leader is reaped, nobody does (GOTCHAS D14)."""
    leader.interrupt_group()
    assert leader.wait(5) == 5
    leader.interrupt_group()


@pytest.mark.parametrize(
    "wait",
    [
        lambda process: process.wait(),
        lambda process: process.result(),
        lambda process: list(process.lines()),
        lambda process: list(process.chunks()),
        lambda process: list(process.events()),
        lambda process: process.read(),
        lambda process: process.expect("never"),
        lambda process: fastproc.wait_any([process]),
        lambda process: fastproc.wait_all([process]),
        lambda process: list(fastproc.as_completed([process])),
    ],
    ids=["wait", "result", "lines", "chunks", "events", "read", "expect", "wait_any", "wait_all", "as_completed"],
)
def test_ctrl_c_in_a_wait_is_passed_on_to_the_group(wait: Callable[[Process], object]) -> None:
    """GOTCHAS H5: once, by whatever call waits; the child lives or not as it likes."""
    script = "trap 'n=$((n+1))' INT; echo ready; while [ -z \"$n\" ]; do sleep 0.01; done; sleep 0.1; exit $((n+10))"
    with fastproc.start("sh", "-c", script, pgid=0, stdout=PIPE) as process:
        assert process.readline() == b"ready\n"
        old = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(KeyboardInterrupt):
                wait(process)
        finally:
            signal.signal(signal.SIGALRM, old)
        assert process.wait(10) == 11


def test_group_of_a_child_that_leads_none_is_not_signalled() -> None:
    """GOTCHAS D15: ours is not meant, by the pidfd or by number."""
    with fastproc.start("sleep", "60") as process:
        process.interrupt_group()
        for pidfd in (process.pidfd, -1):
            with pytest.raises(ProcessLookupError):
                _native.signal_group(pidfd, process.pid, signal.SIGKILL)
        assert process.poll() is None
    for pid in (-1, 0, 1):
        with pytest.raises(OSError, match="Invalid argument"):
            _native.signal_group(-1, pid, signal.SIGCONT)
        with OwnedFd() as fd, pytest.raises(OSError, match="Invalid argument"):
            fd.fill(_native.fp_pidfd_open, pid)


def test_group_of_a_stranger_is_not_signalled_by_number() -> None:
    """Only a child that is not reaped yet holds its number."""
    if os.getppid() <= 1:
        pytest.skip("the parent is process 1, which is refused by its number")
    with pytest.raises(ProcessLookupError):
        _native.signal_group(-1, os.getppid(), signal.SIGCONT)


def test_shielded_child_does_not_hear_of_it() -> None:
    """Sigignore says no; run() ends it after its moment."""

    def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt) as caught:
            fastproc.run("sleep", "60", pgid=0, sigignore=["INT"])
    finally:
        signal.signal(signal.SIGALRM, old)
    assert caught.value.result.returncode == -signal.SIGKILL  # type: ignore[attr-defined]


# -- stops and continuations


def test_changes_of_a_child_are_told_once_each(leader: Process) -> None:
    """Stopped, continued, ended; nothing is new in between, and the end stays."""
    assert leader.poll_change() is None
    os.kill(leader.pid, signal.SIGSTOP)
    change = leader.wait_change(5)
    assert (change.state, change.signal, change.returncode) == ("stopped", signal.SIGSTOP, None)
    assert leader.poll_change() is None
    assert leader.poll() is None
    with pytest.raises(fastproc.TimeoutExpired):
        leader.wait_change(0.05)
    leader.send_signal(signal.SIGCONT)
    change = leader.wait_change(5)
    assert (change.state, change.signal, repr(change)) == ("continued", 18, "<Change continued, signal=18>")
    leader.kill()
    for _ in range(2):
        change = leader.wait_change()
        assert (change.state, change.signal, change.returncode, change.core_dumped) == ("ended", 9, -9, False)
    assert leader.returncode == -9


def test_core_dump_is_told(tmp_path: Any) -> None:
    """Where the limit and the system's pattern let the kernel write one; the same as the property says."""
    script = "ulimit -c unlimited; kill -SEGV $$"
    with fastproc.start("sh", "-c", script, cwd=tmp_path) as process:
        change = process.wait_change(5)
        assert (change.state, change.signal, change.core_dumped) == ("ended", 11, process.core_dumped)


def test_stop_is_no_end_for_anybody_else(leader: Process) -> None:
    """GOTCHAS D23: only wait_change() asks for stops; wait() goes on waiting, and takes none away."""
    os.kill(leader.pid, signal.SIGSTOP)
    wait_until(lambda: (facts := facts_of(leader.pid)) and facts.state == "T")
    with pytest.raises(fastproc.TimeoutExpired):
        leader.wait(0.05)
    assert leader.wait_change(5).state == "stopped"
    assert leader.stop(0) == -9
