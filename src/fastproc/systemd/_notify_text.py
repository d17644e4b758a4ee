"""The messages of sd_notify(3), formatting and parsing, and the addresses of NOTIFY_SOCKET.

Every value is checked before it goes into a message: a newline in a value would start another assignment, such as
READY=1. This file uses no sockets, descriptors or clocks.
"""

from __future__ import annotations

from fastproc import errors
from fastproc._values.listen import check_fdname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MESSAGE_MAX = 4096
"""Maximum of bytes in a message. A service manager ignores longer messages (NOTIFY_BUFFER_MAX, which is PIPE_BUF)."""

FDS_MAX = 253
"""Maximum of descriptors in a message: the kernel's SCM_MAX_FD (unix(7))."""

USEC_MAX = 2**64 - 1

PID_MAX = 2**31 - 1

PATH_MAX = 108
"""Bytes of sun_path (unix(7))."""


def address(value: str) -> bytes:
    r"""Return the unix address for a value of NOTIFY_SOCKET: a path, or "@" and an abstract name.

    Raises:
        ValueError: the value is empty, relative, or longer than sun_path.
        Unsupported: the value begins with "vsock", the address of a virtual machine's host.
    """
    if value.startswith("vsock"):
        raise errors.Unsupported(f"NOTIFY_SOCKET: {value!r} is an AF_VSOCK address, which is not supported")
    raw = value.encode(errors="surrogateescape")
    if len(raw) < 2 or raw[:1] not in (b"/", b"@"):
        raise ValueError(f"NOTIFY_SOCKET: must be an absolute path or an abstract address with '@', not {value!r}")
    if len(raw) > (PATH_MAX if raw[:1] == b"@" else PATH_MAX - 1):
        raise ValueError(f"NOTIFY_SOCKET: {value!r} is longer than a unix socket's address can be (unix(7))")
    return b"\0" + raw[1:] if raw[:1] == b"@" else raw


def _flag(name: str, value: object) -> str | None:
    if value is not True and value is not False:
        raise TypeError(f"{name}: must be True or False, not {value!r}")
    return "1" if value else None


def _line(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be str, not {type(value).__name__}")
    if "\n" in value or "\0" in value:
        raise ValueError(f"{name}: must be one line: text after a newline would be another assignment")
    return value


def _number(low: int, high: int) -> Any:
    def check(name: str, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}: must be an int, not {type(value).__name__}")
        if not low <= value <= high:
            raise ValueError(f"{name}: {value} is not in the range {low} to {high}")
        return str(int(value))

    return check


def _watchdog(name: str, value: object) -> str | None:
    return "trigger" if value == "trigger" else _flag(name, value)


# In the order of sending. A status comes before the state that it explains.
_FIELDS: dict[str, tuple[str, Any]] = {
    "status": ("STATUS", _line),
    "errno": ("ERRNO", _number(0, 4095)),
    "buserror": ("BUSERROR", _line),
    "varlinkerror": ("VARLINKERROR", _line),
    "exit_status": ("EXIT_STATUS", _number(0, 255)),
    "mainpid": ("MAINPID", _number(2, PID_MAX)),
    "extend_timeout_usec": ("EXTEND_TIMEOUT_USEC", _number(1, USEC_MAX)),
    "watchdog": ("WATCHDOG", _watchdog),
    "watchdog_usec": ("WATCHDOG_USEC", _number(0, USEC_MAX)),
    "ready": ("READY", _flag),
    "reloading": ("RELOADING", _flag),
    "stopping": ("STOPPING", _flag),
}
STATES = ("ready", "reloading", "stopping")


def assignments(given: dict[str, Any], others: dict[str, str]) -> list[str]:
    """Return the lines of a message.

    Args:
        given: the arguments of notify() by name, without those that are None.
        others: further assignments by name.

    Raises:
        TypeError, ValueError: a value is invalid, or two states exclude each other; the message starts with the name.
    """
    states = [name for name in STATES if given.get(name) is True]
    if len(states) > 1:
        raise ValueError(f"{states[1]}: a service cannot be {states[0]} and {states[1]} at once (sd_notify(3))")
    lines = []
    for name, (key, check) in _FIELDS.items():
        if name in given:
            value = check(name, given[name])
            if value is not None:
                lines.append(f"{key}={value}")
    for key, value in others.items():
        if not key or not all(letter == "_" or (letter.isascii() and letter.isalnum()) for letter in key):
            raise ValueError(f"{key}: cannot be the name of an assignment")
        lines.append(f"{key}={_line(key, value)}")
    return lines


def store(name: str | None, poll: bool) -> list[str]:
    """Return the lines that store descriptors at the manager.

    Args:
        name: the name of the descriptors; None: the manager chooses a name.
        poll: whether the manager drops a descriptor that reports an error or hang-up.
    """
    lines = ["FDSTORE=1"]
    if name is not None:
        lines.append(f"FDNAME={check_fdname('fdname', name)}")
    if not poll:
        lines.append("FDPOLL=0")
    return lines


def message(lines: Iterable[str]) -> bytes:
    """Return the bytes of a message.

    Raises:
        ValueError: the message is longer than MESSAGE_MAX.
    """
    data = "\n".join(lines).encode("utf-8", "surrogateescape")
    if len(data) > MESSAGE_MAX:
        raise ValueError(f"notify: a message of {len(data)} bytes; a service manager reads {MESSAGE_MAX}")
    return data


def read(data: bytes) -> dict[str, str]:
    """Return the assignments of a message; of a repeated name, the last. Other lines are ignored."""
    found = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        key, equals, value = line.partition("=")
        if equals and key:
            found[key] = value
    return found


def usec(value: str | None) -> int | None:
    """Return a number of microseconds from a message or variable; None for other text, for 0 and for infinity."""
    if value is None or not value.isascii() or not value.isdigit():
        return None
    number = int(value)
    return number if 0 < number < USEC_MAX else None


def number(value: str | None, low: int, high: int, other: int | None) -> int | None:
    """Return a decimal number from a message; `other` if the text is not a number or is out of range."""
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 10:
        return other
    found = int(value)
    return found if low <= found <= high else other
