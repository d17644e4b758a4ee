"""Quoting for a POSIX shell as `shlex.quote` does it, without its imports (shlex loads re)."""

from __future__ import annotations

from os import fsdecode, fspath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-")


def quote(text: str | bytes | PathLike[str] | PathLike[bytes]) -> str:
    r"""Return the text as one word of a POSIX shell.

    Bytes are decoded as the file system's names are, so `os.fsencode(quote(x))` is exact for any bytes. Use it only for
    a line that a person reads or a shell that must be used: fastproc itself never passes arguments through a shell.

    >>> quote("it's")
    '\'it\'"\'"\'s\''
    """
    if not isinstance(text, str):
        text = fsdecode(fspath(text))
    if text and _SAFE.issuperset(text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


def join(words: Iterable[str | bytes | PathLike[str] | PathLike[bytes]]) -> str:
    """Return the words as one line that a POSIX shell splits into the same words."""
    return " ".join(map(quote, words))


def shortened(words: Iterable[str], length: int) -> str:
    """Return the line cut to a length, for a message."""
    text = join(words)
    return text if len(text) <= length else f"{text[:length]}[...]"
