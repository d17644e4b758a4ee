"""Strict converters for the words in the files of /proc, and their exception. Pure."""

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
    # Importing typing would cost more than all parsers.
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
    """The base class of the exceptions of fastproc.procfs."""

    __module__ = "fastproc.procfs"


class ParseError(ProcfsError, ValueError):
    """A file of /proc does not have the kernel's format.

    Attributes:
        file: the file, such as "stat" or "net/tcp".
        line: the number of the line, starting at 1.
        reason: what is wrong in the line.
        text: the first 200 bytes of the line.
    """

    __module__ = "fastproc.procfs"

    def __init__(self, file: str, line: int, reason: str, text: bytes = b"") -> None:
        """Store the place and the reason."""
        super().__init__(file, line, reason, text[:200])
        self.file = file
        self.line = line
        self.reason = reason
        self.text = text[:200]

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}: {self.text!r}"


# The exceptions of converters for invalid text.
BAD = (ValueError, IndexError, KeyError, OverflowError)


def blame(file: str, line: int, error: BaseException, text: bytes) -> ParseError:
    """Return a ParseError for an exception of a converter."""
    if isinstance(error, ParseError):
        return error
    if isinstance(error, ValueError):
        reason = str(error)
    else:
        reason = f"{'there is no' if isinstance(error, KeyError) else 'too few fields:'} {error}"
    return ParseError(file, line, reason, text)


def number(word: bytes) -> int:
    """Return a decimal number without a sign. `int` would also accept spaces, signs and underscores."""
    if not word.isdigit():
        raise ValueError(f"{word[:40]!r} is not a number")
    return int(word)


def signed(word: bytes) -> int:
    """Return a decimal number."""
    return -number(word[1:]) if word[:1] == b"-" else number(word)


def hexa(word: bytes) -> int:
    """Return a hexadecimal number without "0x"."""
    if not word or word.strip(HEX):
        raise ValueError(f"{word[:40]!r} is not a hexadecimal number")
    return int(word, 16)


def hex0x(word: bytes) -> int:
    """Return a hexadecimal number with "0x"."""
    if word[:2] != b"0x":
        raise ValueError(f"{word[:40]!r} is not a hexadecimal number")
    return hexa(word[2:])


def octal(word: bytes) -> int:
    """Return an octal number."""
    if not word or word.strip(b"01234567"):
        raise ValueError(f"{word[:40]!r} is not an octal number")
    return int(word, 8)


def real(word: bytes) -> float:
    """Return a decimal fraction such as 12.34."""
    whole, point, rest = word.partition(b".")
    if not whole.isdigit() or (point and not rest.isdigit()):
        raise ValueError(f"{word[:40]!r} is not a decimal fraction")
    return float(word)


def kib(word: bytes) -> int:
    """Return a size such as "12 kB" in bytes. The kernel's kB has 1024 bytes."""
    if word[-3:] != b" kB":
        raise ValueError(f"{word[:40]!r} is not a size in kB")
    return number(word[:-3].strip()) * 1024


def yes(word: bytes) -> bool:
    """Return True for 1 and False for 0."""
    return bool((b"0", b"1").index(word)) if word in (b"0", b"1") else _no(word)


def _no(word: bytes) -> bool:
    raise ValueError(f"{word[:40]!r} is neither 0 nor 1")


def text(word: bytes) -> str:
    """Return bytes as text. Bytes that are not UTF-8 become surrogates; `procfs.raw()` converts them back."""
    return word.decode("utf-8", "surrogateescape")


def raw(word: str) -> bytes:
    """Return the original bytes of a name, path or argument of a record."""
    return word.encode("utf-8", "surrogateescape")


raw.__module__ = "fastproc.procfs"


def numbers(word: bytes) -> tuple[int, ...]:
    """Return numbers that are separated by spaces."""
    return tuple(map(number, word.split()))


def device(word: bytes) -> tuple[int, int]:
    """Return (major, minor) for hexadecimal text such as "fe:00"."""
    major, minor = word.split(b":")
    return hexa(major), hexa(minor)


def cpus(word: bytes) -> tuple[int, ...]:
    """Return the numbers of a list such as "0-3,8"."""
    found: list[int] = []
    for part in word.split(b",") if word else ():
        first, dash, last = part.partition(b"-")
        start, end = number(first), number(last) if dash else number(first)
        if not start <= end < 1 << 20:
            raise ValueError(f"{part[:40]!r} is not a range")
        found.extend(range(start, end + 1))
        if len(found) > 1 << 20:
            raise ValueError("the list is too long")
    return tuple(found)


def unescape(word: bytes) -> bytes:
    r"""Decode the kernel's octal escapes, such as \040 for a space (mangle_path in fs/seq_file.c)."""
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
    """Decode a path whose spaces and backslashes are escaped."""
    return text(unescape(word))


def only(data: bytes, file: str, convert: Callable[[bytes], T]) -> T:
    """Convert a file with one line; the newline may be missing.

    Raises:
        ParseError: the data do not have the format of this file.
    """
    line = data[:-1] if data.endswith(b"\n") else data
    try:
        return convert(line)
    except BAD as error:
        raise blame(file, 1, error, line) from None


class Rows(_Rows[T]):
    """The converted lines of a file: a tuple of the valid lines.

    Attributes:
        refused: a ParseError for each invalid line, in order, with its number and the reason.
    """

    __module__ = "fastproc.procfs"

    refused: tuple[ParseError, ...] = ()


def rows(data: bytes, file: str, convert: Callable[[bytes], T], skip: int = 0) -> Rows[T]:
    """Convert each line except the first `skip` lines and empty lines. An invalid line is refused.

    Raises:
        ParseError: there are invalid lines and no valid one.
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
    """The converted lines of a file by name: a dict of the valid lines.

    Attributes:
        refused: as for Rows.
    """

    __module__ = "fastproc.procfs"

    refused: tuple[ParseError, ...] = ()


def table(found: Rows[tuple[str, T]]) -> Table[T]:
    """Convert rows of names and values to a table."""
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
    """Return the values of lines "Key: value" by field name, and the text of lines that the table does not have.

    An invalid value is Absent, with the reason. A line without a colon is skipped.

    Args:
        lines: the lines, with their numbers.
        file: the name of the file.
        table: for each key the name of the field, and the converter of its value.
        needed: fields that must be valid.

    Raises:
        ParseError: a needed field is invalid, or there are invalid lines and no valid one.
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
                # The kernel writes one tab. Further blanks at both ends belong to the name.
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
    """Return the non-empty lines, each with its number."""
    return [(count, line) for count, line in enumerate(data.split(b"\n"), 1) if line]


def fill(values: dict[str, Any], file: str, *names: str) -> None:
    """Set missing fields to Absent, although every kernel has them.

    Raises:
        ParseError: all of these fields are missing.
    """
    if not any(name in values for name in names):
        raise ParseError(file, 1, f"there is no {names[0]}")
    for name in names:
        values.setdefault(name, Absent(NOT_IN_KERNEL, f"{file} has no such line"))


def require(values: Mapping[str, object], file: str, *names: str) -> None:
    """Check that the fields that every kernel writes are present.

    Raises:
        ParseError: a field is missing.
    """
    for name in names:
        if name not in values:
            raise ParseError(file, 1, f"there is no {name}")
