"""GOTCHAS G9, at length: changes of what a process may do, while its other threads work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import isolated

sys.path.insert(0, str(Path(__file__).resolve().parent))

import test_privileges

pytestmark = [pytest.mark.soak, pytest.mark.privileged]


def work(rounds: int) -> object:
    return test_privileges.while_others_work(rounds)


def test_two_thousand_changes_are_the_same_in_all_threads(pid_namespace: None) -> None:
    """One of 8 threads changes; the others spawn, start threads, change ids by libc, spin and wait."""
    failed, stuck, shown, changed, spawned, _ = isolated(work, 1000, pid_namespace=True, timeout=900)
    print(f"{changed} changes, {spawned} children meanwhile; different sets seen at once: {shown[-1]}")
    assert (failed, stuck, shown, changed) == ([], 0, [1], 2000)
