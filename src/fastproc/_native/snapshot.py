"""Processes that are not ours: the typed door to csrc/proc/snapshot.c, children.c, and what a pidfd tells (wait.c)."""

from __future__ import annotations

import os

from fastproc._native._ffi import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Column = tuple[str, bytes, bytes, bytes]
    Read = tuple[dict[str, Column], bytes, int, int]

__all__ = ["ABSENT", "FIELDS", "KINDS", "children", "exit_status", "read"]

_SNAPSHOT = ffi.typeof("struct fp_snapshot *")
_STATUS = ffi.typeof("struct fp_status *")
_PIDS = ffi.typeof("int32_t[]")
_PREFIX = "FP_FIELD_"

FIELDS: dict[str, int] = {
    name.removeprefix(_PREFIX).lower(): number
    for number, name in sorted(ffi.typeof("enum fp_field").elements.items())
    if name != "FP_FIELD_MAX"
}
"""What there is to read: name, and the number that C knows it by."""

KINDS: dict[str, str] = {name: chr(lib.fp_field_kind(number)) for name, number in FIELDS.items()}
"""I: int64, U: uint64, D: seconds as double, S: bytes. NUL on systems without /proc."""

ABSENT: dict[int, str] = {
    getattr(lib, f"FP_ABSENT_{name.upper()}"): name
    for name in ("gone", "zombie", "kthread", "untold", "format", "hidden")
}
"""Why a cell is empty, where it is no errno."""

_FIRST = 512
_PLACES = 1 << 22


def read(root: bytes, is_proc: bool, pids: Sequence[int] | None, fields: Sequence[str]) -> Read:
    """Read some fields of some processes, or of all (None).

    Args:
        root: where the proc file system is.
        is_proc: whether it must be one, and this PID namespace's.
        pids: positive numbers below 2**31.
        fields: names in FIELDS.

    Returns:
        For each field its kind, its cells (8 bytes each; for S one more, offsets into the blob), for each row why it
        is absent (int16, 0 for present), and its blob; then for each row the CLOCK_MONOTONIC nanoseconds at which it
        was read (int64), their number, and the CLOCK_BOOTTIME nanoseconds of the beginning.

    Raises:
        OSError: the root cannot be opened; ENODEV: it is no proc file system; EXDEV: it is another PID namespace's; no
            descriptor or memory is left; ENOSYS.
    """
    table = ffi.new(_SNAPSHOT)
    asked = ffi.NULL if pids is None else ffi.new(_PIDS, list(pids))
    wanted = [FIELDS[name] for name in fields]
    r = lib.fp_snapshot_read(root, is_proc, asked, 0 if pids is None else len(pids), wanted, len(wanted), table)
    if r < 0:
        raise OSError(-r, os.strerror(-r), os.fsdecode(root))
    try:
        rows = table.rows
        columns = {}
        for at, name in enumerate(fields):
            column = table.columns[at]
            kind = chr(column.kind)
            cells = bytes(ffi.buffer(column.cells, 8 * (rows + (kind == "S"))))
            absent = bytes(ffi.buffer(column.absent, 2 * rows))
            blob = bytes(ffi.buffer(column.blob, column.size)) if column.size else b""
            columns[name] = (kind, cells, absent, blob)
        return columns, bytes(ffi.buffer(table.at_ns, 8 * rows)), rows, table.boottime_ns
    finally:
        lib.fp_snapshot_close(table)


def children(root: bytes, is_proc: bool, pid: int, recursive: bool) -> list[int]:
    """Return the pids of a process's children, or of all its descendants, each after its parent.

    Raises:
        OSError: ESRCH: there is no such process; EOPNOTSUPP: a kernel without CONFIG_PROC_CHILDREN; ENODEV, EXDEV: as
            in `read`; no descriptor is left.
    """
    size = _FIRST
    while True:
        pids = ffi.new(_PIDS, size)
        r = lib.fp_children(root, is_proc, pid, recursive, pids, size)
        if r < 0:
            raise OSError(-r, os.strerror(-r), f"{os.fsdecode(root)}/{pid}")
        if r <= size:
            return list(pids[0:r])
        size = min(2 * r, _PLACES)


def exit_status(pidfd: int, reaped: bool = False) -> int | None:
    """Return the exit code, or minus the signal, of a process that was reaped; None: the kernel does not tell (6.15).

    Takes nobody's status: a zombie stays for its parent.

    Args:
        pidfd: the process.
        reaped: whether it is known to be: the kernel may tell some microseconds later, for which is waited then.
    """
    status = ffi.new(_STATUS)
    return int(status.returncode) if lib.fp_pidfd_status(pidfd, reaped, status) == 1 else None
