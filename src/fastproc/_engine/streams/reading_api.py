"""What reads a running child's outputs piece by piece, in blocking code and in event loops: the check of what is given.

The work is done by stream.py and steps.py, which are loaded by the first call.
"""

from __future__ import annotations

from fastproc._values.loading import loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import EllipsisType
    from typing import Any

    from fastproc._engine.handle import Handle
    from fastproc._engine.streams.pump import Streams


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
            LineTooLong: a line is longer than `longest`, and over is "raise". The lines before it were given, and
                another call goes on behind it.
            UnicodeDecodeError: a line is no such text; its `object` has the bytes. The same.
            ValueError: the stream is no pipe, is in use as a file, or an argument is not possible.
        """
        from fastproc._engine.streams import readings as engine
        from fastproc._values.lines import LineSplitter

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
        from fastproc._engine.streams import readings as engine

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
        nobody knows that. For the exact order start with `stderr=STDOUT`, one pipe, and use merged().

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
        return self._events(None, unit, input, text, encoding, errors, newline, longest, idle_timeout, drain_timeout)

    def merged(
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
        """Iterate over both outputs in the exact order in which they were written, as Events whose stream is "both".

        Both must be one pipe, or a terminal: start with `capture=True, stderr=STDOUT`. Which of them an item was
        written to, nobody can tell then: what tells it is events(), whose order is not exact.

        Args:
            unit: as events() has it, like all the others.
            input: as lines() has it.
            text: as lines() has it.
            encoding: as lines() has it.
            errors: as lines() has it.
            newline: as events() has it.
            longest: as events() has it.
            idle_timeout: as lines() has it.
            drain_timeout: as lines() has it.

        Raises:
            ValueError: the outputs do not share one pipe; or as events().
            TimeoutExpired, UnicodeDecodeError: as lines().
        """
        from fastproc._values.redirect import STDERR, STDOUT

        settled = self._process().settled
        if settled is not None and (settled.streams[2] is STDOUT or all(settled.on_terminal[1:])):
            name = "stdout"
        elif settled is not None and settled.streams[1] is STDERR:
            name = "stderr"
        else:
            raise ValueError("stderr: the outputs have no common order; start with capture=True, stderr=STDOUT")
        return self._events(name, unit, input, text, encoding, errors, newline, longest, idle_timeout, drain_timeout)

    def _events(
        self,
        merged: str | None,
        unit: str,
        input: bytes | Iterable[bytes] | None,
        text: bool,
        encoding: str,
        errors: str,
        newline: str | bytes,
        longest: int | None,
        idle_timeout: float | EllipsisType | None,
        drain_timeout: float | EllipsisType | None,
    ) -> Any:
        from fastproc._engine.streams import readings as engine
        from fastproc._values.lines import UNIVERSAL, LineSplitter

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
        streams, process = self._begin(input, merged)
        wanted = list(streams.outputs.values()) if merged is None else [streams.output(merged)]
        if not wanted:
            raise ValueError("stream: neither output is a pipe: start with capture=True")
        cuts = {}
        for output in wanted:
            if unit == "chunks":
                output.uncut()
            else:
                cuts[output.name] = output.cut(key, splitters.pop())
        decode = (lambda data: data.decode(encoding, errors)) if text else None
        label = None if merged is None else "both"
        steps = engine.events(process, streams, wanted, cuts, decode, idle, drain, label)
        return self._iterate(process, steps)

    @property
    def pipes_still_open(self) -> bool:
        """Whether an iteration ended because the child had ended and only others held the pipe."""
        streams: Streams | None = self._process()._streams
        return streams is not None and streams.given_up

    def _process(self) -> Any:
        """Return the Process that this is, or is for."""
        raise NotImplementedError

    def _iterate(self, process: Handle, steps: Iterator[Any], batches: bool = False) -> Any:
        """Return an iterator over the steps' items, which are iterators themselves where `batches` says so."""
        raise NotImplementedError

    def _patience(
        self, idle: float | EllipsisType | None, drain: float | EllipsisType | None
    ) -> tuple[float | None, float | None]:
        from fastproc._values.checks import check_seconds

        times = self._process().times
        return (
            times[1] if idle is ... else check_seconds("idle_timeout", idle),
            times[2] if drain is ... else check_seconds("drain_timeout", drain),
        )

    def _begin(self, source: bytes | Iterable[bytes] | None, stream: str | None) -> tuple[Streams, Handle]:
        from fastproc._values.options import check_input

        process = self._process()
        process._check_usable()
        streams: Streams | None = process._streams
        if streams is None:
            loaded("fastproc._engine.streams.pump")
            from fastproc._engine.streams.pump import Streams

            streams = process._streams = Streams(process)
        if stream is not None:
            streams.output(stream)
        if source is not None:
            streams.feed(process, check_input("input", source))  # type: ignore[arg-type]
        return streams, process
