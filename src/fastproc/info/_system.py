"""`System`: the machine and its processes, looked at again and again, with what changed between two looks.

What is not a process comes from psutil, which is imported here and not before.
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
"""What `System.refresh()` can read again."""


class CpuUse(NamedTuple):
    """How a CPU, or all of them, spent the time between two looks: per cent of it.

    `busy` is all but idle and iowait, as psutil has it; user has guest in it, and nice guest_nice.
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
    """A mounted file system: sizes in bytes; None where it cannot be asked."""

    device: str
    mountpoint: str
    fstype: str
    options: str
    total: int | None
    used: int | None
    free: int | None


Disk.__module__ = "fastproc.info"


class DiskIo(NamedTuple):
    """What a disk has done since the boot, and by the second since the look before; None at the first one."""

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
    """A network interface: counters since the boot, by the second since the look before, and its state.

    Attributes:
        addresses: psutil's: family, address, netmask, broadcast, ptp.
        up: whether it is; speed: Mbit/s, 0 for unknown; mtu: bytes.
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

    Nothing is read before the first `refresh()`, which reads what has to be compared with an earlier look. All else is
    asked for when it is named: `memory`, `pressure`, `users` and so on are always those of now.

    Attributes:
        processes: the last snapshot; from the second look on with cpu_percent and the rates of each counter.
        cpu, cpus: use of all CPUs together, and of each; None before the second look. A look that comes within 50 ms of
            the one before leaves them as they are.
        absent: what could not be read when it was asked for last, as "disks" or "memory", and why: a file that is
            missing, as in a proc file system mounted with subset=pid, or not as the kernel writes it. What that is
            stays as it was ("cpu", "networks"), or is empty, None or Absent.
    """

    __module__ = "fastproc"

    def __init__(self, fields: Iterable[str] = DEFAULT, root: str = "/proc") -> None:
        """Choose what is read of each process, and where; pid, starttime, utime and stime are always read.

        Raises:
            TypeError, ValueError: there is no such field (at the first refresh).
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
        """Look again; return this System.

        Args:
            kinds: of "processes", "cpu", "disks", "networks", those to be read; all when none is named.

        Raises:
            ValueError: there is no such kind.
            Unsupported, OSError: as `snapshot()`.
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
                    # The others do not need them.
                    failed = error
                else:
                    self._miss(kind, error)
            else:
                self.absent.pop(kind, None)
        if failed is not None:
            raise failed
        return self

    def _miss(self, name: str, error: Exception) -> Absent:
        """Remember why something cannot be read.

        Raises:
            OSError: it is our own lack of descriptors or memory.
        """
        if isinstance(error, OSError) and is_own_lack(error):
            raise error
        # What the reading of a file stumbles over says little without its kind.
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
        """The last snapshot, with rates from the second one on.

        Raises:
            RuntimeError: there was no refresh() of processes yet.
        """
        if self._processes is None:
            raise RuntimeError("refresh() reads the processes; it was not called yet")
        return self._processes

    def _refresh_processes(self) -> None:
        earlier, self._raw = self._raw, snapshot(self._fields, None, self._root)
        self._processes = self._raw if earlier is None else self._raw.rates(earlier)

    def _refresh_cpu(self) -> None:
        earlier, times = self._times, psutil.cpu_times(percpu=True)
        # Shares of less than a few ticks are noise, and zeros of none: the look before stays what is compared with.
        if len(earlier) == len(times) and _elapsed(earlier, times) < SHORTEST * len(times):
            return
        self._times = times
        if not earlier:
            return
        # A CPU that was switched on or off meanwhile changes what stands in which place.
        if len(earlier) == len(self._times):
            self.cpus = [_use([then], [now]) for then, now in zip(earlier, self._times, strict=True)]
            self.cpu = _use(earlier, self._times)

    def _refresh_disks(self) -> None:
        then, before = self._disks
        try:
            now, counters = _now(), psutil.disk_io_counters(perdisk=True, nowrap=True)
        except _ODD as error:
            # It takes all lines or none (lxcfs has some with more or fewer columns).
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
        """By the name of the device, such as "sda1"; empty before the first look."""
        return self._disk_io

    @property
    def networks(self) -> dict[str, Network]:
        """By the name of the interface; empty before the first look."""
        return self._networks

    # -- of now

    @property
    def memory(self) -> Any:
        """psutil.virtual_memory(): total, available, used, free, buffers, cached, shared, ... in bytes; percent."""
        return self._ask("memory", psutil.virtual_memory)

    @property
    def swap(self) -> Any:
        """psutil.swap_memory(): total, used, free in bytes, percent, sin and sout since the boot."""
        return self._ask("swap", psutil.swap_memory)

    @property
    def load(self) -> tuple[float, float, float] | Absent:
        """Runnable and uninterruptible tasks, averages over 1, 5 and 15 minutes."""
        return self._ask("load", os.getloadavg)

    @property
    def uptime(self) -> float:
        """Seconds since the boot, those asleep too; by the clock where the file does not tell."""
        try:
            with open(os.path.join(self._root, "uptime"), "rb") as file:
                return parse_uptime(file.read()).up
        except _ODD as error:
            self._miss("uptime", error)
        return since_boot()

    @property
    def boot_time(self) -> float:
        """When it was booted, seconds since 1970; by the clocks where /proc/stat does not tell."""
        found = self._ask("boot_time", psutil.boot_time)
        return booted_at() if isinstance(found, Absent) else found

    @property
    def users(self) -> list[Any]:
        """psutil.users(): who is logged in, where and since when."""
        return self._or("users", psutil.users, [])

    @property
    def pressure(self) -> dict[str, Pressure]:
        """How much time was lost waiting for "cpu", "memory", "io" (and "irq"); empty where the kernel has no PSI."""
        return pressure(self._root)

    def cgroup(self, pid: int | None = None) -> CgroupUse:
        """Limits and use of the cgroups of a process; of this one by default.

        Raises:
            ProcessLookupError: there is no such process.
        """
        return cgroup_use(pid, self._root)

    @property
    def disks(self) -> list[Disk]:
        """The mounted file systems that lie on devices."""
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
        """psutil.sensors_temperatures(): degrees Celsius by chip; empty where there are no sensors."""
        return self._or("temperatures", getattr(psutil, "sensors_temperatures", dict), {})

    @property
    def fans(self) -> dict[str, list[Any]]:
        """psutil.sensors_fans(): turns by the minute by chip."""
        return self._or("fans", getattr(psutil, "sensors_fans", dict), {})

    @property
    def battery(self) -> Any:
        """psutil.sensors_battery(): percent, secsleft, power_plugged; None where there is none."""
        return self._or("battery", getattr(psutil, "sensors_battery", lambda: None), None)

    @property
    def cpu_count(self) -> int:
        """CPUs that the kernel runs."""
        return self._or("cpu_count", psutil.cpu_count, None) or os.cpu_count() or 1

    @property
    def core_count(self) -> int | None:
        """Cores, without hyperthreads; None where the kernel does not tell."""
        return self._or("core_count", lambda: psutil.cpu_count(logical=False), None)

    @property
    def cpu_frequency(self) -> list[Any]:
        """psutil.cpu_freq(percpu=True): current, min and max MHz of each CPU; empty where it is not told."""
        return self._or("cpu_frequency", lambda: psutil.cpu_freq(percpu=True), None) or []

    @property
    def hostname(self) -> str:
        """The name of the machine, or of this UTS namespace."""
        return os.uname().nodename

    @property
    def kernel(self) -> str:
        """The kernel's release, such as "6.18.44"."""
        return os.uname().release

    @property
    def distribution(self) -> dict[str, str]:
        """os-release(5): ID, NAME, VERSION_ID and so on; empty where there is none."""
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
"""What psutil raises over a file that is missing, empty, or not as the kernel writes it."""


class _Counters(NamedTuple):
    """What of a disk is counted, by psutil's names."""

    read_count: int
    write_count: int
    read_bytes: int
    write_bytes: int

    @classmethod
    def of(cls, one: procfs.Disk) -> _Counters:
        return cls(one.reads, one.writes, one.sectors_read * 512, one.sectors_written * 512)


SHORTEST = 0.05
"""Seconds for each CPU: five steps of the kernel's counters."""


def _now() -> float:
    return deadline_from("now", 0.0) or 0.0


def _per_second(before: Any, now: Any, names: tuple[str, ...], elapsed: float) -> list[float | None]:
    if before is None or elapsed <= 0:
        return [None] * len(names)
    return [max(getattr(now, name) - getattr(before, name), 0) / elapsed for name in names]


def _elapsed(earlier: list[Any], later: list[Any]) -> float:
    """Seconds of CPU time between, of all CPUs; ticks that the kernel did not count, as of idle ones, are not in it."""
    pairs = zip(earlier, later, strict=True)
    # A counter that has gone back must not hold up those that have not.
    return float(sum(max(new - old, 0.0) for then, now in pairs for old, new in zip(then[:8], now[:8], strict=True)))


def _use(earlier: list[Any], later: list[Any]) -> CpuUse:
    """Per cent of the time between, of several CPUs together. Old kernels and other systems have fewer names."""

    def spent(name: str) -> float:
        pairs = zip(earlier, later, strict=True)
        # iowait may go back (proc_stat(5)).
        return sum(max(getattr(now, name, 0.0) - getattr(then, name, 0.0), 0.0) for then, now in pairs)

    parts = [spent(name) for name in CpuUse._fields[1:]]
    total = sum(parts)
    if total <= 0:
        return CpuUse(*[0.0] * len(CpuUse._fields))
    shares = [part / total * 100 for part in parts]
    idle = CpuUse._fields.index("idle") - 1
    return CpuUse(100 - shares[idle] - shares[idle + 1], *shares)
