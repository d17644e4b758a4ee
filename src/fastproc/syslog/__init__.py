"""Messages to a syslog daemon or server: RFC 5424 or RFC 3164, by a unix socket, UDP, or TCP. Nothing here waits.

A receiver that is away, slow or restarted costs the program nothing but memory up to a bound, and every message is
counted: delivered, dropped, uncertain, or still on its way.

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
    """What became of the messages given to a Syslog.

    Always: given == delivered + dropped + uncertain + waiting + in_flight.

    `delivered` means, by a unix socket: the receiver has read it. By TCP: the receiver's kernel has acknowledged it,
    and where the receiver has closed the connection in order, it has read it. By UDP: this machine's kernel has taken
    it, and no host has answered that nobody listens; a UDP sender cannot know more.

    Attributes:
        given: by the program.
        delivered: as above.
        dropped: certainly never handed to a receiver: the backlog was full, or the Syslog was closed.
        uncertain: the receiver had it and ended before it had read everything, so that nobody knows. With `resend` only
            what there was no room or time to send again.
        waiting: not sent yet.
        in_flight: sent, and not known to have arrived.
        resent: sent again, as the receiver had ended before it was known to have read them: these may arrive twice.
        connections: how often the receiver was there anew.
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
    """A sender of messages. May be used by several threads; in a forked copy it has a connection and counts of its own.

    No call but `flush()` and `close()` with a timeout ever waits. There is no thread: what could not be sent is tried
    again by the next message, by `pump()`, or by these two.

    Args:
        address: the path of a unix socket ("@name": an abstract one), or (host, port). A host's name is looked up here
            and now, which may take long, and never again.
        protocol: "datagram" or "stream" for a path, "udp" or "tcp" for a host; None: "datagram", or "udp".
        format: "rfc5424" or "rfc3164"; None: the old one for a unix socket, as syslog(3) has it, else the new one.
        facility: a name or number.
        app_name: the program; None: that of sys.argv.
        procid: its pid; None: this process's.
        hostname: None: this machine's.
        framing: of a stream: "octet", "newline" or "nul" (RFC 6587); None: "octet" for TCP, "nul" for a unix socket,
            as syslog(3) has it.
        backlog: messages that may wait for the receiver. The oldest is dropped for each one too many.
        max_size: bytes of a message; what is longer is cut off. RFC 5424 has every receiver take 480, RFC 5426 asks for
            2048, rsyslog takes 8192.
        resend: what the receiver may not have read, when it has ended, is sent again, and may arrive twice. By TCP,
            where a reset tells that something was not read, but not what, these are the messages that were acknowledged
            within the last second, and all that were not. False: they are counted as uncertain. By UDP nothing tells of
            a doubt; what a host has refused is sent again in any case.
        bom: whether a message of RFC 5424 says by a byte order mark that it is UTF-8; many receivers show the mark.

    Raises:
        TypeError, ValueError: an argument is not possible; its name comes first.
        OSError: the host has no address (socket.gaierror). That a receiver is away is no error.
        Unsupported: elsewhere than on Linux, whose kernel tells what became of a message.
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
            raise Unsupported("fastproc.syslog: needs Linux, whose kernel tells what became of a message")
        self._facility = values.facility(facility)
        local = isinstance(address, str)
        protocol = _one_of("protocol", protocol, PROTOCOLS[:2] if local else PROTOCOLS[2:])
        self._format = _one_of("format", format, values.FORMATS[::-1] if local else values.FORMATS)
        self._local = local
        stream = protocol in ("stream", "tcp")
        if framing is not None and not stream:
            raise ValueError(f"framing: {protocol} has messages, a frame is for a stream")
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
        """Show where the messages go, and what became of them."""
        return f"<Syslog to {self._channel.address!r}: {self.counts}>"

    @property
    def counts(self) -> Counts:
        """What became of the messages until now."""
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
        """The last error of the connection; None when there was none. It may be there again since."""
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
        """Send a message as soon as that is possible.

        Args:
            text: the message.
            severity: a name, such as "warning", or a number.
            msgid: the type of message (RFC 5424 only).
            structured_data: parameters by the names of their elements (RFC 5424 only).
            created: seconds since 1970; None: now.
            app_name: another program's than this one.
            procid: with it its pid.

        Raises:
            TypeError, ValueError: there is no such severity, or created is no time of the calendar.
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
        """Send what waits, as far as that is possible now: for programs that log seldom."""
        with self._lock:
            self._channel.pump()

    def flush(self, timeout: float = 1.0) -> bool:
        """Wait until nothing is on its way any more, `timeout` seconds at most; give whether that is so."""
        deadline = channels.after(timeout)
        while True:
            with self._lock:
                left = self._channel.settle()
            if left is None:
                return True
            # Without the lock: nobody who logs meanwhile is held.
            if not channels.rest(left, deadline):
                return False

    def close(self, timeout: float = 1.0) -> Counts:
        """Wait as flush(), then close the connection, and give the final counts; later messages open it again."""
        self.flush(timeout)
        with self._lock:
            self._channel.close()
            return self.counts

    def __enter__(self) -> Syslog:
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
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
    # The thread that held a lock is not in a forked copy, and what it was sending is the parent's.
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
    """A logging.Handler that gives its records to a Syslog, and so never waits and never raises.

    A record's attribute `structured_data` goes into a message of RFC 5424, `msgid` too.

    Args:
        target: a Syslog, or the address for a new one.
        level: as logging.Handler has it.

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
        """Send what waits, as far as that is possible without waiting."""
        self.syslog.pump()

    def close(self) -> None:
        """Send what waits within a second, and close the connection."""
        try:
            self.syslog.close()
        finally:
            super().close()


def _severity(level: int) -> int:
    """Return the severity of a level of logging; between them 25 is a notice."""
    for least, number in ((60, 1), (50, 2), (40, 3), (30, 4), (25, 5), (20, 6)):
        if level >= least:
            return number
    return 7


class Lines(OnLine):
    """For `on_line`: every line of a child's outputs becomes a message, with the child's name and pid.

    Args:
        target: a Syslog, or the address for a new one.
        stdout: the severity of its lines; None: they are not sent.
        stderr: the same.
        name: the program's name in the messages; None: its own, without the directory.
        encoding: of the lines.
        errors: what becomes of bytes that are no text, as bytes.decode() has it.
        newline: what ends a line: one character, or "universal".
        longest: characters; a longer line comes in pieces, as several messages.

    Raises:
        TypeError, ValueError: an argument is not possible; its name comes first.
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
        """Return what is called for the lines of one child."""
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
