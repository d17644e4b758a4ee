"""`System`: the machine and its processes, read repeatedly, with the changes between two reads.

Values that are not about processes come from psutil, which is imported here only.
"""

from __future__ import annotations

import os
import platform
from typing import NamedTuple

import psutil

from fastproc import procfs
from fastproc._engine.reactor import booted_at, deadline_from, since_boot
from fastproc.errors import Unsupported
from fastproc.info._cgroups import CgroupUse, cgroup_use, is_own_lack, pressure
from fastproc.info._fields import DEFAULT
from fastproc.info._reading import snapshot
from fastproc.procfs import parse_diskstats, parse_uptime
from fastproc.procfs._absent import ERROR, Absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    T = TypeVar("T")

    from fastproc.info._snapshot import Snapshot
    from fastproc.procfs import Pressure

KINDS = ("processes", "cpu", "disks", "networks")
"""The arguments of `System.refresh()`."""


class CpuUse(NamedTuple):
    """The use of a CPU, or of all CPUs, between two reads, in percent of the time.

    `busy` is everything except idle and iowait, as in psutil. `user` includes guest, and `nice` includes guest_nice.
    """

    busy: float
    user: float
    nice: float
    system: float
    idle: float
    iowait: float
    irq: float
    softirq: float
    steal: float


CpuUse.__module__ = "fastproc.info"


class Disk(NamedTuple):
    """A mounted file system. Sizes are in bytes; None if statvfs(3) failed."""

    device: str
    mountpoint: str
    fstype: str
    options: str
    total: int | None
    used: int | None
    free: int | None


Disk.__module__ = "fastproc.info"


class DiskIo(NamedTuple):
    """The I/O of a disk: totals since boot, and rates per second since the previous read; rates are None at first."""

    read_bytes: int
    write_bytes: int
    read_count: int
    write_count: int
    read_bytes_per_s: float | None
    write_bytes_per_s: float | None
    reads_per_s: float | None
    writes_per_s: float | None


DiskIo.__module__ = "fastproc.info"


class Network(NamedTuple):
    """A network interface: totals since boot, rates per second since the previous read, and its state.

    Attributes:
        addresses: addresses of psutil: family, address, netmask, broadcast, ptp.
        up: whether the interface is up.
        speed: Mbit/s; 0 if unknown.
        mtu: bytes.
    """

    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    errors: int
    dropped: int
    sent_per_s: float | None
    received_per_s: float | None
    addresses: tuple[Any, ...]
    up: bool | None
    speed: int | None
    mtu: int | None


Network.__module__ = "fastproc.info"


class System:
    """The machine and its processes.

    Nothing is read before the first `refresh()`. It reads the values that are compared with an earlier read. All other
    values, such as `memory`, `pressure` and `users`, are read when the attribute is accessed.

    Attributes:
        processes: the last snapshot; from the second read on with cpu_percent and the rates of all counters.
        cpu, cpus: the use of all CPUs together, and of each CPU; None before the second read. A read within 50 ms after
            the previous read does not change them.
        absent: for values that could not be read at the last access, such as "disks" or "memory", the reason: a file is
            missing, as in a proc file system mounted with subset=pid, or malformed. The value itself then is unchanged
            ("cpu", "networks"), empty, None or Absent.
    """

    __module__ = "fastproc"

    def __init__(self, fields: Iterable[str] = DEFAULT, root: str = "/proc") -> None:
        """Choose the fields of the processes, and the proc file system. pid, starttime, utime and stime are added.

        Raises:
            TypeError, ValueError: there is no such field. Raised by the first refresh().
        """
        self._fields = tuple(dict.fromkeys((*fields, "pid", "starttime", "utime", "stime")))
        self._root = root
        self._raw: Snapshot | None = None
        self._processes: Snapshot | None = None
        self._times: list[Any] = []
        self.cpu: CpuUse | None = None
        self.cpus: list[CpuUse] | None = None
        self._disks: tuple[float, dict[str, Any]] = (0.0, {})
        self._disk_io: dict[str, DiskIo] = {}
        self._nets: tuple[float, dict[str, Any]] = (0.0, {})
        self._networks: dict[str, Network] = {}
        self.absent: dict[str, Absent] = {}

    def refresh(self, *kinds: str) -> System:
        """Read again; return this System.

        Args:
            kinds: any of "processes", "cpu", "disks" and "networks". Default: all.

        Raises:
            ValueError: there is no such kind.
            Unsupported, OSError: as for `snapshot()`.
        """
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"kinds: {unknown[0]!r} is none of {', '.join(KINDS)}")
        failed: Exception | None = None
        for kind in kinds or KINDS:
            try:
                getattr(self, f"_refresh_{kind}")()
            except (Unsupported, *_ODD) as error:
                if kind == "processes":
                    # Read the other kinds before this is raised.
                    failed = error
                else:
                    self._miss(kind, error)
            else:
                self.absent.pop(kind, None)
        if failed is not None:
            raise failed
        return self

    def _miss(self, name: str, error: Exception) -> Absent:
        """Store why a value cannot be read.

        Raises:
            OSError: this process lacks descriptors or memory.
        """
        if isinstance(error, OSError) and is_own_lack(error):
            raise error
        # The message of a parse error needs the name of its class.
        text = str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        found = self.absent[name] = Absent(ERROR, text)
        return found

    def _ask(self, name: str, call: Callable[[], T]) -> T | Absent:
        try:
            value = call()
        except _ODD as error:
            return self._miss(name, error)
        self.absent.pop(name, None)
        return value

    def _or(self, name: str, call: Callable[[], T], default: T) -> T:
        found = self._ask(name, call)
        return default if isinstance(found, Absent) else found

    @property
    def processes(self) -> Snapshot:
        """The last snapshot, with rates from the second on.

        Raises:
            RuntimeError: refresh() has not read the processes yet.
        """
        if self._processes is None:
            raise RuntimeError("call refresh() first, which reads the processes")
        return self._processes

    def _refresh_processes(self) -> None:
        earlier, self._raw = self._raw, snapshot(self._fields, None, self._root)
        self._processes = self._raw if earlier is None else self._raw.rates(earlier)

    def _refresh_cpu(self) -> None:
        earlier, times = self._times, psutil.cpu_times(percpu=True)
        # Over a few ticks the shares are noise, and over none they are zero: keep the previous values as the base.
        if len(earlier) == len(times) and _elapsed(earlier, times) < SHORTEST * len(times):
            return
        self._times = times
        if not earlier:
            return
        # If a CPU went online or offline, the positions do not match.
        if len(earlier) == len(self._times):
            self.cpus = [_use([then], [now]) for then, now in zip(earlier, self._times, strict=True)]
            self.cpu = _use(earlier, self._times)

    def _refresh_disks(self) -> None:
        then, before = self._disks
        try:
            now, counters = _now(), psutil.disk_io_counters(perdisk=True, nowrap=True)
        except _ODD as error:
            # psutil parses all lines or none. lxcfs writes some lines with more or fewer columns.
            now, counters = _now(), self._read_disks(error)
        self._disks = (now, counters)
        self._disk_io = {}
        for name, one in counters.items():
            names = ("read_bytes", "write_bytes", "read_count", "write_count")
            totals = [getattr(one, field) for field in names]
            self._disk_io[name] = DiskIo(*totals, *_per_second(before.get(name), one, names, now - then))

    def _read_disks(self, error: Exception) -> dict[str, Any]:
        with open(os.path.join(psutil.PROCFS_PATH, "diskstats"), "rb") as file:
            lines = parse_diskstats(file.read())
        found = {one.name: _Counters.of(one) for one in lines}
        if not found:
            raise error
        return found

    def _refresh_networks(self) -> None:
        then, before = self._nets
        now, counters = _now(), psutil.net_io_counters(pernic=True, nowrap=True)
        self._nets = (now, counters)
        addresses, states = psutil.net_if_addrs(), psutil.net_if_stats()
        self._networks = {}
        for name, one in counters.items():
            sent, received = _per_second(before.get(name), one, ("bytes_sent", "bytes_recv"), now - then)
            state = states.get(name)
            self._networks[name] = Network(
                one.bytes_sent,
                one.bytes_recv,
                one.packets_sent,
                one.packets_recv,
                one.errin + one.errout,
                one.dropin + one.dropout,
                sent,
                received,
                tuple(addresses.get(name, ())),
                state.isup if state else None,
                state.speed if state else None,
                state.mtu if state else None,
            )

    @property
    def disk_io(self) -> dict[str, DiskIo]:
        """The I/O of each device, such as "sda1"; empty before the first read."""
        return self._disk_io

    @property
    def networks(self) -> dict[str, Network]:
        """The network interfaces by name; empty before the first read."""
        return self._networks

    # -- values that are read at access

    @property
    def memory(self) -> Any:
        """psutil.virtual_memory(): total, available, used, free, buffers, cached, shared, ... in bytes; percent."""
        return self._ask("memory", psutil.virtual_memory)

    @property
    def swap(self) -> Any:
        """psutil.swap_memory(): total, used, free in bytes; percent; sin and sout in bytes since boot."""
        return self._ask("swap", psutil.swap_memory)

    @property
    def load(self) -> tuple[float, float, float] | Absent:
        """The load averages over 1, 5 and 15 minutes: the number of runnable and uninterruptible tasks."""
        return self._ask("load", os.getloadavg)

    @property
    def uptime(self) -> float:
        """Seconds since boot, including suspend; from CLOCK_BOOTTIME if /proc/uptime cannot be read."""
        try:
            with open(os.path.join(self._root, "uptime"), "rb") as file:
                return parse_uptime(file.read()).up
        except _ODD as error:
            self._miss("uptime", error)
        return since_boot()

    @property
    def boot_time(self) -> float:
        """The time of the boot in seconds since 1970; from the clocks if /proc/stat cannot be read."""
        found = self._ask("boot_time", psutil.boot_time)
        return booted_at() if isinstance(found, Absent) else found

    @property
    def users(self) -> list[Any]:
        """psutil.users(): the logged-in users, with terminal, host and login time."""
        return self._or("users", psutil.users, [])

    @property
    def pressure(self) -> dict[str, Pressure]:
        """The pressure of "cpu", "memory", "io" (and "irq"): time lost by waiting; empty if the kernel has no PSI."""
        return pressure(self._root)

    def cgroup(self, pid: int | None = None) -> CgroupUse:
        """Return limits and use of the cgroups of a process. Default: this process.

        Raises:
            ProcessLookupError: the process does not exist.
        """
        return cgroup_use(pid, self._root)

    @property
    def disks(self) -> list[Disk]:
        """The mounted file systems that are on devices."""
        found = []
        parts = self._ask("disks", psutil.disk_partitions)
        for part in () if isinstance(parts, Absent) else parts:
            try:
                use = psutil.disk_usage(part.mountpoint)
                sizes: tuple[int | None, ...] = (use.total, use.used, use.free)
            except OSError:
                sizes = (None, None, None)
            found.append(Disk(part.device, part.mountpoint, part.fstype, part.opts, *sizes))
        return found

    @property
    def temperatures(self) -> dict[str, list[Any]]:
        """psutil.sensors_temperatures(): degrees Celsius by chip; empty without sensors."""
        return self._or("temperatures", getattr(psutil, "sensors_temperatures", dict), {})

    @property
    def fans(self) -> dict[str, list[Any]]:
        """psutil.sensors_fans(): revolutions per minute by chip."""
        return self._or("fans", getattr(psutil, "sensors_fans", dict), {})

    @property
    def battery(self) -> Any:
        """psutil.sensors_battery(): percent, secsleft, power_plugged; None without a battery."""
        return self._or("battery", getattr(psutil, "sensors_battery", lambda: None), None)

    @property
    def cpu_count(self) -> int:
        """The number of online logical CPUs."""
        return self._or("cpu_count", psutil.cpu_count, None) or os.cpu_count() or 1

    @property
    def core_count(self) -> int | None:
        """The number of physical cores; None if the kernel does not report it."""
        return self._or("core_count", lambda: psutil.cpu_count(logical=False), None)

    @property
    def cpu_frequency(self) -> list[Any]:
        """psutil.cpu_freq(percpu=True): current, min and max MHz of each CPU; empty if it is not reported."""
        return self._or("cpu_frequency", lambda: psutil.cpu_freq(percpu=True), None) or []

    @property
    def hostname(self) -> str:
        """The host name of this UTS namespace."""
        return os.uname().nodename

    @property
    def kernel(self) -> str:
        """The release of the kernel, such as "6.18.44"."""
        return os.uname().release

    @property
    def distribution(self) -> dict[str, str]:
        """os-release(5): ID, NAME, VERSION_ID and so on; empty if the file is missing."""
        try:
            return platform.freedesktop_os_release()
        except OSError:
            return {}


_ODD = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    psutil.Error,
)
"""Exceptions of psutil for a file that is missing, empty or malformed."""


class _Counters(NamedTuple):
    """The counters of a disk, with psutil's names."""

    read_count: int
    write_count: int
    read_bytes: int
    write_bytes: int

    @classmethod
    def of(cls, one: procfs.Disk) -> _Counters:
        return cls(one.reads, one.writes, one.sectors_read * 512, one.sectors_written * 512)


SHORTEST = 0.05
"""Seconds for each CPU: five ticks of the kernel's counters."""


def _now() -> float:
    return deadline_from("now", 0.0) or 0.0


def _per_second(before: Any, now: Any, names: tuple[str, ...], elapsed: float) -> list[float | None]:
    if before is None or elapsed <= 0:
        return [None] * len(names)
    return [max(getattr(now, name) - getattr(before, name), 0) / elapsed for name in names]


def _elapsed(earlier: list[Any], later: list[Any]) -> float:
    """Return the CPU time of all CPUs between two reads, without ticks that the kernel did not count (of idle CPUs)."""
    pairs = zip(earlier, later, strict=True)
    # A counter that has decreased must not reduce the sum.
    return float(sum(max(new - old, 0.0) for then, now in pairs for old, new in zip(then[:8], now[:8], strict=True)))


def _use(earlier: list[Any], later: list[Any]) -> CpuUse:
    """Return the use of several CPUs together, in percent. Old kernels and other systems have fewer counters."""

    def spent(name: str) -> float:
        pairs = zip(earlier, later, strict=True)
        # iowait may decrease (proc_stat(5)).
        return sum(max(getattr(now, name, 0.0) - getattr(then, name, 0.0), 0.0) for then, now in pairs)

    parts = [spent(name) for name in CpuUse._fields[1:]]
    total = sum(parts)
    if total <= 0:
        return CpuUse(*[0.0] * len(CpuUse._fields))
    shares = [part / total * 100 for part in parts]
    idle = CpuUse._fields.index("idle") - 1
    return CpuUse(100 - shares[idle] - shares[idle + 1], *shares)
