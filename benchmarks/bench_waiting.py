"""Measure what it costs one thread to wait for 2,000 children, and how late it learns of each end.

Every child ends at an instant that was fixed before it was started. The delay of a report is counted from that instant,
so it has in it what the kernel takes to wake the child and to end it. The rival is what the standard library has for
one thread: `Popen.poll()` of each child every 10 ms.

    python benchmarks/bench_waiting.py [--count N] [--quiet SECONDS] [--spread SECONDS]

Writes results/waiting.md beside this file.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import random
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fastproc

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"
RESULTS = HERE / "results"
PAUSE = 0.01

Ends = dict[Any, int]
"""Child -> nanoseconds of the monotonic clock at which it ends."""


class Figures(NamedTuple):
    """One rival; times in seconds."""

    share: float
    """Of one CPU while all children sleep."""
    per_end: float
    """CPU for each end."""
    median: float
    p99: float
    worst: float
    late: int
    """Reports later than 20 ms."""
    leaked: int
    """Descriptors that are open afterwards and were not before."""


def compile_program() -> str:
    """Compile sleep_until into build/bench."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = str(BUILD / "sleep_until")
    command = [os.environ.get("CC", "cc"), "-O2", "-o", target, str(HERE / "sleep_until.c")]
    if subprocess.run([*command, "-static"], stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run(command, check=True)
    return target


def by_fastproc(children: Ends, timeout: float | None) -> Iterator[Any]:
    """One epoll over all of them."""
    return fastproc.as_completed(children, timeout)


def by_polling(children: Ends, timeout: float | None) -> Iterator[Any]:
    """Ask each of them every 10 ms."""
    running = dict.fromkeys(children)
    deadline = None if timeout is None else time.monotonic() + timeout
    while running:
        for child in list(running):
            if child.poll() is not None:
                del running[child]
                yield child
        if deadline is not None and time.monotonic() >= deadline:
            raise fastproc.TimeoutExpired("children", timeout or 0.0)
        time.sleep(PAUSE)


def measure(
    begin: Callable[[list[str]], Any],
    wait: Callable[[Ends, float | None], Iterator[Any]],
    program: str,
    count: int,
    quiet: float,
    spread: float,
) -> Figures:
    """Start the children, wait while nothing happens, then while they end."""
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    # One second for each thousand to start, and one more.
    first = time.monotonic() + 1.0 + count / 1000 + quiet + 0.5
    ends = [int((first + spread * number / count) * 1e9) for number in range(count)]
    random.Random(count).shuffle(ends)
    children = {begin([program, str(end)]): end for end in ends}
    left = first - 0.5 - time.monotonic()
    if left < quiet / 2:
        raise SystemExit(f"starting {count} children took too long")
    cpu, wall = time.process_time(), time.monotonic()
    try:
        for _ in wait(children, left):
            raise SystemExit("a child ended early")
    except fastproc.TimeoutExpired:
        pass
    share = (time.process_time() - cpu) / (time.monotonic() - wall)
    delays = []
    cpu = time.process_time()
    for child in wait(children, None):
        delays.append((time.monotonic_ns() - children[child]) / 1e9)
    cpu = time.process_time() - cpu
    wrong = [child for child in children if child.returncode != 0]
    if wrong or len(delays) != count:
        raise SystemExit(f"{len(delays)} ends of {count}, {len(wrong)} of them wrong")
    children.clear()
    del child
    gc.collect()
    leaked = len(set(os.listdir("/proc/self/fd")) - before)
    delays.sort()
    late = sum(delay > 0.02 for delay in delays)
    return Figures(share, cpu / count, delays[count // 2], delays[count * 99 // 100], delays[-1], late, leaked)


def table(figures: dict[str, Figures], count: int, quiet: float, spread: float) -> str:
    """The results as Markdown."""
    columns = (
        "",
        "CPU while all sleep",
        "CPU for an end",
        "delay: median",
        "99 of 100",
        "longest",
        "later than 20 ms",
        "descriptors left",
    )
    lines = [
        "# What it costs to wait for many children",
        "",
        f"Written by `make bench`. {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {platform.system()} "
        f"{platform.release().split('-')[0]}; CPython {platform.python_version()}.",
        "",
        f"{count:,} children and one thread: {quiet:g} s in which all sleep, then {spread:g} s in which they end, in",
        "random order. The delay of a report counts from the instant at which the child was told to end.",
        "",
        f"| {' | '.join(columns)} |",
        "| --- |" + " ---: |" * 7,
    ]
    for name, row in figures.items():
        lines.append(
            f"| {name} | {row.share * 100:.2f} % | {row.per_end * 1e6:.0f} µs | {row.median * 1e3:.2f} ms "
            f"| {row.p99 * 1e3:.2f} ms | {row.worst * 1e3:.2f} ms | {row.late} | {row.leaked} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--quiet", type=float, default=5.0)
    parser.add_argument("--spread", type=float, default=5.0)
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < given.count + 100:
        raise SystemExit(f"{given.count} children need as many descriptors; the limit is {hard} (RLIMIT_NOFILE)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (given.count + 100 if hard < 0 else hard, hard))
    program = compile_program()
    ways: dict[str, tuple[Any, Callable[[Ends, float | None], Iterator[Any]]]] = {
        "fastproc.as_completed": (fastproc.start, by_fastproc),
        "subprocess, poll() every 10 ms": (subprocess.Popen, by_polling),
    }
    figures = {
        name: measure(begin, wait, program, given.count, given.quiet, given.spread)
        for name, (begin, wait) in ways.items()
    }
    text = table(figures, given.count, given.quiet, given.spread)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "waiting.md").write_text(text)


if __name__ == "__main__":
    main()
