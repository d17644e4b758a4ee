"""What subcommands print with: tables, JSON, text from strangers, and an output that nobody reads to its end."""

from __future__ import annotations

import sys

from fastproc._engine import standard
from fastproc._values.quoting import printable as printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows with their columns below one another; the last column is not filled up."""
    kept = [list(map(printable, row)) for row in rows]
    widths = [max((len(row[at]) for row in kept if at < len(row) - 1), default=0) for at in range(max(map(len, kept)))]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]]).rstrip()
        for row in kept
    )


def clip(text: str, width: int) -> str:
    """Return a text that takes at most so many columns of a terminal; characters of East Asia take two.

    >>> clip("abcdef", 3), clip("日本語", 5)
    ('abc', '日本')
    """
    if text.isascii():
        return text[:width]
    from unicodedata import combining, east_asian_width

    used = 0
    for at, char in enumerate(text):
        used += 0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1
        if used > width:
            return text[:at]
    return text


def size(value: float) -> str:
    """Return bytes in at most five places.

    >>> size(999), size(1536), size(10 * 2**20), size(3 * 2**40)
    ('999', '1.5K', '10.0M', '3.0T')
    """
    if value < 999.5:
        return f"{value:.0f}"
    for unit in "KMGTPE":
        value /= 1024
        if value < 999.5:
            return f"{value:.1f}{unit}" if value < 99.95 else f"{value:.0f}{unit}"
    return "huge"


def duration(seconds: float) -> str:
    """Return seconds as people read a time that has passed.

    >>> duration(5.25), duration(65), duration(3_700), duration(200_000)
    ('0:05.25', '1:05.00', '1:01:40', '2d07:33')
    """
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}.{int(seconds * 100) % 100:02}"
    if whole < 86_400:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    days = whole // 86_400
    return f"{days}d{whole // 3600 % 24:02}:{whole // 60 % 60:02}" if days < 100 else f"{days}d"


def as_json(value: object) -> str:
    """Return a value as JSON with one key on each line."""
    from json import dumps

    return dumps(value, indent=2)


def write(make: Callable[[], str]) -> bool:
    """Print a text, to a terminal, a file or a pipe; return False when its reader has gone (`| head`).

    Raises:
        Unwritable: standard output does not take it.
    """
    text = make()
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        standard.write("stdout", f"{text}\n".encode(encoding, "backslashreplace"))
    except BrokenPipeError:
        return False
    except OSError as error:
        raise Unwritable(error) from None
    return True


def tell(text: str) -> None:
    """Print a line about what was done. That it cannot be printed is one on standard error, and changes nothing."""
    try:
        write(lambda: text)
    except Unwritable as error:
        standard.say(str(error))


class Unwritable(Exception):
    """Standard output does not take what a command prints."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output: {error.strerror}")
