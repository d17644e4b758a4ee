"""The blocking front door: run a command to its end, or start it and keep its Process.

Plain runs go through the C core's bulk path, one call for the whole life of the child; what needs Python on the way, such
as input from an iterator, goes through the engine's Exchange. Both give the same Result.
"""

from __future__ import annotations

import os
from time import monotonic

from fastproc import _native, errors
from fastproc._engine.resolve import Opened, environment, resolve
from fastproc._values.command import Command, cmd
from fastproc._values.plan import lower, settle
from fastproc._values.redirect import PIPE
from fastproc._values.status import CORE_DUMPED, TIMED_OUT, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Unpack

    from fastproc._engine.process import Process
    from fastproc._values.kinds import OptionsDict, Text
    from fastproc._values.plan import Plan, Settled

__all__ = ["run", "start"]

_CLONE3_VM = 1
_FORCED_ENGINE = os.environ.get("FASTPROC_ENGINE", "")


def run(
    program: Command | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
) -> Result:
    """Run a command, wait for its end, and return how it ended and what it wrote.

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
        TypeError, ValueError: an argument or option is not possible; its name comes first. No child was made.

    >>> import fastproc
    >>> fastproc.run("echo", "hello", capture=True).stdout
    b'hello\n'
    """
    if type(program) is not Command:
        command = cmd(program, *args, **options)  # type: ignore[arg-type]
    elif args:
        raise TypeError("program: a Command already has its arguments; use command.args(...)")
    else:
        command = program.options(**options) if options else program
    settled = command._options.settled
    if settled is None:
        settled = settle(command)
    data = settled.input
    if data is None:
        data = b""
    elif type(data) is not bytes:
        return _run_exchange(command, settled)
    if _FORCED_ENGINE == "exchange":
        return _run_exchange(command, settled)
    if not settled.needs_io:
        return _run_bulk(command, settled, lower(command, environment()), data, settled.timeout_ns)

    timeout_ns = settled.timeout_ns
    opened = Opened()
    try:
        plan, timeout_ns = _resolve(command, settled, opened)
        return _run_bulk(command, settled, plan, data, timeout_ns, opened)
    finally:
        opened.close()


def _resolve(command: Command, settled: Settled, opened: Opened) -> tuple[Plan, int]:
    """Open what the command names; the time that a FIFO takes counts for the deadline."""
    timeout_ns = settled.timeout_ns
    if timeout_ns < 0:
        return resolve(command, opened), timeout_ns
    deadline = monotonic() + timeout_ns / 1e9
    plan = resolve(command, opened, deadline)
    return plan, max(0, int((deadline - monotonic()) * 1e9))


def _run_bulk(
    command: Command, settled: Settled, plan: Plan, data: bytes, timeout_ns: int, opened: Opened | None = None
) -> Result:
    job = _native.take_job()
    _native.run(plan, job, data, timeout_ns)
    child = job.child
    status = job.status
    state = status.state
    native = job.native
    first = native.flags
    streams = settled.streams
    swapped = settled.swapped
    out = job.output(swapped) if streams[1] is PIPE else None
    err = job.output(not swapped) if streams[2] is PIPE else None
    returncode = status.returncode
    mechanism = child.mechanism
    result = Result(
        command._argv,
        returncode,
        out,
        err,
        child.pid,
        native.ended_ns - native.started_ns,
        job.usage() if state == 1 else None,
        _native.mechanism_name(mechanism),
        first | CORE_DUMPED if status.core_dumped else first,
        settled.ok_codes,
        None if mechanism == _CLONE3_VM else _native.refused(),
    )
    error = native.error
    _native.give_job(job)
    if error:
        raise OSError(error, f"{os.strerror(error)}: while exchanging data with {command.argv[0]!r}")
    if state == _native.WAIT_UNKNOWN:
        raise errors.ExitStatusUnknown(result.pid, command.argv, out, err)
    if first & TIMED_OUT:
        raise errors.timeout_expired(command.argv, settled.timeout_ns / 1e9, result)
    if settled.check and returncode not in settled.ok_codes:
        raise errors.exit_error(result)
    return result


def _run_exchange(command: Command, settled: Settled) -> Result:
    from fastproc._engine.exchange import run_exchange

    return run_exchange(command, settled)


def start(
    program: Command | Text | list[Text] | tuple[Text, ...], /, *args: Text, **options: Unpack[OptionsDict]
) -> Process:
    """Start a command and return its Process at once, when the program is running.

    Takes what `run()` takes, but for `input`, `timeout`, `grace`, `drain_timeout`, `check` and `ok_codes`, which belong to
    a whole run. A stream that is PIPE, or captured, is a file of the Process.

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
