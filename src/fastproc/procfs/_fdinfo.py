"""/proc/PID/fdinfo/FD and /proc/locks: descriptors and file locks. Pure."""

from __future__ import annotations

from fastproc.procfs._absent import Absent, since
from fastproc.procfs._record import Record
from fastproc.procfs._text import BAD, Rows, blame, hexa, lines_of, number, octal, require, rows, signed, text, yes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Lock(Record):
    """One line of /proc/locks (proc_locks(5)) or of /proc/PID/fdinfo/FD.

    Attributes:
        id: number in the list; a waiting lock has the number of the lock that it waits for.
        blocked: whether this is a waiting lock.
        kind: "POSIX", "FLOCK", "OFDLCK", "LEASE", "DELEG", ...
        mode: "ADVISORY", "MANDATORY", "ACTIVE", "BREAKING", ...
        access: "READ", "WRITE", "UNLCK", ...
        pid: owner; -1 for a lock of an open file description.
        device: (major, minor), None if there is no file.
        inode: inode of the file.
        start: first byte.
        end: last byte, None for end of file.
    """

    __module__ = "fastproc.procfs"

    id: int
    blocked: bool
    kind: str
    mode: str
    access: str
    pid: int
    device: tuple[int, int] | None
    inode: int
    start: int
    end: int | None


def _lock(line: bytes) -> Lock:
    count, *words = line.split()
    if count[-1:] != b":":
        raise ValueError("no number before it")
    blocked = words[:1] == [b"->"]
    kind, mode, access, pid, where, start, end = words[blocked:]
    place, _, inode = where.rpartition(b":")
    if place == b"<none>":
        device = None
    else:
        major, minor = place.split(b":")
        device = hexa(major), hexa(minor)
    last = None if end == b"EOF" else number(end)
    owner = signed(pid)
    return Lock(
        number(count[:-1]),
        blocked,
        text(kind),
        text(mode),
        text(access),
        owner,
        device,
        number(inode),
        number(start),
        last,
    )


def parse_locks(data: bytes) -> Rows[Lock]:
    """Parse /proc/locks.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    return rows(data, "locks", _lock)


parse_locks.__module__ = "fastproc.procfs"


class EpollTarget(Record):
    """One descriptor that an epoll watches.

    Attributes:
        fd: number of the descriptor when it was added.
        events: bit set of EPOLL constants.
        data: value that epoll_wait(2) returns with the event.
        pos, inode, device: of the watched file; absent before 4.13; device is the kernel's dev_t.
    """

    __module__ = "fastproc.procfs"

    fd: int
    events: int
    data: int
    pos: int | Absent = since("4.13")
    inode: int | Absent = since("4.13")
    device: int | Absent = since("4.13")


class InotifyMark(Record):
    """One watch of an inotify descriptor.

    Attributes:
        wd: watch descriptor.
        inode, device: the watched file.
        mask: bit set of IN_ constants.
        ignored_mask: bit set of IN_ constants that are ignored.
    """

    __module__ = "fastproc.procfs"

    wd: int
    inode: int
    device: int
    mask: int
    ignored_mask: int


class FdInfo(Record):
    """The content of /proc/PID/fdinfo/FD (proc_pid_fdinfo(5)).

    A field that exists only for some kinds of files is None for others.

    Attributes:
        pos: file position in bytes.
        flags: flags of open(2), including O_CLOEXEC.
        mnt_id: mount id, as in mountinfo.
        inode: inode of the file (5.14).
        pid, ns_pid: of a pidfd: -1 if the process has ended and was waited for, 0 if it is in a PID namespace that is
            not visible from here.
        eventfd_count, eventfd_id (5.2), eventfd_semaphore (6.5): of an eventfd.
        sigmask: of a signalfd; bit 0 is signal 1.
        clock_id, ticks, settime_flags: of a timerfd.
        value, interval: of a timerfd: (seconds, nanoseconds) until it expires next, and its interval.
        epoll, inotify: the watched files.
        locks: file locks held through this descriptor.
        others: other lines, unchanged: fanotify, io_uring, drm, dma-buf.
    """

    __module__ = "fastproc.procfs"

    pos: int
    flags: int
    mnt_id: int
    inode: int | Absent = since("5.14")
    pid: int | None = None
    ns_pid: tuple[int, ...] | None = None
    eventfd_count: int | None = None
    eventfd_id: int | None = None
    eventfd_semaphore: bool | None = None
    sigmask: int | None = None
    clock_id: int | None = None
    ticks: int | None = None
    settime_flags: int | None = None
    value: tuple[int, int] | None = None
    interval: tuple[int, int] | None = None
    epoll: tuple[EpollTarget, ...] = ()
    inotify: tuple[InotifyMark, ...] = ()
    locks: tuple[Lock, ...] = ()
    others: tuple[str, ...] = ()


def _pair(word: bytes) -> tuple[int, int]:
    if word[:1] + word[-1:] != b"()":
        raise ValueError(f"{word[:40]!r} is not a pair")
    first, second = word[1:-1].split(b",")
    return number(first.strip()), number(second.strip())


def _ns_pids(word: bytes) -> tuple[int, ...]:
    return tuple(map(signed, word.split()))


_TABLE: dict[bytes, tuple[str, Callable[[bytes], Any]]] = {
    b"pos": ("pos", signed),
    b"flags": ("flags", octal),
    b"mnt_id": ("mnt_id", signed),
    b"ino": ("inode", number),
    b"Pid": ("pid", signed),
    b"NSpid": ("ns_pid", _ns_pids),
    b"eventfd-count": ("eventfd_count", hexa),
    b"eventfd-id": ("eventfd_id", number),
    b"eventfd-semaphore": ("eventfd_semaphore", yes),
    b"sigmask": ("sigmask", hexa),
    b"clockid": ("clock_id", number),
    b"ticks": ("ticks", number),
    b"settime flags": ("settime_flags", octal),
    b"it_value": ("value", _pair),
    b"it_interval": ("interval", _pair),
}


def _pairs(line: bytes) -> dict[bytes, bytes]:
    """Parse "tfd:  5 events:  19 data:  5": each key ends with a colon, and spaces may follow."""
    found: dict[bytes, bytes] = {}
    parts = line.replace(b":", b": ").split()
    for key, value in zip(parts[::2], parts[1::2], strict=True):
        if key[-1:] != b":":
            raise ValueError(f"{key[:40]!r} is not a key")
        found[key[:-1]] = value
    return found


def _epoll(line: bytes) -> EpollTarget:
    pairs = _pairs(line)
    first = number(pairs[b"tfd"]), hexa(pairs[b"events"]), hexa(pairs[b"data"])
    if b"ino" not in pairs:
        return EpollTarget(*first)
    return EpollTarget(*first, signed(pairs[b"pos"]), hexa(pairs[b"ino"]), hexa(pairs[b"sdev"]))


def _inotify(line: bytes) -> InotifyMark:
    pairs = _pairs(line.split(b" fhandle-bytes")[0].removeprefix(b"inotify"))
    values = (hexa(pairs[key]) for key in (b"wd", b"ino", b"sdev", b"mask", b"ignored_mask"))
    return InotifyMark(*values)


def parse_fdinfo(data: bytes) -> FdInfo:
    """Parse /proc/PID/fdinfo/FD.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    values: dict[str, Any] = {}
    epoll: list[EpollTarget] = []
    inotify: list[InotifyMark] = []
    locks: list[Lock] = []
    others: list[str] = []
    for count, line in lines_of(data):
        key, colon, value = line.partition(b":")
        try:
            if key in _TABLE and colon:
                name, convert = _TABLE[key]
                values[name] = convert(value.strip())
            elif key == b"lock":
                locks.append(_lock(value))
            elif key == b"tfd":
                epoll.append(_epoll(line))
            elif key == b"inotify wd":
                inotify.append(_inotify(line))
            else:
                others.append(text(line))
        except BAD as error:
            raise blame("fdinfo", count, error, line) from None
    require(values, "fdinfo", "pos", "flags", "mnt_id")
    return FdInfo(**values, epoll=tuple(epoll), inotify=tuple(inotify), locks=tuple(locks), others=tuple(others))


parse_fdinfo.__module__ = "fastproc.procfs"
