"""Where a copy of an output goes: to one of our own streams, or to a file. Nobody waits for it.

What cannot be written at once is kept, a bounded amount: a reader of an output that finds an outlet full stops reading,
so that the child is held by its pipe, while deadlines and the other streams go on.
Invariant: the flags of an open file that is the user's are never changed (GOTCHAS C10).
"""

from __future__ import annotations

import os
from collections import deque
from errno import EAGAIN, EOPNOTSUPP
from io import RawIOBase
from itertools import starmap
from operator import sub
from time import monotonic

from fastproc._engine.fds import FIRST_FREE_FD, Opened, OwnedFd
from fastproc._engine.reactor import WRITE
from fastproc._engine.streams.feeder import quietly

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Protocol

    from fastproc._engine.reactor import Reactor, Timer

    class Copied(Protocol):
        """An output that has copies: the part of a Tap that these use."""

        @property
        def outlets(self) -> list[Outlet | Plain]: ...
        @property
        def full(self) -> bool: ...


BACKLOG = 1 << 20
"""Bytes that may wait to be written before no more is read for them."""

BACKLOG_PIECES = 1024
"""The same in pieces: those of a child that writes byte by byte are small, and each is counted anew."""

LAST_MOMENT = 0.1
"""Seconds that a copy may take after a deadline."""

SMALL = 512
"""Bytes of one write where only poll(2) tells that it will not block: a terminal takes less than it has room."""

S_IFMT = 0o170000
S_IFREG = 0o100000
S_IFCHR = 0o020000
S_IFIFO = 0o010000
S_IFBLK = 0o060000

MEMORY_DEVICES = 1
"""The major number of /dev/null and its like, which never make anybody wait."""

MULTIPLEXER = os.makedev(5, 2)
OLD_MASTERS = 2
"""/dev/ptmx, and the major number of BSD's master sides (devices.txt of Linux)."""


class _Backlog:
    """What is to be written, and how much of the first piece was.

    Attributes:
        rest: the pieces. Who puts one there calls flush().
        broken: whether a write has failed: nothing more is written.
    """

    __slots__ = ("_done", "broken", "rest")

    def __init__(self) -> None:
        self.rest: deque[bytes] = deque()
        # What each call has written of the first of them; None from a method that gives no number.
        self._done: list[Any] = []
        self.broken = False

    @property
    def waiting(self) -> bool:
        """Whether something is left to write."""
        return bool(self.rest)

    def write(self, data: bytes) -> None:
        """Take the next piece, and write what can be written now.

        Raises:
            Exception: as flush().
        """
        self.rest.append(data)
        self.flush()

    def flush(self, _ready: int = 0) -> None:
        """Write what can be written now."""
        raise NotImplementedError

    def drop(self) -> None:
        """Forget what is left."""
        self.rest.clear()
        self._done.clear()

    def _settle(self, written: int) -> None:
        """Take leave of the first piece, which is written."""
        # Both in one step: a signal handler between them, that raises, would have bytes written twice.
        self._done[:] = map(sub, (written,), map(len, starmap(self.rest.popleft, ((),))))


class Outlet(_Backlog):
    """A descriptor that is written without ever waiting for it.

    A pipe or terminal is opened anew, so that our writes do not block and everybody else's go on as they were. Where
    that is refused (a socket; a terminal of another user, after su) the kernel is asked not to wait, or writes are so
    small that they do not.

    Args:
        fd: the descriptor, which is the user's.
        opened: takes what is opened here; its owner closes it.

    Attributes:
        steady: whether a write never waits for anybody, as to a regular file: nothing to watch (epoll_ctl(2): EPERM).

    Raises:
        OSError: it is closed; EMFILE.
    """

    __slots__ = ("_number", "_write", "steady")

    def __init__(self, fd: int, opened: Opened) -> None:
        info = os.fstat(fd)
        kind = info.st_mode & S_IFMT
        super().__init__()
        self._number = fd
        self._write: Callable[[int, memoryview, list[int]], object] = write_now
        self.steady = kind in (S_IFREG, S_IFBLK) or (kind == S_IFCHR and os.major(info.st_rdev) == MEMORY_DEVICES)
        if self.steady:
            return
        owned = OwnedFd()
        if os.get_blocking(fd):
            if kind == S_IFIFO or (kind == S_IFCHR and _is_terminal(fd, info.st_rdev)):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                try:
                    owned.fill(os.open, f"/proc/self/fd/{fd}", flags)
                except OSError:
                    pass
                if not owned.closed and not os.path.samestat(os.fstat(owned.number), info):
                    # It is no true /proc.
                    owned.close()
            if owned.closed:
                self._write = write_at_once
        if owned.closed:
            import fcntl

            # One reactor has one registration for a number, and others may copy to this file too.
            owned.fill(fcntl.fcntl, fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
        self._number = owned.lift()
        opened.own(owned)

    def fileno(self) -> int:
        """The descriptor to wait for when something is left to write."""
        return self._number

    @property
    def size(self) -> int:
        """Bytes that are left to write."""
        written: int = sum(self._done)
        return sum(map(len, self.rest)) - written

    @property
    def full(self) -> bool:
        """Whether nothing more should be read for it at the moment."""
        return len(self.rest) >= BACKLOG_PIECES or (bool(self.rest) and self.size >= BACKLOG)

    def flush(self, _ready: int = 0) -> None:
        """Write what can be written now.

        Raises:
            OSError: write(2). What is left then is dropped: it could not be written later either.
        """
        rest, done = self.rest, self._done
        if self.broken:
            self.drop()
        try:
            while rest:
                data = rest[0]
                written = sum(done)
                if written >= len(data):
                    self._settle(written)
                else:
                    # How much went out is kept by the call that knows it, for the same reason.
                    quietly(self._write, self._number, memoryview(data)[written:], done)
        except BlockingIOError:
            pass
        except OSError:
            self.broken = True
            self.drop()
            raise


class Plain(_Backlog):
    """A file of the user's whose method is to be used: it takes all at once."""

    __slots__ = ("_file",)

    full = False
    size = 0
    steady = True

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def flush(self, _ready: int = 0) -> None:
        """Hand it what has come; the rest of a piece that it took in part, as io.RawIOBase.write() may.

        Raises:
            BlockingIOError: it does not block, and takes nothing.
            Exception: what its method raises. It gets nothing more.
        """
        rest, done = self.rest, self._done
        if self.broken:
            self.drop()
        try:
            while rest:
                data = rest[0]
                if done and done[-1] is None and isinstance(self._file, RawIOBase):
                    raise BlockingIOError(EAGAIN, f"{self._file!r} takes no more")
                # A method that gives no number has taken all.
                written = sum(len(data) if count is None else count for count in done)
                if written >= len(data):
                    self._settle(written)
                else:
                    # A file that takes little at a time is given a view: the rest of a piece is not copied each time.
                    rest_of = memoryview(data)[written:] if isinstance(self._file, RawIOBase) else data[written:]
                    done.extend(map(self._file.write, (rest_of if written else data,)))
        except Exception:
            self.broken = True
            self.drop()
            raise


def _is_terminal(fd: int, device: int) -> bool:
    """Whether it is a terminal that a new open() opens too: that of a master side makes another terminal."""
    return os.isatty(fd) and device != MULTIPLEXER and os.major(device) != OLD_MASTERS


def write_now(fd: int, data: memoryview, done: list[int]) -> None:
    """Do write(2), and put how much was written into a list with no bytecode between at which it could be lost.

    Raises:
        OSError: write(2).
    """
    done.extend(map(os.write, (fd,), (data,)))


def write_at_once(fd: int, data: memoryview, done: list[int]) -> None:
    """Write what needs no wait, as write_now().

    Raises:
        BlockingIOError: nothing does.
        OSError: write(2).
    """
    try:
        done.extend(map(os.pwritev, (fd,), ((data,),), (-1,), (os.RWF_NOWAIT,)))
        return
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
    write_now(fd, data[:SMALL], done)


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

    def attend(self, outlets: Iterable[Outlet | Plain]) -> bool:
        """Watch those that have something left; whether one that cannot be watched was written after an interrupt."""
        wrote = False
        for outlet in tuple(outlets):
            if not outlet.waiting:
                continue
            if outlet.steady or isinstance(outlet, Plain):
                wrote = True
                outlet.flush()
            elif outlet.fileno() not in self._watched:
                self._watched[outlet.fileno()] = outlet
                self._reactor.watch(outlet.fileno(), WRITE, lambda _, outlet=outlet: self._flush(outlet))  # type: ignore[misc]
        return wrote

    def _flush(self, outlet: Outlet) -> None:
        try:
            outlet.flush()
        finally:
            if not outlet.waiting:
                self._reactor.unwatch(outlet.fileno())
                self._watched.pop(outlet.fileno(), None)
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

    __slots__ = (
        *("_deadline", "_ending", "_hold", "_hurried", "_left", "_on_end", "_outlets", "_reactor", "_taps", "_timer"),
        "full",
    )

    def __init__(
        self,
        reactor: Reactor,
        taps: Mapping[int, Copied],
        hold: Callable[[int, bool], None],
    ) -> None:
        self._reactor = reactor
        self._taps = taps
        self._hold = hold
        self._on_end: Callable[[bool], object] = bool
        self._outlets = Outlets(reactor, self.attend)
        self._ending = self._hurried = False
        self._left = 0
        self._deadline: float | None = None
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
        self._deadline = deadline
        self.attend()
        self._ending = self._outlets.waiting
        if self._ending and late:
            self._timer = self._reactor.call_after(LAST_MOMENT, self._end)
        elif self._ending and self._hurried:
            self._hurry_on()
        elif self._ending and deadline is not None:
            self._timer = self._reactor.call_at(deadline, self._end)
        return self._ending

    def hurry(self) -> None:
        """Wait for the rest, now or once it is waited for, only as long as somebody goes on taking it."""
        self._hurried = True
        if self._ending:
            self._hurry_on()

    def _hurry_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = sum(outlet.size for tap in self._taps.values() for outlet in tap.outlets)
        over = self._deadline is not None and monotonic() >= self._deadline
        if over or self._left == left:
            # What the run has ended by is told anyhow, unless it is this.
            self._end(given_up=over)
            return
        self._left = left
        self._timer = self._reactor.call_after(LAST_MOMENT, self._hurry_on)

    def _end(self, given_up: bool = True) -> None:
        self.release()
        self._on_end(given_up)

    def release(self) -> None:
        """Leave nothing with the reactor."""
        self._ending = False
        if self._timer is not None:
            self._timer.cancel()
        self._outlets.release()
        for tap in self._taps.values():
            for outlet in tuple(tap.outlets):
                try:
                    outlet.flush()
                except Exception:
                    # As in Outlets.release(); an interrupt has left this to be written.
                    pass
