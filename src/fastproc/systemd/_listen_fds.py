"""Descriptors that a service manager has passed to this process: found, marked close-on-exec, and identified."""

from __future__ import annotations

import os
import socket
from errno import EBADF, ENOTSOCK

from fastproc._engine.fds import OwnedFd
from fastproc._values import listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

S_IFMT = 0o170000
S_IFSOCK = 0o140000
_KINDS = {0o010000: "fifo", 0o020000: "special", 0o060000: "special", 0o100000: "file", 0o040000: "directory"}
_SOCKETS = {socket.SOCK_STREAM: "stream", socket.SOCK_DGRAM: "datagram", socket.SOCK_SEQPACKET: "seqpacket"}


def passed(environment: Mapping[str, str]) -> list[tuple[int, str]]:
    """Return the number and name of each descriptor that was passed to this process, and make it close-on-exec.

    Raises:
        ValueError: as for listen.read().
        OSError: EBADF: LISTEN_FDS counts a descriptor that is not open.
    """
    count, names = listen.read(environment, os.getpid())
    if count == 0 or not _is_ours(environment.get("LISTEN_PIDFDID")):
        return []
    found = []
    for index in range(count):
        fd = listen.FIRST + index
        try:
            os.set_inheritable(fd, False)
        except OSError as error:
            if error.errno != EBADF:
                raise
            raise OSError(EBADF, f"LISTEN_FDS: descriptor {fd} of {count} is not open") from error
        found.append((fd, listen.UNNAMED if names is None else names[index]))
    return found


def _is_ours(pidfd_id: str | None) -> bool:
    """Return whether LISTEN_PIDFDID, if set, is the inode of this process's pidfd. A pid alone may be reused."""
    if pidfd_id is None or not hasattr(os, "pidfd_open"):
        return True
    with OwnedFd() as pidfd:
        try:
            pidfd.fill(os.pidfd_open, os.getpid())
        except OSError:
            return True
        return str(os.fstat(pidfd.number).st_ino) == pidfd_id


def kind(fd: int) -> str:
    """Return the kind of a descriptor: stream, datagram, seqpacket, fifo, special, file, directory or other.

    Raises:
        OSError: EBADF.
    """
    mode = os.fstat(fd).st_mode & S_IFMT
    if mode != S_IFSOCK:
        return _KINDS.get(mode, "other")
    with _borrow(fd) as view:
        return _SOCKETS.get(view.type, "other")


class _borrow:
    """A socket object for a descriptor that it does not own or close."""

    __slots__ = ("_socket",)

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def __enter__(self) -> socket.socket:
        return self._socket

    def __exit__(self, *_exc: object) -> None:
        self._socket.detach()


def check_socket(
    fd: int,
    what: str,
    family: int | None,
    kind: int | None,
    listening: bool | None,
    address: object,
) -> None:
    """Check a socket as sd_is_socket(3), sd_is_socket_inet(3) and sd_is_socket_unix(3) do.

    Raises:
        ValueError: a property of the socket differs; the message starts with `what`.
        OSError: EBADF, ENOTSOCK.
    """
    if os.fstat(fd).st_mode & S_IFMT != S_IFSOCK:
        raise OSError(ENOTSOCK, f"{what} is not a socket")
    with _borrow(fd) as view:
        if family is not None and view.family != family:
            raise ValueError(f"{what}: is of the family {view.family.name}, not {socket.AddressFamily(family).name}")
        if kind is not None and view.type != kind:
            raise ValueError(f"{what}: is of the type {view.type.name}, not {socket.SocketKind(kind).name}")
        accepts = bool(view.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        if listening is not None and accepts is not listening:
            raise ValueError(f"{what}: {'listens' if accepts else 'does not listen'}")
        if address is not None and view.getsockname() != address:
            raise ValueError(f"{what}: has the address {view.getsockname()!r}, not {address!r}")
