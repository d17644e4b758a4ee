"""Whether /proc shows this process's own PID namespace: the typed door to csrc/proc/namespace.c.

Whoever takes a number from /proc, or looks a number up there, asks here first: in another namespace's /proc the same
number names a stranger (pid_namespaces(7)). Nothing is remembered: a fork, a chroot or a mount may change the answer.
"""

from __future__ import annotations

import os
from errno import ENODEV, EXDEV

from fastproc._native._ffi import lib

__all__ = ["FOREIGN", "MISSING", "check", "is_cgroup2", "is_ours", "is_proc", "why_not"]

FOREIGN = "/proc belongs to another PID namespace: its pids are other processes here; mount a /proc of this namespace"
MISSING = "/proc is not mounted: no process can be looked up"


def check(directory: int = -1) -> None:
    """Make sure that the numbers below a directory are those that system calls of this process take.

    Args:
        directory: a descriptor; -1 for /proc.

    Raises:
        OSError: EXDEV: it is the /proc of another PID namespace; ENODEV: it is no proc file system, or is not there;
            EMFILE, ENFILE, ENOMEM, EACCES: it could not be looked at. The text says so.
    """
    r = lib.fp_proc_check(directory)
    if r < 0:
        raise OSError(-r, {EXDEV: FOREIGN, ENODEV: MISSING}.get(-r) or os.strerror(-r), "/proc")


def why_not() -> str:
    """Return why /proc is not evidence about a number, in words; "" where it is.

    Raises:
        OSError: no descriptor or memory is left to look at it (EMFILE, ENFILE, ENOMEM).
    """
    try:
        check()
    except OSError as error:
        if error.errno in (EXDEV, ENODEV):
            return error.strerror or "?"
        raise
    return ""


def is_ours() -> bool:
    """Return whether /proc is mounted here, for this process's own PID namespace.

    Raises:
        OSError: as `why_not`.
    """
    return not why_not()


def is_proc(root: str) -> bool:
    """Return whether a root is /proc, whose numbers are taken for those that system calls of this process take."""
    # normpath() leaves two slashes at the beginning.
    return root == "/proc" or os.path.normpath(root) in ("/proc", "//proc")


def is_cgroup2(fd: int) -> bool:
    """Return whether a descriptor is of a cgroup v2 file system."""
    return bool(lib.fp_is_cgroup2(fd))
