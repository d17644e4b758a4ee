"""The exceptions of daemons and pid files."""

from __future__ import annotations

from fastproc._values.quoting import printable
from fastproc.errors import ProcessError

_TEXT = "\n\t"
"""Control characters that a text of several lines may contain."""


class DaemonError(ProcessError):
    """A daemon did not start. Its process and its children have ended.

    Attributes:
        step: the step that failed, such as "pid file", "chroot", "user" or "privileged action"; "ready" for the
            daemon's own code before it called `ready()`; "exec" for a program that cannot be executed.
        kind: the class name of the exception that the daemon raised; "" if it ended without an exception or did not
            report in time.
        text: the text of that exception.
        traceback: the traceback as text, or "".
        exit_code: the exit code of the daemon, negative for a signal; None if it is not known.
        pid: the pid of the daemon, which no longer exists; 0 if the daemon was not forked.
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
    """A pid file or its directory is invalid. Nothing was changed, and no signal was sent.

    Attributes:
        path: the path of the pid file.
        reason: what is wrong with the file or the directory.
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
    """Another process holds the lock of the pid file, or a process that the file names is running.

    Attributes:
        pid: the pid of that process; 0 if the file does not name a process yet.
    """

    __module__ = "fastproc.daemon"

    def __init__(self, path: str, reason: str, pid: int = 0) -> None:
        """Keep the facts."""
        super().__init__(path, reason)
        self.args = (path, reason, pid)
        self.pid = pid


class UnsafeFork(ProcessError, RuntimeError):
    """This process cannot be forked safely. The text has the reason and the alternative. Nothing was forked."""

    __module__ = "fastproc.daemon"
