"""Waiting in an event loop for several processes, and for whatever else the loop's reactor drives."""

from __future__ import annotations

from contextlib import ExitStack

from fastproc import errors
from fastproc._engine.exit_watch import has_ended
from fastproc._engine.reactor import deadline_from
from fastproc._engine.streams.read_out import ReadOut
from fastproc.aio._current import current_hub
from fastproc.aio._hub import Again, Scope
from fastproc.aio._process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from fastproc._engine.process import Process as Child
    from fastproc._engine.reactor import Reactor

    class Doable(Protocol):
        """What a reactor drives to its end: an exchange, a pipeline."""

        on_done: Callable[[Any], object] | None

        @property
        def done(self) -> bool:
            """Whether it is at its end."""


async def wait(what: Process | Doable, timeout: float | None = None) -> Any:
    """Wait for a process to end, and give its return code; or for anything that is `done` and calls `on_done`.

    The latter is driven by the loop's reactor, see `reactor()`; it is given back when it is done.

    Raises:
        TimeoutExpired, ExitStatusUnknown: as Process.wait().
        TimeoutError: the timeout is over.
    """
    if isinstance(what, Process):
        return await what.wait(timeout)
    hub = current_hub()
    ended = hub.event()
    before = what.on_done

    def on_done(done: Any) -> None:
        ended.set()
        if before is not None:
            before(done)

    deadline = deadline_from("timeout", timeout)
    if not what.done:
        what.on_done = on_done
        timer = None if deadline is None else hub.reactor.call_at(deadline, Again(ended.set))
        try:
            await ended.wait()
        finally:
            if timer is not None:
                timer.cancel()
    if not what.done:
        raise TimeoutError(f"not done after {timeout} seconds")
    return what


wait.__module__ = "fastproc.aio"


def reactor() -> Reactor:
    """Return the reactor of the running loop, for what is driven by it.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    return current_hub().reactor


reactor.__module__ = "fastproc.aio"


def as_completed(processes: Iterable[Process], timeout: float | None = None) -> Completions:
    """Iterate over the processes, each when it has ended, in the order of their ends. As the blocking function.

    Raises:
        TimeoutExpired: by the iteration: some still run; all that had ended have been given.
    """
    return Completions(processes, timeout)


as_completed.__module__ = "fastproc.aio"


async def wait_any(processes: Iterable[Process], timeout: float | None = None) -> Process:
    """Wait until one of the processes has ended, and give it; the first of those given where several have.

    Raises:
        TimeoutExpired: all still run.
        ValueError: there are none.
    """
    async for process in Completions(processes, timeout):
        return process
    raise ValueError("processes: there are none to wait for")


wait_any.__module__ = "fastproc.aio"


async def wait_all(processes: Iterable[Process], timeout: float | None = None) -> list[int]:
    """Wait until all processes have ended, and give their return codes in the order of the processes.

    Raises:
        TimeoutExpired: some still run.
        ExitStatusUnknown: all have ended, and the status of one is lost.
    """
    given = list(processes)
    async for _ in Completions(given, timeout):
        pass
    return [process.child.wait() for process in given]


wait_all.__module__ = "fastproc.aio"


class Completions:
    """An asynchronous iterator over processes that end."""

    __slots__ = ("_deadline", "_read", "_running", "_timeout")

    def __init__(self, processes: Iterable[Process], timeout: float | None) -> None:
        self._running = dict.fromkeys(processes)
        for process in self._running:
            if not isinstance(process, Process):
                raise TypeError(f"processes: must be processes from aio.start(), not {type(process).__name__}")
        self._deadline = deadline_from("timeout", timeout)
        self._timeout = timeout
        # Those that are read until they end, and have been.
        self._read: set[Child] = set()

    def __aiter__(self) -> Completions:
        return self

    async def __anext__(self) -> Process:
        if not self._running:
            raise StopAsyncIteration
        hub = current_hub()
        await hub.breathe()
        found = self._next()
        if found is None:
            event = hub.event()
            failures: list[BaseException] = []

            def fail(error: BaseException) -> None:
                failures.append(error)
                event.set()

            def read(child: Child) -> None:
                self._read.add(child)
                event.set()

            timer = None if self._deadline is None else hub.reactor.call_at(self._deadline, Again(event.set))
            with ExitStack() as stack:
                if timer is not None:
                    stack.callback(timer.cancel)
                for process in self._running:
                    if process.child.taps is None:
                        stack.enter_context(process._watch.by(event))
                    else:
                        reading = ReadOut(process.child, Scope(hub.reactor, fail), read)  # type: ignore[arg-type]
                        stack.callback(reading.close)
                        reading.begin()
                await event.wait()
            if failures:
                raise failures[0]
            found = self._next()
        if found is None:
            assert self._timeout is not None
            raise errors.timeout_expired(next(iter(self._running)).argv, self._timeout)
        return found

    def _next(self) -> Process | None:
        for process in self._running:
            child = process.child
            if child in self._read or (child.taps is None and has_ended(child)):
                del self._running[process]
                return process
        return None
