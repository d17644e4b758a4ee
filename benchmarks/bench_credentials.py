"""Measure what a child with another identity costs: a plain run beside it, and the standard library's user=.

All in one process, interleaved, medians; once as it is and once with memory that was written to, whose page tables a
fork copies.

    python benchmarks/bench_credentials.py [--rounds N] [--gib N]

As root only. Writes results/credentials.md beside this file.
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

import fastproc
from bench_spawn import compile_programs

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BATCH = 10


def rivals(program: str) -> dict[str, Callable[[], object]]:
    """Return what is compared."""
    nobody = 65534
    return {
        "plain": lambda: fastproc.run(program),
        "by name": lambda: fastproc.run(program, user="nobody", groups=[], capabilities={}),
        "by number": lambda: fastproc.run(program, user=nobody, group=nobody, groups=[], capabilities={}),
        "subprocess": lambda: subprocess.run([program], user="nobody", group=nobody, extra_groups=[], check=True),
    }


def measure(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median of each in microseconds."""
    taken: dict[str, list[int]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(BATCH):
                begin = time.perf_counter_ns()
                call()
                taken[name].append(time.perf_counter_ns() - begin)
    return {name: statistics.median(times) / 1000 for name, times in taken.items()}


def rows(found: dict[str, float], what: str) -> list[str]:
    """Return lines of a table."""
    name, number = found["by name"], found["by number"]
    return [
        f"| {what} | {' | '.join(f'{found[rival]:.0f}' for rival in found)} | {name / found['plain']:.2f}, "
        f"{number / found['plain']:.2f} | {found['subprocess'] / name:.1f}, {found['subprocess'] / number:.1f} |"
    ]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="Measure what a child with another identity costs.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--gib", type=int, default=1)
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench_credentials: needs root")
    program = compile_programs()["static program"]
    calls = rivals(program)
    made = fastproc.run(program, user=65534, group=65534, groups=[], capabilities={})
    small = measure(calls, options.rounds)
    ballast = bytearray(options.gib << 30)
    for at in range(0, len(ballast), 4096):
        ballast[at] = 1
    large = measure(calls, max(3, options.rounds // 6))
    lines = [
        "# What a child with another identity costs",
        "",
        f"`user=nobody, groups=[], capabilities={{}}` of a static program, made by `{made.mechanism}`; microseconds, "
        f"medians of {options.rounds * BATCH} interleaved calls "
        f"({max(3, options.rounds // 6) * BATCH} with the large parent). "
        f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs.",
        "",
        "| parent | "
        + " | ".join(f"`{name}`" for name in calls)
        + " | to plain (by name, by number) | subprocess to ours |",
        "| --- |" + " ---: |" * (len(calls) + 2),
        *rows(small, "as it is"),
        *rows(large, f"{options.gib} GiB written to"),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "credentials.md").write_text(text)


if __name__ == "__main__":
    main()
