"""Who a process of another is: what /proc tells of it, and a pidfd that makes sure that it was told of this one.

Invariants: nothing is signalled by its number. A pidfd is opened, then the evidence is read, then the pidfd must still
find the process: it was not reaped meanwhile, so the number was its own (GOTCHAS D1). And no number is taken from, or
looked up in, the /proc of another PID namespace, where it names a stranger (`Proc`).
"""

from __future__ import annotations

import os
from _functools import partial  # type: ignore[import-not-found]
from errno import EMFILE, ENFILE, ENODEV

from fastproc import _native
from fastproc._engine.fds import OwnedFd, read_all
from fastproc._engine.reactor import is_readable
from fastproc._native import proc

SIGKILL = 9


class Member:
    """A process, found by its number and known by its pidfd.

    Args:
        pid: its number.
        borrowed: somebody else's pidfd of it; None to open one.

    Raises:
        OSError: it has ended, or no pidfd can be had.
    """

    __slots__ = ("_borrowed", "_fd", "descends", "killed", "name", "pid", "refused")

    def __init__(self, pid: int, borrowed: int | None = None) -> None:
        self.pid = pid
        self._borrowed = borrowed
        self._fd = OwnedFd()
        if borrowed is None:
            self._fd.fill(_native.fp_pidfd_open, pid)
        self.name = "?"
        # Whether it is a descendant for certain, and not only of the group: then it may be reaped if it comes to us.
        self.descends = False
        self.killed = False
        self.refused = False

    @property
    def number(self) -> int:
        """The pidfd, or -1 when it is closed."""
        return self._fd.number if self._borrowed is None else self._borrowed

    def close(self) -> None:
        """Close the pidfd, unless it is borrowed."""
        self._fd.close()

    def has_ended(self) -> bool:
        """Return whether all its threads have ended: a pidfd is readable then (pidfd_open(2)); no /proc is asked."""
        if self.number < 0:
            return True
        return is_readable(self.number)

    def is_there(self) -> bool:
        """Return whether the pidfd still finds it, as a zombie too: its number is nobody else's."""
        if self.number < 0:
            return False
        try:
            _native.signal(self.number, -1, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            # Somebody else's by now, but there.
            return True
        except OSError:
            return False
        return True

    def send(self, sig: int) -> None:
        """Send a signal by the pidfd; remember a refusal."""
        try:
            _native.signal(self.number, -1, sig)
        except ProcessLookupError:
            pass
        except OSError:
            self.refused = True
        else:
            self.killed = self.killed or sig == SIGKILL

    def reap(self) -> None:
        """Take it out of the process table, if it has ended and is our child."""
        try:
            _native.wait(self.number, -1, _native.NOHANG, _native.new_status())
        except OSError:
            pass


class Facts:
    """What proc_pid_stat(5) tells of one process."""

    __slots__ = ("ended", "name", "pgrp", "pid", "ppid", "session", "start", "state")

    def __init__(self, pid: int, line: bytes) -> None:
        # The name stands in parentheses, and may have some itself.
        end = line.rindex(b")")
        fields = line[end + 2 :].split()
        self.pid = pid
        self.name = os.fsdecode(line[line.index(b"(") + 1 : end])
        self.state = fields[0].decode()
        self.ppid, self.pgrp, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        # A leader that has ended while other threads of it run is shown as a zombie too (GOTCHAS D10).
        self.ended = self.state in "ZXx" and int(fields[17]) <= 1
        # Clock ticks since the boot.
        self.start = int(fields[19])


def is_about_one(error: OSError) -> bool:
    """Return whether an error is about the process that was asked for, and not about our own lack of descriptors."""
    return error.errno not in (EMFILE, ENFILE)


class Proc:
    """The /proc of this process's PID namespace, held open: a number in it is the one that pidfd_open(2) takes.

    Everything is read below the descriptor that was looked at, whatever is mounted at /proc later.

    Raises:
        OSError: EXDEV: /proc is another PID namespace's; ENODEV: there is none; EMFILE, ENFILE.
    """

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = OwnedFd()
        try:
            self._fd.fill(os.open, "/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise OSError(ENODEV, proc.MISSING, "/proc") from None
        try:
            proc.check(self._fd.number)
        except BaseException:
            self._fd.close()
            raise

    def __enter__(self) -> Proc:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self._fd.close()

    def _read(self, path: str) -> bytes:
        try:
            with OwnedFd() as file:
                file.fill(partial(os.open, dir_fd=self._fd.fileno()), path, os.O_RDONLY | os.O_CLOEXEC)
                return read_all(file.number)
        except OSError as error:
            if not is_about_one(error):
                raise
            return b""

    def facts(self, pid: int) -> Facts | None:
        """Return what is known of a process; None when it has gone.

        Raises:
            OSError: EMFILE, ENFILE.
        """
        try:
            return Facts(pid, self._read(f"{pid}/stat"))
        except (ValueError, IndexError):
            # Gone, or going: ESRCH while it is read, or an empty file.
            return None

    def environ(self, pid: int) -> bytes:
        """Return the environment that a process was started with, between two NULs; b"" where it may not be read.

        Raises:
            OSError: EMFILE, ENFILE.
        """
        return b"\0" + self._read(f"{pid}/environ")

    def pids(self) -> list[int]:
        """Return the numbers of all processes that can be seen.

        Raises:
            OSError: EMFILE, ENFILE.
        """
        try:
            return sorted(int(name) for name in os.listdir(self._fd.fileno()) if name.isdigit())
        except OSError as error:
            if not is_about_one(error):
                raise
            return []


def facts_of(pid: int) -> Facts | None:
    """Return what is known of one process; None when it has gone.

    Raises:
        OSError: as `Proc`: nothing is known of a number where /proc is not this PID namespace's.
    """
    with Proc() as own:
        return own.facts(pid)


def why(state: str, refused: bool) -> str:
    """Return in words why a process is still there."""
    if refused:
        return "may not be signalled: it runs as another user"
    if not state:
        return "killed, and not gone yet"
    words = {"D": "in an uninterruptible sleep in the kernel", "t": "held by a tracer"}
    return words.get(state, f"killed, and not gone yet (state {state})")
