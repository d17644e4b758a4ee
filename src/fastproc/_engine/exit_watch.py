"""Seeing the end of one child on a reactor, whether its pidfd is readable, early, or missing.

Invariant: the handle is held while it is watched, so that another thread that reaps the child cannot make its pidfd a
stranger's number (GOTCHAS C12, C15).
"""

from __future__ import annotations

from fastproc import errors
from fastproc._engine.job_control import PAUSE_FIRST, PAUSE_MAX
from fastproc._engine.reactor import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastproc._engine.handle import Handle
    from fastproc._engine.reactor import Reactor, Timer


class ExitWatch:
    """One child on the reactor, until its end is seen.

    Args:
        process: the handle of a child that was started.
        reactor: where it is waited for.
        on_end: called once, with the handle, when its status has been taken.
    """

    __slots__ = ("_number", "_on_end", "_pause", "_process", "_reactor", "_timer", "held")

    def __init__(self, process: Handle, reactor: Reactor, on_end: Callable[[Any], object]) -> None:
        self._process = process
        self._reactor = reactor
        self._on_end = on_end
        self._pause = PAUSE_FIRST
        self._number = -1
        self._timer: Timer | None = None
        self.held = False

    def begin(self) -> None:
        """Watch from now on."""
        self.held = True
        self._number = self._process.hold()
        if self._number >= 0:
            self._reactor.watch(self._number, READ, self._on_ready)
        else:
            self._look_later()

    def close(self) -> None:
        """Leave nothing with the reactor. Harmless when repeated."""
        if self._timer is not None:
            self._timer.cancel()
        if self.held:
            self.held = False
            if self._number >= 0:
                self._reactor.unwatch(self._number)
            self._process.release()

    def _on_ready(self, _ready: int) -> None:
        if not self.held:
            return
        if has_ended(self._process):
            self.close()
            self._on_end(self._process)
            return
        # Readable with nothing to reap, under a tracer: looked at by a timer, never spun on (GOTCHAS D6).
        if self._number >= 0:
            self._reactor.unwatch(self._number)
        self._look_later()

    def _look_later(self) -> None:
        self._timer = self._reactor.call_after(self._pause, lambda: self._on_ready(READ))
        self._pause = min(self._pause * 2.0, PAUSE_MAX)


def has_ended(process: Handle) -> bool:
    """Look, without blocking; a lost status is an end too."""
    try:
        return process.poll() is not None
    except errors.ExitStatusUnknown:
        return True
