"""Signals and init, at length: a storm beside each event loop, and a thousand orphans below ours and below tini.

pytest -m soak -s tests/signals/test_soak.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from conftest import isolated
from support.drivers import LOOPS, need
from support.programs import Programs

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "commands"))

import test_init
import test_loops

pytestmark = pytest.mark.soak

SECONDS = 10.0


def storm(sender: str, seconds: float, loop: str) -> object:
    return test_loops.storm(sender, seconds, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_ten_seconds_at_1_khz_beside_a_loop(pid_namespace: None, programs: Programs, loop: str) -> None:
    """Three senders, each of 1 kHz, for ten seconds: numbered, acknowledged, free; the loop's heart beats meanwhile."""
    need(loop)
    found = isolated(storm, programs.queue, SECONDS, loop, pid_namespace=True, timeout=300)
    count = found["count"]
    print(
        f"{loop}: {count} numbered real-time signals: in order and once {found['values']}, by a second receiver "
        f"{found['other']}; {count} acknowledged standard ones: received {found['acked']}, by the loop's own handler "
        f"{found['own']}; {count} free standard ones: received {found['free']} of "
        f"{found['heard']} that the kernel gave us; "
        f"heartbeats of 1 ms: {found['beats']}, longest pause {found['gap'] * 1e3:.1f} ms "
        f"(without signals {found['quiet_gap'] * 1e3:.1f} ms); left over or lost {found['left']}"
    )
    test_loops.check_storm(found, loop)


@pytest.mark.parametrize("which", test_init.INITS)
def test_a_thousand_orphans(pid_namespace: None, which: str) -> None:
    """All there at once, ended at once: every one comes to process 1, and none is left."""
    began = time.monotonic()
    found = test_init.asked(which, "orphans", "1000")
    print(f"{which}: {found} in {time.monotonic() - began:.1f} s")
    assert found == {"orphans": 1000, "adopted": 1000, "zombies": 0}


@pytest.mark.parametrize("which", test_init.INITS)
def test_orphans_and_signals_at_the_same_time(pid_namespace: None, which: str) -> None:
    """While a thousand orphans end, 2,000 numbered real-time signals are passed on: the program hears each."""
    found = test_init.asked(which, "both", "1000", "2000")
    print(f"{which}: {found}")
    assert found == {"orphans": 1000, "zombies": 0, "signals": 2000}
