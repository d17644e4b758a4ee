"""One program and all that the kernel hands to us when its parents end: for process 1 of a namespace and subreapers.

Invariant: the program's own status is taken by its handle only; what else is reaped was a child of ours by then.
"""

from __future__ import annotations

import os

from fastproc import errors
from fastproc._engine.exit_watch import ExitWatch
from fastproc._engine.reactor import READ, borrowed
from fastproc.signals._received import Received

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.process import Process
    from fastproc.signals._inbox import Inbox

_ALL_KINDS = 0x40000000
"""__WALL of waitpid(2): also children that tell of their end by another signal than SIGCHLD."""


def reap_adopted(program: Process, on_reaped: Callable[[int, int], object]) -> None:
    """Reap every child that has ended, but for the program, whose status its handle takes.

    Args:
        program: what was started.
        on_reaped: called with the pid and the wait status (wait(2)) of each.
    """
    while True:
        try:
            # Looked at first, and taken by its number then: nobody can have that meanwhile (GOTCHAS D1).
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _ALL_KINDS)
        except ChildProcessError:
            return
        if found is None:
            return
        if found.si_pid == program.pid and program.final is None:
            try:
                if program.poll() is None:
                    return
            except errors.ExitStatusUnknown:
                # wait() tells.
                pass
            continue
        pid, status = os.waitpid(found.si_pid, os.WNOHANG | _ALL_KINDS)
        if pid:
            on_reaped(pid, status)


def attend(
    program: Process,
    inbox: Inbox,
    on_signal: Callable[[Received], object],
    on_reaped: Callable[[int, int], object],
) -> int:
    """Wait for the program's end, reap what else ends meanwhile, and give its return code.

    Args:
        program: what was started.
        inbox: of the signals, SIGCHLD among them.
        on_signal: called with each but SIGCHLD.
        on_reaped: as for reap_adopted().

    Raises:
        ExitStatusUnknown: somebody else reaped it.
    """

    def look(_events: int) -> None:
        ended = False
        inbox.look()
        while (received := inbox.take()) is not None:
            if received.name == "SIGCHLD":
                ended = True
            else:
                on_signal(received)
        # The kernel keeps one SIGCHLD, however many have ended (signal(7)).
        if ended:
            reap_adopted(program, on_reaped)

    with borrowed() as reactor:
        # Children of ours tell of their end by the pidfd, and need not by SIGCHLD.
        watch = ExitWatch(program, reactor, lambda _program: None)
        reactor.watch(inbox.fileno(), READ, look)
        try:
            watch.begin()
            look(0)
            while program.final is None:
                reactor.run_once()
            look(0)
        finally:
            watch.close()
            reactor.unwatch(inbox.fileno())
    reap_adopted(program, on_reaped)
    return program.wait()
