"""`Absent`: the value of a field that is not available, with the reason. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

DENIED = "denied"
"""The kernel does not permit this user to read it: EACCES or EPERM (ptrace(2), "Ptrace access mode checking")."""
KERNEL_THREAD = "kernel thread"
"""A kernel thread has no memory, program or arguments."""
ZOMBIE = "zombie"
"""The process has ended and has released its resources; only its entry in the process table is left."""
ENDING = "ending"
"""The process is exiting: its memory is gone, and it is not yet a zombie."""
NOT_IN_KERNEL = "not in this kernel"
"""The kernel is too old or was built without it, or the saved directory does not have it."""
DISABLED = "disabled"
"""The kernel has it, but it is switched off."""
GONE = "gone"
"""The process ended while it was read."""
NO_PROCFS = "no procfs"
"""The root is empty or missing: /proc is not mounted."""
ERROR = "error"
"""Another error, which the detail describes."""

REASONS = (DENIED, KERNEL_THREAD, ZOMBIE, ENDING, NOT_IN_KERNEL, DISABLED, GONE, NO_PROCFS, ERROR)


class Absent:
    """A value that is not available, with the reason. It is false, and equal to every Absent with the same reason.

    Attributes:
        reason: one of "denied", "kernel thread", "zombie", "ending", "not in this kernel", "disabled", "gone",
            "no procfs", "error".
        detail: more information, such as the file and its error, or the kernel version that introduced it.
    """

    __module__ = "fastproc.procfs"

    __slots__ = ("detail", "reason")

    def __init__(self, reason: str, detail: str = "") -> None:
        """Store the reason.

        Raises:
            ValueError: `reason` is not one of the above.
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
    """Return the value of a field on kernels before the version that introduced it."""
    return Absent(NOT_IN_KERNEL, f"since Linux {version}")


class Missing(LookupError):
    """A required value is absent; the attribute `absent` has the reason."""

    __module__ = "fastproc.procfs"

    def __init__(self, absent: Absent) -> None:
        """Store the Absent."""
        super().__init__(absent)
        self.absent = absent

    def __str__(self) -> str:
        return f"there is no such value: {self.absent}"


def need(value: T | Absent) -> T:
    """Return the value if it is not absent.

    Raises:
        Missing: the value is absent.
    """
    if isinstance(value, Absent):
        raise Missing(value)
    return value


need.__module__ = "fastproc.procfs"
