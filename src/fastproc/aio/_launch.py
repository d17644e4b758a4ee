"""Making a child without waiting until it runs its program, for event loops: an exec can be slow.

Invariant: what the child borrows of this process until then is kept here, or by the C core where that is too short.
"""

from __future__ import annotations

from fastproc import errors
from fastproc._engine import orphans
from fastproc._native.loop import launch, launch_over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastproc._engine.process import Process


class Launch:
    """The time between the birth of a child and its program.

    Args:
        process: a new handle; it may be used again for another launch when this one has failed.
        plan: what to make: one of process.ways(), or what stands in a Plan's place; a terminal is attached already.

    Raises:
        SpawnError: no child is left.
    """

    __slots__ = ("_launched", "_plan", "_process", "_streams")

    def __init__(self, process: Process, plan: Any) -> None:
        self._process = process
        self._plan = plan
        self._launched: object = None
        self._streams: tuple[int, ...] = ()
        orphans.reap()
        try:
            self._launched = launch(plan, process._child)
            process.adopt()
            self._streams = tuple(stream for stream in range(3) if process._child.fd[stream] >= 0)
        except errors.SpawnError:
            raise
        except BaseException:
            process.abandon()
            raise

    def is_over(self, wait_ns: int = 0) -> bool:
        """Whether the program runs; waits some nanoseconds at most.

        Raises:
            SpawnError: it never will, and no child is left.
        """
        if self._launched is None:
            return True
        process = self._process
        try:
            over = launch_over(self._launched, wait_ns, self._plan, process._child)
        except errors.SpawnError:
            self._launched = None
            # The number is free by now: nobody looks after it when the handle is dropped.
            process._unguard()
            process.pid = -1
            process._adopted = False
            process._pidfd.close()
            for stream in self._streams:
                process.ends[stream].close()
            raise
        if over:
            self._launched = None
        return over

    def leave(self) -> None:
        """Wait no more: the child was killed, and is told by its end alone."""
        self._launched = None
