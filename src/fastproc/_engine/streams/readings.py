"""The readings of a running child as steps: generators that give items and, where there is none yet, a Pause.

They wait for nothing themselves: `drive` does it in this thread, an event loop's driver in its own way.
"""

from __future__ import annotations

from time import monotonic

from fastproc._engine.streams.output_queue import CUT
from fastproc._engine.streams.pump import Pause
from fastproc._values.capture import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any

    from fastproc._engine.handle import Handle
    from fastproc._engine.streams.output_queue import Lines, Output
    from fastproc._engine.streams.pump import Streams


def drive(process: Handle, streams: Streams, steps: Iterable[Any]) -> Iterator[Any]:
    """Do the steps in this thread, and give the items among them."""
    for item in steps:
        if item.__class__ is Pause:
            streams.wait(process, item)
        else:
            yield item


def batches(
    process: Handle, streams: Streams, output: Output, lines: Lines, idle: float | None, drain: float | None
) -> Iterator[Any]:
    """Give iterators of lines, in steps."""
    items = output.items
    splitter = lines.splitter
    wanted = [output]
    while True:
        yield lines.batch
        if splitter.waits:
            # An error, once, and with the next reading what is behind it.
            lines.batch = iter(())
            lines.batch = iter(splitter.resume())
            continue
        if lines.finished:
            return
        if items or (yield from streams.waiting(process, wanted, idle, drain)):
            _, offset, data = items.popleft()
            if lines.follows(offset, len(data)):
                lines.batch = splitter.batch(data, CUT)
            else:
                # A limit has dropped what was between: what was begun before is no part of the line after.
                lines.batch = iter([*splitter.finish(), *splitter.batch(data, CUT)])
        else:
            yield from _checked(process, streams)
            lines.finished = True
            lines.batch = iter(splitter.finish())


def chunks(process: Handle, streams: Streams, output: Output, idle: float | None, drain: float | None) -> Iterator[Any]:
    """Give what comes as it comes, in steps."""
    items = output.items
    wanted = [output]
    while items or (yield from streams.waiting(process, wanted, idle, drain)):
        yield items.popleft()[2]
    yield from _checked(process, streams)


def events(
    process: Handle,
    streams: Streams,
    wanted: list[Output],
    cuts: dict[str, Lines],
    decode: Callable[[bytes], Any] | None,
    idle: float | None,
    drain: float | None,
    label: str | None,
) -> Iterator[Any]:
    """Give what comes on all streams in the order in which it was read, in steps, under their names or a label."""
    found: deque[Event | UnicodeDecodeError] = streams.events
    going = True
    while going:
        while found:
            yield _raised(found.popleft())
        going = any(output.items for output in wanted) or (yield from streams.waiting(process, wanted, idle, drain))
        ready = [output for output in wanted if output.items]
        if ready:
            output = min(ready, key=lambda output: output.items[0][0])
            time, offset, data = output.items.popleft()
            if not cuts:
                found.append(Event(label or output.name, time, offset, data))
                continue
            cut = cuts[output.name]
            if not cut.follows(offset, len(data)):
                _add_lines(found, label or output.name, time, cut, cut.splitter.finish(), decode)
                cut.offset = offset
            _add_lines(found, label or output.name, time, cut, cut.splitter.feed(data), decode)
        for output in wanted:
            output.refill()
            if cuts and output.ended and not output.items and not cuts[output.name].finished:
                cut = cuts[output.name]
                cut.finished = True
                _add_lines(found, label or output.name, monotonic(), cut, cut.splitter.finish(), decode)
    while found:
        yield _raised(found.popleft())
    yield from _checked(process, streams)


def _checked(process: Handle, streams: Streams) -> Generator[Pause, None, None]:
    """At the end of a reading: tell, once the child has ended, that it was stopped because of a limit.

    Raises:
        OutputTooLarge: as its CaptureLimit says; with what was not taken.
    """
    if streams.overflowed is not None and streams.overflowed.raises:
        from fastproc._engine.streams.result_of_started import conclude

        yield from streams.ending(process, None, None, process.times[2])
        conclude(process, streams)
    streams.fail()


def _raised(event: Event | UnicodeDecodeError) -> Event:
    """Return an event.

    Raises:
        UnicodeDecodeError: it stands in the place of a line. The next reading goes on behind it.
    """
    if isinstance(event, UnicodeDecodeError):
        raise event
    return event


def _add_lines(
    events: deque[Event | UnicodeDecodeError],
    name: str,
    time: float,
    cut: Lines,
    lines: list[bytes],
    decode: Callable[[bytes], Any] | None,
) -> None:
    offset = cut.offset
    for line in lines:
        data = line.removesuffix(cut.end)
        try:
            events.append(Event(name, time, offset, data if decode is None else decode(data)))
        except UnicodeDecodeError as error:
            events.append(error)
        offset += len(line)
    cut.offset = offset
