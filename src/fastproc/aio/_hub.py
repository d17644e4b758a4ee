"""The reactor of an event loop: one registered descriptor, however many children.

Each loop (asyncio's, uvloop's, trio's; anyio runs on these) gets a hub when it first needs one. The loop watches the
reactor's descriptor and its next timer, and calls `run_once(0)`; everything else is the engine, as in blocking code.
Not here: what is done for one child.
Invariant: nothing that a callback raises reaches the loop: it is kept for the task that waits (see Scope).
"""

from __future__ import annotations

from collections import deque
from contextvars import Context, copy_context

from fastproc._engine.reactor import Reactor, Timer
from fastproc._engine.signal_api import ABANDON_LIMIT
from fastproc.aio._bulk import Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any, Protocol

    class Event(Protocol):
        """What tasks wait for."""

        def set(self) -> object:
            """Wake the tasks."""

        def is_set(self) -> bool:
            """Whether set() was called."""

        def wait(self) -> Awaitable[object]:
            """Wait for set()."""

    class Ending(Protocol):
        """A run of one child or of an expression, as far as end_all() needs it."""

        @property
        def done(self) -> bool:
            """Whether it is over."""

        def stop(self) -> object:
            """Begin to end it."""

        def forsake(self) -> object:
            """Leave what cannot be ended to itself."""

    Helper = Callable[[], Coroutine[Any, Any, None]]
    OnError = Callable[[BaseException], object]


class LoopReactor(Reactor):
    """A reactor that tells its hub of a timer which is due before all others."""

    __slots__ = ("on_earlier",)

    def __init__(self, on_earlier: Callable[[], object]) -> None:
        super().__init__()
        self.on_earlier = on_earlier

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """As Reactor.call_at()."""
        timer = super().call_at(when, callback)
        if self._timers[0][2] is timer:
            self.on_earlier()
        return timer


class Scope:
    """The reactor as one task uses it: its callbacks run in the task's context, and what they raise is kept for it.

    Args:
        reactor: the hub's.
        on_error: called with what a callback raised.
    """

    __slots__ = ("_context", "_on_error", "_reactor", "unwatch")

    def __init__(self, reactor: Reactor, on_error: Callable[[BaseException], object]) -> None:
        self._reactor = reactor
        self._on_error = on_error
        self._context = copy_context()
        self.unwatch = reactor.unwatch

    def watch(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        """As Reactor.watch()."""
        self._reactor.watch(fd, events, _Scoped(self, callback))

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """As Reactor.call_at()."""
        return self._reactor.call_at(when, _Scoped(self, callback))

    def call_after(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """As Reactor.call_after()."""
        return self._reactor.call_after(seconds, _Scoped(self, callback))


class _Scoped:
    """A callback of a scope. What a signal handler raises just before or after it, the reactor tells to `halved`."""

    __slots__ = ("_call", "_scope")

    def __init__(self, scope: Scope, callback: Callable[..., object]) -> None:
        self._scope = scope
        self._call = callback

    def __call__(self, *args: object) -> None:
        try:
            self._scope._context.run(self._call, *args)
        except BaseException as error:
            self._scope._on_error(error)

    def halved(self, error: BaseException) -> None:
        self._scope._on_error(error)


class Again:
    """A callback of the reactor that may be called twice, and is when a signal handler raised inside of it."""

    __slots__ = ("_call",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self._call = callback

    def __call__(self) -> None:
        self._call()

    def halved(self, _error: BaseException) -> None:
        self._call()


class Patience:
    """How long one step may hold a loop that has no other child, in the hope that it is over by then.

    A program that ends at once is over before the loop could look, and the way through the loop costs as much as that
    again. But a wait shorter than the kernel's tick has a timer of its own programmed, which in a virtual machine takes
    20 us each time. So the wait is short at first, a tick after one that was worth it, none for a while after one that
    was not.
    """

    __slots__ = ("_ns", "_rest")

    FIRST_NS = 300_000
    MOST_NS = 4_000_000
    REST = 16

    def __init__(self) -> None:
        self._ns = self.FIRST_NS
        self._rest = 0

    def ask(self) -> int:
        """Nanoseconds for the next step; the caller tells what came of it, unless they are 0."""
        if self._rest:
            self._rest -= 1
            return 0
        return self._ns

    def learn(self, over: bool) -> None:
        """What the wait was worth."""
        if over:
            self._ns = self.MOST_NS
        else:
            self._ns = self.FIRST_NS
            self._rest = self.REST


class Turnstile:
    """Lets a few through before the loop goes round once more, in the order in which they come.

    A loop with 1,000 tasks has other things to do too than what each of them does in a millisecond.

    Args:
        hub: of the loop.
        at_once: how many.
    """

    __slots__ = ("_at_once", "_hub", "_passed", "_queue")

    def __init__(self, hub: Hub, at_once: int) -> None:
        self._hub = hub
        self._at_once = at_once
        self._passed = 0
        self._queue: deque[Event] = deque()

    async def turn(self) -> None:
        """Wait for the turn; it comes without letting others run where it can."""
        if self._passed < self._at_once and not self._queue:
            self._let(1)
            return
        event = self._hub.event()
        self._queue.append(event)
        try:
            await event.wait()
        except BaseException:
            if not event.is_set():
                self._queue.remove(event)
            raise

    def _let(self, number: int) -> None:
        if self._passed == 0:
            self._hub.reactor.call_at(0.0, Again(self._next_round))
        self._passed += number

    def _next_round(self) -> None:
        self._passed = 0
        number = min(self._at_once, len(self._queue))
        if number:
            self._let(number)
            for _ in range(number):
                # Set twice does no harm; never set, its task waits for ever.
                self._queue[0].set()
                self._queue.popleft()


class Hub:
    """What a loop's tasks wait by.

    Attributes:
        reactor: the loop's own.
        closed: whether the loop has ended.
        launching: how many children are being made that do not run their program yet.
        spawns, batches: the turns to make a child (a clone takes some 100 us), and to go through thousands of lines.
        resting: whether a step has held the loop for a child's end, and the other tasks have not run since.
        for_exec, for_end: the patience for the one and the other.
    """

    __slots__ = (
        "__weakref__",
        "_group",
        "batches",
        "closed",
        "for_end",
        "for_exec",
        "launching",
        "reactor",
        "resting",
        "spawns",
    )

    def __init__(self, reactor: LoopReactor | None = None) -> None:
        self.reactor = LoopReactor(self._on_earlier) if reactor is None else reactor
        self.closed = False
        self._group: Group | None = None
        self.launching = 0
        self.resting = False
        self.spawns = Turnstile(self, 8)
        self.batches = Turnstile(self, 1)
        self.for_exec = Patience()
        self.for_end = Patience()

    @property
    def group(self) -> Group:
        """The loop's bulk runs."""
        if self._group is None:
            self._group = Group(self.reactor)
        return self._group

    @property
    def idle(self) -> bool:
        """Whether no run or start of this loop goes on."""
        return self.launching == 0 and not self._group and not self.resting

    def rest(self) -> None:
        """Not be idle before the loop has gone round."""
        if not self.resting:
            self.resting = True
            self.reactor.call_at(0.0, Again(self._rested))

    def _rested(self) -> None:
        self.resting = False

    async def sleep(self, seconds: float) -> None:
        """Let some time pass."""
        event = self.event()
        timer = self.reactor.call_after(seconds, Again(event.set))
        try:
            await event.wait()
        finally:
            timer.cancel()

    def event(self) -> Event:
        """Return something to wait for."""
        raise NotImplementedError

    async def outlast(self, event: Event) -> None:
        """Wait for an event however often the task is cancelled meanwhile; that is raised at the end."""
        raise NotImplementedError

    async def alongside(self, helper: Helper, event: Event, on_error: OnError) -> None:
        """Wait for an event while a coroutine runs, which is cancelled then.

        Args:
            helper: makes the coroutine.
            event: what is waited for.
            on_error: called with whatever the coroutine raises but this cancellation, and it is left to its own loop to
                tell of what it raises when the waiting task was cancelled. It may set the event.
        """
        raise NotImplementedError

    async def breathe(self) -> None:
        """Let the other tasks run once; a cancellation arrives here."""
        raise NotImplementedError

    def _on_earlier(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Give the reactor's descriptor back. What is still registered is forgotten."""
        self.closed = True
        if self._group is not None:
            self._group.close()
        LoopReactor.close(self.reactor)


def bare(call: Callable[..., Any], *args: Any) -> Any:
    """Call something in an empty context, so that a loop's registration does not keep a task's context alive."""
    return Context().run(call, *args)


async def end_all(hub: Hub, exchange: Ending, ended: Event, patience: float) -> None:
    """Stop a child, or the children of an expression, and see it gone, whatever is cancelled meanwhile."""
    if not exchange.done and not hub.reactor.inert:
        try:
            exchange.stop()
        except OSError:
            exchange.forsake()
        # A tracer or a file system can hold a child that was killed: then it becomes an orphan, as in blocking code.
        timer = hub.reactor.call_after(patience + ABANDON_LIMIT, Again(exchange.forsake))
        try:
            await hub.outlast(ended)
        finally:
            timer.cancel()
