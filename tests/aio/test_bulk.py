"""Bulk runs on one epoll, and a spawn that does not wait for its exec, on a reactor without any event loop."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from conftest import wait_until
from fastproc import SpawnError, _native, cmd
from fastproc._engine import orphans
from fastproc._engine.fds import Opened
from fastproc._engine.guard import guarded
from fastproc._engine.process import Process
from fastproc._engine.reactor import Reactor
from fastproc._engine.resolve import resolve
from fastproc._native.loop import AGAIN, job_begin, job_watch
from fastproc._run import _finish, _request
from fastproc._values.plan import settle
from fastproc.aio._bulk import Bulk, Group
from fastproc.aio._launch import Launch
from support import observe
from support.programs import IGNORE_TERM


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """One of its own."""
    made = Reactor()
    yield made
    made.close()


@pytest.fixture
def group(reactor: Reactor) -> Iterator[Group]:
    """On that reactor."""
    made = Group(reactor)
    yield made
    made.close()


def begin(*argv: str, **options: Any) -> tuple[int, Any, tuple[Any, Any]]:
    """Begin a run; what fp_job_begin() gave, the job, what it points to."""
    command = cmd(*argv, **options)
    settled = settle(command)
    with Opened() as opened:
        plan = resolve(command, opened, None)
    job = _native.new_job()
    request = _request(settled)
    r = job_begin(request, plan.paths, plan.npaths, plan.argv, plan.argc, plan.env, plan.envc, 0, job[0])
    return r, job, (settled, (request, plan))


def drive(reactor: Reactor, group: Group) -> None:
    """Until no job is left."""
    end = monotonic() + 20
    while group:
        assert monotonic() < end
        left = reactor.timeout()
        reactor.run_once(5.0 if left is None else left)


def test_jobs_share_one_descriptor_and_each_has_its_result(reactor: Reactor, group: Group) -> None:
    """Short and long, with and without input and output; the reactor watches one descriptor."""
    done: list[int] = []
    jobs: list[tuple[int, Any, Any]] = []
    for number in range(150):
        line = f"cat; echo {number}; exit {number}"
        r, job, (settled, kept) = begin("/bin/sh", "-c", line, input=b"x" * number, capture=True, check=False)
        assert r in (0, AGAIN)
        jobs.append((number, job, settled))
        if r == AGAIN:
            group.add(Bulk(job, kept, lambda number=number: done.append(number)))
    assert group
    assert len(reactor._watched) == 1
    drive(reactor, group)
    for number, job, settled in jobs:
        result = _finish(("sh",), settled, job)
        assert (result.returncode, result.stdout) == (number, b"x" * number + f"{number}\n".encode())
    assert len(done) == len(set(done))


def test_stop_ends_politely_and_then_not(reactor: Reactor, group: Group) -> None:
    """SIGTERM, and SIGKILL when the grace is over; it is no deadline. What was read stays."""
    for argv, code in ((("/bin/sh", "-c", "echo x; exec sleep 60"), -15), (IGNORE_TERM, -9)):
        done: list[bool] = []
        _, job, (settled, kept) = begin(*argv, stdout=-1, grace=0.05, check=False)
        bulk = Bulk(job, kept, lambda done=done: done.append(True))
        group.add(bulk)
        wait_until(lambda job=job: reactor.run_once(0.01) or job[0].sink[0].len)
        bulk.stop()
        drive(reactor, group)
        bulk.stop()
        assert done == [True]
        result = _finish(argv, settled, job)
        assert (result.returncode, result.timed_out) == (code, False)
        assert result.stdout


def test_forsaken_child_is_the_callers(reactor: Reactor, group: Group) -> None:
    """The job is over, its output kept; as an orphan the child is reaped when it ends."""
    done: list[bool] = []
    _, job, (_, kept) = begin("/bin/sh", "-c", "echo x; exec sleep 60", stdout=-1)
    bulk = Bulk(job, kept, lambda: done.append(True))
    group.add(bulk)
    wait_until(lambda: reactor.run_once(0.01) or job[0].sink[0].len)
    pid = job[0].child.pid
    bulk.forsake()
    bulk.forsake()
    assert (done, job[0].status.state, job[0].live, len(group)) == ([True], _native.WAIT_RUNNING, 0, 0)
    orphans.adopt_job(job)
    assert _native.output(job, 0, 2) == b"x\n"
    assert pid in observe.children()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: orphans.reap() == 0)
    assert pid not in observe.children()


def test_dropped_job_and_closed_group_leave_no_child(reactor: Reactor) -> None:
    """The child is killed and reaped before what it was told to write into goes."""
    group = Group(reactor)
    _, job, (_, kept) = begin("/bin/sleep", "60", capture=True)
    bulk = Bulk(job, kept, bool)
    group.add(bulk)
    assert observe.children()
    group.close()
    del bulk
    assert (observe.children(), job[0].live) == (set(), 0)


def test_due_time_of_a_job_that_a_finalizer_has_ended(reactor: Reactor, group: Group, monkeypatch: Any) -> None:
    """The C core is not asked to go on with it, and its end is told."""
    steps: list[object] = []
    monkeypatch.setattr("fastproc.aio._bulk.job_step", lambda *given: steps.append(given))
    done: list[bool] = []
    _, job, (_, kept) = begin("/bin/sleep", "60", timeout=30)
    bulk = Bulk(job, kept, lambda: done.append(True))
    group.add(bulk)
    _native.abort(job, 0)
    bulk._on_due()
    assert (steps, done, len(group)) == ([], [True], 0)


def test_program_that_is_none_fails_the_job(reactor: Reactor, group: Group) -> None:
    """Told by the end of the child, not by a wait for its exec."""
    r, job, (_, kept) = begin("/nonexistent/program", stdout=-1)
    if r == AGAIN:
        group.add(Bulk(job, kept, bool))
        drive(reactor, group)
        assert job[0].failure == errno.ENOENT
    else:
        assert r == -errno.ENOENT
    assert job[0].child.pid == -1


def test_epoll_that_refuses_leaves_nothing_watched(reactor: Reactor) -> None:
    """The job is still the caller's."""
    _, job, _ = begin("/bin/sleep", "60", capture=True)
    read, write = os.pipe()
    with pytest.raises(OSError, match="Invalid argument"):
        job_watch(job[0], read, 1)
    assert job[0].watched == 0
    os.close(read)
    os.close(write)
    _native.abort(job, 0)


# -- a spawn that does not wait


def launch(*argv: str, **options: Any) -> tuple[Process, Launch]:
    """Launch a command; its files are closed at once."""
    command = cmd(*argv, **options)
    process = Process(argv)
    with Opened() as opened:
        return process, Launch(process, resolve(command, opened, None))


def end(process: Process) -> None:
    """Kill it and give its files back."""
    with process:
        process.kill()


def test_launched_child_is_a_process() -> None:
    """From the first moment it can be signalled, and its program runs at last."""
    process, made = launch("sleep", "60", stdout=-1)
    assert process.pid > 1
    assert process.pid in observe.children()
    wait_until(lambda: made.is_over(1_000_000))
    assert made.is_over()
    end(process)


@pytest.mark.parametrize(
    ("argv", "options", "stage"),
    [
        (("/nonexistent/program",), {"stdin": -1, "stdout": -1}, "exec"),
        (("true",), {"rlimits": {"NOFILE": (1 << 40, 1 << 40)}}, "rlimits"),
    ],
)
def test_launch_that_fails_says_where_and_leaves_nothing(argv: Any, options: Any, stage: str) -> None:
    """At once or by is_over(); the handle has no child then."""
    before = dict(guarded)
    with pytest.raises(SpawnError) as caught:
        wait_until(partial(launch(*argv, **options)[1].is_over, 1_000_000))
    assert caught.value.stage == stage
    assert observe.children() == set()
    assert guarded == before


def test_launch_that_is_dropped_keeps_what_the_child_borrows() -> None:
    """The child goes on to its program, whose arguments were in our memory."""
    process, made = launch("sh", "-c", "echo $0; exec sleep 60", "x" * 50_000, stdout=-1)
    del made
    wait_until(lambda: b"sleep" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
    end(process)
