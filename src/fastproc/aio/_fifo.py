"""FIFOs that a command names as streams: their other side is waited for by the loop, which would be held by it."""

from __future__ import annotations

import os
from errno import ENXIO
from time import monotonic

from fastproc._engine.fds import STREAMS
from fastproc._engine.reactor import READ
from fastproc._engine.resolve import APPEND_FLAGS, FIFO_PAUSE_FIRST, FIFO_PAUSE_MAX, READ_FLAGS, WRITE_FLAGS, is_fifo
from fastproc._values.redirect import Append
from fastproc.aio._hub import Again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._engine.fds import Opened
    from fastproc._values.command import Command
    from fastproc._values.plan import ResolvedOptions
    from fastproc.aio._hub import Hub


async def fifos_opened(
    hub: Hub, command: Command, settled: ResolvedOptions, opened: Opened, deadline: float | None
) -> Command:
    """Open those of the command's streams that are FIFOs, and give the command with descriptors in their places.

    At the deadline, and where one cannot be opened, it is left as it is: resolve() has the error for it.
    """
    for index, stream in enumerate(settled.streams):
        path = stream.path if isinstance(stream, Append) else stream
        if not isinstance(path, str):
            continue
        try:
            if not is_fifo(os.stat(path)):
                continue
            flags = APPEND_FLAGS if stream is not path else WRITE_FLAGS
            fd = await (
                _readable(hub, opened, path, deadline) if index == 0 else _open(hub, opened, path, flags, deadline)
            )
        except OSError:
            continue
        if fd >= 0:
            os.set_blocking(fd, True)
            command = command._with({STREAMS[index]: fd})
    return command


async def _readable(hub: Hub, opened: Opened, path: str, deadline: float | None) -> int:
    """Open it for reading and wait for a writer, as a child would see the end of file before there is one (fifo(7))."""
    fd = opened.open(path, READ_FLAGS)
    ready = hub.event()
    timer = None if deadline is None else hub.reactor.call_at(deadline, Again(ready.set))
    came: list[int] = []

    def on_ready(events: int) -> None:
        came.append(events)
        ready.set()

    hub.reactor.watch(fd, READ, on_ready)
    try:
        await ready.wait()
    finally:
        hub.reactor.unwatch(fd)
        if timer is not None:
            timer.cancel()
    return fd if came else -1


async def _open(hub: Hub, opened: Opened, path: str, flags: int, deadline: float | None) -> int:
    """Open it for writing as soon as somebody reads it; nothing tells when that is."""
    pause = FIFO_PAUSE_FIRST
    while True:
        try:
            return opened.open(path, flags)
        except OSError as error:
            if error.errno != ENXIO:
                raise
        if deadline is not None and monotonic() >= deadline:
            return -1
        await hub.sleep(pause if deadline is None else max(0.0, min(pause, deadline - monotonic())))
        pause = min(pause * 2.0, FIFO_PAUSE_MAX)
