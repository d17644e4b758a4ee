"""Popen: the standard module's class, with its children made, waited for and signalled by our engine.

It derives from the standard Popen, so that `isinstance` goes on working, and uses nothing of its inside but `__init__`
for what only the standard library can do: preexec_fn, user, group and extra_groups.
"""

from __future__ import annotations

import io
import os
import subprocess as standard
import sys
import warnings
from errno import EINVAL
from operator import attrgetter

from fastproc import _native
from fastproc._engine.fds import Opened
from fastproc._engine.finalizing import Finalizer
from fastproc._engine.process import Process
from fastproc._engine.reactor import deadline_from
from fastproc._engine.signal_api import SIGKILL, SIGNAL_MAX, SIGTERM
from fastproc.errors import ExitStatusUnknown, SpawnError
from fastproc.subprocess import _order
from fastproc.subprocess._communicate import Conversation, seconds_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    Base = standard.Popen[Any]
else:
    Base = standard.Popen

SIGINT_WAIT = 0.25
"""Seconds that a child gets to end by itself after Ctrl-C, which in a terminal has reached it too."""

UNTOLD = 255
"""The returncode of a child to which no signal could be sent as it had ended, nobody knows how; asyncio says so too."""


class Popen(Base):
    """Execute a child program in a new process: subprocess.Popen, made by fastproc's core.

    Takes what the standard class takes and has its attributes and methods. What is different:

    - wait(timeout) sleeps until the child ends, and does not look every 50 ms.
    - The status is the true one also when somebody else took it or SIGCHLD is ignored (Linux 6.15). Where the kernel
      does not tell, wait(), poll() and communicate() raise ExitStatusUnknown, and returncode stays None, or is 255 when
      a method that sends a signal found out; only with SIGCHLD ignored it is the standard's 0, and a RuntimeWarning.
    - Signals go through a pidfd and cannot reach a stranger.
    - preexec_fn, user, group and extra_groups are handed to the standard library, which then makes the child (they need
      a copy of this process); everything after that is as for other children. So are classes that override the
      standard one's private _execute_child or _get_handles.
    - A child gets os.environ as it is, not what os.putenv() or C code changed behind its back.
    - In a forked copy of this process, wait(), poll() and signals raise ProcessError.

    Raises:
        OSError: of the right subclass, as the standard class; its __cause__ is the SpawnError that names the stage.
    """

    _process: Process | None = None
    _communication_started = False
    _sigint_wait_secs = SIGINT_WAIT
    _conversation: Conversation | None = None
    _untold = False

    # The order, the names and the defaults are the standard's.
    def __init__(
        self,
        args: Any,
        bufsize: int | None = -1,
        executable: Any = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        preexec_fn: Callable[[], object] | None = None,
        close_fds: bool = True,
        shell: bool = False,
        cwd: Any = None,
        env: Any = None,
        universal_newlines: Any = None,
        startupinfo: Any = None,
        creationflags: int = 0,
        restore_signals: bool = True,
        start_new_session: bool = False,
        pass_fds: Any = (),
        *,
        user: Any = None,
        group: Any = None,
        extra_groups: Any = None,
        encoding: str | None = None,
        errors: str | None = None,
        text: Any = None,
        umask: int = -1,
        pipesize: int | None = -1,
        process_group: int | None = None,
    ) -> None:
        if (
            preexec_fn is not None
            or user is not None
            or group is not None
            or extra_groups is not None
            or (type(self) is not Popen and _changes_the_inside(type(self)))
        ):
            super().__init__(
                args, -1 if bufsize is None else bufsize, executable, stdin, stdout, stderr, preexec_fn, close_fds,
                shell, cwd, env, universal_newlines, startupinfo, creationflags, restore_signals, start_new_session,
                pass_fds, user=user, group=group, extra_groups=extra_groups, encoding=encoding, errors=errors,
                text=text, umask=umask, pipesize=-1 if pipesize is None else pipesize, process_group=process_group,
            )  # fmt: skip
            self._communication_started = False
            self._process = _adopted(self.pid)
            return
        bufsize = -1 if bufsize is None else bufsize
        if not isinstance(bufsize, int):
            raise TypeError("bufsize must be an integer")
        streams = _order.stream(0, stdin), _order.stream(1, stdout), _order.stream(2, stderr)
        pipesize = -1 if pipesize is None else pipesize
        if not isinstance(pipesize, int):
            raise TypeError("pipesize must be an integer")
        if pass_fds and not close_fds:
            warnings.warn("pass_fds overriding close_fds.", RuntimeWarning, stacklevel=2)
            close_fds = True
        if startupinfo is not None:
            raise ValueError("startupinfo is only supported on Windows platforms")
        if creationflags != 0:
            raise ValueError("creationflags is only supported on Windows platforms")

        # Until there is a child.
        self._drop = int  # type: ignore[method-assign, assignment]
        self.args = args
        self.stdin = self.stdout = self.stderr = None
        self.pid = None  # type: ignore[assignment]
        self.returncode = None
        self.pipesize = pipesize
        self.text_mode = _order.is_text(text, universal_newlines, encoding, errors)
        if self.text_mode:
            if encoding is None:
                encoding = _order.text_encoding()
            _order.check_text(encoding, errors)
        self.encoding = encoding
        self.errors = errors

        with Opened() as opened:
            order = _order.make_order(args, executable, shell, env, cwd, opened)
            order.stdio = streams
            order.fds = _order.passed(pass_fds) if pass_fds else ()
            order.settled = _order.attributes(
                bool(close_fds), bool(restore_signals), bool(start_new_session), process_group, umask, pipesize
            )
            process = Process()
            # The warning about a child that was dropped is ours to give.
            process.detach()
            try:
                process.spawn(order)  # type: ignore[arg-type]
                self._make_files(process, bufsize)
            except SpawnError as error:
                raise order.failed(error) from error
            except BaseException:
                process.abandon()
                raise
        self.pid = process.pid
        self._process = process
        del self._drop

    def _make_files(self, process: Process, bufsize: int) -> None:
        line_buffering = False
        if self.text_mode and bufsize == 1:
            line_buffering, bufsize = True, -1
        files: list[Any] = [process.ends.file(index, bufsize) for index in range(3)]
        if self.text_mode:
            for index, file in enumerate(files):
                if file is not None:
                    files[index] = io.TextIOWrapper(
                        file,
                        encoding=self.encoding,
                        errors=self.errors,
                        line_buffering=line_buffering and index == 0,
                        write_through=index == 0,
                    )
        self.stdin, self.stdout, self.stderr = files

    # -- leaving it

    def __enter__(self) -> Popen:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the streams and wait; after Ctrl-C for a short while only."""
        if self.stdout:
            self.stdout.close()
        if self.stderr:
            self.stderr.close()
        try:
            if self.stdin:
                self.stdin.close()
        finally:
            if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
                self._linger(None)
            elif self._process is not None and not self._process._is_foreign():
                try:
                    self.wait()
                except ExitStatusUnknown:
                    if exc_type is None:
                        raise

    # Of a child whose end is known it is a function in C, and no handler runs in it.
    __del__ = Finalizer(attrgetter("_drop"))

    # What a finalizer uses is bound here: the module's names may be gone at the end of the interpreter (GOTCHAS I9).
    def _drop(
        self,
        _warn: Callable[..., None] = warnings.warn,
        _finalizing: Callable[[], bool] = sys.is_finalizing,
        _getpid: Callable[[], int] = os.getpid,
    ) -> None:
        process = self._process
        if process is None or process._owner != _getpid():
            return
        if self.returncode is None and process.final is None:
            _warn(f"subprocess {self.pid} is still running", ResourceWarning, source=self)
        # What has ended is reaped now; what runs on is the engine's list of orphans' from here.
        if not _finalizing():
            try:
                process.poll()
            except ExitStatusUnknown:
                pass

    # -- its end

    def poll(self) -> int | None:
        """Look whether the child has ended; set and return returncode."""
        if self.returncode is None or self._untold:
            self._ask(False)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the child; set and return returncode.

        Raises:
            TimeoutExpired: it still runs after `timeout` seconds.
        """
        deadline = deadline_from("timeout", timeout)
        try:
            return self._wait_until(deadline, timeout)
        except KeyboardInterrupt:
            self._linger(deadline)
            raise

    @property
    def _child(self) -> Process:
        process = self._process
        if process is None:
            raise standard.SubprocessError("no child was started")
        return process

    @property
    def _words(self) -> tuple[str, ...]:
        args = self.args
        words: Any = [args] if isinstance(args, (str, bytes, os.PathLike)) else args
        return tuple(map(os.fsdecode, words))

    def _ask(self, blocking: bool, deadline: float | None = None) -> None:
        child = self._child
        try:
            code = child._wait(deadline) if blocking else child.poll()
        except ExitStatusUnknown as error:
            code = _order.unknown(ExitStatusUnknown(error.pid, self._words))
        # Another thread, or asyncio, may have set it meanwhile.
        if self.returncode is None:
            self.returncode = code
        if child.final is not None:
            self._drop = int  # type: ignore[method-assign, assignment]

    def _wait_until(self, deadline: float | None, timeout: float | None) -> int:
        if self.returncode is None or self._untold:
            self._ask(True, deadline)
            if self.returncode is None:
                assert timeout is not None
                raise standard.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _linger(self, deadline: float | None) -> None:
        """After the first Ctrl-C, wait a little: the child has probably got it too (bpo-25942)."""
        seconds, self._sigint_wait_secs = self._sigint_wait_secs, 0
        if self.returncode is None and seconds > 0 and self._process is not None:
            until = deadline_from("timeout", seconds)
            if until is not None and deadline is not None:
                until = min(until, deadline)
            self._ask(True, until)

    # -- signals

    def send_signal(self, sig: int) -> None:
        """Send a signal to the child; does nothing once it has ended.

        Raises:
            OSError: EINVAL, no signal number; EPERM, the child runs as another user.
        """
        try:
            self.poll()
        except ExitStatusUnknown:
            # Nothing to send, nothing to tell here; but returncode must not say "still runs" (CPython's tests). wait()
            # and poll() go on to raise.
            self.returncode, self._untold = UNTOLD, True
        if self.returncode is not None:
            return
        if not 0 <= sig <= SIGNAL_MAX:
            raise OSError(EINVAL, os.strerror(EINVAL))
        self._child.send_signal(sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(SIGKILL)

    # -- its streams

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Feed stdin and close it, read both outputs to their ends, wait; return the two outputs.

        After a TimeoutExpired it can be called again, without input; nothing is lost.

        Raises:
            TimeoutExpired: with what has been read so far.
            ValueError: input for a communication that has begun.
        """
        if self._communication_started and input:
            raise ValueError("Cannot send input after starting communication")
        single = [self.stdin, self.stdout, self.stderr].count(None) >= 2
        if single and timeout is None and not self._communication_started:
            return self._communicate_one(input)
        deadline = deadline_from("timeout", timeout)
        try:
            outputs = self._exchange(input, deadline, timeout)
        except KeyboardInterrupt:
            self._linger(deadline)
            raise
        finally:
            self._communication_started = True
        return outputs

    def _communicate_one(self, input: Any) -> tuple[Any, Any]:
        """With one stream at most nothing can block the other way: simply write or read it."""
        stdout = stderr = None
        if self.stdin:
            try:
                if input:
                    self.stdin.write(input)
            except BrokenPipeError:
                pass
            try:
                self.stdin.close()
            except BrokenPipeError:
                pass
        elif self.stdout:
            stdout = self.stdout.read()
            self.stdout.close()
        elif self.stderr:
            stderr = self.stderr.read()
            self.stderr.close()
        try:
            self.wait()
        except ExitStatusUnknown as error:
            raise ExitStatusUnknown(error.pid, error.argv, stdout, stderr) from None
        return stdout, stderr

    def _exchange(self, input: Any, deadline: float | None, timeout: float | None) -> tuple[Any, Any]:
        talk = self._conversation
        if talk is None:
            talk = self._conversation = self._open_conversation(input)
        if not talk.run(deadline):
            raise self._expired(talk, timeout)
        try:
            # By its public name: programs put their own in its place, and derive classes.
            self.wait(timeout=seconds_left(deadline))
        except standard.TimeoutExpired:
            raise self._expired(talk, timeout) from None
        except ExitStatusUnknown as error:
            raise ExitStatusUnknown(error.pid, error.argv, talk.output(0), talk.output(1)) from None
        return self._decoded(talk.output(0), self.stdout), self._decoded(talk.output(1), self.stderr)

    def _open_conversation(self, input: Any) -> Conversation:
        stdin = self.stdin
        if stdin:
            try:
                # May block, when the user has been writing without a reader.
                stdin.flush()
                if not input:
                    stdin.close()
            except BrokenPipeError:
                pass
        if not stdin or not input:
            return Conversation(None, b"", (self.stdout, self.stderr))
        if self.text_mode:
            input = input.encode(stdin.encoding, stdin.errors)  # type: ignore[attr-defined]
        return Conversation(stdin, input, (self.stdout, self.stderr))

    def _expired(self, talk: Conversation, timeout: float | None) -> standard.TimeoutExpired:
        assert timeout is not None
        return standard.TimeoutExpired(self.args, timeout, output=talk.partial(0), stderr=talk.partial(1))

    def _decoded(self, data: bytes | None, file: Any) -> Any:
        return _order.translated(data, file.encoding, file.errors) if data is not None and self.text_mode else data


Popen.__module__ = "fastproc.subprocess"


_INSIDE = {name: getattr(Base, name, None) for name in ("_execute_child", "_get_handles")}


def _changes_the_inside(kind: type[Popen]) -> bool:
    return any(getattr(kind, name, None) is not own for name, own in _INSIDE.items())


def _adopted(pid: int) -> Process:
    """Return the handle of a child that the standard library has made."""
    process = Process()
    process.detach()
    child = process._child
    child.fd = (-1, -1, -1)
    # With SIGCHLD ignored it may have ended, and its number be a stranger's: then -1, and the number is refused.
    child.pidfd = _native.pidfd_of_child(pid)
    child.pid = pid
    process.adopt()
    return process
