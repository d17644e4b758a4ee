"""Socket activation, both ways: libsystemd in the child, and systemd-socket-activate as the one who activates."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastproc
from conftest import wait_until
from fastproc import systemd
from support import daemons

LIBRARY = "libsystemd.so.0"

# What libsystemd makes of the variables, and which descriptors are open.
ASK_LIBSYSTEMD = """
import ctypes, os, json
library = ctypes.CDLL("libsystemd.so.0")
names = ctypes.POINTER(ctypes.c_char_p)()
count = library.sd_listen_fds_with_names(0, ctypes.byref(names))
told = [names[index].decode() for index in range(max(count, 0))]
print(json.dumps([count, told, [os.fstat(3 + index).st_ino for index in range(max(count, 0))],
                  int(os.environ["LISTEN_PID"]) == os.getpid(), "LISTEN_PIDFDID" in os.environ]))
"""


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    with socket.socket() as first, socket.socket(socket.AF_UNIX) as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0) if each is first else "")
            each.listen()
        yield [first, second]


@pytest.fixture
def libsystemd() -> None:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        pytest.skip(f"no {LIBRARY}")


def asked(**options: object) -> object:
    import json

    result = fastproc.run(sys.executable, "-c", ASK_LIBSYSTEMD, stdout=fastproc.PIPE, **options)  # type: ignore[arg-type]
    assert result.stdout is not None
    return json.loads(bytes(result.stdout))


@pytest.mark.usefixtures("libsystemd")
def test_listen_fds_are_what_libsystemd_finds(
    mechanism: str, listeners: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every mechanism: the pid is the child's own, the variables of our own activation are gone."""
    inodes = [os.fstat(each.fileno()).st_ino for each in listeners]
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "9")
    monkeypatch.setenv("LISTEN_PIDFDID", "1")
    given = {"web": listeners[0], "control": [listeners[1], listeners[0].fileno()]}
    if mechanism == "posix_spawn":
        with pytest.raises(fastproc.SpawnError) as caught:
            asked(listen_fds=given)
        assert caught.value.stage == "mechanism"
        return
    names = ["web", "control", "control"]
    assert asked(listen_fds=given) == [3, names, [*inodes, inodes[0]], True, False]
    assert asked(listen_fds=listeners, env_add={"LISTEN_PID": "77"}) == [2, ["unknown"] * 2, inodes, True, False]


@pytest.mark.usefixtures("libsystemd")
@pytest.mark.parametrize("options", [{}, {"input": b""}, {"idle_timeout": 60.0}, {"env": {}}, {"clean_env": True}])
def test_listen_fds_with_other_options(options: dict[str, object], listeners: list[socket.socket], engine: str) -> None:
    """By every engine, whatever else the environment is made of."""
    inodes = [os.fstat(each.fileno()).st_ino for each in listeners]
    if "clean_env" in options and os.geteuid() != 0:
        pytest.skip("needs root")
    assert asked(listen_fds=listeners, **options) == [2, ["unknown"] * 2, inodes, True, False]


@pytest.mark.privileged
@pytest.mark.parametrize("options", [{"user": 65534}, {"namespaces": ("pid", "mount")}, {"no_new_privs": True}])
def test_listen_fds_with_another_identity(options: dict[str, object], listeners: list[socket.socket]) -> None:
    """The launcher keeps the pid; in a PID namespace of its own the child is 1, and says so."""
    line = 'test "$LISTEN_PID" = $$ && echo $$ $LISTEN_FDS'
    result = fastproc.run("sh", "-c", line, listen_fds=listeners, stdout=fastproc.PIPE, **options)  # type: ignore[arg-type]
    assert result.stdout is not None
    pid, count = bytes(result.stdout).split()
    assert (int(pid) == (1 if "namespaces" in options else result.pid), count) == (True, b"2")


def test_listen_fds_of_many_children_at_once(listeners: list[socket.socket]) -> None:
    """One Command, one environment, many children: each has its own pid."""
    command = fastproc.cmd("sh", "-c", 'test "$LISTEN_PID" = $$', listen_fds=listeners)
    children = [command.start() for _ in range(50)]
    assert fastproc.wait_all(children) == [0] * 50


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (3, TypeError, "listen_fds: must be an iterable"),
        ("web", TypeError, "listen_fds: must be an iterable"),
        ({"a:b": 0}, ValueError, "listen_fds: must be 1 to 255"),
        ({"": 0}, ValueError, "listen_fds: must be 1 to 255"),
        ({1: 0}, TypeError, "listen_fds: must be str"),
        ([-1], ValueError, "listen_fds: -1 is not a descriptor"),
        ([object()], TypeError, "listen_fds: must be a descriptor number or a file"),
    ],
)
def test_listen_fds_refuses(value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastproc.cmd("true", listen_fds=value)  # type: ignore[arg-type]


def test_listen_fds_have_their_places(listeners: list[socket.socket]) -> None:
    """A descriptor of another option cannot be there too."""
    with pytest.raises(ValueError, match="listen_fds: 4, the place of 'unknown', is in fds"):
        fastproc.cmd("true", listen_fds=listeners, fds={4: 0})
    with pytest.raises(fastproc.SpawnError) as caught:
        fastproc.run("true", listen_fds=[9999])
    assert (caught.value.errno, caught.value.stage) == (9, "fds")


# -- as the server

SERVER = """
import os, socket, sys
from fastproc import systemd
found = systemd.listen_fds()
assert not [name for name in os.environ if name.startswith("LISTEN_")], os.environ
assert systemd.listen_fds() == []
assert not any(os.get_inheritable(each.fd) for each in found)
print([(each.fd, each.name, each.kind) for each in found], flush=True)
if found[0].kind == "stream":
    with found[0].socket(type=socket.SOCK_STREAM, listening=True) as server:
        connection, _ = server.accept()
        with connection:
            connection.sendall(connection.recv(99).upper())
else:
    with found[0].socket(type=socket.SOCK_DGRAM, listening=False) as server:
        data, sender = server.recvfrom(99)
        server.sendto(data.upper(), sender)
for each in found[1:]:
    os.close(each.fd)
"""


@pytest.fixture
def activate() -> str:
    found = shutil.which("systemd-socket-activate")
    if found is None:
        pytest.skip("no systemd-socket-activate (Debian: systemd)")
    return found


def check_two_sockets(activate: str, folder: Path, *command: str) -> None:
    """Have SERVER started by a command at the first connection, with two sockets, and greet it."""
    path, other = str(folder / "socket"), str(folder / "other")
    child = fastproc.start(
        *(activate, "-l", path, "-l", other, "--fdname=web:control", "-E", "PYTHONPATH", *command, "-c", SERVER),
        stdout=fastproc.PIPE,
        stderr=fastproc.PIPE,
    )
    with child:
        wait_until(lambda: os.path.exists(other))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"hello")
            assert client.recv(99) == b"HELLO"
        result = child.result()
    assert result.stdout == b"[(3, 'web', 'stream'), (4, 'control', 'stream')]\n"


def test_server_is_started_by_systemd_socket_activate(activate: str, tmp_path: Path) -> None:
    """Systemd's own program listens, starts the server at the first connection, and passes the sockets with names."""
    check_two_sockets(activate, tmp_path, sys.executable)


@pytest.mark.privileged
def test_sockets_reach_the_program_of_a_daemon(activate: str) -> None:
    """The manager's child is the keeper, which stays in the foreground; LISTEN_PID is its program's."""
    place = daemons.folder()
    options = ("-p", str(place / "x.pid"), "--keep-fd", "3")
    command = (sys.executable, "-m", "fastproc", "daemon", "start", "x", *options, "--", sys.executable)
    check_two_sockets(activate, place, *command)


@pytest.mark.privileged
@pytest.mark.parametrize("action", ["start", "restart"])
def test_daemon_that_detaches_is_refused_sockets(activate: str, action: str) -> None:
    """Nobody would have them."""
    place = daemons.folder()
    options = ("-p", str(place / "x.pid"), "--detach")
    command = (sys.executable, "-m", "fastproc", "daemon", action, "x", *options, "--", "true")
    child = fastproc.start(*(activate, "-l", str(place / "socket"), *command), stderr=fastproc.PIPE, check=False)
    with child:
        wait_until(lambda: os.path.exists(place / "socket"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place / "socket"))
            result = child.result()
    assert result.returncode == 2
    assert result.stderr.decode().endswith(
        "--detach: the sockets that were passed to this process (LISTEN_FDS) would be lost\n"
    )


def test_server_is_started_by_systemd_socket_activate_with_a_datagram(activate: str, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    child = fastproc.start(
        *(activate, "-d", "-l", path, "-E", "PYTHONPATH", sys.executable, "-c", SERVER),
        stdout=fastproc.PIPE,
        stderr=fastproc.PIPE,
    )
    with child, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        wait_until(lambda: os.path.exists(path))
        client.bind(str(tmp_path / "client"))
        client.settimeout(10.0)
        client.sendto(b"hello", path)
        assert client.recv(99) == b"HELLO"
        result = child.result()
    assert result.stdout == b"[(3, 'unknown', 'datagram')]\n"


@pytest.mark.parametrize("kind", ["stream", "datagram", "seqpacket"])
def test_passed_sockets_are_checked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was configured elsewhere: a service gets what it expects or an error that says what it got."""
    types = {
        "stream": socket.SOCK_STREAM,
        "datagram": socket.SOCK_DGRAM,
        "seqpacket": socket.SOCK_SEQPACKET,
    }
    with socket.socket(socket.AF_UNIX, types[kind]) as given:
        given.bind("")
        passed = systemd.PassedFd(os.dup(given.fileno()), "x")
        assert passed.kind == kind
        for check, message in (
            ({"type": socket.SOCK_RAW}, "is of the type"),
            ({"family": socket.AF_INET}, "is of the family AF_UNIX, not AF_INET"),
            ({"listening": True}, "does not listen"),
            ({"address": "/run/x"}, "has the address"),
        ):
            with pytest.raises(ValueError, match=rf"^descriptor {passed.fd} \(x\): {message}"):
                passed.socket(**check)  # type: ignore[arg-type]
        exact = {"family": socket.AF_UNIX, "type": types[kind], "listening": False, "address": given.getsockname()}
        with passed.socket(**exact) as found:  # type: ignore[arg-type]
            assert found.fileno() == passed.fd


def test_passed_descriptors_that_are_no_sockets(tmp_path: Path) -> None:
    """FIFOs, devices and files come by the same way (systemd.socket(5))."""
    read_end, write_end = os.pipe()
    found = {}
    for name, fd in (
        ("fifo", read_end),
        ("end", write_end),
        ("special", os.open("/dev/null", os.O_RDONLY)),
        ("file", os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)),
        ("directory", os.open(tmp_path, os.O_RDONLY)),
    ):
        passed = systemd.PassedFd(fd, name)
        found[name] = passed.kind
        with pytest.raises(OSError, match=rf"descriptor {fd} \({name}\) is not a socket"):
            passed.socket()
        os.close(passed.fileno())
    assert found == {"fifo": "fifo", "end": "fifo", "special": "special", "file": "file", "directory": "directory"}


COUNTS_TOO_MANY = """
import os
from fastproc import systemd
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    systemd.listen_fds()
except OSError as error:
    print(error)
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def test_listen_fds_that_are_not_open_are_an_error() -> None:
    """LISTEN_FDS says two; only number 3 is there."""
    env = {"LISTEN_FDS": "2"}
    result = fastproc.run(sys.executable, "-c", COUNTS_TOO_MANY, env_add=env, fds={3: 0}, stdout=fastproc.PIPE)
    assert result.stdout == b"[Errno 9] LISTEN_FDS: descriptor 4 of 2 is not open\n[]\n"
