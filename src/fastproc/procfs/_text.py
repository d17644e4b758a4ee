"""The words that the files of /proc are made of, read strictly, and the one error about them. Pure."""

from __future__ import annotations

from fastproc.errors import ProcessError
from fastproc.procfs._absent import ERROR, NOT_IN_KERNEL, Absent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

    class _Rows(tuple[T, ...]): ...

    class _Table(dict[str, T]): ...

else:
    # Without typing, which costs more to import than all parsers.
    class _Rows(tuple):
        __slots__ = ()

        __class_getitem__ = classmethod(lambda cls, _kind: cls)

    class _Table(dict):
        __slots__ = ()

        __class_getitem__ = classmethod(lambda cls, _kind: cls)

    T = None

DIGITS = b"0123456789"
HEX = b"0123456789abcdefABCDEF"


class ProcfsError(ProcessError):
    """Base of what fastproc.procfs raises."""

    __module__ = "fastproc.procfs"


class ParseError(ProcfsError, ValueError):
    """A file of /proc does not have the form that the kernel gives it.

    Attributes:
        file: which one, as "stat" or "net/tcp".
        line: the number of the line, from 1.
        reason: what is wrong there.
        text: the line, at most 200 bytes of it.
    """

    __module__ = "fastproc.procfs"

    def __init__(self, file: str, line: int, reason: str, text: bytes = b"") -> None:
        """Take where and what."""
        super().__init__(file, line, reason, text[:200])
        self.file = file
        self.line = line
        self.reason = reason
        self.text = text[:200]

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}: {self.text!r}"


# What converters raise for text that is not as it should be.
BAD = (ValueError, IndexError, KeyError, OverflowError)


def blame(file: str, line: int, error: BaseException, text: bytes) -> ParseError:
    """Return the ParseError of what a converter raised."""
    if isinstance(error, ParseError):
        return error
    if isinstance(error, ValueError):
        reason = str(error)
    else:
        reason = f"{'there is no' if isinstance(error, KeyError) else 'too few fields:'} {error}"
    return ParseError(file, line, reason, text)


def number(word: bytes) -> int:
    """Return a decimal number without a sign. `int` would also take blanks, signs and underscores."""
    if not word.isdigit():
        raise ValueError(f"{word[:40]!r} is no number")
    return int(word)


def signed(word: bytes) -> int:
    """Return a decimal number."""
    return -number(word[1:]) if word[:1] == b"-" else number(word)


def hexa(word: bytes) -> int:
    """Return a hexadecimal number without "0x"."""
    if not word or word.strip(HEX):
        raise ValueError(f"{word[:40]!r} is no hexadecimal number")
    return int(word, 16)


def hex0x(word: bytes) -> int:
    """Return a hexadecimal number with "0x"."""
    if word[:2] != b"0x":
        raise ValueError(f"{word[:40]!r} is no hexadecimal number")
    return hexa(word[2:])


def octal(word: bytes) -> int:
    """Return an octal number."""
    if not word or word.strip(b"01234567"):
        raise ValueError(f"{word[:40]!r} is no octal number")
    return int(word, 8)


def real(word: bytes) -> float:
    """Return a number with a point, as 12.34."""
    whole, point, rest = word.partition(b".")
    if not whole.isdigit() or (point and not rest.isdigit()):
        raise ValueError(f"{word[:40]!r} is no number with a point")
    return float(word)


def kib(word: bytes) -> int:
    """Return the bytes that a size such as "12 kB" means: the kernel's kB has 1024."""
    if word[-3:] != b" kB":
        raise ValueError(f"{word[:40]!r} is no size in kB")
    return number(word[:-3].strip()) * 1024


def yes(word: bytes) -> bool:
    """Return whether it is 1 and not 0."""
    return bool((b"0", b"1").index(word)) if word in (b"0", b"1") else _no(word)


def _no(word: bytes) -> bool:
    raise ValueError(f"{word[:40]!r} is neither 0 nor 1")


def text(word: bytes) -> str:
    """Return bytes as text. What is no UTF-8 becomes surrogates: `procfs.raw` gives the bytes back."""
    return word.decode("utf-8", "surrogateescape")


def raw(word: str) -> bytes:
    """Return the bytes of a name, path or argument that a record holds as text."""
    return word.encode("utf-8", "surrogateescape")


raw.__module__ = "fastproc.procfs"


def numbers(word: bytes) -> tuple[int, ...]:
    """Return the numbers between blanks."""
    return tuple(map(number, word.split()))


def device(word: bytes) -> tuple[int, int]:
    """Return (major, minor) of "fe:00", which is hexadecimal."""
    major, minor = word.split(b":")
    return hexa(major), hexa(minor)


def cpus(word: bytes) -> tuple[int, ...]:
    """Return the numbers of a list such as "0-3,8"."""
    found: list[int] = []
    for part in word.split(b",") if word else ():
        first, dash, last = part.partition(b"-")
        start, end = number(first), number(last) if dash else number(first)
        if not start <= end < 1 << 20:
            raise ValueError(f"{part[:40]!r} is no range")
        found.extend(range(start, end + 1))
        if len(found) > 1 << 20:
            raise ValueError("too long a list")
    return tuple(found)


def unescape(word: bytes) -> bytes:
    r"""Undo the kernel's octal escapes, as \040 for a blank (mangle_path in fs/seq_file.c)."""
    if b"\\" not in word:
        return word
    parts = word.split(b"\\")
    done = [parts[0]]
    for part in parts[1:]:
        code = part[:3]
        if len(code) == 3 and not code.strip(b"01234567") and code[:1] <= b"3":
            done.append(bytes((int(code, 8),)) + part[3:])
        else:
            done.append(b"\\" + part)
    return b"".join(done)


def path(word: bytes) -> str:
    """Return a path whose blanks and backslashes are escaped."""
    return text(unescape(word))


def only(data: bytes, file: str, convert: Callable[[bytes], T]) -> T:
    """Return what the text of a file of one line means; the newline at its end may be missing.

    Raises:
        ParseError: it is no such text.
    """
    line = data[:-1] if data.endswith(b"\n") else data
    try:
        return convert(line)
    except BAD as error:
        raise blame(file, 1, error, line) from None


class Rows(_Rows[T]):
    """What the lines of a file mean: a tuple of those that could be read.

    Attributes:
        refused: for each line that could not be read, in order, the ParseError with its number and the reason.
    """

    __module__ = "fastproc.procfs"

    refused: tuple[ParseError, ...] = ()


def rows(data: bytes, file: str, convert: Callable[[bytes], T], skip: int = 0) -> Rows[T]:
    """Return what each line means, but the first `skip` and empty ones. One that is not as it should be is refused.

    Raises:
        ParseError: none is as it should be.
    """
    found: list[T] = []
    refused: list[ParseError] = []
    for count, line in enumerate(data.split(b"\n"), 1):
        if count > skip and line:
            try:
                found.append(convert(line))
            except BAD as error:
                refused.append(blame(file, count, error, line))
    if refused and not found:
        raise refused[0]
    result = Rows(found)
    if refused:
        result.refused = tuple(refused)
    return result


class Table(_Table[T]):
    """What the lines of a file mean by the name that each has: a dict of those that could be read.

    Attributes:
        refused: as in Rows.
    """

    __module__ = "fastproc.procfs"

    refused: tuple[ParseError, ...] = ()


def table(found: Rows[tuple[str, T]]) -> Table[T]:
    """Return rows of names and values as a table."""
    result = Table(found)
    if found.refused:
        result.refused = found.refused
    return result


def keyed(
    lines: Iterable[tuple[int, bytes]],
    file: str,
    table: Mapping[bytes, tuple[str, Callable[[bytes], Any]]],
    needed: Container[str] = (),
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of lines "Key: value" by their field's name, and those that the table does not know as text.

    A value that is not as the table says is Absent, with the reason; a line without a colon is passed over.

    Args:
        lines: with their numbers.
        file: whose they are.
        table: by key, the field's name and what reads its value.
        needed: fields that may not be wrong.

    Raises:
        ParseError: there is no value that is as the table says, and one that is not; or one that is needed is not.
    """
    values: dict[str, Any] = {}
    others: dict[str, str] = {}
    refused: list[ParseError] = []
    for count, line in lines:
        key, colon, value = line.partition(b":")
        known = table.get(key)
        try:
            if not colon:
                raise ValueError("no colon")
            if known is None:
                others[text(key)] = text(value.strip())
            else:
                # A name may begin and end with blanks: one tab is the kernel's, the rest its own.
                values[known[0]] = known[1](value[1:] if key == b"Name" else value.strip(b" \t"))
        except BAD as error:
            refused.append(blame(file, count, error, line))
            if known is not None:
                if known[0] in needed:
                    raise refused[-1] from None
                values[known[0]] = Absent(ERROR, str(refused[-1]))
    if refused and all(isinstance(value, Absent) for value in values.values()):
        raise refused[0]
    return values, others


def lines_of(data: bytes) -> list[tuple[int, bytes]]:
    """Return the lines that are not empty, each with its number."""
    return [(count, line) for count, line in enumerate(data.split(b"\n"), 1) if line]


def fill(values: dict[str, Any], file: str, *names: str) -> None:
    """Make absent what a file does not have, though every kernel's has it.

    Raises:
        ParseError: it has nothing of it.
    """
    if not any(name in values for name in names):
        raise ParseError(file, 1, f"there is no {names[0]}")
    for name in names:
        values.setdefault(name, Absent(NOT_IN_KERNEL, f"{file} has no such line"))


def require(values: Mapping[str, object], file: str, *names: str) -> None:
    """Check that what every kernel writes is there.

    Raises:
        ParseError: it is not.
    """
    for name in names:
        if name not in values:
            raise ParseError(file, 1, f"there is no {name}")
