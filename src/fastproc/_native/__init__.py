"""The door to the C core: the only package that says `ffi` or `lib`. Numbers become names, negative errnos exceptions.

Not here: what a command means (the values), waiting for several things (the engine).
"""

from __future__ import annotations

import _thread
import os
from _signal import SIGINT  # type: ignore[import-not-found]
from _thread import get_ident, get_native_id
from sys import audit, implementation, platform

from fastproc._native import attr as _attr
from fastproc._native._ffi import ffi, lib
from fastproc._native.failure import spawn_error
from fastproc._native.stage import (
    BEST_MECHANISMS,
    MECHANISMS,
    NONE_REFUSED,
    features,
    force,
    mechanism_name,
    refused,
    refused_before,
    stage_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Child = Any
    Job = tuple[Any, Any, Any, Any, Any, Any]
    Request = Any
    Status = Any

__all__ = [
    "BEST_MECHANISMS",
    "CHANGES",
    "DEFAULT_ATTR",
    "JOBS_KEPT",
    "MECHANISMS",
    "NOHANG",
    "NONE_REFUSED",
    "SLICE_NS",
    "SUM_COUNT",
    "WAIT_CONTINUED",
    "WAIT_EXITED",
    "WAIT_RECOVERED",
    "WAIT_RUNNING",
    "WAIT_STOPPED",
    "WAIT_UNKNOWN",
    "abort",
    "features",
    "force",
    "fp_pidfd_open",
    "fp_run",
    "give_job",
    "held_pipes",
    "interrupt",
    "interrupt_group",
    "has_tee",
    "is_traced",
    "job_child",
    "jobs",
    "leave",
    "make_request",
    "mechanism_name",
    "new_child",
    "new_job",
    "new_status",
    "output",
    "pidfd_of_child",
    "prepare",
    "refused",
    "refused_before",
    "resume",
    "signal",
    "signal_group",
    "spawn",
    "spawn_error",
    "stage_name",
    "subreaper",
    "tee",
    "unpack",
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
CHANGES: int = lib.FP_WAIT_UNTRACED | lib.FP_WAIT_CONTINUE

_main_ident = getattr(_thread, "_get_main_thread_ident", None)  # 3.13
_new = ffi.new
# The buffers of a job are 32 pages, of which most runs touch one or two.
_new_uncleared = ffi.new_allocator(should_clear_after_alloc=False)
_buffer = ffi.buffer
_NULL = ffi.NULL
_CHILD = ffi.typeof("struct fp_child *")
_STATUS = ffi.typeof("struct fp_status *")
_JOB = ffi.typeof("struct fp_job *")
_PAIRS = ffi.typeof("int32_t[]")
_REQUEST = ffi.typeof("struct fp_request *")


def in_main_thread() -> bool:
    """Return whether this is the main thread, in which signal handlers run and which lives as long as the process."""
    if _main_ident is not None:
        return bool(get_ident() == _main_ident())
    # Elsewhere than on Linux the main thread has no number of its own to be known by: then every thread counts.
    return platform != "linux" or get_native_id() == os.getpid()


def new_child() -> Child:
    """Return an empty struct fp_child: allocated before the spawn, so that nothing the C call gives can be lost."""
    return _new(_CHILD)


def new_status() -> Status:
    """Return a struct fp_status, running."""
    return _new(_STATUS)


def usage_bytes(status: Status) -> bytes | None:
    """Return the struct fp_usage of a final status as bytes; None when the status was recovered."""
    return bytes(_buffer(ffi.addressof(status, "usage"))) if status.state == WAIT_EXITED else None


def prepare(settled: Any, pairs: Any, stays: bool = False) -> tuple[Any, Any]:
    """Return the attr and the descriptor pairs of a plan as C data.

    Args:
        settled: what the options mean.
        pairs: the plan's.
        stays: whether the calling thread waits for the end of the child before it can end itself.

    Raises:
        ValueError: pdeathsig was asked for in another thread than the main one, which may end before the child.
    """
    spec = settled.attr
    if spec is None:
        native = _attr.DEFAULT
    else:
        native = settled.native
        if native is None:
            native = settled.native = _attr.make(spec)
        if "pdeathsig" in spec and not stays and not in_main_thread():
            # prctl(2), PR_SET_PDEATHSIG: the "parent" is the thread that made the child (GOTCHAS G19).
            raise ValueError(
                "pdeathsig, die_with_parent: only from the main thread, or in a run(): the kernel would send the "
                "signal when this thread ends"
            )
    return native, _new(_PAIRS, [number for pair in pairs for number in pair]) if pairs else _NULL


def with_terminal(plan: Any) -> Any:
    """Return the attr of a plan whose child gets a terminal of ours."""
    return _attr.make({**plan.settled.attr, "ctty_fd": plan.terminal.slave.number})


def spawn(plan: Any, child: Child, stays: bool = False, timeout_ns: int = -1) -> bool:
    """Make a child, fill `child`, and wait until it has executed. Return whether that took too long.

    The child was killed then, and is not reaped. Signal handlers run meanwhile. Where one raises, the child is as it
    was, and after it was killed `leave()` must be called.

    Args:
        plan: what to make.
        child: a struct fp_child.
        stays: as in `prepare`.
        timeout_ns: nanoseconds at most, or -1; only clone3_vm keeps it.

    Raises:
        SpawnError: nothing is left of it.
    """
    native, pairs = prepare(plan.settled, plan.fds, stays)
    if plan.terminal is not None:
        native = with_terminal(plan)
    first, out, err = plan.stdio
    audit("subprocess.Popen", *plan.audited)
    r = lib.fp_spawn(
        native,
        plan.identity or _NULL,
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
        timeout_ns,
        child,
    )
    while r == lib.FP_SPAWN_AGAIN:
        r = lib.fp_spawn_resume(child)
    if r < 0:
        raise spawn_error(plan, -r, child)
    return bool(r)


def leave(child: Child) -> None:
    """Wait no more for the exec of a child that was killed. Harmless where nobody waits."""
    lib.fp_spawn_abandon(child)


# -- the bulk path

SLICE_NS: int = lib.FP_SLICE_NS
"""The longest that the main thread stays in C. A signal ends the wait at once, except one that arrives in the moment
between leaving Python and starting to wait: that one is seen at the end of the slice."""

CTRL_C_GRACE_NS: int = lib.FP_CTRL_C_NS
"""What an interrupted child gets to end by itself: Ctrl-C in a terminal reaches it too."""

DEATH_SECONDS: float = lib.FP_DEATH_NS / 1e9
"""The longest wait for the end of a killed child, which a tracer or a file system can hold."""

TRACED_SECONDS: float = lib.FP_TRACED_NS / 1e9
"""How often a killed child that is still there is looked at, for a tracer too."""

HELD_BY_OTHERS_SECONDS: float = lib.FP_HELD_BY_OTHERS_NS / 1e9
"""After a deadline, the longest wait for pipes that other processes hold."""

BUSY_SECONDS = tuple(lib.FP_BUSY_PAUSE_NS * 4**number / 1e9 for number in range(lib.FP_BUSY_TRIES))
"""The pauses before a file that is open for writing (ETXTBSY) is tried again: 1, 4, 16, 64 ms."""

JOBS_KEPT = 8


def new_job() -> Job:
    """Return a struct fp_job with the views of its parts that a run needs, made once: it is used again and again.

    A tuple, as it is taken apart on every run: the struct, its summary, its struct fp_usage, its fixed buffers for
    stdout and for stderr, and the owner of the memory.
    """
    owner = _new_uncleared(_JOB)
    lib.fp_job_init(owner)
    # The destructor is for a job that an interrupt left between two bytecodes: its child is killed and reaped. In a
    # cycle of garbage it may run before the __del__ of those who hold the job and read it, and lets go of the memory.
    native = ffi.gc(owner, lib.fp_job_close)
    usage = _buffer(ffi.addressof(native.status, "usage"))
    return native, native.summary, usage, _buffer(native.sink[0].fixed), _buffer(native.sink[1].fixed), owner


def give_job(job: Job) -> None:
    """Give a finished job back. One that is not given back is freed when it is dropped."""
    if job[1][lib.FP_SUM_ON_HEAP]:
        lib.fp_job_close(job[0])
    job[1][lib.FP_SUM_PID] = 0  # an interrupt before its next run must not find this one
    if len(jobs) < JOBS_KEPT:
        jobs.append(job)


def job_child(job: Job) -> Child:
    """Return the struct fp_child, which says where a spawn failed."""
    return job[0].child


def output(job: Job, index: int, size: int) -> bytes:
    """Return the `size` bytes that were read from stdout (0) or stderr (1), when they are on the heap or not.

    Once for each: what is much changes its place.
    """
    native = job[0]
    heap = native.sink[index].heap
    if not heap:
        return job[3 + index][:size]  # type: ignore[no-any-return]
    if implementation.name != "cpython":
        return _buffer(heap, size)[:]  # type: ignore[no-any-return]
    # Zeros that were not touched yet (calloc(3)); nobody else has the object.
    data = bytes(size)
    lib.fp_job_take(native, index, ffi.from_buffer(data))
    return data


def held_pipes(job: Job) -> set[int]:
    """Return the inodes of the pipes that others held when a run gave them up."""
    return set(job[0].held_pipes) - {0}


def resume(job: Job, between: Callable[[], object]) -> int:
    """Go on to its end with a run that came back because a signal arrived or its slice was over.

    `between` is called at least once in a second.
    """
    # Only the main thread runs signal handlers; others need not come back so often (signal(7), Python's signal module).
    slice_ns = SLICE_NS if in_main_thread() else 1_000_000_000
    r = lib.FP_JOB_AGAIN
    while r > 0:
        r = lib.fp_run_resume(job[0], slice_ns)
        between()
    return r  # type: ignore[no-any-return]


def abort(job: Job, grace_ns: int = CTRL_C_GRACE_NS) -> list[int]:
    """End an interrupted run: the child is killed and reaped. Return the summary, with pid 0 without a child.

    A run that had ended when the interrupt came keeps its summary.
    """
    lib.fp_job_abort(job[0], grace_ns)
    return unpack(job[1], SUM_COUNT)  # type: ignore[no-any-return]


def make_request(
    attr: Any,
    stdio: tuple[int, int, int],
    data: bytes,
    times_ns: tuple[int, int, int],
    cwd: int = -1,
    cgroup: int = -1,
    pairs: Any = _NULL,
    npairs: int = 0,
    identity: Any = None,
) -> Request:
    """Return a struct fp_request. It keeps alive what it points to.

    Args:
        attr: a struct fp_attr.
        stdio: descriptors or FP_STDIO_ numbers.
        data: what stdin is fed with.
        times_ns: timeout, grace and drain timeout; -1 for none.
        cwd: directory descriptor or -1.
        cgroup: the same.
        pairs: from `prepare()`.
        npairs: how many.
        identity: a struct fp_identity or None.
    """
    request = _new(_REQUEST)
    if identity is not None:
        request.identity = identity
    request.attr = attr
    request.stdio = stdio
    request.timeout_ns, request.grace_ns, request.drain_ns = times_ns
    request.cwd_fd = cwd
    request.cgroup_fd = cgroup
    request.fds = pairs
    request.nfds = npairs
    held = ffi.from_buffer(data)
    request.input = held
    request.input_len = len(data)
    # It keeps alive what it points to: its destructor, a method of a list that has all of that. A dictionary of weak
    # references would run Python code when it goes, where what a signal handler raises is lost.
    return ffi.gc(request, [attr, pairs, held, identity].append)


jobs: list[Job] = []
DEFAULT_ATTR = _attr.DEFAULT
SUM_COUNT: int = lib.FP_SUM_COUNT
fp_run = lib.fp_run
fp_pidfd_open = lib.fp_pidfd_open
"""A new pidfd of any process, or a negative errno, for `OwnedFd.fill`. Who it names must be looked at afterwards, while
the pidfd still finds it. -ESRCH: there is none (any more); -EINVAL for a thread, and for 0, 1 and negative numbers."""
unpack = ffi.unpack


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
    _check(lib.fp_signal(pidfd, pid, sig))


def signal_group(pidfd: int, pid: int, sig: int) -> None:
    """Send a signal to the process group that a child leads, which must not be reaped meanwhile.

    Raises:
        ProcessLookupError: it leads no group, or was reaped.
        OSError: pidfd_send_signal(2), kill(2).
    """
    _check(lib.fp_signal_group(pidfd, pid, sig))


def interrupt(pidfd: int, pid: int) -> None:
    """Send SIGINT to the group that a child leads, or, when it has not come to make it, to the child.

    Raises:
        ProcessLookupError: it was reaped.
        OSError: pidfd_send_signal(2), kill(2).
    """
    if lib.fp_signal_group(pidfd, pid, SIGINT) != 0:
        _check(lib.fp_signal(pidfd, pid, SIGINT))


def interrupt_group(job: Job) -> None:
    """Send SIGINT to the group that the child of a run leads, as a terminal does to ours (GOTCHAS H5), if it runs."""
    native = job[0]
    # A job that has not begun holds the numbers of an earlier run.
    if native.live and native.owner == os.getpid() and native.status.state == WAIT_RUNNING:
        try:
            interrupt(native.child.pidfd, native.child.pid)
        except OSError:
            # It has ended, or became another user's.
            pass


def is_traced(pid: int) -> bool:
    """Return whether a child that was not reaped yet has a tracer, which can hold its end. False where nobody tells."""
    return bool(lib.fp_traced(pid) > 0)


def pidfd_of_child(pid: int) -> int:
    """Return a new pidfd of a child that somebody else has made, or -1: there are none here, or it was reaped."""
    return lib.fp_pidfd_of_child(pid)  # type: ignore[no-any-return]


def subreaper(on: int = -1) -> bool:
    """Return whether this process is a child subreaper (prctl(2)); make it one with 1, end that with 0.

    Raises:
        OSError: the system has none, or a sandbox refuses it.
    """
    return bool(_check(lib.fp_subreaper(on)))


def _check(r: int) -> int:
    """Return what a call gave, or raise the OSError of its negative errno: the right subclass of it."""
    if r < 0:
        raise OSError(-r, os.strerror(-r))
    return r


def tee(source: int, target: int, size: int) -> int:
    """Duplicate up to `size` bytes of one pipe into another without taking them; 0 at the end. Never blocks.

    Raises:
        OSError: tee(2); BlockingIOError where there are none now.
    """
    return _check(lib.fp_tee(source, target, size))


has_tee = platform == "linux"


force(os.environ.get("FASTPROC_SPAWN", ""))
