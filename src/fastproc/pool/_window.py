"""The items of one map that are under way: taken with a bounded look-ahead, given in their order or as they end."""

from __future__ import annotations

from fastproc.pool._settings import make_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastproc.pool._client import Channel
    from fastproc.pool._retries import Retries
    from fastproc.pool._settings import Items
    from fastproc.pool._task import Task


class Window:
    """What a map has taken and not given.

    Args:
        channel: the map's own.
        taken: makes the expressions, and says how far ahead.
        ordered: whether results are given in the order of their items.
        return_exceptions: whether failures are given too.
        priority: of the tasks.
        retries: of the tasks, or None for the pool's.

    Attributes:
        on_ended: called when a task has ended.
        exhausted: set when there are no more items.
    """

    def __init__(
        self,
        channel: Channel,
        taken: Items,
        ordered: bool,
        return_exceptions: bool,
        priority: int,
        retries: Retries | None,
    ) -> None:
        self.channel = channel
        self.exhausted = False
        self.on_ended: Callable[[], object] | None = None
        self._taken = taken
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._priority = priority
        self._retries = retries
        # Without a task where none could be made.
        self._ended: dict[int, tuple[Task | None, Any, BaseException | None]] = {}
        self._numbers: dict[Task, int] = {}
        self._begun = 0
        self._given = 0

    @property
    def is_low(self) -> bool:
        """Whether more is to be taken: by halves, so that the threads and Python do not take turns for each."""
        return not self.exhausted and self._begun - self._given <= self._taken.ahead // 2

    @property
    def has_room(self) -> bool:
        """Whether one more may be taken."""
        return not self.exhausted and self._begun - self._given < self._taken.ahead

    @property
    def is_over(self) -> bool:
        """Whether all was given."""
        return self.exhausted and self._given == self._begun

    @property
    def is_ready(self) -> bool:
        """Whether there is something to give."""
        return bool(self._ended) and (not self._ordered or self._given in self._ended)

    def add(self, item: Any) -> None:
        """Submit one more. Where no task can be made of an item, that is its failure, and the others go on.

        Raises:
            RuntimeError: the pool is closed.
        """
        channel = self.channel
        channel.crew.check_open()
        try:
            expression, options = self._taken.expression(item)
            task = make_task(channel.crew, channel, expression, options, self._priority, self._retries, self._deliver)
        except Exception as error:
            self._ended[self._begun] = None, None, error
            self._begun += 1
            if channel.crew.fail_fast and channel.crew.failure is None:
                channel.crew.failure = error
                channel.crew.break_off()
            return
        self._numbers[task] = self._begun
        self._begun += 1
        channel.submit(task)

    def _deliver(self, task: Task, result: Any, error: BaseException | None) -> None:
        number = self._numbers.get(task)
        if number is not None:
            # In this order: after an interrupt it is called again.
            self._ended[number] = task, result, error
            del self._numbers[task]
        if self.on_ended is not None:
            self.on_ended()

    def give(self) -> Any:
        """Give the next, or raise what it amounts to.

        Raises:
            ExitError, TimeoutExpired, SpawnError, ExitStatusUnknown: as run().
            CancelledError: the pool was stopped.
        """
        number = self._given if self._ordered else next(iter(self._ended))
        task, result, error = self._ended.pop(number)
        self._given += 1
        if task is not None and task.cancelled:
            error = cancelled_error(result)
        if error is None:
            return result
        if self._return_exceptions and isinstance(error, Exception):
            return error
        raise error

    def interrupt(self) -> BaseException | None:
        """Return what a signal handler raised in a task whose result was not given, such as KeyboardInterrupt."""
        errors = (error for _, _, error in self._ended.values())
        return next((error for error in errors if error is not None and not isinstance(error, Exception)), None)


def cancelled_error(result: object = None) -> BaseException:
    """Make the exception of a task that was cancelled, with the Result up to then, if it ran."""
    from concurrent.futures import CancelledError

    error = CancelledError("the task was cancelled")
    error.result = result  # type: ignore[attr-defined]
    return error
