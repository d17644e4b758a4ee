"""`run` in an event loop: one child from its command to its Result, while the loop goes on."""

from __future__ import annotations

import os
import sys
from errno import ETXTBSY
from sys import audit
from time import monotonic

from fastproc import _native, errors
from fastproc._engine import orphans
from fastproc._engine.exit_watch import ExitWatch, has_ended
from fastproc._engine.fds import STDIN, Opened, OwnedFd
from fastproc._engine.job_control import PAUSE_FIRST, PAUSE_MAX
from fastproc._engine.reactor import WRITE
from fastproc._engine.resolve import resolve
from fastproc._engine.running import add_result, begin, conclude
from fastproc._engine.signal_api import ABANDON_LIMIT, HELD_EVERY, REFUSED_AT
from fastproc._engine.streams.feeder import FEED_SIZE, write_quietly
from fastproc._native import SUM_COUNT, jobs, new_job, unpack
from fastproc._native.loop import AGAIN, job_begin
from fastproc._run import as_command
from fastproc._values.command import Command, Expression
from fastproc._values.loading import loaded
from fastproc._values.plan import settle
from fastproc.aio._bulk import Bulk
from fastproc.aio._current import current_hub
from fastproc.aio._hub import Again, Scope, end_all
from fastproc.aio._launch import Launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterable
    from typing import Unpack

    from fastproc._engine.exchange import Exchange
    from fastproc._engine.process import Process
    from fastproc._values.aliases import Text
    from fastproc._values.command import OptionsDict
    from fastproc._values.plan import Plan, ResolvedOptions
    from fastproc._values.status import Result
    from fastproc.aio._hub import Event, Hub
    from fastproc.subprocess._order import Order

door = sys.modules["fastproc._run"]

BUSY_PAUSES = _native.BUSY_SECONDS
"""Seconds between two tries of a program that is still open for writing (ETXTBSY)."""

INLINE = os.environ.get("FASTPROC_AIO_SPAWN", "") == "inline"
"""Whether a spawn waits for the exec, as in blocking code."""


async def run(
    program: Expression | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
) -> Result:
    """Run a command, wait for its end, and return how it ended and what it wrote, while other tasks go on.

    As `fastproc.run()`, with the same arguments, Result and errors; `input` may also be an asynchronous iterable, which
    is asked for its next item when the child has read the one before. Callbacks run in the context of the caller.

    Raises:
        CancelledError, trio.Cancelled: the task was cancelled. The child got SIGTERM, `grace` seconds later SIGKILL,
            and is gone; the Result up to then is in the exception's attribute `result`.
        RuntimeError: no event loop runs in this thread.
    """
    if isinstance(program, Expression) and type(program) is not Command and not args:
        loaded("fastproc.aio._pipeline")
        from fastproc.aio._pipeline import run_expression

        return await run_expression(program, options)
    command = as_command(program, args, options)
    settled = settle(command)
    if settled.composed:
        loaded("fastproc.aio._pipeline")
        from fastproc.aio._pipeline import run_expression

        return await run_expression(command, {})
    hub = current_hub()
    if settled.exchanged or INLINE or door._FORCED_ENGINE == "exchange":
        return await _run_exchange(hub, command, settled)
    with Opened() as opened:
        deadline = None if settled.timeout_ns < 0 else monotonic() + settled.timeout_ns / 1e9
        plan = await resolved(hub, command, opened, deadline)
        for pause in BUSY_PAUSES:
            try:
                return await _run_bulk(hub, command, settled, plan, deadline)
            except errors.SpawnError as error:
                if error.errno != ETXTBSY or error.stage != "exec":
                    raise
            await hub.sleep(pause)
        return await _run_bulk(hub, command, settled, plan, deadline)


run.__module__ = "fastproc.aio"


async def _run_bulk(hub: Hub, command: Command, settled: ResolvedOptions, plan: Plan, deadline: float | None) -> Result:
    """Run by the C core: begun here, driven by the loop when it is not over at once."""
    if not hub.idle:
        await hub.spawns.turn()
    if orphans.pending:
        orphans.reap()
    if settled.plain and deadline is None:
        request = settled.request or door._request(settled)
    else:
        attr, pairs = _native.prepare(settled, plan.fds)
        left = -1 if deadline is None else max(0, int((deadline - monotonic()) * 1e9))
        times = left, settled.grace_ns, settled.drain_ns
        data: bytes = settled.input or b""  # type: ignore[assignment]
        request = _native.make_request(
            attr, plan.stdio, data, times, plan.cwd, plan.cgroup, pairs, len(plan.fds), plan.identity
        )
    audit("subprocess.Popen", *plan.audited)
    try:
        job = jobs.pop()
    except IndexError:
        job = new_job()
    native = job[0]
    argv = command._argv
    slice_ns = hub.for_end.ask() if hub.idle else 0
    r = job_begin(request, plan.paths, plan.npaths, plan.argv, plan.argc, plan.env, plan.envc, slice_ns, native)
    try:
        if slice_ns:
            hub.for_end.learn(r != AGAIN)
        if r == AGAIN:
            ended = hub.event()
            bulk = Bulk(job, (request, plan), ended.set)
            hub.group.add(bulk)
            try:
                await ended.wait()
            except GeneratorExit:
                # The coroutine is closed: nothing can be awaited any more, and the run is ended below.
                raise
            except BaseException:
                await _end_bulk(hub, bulk, ended, settled)
                raise
            r = -native.failure
        else:
            # Those that begin before the loop goes round must not each hold it.
            hub.resting = True
            try:
                await hub.breathe()
            finally:
                hub.resting = False
    except BaseException as error:
        if native.live:
            _native.abort(job, 0)
        if hub.reactor.inert:
            raise
        summary = unpack(job[1], SUM_COUNT)
        if r >= 0 and summary[0] == _native.WAIT_RUNNING and summary[5] > 0:
            orphans.adopt_job(job)
        elif r >= 0 and summary[0] != _native.WAIT_UNKNOWN:
            error.result = door._result(argv, settled, job, summary)  # type: ignore[attr-defined]
        raise
    if r < 0:
        raise _native.spawn_error(plan, -r, _native.job_child(job))
    result: Result = door._finish(argv, settled, job)
    return result


async def _end_bulk(hub: Hub, bulk: Bulk, ended: Event, settled: ResolvedOptions) -> None:
    """As end_all(), for a bulk run."""
    if hub.reactor.inert:
        return
    bulk.stop()
    timer = hub.reactor.call_after(settled.grace_ns / 1e9 + ABANDON_LIMIT, Again(bulk.forsake))
    try:
        await hub.outlast(ended)
    finally:
        timer.cancel()


async def _run_exchange(hub: Hub, command: Command, settled: ResolvedOptions) -> Result:
    ended = hub.event()
    failures: list[BaseException] = []

    def on_error(error: BaseException) -> None:
        # What a callback raised in the reactor's pump: the child has no future, and the task gets to know.
        failures.append(error)
        if isinstance(error, Exception):
            _kill(exchange)
        else:
            exchange.cut_off()
            ended.set()

    def on_source(error: BaseException) -> None:
        # Also that the feeding was cancelled: the child ends as any other.
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
        end = OwnedFd()
        begun = False
        try:
            await spawn(hub, process, command, opened, exchange.deadline)
            begun = True
            opened.close()
            if source is None:
                _open(exchange)
                await ended.wait()
            else:
                end.take_over(process.ends[STDIN])
                _open(exchange)
                await hub.alongside(lambda: _feed(hub, end, source), ended, on_source)
            if failures:
                raise failures[0]
        except BaseException as error:
            if begun and not hub.reactor.inert:
                await end_all(hub, exchange, ended, settled.grace_ns / 1e9)
                add_result(error, exchange, settled, opened)
            raise
        finally:
            # Not before the child is gone: an end of its input would tell it that it has had it all.
            end.close()
        return conclude(exchange, settled, opened)


def _open(exchange: Exchange) -> None:
    try:
        exchange.open()
    except BaseException:
        # Of a signal handler, in the middle of it: the end would be reported to nobody.
        exchange.cut_off()
        raise


async def resolved(hub: Hub, command: Command, opened: Opened, deadline: float | None) -> Plan:
    """Open what the command names; the loop goes on while the other side of a FIFO is waited for."""
    settled = settle(command)
    if settled.stdio is None:
        loaded("fastproc.aio._fifo")
        from fastproc.aio._fifo import fifos_opened

        command = await fifos_opened(hub, command, settled, opened, deadline)
    return resolve(command, opened, deadline)


async def spawn(hub: Hub, process: Process, command: Command, opened: Opened, deadline: float | None) -> None:
    """Make the child of a Process, and come back when its program runs. The loop goes on meanwhile.

    Raises:
        SpawnError: no child is left.
    """
    await spawn_planned(hub, process, await resolved(hub, command, opened, deadline), deadline)


async def spawn_planned(hub: Hub, process: Process, plan: Plan | Order, deadline: float | None = None) -> None:
    """Make the child of a plan, or of what stands in its place, as spawn()."""
    if INLINE:
        process.spawn(plan, deadline=deadline)  # type: ignore[arg-type]
        return None
    refused: errors.SpawnError | None = None
    try:
        if plan.terminal is not None:
            process.ends.attach(plan.terminal)
        for way in process.ways(plan):  # type: ignore[arg-type]
            try:
                return await _launch_free(hub, process, way, deadline)
            except errors.SpawnError as error:
                refused = error
                if not plan.settled.kill_tree or error.stage not in REFUSED_AT:
                    raise
        assert refused is not None
        raise refused
    except BaseException:
        if process.pid <= 0:
            process.abandon()
        raise


async def _launch_free(hub: Hub, process: Process, plan: Plan | Order, deadline: float | None) -> None:
    """Launch a program once nobody has it open for writing.

    Another thread's half-made child has it so for some milliseconds (GOTCHAS C2).
    """
    for pause in BUSY_PAUSES:
        try:
            return await _launch(hub, process, plan, deadline)
        except errors.SpawnError as error:
            if error.errno != ETXTBSY or error.stage != "exec" or (deadline is not None and monotonic() >= deadline):
                raise
        await hub.sleep(pause)
    return await _launch(hub, process, plan, deadline)


async def _launch(hub: Hub, process: Process, plan: Plan | Order, deadline: float | None) -> None:
    if not hub.idle:
        await hub.spawns.turn()
    wait_ns = hub.for_exec.ask() if hub.idle else 0
    launch = Launch(process, plan)
    hub.launching += 1
    try:
        over = launch.is_over(wait_ns)
        if wait_ns:
            hub.for_exec.learn(over)
            hub.rest()
        pause = PAUSE_FIRST
        while not over:
            if deadline is not None and monotonic() >= deadline:
                process.kill()
                process.late = over = True
                launch.leave()
                break
            await hub.sleep(pause if deadline is None else max(0.0, min(pause, deadline - monotonic())))
            over = launch.is_over()
            pause = min(pause * 2.0, PAUSE_MAX)
    except BaseException as error:
        if process.pid > 0 and not isinstance(error, errors.SpawnError):
            await _undo(hub, process)
        raise
    finally:
        hub.launching -= 1


async def _undo(hub: Hub, process: Process) -> None:
    """See a child gone that was being made."""
    if hub.reactor.inert:
        return
    process.kill()
    ended = hub.event()
    watch = ExitWatch(process, hub.reactor, lambda _: ended.set())
    watch.begin()
    try:
        await outlast_death(hub, process, ended)
    finally:
        watch.close()
        if hub.reactor.inert or has_ended(process):
            process.abandon()
        else:
            process.detach()


async def outlast_death(hub: Hub, process: Process, ended: Event) -> None:
    """Wait for an event that the end of a child sets, which was killed, whatever is cancelled meanwhile.

    Not for longer than blocking code waits for one that does not die: a tracer or a file system can hold it.
    """
    killed = monotonic()
    timer = hub.reactor.call_after(HELD_EVERY, Again(lambda: look()))

    def look() -> None:
        nonlocal timer
        timer.cancel()
        if process.is_held(killed):
            ended.set()
        else:
            timer = hub.reactor.call_after(HELD_EVERY, Again(look))

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


async def _feed(hub: Hub, end: OwnedFd, source: AsyncIterable[bytes]) -> None:
    """Write what an asynchronous iterable gives, and close stdin at its end, but not when it fails."""
    count = 0
    try:
        async for item in source:
            try:
                chunk = memoryview(item).cast("B")
            except TypeError:
                raise TypeError(f"input: item {count} must be bytes-like, not {type(item).__name__}") from None
            count += 1
            try:
                await pour(hub, end, chunk)
            except BrokenPipeError:
                # A reader that has gone is no error: the child's status tells (GOTCHAS E4).
                break
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
