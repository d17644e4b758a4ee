"""The manager's side of sd_notify(3): start a service, wait until it is ready, receive its messages."""

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
"""The highest error number of the kernel (MAX_ERRNO, linux/err.h)."""


class NotReady(ProcessError):
    """A service did not become ready.

    Attributes:
        argv: the command of the service.
        pid: the pid of the service.
        returncode: the return code of the service; None if it still runs.
        status: the last STATUS= of the service, or None.
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
    """The service was not ready in time. It still runs: kill it, or wait again."""

    __module__ = "fastproc.systemd"


class Notification:
    """One message of the service.

    Attributes:
        fields: the assignments, such as {"READY": "1"}.
        pid: the pid of the sender.
        uid: the uid of the sender.
        gid: the gid of the sender.
    """

    __module__ = "fastproc.systemd"

    __slots__ = ("fields", "gid", "pid", "uid")

    def __init__(self, message: notified.Message) -> None:
        self.fields = message.fields
        self.pid = message.pid
        self.uid = message.uid
        self.gid = message.gid

    def __repr__(self) -> str:
        """Show the assignments and the sender."""
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
        """Return the descriptor. It is closed with the server. Pass it to a child by `listen_fds`."""
        return self._owned.fileno()

    def __repr__(self) -> str:
        """Show number and name."""
        return f"StoredFd({self._owned.number}, {self.name!r})"


class NotifyServer:
    """Starts a service with NOTIFY_SOCKET, and receives its messages.

    Messages are received only by wait_ready(), wait(), receive() and pump(). A message counts only if the kernel
    reports that the service has sent it. Other messages are counted in `refused`. The attributes hold the state of the
    service after the messages received so far.

    Args:
        access: "main": only the main process may send messages (NotifyAccess=main). "all": its descendants may send
            messages too, such as systemd-notify(1) in a script. A descendant must still run when its message is
            received, and so must all processes between it and the main process. systemd-notify waits for this by a
            barrier.
        path: the path of the socket. The permissions of its directory decide which processes can reach it. None: an
            abstract address. A service in another network namespace cannot reach an abstract address.
        watchdog_usec: the maximum time between two pings in microseconds; None: the service need not send pings.
        fds_max: the maximum number of descriptors that the service may store.

    Attributes:
        process: the service, after it was started.
        main_pid: the pid of the main process. This is the child, or the pid of the last MAINPID= that the child or the
            main process has sent, if that process was a descendant.
        ready: whether READY=1 was received; False during a reload.
        reloading: whether RELOADING=1 was received, and no READY=1 after it.
        stopping: whether STOPPING=1 was received.
        status: the last STATUS=.
        errno: the last ERRNO=.
        watchdog_usec: the argument, or the last WATCHDOG_USEC=.
        fds: the descriptors that the service has stored.
        notifications: the last 1000 messages that counted, in order.
        refused: the number of messages of other senders.
        deadline: the monotonic time at which the wait for READY=1 ends, or None.

    Raises:
        ValueError, TypeError: an argument is invalid; the message starts with its name.
        OSError: the socket cannot be created.
        Unsupported: the system is not Linux. Other kernels do not report the sender of a message (SCM_CREDENTIALS).
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
            raise Unsupported("NotifyServer: needs Linux, whose kernel reports the sender of a message")
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
        # A pidfd of the main process, if it is not the child.
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
        """The environment variables that the service needs."""
        found = {"NOTIFY_SOCKET": self._receiver.address}
        if self.watchdog_usec is not None:
            found["WATCHDOG_USEC"] = str(self.watchdog_usec)
        return found

    def start(
        self, program: Expression | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
    ) -> Process:
        """Start the service with the variables of `environment`. The arguments are those of fastproc.start().

        Raises:
            SpawnError, TypeError, ValueError: as for fastproc.start().
            RuntimeError: a service was started before and has not ended.
        """
        if self.process is not None and self.process.poll() is None:
            raise RuntimeError(f"the service was started already, as {self.process!r}")
        add: dict[Any, Any] = dict(options.get("env_add", ()))
        # WATCHDOG_PID has the pid of this process if this process is a service with a watchdog.
        removed = [*options.get("env_remove", ()), "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]
        options["env_add"] = {**add, **self.environment}
        options["env_remove"] = removed
        self.follow(start(program, *args, **options))
        assert self.process is not None
        return self.process

    def follow(self, process: Process) -> None:
        """Receive the messages of this child from now on. It must have the variables of `environment`."""
        self.process = process
        self.main_pid = process.pid
        self._forget_main()
        self.ready = self.reloading = self.stopping = False
        self.status = self.errno = None
        self._ping_until = None

    def fileno(self) -> int:
        """Return a descriptor for an event loop. It is readable when pump() or receive() has something to do."""
        return self._receiver.fileno()

    def receive(self) -> Notification | None:
        """Receive the next message that counts, and return it; return None if there is none now."""
        while (message := self._receiver.receive()) is not None:
            try:
                if self._may_speak(message.pid):
                    return self._take(message)
                self.refused += 1
            finally:
                message.close()
        return None

    def pump(self) -> None:
        """Receive all messages that have arrived."""
        while self.receive() is not None:
            pass

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the service reports that it is ready. EXTEND_TIMEOUT_USEC= of the service extends the deadline.

        Args:
            timeout: seconds; None for no limit.

        Raises:
            NotReady: the service has ended; `returncode` has its return code.
            StartTimeout: the service was not ready in time. It still runs.
            RuntimeError: no service was started.
        """
        process = self.expect(timeout)
        if not notified.wait(self._receiver, process, self.take_until_ready, lambda: self.deadline):
            raise self.failure(timeout)

    def expect(self, timeout: float | None) -> Process:
        """Begin a wait as wait_ready() does, for a caller that waits itself: see `deadline` and take_until_ready().

        Raises:
            RuntimeError: no service was started.
        """
        process = self._started()
        self.deadline = deadline_from("timeout", timeout)
        return process

    def take_until_ready(self) -> bool:
        """Receive messages until the service is ready; return whether it is ready."""
        while not self.ready and self.receive() is not None:
            pass
        return self.ready

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the child has ended, receive messages meanwhile, and return its return code.

        Messages must be received while the service runs, because a service that sends a barrier, as systemd-notify(1)
        does, waits until its messages are read. Instead of wait(), call pump() whenever fileno() is readable.

        Raises:
            TimeoutExpired: the service still runs.
            ExitStatusUnknown: as for Process.wait().
            RuntimeError: no service was started.
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
        """Return the exception for a service that is not ready."""
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
        """Whether a ping is missing: none was received within `watchdog_usec` after the last ping, or after READY=1."""
        return self._ping_until is not None and notified.after(0.0) > self._ping_until

    def close(self) -> None:
        """Close the socket and the stored descriptors. The service continues."""
        self._receiver.close()
        self._forget_main()
        for stored in self.fds:
            stored._owned.close()
        self.fds.clear()

    def __enter__(self) -> NotifyServer:
        """Return itself."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close the server."""
        self.close()

    def _forget_main(self) -> None:
        if self._main is not None:
            self._main.close()
            self._main = None

    def _started(self) -> Process:
        if self.process is None:
            raise RuntimeError("no service was started: call start() or follow()")
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
            # receive() closes the descriptor of the barrier after all earlier messages.
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
