"""asyncio's own interface to child processes on fastproc's core: create_subprocess_exec, _shell, and the loop's calls.

The Process, StreamReader and StreamWriter are asyncio's classes; what is here is the transport below them. Its end is
told by the hub's reactor: no child watcher, no SIGCHLD, in any thread's loop. Its pipes are the loop's own transports.
Invariant: a transport that is closed, or whose making is cancelled, leaves no child.
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections import deque
from contextvars import copy_context
from operator import attrgetter
from typing import Any

from fastproc import errors
from fastproc._engine.exit_watch import ExitWatch
from fastproc._engine.fds import LentFd, Opened, OwnedFd
from fastproc._engine.finalizing import Finalizer
from fastproc._engine.process import Process as Child
from fastproc.aio._current import current_hub
from fastproc.aio._run import outlast_death, spawn_planned
from fastproc.subprocess import Popen, _order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fastproc.aio._hub import Hub

__all__ = [
    "create_subprocess_exec",
    "create_subprocess_shell",
    "subprocess_exec",
    "subprocess_shell",
]

_LIMIT = 2**16  # bytes of a line, as asyncio has it; lines() of aio.start() has none

_UNKNOWN = 255
"""What asyncio gives where somebody else took the status and the kernel does not tell it; with a warning."""


async def create_subprocess_exec(
    program: Any,
    *args: Any,
    stdin: Any = None,
    stdout: Any = None,
    stderr: Any = None,
    limit: int = _LIMIT,
    **kwds: Any,
) -> Process:
    """Start a program, as asyncio.create_subprocess_exec(): the same arguments, the same Process."""
    loop = asyncio.get_running_loop()
    transport, protocol = await subprocess_exec(
        loop,
        lambda: SubprocessStreamProtocol(limit=limit, loop=loop),
        program,
        *args,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        **kwds,
    )
    return Process(transport, protocol, loop)


create_subprocess_exec.__module__ = "fastproc.aio"


async def create_subprocess_shell(
    cmd: str | bytes, stdin: Any = None, stdout: Any = None, stderr: Any = None, limit: int = _LIMIT, **kwds: Any
) -> Process:
    """Start a line for the shell, as asyncio.create_subprocess_shell(): the same arguments, the same Process."""
    loop = asyncio.get_running_loop()
    transport, protocol = await subprocess_shell(
        loop,
        lambda: SubprocessStreamProtocol(limit=limit, loop=loop),
        cmd,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        **kwds,
    )
    return Process(transport, protocol, loop)


create_subprocess_shell.__module__ = "fastproc.aio"


async def subprocess_exec(
    loop: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], Any],
    program: Any,
    *args: Any,
    stdin: Any = PIPE,
    stdout: Any = PIPE,
    stderr: Any = PIPE,
    **options: Any,
) -> tuple[Transport, Any]:
    """Start a program, as the method of asyncio's loops of that name; the loop comes first."""
    _check_options(options, False)
    return await _connect(loop, protocol_factory(), (program, *args), False, (stdin, stdout, stderr), options)


subprocess_exec.__module__ = "fastproc.aio"


async def subprocess_shell(
    loop: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], Any],
    cmd: str | bytes,
    *,
    stdin: Any = PIPE,
    stdout: Any = PIPE,
    stderr: Any = PIPE,
    **options: Any,
) -> tuple[Transport, Any]:
    """Start a line for the shell, as the method of asyncio's loops of that name; the loop comes first."""
    if not isinstance(cmd, (bytes, str)):
        raise ValueError("cmd must be a string")
    _check_options(options, True)
    return await _connect(loop, protocol_factory(), cmd, True, (stdin, stdout, stderr), options)


subprocess_shell.__module__ = "fastproc.aio"


def _check_options(options: dict[str, Any], shell: bool) -> None:
    """Refuse what asyncio refuses, with its words, and take it away."""
    if options.pop("universal_newlines", False):
        raise ValueError("universal_newlines must be False")
    if bool(options.pop("shell", shell)) != shell:
        raise ValueError(f"shell must be {shell}")
    if options.pop("bufsize", 0) != 0:
        raise ValueError("bufsize must be 0")
    if options.pop("text", None):
        raise ValueError("text must be False")
    for name in ("encoding", "errors"):
        if options.pop(name, None) is not None:
            raise ValueError(f"{name} must be None")


async def _connect(
    loop: asyncio.AbstractEventLoop,
    protocol: Any,
    args: Any,
    shell: bool,
    streams: tuple[Any, Any, Any],
    options: dict[str, Any],
) -> tuple[Transport, Any]:
    hub = current_hub()
    popen = await _start(hub, args, shell, streams, options)
    try:
        transport = Transport(loop, hub, protocol, popen)
    except BaseException:
        assert popen._process is not None
        popen._process.abandon()
        raise
    try:
        await transport._connect_pipes()
    except BaseException:
        try:
            transport.close()
        except PermissionError:
            # It may not be killed (a set-user-ID program, kill(2)), and nobody waits for it.
            pass
        else:
            await transport._gone()
        raise
    return transport, protocol


async def _start(hub: Hub, args: Any, shell: bool, streams: tuple[Any, Any, Any], options: dict[str, Any]) -> Popen:
    """Make the child, and a Popen for those who ask for get_extra_info("subprocess")."""
    stdin, stdout, stderr = streams
    plain = _PLAIN.issuperset(options)
    if not plain or not options.get("close_fds", True):
        # In Python's own way, with the loop standing still: preexec_fn, user, group, extra_groups. And the wrong ones.
        return Popen(args, 0, stdin=stdin, stdout=stdout, stderr=stderr, shell=shell, **options)
    numbers = _order.stream(0, stdin), _order.stream(1, stdout), _order.stream(2, stderr)
    child = Child()
    try:
        with Opened() as opened:
            order = _order.make_order(
                args, options.get("executable"), shell, options.get("env"), options.get("cwd"), opened
            )
            order.stdio = numbers
            order.fds = _order.passed(options.get("pass_fds", ()))
            order.settled = _order.attributes(
                True,
                bool(options.get("restore_signals", True)),
                bool(options.get("start_new_session", False)),
                options.get("process_group"),
                options.get("umask", -1),
                options.get("pipesize", -1),
            )
            try:
                await spawn_planned(hub, child, order)
            except errors.SpawnError as error:
                raise order.failed(error) from error
        # The warning about a child that was dropped is the transport's to give.
        child.detach()
        popen = Popen.__new__(Popen)
        popen.args = args
        popen.stdin = popen.stdout = popen.stderr = popen.returncode = None
        popen.pid = child.pid
        popen.pipesize = options.get("pipesize", -1)
        popen.text_mode = popen.encoding = popen.errors = None
        popen._process = child
        return popen
    except BaseException:
        # Of a signal handler: nobody has the child yet.
        if child.pid > 0 and not hub.reactor.inert:
            child.abandon()
        raise


_PLAIN = frozenset(
    (
        *("executable", "env", "cwd", "close_fds", "pass_fds", "restore_signals", "start_new_session"),
        *("process_group", "umask", "pipesize"),
    )
)


class Transport(asyncio.SubprocessTransport):
    """A child, its pipes as the loop's transports, and a protocol that is told of all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hub: Hub, protocol: Any, popen: Popen) -> None:
        # Nothing is left to do for one whose making is interrupted: the child is its maker's.
        self._drop = int  # type: ignore[method-assign, assignment]
        super().__init__()
        self._extra: dict[str, Any] = {"subprocess": popen}
        self._loop = loop
        self._hub = hub
        self._protocol = protocol
        self._proc = popen
        assert popen._process is not None
        self._child = popen._process
        self._pid = popen.pid
        self._returncode: int | None = None
        self._closed = False
        self._finished = False
        self._pipes: dict[int, _Pipe] = {}
        self._waiters: list[asyncio.Future[int]] = []
        # What happens before the protocol has its transport.
        self._pending: deque[tuple[Callable[..., object], tuple[Any, ...]]] | None = deque()
        self._context = copy_context()
        self._watch = ExitWatch(self._child, hub.reactor, lambda _: self._on_ended())
        self._watch.begin()
        del self._drop

    def __repr__(self) -> str:
        state = "running" if self._returncode is None else f"returncode={self._returncode}"
        closed = " closed" if self._closed else ""
        return f"<{type(self).__module__}.{type(self).__name__}{closed} pid={self._pid} {state}>"

    # -- asyncio.SubprocessTransport

    def get_pid(self) -> int:
        """Return the child's number."""
        return self._pid

    def get_returncode(self) -> int | None:
        """Return the exit code; None while the child runs."""
        return self._returncode

    def get_pipe_transport(self, fd: int) -> Any:
        """Return the transport of stdin (0), stdout (1) or stderr (2); None where it is no pipe."""
        pipe = self._pipes.get(fd)
        return None if pipe is None else pipe.transport

    def send_signal(self, signal: int) -> None:
        """Send a signal to the child.

        Raises:
            ProcessLookupError: it has ended, and all is closed.
        """
        self._check_running()
        self._proc.send_signal(signal)

    def terminate(self) -> None:
        """Send SIGTERM, as send_signal()."""
        self._check_running()
        self._proc.terminate()

    def kill(self) -> None:
        """Send SIGKILL, as send_signal()."""
        self._check_running()
        self._proc.kill()

    def close(self) -> None:
        """Close the pipes, and kill the child when it still runs."""
        if self._closed:
            return
        self._closed = True
        if not self._loop.is_closed():
            for pipe in self._pipes.values():
                if pipe.transport is not None:
                    pipe.transport.close()
        self._child.ends.close()
        if self._returncode is None and not self._child._is_foreign():
            try:
                if self._proc.poll() is None:
                    self._proc.kill()
            except errors.ExitStatusUnknown:
                # It has ended; nobody asked how. In a cycle of garbage the orphans may have had it before.
                pass
        self._forget()

    def is_closing(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def set_protocol(self, protocol: Any) -> None:
        """Tell another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> Any:
        """Return the protocol."""
        return self._protocol

    __del__ = Finalizer(attrgetter("_drop"))

    def _drop(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not self._closed and not self._child._is_foreign():
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.close()
        self._watch.close()

    def _check_running(self) -> None:
        if self._finished:
            raise ProcessLookupError

    # -- for asyncio.subprocess.Process

    async def _wait(self) -> int:
        """Wait for the end of the child; not for pipes that others may hold."""
        if self._returncode is not None:
            return self._returncode
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        code: int = await waiter
        return code

    async def _gone(self) -> None:
        """Wait for the end of a child that was killed, whatever cancels the task; one that is held is left."""
        ended = self._hub.event()
        if self._returncode is None and not self._hub.reactor.inert:
            waiter = self._loop.create_future()
            waiter.add_done_callback(lambda _: ended.set())
            self._waiters.append(waiter)
            await outlast_death(self._hub, self._child, ended)

    # -- from the child to the protocol

    def _file(self, fd: int) -> Any:
        """Return our end of a pipe as a file for the loop to close; None where there is no pipe."""
        uvloop = sys.modules.get("uvloop")
        lent = uvloop is not None and isinstance(self._loop, uvloop.Loop)
        # That of a child which was made in Python's own way.
        file = self._proc.__dict__.get(("stdin", "stdout", "stderr")[fd])
        if file is not None:
            if not lent:
                return file
            end = OwnedFd()
            end.fill(os.dup, file.fileno())
            file.close()
            return LentFd(end)
        end = self._child.ends[fd]
        if end.closed:
            return None
        return LentFd(end) if lent else self._child.ends.file(fd, 0)

    async def _connect_pipes(self) -> None:
        for fd in range(3):
            file = self._file(fd)
            if file is None:
                continue
            pipe = self._pipes[fd] = _Pipe(self, fd)
            try:
                if fd == 0:
                    await self._loop.connect_write_pipe(lambda pipe=pipe: pipe, file)  # type: ignore[misc]
                else:
                    await self._loop.connect_read_pipe(lambda pipe=pipe: pipe, file)  # type: ignore[misc]
            except BaseException:
                if pipe.transport is None:
                    file.close()
                raise
        self._loop.call_soon(self._protocol.connection_made, self)
        pending, self._pending = self._pending, None
        for callback, data in pending or ():
            self._loop.call_soon(callback, *data)
        # Until the protocol has been told.
        await asyncio.sleep(0)

    def _call(self, callback: Callable[..., object], *data: Any) -> None:
        if self._pending is not None:
            self._pending.append((callback, data))
        elif not self._loop.is_closed():
            self._loop.call_soon(callback, *data, context=self._context)

    def _on_ended(self) -> None:
        code = self._child.returncode
        lost = None
        if code is None:
            lost = f"the exit status of {self!r} was taken by somebody else"
            code = _UNKNOWN
        self._returncode = code
        if self._proc.returncode is None:
            self._proc.returncode = code
        self._proc._drop = int  # type: ignore[method-assign, assignment]
        self._forget()
        self._call(self._protocol.process_exited)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(code)
        self._try_finish()
        if lost is not None:
            # Last: as an error (-W error) it ends this here.
            warnings.warn(lost, RuntimeWarning, stacklevel=2)

    def _forget(self) -> None:
        """Once all is closed and the child has ended: nothing is left to do when this is dropped."""
        if self._closed and self._returncode is not None:
            self._drop = int  # type: ignore[method-assign, assignment]

    def _try_finish(self) -> None:
        if self._returncode is None or self._finished or not all(pipe.ended for pipe in self._pipes.values()):
            return
        self._finished = True
        self._call(self._protocol.connection_lost, None)


class _Pipe(asyncio.Protocol):
    """The protocol of one pipe: tells the child's transport."""

    def __init__(self, child: Transport, fd: int) -> None:
        self._child = child
        self._fd = fd
        self.transport: Any = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._child._call(self._child._protocol.pipe_data_received, self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self._child._call(self._child._protocol.pipe_connection_lost, self._fd, exc)
        self._child._try_finish()

    def pause_writing(self) -> None:
        self._child._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._child._protocol.resume_writing()
