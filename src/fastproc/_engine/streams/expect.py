"""Waiting for something to be said: expect(), readline() and read() of a running child, in steps (see steps.py).

Everything is read by stream.py, so that stdin is fed and the other stream is kept meanwhile.
Invariant: what was read and not given to the caller, also because a time was over, is in the stream's queue again.
"""

from __future__ import annotations

from time import monotonic

from fastproc import errors
from fastproc._engine.reactor import deadline_from
from fastproc._values.expect import EndOfOutput, Expected, Search

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from fastproc._engine.handle import Handle
    from fastproc._engine.streams.output_queue import Output
    from fastproc._engine.streams.pump import Pause, Streams

    Steps = Generator[Pause, None, Any]

AT_ONCE = 1 << 16
"""Bytes that a regular expression gets to see at once, where they are there: what a pipe holds by default (pipe(7))."""


def expect(process: Handle, streams: Streams, output: Output, search: Search, timeout: float | None) -> Steps:
    """Wait for the first match, and take everything up to its end; return an Expected.

    Raises:
        TimeoutExpired: there was none in time; `output` has what came, which stays unread.
        EndOfOutput: nor before the end.
    """

    def look(data: bytearray) -> tuple[int, Expected] | None:
        # A regular expression needs all of it, and its match keeps it.
        found = search.find(data if search.is_literal else bytes(data))
        return None if found is None else (len(found.before) + len(found.data), found)

    data, found = yield from _gather(process, streams, output, look, timeout, AT_ONCE)
    if found is not None:
        return found
    at_end = search.at_end(data)
    if at_end is not None:
        return at_end
    _give_back(output, data)
    raise EndOfOutput(search.patterns, data)


def readline(process: Handle, streams: Streams, output: Output, timeout: float | None) -> Steps:
    """Wait for a line and return it with its end; what is left before the end of the output; then b"".

    Raises:
        TimeoutExpired: as expect().
    """
    search = Search(b"\n")

    def look(data: bytearray) -> tuple[int, bytes] | None:
        found = search.find(data)
        return None if found is None else (len(found.before) + 1, found.before + found.data)

    data, line = yield from _gather(process, streams, output, look, timeout)
    return data if line is None else line


def read(process: Handle, streams: Streams, output: Output, size: int, timeout: float | None) -> Steps:
    """Wait for `size` bytes and return them, or all up to the end; a negative size is all.

    Raises:
        TimeoutExpired: as expect().
    """

    def look(data: bytearray) -> tuple[int, bytes] | None:
        return None if size < 0 or len(data) < size else (size, bytes(data[:size]))

    data, found = yield from _gather(process, streams, output, look, timeout)
    return data if found is None else found


def _gather(
    process: Handle,
    streams: Streams,
    output: Output,
    look: Callable[[bytearray], tuple[int, Any] | None],
    timeout: float | None,
    at_once: int = 1,
) -> Steps:
    """Read until `look` finds something in what came, and give back what is after it.

    Args:
        process: whose.
        streams: all of it.
        output: the one to read.
        look: given all that came, returns how much of it is taken, and a value; or None. Called for each piece that
            comes, so it must not copy what it has seen.
        timeout: seconds.
        at_once: bytes to take, where they are there, between two looks; more when more was looked at in vain already,
            so that the looks cost no more than the reading.

    Returns:
        What was read, and what was found; None at the end of the stream.
    """
    deadline = deadline_from("timeout", timeout)
    output.uncut()
    data = bytearray()
    searched = 0
    wanted = [output]
    drain = process.times[2]
    try:
        while True:
            _take(output, data, max(at_once, searched))
            if len(data) > searched or not searched:
                found = look(data)
                if found is not None:
                    size, value = found
                    rest = bytes(data[size:])
                    data.clear()
                    _give_back(output, rest)
                    return b"", value
                searched = len(data)
            # Once at least, however little time there is: what lies in the pipe has come.
            left = None if deadline is None else max(0.0, deadline - monotonic())
            try:
                going = yield from streams.waiting(process, wanted, left, drain)
            except errors.TimeoutExpired:
                assert timeout is not None
                error = errors.timeout_expired(process.argv, timeout)
                error.output = bytes(data)
                raise error from None
            if not going:
                rest = bytes(data)
                data.clear()
                return rest, None
    finally:
        if data:
            _give_back(output, bytes(data))


def _take(output: Output, data: bytearray, room: int) -> None:
    """Move what has come, and what is there without a wait, into data; about `room` bytes at most."""
    items = output.items
    while room > 0:
        if not items and (output.ended or not output.read() or not items):
            return
        piece = items.popleft()[2]
        data += piece
        room -= len(piece)


GIVEN_BACK = 1 << 14
"""Bytes of a piece that is given back: the next reading takes a whole piece, and gives most of it back again."""


def _give_back(output: Output, rest: bytes) -> None:
    if rest:
        end = output.items[0][1] if output.items else output.offset
        now, offset = monotonic(), end - len(rest)
        pieces = [(now, offset + at, rest[at : at + GIVEN_BACK]) for at in range(0, len(rest), GIVEN_BACK)]
        output.items.extendleft(reversed(pieces))
