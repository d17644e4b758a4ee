"""Where a daemon's standard streams go: opened before the chroot and the change of user, put in place by dup2(2)."""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress

from fastproc._engine.fds import OwnedFd
from fastproc._engine.trusted import Untrusted, check_ours, enter, open_blocking, open_file
from fastproc._values.redirect import STDOUT, Append

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastproc.daemon._options import Settings
    from fastproc.privileges._switch import Target

NAMES = ("stdin", "stdout", "stderr")
NULL = "/dev/null"
JOURNAL = "/run/systemd/journal/stdout"
PRIORITIES = {1: 6, 2: 3}
"""Of lines on stdout and stderr in a log: informational, error (syslog(3))."""


def chosen(settings: Settings, foreground: bool) -> tuple[Any, Any, Any]:
    """What each stream shall be; a supervisor's are kept where nothing is said."""
    default = "keep" if foreground else "null"
    first, out, err = (getattr(settings, name) for name in NAMES)
    return tuple(default if one is None else one for one in (first, out, err))  # type: ignore[return-value]


class Streams:
    """The three, one after the other.

    Args:
        ident: what the daemon is called in logs.
        whom: the user that it becomes, with whose rights files are opened that others could exchange.
        pipes: the write ends to the process that tells syslog, for the streams that want it.
    """

    def __init__(self, ident: str, whom: Target, pipes: dict[int, OwnedFd]) -> None:
        self._ident = ident
        self._whom = whom
        self._pipes = pipes
        self._files: dict[str, OwnedFd] = {}

    def place(self, index: int, what: Any) -> None:
        """Put what was chosen in place of a stream.

        Raises:
            OSError, Untrusted: it cannot be opened, or is not what it must be.
        """
        if what == "keep":
            self._keep(index)
            return
        if what is STDOUT:
            os.dup2(1, index)
            return
        if isinstance(what, int):
            os.dup2(what, index)
            return
        fd = self._open(index, what)
        os.dup2(fd.number, index)
        if not isinstance(what, (str, Append)) or _path(what) not in self._files:
            fd.close()

    def close(self) -> None:
        """Close what was opened."""
        for fd in self._files.values():
            fd.close()
        for fd in self._pipes.values():
            fd.close()

    def _keep(self, index: int) -> None:
        # A stream that is closed would be the number of the next file that is opened (GOTCHAS C8).
        try:
            os.fstat(index)
        except OSError:
            with open_null() as null:
                os.dup2(null.number, index)

    def _open(self, index: int, what: Any) -> OwnedFd:
        if what == "null":
            return open_null()
        if what == "journal":
            return open_journal(self._ident, PRIORITIES[index])
        if what == "syslog":
            return self._pipes[index]
        path = _path(what)
        # One open file for both streams in one file, so that neither writes over the other.
        if index == 0:
            return self._open_file(path, os.O_RDONLY)
        if path not in self._files:
            flags = os.O_APPEND if isinstance(what, Append) else os.O_TRUNC
            self._files[path] = self._open_file(path, os.O_WRONLY | os.O_CREAT | flags)
        return self._files[path]

    def _open_file(self, path: str, flags: int) -> OwnedFd:
        folder, name = os.path.split(path)
        uid = self._whom.uid
        if uid is None or uid == os.geteuid():
            return open_file(path, flags)
        # Opened with our rights for another user's daemon: only where that user could not put a link in its place. A
        # log in a directory of the user's is opened with the user's rights, and by nobody else's links.
        try:
            with enter(folder) as place:
                return _of_roots_directory(path, flags, name, place)
        except Untrusted:
            pass
        from fastproc.privileges import temporarily
        from fastproc.users import FakeUsers

        with temporarily(uid, group=self._whom.gid, groups=self._whom.groups or (), users=FakeUsers()):
            return open_file(path, flags, guarded=True)


def _path(what: Any) -> str:
    return what.path if isinstance(what, Append) else what


def _of_roots_directory(path: str, flags: int, name: str, place: OwnedFd) -> OwnedFd:
    if not name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    try:
        fd = open_blocking(name, flags & ~os.O_TRUNC | os.O_NOFOLLOW, folder=place.number, shown=path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Untrusted(f"{path} is a symbolic link") from None
        raise
    try:
        status = os.fstat(fd.number)
        if stat.S_ISREG(status.st_mode):
            check_ours(status, path)
            if flags & os.O_TRUNC:
                os.ftruncate(fd.number, 0)
    except BaseException:
        fd.close()
        raise
    return fd


def open_null() -> OwnedFd:
    """Open the null device, if it is that (GOTCHAS H13).

    Raises:
        OSError: it is missing, or something else.
    """
    fd = OwnedFd()
    fd.open(NULL, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    fd.lift()
    status = os.fstat(fd.number)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        fd.close()
        raise OSError(errno.ENODEV, "it is not the null device", NULL)
    os.set_blocking(fd.number, True)
    return fd


def open_journal(ident: str, priority: int) -> OwnedFd:
    """Connect a stream to the journal, which takes its lines with the process's own metadata (sd_journal_stream_fd(3)).

    Raises:
        OSError: there is no journal.
    """
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        try:
            stream.connect(JOURNAL)
        except OSError as error:
            error.filename = JOURNAL
            raise
        stream.shutdown(socket.SHUT_RD)
        # Identifier, unit, priority, whether lines may begin with <N>, and three ways on that the journal decides.
        stream.sendall(f"{ident}\n\n{priority}\n1\n0\n0\n0\n".encode())
        fd = OwnedFd()
        fd.fill(socket.SocketType.detach, stream)
    fd.lift()
    return fd


def flush() -> None:
    """Write what is in the buffers of stdout and stderr, so that only one process does (GOTCHAS H14)."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, or it is closed
            stream.flush()
