"""What runs the tasks of a map: the only part that knows how.

A runner is given expressions with options and a function to call with what became of each; it calls it from `turn()`,
in the thread that drives it. Anything with these methods can stand in its place.
"""

from __future__ import annotations

from fastproc import errors
from fastproc._engine.killable import SIGKILL
from fastproc._engine.pipeline import Run
from fastproc._engine.reactor import Reactor
from fastproc._engine.request import Request, conclude

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from fastproc._values.expression import Expression
    from fastproc._values.status import Result

    Deliver = Callable[[Result | None, BaseException | None], object]

    class Runner(Protocol):
        """What a map asks of who runs its tasks."""

        def start(self, expression: Expression, options: Mapping[str, Any], deliver: Deliver) -> None:
            """Run an expression. `deliver` is called once, during this call or a `turn()`, with its result or error."""

        def turn(self, seconds: float | None) -> None:
            """Wait until something has happened, for so many seconds at most; call what is to be called."""

        def kill(self) -> None:
            """End what runs; all of it is still delivered."""

        def close(self) -> None:
            """End what runs, wait for it, and deliver nothing any more."""


class ReactorRunner:
    """Runs them on one reactor of its own."""

    def __init__(self) -> None:
        self._made: Reactor | None = None
        self._active: set[Run] = set()

    @property
    def _reactor(self) -> Reactor:
        if self._made is None:
            self._made = Reactor()
        return self._made

    def start(self, expression: Expression, options: Mapping[str, Any], deliver: Deliver) -> None:
        """See Runner."""
        request = Request(expression, options)

        def done(running: Run) -> None:
            self._active.discard(running)
            try:
                result = conclude(running, request)
            except errors.ProcessError as error:
                deliver(getattr(error, "result", None), error)
            else:
                deliver(result, None)

        running = Run(request.expression, self._reactor, request.settings, done)
        self._active.add(running)
        try:
            running.open()
        except errors.ProcessError as error:
            self._active.discard(running)
            deliver(None, error)

    def turn(self, seconds: float | None) -> None:
        """See Runner."""
        self._reactor.run_once(seconds)

    def kill(self) -> None:
        """See Runner."""
        for running in list(self._active):
            running.stopping = True
            running.send_signal(SIGKILL)

    def close(self) -> None:
        """See Runner."""
        self.kill()
        for running in list(self._active):
            running.on_done = None
            running.abort()
        self._active.clear()
        if self._made is not None:
            self._made.close()
