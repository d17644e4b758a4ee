"""One pipe's bytes to several readers, duplicated in the kernel where it can (tee(2), splice(2)).

Invariants: each reader gets every byte in order until it stops reading; the next bytes are taken when all have got the
last ones, so the slowest sets the pace; with no reader left the source is closed, so that its writer gets SIGPIPE.
"""

from __future__ import annotations

import os

from fastproc import _native
from fastproc._engine.fds import READ_SIZE, OwnedFd, make_pipe
from fastproc._engine.reactor import READ, WRITE
from fastproc._engine.streams.feeder import quietly, write_quietly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.reactor import Reactor

ROUNDS = 16
"""Rounds made at one go, so that a source that writes without end cannot keep the reactor to itself."""

SPLICE_FLAGS = getattr(os, "SPLICE_F_NONBLOCK", 2)


class Reader:
    """One of those who get the bytes.

    Attributes:
        end: the write end of its pipe.
        left: bytes in its private pipe, which come first.
        rest: bytes after those.
    """

    __slots__ = ("end", "left", "private_in", "private_out", "rest")

    def __init__(self, end: OwnedFd) -> None:
        self.end = end
        self.left = 0
        self.rest = memoryview(b"")
        self.private_out = OwnedFd()
        self.private_in = OwnedFd()

    @property
    def waiting(self) -> bool:
        """Whether it has not got everything yet."""
        return self.left > 0 or len(self.rest) > 0

    def close(self) -> None:
        """Let the reader see the end; forget what it did not get."""
        self.left = 0
        self.rest = memoryview(b"")
        for fd in (self.end, self.private_in, self.private_out):
            fd.close()


class Fanout:
    """Copies from one pipe to several.

    Args:
        reactor: where it waits.
        source: the read end, which this owns from now on.
        ends: the write ends, which this owns too.

    Attributes:
        in_kernel: whether tee(2) and splice(2) work here; False as soon as they are found not to.
    """

    __slots__ = ("_null", "_reactor", "_readers", "_source", "in_kernel")

    def __init__(self, reactor: Reactor, source: OwnedFd, ends: list[OwnedFd]) -> None:
        self._reactor = reactor
        self._source = source
        self._null = OwnedFd()
        self._readers = [Reader(end) for end in ends]
        self.in_kernel = hasattr(os, "splice") and _native.has_tee
        for fd in (source, *ends):
            os.set_blocking(fd.number, False)
        reactor.watch(source.number, READ, self._on_source)

    def close(self) -> None:
        """Give everything up. Harmless when repeated."""
        for fd in (self._source, *(reader.end for reader in self._readers)):
            if not fd.closed:
                self._reactor.unwatch(fd.number)
        for reader in self._readers:
            reader.close()
        self._readers.clear()
        self._source.close()
        self._null.close()

    def _on_source(self, _ready: int) -> None:
        for _ in range(ROUNDS):
            try:
                if not self._take():
                    self.close()
                    return
            except (BlockingIOError, InterruptedError):
                return
            if not self._give():
                return

    def _give(self) -> bool:
        """Hand on what was taken; True when all have it, so that more may be taken."""
        for reader in list(self._readers):
            self._pump(reader)
        waiting = False
        for reader in self._readers:
            if reader.waiting:
                waiting = True
                self._reactor.watch(reader.end.number, WRITE, self._on_room(reader))
        if not self._readers:
            self.close()
            return False
        if waiting:
            self._reactor.unwatch(self._source.number)
        return not waiting

    def _on_room(self, reader: Reader) -> Callable[[int], object]:
        def on_room(_ready: int) -> None:
            self._pump(reader)
            if not reader.waiting and not reader.end.closed:
                self._reactor.unwatch(reader.end.number)
            if not self._readers:
                self.close()
            elif not any(other.waiting for other in self._readers):
                self._reactor.watch(self._source.number, READ, self._on_source)

        return on_room

    # -- taking

    def _take(self) -> bool:
        """Take the next bytes for every reader; False at the end.

        Raises:
            BlockingIOError: there are none now.
        """
        if self.in_kernel:
            try:
                return self._tee()
            except (BlockingIOError, InterruptedError):
                raise
            except OSError:
                # Not in this kernel or sandbox, or no memory for it: a copy does.
                self.in_kernel = False
        data = os.read(self._source.number, READ_SIZE)
        for reader in self._readers:
            reader.rest = memoryview(data)
        return bool(data)

    def _tee(self) -> bool:
        """Duplicate what is in the source into each reader's private pipe, which is empty and of the same size.

        tee(2) always begins at the front of the source and cannot skip, so all must get the same number of bytes at one
        go; that is why it does not write into the readers' own pipes, which may be filled in part.
        """
        source = self._source.number
        first, *others = self._readers
        for reader in self._readers:
            if reader.private_in.closed:
                reader.private_out, reader.private_in = make_pipe()
        count = _native.tee(source, first.private_in.number, READ_SIZE)
        if not count:
            return False
        first.left = count
        got = [_tee_again(source, reader.private_in.number, count) for reader in others]
        for reader, size in zip(others, got, strict=True):
            reader.left = size
        if others and min(got) < count:
            # The rest of them get the bytes by way of memory; nobody gets one twice.
            data = memoryview(_read_all(source, count))
            for reader, size in zip(others, got, strict=True):
                reader.rest = data[size:]
        else:
            self._drop(count)
        return True

    def _drop(self, count: int) -> None:
        """Take bytes that every reader has out of the source, without a copy."""
        null = self._null
        try:
            if null.closed:
                null.fill(os.open, os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                null.lift()
            while count > 0:
                count -= os.splice(self._source.number, null.number, count)
        except OSError:
            _read_all(self._source.number, count)

    def _splice(self, reader: Reader) -> int:
        """Move bytes from a reader's private pipe into its own, and give their number.

        Raises:
            BlockingIOError, BrokenPipeError: of the reader's pipe.
        """
        source, left = reader.private_out.number, reader.left
        try:
            return quietly(os.splice, source, reader.end.number, left, None, None, SPLICE_FLAGS)
        except (BlockingIOError, BrokenPipeError):
            raise
        except OSError:
            self.in_kernel = False
            reader.rest = memoryview(_read_all(source, left) + bytes(reader.rest))
            return left

    def _pump(self, reader: Reader) -> None:
        """Write to a reader what its pipe takes now; one that has gone is left out."""
        if reader.end.closed:
            return
        try:
            while reader.left:
                reader.left -= self._splice(reader)
            while reader.rest:
                reader.rest = reader.rest[write_quietly(reader.end.number, reader.rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._reactor.unwatch(reader.end.number)
            self._readers.remove(reader)
            reader.close()


def _tee_again(source: int, target: int, count: int) -> int:
    """Duplicate for one more reader; 0 where that fails: the others have theirs, and nobody must get it twice."""
    try:
        return _native.tee(source, target, count)
    except OSError:
        return 0


def _read_all(fd: int, count: int) -> bytes:
    """Read bytes that are known to be there."""
    pieces = []
    while count > 0:
        pieces.append(os.read(fd, count))
        count -= len(pieces[-1])
    return b"".join(pieces)
