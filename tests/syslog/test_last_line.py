"""What forwards lines to syslog while nobody writes: the last one is sent when the receiver comes, losses are told."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path
from termios import FIONREAD

import pytest

import fastproc
from conftest import wait_until
from fastproc._engine.fds import make_pipe
from fastproc.daemon._logs import forward_lines
from fastproc.syslog import Syslog


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.settimeout(10.0)
        yield found


def texts(receiver: socket.socket, count: int) -> list[str]:
    return [receiver.recv(999).decode().partition("]: ")[2] for _ in range(count)]


def test_daemons_last_line_is_sent_when_the_receiver_comes(tmp_path: Path, receiver: socket.socket) -> None:
    """Nothing has to be written after it; how many were dropped meanwhile is a message of its own."""
    path = str(tmp_path / "log")
    log = Syslog(path, backlog=2)
    read_end, write_end = make_pipe()
    with read_end, write_end:
        thread = threading.Thread(target=forward_lines, args=({1: read_end}, log))
        thread.start()
        try:
            os.write(write_end.number, b"one\ntwo\nthree\nlast\n")
            wait_until(lambda: log.counts.given == 4)
            receiver.bind(path)
            assert texts(receiver, 3) == ["three", "last", "2 messages lost"]
        finally:
            write_end.close()
            thread.join(20)
            assert not thread.is_alive()


def test_relays_last_line_is_sent_when_the_receiver_comes(tmp_path: Path, receiver: socket.socket) -> None:
    """While its input is open and says nothing."""
    path = str(tmp_path / "log")
    child = fastproc.start(sys.executable, "-m", "fastproc", "syslog", "-a", path, stdin=fastproc.PIPE)
    with child:
        assert child.stdin is not None
        child.stdin.write(b"last\n")
        child.stdin.flush()
        pipe = child.stdin.fileno()

        def has_tried() -> bool:
            unread = int.from_bytes(ioctl(pipe, FIONREAD, bytes(4)), sys.byteorder)
            state = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return unread == 0 and state == "S"

        wait_until(has_tried, 30.0)
        receiver.bind(path)
        assert texts(receiver, 1) == ["last"]
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(20.0) == 0
