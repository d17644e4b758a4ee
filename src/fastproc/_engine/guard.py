"""What becomes of a running child whose handle is dropped.

Runs in any thread and under any lock, and takes none (GOTCHAS I8).
"""

from __future__ import annotations

import os
from _warnings import warn
from weakref import ref

from fastproc import _native
from fastproc._engine import orphans
from fastproc._engine.fds import OwnedFd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.handle import Handle

SIGKILL = 9

LET_LIVE, WARN, KILL = range(3)
"""What becomes of a child whose handle is dropped: nothing; a warning; it is killed, as its block was never left."""


class Guard(ref["Handle"]):
    """Sees a handle dropped while its child may run: a weak reference, which goes when the end is known.

    Not a finalizer of the handle, which would be called for each: what a signal handler raises in one is lost.
    """

    __slots__ = ("how", "name", "owner", "pid", "pidfd")

    def __new__(cls, process: Handle) -> Guard:
        """Make the reference."""
        return ref.__new__(cls, process, _on_drop)

    def __init__(self, process: Handle) -> None:
        """Take what is needed when the handle is gone."""
        self.how = LET_LIVE if process._detached else WARN
        self.name = repr(process.argv[0]) if process.argv else "?"
        self.owner = process._owner
        self.pid = process.pid
        self.pidfd = process._pidfd


guarded: dict[int, Guard] = {}
"""Those of the children that nobody has reaped, by pid."""


# What a finalizer uses is bound here: the module's names may be gone at the end of the interpreter (GOTCHAS I9).
def _on_drop(
    guard: Guard,
    _getpid: Callable[[], int] = os.getpid,
    _guarded: dict[int, Guard] = guarded,
    _owned_fd: type[OwnedFd] = OwnedFd,
    _adopt_orphan: Callable[[tuple[int, OwnedFd, int]], None] = orphans.adopt,
    _signal: Callable[[int, int, int], None] = _native.signal,
    _warn: Callable[..., None] = warn,
    _kill: int = KILL,
    _let_live: int = LET_LIVE,
    _sigkill: int = SIGKILL,
) -> None:
    """Hand the child of a dropped handle over to the list of orphans."""
    if _guarded.get(guard.pid) is not guard:
        return
    del _guarded[guard.pid]
    if guard.owner != _getpid():
        return
    pidfd = _owned_fd(guard.pidfd.detach())
    _adopt_orphan((guard.pid, pidfd, guard.owner))
    if guard.how == _kill and pidfd.number >= 0:
        # An interrupt has come before the end of the block could see to it.
        try:
            _signal(pidfd.number, guard.pid, _sigkill)
        except OSError:
            pass
    elif guard.how != _let_live:
        text = (
            f"<Process {guard.name} pid={guard.pid} running> was dropped while it ran; use `with`, wait() or detach()"
        )
        _warn(text, ResourceWarning)
