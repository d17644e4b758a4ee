"""/proc/stat, meminfo, loadavg, uptime, vmstat, pressure: the whole machine. Pure."""

from __future__ import annotations

from fastproc.procfs._absent import ERROR, NOT_IN_KERNEL, Absent, since
from fastproc.procfs._record import Record
from fastproc.procfs._text import (
    BAD,
    ParseError,
    Table,
    blame,
    fill,
    keyed,
    kib,
    lines_of,
    number,
    only,
    real,
    rows,
    signed,
    table,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class CpuTimes(Record):
    """CPU times since boot, in clock ticks (sysconf(_SC_CLK_TCK), usually hundredths of a second).

    Attributes:
        user: in user mode, including guest.
        nice: in user mode, processes with a nice value, including guest_nice.
        system: in kernel mode.
        idle: idle.
        iowait: idle while waiting for a disk (unreliable, proc_stat(5)).
        irq, softirq: handling interrupts and softirqs.
        steal: taken by the hypervisor.
        guest, guest_nice: running virtual CPUs.
    """

    __module__ = "fastproc.procfs"

    user: int
    nice: int
    system: int
    idle: int
    iowait: int
    irq: int
    softirq: int
    steal: int
    guest: int
    guest_nice: int

    @property
    def total(self) -> int:
        """All ticks, each counted once."""
        return self.user + self.nice + self.system + self.idle + self.iowait + self.irq + self.softirq + self.steal


class KernelStat(Record):
    """The content of /proc/stat (proc_stat(5)). A line that is missing or cannot be read is Absent.

    Attributes:
        cpu: times of all CPUs together.
        cpus: times of each online CPU, by number.
        interrupts: number of interrupts.
        by_interrupt: number of interrupts, by interrupt number.
        context_switches: number of context switches.
        boot_time: time of boot, in seconds since 1970.
        forks: number of processes and threads created.
        running: number of runnable threads.
        blocked: number of threads that wait for a disk.
        softirqs: number of softirqs.
        by_softirq: number of softirqs of each kind, in the order of /proc/softirqs.
        others: unknown lines, by key.
        refused: for each line that could not be read, the reason; a CPU with such a line is not in `cpus`.
    """

    __module__ = "fastproc.procfs"

    cpu: CpuTimes | Absent
    cpus: dict[int, CpuTimes]
    interrupts: int | Absent
    by_interrupt: tuple[int, ...] | Absent
    context_switches: int | Absent
    boot_time: int | Absent
    forks: int | Absent
    running: int | Absent
    blocked: int | Absent
    softirqs: int | Absent
    by_softirq: tuple[int, ...] | Absent
    others: dict[str, str]
    refused: tuple[str, ...] = ()


def _cpu_times(rest: bytes) -> CpuTimes:
    words = rest.split()
    if len(words) < 10:
        raise ValueError(f"{len(words)} numbers and not 10")
    # A number may be negative: the counters of idle and iowait sometimes decrease.
    return CpuTimes(*map(signed, words[:10]))


_ONE = {
    b"ctxt": "context_switches",
    b"btime": "boot_time",
    b"processes": "forks",
    b"procs_running": "running",
    b"procs_blocked": "blocked",
}


def parse_kernel_stat(data: bytes) -> KernelStat:
    """Parse /proc/stat.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    values: dict[str, Any] = {"cpus": {}, "others": {}}
    refused: list[ParseError] = []
    for count, line in lines_of(data):
        key, _, rest = line.partition(b" ")
        try:
            if key == b"cpu":
                values["cpu"] = _cpu_times(rest)
            elif key.startswith(b"cpu"):
                values["cpus"][number(key[3:])] = _cpu_times(rest)
            elif key in (b"intr", b"softirq"):
                total, *each = map(number, rest.split())
                values["interrupts" if key == b"intr" else "softirqs"] = total
                values["by_interrupt" if key == b"intr" else "by_softirq"] = tuple(each)
            elif key in _ONE:
                values[_ONE[key]] = number(rest.strip())
            else:
                values["others"][text(key)] = text(rest)
        except BAD as error:
            refused.append(blame("stat", count, error, line))
            name = {b"cpu": "cpu", b"intr": "interrupts", b"softirq": "softirqs"}.get(key) or _ONE.get(key)
            for one in (name, {"interrupts": "by_interrupt", "softirqs": "by_softirq"}.get(name or "")):
                if one is not None:
                    values[one] = Absent(ERROR, str(refused[-1]))
    told = [name for name in KernelStat._fields if name not in ("cpus", "others", "refused")]
    if refused and not values["cpus"] and not any(values.get(name) for name in told):
        raise refused[0]
    fill(values, "stat", *told)
    return KernelStat(**values, refused=tuple(map(str, refused)))


parse_kernel_stat.__module__ = "fastproc.procfs"


class Meminfo(Record):
    """The content of /proc/meminfo (proc_meminfo(5)), in bytes except for the four counts of huge pages.

    Attributes:
        mem_total, mem_free, mem_available: main memory; mem_available is the memory that can be used without swapping.
        buffers, cached: cache of block devices and of files.
        swap_cached: in memory and also in swap.
        active, inactive, active_anon, inactive_anon, active_file, inactive_file: used recently, or not.
        unevictable, mlocked: memory that cannot be reclaimed.
        swap_total, swap_free: swap space.
        zswap, zswapped: compressed memory, and its uncompressed size (5.19).
        dirty, writeback: waiting to be written, being written.
        anon_pages, mapped, shmem: anonymous memory, mapped files, shared memory and tmpfs.
        kreclaimable: kernel memory that can be reclaimed (4.20).
        slab, sreclaimable, sunreclaim: kernel objects: all, reclaimable, not reclaimable.
        kernel_stack, page_tables, sec_page_tables (6.1), percpu (4.21): other kernel memory.
        commit_limit, committed_as: overcommit limit, and committed memory.
        vmalloc_total, vmalloc_used, vmalloc_chunk: address space of vmalloc.
        anon_huge_pages, shmem_huge_pages, shmem_pmd_mapped, file_huge_pages, file_pmd_mapped (5.4): memory in huge
            pages.
        huge_pages_total, huge_pages_free, huge_pages_rsvd, huge_pages_surp: number of hugetlbfs pages of the default
            size.
        hugepagesize: default size of a hugetlbfs page.
        hugetlb: hugetlbfs memory of all page sizes (4.16).
        others: unknown sizes, by key, as text.
    """

    __module__ = "fastproc.procfs"

    mem_total: int | Absent
    mem_free: int | Absent
    buffers: int | Absent
    cached: int | Absent
    others: dict[str, str]
    mem_available: int | Absent = Absent(NOT_IN_KERNEL)
    swap_cached: int | Absent = Absent(NOT_IN_KERNEL, "built without swap")
    active: int | Absent = Absent(NOT_IN_KERNEL)
    inactive: int | Absent = Absent(NOT_IN_KERNEL)
    active_anon: int | Absent = Absent(NOT_IN_KERNEL)
    inactive_anon: int | Absent = Absent(NOT_IN_KERNEL)
    active_file: int | Absent = Absent(NOT_IN_KERNEL)
    inactive_file: int | Absent = Absent(NOT_IN_KERNEL)
    unevictable: int | Absent = Absent(NOT_IN_KERNEL)
    mlocked: int | Absent = Absent(NOT_IN_KERNEL)
    swap_total: int | Absent = Absent(NOT_IN_KERNEL)
    swap_free: int | Absent = Absent(NOT_IN_KERNEL)
    zswap: int | Absent = since("5.19")
    zswapped: int | Absent = since("5.19")
    dirty: int | Absent = Absent(NOT_IN_KERNEL)
    writeback: int | Absent = Absent(NOT_IN_KERNEL)
    anon_pages: int | Absent = Absent(NOT_IN_KERNEL)
    mapped: int | Absent = Absent(NOT_IN_KERNEL)
    shmem: int | Absent = Absent(NOT_IN_KERNEL)
    kreclaimable: int | Absent = since("4.20")
    slab: int | Absent = Absent(NOT_IN_KERNEL)
    sreclaimable: int | Absent = Absent(NOT_IN_KERNEL)
    sunreclaim: int | Absent = Absent(NOT_IN_KERNEL)
    kernel_stack: int | Absent = Absent(NOT_IN_KERNEL)
    page_tables: int | Absent = Absent(NOT_IN_KERNEL)
    sec_page_tables: int | Absent = since("6.1")
    percpu: int | Absent = since("4.21")
    commit_limit: int | Absent = Absent(NOT_IN_KERNEL)
    committed_as: int | Absent = Absent(NOT_IN_KERNEL)
    vmalloc_total: int | Absent = Absent(NOT_IN_KERNEL)
    vmalloc_used: int | Absent = Absent(NOT_IN_KERNEL)
    vmalloc_chunk: int | Absent = Absent(NOT_IN_KERNEL)
    anon_huge_pages: int | Absent = Absent(NOT_IN_KERNEL, "built without transparent large pages")
    shmem_huge_pages: int | Absent = Absent(NOT_IN_KERNEL, "built without transparent large pages")
    shmem_pmd_mapped: int | Absent = Absent(NOT_IN_KERNEL, "built without transparent large pages")
    file_huge_pages: int | Absent = since("5.4")
    file_pmd_mapped: int | Absent = since("5.4")
    huge_pages_total: int | Absent = Absent(NOT_IN_KERNEL, "built without hugetlbfs")
    huge_pages_free: int | Absent = Absent(NOT_IN_KERNEL, "built without hugetlbfs")
    huge_pages_rsvd: int | Absent = Absent(NOT_IN_KERNEL, "built without hugetlbfs")
    huge_pages_surp: int | Absent = Absent(NOT_IN_KERNEL, "built without hugetlbfs")
    hugepagesize: int | Absent = Absent(NOT_IN_KERNEL, "built without hugetlbfs")
    hugetlb: int | Absent = Absent(NOT_IN_KERNEL, "built without hugetlbfs")


# The fields by the kernel's keys in lower case, without underscores and parentheses.
_KEYS = {"".join(name.split("_")): name for name in Meminfo._fields if name != "others"}


def _meminfo_key(key: bytes) -> str | None:
    return _KEYS.get(key.decode("ascii", "replace").lower().replace("_", "").replace("(", "").replace(")", ""))


def parse_meminfo(data: bytes) -> Meminfo:
    """Parse /proc/meminfo.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    lines = lines_of(data)
    table: dict[bytes, tuple[str, Callable[[bytes], object]]] = {}
    for _, line in lines:
        key = line.partition(b":")[0]
        name = _meminfo_key(key)
        if name is not None:
            table[key] = name, number if name.startswith("huge_pages_") else kib
    values, others = keyed(lines, "meminfo", table)
    fill(values, "meminfo", "mem_total", "mem_free", "buffers", "cached")
    return Meminfo(**values, others=others)


parse_meminfo.__module__ = "fastproc.procfs"


class Loadavg(Record):
    """The content of /proc/loadavg (proc_loadavg(5)).

    Attributes:
        one, five, fifteen: average number of threads that run or wait for a disk, over 1, 5 and 15 minutes.
        running, threads: number of runnable threads, and of all threads.
        last_pid: pid given to the last new process in this PID namespace.
    """

    __module__ = "fastproc.procfs"

    one: float
    five: float
    fifteen: float
    running: int
    threads: int
    last_pid: int


def parse_loadavg(data: bytes) -> Loadavg:
    """Parse /proc/loadavg.

    Raises:
        ParseError: the data do not have the format of this file.
    """

    def convert(line: bytes) -> Loadavg:
        one, five, fifteen, threads, last = line.split()
        running, there = threads.split(b"/")
        return Loadavg(real(one), real(five), real(fifteen), number(running), number(there), number(last))

    return only(data, "loadavg", convert)


parse_loadavg.__module__ = "fastproc.procfs"


class Uptime(Record):
    """The content of /proc/uptime, in seconds.

    Attributes:
        up: time since boot, including suspended time.
        idle: idle time of all CPUs together.
    """

    __module__ = "fastproc.procfs"

    up: float
    idle: float


def parse_uptime(data: bytes) -> Uptime:
    """Parse /proc/uptime.

    Raises:
        ParseError: the data do not have the format of this file.
    """

    def convert(line: bytes) -> Uptime:
        up, idle = line.split()
        # lxcfs may write a negative idle time, because it subtracts other times.
        return Uptime(real(up), -real(idle[1:]) if idle[:1] == b"-" else real(idle))

    return only(data, "uptime", convert)


parse_uptime.__module__ = "fastproc.procfs"


def parse_vmstat(data: bytes) -> Table[int]:
    """Parse /proc/vmstat, or another file with lines "name number": counts by the kernel's names.

    A line in another format is left out; `refused` has it, with the reason.

    Raises:
        ParseError: no line has the format of this file.
    """

    def convert(line: bytes) -> tuple[str, int]:
        name, value = line.split()
        return text(name), signed(value)

    return table(rows(data, "vmstat", convert))


parse_vmstat.__module__ = "fastproc.procfs"


class Stall(Record):
    """One line of a file of pressure stall information.

    Attributes:
        avg10, avg60, avg300: percent of the last 10, 60 and 300 seconds.
        total_us: microseconds since boot.
    """

    __module__ = "fastproc.procfs"

    avg10: float
    avg60: float
    avg300: float
    total_us: int


class Pressure(Record):
    """Pressure stall information: time lost by waiting for a resource (/proc/pressure, Linux 4.20, or a cgroup).

    Attributes:
        some: time in which at least one task waited; absent for irq.
        full: time in which all tasks waited; absent for cpu before 5.13.
    """

    __module__ = "fastproc.procfs"

    some: Stall | Absent
    full: Stall | Absent


def _stall(line: bytes) -> tuple[str, Stall]:
    kind, *words = line.split()
    if kind not in (b"some", b"full"):
        raise ValueError(f"{kind[:40]!r} is neither some nor full")
    pairs = dict(word.split(b"=", 1) for word in words if b"=" in word)
    avg10, avg60, avg300 = (real(pairs[key]) for key in (b"avg10", b"avg60", b"avg300"))
    return kind.decode(), Stall(avg10, avg60, avg300, number(pairs[b"total"]))


def parse_pressure(data: bytes) -> Pressure:
    """Parse /proc/pressure/cpu, memory, io or irq.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    found = dict(rows(data, "pressure", _stall))
    if not found:
        raise ParseError("pressure", 1, "neither some nor full")
    return Pressure(found.get("some", Absent(NOT_IN_KERNEL, "irq has none")), found.get("full", since("5.13")))


parse_pressure.__module__ = "fastproc.procfs"
