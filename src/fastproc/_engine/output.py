"""One output of a running child: what came from its pipe and was not yet taken, and how it is cut into lines.

Invariant: what was read is in the queue until it is handed out, or dropped by a limit and counted.
"""

from __future__ import annotations

from collections import deque
from operator import length_hint
from time import monotonic

from fastproc._engine.collecting import READ_SIZE
from fastproc._engine.fds import read_some, widen
from fastproc._values.capture import PIECE, UNIVERSAL, HeadTail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from fastproc._engine.capture import Tap
    from fastproc._engine.fds import OwnedFd
    from fastproc._values.capture import LineSplitter

    Item = tuple[float, int, bytes]

READ_LARGE = 2 * READ_SIZE
"""Bytes of a read once a pipe was full. Lines made of more at once have left the processor's cache when they are used
(5,000,000 of `seq`: 0.27 s by 256 KiB, 0.20 s by 128 KiB)."""


class Output:
    """What came from one pipe and was not yet handed out: (time, offset, data), oldest first.

    With a limit the queue holds its head; what comes when that is full is the tail, kept apart, of which the oldest is
    dropped. When the head is taken the tail is the queue: who takes what comes as it comes gets all of it.

    Attributes:
        tap: what else is done with all that is read; None for nothing.
        dropped: bytes that are lost.
    """

    __slots__ = (
        "_late",
        "_late_size",
        "_room",
        "_room_max",
        "_wide",
        "dropped",
        "end",
        "ended",
        "items",
        "lines",
        "name",
        "offset",
        "tap",
    )

    def __init__(self, name: str, end: OwnedFd, tap: Tap | None = None) -> None:
        self.name = name
        self.end = end
        self.tap = tap
        self.items: deque[Item] = deque()
        self._late: deque[Item] = deque()
        self._late_size = 0
        self.dropped = 0
        self.offset = 0
        self.ended = False
        self.lines: Lines | None = None
        self._room = READ_SIZE
        self._room_max = READ_LARGE
        self._wide = False

    def read(self, _ready: int = 0) -> bool:
        """Take what is there, or see the end, without blocking; False when there was nothing.

        Raises:
            BaseException: what the tap raises; what was read is in the queue.
        """
        data = read_some(self.end.number, self._room)
        if data is None:
            return False
        tap = self.tap
        if not data:
            self.ended = True
            if tap is not None:
                tap.finish()
            return True
        item = monotonic(), self.offset, data
        self.offset += len(data)
        if not self._wide and len(data) >= READ_SIZE:
            self._wide = True
            widen(self.end.number)
            if tap is None or tap.limit is None:
                self._room = self._room_max
        if tap is None:
            self.items.append(item)
            return True
        if tap.limit is None:
            self.items.append(item)
        else:
            self._keep(item, tap.limit.head, tap.limit.tail)
        tap.add(data)
        return True

    @property
    def held(self) -> bool:
        """Whether it shall not be read at the moment, because a copy is not taken."""
        return self.tap is not None and self.tap.full

    def _keep(self, item: Item, head: int, tail: int) -> None:
        items, late = self.items, self._late
        if not late and (not items or items[-1][1] + len(items[-1][2]) - items[0][1] < head):
            _put(items, item)
            return
        _put(late, item)
        self._late_size += len(item[2])
        while late and self._late_size - len(late[0][2]) >= tail:
            size = len(late.popleft()[2])
            self._late_size -= size
            self.dropped += size

    def refill(self) -> None:
        """Make the tail the queue, if all before it has been taken."""
        if self._late and not self.items:
            self.items.extend(self._late)
            self._late.clear()
            self._late_size = 0

    def peek(self) -> bytes:
        """Everything that was not taken."""
        return b"".join([*(item[2] for item in self.items), *(item[2] for item in self._late)])

    def take(self) -> bytes:
        """Take everything, up to the limit.

        Raises:
            ValueError: as cut().
        """
        self.uncut()
        pieces = [*(item[2] for item in self.items), *(item[2] for item in self._late)]
        self.items.clear()
        self._late.clear()
        self._late_size = 0
        if self.tap is None or self.tap.limit is None:
            return b"".join(pieces)
        kept = HeadTail(self.tap.limit.head, self.tap.limit.tail)
        for piece in pieces:
            kept.add(piece)
        self.dropped += kept.dropped
        return kept.value()

    def cut(self, key: tuple[Any, ...], splitter: LineSplitter) -> Lines:
        """Return how this stream is cut, going on where an earlier reading was left.

        Raises:
            ValueError: it was read in another way, and what is left of that cannot be made bytes again.
        """
        lines = self.lines
        if lines is None or lines.key != key:
            self.uncut()
            lines = self.lines = Lines(key, splitter)
            if key[1] is not None:
                # Text takes twice the memory; that of more lines at once goes back to the system each time.
                self._room = self._room_max = READ_SIZE
            lines.offset = lines.next = self.items[0][1] if self.items else self.offset
        return lines

    def uncut(self) -> None:
        """Make what was cut and not yet taken a chunk again.

        Raises:
            ValueError: as cut().
        """
        lines = self.lines
        if lines is None:
            return
        rest = lines.rest()
        if rest is None:
            raise ValueError(
                f"stream: {self.name} is being read in another way (text or limited lines); go on with that"
            )
        if rest:
            time, offset = self.items[0][:2] if self.items else (monotonic(), self.offset)
            self.items.appendleft((time, offset - len(rest), rest))
        self.lines = None


def _put(items: deque[Item], item: Item) -> None:
    """Append; small pieces are put together, as a limit is on memory: a million of one byte must not cost 200 each."""
    if items:
        time, offset, data = items[-1]
        if len(data) + len(item[2]) <= PIECE and offset + len(data) == item[1]:
            items[-1] = time, offset, data + item[2]
            return
    items.append(item)


class Lines:
    """How one stream is cut into lines, and the lines that are cut and not yet taken."""

    __slots__ = ("batch", "end", "finished", "key", "next", "offset", "splitter")

    def __init__(self, key: tuple[Any, ...], splitter: LineSplitter) -> None:
        self.key = key
        self.splitter = splitter
        self.batch: Iterator[Any] = iter(())
        self.finished = False
        # For events, whose lines are bytes with their ends.
        self.end = b"\n" if key[0] == UNIVERSAL else key[0] if isinstance(key[0], bytes) else key[0].encode("latin-1")
        self.offset = 0
        # Where the next piece begins, if nothing is dropped before it.
        self.next = 0

    def follows(self, offset: int, size: int) -> bool:
        """Whether a piece follows on the one before; it is taken then."""
        follows = offset == self.next
        self.next = offset + size
        return follows

    def rest(self) -> bytes | None:
        """Take what is left as bytes; None where it is no longer known which these were."""
        newline, encoding, _, keep_ends, longest, _ = self.key
        if encoding is None and newline != UNIVERSAL and longest is None:
            rest = b"".join(self.batch if keep_ends else (line + self.end for line in self.batch))
            return rest + (b"" if self.finished else b"".join(self.splitter.finish()))
        return b"" if self.finished and not length_hint(self.batch) else None
