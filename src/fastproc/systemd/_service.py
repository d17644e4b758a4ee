"""What a service tells its manager and is given by it: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)."""

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
    """Tell the service manager about this service, by one message (sd_notify(3)).

    Args:
        ready: start-up, or a reload, has ended.
        reloading: the configuration is being read again; `ready` must follow. MONOTONIC_USEC is sent with it, as
            Type=notify-reload needs it.
        stopping: the service is about to end.
        status: one line for `systemctl status`.
        errno: the error with which the service fails, a positive number.
        buserror: the same as a D-Bus error name.
        varlinkerror: the same as a Varlink error name.
        exit_status: the exit status, for a manager that does not see it.
        mainpid: the main process from now on.
        watchdog: True: a ping. "trigger": as if pings had been missing.
        watchdog_usec: the watchdog's time from now on, in microseconds.
        extend_timeout_usec: start-up, run time or stop may take this long from now on, in microseconds; repeat it.
        fdstore: descriptors that the manager shall keep, and pass again at the next start; it gets copies.
        fdname: their name, or that of those to remove.
        fdpoll: False: the manager keeps them also when they report a hang-up.
        fdstoreremove: the descriptors called `fdname` are no longer to be kept.
        others: further assignments, such as {"X_MINE": "1"}.
        unset_environment: remove NOTIFY_SOCKET, so that no child tells anything; later calls do nothing.
        timeout: seconds to wait while the manager does not read. None for no limit.

    Returns:
        Whether there is a manager (NOTIFY_SOCKET). That it has read the message only barrier() tells.

    Raises:
        TypeError, ValueError: an argument is not possible, or the message is empty or too long.
        TimeoutError: the manager did not read.
        Unsupported: NOTIFY_SOCKET is the address of a virtual machine's host (vsock).
        OSError: sendmsg(2). ENOENT, ECONNREFUSED: the manager's socket is gone.
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
            raise ValueError("notify: there is nothing to tell")
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
            raise ValueError("fdstoreremove: and fdstore is given too")
        if name is None:
            raise ValueError("fdstoreremove: needs fdname, the name of those to remove (sd_notify(3))")
        return ["FDSTOREREMOVE=1", f"FDNAME={listen_values.check_fdname('fdname', name)}"]
    if fds:
        if len(fds) > values.FDS_MAX:
            raise ValueError(f"fdstore: {len(fds)} descriptors; one message takes {values.FDS_MAX} (unix(7))")
        return values.store(name, poll)
    if name is not None:
        raise ValueError("fdname: names the descriptors of fdstore or fdstoreremove, and none are given")
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

    A short-lived process whose last message was not read yet may not be known any more when it is.

    Args:
        timeout: seconds. None for no limit.

    Returns:
        Whether there is a manager.

    Raises:
        TimeoutError: it has not read them by then.
        Unsupported, ValueError, OSError: as notify().
    """
    address = os.environ.get(_VARIABLE)
    if address is None:
        return False
    sender.barrier(values.address(address), timeout)
    return True


barrier.__module__ = "fastproc.systemd"


def watchdog_usec() -> int | None:
    """The time between two pings after which the manager takes this process for hung, in microseconds; None without.

    As sd_watchdog_enabled(3): WATCHDOG_USEC, if WATCHDOG_PID is this process or not given.

    Raises:
        ValueError: a variable is no such number.
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
    """Pings the manager for the time of a `with` block, at half the allowed time, whenever a reactor is waited by.

    The pings come from the reactor's timers: a program that hangs does not ping. Does nothing where no watchdog is
    asked for. In an event loop: `fastproc.aio.watchdog()`.

    Args:
        reactor: a `fastproc.Reactor` that the program drives.
        alive: called before each ping; when it gives something false, no ping is sent.

    Attributes:
        enabled: whether the manager asks for pings.

    Raises:
        ValueError: as watchdog_usec().
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
        """Pings sent until now."""
        return 0 if self._dog is None else self._dog.sent

    @property
    def withheld(self) -> int:
        """Pings left out because of `alive`."""
        return 0 if self._dog is None else self._dog.withheld

    @property
    def errors(self) -> int:
        """Pings that could not be sent."""
        return 0 if self._dog is None else self._dog.errors

    def __enter__(self) -> watchdog:
        """Ping now, and from now on."""
        if self._dog is not None:
            self._dog.begin()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Ping no more."""
        if self._dog is not None:
            self._dog.close()


def _ping() -> bool:
    # No wait: a loop must not stand still for it.
    return notify(watchdog=True, timeout=0.0)


# -- socket activation


class PassedFd:
    """A descriptor that the manager has passed to this process. It is open until somebody closes it.

    Attributes:
        fd: its number.
        name: FileDescriptorName= of the socket unit; "unknown" without names.
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
        """The number."""
        return self.fd

    @property
    def kind(self) -> str:
        """What it is: "stream", "datagram", "seqpacket", "fifo", "special", "file", "directory" or "other"."""
        return listen.kind(self.fd)

    def socket(
        self,
        family: int | None = None,
        type: int | None = None,
        listening: bool | None = None,
        address: object = None,
    ) -> socket.socket:
        """Return it as a socket, which owns it from now on, when it is what is expected.

        Args:
            family: socket.AF_UNIX, AF_INET, ...; None for any.
            type: socket.SOCK_STREAM, SOCK_DGRAM, ...; None for any.
            listening: whether it must accept connections, or must not; None for either.
            address: what getsockname() must give; None for any.

        Raises:
            ValueError: it is another kind of socket; the message says which.
            OSError: ENOTSOCK: it is no socket.
        """
        listen.check_socket(self.fd, f"descriptor {self.fd} ({self.name})", family, type, listening, address)
        return socket.socket(fileno=self.fd)


def listen_fds(unset_environment: bool = True) -> list[PassedFd]:
    """Return the descriptors that the manager has passed to this process (sd_listen_fds_with_names(3)).

    They are made close-on-exec. The variables are removed, so that no child takes them for its own; a second call then
    gives none. What is meant for another process (LISTEN_PID, LISTEN_PIDFDID) gives none.

    Args:
        unset_environment: remove the variables, also when this raises.

    Raises:
        ValueError: a variable is not what sd_listen_fds(3) describes.
        OSError: EBADF: one of the descriptors is not open.
    """
    try:
        return [PassedFd(fd, name) for fd, name in listen.passed(os.environ)]
    finally:
        if unset_environment:
            for variable in listen_values.VARIABLES:
                os.environ.pop(variable, None)


listen_fds.__module__ = "fastproc.systemd"
