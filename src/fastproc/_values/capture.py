"""What is kept of a child's output, and how a piece of it is told. Pure: bytes in, items out."""

from __future__ import annotations

from collections import deque
from itertools import starmap

from fastproc._values.checks import check_int, check_path
from fastproc._values.redirect import MEMFD
from fastproc.errors import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
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

    Event = namedtuple("Event", ("stream", "time", "offset", "data"), module="fastproc")
    Event.__doc__ = "One piece of output: its stream, monotonic time of reading, byte offset in the stream, data."

POLICIES = ("discard", "stop", "raise")
SIZE_MAX = 2**62

PIECE = 4096
"""Bytes up to which small pieces are put together."""


class OutputTooLarge(ProcessError):
    """An output has passed its CaptureLimit, and over="raise" was asked for. The child was stopped.

    Attributes:
        result: the Result, with what was kept.
        stream: "stdout" or "stderr".
    """

    __module__ = "fastproc"

    def __init__(self, stream: str, result: Any) -> None:
        """Keep which stream it was, and the result."""
        super().__init__(stream, result)
        self.stream = stream
        self.result = result

    def __str__(self) -> str:
        """Tell the stream, and the command with how it ended."""
        return f"{self.stream} passed its limit: {self.result!r}"


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

    __module__ = "fastproc"

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


_limit.__module__ = "fastproc"  # where pickles find it


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
