"""The daemon's half of a pid file: made, locked, written, and left.

Invariants: the lock decides, never the number (HAZARDS H10). It is that of a second file, which only its owner can
open: flock(2) asks for no more than to read, so whoever can read a file can keep its lock from everybody. It is held
by a descriptor that is closed on exec and in forked copies, and that cannot write: a daemon that has become another
user cannot make its file name somebody else.
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
LOCK_MODE = 0o600
PATIENCE = 1.0
"""Seconds for which a lock may be held by one who only looks, or has not written yet, before it counts as another's."""
PAUSE = 0.01

_alive: WeakSet[Lock] = WeakSet()


class Lock:
    """A pid file whose lock this process holds.

    Args:
        path: of the pid file, absolute.
        fd: the locked descriptor, of the lock file, which only reads.
    """

    __slots__ = ("__weakref__", "_fd", "_file", "_owner", "_writer", "path")

    def __init__(self, path: str, fd: OwnedFd) -> None:
        self.path = path
        self._fd = fd
        self._writer = OwnedFd()
        self._file: os.stat_result | None = None
        self._owner = os.getpid()
        _alive.add(self)

    @property
    def number(self) -> int:
        """The locked descriptor, or -1."""
        return self._fd.number

    def adopt(self, file: OwnedFd) -> None:
        """Take the pid file itself: to be removed with the lock, and to be written, if it is open for that."""
        self._file = os.fstat(file.number)
        self._writer.adopt(file.detach())

    def chown(self, uid: int, gid: int) -> None:
        """Give both files to another user or group; -1 leaves one."""
        os.fchown(self._fd.number, uid, gid)
        os.fchown(self._writer.number, uid, gid)

    def write(self, recorded: Recorded) -> None:
        """Write who the daemon is. Afterwards nothing more can be written."""
        data = format_pid_file(recorded)
        os.ftruncate(self._writer.number, 0)
        if os.pwrite(self._writer.number, data, 0) != len(data):
            raise PidFileError(self.path, "it could not be written whole")
        self._writer.close()

    def drop(self) -> None:
        """Give the lock up; the files stay as they are, and the pid file is known to be stale."""
        self._writer.close()
        self._fd.close()

    def remove(self) -> None:
        """Remove both files, if they still are these and may be removed, and give the lock up. Raises nothing."""
        if self._owner != os.getpid():
            return
        try:
            with enter(os.path.dirname(self.path)) as folder:
                # HAZARDS H11: while the lock is held nobody else has these very files, and a successor's are others.
                # The lock file is the last, as it keeps the successor from making his.
                if self._file is not None:
                    _unlink(folder, self.path, self._file)
                _unlink(folder, lock_path(self.path), os.fstat(self._fd.number))
        except (OSError, Untrusted, ValueError):
            # Another user by now, or in another root. It is stale once the lock is gone.
            pass
        finally:
            self.drop()


def _unlink(folder: OwnedFd, path: str, status: os.stat_result) -> None:
    name = os.path.basename(path)
    try:
        if os.path.samestat(os.stat(name, dir_fd=folder.number, follow_symlinks=False), status):
            os.unlink(name, dir_fd=folder.number)
    except FileNotFoundError:
        pass


def _after_fork() -> None:
    # HAZARDS C17: a copy of the daemon must not hold its lock, or it could not be started again while the copy lives.
    for lock in list(_alive):
        lock.drop()


os.register_at_fork(after_in_child=_after_fork)


def lock_path(path: str) -> str:
    """Return the file whose lock is that of a pid file."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.lock")


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
                lock = hold(path, trusted_owners() | owners)
                refused = AlreadyRunning(path, "another process holds its lock, and it does not name it")
                if lock is None:
                    _refuse_running(path, owners)
                else:
                    survivor = _take(lock, trusted_owners() | owners)
                    if survivor is None:
                        return lock
                    # A program whose keeper was killed is being killed, too; unless it has escaped that.
                    refused = AlreadyRunning(path, f"process {survivor} still runs, and its keeper does not", survivor)
                if over.callback is None:
                    raise refused
                reactor.run_once(PAUSE)
        finally:
            over.cancel()


def hold(path: str, owners: frozenset[int]) -> Lock | None:
    """Take the lock of a pid file; None when another process holds it, or removes it just now.

    Raises:
        PidFileError: the lock file is not what it must be, or lies where others can change it.
        OSError: openat(2).
    """
    place = lock_path(path)
    folder, fd = open_checked(place, os.O_RDONLY | os.O_CREAT, owners, LOCK_MODE)
    with folder:
        try:
            fcntl.flock(fd.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            now = os.fstat(fd.number)
            if os.path.samestat(os.stat(os.path.basename(place), dir_fd=folder.number, follow_symlinks=False), now):
                _set_mode(fd.number, LOCK_MODE)
                return Lock(path, fd)
            # Its last owner has removed it in between (HAZARDS H11).
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            fd.close()
            raise
    fd.close()
    return None


def _set_mode(fd: int, mode: int) -> None:
    status = os.fstat(fd)
    if stat.S_IMODE(status.st_mode) != mode and status.st_uid == os.geteuid():
        # Whatever the umask was; asking the kernel and not it (HAZARDS G26).
        os.fchmod(fd, mode)


def _refuse_running(path: str, owners: frozenset[int]) -> None:
    from fastproc.daemon._pidfile import PidFile

    state = PidFile(path, owner=next(iter(owners), None)).status()
    if state.state == "running":
        raise AlreadyRunning(path, f"process {state.pid} is running", state.pid)


def _take(lock: Lock, owners: frozenset[int]) -> int | None:
    """Make the pid file of a lock, or empty the abandoned one; return the number of a program that still runs."""
    from fastproc.daemon._pidfile import survives

    try:
        folder, fd = open_checked(lock.path, os.O_RDWR | os.O_CREAT, owners, MODE)
        folder.close()
        with fd:
            try:
                recorded = read(lock.path, fd.number)
            except PidFileError:
                recorded = None
            if recorded is not None and survives(recorded):
                lock.drop()
                return recorded.pid
            _set_mode(fd.number, MODE)
            os.ftruncate(fd.number, 0)
            lock.adopt(fd)
    except BaseException:
        lock.remove()
        raise
    return None


def read(path: str, fd: int) -> Recorded | None:
    """Return what an open pid file says.

    Raises:
        PidFileError: it is no pid file.
    """
    try:
        return parse_pid_file(os.pread(fd, SIZE_MAX + 1, 0))
    except ValueError as error:
        raise PidFileError(path, str(error)) from None
