"""Where a copy of an output goes: to one of our own streams, or to a file. Nobody waits for it.

What cannot be written at once is kept, a bounded amount: a reader of an output that finds an outlet full stops reading,
so that the child is held by its pipe, while deadlines and the other streams go on.
Invariant: the flags of an open file that is the user's are never changed (HAZARDS C10).
"""

from __future__ import annotations

import os
from collections import deque
from errno import EOPNOTSUPP

from fastproc._engine.fds import OwnedFd
from fastproc._engine.feeder import write_quietly
from fastproc._engine.reactor import WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from fastproc._engine.capture import Tap
    from fastproc._engine.reactor import Reactor, Timer
    from fastproc._engine.resolve import Opened

BACKLOG = 1 << 20
"""Bytes that may wait to be written before no more is read for them."""

LAST_MOMENT = 0.1
"""Seconds that a copy may take after a deadline."""

SMALL = 512
"""Bytes of one write where only poll(2) tells that it will not block: a terminal takes less than it has room."""

S_IFMT = 0o170000
S_IFREG = 0o100000
S_IFCHR = 0o020000
S_IFIFO = 0o010000


class Outlet:
    """A descriptor that is written without ever waiting for it.

    A pipe or terminal is opened anew, so that our writes do not block and everybody else's go on as they were. Where
    that is refused (a socket; a terminal of another user, after su) the kernel is asked not to wait, or writes are so
    small that they do not.

    Args:
        fd: the descriptor, which is the user's.
        opened: takes what is opened here; its owner closes it.

    Raises:
        OSError: it is closed.
    """

    __slots__ = ("_number", "_rest", "_write", "size")

    def __init__(self, fd: int, opened: Opened) -> None:
        kind = os.fstat(fd).st_mode & S_IFMT
        self._rest: deque[memoryview] = deque()
        self.size = 0
        self._number = fd
        self._write: Callable[[int, memoryview], int] = os.write
        if kind == S_IFREG or not os.get_blocking(fd):
            return
        if kind in (S_IFCHR, S_IFIFO):
            owned = OwnedFd()
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                owned.fill(os.open, f"/proc/self/fd/{fd}", flags)
                self._number = owned.lift()
            except OSError:
                pass
            else:
                opened.own(owned)
                return
        self._write = write_at_once

    def fileno(self) -> int:
        """The descriptor to wait for when something is left to write."""
        return self._number

    @property
    def full(self) -> bool:
        """Whether nothing more should be read for it at the moment."""
        return self.size >= BACKLOG

    def write(self, data: bytes) -> None:
        """Take the next piece, and write what can be written now.

        Raises:
            OSError: write(2).
        """
        self._rest.append(memoryview(data))
        self.size += len(data)
        self.flush()

    def flush(self, _ready: int = 0) -> None:
        """Write what can be written now.

        Raises:
            OSError: write(2). What is left then is dropped: it could not be written later either.
        """
        rest = self._rest
        try:
            while rest:
                done = write_quietly(self._number, rest[0], self._write)
                self.size -= done
                if done < len(rest[0]):
                    rest[0] = rest[0][done:]
                else:
                    rest.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.drop()
            raise

    def drop(self) -> None:
        """Forget what is left."""
        self._rest.clear()
        self.size = 0


class Plain:
    """A file of the user's that has no descriptor: its method takes all at once."""

    __slots__ = ("_file",)

    full = False
    size = 0

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        """Hand it the next piece."""
        self._file.write(data)

    def flush(self, _ready: int = 0) -> None:
        """Nothing waits here."""

    def drop(self) -> None:
        """Nothing waits here."""


def write_at_once(fd: int, data: memoryview) -> int:
    """Write what needs no wait.

    Raises:
        BlockingIOError: nothing does.
        OSError: write(2).
    """
    try:
        return os.pwritev(fd, (data,), -1, os.RWF_NOWAIT)
    except AttributeError:
        # Not Linux.
        pass
    except OSError as error:
        if error.errno != EOPNOTSUPP:
            raise
    import select

    poller = select.poll()
    poller.register(fd, WRITE)
    if not poller.poll(0):
        raise BlockingIOError
    return os.write(fd, data[:SMALL])


class Outlets:
    """Those outlets that have something left to write, watched by a reactor.

    Args:
        reactor: what they are watched by.
        on_room: called when one of them has taken something.
    """

    __slots__ = ("_on_room", "_reactor", "_watched")

    def __init__(self, reactor: Reactor, on_room: Callable[[], None]) -> None:
        self._reactor = reactor
        self._on_room = on_room
        self._watched: dict[int, Outlet] = {}

    @property
    def waiting(self) -> bool:
        """Whether something is left to write."""
        return bool(self._watched)

    def attend(self, outlets: Iterable[Outlet | Plain]) -> None:
        """Watch those that have something left."""
        for outlet in outlets:
            if outlet.size and isinstance(outlet, Outlet) and outlet.fileno() not in self._watched:
                self._watched[outlet.fileno()] = outlet
                self._reactor.watch(outlet.fileno(), WRITE, lambda _, outlet=outlet: self._flush(outlet))  # type: ignore[misc]

    def _flush(self, outlet: Outlet) -> None:
        try:
            outlet.flush()
        finally:
            if not outlet.size:
                del self._watched[outlet.fileno()]
                self._reactor.unwatch(outlet.fileno())
            self._on_room()

    def release(self) -> None:
        """Write what can be written now, watch no more, and forget the rest."""
        for number, outlet in list(self._watched.items()):
            self._reactor.unwatch(number)
            try:
                outlet.flush()
            except OSError:
                # Another error, or the end of a deadline, is on its way.
                pass
            outlet.drop()
        self._watched.clear()


class Copies:
    """The copies of the outputs of one exchange: written on as they are taken, and waited for at its end.

    Args:
        reactor: what they are watched by.
        taps: the outputs that have some, by number.
        hold: called with a number and whether that output shall not be read at the moment.

    Attributes:
        full: the outputs that are not read at the moment.
    """

    __slots__ = ("_ending", "_hold", "_on_end", "_outlets", "_reactor", "_taps", "_timer", "full")

    def __init__(
        self,
        reactor: Reactor,
        taps: Mapping[int, Tap],
        hold: Callable[[int, bool], None],
    ) -> None:
        self._reactor = reactor
        self._taps = taps
        self._hold = hold
        self._on_end: Callable[[bool], object] = bool
        self._outlets = Outlets(reactor, self.attend)
        self._ending = False
        self._timer: Timer | None = None
        self.full: set[int] = set()

    def attend(self) -> None:
        """After something was read or written: watch what has something left, hold or go on reading."""
        for stream, tap in self._taps.items():
            self._outlets.attend(tap.outlets)
            if tap.full and stream not in self.full:
                self.full.add(stream)
                self._hold(stream, True)
            elif stream in self.full and not tap.full:
                self.full.remove(stream)
                self._hold(stream, False)
        if self._ending and not self._outlets.waiting:
            self._end(given_up=False)

    def end(self, deadline: float | None, late: bool, on_end: Callable[[bool], object]) -> bool:
        """Begin to wait for the rest to be written; False when there is none.

        Args:
            deadline: monotonic instant at which the rest is given up; None for never.
            late: whether that is over already.
            on_end: called once, if there is a rest, with whether something was given up.
        """
        self._on_end = on_end
        self._ending = self._outlets.waiting
        if self._ending and late:
            self.hurry()
        elif self._ending and deadline is not None:
            self._timer = self._reactor.call_at(deadline, self._end)
        return self._ending

    def hurry(self) -> None:
        """Give the rest, where it is waited for, a last moment."""
        if self._ending:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._reactor.call_after(LAST_MOMENT, self._end)

    def _end(self, given_up: bool = True) -> None:
        self.release()
        self._on_end(given_up)

    def release(self) -> None:
        """Leave nothing with the reactor."""
        self._ending = False
        if self._timer is not None:
            self._timer.cancel()
        self._outlets.release()
