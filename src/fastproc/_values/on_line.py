"""What is told of each line of an output that is captured: the callback of `on_line`, and a logger in its place."""

from __future__ import annotations

from fastproc._values.lines import LineSplitter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger as StandardLogger
    from logging import LoggerAdapter
    from typing import Any

LINE_MAX = 1 << 20
"""Bytes or characters that an unfinished line may take: a child that never ends one must not fill memory."""

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
"""Those of the standard logging module, which is not loaded for them."""


class OnLine:
    r"""A callback for the lines of captured outputs, and how these are cut.

    Args:
        call: called with the stream's name, "stdout" or "stderr", and each line. What it raises ends the run.
        text: lines are str instead of bytes.
        encoding: of the text.
        errors: what becomes of bytes that are no text, as bytes.decode() has it.
        newline: the one character that ends a line, such as "\0"; or "universal" for "\n", "\r\n" and "\r".
        keep_ends: leave the ends on.
        longest: bytes (characters, of text) that a line may have; None for any number.
        over: a longer line is told in pieces ("split"), cut off ("truncate"), or an error that ends the run ("raise":
            LineTooLong).

    Raises:
        TypeError, ValueError: an argument is not possible; its name comes first.
        LookupError: no such encoding.
    """

    __module__ = "fastproc"

    __slots__ = ("_cut", "call")

    def __init__(
        self,
        call: Callable[[str, Any], object],
        *,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "strict",
        newline: str | bytes = "\n",
        keep_ends: bool = False,
        longest: int | None = LINE_MAX,
        over: str = "split",
    ) -> None:
        if not callable(call):
            raise TypeError(f"call: must be callable, not {type(call).__name__}")
        self.call = call
        self._cut: dict[str, Any] = {
            "newline": newline,
            "encoding": encoding if text else None,
            "errors": errors,
            "keep_ends": keep_ends,
            "longest": longest,
            "over": over,
        }
        self.splitter()

    def splitter(self) -> LineSplitter:
        """Return what cuts one output."""
        return LineSplitter(**self._cut)

    def of(self, child: Any) -> Callable[[str, Any], object]:
        """Return what is called for the lines of one child, which has an `argv`, and a `pid` once it is there."""
        return self.call

    def __call__(self, stream: str, line: Any) -> object:
        """Tell one line."""
        return self.call(stream, line)

    def __repr__(self) -> str:
        """Show what is called."""
        return f"{type(self).__name__}({self.call!r})"


class Logger(OnLine):
    """For `on_line`: every line becomes a record of a logging.Logger, with a level for each stream.

    Args:
        logger: a logging.Logger, a LoggerAdapter, or the name of a logger.
        stdout: the level of its lines, a number or one of the standard names; None: they are not logged.
        stderr: the same.
        encoding: of the lines, which are logged as text.
        errors: what becomes of bytes that are no text, as bytes.decode() has it.
        newline: what ends a line: one character, or "universal".
        longest: characters; a longer line comes in pieces, as several records.
        prefix: begin every message with the child's name and pid, as in "nginx[4711]: ".

    A record's message is the line. Its attribute `stream` is the stream's name, `program` and `pid` are the child's;
    for a pipeline, whose stderr is that of all its commands, these two are None.

    Raises:
        TypeError, ValueError: an argument is not possible; its name comes first.
    """

    __module__ = "fastproc"

    __slots__ = ("_levels", "_log", "_prefix")

    def __init__(
        self,
        logger: StandardLogger | LoggerAdapter[Any] | str,
        *,
        stdout: int | str | None = "INFO",
        stderr: int | str | None = "WARNING",
        encoding: str = "utf-8",
        errors: str = "backslashreplace",
        newline: str | bytes = "universal",
        longest: int | None = 1 << 16,
        prefix: bool = False,
    ) -> None:
        if isinstance(logger, str):
            from logging import getLogger

            logger = getLogger(logger)
        if not callable(getattr(logger, "log", None)):
            raise TypeError(f"logger: must be a logging.Logger or the name of one, not {type(logger).__name__}")
        self._log: Any = logger.log
        self._levels = {"stdout": _level("stdout", stdout), "stderr": _level("stderr", stderr)}
        if prefix is not True and prefix is not False:
            raise TypeError(f"prefix: must be True or False, not {prefix!r}")
        self._prefix = prefix
        super().__init__(self.of(None), text=True, encoding=encoding, errors=errors, newline=newline, longest=longest)

    def of(self, child: Any) -> Callable[[str, Any], object]:
        """Return what is called for the lines of one child."""
        return lambda stream, line: self._tell(child, stream, line)

    def _tell(self, child: Any, stream: str, line: str) -> None:
        level = self._levels[stream]
        if level is None:
            return
        program, pid = (None, None) if child is None else (program_name(child.argv), child.pid)
        if self._prefix and child is not None:
            line = f"{program}[{pid}]: {line}"
        self._log(level, "%s", line, extra={"stream": stream, "program": program, "pid": pid})

    def __repr__(self) -> str:
        """Show the logger."""
        return f"Logger({self._log.__self__!r})" if hasattr(self._log, "__self__") else "Logger(...)"


def program_name(argv: tuple[str, ...]) -> str:
    """Return a program's name without its directory."""
    return argv[0].rpartition("/")[2] or argv[0]


def _level(name: str, value: int | str | None) -> int | None:
    if isinstance(value, str):
        if value not in LEVELS:
            raise ValueError(f"{name}: must be a number or one of {', '.join(LEVELS)}, not {value!r}")
        return LEVELS[value]
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{name}: must be a level of logging or None, not {type(value).__name__}")
    return value


def on_line(value: Callable[[str, Any], object]) -> OnLine:
    """Return what a value of the option means."""
    return value if isinstance(value, OnLine) else OnLine(value)
