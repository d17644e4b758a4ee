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
        soft, hard: None for unlimited.
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
    # Columns of 25, 20, 20 and 10 characters, padded with blanks, and a blank between two (fs/proc/base.c).
    name = line[:25].strip()
    words = line[25:].split()
    if len(words) not in (2, 3):
        raise ValueError(f"{len(words)} words after the name and not 2 or 3")
    soft, hard = (None if word == b"unlimited" else number(word) for word in words[:2])
    return _LIMITS.get(name, text(name)), Limit(soft, hard, text(words[2]) if len(words) == 3 else "")


def parse_limits(data: bytes) -> Table[Limit]:
    """Read /proc/PID/limits; the keys are the names of the RLIMIT_ constants, as "nofile".

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """
    if not data.startswith(b"Limit "):
        raise ParseError("limits", 1, "no heading", data.split(b"\n", 1)[0])
    return table(rows(data, "limits", _limit, skip=1))


parse_limits.__module__ = "fastproc.procfs"


class Cgroup(Record):
    """One line of /proc/PID/cgroup (cgroups(7)).

    Attributes:
        hierarchy: its number; 0 is cgroup v2.
        controllers: of a v1 hierarchy, as ("cpu", "cpuacct") or ("name=systemd",); none for v2.
        path: below the root of the hierarchy as the reader sees it; begins with "/.." outside the reader's cgroup
            namespace.
        deleted: whether the cgroup was removed while the process, a zombie, is still in it.
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
    """Read /proc/PID/cgroup.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """
    return rows(data, "cgroup", _cgroup)


parse_cgroup.__module__ = "fastproc.procfs"


class IdRange(Record):
    """One line of /proc/PID/uid_map, gid_map or projid_map (user_namespaces(7)).

    Attributes:
        inside: the first id in the namespace; outside: the same one as the reader sees it; count: how many.
    """

    __module__ = "fastproc.procfs"

    inside: int
    outside: int
    count: int


def parse_id_map(data: bytes) -> Rows[IdRange]:
    """Read /proc/PID/uid_map, gid_map or projid_map.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """

    def convert(line: bytes) -> IdRange:
        inside, outside, count = line.split()
        return IdRange(number(inside), number(outside), number(count))

    return rows(data, "id_map", convert)


parse_id_map.__module__ = "fastproc.procfs"


class Autogroup(Record):
    """What /proc/PID/autogroup tells (sched(7)).

    Attributes:
        name: as "/autogroup-17"; nice: of the whole group.
    """

    __module__ = "fastproc.procfs"

    name: str
    nice: int


def parse_autogroup(data: bytes) -> Autogroup | None:
    """Read /proc/PID/autogroup; None for the empty file of a process that is in none.

    Raises:
        ParseError: it is no such text.
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
        clock: "monotonic" or "boottime"; seconds, nanoseconds: added to it in the namespace.
    """

    __module__ = "fastproc.procfs"

    clock: str
    seconds: int
    nanoseconds: int


def parse_timens_offsets(data: bytes) -> Rows[TimeOffset]:
    """Read /proc/PID/timens_offsets.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """

    def convert(line: bytes) -> TimeOffset:
        clock, seconds, nanoseconds = line.split()
        return TimeOffset(text(clock), signed(seconds), signed(nanoseconds))

    return rows(data, "timens_offsets", convert)


parse_timens_offsets.__module__ = "fastproc.procfs"


def parse_number(data: bytes) -> int:
    """Read a file of one decimal number: oom_score, oom_score_adj, oom_adj, timerslack_ns, ...

    Raises:
        ParseError: it is no such text.
    """
    return only(data, "number", lambda line: signed(line.strip()))


parse_number.__module__ = "fastproc.procfs"


def parse_hex(data: bytes) -> int:
    """Read a file of one hexadecimal number: coredump_filter, personality.

    Raises:
        ParseError: it is no such text.
    """
    return only(data, "number", lambda line: hexa(line.strip()))


parse_hex.__module__ = "fastproc.procfs"


def parse_unset(data: bytes) -> int | None:
    """Read loginuid or sessionid; None where it was never set (4294967295).

    Raises:
        ParseError: it is no such text.
    """
    value = parse_number(data)
    return None if value == 0xFFFFFFFF else value


parse_unset.__module__ = "fastproc.procfs"


def parse_line(data: bytes) -> str:
    """Read a file of one line of text: comm, wchan, cpuset, attr/current. A name may hold newlines itself."""
    return text(data[:-1] if data.endswith((b"\n", b"\0")) else data)


parse_line.__module__ = "fastproc.procfs"


def parse_pids(data: bytes) -> tuple[int, ...]:
    """Read task/TID/children.

    Raises:
        ParseError: it is no such text.
    """
    return only(data, "children", lambda line: tuple(map(number, line.split())))


parse_pids.__module__ = "fastproc.procfs"


def parse_cmdline(data: bytes) -> tuple[str, ...]:
    """Read /proc/PID/cmdline: the arguments, each ended by a NUL.

    A process may write other text over its own (setproctitle(3)), which then may have no NUL at all: it is one
    argument.
    """
    if not data:
        return ()
    return tuple(map(text, (data[:-1] if data.endswith(b"\0") else data).split(b"\0")))


parse_cmdline.__module__ = "fastproc.procfs"


def parse_environ(data: bytes) -> dict[str, str]:
    """Read /proc/PID/environ: what it was started with. Of a name that stands there twice the first counts (getenv(3)).

    Entries without "=" are left out: no program can read them by name.
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
    """Read /proc/PID/auxv: the names of getauxval(3) in lower case without AT_, as "pagesz".

    Args:
        data: what the file has.
        word: bytes of one number, 4 for a 32-bit process; None to find out.
        byteorder: the machine's.

    Raises:
        ParseError: it is no such vector.
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
    """Whether it is a vector of pairs that ends with AT_NULL (0) and has no other type that no kernel has."""
    if not data or len(data) % (2 * word):
        return False
    types = [int.from_bytes(data[at : at + word], byteorder) for at in range(0, len(data), 2 * word)]
    return types[-1] == 0 and all(one < 1 << 16 for one in types)


class Target(Record):
    """What a link of /proc/PID/fd, exe, cwd or root points to.

    Attributes:
        text: as the kernel gives it, without " (deleted)".
        kind: "path", or what stands before ":[", as "socket", "pipe", "net"; "anon_inode" for those.
        id: the inode of a socket, pipe or namespace; 0 for others.
        deleted: whether the name is gone (or ends so: the kernel does not say which).
    """

    __module__ = "fastproc.procfs"

    text: str
    kind: str
    id: int
    deleted: bool


def parse_target(data: bytes) -> Target:
    """Read what readlink(2) gives for a link of /proc/PID."""
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
        number: of it; target: what it refers to.
    """

    __module__ = "fastproc.procfs"

    number: int
    target: Target


class Namespace(Record):
    """One link of /proc/PID/ns (namespaces(7)).

    Attributes:
        name: of the link, as "pid_for_children"; kind: of the namespace, as "pid".
        inode: two processes with the same one share it.
    """

    __module__ = "fastproc.procfs"

    name: str
    kind: str
    inode: int
