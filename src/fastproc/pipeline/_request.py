"""One whole run of an expression: from its options to the Settings of a Run, from a Run that is done to its result.

What running.py is for one command. Nothing here waits.
"""

from __future__ import annotations

from fastproc import _native, errors
from fastproc._engine.reactor import deadline_from
from fastproc._engine.signal_api import CTRL_C_PATIENCE
from fastproc._values.combination import WHOLE, Scoped, captures, leaves
from fastproc._values.command import Command
from fastproc._values.options import DEFAULTS, checked
from fastproc._values.redirect import PIPE
from fastproc._values.status import CORE_DUMPED, TIMED_OUT
from fastproc._values.tree import held
from fastproc.pipeline import _result as stages
from fastproc.pipeline._member import Settings
from fastproc.pipeline._result import Outcome, Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastproc._engine.streams.sink import Capture
    from fastproc._values.command import Expression
    from fastproc.pipeline._member import Child
    from fastproc.pipeline._result import PipelineResult
    from fastproc.pipeline._run import Run

SIGINT = 2

_REDIRECTIONS = ("input", "stdin", "stdout", "stderr")
_OF_THE_RUN = (
    *("check", "capture", "timeout", "grace", "drain_timeout", "idle_timeout", "sigpipe_ok", "pipe_size"),
    *("stdout_limit", "stderr_limit", "on_line", "tee", "swap_outputs"),
)


class Request:
    """An expression with what is asked for its run, checked.

    Attributes:
        expression: with the options that are its commands' in them.
        settings: of the run; the deadline counts from now.
        check: whether a status that is not accepted is an error.
        timeout: in seconds, or None.
    """

    __slots__ = ("check", "expression", "settings", "timeout")

    def __init__(self, expression: Expression, options: Mapping[str, Any], streams: bool = False) -> None:
        """Sort the options.

        Raises:
            TypeError, ValueError: an option is not possible; its name comes first.
        """
        values = checked(options)
        if "pty" in values:
            raise ValueError("pty: a terminal is for one command that is started alone")
        if isinstance(expression, Command):
            # Of one command that is run as a pipeline of one.
            own = expression._options.values
            whole = {name: own[name] for name in own if name in WHOLE}
            values = {**whole, **values}
            expression = expression._with({name: DEFAULTS[name] for name in whole}) if whole else expression
        settings = self.settings = Settings()
        settings.group = values.get("pgid") == 0
        for name in ("grace", "drain_timeout", "idle_timeout", "pipe_size", "sigpipe_ok"):
            if name in values:
                setattr(settings, name, values[name])
        keeping = settings.keeping
        keeping.limits = values.get("stdout_limit"), values.get("stderr_limit")  # type: ignore[assignment]
        keeping.on_line = values.get("on_line")  # type: ignore[assignment]
        keeping.tee = bool(values.get("tee", False))
        keeping.streams = streams
        self.timeout: float | None = values.get("timeout")  # type: ignore[assignment]
        settings.deadline = deadline_from("timeout", self.timeout)
        self.check = bool(values.get("check", True))
        expression = _redirected(expression, values)
        if streams:
            expression = Scoped(expression, "stdout", PIPE)
        self.expression = _with_defaults(expression, values)
        _check_captured(self.expression, values)


def _redirected(expression: Expression, values: Mapping[str, Any]) -> Expression:
    """Put what is redirected by options around the expression: outside of all that it says itself."""
    if "swap_outputs" in values:
        expression = Scoped(expression, "swap", True)
    for name in _REDIRECTIONS:
        if name in values:
            if name == "stdin" and values[name] is PIPE:
                raise ValueError("stdin: must not be PIPE for a pipeline: use input, or a file")
            expression = Scoped(expression, name, values[name])
    if "capture" in values:
        for name in ("stdout", "stderr"):
            if name not in values:
                expression = Scoped(expression, name, PIPE)
    return expression


def _with_defaults(expression: Expression, values: Mapping[str, Any]) -> Expression:
    """Give the other options to every command that does not say the same itself."""
    given = {
        name: value
        for name, value in values.items()
        if name not in _OF_THE_RUN and name not in _REDIRECTIONS and not (name == "pgid" and value == 0)
    }
    if not given:
        return expression
    env = given.pop("env", None)
    added = given.pop("env_add", ())
    removed = given.pop("env_remove", ())

    def change(command: Command) -> Command:
        own = command._options.values
        command = command._with({name: value for name, value in _plain(given).items() if name not in own})
        for name, value in added:
            command = command.env(name, value)
        if removed:
            command = command.env_remove(*removed)
        return command if env is None else command.full_env(dict(env))

    return expression._each(change)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return normalised options as they may be given."""
    plain = dict(values)
    if "fds" in plain:
        plain["fds"] = dict(plain["fds"])
    if "rlimits" in plain:
        plain["rlimits"] = {number: (soft, hard) for number, soft, hard in plain["rlimits"]}
    return plain


def _check_captured(expression: Expression, values: Mapping[str, Any]) -> None:
    captured = captures(expression)
    for name in ("stdout_limit", "stderr_limit", "on_line", "tee"):
        wanted = (name[:6],) if name.endswith("_limit") else ("stdout", "stderr")
        if name in values and not captured.intersection(wanted):
            raise ValueError(f"{name}: needs a captured output: use capture=True")
    limit = values.get("stderr_limit")
    if limit is not None and limit.spill is not None and len(list(leaves(expression))) > 1:
        raise ValueError("stderr_limit: the stages of a pipeline cannot share one spill file")


def conclude(running: Run, request: Request) -> PipelineResult:
    """Return the result of a run that is done, or raise what is to be raised.

    Raises:
        ExitError, TimeoutExpired, OutputTooLarge, ExitStatusUnknown: as run().
        BaseException: what broke it off from inside.
    """
    if running.error is not None:
        attach(running.error, running)
        raise running.error
    for child in running.children:
        if child.left:
            _raise_held(running, child, request)
    result = make_result(running)
    if running.silent:
        assert running.settings.idle_timeout is not None
        raise errors.timeout_expired(result.line, running.settings.idle_timeout, result)
    if running.overflowed is not None and running.overflowed.raises:
        from fastproc._values.capture import OutputTooLarge

        raise OutputTooLarge(running.overflowed.name, result)
    if result.timed_out:
        assert request.timeout is not None
        raise errors.timeout_expired(result.line, request.timeout, result)
    if request.check and _is_checked(running) and not result.ok:
        raise errors.exit_error(result)
    failure = running.plumbing.failure
    if failure is not None:
        failure.result = result  # type: ignore[attr-defined]
        raise failure
    return result


def _raise_held(running: Run, child: Child, request: Request) -> None:
    """Raise what it amounts to that a child was killed and does not end."""
    argv, pid = child.process.argv, child.process.pid
    out, err = _outputs(running)
    limit = running.settings.idle_timeout if running.silent else request.timeout
    if limit is None or not running.flags & TIMED_OUT:
        raise errors.ExitStatusUnknown(pid, argv, out, err, held=True)
    raise errors.killed_in_vain(argv, limit, held(argv, pid, _native.is_traced(pid)), out, err)


def _outputs(run: Run) -> tuple[bytes | None, bytes | None]:
    """Return what was captured."""
    plumbing = run.plumbing
    out = None if plumbing.out is None else plumbing.out.value()
    if not plumbing.errs:
        return out, None
    return out, b"".join(child.stderr.value() for child in run.ordered() if child.stderr is not None)


def attach(error: BaseException, running: Run) -> None:
    """Put what there is into an exception on its way to the caller, as `error.result`."""
    try:
        if any(child.process.final is not None for child in running.children):
            error.result = make_result(running)  # type: ignore[attr-defined]
    except errors.ProcessError:
        pass


def tell_group(running: Run) -> None:
    """Pass Ctrl-C on to children in a group of their own, which a terminal's does not reach (GOTCHAS H5)."""
    if running.settings.group:
        try:
            running.send_signal(SIGINT)
        except (OSError, errors.ProcessError):
            pass


def break_off(running: Run, error: BaseException) -> None:
    """End a run because of an exception on its way to the caller."""
    # Ctrl-C in a terminal reaches the children too: they get a moment to end by themselves. Those in a group of their
    # own are told.
    interrupted = isinstance(error, KeyboardInterrupt)
    try:
        try:
            if interrupted:
                tell_group(running)
        finally:
            running.abort(CTRL_C_PATIENCE if interrupted or not isinstance(error, Exception) else 0.0)
    finally:
        # Again, without patience, where a second interrupt came.
        running.abort()
    attach(error, running)


def make_result(run: Run) -> PipelineResult:
    """Return what became of it, once it is done, whatever the statuses are.

    Raises:
        ExitStatusUnknown: a child has ended, and nobody knows how; carries the output.
    """
    plumbing = run.plumbing
    children = [child for child in run.ordered() if child.process.final is not None]
    out, err = _outputs(run)
    found = tuple(_stage(run, child, out, err) for child in children)
    outcome = run.outcome
    places = [child.place for child in children]
    if outcome is not None and outcome.stage in places:
        outcome = outcome._replace(stage=places.index(outcome.stage))
    else:
        # Broken off: the last that was started speaks for all.
        outcome = Outcome(len(found) - 1, False, True)
    duration_ns = run.ended_ns - run.started_ns
    result = stages.conclude(run.expression, found, outcome, out, err, duration_ns, run.flags)
    result._pipe_holders = plumbing.holders
    result._survivors = tuple(survivor for stage in found for survivor in stage.survivors)
    result._dropped = (
        plumbing.out.capture.dropped if plumbing.out is not None and plumbing.out.capture is not None else 0,
        sum(child.stderr.capture.dropped for child in children if child.stderr and child.stderr.capture),
    )
    outs = [plumbing.out.capture] if plumbing.out is not None else []
    errs = [child.stderr.capture for child in children if child.stderr is not None]
    result._spilled = _spilled(outs), _spilled(errs)
    return result


def _spilled(kept: list[Capture | None]) -> memoryview | None:
    """What went to a file in memory: one output's, as a limit that spills is for one."""
    return next((capture.spilled() for capture in kept if capture is not None and capture.memory is not None), None)


def _is_checked(run: Run) -> bool:
    """Whether the status that decides is to be looked at."""
    return run.outcome is None or run.outcome.checked


def _stage(run: Run, child: Child, out: bytes | None, err: bytes | None) -> Stage:
    process = child.process
    final = process.final
    assert final is not None
    if final.state == _native.WAIT_UNKNOWN:
        raise errors.ExitStatusUnknown(process.pid, process.argv, out, err)
    options = child.command._options
    stage = Stage(
        process.argv,
        final.returncode,
        None,
        None if child.stderr is None else child.stderr.value(),
        process.pid,
        (child.ended_ns or run.ended_ns) - child.started_ns,
        _native.usage_bytes(final),
        process.mechanism,
        CORE_DUMPED if final.core_dumped else 0,
        options.get("ok_codes"),
        _native.refused_before(process.mechanism),
    )
    if process.tree is not None:
        stage._survivors = process.tree.end().survivors
    stage.checked = options.get("check")
    stage.broken_pipe = run.broken_pipe(child)
    return stage
