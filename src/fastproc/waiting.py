"""Waiting for several children at once: one epoll for all of them, no thread, nothing spent while they run.

Reads and feeds no stream: a child that waits for somebody to read its full pipe does not end. Where a child has a
limit, callback or copy its outputs are read, as its wait() does it; it has ended when they have.
Invariant: each handle is held while it is watched, so that another thread that reaps the child cannot make its pidfd a
stranger's number (GOTCHAS C12, C15).
"""

from __future__ import annotations

from fastproc import errors
from fastproc._engine import orphans
from fastproc._engine.exit_watch import ExitWatch, has_ended
from fastproc._engine.process import Process
from fastproc._engine.reactor import Reactor, deadline_from
from fastproc._engine.streams.read_out import ReadOut
from fastproc._values.quoting import shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

__all__ = ["as_completed", "wait_all", "wait_any"]


def wait_any(processes: Iterable[Process], timeout: float | None = None) -> Process:
    """Wait until one of the processes has ended, and give it; the first of those given where several have.

    Its status is there without a wait: `returncode`, or `poll()`, which raises ExitStatusUnknown where it was lost.

    Args:
        processes: handles from `start()`, at least one.
        timeout: seconds at most; None for no limit.

    Raises:
        TimeoutExpired: all still run.
        ValueError: there are none.
        ProcessError: one of them belongs to the process that this one is a fork of.
    """
    waiting = _distinct(processes)
    if not waiting:
        raise ValueError("processes: there are none to wait for")
    completions = _completions(waiting, timeout)
    try:
        return next(completions)
    finally:
        # Here and not by the collector, which would swallow what a signal handler raises meanwhile.
        completions.close()


def as_completed(processes: Iterable[Process], timeout: float | None = None) -> Iterator[Process]:
    """Give each process when it has ended, in the order of their ends.

    Those that have ended before come first, in the order given; one that is given twice comes once. What the caller
    does between two of them delays the report of the next, and loses none.

    Args:
        processes: handles from `start()`.
        timeout: seconds from this call on in which all must end; None for no limit.

    Raises:
        TimeoutExpired: some still run; all that had ended have been given.
        ProcessError: one of them belongs to the process that this one is a fork of.
    """
    return _completions(_distinct(processes), timeout)


def wait_all(processes: Iterable[Process], timeout: float | None = None) -> list[int]:
    """Wait until all processes have ended, and give their return codes in the order of the processes.

    Args:
        processes: handles from `start()`.
        timeout: seconds at most; None for no limit.

    Raises:
        TimeoutExpired: some still run.
        ExitStatusUnknown: all have ended, and the status of one is lost.
        ProcessError: one of them belongs to the process that this one is a fork of.
    """
    given = list(processes)
    for _ in _completions(_distinct(given), timeout):
        pass
    return [process.wait() for process in given]


def _distinct(processes: Iterable[Process]) -> dict[Process, None]:
    found = dict.fromkeys(processes)
    for process in found:
        if not isinstance(process, Process):
            raise TypeError(f"processes: must be processes from start(), not {type(process).__name__}")
    return found


def _completions(running: dict[Process, None], timeout: float | None) -> Generator[Process, None, None]:
    """Check what can be checked now; the iteration begins with the first `next`."""
    deadline = deadline_from("timeout", timeout)
    ended = [process for process in running if has_ended(process) and process.taps is None]
    for process in ended:
        del running[process]
    return _iterate(running, ended, deadline, timeout)


def _iterate(
    running: dict[Process, None], ended: list[Process], deadline: float | None, timeout: float | None
) -> Generator[Process, None, None]:
    yield from ended
    if not running:
        return
    # Its own, not the thread's: what runs between two items may be driven by that one.
    reactor = Reactor()
    watches: list[ExitWatch | ReadOut] = []
    late: list[bool] = []
    ended = []
    try:
        for process in running:
            watch = (ExitWatch if process.taps is None else ReadOut)(process, reactor, ended.append)
            watches.append(watch)
            watch.begin()
        if deadline is not None:
            reactor.call_at(deadline, lambda: late.append(True))
        while running:
            reactor.run_once(0.0 if late or ended else orphans.attend())
            # Those that ended together with the deadline have ended in time.
            batch, ended[:] = ended[:], []
            for process in batch:
                del running[process]
                yield process
            if late and running and not batch:
                assert timeout is not None
                raise errors.TimeoutExpired(_text(running), timeout)
    except KeyboardInterrupt:
        # The terminal's reaches our group only (GOTCHAS H5).
        for process in running:
            process.interrupt_group()
        raise
    finally:
        for watch in watches:
            watch.close()
        reactor.close()


def _text(running: dict[Process, None]) -> str:
    """The command for a message: that of the first which runs, and how many others do."""
    line = shortened(next(iter(running)).argv, 1000)
    others = len(running) - 1
    return f"{line} (and {others} more)" if others else line
