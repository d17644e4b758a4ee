"""The formats of syslog messages, against the RFCs' grammar written as regular expressions."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc.syslog import _message as syslog
from fastproc.syslog._message import Header

# RFC 5424, section 6. SD-PARAM values: any but an unescaped quote, backslash or bracket.
NAME = rb"[!#-<>-\\^-~]{1,32}"
SD = rb"\[" + NAME + rb"(?: " + NAME + rb'="(?:[^"\\\]]|\\["\\\]])*")*\]'
RFC5424 = re.compile(
    rb"<(?P<pri>[1-9]?[0-9]|1[0-9][0-9])>1 "
    rb"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(?:Z|[+-]\d\d:\d\d)) "
    rb"(?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<procid>[!-~]{1,128}) (?P<msgid>[!-~]{1,32}) "
    rb"(?P<sd>-|(?:" + SD + rb")+) (?P<text>.*)",
    re.DOTALL,
)
# RFC 3164, section 4.1.
RFC3164 = re.compile(
    rb"<(?P<pri>\d{1,3})>(?P<time>(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 1-3]\d \d\d:\d\d:\d\d) "
    rb"(?:(?P<host>[!-~]+) )??(?P<tag>[^ \[\]:]{1,32})(?:\[(?P<procid>[!-~]+)\])?: (?P<text>.*)",
    re.DOTALL,
)


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_rfc5424_of_the_rfc_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Example 3 of section 6.5, but for its time, which is that of a zone without one."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    header = Header(20 * 8 // 8, "mymachine.example.com", "evntslog", None)
    data = {"exampleSDID@32473": {"iut": "3", "eventSource": "Application", "eventID": "1011"}}
    text = "An application event log entry..."
    message = header.rfc5424(5, 1065910455.003, text, "ID47", data, bom=True)
    monkeypatch.undo()
    time.tzset()
    assert message == (
        b"<165>1 2003-10-11T22:14:15.003000Z mymachine.example.com evntslog - ID47 "
        b'[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"] '
        b"\xef\xbb\xbfAn application event log entry..."
    )


@pytest.mark.usefixtures("zone")
@given(st.floats(0, 4e9), st.integers(0, 23), st.integers(0, 7))
def test_times_are_those_of_the_standard_library(created: float, facility: int, severity: int) -> None:
    """In the local zone, whose offset may have half hours, and on both sides of its changes."""
    from datetime import datetime

    header = Header(facility, "host", "app", 1)
    found = RFC5424.fullmatch(header.rfc5424(severity, created, "x"))
    assert found
    assert int(found["pri"]) == facility * 8 + severity
    told = datetime.fromisoformat(found["time"].decode())
    assert abs(told.timestamp() - created) < 2e-6
    assert told.utcoffset() == datetime.fromtimestamp(int(created)).astimezone().utcoffset()
    old = RFC3164.fullmatch(header.rfc3164(severity, created, "x"))
    assert old
    assert old["time"].decode() == time.strftime("%b %e %H:%M:%S", time.localtime(int(created)))


ANY = st.text(st.characters(exclude_categories=[]), max_size=300)


@given(ANY, ANY, ANY, ANY, st.dictionaries(ANY, st.dictionaries(ANY, ANY, max_size=3), max_size=3))
def test_rfc5424_is_valid_whatever_the_fields_hold(
    host: str, app: str, msgid: str, text: str, data: dict[str, dict[str, str]]
) -> None:
    """No field can end early, and none can smuggle in another."""
    message = Header(1, host, app, "1 2").rfc5424(6, 1e9, text, msgid, data)
    found = RFC5424.fullmatch(message)
    assert found, message
    assert found["text"] == text.encode("utf-8", "backslashreplace")
    assert found["procid"] == b"1_2"
    assert (found["sd"] == b"-") == (not data)


@given(ANY, ANY, ANY, st.booleans())
def test_rfc3164_is_valid_whatever_the_fields_hold(host: str, app: str, text: str, local: bool) -> None:
    message = Header(1, host, app, 17).rfc3164(6, 1e9, text, local)
    found = RFC3164.fullmatch(message)
    assert found, message
    assert found["procid"] == b"17"
    assert message.endswith(b"]: " + text.encode("utf-8", "backslashreplace"))


def test_structured_data_is_escaped() -> None:
    """RFC 5424, 6.3.3: quote, backslash and bracket."""
    assert syslog.structured({"a b=": {"c]": 'x"\\]\n\0'}}) == '[a_b_ c_="x\\"\\\\\\]#012#000"]'


@given(st.text(max_size=50), st.integers(1, 100))
def test_shortened_ends_with_a_whole_character(text: str, size: int) -> None:
    text = text.encode("utf-8", "replace").decode()
    data = text.encode()
    short = syslog.shortened(data, size)
    assert data.startswith(short)
    assert len(short) <= size
    assert len(short) >= min(len(data), size - 3)
    if size >= 4 or short:
        short.decode()


def unframed(data: bytes) -> list[bytes]:
    """What a receiver makes of octet counting (RFC 6587, 3.4.1)."""
    found = []
    while data:
        length, _, rest = data.partition(b" ")
        found.append(rest[: int(length)])
        data = rest[int(length) :]
    return found


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=10))
def test_frames_are_found_again(messages: list[bytes]) -> None:
    """Octet counting keeps every byte; the others write what would end a message as rsyslog writes it."""
    assert unframed(b"".join(syslog.framed(message, "octet") for message in messages)) == messages
    for framing, end, escape in (("newline", b"\n", b"#012"), ("nul", b"\0", b"#000")):
        data = b"".join(syslog.framed(message, framing) for message in messages)
        assert data.split(end)[:-1] == [message.replace(end, escape) for message in messages]


@pytest.mark.parametrize(
    ("call", "value", "expected"),
    [
        (syslog.facility, "local7", 23),
        (syslog.facility, "AUTHPRIV", 10),
        (syslog.facility, 0, 0),
        (syslog.severity, "err", 3),
        (syslog.severity, "error", 3),
        (syslog.severity, "critical", 2),
        (syslog.severity, 7, 7),
    ],
)
def test_names_and_numbers(call: object, value: object, expected: int) -> None:
    import logging.handlers

    assert call(value) == expected  # type: ignore[operator]
    names = logging.handlers.SysLogHandler
    assert {name: names.facility_names[name] for name in names.facility_names if name in syslog.FACILITIES} == {
        name: number for name, number in syslog.FACILITIES.items() if name in names.facility_names
    }


@pytest.mark.parametrize(
    ("call", "value", "error"),
    [
        (syslog.facility, "local8", ValueError),
        (syslog.facility, 24, ValueError),
        (syslog.facility, True, TypeError),
        (syslog.severity, "loud", ValueError),
        (syslog.severity, 8, ValueError),
        (syslog.severity, None, TypeError),
    ],
)
def test_what_is_no_name_is_refused(call: object, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^(facility|severity): "):
        call(value)  # type: ignore[operator]


DATA = {"a@1": {"k": 'x"]\\y', "b": "\x00\n\x1b\x7f"}, "é b@2": {"=": "\udcff", "k": "日本"}}


def read_data(message: bytes) -> list[bytes]:
    """Read the elements of structured data by the grammar of RFC 5424, 6; [] for "-"."""
    rest = message.split(b" ", 6)[6]
    found = []
    at = 0
    while element := re.compile(SD).match(rest, at):
        assert re.search(rb"[\x00-\x1f\x7f]", element[0]) is None
        found.append(element[0])
        at = element.end()
    if not found:
        assert rest.startswith(b"-")
        at = 1
    assert rest[at : at + 1] in (b"", b" "), rest[at:]
    return found


def test_structured_data_with_what_is_no_unicode_and_controls_is_valid() -> None:
    """Each byte of it prints; names that become the same are one element."""
    message = Header(1, "h", "app", 1).rfc5424(6, 0.0, "text\udcff", None, DATA)
    assert read_data(message) == [
        rb'[a@1 k="x\"\]\\y" b="#000#012#033#177"]',
        r'[__b@2 _="\\udcff" k="日本"]'.encode(),
    ]
    assert message.endswith(b" text\\udcff")
    assert syslog.structured({"a b": {"x": 1}, "a=b": {"y": 2}}) == '[a_b x="1" y="2"]'


def test_shortened_leaves_structured_data_whole_or_out() -> None:
    """At every size: valid, and the text is cut at a character."""
    for data in (DATA, {"q@1": {"k": "]" * 40}, "r@2": {}}, None):
        message = Header(1, "h", "app", 1).rfc5424(6, 0.0, "日本 [x] text", "id", data, bom=True)
        whole = read_data(message)
        header = len(message.split(b" ", 6)[0]) + sum(len(field) + 1 for field in message.split(b" ", 6)[1:6]) + 1
        kept = 0
        for size in range(header + 1, len(message) + 1):
            short = syslog.shortened(message, size)
            assert len(short) <= size
            found = read_data(short)
            assert found in ([], whole)
            kept += bool(found)
            assert short.decode()
        assert bool(kept) is bool(data)
    old = Header(1, "h", "app", 1).rfc3164(6, 0.0, "a [b " + "x" * 50)
    assert syslog.shortened(old, 40) == old[:40]
