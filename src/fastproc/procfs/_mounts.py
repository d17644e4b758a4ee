"""/proc/PID/mountinfo, mounts, and /proc/swaps. Pure."""

from __future__ import annotations

from fastproc.procfs._record import Record
from fastproc.procfs._text import number, path, rows, signed, text


class MountInfo(Record):
    r"""One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)). Blanks, tabs, newlines and backslashes are unescaped.

    Attributes:
        id, parent: of the mount, and of the one that it lies in; device: (major, minor).
        root: what of the file system is mounted; target: where, as seen from the process's root.
        options: of the mount, as ("rw", "relatime"); propagation: as ("shared:2", "master:1"); none for private.
        fstype: as "ext4", "fuse.sshfs"; source: what is mounted, may be ""; super_options: of the file system.
    """

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
    fstype, source, supers = words[dash + 1], words[dash + 2], words[dash + 3]
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


def parse_mountinfo(data: bytes) -> tuple[MountInfo, ...]:
    """Read /proc/PID/mountinfo.

    Raises:
        ParseError: it is no such text.
    """
    return rows(data, "mountinfo", _mountinfo)


class Mount(Record):
    """One line of /proc/PID/mounts, /proc/mounts or fstab (fstab(5)), unescaped.

    Attributes:
        source, target, fstype: what, where, which kind; options: of mount and file system.
        dump, passno: for dump(8) and fsck(8).
    """

    source: str
    target: str
    fstype: str
    options: tuple[str, ...]
    dump: int
    passno: int


def _mount(line: bytes) -> Mount:
    source, target, fstype, options, dump, passno = line.split(b" ")
    return Mount(path(source), path(target), path(fstype), _options(options), number(dump), number(passno))


def parse_mounts(data: bytes) -> tuple[Mount, ...]:
    """Read /proc/PID/mounts.

    Raises:
        ParseError: it is no such text.
    """
    return rows(data, "mounts", _mount)


class Swap(Record):
    """One line of /proc/swaps (proc_swaps(5)).

    Attributes:
        path: of the file or partition; kind: "file" or "partition"; size, used: bytes; priority: higher is used
            first.
    """

    path: str
    kind: str
    size: int
    used: int
    priority: int


def _swap(line: bytes) -> Swap:
    name, kind, size, used, priority = line.split()
    return Swap(path(name), text(kind), number(size) * 1024, number(used) * 1024, signed(priority))


def parse_swaps(data: bytes) -> tuple[Swap, ...]:
    """Read /proc/swaps.

    Raises:
        ParseError: it is no such text.
    """
    return rows(data, "swaps", _swap, skip=1)
