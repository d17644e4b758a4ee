"""Daemons of a new interpreter: for launchers that cannot be forked, and for programs that are not Python functions.

The launcher runs a new interpreter and waits for its end. The new interpreter has one thread, so it can fork the
daemon. It then reports the result. Options and result are passed in a memfd.
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
"""Seconds after the start's own deadline until the new interpreter counts as hung."""


def check_ready(ready: object) -> str | float:
    """Check how a program reports that it is ready.

    Raises:
        TypeError, ValueError: `ready` is not "exec", "notify" or a number of seconds.
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
    """Return the command of the program, which the keeper will start, with the options of the daemon.

    Raises:
        TypeError, ValueError: an argument or option is invalid.
    """
    from fastproc import cmd

    if not argv:
        raise TypeError("argv: no program is given")
    taken = {"user", "group", "groups", "capabilities", "ambient", "bounding", "root", "cwd", "umask", "rlimits"}
    taken |= {*NAMES, "clean_env", "pass_fds", "die_with_parent", "setsid", "no_new_privs", "capture", "timeout"}
    for name in sorted(taken.intersection(options)):
        raise TypeError(f"{name}: is set by the options of the Daemon")
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
        # As in drop_privileges(): no execve may add a capability.
        found.update(dict.fromkeys(("capabilities", "ambient", "bounding"), settings.capabilities or ()))
        found["no_new_privs"] = settings.no_new_privs
    if settings.drops or settings.chroot is not None:
        # The program stays in the keeper's session, which has no terminal and cannot get one.
        found["setsid"] = False
    return cmd([check_text("argv", item) for item in argv], **found)


def check_start(settings: Settings, argv: tuple[Text, ...]) -> None:
    """Refuse a program that cannot be started, before the running daemon is stopped for it.

    Raises:
        TypeError, ValueError: an argument or option is invalid.
        LookupError: a user or group does not exist.
        DaemonError: the root directory or the program does not exist.
    """
    import shutil

    check_root(settings)
    program = os.fsdecode(command_of(settings, argv, {}).argv[0])
    if settings.chroot is not None or ("/" in program and not program.startswith("/")):
        return  # such a path can only be checked at the start
    found = os.path.exists(program) if program.startswith("/") else shutil.which(program) is not None
    if not found:
        raise DaemonError("exec", "FileNotFoundError", f"{program}: there is no such program")


def check_root(settings: Settings) -> None:
    """Refuse a user, group or root directory that does not exist.

    Raises:
        LookupError: the user or group does not exist.
        DaemonError: the root directory does not exist.
    """
    Looked(settings)
    if settings.chroot is not None and not os.path.isdir(settings.chroot):
        raise DaemonError("chroot", "NotADirectoryError", f"{settings.chroot}: there is no such directory")


def spawn(settings: Settings, argv: tuple[Text, ...], ready: str | float, options: dict[str, Any]) -> int:
    """Implement `Daemon.spawn()`."""
    return _start(settings, ("spawn", command_of(settings, argv, options), check_ready(ready)))


def call(settings: Settings, function: Callable[..., Any], args: tuple[Any, ...]) -> int:
    """Implement `Daemon.call()`."""
    if not callable(function):
        raise TypeError(f"function: must be callable, not {type(function).__name__}")
    if getattr(function, "__module__", None) == "__main__":
        raise ValueError("function: it is in __main__, which the new interpreter does not have: put it in a module")
    Looked(settings)
    return _start(settings, ("call", function, args))


def _start(settings: Settings, order: tuple[Any, ...]) -> int:
    from fastproc import run
    from fastproc.errors import SpawnError, TimeoutExpired

    if settings.foreground:
        raise ValueError("foreground: spawn() and call() start another process; use execute()")
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
            text = "the new interpreter hangs" if isinstance(error, TimeoutExpired) else str(error)
            raise DaemonError("fork", type(error).__name__, text) from error
        try:
            answer = pickle.loads(read_all(fd.number))
        except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
            text = f"the new interpreter reported no result: {error}"
            raise DaemonError("fork", "", text, "", result.returncode) from None
    if not isinstance(answer, int):
        raise answer
    return answer


def write_all(fd: int, data: bytes) -> None:
    """Replace the contents of a file."""
    os.ftruncate(fd, 0)
    view, at = memoryview(data), 0
    while at < len(data):
        at += os.pwrite(fd, view[at:], at)


def read_all(fd: int) -> bytes:
    """Return the contents of a file, from the beginning."""
    pieces: list[bytes] = []
    at = 0
    while piece := os.pread(fd, 1 << 20, at):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)
