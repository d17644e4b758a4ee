"""Ownership of file descriptors.

Not here: which descriptor a child gets (the plan) and reading or writing them (the exchange).
Invariant: a number is closed once, by the object that owns it, and never after the kernel may have given it away again.
"""

from __future__ import annotations

import os
from _functools import partial  # type: ignore[import-not-found]
from errno import EIO
from itertools import starmap

from fastproc import errors
from fastproc._native.fds import close, new_cell, take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

FIRST_FREE_FD = 3
"""Numbers below belong to stdin, stdout and stderr, even where the host has closed them (GOTCHAS C8)."""

EMPTY = -1

NOT_HELD = -2
"""In the place of a pidfd, which may be -1."""

STREAMS = ("stdin", "stdout", "stderr")
STDIN, STDOUT, STDERR = 0, 1, 2

READ_SIZE = 65_536
"""Bytes of one read: what a pipe holds by default (pipe(7))."""

NEW_FILE_MODE = 0o666

PIPE_LARGE = 1 << 20
"""A stream that has filled a pipe once gets one of this size, if it may: its writer is woken less often."""


class OwnedFd:
    """One descriptor that this object has to close.

    Closing twice, or from several threads, does nothing the second time. Dropping the object closes the descriptor, in
    C: a finalizer in Python would be a place where a signal handler's exception is lost. Takes no lock (GOTCHAS I8).

    Args:
        fd: an open descriptor that nobody else closes, or -1 for none.
    """

    __slots__ = ("_cell",)

    # GOTCHAS C12. The number is taken out, replaced by -1 and closed in one call: `fd, self._fd = self._fd, -1` alone
    # is not atomic in a build without the GIL, and an interrupt could come before close().
    def __init__(self, fd: int = EMPTY) -> None:
        self._cell = new_cell(fd)

    def __repr__(self) -> str:
        return f"OwnedFd({self.number})"

    @property
    def number(self) -> int:
        """The descriptor, or -1 once it is closed or detached."""
        return self._cell[0]  # type: ignore[no-any-return]

    @property
    def closed(self) -> bool:
        """Whether there is no descriptor any more."""
        return self.number == EMPTY

    def fileno(self) -> int:
        """The descriptor.

        Raises:
            ValueError: it is closed or detached.
        """
        fd = self.number
        if fd == EMPTY:
            raise ValueError("the descriptor is closed")
        return fd

    def adopt(self, fd: int) -> None:
        """Become the owner of a descriptor; this object must have none, or this very one."""
        self._cell[0] = fd

    def fill(self, call: Callable[..., int], *args: object) -> int:
        """Become the owner of the descriptor that `call(*args)` returns; this object must have none.

        `call` must be a function in C. The number then goes from the system call into its owner with no bytecode
        between at which Ctrl-C could lose it.

        Raises:
            OSError: what the call raises; or it returns a negative errno.
        """
        cell = self._cell
        for cell[0] in starmap(call, (args,)):
            pass
        number = self.number
        if number < 0:
            self.detach()
            raise OSError(-number, os.strerror(-number))
        return number

    def take_over(self, other: OwnedFd) -> None:
        """Become the owner of another one's descriptor, with no bytecode between; this object must have none."""
        cell = self._cell
        for cell[0] in map(take, (other._cell,)):
            pass

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        """Become the owner of a file that is opened as os.open() has it; this object must have none.

        Raises:
            OSError: open(2).
        """
        self.fill(partial(os.open, dir_fd=dir_fd), path, flags, mode)

    def lift(self) -> int:
        """Move the descriptor out of the numbers 0 to 2, if it is there, and give its number.

        Where the host runs with a closed stdin, stdout or stderr, an open of ours would otherwise become somebody's
        standard stream (GOTCHAS C8).

        Raises:
            OSError: EMFILE, fcntl(2); the descriptor is closed.
        """
        if 0 <= self.number < FIRST_FREE_FD:
            import fcntl

            low = OwnedFd()
            # For a moment both have the one cell, from which only one can take the number.
            low._cell = self._cell
            self._cell = new_cell(EMPTY)
            with low:
                self.fill(fcntl.fcntl, low.number, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
        return self.number

    def detach(self) -> int:
        """Give the descriptor away: the caller closes it. -1 where there is none."""
        return take(self._cell)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the descriptor, if there still is one.

        Raises:
            OSError: what close(2) reports of data that could not be written (EIO, ENOSPC, EDQUOT). The descriptor is
                gone all the same.
        """
        close(self._cell)

    def __enter__(self) -> OwnedFd:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def make_pipe(size: int | None = None) -> tuple[OwnedFd, OwnedFd]:
    """Make a pipe whose ends block and are closed on exec: its read end and its write end, both above 2 (GOTCHAS C8).

    Args:
        size: bytes that it shall hold; None for the kernel's choice. The system may refuse it, and the pipe must do
            as it is (GOTCHAS E11).

    Raises:
        OSError: EMFILE, ENFILE.
    """
    ends = first, second = OwnedFd(), OwnedFd()
    # From the system call into their owners with no bytecode between at which Ctrl-C could lose them.
    for first._cell[0], second._cell[0] in starmap(os.pipe, ((),)):
        pass
    for end in ends:
        end.lift()
    if size is not None:
        set_pipe_size(first.number, size)
    return ends


def set_pipe_size(fd: int, size: int) -> None:
    """Make a pipe hold `size` bytes, if the system lets us (GOTCHAS E11: it may not, and the pipe must do as it is)."""
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
        except OSError:
            pass


class Opened:
    """Descriptors that a command's plan uses and that are closed after its spawn."""

    __slots__ = ("_fds", "memory")

    def __init__(self) -> None:
        self._fds: list[OwnedFd] = []
        # Files in memory, by the number of the stream: not closed here but by those who read them.
        self.memory: dict[int, OwnedFd] = {}

    def open(self, path: str, flags: int, mode: int = NEW_FILE_MODE) -> int:
        """Open a file and own it; its number is above 2 (GOTCHAS C8).

        Raises:
            OSError: open(2).
        """
        owned = OwnedFd()
        self._fds.append(owned)
        try:
            owned.fill(os.open, path, flags, mode)
        except OSError:
            self._fds.remove(owned)
            raise
        return owned.lift()

    def own(self, fd: OwnedFd) -> None:
        """Close this one too."""
        self._fds.append(fd)

    def make_memory(self, stream: int) -> int:
        """Make a file in memory for an output (memfd_create(2)); it can be sealed.

        Raises:
            OSError: ENFILE, EMFILE, ENOMEM.
        """
        self.memory[stream] = owned = self.new_memory(stream)
        return owned.number

    def new_memory(self, stream: int) -> OwnedFd:
        """Make one that the caller owns.

        Raises:
            OSError: as make_memory().
            Unsupported: this system has none.
        """
        if not hasattr(os, "memfd_create"):
            raise errors.Unsupported(f"{STREAMS[stream]}: this system has no files in memory (memfd_create(2))")
        # 1 GiB of `head` takes 0.65 s here, most of it for single pages. What is no better: a tmpfs of our own with
        # huge=always, as root (0.7 to 2.4 s where large pages come slowly), and fallocate(2) ahead of the child (0.6 to
        # 1.0 s: it takes the lock of the inode that each write takes).
        owned = OwnedFd()
        owned.fill(os.memfd_create, f"fastproc-{STREAMS[stream]}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        owned.lift()
        return owned

    def give(self, fd: int) -> OwnedFd:
        """Give away what was opened here as a descriptor; of one that is the caller's own, a copy.

        Raises:
            OSError: EBADF, EMFILE.
        """
        for owned in self._fds:
            if owned.number == fd:
                self._fds.remove(owned)
                return owned
        import fcntl

        copy = OwnedFd()
        copy.fill(fcntl.fcntl, fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
        return copy

    def close(self) -> None:
        """Close everything. A file that could not be written says so to the child, not here."""
        for owned in self._fds:
            try:
                owned.close()
            except OSError:
                pass
        self._fds.clear()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def read_some(fd: int, size: int, queue: deque[bytes] | list[bytes]) -> bytes | None:
    """Read what is there into a queue, and give it: b"", which is not queued, at the end; None when nothing is there.

    The piece goes from the system call into the queue with no bytecode between at which a signal handler that raises
    could lose it. After such an interrupt the queue may hold a piece that nobody was given, or an empty one.

    Raises:
        OSError: read(2).
    """
    try:
        queue.extend(map(os.read, (fd,), (size,)))
    except BlockingIOError:
        return None
    except OSError as error:
        # What a terminal says instead of an end of file (GOTCHAS E16); nothing that was written is lost by then.
        if error.errno != EIO:
            raise
        return b""
    return queue[-1] or queue.pop()


def read_all(fd: int) -> bytes:
    """Read a small file to its end.

    Raises:
        OSError: read(2).
    """
    pieces = [b""]
    while piece := os.read(fd, 65536):
        pieces.append(piece)
    return b"".join(pieces)


def pipe_size(fd: int) -> int:
    """Bytes that a pipe can hold at the most, PIPE_LARGE or more."""
    import fcntl

    if hasattr(fcntl, "F_GETPIPE_SZ"):
        try:
            return max(PIPE_LARGE, fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ))
        except OSError:
            # A terminal.
            pass
    return PIPE_LARGE


class LentFd:
    """An end as a file for a loop of libuv, which closes the number itself, and then the file.

    A real file would close the number once more, and in between it may have become a stranger's; or, where the loop is
    done with the number before it keeps the file, at any later moment, when the file is dropped.
    """

    __slots__ = ("_end", "_number")

    def __init__(self, end: OwnedFd) -> None:
        self._end = end
        self._number = EMPTY

    def fileno(self) -> int:
        """The descriptor, which is the caller's to close from the first time on.

        Raises:
            ValueError: it was closed.
        """
        if self._number == EMPTY:
            self._end.fileno()
            self._number = self._end.detach()
        return self._number

    def close(self) -> None:
        """Close the descriptor, if nobody has asked for it."""
        self._number = EMPTY
        self._end.close()


def widen(fd: int) -> None:
    """Make a pipe larger, if the system lets us."""
    set_pipe_size(fd, PIPE_LARGE)
