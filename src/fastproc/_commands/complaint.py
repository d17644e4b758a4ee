"""What a subcommand prints when it does not do what it was asked."""

from __future__ import annotations

from fastproc._engine import standard
from fastproc._values.quoting import printable


def complain(who: str, what: object) -> None:
    """Print one line on stderr, whatever names are in it."""
    standard.say(f"python -m fastproc {who}: {printable(str(what))}")
