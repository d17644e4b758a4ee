"""The tasks of a pool that Python runs, on the reactor of their channel: limits, callbacks, whole trees, pipelines."""

from __future__ import annotations

from fastproc._engine.fds import Opened
from fastproc._engine.resolve import resolve
from fastproc._engine.running import add_result, conclude
from fastproc._engine.running import begin as begin_exchange
from fastproc.aio._hub import Scope
from fastproc.pipeline._request import Request
from fastproc.pipeline._request import attach as attach_result
from fastproc.pipeline._request import conclude as conclude_run
from fastproc.pipeline._run import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastproc._engine.reactor import Reactor
    from fastproc._values.status import Result
    from fastproc.pool._task import Kind, Task

_KILL = 2


class Running:
    """One task that the reactor drives.

    Args:
        task: whose turn has come.
        reactor: of its channel.
    """

    def __init__(self, task: Task, reactor: Reactor) -> None:
        self.task = task
        self.reactor = reactor
        self.failures: list[BaseException] = []
        self.files = Opened()
        self.opened = Opened()
        # What a callback raises ends the task, not who drives the reactor.
        self.scope: Any = Scope(reactor, self._on_error)
        self.run: Any = None
        self.request: Request | None = None
        self._ticket = task.ticket
        self._over = False

    def open(self) -> None:
        """Start it.

        Raises:
            SpawnError: and whatever its files, callbacks or arguments raise. Nothing is left.
        """
        kind = self.task.kind
        try:
            if kind is None or kind.settled.composed:
                self._open_run(kind)
            else:
                self._open_exchange(kind)
        except BaseException:
            self.break_off()
            raise

    def break_off(self) -> None:
        """End it at once, and tell nobody."""
        self._over = True
        try:
            if self.run is not None:
                self.run.on_done = None
                self.run.abort()
        finally:
            self._close()

    def _open_exchange(self, kind: Kind) -> None:
        command = kind.applied(self.task.expression)  # type: ignore[arg-type]
        exchange = self.run = begin_exchange(command, kind.settled, self.scope, self.files, None, self._on_done)
        exchange.process.make(resolve(command, self.opened, exchange.deadline), True, exchange.deadline)
        self.opened.close()
        exchange.open()

    def _open_run(self, kind: Kind | None) -> None:
        task = self.task
        options = task.options or {}
        expression = task.expression if kind is None else kind.applied(task.expression)  # type: ignore[arg-type]
        self.request = Request(expression, options)
        self.request.settings.stays = True
        self.run = Run(self.request.expression, self.scope, self.request.settings, self._on_done)
        self.run.open()

    def _on_done(self, _run: object) -> None:
        # Not here, in the middle of its last step.
        self.reactor.call_at(0.0, self)

    def __call__(self) -> None:
        """Tell its channel what it amounts to. Called by the reactor when it is done."""
        if self._over:
            return
        result: Result | None = None
        error: BaseException | None = None
        try:
            result = self._conclude()
            if self.failures:
                error = self.failures[0]
                if self.request is None:
                    assert self.task.kind is not None
                    add_result(error, self.run, self.task.kind.settled, self.opened)
                else:
                    attach_result(error, self.run)
        except Exception as broken:
            error = self.failures[0] if self.failures else broken
            result = getattr(error, "result", None)
        finally:
            self._close()
        self.task.channel.released(self.task, result, error)

    def _conclude(self) -> Result:
        if self.request is not None:
            return conclude_run(self.run, self.request)
        assert self.task.kind is not None
        return conclude(self.run, self.task.kind.settled, self.opened)

    def _on_error(self, error: BaseException) -> None:
        if isinstance(error, Exception):
            self.failures.append(error)
            self.end(_KILL)
        else:
            asked = self.task.asked
            self.halved(error)
            if asked:
                # The task counts as cancelled: nobody else would hear of it.
                raise error

    def halved(self, error: BaseException) -> None:
        """End it where it stands: a signal handler may have raised in the middle of a step.

        Its end would be reported to nobody, so the channel gets the exception instead of what it amounts to.
        """
        run = self.run
        if run is not None:
            run.on_done = None
        try:
            if run is not None and not run.done:
                if self.request is None:
                    run.cut_off()
                else:
                    run.abort()
            if run is not None and not self._over:
                self._add_result(error)
        finally:
            self._over = True
            try:
                self._close()
            finally:
                self.task.channel.cut_off(self.task, self._ticket, error)

    def _add_result(self, error: BaseException) -> None:
        try:
            if self.request is None:
                assert self.task.kind is not None
                add_result(error, self.run, self.task.kind.settled, self.opened)
            else:
                attach_result(error, self.run)
        except Exception:
            # Such as that nobody knows how it ended: the one on its way is the one to tell.
            pass

    def end(self, how: int) -> None:
        """End it, as its deadline would, or at once; it is done later."""
        ask: Callable[[], object] = self.run.kill if how == _KILL else self.run.stop
        try:
            ask()
        except OSError:
            # It may not be killed (a set-user-ID program, kill(2)).
            self.run.forsake()
        except BaseException as error:
            self.halved(error)
            raise

    def _close(self) -> None:
        self.files.close()
        self.opened.close()


def begin(task: Task, reactor: Reactor) -> Running:
    """Start a task; what it amounts to is told to its channel."""
    running = Running(task, reactor)
    try:
        running.open()
        return running
    except BaseException:
        # Of a signal handler, when it is open already: nobody else has it.
        running.break_off()
        raise
