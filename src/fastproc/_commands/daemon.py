"""`python -m fastproc daemon start|stop|status|restart|reload NAME [-- COMMAND...]`: any program as a daemon."""

from __future__ import annotations

import argparse
import os

from fastproc._commands.complaint import complain
from fastproc._commands.parsing import Parser
from fastproc._commands.text import as_json, printable, tell
from fastproc._engine.trusted import absolute
from fastproc._values.redirect import STDOUT, Append
from fastproc.daemon import Daemon, DaemonError, PidFile, PidFileError, Status
from fastproc.errors import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

STATUS = {"running": 0, "stale": 1, "stopped": 3, "starting": 4, "unverified": 4}
"""Exit statuses of `status`, as init scripts have them (LSB): running, dead with a pid file, not running, unknown."""

ACTIONS = {
    "start": "run a command as a daemon, and return when it is ready, or say why it is not",
    "stop": "end it, and return when it has ended",
    "status": "say whether it runs",
    "restart": "stop it, if it runs, and start it",
    "reload": "send it SIGHUP",
}


def daemon(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    command: list[str] | None = None
    if "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], arguments[at + 1 :]
    parser = _parser()
    chosen = parser.parse_args(arguments)
    starts = chosen.action in ("start", "restart")
    if starts and not command:
        parser.error(f"{chosen.action}: give the command after --")
    if not starts and command:
        parser.error(f"{chosen.action}: takes no command")
    try:
        given = _options(chosen) if starts else {}
        if chosen.chown_pid_file is not None:
            given["chown_pid_file"] = _owner(chosen.chown_pid_file)
        one = Daemon(chosen.name, pid_file=chosen.pid_file or default_pid_file(chosen.name), **given)
        return _do(chosen, one, command or [])
    except (TypeError, ValueError) as error:
        return _complain(chosen, error, 2)
    except (ProcessError, OSError, KeyError) as error:
        if chosen.action == "status":
            return _complain(chosen, error, STATUS["unverified"])
        code = getattr(error, "exit_code", None)
        return _complain(chosen, error, code if isinstance(code, int) and 0 < code < 126 else 1)


def _complain(chosen: argparse.Namespace, error: Exception, status: int) -> int:
    text = str(error)
    if isinstance(error, DaemonError):
        text = str(DaemonError(error.step, error.kind, error.text, "", error.exit_code))
    complain(f"daemon {chosen.action} {printable(chosen.name)}", text)
    return status


def default_pid_file(name: str) -> str:
    """Where the pid file of a daemon lies of which only the name is known."""
    if os.geteuid() == 0:
        return f"/run/{name}.pid"
    folder = os.environ.get("XDG_RUNTIME_DIR")
    if not folder:
        raise ValueError("--pid-file: give one, as there is no XDG_RUNTIME_DIR")
    return os.path.join(folder, f"{name}.pid")


# -- what there is to do


def _do(chosen: argparse.Namespace, one: Daemon, command: list[str]) -> int:
    if chosen.action == "status":
        return _status(one.file(), chosen.json)
    if chosen.action == "reload":
        tell(f"{chosen.name}: told to reload (pid {one.reload()})")
        return 0
    sockets = _sockets(one) if command else _Sockets()
    if chosen.action == "restart":
        from fastproc.daemon._fresh import check_start

        check_start(one.settings, tuple(command))
    if chosen.action in ("stop", "restart"):
        stopped = one.file().stop(chosen.grace, chosen.signal)
        if stopped is None:
            tell(f"{chosen.name}: was not running")
        else:
            tell(f"{chosen.name}: {'killed' if stopped.killed else 'stopped'} (pid {stopped.pid})")
        if chosen.action == "stop":
            return 0
    if one.stays():
        return _stay(one, command, chosen.ready, sockets)
    tell(f"{chosen.name}: started (pid {one.spawn(*command, ready=chosen.ready)})")
    return 0


class _Sockets(list[tuple[str, int]]):
    """Those that were passed, in their order; as the option `listen_fds` takes what has names."""

    def items(self) -> list[tuple[str, int]]:
        return self


def _sockets(one: Daemon) -> _Sockets:
    """The sockets that were passed to this process (sd_listen_fds(3)), which are its program's."""
    from fastproc.systemd import listen_fds

    # The variables are a reason to stay in the foreground.
    found = _Sockets((passed.name, passed.fd) for passed in listen_fds(unset_environment=False))
    if found and not one.stays():
        raise ValueError("--detach: the sockets that were passed to this process (LISTEN_FDS) would be lost")
    return found


def _stay(one: Daemon, command: list[str], ready: str | float, sockets: _Sockets) -> int:
    """Be the keeper here, for the supervisor that has started this."""
    from fastproc.daemon._fresh import command_of
    from fastproc.daemon._program_monitor import keep

    prepared = command_of(one.settings, tuple(command), {"listen_fds": sockets} if sockets else {})
    outcome = one._execute(keeps=True, notifies_manager=True)
    return keep(outcome, one.settings, prepared, ready)


def _status(file: PidFile, json: bool) -> int:
    try:
        found = file.status()
    except PidFileError as error:
        found = Status("unverified", 0, error.reason)
    facts = {"state": found.state, "pid": found.pid, "reason": found.reason, "pid_file": file.path}
    more = f" (pid {found.pid})" if found.running else f": {found.reason}" if found.reason else ""
    # The exit status is the answer, also where nobody can read this.
    tell(as_json(facts) if json else printable(found.state + more))
    return STATUS[found.state]


# -- the command line


def _parser() -> argparse.ArgumentParser:
    about = "Run any program as a daemon, and tell whether it started; find, end and reload it by a pid file that "
    about += "names nobody else."
    parser = Parser(prog="python -m fastproc daemon", description=about, allow_abbrev=False)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in ACTIONS.items():
        usage = f"%(prog)s [options] NAME{' -- COMMAND [ARGUMENT...]' if name in ('start', 'restart') else ''}"
        one = actions.add_parser(name, help=text, description=text.capitalize() + ".", usage=usage, allow_abbrev=False)
        one.add_argument("name", metavar="NAME", help="what it is called; its pid file is /run/NAME.pid by default")
        one.add_argument("-p", "--pid-file", metavar="PATH", help="another pid file")
        one.add_argument("--chown-pid-file", metavar="USER[:GROUP]", help="whose it is, if not root's; for each action")
        if name in ("stop", "restart"):
            one.add_argument("--grace", type=float, default=10.0, metavar="SECONDS", help="until SIGKILL (10)")
            one.add_argument("--signal", default="TERM", metavar="NAME", help="the first signal (TERM)")
        if name == "status":
            one.add_argument("-j", "--json", action="store_true", help="print a JSON object")
        if name in ("start", "restart"):
            _add_options(one)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-u", "--user", metavar="USER", help="become this user: a name or a number")
    add("-g", "--group", metavar="GROUP", help="another group than the user's own")
    add("--groups", metavar="LIST", help="supplementary groups, with commas; 'init' (those of the user), 'keep', or ''")
    add("-C", "--directory", metavar="PATH", help="working directory (/)")
    add("--chroot", metavar="PATH", help="another root directory")
    add("--umask", type=_octal, metavar="OCTAL", help="of new files (027)")
    for name in ("stdin", "stdout", "stderr"):
        add(f"--{name}", metavar="WHERE", help=_WHERE[name])
    add("--capabilities", metavar="LIST", help="capabilities to keep, with commas")
    add("--allow-new-privs", action="store_true", default=None, help="let set-user-ID programs work with another user")
    add("--rlimit", action="append", default=[], metavar="NAME=SOFT[:HARD]", help="a limit, such as nofile=4096")
    add("--core", action="store_true", default=None, help="let it leave core files")
    add("--clean-env", nargs="?", const=True, metavar="NAMES", help="pass on harmless variables only, and these")
    add("--keep-fd", action="append", default=[], type=int, metavar="FD", help="a descriptor that stays open")
    add("--ready", type=_ready, default="exec", metavar="HOW", help="exec, notify, or seconds to live (exec)")
    add("--timeout", type=float, metavar="SECONDS", help="in which it must be ready (30)")
    add("--foreground", action="store_true", default=None, help="fork nothing, as under a supervisor")
    add("--detach", dest="foreground", action="store_false", help="fork even under a supervisor")


_WHERE = {
    "stdin": "a file, null or keep (null)",
    "stdout": "a file, +file to append, null, keep, syslog or journal (null)",
    "stderr": "the same, or stdout (null)",
}


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an octal number") from None


def _ready(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _options(chosen: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {
        "user": _who(chosen.user),
        "group": _who(chosen.group),
        "groups": _groups(chosen.groups),
        "working_directory": chosen.directory,
        "chroot": chosen.chroot,
        "umask": chosen.umask,
        "capabilities": chosen.capabilities.split(",") if chosen.capabilities else None,
        "no_new_privs": False if chosen.allow_new_privs else None,
        "rlimits": dict(map(_rlimit, chosen.rlimit)),
        "core": chosen.core,
        "clean_env": chosen.clean_env if chosen.clean_env in (None, True) else chosen.clean_env.split(","),
        "keep_fds": chosen.keep_fd,
        "start_timeout": chosen.timeout,
        "foreground": chosen.foreground,
        **{name: _stream(name, getattr(chosen, name)) for name in ("stdin", "stdout", "stderr")},
    }
    return {name: value for name, value in found.items() if value is not None}


def _who(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else text


def _owner(text: str) -> str | int | tuple[str | int | None, str | int | None] | None:
    user, colon, group = text.partition(":")
    return (_who(user or None), _who(group or None)) if colon else _who(user)


def _groups(text: str | None) -> str | list[str | int | None] | None:
    if text is None or text in ("init", "keep"):
        return text
    return [_who(one) for one in text.split(",") if one]


def _rlimit(text: str) -> tuple[str, Sequence[int | None]]:
    name, equals, value = text.partition("=")
    soft, _, hard = value.partition(":")
    if not equals:
        raise ValueError(f"--rlimit: {text!r} is not NAME=SOFT[:HARD]")
    try:
        numbers = [None if one == "unlimited" else int(one) for one in (soft, hard or soft)]
    except ValueError:
        raise ValueError(f"--rlimit: {text!r} is not NAME=SOFT[:HARD]") from None
    return name, numbers


def _stream(name: str, text: str | None) -> Any:
    if text is None or text in ("null", "keep", "syslog", "journal"):
        return text
    if text == "stdout" and name == "stderr":
        return STDOUT
    path = absolute(f"--{name}", text.removeprefix("+"))
    return Append(path) if text.startswith("+") else path
