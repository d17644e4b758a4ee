"""The I/O half of lowering: the parent's environment, and the files and directories that a command names.

All is opened here, in the parent, where Ctrl-C and deadlines work; the child only moves descriptors (GOTCHAS A15).
Not here: checks that need no I/O (the options), PATH search (the plan).
Invariant: what this module opened is closed when its `Opened` is, and is never one of the numbers 0 to 2.
"""

from __future__ import annotations

import os
from errno import EAGAIN, ENXIO, ETIMEDOUT
from os import environ
from time import monotonic, sleep

from fastproc import errors
from fastproc._engine.fds import STREAMS, Opened, OwnedFd
from fastproc._values.environment import Environment
from fastproc._values.plan import lower, settle
from fastproc._values.redirect import MEMFD, Append, stdio_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from fastproc._engine.streams.terminal import Terminal
    from fastproc._values.aliases import HasFileno
    from fastproc._values.plan import Lowerable, Plan, ResolvedOptions
    from fastproc._values.redirect import Stream

# A terminal must not become ours by being opened (GOTCHAS H6). O_NONBLOCK: a FIFO or a line without carrier must not
# hold us; it is cleared again on our own open file description, which nobody else has yet (GOTCHAS C10).
_COMMON = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
READ_FLAGS = os.O_RDONLY | _COMMON
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _COMMON
APPEND_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _COMMON
# O_PATH (Linux) needs no permission to list the directory, only to enter it, as chdir(2).
DIRECTORY_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

FIFO_PAUSE_FIRST = 0.001
FIFO_PAUSE_MAX = 0.05
"""Seconds between two tries to open a FIFO that has no reader: nothing tells when one comes (fifo(7))."""

S_IFMT = 0o170000
S_IFIFO = 0o010000


# -- the environment

_parent: tuple[dict[bytes, bytes], Environment] | None = None


def environment() -> Environment:
    """The parent's environment as it is now: the same object as long as nothing has changed.

    Reads os.environ, never the C library's environ, which another thread may be changing (GOTCHAS F4).
    """
    global _parent
    # CPython keeps the encoded variables in a private dict. To compare it costs 1 us for 40 variables, a copy in the
    # public form (os.environb) 30 us.
    known = _parent
    try:
        current: dict[bytes, bytes] = environ._data  # type: ignore[attr-defined]
    except AttributeError:
        current = dict(os.environb)
    if known is None or known[0] != current:
        copy = dict(current)
        known = _parent = (copy, Environment(copy))
    return known[1]


# -- a command


def resolve(command: Lowerable, opened: Opened, deadline: float | None = None) -> Plan:
    """Open what a command names and lower it.

    Args:
        command: what to run.
        opened: takes what is opened here; the caller closes it, also after an error, once the child is there.
        deadline: monotonic instant at which the wait for the other side of a FIFO ends; None waits for ever.

    Raises:
        SpawnError: a file or directory cannot be opened: the stage is "redirect", "cwd" or "cgroup", the name is in
            filename.
        TimeoutExpired: nobody opened the other side of a FIFO before the deadline.
        ValueError: a given file object is closed or has no descriptor; the message starts with the option.
    """
    settled: ResolvedOptions | None = command._options.settled
    if settled is None:
        settled = settle(command)
    if not settled.needs_io:
        return lower(command, environment())
    cwd = cgroup = -1
    fds = settled.fds
    if fds is None:
        fds = tuple((number, _fileno(f"fds: {number}", source)) for number, source in settled.fd_sources)
    # Directories first: a wait for a FIFO should not precede an error that is there already.
    root, identity = _identity(command, opened)
    if isinstance(settled.cwd, str):
        cwd = _open_directory(command, opened, "cwd", settled.cwd, root)
    if isinstance(settled.cgroup, str):
        cgroup = _open_directory(command, opened, "cgroup", settled.cgroup)
    stdio = settled.stdio
    terminal = None if settled.pty is None else _open_terminal(command, opened)
    if stdio is None:
        first, out, err = (
            terminal.slave.number if terminal is not None and settled.on_terminal[index] else stream
            for index, stream in enumerate(settled.streams)
        )
        stdio = (
            open_stream(command, opened, 0, first, deadline),
            open_stream(command, opened, 1, out, deadline),
            open_stream(command, opened, 2, err, deadline),
        )
    base = os.getcwdb() if settled.relative_to_parent else b""
    plan = lower(command, environment(), stdio, fds, cwd, cgroup, base)
    plan.terminal = terminal
    plan.identity = identity
    return plan


def _identity(command: Lowerable, opened: Opened) -> tuple[int, Any]:
    """Return the descriptor of a new root, or -1, and the struct fp_identity, or None."""
    values = settle(command).identity
    if values is None:
        return -1, None
    from fastproc._engine.identity import resolve_identity

    root = values.get("root", -1)
    if isinstance(root, str):
        root = _open_directory(command, opened, "chroot", root)
    try:
        return root, resolve_identity(values, opened, root)
    except OSError as error:
        if isinstance(error, errors.SpawnError):
            raise
        raise _failed(command, error, "landlock", error.filename or command.argv[0]) from error


def _fileno(option: str, source: object) -> int:
    if isinstance(source, int):
        return source
    file: HasFileno = source  # type: ignore[assignment]
    if getattr(file, "closed", False) is True:
        raise ValueError(f"{option}: the file {file!r} is closed")
    try:
        fd = file.fileno()
    except (OSError, ValueError) as error:
        raise ValueError(f"{option}: {file!r} has no descriptor: {error}") from error
    if isinstance(fd, bool) or not isinstance(fd, int) or fd < 0:
        raise ValueError(f"{option}: {file!r} gave {fd!r} as its descriptor")
    return fd


def _open_directory(command: Lowerable, opened: Opened, stage: str, path: str, root: int = -1) -> int:
    try:
        if root < 0:
            return opened.open(path, DIRECTORY_FLAGS, 0)
        from fastproc._native.identity import fp_open_in_root

        owned = OwnedFd()
        opened.own(owned)
        owned.fill(fp_open_in_root, root, os.fsencode(path), DIRECTORY_FLAGS)
        return owned.lift()
    except OSError as error:
        raise _failed(command, error, stage, path) from error


def _open_terminal(command: Lowerable, opened: Opened) -> Terminal:
    from fastproc._engine.streams.terminal import PTMX, Terminal

    settled = settle(command)
    assert settled.pty is not None
    try:
        terminal = Terminal(settled.pty, settled.on_terminal[0])
    except OSError as error:
        raise _failed(command, error, "redirect", PTMX) from error
    opened.own(terminal.slave)
    return terminal


def open_stream(command: Lowerable, opened: Opened, index: int, stream: Stream, deadline: float | None) -> int:
    """Return what a standard stream is as FP_STDIO_* or a descriptor, which is opened here where it is a file.

    Args:
        command: who gets it, for messages and the timeout.
        opened: takes what is opened.
        index: 0 to 2.
        stream: a normalised stream.
        deadline: as resolve() has it.

    Raises:
        SpawnError, TimeoutExpired, ValueError: as resolve().
    """
    number = stdio_number(stream)
    if number is not None:
        return number
    name = STREAMS[index]
    if stream is MEMFD:
        try:
            return opened.make_memory(index)
        except OSError as error:
            raise _failed(command, error, "redirect", "memfd") from error
    if isinstance(stream, Append):
        path, flags = stream.path, APPEND_FLAGS
    elif isinstance(stream, str):
        path, flags = stream, READ_FLAGS if index == 0 else WRITE_FLAGS
    else:
        return _fileno(name, stream)
    try:
        fd = _open_waiting(opened, path, flags, deadline)
        if index == 0:
            _await_writer(fd, path, deadline)
        os.set_blocking(fd, True)
    except OSError as error:
        failed = _failed(command, error, "redirect", path)
        if error.errno == ETIMEDOUT and deadline is not None and monotonic() >= deadline:
            raise errors.timeout_expired(command.argv, settle(command).timeout_ns / 1e9) from failed
        raise failed from error
    return fd


def _open_waiting(opened: Opened, path: str, flags: int, deadline: float | None) -> int:
    """Open a file; a FIFO without a reader is tried again until one comes."""
    pause = FIFO_PAUSE_FIRST
    while True:
        try:
            return opened.open(path, flags)
        except OSError as error:
            # fifo(7): O_WRONLY|O_NONBLOCK gives ENXIO without a reader; so does a device without a driver, for good.
            # open(2): EAGAIN means that somebody holds a lease, which the kernel has now asked back (fcntl(2)).
            if error.errno != EAGAIN and (error.errno != ENXIO or not is_fifo(os.stat(path))):
                raise
        left = _left(path, deadline, "reader")
        sleep(pause if left is None else min(pause, left))
        pause = min(pause * 2.0, FIFO_PAUSE_MAX)


def _await_writer(fd: int, path: str, deadline: float | None) -> None:
    """Wait until a FIFO has data, or had a writer. Any other file is ready at once.

    A child that gets a FIFO to read before there is a writer would see the end of file (fifo(7)). Linux tells of a
    writer by its first byte or by its leaving.
    """
    if not is_fifo(os.fstat(fd)):
        return
    import select

    poller = select.poll()
    poller.register(fd, select.POLLIN)
    ready: list[tuple[int, int]] = []
    while not ready:
        left = _left(path, deadline, "writer")
        ready = poller.poll(None if left is None else min(left, 86_400.0) * 1000.0)


def _left(path: str, deadline: float | None, who: str) -> float | None:
    if deadline is None:
        return None
    left = deadline - monotonic()
    if left <= 0.0:
        raise OSError(ETIMEDOUT, f"no {who} has opened the FIFO before the deadline", path)
    return left


def is_fifo(status: os.stat_result) -> bool:
    """Whether it is a FIFO."""
    return status.st_mode & S_IFMT == S_IFIFO


def _failed(command: Lowerable, error: OSError, stage: str, path: str) -> errors.SpawnError:
    extra = error.strerror or "" if error.errno == ETIMEDOUT else ""
    return errors.spawn_error(error.errno or 0, stage, argv=command.argv, filename=path, extra=extra)
