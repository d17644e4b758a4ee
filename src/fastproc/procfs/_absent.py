"""What stands in the place of a value that cannot be had: nothing, and the reason. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

DENIED = "denied"
"""The kernel refuses it to this user: EACCES or EPERM (ptrace(2), "Ptrace access mode checking")."""
KERNEL_THREAD = "kernel thread"
"""A kernel thread has none: no memory of its own, no program, no command line."""
ZOMBIE = "zombie"
"""The process has ended, and what it had is given back; only its entry in the process table is left."""
ENDING = "ending"
"""The process is in the middle of its end: its memory is gone, and it is no zombie yet."""
NOT_IN_KERNEL = "not in this kernel"
"""The kernel is too old, or built without it, or the saved folder does not have it."""
DISABLED = "disabled"
"""The kernel has it, and it is switched off."""
GONE = "gone"
"""The process ended while it was read."""
NO_PROCFS = "no procfs"
"""There is nothing at the root that was given: /proc is not mounted here."""
ERROR = "error"
"""The kernel answered with another error; the detail has it."""

REASONS = (DENIED, KERNEL_THREAD, ZOMBIE, ENDING, NOT_IN_KERNEL, DISABLED, GONE, NO_PROCFS, ERROR)


class Absent:
    """A value that is not there, and why. False in a condition; equal to every Absent of the same reason.

    Attributes:
        reason: one of "denied", "kernel thread", "zombie", "ending", "not in this kernel", "disabled", "gone",
            "no procfs", "error".
        detail: more about it, such as the file and its error, or the kernel version that has it.
    """

    __module__ = "fastproc.procfs"

    __slots__ = ("detail", "reason")

    def __init__(self, reason: str, detail: str = "") -> None:
        """Take the reason.

        Raises:
            ValueError: it is none of those above.
        """
        if reason not in REASONS:
            raise ValueError(f"reason: {reason!r} is none of {', '.join(REASONS)}")
        self.reason = reason
        self.detail = detail

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return self.reason == other.reason if isinstance(other, Absent) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.reason)

    def __str__(self) -> str:
        """The reason, with the detail in parentheses."""
        return f"{self.reason} ({self.detail})" if self.detail else self.reason

    def __repr__(self) -> str:
        return f"Absent({self.reason!r}, {self.detail!r})" if self.detail else f"Absent({self.reason!r})"


def since(version: str) -> Absent:
    """Return what a field is on kernels before the one that brought it."""
    return Absent(NOT_IN_KERNEL, f"since Linux {version}")


class Missing(LookupError):
    """A value was needed that is absent; `absent` says why."""

    __module__ = "fastproc.procfs"

    def __init__(self, absent: Absent) -> None:
        """Take the Absent that was found."""
        super().__init__(absent)
        self.absent = absent

    def __str__(self) -> str:
        return f"there is no such value: {self.absent}"


def need(value: T | Absent) -> T:
    """Return the value, or raise where it is absent.

    Raises:
        Missing: it is.
    """
    if isinstance(value, Absent):
        raise Missing(value)
    return value


need.__module__ = "fastproc.procfs"
