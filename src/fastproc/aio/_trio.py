"""The hub of a trio run."""

from __future__ import annotations

from contextvars import Context
from math import inf

import trio

from fastproc.aio._hub import Hub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from fastproc.aio._hub import Event

_kept: trio.lowlevel.RunVar[TrioHub | None] = trio.lowlevel.RunVar("fastproc", default=None)


def trio_hub() -> Hub | None:
    """Return the hub of the trio run of this thread, made when it is first asked for; None outside of one."""
    try:
        hub = _kept.get()
    except RuntimeError:
        return None
    if hub is None or hub.closed or hub.reactor.inert:
        hub = TrioHub()
        _kept.set(hub)
        trio.lowlevel.spawn_system_task(hub.serve, context=Context())
    return hub


class TrioHub(Hub):
    """One system task that waits for the reactor's descriptor; trio cancels it when the main task has ended."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        super().__init__()
        self._waiting: trio.CancelScope | None = None

    def event(self) -> Event:
        """As Hub.event()."""
        return trio.Event()

    async def outlast(self, event: Event) -> None:
        """As Hub.outlast(): trio tells of the cancellation at the next checkpoint."""
        with trio.CancelScope(shield=True):
            await event.wait()

    async def alongside(self, helper: Callable[[], Coroutine[Any, Any, None]], event: Event) -> None:
        """As Hub.alongside()."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(helper)
                await event.wait()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # Cancelled, once for each of the two.
            raise group.exceptions[0] from None

    async def breathe(self) -> None:
        """As Hub.breathe()."""
        await trio.lowlevel.checkpoint()

    async def serve(self) -> None:
        """Drive the reactor until the run ends."""
        fd = self.reactor.fileno()
        try:
            while True:
                with trio.CancelScope() as self._waiting:
                    self._on_earlier()
                    await trio.lowlevel.wait_readable(fd)
                self._waiting = None
                self.reactor.run_once(0.0)
        finally:
            self.close()

    def _on_earlier(self) -> None:
        if self._waiting is not None:
            left = self.reactor.timeout()
            self._waiting.deadline = inf if left is None else trio.current_time() + left
