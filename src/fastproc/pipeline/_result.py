"""What became of a pipeline: the Result of each stage, which of them decides, and the PipelineResult. Pure."""

from __future__ import annotations

from fastproc._values.status import TIMED_OUT, Result, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NamedTuple

    class Outcome(NamedTuple):
        """What an expression's status is.

        Attributes:
            stage: the index of the stage whose status it is.
            ok: whether the status is an accepted one.
            checked: whether it is an error when it is not.
        """

        stage: int
        ok: bool
        checked: bool
else:
    from collections import namedtuple

    Outcome = namedtuple("Outcome", ("stage", "ok", "checked"), module=__name__)
    Outcome.__doc__ = "The stage whose status an expression has, whether it is accepted, and whether it is looked at."

SIGPIPE = 13
"""The same number on every POSIX system."""


def precedence(left: Outcome, right: Outcome) -> Outcome:
    """Return which of two sides decides, as duct has it.

    A checked error comes before an unchecked one, any error before success, and of two alike the right one counts.
    """
    for side in (right, left):
        if side.checked and not side.ok:
            return side
    return left if right.ok and not left.ok else right


class Stage(Result):
    """How one command of a pipeline ended: a Result of its own; stdout is None, as it went to the next stage.

    Attributes:
        checked: whether its status is looked at.
        broken_pipe: whether it ended by SIGPIPE, as nobody read what it wrote any more, and that is accepted.
        stderr: what it wrote there, when that is captured and nothing sent it elsewhere.
    """

    __module__ = "fastproc"
    __slots__ = ("broken_pipe", "checked")

    checked: bool
    broken_pipe: bool

    @property
    def ok(self) -> bool:
        """Whether its return code is accepted, or it wrote into a pipe that nobody read any more."""
        return self.broken_pipe or self.returncode in self._ok_codes

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments."""
        _, arguments, (_, state) = self._reduced()
        return Stage, arguments, (None, {**state, "checked": self.checked, "broken_pipe": self.broken_pipe})


class PipelineResult(Result):
    """How a pipeline ended, and what it wrote.

    `returncode`, `argv`, `pid` and `mechanism` are those of the stage that decides: a failed one comes before all that
    succeeded, a checked one before an unchecked one, and of two alike the right one counts.

    Attributes:
        stages: a Result for every command that was started, in the order of the expression; see Stage.
        stdout: what was captured, whichever stages wrote it, or None.
        stderr: the same, one stage after the other.
    """

    __module__ = "fastproc"

    __slots__ = ("_decisive", "_line", "_ok", "_stages")

    _line: object
    _decisive: int
    _ok: bool
    _stages: tuple[Stage, ...] | Callable[[], tuple[Stage, ...]]

    @property
    def line(self) -> str:
        """The whole as a shell line."""
        found = self._line
        if not isinstance(found, str):
            found = self._line = str(found)
        return found

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages from left to right."""
        found = self._stages
        if not isinstance(found, tuple):
            found = self._stages = found()
        return found

    @property
    def failed(self) -> Stage | None:
        """The stage whose status made the whole fail, or None."""
        return None if self._ok else self.stages[self._decisive]

    @property
    def ok(self) -> bool:
        """Whether the deciding status is accepted and the deadline was kept."""
        return self._ok and not self._flags & TIMED_OUT

    @property
    def usage(self) -> Usage | None:
        """What the kernel counted for all stages: sums, and the largest of the resident sizes."""
        found = [usage for stage in self.stages if (usage := stage.usage) is not None]
        if not found:
            return None
        total = Usage(0, 0, 0, 0, 0, 0, 0, 0, 0)
        for name in Usage.__slots__:
            values = [getattr(usage, name) for usage in found]
            setattr(total, name, max(values) if name == "maxrss" else sum(values))
        return total

    @property
    def heading(self) -> str:
        """The stage that decides and the whole, for a message."""
        from fastproc._values.quoting import cut, shortened

        stages = len(self.stages)
        return f"`{shortened(self.argv, 300)}` (stage {self._decisive + 1} of {stages} of `{cut(self.line, 700)}`)"

    @property
    def said(self) -> bytes | None:
        """What the stage that decides wrote to stderr, for a message."""
        return self.stages[self._decisive].stderr or self.stderr

    def __repr__(self) -> str:
        """Show the line and the status, and how much was captured."""
        from fastproc._values.quoting import cut

        sizes = [
            f", {name} {len(data)} bytes" for name, data in (("stdout", self.stdout), ("stderr", self.stderr)) if data
        ]
        return f"<PipelineResult `{cut(self.line, 300)}`: {self.status_text()}{''.join(sizes)}>"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments."""
        _, arguments, (_, state) = self._reduced()
        more = {"_stages": self.stages, "_decisive": self._decisive, "_ok": self._ok, "_line": self.line}
        return PipelineResult, arguments, (None, {**state, **more})


def conclude(
    expression: object,
    stages: tuple[Stage, ...],
    outcome: Outcome,
    stdout: bytes | None,
    stderr: bytes | None,
    duration_ns: int,
    flags: int,
) -> PipelineResult:
    """Make the PipelineResult of stages that have ended."""
    stage = stages[outcome.stage]
    result = PipelineResult(
        stage.argv,
        stage.returncode,
        stdout,
        stderr,
        stage.pid,
        duration_ns,
        None,
        stage.mechanism,
        flags,
        stage._ok_codes,
        stage.mechanism_refused,
    )
    result._stages = stages
    result._decisive = outcome.stage
    result._ok = outcome.ok
    result._line = expression
    return result
