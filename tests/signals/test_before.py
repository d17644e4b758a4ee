"""What a signal did before a receiver came: while it is there, and when it has gone."""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import time
from typing import Any

from conftest import isolated
from fastproc import signals


def ignored_children() -> list[Any]:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    flag = signals.Flag("CHLD")
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    os.close(write_end)
    os.read(read_end, 1)
    end = time.monotonic() + 10
    while not flag and time.monotonic() < end:
        time.sleep(0.001)
    told = bool(flag)
    try:
        left = os.waitpid(pid, 0)[0] == pid
    except ChildProcessError:
        left = False
    flag.close()
    os.close(read_end)
    return [told, left, signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN]


def test_ended_children_leave_no_zombies_where_sigchld_was_ignored() -> None:
    """The receiver is told of their end, and nobody has to wait for them, as before it came."""
    assert isolated(ignored_children) == [True, False, True]


def chained_to_us(again: bool) -> list[Any]:
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            try:
                flag = signals.Flag("USR2")
                faulthandler.register(signal.SIGUSR2, file=file, chain=True)
                if again:
                    os.kill(os.getpid(), signal.SIGUSR2)
                    if not flag:
                        os._exit(1)
                flag.close()
                os.kill(os.getpid(), signal.SIGUSR2)
            finally:
                os._exit(2)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return [code, os.fstat(file.fileno()).st_size > 0]


def test_default_action_comes_through_a_handler_that_lies_over_a_removed_one(pid_namespace: None) -> None:
    """That of faulthandler passes on to ours, which is there for nobody any more: the process ends, as without it."""
    for again in (False, True):
        assert isolated(chained_to_us, again, pid_namespace=True) == [-signal.SIGUSR2, True]
