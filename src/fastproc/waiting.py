"""Waiting for several children at once: one epoll for all, without a thread, and without CPU time while they run.

These functions do not read or feed streams, so a child that waits until its full pipe is read does not end. If a child
has a limit, callback or copy, its outputs are read as by its wait(), and the child has ended when the outputs have
ended. Invariant: each handle is held while it is watched. So another thread that reaps the child cannot close the
pidfd, and its number cannot be reused (GOTCHAS C12, C15).
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
    """Wait until one of the processes has ended, and return it; if several have ended, the first in the given order.

    Its status is available without a wait: `returncode`, or `poll()`, which raises ExitStatusUnknown if it was lost.

    Args:
        processes: handles from `start()`, at least one.
        timeout: seconds; None for no limit.

    Raises:
        TimeoutExpired: all processes still run.
        ValueError: `processes` is empty.
        ProcessError: this process is a forked copy, and a handle belongs to its parent.
    """
    waiting = _distinct(processes)
    if not waiting:
        raise ValueError("processes: there are none to wait for")
    completions = _completions(waiting, timeout)
    try:
        return next(completions)
    finally:
        # Closed here: in the garbage collector an exception of a signal handler would be lost.
        completions.close()


def as_completed(processes: Iterable[Process], timeout: float | None = None) -> Iterator[Process]:
    """Iterate over the processes in the order in which they end.

    Processes that have already ended come first, in the given order. A process that is given twice comes once. A caller
    that is slow between two items gets the next one later, and misses none.

    Args:
        processes: handles from `start()`.
        timeout: seconds from this call, within which all processes must end; None for no limit.

    Raises:
        TimeoutExpired: some processes still run; all that had ended were returned.
        ProcessError: this process is a forked copy, and a handle belongs to its parent.
    """
    return _completions(_distinct(processes), timeout)


def wait_all(processes: Iterable[Process], timeout: float | None = None) -> list[int]:
    """Wait until all processes have ended, and return their return codes in the given order.

    Args:
        processes: handles from `start()`.
        timeout: seconds; None for no limit.

    Raises:
        TimeoutExpired: some processes still run.
        ExitStatusUnknown: all processes have ended, and the status of one is lost.
        ProcessError: this process is a forked copy, and a handle belongs to its parent.
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
    """Check the arguments now; the iteration begins with the first `next`."""
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
    # A separate reactor: code that runs between two items may use the thread's reactor.
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
            # A process that ends together with the deadline has ended in time.
            batch, ended[:] = ended[:], []
            for process in batch:
                del running[process]
                yield process
            if late and running and not batch:
                assert timeout is not None
                raise errors.TimeoutExpired(_text(running), timeout)
    except KeyboardInterrupt:
        # The terminal sends SIGINT only to this process group (GOTCHAS H5).
        for process in running:
            process.interrupt_group()
        raise
    finally:
        for watch in watches:
            watch.close()
        reactor.close()


def _text(running: dict[Process, None]) -> str:
    """Return the command of the first running process, and the number of others, for a message."""
    line = shortened(next(iter(running)).argv, 1000)
    others = len(running) - 1
    return f"{line} (and {others} more)" if others else line
