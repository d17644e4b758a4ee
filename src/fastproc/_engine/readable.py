"""How a Process is read and written piece by piece: its methods, and the check of what they are given.

The work is done by stream.py, which is loaded by the first call.
"""

from __future__ import annotations

from itertools import chain
from os import set_blocking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader, BufferedWriter
    from types import EllipsisType
    from typing import Any

    from fastproc._engine.fds import PipeEnds
    from fastproc._engine.process import Process
    from fastproc._engine.stream import Pause, Streams
    from fastproc._engine.terminal import Terminal
    from fastproc._values.expect import Expected, Pattern


_NAMES = ("stdin", "stdout", "stderr")


class Streaming:
    """What reads the outputs piece by piece, for whatever way of waiting: see `_iterate`."""

    __slots__ = ()

    def lines(
        self,
        stream: str = "stdout",
        *,
        input: bytes | Iterable[bytes] | None = None,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | bytes = "\n",
        keep_ends: bool = False,
        longest: int | None = None,
        over: str = "split",
        idle_timeout: float | EllipsisType | None = ...,
        drain_timeout: float | EllipsisType | None = ...,
    ) -> Any:
        r"""Iterate over the lines of an output as they come, without their ends, until it ends.

        Args:
            stream: "stdout" or "stderr", which must be PIPE or captured.
            input: what stdin, which must be PIPE, is fed meanwhile; it is closed afterwards.
            text: str instead of bytes.
            encoding: of the text.
            errors: what becomes of bytes that are no text, as bytes.decode() has it.
            newline: the one character that ends a line, such as "\0" for `find -print0`; or "universal".
            keep_ends: leave the ends on.
            longest: bytes (characters, of text) that a line may have; None for any number.
            over: a longer line is given in pieces ("split"), cut off ("truncate"), or an error ("raise").
            idle_timeout: seconds for which nothing may come; None for any. Left out: what start() was given (None).
            drain_timeout: seconds after the end of the child after which a pipe that others still hold is left, once it
                is empty (`pipes_still_open`); None: never. Left out: what start() was given (1.0).

        Raises:
            TimeoutExpired: nothing came for idle_timeout seconds; another call goes on.
            LineTooLong: a line is longer than `longest`, and over is "raise".
            UnicodeDecodeError: the output is no such text.
            ValueError: the stream is no pipe, is in use as a file, or an argument is not possible.
        """
        from fastproc._engine import steps as engine
        from fastproc._values.capture import LineSplitter

        splitter = LineSplitter(
            newline,
            encoding=encoding if text else None,
            errors=errors,
            keep_ends=keep_ends,
            longest=longest,
            over=over,
        )
        idle, drain = self._patience(idle_timeout, drain_timeout)
        streams, process = self._begin(input, stream)
        output = streams.output(stream)
        cut = output.cut((newline, encoding if text else None, errors, keep_ends, longest, over), splitter)
        return self._iterate(process, engine.batches(process, streams, output, cut, idle, drain), True)

    def chunks(
        self,
        stream: str = "stdout",
        *,
        input: bytes | Iterable[bytes] | None = None,
        idle_timeout: float | EllipsisType | None = ...,
        drain_timeout: float | EllipsisType | None = ...,
    ) -> Any:
        """Iterate over the bytes of an output as they come, in pieces that are never empty. The rest as lines()."""
        from fastproc._engine import steps as engine

        idle, drain = self._patience(idle_timeout, drain_timeout)
        streams, process = self._begin(input, stream)
        output = streams.output(stream)
        output.uncut()
        return self._iterate(process, engine.chunks(process, streams, output, idle, drain))

    def events(
        self,
        unit: str = "lines",
        *,
        input: bytes | Iterable[bytes] | None = None,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | bytes = "\n",
        longest: int | None = None,
        idle_timeout: float | EllipsisType | None = ...,
        drain_timeout: float | EllipsisType | None = ...,
    ) -> Any:
        """Iterate over what comes on both outputs as Events: stream, monotonic time of reading, byte offset, data.

        Exact within a stream. Between two pipes the order is that of reading, which is not exactly that of writing:
        nobody knows that. For the exact order start with `stderr=STDOUT`, one pipe, and use lines().

        Args:
            unit: "lines", or "chunks" for pieces as they come, which are bytes.
            input: as lines() has it.
            text: as lines() has it.
            encoding: as lines() has it.
            errors: as lines() has it.
            newline: as lines() has it, but one byte in the encoding.
            longest: bytes; a longer line comes in pieces.
            idle_timeout: as lines() has it.
            drain_timeout: as lines() has it.

        Raises:
            TimeoutExpired, UnicodeDecodeError, ValueError: as lines().
        """
        from fastproc._engine import steps as engine
        from fastproc._values.capture import UNIVERSAL, LineSplitter

        if unit not in ("lines", "chunks"):
            raise ValueError(f'unit: must be "lines" or "chunks", not {unit!r}')
        if text and unit == "chunks":
            raise ValueError("text: chunks are bytes")
        if newline == UNIVERSAL:
            raise ValueError("newline: must be one byte, so that offsets are exact")
        end = newline if isinstance(newline, str) else newline.decode("latin-1")
        if text and len(end.encode(encoding)) != 1:
            raise ValueError(f"encoding: {encoding} has lines that do not end by one byte; use lines()")
        key = (newline, None, "events", True, longest, "split")
        splitters = [LineSplitter(newline, keep_ends=True, longest=longest) for _ in range(2)]
        idle, drain = self._patience(idle_timeout, drain_timeout)
        streams, process = self._begin(input, None)
        wanted = list(streams.outputs.values())
        if not wanted:
            raise ValueError("stream: neither output is a pipe: start with capture=True")
        cuts = {}
        for output in wanted:
            if unit == "chunks":
                output.uncut()
            else:
                cuts[output.name] = output.cut(key, splitters.pop())
        decode = (lambda data: data.decode(encoding, errors)) if text else None
        steps = engine.events(process, streams, wanted, cuts, decode, idle, drain)
        return self._iterate(process, steps)

    @property
    def pipes_still_open(self) -> bool:
        """Whether an iteration ended because the child had ended and only others held the pipe."""
        streams: Streams | None = self._process()._streams
        return streams is not None and streams.given_up

    def _process(self) -> Any:
        """Return the Process that this is, or is for."""
        raise NotImplementedError

    def _iterate(self, process: Process, steps: Iterator[Any], batches: bool = False) -> Any:
        """Return an iterator over the steps' items, which are iterators themselves where `batches` says so."""
        raise NotImplementedError

    def _patience(
        self, idle: float | EllipsisType | None, drain: float | EllipsisType | None
    ) -> tuple[float | None, float | None]:
        from fastproc._values.options import check_seconds

        times = self._process().times
        return (
            times[1] if idle is ... else check_seconds("idle_timeout", idle),
            times[2] if drain is ... else check_seconds("drain_timeout", drain),
        )

    def _begin(self, source: bytes | Iterable[bytes] | None, stream: str | None) -> tuple[Streams, Process]:
        from fastproc._values.options import check_input

        process = self._process()
        process._check_usable()
        streams: Streams | None = process._streams
        if streams is None:
            from fastproc._engine.stream import Streams

            streams = process._streams = Streams(process)
        if stream is not None:
            streams.output(stream)
        if source is not None:
            streams.feed(process, check_input("input", source))  # type: ignore[arg-type]
        return streams, process


class Readable(Streaming):
    """The part of a Process that is about its pipes.

    One thread at a time. Whoever waits here for one stream also feeds stdin and keeps what comes on the other stream,
    so that child and caller cannot wait for each other; and nothing is read while nobody waits, so that a child that
    writes faster than it is read is held by its pipe.
    An iteration may be left and taken up again by the same call: nothing is lost in between.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _ends: PipeEnds
        _files: dict[int, BufferedReader | BufferedWriter]
        _streams: Streams | None
        times: tuple[float, float | None, float | None]

    @property
    def stdin(self) -> BufferedWriter | None:
        """The blocking, buffered file that feeds the child; None unless stdin=PIPE. For one thread at a time."""
        return self._file(0)  # type: ignore[return-value]

    @property
    def stdout(self) -> BufferedReader | None:
        """The blocking, buffered file of the child's output; None unless stdout=PIPE. For one thread at a time."""
        return self._file(1)  # type: ignore[return-value]

    @property
    def stderr(self) -> BufferedReader | None:
        """The blocking, buffered file of the child's errors; None unless stderr=PIPE. For one thread at a time."""
        return self._file(2)  # type: ignore[return-value]

    @property
    def ends(self) -> PipeEnds:
        """The non-blocking pipe ends that are not yet files, for those who feed and read by a reactor."""
        return self._ends

    @property
    def terminal(self) -> Terminal | None:
        """The pseudo-terminal that the child was started on (`pty`), with its size and settings; else None."""
        return self._ends.terminal

    def _file(self, stream: int) -> BufferedReader | BufferedWriter | None:
        file = self._files.get(stream)
        if file is None:
            terminal = self._ends.terminal
            if terminal is not None and (stream == 1 or (stream == 0 and terminal.on_stdin)):
                # One open file for both directions, whose end is an error: no file of Python's can be made of that.
                raise ValueError(f"{_NAMES[stream]}: is a terminal; use write(), lines(), readline(), expect()")
            if self._streams is not None:
                self._streams.check_free(stream)
            file = self._ends.file(stream)
            if file is not None:
                self._files[stream] = file
        return file

    def _close_files(self) -> None:
        if self._streams is not None:
            # Before the descriptors: what is closed while it is watched cannot be removed any more (HAZARDS C15).
            self._streams.close(self)  # type: ignore[arg-type]
        self._ends.close()
        for file in list(self._files.values()):
            try:
                # Closing writes what is still buffered, and a grandchild may hold the pipe and read nothing.
                set_blocking(file.fileno(), False)
                file.close()
            except (OSError, ValueError):
                # What was still buffered for a child that has gone (EPIPE); it was closed before.
                pass

    # -- a conversation

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """Write bytes to stdin, all of them, keeping what comes on the outputs meanwhile.

        That the child has gone is no error: its status tells.

        Raises:
            TimeoutExpired: the child does not take all of it in `timeout` seconds; the rest is dropped.
            ValueError: stdin is no pipe or terminal, is closed, in use as a file, or being fed already; or a line is
                longer than a terminal takes.
        """
        streams, process = self._begin(None, None)
        self._finish(streams.writing(process, self.typed(bytes(data)), timeout))

    def typed(self, data: bytes) -> bytes:
        """Return what is about to be written, after a look whether the terminal, if there is one, can take it.

        Raises:
            ValueError: a line is too long.
        """
        terminal = self._ends.terminal
        if terminal is not None and terminal.on_stdin:
            terminal.check(data)
        return data

    def expect(
        self,
        pattern: Pattern | list[Pattern] | tuple[Pattern, ...],
        timeout: float | None = None,
        *,
        stream: str = "stdout",
    ) -> Expected:
        r"""Wait until a pattern, or one of several, is found in an output; take everything up to its end.

        The match that begins first counts, then the pattern that was given first. A regular expression matches what has
        come when it matches at all: `\d+` may find the first half of a number, `\d+\n` not.

        Args:
            pattern: bytes; str, taken as UTF-8; a compiled regular expression of either; EOFError for the end of the
                output; or a list of them.
            timeout: seconds; None for any.
            stream: "stdout" or "stderr".

        Returns:
            The index of the pattern, the bytes before it, its own bytes, and the re.Match of a regular expression.

        Raises:
            TimeoutExpired: nothing was found in time; `output` has what came. It is not taken: all can go on.
            EndOfOutput: the output has ended, and EOFError was not expected. What came can still be read.
            TypeError, ValueError: the pattern, or the stream, is not possible.
        """
        from fastproc._engine import expecting
        from fastproc._values.expect import Search

        search = Search(pattern)
        streams, process = self._begin(None, stream)
        found: Expected = self._finish(expecting.expect(process, streams, streams.output(stream), search, timeout))
        return found

    def readline(self, timeout: float | None = None, *, stream: str = "stdout") -> bytes:
        """Wait for one line of an output and return it with its end; b"" when the output has ended.

        A terminal ends its lines with a return and a newline.

        Raises:
            TimeoutExpired: it did not come whole in `timeout` seconds; `output` has what came, which is not taken.
            ValueError: the stream is not possible.
        """
        from fastproc._engine import expecting

        streams, process = self._begin(None, stream)
        found: bytes = self._finish(expecting.readline(process, streams, streams.output(stream), timeout))
        return found

    def read(self, size: int = -1, timeout: float | None = None, *, stream: str = "stdout") -> bytes:
        """Wait for `size` bytes of an output, or for all up to its end, and return them.

        Fewer only at the end. What comes as it comes: chunks().

        Raises:
            TimeoutExpired: they did not come in `timeout` seconds; `output` has what came, which is not taken.
            ValueError: the stream is not possible.
        """
        from fastproc._engine import expecting

        streams, process = self._begin(None, stream)
        found: bytes = self._finish(expecting.read(process, streams, streams.output(stream), size, timeout))
        return found

    def send_key(self, name: str) -> None:
        """Type a special key of the terminal: "intr" (Ctrl-C), "eof" (Ctrl-D), "quit", "susp" and others of termios(3).

        It does what the terminal is set to do: "intr" sends SIGINT to the foreground group, unless the program has
        switched that off and reads the key itself.

        Raises:
            ValueError: the child has no terminal of ours for its stdin, or that has no such key at the moment.
        """
        self.write(self.key(name))

    def key(self, name: str) -> bytes:
        """Return what a special key of the terminal sends now.

        Raises:
            ValueError: as send_key().
        """
        terminal = self._ends.terminal
        if terminal is None or not terminal.on_stdin:
            raise ValueError("name: the child's stdin is no terminal of ours; start with pty=True")
        return terminal.key(name)

    def close_stdin(self) -> None:
        """Let the child see the end of its input. Harmless when repeated.

        A terminal that is not raw is sent its end-of-file character; one that is has no end of input.
        """
        terminal = self._ends.terminal
        if terminal is not None and terminal.on_stdin and not self._ends[0].closed and terminal.canonical:
            self.send_key("eof")
        if self._streams is not None:
            self._streams.end_input()
        self._ends[0].close()
        file = self._files.get(0)
        if file is not None:
            file.close()

    def _process(self) -> Readable:
        return self

    def _finish(self, steps: Iterator[Pause]) -> Any:
        """Do the steps in this thread, and return what they return."""
        process: Any = self
        try:
            while True:
                pause = next(steps)
                process._streams.wait(process, pause)
        except StopIteration as done:
            return done.value
        finally:
            # Whatever ended the wait: what the steps hold is given back now, not when they are freed.
            steps.close()  # type: ignore[attr-defined]

    def _iterate(self, process: Process, steps: Iterator[Any], batches: bool = False) -> Iterator[Any]:
        from fastproc._engine.steps import drive

        items = drive(process, steps)
        # A generator for each line would cost more than the line.
        return chain.from_iterable(items) if batches else items
