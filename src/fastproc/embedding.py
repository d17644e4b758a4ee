r"""fastproc in any event loop, by three calls: `fileno()`, `timeout()`, `run_once(0)`.

What is done by it are the names of `fastproc.aio` in coroutines, which a Reactor runs itself: no other loop is needed,
and whichever there is drives it. docs/event-loops.md has it in asyncio, trio, Tornado, gevent and poll(2).

>>> import fastproc
>>> with fastproc.Reactor() as reactor:
...     task = reactor.run("echo", "hello", capture=True)
...     while not task.done:
...         _ = reactor.run_once()
>>> task.result().stdout
b'hello\n'
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from collections import deque
from contextvars import copy_context
from functools import partial
from operator import attrgetter
from types import CoroutineType

from fastproc._engine.signal_api import ABANDON_LIMIT
from fastproc._run import as_command
from fastproc._values.plan import settle
from fastproc.aio._current import stepping
from fastproc.aio._hub import Hub, LoopReactor
from fastproc.aio._run import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context
    from typing import Any, Unpack

    from fastproc._values.aliases import Text
    from fastproc._values.command import Command, OptionsDict
    from fastproc.aio._hub import Event, Helper, OnError

__all__ = ["Cancelled", "Reactor", "Task"]


class Cancelled(BaseException):
    """What `Task.cancel()` raises inside of the coroutine, where it waits."""


class Flag:
    """Something that tasks wait for."""

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[Task] = []

    def set(self) -> None:
        """Wake the tasks that wait."""
        self._set = True
        # Nothing is taken from the list here: if a signal handler raises, the reactor wakes all tasks (`run_once()`).
        for task in self._waiting:
            task._go_on()

    def is_set(self) -> bool:
        """Whether set() was called."""
        return self._set

    def wait(self) -> Awaitable[None]:
        """Wait for set(); at once when it was called."""
        return self

    def __await__(self) -> Generator[Flag, None, None]:
        # A task is also woken, for nothing, after an exception has come out of run_once().
        while not self._set:
            yield self


class Breath:
    """An awaitable that lets the other tasks run once."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield None


class Task:
    """A coroutine that a Reactor runs. Made by `Reactor.create_task()` and `run()`.

    Attributes:
        done: whether the coroutine has ended.
        on_done: called once, with this task, when it has: inside of `run_once()`, in the context in which the task was
            made. What it raises comes out of that `run_once()`.
    """

    __slots__ = (
        "__weakref__",
        "_context",
        "_coroutine",
        "_drop",
        "_ended",
        "_error",
        "_queued",
        "_reactor",
        "_thrown",
        "_value",
        "_waits_for",
        "done",
        "on_done",
    )

    def __init__(
        self, reactor: Reactor, coroutine: Coroutine[Any, Any, Any], on_done: Callable[[Task], object] | None
    ) -> None:
        self._reactor = reactor
        self._coroutine = coroutine
        self._context: Context = copy_context()
        self._ended = Flag()
        self._value: Any = None
        self._error: BaseException | None = None
        # What the finalizer calls: nothing, or what raises the error that nobody was told of.
        self._drop: Callable[[], object] = int
        # What is raised in the coroutine next.
        self._thrown: BaseException | None = None
        self._queued = False
        self._waits_for: Flag | None = None
        self.done = False
        self.on_done = on_done

    def __repr__(self) -> str:
        state = "running" if not self.done else "ended" if self._error is None else f"ended by {self._error!r}"
        return f"<Task {getattr(self._coroutine, '__qualname__', '?')} {state}>"

    def cancel(self) -> None:
        """Raise Cancelled in the coroutine, where it waits; it may end its children first. Harmless when it is done.

        A `run()` sends its child SIGTERM, and SIGKILL when the grace is over; the task is done when the child is gone.
        """
        if not self.done:
            self._thrown = Cancelled()
            self._go_on()

    def result(self) -> Any:
        """Return what the coroutine returned, or raise what it raised.

        Raises:
            RuntimeError: it still runs.
            Cancelled: it was cancelled; of a `run()`, the Result up to then is in the attribute `result`.
        """
        if not self.done:
            raise RuntimeError(f"{self!r}: has no result yet")
        self._drop = int
        if self._error is not None:
            raise self._error
        return self._value

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the end, in another task of the same reactor, and give the result.

        Cancelling the one that waits changes nothing for this one.
        """
        yield from self._ended.__await__()
        return self.result()

    def _go_on(self) -> None:
        if not self._queued and not self.done:
            self._reactor._queue(self)

    def _step(self) -> None:
        """Go on up to the next wait. May be called again after an exception came out of it, wherever that was."""
        self._queued = False
        if self.done:
            if not self._ended.is_set():
                self._report()
            return
        coroutine = self._coroutine
        if coroutine.__class__ is CoroutineType and coroutine.cr_frame is None:
            # What a signal handler raised came out of run_once() just when the coroutine had ended.
            self._error = RuntimeError(f"{self!r}: its outcome was lost when a signal handler raised")
            self.done = True
            self._report()
            return
        waited, self._waits_for = self._waits_for, None
        if waited is not None and self in waited._waiting:
            waited._waiting.remove(self)
        thrown = self._thrown
        try:
            if thrown is not None:
                wanted = self._context.run(coroutine.throw, thrown)
            else:
                wanted = self._context.run(coroutine.send, None)
        except StopIteration as end:
            self._end(end.value, None)
        except BaseException as error:
            if coroutine.__class__ is CoroutineType and coroutine.cr_frame is not None:
                # A signal handler's, just before or after the coroutine ran. The step is made again.
                raise
            # Without the frame of this function, which would make a cycle of the task and its error.
            self._end(None, error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
        else:
            # The coroutine may have cancelled its own task.
            if self._thrown is thrown:
                self._thrown = None
            self._wait_for(wanted)

    def _wait_for(self, wanted: object) -> None:
        if isinstance(wanted, Flag) and not wanted.is_set() and self._thrown is None:
            self._waits_for = wanted
            wanted._waiting.append(self)
            return
        if wanted is not None and not isinstance(wanted, Flag):
            self._thrown = RuntimeError(
                f"a task of a fastproc.Reactor awaits fastproc.aio, tasks and Reactor.sleep() only, not {wanted!r}"
            )
        self._go_on()

    def _end(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        if error is not None and self.on_done is None and not self._ended._waiting:
            self._is_for_nobody(error)
        self.done = True
        self._report()

    def _report(self) -> None:
        """Tell those who wait for this task that it is done."""
        error = self._error
        self._reactor._tasks.discard(self)
        self._ended.set()
        done, self.on_done = self.on_done, None
        if done is not None:
            self._context.run(done, self)
        if error is not None and not isinstance(error, (Exception, Cancelled)):
            # Such as KeyboardInterrupt: it is for the program, not for who waits for the task.
            self._drop = int
            raise error

    def _is_for_nobody(self, error: BaseException) -> None:
        """If nobody asks for it, the interpreter prints an error when the task is dropped (sys.unraisablehook)."""
        if not isinstance(error, Cancelled):
            self._drop = partial(_unstarted().throw, error)

    # In C alone: what a signal handler raises in a finalizer of Python's is lost.
    __del__ = property(attrgetter("_drop"))


class ReactorHub(Hub):
    """What fastproc.aio waits by in the tasks of a Reactor."""

    __slots__ = ()

    reactor: Reactor

    def event(self) -> Event:
        """As Hub.event()."""
        return Flag()

    async def outlast(self, event: Event) -> None:
        """As Hub.outlast()."""
        late: Cancelled | None = None
        while not event.is_set() and not self.reactor.inert:
            try:
                await event.wait()
            except Cancelled as error:
                late = error
        if late is not None:
            raise late

    async def alongside(self, helper: Helper, event: Event, on_error: OnError) -> None:
        """As Hub.alongside(); what is told to nobody is printed."""
        leaving = False

        def on_done(task: Task) -> None:
            error = task._error
            if leaving and (isinstance(error, Cancelled) or not event.is_set()):
                if error is not None:
                    task._is_for_nobody(error)
            elif error is not None:
                on_error(error)

        task = self.reactor.create_task(helper(), on_done)
        try:
            await event.wait()
        finally:
            leaving = True
            task.cancel()
            await self.outlast(task._ended)

    async def breathe(self) -> None:
        """As Hub.breathe()."""
        await Breath()


class Reactor(LoopReactor):
    """A place to wait that any event loop can drive, and that runs coroutines of fastproc.aio.

    The contract: wait until `fileno()` is readable or `timeout()` seconds have passed, then call `run_once(0)`; and ask
    for `timeout()` again after every `run_once()` and whenever `on_earlier` is called. Without another loop,
    `run_once()` itself waits. Everything is done inside of `run_once()`; nothing else calls back. For one thread: all
    calls, but those of processes, are made where it is driven. No descriptor is open before it is needed, no thread is
    started, no signal handled.

    Args:
        on_earlier: called, by whatever makes it so, when `timeout()` has become less than it was. For loops that are
            told of a timer in advance; one that asks for `timeout()` before each wait needs none.
    """

    __slots__ = ("_busy", "_hub", "_ready", "_tasks")

    def __init__(self, on_earlier: Callable[[], object] | None = None) -> None:
        super().__init__(on_earlier or _nothing)
        self._ready: deque[Task] = deque()
        self._tasks: set[Task] = set()
        self._busy = allocate_lock()
        self._hub = ReactorHub(self)

    def run(
        self,
        program: Command | Text | list[Text] | tuple[Text, ...],
        /,
        *args: Text,
        on_done: Callable[[Task], object] | None = None,
        **options: Unpack[OptionsDict],
    ) -> Task:
        """Run a command by this reactor: a task of `fastproc.aio.run()`, with the same arguments, result and errors.

        Args:
            program: as `fastproc.run()` has it.
            args: as `fastproc.run()` has it.
            on_done: called with the task at its end; `result()` of that gives the Result, or raises.
            options: as `fastproc.run()` has it.

        Raises:
            TypeError, ValueError: at once: an argument or option is not possible; its name comes first.
        """
        command = as_command(program, args, options)
        settle(command)
        return self.create_task(run(command), on_done)

    def create_task(self, coroutine: Coroutine[Any, Any, Any], on_done: Callable[[Task], object] | None = None) -> Task:
        """Run a coroutine, from the next `run_once()` on, in a copy of the current context.

        It may await the names of fastproc.aio, `sleep()` and other tasks of this reactor. An error of a task without
        `on_done` that nobody asks for is printed when the task is dropped.

        Raises:
            TypeError: it is no coroutine.
            RuntimeError: the reactor is closed.
        """
        if not hasattr(coroutine, "send"):
            raise TypeError(f"coroutine: must be a coroutine, not {type(coroutine).__name__}")
        if self._hub.closed:
            raise RuntimeError("this reactor is closed")
        task = Task(self, coroutine, on_done)
        self._tasks.add(task)
        task._go_on()
        return task

    async def sleep(self, seconds: float) -> None:
        """Let some time pass, in a task of this reactor; with 0, let the other tasks run once."""
        await (self._hub.sleep(seconds) if seconds > 0.0 else self._hub.breathe())

    def timeout(self) -> float | None:
        """Seconds until the next timer is due; 0.0 when there is something to do now, None when there is no timer."""
        return 0.0 if self._ready else super().timeout()

    def run_once(self, timeout: float | None = None) -> int:
        """Wait until something is ready or due, do it, and give the number of callbacks and steps of tasks.

        Args:
            timeout: seconds at most; None waits for the next timer or event. May return early with 0.

        Raises:
            RuntimeError: in a forked copy; when there is nothing that could ever happen; inside of itself.
            BaseException: what a callback, or `on_done`, raises. The rest is done by the next call.
        """
        if self._busy.locked():
            raise RuntimeError("run_once: called by something that it called itself")
        # A lock, as its end of the block is one call of C: no signal handler can leave it held.
        with self._busy:
            ran = self._turn(timeout)
        return ran

    def _turn(self, timeout: float | None) -> int:
        try:
            ran = super().run_once(0.0 if self._ready else timeout)
            # Those that a step wakes come next time, so that no chain of them holds the loop.
            for _ in range(len(self._ready)):
                # A task leaves the queue when its step is complete: a signal handler may raise anywhere in it.
                task = self._ready[0]
                self._step(task)
                if self._ready and self._ready[0] is task:
                    self._ready.popleft()
                ran += 1
        except BaseException:
            # A flag may be set whose tasks are not all woken: each looks again at what it waits for.
            for task in self._tasks:
                task._go_on()
            raise
        return ran

    def close(self) -> None:
        """Cancel the tasks, wait until they are done and their children are gone, and give everything back.

        That takes the grace of a run, and for a child that cannot be killed (a tracer or a file system holds it) five
        seconds more; it is left to be reaped later. In a forked copy nothing is waited for.
        """
        try:
            if self._tasks and not self.inert and not self._busy.locked():
                self._finish()
        finally:
            self._tasks.clear()
            self._ready.clear()
            self._hub.close()

    def __enter__(self) -> Reactor:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _finish(self) -> None:
        over: list[bool] = []
        timer = self.call_after(2 * ABANDON_LIMIT, lambda: over.append(True))
        try:
            for task in list(self._tasks):
                task.on_done = None
                task.cancel()
            while self._tasks and not over:
                self.run_once()
        finally:
            timer.cancel()
            # What does not end when it is cancelled.
            for task in list(self._tasks):
                task._drop = int
                task._coroutine.close()

    def _queue(self, task: Task) -> None:
        # In this order: what a signal handler raises in between makes one step too many, and not none.
        self._ready.append(task)
        task._queued = True
        if not self._busy.locked() and len(self._ready) == 1:
            self.on_earlier()

    def _step(self, task: Task) -> None:
        before = stepping.hub, stepping.loop
        hooks = sys.get_asyncgen_hooks()
        stepping.enter(self._hub)
        # The loop around would end our asynchronous generators in its own way.
        sys.set_asyncgen_hooks(None, None)
        try:
            task._step()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            stepping.hub, stepping.loop = before


def _unstarted() -> Generator[None, None, None]:
    """A generator whose throw() raises what it is given, with no step of its code."""
    yield


def _nothing() -> None:
    """Nobody asked."""
