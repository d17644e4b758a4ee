"""Daemons of a fresh interpreter: for launchers that cannot be forked, and for programs that are not Python's.

The launcher runs an interpreter of its own kind to its end; that one forks the daemon, as it has one thread, and says
what came of it. Order, answer and options go through one file in memory.
"""

from __future__ import annotations

import os
import pickle

from fastproc._engine import interpreter
from fastproc._engine.fds import OwnedFd
from fastproc._values.checks import check_seconds, check_text
from fastproc.daemon._errors import DaemonError
from fastproc.daemon._options import Looked
from fastproc.daemon._streams import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastproc._values.aliases import Text
    from fastproc._values.command import Command
    from fastproc.daemon._options import Settings

BOOT = "from fastproc.daemon import _fresh_main; _fresh_main.main()"
PATIENCE = 30.0
"""Seconds beyond the start's own deadline after which the interpreter itself counts as hung."""


def check_ready(ready: object) -> str | float:
    """Return how the readiness of a program is known.

    Raises:
        TypeError, ValueError: it is none of "exec", "notify" and seconds.
    """
    if isinstance(ready, str):
        if ready not in ("exec", "notify"):
            raise ValueError(f"ready: {ready!r} is neither 'exec' nor 'notify' nor a number of seconds")
        return ready
    seconds = check_seconds("ready", ready)
    if seconds is None:
        raise ValueError("ready: must be 'exec', 'notify' or a number of seconds")
    return seconds


def command_of(settings: Settings, argv: tuple[Text, ...], options: dict[str, Any]) -> Command:
    """Return the command of a keeper, with what the daemon's options say about the program.

    Raises:
        TypeError, ValueError: an argument or option is not possible.
    """
    from fastproc import cmd

    if not argv:
        raise TypeError("argv: no program is given")
    taken = {"user", "group", "groups", "capabilities", "ambient", "bounding", "root", "cwd", "umask", "rlimits"}
    taken |= {*NAMES, "clean_env", "pass_fds", "die_with_parent", "setsid", "no_new_privs", "capture", "timeout"}
    for name in sorted(taken.intersection(options)):
        raise TypeError(f"{name}: is decided by the options of the Daemon")
    target = Looked(settings).target
    found: dict[str, Any] = {"cwd": settings.working_directory, "die_with_parent": True, **options}
    passed = {each for _, each in options["listen_fds"].items()} if "listen_fds" in options else set()
    if kept := [fd for fd in settings.keep_fds if fd not in passed]:
        found["pass_fds"] = kept
    if settings.chroot is not None:
        found["root"] = settings.chroot
    for name, value in zip(("user", "group"), target[:2], strict=True):
        if value is not None:
            found[name] = value
    if settings.drops:
        found["groups"] = "keep" if target.groups is None else list(target.groups)
        # As drop_privileges() has it: none is to be had by any execve either.
        found.update(dict.fromkeys(("capabilities", "ambient", "bounding"), settings.capabilities or ()))
        found["no_new_privs"] = settings.no_new_privs
    if settings.drops or settings.chroot is not None:
        # It stays in the keeper's session, which has no terminal and does not get one.
        found["setsid"] = False
    return cmd([check_text("argv", item) for item in argv], **found)


def check_start(settings: Settings, argv: tuple[Text, ...]) -> None:
    """Refuse what is known beforehand not to start, before a daemon is stopped for it.

    Raises:
        TypeError, ValueError, LookupError: an argument or option is not possible; there is no such user or group.
        DaemonError: the root or the program is not there.
    """
    import shutil

    check_root(settings)
    program = os.fsdecode(command_of(settings, argv, {}).argv[0])
    if settings.chroot is not None or ("/" in program and not program.startswith("/")):
        return  # only the start itself knows what these are
    found = os.path.exists(program) if program.startswith("/") else shutil.which(program) is not None
    if not found:
        raise DaemonError("exec", "FileNotFoundError", f"{program}: there is no such program")


def check_root(settings: Settings) -> None:
    """Refuse a user, group or root that is not there.

    Raises:
        LookupError: there is no such user or group.
        DaemonError: there is no such root.
    """
    Looked(settings)
    if settings.chroot is not None and not os.path.isdir(settings.chroot):
        raise DaemonError("chroot", "NotADirectoryError", f"{settings.chroot}: there is no such directory")


def spawn(settings: Settings, argv: tuple[Text, ...], ready: str | float, options: dict[str, Any]) -> int:
    """As `Daemon.spawn()`."""
    return _start(settings, ("spawn", command_of(settings, argv, options), check_ready(ready)))


def call(settings: Settings, function: Callable[..., Any], args: tuple[Any, ...]) -> int:
    """As `Daemon.call()`."""
    if not callable(function):
        raise TypeError(f"function: must be callable, not {type(function).__name__}")
    if getattr(function, "__module__", None) == "__main__":
        raise ValueError("function: it is in __main__, which the fresh interpreter does not have: put it in a module")
    Looked(settings)
    return _start(settings, ("call", function, args))


def _start(settings: Settings, order: tuple[Any, ...]) -> int:
    from fastproc import run
    from fastproc.errors import SpawnError, TimeoutExpired

    if settings.foreground:
        raise ValueError("foreground: spawn() and call() make another process; use execute()")
    interpreter.program()
    try:
        data = pickle.dumps((settings, order))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"function, options: cannot be pickled: {error}") from error
    keep = [*settings.keep_fds, *(one for one in (getattr(settings, name) for name in NAMES) if type(one) is int)]
    for one in keep:
        try:
            os.fstat(one)
        except OSError as error:
            raise DaemonError("descriptors", "OSError", f"descriptor {one} is not open") from error
    own = order[0] == "call" or settings.privileged_action is not None
    timeout = None if settings.start_timeout is None else settings.start_timeout + PATIENCE
    with OwnedFd() as fd:
        fd.fill(os.memfd_create, "fastproc-daemon", os.MFD_CLOEXEC)
        fd.lift()
        write_all(fd.number, data)
        try:
            result = run(
                interpreter.command(BOOT, str(fd.number), own=own),
                pass_fds=sorted({fd.number, *(one for one in keep if one > 2)}),
                timeout=timeout,
                check=False,
            )
        except (TimeoutExpired, SpawnError) as error:
            text = "the fresh interpreter hangs" if isinstance(error, TimeoutExpired) else str(error)
            raise DaemonError("fork", type(error).__name__, text) from error
        try:
            answer = pickle.loads(read_all(fd.number))
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
            text = f"the fresh interpreter said nothing: {error}"
            raise DaemonError("fork", "", text, "", result.returncode) from None
    if not isinstance(answer, int):
        raise answer
    return answer


def write_all(fd: int, data: bytes) -> None:
    """Make the contents of a file these."""
    os.ftruncate(fd, 0)
    view, at = memoryview(data), 0
    while at < len(data):
        at += os.pwrite(fd, view[at:], at)


def read_all(fd: int) -> bytes:
    """Return the contents of a file, from its begin."""
    pieces: list[bytes] = []
    at = 0
    while piece := os.pread(fd, 1 << 20, at):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)
