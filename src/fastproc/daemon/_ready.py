"""How a keeper learns that its program is ready: because it runs for a time, or by a message (sd_notify(3)).

The keeper also receives the program's later messages. Otherwise a barrier of the program (sd_notify_barrier(3)) would
never end. Messages that concern the keeper's own service manager are forwarded.
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
"""Assignments that are forwarded. READY=1 is forwarded too, after the keeper itself has reported it."""

_CREDENTIALS = struct.Struct("iII")
"""struct ucred of unix(7)."""


class Server:
    """A socket for the messages of a program. It is in the abstract namespace, so any root and user can reach it.

    Any process could send to the socket. The kernel reports the sender's user, and only messages of root, of this
    process's user and of the program's user are accepted.

    Args:
        uid: the user of the program.
        tell: called with the lines for the service manager.

    Attributes:
        address: the value of NOTIFY_SOCKET.
        is_ready: whether the keeper has reported that it is ready.
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
        """Return the descriptor, which is readable when a message is there."""
        return self._socket.fileno()

    def receive(self) -> dict[str, str]:
        """Return the assignments of one message; none if the sender is not accepted or the message is truncated."""
        room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * notify.FDS_MAX)
        data, extras, flags, _ = self._socket.recvmsg(notify.MESSAGE_MAX, room)
        uid = -1
        for level, kind, content in extras:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                uid = _CREDENTIALS.unpack(content)[1]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                # Closing the descriptor ends the barrier of the sender.
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
    """Wait until a program is ready; return its last status line.

    Raises:
        DaemonError: the program ended first. It has the exit code and a text.
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
    """Receive the messages of a program until it has ended."""
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
    said = f"; its last status: {status}" if status else ""
    return DaemonError("ready", "", f"the program ended before it was ready{said}", "", process.wait())
