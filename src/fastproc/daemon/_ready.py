"""How a keeper knows that its program is ready: by living for a while, or by its own message (sd_notify(3)).

The program's later messages are taken, too, as long as it lives, or a barrier of its would never end; what a service
manager of the keeper's wants to know is passed on.
"""

from __future__ import annotations

import os
import socket
import struct

from fastproc._engine.reactor import READ, borrowed
from fastproc.daemon._errors import DaemonError
from fastproc.systemd import _notify_text as notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.process import Process

PASSED_ON = (
    *("STATUS", "WATCHDOG", "WATCHDOG_USEC", "STOPPING", "RELOADING", "MONOTONIC_USEC", "EXTEND_TIMEOUT_USEC"),
    *("ERRNO", "BUSERROR", "EXIT_STATUS"),
)
"""What is true of the keeper when it is true of its program. READY=1 is so when the keeper itself has said it."""

_CREDENTIALS = struct.Struct("iII")
"""struct ucred of unix(7)."""


class Server:
    """A socket for a program's messages, in the abstract namespace: no chroot and no user is kept from it.

    Anybody could send to it. Whom the kernel names as the sender decides: only root, this process's user and the
    program's are listened to.

    Args:
        uid: the program's user.
        tell: called with the lines that a service manager wants to know.

    Attributes:
        address: for NOTIFY_SOCKET.
        is_ready: whether the keeper has said that it is ready.
    """

    def __init__(self, uid: int, tell: Callable[[list[str]], object]) -> None:
        self._tell = tell
        self.is_ready = False
        self._uids = {0, os.geteuid(), uid}
        self.address = f"@fastproc-daemon-{os.urandom(16).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(b"\0" + self.address[1:].encode())

    def fileno(self) -> int:
        """Readable when there is a message."""
        return self._socket.fileno()

    def receive(self) -> dict[str, str]:
        """Return the assignments of one message; none where it is not to be believed."""
        room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * notify.FDS_MAX)
        data, extras, flags, _ = self._socket.recvmsg(notify.MESSAGE_MAX, room)
        uid = -1
        for level, kind, content in extras:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                uid = _CREDENTIALS.unpack(content)[1]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                # Closed, and so is the wait of a sender's barrier.
                for at in range(0, len(content) - len(content) % 4, 4):
                    socket.close(int.from_bytes(content[at : at + 4], "little"))
        if uid not in self._uids or flags & socket.MSG_TRUNC:
            return {}
        said = notify.read(data)
        names = (*PASSED_ON, "READY") if self.is_ready else PASSED_ON
        lines = [f"{name}={said[name]}" for name in names if name in said]
        if lines:
            self._tell(lines)
        return said

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def await_ready(process: Process, ready: str | float, server: Server | None) -> str | None:
    """Return when a program is ready, with the status line that it gave.

    Raises:
        DaemonError: it ended first; with its exit code, and a text.
    """
    status: list[str | None] = [None]
    if process.poll() is not None:
        raise _ended(process, None)
    if ready == "exec":
        return None
    happened: list[str] = []
    with borrowed() as reactor:

        def message(_events: int) -> None:
            assert server is not None
            said = server.receive()
            status[0] = said.get("STATUS", status[0])
            if said.get("READY") == "1":
                happened.append("ready")

        number = process.hold()
        timer = None
        try:
            reactor.watch(number, READ, lambda _: happened.append("ended"))
            if server is not None:
                reactor.watch(server.fileno(), READ, message)
            elif isinstance(ready, float):
                timer = reactor.call_after(ready, lambda: happened.append("ready"))
            while not happened:
                reactor.run_once()
        finally:
            reactor.unwatch(number)
            if server is not None:
                reactor.unwatch(server.fileno())
            if timer is not None:
                timer.cancel()
            process.release()
    if "ready" in happened:
        return status[0]
    raise _ended(process, status[0])


def serve(process: Process, server: Server) -> None:
    """Take a program's messages until it has ended."""
    server.is_ready = True
    if process.poll() is not None:
        return
    ended: list[int] = []
    with borrowed() as reactor:
        number = process.hold()
        try:
            reactor.watch(number, READ, ended.append)
            reactor.watch(server.fileno(), READ, lambda _: server.receive())
            while not ended:
                reactor.run_once()
        finally:
            reactor.unwatch(number)
            reactor.unwatch(server.fileno())
            process.release()


def _ended(process: Process, status: str | None) -> DaemonError:
    said = f", having said: {status}" if status else ""
    return DaemonError("ready", "", f"the program ended before it was ready{said}", "", process.wait())
