"""The part of the door to C that pools use: threads that run a queue of commands, and trays for the ended ones."""

from __future__ import annotations

from _struct import Struct
from errno import EINTR, ESHUTDOWN
from itertools import chain, compress, count, starmap
from os import strerror

from fastproc import errors
from fastproc._native import SUM_COUNT, spawn_error
from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable
    from typing import Any, NamedTuple, Protocol

    class Task(Protocol):
        """The parts of a pool's task that its submission reads."""

        key: int
        priority: int
        ticket: Any

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
FOREIGN: int = lib.FP_TASK_DELEGATED
PLAIN: int = lib.FP_DONE_PLAIN
JOB: int = lib.FP_DONE_JOB
FAILED: int = lib.FP_DONE_FAILED
GRANTED: int = lib.FP_DONE_DELEGATED

_RECORD = Struct(f"@qqPiiq{SUM_COUNT}q{ffi.sizeof('struct fp_usage')}s")
_SIZE: int = ffi.sizeof("struct fp_done")
assert _RECORD.size == _SIZE
_NOTHING = 0, -EINTR, -ESHUTDOWN
_uncleared = ffi.new_allocator(should_clear_after_alloc=False)


class Workers:
    """The threads and the queue of one pool.

    Takes no lock: a signal handler, which may come between any two bytecodes, or another thread may close a pool that
    a call is about to use. Therefore the C core keeps the pool's memory as long as this object or a Tray refers to it,
    and a call into a closed pool does nothing.

    Args:
        limit: how many commands run at the same time.
        threads: how many run them.

    Raises:
        OSError: there are no threads or descriptors to be had.
        Unsupported: on another system than Linux.
    """

    __slots__ = ("_cell", "_native", "closed")

    def __init__(self, limit: int, threads: int) -> None:
        self.closed = False
        held = ffi.new("void **")
        # From the call into its owner with no bytecode between at which an interrupt could lose it (GOTCHAS I4).
        self._cell = ffi.gc(held, lib.fp_pool_free)
        r = lib.fp_pool_new(limit, threads, held)
        if r == -38:
            raise errors.Unsupported("a pool needs Linux: eventfd(2), epoll(7)")
        _check(r)
        self._native = held[0]

    def close(self) -> None:
        """Kill and reap what still runs, and end the threads. Harmless when repeated."""
        self.closed = True
        lib.fp_pool_close(self._native)

    def set(self, limit: int, interval_ns: int, gated: bool) -> None:
        """Change the limit, the shortest time between two starts, and whether any are started."""
        _check(lib.fp_pool_set(self._native, limit, interval_ns, gated))

    def cancel(self, ticket: Ticket | None, how: int) -> int:
        """Take a task out of the queue, or end its command (2: at once); with 0 only look. Return what it was."""
        return GONE if ticket is None else _check(lib.fp_pool_cancel(self._native, ticket, how))

    def cancelling(self, ticket: Ticket | None, how: int) -> Iterable[int]:
        """As cancel(), done in C by the iteration; gives what the task was, or a negative errno."""
        return () if ticket is None else starmap(lib.fp_pool_cancel, ((self._native, ticket, how),))

    def go(self, ticket: Ticket, request: Any, plan: Any) -> int:
        """Say what a task runs whose turn has come."""
        return lib.fp_pool_dispatch(  # type: ignore[no-any-return]
            *(self._native, ticket, request, plan.paths, plan.npaths, plan.argv, plan.argc, plan.env, plan.envc)
        )

    def release(self, ticket: Ticket) -> None:
        """Give back the place of a task that the caller has run himself."""
        lib.fp_pool_release(self._native, ticket)

    def count(self) -> tuple[int, int]:
        """Return how many are in the queue and how many run."""
        counts = ffi.new("int64_t[2]")
        _check(lib.fp_pool_count(self._native, counts, counts + 1))
        return counts[0], counts[1]


class Tray:
    """Where the tasks of one consumer come when they have ended.

    Attributes:
        fd: a descriptor that is readable when there are some, or somebody rang.
    """

    __slots__ = (
        "_arena",
        "_bytes",
        "_cell",
        "_counts",
        "_native",
        "_pool",
        "_raw",
        "_records",
        "_serial",
        "_workers",
        "fd",
    )

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._pool = workers._native
        held = ffi.new("void **")
        self._cell = ffi.gc(held, lib.fp_completion_queue_free)
        self.fd = _check(lib.fp_completion_queue_new(self._pool, held))
        # How many records wait in the buffer, by the serial number of the call that has put them there: one, or none.
        self._counts: dict[int, int] = {}
        self._serial = count()
        self._native = held[0]
        self._records = _uncleared("struct fp_done[]", BATCH)
        self._raw = ffi.buffer(self._records)
        self._arena = _uncleared("char[]", ARENA)
        self._bytes = ffi.buffer(self._arena)

    def close(self) -> None:
        """Give the descriptor back; no task of this tray is left. Harmless when repeated."""
        lib.fp_completion_queue_close(self._native)

    def ring(self) -> None:
        """Let whoever waits come back. Harmless when it is closed."""
        lib.fp_completion_queue_notify(self._native)

    def submit(
        self,
        records: dict[int, Any],
        task: Task,
        request: Any,
        command: tuple[bytes, int, bytes, int, bytes, int],
        delay_ns: int,
    ) -> None:
        """Queue a command: paths, arguments and environment with their counts, which must live until it was taken.

        The task enters the records in the moment in which the C core takes it: a signal handler that waits until no
        record is left would otherwise wait for the submission that it has interrupted. Without a request (None) the
        task only gets its turn.

        Raises:
            RuntimeError: this is closed.
            OSError: ENOMEM.
        """
        key = task.key
        arguments = self._pool, self._native, key, request or _NULL, *command, task.priority, delay_ns, task.ticket
        # Both calls with no bytecode between. A keyword of zip() would cost a third of all this.
        calls = zip(map(records.__setitem__, (key,), (task,)), starmap(lib.fp_pool_submit, (arguments,)))  # noqa: B905
        for _, r in calls:
            if r < 0:
                records.pop(key, None)
                _check(r)

    def take(self, want: int, wait_ns: int, arrived: deque[tuple[Done, bytes, bytes]]) -> None:
        """Take what has ended, waiting for the first of them: put it and its outputs into the queue.

        Nothing comes after a signal, and when it is closed. A handler may raise at any place, or take itself: what was
        taken is in the buffer until the one call that moves all of it.
        """
        counts = self._counts
        taken = starmap(
            lib.fp_completion_queue_take, ((self._native, self._records, BATCH, self._arena, ARENA, want, wait_ns),)
        )
        filled = zip(self._serial, taken, strict=False)
        # From the look at the buffer to its number with no bytecode between at which a handler could run.
        counts.update(() if counts else filled)
        for serial, n in list(counts.items()):
            if n <= 0:
                counts.pop(serial, None)
                if n not in _NOTHING:
                    _check(n)
                return
            arena = self._bytes
            batch: Any = []
            for done in _RECORD.iter_unpack(self._raw[: n * _SIZE]):
                if done[3] == PLAIN:
                    at, out, err = done[1], done[14], done[15]
                    middle = at + out
                    batch.append((done, arena[at:middle] if out else b"", arena[middle : middle + err] if err else b""))
                else:
                    batch.append((done, b"", b""))
            # The same: the records move in the call that takes their number away, unless a handler has moved them.
            arrived.extend(chain.from_iterable(compress((batch,), starmap(counts.pop, ((serial, 0),)))))

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
    if r == -ESHUTDOWN:
        raise RuntimeError("this pool is closed")
    if r == -10:
        raise RuntimeError("this pool belongs to another process, of which this one is a fork")
    if r < 0:
        raise OSError(-r, strerror(-r))
    return r
