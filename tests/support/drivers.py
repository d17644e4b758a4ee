"""Event loops, by name: each runs one asynchronous function to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any

import pytest

LOOPS = ("asyncio", "uvloop", "trio", "reactor")
"""The last is fastproc's own Reactor, without another loop around it."""


if find_spec("uvloop"):
    # libuv makes a pipe for signals once in each process and keeps it: before any test counts descriptors.
    __import__("uvloop").new_event_loop().close()


def run_in(loop: str, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run an asynchronous function in a loop of that kind, with asyncio's debug mode where there is one."""
    if loop == "asyncio":
        return asyncio.run(function(*args), debug=True)  # type: ignore[arg-type]
    if loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=True) as runner:
            return runner.run(function(*args))  # type: ignore[arg-type]
    if loop == "reactor":
        import fastproc

        with fastproc.Reactor() as reactor:
            task = reactor.create_task(function(*args))  # type: ignore[arg-type]
            while not task.done:
                reactor.run_once()
            return task.result()
    import trio

    return trio.run(function, *args)


def need(loop: str) -> None:
    """Skip where the loop's package cannot be installed, or where it leaves something behind by itself."""
    if loop not in ("asyncio", "reactor") and find_spec(loop) is None:
        pytest.skip(f"{loop} is not installed: it may not exist for this interpreter")


def checkpoint(loop: str) -> Any:
    """Return an awaitable that lets other tasks run."""
    if loop == "trio":
        import trio

        return trio.lowlevel.checkpoint()
    return own_reactor().sleep(0) if loop == "reactor" else asyncio.sleep(0)


def sleep(loop: str, seconds: float) -> Any:
    """Return an awaitable that takes a while."""
    if loop == "trio":
        import trio

        return trio.sleep(seconds)
    return own_reactor().sleep(seconds) if loop == "reactor" else asyncio.sleep(seconds)


def own_reactor() -> Any:
    """Return the fastproc.Reactor that runs the caller."""
    from fastproc import aio

    return aio.reactor()


def cancelled_after(loop: str, seconds: float, function: Callable[[], Awaitable[Any]]) -> Any:
    """Return a coroutine that cancels the function after some seconds and gives whether it did."""

    async def with_asyncio() -> bool:
        try:
            async with asyncio.timeout(seconds):
                await function()
        except TimeoutError:
            return True
        return False

    async def with_trio() -> bool:
        import trio

        with trio.move_on_after(seconds) as scope:
            await function()
        return bool(scope.cancelled_caught)

    async def with_reactor() -> bool:
        from fastproc.embedding import Cancelled

        reactor = own_reactor()
        task = reactor.create_task(function())
        reactor.call_after(seconds, task.cancel)
        try:
            await task
        except Cancelled:
            return True
        return False

    ways = {"trio": with_trio, "reactor": with_reactor}
    return ways.get(loop, with_asyncio)()


def cancelled_when(loop: str, condition: Callable[[], object], function: Callable[[], Awaitable[Any]]) -> Any:
    """Return a coroutine that cancels the function once a condition is true, and gives whether that ended it."""

    async def until() -> None:
        while not condition():
            await sleep(loop, 0.002)

    async def with_tasks() -> bool:
        make = own_reactor().create_task if loop == "reactor" else asyncio.ensure_future
        task = make(function())
        await until()
        task.cancel()
        try:
            await task
        except cancelled(loop):
            return True
        return False

    async def with_trio() -> bool:
        import trio

        scope = trio.CancelScope()

        async def scoped() -> None:
            with scope:
                await function()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(scoped)
            await until()
            scope.cancel()
        return bool(scope.cancelled_caught)

    return with_trio() if loop == "trio" else with_tasks()


def together(loop: str, *functions: Callable[[], Awaitable[Any]]) -> Any:
    """Return a coroutine that runs functions at once and gives the list of what they return."""

    async def with_asyncio() -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(function()) for function in functions]  # type: ignore[arg-type]
        return [task.result() for task in tasks]

    async def with_trio() -> list[Any]:
        import trio

        results: list[Any] = [None] * len(functions)

        async def one(index: int) -> None:
            results[index] = await functions[index]()

        async with trio.open_nursery() as nursery:
            for index in range(len(functions)):
                nursery.start_soon(one, index)
        return results

    async def with_reactor() -> list[Any]:
        reactor = own_reactor()
        errors: list[BaseException] = []
        over: list[Any] = []

        def ended(task: Any) -> None:
            try:
                task.result()
            except cancelled(loop):
                pass
            except BaseException as error:
                errors.append(error)
                for other in tasks:
                    other.cancel()
            over.append(task)

        tasks = [reactor.create_task(function(), ended) for function in functions]
        try:
            while len(over) < len(tasks):
                await next(task for task in tasks if not task.done)
        except BaseException:
            for task in tasks:
                task.cancel()
            for task in tasks:
                try:
                    await task
                except BaseException:
                    pass
            if not errors:
                raise
        if errors:
            raise BaseExceptionGroup("tasks", errors)
        return [task.result() for task in tasks]

    ways = {"trio": with_trio, "reactor": with_reactor}
    return ways.get(loop, with_asyncio)()


def cancelled(loop: str) -> type[BaseException]:
    """What a cancelled task gets."""
    if loop == "trio":
        import trio

        return trio.Cancelled
    if loop == "reactor":
        from fastproc.embedding import Cancelled

        return Cancelled
    return asyncio.CancelledError
