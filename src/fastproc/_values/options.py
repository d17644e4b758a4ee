"""The options of a command: their names, defaults and checks. Everything wrong is found here, before any child exists.

An Options holds only what differs from the defaults, in a normal and hashable form (text as str, mappings as tuples of
pairs, signals as sorted numbers, times as float seconds), never changes, and is shared by the commands that have it.
What the kernel gets is made from it by plan.py. The options that set kernel attributes are checked by attributes.py.
"""

from __future__ import annotations

from fastproc._values.checks import (
    FD_MAX,
    OF_IDENTITY,
    check_bool,
    check_env_name,
    check_fd,
    check_int,
    check_place,
    check_seconds,
    check_source,
    check_text,
    iterable,
)
from fastproc._values.quoting import printable
from fastproc._values.redirect import PIPE, STDERR, STDOUT, check_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from fastproc._values.aliases import HasFileno


DEFAULTS: dict[str, object] = {
    # of the child
    "cwd": None,
    "env": None,
    "env_add": (),
    "env_remove": (),
    "argv0": None,
    **dict.fromkeys(("stdin", "stdout", "stderr")),
    "swap_outputs": False,
    "fds": (),
    "pass_fds": (),
    "listen_fds": (),
    "close_fds": True,
    "umask": None,
    "setsid": None,
    "pgid": None,
    "ctty": None,
    "foreground": False,
    "nice": None,
    "ionice": None,
    "affinity": None,
    "scheduler": None,
    "rlimits": (),
    "oom_score_adj": None,
    "sigmask": (),
    "sigdefault": (),
    "sigignore": (),
    "restore_signals": True,
    "pdeathsig": None,
    "die_with_parent": False,
    "kill_tree": False,
    "subreaper": False,
    "no_new_privs": None,
    "timer_slack_ns": None,
    "cgroup": None,
    "pipe_size": None,
    "pty": None,
    **dict.fromkeys(sorted(OF_IDENTITY)),
    "relative_to_parent": False,
    "before_spawn": (),
    "substitutes": (),
    # of the run
    "check": True,
    "ok_codes": (0,),
    "capture": False,
    "input": None,
    "timeout": None,
    "grace": 0.1,
    "drain_timeout": 1.0,
    "idle_timeout": None,
    "stdout_limit": None,
    "stderr_limit": None,
    "on_line": None,
    "tee": False,
    "sigpipe_ok": True,
}
# Those that only the Exchange knows.
EXCHANGED = frozenset(("idle_timeout", "stdout_limit", "stderr_limit", "on_line", "tee"))
RUN_LEVEL = EXCHANGED.union(
    ("check", "ok_codes", "capture", "input", "timeout", "grace", "drain_timeout", "sigpipe_ok")
)
# What makes a command more than one spawn: it is run as a pipeline of one stage.
COMPOSED = frozenset(("before_spawn", "substitutes"))
# The module that checks it, loaded when it is used; the kernel attributes are in attributes.py.
_ELSEWHERE = {
    **dict.fromkeys(COMPOSED, "combination"),
    **dict.fromkeys(("stdout_limit", "stderr_limit"), "capture"),
    **dict.fromkeys(OF_IDENTITY, "credentials"),
    "pty": "pty",
    "listen_fds": "listen",
}

# Neither large nor holding an open file, nor likely to be a secret: such options may be kept after use.
_HOLDING = ("stdout_limit", "stderr_limit", "on_line")
_SHARED_NAMES = frozenset(DEFAULTS).difference(
    ("env", "env_add", "input", "stdin", "stdout", "stderr", "fds", "pass_fds", "listen_fds", *_HOLDING, *COMPOSED),
)
_SHARED_MAX = 64
# Values that say all by their type and themselves: True, 1 and 1.0 are equal, and not the same to a check.
_LEAVES = frozenset((str, int, float, bool, type(None)))
_EMPTY = frozenset((list, tuple, dict, set, frozenset))


class Options:
    """What differs from the defaults, normalised. Never changed, except for the cache in `settled`.

    Attributes:
        values: the options.
        settled: the ResolvedOptions that plan.py has made of them, or None.
    """

    __slots__ = ("settled", "values")

    values: dict[str, Any]
    settled: Any

    def __init__(self, values: dict[str, Any]) -> None:
        """Take values that `normalise()` returned."""
        self.values = values
        self.settled = None

    def get(self, name: str) -> Any:
        """Return an option's normalised value, or its default."""
        values = self.values
        return values[name] if name in values else DEFAULTS[name]

    def merged(self, given: Mapping[str, Any]) -> Options:
        """Return these options changed by keyword options, in which a default value undoes an option."""
        values = {name: value for name, value in self.values.items() if name not in given}
        values.update(checked(given))
        return make(values)


def normalise(given: Mapping[str, Any]) -> Options:
    """Check keyword options and return what differs from the defaults.

    Raises:
        TypeError: an unknown option, or a value of a wrong type; the message starts with the option's name.
        ValueError: a value that is not possible, or two options that exclude each other.
    """
    if not given:
        return NONE
    if len(given) == 1 and given.get("capture") is True:
        return CAPTURE
    key: list[object] = []
    for name, value in given.items():
        kind = type(value)
        if kind in _EMPTY and not value:
            value = ()
        elif kind not in _LEAVES:
            return make(checked(given))
        key += name, kind, value
    known = tuple(key)
    found = _given.get(known)
    if found is None:
        found = make(checked(given))
        if _SHARED_NAMES.issuperset(given):
            if len(_given) >= _SHARED_MAX:
                _given.clear()
            _given[known] = found
    return found


def make(values: dict[str, Any]) -> Options:
    """Return Options of normalised values, after a look at what excludes what."""
    if len(values) < 2:
        if not values:
            return NONE
        if values.get("capture") is True:
            return CAPTURE
    if not _SHARED_NAMES.issuperset(values):
        check_together(values)
        return Options(values)
    # One object for equal options, so that what plan.py makes of them is made once in a loop of calls with keywords.
    key = tuple(values.items())
    found = _shared.get(key)
    if found is None:
        check_together(values)
        if len(_shared) >= _SHARED_MAX:
            _shared.clear()
            _given.clear()  # which holds some of the same, and would go on giving them
        found = _shared[key] = Options(values)
    return found


def checked(given: Mapping[str, Any]) -> dict[str, object]:
    """Return what differs from the defaults, normalised, without a look at what excludes what; as normalise()."""
    values = {}
    for name, value in given.items():
        check = _CHECKS.get(name)
        if check is None:
            check = _find_check(name)
        value = check(name, value)
        default = DEFAULTS[name]
        if value is not default and value != default:
            values[name] = value
    return values


def _find_check(name: str) -> Callable[[str, object], object]:
    if name not in DEFAULTS:
        from difflib import get_close_matches

        close = get_close_matches(name, DEFAULTS, 1)
        raise TypeError(
            f"{printable(name)}: there is no such option" + (f"; did you mean {close[0]}?" if close else "")
        )
    from importlib import import_module

    _CHECKS.update(import_module(f"fastproc._values.{_ELSEWHERE.get(name, 'attributes')}").CHECKS)
    return _CHECKS[name]


def check_together(values: Mapping[str, Any]) -> None:
    """Refuse options that exclude each other.

    Raises:
        ValueError: the message starts with the name of one of them.
    """
    if "input" in values and values.get("stdin", PIPE) is not PIPE:
        raise ValueError("input: cannot be used with stdin, which is given too")
    if values.get("stdout") is STDERR and values.get("stderr") is STDOUT:
        raise ValueError("stderr: stdout goes to stderr and stderr to stdout")
    if "pty" in values:
        from fastproc._values.pty import check_pty_together

        check_pty_together(values)
    if not EXCHANGED.isdisjoint(values):
        _check_captured(values)
    if not RUN_LEVEL.issuperset(values):
        from fastproc._values.attributes import check_attributes_together

        check_attributes_together(values)
    if "fds" in values or "pass_fds" in values or "listen_fds" in values:
        fd_pairs(values)


def _check_captured(values: Mapping[str, Any]) -> None:
    """Refuse options about captured outputs without any."""
    captured = {
        name: values.get(name) is PIPE
        or (values.get(name) is None and ("capture" in values or ("pty" in values and name == "stdout")))
        for name in ("stdout", "stderr")
    }
    for name in sorted(EXCHANGED.intersection(values)):
        if not (captured[name[:6]] if name.endswith("_limit") else any(captured.values())):
            raise ValueError(f"{name}: needs a captured output: use capture=True")
    spills = [limit.spill for limit in (values.get("stdout_limit"), values.get("stderr_limit")) if limit is not None]
    if len(spills) == 2 and isinstance(spills[0], str) and spills[0] == spills[1]:
        raise ValueError(f"stderr_limit: its spill file {spills[0]!r} is that of stdout_limit, and each would empty it")


def fd_pairs(values: Mapping[str, Any]) -> tuple[tuple[int, object], ...]:
    """Return `fds`, `pass_fds`, `listen_fds` as pairs (child's number, parent's number or file), sorted by the child's.

    A file in pass_fds keeps its number, which is asked for here.

    Raises:
        ValueError: one number of the child is given twice, or is that of a standard stream.
    """
    pairs: dict[int, object] = dict(values.get("fds", ()))
    for item in values.get("pass_fds", ()):
        number = item if isinstance(item, int) else _fileno(item)
        if number <= 2:
            raise ValueError(f"pass_fds: {number} is a standard stream, use stdin, stdout or stderr")
        if pairs.setdefault(number, number) != number:
            raise ValueError(f"pass_fds: {number} is in fds too")
    for number, (name, source) in enumerate(values.get("listen_fds", ()), 3):
        if pairs.setdefault(number, source) is not source:
            raise ValueError(f"listen_fds: {number}, the place of {name!r}, is in fds or pass_fds too")
    return tuple(sorted(pairs.items(), key=_first))


def _fileno(file: HasFileno) -> int:
    try:
        number = file.fileno()
    except (ValueError, OSError) as error:
        raise ValueError(f"pass_fds: {file!r} has no descriptor: {error}") from error
    return check_fd("pass_fds", number)


def _first(pair: tuple[int, object]) -> int:
    return pair[0]


def _check_grace(name: str, value: object) -> float:
    seconds = check_seconds(name, value)
    if seconds is None:
        raise ValueError(f"{name}: must be a number of seconds; a child that is never killed would never end")
    return seconds


def _check_ok_codes(name: str, value: object) -> tuple[int, ...]:
    if isinstance(value, int):
        value = (value,)
    codes = tuple(sorted({check_int(name, item, -64, 255) for item in iterable(name, value)}))
    if not codes:
        raise ValueError(f"{name}: is empty, so no exit status would be accepted")
    return codes


def check_input(name: str, value: object) -> object:
    """Return what can be fed to stdin: bytes, a tuple or another iterable of them, or None; else raise TypeError."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        raise TypeError(f"{name}: must be bytes, not str: use input=text.encode()")
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)  # a snapshot: the command must not change when the buffer does
    if isinstance(value, (list, tuple)):
        return tuple(_check_item(name, index, item) for index, item in enumerate(value))
    if hasattr(value, "__iter__") or hasattr(value, "__aiter__"):
        return value
    try:
        return bytes(memoryview(value))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: must be bytes-like or an iterable of bytes, not {type(value).__name__}") from None


def _check_item(name: str, index: int, item: object) -> bytes:
    if type(item) is bytes:
        return item
    try:
        return bytes(memoryview(item))  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: item {index} must be bytes-like, not {type(item).__name__}") from None


def _check_callable(name: str, value: object) -> object:
    if value is None or callable(value):
        return value
    raise TypeError(f"{name}: must be callable, not {type(value).__name__}")


def _check_environ(name: str, value: object) -> object:
    if value is None and name == "env":
        return None
    pairs = _pairs(name, value)
    found: dict[str, str] = {}
    for key, item in pairs:
        key = check_env_name(name, key)
        found[key] = check_text(f"{name}: value of {key!r}", item)
    return tuple(found.items())


def _pairs(name: str, value: object) -> Iterable[tuple[object, object]]:
    if not hasattr(value, "items"):
        raise TypeError(f"{name}: must be a mapping, not {type(value).__name__}")
    return value.items()  # type: ignore[no-any-return]


def _check_env_remove(name: str, value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys(check_env_name(name, item) for item in iterable(name, value)))


def _check_fds(name: str, value: object) -> tuple[tuple[int, object], ...]:
    pairs = []
    for number, source in _pairs(name, value):
        number = check_int(f"{name}: number in the child", number, 0, FD_MAX)
        if number <= 2:
            raise ValueError(f"{name}: {number} is a standard stream, use stdin, stdout or stderr")
        pairs.append((number, check_source(name, source)))
    return tuple(sorted(pairs, key=_first))


def _check_pass_fds(name: str, value: object) -> tuple[object, ...]:
    return tuple(dict.fromkeys(check_source(name, item) for item in iterable(name, value)))


_CHECKS: dict[str, Callable[[str, object], object]] = {
    "cwd": check_place,
    "env": _check_environ,
    "env_add": _check_environ,
    "env_remove": _check_env_remove,
    "argv0": lambda name, value: None if value is None else check_text(name, value),
    **dict.fromkeys(("stdin", "stdout", "stderr"), check_stream),
    "swap_outputs": check_bool,
    "fds": _check_fds,
    "pass_fds": _check_pass_fds,
    "close_fds": check_bool,
    "check": check_bool,
    "ok_codes": _check_ok_codes,
    "capture": check_bool,
    "input": check_input,
    **dict.fromkeys(("timeout", "drain_timeout", "idle_timeout"), check_seconds),
    "grace": _check_grace,
    "on_line": _check_callable,
    "tee": check_bool,
    "sigpipe_ok": check_bool,
    "relative_to_parent": check_bool,
}

NONE = Options({})
CAPTURE = Options({"capture": True})
_shared: dict[tuple[tuple[str, object], ...], Options] = {}
_given: dict[tuple[object, ...], Options] = {}
