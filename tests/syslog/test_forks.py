"""`fastproc.syslog` in forked copies: no lock of a thread that is not there, nothing of the parent's."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc.syslog import Handler, Syslog


def ending(child: Any) -> int:
    """Fork, call `child` in the copy, and give how it ended; a copy that hangs is ended by an alarm."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(10)
            child()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forked_while_others_log(path: str) -> list[int]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        log = Syslog(path)
        held, over = threading.Event(), threading.Event()

        def hold() -> None:
            with log._lock:
                held.set()
                over.wait(20)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(20)
        found = [ending(lambda: log.send("x")), ending(lambda: log.counts), ending(log.pump)]
        over.set()
        thread.join(20)
        return [*found, len(receiver.recv(999).rpartition(b" ")[2])]


def test_copy_forked_while_another_thread_logs_does_not_hang(tmp_path: Path) -> None:
    """The lock is that of a thread that the copy does not have."""
    assert isolated(forked_while_others_log, str(tmp_path / "log")) == [0, 0, 0, 1]


def copies(path: str, way: str) -> list[Any]:
    log = Syslog(path)
    handler = Handler(log)
    for number in range(3):
        log.send(f"m{number}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        log._channel._retry_at = 0.0
        does = {
            "shutdown": logging.shutdown,
            "close": log.close,
            "pump": log.pump,
            "flush": log.flush,
            "handler": handler.flush,
            "counts": lambda: os._exit(0 if sum(log.counts) == 0 else 2),
        }[way]
        code = ending(does)
        log.close()
        receiver.setblocking(False)
        texts = []
        try:
            while True:
                texts.append(receiver.recv(999).decode().rpartition(" ")[2])
        except BlockingIOError:
            return [code, texts]


@pytest.mark.parametrize("hooked", [True, False])
@pytest.mark.parametrize("way", ["shutdown", "close", "pump", "flush", "handler", "counts"])
def test_copy_does_not_send_what_waits_in_the_parent(tmp_path: Path, way: str, hooked: bool) -> None:
    """By no call; also after a fork that Python does not know of."""
    run = copies if hooked else copies_without_hook
    assert isolated(run, str(tmp_path / "log"), way) == [0, ["m0", "m1", "m2"]]


def copies_without_hook(path: str, way: str) -> list[Any]:
    import fastproc.syslog as module

    module._senders.add = lambda _sender: None  # type: ignore[method-assign]
    return copies(path, way)
