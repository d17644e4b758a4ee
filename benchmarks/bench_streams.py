"""Measure output: a gigabyte captured, five million lines read, memory under a limit; beside the standard library.

Rivals run interleaved: a round runs each of them once, in shuffled order, in this process. What is measured ends when
the output is there; giving its memory back is not counted, for nobody. Needs some 3 GiB of free memory.

    python benchmarks/bench_streams.py [--rounds N] [--realtime]

Writes results/streams.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import fastproc
from bench_spawn import RESULTS, machine
from fastproc import MEMFD, PIPE, CaptureLimit

GIB = 1 << 30
MIB = 1 << 20
FLOOD = ("head", "-c", "1G", "/dev/zero")
SEQ = ("seq", "5000000")
LINES = 5_000_000

Rivals = dict[str, Callable[[], object]]


def memory_by_hand(command: tuple[str, ...] = FLOOD) -> object:
    """A file in memory as a careful user would make it: what the child alone costs."""
    file = open(os.memfd_create("bench"), "rb")  # noqa: SIM115 (closed when the time is taken)
    subprocess.run(command, stdout=file, check=True)
    return file


def compiled() -> str:
    """A program that only writes."""
    target = str(Path(tempfile.mkdtemp(prefix="fastproc-bench-")) / "write_zeros")
    source = str(Path(__file__).with_name("write_zeros.c"))
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", target, source], check=True)
    return target


def count(lines: object) -> None:
    """Go through the lines as a program does, with a loop."""
    number = 0
    for _ in lines:  # type: ignore[attr-defined]
        number += 1
    if number != LINES:
        raise RuntimeError(f"{number} lines instead of {LINES}")


def popen_lines(**options: bool) -> None:
    """Iterate the standard library's file."""
    with subprocess.Popen(SEQ, stdout=subprocess.PIPE, **options) as process:  # type: ignore[call-overload]
        count(process.stdout)


def lines(**options: object) -> None:
    """Iterate ours."""
    with fastproc.start(*SEQ, stdout=PIPE) as process:
        count(process.lines(**options))  # type: ignore[arg-type]


BY_HAND = "a memfd by hand, not read"
LITTLE, MUCH = "a memfd by hand, a C program that only writes, 4 KiB at once", "the same, 1 MiB at once"

CAPTURED: Rivals = {
    "subprocess.run, both streams": lambda: subprocess.run(FLOOD, capture_output=True, check=True),
    "subprocess.run, stdout only": lambda: subprocess.run(FLOOD, stdout=subprocess.PIPE, check=True),
    "fastproc.run, both streams": lambda: fastproc.run(*FLOOD, capture=True),
    "fastproc.run, MEMFD": lambda: fastproc.run(*FLOOD, stdout=MEMFD, stderr=MEMFD),
    BY_HAND: memory_by_hand,
}
READ: Rivals = {
    "Popen.stdout, bytes": popen_lines,
    "lines()": lines,
    "lines(keep_ends=True)": lambda: lines(keep_ends=True),
    "Popen.stdout, text": lambda: popen_lines(text=True),
    "lines(text=True)": lambda: lines(text=True),
    'lines(text=True, newline="universal", keep_ends=True)': lambda: lines(
        text=True, newline="universal", keep_ends=True
    ),
}


def peak() -> int:
    """The largest resident size in bytes since it was last cleared (proc(5))."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def growth() -> int:
    """By how many bytes this process grows while it captures a gigabyte with 1 MiB of head and 1 MiB of tail."""
    fastproc.run("true", capture=True, stdout_limit=CaptureLimit(1))
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    result = fastproc.run(*FLOOD, stdout=PIPE, stdout_limit=CaptureLimit(MIB, MIB))
    if result.stdout_dropped != GIB - 2 * MIB:
        raise RuntimeError(f"{result.stdout_dropped} bytes dropped")
    return peak() - before


def processor() -> float:
    """Seconds of processor time that this process and its children have used."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(rivals: Rivals, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of every rival, by the clock and of processors, in the order of the rounds; the first is not counted."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in rivals}
    order = list(rivals)
    for number in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            used, start = processor(), time.perf_counter()
            output = rivals[name]()
            seconds, used = time.perf_counter() - start, processor() - used
            del output
            if number:
                taken[name].append((seconds, used))
    return taken


def table(taken: dict[str, list[tuple[float, float]]], bases: list[str]) -> list[str]:
    """Medians, and how many times as fast as each of the bases; in brackets the same of the processor time."""
    heads = [f"× {base}" for base in bases]
    rows = [f"| | median s | p10 | p90 | CPU s | {' | '.join(heads)} |", f"| --- |{' ---: |' * (4 + len(bases))}"]
    clock = {name: [seconds for seconds, _ in pairs] for name, pairs in taken.items()}
    used = {name: median(seconds for _, seconds in pairs) for name, pairs in taken.items()}
    for name, times in clock.items():
        cuts = quantiles(times, n=10)
        ratios = [f"{median(clock[base]) / median(times):.2f} ({used[base] / used[name]:.2f})" for base in bases]
        numbers = [f"{value:.3f}" for value in (median(times), cuts[0], cuts[-1], used[name])]
        rows.append(f"| {name} | {' | '.join(numbers)} | {' | '.join(ratios)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure captured and streamed output.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds for each case (default: 15)")
    parser.add_argument("--realtime", action="store_true", help="before all other work of the machine (root)")
    parser.add_argument("--growth", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.growth:
        print(json.dumps(growth()))
        return
    alone = ""
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
        alone = " All at real-time priority, children too."
    writer = compiled()
    CAPTURED[LITTLE] = lambda: memory_by_hand((writer, str(GIB), "4096"))
    CAPTURED[MUCH] = lambda: memory_by_hand((writer, str(GIB), str(MIB)))
    rounds = max(2, options.rounds)
    where = machine(os.getloadavg()[0])
    captured = measure(CAPTURED, rounds)
    standard, floor, larger = (
        median(seconds for seconds, _ in captured[name]) for name in ("subprocess.run, both streams", LITTLE, MUCH)
    )
    read = measure(READ, rounds)
    # In fresh processes: a heap that was large before has room that nobody sees growing.
    grown = [
        int(subprocess.run([sys.executable, __file__, "--growth"], stdout=subprocess.PIPE, check=True).stdout)
        for _ in range(5)
    ]
    text = "\n".join(
        [
            "# What output costs",
            "",
            f"Written by `make bench-streams`. {where}.{alone}",
            "",
            f"{rounds} rounds; a round runs every rival once, in shuffled order. The columns with × say how many times",
            "as fast as that rival (ratio of the medians; more than 1 is faster), and in brackets by how much less",
            "processor time, of the program and its child together. On a busy machine only that says much.",
            "",
            f"## `{' '.join(FLOOD)}` captured",
            "",
            *table(captured, ["subprocess.run, both streams", "subprocess.run, stdout only"]),
            "",
            "MEMFD is as fast as the kernel lets one child write a file in memory: the last three rows are that alone,",
            "with `head`, which writes 4 KiB at once, and with a program that does nothing else.",
            f"Five times as fast as `subprocess.run` would be {standard / 5:.3f} s; the kernel takes {floor:.3f} s",
            f"for 262,144 writes of 4 KiB, and {larger:.3f} s for 1,024 of 1 MiB.",
            "",
            f"## `{' '.join(SEQ)}` read line by line",
            "",
            *table(read, ["Popen.stdout, bytes", "Popen.stdout, text"]),
            "",
            "`lines()` gives lines without their ends. `Popen.stdout` gives them with, as `keep_ends=True` does; its",
            "text has universal newlines.",
            "",
            "## 1 GiB with a `CaptureLimit` of 1 MiB of head and 1 MiB of tail",
            "",
            f"Growth of the resident size: {median(grown) / MIB:.1f} MiB; largest of 5: {max(grown) / MIB:.1f} MiB.",
            "",
        ]
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "streams.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
