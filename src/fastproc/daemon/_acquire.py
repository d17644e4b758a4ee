"""Taking a pid file for a daemon that starts: nothing is changed before the lock and the contents allow it."""

from __future__ import annotations

import os

from fastproc._engine.reactor import borrowed, deadline_from
from fastproc._engine.trusted import trusted_owners
from fastproc.daemon._errors import AlreadyRunning, PidFileError
from fastproc.daemon._lock import MODE, PATIENCE, PAUSE, Lock, check_path, hold, open_checked, read
from fastproc.daemon._pidfile import PidFile, survivor_of
from fastproc.daemon._pidfile_text import is_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._engine.fds import OwnedFd


def acquire(path: str, owners: frozenset[int] = frozenset()) -> Lock:
    """Create a pid file, or take over an abandoned pid file, and lock it. The file is empty afterwards.

    Args:
        path: an absolute path.
        owners: users that may own an abandoned file, in addition to root and this process's user.

    Raises:
        AlreadyRunning: another process holds the lock, or a process that the file names still runs.
        PidFileError: the file is not a regular file or was not written by fastproc, or other users can change its
            directory. The file is unchanged.
        OSError: openat(2) failed.
    """
    check_path(path)
    deadline = deadline_from("PATIENCE", PATIENCE)
    assert deadline is not None
    with borrowed() as reactor:
        over = reactor.call_at(deadline, lambda: None)
        try:
            while True:
                refused = AlreadyRunning(path, "another process holds the lock; the pid file names no process")
                try:
                    _look(path, owners)
                    lock = hold(path, trusted_owners() | owners)
                    if lock is not None:
                        if _take(lock, trusted_owners() | owners):
                            return lock
                        lock.give_back()
                except _Survivor as survivor:
                    # A program whose keeper was killed is being killed too, and a daemon that has removed its pid file
                    # is about to end: look again until the deadline.
                    refused = AlreadyRunning(path, survivor.reason, survivor.pid)
                if over.callback is None:
                    raise refused
                reactor.run_once(PAUSE)
        finally:
            over.cancel()


class _Survivor(Exception):
    """A process that a pid file names still runs, and no process holds the lock."""

    def __init__(self, pid: int, reason: str) -> None:
        super().__init__(pid, reason)
        self.pid = pid
        self.reason = reason


def _look(path: str, owners: frozenset[int]) -> None:
    """Refuse a file that is not ours, or whose daemon runs, before a lock file is created next to it."""
    state = PidFile(path, owner=next(iter(owners), None)).status()
    if state.state == "running":
        raise AlreadyRunning(path, f"process {state.pid} is running", state.pid)
    if state.foreign:
        if state.state == "stale":
            raise PidFileError(path, f"{state.reason}: remove it, if nobody needs it")
        raise AlreadyRunning(path, state.reason, state.pid)
    if state.state == "unverified" and not state.locked:
        raise _Survivor(state.pid, state.reason)


def _take(lock: Lock, owners: frozenset[int]) -> bool:
    """Create the pid file of a lock or empty an abandoned file; return False if it appeared or vanished meanwhile.

    Raises:
        _Survivor: the process that the file names still runs.
        PidFileError: fastproc did not write the file.
    """
    try:
        found = _open_or_make(lock.path, owners)
        if found is None:
            return False
        fd, made = found
        with fd:
            recorded = None if made else read(lock.path, fd.number)
            if recorded is not None:
                if not is_ours(recorded):
                    raise PidFileError(lock.path, "the file belongs to another program")
                survivor = survivor_of(lock.path, recorded, lock.made)
                if survivor:
                    raise _Survivor(recorded.pid, survivor)
                os.ftruncate(fd.number, 0)
            if made:
                os.fchmod(fd.number, MODE)
            # An empty file next to an existing lock file is ours: its daemon was killed before it wrote the file. Any
            # other empty file is used too, and stays if this start fails.
            lock.adopt(fd, made or recorded is not None or not lock.made)
    except BaseException:
        lock.give_back()
        raise
    return True


def _open_or_make(path: str, owners: frozenset[int]) -> tuple[OwnedFd, bool] | None:
    for flags, made in ((os.O_RDWR, False), (os.O_RDWR | os.O_CREAT | os.O_EXCL, True)):
        try:
            folder, fd = open_checked(path, flags, owners, MODE)
        except FileNotFoundError:
            continue
        except FileExistsError:
            return None
        folder.close()
        return fd, made
    return None
