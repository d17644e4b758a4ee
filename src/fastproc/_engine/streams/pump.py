"""The streams of one running child, read piece by piece at the caller's pace.

Whoever waits for one stream runs a reactor that also feeds stdin and keeps what comes on the other stream, so no order
of reading and writing can deadlock (GOTCHAS E1). Nothing is read while nobody waits: the pipe fills, the child waits.
Invariants: what was read is in its stream's queue until it is handed out; nothing here refers to the Process, which
owns this, so that dropping the last handle frees all at once.
"""

from __future__ import annotations

import os
from collections import deque
from time import monotonic

from fastproc import errors
from fastproc._engine.exit_watch import has_ended
from fastproc._engine.fds import NOT_HELD, pipe_size
from fastproc._engine.reactor import LONGEST_WAIT, READ, WRITE, Reactor, deadline_from
from fastproc._engine.signal_api import SIGKILL, SIGTERM
from fastproc._engine.streams.feeder import Input
from fastproc._engine.streams.output_queue import Output
from fastproc._values.status import KILLED, PIPES_OPEN, TERMINATED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from fastproc._engine.fds import OwnedFd
    from fastproc._engine.handle import Handle
    from fastproc._engine.streams.sink import Tap
    from fastproc._engine.streams.tee import Outlets
    from fastproc._values.capture import Event

STREAMS = ("stdin", "stdout", "stderr")

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


def _nothing() -> None:
    """Who waits looks at everything anyhow."""


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
        flags: TERMINATED, KILLED, PIPES_OPEN of _values/status.py, as far as it was done here.
        holders: pids of others that held the outputs when they were given up.
        overflowed: the first output that passed a limit with which the child is stopped.
    """

    __slots__ = (
        *("_copies", "_exit", "_input", "_kill_at", "_pause", "_watched", "events", "flags", "given_up", "holders"),
        *("outputs", "overflowed", "reactor"),
    )

    def __init__(self, process: Handle) -> None:
        self.reactor = Reactor()
        self.flags = 0
        self.holders: tuple[int, ...] = ()
        self.overflowed: Tap | None = None
        self._kill_at: float | None = None
        taps: dict[int, Tap] = {}
        self._copies: Outlets | None = None
        if process.taps is not None:
            from fastproc._engine.streams.tee import Outlets

            taps = process.taps.by_number
            self._copies = Outlets(self.reactor, _nothing)
        self._pause = Pause()
        self._watched: set[int] = set()
        self._input: Input | None = None
        self._exit = Exit()
        self.outputs = {
            STREAMS[number]: Output(STREAMS[number], process.ends[number], taps.get(number))
            for number in (1, 2)
            if not process.ends[number].closed
        }
        self.events: deque[Event | UnicodeDecodeError] = deque()
        self.given_up = False

    def close(self, process: Handle) -> None:
        """Give everything back but the descriptors, which are the process's to close."""
        for output in self.outputs.values():
            output.ended = True
        if self._copies is not None:
            self._copies.release()
        if process.taps is not None:
            process.taps.files.close()
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

    def feed(self, process: Handle, source: bytes | Iterable[bytes], closes: bool = True) -> None:
        """Feed stdin from now on whenever somebody waits, and close it at the end.

        Raises:
            ValueError: it is no pipe (any more), or is being fed already.
        """
        if self._input is not None:
            raise ValueError("input: stdin is being fed already")
        if process.ends[0].closed:
            raise ValueError("input: stdin is no pipe, is closed, or is in use as a file: start with stdin=PIPE")
        self._input = Input(process.ends[0], source, closes)

    @property
    def feeds(self) -> bool:
        """Whether stdin is being fed."""
        return self._input is not None

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

    def writing(self, process: Handle, data: bytes, timeout: float | None = None) -> Iterator[Pause]:
        """Write all of the data in steps, keeping what comes on the outputs meanwhile.

        Raises:
            TimeoutExpired: it was not taken in `timeout` seconds; the rest is dropped.
        """
        deadline = deadline_from("timeout", timeout)
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
        self, process: Handle, wanted: list[Output], idle_timeout: float | None, drain_timeout: float | None
    ) -> Generator[Pause, None, bool]:
        """Wait in steps until a stream has something to hand out; False when all of them, and the input, have ended.

        Raises:
            TimeoutExpired: nothing came for `idle_timeout` seconds; nothing is lost, and the caller may go on.
        """
        if self._copies is not None and self._exit.at is None:
            # Also where there is always something to read.
            self._keep_limits(process)
        # Mostly there is something already; then a read is all.
        for output in wanted:
            if not output.ended and not output.held and output.read():
                break
        silent_at: float | None = -1.0
        while not self._ready(wanted):
            self._sweep(process)
            open_ones = [output for output in wanted if not output.ended]
            if not open_ones and self._input is None and not self._copying(wanted):
                if all(output.ended for output in self.outputs.values()):
                    self.close(process)
                return False
            limit = self._drained_at(open_ones, drain_timeout)
            if limit is not None and monotonic() >= limit:
                # Others hold the pipe. What is in it now was, or is still, taken.
                for output in open_ones:
                    if not output.read():
                        output.finish()
                        self.given_up = True
                continue
            if any(output.held for output in open_ones):
                # It may be speaking: we do not listen.
                silent_at = -1.0
            if silent_at == -1.0:
                silent_at = deadline_from("idle_timeout", idle_timeout)
            if silent_at is not None:
                if monotonic() >= silent_at:
                    assert idle_timeout is not None
                    raise errors.timeout_expired(process.argv, idle_timeout)
                limit = silent_at if limit is None else min(limit, silent_at)
            yield self._pause(limit)
        return True

    def ending(
        self, process: Handle, timeout: float | None, idle_timeout: float | None, drain_timeout: float | None
    ) -> Generator[Pause, None, None]:
        """Wait in steps until the child, its input, its outputs and their copies have ended. Hands nothing out.

        Raises:
            TimeoutExpired: one of the times is over. Nothing is lost, and the caller may go on.
        """
        deadline = deadline_from("timeout", timeout)
        heard = -1
        silent_at: float | None = None
        outputs = list(self.outputs.values())
        while True:
            self._sweep(process)
            open_ones = [output for output in outputs if not output.ended]
            over = not open_ones and self._input is None and not self._copying(outputs)
            if over and self._exit.at is not None:
                self.close(process)
                if self.overflowed is None or not self.overflowed.raises:
                    self.fail()
                return
            now = monotonic()
            limit = self._drained_at(open_ones, drain_timeout)
            if limit is not None and now >= limit:
                self._give_up(open_ones)
                continue
            size = sum(output.offset for output in outputs)
            if size != heard or any(output.held for output in open_ones):
                heard = size
                silent_at = None if over else deadline_from("idle_timeout", idle_timeout)
            for until, seconds in ((deadline, timeout), (silent_at, idle_timeout)):
                if until is not None and now >= until:
                    assert seconds is not None
                    error = errors.timeout_expired(process.argv, seconds)
                    error.output, error.stderr = (self._peek(name) for name in STREAMS[1:])
                    raise error
                limit = until if limit is None or (until is not None and until < limit) else limit
            yield self._pause(limit)

    def fail(self) -> None:
        """Raise, once, what the end of an output was that is no line as on_line asks for them."""
        for output in self.outputs.values():
            if output.tap is not None and output.tap.failure is not None:
                failure, output.tap.failure = output.tap.failure, None
                raise failure

    def _peek(self, name: str) -> bytes | None:
        output = self.outputs.get(name)
        return None if output is None else output.peek()

    def _drained_at(self, open_ones: list[Output], drain_timeout: float | None) -> float | None:
        """The instant at which outputs that are still open are left to others; None for never."""
        gone_at = self._exit.at
        return None if gone_at is None or drain_timeout is None or not open_ones else gone_at + drain_timeout

    def _give_up(self, outputs: list[Output]) -> None:
        """Take what lies in the pipes now, and not more than they hold: others may write to them without end."""
        from fastproc._engine.streams.sink import holders

        self.holders = holders({os.fstat(output.end.number).st_ino for output in outputs})
        for output in outputs:
            end = output.offset + pipe_size(output.end.number)
            while not output.ended and output.offset <= end and output.read():
                pass
            if not output.ended:
                self.given_up = True
                self.flags |= PIPES_OPEN
                output.finish()

    def _ready(self, wanted: list[Output]) -> bool:
        """Whether one of them has something to hand out."""
        if self._copies is not None:
            for output in wanted:
                output.refill()
        return any(output.items for output in wanted)

    def _copying(self, wanted: list[Output]) -> bool:
        return any(output.tap is not None and output.tap.copying for output in wanted)

    def prepare(self, process: Handle, pause: Pause) -> float:
        """Watch what has to be watched, and give the seconds that a wait may take."""
        wrote = False
        fed = self._input
        if fed is not None:
            self._watch(fed.end, WRITE, fed.write)
        for output in self.outputs.values():
            if not output.ended and not output.held:
                self._watch(output.end, READ, output.read)
            elif not output.ended:
                self._forget(output.end)
            if self._copies is not None and output.tap is not None:
                wrote |= self._copies.attend(output.tap.outlets)
        known = self._exit
        until = 0.0 if wrote else pause.until
        if self._kill_at is not None:
            until = self._kill_at if until is None else min(until, self._kill_at)
        timeout = LONGEST_WAIT if until is None else max(0.0, until - monotonic())
        if known.at is None:
            if known.number == NOT_HELD:
                known.number = process.hold()
                if known.number >= 0:
                    self.reactor.watch(known.number, READ, known.on_ready)
            if known.number < 0 or known.readable:
                timeout = min(timeout, LOOK_EVERY)
        return timeout

    def wait(self, process: Handle, pause: Pause) -> None:
        """Wait once, in this thread. Ctrl-C is passed on to the group that the child leads (GOTCHAS H5)."""
        try:
            self.turn(process, self.prepare(process, pause))
        except KeyboardInterrupt:
            process.interrupt_group()
            raise

    def turn(self, process: Handle, timeout: float) -> int:
        """Wait some seconds for whatever comes, and do it; how many descriptors were ready."""
        try:
            return self.reactor.run_once(timeout)
        finally:
            self._sweep(process)

    def _sweep(self, process: Handle) -> None:
        """Take leave of what has ended."""
        known = self._exit
        if known.at is None and (known.readable or known.number == -1):
            if known.number >= 0:
                # Readable for ever, and perhaps with nothing to reap, under a tracer (GOTCHAS D6).
                self.reactor.unwatch(known.number)
            if has_ended(process):
                known.at = monotonic()
                self._let_go(process)
        if self._copies is not None and known.at is None:
            self._keep_limits(process)
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

    def _keep_limits(self, process: Handle) -> None:
        """Stop a child that has passed a limit which says so."""
        if self.overflowed is None:
            for output in self.outputs.values():
                if output.tap is not None and output.tap.over and output.tap.stops:
                    self.overflowed = output.tap
            if self.overflowed is None:
                return
            grace = process.times[0]
            self._kill_at = monotonic() + grace
            if grace > 0.0:
                self.flags |= TERMINATED
                process.signal_tree(SIGTERM)
        if self._kill_at is not None and monotonic() >= self._kill_at:
            self._kill_at = None
            if not has_ended(process):
                self.flags |= KILLED
                process.signal_tree(SIGKILL)

    def _watch(self, end: OwnedFd, events: int, callback: Callable[[int], object]) -> None:
        if end.number not in self._watched:
            self.reactor.watch(end.number, events, callback)
            self._watched.add(end.number)

    def _forget(self, end: OwnedFd) -> None:
        self._watched.discard(end.number)
        self.reactor.unwatch(end.number)

    def _let_go(self, process: Handle) -> None:
        number, self._exit.number = self._exit.number, NOT_HELD
        if number != NOT_HELD:
            self.reactor.unwatch(number)
            process.release()
