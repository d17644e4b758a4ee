"""systemd's protocols, without libsystemd: readiness, status and the watchdog (sd_notify(3)), and socket activation.

For a service, which tells its manager about itself; and for who starts services: `NotifyServer` waits until one is
ready, the option `listen_fds` passes it sockets. All of it also works with other managers that speak these protocols.

>>> from fastproc import systemd
>>> systemd.notify(ready=True, status="listening")  # outside of a service: nobody to tell
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
