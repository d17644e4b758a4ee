"""Spawn very often and look for what stays behind.

    python tests/soak/soak_spawn.py [SPAWNS] [MECHANISM]

Runs a program that only ends, by run() with and without capture, by start(), and now and then one that is missing.
Prints, and ends with 1 unless: no descriptor and no child is left, no mapping has come, and the resident memory has
grown by less than 1 MiB after the first 10,000.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import fastproc
from fastproc import _native
from support import observe
from support.programs import Programs

WARM = 10_000
GROWTH_MAX = 1 << 20
LINE = "{:>9} {:>9.0f}/s {:>5} fds {:>4} children {:>4} stacks {:>+8.1f} KiB {:>8.1f} ms longest"


def one(program: str, number: int) -> None:
    """Spawn once, in one of the ways."""
    kind = number % 8
    if kind == 7:
        try:
            fastproc.run("/nonexistent/program")
        except FileNotFoundError:
            return
        raise AssertionError("a missing program was run")
    if kind in (2, 5):
        if fastproc.start(program).wait() != 0:
            raise AssertionError("start: not 0")
    elif kind % 2:
        if fastproc.run(program, capture=True).returncode != 0:
            raise AssertionError("captured run: not 0")
    elif fastproc.run(program).returncode != 0:
        raise AssertionError("run: not 0")


def soak(spawns: int, mechanism: str, every: int) -> dict[str, int]:
    """Do it and return what is left."""
    _native.features()
    _native.force(mechanism)
    with tempfile.TemporaryDirectory() as folder:
        program = Programs(Path(folder)).static_exit
        warm = min(WARM, spawns // 3)
        base = 0
        fds = 0
        longest = 0.0
        start = time.monotonic()
        for number in range(1, spawns + 1):
            begin = time.monotonic()
            one(program, number)
            longest = max(longest, time.monotonic() - begin)
            if number == warm:
                gc.collect()
                base = observe.resident_bytes()
                fds = len(observe.fds())
            if number % every == 0 or number == spawns:
                growth = observe.resident_bytes() - base if number >= warm else 0
                counts = len(observe.fds()), len(observe.children()), observe.stacks_and_pages()[0]
                rate = number / (time.monotonic() - start)
                print(LINE.format(number, rate, *counts, growth / 1024, longest * 1000), flush=True)
        gc.collect()
        stacks, pages = observe.stacks_and_pages()
        return {
            "spawns": spawns,
            "leaked_fds": len(observe.fds()) - fds,
            "zombies": len(observe.children()),
            "mappings": max(0, stacks - observe.STACK_CACHE) + pages,
            "growth_bytes": observe.resident_bytes() - base,
        }


def main() -> int:
    """Run from the command line."""
    spawns = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    mechanism = sys.argv[2] if len(sys.argv) > 2 else "auto"
    found = soak(spawns, mechanism, max(1, spawns // 30))
    print(", ".join(f"{name} {value}" for name, value in found.items()))
    clean = (found["leaked_fds"], found["zombies"], found["mappings"]) == (0, 0, 0)
    return 0 if clean and found["growth_bytes"] < GROWTH_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
