"""How a Process is read and written piece by piece: its methods, and the check of what they are given.

The work is done by stream.py, which is loaded by the first call.
"""

from __future__ import annotations

from itertools import chain
from os import set_blocking

from fastproc._engine.streams.reading_api import Streaming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import BufferedReader, BufferedWriter
    from typing import Any

    from fastproc._engine.fds import OwnedFd
    from fastproc._engine.handle import Handle
    from fastproc._engine.streams.pipe_ends import PipeEnds
    from fastproc._engine.streams.pump import Pause, Streams
    from fastproc._engine.streams.sink import Taps
    from fastproc._engine.streams.terminal import Terminal
    from fastproc._values.expect import Expected, Pattern
    from fastproc._values.status import Result


_NAMES = ("stdin", "stdout", "stderr")


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
        memory: dict[int, OwnedFd | memoryview]
        taps: Taps | None
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
            if self.taps is not None and stream in self.taps.by_number:
                raise ValueError(f"{_NAMES[stream]}: has a limit, on_line or tee; use lines(), read(), result()")
            file = self._ends.file(stream)
            if file is not None:
                self._files[stream] = file
        return file

    def _close_files(self) -> None:
        if self._streams is not None:
            # Before the descriptors: what is closed while it is watched cannot be removed any more (GOTCHAS C15).
            self._streams.close(self)  # type: ignore[arg-type]
        self._ends.close()
        if self.taps is not None:
            self.taps.files.close()
        for memory in self.memory.values():
            if not isinstance(memory, memoryview):
                memory.close()
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
        from fastproc._engine.streams import expect as expecting
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
        from fastproc._engine.streams import expect as expecting

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
        from fastproc._engine.streams import expect as expecting

        streams, process = self._begin(None, stream)
        found: bytes = self._finish(expecting.read(process, streams, streams.output(stream), size, timeout))
        return found

    def result(self, *, input: bytes | Iterable[bytes] | None = None, timeout: float | None = None) -> Result:
        """Feed stdin, read the outputs to their ends, wait for the end of the child, and return its Result.

        Its outputs are what nobody has taken before, within the limits that start() was given; a MEMFD is all that was
        written to it, as a memoryview, each time. The status is not checked: see `Result.check()`. With no input stdin
        is closed, unless it is being fed already.

        Args:
            input: what stdin, which must be PIPE, is fed; it is closed afterwards.
            timeout: seconds; None for any.

        Raises:
            TimeoutExpired: that is over, or nothing came for `idle_timeout` seconds as start() was given them. What
                came is in it, as `output` and `stderr`, and is not lost: another call goes on. The child lives.
            OutputTooLarge: a limit with over="raise" was passed; the child was stopped, the Result is in it.
            ExitStatusUnknown: it has ended, and somebody else took its status (GOTCHAS D2).
            ValueError: stdin is no pipe, or is in use; an output is being read as text, in the middle of a line.
        """
        from fastproc._engine.streams.result_of_started import conclude

        self.finishing(input)
        self._read_out(timeout)
        streams, process = self._begin(None, None)
        return conclude(process, streams)

    def finishing(self, source: bytes | Iterable[bytes] | None) -> None:
        """Feed stdin, or close it, for result()."""
        streams, _ = self._begin(source, None)
        if source is None and not streams.feeds:
            self.close_stdin()

    def _read_out(self, timeout: float | None) -> None:
        streams, process = self._begin(None, None)
        self._finish(streams.ending(process, timeout, self.times[1], self.times[2]))

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

    def _iterate(self, process: Handle, steps: Iterator[Any], batches: bool = False) -> Iterator[Any]:
        from fastproc._engine.streams.readings import drive

        streams = self._streams
        assert streams is not None
        items = drive(process, streams, steps)
        # A generator for each line would cost more than the line.
        return chain.from_iterable(items) if batches else items
