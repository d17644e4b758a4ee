"""Signals during a spawn: no handler of the parent runs in a child, nothing hangs, no interrupt loses a child.

Everything here runs in PID namespaces of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import threading
import time
from typing import Any

import pytest

from conftest import ENGINES, MECHANISMS, isolated
from support.programs import Programs

pytestmark = pytest.mark.usefixtures("pid_namespace")

USR1 = str(int(signal.SIGUSR1))


def _flood(flood: str, group: bool, period_us: int, *signals: str) -> subprocess.Popen[bytes]:
    assert os.getpid() > 1
    command = [flood, str(os.getpid()), str(int(group)), str(period_us), *signals]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


def flooded(static_exit: str, hostile: str, flood: str, count: int, mechanisms: list[str]) -> dict[str, Any]:
    """Spawn under 1 kHz of SIGUSR1 at this process, then at its whole group; count handler runs."""
    import fastproc
    from fastproc import _native

    os.setpgid(0, 0)
    library = ctypes.CDLL(hostile)
    for name in ("hostile_here", "hostile_foreign"):
        getattr(library, name).restype = ctypes.c_uint64
    assert library.hostile_catch_all() == 0
    before = (ctypes.c_uint64 * 64)()
    library.hostile_dispositions(before)
    bad: list[int] = []
    for group in (False, True):
        noise = _flood(flood, group, 1000, USR1)
        # In the group the child itself is hit after exec and may die of it; never anything else.
        allowed = (0, -signal.SIGUSR1) if group else (0,)
        for number in range(count // 2):
            _native.force(mechanisms[number % len(mechanisms)])
            try:
                if number % 2:
                    code = fastproc.run(static_exit, check=False, capture=True).returncode
                else:
                    code = fastproc.start(static_exit).wait(20)
            except fastproc.SpawnError as error:  # hit between opening the mask and exec
                code = -error.detail if error.errno == errno.ECANCELED else error.errno or 0
            if code not in allowed:
                bad.append(code)
        noise.kill()
        noise.wait()
    after = (ctypes.c_uint64 * 64)()
    library.hostile_dispositions(after)
    return {
        "foreign": library.hostile_foreign(),
        "heard": library.hostile_here() > count // 20,
        "bad": bad,
        "unchanged": list(before) == list(after),
    }


@pytest.mark.slow
def test_no_handler_runs_in_a_child(programs: Programs) -> None:
    """GOTCHAS A1: 1 kHz of SIGUSR1 during 1,500 spawns over all mechanisms: 0 handler runs in a child."""
    from fastproc import _native

    usable = [name for name in MECHANISMS if name not in _native.refused()]
    arguments = (programs.static_exit, programs.hostile, programs.flood, 1500, usable)
    found = isolated(flooded, *arguments, pid_namespace=True, timeout=120)
    assert found == {"foreign": 0, "heard": True, "bad": [], "unchanged": True}


def setxid_storm(static_exit: str, mechanism: str, count: int) -> list[Any]:
    """Spawn from four threads while another makes the C library signal all threads again and again."""
    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    stop = threading.Event()
    rounds = [0]

    def change() -> None:
        while not stop.is_set():
            os.setresuid(*os.getresuid())
            rounds[0] += 1

    codes: list[int] = []

    def spawn() -> None:
        for _ in range(count // 4):
            codes.append(fastproc.run(static_exit, "3", check=False).returncode)

    threads = [threading.Thread(target=spawn) for _ in range(4)]
    changer = threading.Thread(target=change)
    changer.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    changer.join()
    return [codes == [3] * count, rounds[0] > 10]


def test_setuid_of_another_thread_neither_hangs_nor_crashes(mechanism: str, programs: Programs) -> None:
    """GOTCHAS A2: the C library's own signals are held during a spawn too, and answered after it."""
    arguments = (programs.static_exit, mechanism, 80)
    assert isolated(setxid_storm, *arguments, pid_namespace=True, timeout=60) == [True, True]


class Interrupts:
    """SIGINT raises KeyboardInterrupt once for each time that it is armed."""

    def __init__(self) -> None:
        """Install the handler."""
        self.armed = False
        self.raised = 0
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        if self.armed:
            self.armed = False
            self.raised += 1
            raise KeyboardInterrupt


def _known(processes: list[Any]) -> set[int]:
    from fastproc._engine import orphans

    waiting = {orphan[0] for orphan in orphans.pending}
    return waiting | {process.pid for process in processes if process.pid > 0}


def interrupted_starts(flood: str, mechanism: str, count: int) -> dict[str, Any]:
    """Start children under SIGINT at 3 kHz; each child must be in a handle or among the orphans."""
    import warnings

    import fastproc
    from fastproc import _native
    from support import observe

    warnings.simplefilter("ignore", ResourceWarning)  # a handle that an interrupt dropped
    _native.force(mechanism)
    interrupts = Interrupts()
    noise = _flood(flood, False, 333, str(int(signal.SIGINT)))
    held: list[Any] = []
    unknown: set[int] = set()
    for number in range(count):
        try:
            interrupts.armed = True
            held.append(fastproc.start("sleep", "100"))
            interrupts.armed = False
        except KeyboardInterrupt:
            pass
        interrupts.armed = False
        if number % 10 == 9:
            unknown |= observe.children() - _known(held) - {noise.pid}
            for process in held:
                process.kill()
                process.wait(20)
            held.clear()
    noise.kill()
    noise.wait()
    for pid in observe.children():
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.05)
    fastproc.run("true")  # a spawn reaps what is left of the orphans
    left = observe.children()
    return {"unknown": sorted(unknown), "left": sorted(left), "raised": interrupts.raised, "fds": len(observe.fds())}


def test_interrupted_start_leaves_no_unknown_child(mechanism: str, programs: Programs) -> None:
    """GOTCHAS I4: whatever moment Ctrl-C comes at, each child is held by somebody, and no descriptor is lost."""
    found = isolated(interrupted_starts, programs.flood, mechanism, 200, pid_namespace=True, timeout=90)
    assert found["raised"] > 5
    assert (found["unknown"], found["left"], found["fds"] < 20) == ([], [], True)


def interrupted_runs(flood: str, engine: str, mechanism: str, count: int) -> dict[str, Any]:
    """Run under SIGINT: after KeyboardInterrupt there is no child, no descriptor."""
    import sys

    import fastproc
    from fastproc import _native
    from support import observe

    sys.modules["fastproc._run"].__dict__["_FORCED_ENGINE"] = engine
    _native.force(mechanism)
    interrupts = Interrupts()
    fastproc.run("true", capture=True)
    before = len(observe.fds())
    noise = _flood(flood, False, 1500, str(int(signal.SIGINT)))
    late, left, wrong = 0, 0, 0
    for _ in range(count):
        begin = time.monotonic()
        try:
            interrupts.armed = True
            fastproc.run("sleep", "0.05", capture=True)
            interrupts.armed = False
        except KeyboardInterrupt:
            late += time.monotonic() - begin > 3
        except fastproc.ProcessError:
            wrong += 1
        interrupts.armed = False
        import gc

        gc.collect()
        left += bool(observe.children() - {noise.pid} - _known([]))
    noise.kill()
    noise.wait()
    fastproc.run("true", capture=True)
    return {
        "late": late,
        "left": left,
        "wrong": wrong,
        "raised": interrupts.raised,
        "fds": len(observe.fds()) - before,
    }


@pytest.mark.parametrize("engine_name", ENGINES)
@pytest.mark.parametrize("name", ["clone3_vm", "fork_pipe"])
def test_interrupted_run_leaves_nothing(programs: Programs, engine_name: str, name: str) -> None:
    """Ctrl-C during run(): the child is ended and reaped before KeyboardInterrupt goes on."""
    found = isolated(interrupted_runs, programs.flood, engine_name, name, 60, pid_namespace=True, timeout=90)
    assert found.pop("raised") > 20
    assert found == {"late": 0, "left": 0, "wrong": 0, "fds": 0}


def ctrl_c(engine: str, with_input: bool) -> float:
    """Return the seconds between SIGINT and KeyboardInterrupt."""
    import sys

    import fastproc

    sys.modules["fastproc._run"].__dict__["_FORCED_ENGINE"] = engine
    sent = [0.0]

    def send() -> None:
        time.sleep(0.15)
        sent[0] = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)

    assert os.getpid() > 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        fastproc.run("sleep", "20", capture=True, **({"input": b"x" * 1_000_000} if with_input else {}))
    except KeyboardInterrupt:
        return time.monotonic() - sent[0]
    finally:
        thread.join()
    return 99.0


@pytest.mark.parametrize("with_input", [False, True])
@pytest.mark.parametrize("engine_name", ENGINES)
def test_ctrl_c_is_answered_within_a_tenth_of_a_second(engine_name: str, with_input: bool) -> None:
    """The bulk path waits in C, and still comes back for a signal."""
    took = min(isolated(ctrl_c, engine_name, with_input, pid_namespace=True) for _ in range(2))
    assert took < 0.1


def signal_after_start(mechanism: str, count: int) -> list[int]:
    """Send SIGTERM right after start() to a program that starts with it ignored by its own option."""
    import fastproc
    from fastproc import _native

    _native.force(mechanism)
    codes = []
    for _ in range(count):
        child = fastproc.start("sh", "-c", "sleep 0.02; exit 5", sigignore=["USR1"])
        child.send_signal(signal.SIGUSR1)
        codes.append(child.wait(20))
    return codes


def test_signal_right_after_start_reaches_the_program(mechanism: str) -> None:
    """GOTCHAS D16: start() returns after exec, so the signal meets the program's dispositions, no half-made child."""
    if mechanism == "posix_spawn":
        pytest.skip("posix_spawn has no way to ignore a signal")
    assert isolated(signal_after_start, mechanism, 40, pid_namespace=True) == [5] * 40
