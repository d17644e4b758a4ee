"""The daemon's half of a pid file: made, locked, written, and left.

Invariants: the lock decides, never the number (HAZARDS H10). It is held by a descriptor that is closed on exec and in
forked copies, and that cannot write: a daemon that has become another user cannot make its file name somebody else.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from weakref import WeakSet

from fastproc._engine.fds import OwnedFd
from fastproc._engine.reactor import borrowed, instant
from fastproc._values.pidfile import SIZE_MAX, Recorded, format_pid_file, parse_pid_file
from fastproc.daemon._errors import AlreadyRunning, PidFileError
from fastproc.daemon._place import Untrusted, enter, trusted_owners, why_not_regular

COMMON = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Of every open of a pid file: no symbolic link, and a FIFO or a terminal holds nobody (HAZARDS H8)."""

MODE = 0o644
PATIENCE = 1.0
"""Seconds for which a lock may be held by one who only looks, or has not written yet, before it counts as another's."""
PAUSE = 0.01

_alive: WeakSet[Lock] = WeakSet()


class Lock:
    """A pid file whose lock this process holds.

    Args:
        path: absolute.
        fd: the locked descriptor, which only reads.
        writer: another of the same file, for as long as something is to be written.
    """

    __slots__ = ("__weakref__", "_fd", "_owner", "_writer", "path")

    def __init__(self, path: str, fd: OwnedFd, writer: OwnedFd) -> None:
        self.path = path
        self._fd = fd
        self._writer = writer
        self._owner = os.getpid()
        _alive.add(self)

    @property
    def number(self) -> int:
        """The locked descriptor, or -1."""
        return self._fd.number

    def chown(self, uid: int, gid: int) -> None:
        """Give the file to another user or group; -1 leaves one."""
        os.fchown(self._fd.number, uid, gid)

    def write(self, recorded: Recorded) -> None:
        """Write who the daemon is. Afterwards nothing more can be written."""
        data = format_pid_file(recorded)
        os.ftruncate(self._writer.number, 0)
        if os.pwrite(self._writer.number, data, 0) != len(data):
            raise PidFileError(self.path, "it could not be written whole")
        self._writer.close()

    def drop(self) -> None:
        """Give the lock up; the file stays as it is, and is known to be stale."""
        self._writer.close()
        self._fd.close()

    def remove(self) -> None:
        """Remove the file, if it still is this one and may be removed, and give the lock up. Raises nothing."""
        if self._owner != os.getpid():
            return
        try:
            with enter(os.path.dirname(self.path)) as folder:
                name = os.path.basename(self.path)
                # HAZARDS H11: while the lock is held nobody else has this very file, and a successor's is another one.
                if same_file(os.stat(name, dir_fd=folder.number, follow_symlinks=False), os.fstat(self._fd.number)):
                    os.unlink(name, dir_fd=folder.number)
        except (OSError, Untrusted, ValueError):
            # Another user by now, or in another root. It is stale once the lock is gone.
            pass
        finally:
            self.drop()


def _after_fork() -> None:
    # HAZARDS C17: a copy of the daemon must not hold its lock, or it could not be started again while the copy lives.
    for lock in list(_alive):
        lock.drop()


os.register_at_fork(after_in_child=_after_fork)


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two are one file."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def check_path(path: str) -> tuple[str, str]:
    """Return the directory and the name of a pid file.

    Raises:
        ValueError: it has no name.
    """
    folder, name = os.path.split(path)
    if not name or name in (".", ".."):
        raise ValueError(f"pid_file: {path!r} does not name a file")
    return folder, name


def open_checked(path: str, flags: int, owners: frozenset[int], mode: int = 0) -> tuple[OwnedFd, OwnedFd]:
    """Open a pid file: its directory and itself.

    Raises:
        PidFileError: it is not what it must be, or lies where others can change it.
        FileNotFoundError: it is not there.
        OSError: another reason of openat(2).
    """
    name, fd = os.path.basename(path), OwnedFd()
    try:
        folder = enter(os.path.dirname(path))
    except Untrusted as error:
        raise PidFileError(path, str(error)) from None
    try:
        try:
            fd.adopt(os.open(name, flags | COMMON, mode, dir_fd=folder.number))
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise
            status = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
            raise PidFileError(path, why_not_regular(status, owners) or os.strerror(error.errno)) from None
        fd.lift()
        wrong = why_not_regular(os.fstat(fd.number), owners)
        if wrong:
            raise PidFileError(path, wrong)
        return folder, fd
    except BaseException:
        folder.close()
        fd.close()
        raise


def acquire(path: str, owners: frozenset[int] = frozenset()) -> Lock:
    """Make a pid file, or take an abandoned one, and lock it. It is empty then.

    Args:
        path: absolute.
        owners: who may own an abandoned file, beside root and this process's user.

    Raises:
        AlreadyRunning: another process holds its lock.
        PidFileError: it is not what it must be, or lies where others can change it.
        OSError: openat(2).
    """
    check_path(path)
    deadline = instant("PATIENCE", PATIENCE)
    assert deadline is not None
    with borrowed() as reactor:
        over = reactor.call_at(deadline, lambda: None)
        try:
            while True:
                folder, fd = open_checked(path, os.O_RDONLY | os.O_CREAT, trusted_owners() | owners, MODE)
                with folder:
                    lock = _try(path, folder, fd, owners)
                if lock is not None:
                    return lock
                if over.callback is None:
                    raise AlreadyRunning(path, "another process holds its lock, and it does not name it")
                reactor.run_once(PAUSE)
        finally:
            over.cancel()


def _try(path: str, folder: OwnedFd, fd: OwnedFd, owners: frozenset[int]) -> Lock | None:
    """Take the lock; None when the file was exchanged meanwhile, or is held by one who says nothing yet."""
    name = os.path.basename(path)
    writer = OwnedFd()
    try:
        try:
            fcntl.flock(fd.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            recorded = read(path, fd.number)
            fd.close()
            if recorded is None:
                return None
            from fastproc.daemon._pidfile import PidFile

            state = PidFile(path, owner=next(iter(owners), None)).status()
            if state.state == "running":
                raise AlreadyRunning(path, f"process {state.pid} is running", state.pid) from None
            return None
        now = os.fstat(fd.number)
        try:
            same = same_file(os.stat(name, dir_fd=folder.number, follow_symlinks=False), now)
        except FileNotFoundError:
            same = False
        if not same:
            # Its last owner has removed it in between (HAZARDS H11).
            fd.close()
            return None
        writer.adopt(os.open(name, os.O_WRONLY | COMMON, dir_fd=folder.number))
        if not same_file(os.fstat(writer.number), now):
            writer.close()
            fd.close()
            return None
        writer.lift()
        if stat.S_IMODE(now.st_mode) != MODE and now.st_uid == os.geteuid():
            # Whatever the umask was; asking the kernel and not it (HAZARDS G26).
            os.fchmod(writer.number, MODE)
        os.ftruncate(writer.number, 0)
        return Lock(path, fd, writer)
    except BaseException:
        writer.close()
        fd.close()
        raise


def read(path: str, fd: int) -> Recorded | None:
    """Return what an open pid file says.

    Raises:
        PidFileError: it is no pid file.
    """
    try:
        return parse_pid_file(os.pread(fd, SIZE_MAX + 1, 0))
    except ValueError as error:
        raise PidFileError(path, str(error)) from None
