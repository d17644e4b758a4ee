"""A whole run in one call of the C core, where nobody can see a Popen: for run(), check_output() and the like.

The same outcome as Popen and communicate(): the same output, status and exceptions.
"""

from __future__ import annotations

import os
import subprocess as standard
from sys import audit

from fastproc import _native
from fastproc._engine import orphans
from fastproc._engine.fds import OwnedFd
from fastproc._engine.reactor import instant
from fastproc._engine.resolve import Opened
from fastproc._values.plan import STDIO_INHERIT, STDIO_PIPE
from fastproc._values.status import PIPES_OPEN, TIMED_OUT
from fastproc.errors import ExitStatusUnknown
from fastproc.subprocess import _order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGINT_WAIT_NS = 250_000_000
"""What a child gets to end by itself after Ctrl-C, as in Popen."""

OPTIONS = frozenset(
    {
        "close_fds", "cwd", "encoding", "env", "errors", "executable", "pipesize", "process_group", "restore_signals",
        "shell", "start_new_session", "stderr", "stdin", "stdout", "text", "umask", "universal_newlines",
    }
)  # fmt: skip
"""The arguments of Popen that run() can take here; with any other one it makes a Popen."""

_PLAIN = _order.attributes(True, True, False, None, -1, -1)
_NEVER_NS = 1 << 62
_CAPTURED = {"stdout": _order.PIPE, "stderr": _order.PIPE}
_INHERIT_PIPE_PIPE = (STDIO_INHERIT, STDIO_PIPE, STDIO_PIPE)


def run(args: Any, input: Any, timeout: float | None, options: dict[str, Any]) -> tuple[int, Any, Any]:
    """Run a program to its end; return its status and what it wrote, text where that was asked for.

    Raises:
        OSError: it could not be started.
        TimeoutExpired: the child was killed; with what it had written.
    """
    if options == _CAPTURED and not input and timeout is None:
        # What most programs ask for, without asking for each of the others (2 % of a run of the smallest program).
        order = _order.make_order(args, None, False, None, None, None)
        order.stdio = _INHERIT_PIPE_PIPE
        order.fds = ()
        order.settled = _PLAIN
        return _run(order, b"", -1)[:3]
    take = options.get
    streams = (
        _order.stream(0, take("stdin")),
        _order.stream(1, take("stdout")),
        _order.stream(2, take("stderr")),
    )
    encoding: str | None = take("encoding")
    errors: str | None = take("errors")
    text = _order.is_text(take("text"), take("universal_newlines"), encoding, errors)
    if text:
        if encoding is None:
            encoding = _order.text_encoding()
        _order.check_text(encoding, errors)
    data = b""
    if input:
        if text:
            input = input.encode(encoding, errors or "strict")
        data = input if type(input) is bytes else bytes(memoryview(input))
    timeout_ns = -1
    if timeout is not None:
        instant("timeout", timeout)
        timeout_ns = max(0, int(min(timeout * 1e9, _NEVER_NS)))
    opened = None if take("cwd") is None else Opened()
    try:
        order = _order.make_order(args, take("executable"), take("shell", False), take("env"), take("cwd"), opened)
        order.stdio = streams
        order.fds = ()
        if _ATTRIBUTES.isdisjoint(options):
            order.settled = _PLAIN
        else:
            pipesize = take("pipesize", -1)
            order.settled = _order.attributes(
                bool(take("close_fds", True)),
                bool(take("restore_signals", True)),
                bool(take("start_new_session", False)),
                take("process_group"),
                take("umask", -1),
                -1 if pipesize is None else pipesize,
            )
        code, out, err, late = _run(order, data, timeout_ns)
    finally:
        if opened is not None:
            opened.close()
    if late:
        assert timeout is not None
        raise standard.TimeoutExpired(args, timeout, output=out or None, stderr=err or None)
    if encoding is not None:
        return (
            code,
            None if out is None else _order.translated(out, encoding, errors),
            None if err is None else _order.translated(err, encoding, errors),
        )
    return code, out, err


_ATTRIBUTES = frozenset({"close_fds", "restore_signals", "start_new_session", "process_group", "umask", "pipesize"})


def _run(order: _order.Order, data: bytes, timeout_ns: int) -> tuple[int, bytes | None, bytes | None, bool]:
    """Return the status, the two outputs, and whether the time was over before it all ended."""
    if orphans.pending:
        orphans.reap()
    stdio = order.stdio
    request = None
    if not data and timeout_ns < 0 and order.cwd < 0:
        request = order.settled.requests.get(stdio)
    if request is None:
        request = _make_request(order, data, timeout_ns)
    audit("subprocess.Popen", *order.audited)
    try:
        job = _native.jobs.pop()
    except IndexError:
        job = _native.new_job()
    try:
        r = _native.fp_run(
            request,
            order.paths,
            order.npaths,
            order.argv,
            order.argc,
            order.env,
            order.envc,
            _native.SLICE_NS,
            job[0],
        )
        if r > 0:
            r = _native.resume(job)
    except KeyboardInterrupt:
        _native.abort(job, SIGINT_WAIT_NS)
        raise
    except BaseException:
        _native.abort(job, 0)
        raise
    if r < 0:
        error = _native.spawn_error(order, -r, _native.job_child(job))
        raise order.failed(error) from error
    return _outcome(order, job)


def _make_request(order: _order.Order, data: bytes, timeout_ns: int) -> Any:
    settled = order.settled
    native, _ = _native.prepare(settled, ())
    request = _native.make_request(native, order.stdio, data, (timeout_ns, 0, -1), order.cwd)
    # Descriptors come and go; without one there are few.
    if not data and timeout_ns < 0 and order.cwd < 0 and max(order.stdio) < 0:
        settled.requests[order.stdio] = request
    return request


def _outcome(order: _order.Order, job: Any) -> tuple[int, bytes | None, bytes | None, bool]:
    state, code, flags, _, broken, pid, _, _, out_size, err_size, _ = _native.unpack(job[1], _native.SUM_COUNT)
    _, out_stream, err_stream = order.stdio
    out = err = None
    if out_stream == STDIO_PIPE:
        out = _native.output(job, 0, out_size) if out_size else b""
    if err_stream == STDIO_PIPE:
        err = _native.output(job, 1, err_size) if err_size else b""
    if broken and state == _native.WAIT_RUNNING:
        # A set-user-ID program is out of our reach (kill(2)); it is reaped by a later spawn, when it ends.
        orphans.adopt((pid, OwnedFd(_native.job_child(job).pidfd), os.getpid()))
        raise OSError(broken, os.strerror(broken))
    _native.give_job(job)
    if broken:
        raise OSError(broken, os.strerror(broken))
    if state == _native.WAIT_UNKNOWN:
        import warnings

        unknown = ExitStatusUnknown(pid, order.words)
        warnings.warn(f"{unknown}; taken to be 0, as the standard module does", RuntimeWarning, stacklevel=5)
        code = 0
    return code, out, err, bool(flags & (TIMED_OUT | PIPES_OPEN))
