"""One program in every event loop: `python examples/event_loops.py [LOOP ...]`.

`work` uses children; it does not know the loop. Each `with_...` function drives its reactor in another loop, by the
three calls of the contract: fileno(), timeout(), run_once(0). docs/event-loops.md explains them.
"""

from __future__ import annotations

import math
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import fastproc
from fastproc import aio

Begin = Callable[[fastproc.Reactor], Any]


async def work(reactor: fastproc.Reactor) -> dict[str, Any]:
    """Start children, read them, give them a deadline, talk to one, stop one."""
    found: dict[str, Any] = {}

    def ended(task: Any) -> None:
        found["callback"] = task.result().text().strip()

    seen: list[bytes] = []
    # With callbacks ...
    reactor.run("echo", "hello", capture=True, on_done=ended)
    slow = reactor.run("sleep", "60", timeout=0.1)
    lines = reactor.run("seq", "3", capture=True, on_line=lambda _stream, line: seen.append(line))
    # ... or awaited.
    async with aio.start("sh", "-c", "seq 1000; echo problem >&2", capture=True) as child:
        found["events"] = [event.stream async for event in child.events()].count("stdout")
    async with aio.start("cat", stdin=fastproc.PIPE, stdout=fastproc.PIPE) as child:
        await child.write(b"question\n")
        found["answer"] = await child.readline()
        found["stopped"] = await child.stop()
    try:
        await slow
    except fastproc.TimeoutExpired:
        found["deadline"] = "over"
    await lines
    found["lines"] = seen
    return found


def with_asyncio(begin: Begin, loop_factory: Callable[[], Any] | None = None) -> Any:
    """Drive a reactor in asyncio's loop, or in one with its interface."""
    import asyncio

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None

        def pump() -> None:
            try:
                reactor.run_once(0)
            finally:
                arm()

        def arm() -> None:
            nonlocal timer
            if timer is not None:
                timer.cancel()
            left = reactor.timeout()
            timer = None if left is None else loop.call_later(left, pump)

        with fastproc.Reactor(on_earlier=arm) as reactor:
            loop.add_reader(reactor.fileno(), pump)
            try:
                done = loop.create_future()
                begin(reactor).on_done = done.set_result
                return (await done).result()
            finally:
                loop.remove_reader(reactor.fileno())
                if timer is not None:
                    timer.cancel()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


def with_uvloop(begin: Begin) -> Any:
    """The same in uvloop."""
    import uvloop

    return with_asyncio(begin, uvloop.new_event_loop)


def with_trio(begin: Begin) -> Any:
    """Drive a reactor in a task of trio's."""
    import trio

    async def main() -> Any:
        waiting = trio.CancelScope()
        with fastproc.Reactor(on_earlier=lambda: waiting.cancel()) as reactor:
            task = begin(reactor)
            while not task.done:
                left = reactor.timeout()
                with trio.move_on_after(math.inf if left is None else left) as waiting:
                    await trio.lowlevel.wait_readable(reactor.fileno())
                reactor.run_once(0)
            return task.result()

    return trio.run(main)


def with_anyio(begin: Begin, backend: str) -> Any:
    """Drive a reactor in a task of anyio's, on asyncio or on trio."""
    import anyio

    async def main() -> Any:
        waiting = anyio.CancelScope()
        with fastproc.Reactor(on_earlier=lambda: waiting.cancel()) as reactor:
            task = begin(reactor)
            while not task.done:
                with anyio.move_on_after(reactor.timeout()) as waiting:
                    await anyio.wait_readable(reactor.fileno())
                reactor.run_once(0)
            return task.result()

    return anyio.run(main, backend=backend)


def with_tornado(begin: Begin) -> Any:
    """Drive a reactor in Tornado's IOLoop."""
    import asyncio

    from tornado.ioloop import IOLoop

    async def main() -> Any:
        loop = IOLoop.current()
        timer: object = None

        def pump(*_args: object) -> None:
            try:
                reactor.run_once(0)
            finally:
                arm()

        def arm() -> None:
            nonlocal timer
            if timer is not None:
                loop.remove_timeout(timer)
            left = reactor.timeout()
            timer = None if left is None else loop.call_later(left, pump)

        with fastproc.Reactor(on_earlier=arm) as reactor:
            loop.add_handler(reactor.fileno(), pump, IOLoop.READ)
            try:
                done: asyncio.Future[Any] = asyncio.Future()
                begin(reactor).on_done = done.set_result
                return (await done).result()
            finally:
                loop.remove_handler(reactor.fileno())
                if timer is not None:
                    loop.remove_timeout(timer)

    return asyncio.run(main())


def with_gevent(begin: Begin) -> Any:
    """Drive a reactor in gevent's hub, also where its monkey patches are in place. Callbacks may not switch there."""
    import gevent
    from gevent.event import AsyncResult

    loop = gevent.get_hub().loop
    timer = loop.timer(0)

    def pump() -> None:
        try:
            reactor.run_once(0)
        finally:
            arm()

    def arm() -> None:
        nonlocal timer
        timer.stop()
        left = reactor.timeout()
        if left is not None:
            timer = loop.timer(left)
            timer.start(pump)

    with fastproc.Reactor(on_earlier=arm) as reactor:
        readable = loop.io(reactor.fileno(), 1)
        readable.start(pump)
        try:
            done = AsyncResult()
            begin(reactor).on_done = done.set
            return done.get().result()
        finally:
            readable.stop()
            readable.close()
            timer.stop()
            timer.close()


def with_poll(begin: Begin) -> Any:
    """Drive a reactor beside other descriptors in a loop of poll(2)."""
    poller = select.poll()
    with fastproc.Reactor() as reactor:
        poller.register(reactor.fileno(), select.POLLIN)
        task = begin(reactor)
        while not task.done:
            left = reactor.timeout()
            poller.poll(None if left is None else math.ceil(left * 1000))
            reactor.run_once(0)
        return task.result()


def with_nothing(begin: Begin) -> Any:
    """Drive a reactor by itself, where there is no other loop."""
    with fastproc.Reactor() as reactor:
        task = begin(reactor)
        while not task.done:
            reactor.run_once()
        return task.result()


def with_frames(begin: Begin) -> Any:
    """Drive a reactor by looking in now and then, in a loop that waits for nothing but time: a game's, a display's."""
    with fastproc.Reactor() as reactor:
        task = begin(reactor)
        while not task.done:
            while reactor.run_once(0):
                pass
            time.sleep(1 / 100)
        return task.result()


class Waiter:
    """A thread that waits for a reactor, for a loop that cannot watch an epoll descriptor but can be called.

    The reactor stays where it is: everything is done in the loop's thread, and this one only waits.

    Args:
        call_soon: makes the loop call a function in its thread, from any thread.
    """

    def __init__(self, call_soon: Callable[[Callable[[], object]], object]) -> None:
        self.call_soon = call_soon
        self.reactor = fastproc.Reactor(on_earlier=self.wake)
        self.left: float | None = None
        self.pumped = threading.Semaphore(0)
        self.stopped = False
        self.woken, self.waking = os.pipe()
        self.poller = select.poll()
        self.poller.register(self.reactor.fileno(), select.POLLIN)
        self.poller.register(self.woken, select.POLLIN)
        self.thread = threading.Thread(target=self.wait)
        self.thread.start()

    def wake(self) -> None:
        """Something is due earlier than the thread knows."""
        os.write(self.waking, b"x")

    def wait(self) -> None:
        """Wait and have the loop pump, in turns."""
        while not self.stopped:
            ready = self.poller.poll(None if self.left is None else math.ceil(self.left * 1000))
            if any(fd == self.woken for fd, _ in ready):
                os.read(self.woken, 4096)
            self.call_soon(self.pump)
            self.pumped.acquire()

    def pump(self) -> None:
        """Do what there is to do; called by the loop."""
        try:
            if not self.stopped:
                self.reactor.run_once(0)
                self.left = self.reactor.timeout()
        finally:
            self.pumped.release()

    def close(self) -> None:
        """End the thread; called in the loop's thread."""
        self.stopped = True
        self.wake()
        self.pumped.release()
        self.thread.join()
        self.reactor.close()
        os.close(self.woken)
        os.close(self.waking)


def with_thread(begin: Begin) -> Any:
    """Drive a reactor in a loop that takes functions from a queue, as those of graphical toolkits do."""
    functions: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    waiter = Waiter(functions.put)
    try:
        task = begin(waiter.reactor)
        while not task.done:
            functions.get()()
        return task.result()
    finally:
        waiter.close()


LOOPS: dict[str, Callable[[Begin], Any]] = {
    "asyncio": with_asyncio,
    "uvloop": with_uvloop,
    "trio": with_trio,
    "anyio on asyncio": lambda begin: with_anyio(begin, "asyncio"),
    "anyio on trio": lambda begin: with_anyio(begin, "trio"),
    "tornado": with_tornado,
    "gevent": with_gevent,
    "poll": with_poll,
    "nothing": with_nothing,
    "frames": with_frames,
    "thread": with_thread,
}


def main(names: list[str]) -> None:
    """Do the work in each loop that is asked for, or in all that are installed."""
    for name in names or LOOPS:
        try:
            found = LOOPS[name](lambda reactor: reactor.create_task(work(reactor)))
        except ModuleNotFoundError as error:
            print(f"{name:17} {error.name} is not installed")
        else:
            print(f"{name:17} {found}")


if __name__ == "__main__":
    main(sys.argv[1:])
