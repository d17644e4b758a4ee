"""Debian's rsyslogd as the receiver of `fastproc.syslog`: what it understands, and that no message is lost uncounted.

The same at length: tests/syslog/test_soak.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from support import rsyslog

pytestmark = [
    pytest.mark.skipif(not rsyslog.available(), reason="no rsyslogd (Debian: rsyslog)"),
    pytest.mark.usefixtures("pid_namespace"),
    pytest.mark.privileged,
]

PROTOCOLS = ("datagram", "udp", "tcp")
LONGEST = 140.0
"""Seconds: more than all the waits of one run together, each of which has a limit."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rsyslogd_understands_the_messages(protocol: str, tmp_path: Path) -> None:
    """Priority, host, program, pid and structured data are where they belong; line ends and long lines are whole."""
    found = isolated(rsyslog.one_of_each, str(tmp_path), protocol, pid_namespace=True, timeout=LONGEST)
    local = protocol == "datagram"
    host, data = ("", "- ") if local else ("here ", '[a@1 k="v\\"\\]\\\\"] ')
    if local:
        # The daemon puts in the name of its machine.
        found = [line.replace(line.split(" ")[1] + " ", "", 1) for line in found]
    nil = "- "
    assert found == [
        f"155 {host}prog 42 {data}{' ' * local}plain",
        f"159 {host}prog 42 {nil}{' ' * local}two#012lines",
        f"157 {host}prog 42 {nil}{' ' * local}Grüße ☃",
        f"158 {host}prog 42 {nil}{' ' * local}{'x' * 3000}",
    ]


def check(found: dict[str, Any], protocol: str, resend: bool) -> None:
    """What must hold after a run of rsyslog.log_through_restarts()."""
    counts = found["counts"]
    assert counts["given"] == found["given"]
    assert counts["waiting"] == counts["in_flight"] == 0
    assert counts["given"] == counts["delivered"] + counts["dropped"] + counts["uncertain"]
    assert found["restarts"] >= 1
    assert counts["connections"] >= 2
    # Nothing ever slept, and no call took 5 ms unless the CPU was somebody else's.
    assert (found["slept"], found["stalls"]) == (0, 0)
    if protocol == "udp":
        # What the kernel has taken and the receiver has not read cannot be known by a sender: see Counts.
        assert found["missing"] >= counts["dropped"]
    else:
        # Exact, but for those of which nobody can know.
        assert counts["dropped"] <= found["missing"] <= counts["dropped"] + counts["uncertain"]
        assert found["twice"] <= (counts["resent"] if resend else 0)


def told(found: dict[str, Any], protocol: str) -> str:
    """One line for whoever reads the output."""
    counts = found["counts"]
    return (
        f"{protocol}: given {found['given']}, received {found['received']}, missing {found['missing']}, counted as "
        f"dropped {counts['dropped']}, uncertain {counts['uncertain']}, resent {counts['resent']}, twice "
        f"{found['twice']}; {found['restarts']} restarts; longest call {found['longest_ms']:.2f} ms (of CPU "
        f"{found['longest_cpu_ms']:.2f}), sleeps {found['slept']}, stalls {found['stalls']}, preempted "
        f"{found['preempted']}"
    )


@pytest.mark.parametrize("resend", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_loss_is_counted_when_rsyslogd_is_restarted(protocol: str, resend: bool, tmp_path: Path) -> None:
    """1,000 messages a second; a backlog of 100 is too short for the half second, so that there is a loss to count."""
    arguments = (str(tmp_path), protocol, 1000, 2.0, 0.5, 0.5, resend, 100)
    found = isolated(rsyslog.log_through_restarts, *arguments, pid_namespace=True, timeout=LONGEST)
    print(told(found, protocol))
    check(found, protocol, resend)
    counts = found["counts"]
    assert counts["dropped"] + counts["uncertain"] + found["missing"] > 0, counts
