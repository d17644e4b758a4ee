"""Checks of values that many options have in common; the message of an error starts with the option's name. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# 68 years. A longer timeout is none at all (GOTCHAS D19: it must fit the kernel's and C's nanoseconds).
SECONDS_MAX = 2.0**31


def check_bool(name: str, value: object) -> object:
    """Return True or False; anything else is a TypeError."""
    if value is True or value is False:
        return value
    raise TypeError(f"{name}: must be True or False, not {value!r}")


def check_seconds(name: str, value: object) -> float | None:
    """Return a time in seconds as float, or None for no limit (also for infinity and more than 68 years).

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative or not a number (NaN).
    """
    if value is None:
        return None
    if isinstance(value, (str, bytes, bool)):
        raise TypeError(f"{name}: must be a number of seconds or None, not {type(value).__name__}")
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: must be a number of seconds or None, not {type(value).__name__}") from None
    except OverflowError:
        seconds = SECONDS_MAX if value > 0 else -1.0  # type: ignore[operator]
    if not seconds >= 0:
        raise ValueError(f"{name}: {value} is not a time in seconds (0 or more)")
    return seconds if seconds < SECONDS_MAX else None


def check_int(name: str, value: object, low: int, high: int) -> int:
    """Return an int within limits.

    Raises:
        TypeError: it is not an int (a bool is none).
        ValueError: it is outside.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: must be an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} is not in the range {low} to {high}")
    return int(value)


def iterable(name: str, value: object) -> Iterable[object]:
    """Return the value if it can be iterated and is no text; else raise TypeError."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name}: must be an iterable, not {type(value).__name__}")
    return value
