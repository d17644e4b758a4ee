"""The ways to a syslog receiver over a stream: TCP and unix stream sockets. Like _channel.py, nothing here waits."""

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
"""Maximum of seconds for a TCP connect."""

DOUBT = 1.0
"""Seconds after the acknowledgement in which a message counts as possibly unread if the connection is reset."""

DEAD_PEER_MS = 30_000
"""TCP_USER_TIMEOUT: milliseconds without acknowledgement until the connection counts as broken (tcp(7))."""

TCP_USER_TIMEOUT = 18
TCP_INFO = 11
_BYTES_ACKED = 120
"""The offset of tcpi_bytes_acked in struct tcp_info (linux/tcp.h, Linux 4.1)."""


class Stream(Channel):
    """A channel to a stream socket: the common part of TCP and unix streams.

    If the receiver has read everything, its close ends the connection normally; otherwise its close resets the
    connection (tcp(7), unix(7)).
    """

    kind = socket.SOCK_STREAM

    def __init__(self, places: Places, backlog: int, resend: bool, framing: str) -> None:
        super().__init__(places, backlog, resend)
        self.framing = framing
        # The bytes of the first waiting message, with its frame, that were sent.
        self._begun = 0
        self._total = 0
        self._flight: deque[tuple[int, bytes]] = deque()
        self._opening: float | None = None

    @property
    def flying(self) -> int:
        """The number of messages that are not known to have arrived."""
        return len(self._flight)

    def disown(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.__init__(self._places, self.backlog, self._resend, self.framing)  # type: ignore[misc]

    def _connect(self) -> None:
        self._opening = monotonic() + CONNECT_MAX
        super()._connect()

    def _open(self) -> bool:
        """Return whether the connection is established."""
        assert self.socket is not None
        assert self._opening is not None
        poller = poll()
        poller.register(self.socket.fileno(), POLLOUT)
        if not poller.poll(0):
            if monotonic() >= self._opening:
                raise TimeoutError("the connection was not established in time")
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
        """Check that the receiver is still connected, and update the counts.

        Raises:
            OSError: the connection has ended.
        """
        self.confirm()
        assert self.socket is not None
        try:
            while self.socket.recv(4096):
                # A syslog receiver sends nothing that has a meaning.
                pass
        except BlockingIOError:
            return
        self._ended()
        raise OSError(EPIPE, "the receiver has closed the connection")

    def _ended(self) -> None:
        """Count the messages after the receiver has closed the connection normally."""
        raise NotImplementedError

    def _trim(self) -> None:
        # Keep a message that was sent partly: otherwise the stream would continue in the middle of it.
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
    """A channel to a unix stream socket. The kernel counts the bytes that the receiver has not read (SIOCOUTQ)."""

    # Whether the receiver has ended with unread data. The kernel reports this once (unix(7), ECONNRESET).
    _reset = False

    def _open(self) -> bool:
        # connect(2) does not wait here: it succeeds, or fails with EAGAIN if the receiver's queue is full.
        self._opening = None
        self._total = 0
        self._reset = False
        self._connected()
        return True

    def confirm(self) -> None:
        """Count messages as delivered if nothing is unread and the connection has not ended afterwards."""
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
    """A channel to a TCP port.

    The kernel reports how many bytes the receiver's kernel has acknowledged (TCP_INFO). If the receiver closes the
    connection normally, it has read exactly these bytes, and the other messages are sent again. If the connection is
    reset, the receiver has not read all of these bytes. Then the messages that were acknowledged within the last
    second, and those that were not acknowledged, are in doubt.
    """

    def __init__(self, places: Places, backlog: int, resend: bool, framing: str) -> None:
        super().__init__(places, backlog, resend, framing)
        # Acknowledged messages, with the time of the acknowledgement.
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
        # Some kernels count the handshake.
        self._base = _acknowledged(self.socket)
        self._recent.clear()
        self._in_order = False
        return True

    def confirm(self) -> None:
        """Update the counts from the number of acknowledged bytes."""
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
        # Read again after the end was seen: the last segment may have acknowledged more.
        self.confirm()
        self._in_order = True

    def _leave(self, ours: bool = False) -> None:
        if self.socket is not None and self._opening is None:
            self.confirm()
        rest = [message for _, message in self._flight]
        if self._in_order:
            self._back(rest)
        elif ours:
            # The kernel still tries to deliver these.
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
