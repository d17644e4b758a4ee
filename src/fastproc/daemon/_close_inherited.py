"""Closing what a daemon has inherited, in an interpreter whose objects still believe in it."""

from __future__ import annotations

import _socket
import gc
import io
import os
import sys
from resource import RLIMIT_NOFILE, getrlimit

from fastproc._engine.fds import OwnedFd
from fastproc._engine.reactor import Reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor but the standard streams and those to keep.

    Files, sockets and epolls of this interpreter that lose theirs are told so, and lose what they had buffered: it is
    the launcher's to write (GOTCHAS H14), and a number that is closed twice would be a stranger's by then
    (GOTCHAS C12). What lies in libraries, such as a database connection, cannot be told: it is to be opened
    afterwards, or kept.
    """
    kept = {0, 1, 2, *keep}
    selector = getattr(sys.modules.get("selectors"), "BaseSelector", Reactor)
    for thing in gc.get_objects():
        try:
            _let_go(thing, kept, selector)
        except (OSError, ValueError, ReferenceError):
            continue  # it has none any more
    for number in sorted({*_open_numbers()} - kept):
        try:
            os.close(number)
        except OSError:
            pass  # nothing is open there


def _open_numbers() -> Iterable[int]:
    """Return the numbers of all open descriptors; where no proc file system tells them, all that there can be."""
    try:
        with OwnedFd() as folder:
            folder.fill(os.open, "/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            found = set(map(int, os.listdir(folder.number)))
            # A folder of another file system, whatever its names, does not have this number.
            if folder.number in found:
                return found - {folder.number}
    except (OSError, ValueError):
        pass
    limit = getrlimit(RLIMIT_NOFILE)[1]
    return range(limit if 0 < limit < NUMBERS_MAX else NUMBERS_MAX)


NUMBERS_MAX = 2**20
"""The kernel's limit of descriptors, unless somebody has raised it (fs.nr_open, proc_sys_fs(5))."""


def _let_go(thing: object, kept: set[int], selector: type) -> None:
    kind = type(thing)
    if issubclass(kind, OwnedFd):
        if thing.number not in kept:  # type: ignore[attr-defined]
            # The number is closed with the rest.
            thing.detach()  # type: ignore[attr-defined]
    elif issubclass(kind, io.FileIO):
        # closefd=False: it borrows the number from somebody.
        if thing.fileno() not in kept and thing.closefd:  # type: ignore[attr-defined]
            thing.close()  # type: ignore[attr-defined]
    elif issubclass(kind, _socket.socket):
        if thing.fileno() not in kept:  # type: ignore[attr-defined]
            _socket.socket.detach(thing)  # type: ignore[arg-type]
    elif issubclass(kind, (Reactor, selector)):
        # Its epoll is the launcher's too (GOTCHAS I2).
        thing.close()  # type: ignore[attr-defined]
