"""Snapshots where pids are given anew all the time; watching thousands of processes: `make soak`."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc.info import children, snapshot
from fastproc.monitor import Monitor, Rule

pytestmark = pytest.mark.soak

ROOT = Path(__file__).resolve().parents[2]

# Children one after the other, each with the number of the one before, by turns with the one name and the other.
CHURN = """
import os, sys
programs = sys.argv[1:]
pid = 0
count = 0
while True:
    if pid:
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(pid - 1))
    program = programs[count % 2]
    count += 1
    name = os.path.basename(program)
    child = os.posix_spawn(program, [name, "0.001"], {"WHO": name})
    pid = pid or child
    os.waitpid(child, 0)
"""


def churned(folder: str, seconds: float) -> dict[str, Any]:
    """Look at the number that all of them have, and count what was seen."""
    programs = [os.path.join(folder, name) for name in ("first", "second")]
    for program in programs:
        shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    fields = ("comm", "cmdline", "environ", "exe", "starttime", "utime", "stime")
    mixed: list[Any] = []
    seen = {"first": 0, "second": 0}
    pids: set[int] = set()
    with subprocess.Popen([sys.executable, "-c", CHURN, *programs]) as churn:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for one in snapshot(("pid", "ppid", *fields)):
                if one.ppid != churn.pid or one.comm not in seen:
                    continue
                pids.add(one.pid)
                whole = (one.cmdline or [None])[0], (one.environ or {}).get("WHO"), os.path.basename(one.exe or "")
                if all(part in (None, "", one.comm) for part in whole):
                    seen[one.comm] += 1
                else:
                    mixed.append((one.comm, *whole))
        churn.kill()
    return {"mixed": mixed[:5], "seen": seen, "pids": len(pids)}


@pytest.mark.privileged
@pytest.mark.usefixtures("pid_namespace")
def test_rows_are_one_process_s_where_pids_are_given_anew(tmp_path: Path) -> None:
    """Half a minute in which one number is a hundred processes' by the second: no row has parts of two."""
    found = isolated(churned, str(tmp_path), 30.0, pid_namespace=True, timeout=90)
    print(f"\nrows seen: {found['seen']}, of {found['pids']} numbers")
    assert found["mixed"] == []
    assert min(found["seen"].values()) > 100
    assert found["pids"] < 20


def many(count: int) -> subprocess.Popen[bytes]:
    target = ROOT / "build" / "bench" / "many"
    target.parent.mkdir(parents=True, exist_ok=True)
    source = str(ROOT / "benchmarks" / "many.c")
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(target), source], check=True)
    return subprocess.Popen([str(target), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def watched(count: int, seconds: float) -> dict[str, Any]:
    """Watch so many processes of another parent for a while, then end them all."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found: dict[str, Any] = {}
    with many(count) as parent:
        assert parent.stdout
        assert parent.stdin
        parent.stdout.readline()
        pids = children(parent.pid)
        for name, rules in (("ends", ()), ("thresholds", (Rule("rss", 2**40), Rule("cpu", 1e6)))):
            with Monitor(interval=10.0) as monitor:
                for pid in pids:
                    monitor.watch(pid, *rules)
                cpu, wall = time.process_time(), time.monotonic()
                assert monitor.next(seconds) is None
                found[name] = (time.process_time() - cpu) / (time.monotonic() - wall)
                if rules:
                    parent.stdin.close()  # the kernel ends them with it
                    found["told"] = sum(alert.event == "died" for alert in monitor)
    found["left"] = len([one for one in os.listdir("/proc/self/fd") if one.isdigit()])
    return found


def test_thousands_are_watched_for_nothing() -> None:
    """5,000: under 1 % of a CPU while nothing happens, with and without thresholds, and every end is told."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = 5000 if hard == resource.RLIM_INFINITY or hard > 5200 else hard - 200
    found = isolated(watched, count, 30.0, timeout=180)
    ends, thresholds = found["ends"], found["thresholds"]
    print(f"\n{count} processes: {ends:.5%} of a CPU for their ends, {thresholds:.3%} with thresholds")
    assert found["told"] == count
    assert found["left"] < 10
    assert max(ends, thresholds) < 0.01
