"""Children whose handle was dropped while they ran: kept until they can be reaped (GOTCHAS D22).

Nothing is killed here, and nothing waits. Invariant: a child is on the list at most once, and in no other hands.
"""

from __future__ import annotations

import os
from itertools import repeat
from time import monotonic

from fastproc import _native
from fastproc._engine.fds import OwnedFd

TYPE_CHECKING = False
if TYPE_CHECKING:
    Orphan = tuple[int, OwnedFd, int]
    """pid, pidfd, the process whose child it is."""

AT_ONCE = 16
"""How many are looked at by one call, so that a thousand of them do not slow it down."""

ORPHANS_EVERY = 1.0
"""Seconds between two looks at them by one who waits for another child."""

pending: list[Orphan] = []

adopt = pending.append
"""Take over a child. For finalizers, which run in any thread and under any lock: atomic, so no lock (GOTCHAS I8)."""


def adopt_job(job: _native.Job) -> None:
    """Take over the child of a run, which does not die or may not be killed (set-user-ID, kill(2))."""
    child = _native.job_child(job)
    adopt((child.pid, OwnedFd(child.pidfd), os.getpid()))


def reap(limit: int = AT_ONCE) -> int:
    """Reap those that have ended, looking at `limit` of them at most, and give the number of those left.

    Called by every spawn, poll and wait, and each second of a long one, so that a program that does any of these has no
    zombies for long. Never blocks.
    """
    # Each is taken off the list before it is looked at, so that two threads cannot wait for one number; map hands it
    # over with no bytecode between at which Ctrl-C could lose it. Signal handlers run after calls: whatever they raise
    # in a look, the child goes back unless the kernel has handed out its status.
    status = _native.new_status()
    try:
        for orphan in map(pending.pop, repeat(0, min(limit, len(pending)))):
            ours = True
            try:
                ours = _look(orphan, status)
            finally:
                if ours and status.state == _native.WAIT_RUNNING:
                    pending.append(orphan)
            if status.state != _native.WAIT_RUNNING:
                status = _native.new_status()
    except IndexError:
        # Another thread took the last one.
        pass
    return len(pending)


_next_look = 0.0


def attend() -> float | None:
    """For those who wait for another: reap when it is time to, and give the longest time to wait; None for any."""
    global _next_look
    if not pending:
        return None
    now = monotonic()
    if now >= _next_look:
        _next_look = now + ORPHANS_EVERY
        reap()
    return max(_next_look - now, 0.0)


def _look(orphan: Orphan, status: _native.Status) -> bool:
    """Fill the status; return whether it is a child of ours."""
    pid, pidfd, owner = orphan
    if owner != os.getpid():
        # A forked copy of the list: not our children (GOTCHAS I2).
        return False
    try:
        _native.wait(pidfd.number, pid, _native.NOHANG, status)
    except InterruptedError:
        return True
    except OSError:
        return False
    return True
