"""The two formats of syslog messages, RFC 5424 and RFC 3164, and their framing on a stream (RFC 6587).

Pure: the caller passes the sender and the time. Characters that a field may not contain are replaced, so that they
never break the format. Nothing raises for them: logging is the wrong place for an error about a message.
"""

from __future__ import annotations

from datetime import datetime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FACILITIES = {
    name: number
    for number, name in enumerate(
        (
            *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
            *("ntp", "audit", "alert2", "clock"),
            *("local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
        )
    )
}
SEVERITIES = {
    name: number for number, name in enumerate(("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"))
}
_OTHER_NAMES = {"panic": 0, "critical": 2, "error": 3, "warn": 4}

FORMATS = ("rfc5424", "rfc3164")
# The year has four digits in every time zone.
TIME_MIN, TIME_MAX = -62_135_500_000, 253_370_000_000

FRAMINGS = ("octet", "newline", "nul")

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_PRINTABLE = frozenset(map(chr, range(33, 127)))
# RFC 5424, section 6.
_LENGTHS = {"hostname": 255, "app_name": 48, "procid": 128, "msgid": 32}
_TAG_MAX = 32


def facility(value: object) -> int:
    """Return the number of a facility.

    Raises:
        TypeError, ValueError: there is no facility with this name or number.
    """
    return _named("facility", value, FACILITIES, 23)


def severity(value: object) -> int:
    """Return the number of a severity: 0 ("emerg") to 7 ("debug")."""
    if isinstance(value, str) and value in _OTHER_NAMES:
        return _OTHER_NAMES[value]
    return _named("severity", value, SEVERITIES, 7)


def _named(name: str, value: object, known: Mapping[str, int], highest: int) -> int:
    if isinstance(value, str):
        number = known.get(value.lower())
        if number is None:
            raise ValueError(f"{name}: {value!r} is none of {', '.join(known)}")
        return number
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: must be a name or a number, not {type(value).__name__}")
    if not 0 <= value <= highest:
        raise ValueError(f"{name}: {value} is not in the range 0 to {highest}")
    return int(value)


def _field(name: str, value: object) -> str:
    """Return a header field: PRINTUSASCII of limited length, or "-" for None."""
    text = "" if value is None else str(value)
    return "".join(letter if letter in _PRINTABLE else "_" for letter in text[: _LENGTHS[name]]) or "-"


class Header:
    """The part of the header that all messages of one sender share.

    Args:
        facility: a number.
        hostname: the FQDN, address or name of this machine; None or empty if unknown.
        app_name: the name of the program.
        procid: the pid or another id of the process; None if unknown.
    """

    __slots__ = ("_facility", "_host", "_middle", "_minute", "_prefix", "_tag")

    def __init__(self, facility: int, hostname: str | None, app_name: str, procid: object) -> None:
        self._facility = facility * 8
        self._host = _field("hostname", hostname)
        self._middle = f"{self._host} {_field('app_name', app_name)} {_field('procid', procid)}"
        # RFC 3164, 4.1.3: the tag is alphanumeric and ends before another character. Program names have more
        # characters.
        tag = "".join(letter if letter in _PRINTABLE and letter not in "[]:" else "_" for letter in app_name[:_TAG_MAX])
        self._tag = f"{tag or '-'}[{_field('procid', procid)}]:" if procid is not None else f"{tag or '-'}:"
        # The text of a minute, and its start in seconds since 1970: the local time is formatted once a minute.
        self._minute = (-60, "", "", "")

    def _time(self, created: float) -> tuple[float, str, str, str]:
        begin, day, old, offset = self._minute
        if not begin <= created < begin + 60:
            moment = datetime.fromtimestamp(int(created // 60) * 60).astimezone()
            begin = int(moment.timestamp())
            # No time zone has seconds in its offset today, and RFC 3339 has no notation for them.
            offset = moment.strftime("%z")
            offset = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:5]}"
            day = moment.strftime("%Y-%m-%dT%H:%M:")
            old = f"{MONTHS[moment.month - 1]} {moment.day:2d} {moment:%H:%M}:"
            self._minute = (begin, day, old, offset)
        return created - begin, day, old, offset

    def rfc5424(
        self,
        severity: int,
        created: float,
        text: str,
        msgid: str | None = None,
        data: Mapping[str, Mapping[str, object]] | None = None,
        bom: bool = False,
    ) -> bytes:
        """Return a message of RFC 5424.

        Args:
            severity: a number.
            created: seconds since 1970.
            text: the message; surrogates are escaped.
            msgid: the type of the message.
            data: structured data: for each element, such as "origin" or "mine@32473", its parameters.
            bom: whether to put a byte order mark before the text, which declares UTF-8. Many receivers show the mark.
        """
        seconds, day, _, offset = self._time(created)
        second, micro = divmod(int(seconds * 1e6), 1_000_000)
        head = (
            f"<{self._facility + severity}>1 {day}{second:02d}.{micro:06d}{offset} {self._middle} "
            f"{'-' if msgid is None else _field('msgid', msgid)} {'-' if not data else structured(data)} "
        )
        mark = b"\xef\xbb\xbf" if bom else b""
        return head.encode("utf-8", "backslashreplace") + mark + text.encode("utf-8", "backslashreplace")

    def rfc3164(self, severity: int, created: float, text: str, local: bool = False) -> bytes:
        """Return a message of RFC 3164.

        Args:
            severity: a number.
            created: seconds since 1970.
            text: the message.
            local: whether to leave the host out, as syslog(3) does for the local daemon.
        """
        seconds, _, old, _ = self._time(created)
        host = "" if local else f"{self._host.rstrip(':') or '-'} "
        head = f"<{self._facility + severity}>{old}{int(seconds):02d} {host}{self._tag} "
        return head.encode("utf-8", "backslashreplace") + text.encode("utf-8", "backslashreplace")


def structured(data: Mapping[str, Mapping[str, object]]) -> str:
    r"""Return structured data (RFC 5424, 6.3): names are made valid, values are escaped.

    Elements whose names become equal are merged, because a name may occur only once.

    >>> structured({"mine@32473": {"path": 'a"]b'}})
    '[mine@32473 path="a\\"\\]b"]'
    """
    found: dict[str, str] = {}
    for element, values in data.items():
        name = _sd_name(element)
        pairs = "".join(f' {_sd_name(key)}="{_sd_value(value)}"' for key, value in values.items())
        found[name] = found.get(name, "") + pairs
    return "".join(f"[{name}{pairs}]" for name, pairs in found.items())


def _sd_name(name: str) -> str:
    return "".join(letter if letter in _PRINTABLE and letter not in '="]' else "_" for letter in str(name)[:32]) or "_"


def _sd_value(value: object) -> str:
    # Escape surrogates first, then the backslashes of these escapes.
    text = str(value).encode("utf-8", "backslashreplace").decode()
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
    # Control characters are valid, but a line end breaks receivers that frame by lines, and others affect a terminal.
    return text if text.isprintable() else "".join(map(_sd_char, text))


def _sd_char(char: str) -> str:
    return f"#{ord(char):03o}" if ord(char) < 0x20 or ord(char) == 0x7F else char


def shortened(message: bytes, size: int) -> bytes:
    """Return at most `size` bytes of a message, without an incomplete character at the end.

    Structured data that does not fit is left out completely: truncated structured data is invalid (RFC 5424, 6.1).
    """
    if len(message) <= size:
        return message
    bounds = _data_bounds(message)
    if bounds is not None and size < bounds[1]:
        begin, end = bounds
        message = message[:begin] + b"-" + message[end:]
        if len(message) <= size:
            return message
    end = size
    while end > max(0, size - 4) and message[end] & 0xC0 == 0x80:
        end -= 1
    return message[:end]


def _data_bounds(message: bytes) -> tuple[int, int] | None:
    """Return the range of the structured data in a message of RFC 5424; None for another message."""
    if not message[message.find(b">") :].startswith(b">1 "):
        return None
    fields = message.split(b" ", 6)
    if len(fields) < 7:
        return None
    begin = end = len(message) - len(fields[6])
    if message[begin : begin + 1] != b"[":
        return begin, begin + 1
    quoted = False
    while end < len(message):
        char = message[end]
        end += 1
        if quoted:
            # A backslash escapes the next byte.
            end += char == 0x5C
            quoted = char != 0x22
        elif char == 0x22:
            quoted = True
        elif char == 0x5D and message[end : end + 1] != b"[":
            break
    return begin, end


def framed(message: bytes, framing: str) -> bytes:
    """Return a message with its frame for a stream.

    Args:
        message: the message without a frame.
        framing: "octet": the length comes first (RFC 6587, 3.4.1), and the message may contain any byte. "newline",
            "nul": this byte ends the message; inside the message it becomes #012 or #000, as in rsyslog.
    """
    if framing == "octet":
        return b"%d %s" % (len(message), message)
    if framing == "newline":
        return message.replace(b"\n", b"#012") + b"\n"
    return message.replace(b"\0", b"#000") + b"\0"
