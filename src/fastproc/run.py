"""The blocking front door: run a command to its end, or start it and keep its Process.

Plain runs go through the C core's bulk path, one call for the whole life of the child; what needs Python on the way,
such as input from an iterator, goes through the engine's Exchange. Both give the same Result.
"""

from __future__ import annotations

import os
from sys import audit
from time import monotonic

from fastproc import _native, errors
from fastproc._engine import orphans
from fastproc._engine.resolve import Opened, environment, resolve
from fastproc._native import DEFAULT_ATTR, MECHANISMS, NO_PAIRS
from fastproc._values.command import Command, build, cmd
from fastproc._values.options import NONE, normalise
from fastproc._values.plan import STRING_MAX, lower, search, settle
from fastproc._values.redirect import PIPE
from fastproc._values.status import CORE_DUMPED, TIMED_OUT, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Unpack

    from fastproc._engine.process import Process
    from fastproc._native import Job
    from fastproc._values.kinds import OptionsDict, Text
    from fastproc._values.plan import Plan, Settled

__all__ = ["run", "start"]

_CLONE3_VM = 1
_FORCED_ENGINE = os.environ.get("FASTPROC_ENGINE", "")


def run(
    program: Command | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
) -> Result:
    r"""Run a command, wait for its end, and return how it ended and what it wrote.

    The program and its arguments are given one by one, as one list, or as a Command, whose options are then changed by
    those given here. The streams are inherited unless captured (`capture=True`) or redirected. The options are those
    of `cmd()`; these are about the run:

    Args:
        program: the program, a list with its arguments, or a Command.
        args: its arguments: str, bytes or path-like.
        options: capture: keep stdout and stderr. input: bytes for stdin, or an iterable of them. timeout: seconds until
            SIGTERM is sent, and after `grace` seconds more (0.1) SIGKILL. check: whether a status that is not among
            ok_codes (0) is an error. drain_timeout: seconds to wait, after the end of the program, for other processes
            that still hold its pipes (1.0; None: for ever).

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
    if type(program) is Command:
        if args:
            raise TypeError("program: a Command already has its arguments; use command.args(...)")
        command = program.options(**options) if options else program
    elif args or type(program) is str:
        command = build((program, *args), normalise(options) if options else NONE)  # type: ignore[arg-type]
    else:
        command = cmd(program, **options)  # type: ignore[arg-type]
    settled = command._options.settled
    if settled is None:
        settled = settle(command)
    if not settled.plain or _FORCED_ENGINE:
        return _run_general(command, settled)

    if orphans.pending:
        orphans.reap()
    # The hot path: what a plain command needs, without a Plan. Python's share of a run is mostly cold code, as the
    # caches have just served another process: each call and object here costs several times what it does in a loop.
    env = environment()
    argv = command._argv
    blob = command._blob
    if len(blob) > STRING_MAX or len(env.blob) > STRING_MAX:
        return _run_general(command, settled)
    if "/" in argv[0]:
        paths, npaths = blob, 1
    else:
        paths, npaths, _ = search(blob[: blob.index(0) + 1], env, env)
    audit("subprocess.Popen", argv[0], argv, None, None)
    job = _native.take_job()
    try:
        summary = _native.run(
            job,
            DEFAULT_ATTR,
            paths,
            npaths,
            blob,
            len(argv),
            env.blob,
            env.count,
            -1,
            -1,
            settled.stdio,  # type: ignore[arg-type]
            NO_PAIRS,
            0,
            settled.input or b"",  # type: ignore[arg-type]
            settled.timeout_ns,
            settled.grace_ns,
            settled.drain_ns,
        )
    except BaseException as error:
        _keep_output(error, command, settled, job)
        raise
    if len(summary) == 1:
        raise _native.spawn_error(lower(command, env), -summary[0], job.child)
    return _finish(command, settled, job, summary)


def _run_general(command: Command, settled: Settled) -> Result:
    """Run what needs a Plan, and perhaps an Exchange."""
    data = settled.input
    if data is None:
        data = b""
    elif type(data) is not bytes:
        return _run_exchange(command, settled)
    if _FORCED_ENGINE == "exchange":
        return _run_exchange(command, settled)
    opened = Opened()
    try:
        plan, timeout_ns = _resolve(command, settled, opened)
        attr, pairs = _native.prepare(settled, plan.fds)
        audit("subprocess.Popen", command._argv[0], command._argv, settled.cwd, command._options.get("env"))
        job = _native.take_job()
        try:
            summary = _native.run(
                job,
                attr,
                plan.paths,
                plan.npaths,
                plan.argv,
                plan.argc,
                plan.env,
                plan.envc,
                plan.cwd,
                plan.cgroup,
                plan.stdio,
                pairs,
                len(plan.fds),
                data,
                timeout_ns,
                settled.grace_ns,
                settled.drain_ns,
            )
        except BaseException as error:
            _keep_output(error, command, settled, job)
            raise
        if len(summary) == 1:
            raise _native.spawn_error(plan, -summary[0], job.child)
    finally:
        opened.close()
    return _finish(command, settled, job, summary)


def _resolve(command: Command, settled: Settled, opened: Opened) -> tuple[Plan, int]:
    """Open what the command names; the time that a FIFO takes counts for the deadline."""
    timeout_ns = settled.timeout_ns
    if timeout_ns < 0:
        return resolve(command, opened), timeout_ns
    deadline = monotonic() + timeout_ns / 1e9
    plan = resolve(command, opened, deadline)
    return plan, max(0, int((deadline - monotonic()) * 1e9))


def _keep_output(error: BaseException, command: Command, settled: Settled, job: Job) -> None:
    """Put what was read before an interrupt into the exception, as `error.result`."""
    summary = _native.summary_of(job)
    if summary[5] > 0:
        error.result = _result(command, settled, job, summary)  # type: ignore[attr-defined]


def _result(command: Command, settled: Settled, job: Job, summary: list[int]) -> Result:
    """Make the Result of a job that has ended."""
    state, returncode, flags, core_dumped, _, pid, mechanism, duration_ns, out_size, err_size, _ = summary
    _, out_stream, err_stream = settled.streams
    swapped = settled.swapped
    if swapped:
        out_size, err_size = err_size, out_size
    result = _new(Result)
    result.argv = command._argv
    result.returncode = returncode
    # What the parent's pipe of that name gave, or None without one.
    result.stdout = (job.output(swapped, out_size) if out_size else b"") if out_stream is PIPE else None
    result.stderr = (job.output(not swapped, err_size) if err_size else b"") if err_stream is PIPE else None
    result.pid = pid
    result.mechanism = MECHANISMS[mechanism]
    result.mechanism_refused = _NONE_REFUSED if mechanism == 1 else _native.refused()
    result._duration_ns = duration_ns
    result._usage = job.usage[:] if state == 1 else None
    result._flags = flags | CORE_DUMPED if core_dumped else flags
    result._ok_codes = settled.ok_codes
    return result


def _finish(command: Command, settled: Settled, job: Job, summary: list[int]) -> Result:
    """Make the Result of a finished job, give the job back, and raise what is to be raised."""
    result = _result(command, settled, job, summary)
    _native.give_job(job, summary[10])
    error = summary[4]
    if error:
        raise OSError(error, f"{os.strerror(error)}: while exchanging data with {command.argv[0]!r}")
    if summary[0] == _native.WAIT_UNKNOWN:
        raise errors.ExitStatusUnknown(result.pid, command.argv, result.stdout, result.stderr)
    if summary[2] & TIMED_OUT:
        raise errors.timeout_expired(command.argv, settled.timeout_ns / 1e9, result)
    if settled.check and result.returncode not in settled.ok_codes:
        raise errors.exit_error(result)
    return result


_new = object.__new__
_NONE_REFUSED: dict[str, str] = {}


def _run_exchange(command: Command, settled: Settled) -> Result:
    from fastproc._engine.exchange import run_exchange

    return run_exchange(command, settled)


def start(
    program: Command | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
) -> Process:
    """Start a command and return its Process at once, when the program is running.

    Takes what `run()` takes; `timeout`, `grace`, `drain_timeout`, `check` and `ok_codes` belong to a whole run and are
    not looked at. A stream that is PIPE, or captured, is a file of the Process.

    Raises:
        SpawnError: the program could not be started.
        TypeError, ValueError: an argument or option is not possible; its name comes first. No child was made.
    """
    from fastproc._engine import process

    if type(program) is not Command:
        command = cmd(program, *args, **options)  # type: ignore[arg-type]
    elif args:
        raise TypeError("program: a Command already has its arguments; use command.args(...)")
    else:
        command = program.options(**options) if options else program
    if settle(command).input is not None:
        raise ValueError("input: start() does not feed a child; write to process.stdin (stdin=PIPE), or use run()")
    with Opened() as opened:
        return process.start(resolve(command, opened), command.argv)
