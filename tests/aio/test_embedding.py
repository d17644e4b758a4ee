"""`fastproc.Reactor`: tasks of fastproc.aio in any event loop, by fileno(), timeout() and run_once(0).

That everything of fastproc.aio works in it is tested where that is: test_aio.py has it as one of its loops.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import re
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import ROOT, isolated
from fastproc import aio
from fastproc.embedding import Cancelled, Flag, Task

pytestmark = pytest.mark.filterwarnings("error")

FOUND = {
    "callback": "hello",
    "events": 1000,
    "answer": "b'question\\n'",
    "stopped": -15,
    "deadline": "over",
    "lines": ["b'1'", "b'2'", "b'3'"],
}
LOOPS = (
    "asyncio",
    "uvloop",
    "trio",
    "anyio on asyncio",
    "anyio on trio",
    "tornado",
    "gevent",
    "poll",
    "nothing",
    "frames",
    "thread",
)


@pytest.fixture
def reactor() -> Iterator[fastproc.Reactor]:
    """A reactor that this thread drives."""
    with fastproc.Reactor() as made:
        yield made


def drive(reactor: fastproc.Reactor, task: Any) -> Any:
    """Drive a reactor as a loop does that watches its descriptor, until a task is done."""
    poller = select.poll()
    poller.register(reactor.fileno(), select.POLLIN)
    while not task.done:
        left = reactor.timeout()
        poller.poll(None if left is None else left * 1000 + 1)
        reactor.run_once(0)
    return task.result()


def _example(name: str, patched: bool) -> Any:
    """Run the example in one loop, in an interpreter of its own, and return what it found and left behind."""
    if patched:
        import gevent.monkey

        gevent.monkey.patch_all()
    sys.path.insert(0, str(ROOT / "examples"))
    import event_loops  # type: ignore[import-not-found]

    try:
        found = event_loops.LOOPS[name](lambda reactor: reactor.create_task(event_loops.work(reactor)))
    except ModuleNotFoundError as error:
        return [error.name]
    found["answer"] = str(found["answer"])
    found["lines"] = [str(line) for line in found["lines"]]
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    threads = len(os.listdir("/proc/self/task"))
    return [found, children, threads]


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_example_does_its_work_in_every_loop(name: str) -> None:
    """Children with callbacks, awaited, with deadlines, read, fed and stopped; nothing is left."""
    done = isolated(_example, name, False, env={"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"})
    if len(done) == 1:
        pytest.skip(f"{done[0]} is not installed: it may not exist for this interpreter")
    assert done == [FOUND, "", 1]


@pytest.mark.slow
def test_example_does_its_work_where_gevent_has_patched_everything() -> None:
    """The monkey patch takes epoll away from the select module."""
    pytest.importorskip("gevent")
    assert isolated(_example, "gevent", True)[0] == FOUND


def test_example_is_what_the_page_shows() -> None:
    """Every function that docs/event-loops.md shows is in the example, word for word."""
    example = re.sub(r"\s+", " ", (ROOT / "examples" / "event_loops.py").read_text("utf-8"))
    page = (ROOT / "docs" / "event-loops.md").read_text("utf-8")
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    pieces = [piece for block in shown for piece in block.split("...\n")]
    assert len(pieces) >= 8
    assert [piece for piece in pieces if re.sub(r"\s+", " ", piece).strip() not in example] == []


# -- the contract


def test_timeout_tells_of_work_and_timers(reactor: fastproc.Reactor) -> None:
    """None without anything, 0 with a task to go on with, else the time to the next timer."""
    assert reactor.timeout() is None
    timer = reactor.call_after(60, lambda: None)
    left = reactor.timeout()
    assert left is not None
    assert 59 < left <= 60
    reactor.create_task(reactor.sleep(0)).on_done = None
    assert reactor.timeout() == 0.0
    timer.cancel()
    while reactor.timeout() is not None:
        reactor.run_once(0)


def test_descriptor_is_readable_when_there_is_something(reactor: fastproc.Reactor) -> None:
    """The end of a child makes it readable; nothing is done before run_once()."""
    ended: list[int] = []
    task = reactor.run("sh", "-c", "sleep 0.2", on_done=lambda task: ended.append(task.result().returncode))
    reactor.run_once(0)
    while reactor.timeout() == 0.0:
        reactor.run_once(0)
    assert select.select([reactor.fileno()], [], [], 10)[0] == [reactor.fileno()]
    assert (ended, task.done) == ([], False)
    drive(reactor, task)
    assert ended == [0]


def test_on_earlier_is_called_when_the_timeout_shrinks() -> None:
    """For a later timer not, for an earlier one and for work yes; inside of run_once() not for work."""
    calls: list[float | None] = []
    with fastproc.Reactor(on_earlier=lambda: calls.append(reactor.timeout())) as reactor:
        reactor.call_after(60, int).cancel()
        reactor.call_after(50, int)
        reactor.call_after(70, int)
        assert [round(left or 0, -1) for left in calls] == [60, 50]
        calls.clear()
        task = reactor.create_task(reactor.sleep(0))
        assert calls == [0.0]
        drive(reactor, task)
        assert calls == [0.0]


def test_run_once_inside_of_itself_is_refused(reactor: fastproc.Reactor) -> None:
    """A callback that would wait for itself is told so."""
    task = reactor.run("true", on_done=lambda _: reactor.run_once())
    with pytest.raises(RuntimeError, match=r"^run_once: called inside itself$"):
        drive(reactor, task)


def test_what_on_done_raises_comes_out_and_nothing_else_is_lost(reactor: fastproc.Reactor) -> None:
    """The other tasks go on with the next call."""

    def bad(_task: object) -> None:
        raise LookupError("mine")

    tasks = [reactor.run("true", on_done=bad) for _ in range(20)]
    errors = 0
    while not all(task.done for task in tasks):
        try:
            reactor.run_once(5)
        except LookupError:
            errors += 1
    assert errors == 20
    assert [task.result().returncode for task in tasks] == [0] * 20


def test_in_a_forked_copy_it_refuses_to_work(reactor: fastproc.Reactor) -> None:
    """The epoll is the parent's too."""
    reactor.fileno()
    pid = os.fork()
    if pid == 0:
        try:
            reactor.run_once(0)
        except RuntimeError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


# -- tasks


def test_run_refuses_a_bad_option_at_once(reactor: fastproc.Reactor) -> None:
    """Before there is a task."""
    with pytest.raises(ValueError, match=r"^timeout"):
        reactor.run("true", timeout=-1)
    with pytest.raises(TypeError, match=r"^coroutine: must be a coroutine, not function"):
        reactor.create_task(lambda: None)  # type: ignore[arg-type]
    assert reactor.timeout() is None


def test_result_before_the_end_is_an_error(reactor: fastproc.Reactor) -> None:
    """There is none yet."""
    task = reactor.create_task(reactor.sleep(0))
    with pytest.raises(RuntimeError, match="has no result yet"):
        task.result()
    drive(reactor, task)
    assert task.result() is None


def test_result_raises_what_the_run_did(reactor: fastproc.Reactor) -> None:
    """The errors of run(), for whoever asks."""
    task = reactor.run("fastproc-no-such-program", on_done=lambda _: None)
    with pytest.raises(fastproc.SpawnError, match="fastproc-no-such-program"):
        drive(reactor, task)
    with pytest.raises(fastproc.ExitError):
        drive(reactor, reactor.run("false"))


def test_cancel_before_the_start_makes_no_child(reactor: fastproc.Reactor) -> None:
    """Nothing of the coroutine has run."""
    task = reactor.run("sh", "-c", "exit 3")
    task.cancel()
    with pytest.raises(Cancelled):
        drive(reactor, task)
    task.cancel()


def test_cancel_of_a_run_ends_the_child_and_keeps_the_output(reactor: fastproc.Reactor) -> None:
    """SIGTERM; the Result up to then is in the exception."""
    task = reactor.run("sh", "-c", "echo kept; exec sleep 60", capture=True, on_line=lambda *_: task.cancel())
    with pytest.raises(Cancelled) as caught:
        drive(reactor, task)
    result = caught.value.result  # type: ignore[attr-defined]
    assert (result.stdout, result.returncode) == (b"kept\n", -15)


def test_tasks_wait_for_tasks(reactor: fastproc.Reactor) -> None:
    """Several for one; a cancelled waiter leaves it be; an error comes out of each."""

    async def main() -> Any:
        shared = reactor.run("sh", "-c", "sleep 0.1; echo x", capture=True)

        async def wait() -> bytes:
            return (await shared).stdout  # type: ignore[no-any-return]

        first, second, third = (reactor.create_task(wait()) for _ in range(3))
        second.cancel()
        found = [await first, await third]
        try:
            await second
        except Cancelled:
            found.append("cancelled")
        failing = reactor.run("false")
        for _ in range(2):
            try:
                await failing
            except fastproc.ExitError as error:
                found.append(error.returncode)
        assert await aio.wait(shared) is shared
        return found

    assert drive(reactor, reactor.create_task(main())) == [b"x\n", b"x\n", "cancelled", 1, 1]


def test_callbacks_keep_the_context(reactor: fastproc.Reactor) -> None:
    """on_line and on_done see the variables of where the task was made, whoever drives."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    def make(name: str) -> Any:
        variable.set(name)
        return reactor.run(
            "echo",
            capture=True,
            on_line=lambda *_: seen.append(variable.get()),
            on_done=lambda _: seen.append(variable.get()),
        )

    tasks = [contextvars.copy_context().run(make, name) for name in ("a", "b")]
    for task in tasks:
        drive(reactor, task)
    assert (sorted(seen), variable.get()) == (["a", "a", "b", "b"], "none")


def test_foreign_awaitable_is_refused_where_it_is_awaited(reactor: fastproc.Reactor) -> None:
    """The coroutine can handle it, and the reactor goes on."""

    class Foreign:
        def __await__(self) -> Iterator[str]:
            yield "what another loop knows"

    async def main() -> str:
        try:
            await Foreign()
        except RuntimeError as error:
            return str(error)
        return "nothing"

    message = drive(reactor, reactor.create_task(main()))
    assert message.startswith("a task of a fastproc.Reactor awaits fastproc.aio, tasks and Reactor.sleep() only")


def test_error_that_nobody_asks_for_is_printed(reactor: fastproc.Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not lost; one that somebody was told of is not printed."""
    printed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: printed.append(args.exc_type))

    async def fail() -> None:
        raise LookupError

    for on_done in (None, lambda task: None):
        task = reactor.create_task(fail(), on_done)
        while not task.done:
            reactor.run_once(0)
        del task
        gc.collect()
    assert printed == [LookupError]


def test_interrupt_in_a_task_is_the_programs(reactor: fastproc.Reactor) -> None:
    """KeyboardInterrupt comes out of run_once()."""

    async def main() -> None:
        raise KeyboardInterrupt

    task = reactor.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        reactor.run_once(0)
    assert task.done


def test_loop_of_asyncio_inside_of_a_task_is_that_loops(reactor: fastproc.Reactor) -> None:
    """And one around it is not mistaken for the task's own."""

    async def inner() -> Any:
        return await aio.run("echo", "inner", capture=True)

    async def outer() -> Any:
        first = asyncio.run(inner())
        return first.stdout, (await aio.run("echo", "outer", capture=True)).stdout

    assert drive(reactor, reactor.create_task(outer())) == (b"inner\n", b"outer\n")


def test_async_generator_of_a_task_is_not_the_surrounding_loops() -> None:
    """That would end it with the loop, where it cannot wait for what it waits for."""
    ended: list[str] = []

    async def numbers() -> Any:
        try:
            yield 1
            await aio.run("true")
            yield 2
        finally:
            ended.append("by its task")

    async def main() -> None:
        with fastproc.Reactor() as reactor:

            async def first() -> Any:
                generator = numbers()
                kept.append(generator)
                return await anext(generator)

            async def rest() -> list[int]:
                return [number async for number in kept[0]]

            kept: list[Any] = []
            assert drive(reactor, reactor.create_task(first())) == 1
            await asyncio.get_running_loop().shutdown_asyncgens()
            assert drive(reactor, reactor.create_task(rest())) == [2]

    asyncio.run(main())
    assert ended == ["by its task"]


def test_what_one_task_did_for_another_wakes_it(reactor: fastproc.Reactor) -> None:
    """A reader that is woken before a writer waits writes the rest for it; nothing else would tell the writer."""

    async def begin() -> aio.Process:
        script = "read go; echo x; cat >/dev/null"
        return await aio.start("sh", "-c", script, stdin=fastproc.PIPE, stdout=fastproc.PIPE)

    process = drive(reactor, reactor.create_task(begin()))
    stdin, stdout = process.child.ends[0].number, process.child.ends[1].number
    seen: list[bytes] = []

    async def read() -> None:
        async for line in process.lines():
            seen.append(line)

    async def write() -> None:
        await process.write(b"y" * 100_000)

    async def child_has_read() -> None:
        assert select.select([], [stdin], [], 10)[1]

    async def end() -> None:
        await process.__aexit__()

    reader = reactor.create_task(read())
    while reactor.timeout() == 0.0:
        reactor.run_once(0)
    os.write(stdin, b"go\n")
    assert select.select([stdout], [], [], 10)[0]
    # The next round wakes the reader, and goes on with these first.
    writer = reactor.create_task(write())
    reactor.create_task(child_has_read())
    limit = reactor.call_after(10, writer.cancel)
    drive(reactor, writer)
    limit.cancel()
    assert (seen, reader.done) == ([b"x"], False)
    drive(reactor, reactor.create_task(end()))


def test_close_stdin_ends_a_write(reactor: fastproc.Reactor) -> None:
    """The task that writes has nothing to wait for any more."""

    async def main() -> None:
        async with aio.start("sleep", "60", stdin=fastproc.PIPE) as process:
            writer = reactor.create_task(process.write(b"y" * 1_000_000))
            reactor.call_after(10, writer.cancel)
            await reactor.sleep(0.05)
            process.close_stdin()
            await writer

    drive(reactor, reactor.create_task(main()))


# -- the end


def test_close_ends_the_children_of_its_tasks() -> None:
    """Also one that ignores SIGTERM; the tasks are cancelled, in their own time."""
    pids: list[int] = []
    ended: list[str] = []

    async def main() -> None:
        async with aio.start(
            "sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done", stdout=fastproc.PIPE
        ) as child:
            pids.append(child.pid)
            await child.readline()
            ready.append(True)
            try:
                await child.wait()
            finally:
                ended.append("left")

    ready: list[bool] = []
    with fastproc.Reactor() as reactor:
        task = reactor.create_task(main())
        run = reactor.run("sleep", "60")
        while not ready:
            reactor.run_once()
    assert (task.done, run.done, ended) == (True, True, ["left"])
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_close_ends_what_goes_on_when_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that takes no notice is thrown away after a while."""
    monkeypatch.setattr(sys.modules["fastproc.embedding"], "ABANDON_LIMIT", 0.05)
    rounds: list[int] = []

    async def stubborn() -> None:
        while True:
            try:
                await reactor.sleep(0.01)
            except Cancelled:
                rounds.append(1)

    with fastproc.Reactor() as reactor:
        reactor.create_task(stubborn())
        reactor.run_once(0)
    assert rounds == [1]


def test_closed_reactor_takes_no_task() -> None:
    """Closing it again is harmless."""
    reactor = fastproc.Reactor()
    reactor.close()
    reactor.close()
    waiting = reactor.sleep(0)
    with pytest.raises(RuntimeError, match="this reactor is closed"):
        reactor.create_task(waiting)
    waiting.close()


def test_no_descriptor_is_open_before_it_is_needed() -> None:
    """And none is left after close()."""
    before = sorted(os.listdir("/proc/self/fd"))
    reactor = fastproc.Reactor()
    assert sorted(os.listdir("/proc/self/fd")) == before
    reactor.fileno()
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    reactor.close()
    assert sorted(os.listdir("/proc/self/fd")) == before


def make_reactors(count: int, each: Callable[[fastproc.Reactor], object]) -> None:
    """Make some reactors, each in a thread of its own."""
    from threading import Thread

    def body() -> None:
        with fastproc.Reactor() as reactor:
            each(reactor)

    threads = [Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_reactor_in_each_thread() -> None:
    """Eight at once, each with its own children."""
    found: list[bytes] = []

    def each(reactor: fastproc.Reactor) -> None:
        tasks = [reactor.run("echo", str(number), capture=True) for number in range(20)]
        for task in tasks:
            drive(reactor, task)
        found.append(b"".join(task.result().stdout for task in tasks))

    make_reactors(8, each)
    assert found == [b"".join(b"%d\n" % number for number in range(20))] * 8


def test_page_says_what_happens() -> None:
    """The sessions of docs/event-loops.md are what the interpreter answers."""
    import doctest

    page = (ROOT / "docs" / "event-loops.md").read_text("utf-8").replace("```", "")
    session = doctest.DocTestParser().get_doctest(page, {}, "event-loops.md", None, None)
    assert len(session.examples) >= 10
    assert doctest.DocTestRunner().run(session).failed == 0


def test_flag_that_a_signal_handler_cut_wakes_all(reactor: fastproc.Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set, but its setter was interrupted before the tasks were woken."""
    flag = Flag()

    async def waiter() -> None:
        await flag.wait()

    async def setter() -> None:
        flag.set()

    waits = [reactor.create_task(waiter()) for _ in range(2)]
    reactor.run_once(0)
    go_on = Task._go_on

    def cut(task: Task) -> None:
        if task is waits[0]:
            monkeypatch.setattr(Task, "_go_on", go_on)
            raise KeyboardInterrupt
        go_on(task)

    reactor.create_task(setter())
    monkeypatch.setattr(Task, "_go_on", cut)
    with pytest.raises(KeyboardInterrupt):
        reactor.run_once(0)
    reactor.run_once(0)
    assert [task.done for task in waits] == [True, True]


def test_task_goes_on_waiting_when_an_exception_came_out_of_the_loop(reactor: fastproc.Reactor) -> None:
    """All tasks are woken then, and those whose flag is not set wait again."""
    flag = Flag()
    steps = []

    async def waiter() -> None:
        await flag.wait()
        steps.append(flag.is_set())

    async def interrupted() -> None:
        raise KeyboardInterrupt

    task = reactor.create_task(waiter())
    reactor.run_once(0)
    reactor.create_task(interrupted())
    with pytest.raises(KeyboardInterrupt):
        reactor.run_once(0)
    reactor.run_once(0)
    assert not task.done
    flag.set()
    reactor.run_once(0)
    assert steps == [True]
