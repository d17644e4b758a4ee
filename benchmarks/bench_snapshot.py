"""Measure what it costs to look at all processes, with 1,000 more than there are.

The rivals are a C program that opens and reads /proc/PID/stat of each and does nothing else, and psutil. In each round
every rival has one turn, so that all meet the same machine; the figures are medians.

    python benchmarks/bench_snapshot.py [--processes N] [--rounds N]

Writes results/snapshot.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import fastproc.info

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"
RESULTS = HERE / "results"
FIELDS = ("pid", "ppid", "name", "state", "utime", "stime", "rss", "num_threads", "starttime")
OF_PSUTIL = ["pid", "ppid", "name", "status", "cpu_times", "memory_info", "num_threads", "create_time"]

Turn = Callable[[], float]
"""One turn of a rival: seconds."""


def compiled(name: str) -> str:
    """Compile a program of this folder into build/bench."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = str(BUILD / name)
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", target, str(HERE / f"{name}.c")], check=True)
    return target


def timed(function: Callable[[], Any]) -> Turn:
    """How long a function takes."""

    def turn() -> float:
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin

    return turn


def loop_in_c(program: subprocess.Popen[str]) -> float:
    """One turn of the C program, by its own clock."""
    assert program.stdin
    assert program.stdout
    program.stdin.write("\n")
    program.stdin.flush()
    return int(program.stdout.readline().split()[0]) / 1e9


def rounds(turns: dict[str, Turn], number: int) -> dict[str, float]:
    """The median of each."""
    seen: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(number):
        for name, turn in turns.items():
            seen[name].append(turn())
    return {name: statistics.median(some) for name, some in seen.items()}


def all_of_psutil() -> list[dict[str, Any]]:
    """The same fields by psutil."""
    return [process.info for process in psutil.process_iter(OF_PSUTIL)]


def measure(count: int, number: int) -> tuple[dict[str, float], dict[str, float], int]:
    """Start the processes and measure; seconds of each way."""
    many = subprocess.Popen([compiled("many"), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    loop = subprocess.Popen([compiled("stat_loop")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert many.stdout
        many.stdout.readline()
        leaf = fastproc.info.children(many.pid)[count // 2]
        parent, child = psutil.Process(many.pid), psutil.Process(leaf)
        total = len(fastproc.info.snapshot(("pid",)))
        tables = rounds(
            {
                "C: open and read stat, nothing else": lambda: loop_in_c(loop),
                "fastproc.snapshot()": timed(lambda: fastproc.info.snapshot(FIELDS)),
                "fastproc.snapshot().to_dicts()": timed(lambda: fastproc.info.snapshot(FIELDS).to_dicts()),
                "psutil.process_iter()": timed(all_of_psutil),
            },
            number,
        )
        families = rounds(
            {
                "fastproc, of one of the 1,000": timed(lambda: fastproc.info.children(leaf)),
                "psutil, of one of the 1,000": timed(child.children),
                "fastproc, of their parent": timed(lambda: fastproc.info.children(many.pid)),
                "psutil, of their parent": timed(parent.children),
            },
            number,
        )
    finally:
        for program in (many, loop):
            assert program.stdin
            program.stdin.close()
            program.wait()
            if program.stdout:
                program.stdout.close()
    return tables, families, total


def table(tables: dict[str, float], families: dict[str, float], total: int, number: int) -> str:
    """The results as Markdown."""
    c_loop, ours, _, theirs = tables.values()
    leaf, leaf_psutil, parent, parent_psutil = families.values()
    lines = [
        "# What it costs to look at all processes",
        "",
        f"Written by `make bench-snapshot`. {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {platform.system()} "
        f"{platform.release().split('-')[0]}; CPython {platform.python_version()}, psutil {psutil.__version__}.",
        "",
        f"{total:,} processes; medians of {number} rounds in which each had one turn.",
        f"Fields: {', '.join(FIELDS)}.",
        "",
        "| all processes | ms | to the C loop |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {seconds * 1e3:.2f} | {seconds / c_loop:.2f} |" for name, seconds in tables.items()),
        "",
        f"psutil.process_iter() takes {theirs / ours:.1f} times as long as snapshot().",
        "",
        "| children() | ms |",
        "| --- | ---: |",
        *(f"| {name} | {seconds * 1e3:.3f} |" for name, seconds in families.items()),
        "",
        f"psutil's takes {leaf_psutil / leaf:.0f} times as long for one of them, "
        f"{parent_psutil / parent:.0f} times for their parent.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=41)
    given = parser.parse_args()
    text = table(*measure(given.processes, given.rounds), given.rounds)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "snapshot.md").write_text(text)


if __name__ == "__main__":
    main()
