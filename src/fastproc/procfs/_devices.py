"""/proc/diskstats, partitions, cpuinfo, modules, devices, cgroups, filesystems, and values below /proc/sys. Pure."""

from __future__ import annotations

from fastproc.procfs._absent import Absent, since
from fastproc.procfs._record import Record
from fastproc.procfs._text import (
    BAD,
    ParseError,
    Rows,
    Table,
    blame,
    hex0x,
    lines_of,
    number,
    raw,
    real,
    rows,
    signed,
    table,
    text,
)

SECTOR = 512
"""Bytes of a sector in diskstats, whatever the device has."""


class Disk(Record):
    """One line of /proc/diskstats (the kernel's Documentation/admin-guide/iostats.rst). Sectors have 512 bytes.

    Attributes:
        major, minor, name: which device.
        reads, writes: completed; reads_merged, writes_merged: joined with another before.
        sectors_read, sectors_written: of 512 bytes; read_ms, write_ms: milliseconds that all of them took, summed.
        in_flight: now; io_ms: with at least one in flight; weighted_ms: summed over those in flight.
        discards, discards_merged, sectors_discarded, discard_ms: the same for discards (4.18).
        flushes, flush_ms: the same for flushes (5.5).
    """

    __module__ = "fastproc.procfs"

    major: int
    minor: int
    name: str
    reads: int
    reads_merged: int
    sectors_read: int
    read_ms: int
    writes: int
    writes_merged: int
    sectors_written: int
    write_ms: int
    in_flight: int
    io_ms: int
    weighted_ms: int
    discards: int | Absent = since("4.18")
    discards_merged: int | Absent = since("4.18")
    sectors_discarded: int | Absent = since("4.18")
    discard_ms: int | Absent = since("4.18")
    flushes: int | Absent = since("5.5")
    flush_ms: int | Absent = since("5.5")


def _disk(line: bytes) -> Disk:
    # Device names may hold blanks only where a driver errs; "!" stands for "/" (cciss!c0d0).
    words = line.split()
    if len(words) < 14:
        raise ValueError(f"{len(words)} fields and not 14")
    count = 14 if len(words) < 18 else 18 if len(words) < 20 else 20
    # in_flight was seen negative on old kernels.
    return Disk(number(words[0]), number(words[1]), text(words[2]), *map(signed, words[3:count]))


def parse_diskstats(data: bytes) -> Rows[Disk]:
    """Read /proc/diskstats.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """
    return rows(data, "diskstats", _disk)


parse_diskstats.__module__ = "fastproc.procfs"


class Partition(Record):
    """One line of /proc/partitions.

    Attributes:
        major, minor, name: which device; size: bytes.
    """

    __module__ = "fastproc.procfs"

    major: int
    minor: int
    name: str
    size: int


def parse_partitions(data: bytes) -> Rows[Partition]:
    """Read /proc/partitions.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """

    def convert(line: bytes) -> Partition:
        major, minor, blocks, name = line.split(None, 3)
        return Partition(number(major), number(minor), text(name), number(blocks) * 1024)

    return rows(data, "partitions", convert, skip=1)


parse_partitions.__module__ = "fastproc.procfs"


class Cpu(Record):
    """One CPU of /proc/cpuinfo. Architectures differ: what one does not tell is in no field.

    Attributes:
        number: as in /proc/stat; model: "model name" of x86, arm (32 bit), riscv's "uarch"; "" where there is none.
        mhz: frequency at this moment (x86), or None where it is not told.
        package, core: "physical id" and "core id" of x86, or None.
        flags: of x86 ("flags"), arm ("Features"), riscv ("isa" as one word).
        fields: every line, by its key.
    """

    __module__ = "fastproc.procfs"

    number: int
    model: str
    mhz: float | None
    package: int | None
    core: int | None
    flags: tuple[str, ...]
    fields: dict[str, str]


class Cpuinfo(Record):
    """What /proc/cpuinfo tells.

    Attributes:
        cpus: each CPU that is online.
        fields: lines that belong to none, as "Hardware", "Revision", "Serial" of arm, by their key.
    """

    __module__ = "fastproc.procfs"

    cpus: tuple[Cpu, ...]
    fields: dict[str, str]


def _cpu(fields: dict[str, str]) -> Cpu:
    def integer(key: str) -> int | None:
        return signed(raw(fields[key])) if key in fields else None

    mhz = fields.get("cpu MHz")
    # "Unknown" where a CPU that is idle may not be woken to ask it (6.11).
    megahertz = None if mhz is None or mhz.lower() == "unknown" else real(raw(mhz))
    flags = fields.get("flags", fields.get("Features", fields.get("isa", "")))
    model = fields.get("model name", fields.get("uarch", fields.get("cpu model", "")))
    count = number(raw(fields["processor"]))
    return Cpu(count, model, megahertz, integer("physical id"), integer("core id"), tuple(flags.split()), fields)


def parse_cpuinfo(data: bytes) -> Cpuinfo:
    """Read /proc/cpuinfo of x86, arm, arm64 or riscv.

    Raises:
        ParseError: it is no such text.
    """
    blocks: list[tuple[int, dict[str, str]]] = []
    rest: dict[str, str] = {}
    current: dict[str, str] = rest
    fresh = True
    for count, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            current, fresh = rest, True
            continue
        key, colon, value = line.partition(b":")
        name = text(key.strip())
        if not colon:
            raise ParseError("cpuinfo", count, "no colon", line)
        # 32-bit arm before 3.8 begins with "Processor"; each CPU has a "processor" with a number.
        if name == "processor" and value.strip().isdigit():
            current, fresh = {}, False
            blocks.append((count, current))
        elif fresh:
            current, fresh = rest, False
        current[name] = text(value.strip())
    cpus = []
    for count, fields in blocks:
        try:
            cpus.append(_cpu(fields))
        except BAD as error:
            raise blame("cpuinfo", count, error, b"") from None
    return Cpuinfo(tuple(cpus), rest)


parse_cpuinfo.__module__ = "fastproc.procfs"


class Module(Record):
    """One line of /proc/modules.

    Attributes:
        name: of the module; size: bytes; references: how often it is used, -1 where it cannot be unloaded.
        used_by: names of modules that need it; state: "Live", "Loading", "Unloading".
        address: 0 where the reader may not know; taints: letters such as "OE", "" for none.
    """

    __module__ = "fastproc.procfs"

    name: str
    size: int
    references: int
    used_by: tuple[str, ...]
    state: str
    address: int
    taints: str


def _module(line: bytes) -> Module:
    words = line.split()
    if len(words) not in (6, 7):
        raise ValueError(f"{len(words)} fields and not 6 or 7")
    name, size, references, users, state, address = words[:6]
    # "-" for a count: built without unloading. "[permanent]," stands among the users.
    used_by = () if users == b"-" else tuple(text(word) for word in users.split(b",") if word)
    count = -1 if references == b"-" else signed(references)
    taints = text(words[6].strip(b"()")) if len(words) == 7 else ""
    return Module(text(name), number(size), count, used_by, text(state), hex0x(address), taints)


def parse_modules(data: bytes) -> Rows[Module]:
    """Read /proc/modules.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """
    return rows(data, "modules", _module)


parse_modules.__module__ = "fastproc.procfs"


class Devices(Record):
    """What /proc/devices tells: names of drivers by their major number; several may share one.

    Attributes:
        character, block: (major, name) of each.
    """

    __module__ = "fastproc.procfs"

    character: tuple[tuple[int, str], ...]
    block: tuple[tuple[int, str], ...]


def parse_devices(data: bytes) -> Devices:
    """Read /proc/devices.

    Raises:
        ParseError: it is no such text.
    """
    found: dict[bytes, list[tuple[int, str]]] = {b"Character devices:": [], b"Block devices:": []}
    into: list[tuple[int, str]] | None = None
    for count, line in lines_of(data):
        if line in found:
            into = found[line]
            continue
        try:
            if into is None:
                raise ValueError("no heading before it")
            major, name = line.split(None, 1)
            into.append((number(major), text(name)))
        except BAD as error:
            raise blame("devices", count, error, line) from None
    character, block = found.values()
    return Devices(tuple(character), tuple(block))


parse_devices.__module__ = "fastproc.procfs"


class Controller(Record):
    """One line of /proc/cgroups (cgroups(7)).

    Attributes:
        name: of the controller; hierarchy: of v1, 0 for none or v2; cgroups: how many there are; enabled: or not.
    """

    __module__ = "fastproc.procfs"

    name: str
    hierarchy: int
    cgroups: int
    enabled: bool


def parse_cgroups(data: bytes) -> Rows[Controller]:
    """Read /proc/cgroups.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """

    def convert(line: bytes) -> Controller:
        name, hierarchy, count, enabled = line.split()
        return Controller(text(name), number(hierarchy), number(count), enabled == b"1")

    return rows(data, "cgroups", convert, skip=1)


parse_cgroups.__module__ = "fastproc.procfs"


def parse_filesystems(data: bytes) -> Table[bool]:
    """Read /proc/filesystems: each kind that the kernel knows, and whether it needs a block device.

    A line that is not as the kernel writes it is left out, and in `refused` with the reason.

    Raises:
        ParseError: it is no such text: no line is.
    """

    def convert(line: bytes) -> tuple[str, bool]:
        flag, tab, name = line.partition(b"\t")
        if not tab or flag not in (b"", b"nodev"):
            raise ValueError("neither nodev nor a tab")
        return text(name), not flag

    return table(rows(data, "filesystems", convert))


parse_filesystems.__module__ = "fastproc.procfs"


def parse_sysctl(data: bytes) -> int | tuple[int, ...] | str:
    """Read a file below /proc/sys: a number, several numbers between blanks, or a line of text."""
    words = data.split()
    try:
        values = tuple(map(signed, words))
    except ValueError:
        values = ()
    if values:
        return values[0] if len(values) == 1 else values
    return text(data[:-1] if data.endswith(b"\n") else data)


parse_sysctl.__module__ = "fastproc.procfs"
