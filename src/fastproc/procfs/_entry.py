"""What a process and each of its threads have in common: the files of its directory."""

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

# Files that are there and empty for who has no memory of its own; others answer ESRCH or ENOENT.
_OF_MEMORY = ("cmdline", "environ", "maps", "smaps", "numa_maps", "auxv", "coredump_filter")


class Entry:
    """One directory of a process or a thread, held open; its files.

    Each method reads its file anew and returns what it means, or an Absent with the reason. All raise ProcessGone when
    the process has gone, ProcessHidden when this user has changed and may not see it now (hidepid), ValueError after
    `close()`, and OSError for our own lack of descriptors or memory (EMFILE, ENFILE, ENOMEM). A file that has not the
    form that the kernel gives it is Absent, "error", with the line and the reason.
    """

    def __init__(self, pid: int, folder: Folder) -> None:
        self.pid = pid
        self._folder = folder

    def close(self) -> None:
        """Close the directory. Again does nothing."""
        self._folder.close()

    def fileno(self) -> int:
        """Return the descriptor of the directory, for openat(2).

        Raises:
            ValueError: it is closed.
        """
        return self._folder.fileno()

    def is_alive(self) -> bool:
        """Return whether it is there and has not ended: a zombie is not alive, unless other threads of it run."""
        try:
            stat = self.stat()
        except ProcessGone:
            return False
        return not (isinstance(stat, Stat) and self._has_ended(stat))

    def _has_ended(self, stat: Stat) -> bool:
        return stat.is_zombie

    def get(self, name: str, parse: Callable[[bytes], T]) -> T | Absent:
        """Return what a file of the directory means, as `parse` reads it, or why it is absent.

        Args:
            name: below the directory, as "stat" or "attr/current".
            parse: from its bytes to a value.
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
            # Some files are read as empty when the process ends in between.
            reason = None if data else self._without_memory(name)
            return Absent(ERROR, str(error)) if reason is None else reason

    def read(self, name: str) -> bytes | Absent:
        """Return the bytes of a file of the directory, or why it is absent."""
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
        """Its state, or None where a saved folder has none.

        Raises:
            ProcessGone: it has gone.
        """
        try:
            return parse_stat(self._folder.read("stat"))
        except OSError as error:
            if reason_of(error, "stat") is not None:
                return None
        self._listed()
        return None

    def _listed(self) -> list[str]:
        """The names in its directory.

        Raises:
            ProcessHidden: this user may not see them any more.
            ProcessGone: there are none. The directory of a process that has gone cannot be opened again (ESRCH), or is
                empty: getdents(2) gives ENOENT there, which the C library takes for its end. A saved folder has some.
        """
        try:
            names = self._folder.names()
        except OSError as error:
            if reason_of(error, ".") is not None:
                return []
            # proc_pid_permission() in fs/proc/base.c: ESRCH for one that has gone, ENOENT for one that is hidden.
            if error.errno == ENOENT and self._folder.is_linked():
                raise ProcessHidden(self.pid) from None
            names = []
        if not names:
            raise ProcessGone(self.pid)
        return names

    def _without_memory(self, name: str) -> Absent | None:
        """Why it has no memory; None where it has some, or nobody knows."""
        stat = self._stat()
        if stat is None:
            return None
        if stat.is_zombie:
            return Absent(ZOMBIE, name)
        if stat.is_kernel_thread:
            return Absent(KERNEL_THREAD, name)
        return Absent(ENDING, name) if stat.is_ending else None

    def _why(self, error: OSError, name: str) -> Absent:
        """What an error means.

        Raises:
            ProcessGone: that the process has gone.
            OSError: our own shortage.
        """
        reason = reason_of(error, name)
        if reason is not None and reason.reason == ERROR:
            # Such as EINVAL, which mounts_open_common() in fs/proc_namespace.c has for who is in no namespace any more.
            state = self._without_memory(name)
            return reason if state is None else state
        if reason is not None:
            return reason
        state = self._without_memory(name)
        # The kernel lists in a directory what it has, whether there is something behind it for this process or not.
        known = name.split("/")[0] in self._listed()
        return state if state is not None and known else Absent(NOT_IN_KERNEL, name)

    def read_all(self, names: Iterable[str] | None = None) -> dict[str, object]:
        """Return the values of many methods by name. A process that goes meanwhile leaves Absent("gone") for the rest.

        Args:
            names: of methods without arguments, such as "status" and "io"; None for all.

        Raises:
            ValueError: one is no such name.
            ProcessGone: it had gone before the first.
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
        """Return the environment that it was started with."""
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
        """Return what it read and wrote, in bytes."""
        return self.get("io", parse_io)

    def limits(self) -> dict[str, Limit] | Absent:
        """Return its resource limits, by the names of the RLIMIT_ constants in lower case."""
        return self.get("limits", parse_limits)

    def maps(self) -> tuple[Mapping, ...] | Absent:
        """Return its mappings."""
        return self.get("maps", parse_maps)

    def smaps(self) -> tuple[Smap, ...] | Absent:
        """Return its mappings with what they use, in bytes. Slow: the kernel looks at each page."""
        return self.get("smaps", parse_smaps)

    def smaps_rollup(self) -> Usage | Absent:
        """Return the sums of smaps, in bytes."""
        return self.get("smaps_rollup", parse_smaps_rollup)

    def numa_maps(self) -> tuple[NumaMapping, ...] | Absent:
        """Return on which memory nodes its pages are."""
        return self.get("numa_maps", parse_numa_maps)

    def fd_numbers(self) -> tuple[int, ...] | Absent:
        """Return the numbers of its descriptors, ascending; they may be known where what they are may not."""
        names = self._names("fd")
        if isinstance(names, Absent):
            return names
        numbers = sorted(int(name) for name in names if name.isdecimal())
        # Two of our own were there for the listing.
        return tuple(fd for fd in numbers if self.pid != getpid() or self._is_fd(fd))

    def _is_fd(self, fd: int) -> bool:
        try:
            self._folder.link(f"fd/{fd}")
        except OSError as error:
            return reason_of(error, "fd") is not None
        return True

    def fds(self) -> tuple[Fd, ...] | Absent:
        """Return its descriptors, ascending; those that it closes meanwhile are left out."""
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
            # Closed by the process, or by its end.
            self._stat()
        return tuple(found)

    def fdinfo(self, fd: int) -> FdInfo | Absent:
        """Return position, flags and more of one descriptor; absent, "not in this kernel", where it has none such."""
        return self.get(f"fdinfo/{int(fd)}", parse_fdinfo)

    def cgroup(self) -> tuple[Cgroup, ...] | Absent:
        """Return its cgroup in each hierarchy."""
        return self.get("cgroup", parse_cgroup)

    def namespaces(self) -> dict[str, Namespace] | Absent:
        """Return its namespaces by the name of their link."""
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
        """Return the mounts of its mount namespace below its root."""
        return self.get("mountinfo", parse_mountinfo)

    def mounts(self) -> tuple[Mount, ...] | Absent:
        """Return the same in the form of fstab(5)."""
        return self.get("mounts", parse_mounts)

    def auxv(self) -> dict[str, int] | Absent:
        """Return its auxiliary vector (getauxval(3)), by names as "pagesz"."""
        return self.get("auxv", parse_auxv)

    def oom_score(self) -> int | Absent:
        """Return how likely it is to be killed for lack of memory, 0 to 2000."""
        return self.get("oom_score", parse_number)

    def oom_score_adj(self) -> int | Absent:
        """Return what is added to that, -1000 to 1000."""
        return self.get("oom_score_adj", parse_number)

    def schedstat(self) -> Schedstat | Absent:
        """Return its time on and waiting for a CPU, in nanoseconds."""
        return self.get("schedstat", parse_schedstat)

    def wchan(self) -> str | Absent:
        """Return the kernel's function that it waits in; "0" where it waits in none, or the caller may not know."""
        return self.get("wchan", parse_line)

    def syscall(self) -> Syscall | Absent:
        """Return the system call that it waits in."""
        return self.get("syscall", parse_syscall)

    def loginuid(self) -> int | Absent | None:
        """Return the user that logged in, for auditing; None where none did."""
        return self.get("loginuid", parse_unset)

    def sessionid(self) -> int | Absent | None:
        """Return the session of auditing; None for none."""
        return self.get("sessionid", parse_unset)

    def uid_map(self) -> tuple[IdRange, ...] | Absent:
        """Return the users of its user namespace."""
        return self.get("uid_map", parse_id_map)

    def gid_map(self) -> tuple[IdRange, ...] | Absent:
        """Return the groups of its user namespace."""
        return self.get("gid_map", parse_id_map)

    def projid_map(self) -> tuple[IdRange, ...] | Absent:
        """Return the project ids of its user namespace."""
        return self.get("projid_map", parse_id_map)

    def setgroups(self) -> str | Absent:
        """Return whether its user namespace lets it set supplementary groups: "allow" or "deny"."""
        return self.get("setgroups", parse_line)

    def personality(self) -> int | Absent:
        """Return its execution domain (personality(2))."""
        return self.get("personality", parse_hex)

    def cpuset(self) -> str | Absent:
        """Return its cgroup of CPUs (cpuset(7))."""
        return self.get("cpuset", parse_line)

    def label(self) -> str | Absent:
        """Return its label of SELinux, AppArmor or Smack; absent where there is no such module."""
        found = self.get("attr/current", parse_line)
        # EINVAL: the file is there in every kernel, and no module answers.
        if isinstance(found, Absent) and found.reason == ERROR:
            return Absent(NOT_IN_KERNEL, f"no security module has labels: {found.detail}")
        return found
