"""Messages to a syslog daemon or server: RFC 5424 or RFC 3164, over a unix socket, UDP or TCP. Sending never waits.

If the receiver is away, slow or restarting, the program uses memory up to a limit and is not delayed. Every message is
counted: delivered, dropped, uncertain, waiting or in flight.

>>> import logging
>>> from fastproc import syslog
>>> handler = syslog.Handler(syslog.Syslog(("192.0.2.1", 514), protocol="udp", facility="local0"))
>>> logging.getLogger("example").addHandler(handler)
>>> logging.getLogger("example").removeHandler(handler)
"""

from __future__ import annotations

import logging
import os
import sys
from _thread import RLock
from socket import AF_UNIX, SOCK_DGRAM, SOCK_STREAM, gethostname
from typing import NamedTuple
from weakref import WeakSet

from fastproc._values.on_line import OnLine, program_name
from fastproc.errors import Unsupported
from fastproc.syslog import _channel as channels
from fastproc.syslog import _message as values
from fastproc.syslog import _stream as streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Counts", "Handler", "Lines", "Syslog"]

SOCKET = "/dev/log"
PROTOCOLS = ("datagram", "stream", "udp", "tcp")


class Counts(NamedTuple):
    """The number of messages given to a Syslog, by what happened to them.

    At any moment given == delivered + dropped + uncertain + waiting + in_flight.

    The meaning of `delivered` depends on the protocol. Unix socket: the receiver has read the message. TCP: the
    receiver's kernel has acknowledged the message; if the receiver has closed the connection normally, it has also read
    it. UDP: this machine's kernel has accepted the message, and no host has replied that the port is closed.

    Attributes:
        given: messages that the program has sent.
        delivered: see above.
        dropped: messages that were never passed to a receiver, because the backlog was full or the Syslog was closed.
        uncertain: messages that the receiver got, but may not have read before it ended. With `resend` these are only
            messages that could not be sent again, because the backlog was full or the Syslog was closed.
        waiting: messages in the backlog.
        in_flight: messages that were sent and are not known to have arrived.
        resent: messages that were sent again because the receiver may not have read them. They may arrive twice.
        connections: the number of connections that were made.
    """

    given: int
    delivered: int
    dropped: int
    uncertain: int
    waiting: int
    in_flight: int
    resent: int
    connections: int


class Syslog:
    """A sender of messages. Threads may share a sender. A forked copy gets its own connection and counts.

    Only `flush()` and `close()` wait, for at most their timeout. There is no thread: messages that could not be sent
    are tried again by the next message, by `pump()`, `flush()` or `close()`.

    Args:
        address: the path of a unix socket ("@name" for an abstract address), or (host, port). A host name is looked up
            once, now; this may take long.
        protocol: "datagram" or "stream" for a path; "udp" or "tcp" for a host. Default: "datagram" or "udp".
        format: "rfc5424" or "rfc3164". Default: "rfc3164" for a unix socket, as syslog(3); otherwise "rfc5424".
        facility: a name or number.
        app_name: the name of the program. Default: from sys.argv.
        procid: the pid of the program. Default: the pid of this process.
        hostname: the name of this machine. Default: gethostname(2).
        framing: the framing of a stream: "octet", "newline" or "nul" (RFC 6587). Default: "octet" for TCP, and "nul"
            for a unix socket, as syslog(3).
        backlog: the maximum number of waiting messages. When it is exceeded, the oldest message is dropped.
        max_size: the maximum size of a message in bytes; longer messages are truncated. RFC 5424 requires receivers to
            accept 480 bytes and recommends 2048. rsyslog accepts 8192 by default.
        resend: whether to send messages again if the receiver ended and may not have read them. They may arrive twice.
            With False they are counted as uncertain. When a TCP connection is reset, these are the messages that were
            not acknowledged, and those that were acknowledged within the last second. UDP has no such messages: a
            message that a host has refused is always sent again.
        bom: whether a message of RFC 5424 has a byte order mark that declares UTF-8. Many receivers show the mark.

    Raises:
        TypeError, ValueError: an argument is invalid; the message starts with its name.
        OSError: the host has no address (socket.gaierror). An unreachable receiver raises nothing.
        Unsupported: the system is not Linux. Other kernels do not report what happened to a message.
    """

    def __init__(
        self,
        address: str | tuple[str, int] = SOCKET,
        *,
        protocol: str | None = None,
        format: str | None = None,
        facility: str | int = "user",
        app_name: str | None = None,
        procid: int | str | None = None,
        hostname: str | None = None,
        framing: str | None = None,
        backlog: int = 10_000,
        max_size: int = 8192,
        resend: bool = True,
        bom: bool = False,
    ) -> None:
        if sys.platform != "linux":
            raise Unsupported("fastproc.syslog: needs Linux, whose kernel reports what happened to a message")
        self._facility = values.facility(facility)
        local = isinstance(address, str)
        protocol = _one_of("protocol", protocol, PROTOCOLS[:2] if local else PROTOCOLS[2:])
        self._format = _one_of("format", format, values.FORMATS[::-1] if local else values.FORMATS)
        self._local = local
        stream = protocol in ("stream", "tcp")
        if framing is not None and not stream:
            raise ValueError(f"framing: is for a stream, and {protocol} has messages")
        self._framing = _one_of("framing", framing, ("nul", "octet", "newline") if local else values.FRAMINGS)
        for name, number, low in (("backlog", backlog, 1), ("max_size", max_size, 64)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"{name}: must be an int, not {type(number).__name__}")
            if number < low:
                raise ValueError(f"{name}: {number} is less than {low}")
        if resend is not True and resend is not False:
            raise TypeError(f"resend: must be True or False, not {resend!r}")
        self._max_size = max_size
        self._bom = bom
        self._host = gethostname() if hostname is None else hostname
        self._app_name = os.path.basename(sys.argv[0] if sys.argv else "") or "python" if app_name is None else app_name
        self._procid = procid
        self._headers: dict[tuple[str, object], values.Header] = {}
        self._lock = RLock()
        self._channel = _channel(address, protocol, backlog, resend, self._framing)
        _senders.add(self)

    def __repr__(self) -> str:
        """Show the address and the counts."""
        return f"<Syslog to {self._channel.address!r}: {self.counts}>"

    @property
    def counts(self) -> Counts:
        """The counts of messages at this moment."""
        with self._lock:
            found = self._channel
            found.look()
            return Counts(
                found.given,
                found.delivered,
                found.dropped,
                found.uncertain,
                len(found.waiting),
                found.flying,
                found.resent,
                found.connections,
            )

    @property
    def error(self) -> OSError | None:
        """The last error of the connection, or None. The connection may have been restored since."""
        return self._channel.broken

    def send(
        self,
        text: str,
        severity: str | int = "info",
        *,
        msgid: str | None = None,
        structured_data: Mapping[str, Mapping[str, object]] | None = None,
        created: float | None = None,
        app_name: str | None = None,
        procid: int | str | None = None,
    ) -> None:
        """Send a message as soon as possible. Never waits.

        Args:
            text: the message.
            severity: a name, such as "warning", or a number.
            msgid: the type of the message (RFC 5424 only).
            structured_data: for each element its parameters (RFC 5424 only).
            created: the time of the message, in seconds since 1970. Default: now.
            app_name: the name of the program, if it is not this program.
            procid: the pid of that program.

        Raises:
            TypeError, ValueError: `severity` is invalid, or `created` is outside the years 1 to 9998.
        """
        number = values.severity(severity)
        header = self._header(app_name, procid)
        if created is None:
            created = channels.now()
        elif not values.TIME_MIN <= created <= values.TIME_MAX:
            raise ValueError(f"created: {created!r} is not in the years 1 to 9998, in seconds since 1970")
        if self._format == "rfc5424":
            message = header.rfc5424(number, created, text, msgid, structured_data, self._bom)
        else:
            message = header.rfc3164(number, created, text, self._local)
        if len(message) > self._max_size:
            message = values.shortened(message, self._max_size)
        with self._lock:
            self._channel.put(message)

    def pump(self) -> None:
        """Send waiting messages as far as this is possible without a wait. For programs that seldom log."""
        with self._lock:
            self._channel.pump()

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait for at most `timeout` seconds until no message is waiting or in flight; return whether this is so."""
        deadline = channels.after(timeout)
        while True:
            with self._lock:
                left = self._channel.settle()
            if left is None:
                return True
            # Wait without the lock, so that other threads can log meanwhile.
            if not channels.rest(left, deadline):
                return False

    def close(self, timeout: float = 1.0) -> Counts:
        """Wait as flush(), close the connection, and return the final counts. A later message opens it again."""
        self.flush(timeout)
        with self._lock:
            self._channel.close()
            return self.counts

    def __enter__(self) -> Syslog:
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the sender."""
        self.close()

    def _header(self, app_name: str | None, procid: object) -> values.Header:
        if app_name is None:
            app_name = self._app_name
        if procid is None:
            procid = os.getpid() if self._procid is None else self._procid
        key = app_name, procid
        header = self._headers.get(key)
        if header is None:
            if len(self._headers) >= 64:
                self._headers.clear()
            header = self._headers[key] = values.Header(self._facility, self._host, app_name, procid)
        return header


_senders: WeakSet[Syslog] = WeakSet()


def _after_fork() -> None:
    # The thread that held a lock does not exist in a forked copy. The parent sends the messages of the backlog.
    for sender in _senders:
        sender._lock = RLock()
        sender._channel.disown()


os.register_at_fork(after_in_child=_after_fork)


def _one_of(name: str, value: str | None, known: tuple[str, ...]) -> str:
    """Return a choice; the first one for None."""
    if value is None:
        return known[0]
    if value not in known:
        raise ValueError(f"{name}: must be one of {', '.join(known)}, not {value!r}")
    return value


def _channel(address: Any, protocol: str, backlog: int, resend: bool, framing: str) -> channels.Channel:
    if isinstance(address, str):
        if not address or "\0" in address or len(os.fsencode(address)) > 107:
            raise ValueError(f"address: {address!r} cannot be the address of a unix socket (unix(7))")
        found = ((AF_UNIX, "\0" + address[1:] if address[0] == "@" else address),)
        return (
            channels.UnixDatagrams(found, backlog, resend)
            if protocol == "datagram"
            else streams.UnixStream(found, backlog, resend, framing)
        )
    if not isinstance(address, tuple) or len(address) != 2 or not isinstance(address[0], str):
        raise TypeError(f"address: must be a path or (host, port), not {address!r}")
    host, port = address
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"address: the port must be an int, not {type(port).__name__}")
    if not 0 < port < 65536:
        raise ValueError(f"address: {port} is not a port")
    hosts = channels.places(host, port, SOCK_DGRAM if protocol == "udp" else SOCK_STREAM)
    return channels.Udp(hosts, backlog, resend) if protocol == "udp" else streams.Tcp(hosts, backlog, resend, framing)


class Handler(logging.Handler):
    """A logging.Handler that passes its records to a Syslog. It never waits and never raises.

    The attributes `structured_data` and `msgid` of a record go into a message of RFC 5424.

    Args:
        target: a Syslog, or the address of a new Syslog.
        level: the level, as for logging.Handler.

    Attributes:
        syslog: the sender, with its counts.
    """

    def __init__(self, target: Syslog | str | tuple[str, int] = SOCKET, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self.syslog = target if isinstance(target, Syslog) else Syslog(target)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            self.syslog.send(
                self.format(record),
                _severity(record.levelno),
                msgid=getattr(record, "msgid", None),
                structured_data=getattr(record, "structured_data", None),
                created=record.created,
            )
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Send waiting messages as far as this is possible without a wait."""
        self.syslog.pump()

    def close(self) -> None:
        """Send waiting messages for at most one second, and close the connection."""
        try:
            self.syslog.close()
        finally:
            super().close()


def _severity(level: int) -> int:
    """Return the severity for a level of logging. A level of 25 to 29 is a notice."""
    for least, number in ((60, 1), (50, 2), (40, 3), (30, 4), (25, 5), (20, 6)):
        if level >= least:
            return number
    return 7


class Lines(OnLine):
    """A value for `on_line`: every line of a child's output becomes a message with the child's name and pid.

    Args:
        target: a Syslog, or the address of a new Syslog.
        stdout: the severity of lines on stdout; None: do not send them.
        stderr: the severity of lines on stderr; None: do not send them.
        name: the program's name in the messages. Default: the name of the command, without a directory.
        encoding: the encoding of the lines.
        errors: the error handler for undecodable bytes, as for bytes.decode().
        newline: the end of a line: one character, or "universal".
        longest: the maximum of characters in a message. A longer line becomes several messages.

    Raises:
        TypeError, ValueError: an argument is invalid; the message starts with its name.
    """

    __slots__ = ("_name", "_severities", "syslog")

    def __init__(
        self,
        target: Syslog | str | tuple[str, int] = SOCKET,
        *,
        stdout: str | int | None = "info",
        stderr: str | int | None = "warning",
        name: str | None = None,
        encoding: str = "utf-8",
        errors: str = "backslashreplace",
        newline: str | bytes = "universal",
        longest: int | None = 4096,
    ) -> None:
        self.syslog = target if isinstance(target, Syslog) else Syslog(target)
        self._severities = {
            "stdout": None if stdout is None else values.severity(stdout),
            "stderr": None if stderr is None else values.severity(stderr),
        }
        self._name = name
        super().__init__(
            lambda stream, line: self._tell(None, stream, line),
            text=True,
            encoding=encoding,
            errors=errors,
            newline=newline,
            longest=longest,
        )

    def of(self, child: Any) -> Any:
        """Return the function that is called for the lines of one child."""
        return lambda stream, line: self._tell(child, stream, line)

    def _tell(self, child: Any, stream: str, line: str) -> None:
        severity = self._severities[stream]
        if severity is None:
            return
        name, pid = self._name, None
        if child is not None:
            name = name or program_name(child.argv)
            pid = child.pid
        self.syslog.send(line, severity, app_name=name, procid=pid)

    def __repr__(self) -> str:
        """Show where the lines go."""
        return f"Lines({self.syslog!r})"
