"""A map of 10,000 tasks whose process is killed again and again: what is done once, what at least, what at most.

`pytest -m soak -s tests/mapping/test_kill.py`
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from conftest import wait_until

pytestmark = pytest.mark.soak

TASKS = 10_000
WORKERS = 16
KILLS = 8
MARK = "FASTPROC_TEST_MAP"


def alive(mark: str) -> list[str]:
    """The processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(folder.name)
        except OSError:
            continue
    return found


def killed_again_and_again(log: Path, option: str, command: list[str], *more: str) -> tuple[int, list[str]]:
    """Run the map, kill it when so many more tasks are done, and resume it, until it ends; kills, and what it said."""
    mark = f"{os.getpid()}.{random.random()}"
    numbers = "".join(f"{number}\n" for number in range(TASKS))
    line = [sys.executable, "-m", "fastproc", "map", "-P", str(WORKERS), option, str(log), "--resume", *more, *command]
    env = {**os.environ, MARK: mark}
    kills, said = 0, []
    source = log.with_name("items")
    source.write_text(numbers)
    while True:
        with (
            source.open() as items,
            subprocess.Popen(
                line, stdin=items, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env
            ) as process,
        ):
            if kills < KILLS:
                before = log.stat().st_size if log.exists() else 0
                enough = before + random.randrange(1, 2 * TASKS // KILLS * 40)
                wait_until(
                    lambda: process.poll() is not None or (log.exists() and log.stat().st_size >= enough),  # noqa: B023
                    timeout=120,
                )
                if process.poll() is None:
                    process.kill()
            assert process.stderr is not None
            said += process.stderr.read().splitlines()
            status = process.wait()
        # They die with it: the kernel has told them already, and they only have to go.
        assert wait_until(lambda: not alive(mark))
        if status >= 0:
            return kills, said
        kills += 1


def test_outputs_are_kept_exactly_once(tmp_path: Path) -> None:
    """With a results file: the output and the record that it is there are one write."""
    log = tmp_path / "results"
    kills, _ = killed_again_and_again(log, "--results", ["printf", "%s", "{}"])
    found = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert Counter(int(row["stdout"]) for row in found) == Counter(range(TASKS))
    assert Counter(row["seq"] for row in found) == Counter(range(1, TASKS + 1))
    print(f"\n{TASKS} tasks, the parent killed {kills} times: each output once, none missing, no child left")
    assert kills >= 3


def test_other_effects_happen_at_least_once(tmp_path: Path) -> None:
    """With a job log: none is missing; twice happened at most what ran at a kill."""
    log, effects = tmp_path / "log", tmp_path / "effects"
    kills, _ = killed_again_and_again(log, "--joblog", ["sh", "-c", f"echo $0 >>{effects}", "{}"])
    count = Counter(map(int, effects.read_text().split()))
    again = {number for number, times in count.items() if times > 1}
    assert set(count) == set(range(TASKS))
    assert len(again) <= kills * WORKERS
    rows = [line.split("\t") for line in log.read_text().splitlines()[1:]]
    assert Counter(int(row[0]) for row in rows) == Counter(range(1, TASKS + 1))
    print(f"\n{TASKS} tasks, the parent killed {kills} times: none missing, {len(again)} effects twice, no child left")
    assert kills >= 3


def test_other_effects_happen_at_most_once_where_asked(tmp_path: Path) -> None:
    """With each start in the log: all happened once, except perhaps those that are named."""
    log, effects = tmp_path / "log", tmp_path / "effects"
    command = ["sh", "-c", f"echo $0 >>{effects}", "{}"]
    kills, said = killed_again_and_again(log, "--joblog", command, "--at-most-once")
    named = {int(line.rsplit(" ", 1)[1]) for line in said if "in doubt, and not run again" in line}
    count = Counter(map(int, effects.read_text().split()))
    assert max(count.values()) == 1
    assert set(range(TASKS)) - set(count) <= named
    assert len(named) <= kills * WORKERS
    print(f"\n{TASKS} tasks, the parent killed {kills} times: none twice, {len(named)} named as in doubt, of which")
    print(f"{len(named - set(count))} had no effect; all others once; no child left")
    assert kills >= 3
