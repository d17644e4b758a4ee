"""A cgroup v2 of a tree's own: made, killed, removed.

Its owner holds a lock (flock(2)) on its directory, which the kernel gives up when the owner ends, however it ends. So
an empty one with our form of name that can be locked has no owner any more, in whichever PID namespace that was, and
whoever makes the next one removes it.

Not here: which tree it is for (containment.py), placing a child into it (the C core).
"""

from __future__ import annotations

import atexit
import os
from _functools import partial  # type: ignore[import-not-found]
from _weakref import ref
from errno import ENODEV, ENOENT
from os.path import samestat

from fastproc._engine.fds import OwnedFd, read_all
from fastproc._native.proc import is_cgroup2
from fastproc._values.tree import Survivor
from fastproc.containment._member import SIGKILL, Member, Proc, why

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Id = tuple[int, int]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_BEGIN, _END = "fastproc-", "-held"
"""Around the name of those whose owner holds the lock. Nothing is known of one with another name: it is left alone."""

TRIES = 4
"""Names that are tried, where somebody takes a new one for a dead owner's before it is locked."""

LOOKS = 8
"""Directories that one call looks at in vain, so that a thousand of living owners cost each start no more."""

REMOVALS = 64
"""Directories of dead owners that one call removes."""

_serial = iter(range(2**62))

_own: dict[Id, dict[str, ref[Cgroup]]] = {}
"""Those that this process has made and not removed, by their parent and their name. One that was dropped has given its
lock up, in C, and is removed like a dead owner's. Not by a finalizer: what a signal handler raises in one is lost."""

_pending: dict[Id, list[str]] = {}
"""Names below a parent that are still to be looked at."""


class Cgroup:
    """One cgroup v2 (cgroups(7)). One that was dropped is removed by the next `make()` that finds it empty.

    Attributes:
        fd: its directory.
        name: the last part of its path.
    """

    __slots__ = ("__weakref__", "_parent", "fd", "name")

    def __init__(self, name: str, parent: Id) -> None:
        """Take a name; `make()` makes the directory."""
        self._parent = parent
        self.name = name
        self.fd = OwnedFd()

    @classmethod
    def make(cls, parent: int) -> Cgroup | None:
        """Make one below the directory with this descriptor, or below our own where that is -1.

        Returns:
            None where none can be made.
        """
        with OwnedFd() as base:
            try:
                if parent < 0:
                    path = _own_folder()
                    if path is None or not os.access(f"{path}/cgroup.procs", os.W_OK):
                        return None
                    parent = base.fill(os.open, path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                # What /proc says may be anything; a directory is made in a cgroup and nowhere else.
                if not is_cgroup2(parent):
                    return None
                info = os.fstat(parent)
                where = info.st_dev, info.st_ino
                # The kernel counts the directories in it as links.
                if info.st_nlink != 2 + _count(where):
                    remove_dead(parent, where)
                for _ in range(TRIES):
                    made = cls(f"{_BEGIN}{os.getpid()}-{next(_serial)}-{os.urandom(3).hex()}{_END}", where)
                    if made._make(parent):
                        return made
            except OSError:
                pass
        return None

    def _make(self, parent: int) -> bool:
        """Make the directory, open and lock it; return whether it is there and nobody else has locked it.

        Raises:
            OSError: it cannot be made, or takes no process; it is not there then.
        """
        try:
            _own.setdefault(self._parent, {})[self.name] = ref(self)
            os.mkdir(self.name, 0o755, dir_fd=parent)
            if self._take(parent):
                return True
            self._unmake(parent)
        except BaseException:
            self._unmake(parent)
            raise
        return False

    def _take(self, parent: int) -> bool:
        try:
            self.fd.fill(partial(os.open, dir_fd=parent), self.name, _FOLDER)
            self.fd.lift()
            if self.read("cgroup.type") != "domain":
                raise OSError("a threaded one takes no process")
            return _lock(self.fd.number) and samestat(os.fstat(self.fd.number), _look(self.name, parent))
        except OSError as error:
            # Removed before it was locked; a file of it that is open gives ENODEV then.
            if error.errno in (ENOENT, ENODEV):
                return False
            raise

    def _unmake(self, parent: int) -> None:
        self.fd.close()
        try:
            os.rmdir(self.name, dir_fd=parent)
        except OSError:
            # It was not made, or the one who has locked it removes it.
            pass
        self._forget()

    def _forget(self) -> None:
        _own.get(self._parent, {}).pop(self.name, None)

    def read(self, name: str) -> str:
        """Return the text of one of its files."""
        return _text_below(self.fd.fileno(), name).strip()

    def write(self, name: str, text: str) -> bool:
        """Write to one of its files; return whether there is such a file and it took the text."""
        with OwnedFd() as file:
            try:
                file.fill(partial(os.open, dir_fd=self.fd.fileno()), name, os.O_WRONLY | os.O_CLOEXEC)
                os.write(file.number, text.encode())
            except (OSError, ValueError):
                return False
        return True

    def is_empty(self) -> bool:
        """Return whether nobody in it or below runs. Zombies do not count."""
        try:
            return "populated 1" not in self.read("cgroup.events")
        except (OSError, ValueError):
            return True

    def kill(self) -> int:
        """Kill all in it and below; return how many there were."""
        if self.is_empty():
            return 0
        pids = self._pids()
        if not self.write("cgroup.kill", "1"):
            # Before Linux 5.14. Who is frozen forks no more, and still dies (cgroup.freeze: 5.2).
            self.write("cgroup.freeze", "1")
            for member in self._members():
                member.send(SIGKILL)
        return len(pids)

    def signal(self, sig: int, besides: int) -> None:
        """Send a signal to all in it and below, but one."""
        for member in self._members():
            if member.pid != besides:
                member.send(sig)

    def survivors(self, proc: Proc | None) -> Iterator[Survivor]:
        """Those who still run; without our own /proc their names are not known."""
        for pid in sorted(self._pids()):
            if proc is None:
                yield Survivor(pid, "?", why("", False))
                continue
            facts = proc.facts(pid)
            if facts is not None and not facts.ended:
                yield Survivor(pid, facts.name, why(facts.state, False))

    def remove(self) -> bool:
        """Remove it with what is below, if nobody is there; return whether it is gone."""
        if not self.fd.closed and not _remove(self.name, self.fd):
            return False
        self._forget()
        return True

    def _pids(self) -> set[int]:
        found: set[int] = set()
        if self.fd.closed:
            return found
        for _, _, _, fd in os.fwalk(".", dir_fd=self.fd.fileno()):
            try:
                # 0 is somebody of another PID namespace.
                found.update(pid for pid in map(int, _text_below(fd, "cgroup.procs").split()) if pid > 1)
            except OSError:
                continue
        return found

    def _members(self) -> Iterator[Member]:
        """Those in it by pidfd: listed before and after it was opened, and still there, so it is this one."""
        opened = []
        for pid in self._pids():
            try:
                opened.append(Member(pid))
            except OSError:
                continue
        again = self._pids()
        return iter([member for member in opened if member.pid in again and member.is_there()])


def _count(where: Id) -> int:
    """Return how many cgroups below a directory are this process's; forget those that were dropped."""
    own = _own.get(where, {})
    for name, made in tuple(own.items()):
        if made() is None:
            own.pop(name, None)
    return len(own)


def _remove(name: str, own: OwnedFd) -> bool:
    """Remove a cgroup with what is below, if nobody is there; return whether it is gone."""
    try:
        for _, folders, _, fd in os.fwalk(".", topdown=False, dir_fd=own.fileno()):
            for folder in folders:
                os.rmdir(folder, dir_fd=fd)
        with OwnedFd() as parent:
            parent.fill(partial(os.open, dir_fd=own.fileno()), "..", _FOLDER)
            os.rmdir(name, dir_fd=parent.number)
    except FileNotFoundError:
        pass
    except (OSError, ValueError):
        # Somebody is in it; or another thread has just closed it.
        return False
    return True


def remove_left() -> None:
    """Remove the empty ones in this process's own cgroup that were dropped, or whose owners have ended."""
    if not _own:
        return
    try:
        with OwnedFd() as parent:
            parent.fill(os.open, _own_folder() or "", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            if is_cgroup2(parent.number):
                info = os.fstat(parent.number)
                _count(where := (info.st_dev, info.st_ino))
                _pending.pop(where, None)
                remove_dead(parent.number, where)
    except OSError:
        # Whoever makes the next one there removes them.
        pass


atexit.register(remove_left)


def remove_dead(parent: int, where: Id) -> None:
    """Remove some of the empty cgroups below a directory whose owners have ended without removing them.

    Args:
        parent: the descriptor of the directory.
        where: its device and inode.
    """
    names = _pending.get(where)
    if not names:
        try:
            with OwnedFd() as listed:
                # The other one may be open for its path only.
                listed.fill(partial(os.open, dir_fd=parent), ".", _FOLDER)
                found = os.listdir(listed.number)
        except OSError:
            # It may be entered, and not listed.
            return
        names = _pending[where] = [name for name in found if _is_form(name)]
    own = _own.get(where, {})
    looks, removals = LOOKS, REMOVALS
    while names and looks and removals:
        try:
            name = names.pop()
        except IndexError:
            # Another thread was first.
            break
        made = own.get(name)
        held = None if made is None else made()
        if held is not None and not held.fd.closed:
            continue
        if _remove_dead(name, parent):
            removals -= 1
        else:
            looks -= 1


def _is_form(name: str) -> bool:
    """Return whether a name has the form that `make()` gives it."""
    words = name.removeprefix(_BEGIN).removesuffix(_END).split("-")
    if len(name) != len(_BEGIN) + len("-".join(words)) + len(_END) or len(words) != 3:
        return False
    return words[0].isdigit() and words[1].isdigit() and len(words[2]) == 6 and not words[2].strip("0123456789abcdef")


def _remove_dead(name: str, parent: int) -> bool:
    """Remove an empty cgroup that nobody holds."""
    with OwnedFd() as fd:
        try:
            fd.fill(partial(os.open, dir_fd=parent), name, _FOLDER)
            # While we have the lock, nobody can become its owner. rmdir(2) refuses where somebody is in it.
            if not is_cgroup2(fd.number) or not _lock(fd.number, refused=False):
                return False
            if not samestat(os.fstat(fd.number), _look(name, parent)):
                return False
            os.rmdir(name, dir_fd=parent)
        except OSError:
            return False
    return True


def _lock(fd: int, refused: bool = True) -> bool:
    """Lock a directory and return whether nobody else has; `refused` where it cannot be locked at all."""
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return refused
    return True


def _look(name: str, parent: int) -> os.stat_result:
    return os.stat(name, dir_fd=parent, follow_symlinks=False)


def _let_go() -> None:
    """In a forked copy: the lock is the owner's, and ends with it."""
    for own in _own.values():
        for made in own.values():
            if (cgroup := made()) is not None:
                cgroup.fd.close()
    _own.clear()


os.register_at_fork(after_in_child=_let_go)


def _text_below(fd: int, name: str) -> str:
    with OwnedFd() as file:
        file.fill(partial(os.open, dir_fd=fd), name, os.O_RDONLY | os.O_CLOEXEC)
        return read_all(file.number).decode("ascii")


def _own_folder() -> str | None:
    """The directory of our own cgroup v2, where it can be seen."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        own = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), None)
    if own is None or "/../" in f"{own}/":
        return None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields, _, kind = line.partition(" - ")
            if kind.startswith("cgroup2 "):
                # proc_pid_mountinfo(5): what of the file system is mounted, and where.
                words = fields.split()
                if len(words) < 5:
                    continue
                root, mount = _unescape(words[3]), _unescape(words[4])
                if root == "/" or own == root or own.startswith(root + "/"):
                    return mount + (own if root == "/" else own[len(root) :])
    return None


def _unescape(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
