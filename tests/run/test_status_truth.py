"""The true exit status in six ways, over each mechanism, by run() on both engines and by start().

Other libraries lose it (GOTCHAS D2): a child whose status was taken by somebody else is then reported as a success.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from conftest import ENGINES, MECHANISMS, isolated
from support.programs import PIDFD_GET_INFO, SYS_IOCTL, Programs

WAYS = ("own", "ignored", "nocldwait", "thread", "handler", "ptraced")
DOORS = (*ENGINES, "start")
ENDS = ("exit 0", "exit 42", "kill -9 $$", "kill -15 $$")
TRUTH = [0, 42, -9, -15]


def _force_engine(door: str) -> None:
    import sys

    sys.modules["fastproc._run"].__dict__["_FORCED_ENGINE"] = door if door in ENGINES else ""


def _ask(door: str, *argv: str) -> int | str:
    """Return the return code, or the name of the error that says it is not known."""
    import fastproc

    try:
        if door == "start":
            with fastproc.start(*argv) as child:
                return child.wait(20)
        return fastproc.run(*argv, check=False, capture=True, timeout=20).returncode
    except fastproc.ExitStatusUnknown as error:
        assert error.pid > 1
        return "unknown"


def _prepare(way: str, library: Any) -> None:
    if way == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    elif way == "nocldwait":
        assert library.hostile_nocldwait() == 0
    elif way == "handler":
        assert library.hostile_steal() == 0
    elif way == "thread":
        threading.Thread(target=_thief, daemon=True).start()


def _thief() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.0005)


def _argv(way: str, tracer: str, end: str) -> tuple[str, ...]:
    if way != "ptraced":
        # Long enough for a thief to be waiting already.
        return "sh", "-c", f"sleep 0.01; {end}"
    said = f"{tracer}.{time.monotonic_ns()}"
    script = f'"$1" $$ 120 >"$2" 2>&1 & while [ ! -s "$2" ]; do :; done; {end}'
    return "sh", "-c", script, "sh", tracer, said


def statuses(way: str, door: str, hostile: str, tracer: str) -> dict[str, list[int | str]]:
    """Return what each mechanism said about each end."""
    from fastproc import _native

    library = ctypes.CDLL(hostile)
    _force_engine(door)
    refused = _native.refused()
    _prepare(way, library)
    found = {}
    for mechanism in MECHANISMS:
        if mechanism in refused:
            continue
        _native.force(mechanism)
        found[mechanism] = [_ask(door, *_argv(way, tracer, end)) for end in ENDS]
    return found


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("way", WAYS)
def test_status_is_the_true_one(programs: Programs, pid_namespace: None, way: str, door: str) -> None:
    """Six ways, every door and mechanism: the true status, or where the kernel does not tell it, ExitStatusUnknown."""
    from fastproc import _native

    told_again = _native.features()["pidfd_info"]
    found = isolated(statuses, way, door, programs.hostile, programs.tracer, pid_namespace=True)
    assert set(found) >= {"fork_pipe"}
    for mechanism, codes in found.items():
        if way in ("own", "ptraced") or told_again:
            assert codes == TRUTH, mechanism
        else:
            assert all(code in (truth, "unknown") for code, truth in zip(codes, TRUTH, strict=True)), mechanism


def kernel_tells_again() -> bool:
    """Ask the kernel itself: PIDFD_GET_INFO of a child that has been reaped (ioctl_pidfd(2))."""
    import fcntl

    pid = os.fork()
    if pid == 0:
        os._exit(42)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        os.waitpid(pid, 0)
        return False
    os.waitpid(pid, 0)
    info = bytearray(64)
    info[0] = 1 | 8
    try:
        fcntl.ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return bool(info[0] & 8) and int.from_bytes(info[60:64], "little") == 42 << 8


def test_kernel_that_tells_again_is_asked() -> None:
    """The probe finds PIDFD_GET_INFO's exit status exactly where the kernel has it: else the tests here would skip."""
    from fastproc import _native

    assert _native.features(again=True)["pidfd_info"] == isolated(kernel_tells_again)


def many_stolen(way: str, door: str, hostile: str, rounds: int) -> dict[str, int]:
    """Return how often the status was right, was recovered, and was wrong."""
    import fastproc

    library = ctypes.CDLL(hostile)
    _force_engine(door)
    _prepare(way, library)
    counts = {"right": 0, "recovered": 0, "wrong": 0}
    for number in range(rounds):
        if door == "start":
            child = fastproc.start("sh", "-c", f"exit {number % 250 + 1}")
            code, usage = child.wait(20), child.usage
        else:
            result = fastproc.run("sh", "-c", f"exit {number % 250 + 1}", check=False)
            code, usage = result.returncode, result.usage
        counts["right" if code == number % 250 + 1 else "wrong"] += 1
        counts["recovered"] += usage is None
    return counts


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("way", ["ignored", "thread", "handler"])
def test_stolen_statuses_are_recovered_each_time(programs: Programs, way: str, door: str) -> None:
    """In 100 stolen ends none is wrong, and the thief did succeed."""
    from fastproc import _native

    if not _native.features()["pidfd_info"]:
        pytest.skip("this kernel does not tell the status of a reaped child again (before 6.15)")
    counts = isolated(many_stolen, way, door, programs.hostile, 100)
    assert (counts["right"], counts["wrong"]) == (100, 0)
    # A thread or a handler comes second now and then: that one was not stolen.
    assert counts["recovered"] == 100 or way != "ignored"


def unknown_statuses(way: str, door: str, hostile: str) -> dict[str, list[int | str]]:
    library = ctypes.CDLL(hostile)
    assert library.hostile_refuse(SYS_IOCTL, 25, 1, ctypes.c_uint32(PIDFD_GET_INFO)) == 0
    return statuses(way, door, hostile, "")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("way", ["ignored", "nocldwait", "handler"])
def test_status_that_nobody_tells_is_unknown_and_never_zero(programs: Programs, way: str, door: str) -> None:
    """With PIDFD_GET_INFO refused, as before 6.15, a stolen status is ExitStatusUnknown, also that of a success."""
    found = isolated(unknown_statuses, way, door, programs.hostile)
    assert found == dict.fromkeys(found, ["unknown"] * len(ENDS))


def with_other_libraries(mechanism: str) -> list[int]:
    import subprocess

    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    theirs = [subprocess.Popen(["sh", "-c", f"sleep 0.0{number}; exit {number}"]) for number in range(5)]
    ours = [fastproc.start("sh", "-c", f"sleep 0.0{number}; exit {number + 10}") for number in range(5)]
    pid = os.fork()
    if pid == 0:
        os._exit(99)
    for number in range(5):
        fastproc.run("sh", "-c", f"exit {number}", check=False)
    codes = [child.wait() for child in theirs] + [child.wait() for child in ours]
    return [*codes, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


def test_other_libraries_keep_their_children(mechanism: str) -> None:
    """GOTCHAS D3: only our own children are waited for, so subprocess and fork beside fastproc get their statuses."""
    assert isolated(with_other_libraries, mechanism) == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 99]


def test_leader_that_ends_before_its_threads(mechanism: str, engine: str, programs: Programs) -> None:
    """GOTCHAS D10: the child has ended when its last thread has, once, with the process's status."""
    import fastproc

    begin = time.monotonic()
    result = fastproc.run(programs.leader_exits, "150", check=False)
    assert (result.returncode, time.monotonic() - begin >= 0.15) == (7, True)


def test_stopped_child_is_not_ended(mechanism: str, engine: str) -> None:
    """GOTCHAS D23: a stop is no exit, neither for wait() nor for run()."""
    import fastproc

    with fastproc.start("sleep", "60") as child:
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(fastproc.TimeoutExpired):
            child.wait(0.05)
        assert child.poll() is None
        child.send_signal(signal.SIGCONT)
        child.terminate()
        assert child.wait(5) == -15
    result = fastproc.run("sh", "-c", "(sleep 0.1; kill -CONT $$) & kill -STOP $$; exit 5", check=False)
    assert result.returncode == 5


def test_core_dump_is_told(mechanism: str, engine: str, tmp_path: Any) -> None:
    """A child that dumps core says so, unless the limit forbids it."""
    import fastproc

    result = fastproc.run("sh", "-c", "ulimit -c 0; kill -SEGV $$", check=False, cwd=tmp_path)
    assert (result.returncode, result.signal, result.shell_code) == (-11, 11, 139)


def early_exits(mechanism: str, count: int) -> list[int]:
    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    children = [fastproc.start("sh", "-c", f"exit {number % 200}") for number in range(count)]
    time.sleep(0.1)
    return [child.wait(5) - number % 200 for number, child in enumerate(children)]


def test_children_that_end_together_are_all_collected(mechanism: str) -> None:
    """GOTCHAS D4, D5: many ends at once, before anybody waits: each status arrives."""
    assert isolated(early_exits, mechanism, 100) == [0] * 100


def reused_number(hostile: str) -> dict[str, Any]:
    """Kill a child, recreate its number as a stranger, and use every signal call of the old handle."""
    import fastproc

    library = ctypes.CDLL(hostile)
    hits = strangers = 0
    errors: list[str] = []
    for _ in range(50):
        child = fastproc.start("sleep", "60")
        number = child.pid
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)  # somebody else takes it: the handle does not know
        stranger = library.hostile_spawn_pid(number)
        if stranger != number:
            errors.append(f"clone3(set_tid={number}): {stranger}")
            break
        strangers += 1
        calls: list[Callable[[], Any]] = [
            child.terminate,
            child.kill,
            lambda child=child: child.send_signal(signal.SIGUSR1),  # type: ignore[misc]
        ]
        for call in calls:
            call()
        try:
            code: int | str = child.stop(0.01)
        except fastproc.ExitStatusUnknown:
            code = "unknown"
        if code not in (-9, "unknown"):
            errors.append(f"stop() said {code}")
        time.sleep(0.0005)
        if os.waitpid(number, os.WNOHANG)[0]:
            hits += 1
        else:
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)
    return {"hits": hits, "strangers": strangers, "errors": errors}


@pytest.mark.privileged
def test_signals_never_reach_a_stranger_with_the_same_number(programs: Programs, pid_namespace: None) -> None:
    """GOTCHAS D1: the number of a stolen child is used again; no signal of the old handle arrives there."""
    found = isolated(reused_number, programs.hostile, pid_namespace=True)
    assert found == {"hits": 0, "strangers": 50, "errors": []}


def test_kill_after_the_end_does_nothing(mechanism: str) -> None:
    """GOTCHAS D13: signals to a child that has been waited for are no error and reach nobody."""
    import fastproc

    child = fastproc.start("true")
    assert child.wait() == 0
    child.kill()
    child.terminate()
    child.send_signal(0)
    assert child.wait() == 0
