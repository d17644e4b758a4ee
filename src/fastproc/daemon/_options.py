"""The options of a Daemon and their checks, which are made before anything is forked or opened."""

from __future__ import annotations

import os

from fastproc._engine.trusted import absolute
from fastproc._values import attributes, credentials
from fastproc._values.capabilities import CapabilitySet
from fastproc._values.checks import check_bool, check_fd, check_int, check_path, check_seconds, iterable
from fastproc._values.redirect import STDOUT, Append
from fastproc.daemon._errors import DaemonError
from fastproc.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from fastproc.privileges._switch import Target

WORDS = ("null", "keep", "syslog", "journal")
"""What a stream can be other than a path. A path has a slash."""

DEFAULTS: dict[str, Any] = {
    "name": None,
    "pid_file": None,
    "chown_pid_file": None,
    "working_directory": "/",
    "user": None,
    "group": None,
    "groups": None,
    "umask": 0o027,
    "stdin": None,
    "stdout": None,
    "stderr": None,
    "chroot": None,
    "privileged_action": None,
    "capabilities": None,
    "no_new_privs": True,
    "rlimits": {},
    "core": False,
    "clean_env": None,
    "keep_fds": (),
    "foreground": None,
    "start_timeout": 30.0,
}


def _check_name(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be a string, not {type(value).__name__}")
    if not value or not value.isprintable() or "/" in value or " " in value or value.startswith("."):
        raise ValueError(f"{name}: {value!r} must be printable, without spaces and slashes, and not begin with a dot")
    return value


def _absolute(name: str, value: object) -> str | None:
    # GOTCHAS H15: a relative path is relative to the launcher's directory, not to the daemon's.
    return None if value is None else absolute(name, check_path(name, value))


def _check_directory(name: str, value: object) -> str:
    path = check_path(name, value)
    if not path.startswith("/"):
        raise ValueError(f"{name}: {path!r} is relative: give an absolute path")
    return path


def _check_stream(name: str, value: object) -> object:
    if value is None or isinstance(value, Append):
        return value if value is None else Append(absolute(name, value.path))
    if value is STDOUT or (isinstance(value, int) and value == STDOUT and not isinstance(value, bool)):
        if name != "stderr":
            raise ValueError(f"{name}: STDOUT is for stderr")
        return STDOUT
    if isinstance(value, int) and not isinstance(value, bool):
        return check_fd(name, value)
    if callable(getattr(value, "fileno", None)):
        return check_fd(name, value.fileno())  # type: ignore[attr-defined]
    if isinstance(value, str) and "/" not in value:
        if value not in WORDS:
            raise ValueError(f"{name}: {value!r} is none of {', '.join(WORDS)}; a path needs a slash, as in ./{value}")
        if name == "stdin" and value in ("syslog", "journal"):
            raise ValueError(f"{name}: {value!r} is for outputs")
        return value
    return absolute(name, check_path(name, value))


def _check_chown(name: str, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value or None
    pair = value if isinstance(value, tuple) else (value, None)
    if len(pair) != 2:
        raise ValueError(f"{name}: must be True, a user, or a pair (user, group), not {value!r}")
    return credentials.CHECKS["user"](name, pair[0]), credentials.CHECKS["group"](name, pair[1])


def _check_action(name: str, value: object) -> object:
    if value is not None and not callable(value):
        raise TypeError(f"{name}: must be callable, not {type(value).__name__}")
    return value


def _check_capabilities(name: str, value: object) -> object:
    found = credentials.CHECKS["capabilities"](name, value)
    if found is not None and not isinstance(found, CapabilitySet):
        raise TypeError(f"{name}: must be the capabilities to keep, not five sets")
    return found


def _check_keep_fds(name: str, value: object) -> tuple[int, ...]:
    found = []
    for item in iterable(name, value):
        number = item if isinstance(item, int) or not hasattr(item, "fileno") else item.fileno()
        if not isinstance(number, int):
            raise TypeError(f"{name}: must be descriptors or files, not {item!r}")
        found.append(check_fd(name, number))
    return tuple(sorted({*found}))


def _check_foreground(name: str, value: object) -> object:
    return None if value is None else check_bool(name, value)


def _check_umask(name: str, value: object) -> int:
    return check_int(name, value, 0, 0o777)


CHECKS: dict[str, Callable[[str, object], object]] = {
    "name": _check_name,
    "pid_file": _absolute,
    "chown_pid_file": _check_chown,
    "working_directory": _check_directory,
    "user": credentials.CHECKS["user"],
    "group": credentials.CHECKS["group"],
    "groups": credentials.CHECKS["groups"],
    "umask": _check_umask,
    "stdin": _check_stream,
    "stdout": _check_stream,
    "stderr": _check_stream,
    "chroot": _absolute,
    "privileged_action": _check_action,
    "capabilities": _check_capabilities,
    "no_new_privs": check_bool,
    "rlimits": attributes.CHECKS["rlimits"],
    "core": check_bool,
    "clean_env": credentials.CHECKS["clean_env"],
    "keep_fds": _check_keep_fds,
    "foreground": _check_foreground,
    "start_timeout": check_seconds,
}


class Settings:
    """The checked options of a daemon. Can be pickled if the privileged action can be pickled.

    The attributes are the options of `Daemon`; paths are absolute.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Check all options.

        Raises:
            TypeError, ValueError: an option is invalid; the message starts with the name of the option.
        """
        for name, value in {**DEFAULTS, **given}.items():
            if name not in CHECKS:
                raise TypeError(f"{name}: there is no such option")
            setattr(self, name, CHECKS[name](name, value))
        if not hasattr(os, "O_PATH"):
            raise Unsupported("fastproc.daemon needs Linux: pidfds, O_PATH and /proc")
        if self.chown_pid_file is not None and self.pid_file is None:
            raise ValueError("chown_pid_file: needs pid_file")
        if self.chown_pid_file is True and self.user is None and self.group is None:
            raise ValueError("chown_pid_file: True needs user or group")
        if self.groups == "init" and self.user is None:
            raise ValueError("groups: 'init' needs a user, whose groups these are")
        if self.pid_file is not None:
            from fastproc.daemon._lock import check_path

            check_path(self.pid_file)

    def __getattr__(self, name: str) -> Any:
        # For the type checker: the options are attributes.
        raise AttributeError(name)

    @property
    def drops(self) -> bool:
        """Whether the daemon changes its user, groups or capabilities."""
        return any(value is not None for value in (self.user, self.group, self.groups, self.capabilities))

    @property
    def ident(self) -> str:
        """The name of the daemon in logs."""
        return self.name or "daemon"


class Looked:
    """The ids of the users and groups, looked up before anything is forked (GOTCHAS G8).

    Attributes:
        target: the user and groups of the daemon.
        owner: the owner of the pid file as arguments of chown(2), or None.
    """

    __slots__ = ("owner", "target")

    def __init__(self, settings: Settings) -> None:
        from fastproc.privileges._switch import target

        self.target: Target = _step("user", target, settings.user, settings.group, settings.groups)
        self.owner: tuple[int, int] | None = None
        given = settings.chown_pid_file
        if given is True:
            self.owner = _or_same(self.target.uid), _or_same(self.target.gid)
        elif given is not None:
            found = _step("pid file owner", target, given[0], given[1], () if given[0] is None else "keep")
            # A user without a group keeps the group of the file.
            self.owner = _or_same(found.uid), _or_same(found.gid if given[1] is not None else None)

    @property
    def owners(self) -> frozenset[int]:
        """Users that may own the pid file in addition to root."""
        return frozenset() if self.owner is None or self.owner[0] < 0 else frozenset((self.owner[0],))


def _or_same(number: int | None) -> int:
    return -1 if number is None else number


def _step(step: str, call: Callable[..., Any], *args: object) -> Any:
    try:
        return call(*args)
    except (LookupError, ValueError, TypeError, OSError) as error:
        raise DaemonError(step, type(error).__name__, str(error)) from error
