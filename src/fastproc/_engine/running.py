"""One whole run by an exchange: from the command to its Result or error. What fp_run() cannot do, and its reference."""

from __future__ import annotations

from time import monotonic_ns

from fastproc import _native, errors
from fastproc._engine import orphans
from fastproc._engine.exchange import Exchange
from fastproc._engine.fds import STDERR, STDOUT, Opened
from fastproc._engine.process import Process
from fastproc._engine.reactor import borrowed
from fastproc._engine.resolve import resolve
from fastproc._engine.signal_api import CTRL_C_PATIENCE
from fastproc._values.status import CORE_DUMPED, TIMED_OUT, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastproc._engine.reactor import Reactor
    from fastproc._values.command import Command
    from fastproc._values.plan import ResolvedOptions


def run_exchange(command: Command, settled: ResolvedOptions) -> Result:
    """Run a command to its end in this thread, on its thread's reactor.

    Args:
        command: what to run.
        settled: its options as `settle` gives them.

    Raises:
        SpawnError, ExitError, TimeoutExpired, ExitStatusUnknown: as `fastproc.run`.
        BaseException: what a signal handler or the input's iterator raises. The child has been killed and reaped; the
            Result up to then is in the exception's attribute `result`.
    """
    with Opened() as files, Opened() as opened, borrowed() as reactor:
        exchange = begin(command, settled, reactor, files)
        try:
            exchange.process.make(resolve(command, opened, exchange.deadline), True, exchange.deadline)
            # At once: the reader of a FIFO, or of a pipe given to us, sees its end when the child closes it.
            opened.close()
            exchange.open()
            while not exchange.done:
                reactor.run_once(orphans.attend())
        except BaseException as error:
            _break_off(error, exchange, settled, opened)
            raise
    return conclude(exchange, settled, opened)


def _break_off(error: BaseException, exchange: Exchange, settled: ResolvedOptions, opened: Opened) -> None:
    """End the exchange because of an exception on its way to the caller, or of a second one that comes meanwhile."""
    try:
        try:
            # Ctrl-C in a terminal reaches the child too, or is passed on to it: it gets a moment to end by itself. Not
            # so when its input is incomplete because the iterator failed.
            if isinstance(error, KeyboardInterrupt):
                exchange.process.adopt()
                exchange.process.interrupt_group()
        finally:
            exchange.abort(0.0 if exchange.input_failed else CTRL_C_PATIENCE)
    except BaseException as second:
        add_result(second, exchange, settled, opened)
        raise
    add_result(error, exchange, settled, opened)


def begin(
    command: Command,
    settled: ResolvedOptions,
    reactor: Reactor,
    files: Opened,
    source: bytes | Iterable[bytes] | None = None,
    on_done: Callable[[Exchange], object] | None = None,
) -> Exchange:
    """Make the exchange of a whole run; the child is made next. Its deadline counts from now.

    Args:
        command: what to run.
        settled: its options as `settle` gives them.
        reactor: what it is driven by.
        files: takes the files that outputs are spilled to.
        source: what stdin is fed with, when it is not the command's `input`.
        on_done: called once, at the end.
    """
    started = monotonic_ns()
    exchange = Exchange(
        Process(command.argv),
        reactor,
        source=settled.input if source is None else source,
        deadline=None if settled.timeout_ns < 0 else (started + settled.timeout_ns) / 1e9,
        grace=settled.grace_ns / 1e9,
        drain_timeout=None if settled.drain_ns < 0 else settled.drain_ns / 1e9,
        idle_timeout=settled.idle_timeout,
        on_done=on_done,
    )
    exchange.started_ns = started
    if settled.exchanged:
        from fastproc._engine.streams.sink import Capture, taps

        exchange.captures = taps(command, settled, files, Capture, exchange.process)
    return exchange


def add_result(error: BaseException, exchange: Exchange, settled: ResolvedOptions, opened: Opened) -> None:
    """Put what there was up to an error into it, as `error.result`; nothing where no child has ended."""
    final = exchange.process.final
    if final is not None and final.state != _native.WAIT_UNKNOWN:
        now = exchange.ended_ns or monotonic_ns()
        error.result = make_result(exchange, settled, now - exchange.started_ns, opened)  # type: ignore[attr-defined]


def conclude(exchange: Exchange, settled: ResolvedOptions, opened: Opened) -> Result:
    """Give the Result of an exchange that is done, or raise what it amounts to.

    Raises:
        ExitError, TimeoutExpired, ExitStatusUnknown, OutputTooLarge: as `fastproc.run`.
        UnicodeDecodeError: the output ends inside a character, and on_line asks for text.
    """
    argv = exchange.process.argv
    limit = settled.idle_timeout if exchange.silent else settled.timeout_ns / 1e9
    assert limit is not None
    if exchange.process.final is None:
        out, err = outputs(exchange, settled, opened)
        pid = exchange.process.pid
        if not exchange.flags & TIMED_OUT:
            raise errors.ExitStatusUnknown(pid, argv, out, err, held=True)
        from fastproc._values.tree import held

        raise errors.killed_in_vain(argv, limit, held(argv, pid, _native.is_traced(pid)), out, err)
    result = make_result(exchange, settled, exchange.ended_ns - exchange.started_ns, opened)
    if exchange.silent:
        raise errors.timeout_expired(argv, limit, result)
    if exchange.overflowed is not None and exchange.overflowed.raises:
        from fastproc._values.capture import OutputTooLarge

        raise OutputTooLarge(exchange.overflowed.name, result)
    if result.timed_out:
        raise errors.timeout_expired(argv, limit, result)
    if settled.check:
        result.check()
    for capture in exchange.captures.values():
        if capture.failure is not None:
            capture.failure.result = result  # type: ignore[attr-defined]
            raise capture.failure
    return result


def make_result(exchange: Exchange, settled: ResolvedOptions, duration_ns: int, opened: Opened) -> Result:
    """Make the Result of an exchange that is done. Files in memory are those of `opened`.

    Raises:
        ExitStatusUnknown: the child has ended, and nobody knows how; carries the output.
    """
    process = exchange.process
    final = process.final
    assert final is not None
    out, err = outputs(exchange, settled, opened)
    if final.state == _native.WAIT_UNKNOWN:
        raise errors.ExitStatusUnknown(process.pid, process.argv, out, err)
    result = Result(
        process.argv,
        final.returncode,
        out,
        err,
        process.pid,
        duration_ns,
        _native.usage_bytes(final),
        process.mechanism,
        exchange.flags | (CORE_DUMPED if final.core_dumped else 0),
        settled.ok_codes,
        _native.refused_before(process.mechanism),
    )
    result._pipe_holders = exchange.holders
    if process.tree is not None:
        result._survivors = process.tree.end().survivors
    kept = [exchange.captures.get(stream) for stream in _pipes(settled)]
    if any(kept):
        result._dropped = tuple(0 if capture is None else capture.dropped for capture in kept)  # type: ignore[assignment]
        result._spilled = tuple(None if capture is None else capture.spilled() for capture in kept)  # type: ignore[assignment]
    return result


def _pipes(settled: ResolvedOptions) -> tuple[int, int]:
    """The pipes of stdout and stderr. Exchanged outputs: what comes from the pipe of one is the other's."""
    return (STDERR, STDOUT) if settled.swapped else (STDOUT, STDERR)


def outputs(exchange: Exchange, settled: ResolvedOptions, opened: Opened) -> tuple[bytes | None, bytes | None]:
    """What there is of stdout and stderr; None for one that is not captured. Files in memory are those of `opened`."""
    out, err = (exchange.output(stream) for stream in _pipes(settled))
    if opened.memory:
        from fastproc._engine.streams.sink import view

        memory = {stream: view(file) for stream, file in opened.memory.items()}
        # Documented at Result: the type is that of everything else that is captured.
        out, err = memory.get(STDOUT, out), memory.get(STDERR, err)  # type: ignore[assignment]
    return out, err
