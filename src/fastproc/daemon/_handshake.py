"""How a daemon's launcher learns whether the daemon started: a watcher between them, two channels, one wait.

The daemon reports its steps, its readiness or its error through a pipe. The watcher is the daemon's parent until the
daemon is ready. It reports the daemon's pid and exit code through a socket, because only a parent gets the exit code.
If the launcher ends first, the watcher kills the daemon. The daemon's own steps are in `_steps.py`. Invariant: when
`wait` raises, the daemon and the processes of its process group have ended.
"""

from __future__ import annotations

import json
import os
import socket

from fastproc import _native
from fastproc._engine.fds import OwnedFd, make_pipe
from fastproc._engine.reactor import READ, Reactor, borrowed
from fastproc._values.signals import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SIGTERM = 15
GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL for a daemon that is not ready in time."""
CLOSE_PATIENCE = 0.2
"""Seconds for a daemon that is ready to close its end of the pipe."""
END_PATIENCE = 5.0
"""Seconds for a daemon that has reported an error to end."""

_RELEASE = b"r"


class Failed(Exception):
    """The daemon did not start.

    Attributes:
        error: the error that the daemon reported, or None.
        step: the last step that the daemon began.
        exit_code: the exit code of the daemon, negative for a signal; None if it is not known.
        pid: the pid of the daemon; 0 if it was not forked.
        late: whether the daemon reported nothing until the deadline.
    """

    def __init__(self, wait: _Wait, late: bool) -> None:
        super().__init__(wait.step)
        self.error: dict[str, Any] | None = wait.error
        self.step: str = wait.step
        self.exit_code: int | None = wait.exit_code
        self.pid: int = wait.pid
        self.late = late


class Handshake:
    """Both channels, made before the forks. Each process closes the ends that it does not use."""

    __slots__ = ("_here", "_said", "_say", "_there")

    def __init__(self) -> None:
        self._said, self._say = make_pipe()
        here, there = socket.socketpair()
        self._here, self._there = OwnedFd(), OwnedFd()
        for end, pair in ((self._here, here), (self._there, there)):
            end.fill(socket.SocketType.detach, pair)
        self._here.lift()
        self._there.lift()

    def close(self) -> None:
        """Close all ends."""
        for end in (self._said, self._say, self._here, self._there):
            end.close()

    def status_pipe(self) -> StatusPipe:
        """Return the daemon's end of the pipe, and close the others."""
        for end in (self._said, self._here, self._there):
            end.close()
        return StatusPipe(self._say)

    def watch(self, pid: int) -> None:
        """Be the watcher of a child until the launcher closes its end. The caller blocks all signals and then exits."""
        for end in (self._said, self._say, self._here):
            end.close()
        pidfd = OwnedFd()
        pidfd.fill(_native.fp_pidfd_open, pid)
        _tell(self._there.number, {"pid": pid})
        events: list[str] = []
        with borrowed() as reactor:
            reactor.watch(self._there.number, READ, lambda _: events.append(_launcher_says(self._there.number)))
            reactor.watch(pidfd.number, READ, lambda _: events.append("ended"))
            while not events:
                reactor.run_once()
            if events[0] == "ended":
                reactor.unwatch(pidfd.number)
                # Reap the daemon only after the launcher has read this, so that the pid is not reused before.
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                assert ended is not None
                code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
                _tell(self._there.number, {"exit": code})
                while len(events) < 2:
                    reactor.run_once()
                os.waitpid(pid, 0)
            elif events[0] == "gone":
                _native.signal(pidfd.number, pid, SIGKILL)
                os.waitpid(pid, 0)
            if "gone" in events and os.getpgrp() == os.getpid():
                # Kill the daemon's children and this process, which leads their process group.
                os.kill(0, SIGKILL)

    def wait(self, watcher: int, timeout: float | None, begin: Callable[[], object]) -> int:
        """Be the launcher: return the daemon's pid when the daemon is ready.

        Args:
            watcher: the child that watches the daemon. It has been reaped when this returns.
            timeout: seconds; None for no limit.
            begin: called first; it unblocks signals, and a signal handler may raise.

        Raises:
            Failed: the daemon did not start.
            BaseException: the wait was interrupted; the daemon was killed.
        """
        self._say.close()
        self._there.close()
        wait = _Wait()
        try:
            begin()
            with borrowed() as reactor:
                try:
                    self._listen(wait, reactor, timeout)
                finally:
                    for end in (self._said, self._here):
                        reactor.unwatch(end.number)
        finally:
            wait.pidfd.close()
            if wait.ready:
                try:
                    os.write(self._here.number, _RELEASE)
                except OSError:
                    pass  # the watcher has ended
            self.close()
            try:
                os.waitpid(watcher, 0)
            except ChildProcessError:
                pass  # SIGCHLD is ignored here, or another thread reaps every child
        return wait.told or wait.pid

    def _listen(self, wait: _Wait, reactor: Reactor, timeout: float | None) -> None:
        os.set_blocking(self._said.number, False)
        said, here = _Lines(self._said.number, wait.hear), _Lines(self._here.number, wait.hear, wait.gone)
        reactor.watch(self._said.number, READ, said)
        reactor.watch(self._here.number, READ, here)
        late: list[int] = []
        timer = None if timeout is None else reactor.call_after(timeout, lambda: late.append(1))
        try:
            while not wait.ready and wait.error is None and not wait.over and not late:
                _step(reactor, said, here)
            if not wait.ready and wait.error is None and wait.over:
                # The last report may still be in the pipe. Do not wait for its end: a child of the daemon may hold it
                # open.
                while said.read():
                    pass
        except BaseException:
            self._end(wait, reactor, said, here, SIGKILL)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if wait.ready:
            self._until_closed(reactor, said, here)
            return
        # After SIGTERM the daemon may report the signal as its error. The reason is the deadline.
        was_late = bool(late) and wait.error is None
        self._end(wait, reactor, said, here, SIGTERM if was_late else 0)
        raise Failed(wait, was_late)

    def _until_closed(self, reactor: Reactor, said: _Lines, here: _Lines) -> None:
        """Wait until the daemon has closed its end, so that it has none of our descriptors when it counts as started.

        A child of the daemon may hold a copy of the end, so the wait has a limit (CLOSE_PATIENCE).
        """
        over: list[int] = []
        timer = reactor.call_after(CLOSE_PATIENCE, lambda: over.append(1))
        while not said.ended and not over:
            _step(reactor, said, here)
        timer.cancel()

    def _end(self, wait: _Wait, reactor: Reactor, said: _Lines, here: _Lines, sig: int) -> None:
        """Make the daemon end, and read how it ended."""
        for signal, patience in ((sig, GRACE if sig else END_PATIENCE), (SIGKILL, END_PATIENCE)):
            if wait.over:
                return
            wait.send(signal)
            over: list[int] = []
            timer = reactor.call_after(patience, lambda over=over: over.append(1))  # type: ignore[misc]
            while not wait.over and not over:
                _step(reactor, said, here)
            timer.cancel()


def _step(reactor: Reactor, *channels: _Lines) -> None:
    reactor.run_once()
    for one in channels:
        if one.ended:
            reactor.unwatch(one.fd)


def _launcher_says(fd: int) -> str:
    try:
        return "released" if os.read(fd, 1) == _RELEASE else "gone"
    except OSError:
        return "gone"


class _Wait:
    """What the launcher has read from both channels."""

    __slots__ = ("error", "exit_code", "over", "pid", "pidfd", "ready", "step", "told")

    def __init__(self) -> None:
        self.ready = False
        self.error: dict[str, Any] | None = None
        self.step = "fork"
        self.pid = 0
        # The pid to return, if it is not the daemon's own: the program of a keeper.
        self.told = 0
        self.pidfd = OwnedFd()
        self.exit_code: int | None = None
        self.over = False

    def gone(self) -> None:
        # The watcher was killed: the exit code of the daemon cannot be known.
        self.over = True

    def hear(self, message: dict[str, Any]) -> None:
        if "pid" in message:
            # The watcher has not reaped the daemon, so the pid is still the daemon's.
            self.pid = message["pid"]
            self.pidfd.fill(_native.fp_pidfd_open, self.pid)
        elif "exit" in message:
            if self.exit_code is None:
                self.exit_code = message["exit"]
            self.over = True
        elif "step" in message:
            self.step = message["step"]
        elif "error" in message:
            self.error = message["error"]
            self.exit_code = message["error"].pop("exit_code")
        elif "ready" in message:
            self.told = message["ready"]
            self.ready = True

    def send(self, sig: int) -> None:
        if sig and self.pidfd.number >= 0:
            try:
                _native.signal(self.pidfd.number, self.pid, sig)
            except OSError:
                pass  # the daemon has ended, or runs as another user and may not be killed


class _Lines:
    """One channel: a JSON object per line.

    Args:
        fd: the descriptor.
        hear: called with each message.
        gone: called at the end of the channel.
    """

    __slots__ = ("_gone", "_hear", "_rest", "ended", "fd")

    def __init__(
        self, fd: int, hear: Callable[[dict[str, Any]], None], gone: Callable[[], None] = lambda: None
    ) -> None:
        self.fd = fd
        self.ended = False
        self._hear = hear
        self._gone = gone
        self._rest = b""

    def __call__(self, _events: int) -> None:
        self.read()

    def read(self) -> bool:
        """Read once; return whether there were any data."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        if not data:
            self.ended = True
            self._gone()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))
        return True


class StatusPipe:
    """The daemon's end of the status pipe.

    Attributes:
        ended: whether the last report was sent: that the daemon is ready, or its error.
    """

    __slots__ = ("_fd", "ended")

    def __init__(self, fd: OwnedFd) -> None:
        self._fd = fd
        self.ended = False

    @property
    def number(self) -> int:
        """The descriptor, or -1."""
        return self._fd.number

    def step(self, name: str) -> None:
        """Report which step begins."""
        _tell(self._fd.number, {"step": name})

    def ready(self, pid: int = 0) -> None:
        """Report that the daemon is ready; with a pid, that another process is the daemon."""
        self._last({"ready": pid})

    def failed(self, step: str, kind: str, text: str, traceback: str, exit_code: int | None = None) -> None:
        """Report that the start failed; with the exit code of the program, if the daemon is a keeper."""
        error = {"step": step, "kind": kind, "text": text, "traceback": traceback, "exit_code": exit_code}
        self._last({"error": error})

    def _last(self, message: dict[str, Any]) -> None:
        if not self.ended:
            self.ended = True
            _tell(self._fd.number, message)
            self._fd.close()


def _tell(fd: int, message: dict[str, Any]) -> None:
    data = memoryview(json.dumps(message).encode() + b"\n")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass  # the reader has closed its end
