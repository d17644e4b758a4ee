"""What becomes of a child's output: cut into lines, or kept only in part. Pure: bytes in, items out.

Invariant: without a limit nothing is lost and nothing changes its place, however the bytes are cut into pieces.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections import deque
from io import BytesIO, IncrementalNewlineDecoder, StringIO
from itertools import starmap

from fastproc._values.options import check_int
from fastproc._values.redirect import MEMFD, check_path
from fastproc.errors import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NamedTuple

    class Event(NamedTuple):
        """One piece of output and where it comes from.

        Attributes:
            stream: "stdout" or "stderr".
            time: monotonic seconds at which it was read.
            offset: bytes of the stream before it.
            data: the line or chunk, as bytes or text.
        """

        stream: str
        time: float
        offset: int
        data: Any
else:
    from collections import namedtuple

    Event = namedtuple("Event", ("stream", "time", "offset", "data"), module=__name__)
    Event.__doc__ = "One piece of output: its stream, monotonic time of reading, byte offset in the stream, data."

UNIVERSAL = "universal"
OVER = ("split", "truncate", "raise")
POLICIES = ("discard", "stop", "raise")
SIZE_MAX = 2**62

PIECE = 4096
"""Bytes up to which small pieces are put together."""


class LineTooLong(ProcessError, ValueError):
    """A line is longer than was allowed, and over="raise" was asked for.

    Attributes:
        start: the first `longest` bytes or characters of it.
    """

    def __init__(self, longest: int, start: bytes | str = b"") -> None:
        """Keep the limit and the beginning of the line."""
        super().__init__(longest, start)
        self.longest = longest
        self.start = start

    def __str__(self) -> str:
        """Tell the limit and how the line begins."""
        return f"a line is longer than {self.longest}; it begins {self.start[:60]!r}"


class OutputTooLarge(ProcessError):
    """An output has passed its CaptureLimit, and over="raise" was asked for. The child was stopped.

    Attributes:
        result: the Result, with what was kept.
        stream: "stdout" or "stderr".
    """

    def __init__(self, stream: str, result: Any) -> None:
        """Keep which stream it was, and the result."""
        super().__init__(stream, result)
        self.stream = stream
        self.result = result

    def __str__(self) -> str:
        """Tell the stream, and the command with how it ended."""
        return f"{self.stream} passed its limit: {self.result!r}"


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

    Attributes:
        error: the LineTooLong that the next feed() raises, when its line came with others before it; else None.

    Raises:
        ValueError, TypeError: an argument is not possible; its name comes first.
        LookupError: no such encoding.
    """

    __slots__ = ("_carry", "_decoder", "_end", "_join", "_keep", "_longest", "_over", "_size", "_skip", "error")

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
        self._decoder: Any = None
        if encoding is not None:
            self._decoder = getincrementaldecoder(encoding)(errors)
        self._end: Any = end if encoding is not None else end.encode("latin-1")
        if universal:
            # latin-1 maps every byte to itself, so that bytes can be translated by the same code.
            inner = self._decoder or getincrementaldecoder("latin-1")()
            decoder = IncrementalNewlineDecoder(inner, translate=True)
            self._decoder = decoder if encoding is not None else _Translated(decoder)
        self._join = self._end[:0].join
        self._keep = keep_ends
        self._longest = longest
        self._over = over
        # The unfinished line in pieces, so that one of a gigabyte is not copied for each of them.
        self._carry: list[Any] = []
        self._size = 0
        self._skip = False
        self.error: LineTooLong | None = None

    def feed(self, data: bytes) -> list[Any]:
        """Take the next piece and give the lines that it completes.

        Raises:
            LineTooLong: a line is too long; the splitter cannot go on.
            UnicodeDecodeError: what came is no text of the encoding.
        """
        if self.error is not None:
            raise self.error
        piece: Any = data if self._decoder is None else self._decoder.decode(data)
        return self._split(piece)

    def batch(self, data: bytes) -> Iterator[Any]:
        """Do feed() at less cost: the lines are made one by one, as they are asked for, where that is possible."""
        if not self._keep or self._longest is not None or self._end not in ("\n", b"\n"):
            return iter(self.feed(data))
        piece: Any = data if self._decoder is None else self._decoder.decode(data)
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
        return BytesIO(whole) if isinstance(whole, bytes) else StringIO(whole, "\n")

    def finish(self) -> list[Any]:
        """Give what is left at the end of the stream: a last line without its end.

        Raises:
            LineTooLong, UnicodeDecodeError: as feed().
        """
        if self.error is not None:
            raise self.error
        lines = [] if self._decoder is None else self._split(self._decoder.decode(b"", True))
        if self._carry:
            rest = self._join(self._carry)
            self._carry = []
            self._size = 0
            lines.append(rest)
        return lines

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
        if self._size <= longest and not self._skip and (not lines or max(map(len, lines)) <= longest + extra):
            return lines
        found: list[Any] = []
        for line in lines:
            if self._skip:
                # The rest of a line whose beginning was given.
                self._skip = False
                continue
            if len(line) <= longest + extra:
                found.append(line)
                continue
            if self._over == "raise":
                return self._fail(found, line)
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
            if self._over == "raise":
                return self._fail(found, line)
            if self._over == "truncate":
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

    def _fail(self, found: list[Any], line: Any) -> list[Any]:
        assert self._longest is not None
        self.error = LineTooLong(self._longest, line[: self._longest])
        if not found:
            raise self.error
        return found


class _Translated:
    """Bytes with universal newlines, by a decoder that maps bytes to characters one to one."""

    __slots__ = ("_decoder",)

    def __init__(self, decoder: IncrementalNewlineDecoder) -> None:
        self._decoder = decoder

    def decode(self, data: bytes, final: bool = False) -> bytes:
        """Translate the next piece."""
        return self._decoder.decode(data, final).encode("latin-1")


class CaptureLimit:
    """How much of a captured output is kept.

    `run()` keeps that much of what the child writes; a Process from `start()` of what nobody has taken yet: an output
    that is being iterated comes whole.

    Args:
        head: bytes kept from its beginning.
        tail: bytes kept from its end.
        over: what happens when there are more: "discard" the middle, "stop" the child, or "raise" OutputTooLarge, after
            stopping it.
        spill: what gets all of the output, also what is not kept: the path of a file, which is made or emptied; a
            binary file, which is written at its place and left open; MEMFD for a file in memory, which the Result has
            as `stdout_spill` or `stderr_spill`; None for nothing. A pipe or socket that nobody reads holds the child,
            but no deadline, nor what `over` asks for.

    Raises:
        ValueError, TypeError: the argument's name comes first.
    """

    __slots__ = ("head", "over", "spill", "tail")

    head: int
    tail: int
    over: str
    spill: Any

    def __init__(self, head: int = 0, tail: int = 0, *, over: str = "discard", spill: Any = None) -> None:
        if over not in POLICIES:
            raise ValueError(f"over: must be one of {', '.join(POLICIES)}, not {over!r}")
        put = object.__setattr__
        put(self, "head", check_int("head", head, 0, SIZE_MAX))
        put(self, "tail", check_int("tail", tail, 0, SIZE_MAX))
        put(self, "over", over)
        put(self, "spill", _check_spill(spill))

    def _key(self) -> tuple[int, int, str, Any]:
        return self.head, self.tail, self.over, self.spill

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a CaptureLimit is immutable")

    def __repr__(self) -> str:
        spill = f", spill={self.spill!r}" if self.spill is not None else ""
        return f"CaptureLimit(head={self.head}, tail={self.tail}, over={self.over!r}{spill})"

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, CaptureLimit) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[object, ...]:
        return _limit, self._key()


def _limit(head: int, tail: int, over: str, spill: Any) -> CaptureLimit:
    return CaptureLimit(head, tail, over=over, spill=spill)


def _check_spill(spill: Any) -> Any:
    if spill is None or spill is MEMFD:
        return spill
    if isinstance(spill, (str, bytes)) or hasattr(spill, "__fspath__"):
        return check_path("spill", spill)
    if hasattr(spill, "encoding"):
        raise TypeError("spill: must be a binary file: open it with mode 'wb'")
    if callable(getattr(spill, "write", None)):
        return spill
    raise TypeError(f"spill: must be a path, a binary file, MEMFD or None, not {type(spill).__name__}")


class HeadTail:
    """The beginning and the end of a stream of bytes; holds their sizes and one piece more.

    Attributes:
        size: bytes that came.
        fresh: what came and was not taken yet.
    """

    __slots__ = ("_head", "_head_room", "_pieces", "_tail", "_tail_size", "fresh", "size")

    def __init__(self, head: int, tail: int) -> None:
        self.size = 0
        self.fresh: deque[bytes] = deque()
        self._head: list[bytes] = []
        self._head_room = head
        self._tail = tail
        self._tail_size = 0
        self._pieces: deque[bytes] = deque()

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        self.fresh.append(data)
        self.take()

    def take(self) -> None:
        """Take what is in `fresh`.

        A signal handler may raise at any call, but neither between two stores nor before a call has returned: what
        belongs together is stored just before the one call that moves the piece.
        """
        fresh, pieces, tail = self.fresh, self._pieces, self._tail
        while fresh:
            data, room = fresh[0], self._head_room
            length = len(data)
            move = starmap(fresh.popleft, ((),))
            if length <= room:
                self.size, self._head_room = self.size + length, room - length
                self._head.extend(move)
            elif room:
                part, rest = data[:room], data[room:]
                self.size, self._head_room, fresh[0] = self.size + room, 0, rest
                self._head.append(part)
            elif not tail:
                self.size += length
                fresh.popleft()
            elif length > tail:
                rest = data[-tail:]
                self.size, fresh[0] = self.size + length - tail, rest
            elif pieces and len(pieces[-1]) + length <= PIECE:
                # Small pieces are put together: ten million of one byte must not cost fifty each.
                joined = pieces[-1] + data
                self.size, self._tail_size, pieces[-1] = self.size + length, self._tail_size + length, joined
                fresh.popleft()
            else:
                self.size, self._tail_size = self.size + length, self._tail_size + length
                pieces.extend(move)
            while pieces and (left := self._tail_size - len(pieces[0])) >= tail:
                self._tail_size = left
                pieces.popleft()

    @property
    def dropped(self) -> int:
        """How many bytes between the beginning and the end are lost."""
        return max(0, self.size - sum(map(len, self._head)) - min(self._tail_size, self._tail))

    def value(self) -> bytes:
        """What is kept: all, or the beginning followed by the end."""
        self.take()
        if pieces := list(self._pieces):
            # One copy, not two: the limit may be most of the memory there is.
            pieces[0] = pieces[0][max(0, self._tail_size - self._tail) :]
        return b"".join((*self._head, *pieces))


def _check_limit(name: str, value: object) -> object:
    if value is None or isinstance(value, CaptureLimit):
        return value
    raise TypeError(f"{name}: must be a CaptureLimit, not {type(value).__name__}")


CHECKS = {"stdout_limit": _check_limit, "stderr_limit": _check_limit}
