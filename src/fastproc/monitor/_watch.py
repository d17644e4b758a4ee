"""One watched process: its identity, its pidfd, and its exit code."""

from __future__ import annotations

from errno import EINVAL, ENOSYS, EPERM

from fastproc._engine.reactor import since_boot
from fastproc._native import snapshot as _native
from fastproc.containment._member import Member
from fastproc.info._reading import snapshot
from fastproc.monitor._rules import Level, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastproc.info._snapshot import Record

IDENTITY: tuple[str, ...] = ("pid", "comm", "name", "state", "num_threads", "starttime", "uid", "cmdline")

YOUNG = 1.0
"""Seconds after its start in which the name and arguments of a process may still change. execve(2) sets the name before
the arguments, and a shell may execute another program."""


class Watch:
    """One watched process, or the machine.

    Attributes:
        pid: the pid; 0 for the machine.
        name: the name when the watch began.
        alive: whether the process has not ended.
        by: "pidfd", or "polling" if the kernel has no pidfds (before 5.3) or a sandbox refuses them.
        rules: the thresholds.
    """

    __module__ = "fastproc.monitor"

    __slots__ = (
        *("_died", "_levels", "_like", "_member", "_restart", "_settled", "_starttime", "_unknown"),
        *("alive", "by", "name", "pid"),
    )

    def __init__(self, pid: int, rules: Iterable[Rule], restart: bool) -> None:
        """Called by `Monitor.watch()`."""
        self.pid = pid
        self.name = ""
        self.alive = True
        self.by = "pidfd"
        self._restart = restart
        self._settled = False
        self._levels = [Level(rule) for rule in rules]
        self._unknown: set[str] = set()
        self._member: Member | None = None
        self._starttime: float | None = None
        self._like: tuple[object, ...] = ()
        self._died = since_boot()  # the earliest possible time of its end; while it lives, when it was last seen alive

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The thresholds."""
        return tuple(level.rule for level in self._levels)

    @property
    def raised(self) -> tuple[Rule, ...]:
        """The rules whose alert is raised now."""
        return tuple(level.rule for level in self._levels if level.raised)

    def _metrics(self) -> set[str]:
        return {level.rule.metric for level in self._levels}

    def _needs_looks(self) -> bool:
        """Return whether the timer must look at the process."""
        if not self.alive:
            return self._restart or any(level.rule.metric == "zombie" for level in self._levels)
        return bool(self._levels) or self.by == "polling" or self._is_young()

    def _is_young(self) -> bool:
        """Return whether the identity must be read again, so that a replacement can be recognized."""
        return self._restart and self.alive and not self._settled

    def __repr__(self) -> str:
        return f"<Watch of {self.pid} ({self.name}), {'alive' if self.alive else 'ended'}, by {self.by}>"

    def _identify(self) -> None:
        """Open the pidfd, read the identity, and verify that the pid was not reused meanwhile (GOTCHAS D1).

        Raises:
            As `Monitor.watch()`.
        """
        try:
            self._member = Member(self.pid)
        except OSError as error:
            if error.errno == EINVAL and self.pid != 1:
                raise ValueError(f"pid: {self.pid} is not the pid of a process") from None
            if error.errno not in (ENOSYS, EPERM, EINVAL):
                raise
            self.by = "polling"
        try:
            (record,) = snapshot(IDENTITY, [self.pid])
            if record.why("comm") == "gone" or (self._member is not None and not self._member.is_there()):
                raise ProcessLookupError(3, f"there is no process {self.pid}")
        except BaseException:
            self._close()
            raise
        self.name = record.name or "?"
        self._starttime = record.starttime
        self._settled = self._is_grown()
        self._like = likeness(record)

    def _is_grown(self) -> bool:
        return self._starttime is None or since_boot() - self._starttime >= YOUNG

    def _learn(self, record: Record) -> None:
        """Store the identity, unless the record is of another process or of a zombie."""
        if record.starttime == self._starttime and record.state not in ("Z", "X"):
            self.name = record.name or "?"
            self._settled = self._is_grown()
            self._like = likeness(record)

    def _close(self) -> None:
        """Close the pidfd. No reactor watches it any more."""
        if self._member is not None:
            self._member.close()
            self._member = None

    def _status(self) -> int | None:
        """Return the exit code if the kernel reports it: by the pidfd if the process was reaped, otherwise in /proc.

        Returns None also if this process lacks descriptors.
        """
        status = self._told()
        if status is not None:
            return status
        try:
            # /proc shows the exit code only to a process that may trace it (proc(5)).
            (record,) = snapshot(("state", "exit_code", "starttime"), [self.pid])
        except OSError:
            return None
        if record.starttime is not None and record.starttime == self._starttime and record.state in "ZX":
            if record.exit_code is None:
                return None
            code: int = record.exit_code
            return -(code & 0x7F) if code & 0x7F else code >> 8
        return self._told(reaped=True)

    def _told(self, reaped: bool = False) -> int | None:
        return _native.exit_status(self._member.number, reaped) if self._member is not None else None


def likeness(record: Record) -> tuple[object, ...]:
    """Return the properties that a process and its replacement share."""
    return record.comm, record.uid, tuple(record.cmdline or ())
