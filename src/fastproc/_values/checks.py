"""Checks of values that many options have in common; the message of an error starts with the option's name. Pure."""

from __future__ import annotations

from os import PathLike, fsdecode, fspath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# 68 years. A longer timeout is none at all (GOTCHAS D19: it must fit the kernel's and C's nanoseconds).
SECONDS_MAX = 2.0**31

FD_MAX = 2**31 - 1

# Those that change who the child is. Each needs the table of steps, and a decision about no_new_privs.
_NAMES = "user group groups capabilities ambient bounding securebits root namespaces landlock seccomp"
IDENTITY = frozenset(_NAMES.split())
OF_IDENTITY = IDENTITY.union(("uid_map", "gid_map", "time_offsets", "clean_env"))


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


def check_text(name: str, value: object) -> str:
    """Return a str, bytes or os.PathLike as str, in the file system's encoding with surrogateescape (GOTCHAS F14).

    Raises:
        TypeError: it is another kind of object.
        ValueError: it has a NUL, which C would take for its end (GOTCHAS F5), or cannot be encoded.
    """
    if not isinstance(value, (str, bytes, PathLike)):
        raise TypeError(f"{name}: must be str, bytes or os.PathLike, not {type(value).__name__}")
    text = fsdecode(fspath(value))
    if "\0" in text:
        raise ValueError(f"{name}: has a NUL byte at index {text.index(chr(0))}")
    if not text.isascii():
        from sys import getfilesystemencodeerrors, getfilesystemencoding

        try:
            text.encode(getfilesystemencoding(), getfilesystemencodeerrors())
        except UnicodeEncodeError as error:
            raise ValueError(f"{name}: cannot be encoded: {error}") from None
    return text


def check_path(name: str, value: object) -> str:
    """Return a path as str; as check_text(), and it must not be empty."""
    text = check_text(name, value)
    if not text:
        raise ValueError(f"{name}: the path is empty")
    return text


def check_fd(name: str, value: int) -> int:
    """Return a descriptor number.

    Raises:
        TypeError: it is a bool, which is an int only by accident.
        ValueError: it is negative or too large.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name}: {value} is not a descriptor number")
    if not 0 <= value <= FD_MAX:
        raise ValueError(f"{name}: {int(value)} is not a descriptor number (0 to {FD_MAX})")
    return int(value)


def check_place(name: str, value: object) -> str | int | None:
    """Return a directory given as a path or a descriptor: a str, an int, or None."""
    if value is None:
        return None
    return check_fd(name, value) if isinstance(value, int) else check_path(name, value)


def check_env_name(option: str, name: object) -> str:
    """Return the name of an environment variable (GOTCHAS F6: neither empty nor with "=")."""
    text = check_text(f"{option}: name of a variable", name)
    if not text or "=" in text:
        raise ValueError(f"{option}: {text!r} cannot be the name of a variable")
    return text


def check_source(name: str, value: object) -> object:
    """Return a descriptor number, or an object with fileno(), which is kept."""
    if isinstance(value, int):
        return check_fd(name, value)
    if callable(getattr(value, "fileno", None)):
        return value
    raise TypeError(f"{name}: must be a descriptor number or a file, not {type(value).__name__}")
