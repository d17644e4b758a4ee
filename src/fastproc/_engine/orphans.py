"""Children whose handle was dropped while they ran: kept until they can be reaped (HAZARDS D22).

Nothing is killed here, and nothing waits. Invariant: a child is on the list at most once, and in no other hands.
"""

from __future__ import annotations

import os
from itertools import repeat

from fastproc import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._engine.fds import OwnedFd

    Orphan = tuple[int, OwnedFd, int]
    """pid, pidfd, the process whose child it is."""

AT_ONCE = 16
"""How many are looked at by one spawn, so that a thousand of them do not slow it down."""

pending: list[Orphan] = []

adopt = pending.append
"""Take over a child. For finalizers, which run in any thread and under any lock: atomic, so no lock (HAZARDS I8)."""


def reap(limit: int = AT_ONCE) -> int:
    """Reap those that have ended, looking at `limit` of them at most, and give the number of those left.

    Called by every spawn. Never blocks.
    """
    if not pending:
        return 0
    # Each is taken off the list before it is looked at, so that two threads cannot wait for one number; map hands it
    # over with no bytecode between at which Ctrl-C could lose it.
    try:
        for orphan in map(pending.pop, repeat(0, min(limit, len(pending)))):
            if not _is_gone(orphan):
                pending.append(orphan)
    except IndexError:
        # Another thread took the last one.
        pass
    return len(pending)


def _is_gone(orphan: Orphan) -> bool:
    pid, pidfd, owner = orphan
    if owner != os.getpid():
        # A forked copy of the list: not our children (HAZARDS I2).
        return True
    status = _native.new_status()
    try:
        _native.wait(pidfd.number, pid, _native.NOHANG, status)
    except OSError:
        return True
    return bool(status.state != _native.WAIT_RUNNING)
