"""Measure what an event loop has left while fastproc.aio makes, feeds and reads children, and 1,000 children at once.

A task ticks every millisecond. Its lateness is what other tasks of the program would feel; as a machine that is busy
with other things delays it too, the time is printed that the loop's thread has computed between two ticks at most, and
both of a loop that has nothing to do. A slow exec is one of a file whose opening is held up by fanotify(7), for which
it takes root; asyncio's own children are the rival there. Where it may, this process asks for real-time priority
(sched(7)), which its children do not inherit: what else the machine does is not what is measured.

    python benchmarks/bench_loops.py [--rounds N]

Writes results/loops.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import fastproc
from fastproc import aio

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"
RESULTS = HERE / "results"
AT_ONCE = 50
HELD_MS = 300
THOUSAND = 1000

Main = Callable[[], Coroutine[Any, Any, Any]]


def compiled(source: Path) -> str:
    """Compile a program into build/bench."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = str(BUILD / source.stem)
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", target, str(source)], check=True)
    return target


@contextmanager
def slow_program() -> Iterator[str | None]:
    """A program whose exec takes HELD_MS; None where that cannot be had."""
    program = shutil.copy(compiled(HERE / "static_exit.c"), BUILD / "slow")
    holder = compiled(HERE.parent / "tests" / "programs" / "slow_exec.c")
    with subprocess.Popen([holder, str(program), str(HELD_MS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
        assert held.stdin is not None
        assert held.stdout is not None
        yield str(program) if held.stdout.readline() == b"ready\n" else None
        held.stdin.close()


class Pulse:
    """A task that ticks: how late, and what the thread has computed between two ticks; seconds."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.held = 0.0
        self.stopped = False

    async def beat(self, sleep: Callable[[float], Awaitable[object]]) -> None:
        """Tick until it is stopped."""
        while not self.stopped:
            wall, computed = time.monotonic(), time.thread_time()
            await sleep(0.001)
            self.late.append(time.monotonic() - wall - 0.001)
            self.held = max(self.held, time.thread_time() - computed)


async def in_asyncio(work: Callable[[], Awaitable[object]], times: int) -> Pulse:
    """Do something many times at once beside a pulse."""
    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat(asyncio.sleep))
    try:
        await asyncio.gather(*(work() for _ in range(times)))
    finally:
        pulse.stopped = True
        await beating
    return pulse


async def in_trio(work: Callable[[], Awaitable[object]], times: int) -> Pulse:
    """The same in trio."""
    import trio

    pulse = Pulse()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.beat, trio.sleep)
        async with trio.open_nursery() as working:
            for _ in range(times):
                working.start_soon(work)
        pulse.stopped = True
    return pulse


def on_asyncio(main: Main) -> Any:
    return asyncio.run(main())


def on_uvloop(main: Main) -> Any:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def on_trio(main: Main) -> Any:
    import trio

    return trio.run(main)


LOOPS: dict[str, tuple[Callable[[Main], Any], Any]] = {
    "asyncio": (on_asyncio, in_asyncio),
    "uvloop": (on_uvloop, in_asyncio),
    "trio": (on_trio, in_trio),
}


def cases(slow: str | None) -> dict[str, Callable[[], Awaitable[object]]]:
    """What is done AT_ONCE times at once."""

    async def nothing() -> None:
        await aio.run("sleep", "0.4")

    async def start_slow() -> None:
        async with aio.start(slow or "true") as process:
            await process.wait()

    async def run_slow() -> None:
        await aio.run(slow or "true", capture=True)

    async def own_slow() -> None:
        await (await asyncio.create_subprocess_exec(slow or "true")).wait()

    async def spawned() -> None:
        await aio.run("true")

    async def fed() -> None:
        result = await aio.run("cat", input=bytes(1 << 20), capture=True)
        assert result.stdout is not None
        assert len(result.stdout) == 1 << 20

    async def read() -> None:
        async with aio.start("seq", "20000", stdout=fastproc.PIPE) as process:
            assert len([line async for line in process.lines()]) == 20000

    found: dict[str, Callable[[], Awaitable[object]]] = {f"{AT_ONCE} that sleep": nothing}
    if slow is not None:
        found |= {
            f"{AT_ONCE} execs of {HELD_MS} ms, aio.start": start_slow,
            f"{AT_ONCE} execs of {HELD_MS} ms, aio.run captured": run_slow,
            f"{AT_ONCE} execs of {HELD_MS} ms, asyncio's own": own_slow,
        }
    return found | {
        f"{AT_ONCE} programs that end at once": spawned,
        f"{AT_ONCE} fed and read, 1 MiB each": fed,
        f"{AT_ONCE} read by line, 20,000 lines each": read,
    }


def measure(rounds: int, slow: str | None) -> list[str]:
    """Rows of the table of pulses."""
    rows = []
    for title, work in cases(slow).items():
        for name, (run, beside) in LOOPS.items():
            own = title.endswith("own")
            if own and name != "asyncio":
                continue
            pulses = []
            for _ in range(1 if own else rounds):
                pulse = run(partial(beside, work, AT_ONCE))
                pulses.append((max(pulse.late) * 1e3, pulse.held * 1e3))
            late = sorted(late for late, _ in pulses)
            held = max(held for _, held in pulses)
            over = sum(late > 10.0 for late in late)
            rows.append(
                f"| {title} | {name} | {median(late):.1f} | {late[-1]:.1f} | {over} of {len(late)} | {held:.1f} |"
            )
            print(rows[-1], flush=True)
    return rows


async def thousand(open_at_once: list[int], sleep: Callable[[float], Awaitable[object]], number: int) -> None:
    """One of a thousand children that all wait for the last."""
    async with aio.start("sh", "-c", f"cat; exit {number % 200}", stdin=fastproc.PIPE, stdout=fastproc.PIPE) as child:
        open_at_once.append(number)
        while len(open_at_once) < THOUSAND:
            await sleep(0.1)
        await child.write(b"%d" % number)
        child.close_stdin()
        text = await child.read()
        code = await child.wait()
    assert (text, code) == (b"%d" % number, number % 200), number


def measure_thousand() -> list[str]:
    """Rows of the table of a thousand children."""
    rows = []
    for name, (run, _) in LOOPS.items():

        async def main(name: str = name) -> tuple[int, int]:
            open_at_once: list[int] = []
            threads = 0
            if name == "trio":
                import trio

                async with trio.open_nursery() as nursery:
                    for number in range(THOUSAND):
                        nursery.start_soon(thousand, open_at_once, trio.sleep, number)
                    while len(open_at_once) < THOUSAND:
                        await trio.sleep(0.01)
                    threads = len(os.listdir("/proc/self/task"))
                    registered = readers()
            else:
                tasks = [asyncio.create_task(thousand(open_at_once, asyncio.sleep, n)) for n in range(THOUSAND)]
                while len(open_at_once) < THOUSAND:
                    await asyncio.sleep(0.01)
                threads = len(os.listdir("/proc/self/task"))
                registered = readers()
                await asyncio.gather(*tasks)
            return threads, registered

        before = time.monotonic()
        threads, registered = run(main)
        took = time.monotonic() - before
        rows.append(f"| {name} | {registered} | {threads} | {THOUSAND} | {took:.2f} |")
        print(rows[-1], flush=True)
    return rows


def readers() -> int:
    """How often the reactor's descriptor is registered in another epoll of this process."""
    wanted = f"tfd: {aio.reactor().fileno():8} "
    return sum(
        path.read_text().count(wanted)
        for path in Path("/proc/self/fdinfo").iterdir()
        if path.exists() and path.name != "0"
    )


def before_others() -> bool:
    """Run before whatever else the machine does, but not the children; whether that is allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        return False
    return True


def main() -> None:
    """Measure, print, and write results/loops.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    real_time = before_others()
    with slow_program() as slow:
        pulses = measure(rounds, slow)
    counted = measure_thousand()
    text = [
        "# A loop's pulse beside its children",
        "",
        f"`python benchmarks/bench_loops.py --rounds {rounds}`, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}. Milliseconds: the latest tick "
        "of a round, median and most of the rounds; rounds with one later than 10 ms; what the loop's thread computed "
        f"between two ticks, at most. This process has {'real-time' if real_time else 'normal'} priority, its children "
        "have normal priority.",
        "",
        "| children | loop | latest | most | over 10 ms | computed |",
        "| --- | --- | --- | --- | --- | --- |",
        *pulses,
        "",
        f"{THOUSAND} children alive at once on one loop, each fed, read and waited for:",
        "",
        "| loop | readers registered | threads | right results | s |",
        "| --- | --- | --- | --- | --- |",
        *counted,
        "",
    ]
    (RESULTS / "loops.md").write_text("\n".join(text), "utf-8")


if __name__ == "__main__":
    main()
