"""The exception tree: what can go wrong with a process, each also under its standard library name.

    ProcessError(Exception)
    ├── SpawnError(OSError)            the child never ran its program; says the stage, and what was being set up
    │   └── also FileNotFoundError, PermissionError, NotADirectoryError or whatever Python has for the errno
    ├── ExitError(subprocess.CalledProcessError)                    it ran and its exit status was not accepted
    ├── TimeoutExpired(subprocess.TimeoutExpired, TimeoutError)     the deadline passed
    ├── ExitStatusUnknown              somebody else reaped the child and the kernel does not tell its status
    ├── Unsupported(NotImplementedError)                            this system cannot do what the command asks for
    └── WorkerLost                     the executor of a pool lost the process that was to run it

`subprocess` is not imported, as it costs more than all of fastproc: the two classes that derive from its exceptions are
loaded when they are first named, by this module's `__getattr__`.
"""

from __future__ import annotations

from fastproc._process_error import ProcessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastproc._subprocess_errors import ExitError as ExitError
    from fastproc._subprocess_errors import TimeoutExpired as TimeoutExpired
    from fastproc._values.status import Result
    from fastproc._values.tree import Survivor

__all__ = [
    "ExitError",
    "ExitStatusUnknown",
    "ProcessError",
    "SpawnError",
    "TimeoutExpired",
    "Unsupported",
    "WorkerLost",
    "exit_error",
    "killed_in_vain",
    "spawn_error",
    "timeout_expired",
]


class SpawnError(ProcessError, OSError):
    """The child could not be made, set up, or given its program; nothing of it is left.

    An OSError of the right subclass: a missing program is also a FileNotFoundError, and so on. Made by `spawn_error()`.

    Attributes:
        errno: the error number; strerror: its text.
        filename: the program, directory or redirection concerned.
        stage: the set-up step that failed, such as "exec", "cwd", "rlimits".
        detail: a number that belongs to the stage: the index of the limit, descriptor, argument or PATH candidate.
        argv: the command's arguments.
        searched: the PATH that was searched, or None when the program's name has a slash.
        extra: more about the reason, such as a missing interpreter, or a size and its limit.
    """

    stage: str
    detail: int
    argv: tuple[str, ...]
    searched: str | None
    extra: str

    def __str__(self) -> str:
        """The line to show: errno, program, reason, stage."""
        from fastproc._values.quoting import printable

        program = self.argv[0] if self.argv else self.filename
        where = f"stage {self.stage}"
        if self.searched is not None and self.stage == "exec":
            where += f", searched {printable(self.searched)}"
        return f"[Errno {self.errno}] cannot start {program!r}: {printable(self._reason())} ({where})"

    def _reason(self) -> str:
        text = self.strerror or f"error {self.errno}"
        text = text[:1].lower() + text[1:]
        if self.stage == "exec" and isinstance(self, FileNotFoundError):
            text = "no such file"
        elif self.stage == "exec" and self.errno == 8 and not self.extra:
            # GOTCHAS F9: execve(2) says ENOEXEC for a script without an interpreter line; no fallback to sh.
            text += " (no #! line? it is not handed to /bin/sh; run it as `sh FILE`)"
        elif self.stage in ("cwd", "chroot"):
            text = f"cannot enter {self.filename!r}: {text}"
        elif self.stage == "cgroup" and self.extra and self.errno in (2, 9, 20):
            # "Bad file descriptor" is what clone3(2) says of a good one that is of something else.
            text = f"cannot place it in the cgroup {self.filename!r}"
        elif self.stage in ("redirect", "cgroup"):
            text = f"cannot open {self.filename!r}: {text}"
        return f"{text}: {self.extra}" if self.extra else text

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy through the factory, so that the subclass and every attribute come back."""
        fields = (self.errno, self.stage, self.detail, self.argv, self.filename, self.searched, self.extra)
        return _restore_spawn_error, fields, self.__dict__


class Unsupported(ProcessError, NotImplementedError):
    """This system, kernel or sandbox cannot do what was asked; the text says what and why."""


class ExitStatusUnknown(ProcessError):
    """The child has ended, but somebody else reaped it and the kernel does not tell how it ended.

    Never guessed as 0 (GOTCHAS D2): it happens where SIGCHLD is ignored, or another part of the process waits for any
    child, on kernels without PIDFD_INFO_EXIT (before 6.15). And where a child was killed for another reason than its
    deadline, such as a limit of its output, and a tracer or a file system holds it in its death.

    Attributes:
        pid: the number that the child had.
        argv: its arguments.
        stdout, stderr: what was captured, or None.
        held: whether it was killed, and is held in its death.
    """

    def __init__(
        self,
        pid: int,
        argv: Sequence[str] = (),
        stdout: bytes | None = None,
        stderr: bytes | None = None,
        held: bool = False,
    ) -> None:
        """Keep who it was and the output there was."""
        argv = tuple(argv)
        super().__init__(pid, argv, stdout, stderr, held)
        self.held = held
        self.pid = pid
        self.argv = argv
        self.stdout = stdout
        self.stderr = stderr

    def __str__(self) -> str:
        """The program, its pid, and why nothing is known."""
        program = repr(self.argv[0]) if self.argv else "the child"
        if self.held:
            return f"{program} (pid {self.pid}) was killed, but a tracer or the kernel holds it: no status yet"
        return f"{program} (pid {self.pid}) has ended, but its status was taken by another wait() in this process"


class WorkerLost(ProcessError):
    """The executor of a pool has lost the process that was to run a task, or given the task up.

    The command may have run: not at all, in part, or to its end, and nothing is known of it. The cause is the
    executor's own exception, where it had one.

    Attributes:
        line: the command or pipeline as a shell line.
        workers: the workers that held it and were lost, where the executor tells.
        reason: what the executor said.
    """

    def __init__(self, line: str, workers: Sequence[str], reason: str) -> None:
        """Keep what was to run, who was to run it, and why it is not known what became of it."""
        workers = tuple(workers)
        super().__init__(line, workers, reason)
        self.line = line
        self.workers = workers
        self.reason = reason

    def __str__(self) -> str:
        """The line, the workers and the reason."""
        from fastproc._values.quoting import cut, printable

        where = f" (held by {printable(', '.join(self.workers))})" if self.workers else ""
        line, reason = printable(cut(self.line, 1000)), printable(self.reason, "\n\t")
        return f"`{line}`: the executor has lost it{where}, so it may have run or not: {reason}"


# Made when first needed, as a class costs an import 30 us. They pickle by the factory, so they need no name here.
_by_kind: dict[type[OSError], type[SpawnError]] = {OSError: SpawnError}


def _spawn_class(kind: type[OSError]) -> type[SpawnError]:
    """Return the SpawnError that is also the OSError subclass which Python has for the errno."""
    found = _by_kind.get(kind)
    if found is None:
        body = {"__module__": __name__, "__doc__": f"A SpawnError that is a {kind.__name__}."}
        found = _by_kind.setdefault(kind, type(f"Spawn{kind.__name__}", (SpawnError, kind), body))
    return found


def spawn_error(
    errno: int,
    stage: str,
    detail: int = 0,
    *,
    argv: Sequence[str] = (),
    filename: str | bytes | int | None = None,
    searched: str | bytes | None = None,
    extra: str = "",
) -> SpawnError:
    """Make the SpawnError of the right subclass.

    Args:
        errno: the positive error number.
        stage: lower-case name of the step that failed.
        detail: the stage's number, see SpawnError.
        argv: the command's arguments; the first is the program in the message.
        filename: what could not be used; the program when None.
        searched: the PATH that was searched, for the message.
        extra: more about the reason.
    """
    from os import fsdecode, strerror

    argv = tuple(argv)
    if filename is None and argv:
        filename = argv[0]
    elif isinstance(filename, bytes):
        filename = fsdecode(filename)
    text = strerror(errno)
    error = _spawn_class(type(OSError(errno, text)))(errno, text, filename)
    error.stage = stage
    error.detail = detail
    error.argv = argv
    error.searched = fsdecode(searched) if isinstance(searched, bytes) else searched
    error.extra = extra
    return error


def _restore_spawn_error(
    errno: int,
    stage: str,
    detail: int,
    argv: tuple[str, ...],
    filename: str | int | None,
    searched: str | None,
    extra: str,
) -> SpawnError:
    return spawn_error(errno, stage, detail, argv=argv, filename=filename, searched=searched, extra=extra)


def exit_error(result: Result) -> ExitError:
    """Make the ExitError of a result whose exit status is not accepted."""
    from fastproc._subprocess_errors import ExitError

    return ExitError(result)


def timeout_expired(argv: str | Sequence[str], timeout: float, result: Result | None = None) -> TimeoutExpired:
    """Make the TimeoutExpired of a command or a shell line; result is what there was, or None when it still runs."""
    from fastproc._subprocess_errors import TimeoutExpired

    return TimeoutExpired(argv if isinstance(argv, str) else list(argv), timeout, result=result)


def killed_in_vain(
    argv: Sequence[str], timeout: float, survivor: Survivor, stdout: bytes | None, stderr: bytes | None
) -> TimeoutExpired:
    """Make the TimeoutExpired of a command whose child does not die of SIGKILL, with what there was of output."""
    from fastproc._subprocess_errors import TimeoutExpired

    return TimeoutExpired(list(argv), timeout, stdout, stderr, None, (survivor,))


def __getattr__(name: str) -> object:
    if name in ("ExitError", "TimeoutExpired"):
        from fastproc import _subprocess_errors

        value = globals()[name] = getattr(_subprocess_errors, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
