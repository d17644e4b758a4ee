"""The part of the door to C that pools use: threads that run a queue of commands, and trays for the ended ones."""

from __future__ import annotations

from _struct import Struct
from _thread import RLock
from itertools import starmap
from os import register_at_fork, strerror
from weakref import WeakSet

from fastproc import errors
from fastproc._native import SUM_COUNT, spawn_error
from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Any, NamedTuple

    Ticket = Any
    """A struct fp_ticket."""

    class Done(NamedTuple):
        """The fields of struct fp_done, the summary's among them; in fact a plain tuple."""

        key: int
        at: int
        job: int
        what: int
        code: int
        stopped: int
        state: int
        returncode: int
        flags: int
        core_dumped: int
        error: int
        pid: int
        mechanism: int
        duration_ns: int
        out: int
        err: int
        on_heap: int
        usage: bytes


BATCH = 64
"""How many ended tasks cross in one call."""

ARENA = 1 << 18
"""Bytes of small outputs that come with them."""

GONE: int = lib.FP_TASK_GONE
QUEUED: int = lib.FP_TASK_QUEUED
RUNNING: int = lib.FP_TASK_RUNNING
FOREIGN: int = lib.FP_TASK_FOREIGN
PLAIN: int = lib.FP_DONE_PLAIN
JOB: int = lib.FP_DONE_JOB
FAILED: int = lib.FP_DONE_FAILED
GRANTED: int = lib.FP_DONE_GRANTED

_RECORD = Struct(f"@qqPiiq{SUM_COUNT}q{ffi.sizeof('struct fp_usage')}s")
_SIZE: int = ffi.sizeof("struct fp_done")
assert _RECORD.size == _SIZE
_EINTR = 4
_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


_all: WeakSet[Workers] = WeakSet()


def _after_fork() -> None:
    """Another thread of the parent may have held a lock, which nobody would give back here."""
    for workers in list(_all):
        workers.lock = RLock()


register_at_fork(after_in_child=_after_fork)


class Workers:
    """The threads and the queue of one pool.

    Args:
        limit: how many commands run at the same time.
        threads: how many run them.

    Raises:
        OSError: there are no threads or descriptors to be had.
        Unsupported: on another system than Linux.
    """

    __slots__ = ("__weakref__", "_native", "closed", "lock")

    def __init__(self, limit: int, threads: int) -> None:
        # No thread is in the C core with a pool that another one closes.
        self.lock = RLock()
        self.closed = False
        held = ffi.new("void **")
        r = lib.fp_pool_new(limit, threads, held)
        if r == -38:
            raise errors.Unsupported("a pool needs Linux: eventfd(2), epoll(7)")
        _check(r)
        self._native = ffi.gc(held[0], lib.fp_pool_close)
        _all.add(self)

    def close(self) -> None:
        """Kill and reap what still runs, and end the threads. Nobody uses the pool or its trays any more."""
        with self.lock:
            if not self.closed:
                self.closed = True
                ffi.release(self._native)

    def set(self, limit: int, interval_ns: int, gated: bool) -> None:
        """Change the limit, the shortest time between two starts, and whether any are started."""
        with self.lock:
            if not self.closed:
                _check(lib.fp_pool_set(self._native, limit, interval_ns, gated))

    def cancel(self, ticket: Ticket | None, how: int) -> int:
        """Take a task out of the queue, or end its command (2: at once); with 0 only look. Return what it was."""
        with self.lock:
            if ticket is None or self.closed:
                return GONE
            return _check(lib.fp_pool_cancel(self._native, ticket, how))

    def go(self, ticket: Ticket, request: Any, plan: Any) -> int:
        """Say what a task runs whose turn has come."""
        with self.lock:
            if self.closed:
                return -1
            return lib.fp_pool_go(  # type: ignore[no-any-return]
                *(self._native, ticket, request, plan.paths, plan.npaths, plan.argv, plan.argc, plan.env, plan.envc)
            )

    def release(self, ticket: Ticket) -> None:
        """Give back the place of a task that the caller has run himself."""
        with self.lock:
            if not self.closed:
                lib.fp_pool_release(self._native, ticket)

    def count(self) -> tuple[int, int]:
        """Return how many are in the queue and how many run."""
        counts = ffi.new("int64_t[2]")
        with self.lock:
            if not self.closed:
                _check(lib.fp_pool_count(self._native, counts, counts + 1))
        return counts[0], counts[1]


class Tray:
    """Where the tasks of one consumer come when they have ended.

    Attributes:
        fd: a descriptor that is readable when there are some, or somebody rang.
    """

    __slots__ = ("_arena", "_bytes", "_closed", "_counts", "_native", "_pool", "_raw", "_records", "_workers", "fd")

    def __init__(self, workers: Workers) -> None:
        held = ffi.new("void **")
        self._workers = workers
        self._pool = workers._native
        with workers.lock:
            if workers.closed:
                raise RuntimeError("this pool is closed")
            self.fd = _check(lib.fp_tray_new(self._pool, held))
        self._closed = False
        # How many records wait in the buffer: one number, or none.
        self._counts: list[int] = []
        self._native = held[0]
        self._records = _uncleared("struct fp_done[]", BATCH)
        self._raw = ffi.buffer(self._records)
        self._arena = _uncleared("char[]", ARENA)
        self._bytes = ffi.buffer(self._arena)

    def close(self) -> None:
        """Give the descriptor back; no task of this tray is left, and the pool is not closed."""
        with self._workers.lock:
            if not self._closed and not self._workers.closed:
                lib.fp_tray_close(self._native)
            self._closed = True

    def ring(self) -> None:
        """Let whoever waits come back."""
        with self._workers.lock:
            if not self._closed and not self._workers.closed:
                lib.fp_tray_ring(self._native)

    def submit(
        self,
        ticket: Ticket,
        key: int,
        request: Any,
        command: tuple[bytes, int, bytes, int, bytes, int],
        priority: int,
        delay_ns: int,
    ) -> None:
        """Queue a command: paths, arguments and environment with their counts, which must live until it was taken.

        Without a request (None) the task only gets its turn. The new ticket is valid before anything becomes of it.
        """
        with self._workers.lock:
            if self._closed or self._workers.closed:
                raise RuntimeError("this pool is closed")
            r = lib.fp_pool_submit(
                *(self._pool, self._native, key, request or _NULL, *command, priority, delay_ns, ticket)
            )
        if r < 0:
            _check(r)

    def take(self, want: int, wait_ns: int, arrived: deque[tuple[Done, bytes, bytes]]) -> None:
        """Take what has ended, waiting for the first of them: put it and its outputs into the queue.

        Nothing comes after a signal. A handler may raise at any call: what was taken is in the buffer until the one
        call that moves all of it.
        """
        counts = self._counts
        if not counts:
            arguments = (self._native, self._records, BATCH, self._arena, ARENA, want, wait_ns)
            counts.extend(starmap(lib.fp_tray_take, (arguments,)))
        n = counts[0]
        if n <= 0:
            del counts[0]
            if n != -_EINTR:
                _check(n)
            return
        arena = self._bytes
        moved: Any = []
        for done in _RECORD.iter_unpack(self._raw[: n * _SIZE]):
            if done[3] == PLAIN:
                at, out, err = done[1], done[14], done[15]
                middle = at + out
                moved.append((done, arena[at:middle] if out else b"", arena[middle : middle + err] if err else b""))
            else:
                moved.append((done, b"", b""))
        # Between these two no handler runs.
        del counts[0]
        arrived.extend(moved)

    def job(self, address: int) -> Any:
        """Return the job of a task, in the form of _native.new_job(). To be given back by recycle()."""
        native = ffi.cast("struct fp_job *", address)
        sinks = native.sink
        usage = ffi.buffer(ffi.addressof(native.status, "usage"))
        return native, native.summary, usage, ffi.buffer(sinks[0].fixed), ffi.buffer(sinks[1].fixed), None

    def recycle(self, address: int) -> None:
        """Give a job back; what it has on the heap is freed."""
        lib.fp_pool_recycle(self._pool, ffi.cast("struct fp_job *", address))

    def failure(self, plan: Any, code: int, address: int) -> Exception:
        """Make the error of a task that could not be started."""
        if address:
            return spawn_error(plan, -code, ffi.cast("struct fp_job *", address).child)
        return errors.spawn_error(-code, "vectors", argv=plan.words)


_NULL = ffi.NULL
_TICKET = ffi.typeof("struct fp_ticket *")


def new_ticket() -> Ticket:
    """Return what a task will be known by."""
    return ffi.new(_TICKET)


def _check(r: int) -> int:
    if r == -10:
        raise RuntimeError("this pool belongs to another process, of which this one is a fork")
    if r < 0:
        raise OSError(-r, strerror(-r))
    return r
