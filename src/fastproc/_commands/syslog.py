"""`python -m fastproc syslog`: what comes on standard input becomes syslog messages, line by line, as by logger(1)."""

from __future__ import annotations

import os
import signal

from fastproc._commands.complaint import complain
from fastproc._commands.text import write

USAGE = """\
usage: python -m fastproc syslog [OPTION...]

Sends each line of standard input as a syslog message, and ends with it. It never waits for the receiver, so that who
writes to it is never held; what could not be sent is told at the end, and makes the exit status 1.

  -t, --tag NAME        the program's name in the messages
  -i, --id PID          its pid
  -f, --facility NAME   user (the default), daemon, local0, ...
  -p, --severity NAME   info (the default), err, ...
  -a, --address PATH    the receiver's socket; /dev/log if not given
  -n, --server HOST     the receiver's host instead
  -P, --port PORT       its port; 514 if not given
  -T, --tcp             by TCP with octet counting, not by UDP
  --rfc3164, --rfc5424  the format
  --timeout SECONDS     how long to wait for the receiver at the end; 5 if not given"""

_VALUES = {
    **dict.fromkeys(("-t", "--tag"), "tag"),
    **dict.fromkeys(("-i", "--id"), "id"),
    **dict.fromkeys(("-f", "--facility"), "facility"),
    **dict.fromkeys(("-p", "--severity"), "severity"),
    **dict.fromkeys(("-a", "--address"), "address"),
    **dict.fromkeys(("-n", "--server"), "server"),
    **dict.fromkeys(("-P", "--port"), "port"),
    "--timeout": "timeout",
}
_FLAGS = {"-T": "tcp", "--tcp": "tcp", "--rfc3164": "rfc3164", "--rfc5424": "rfc5424"}

READ_SIZE = 65536

PUMP_EVERY = 0.1
"""Seconds between two tries to send what waits, while nothing comes."""


def syslog(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    if arguments[:1] in (["-h"], ["--help"]):
        write(lambda: USAGE)
        return 0
    from fastproc.syslog._message import severity

    try:
        given = _parse(arguments)
        timeout = _seconds(given.get("timeout", "5"))
        number = severity(given.get("severity", "info"))
        log = _sender(given)
    except (ValueError, OSError) as error:
        complain("syslog", error)
        return 2
    # Its end is that of its input: what a terminal tells the whole group must not cut off the last words.
    for sig in (signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    failed = None
    try:
        _relay(log, number)
    except OSError as error:
        failed = error
    counts = log.close(timeout)
    if failed is not None:
        complain("syslog", f"standard input: {failed.strerror}")
    missing = counts.dropped + counts.uncertain
    if missing:
        complain("syslog", f"{missing} of {counts.given} messages: {log.error}")
    return 1 if missing or failed is not None else 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= TIMEOUT_MAX:
        raise ValueError(f"--timeout: must be seconds from 0 to {TIMEOUT_MAX}, not {text!r}")
    return value


TIMEOUT_MAX = 2**31 - 1


def _parse(arguments: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if word in _FLAGS:
            given[_FLAGS[word]] = "yes"
        elif name in _VALUES:
            if not equals:
                value = next(words, "")
            if not value:
                raise ValueError(f"{name}: a value is missing")
            given[_VALUES[name]] = value
        else:
            raise ValueError(f"{word}: there is no such option")
    if "address" in given and ("server" in given or "tcp" in given or "port" in given):
        raise ValueError("--address: is a socket of this machine, and --server, --port or --tcp is given too")
    if "rfc3164" in given and "rfc5424" in given:
        raise ValueError("--rfc3164: and --rfc5424 is given too")
    return given


def _sender(given: dict[str, str]) -> Syslog:
    from fastproc.syslog import SOCKET, Syslog

    port = given.get("port", "514")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536):
        raise ValueError(f"--port: must be a number from 1 to 65535, not {port!r}")
    network = not {"server", "tcp", "port"}.isdisjoint(given)
    return Syslog(
        (given.get("server", "localhost"), int(port)) if network else given.get("address", SOCKET),
        protocol="tcp" if "tcp" in given else None,
        format=next((name for name in ("rfc3164", "rfc5424") if name in given), None),
        facility=given.get("facility", "user"),
        app_name=given.get("tag", "fastproc"),
        procid=given.get("id"),
    )


def _relay(log: Syslog, severity: int) -> None:
    from fastproc._values.on_line import OnLine
    from fastproc.syslog._channel import readable

    splitter = OnLine(print, text=True, errors="backslashreplace", newline="universal", longest=4096).splitter()

    def read() -> bytes:
        while log.counts.waiting and not readable(0, PUMP_EVERY):
            log.pump()
        return os.read(0, READ_SIZE)

    while data := read():
        for line in splitter.feed(data):
            log.send(line, severity)
    for line in splitter.finish():
        log.send(line, severity)


TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.syslog import Syslog
