"""Measure what it costs to watch 5,000 processes that are not ours, and how soon the end of one is told.

Watched for their ends alone, and with thresholds that are looked at every ten seconds. Then some are killed, one at a
time, and the delay counts from just before the kill.

    python benchmarks/bench_monitor.py [--processes N] [--quiet SECONDS] [--kills N]

Writes results/monitor.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import signal
import subprocess
import time

import fastproc.info
from bench_snapshot import RESULTS, compiled
from fastproc.monitor import Monitor, Rule

INTERVAL = 10.0
RULES = (Rule("rss", above=2**40), Rule("threads", above=10_000), Rule("cpu", above=10_000.0, hold=30.0))


def share(monitor: Monitor, seconds: float) -> float:
    """Of one CPU, while nothing happens."""
    cpu, wall = time.process_time(), time.monotonic()
    if monitor.next(seconds) is not None:
        raise SystemExit("a process ended early, or a threshold was crossed")
    return (time.process_time() - cpu) / (time.monotonic() - wall)


def delays(monitor: Monitor, pids: list[int]) -> list[float]:
    """Seconds from the kill of each to its alert."""
    found = []
    for pid in pids:
        pidfd = os.pidfd_open(pid)
        begin = time.monotonic()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        alert = monitor.next(5.0)
        os.close(pidfd)
        if alert is None or (alert.event, alert.pid) != ("died", pid):
            raise SystemExit(f"{pid} was killed, and told was {alert!r}")
        found.append(alert.when - begin)
        time.sleep(0.002)
    return sorted(found)


def measure(pids: list[int], quiet: float, kills: int) -> dict[str, tuple[float, float, list[float]]]:
    """For the ends alone and with rules: seconds to begin, share of a CPU, delays."""
    found = {}
    for name, rules, interval in (
        ("their ends alone", (), 1.0),
        (f"three thresholds of each, every {INTERVAL:g} s", RULES, INTERVAL),
    ):
        with Monitor(interval) as monitor:
            begin = time.monotonic()
            for pid in pids:
                monitor.watch(pid, *rules)
            began = time.monotonic() - begin
            used = share(monitor, quiet if not rules else max(quiet, 3 * INTERVAL))
            victims, pids = pids[:kills], pids[kills:]
            found[name] = (began, used, delays(monitor, victims))
    return found


def table(found: dict[str, tuple[float, float, list[float]]], count: int) -> str:
    """The results as Markdown."""
    lines = [
        "# What it costs to watch processes",
        "",
        f"Written by `make bench-snapshot`. {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; {platform.system()} "
        f"{platform.release().split('-')[0]}; CPython {platform.python_version()}.",
        "",
        f"{count:,} processes of another parent, watched by one thread; then some of them killed, one at a time.",
        "",
        "| watched for | to begin, each | CPU while nothing happens | an end is told after: median | longest |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, (began, used, late) in found.items():
        lines.append(
            f"| {name} | {began / count * 1e6:.0f} µs | {used * 100:.3f} % | {late[len(late) // 2] * 1e3:.2f} ms "
            f"| {late[-1] * 1e3:.2f} ms |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=5000)
    parser.add_argument("--quiet", type=float, default=10.0)
    parser.add_argument("--kills", type=int, default=200)
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < given.processes + 100:
        raise SystemExit(f"{given.processes} need as many descriptors; the limit is {hard} (RLIMIT_NOFILE)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (given.processes + 100, hard))
    command = [compiled("many"), str(given.processes)]
    many = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert many.stdout
        many.stdout.readline()
        found = measure(fastproc.info.children(many.pid), given.quiet, given.kills)
    finally:
        assert many.stdin
        many.stdin.close()
        many.wait()
    text = table(found, given.processes)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "monitor.md").write_text(text)


if __name__ == "__main__":
    main()
