"""What tasks wait for at one child: its end, its streams; and the readings as asynchronous iterators.

Invariant: while nobody waits, nothing of a child is registered with the loop's reactor, and nothing of it is read.
"""

from __future__ import annotations

from contextlib import contextmanager
from operator import length_hint

from fastproc._engine.reactor import READ
from fastproc._engine.streams.pump import Pause
from fastproc.aio._current import current_hub
from fastproc.aio._hub import Again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any, Protocol

    from fastproc._engine.exit_watch import ExitWatch
    from fastproc._engine.process import Process as Child
    from fastproc.aio._hub import Event, Hub

    class Reading(Protocol):
        """What a reading asks of its process; aio._process imports this file."""

        _hub: Hub

        async def _pause(self, pause: Pause) -> None: ...


MANY = 1000
"""Lines that one task goes through in some 100 us, without letting others run."""


class Items:
    """An asynchronous iterator over the items of a reading. May be left at any item, and another one goes on."""

    __slots__ = ("_process", "_steps")

    def __init__(self, process: Reading, steps: Iterator[Any]) -> None:
        self._process = process
        self._steps = steps

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        for item in self._steps:
            if item.__class__ is not Pause:
                return item
            await self._process._pause(item)
        raise StopAsyncIteration


class Lines:
    """An asynchronous iterator over lines. Those that have come are given without a wait.

    A loop over lines that are there already lets other tasks run between two pieces that were read.
    """

    __slots__ = ("_batch", "_items", "_process")

    def __init__(self, process: Reading, steps: Iterator[Any]) -> None:
        self._items = Items(process, steps)
        self._process = process
        self._batch: Iterator[Any] = iter(())

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        # for ... return: the next line without a call that is seen from Python, or none.
        for line in self._batch:
            return line
        while True:
            self._batch = await self._items.__anext__()
            hub = self._process._hub
            number = length_hint(self._batch, 1)
            # Before a line is taken: a cancellation arrives here, and loses none.
            if number:
                await hub.breathe()
            if number > MANY:
                await hub.batches.turn()
            for line in self._batch:
                return line

    def batches(self) -> Batches:
        """Iterate over lists of lines, as they come: the fastest way."""
        return Batches(self._batch, self._items)


class Batches:
    """An asynchronous iterator over lists of lines."""

    __slots__ = ("_batch", "_items")

    def __init__(self, batch: Iterator[Any], items: Items) -> None:
        self._batch = batch
        self._items = items

    def __aiter__(self) -> Batches:
        return self

    async def __anext__(self) -> list[Any]:
        batch = list(self._batch)
        while not batch:
            batch = list(await self._items.__anext__())
        return batch


class StreamWatch:
    """The reactor of a child's streams, on the loop's."""

    __slots__ = ("_child", "_fd", "_hub", "_wake")

    def __init__(self, child: Child, hub: Hub, wake: Callable[[], None]) -> None:
        self._child = child
        self._hub = hub
        self._wake = wake
        self._fd = -1

    def begin(self) -> None:
        """Wake when a stream is ready."""
        streams = self._child._streams
        assert streams is not None
        self._fd = streams.reactor.fileno()
        self._hub.reactor.watch(self._fd, READ, lambda _: self._wake())

    def close(self) -> None:
        """Watch no more."""
        self._hub.reactor.unwatch(self._fd)


class Shared:
    """Something that any number of tasks wait for, watched once.

    Args:
        hub: of their loop.
        make: makes what has `begin()` and `close()`, from a function that wakes everybody.
    """

    __slots__ = ("_hub", "_make", "_waiters", "_watch")

    def __init__(self, hub: Hub, make: Callable[[Callable[[], None]], ExitWatch | StreamWatch]) -> None:
        self._hub = hub
        self._make = make
        self._waiters: list[Event] = []
        self._watch: ExitWatch | StreamWatch | None = None

    async def wait(self, deadline: float | None) -> None:
        """Wait until it happens, or until a monotonic instant."""
        event = self._hub.event()
        timer = None if deadline is None else self._hub.reactor.call_at(deadline, Again(event.set))
        try:
            with self.by(event):
                await event.wait()
        finally:
            if timer is not None:
                timer.cancel()

    @contextmanager
    def by(self, event: Event) -> Iterator[None]:
        """Set an event when it happens, for the time of a `with` block."""
        if current_hub() is not self._hub:
            raise RuntimeError("this process belongs to another event loop")
        if self._watch is None:
            watch = self._make(self.wake)
            try:
                watch.begin()
            except BaseException:
                # EMFILE, ENOSPC: those who come later must not take it for one that watches.
                watch.close()
                raise
            self._watch = watch
        self._waiters.append(event)
        try:
            yield
        finally:
            self._waiters.remove(event)
            if not self._waiters:
                self.drop()

    def wake(self) -> None:
        """Wake everybody."""
        for event in self._waiters:
            event.set()

    def drop(self) -> None:
        """Wake everybody and watch no more."""
        self.wake()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
