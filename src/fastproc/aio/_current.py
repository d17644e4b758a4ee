"""The hub of the event loop that runs in this thread, whichever loop that is."""

from __future__ import annotations

import sys
from _thread import _local
from weakref import WeakKeyDictionary

from fastproc._values.loading import loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastproc.aio._hub import Hub


class _Stepping(_local):
    """The hub of the task that an embedded reactor runs in this thread now, and asyncio's loop around it."""

    hub: Hub | None = None
    loop: object = None

    def enter(self, hub: Hub) -> None:
        """A task of this hub runs from now on."""
        asyncio = sys.modules.get("asyncio")
        self.hub = hub
        self.loop = None if asyncio is None else asyncio._get_running_loop()


stepping = _Stepping()


def current_hub() -> Hub:
    """Return the hub of the running loop, made when it is first asked for.

    Raises:
        RuntimeError: no event loop that is known here runs in this thread.
    """
    asyncio = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    hub = stepping.hub
    # A task may run a loop of asyncio's inside of itself.
    if hub is not None and loop is stepping.loop:
        return hub
    if loop is not None:
        hub = _hubs.get(loop)
        if hub is None or hub.closed or hub.reactor.inert:
            loaded("fastproc.aio._asyncio")
            from fastproc.aio._asyncio import AsyncioHub

            hub = _hubs[loop] = AsyncioHub(loop)
        return hub
    if "trio" in sys.modules:
        loaded("fastproc.aio._trio")
        from fastproc.aio._trio import trio_hub

        hub = trio_hub()
        if hub is not None:
            return hub
    raise RuntimeError("fastproc.aio: no event loop of asyncio, uvloop or trio runs in this thread")


_hubs: WeakKeyDictionary[Any, Hub] = WeakKeyDictionary()
