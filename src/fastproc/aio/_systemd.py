"""systemd's protocols in an event loop: waiting for a service, and pings for the watchdog of this one."""

from __future__ import annotations

from fastproc._engine.exit_watch import ExitWatch, has_ended
from fastproc._engine.reactor import READ
from fastproc.aio._current import current_hub
from fastproc.systemd import NotifyServer
from fastproc.systemd import watchdog as blocking_watchdog
from fastproc.systemd._notify_send import seconds_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.process import Process
    from fastproc.aio._hub import Event


async def wait_ready(server: NotifyServer, timeout: float | None = None) -> None:
    """Wait until a service says that it is ready. As NotifyServer.wait_ready().

    Raises:
        NotReady, StartTimeout, RuntimeError: as there.
    """
    reactor = current_hub().reactor
    process = server.expect(timeout)
    waiting: list[Event] = []

    def wake() -> None:
        for event in waiting:
            event.set()

    def on_message(_ready: int) -> None:
        reactor.unwatch(server.fileno())
        wake()

    def on_end(_process: Process) -> None:
        wake()

    watch = ExitWatch(process, reactor, on_end)
    try:
        if not has_ended(process):
            watch.begin()
        while True:
            # The end is looked at first: what was sent before it is there then.
            ended = has_ended(process)
            if server.take_until_ready():
                return
            left = seconds_left(server.deadline)
            if ended or left == 0.0:
                raise server.failure(timeout)
            event = current_hub().event()
            waiting[:] = (event,)
            reactor.watch(server.fileno(), READ, on_message)
            timer = None if left is None else reactor.call_after(left, wake)
            try:
                await event.wait()
            finally:
                if timer is not None:
                    timer.cancel()
    finally:
        watch.close()
        if server.fileno() >= 0:
            reactor.unwatch(server.fileno())


wait_ready.__module__ = "fastproc.aio"


def watchdog(alive: Callable[[], object] | None = None) -> blocking_watchdog:
    """Ping the manager from the running loop for the time of a `with` block, as systemd.watchdog() does.

    A task that holds the loop holds the pings too, as it should be.

    Raises:
        RuntimeError: no event loop runs in this thread.
        ValueError: as systemd.watchdog_usec().
    """
    return blocking_watchdog(current_hub().reactor, alive)


watchdog.__module__ = "fastproc.aio"
