"""What a service claims to `NotifyServer`: numbers that are none, and main processes that are strangers."""

from __future__ import annotations

import os
import socket
import sys

import pytest

import fastproc
from fastproc import _native
from fastproc.systemd import NotifyServer


class Myself:
    """In a child's place."""

    pid = os.getpid()
    argv = ("me",)

    def poll(self) -> None:
        return None


def told(server: NotifyServer, *messages: bytes) -> None:
    server.follow(Myself())  # type: ignore[arg-type]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for message in messages:
            sender.sendto(message, "\0" + server.environment["NOTIFY_SOCKET"][1:])
    server.pump()


@pytest.mark.parametrize("value", ["²", "9" * 30, "-1", "", "4096", "1_0", "+1", " 1", "٣"])
def test_number_that_is_none_is_left_out(value: str) -> None:
    """Nothing is raised, then or when the error's text is made; the last good one stays."""
    with NotifyServer() as server:
        told(server, b"ERRNO=13", f"ERRNO={value}\nMAINPID={value}\nSTATUS=s".encode())
        assert (server.errno, server.main_pid, server.status) == (13, os.getpid(), "s")


def test_main_process_must_descend_from_the_service() -> None:
    """A stranger, such as process 1's sibling or our parent, and a number that nobody has, are not believed."""
    with NotifyServer("all") as server, fastproc.start("cat", stdin=fastproc.PIPE) as child:
        told(server, b"MAINPID=%d" % os.getppid(), b"MAINPID=%d" % (2**22 + 1))
        assert server.main_pid == os.getpid()
        told(server, b"MAINPID=%d" % child.pid)
        assert server.main_pid == child.pid
        assert server._main is not None
        told(server)
        assert (server.main_pid, server._main) == (os.getpid(), None)


NAMING = """
import os
from fastproc import _native, systemd
read_end, write_end = os.pipe()
if os.fork() == 0:
    systemd.notify(mainpid=os.getpid(), status="child")
    systemd.barrier()
    os._exit(0)
os.wait()
systemd.notify(ready=True)
systemd.barrier()
"""


def test_descendant_does_not_name_the_main_process() -> None:
    """It may speak with access="all", but who is the service is said by that alone."""
    with NotifyServer("all") as server:
        child = server.start(sys.executable, "-c", NAMING)
        server.wait_ready(20.0)
        assert server.wait(20.0) == 0
        assert (server.status, server.main_pid, server.refused) == ("child", child.pid, 0)


def test_number_of_a_main_process_that_has_ended_is_a_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has it afterwards is not heard; what was sent before its end is."""
    with NotifyServer() as server:
        child = fastproc.start("cat", stdin=fastproc.PIPE)
        with child:
            told(server, b"MAINPID=%d" % child.pid)
            assert server._may_speak(child.pid)
        assert server._may_speak(child.pid)
        # Somebody else has the number now.
        monkeypatch.setattr(_native, "fp_pidfd_open", lambda _: os.pidfd_open(os.getpid()))
        assert not server._may_speak(child.pid)
