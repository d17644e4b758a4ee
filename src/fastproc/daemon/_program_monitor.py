"""The keeper of a program that is a daemon: it holds the lock, forwards signals and reports the program's end.

A program cannot hold the lock itself, because its children would inherit the descriptor (GOTCHAS C17). Invariants: the
keeper, and with it the lock, lives as long as the program, whatever signals it gets. If the keeper is killed, the
kernel kills the program, except if the program has changed its user by itself. Then the pid file still names the
running program, and a second start is refused.
"""

from __future__ import annotations

import os
import signal

from fastproc.daemon._errors import DaemonError
from fastproc.daemon._evidence import began, boot_id
from fastproc.daemon._options import Looked
from fastproc.daemon._pidfile_text import Recorded
from fastproc.daemon._ready import Server, await_ready, serve
from fastproc.errors import SpawnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._engine.process import Process
    from fastproc._values.command import Command
    from fastproc.daemon._daemon import Outcome
    from fastproc.daemon._options import Settings

FORWARDED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "CONT", "WINCH")
"""Signals that the keeper forwards, because other programs send them to the process that they take for the daemon."""

STEPS = {"chroot": "chroot", "cwd": "working directory", "setgroups": "user", "setgid": "user", "setuid": "user"}
"""The daemon's step for each stage of a spawn."""


def keep(outcome: Outcome, settings: Settings, command: Command, ready: str | float) -> int:
    """Start the program, report when it is ready, and wait for its end; return the exit status of the keeper.

    If the start fails, the failure is reported and this process exits.
    """
    steps = outcome._needs("keep")
    os.chdir("/")
    steps.begin("exec")
    server = None
    if ready == "notify":
        uid = Looked(settings).target.uid
        server = Server(os.geteuid() if uid is None else uid, steps.pass_on)
        command = command.options(
            env_add={**dict(command._options.get("env_add")), "NOTIFY_SOCKET": server.address},
            # It names the keeper, which forwards the program's watchdog messages.
            env_remove=(*command._options.get("env_remove"), "WATCHDOG_PID"),
        )
    else:
        # Remove the address of the keeper's service manager: the program's messages would count as the keeper's.
        command = command.options(env_remove=(*command._options.get("env_remove"), "NOTIFY_SOCKET"))
    try:
        process = command.start()
    except SpawnError as error:
        steps.name = STEPS.get(error.stage, "exec")
        outcome.fail(error)
    with process:
        try:
            _pass_on(process)
            if steps.lock is not None:
                steps.begin("pid file")
                me = os.getpid()
                steps.lock.write(Recorded(process.pid, began(process.pid), boot_id(), me, began(me)))
            if settings.drops:
                steps.begin("user")
                _drop(settings)
            steps.begin("ready")
            status = await_ready(process, ready, server)
        except DaemonError as error:
            outcome.fail(error.text, program_code=error.exit_code)
        except Exception as error:
            process.kill()
            outcome.fail(error)
        # A service manager may accept messages of the main process only (NotifyAccess=main). So the keeper stays the
        # main process if it forwards the program's messages.
        steps.tell_manager(status, process.pid if server is None else 0)
        if steps.status_pipe is not None:
            steps.status_pipe.ready(process.pid)
        if server is not None:
            serve(process, server)
            server.close()
        code = process.wait()
    if steps.lock is not None:
        steps.lock.remove()
    return code if code >= 0 else 128 - code


def _pass_on(process: Process) -> None:
    def send(number: int, _frame: object) -> None:
        try:
            process.send_signal(number)
        except OSError:
            pass  # the program runs as another user. The keeper must not end, because it holds the lock

    for name in FORWARDED:
        signal.signal(getattr(signal, f"SIG{name}"), send)


def _drop(settings: Settings) -> None:
    """Take the program's identity, without any capability: the keeper needs none."""
    from fastproc.privileges import drop_privileges
    from fastproc.users import FakeUsers

    uid, gid, groups = Looked(settings).target
    drop_privileges(uid, group=gid, groups="keep" if groups is None else groups, users=FakeUsers(), load=False)
