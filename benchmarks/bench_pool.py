"""Measure pools beside tokio, Rust's threads and asyncio: many captured children, up to 100 at once.

The Rust programs (benchmarks/peers/rust) run in processes of their own and are kept warm: each does a round when it is
asked to, and tells its nanoseconds. fastproc and asyncio run in this process. Every round runs all of them, in shuffled
order.

    python benchmarks/bench_pool.py [--rounds N] [--count N]

Writes results/pool.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench_spawn import compile_programs, machine
from fastproc import Pool, aio, cmd

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
RUST = HERE / "peers" / "rust"
AT_ONCE = 100

MAP = "fastproc.Pool.map"
FUTURES = "fastproc.Pool.submit"
TOKIO = "tokio, multi-thread"
CURRENT = "tokio, current-thread"
THREADS = "Rust std, 100 threads"
STANDARD = "subprocess.run, 100 threads"
AIO = "fastproc.aio.Pool.map"
ASYNCIO = "asyncio, create_subprocess_exec"

Round = Callable[[], int]
"""Makes all children and gives the nanoseconds that took."""


class Peer:
    """A program that makes a round for each line."""

    def __init__(self, *argv: str) -> None:
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def round(self) -> int:
        """Ask for one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def timed(function: Callable[[], object]) -> Round:
    """Return a round of a function."""

    def call() -> int:
        begin = time.perf_counter_ns()
        function()
        return time.perf_counter_ns() - begin

    return call


def by_map(pool: Pool, program: str, count: int) -> None:
    """As one would write it: a command for each item."""
    ended = sum(not result.returncode for result in pool.map(lambda _: cmd(program), range(count)))
    if ended != count:
        raise RuntimeError(f"{ended} of {count}")


def by_futures(pool: Pool, program: str, count: int) -> None:
    """By futures."""
    for future in [pool.submit(program) for _ in range(count)]:
        future.result()


def by_standard(executor: ThreadPoolExecutor, program: str, count: int) -> None:
    """By the standard library in threads."""
    list(executor.map(lambda _: subprocess.run([program], capture_output=True, check=True), range(count)))


async def by_aio(program: str, count: int) -> None:
    """By the pool of an event loop."""
    ended = 0
    async with aio.Pool(AT_ONCE) as pool:
        async for result in pool.map(lambda _: cmd(program), range(count)):
            ended += not result.returncode
    if ended != count:
        raise RuntimeError(f"{ended} of {count}")


async def by_asyncio(program: str, count: int) -> None:
    """By asyncio's own, as many at once."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with places:
            child = await asyncio.create_subprocess_exec(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            await child.communicate()
            if child.returncode:
                raise RuntimeError(program)

    await asyncio.gather(*(one() for _ in range(count)))


@contextmanager
def rivals(program: str, count: int, slow: bool) -> Iterator[dict[str, Round]]:
    """All that is measured, ready to begin."""
    bin_ = RUST / "target" / "release"
    arguments = program, str(count), str(AT_ONCE)
    peers = {
        TOKIO: Peer(str(bin_ / "tokio"), *arguments),
        CURRENT: Peer(str(bin_ / "tokio"), *arguments, "current"),
        THREADS: Peer(str(bin_ / "threads"), *arguments),
    }
    found: dict[str, Round] = {name: peer.round for name, peer in peers.items()}
    try:
        with Pool(AT_ONCE) as pool, ThreadPoolExecutor(AT_ONCE) as executor, asyncio.Runner() as runner:
            found[MAP] = timed(lambda: by_map(pool, program, count))
            found[FUTURES] = timed(lambda: by_futures(pool, program, count))
            found[AIO] = timed(lambda: runner.run(by_aio(program, count)))
            if slow:
                found[ASYNCIO] = timed(lambda: runner.run(by_asyncio(program, count)))
                found[STANDARD] = timed(lambda: by_standard(executor, program, count))
            yield found
    finally:
        for peer in peers.values():
            peer.close()


def measure(program: str, count: int, rounds: int, slow: bool) -> dict[str, list[int]]:
    """Nanoseconds of every round, by the rival's name."""
    with rivals(program, count, slow) as calls:
        taken: dict[str, list[int]] = {name: [] for name in calls}
        for call in calls.values():
            call()
        order = list(calls)
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                taken[name].append(calls[name]())
    return taken


def table(title: str, taken: dict[str, list[int]], count: int) -> list[str]:
    """The lines of one table."""
    middle = {name: median(times) for name, times in taken.items()}
    lines = [f"## {title}", ""]
    lines += ["| | children/s | × tokio | × Rust threads |", "| --- | ---: | ---: | ---: |"]
    for name in sorted(middle, key=middle.__getitem__):
        ratios = [
            median(theirs / ours for theirs, ours in zip(taken[rival], taken[name], strict=True))
            for rival in (TOKIO, THREADS)
        ]
        lines.append(f"| {name} | {count * 1e9 / middle[name]:,.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")
    if ASYNCIO in taken:
        times = median(theirs / ours for theirs, ours in zip(taken[ASYNCIO], taken[AIO], strict=True))
        lines += ["", f"In an event loop: {times:.1f} times asyncio."]
    return [*lines, ""]


def main() -> None:
    """Build, measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25, help="of each rival (default: 25)")
    parser.add_argument("--count", type=int, default=1000, help="children of a round (default: 1000)")
    given = parser.parse_args()
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bins"], cwd=RUST, check=True)
    static = next(iter(compile_programs().values()))
    where = machine(os.getloadavg()[0])
    lines = [
        "# Pools: many children at once",
        "",
        f"Written by `make bench-pool`. {where}.",
        "",
        f"Each round makes {given.count} captured children, up to {AT_ONCE} at once, by every rival, in shuffled",
        f"order; {given.rounds} rounds. **children/s**: by the median round. **×**: median of the ratios of each",
        "round. Of such short commands a pool starts no more at once than keep the processors busy; the others have",
        "all places taken.",
        "",
    ]
    for title, program, slow in (("A static program", static, True), ("/bin/true", "/bin/true", False)):
        taken = measure(program, given.count, given.rounds, slow)
        lines += table(title, taken, given.count)
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "pool.md").write_text(text)


if __name__ == "__main__":
    main()
