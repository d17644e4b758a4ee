"""The files that the directories of a process and of a thread have in common."""

from __future__ import annotations

from errno import ENOENT
from os import getpid

from fastproc.procfs._absent import ENDING, ERROR, GONE, KERNEL_THREAD, NOT_IN_KERNEL, ZOMBIE, Absent
from fastproc.procfs._fdinfo import FdInfo, parse_fdinfo
from fastproc.procfs._memory import (
    Mapping,
    NumaMapping,
    Smap,
    Usage,
    parse_maps,
    parse_numa_maps,
    parse_smaps,
    parse_smaps_rollup,
)
from fastproc.procfs._mounts import Mount, MountInfo, parse_mountinfo, parse_mounts
from fastproc.procfs._nets import Net
from fastproc.procfs._reading import Folder, ProcessGone, ProcessHidden, reason_of
from fastproc.procfs._stat import (
    Io,
    Schedstat,
    Stat,
    Statm,
    Syscall,
    parse_io,
    parse_schedstat,
    parse_stat,
    parse_statm,
    parse_syscall,
)
from fastproc.procfs._status import Status, parse_status
from fastproc.procfs._text import ParseError
from fastproc.procfs._words import (
    Cgroup,
    Fd,
    IdRange,
    Limit,
    Namespace,
    Target,
    parse_auxv,
    parse_cgroup,
    parse_cmdline,
    parse_environ,
    parse_hex,
    parse_id_map,
    parse_limits,
    parse_line,
    parse_number,
    parse_target,
    parse_unset,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    T = TypeVar("T")

# Files that are empty for a process without memory. Opening or reading the others fails with ESRCH or ENOENT.
_OF_MEMORY = ("cmdline", "environ", "maps", "smaps", "numa_maps", "auxv", "coredump_filter")


class Entry:
    """The directory of a process or a thread, which is held open, and its files.

    Each method reads its file again and returns the value, or an Absent with the reason. In the descriptions, *its*
    refers to the process or thread. All methods raise ProcessGone if the process has ended and was waited for,
    ProcessHidden if this process has changed its user and may not see the process any more (hidepid), ValueError after
    `close()`, and OSError if this process lacks descriptors or memory (EMFILE, ENFILE, ENOMEM). A file in another
    format is Absent, "error", with the line and the reason.
    """

    def __init__(self, pid: int, folder: Folder) -> None:
        self.pid = pid
        self._folder = folder

    def close(self) -> None:
        """Close the directory. Further calls do nothing."""
        self._folder.close()

    def fileno(self) -> int:
        """Return the descriptor of the directory, for openat(2).

        Raises:
            ValueError: the directory is closed.
        """
        return self._folder.fileno()

    def is_alive(self) -> bool:
        """Return whether it exists and has not ended. A zombie has ended, unless other threads of the process run."""
        try:
            stat = self.stat()
        except ProcessGone:
            return False
        return not (isinstance(stat, Stat) and self._has_ended(stat))

    def _has_ended(self, stat: Stat) -> bool:
        return stat.is_zombie

    def get(self, name: str, parse: Callable[[bytes], T]) -> T | Absent:
        """Return the content of a file of the directory, converted by `parse`.

        Args:
            name: a path below the directory, such as "stat" or "attr/current".
            parse: converts the bytes to a value.
        """
        try:
            data = self._folder.read(name)
        except OSError as error:
            return self._why(error, name)
        if not data and name in _OF_MEMORY:
            reason = self._without_memory(name)
            if reason is not None:
                return reason
        try:
            return parse(data)
        except ParseError as error:
            # Some files are empty if the process ends between the open and the read.
            reason = None if data else self._without_memory(name)
            return Absent(ERROR, str(error)) if reason is None else reason

    def read(self, name: str) -> bytes | Absent:
        """Return the bytes of a file of the directory."""
        return self.get(name, lambda data: data)

    def _link(self, name: str) -> Target | Absent:
        try:
            return parse_target(self._folder.link(name))
        except OSError as error:
            return self._why(error, name)

    def _names(self, name: str) -> list[str] | Absent:
        try:
            return self._folder.names(name)
        except OSError as error:
            return self._why(error, name)

    def _stat(self) -> Stat | None:
        """Return the contents of stat, or None if a saved directory has no such file.

        Raises:
            ProcessGone: the process has ended and was waited for.
        """
        try:
            return parse_stat(self._folder.read("stat"))
        except OSError as error:
            if reason_of(error, "stat") is not None:
                return None
        self._listed()
        return None

    def _listed(self) -> list[str]:
        """Return the names in the directory.

        Raises:
            ProcessHidden: this user may not see the process any more.
            ProcessGone: the directory is empty or cannot be opened again (ESRCH). getdents(2) fails with ENOENT for a
                process that has gone, and the C library treats this as the end. A saved directory is not empty.
        """
        try:
            names = self._folder.names()
        except OSError as error:
            if reason_of(error, ".") is not None:
                return []
            # proc_pid_permission() in fs/proc/base.c: ESRCH for a process that has gone, ENOENT for a hidden one.
            if error.errno == ENOENT and self._folder.is_linked():
                raise ProcessHidden(self.pid) from None
            names = []
        if not names:
            raise ProcessGone(self.pid)
        return names

    def _without_memory(self, name: str) -> Absent | None:
        """Return why the process has no memory; None if it has some, or if this is not known."""
        stat = self._stat()
        if stat is None:
            return None
        if stat.is_zombie:
            return Absent(ZOMBIE, name)
        if stat.is_kernel_thread:
            return Absent(KERNEL_THREAD, name)
        return Absent(ENDING, name) if stat.is_ending else None

    def _why(self, error: OSError, name: str) -> Absent:
        """Return the reason for an error.

        Raises:
            ProcessGone: the process has ended and was waited for.
            OSError: this process lacks descriptors or memory.
        """
        reason = reason_of(error, name)
        if reason is not None and reason.reason == ERROR:
            # Such as EINVAL of mounts_open_common() in fs/proc_namespace.c, for a process that has left its namespaces.
            state = self._without_memory(name)
            return reason if state is None else state
        if reason is not None:
            return reason
        state = self._without_memory(name)
        # The directory lists all files of this kernel, including those that this process does not have.
        known = name.split("/")[0] in self._listed()
        return state if state is not None and known else Absent(NOT_IN_KERNEL, name)

    def read_all(self, names: Iterable[str] | None = None) -> dict[str, object]:
        """Return the values of several methods by name.

        If the process ends meanwhile, the remaining values are Absent("gone").

        Args:
            names: names of methods without arguments, such as "status" and "io"; None for all.

        Raises:
            ValueError: a name is invalid.
            ProcessGone: the process had gone before the first method.
        """
        chosen = self.NAMES if names is None else tuple(names)
        for name in chosen:
            if name not in self.NAMES:
                raise ValueError(f"names: {name!r} is none of {', '.join(self.NAMES)}")
        found: dict[str, object] = {}
        gone = 0
        for name in chosen:
            try:
                found[name] = getattr(self, name)()
            except ProcessGone:
                found[name] = Absent(GONE, name)
                gone += 1
        if chosen and gone == len(chosen):
            raise ProcessGone(self.pid)
        return found

    NAMES: tuple[str, ...] = (
        "stat", "status", "statm", "comm", "cmdline", "environ", "exe", "cwd", "root", "io", "limits", "maps", "smaps",
        "smaps_rollup", "numa_maps", "fd_numbers", "fds", "cgroup", "namespaces", "mountinfo", "mounts", "auxv",
        "oom_score", "oom_score_adj", "schedstat", "wchan", "syscall", "loginuid", "sessionid", "uid_map", "gid_map",
        "projid_map", "setgroups", "personality", "cpuset", "label",
    )  # fmt: skip
    """The methods without arguments, for `read_all`."""

    @property
    def net(self) -> Net:
        """The tables of its network namespace."""
        return Net(self)

    def stat(self) -> Stat | Absent:
        """Return the 52 fields of stat."""
        return self.get("stat", parse_stat)

    def status(self) -> Status | Absent:
        """Return all lines of status."""
        return self.get("status", parse_status)

    def statm(self) -> Statm | Absent:
        """Return its memory in pages."""
        return self.get("statm", parse_statm)

    def comm(self) -> str | Absent:
        """Return its name, up to 15 bytes."""
        return self.get("comm", parse_line)

    def cmdline(self) -> tuple[str, ...] | Absent:
        """Return its arguments."""
        return self.get("cmdline", parse_cmdline)

    def environ(self) -> dict[str, str] | Absent:
        """Return its environment, as it was at execve."""
        return self.get("environ", parse_environ)

    def exe(self) -> Target | Absent:
        """Return its program."""
        return self._link("exe")

    def cwd(self) -> Target | Absent:
        """Return its current directory."""
        return self._link("cwd")

    def root(self) -> Target | Absent:
        """Return its root directory."""
        return self._link("root")

    def io(self) -> Io | Absent:
        """Return the bytes that it read and wrote."""
        return self.get("io", parse_io)

    def limits(self) -> dict[str, Limit] | Absent:
        """Return its resource limits, by the names of the RLIMIT_ constants in lower case."""
        return self.get("limits", parse_limits)

    def maps(self) -> tuple[Mapping, ...] | Absent:
        """Return its memory mappings."""
        return self.get("maps", parse_maps)

    def smaps(self) -> tuple[Smap, ...] | Absent:
        """Return its memory mappings with their memory use, in bytes; slow, because the kernel examines every page."""
        return self.get("smaps", parse_smaps)

    def smaps_rollup(self) -> Usage | Absent:
        """Return the sums of smaps, in bytes."""
        return self.get("smaps_rollup", parse_smaps_rollup)

    def numa_maps(self) -> tuple[NumaMapping, ...] | Absent:
        """Return the memory nodes that hold its pages."""
        return self.get("numa_maps", parse_numa_maps)

    def fd_numbers(self) -> tuple[int, ...] | Absent:
        """Return the numbers of its descriptors, ascending. They may be readable if the descriptors are not."""
        names = self._names("fd")
        if isinstance(names, Absent):
            return names
        numbers = sorted(int(name) for name in names if name.isdecimal())
        # For this process, two of the descriptors were open only for the listing.
        return tuple(fd for fd in numbers if self.pid != getpid() or self._is_fd(fd))

    def _is_fd(self, fd: int) -> bool:
        try:
            self._folder.link(f"fd/{fd}")
        except OSError as error:
            return reason_of(error, "fd") is not None
        return True

    def fds(self) -> tuple[Fd, ...] | Absent:
        """Return its open descriptors, ascending; without those that it closes meanwhile."""
        numbers = self.fd_numbers()
        if isinstance(numbers, Absent):
            return numbers
        found = []
        closed = False
        for fd in numbers:
            try:
                found.append(Fd(fd, parse_target(self._folder.link(f"fd/{fd}"))))
            except OSError as error:
                reason = reason_of(error, f"fd/{fd}")
                if reason is not None:
                    return reason
                closed = True
        if closed:
            # The process has closed the descriptor, or has ended.
            self._stat()
        return tuple(found)

    def fdinfo(self, fd: int) -> FdInfo | Absent:
        """Return position, flags and more of a descriptor; Absent("not in this kernel") if it is not open."""
        return self.get(f"fdinfo/{int(fd)}", parse_fdinfo)

    def cgroup(self) -> tuple[Cgroup, ...] | Absent:
        """Return its cgroup in each hierarchy."""
        return self.get("cgroup", parse_cgroup)

    def namespaces(self) -> dict[str, Namespace] | Absent:
        """Return its namespaces, by the name of the link."""
        names = self._names("ns")
        if isinstance(names, Absent):
            return names
        found = {}
        for name in sorted(names):
            link = self._link(f"ns/{name}")
            if isinstance(link, Target):
                found[name] = Namespace(name, link.kind, link.id)
            elif not found and link.reason != NOT_IN_KERNEL:
                return link
        return found

    def mountinfo(self) -> tuple[MountInfo, ...] | Absent:
        """Return the mounts of its mount namespace, below its root directory."""
        return self.get("mountinfo", parse_mountinfo)

    def mounts(self) -> tuple[Mount, ...] | Absent:
        """Return the mounts of its mount namespace in the form of fstab(5)."""
        return self.get("mounts", parse_mounts)

    def auxv(self) -> dict[str, int] | Absent:
        """Return its auxiliary vector (getauxval(3)), by names such as "pagesz"."""
        return self.get("auxv", parse_auxv)

    def oom_score(self) -> int | Absent:
        """Return how likely the kernel kills it when memory runs out, 0 to 2000."""
        return self.get("oom_score", parse_number)

    def oom_score_adj(self) -> int | Absent:
        """Return the value added to oom_score, -1000 to 1000."""
        return self.get("oom_score_adj", parse_number)

    def schedstat(self) -> Schedstat | Absent:
        """Return its time on a CPU and waiting for a CPU, in nanoseconds."""
        return self.get("schedstat", parse_schedstat)

    def wchan(self) -> str | Absent:
        """Return the kernel function in which it waits; "0" if it does not wait, or if the caller may not know."""
        return self.get("wchan", parse_line)

    def syscall(self) -> Syscall | Absent:
        """Return the system call in which it waits."""
        return self.get("syscall", parse_syscall)

    def loginuid(self) -> int | Absent | None:
        """Return the user who logged in, for auditing; None if nobody did."""
        return self.get("loginuid", parse_unset)

    def sessionid(self) -> int | Absent | None:
        """Return the audit session; None if there is none."""
        return self.get("sessionid", parse_unset)

    def uid_map(self) -> tuple[IdRange, ...] | Absent:
        """Return the user ids of its user namespace."""
        return self.get("uid_map", parse_id_map)

    def gid_map(self) -> tuple[IdRange, ...] | Absent:
        """Return the group ids of its user namespace."""
        return self.get("gid_map", parse_id_map)

    def projid_map(self) -> tuple[IdRange, ...] | Absent:
        """Return the project ids of its user namespace."""
        return self.get("projid_map", parse_id_map)

    def setgroups(self) -> str | Absent:
        """Return whether its user namespace permits supplementary groups to be set: "allow" or "deny"."""
        return self.get("setgroups", parse_line)

    def personality(self) -> int | Absent:
        """Return its execution domain (personality(2))."""
        return self.get("personality", parse_hex)

    def cpuset(self) -> str | Absent:
        """Return its cgroup of CPUs (cpuset(7))."""
        return self.get("cpuset", parse_line)

    def label(self) -> str | Absent:
        """Return its label of SELinux, AppArmor or Smack; absent if none of these modules is active."""
        found = self.get("attr/current", parse_line)
        # EINVAL: every kernel has the file, but no module is active.
        if isinstance(found, Absent) and found.reason == ERROR:
            return Absent(NOT_IN_KERNEL, f"no security module has labels: {found.detail}")
        return found
