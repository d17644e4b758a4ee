"""The ways to a syslog receiver: unix sockets, UDP, TCP. Nothing here ever waits, but what is told to by its name.

A message waits here, is in flight (with the kernel, and not known to have arrived), was delivered, or is lost. Each is
counted, and the sum is what was given (see Counts in fastproc.syslog). What is known of those in flight differs: each
Channel says how.
Invariant: no send, connect or close waits. Time goes by only in `rest()`.
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
"""Seconds between two tries to reach a receiver; each failed one doubles them."""

BATCH = 256
"""Messages that one call sends at most: a long backlog must not hold who happens to log next."""

BACKLOG_BYTES = 32 << 20

LOOK_EVERY = 0.005
"""Seconds between two looks at what a receiver has read."""

SIOCOUTQ = 0x5411
IP_RECVERR = 11
IPV6_RECVERR = 25

FULL = (EAGAIN, ENOBUFS)


class Doubtful(bytes):
    """A message that is sent again, and may have arrived."""

    __slots__ = ()


class Channel:
    """The messages on their way to one receiver.

    Args:
        places: where it may be: families and addresses of the socket module, of which one after the other is tried; for
            the network with numbers, as a name's look-up may take long.
        backlog: messages that may wait; then the oldest is dropped for each new one.
        resend: whether those that may not have been read, when a receiver has ended, are sent again.

    Attributes:
        waiting: messages that the kernel has not taken.
        flying: how many it has, that are not known to have arrived.
        given, delivered, dropped, uncertain, resent, connections: counts.
        broken: the last error, for whoever asks why nothing arrives.
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
        """How many messages the kernel has, that are not known to have arrived."""
        raise NotImplementedError

    def put(self, message: bytes) -> None:
        """Take a message, and send what can be sent now."""
        self.look()
        self.given += 1
        self.waiting.append(message)
        self._size += len(message)
        self.pump()

    def pump(self) -> None:
        """Send what can be sent now; nothing in the middle of another call of it, as by a signal handler that logs."""
        self.look()
        if self._pumping:
            return
        self._pumping = True
        try:
            self._trim()
            self._pump()
        except BaseException:
            # An interrupt: what was sent last is not recorded, and a stream would go on in the middle of a message.
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
        """Look what has become of the messages in flight."""

    def settle(self) -> tuple[int, int, float] | None:
        """Send and look at what became of it; give None when all is delivered.

        Else what is worth waiting for: a descriptor or -1, events of poll(2), and seconds at most.
        """
        self.pump()
        if self.socket is not None:
            self.confirm()
        if not self.waiting and not self.flying:
            return None
        if self.socket is None:
            return -1, 0, max(0.001, self._retry_at - monotonic())
        # What arrives is an end or an error. Nothing tells when a receiver has read: that is looked at.
        return self.socket.fileno(), POLLIN | (POLLOUT if self.waiting else 0), LOOK_EVERY

    def close(self) -> None:
        """Give up the connection; what is in flight may arrive all the same, what waits is lost."""
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
        """Set a new socket's options."""

    def _connected(self) -> None:
        self.connections += 1
        self._pause = PAUSE_FIRST

    def _send(self) -> None:
        raise NotImplementedError

    def _leave(self, ours: bool = False) -> None:
        """Close the socket and settle what was in flight.

        Args:
            ours: it is our wish, not the receiver's end.
        """
        found, self.socket = self.socket, None
        if found is not None:
            found.close()

    def _failed(self, error: OSError) -> None:
        self.broken = error
        connections = self.connections
        self._leave()
        if connections == self._reached:
            # It was never there: perhaps the next address is.
            self._tried = (self._tried + 1) % len(self._places)
            self.family, self.address = self._places[self._tried]
        self._reached = connections
        self._retry_at = monotonic() + self._pause
        self._pause = min(self._pause * 2.0, PAUSE_MAX)
        self._trim()

    def _sent(self) -> None:
        self._size -= len(self.waiting.popleft())

    def _back(self, messages: list[bytes]) -> None:
        """Let messages that did not arrive wait again, before all others."""
        self.waiting.extendleft(reversed(messages))
        self._size += sum(map(len, messages))
        self.resent += len(messages)

    def _doubt(self, messages: list[bytes], ours: bool) -> None:
        """Settle messages of which nobody knows whether they were read."""
        if self._resend and not ours:
            self._back([*map(Doubtful, messages)])
        else:
            self.uncertain += len(messages)

    def _trim(self) -> None:
        while len(self.waiting) > self.backlog or (self._size > BACKLOG_BYTES and self.waiting):
            self._give_up(0)

    def _give_up(self, index: int) -> None:
        """Drop a message that waits."""
        message = self.waiting[index]
        del self.waiting[index]
        self._size -= len(message)
        if message.__class__ is Doubtful:
            self.uncertain += 1
        else:
            self.dropped += 1

    def _shorten(self) -> bool:
        """Cut the next message to half, after EMSGSIZE; give whether something of it is left."""
        message = self.waiting.popleft()
        shorter = shortened(message, len(message) // 2)
        self._size -= len(message) - len(shorter)
        if not shorter:
            self.dropped += 1
            return False
        self.waiting.appendleft(shorter)
        return True

    def look(self) -> None:
        """Disown what a forked copy has inherited; a fork that Python does not know of is found only so."""
        if os.getpid() != self._owner:
            self.disown()

    def disown(self) -> None:
        """In a forked copy: what waits is the parent's, who sends it; the connection is a new one."""
        if self.socket is not None:
            self.socket.close()
        self.__init__(self._places, self.backlog, self._resend)  # type: ignore[misc]


class UnixDatagrams(Channel):
    """To a unix datagram socket, such as /dev/log.

    The kernel counts what the receiver has not read yet (SIOCOUTQ), until its socket is closed, when it forgets it. So
    what is in flight has arrived when nothing was left unread and the same socket was there afterwards; else, when it
    is gone, nobody knows.
    """

    def __init__(self, places: Places, backlog: int, resend: bool) -> None:
        super().__init__(places, backlog, resend)
        self._unread: list[bytes] = []
        self._file: tuple[int, int, int] | None = None

    @property
    def flying(self) -> int:
        """Those of which it is not known that they were read."""
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
                # It still was there, and had read everything before.
                self._was_read()
            self._unread.append(message)
            self._sent()

    def confirm(self) -> None:
        """Look whether all was read: nothing is left, and then the socket is still that of this file, and open."""
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
    """To a UDP port.

    That the kernel has taken a datagram is all that is known, unless a host answers that nobody listens: then the
    kernel tells which one it was (IP_RECVERR of ip(7)), and it waits again. On this machine each one gets that answer
    at once.
    """

    def __init__(self, places: Places, backlog: int, resend: bool) -> None:
        super().__init__(places, backlog, resend)
        self._recent: deque[bytes] = deque(maxlen=64)
        self._probing = False

    @property
    def flying(self) -> int:
        """None: nothing will ever be known of them."""
        return 0

    def _prepare(self, new: socket.socket) -> None:
        if self.family == socket.AF_INET6:
            new.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            new.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)

    def _connect(self) -> None:
        super()._connect()
        self._recent.clear()
        # The first after a refusal goes alone.
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
                # It is about one that was sent before, of which the kernel tells.
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
        """Take the refusals that came."""
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
        OSError: there are none (socket.gaierror).
    """
    found = socket.getaddrinfo(host, port, type=kind)
    return tuple(dict.fromkeys((family, address) for family, _, _, _, address in found))


def after(seconds: float) -> float:
    """The monotonic instant `seconds` from now.

    Raises:
        TypeError, ValueError: it is no time.
    """
    if not seconds >= 0:
        raise ValueError(f"timeout: {seconds} is not a time in seconds")
    return monotonic() + seconds


def rest(what: tuple[int, int, float], deadline: float) -> bool:
    """Wait for what Channel.settle() has given; give False when the deadline has passed."""
    fd, events, pause = what
    left = deadline - monotonic()
    if left <= 0.0:
        return False
    poller = poll()
    if fd >= 0:
        # Another thread may close it meanwhile: then this ends at once, or when the time is over.
        poller.register(fd, events)
    poller.poll(min(left, pause) * 1000.0)
    return True


def readable(fd: int, seconds: float) -> bool:
    """Wait until there is something to read, or its end, and give whether there is."""
    poller = poll()
    poller.register(fd, POLLIN)
    return bool(poller.poll(seconds * 1000.0))


def now() -> float:
    """The time of a message, in seconds since 1970."""
    return time()


def outq(sender: socket.socket) -> int:
    """Bytes that the receiver has not taken, with what the kernel needs around them (unix(7), tcp(7))."""
    return int(struct.unpack("i", ioctl(sender.fileno(), SIOCOUTQ, b"\0\0\0\0"))[0])


def _identity(address: Any) -> tuple[int, int, int] | None:
    """Which file a path is; None for an abstract address. bind(2) makes a new one for each socket."""
    if not isinstance(address, str) or address[:1] == "\0":
        return None
    try:
        status = os.stat(address)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns
