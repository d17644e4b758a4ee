"""The log process, which sends a daemon's output to syslog, one message a line. It lives until every writer has ended.

The log process is not a thread, so it also reads the last lines of a crashing daemon. It is not a child of the daemon,
so a daemon that forks or waits for any child does not meet it.
"""

from __future__ import annotations

import os
from contextlib import suppress

from fastproc._engine.fds import OwnedFd, make_pipe
from fastproc._engine.reactor import READ, borrowed
from fastproc.daemon._close_inherited import close_all_but
from fastproc.daemon._streams import NAMES, PRIORITIES, flush, open_null
from fastproc.errors import Unsupported
from fastproc.syslog import Syslog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._engine.reactor import Timer
    from fastproc.daemon._options import Looked, Settings

SIZE = 1 << 16
CLOSE_TIMEOUT = 5.0
"""Seconds for the last lines if the syslog daemon is away."""
LAST_WORDS = 1.0
"""Further seconds for which process 1 waits for its log process, before both end."""
PUMP_EVERY = 0.1
"""Seconds between two tries to send the backlog, while no process writes."""
LINE_MAX = 8192
"""Maximum of bytes in a message; a longer line becomes several messages."""


class Logs:
    """The pipes to the log process, one for each stream that goes to syslog."""

    def __init__(self, settings: Settings, looked: Looked) -> None:
        self._settings = settings
        self._looked = looked
        self._read: dict[int, OwnedFd] = {}
        self._write: dict[int, OwnedFd] = {}
        for index, name in enumerate(NAMES):
            if getattr(settings, name) == "syslog":
                self._read[index], self._write[index] = make_pipe()

    def daemons_ends(self) -> dict[int, OwnedFd]:
        """Return the write ends, for the daemon, and close the read ends."""
        for fd in self._read.values():
            fd.close()
        return self._write

    def forward(self, daemon: int) -> None:
        """In the watcher: fork the log process, and close the pipes here.

        The log process has its own process group, so it is not killed with a daemon that does not start.
        """
        if self._read:
            logs = os.fork()
            os.setpgid(logs, logs)  # in both processes, because either may run first
            if logs == 0:
                try:
                    self._be(daemon)
                finally:
                    os._exit(0)
        for fd in (*self._read.values(), *self._write.values()):
            fd.close()

    def forward_apart(self) -> None:
        """In the foreground: fork twice, so that the log process is not a child of the daemon.

        When process 1 ends, the kernel kills the log process (pid_namespaces(7)). So process 1 first waits until the
        last lines are sent.

        Raises:
            Unsupported: this process has other threads.
        """
        if not self._read:
            return
        if len(os.listdir("/proc/self/task")) > 1:
            raise Unsupported("stdout, stderr: 'syslog' in the foreground needs a process without other threads")
        daemon = os.getpid()
        ends = make_pipe() if daemon == 1 else ()
        between = os.fork()
        if between == 0:
            try:
                os.setsid()
                if os.fork() == 0:
                    self._be(daemon, *(end.number for end in ends[1:]))
            finally:
                os._exit(0)
        os.waitpid(between, 0)
        if ends:
            import atexit

            global _last_words
            ends[1].close()
            # Opened now, because /dev may be missing at the end.
            _last_words = LastWords(ends[0], open_null(), self._write)
            atexit.register(last_words)

    def _be(self, daemon: int, *kept: int) -> None:
        """Be the log process: read until every writer has closed its pipe. All signals of the watcher stay blocked."""
        for fd in self._write.values():
            fd.close()
        with open_null() as null:
            for index in range(3):
                os.dup2(null.number, index)
        close_all_but([*(fd.number for fd in self._read.values()), *kept])
        os.chdir("/")
        sender = Syslog(facility="daemon", app_name=self._settings.ident, procid=daemon)
        self._drop()
        forward_lines(self._read, sender)

    def _drop(self) -> None:
        from fastproc.privileges import drop_privileges
        from fastproc.users import FakeUsers

        uid, gid, groups = self._looked.target
        if self._settings.drops:
            kept = "keep" if groups is None else groups
            drop_privileges(uid, group=gid, groups=kept, users=FakeUsers(), load=False)


class LastWords:
    """The wait of process 1 at its end until the log process has sent everything."""

    def __init__(self, end: OwnedFd, null: OwnedFd, write: dict[int, OwnedFd]) -> None:
        self._end = end
        self._null = null
        self._write = write
        self._pipes = [os.fstat(fd.number) for fd in write.values()]

    def wait(self) -> None:
        """Stop writing, and wait until everything is sent, for at most CLOSE_TIMEOUT + LAST_WORDS seconds."""
        flush()
        for index in (1, 2):
            with suppress(OSError):
                if any(os.path.samestat(os.fstat(index), pipe) for pipe in self._pipes):
                    os.dup2(self._null.number, index)
        for fd in self._write.values():
            fd.close()
        over: list[object] = []
        with borrowed() as reactor:
            reactor.watch(self._end.number, READ, over.append)
            timer = reactor.call_after(CLOSE_TIMEOUT + LAST_WORDS, lambda: over.append(None))
            while not over:
                reactor.run_once()
            timer.cancel()
            reactor.unwatch(self._end.number)


_last_words: LastWords | None = None


def last_words() -> None:
    """In process 1: wait until the log process has sent everything. Otherwise, and on a second call, do nothing."""
    global _last_words
    waiting, _last_words = _last_words, None
    if waiting is not None and os.getpid() == 1:
        waiting.wait()


def forward_lines(sources: dict[int, OwnedFd], sender: Syslog) -> None:
    """Send each line of some pipes with the priority of its stream, until all pipes have ended.

    Messages that could not be sent are tried again every PUMP_EVERY seconds. The number of lost messages is sent when
    the receiver is back.
    """
    told = 0
    timer: Timer | None = None
    rest = dict.fromkeys(sources, b"")
    left = set(sources)
    with borrowed() as reactor:

        def tell_lost() -> None:
            nonlocal told
            counts = sender.counts
            lost = counts.dropped + counts.uncertain
            # Not with a full backlog, where each message would drop another.
            if lost > told and not counts.waiting:
                sender.send(f"{lost - told} messages lost", "warning")
                told = lost

        def look() -> None:
            nonlocal timer
            tell_lost()
            if timer is None and sender.counts.waiting:
                timer = reactor.call_after(PUMP_EVERY, pump)

        def pump() -> None:
            nonlocal timer
            timer = None
            sender.pump()
            look()

        def read(index: int) -> None:
            data = os.read(sources[index].number, SIZE)
            *lines, rest[index] = (rest[index] + data).split(b"\n")
            if not data or len(rest[index]) > LINE_MAX:
                lines, rest[index] = [*lines, rest[index]], b""
            for line in lines:
                for at in range(0, len(line), LINE_MAX):
                    sender.send(line[at : at + LINE_MAX].decode("utf-8", "backslashreplace"), PRIORITIES[index])
            if not data:
                reactor.unwatch(sources[index].number)
                left.discard(index)
            look()

        for index, fd in sources.items():
            reactor.watch(fd.number, READ, lambda _, index=index: read(index))  # type: ignore[misc]
        while left:
            reactor.run_once()
        if timer is not None:
            timer.cancel()
    sender.flush(CLOSE_TIMEOUT)
    tell_lost()
    sender.close()
