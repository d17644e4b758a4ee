"""The streams of one running child, read piece by piece at the caller's pace.

Whoever waits for one stream runs a reactor that also feeds stdin and keeps what comes on the other stream, so no order
of reading and writing can deadlock (HAZARDS E1). Nothing is read while nobody waits: the pipe fills, the child waits.
Invariants: what was read is in its stream's queue until it is handed out; nothing here refers to the Process, which
owns this, so that dropping the last handle frees all at once.
"""

from __future__ import annotations

import os
from collections import deque
from errno import EIO
from operator import length_hint
from time import monotonic

from fastproc import errors
from fastproc._engine.collecting import READ_SIZE
from fastproc._engine.exchange import NOT_HELD
from fastproc._engine.exit_watch import has_ended
from fastproc._engine.fds import widen
from fastproc._engine.feeder import Input
from fastproc._engine.reactor import LONGEST_WAIT, READ, WRITE, Reactor, instant
from fastproc._values.capture import UNIVERSAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any

    from fastproc._engine.fds import OwnedFd
    from fastproc._engine.process import Process
    from fastproc._values.capture import Event, LineSplitter

STREAMS = ("stdin", "stdout", "stderr")

READ_LARGE = 2 * READ_SIZE
"""Bytes of a read once a pipe was full. Lines made of more at once have left the processor's cache when they are used
(5,000,000 of `seq`: 0.27 s by 256 KiB, 0.20 s by 128 KiB)."""

LOOK_EVERY = 0.02
"""Seconds between two looks at a child that has no pidfd."""


class Pause:
    """What the steps of a reading give, among the items, where its driver has to wait: once, for whatever comes.

    Attributes:
        until: the monotonic instant at which to go on without; None for any.
    """

    __slots__ = ("until",)

    def __init__(self) -> None:
        self.until: float | None = None

    def __call__(self, until: float | None) -> Pause:
        """Return itself, with another instant."""
        self.until = until
        return self


class Output:
    """What came from one pipe and was not yet handed out: (time, offset, data), oldest first."""

    __slots__ = ("_room", "end", "ended", "items", "lines", "name", "offset")

    def __init__(self, name: str, end: OwnedFd) -> None:
        self.name = name
        self.end = end
        self.items: deque[tuple[float, int, bytes]] = deque()
        self.offset = 0
        self.ended = False
        self.lines: Lines | None = None
        self._room = READ_SIZE

    def read(self, _ready: int = 0) -> bool:
        """Take what is there, or see the end, without blocking; False when there was nothing."""
        room = self._room
        try:
            data = os.read(self.end.number, room)
        except BlockingIOError:
            return False
        except OSError as error:
            # What a terminal says instead of an end of file (HAZARDS E16); nothing that was written is lost by then.
            if error.errno != EIO:
                raise
            data = b""
        if not data:
            self.ended = True
            return True
        self.items.append((monotonic(), self.offset, data))
        self.offset += len(data)
        if room == READ_SIZE and len(data) >= READ_SIZE:
            self._room = READ_LARGE
            widen(self.end.number)
        return True

    def cut(self, key: tuple[Any, ...], splitter: LineSplitter) -> Lines:
        """Return how this stream is cut, going on where an earlier reading was left.

        Raises:
            ValueError: it was read in another way, and what is left of that cannot be made bytes again.
        """
        lines = self.lines
        if lines is None or lines.key != key:
            self.uncut()
            lines = self.lines = Lines(key, splitter)
            lines.offset = self.items[0][1] if self.items else self.offset
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


class Lines:
    """How one stream is cut into lines, and the lines that are cut and not yet taken."""

    __slots__ = ("batch", "end", "finished", "key", "offset", "splitter")

    def __init__(self, key: tuple[Any, ...], splitter: LineSplitter) -> None:
        self.key = key
        self.splitter = splitter
        self.batch: Iterator[Any] = iter(())
        self.finished = False
        # For events, whose lines are bytes with their ends.
        self.end = b"\n" if key[0] == UNIVERSAL else key[0] if isinstance(key[0], bytes) else key[0].encode("latin-1")
        self.offset = 0

    def rest(self) -> bytes | None:
        """Take what is left as bytes; None where it is no longer known which these were."""
        newline, encoding, _, keep_ends, longest, _ = self.key
        if encoding is None and newline != UNIVERSAL and longest is None:
            rest = b"".join(self.batch if keep_ends else (line + self.end for line in self.batch))
            return rest + (b"" if self.finished else b"".join(self.splitter.finish()))
        return b"" if self.finished and not length_hint(self.batch) else None


class Exit:
    """What the pidfd says."""

    __slots__ = ("at", "number", "readable")

    def __init__(self) -> None:
        self.number = NOT_HELD
        self.readable = False
        self.at: float | None = None

    def on_ready(self, _ready: int) -> None:
        """The child has ended, or is said to have."""
        self.readable = True


class Streams:
    """The streams of a child, on a reactor of their own.

    Attributes:
        outputs: those that are pipes, by name.
        given_up: whether a pipe was left to others who held it.
        reactor: what is waited by.
    """

    __slots__ = ("_exit", "_input", "_pause", "_watched", "events", "given_up", "outputs", "reactor")

    def __init__(self, process: Process) -> None:
        self.reactor = Reactor()
        self._pause = Pause()
        self._watched: set[int] = set()
        self._input: Input | None = None
        self._exit = Exit()
        self.outputs = {
            STREAMS[number]: Output(STREAMS[number], process.ends[number])
            for number in (1, 2)
            if not process.ends[number].closed
        }
        self.events: deque[Event] = deque()
        self.given_up = False

    def close(self, process: Process) -> None:
        """Give everything back but the descriptors, which are the process's to close."""
        for output in self.outputs.values():
            output.ended = True
        self._input = None
        self._let_go(process)
        self._watched.clear()
        self.reactor.close()

    def output(self, name: str) -> Output:
        """Return a stream by its name.

        Raises:
            ValueError: there is no such stream, or it is no pipe of ours.
        """
        found = self.outputs.get(name)
        if found is None:
            if name not in STREAMS[1:]:
                raise ValueError(f'stream: must be "stdout" or "stderr", not {name!r}')
            raise ValueError(f"stream: {name} is no pipe, or is in use as a file: start with {name}=PIPE")
        return found

    def feed(self, process: Process, source: bytes | Iterable[bytes], closes: bool = True) -> None:
        """Feed stdin from now on whenever somebody waits, and close it at the end.

        Raises:
            ValueError: it is no pipe (any more), or is being fed already.
        """
        if self._input is not None:
            raise ValueError("input: stdin is being fed already")
        if process.ends[0].closed:
            raise ValueError("input: stdin is no pipe, is closed, or is in use as a file: start with stdin=PIPE")
        self._input = Input(process.ends[0], source, closes)

    def end_input(self) -> None:
        """Feed no more; the caller closes stdin."""
        fed, self._input = self._input, None
        if fed is not None:
            self._forget(fed.end)

    def check_free(self, number: int) -> None:
        """Refuse to give a pipe away as a file that is read or fed here.

        Raises:
            ValueError: it is.
        """
        name = STREAMS[number]
        if name in self.outputs or (number == 0 and self._input is not None):
            raise ValueError(f"{name}: is in use by lines(), chunks() or events()")

    def writing(self, process: Process, data: bytes, timeout: float | None = None) -> Iterator[Pause]:
        """Write all of the data in steps, keeping what comes on the outputs meanwhile.

        Raises:
            TimeoutExpired: it was not taken in `timeout` seconds; the rest is dropped.
        """
        deadline = instant("timeout", timeout)
        self.feed(process, data, closes=False)
        fed = self._input
        assert fed is not None
        try:
            fed.write()
        finally:
            self._sweep(process)
        while self._input is fed:
            if deadline is not None and monotonic() >= deadline:
                self.end_input()
                assert timeout is not None
                raise errors.timeout_expired(process.argv, timeout)
            yield self._pause(deadline)

    def waiting(
        self, process: Process, wanted: list[Output], idle_timeout: float | None, drain_timeout: float | None
    ) -> Generator[Pause, None, bool]:
        """Wait in steps until a stream has something to hand out; False when all of them, and the input, have ended.

        Raises:
            TimeoutExpired: nothing came for `idle_timeout` seconds; nothing is lost, and the caller may go on.
        """
        # Mostly there is something already; then a read is all.
        for output in wanted:
            if not output.ended and output.read():
                break
        silent_at: float | None = -1.0
        while not any(output.items for output in wanted):
            self._sweep(process)
            open_ones = [output for output in wanted if not output.ended]
            if not open_ones and self._input is None:
                if all(output.ended for output in self.outputs.values()):
                    self.close(process)
                return False
            gone_at = self._exit.at
            limit = None if gone_at is None or drain_timeout is None else gone_at + drain_timeout
            if limit is not None and monotonic() >= limit:
                # Others hold the pipe. What is in it now was, or is still, taken.
                for output in open_ones:
                    if not output.read():
                        output.ended = self.given_up = True
                continue
            if silent_at == -1.0:
                silent_at = instant("idle_timeout", idle_timeout)
            if silent_at is not None:
                if monotonic() >= silent_at:
                    assert idle_timeout is not None
                    raise errors.timeout_expired(process.argv, idle_timeout)
                limit = silent_at if limit is None else min(limit, silent_at)
            yield self._pause(limit)
        return True

    def prepare(self, process: Process, pause: Pause) -> float:
        """Watch what has to be watched, and give the seconds that a wait may take."""
        fed = self._input
        if fed is not None:
            self._watch(fed.end, WRITE, fed.write)
        for output in self.outputs.values():
            if not output.ended:
                self._watch(output.end, READ, output.read)
        known = self._exit
        timeout = LONGEST_WAIT if pause.until is None else max(0.0, pause.until - monotonic())
        if known.at is None:
            if known.number == NOT_HELD:
                known.number = process.hold()
                if known.number >= 0:
                    self.reactor.watch(known.number, READ, known.on_ready)
            if known.number < 0 or known.readable:
                timeout = min(timeout, LOOK_EVERY)
        return timeout

    def wait(self, process: Process, pause: Pause) -> None:
        """Wait once, in this thread."""
        self.turn(process, self.prepare(process, pause))

    def turn(self, process: Process, timeout: float) -> int:
        """Wait some seconds for whatever comes, and do it; how many descriptors were ready."""
        try:
            return self.reactor.run_once(timeout)
        finally:
            self._sweep(process)

    def _sweep(self, process: Process) -> None:
        """Take leave of what has ended."""
        known = self._exit
        if known.at is None and (known.readable or known.number == -1):
            if known.number >= 0:
                # Readable for ever, and perhaps with nothing to reap, under a tracer (HAZARDS D6).
                self.reactor.unwatch(known.number)
            if has_ended(process):
                known.at = monotonic()
                self._let_go(process)
        fed = self._input
        if fed is not None and (fed.done or fed.failed or known.at is not None):
            self._input = None
            self._forget(fed.end)
            # The end of an incomplete input would tell the child that it has had it all.
            if fed.closes and not fed.failed:
                fed.end.close()
        for output in self.outputs.values():
            if output.ended and not output.end.closed:
                self._forget(output.end)
                output.end.close()

    def _watch(self, end: OwnedFd, events: int, callback: Callable[[int], object]) -> None:
        if end.number not in self._watched:
            self.reactor.watch(end.number, events, callback)
            self._watched.add(end.number)

    def _forget(self, end: OwnedFd) -> None:
        self._watched.discard(end.number)
        self.reactor.unwatch(end.number)

    def _let_go(self, process: Process) -> None:
        number, self._exit.number = self._exit.number, NOT_HELD
        if number != NOT_HELD:
            self.reactor.unwatch(number)
            process.release()
