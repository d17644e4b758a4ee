"""Socket activation's variables (sd_listen_fds(3)), read and made."""

from __future__ import annotations

from fastproc._values.checks import check_source, iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

FIRST = 3
"""SD_LISTEN_FDS_START."""

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")

UNNAMED = "unknown"
"""What sd_listen_fds_with_names(3) calls a descriptor without a name."""

COUNT_MAX = 2**31 - 1 - FIRST

FDNAME_MAX = 255


def check_fdname(name: str, value: object) -> str:
    """Return the name of a descriptor: 1 to 255 printable ASCII characters, no colon (FDNAME= of sd_notify(3))."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be str, not {type(value).__name__}")
    if not 1 <= len(value) <= FDNAME_MAX or ":" in value or not all(" " <= letter <= "~" for letter in value):
        raise ValueError(f"{name}: must be 1 to {FDNAME_MAX} printable ASCII characters without a colon, not {value!r}")
    return value


def read(environment: Mapping[str, str], pid: int) -> tuple[int, list[str] | None]:
    """Return how many descriptors are passed to this process, from number 3 on, and their names, if they have some.

    Args:
        environment: the variables.
        pid: of this process; what is meant for another one gives nothing.

    Raises:
        ValueError: a variable is not what sd_listen_fds(3) describes; its name comes first.
    """
    target = environment.get("LISTEN_PID")
    if target is None:
        return 0, None
    if _digits("LISTEN_PID", target) != pid:
        return 0, None
    count = environment.get("LISTEN_FDS")
    if count is None:
        return 0, None
    number = _digits("LISTEN_FDS", count)
    if not 0 < number <= COUNT_MAX:
        raise ValueError(f"LISTEN_FDS: {count!r} is not a number of descriptors")
    names = environment.get("LISTEN_FDNAMES")
    if names is None:
        return number, None
    found = names.split(":")
    if len(found) != number:
        raise ValueError(f"LISTEN_FDNAMES: {len(found)} names for {number} descriptors: {names!r}")
    return number, found


def _digits(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise ValueError(f"{name}: must be a number, not {value!r}")
    return int(value)


def check_listen_fds(name: str, value: object) -> tuple[tuple[str, object], ...]:
    """Return the option `listen_fds` as pairs (name, descriptor or file).

    Raises:
        TypeError: it is no mapping of names to sockets, and no iterable of sockets.
        ValueError: a name is not possible.
    """
    if hasattr(value, "items"):
        items: Any = value.items()
        pairs = [(check_fdname(name, key), each) for key, each in items]
    else:
        pairs = [(UNNAMED, item) for item in iterable(name, value)]
    found: list[tuple[str, object]] = []
    for key, each in pairs:
        # Several sockets may have one name (systemd.socket(5), FileDescriptorName=).
        group = each if isinstance(each, (list, tuple)) else (each,)
        found += [(key, check_source(name, item)) for item in group]
    return tuple(found)


def variables(pairs: tuple[tuple[str, object], ...]) -> tuple[tuple[str, str], ...]:
    """Return the variables of a child that is activated; it puts in its pid itself, as nobody knows it before."""
    names = ":".join(name for name, _ in pairs)
    return (("LISTEN_PID", ""), ("LISTEN_FDS", str(len(pairs))), ("LISTEN_FDNAMES", names))


CHECKS = {"listen_fds": check_listen_fds}
