"""One process, known by its directory and not by its number."""

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
    """One thread: the files of /proc/PID/task/TID. Made by `Process.task()` and `tasks()`.

    Attributes:
        pid: the thread's number.
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
        """Return the pids of the children that this thread has made.

        While some of them end, others can be missing (proc_tid_children(5)). A number may be another process's by the
        time it is used.
        """
        return self.get("children", parse_pids)


class Process(Entry):
    """One process. It holds its directory open, so that a later process with the same number is never read.

    Args:
        pid: its number. A thread's is taken as well, as the kernel does.
        root: where procfs is mounted, or a folder with saved files.

    Attributes:
        pid: its number.

    Raises:
        TypeError, ValueError: pid is none that a process can have.
        ProcessGone: there is none with that number.
        ProcessHidden: there is, and procfs does not show it to this user (hidepid).
        NoProcfs: there is nothing at the root.
        OSError: EMFILE, ENFILE, ENOMEM.
    """

    __module__ = "fastproc.procfs"

    NAMES = (*Entry.NAMES, "autogroup", "coredump_filter", "timens_offsets", "timerslack_ns", "children", "tids")

    def __init__(self, pid: int, root: str | os.PathLike[str] = "/proc") -> None:
        super().__init__(check_pid("pid", pid), open_process(pid, os.fspath(root)))
        self._root = os.fspath(root)

    @classmethod
    def current(cls) -> Process:
        """Return this process."""
        return cls(os.getpid())

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Process({self.pid})" if self._root == "/proc" else f"Process({self.pid}, {self._root!r})"

    def _has_ended(self, stat: Stat) -> bool:
        # The first thread of a process may have ended while others run (GOTCHAS D10).
        return stat.is_zombie and stat.num_threads <= 1

    def tids(self) -> tuple[int, ...] | Absent:
        """Return the numbers of its threads, ascending."""
        names = self._names("task")
        if isinstance(names, Absent):
            return names
        return tuple(sorted(int(name) for name in names if name.isdecimal()))

    def task(self, tid: int) -> Task:
        """Return one of its threads; it holds a descriptor until it is closed.

        Raises:
            ProcessGone: it has no such thread (any more).
            PermissionError, OSError: the thread may not be read; EMFILE, ENFILE, ENOMEM.
        """
        try:
            return Task(tid, Folder(f"task/{check_pid('tid', tid)}", self._folder))
        except OSError as error:
            if reason_of(error, "task") is not None:
                raise
            raise ProcessGone(tid) from None

    def tasks(self) -> Iterator[Task]:
        """Yield each of its threads, but those that end meanwhile."""
        tids = self.tids()
        for tid in () if isinstance(tids, Absent) else tids:
            try:
                found = self.task(tid)
            except ProcessGone:
                continue
            yield found

    def children(self) -> tuple[int, ...] | Absent:
        """Return the pids of its children, of all its threads, ascending; see `Task.children`."""
        tids = self.tids()
        if isinstance(tids, Absent):
            return tids
        found: set[int] = set()
        for tid in tids:
            some = self.get(f"task/{tid}/children", parse_pids)
            if not isinstance(some, Absent):
                found.update(some)
            elif not self._folder_has(f"task/{tid}"):
                # That thread has ended; its children have gone to another one, which may have been read already.
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
        """Return its session's group for the scheduler; None where it is in none."""
        return self.get("autogroup", parse_autogroup)

    def coredump_filter(self) -> int | Absent:
        """Return which mappings a core file of it would have (core(5)), a bit set."""
        return self.get("coredump_filter", parse_hex)

    def timens_offsets(self) -> tuple[TimeOffset, ...] | Absent:
        """Return what its time namespace adds to clocks (Linux 5.5)."""
        return self.get("timens_offsets", parse_timens_offsets)

    def timerslack_ns(self) -> int | Absent:
        """Return by how many nanoseconds its timers may be late."""
        return self.get("timerslack_ns", parse_number)
