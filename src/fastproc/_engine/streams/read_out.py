"""Reading one child on another reactor until it has ended."""

from __future__ import annotations

from fastproc._engine.job_control import PAUSE_MAX
from fastproc._engine.reactor import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.process import Process
    from fastproc._engine.reactor import Reactor, Timer


class ReadOut:
    """One child that has a limit, callback or copy: read, as its wait() does it, until all of it has ended.

    Args:
        process: the handle of a child that was started.
        reactor: where it is waited for; what a callback raises comes out there.
        on_end: called once, with the handle, when its status has been taken and its outputs have been read.
    """

    __slots__ = ("_number", "_on_end", "_process", "_reactor", "_steps", "_streams", "_timer")

    def __init__(self, process: Process, reactor: Reactor, on_end: Callable[[Process], object]) -> None:
        self._process = process
        self._reactor = reactor
        self._on_end = on_end
        self._streams, _ = process._begin(None, None)
        self._steps = self._streams.ending(process, None, process.times[1], process.times[2])
        self._number = -1
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Read from now on.

        Raises:
            BaseException: what a callback raises, as wait() does.
        """
        for pause in self._steps:
            timeout = self._streams.prepare(self._process, pause)
            try:
                self._number = self._streams.reactor.fileno()
            except (OSError, NotImplementedError):
                # No descriptor is left for it, or this system has none.
                timeout = min(timeout, PAUSE_MAX)
            else:
                self._reactor.watch(self._number, READ, self._on_ready)
            self._timer = self._reactor.call_after(timeout, self._on_ready)
            return
        self._on_end(self._process)

    def _on_ready(self, _ready: int = 0) -> None:
        self._rest()
        self._streams.turn(self._process, 0.0)
        self.begin()

    def _rest(self) -> None:
        # Before each step, as the last one closes it (GOTCHAS C15).
        if self._number >= 0:
            self._reactor.unwatch(self._number)
            self._number = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Leave nothing with the reactor. Harmless when repeated; what was read is kept."""
        self._rest()
        self._steps.close()
