"""Running expressions of commands: to their end, as a Pipeline that is waited for, line by line.

All of it drives the engine's Run by a reactor. Not here: what an expression means (values), the pipes (engine).
"""

from __future__ import annotations

from _thread import RLock
from collections import deque
from io import BytesIO
from itertools import chain
from os import environ

from fastproc import errors
from fastproc._engine.reactor import Reactor, borrowed, deadline_from
from fastproc._engine.signal_api import SIGKILL
from fastproc._engine.streams.output_queue import CUT
from fastproc._values.combination import Pipe
from fastproc._values.lines import LineSplitter
from fastproc._values.quoting import cut
from fastproc._values.status import KILLED
from fastproc.pipeline._bulk import run_plain
from fastproc.pipeline._request import Request, break_off, conclude, tell_group
from fastproc.pipeline._run import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from collections.abc import Mapping as AnyMapping
    from typing import Any

    from fastproc._values.command import Expression
    from fastproc.pipeline._result import PipelineResult

_FORCED_ENGINE = environ.get("FASTPROC_ENGINE", "")

__all__ = ["Pipeline", "Reader", "lines", "reader", "run", "start"]


def run(expression: Expression, options: AnyMapping[str, Any]) -> PipelineResult:
    """Run an expression to its end.

    Options that are about the whole run (capture, timeout, check and so on) are the run's; redirections are put around
    the whole; every other one is given to each command that does not have it. `pgid=0` puts all of them into one
    process group.

    Raises:
        SpawnError: a command could not be started. Those that were are gone.
        ExitError: the status that decides is not accepted; the stage is named, its stderr shown.
        TimeoutExpired: the deadline passed; all children are gone, and what had been read is in it.
        ExitStatusUnknown: somebody else took the status of a child, and this kernel does not tell it again.
        KeyboardInterrupt: or what another signal handler raised; all children are gone, the PipelineResult up to then
            is in the exception's attribute `result`.
        TypeError, ValueError: an option is not possible; its name comes first. No child was made.
    """
    if type(expression) is Pipe and _FORCED_ENGINE != "exchange":
        result = run_plain(expression, options)
        if result is not None:
            return result
    request = Request(expression, options)
    with borrowed() as reactor:
        running = Run(request.expression, reactor, request.settings)
        try:
            running.open()
            while not running.done:
                reactor.run_once()
        except BaseException as error:
            try:
                break_off(running, error)
            finally:
                running.abort()
            raise
    return conclude(running, request)


class Pipeline:
    """A running expression.

    `start()` makes it. `kill`, `send_signal` and `pids` may be called from any thread; several threads may wait. What
    is captured is read while somebody waits: there is no thread that would do it meanwhile.
    Leaving the `with` block kills and reaps what still runs. Dropping the last reference kills nothing: it gives a
    ResourceWarning, and the children are reaped by a later spawn.
    """

    __slots__ = ("__weakref__", "_lock", "_reactor", "_request", "_run")

    def __init__(self, expression: Expression, options: AnyMapping[str, Any], streams: bool = False) -> None:
        """Make it ready to be started."""
        self._request = Request(expression, options, streams)
        self._lock = RLock()
        self._reactor = Reactor()
        self._run = Run(self._request.expression, self._reactor, self._request.settings)

    def begin(self) -> None:
        """Start what runs first, once. Whoever made this closes it, also when this fails or is interrupted."""
        try:
            self._run.open()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        """Show the line, the pids, and whether it runs."""
        state = "ended" if self._run.done else "running"
        return f"<Pipeline `{cut(str(self._run.expression), 300)}` pids={self.pids} {state}>"

    @property
    def pids(self) -> list[int]:
        """The pids of the commands that were started, in the order of the expression."""
        return [child.process.pid for child in self._run.ordered()]

    @property
    def done(self) -> bool:
        """Whether it is known that all has ended."""
        return self._run.done

    def wait(self, timeout: float | None = None) -> PipelineResult:
        """Wait for the end of all, and give the result; again and again the same.

        Args:
            timeout: seconds at most; None for no limit. Nothing is stopped then.

        Raises:
            TimeoutExpired: it still runs (`result` is None), or the deadline that `start()` was given passed.
            ExitError, OutputTooLarge, ExitStatusUnknown: as run().
        """
        result = self._wait(deadline_from("timeout", timeout))
        if result is None:
            assert timeout is not None
            raise errors.timeout_expired(str(self._run.expression), timeout)
        return result

    def wait_timeout(self, timeout: float) -> PipelineResult | None:
        """Wait as wait() does, and give None when it still runs."""
        return self._wait(deadline_from("timeout", timeout))

    def try_wait(self) -> PipelineResult | None:
        """Give the result, or None when it still runs, without waiting."""
        return self._wait(0.0)

    def _wait(self, deadline: float | None) -> PipelineResult | None:
        return conclude(self._run, self._request) if self._drive(deadline, lambda: self._run.done) else None

    def _drive(self, deadline: float | None, reached: Callable[[], bool]) -> bool:
        """Run the reactor until something is so, or a monotonic instant has come."""
        with self._lock:
            try:
                while not reached():
                    left = None if deadline is None else max(0.0, deadline - instant_now())
                    if not self._reactor.run_once(left) and left == 0.0:
                        return reached()
            except BaseException as error:
                self._interrupted(error)
                raise
            finally:
                if self._run.done:
                    self._reactor.close()
            return True

    def _interrupted(self, error: BaseException) -> None:
        """End a run that an exception has left in the middle of a step: it cannot go on."""
        try:
            if isinstance(error, KeyboardInterrupt):
                tell_group(self._run)
        finally:
            if self._reactor.halved and not self._run.done:
                break_off(self._run, error)

    def stop(self, *, discard: bool = False) -> None:
        """End every command: SIGTERM, and SIGKILL when the grace of `start()` is over; wait for them.

        Args:
            discard: read standard output no more.
        """
        with self._lock:
            if discard:
                self._run.plumbing.discard()
            self._run.stop()
        self._drive(None, lambda: self._run.done)

    def kill(self) -> None:
        """Send SIGKILL to every command that runs, and to nobody else; no further one is started. Does not wait.

        Raises:
            PermissionError: one of them runs as another user; the others got it.
        """
        self._run.stopping = True
        self._run.flags |= 0 if self._run.done else KILLED
        self._run.send_signal(SIGKILL)

    def send_signal(self, sig: int) -> None:
        """Send a signal to every command that runs; as kill()."""
        self._run.send_signal(sig)

    def take(self) -> bytes | None:
        """Wait for the next piece of standard output; None at its end. Only for one that hands it out."""
        plumbing = self._run.plumbing
        found: list[bytes | None] = []

        def come() -> bool:
            piece = plumbing.take()
            if piece is not None:
                found.append(piece)
            return piece is not None or self._run.done

        self._drive(None, come)
        # What came together with the end.
        return found[0] if found else plumbing.take()

    def __enter__(self) -> Pipeline:
        self._run.enter()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill and reap what still runs. Harmless when repeated."""
        try:
            try:
                self._close()
            finally:
                self._close()
        finally:
            self._close()

    def _close(self) -> None:
        with self._lock:
            if not self._run.done:
                self._run.abort()
            self._reactor.close()


def instant_now() -> float:
    """The monotonic instant now."""
    now = deadline_from("", 0.0)
    assert now is not None
    return now


def start(expression: Expression, options: AnyMapping[str, Any]) -> Pipeline:
    """Start an expression and return its Pipeline, when what runs first is running. Options as of run().

    Raises:
        SpawnError: a command could not be started. Those that were are gone.
        TypeError, ValueError: an option is not possible; its name comes first. No child was made.
    """
    return begun(Pipeline(expression, options))


def begun(pipeline: Pipeline) -> Pipeline:
    """Start a pipeline and return it; close it when it cannot be started."""
    try:
        try:
            pipeline.begin()
            return pipeline
        except BaseException:
            pipeline.close()
            raise
    except BaseException:
        pipeline.close()
        raise


_PIECE = 1 << 14
"""Bytes of a piece that a reader has taken and not given: the next read may take one byte of it."""


class Reader:
    """A file of the standard output of a running expression, for reading.

    The read that finds the end also waits for all commands, and raises what `run()` would. Leaving the `with` block
    ends what still runs.
    """

    __slots__ = ("_begun", "_whole", "pipeline")

    def __init__(self, pipeline: Pipeline) -> None:
        """Take a pipeline that hands out its output."""
        self.pipeline = pipeline
        # What came and was not read: whole lines, and what follows them in pieces. At the end all is in the first.
        self._whole = BytesIO()
        self._begun: deque[bytes] = deque()

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, all when negative; b"" at the end.

        Raises:
            ExitError, TimeoutExpired, ExitStatusUnknown: at the end, as run(); what read() has read is in it as stdout.
        """
        first = self._whole.read(size)
        if 0 <= size <= len(first):
            return first
        pieces = [first]
        have = len(first)
        try:
            while size < 0 or have < size:
                if self._begun:
                    piece = self._begun.popleft()
                elif (taken := self.pipeline.take()) is not None:
                    piece = taken
                else:
                    break
                pieces.append(piece)
                have += len(piece)
        except BaseException:
            # Nothing that was read is lost.
            self._begun.extendleft(reversed(pieces))
            raise
        if 0 <= size < have:
            # Only the last piece is more than was asked for, and only it is cut.
            last = pieces[-1]
            keep = len(last) - (have - size)
            pieces[-1] = last[:keep]
            self._put_back(last, keep)
        data = b"".join(pieces)
        if size < 0 or not data:
            self._finish(data)
        return data

    def readline(self) -> bytes:
        r"""Read up to and with the next "\n"; b"" at the end. Raises as read()."""
        while not (line := self._whole.readline()):
            if not self._fill():
                self._finish(b"")
                break
        return line

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._blocks())

    def _blocks(self) -> Iterator[BytesIO]:
        yield self._whole
        while self._fill():
            yield self._whole
        self._finish(b"")

    def _fill(self) -> bool:
        """Wait for more whole lines, when there are none; False at the end."""
        while (piece := self.pipeline.take()) is not None:
            end = piece.rfind(b"\n") + 1
            if end:
                whole = b"".join((*self._begun, piece[:end]))
                self._whole, self._begun = BytesIO(whole), deque((piece[end:],) if end < len(piece) else ())
                return True
            self._begun.append(piece)
        data = b"".join(self._begun)
        self._whole, self._begun = BytesIO(data), deque()
        return bool(data)

    def _put_back(self, piece: bytes, start: int) -> None:
        """Keep what is behind the start of a piece; `_whole` is empty, and no end of a line is in `_begun`."""
        end = piece.rfind(b"\n") + 1
        if end > start:
            self._whole = BytesIO(piece[start:end])
            start = end
        if start < len(piece):
            # In pieces: the next read may take a byte only.
            rest = [piece[at : at + _PIECE] for at in range(start, len(piece), _PIECE)]
            self._begun.extendleft(reversed(rest))

    def _finish(self, data: bytes) -> None:
        try:
            self.pipeline.wait()
        except (errors.ExitError, errors.TimeoutExpired) as error:
            error.stdout = error.output = data
            raise

    @property
    def pids(self) -> list[int]:
        """As Pipeline.pids."""
        return self.pipeline.pids

    def try_wait(self) -> PipelineResult | None:
        """As Pipeline.try_wait; the stdout of the result is None or empty, as it is read here."""
        return self.pipeline.try_wait()

    def kill(self) -> None:
        """As Pipeline.kill."""
        self.pipeline.kill()

    def close(self) -> None:
        """End what still runs, at once."""
        _leave(self.pipeline)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def reader(expression: Expression, options: AnyMapping[str, Any]) -> Reader:
    """Start an expression and return a Reader of its standard output. Options as of run()."""
    reader = Reader(Pipeline(expression, options, streams=True))
    begun(reader.pipeline)
    return reader


def _leave(pipeline: Pipeline) -> None:
    try:
        try:
            if not pipeline.done and pipeline.pids:
                pipeline.stop(discard=True)
        finally:
            pipeline.close()
    finally:
        pipeline.close()


def lines(
    expression: Expression, options: AnyMapping[str, Any], cut: tuple[str | bytes, str | None, str, bool]
) -> Iterator[Any]:
    """Start an expression with the first line that is asked for, and give its lines; see Expression.lines().

    Args:
        expression: what to run.
        options: as of run().
        cut: newline, encoding, errors and keep_ends of a LineSplitter.
    """
    newline, encoding, mode, keep_ends = cut
    splitter = LineSplitter(newline, encoding=encoding, errors=mode, keep_ends=keep_ends)
    Request(expression, options, streams=True)
    return Lines(_batches(expression, options, splitter))


class Lines:
    """The lines of an expression. A loop takes them past this object: a call for each would cost more than the line."""

    __slots__ = ("_batches", "_lines")

    def __init__(self, batches: Generator[Iterator[Any], None, None]) -> None:
        self._batches = batches
        self._lines = chain.from_iterable(batches)

    def __iter__(self) -> Iterator[Any]:
        return self._lines

    def __next__(self) -> Any:
        return next(self._lines)

    def close(self) -> None:
        """End every stage at once; no further line is given. Harmless when repeated."""
        self._batches.close()
        for _ in self._lines:
            # Of the piece that was read last.
            pass


def _batches(
    expression: Expression, options: AnyMapping[str, Any], splitter: LineSplitter
) -> Generator[Iterator[Any], None, None]:
    pipeline = Pipeline(expression, options, streams=True)
    try:
        try:
            pipeline.begin()
            yield from _pieces(pipeline, splitter)
        finally:
            _leave(pipeline)
    finally:
        pipeline.close()


def _pieces(pipeline: Pipeline, splitter: LineSplitter) -> Generator[Iterator[Any], None, None]:
    while (piece := pipeline.take()) is not None:
        yield splitter.batch(piece, CUT)
        while splitter.waits:
            yield iter(splitter.resume())
    yield iter(splitter.finish())
    while splitter.waits:
        yield iter(splitter.resume())
    pipeline.wait()
