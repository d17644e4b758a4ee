"""/proc/PID/mountinfo, mounts, and /proc/swaps. Pure."""

from __future__ import annotations

from fastproc.procfs._record import Record
from fastproc.procfs._text import Rows, number, path, rows, signed, text


class MountInfo(Record):
    r"""One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)). Blanks, tabs, newlines and backslashes are unescaped.

    Attributes:
        id, parent: of the mount, and of the one that it lies in; device: (major, minor).
        root: what of the file system is mounted; target: where, as seen from the process's root.
        options: of the mount, as ("rw", "relatime"); propagation: as ("shared:2", "master:1"); none for private.
        fstype: as "ext4", "fuse.sshfs"; source: what is mounted, may be ""; super_options: of the file system.
    """

    __module__ = "fastproc.procfs"

    id: int
    parent: int
    device: tuple[int, int]
    root: str
    target: str
    options: tuple[str, ...]
    propagation: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]


def _options(word: bytes) -> tuple[str, ...]:
    # A comma inside a value is escaped by nothing; what stands between two commas is kept as it is.
    return tuple(path(part) for part in word.split(b","))


def _mountinfo(line: bytes) -> MountInfo:
    # Single blanks: a source may be empty.
    words = line.split(b" ")
    dash = words.index(b"-", 6)
    ident, parent, device, root, target, options = words[:6]
    major, minor = device.split(b":")
    # Options are of the file system, and some write blanks into them (9p of WSL2: "path=C:\\Program Files").
    fstype, source, supers = words[dash + 1], words[dash + 2], b" ".join(words[dash + 3 :])
    if len(words) < dash + 4:
        raise ValueError(f"{len(words) - dash - 1} fields after the dash and not 3")
    return MountInfo(
        number(ident),
        number(parent),
        (number(major), number(minor)),
        path(root),
        path(target),
        _options(options),
        tuple(text(word) for word in words[6:dash]),
        path(fstype),
        path(source),
        _options(supers),
    )


def parse_mountinfo(data: bytes) -> Rows[MountInfo]:
    """Read /proc/PID/mountinfo.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """
    return rows(data, "mountinfo", _mountinfo)


parse_mountinfo.__module__ = "fastproc.procfs"


class Mount(Record):
    """One line of /proc/PID/mounts, /proc/mounts or fstab (fstab(5)), unescaped.

    Attributes:
        source, target, fstype: what, where, which kind; options: of mount and file system.
        dump, passno: for dump(8) and fsck(8).
    """

    __module__ = "fastproc.procfs"

    source: str
    target: str
    fstype: str
    options: tuple[str, ...]
    dump: int
    passno: int


def _mount(line: bytes) -> Mount:
    # Options with blanks, as in mountinfo: what stands before and behind them has none.
    source, target, fstype, *options, dump, passno = line.split(b" ")
    if not options:
        raise ValueError("5 fields and not 6")
    return Mount(path(source), path(target), path(fstype), _options(b" ".join(options)), number(dump), number(passno))


def parse_mounts(data: bytes) -> Rows[Mount]:
    """Read /proc/PID/mounts.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """
    return rows(data, "mounts", _mount)


parse_mounts.__module__ = "fastproc.procfs"


class Swap(Record):
    """One line of /proc/swaps (proc_swaps(5)).

    Attributes:
        path: of the file or partition; kind: "file" or "partition"; size, used: bytes; priority: higher is used
            first.
    """

    __module__ = "fastproc.procfs"

    path: str
    kind: str
    size: int
    used: int
    priority: int


def _swap(line: bytes) -> Swap:
    name, kind, size, used, priority = line.split()
    return Swap(path(name), text(kind), number(size) * 1024, number(used) * 1024, signed(priority))


def parse_swaps(data: bytes) -> Rows[Swap]:
    """Read /proc/swaps.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """
    return rows(data, "swaps", _swap, skip=1)


parse_swaps.__module__ = "fastproc.procfs"
