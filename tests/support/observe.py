"""What can be seen of this process from outside: descriptors, children, threads, mappings, signal state.

Read from /proc only, so that it can be used before and after anything.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

STACK_GUARD = 64 * 1024
STACK_CACHE = 8


def fds() -> dict[int, str]:
    """Return the open descriptors: number -> what it is (link text and inode)."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            status = os.stat(f"/proc/self/fd/{name}")
            found[int(name)] = f"{os.readlink(f'/proc/self/fd/{name}')} {status.st_dev}:{status.st_ino}"
        except FileNotFoundError:  # the directory's own descriptor
            continue
    return found


def children() -> set[int]:
    """Return the children of all threads, zombies too."""
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
        except (FileNotFoundError, ProcessLookupError):  # the thread has just ended
            continue
    return found


def threads() -> int:
    """Return the number of threads."""
    return len(os.listdir("/proc/self/task"))


def stacks_and_pages() -> tuple[int, int]:
    """Return how many mappings there are of the two kinds that a spawn makes.

    A child's stack: 64 KiB without access, then memory that can be written. A report page: anonymous shared memory.
    Everything else in /proc/self/maps (heaps and arenas of malloc and Python, libraries) comes and goes on its own.
    """
    stacks = pages = 0
    guard_end = -1
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(None, 5)
        start, end = (int(item, 16) for item in fields[0].split("-"))
        name = fields[5] if len(fields) > 5 else ""
        if fields[1] == "rw-p" and start == guard_end and not name:
            stacks += 1
        guard_end = end if fields[1] == "---p" and not name and end - start == STACK_GUARD else -1
        if fields[1] == "rw-s" and name.startswith("/dev/zero"):
            pages += 1
    return stacks, pages


def signal_state() -> tuple[list[int], dict[str, str]]:
    """Return the calling thread's mask, and the process's ignored and caught signals as the kernel tells them."""
    status = Path("/proc/thread-self/status").read_text().splitlines()
    lines = dict(line.split(":\t", 1) for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt")))
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), lines


def resident_bytes() -> int:
    """Return the resident memory that is not backed by files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")
