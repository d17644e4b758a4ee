r"""fastproc in any event loop, by three methods: `fileno()`, `timeout()`, `run_once(0)`.

A Reactor runs coroutines that use `fastproc.aio`. It needs no other event loop, and any event loop can drive it.
docs/event-loops.md has examples for asyncio, trio, Tornado, gevent and poll(2).

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
    """The exception that `Task.cancel()` raises in the coroutine, where it waits."""


class Flag:
    """A flag that tasks can wait for."""

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[Task] = []

    def set(self) -> None:
        """Set the flag, and wake the waiting tasks."""
        self._set = True
        # The list is not changed here: if a signal handler raises, the reactor wakes all tasks (`run_once()`).
        for task in self._waiting:
            task._go_on()

    def is_set(self) -> bool:
        """Return whether set() was called."""
        return self._set

    def wait(self) -> Awaitable[None]:
        """Wait until set() is called; return at once if it was called before."""
        return self

    def __await__(self) -> Generator[Flag, None, None]:
        # A task is also woken, without a reason, after run_once() has raised.
        while not self._set:
            yield self


class Breath:
    """An awaitable that lets the other tasks run once."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield None


class Task:
    """A coroutine that a Reactor runs. `Reactor.create_task()` and `run()` create it.

    Attributes:
        done: whether the coroutine has ended.
        on_done: a function that is called once, with this task, when the coroutine has ended. `run_once()` calls it, in
            the context in which the task was created, and raises its exceptions.
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
        # The finalizer calls this: it does nothing, or raises an error that was not retrieved.
        self._drop: Callable[[], object] = int
        # The exception that is raised in the coroutine at the next step.
        self._thrown: BaseException | None = None
        self._queued = False
        self._waits_for: Flag | None = None
        self.done = False
        self.on_done = on_done

    def __repr__(self) -> str:
        state = "running" if not self.done else "ended" if self._error is None else f"ended by {self._error!r}"
        return f"<Task {getattr(self._coroutine, '__qualname__', '?')} {state}>"

    def cancel(self) -> None:
        """Raise Cancelled in the coroutine, where it waits. It may end its children first.

        Does nothing if the task is done. A `run()` sends its child SIGTERM, and SIGKILL after the grace period. The
        task is done when the child has ended.
        """
        if not self.done:
            self._thrown = Cancelled()
            self._go_on()

    def result(self) -> Any:
        """Return the result of the coroutine, or raise its exception.

        Raises:
            RuntimeError: the task still runs.
            Cancelled: the task was cancelled. For a `run()`, its attribute `result` is the Result up to then.
        """
        if not self.done:
            raise RuntimeError(f"{self!r}: has no result yet")
        self._drop = int
        if self._error is not None:
            raise self._error
        return self._value

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the end in another task of the same reactor, and return the result.

        If the waiting task is cancelled, this task continues.
        """
        yield from self._ended.__await__()
        return self.result()

    def _go_on(self) -> None:
        if not self._queued and not self.done:
            self._reactor._queue(self)

    def _step(self) -> None:
        """Run the coroutine up to its next wait. May be called again after it has raised, at any point."""
        self._queued = False
        if self.done:
            if not self._ended.is_set():
                self._report()
            return
        coroutine = self._coroutine
        if coroutine.__class__ is CoroutineType and coroutine.cr_frame is None:
            # The coroutine had just ended when a signal handler raised out of run_once().
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
                # A signal handler has raised, just before or after the coroutine ran. The step is repeated.
                raise
            # Without the frame of this function, which would be a reference cycle between the task and its exception.
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
        """Wake the tasks that wait for this task, and call on_done."""
        error = self._error
        self._reactor._tasks.discard(self)
        self._ended.set()
        done, self.on_done = self.on_done, None
        if done is not None:
            self._context.run(done, self)
        if error is not None and not isinstance(error, (Exception, Cancelled)):
            # Such as KeyboardInterrupt: it concerns the program, not only the waiters of the task.
            self._drop = int
            raise error

    def _is_for_nobody(self, error: BaseException) -> None:
        """Print the exception by sys.unraisablehook when the task is dropped, unless result() retrieves it before."""
        if not isinstance(error, Cancelled):
            self._drop = partial(_unstarted().throw, error)

    # Only C code: in a finalizer with Python code an exception of a signal handler would be lost.
    __del__ = property(attrgetter("_drop"))


class ReactorHub(Hub):
    """The hub of fastproc.aio in the tasks of a Reactor."""

    __slots__ = ()

    reactor: Reactor

    def event(self) -> Event:
        """Implement Hub.event()."""
        return Flag()

    async def outlast(self, event: Event) -> None:
        """Implement Hub.outlast()."""
        late: Cancelled | None = None
        while not event.is_set() and not self.reactor.inert:
            try:
                await event.wait()
            except Cancelled as error:
                late = error
        if late is not None:
            raise late

    async def alongside(self, helper: Helper, event: Event, on_error: OnError) -> None:
        """Implement Hub.alongside(). An exception that cannot be reported is printed."""
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
        """Implement Hub.breathe()."""
        await Breath()


class Reactor(LoopReactor):
    """An event loop that any other event loop can drive, and that runs coroutines of fastproc.aio.

    To drive it: wait until `fileno()` is readable or `timeout()` seconds have passed, then call `run_once(0)`. Call
    `timeout()` again after every `run_once()` and whenever `on_earlier` is called. Without another loop `run_once()`
    waits itself. All work and all callbacks are done in `run_once()`. A Reactor is for one thread: all calls except the
    methods of processes must be made in the thread that drives it. It opens no descriptor until it is needed, starts no
    thread and handles no signal.

    Args:
        on_earlier: a function that is called when `timeout()` has decreased. Loops whose timers are set in advance need
            it. A loop that calls `timeout()` before each wait does not.
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
        """Run a command in this reactor, with the arguments, result and exceptions of `fastproc.aio.run()`.

        Args:
            program: as for `fastproc.run()`.
            args: as for `fastproc.run()`.
            on_done: a function that is called with the task at its end. `result()` of the task returns the Result, or
                raises.
            options: as for `fastproc.run()`.

        Raises:
            TypeError, ValueError: at once: an argument or option is invalid; the message starts with its name.
        """
        command = as_command(program, args, options)
        settle(command)
        return self.create_task(run(command), on_done)

    def create_task(self, coroutine: Coroutine[Any, Any, Any], on_done: Callable[[Task], object] | None = None) -> Task:
        """Run a coroutine from the next `run_once()` on, in a copy of the current context.

        The coroutine may await functions of fastproc.aio, `sleep()` and other tasks of this reactor. If a task without
        `on_done` raises, and neither `result()` nor another task retrieves the exception, it is printed when the task
        is dropped.

        Raises:
            TypeError: `coroutine` is not a coroutine.
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
        """Wait in a task of this reactor. With 0, let the other tasks run once."""
        await (self._hub.sleep(seconds) if seconds > 0.0 else self._hub.breathe())

    def timeout(self) -> float | None:
        """Return the seconds until the next timer; 0.0 if there is work to do now; None if there is no timer."""
        return 0.0 if self._ready else super().timeout()

    def run_once(self, timeout: float | None = None) -> int:
        """Wait for an event or timer, handle it, and return the number of callbacks and steps of tasks.

        Args:
            timeout: the maximum of seconds; None: wait for the next timer or event. May return early with 0.

        Raises:
            RuntimeError: this process is a forked copy; there is nothing to wait for; or the call is inside
                `run_once()`.
            BaseException: a callback or `on_done` raised it. The next call handles the rest.
        """
        if self._busy.locked():
            raise RuntimeError("run_once: called inside itself")
        # A lock, because the exit from its block is one C call: no signal handler can leave it locked.
        ran = 0
        with self._busy:
            ran += self._turn(timeout)
        return ran

    def _turn(self, timeout: float | None) -> int:
        try:
            ran = super().run_once(0.0 if self._ready else timeout)
            # Tasks that a step wakes run at the next call, so that they cannot occupy the loop.
            for _ in range(len(self._ready)):
                # A task leaves the queue only when its step is complete, because a signal handler may raise anywhere in
                # it.
                task = self._ready[0]
                self._step(task)
                if self._ready and self._ready[0] is task:
                    self._ready.popleft()
                ran += 1
        except BaseException:
            # A flag may be set without all its tasks being woken: wake all tasks, which check their flags again.
            for task in self._tasks:
                task._go_on()
            raise
        return ran

    def close(self) -> None:
        """Cancel the tasks, wait until they are done and their children have ended, and release all resources.

        This may take the grace period of a run. For a child that cannot be killed (a tracer or a file system holds it)
        it takes five seconds more, and the child is reaped later. In a forked copy it does not wait.
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
            # Tasks that did not end when they were cancelled.
            for task in list(self._tasks):
                task._drop = int
                task._coroutine.close()

    def _queue(self, task: Task) -> None:
        # In this order, a signal handler that raises in between causes an extra step and not a missing one.
        self._ready.append(task)
        task._queued = True
        if not self._busy.locked() and len(self._ready) == 1:
            self.on_earlier()

    def _step(self, task: Task) -> None:
        before = stepping.hub, stepping.loop
        hooks = sys.get_asyncgen_hooks()
        stepping.enter(self._hub)
        # Otherwise the surrounding loop would finalize the asynchronous generators of the tasks.
        sys.set_asyncgen_hooks(None, None)
        try:
            task._step()
        finally:
            sys.set_asyncgen_hooks(*hooks)
            stepping.hub, stepping.loop = before


def _unstarted() -> Generator[None, None, None]:
    """Return a generator whose throw() raises the given exception without running its code."""
    yield


def _nothing() -> None:
    """Do nothing: the default of `on_earlier`."""
