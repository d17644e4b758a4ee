"""What is written to a child's stdin, at the pace at which the child reads it.

Invariants: an iterator is asked for its next item only when the one before has gone into the pipe; one that is slow is
asked for one item at a time, so that deadlines are looked at in between. While it blocks itself nothing can end it: it
runs in the caller's thread.
"""

from __future__ import annotations

import os
from _signal import SIG_BLOCK, SIG_DFL, SIG_SETMASK, SIGPIPE, getsignal, pthread_sigmask  # type: ignore[import-not-found]
from errno import EIO, EPIPE
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from fastproc._engine.fds import OwnedFd

    T = TypeVar("T")

FEED_SIZE = 1 << 20
"""Bytes fed at one go, so that a child which reads faster than we write cannot keep the reactor to itself."""

FEED_SECONDS = 0.005
"""The same in time, for an iterator that is slow with its items."""


class Feeder:
    """The input of a child: bytes, or an iterable of them that is asked for more only when the child has read.

    Attributes:
        failed: whether the iterator raised, so that what was written is not all.

    Raises:
        TypeError: an item is not bytes-like.
    """

    __slots__ = ("_chunk", "_count", "_items", "failed")

    def __init__(self, source: bytes | Iterable[bytes] | None) -> None:
        self._items: Iterator[bytes] | None = None
        self._chunk = memoryview(b"")
        self._count = 0
        self.failed = False
        if isinstance(source, bytes):
            self._chunk = memoryview(source)
        elif hasattr(source, "__aiter__"):
            raise TypeError("input: an asynchronous iterable can be fed by fastproc.aio.run() only")
        elif source is not None:
            self._items = iter(source)

    @property
    def asks(self) -> bool:
        """Whether an iterator would be asked for more, which may take any time."""
        return self._items is not None

    def write(self, fd: int) -> bool:
        """Write what the pipe takes now; True when there is nothing more to write, or nobody reads any more.

        A reader that has gone is no error: the child's status tells (GOTCHAS E4).

        Raises:
            BaseException: what the iterator raises, a BrokenPipeError of its own too.
        """
        room = FEED_SIZE
        until = monotonic() + FEED_SECONDS
        while room > 0:
            if not self._chunk:
                if not self._advance():
                    return True
                if monotonic() > until:
                    # A deadline may have passed meanwhile: it comes before this item, which is not lost.
                    return False
            try:
                done = write_quietly(fd, self._chunk)
            except BlockingIOError:
                return False
            except OSError as error:
                # EIO: a terminal that nobody has open any more (GOTCHAS E16).
                if error.errno in (EPIPE, EIO):
                    return True
                raise
            self._chunk = self._chunk[done:]
            room -= done
        return False

    def _advance(self) -> bool:
        """Take the next item that is not empty; False when there is none."""
        if self._items is None:
            return False
        self.failed = True
        for item in self._items:
            try:
                chunk = memoryview(item).cast("B")
            except TypeError:
                raise TypeError(f"input: item {self._count} must be bytes-like, not {type(item).__name__}") from None
            self._count += 1
            if chunk:
                self._chunk = chunk
                break
        else:
            self._items = None
        self.failed = False
        return self._items is not None


class Input:
    """What goes into the child's stdin.

    Attributes:
        done: whether all is written, or nobody reads it.
        failed: whether the source raised.
    """

    __slots__ = ("_feeder", "closes", "done", "end", "failed")

    def __init__(self, end: OwnedFd, source: bytes | Iterable[bytes], closes: bool) -> None:
        self.end = end
        self.closes = closes
        self.done = False
        self.failed = False
        self._feeder = Feeder(source)

    def write(self, _ready: int = 0) -> None:
        """Write what the pipe takes now."""
        self.failed = True
        self.done = self._feeder.write(self.end.number)
        self.failed = False


def write_quietly(fd: int, data: memoryview) -> int:
    """Do os.write(), and survive SIGPIPE where the host has set it back to its default (GOTCHAS E4).

    Raises:
        OSError: write(2); BrokenPipeError where nobody reads.
    """
    return quietly(os.write, fd, data)


def quietly(call: Callable[..., T], *args: object) -> T:
    """Do `call(*args)`, which writes to a pipe, and survive the SIGPIPE that it may raise."""
    if getsignal(SIGPIPE) != SIG_DFL:
        return call(*args)
    before = pthread_sigmask(SIG_BLOCK, (SIGPIPE,))
    try:
        return call(*args)
    except BrokenPipeError:
        if SIGPIPE not in before:
            # write(2) has made it pending for this very thread: taken away before the mask lets it in.
            from _signal import sigtimedwait

            sigtimedwait((SIGPIPE,), 0)
        raise
    finally:
        pthread_sigmask(SIG_SETMASK, before)
