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
"""Bytes of a sector in diskstats, independent of the device's sector size."""


class Disk(Record):
    """One line of /proc/diskstats (the kernel's Documentation/admin-guide/iostats.rst). Sectors have 512 bytes.

    Attributes:
        major, minor, name: the device.
        reads, writes: completed requests.
        reads_merged, writes_merged: requests merged with adjacent ones.
        sectors_read, sectors_written: sectors of 512 bytes.
        read_ms, write_ms: milliseconds that all requests took, summed.
        in_flight: requests in progress now.
        io_ms: milliseconds with at least one request in progress.
        weighted_ms: milliseconds, summed over the requests in progress.
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
    # Device names have no spaces unless a driver has a bug. "!" replaces "/" (cciss!c0d0).
    words = line.split()
    if len(words) < 14:
        raise ValueError(f"{len(words)} fields and not 14")
    count = 14 if len(words) < 18 else 18 if len(words) < 20 else 20
    # Old kernels sometimes show a negative in_flight.
    return Disk(number(words[0]), number(words[1]), text(words[2]), *map(signed, words[3:count]))


def parse_diskstats(data: bytes) -> Rows[Disk]:
    """Parse /proc/diskstats.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    return rows(data, "diskstats", _disk)


parse_diskstats.__module__ = "fastproc.procfs"


class Partition(Record):
    """One line of /proc/partitions.

    Attributes:
        major, minor, name: the device.
        size: bytes.
    """

    __module__ = "fastproc.procfs"

    major: int
    minor: int
    name: str
    size: int


def parse_partitions(data: bytes) -> Rows[Partition]:
    """Parse /proc/partitions.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> Partition:
        major, minor, blocks, name = line.split(None, 3)
        return Partition(number(major), number(minor), text(name), number(blocks) * 1024)

    return rows(data, "partitions", convert, skip=1)


parse_partitions.__module__ = "fastproc.procfs"


class Cpu(Record):
    """One CPU of /proc/cpuinfo. The fields differ between architectures.

    Attributes:
        number: as in /proc/stat.
        model: "model name" (x86, 32-bit ARM) or "uarch" (RISC-V); "" if there is none.
        mhz: current frequency (x86), or None.
        package, core: "physical id" and "core id" (x86), or None.
        flags: "flags" (x86), "Features" (ARM) or "isa" as one word (RISC-V).
        fields: all lines, by key.
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
    """The content of /proc/cpuinfo.

    Attributes:
        cpus: each online CPU.
        fields: lines that belong to no CPU, such as "Hardware", "Revision", "Serial" on ARM, by key.
    """

    __module__ = "fastproc.procfs"

    cpus: tuple[Cpu, ...]
    fields: dict[str, str]


def _cpu(fields: dict[str, str]) -> Cpu:
    def integer(key: str) -> int | None:
        return signed(raw(fields[key])) if key in fields else None

    mhz = fields.get("cpu MHz")
    # "Unknown" for an idle CPU that must not be woken (6.11).
    megahertz = None if mhz is None or mhz.lower() == "unknown" else real(raw(mhz))
    flags = fields.get("flags", fields.get("Features", fields.get("isa", "")))
    model = fields.get("model name", fields.get("uarch", fields.get("cpu model", "")))
    count = number(raw(fields["processor"]))
    return Cpu(count, model, megahertz, integer("physical id"), integer("core id"), tuple(flags.split()), fields)


def parse_cpuinfo(data: bytes) -> Cpuinfo:
    """Parse /proc/cpuinfo of x86, arm, arm64 or riscv.

    Raises:
        ParseError: the data do not have the format of this file.
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
        # On 32-bit ARM before 3.8 the first line is "Processor"; each CPU has a "processor" with a number.
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
        name: name of the module.
        size: bytes.
        references: number of uses, -1 if the module cannot be unloaded.
        used_by: names of modules that need this module.
        state: "Live", "Loading", "Unloading".
        address: 0 if the reader may not know it.
        taints: letters such as "OE", "" for none.
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
    # The count is "-" if the kernel was built without unloading. "[permanent]," may be one of the users.
    used_by = () if users == b"-" else tuple(text(word) for word in users.split(b",") if word)
    count = -1 if references == b"-" else signed(references)
    taints = text(words[6].strip(b"()")) if len(words) == 7 else ""
    return Module(text(name), number(size), count, used_by, text(state), hex0x(address), taints)


def parse_modules(data: bytes) -> Rows[Module]:
    """Parse /proc/modules.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """
    return rows(data, "modules", _module)


parse_modules.__module__ = "fastproc.procfs"


class Devices(Record):
    """The content of /proc/devices: names of drivers by major number. Several drivers may share a number.

    Attributes:
        character, block: (major, name) of each driver.
    """

    __module__ = "fastproc.procfs"

    character: tuple[tuple[int, str], ...]
    block: tuple[tuple[int, str], ...]


def parse_devices(data: bytes) -> Devices:
    """Parse /proc/devices.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    found: dict[bytes, list[tuple[int, str]]] = {b"Character devices:": [], b"Block devices:": []}
    into: list[tuple[int, str]] | None = None
    for count, line in lines_of(data):
        if line in found:
            into = found[line]
            continue
        try:
            if into is None:
                raise ValueError("no heading before this line")
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
        name: name of the controller.
        hierarchy: v1 hierarchy, 0 for none or v2.
        cgroups: number of cgroups.
        enabled: whether the controller is enabled.
    """

    __module__ = "fastproc.procfs"

    name: str
    hierarchy: int
    cgroups: int
    enabled: bool


def parse_cgroups(data: bytes) -> Rows[Controller]:
    """Parse /proc/cgroups.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> Controller:
        name, hierarchy, count, enabled = line.split()
        return Controller(text(name), number(hierarchy), number(count), enabled == b"1")

    return rows(data, "cgroups", convert, skip=1)


parse_cgroups.__module__ = "fastproc.procfs"


def parse_filesystems(data: bytes) -> Table[bool]:
    """Parse /proc/filesystems: each known file system type, and whether it needs a block device.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> tuple[str, bool]:
        flag, tab, name = line.partition(b"\t")
        if not tab or flag not in (b"", b"nodev"):
            raise ValueError("neither nodev nor a tab")
        return text(name), not flag

    return table(rows(data, "filesystems", convert))


parse_filesystems.__module__ = "fastproc.procfs"


def parse_sysctl(data: bytes) -> int | tuple[int, ...] | str:
    """Parse a file below /proc/sys: a number, several numbers separated by spaces, or a line of text."""
    words = data.split()
    try:
        values = tuple(map(signed, words))
    except ValueError:
        values = ()
    if values:
        return values[0] if len(values) == 1 else values
    return text(data[:-1] if data.endswith(b"\n") else data)


parse_sysctl.__module__ = "fastproc.procfs"
