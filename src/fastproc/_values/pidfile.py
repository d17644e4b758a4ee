"""What stands in a pid file: writing it, and reading it without belief. Pure.

The first line is the number alone, for all who expect just that. The second makes it checkable: when the process began,
by the kernel's clock of this boot (HAZARDS D1).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Recorded(NamedTuple):
        """What a pid file says. See below."""

        pid: int
        start: int
        boot: str
        keeper: int = 0
        keeper_start: int = 0

else:
    from collections import namedtuple

    Recorded = namedtuple("Recorded", "pid start boot keeper keeper_start", defaults=(0, 0), module=__name__)
    Recorded.__doc__ = """What a pid file says.

Attributes:
    pid: the daemon.
    start: when it began, in clock ticks since the boot (proc_pid_stat(5)); -1 when that is not said.
    boot: which boot (/proc/sys/kernel/random/boot_id).
    keeper: the process that holds the lock for it; 0 when it does that itself.
    keeper_start: when that began.
"""

SIZE_MAX = 512
"""Bytes; what is longer is no pid file."""

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


def parse_pid_file(data: bytes) -> Recorded | None:
    r"""Return what a pid file says; None for an empty one.

    >>> parse_pid_file(b"321\nstart=4500 boot=ab-cd\n").pid
    321

    Raises:
        ValueError: it is no pid file, or names a process that nobody may signal; the text says why.
    """
    if len(data) > SIZE_MAX:
        raise ValueError(f"it has more than {SIZE_MAX} bytes")
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise ValueError("it is not text") from None
    if not any(line.strip() for line in lines):
        return None
    pid = _number("the pid", lines[0].strip())
    if pid <= 1:
        # HAZARDS D17: 0 and negative numbers are groups and everybody, 1 is init.
        raise ValueError(f"it names process {pid}, which is never a daemon's")
    facts: dict[str, int] = {"start": -1}
    boot = ""
    for word in " ".join(lines[1:]).split():
        name, _, value = word.partition("=")
        if name in _NUMBERS:
            facts[_NUMBERS[name]] = _number(name, value)
        elif name == "boot":
            boot = value
    if facts.get("keeper", 2) <= 1:
        raise ValueError(f"it names process {facts['keeper']} as the keeper")
    return Recorded(pid, boot=boot, **facts)


def _number(name: str, text: str) -> int:
    # int() would take "+1", "1_0", " 1" and digits of other scripts.
    digits = text[1:] if text.startswith("-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{name} is not a number: {text[:20]!r}")
    number = int(text) if len(digits) < 20 else 2**63
    if number >= 2**63 or (name != "start" and number >= 2**31):
        raise ValueError(f"{name} is too large: {text[:20]}")
    return number
