"""The receiving side of sd_notify(3): one socket. Messages count only if their sender is the right process.

The kernel reports the sender of a message (SCM_CREDENTIALS, unix(7)). A pid in the text of a message proves nothing.
Invariant: every received descriptor has an owner from the moment it arrives, and is closed unless it is stored.
"""

from __future__ import annotations

import os
import socket
import struct
from array import array
from errno import EAGAIN, EPERM
from time import monotonic

from fastproc import _native
from fastproc._engine.exit_watch import ExitWatch, has_ended
from fastproc._engine.fds import OwnedFd
from fastproc._engine.reactor import READ, Reactor
from fastproc._engine.trusted import Untrusted, absolute, approach, is_privileged
from fastproc.systemd import _notify_text as values
from fastproc.systemd._notify_send import seconds_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc._engine.process import Process

SCM_CREDENTIALS = 2
MSG_CMSG_CLOEXEC = 0x40000000
_UCRED = struct.Struct("iII")
_SPACE = socket.CMSG_SPACE(_UCRED.size) + socket.CMSG_SPACE(4 * values.FDS_MAX)

ANCESTORS_MAX = 64
"""How many ancestors of a sender are examined."""


class Message:
    """One message.

    Attributes:
        fields: the assignments.
        pid, uid, gid: the sender, as reported by the kernel.
        fds: the descriptors that came with the message.
    """

    __slots__ = ("fds", "fields", "gid", "pid", "uid")

    def __init__(self, fields: dict[str, str], pid: int, uid: int, gid: int, fds: list[OwnedFd]) -> None:
        self.fields = fields
        self.pid = pid
        self.uid = uid
        self.gid = gid
        self.fds = fds

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            fd.close()
        self.fds.clear()


class Receiver:
    """The socket that receives messages.

    Args:
        path: the path of the socket; None: an abstract address that the kernel chooses.

    Attributes:
        address: the value for NOTIFY_SOCKET.
        malformed: the number of messages that were truncated, had no credentials, or came from a process outside this
            PID namespace.

    Raises:
        OSError: bind(2) failed.
    """

    __slots__ = ("_file", "_owner", "_path", "_socket", "address", "malformed")

    def __init__(self, path: str | None) -> None:
        self.malformed = 0
        self._owner = os.getpid()
        self._path: str | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            if path is None:
                # An empty name binds to an address that the kernel chooses (unix(7), autobind).
                self._socket.bind("")
            else:
                self._file = self._bind(path)
        except OSError as error:
            error.filename = error.filename or path
            self._socket.close()
            raise
        self._path = path
        self.address = path if path is not None else "@" + self._socket.getsockname()[1:].decode()

    def _bind(self, path: str) -> os.stat_result:
        if not is_privileged() or not os.path.exists("/proc/self/fd"):
            self._socket.bind(path)
            return os.lstat(path)
        folder, name = os.path.split(absolute("path", path))
        try:
            place, _ = approach(folder)
        except Untrusted as error:
            raise PermissionError(EPERM, str(error), path) from None
        with place:
            # Bound by the directory's descriptor, so that no other directory can take its place meanwhile.
            self._socket.bind(f"/proc/self/fd/{place.number}/{name}")
            return os.stat(name, dir_fd=place.number, follow_symlinks=False)

    def fileno(self) -> int:
        """Return the descriptor, which is readable when a message is there."""
        return self._socket.fileno()

    def receive(self) -> Message | None:
        """Return the next message with a valid sender, or None if there is none. Never waits."""
        while True:
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(values.MESSAGE_MAX, _SPACE, MSG_CMSG_CLOEXEC)
            except OSError as error:
                if error.errno == EAGAIN:
                    return None
                raise
            fds: list[OwnedFd] = []
            sender = 0, 0, 0
            for level, kind, content in ancillary:
                if level != socket.SOL_SOCKET:
                    continue
                if kind == socket.SCM_RIGHTS:
                    numbers = array("i")
                    numbers.frombytes(content[: len(content) - len(content) % 4])
                    fds += map(OwnedFd, numbers)
                elif kind == SCM_CREDENTIALS:
                    sender = _UCRED.unpack_from(content)
            message = Message(values.read(data), *sender, fds)
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) == 0 and sender[0] > 0:
                return message
            self.malformed += 1
            message.close()

    def close(self) -> None:
        """Close the socket, and remove its file."""
        if self._socket.fileno() >= 0:
            self._socket.close()
            if self._path is not None:
                try:
                    # Remove only this socket's file: it may have been removed and replaced by a successor.
                    if os.path.samestat(os.lstat(self._path), self._file) and os.getpid() == self._owner:
                        os.unlink(self._path)
                except OSError:
                    # Another process has removed it.
                    pass


def descends(pid: int, ancestor: int) -> bool:
    """Return whether a process descends from another now. A process whose ancestor has exited may no longer do so."""
    from fastproc._native import proc

    for at in range(ANCESTORS_MAX):
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
        try:
            if at == 0:
                # In the /proc of another PID namespace the number names a stranger.
                proc.check()
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name may contain any character; the last ")" ends it (proc_pid_stat(5)).
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return False
    return False


def hold_descendant(pid: int, ancestors: tuple[int | None, ...]) -> OwnedFd | None:
    """Return a pidfd of a process that descends from one of `ancestors` now; None if it does not."""
    held = OwnedFd()
    try:
        held.fill(_native.fp_pidfd_open, pid)
    except OSError:
        return None
    # The pidfd is opened first. If the process still exists after the check, the pid was not reused meanwhile.
    if any(descends(pid, one) for one in ancestors if one is not None) and _is_there(held):
        return held
    held.close()
    return None


def is_still(pid: int, held: OwnedFd) -> bool:
    """Return whether no other process has the pid. A message that was sent before the sender's end is still valid."""
    if _is_there(held):
        return True
    try:
        with OwnedFd() as other:
            other.fill(_native.fp_pidfd_open, pid)
    except ProcessLookupError:
        return True
    except OSError:
        # Another process has the pid, or this cannot be found out.
        pass
    return False


def _is_there(held: OwnedFd) -> bool:
    try:
        _native.signal(held.number, 0, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def wait(
    server: Receiver,
    process: Process,
    take: Callable[[], bool],
    deadline: Callable[[], float | None],
) -> bool:
    """Wait until `take` returns True; return False if the process ended or the deadline passed first.

    Args:
        server: the socket.
        process: the child.
        take: processes the messages that have arrived.
        deadline: returns a monotonic time, or None. It is called after each message, because a message may extend the
            deadline.
    """
    if take():
        return True
    reactor = Reactor()
    watch = ExitWatch(process, reactor, lambda _process: None)
    try:
        reactor.watch(server.fileno(), READ, lambda _ready: None)
        if not has_ended(process):
            watch.begin()
        while True:
            # Look at the end first: all messages that were sent before it have then arrived.
            ended = has_ended(process)
            if take():
                return True
            left = seconds_left(deadline())
            if ended or left == 0.0:
                return False
            reactor.run_once(left)
    finally:
        watch.close()
        reactor.close()


def after(seconds: float) -> float:
    """Return the monotonic time `seconds` from now."""
    return monotonic() + seconds
