"""A running expression left in the middle: its children killed and reaped, and everything given back.

Each function may be interrupted anywhere, and is then called again.
"""

from __future__ import annotations

from time import monotonic

from fastproc import errors
from fastproc._engine.signal_api import ABANDON_LIMIT, HELD_EVERY, SIGKILL
from fastproc._values.status import KILLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.pipeline._run import Run


def linger(run: Run, until: float) -> None:
    """Let the children end by themselves until a monotonic instant, and read what they write."""
    run.be_left()
    run.plumbing.pause_feeding()
    try:
        while not run.done and any(child.alive for child in run.children) and (left := until - monotonic()) > 0.0:
            run.reactor.run_once(min(left, HELD_EVERY))
    except Exception:
        # Interrupted in the middle it cannot go on; the exception on its way to the caller is the one to tell.
        pass


def abandon(run: Run) -> None:
    """Kill and reap the children, forget everything."""
    run.be_left()
    run.release()
    live = [child.process for child in run.children if child.process.final is None]
    # All of them first, so that they die side by side; then each is reaped.
    try:
        if live:
            run.flags |= KILLED
        run.send_signal(SIGKILL)
    except (OSError, errors.ProcessError):
        # The error on its way to the caller is the one to tell.
        pass
    until = monotonic() + ABANDON_LIMIT
    for process in live:
        if monotonic() < until:
            process.abandon()
        else:
            process.detach()
    for child in run.children:
        child.process.end_tree(max(0.0, until - monotonic()))
    run.leave()
