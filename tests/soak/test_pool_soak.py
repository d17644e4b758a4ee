"""Pools for minutes: a million commands, and a minute in which everything goes wrong."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

import fastproc
import observe
from conftest import isolated
from fastproc import cmd
from programs import Programs

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "api"))

import test_pool_chaos

pytestmark = pytest.mark.soak

MILLION = int(os.environ.get("FASTPROC_SOAK_COMMANDS", "1000000"))
EVERY = MILLION // 100
GROWTH_KIB = 4096


def resident_kib() -> int:
    """The resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def test_a_million_commands(programs: Programs) -> None:
    """Memory is flat after the first hundredth, every result comes once, the rate does not fall."""
    seen = bytearray(b"\0" * MILLION)
    clock, sizes = [0.0] * 101, [0] * 101
    before = observe.fds(), observe.threads(), observe.children()
    with fastproc.Pool(100) as pool:
        clock[0] = time.monotonic()
        results = pool.imap_unordered(lambda number: cmd(programs.static_exit, "0", str(number)), range(MILLION))
        for count, result in enumerate(results, 1):
            seen[int(result.argv[2])] += 1
            if count % EVERY == 0:
                clock[count // EVERY] = time.monotonic()
                sizes[count // EVERY] = resident_kib()
    first, last = EVERY * 10 / (clock[10] - clock[0]), EVERY * 10 / (clock[100] - clock[90])
    print(f"{MILLION} commands in {clock[100] - clock[0]:.1f} s; the first tenth {first:.0f}/s, the last {last:.0f}/s")
    print(f"resident: {sizes[1]} KiB after the first hundredth, {max(sizes[1:])} at most, {sizes[100]} at the end")
    assert seen.count(1) == MILLION
    assert max(sizes[1:]) - sizes[1] <= GROWTH_KIB
    assert last >= 0.9 * first
    after = observe.fds(), observe.threads(), observe.children()
    assert len(after[0]) <= len(before[0]) + 1
    assert after[1:] == before[1:]


def work(seconds: float) -> object:
    """In a process of its own."""
    return test_pool_chaos.chaos(seconds)


def test_a_minute_of_chaos(pid_namespace: None) -> None:
    """Children are killed and stopped, fork, flood; descriptors and processes run out; futures are cancelled."""
    found = isolated(work, 60.0, pid_namespace=True, timeout=300)
    print(found)
    test_pool_chaos.check(found)
