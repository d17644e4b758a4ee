"""A program that forks with a hundred live handles: whatever its copy does, the children do not notice (GOTCHAS I2)."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import fastproc
import fastproc.subprocess as drop_in
from conftest import isolated
from fastproc import PIPE
from support.strangers import done_to

pytestmark = pytest.mark.slow

EACH = 20
SLEEP = ("/bin/sleep", "60")

Handles = list[Any]


def begin() -> Handles:
    """A hundred: plain ones, readers, leaders, trees, and the drop-in's."""
    found: Handles = [fastproc.start(*SLEEP) for _ in range(EACH)]
    found += [fastproc.start("/bin/cat", stdin=PIPE, stdout=PIPE) for _ in range(EACH)]
    found += [fastproc.start(*SLEEP, pgid=0) for _ in range(EACH)]
    found += [fastproc.start(*SLEEP, kill_tree=True) for _ in range(EACH)]
    return found + [drop_in.Popen(SLEEP) for _ in range(EACH)]


def leaves(handles: Handles) -> None:
    """The copy ends as a program does."""
    sys.exit(0)


def closes(handles: Handles) -> None:
    """Every `with` block is left, the drop-in's too, which would wait."""
    for handle in handles:
        handle.__exit__(None, None, None)


def collects(handles: Handles) -> None:
    """All are dropped."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        handles.clear()
        gc.collect()
    assert not said


def stops(handles: Handles) -> None:
    """All that signals or waits is refused, or does nothing, by name."""
    calls: tuple[Callable[[Any], object], ...] = (
        lambda handle: handle.stop(0),
        lambda handle: handle.kill(),
        lambda handle: handle.terminate(),
        lambda handle: handle.kill_tree(0),
        lambda handle: handle.wait(0),
        lambda handle: handle.poll(),
        lambda handle: handle.interrupt_group(),
        lambda handle: handle.abandon(),
    )
    for handle in handles:
        for call in calls:
            with suppress(fastproc.ProcessError, AttributeError):
                call(handle)


def goes_on(handles: Handles) -> None:
    """It runs programs of its own, waits for them, and reaps."""
    fastproc.run("/bin/true", kill_tree=True)
    drop_in.run(["/bin/true"], check=True)
    with fastproc.start("/bin/true") as process:
        assert fastproc.wait_any([process]).wait() == 0


WAYS = {way.__name__: way for way in (leaves, closes, collects, stops, goes_on)}


def fork(way: str) -> list[Any]:
    """Fork, let the copy do it, and look at the children."""
    handles = begin()
    # One that the engine's list of dropped children has.
    dropped = fastproc.start(*SLEEP)
    dropped.detach()
    pid = dropped.pid
    pidfd = os.pidfd_open(pid)
    del dropped
    copy = os.fork()
    if copy == 0:
        kept = list(handles)
        WAYS[way](handles)
        kept.clear()
        sys.exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    untouched = sum(handle.poll() is None and not done_to(handle.pid) for handle in handles)
    # Their streams are as they were.
    for handle in handles[EACH : 2 * EACH]:
        handle.stdin.write(b"x")
        handle.stdin.flush()
        assert handle.stdout.read(1) == b"x"
    left = done_to(pid)
    codes = {handle.stop(0) for handle in handles[: 4 * EACH]}
    for handle in handles[4 * EACH :]:
        handle.kill()
        codes.add(handle.wait())
    os.kill(pid, 9)
    os.close(pidfd)
    return [code, untouched, left, sorted(codes)]


@pytest.mark.parametrize("way", WAYS)
def test_fork_with_a_hundred_handles_touches_no_child(way: str, pid_namespace: None) -> None:
    """All hundred run on, and are still the parent's to end; the copy has nothing to say."""
    assert isolated(fork, way, pid_namespace=True) == [0, 100, [], [-9]]
