"""Closing the descriptors that a daemon has inherited, and marking the Python objects that own them as closed."""

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
    """Close every descriptor except the standard streams and `keep`.

    File objects, sockets and epoll objects of this interpreter whose descriptor is closed are marked as closed.
    Otherwise such an object would later close a number that is in use again (GOTCHAS C12). Buffered data is dropped:
    the launcher writes it (GOTCHAS H14). Descriptors inside libraries, such as a database connection, cannot be marked:
    open the connection afterwards, or keep its descriptor.
    """
    kept = {0, 1, 2, *keep}
    selector = getattr(sys.modules.get("selectors"), "BaseSelector", Reactor)
    for thing in gc.get_objects():
        try:
            _let_go(thing, kept, selector)
        except (OSError, ValueError, ReferenceError):
            continue  # the object has no descriptor any more
    for number in sorted({*_open_numbers()} - kept):
        try:
            os.close(number)
        except OSError:
            pass  # the number is not open


def _open_numbers() -> Iterable[int]:
    """Return the numbers of all open descriptors; without /proc, all possible numbers."""
    try:
        with OwnedFd() as folder:
            folder.fill(os.open, "/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            found = set(map(int, os.listdir(folder.number)))
            # Only procfs lists the descriptor by which the directory is read.
            if folder.number in found:
                return found - {folder.number}
    except (OSError, ValueError):
        pass
    limit = getrlimit(RLIMIT_NOFILE)[1]
    return range(limit if 0 < limit < NUMBERS_MAX else NUMBERS_MAX)


NUMBERS_MAX = 2**20
"""The kernel's default maximum for RLIMIT_NOFILE (fs.nr_open, proc_sys_fs(5))."""


def _let_go(thing: object, kept: set[int], selector: type) -> None:
    kind = type(thing)
    if issubclass(kind, OwnedFd):
        if thing.number not in kept:  # type: ignore[attr-defined]
            # close_all_but() closes the number itself.
            thing.detach()  # type: ignore[attr-defined]
    elif issubclass(kind, io.FileIO):
        # With closefd=False another object owns the descriptor.
        if thing.fileno() not in kept and thing.closefd:  # type: ignore[attr-defined]
            thing.close()  # type: ignore[attr-defined]
    elif issubclass(kind, _socket.socket):
        if thing.fileno() not in kept:  # type: ignore[attr-defined]
            _socket.socket.detach(thing)  # type: ignore[arg-type]
    elif issubclass(kind, (Reactor, selector)):
        # The launcher uses the same epoll (GOTCHAS I2).
        thing.close()  # type: ignore[attr-defined]
