"""The standard streams of a daemon: opened before the chroot and the change of user, then copied by dup2(2)."""

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
"""The priority of lines on stdout and stderr: informational, error (syslog(3))."""


def chosen(settings: Settings, foreground: bool) -> tuple[Any, Any, Any]:
    """Return the target of each stream. None means the null device, or in the foreground that the stream is kept."""
    default = "keep" if foreground else "null"
    first, out, err = (getattr(settings, name) for name in NAMES)
    return tuple(default if one is None else one for one in (first, out, err))  # type: ignore[return-value]


class Streams:
    """The three standard streams.

    Args:
        ident: the name of the daemon in logs.
        whom: the identity of the daemon. A file that other users could replace is opened with these rights.
        pipes: the write ends of the pipes to the log process.
    """

    def __init__(self, ident: str, whom: Target, pipes: dict[int, OwnedFd]) -> None:
        self._ident = ident
        self._whom = whom
        self._pipes = pipes
        self._files: dict[str, OwnedFd] = {}

    def place(self, index: int, what: Any) -> None:
        """Replace a standard stream.

        Raises:
            OSError: the file cannot be opened.
            Untrusted: another user could have replaced the file.
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
        """Close the files and pipes."""
        for fd in self._files.values():
            fd.close()
        for fd in self._pipes.values():
            fd.close()

    def _keep(self, index: int) -> None:
        # The next open would return the number of a closed stream (GOTCHAS C8).
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
        # stdout and stderr with the same path share one open file description, so that they do not overwrite each
        # other.
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
        # The file is opened with the launcher's rights only if the daemon's user cannot replace it by a link. A log in
        # a directory of the daemon's user is opened with the rights of this user, and links of other users are refused.
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
    """Open the null device, and verify that it is the null device (GOTCHAS H13).

    Raises:
        OSError: the device is missing, or the file is not the null device.
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
    """Connect a stream to the journal, which adds the metadata of the process to each line (sd_journal_stream_fd(3)).

    Raises:
        OSError: the journal cannot be reached.
    """
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        try:
            stream.connect(JOURNAL)
        except OSError as error:
            error.filename = JOURNAL
            raise
        stream.shutdown(socket.SHUT_RD)
        # Identifier, unit, priority, whether lines may begin with <N>, and three forwarding flags.
        stream.sendall(f"{ident}\n\n{priority}\n1\n0\n0\n0\n".encode())
        fd = OwnedFd()
        fd.fill(socket.SocketType.detach, stream)
    fd.lift()
    return fd


def flush() -> None:
    """Write the buffers of stdout and stderr, so that only one process writes them (GOTCHAS H14)."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # the stream is None or closed
            stream.flush()
