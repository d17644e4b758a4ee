"""systemd's protocols, without libsystemd: readiness, status and the watchdog (sd_notify(3)), and socket activation.

A service can notify its manager. A program that starts services can use `NotifyServer`, which waits until a service is
ready, and the option `listen_fds`, which passes sockets. Other managers that implement these protocols work too.

>>> from fastproc import systemd
>>> systemd.notify(ready=True, status="listening")  # not in a service: NOTIFY_SOCKET is not set
False
"""

from __future__ import annotations

from fastproc.systemd._runtime import booted, foreground_reason, journal_socket, journal_stream
from fastproc.systemd._server import Notification, NotifyServer, NotReady, StartTimeout, StoredFd
from fastproc.systemd._service import PassedFd, barrier, listen_fds, notify, watchdog, watchdog_usec

__all__ = [
    "NotReady",
    "Notification",
    "NotifyServer",
    "PassedFd",
    "StartTimeout",
    "StoredFd",
    "barrier",
    "booted",
    "foreground_reason",
    "journal_socket",
    "journal_stream",
    "listen_fds",
    "notify",
    "watchdog",
    "watchdog_usec",
]
