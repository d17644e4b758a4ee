"""From the arguments of Popen to what the C core takes: an Order, which stands where a Plan does.

The rules here are the standard module's, not those of `cmd()`: PATH is searched in the environment given or else in the
default one, signals stay blocked as they are in the calling thread, an ignored SIGCHLD stays ignored.
Nothing is started here; the only thing opened is the directory.
"""

from __future__ import annotations

import io
import os
import subprocess as standard
import sys
from errno import EBADF

from fastproc._engine.fds import Opened
from fastproc._engine.resolve import DIRECTORY_FLAGS, environment
from fastproc._values.command import ENCODING, ENCODING_ERRORS
from fastproc._values.environment import Environment
from fastproc._values.plan import search
from fastproc._values.redirect import STDIO_INHERIT, STDIO_NULL, STDIO_PIPE, STDIO_STDOUT
from fastproc.errors import ExitStatusUnknown, SpawnError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

PIPE = standard.PIPE
STDOUT = standard.STDOUT
DEVNULL = standard.DEVNULL
SHELL = "/bin/sh" if not hasattr(sys, "getandroidapilevel") else "/system/bin/sh"

_RESTORED = 1 << 12 | 1 << 24
"""SIGPIPE and SIGXFSZ, which Python ignores."""


class Attributes:
    """What does not belong to one program: the AttrSpec, and the C core's struct of it.

    Attributes:
        attr: as attributes.attr_spec() has it.
        native: the struct, made by the first spawn.
        requests: prepared requests by their streams, for whole runs that need nothing else.
    """

    __slots__ = ("attr", "native", "requests")

    # The standard module ends no trees and passes no Ctrl-C on.
    kill_tree = False
    leads = False

    def __init__(self, attr: dict[str, Any]) -> None:
        self.attr = attr
        self.native: Any = None
        self.requests: dict[tuple[int, int, int], Any] = {}


_ATTRIBUTES_KEPT = 64
_attributes: dict[tuple[object, ...], Attributes] = {}


class Order:
    """One spawn. The attributes with a Plan's names are as there.

    Attributes:
        executable: what an error names as the program; directory: what it names as the directory.
        audited: the arguments of the audit event `subprocess.Popen`.
    """

    __slots__ = (
        "argc",
        "argv",
        "audited",
        "cgroup",
        "cwd",
        "directory",
        "env",
        "envc",
        "executable",
        "fds",
        "npaths",
        "paths",
        "searched",
        "settled",
        "stdio",
    )

    terminal = None
    identity = None
    argc: int
    argv: bytes
    audited: tuple[object, ...]
    cgroup: int
    cwd: int
    directory: Any
    env: bytes
    envc: int
    executable: Any
    fds: tuple[tuple[int, int], ...]
    npaths: int
    paths: bytes
    searched: bytes | None
    settled: Attributes
    stdio: tuple[int, int, int]

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments as text, for messages."""
        return tuple(self.argv[:-1].decode(ENCODING, ENCODING_ERRORS).split("\0"))

    def size_note(self, limit: int) -> str:
        """Say how much this hands to execve(2)."""
        return f"{len(self.argv)} bytes of arguments, {len(self.env)} bytes of environment; the limit is {limit}"

    def failed(self, error: Exception) -> Exception:
        """Return a spawn's failure as the exception that the standard module raises."""
        if not isinstance(error, SpawnError):
            return error
        number = error.errno or 0
        if error.stage == "exec":
            return OSError(number, os.strerror(number), self.executable)
        if error.stage == "cwd":
            return OSError(number, os.strerror(number), self.directory)
        return OSError(number, os.strerror(number))


def make_order(
    args: Any, executable: Any, shell: bool, env: Mapping[Any, Any] | None, cwd: Any, opened: Opened | None
) -> Order:
    """Make the Order of a program, without streams, descriptors and attributes.

    The first five are as of Popen; `opened` takes the directory, and is needed only where there is one.

    Raises:
        TypeError, ValueError, IndexError: as the standard module.
        OSError: the directory cannot be opened.
    """
    order = _new(Order)
    if isinstance(args, (str, bytes)):
        words: list[Any] = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        words = [args]
    else:
        words = list(args)
    if shell:
        words = [SHELL, "-c", *words]
        if executable:
            words[0] = executable
    if executable is None:
        executable = words[0]
    order.executable = executable
    order.directory = cwd
    order.audited = (executable, words, cwd, env)
    try:
        order.argv = ("\0".join(words) + "\0").encode(ENCODING, ENCODING_ERRORS)
    except TypeError:
        order.argv = b"\0".join([*map(os.fsencode, words), b""])
    order.argc = len(words)
    program = executable.encode(ENCODING, ENCODING_ERRORS) if type(executable) is str else os.fsencode(executable)
    if order.argv.count(0) != len(words) or 0 in program:
        raise ValueError("embedded null byte")
    variables = environment() if env is None or env is os.environ else _environment(env)
    order.env = variables.blob
    order.envc = variables.count
    if 47 in program:  # a slash
        order.paths = program + b"\0"
        order.npaths = 1
        order.searched = None
    else:
        order.paths, order.npaths, order.searched = search(program + b"\0", variables, variables)
    order.cwd = order.cgroup = -1
    if cwd is not None and opened is not None:
        order.cwd = opened.open(cwd, DIRECTORY_FLAGS, 0)
    return order


_new = object.__new__


def _environment(env: Mapping[Any, Any]) -> Environment:
    variables = {}
    for name, value in env.items():
        key = os.fsencode(name)
        if 61 in key:  # "="
            raise ValueError("illegal environment variable name")
        variables[key] = os.fsencode(value)
    found = Environment(variables)
    if found.blob.count(0) != found.count:
        raise ValueError("embedded null byte")
    return found


def stream(slot: int, value: Any) -> int:
    """Return what was given for stdin (0), stdout or stderr as FP_STDIO_* or a descriptor.

    Raises:
        ValueError: STDOUT as stdout.
        OSError: EBADF, a negative number.
    """
    if value is None:
        return STDIO_INHERIT
    if value == PIPE:
        return STDIO_PIPE
    if value == DEVNULL:
        return STDIO_NULL
    if value == STDOUT and slot > 0:
        if slot == 1:
            raise ValueError("STDOUT can only be used for stderr")
        return STDIO_STDOUT
    number: int = value if isinstance(value, int) else value.fileno()
    if number < 0:
        raise OSError(EBADF, os.strerror(EBADF))
    return number


def passed(pass_fds: Iterable[Any]) -> tuple[tuple[int, int], ...]:
    """Return pass_fds as descriptor pairs. 0 to 2 are the streams' own.

    Raises:
        ValueError: a number that is none of a descriptor.
    """
    numbers = sorted({int(fd) for fd in pass_fds})
    if numbers and not 0 <= numbers[0] <= numbers[-1] < 2**31:
        raise ValueError("bad value(s) in fds_to_keep")
    return tuple((fd, fd) for fd in numbers if fd > 2)


_INT_MAX = 2**31 - 1


def attributes(
    close_fds: bool,
    restore_signals: bool,
    start_new_session: bool,
    process_group: int | None,
    umask: int,
    pipesize: int,
) -> Attributes:
    """Return the attributes that are asked for; the same object for the same ones."""
    key = (close_fds, restore_signals, start_new_session, process_group, umask, pipesize)
    found = _attributes.get(key)
    if found is not None:
        return found
    for name, value, low, high in (("umask", umask, -1, _INT_MAX), ("process_group", process_group, -1, _INT_MAX)):
        # The standard module's error, with a name. What is not asked for is -1 or None.
        if value is not None and not low <= value <= high:
            raise OverflowError(f"{name}: {value} is not in the range {low} to {high}")
    if not pipesize <= _INT_MAX:
        raise ValueError(f"pipesize: {pipesize} is more than {_INT_MAX}, the most that fcntl(2) takes")
    spec: dict[str, Any] = {"sigmask": None, "sigdefault": _RESTORED if restore_signals else 0}
    if not close_fds:
        spec["keep_fds"] = True
    if start_new_session:
        spec["setsid"] = True
    if process_group is not None and process_group >= 0:
        spec["pgid"] = process_group
    if umask >= 0:
        spec["umask"] = umask
    if pipesize > 0:
        spec["pipe_size"] = pipesize
    if len(_attributes) >= _ATTRIBUTES_KEPT:
        _attributes.clear()
    found = _attributes[key] = Attributes(spec)
    return found


# -- warnings


def _warn(message: str, category: type[Warning]) -> None:
    """Warn at the line that called this package."""
    import warnings

    here = os.path.dirname(__file__)
    frame, level = sys._getframe(1), 2
    while frame.f_back and os.path.dirname(frame.f_code.co_filename) == here:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, level)


def unknown(error: ExitStatusUnknown) -> int:
    """Return 0 for a status that nobody knows because this process ignores SIGCHLD, with a warning; else raise.

    With SIGCHLD ignored the program has told the kernel to throw statuses away (sigaction(2)), and it may rely on the
    standard module's wait() and poll() coming back, as CPython's tests do. A status that some other part of the program
    took is never taken to be 0 (GOTCHAS D2).
    """
    import signal

    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
        raise error
    _warn(f"{error}: SIGCHLD is ignored; taken to be 0, as the standard module does", RuntimeWarning)
    return 0


# -- text

_texts: set[tuple[str, str | None]] = set()


def check_text(encoding: str, errors: str | None) -> None:
    """Refuse an encoding that a text file would refuse, before there is a child.

    Raises:
        LookupError: there is no such text encoding.
    """
    if (encoding, errors) not in _texts:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors).close()
        _texts.add((encoding, errors))


def is_text(text: Any, universal_newlines: Any, encoding: str | None, errors: str | None) -> Any:
    """Return the value of Popen.text_mode, true for text.

    Raises:
        SubprocessError: text and universal_newlines contradict each other.
    """
    if text is not None and universal_newlines is not None and bool(universal_newlines) != bool(text):
        raise standard.SubprocessError(
            "Cannot disambiguate when both text and universal_newlines are supplied but different. "
            "Pass one or the other."
        )
    return encoding or errors or text or universal_newlines


def text_encoding() -> str:
    """Return the encoding of text when none is given; warns when Python was asked to (-X warn_default_encoding)."""
    if sys.flags.warn_default_encoding:
        _warn("'encoding' argument not specified.", EncodingWarning)
    if sys.flags.utf8_mode:
        return "utf-8"
    import locale

    return locale.getencoding()


def translated(data: bytes, encoding: str, errors: str | None) -> str:
    """Decode output and make its line ends one kind."""
    return data.decode(encoding, errors or "strict").replace("\r\n", "\n").replace("\r", "\n")
