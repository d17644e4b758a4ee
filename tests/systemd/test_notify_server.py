"""`NotifyServer` and `aio.wait_ready()`: services of the test's own, and systemd-notify(1), at the other side."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import wait_until
from fastproc import aio, systemd
from fastproc.systemd import NotifyServer, NotReady, StartTimeout


def service(*lines: str) -> tuple[str, str, str]:
    """A Python program that tells what the lines say."""
    return sys.executable, "-c", "\n".join(("import os, sys, time, socket", "from fastproc import systemd", *lines))


STAY = "sys.stdin.read()"


@pytest.fixture
def server() -> Iterator[NotifyServer]:
    with NotifyServer() as found:
        yield found


def blocking(server: NotifyServer, timeout: float | None) -> None:
    server.wait_ready(timeout)


def on_asyncio(server: NotifyServer, timeout: float | None) -> None:
    asyncio.run(aio.wait_ready(server, timeout))


def on_trio(server: NotifyServer, timeout: float | None) -> None:
    trio = pytest.importorskip("trio")
    trio.run(aio.wait_ready, server, timeout)


def on_own(server: NotifyServer, timeout: float | None) -> None:
    with fastproc.Reactor() as reactor:
        task = reactor.create_task(aio.wait_ready(server, timeout))
        while not task.done:
            reactor.run_once()
        task.result()


@pytest.fixture(params=[blocking, on_asyncio, on_trio, on_own], ids=lambda way: way.__name__)
def wait_ready(request: pytest.FixtureRequest) -> Callable[[NotifyServer, float | None], None]:
    """Each way to wait."""
    way: Callable[[NotifyServer, float | None], None] = request.param
    return way


Wait = Callable[[NotifyServer, "float | None"], None]


def test_service_is_ready_when_it_says_so(server: NotifyServer, wait_ready: Wait) -> None:
    """What it said before is known then, too."""
    child = server.start(
        *service("systemd.notify(status='a')", "systemd.notify(ready=True)", STAY), stdin=fastproc.PIPE
    )
    with child:
        wait_ready(server, 10.0)
        assert (server.ready, server.status, server.main_pid, server.refused) == (True, "a", child.pid, 0)
        assert [(told.fields, told.pid, told.uid) for told in server.notifications] == [
            ({"STATUS": "a"}, child.pid, os.geteuid()),
            ({"READY": "1"}, child.pid, os.geteuid()),
        ]


def test_service_that_ends_before_it_is_ready(server: NotifyServer, wait_ready: Wait) -> None:
    """The error has its exit status, its last words and its errno."""
    child = server.start(*service("systemd.notify(status='no database', errno=13)", "sys.exit(4)"))
    with pytest.raises(NotReady) as caught:
        wait_ready(server, 10.0)
    error = caught.value
    assert (error.pid, error.returncode, error.status, error.errno) == (child.pid, 4, "no database", 13)
    assert str(error).endswith(
        "ended with 4 before it was ready; its status: no database; its error: Permission denied [Errno 13]"
    )
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.returncode) == (NotReady, str(error), 4)


def test_service_that_is_ready_and_ends_was_ready(server: NotifyServer, wait_ready: Wait) -> None:
    """The message that came before its end counts, however late it is read."""
    child = server.start(*service("systemd.notify(ready=True)"))
    assert child.wait() == 0
    wait_ready(server, 10.0)
    assert server.ready


def test_service_that_stays_silent(server: NotifyServer, wait_ready: Wait) -> None:
    """It still runs when the time is over: whoever waits decides."""
    child = server.start("cat", stdin=fastproc.PIPE)
    with child:
        with pytest.raises(StartTimeout, match=r"was not ready within 0\.05 seconds") as caught:
            wait_ready(server, 0.05)
        assert isinstance(caught.value, TimeoutError)
        assert (caught.value.returncode, child.poll()) == (None, None)


def test_service_extends_its_time(server: NotifyServer, wait_ready: Wait) -> None:
    """EXTEND_TIMEOUT_USEC moves the deadline, from the moment at which it comes."""
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reader, open(write_end, "wb") as writer:
        lines = (
            "systemd.notify(extend_timeout_usec=20_000_000, status='migrating')",
            "time.sleep(0.6)",
            "systemd.notify(ready=True)",
        )
        child = server.start(*service("open(3).read()", *lines), fds={3: reader})
        # Its start takes time that is not to count: it begins when the wait does.
        writer.close()
        wait_ready(server, 0.5 + 5.0)
        assert server.status == "migrating"
        assert child.wait() == 0


def test_reload_is_followed(server: NotifyServer) -> None:
    lines = ["systemd.notify(ready=True)", "sys.stdin.readline()", "systemd.notify(reloading=True)"]
    lines += ["sys.stdin.readline()", "systemd.notify(ready=True)", "systemd.notify(stopping=True)"]
    child = server.start(*service(*lines), stdin=fastproc.PIPE)
    with child:
        server.wait_ready(10.0)
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        wait_until(lambda: server.pump() or server.reloading)
        assert not server.ready
        assert server.notifications[-1].fields["MONOTONIC_USEC"].isdigit()
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert server.wait(10.0) == 0
    assert (server.ready, server.reloading, server.stopping) == (True, False, True)


def test_strangers_are_not_heard(server: NotifyServer) -> None:
    """Who knows the address can send; the kernel says that it is not the service. Nothing of theirs is kept."""
    os.environ["NOTIFY_SOCKET"] = server.environment["NOTIFY_SOCKET"]
    try:
        child = server.start("cat", stdin=fastproc.PIPE)
        with child:
            systemd.notify(ready=True, mainpid=os.getpid(), status="forged", fdstore=[0])
            # A message that claims another sender needs privileges; one of a grandchild is not the main process's.
            with pytest.raises(StartTimeout):
                server.wait_ready(0.05)
            assert (server.ready, server.status, server.main_pid) == (False, None, child.pid)
            assert (server.refused, server.fds, server.notifications) == (1, [], [])
    finally:
        del os.environ["NOTIFY_SOCKET"]


def test_descendants_are_heard_only_on_request() -> None:
    """NotifyAccess=all, for scripts."""
    inner = " ".join(f"'{word}'" for word in service("systemd.notify(ready=True)", "systemd.barrier()"))
    for access, heard in (("main", False), ("all", True)):
        with NotifyServer(access) as server:
            child = server.start("sh", "-c", f"{inner}; exit 0")
            if heard:
                server.wait_ready(10.0)
                assert server.notifications[0].pid != child.pid
            else:
                with pytest.raises(NotReady):
                    server.wait_ready(10.0)
            assert server.wait(10.0) == 0
            assert server.ready is heard


def test_main_process_names_another(server: NotifyServer) -> None:
    """MAINPID: the other one is heard from then on."""
    lines = (
        "pid = os.fork()",
        "if pid == 0:",
        "    sys.stdin.readline()",
        "    systemd.notify(ready=True, unset_environment=True)",
        "    systemd.barrier()",
        "    os._exit(0)",
        "systemd.notify(mainpid=pid)",
        "systemd.barrier()",
        "os.waitpid(pid, 0)",
    )
    child = server.start(*service(*lines), stdin=fastproc.PIPE)
    with child:
        wait_until(lambda: server.pump() or server.main_pid != child.pid)
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
        server.wait_ready(10.0)
        assert server.notifications[-1].pid == server.main_pid
        assert server.wait(10.0) == 0


def test_descriptors_are_stored_up_to_a_number() -> None:
    """And are passed to the next instance of the service by socket activation; the rest is closed."""
    lines = (
        "s = socket.socket()",
        "s.bind(('127.0.0.1', 0))",
        "s.listen()",
        "systemd.notify(fdstore=[s, 0, 1], fdname='kept')",
        "systemd.notify(fdstore=[2], fdname='gone')",
        "systemd.notify(fdname='gone', fdstoreremove=True, status=str(s.getsockname()[1]), ready=True)",
    )
    with NotifyServer(fds_max=2) as server:
        before = len(os.listdir("/proc/self/fd"))
        server.start(*service(*lines)).wait()
        server.wait_ready(1.0)
        assert [stored.name for stored in server.fds] == ["kept", "kept"]
        assert len(os.listdir("/proc/self/fd")) == before + 2
        assert not os.get_inheritable(server.fds[0].fileno())
        again = service(
            "found = systemd.listen_fds()[0]",
            "s = found.socket(listening=True)",
            "systemd.notify(ready=True, status=f'{found.name} {s.getsockname()[1]}')",
        )
        port = server.status
        server.start(*again, listen_fds={server.fds[0].name: server.fds[0]}).wait()
        server.wait_ready(1.0)
        assert server.status == f"kept {port}"


def test_watchdog_that_stops_pinging_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is passed on, pings are counted from READY=1 on, and each one gives the same time again."""
    lines = (
        "assert systemd.watchdog_usec() == 200_000",
        "import fastproc",
        "with fastproc.Reactor() as reactor, systemd.watchdog(reactor) as dog:",
        "    systemd.notify(ready=True)",
        "    while dog.sent < 8: reactor.run_once()",
        STAY,
    )
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with NotifyServer(watchdog_usec=200_000) as server:
        child = server.start(*service(*lines), stdin=fastproc.PIPE)
        with child:
            server.wait_ready(10.0)
            wait_until(lambda: server.pump() or server.watchdog_late, 20.0)
            pings = [told for told in server.notifications if told.fields == {"WATCHDOG": "1"}]
            assert len(pings) == 8
            assert child.poll() is None
    with NotifyServer(watchdog_usec=60_000_000) as server:
        server.start(*service("systemd.notify(watchdog='trigger', ready=True)")).wait()
        server.wait_ready(10.0)
        assert server.watchdog_late


def test_watchdog_pings_from_an_event_loop() -> None:
    """A task that holds the loop holds the pings."""
    lines = (
        "import asyncio",
        "from fastproc import aio",
        "async def main():",
        "    with aio.watchdog() as dog:",
        "        while dog.sent < 3: await asyncio.sleep(0.001)",
        "        held = dog.sent",
        "        time.sleep(0.1)",
        "        assert dog.sent == held, dog.sent",
        "        systemd.notify(ready=True, status=str(held))",
        "asyncio.run(main())",
    )
    with NotifyServer(watchdog_usec=20_000) as other:
        assert other.start(*service(*lines)).wait(20.0) == 0
        other.wait_ready(1.0)
        assert [told.fields for told in other.notifications[:3]] == [{"WATCHDOG": "1"}] * 3


def test_socket_at_a_path_is_removed(tmp_path: Path) -> None:
    """For a service in a network namespace of its own, where abstract addresses are others."""
    path = str(tmp_path / "notify")
    with NotifyServer(path=path) as server:
        assert server.environment == {"NOTIFY_SOCKET": path}
        with pytest.raises(OSError, match="in use"):
            NotifyServer(path=path)
        server.start(*service("systemd.notify(ready=True)"))
        server.wait_ready(10.0)
        assert server.wait() == 0
    assert not os.path.exists(path)


def test_socket_of_a_successor_stays(tmp_path: Path) -> None:
    """Somebody has removed the socket's file, and another server has made one, or a file lies there."""
    path = tmp_path / "notify"
    first = NotifyServer(path=str(path))
    path.unlink()
    with NotifyServer(path=str(path)):
        first.close()
        assert path.exists()
    other = NotifyServer(path=str(path))
    path.unlink()
    path.write_text("precious")
    other.close()
    assert path.read_text() == "precious"


def test_socket_stays_when_a_forked_copy_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with NotifyServer(path=str(path)) as server:
        if (child := os.fork()) == 0:
            server.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert path.exists()


def test_place_of_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"/none"):
        NotifyServer(path=str(tmp_path / "none" / "notify"))


def test_malformed_messages_are_left_out(server: NotifyServer) -> None:
    """Too long, or with more descriptors than fit: nothing of them counts, and no descriptor stays."""
    address = "\0" + server.environment["NOTIFY_SOCKET"][1:]
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        server.follow(Myself())  # type: ignore[arg-type]
        sender.sendto(b"READY=1\n" + b"X" * 5000, address)
        sender.connect(address)
        socket.send_fds(sender, [b"READY=1\n" + b"Y" * 5000], [0] * 200)
        sender.send(b"")
        sender.send(b"no assignment\n=x\nSTATUS=last")
        server.pump()
    assert (server.ready, server.status, len(server.notifications)) == (False, "last", 2)
    assert len(os.listdir("/proc/self/fd")) == before


class Myself:
    """In a child's place."""

    pid = os.getpid()
    argv = ("me",)

    def poll(self) -> None:
        return None


def test_server_without_a_service(server: NotifyServer) -> None:
    for call in (server.wait_ready, server.wait):
        with pytest.raises(RuntimeError, match="no service was started"):
            call()
    with server.start("cat", stdin=fastproc.PIPE), pytest.raises(RuntimeError, match="was started already"):
        server.start("true")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"access": "none"}, ValueError, "access: must be one of"),
        ({"path": "relative"}, ValueError, "NOTIFY_SOCKET: must be an absolute path"),
        ({"watchdog_usec": 0}, ValueError, "watchdog_usec: 0"),
        ({"watchdog_usec": True}, ValueError, "watchdog_usec: True"),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        NotifyServer(**options)


# -- systemd's own program


@pytest.fixture
def systemd_notify() -> str:
    found = shutil.which("systemd-notify")
    if found is None:
        pytest.skip("no systemd-notify (Debian: systemd)")
    return found


def test_systemd_notify_is_heard(systemd_notify: str) -> None:
    """A script that speaks by systemd's program, which waits for its barrier."""
    with NotifyServer("all") as server:
        script = f"{systemd_notify} --status='starting up'; {systemd_notify} --ready; {systemd_notify} STOPPING=1 X_A=b"
        child = server.start("sh", "-c", script + "; exit 5", stderr=fastproc.PIPE)
        with child:
            server.wait_ready(20.0)
            assert server.status == "starting up"
            assert server.wait(20.0) == 5
            assert child.stderr is not None
            assert child.stderr.read() == b""
        assert (server.stopping, server.refused) == (True, 0)
        assert server.notifications[-1].fields == {"STOPPING": "1", "X_A": "b"}


def test_systemd_notify_names_the_main_process(systemd_notify: str) -> None:
    """--pid, of a script that replaces itself."""
    with NotifyServer("all") as server:
        child = server.start("sh", "-c", f"{systemd_notify} --pid=self --ready; exec cat", stdin=fastproc.PIPE)
        with child:
            server.wait_ready(20.0)
            assert server.main_pid is not None
            server.pump()
        assert "MAINPID" in server.notifications[0].fields
