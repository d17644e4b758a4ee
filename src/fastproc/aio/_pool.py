"""The pool of an event loop: as `fastproc.Pool`, and what waits is awaited."""

from __future__ import annotations

from fastproc._engine.reactor import deadline_from
from fastproc.aio._current import current_hub
from fastproc.aio._hub import Again
from fastproc.pool._client import open_channel
from fastproc.pool._front import Front
from fastproc.pool._gate import Gate
from fastproc.pool._make_crew import make_crew
from fastproc.pool._retries import Retries, as_retries
from fastproc.pool._settings import Items, as_expression, check_priority, look, make_task
from fastproc.pool._task import KILL, STOP
from fastproc.pool._window import Window, cancelled_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
    from concurrent import futures
    from typing import Any, Unpack

    from fastproc._engine.reactor import Timer
    from fastproc._values.aliases import Text
    from fastproc._values.command import Expression, OptionsDict
    from fastproc._values.status import Result
    from fastproc.aio._hub import Hub
    from fastproc.pool._client import Channel
    from fastproc.pool._core import Channel as Joined
    from fastproc.pool._task import Task


LOST_EVERY = 0.1
"""Seconds between two looks, at the end, for tasks that a signal handler's exception has left in the records."""


class Future:
    """What becomes of a task in an event loop. Awaited, it gives the Result or raises what the task amounts to.

    For tasks of the pool's loop. A task that is cancelled while it awaits this cancels what it waits for, as `run()`
    does, and sees it gone; `wait()` only waits.

    Attributes:
        partial: of a task that was cancelled while it ran, once its child is gone: the Result up to then.
    """

    __module__ = "fastproc.aio"

    def __init__(self, hub: Hub, interrupted: list[Future]) -> None:
        """A future without its task.

        Args:
            hub: of its loop.
            interrupted: where it notes itself while nobody has asked for what a signal handler raised in its task.
        """
        self._hub = hub
        self._interrupted = interrupted
        self._event = hub.event()
        self._gone = hub.event()
        self._task: Task | None = None
        self._cancelled = False
        self._result: Result | None = None
        self._error: BaseException | None = None
        self.partial: Result | None = None

    def done(self) -> bool:
        """Whether it has ended or was cancelled."""
        return self._event.is_set()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def running(self) -> bool:
        """Whether the task has begun and not ended."""
        return self._task is not None and not self.done() and self._task.is_running

    @property
    def tries(self) -> int:
        """How often the task was started, or is about to be."""
        return 0 if self._task is None else self._task.tries

    @property
    def lost_workers(self) -> tuple[str, ...]:
        """As `fastproc.pool.Future.lost_workers`."""
        return () if self._task is None else self._task.lost

    @property
    def expression(self) -> Expression:
        """What it runs."""
        assert self._task is not None
        return self._task.expression

    def cancel(self, *, kill: bool = False) -> bool:
        """Cancel the task, as `fastproc.pool.Future.cancel()`: also one that runs. Return whether it had not ended."""
        if self.done() and not self._cancelled:
            return False
        self._cancelled = True
        self._event.set()
        assert self._task is not None
        self._task.cancel(KILL if kill else STOP)
        return True

    def result(self) -> Result:
        """Return the Result of a task that is done.

        Raises:
            CancelledError: of `concurrent.futures`: it was cancelled.
            ExitError, TimeoutExpired, SpawnError, ExitStatusUnknown: as run().
            InvalidStateError: of `concurrent.futures`: it is not done.
        """
        error = self.exception()
        if error is not None:
            raise error
        assert self._result is not None
        return self._result

    def exception(self) -> BaseException | None:
        """Return the exception of a task that is done, or None.

        Raises:
            CancelledError, InvalidStateError: as result().
        """
        if not self.done():
            from concurrent.futures import InvalidStateError

            raise InvalidStateError("the task is not done")
        if self._cancelled:
            raise cancelled_error(self.partial)
        if self in self._interrupted:
            self._interrupted.remove(self)
        return self._error

    async def wait(self) -> None:
        """Wait until it is done, whatever came of it."""
        await self._event.wait()

    def __await__(self) -> Generator[Any, Any, Result]:
        return self._outcome().__await__()

    async def _outcome(self) -> Result:
        try:
            await self._event.wait()
        except BaseException as error:
            if not self._hub.reactor.inert and self.cancel():
                await self._hub.outlast(self._gone)
                error.result = self.partial  # type: ignore[attr-defined]
            raise
        return self.result()

    def _deliver(self, task: Task, result: Result | None, error: BaseException | None) -> None:
        if self._cancelled or task.cancelled:
            self._cancelled = True
            self.partial = result
        else:
            self._result = result
            self._error = error
        if error is not None and not isinstance(error, Exception) and self not in self._interrupted:
            self._interrupted.append(self)
        self._event.set()
        self._gone.set()


class Pool(Front):
    """Runs commands and pipelines in an event loop, a limited number at a time, and gives their Results.

    As `fastproc.Pool`, with the same arguments, for the tasks of one loop (asyncio, uvloop, trio). `async with` waits
    for what was submitted, and stops all when the block is left by an exception.
    """

    __module__ = "fastproc.aio"

    _name = "aio.Pool"

    def __init__(
        self,
        workers: int | None = None,
        *,
        rate: float | None = None,
        deadline: float | None = None,
        retries: int | Retries = 0,
        fail_fast: bool = False,
        gate: Gate | Callable[[], bool] | None = None,
        executor: futures.Executor | None = None,
        **options: Unpack[OptionsDict],
    ) -> None:
        """Make the threads."""
        self._crew = make_crew(workers, rate, deadline, retries, fail_fast, gate, options, executor, True)
        self._gate = gate
        self._hub: Hub | None = None
        self._channel: Channel | None = None
        self._timer: Timer | None = None
        self._interrupted: list[Future] = []
        if gate is not None:
            self._crew.gated = not look(gate)
            self._crew.adjust()

    def submit(
        self,
        program: Expression | Text | list[Text] | tuple[Text, ...],
        /,
        *args: Text,
        priority: int = 0,
        retries: int | Retries | None = None,
        **options: Unpack[OptionsDict],
    ) -> Future:
        """Queue a command or another expression, and return its Future at once. As `fastproc.Pool.submit()`."""
        hub = self._enter()
        expression, given = as_expression(self._crew, program, args, options)  # type: ignore[arg-type]
        tried = None if retries is None else as_retries(retries)
        if self._channel is None:
            self._channel = open_channel(self._crew, hub.reactor)
        future = Future(hub, self._interrupted)
        deliver = future._deliver
        task = make_task(self._crew, self._channel, expression, given, check_priority(priority), tried, deliver)
        future._task = task
        self._channel.submit(task)
        return future

    def map(
        self,
        function: Callable[[Any], Expression] | None,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        ahead: int | None = None,
        priority: int = 0,
        retries: int | Retries | None = None,
        **options: Unpack[OptionsDict],
    ) -> AsyncIterator[Result]:
        """Run a command or pipeline for each item, and give the results, as `fastproc.Pool.map()`.

        The items may also be an asynchronous iterable. A loop that is left early should close the iterator, as
        `contextlib.aclosing()` does: then its tasks are ended at once.
        """
        self._crew.check_usable()
        taken = Items(function, self._crew, ahead, options)
        tried = None if retries is None else as_retries(retries)
        source = _drawn(items)
        return self._results(taken, source, ordered, return_exceptions, check_priority(priority), tried)

    def imap_unordered(
        self,
        function: Callable[[Any], Expression] | None,
        items: Iterable[Any] | AsyncIterable[Any],
        **options: Any,
    ) -> AsyncIterator[Result]:
        """As map(), in the order in which the tasks end."""
        return self.map(function, items, ordered=False, **options)

    async def _results(self, taken: Items, draw: Any, *arguments: Any) -> AsyncIterator[Any]:
        hub = self._enter()
        channel = open_channel(self._crew, hub.reactor)
        window = Window(channel, taken, *arguments)
        try:
            while True:
                if window.is_low:
                    while window.has_room:
                        found, item = await draw()
                        if found:
                            window.add(item)
                        else:
                            window.exhausted = True
                while window.is_ready:
                    yield window.give()
                if window.is_over:
                    return
                if channel.closed:
                    raise cancelled_error()
                if not window.is_low:
                    event = hub.event()
                    window.on_ended = event.set
                    await event.wait()
                    window.on_ended = None
        finally:
            await self._finish(channel, KILL)
            if (error := window.interrupt()) is not None:
                raise error

    def _enter(self) -> Hub:
        self._crew.check_usable()
        hub = current_hub()
        if self._hub is None:
            self._hub = hub
            if self._gate is not None:
                self._timer = hub.reactor.call_after(0.0, Again(self._look))
        elif self._hub is not hub:
            raise RuntimeError("this pool belongs to another event loop")
        return hub

    def _look(self) -> None:
        assert self._hub is not None
        assert self._gate is not None
        assert self._timer is not None
        interval = self._gate.interval if isinstance(self._gate, Gate) else 1.0
        self._timer.cancel()
        self._timer = self._hub.reactor.call_after(interval, Again(self._look))
        gated = not look(self._gate)
        if gated is not self._crew.gated and not self._crew.closed:
            self._crew.gated = gated
            self._crew.adjust()

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until no task that was submitted is left; whether that was so within `timeout` seconds."""
        return self._channel is None or await self._emptied(self._channel, deadline_from("timeout", timeout))

    async def _emptied(self, channel: Channel, deadline: float | None = None) -> bool:
        hub = self._hub
        assert hub is not None
        if not channel.records:
            return True
        event = hub.event()
        channel.waiters.append(event.set)
        timer = None if deadline is None else hub.reactor.call_at(deadline, Again(event.set))
        try:
            await event.wait()
        finally:
            channel.waiters.remove(event.set)
            if timer is not None:
                timer.cancel()
        return not channel.records

    async def _finish(self, channel: Joined, how: int) -> None:
        """End what is left of a channel, and see it gone, whatever is cancelled meanwhile."""
        hub = self._hub
        assert hub is not None
        if channel.closed:
            return
        if not self._crew.inert and not hub.closed:
            for task in list(channel.records.values()):
                task.cancel(how)
            if channel.records:
                event = hub.event()
                channel.waiters.append(event.set)
                timer = hub.reactor.call_after(LOST_EVERY, Again(lambda: seek()))

                def seek() -> None:
                    nonlocal timer
                    timer.cancel()
                    timer = hub.reactor.call_after(LOST_EVERY, Again(seek))
                    channel.give_up_lost()

                try:
                    await hub.outlast(event)
                finally:
                    timer.cancel()
        channel.close()

    async def close(self) -> None:
        """Take no more tasks, wait for those that were submitted, and end the threads."""
        if self._crew.inert:
            return
        self._crew.refuse()
        try:
            await self.drain()
        except BaseException:
            await self.stop()
            raise
        await self._end(STOP)

    async def stop(self, *, kill: bool = False) -> None:
        """Cancel what waits, end what runs, wait for that, and end the threads. As `fastproc.Pool.stop()`."""
        if not self._crew.inert:
            self._crew.refuse()
            await self._end(KILL if kill else STOP)

    async def _end(self, how: int) -> None:
        crew = self._crew
        crew.ending = how
        if self._timer is not None:
            self._timer.cancel()
        for channel in crew.channels():
            await self._finish(channel, how)
        crew.end()
        if self._interrupted:
            # Such as Ctrl-C in a callback of a task that nobody waits for: it is for the program.
            error = self._interrupted.pop()._error
            assert error is not None
            raise error

    async def __aenter__(self) -> Pool:
        self._enter()
        return self

    async def __aexit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            await self.close()
        else:
            await self.stop()


def _drawn(items: Iterable[Any] | AsyncIterable[Any]) -> Callable[[], Any]:
    """Return a function that draws the next item: whether there is one, and it."""
    if hasattr(items, "__aiter__"):
        iterator = items.__aiter__()

        async def draw() -> tuple[bool, Any]:
            try:
                return True, await iterator.__anext__()
            except StopAsyncIteration:
                return False, None

        return draw
    plain = iter(items)

    async def draw_plain() -> tuple[bool, Any]:
        try:
            return True, next(plain)
        except StopIteration:
            return False, None

    return draw_plain
