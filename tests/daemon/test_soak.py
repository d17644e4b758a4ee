"""Daemons, many times: two starters at once, and one lock in two hands."""

from __future__ import annotations

import pytest

from conftest import isolated
from support import daemons

pytestmark = [
    pytest.mark.soak,
    pytest.mark.privileged,
    pytest.mark.usefixtures("pid_namespace"),
    pytest.mark.filterwarnings("default"),
]

ROUNDS = 500


def test_two_starters_at_once_500_times() -> None:
    """Each time one starts, the other is refused and names it; every other one is killed, so that its file is stale."""
    found = isolated(daemons.starters, ROUNDS, pid_namespace=True, timeout=900.0)
    print(f"two starters at once: {ROUNDS} rounds, {found['refused']} refused, {len(found['wrong'])} wrong")
    assert found == {"wrong": [], "refused": ROUNDS, "left": []}


def test_lock_in_two_hands_5000_times() -> None:
    """It is never in both."""
    found = isolated(daemons.successors, 5000, pid_namespace=True, timeout=900.0)
    assert found == [[0, 0], [True, True], []]
