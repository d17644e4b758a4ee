"""`run` in an event loop: one child from its command to its Result, while the loop goes on."""

from __future__ import annotations

from fastproc._engine.exchange import STDIN
from fastproc._engine.fds import OwnedFd
from fastproc._engine.feeder import FEED_SIZE, write_quietly
from fastproc._engine.process import ABANDON_LIMIT
from fastproc._engine.reactor import WRITE
from fastproc._engine.resolve import Opened, resolve
from fastproc._engine.running import add_result, begin, conclude
from fastproc._values.plan import settle
from fastproc.aio._hub import Scope, current_hub
from fastproc.run import as_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable
    from typing import Unpack

    from fastproc._engine.exchange import Exchange
    from fastproc._engine.process import Process
    from fastproc._values.command import Command
    from fastproc._values.kinds import OptionsDict, Text
    from fastproc._values.plan import Settled
    from fastproc._values.status import Result
    from fastproc.aio._hub import Event, Hub

    OnError = Callable[[BaseException], None]


async def run(
    program: Command | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
) -> Result:
    """Run a command, wait for its end, and return how it ended and what it wrote, while other tasks go on.

    As `fastproc.run()`, with the same arguments, Result and errors; `input` may also be an asynchronous iterable, which
    is asked for its next item when the child has read the one before. Callbacks run in the context of the caller.

    Raises:
        CancelledError, trio.Cancelled: the task was cancelled. The child got SIGTERM, `grace` seconds later SIGKILL,
            and is gone; the Result up to then is in the exception's attribute `result`.
        RuntimeError: no event loop runs in this thread.
    """
    command = as_command(program, args, options)
    return await _run_exchange(current_hub(), command, settle(command))


async def _run_exchange(hub: Hub, command: Command, settled: Settled) -> Result:
    ended = hub.event()
    failures: list[BaseException] = []

    def on_error(error: BaseException) -> None:
        # What a callback raised in the reactor's pump: the child has no future, and the task gets to know.
        failures.append(error)
        _kill(exchange)

    source: AsyncIterable[bytes] | None = settled.input if hasattr(settled.input, "__aiter__") else None  # type: ignore[assignment]
    scope = Scope(hub.reactor, on_error)
    with Opened() as files, Opened() as opened:
        exchange = begin(
            command,
            settled,
            scope,  # type: ignore[arg-type]
            files,
            b"" if source is not None else None,
            lambda _: ended.set(),
        )
        process = exchange.process
        try:
            await launch(hub, process, command, opened, exchange.deadline)
            opened.close()
            if source is None:
                exchange.open()
                await ended.wait()
            else:
                end = OwnedFd(process.ends[STDIN].detach())
                exchange.open()
                await hub.alongside(lambda: _feed(hub, end, source, on_error), ended)
            if failures:
                raise failures[0]
        except BaseException as error:
            if process.pid > 0:
                await _end(hub, exchange, ended, settled.grace_ns / 1e9)
                add_result(error, exchange, settled, opened)
            raise
        return conclude(exchange, settled, opened)


async def launch(hub: Hub, process: Process, command: Command, opened: Opened, deadline: float | None) -> None:
    """Make the child of a Process."""
    process.spawn(resolve(command, opened, deadline))


async def _end(hub: Hub, exchange: Exchange, ended: Event, patience: float) -> None:
    """Stop a child and see it gone, whatever is cancelled meanwhile."""
    if not exchange.done:
        try:
            exchange.stop()
        except OSError:
            exchange.forsake()
        # A tracer or a file system can hold a child that was killed: then it becomes an orphan, as in blocking code.
        timer = hub.reactor.call_after(patience + ABANDON_LIMIT, exchange.forsake)
        try:
            await hub.outlast(ended)
        finally:
            timer.cancel()


def _kill(exchange: Exchange) -> None:
    try:
        exchange.kill()
    except OSError:
        # It may not be killed (a set-user-ID program, kill(2)).
        exchange.forsake()


async def _feed(hub: Hub, end: OwnedFd, source: AsyncIterable[bytes], on_error: OnError) -> None:
    """Write what an asynchronous iterable gives, and close stdin at its end, but not when it fails."""
    count = 0
    try:
        async for item in source:
            try:
                chunk = memoryview(item).cast("B")
            except TypeError:
                raise TypeError(f"input: item {count} must be bytes-like, not {type(item).__name__}") from None
            count += 1
            await pour(hub, end, chunk)
    except BrokenPipeError:
        # A reader that has gone is no error: the child's status tells (HAZARDS E4).
        pass
    except Exception as error:
        on_error(error)
        return
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
    end.close()


async def pour(hub: Hub, end: OwnedFd, data: memoryview) -> None:
    """Write all of the data to a non-blocking pipe.

    Raises:
        BrokenPipeError: nobody reads it any more.
    """
    while data:
        try:
            done = write_quietly(end.number, data[:FEED_SIZE])
        except BlockingIOError:
            await _writable(hub, end.number)
        else:
            data = data[done:]
            if data:
                await hub.breathe()


async def _writable(hub: Hub, fd: int) -> None:
    ready = hub.event()
    hub.reactor.watch(fd, WRITE, lambda _: ready.set())
    try:
        await ready.wait()
    finally:
        hub.reactor.unwatch(fd)
