"""The service's side of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket

from fastproc._values import listen as listen_values
from fastproc.systemd import _listen_fds as listen
from fastproc.systemd import _notify_send as sender
from fastproc.systemd import _notify_text as values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from fastproc._engine.reactor import Reactor
    from fastproc._values.aliases import HasFileno

_STATE_TIMEOUT = 5.0
_VARIABLE = "NOTIFY_SOCKET"


def notify(
    *,
    ready: bool = False,
    reloading: bool = False,
    stopping: bool = False,
    status: str | None = None,
    errno: int | None = None,
    buserror: str | None = None,
    varlinkerror: str | None = None,
    exit_status: int | None = None,
    mainpid: int | None = None,
    watchdog: bool | str = False,
    watchdog_usec: int | None = None,
    extend_timeout_usec: int | None = None,
    fdstore: Iterable[int | HasFileno] = (),
    fdname: str | None = None,
    fdpoll: bool = True,
    fdstoreremove: bool = False,
    others: dict[str, str] | None = None,
    unset_environment: bool = False,
    timeout: float | None = _STATE_TIMEOUT,
) -> bool:
    """Send one message about this service to the service manager (sd_notify(3)).

    Args:
        ready: the start or reload is complete.
        reloading: the service is reloading its configuration. A call with `ready` must follow. MONOTONIC_USEC is sent
            too, because Type=notify-reload requires it.
        stopping: the service is stopping.
        status: one line for `systemctl status`.
        errno: the error with which the service fails, a positive number.
        buserror: the error as a D-Bus error name.
        varlinkerror: the error as a Varlink error name.
        exit_status: the exit status, for a manager that does not see it.
        mainpid: the pid of the new main process.
        watchdog: True: send a ping. "trigger": make the manager act as if pings were missing.
        watchdog_usec: the new maximum time between pings, in microseconds.
        extend_timeout_usec: the start, run time or stop may take this long from now on, in microseconds. Repeat the
            call if more time is needed.
        fdstore: descriptors that the manager stores and passes at the next start. The manager gets copies.
        fdname: the name of these descriptors, or of the descriptors to remove.
        fdpoll: False: the manager also keeps descriptors that report a hang-up.
        fdstoreremove: remove the stored descriptors with the name `fdname`.
        others: further assignments, such as {"X_MINE": "1"}.
        unset_environment: remove NOTIFY_SOCKET, so that children send nothing. Later calls then do nothing.
        timeout: seconds to wait while the manager does not read; None for no limit.

    Returns:
        True if there is a manager (NOTIFY_SOCKET is set). Call barrier() to wait until the manager has read the
        message.

    Raises:
        TypeError, ValueError: an argument is invalid, or the message is empty or too long.
        TimeoutError: the manager did not read.
        Unsupported: NOTIFY_SOCKET is a vsock address, of a virtual machine's host.
        OSError: sendmsg(2) failed. ENOENT, ECONNREFUSED: the socket of the manager is gone.
    """
    address = os.environ.get(_VARIABLE)
    try:
        given: dict[str, Any] = {
            "ready": ready,
            "reloading": reloading,
            "stopping": stopping,
            "status": status,
            "errno": errno,
            "buserror": buserror,
            "varlinkerror": varlinkerror,
            "exit_status": exit_status,
            "mainpid": mainpid,
            "watchdog": watchdog,
            "watchdog_usec": watchdog_usec,
            "extend_timeout_usec": extend_timeout_usec,
        }
        given = {name: value for name, value in given.items() if value is not None}
        lines = values.assignments(given, others or {})
        if reloading:
            lines.append(f"MONOTONIC_USEC={sender.monotonic_usec()}")
        fds = [_number("fdstore", item) for item in fdstore]
        lines += _store_lines(fds, fdname, fdpoll, fdstoreremove)
        if not lines:
            raise ValueError("notify: there is nothing to send")
        data = values.message(lines)
        if address is None:
            return False
        sender.send(values.address(address), data, fds, timeout)
    finally:
        if unset_environment:
            os.environ.pop(_VARIABLE, None)
    return True


notify.__module__ = "fastproc.systemd"


def _store_lines(fds: list[int], name: str | None, poll: bool, remove: bool) -> list[str]:
    if remove:
        if fds:
            raise ValueError("fdstoreremove: cannot be combined with fdstore")
        if name is None:
            raise ValueError("fdstoreremove: needs fdname, the name of the descriptors to remove (sd_notify(3))")
        return ["FDSTOREREMOVE=1", f"FDNAME={listen_values.check_fdname('fdname', name)}"]
    if fds:
        if len(fds) > values.FDS_MAX:
            raise ValueError(f"fdstore: {len(fds)} descriptors; one message takes {values.FDS_MAX} (unix(7))")
        return values.store(name, poll)
    if name is not None:
        raise ValueError("fdname: needs fdstore or fdstoreremove")
    return []


def _number(name: str, item: int | HasFileno) -> int:
    fd = item if isinstance(item, int) else item.fileno()
    if isinstance(fd, bool) or not isinstance(fd, int):
        raise TypeError(f"{name}: must be descriptor numbers or files, not {type(item).__name__}")
    if fd < 0:
        raise ValueError(f"{name}: {fd} is not a descriptor number")
    return fd


def barrier(timeout: float | None = _STATE_TIMEOUT) -> bool:
    """Return when the manager has read all earlier messages (sd_notify_barrier(3)).

    The manager may ignore a message of a process that exits before the message is read. A barrier prevents this.

    Args:
        timeout: seconds; None for no limit.

    Returns:
        True if there is a manager.

    Raises:
        TimeoutError: the manager did not read the messages in time.
        Unsupported, ValueError, OSError: as for notify().
    """
    address = os.environ.get(_VARIABLE)
    if address is None:
        return False
    sender.barrier(values.address(address), timeout)
    return True


barrier.__module__ = "fastproc.systemd"


def watchdog_usec() -> int | None:
    """Return the maximum time between two pings in microseconds; None if the manager has no watchdog for this process.

    As sd_watchdog_enabled(3): the value of WATCHDOG_USEC, if WATCHDOG_PID is the pid of this process or is not set.

    Raises:
        ValueError: a variable is not a valid number.
    """
    text = os.environ.get("WATCHDOG_USEC")
    if text is None:
        return None
    usec = values.usec(text)
    if usec is None:
        raise ValueError(f"WATCHDOG_USEC: must be a number of microseconds, not {text!r}")
    pid = os.environ.get("WATCHDOG_PID")
    if pid is not None:
        if not (pid.isascii() and pid.isdigit()):
            raise ValueError(f"WATCHDOG_PID: must be a number, not {pid!r}")
        if int(pid) != os.getpid():
            return None
    return usec


watchdog_usec.__module__ = "fastproc.systemd"


class watchdog:
    """A context manager that pings the manager at half the allowed interval, while the program drives a reactor.

    The pings come from the reactor's timers, so a program that hangs sends no pings. Does nothing if the manager has no
    watchdog for this process. For event loops see `fastproc.aio.watchdog()`.

    Args:
        reactor: a `fastproc.Reactor` that the program drives.
        alive: a function that is called before each ping. If it returns a false value, no ping is sent.

    Attributes:
        enabled: whether the manager wants pings.

    Raises:
        ValueError: as for watchdog_usec().
    """

    __module__ = "fastproc.systemd"

    __slots__ = ("_dog", "enabled")

    def __init__(self, reactor: Reactor, alive: Callable[[], object] | None = None) -> None:
        usec = watchdog_usec()
        self._dog = None
        if usec is not None and _VARIABLE in os.environ:
            self._dog = sender.Watchdog(usec, _ping, alive, reactor)
        self.enabled = self._dog is not None

    @property
    def sent(self) -> int:
        """The number of pings that were sent."""
        return 0 if self._dog is None else self._dog.sent

    @property
    def withheld(self) -> int:
        """The number of pings that were not sent because of `alive`."""
        return 0 if self._dog is None else self._dog.withheld

    @property
    def errors(self) -> int:
        """The number of pings that failed."""
        return 0 if self._dog is None else self._dog.errors

    def __enter__(self) -> watchdog:
        """Send a ping now, and start the timer."""
        if self._dog is not None:
            self._dog.begin()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop the pings."""
        if self._dog is not None:
            self._dog.close()


def _ping() -> bool:
    # The timeout is 0: a ping must not block the loop.
    return notify(watchdog=True, timeout=0.0)


# -- socket activation


class PassedFd:
    """A descriptor that the manager has passed to this process. It stays open until the program closes it.

    Attributes:
        fd: the descriptor.
        name: FileDescriptorName= of the socket unit; "unknown" if the manager passed no names.
    """

    __module__ = "fastproc.systemd"

    __slots__ = ("fd", "name")

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name

    def __repr__(self) -> str:
        """Show number and name."""
        return f"PassedFd({self.fd}, {self.name!r})"

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.fd

    @property
    def kind(self) -> str:
        """The kind: "stream", "datagram", "seqpacket", "fifo", "special", "file", "directory" or "other"."""
        return listen.kind(self.fd)

    def socket(
        self,
        family: int | None = None,
        type: int | None = None,
        listening: bool | None = None,
        address: object = None,
    ) -> socket.socket:
        """Check the descriptor and return it as a socket object, which owns it from now on.

        Args:
            family: socket.AF_UNIX, AF_INET, ...; None for any.
            type: socket.SOCK_STREAM, SOCK_DGRAM, ...; None for any.
            listening: True: the socket must listen. False: it must not listen. None: either.
            address: the expected result of getsockname(); None for any.

        Raises:
            ValueError: a property of the socket differs; the message has the property.
            OSError: ENOTSOCK: the descriptor is not a socket.
        """
        listen.check_socket(self.fd, f"descriptor {self.fd} ({self.name})", family, type, listening, address)
        return socket.socket(fileno=self.fd)


def listen_fds(unset_environment: bool = True) -> list[PassedFd]:
    """Return the descriptors that the manager has passed to this process (sd_listen_fds_with_names(3)).

    The descriptors are made close-on-exec. The variables are removed, so that children do not use them; a second call
    then returns an empty list. Variables for another process (LISTEN_PID, LISTEN_PIDFDID) give an empty list.

    Args:
        unset_environment: remove the variables, also if this call raises.

    Raises:
        ValueError: a variable is invalid by sd_listen_fds(3).
        OSError: EBADF: one of the descriptors is not open.
    """
    try:
        return [PassedFd(fd, name) for fd, name in listen.passed(os.environ)]
    finally:
        if unset_environment:
            for variable in listen_values.VARIABLES:
                os.environ.pop(variable, None)


listen_fds.__module__ = "fastproc.systemd"
