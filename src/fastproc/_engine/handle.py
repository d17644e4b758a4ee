"""What the parts of the engine, and what ends trees, know of each other. For type checkers only: nothing imports it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from fastproc._values.plan import Plan
from fastproc._values.tree import TreeEnd


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
