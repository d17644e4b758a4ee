"""The ways to a syslog receiver: unix sockets, UDP, TCP. Only rest() and readable() wait.

A message waits here, is in flight (sent, and not known to have arrived), was delivered, or is lost. Each is counted,
and the sum equals the messages given (see Counts in fastproc.syslog). What the kernel reports about messages in flight
depends on the protocol: each Channel describes it. Invariant: no send, connect or close waits.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from errno import EAGAIN, ECONNREFUSED, EINPROGRESS, EMSGSIZE, ENOBUFS
from fcntl import ioctl
from select import POLLIN, POLLOUT, poll
from time import monotonic, time

from fastproc.syslog._message import shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Places = tuple[tuple[int, Any], ...]

PAUSE_FIRST = 0.05
PAUSE_MAX = 5.0
"""Seconds between two tries to reach a receiver: the first pause, doubled after each failure, and the maximum."""

BATCH = 256
"""Maximum of messages that one call sends, so that a long backlog does not hold the thread that happens to log next."""

BACKLOG_BYTES = 32 << 20

LOOK_EVERY = 0.005
"""Seconds between two checks of how much a receiver has read."""

SIOCOUTQ = 0x5411
IP_RECVERR = 11
IPV6_RECVERR = 25

FULL = (EAGAIN, ENOBUFS)


class Doubtful(bytes):
    """A message that is sent again and may already have arrived."""

    __slots__ = ()


class Channel:
    """The messages on their way to one receiver.

    Args:
        places: pairs of a family and an address of the socket module, which are tried in turn. Network addresses are
            numeric, because a name look-up may take long.
        backlog: the maximum number of waiting messages. When it is exceeded, the oldest message is dropped.
        resend: whether to send messages again that a receiver may not have read before it ended.

    Attributes:
        waiting: messages that were not sent.
        flying: the number of messages that were sent and are not known to have arrived.
        given, delivered, dropped, uncertain, resent, connections: counts.
        broken: the last error, which explains why no message arrives.
    """

    kind = socket.SOCK_DGRAM

    def __init__(self, places: Places, backlog: int, resend: bool) -> None:
        self._places = places
        self._resend = resend
        self.family, self.address = places[0]
        self._tried = 0
        self.backlog = backlog
        self.waiting: deque[bytes] = deque()
        self._size = 0
        self.given = self.delivered = self.dropped = self.uncertain = self.resent = self.connections = 0
        self.broken: OSError | None = None
        self.socket: socket.socket | None = None
        self._reached = 0
        self._retry_at = 0.0
        self._pause = PAUSE_FIRST
        self._owner = os.getpid()
        self._pumping = False

    @property
    def flying(self) -> int:
        """The number of messages that were sent and are not known to have arrived."""
        raise NotImplementedError

    def put(self, message: bytes) -> None:
        """Add a message, and send as much as possible."""
        self.look()
        self.given += 1
        self.waiting.append(message)
        self._size += len(message)
        self.pump()

    def pump(self) -> None:
        """Send as much as possible; nothing if a signal handler that logs interrupts another call."""
        self.look()
        if self._pumping:
            return
        self._pumping = True
        try:
            self._trim()
            self._pump()
        except BaseException:
            # An interrupt: the last send is not recorded, so a stream could continue in the middle of a message.
            self._leave()
            raise
        finally:
            self._pumping = False

    def _pump(self) -> None:
        if self.socket is None:
            if monotonic() < self._retry_at:
                return
            try:
                self._connect()
            except OSError as error:
                self._failed(error)
                return
        try:
            self._send()
        except OSError as error:
            self._failed(error)

    def confirm(self) -> None:
        """Update the counts of the messages in flight."""

    def settle(self) -> tuple[int, int, float] | None:
        """Send and update the counts; return None if all messages are delivered.

        Otherwise return what to wait for: a descriptor or -1, events of poll(2), and the maximum of seconds.
        """
        self.pump()
        if self.socket is not None:
            self.confirm()
        if not self.waiting and not self.flying:
            return None
        if self.socket is None:
            return -1, 0, max(0.001, self._retry_at - monotonic())
        # A readable socket means an end or an error. The kernel does not notify of a read, so it is polled.
        return self.socket.fileno(), POLLIN | (POLLOUT if self.waiting else 0), LOOK_EVERY

    def close(self) -> None:
        """Close the connection. Messages in flight may still arrive. Waiting messages are dropped."""
        self.look()
        self._leave(True)
        while self.waiting:
            self._give_up(0)

    def _connect(self) -> None:
        self.socket = socket.socket(self.family, self.kind | socket.SOCK_NONBLOCK)
        self._prepare(self.socket)
        error = self.socket.connect_ex(self.address)
        if error not in (0, EINPROGRESS):
            place = self.address if isinstance(self.address, str) else None
            raise OSError(error, os.strerror(error), place.replace("\0", "@", 1) if place else None)

    def _prepare(self, _new: socket.socket) -> None:
        """Set the options of a new socket."""

    def _connected(self) -> None:
        self.connections += 1
        self._pause = PAUSE_FIRST

    def _send(self) -> None:
        raise NotImplementedError

    def _leave(self, ours: bool = False) -> None:
        """Close the socket, and count the messages that were in flight.

        Args:
            ours: whether this process closes the connection, and not the receiver.
        """
        found, self.socket = self.socket, None
        if found is not None:
            found.close()

    def _failed(self, error: OSError) -> None:
        self.broken = error
        connections = self.connections
        self._leave()
        if connections == self._reached:
            # This address was never reached: try the next address.
            self._tried = (self._tried + 1) % len(self._places)
            self.family, self.address = self._places[self._tried]
        self._reached = connections
        self._retry_at = monotonic() + self._pause
        self._pause = min(self._pause * 2.0, PAUSE_MAX)
        self._trim()

    def _sent(self) -> None:
        self._size -= len(self.waiting.popleft())

    def _back(self, messages: list[bytes]) -> None:
        """Put messages that did not arrive back, before all others."""
        self.waiting.extendleft(reversed(messages))
        self._size += sum(map(len, messages))
        self.resent += len(messages)

    def _doubt(self, messages: list[bytes], ours: bool) -> None:
        """Send messages again that may not have been read, or count them as uncertain."""
        if self._resend and not ours:
            self._back([*map(Doubtful, messages)])
        else:
            self.uncertain += len(messages)

    def _trim(self) -> None:
        while len(self.waiting) > self.backlog or (self._size > BACKLOG_BYTES and self.waiting):
            self._give_up(0)

    def _give_up(self, index: int) -> None:
        """Drop a waiting message."""
        message = self.waiting[index]
        del self.waiting[index]
        self._size -= len(message)
        if message.__class__ is Doubtful:
            self.uncertain += 1
        else:
            self.dropped += 1

    def _shorten(self) -> bool:
        """Cut the next message to half its size after EMSGSIZE; return whether some of it is left."""
        message = self.waiting.popleft()
        shorter = shortened(message, len(message) // 2)
        self._size -= len(message) - len(shorter)
        if not shorter:
            self.dropped += 1
            return False
        self.waiting.appendleft(shorter)
        return True

    def look(self) -> None:
        """Call disown() in a forked copy. This finds forks that Python does not know of."""
        if os.getpid() != self._owner:
            self.disown()

    def disown(self) -> None:
        """Reset the channel of a forked copy: a new connection, and no messages, because the parent sends them."""
        if self.socket is not None:
            self.socket.close()
        self.__init__(self._places, self.backlog, self._resend)  # type: ignore[misc]


class UnixDatagrams(Channel):
    """A channel to a unix datagram socket, such as /dev/log.

    The kernel counts the bytes that the receiver has not read (SIOCOUTQ), and forgets them when the receiver closes its
    socket. So messages in flight have arrived if nothing is unread and the same socket exists afterwards. If the socket
    is gone, it is not known whether they were read.
    """

    def __init__(self, places: Places, backlog: int, resend: bool) -> None:
        super().__init__(places, backlog, resend)
        self._unread: list[bytes] = []
        self._file: tuple[int, int, int] | None = None

    @property
    def flying(self) -> int:
        """The number of messages that are not known to have been read."""
        return len(self._unread)

    def _connect(self) -> None:
        self._file = _identity(self.address)
        super()._connect()
        self._connected()

    def _send(self) -> None:
        assert self.socket is not None
        for _ in range(BATCH):
            if not self.waiting:
                return
            message = self.waiting[0]
            empty = self._unread and outq(self.socket) == 0
            try:
                self.socket.send(message)
            except OSError as error:
                if error.errno in FULL:
                    return
                if error.errno != EMSGSIZE:
                    raise
                self._shorten()
                continue
            if empty:
                # The send succeeded, so the socket still exists. Before the send it had read everything.
                self._was_read()
            self._unread.append(message)
            self._sent()

    def confirm(self) -> None:
        """Count messages as delivered if nothing is unread and the same socket still exists."""
        if self._unread and self.socket is not None and outq(self.socket) == 0 and self._is_there():
            self._was_read()

    def _was_read(self) -> None:
        self.delivered += len(self._unread)
        self._unread.clear()

    def _is_there(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            return other.connect_ex(self.address) == 0 and _identity(self.address) == self._file

    def _leave(self, ours: bool = False) -> None:
        self.confirm()
        self._doubt(self._unread, ours)
        self._unread.clear()
        super()._leave(ours)


class Udp(Channel):
    """A channel to a UDP port.

    The sender only knows that the kernel has accepted a datagram. If a host replies that the port is closed, the kernel
    reports which datagram this was about (IP_RECVERR, ip(7)), and this message waits again. A port of this machine
    replies at once.
    """

    def __init__(self, places: Places, backlog: int, resend: bool) -> None:
        super().__init__(places, backlog, resend)
        self._recent: deque[bytes] = deque(maxlen=64)
        self._probing = False

    @property
    def flying(self) -> int:
        """Zero: the kernel never reports that a datagram has arrived."""
        return 0

    def _prepare(self, new: socket.socket) -> None:
        if self.family == socket.AF_INET6:
            new.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            new.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)

    def _connect(self) -> None:
        super()._connect()
        self._recent.clear()
        # After a refusal, only one message is sent first.
        self._probing = self.broken is not None

    def _send(self) -> None:
        assert self.socket is not None
        self._hear()
        for _ in range(BATCH):
            if not self.waiting:
                return
            try:
                self.socket.send(self.waiting[0])
            except OSError as error:
                if error.errno in FULL:
                    return
                if error.errno == EMSGSIZE:
                    self._shorten()
                    continue
                # The error is about an earlier message. The error queue has that message.
                self._hear()
                raise
            self._recent.append(self.waiting[0])
            self._sent()
            self.delivered += 1
            self._hear()
            if self.connections == 0 or self._probing:
                self._probing = False
                self._connected()

    def _hear(self) -> None:
        """Read the error queue, and put refused messages back."""
        refused = []
        while True:
            try:
                data, _, _, _ = self.socket.recvmsg(65535, 512, socket.MSG_ERRQUEUE)  # type: ignore[union-attr]
            except BlockingIOError:
                break
            found = next((message for message in self._recent if message.startswith(data) and data), None)
            if found is not None:
                self._recent.remove(found)
                refused.append(found)
        if refused:
            self.delivered -= len(refused)
            self._back(refused)
            raise OSError(ECONNREFUSED, os.strerror(ECONNREFUSED))


def places(host: str, port: int, kind: int) -> Places:
    """Return the addresses of a host. This may wait for a name server.

    Raises:
        OSError: the host has no address (socket.gaierror).
    """
    found = socket.getaddrinfo(host, port, type=kind)
    return tuple(dict.fromkeys((family, address) for family, _, _, _, address in found))


def after(seconds: float) -> float:
    """Return the monotonic time `seconds` from now.

    Raises:
        TypeError, ValueError: `seconds` is not a number of 0 or more.
    """
    if not seconds >= 0:
        raise ValueError(f"timeout: {seconds} is not a time in seconds")
    return monotonic() + seconds


def rest(what: tuple[int, int, float], deadline: float) -> bool:
    """Wait for the result of Channel.settle(); return False if the deadline has passed."""
    fd, events, pause = what
    left = deadline - monotonic()
    if left <= 0.0:
        return False
    poller = poll()
    if fd >= 0:
        # Another thread may close the descriptor. Then poll(2) returns at once, or at the end of the pause.
        poller.register(fd, events)
    poller.poll(min(left, pause) * 1000.0)
    return True


def readable(fd: int, seconds: float) -> bool:
    """Wait until the descriptor is readable or at its end; return whether it is."""
    poller = poll()
    poller.register(fd, POLLIN)
    return bool(poller.poll(seconds * 1000.0))


def now() -> float:
    """Return the current time in seconds since 1970."""
    return time()


def outq(sender: socket.socket) -> int:
    """Return the number of bytes that the receiver has not read, with the kernel's overhead (unix(7), tcp(7))."""
    return int(struct.unpack("i", ioctl(sender.fileno(), SIOCOUTQ, b"\0\0\0\0"))[0])


def _identity(address: Any) -> tuple[int, int, int] | None:
    """Return the identity of a socket file, which each bind(2) creates; None for an abstract address."""
    if not isinstance(address, str) or address[:1] == "\0":
        return None
    try:
        status = os.stat(address)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
