"""Debian's rsyslogd as a receiver in a directory of the test's own, and a program that logs while it is restarted.

Run in a process of its own (isolate.py): rsyslogd ends with it.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import shutil
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fastproc
from fastproc.syslog import Handler, Syslog

PROGRAM = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
STALL_NS = 5_000_000

CONFIG = """
global(workDirectory="{folder}" net.enableDNS="off")
# What it has read it also writes, before it ends.
main_queue(queue.timeoutshutdown="20000")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{folder}/log" RateLimit.Interval="0" CreatePath="off")
module(load="imudp")
input(type="imudp" address="127.0.0.1" port="{port}")
module(load="imtcp" keepAlive="on")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="all" type="string" string="%pri% %hostname% %app-name% %procid% %structured-data% %msg%\\n")
action(type="omfile" file="{folder}/received" template="all")
"""


def available() -> bool:
    return os.access(PROGRAM, os.X_OK)


class Rsyslogd:
    """One rsyslogd, that may be stopped and started again at the same addresses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            self.port = place.getsockname()[1]
        (folder / "config").write_text(CONFIG.format(folder=folder, port=self.port))
        self.process: fastproc.Process | None = None

    def address(self, protocol: str) -> Any:
        return str(self.folder / "log") if protocol == "datagram" else ("127.0.0.1", self.port)

    def start(self) -> None:
        pid_file = self.folder / "pid"
        pid_file.unlink(missing_ok=True)
        arguments = ("-n", "-f", str(self.folder / "config"), "-i", str(pid_file))
        self.process = fastproc.start(PROGRAM, *arguments, stdout=str(self.folder / "output"), stderr=fastproc.STDOUT)

    def wait_until_there(self) -> None:
        """Until both kinds of sockets are open."""
        end = time.monotonic() + 20.0
        while time.monotonic() < end:
            with socket.socket() as trial, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                if trial.connect_ex(("127.0.0.1", self.port)) == 0 and other.connect_ex(str(self.folder / "log")) == 0:
                    return
            time.sleep(0.01)
        raise RuntimeError((self.folder / "output").read_text())

    def received(self) -> list[str]:
        path = self.folder / "received"
        return path.read_text().splitlines() if path.exists() else []


class Watch:
    """How long calls take, and whether they slept, were preempted, or worked."""

    def __init__(self) -> None:
        self.longest_ns = self.longest_cpu_ns = self.slept = self.stalls = self.preempted = 0

    def time(self, call: Any, *arguments: Any) -> None:
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        cpu, begin = time.thread_time_ns(), time.perf_counter_ns()
        call(*arguments)
        took, worked = time.perf_counter_ns() - begin, time.thread_time_ns() - cpu
        after = resource.getrusage(resource.RUSAGE_THREAD)
        self.slept += after.ru_nvcsw - usage.ru_nvcsw
        self.longest_ns = max(self.longest_ns, took)
        self.longest_cpu_ns = max(self.longest_cpu_ns, worked)
        if took > STALL_NS:
            # Another process had the CPU, or the host of this machine: that is not ours to change.
            if after.ru_nivcsw > usage.ru_nivcsw or (worked < STALL_NS and after.ru_nvcsw == usage.ru_nvcsw):
                self.preempted += 1
            else:
                self.stalls += 1


def log_through_restarts(
    folder: str, protocol: str, rate: int, seconds: float, up: float, down: float, resend: bool, backlog: int
) -> dict[str, Any]:
    """Log at a rate while rsyslogd is stopped after each `up` seconds and started after `down` more.

    Returns what the sender counted, what arrived, and how long the calls took.
    """
    server = Rsyslogd(Path(folder))
    server.start()
    server.wait_until_there()
    log = Syslog(
        server.address(protocol), protocol=protocol, app_name="soak", facility="local1", resend=resend, backlog=backlog
    )
    logger = logging.Logger("soak")
    logger.addHandler(Handler(log))
    watch = Watch()
    number = restarts = 0
    begin = time.monotonic()
    change_at = begin + up
    # A busy machine's rsyslogd may take seconds to end: at least one outage is seen whole.
    while (now := time.monotonic()) < begin + seconds or (restarts == 0 and now < begin + seconds + 20.0):
        if number < (now - begin) * rate:
            watch.time(logger.info, "number=%07d.", number)
            number += 1
            continue
        assert server.process is not None
        if now >= change_at:
            if server.process.poll() is None:
                server.process.terminate()
                while server.process.poll() is None and number >= (time.monotonic() - begin) * rate:
                    time.sleep(0.0005)
                if server.process.poll() is not None:
                    change_at = time.monotonic() + down
            else:
                server.start()
                restarts += 1
                change_at = time.monotonic() + up
        time.sleep(0.0002)
    assert server.process is not None
    if server.process.poll() is not None:
        server.start()
        restarts += 1
    server.wait_until_there()
    counts = log.close(20.0)
    assert server.process is not None
    server.process.terminate()
    server.process.wait(20.0)
    found = Counter(int(text) for text in re.findall(r"number=(\d{7})\.", "\n".join(server.received())))
    missing = sorted(set(range(number)) - set(found))
    return {
        "given": number,
        "restarts": restarts,
        "counts": counts._asdict(),
        "received": len(found),
        "twice": sum(count - 1 for count in found.values()),
        "missing": len(missing),
        "longest_ms": watch.longest_ns / 1e6,
        "longest_cpu_ms": watch.longest_cpu_ns / 1e6,
        "slept": watch.slept,
        "stalls": watch.stalls,
        "preempted": watch.preempted,
    }


def one_of_each(folder: str, protocol: str) -> list[str]:
    """Send what is awkward, and give what rsyslogd understood."""
    server = Rsyslogd(Path(folder))
    server.start()
    server.wait_until_there()
    format = "rfc5424" if protocol != "datagram" else "rfc3164"
    with Syslog(
        server.address(protocol), protocol=protocol, facility="local3", app_name="prog", procid=42, hostname="here"
    ) as log:
        data = {"a@1": {"k": 'v"]\\'}} if format == "rfc5424" else None
        log.send("plain", "err", structured_data=data)
        log.send("two\nlines", "debug")
        log.send("Grüße ☃", "notice")
        log.send("x" * 3000, "info")
        assert log.flush(10.0)
    end = time.monotonic() + 20.0
    while len(server.received()) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert server.process is not None
    server.process.terminate()
    server.process.wait(20.0)
    return server.received()
