"""The door to the C core: the only package that says `ffi` or `lib`. Numbers become names, negative errnos exceptions.

Not here: what a command means (the values), waiting for several things (the engine).
"""

from __future__ import annotations

import os
from _thread import get_native_id
from errno import ENOSYS, ENOTSUP, EPERM, ESRCH
from sys import audit

from fastproc._native import attr as _attr
from fastproc._native import stage as _stage
from fastproc._native._ffi import ffi, lib
from fastproc._native.failure import spawn_error
from fastproc._native.stage import mechanism_name, stage_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Child = Any
    Status = Any

__all__ = [
    "NOHANG",
    "WAIT_CONTINUED",
    "WAIT_EXITED",
    "WAIT_RECOVERED",
    "WAIT_RUNNING",
    "WAIT_STOPPED",
    "WAIT_UNKNOWN",
    "Job",
    "close",
    "features",
    "force",
    "give_job",
    "mechanism_name",
    "new_child",
    "new_status",
    "refused",
    "run",
    "signal",
    "spawn",
    "stage_name",
    "take_job",
    "usage_bytes",
    "wait",
]

WAIT_RUNNING: int = lib.FP_WAIT_RUNNING
WAIT_EXITED: int = lib.FP_WAIT_EXITED
WAIT_RECOVERED: int = lib.FP_WAIT_RECOVERED
WAIT_UNKNOWN: int = lib.FP_WAIT_UNKNOWN
WAIT_STOPPED: int = lib.FP_WAIT_STOPPED
WAIT_CONTINUED: int = lib.FP_WAIT_CONTINUED
NOHANG: int = lib.FP_WAIT_NOHANG

_new = ffi.new
_buffer = ffi.buffer
_NULL = ffi.NULL
_CHILD = ffi.typeof("struct fp_child *")
_STATUS = ffi.typeof("struct fp_status *")
_JOB = ffi.typeof("struct fp_job *")
_PAIRS = ffi.typeof("int32_t[]")


def new_child() -> Child:
    """Return an empty struct fp_child: allocated before the spawn, so that nothing the C call gives can be lost."""
    return _new(_CHILD)


def new_status() -> Status:
    """Return a struct fp_status, running."""
    return _new(_STATUS)


def usage_bytes(status: Status) -> bytes | None:
    """Return the struct fp_usage of a final status as bytes; None when the status was recovered."""
    return bytes(_buffer(ffi.addressof(status, "usage"))) if status.state == WAIT_EXITED else None


def _prepare(plan: Any) -> tuple[Any, Any]:
    """Return the attr and the descriptor pairs of a plan as C data, and announce it to the audit hooks."""
    spec = plan.attr
    if spec is None:
        native = _attr.DEFAULT
    else:
        settled = plan.settled
        native = settled.native
        if native is None:
            native = settled.native = _attr.make(spec)
        if "pdeathsig" in spec and get_native_id() != os.getpid():
            # prctl(2), PR_SET_PDEATHSIG: the "parent" is the thread that made the child (HAZARDS G19).
            raise ValueError(
                "pdeathsig: only from the main thread: the kernel would send the signal when this thread ends"
            )
    pairs = _new(_PAIRS, [number for pair in plan.fds for number in pair]) if plan.fds else _NULL
    command = plan.command
    audit("subprocess.Popen", command.argv[0], list(command.argv), plan.settled.cwd, None)
    return native, pairs


def spawn(plan: Any, child: Child) -> None:
    """Make a child and fill `child`.

    Raises:
        SpawnError: nothing is left of it.
    """
    native, pairs = _prepare(plan)
    first, out, err = plan.stdio
    r = lib.fp_spawn(
        native,
        plan.paths,
        plan.npaths,
        plan.argv,
        plan.argc,
        plan.env,
        plan.envc,
        plan.cwd,
        plan.cgroup,
        first,
        out,
        err,
        pairs,
        len(plan.fds),
        child,
    )
    if r < 0:
        raise spawn_error(plan, -r, child)


# -- the bulk path

_SLICE_NS = 50_000_000
"""The longest that the main thread stays in C. A signal ends the wait at once, except one that arrives in the moment
between leaving Python and starting to wait: that one is seen at the end of the slice."""

_CTRL_C_GRACE_NS = 40_000_000
"""What an interrupted child gets to end by itself: Ctrl-C in a terminal reaches it too."""

_JOBS_KEPT = 8
_jobs: list[Job] = []


class Job:
    """A struct fp_job with its buffers, used again and again, and views of its parts made once."""

    __slots__ = ("_fixed", "_sinks", "_usage", "child", "native", "status")

    def __init__(self) -> None:
        # The destructor is for a job that an interrupt left between two bytecodes: its child is killed and reaped.
        native = self.native = ffi.gc(_new(_JOB), lib.fp_job_close)
        self.child = native.child
        self.status = native.status
        self._sinks = (native.sink[0], native.sink[1])
        self._fixed = tuple(_buffer(sink.fixed) for sink in self._sinks)
        self._usage = _buffer(ffi.addressof(native.status, "usage"))

    def output(self, index: int) -> bytes:
        """Return what was read from stdout (0) or stderr (1)."""
        sink = self._sinks[index]
        size = sink.len
        if not size:
            return b""
        return self._fixed[index][:size] if not sink.heap else _buffer(sink.heap, size)[:]  # type: ignore[no-any-return]

    def usage(self) -> bytes:
        """Return the struct fp_usage as bytes."""
        return self._usage[:]  # type: ignore[no-any-return]

    def has_heap(self) -> bool:
        """Whether more than the fixed buffers was needed."""
        return bool(self._sinks[0].heap or self._sinks[1].heap)


def take_job() -> Job:
    """Return a job from the pool, or a new one."""
    try:
        return _jobs.pop()
    except IndexError:
        return Job()


def give_job(job: Job) -> None:
    """Give a finished job back. One that is not given back is freed when it is dropped."""
    if job.has_heap():
        lib.fp_job_close(job.native)
    if len(_jobs) < _JOBS_KEPT:
        _jobs.append(job)


def run(plan: Any, job: Job, data: bytes, timeout_ns: int) -> None:
    """Run a plan to its end in C: feed `data`, collect, wait, keep the deadline.

    Raises:
        SpawnError: nothing is left of the child.
        BaseException: what a signal handler raised; the child has been ended and reaped, its output is in the job.
    """
    attr, pairs = _prepare(plan)
    settled = plan.settled
    first, out, err = plan.stdio
    native = job.native
    try:
        r = lib.fp_run(
            attr,
            plan.paths,
            plan.npaths,
            plan.argv,
            plan.argc,
            plan.env,
            plan.envc,
            plan.cwd,
            plan.cgroup,
            first,
            out,
            err,
            pairs,
            len(plan.fds),
            data,
            len(data),
            timeout_ns,
            settled.grace_ns,
            settled.drain_ns,
            _SLICE_NS,
            native,
        )
        if r > 0:
            # Only the main thread runs signal handlers; others need not come back (signal(7), Python's signal module).
            slice_ns = _SLICE_NS if get_native_id() == os.getpid() else -1
            while r > 0:
                r = lib.fp_run_resume(native, slice_ns)
    except BaseException:
        lib.fp_job_abort(native, _CTRL_C_GRACE_NS)
        raise
    if r < 0:
        raise spawn_error(plan, -r, job.child)


# -- a child


def wait(pidfd: int, pid: int, options: int, status: Status) -> int:
    """Collect a child's status; return and set status.state.

    Raises:
        OSError: waitid(2); InterruptedError when a signal arrived.
    """
    r = lib.fp_wait(pidfd, pid, options, status)
    if r < 0:
        raise OSError(-r, os.strerror(-r))
    return status.state  # type: ignore[no-any-return]


def signal(pidfd: int, pid: int, sig: int) -> None:
    """Send a signal to one child.

    Raises:
        ProcessLookupError: it has ended and was reaped.
        OSError: pidfd_send_signal(2).
    """
    r = lib.fp_signal(pidfd, pid, sig)
    if r < 0:
        raise ProcessLookupError(ESRCH, os.strerror(ESRCH)) if r == -ESRCH else OSError(-r, os.strerror(-r))


close = os.close


# -- what this system can do


def features(again: bool = False) -> dict[str, bool]:
    """Return what this kernel and sandbox allow; tried once, or `again`."""
    native = _new("struct fp_features *")
    lib.fp_probe(again, native)
    names = ("pidfd", "pidfd_open", "pidfd_signal", "pidfd_wait", "pidfd_info", "close_range", "shared_memory")
    return {name: bool(getattr(native, name)) for name in names}


_REASONS = {
    ENOSYS: "this kernel or sandbox does not have the call",
    EPERM: "a sandbox refuses the call",
    ENOTSUP: "memory is not really shared (an emulator)",
}


def refused(again: bool = False) -> dict[str, str]:
    """Return the mechanisms that cannot be used here, best first, each with the reason."""
    native = _new("struct fp_features *")
    lib.fp_probe(again, native)
    found = {}
    for number, name in _stage.MECHANISMS.items():
        error = native.refused[number]
        if error:
            found[name] = _REASONS.get(error) or os.strerror(error)
    return found


def force(name: str) -> None:
    """Make all spawns of this process use one mechanism; "auto" or "" ends it. For tests: FASTPROC_SPAWN does the same.

    Raises:
        ValueError: there is no such mechanism.
    """
    lib.fp_mechanism_force(_stage.mechanism_number(name or "auto"))


force(os.environ.get("FASTPROC_SPAWN", ""))
