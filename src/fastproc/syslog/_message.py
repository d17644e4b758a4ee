"""The two formats of syslog messages, RFC 5424 and RFC 3164, and their framing on a stream (RFC 6587).

Pure: who sends a message, and when, is given. What a field may not hold is replaced, never left to break the format: a
message is the last place where an error about a message would help.
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
# A year of four digits, in every zone.
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
        TypeError, ValueError: there is none of that name or number.
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
    """Return a header field: PRINTUSASCII of a bounded length, or "-" for none."""
    text = "" if value is None else str(value)
    return "".join(letter if letter in _PRINTABLE else "_" for letter in text[: _LENGTHS[name]]) or "-"


class Header:
    """What is the same in all messages of one sender.

    Args:
        facility: a number.
        hostname: the FQDN, address or name of this machine; None or empty: unknown.
        app_name: the program.
        procid: its pid, or another name of this run of it; None: unknown.
    """

    __slots__ = ("_facility", "_host", "_middle", "_minute", "_prefix", "_tag")

    def __init__(self, facility: int, hostname: str | None, app_name: str, procid: object) -> None:
        self._facility = facility * 8
        self._host = _field("hostname", hostname)
        self._middle = f"{self._host} {_field('app_name', app_name)} {_field('procid', procid)}"
        # RFC 3164, 4.1.3: alphanumeric, and ended by what is not. Programs' names have more than that.
        tag = "".join(letter if letter in _PRINTABLE and letter not in "[]:" else "_" for letter in app_name[:_TAG_MAX])
        self._tag = f"{tag or '-'}[{_field('procid', procid)}]:" if procid is not None else f"{tag or '-'}:"
        # The minute's text, and the seconds since 1970 at which it begins: a local time is made once a minute.
        self._minute = (-60, "", "", "")

    def _time(self, created: float) -> tuple[float, str, str, str]:
        begin, day, old, offset = self._minute
        if not begin <= created < begin + 60:
            moment = datetime.fromtimestamp(int(created // 60) * 60).astimezone()
            begin = int(moment.timestamp())
            # No zone of today has seconds in its offset; RFC 3339 could not say them.
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
            text: the message; what is no Unicode (surrogates) is escaped.
            msgid: the type of message.
            data: structured data: parameters by the name of their element, such as "origin" or "mine@32473".
            bom: whether a byte order mark says that the text is UTF-8, as the RFC has it; many receivers show it.
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
            local: leave the host out, as syslog(3) does it for the daemon of this machine.
        """
        seconds, _, old, _ = self._time(created)
        host = "" if local else f"{self._host.rstrip(':') or '-'} "
        head = f"<{self._facility + severity}>{old}{int(seconds):02d} {host}{self._tag} "
        return head.encode("utf-8", "backslashreplace") + text.encode("utf-8", "backslashreplace")


def structured(data: Mapping[str, Mapping[str, object]]) -> str:
    r"""Return structured data (RFC 5424, 6.3): names are made valid, values escaped.

    Elements whose names become the same are one: a name may be there once.

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
    # What is no Unicode becomes text before the backslashes of that are escaped.
    text = str(value).encode("utf-8", "backslashreplace").decode()
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
    # Control characters are allowed there; a line end breaks every receiver that frames by lines, others a terminal.
    return text if text.isprintable() else "".join(map(_sd_char, text))


def _sd_char(char: str) -> str:
    return f"#{ord(char):03o}" if ord(char) < 0x20 or ord(char) == 0x7F else char


def shortened(message: bytes, size: int) -> bytes:
    """Return at most `size` bytes of a message, without a piece of a character at the end.

    Structured data that does not fit is left out as a whole: a piece of it would make the message invalid (RFC 5424,
    6.1).
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
    """Return where the structured data of a message of RFC 5424 begins and ends; None for another message."""
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
            # A backslash takes the next one with it.
            end += char == 0x5C
            quoted = char != 0x22
        elif char == 0x22:
            quoted = True
        elif char == 0x5D and message[end : end + 1] != b"[":
            break
    return begin, end


def framed(message: bytes, framing: str) -> bytes:
    """Return a message as it goes into a stream.

    Args:
        message: without a frame.
        framing: "octet": its length before it (RFC 6587, 3.4.1), any bytes may be inside. "newline", "nul": that byte
            behind it; inside it becomes #012 or #000, as rsyslog writes it.
    """
    if framing == "octet":
        return b"%d %s" % (len(message), message)
    if framing == "newline":
        return message.replace(b"\n", b"#012") + b"\n"
    return message.replace(b"\0", b"#000") + b"\0"
