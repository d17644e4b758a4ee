"""/proc/PID/mountinfo, mounts, and /proc/swaps. Pure."""

from __future__ import annotations

from fastproc.procfs._record import Record
from fastproc.procfs._text import Rows, number, path, rows, signed, text


class MountInfo(Record):
    """One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).

    Escaped spaces, tabs, newlines and backslashes are decoded.

    Attributes:
        id, parent: ids of the mount and of its parent mount.
        device: (major, minor).
        root: mounted directory of the file system.
        target: mount point, as seen from the process's root.
        options: mount options, for example ("rw", "relatime").
        propagation: for example ("shared:2", "master:1"); empty for private.
        fstype: for example "ext4" or "fuse.sshfs".
        source: mounted device or name, may be "".
        super_options: options of the file system.
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
    # The kernel does not escape a comma inside a value, so such a value is split too.
    return tuple(path(part) for part in word.split(b","))


def _mountinfo(line: bytes) -> MountInfo:
    # Fields are separated by single spaces, because a source may be empty.
    words = line.split(b" ")
    dash = words.index(b"-", 6)
    ident, parent, device, root, target, options = words[:6]
    major, minor = device.split(b":")
    # Some file systems write spaces into their options (9p of WSL2: "path=C:\\Program Files").
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
    """Parse /proc/PID/mountinfo.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    return rows(data, "mountinfo", _mountinfo)


parse_mountinfo.__module__ = "fastproc.procfs"


class Mount(Record):
    """One line of /proc/PID/mounts, /proc/mounts or fstab (fstab(5)), unescaped.

    Attributes:
        source, target, fstype: device, mount point, file system type.
        options: options of the mount and of the file system.
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
    # Options may contain spaces, as in mountinfo. The fields before and after them do not.
    source, target, fstype, *options, dump, passno = line.split(b" ")
    if not options:
        raise ValueError("5 fields and not 6")
    return Mount(path(source), path(target), path(fstype), _options(b" ".join(options)), number(dump), number(passno))


def parse_mounts(data: bytes) -> Rows[Mount]:
    """Parse /proc/PID/mounts.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    return rows(data, "mounts", _mount)


parse_mounts.__module__ = "fastproc.procfs"


class Swap(Record):
    """One line of /proc/swaps (proc_swaps(5)).

    Attributes:
        path: file or partition.
        kind: "file" or "partition".
        size, used: bytes.
        priority: areas with a higher priority are used first.
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
    """Parse /proc/swaps.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    return rows(data, "swaps", _swap, skip=1)


parse_swaps.__module__ = "fastproc.procfs"
