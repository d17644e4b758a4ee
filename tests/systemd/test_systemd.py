"""`fastproc.systemd` beside sockets of the test's own, libsystemd, and systemd's programs."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from fastproc import systemd

VARIABLES = (
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID"),
    *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"),
)


@pytest.fixture(autouse=True)
def no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever started the tests, no manager is told of them."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Manager:
    """The receiving side as sd_notify(3) has it: one datagram socket, credentials by the kernel."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(address)
        self.socket.settimeout(5.0)

    def receive(self) -> tuple[list[str], list[int], int]:
        """One message: its lines, the descriptors, the sender's pid."""
        data, ancillary, flags, _ = self.socket.recvmsg(8192, 8192)
        assert flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) == 0
        fds: list[int] = []
        pid = 0
        for level, kind, content in ancillary:
            assert level == socket.SOL_SOCKET
            if kind == socket.SCM_RIGHTS:
                fds += struct.unpack(f"{len(content) // 4}i", content)
            elif kind == socket.SCM_CREDENTIALS:
                pid = struct.unpack("iII", content)[0]
        return data.decode().split("\n"), fds, pid


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = tmp_path / "notify"
    found = Manager(str(path))
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    yield found
    found.socket.close()


# -- what a service says


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({"ready": True}, ["READY=1"]),
        ({"stopping": True, "status": "bye"}, ["STATUS=bye", "STOPPING=1"]),
        ({"status": "déjà = vu"}, ["STATUS=déjà = vu"]),
        ({"errno": 2, "exit_status": 1}, ["ERRNO=2", "EXIT_STATUS=1"]),
        ({"buserror": "org.x.E", "varlinkerror": "org.y.E"}, ["BUSERROR=org.x.E", "VARLINKERROR=org.y.E"]),
        ({"mainpid": 4711, "ready": True}, ["MAINPID=4711", "READY=1"]),
        ({"watchdog": True}, ["WATCHDOG=1"]),
        ({"watchdog": "trigger"}, ["WATCHDOG=trigger"]),
        ({"watchdog_usec": 20_000_000}, ["WATCHDOG_USEC=20000000"]),
        ({"extend_timeout_usec": 5_000_000}, ["EXTEND_TIMEOUT_USEC=5000000"]),
        ({"fdname": "db", "fdstoreremove": True}, ["FDSTOREREMOVE=1", "FDNAME=db"]),
        ({"others": {"X_MINE": "1"}}, ["X_MINE=1"]),
    ],
)
def test_notify_sends_what_the_man_page_has(manager: Manager, given: dict[str, Any], lines: list[str]) -> None:
    """One datagram, one assignment a line, from this very process."""
    assert systemd.notify(**given) is True
    assert manager.receive() == (lines, [], os.getpid())


def test_notify_reloading_carries_the_monotonic_time(manager: Manager) -> None:
    """Type=notify-reload compares it with the time of the reload's request."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert systemd.notify(reloading=True)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    (first, second), _, _ = manager.receive()
    name, _, usec = second.partition("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(usec) <= after


def test_notify_stores_copies_of_descriptors(manager: Manager) -> None:
    """What arrives is the same open file, also when ours is closed before it is read."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reader, open(write_end, "wb", buffering=0) as writer:
        assert systemd.notify(fdstore=[writer, read_end], fdname="pair", fdpoll=False)
        same = [os.fstat(end).st_ino for end in (writer.fileno(), read_end)]
        writer.write(b"x")
        reader.read(1)
    lines, fds, _ = manager.receive()
    try:
        assert lines == ["FDSTORE=1", "FDNAME=pair", "FDPOLL=0"]
        assert [os.fstat(fd).st_ino for fd in fds] == same
    finally:
        for fd in fds:
            os.close(fd)


def test_notify_knows_abstract_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leading "@" stands for the NUL of an abstract address (unix(7))."""
    name = f"fastproc-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    try:
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert systemd.notify(ready=True)
        assert manager.receive()[0] == ["READY=1"]
    finally:
        manager.socket.close()


def test_notify_without_a_manager_does_nothing() -> None:
    assert systemd.notify(ready=True) is False
    assert systemd.barrier() is False


def test_notify_unsets_the_environment_also_on_failure(manager: Manager, tmp_path: Path) -> None:
    """No child of a service that has said so tells the manager anything."""
    assert systemd.notify(ready=True, unset_environment=True)
    assert "NOTIFY_SOCKET" not in os.environ
    os.environ["NOTIFY_SOCKET"] = str(tmp_path / "nobody")
    with pytest.raises(FileNotFoundError):
        systemd.notify(ready=True, unset_environment=True)
    assert "NOTIFY_SOCKET" not in os.environ


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, ValueError, "nothing to send"),
        ({"status": "a\nREADY=1"}, ValueError, "status: must be one line"),
        ({"others": {"X": "a\nREADY=1"}}, ValueError, "X: must be one line"),
        ({"others": {"A=B": "1"}}, ValueError, "A=B: cannot be the name"),
        ({"ready": True, "stopping": True}, ValueError, "stopping: a service cannot be ready and stopping"),
        ({"ready": 1}, TypeError, "ready: must be True or False"),
        ({"mainpid": 1}, ValueError, "mainpid: 1 is not in the range"),
        ({"mainpid": "2"}, TypeError, "mainpid: must be an int"),
        ({"errno": -2}, ValueError, "errno: -2"),
        ({"watchdog": "now"}, TypeError, "watchdog: must be"),
        ({"extend_timeout_usec": 0}, ValueError, "extend_timeout_usec: 0"),
        ({"fdname": "x"}, ValueError, "fdname: needs fdstore"),
        ({"fdname": "a:b", "fdstore": [0]}, ValueError, "fdname: must be 1 to 255"),
        ({"fdname": "x" * 256, "fdstore": [0]}, ValueError, "fdname: must be 1 to 255"),
        ({"fdstoreremove": True}, ValueError, "fdstoreremove: needs fdname"),
        ({"fdstore": [-1]}, ValueError, "fdstore: -1"),
        ({"fdstore": [0] * 254}, ValueError, "fdstore: 254 descriptors"),
        ({"fdstore": [9999]}, OSError, "Bad file descriptor"),
        ({"status": "x" * 5000}, ValueError, "a service manager reads 4096"),
    ],
)
def test_notify_refuses_what_a_manager_would_misread(
    manager: Manager, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    """And nothing is sent."""
    with pytest.raises(error, match=message):
        systemd.notify(**given)
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.receive()


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("vsock:2:1234", fastproc.Unsupported, "AF_VSOCK"),
        ("vsock-stream:2:1234", fastproc.Unsupported, "AF_VSOCK"),
        ("relative", ValueError, "NOTIFY_SOCKET: must be an absolute path"),
        ("@", ValueError, "NOTIFY_SOCKET: must be"),
        ("/" + "x" * 108, ValueError, "NOTIFY_SOCKET: .* longer"),
        ("/nonexistent/notify", FileNotFoundError, "No such file or directory: '/nonexistent/notify'"),
        ("@nonexistent-notify", ConnectionRefusedError, "refused: '@nonexistent-notify'"),
    ],
)
def test_notify_tells_of_an_address_that_it_cannot_reach(
    address: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with pytest.raises(error, match=message):
        systemd.notify(ready=True)


def fill(manager: Manager) -> int:
    """Send until the manager's queue is full; how many there are."""
    for count in range(1 << 16):
        try:
            systemd.notify(status=str(count), timeout=0.0)
        except TimeoutError:
            return count
    pytest.fail("the queue has no end")


def test_notify_waits_for_a_full_queue_until_the_deadline(manager: Manager) -> None:
    """A manager that does not read holds nobody for longer than was said, and gets everything that was sent."""
    count = fill(manager)
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match="did not read"):
        systemd.notify(ready=True, timeout=0.05)
    assert time.monotonic() - begin >= 0.05
    assert [manager.receive()[0] for _ in range(count)] == [[f"STATUS={index}"] for index in range(count)]


def test_barrier_returns_when_the_manager_has_read(manager: Manager) -> None:
    """The manager closes the descriptor; until then the barrier stands."""
    systemd.notify(ready=True)
    with pytest.raises(TimeoutError, match="barrier"):
        systemd.barrier(timeout=0.05)
    assert manager.receive()[0] == ["READY=1"]
    lines, fds, _ = manager.receive()
    assert (lines, len(fds)) == (["BARRIER=1"], 1)
    os.close(fds[0])
    child = fastproc.start(*reader(manager), pass_fds=[manager.socket])
    assert systemd.barrier(timeout=5.0) is True
    assert child.wait() == 0


def reader(manager: Manager) -> tuple[str, ...]:
    """A manager in another process that reads one message and closes its descriptor."""
    import sys

    fd = manager.socket.fileno()
    code = f"import socket; s = socket.socket(fileno={fd}); assert socket.recv_fds(s, 99, 9)[1]"
    return sys.executable, "-c", code


# -- the watchdog


def test_watchdog_usec_is_for_this_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert systemd.watchdog_usec() is None
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    assert systemd.watchdog_usec() == 20_000_000
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_usec() == 20_000_000
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))
    assert systemd.watchdog_usec() is None


@pytest.mark.parametrize(("name", "value"), [("WATCHDOG_USEC", "soon"), ("WATCHDOG_USEC", "-1"), ("WATCHDOG_PID", "x")])
def test_watchdog_usec_refuses_what_is_no_number(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"^{name}: must be a number"):
        systemd.watchdog_usec()


def test_watchdog_pings_from_a_reactor(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """At half the time, while the program waits by the reactor; not when `alive` says no, and not afterwards."""
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    healthy = [True]
    with fastproc.Reactor() as reactor:
        with systemd.watchdog(reactor, alive=lambda: healthy[0]) as dog:
            assert (dog.enabled, dog.sent) == (True, 1)
            while dog.sent < 4:
                reactor.run_once()
            healthy[0] = False
            while dog.withheld < 2:
                reactor.run_once()
            assert (dog.sent, dog.errors) == (4, 0)
        assert reactor.timeout() is None
    assert [manager.receive()[0] for _ in range(4)] == [["WATCHDOG=1"]] * 4


def test_watchdog_goes_on_when_the_manager_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manager that is restarted hears the pings again."""
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with fastproc.Reactor() as reactor, systemd.watchdog(reactor) as dog:
        while dog.errors < 2:
            reactor.run_once()
        manager = Manager(str(tmp_path / "notify"))
        try:
            while not dog.sent:
                reactor.run_once()
            assert manager.receive()[0] == ["WATCHDOG=1"]
        finally:
            manager.socket.close()


def test_watchdog_without_one_costs_nothing() -> None:
    with fastproc.Reactor() as reactor, systemd.watchdog(reactor) as dog:
        assert (dog.enabled, dog.sent, dog.withheld, dog.errors, reactor.timeout()) == (False, 0, 0, 0, None)


# -- what is passed to a service


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LISTEN_PID": "me", "LISTEN_FDS": "1"}, "LISTEN_PID: must be a number"),
        ({"LISTEN_FDS": "x"}, "LISTEN_FDS: must be a number"),
        ({"LISTEN_FDS": "0"}, "LISTEN_FDS: '0'"),
        ({"LISTEN_FDS": "-1"}, "LISTEN_FDS: must be a number"),
        ({"LISTEN_FDS": "2147483647"}, "LISTEN_FDS: '2147483647'"),
        ({"LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}, "LISTEN_FDNAMES: 1 names for 2"),
    ],
)
def test_listen_fds_refuses_variables_that_are_not_so(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are removed all the same."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        systemd.listen_fds()
    assert not set(os.environ) & {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}


def test_listen_fds_for_another_process_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent's variables must not make a child close or use what is not its own."""
    assert systemd.listen_fds() == []
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert systemd.listen_fds(unset_environment=False) == []
    assert os.environ["LISTEN_FDS"] == "1"
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_PIDFDID", "1")
    assert systemd.listen_fds() == []


# -- where this process runs


def test_journal_stream_is_compared_with_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable alone is inherited by everything, and says nothing."""
    assert systemd.journal_stream() is False
    with socket.socket(socket.AF_UNIX) as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert systemd.journal_stream(stream.fileno()) is True
        assert systemd.journal_stream(2) is False
    assert systemd.journal_stream(999) is False
    monkeypatch.setenv("JOURNAL_STREAM", "nonsense")
    assert systemd.journal_stream() is False


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("NOTIFY_SOCKET", lambda: "/run/systemd/notify", "notify"),
        ("SYSTEMD_EXEC_PID", lambda: str(os.getpid()), "systemd"),
        ("SYSTEMD_EXEC_PID", lambda: str(os.getppid()), None),
        ("LISTEN_PID", lambda: str(os.getpid()), "listen"),
        ("LISTEN_PID", lambda: str(os.getppid()), None),
        ("JOURNAL_STREAM", lambda: "{0.st_dev}:{0.st_ino}".format(os.fstat(1)), "journal"),
        ("JOURNAL_STREAM", lambda: "1:1", None),
    ],
)
def test_foreground_reason_is_about_this_very_process(
    name: str, value: Callable[[], str], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value())
    assert systemd.foreground_reason() == reason
    monkeypatch.delenv(name)
    assert systemd.foreground_reason() is None


def test_booted_is_what_libsystemd_says() -> None:
    import ctypes

    try:
        library = ctypes.CDLL("libsystemd.so.0")
    except OSError:
        pytest.skip("no libsystemd")
    assert systemd.booted() is (library.sd_booted() > 0)


def test_journal_socket_speaks_the_journals_protocol(tmp_path: Path) -> None:
    """The header of systemd-journald's stdout stream, then whatever the child writes."""
    path = str(tmp_path / "stdout")
    with socket.socket(socket.AF_UNIX) as journal:
        journal.bind(path)
        journal.listen()
        with systemd.journal_socket("prog", "err", unit="x.service", path=path) as stream:
            fastproc.run("sh", "-c", "echo out; echo '<2>worse' >&2", stdout=stream, stderr=fastproc.STDOUT)
        connection, _ = journal.accept()
        with connection, connection.makefile("rb") as lines:
            assert lines.read() == b"prog\nx.service\n3\n1\n0\n0\n0\nout\n<2>worse\n"
    with pytest.raises(ConnectionRefusedError):
        systemd.journal_socket("prog", path=path)
    with pytest.raises(ValueError, match="identifier: must be one line"):
        systemd.journal_socket("a\nb")
    with pytest.raises(ValueError, match="severity: 'loud'"):
        systemd.journal_socket("a", "loud")


def test_journal_socket_does_not_wait_longer_than_told(tmp_path: Path) -> None:
    """A journal whose queue of connections is full."""
    path = str(tmp_path / "stdout")
    with socket.socket(socket.AF_UNIX) as journal:
        journal.bind(path)
        journal.listen(0)
        with systemd.journal_socket("a", path=path), pytest.raises(TimeoutError, match="was not accepted"):
            systemd.journal_socket("a", path=path, timeout=0.02)
