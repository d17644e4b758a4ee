"""sd_notify(3): messages to the service manager, barriers, and pings of the watchdog.

Invariant: no call waits longer than its timeout, and no call leaves a descriptor open.
"""

from __future__ import annotations

import os
import socket
from array import array
from errno import EAGAIN, ETIMEDOUT
from select import POLLIN, POLLOUT, poll
from time import CLOCK_MONOTONIC, clock_gettime_ns, monotonic, sleep

from fastproc._engine.fds import make_pipe
from fastproc._engine.reactor import LONGEST_WAIT, deadline_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from fastproc._engine.reactor import Timer

    class Timers(Protocol):
        """The part of a reactor that the watchdog uses."""

        def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
            """Call the callback once, at a monotonic time."""


def monotonic_usec() -> str:
    """Return CLOCK_MONOTONIC in microseconds, for MONOTONIC_USEC."""
    return str(clock_gettime_ns(CLOCK_MONOTONIC) // 1000)


def _wait(fd: int, events: int, deadline: float | None, what: str) -> None:
    poller = poll()
    poller.register(fd, events)
    while True:
        left = LONGEST_WAIT if deadline is None else deadline - monotonic()
        if left <= 0.0:
            raise TimeoutError(ETIMEDOUT, f"{what} before the deadline")
        if poller.poll(min(left, LONGEST_WAIT) * 1000.0):
            return


def send(address: bytes, data: bytes, fds: Sequence[int] = (), timeout: float | None = None) -> None:
    """Send one datagram with descriptors to a unix socket.

    Args:
        address: the result of address() in _notify_text.py.
        data: the message.
        fds: descriptors of this process; the receiver gets copies.
        timeout: seconds to wait while the receiver's queue is full.

    Raises:
        TimeoutError: the queue stayed full.
        OSError: sendmsg(2) failed. ENOENT, ECONNREFUSED: no process listens at the address. EBADF: a descriptor is
            closed.
    """
    deadline = deadline_from("timeout", timeout)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        try:
            # poll(2) waits for room in the receiver's queue only if the socket is connected (unix(7)).
            connect(sender, address)
            while True:
                try:
                    sender.sendmsg((data,), rights, socket.MSG_NOSIGNAL)
                    return
                except BlockingIOError:
                    _wait(sender.fileno(), POLLOUT, deadline, "notify: the service manager did not read")
        except OSError as error:
            error.filename = error.filename or shown(address)
            raise


def connect(sender: socket.socket, address: bytes) -> None:
    """Connect a socket to a unix address.

    Raises:
        OSError: connect(2) failed; the exception's filename is the address.
    """
    try:
        sender.connect(address)
    except OSError as error:
        error.filename = shown(address)
        raise


def shown(address: bytes) -> str:
    """Return a unix address as text; an abstract address begins with "@"."""
    return "@" + os.fsdecode(address[1:]) if address.startswith(b"\0") else os.fsdecode(address)


def barrier(address: bytes, timeout: float | None) -> None:
    """Return when the manager has read all earlier messages: it then closes a descriptor that is sent to it.

    Raises:
        TimeoutError: the manager did not read them within `timeout` seconds.
        OSError: as for send().
    """
    deadline = deadline_from("timeout", timeout)
    ours, theirs = make_pipe()
    with ours, theirs:
        send(address, b"BARRIER=1", (theirs.number,), timeout)
        theirs.close()
        # No process writes to the pipe, so readable means that the last copy of the other end is closed.
        _wait(ours.number, POLLIN, deadline, "barrier: the service manager has not read all messages")


def seconds_left(deadline: float | None) -> float | None:
    """Return the seconds until a monotonic time, 0.0 if it has passed; None for None."""
    return None if deadline is None else max(0.0, deadline - monotonic())


def connect_stream(path: str, header: bytes, timeout: float | None) -> socket.socket:
    """Return a connected stream socket that has sent a header. The socket is blocking and write-only.

    Raises:
        TimeoutError: the other side did not accept the connection.
        OSError: connect(2) or send(2) failed.
    """
    deadline = deadline_from("timeout", timeout)
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # With a full queue connect(2) fails with EAGAIN, and the kernel does not notify when there is room.
        while (error := stream.connect_ex(path)) == EAGAIN:
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError(ETIMEDOUT, f"{path}: the connection was not accepted before the deadline")
            sleep(0.005)
        if error:
            raise OSError(error, os.strerror(error), path)
        stream.sendall(header)
        stream.shutdown(socket.SHUT_RD)
        stream.setblocking(True)
    except BaseException:
        stream.close()
        raise
    return stream


class Watchdog:
    """Pings at half the interval of the manager (sd_watchdog_enabled(3)), by a reactor's timers.

    Args:
        usec: the interval of the manager.
        ping: a function that sends a ping.
        alive: a function that is called before each ping. If it returns a false value or raises, no ping is sent.
        timers: the reactor.

    Attributes:
        sent: the number of pings that were sent.
        withheld: the number of pings that were not sent because `alive` returned a false value.
        errors: the number of pings that failed.
    """

    __slots__ = ("_alive", "_every", "_ping", "_timer", "_timers", "errors", "sent", "withheld")

    def __init__(
        self, usec: int, ping: Callable[[], object], alive: Callable[[], object] | None, timers: Timers
    ) -> None:
        self._every = usec / 2e6
        self._ping = ping
        self._alive = alive
        self._timers = timers
        self._timer: Timer | None = None
        self.sent = self.withheld = self.errors = 0

    def begin(self) -> None:
        """Send a ping now, and start the timer."""
        self._go()

    def _go(self) -> None:
        # The timer is set first: an exception below must not end the pings.
        self._timer = self._timers.call_at(monotonic() + self._every, self._go)
        if self._alive is not None and not self._alive():
            self.withheld += 1
            return
        try:
            self._ping()
            self.sent += 1
        except OSError:
            # The manager is restarting, or its queue is full.
            self.errors += 1

    def close(self) -> None:
        """Stop the pings."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
