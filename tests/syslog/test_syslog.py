"""`fastproc.syslog` with receivers of the test's own, that end, are slow, or are not there."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import wait_until
from fastproc import aio, syslog
from fastproc.syslog import Counts, Handler, Lines, Syslog


class Receiver:
    """A datagram socket that can be closed and made again at the same address."""

    def __init__(self, address: Any) -> None:
        self.family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.address = address
        self.open()

    def open(self) -> None:
        if self.family == socket.AF_UNIX and self.address[0] != "\0":
            Path(self.address).unlink(missing_ok=True)
        self.socket = socket.socket(self.family, socket.SOCK_DGRAM)
        self.socket.bind(self.address)
        self.address = self.socket.getsockname()
        if isinstance(self.address, bytes):
            self.address = self.address.decode()
        self.socket.settimeout(5.0)

    def texts(self, count: int) -> list[str]:
        """The last words of the next messages."""
        return [self.socket.recv(1 << 16).decode().rpartition(" ")[2] for _ in range(count)]

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Receiver]:
    found = Receiver(str(tmp_path / "log"))
    yield found
    found.close()


@pytest.fixture
def udp() -> Iterator[Receiver]:
    found = Receiver(("127.0.0.1", 0))
    yield found
    found.close()


def sums_up(counts: Counts) -> bool:
    return counts.given == sum(counts[1:6])


# -- a unix datagram socket, as /dev/log


def test_unix_message_is_what_libc_sends(unix: Receiver) -> None:
    """The old format without a host, and the pid that really sends."""
    with Syslog(unix.address, app_name="prog", facility="daemon") as log:
        log.send("hello", "err")
        message = unix.socket.recv(999)
        assert re.fullmatch(rb"<27>\w{3} [ 1-3]\d \d\d:\d\d:\d\d prog\[%d\]: hello" % os.getpid(), message)
        assert log.flush()
        assert log.counts == Counts(1, 1, 0, 0, 0, 0, 0, 1)


@pytest.mark.parametrize("resend", [False, True])
def test_unix_receiver_is_restarted(unix: Receiver, resend: bool) -> None:
    """What comes meanwhile waits, in order; the message that it had not read is sent again, or counted as uncertain."""
    log = Syslog(unix.address, resend=resend)
    log.send("1")
    assert unix.texts(1) == ["1"]
    assert log.flush()
    log.send("2")
    unix.close()
    log.send("3")
    log.send("4")
    assert log.counts == (Counts(4, 1, 0, 0, 3, 0, 1, 1) if resend else Counts(4, 1, 0, 1, 2, 0, 0, 1))
    assert isinstance(log.error, ConnectionRefusedError)
    unix.open()
    assert wait_until(lambda: log.pump() or log.counts.connections == 2)
    assert unix.texts(3 if resend else 2) == ["2", "3", "4"][not resend :]
    assert log.close() == (Counts(4, 4, 0, 0, 0, 0, 1, 2) if resend else Counts(4, 3, 0, 1, 0, 0, 0, 2))


def test_unix_receiver_that_was_never_there(tmp_path: Path) -> None:
    """The backlog holds the newest messages; the others are counted."""
    log = Syslog(str(tmp_path / "log"), backlog=3)
    for number in range(5):
        log.send(str(number))
    assert log.counts == Counts(5, 0, 2, 0, 3, 0, 0, 0)
    receiver = Receiver(str(tmp_path / "log"))
    try:
        wait_until(lambda: log.pump() or log.counts.connections)
        assert receiver.texts(3) == ["2", "3", "4"]
        assert log.close() == Counts(5, 3, 2, 0, 0, 0, 0, 1)
    finally:
        receiver.close()


def test_unix_receiver_that_does_not_read_holds_nobody(unix: Receiver) -> None:
    """Its queue is short (max_dgram_qlen); the rest waits here, and the program never sleeps."""
    import resource

    log = Syslog(unix.address, backlog=100)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    for number in range(2000):
        log.send(str(number))
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw == before
    counts = log.counts
    assert sums_up(counts)
    assert (counts.given, counts.delivered, counts.waiting) == (2000, 0, 100)
    read = unix.texts(counts.in_flight)
    assert read == [str(number) for number in range(counts.in_flight)]
    rest: list[str] = []
    unix.socket.settimeout(0.0)
    while not log.flush(0.0):
        try:
            rest += unix.texts(1)
        except BlockingIOError:
            continue
    assert rest == [str(number) for number in range(1900, 2000)]
    assert log.close() == Counts(2000, counts.in_flight + 100, 1900 - counts.in_flight, 0, 0, 0, 0, 1)


def test_unix_abstract_socket() -> None:
    receiver = Receiver(f"\0fastproc-test-{os.getpid()}")
    try:
        with Syslog("@" + receiver.address[1:]) as log:
            log.send("x")
            assert receiver.texts(1) == ["x"]
            assert log.flush()
    finally:
        receiver.close()


def test_message_too_long_for_the_socket_is_cut(unix: Receiver) -> None:
    """EMSGSIZE of the kernel comes before a limit of ours."""
    unix.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    with Syslog(unix.address, max_size=10_000_000, app_name="x") as log:
        log.send("é" * 1_000_000)
        message = unix.socket.recv(1 << 22)
        assert len(message) > 50_000
        assert set(message.decode().rpartition(" ")[2]) == {"é"}
    with Syslog(unix.address, max_size=100, app_name="x") as log:
        log.send("é" * 1000)
        assert 96 < len(unix.socket.recv(1 << 22)) <= 100


# -- UDP


def test_udp_message_is_of_rfc5424(udp: Receiver) -> None:
    with Syslog(udp.address, app_name="prog", hostname="here", procid=7) as log:
        log.send("text", "notice", msgid="ID", structured_data={"a@1": {"k": "v"}}, created=1e9)
        message = udp.socket.recv(999).decode()
        assert re.fullmatch(r"<13>1 2001-09-0[89]T\d\d:46:40\.000000\S+ here prog 7 ID \[a@1 k=\"v\"\] text", message)
        assert log.counts == Counts(1, 1, 0, 0, 0, 0, 0, 1)


def test_udp_port_that_nobody_listens_at_is_noticed(udp: Receiver) -> None:
    """The kernel tells which message was refused: it is sent again, and none is lost on this machine."""
    log = Syslog(udp.address)
    log.send("0")
    assert udp.texts(1) == ["0"]
    udp.close()
    for number in range(1, 4):
        log.send(str(number))
    counts = log.counts
    assert sums_up(counts)
    assert (counts.delivered, counts.waiting, counts.resent) == (1, 3, 1)
    assert isinstance(log.error, ConnectionRefusedError)
    udp.open()
    wait_until(lambda: log.pump() or not log.counts.waiting)
    assert udp.texts(3) == ["1", "2", "3"]
    counts = log.close()
    assert counts[:6] == (4, 4, 0, 0, 0, 0)


# -- streams


@pytest.fixture(params=["tcp", "stream"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, Any, str]]:
    family = socket.AF_INET if request.param == "tcp" else socket.AF_UNIX
    with socket.socket(family) as found:
        found.bind(("127.0.0.1", 0) if request.param == "tcp" else str(tmp_path / "log"))
        found.listen()
        found.settimeout(5.0)
        yield found, found.getsockname(), request.param


def accepted(server: socket.socket, log: Syslog) -> socket.socket:
    connection, _ = server.accept()
    connection.settimeout(5.0)
    assert wait_until(lambda: log.pump() or log.counts.connections)
    return connection


def test_stream_frames(server: tuple[socket.socket, Any, str]) -> None:
    """Octet counting by TCP, NUL by a unix stream."""
    listener, address, protocol = server
    with Syslog(address, protocol=protocol, app_name="p") as log:
        log.send("a\nb")
        with accepted(listener, log) as connection:
            data = connection.recv(999)
            if protocol == "tcp":
                length, _, rest = data.partition(b" ")
                assert (int(length), rest[-3:]) == (len(rest), b"a\nb")
            else:
                assert data.endswith(b": a\nb\0")
            assert log.flush()
            assert log.counts == Counts(1, 1, 0, 0, 0, 0, 0, 1)


def test_stream_that_ends_in_order_loses_nothing(server: tuple[socket.socket, Any, str]) -> None:
    """The receiver has read everything and closes; what comes afterwards waits for the next connection."""
    listener, address, protocol = server
    log = Syslog(address, protocol=protocol)
    log.send("1")
    with accepted(listener, log) as connection:
        assert connection.recv(999).rstrip(b"\0").endswith(b" 1")
    for number in range(2, 5):
        log.send(str(number))
    counts = log.counts
    assert (sums_up(counts), counts.delivered, counts.uncertain) == (True, 1, 0)
    wait_until(lambda: log.pump() or log.counts.connections == 2)
    connection, _ = listener.accept()
    with connection:
        assert re.findall(rb" (\d)(?=\d\d <|\0|$)", connection.recv(999)) == [b"2", b"3", b"4"]
        assert log.flush()
    assert log.close() == Counts(4, 4, 0, 0, 0, 0, 0, 2)


@pytest.mark.parametrize("resend", [False, True])
def test_stream_that_ends_with_unread_data_says_so(server: tuple[socket.socket, Any, str], resend: bool) -> None:
    """A reset: what it had not read is sent again, or counted as uncertain."""
    listener, address, protocol = server
    log = Syslog(address, protocol=protocol, resend=resend)
    log.send("1")
    with accepted(listener, log) as connection:
        assert connection.recv(999)
        log.flush()
        log.send("2")
        wait_until(lambda: log.pump() or protocol == "stream" or not log.counts.in_flight)
    log.send("3")
    counts = log.counts
    assert sums_up(counts)
    doubtful = counts.resent if resend else counts.uncertain
    assert 1 <= doubtful <= 2
    assert counts.delivered + doubtful == 2
    assert counts.waiting == 1 + counts.resent
    assert isinstance(log.error, OSError)
    if resend:
        wait_until(lambda: log.pump() or log.counts.connections == 2)
        connection, _ = listener.accept()
        with connection:
            wait_until(lambda: log.pump() or not log.counts.waiting)
            data = connection.recv(9999)
            assert log.flush()
        assert re.findall(rb" (\d)(?=\d\d <|\0|$)", data) == [b"1", b"2", b"3"][3 - counts.waiting :]
    else:
        final = log.close(0.0)
        assert (sums_up(final), final.dropped, final.uncertain) == (True, 1, counts.uncertain)
    log.close()


def test_stream_that_is_not_read_holds_nobody(server: tuple[socket.socket, Any, str]) -> None:
    """The kernel's buffers fill; then the backlog; then the oldest is dropped, but never a part of one."""
    import resource

    listener, address, protocol = server
    log = Syslog(address, protocol=protocol, backlog=50)
    log.send("first")
    with accepted(listener, log) as connection:
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        total = 5000
        for number in range(total):
            log.send(f"{number:06d}" + "x" * 4000)
        assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw == before
        counts = log.counts
        assert sums_up(counts)
        assert counts.waiting == 50
        assert counts.dropped > 0
        data = bytearray()
        connection.settimeout(0.01)
        while not log.flush(0.0):
            try:
                data += connection.recv(1 << 20)
            except TimeoutError:
                continue
        connection.settimeout(0.2)
        try:
            while piece := connection.recv(1 << 20):
                data += piece
        except TimeoutError:
            pass
        numbers = [int(number) for number in re.findall(rb"(\d{6})x{4000}", bytes(data))]
        counts = log.close()
    assert (sums_up(counts), counts.delivered, counts.uncertain) == (True, len(numbers) + 1, 0)
    assert numbers == sorted(set(numbers))
    # The first of the fifty is the one of which a part was sent.
    assert numbers[-49:] == list(range(total - 49, total))
    assert len(numbers) + counts.dropped == total


def test_tcp_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        address = place.getsockname()
    with Syslog(address, protocol="tcp") as log:
        log.send("x")
        assert not log.flush(0.05)
        assert isinstance(log.error, ConnectionRefusedError)
    assert log.counts == Counts(1, 0, 1, 0, 0, 0, 0, 0)


def test_host_with_several_addresses_is_tried_in_turn() -> None:
    """A name may lead to IPv6 first, where nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with Syslog(("localhost", server.getsockname()[1]), protocol="tcp") as log:
            log.send("x")
            wait_until(lambda: log.pump() or log.counts.connections)
            connection, _ = server.accept()
            with connection:
                assert connection.recv(999).endswith(b" x")
                assert log.flush()


# -- threads and signals


def test_flush_holds_nobody(unix: Receiver) -> None:
    """Other threads log while one waits for a receiver that does not read."""
    import threading

    log = Syslog(unix.address)
    log.send("first")
    begun, results = threading.Event(), []

    def flush() -> None:
        begun.set()
        results.append(log.flush(30.0))

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        assert begun.wait(20)
        for number in range(50):
            log.send(str(number))
        assert thread.is_alive()
        assert log.counts.given == 51
    finally:
        unix.socket.settimeout(0.05)
        while thread.is_alive():
            try:
                unix.socket.recv(999)
            except TimeoutError:
                continue
        thread.join()
    assert results == [True]
    assert log.close() == Counts(51, 51, 0, 0, 0, 0, 0, 1)


def test_signal_handler_that_logs_breaks_no_message(server: tuple[socket.socket, Any, str]) -> None:
    """It runs between any two steps of a send: each message is whole, none comes twice, none is lost."""
    import signal

    listener, address, protocol = server
    log = Syslog(address, protocol=protocol, backlog=100_000)
    counts = {"outer": 0, "inner": 0}

    def handler(_number: int, _frame: object) -> None:
        number = counts["inner"]
        counts["inner"] += 1
        log.send(f"inner={number};")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        log.send("begin")
        with accepted(listener, log) as connection:
            data = bytearray()
            connection.settimeout(0.0)
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            while counts["inner"] < 300:
                log.send(f"outer={counts['outer']};")
                counts["outer"] += 1
                try:
                    data += connection.recv(1 << 20)
                except BlockingIOError:
                    continue
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            while not log.flush(0.001):
                try:
                    data += connection.recv(1 << 20)
                except BlockingIOError:
                    continue
            try:
                data += connection.recv(1 << 20)
            except BlockingIOError:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    log.close()
    for name in ("outer", "inner"):
        numbers = [int(number) for number in re.findall(rb"%s=(\d+);" % name.encode(), bytes(data))]
        assert sorted(numbers) == list(range(counts[name]))
    assert (log.counts.resent, log.counts.dropped, log.counts.connections) == (0, 0, 1)


# -- forked copies


def test_forked_copy_sends_nothing_of_the_parent(unix: Receiver, tmp_path: Path) -> None:
    """What waits is the parent's; the copy has counts and a pid of its own."""
    log = Syslog(unix.address, app_name="p")
    unix.close()
    log.send("parent's")
    unix.open()
    pid = os.fork()
    if pid == 0:
        try:
            log.send("copy's")
            log.close()
            os._exit(0 if log.counts == Counts(1, 1, 0, 0, 0, 0, 0, 1) else 1)
        finally:
            os._exit(2)
    message = unix.socket.recv(999).decode()
    assert message.endswith(f"p[{pid}]: copy's")
    assert os.waitpid(pid, 0)[1] == 0
    wait_until(lambda: log.pump() or not log.counts.waiting)
    assert unix.texts(1) == ["parent's"]
    log.close()


# -- logging


def test_handler_sends_records(udp: Receiver) -> None:
    """Levels become severities, the record's time is the message's, extra fields its structured data."""
    handler = Handler(Syslog(udp.address, app_name="p", facility="local0"))
    logger = logging.Logger("x")
    logger.addHandler(handler)
    try:
        for level, severity in ((10, 7), (20, 6), (25, 5), (30, 4), (40, 3), (50, 2), (60, 1)):
            logger.log(level, "at %d", level, extra={"msgid": "M", "structured_data": {"o": {"k": level}}})
            message = udp.socket.recv(999).decode()
            assert message.startswith(f"<{16 * 8 + severity}>1 ")
            assert message.endswith(f' M [o k="{level}"] at {level}')
    finally:
        handler.close()
    assert handler.syslog.counts[:2] == (7, 7)


def test_handler_never_raises(udp: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that cannot be formatted is logging's own affair; a receiver that is away is none at all."""
    handler = Handler(Syslog(udp.address))
    udp.close()
    logger = logging.Logger("x")
    logger.addHandler(handler)
    for _ in range(3):
        logger.error("away")
    assert capsys.readouterr().err == ""
    logger.error("%d", "no number")
    assert "TypeError" in capsys.readouterr().err
    handler.syslog._channel.waiting.clear()
    handler.close()


# -- a child's lines


SCRIPT = "echo out; echo err >&2; printf 'no end'"


@pytest.mark.parametrize("way", ["run", "start", "aio"])
def test_lines_carry_the_childs_name_and_pid(unix: Receiver, way: str) -> None:
    """Whoever reads the log finds the process; both streams, with a severity for each."""
    with Syslog(unix.address, app_name="parent") as log:
        lines = Lines(log)
        if way == "run":
            pid = fastproc.run("/bin/sh", "-c", SCRIPT, capture=True, on_line=lines).pid
        elif way == "start":
            with fastproc.start("/bin/sh", "-c", SCRIPT, capture=True, on_line=lines) as child:
                child.wait()
                pid = child.pid
        else:
            import asyncio

            pid = asyncio.run(aio.run("/bin/sh", "-c", SCRIPT, capture=True, on_line=lines)).pid
        found = [unix.socket.recv(999).decode() for _ in range(3)]
        assert sorted((text[:4], text.rpartition("sh[")[2]) for text in found) == [
            ("<12>", f"{pid}]: err"),
            ("<14>", f"{pid}]: no end"),
            ("<14>", f"{pid}]: out"),
        ]


def test_lines_of_one_stream_with_another_name(unix: Receiver) -> None:
    with Syslog(unix.address) as log:
        fastproc.run("sh", "-c", SCRIPT, capture=True, on_line=Lines(log, stdout=None, stderr="alert", name="job"))
        message = unix.socket.recv(999).decode()
        assert re.fullmatch(r"<9>.* job\[\d+\]: err", message)
        assert log.counts.given == 1


def test_logger_knows_the_childs_name_and_pid(caplog: pytest.LogCaptureFixture) -> None:
    """As attributes of the record, and on request in the message."""
    with caplog.at_level(logging.INFO):
        result = fastproc.run("sh", "-c", SCRIPT, capture=True, on_line=fastproc.Logger("child", prefix=True))
    found = [(record.stream, record.program, record.pid, record.getMessage()) for record in caplog.records]  # type: ignore[attr-defined]
    name = f"sh[{result.pid}]: "
    assert sorted(found) == [
        ("stderr", "sh", result.pid, name + "err"),
        ("stdout", "sh", result.pid, name + "no end"),
        ("stdout", "sh", result.pid, name + "out"),
    ]


# -- what is refused


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("",), {}, ValueError, "address: ''"),
        (("x" * 108,), {}, ValueError, "address: "),
        ((5,), {}, TypeError, "address: must be a path"),
        ((("host", "514"),), {}, TypeError, "address: the port"),
        ((("127.0.0.1", 0),), {}, ValueError, "address: 0 is not a port"),
        ((), {"protocol": "udp"}, ValueError, "protocol: must be one of datagram, stream"),
        ((("127.0.0.1", 1),), {"protocol": "datagram"}, ValueError, "protocol: must be one of udp, tcp"),
        ((), {"format": "json"}, ValueError, "format: must be one of"),
        ((), {"facility": "x"}, ValueError, "facility: "),
        ((), {"framing": "octet"}, ValueError, "framing: is for a stream, and datagram has messages"),
        ((), {"protocol": "stream", "framing": "x"}, ValueError, "framing: must be one of"),
        ((), {"backlog": 0}, ValueError, "backlog: 0 is less than 1"),
        ((), {"backlog": 1.5}, TypeError, "backlog: must be an int"),
        ((), {"resend": 1}, TypeError, "resend: must be True"),
        ((), {"max_size": 10}, ValueError, "max_size: 10 is less than 64"),
    ],
)
def test_what_is_refused(arguments: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        Syslog(*arguments, **options)


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted is what Linux tells; elsewhere nothing is guessed."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(fastproc.Unsupported, match=r"fastproc\.syslog: needs Linux"):
        Syslog()
    with pytest.raises(fastproc.Unsupported, match="NotifyServer: needs Linux"):
        fastproc.systemd.NotifyServer()


def test_times_that_are_none_are_refused(unix: Receiver) -> None:
    with Syslog(unix.address) as log:
        for value in (-1.0, float("nan")):
            with pytest.raises(ValueError, match=r"^timeout: "):
                log.flush(value)


def test_name_of_this_program_is_the_default(unix: Receiver) -> None:
    """That of sys.argv, as syslog(3) has it."""
    with Syslog(unix.address) as log:
        log.send("x")
        name = os.path.basename(sys.argv[0])[:32].replace(":", "_") or "python"
        assert f" {name}[" in unix.socket.recv(999).decode()
    assert "Syslog to" in repr(log)
    assert "Lines(" in repr(syslog.Lines(log))


# -- python -m fastproc syslog


def relay(*arguments: str, data: bytes = b"", **options: Any) -> fastproc.Result:
    command = (sys.executable, "-m", "fastproc", "syslog", *arguments)
    return fastproc.run(*command, input=data, capture=True, check=False, **options)


def test_relay_sends_lines(unix: Receiver) -> None:
    """For a program that outlives us: the reader of its pipe is a program of its own."""
    arguments = ("-a", unix.address, "--tag=job", "-i", "42", "-f", "local2", "-p", "notice", "--timeout", "0")
    result = relay(*arguments, data=b"one\r\ntwo\xff\n\nlast")
    found = [unix.socket.recv(999).decode() for _ in range(4)]
    assert [text[:5] for text in found] == [f"<{18 * 8 + 5}>"] * 4
    assert [text.partition("job[42]: ")[2] for text in found] == ["one", "two\\xff", "", "last"]
    # With no time to wait it cannot know that they were read.
    assert (result.returncode, b"of 4 messages" in result.stderr) == (1, True)  # type: ignore[operator]


def test_relay_names_the_socket_that_is_not_there() -> None:
    result = relay("--address", "/nonexistent/log", "--timeout", "0.05", data=b"a\n")
    assert result.returncode == 1
    assert result.stderr is not None
    assert b"1 of 1 messages: [Errno 2] No such file or directory: '/nonexistent/log'" in result.stderr


def test_relay_by_tcp_tells_what_it_lost() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
        result = relay("--tcp", "-n", "127.0.0.1", "-P", port, "--timeout", "0.05", data=b"a\nb\n")
        assert result.returncode == 1
        assert result.stderr is not None
        assert b"2 of 2 messages: [Errno 111] Connection refused" in result.stderr
        server.listen()
        result = relay("--tcp", "-n", "127.0.0.1", "-P", port, data=b"a\nb\n")
        assert (result.returncode, result.stderr) == (0, b"")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(999).count(b" fastproc ") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nonsense",), b"--nonsense: there is no such option"),
        (("--tag",), b"--tag: a value is missing"),
        (("-a", "/x", "--tcp"), b"--address: is a socket of this machine"),
        (("-p", "loud"), b"severity: 'loud' is none of"),
        (("-f", "x"), b"facility: 'x'"),
        (("-n", "127.0.0.1", "-P", "x"), b"--port: must be a number"),
        (("--rfc3164", "--rfc5424"), b"--rfc3164: and"),
    ],
)
def test_relay_refuses(arguments: tuple[str, ...], message: bytes) -> None:
    result = relay(*arguments)
    assert result.returncode == 2
    assert result.stderr is not None
    assert message in result.stderr
