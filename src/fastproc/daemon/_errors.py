"""What goes wrong with daemons and pid files."""

from __future__ import annotations

from fastproc._values.quoting import printable
from fastproc.errors import ProcessError

_TEXT = "\n\t"
"""What a text of several lines may have."""


class DaemonError(ProcessError):
    """A daemon did not start; nothing of it is left.

    Attributes:
        step: where it failed, such as "pid file", "chroot", "user", "privileged action"; "ready" for the daemon's own
            code before it said that it is ready; "exec" for a program that cannot be executed.
        kind: the name of the exception that the daemon raised; "" when it ended without one, or said nothing in time.
        text: its text.
        traceback: its traceback as text, or "".
        exit_code: what the daemon ended with, negative for a signal; None when that is not known.
        pid: its pid, which is not in use any more; 0 when it was not made.
    """

    __module__ = "fastproc.daemon"

    def __init__(
        self, step: str, kind: str, text: str, traceback: str = "", exit_code: int | None = None, pid: int = 0
    ) -> None:
        """Keep the facts."""
        super().__init__(step, kind, text, traceback, exit_code, pid)
        self.step = step
        self.kind = kind
        self.text = text
        self.traceback = traceback
        self.exit_code = exit_code
        self.pid = pid

    def __str__(self) -> str:
        """The step, the error, how the daemon ended, and its traceback."""
        reason = printable(f"{self.kind}: {self.text}" if self.kind else self.text, _TEXT)
        line = f"the daemon did not start: step {self.step!r}: {reason}"
        if self.exit_code is not None:
            how = f"signal {-self.exit_code}" if self.exit_code < 0 else f"exit status {self.exit_code}"
            line += f" ({how})"
        return f"{line}\n{printable(self.traceback.rstrip(), _TEXT)}" if self.traceback else line


class PidFileError(ProcessError):
    """A pid file, or its place, is not what it must be; nothing was changed or signalled.

    Attributes:
        path: the file.
        reason: what is wrong.
    """

    __module__ = "fastproc.daemon"

    def __init__(self, path: str, reason: str) -> None:
        """Keep both."""
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        """Both."""
        return f"pid file {printable(self.path)}: {printable(self.reason, _TEXT)}"


class AlreadyRunning(PidFileError):
    """Another process holds the lock of the pid file, or a process that the file names runs.

    Attributes:
        pid: that process; 0 when the file does not name it yet.
    """

    __module__ = "fastproc.daemon"

    def __init__(self, path: str, reason: str, pid: int = 0) -> None:
        """Keep the facts."""
        super().__init__(path, reason)
        self.args = (path, reason, pid)
        self.pid = pid


class UnsafeFork(ProcessError, RuntimeError):
    """This process cannot be forked safely; the text says why, and what to use instead. Nothing was forked."""

    __module__ = "fastproc.daemon"
