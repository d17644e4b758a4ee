"""How a monitor is driven: by iteration, by callbacks, in an event loop, or in a loop of the caller's own."""

from __future__ import annotations

from _weakref import ref
from collections import deque

from fastproc._engine.reactor import READ, Reactor, deadline_from, since_boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from fastproc._engine.reactor import Timer
    from fastproc.monitor._rules import ProcessAlert


SLOW_WAKE = 0.1
"""Seconds that this thread may wait for a CPU on a busy machine."""


class Driven:
    """Alerts on a reactor of their own, to callbacks and to whoever iterates."""

    def __init__(self, callback: Callable[[ProcessAlert], object] | None) -> None:
        """Tell the callback, if there is one."""
        self._callbacks = [] if callback is None else [callback]
        self._reactor = Reactor()
        self._alerts: deque[ProcessAlert] = deque()
        self._readers = 0
        self._iterating: list[ref[Alerts]] = []
        self._closed = False
        self._looked = self._looking = since_boot()
        self._woke: float | None = None

    def add_callback(self, callback: Callable[[ProcessAlert], object]) -> None:
        """Call it with each alert from now on."""
        self._callbacks.append(callback)

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("the monitor is closed")
        if self._reactor.inert:
            raise RuntimeError("the monitor belongs to the process that this one is a fork of")

    def _tell(self, alert: ProcessAlert) -> None:
        if not self._callbacks or self._is_read():
            self._alerts.append(alert)
        for callback in self._callbacks:
            callback(alert)

    def fileno(self) -> int:
        """The descriptor that is readable when something has happened, for a loop of the caller's own.

        Raises:
            OSError: EMFILE, ENFILE.
        """
        return self._reactor.fileno()

    def timeout(self) -> float | None:
        """Seconds until the next look; None without rules."""
        return self._reactor.timeout()

    def run_once(self, timeout: float | None = None) -> None:
        """Wait until something happens, at most so long, and tell of it.

        Raises:
            RuntimeError: nothing is watched, and there is no timeout.
        """
        self._check()
        self._looked, self._looking, self._woke = self._looking, since_boot(), None
        self._reactor.run_once(timeout)

    def _earliest(self) -> float:
        """The earliest instant since the boot for what is told now: it was not there at the look before.

        What ends a wait has just happened, but for the time that we took to wake up.
        """
        woke = self._wake()
        return woke - SLOW_WAKE if woke - self._looking > SLOW_WAKE else self._looked

    def _wake(self) -> float:
        if self._woke is None:
            self._woke = since_boot()
        return self._woke

    def run(self, timeout: float | None = None) -> None:
        """Tell the callbacks what happens, until nothing is watched any more or the time is over.

        Raises:
            BaseException: what a callback raises.
        """
        for _ in self._alerts_until(timeout, keep=False):
            pass

    def next(self, timeout: float | None = None) -> ProcessAlert | None:
        """Wait for an alert; None when the time is over, or nothing is watched any more."""
        for alert in self._alerts_until(timeout, keep=True):
            return alert
        return None

    def __iter__(self) -> Iterator[ProcessAlert]:
        """Alerts as they come, until nothing is watched any more."""
        return self._alerts_until(None, keep=True)

    def _busy(self) -> bool:
        raise NotImplementedError

    def _alerts_until(self, timeout: float | None, keep: bool) -> Alerts:
        self._check()
        return Alerts(self, deadline_from("timeout", timeout), keep)

    def _is_read(self) -> bool:
        """Whether somebody iterates, who has to be given the alerts."""
        self._iterating = [alerts for alerts in self._iterating if alerts() is not None]
        return bool(self._readers or self._iterating)

    async def __aiter__(self) -> AsyncIterator[ProcessAlert]:
        """Alerts as they come, in the event loop that runs: one registered descriptor for all that is watched."""
        from fastproc.aio._current import current_hub
        from fastproc.aio._hub import Scope

        self._check()
        hub = current_hub()
        timer: Timer | None = None
        event = hub.event()
        failures: list[BaseException] = []

        def fail(error: BaseException) -> None:
            failures.append(error)
            event.set()

        def pump(_ready: int = 0) -> None:
            self.run_once(0.0)
            if self._alerts or not self._busy():
                event.set()
            arm()

        def arm() -> None:
            nonlocal timer
            if timer is not None:
                timer.cancel()
            left = self.timeout()
            timer = None if left is None else scope.call_after(left, pump)

        scope = Scope(hub.reactor, fail)
        number = self.fileno()
        self._readers += 1
        scope.watch(number, READ, pump)
        try:
            arm()
            while True:
                while self._alerts:
                    yield self._alerts.popleft()
                if not self._busy():
                    return
                event = hub.event()
                arm()
                await event.wait()
                if failures:
                    raise failures.pop()
        finally:
            self._readers -= 1
            if timer is not None:
                timer.cancel()
            scope.unwatch(number)


class Alerts:
    """Alerts as they come, until nothing is watched any more or the time is over.

    Not a generator: the end of one that is dropped runs in a finalizer, where a signal handler's exception is lost.

    Args:
        monitor: where they come from.
        deadline: of the monotonic clock; None for no limit.
        keep: whether alerts are kept for this, from the first that is asked for, also where there are callbacks.
    """

    __slots__ = ("__weakref__", "_deadline", "_keep", "_monitor", "_own")

    def __init__(self, monitor: Driven, deadline: float | None, keep: bool) -> None:
        self._monitor = monitor
        self._deadline = deadline
        self._keep = keep
        self._own = ref(self)

    def __iter__(self) -> Alerts:
        return self

    def __next__(self) -> ProcessAlert:
        """Return the next one, or end."""
        monitor = self._monitor
        if self._keep and self._own not in monitor._iterating:
            monitor._iterating.append(self._own)
        while not monitor._alerts:
            left = None if self._deadline is None else self._deadline - now_()
            if not monitor._busy() or (left is not None and left <= 0):
                monitor._iterating = [alerts for alerts in monitor._iterating if alerts is not self._own]
                raise StopIteration
            monitor.run_once(left)
        return monitor._alerts.popleft()


def now_() -> float:
    """Return this instant of the monotonic clock."""
    return deadline_from("now", 0.0) or 0.0
