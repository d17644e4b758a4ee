"""The whole machine, as /proc shows it."""

from __future__ import annotations

import os

from fastproc._native import proc
from fastproc.procfs._absent import Absent
from fastproc.procfs._devices import (
    Controller,
    Cpuinfo,
    Devices,
    Disk,
    Module,
    Partition,
    parse_cgroups,
    parse_cpuinfo,
    parse_devices,
    parse_diskstats,
    parse_filesystems,
    parse_modules,
    parse_partitions,
    parse_sysctl,
)
from fastproc.procfs._fdinfo import Lock, parse_locks
from fastproc.procfs._host import (
    KernelStat,
    Loadavg,
    Meminfo,
    Pressure,
    Uptime,
    parse_kernel_stat,
    parse_loadavg,
    parse_meminfo,
    parse_pressure,
    parse_uptime,
    parse_vmstat,
)
from fastproc.procfs._mounts import Mount, Swap, parse_mounts, parse_swaps
from fastproc.procfs._nets import Net
from fastproc.procfs._process import Process
from fastproc.procfs._reading import OURS, Files, NoProcfs, ProcessGone, ProcessHidden, open_proc
from fastproc.procfs._record import Record
from fastproc.procfs._text import number, numbers, only
from fastproc.procfs._words import parse_line, parse_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class SysKernel(Record):
    """Values below /proc/sys/kernel (proc_sys_kernel(5)). Any of them may be absent.

    Attributes:
        ostype, osrelease, version: as in uname(2).
        hostname, domainname: of the reader's UTS namespace.
        pid_max: highest pid plus one.
        threads_max: maximum number of threads of the machine.
        ngroups_max: maximum number of supplementary groups of a process.
        cap_last_cap: highest number of a capability.
        overflowuid: uid shown for users without a uid in this namespace.
        core_pattern: pattern for core file names.
        core_uses_pid: 1 if the pid is appended.
        randomize_va_space: 0 to 2.
        dmesg_restrict, kptr_restrict, perf_event_paranoid, unprivileged_bpf_disabled: restrictions for unprivileged
            users.
        tainted: bit set of taint flags.
        panic: seconds from a panic to the reboot.
        sched_autogroup_enabled: whether the scheduler groups processes by session.
        sem: maximum number of semaphores of a set, of all semaphores, of operations of a call, of sets.
        shmmax: maximum size of a segment, in bytes.
        shmall: maximum number of pages of all segments.
        shmmni: maximum number of segments.
        msgmax, msgmnb: maximum size of a message and of a queue, in bytes.
        msgmni: maximum number of queues.
        boot_id: random id that stays the same until the next boot.
        entropy_avail: available entropy, in bits.
        ptrace_scope: restriction by Yama, 0 to 3.
    """

    __module__ = "fastproc.procfs"

    ostype: str | Absent
    osrelease: str | Absent
    version: str | Absent
    hostname: str | Absent
    domainname: str | Absent
    pid_max: int | Absent
    threads_max: int | Absent
    ngroups_max: int | Absent
    cap_last_cap: int | Absent
    overflowuid: int | Absent
    core_pattern: str | Absent
    core_uses_pid: int | Absent
    randomize_va_space: int | Absent
    dmesg_restrict: int | Absent
    kptr_restrict: int | Absent
    perf_event_paranoid: int | Absent
    unprivileged_bpf_disabled: int | Absent
    tainted: int | Absent
    panic: int | Absent
    sched_autogroup_enabled: int | Absent
    sem: tuple[int, ...] | Absent
    shmmax: int | Absent
    shmall: int | Absent
    shmmni: int | Absent
    msgmax: int | Absent
    msgmnb: int | Absent
    msgmni: int | Absent
    boot_id: str | Absent
    entropy_avail: int | Absent
    ptrace_scope: int | Absent


class SysFs(Record):
    """Values below /proc/sys/fs (proc_sys_fs(5)). Any of them may be absent.

    Attributes:
        file_nr: allocated file handles, free ones, maximum.
        file_max: maximum number of file handles.
        nr_open: maximum number of descriptors of a process.
        inode_nr: inodes in memory, free ones.
        dentry_state: directory entries in memory, unused ones, age limit, wanted pages, negative ones.
        pipe_max_size: bytes, for unprivileged users.
        pipe_user_pages_soft, pipe_user_pages_hard: limits on the pages of all pipes of a user.
        aio_nr, aio_max_nr: requests of io_setup(2), and their maximum.
        epoll_max_user_watches: maximum for each user.
        inotify_max_user_watches, inotify_max_user_instances, inotify_max_queued_events: maximum for each user (watches,
            instances) and for each instance (events).
        mount_max: maximum number of mounts of a namespace.
        lease_break_time: seconds.
        suid_dumpable: 0 to 2.
        protected_hardlinks, protected_symlinks, protected_fifos, protected_regular: 0 if off; 1 or 2 if on.
    """

    __module__ = "fastproc.procfs"

    file_nr: tuple[int, ...] | Absent
    file_max: int | Absent
    nr_open: int | Absent
    inode_nr: tuple[int, ...] | Absent
    dentry_state: tuple[int, ...] | Absent
    pipe_max_size: int | Absent
    pipe_user_pages_soft: int | Absent
    pipe_user_pages_hard: int | Absent
    aio_nr: int | Absent
    aio_max_nr: int | Absent
    epoll_max_user_watches: int | Absent
    inotify_max_user_watches: int | Absent
    inotify_max_user_instances: int | Absent
    inotify_max_queued_events: int | Absent
    mount_max: int | Absent
    lease_break_time: int | Absent
    suid_dumpable: int | Absent
    protected_hardlinks: int | Absent
    protected_symlinks: int | Absent
    protected_fifos: int | Absent
    protected_regular: int | Absent


# Files whose name differs from the field's name.
_PLACES = {
    "threads_max": "threads-max",
    "boot_id": "random/boot_id",
    "entropy_avail": "random/entropy_avail",
    "ptrace_scope": "yama/ptrace_scope",
    "file_nr": "file-nr",
    "file_max": "file-max",
    "inode_nr": "inode-nr",
    "dentry_state": "dentry-state",
    "pipe_max_size": "pipe-max-size",
    "pipe_user_pages_soft": "pipe-user-pages-soft",
    "pipe_user_pages_hard": "pipe-user-pages-hard",
    "aio_nr": "aio-nr",
    "aio_max_nr": "aio-max-nr",
    "epoll_max_user_watches": "epoll/max_user_watches",
    "inotify_max_user_watches": "inotify/max_user_watches",
    "inotify_max_user_instances": "inotify/max_user_instances",
    "inotify_max_queued_events": "inotify/max_queued_events",
    "mount_max": "mount-max",
    "lease_break_time": "lease-break-time",
}
_TEXTS = ("ostype", "osrelease", "version", "hostname", "domainname", "core_pattern", "boot_id")
_TUPLES = ("sem", "file_nr", "inode_nr", "dentry_state")
RESOURCES = ("cpu", "memory", "io", "irq")


def _numbers(data: bytes) -> tuple[int, ...]:
    return only(data, "sys", numbers)


class Host:
    """The whole machine. Each method reads its file again. A file that cannot be read is Absent, with the reason.

    Args:
        root: the mount point of procfs, or a directory with saved files.

        A file in another format is Absent, "error", with the line and the reason.
    """

    __module__ = "fastproc.procfs"

    def __init__(self, root: str | os.PathLike[str] = "/proc") -> None:
        self.root = os.fspath(root)
        self._files = Files(self.root)

    def __repr__(self) -> str:
        return f"Host({self.root!r})"

    @property
    def net(self) -> Net:
        """The tables of the reader's network namespace."""
        return Net(self._files)

    def stat(self) -> KernelStat | Absent:
        """Return CPU times and counts of kernel events, from /proc/stat."""
        return self._files.get("stat", parse_kernel_stat)

    def meminfo(self) -> Meminfo | Absent:
        """Return memory use, in bytes."""
        return self._files.get("meminfo", parse_meminfo)

    def loadavg(self) -> Loadavg | Absent:
        """Return the load average."""
        return self._files.get("loadavg", parse_loadavg)

    def uptime(self) -> Uptime | Absent:
        """Return seconds since boot."""
        return self._files.get("uptime", parse_uptime)

    def vmstat(self) -> dict[str, int] | Absent:
        """Return counts of pages and events of memory management, by the names of the kernel."""
        return self._files.get("vmstat", parse_vmstat)

    def pressure(self, resource: str) -> Pressure | Absent:
        """Return how much time was lost waiting for a resource (Linux 4.20).

        Args:
            resource: "cpu", "memory", "io" or "irq" (Linux 6.1).

        Raises:
            ValueError: `resource` is not one of these.
        """
        if resource not in RESOURCES:
            raise ValueError(f"resource: {resource!r} is none of {', '.join(RESOURCES)}")
        return self._files.get(f"pressure/{resource}", parse_pressure)

    def diskstats(self) -> tuple[Disk, ...] | Absent:
        """Return counters of each block device."""
        return self._files.get("diskstats", parse_diskstats)

    def partitions(self) -> tuple[Partition, ...] | Absent:
        """Return the size of each block device."""
        return self._files.get("partitions", parse_partitions)

    def mounts(self) -> tuple[Mount, ...] | Absent:
        """Return the mounts of the reader's mount namespace."""
        return self._files.get("mounts", parse_mounts)

    def swaps(self) -> tuple[Swap, ...] | Absent:
        """Return the files and partitions used for swapping."""
        return self._files.get("swaps", parse_swaps)

    def cpuinfo(self) -> Cpuinfo | Absent:
        """Return a description of each CPU."""
        return self._files.get("cpuinfo", parse_cpuinfo)

    def modules(self) -> tuple[Module, ...] | Absent:
        """Return the loaded modules; absent if the kernel does not support modules."""
        return self._files.get("modules", parse_modules)

    def locks(self) -> tuple[Lock, ...] | Absent:
        """Return the file locks that are held or waited for."""
        return self._files.get("locks", parse_locks)

    def devices(self) -> Devices | Absent:
        """Return the names of drivers, by major number."""
        return self._files.get("devices", parse_devices)

    def cgroups(self) -> tuple[Controller, ...] | Absent:
        """Return the controllers of cgroups."""
        return self._files.get("cgroups", parse_cgroups)

    def filesystems(self) -> dict[str, bool] | Absent:
        """Return each file system type, and whether it needs a block device."""
        return self._files.get("filesystems", parse_filesystems)

    def cmdline(self) -> str | Absent:
        """Return the command line of the kernel."""
        return self._files.get("cmdline", parse_line)

    def version(self) -> str | Absent:
        """Return the version line of the kernel, with the compiler."""
        return self._files.get("version", parse_line)

    def sysctl(self, name: str) -> int | tuple[int, ...] | str | Absent:
        """Return a value below /proc/sys: a number, several numbers, or text if it is neither.

        Args:
            name: a name of sysctl(8), such as "kernel.pid_max" or "net/ipv4/conf/eth0.1/mtu".

        Raises:
            ValueError: the name does not name a file below /proc/sys.
        """
        parts = name.split("/" if "/" in name else ".")
        if not all(parts) or ".." in parts or "." in parts or "\0" in name:
            raise ValueError(f"name: {name!r} names nothing below /proc/sys")
        return self._files.get(f"sys/{'/'.join(parts)}", parse_line if parts[-1] in _TEXTS else parse_sysctl)

    def _values(self, folder: str, names: tuple[str, ...]) -> dict[str, object]:
        found: dict[str, object] = {}
        for name in names:
            parse = parse_line if name in _TEXTS else _numbers if name in _TUPLES else parse_number
            found[name] = self._files.get(f"sys/{folder}/{_PLACES.get(name, name)}", parse)
        return found

    def sys_kernel(self) -> SysKernel:
        """Return the values below /proc/sys/kernel."""
        return SysKernel(**self._values("kernel", SysKernel._fields))  # type: ignore[arg-type]

    def sys_fs(self) -> SysFs:
        """Return the values below /proc/sys/fs."""
        return SysFs(**self._values("fs", SysFs._fields))  # type: ignore[arg-type]

    def pids(self) -> tuple[int, ...]:
        """Return the pids of all visible processes, ascending.

        Raises:
            NoProcfs: the root is empty or missing, or /proc belongs to another PID namespace.
            OSError: EMFILE, ENFILE, ENOMEM.
        """
        try:
            names = self._names()
        except NoProcfs:
            raise
        except OSError as error:
            if error.errno in OURS:
                raise
            names = []
        if not names:
            raise NoProcfs(2, "there is no procfs (is it mounted?)", self.root)
        return tuple(sorted(number(name.encode()) for name in names if name.isascii() and name.isdigit()))

    def _names(self) -> list[str]:
        if not proc.is_proc(self.root):
            return os.listdir(self.root)
        folder = open_proc()
        try:
            return folder.names()
        finally:
            folder.close()

    def processes(self) -> Iterator[Process]:
        """Return a handle for each visible process; each handle holds a descriptor until it is closed.

        Raises:
            NoProcfs, OSError: as for `pids()`.
        """
        for pid in self.pids():
            try:
                found = Process(pid, self.root)
            except (ProcessGone, ProcessHidden):
                continue
            yield found
