"""The keeper of a program that is a daemon: it holds the lock, and tells signals and ends from one side to the other.

A program cannot hold the lock itself: its descriptor would go on to every program that it starts (GOTCHAS C17).
Invariants: the keeper, and so the lock, lives as long as the program, whatever it is told. A program dies with its
keeper unless it has changed its user by itself, as the kernel forgets that; then its pid file tells that it still runs,
and no second one is started.
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
"""What others may send to the process that they take for the daemon."""

STEPS = {"chroot": "chroot", "cwd": "working directory", "setgroups": "user", "setgid": "user", "setuid": "user"}
"""Stages of a spawn under the names that the daemon's own steps have."""


def keep(outcome: Outcome, settings: Settings, command: Command, ready: str | float) -> int:
    """Start the program, say when it is ready, wait for its end; return the exit status to end with.

    A start that fails is told, and ends this process.
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
            # It names the keeper, which passes the program's pings on.
            env_remove=(*command._options.get("env_remove"), "WATCHDOG_PID"),
        )
    else:
        # Not the keeper's manager: the program would speak for both.
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
        # Who is heard by the manager is its main process: the keeper, where that passes on what the program says.
        steps.tell_manager(status, process.pid if server is None else 0)
        if steps.voice is not None:
            steps.voice.ready(process.pid)
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
            pass  # it is another user's by now; without the keeper nobody would hold its lock

    for name in FORWARDED:
        signal.signal(getattr(signal, f"SIG{name}"), send)


def _drop(settings: Settings) -> None:
    """Be no more than the program is, and less: no capability at all is needed here."""
    from fastproc.privileges import drop_privileges
    from fastproc.users import FakeUsers

    uid, gid, groups = Looked(settings).target
    drop_privileges(uid, group=gid, groups="keep" if groups is None else groups, users=FakeUsers(), load=False)
