"""/proc/PID/maps, smaps, smaps_rollup, numa_maps: the memory of a process. Pure."""

from __future__ import annotations

from fastproc.procfs._absent import NOT_IN_KERNEL, Absent, since
from fastproc.procfs._record import Record
from fastproc.procfs._text import (
    BAD,
    ParseError,
    Rows,
    blame,
    device,
    hexa,
    kib,
    lines_of,
    number,
    rows,
    text,
    unescape,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Mapping(Record):
    r"""One line of /proc/PID/maps (proc_pid_maps(5)).

    Attributes:
        start, end: addresses; the byte at end is not included.
        perms: four letters: r, w, x or "-", and p (private) or s (shared).
        offset: offset in the file, in bytes.
        device: (major, minor) of the file system.
        inode: inode of the file, 0 for none.
        path: path of the file, or "[heap]", "[stack]", "[anon:NAME]"; "" for none. The kernel escapes newlines but not
            backslashes, so a name that contains the four characters \012 looks like a name with a newline.
    """

    __module__ = "fastproc.procfs"

    start: int
    end: int
    perms: str
    offset: int
    device: tuple[int, int]
    inode: int
    path: str

    @property
    def size(self) -> int:
        """The size in bytes."""
        return self.end - self.start

    @property
    def deleted(self) -> bool:
        """Whether the file was deleted. A name that ends in " (deleted)" looks the same."""
        return self.inode > 0 and self.path.endswith(" (deleted)")


def _mapping(line: bytes) -> Mapping:
    # The path follows five fields and spaces. It may begin with any character except a space.
    words = line.split(b" ", 5)
    if len(words) < 5:
        raise ValueError(f"{len(words)} fields and not 5")
    start, end = words[0].split(b"-")
    perms = words[1].decode("ascii", "replace")
    if len(perms) != 4 or any(one not in allowed for one, allowed in zip(perms, ("r-", "w-", "x-", "ps"), strict=True)):
        raise ValueError(f"{words[1][:40]!r} are not permissions")
    path = words[5].lstrip(b" ").replace(b"\\012", b"\n") if len(words) == 6 else b""
    return Mapping(hexa(start), hexa(end), perms, hexa(words[2]), device(words[3]), number(words[4]), text(path))


def parse_maps(data: bytes) -> Rows[Mapping]:
    """Parse /proc/PID/maps.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    return rows(data, "maps", _mapping)


parse_maps.__module__ = "fastproc.procfs"


_NOT = Absent(NOT_IN_KERNEL)


class Usage(Record):
    """The memory of one mapping (smaps) or of all (smaps_rollup), in bytes.

    Attributes:
        rss: resident memory.
        pss: resident memory, with each shared page divided by the number of processes that share it.
        pss_dirty: part of pss that was written to (6.0).
        pss_anon, pss_file, pss_shmem: parts of pss, only in smaps_rollup (5.3).
        shared_clean, shared_dirty, private_clean, private_dirty: parts of rss.
        referenced: accessed recently.
        anonymous: memory that belongs to no file.
        ksm: merged by KSM (6.7).
        lazy_free: may be freed at any time (4.12).
        anon_huge_pages, shmem_pmd_mapped, file_pmd_mapped (5.4): memory in huge pages.
        shared_hugetlb, private_hugetlb: memory in hugetlbfs pages.
        swap: swapped out.
        swap_pss: swapped out, divided like pss.
        locked: locked memory, divided like pss.
        others: unknown lines, by key.
    """

    __module__ = "fastproc.procfs"

    rss: int
    pss: int
    shared_clean: int
    shared_dirty: int
    private_clean: int
    private_dirty: int
    referenced: int
    anonymous: int
    others: dict[str, str]
    pss_dirty: int | Absent = since("6.0")
    pss_anon: int | Absent = Absent(NOT_IN_KERNEL, "only in smaps_rollup, since Linux 5.3")
    pss_file: int | Absent = Absent(NOT_IN_KERNEL, "only in smaps_rollup, since Linux 5.3")
    pss_shmem: int | Absent = Absent(NOT_IN_KERNEL, "only in smaps_rollup, since Linux 5.3")
    ksm: int | Absent = since("6.7")
    lazy_free: int | Absent = _NOT
    anon_huge_pages: int | Absent = _NOT
    shmem_pmd_mapped: int | Absent = _NOT
    file_pmd_mapped: int | Absent = since("5.4")
    shared_hugetlb: int | Absent = _NOT
    private_hugetlb: int | Absent = _NOT
    swap: int | Absent = _NOT
    swap_pss: int | Absent = _NOT
    locked: int | Absent = _NOT

    @property
    def uss(self) -> int:
        """The unique set size: resident private pages, which would be freed if the process ended."""
        return self.private_clean + self.private_dirty


class Smap(Record):
    """One mapping of /proc/PID/smaps.

    Attributes:
        mapping: the mapping, as in maps.
        usage: memory use.
        size: bytes.
        kernel_page_size, mmu_page_size: bytes.
        thp_eligible: whether the mapping may get transparent huge pages (5.0).
        protection_key: protection key, if the CPU has such keys.
        flags: two letters each, for example "rd", "mr", "sd".
    """

    __module__ = "fastproc.procfs"

    mapping: Mapping
    usage: Usage
    size: int
    kernel_page_size: int
    mmu_page_size: int
    thp_eligible: bool | Absent = since("5.0")
    protection_key: int | Absent = Absent(NOT_IN_KERNEL, "the CPU has no protection keys")
    flags: tuple[str, ...] = ()


_USAGE = {
    b"Rss": "rss",
    b"Pss": "pss",
    b"Pss_Dirty": "pss_dirty",
    b"Pss_Anon": "pss_anon",
    b"Pss_File": "pss_file",
    b"Pss_Shmem": "pss_shmem",
    b"Shared_Clean": "shared_clean",
    b"Shared_Dirty": "shared_dirty",
    b"Private_Clean": "private_clean",
    b"Private_Dirty": "private_dirty",
    b"Referenced": "referenced",
    b"Anonymous": "anonymous",
    b"KSM": "ksm",
    b"LazyFree": "lazy_free",
    b"AnonHugePages": "anon_huge_pages",
    b"ShmemHugePages": "shmem_pmd_mapped",  # the name before 4.12
    b"ShmemPmdMapped": "shmem_pmd_mapped",
    b"FilePmdMapped": "file_pmd_mapped",
    b"Shared_Hugetlb": "shared_hugetlb",
    b"Private_Hugetlb": "private_hugetlb",
    b"Swap": "swap",
    b"SwapPss": "swap_pss",
    b"Locked": "locked",
}
_SIZES = {b"Size": "size", b"KernelPageSize": "kernel_page_size", b"MMUPageSize": "mmu_page_size"}
_NEEDED = ("rss", "pss", "shared_clean", "shared_dirty", "private_clean", "private_dirty", "referenced", "anonymous")


class _Part:
    """One mapping of smaps while its lines are parsed."""

    def __init__(self, count: int, mapping: Mapping) -> None:
        self.count = count
        self.mapping = mapping
        self.usage: dict[str, Any] = {"others": {}}
        self.rest: dict[str, Any] = {}

    def take(self, line: bytes) -> None:
        key, colon, value = line.partition(b":")
        value = value.strip()
        if not colon:
            raise ValueError("no colon")
        if key in _USAGE:
            self.usage[_USAGE[key]] = kib(value)
        elif key in _SIZES:
            self.rest[_SIZES[key]] = kib(value)
        elif key == b"VmFlags":
            self.rest["flags"] = tuple(map(text, value.split()))
        elif key == b"THPeligible":
            self.rest["thp_eligible"] = bool(number(value))
        elif key == b"ProtectionKey":
            self.rest["protection_key"] = number(value)
        else:
            self.usage["others"][text(key)] = text(value)

    def used(self) -> Usage:
        for name in _NEEDED:
            if name not in self.usage:
                raise ParseError("smaps", self.count, f"the mapping has no {name}")
        return Usage(**self.usage)

    def done(self) -> Smap:
        for name in _SIZES.values():
            if name not in self.rest:
                raise ParseError("smaps", self.count, f"the mapping has no {name}")
        return Smap(self.mapping, self.used(), **self.rest)


def _parts(data: bytes) -> list[_Part]:
    parts: list[_Part] = []
    for count, line in lines_of(data):
        try:
            if b"-" in line.split(b" ", 1)[0] and not line.split(b" ", 1)[0].endswith(b":"):
                parts.append(_Part(count, _mapping(line)))
            elif parts:
                parts[-1].take(line)
            else:
                raise ValueError("no mapping before this line")
        except BAD as error:
            raise blame("smaps", count, error, line) from None
    return parts


def parse_smaps(data: bytes) -> tuple[Smap, ...]:
    """Parse /proc/PID/smaps.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    return tuple(part.done() for part in _parts(data))


parse_smaps.__module__ = "fastproc.procfs"


def parse_smaps_rollup(data: bytes) -> Usage:
    """Parse /proc/PID/smaps_rollup (Linux 4.14).

    Raises:
        ParseError: the data do not have the format of this file.
    """
    parts = _parts(data)
    if len(parts) != 1:
        raise ParseError("smaps_rollup", 1, f"{len(parts)} mappings and not one")
    return parts[0].used()


parse_smaps_rollup.__module__ = "fastproc.procfs"


class NumaMapping(Record):
    """One line of /proc/PID/numa_maps (numa(7)). Counts are pages of kernel_page_size bytes.

    Attributes:
        start: address.
        policy: for example "default", "bind:0", "interleave:0-1", "prefer (many):0".
        file: path of the file, or "" for none.
        heap, stack, huge: whether the mapping is the heap, a stack, or uses huge pages.
        anon, dirty, mapped, mapmax, swapcache, active, writeback: pages, 0 if not in the line; mapmax is the largest
            number of processes that map one of the pages.
        nodes: pages on each memory node.
        kernel_page_size: bytes; absent if no page is allocated.
    """

    __module__ = "fastproc.procfs"

    start: int
    policy: str
    file: str
    heap: bool
    stack: bool
    huge: bool
    anon: int
    dirty: int
    mapped: int
    mapmax: int
    swapcache: int
    active: int
    writeback: int
    nodes: dict[int, int]
    kernel_page_size: int | Absent


_COUNTS = ("anon", "dirty", "mapped", "mapmax", "swapcache", "active", "writeback")
# Names of policies with a space (mm/mempolicy.c, 5.15 and 6.9).
_TWO_WORDS = ((b"prefer", b"(many)"), (b"weighted", b"interleave"))


def _numa(line: bytes) -> NumaMapping:
    start, policy, *words = line.split(b" ")
    if words and any(policy == first and words[0].startswith(second) for first, second in _TWO_WORDS):
        policy += b" " + words.pop(0)
    values: dict[str, Any] = {"file": "", "kernel_page_size": Absent(NOT_IN_KERNEL, "no page is there")}
    values.update(dict.fromkeys(("heap", "stack", "huge"), False))
    values.update(dict.fromkeys(_COUNTS, 0))
    nodes: dict[int, int] = {}
    for word in words:
        key, equal, value = word.partition(b"=")
        name = key.decode("ascii", "replace")
        if key == b"file":
            values["file"] = text(unescape(value))
        elif key == b"kernelpagesize_kB":
            values["kernel_page_size"] = number(value) * 1024
        elif not equal and name in ("heap", "stack", "huge"):
            values[name] = True
        elif name in _COUNTS:
            values[name] = number(value)
        elif key[:1] == b"N" and equal:
            nodes[number(key[1:])] = number(value)
        elif word:
            raise ValueError(f"{word[:40]!r} is not known")
    return NumaMapping(start=hexa(start), policy=text(policy), nodes=nodes, **values)


def parse_numa_maps(data: bytes) -> Rows[NumaMapping]:
    """Parse /proc/PID/numa_maps.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    return rows(data, "numa_maps", _numa)


parse_numa_maps.__module__ = "fastproc.procfs"
