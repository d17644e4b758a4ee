"""The pipes of one running expression: those between its stages, what is fed, what is captured.

Not here: who gets which pipe (nodes.py), when it all ends (pipeline.py).
Invariant: every descriptor made here is closed by `release`, wherever the run was broken off; the ends that children
use are closed as soon as they have been started (GOTCHAS E14): then a reader sees the end, and a writer gets SIGPIPE.
"""

from __future__ import annotations

import os
from collections import deque
from time import monotonic

from fastproc._engine.fds import PIPE_LARGE, READ_SIZE, Opened, make_pipe, read_some, widen
from fastproc._engine.reactor import READ, WRITE
from fastproc._engine.streams.feeder import Feeder
from fastproc._engine.streams.sink import Capture, holders, make_tap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from fastproc._engine.fds import OwnedFd
    from fastproc._engine.reactor import Reactor
    from fastproc._engine.streams.tee import Copies, Outlet
    from fastproc._values.capture import CaptureLimit
    from fastproc.pipeline._fanout import Fanout


class Shared:
    """A descriptor that several commands get, perhaps one after the other: closed when the last has got it.

    Attributes:
        owned: the descriptor.
        joins: whether it is an end of a pipe between stages.
    """

    __slots__ = ("_users", "joins", "owned")

    def __init__(self, owned: OwnedFd, joins: bool = False) -> None:
        self.owned = owned
        self.joins = joins
        self._users = 1

    def take(self) -> Shared:
        """Add a user."""
        self._users += 1
        return self

    def drop(self) -> None:
        """Take one away."""
        self._users -= 1
        if self._users <= 0:
            self.owned.close()


class Sink:
    """One captured output: the stdout of all, or the stderr of one stage."""

    __slots__ = ("capture", "chunks", "end", "name", "size")

    def __init__(self, name: str, end: OwnedFd, capture: Capture | None) -> None:
        self.name = name
        self.end = end
        self.capture = capture
        self.chunks: list[bytes] = []
        self.size = 0

    def value(self) -> bytes:
        """What is kept."""
        return b"".join(self.chunks) if self.capture is None else self.capture.value()


class Feed:
    """What is written to one pipe."""

    __slots__ = ("end", "feeder")

    def __init__(self, end: OwnedFd, source: bytes | Iterable[bytes]) -> None:
        self.end = end
        self.feeder = Feeder(source)


class Keeping:
    """What becomes of captured outputs: limits, on_line and tee as the options, and whether stdout is handed out."""

    __slots__ = ("limits", "on_line", "streams", "tee")

    def __init__(self) -> None:
        self.limits: tuple[CaptureLimit | None, CaptureLimit | None] = (None, None)
        self.on_line: Callable[[str, Any], object] | None = None
        self.tee = False
        self.streams = False


class Plumbing:
    """All pipes of a run.

    Args:
        reactor: where they are waited for.
        keeping: what becomes of captured outputs.
        on_closed: called when a captured output has ended.
        on_over: called when one has passed a limit with which the run is to be stopped.
        on_error: called with what an input's iterator raised.

    Attributes:
        out: captured stdout, or None.
        errs: whether stderr of any stage is captured.
        ready: pieces of stdout that were not taken yet, where it is handed out.
        on_ready: called when there is one.
        heard: monotonic instant of the last output.
        holders: pids of others that held the outputs when they were given up.
    """

    __slots__ = (
        "_captured",
        "_captures",
        "_copies",
        "_ends",
        "_fanouts",
        "_feeds",
        "_keeping",
        "_on_closed",
        "_on_error",
        "_on_over",
        "_opened",
        "_outlets",
        "_out_writer",
        "_reactor",
        "errs",
        "heard",
        "holders",
        "on_ready",
        "open",
        "out",
        "ready",
    )

    def __init__(
        self,
        reactor: Reactor,
        keeping: Keeping,
        on_closed: Callable[[], object],
        on_over: Callable[[Capture], object],
        on_error: Callable[[BaseException], object],
    ) -> None:
        self._reactor = reactor
        self._keeping = keeping
        self._on_closed = on_closed
        self._on_over = on_over
        self._on_error = on_error
        self._ends: list[OwnedFd] = []
        self._feeds: list[Feed] = []
        self._fanouts: list[Fanout] = []
        self._opened = Opened()
        self._outlets: dict[int, Outlet] = {}
        # Those outputs of which more is asked than to be kept, by their place in the list.
        self._captures: dict[int, Capture] = {}
        self._captured: list[Sink] = []
        self._copies: Copies | None = None
        self._out_writer: Shared | None = None
        self.out: Sink | None = None
        self.errs = False
        self.open: list[Sink] = []
        self.ready: deque[bytes] = deque()
        self.on_ready: Callable[[], object] = bool
        self.heard = monotonic()
        self.holders: tuple[int, ...] = ()

    # -- making them

    def join(self, size: int | None) -> tuple[Shared, Shared]:
        """Make a pipe between two stages: its read end and its write end."""
        reader, writer = make_pipe(size)
        self._ends += (reader, writer)
        return Shared(reader, True), Shared(writer, True)

    def stdout(self) -> Shared:
        """Return the write end of the one pipe of captured stdout, for one more user."""
        if self._out_writer is None:
            reader, writer = make_pipe()
            self._ends += (reader, writer)
            self._out_writer = Shared(writer)
            self.out = self._sink("stdout", reader)
        return self._out_writer.take()

    def stderr(self) -> tuple[Shared, Sink]:
        """Return the write end of a new pipe for what one stage writes to stderr, and where it is kept."""
        reader, writer = make_pipe()
        self._ends += (reader, writer)
        self.errs = True
        return Shared(writer), self._sink("stderr", reader)

    def file(self, owned: OwnedFd) -> Shared:
        """Take over a file that was opened for a redirection."""
        self._ends.append(owned)
        return Shared(owned)

    def no_more(self) -> None:
        """Nobody will ask for the pipe of stdout any more."""
        writer, self._out_writer = self._out_writer, None
        if writer is not None:
            writer.drop()

    def feed(self, end: Shared, source: bytes | Iterable[bytes]) -> None:
        """Feed a pipe, at the pace of its reader, and close it."""
        feed = Feed(end.owned, source)
        os.set_blocking(feed.end.number, False)
        self._feeds.append(feed)
        self._reactor.watch(feed.end.number, WRITE, lambda _ready: self._on_room(feed))

    def fan_out(self, source: Shared, ends: list[Shared]) -> None:
        """Copy what comes from one pipe to several."""
        from fastproc.pipeline._fanout import Fanout

        self._fanouts.append(Fanout(self._reactor, source.owned, [end.owned for end in ends]))

    def _sink(self, name: str, end: OwnedFd) -> Sink:
        keeping = self._keeping
        number = 1 if name == "stdout" else 2
        limit = keeping.limits[number - 1]
        capture = make_tap(Capture, number, keeping, limit, self._opened, self._outlets)
        os.set_blocking(end.number, False)
        sink = Sink(name, end, capture)
        self.open.append(sink)
        if capture is not None:
            self._captures[len(self._captured)] = capture
            self._captured.append(sink)
        self._reactor.watch(end.number, READ, lambda _ready: self._read(sink))
        return sink

    # -- what the reactor reports

    def _read(self, sink: Sink) -> bool:
        """Take what is there, once; False when there was nothing."""
        queue = sink.chunks if sink.capture is None else sink.capture.fresh
        data = read_some(sink.end.number, PIPE_LARGE if sink.capture is None and sink.size else READ_SIZE, queue)
        if data is None:
            return False
        if not data:
            self._close(sink)
            self._on_closed()
            return False
        if sink.size < READ_SIZE <= sink.size + len(data):
            widen(sink.end.number)
        sink.size += len(data)
        self.heard = monotonic()
        if sink is self.out and self._keeping.streams:
            while sink.chunks:
                self.ready.extend(map(sink.chunks.pop, (0,)))
            self.on_ready()
            # The writers wait until it has been taken.
            self._reactor.unwatch(sink.end.number)
        elif sink.capture is not None:
            try:
                sink.capture.take()
            finally:
                self._attend()
            if sink.capture.over and sink.capture.stops:
                self._on_over(sink.capture)
        return True

    def _attend(self) -> None:
        """See that copies are written on, and that no more is read than they take."""
        if self._copies is None:
            from fastproc._engine.streams.tee import Copies

            self._copies = Copies(self._reactor, self._captures, self._hold)
        self._copies.attend()

    def _hold(self, place: int, full: bool) -> None:
        sink = self._captured[place]
        if sink in self.open and full:
            self._reactor.unwatch(sink.end.number)
        elif sink in self.open:
            self._reactor.watch(sink.end.number, READ, lambda _ready: self._read(sink))

    def _on_room(self, feed: Feed) -> None:
        try:
            finished = feed.feeder.write(feed.end.number)
        except Exception as error:
            self._end_feed(feed)
            self._on_error(error)
            return
        if finished:
            self._end_feed(feed)

    def _end_feed(self, feed: Feed) -> None:
        if feed in self._feeds:
            self._feeds.remove(feed)
            self._reactor.unwatch(feed.end.number)
            feed.end.close()

    def _close(self, sink: Sink) -> None:
        if sink in self.open:
            self.open.remove(sink)
            self._reactor.unwatch(sink.end.number)
            sink.end.close()
            if sink.capture is not None:
                sink.capture.finish()

    # -- for the run

    @property
    def holds_back(self) -> bool:
        """Whether an output is not read at the moment, because its copy is not taken."""
        return self._copies is not None and bool(self._copies.full)

    def end_copies(self, deadline: float | None, late: bool, on_end: Callable[[bool], object]) -> bool:
        """Begin to wait for the rest of the copies, as Copies.end(); False when there is none."""
        return self._copies is not None and self._copies.end(deadline, late, on_end)

    def hurry(self) -> None:
        """Nobody waits any longer for the copies."""
        if self._copies is not None:
            self._copies.hurry()

    @property
    def failure(self) -> Exception | None:
        """What the end of an output was that is no line as on_line asks for them."""
        failures = [capture.failure for capture in self._captures.values() if capture.failure is not None]
        return failures[0] if failures else None

    def be_quiet(self) -> None:
        """An error is on its way: nothing more is told."""
        for capture in self._captures.values():
            capture.quiet = True

    def take(self) -> bytes | None:
        """Return the next piece of stdout that is handed out, or None; from now on more may come."""
        if self.ready:
            return self.ready.popleft()
        sink = self.out
        if sink is not None and sink in self.open:
            self._reactor.watch(sink.end.number, READ, lambda _ready: self._read(sink))
        return None

    def discard(self) -> None:
        """Read stdout no more: who writes it gets SIGPIPE."""
        self.ready.clear()
        if self.out is not None:
            self._close(self.out)
            self._on_closed()

    def stop_feeding(self) -> None:
        """Feed no more and copy no more; who reads sees the end."""
        for feed in list(self._feeds):
            self._end_feed(feed)
        for fanout in self._fanouts:
            fanout.close()

    def pause_feeding(self) -> None:
        """Feed no more, and leave it open: the end would tell the reader that it has had it all."""
        for feed in self._feeds:
            self._reactor.unwatch(feed.end.number)

    def give_up(self) -> bool:
        """Close the captured outputs, which others still hold, once they are empty; False when all have ended."""
        self.holders = holders({os.fstat(sink.end.number).st_ino for sink in self.open})
        left = False
        for sink in list(self.open):
            # What is in the pipe was written in time. Bounded: somebody may be writing without end.
            rounds = PIPE_LARGE // 4096
            while rounds and self._read(sink):
                rounds -= 1
            left = left or sink in self.open
            self._close(sink)
        return left

    def release(self) -> None:
        """Close everything that is still here and leave nothing with the reactor. May be called again."""
        self.stop_feeding()
        if self._copies is not None:
            self._copies.release()
        for sink in list(self.open):
            self._close(sink)
        for end in self._ends:
            end.close()
        self._ends.clear()
        self._opened.close()
