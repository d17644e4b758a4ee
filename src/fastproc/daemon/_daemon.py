"""`Daemon`: the options of a daemon, and the methods that start, control and stop it.

Order: everything that can be checked or looked up is done in the launcher. The first fork makes the watcher, which
starts a session. The second fork makes the daemon. The daemon does not lead the session, so it cannot get a controlling
terminal (GOTCHAS H6).
"""

from __future__ import annotations

import atexit
import os
import sys

from fastproc import _native
from fastproc._engine.standard import say
from fastproc._values.checks import check_seconds
from fastproc._values.signals import SIGKILL
from fastproc.daemon._errors import DaemonError, UnsafeFork
from fastproc.daemon._handshake import Failed, Handshake
from fastproc.daemon._options import Looked, Settings
from fastproc.daemon._pidfile import PidFile
from fastproc.daemon._streams import flush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from fastproc._values.aliases import Text
    from fastproc.daemon._logs import Logs
    from fastproc.daemon._pidfile import Status, Stopped
    from fastproc.daemon._steps import Steps

FAILED = 1
"""The exit status of a daemon whose start failed."""


class Outcome:
    """What `execute()` returns, in the launcher and in the daemon.

    Attributes:
        pid: the pid of the daemon.
        is_child: whether this process is the daemon.
        foreground: whether this process is the daemon without a fork, in the foreground.
        value: in the daemon, the value that the privileged action returned; otherwise None.
    """

    __module__ = "fastproc.daemon"

    __slots__ = ("_hook", "_said", "_steps", "foreground", "is_child", "pid", "value")

    def __init__(self, pid: int, steps: Steps | None = None) -> None:
        self.pid = pid
        self.is_child = steps is not None
        self.foreground = steps is not None and steps.foreground
        self.value = None if steps is None else steps.value
        self._steps = steps
        self._hook: Any = None
        self._said = False

    def __repr__(self) -> str:
        """Show which process this is, and the daemon's pid."""
        return f"<Outcome {'child' if self.is_child else 'parent'} pid={self.pid}>"

    @property
    def is_parent(self) -> bool:
        """Whether this process is the launcher. If it is, the daemon is ready."""
        return not self.is_child

    def ready(self, status: str | None = None) -> None:
        """In the daemon: report that the daemon is ready. The launcher returns now. Further calls do nothing.

        A service manager that waits for the report (NOTIFY_SOCKET) is notified too.

        Args:
            status: one line of status for the service manager.
        """
        steps = self._needs("ready")
        if self._hook is not None and sys.excepthook is self._hook[0]:
            sys.excepthook = self._hook[1]
        self._hook = None
        if not self._said and (steps.status_pipe is None or not steps.status_pipe.ended):
            steps.tell_manager(status)
            self._said = True
            if steps.status_pipe is not None:
                steps.status_pipe.ready()

    def fail(self, error: BaseException | str, exit_code: int = FAILED, program_code: int | None = None) -> NoReturn:
        """In the daemon: report that the start failed, and exit. In the launcher `DaemonError` is raised.

        Args:
            error: the reason.
            exit_code: the exit status of this process.
            program_code: the exit code of the daemon's program, which is reported instead of the exit status.
        """
        from fastproc.daemon._logs import last_words

        tell_failure(steps := self._needs("fail"), error, program_code)
        self._leave(steps)
        flush()
        last_words()
        os._exit(exit_code)

    def _needs(self, what: str) -> Steps:
        if self._steps is None:
            raise RuntimeError(f"{what}() is for the daemon, and this is its launcher")
        return self._steps

    def _leave(self, steps: Steps) -> None:
        if steps.lock is not None:
            steps.lock.remove()

    def _begin(self) -> None:
        """Report an uncaught exception until the daemon is ready, and remove the pid file at exit."""
        steps = self._needs("begin")
        atexit.register(self._leave, steps)
        if steps.status_pipe is not None:

            def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
                tell_failure(steps, error)
                before(kind, error, traceback)

            before = sys.excepthook
            self._hook = hook, before
            sys.excepthook = hook


def tell_failure(steps: Steps, error: BaseException | str, program_code: int | None = None) -> None:
    """Report to the launcher, or on standard error, why the daemon does not start."""
    if isinstance(error, str):
        kind, text, trace = "", error, ""
    else:
        import traceback

        kind, text = type(error).__name__, str(error)
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if steps.status_pipe is not None:
        steps.status_pipe.failed(steps.name, kind, text, trace, program_code)
    else:
        say(DaemonError(steps.name, kind, text))


class Daemon:
    """The options of a daemon. Nothing happens until one of the methods is called.

    Args:
        name: the name of the daemon in logs.
        pid_file: the path of the pid file. The file is locked while the daemon runs; a second daemon with the same file
            is refused.
        chown_pid_file: the owner of the pid file: a user, a pair (user, group), or True for the daemon's user. By
            default the launcher's user owns the file, which is safer: see `PidFile`.
        working_directory: an absolute path; with `chroot`, a path below the new root.
        user, group, groups: the identity of the daemon; see `fastproc.privileges.drop_privileges()`.
        umask: the umask of the daemon.
        stdin, stdout, stderr: a path (with a slash), `Append(path)`, a descriptor, a file object, "null" or "keep"; for
            outputs also "syslog" or "journal"; for stderr also STDOUT. None means the null device, and in the
            foreground that the stream is kept.
        chroot: the new root directory.
        privileged_action: a function that is called without arguments before the root directory and the identity
            change. `Outcome.value` is the value that it returns.
        capabilities: the capabilities to keep. By default a daemon that changes its identity keeps none.
        no_new_privs: whether the programs that the daemon executes can gain no privileges (PR_SET_NO_NEW_PRIVS). Has an
            effect only if the identity changes.
        rlimits: resource limits, as for `run()`.
        core: whether the daemon may write core files.
        clean_env: pass on only harmless variables, as for `run()`.
        keep_fds: descriptors that stay open. All others are closed, except in the foreground.
        foreground: True: do not fork. False: always fork. None: fork, unless a supervisor watches this process
            (`fastproc.systemd.foreground_reason()`) and would take the exit of this process for the exit of the daemon.
        start_timeout: seconds within which the daemon must report that it is ready; None for no limit. Not used in the
            foreground.

    Raises:
        TypeError, ValueError: an option is invalid; the message starts with the name of the option.
        Unsupported: the system is not Linux.
    """

    __module__ = "fastproc.daemon"

    __slots__ = ("settings",)

    def __init__(self, name: str | None = None, **options: Any) -> None:
        """Check the options."""
        self.settings = Settings({"name": name, **options})

    # -- this program becomes the daemon

    def execute(self) -> Outcome:
        """Fork the daemon, and return in both processes. In the launcher, return when the daemon is ready.

        In the foreground nothing is forked, and this process is the daemon.

        Raises:
            DaemonError: in the launcher: the daemon did not start, and has ended.
            UnsafeFork: this process has other threads or runs an event loop: use `spawn()` or `call()`.
        """
        return self._execute()

    def start(self) -> Outcome:
        """Become a daemon: return in the daemon only. The launcher exits with status 0 when the daemon is ready.

        The launcher exits by _exit(2). No `finally` block and no atexit function runs in the launcher, because they run
        in the daemon.

        Raises:
            DaemonError, UnsafeFork: in the launcher, as for `execute()`.
        """
        outcome = self._execute(notifies_manager=True)
        if outcome.is_parent:
            flush()
            os._exit(0)
        return outcome

    def run(self, main: Callable[..., Any], *args: Any) -> Outcome:
        """Fork a daemon that calls `main(outcome, *args)`, and exits with the returned value as by sys.exit().

        In the launcher `run()` returns when the daemon is ready. In the foreground it never returns.

        Raises:
            DaemonError, UnsafeFork: as for `execute()`.
        """
        outcome = self.execute()
        if outcome.is_child:
            sys.exit(main(outcome, *args))
        return outcome

    def _execute(self, keeps: bool = False, notifies_manager: bool = False) -> Outcome:
        """Implement `execute()`.

        Args:
            keeps: leave the change of root and user to the program that this process will start.
            notifies_manager: whether the daemon replaces the launcher as the process that the service manager watches.
        """
        settings = self.settings
        looked = Looked(settings)
        if self.stays():
            return _in_foreground(settings, looked, keeps)
        refuse_unsafe()
        flush()
        return _fork(settings, looked, keeps, notifies_manager)

    def stays(self) -> bool:
        """Whether `execute()` would stay in the foreground if it were called now."""
        if self.settings.foreground is not None:
            return bool(self.settings.foreground)
        from fastproc.systemd import foreground_reason

        return foreground_reason() is not None

    # -- another program is the daemon

    def spawn(self, *argv: Text, ready: str | float = "exec", **options: Any) -> int:
        """Make a daemon of any program. Nothing of this process is forked, so it may have threads.

        A new interpreter, the keeper, becomes the daemon. The keeper locks the pid file and starts the program as its
        child, with the user, root and limits of the options. Then the keeper drops its own privileges. The keeper
        forwards HUP, INT, QUIT, TERM, USR1, USR2, CONT and WINCH to the program, and exits when the program ends. If
        the keeper is killed, the kernel kills the program, unless the program has changed its user by itself (prctl(2),
        PR_SET_PDEATHSIG).

        Args:
            argv: the program and its arguments.
            ready: "exec": the program is ready when it has been executed. A number of seconds: when it has run for that
                time. "notify": when it sends READY=1 (sd_notify(3)).
            options: other options of `fastproc.start()`, such as env_add.

        Returns:
            the pid of the program.

        Raises:
            DaemonError: the daemon did not start, and has ended.
            TypeError, ValueError: an argument is invalid.
        """
        from fastproc.daemon._fresh import spawn

        return spawn(self.settings, argv, ready, options)

    def call(self, function: Callable[..., Any], *args: Any) -> int:
        """Make a daemon that calls `function(outcome, *args)` in a new interpreter; return the daemon's pid.

        This is for a process that cannot be forked. The function, the arguments and the options are pickled. The
        function must be importable by its name from a module other than `__main__`.

        Raises:
            DaemonError: the daemon did not start, and has ended.
            TypeError: `function` is not callable.
            ValueError: the function, an argument or an option cannot be pickled, or the function is in `__main__`.
        """
        from fastproc.daemon._fresh import call

        return call(self.settings, function, args)

    # -- afterwards

    def file(self) -> PidFile:
        """Return the pid file of this daemon.

        Raises:
            ValueError: the daemon has no pid file.
        """
        if self.settings.pid_file is None:
            raise ValueError("pid_file: this daemon has no pid file, so it cannot be found")
        owner = next(iter(Looked(self.settings).owners), None) if self.settings.chown_pid_file is not None else None
        return PidFile(self.settings.pid_file, owner=owner)

    def status(self) -> Status:
        """Return whether the daemon runs, as `PidFile.status()` does."""
        return self.file().status()

    def stop(self, grace: float | None = 10.0, sig: int | str = "TERM") -> Stopped | None:
        """Stop the daemon, as `PidFile.stop()` does."""
        return self.file().stop(grace, sig)

    def reload(self) -> int:
        """Send SIGHUP to the daemon, as `PidFile.reload()` does."""
        return self.file().reload()

    def restart(self, grace: float | None = 10.0) -> Outcome:
        """Stop the daemon if it runs, and start it again: `stop()` and then `execute()`."""
        from fastproc.daemon._fresh import check_root

        check_seconds("grace", grace)
        refuse_unsafe()
        check_root(self.settings)
        self.stop(grace)
        return self.execute()


def daemonize(name: str | None = None, **options: Any) -> Outcome:
    """Become a daemon, as `Daemon(name, **options).start()` does. The daemon must call `ready()` of the outcome."""
    return Daemon(name, **options).start()


daemonize.__module__ = "fastproc.daemon"


def refuse_unsafe() -> None:
    """Refuse to fork where another thread may hold a lock, for which the copy would wait forever (GOTCHAS I1).

    Raises:
        UnsafeFork: this process has other threads, or an event loop runs in this thread.
    """
    from fastproc.privileges._switch import _in_event_loop

    count = len(os.listdir("/proc/self/task"))
    if count > 1:
        raise UnsafeFork(
            f"this process has {count} threads, and a forked copy would have one, and the locks of all: "
            "use Daemon.spawn() or Daemon.call(), which start a new interpreter"
        )
    if _in_event_loop():
        raise UnsafeFork("an event loop runs in this thread: use Daemon.spawn() or Daemon.call()")


def _in_foreground(settings: Settings, looked: Looked, keeps: bool) -> Outcome:
    from fastproc.daemon._logs import Logs
    from fastproc.daemon._steps import Steps

    logs = Logs(settings, looked)
    logs.forward_apart()
    steps = Steps(settings, looked, None, logs.daemons_ends(), keeps, notifies_manager=True)
    try:
        steps.run()
    except Exception as error:
        if steps.lock is not None:
            steps.lock.remove()
        raise _as_error(steps.name, error) from error
    outcome = Outcome(os.getpid(), steps)
    outcome._begin()
    return outcome


def _as_error(step: str, error: BaseException) -> DaemonError:
    return DaemonError(step, type(error).__name__, str(error))


def _fork(settings: Settings, looked: Looked, keeps: bool, notifies_manager: bool) -> Outcome:
    import signal

    from fastproc.daemon import _logs, _steps  # imported before the fork: an import in the child could fail

    handshake = Handshake()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # The handler of a pending signal runs here, and may raise.
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        watcher = os.fork()
    except BaseException as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        handshake.close()
        if not isinstance(error, OSError):
            raise
        raise _as_error("fork", error) from error
    if watcher == 0:
        # All signals stay blocked in the watcher, so no handler of the program runs there. The daemon unblocks them.
        logs = _watched(settings, looked, handshake)
        status_pipe = handshake.status_pipe()
        return _become(_steps.Steps(settings, looked, status_pipe, logs.daemons_ends(), keeps, notifies_manager))
    assert _logs
    try:
        return Outcome(
            handshake.wait(watcher, settings.start_timeout, lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask))
        )
    except Failed as failed:
        raise _failure(settings, failed) from None


def _watched(settings: Settings, looked: Looked, handshake: Handshake) -> Logs:
    """Be the watcher. Return only in its child, which becomes the daemon."""
    import signal

    from fastproc.daemon._logs import Logs

    try:
        os.setsid()
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # With SIGCHLD ignored, as inherited from the launcher, the kernel would discard the daemon's status.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        logs = Logs(settings, looked)
        daemon = os.fork()
    except BaseException as error:
        handshake.status_pipe().failed("fork", type(error).__name__, str(error), "")
        os._exit(FAILED)
    if daemon == 0:
        return logs
    try:
        logs.forward(daemon)
        handshake.watch(daemon)
    except BaseException as error:
        # The daemon was not reaped, so the number is still its own.
        _native.signal(-1, daemon, SIGKILL)
        handshake.status_pipe().failed("fork", type(error).__name__, str(error), "")
    finally:
        os._exit(0)


def _become(steps: Steps) -> Outcome:
    """Be the daemon: run the steps, and return to its code."""
    try:
        steps.run()
    except BaseException as error:
        tell_failure(steps, error)
        if steps.lock is not None:
            steps.lock.remove()
        flush()
        os._exit(FAILED)
    outcome = Outcome(os.getpid(), steps)
    outcome._begin()
    return outcome


def _failure(settings: Settings, failed: Failed) -> DaemonError:
    error, code, pid = failed.error, failed.exit_code, failed.pid
    if error is not None and not failed.late:
        return DaemonError(error["step"], error["kind"], error["text"], error["traceback"], code, pid)
    if failed.late:
        text = f"the daemon did not report within {settings.start_timeout:g} s that it is ready"
    else:
        text = "the daemon ended before it reported that it is ready"
    return DaemonError(failed.step, "", text, "", code, pid)
