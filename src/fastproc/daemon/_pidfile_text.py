"""The text of a pid file: writing it, and reading it without trust. Pure.

The first line is the pid alone, for programs that expect only a number. The second line has the start time by the
kernel's clock, and the boot, so that the pid can be verified (GOTCHAS D1). A file is ours only if `format_pid_file`
could have written it exactly. A file with only a number is another program's pid file, or is not a pid file.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Recorded(NamedTuple):
        """The contents of a pid file. See below."""

        pid: int
        start: int
        boot: str
        keeper: int = 0
        keeper_start: int = 0

else:
    from collections import namedtuple

    Recorded = namedtuple("Recorded", "pid start boot keeper keeper_start", defaults=(0, 0), module=__name__)
    Recorded.__doc__ = """The contents of a pid file.

Attributes:
    pid: the pid of the daemon.
    start: its start time in clock ticks since boot (proc_pid_stat(5)); -1 in a file of another program.
    boot: the id of the boot (/proc/sys/kernel/random/boot_id).
    keeper: the pid of the process that holds the lock for the daemon; 0 if the daemon holds the lock.
    keeper_start: the start time of that process.
"""

SIZE_MAX = 512
"""Maximum size of a pid file in bytes."""

_NUMBERS = {"start": "start", "keeper": "keeper", "keeper-start": "keeper_start"}


def format_pid_file(recorded: Recorded) -> bytes:
    r"""Return the content of a pid file.

    >>> format_pid_file(Recorded(321, 4500, "ab-cd"))
    b'321\nstart=4500 boot=ab-cd\n'
    """
    line = f"start={recorded.start} boot={recorded.boot}"
    if recorded.keeper:
        line += f" keeper={recorded.keeper} keeper-start={recorded.keeper_start}"
    return f"{recorded.pid}\n{line}\n".encode("ascii")


def is_ours(recorded: Recorded) -> bool:
    """Whether a pid file was written by fastproc."""
    return recorded.start >= 0 and bool(recorded.boot)


def parse_pid_file(data: bytes) -> Recorded | None:
    r"""Return the contents of a pid file of fastproc or another program; None for an empty file.

    >>> parse_pid_file(b"321\nstart=4500 boot=ab-cd\n").pid
    321
    >>> is_ours(parse_pid_file(b"321\n"))
    False

    Raises:
        ValueError: the data are not a pid file, or name a process that must never be signalled.
    """
    if not data:
        return None
    if len(data) > SIZE_MAX:
        raise ValueError(f"{_NOT_ONE}: it has more than {SIZE_MAX} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(f"{_NOT_ONE}: it is not text") from None
    first, _, rest = text.partition("\n")
    pid = _number("the pid", first.strip())
    if pid <= 1:
        # GOTCHAS D17: for kill(2), 0 and negative numbers are process groups or all processes. Process 1 is init.
        raise ValueError(f"it names process {pid}, which is never a daemon's")
    if not rest.strip():
        return Recorded(pid, -1, "")
    facts: dict[str, int] = {"start": -1}
    boot = ""
    for word in rest.split():
        name, _, value = word.partition("=")
        if name in _NUMBERS:
            facts[_NUMBERS[name]] = _number(name, value)
        elif name == "boot":
            boot = value
    if facts.get("keeper", 2) <= 1:
        raise ValueError(f"it names process {facts['keeper']} as the keeper")
    found = Recorded(pid, boot=boot, **facts)
    if not is_ours(found) or format_pid_file(found) != data:
        raise ValueError(f"{_NOT_ONE}: its second line is not in fastproc's format")
    return found


_NOT_ONE = "it is not a pid file"


def _number(name: str, text: str) -> int:
    # int() would accept "+1", "1_0", " 1" and digits of other scripts.
    digits = text[1:] if text.startswith("-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{_NOT_ONE}: {name} is not a number: {text[:20]!r}")
    number = int(text) if len(digits) < 20 else 2**63
    if number >= 2**63 or (name != "start" and number >= 2**31):
        raise ValueError(f"{name} is too large: {text[:20]}")
    return number
