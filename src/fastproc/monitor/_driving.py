"""The ways to drive a monitor: iteration, callbacks, an event loop, or a loop of the caller."""

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
"""Seconds for which this thread may wait for a CPU on a busy machine."""


class Driven:
    """A reactor of its own, and the delivery of alerts to callbacks and iterators."""

    def __init__(self, callback: Callable[[ProcessAlert], object] | None) -> None:
        """Store the callback, if there is one."""
        self._callbacks = [] if callback is None else [callback]
        self._reactor = Reactor()
        self._alerts: deque[ProcessAlert] = deque()
        self._readers = 0
        self._iterating: list[ref[Alerts]] = []
        self._closed = False
        self._looked = self._looking = since_boot()
        self._woke: float | None = None

    def add_callback(self, callback: Callable[[ProcessAlert], object]) -> None:
        """Call a function with each alert from now on."""
        self._callbacks.append(callback)

    def _check(self) -> None:
        if self._closed:
            raise RuntimeError("the monitor is closed")
        if self._reactor.inert:
            raise RuntimeError("the monitor belongs to the process of which this process is a fork")

    def _tell(self, alert: ProcessAlert) -> None:
        if not self._callbacks or self._is_read():
            self._alerts.append(alert)
        for callback in self._callbacks:
            callback(alert)

    def fileno(self) -> int:
        """Return a descriptor for a loop of the caller. It is readable when an event has happened.

        Raises:
            OSError: EMFILE, ENFILE.
        """
        return self._reactor.fileno()

    def timeout(self) -> float | None:
        """Return the seconds until the next look; None without rules."""
        return self._reactor.timeout()

    def run_once(self, timeout: float | None = None) -> None:
        """Wait for an event, for at most `timeout` seconds, and deliver its alerts.

        Raises:
            RuntimeError: nothing is watched, and there is no timeout; the monitor is closed, or belongs to the parent.
        """
        self._check()
        self._looked, self._looking, self._woke = self._looking, since_boot(), None
        self._reactor.run_once(timeout)

    def _earliest(self) -> float:
        """Return the earliest possible time of the event that is handled now, in seconds since boot.

        The event happened after the previous look. An event that ended a wait has just happened, except for the time
        that this thread needed to wake up.
        """
        woke = self._wake()
        return woke - SLOW_WAKE if woke - self._looking > SLOW_WAKE else self._looked

    def _wake(self) -> float:
        if self._woke is None:
            self._woke = since_boot()
        return self._woke

    def run(self, timeout: float | None = None) -> None:
        """Deliver alerts to the callbacks until nothing is watched any more or the timeout has passed.

        Raises:
            BaseException: a callback raised it.
        """
        for _ in self._alerts_until(timeout, keep=False):
            pass

    def next(self, timeout: float | None = None) -> ProcessAlert | None:
        """Wait for an alert; return None if the timeout has passed or nothing is watched any more."""
        for alert in self._alerts_until(timeout, keep=True):
            return alert
        return None

    def __iter__(self) -> Iterator[ProcessAlert]:
        """Iterate over the alerts, until nothing is watched any more."""
        return self._alerts_until(None, keep=True)

    def _busy(self) -> bool:
        raise NotImplementedError

    def _alerts_until(self, timeout: float | None, keep: bool) -> Alerts:
        self._check()
        return Alerts(self, deadline_from("timeout", timeout), keep)

    def _is_read(self) -> bool:
        """Return whether there are iterators, for which alerts must be kept."""
        self._iterating = [alerts for alerts in self._iterating if alerts() is not None]
        return bool(self._readers or self._iterating)

    async def __aiter__(self) -> AsyncIterator[ProcessAlert]:
        """Iterate over the alerts in the running event loop. One descriptor is registered for all watches."""
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
    """An iterator over the alerts, until nothing is watched any more or the deadline has passed.

    This is not a generator: a dropped generator ends in a finalizer, where an exception of a signal handler is lost.

    Args:
        monitor: the monitor.
        deadline: a monotonic time; None for no limit.
        keep: whether alerts are kept for this iterator from its first step on, even if there are callbacks.
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
        """Return the next alert."""
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
    """Return the current monotonic time."""
    return deadline_from("now", 0.0) or 0.0
