"""`Daemon`: one daemon's options, and the ways to make it run and to end it.

Order: everything that can be checked or looked up in the launcher; one fork for the watcher, which starts a session; a
second for the daemon, which cannot get a terminal back, as it does not lead that session (GOTCHAS H6).
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
"""What a daemon ends with whose start fails."""


class Outcome:
    """Where `execute()` has returned: in the launcher, or in the daemon.

    Attributes:
        pid: the daemon's.
        is_child: whether this process is the daemon.
        foreground: whether it is that without a fork, for its supervisor.
        value: in the daemon, what the privileged action returned.
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
        """Show which."""
        return f"<Outcome {'child' if self.is_child else 'parent'} pid={self.pid}>"

    @property
    def is_parent(self) -> bool:
        """Whether this process is the launcher; the daemon is ready then."""
        return not self.is_child

    def ready(self, status: str | None = None) -> None:
        """In the daemon: say that it is ready. The launcher returns now. Once is enough, more does nothing.

        A service manager that waits for it (NOTIFY_SOCKET) is told too.

        Args:
            status: one line for the service manager.
        """
        steps = self._needs("ready")
        if self._hook is not None and sys.excepthook is self._hook[0]:
            sys.excepthook = self._hook[1]
        self._hook = None
        if not self._said and (steps.voice is None or not steps.voice.ended):
            steps.tell_manager(status)
            self._said = True
            if steps.voice is not None:
                steps.voice.ready()

    def fail(self, error: BaseException | str, exit_code: int = FAILED, program_code: int | None = None) -> NoReturn:
        """In the daemon: say that it will not be ready, and end. In the launcher `DaemonError` tells it.

        Args:
            error: what happened.
            exit_code: what to end with.
            program_code: how a program has ended that was the daemon's, to be told instead.
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
        """Watch the daemon's own code until it is ready, and its end."""
        steps = self._needs("begin")
        atexit.register(self._leave, steps)
        if steps.voice is not None:

            def hook(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
                tell_failure(steps, error)
                before(kind, error, traceback)

            before = sys.excepthook
            self._hook = hook, before
            sys.excepthook = hook


def tell_failure(steps: Steps, error: BaseException | str, program_code: int | None = None) -> None:
    """Tell the launcher, or whoever reads standard error, why a daemon does not start."""
    if isinstance(error, str):
        kind, text, trace = "", error, ""
    else:
        import traceback

        kind, text = type(error).__name__, str(error)
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    if steps.voice is not None:
        steps.voice.failed(steps.name, kind, text, trace, program_code)
    else:
        say(DaemonError(steps.name, kind, text))


class Daemon:
    """The options of a daemon. Nothing happens before one of its methods is called.

    Args:
        name: what it is called in logs.
        pid_file: path of its pid file. Locked for as long as it runs; a second daemon with it is refused.
        chown_pid_file: whose the file shall be: a user, a pair (user, group), True for the daemon's own. Root's by
            default, which is safer: see `PidFile`.
        working_directory: absolute; with `chroot` below the new root.
        user, group, groups: whom to become; see `fastproc.privileges.drop_privileges()`.
        umask: of the daemon only.
        stdin, stdout, stderr: a path (with a slash), `Append(path)`, a descriptor or file, "null", "keep", and for
            outputs "syslog", "journal"; for stderr STDOUT. None: the null device, in the foreground what there is.
        chroot: the new root directory.
        privileged_action: called without arguments before the privileges go; `Outcome.value` is what it returns.
        capabilities: those to keep; none where a user is given.
        no_new_privs: whether no program that it executes can gain privileges; with any change of identity.
        rlimits: resource limits, as of `run()`.
        core: whether it may leave core files.
        clean_env: pass on only harmless variables, as of `run()`.
        keep_fds: descriptors that stay open; all others are closed.
        foreground: True: fork nothing. False: always fork. None: fork, unless a supervisor watches this very process
            (`fastproc.systemd.foreground_reason()`), which would take the end of it for the daemon's.
        start_timeout: seconds in which the daemon must say that it is ready; None for no limit.

    Raises:
        TypeError, ValueError: an option is not possible; its name comes first.
        Unsupported: elsewhere than on Linux.
    """

    __module__ = "fastproc.daemon"

    __slots__ = ("settings",)

    def __init__(self, name: str | None = None, **options: Any) -> None:
        """Check the options."""
        self.settings = Settings({"name": name, **options})

    # -- this program becomes the daemon

    def execute(self) -> Outcome:
        """Fork the daemon, and return in both processes: in the launcher when the daemon is ready.

        In the foreground there is only one.

        Raises:
            DaemonError: in the launcher: it did not start. Nothing of it is left.
            UnsafeFork: this process has other threads, or runs an event loop: use `spawn()` or `call()`.
        """
        return self._execute()

    def start(self) -> Outcome:
        """Become a daemon: return in the daemon only. The launcher ends with status 0 when the daemon is ready.

        It ends by _exit(2): no `finally` and no atexit function runs in it, as they are the daemon's now.

        Raises:
            DaemonError, UnsafeFork: in the launcher, as of `execute()`.
        """
        outcome = self._execute(speaks=True)
        if outcome.is_parent:
            flush()
            os._exit(0)
        return outcome

    def run(self, main: Callable[..., Any], *args: Any) -> Outcome:
        """Fork a daemon that calls `main(outcome, *args)` and ends with what it returns, as sys.exit() takes it.

        Returns in the launcher, when the daemon is ready; in the foreground never.

        Raises:
            DaemonError, UnsafeFork: as of `execute()`.
        """
        outcome = self.execute()
        if outcome.is_child:
            sys.exit(main(outcome, *args))
        return outcome

    def _execute(self, keeps: bool = False, speaks: bool = False) -> Outcome:
        """As execute().

        Args:
            keeps: leave to a program, which it will start, what changes root and user.
            speaks: whether the daemon takes the launcher's place before a service manager.
        """
        settings = self.settings
        looked = Looked(settings)
        if self.stays():
            return _in_foreground(settings, looked, keeps)
        refuse_unsafe()
        flush()
        return _fork(settings, looked, keeps, speaks)

    def stays(self) -> bool:
        """Whether it would stay in the foreground here and now."""
        if self.settings.foreground is not None:
            return bool(self.settings.foreground)
        from fastproc.systemd import foreground_reason

        return foreground_reason() is not None

    # -- another program is the daemon

    def spawn(self, *argv: Text, ready: str | float = "exec", **options: Any) -> int:
        """Make a daemon of any program, from any process, with threads too: nothing of this process is forked.

        A keeper, a fresh interpreter, becomes the daemon, holds the lock of the pid file and starts the program as its
        child, with the user, root and limits of the options; then it gives its own privileges up. The program ends when
        the keeper is killed, and the keeper with the program. Signals that end a process are passed on.

        Args:
            argv: the program and its arguments.
            ready: "exec": it is ready when it has been executed. A number of seconds: when it has lived for so long
                after that. "notify": when it says READY=1 (sd_notify(3)).
            options: others of `fastproc.start()`, such as env_add.

        Returns:
            the program's pid.

        Raises:
            DaemonError: it did not start. Nothing of it is left.
            TypeError, ValueError: an argument is not possible.
        """
        from fastproc.daemon._fresh import spawn

        return spawn(self.settings, argv, ready, options)

    def call(self, function: Callable[..., Any], *args: Any) -> int:
        """Make a daemon of a function, in a fresh interpreter: `function(outcome, *args)`; return its pid.

        For a process that cannot be forked. Function, arguments and options are pickled: the function must be found by
        its name in a module that can be imported.

        Raises:
            DaemonError: it did not start. Nothing of it is left.
            TypeError, ValueError: something cannot be pickled, or the function is not to be found.
        """
        from fastproc.daemon._fresh import call

        return call(self.settings, function, args)

    # -- afterwards

    def file(self) -> PidFile:
        """Return its pid file.

        Raises:
            ValueError: it has none.
        """
        if self.settings.pid_file is None:
            raise ValueError("pid_file: this daemon has none, and is not to be found without")
        owner = next(iter(Looked(self.settings).owners), None) if self.settings.chown_pid_file is not None else None
        return PidFile(self.settings.pid_file, owner=owner)

    def status(self) -> Status:
        """Say whether it runs; as `PidFile.status()`."""
        return self.file().status()

    def stop(self, grace: float | None = 10.0, sig: int | str = "TERM") -> Stopped | None:
        """End it; as `PidFile.stop()`."""
        return self.file().stop(grace, sig)

    def reload(self) -> int:
        """Send it SIGHUP; as `PidFile.reload()`."""
        return self.file().reload()

    def restart(self, grace: float | None = 10.0) -> Outcome:
        """End it, if it runs, and execute it anew; as `stop()` and `execute()`."""
        from fastproc.daemon._fresh import check_root

        check_seconds("grace", grace)
        refuse_unsafe()
        check_root(self.settings)
        self.stop(grace)
        return self.execute()


def daemonize(name: str | None = None, **options: Any) -> Outcome:
    """Become a daemon, as `Daemon(name, **options).start()` does; call `ready()` of the outcome then."""
    return Daemon(name, **options).start()


daemonize.__module__ = "fastproc.daemon"


def refuse_unsafe() -> None:
    """Refuse to fork where other threads hold what the copy would wait for, for ever (GOTCHAS I1).

    Raises:
        UnsafeFork: see above.
    """
    from fastproc.privileges._switch import _in_event_loop

    count = len(os.listdir("/proc/self/task"))
    if count > 1:
        raise UnsafeFork(
            f"this process has {count} threads, and a forked copy would have one, and the locks of all: "
            "use Daemon.spawn() or Daemon.call(), which start a fresh interpreter"
        )
    if _in_event_loop():
        raise UnsafeFork("an event loop runs in this thread: use Daemon.spawn() or Daemon.call()")


def _in_foreground(settings: Settings, looked: Looked, keeps: bool) -> Outcome:
    from fastproc.daemon._logs import Logs
    from fastproc.daemon._steps import Steps

    logs = Logs(settings, looked)
    logs.forward_apart()
    steps = Steps(settings, looked, None, logs.daemons_ends(), keeps, speaks=True)
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


def _fork(settings: Settings, looked: Looked, keeps: bool, speaks: bool) -> Outcome:
    import signal

    from fastproc.daemon import _logs, _steps  # not in the child, where an import could fail

    handshake = Handshake()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # A handler that was due runs here, and may raise.
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        watcher = os.fork()
    except BaseException as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        handshake.close()
        if not isinstance(error, OSError):
            raise
        raise _as_error("fork", error) from error
    if watcher == 0:
        # No handler of the program runs in the watcher: all signals stay blocked there. The daemon lets them in.
        logs = _watched(settings, looked, handshake)
        voice = handshake.voice()
        return _become(_steps.Steps(settings, looked, voice, logs.daemons_ends(), keeps, speaks))
    assert _logs
    try:
        return Outcome(
            handshake.wait(watcher, settings.start_timeout, lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask))
        )
    except Failed as failed:
        raise _failure(settings, failed) from None


def _watched(settings: Settings, looked: Looked, handshake: Handshake) -> Logs:
    """Be the watcher, and return in its child only, which becomes the daemon."""
    import signal

    from fastproc.daemon._logs import Logs

    try:
        os.setsid()
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # Ignored in the launcher: the kernel would throw away how the daemon ends.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        logs = Logs(settings, looked)
        daemon = os.fork()
    except BaseException as error:
        handshake.voice().failed("fork", type(error).__name__, str(error), "")
        os._exit(FAILED)
    if daemon == 0:
        return logs
    try:
        logs.forward(daemon)
        handshake.watch(daemon)
    except BaseException as error:
        # Unreaped, so the number is its own.
        _native.signal(-1, daemon, SIGKILL)
        handshake.voice().failed("fork", type(error).__name__, str(error), "")
    finally:
        os._exit(0)


def _become(steps: Steps) -> Outcome:
    """Be the daemon."""
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
        text = f"it did not say that it is ready within {settings.start_timeout:g} s"
    else:
        text = "it ended before it said that it is ready"
    return DaemonError(failed.step, "", text, "", code, pid)
