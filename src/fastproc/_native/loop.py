"""The part of the door to C that event loops use: jobs and spawns that do not wait."""

from __future__ import annotations

from os import strerror
from sys import audit

from fastproc import _native
from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AGAIN: int = lib.FP_JOB_AGAIN
job_begin = lib.fp_job_begin
job_step = lib.fp_job_step
job_stop = lib.fp_job_stop
job_forsake = lib.fp_job_abandon
job_abort = lib.fp_job_abort


def job_watch(native: Any, epoll: int, key: int) -> None:
    """Watch what a job waits for in an epoll descriptor.

    Raises:
        OSError: epoll_ctl(2).
    """
    r = lib.fp_job_watch(native, epoll, key)
    if r < 0:
        raise OSError(-r, strerror(-r))


def group_step(epoll: int) -> list[int]:
    """Go on with the jobs that are ready; the keys of those that are over, or have another due time."""
    keys = ffi.new("int64_t[]", lib.FP_GROUP_BATCH)
    n = lib.fp_group_step(epoll, keys, lib.FP_GROUP_BATCH)
    return ffi.unpack(keys, n) if n > 0 else []


def launch(plan: Any, child: Any) -> Any:
    """Make a child without waiting for its program to run.

    Returns:
        What `launch_over` takes; None where it runs already.

    Raises:
        SpawnError: nothing is left of it.
    """
    native, pairs = _native.prepare(plan.settled, plan.fds)
    if plan.terminal is not None:
        native = _native.with_terminal(plan)
    audit("subprocess.Popen", *plan.audited)
    held = ffi.new("void **")
    r = lib.fp_launch(
        native,
        plan.identity or ffi.NULL,
        plan.paths,
        plan.npaths,
        plan.argv,
        plan.argc,
        plan.env,
        plan.envc,
        plan.cwd,
        plan.cgroup,
        *plan.stdio,
        pairs,
        len(plan.fds),
        child,
        held,
    )
    if r < 0:
        raise _native.spawn_error(plan, -r, child)
    return ffi.gc(held[0], lib.fp_launch_free) if r == AGAIN else None


def launch_over(launched: Any, wait_ns: int, plan: Any, child: Any) -> bool:
    """Whether the program of a launched child runs by now.

    Raises:
        SpawnError: it never will; the child is reaped, its descriptors are the caller's to close.
    """
    r = lib.fp_launch_over(launched, wait_ns, child)
    if r < 0:
        raise _native.spawn_error(plan, -r, child)
    return bool(r != AGAIN)
