"""A cgroup v2 of a tree's own: made, killed, removed.

Not here: which tree it is for (containment.py), placing a child into it (the C core).
"""

from __future__ import annotations

import os

from fastproc._engine.fds import OwnedFd
from fastproc._members import SIGKILL, Member, facts_of, why
from fastproc._values.tree import Survivor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_serial = iter(range(2**62))


class Cgroup:
    """One cgroup v2 (cgroups(7)).

    Attributes:
        fd: its directory.
        name: the last part of its path.
    """

    __slots__ = ("fd", "name")

    def __init__(self, name: str, fd: OwnedFd) -> None:
        self.name = name
        self.fd = fd

    @classmethod
    def make(cls, parent: int) -> Cgroup | None:
        """Make one below the directory with this descriptor, or below our own where that is -1.

        Returns:
            None where none can be made.
        """
        remove_left()
        with OwnedFd() as base:
            try:
                if parent < 0:
                    path = _own_folder()
                    if path is None or not os.access(f"{path}/cgroup.procs", os.W_OK):
                        return None
                    parent = base.fill(os.open, path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                name = f"fastproc-{os.getpid()}-{next(_serial)}-{os.urandom(3).hex()}"
                made = cls(name, OwnedFd())
                try:
                    os.mkdir(name, 0o755, dir_fd=parent)
                    made.fd.fill(_open_below, name, parent)
                    made.fd.lift()
                    if made.read("cgroup.type") != "domain":
                        raise OSError("a threaded one takes no process")
                except BaseException:
                    made.fd.close()
                    os.rmdir(name, dir_fd=parent)
                    raise
            except OSError:
                return None
        return made

    def read(self, name: str) -> str:
        """Return the text of one of its files."""
        with OwnedFd(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd.fileno())) as file:
            return os.read(file.number, 4096).decode("ascii").strip()

    def write(self, name: str, text: str) -> bool:
        """Write to one of its files; return whether there is such a file and it took the text."""
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd.fileno())
        except (OSError, ValueError):
            return False
        with OwnedFd(fd):
            try:
                os.write(fd, text.encode())
            except OSError:
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

    def survivors(self) -> Iterator[Survivor]:
        """Those who still run."""
        for pid in sorted(self._pids()):
            facts = facts_of(pid)
            if facts is not None and not facts.ended:
                yield Survivor(pid, facts.name, why(facts.state, False))

    def remove(self) -> bool:
        """Remove it with what is below, if nobody is there; return whether it is gone."""
        if self.fd.closed:
            return True
        try:
            for folder, _, _ in os.walk(f"/proc/self/fd/{self.fd.number}/.", topdown=False):
                if not folder.endswith("/."):
                    os.rmdir(folder)
            with OwnedFd(_open_below("..", self.fd.number)) as parent:
                os.rmdir(self.name, dir_fd=parent.number)
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True

    def leave(self) -> None:
        """Remove it later, when it is empty: whoever is in it lives on."""
        if not self.remove():
            _left.append(self)

    def _folders(self) -> Iterator[str]:
        for folder, _, _ in os.walk(f"/proc/self/fd/{self.fd.number}/."):
            yield folder

    def _pids(self) -> set[int]:
        found: set[int] = set()
        for folder in self._folders():
            try:
                with open(f"{folder}/cgroup.procs", "rb") as file:
                    # 0 is somebody of another PID namespace.
                    found.update(pid for pid in map(int, file.read().split()) if pid > 1)
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


_left: list[Cgroup] = []
"""Cgroups of children that outlived their handle."""


def remove_left() -> None:
    """Remove those whose last process has ended meanwhile."""
    for _ in range(len(_left)):
        cgroup = _left.pop(0)
        if not cgroup.remove():
            _left.append(cgroup)


def _open_below(name: str, parent: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)


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
                root, mount = (_unescape(text) for text in fields.split()[3:5])
                if root == "/" or own == root or own.startswith(root + "/"):
                    return mount + (own if root == "/" else own[len(root) :])
    return None


def _unescape(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
