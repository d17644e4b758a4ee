"""Measure `python -m fastproc map` beside xargs and GNU parallel: tasks per second, start and end of each included.

All run the same program, which ends at once, for each of so many items, eight at a time; xargs also by a shell, as it
must be for whatever is more than a program with its arguments (GNU parallel always has one). A round runs each once, in
shuffled order; GNU parallel gets fewer items, as it takes long.

    python benchmarks/bench_map.py [--rounds N]

Writes results/map.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench_spawn import RESULTS, compile_programs, machine

ITEMS, FEW = 4000, 200
AT_ONCE = "8"


def rivals(program: str, log: str) -> dict[str, tuple[list[str], int]]:
    """What is called, and for how many items."""
    ours = [sys.executable, "-m", "fastproc", "map", "-P", AT_ONCE]
    found = {
        "fastproc map": ([*ours, program], ITEMS),
        "fastproc map --joblog": ([*ours, "--joblog", log, program], ITEMS),
        "fastproc map --shell": ([*ours, "--shell", program], ITEMS),
        "xargs -P": (["xargs", "-P", AT_ONCE, "-n", "1", program], ITEMS),
        "xargs -P sh -c": (["xargs", "-P", AT_ONCE, "-n", "1", "sh", "-c", f'{program} "$0"'], ITEMS),
    }
    if shutil.which("parallel"):
        found["GNU parallel"] = ["parallel", "--will-cite", "-j", AT_ONCE, program], FEW
    return found


def rate(argv: list[str], count: int) -> float:
    """Tasks per second of one call."""
    items = "".join(f"{number}\n" for number in range(count)).encode()
    begin = time.perf_counter()
    done = subprocess.run(argv, input=items, capture_output=True)
    taken = time.perf_counter() - begin
    if done.returncode != 0 or done.stdout or done.stderr:
        raise RuntimeError(f"{argv[0]}: status {done.returncode}, {done.stderr[-500:]!r}")
    return count / taken


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure fastproc map beside xargs and GNU parallel.")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    where = machine(os.getloadavg()[0])
    program = compile_programs()["static program"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        calls = rivals(program, str(log))
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name in random.sample(list(calls), len(calls)):
                log.unlink(missing_ok=True)
                taken[name].append(rate(*calls[name]))

    ours = taken["fastproc map"]
    lines = [
        "# What a map on the command line does in a second",
        "",
        f"Written by `make bench-map`. {where}.",
        "",
        f"A static program for each of {ITEMS:,} items ({FEW} with GNU parallel), {AT_ONCE} at once; {rounds} rounds,",
        "each of which runs every rival once in shuffled order. Start and end of the rival are in its time.",
        "**fastproc by it**: median of the ratios of each round.",
        "",
        "| | tasks/s | fastproc by it |",
        "| --- | ---: | ---: |",
    ]
    for name, rates in taken.items():
        ratio = median(mine / theirs for mine, theirs in zip(ours, rates, strict=True))
        lines.append(f"| {name} | {median(rates):,.0f} | {ratio:.2f} |")
    text = "\n".join(lines) + "\n"
    (RESULTS / "map.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
