"""What the kernel says about processes and locks, for the proofs of a pid file.

All of it is about this PID namespace: a /proc of another one names strangers by the same numbers, and is no evidence.
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
    """Return what is known of a process; None when it has gone, or may not be seen.

    Raises:
        OSError: /proc is no evidence; EMFILE, ENFILE.
    """
    return facts_of(pid)


def began(pid: int) -> int:
    """Return when a process began, in clock ticks since the boot; also of one that has ended and was not reaped.

    Raises:
        ProcessLookupError: there is none, or it may not be seen.
        OSError: /proc is no evidence.
    """
    found = facts(pid)
    if found is None:
        raise ProcessLookupError(3, "no such process")
    return found.start


def is_it(pid: int, start: int) -> bool:
    """Return whether a process runs that began at this time.

    Raises:
        OSError: /proc is no evidence.
    """
    found = facts(pid)
    return found is not None and not found.ended and found.start == start


def exists(pid: int) -> bool:
    """Return whether a process of this number runs. One about which nothing can be known does."""
    try:
        with OwnedFd() as fd:
            fd.fill(_native.fp_pidfd_open, pid)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # a thread, or no descriptor is left to ask with
    try:
        found = facts(pid)
    except OSError:
        return True
    return found is None or not found.ended


def may_live(pid: int, start: int) -> bool:
    """Return whether a process that began at this time can still run: it is not proven that it does not."""
    try:
        found = facts(pid)
    except OSError:
        found = None
    # /proc may hide it (hidepid=, proc(5)).
    return exists(pid) if found is None else not found.ended and found.start == start


def uids(pid: int) -> frozenset[int]:
    """Return the real, effective, saved and file system user ids of a process.

    Raises:
        OSError: it has gone, or /proc is no evidence.
    """
    return frozenset(read_identity(pid).uids)


def boot_id() -> str:
    """Return which boot this is."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def holds_lock(pid: int, status: os.stat_result) -> bool:
    """Return whether a process has a file open by a descriptor that holds its flock(2).

    The kernel shows that in /proc/PID/fdinfo. Where another user's may not be seen, /proc/locks has to do: it names the
    process that has taken the lock.
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
    """Return whether a process, or any, has taken the flock(2) of a file, by the kernel's list of locks."""
    proc.check()
    with open("/proc/locks", encoding="ascii", errors="replace") as file:
        for line in file:
            words = line.split()
            # Devices are shown otherwise than stat(2) has them where file systems lie on each other.
            if words[1:2] == ["FLOCK"] and pid in (None, int(words[4])) and words[5].endswith(f":{status.st_ino}"):
                return True
    return False
