"""What the parts of the engine, and what ends trees, know of each other. For type checkers only: nothing imports it."""

from __future__ import annotations

from typing import Protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import RLock
    from collections.abc import Iterator

    from fastproc._engine.fds import OwnedFd
    from fastproc._engine.streams.pipe_ends import PipeEnds
    from fastproc._engine.streams.sink import Taps
    from fastproc._native import Status
    from fastproc._values.plan import Plan
    from fastproc._values.tree import TreeEnd


class Handle(Protocol):
    """The Process of a child, for those who watch, read or end it; each of these is described there."""

    argv: tuple[str, ...]
    ended_ns: int
    final: Status | None
    late: bool
    memory: dict[int, OwnedFd | memoryview]
    pid: int
    started_ns: int
    taps: Taps | None
    times: tuple[float, float | None, float | None]
    _detached: bool
    _leads: bool
    _lock: RLock
    _owner: int
    _pidfd: OwnedFd

    @property
    def ends(self) -> PipeEnds: ...
    @property
    def mechanism(self) -> str: ...
    @property
    def pidfd(self) -> int: ...
    @property
    def tree(self) -> Killer | None: ...

    def abandon(self) -> bool: ...
    def adopt(self) -> None: ...
    def await_death(self) -> bool: ...
    def detach(self) -> None: ...
    def hold(self) -> int: ...
    def interrupt_group(self) -> None: ...
    def is_held(self, killed: float) -> bool: ...
    def poll(self) -> int | None: ...
    def release(self) -> None: ...
    def send_signal(self, sig: int) -> None: ...
    def signal_group(self, sig: int) -> None: ...
    def signal_tree(self, sig: int) -> None: ...
    def sweep_tree(self, late: bool) -> bool: ...


class Killer(Protocol):
    """What ends a whole tree of processes; handed to the engine, which knows no cgroups. Nothing here waits."""

    def plans(self, plan: Plan) -> Iterator[Plan]:
        """Before the spawn: give the plan changed so that the tree can be found; the next way when one is refused."""
        ...

    def signal(self, sig: int) -> bool:
        """Send a signal to everybody in the tree but its leader's handle, once; return whether that has got it too."""
        ...

    def kill(self) -> bool:
        """Send SIGKILL to everybody who is found now; return whether nobody was there."""
        ...

    def is_gone(self) -> bool:
        """Return whether nobody is there."""
        ...

    def guard(self, on: bool) -> None:
        """Kill the tree when the child's handle is dropped, or do so no more.

        An interrupt can come before the end of a `with` block has begun.
        """
        ...

    def end(self) -> TreeEnd:
        """Return what has happened up to now."""
        ...

    def close(self) -> None:
        """Give up what belongs to the tree. May be called again."""
        ...
