"""The reading half of an exchange: outputs become bytes, copies and lines, at the pace of whoever takes the copies.

Invariant: what was read is kept before anything else is done with it, so that no error loses it.
"""

from __future__ import annotations

import os
from time import monotonic

from fastproc._engine.fds import PIPE_LARGE, READ_SIZE, STDERR, STDIN, STDOUT, pipe_size, read_some, widen
from fastproc._engine.reactor import READ
from fastproc._values import lifecycle
from fastproc._values.status import PIPES_OPEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._engine.handle import Handle
    from fastproc._engine.reactor import Reactor
    from fastproc._engine.streams.sink import Capture
    from fastproc._engine.streams.tee import Copies


class Collecting:
    """The part of an Exchange that is about its child's outputs."""

    __slots__ = ("_copies", "_ending", "_heard", "flags", "holders", "overflowed")

    if TYPE_CHECKING:
        captures: dict[int, Capture]
        flags: int
        holders: tuple[int, ...]
        overflowed: Capture | None
        process: Handle
        _chunks: dict[int, list[bytes]]
        _copies: Copies | None
        _ending: bool
        _heard: float
        _idle_timeout: float | None
        _open: dict[int, int]
        _reactor: Reactor
        _sizes: dict[int, int]

        def stop(self) -> None: ...
        def _close(self, stream: int) -> None: ...
        def _note_timed_out(self) -> None: ...
        def _release(self) -> None: ...
        def _report(self) -> None: ...
        def _step(self, event: str) -> None: ...

    def output(self, stream: int) -> bytes | None:
        """What was read from stdout (1) or stderr (2); None when that is not captured."""
        chunks = self._chunks.get(stream)
        if chunks is None:
            return None
        capture = self.captures.get(stream)
        if capture is not None:
            return capture.value()
        if len(chunks) != 1:
            chunks[:] = [b"".join(chunks)]
        return chunks[0]

    def _on_stdout(self, _ready: int) -> None:
        self._read(STDOUT)

    def _on_stderr(self, _ready: int) -> None:
        self._read(STDERR)

    def _read(self, stream: int) -> None:
        fd = self._open[stream]
        size = self._sizes[stream]
        capture = self.captures.get(stream)
        # Large reads only for what is kept whole: a limit is on memory, which a piece on its way takes too.
        large = capture is None and size >= READ_SIZE
        queue = self._chunks[stream] if capture is None else capture.fresh
        data = read_some(fd, PIPE_LARGE if large else READ_SIZE, queue)
        if data is None:
            return
        if not data:
            if capture is not None:
                capture.finish()
            self._close(stream)
            if STDOUT not in self._open and STDERR not in self._open:
                self._step(lifecycle.STREAMS_CLOSED)
            return
        self._sizes[stream] = size + len(data)
        if size < READ_SIZE <= size + len(data):
            widen(fd)
        if self._idle_timeout is not None:
            self._heard = monotonic()
        if capture is None:
            return
        try:
            capture.take()
        finally:
            self._attend()
        if capture.over and self.overflowed is None and capture.stops:
            self.overflowed = capture
            self.stop()

    def _attend(self) -> None:
        """See that copies are written on, and that no more is read than they take."""
        if self._copies is None:
            from fastproc._engine.streams.tee import Copies

            self._copies = Copies(self._reactor, self.captures, self._hold)
        self._copies.attend()

    def _hold(self, stream: int, full: bool) -> None:
        fd = self._open.get(stream)
        if fd is not None and full:
            self._reactor.unwatch(fd)
        elif fd is not None:
            self._reactor.watch(fd, READ, self._on_stdout if stream == STDOUT else self._on_stderr)

    def _close_outputs(self) -> None:
        for stream in (STDOUT, STDERR):
            self._take_rest(stream)
        if STDOUT not in self._open and STDERR not in self._open:
            return
        from fastproc._engine.streams.sink import holders

        self.holders = holders({os.fstat(fd).st_ino for stream, fd in self._open.items() if stream != STDIN})
        for stream in self._open.keys() & self.captures.keys():
            self.captures[stream].finish()
        self._close(STDOUT)
        self._close(STDERR)
        self.flags |= PIPES_OPEN

    def _take_rest(self, stream: int) -> None:
        """Read what lies in a pipe now, and not more than a pipe holds: others may write to it without end."""
        if stream not in self._open:
            return
        end = self._sizes[stream] + pipe_size(self._open[stream])
        size = -1
        while stream in self._open and size < self._sizes[stream] <= end:
            size = self._sizes[stream]
            self._read(stream)

    def _hurry(self) -> None:
        """Nobody waits any longer for copies of what was read."""
        if self._copies is not None:
            self._copies.hurry()

    def _drop_copies(self) -> None:
        for capture in self.captures.values():
            # What an interrupt has left is copied.
            capture.share()
        if self._copies is not None:
            self._copies.release()

    def _end_copies(self, given_up: bool) -> None:
        """All is written, or the time for it is over: nothing that was captured is lost with it."""
        if given_up:
            self._note_timed_out()
        self._ending = False
        self._release()
        self._report()
