"""A child's output cut into lines. Pure: bytes in, lines out.

Invariant: without a limit nothing is lost and nothing changes its place, however the bytes are cut into pieces.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections import deque
from io import BytesIO, IncrementalNewlineDecoder, StringIO
from operator import length_hint

from fastproc.errors import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

UNIVERSAL = "universal"
OVER = ("split", "truncate", "raise")


class LineTooLong(ProcessError, ValueError):
    """A line is longer than was allowed, and over="raise" was asked for.

    Attributes:
        start: the first `longest` bytes or characters of it.
    """

    __module__ = "fastproc"

    def __init__(self, longest: int, start: bytes | str = b"") -> None:
        """Keep the limit and the beginning of the line."""
        super().__init__(longest, start)
        self.longest = longest
        self.start = start

    def __str__(self) -> str:
        """Tell the limit and how the line begins."""
        return f"a line is longer than {self.longest}; it begins {self.start[:60]!r}"


class Cut:
    r"""The lines of a block, one after the other; the last one may have no end.

    >>> list(Cut(b"a\nb\n", b"\n"))
    [b'a', b'b']

    The same in C (csrc/python/lines.c) makes each when it is asked for, at less cost.

    Args:
        block: bytes or str.
        end: the one byte or character that ends a line.
        keep_ends: whether a line keeps its end.

    Raises:
        TypeError, ValueError: an argument is not possible.
    """

    __slots__ = ("_block", "_end", "_file", "_lines")

    def __init__(self, block: Any, end: Any, keep_ends: bool = False) -> None:
        if type(block) not in (bytes, str) or not isinstance(end, type(block)):
            raise TypeError("block, end: must be both bytes or both str")
        if len(end) != 1:
            raise ValueError("end: must be one byte or character")
        self._block = block
        self._end = end
        self._file: BytesIO | StringIO | None = None
        self._lines: Iterator[Any]
        if keep_ends and end in ("\n", b"\n"):
            self._lines = self._file = BytesIO(block) if isinstance(block, bytes) else StringIO(block, "\n")
            return
        lines = block.split(end)
        rest = lines.pop()
        if keep_ends:
            lines = [line + end for line in lines]
        if rest:
            lines.append(rest)
        self._lines = iter(lines)

    def __iter__(self) -> Iterator[Any]:
        return self._lines

    def __next__(self) -> Any:
        return next(self._lines)

    def __length_hint__(self) -> int:
        if self._file is None:
            return length_hint(self._lines)
        at = self._file.tell()
        return int(self._block.count(self._end, at)) + (at < len(self._block) and not self._block.endswith(self._end))

    def rest(self) -> Any:
        """Give what no line was made of yet, as one; nothing is left then."""
        number = length_hint(self)
        for _ in self._lines:
            pass
        if not number:
            return self._end[:0]
        skipped = self._block.count(self._end) + (not self._block.endswith(self._end)) - number
        return self._block.split(self._end, skipped)[skipped]


class LineSplitter:
    r"""Pieces of bytes become lines.

    Args:
        newline: the one byte or character that ends a line, such as "\n" or "\0"; "universal": "\n", "\r\n" and "\r".
        encoding: lines are text of this encoding; None for bytes.
        errors: of the decoder, as bytes.decode() has it.
        keep_ends: whether a line keeps its end ("\n" where that is universal).
        longest: bytes or characters that a line may have without its end; None for any number.
        over: what becomes of a longer one: "split": it is given in pieces, "truncate": its rest is dropped, "raise":
            LineTooLong, after the lines before it.

    A line that is too long, or no text of the encoding, is an error in its place: the lines before it are given, then
    it is raised once, and the lines behind it follow. Nothing but that line is lost, and its bytes are in the error.

    Attributes:
        error: what the next call raises, when the line that it is about came with others before it; else None.

    Raises:
        ValueError, TypeError: an argument is not possible; its name comes first.
        LookupError: no such encoding.
    """

    __slots__ = (
        *(
            "_bad",
            "_carry",
            "_decoder",
            "_end",
            "_errors",
            "_encoding",
            "_fault",
            "_join",
            "_keep",
            "_later",
            "_longest",
            "_over",
        ),
        *("_size", "_skip", "_universal", "error"),
    )

    def __init__(
        self,
        newline: str | bytes = "\n",
        *,
        encoding: str | None = None,
        errors: str = "strict",
        keep_ends: bool = False,
        longest: int | None = None,
        over: str = "split",
    ) -> None:
        universal = newline == UNIVERSAL
        if not universal and (not isinstance(newline, (str, bytes)) or len(newline) != 1 or newline in ("\r", b"\r")):
            raise ValueError(f'newline: must be one character but "\\r", or "universal", not {newline!r}')
        if over not in OVER:
            raise ValueError(f"over: must be one of {', '.join(OVER)}, not {over!r}")
        if longest is not None and (isinstance(longest, bool) or not isinstance(longest, int) or longest < 1):
            raise ValueError(f"longest: must be an int of 1 or more, or None, not {longest!r}")
        end = "\n" if universal else newline.decode("latin-1") if isinstance(newline, bytes) else newline
        self._encoding = encoding
        self._errors = errors
        self._universal = universal
        self._decoder: Any = self._make_decoder(errors)
        self._end: Any = end if encoding is not None else end.encode("latin-1")
        self._join = self._end[:0].join
        self._keep = keep_ends
        self._longest = longest
        self._over = over
        # The unfinished line in pieces, so that one of a gigabyte is not copied for each of them.
        self._carry: list[Any] = []
        self._size = 0
        self._skip = False
        # Whether undecodable bytes were met: from then on they are marked, and looked for in each line.
        self._bad = False
        # Whether an error has been put among lines.
        self._fault = False
        # Lines that come behind an error, and further errors among them.
        self._later: deque[Any] = deque()
        self.error: LineTooLong | UnicodeDecodeError | None = None

    def _make_decoder(self, errors: str) -> Any:
        decoder: Any = None
        if self._encoding is not None:
            decoder = getincrementaldecoder(self._encoding)(errors)
        if not self._universal:
            return decoder
        # latin-1 maps every byte to itself, so that bytes can be translated by the same code.
        inner = decoder or getincrementaldecoder("latin-1")()
        decoder = IncrementalNewlineDecoder(inner, translate=True)
        return decoder if self._encoding is not None else _Translated(decoder)

    @property
    def waits(self) -> bool:
        """Whether resume() has something to give or to raise."""
        return bool(self._later) or self.error is not None

    def resume(self) -> list[Any]:
        """Raise the error that waits; else give the lines behind the last one.

        Raises:
            LineTooLong, UnicodeDecodeError: as feed().
        """
        return self._sound([])

    def feed(self, data: bytes) -> list[Any]:
        """Take the next piece and give the lines that it completes.

        Raises:
            LineTooLong: a line is too long. The next call goes on behind it.
            UnicodeDecodeError: a line is no text of the encoding; its `object` has the bytes. The next call goes on
                behind it.
        """
        return self._sound(self._split(data if self._decoder is None else self._decode(data)))

    def _sound(self, lines: list[Any]) -> list[Any]:
        """Give lines up to the first error among those that wait and these; raise an error in its turn."""
        if self._bad:
            lines = [_checked_text(line, self._encoding) for line in lines]
        error = self.error
        if not self._bad and not self._fault:
            return lines
        later = self._later
        later += lines
        if error is None:
            sound: list[Any] = []
            while later and not isinstance(later[0], Exception):
                sound.append(later.popleft())
            if not later:
                return sound
            error = later.popleft()
            if sound:
                self.error = error
                return sound
        self.error = None
        raise error

    def _decode(self, data: bytes, final: bool = False) -> Any:
        """Decode the next piece; undecodable bytes are marked.

        Raises:
            UnicodeDecodeError: the encoding's decoder cannot go on behind an error.
        """
        state = self._decoder.getstate() if self._encoding is not None else None
        try:
            return self._decoder.decode(data, final)
        except UnicodeDecodeError:
            if self._bad:
                raise
            marking = self._make_decoder(_marking(self._errors))
            marking.setstate(state)
            text = marking.decode(data, final)
            self._decoder = marking
            self._bad = True
            return text

    def batch(self, data: bytes, cut: Callable[[Any, Any, bool], Iterator[Any]] = Cut) -> Iterator[Any]:
        """Do feed() at less cost: the lines are made one by one, as they are asked for, where that is possible.

        Args:
            data: the next piece.
            cut: what cuts complete lines: Cut, or its like.
        """
        if self._longest is not None or self._bad:
            return iter(self.feed(data))
        piece: Any = data if self._decoder is None else self._decode(data)
        if self._bad:
            return iter(self._sound(self._split(piece)))  # type: ignore[unreachable]
        size = piece.rfind(self._end) + 1
        if not size:
            if piece:
                self._add(piece)
            return iter(())
        whole = piece[:size]
        if self._carry:
            whole = self._join((*self._carry, whole))
            self._carry = []
            self._size = 0
        if size < len(piece):
            self._add(piece[size:])
        return cut(whole, self._end, self._keep)

    def finish(self) -> list[Any]:
        """Give what is left at the end of the stream: a last line without its end.

        Raises:
            LineTooLong, UnicodeDecodeError: as feed().
        """
        lines = [] if self._decoder is None else self._split(self._decode(b"", True))
        if self._carry:
            rest = self._join(self._carry)
            self._carry = []
            self._size = 0
            lines.append(rest)
        return self._sound(lines)

    def _split(self, piece: Any) -> list[Any]:
        end = self._end
        if end not in piece:
            if piece:
                self._add(piece)
            return self._checked([]) if self._longest is not None else []
        if self._longest is None:
            begun, self._carry = self._carry, []
            self._size = 0
            lines = self._lines(piece)
            if begun:
                # Only the line that was begun is joined.
                lines[0] = self._join((*begun, lines[0]))
            return lines
        # With a limit the carry is never longer than it.
        self._carry.append(piece)
        piece = self._join(self._carry)
        self._carry = []
        self._size = 0
        return self._checked(self._lines(piece))

    def _lines(self, piece: Any) -> list[Any]:
        """Cut at every end, and carry what follows the last one."""
        end = self._end
        if self._keep and end in ("\n", b"\n"):
            lines: list[Any] = (BytesIO(piece) if isinstance(piece, bytes) else StringIO(piece, "\n")).readlines()
            if lines and not lines[-1].endswith(end):
                self._add(lines.pop())
            return lines
        lines = piece.split(end)
        rest = lines.pop()
        if rest:
            self._add(rest)
        return [line + end for line in lines] if self._keep else lines

    def _add(self, piece: Any) -> None:
        self._carry.append(piece)
        self._size += len(piece)

    def _checked(self, lines: list[Any]) -> list[Any]:
        """Apply the limit to complete lines and to the carried one."""
        longest = self._longest
        assert longest is not None
        extra = 1 if self._keep else 0
        if self._bad:
            # Before a mark could be cut.
            lines = [_checked_text(line, self._encoding) for line in lines]
        elif self._size <= longest and not self._skip and (not lines or max(map(len, lines)) <= longest + extra):
            return lines
        found: list[Any] = []
        for line in lines:
            if self._skip:
                # The rest of a line whose beginning was given.
                self._skip = False
                continue
            if isinstance(line, Exception):
                found.append(line)
                continue
            if len(line) <= longest + extra:
                found.append(line)
                continue
            if self._over == "raise":
                found.append(LineTooLong(longest, line[:longest]))
                self._fault = True
                continue
            if self._over == "truncate":
                found.append(line[:longest] + self._end if self._keep else line[:longest])
                continue
            body = len(line) - extra
            found.extend(line[at : at + longest] for at in range(0, body - longest, longest))
            found.append(line[(body - 1) // longest * longest :])
        if self._skip:
            self._carry = []
            self._size = 0
        elif self._size > longest:
            line = self._join(self._carry)
            checked = _checked_text(line, self._encoding) if self._bad else line
            if isinstance(checked, Exception) or self._over == "raise":
                found.append(checked if isinstance(checked, Exception) else LineTooLong(longest, line[:longest]))
                self._fault = True
                self._skip = True
                line = line[:0]
            elif self._over == "truncate":
                found.append(line[:longest] + self._end if self._keep else line[:longest])
                self._skip = True
                line = line[:0]
            else:
                # The last piece stays, even when it is full: its end may be the next character.
                keep = (len(line) - 1) // longest * longest
                found.extend(line[at : at + longest] for at in range(0, keep, longest))
                line = line[keep:]
            self._carry = [line] if line else []
            self._size = len(line)
        return found


_MARK = "\udbff\udbff"
"""What stands before each undecodable byte: two surrogates that no decoder gives one behind the other."""

_BYTES = 0xDC00


def _marking(errors: str) -> str:
    """Return the name of an error handler that marks the bytes that the named one refuses."""
    from codecs import lookup_error, register_error

    handler = lookup_error(errors)

    def mark(error: UnicodeError) -> tuple[str | bytes, int]:
        assert isinstance(error, UnicodeDecodeError)
        try:
            return handler(error)
        except UnicodeDecodeError:
            bad = error.object[error.start : error.end]
            return "".join(_MARK + chr(_BYTES + byte) for byte in bad), error.end

    name = f"fastproc.{errors}"
    register_error(name, mark)
    return name


def _checked_text(line: Any, encoding: str | None) -> Any:
    """Return a line, or in the place of one with undecodable bytes the error that says so."""
    if isinstance(line, Exception) or _MARK not in line:
        return line
    assert encoding is not None
    before, *pieces = line.split(_MARK)
    data = before.encode(encoding, "surrogatepass")
    start = len(data)
    parts = [bytes((ord(piece[0]) - _BYTES,)) + piece[1:].encode(encoding, "surrogatepass") for piece in pieces]
    return UnicodeDecodeError(encoding, b"".join((data, *parts)), start, start + 1, "undecodable bytes in a line")


class _Translated:
    """Bytes with universal newlines, by a decoder that maps bytes to characters one to one."""

    __slots__ = ("_decoder",)

    def __init__(self, decoder: IncrementalNewlineDecoder) -> None:
        self._decoder = decoder

    def decode(self, data: bytes, final: bool = False) -> bytes:
        """Translate the next piece."""
        return self._decoder.decode(data, final).encode("latin-1")
