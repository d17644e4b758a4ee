"""What a monitor must not tell: nothing at all without descriptors, ends that are none, and what nobody asks for."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from typing import Any

import pytest

from conftest import isolated, wait_until
from fastproc.info import snapshot
from fastproc.monitor import Monitor, ProcessAlert, Rule
from fastproc.procfs import Process
from support.programs import Programs


def _exhausted() -> list[int]:
    """All descriptors, taken."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return held


def _without_descriptors(rules: bool) -> list[Any]:
    child = subprocess.Popen(["sh", "-c", "read x; exit 3"], stdin=subprocess.PIPE)
    assert child.stdin
    chosen = (Rule("cpu_pressure", 1000), Rule("rss", 1 << 50)) if rules else ()
    with Monitor(0.01) as monitor:
        monitor.watch(child.pid, *chosen)
        if rules:
            monitor.watch_host(Rule("memory_pressure", 1000))
        monitor.next(0.03)
        held = _exhausted()
        told = [monitor.next(0.05)]
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        told.append(monitor.next(5))
        told.append(monitor.next(0.05))
        for one in held:
            os.close(one)
        child.wait()
        return [(one.event, one.pid == child.pid, one.returncode) if one else None for one in told]


@pytest.mark.parametrize("rules", [False, True])
def test_end_is_told_without_descriptors(rules: bool) -> None:
    """Once, without its status; rules are looked at again when there are some, and no reason is made up."""
    assert isolated(_without_descriptors, rules) == [None, ["died", True, None], None]


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _of_a_zombie() -> list[Any]:
    child = subprocess.Popen(["sleep", "60"])
    with Monitor() as monitor:
        watch = monitor.watch(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        before = _switches()
        status = watch._status()
        waits = _switches() - before
    child.wait()
    return [status, waits < 20]


def test_end_of_a_zombie_is_told_without_a_wait() -> None:
    """The kernel keeps its status for the pidfd only when it is reaped, for which nobody waits."""
    assert isolated(_of_a_zombie) == [-9, True]


def _of_two_threads(program: str) -> list[Any]:
    child = subprocess.Popen([program, "60000"])
    wait_until(lambda: snapshot(("state",), [child.pid])[0].state == "Z")
    with Monitor(0.01) as monitor, Process(child.pid) as process:
        watch = monitor.watch(child.pid, Rule("zombie"))
        before = [monitor.next(0.05), process.is_alive(), watch.alive]
        watch.by = "polling"  # as where there are no pidfds
        before.append(monitor.next(0.05))
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        after = [alert.event for alert in (monitor.next(5), monitor.next(5)) if alert]
        after.append(process.is_alive())
        child.wait()
        return [*before, *sorted(map(str, after))]


def test_process_whose_first_thread_ended_lives(programs: Programs) -> None:
    """It looks like a zombie, and is none (GOTCHAS D10)."""
    told = isolated(_of_two_threads, str(programs.leader_exits))
    assert told == [None, True, True, None, "False", "died", "raised"]


def _siblings(quiet: float) -> list[Any]:
    command = ["sleep", "61.9"]
    one = subprocess.Popen(command)
    wait_until(lambda: snapshot(("comm",), [one.pid])[0].comm == "sleep")
    with Monitor(0.02) as monitor:
        monitor.watch(one.pid, restart=True)
        monitor.next(0.01)
        other = subprocess.Popen(command)
        wait_until(lambda: snapshot(("comm",), [other.pid])[0].comm == "sleep")
        for _ in range(2):
            monitor.next(quiet)  # starttime has steps of 10 ms
        one.kill()
        one.wait()
        told = [monitor.next(5), monitor.next(0.2)]
        new = subprocess.Popen(command)
        told.append(monitor.next(5))
        found = [(alert.event, alert.pid == new.pid) if alert else None for alert in told]
        for child in (other, new):
            child.kill()
            child.wait()
        return found


def test_sibling_that_lived_before_is_no_replacement() -> None:
    """The same name, user and arguments, begun after the one that is watched and before its end."""
    assert isolated(_siblings, 0.05) == [["died", False], None, ["restarted", True]]


def _executing(interval: float) -> list[Any]:
    one = subprocess.Popen(["sh", "-c", "read go; exec sleep 61.7"], stdin=subprocess.PIPE)
    with Monitor(interval) as monitor:
        watch = monitor.watch(one.pid, restart=True)
        before = watch.name
        assert one.stdin is not None
        one.stdin.write(b"go\n")
        one.stdin.close()
        end = time.monotonic() + 5
        while watch.name != "sleep" and time.monotonic() < end:
            monitor.next(0.05)
        one.kill()
        one.wait()
        told = [monitor.next(5)]
        new = subprocess.Popen(["sleep", "61.7"])
        told.append(monitor.next(5))
        found = [(alert.event, alert.pid == new.pid) if alert else None for alert in told]
        new.kill()
        new.wait()
        return [before, *found]


@pytest.mark.parametrize("interval", [0.02, 1.0])
def test_who_it_is_may_be_known_only_after_its_exec(interval: float) -> None:
    """Of a process that has just begun; also where the first look comes when it has lived for a second."""
    assert isolated(_executing, interval) == ["sh", ["died", False], ["restarted", True]]


def _in_callback(act: str) -> list[Any]:
    told: list[str] = []
    child = subprocess.Popen(["sleep", "60"])

    def called(alert: ProcessAlert) -> None:
        told.append(f"{alert.event} {alert.metric} {alert.pid == child.pid}")
        if act == "close":
            monitor.close()
        elif act == "unwatch":
            monitor.unwatch(alert.pid)
        elif len(told) == 1:
            monitor.watch(alert.pid, Rule("age", 1 << 40))

    monitor = Monitor(0.01, callback=called)
    with monitor:
        monitor.watch(child.pid, Rule("threads", 0), Rule("rss", 0), Rule("fds", -1))
        if act == "close":
            monitor.watch(os.getpid(), Rule("threads", 0))
            monitor.watch_host(Rule("cpu_pressure", -1), Rule("io_pressure", -1))
        monitor.run_once(5)
        if act == "replace":
            monitor.run(0.05)
    child.kill()
    child.wait()
    return told


@pytest.mark.parametrize("act", ["close", "unwatch", "replace"])
def test_nothing_is_told_after_a_callback_ends_it(act: str) -> None:
    """Of the other rules of the same look."""
    assert isolated(_in_callback, act) == ["raised threads True"]


def test_closed_monitor_cannot_be_iterated_in_a_loop() -> None:
    """As in a blocking iteration."""
    monitor = Monitor()
    monitor.close()

    async def iterate() -> None:
        async for _ in monitor:
            pass

    with pytest.raises(RuntimeError, match="the monitor is closed"):
        asyncio.run(iterate())
    assert sys.exc_info() == (None, None, None)
