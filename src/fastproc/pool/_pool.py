"""The blocking pool."""

from __future__ import annotations

from fastproc.pool._base import PoolBase
from fastproc.pool._client import Channel, open_channel
from fastproc.pool._gate import Gate
from fastproc.pool._make_crew import make_crew
from fastproc.pool._retries import Retries, as_retries
from fastproc.pool._settings import Items, as_expression, check_priority
from fastproc.pool._window import Window, cancelled_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent import futures
    from typing import Any, Unpack

    from fastproc._values.aliases import Text
    from fastproc._values.command import Expression, OptionsDict
    from fastproc._values.status import Result
    from fastproc.pool._future import Future

WANT = 32
"""Ends for which a map waits a moment, where enough others are under way."""


class Pool(PoolBase):
    """Runs commands and pipelines, a limited number at a time, and gives their Results.

    Outputs are captured and stdin is empty, unless a command says otherwise. Every command leads a process group of its
    own, with which it is ended; with `kill_tree=True` so is whatever else it has started. The threads of the C core do
    the work: of commands that end within milliseconds no more are started at once than keep the processors busy, all
    others run as many at a time as there are workers. May be used from any thread. As a context manager it waits for
    what was submitted, and stops all when the block is left by an exception.

    Args:
        workers: how many run at the same time; as many as there are CPUs when None. With an executor, how many it is
            given at the same time; 256 when None.
        rate: how many start in a second at most.
        deadline: seconds for each try of a task, from its start. Then its process group, or with `kill_tree` its tree,
            gets SIGTERM, and SIGKILL after `grace` seconds more.
        retries: how often a task that failed is tried again, or a `Retries`, which says when and after what.
        fail_fast: whether the first failure of any task ends all others.
        gate: a `Gate`, or a function; no task is started while it is closed, or gives False. Looked at each second.
        executor: a `concurrent.futures.Executor` whose workers are other processes, perhaps of other machines, such as
            `client.get_executor()` of Dask distributed: the commands run there (docs/clusters.md). It is not shut down.
        options: defaults of `run()` for every command; what a command says itself goes before.

    Raises:
        TypeError, ValueError: an argument is not possible; its name comes first.
        Unsupported: this is not Linux, or its kernel does not tell what the gate asks for.
        OSError: no threads or descriptors are left.
    """

    __module__ = "fastproc"

    _name = "Pool"

    def __init__(
        self,
        workers: int | None = None,
        *,
        rate: float | None = None,
        deadline: float | None = None,
        retries: int | Retries = 0,
        fail_fast: bool = False,
        gate: Gate | Callable[[], bool] | None = None,
        executor: futures.Executor | None = None,
        **options: Unpack[OptionsDict],
    ) -> None:
        """Make the threads."""
        super().__init__(make_crew(workers, rate, deadline, retries, fail_fast, gate, options, executor), gate)

    # Tasks

    def submit(
        self,
        program: Expression | Text | list[Text] | tuple[Text, ...],
        /,
        *args: Text,
        priority: int = 0,
        retries: int | Retries | None = None,
        **options: Unpack[OptionsDict],
    ) -> Future:
        """Queue a command or another expression, and return its Future at once.

        Args:
            program: as of `run()`.
            args: as of `run()`.
            priority: of those that wait the highest starts first; of equal ones the first.
            retries: other than the pool's.
            options: as of `run()`; `timeout` is this task's deadline.

        Raises:
            RuntimeError: the pool is closed, a forked copy, or was ended by a failure.
            TypeError, ValueError: as run().
            OSError: EAGAIN: no thread can be started for the futures (RLIMIT_NPROC).
        """
        self._crew.check_usable()
        expression, given = as_expression(self._crew, program, args, options)  # type: ignore[arg-type]
        tried = None if retries is None else as_retries(retries)
        return self._serve().submit(expression, given, check_priority(priority), tried)

    def map(
        self,
        function: Callable[[Any], Expression] | None,
        items: Iterable[Any],
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        ahead: int | None = None,
        priority: int = 0,
        retries: int | Retries | None = None,
        **options: Unpack[OptionsDict],
    ) -> Iterator[Result]:
        """Run a command or pipeline for each item, and give the results in the order of the items.

        Args:
            function: makes the expression of an item; None: the items are expressions.
            items: also endless; taken one by one, not far ahead of the results.
            ordered: whether the results come in this order, or as they are there.
            return_exceptions: whether what failed is given in its place and the others go on. Else the first failure
                ends this map: its other tasks are killed.
            ahead: at most so many items are submitted before their results are consumed (None: twice the workers + 64).
            priority: as of submit().
            retries: as of submit().
            options: as of `run()`, for each.

        Raises:
            ExitError, TimeoutExpired, SpawnError: of a task, when its turn comes.
            Exception: what function raised, or why no command could be made of an item; the same.
            CancelledError: of `concurrent.futures`: the pool was stopped meanwhile.
            RuntimeError: as submit().
        """
        self._crew.check_usable()
        taken = Items(function, self._crew, ahead, options)
        tried = None if retries is None else as_retries(retries)
        check_priority(priority)
        return self._results(taken, iter(items), ordered, return_exceptions, priority, tried)

    def imap_unordered(
        self, function: Callable[[Any], Expression] | None, items: Iterable[Any], **options: Any
    ) -> Iterator[Result]:
        """As map(), in the order in which the tasks end."""
        return self.map(function, items, ordered=False, **options)

    def _results(self, taken: Items, items: Iterator[Any], *arguments: Any) -> Iterator[Any]:
        # The channel is made with the first result that is asked for.
        yield from _results(Window(open_channel(self._crew), taken, *arguments), items)


def _results(window: Window, items: Iterator[Any]) -> Iterator[Any]:
    """Give the results of a map, one after the other."""
    channel = window.channel
    try:
        while True:
            while window.is_low and window.has_room:
                _fill(window, items)
            while window.is_ready:
                yield window.give()
            if window.is_over:
                return
            if not window.is_low:
                _turn(channel, min(WANT, len(channel.records) // 2))
    finally:
        channel.finish()
        if (error := window.interrupt()) is not None:
            raise error


def _fill(window: Window, items: Iterator[Any]) -> None:
    while window.has_room:
        try:
            item = next(items)
        except StopIteration:
            window.exhausted = True
            return
        window.add(item)


def _turn(channel: Channel, want: int) -> None:
    with channel.lock:
        if channel.records and not channel.closed:
            channel.turn(max(want, 1))
        # Also when a signal handler has stopped the pool meanwhile.
        if channel.closed:
            raise cancelled_error()
