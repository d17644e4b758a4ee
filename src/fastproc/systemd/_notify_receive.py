"""The receiving side of sd_notify(3): one socket, whose messages count only when their sender is the right process.

The kernel tells who has sent a message (SCM_CREDENTIALS of unix(7)); a number in the message itself proves nothing.
Invariant: every descriptor that comes is owned from the moment it is here, and closed unless it is to be stored.
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
"""How far up a sender's parents are looked at."""


class Message:
    """One message.

    Attributes:
        fields: its assignments.
        pid, uid, gid: the sender's, as the kernel says.
        fds: the descriptors that came with it.
    """

    __slots__ = ("fds", "fields", "gid", "pid", "uid")

    def __init__(self, fields: dict[str, str], pid: int, uid: int, gid: int, fds: list[OwnedFd]) -> None:
        self.fields = fields
        self.pid = pid
        self.uid = uid
        self.gid = gid
        self.fds = fds

    def close(self) -> None:
        """Close its descriptors."""
        for fd in self.fds:
            fd.close()
        self.fds.clear()


class Receiver:
    """The socket.

    Args:
        path: where it is made; None: an abstract address that the kernel chooses.

    Attributes:
        address: what NOTIFY_SOCKET is to be.
        malformed: messages that were cut off, without credentials, or from nobody in our PID namespace.

    Raises:
        OSError: bind(2).
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
                # "" binds to a number of the kernel's choice (unix(7), autobind).
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
            # By the descriptor: nobody puts another directory in its place meanwhile.
            self._socket.bind(f"/proc/self/fd/{place.number}/{name}")
            return os.stat(name, dir_fd=place.number, follow_symlinks=False)

    def fileno(self) -> int:
        """The descriptor, readable when there is a message."""
        return self._socket.fileno()

    def receive(self) -> Message | None:
        """Return the next message that has a sender, or None when there is none. Never waits."""
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
                    # Only this socket's: somebody may have removed it, and a successor have made his in its place.
                    if os.path.samestat(os.lstat(self._path), self._file) and os.getpid() == self._owner:
                        os.unlink(self._path)
                except OSError:
                    # Somebody else has removed it.
                    pass


def descends(pid: int, ancestor: int) -> bool:
    """Whether a process is another one's descendant now; who has lost its parents on the way is none any more."""
    from fastproc._native import proc

    for at in range(ANCESTORS_MAX):
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
        try:
            if at == 0:
                # In another PID namespace's /proc the number has a stranger's parents.
                proc.check()
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name may hold anything; the last bracket ends it (proc_pid_stat(5)).
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return False
    return False


def hold_descendant(pid: int, ancestors: tuple[int | None, ...]) -> OwnedFd | None:
    """Return a pidfd of a process that descends from one of some others now; None when it is none."""
    held = OwnedFd()
    try:
        held.fill(_native.fp_pidfd_open, pid)
    except OSError:
        return None
    # The pidfd comes first, and the process still is there afterwards: so it is the one that was looked at.
    if any(descends(pid, one) for one in ancestors if one is not None) and _is_there(held):
        return held
    held.close()
    return None


def is_still(pid: int, held: OwnedFd) -> bool:
    """Whether a process still has its number; also when nobody has it: what it sent before its end is its own."""
    if _is_there(held):
        return True
    try:
        with OwnedFd() as other:
            other.fill(_native.fp_pidfd_open, pid)
    except ProcessLookupError:
        return True
    except OSError:
        # Somebody has it, or nobody can tell.
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
    """Wait until `take` says that it is enough; give False when the process ended or the deadline passed first.

    Args:
        server: the socket.
        process: the child.
        take: takes the messages that are there.
        deadline: a monotonic instant, asked for again after each message, as one may move it.
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
            # The end is looked at first: what was sent before it is there then.
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
    """The monotonic instant `seconds` from now."""
    return monotonic() + seconds
