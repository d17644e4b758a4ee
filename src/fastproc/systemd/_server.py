"""The manager's side of sd_notify(3): start a service, wait until it is ready, hear what it says."""

from __future__ import annotations

import sys

from fastproc._engine.reactor import deadline_from
from fastproc._run import start
from fastproc._values.quoting import printable, shortened
from fastproc.errors import ProcessError, Unsupported
from fastproc.systemd import _notify_receive as notified
from fastproc.systemd import _notify_text as values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Unpack

    from fastproc._engine.fds import OwnedFd
    from fastproc._engine.process import Process
    from fastproc._values.aliases import Text
    from fastproc._values.command import Expression, OptionsDict

ACCESS = ("main", "all")

ERRNO_MAX = 4095
"""The highest that the kernel has (MAX_ERRNO of linux/err.h)."""


class NotReady(ProcessError):
    """A service did not become ready.

    Attributes:
        argv: its command.
        pid: its pid.
        returncode: how it ended; None: it still runs.
        status: the last STATUS= that it sent, or None.
        errno: the last ERRNO=, or None.
    """

    __module__ = "fastproc.systemd"

    def __init__(
        self, argv: tuple[str, ...], pid: int, returncode: int | None, status: str | None, errno: int | None, why: str
    ) -> None:
        self.argv = argv
        self.pid = pid
        self.returncode = returncode
        self.status = status
        self.errno = errno
        text = f"{shortened(argv, 1000)} (pid {pid}) {why}"
        if status:
            text += f"; its status: {printable(status)}"
        if errno is not None:
            import os

            text += f"; its error: {os.strerror(errno)} [Errno {errno}]"
        super().__init__(text)
        self._arguments = argv, pid, returncode, status, errno, why

    def __reduce__(self) -> Any:
        """Pickle by the arguments."""
        return type(self), self._arguments


class StartTimeout(NotReady, TimeoutError):
    """It was not ready when the time was over. It still runs: end it, or wait on."""

    __module__ = "fastproc.systemd"


class Notification:
    """One message of the service.

    Attributes:
        fields: its assignments, as "READY": "1".
        pid: the sender's.
        uid: the sender's.
        gid: the sender's.
    """

    __module__ = "fastproc.systemd"

    __slots__ = ("fields", "gid", "pid", "uid")

    def __init__(self, message: notified.Message) -> None:
        self.fields = message.fields
        self.pid = message.pid
        self.uid = message.uid
        self.gid = message.gid

    def __repr__(self) -> str:
        """Show what was said, and by whom."""
        return f"Notification({self.fields!r}, pid={self.pid})"


class StoredFd:
    """A descriptor that the service has stored (FDSTORE=1).

    Attributes:
        name: FDNAME=, or "stored".
    """

    __module__ = "fastproc.systemd"

    __slots__ = ("_owned", "name")

    def __init__(self, name: str, owned: OwnedFd) -> None:
        self.name = name
        self._owned = owned

    def fileno(self) -> int:
        """The descriptor; it is closed with the server. Pass it on by `listen_fds`."""
        return self._owned.fileno()

    def __repr__(self) -> str:
        """Show number and name."""
        return f"StoredFd({self._owned.number}, {self.name!r})"


class NotifyServer:
    """Starts a service with NOTIFY_SOCKET, and hears it.

    Messages are taken by wait_ready(), wait(), receive() and pump(), and by nobody else. A message counts only when the
    kernel says that the service has sent it; others are counted in `refused`. The service's state is in the attributes,
    as of the messages taken by now.

    Args:
        access: "main": only the main process may speak (NotifyAccess=main). "all": its descendants too, such as
            systemd-notify(1) in a script; they must still be running when their message is taken, and have their
            parents (systemd-notify waits for that by a barrier).
        path: where the socket is made; its directory decides who can reach it. None: an abstract address, which a
            service in a network namespace of its own does not reach.
        watchdog_usec: the time between two pings that is demanded, in microseconds; None: none are.
        fds_max: descriptors that the service may store.

    Attributes:
        process: the service, once it was started.
        main_pid: its main process: MAINPID= if the child or the main process has named one of its descendants, which
            then still had its parents, else the child.
        ready: READY=1 has come; not while it is reloading.
        reloading: RELOADING=1 was the last word.
        stopping: STOPPING=1 has come.
        status: the last STATUS=.
        errno: the last ERRNO=.
        watchdog_usec: as given, or the last WATCHDOG_USEC=.
        fds: what the service has stored.
        notifications: all messages that counted, in order; the oldest go when there are 1000.
        refused: messages of other senders.
        deadline: the monotonic instant at which the wait for READY=1 is over, or None.

    Raises:
        ValueError, TypeError: an argument is not possible; its name comes first.
        OSError: the socket cannot be made.
        Unsupported: elsewhere than on Linux, whose kernel tells who has sent a message (SCM_CREDENTIALS).
    """

    __module__ = "fastproc.systemd"

    def __init__(
        self,
        access: str = "main",
        path: str | None = None,
        watchdog_usec: int | None = None,
        fds_max: int = 0,
    ) -> None:
        if sys.platform != "linux":
            raise Unsupported("NotifyServer: needs Linux, whose kernel tells who has sent a message")
        if access not in ACCESS:
            raise ValueError(f"access: must be one of {', '.join(ACCESS)}, not {access!r}")
        if path is not None:
            values.address(path)
        if watchdog_usec is not None and (isinstance(watchdog_usec, bool) or not 0 < watchdog_usec < values.USEC_MAX):
            raise ValueError(f"watchdog_usec: {watchdog_usec} is not a number of microseconds")
        self._access = access
        self._receiver = notified.Receiver(path)
        self.deadline: float | None = None
        self._ping_until: float | None = None
        self._fds_max = fds_max
        self.process: Process | None = None
        self.main_pid: int | None = None
        # A pidfd of it, where it is not the child.
        self._main: OwnedFd | None = None
        self.ready = self.reloading = self.stopping = False
        self.status: str | None = None
        self.errno: int | None = None
        self.watchdog_usec = watchdog_usec
        self.fds: list[StoredFd] = []
        self.notifications: list[Notification] = []
        self.refused = 0

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the service needs."""
        found = {"NOTIFY_SOCKET": self._receiver.address}
        if self.watchdog_usec is not None:
            found["WATCHDOG_USEC"] = str(self.watchdog_usec)
        return found

    def start(
        self, program: Expression | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
    ) -> Process:
        """Start the service, with the variables in its environment. Takes what fastproc.start() takes.

        Raises:
            SpawnError, TypeError, ValueError: as fastproc.start().
            RuntimeError: one was started already, and has not ended.
        """
        if self.process is not None and self.process.poll() is None:
            raise RuntimeError(f"the service was started already, as {self.process!r}")
        add: dict[Any, Any] = dict(options.get("env_add", ()))
        # A watchdog that is meant for us names our pid.
        removed = [*options.get("env_remove", ()), "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]
        options["env_add"] = {**add, **self.environment}
        options["env_remove"] = removed
        self.follow(start(program, *args, **options))
        assert self.process is not None
        return self.process

    def follow(self, process: Process) -> None:
        """Hear this child, which was started with the variables of `environment`, from now on."""
        self.process = process
        self.main_pid = process.pid
        self._forget_main()
        self.ready = self.reloading = self.stopping = False
        self.status = self.errno = None
        self._ping_until = None

    def fileno(self) -> int:
        """A descriptor that is readable when pump() or receive() has something to do: for any event loop."""
        return self._receiver.fileno()

    def receive(self) -> Notification | None:
        """Take the next message that counts, and give it; None when there is none now."""
        while (message := self._receiver.receive()) is not None:
            try:
                if self._may_speak(message.pid):
                    return self._take(message)
                self.refused += 1
            finally:
                message.close()
        return None

    def pump(self) -> None:
        """Take all messages that are there."""
        while self.receive() is not None:
            pass

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the service says that it is ready. EXTEND_TIMEOUT_USEC= of the service moves the deadline.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            NotReady: it has ended without; `returncode` says how.
            StartTimeout: it was not ready in time. It still runs.
            RuntimeError: nothing was started.
        """
        process = self.expect(timeout)
        if not notified.wait(self._receiver, process, self.take_until_ready, lambda: self.deadline):
            raise self.failure(timeout)

    def expect(self, timeout: float | None) -> Process:
        """Begin the wait of wait_ready(), for whoever waits by other means: see `deadline`, take_until_ready().

        Raises:
            RuntimeError: nothing was started.
        """
        process = self._started()
        self.deadline = deadline_from("timeout", timeout)
        return process

    def take_until_ready(self) -> bool:
        """Take messages until the service is ready, and give whether it is."""
        while not self.ready and self.receive() is not None:
            pass
        return self.ready

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the child has ended, taking messages meanwhile, and give its return code.

        Somebody must take them as long as the service runs: one that sends a barrier, as systemd-notify(1) does, waits
        for that. Else by pump(), whenever fileno() is readable.

        Raises:
            TimeoutExpired: it still runs.
            ExitStatusUnknown: as Process.wait().
            RuntimeError: nothing was started.
        """
        process = self._started()
        deadline = deadline_from("timeout", timeout)
        notified.wait(self._receiver, process, self._take_all, lambda: deadline)
        self.pump()
        return process.wait(0.0)

    def _take_all(self) -> bool:
        self.pump()
        return False

    def failure(self, timeout: float | None) -> NotReady:
        """Return what is to be raised for a service that is not ready."""
        process = self._started()
        code = process.poll()
        if code is None:
            why = f"was not ready within {timeout} seconds"
            return StartTimeout(process.argv, process.pid, None, self.status, self.errno, why)
        how = f"by signal {-code}" if code < 0 else f"with {code}"
        why = f"ended {how} before it was ready"
        return NotReady(process.argv, process.pid, code, self.status, self.errno, why)

    @property
    def watchdog_late(self) -> bool:
        """Whether a ping is missing: none came within `watchdog_usec` after the last, or after READY=1."""
        return self._ping_until is not None and notified.after(0.0) > self._ping_until

    def close(self) -> None:
        """Close the socket and what was stored. The service goes on."""
        self._receiver.close()
        self._forget_main()
        for stored in self.fds:
            stored._owned.close()
        self.fds.clear()

    def __enter__(self) -> NotifyServer:
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
        self.close()

    def _forget_main(self) -> None:
        if self._main is not None:
            self._main.close()
            self._main = None

    def _started(self) -> Process:
        if self.process is None:
            raise RuntimeError("no service was started: start() or follow()")
        return self.process

    def _may_speak(self, pid: int) -> bool:
        if self.process is None or self.main_pid is None:
            return False
        heard = {self.process.pid}
        if self._main is None or notified.is_still(self.main_pid, self._main):
            heard.add(self.main_pid)
        return pid in heard or (self._access == "all" and any(notified.descends(pid, one) for one in heard))

    def _take(self, message: notified.Message) -> Notification:
        fields = message.fields
        found = Notification(message)
        if "BARRIER" in fields:
            # Its descriptor is closed by receive(), after everything that came before it.
            return found
        self.notifications.append(found)
        del self.notifications[:-1000]
        self.status = fields.get("STATUS", self.status)
        self.errno = values.number(fields.get("ERRNO"), 0, ERRNO_MAX, self.errno)
        main_pid = values.number(fields.get("MAINPID"), 2, values.PID_MAX, None)
        if main_pid is not None and message.pid in (self.main_pid, self._started().pid):
            self._take_main(main_pid)
        self._take_state(fields)
        self._take_times(fields)
        if fields.get("FDSTORE") == "1":
            name = fields.get("FDNAME", "stored")
            while message.fds and len(self.fds) < self._fds_max:
                self.fds.append(StoredFd(name, message.fds.pop(0)))
        elif fields.get("FDSTOREREMOVE") == "1":
            for stored in [stored for stored in self.fds if stored.name == fields.get("FDNAME")]:
                self.fds.remove(stored)
                stored._owned.close()
        return found

    def _take_main(self, pid: int) -> None:
        started = self._started().pid
        if pid in (self.main_pid, started):
            held = self._main if pid == self.main_pid else None
        else:
            held = notified.hold_descendant(pid, (self.main_pid, started))
            if held is None:
                return
        if self._main is not None and self._main is not held:
            self._main.close()
        self.main_pid, self._main = pid, held

    def _take_state(self, fields: dict[str, str]) -> None:
        if fields.get("RELOADING") == "1":
            self.ready, self.reloading = False, True
        if fields.get("READY") == "1":
            self.ready, self.reloading = True, False
        if fields.get("STOPPING") == "1":
            self.stopping = True

    def _take_times(self, fields: dict[str, str]) -> None:
        more = values.usec(fields.get("EXTEND_TIMEOUT_USEC"))
        if more is not None and self.deadline is not None:
            self.deadline = max(self.deadline, notified.after(more / 1e6))
        if "WATCHDOG_USEC" in fields:
            self.watchdog_usec = values.usec(fields["WATCHDOG_USEC"])
            self._ping_until = None
        if fields.get("WATCHDOG") == "trigger":
            self._ping_until = 0.0
        elif self.watchdog_usec is not None and (
            fields.get("WATCHDOG") == "1" or fields.get("READY") == "1" or "WATCHDOG_USEC" in fields
        ):
            self._ping_until = notified.after(self.watchdog_usec / 1e6)
