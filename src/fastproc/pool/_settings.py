"""What both pools take, checked; and what both understand by a task and by the items of a map."""

from __future__ import annotations

import os

from fastproc import _run
from fastproc._values.command import Command, Expression
from fastproc._values.options import checked
from fastproc.pool._gate import Gate, is_open
from fastproc.pool._task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from fastproc.pool._client import Channel
    from fastproc.pool._core import Crew
    from fastproc.pool._retries import Retries

WORKERS_MAX = 1 << 20

EXECUTOR_WORKERS = 256
"""Tasks that an executor is given at the same time: what it has no place for waits there."""

AHEAD_MORE = 64
"""Items that a map takes beyond twice the workers, so that the threads never wait for Python."""


def check_workers(workers: int | None) -> int:
    """Return how many tasks run at the same time: as many as there are CPUs for this process when None.

    Raises:
        TypeError, ValueError: not a positive number.
    """
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeError(f"workers: must be an int, not {type(workers).__name__}")
    if not 1 <= workers <= WORKERS_MAX:
        raise ValueError(f"workers: must be a positive number, not {workers}")
    return workers


def look(gate: Gate | Callable[[], bool]) -> bool:
    """Whether a gate is open.

    Raises:
        Unsupported: this kernel does not tell.
    """
    if isinstance(gate, Gate):
        return is_open(gate)
    return bool(gate())


def as_expression(
    crew: Crew, program: object, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Expression, Any]:
    """Return what the arguments of submit() mean: a Command with its options, or an expression; and the options given.

    Raises:
        TypeError, ValueError: as run().
    """
    if isinstance(program, Expression) and type(program) is not Command and not args:
        checked(options)
        return program, options
    if options and "capture" not in options:
        # What needs a captured output is not to be refused where all outputs are captured.
        options["capture"] = crew.defaults["capture"]
    command = _run.as_command(program, args, options)  # type: ignore[arg-type]
    return command, frozenset(options) if options else None


def make_task(
    crew: Crew,
    channel: Channel,
    expression: Expression,
    options: Any,
    priority: int,
    retries: Retries | None,
    deliver: Callable[[Task, Any, BaseException | None], object],
) -> Task:
    """Make the task of an expression, with what as_expression() said of the options.

    Raises:
        TypeError, ValueError: it cannot be sent to the pool's executor; the name of what cannot comes first.
    """
    kind = None
    given: Any = None
    if type(expression) is Command:
        kind = crew.kind(expression) if options is None else crew.kind(expression, options)
    else:
        given = crew.run_options(options or {})
    if crew.link is not None:
        from fastproc.pool._sendable import packed

        given = packed(expression if kind is None else kind.applied(expression), given)  # type: ignore[arg-type]
    return Task(channel, expression, kind, given, priority, retries, deliver)


def check_priority(priority: int) -> int:
    """Return it.

    Raises:
        TypeError, ValueError: not a number of 63 bits.
    """
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority: must be an int, not {type(priority).__name__}")
    if not -(1 << 62) < priority < 1 << 62:
        raise ValueError(f"priority: {priority} is too far from 0")
    return priority


class Items:
    """The expressions of a map, taken one by one.

    Args:
        function: makes the expression of an item; None: the items are expressions.
        crew: of the pool.
        ahead: how many items are taken before their results; None for a number that keeps the threads busy.
        options: of each run.
    """

    def __init__(
        self,
        function: Callable[[Any], Expression] | None,
        crew: Crew,
        ahead: int | None,
        options: Mapping[str, Any],
    ) -> None:
        if function is not None and not callable(function):
            raise TypeError(f"function: must be callable or None, not {type(function).__name__}")
        if ahead is not None and (isinstance(ahead, bool) or not isinstance(ahead, int) or ahead < 1):
            raise ValueError(f"ahead: must be a positive number, not {ahead!r}")
        checked(options)
        self._function = function
        self._crew = crew
        self._options = options
        self.ahead = 2 * crew.limit + AHEAD_MORE if ahead is None else ahead

    def expression(self, item: Any) -> tuple[Expression, Any]:
        """Return the expression of an item, and the options of its run.

        Raises:
            TypeError: it is none.
        """
        made = item if self._function is None else self._function(item)
        if type(made) is Command:
            return as_expression(self._crew, made, (), dict(self._options)) if self._options else (made, None)
        if not isinstance(made, Expression):
            what = "items: must be commands or other expressions" if self._function is None else "function: must return"
            raise TypeError(f"{what}, not {type(made).__name__}")
        return made, self._options
