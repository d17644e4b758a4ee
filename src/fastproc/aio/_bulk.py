"""Bulk runs that an event loop's reactor drives: the C core does all, in one crossing for those that are ready.

Invariant: a job that is watched is kept here until it is over, and stays where it is in memory.
"""

from __future__ import annotations

from functools import partial
from operator import attrgetter

from fastproc._engine.reactor import READ, make_poller
from fastproc._native.loop import group_step, job_abort, job_forsake, job_step, job_stop, job_watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.reactor import Reactor, Timer
    from fastproc._native import Job


class Bulk:
    """One run that goes on.

    Args:
        job: begun, and not over.
        kept: what the job points to.
        on_done: called once, when the job is over or forsaken.

    Attributes:
        job: as given.

    In a forked copy (GOTCHAS I2) the C core sends nothing and leaves the epoll alone: it lets go of what the copy has.
    """

    __slots__ = ("_drop", "_group", "_key", "_kept", "_on_done", "_timer", "job")

    # A task that is thrown away while it waits ends its run before what the job points to goes. A function in C does
    # that, in which no signal handler can raise in vain. Once the run is over it is one that does nothing: the job may
    # be another run's by then, while a traceback keeps this object.
    __del__ = property(attrgetter("_drop"))

    def __init__(self, job: Job, kept: object, on_done: Callable[[], object]) -> None:
        self._drop: Callable[[], object] = int
        self.job = job
        self._kept = kept
        self._on_done: Callable[[], object] | None = on_done
        self._timer: Timer | None = None
        self._group: Group | None = None
        self._key = 0

    def stop(self) -> None:
        """Ask the child to end: SIGTERM, and SIGKILL when the grace is over."""
        # Of a task that is dropped in a cycle with it, the finalizer may have ended the run already.
        if self.job[0].live:
            job_stop(self.job[0])
            self.go_on()

    def forsake(self) -> None:
        """Leave a child that does not die; it is the caller's, as an orphan."""
        if self.job[0].live:
            job_forsake(self.job[0])
            self.go_on()

    def go_on(self) -> None:
        """Act on what has become of the job: set its next timer, or tell that it is over."""
        group = self._group
        if group is None:
            return
        native = self.job[0]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if native.live:
            due = native.due_ns
            if due >= 0:
                self._timer = group.reactor.call_at(due / 1e9, self._on_due)
            return
        # In this order: after an interrupt of it the group looks at all that it still has.
        self._drop = int
        if self._on_done is not None:
            self._on_done()
            self._on_done = None
        group.remove(self._key)
        self._group = None

    def _on_due(self) -> None:
        self._timer = None
        if self.job[0].live:
            job_step(self.job[0], 0)
        self.go_on()


class Group:
    """The jobs of one reactor, on an epoll of their own."""

    __slots__ = ("_jobs", "_poller", "_serial", "reactor")

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self._poller = make_poller(embedded=True)
        self._jobs: dict[int, Bulk] = {}
        self._serial = 0
        reactor.watch(self._poller.fileno(), READ, self._on_ready)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, bulk: Bulk) -> None:
        """Drive a job from now on.

        Raises:
            OSError: epoll_ctl(2), such as ENOSPC, the user's limit of watches; the job is the caller's.
        """
        self._serial += 1
        job_watch(bulk.job[0], self._poller.fileno(), self._serial)
        bulk._drop = partial(job_abort, bulk.job[0], 0)
        bulk._group = self
        bulk._key = self._serial
        self._jobs[self._serial] = bulk
        bulk.go_on()

    def remove(self, key: int) -> None:
        """Keep a job no longer."""
        self._jobs.pop(key, None)

    def close(self) -> None:
        """Give the epoll back."""
        self.reactor.unwatch(self._poller.fileno())
        self._poller.close()
        for bulk in self._jobs.values():
            bulk.job[0].watched = 0
        self._jobs.clear()

    def _on_ready(self, _ready: int) -> None:
        try:
            for key in group_step(self._poller.fileno()):
                bulk = self._jobs.get(key)
                if bulk is not None:
                    bulk.go_on()
        except BaseException:
            # What a signal handler has raised: which jobs are over is reported once, and by now may be lost.
            self.reactor.call_at(0.0, self._look_at_all)
            raise

    def _look_at_all(self) -> None:
        for bulk in list(self._jobs.values()):
            bulk.go_on()
