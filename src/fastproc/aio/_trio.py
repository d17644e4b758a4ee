"""The hub of a trio run.

Invariant: somebody drives the reactor while anybody waits: the run's system task, or, once trio has ended those and
closes what is left of the asynchronous generators, one of the tasks that wait.
"""

from __future__ import annotations

from contextvars import Context
from math import inf

import trio

from fastproc.aio._hub import Hub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.aio._hub import Event, Helper, OnError

FORK_EVERY = 0.5
"""Seconds after which one that nothing cancels asks whether this is a forked copy by now."""

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
        trio.lowlevel.add_instrument(_Closing(hub))
        try:
            trio.lowlevel.spawn_system_task(hub.serve, context=Context())
        except RuntimeError:
            # The run is ending, and takes no system task any more.
            pass
        else:
            hub.driver = hub
    return hub


class _Closing(trio.abc.Instrument):
    """Closes the hub at the end of the run: after the asynchronous generators, which end after the system tasks."""

    def __init__(self, hub: TrioHub) -> None:
        self._hub = hub

    def after_run(self) -> None:
        """No task is left."""
        self._hub.close()


class TrioEvent:
    """A flag that tasks wait for."""

    __slots__ = ("_hub", "_set", "_wake")

    def __init__(self, hub: TrioHub) -> None:
        self._hub = hub
        self._set = False
        self._wake = trio.Event()

    def set(self) -> None:
        """Wake the tasks."""
        self._set = True
        self.nudge()

    def nudge(self) -> None:
        """Let the tasks look who drives."""
        self._wake.set()
        if self._hub.driver is self:
            self._hub.interrupt()

    def is_set(self) -> bool:
        """Whether set() was called."""
        return self._set

    async def wait(self) -> None:
        """Wait for set(); after a checkpoint when it was called."""
        hub = self._hub
        if self._set:
            await trio.lowlevel.checkpoint()
        key = object()
        hub.waiting[key] = self
        try:
            while not self._set:
                wake = self._wake
                if hub.driver is None:
                    await hub.drive(self)
                else:
                    await wake.wait()
                    if not self._set and self._wake is wake:
                        self._wake = trio.Event()
        finally:
            del hub.waiting[key]


class TrioHub(Hub):
    """One task at a time waits for the reactor's descriptor.

    Attributes:
        driver: the event whose task does, the hub itself for the system task, None when nobody does.
        waiting: the events that are waited for, each as often as it is.
    """

    __slots__ = ("_scope", "driver", "waiting")

    def __init__(self) -> None:
        super().__init__()
        self._scope: trio.CancelScope | None = None
        self.driver: TrioHub | TrioEvent | None = None
        self.waiting: dict[object, TrioEvent] = {}

    def event(self) -> Event:
        """As Hub.event()."""
        return TrioEvent(self)

    async def outlast(self, event: Event) -> None:
        """As Hub.outlast(): trio tells of the cancellation at the next checkpoint."""
        # In a forked copy nothing would set it: looked at now and then.
        while not event.is_set() and not self.reactor.inert:
            with trio.move_on_after(FORK_EVERY, shield=True):
                await event.wait()

    async def alongside(self, helper: Helper, event: Event, on_error: OnError) -> None:
        """As Hub.alongside(); what is told to nobody is raised, as by any clean-up that fails while it is cancelled."""

        async def guarded() -> None:
            try:
                await helper()
            except trio.Cancelled:
                raise
            except BaseException as error:
                if not event.is_set() and trio.current_effective_deadline() == -inf:
                    raise
                on_error(error)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(guarded)
                await event.wait()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # Cancelled, once for each of the two.
            _, others = group.split(trio.Cancelled)
            raise (others or group).exceptions[0] from None

    async def breathe(self) -> None:
        """As Hub.breathe()."""
        await trio.lowlevel.checkpoint()

    async def serve(self) -> None:
        """Drive the reactor until the main task has ended."""
        await self.drive(None)

    async def drive(self, until: TrioEvent | None) -> None:
        """Drive the reactor until an event is set; for ever when there is none."""
        self.driver = until or self
        try:
            fd = self.reactor.fileno()
            while until is None or not until.is_set():
                with trio.CancelScope() as self._scope:
                    self._on_earlier()
                    await trio.lowlevel.wait_readable(fd)
                self._scope = None
                self.reactor.run_once(0.0)
        finally:
            self._scope = None
            self.driver = None
            for event in self.waiting.values():
                # One of them is the next.
                if event is not until:
                    event.nudge()

    def interrupt(self) -> None:
        """Let the driver look at its event."""
        if self._scope is not None:
            self._scope.cancel()

    def _on_earlier(self) -> None:
        if self._scope is not None:
            left = self.reactor.timeout()
            self._scope.deadline = inf if left is None else trio.current_time() + left
