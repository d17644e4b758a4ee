"""The part of the door to C that whole pipelines use: many jobs in one call."""

from __future__ import annotations

from fastproc import _native
from fastproc._native import SLICE_NS, WAIT_EXITED
from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastproc._native import Job

MEMBERS_MAX: int = lib.FP_MEMBERS_MAX
SUM_COUNT: int = lib.FP_SUM_COUNT
WORDS = ffi.sizeof("struct fp_ended") // 8
"""Of 8 bytes, in what tells of one command: its summary and its usage."""

_PIPELINE = ffi.typeof("struct fp_pipeline *")
_MEMBERS = ffi.typeof("struct fp_member[]")
_ENDED = ffi.typeof("struct fp_ended[]")


class Members:
    """The commands of one pipeline for the C core; for one run at a time.

    Args:
        requests: one for each, as `make_request()` gives them.
        plans: one for each.
        pipe_size: bytes that a pipe between two shall hold, or 0.

    Attributes:
        jobs: those of the run that goes on, or has just ended; else none.
        native: the struct fp_pipeline, which tells `out`, `err`, `failed`, `clean`, `duration_ns` of it.
        ended: a view of what became of each; a slice of it can be kept.
    """

    __slots__ = ("_each", "_held", "ended", "jobs", "native")

    def __init__(self, requests: list[Any], plans: list[Any], pipe_size: int) -> None:
        """Take what does not change from run to run."""
        count = len(plans)
        native = self.native = ffi.new(_PIPELINE)
        members = native.members = ffi.new(_MEMBERS, count)
        self._each = [members[place] for place in range(count)]
        ended = native.ended = ffi.new(_ENDED, count)
        native.n = count
        native.pipe_size = pipe_size
        self.ended = ffi.buffer(ended)
        self.jobs: list[Job] = []
        # What the C structures point to.
        self._held: list[object] = [requests, members, ended]
        for member, request, plan in zip(self._each, requests, plans, strict=True):
            member.request = request
            for name in ("paths", "argv", "env"):
                blob = ffi.from_buffer(getattr(plan, name))
                self._held.append(blob)
                setattr(member, name, blob)
            member.npaths = plan.npaths
            member.argc = plan.argc
            member.envc = plan.envc

    def run(self) -> int:
        """Run all to their end.

        Returns:
            0, or the negative errno of the command that could not be started.
        """
        taken: list[Job] = []
        pool = _native.jobs
        native = self.native
        for member in self._each:
            try:
                job = pool.pop()
            except IndexError:
                job = _native.new_job()
            taken.append(job)
            member.job = job[0]
        self.jobs = taken
        r: int = lib.fp_pipeline(native, SLICE_NS)
        if r > 0:
            # As in `resume()`.
            slice_ns = SLICE_NS if _native.in_main_thread() else -1
            while r > 0:
                r = lib.fp_pipeline_resume(native, slice_ns)
        return r

    def give_jobs(self) -> None:
        """Give the jobs of a run that is over back; those of a clean one have nothing to free."""
        # First: an interrupt of a later run must not find the jobs of this one, which may be others' by then.
        jobs, self.jobs = self.jobs, []
        if self.native.clean and len(_native.jobs) < _native.JOBS_KEPT:
            _native.jobs.extend(jobs)
            return
        for job in jobs:
            _native.give_job(job)

    def abort(self, grace_ns: int) -> None:
        """End an interrupted run: all are killed and reaped."""
        if len(self.jobs) == len(self._each):
            lib.fp_pipeline_abort(self.native, grace_ns)


def told(ended: bytes, place: int) -> tuple[tuple[int, ...], bytes | None]:
    """Return the summary of one command, and its struct fp_usage where the kernel gave one."""
    start = place * WORDS * 8
    words = memoryview(ended)[start : start + WORDS * 8]
    summary = tuple(words[: SUM_COUNT * 8].cast("q"))
    return summary, bytes(words[SUM_COUNT * 8 :]) if summary[0] == WAIT_EXITED else None
