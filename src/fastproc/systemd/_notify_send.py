"""sd_notify(3): a message to the service manager, its barrier, and the watchdog's pings.

Invariant: no call waits longer than it was told, and none leaves a descriptor.
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
        """A reactor, as far as the watchdog knows it."""

        def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
            """Call once, at a monotonic instant."""


def monotonic_usec() -> str:
    """CLOCK_MONOTONIC in microseconds, for MONOTONIC_USEC."""
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
    """Send one datagram to a unix socket, with descriptors.

    Args:
        address: as _values/notify.py gives it.
        data: the message.
        fds: descriptors of ours; the receiver gets copies.
        timeout: seconds to wait while the receiver's queue is full.

    Raises:
        TimeoutError: the queue stayed full.
        OSError: sendmsg(2): ENOENT, ECONNREFUSED: nobody listens there; EBADF: a descriptor is closed.
    """
    deadline = deadline_from("timeout", timeout)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        try:
            # Connected: only so poll(2) waits for room in the receiver's queue (unix(7)).
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
        OSError: connect(2); its filename is the address.
    """
    try:
        sender.connect(address)
    except OSError as error:
        error.filename = shown(address)
        raise


def shown(address: bytes) -> str:
    """Return a unix address as it is written: an abstract one with "@" before it."""
    return "@" + os.fsdecode(address[1:]) if address.startswith(b"\0") else os.fsdecode(address)


def barrier(address: bytes, timeout: float | None) -> None:
    """Return when the manager has read everything that was sent before: it closes a descriptor that it is sent.

    Raises:
        TimeoutError: it has not, within `timeout` seconds.
        OSError: as send().
    """
    deadline = deadline_from("timeout", timeout)
    ours, theirs = make_pipe()
    with ours, theirs:
        send(address, b"BARRIER=1", (theirs.number,), timeout)
        theirs.close()
        # Nobody writes: readable means that the last copy of the other end is closed.
        _wait(ours.number, POLLIN, deadline, "barrier: the service manager has not read all messages")


def seconds_left(deadline: float | None) -> float | None:
    """Seconds until an instant, 0.0 when it is past; None where there is none."""
    return None if deadline is None else max(0.0, deadline - monotonic())


def connect_stream(path: str, header: bytes, timeout: float | None) -> socket.socket:
    """Return a stream socket that was connected and has sent a header; it blocks, and nothing is read from it.

    Raises:
        TimeoutError: the other side did not take the connection.
        OSError: connect(2), send(2).
    """
    deadline = deadline_from("timeout", timeout)
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # A full queue of connections gives EAGAIN, and nothing tells when there is room (connect(2)).
        while (error := stream.connect_ex(path)) == EAGAIN:
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError(ETIMEDOUT, f"{path}: the connection was not taken before the deadline")
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
    """Pings at half the time that the manager allows (sd_watchdog_enabled(3)), from a reactor's timers.

    Args:
        usec: the time that the manager allows.
        ping: sends one.
        alive: asked before each ping; a false answer, or an exception, leaves the ping out.
        timers: the reactor.

    Attributes:
        sent: pings that were sent.
        withheld: those left out.
        errors: those that could not be sent; the next is tried all the same.
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
        """Ping now, and from now on."""
        self._go()

    def _go(self) -> None:
        # Set first: what is raised below must not end the pings.
        self._timer = self._timers.call_at(monotonic() + self._every, self._go)
        if self._alive is not None and not self._alive():
            self.withheld += 1
            return
        try:
            self._ping()
            self.sent += 1
        except OSError:
            # The manager is being restarted, or its queue is full for a moment.
            self.errors += 1

    def close(self) -> None:
        """Ping no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
