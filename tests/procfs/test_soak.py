"""What reads /proc, for minutes: damaged files, processes that come and go, all processes beside psutil."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import test_fuzz
import test_hidden
import test_psutil

from conftest import isolated

pytestmark = pytest.mark.soak

SECONDS = 300


def test_parsers_of_proc_survive() -> None:
    """Whatever a file holds: a value or a ParseError, for all parsers in turn."""
    seed = random.SystemRandom().getrandbits(64)
    pick = random.Random(seed)
    print(f"seed {seed}")
    end = time.monotonic() + SECONDS
    rounds = 0
    while time.monotonic() < end:
        for kind in test_fuzz.KINDS:
            for _ in range(20):
                test_fuzz.fuzz(kind, test_fuzz.damaged(pick, kind))
            test_fuzz.fuzz(kind, pick.randbytes(pick.randrange(200)))
        rounds += 21 * len(test_fuzz.KINDS)
    print(f"{rounds} inputs, {len(test_fuzz.KINDS)} parsers")


@pytest.mark.privileged
@pytest.mark.usefixtures("pid_namespace")
def test_processes_that_come_and_go_for_a_minute() -> None:
    seen = isolated(test_hidden.storm, 60.0, pid_namespace=True, timeout=120.0)
    print(seen)
    assert "error" not in seen
    assert seen["gone"] > 0


def test_every_process_agrees_with_psutil() -> None:
    """Each field of each process of the machine that psutil gives too."""
    assert test_psutil.compare(None) == []
