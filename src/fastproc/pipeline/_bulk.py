"""A plain pipeline run whole by the C core: commands joined by pipes, whose first is fed and whose outputs are kept.

What fp_run() is for one command; the engine's Run is its reference and does what it cannot. The results are the same.
"""

from __future__ import annotations

import os
from sys import audit

from fastproc import _native, errors
from fastproc._engine import orphans
from fastproc._engine.resolve import environment
from fastproc._native import CTRL_C_GRACE_NS, MECHANISMS, NONE_REFUSED
from fastproc._native.members import MEMBERS_MAX, Members, told
from fastproc._values.command import Command
from fastproc._values.options import DEFAULTS, checked
from fastproc._values.plan import lower, settle
from fastproc._values.redirect import (
    DEVNULL,
    PIPE,
    STDIO_INHERIT,
    STDIO_NULL,
    STDIO_PARENT_STDERR,
    STDIO_PARENT_STDOUT,
    STDIO_PIPE,
)
from fastproc._values.status import CORE_DUMPED, PIPES_OPEN, TIMED_OUT
from fastproc._values.tree import held
from fastproc.pipeline import _result as stages
from fastproc.pipeline._result import SIGPIPE, Outcome, PipelineResult, Stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastproc._values.combination import Pipe
    from fastproc._values.environment import Environment

KNOWN = frozenset(
    (
        *("capture", "stdin", "stdout", "stderr", "input", "check", "ok_codes", "timeout", "grace", "drain_timeout"),
        *("sigpipe_ok", "pipe_size"),
    )
)
"""Options of a run that the C core can do for a whole pipeline."""

KEPT = 8
"""Ways of running one pipeline that it keeps prepared."""

_STREAM_OPTIONS = frozenset(("stdin", "stdout", "stderr", "input", "swap_outputs"))


def run_plain(pipe: Pipe, options: Mapping[str, Any]) -> PipelineResult | None:
    """Run a pipe to its end, or return None where it takes more than the C core does.

    Raises:
        As pipeline.run().
    """
    kept: dict[object, Plain | None] | None = pipe._prepared
    if kept is None:
        kept = {}
        object.__setattr__(pipe, "_prepared", kept)
    values = options.values()
    # With the types: what is equal to a possible value may be an impossible one.
    key = (*options, *values, *map(type, values))
    try:
        plain = kept[key]
    except KeyError:
        plain = prepare(pipe, options)
        if "input" not in options:
            if len(kept) >= KEPT:
                kept.clear()
            kept[key] = plain
    except TypeError:
        # Something that cannot be a key, such as a list.
        plain = prepare(pipe, options)
    return None if plain is None else plain.run()


def prepare(pipe: Pipe, options: Mapping[str, Any]) -> Plain | None:
    """Return what runs a pipe by the C core, or None.

    Raises:
        TypeError, ValueError: an option is not possible; its name comes first.
    """
    commands = []
    for part in pipe.parts:
        if type(part) is not Command or not _STREAM_OPTIONS.isdisjoint(part._options.values):
            return None
        settled = settle(part)
        if settled.needs_io or settled.exchanged or settled.composed or settled.kill_tree or settled.pty is not None:
            return None
        commands.append(part)
    if not KNOWN.issuperset(options) or len(commands) > MEMBERS_MAX:
        return None
    values = checked(options)
    data = values.get("input")
    if data is not None and not isinstance(data, bytes):
        return None
    streams = []
    for index, name in enumerate(("stdin", "stdout", "stderr")):
        stream: Any = values.get(name)
        if stream is None and "capture" in values and index:
            stream = PIPE
        if stream is None:
            streams.append((STDIO_INHERIT, STDIO_PARENT_STDOUT, STDIO_PARENT_STDERR)[index])
        elif stream is PIPE and index:
            streams.append(STDIO_PIPE)
        elif stream is DEVNULL:
            streams.append(STDIO_NULL)
        else:
            return None
    if data is not None:
        if "stdin" in values:
            return None
        streams[0] = STDIO_PIPE
    return Plain(pipe, commands, values, streams)


class Plain:
    """A pipe and options that the C core can run.

    Args:
        pipe: for messages.
        commands: its parts.
        values: the normalised options of the run.
        streams: FP_STDIO_ numbers of the whole.
    """

    __slots__ = (
        *("_accepts_zero", "_audited", "_check", "_checks", "_codes", "_commands", "_data", "_env", "_free", "_pipe"),
        *("_pipe_size", "_plans", "_sigpipe", "_streams", "_times", "_timeout"),
    )

    def __init__(self, pipe: Pipe, commands: list[Command], values: Mapping[str, Any], streams: list[int]) -> None:
        self._pipe = pipe
        self._commands = commands
        self._streams = streams
        self._data: bytes = values.get("input", b"")
        self._timeout: float | None = values.get("timeout")
        self._check: bool = values.get("check", True)
        self._pipe_size: int = values.get("pipe_size") or 0
        times = (values.get(name, DEFAULTS[name]) for name in ("timeout", "grace", "drain_timeout"))
        self._times = tuple(-1 if seconds is None else int(seconds * 1e9) for seconds in times)
        codes = values.get("ok_codes", DEFAULTS["ok_codes"])
        known = [command._options.values for command in commands]
        self._codes = [own.get("ok_codes", codes) for own in known]
        self._accepts_zero = all(0 in codes for codes in self._codes)
        self._checks = [own.get("check", True) for own in known]
        accepted = values.get("sigpipe_ok", True)
        self._sigpipe = [accepted and own.get("sigpipe_ok", True) for own in known[:-1]] + [False]
        self._env: Environment | None = None
        self._plans: list[Any] = []
        self._audited: list[Any] = []
        self._free: list[Members] = []

    def run(self) -> PipelineResult:
        """Run it."""
        # One function on purpose, as fastproc.run(): Python's share is cold code, after other processes had the caches.
        env = environment()
        if env is not self._env:
            self._plan(env)
        if orphans.pending:
            orphans.reap()
        for event in self._audited:
            audit("subprocess.Popen", *(event if type(event) is tuple else event.audited))
        free = self._free
        try:
            members = free.pop()
        except IndexError:
            members = self._members()
        try:
            r = members.run()
            if r < 0:
                failed = members.native.failed
                raise _native.spawn_error(self._plans[failed], -r, _native.job_child(members.jobs[failed]))
            native, jobs = members.native, members.jobs
            if native.clean and not native.err and self._accepts_zero:
                result = _new(PipelineResult)
                last = jobs[-1]
                result.argv = self._plans[-1].words
                result.returncode = result._flags = 0
                result.stdout = None if self._streams[1] != STDIO_PIPE else last[3][: native.out] if native.out else b""
                result.stderr = None if self._streams[2] != STDIO_PIPE else b""
                result.pid = last[1][5]
                result.mechanism = "clone3_vm"
                result.mechanism_refused = NONE_REFUSED
                result._duration_ns = native.duration_ns
                result._usage = None
                result._ok_codes = self._codes[-1]
                result._stages = _Later(self, members.ended[:], result.stderr)
                result._decisive = len(jobs) - 1
                result._ok = True
                result._line = self._pipe
            else:
                result = self._finish(members)
        except BaseException as error:
            self._break_off(members, error)
            raise
        members.give_jobs()
        if len(free) < KEPT:
            free.append(members)
        if result._flags & TIMED_OUT:
            assert self._timeout is not None
            raise errors.timeout_expired(result.line, self._timeout, result)
        if not result._ok and self._check and self._checks[result._decisive]:
            raise errors.exit_error(result)
        return result

    def _plan(self, env: Environment) -> None:
        """Prepare it for an environment of ours."""
        self._plans = plans = [lower(command, env) for command in self._commands]
        # An environment of its own is told as a new dict each time.
        self._audited = [plan.audited if plan.settled.same_environment else plan for plan in plans]
        self._free = []
        self._env = env

    def _members(self) -> Members:
        requests = []
        stdio: Any = tuple(self._streams)
        for index, plan in enumerate(self._plans):
            attr, pairs = _native.prepare(plan.settled, plan.fds, stays=True)
            data = b"" if index else self._data
            count = len(plan.fds)
            requests.append(
                _native.make_request(attr, stdio, data, self._times, plan.cwd, plan.cgroup, pairs, count)  # type: ignore[arg-type]
            )
        return Members(requests, self._plans, self._pipe_size)

    def _finish(self, members: Members) -> PipelineResult:
        """Return what became of a run that is over.

        Raises:
            ExitStatusUnknown: of one of them.
            PermissionError: one of them may not be killed, and runs on.
            TimeoutExpired: one of them was killed, and is held in its death.
            OSError: while its output was read or its input written.
        """
        found = self._stages(members)
        outcome = Outcome(0, found[0].ok, found[0].checked)
        for place, stage in enumerate(found):
            outcome = stages.precedence(outcome, Outcome(place, stage.ok, stage.checked))
        result = self._result(members, found, outcome)
        for stage, job in zip(found, members.jobs, strict=True):
            state, broken = job[1][0], job[1][4]
            if state == _native.WAIT_RUNNING and not broken:
                assert self._timeout is not None
                survivor = held(stage.argv, stage.pid, _native.is_traced(stage.pid))
                raise errors.killed_in_vain(stage.argv, self._timeout, survivor, result.stdout, result.stderr)
            if state == _native.WAIT_RUNNING:
                text = f"{os.strerror(broken)}: cannot kill {stage.argv[0]!r} (pid {stage.pid}), it runs on"
                raise PermissionError(broken, text)
            if broken:
                raise OSError(broken, f"{os.strerror(broken)}: while exchanging data with {stage.argv[0]!r}")
            if state == _native.WAIT_UNKNOWN:
                raise errors.ExitStatusUnknown(stage.pid, stage.argv, result.stdout, result.stderr)
        return result

    def _stages(self, members: Members) -> list[Stage]:
        """Return the Result of each, whatever its status is."""
        ended = members.ended[:]
        captured = self._streams[2] == STDIO_PIPE
        errs = [_native.output(job, 1, job[1][9]) if captured else None for job in members.jobs]
        return [self.stage(place, ended, err) for place, err in enumerate(errs)]

    def stage(self, place: int, ended: bytes, err: bytes | None) -> Stage:
        """Return the Result of one command from what `Members.ended` told."""
        summary, usage = told(ended, place)
        _, code, _, core_dumped, _, pid, mechanism, duration_ns, _, _, _ = summary
        stage = Stage(
            self._plans[place].words,
            code,
            None,
            err,
            pid,
            duration_ns,
            usage,
            MECHANISMS[mechanism],
            CORE_DUMPED if core_dumped else 0,
            self._codes[place],
            _native.refused_before(MECHANISMS[mechanism]),
        )
        stage.checked = self._checks[place]
        stage.broken_pipe = code == -SIGPIPE and self._sigpipe[place]
        return stage

    @property
    def count(self) -> int:
        """How many commands it has."""
        return len(self._commands)

    def _result(self, members: Members, found: list[Stage], outcome: Outcome) -> PipelineResult:
        out = err = None
        if self._streams[1] == STDIO_PIPE:
            out = _native.output(members.jobs[-1], 0, members.native.out)
        if self._streams[2] == STDIO_PIPE:
            err = b"".join([stage.stderr or b"" for stage in found])
        flags = 0
        for job in members.jobs:
            flags |= job[1][2]
        result = stages.conclude(self._pipe, tuple(found), outcome, out, err, members.native.duration_ns, flags)
        if flags & PIPES_OPEN:
            from fastproc._engine.streams.sink import holders

            result._pipe_holders = holders(set().union(*map(_native.held_pipes, members.jobs)))
        return result

    def _break_off(self, members: Members, error: BaseException) -> None:
        """End a run because of an exception on its way to the caller, which gets what there was as `error.result`."""
        jobs = members.jobs
        if isinstance(error, KeyboardInterrupt):
            # Ctrl-C in a terminal reaches the children too; those that lead a group of their own are told.
            for job, plan in zip(jobs, self._plans, strict=False):
                if plan.settled.leads:
                    _native.interrupt_group(job)
        members.abort(0 if isinstance(error, errors.SpawnError) else CTRL_C_GRACE_NS)
        ended = []
        for place, job in enumerate(jobs):
            state, pid = job[1][0], job[1][5]
            if pid > 0 and state == _native.WAIT_RUNNING:
                orphans.adopt_job(job)
            elif pid > 0 and state != _native.WAIT_UNKNOWN and place != members.native.failed:
                ended.append(place)
        if len(jobs) == self.count and ended and not hasattr(error, "result"):
            found = self._stages(members)
            found = [found[place] for place in ended]
            # The last that was started speaks for all.
            outcome = Outcome(len(found) - 1, False, True)
            error.result = self._result(members, found, outcome)  # type: ignore[attr-defined]


class _Later:
    """The stages of a pipeline of which all went well, made when they are asked for."""

    __slots__ = ("_ended", "_err", "_plain")

    def __init__(self, plain: Plain, ended: bytes, err: bytes | None) -> None:
        self._plain = plain
        self._ended = ended
        self._err = err

    def __call__(self) -> tuple[Stage, ...]:
        plain = self._plain
        return tuple(plain.stage(place, self._ended, self._err) for place in range(plain.count))


_new = object.__new__
