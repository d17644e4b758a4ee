"""The daemon's half of a pid file: made, locked, written, and left.

Invariants: the lock decides, never the number (GOTCHAS H10). It is that of a second file, which only its owner can
open: flock(2) asks for no more than to read, so whoever can read a file can keep its lock from everybody. It is held
by a descriptor that is closed on exec and in forked copies, and that cannot write: a daemon that has become another
user cannot make its file name somebody else. Nothing of a file is changed before its lock is held and it is known to be
ours: made here, written by fastproc, or empty. Every other one is refused, as it may be anything.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from weakref import WeakSet

from fastproc._engine.fds import OwnedFd
from fastproc._engine.trusted import COMMON as _COMMON
from fastproc._engine.trusted import Untrusted, enter, why_not_regular
from fastproc.daemon._errors import PidFileError
from fastproc.daemon._pidfile_text import SIZE_MAX, Recorded, format_pid_file, parse_pid_file

COMMON = _COMMON | os.O_NOFOLLOW
"""Of every open of a pid file: no symbolic link, and a FIFO or a terminal holds nobody (GOTCHAS H8)."""

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
        made: whether the lock file was not there before.
    """

    __slots__ = ("__weakref__", "_fd", "_file", "_owner", "_ours", "_writer", "made", "path")

    def __init__(self, path: str, fd: OwnedFd, made: bool = False) -> None:
        self.path = path
        self.made = made
        self._fd = fd
        self._writer = OwnedFd()
        self._file: os.stat_result | None = None
        self._ours = False
        self._owner = os.getpid()
        _alive.add(self)

    @property
    def number(self) -> int:
        """The locked descriptor, or -1."""
        return self._fd.number

    def adopt(self, file: OwnedFd, ours: bool) -> None:
        """Take the pid file itself, to be written, if it is open for that.

        Args:
            file: its descriptor.
            ours: whether it is known to be a pid file of ours, which is removed with the lock.
        """
        self._file = os.fstat(file.number)
        self._ours = ours
        self._writer.take_over(file)

    def chown(self, uid: int, gid: int) -> None:
        """Give both files to another user or group; -1 leaves one."""
        os.fchown(self._fd.number, uid, gid)
        os.fchown(self._writer.number, uid, gid)

    def write(self, recorded: Recorded) -> None:
        """Write who the daemon is. Afterwards nothing more can be written."""
        data = format_pid_file(recorded)
        # From here on nobody else needs what is in it.
        self._ours = True
        os.ftruncate(self._writer.number, 0)
        if os.pwrite(self._writer.number, data, 0) != len(data):
            raise PidFileError(self.path, "it could not be written whole")
        self._writer.close()

    def drop(self) -> None:
        """Give the lock up; the files stay as they are, and the pid file is known to be stale."""
        self._writer.close()
        self._fd.close()

    def give_back(self) -> None:
        """Give the lock up, and leave all as it was: a lock file that was made for it is removed. Raises nothing."""
        if self.made:
            self.remove()
        else:
            self.drop()

    def remove(self) -> None:
        """Remove both files, if they are ours, still are these and may be removed, and give the lock up.

        Raises nothing.
        """
        if self._owner != os.getpid():
            return
        try:
            with enter(os.path.dirname(self.path)) as folder:
                # GOTCHAS H11: while the lock is held nobody else has these very files, and a successor's are others.
                # The lock file is the last, as it keeps the successor from making his.
                if self._file is not None and self._ours:
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
    # GOTCHAS C17: a copy of the daemon must not hold its lock, or it could not be started again while the copy lives.
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
        _refuse_other_kind(path, name, folder, owners)
        try:
            fd.open(name, flags | COMMON, mode, dir_fd=folder.number)
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


def _refuse_other_kind(path: str, name: str, folder: OwnedFd, owners: frozenset[int]) -> None:
    # Not even opened: some devices act when they are.
    try:
        status = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
    except OSError:
        return  # the open says why
    if not stat.S_ISREG(status.st_mode):
        raise PidFileError(path, why_not_regular(status, owners))


def hold(path: str, owners: frozenset[int], make: bool = True) -> Lock | None:
    """Take the lock of a pid file; None when another process holds it, or removes it just now.

    Args:
        path: of the pid file.
        owners: who may own the lock file.
        make: whether to make the lock file; otherwise None is returned where there is none.

    Raises:
        PidFileError: the lock file is not what it must be, or lies where others can change it.
        OSError: openat(2).
    """
    place = lock_path(path)
    made = False
    try:
        try:
            folder, fd = open_lock(path, owners)
        except FileNotFoundError:
            if not make:
                return None
            folder, fd = open_checked(place, os.O_RDONLY | os.O_CREAT | os.O_EXCL, owners, LOCK_MODE)
            made = True
    except (FileExistsError, FileNotFoundError):
        if not os.path.isdir(os.path.dirname(path)):
            raise
        return None
    with folder:
        try:
            if made:
                # Whatever the umask was (GOTCHAS G26).
                os.fchmod(fd.number, LOCK_MODE)
            fcntl.flock(fd.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            now = os.fstat(fd.number)
            if os.path.samestat(os.stat(os.path.basename(place), dir_fd=folder.number, follow_symlinks=False), now):
                return Lock(path, fd, made)
            # Its last owner has removed it in between (GOTCHAS H11).
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            fd.close()
            raise
    fd.close()
    return None


def open_lock(path: str, owners: frozenset[int]) -> tuple[OwnedFd, OwnedFd]:
    """Open the lock file of a pid file, if it is one: empty, and for its owner alone.

    Raises:
        PidFileError: it is something else.
        FileNotFoundError: it is not there.
        OSError: another reason of openat(2).
    """
    place = lock_path(path)
    folder, fd = open_checked(place, os.O_RDONLY, owners)
    status = os.fstat(fd.number)
    if status.st_size or stat.S_IMODE(status.st_mode) & ~LOCK_MODE:
        folder.close()
        fd.close()
        what = "has content" if status.st_size else f"has the mode {stat.S_IMODE(status.st_mode):04o}"
        raise PidFileError(path, f"its lock file {place} {what}, so it is not one of fastproc's")
    return folder, fd


def read(path: str, fd: int) -> Recorded | None:
    """Return what an open pid file says.

    Raises:
        PidFileError: it is not a pid file.
    """
    try:
        return parse_pid_file(os.pread(fd, SIZE_MAX + 1, 0))
    except ValueError as error:
        raise PidFileError(path, str(error)) from None
