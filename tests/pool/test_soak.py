"""Pools for minutes: a million commands, and a minute in which everything goes wrong."""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path

import pytest

import fastproc
from conftest import isolated
from fastproc import cmd
from support import observe
from support.programs import Programs

sys.path.insert(0, str(Path(__file__).resolve().parent))

import test_chaos

pytestmark = pytest.mark.soak

MILLION = int(os.environ.get("FASTPROC_SOAK_COMMANDS", "1000000"))
EVERY = MILLION // 100
GROWTH_KIB = 4096
REFERENCE_SECONDS = 2.0


def resident_kib() -> int:
    """The resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def machine_rate(program: str) -> float:
    """How many of the programs a second the plainest loop makes now: what the machine gives."""
    begin = time.monotonic()
    for count in itertools.count(1):
        os.waitpid(os.posix_spawn(program, [program], {}), 0)
        if (took := time.monotonic() - begin) > REFERENCE_SECONDS:
            return count / took
    raise AssertionError


def test_a_million_commands(programs: Programs) -> None:
    """Memory is flat after the first hundredth, every result comes once, the rate does not fall.

    A machine that others use gives more at one time than at another: the rate is held against that of a plain loop
    before and after each tenth, while the pool stands still.
    """
    seen = bytearray(b"\0" * MILLION)
    took, sizes = [0.0] * 10, [0] * 101
    before = observe.fds(), observe.threads(), observe.children()
    machine = [machine_rate(programs.static_exit)]
    with fastproc.Pool(100) as pool:
        results = pool.imap_unordered(lambda number: cmd(programs.static_exit, "0", str(number)), range(MILLION))
        begin = time.monotonic()
        for count, result in enumerate(results, 1):
            seen[int(result.argv[2])] += 1
            if count % EVERY == 0:
                sizes[count // EVERY] = resident_kib()
            if count % (EVERY * 10) == 0:
                took[count // EVERY // 10 - 1] = time.monotonic() - begin
                time.sleep(0.2)  # what is under way ends
                machine.append(machine_rate(programs.static_exit))
                begin = time.monotonic()
    rates = [EVERY * 10 / seconds for seconds in took]
    shares = [rate / (machine[at] + machine[at + 1]) * 2 for at, rate in enumerate(rates)]
    print(f"{MILLION} commands in {sum(took):.1f} s; each tenth: {', '.join(f'{rate:.0f}/s' for rate in rates)}")
    print(f"of what a plain loop makes at that time: {', '.join(f'{share:.2f}' for share in shares)}")
    print(f"resident: {sizes[1]} KiB after the first hundredth, {max(sizes[1:])} at most, {sizes[100]} at the end")
    assert seen.count(1) == MILLION
    assert max(sizes[1:]) - sizes[1] <= GROWTH_KIB
    assert rates[-1] >= 0.9 * rates[0] or shares[-1] >= 0.9 * shares[0]
    after = observe.fds(), observe.threads(), observe.children()
    assert len(after[0]) <= len(before[0]) + 1
    # The watch dog of the test run's may just have been ending before.
    assert after[1] <= before[1]
    assert after[2] == before[2]


def work(seconds: float) -> object:
    """In a process of its own."""
    return test_chaos.chaos(seconds)


def test_a_minute_of_chaos(pid_namespace: None) -> None:
    """Children are killed and stopped, fork, flood; descriptors and processes run out; futures are cancelled."""
    found = isolated(work, 60.0, pid_namespace=True, timeout=300)
    print(found)
    test_chaos.check(found)
