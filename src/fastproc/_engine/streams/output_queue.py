"""One output of a running child: what came from its pipe and was not yet taken, and how it is cut into lines.

Invariant: what was read is in the queue until it is handed out, or dropped by a limit and counted.
"""

from __future__ import annotations

from collections import deque
from itertools import starmap
from operator import length_hint
from time import monotonic

from fastproc._engine.fds import READ_SIZE, read_some, widen
from fastproc._native import lines as native
from fastproc._values.capture import PIECE, HeadTail
from fastproc._values.lines import UNIVERSAL, Cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from fastproc._engine.fds import OwnedFd
    from fastproc._engine.streams.sink import Tap
    from fastproc._values.lines import LineSplitter

    Item = tuple[float, int, bytes]

CUT: Callable[[Any, Any, bool], Iterator[Any]] = native.Cut or Cut
"""What cuts a block into lines."""

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
        "_coming",
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
        # What was read and has no place in the queue yet: a signal handler that raises has come between.
        self._coming: deque[bytes] = deque()
        if tap is not None:
            tap.join(self._coming)

    def read(self, _ready: int = 0) -> bool:
        """Take what is there, or see the end, without blocking; False when there was nothing.

        Raises:
            BaseException: what the tap raises; what was read is in the queue.
        """
        tap = self.tap
        data = read_some(self.end.number, self._room, self._coming if tap is None else tap.fresh)
        if data is None:
            # What an interrupt has left.
            return self._coming_in()
        if not data:
            self.finish()
            return True
        if not self._wide and len(data) >= READ_SIZE:
            self._wide = True
            widen(self.end.number)
            if tap is None or tap.limit is None:
                self._room = self._room_max
        if tap is None:
            self._arrive()
            return True
        tap.share()
        self._arrive()
        tap.take()
        return True

    def finish(self) -> None:
        """It has ended, or is left to others.

        Raises:
            BaseException: what a callback raises. To be repeated then: the next lines are told.
        """
        if self.tap is not None:
            self.tap.share()
            self._arrive()
            self.tap.finish()
        else:
            self._arrive()
        self.ended = True

    @property
    def held(self) -> bool:
        """Whether it shall not be read at the moment, because a copy is not taken."""
        return self.tap is not None and self.tap.full

    def _coming_in(self) -> bool:
        tap = self.tap
        if tap is not None and tap.fresh:
            tap.share()
        if not self._coming:
            return False
        self._arrive()
        if tap is not None:
            tap.take()
        return True

    def _arrive(self) -> None:
        """Put what came into the queue, or where the limit has it.

        A signal handler may raise at any call. So all is calculated first, and then stored together with the one call
        that moves the piece: between stores, and before a call has returned, no handler runs.
        """
        coming = self._coming
        limit = None if self.tap is None else self.tap.limit
        while coming:
            offset = self.offset
            end = offset + len(coming[0])
            move = zip((monotonic(),), (offset,), starmap(coming.popleft, ((),)), strict=False)
            if limit is None:
                self.offset = end
                self.items.extend(move)
            elif end == offset:
                coming.popleft()
            else:
                self._keep(offset, end, limit.head, move)
                self._drop_late(limit.tail)

    def _keep(self, offset: int, end: int, head: int, move: Iterator[Item]) -> None:
        queue, late_size = self.items, self._late_size
        if self._late or (queue and offset - queue[0][1] >= head):
            queue = self._late
            late_size += end - offset
        joined = _joined(queue, offset, self._coming[0])
        if joined is None:
            self.offset, self._late_size = end, late_size
            queue.extend(move)
        else:
            self.offset, self._late_size = end, late_size
            queue[-1] = joined
            self._coming.popleft()

    def _drop_late(self, tail: int) -> None:
        late = self._late
        while late and self._late_size - len(late[0][2]) >= tail:
            size = len(late[0][2])
            left, dropped = self._late_size - size, self.dropped + size
            self._late_size, self.dropped = left, dropped
            late.popleft()

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


def _joined(items: deque[Item], offset: int, data: bytes) -> Item | None:
    """The last item and the next piece, if both are small; else None.

    A limit is on memory: a million pieces of one byte must not cost 200 each.
    """
    if items:
        time, begin, before = items[-1]
        if len(before) + len(data) <= PIECE and begin + len(before) == offset:
            return time, begin, before + data
    return None


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
            cut = getattr(self.batch, "rest", None)
            whole = keep_ends or self.finished
            rest = cut() if cut else b"".join(self.batch if whole else (line + self.end for line in self.batch))
            return rest + (b"" if self.finished else b"".join(self.splitter.finish()))
        return b"" if self.finished and not length_hint(self.batch) and not self.splitter.waits else None
