"""`fastproc.aio` with many children at once: what the loop has left for others, and what is registered with it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated
from fastproc import aio
from support import drivers, observe
from support.programs import Programs

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=drivers.LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """Each kind of event loop in turn."""
    drivers.need(request.param)
    name: str = request.param
    return name


class Pulse:
    """A task that ticks: how many ticks there were, and what the loop's thread has computed between two, at most."""

    def __init__(self, loop: str) -> None:
        self.loop = loop
        self.ticks = 0
        self.longest = 0.0
        self.stopped = False

    async def beat(self) -> None:
        before = time.thread_time()
        while not self.stopped:
            await drivers.sleep(self.loop, 0.001)
            now = time.thread_time()
            self.longest = max(self.longest, now - before)
            before = now
            self.ticks += 1

    async def over(self, *functions: Callable[[], Awaitable[Any]]) -> list[Any]:
        """Do something meanwhile, all at once."""

        async def work() -> list[Any]:
            try:
                return await drivers.together(self.loop, *functions)  # type: ignore[no-any-return]
            finally:
                self.stopped = True

        done: list[Any] = (await drivers.together(self.loop, self.beat, work))[1]
        return done


def _slow_execs(loop: str, slow_exec: str, program: str) -> list[Any]:
    """Start 50 children whose exec takes 300 ms each; how the loop's pulse was meanwhile."""
    held = subprocess.Popen([slow_exec, program, "300"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with held:
        assert held.stdin is not None
        assert held.stdout is not None
        if held.stdout.readline() != b"ready\n":
            return []
        pulses = []

        async def start() -> int:
            async with aio.start(program) as process:
                return await process.wait()

        async def run() -> int:
            return (await aio.run(program, capture=True)).returncode

        for way in (start, run):

            async def main(way: Callable[[], Awaitable[int]] = way) -> list[Any]:
                await way()
                pulse = Pulse(loop)
                codes = await pulse.over(*[way] * 50)
                return [codes, pulse.ticks, pulse.longest]

            pulses.append(drivers.run_in(loop, main))
        held.stdin.close()
    return pulses


@pytest.mark.privileged
@pytest.mark.slow
def test_slow_execs_do_not_hold_the_loop(loop: str, programs: Programs, tmp_path: Path) -> None:
    """It goes on through all the 300 ms that one exec takes, and 50 of them take no longer than one."""
    program = shutil.copy(programs.static_exit, tmp_path / "slow")
    found = isolated(_slow_execs, loop, programs.slow_exec, str(program))
    if not found:
        pytest.skip("fanotify(7) has no permission events here")
    for codes, ticks, longest in found:
        assert codes == [0] * 50
        # One exec after the other would have taken 15 s, and one tick. A tick is a millisecond, on a machine with time.
        assert ticks > 3
        assert longest < 0.1


def _before_the_exec(loop: str, slow_exec: str, program: str) -> list[Any]:
    """Children in a tree, on a terminal, with a deadline, cancelled: while their exec is held for two seconds."""
    held = subprocess.Popen([slow_exec, program, "2000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with held:
        assert held.stdin is not None
        assert held.stdout is not None
        if held.stdout.readline() != b"ready\n":
            return []

        async def late(**options: Any) -> list[Any]:
            begin = time.monotonic()
            try:
                await aio.run(program, stdout=fastproc.PIPE, timeout=0.2, grace=0.0, **options)
            except fastproc.TimeoutExpired as error:
                assert error.result is not None
                return [error.result.returncode, time.monotonic() - begin < 1.5]
            return ["not late"]

        async def left(**options: Any) -> list[Any]:
            async def start() -> None:
                async with aio.start(program, **options):
                    pass

            begin = time.monotonic()
            return [await drivers.cancelled_after(loop, 0.2, start), time.monotonic() - begin < 1.5]

        async def main() -> list[Any]:
            await aio.run("true")
            pulse = Pulse(loop)
            done = await pulse.over(
                late,
                lambda: late(kill_tree=True),
                lambda: late(on_line=lambda _name, _line: None),
                left,
                lambda: left(kill_tree=True),
                lambda: left(pty=True),
            )
            return [done, pulse.ticks, sorted(observe.children() - {held.pid})]

        found: list[Any] = drivers.run_in(loop, main)
        held.stdin.close()
    return found


@pytest.mark.privileged
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"], indirect=True)
def test_before_the_exec_deadlines_and_cancellation_hold(loop: str, programs: Programs, tmp_path: Path) -> None:
    """A contained tree and a terminal too: the loop goes on, the child is gone in time."""
    program = shutil.copy(programs.static_exit, tmp_path / "slow")
    found = isolated(_before_the_exec, loop, programs.slow_exec, str(program))
    if not found:
        pytest.skip("fanotify(7) has no permission events here")
    done, ticks, children = found
    assert done == [[-9, True]] * 3 + [[True, True]] * 3
    assert ticks > 10
    assert children == []


@pytest.mark.slow
def test_many_children_leave_the_loop_its_time(loop: str) -> None:
    """Spawned, fed and read, 60 at once: the loop comes round again and again, however much there is to do."""

    async def fed() -> Any:
        return len((await aio.run("cat", input=bytes(300_000), capture=True)).stdout)

    async def main() -> Any:
        await fed()
        pulse = Pulse(loop)
        found = await pulse.over(*[fed] * 60)
        return found, pulse.longest

    found, longest = drivers.run_in(loop, main)
    assert found == [300_000] * 60
    assert longest < 0.1


def _thousand(loop: str) -> list[Any]:
    """1,000 children at once on one loop: what is registered, and whether each result is its own."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    before = len(os.listdir("/proc/self/fd"))
    seen: list[int] = []

    async def one(number: int) -> bool:
        # They wait for the last: all live at once.
        script = f"cat; echo {number} >&2; exit {number % 200}"
        result = await aio.run("sh", "-c", script, input=source(number), capture=True, check=False)
        return (result.stdout, result.stderr, result.returncode) == (b"%d" % number, b"%d\n" % number, number % 200)

    async def source(number: int) -> AsyncIterator[bytes]:
        yield b"%d" % number
        waiting.append(number)
        while not seen:
            await drivers.sleep(loop, 0.05)

    waiting: list[int] = []

    async def look() -> bool:
        while len(waiting) < 1000:
            await drivers.sleep(loop, 0.02)
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        epoll = aio.reactor().fileno()
        registered = 0
        for fd in os.listdir("/proc/self/fd"):
            try:
                info = Path(f"/proc/self/fdinfo/{fd}").read_text()
            except OSError:
                continue
            registered += info.count(f"tfd: {epoll:8} ")
        seen.extend([len(children), registered, len(os.listdir("/proc/self/task"))])
        return True

    async def main() -> Any:
        return await drivers.together(loop, look, *[lambda number=number: one(number) for number in range(1000)])

    right = drivers.run_in(loop, main)
    return [all(right), *seen, len(os.listdir("/proc/self/fd")) - before]


@pytest.mark.slow
def test_thousand_children_are_one_reader(loop: str) -> None:
    """One descriptor is registered with the loop, no thread is there for a child, and each result is right."""
    right, children, registered, threads, left = isolated(_thousand, loop, timeout=120)
    # The reactor alone is no other loop's reader. uvloop's and trio's own loops have no threads either.
    assert (right, children, registered, threads) == (True, 1000, 0 if loop == "reactor" else 1, 1)
    assert left <= 1


def test_lines_cancelled_between_two_lose_none(loop: str) -> None:
    """Wherever the cancellation arrives: another iteration goes on with the next line."""

    async def main() -> Any:
        async with aio.start("seq", "30000", stdout=fastproc.PIPE) as process:
            found: list[bytes] = []

            async def rest() -> None:
                async for line in process.lines():
                    found.append(line)

            for _ in range(40):
                if not await drivers.cancelled_after(loop, 0.0, rest):
                    break
            await rest()
            return found

    assert drivers.run_in(loop, main) == [b"%d" % number for number in range(1, 30001)]


def _everything(loop: str) -> list[str]:
    """Use everything once, in asyncio's debug mode with every warning an error; what was logged or printed."""
    import gc
    import logging
    import sys

    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logging.getLogger("asyncio").addHandler(Listener())
    sys.unraisablehook = lambda args: said.append(f"{args.exc_type.__name__}: {args.exc_value}")
    pipes = {"stdin": fastproc.PIPE, "stdout": fastproc.PIPE, "stderr": fastproc.PIPE}

    async def source() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d\n" % number
            await drivers.checkpoint(loop)

    async def main() -> None:
        result = await aio.run("cat", input=source(), capture=True, on_line=lambda *_: None)
        assert result.stdout == b"".join(b"%d\n" % number for number in range(100))
        async with aio.start("sh", "-c", "tee /dev/stderr", **pipes) as process:  # type: ignore[arg-type]
            events = [event.data async for event in process.events(input=[b"a\n", b"b\n"])]
            assert sorted(events) == [b"a", b"a", b"b", b"b"]
        # Left in the middle, by its block, a cancellation, an error, a deadline.
        async with aio.start("yes", stdout=fastproc.PIPE) as process:
            async for batch in process.lines().batches():
                assert set(batch) == {b"y"}
                break
        await drivers.cancelled_after(loop, 0.05, lambda: aio.run("yes", stdout=fastproc.PIPE))
        for way in (
            lambda: aio.run("sleep", "60", timeout=0.02),
            lambda: aio.run("fastproc-no-such-program"),
            lambda: aio.run("false"),
        ):
            try:
                await way()
            except fastproc.ProcessError:
                pass
        processes = [await aio.start("sh", "-c", f"exit {number}") for number in range(3)]
        assert await aio.wait_all(processes) == [0, 1, 2]
        # Nobody waits for the end of this one, nor of those.
        await aio.start("true")
        await drivers.together(loop, *[lambda: aio.run("true")] * 5)

    drivers.run_in(loop, main)
    gc.collect()
    return said


@pytest.mark.slow
def test_debug_mode_and_warnings_have_nothing_to_say(loop: str) -> None:
    """No coroutine, task, transport or descriptor is forgotten; what is dropped while it runs gives its own warning."""
    said = isolated(_everything, loop, env={"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"})
    # That is documented: a child whose handle is dropped while it runs.
    mine = [line for line in said if "was dropped while it ran" in line]
    assert len(mine) <= 1
    # Of the machine, when it has no time: a callback took more than 100 ms.
    assert [line for line in said if line not in mine and not line.startswith("Executing <")] == []


@pytest.mark.parametrize("option", ["stdin", "stdout", "stderr"])
def test_fifo_without_the_other_side_does_not_hold_the_loop(loop: str, option: str, tmp_path: Path) -> None:
    """Others go on; a deadline and a cancellation end the wait, and the other side ends it well."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = ("cat",) if option == "stdin" else ("sh", "-c", "echo x; echo x >&2")
    options: dict[str, Any] = {"stdout": fastproc.PIPE, "stderr": fastproc.DEVNULL, option: fifo}

    async def main() -> Any:
        async def late() -> str:
            with pytest.raises(fastproc.TimeoutExpired):
                await aio.run(*program, **options, timeout=0.2)
            return "late"

        pulse = Pulse(loop)
        found = await pulse.over(late)
        found.append(pulse.ticks > 10)
        found.append(await drivers.cancelled_after(loop, 0.05, lambda: aio.run(*program, **options)))

        async def other_side() -> bytes:
            await drivers.sleep(loop, 0.1)
            if option == "stdin":
                with open(os.open(fifo, os.O_WRONLY), "wb") as file:
                    file.write(b"x\n")
                return b""
            with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                while not (data := file.read()):
                    await drivers.sleep(loop, 0.01)
                return data

        result, said = await drivers.together(loop, lambda: aio.run(*program, **options), other_side)
        return [*found, result.returncode, (result.stdout or b"") if option == "stdin" else said]

    assert drivers.run_in(loop, main) == ["late", True, True, 0, b"x\n"]
