"""Signal numbers, names and sets of them, without the `signal` module (whose enums cost more than this package)."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Iterable
elif "_signal" in sys.builtin_module_names:
    import _signal
else:
    import signal as _signal

SIGNAL_MAX = 64
_PREFERRED = ("SIGCHLD", "SIGABRT", "SIGIO")


def number(name: str, value: object) -> int:
    """Return the number of a signal given as number, signal.Signals or name ("TERM", "SIGTERM", "RTMIN+2").

    Args:
        name: the option that the value is for, which starts the message of an error.
        value: the signal.

    Raises:
        TypeError: it is neither int nor str.
        ValueError: there is no such signal.
    """
    if isinstance(value, str):
        return _named(name, value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: a signal must be an int or a name such as 'TERM', not {type(value).__name__}")
    if not 1 <= value <= SIGNAL_MAX:
        raise ValueError(f"{name}: {value} is not a signal number (1 to {SIGNAL_MAX})")
    return int(value)


def _named(name: str, value: str) -> int:
    text = value.upper()
    text = text if text.startswith("SIG") else "SIG" + text
    base, plus, offset = text.partition("+")
    known = getattr(_signal, base, None) if not base.startswith("SIG_") else None
    if not isinstance(known, int) or (plus and not offset.isdecimal()):
        raise ValueError(f"{name}: unknown signal name {value!r}")
    return number(name, int(known) + int(offset or 0))


def label(value: int) -> str:
    """Return the name of a signal number, such as "SIGKILL"; "signal 40" where there is none."""
    for name in _PREFERRED:
        if getattr(_signal, name, 0) == value:
            return name
    for name in dir(_signal):
        if name.startswith("SIG") and name[3] != "_" and getattr(_signal, name) == value:
            return name
    return f"signal {value}"


def mask(signals: Iterable[int]) -> int:
    """Return the kernel's bit set: bit n-1 is signal n."""
    bits = 0
    for item in signals:
        bits |= 1 << (item - 1)
    return bits


SIGKILL = int(_signal.SIGKILL)
SIGSTOP = int(_signal.SIGSTOP)

# GOTCHAS A3: an ignored signal stays ignored through execve(2). Python ignores SIGPIPE and SIGXFSZ; an ignored SIGCHLD
# would make the kernel discard the statuses of the program's own children.
CHLD = 1 << (int(_signal.SIGCHLD) - 1)
PYTHON_IGNORES = 1 << (int(_signal.SIGPIPE) - 1) | 1 << (int(_signal.SIGXFSZ) - 1)

REALTIME_MIN = int(getattr(_signal, "SIGRTMIN", SIGNAL_MAX + 1))
"""The first one that programs may use; the C library keeps those from 32 to here."""

_LIBRARY_FIRST = 32

_FAULT = "it tells a thread of a fault of its own; where a handler returns, the instruction fails again, for ever"

_FORBIDDEN = {
    "SIGKILL": "the kernel lets nobody catch it",
    "SIGSTOP": "the kernel lets nobody catch it",
    "SIGSEGV": _FAULT,
    "SIGBUS": _FAULT,
    "SIGFPE": _FAULT,
    "SIGILL": _FAULT,
}

_STOP = ("SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU")
_IGNORE = ("SIGCHLD", "SIGURG", "SIGWINCH")
_CORE = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGQUIT", "SIGSEGV", "SIGSYS", "SIGTRAP", "SIGXCPU", "SIGXFSZ")


def catchable(name: str, value: object) -> int:
    """Return the number of a signal that a program may handle; as number().

    Raises:
        TypeError, ValueError: as number(); and for one that cannot be handled, with the reason.
    """
    found = number(name, value)
    if _LIBRARY_FIRST <= found < REALTIME_MIN:
        raise ValueError(
            f"{name}: signal {found} belongs to the C library, which stops and changes threads by it "
            f"(signal(7)); real-time signals for programs begin with RTMIN, {REALTIME_MIN}"
        )
    reason = _FORBIDDEN.get(label(found))
    if reason is not None:
        raise ValueError(f"{name}: {label(found)} cannot be received: {reason}")
    return found


def default_of(value: int) -> str:
    """Return what a signal does by default (signal(7)): "terminate", "core", "stop", "continue" or "ignore"."""
    name = label(value)
    if name == "SIGCONT":
        return "continue"
    kinds = {"stop": _STOP, "ignore": _IGNORE, "core": _CORE}
    return next((kind for kind, names in kinds.items() if name in names), "terminate")


def members(mask_bits: int) -> list[int]:
    """Return the signals of the kernel's bit set, in order."""
    return [number for number in range(1, SIGNAL_MAX + 1) if mask_bits >> (number - 1) & 1]
