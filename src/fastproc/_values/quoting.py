"""Quoting for a POSIX shell as `shlex.quote` does it, without its imports (shlex loads re), and text for a reader.

Names, arguments and outputs are chosen by others. Wherever a person or a log reads them, control characters, invisible
characters and surrogates are escaped: `printable()` for a text, `pasteable()` for a word of a shell line.
"""

from __future__ import annotations

from os import fsdecode, fspath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike

_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-")
# An interactive shell looks for "!" also in these quotes, and ends them at an escaped quote when it does. No shell's
# word can hold a NUL: the mark for it is a syntax error.
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\047", "!": "\\041", "\0": "'(NUL)$'"}

CUT = " ([...])"
"""What follows a line that was cut: a syntax error to every shell, so that half a command is never run."""


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


quote.__module__ = "fastproc"


def pasteable(text: str | bytes | PathLike[str] | PathLike[bytes]) -> str:
    r"""Return the text as one word of bash, zsh or a shell of POSIX.1-2024, with nothing in it that does not print.

    As quote() where all of it prints. Otherwise as `$'...'` with octal escapes of the bytes, which has the same meaning
    in every locale.

    >>> print(pasteable("a\x1b[2J"))
    $'a\033[2J'
    """
    if not isinstance(text, str):
        text = fsdecode(fspath(text))
    if text.isprintable():
        # zsh replaces a word that begins with "=" by the path of a program.
        return f"'{text}'" if text[:1] == "=" != text and _SAFE.issuperset(text) else quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(char: str) -> str:
    named = _NAMED.get(char)
    if named is not None:
        return named
    if char.isprintable():
        return char
    try:
        data = char.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = char.encode("utf-8", "surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in data)


def join(words: Iterable[str | bytes | PathLike[str] | PathLike[bytes]]) -> str:
    """Return the words as one line that a POSIX shell splits into the same words."""
    return " ".join(map(quote, words))


def joined(words: Iterable[str | bytes | PathLike[str] | PathLike[bytes]]) -> str:
    """Return the words as one line for a reader, which bash splits into the same words; see pasteable()."""
    return " ".join(map(pasteable, words))


def shortened(words: Iterable[str], length: int) -> str:
    """Return the line for a reader, cut to a length, for a message."""
    return cut(joined(words), length)


def cut(line: str, length: int) -> str:
    """Return a shell line cut to a length; the mark behind it makes a shell refuse what is left."""
    return line if len(line) <= length else f"{line[:length]}{CUT}"


def printable(text: str, keep: str = "") -> str:
    r"""Return a text in which nothing moves the cursor, ends a line or is invisible.

    Args:
        text: what somebody else has chosen: a process's name, a path, an output.
        keep: characters that stay, such as "\n" where the lines are ours to show.

    >>> printable("a\x1b[2J\n")
    'a\\x1b[2J\\n'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else repr(char)[1:-1] for char in text)
