"""Expressions of commands in an event loop: run to their end, or line by line, while other tasks go on."""

from __future__ import annotations

from fastproc._engine.pipeline import Run
from fastproc._engine.request import Request, attach, conclude
from fastproc._values.capture import LineSplitter
from fastproc.aio._hub import Scope, current_hub
from fastproc.aio._run import end_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from typing import Any, Unpack

    from fastproc._values.expression import Expression
    from fastproc._values.kinds import OptionsDict
    from fastproc._values.stages import PipelineResult


class _Running:
    """A Run on a loop's hub, and the event by which its task waits."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.hub = current_hub()
        self.ended = self.hub.event()
        self.wake = self.ended
        self.failures: list[BaseException] = []
        scope = Scope(self.hub.reactor, self._on_error)
        self.run = Run(request.expression, scope, request.settings, self._on_done)  # type: ignore[arg-type]
        self.run.plumbing.on_ready = lambda: self.wake.set()

    def _on_done(self, _run: Run) -> None:
        self.ended.set()
        self.wake.set()

    def _on_error(self, error: BaseException) -> None:
        # What a callback raised in the reactor's pump: the children have no future, and the task gets to know.
        self.failures.append(error)
        try:
            self.run.kill()
        except OSError:
            # One of them may not be killed (a set-user-ID program, kill(2)).
            self.run.forsake()
        self.wake.set()

    def check(self) -> None:
        if self.failures:
            raise self.failures[0]

    async def leave(self) -> None:
        """End what still runs, whatever is cancelled meanwhile."""
        if self.run.children:
            await end_all(self.hub, self.run, self.ended, self.request.settings.grace)


async def run_expression(expression: Expression, options: Mapping[str, Any]) -> PipelineResult:
    """Run an expression to its end; as pipeline.run()."""
    running = _Running(Request(expression, options))
    try:
        running.run.open()
        await running.ended.wait()
        running.check()
    except BaseException as error:
        await running.leave()
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
        running.run.open()
        while True:
            piece = plumbing.take()
            if piece is not None:
                for line in splitter.feed(piece):
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
        conclude(running.run, running.request)
    finally:
        if not running.run.done:
            plumbing.discard()
            await running.leave()
