"""What runs the tasks of a map: the only part that knows how.

A runner is given expressions with options and a function to call with what became of each; it calls it from `turn()`,
in the thread that drives it. Anything with these methods can stand in its place.
"""

from __future__ import annotations

from fastproc import errors
from fastproc._engine.reactor import Reactor
from fastproc._engine.signal_api import SIGKILL
from fastproc._values.command import Command
from fastproc._values.loading import loaded
from fastproc.pipeline._request import Request, conclude
from fastproc.pipeline._run import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent import futures
    from typing import Any, Protocol

    from fastproc._values.command import Expression
    from fastproc._values.status import Result
    from fastproc.pool._client import Channel

    Deliver = Callable[[Result | None, BaseException | None], object]

    class Runner(Protocol):
        """What a map asks of who runs its tasks."""

        def start(self, expression: Expression, options: Mapping[str, Any], deliver: Deliver) -> None:
            """Run an expression when there is a place for it.

            `deliver` is called once, during this call or a `turn()`, with its result or error; with neither when it
            was ended before it began.
            """

        def turn(self, seconds: float | None) -> None:
            """Wait until something has happened, for so many seconds at most; call what is to be called."""

        def kill(self) -> None:
            """End what runs; all of it is still delivered."""

        def close(self) -> None:
            """End what runs, wait for it, and deliver nothing any more."""


def make(workers: int, options: Mapping[str, Any], executor: futures.Executor | None = None) -> Runner:
    """Return what runs the tasks: the threads of a pool, or a reactor where this system has none; or an executor.

    Args:
        workers: how many run at the same time at most; the pool holds what is given beyond that.
        options: what most tasks are run with.
        executor: as of Pool.

    Raises:
        TypeError, ValueError: it is no executor, or an option cannot be sent to it.
    """
    if executor is not None:
        loaded("fastproc._values.options")
        from fastproc._values.options import checked

        loaded("fastproc.pool._sendable")
        from fastproc.pool._sendable import check_values

        loaded("fastproc.pool._make_crew")
        from fastproc.pool._make_crew import make_link

        make_link(executor)
        check_values(checked(options))
        return PoolRunner(workers, options, executor)
    try:
        return PoolRunner(workers, options)
    except (errors.Unsupported, ImportError):
        return ReactorRunner()


class PoolRunner:
    """Runs them by the threads of a pool, which are made with the first task."""

    def __init__(self, workers: int, options: Mapping[str, Any], executor: futures.Executor | None = None) -> None:
        loaded("fastproc.pool._settings")
        from fastproc.pool import _settings

        self._door = _settings
        self._workers = workers
        self._options = options
        self._executor = executor
        # A pool's defaults are for commands with any stdin.
        self._shared = "input" not in options
        self._made: Channel | None = None

    @property
    def _channel(self) -> Channel:
        if self._made is None:
            from fastproc.pool._client import open_channel
            from fastproc.pool._make_crew import make_crew

            shared = self._options if self._shared else {}
            crew = make_crew(self._workers, None, None, 0, False, None, shared, self._executor)
            self._made = open_channel(crew)
        return self._made

    def start(self, expression: Expression, options: Mapping[str, Any], deliver: Deliver) -> None:
        """See Runner."""
        channel = self._channel
        crew = channel.crew
        said = None
        # What a command says itself goes before the pool's options, but not before those of a map.
        if (
            options is not self._options
            or not self._shared
            or type(expression) is not Command
            or expression._options.values
        ):
            try:
                expression, said = self._door.as_expression(crew, expression, (), dict(options))
            except (TypeError, ValueError) as error:
                deliver(None, error)
                return

        def delivered(_task: object, result: Result | None, error: BaseException | None) -> None:
            deliver(result, error)

        try:
            task = self._door.make_task(crew, channel, expression, said, 0, None, delivered)
        except (TypeError, ValueError) as error:
            deliver(None, error)
            return
        channel.submit(task)

    def turn(self, seconds: float | None) -> None:
        """See Runner."""
        channel = self._channel
        with channel.lock:
            channel.turn(max(1, min(_WANT, len(channel.records) // 2)), seconds)

    def kill(self) -> None:
        """See Runner."""
        if self._made is not None:
            for task in list(self._made.records.values()):
                task.cancel(_KILL)

    def close(self) -> None:
        """See Runner."""
        if self._made is not None:
            self._made.finish(_KILL)
            self._made.crew.end()


_KILL = 2
_WANT = 32
"""Ends for which a moment is waited, where enough others are under way."""


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
        try:
            request = Request(expression, options)
        except (TypeError, ValueError) as error:
            deliver(None, error)
            return

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
