"""Short files of /proc/PID: limits, cgroup, maps of ids, command line, environment, auxiliary vector, links. Pure."""

from __future__ import annotations

import sys

from fastproc.procfs._record import Record
from fastproc.procfs._text import BAD, ParseError, Rows, Table, blame, hexa, number, only, rows, signed, table, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal


class Limit(Record):
    """One resource limit (getrlimit(2)).

    Attributes:
        soft, hard: the limits; None for unlimited.
        unit: "bytes", "seconds", "files", "processes", "locks", "signals", "us"; "" for a plain number.
    """

    __module__ = "fastproc.procfs"

    soft: int | None
    hard: int | None
    unit: str


_LIMITS = {
    b"Max cpu time": "cpu",
    b"Max file size": "fsize",
    b"Max data size": "data",
    b"Max stack size": "stack",
    b"Max core file size": "core",
    b"Max resident set": "rss",
    b"Max processes": "nproc",
    b"Max open files": "nofile",
    b"Max locked memory": "memlock",
    b"Max address space": "as",
    b"Max file locks": "locks",
    b"Max pending signals": "sigpending",
    b"Max msgqueue size": "msgqueue",
    b"Max nice priority": "nice",
    b"Max realtime priority": "rtprio",
    b"Max realtime timeout": "rttime",
}


def _limit(line: bytes) -> tuple[str, Limit]:
    # Columns of 25, 20, 20 and 10 characters, padded with spaces and separated by a space (fs/proc/base.c).
    name = line[:25].strip()
    words = line[25:].split()
    if len(words) not in (2, 3):
        raise ValueError(f"{len(words)} words after the name and not 2 or 3")
    soft, hard = (None if word == b"unlimited" else number(word) for word in words[:2])
    return _LIMITS.get(name, text(name)), Limit(soft, hard, text(words[2]) if len(words) == 3 else "")


def parse_limits(data: bytes) -> Table[Limit]:
    """Parse /proc/PID/limits; the keys are the names of the RLIMIT_ constants, such as "nofile".

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    if not data.startswith(b"Limit "):
        raise ParseError("limits", 1, "no heading", data.split(b"\n", 1)[0])
    return table(rows(data, "limits", _limit, skip=1))


parse_limits.__module__ = "fastproc.procfs"


class Cgroup(Record):
    """One line of /proc/PID/cgroup (cgroups(7)).

    Attributes:
        hierarchy: number of the hierarchy; 0 is cgroup v2.
        controllers: controllers of a v1 hierarchy, for example ("cpu", "cpuacct") or ("name=systemd",); empty for v2.
        path: path below the root of the hierarchy as the reader sees it; starts with "/.." if it is outside the
            reader's cgroup namespace.
        deleted: whether the cgroup was removed while the process, a zombie, was in it.
    """

    __module__ = "fastproc.procfs"

    hierarchy: int
    controllers: tuple[str, ...]
    path: str
    deleted: bool


def _cgroup(line: bytes) -> Cgroup:
    hierarchy, controllers, path = line.split(b":", 2)
    deleted = path.endswith(b" (deleted)")
    if deleted:
        path = path[: -len(b" (deleted)")]
    names = tuple(text(name) for name in controllers.split(b",") if name)
    return Cgroup(number(hierarchy), names, text(path), deleted)


def parse_cgroup(data: bytes) -> Rows[Cgroup]:
    """Parse /proc/PID/cgroup.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    return rows(data, "cgroup", _cgroup)


parse_cgroup.__module__ = "fastproc.procfs"


class IdRange(Record):
    """One line of /proc/PID/uid_map, gid_map or projid_map (user_namespaces(7)).

    Attributes:
        inside: first id inside the namespace.
        outside: the same id as the reader sees it.
        count: number of ids.
    """

    __module__ = "fastproc.procfs"

    inside: int
    outside: int
    count: int


def parse_id_map(data: bytes) -> Rows[IdRange]:
    """Parse /proc/PID/uid_map, gid_map or projid_map.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> IdRange:
        inside, outside, count = line.split()
        return IdRange(number(inside), number(outside), number(count))

    return rows(data, "id_map", convert)


parse_id_map.__module__ = "fastproc.procfs"


class Autogroup(Record):
    """The content of /proc/PID/autogroup (sched(7)).

    Attributes:
        name: for example "/autogroup-17".
        nice: nice value of the whole group.
    """

    __module__ = "fastproc.procfs"

    name: str
    nice: int


def parse_autogroup(data: bytes) -> Autogroup | None:
    """Parse /proc/PID/autogroup; None for the empty file of a process without an autogroup.

    Raises:
        ParseError: the data do not have the format of this file.
    """

    def convert(line: bytes) -> Autogroup:
        name, word, nice = line.split()
        if word != b"nice":
            raise ValueError("no nice value")
        return Autogroup(text(name), signed(nice))

    if not data:
        return None
    return only(data, "autogroup", convert)


parse_autogroup.__module__ = "fastproc.procfs"


class TimeOffset(Record):
    """One line of /proc/PID/timens_offsets (time_namespaces(7), Linux 5.5).

    Attributes:
        clock: "monotonic" or "boottime".
        seconds, nanoseconds: offset of the clock in the namespace.
    """

    __module__ = "fastproc.procfs"

    clock: str
    seconds: int
    nanoseconds: int


def parse_timens_offsets(data: bytes) -> Rows[TimeOffset]:
    """Parse /proc/PID/timens_offsets.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> TimeOffset:
        clock, seconds, nanoseconds = line.split()
        return TimeOffset(text(clock), signed(seconds), signed(nanoseconds))

    return rows(data, "timens_offsets", convert)


parse_timens_offsets.__module__ = "fastproc.procfs"


def parse_number(data: bytes) -> int:
    """Parse a file with one decimal number: oom_score, oom_score_adj, oom_adj, timerslack_ns, ...

    Raises:
        ParseError: the data do not have the format of this file.
    """
    return only(data, "number", lambda line: signed(line.strip()))


parse_number.__module__ = "fastproc.procfs"


def parse_hex(data: bytes) -> int:
    """Parse a file with one hexadecimal number: coredump_filter, personality.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    return only(data, "number", lambda line: hexa(line.strip()))


parse_hex.__module__ = "fastproc.procfs"


def parse_unset(data: bytes) -> int | None:
    """Parse loginuid or sessionid; None if it was never set (4294967295).

    Raises:
        ParseError: the data do not have the format of this file.
    """
    value = parse_number(data)
    return None if value == 0xFFFFFFFF else value


parse_unset.__module__ = "fastproc.procfs"


def parse_line(data: bytes) -> str:
    """Parse a file with one line of text: comm, wchan, cpuset, attr/current. A name may contain newlines."""
    return text(data[:-1] if data.endswith((b"\n", b"\0")) else data)


parse_line.__module__ = "fastproc.procfs"


def parse_pids(data: bytes) -> tuple[int, ...]:
    """Parse task/TID/children.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    return only(data, "children", lambda line: tuple(map(number, line.split())))


parse_pids.__module__ = "fastproc.procfs"


def parse_cmdline(data: bytes) -> tuple[str, ...]:
    """Parse /proc/PID/cmdline: the arguments, each terminated by a NUL.

    A process may overwrite its arguments (setproctitle(3)). Text without a NUL is one argument.
    """
    if not data:
        return ()
    return tuple(map(text, (data[:-1] if data.endswith(b"\0") else data).split(b"\0")))


parse_cmdline.__module__ = "fastproc.procfs"


def parse_environ(data: bytes) -> dict[str, str]:
    """Parse /proc/PID/environ: the environment at execve. Of a repeated name the first counts, as for getenv(3).

    Entries without "=" are left out, because no program can read them by name.
    """
    found: dict[str, str] = {}
    for entry in data.split(b"\0"):
        name, equal, value = entry.partition(b"=")
        if equal:
            found.setdefault(text(name), text(value))
    return found


parse_environ.__module__ = "fastproc.procfs"


AT_NAMES = {
    2: "execfd", 3: "phdr", 4: "phent", 5: "phnum", 6: "pagesz", 7: "base", 8: "flags", 9: "entry", 10: "notelf",
    11: "uid", 12: "euid", 13: "gid", 14: "egid", 15: "platform", 16: "hwcap", 17: "clktck", 18: "fpucw",
    19: "dcachebsize", 20: "icachebsize", 21: "ucachebsize", 23: "secure", 24: "base_platform", 25: "random",
    26: "hwcap2", 27: "rseq_feature_size", 28: "rseq_align", 29: "hwcap3", 30: "hwcap4", 31: "execfn", 32: "sysinfo",
    33: "sysinfo_ehdr", 40: "l1i_cachesize", 41: "l1i_cachegeometry", 42: "l1d_cachesize", 43: "l1d_cachegeometry",
    44: "l2_cachesize", 45: "l2_cachegeometry", 46: "l3_cachesize", 47: "l3_cachegeometry", 51: "minsigstksz",
}  # fmt: skip


def parse_auxv(
    data: bytes, word: int | None = None, byteorder: Literal["little", "big"] = sys.byteorder
) -> dict[str, int]:
    """Parse /proc/PID/auxv: the names of getauxval(3) in lower case without AT_, such as "pagesz".

    Args:
        data: the contents of the file.
        word: the size of a number in bytes, 4 for a 32-bit process; None: detect the size.
        byteorder: the byte order of the machine that the file is from.

    Raises:
        ParseError: the data are not an auxiliary vector.
    """
    try:
        if word is None:
            word = 8 if _ends_well(data, 8, byteorder) else 4
        if word not in (4, 8) or not _ends_well(data, word, byteorder):
            raise ValueError("it does not end with AT_NULL")
        values = [int.from_bytes(data[at : at + word], byteorder) for at in range(0, len(data), word)]
        pairs = zip(values[::2], values[1::2], strict=True)
        return {AT_NAMES.get(key, str(key)): value for key, value in pairs if key > 1}
    except BAD as error:
        raise blame("auxv", 1, error, data) from None


parse_auxv.__module__ = "fastproc.procfs"


def _ends_well(data: bytes, word: int, byteorder: Literal["little", "big"]) -> bool:
    """Return whether the data are pairs that end with AT_NULL (0), and all types are plausible (below 65536)."""
    if not data or len(data) % (2 * word):
        return False
    types = [int.from_bytes(data[at : at + word], byteorder) for at in range(0, len(data), 2 * word)]
    return types[-1] == 0 and all(one < 1 << 16 for one in types)


class Target(Record):
    """The target of a link: /proc/PID/fd/N, exe, cwd or root.

    Attributes:
        text: text of the link, without " (deleted)".
        kind: "path"; or the word before ":[", such as "socket", "pipe" or "net"; or "anon_inode".
        id: inode of a socket, pipe or namespace; 0 for others.
        deleted: whether the file was deleted; a name that ends in " (deleted)" looks the same.
    """

    __module__ = "fastproc.procfs"

    text: str
    kind: str
    id: int
    deleted: bool


def parse_target(data: bytes) -> Target:
    """Parse the target of a link of /proc/PID, as readlink(2) returns it."""
    deleted = data.endswith(b" (deleted)")
    if deleted:
        data = data[: -len(b" (deleted)")]
    if data.startswith(b"/"):
        return Target(text(data), "path", 0, deleted)
    kind, colon, rest = data.partition(b":")
    if colon and rest[:1] == b"[" and rest[-1:] == b"]" and rest[1:-1].isdigit() and len(rest) < 24:
        return Target(text(data), text(kind), int(rest[1:-1]), deleted)
    return Target(text(data), text(kind) if colon else "path", 0, deleted)


parse_target.__module__ = "fastproc.procfs"


class Fd(Record):
    """One descriptor.

    Attributes:
        number: number of the descriptor.
        target: what the descriptor refers to.
    """

    __module__ = "fastproc.procfs"

    number: int
    target: Target


class Namespace(Record):
    """One link of /proc/PID/ns (namespaces(7)).

    Attributes:
        name: name of the link, for example "pid_for_children".
        kind: kind of namespace, for example "pid".
        inode: processes with the same inode share the namespace.
    """

    __module__ = "fastproc.procfs"

    name: str
    kind: str
    inode: int
