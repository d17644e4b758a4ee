"""The two exceptions that are also subprocess's: ExitError and TimeoutExpired.

Apart from errors.py because it imports `subprocess`, which is slow to load; reached only as `fastproc.errors.ExitError`
and `fastproc.errors.TimeoutExpired`, under which names they also pickle.
"""

from __future__ import annotations

import subprocess

from fastproc._process_error import ProcessError
from fastproc._values.quoting import printable, shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastproc._values.status import Result
    from fastproc._values.tree import Survivor

_LINE = 1000
_TAIL_BYTES = 2000
_TAIL_LINES = 20


class ExitError(ProcessError, subprocess.CalledProcessError):
    """The program ran, and its exit status is not among those accepted.

    Attributes:
        result: the whole Result.
        returncode, cmd, output, stdout, stderr: as subprocess.CalledProcessError has them.
    """

    def __init__(self, result: Result) -> None:
        """Take everything from the result."""
        super().__init__(result.returncode, list(result.argv), result.stdout, result.stderr)
        self.args = (result,)
        self.result = result

    def __str__(self) -> str:
        """The shell line, the status in words, and the end of stderr."""
        text = f"{self.result.heading}: {self.result.status_text()}"
        tail = _tail(self.result.said)
        return f"{text}\n{tail}" if tail else text


class TimeoutExpired(ProcessError, subprocess.TimeoutExpired, TimeoutError):
    """The deadline passed before the program ended.

    Attributes:
        result: the partial Result with the output so far and how the child was ended, or None when it still runs.
        survivors: of a run, those that could not be ended, each with the reason. The program itself is among them when
            it does not die of SIGKILL, as a tracer or a file system holds it; then there is no result.
        cmd, timeout, output, stdout, stderr: as subprocess.TimeoutExpired has them.
    """

    def __init__(
        self,
        cmd: str | Sequence[str],
        timeout: float,
        output: bytes | None = None,
        stderr: bytes | None = None,
        result: Result | None = None,
        survivors: tuple[Survivor, ...] = (),
    ) -> None:
        """Take the output from the result where it is not given."""
        if result is not None:
            output = result.stdout if output is None else output
            stderr = result.stderr if stderr is None else stderr
        super().__init__(cmd, timeout, output, stderr)
        self.args = (cmd, timeout)
        self.result = result
        self.survivors = survivors if result is None else result.survivors

    def __str__(self) -> str:
        """The shell line, the limit, and how the child was ended."""
        line = printable(self.cmd) if isinstance(self.cmd, str) else shortened(self.cmd, _LINE)
        text = f"`{line}` timed out after {self.timeout:g} seconds"
        if self.result is None:
            return "; ".join([text, *(f"{one.name!r} (pid {one.pid}) is {one.why}" for one in self.survivors)])
        tail = _tail(self.result.said)
        text += f": {self.result.status_text()}"
        return f"{text}\n{tail}" if tail else text

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments; OSError's own way knows only errno and filenames."""
        fields = self.cmd, self.timeout, self.output, self.stderr, self.result, self.survivors
        return type(self), fields, self.__dict__


for _class in (ExitError, TimeoutExpired):
    _class.__module__ = "fastproc.errors"
del _class


def _tail(stderr: bytes | None) -> str:
    """The last lines of the captured error output, for a message: lines stay lines, all else is escaped."""
    if not stderr:
        return ""
    text = str(stderr[-_TAIL_BYTES:], "utf-8", "backslashreplace").rstrip()
    lines = text.split("\n")
    shown = [printable(line.removesuffix("\r"), "\t") for line in lines[-_TAIL_LINES:]]
    if len(stderr) > _TAIL_BYTES or len(lines) > len(shown):
        shown.insert(0, "[...]")
    return "\n".join(shown)
