"""The blocking pool."""

from __future__ import annotations

from weakref import ref

from fastproc._engine.reactor import deadline_from
from fastproc._values.loading import loaded
from fastproc.pool._client import Channel
from fastproc.pool._front import Front
from fastproc.pool._gate import Gate
from fastproc.pool._retries import Retries, as_retries
from fastproc.pool._settings import Items, as_expression, check_priority, look, make_crew
from fastproc.pool._task import KILL, STOP
from fastproc.pool._window import Window, cancelled_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent import futures
    from typing import Any, Unpack

    from fastproc._values.aliases import OptionsDict, Text
    from fastproc._values.expression import Expression
    from fastproc._values.status import Result
    from fastproc.pool._core import Crew
    from fastproc.pool._futures import Future
    from fastproc.pool._server import Server

WANT = 32
"""Ends for which a map waits a moment, where enough others are under way."""


class _Guard(ref["Pool"]):
    """Sees a pool dropped that was not ended: a weak reference, which goes when it is.

    Not a finalizer, which would be called for each: what a signal handler raises in one is lost.
    """

    __slots__ = ("crew", "scoped", "servers")

    def __new__(cls, pool: Pool) -> _Guard:
        return ref.__new__(cls, pool, _on_drop)

    def __init__(self, pool: Pool) -> None:
        self.crew = pool._crew
        self.servers = pool._servers
        self.scoped = False


def _on_drop(guard: _Guard) -> None:
    if _guards.pop(id(guard.crew), None) is not None and not guard.crew.inert:
        if guard.scoped:
            # An interrupt has come before the end of the block could see to it.
            guard.crew.ending = KILL
            guard.crew.break_off(KILL)
        _end_later(guard.crew, guard.servers.get(0))


def _end_later(crew: Crew, server: Server | None) -> None:
    """Take no more tasks; the threads end when those are done that were submitted."""
    crew.refuse()
    if server is not None:
        server.end_later()
    crew.end()


_guards: dict[int, _Guard] = {}
"""Those of the pools that were not ended."""


class Pool(Front):
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
        self._servers: dict[int, Server] = {}
        self._crew = make_crew(workers, rate, deadline, retries, fail_fast, gate, options, executor)
        self._gate = gate
        self._guard: _Guard | None = _watch_exit(self)
        if gate is not None:
            self._crew.gated = not look(gate)
            self._crew.adjust()
            self._serve()

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
        yield from _results(Window(self._crew.channel(), taken, *arguments), items)

    # Its end

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until no task that was submitted is left; whether that was so within `timeout` seconds.

        Raises:
            RuntimeError: this is a forked copy, where nothing will ever end.
        """
        self._crew.check_own()
        server = self._server
        return server is None or server.drain(deadline_from("timeout", timeout))

    def close(self) -> None:
        """Take no more tasks, wait for those that were submitted, and end the threads.

        A map that is not at its end is stopped.
        """
        if not self._crew.inert:
            self._crew.refuse()
            try:
                self.drain()
            except BaseException:
                self._end(STOP)
                raise
            self._end(STOP)

    def stop(self, *, kill: bool = False) -> None:
        """Cancel what waits, end what runs, wait for that, and end the threads.

        What runs gets SIGTERM, and SIGKILL after its grace; with `kill` SIGKILL at once. An interrupt of the wait makes
        it SIGKILL, and is raised when all has ended.
        """
        if not self._crew.inert:
            self._crew.refuse()
            self._end(KILL if kill else STOP)

    def _end(self, how: int) -> None:
        try:
            self._end_all(how)
        except BaseException:
            # An interrupt: what it has left is ended at once.
            self._end_all(KILL)
            raise

    def _end_all(self, how: int) -> None:
        crew = self._crew
        crew.ending = how
        server = self._server
        if server is not None:
            server.end(how)
        for channel in crew.channels():
            if server is None or not server.ends_itself(channel):
                channel.finish(how)
        crew.end()
        _guards.pop(id(crew), None)
        self._guard = None

    def withdraw(self) -> None:
        """Cancel what was submitted and has not begun."""
        server = self._server
        if server is not None and not self._crew.inert:
            server.withdraw()

    def close_later(self) -> None:
        """Take no more tasks; the threads end when those are done that were submitted."""
        if not self._crew.inert:
            _end_later(self._crew, self._server)

    def __enter__(self) -> Pool:
        guard = self._guard
        if guard is not None:
            guard.scoped = True
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.stop()

    @property
    def _server(self) -> Server | None:
        return self._servers.get(0)

    def _serve(self) -> Server:
        server = self._server
        if server is None or not server.ready:
            loaded("fastproc.pool._server")
            from fastproc.pool._server import Server

            if server is None:
                # A handler may come in between and make one too: the first that is here is used.
                made = Server(self._crew, self._gate)
                server = self._servers.setdefault(0, made)
                if server is not made:
                    made.channel.close()
            if not server.ready:
                server.begin()
        return server


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


def _watch_exit(pool: Pool) -> _Guard:
    """See that nothing of a pool outlives the interpreter, or the last reference to it."""
    if not _guards:
        from atexit import register, unregister

        unregister(_end_all)
        register(_end_all)
    guard = _guards[id(pool._crew)] = _Guard(pool)
    return guard


def _end_all() -> None:
    for guard in list(_guards.values()):
        pool = guard()
        if pool is not None:
            pool.stop(kill=True)
