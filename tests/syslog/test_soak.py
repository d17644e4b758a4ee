"""rsyslogd restarted under 1,000 messages a second for 20 s: no stall, and the loss counted.

pytest -m soak -s tests/syslog/test_soak.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from support import rsyslog

sys.path.insert(0, str(Path(__file__).resolve().parent))
from test_rsyslog import PROTOCOLS, check, told

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not rsyslog.available(), reason="no rsyslogd (Debian: rsyslog)"),
    pytest.mark.usefixtures("pid_namespace"),
    pytest.mark.privileged,
]


@pytest.mark.parametrize(("resend", "backlog"), [(True, 100_000), (True, 200), (False, 100_000)])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_twenty_seconds_of_restarts(protocol: str, resend: bool, backlog: int, tmp_path: Path) -> None:
    """Three seconds there, one second away, again and again."""
    arguments: tuple[Any, ...] = (str(tmp_path), protocol, 1000, 20.0, 3.0, 1.0, resend, backlog)
    found = isolated(rsyslog.log_through_restarts, *arguments, pid_namespace=True, timeout=120)
    print(f"\nbacklog {backlog}, resend {resend}: {told(found, protocol)}")
    check(found, protocol, resend)
    assert (found["counts"]["dropped"] > 0) == (backlog < 1000)
    if resend and backlog > 1000 and protocol != "udp":
        assert (found["missing"], found["counts"]["uncertain"]) == (0, 0)
