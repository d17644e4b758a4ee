"""The futures of a blocking pool, which are those of `concurrent.futures`."""

from __future__ import annotations

from concurrent import futures

from fastproc.pool._task import KILL, STOP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._values.command import Expression
    from fastproc._values.status import Result
    from fastproc.pool._task import Task


class Future(futures.Future["Result"]):
    """What becomes of a task: a `concurrent.futures.Future` whose result is a Result.

    `as_completed()` and `wait()` of that module take it, as does `asyncio.wrap_future()`. Unlike other futures it can
    be cancelled while it runs.

    Attributes:
        partial: of a task that was cancelled while it ran, once its child is gone: the Result up to then.
    """

    __module__ = "fastproc.pool"

    def __init__(self) -> None:
        """A future without its task."""
        super().__init__()
        self._task: Task | None = None
        self.partial: Result | None = None

    def cancel(self, *, kill: bool = False) -> bool:
        """Cancel the task: take it out of the queue, or end what runs of it. Return whether it had not ended.

        The future is cancelled at once; what runs gets SIGTERM, and SIGKILL after its grace (with `kill` SIGKILL at
        once), and keeps its place in the pool until it is gone.
        """
        if not self.cancelled() and not self._cancel():
            return False
        assert self._task is not None
        self._task.cancel(KILL if kill else STOP)
        return True

    def _cancel(self) -> bool:
        if not super().cancel():
            return False
        with self._condition:
            # as_completed() and wait() take it for done only when somebody has said so, once.
            if self._state == "CANCELLED":
                self.set_running_or_notify_cancel()
        return True

    def running(self) -> bool:
        """Whether the task has begun and not ended."""
        return self._task is not None and not self.done() and self._task.is_running

    @property
    def tries(self) -> int:
        """How often the task was started, or is about to be."""
        return 0 if self._task is None else self._task.tries

    @property
    def lost_workers(self) -> tuple[str, ...]:
        """The workers of the pool's executor that held the task and were lost: it was run again elsewhere, or given up.

        Also those of which its Result does not know, as they were lost when it had come.
        """
        return () if self._task is None else self._task.lost

    @property
    def expression(self) -> Expression:
        """What it runs."""
        assert self._task is not None
        return self._task.expression

    def _deliver(self, task: Task, result: Result | None, error: BaseException | None) -> None:
        if task.cancelled or self.cancelled():
            self.partial = result
            self._cancel()
            return
        try:
            if error is not None:
                self.set_exception(error)
            else:
                self.set_result(result)  # type: ignore[arg-type]
        except futures.InvalidStateError:
            # It was cancelled in this moment.
            self.partial = result
