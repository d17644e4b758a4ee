"""Measure fastproc.aio beside asyncio's and uvloop's own subprocesses, and beside C.

A round runs each rival, in shuffled order; blocks of rounds on asyncio's loop and on uvloop's take turns, so that
whatever else the machine does hits all alike. Where one run is measured, the rival makes one before that is not: uvloop
forks, after which every page of the parent that is written to costs a fault, and that is not to be the next one's loss.
The limit is `raw_loop.c` (vfork, exec, two pipes, poll, waitid), called inside the measuring process. Measured are: one
run at a time of a static program with both outputs captured, the same with 1 GiB resident, 100 of them at once, and the
lines of `seq 1000000`.

    python benchmarks/bench_aio.py [--rounds N]

Writes results/aio.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import platform
import random
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import uvloop

from bench_spawn import BUILD, compile_programs, machine
from fastproc import PIPE, aio

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BLOCK = 10  # rounds on one loop before it is the other's turn
GIB = 1 << 30
AT_ONCE = 100
LINES = 1_000_000

RAW = "raw C loop"
RUN = "fastproc.aio.run"
DROP_IN = "fastproc.aio.create_subprocess_exec"
OWN = "{}'s create_subprocess_exec"
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

Call = Callable[[], Awaitable[object]]
Taken = dict[tuple[str, str], dict[str, list[int]]]
"""(case, loop) -> rival -> nanoseconds, in the order of the rounds."""


class Case(NamedTuple):
    """What is measured."""

    title: str
    rounds: float
    """For each that is asked for."""
    rivals: Callable[[str, str], dict[str, Call]]
    limit: str
    """The rival that the first ratio is to."""


def whole(create: Callable[..., Any], program: str) -> Call:
    """One run by the standard interface."""

    async def call() -> None:
        child = await create(program, stdout=PIPE, stderr=PIPE)
        await child.communicate()
        if child.returncode != 0:
            raise RuntimeError(program)

    return call


def one_run(program: str, loop: str) -> dict[str, Call]:
    """One program at a time."""
    raw = ctypes.CDLL(str(BUILD / "raw_loop.so"))
    encoded = os.fsencode(program)

    async def by_c() -> None:
        raw.raw_run(encoded, 1)

    return {
        RAW: by_c,
        RUN: lambda: aio.run(program, capture=True),
        DROP_IN: whole(aio.create_subprocess_exec, program),
        OWN.format(loop): whole(asyncio.create_subprocess_exec, program),
    }


def many_runs(program: str, loop: str) -> dict[str, Call]:
    """AT_ONCE programs."""
    calls = one_run(program, loop)

    def times(call: Call) -> Call:
        async def together() -> None:
            await asyncio.gather(*(call() for _ in range(AT_ONCE)))

        return together

    return {name: times(call) for name, call in calls.items()}


def all_lines(_program: str, loop: str) -> dict[str, Call]:
    """One by one."""

    async def by_fastproc() -> None:
        async with aio.start("seq", str(LINES), stdout=PIPE) as process:
            count = 0
            async for _ in process.lines():
                count += 1
        if count != LINES:
            raise RuntimeError(f"{count} lines")

    async def by_asyncio() -> None:
        child = await asyncio.create_subprocess_exec("seq", str(LINES), stdout=PIPE)
        assert child.stdout is not None
        count = 0
        async for _ in child.stdout:
            count += 1
        await child.wait()
        if count != LINES:
            raise RuntimeError(f"{count} lines")

    return {"fastproc.aio.start, lines()": by_fastproc, f"{loop}'s, StreamReader": by_asyncio}


CASES = {
    "one": Case("One at a time", 1.0, one_run, RAW),
    "large": Case("One at a time, parent with 1 GiB resident", 0.1, one_run, RAW),
    "many": Case(f"{AT_ONCE} at once, all of them", 0.05, many_runs, RAW),
    "lines": Case(f"The lines of seq {LINES}", 0.01, all_lines, ""),
}


async def rounds_of(calls: dict[str, Call], count: int, prepared: bool) -> dict[str, list[int]]:
    """Nanoseconds of each rival; prepared: by a run of its own before."""
    clock = time.perf_counter_ns
    taken: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(count):
        random.shuffle(order)
        for name in order:
            call = calls[name]
            if prepared:
                await call()
            start = clock()
            await call()
            taken[name].append(clock() - start)
    return taken


def measure(rounds: int, chosen: list[str], program: str) -> Taken:
    """All cases that are asked for."""
    found: Taken = {}
    runners = {name: asyncio.Runner(loop_factory=factory) for name, factory in LOOPS.items()}
    for name in chosen:
        case = CASES[name]
        ballast = bytearray(GIB if name == "large" else 0)
        ballast[::4096] = b"x" * len(range(0, len(ballast), 4096))
        count = max(5, int(rounds * case.rounds))
        calls = {loop: case.rivals(program, loop) for loop in LOOPS}
        for loop, runner in runners.items():
            runner.run(rounds_of(calls[loop], 2, False))  # not counted: caches, probes, first imports
            found[name, loop] = {rival: [] for rival in calls[loop]}
        for done in range(0, count, BLOCK):
            for loop, runner in runners.items():
                block = min(BLOCK, count - done)
                taken = runner.run(rounds_of(calls[loop], block, case.rivals is one_run))
                for rival, times in taken.items():
                    found[name, loop][rival] += times
        del ballast
        print(f"measured: {case.title}", flush=True)
    for runner in runners.values():
        runner.close()
    return found


def table(name: str, loop: str, taken: dict[str, list[int]]) -> list[str]:
    """One case on one loop as Markdown."""
    case = CASES[name]
    own = taken[list(taken)[-1]]
    limit = taken.get(case.limit)
    lines = [
        f"## {case.title}, {loop}",
        "",
        f"| | median | p10 | p90 | × {case.limit or '-'} | times as fast as {list(taken)[-1]} |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rival, times in taken.items():
        cuts = quantiles(times, n=10)
        of_limit = f"{median(times) / median(limit):.2f}" if limit else ""
        faster = median(theirs / mine for mine, theirs in zip(times, own, strict=True))
        figures = " | ".join(f"{value / 1000:,.0f} µs" for value in (median(times), cuts[0], cuts[-1]))
        lines.append(f"| {rival} | {figures} | {of_limit} | {faster:.2f} |")
    return [*lines, ""]


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1000, help="of one run at a time (default: 1000)")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="some of them; nothing is written then")
    given = parser.parse_args()
    program = next(iter(compile_programs().values()))
    where = machine(os.getloadavg()[0])
    found = measure(given.rounds, given.cases or list(CASES), program)
    lines = [
        "# Event loops: what a child costs",
        "",
        f"Written by `make bench`. {where}; uvloop {version('uvloop')}, {platform.libc_ver()[0]}.",
        "",
        "A round runs every rival, in shuffled order; blocks of rounds on the two loops take turns. A static",
        "program with stdout and stderr captured; the *raw C loop* (vfork, exec, two pipes, poll, waitid and nothing",
        "else) is called from the measuring process, and makes its children one after the other in every case. Where",
        "one run is measured, the rival makes one before that is not counted: uvloop forks, and the page faults which",
        "that costs its parent afterwards are not to be another's.",
        "",
        "**×**: ratio of the medians. **times as fast**: median of the ratios of each round.",
        "",
    ]
    for (name, loop), taken in found.items():
        lines += table(name, loop, taken)
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if not given.cases:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "aio.md").write_text(text)


if __name__ == "__main__":
    main()
