"""Reading: many processes in one call of the C core, and the children of one without a look at the others."""

from __future__ import annotations

import os
from errno import ENODEV, ENOENT, ENOSYS, ENOTDIR, EOPNOTSUPP, ESRCH, EXDEV

from fastproc._native import proc
from fastproc._native import snapshot as _native
from fastproc.errors import Unsupported
from fastproc.info._fields import DEFAULT, expand
from fastproc.info._snapshot import Column, Snapshot
from fastproc.info._tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

PROC = "/proc"


def snapshot(fields: Iterable[str] = DEFAULT, pids: Iterable[int] | None = None, root: Path = PROC) -> Snapshot:
    """Read many processes at once, in one call of the C core and without the GIL.

    Only the files are read that hold what is asked for: with the default fields one for each process, stat, which takes
    no lock of the process. All values of a row are one process's, whatever becomes of its pid meanwhile. A value that
    cannot be had is None, and the record tells why.

    Args:
        fields: names of `fastproc.info.FIELDS`, which has their units and meanings.
        pids: these processes, in this order, each with a row whether it is there or not ("gone"); None for all that
            /proc shows, of which those that end while they are read are left out.
        root: where a proc file system is mounted, or a folder made like one.

    Raises:
        TypeError, ValueError: an argument that is none; the message names it.
        Unsupported: /proc is not mounted, or is the one of another PID namespace, whose numbers name other processes
            here; or this is not Linux.
        OSError: another root cannot be read; no descriptor (EMFILE, ENFILE) or memory is left.
    """
    asked, read = expand(fields)
    numbers = None if pids is None else _checked(pids)
    where = os.fsencode(root)
    try:
        columns, at, _, boottime = _native.read(where, proc.is_proc(os.fsdecode(where)), numbers, read)
    except OSError as error:
        raise _translated(error, where) from None
    began = _boot(where) if "create_time" in asked else 0.0
    table = {name: Column(*column) for name, column in columns.items()}
    return Snapshot(asked, table, at, (boottime / 1e9, began), _native.ABSENT, os.fsdecode(where))


snapshot.__module__ = "fastproc"


def children(pid: int, recursive: bool = False, root: Path = PROC) -> list[int]:
    """Return the pids of a process's children, in the order of their births; with recursive of all its descendants.

    By /proc/PID/task/TID/children: no other process is looked at, so it costs as much as the family is large. Where the
    kernel was built without those files (CONFIG_PROC_CHILDREN) all processes are looked at. Zombies are children too. A
    family that grows meanwhile is not told completely; a pid in the list may be another process's when it is used: see
    `snapshot(pids=...)`, whose ppid and starttime tell.

    Raises:
        ProcessLookupError: there is no such process.
        TypeError, ValueError: pid is none.
        Unsupported: /proc is not mounted, or is another PID namespace's; or this is not Linux.
        OSError: EMFILE, ENFILE.
    """
    (number,) = _checked([pid])
    where = os.fsencode(root)
    try:
        return _native.children(where, proc.is_proc(os.fsdecode(where)), number, recursive)
    except OSError as error:
        if error.errno == EOPNOTSUPP:
            return _scanned(number, recursive, root)
        if error.errno == ESRCH:
            snapshot(("pid",), (number,), root)  # says so when it is /proc that is missing
        raise _translated(error, where) from None


children.__module__ = "fastproc.info"


def tree(fields: Iterable[str] = ("pid", "ppid", "comm"), root: Path = PROC) -> Tree:
    """Return who is whose parent, of all processes: one snapshot of these fields, pid and ppid among them.

    Raises:
        As `snapshot()`.
    """
    return Tree(snapshot(("pid", "ppid", *fields), None, root))


tree.__module__ = "fastproc.info"


def thread_names(pid: int, root: Path = PROC) -> list[str]:
    """Return the names of a process's threads but its first; none when it has gone.

    Raises:
        TypeError, ValueError: pid is none.
        Unsupported: as `children()`.
        OSError: EMFILE, ENFILE; the threads of this process may not be looked at.
    """
    (number,) = _checked([pid])
    where = os.path.join(os.fsencode(root), b"%d" % number, b"task")
    if proc.is_proc(os.fsdecode(root)):
        try:
            proc.check()
        except OSError as error:
            raise _translated(error, b"/proc") from None
    try:
        table = snapshot(("pid", "comm"), None, where)
    except FileNotFoundError:
        return []
    return [one.comm for one in table if one.pid != number and one.comm is not None]


thread_names.__module__ = "fastproc.info"


def _scanned(pid: int, recursive: bool, root: Path) -> list[int]:
    families: dict[int, list[int]] = {}
    table = snapshot(("pid", "ppid"), None, root)
    for one, parent in zip(table.pids, table.values("ppid"), strict=True):
        families.setdefault(parent, []).append(one)
    found = list(families.get(pid, ()))
    if recursive:
        for one in found:
            found.extend(families.get(one, ()))
    return found


def _checked(pids: Iterable[int]) -> list[int]:
    if isinstance(pids, (str, bytes, int)):
        raise TypeError(f"pids: several numbers are wanted, not {pids!r}")
    numbers = []
    for pid in pids:
        if not isinstance(pid, int) or isinstance(pid, bool):
            raise TypeError(f"pids: {pid!r} is no pid")
        if not 0 < pid < 2**31:
            raise ValueError(f"pids: {pid} is no pid")
        numbers.append(int(pid))
    return numbers


def _translated(error: OSError, where: bytes) -> Exception:
    if error.errno == ENOSYS:
        return Unsupported("processes are read from /proc, which only Linux has")
    if error.errno in (ENODEV, ENOENT, ENOTDIR) and proc.is_proc(os.fsdecode(where)):
        return Unsupported(proc.MISSING)
    if error.errno == EXDEV and proc.is_proc(os.fsdecode(where)):
        return Unsupported(proc.FOREIGN)
    return error


def _boot(where: bytes) -> float | None:
    """Return the epoch's second at which the machine was booted, as /proc/stat has it.

    None where there is no such file: a proc file system mounted with subset=pid (proc(5)), a folder of processes.
    """
    try:
        with open(os.path.join(where, b"stat"), "rb") as file:
            for line in file:
                if line.startswith(b"btime "):
                    # Nothing that float() takes and no kernel writes: "nan", "1e999".
                    word = line[6:].strip()
                    return float(word) if word.isdigit() and len(word) <= 20 else None
    except (FileNotFoundError, PermissionError):
        pass
    return None
