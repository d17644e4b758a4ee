"""Watching other people's processes: their ends, thresholds, those that take their place; all ways to be told."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from conftest import isolated, wait_until
from fastproc import _native
from fastproc.info import snapshot
from fastproc.monitor import Monitor, ProcessAlert, Rule
from support import sandbox
from support.drivers import run_in
from support.programs import Programs

GRANDCHILD = """
import os, sys
pid = os.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
print(pid, flush=True)
sys.stdin.read()
os.waitpid(pid, 0)
sys.stdin.close()
"""


class Foreign:
    """A process whose parent is another one, which reaps it when it is told to."""

    def __init__(self, *command: str) -> None:
        argv = [sys.executable, "-c", GRANDCHILD, *command]
        self.parent = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.parent.stdout
        self.pid = int(self.parent.stdout.readline())
        self._pidfd = os.pidfd_open(self.pid)
        wait_until(lambda: snapshot(("comm",), [self.pid])[0].comm != self._forked(argv), 10)

    def _forked(self, argv: list[str]) -> str | None:
        """The name before it executes its program."""
        same = os.path.basename(argv[3]) == os.path.basename(sys.executable)
        return None if same else str(snapshot(("comm",), [self.parent.pid])[0].comm)

    def kill(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def reap(self) -> None:
        self.parent.communicate()

    def __enter__(self) -> Foreign:
        return self

    def __exit__(self, *_exc: object) -> None:
        try:
            self.kill()
        except ProcessLookupError:
            pass
        os.close(self._pidfd)
        self.reap()


def facts(alert: ProcessAlert | None) -> tuple[Any, ...]:
    assert alert is not None
    return alert.event, alert.pid, alert.name, alert.metric, alert.returncode


def test_end_of_a_foreign_process_is_told_with_its_status() -> None:
    """By the kernel, at once, and how it ended; its parent's status is left alone."""
    with Foreign("sleep", "60") as one, Monitor() as monitor:
        watch = monitor.watch(one.pid)
        assert (watch.alive, watch.by, watch.name, monitor.timeout()) == (True, "pidfd", "sleep", None)
        one.kill()
        assert facts(monitor.next(5)) == ("died", one.pid, "sleep", None, -9)
        assert (watch.alive, monitor.watches) == (False, ())
        assert monitor.next(5) is None


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -TERM $$", -15), (":", 0)])
def test_status_is_known_also_when_it_was_reaped_at_once(command: str, status: int) -> None:
    """By the zombie, or by the pidfd (6.15); never a guess."""
    child = subprocess.Popen(["sh", "-c", f"read x; {command}"], stdin=subprocess.PIPE)
    assert child.stdin
    with Monitor() as monitor:
        monitor.watch(child.pid)
        child.stdin.close()
        assert child.wait() == status
        alert = monitor.next(5)
    known = _native.features()["pidfd_info"]
    assert facts(alert)[:4] == ("died", child.pid, "sh", None)
    assert alert is not None
    assert alert.returncode == status or (alert.returncode is None and not known)


def _as_nobody(pid: int) -> Any:
    with Monitor() as monitor:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        monitor.watch(pid, Rule("fds", 100_000), Rule("io", 1e15), Rule("rss", 0))
        monitor.interval = 0.01
        told = [monitor.next(5) for _ in range(2)]
        print("ready", flush=True)
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, 0)
        except PermissionError:
            told.append(None)
        os.close(pidfd)
        return sorted(str(one).partition("(")[2] for one in told if one is not None)


@pytest.mark.privileged
def test_ordinary_user_watches_processes_of_others() -> None:
    """No right to signal them is needed; what may not be read is told once, and the rest is watched."""
    with Foreign("sleep", "60") as one:
        told = isolated(_as_nobody, one.pid)
    assert told[0] == "sleep): io is not available: EACCES"
    assert told[1].startswith("sleep): rss is above 0: ")


def test_status_that_may_not_be_seen_is_none() -> None:
    """The kernel writes 0 in its place (proc(5)): that would be a lie."""
    if os.geteuid() != 0:
        pytest.skip("needs root, and somebody who is not")
    assert isolated(_unseen_status) == ["died", None]


def _unseen_status() -> list[Any]:
    child = subprocess.Popen(["sh", "-c", "read x; exit 3"], stdin=subprocess.PIPE)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    with Monitor() as monitor:
        monitor.watch(child.pid)
        assert child.stdin
        child.stdin.close()
        alert = monitor.next(5)
        assert alert is not None
    child.wait()
    return [alert.event, alert.returncode]


# -- thresholds


def test_threshold_is_raised_and_the_end_is_told() -> None:
    """By one timer for all; a rule that is not crossed tells nothing."""
    with Foreign("sleep", "60") as one, Foreign("sleep", "60") as other, Monitor(0.01) as monitor:
        watch = monitor.watch(one.pid, Rule("threads", 0), Rule("rss", 2**50), Rule("age", 2**30))
        monitor.watch(other.pid, Rule("fds", below=1000))
        told = sorted(facts(monitor.next(5)) for _ in range(2))
        assert told == sorted(
            [("raised", one.pid, "sleep", "threads", None), ("raised", other.pid, "sleep", "fds", None)]
        )
        assert watch.raised == (Rule("threads", 0),)
        assert monitor.next(0.05) is None
        assert len(monitor._reactor._timers) == 1
        one.kill()
        assert facts(monitor.next(5)) == ("died", one.pid, "sleep", None, -9)


@pytest.mark.slow
def test_cpu_of_a_busy_process_is_raised_and_cleared() -> None:
    """After it was busy for the time asked for, and when it is stopped."""
    with Foreign(sys.executable, "-c", "while True: pass") as one, Monitor(0.5) as monitor:
        monitor.watch(one.pid, Rule("cpu", 0.5, clear=0.25, hold=0.4))
        raised = monitor.next(30)
        assert facts(raised)[0] == "raised"
        assert raised is not None
        assert raised.value is not None
        assert 0.5 < raised.value < 150
        signal.pidfd_send_signal(one._pidfd, signal.SIGSTOP)
        assert facts(monitor.next(20))[0] == "cleared"


def test_zombie_is_told_until_it_is_buried() -> None:
    """Its end first, then that nobody waits for it, then that somebody has."""
    with Foreign("sleep", "60") as one, Monitor(0.01) as monitor:
        monitor.watch(one.pid, Rule("zombie", hold=0.02))
        one.kill()
        events = [facts(monitor.next(5))[0] for _ in range(2)]
        one.reap()
        events.append(facts(monitor.next(5))[0])
        assert events == ["died", "raised", "cleared"]
        assert monitor.next(5) is None


def test_pressure_of_the_machine() -> None:
    """Where the kernel tells of it; another metric is refused."""
    with Monitor(0.01) as monitor:
        with pytest.raises(ValueError, match="is not about a pressure of the machine"):
            monitor.watch_host(Rule("rss", 1))
        monitor.watch_host(Rule("memory_pressure", below=101, clear=101))
        alert = monitor.next(5)
    assert alert is not None
    assert (alert.pid, alert.metric) == (0, "memory_pressure")
    assert alert.event == ("raised" if os.path.exists("/proc/pressure/memory") else "unknown")


# -- one that takes its place


def test_restarted_process_is_followed() -> None:
    """The same name, user and arguments, begun later; one with other arguments is another one."""
    with Monitor(0.01) as monitor:
        with Foreign("sleep", "61.5") as one:
            monitor.watch(one.pid, Rule("threads", 0), restart=True)
            assert facts(monitor.next(5))[:2] == ("raised", one.pid)
            one.kill()
            assert facts(monitor.next(5)) == ("died", one.pid, "sleep", None, -9)
            one.reap()
        with Foreign("sleep", "61.7"):
            assert monitor.next(0.1) is None
        with Foreign("sleep", "61.5") as two:
            told = monitor.next(5)
            assert facts(told) == ("restarted", two.pid, "sleep", None, None)
            assert told is not None
            assert told.replaced == one.pid
            assert facts(monitor.next(5)) == ("raised", two.pid, "sleep", "threads", None)
            two.kill()
            assert facts(monitor.next(5)) == ("died", two.pid, "sleep", None, -9)


# -- ways to be told


def test_callbacks_are_called_and_their_exceptions_arrive() -> None:
    """Without anybody who iterates nothing piles up."""
    told: list[str] = []
    with Foreign("sleep", "60") as one, Foreign("sleep", "60") as other:
        with Monitor(callback=lambda alert: told.append(alert.event)) as monitor:
            monitor.add_callback(lambda alert: told.append(alert.name))
            monitor.watch(one.pid)
            one.kill()
            monitor.run()
            assert told == ["died", "sleep"]
            assert not monitor._alerts
            monitor.watch(other.pid)
            monitor.run(0.01)
            monitor.add_callback(lambda _alert: 1 // 0)
            other.kill()
            with pytest.raises(ZeroDivisionError):
                monitor.run()


def test_iteration_ends_when_nothing_is_watched() -> None:
    """Of both kinds."""
    with Foreign("sleep", "60") as one, Foreign("true") as other, Monitor() as monitor:
        monitor.watch(one.pid)
        monitor.watch(other.pid)
        one.kill()
        assert sorted(alert.pid for alert in monitor) == sorted((one.pid, other.pid))
        assert list(monitor) == []


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio", "reactor"])
def test_asynchronous_iteration(loop: str) -> None:
    """Ends and thresholds in an event loop, which has one descriptor of it."""
    if loop not in ("reactor", "asyncio"):
        pytest.importorskip(loop)

    async def watch() -> list[tuple[str, int]]:
        with Monitor(0.01) as monitor:
            monitor.watch(one.pid, Rule("threads", 0))
            told = []
            async for alert in monitor:
                told.append((alert.event, alert.pid))
                if alert.event == "raised":
                    one.kill()
            return told

    with Foreign("sleep", "60") as one:
        assert run_in(loop, watch) == [("raised", one.pid), ("died", one.pid)]


def test_asynchronous_iteration_gives_what_a_callback_raises() -> None:
    """To the task that iterates, and the loop goes on."""

    async def watch() -> str:
        with Monitor(callback=lambda _alert: 1 // 0) as monitor:
            monitor.watch(one.pid)
            one.kill()
            try:
                async for _ in monitor:
                    return "told"
            except ZeroDivisionError:
                return "raised"
        return "nothing"

    with Foreign("sleep", "60") as one:
        assert asyncio.run(watch()) == "raised"


def test_monitor_in_a_loop_of_the_callers_own() -> None:
    """Readable when something has happened."""
    import select

    with Foreign("sleep", "60") as one, Monitor() as monitor:
        monitor.watch(one.pid)
        with select.epoll() as loop:
            loop.register(monitor.fileno(), select.EPOLLIN)
            assert loop.poll(0) == []
            one.kill()
            assert len(loop.poll(5)) == 1
        monitor.run_once(0)
        assert facts(monitor.next(0))[0] == "died"


# -- refusals, and what is left behind


def test_who_cannot_be_watched() -> None:
    """Nobody, a thread, no pid, no rule: refused by name, with nothing left."""
    child = subprocess.Popen(["true"])
    child.wait()
    with Monitor() as monitor:
        with pytest.raises(ProcessLookupError):
            monitor.watch(child.pid)
        for pid in (0, -1):
            with pytest.raises(ValueError, match="pid"):
                monitor.watch(pid)
        with pytest.raises(ValueError, match="rules: 3 is not a Rule"):
            monitor.watch(os.getpid(), 3)  # type: ignore[arg-type]
        assert monitor.watches == ()
    with pytest.raises(RuntimeError, match="the monitor is closed"):
        monitor.watch(os.getpid())
    with pytest.raises(ValueError, match="interval"):
        Monitor(0)


def test_unwatched_process_tells_nothing() -> None:
    """And its descriptor is given back."""
    with Foreign("sleep", "60") as one, Monitor(0.01) as monitor:
        before = len(os.listdir("/proc/self/fd"))
        monitor.watch(one.pid, Rule("threads", 0))
        monitor.watch(one.pid)  # replaces it
        assert len(monitor.watches) == 1
        monitor.unwatch(one.pid)
        monitor.unwatch(one.pid)
        assert len(os.listdir("/proc/self/fd")) in (before, before + 1)  # the reactor's own
        one.kill()
        assert monitor.next(0.05) is None


def test_monitor_in_a_forked_copy_is_inert() -> None:
    """Its epoll is the parent's too."""
    with Foreign("sleep", "60") as one, Monitor() as monitor:
        monitor.watch(one.pid)
        pid = os.fork()
        if pid == 0:
            try:
                monitor.next(0)
            except RuntimeError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_without_pidfds_ends_are_polled(programs: Programs) -> None:
    """An old kernel, or a sandbox: later, and never of a stranger."""
    assert isolated(_polled, str(programs.hostile)) == ["polling", "died"]


def _polled(library: str) -> list[Any]:
    sandbox.install(ctypes.CDLL(library), [["pidfd_open", sandbox.ENOSYS, sandbox.ANY, 0]])
    with subprocess.Popen(["sleep", "0.2"]) as child, Monitor(0.01) as monitor:
        watch = monitor.watch(child.pid)
        # It stays a zombie until it is waited for: its number is its own.
        told = monitor.next(0.3)
        child.wait()
        alert = told or monitor.next(10)
        return [watch.by, facts(alert)[0]]
