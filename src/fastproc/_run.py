"""The blocking front door: run a command to its end, or start it and keep its Process.

Plain runs go through the C core's bulk path, one call for the whole life of the child; what needs Python on the way,
such as input from an iterator, goes through the engine's Exchange. Both give the same Result.
"""

from __future__ import annotations

import os
import sys
from sys import audit
from time import monotonic

from fastproc import _native, errors
from fastproc._engine import orphans
from fastproc._engine.fds import Opened
from fastproc._engine.resolve import environment, resolve
from fastproc._native import (
    JOBS_KEPT,
    MECHANISMS,
    NONE_REFUSED,
    SLICE_NS,
    SUM_COUNT,
    fp_run,
    jobs,
    new_job,
    unpack,
)
from fastproc._values import command as command_module
from fastproc._values import status
from fastproc._values.command import ENCODING, Command, Expression, build, cmd
from fastproc._values.loading import loaded
from fastproc._values.options import CAPTURE, NONE, normalise
from fastproc._values.plan import STRING_MAX, lower, search, settle, settle_options
from fastproc._values.redirect import PIPE
from fastproc._values.status import CORE_DUMPED, PIPES_OPEN, TIMED_OUT, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Unpack

    from fastproc._engine.process import Process
    from fastproc._native import Job, Request
    from fastproc._values.aliases import Text
    from fastproc._values.command import Cut, Door, OptionsDict
    from fastproc._values.plan import Plan, ResolvedOptions

_FORCED_ENGINE = os.environ.get("FASTPROC_ENGINE", "")


def run(
    program: Expression | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
) -> Result:
    r"""Run a command, wait for its end, and return how it ended and what it wrote.

    The program and its arguments are given one by one, as one list, or as a Command, whose options are then changed by
    those given here. The streams are inherited unless captured (`capture=True`) or redirected. The options are those
    of `cmd()`; these are about the run:

    Args:
        program: the program, a list with its arguments, a Command, or another expression; see `Expression.run()`.
        args: its arguments: str, bytes or path-like.
        options: capture: keep stdout and stderr. input: bytes for stdin, or an iterable of them. timeout: seconds until
            SIGTERM is sent, and after `grace` seconds more (0.1) SIGKILL. check: whether a status that is not among
            ok_codes (0) is an error. drain_timeout: seconds to wait, after the end of the program, for other processes
            that still hold its pipes (1.0; None: for ever). idle_timeout: seconds without output after which it is
            stopped. kill_tree: whether all its descendants end with it. stdout_limit, stderr_limit: a CaptureLimit.
            on_line: called with the stream's name and each line, as bytes; an OnLine says how lines are cut, a Logger
            logs them. tee: whether captured output goes on to our own streams too; a terminal or pipe that does not
            take it holds the child, but no deadline.

    Returns:
        The Result, with what was captured as bytes.

    Raises:
        SpawnError: the program could not be started: an OSError with errno, and the stage of the set-up that failed.
        ExitError: it ended with a status that is not accepted; the Result is in it.
        TimeoutExpired: the deadline passed; what had been read is in it, and the child is gone.
        ExitStatusUnknown: somebody else took the status, and this kernel does not tell it again.
        KeyboardInterrupt: or what another signal handler raised. The child got 0.04 s to end by itself and was then
            killed; the Result up to then is in the exception's attribute `result`.
        TypeError, ValueError: an argument or option is not possible; its name comes first. No child was made.

    >>> import fastproc
    >>> fastproc.run("echo", "hello", capture=True).stdout
    b'hello\n'
    """
    # The hot path, for what needs no Plan, is one function on purpose: Python's share of a run is cold code, as the
    # caches have just served another process, and each further function and object costs several times what it does in
    # a loop (it was half as much again of what fp_run() adds to a bare vfork loop).
    # Locals are dropped in this order: after a second interrupt the job, which ends the child, goes before
    # what that child still borrows.
    job: Job = None  # type: ignore[assignment]
    native = None
    argv: tuple[str, ...]
    command: Command | None
    settled: ResolvedOptions
    if type(program) is Command:
        if args:
            raise TypeError("program: a Command already has its arguments; use command.args(...)")
        command = program.options(**options) if options else program
        argv = command._argv
        blob = command._blob
        settled = command._options.settled or settle(command)
    elif type(program) is not str and isinstance(program, Expression) and not args:
        return run_expression(program, options)
    else:
        command = None
        chosen = NONE if not options else CAPTURE if options == _ONLY_CAPTURE else normalise(options)
        argv = (program, *args)  # type: ignore[arg-type]
        try:
            blob = ("\0".join(argv) + "\0").encode()
            plainly = _UTF8 and blob.count(0) == len(argv)
        except (TypeError, UnicodeEncodeError):
            plainly = False
        if not plainly or blob[0] == 0:
            # Not all str, or not of this encoding, or not possible, which it will say.
            command = build(argv, chosen) if args or not isinstance(program, (list, tuple)) else cmd(program, **options)
            argv = command._argv
            blob = command._blob
            chosen = command._options
        settled = chosen.settled or settle_options(chosen)
    env = environment()
    env_blob = env.blob
    if not settled.direct or _FORCED_ENGINE or len(blob) > STRING_MAX or len(env_blob) > STRING_MAX:
        return _run_general(command or build(argv, chosen), settled)
    if orphans.pending:
        orphans.reap()
    if "/" in argv[0]:
        paths = blob
        npaths = 1
    else:
        paths, npaths, _ = search(blob[: blob.index(0) + 1], env, env)
    request = settled.request or _request(settled)
    audit("subprocess.Popen", argv[0], argv, None, None)
    try:
        job = jobs.pop()
    except IndexError:
        job = new_job()
    native, summary, usage, out_buffer, err_buffer, _ = job
    try:
        r = fp_run(request, paths, npaths, blob, len(argv), env_blob, env.count, SLICE_NS, native)
        result = _new(Result)
        result.argv = argv
        streams = settled.streams
        result.stdout = b"" if streams[1] is PIPE else None
        result.stderr = b"" if streams[2] is PIPE else None
        result.mechanism_refused = NONE_REFUSED
        result._flags = 0
        result._ok_codes = settled.ok_codes
        if r > 0:
            r = _native.resume(job, orphans.attend)
    except BaseException as error:
        _keep_output(error, argv, settled, job)
        raise
    if r < 0:
        raise _native.spawn_error(lower(command or build(argv, chosen), env), -r, _native.job_child(job))
    state, returncode, flags, _, broken, pid, mechanism, duration_ns, out_size, err_size, on_heap = unpack(
        summary, SUM_COUNT
    )
    if mechanism == 1:
        result.mechanism = "clone3_vm"
    elif mechanism == _LAUNCHER:
        result.mechanism = "launcher"
    else:
        flags = True
    if returncode or flags or broken or on_heap or state != 1 or settled.ok_codes is not _OK:
        return _finish(argv, settled, job)
    result.returncode = 0
    result.pid = pid
    result._duration_ns = duration_ns
    result._usage = usage[:]
    if out_size:
        result.stdout = out_buffer[:out_size]
    if err_size:
        result.stderr = err_buffer[:err_size]
    summary[5] = 0  # as in give_job()
    if len(jobs) < JOBS_KEPT:
        jobs.append(job)
    return result


run.__module__ = "fastproc"


_OK = settle_options(NONE).ok_codes
_LAUNCHER = next(number for number, name in MECHANISMS.items() if name == "launcher")
_UTF8 = ENCODING == "utf-8"
_ONLY_CAPTURE = {"capture": True}
_new = object.__new__


def _request(settled: ResolvedOptions) -> Request:
    """Return the request of a direct run; it is kept, unless what it says can be something else the next time."""
    if settled.identity is None:
        request = settled.request = _make_request(settled, None)
        return request
    from fastproc._engine.identity import request_of

    return request_of(settled, lambda identity: _make_request(settled, identity))


def _make_request(settled: ResolvedOptions, identity: Any) -> Request:
    attr, _ = _native.prepare(settled, (), stays=True)
    times_ns = settled.timeout_ns, settled.grace_ns, settled.drain_ns
    data: bytes = settled.input or b""  # type: ignore[assignment]
    return _native.make_request(attr, settled.stdio, data, times_ns, identity=identity)  # type: ignore[arg-type]


def _run_general(command: Command, settled: ResolvedOptions) -> Result:
    """Run what needs a Plan, and perhaps an Exchange."""
    if orphans.pending:
        orphans.reap()
    if settled.composed:
        return run_expression(command, {})
    if settled.exchanged or _FORCED_ENGINE == "exchange":
        return _run_exchange(command, settled)
    job: Job = None  # type: ignore[assignment]  # first, as in run()
    data: bytes = settled.input or b""  # type: ignore[assignment]
    argv = command._argv
    opened = Opened()
    terminal = None
    try:
        if settled.attr is not None and "foreground" in settled.attr:
            from fastproc._engine.foreground import Foreground

            terminal = Foreground(settled.attr)
        plan, timeout_ns = _resolve(command, settled, opened)
        attr, pairs = _native.prepare(settled, plan.fds, stays=True)
        audit("subprocess.Popen", *plan.audited)
        times_ns = timeout_ns, settled.grace_ns, settled.drain_ns
        request = _native.make_request(
            attr, plan.stdio, data, times_ns, plan.cwd, plan.cgroup, pairs, len(plan.fds), plan.identity
        )
        try:
            job = jobs.pop()
        except IndexError:
            job = new_job()
        try:
            r = fp_run(request, plan.paths, plan.npaths, plan.argv, plan.argc, plan.env, plan.envc, SLICE_NS, job[0])
            if r > 0:
                r = _native.resume(job, orphans.attend)
        except BaseException as error:
            _keep_output(error, argv, settled, job)
            raise
        if r < 0:
            raise _native.spawn_error(plan, -r, _native.job_child(job))
    finally:
        opened.close()
        if terminal is not None and job is not None:
            terminal.give_back(_native.job_child(job).pid)
    return _finish(argv, settled, job)


def _resolve(command: Command, settled: ResolvedOptions, opened: Opened) -> tuple[Plan, int]:
    """Open what the command names; the time that a FIFO takes counts for the deadline."""
    timeout_ns = settled.timeout_ns
    if timeout_ns < 0:
        return resolve(command, opened), timeout_ns
    deadline = monotonic() + timeout_ns / 1e9
    plan = resolve(command, opened, deadline)
    return plan, max(0, int((deadline - monotonic()) * 1e9))


def _keep_output(error: BaseException, argv: tuple[str, ...], settled: ResolvedOptions, job: Job) -> None:
    """End an interrupted run, and put what was read before into the exception, as `error.result`."""
    if settled.leads and isinstance(error, KeyboardInterrupt):
        _native.interrupt_group(job)
    summary = _native.abort(job)
    if summary[5] <= 0:
        return
    if summary[0] == _native.WAIT_RUNNING:
        orphans.adopt_job(job)
    elif summary[0] != _native.WAIT_UNKNOWN:
        error.result = _result(argv, settled, job, summary)  # type: ignore[attr-defined]


def _result(argv: tuple[str, ...], settled: ResolvedOptions, job: Job, summary: list[int]) -> Result:
    """Make the Result of a job that has ended."""
    state, returncode, flags, core_dumped, _, pid, mechanism, duration_ns, out_size, err_size, _ = summary
    _, out_stream, err_stream = settled.streams
    swapped = settled.swapped
    if swapped:
        out_size, err_size = err_size, out_size
    result = Result(
        argv,
        returncode,
        # What the parent's pipe of that name gave, or None without one.
        _native.output(job, swapped, out_size) if out_stream is PIPE else None,
        _native.output(job, not swapped, err_size) if err_stream is PIPE else None,
        pid,
        duration_ns,
        job[2][:] if state == _native.WAIT_EXITED else None,
        MECHANISMS[mechanism],
        flags | CORE_DUMPED if core_dumped else flags,
        settled.ok_codes,
        _native.refused_before(MECHANISMS[mechanism]),
    )
    if flags & PIPES_OPEN:
        from fastproc._engine.streams.sink import holders

        result._pipe_holders = holders(_native.held_pipes(job))
    return result


def _finish(
    argv: tuple[str, ...], settled: ResolvedOptions, job: Job, give: Callable[[Job], object] = _native.give_job
) -> Result:
    """Make the Result of a finished job, give the job back, and raise what is to be raised."""
    summary = unpack(job[1], SUM_COUNT)
    result = _result(argv, settled, job, summary)
    broken = summary[4]
    if summary[0] == _native.WAIT_RUNNING:
        orphans.adopt_job(job)
        pid = result.pid
        if broken:
            raise PermissionError(broken, f"{os.strerror(broken)}: cannot kill {argv[0]!r} (pid {pid}), it runs on")
        from fastproc._values.tree import held

        survivor = held(argv, pid, _native.is_traced(pid))
        raise errors.killed_in_vain(argv, settled.timeout_ns / 1e9, survivor, result.stdout, result.stderr)
    give(job)
    if broken:
        raise OSError(broken, f"{os.strerror(broken)}: while exchanging data with {argv[0]!r}")
    if summary[0] == _native.WAIT_UNKNOWN:
        raise errors.ExitStatusUnknown(result.pid, argv, result.stdout, result.stderr)
    if summary[2] & TIMED_OUT:
        raise errors.timeout_expired(argv, settled.timeout_ns / 1e9, result)
    if settled.check and result.returncode not in settled.ok_codes:
        raise errors.exit_error(result)
    return result


def _run_exchange(command: Command, settled: ResolvedOptions) -> Result:
    loaded("fastproc._engine.running")
    from fastproc._engine.running import run_exchange

    return run_exchange(command, settled)


def start(
    program: Expression | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
) -> Process:
    """Start a command and return its Process at once, when the program is running.

    Takes what `run()` takes, but `timeout`, `ok_codes` and `input`, for which there is nobody: use `wait(timeout=...)`,
    the status itself, which is never an error here (`check` is not looked at), and `write()`. `grace` is what `stop()`
    goes by, `idle_timeout` and `drain_timeout` what `lines()`, `chunks()`, `events()` and `result()` go by, unless they
    are told otherwise. A stream that is PIPE, or captured, is a file of the Process. With limits, `on_line` or `tee` it
    is none: everything that is read of it, by whichever method, is told, copied and counted, and `wait()` reads too.
    One that is MEMFD is a file in memory, which `result()` has at the end.

    Raises:
        SpawnError: the program could not be started.
        TypeError, ValueError: an argument or option is not possible; its name comes first. No child was made.
    """
    if isinstance(program, Expression) and type(program) is not Command and not args:
        return start_expression(program, options)  # type: ignore[no-any-return]
    command = as_command(program, args, options)
    settled = settle(command)
    if settled.composed:
        return start_expression(command, {})  # type: ignore[no-any-return]
    check_start(settled)
    started = new_handle(command, settled)
    try:
        with Opened() as opened:
            started.memory = opened.memory  # type: ignore[assignment]
            started.spawn(resolve(command, opened))
        return started
    except BaseException:
        # An interrupt of the last steps: nobody has the child yet.
        started.abandon()
        raise


start.__module__ = "fastproc"


def new_handle(command: Command, settled: ResolvedOptions) -> Process:
    """Return the handle of a child that is about to be started, with what its outputs need.

    Raises:
        SpawnError: a file for a copy of an output cannot be opened.
    """
    loaded("fastproc._engine.process")
    from fastproc._engine.process import Process

    handle = Process(command.argv)
    handle.settled = settled
    drain = None if settled.drain_ns < 0 else settled.drain_ns / 1e9
    handle.times = settled.grace_ns / 1e9, settled.idle_timeout, drain
    if settled.tee or settled.on_line is not None or settled.limits != (None, None):
        from fastproc._engine.streams.result_of_started import equip

        equip(handle, command, settled)
    return handle


def as_command(program: object, args: tuple[Text, ...], options: OptionsDict) -> Command:
    """Return the Command that the arguments of run() or start() mean."""
    if type(program) is not Command:
        return cmd(program, *args, **options)  # type: ignore[arg-type]
    if args:
        raise TypeError("program: a Command already has its arguments; use command.args(...)")
    return program.options(**options) if options else program


def check_start(settled: ResolvedOptions) -> None:
    """Refuse what only a whole run can keep."""
    if settled.input is not None:
        raise ValueError("input: start() does not feed a child; use process.write() (stdin=PIPE), or run()")
    if settled.timeout_ns >= 0:
        raise ValueError("timeout: start() has nobody who would keep it; use process.wait(timeout=...), or run()")
    if settled.ok_codes != _OK:
        raise ValueError("ok_codes: start() does not check the status; look at what wait() returns, or use run()")


# What modules below this one call and cannot import: the errors of results, and the functions of `command.Door`, which
# load what only expressions need.


def run_expression(expression: Expression, options: Any) -> Result:  # noqa: F811
    """Run an expression to its end: `fastproc.pipeline.run()`, which takes the place of this at the first call."""
    global run_expression
    loaded("fastproc.pipeline")
    from fastproc.pipeline import run as run_expression

    return run_expression(expression, options)


def start_expression(expression: Expression, options: Any) -> Any:
    """Start an expression."""
    loaded("fastproc.pipeline")
    from fastproc.pipeline import start

    return start(expression, options)


def reader(expression: Expression, options: Any) -> Any:
    """Start an expression and return a file of its standard output."""
    loaded("fastproc.pipeline")
    from fastproc.pipeline import reader

    return reader(expression, options)


def lines(expression: Expression, options: Any, cut: Cut) -> Iterator[Any]:
    """Start an expression and give the lines of its standard output."""
    loaded("fastproc.pipeline")
    from fastproc.pipeline import lines

    return lines(expression, options, cut)


def pipe(parts: Iterable[Expression]) -> Expression:
    """Make a Pipe."""
    loaded("fastproc._values.combination")
    from fastproc._values.combination import Pipe

    return Pipe(parts)


def sequence(left: Expression, right: Expression, on_success: bool) -> Expression:
    """Make a Sequence."""
    loaded("fastproc._values.combination")
    from fastproc._values.combination import Sequence

    return Sequence(left, right, on_success)


def tee(source: Expression, consumers: Iterable[Expression]) -> Expression:
    """Make a Tee."""
    loaded("fastproc._values.combination")
    from fastproc._values.combination import Tee

    return Tee(source, consumers)


def scoped(inner: Expression, name: str, value: Any) -> Expression:
    """Make a Scoped."""
    loaded("fastproc._values.combination")
    from fastproc._values.combination import Scoped

    return Scoped(inner, name, value)


def call(expression: Expression) -> str:
    """Return the calls that make an expression."""
    from fastproc._values.shellline import call

    return call(expression)


def line(expression: Expression) -> str:
    """Return an expression as a line for bash."""
    from fastproc._values.shellline import line

    return line(expression)


command_module.door = sys.modules[__name__]
status.exit_error = errors.exit_error

if TYPE_CHECKING:
    from fastproc import _run

    _is_a_door: Door = _run
