"""Reading many processes in one call of the C core, and the children of one process without reading the others."""

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
    """Read many processes in one call of the C core, without the GIL.

    Only the files of the requested fields are read. For the default fields this is one file for each process, stat,
    which takes no lock of the process. All values of a row belong to one process, even if its pid is reused meanwhile.
    A value that is not available is None, and the record has the reason.

    Args:
        fields: names in `fastproc.info.FIELDS`, which has their units and meanings.
        pids: read these processes, in this order. Each gets a row; if it does not exist, the values are None ("gone").
            None: read all processes in /proc, without those that end meanwhile.
        root: the mount point of a proc file system, or a directory with the same structure.

    Raises:
        TypeError, ValueError: an argument is invalid; the message has its name.
        Unsupported: /proc is not mounted, or belongs to another PID namespace, where the numbers name other processes;
            or the system is not Linux.
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
    """Return the pids of a process's children in the order of their start; with `recursive`, of all its descendants.

    The function reads /proc/PID/task/TID/children. It does not look at other processes, so its time depends only on the
    number of descendants. If the kernel was built without these files (CONFIG_PROC_CHILDREN), all processes are read.
    Zombies are included. The list may be incomplete if processes start or end meanwhile. A pid may belong to another
    process when it is used: compare ppid and starttime of `snapshot(pids=...)`.

    Raises:
        ProcessLookupError: the process does not exist.
        TypeError, ValueError: `pid` is not a pid.
        Unsupported: /proc is not mounted, or belongs to another PID namespace; or the system is not Linux.
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
            snapshot(("pid",), (number,), root)  # raises Unsupported if /proc is missing
        raise _translated(error, where) from None


children.__module__ = "fastproc.info"


def tree(fields: Iterable[str] = ("pid", "ppid", "comm"), root: Path = PROC) -> Tree:
    """Return the tree of all processes, from one snapshot with these fields and pid and ppid.

    Raises:
        As `snapshot()`.
    """
    return Tree(snapshot(("pid", "ppid", *fields), None, root))


tree.__module__ = "fastproc.info"


def thread_names(pid: int, root: Path = PROC) -> list[str]:
    """Return the names of a process's threads except the first; an empty list if the process has ended.

    Raises:
        TypeError, ValueError: `pid` is not a pid.
        Unsupported: as for `children()`.
        OSError: EMFILE, ENFILE; this process may not read the threads.
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
        raise TypeError(f"pids: must be several numbers, not {pids!r}")
    numbers = []
    for pid in pids:
        if not isinstance(pid, int) or isinstance(pid, bool):
            raise TypeError(f"pids: {pid!r} is not a pid")
        if not 0 < pid < 2**31:
            raise ValueError(f"pids: {pid} is not a pid")
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
    """Return the time of the boot in seconds since 1970, from /proc/stat.

    Returns None if the file is missing: in a proc file system mounted with subset=pid (proc(5)), or in a directory with
    only processes.
    """
    try:
        with open(os.path.join(where, b"stat"), "rb") as file:
            for line in file:
                if line.startswith(b"btime "):
                    # float() would also accept words that no kernel writes: "nan", "1e999".
                    word = line[6:].strip()
                    return float(word) if word.isdigit() and len(word) <= 20 else None
    except (FileNotFoundError, PermissionError):
        pass
    return None
