"""The ways to a syslog receiver by a stream: TCP and unix stream sockets. As syslog.py, nothing here ever waits."""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from errno import EPIPE
from select import POLLOUT, poll
from time import monotonic

from fastproc.syslog._channel import BACKLOG_BYTES, BATCH, FULL, Channel, outq
from fastproc.syslog._message import framed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.syslog._channel import Places

CONNECT_MAX = 10.0
"""Seconds that a TCP connection may take."""

DOUBT = 1.0
"""Seconds for which an acknowledged message of a connection that is reset is not taken for read."""

DEAD_PEER_MS = 30_000
"""TCP_USER_TIMEOUT: how long data may be unacknowledged before the connection counts as broken (tcp(7))."""

TCP_USER_TIMEOUT = 18
TCP_INFO = 11
_BYTES_ACKED = 120
"""Its place in struct tcp_info (linux/tcp.h), since Linux 4.1."""


class Stream(Channel):
    """To a stream socket. What is common to TCP and unix streams.

    A receiver that has read everything ends a connection in order; one that had not resets it (tcp(7), unix(7)).
    """

    kind = socket.SOCK_STREAM

    def __init__(self, places: Places, backlog: int, resend: bool, framing: str) -> None:
        super().__init__(places, backlog, resend)
        self.framing = framing
        # What the kernel has taken of the first that waits, with its frame.
        self._begun = 0
        self._total = 0
        self._flight: deque[tuple[int, bytes]] = deque()
        self._opening: float | None = None

    @property
    def flying(self) -> int:
        """Those that are not known to have arrived."""
        return len(self._flight)

    def disown(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.__init__(self._places, self.backlog, self._resend, self.framing)  # type: ignore[misc]

    def _connect(self) -> None:
        self._opening = monotonic() + CONNECT_MAX
        super()._connect()

    def _open(self) -> bool:
        """Whether the connection is there."""
        assert self.socket is not None
        assert self._opening is not None
        poller = poll()
        poller.register(self.socket.fileno(), POLLOUT)
        if not poller.poll(0):
            if monotonic() >= self._opening:
                raise TimeoutError("the connection was not there in time")
            return False
        error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        self._opening = None
        self._total = 0
        self._connected()
        return True

    def _send(self) -> None:
        assert self.socket is not None
        if self._opening is not None and not self._open():
            return
        self._watch()
        for _ in range(BATCH):
            if not self.waiting:
                return
            message = self.waiting[0]
            data = framed(message, self.framing)
            try:
                sent = self.socket.send(memoryview(data)[self._begun :], socket.MSG_NOSIGNAL)
            except OSError as error:
                if error.errno in FULL:
                    return
                raise
            self._total += sent
            self._begun += sent
            if self._begun < len(data):
                return
            self._begun = 0
            self._flight.append((self._total, message))
            self._sent()

    def _watch(self) -> None:
        """Look whether the receiver is still there, and what it has taken.

        Raises:
            OSError: it is not.
        """
        self.confirm()
        assert self.socket is not None
        try:
            while self.socket.recv(4096):
                # Nothing that it could say means anything.
                pass
        except BlockingIOError:
            return
        self._ended()
        raise OSError(EPIPE, "the receiver has closed the connection")

    def _ended(self) -> None:
        """The receiver has closed the connection in order: it has read what it has."""
        raise NotImplementedError

    def _trim(self) -> None:
        # Not the one of which a part is sent: the stream would go on in its middle.
        while self._begun and (len(self.waiting) > max(1, self.backlog) or self._size > BACKLOG_BYTES):
            if len(self.waiting) < 2:
                return
            self._give_up(1)
        if not self._begun:
            super()._trim()

    def _leave(self, ours: bool = False) -> None:
        self._begun = 0
        self._opening = None
        super()._leave(ours)


class UnixStream(Stream):
    """To a unix stream socket. The kernel counts what the receiver has not read (SIOCOUTQ)."""

    # Whether the receiver has ended with something unread; that is told once (unix(7), ECONNRESET).
    _reset = False

    def _open(self) -> bool:
        # connect(2) does not wait here: it is there, or EAGAIN says that the receiver's queue is full.
        self._opening = None
        self._total = 0
        self._reset = False
        self._connected()
        return True

    def confirm(self) -> None:
        """Look whether all was read: nothing was left, and then the connection had not ended."""
        if not self._flight or self.socket is None or outq(self.socket):
            return
        try:
            if not self.socket.recv(1, socket.MSG_PEEK):
                return
        except BlockingIOError:
            pass
        except OSError:
            self._reset = True
            return
        self._ended()

    def _ended(self) -> None:
        if self._reset:
            return
        self.delivered += len(self._flight)
        self._flight.clear()

    def _leave(self, ours: bool = False) -> None:
        self.confirm()
        self._doubt([message for _, message in self._flight], ours)
        self._flight.clear()
        super()._leave(ours)


class Tcp(Stream):
    """To a TCP port.

    The kernel tells how many bytes were acknowledged, by the receiver's kernel (TCP_INFO). When the receiver closes the
    connection in order it has read these, and nothing else: the rest is sent again. When the connection is reset it had
    not read all of them: those of the last second, and what was not acknowledged, are in doubt.
    """

    def __init__(self, places: Places, backlog: int, resend: bool, framing: str) -> None:
        super().__init__(places, backlog, resend, framing)
        # When which ones were acknowledged.
        self._recent: deque[tuple[float, bytes]] = deque()
        self._base = 0
        self._in_order = False

    def _prepare(self, new: socket.socket) -> None:
        new.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        new.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, DEAD_PEER_MS)

    def _open(self) -> bool:
        if not super()._open():
            return False
        assert self.socket is not None
        # The handshake counts in some kernels.
        self._base = _acknowledged(self.socket)
        self._recent.clear()
        self._in_order = False
        return True

    def confirm(self) -> None:
        """Look how much was acknowledged."""
        if not self._flight or self.socket is None:
            return
        acknowledged = _acknowledged(self.socket) - self._base
        now = monotonic()
        while self._flight and self._flight[0][0] <= acknowledged:
            self.delivered += 1
            self._recent.append((now, self._flight.popleft()[1]))
        while self._recent and self._recent[0][0] < now - DOUBT:
            self._recent.popleft()

    def _ended(self) -> None:
        # After the end was seen, so that what came with it counts.
        self.confirm()
        self._in_order = True

    def _leave(self, ours: bool = False) -> None:
        if self.socket is not None and self._opening is None:
            self.confirm()
        rest = [message for _, message in self._flight]
        if self._in_order:
            self._back(rest)
        elif ours:
            # The kernel goes on with them.
            self._doubt(rest, ours)
        else:
            self.delivered -= len(self._recent)
            self._doubt([*(message for _, message in self._recent), *rest], ours)
        self._in_order = False
        self._flight.clear()
        self._recent.clear()
        super()._leave(ours)


def _acknowledged(sender: socket.socket) -> int:
    data = sender.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 256)
    if len(data) < _BYTES_ACKED + 8:
        return 0
    return int(struct.unpack_from("=Q", data, _BYTES_ACKED)[0])
