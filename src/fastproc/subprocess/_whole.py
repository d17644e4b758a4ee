"""A whole run in one call of the C core, where nobody can see a Popen: for run(), check_output() and the like.

The same outcome as Popen and communicate(): the same output, status and exceptions.
"""

from __future__ import annotations

import os
import subprocess as standard
from sys import audit

from fastproc import _native
from fastproc._engine import orphans
from fastproc._engine.fds import Opened
from fastproc._engine.reactor import deadline_from
from fastproc._engine.resolve import environment
from fastproc._native import JOBS_KEPT, SLICE_NS, SUM_COUNT, fp_run, jobs, new_job, unpack
from fastproc._values.command import ENCODING, ENCODING_ERRORS
from fastproc._values.plan import search
from fastproc._values.redirect import STDIO_INHERIT, STDIO_PIPE
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
_INHERITED = (STDIO_INHERIT, STDIO_INHERIT, STDIO_INHERIT)
_CAPTURED = (STDIO_INHERIT, STDIO_PIPE, STDIO_PIPE)
_PLAIN_REQUESTS = _PLAIN.requests


def run_plain(args: Any, captured: bool) -> standard.CompletedProcess[Any] | None:
    """Run a list of str without any option, or with both outputs captured. None: it is not that, nothing was done.

    Raises:
        OSError: it could not be started.
    """
    # One function on purpose, as fastproc.run() is: here Python's code is cold, and each call costs several times what
    # it does in a loop.
    job: Any = None  # it goes before what its child borrows, as in fastproc.run()
    native = None
    kind = type(args)
    if kind is not list and kind is not tuple:
        return None
    try:
        blob = ("\0".join(args) + "\0").encode(ENCODING, ENCODING_ERRORS)
    except TypeError:
        return None
    if blob.count(0) != len(args) or blob[0] == 0:
        return None
    env = environment()
    if orphans.pending:
        orphans.reap()
    if "/" in args[0]:
        paths = blob
        npaths = 1
    else:
        paths, npaths, _ = search(blob[: blob.index(0) + 1], env, env)
    stdio = _CAPTURED if captured else _INHERITED
    request = _PLAIN_REQUESTS.get(stdio) or _make_request(_PLAIN, stdio, b"", -1, -1)
    audit("subprocess.Popen", args[0], list(args), None, None)
    try:
        job = jobs.pop()
    except IndexError:
        job = new_job()
    native, summary, _, out_buffer, err_buffer, _ = job
    try:
        r = fp_run(request, paths, npaths, blob, len(args), env.blob, env.count, SLICE_NS, native)
        if r > 0:
            r = _native.resume(job, orphans.attend)
    except BaseException as error:
        _abort(job, error)
        raise
    if r < 0:
        raise _failure(_plain_order(args, stdio), -r, job)
    state, code, flags, _, broken, _, _, _, out_size, err_size, on_heap = unpack(summary, SUM_COUNT)
    empty = b"" if captured else None
    done: standard.CompletedProcess[Any] = standard.CompletedProcess(args, code, empty, empty)
    if flags or broken or on_heap or state != 1:
        done.returncode, done.stdout, done.stderr, _ = _outcome(_plain_order(args, stdio), job)
        return done
    if out_size:
        done.stdout = out_buffer[:out_size]
    if err_size:
        done.stderr = err_buffer[:err_size]
    summary[5] = 0  # as in give_job()
    if len(jobs) < JOBS_KEPT:
        jobs.append(job)
    return done


def _plain_order(args: Any, stdio: tuple[int, int, int]) -> _order.Order:
    order = _order.make_order(args, None, False, None, None, None)
    order.stdio = stdio
    order.fds = ()
    order.settled = _PLAIN
    return order


def run(args: Any, input: Any, timeout: float | None, options: dict[str, Any]) -> tuple[int, Any, Any]:
    """Run a program to its end; return its status and what it wrote, text where that was asked for.

    Raises:
        OSError: it could not be started.
        TimeoutExpired: the child was killed; with what it had written.
    """
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
        deadline_from("timeout", timeout)
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
        request = _make_request(order.settled, stdio, data, timeout_ns, order.cwd)
    audit("subprocess.Popen", *order.audited)
    try:
        job = jobs.pop()
    except IndexError:
        job = new_job()
    try:
        r = fp_run(request, order.paths, order.npaths, order.argv, order.argc, order.env, order.envc, SLICE_NS, job[0])
        if r > 0:
            r = _native.resume(job, orphans.attend)
    except BaseException as error:
        _abort(job, error)
        raise
    if r < 0:
        raise _failure(order, -r, job)
    return _outcome(order, job)


def _make_request(
    settled: _order.Attributes, stdio: tuple[int, int, int], data: bytes, timeout_ns: int, cwd: int
) -> Any:
    native, _ = _native.prepare(settled, ())
    request = _native.make_request(native, stdio, data, (timeout_ns, 0, -1), cwd)
    # Descriptors come and go; without one there are few.
    if not data and timeout_ns < 0 and cwd < 0 and max(stdio) < 0:
        settled.requests[stdio] = request
    return request


def _failure(order: _order.Order, number: int, job: Any) -> Exception:
    error = _native.spawn_error(order, number, _native.job_child(job))
    failed = order.failed(error)
    if failed is not error:
        failed.__cause__ = error
    return failed


def _abort(job: Any, error: BaseException) -> None:
    """End an interrupted run."""
    summary = _native.abort(job, SIGINT_WAIT_NS if isinstance(error, KeyboardInterrupt) else 0)
    if summary[5] > 0 and summary[0] == _native.WAIT_RUNNING:
        orphans.adopt_job(job)


def _outcome(order: _order.Order, job: Any) -> tuple[int, bytes | None, bytes | None, bool]:
    state, code, flags, _, broken, pid, _, _, out_size, err_size, _ = unpack(job[1], SUM_COUNT)
    _, out_stream, err_stream = order.stdio
    out = err = None
    if out_stream == STDIO_PIPE:
        out = _native.output(job, 0, out_size) if out_size else b""
    if err_stream == STDIO_PIPE:
        err = _native.output(job, 1, err_size) if err_size else b""
    if state == _native.WAIT_RUNNING:
        # It may not be killed, or does not die of it: then only a deadline leads here.
        orphans.adopt_job(job)
    else:
        _native.give_job(job)
    if broken:
        raise OSError(broken, os.strerror(broken))
    if state == _native.WAIT_UNKNOWN:
        code = _order.unknown(ExitStatusUnknown(pid, order.words, out, err))
    return code, out, err, bool(flags & (TIMED_OUT | PIPES_OPEN))
