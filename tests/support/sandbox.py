"""Filters of system calls (seccomp(2)), as sandboxes and old kernels have them. They stay for ever."""

from __future__ import annotations

import ctypes
import platform
import signal
from typing import Any

EPERM, ENOSYS, EINVAL, EMFILE = 1, 38, 22, 24

CALLS: dict[str, int] = {
    "x86_64": {
        "clone3": 435,
        "close_range": 436,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "waitid": 247,
        "getdents64": 217,
        "memfd_create": 319,
        "clone": 56,
    },
    "aarch64": {
        "clone3": 435,
        "close_range": 436,
        "pidfd_open": 434,
        "pidfd_send_signal": 424,
        "waitid": 95,
        "getdents64": 61,
        "memfd_create": 279,
        "clone": 220,
    },
}[platform.machine()]  # type: ignore[assignment]

CLONE_PIDFD, CLONE_VFORK, CLONE_VM = 0x1000, 0x4000, 0x100
P_PIDFD = 3
ANY = -1

# name -> (call, errno or 0 for death by SIGSYS, argument or -1, its value)
Rule = tuple[str, int, int, int]
NO_PIDFD_BY_CLONE: list[Rule] = [
    ("clone", EINVAL, 0, CLONE_PIDFD | CLONE_VFORK | CLONE_VM),
    ("clone", EINVAL, 0, CLONE_PIDFD | CLONE_VFORK),
    ("clone", EINVAL, 0, CLONE_PIDFD | signal.SIGCHLD),
    ("clone3", ENOSYS, ANY, 0),
]
NO_PIDFD: list[Rule] = [
    *NO_PIDFD_BY_CLONE,
    ("pidfd_open", ENOSYS, ANY, 0),
    ("pidfd_send_signal", ENOSYS, ANY, 0),
    ("waitid", EINVAL, 0, P_PIDFD),
]

SETS: dict[str, list[Rule]] = {
    "nothing": [],
    **{
        f"{call} {'EPERM' if error == EPERM else 'ENOSYS'}": [(call, error, ANY, 0)]
        for call in ("clone3", "close_range", "pidfd_open", "pidfd_send_signal")
        for error in (EPERM, ENOSYS)
    },
    "P_PIDFD": [("waitid", EINVAL, 0, P_PIDFD)],
    "clone3 SIGSYS": [("clone3", 0, ANY, 0)],
    "close_range SIGSYS": [("close_range", 0, ANY, 0)],
    "pidfd_open SIGSYS": [("pidfd_open", 0, ANY, 0)],
    "as 4.18": [*NO_PIDFD, ("close_range", ENOSYS, ANY, 0)],
    "as 5.3": [("clone3", ENOSYS, ANY, 0), ("close_range", ENOSYS, ANY, 0), ("waitid", EINVAL, 0, P_PIDFD)],
    "as 5.4": [("clone3", EINVAL, ANY, 0), ("close_range", ENOSYS, ANY, 0)],
    "old container": [(call, EPERM, ANY, 0) for call in ("clone3", "close_range", "pidfd_open", "pidfd_send_signal")],
    "no pidfd by clone": NO_PIDFD_BY_CLONE,
    "no memory sharing": [
        ("clone3", ENOSYS, ANY, 0),
        ("clone", EPERM, 0, CLONE_PIDFD | CLONE_VFORK | CLONE_VM),
        ("clone", EPERM, 0, CLONE_VFORK | CLONE_VM),
    ],
}


def install(library: Any, rules: list[list[Any]]) -> None:
    """Put the filter on this process and all its children."""
    for call, error, argument, value in rules:
        # The last filter that says something other than "allow" wins, the strongest verdict first (seccomp(2)).
        assert library.hostile_refuse(CALLS[call], error, argument, ctypes.c_uint32(value)) == 0
