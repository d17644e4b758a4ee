"""What subcommands print with: tables, JSON, text from strangers, and an output that nobody reads to its end."""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def printable(text: str) -> str:
    r"""Return a text in which nothing moves the cursor or ends a line: a process chooses its own name.

    >>> printable("a\x1b[2J\n")
    'a\\x1b[2J\\n'
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows with their columns below one another; the last column is not filled up."""
    kept = [list(map(printable, row)) for row in rows]
    widths = [max((len(row[at]) for row in kept if at < len(row) - 1), default=0) for at in range(max(map(len, kept)))]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]]).rstrip()
        for row in kept
    )


def as_json(value: object) -> str:
    """Return a value as JSON with one key on each line."""
    return json.dumps(value, indent=2)


def write(make: Callable[[], str]) -> None:
    """Print a text, to a terminal, a file or a pipe whose reader may have gone (`| head`)."""
    text = make()
    try:
        sys.stdout.write(text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
