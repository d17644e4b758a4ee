"""Where this process runs: below a manager, in a container, writing to the journal; and a stream to the journal."""

from __future__ import annotations

import os

from fastproc.syslog._message import severity
from fastproc.systemd._notify_send import connect_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket


def booted() -> bool:
    """Whether systemd is the system's init (sd_booted(3))."""
    try:
        return os.lstat("/run/systemd/system").st_mode & 0o170000 == 0o040000
    except OSError:
        return False


booted.__module__ = "fastproc.systemd"


def journal_stream(fd: int = 2) -> bool:
    """Whether a descriptor is connected to the journal: JOURNAL_STREAM names its device and inode (systemd.exec(5)).

    The variable alone says nothing: shells and their children inherit it, with other streams.
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
    """Say why a daemon that is started here must stay in the foreground; None when nothing speaks for it.

    A supervisor watches the process that it has started, and takes its end for the service's (GOTCHAS H12).

    Returns:
        "notify": a manager waits for messages (NOTIFY_SOCKET).
        "systemd": systemd has executed this very process (SYSTEMD_EXEC_PID).
        "listen": sockets were passed to this process (LISTEN_PID).
        "journal": standard output or error is the journal (JOURNAL_STREAM matches the stream).
        "pid 1": it is the first process of a container.
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
    """Return a stream to the journal, as systemd gives to a service: for `stdout` and `stderr` of a child.

    Every line that is written to it becomes an entry of the writing process.

    Args:
        identifier: SYSLOG_IDENTIFIER= of the entries.
        priority: of lines without a prefix of their own: a name or number of syslog.
        level_prefix: whether a line may begin with its priority, as "<3>".
        unit: the unit that the entries are of, which only root may name.
        path: of the journal's socket.
        timeout: seconds to wait while the journal does not take the connection.

    Raises:
        TypeError, ValueError: an argument is not possible; its name comes first.
        TimeoutError: the journal did not take it.
        OSError: ENOENT, ECONNREFUSED: there is no journal here.
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
