"""Many expressions, a few at a time, on one reactor: one wait for all of them."""

from __future__ import annotations

from fastproc import errors
from fastproc._engine.killable import SIGKILL
from fastproc._engine.pipeline import Run
from fastproc._engine.reactor import Reactor
from fastproc._engine.request import Request, conclude
from fastproc._values.expression import Expression

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Mapping as AnyMapping
    from typing import Any

    from fastproc._values.stages import PipelineResult

BACKLOG = 4
"""Results that may wait to be taken, for each worker, while an earlier item is still running."""


class Mapping:
    """What `fastproc.map` has under way: runs on one reactor, and outcomes that were not taken yet.

    Args:
        function: makes the expression of an item.
        items: what is left of them.
        workers: how many run at the same time.
        ordered: whether the results come in the order of the items.
        options: of each run.
    """

    def __init__(
        self,
        function: Callable[[Any], Expression],
        items: Iterator[Any],
        workers: int,
        ordered: bool,
        options: AnyMapping[str, Any],
    ) -> None:
        self._function = function
        self._items = items
        self._workers = workers
        self._ordered = ordered
        self._options = options
        self._reactor = Reactor()
        self._active: dict[int, Run] = {}
        self._outcomes: dict[int, Callable[[], PipelineResult]] = {}
        self._taken = 0
        self._next = 0
        self._exhausted = False

    def results(self) -> Iterator[PipelineResult]:
        """Give one after the other."""
        try:
            while True:
                self._fill()
                outcome = self._pick()
                if outcome is not None:
                    self._taken += 1
                    yield outcome()
                elif not self._active:
                    return
                else:
                    self._reactor.run_once()
        finally:
            for running in list(self._active.values()):
                running.stopping = True
                running.send_signal(SIGKILL)
            for running in list(self._active.values()):
                running.abort()
            self._reactor.close()

    def _pick(self) -> Callable[[], PipelineResult] | None:
        if self._ordered:
            return self._outcomes.pop(self._taken, None)
        return self._outcomes.pop(next(iter(self._outcomes))) if self._outcomes else None

    def _fill(self) -> None:
        while (
            not self._exhausted
            and len(self._active) < self._workers
            and self._next - self._taken < self._workers * BACKLOG
        ):
            try:
                item = next(self._items)
            except StopIteration:
                self._exhausted = True
                return
            self._begin(self._next, item)
            self._next += 1

    def _begin(self, number: int, item: Any) -> None:
        expression = self._function(item)
        if not isinstance(expression, Expression):
            raise TypeError(f"function: must return a command or another expression, not {type(expression).__name__}")
        request = Request(expression, self._options)

        def done(running: Run) -> None:
            del self._active[number]
            self._outcomes[number] = lambda: conclude(running, request)

        running = Run(request.expression, self._reactor, request.settings, done)
        try:
            self._active[number] = running
            running.open()
        except errors.ProcessError as error:
            self._active.pop(number, None)
            self._outcomes[number] = _raiser(error)


def _raiser(error: BaseException) -> Callable[[], PipelineResult]:
    def fail() -> PipelineResult:
        raise error

    return fail
