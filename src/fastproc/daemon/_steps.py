"""The steps of a daemon before its own code runs: a table. Errors have the name of the failed step.

Rules for the order: the pid file is locked before a log is truncated. All paths are opened before the chroot. Names are
looked up before the fork (GOTCHAS G8). Privileged actions come before the privileges are dropped. The pid is written
before the user changes (GOTCHAS H9).
"""

from __future__ import annotations

import linecache
import os
import resource
import signal
import socket
import traceback

from fastproc import systemd
from fastproc._engine import loading
from fastproc._engine.fds import OwnedFd
from fastproc._values.credentials import clean
from fastproc.capabilities import cap_last_cap
from fastproc.daemon._acquire import acquire
from fastproc.daemon._close_inherited import close_all_but
from fastproc.daemon._evidence import began, boot_id
from fastproc.daemon._lock import Lock
from fastproc.daemon._pidfile_text import Recorded
from fastproc.daemon._streams import NAMES, Streams, chosen
from fastproc.systemd._notify_send import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc.daemon._handshake import StatusPipe
    from fastproc.daemon._options import Looked, Settings

LOADED = linecache, traceback
"""Modules for an error's message. They must not be imported in a new root or as another user."""

SUPERVISED = (
    *("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS"),
    *("LISTEN_FDNAMES", "JOURNAL_STREAM", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "MAINPID", "MANAGERPID"),
)
"""Variables that a service manager sets for the process that it starts."""

UNTOUCHED = (signal.SIGKILL, signal.SIGSTOP)
PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)


class Steps:
    """The steps of one daemon, in its own process.

    Args:
        settings: the options.
        looked: the ids of the users and groups.
        status_pipe: the daemon's end of the status pipe; None in the foreground.
        pipes: the write ends of the pipes to the log process.
        keeps: whether this process is a keeper. Its program changes root and user, and the keeper writes the pid file.
        notifies_manager: whether this process notifies the service manager instead of the launcher.

    Attributes:
        name: the name of the current step.
        value: the value that the privileged action returned.
        lock: the lock of the pid file.
    """

    def __init__(
        self,
        settings: Settings,
        looked: Looked,
        status_pipe: StatusPipe | None,
        pipes: dict[int, OwnedFd],
        keeps: bool,
        notifies_manager: bool,
    ) -> None:
        self.settings = settings
        self.looked = looked
        self.status_pipe = status_pipe
        self.keeps = keeps
        self.notifies_manager = notifies_manager
        self.name = "fork"
        self.value: object = None
        self.lock: Lock | None = None
        self._recorded: Recorded | None = None
        self._manager: socket.socket | None = None
        self._root = OwnedFd()
        self._proc = OwnedFd()
        self._pipes = pipes
        self._streams = Streams(settings.ident, looked.target, pipes)

    @property
    def foreground(self) -> bool:
        """Whether nothing was forked."""
        return self.status_pipe is None

    def run(self) -> None:
        """Perform all steps.

        Raises:
            Exception: the step `name` failed.
        """
        for name, is_wanted, step in TABLE:
            if is_wanted(self):
                self.begin(name)
                step(self)
        self._streams.close()
        if not self.foreground:
            self._close_given()
        self.begin("ready")

    def begin(self, name: str) -> None:
        """Report that a step begins."""
        self.name = name
        if self.status_pipe is not None:
            self.status_pipe.step(name)

    def tell_manager(self, status: str | None, mainpid: int = 0) -> None:
        """Notify a service manager that the daemon is ready, if one waits.

        Args:
            status: a line of status.
            mainpid: the pid of the main process, if it is not this process.
        """
        if not self.notifies_manager:
            return
        if not self.foreground:
            mainpid = mainpid or os.getpid()
        if self._manager is None:
            systemd.notify(ready=True, status=status, mainpid=mainpid or None)
            return
        lines = ["READY=1", *([f"STATUS={status}"] if status else []), *([f"MAINPID={mainpid}"] if mainpid else [])]
        self._manager.send("\n".join(lines).encode())

    def pass_on(self, lines: list[str]) -> None:
        """Forward lines of the program to the service manager of this process. Raises nothing."""
        if self.notifies_manager and self.foreground:
            others = dict(line.split("=", 1) for line in lines)
            try:
                systemd.notify(others=others)
            except (OSError, ValueError):
                pass  # the service manager is not there

    # -- the steps

    def _signals(self) -> None:
        # The event loop of the launcher owns the wakeup descriptor (GOTCHAS I3).
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            # nohup(1) and shells pass on ignored signals (GOTCHAS A3). Python's own handlers stay.
            if number not in (*UNTOUCHED, *PYTHON_IGNORES) and signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        # Pending signals are delivered now.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _descriptors(self) -> None:
        given = [getattr(self.settings, name) for name in NAMES]
        keep = [*self.settings.keep_fds, *(fd.number for fd in self._pipes.values())]
        keep += [one for one in given if isinstance(one, int) and one > 2]
        if self.status_pipe is not None:
            keep.append(self.status_pipe.number)
        for fd in self.settings.keep_fds:
            try:
                os.fstat(fd)
            except OSError:
                raise OSError(9, f"keep_fds: descriptor {fd} is not open") from None
        close_all_but(keep)

    def _close_given(self) -> None:
        """Close descriptors that were copied to standard streams. Otherwise a pipe would keep a second writer."""
        given = {getattr(self.settings, name) for name in NAMES if type(getattr(self.settings, name)) is int}
        for fd in given.difference(self.settings.keep_fds):
            if fd > 2:
                os.close(fd)

    def _umask(self) -> None:
        os.umask(self.settings.umask)

    def _environment(self) -> None:
        names = self.settings.clean_env
        if not self.notifies_manager:
            for name in SUPERVISED:
                os.environ.pop(name, None)  # these variables are meant for the launcher
        if names is None:
            return
        kept = clean(dict(os.environb), names)
        for name in SUPERVISED:
            value = os.environb.get(name.encode())
            if value is not None:
                kept[name.encode()] = value
        os.environb.clear()
        os.environb.update(kept)

    def _limits(self) -> None:
        if not self.settings.core:
            _set_limit(resource.RLIMIT_CORE, 0, 0)
        for number, soft, hard in self.settings.rlimits:
            _set_limit(number, soft, hard)

    def _pid_file(self) -> None:
        self.lock = acquire(self.settings.pid_file, self.looked.owners)

    def _stream(self, index: int) -> None:
        self._streams.place(index, chosen(self.settings, self.foreground)[index])

    def _open_root(self) -> None:
        # Opened before the action and the drop, so that a missing directory fails early. Entered by this descriptor.
        self._root.open(self.settings.chroot, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._root.lift()

    def _pid_file_owner(self) -> None:
        assert self.lock is not None
        assert self.looked.owner is not None
        self.lock.chown(*self.looked.owner)

    def _action(self) -> None:
        self.value = self.settings.privileged_action()

    def _chroot(self) -> None:
        # No module may be imported in the new root, where any user may own the files.
        loading.load_all()
        if self.settings.drops:
            cap_last_cap()
            # The drop is verified in /proc, which may be missing in the new root.
            self._proc.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        address = os.environ.get("NOTIFY_SOCKET", "")
        if self.notifies_manager and address.startswith("/"):
            self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            connect(self._manager, os.fsencode(address))
        os.fchdir(self._root.number)
        os.chroot(".")
        # GOTCHAS G25: the old working directory would be a way out of the new root.
        os.chdir("/")
        loading.refuse_imports()
        self._root.close()

    def _directory(self) -> None:
        os.chdir(self.settings.working_directory)

    def _write_pid(self) -> None:
        assert self.lock is not None
        assert self._recorded is not None
        self.lock.write(self._recorded)

    def _who(self) -> None:
        # Read while /proc is reachable.
        self._recorded = Recorded(os.getpid(), began(os.getpid()), boot_id())

    def _drop(self) -> None:
        from fastproc.privileges import _all_threads as _credentials
        from fastproc.privileges import drop_privileges
        from fastproc.users import FakeUsers

        uid, gid, groups = self.looked.target
        with _credentials.proc_at(self._proc):
            # FakeUsers: all ids are numbers now, and the user database of a new root is not trusted (GOTCHAS G8).
            drop_privileges(
                uid,
                group=gid,
                groups="keep" if groups is None else groups,
                keep=self.settings.capabilities or (),
                no_new_privs=self.settings.no_new_privs,
                users=FakeUsers(),
            )


def _set_limit(number: int, soft: int, hard: int) -> None:
    unlimited = 2**64 - 1
    values = (
        resource.RLIM_INFINITY if soft == unlimited else soft,
        resource.RLIM_INFINITY if hard == unlimited else hard,
    )
    if resource.getrlimit(number) != values:
        try:
            resource.setrlimit(number, values)
        except (ValueError, OSError) as error:
            raise PermissionError(1, f"rlimits: resource {number}: {values}: {error}") from None


def _always(steps: Steps) -> bool:
    return True


def _detached(steps: Steps) -> bool:
    return not steps.foreground


def _has(name: str) -> Callable[[Steps], bool]:
    return lambda steps: getattr(steps.settings, name) not in (None, ())


def _itself(is_wanted: Callable[[Steps], bool]) -> Callable[[Steps], bool]:
    return lambda steps: not steps.keeps and is_wanted(steps)


TABLE: tuple[tuple[str, Callable[[Steps], bool], Callable[[Steps], None]], ...] = (
    ("signals", _detached, Steps._signals),
    ("descriptors", _detached, Steps._descriptors),
    ("umask", _always, Steps._umask),
    ("environment", _always, Steps._environment),
    ("rlimits", lambda steps: bool(steps.settings.rlimits) or not steps.settings.core, Steps._limits),
    ("pid file", _has("pid_file"), Steps._pid_file),
    ("stdin", _always, lambda steps: steps._stream(0)),
    ("stdout", _always, lambda steps: steps._stream(1)),
    ("stderr", _always, lambda steps: steps._stream(2)),
    ("chroot", _itself(_has("chroot")), Steps._open_root),
    ("pid file owner", _has("chown_pid_file"), Steps._pid_file_owner),
    ("pid file", _itself(_has("pid_file")), Steps._who),
    ("privileged action", _has("privileged_action"), Steps._action),
    ("chroot", _itself(_has("chroot")), Steps._chroot),
    ("working directory", _itself(_always), Steps._directory),
    ("pid file", _itself(_has("pid_file")), Steps._write_pid),
    ("user", _itself(lambda steps: steps.settings.drops), Steps._drop),
)
"""Name of the step, condition, function."""
