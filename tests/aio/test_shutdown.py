"""The end of an event loop with asynchronous generators that hold children or run commands at their own end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import fastproc
from fastproc import aio
from support import drivers, observe

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    """Each kind of event loop that ends what is left of its generators."""
    drivers.need(request.param)
    return str(request.param)


def shielded(loop: str) -> contextlib.AbstractContextManager[Any]:
    """What lets a generator wait at its end: trio closes it cancelled."""
    if loop != "trio":
        return contextlib.nullcontext()
    import trio

    return trio.CancelScope(shield=True)


@pytest.mark.parametrize("number", [1, 6])
def test_generator_that_holds_a_child_ends_it(loop: str, number: int) -> None:
    """`async with` around a `yield`, still open when the main task returns."""
    pids: list[int] = []
    kept: list[AsyncIterator[None]] = []

    async def holding() -> AsyncIterator[None]:
        async with aio.start("sleep", "60") as process:
            pids.append(process.pid)
            yield

    async def main() -> None:
        for _ in range(number):
            kept.append(holding())
            await anext(kept[-1])

    drivers.run_in(loop, main)
    assert len(pids) == number
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_generator_that_runs_a_command_at_its_end(loop: str, before: bool, pause: float) -> None:
    """Whether the loop had children before or not; at once, and when nothing waits for a child in between."""
    outputs: list[bytes] = []
    kept: list[AsyncIterator[None]] = []

    async def cleaning(name: str) -> AsyncIterator[None]:
        try:
            yield
        finally:
            with shielded(loop):
                if pause:
                    await drivers.sleep(loop, pause)
                outputs.append((await aio.run("sh", "-c", f"sleep 0.02; echo {name}", capture=True)).stdout)
                outputs.append((await aio.run("echo", name, input=b"x", capture=True, on_line=print)).stdout)

    async def main() -> None:
        if before:
            await aio.run("true")
        for name in "abc":
            kept.append(cleaning(name))
            await anext(kept[-1])

    drivers.run_in(loop, main)
    assert sorted(outputs) == [b"a\n", b"a\n", b"b\n", b"b\n", b"c\n", b"c\n"]


def test_several_tasks_of_a_generators_end(loop: str) -> None:
    """Runs that end in another order than they began in, a deadline, and a wait that another task ends."""
    found: list[Any] = []
    kept: list[AsyncIterator[None]] = []

    def sleeping(seconds: float) -> Callable[[], Awaitable[Any]]:
        return lambda: aio.run("sleep", str(seconds))

    async def late() -> str:
        with pytest.raises(fastproc.TimeoutExpired):
            await aio.run("sleep", "60", timeout=0.03)
        return "late"

    async def ending() -> AsyncIterator[None]:
        async with aio.start("sleep", "60", stdin=fastproc.PIPE) as process:

            async def write() -> str:
                await process.write(b"x" * 1_000_000)
                return "written"

            async def close() -> str:
                await drivers.sleep(loop, 0.01)
                process.close_stdin()
                return "closed"

            try:
                yield
            finally:
                with shielded(loop):
                    # Nothing but the other task wakes the one that writes.
                    found.extend(await drivers.together(loop, write, close))
                    found.extend(await drivers.together(loop, sleeping(0.05), sleeping(0.0), late, sleeping(0.02)))

    async def main() -> None:
        kept.append(ending())
        await anext(kept[-1])

    drivers.run_in(loop, main)
    codes = [what if isinstance(what, str) else what.returncode for what in found]
    assert codes == ["written", "closed", 0, 0, "late", 0]


def test_loop_is_ended_with_tasks_that_still_wait() -> None:
    """Ending the generators waits for no child that a task of the loop waits for; closing the loop gives all back."""
    before = observe.fds()
    pids: list[int] = []

    async def main() -> asyncio.Task[int]:
        process = await aio.start("sleep", "60")
        pids.append(process.pid)
        process.detach()
        task = asyncio.ensure_future(process.wait())
        await asyncio.sleep(0)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    os.kill(pids[0], 15)
    assert loop.run_until_complete(task) == -15
    loop.close()
    assert observe.fds() == before
