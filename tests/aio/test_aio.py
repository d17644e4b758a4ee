"""`fastproc.aio`: the blocking names in an event loop, on asyncio, uvloop and trio."""

from __future__ import annotations

import contextvars
import errno
import gc
import inspect
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import fastproc
from fastproc import aio
from fastproc._engine.reactor import Reactor
from fastproc.containment._member import facts_of
from support import drivers

pytestmark = pytest.mark.filterwarnings("error")

In = Callable[..., Any]


@pytest.fixture(params=drivers.LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """Each kind of event loop in turn."""
    drivers.need(request.param)
    name: str = request.param
    return name


def test_run_has_the_signature_of_the_blocking_one() -> None:
    """The two doors take the same; so do the functions that start and wait."""
    assert inspect.signature(aio.run) == inspect.signature(fastproc.run)
    for name in ("start", "wait_any", "wait_all", "as_completed"):
        theirs, ours = inspect.signature(getattr(fastproc, name)), inspect.signature(getattr(aio, name))
        assert ours.parameters == theirs.parameters, name


def test_names_mirror_the_blocking_ones() -> None:
    """Every name that waits in the blocking door is here, and documented."""
    assert {"run", "start", "wait_any", "wait_all", "as_completed", "Process"} <= set(aio.__all__)
    for name in aio.__all__:
        assert inspect.getdoc(getattr(aio, name)) or not callable(getattr(aio, name)), name


def test_run_captured_gives_the_blocking_result(loop: str) -> None:
    """Output, status and usage are those of run()."""

    async def main() -> Any:
        return await aio.run("sh", "-c", "cat; echo err >&2; exit 3", input=b"in", capture=True, check=False)

    result = drivers.run_in(loop, main)
    theirs = fastproc.run("sh", "-c", "cat; echo err >&2; exit 3", input=b"in", capture=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (3, b"in", b"err\n")
    assert (result.argv, result.mechanism) == (theirs.argv, theirs.mechanism)
    assert result.usage is not None
    assert result.duration > 0


def test_kill_tree_is_the_blocking_one(loop: str) -> None:
    """The whole tree ends: by kill_tree(), by leaving the block, by a deadline; other tasks go on meanwhile."""
    script = "(setsid sh -c 'echo $$; exec sleep 60' &); sh -c 'echo $$; exec sleep 60' & wait"

    def left(lines: Any) -> list[int]:
        return [int(pid) for pid in lines if (facts := facts_of(int(pid))) and not facts.ended]

    async def main() -> Any:
        found: list[Any] = []
        async with aio.start("sh", "-c", script, stdout=fastproc.PIPE, kill_tree=True) as process:
            lines = [await anext(process.lines()) for _ in range(2)]
            end = await process.kill_tree(0)
            found.append([end.gone, left(lines)])
        async with aio.start("sh", "-c", script, stdout=fastproc.PIPE, kill_tree=True) as process:
            lines = [await anext(process.lines()) for _ in range(2)]
        found.append(left(lines))
        try:
            await aio.run("sh", "-c", script, capture=True, kill_tree=True, timeout=0.3)
        except fastproc.TimeoutExpired as error:
            assert error.result is not None
            found.append([len(error.result.lines()), left(error.result.lines()), error.result.survivors])
        return found

    assert drivers.run_in(loop, main) == [[True, []], [], [2, [], ()]]


def test_run_outside_of_a_loop_says_so() -> None:
    """There is nothing to wait by."""
    coroutine = aio.run("true")
    with pytest.raises(RuntimeError, match="no event loop"):
        coroutine.send(None)


def test_run_large_data_goes_through_both_ways(loop: str) -> None:
    """More than the pipes hold, in and out at once."""
    data = bytes(range(256)) * 8192

    async def main() -> Any:
        return await aio.run("cat", input=data, capture=True)

    assert drivers.run_in(loop, main).stdout == data


def test_run_errors_are_the_blocking_ones(loop: str) -> None:
    """A missing program, an unaccepted status, a deadline, a bad argument."""

    async def main() -> list[BaseException]:
        found: list[BaseException] = []
        for attempt in (
            lambda: aio.run("fastproc-no-such-program"),
            lambda: aio.run("false"),
            lambda: aio.run("sh", "-c", "echo kept; exec sleep 60", capture=True, timeout=0.1),
            lambda: aio.run("true", timeout=-1),
        ):
            try:
                await attempt()
            except Exception as error:
                found.append(error)
        return found

    missing, status, late, bad = drivers.run_in(loop, main)
    assert (isinstance(missing, fastproc.SpawnError), isinstance(missing, FileNotFoundError)) == (True, True)
    assert (missing.stage, missing.filename) == ("exec", "fastproc-no-such-program")
    assert (type(status), status.returncode) == (fastproc.ExitError, 1)
    assert (type(late), late.result.stdout, late.result.timed_out) == (fastproc.TimeoutExpired, b"kept\n", True)
    assert (type(bad), str(bad)[:7]) == (ValueError, "timeout")


def test_run_cancelled_leaves_no_child_and_keeps_the_output(loop: str, tmp_path: Path) -> None:
    """The child got SIGTERM and is reaped when the cancellation goes on; what it wrote is in the exception."""
    kept: list[Any] = []
    written = tmp_path / "written"

    async def main() -> None:
        async def one() -> None:
            try:
                await aio.run("sh", "-c", 'echo kept; : >"$0"; exec sleep 60', str(written), capture=True)
            except BaseException as error:
                kept.append(error.result)  # type: ignore[attr-defined]
                raise

        assert await drivers.cancelled_when(loop, written.exists, one)

    drivers.run_in(loop, main)
    assert [(result.stdout, result.returncode) for result in kept] == [(b"kept\n", -15)]
    with pytest.raises(ProcessLookupError):
        os.kill(kept[0].pid, 0)


def test_run_cancelled_child_that_ignores_sigterm_is_killed(loop: str, tmp_path: Path) -> None:
    """The grace is the run's."""
    kept: list[Any] = []
    script = "trap '' TERM; echo ready; : >\"$0\"; while :; do sleep 1; done"
    written = tmp_path / "written"

    async def main() -> None:
        async def one() -> None:
            try:
                await aio.run("sh", "-c", script, str(written), capture=True)
            except BaseException as error:
                kept.append(error.result)  # type: ignore[attr-defined]
                raise

        await drivers.cancelled_when(loop, written.exists, one)

    drivers.run_in(loop, main)
    assert [(result.stdout, result.returncode) for result in kept] == [(b"ready\n", -9)]


def test_run_many_at_once_each_has_its_result(loop: str) -> None:
    """One reactor, each child its own status."""

    def one(number: int) -> Callable[[], Awaitable[Any]]:
        return lambda: aio.run("sh", "-c", f"echo {number}; exit {number}", capture=True, check=False)

    async def main() -> Any:
        return await drivers.together(loop, *(one(number) for number in range(40)))

    results = drivers.run_in(loop, main)
    assert [(r.returncode, r.stdout) for r in results] == [(n, b"%d\n" % n) for n in range(40)]


def test_run_that_failed_and_is_kept_ends_no_other_run(loop: str) -> None:
    """What the traceback of an error keeps of a run has no hand in the next one, which uses its memory again."""

    async def main() -> Any:
        kept: list[BaseException] = []

        async def fail() -> None:
            try:
                await aio.run("sh", "-c", "sleep 0.05; exit 3")
            except fastproc.ExitError as error:
                kept.append(error)

        await drivers.together(loop, *[fail] * 8)

        async def forget() -> None:
            await drivers.sleep(loop, 0.05)
            kept.clear()
            gc.collect()

        many = [lambda: aio.run("sh", "-c", "sleep 0.2; echo x", capture=True)] * 8
        return await drivers.together(loop, forget, *many)

    assert [result.stdout for result in drivers.run_in(loop, main)[1:]] == [b"x\n"] * 8


def test_callbacks_run_in_the_context_of_the_caller(loop: str) -> None:
    """Two runs at once, each callback sees its own task's variable."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: list[tuple[str, bytes]] = []

    def one(name: str) -> Callable[[], Awaitable[Any]]:
        async def body() -> None:
            variable.set(name)
            await aio.run("echo", name, capture=True, on_line=lambda _, line: seen.append((variable.get(), line)))

        return body

    async def main() -> None:
        await drivers.together(loop, one("a"), one("b"))

    drivers.run_in(loop, main)
    assert sorted(seen) == [("a", b"a"), ("b", b"b")]


def test_callback_that_raises_ends_its_run_only(loop: str) -> None:
    """The error comes out of the run whose callback it was; another run on the loop goes on."""

    def bad(_stream: str, _line: bytes) -> None:
        raise LookupError("mine")

    async def main() -> Any:
        async def failing() -> BaseException:
            try:
                await aio.run("sh", "-c", "echo x; exec sleep 60", capture=True, on_line=bad)
            except LookupError as error:
                return error
            raise AssertionError

        return await drivers.together(loop, failing, lambda: aio.run("sh", "-c", "sleep 0.2; echo y", capture=True))

    error, other = drivers.run_in(loop, main)
    assert (str(error), error.result.returncode, other.stdout) == ("mine", -9, b"y\n")


# -- start


def test_start_lines_come_as_they_are_written(loop: str) -> None:
    """Line after line, the status at the end."""

    async def main() -> Any:
        async with aio.start("sh", "-c", "echo a; echo b; exit 4", stdout=fastproc.PIPE) as process:
            lines = [line async for line in process.lines()]
            return lines, await process.wait(), process.returncode

    assert drivers.run_in(loop, main) == ([b"a", b"b"], 4, 4)


def test_start_left_stops_the_child(loop: str) -> None:
    """SIGTERM, and it is reaped when the block is left."""

    async def main() -> Any:
        async with aio.start("sleep", "60") as process:
            assert process.poll() is None
        return process.returncode

    assert drivers.run_in(loop, main) == -15


def test_start_cancelled_inside_of_the_block_stops_the_child(loop: str) -> None:
    """A cancelled task leaves no child."""
    seen: list[aio.Process] = []

    async def main() -> Any:
        async def body() -> None:
            async with aio.start("sleep", "60") as process:
                seen.append(process)
                await process.wait()

        return await drivers.cancelled_after(loop, 0.1, body)

    assert drivers.run_in(loop, main)
    assert seen[0].returncode in (-9, -15)


def test_lines_left_and_taken_up_again_lose_nothing(loop: str) -> None:
    """Another iteration, or a cancelled one, goes on where the first was left."""

    async def main() -> Any:
        script = "echo 1; echo 2; sleep 0.3; echo 3; echo 4"
        async with aio.start("sh", "-c", script, stdout=fastproc.PIPE) as process:
            found = []
            async for line in process.lines():
                found.append(line)
                break

            async def rest() -> None:
                async for line in process.lines():
                    found.append(line)

            assert await drivers.cancelled_after(loop, 0.1, rest)
            await rest()
            return found

    assert drivers.run_in(loop, main) == [b"1", b"2", b"3", b"4"]


def test_lines_longer_than_64_kib_are_lines(loop: str) -> None:
    """There is no limit that a line can hit."""

    async def main() -> Any:
        script = "import sys; sys.stdout.write('x' * 1000000 + '\\n' + 'y')"
        async with aio.start(sys.executable, "-c", script, stdout=fastproc.PIPE) as process:
            return [len(line) async for line in process.lines()]

    assert drivers.run_in(loop, main) == [1_000_000, 1]


def test_events_chunks_batches_and_read(loop: str) -> None:
    """The other ways of reading, as in blocking code."""

    async def main() -> Any:
        both = {"stdout": fastproc.PIPE, "stderr": fastproc.PIPE}
        async with aio.start("sh", "-c", "echo a; echo b >&2", **both) as process:
            events = sorted([(event.stream, event.data) async for event in process.events()])
        async with aio.start("seq", "1000", stdout=fastproc.PIPE) as process:
            batches = [batch async for batch in process.lines(text=True).batches()]
        async with aio.start("seq", "3", stdout=fastproc.PIPE) as process:
            whole = await process.read()
        return events, [line for batch in batches for line in batch], whole

    events, lines, whole = drivers.run_in(loop, main)
    assert events == [("stderr", b"b"), ("stdout", b"a")]
    assert lines == [str(number) for number in range(1, 1001)]
    assert whole == b"1\n2\n3\n"


def test_write_and_two_readers_share_a_child(loop: str) -> None:
    """A writer and a reader for each output, as tasks of one loop."""

    async def main() -> Any:
        script = "tee /dev/stderr"
        pipes = {"stdin": fastproc.PIPE, "stdout": fastproc.PIPE, "stderr": fastproc.PIPE}
        async with aio.start("sh", "-c", script, **pipes) as process:

            async def write() -> None:
                for number in range(300):
                    await process.write(b"%d\n" % number * 1000)
                process.close_stdin()

            async def read(stream: str) -> int:
                return len([line async for line in process.lines(stream)])

            return await drivers.together(loop, write, lambda: read("stdout"), lambda: read("stderr"))

    assert drivers.run_in(loop, main) == [None, 300_000, 300_000]


def test_nothing_is_read_while_nobody_waits(loop: str) -> None:
    """A child that writes faster than it is read is held by its pipe."""

    async def main() -> int:
        async with aio.start("sh", "-c", "yes | head -c 5000000", stdout=fastproc.PIPE) as process:
            async for _ in process.chunks():
                break
            await drivers.sleep(loop, 0.2)
            streams = process.child._streams
            assert streams is not None
            assert sum(len(item[2]) for item in streams.outputs["stdout"].items) < 200_000
            return sum([len(chunk) async for chunk in process.chunks()])

    assert 4_000_000 < drivers.run_in(loop, main) < 5_000_000


def test_pipeline_stopped_by_several_tasks(loop: str) -> None:
    """Each comes back when all has ended."""

    async def main() -> bool:
        pipeline = await aio.start(fastproc.cmd("sleep", "60") | fastproc.cmd("cat"))

        async def stops() -> None:
            await drivers.together(loop, pipeline.stop, pipeline.stop, pipeline.stop)

        return bool(await drivers.cancelled_after(loop, 20, stops)) or not pipeline.done

    assert not drivers.run_in(loop, main)


def test_wait_that_could_not_begin_leaves_the_next_one_be(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor or watch was left for it (EMFILE, ENOSPC): it raises, and those that come later see the end."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no watch is left")

    async def main() -> int:
        async with aio.start("cat", stdin=fastproc.PIPE) as process:
            with monkeypatch.context() as patch:
                patch.setattr(Reactor, "watch", refuse)
                with pytest.raises(OSError, match="no watch is left"):
                    await process.wait()
            process.close_stdin()
            assert not await drivers.cancelled_after(loop, 20, process.wait)
            return await process.wait()

    assert drivers.run_in(loop, main) == 0


def test_wait_timeout_and_several_waiters(loop: str) -> None:
    """A timeout leaves the child; all tasks that wait get the code."""

    async def main() -> Any:
        async with aio.start("sh", "-c", "read x; exit 5", stdin=fastproc.PIPE) as process:
            with pytest.raises(fastproc.TimeoutExpired):
                await process.wait(0.05)

            async def end() -> None:
                process.close_stdin()

            return await drivers.together(loop, process.wait, process.wait, end)

    assert drivers.run_in(loop, main) == [5, 5, None]


def test_waiting_for_several(loop: str) -> None:
    """In the order of their ends; the first; all."""

    async def main() -> Any:
        starts = [aio.start("sh", "-c", f"sleep {0.3 - n / 10}; exit {n}") for n in range(3)]
        processes = [await starting for starting in starts]
        first = await aio.wait_any(processes)
        order = [process.returncode async for process in aio.as_completed(processes)]
        with pytest.raises(ValueError, match="none to wait for"):
            await aio.wait_any([])
        return first.returncode, order, await aio.wait_all(processes)

    first, order, codes = drivers.run_in(loop, main)
    assert (first, sorted(order), codes) == (2, [0, 1, 2], [0, 1, 2])


def test_wait_any_timeout(loop: str) -> None:
    """All still run."""

    async def main() -> None:
        async with aio.start("sleep", "60") as process:
            with pytest.raises(fastproc.TimeoutExpired):
                await aio.wait_any([process], 0.05)

    drivers.run_in(loop, main)


def test_stop_gives_the_code(loop: str) -> None:
    """SIGTERM first, SIGKILL for those who ignore it."""

    async def main() -> Any:
        async with aio.start("sleep", "60") as process:
            first = await process.stop()
        script = "trap '' TERM; echo ready; while :; do sleep 1; done"
        async with aio.start("sh", "-c", script, stdout=fastproc.PIPE) as process:
            async for _ in process.lines():
                break
            return first, await process.stop(0.05)

    assert drivers.run_in(loop, main) == (-15, -9)


def test_start_refuses_what_it_cannot_do() -> None:
    """At once, before anything is awaited."""
    with pytest.raises(ValueError, match=r"^input"):
        aio.start("cat", input=b"x")
    with pytest.raises(ValueError, match=r"^timeout"):
        aio.start("cat", timeout=-1)


def test_child_has_what_its_loops_thread_has(loop: str) -> None:
    """The affinity of that thread, however the child is made, and not the main thread's."""
    cpu = min(os.sched_getaffinity(0))
    found: list[bytes | None] = []

    async def main() -> None:
        argv = "grep", "Cpus_allowed_list", "/proc/self/status"
        found.append((await aio.run(*argv, capture=True)).stdout)
        async with aio.start(*argv, stdout=fastproc.PIPE) as process:
            found.append(await process.read())

    def work() -> None:
        os.sched_setaffinity(0, {cpu})
        drivers.run_in(loop, main)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [b"Cpus_allowed_list:\t%d\n" % cpu] * 2


def test_undecodable_line_is_raised_in_its_place(loop: str) -> None:
    """Of a process, where the next reading goes on, and of a pipeline."""
    script = r"printf 'a\n\377x\nb\n'"

    async def main() -> list[object]:
        found: list[object] = []
        async with aio.start("sh", "-c", script, stdout=fastproc.PIPE) as process:
            for _ in range(2):
                try:
                    async for line in process.lines(text=True):
                        found.append(line)
                except UnicodeDecodeError as error:
                    found.append(error.object)
        try:
            async for line in aio.lines(fastproc.cmd("sh", "-c", f"{script}; exec sleep 60"), text=True):
                found.append(line)
        except UnicodeDecodeError as error:
            found.append(error.object)
        return found

    assert drivers.run_in(loop, main) == ["a", b"\xffx", "b", "a", b"\xffx"]
