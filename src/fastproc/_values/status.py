"""What became of a child: Result and Usage."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self

    from fastproc._values.tree import Survivor

# The low bits are FP_JOB_* of csrc/fastproc.h, which a test compares.
TIMED_OUT = 1
TERMINATED = 2
KILLED = 4
PIPES_OPEN = 8
CORE_DUMPED = 16

_LINE = 1000
"""Characters of a command in a message."""

_NOT_CAPTURED = "{} was not captured: use capture=True or {}=PIPE"


class Usage:
    """What the kernel counted for the child and the children it waited for (getrusage(2)).

    Attributes:
        utime, stime: seconds of CPU time in user and kernel mode.
        maxrss: bytes, the largest resident size. On Linux it is not only the program's: execve(2) keeps the high-water
            mark of the memory that was there before, so a small program started by a large process shows the latter's.
        minflt, majflt: page faults without and with a read from disk.
        inblock, oublock: reads and writes of the file system, in blocks of 512 bytes.
        nvcsw, nivcsw: context switches because it waited, and because its time was over.
    """

    __module__ = "fastproc"

    __slots__ = ("inblock", "majflt", "maxrss", "minflt", "nivcsw", "nvcsw", "oublock", "stime", "utime")

    def __init__(
        self,
        utime_us: int,
        stime_us: int,
        maxrss_kib: int,
        minflt: int,
        majflt: int,
        inblock: int,
        oublock: int,
        nvcsw: int,
        nivcsw: int,
    ) -> None:
        """Take the fields of struct fp_usage in their order and units: microseconds and KiB."""
        self.utime = utime_us / 1e6
        self.stime = stime_us / 1e6
        self.maxrss = maxrss_kib * 1024
        self.minflt = minflt
        self.majflt = majflt
        self.inblock = inblock
        self.oublock = oublock
        self.nvcsw = nvcsw
        self.nivcsw = nivcsw

    def _key(self) -> tuple[float, ...]:
        return tuple(getattr(self, name) for name in _USAGE_ORDER)

    def __eq__(self, other: object) -> bool:
        """Compare all counts."""
        return self._key() == other._key() if isinstance(other, Usage) else NotImplemented

    def __hash__(self) -> int:
        """Hash all counts."""
        return hash(self._key())

    def __repr__(self) -> str:
        """Show every count by name."""
        return f"Usage({', '.join(f'{name}={getattr(self, name)!r}' for name in _USAGE_ORDER)})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle in the kernel's units."""
        raw = round(self.utime * 1e6), round(self.stime * 1e6), self.maxrss // 1024, *self._key()[3:]
        return Usage, raw


exit_error: Callable[[Result], Exception] = None  # type: ignore[assignment]
"""Makes the ExitError of a result: `errors.exit_error`, put here by _run.py, as the errors know results."""

_USAGE_ORDER = ("utime", "stime", "maxrss", "minflt", "majflt", "inblock", "oublock", "nvcsw", "nivcsw")


_HERE: tuple[str, tuple[str, ...]] = "", ()


class Result:
    """How a command ended, and what it wrote.

    Attributes:
        argv: the arguments.
        returncode: the exit code, or minus the number of the signal that ended it.
        stdout, stderr: the captured bytes (a memoryview of them for MEMFD), or None for a stream that was not captured.
        pid: the number that the child had.
        mechanism: how the child was made, such as "clone3_vm"; "launcher" (with `user=` and its like).
        mechanism_refused: the faster mechanisms that this system refuses, with the reasons.
    """

    __module__ = "fastproc"

    __slots__ = (
        "_dropped",
        "_duration_ns",
        "_flags",
        "_ok_codes",
        "_usage",
        "_pipe_holders",
        "_spilled",
        "_survivors",
        "_where",
        "argv",
        "mechanism",
        "mechanism_refused",
        "pid",
        "returncode",
        "stderr",
        "stdout",
    )

    _dropped: tuple[int, int]
    _pipe_holders: tuple[int, ...]
    _spilled: tuple[memoryview | bytes | None, memoryview | bytes | None]
    _survivors: tuple[Survivor, ...]
    _where: tuple[str, tuple[str, ...]]

    def __init__(
        self,
        argv: tuple[str, ...],
        returncode: int,
        stdout: bytes | None,
        stderr: bytes | None,
        pid: int,
        duration_ns: int,
        usage: bytes | tuple[int, ...] | None,
        mechanism: str,
        flags: int = 0,
        ok_codes: tuple[int, ...] = (0,),
        refused: Mapping[str, str] | None = None,
    ) -> None:
        """Take what the engine collected.

        Args:
            argv: see the attributes.
            returncode: see the attributes.
            stdout: see the attributes.
            stderr: see the attributes.
            pid: see the attributes.
            mechanism: see the attributes.
            duration_ns: from before the spawn to the end of everything.
            usage: struct fp_usage as its bytes or as a tuple of its fields; None when the status was recovered.
            flags: TIMED_OUT, TERMINATED, KILLED, PIPES_OPEN, CORE_DUMPED of this module.
            ok_codes: the return codes that `ok` and `check()` accept.
            refused: mechanism_refused; none when None. Not copied.
        """
        self.argv = argv
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
        self.pid = pid
        self.mechanism = mechanism
        self.mechanism_refused = refused or {}
        self._duration_ns = duration_ns
        self._usage = usage
        self._flags = flags
        self._ok_codes = ok_codes

    @property
    def ok(self) -> bool:
        """Whether the return code is accepted and the deadline was kept."""
        return self.returncode in self._ok_codes and not self._flags & TIMED_OUT

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended the program, or None."""
        return -self.returncode if self.returncode < 0 else None

    @property
    def shell_code(self) -> int:
        """The status as a shell's `$?` has it: 128 and the signal's number for a signal."""
        return self.returncode if self.returncode >= 0 else 128 - self.returncode

    @property
    def duration(self) -> float:
        """Seconds from before the spawn to the end."""
        return self._duration_ns / 1e9

    @property
    def usage(self) -> Usage | None:
        """What the kernel counted; None when somebody else reaped the child and only its status could be recovered."""
        raw = self._usage
        if raw is None:
            return None
        if isinstance(raw, bytes):
            raw = self._usage = tuple(memoryview(raw).cast("q"))
        return Usage(*raw)

    @property
    def core_dumped(self) -> bool:
        """Whether the kernel wrote a core file."""
        return bool(self._flags & CORE_DUMPED)

    @property
    def timed_out(self) -> bool:
        """Whether the deadline passed before the program ended."""
        return bool(self._flags & TIMED_OUT)

    @property
    def killed(self) -> str:
        """What fastproc did to end it: "" for nothing, "terminated" (SIGTERM was enough), "killed" (SIGKILL)."""
        if self._flags & KILLED:
            return "killed"
        return "terminated" if self._flags & TERMINATED else ""

    @property
    def pipes_still_open(self) -> bool:
        """Whether another process still held a pipe when reading stopped, so that more output may have followed."""
        return bool(self._flags & PIPES_OPEN)

    @property
    def pipe_holders(self) -> tuple[int, ...]:
        """The pids of those that held the pipes then, as far as /proc shows them; () where nobody looked."""
        return getattr(self, "_pipe_holders", ())

    @property
    def survivors(self) -> tuple[Survivor, ...]:
        """Those of the tree of a command with kill_tree=True that could not be ended; () for any other command."""
        return getattr(self, "_survivors", ())

    @property
    def worker(self) -> str:
        """The worker of a pool's executor that ran it: an address, or host and pid; "" for this process."""
        return getattr(self, "_where", _HERE)[0]

    @property
    def lost_workers(self) -> tuple[str, ...]:
        """The workers that held it before and were lost: it may have run there too, in part or to its end."""
        return getattr(self, "_where", _HERE)[1]

    @property
    def stdout_dropped(self) -> int:
        """How many bytes of stdout are missing between its head and its tail (CaptureLimit)."""
        return getattr(self, "_dropped", (0, 0))[0]

    @property
    def stderr_dropped(self) -> int:
        """How many bytes of stderr are missing between its head and its tail."""
        return getattr(self, "_dropped", (0, 0))[1]

    @property
    def stdout_spill(self) -> memoryview | bytes | None:
        """All of stdout, where its CaptureLimit has spill=MEMFD: a view of a file in memory, not a copy; else None."""
        return getattr(self, "_spilled", (None, None))[0]

    @property
    def stderr_spill(self) -> memoryview | bytes | None:
        """All of stderr, as stdout_spill."""
        return getattr(self, "_spilled", (None, None))[1]

    def text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return standard output decoded.

        Raises:
            ValueError: it was not captured, or (UnicodeDecodeError) is not text of that encoding.
        """
        if self.stdout is None:
            raise ValueError(_NOT_CAPTURED.format("stdout", "stdout"))
        return str(self.stdout, encoding, errors)

    def stderr_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return standard error decoded; as text()."""
        if self.stderr is None:
            raise ValueError(_NOT_CAPTURED.format("stderr", "stderr"))
        return str(self.stderr, encoding, errors)

    def lines(self, encoding: str = "utf-8", errors: str = "strict", *, newline: str = "\n") -> list[str]:
        r"""Return the lines of standard output without their ends; as text().

        Args:
            encoding: of the text.
            errors: as bytes.decode() has it.
            newline: what ends a line: "\n" alone, another string such as "\0", or "universal": "\n", "\r\n" and "\r".
        """
        text = self.text(encoding, errors)
        if newline == "universal":
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            newline = "\n"
        if not isinstance(newline, str) or not newline:
            raise ValueError(f"newline: must be a string that is not empty, not {newline!r}")
        lines = text.split(newline)
        if not lines[-1]:
            del lines[-1]
        return lines

    def status_text(self) -> str:
        """Return the status in words: "exit status 2", "killed by SIGKILL"."""
        if self.returncode >= 0:
            text = f"exit status {self.returncode}"
        else:
            from fastproc._values.signals import label

            text = f"killed by {label(-self.returncode)}"
        if self.core_dumped:
            text += " (core dumped)"
        return text

    @property
    def heading(self) -> str:
        """The command as it is called in a message."""
        from fastproc._values.quoting import shortened

        return f"`{shortened(self.argv, _LINE)}`"

    @property
    def said(self) -> bytes | None:
        """What it wrote to stderr, of which a message shows the end."""
        return self.stderr

    def check(self) -> Self:
        """Return this result if it is ok.

        Raises:
            ExitError: it is not.
        """
        if self.ok:
            return self
        raise exit_error(self)

    def __repr__(self) -> str:
        """Show the command and its status, and how much was captured."""
        from fastproc._values.quoting import shortened

        sizes = [
            f", {name} {len(data)} bytes" for name, data in (("stdout", self.stdout), ("stderr", self.stderr)) if data
        ]
        return f"<Result `{shortened(self.argv, 200)}`: {self.status_text()}{''.join(sizes)}>"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments."""
        return self._reduced()

    def _reduced(self) -> tuple[Any, tuple[object, ...], tuple[None, dict[str, object]]]:
        usage = tuple(memoryview(self._usage).cast("q")) if isinstance(self._usage, bytes) else self._usage
        return (
            Result,
            (
                self.argv,
                self.returncode,
                _bytes(self.stdout),
                _bytes(self.stderr),
                self.pid,
                self._duration_ns,
                usage,
                self.mechanism,
                self._flags,
                self._ok_codes,
                dict(self.mechanism_refused),
            ),
            (
                None,
                {
                    "_dropped": (self.stdout_dropped, self.stderr_dropped),
                    "_pipe_holders": self.pipe_holders,
                    "_spilled": (_bytes(self.stdout_spill), _bytes(self.stderr_spill)),
                    "_survivors": self.survivors,
                    "_where": (self.worker, self.lost_workers),
                },
            ),
        )


class Change:
    """What has become of a running child, as `Process.wait_change()` tells it.

    Attributes:
        state: "stopped", "continued" or "ended".
        signal: the number of the signal that stopped, continued or ended it; None for one that exited.
        returncode: once it has ended, as everywhere; None before.
        core_dumped: whether it left a core file.
    """

    __module__ = "fastproc"

    __slots__ = ("core_dumped", "returncode", "signal", "state")

    def __init__(self, state: str, number: int, core_dumped: bool = False) -> None:
        """Take the state, and the return code for "ended", else the signal."""
        ended = state == "ended"
        self.state = state
        self.returncode = number if ended else None
        self.signal = number if not ended else -number if number < 0 else None
        self.core_dumped = core_dumped

    def __repr__(self) -> str:
        """Show it in words."""
        code = "" if self.returncode is None else f", returncode={self.returncode}"
        return f"<Change {self.state}, signal={self.signal}{code}>"


def _bytes(data: bytes | memoryview | None) -> bytes | None:
    """What a file in memory held, as it pickles."""
    return data if data is None else bytes(data)
