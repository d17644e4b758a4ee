"""Expressions of commands in an event loop: run to their end, started, or line by line, while other tasks go on."""

from __future__ import annotations

from fastproc import errors
from fastproc._engine.reactor import deadline_from
from fastproc._engine.signal_api import SIGKILL
from fastproc._engine.streams.output_queue import CUT
from fastproc._values.lines import LineSplitter
from fastproc._values.quoting import cut
from fastproc._values.status import KILLED
from fastproc.aio._current import current_hub
from fastproc.aio._hub import Again, Scope, end_all
from fastproc.pipeline._request import Request, attach, conclude
from fastproc.pipeline._run import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Mapping
    from typing import Any, Unpack

    from fastproc._values.command import Expression, OptionsDict
    from fastproc.aio._hub import Event
    from fastproc.pipeline._result import PipelineResult


class _Running:
    """A Run on a loop's hub, and the event by which its task waits."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.hub = current_hub()
        self.ended = self.hub.event()
        self.wake = self.ended
        self.waiters: list[Event] = []
        self.ends: list[Event] = []
        self.failures: list[BaseException] = []
        # Whether one of them was raised where the caller sees it.
        self.told = False
        scope = Scope(self.hub.reactor, self._on_error)
        self.run = Run(request.expression, scope, request.settings, self._on_done)  # type: ignore[arg-type]
        self.run.plumbing.on_ready = lambda: self.wake.set()

    def open(self) -> None:
        """Start what is to be started first; whatever is raised leaves no child."""
        try:
            self.run.open()
        except BaseException:
            # Of a signal handler, in the middle of a step: nothing can be waited for.
            if not self.hub.reactor.inert:
                self.run.abort()
            raise

    def _on_done(self, _run: Run) -> None:
        self.ended.set()
        for event in self.ends:
            event.set()
        self._wake_all()

    def _abort(self) -> None:
        self.run.abort()
        self._on_done(self.run)

    def _wake_all(self) -> None:
        self.wake.set()
        for event in self.waiters:
            event.set()

    def _on_error(self, error: BaseException) -> None:
        # What a callback raised in the reactor's pump: the children have no future, and the task gets to know.
        self.failures.append(error)
        if not isinstance(error, Exception):
            # What a signal handler raises may come in the middle of a step: the end would be reported to nobody.
            self._abort()
        else:
            try:
                self.run.kill()
            except OSError:
                # One of them may not be killed (a set-user-ID program, kill(2)).
                self.run.forsake()
        self._wake_all()

    def check(self) -> None:
        if self.failures:
            self.told = True
            raise self.failures[0]

    def check_interrupt(self) -> None:
        """Raise what a signal handler has raised, if nobody was told of it."""
        if self.failures and not self.told and not isinstance(self.failures[0], Exception):
            self.check()

    async def leave(self) -> None:
        """End what still runs, whatever is cancelled meanwhile."""
        try:
            if self.run.children and not self.hub.reactor.inert:
                # Of its own: a failure sets the other one, for who waits.
                ended = self.hub.event()
                self.ends.append(ended)
                await end_all(self.hub, self.run, ended, self.request.settings.grace)
        finally:
            self.cut_off()

    def cut_off(self) -> None:
        """End at once what still runs: a signal handler has raised in the middle of its orderly end."""
        if not self.run.done and not self.hub.reactor.inert:
            self._abort()


async def run_expression(expression: Expression, options: Mapping[str, Any]) -> PipelineResult:
    """Run an expression to its end; as pipeline.run()."""
    running = _Running(Request(expression, options))
    try:
        running.open()
        await running.ended.wait()
        running.check()
    except BaseException as error:
        await running.leave()
        if not running.hub.reactor.inert:
            attach(error, running.run)
        raise
    return conclude(running.run, running.request)


async def lines(
    expression: Expression,
    *,
    text: bool = False,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | bytes = "\n",
    keep_ends: bool = False,
    **options: Unpack[OptionsDict],
) -> AsyncIterator[Any]:
    """Start an expression and give the lines of its standard output as they come, without their ends.

    As `Expression.lines()`, with its arguments. A loop that is left early should close the iterator, as
    `contextlib.aclosing()` does: then every stage is ended at once, and not only when the loop looks after its
    generators.
    """
    splitter = LineSplitter(newline, encoding=encoding if text else None, errors=errors, keep_ends=keep_ends)
    running = _Running(Request(expression, options, streams=True))
    plumbing = running.run.plumbing
    try:
        try:
            running.open()
            while True:
                piece = plumbing.take()
                if piece is not None:
                    for line in splitter.batch(piece, CUT):
                        yield line
                    while splitter.waits:
                        for line in splitter.resume():
                            yield line
                elif running.run.done:
                    break
                else:
                    running.wake = running.hub.event()
                    if not running.run.done:
                        await running.wake.wait()
                    running.check()
            for line in splitter.finish():
                yield line
            while splitter.waits:
                for line in splitter.resume():
                    yield line
            conclude(running.run, running.request)
        finally:
            if not running.run.done and not running.hub.reactor.inert:
                plumbing.discard()
                await running.leave()
    finally:
        running.cut_off()
        running.check_interrupt()


lines.__module__ = "fastproc.aio"


class Pipeline:
    """A running expression in an event loop: what `fastproc.Pipeline` is in blocking code; what waits is awaited.

    What is captured is read as the loop goes on. `aio.start()` makes it; `async with` kills and reaps what still runs
    at the end of the block. Only for tasks of its own loop.
    """

    __module__ = "fastproc.aio"

    __slots__ = ("_running",)

    def __init__(self, running: _Running) -> None:
        self._running = running

    def __repr__(self) -> str:
        """Show the line, the pids, and whether it runs."""
        state = "ended" if self.done else "running"
        return f"<Pipeline `{cut(str(self._running.run.expression), 300)}` pids={self.pids} {state}>"

    @property
    def pids(self) -> list[int]:
        """The pids of the commands that were started, in the order of the expression."""
        return [child.process.pid for child in self._running.run.ordered()]

    @property
    def done(self) -> bool:
        """Whether all has ended."""
        return self._running.run.done

    async def wait(self, timeout: float | None = None) -> PipelineResult:
        """Wait for the end of all, and give the result; again and again the same. Several tasks may wait.

        Args:
            timeout: seconds at most; None for no limit. Nothing is stopped then, nor when the task is cancelled.

        Raises:
            TimeoutExpired: it still runs (`result` is None), or the deadline that `start()` was given passed.
            ExitError, OutputTooLarge, ExitStatusUnknown: as run().
        """
        running = self._running
        deadline = deadline_from("timeout", timeout)
        if not running.run.done:
            event = running.hub.event()
            timer = None if deadline is None else running.hub.reactor.call_at(deadline, Again(event.set))
            running.waiters.append(event)
            try:
                await event.wait()
            finally:
                running.waiters.remove(event)
                if timer is not None:
                    timer.cancel()
        running.check()
        if not running.run.done:
            assert timeout is not None
            raise errors.timeout_expired(str(running.run.expression), timeout)
        return conclude(running.run, running.request)

    def try_wait(self) -> PipelineResult | None:
        """Give the result, or None when it still runs. Raises as wait()."""
        self._running.check()
        return conclude(self._running.run, self._running.request) if self.done else None

    async def stop(self) -> None:
        """End every command: SIGTERM, and SIGKILL when the grace of `start()` is over; wait for them."""
        await self._running.leave()
        self._running.check_interrupt()

    def kill(self) -> None:
        """Send SIGKILL to every command that runs, and to nobody else; no further one is started. Does not wait.

        Raises:
            PermissionError: one of them runs as another user; the others got it.
        """
        run = self._running.run
        run.stopping = True
        run.flags |= 0 if run.done else KILLED
        run.send_signal(SIGKILL)

    def send_signal(self, sig: int) -> None:
        """Send a signal to every command that runs; as kill()."""
        self._running.run.send_signal(sig)

    async def __aenter__(self) -> Pipeline:
        self._running.run.enter()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        running = self._running
        try:
            if not running.run.done and not running.hub.reactor.inert:
                try:
                    running.run.kill()
                except OSError:
                    running.run.forsake()
                await running.leave()
        finally:
            running.cut_off()
        running.check_interrupt()


class StartingPipeline:
    """A start of an expression that is awaited, or entered by `async with`."""

    __slots__ = ("_expression", "_options", "_pipeline")

    def __init__(self, expression: Expression, options: Mapping[str, Any]) -> None:
        """Look at the options, which raises at once what is wrong with them."""
        Request(expression, options)
        self._expression = expression
        self._options = options
        self._pipeline: Pipeline | None = None

    async def _start(self) -> Pipeline:
        running = _Running(Request(self._expression, self._options))
        try:
            running.open()
            return Pipeline(running)
        except BaseException:
            await running.leave()
            raise

    def __await__(self) -> Generator[Any, Any, Pipeline]:
        return self._start().__await__()

    async def __aenter__(self) -> Pipeline:
        try:
            self._pipeline = await self._start()
            self._pipeline._running.run.enter()
            return self._pipeline
        except BaseException:
            if self._pipeline is not None:
                await self._pipeline._running.leave()
            raise

    async def __aexit__(self, *exc: object) -> None:
        assert self._pipeline is not None
        await self._pipeline.__aexit__(*exc)
