"""How a Process tells that its child was stopped, was continued, or has ended."""

from __future__ import annotations

from time import monotonic, sleep

from fastproc import _native, errors
from fastproc._engine.reactor import deadline_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import RLock

    from fastproc._values.status import Change

PAUSE_FIRST = 0.0005
PAUSE_MAX = 0.02
"""Seconds between two looks where the kernel gives nothing to wait for: without a pidfd, and under a tracer."""


class Changing:
    """The part of a Process that is about its child's states. All may be called from any thread."""

    __slots__ = ()

    if TYPE_CHECKING:
        argv: tuple[str, ...]
        final: _native.Status | None
        _lock: RLock

        @property
        def core_dumped(self) -> bool: ...
        def _check_usable(self) -> None: ...
        def _code(self) -> int | None: ...
        def _reap(self, options: int = 0) -> _native.Status: ...

    def poll_change(self) -> Change | None:
        """Look whether the child was stopped, continued or has ended; None when nothing of it is new.

        The kernel tells each stop and each SIGCONT once, and of several since the last look the last one. An end is
        told again and again.

        Raises:
            ExitStatusUnknown, ProcessError: as poll does.
        """
        from fastproc._values.status import Change

        self._check_usable()
        with self._lock:
            status = None if self.final is not None else self._reap(_native.CHANGES)
        if status is not None and status.state in (_native.WAIT_STOPPED, _native.WAIT_CONTINUED):
            return Change("stopped" if status.state == _native.WAIT_STOPPED else "continued", status.returncode)
        code = self._code()
        return None if code is None else Change("ended", code, self.core_dumped)

    def wait_change(self, timeout: float | None = None) -> Change:
        """Wait until the child is stopped, is continued, or has ended, and say which.

        Looks every 20 ms at most: a pidfd tells of the end only, and SIGCHLD is the program's.

        Raises:
            TimeoutExpired: nothing of it happened.
            ExitStatusUnknown, ProcessError: as poll does.
        """
        deadline = deadline_from("timeout", timeout)
        pause = PAUSE_FIRST
        while True:
            change = self.poll_change()
            if change is not None:
                return change
            left = pause if deadline is None else deadline - monotonic()
            if left <= 0.0:
                assert timeout is not None
                raise errors.timeout_expired(self.argv, timeout)
            sleep(min(pause, left))
            pause = min(pause * 2.0, PAUSE_MAX)
