"""The new interpreter of `_fresh.py`: it has one thread, forks the daemon, and writes the result into the memfd."""

from __future__ import annotations

import os
import pickle
import sys

from fastproc._engine.fds import OwnedFd
from fastproc.daemon._daemon import Daemon
from fastproc.daemon._errors import DaemonError
from fastproc.daemon._fresh import read_all, write_all
from fastproc.daemon._program_monitor import keep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastproc.daemon._daemon import Outcome
    from fastproc.daemon._options import Settings


def main() -> None:
    """Be the new interpreter: read the options, fork the daemon, write the result."""
    outcome = None
    answer: int | BaseException
    fd = OwnedFd(int(sys.argv[1]))
    sys.argv = ["fastproc-daemon"]
    try:
        settings, order = pickle.loads(read_all(fd.number))
        write_all(fd.number, b"")
        os.set_inheritable(fd.number, False)
        for one in settings.keep_fds:
            os.set_inheritable(one, False)
        settings.foreground = False
        daemon = Daemon()
        daemon.settings = settings
        outcome = daemon._execute(keeps=order[0] == "spawn")
        answer = outcome.pid
    except Exception as error:
        answer = error if _can_travel(error) else DaemonError("fork", type(error).__name__, str(error))
    if outcome is not None and outcome.is_child:
        # The daemon has closed the memfd with the other descriptors.
        sys.exit(_be(outcome, settings, order))
    write_all(fd.number, pickle.dumps(answer))


def _be(outcome: Outcome, settings: Settings, order: tuple[Any, ...]) -> Any:
    """Be the daemon."""
    if order[0] == "call":
        return order[1](outcome, *order[2])
    return keep(outcome, settings, order[1], order[2])


def _can_travel(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True
