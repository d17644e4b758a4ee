"""The runners of a map: the only part that executes tasks.

A runner gets expressions with options, and a function that it calls with the result or error of each. It calls this
function in `start()` or `turn()`, in the thread that drives it. Any object with these methods can be a runner.
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
        """The interface of a runner."""

        def start(self, expression: Expression, options: Mapping[str, Any], deliver: Deliver) -> None:
            """Run an expression when a worker is free.

            `deliver` is called once, during this call or a `turn()`, with the result or the error; with neither if the
            task was cancelled before it started.
            """

        def turn(self, seconds: float | None) -> None:
            """Wait for an event, for at most `seconds`, and call the deliver functions that are due."""

        def kill(self) -> None:
            """Kill the running tasks. They are still delivered."""

        def close(self) -> None:
            """Kill the running tasks, wait for their end, and deliver nothing more."""


def make(workers: int, options: Mapping[str, Any], executor: futures.Executor | None = None) -> Runner:
    """Return a runner: by the threads of a pool, by a reactor if this system has no pools, or by an executor.

    Args:
        workers: the maximum of tasks that run at the same time. A pool queues further tasks.
        options: the options of most tasks.
        executor: as for Pool.

    Raises:
        TypeError, ValueError: `executor` is not an executor, or an option cannot be sent to it.
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
    """Runs tasks by the threads of a pool, which are started with the first task."""

    def __init__(self, workers: int, options: Mapping[str, Any], executor: futures.Executor | None = None) -> None:
        loaded("fastproc.pool._settings")
        from fastproc.pool import _settings

        self._door = _settings
        self._workers = workers
        self._options = options
        self._executor = executor
        # The defaults of a pool cannot contain an input.
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
        # Options of a command override those of a pool, but not those of a map.
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
"""Number of ended tasks for which one turn waits if enough tasks are running."""


class ReactorRunner:
    """Runs tasks on a reactor."""

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
