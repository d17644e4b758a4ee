"""What belongs to a running expression: one command of it, and what is asked for the whole."""

from __future__ import annotations

from time import monotonic_ns

from fastproc._engine.process import Process
from fastproc.pipeline._plumbing import Keeping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._engine.exit_watch import ExitWatch
    from fastproc._values.command import Command
    from fastproc.pipeline._plumbing import Sink


class Settings:
    """What is asked for a whole run.

    Attributes:
        deadline: monotonic instant at which everything is stopped; None for never.
        grace, drain_timeout, idle_timeout: as for an Exchange.
        pipe_size: bytes that a pipe between two stages shall hold; None for the kernel's choice.
        group: whether all children are put into one process group, which is not ours.
        sigpipe_ok: whether a stage killed by SIGPIPE because its reader exited is successful.
        stays: whether the thread that starts the children outlives them, for their parent-death signal (GOTCHAS G19).
        keeping: what becomes of captured outputs.
    """

    __slots__ = (
        *("deadline", "drain_timeout", "grace", "group", "idle_timeout", "keeping", "pipe_size", "sigpipe_ok"),
        "stays",
    )

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.grace = 0.1
        self.drain_timeout: float | None = 1.0
        self.idle_timeout: float | None = None
        self.pipe_size: int | None = None
        self.group = False
        self.sigpipe_ok = True
        self.stays = False
        self.keeping = Keeping()


class Child:
    """One command that is started.

    Attributes:
        command: as its hooks left it.
        process: its handle.
        started_ns, ended_ns: monotonic nanoseconds.
        writes_on: whether an output of it goes to another stage.
        place: where it stands among the commands of the expression.
        stderr: what its own stderr gave, or None.
        watch: how its end is seen.
        left: whether it is left to itself, as it does not end or may not be killed.
    """

    __slots__ = ("command", "ended_ns", "left", "place", "process", "started_ns", "stderr", "watch", "writes_on")

    def __init__(self, command: Command, place: int) -> None:
        self.command = command
        self.place = place
        self.process = Process(command.argv)
        self.started_ns = monotonic_ns()
        self.ended_ns = 0
        self.writes_on = False
        self.stderr: Sink | None = None
        self.watch: ExitWatch | None = None
        self.left = False

    @property
    def alive(self) -> bool:
        """Whether it was started, and is neither reaped nor left to itself."""
        return self.process.pid > 0 and self.process.final is None and not self.left
