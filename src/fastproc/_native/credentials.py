"""Capabilities, securebits and their like of this process: the typed door to csrc/self/caps.c.

Masks are plain numbers here; what they mean is in the values.
"""

from __future__ import annotations

import os
from errno import EINVAL

from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NamedTuple

    class Held(NamedTuple):
        """What the calling thread holds. -1 stands for what this kernel does not have."""

        effective: int
        permitted: int
        inheritable: int
        bounding: int
        ambient: int
        securebits: int
        keepcaps: int
        no_new_privs: int
        dumpable: int

    Change = tuple[int, tuple[int, ...]]

else:
    from collections import namedtuple

    _FIELDS = "effective permitted inheritable bounding ambient securebits keepcaps no_new_privs dumpable"
    Held = namedtuple("Held", _FIELDS, module=__name__)

CAPSET: int = lib.FP_CRED_CAPSET
BOUNDING: int = lib.FP_CRED_BOUNDING
AMBIENT: int = lib.FP_CRED_AMBIENT
SECUREBITS: int = lib.FP_CRED_SECUREBITS
KEEPCAPS: int = lib.FP_CRED_KEEPCAPS
NO_NEW_PRIVS: int = lib.FP_CRED_NO_NEW_PRIVS

_CREDENTIALS = ffi.typeof("struct fp_credentials *")
_OPS = ffi.typeof("struct fp_cred_op[]")
_REPORT = ffi.typeof("struct fp_cred_report *")


class Spread:
    """How far a change of all threads came.

    Attributes:
        error: 0 or an errno.
        threads: those that took part.
        op: index of the change that failed; -1 when none was begun.
        tid: the thread that failed or did not come; 0 for the calling one.
        state: of a thread that did not come, the letter of /proc/PID/stat, or "".
    """

    __slots__ = ("error", "op", "state", "threads", "tid")

    def __init__(self, error: int, report: object) -> None:
        """Take a struct fp_cred_report."""
        self.error = error
        self.threads: int = report.threads  # type: ignore[attr-defined]
        self.op: int = report.op  # type: ignore[attr-defined]
        self.tid: int = report.tid  # type: ignore[attr-defined]
        self.state = chr(report.state) if report.state else ""  # type: ignore[attr-defined]


def held() -> Held:
    """Return what the calling thread holds, as system calls tell it.

    Raises:
        OSError: capget(2); ENOSYS on other systems than Linux.
    """
    native = ffi.new(_CREDENTIALS)
    r = lib.fp_credentials_get(native)
    if r < 0:
        raise OSError(-r, os.strerror(-r))
    return Held(*(getattr(native, name) for name in Held._fields))


def spread(changes: Sequence[Change], timeout_ns: int) -> Spread:
    """Make changes in every thread of this process, or, where a thread cannot be reached, none.

    Args:
        changes: pairs of one of the constants above and up to three masks.
        timeout_ns: how long the others may take to stand still.
    """
    ops = ffi.new(_OPS, len(changes))
    for op, (what, masks) in zip(ops, changes, strict=True):
        op.what = what
        for index, mask in enumerate(masks):
            op.mask[index] = mask
    report = ffi.new(_REPORT)
    r = lib.fp_credentials_set(ops, len(changes), timeout_ns, report)
    return Spread(-r, report)


def in_bounding(number: int) -> bool | None:
    """Return whether a capability is in the bounding set of this thread; None when this kernel does not have it."""
    r = lib.fp_bounding_read(number)
    if r < 0 and r != -EINVAL:
        raise OSError(-r, os.strerror(-r))
    return None if r < 0 else bool(r)


def ambient_supported() -> bool:
    """Return whether this kernel has the ambient set."""
    return bool(lib.fp_ambient_supported())


def set_dumpable(on: bool) -> None:
    """Set PR_SET_DUMPABLE of the process (prctl(2)).

    Raises:
        OSError: it was refused.
    """
    r = lib.fp_dumpable_set(on)
    if r < 0:
        raise OSError(-r, os.strerror(-r))


def set_proc(fd: int) -> None:
    """Say by which descriptor changes of all threads find /proc; -1 for its path. It stays the caller's."""
    lib.fp_proc_set(fd)
