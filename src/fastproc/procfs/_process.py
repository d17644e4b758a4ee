"""One process, identified by its open directory and not by its pid."""

from __future__ import annotations

import os

from fastproc._values.identity import check_pid
from fastproc.procfs._absent import Absent
from fastproc.procfs._entry import Entry
from fastproc.procfs._reading import Folder, ProcessGone, open_process, reason_of
from fastproc.procfs._words import (
    Autogroup,
    TimeOffset,
    parse_autogroup,
    parse_hex,
    parse_number,
    parse_pids,
    parse_timens_offsets,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastproc.procfs._stat import Stat


class Task(Entry):
    """One thread: the files of /proc/PID/task/TID. `Process.task()` and `tasks()` create it.

    Attributes:
        pid: the thread id.
    """

    __module__ = "fastproc.procfs"

    NAMES = (*Entry.NAMES, "children")

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Task({self.pid})"

    def children(self) -> tuple[int, ...] | Absent:
        """Return the pids of the children that this thread has started.

        Children may be missing while other children end (proc_tid_children(5)). A pid may belong to another process
        when it is used.
        """
        return self.get("children", parse_pids)


class Process(Entry):
    """One process. It holds its directory open, so a later process with the same pid is never read.

    Args:
        pid: the pid. A thread id is accepted too, as in the kernel.
        root: the mount point of procfs, or a directory with saved files.

    Attributes:
        pid: the pid.

    Raises:
        TypeError, ValueError: `pid` is not a valid pid.
        ProcessGone: there is no process with this pid.
        ProcessHidden: the process exists, but procfs hides it from this user (hidepid).
        NoProcfs: the root is empty or missing, or /proc belongs to another PID namespace.
        OSError: EMFILE, ENFILE, ENOMEM.
    """

    __module__ = "fastproc.procfs"

    NAMES = (*Entry.NAMES, "autogroup", "coredump_filter", "timens_offsets", "timerslack_ns", "children", "tids")

    def __init__(self, pid: int, root: str | os.PathLike[str] = "/proc") -> None:
        super().__init__(check_pid("pid", pid), open_process(pid, os.fspath(root)))
        self._root = os.fspath(root)

    @classmethod
    def current(cls) -> Process:
        """Return a handle for this process."""
        return cls(os.getpid())

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Process({self.pid})" if self._root == "/proc" else f"Process({self.pid}, {self._root!r})"

    def _has_ended(self, stat: Stat) -> bool:
        # The first thread of a process may have ended while other threads run (GOTCHAS D10).
        return stat.is_zombie and stat.num_threads <= 1

    def tids(self) -> tuple[int, ...] | Absent:
        """Return the ids of its threads, ascending."""
        names = self._names("task")
        if isinstance(names, Absent):
            return names
        return tuple(sorted(int(name) for name in names if name.isdecimal()))

    def task(self, tid: int) -> Task:
        """Return a handle for one of its threads; the handle holds a descriptor until it is closed.

        Raises:
            ProcessGone: the process has no such thread (any more).
            PermissionError: the thread may not be read.
            OSError: EMFILE, ENFILE, ENOMEM.
        """
        try:
            return Task(tid, Folder(f"task/{check_pid('tid', tid)}", self._folder))
        except OSError as error:
            if reason_of(error, "task") is not None:
                raise
            raise ProcessGone(tid) from None

    def tasks(self) -> Iterator[Task]:
        """Return a handle for each of its threads, without those that end meanwhile."""
        tids = self.tids()
        for tid in () if isinstance(tids, Absent) else tids:
            try:
                found = self.task(tid)
            except ProcessGone:
                continue
            yield found

    def children(self) -> tuple[int, ...] | Absent:
        """Return the pids of the children of all its threads, ascending; see `Task.children`."""
        tids = self.tids()
        if isinstance(tids, Absent):
            return tids
        found: set[int] = set()
        for tid in tids:
            some = self.get(f"task/{tid}/children", parse_pids)
            if not isinstance(some, Absent):
                found.update(some)
            elif not self._folder_has(f"task/{tid}"):
                # The thread has ended. Another thread is now the parent of its children, and may have been read
                # already.
                continue
            else:
                return some
        return tuple(sorted(found))

    def _folder_has(self, name: str) -> bool:
        try:
            self._folder.names(name)
        except OSError as error:
            return reason_of(error, name) is not None
        return True

    def autogroup(self) -> Autogroup | Absent | None:
        """Return the scheduler's group of its session; None if there is none."""
        return self.get("autogroup", parse_autogroup)

    def coredump_filter(self) -> int | Absent:
        """Return bit set of the mappings that a core file would contain (core(5))."""
        return self.get("coredump_filter", parse_hex)

    def timens_offsets(self) -> tuple[TimeOffset, ...] | Absent:
        """Return the clock offsets of its time namespace (Linux 5.5)."""
        return self.get("timens_offsets", parse_timens_offsets)

    def timerslack_ns(self) -> int | Absent:
        """Return its timer slack: how many nanoseconds its timers may be late."""
        return self.get("timerslack_ns", parse_number)
