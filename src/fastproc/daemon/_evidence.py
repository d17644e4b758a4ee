"""What the kernel reports about processes and locks, as evidence for a pid file.

All evidence is about this PID namespace. In a /proc of another namespace the same numbers name strangers, so such a
/proc is refused.
"""

from __future__ import annotations

import os

from fastproc import _native
from fastproc._engine.fds import OwnedFd
from fastproc._native import proc
from fastproc.capabilities import read_identity
from fastproc.containment._member import facts_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.containment._member import Facts


def facts(pid: int) -> Facts | None:
    """Return the facts about a process; None if it does not exist or is hidden.

    Raises:
        OSError: /proc does not belong to this PID namespace; EMFILE, ENFILE.
    """
    return facts_of(pid)


def began(pid: int) -> int:
    """Return when a process started, in clock ticks since boot. A zombie has a start time too.

    Raises:
        ProcessLookupError: the process does not exist or is hidden.
        OSError: /proc does not belong to this PID namespace.
    """
    found = facts(pid)
    if found is None:
        raise ProcessLookupError(3, "no such process")
    return found.start


def is_it(pid: int, start: int) -> bool:
    """Return whether a process with this pid and start time is running.

    Raises:
        OSError: /proc does not belong to this PID namespace.
    """
    found = facts(pid)
    return found is not None and not found.ended and found.start == start


def exists(pid: int) -> bool:
    """Return whether a process with this pid is running; True also if that cannot be found out."""
    try:
        with OwnedFd() as fd:
            fd.fill(_native.fp_pidfd_open, pid)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # the number of a thread, or no descriptor is left (EMFILE)
    try:
        found = facts(pid)
    except OSError:
        return True
    return found is None or not found.ended


def may_live(pid: int, start: int) -> bool:
    """Return False only if it is proven that no process with this pid and start time is running."""
    try:
        found = facts(pid)
    except OSError:
        found = None
        # /proc may hide the process (hidepid=, proc(5)).
    return exists(pid) if found is None else not found.ended and found.start == start


def uids(pid: int) -> frozenset[int]:
    """Return the real, effective, saved and file system user ids of a process.

    Raises:
        OSError: the process has ended, or /proc does not belong to this PID namespace.
    """
    return frozenset(read_identity(pid).uids)


def boot_id() -> str:
    """Return the id of this boot (/proc/sys/kernel/random/boot_id)."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def holds_lock(pid: int, status: os.stat_result) -> bool:
    """Return whether a process has a descriptor of the file that holds its flock(2).

    /proc/PID/fdinfo shows this. Where the /proc/PID/fd of another user is hidden, /proc/locks is read instead: it names
    the process that took the lock.
    """
    proc.check()
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return False
    except PermissionError:
        return took_lock(pid, status)
    for name in names:
        try:
            found = os.stat(f"/proc/{pid}/fd/{name}")
            if not os.path.samestat(found, status):
                continue
            with open(f"/proc/{pid}/fdinfo/{name}", encoding="ascii", errors="replace") as file:
                if any(line.startswith("lock:") and "FLOCK" in line for line in file):
                    return True
        except FileNotFoundError:
            continue
    return False


def took_lock(pid: int | None, status: os.stat_result) -> bool:
    """Return whether /proc/locks lists a flock(2) of a file, taken by a process; None for any process."""
    proc.check()
    with open("/proc/locks", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            # Only the inode number is compared: on stacked file systems /proc/locks and stat(2) show different devices.
            if words[1:2] == ["FLOCK"] and pid in (None, int(words[4])) and words[5].endswith(f":{status.st_ino}"):
                return True
    return False
