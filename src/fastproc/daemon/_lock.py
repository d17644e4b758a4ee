"""The daemon's half of a pid file: making, locking, writing and removing it.

Invariants: the lock decides whether a daemon runs, not the pid in the file (GOTCHAS H10). The lock is on a second file
that only its owner can open: flock(2) works on a descriptor that can only read, so any process that can read a file can
lock it and keep it locked. The descriptor of the lock is closed on exec and in forked copies. It is read-only, so a
daemon that has changed its user cannot change the file to name another process. A file is changed only after its lock
is held and the file is known to be ours: made here, written by fastproc, or empty. Any other file is refused.
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
"""Flags of every open of a pid file: a symbolic link is refused, and a FIFO or terminal cannot block (GOTCHAS H8)."""

MODE = 0o644
LOCK_MODE = 0o600
PATIENCE = 1.0
"""Seconds until a held lock counts as another daemon's. A reader, or a daemon that starts, may hold it that long."""
PAUSE = 0.01

_alive: WeakSet[Lock] = WeakSet()


class Lock:
    """A pid file whose lock this process holds.

    Args:
        path: the absolute path of the pid file.
        fd: the locked, read-only descriptor of the lock file.
        made: whether this process created the lock file.
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
        """Become the owner of the pid file's descriptor.

        Args:
            file: the descriptor; writable if the file is to be written.
            ours: whether fastproc wrote or made the file. Then `remove()` removes it.
        """
        self._file = os.fstat(file.number)
        self._ours = ours
        self._writer.take_over(file)

    def chown(self, uid: int, gid: int) -> None:
        """Change the owner and group of both files; -1 keeps a value."""
        os.fchown(self._fd.number, uid, gid)
        os.fchown(self._writer.number, uid, gid)

    def write(self, recorded: Recorded) -> None:
        """Write the pid and start time of the daemon, and close the file for writing."""
        data = format_pid_file(recorded)
        # Even after a partial write the file has no contents that another process needs.
        self._ours = True
        os.ftruncate(self._writer.number, 0)
        if os.pwrite(self._writer.number, data, 0) != len(data):
            raise PidFileError(self.path, "it could not be written completely")
        self._writer.close()

    def drop(self) -> None:
        """Release the lock and leave the files. The pid file is then stale."""
        self._writer.close()
        self._fd.close()

    def give_back(self) -> None:
        """Release the lock, and remove the lock file if it was created here. Raises nothing."""
        if self.made:
            self.remove()
        else:
            self.drop()

    def remove(self) -> None:
        """Remove both files and release the lock. A file that was replaced or is not ours stays.

        Raises nothing.
        """
        if self._owner != os.getpid():
            return
        try:
            with enter(os.path.dirname(self.path)) as folder:
                # GOTCHAS H11: while the lock is held, a file with the same inode cannot belong to a successor. The lock
                # file is removed last: until then a successor cannot make its pid file.
                if self._file is not None and self._ours:
                    _unlink(folder, self.path, self._file)
                _unlink(folder, lock_path(self.path), os.fstat(self._fd.number))
        except (OSError, Untrusted, ValueError):
            # This process has changed its user or root. The pid file is stale when the lock is released.
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
    # GOTCHAS C17: with the lock in a forked copy, the daemon could not be started again while the copy lives.
    for lock in list(_alive):
        lock.drop()


os.register_at_fork(after_in_child=_after_fork)


def lock_path(path: str) -> str:
    """Return the path of the lock file of a pid file."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.lock")


def check_path(path: str) -> tuple[str, str]:
    """Return the directory and the name of a pid file.

    Raises:
        ValueError: the path does not end in a file name.
    """
    folder, name = os.path.split(path)
    if not name or name in (".", ".."):
        raise ValueError(f"pid_file: {path!r} does not name a file")
    return folder, name


def open_checked(path: str, flags: int, owners: frozenset[int], mode: int = 0) -> tuple[OwnedFd, OwnedFd]:
    """Open a pid file and its directory.

    Raises:
        PidFileError: the file is not a regular file of these owners, or other users can change its directory.
        FileNotFoundError: the file does not exist.
        OSError: openat(2) failed for another reason.
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
    # Refused without an open: the open of some devices has an effect.
    try:
        status = os.stat(name, dir_fd=folder.number, follow_symlinks=False)
    except OSError:
        return  # the open reports the error
    if not stat.S_ISREG(status.st_mode):
        raise PidFileError(path, why_not_regular(status, owners))


def hold(path: str, owners: frozenset[int], make: bool = True) -> Lock | None:
    """Take the lock of a pid file; return None if another process holds or removes it.

    Args:
        path: the path of the pid file.
        owners: users that may own the lock file.
        make: whether to create a missing lock file; if not, None is returned.

    Raises:
        PidFileError: the lock file is invalid, or other users can change its directory.
        OSError: openat(2) failed.
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
                # Independent of the umask (GOTCHAS G26).
                os.fchmod(fd.number, LOCK_MODE)
            fcntl.flock(fd.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            now = os.fstat(fd.number)
            if os.path.samestat(os.stat(os.path.basename(place), dir_fd=folder.number, follow_symlinks=False), now):
                return Lock(path, fd, made)
            # The last owner has removed the lock file between the open and the lock (GOTCHAS H11).
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            fd.close()
            raise
    fd.close()
    return None


def open_lock(path: str, owners: frozenset[int]) -> tuple[OwnedFd, OwnedFd]:
    """Open the lock file of a pid file. A valid lock file is empty, and only its owner can open it.

    Raises:
        PidFileError: the file is not a valid lock file.
        FileNotFoundError: the file does not exist.
        OSError: openat(2) failed for another reason.
    """
    place = lock_path(path)
    folder, fd = open_checked(place, os.O_RDONLY, owners)
    status = os.fstat(fd.number)
    if status.st_size or stat.S_IMODE(status.st_mode) & ~LOCK_MODE:
        folder.close()
        fd.close()
        what = "has content" if status.st_size else f"has the mode {stat.S_IMODE(status.st_mode):04o}"
        raise PidFileError(path, f"its lock file {place} {what}, so it was not made by fastproc")
    return folder, fd


def read(path: str, fd: int) -> Recorded | None:
    """Return the contents of an open pid file.

    Raises:
        PidFileError: the file is not a pid file.
    """
    try:
        return parse_pid_file(os.pread(fd, SIZE_MAX + 1, 0))
    except ValueError as error:
        raise PidFileError(path, str(error)) from None
