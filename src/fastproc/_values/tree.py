"""What became of a whole tree of processes that was to be ended."""

from __future__ import annotations


class Survivor:
    """A process that could not be ended.

    Attributes:
        pid: its number.
        name: as the kernel has it (proc_pid_comm(5)), 15 bytes at the most.
        why: in words.
    """

    __module__ = "fastproc"

    __slots__ = ("name", "pid", "why")

    def __init__(self, pid: int, name: str, why: str) -> None:
        """Take all three."""
        self.pid = pid
        self.name = name
        self.why = why

    def __eq__(self, other: object) -> bool:
        """Compare all."""
        if not isinstance(other, Survivor):
            return NotImplemented
        return (self.pid, self.name, self.why) == (other.pid, other.name, other.why)

    def __hash__(self) -> int:
        """Hash the number."""
        return hash(self.pid)

    def __repr__(self) -> str:
        """Show all."""
        return f"Survivor(pid={self.pid}, name={self.name!r}, why={self.why!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor."""
        return Survivor, (self.pid, self.name, self.why)


def held(argv: tuple[str, ...], pid: int, traced: bool) -> Survivor:
    """A program that was killed, and whose end a tracer or the kernel holds up."""
    name = argv[0].rpartition("/")[2][:15]
    return Survivor(pid, name, "killed, and held by a tracer" if traced else "killed, and held in the kernel")


class TreeEnd:
    """What `Process.kill_tree()` did.

    Attributes:
        found_by: how the tree was found: "cgroup"; or "mark" and "parents"; or "group" and "parents". Where /proc
            cannot be used: "group" alone, or nothing: the child was ended and nobody else was looked for.
        killed: how many processes got SIGKILL; None where the kernel did it for a whole cgroup or group at once.
        survivors: those that are known to be still there.
        unseen: why others of the tree can be left that nobody looked for: /proc is not mounted, or belongs to another
            PID namespace, where the numbers of this one name strangers. "" where all were looked for.
    """

    __module__ = "fastproc"

    __slots__ = ("found_by", "killed", "survivors", "unseen")

    def __init__(
        self, found_by: tuple[str, ...], killed: int | None, survivors: tuple[Survivor, ...] = (), unseen: str = ""
    ) -> None:
        """Take all four."""
        self.found_by = found_by
        self.killed = killed
        self.survivors = survivors
        self.unseen = unseen

    @property
    def gone(self) -> bool:
        """Whether nothing of the tree is left. False where that is not known: see `unseen`."""
        return not self.survivors and not self.unseen

    def __repr__(self) -> str:
        """Show all; `unseen` where there is a reason."""
        unseen = f", unseen={self.unseen!r}" if self.unseen else ""
        return f"TreeEnd(found_by={self.found_by}, killed={self.killed}, survivors={self.survivors}{unseen})"
