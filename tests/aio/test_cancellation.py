"""A cancellation at every point at which a call of `fastproc.aio` waits: nothing is left, whatever came of it."""

from __future__ import annotations

import asyncio
import os
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from fastproc import PIPE, aio
from fastproc._engine.signal_api import Killable
from fastproc.aio import _bulk as group
from fastproc.aio._hub import Patience
from support import drivers, observe
from support.programs import Programs

pytestmark = pytest.mark.filterwarnings("error")

STEPS_MAX = 400
Call = Callable[[], Awaitable[object]]


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    """Each kind of event loop that cancels tasks."""
    drivers.need(request.param)
    return str(request.param)


@types.coroutine
def stepped(call: Awaitable[object], first: int, last: int, cancel: Callable[[], object]) -> Generator[Any, Any, int]:
    """Await something, cancel it at its waits `first` to `last`, counted from 1, and give how many there were."""
    steps = call.__await__()
    value, error, count = None, None, 0
    while True:
        try:
            wanted = steps.send(value) if error is None else steps.throw(error)  # type: ignore[attr-defined]
        except StopIteration:
            return count
        count += 1
        if first <= count <= last:
            cancel()
        try:
            value, error = (yield wanted), None
        except BaseException as raised:
            value, error = None, raised


async def attempt(loop: str, call: Call, first: int, last: int) -> tuple[int | None, BaseException | None]:
    """Do it once, in a task of its own: how many waits there were, None when it was cancelled; the exception."""
    caught: list[BaseException] = []

    async def kept(cancel: Callable[[], object]) -> int | None:
        try:
            return await stepped(call(), first, last, cancel)
        except BaseException as error:
            caught.append(error)
            raise

    count: int | None = None
    if loop == "trio":
        import trio

        with trio.CancelScope() as scope:
            count = await kept(scope.cancel)
    elif loop == "reactor":
        tasks: list[Any] = []
        tasks.append(drivers.own_reactor().create_task(kept(lambda: tasks[0].cancel())))
        try:
            count = await tasks[0]
        except drivers.cancelled(loop):
            pass
    else:

        async def in_task() -> int | None:
            task = asyncio.current_task()
            assert task is not None
            return await kept(task.cancel)

        try:
            count = await asyncio.ensure_future(in_task())
        except asyncio.CancelledError:
            pass
    return count, caught[0] if caught else None


def left(loop: str) -> dict[str, Any]:
    """What a loop should have none of, or as many as before."""
    if loop == "reactor":
        tasks = len(drivers.own_reactor()._tasks)
    else:
        tasks = 0 if loop == "trio" else len(asyncio.all_tasks())
    return {"children": observe.children(), "fds": sorted(observe.fds()), "tasks": tasks}


# -- the calls


async def items() -> AsyncIterator[bytes]:
    """What a program is fed with, by and by."""
    for _ in range(3):
        yield b"x" * 100_000


async def run_short() -> None:
    await aio.run("echo", "x", capture=True)


async def run_long() -> None:
    with pytest.raises(fastproc.TimeoutExpired):
        await aio.run("sh", "-c", "echo x; exec sleep 60", capture=True, input=b"y", timeout=0.05, grace=0.02)


async def run_failing() -> None:
    with pytest.raises(fastproc.SpawnError):
        await aio.run("/nonexistent/program", capture=True)


async def run_with_callback() -> None:
    await aio.run("sh", "-c", "echo a; sleep 0.01; echo b", on_line=lambda name, line: None, capture=True)


async def run_fed() -> None:
    await aio.run("cat", input=items(), capture=True)


async def run_tree() -> None:
    await aio.run("sh", "-c", "sleep 60 & echo x", stdout=PIPE, kill_tree=True, drain_timeout=0.02)


async def run_pipeline() -> None:
    await aio.run(fastproc.cmd("echo", "x") | fastproc.cmd("cat") | fastproc.cmd("cat"), capture=True)


async def start_and_leave() -> None:
    async with aio.start("sleep", "60"):
        await aio.run("true")


async def start_lines() -> None:
    async with aio.start("sh", "-c", "echo a; sleep 0.01; echo b; exec sleep 60", stdout=PIPE, stdin=PIPE) as process:
        lines = process.lines()
        assert [await anext(lines), await anext(lines)] == [b"a", b"b"]


async def start_events_and_write() -> None:
    async with aio.start("cat", stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        await process.write(b"x" * 50_000)
        process.close_stdin()
        async for _ in process.events():
            pass
        assert await process.wait() == 0


async def start_and_stop() -> None:
    script = "trap '' TERM; echo; sleep 60"
    async with aio.start("sh", "-c", script, stdout=PIPE, grace=0.02, kill_tree=True) as process:
        await anext(process.lines())
        await process.stop()


async def start_on_a_terminal() -> None:
    async with aio.start("sh", "-c", "echo a; exec sleep 60", pty=True) as process:
        await process.expect("a")


async def start_and_kill_tree() -> None:
    async with aio.start("sh", "-c", "sleep 60 & echo; wait", stdout=PIPE, kill_tree=True) as process:
        await anext(process.lines())
        await process.kill_tree(0)


async def waiting() -> None:
    async with aio.start("sleep", "0.01") as first, aio.start("sleep", "60") as second:
        assert await aio.wait_any([first, second]) is first
        with pytest.raises(fastproc.TimeoutExpired):
            await second.wait(timeout=0.01)


async def asyncios_own_interface() -> None:
    child = await aio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    try:
        await child.communicate(b"x" * 100_000)
    except BaseException:
        # As asyncio has it: the child is the caller's.
        child._transport.close()  # type: ignore[attr-defined]
        await child._transport._gone()  # type: ignore[attr-defined]
        raise


CALLS: dict[str, Call] = {
    call.__name__: call
    for call in (
        *(run_short, run_long, run_failing, run_with_callback, run_fed, run_tree, run_pipeline),
        *(start_and_leave, start_lines, start_events_and_write, start_and_stop, start_on_a_terminal),
        *(start_and_kill_tree, waiting, asyncios_own_interface),
    )
}


@pytest.mark.parametrize("again", [False, True], ids=["once", "again"])
@pytest.mark.parametrize("name", CALLS)
def test_cancelled_at_each_wait_leaves_nothing(
    loop: str, name: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child, a descriptor, a task, a warning. With `again`: cancelled at each wait of the clean-up too."""
    if loop in ("trio", "reactor") and name == "asyncios_own_interface":
        pytest.skip("it is asyncio's")
    # No child is over before the loop has looked.
    monkeypatch.setattr(Patience, "ask", lambda _: 0)
    call = CALLS[name]

    async def main() -> int:
        # Two times as it is: a loop's first child makes the loop's reactor.
        for _ in range(2):
            count, error = await attempt(loop, call, 0, 0)
            assert (count is not None, error) == (True, None)
        before = left(loop)
        for step in range(1, STEPS_MAX):
            count, error = await attempt(loop, call, step, STEPS_MAX if again else step)
            assert error is None or isinstance(error, drivers.cancelled(loop)), (step, error)
            await drivers.checkpoint(loop)
            await drivers.checkpoint(loop)
            assert left(loop) == before, step
            if count is not None and count < step:
                return step
        raise AssertionError("it does not come to its end")

    assert drivers.run_in(loop, main) > 1


def test_cancelled_run_keeps_what_was_read(loop: str) -> None:
    """At the wait for its end: the Result up to then is in the exception."""
    found: list[Any] = []

    async def call() -> None:
        try:
            await aio.run("sh", "-c", "echo x; exec sleep 60", capture=True)
        except BaseException as error:
            found.append(error.result)  # type: ignore[attr-defined]
            raise

    async def main() -> None:
        await drivers.cancelled_after(loop, 0.3, call)

    drivers.run_in(loop, main)
    assert [(result.stdout, result.returncode) for result in found] == [(b"x\n", -15)]


def test_failing_group_of_tasks_leaves_nothing(loop: str) -> None:
    """The others are cancelled, and are gone when it raises."""

    async def fail() -> None:
        await aio.run("sh", "-c", "sleep 0.1; exit 3")

    async def lines() -> None:
        async with aio.start("yes", stdout=PIPE) as process:
            async for _ in process.lines():
                pass

    async def main() -> None:
        with pytest.raises(BaseExceptionGroup) as caught:
            await drivers.together(loop, fail, run_long, lines, lambda: aio.run("sleep", "60"))
        assert isinstance(caught.value.exceptions[0], fastproc.ExitError)
        assert observe.children() == set()

    drivers.run_in(loop, main)


def test_loop_in_each_of_eight_threads(loop: str) -> None:
    """All at once, each with children of its own: every result is right."""
    import threading

    wrong: list[object] = []

    async def one(number: int) -> None:
        for turn in range(5):
            text = f"{number} {turn}"
            script = f"cat; echo {text}; exit {number}"
            result = await aio.run("sh", "-c", script, input=b"y", capture=True, check=False)
            if (result.stdout, result.returncode) != (f"y{text}\n".encode(), number):
                wrong.append(result)
            async with aio.start("echo", text, stdout=PIPE) as process:
                if [line async for line in process.lines()] != [text.encode()] or await process.wait() != 0:
                    wrong.append(process)

    def work(number: int) -> None:
        async def main() -> None:
            await drivers.together(loop, *[lambda: one(number)] * 4)

        try:
            drivers.run_in(loop, main)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- a forked copy

FORKING = """
import asyncio, os, signal, sys
import fastproc
from fastproc import PIPE, aio

SCRIPT = "read x; echo x"


async def main():
    first, last = os.pipe()
    end = {"stdin": first, "stdout": PIPE}
    sh = fastproc.cmd("sh", "-c", SCRIPT, stdin=first)

    async def stop():
        async with aio.start("sh", "-c", "trap '' TERM; echo; read x; exit 4", grace=60, **end) as process:
            await process.readline()
            stubborn.set()
            return await process.stop()

    stubborn = asyncio.Event()
    tasks = [
        asyncio.create_task(coroutine)
        for coroutine in (
            aio.run("sh", "-c", SCRIPT, capture=True, stdin=first),
            aio.run("sh", "-c", SCRIPT, capture=True, stdin=first, on_line=lambda name, line: None),
            aio.run(sh | fastproc.cmd("cat"), capture=True),
            stop(),
        )
    ]
    process = await aio.start("sh", "-c", SCRIPT, **end)
    tasks.append(asyncio.create_task(process.wait()))
    other = await aio.create_subprocess_exec("sh", "-c", SCRIPT, stdin=first, stdout=PIPE)
    tasks.append(asyncio.create_task(other.wait()))
    await stubborn.wait()
    copy = os.fork()
    if copy == 0:
        # What is cancelled by asyncio.run() must come to its end.
        signal.alarm(20)
        sys.exit(0)
    print("copy", os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]))
    os.close(last)
    for task in tasks:
        found = await task
        print(found if isinstance(found, int) else (found.returncode, found.stdout))


asyncio.run(main())
"""


def test_copy_that_exits_leaves_the_children_alone() -> None:
    """asyncio.run() cancels the tasks in the copy too: no child is signalled, and the copy ends (GOTCHAS I2)."""
    result = fastproc.run(sys.executable, "-W", "ignore", "-c", FORKING, capture=True, timeout=60)
    assert result.stdout.decode().split("\n") == [
        *("copy 0", *["(0, b'x\\n')"] * 3, "4", "0", "0", ""),
    ]


# -- KeyboardInterrupt, in the loop itself


def interrupted_then_ended(make: Callable[[], Awaitable[object]]) -> BaseException | object:
    """Run a task in a loop, which a KeyboardInterrupt leaves once, and go on with it; what became of it."""
    loop = asyncio.new_event_loop()
    try:

        async def limited() -> object:
            async with asyncio.timeout(20):
                return await make()

        task = loop.create_task(limited())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        try:
            return loop.run_until_complete(task)
        except BaseException as error:
            return error
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_interrupted_timer_is_followed_by_the_others() -> None:
    """A KeyboardInterrupt out of what the loop calls for us: the run's own limit is kept."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def run() -> object:
        aio.reactor().call_after(0.05, interrupt)
        return await aio.run("sleep", "60", timeout=0.3, grace=0.05)

    assert isinstance(interrupted_then_ended(run), fastproc.TimeoutExpired)


def test_interrupted_look_loses_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KeyboardInterrupt between the look that reports an end, once, and what is done about it."""
    interrupted: list[object] = []
    step = group.group_step

    def once(epoll: int) -> list[int]:
        keys = step(epoll)
        if keys and not interrupted:
            interrupted.append(keys)
            raise KeyboardInterrupt
        return keys

    monkeypatch.setattr(group, "group_step", once)
    monkeypatch.setattr(Patience, "ask", lambda _: 0)

    async def run() -> object:
        return await aio.run("sh", "-c", "echo x; sleep 0.05", capture=True)

    result = interrupted_then_ended(run)
    assert interrupted
    assert isinstance(result, fastproc.Result)
    assert result.stdout == b"x\n"


def test_exception_in_the_serving_task_of_trio_ends_the_children() -> None:
    """Such as a signal handler raises: the run ends as trio has it, and what it cancels comes to its end."""
    drivers.need("trio")
    import trio

    results: list[Any] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def stubborn() -> None:
        try:
            await aio.run("sh", "-c", "trap '' TERM; echo x; while :; do sleep 0.1; done", capture=True, grace=0.1)
        except trio.Cancelled as error:
            results.append(error.result)  # type: ignore[attr-defined]
            raise

    async def main() -> None:
        async with trio.open_nursery() as nursery, aio.start("sleep", "60"):
            nursery.start_soon(stubborn)
            await trio.sleep(0.3)
            aio.reactor().call_after(0.0, interrupt)
            await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main)
    assert isinstance(caught.value.__cause__, (KeyboardInterrupt, BaseExceptionGroup))
    assert [(result.stdout, result.returncode) for result in results] == [(b"x\n", -9)]


# -- a child that does not die


async def left_block(loop: str, process: Any) -> None:
    await process.__aexit__(None, None, None)


async def cancelled_stop(loop: str, process: Any) -> None:
    assert await drivers.cancelled_after(loop, 0.3, process.stop)


@pytest.mark.parametrize("leave", [left_block, cancelled_stop])
def test_held_child_becomes_an_orphan(loop: str, leave: Callable[..., Awaitable[None]], programs: Programs) -> None:
    """A tracer keeps it from us after its death: the block, and a stop that is cancelled, come to their ends."""

    async def main() -> None:
        process = await aio.start("sleep", "60", grace=0)
        with fastproc.start(programs.tracer, str(process.pid), "15000", stdout=PIPE) as tracer:
            assert tracer.stdout is not None
            if tracer.stdout.readline() != b"ready\n":
                await process.stop()
                pytest.skip("ptrace is not allowed here")
            await leave(loop, process)
            assert tracer.poll() is None
            assert process.returncode is None
        process.child.wait()

    drivers.run_in(loop, main)


def test_held_child_of_the_drop_in_is_left(programs: Programs) -> None:
    """As asyncio's own interface has it, where the start is cancelled."""

    async def main() -> None:
        process = await aio.create_subprocess_exec("sleep", "60")
        with fastproc.start(programs.tracer, str(process.pid), "15000", stdout=PIPE) as tracer:
            assert tracer.stdout is not None
            traced = tracer.stdout.readline() == b"ready\n"
            transport: Any = process._transport  # type: ignore[attr-defined]
            transport.close()
            await transport._gone()
            assert tracer.poll() is None or not traced
        await process.wait()
        if not traced:
            pytest.skip("ptrace is not allowed here")

    asyncio.run(main())


def test_child_that_may_not_be_killed_hides_no_cancellation(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """EPERM of kill(2), as for a set-user-ID program."""

    def refuse(_: object) -> None:
        raise PermissionError(1, os.strerror(1))

    async def main() -> None:
        process = await aio.start("sh", "-c", "trap '' TERM; echo; exec sleep 60", stdout=PIPE, grace=0.3)
        await process.readline()
        with monkeypatch.context() as patched:
            patched.setattr(Killable, "kill", refuse)
            assert await drivers.cancelled_after(loop, 0.2, process.stop)
        assert process.poll() is None
        await process.stop(0)
        await process.__aexit__(None, None, None)
        process.child._close_files()

    drivers.run_in(loop, main)


# -- the grace in a scope that is cancelled


GRACEFUL = "trap 'echo term >>$0; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
"""Says in a file that it was asked to end, which a SIGKILL does not let it do."""


async def in_cancelled_scope(loop: str, inside: Callable[[Callable[[], object]], Awaitable[object]]) -> None:
    """Run something in a cancel scope, of trio or anyio; it is given what cancels the scope."""
    module: Any = __import__("trio" if loop == "trio" else "anyio")
    with module.CancelScope() as scope:
        await inside(scope.cancel)
        raise AssertionError("nothing was cancelled")
    assert scope.cancelled_caught


@pytest.mark.parametrize("end", ["block", "stop", "pipeline", "lines", "run", "pool"])
def test_child_in_a_cancelled_scope_gets_its_grace(loop: str, end: str, tmp_path: Path) -> None:
    """Whatever waits for its end while every wait of the task is cancelled: SIGTERM comes first, and is obeyed."""
    if loop != "trio":
        pytest.importorskip("anyio")
    said = tmp_path / "said"
    graceful = fastproc.cmd("sh", "-c", GRACEFUL, str(said))

    async def block(cancel: Callable[[], object]) -> None:
        async with aio.start(graceful, stdout=PIPE, grace=60) as process:
            assert await process.readline() == b"ready\n"
            cancel()
            await drivers.sleep(loop, 60)

    async def stop(cancel: Callable[[], object]) -> None:
        process = await aio.start(graceful, stdout=PIPE, grace=60)
        try:
            assert await process.readline() == b"ready\n"
            cancel()
            await drivers.sleep(loop, 60)
        finally:
            try:
                await process.stop()
            finally:
                assert process.poll() == 3
                process.child._close_files()

    async def pipeline(cancel: Callable[[], object]) -> None:
        running = await aio.start(graceful | fastproc.cmd("cat", stdout=str(tmp_path / "out")), grace=60)
        try:
            while not (tmp_path / "out").exists() or (tmp_path / "out").read_bytes() != b"ready\n":
                await drivers.sleep(loop, 0.005)
            cancel()
            await drivers.sleep(loop, 60)
        finally:
            await running.stop()

    async def lines(cancel: Callable[[], object]) -> None:
        async for line in aio.lines(graceful | fastproc.cmd("cat"), grace=60):
            assert line == b"ready"
            cancel()

    def on_line(_stream: str, _line: bytes) -> None:
        cancels[0]()

    async def run(cancel: Callable[[], object]) -> None:
        cancels.append(cancel)
        await aio.run(graceful, on_line=on_line, capture=True, grace=60)

    async def pool(cancel: Callable[[], object]) -> None:
        cancels.append(cancel)
        async with aio.Pool(1, grace=60) as pool:
            await pool.submit(graceful.options(on_line=on_line, capture=True))

    cancels: list[Callable[[], object]] = []
    ways: dict[str, Any] = {
        "block": block,
        "stop": stop,
        "pipeline": pipeline,
        "lines": lines,
        "run": run,
        "pool": pool,
    }
    drivers.run_in(loop, in_cancelled_scope, loop, ways[end])
    assert said.read_text() == "term\n"


def test_cancellation_during_a_stop_shortens_no_grace(loop: str, tmp_path: Path) -> None:
    """The child has got its SIGTERM, and ends by itself in a moment."""
    said = tmp_path / "said"
    script = "trap 'echo term >$0; sleep 0.2; exit 3' TERM; echo ready; while :; do sleep 0.01; done"

    async def main() -> None:
        process = await aio.start("sh", "-c", script, str(said), stdout=PIPE, grace=60)
        assert await process.readline() == b"ready\n"
        assert await drivers.cancelled_when(loop, said.exists, process.stop)
        codes.append(process.returncode)
        await process.__aexit__(None, None, None)

    codes: list[int | None] = []
    drivers.run_in(loop, main)
    assert codes == [3]


def test_cancellation_during_a_stop_ends_an_endless_grace(loop: str) -> None:
    """Nothing else would."""

    async def main() -> None:
        process = await aio.start("sh", "-c", "trap '' TERM; echo; exec sleep 60", stdout=PIPE)
        await process.readline()
        assert await drivers.cancelled_after(loop, 0.05, lambda: process.stop(float("inf")))
        codes.append(process.returncode)
        await process.__aexit__(None, None, None)

    codes: list[int | None] = []
    drivers.run_in(loop, main)
    assert codes == [-9]


def test_child_in_a_cancelled_scope_is_killed_after_its_grace(loop: str) -> None:
    """One that does not obey."""
    if loop != "trio":
        pytest.importorskip("anyio")

    async def main(cancel: Callable[[], object]) -> None:
        async with aio.start("sh", "-c", "trap '' TERM; echo; exec sleep 60", stdout=PIPE, grace=0.05) as process:
            await process.readline()
            handles.append(process)
            cancel()
            await drivers.sleep(loop, 60)

    handles: list[aio.Process] = []
    drivers.run_in(loop, in_cancelled_scope, loop, main)
    assert handles[0].returncode == -9


def test_callback_that_raises_ends_a_pipeline_and_comes_out(loop: str) -> None:
    """Its exception, with what there is of the result; the stages are gone by then."""

    def fail(_stream: str, _line: bytes) -> None:
        raise ValueError("mine")

    async def main() -> None:
        stages = fastproc.cmd("sh", "-c", "echo a; exec sleep 60") | fastproc.cmd("cat")
        with pytest.raises(ValueError, match="mine") as raised:
            await aio.run(stages, on_line=fail, capture=True)
        assert raised.value.result.stages[0].returncode == -9  # type: ignore[attr-defined]

    drivers.run_in(loop, main)
