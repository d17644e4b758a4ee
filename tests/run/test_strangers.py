"""Numbers that were given to somebody else: whatever is called, no stranger gets a signal (GOTCHAS D1, D14)."""

from __future__ import annotations

import os
from typing import Any

import pytest

from conftest import isolated
from support import strangers
from support.programs import Programs
from support.sandbox import ANY, ENOSYS, NO_PIDFD, Rule

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="clone3(set_tid) needs CAP_SYS_ADMIN")


RULES: dict[str, list[Rule]] = {
    "by pidfd": [],
    # The number is used then, when the pidfd says whose it is.
    "without pidfd_send_signal": [("pidfd_send_signal", ENOSYS, ANY, 0)],
    "without pidfds": NO_PIDFD,
}


def reuse(hostile: str, tries: int, rules: list[list[Any]]) -> dict[str, Any]:
    """See strangers.py."""
    return strangers.try_all(hostile, tries, rules)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_no_stranger_is_hit(programs: Programs, pid_namespace: None, name: str) -> None:
    """Every public way, each kind of stranger."""
    found = isolated(reuse, programs.hostile, 1, RULES[name], pid_namespace=True)
    assert found["hits"] == []
    assert found["tries"] > 100
