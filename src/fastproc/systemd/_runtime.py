"""The environment of this process: a service manager, a container, the journal; and a stream to the journal."""

from __future__ import annotations

import os

from fastproc.syslog._message import severity
from fastproc.systemd._notify_send import connect_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket


def booted() -> bool:
    """Return whether systemd is the init process of this system (sd_booted(3))."""
    try:
        return os.lstat("/run/systemd/system").st_mode & 0o170000 == 0o040000
    except OSError:
        return False


booted.__module__ = "fastproc.systemd"


def journal_stream(fd: int = 2) -> bool:
    """Return whether a descriptor is connected to the journal: it is the file of JOURNAL_STREAM (systemd.exec(5)).

    The variable alone proves nothing, because shells and their children inherit it with other streams.
    """
    device, colon, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not colon:
        return False
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return (str(status.st_dev), str(status.st_ino)) == (device, inode)


journal_stream.__module__ = "fastproc.systemd"


def foreground_reason() -> str | None:
    """Return why a daemon that is started now should stay in the foreground; None if there is no reason.

    A supervisor watches the process that it has started, and takes its exit for the exit of the service (GOTCHAS H12).

    Returns:
        "notify": a manager waits for messages (NOTIFY_SOCKET).
        "systemd": systemd has executed this process (SYSTEMD_EXEC_PID).
        "listen": sockets were passed to this process (LISTEN_PID).
        "journal": standard output or standard error is connected to the journal (JOURNAL_STREAM matches).
        "pid 1": this is the first process of a container.
    """
    pid = str(os.getpid())
    if os.environ.get("NOTIFY_SOCKET"):
        return "notify"
    if os.environ.get("SYSTEMD_EXEC_PID") == pid:
        return "systemd"
    if os.environ.get("LISTEN_PID") == pid:
        return "listen"
    if journal_stream(1) or journal_stream(2):
        return "journal"
    return "pid 1" if pid == "1" else None


foreground_reason.__module__ = "fastproc.systemd"


def journal_socket(
    identifier: str,
    priority: str | int = "info",
    *,
    level_prefix: bool = True,
    unit: str = "",
    path: str = "/run/systemd/journal/stdout",
    timeout: float | None = 5.0,
) -> socket.socket:
    """Return a stream to the journal, as systemd passes to a service. Use it for `stdout` and `stderr` of a child.

    Every line that is written to the stream becomes a journal entry of the writing process.

    Args:
        identifier: SYSLOG_IDENTIFIER= of the entries.
        priority: the priority of lines without a prefix: a name or number of syslog.
        level_prefix: whether a line may begin with its priority, such as "<3>".
        unit: the unit of the entries. Only root may set a unit.
        path: the path of the journal's socket.
        timeout: seconds to wait until the journal accepts the connection.

    Raises:
        TypeError, ValueError: an argument is invalid; the message starts with its name.
        TimeoutError: the journal did not accept the connection.
        OSError: ENOENT, ECONNREFUSED: the journal does not run.
    """
    number = severity(priority)
    for name, text in (("identifier", identifier), ("unit", unit)):
        if not isinstance(text, str):
            raise TypeError(f"{name}: must be str, not {type(text).__name__}")
        if "\n" in text or "\0" in text:
            raise ValueError(f"{name}: must be one line")
    header = f"{identifier}\n{unit}\n{number}\n{int(level_prefix)}\n0\n0\n0\n".encode()
    return connect_stream(path, header, timeout)


journal_socket.__module__ = "fastproc.systemd"
