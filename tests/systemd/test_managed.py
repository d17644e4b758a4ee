"""Services below Debian's own systemd, as a user's manager in namespaces from which nothing outside can be written.

tests/support/contained.sh encloses it, and checks that it does. The manager sees the units of the test and no others.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import cgroup_folder, isolated, wait_until

MANAGER = "/usr/lib/systemd/systemd"
TESTS = Path(__file__).resolve().parent.parent
RUN = Path("/run/test")

pytestmark = [
    pytest.mark.skipif(not os.access(MANAGER, os.X_OK), reason="no systemd (Debian: systemd)"),
    pytest.mark.skipif(shutil.which("systemctl") is None, reason="no systemctl (Debian: systemd)"),
    pytest.mark.usefixtures("pid_namespace"),
    pytest.mark.privileged,
]


@pytest.fixture
def below() -> Iterator[Callable[..., Any]]:
    """Call a function of this module where the manager is to run."""
    with cgroup_folder() as folder:
        if folder is None:
            pytest.skip("no cgroup v2")

        def call(function: Callable[..., Any], *arguments: Any) -> Any:
            prefix = (str(TESTS / "support" / "contained.sh"), str(folder))
            try:
                return isolated(function, *arguments, pid_namespace=True, prefix=prefix, timeout=90.0)
            finally:
                empty(folder)

        yield call


def empty(folder: Path) -> None:
    """Remove the cgroups that the manager has made; its processes are gone or about to go."""
    end = time.monotonic() + 10.0
    while "populated 1" in (folder / "cgroup.events").read_text() and time.monotonic() < end:
        time.sleep(0.01)
    for path, _, _ in os.walk(folder, topdown=False):
        if path != str(folder):
            os.rmdir(path)


# -- what runs inside


class Manager:
    """systemd --user with the given units; gone with its namespace."""

    def __init__(self, **units: str) -> None:
        # Only contained.sh makes this one.
        assert os.environ["CONTAINED"] == "yes"
        for folder in ("units", "runtime"):
            (RUN / folder).mkdir(parents=True, mode=0o700)
        # sd_booted(3), without which no manager of a user starts.
        Path("/run/systemd/system").mkdir(parents=True)
        for name, text in {"first.target": "", **units}.items():
            section = "" if text.startswith("[Unit]") else "[Unit]\nDefaultDependencies=no\n"
            (RUN / "units" / name).write_text(section + text)
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(RUN),
            "XDG_RUNTIME_DIR": str(RUN / "runtime"),
            "SYSTEMD_UNIT_PATH": str(RUN / "units"),
            "SYSTEMD_GENERATOR_PATH": "",
            "SYSTEMD_ENVIRONMENT_GENERATOR_PATH": "",
        }
        command = (MANAGER, "--user", "--unit=first.target", "--log-target=console")
        with open(RUN / "log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        end = time.monotonic() + 20.0
        while self("is-active", "first.target")[1] != "active":
            assert time.monotonic() < end, (RUN / "log").read_text()
            time.sleep(0.02)

    def __call__(self, *words: str) -> tuple[int, str]:
        """Run systemctl, which waits until a job is done; give its exit status and output."""
        done = subprocess.run(
            ("systemctl", "--user", *words),
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout.strip()

    def show(self, unit: str, *names: str) -> list[str]:
        """Properties of a unit, in the order of the names."""
        lines = self("show", unit, *(f"-p{name}" for name in names))[1].splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return [found[name] for name in names]

    def wait(self, unit: str, name: str, value: str) -> str:
        """Wait until a property matches a pattern, and give it."""
        end = time.monotonic() + 20.0
        while not re.fullmatch(value, found := self.show(unit, name)[0]):
            assert time.monotonic() < end, (name, found, (RUN / "log").read_text())
            time.sleep(0.02)
        return found


def unit(mode: str, *lines: str) -> str:
    command = f"ExecStart={sys.executable} -B {TESTS / 'support' / 'managed_service.py'} {mode}"
    return "\n".join(("[Service]", "Type=notify", "StandardError=append:/run/test/errors", command, *lines, ""))


def escapes() -> list[str]:
    """The places outside of /run and the cgroup that can be written."""
    found = []
    for place in ("/", "/tmp", "/var/tmp", "/var/log", "/etc", "/home", "/dev", "/sys", "/proc/sys/kernel", str(TESTS)):
        try:
            os.close(os.open(f"{place}/probe-of-escapes", os.O_CREAT | os.O_WRONLY))
            found.append(place)
        except OSError:
            continue
    with open("/proc/self/mountinfo") as mounts:
        points = [line.split()[4:6] for line in mounts]
    free = {"/proc", "/run", "/dev/shm", "/sys/fs/cgroup"}
    return found + [point for point, options in points if options.split(",")[0] != "ro" and point not in free]


def test_nothing_outside_can_be_written(below: Callable[..., Any]) -> None:
    """A manager cleans and sets up what it takes for its machine: it must not be this one."""
    assert [place for place in below(escapes) if not place.startswith("/dev/pts")] == []


def life() -> list[Any]:
    manager = Manager(**{"a.service": unit("plain", "ExecReload=/bin/kill -HUP $MAINPID")})
    told: list[Any] = [manager("start", "a.service")[0]]
    told.append(manager.show("a.service", "ActiveState", "SubState", "StatusText"))
    told.append(manager("reload", "a.service")[0])
    told.append(manager.wait("a.service", "StatusText", "reloaded"))
    told.append(manager("stop", "a.service")[0])
    told.append(manager.show("a.service", "ActiveState", "Result", "ExecMainStatus"))
    return told


def test_service_of_type_notify_starts_reloads_and_stops(below: Callable[..., Any]) -> None:
    """`systemctl start` returns when the service says that it is ready, with its status."""
    assert below(life) == [
        0,
        ["active", "running", "runs because of notify"],
        0,
        "reloaded",
        0,
        ["inactive", "success", "0"],
    ]


def failures() -> list[Any]:
    manager = Manager(
        **{
            "silent.service": unit("silent", "TimeoutStartSec=1"),
            "failing.service": unit("failing"),
            # So long that an interpreter has begun on any machine.
            "slow.service": unit("slow", "TimeoutStartSec=3"),
        }
    )
    return [
        [manager("start", name)[0] != 0, *manager.show(name, "Result", "ActiveState", "StatusText", "StatusErrno")]
        for name in ("silent.service", "failing.service", "slow.service")
    ]


def test_service_that_is_not_ready_fails(below: Callable[..., Any]) -> None:
    """Silence until the deadline, an end with a reason, and a start that says in time that it takes longer."""
    assert below(failures) == [
        [True, "timeout", "failed", "", "0"],
        [True, "exit-code", "failed", "no database", "13"],
        [False, "success", "active", "migrated", "0"],
    ]


def main_process() -> list[Any]:
    manager = Manager(**{"a.service": unit("parent")})
    return [manager("start", "a.service")[0], manager.show("a.service", "MainPID", "StatusText", "ActiveState")]


def test_main_process_is_the_one_that_was_named(below: Callable[..., Any]) -> None:
    status, (main_pid, told, state) = below(main_process)
    assert (status, state, main_pid == told, int(told) > 1) == (0, "active", True, True)


def watchdog() -> list[Any]:
    manager = Manager(**{"a.service": unit("pinging", "WatchdogSec=1", "TimeoutAbortSec=1", "WatchdogSignal=SIGKILL")})
    told = [manager("start", "a.service")[0], *manager.show("a.service", "StatusText")]
    time.sleep(3.0)  # three times the watchdog's time
    told += manager.show("a.service", "ActiveState")
    (RUN / "hang").touch()
    told.append(manager.wait("a.service", "ActiveState", "failed"))
    told += manager.show("a.service", "Result", "StatusText")
    return told


def test_watchdog_is_fed_from_the_reactor_and_bites(below: Callable[..., Any]) -> None:
    *told, status = below(watchdog)
    assert told == [0, "1000000", "active", "failed", "watchdog"]
    pings = re.fullmatch(r"hangs after (\d+) pings", status)
    assert pings
    assert int(pings[1]) >= 6


def stored() -> list[Any]:
    manager = Manager(**{"a.service": unit("storing", "FileDescriptorStoreMax=2")})
    told: list[Any] = [
        manager("start", "a.service")[0],
        manager.show("a.service", "StatusText", "NFileDescriptorStore"),
    ]
    told += [manager("restart", "a.service")[0], manager.show("a.service", "StatusText", "ActiveState")]
    return told


def test_descriptors_outlive_the_service(below: Callable[..., Any]) -> None:
    """The manager keeps the socket, and passes it to the next instance under its name."""
    first, (told, number), second, (again, state) = below(stored)
    assert (first, number, second, state) == (0, "1", 0, "active")
    assert again == f"got {told}"


def activation() -> list[Any]:
    path = RUN / "socket"
    manager = Manager(
        **{
            "a.socket": f"[Socket]\nListenStream={path}\nListenStream={path}2\nFileDescriptorName=web\n",
            "a.service": unit("activated"),
        }
    )
    told: list[Any] = [manager("start", "a.socket")[0], *manager.show("a.service", "ActiveState")]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"hello")
        told.append(client.recv(99).decode())
    return [*told, *manager.show("a.service", "ActiveState", "StatusText")]


def test_service_is_activated_by_its_socket(below: Callable[..., Any]) -> None:
    """Not running until somebody connects; the sockets have the unit's name, and no variable is left."""
    assert below(activation) == [
        0,
        "inactive",
        "HELLO",
        "active",
        "[(3, 'web', 'stream'), (4, 'web', 'stream')] []",
    ]


JOURNALD = "/usr/lib/systemd/systemd-journald"

SAYS_WHERE = """
import os, sys
from fastproc import systemd
status = os.fstat(1)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
print(systemd.foreground_reason(), flush=True)
print("<3>worse", file=sys.stderr)
"""


def journal() -> list[Any]:
    import json

    import fastproc
    from fastproc import systemd
    from fastproc.syslog import Syslog

    assert os.environ["CONTAINED"] == "yes"
    Path("/run/log/journal").mkdir(parents=True)
    daemon = fastproc.start(JOURNALD, stderr="/run/journald.log")
    end = time.monotonic() + 20.0
    while not os.path.exists("/run/systemd/journal/dev-log") or not os.path.exists("/run/systemd/journal/stdout"):
        assert time.monotonic() < end, Path("/run/journald.log").read_text()
        time.sleep(0.01)
    with systemd.journal_socket("prog", "notice") as stream:
        command = (sys.executable, "-B", "-c", SAYS_WHERE)
        pid = fastproc.run(*command, stdout=stream, stderr=fastproc.STDOUT).pid
    with Syslog("/run/systemd/journal/dev-log", app_name="sender", procid=4711) as log:
        log.send("by syslog", "warning")
        assert log.flush(10.0)
    names = ("SYSLOG_IDENTIFIER", "PRIORITY", "MESSAGE", "_TRANSPORT")
    found: list[Any] = []
    while len(found) < 3 and time.monotonic() < end:
        options = ("--directory=/run/log/journal", "-o", "json", "SYSLOG_IDENTIFIER=prog", "SYSLOG_IDENTIFIER=sender")
        lines = fastproc.run("journalctl", *options, capture=True, check=False).stdout or b""
        entries = [json.loads(line) for line in bytes(lines).splitlines()]
        found = [[*map(entry.get, names), entry["_PID"] == str(pid)] for entry in entries]
    daemon.terminate()
    daemon.wait(20.0)
    return found


@pytest.mark.skipif(not os.access(JOURNALD, os.X_OK), reason="no systemd-journald (Debian: systemd)")
def test_journal_takes_streams_and_messages(below: Callable[..., Any]) -> None:
    """Systemd's own journal knows who has written, the priority of each line, and takes syslog messages."""
    assert below(journal) == [
        ["prog", "5", "journal", "stdout", True],
        ["prog", "3", "worse", "stdout", True],
        ["sender", "4", "by syslog", "syslog", False],
    ]


def parent_of(stat: Path) -> int:
    return int(stat.read_text().rpartition(")")[2].split()[1])


def daemons() -> list[Any]:
    manager = Manager(
        **{
            "foreground.service": unit("daemon auto works"),
            # The daemon itself speaks, and is the main process by its word only.
            "background.service": unit("daemon never works", "NotifyAccess=all"),
            "failing.service": unit("daemon auto fails"),
        }
    )
    told: list[Any] = []
    for name in ("foreground.service", "background.service"):
        status = manager("start", name)[0]
        state, main_pid = manager.show(name, "ActiveState", "MainPID")
        assert main_pid != "0", (name, status, state, (RUN / "log").read_text(), (RUN / "errors").read_text())
        pid = (RUN / "pid").read_text().split()[0]
        told.append([status, state, main_pid == pid])
        # Its launcher may end a moment after it was told that all is well.
        wait_until(lambda stat=Path(f"/proc/{main_pid}/stat"): parent_of(stat) == manager.process.pid)
        told.append([manager("stop", name)[0], *manager.show(name, "ActiveState", "Result")])
    told.append([manager("start", "failing.service")[0] != 0, *manager.show("failing.service", "Result")])
    return [*told, "PermissionError: no key" in (RUN / "errors").read_text()]


def test_daemon_is_managed(below: Callable[..., Any]) -> None:
    """It stays in the foreground by itself; one that is told to fork says which process it is; one that fails, why."""
    stopped = [0, "inactive", "success"]
    assert below(daemons) == [
        [0, "active", True],
        stopped,
        [0, "active", True],
        stopped,
        [True, "exit-code"],
        True,
    ]
