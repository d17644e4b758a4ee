"""The hub of a loop of asyncio, or of one with its interface, such as uvloop's."""

from __future__ import annotations

import asyncio
from weakref import finalize, ref

from fastproc.aio._hub import Hub, bare

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.aio._hub import Event, Helper, OnError


class AsyncioEvent:
    """A flag that tasks wait for."""

    __slots__ = ("_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[asyncio.Future[None]] = []

    def set(self) -> None:
        """Wake the tasks."""
        self._set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def is_set(self) -> bool:
        """Whether set() was called."""
        return self._set

    async def wait(self) -> None:
        """Wait for set(); at once when it was called."""
        if not self._set:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)


class TaskEnd(AsyncioEvent):
    """The end of a task, set by its callback; but it counts also where a signal handler raised in that callback."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        super().__init__()
        self._task = task

    def is_set(self) -> bool:
        """Whether the task has ended."""
        return self._task.done()


class _Pump:
    """What the loop calls when the reactor is ready."""

    __slots__ = ("__weakref__", "_hub")

    def __init__(self, hub: AsyncioHub) -> None:
        self._hub = hub

    def __call__(self) -> None:
        self._hub.pump()


class AsyncioHub(Hub):
    """One add_reader() and at most one call_later(), whatever there is to wait for."""

    __slots__ = ("_fd", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        # Weak: the table of hubs is keyed by the loop, which this must not keep alive.
        self._loop = ref(loop)
        self._handle: asyncio.TimerHandle | None = None
        self._fd = self.reactor.fileno()
        # Held by the loop alone, which drops it when it is closed, and that ends the hub. Not before: one of the
        # asynchronous generators, which the loop ends all at once, may hold a child, or run a command at its end.
        pump = _Pump(self)
        finalize(pump, self.close).atexit = False
        bare(loop.add_reader, self._fd, pump)
        del pump

    def event(self) -> Event:
        """As Hub.event()."""
        return AsyncioEvent()

    async def outlast(self, event: Event) -> None:
        """As Hub.outlast()."""
        late: asyncio.CancelledError | None = None
        self._catch_up()
        # In a forked copy nothing would set it.
        while not event.is_set() and not self.reactor.inert:
            try:
                await event.wait()
            except asyncio.CancelledError as error:
                late = error
                self._catch_up()
        if late is not None:
            raise late

    async def alongside(self, helper: Helper, event: Event, on_error: OnError) -> None:
        """As Hub.alongside(); asyncio logs what is told to nobody."""
        leaving = False

        def on_done(task: asyncio.Task[None]) -> None:
            ended.set()
            if task.cancelled():
                if not leaving:
                    # Its own, such as that of a task that it waited for.
                    on_error(asyncio.CancelledError())
            elif event.is_set() or not leaving:
                error = task.exception()
                if error is not None:
                    on_error(error)

        task = asyncio.get_running_loop().create_task(helper())
        ended = TaskEnd(task)
        task.add_done_callback(on_done)
        try:
            await event.wait()
        finally:
            leaving = True
            task.cancel()
            await self.outlast(ended)

    async def breathe(self) -> None:
        """As Hub.breathe()."""
        await asyncio.sleep(0)

    def close(self) -> None:
        """As Hub.close()."""
        loop = self._loop()
        if self.closed:
            return
        self.closed = True
        if loop is not None and not loop.is_closed() and not self.reactor.inert:
            loop.remove_reader(self._fd)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        super().close()

    def pump(self) -> None:
        """Do what is ready and due."""
        if self.closed or self.reactor.inert:
            return
        try:
            self.reactor.run_once(0.0)
            self._on_earlier()
        except BaseException:
            # A callback or a signal handler raised, such as KeyboardInterrupt: the loop may be run again.
            self._on_earlier()
            raise

    def _catch_up(self) -> None:
        """Make sure of the next timer: a signal handler that raised in the loop may have left the reactor without."""
        if self.reactor.timeout() == 0.0:
            # Not by a new timer: where a cancelled scope of anyio cancels each turn of the loop, it would never be due.
            self.pump()
        elif not self.reactor.inert:
            self._on_earlier()

    def _on_earlier(self) -> None:
        # The new one first: a signal handler that raises here leaves one too many, and not none.
        before, left = self._handle, self.reactor.timeout()
        loop = self._loop()
        if left is not None and loop is not None and not loop.is_closed():
            self._handle = bare(loop.call_later, left, self._on_timer)
        else:
            self._handle = None
        if before is not None:
            before.cancel()

    def _on_timer(self) -> None:
        # The handle of this call stays, although it is used up: `_on_earlier()` replaces it.
        self.pump()
