"""The life of a blocking pool: the thread that serves its futures, its end, and what becomes of one that is dropped."""

from __future__ import annotations

from weakref import ref

from fastproc._engine.reactor import deadline_from
from fastproc._values.loading import loaded
from fastproc.pool._front import Front
from fastproc.pool._settings import look
from fastproc.pool._task import KILL, STOP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from fastproc.pool._core import Crew
    from fastproc.pool._gate import Gate
    from fastproc.pool._server import Server


class _Guard(ref["PoolBase"]):
    """Sees a pool dropped that was not ended: a weak reference, which goes when it is.

    Not a finalizer, which would be called for each: what a signal handler raises in one is lost.
    """

    __slots__ = ("crew", "scoped", "servers")

    def __new__(cls, pool: PoolBase) -> _Guard:
        return ref.__new__(cls, pool, _on_drop)

    def __init__(self, pool: PoolBase) -> None:
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


class PoolBase(Front):
    """A pool without submit() and map().

    Args:
        crew: its threads.
        gate: as of Pool.
    """

    def __init__(self, crew: Crew, gate: Gate | Callable[[], bool] | None = None) -> None:
        """Look at the gate for the first time."""
        self._servers: dict[int, Server] = {}
        self._crew = crew
        self._gate = gate
        self._guard: _Guard | None = _watch_exit(self)
        if gate is not None:
            self._crew.gated = not look(gate)
            self._crew.adjust()
            self._serve()

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

    def __enter__(self) -> Self:
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


def _watch_exit(pool: PoolBase) -> _Guard:
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
