"""Combinations of commands: pipes, sequences, fan-outs, redirections of whole sub-expressions, substituted arguments.

Pure values. Not here: what the statuses amount to (stages.py), the text (shellline.py), running them (the engine).
"""

from __future__ import annotations

from fastproc._values.checks import iterable
from fastproc._values.command import Expression
from fastproc._values.redirect import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from fastproc._values.command import Command

SUBSTITUTES_MAX = 50

_set = object.__setattr__


DEPTH_MAX = 100
"""How many expressions may be one inside of the other: each takes several calls of Python, which allows a thousand."""


def depth_of(expression: Expression) -> int:
    """Return how many expressions are one inside of the other in it."""
    if isinstance(expression, Combination):
        return expression.depth
    options = getattr(expression, "_options", None)
    substitutes = () if options is None else options.get("substitutes")
    return 1 + max((depth_of(item.expression) for item in substitutes), default=-1)


def _deeper(parts: Iterable[Expression]) -> int:
    """Return the depth of what is made of these.

    Raises:
        ValueError: it is too much.
    """
    depth = 1 + max(map(depth_of, parts))
    if depth > DEPTH_MAX:
        raise ValueError(f"expression: nested more than {DEPTH_MAX} levels deep; chains of then() and of | do not nest")
    return depth


class Combination(Expression):
    """What is made of other expressions; it and they never change.

    Attributes:
        depth: how many expressions are one inside of the other in it.
    """

    __slots__ = ("depth",)

    depth: int

    def _key(self) -> tuple[Any, ...]:
        """The constructor's arguments."""
        raise NotImplementedError

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: an expression is immutable")

    def __eq__(self, other: object) -> bool:
        """Compare the whole tree."""
        if not isinstance(other, Expression):
            return NotImplemented
        return isinstance(other, Combination) and type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        """Hash the whole tree."""
        return hash((type(self).__name__, self._key()))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the constructor's arguments."""
        return type(self), self._key()


class Pipe(Combination):
    """Two or more expressions, each of which reads what the one before it writes.

    Attributes:
        parts: from left to right; none of them is a Pipe, since `(a | b) | c` and `a | (b | c)` are one.
    """

    __module__ = "fastproc"

    __slots__ = ("_prepared", "parts")

    parts: tuple[Expression, ...]
    _prepared: Any

    def __init__(self, parts: Iterable[Expression]) -> None:
        """Take the parts from left to right."""
        given = [check_part("pipe", part) for part in parts]
        flat = [inner for part in given for inner in (part.parts if type(part) is Pipe else (part,))]
        if len(flat) < 2:
            raise ValueError("pipe: needs an expression to write to")
        _set(self, "parts", tuple(flat))
        _set(self, "_prepared", None)
        _set(self, "depth", _deeper(flat))

    def _each(self, change: Callable[[Command], Command]) -> Expression:
        return Pipe(part._each(change) for part in self.parts)

    def _key(self) -> tuple[Any, ...]:
        return (self.parts,)


class Sequence(Combination):
    """Expressions of which each runs, or not, after those before it.

    Attributes:
        parts: from left to right; the first is no Sequence, as `(a && b) || c` is `a && b || c`.
        conditions: of each but the first: whether it runs when those before it have succeeded, or else failed.
    """

    __module__ = "fastproc"

    __slots__ = ("conditions", "parts")

    parts: tuple[Expression, ...]
    conditions: tuple[bool, ...]

    def __init__(self, left: Expression, right: Expression, on_success: bool) -> None:
        """Take what is there, and what runs after it."""
        name = "then" if on_success else "or_else"
        check_part(name, left)
        before: tuple[Expression, ...] = (left,)
        conditions: tuple[bool, ...] = ()
        if type(left) is Sequence:
            before, conditions = left.parts, left.conditions
        self._fill((*before, check_part(name, right)), (*conditions, on_success))

    def _fill(self, parts: tuple[Expression, ...], conditions: tuple[bool, ...]) -> None:
        _set(self, "parts", parts)
        _set(self, "conditions", conditions)
        _set(self, "depth", _deeper(parts))

    def _each(self, change: Callable[[Command], Command]) -> Expression:
        return _sequence(tuple(part._each(change) for part in self.parts), self.conditions)

    @property
    def left(self) -> Expression:
        """What comes before the last."""
        return self.parts[0] if len(self.parts) == 2 else _sequence(self.parts[:-1], self.conditions[:-1])

    @property
    def right(self) -> Expression:
        """The last."""
        return self.parts[-1]

    @property
    def on_success(self) -> bool:
        """When the last runs."""
        return self.conditions[-1]

    def _key(self) -> tuple[Any, ...]:
        return self.left, self.right, self.on_success

    # Not by the key, in which a long one is one inside of the other.

    def __eq__(self, other: object) -> bool:
        """Compare the whole tree."""
        if type(other) is not Sequence:
            return super().__eq__(other)
        return self.conditions == other.conditions and self.parts == other.parts

    def __hash__(self) -> int:
        """Hash the whole tree."""
        return hash((self.parts, self.conditions))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by all parts."""
        return _sequence, (self.parts, self.conditions)


def _sequence(parts: tuple[Expression, ...], conditions: tuple[bool, ...]) -> Sequence:
    made = object.__new__(Sequence)
    made._fill(parts, conditions)
    return made


_sequence.__module__ = "fastproc"  # where pickles find it


class Tee(Combination):
    """An expression whose output goes to several others.

    Attributes:
        source: who writes.
        consumers: who read.
    """

    __module__ = "fastproc"

    __slots__ = ("consumers", "source")

    source: Expression
    consumers: tuple[Expression, ...]

    def __init__(self, source: Expression, consumers: Iterable[Expression]) -> None:
        """Take the source and at least one consumer."""
        found = tuple(check_part("tee", item) for item in consumers)
        if not found:
            raise ValueError("tee: needs an expression to write to")
        _set(self, "source", check_part("tee", source))
        _set(self, "consumers", found)
        _set(self, "depth", _deeper((source, *found)))

    def _each(self, change: Callable[[Command], Command]) -> Expression:
        return Tee(self.source._each(change), [item._each(change) for item in self.consumers])

    def _key(self) -> tuple[Any, ...]:
        return self.source, self.consumers


class Scoped(Combination):
    """An expression under a redirection of a stream, an exchange of two, an input, or `unchecked`.

    Attributes:
        inner: what it is applied to.
        name: "stdin", "stdout", "stderr", "swap", "input" or "unchecked".
        value: the normalised stream, the input, or True.
    """

    __module__ = "fastproc"

    __slots__ = ("inner", "name", "value")

    inner: Expression
    name: str
    value: Any

    def __init__(self, inner: Expression, name: str, value: Any) -> None:
        """Take what the methods of Expression have checked."""
        _set(self, "inner", check_part(name, inner))
        _set(self, "name", name)
        _set(self, "value", value)
        _set(self, "depth", _deeper((inner,)))

    def _each(self, change: Callable[[Command], Command]) -> Expression:
        return Scoped(self.inner._each(change), self.name, self.value)

    def _key(self) -> tuple[Any, ...]:
        return self.inner, self.name, self.value


class Substitute:
    """An argument that is the path of a pipe from, or to, another expression: `fd_of()` and `fd_to()` make it.

    Attributes:
        expression: who is at the other end.
        writes: whether the command writes to it.
    """

    __module__ = "fastproc"

    __slots__ = ("expression", "writes")

    expression: Expression
    writes: bool

    def __init__(self, expression: Expression, writes: bool) -> None:
        """Take the expression."""
        _set(self, "expression", check_part("fd_to" if writes else "fd_of", expression))
        _deeper((expression,))
        _set(self, "writes", bool(writes))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a substitution is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Substitute):
            return NotImplemented
        return self.writes is other.writes and self.expression == other.expression

    def __hash__(self) -> int:
        return hash((self.writes, self.expression))

    def __reduce__(self) -> tuple[object, ...]:
        return Substitute, (self.expression, self.writes)

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"{'fd_to' if self.writes else 'fd_of'}({self.expression!r})"


def fd_of(expression: Expression) -> Any:
    """Return an argument that the program opens to read what the expression writes, as bash's `<(...)`.

    The program sees a path below /dev/fd; the expression runs beside it as a stage of its own, whose status counts as
    that of a stage on the left of a pipe.

    >>> print(cmd("diff", fd_of(cmd("ls", "a")), fd_of(cmd("ls", "b"))))
    diff <(ls a) <(ls b)
    """
    return Substitute(expression, False)


fd_of.__module__ = "fastproc"


def fd_to(expression: Expression) -> Any:
    """Return an argument that the program opens to write what the expression reads, as bash's `>(...)`."""
    return Substitute(expression, True)


fd_to.__module__ = "fastproc"


def check_part(name: str, part: object) -> Expression:
    """Return an expression that can be a part of another.

    Raises:
        TypeError: it is none; the message starts with `name`.
        ValueError: it is a Command with an option that only a whole run can have.
    """
    if not isinstance(part, Expression):
        raise TypeError(f"{name}: must be a command or another expression, not {type(part).__name__}")
    options = getattr(part, "_options", None)
    if options is not None and not WHOLE.isdisjoint(options.values):
        found = sorted(WHOLE.intersection(options.values))[0]
        raise ValueError(f"{found}: belongs to a whole run: give it to run() or start(), not to a part of it")
    return part


WHOLE = frozenset(
    (
        *("capture", "timeout", "grace", "drain_timeout", "idle_timeout"),
        *("stdout_limit", "stderr_limit", "on_line", "tee", "pty"),
    )
)


def _check_hooks(name: str, value: object) -> tuple[object, ...]:
    hooks = (value,) if callable(value) else tuple(iterable(name, value))
    for hook in hooks:
        if not callable(hook):
            raise TypeError(f"{name}: must be callable, not {type(hook).__name__}")
    return hooks


def _check_substitutes(name: str, value: object) -> tuple[object, ...]:
    found = tuple(iterable(name, value))
    for item in found:
        if not isinstance(item, Substitute):
            raise TypeError(f"{name}: must come from fd_of() or fd_to(), not {type(item).__name__}")
    if len(found) > SUBSTITUTES_MAX:
        raise ValueError(f"{name}: more than {SUBSTITUTES_MAX} substitutions in one command")
    return found


CHECKS: dict[str, Callable[[str, object], object]] = {
    "before_spawn": _check_hooks,
    "substitutes": _check_substitutes,
}


def hooked(command: Command) -> Command:
    """Return a command as its before_spawn hooks have edited it, the outermost first.

    Raises:
        TypeError: a hook returned something else than a Command.
        BaseException: what a hook raises.
    """
    kind = type(command)
    for hook in command._options.get("before_spawn"):
        edited = hook(command)
        if type(edited) is not kind:
            raise TypeError(f"before_spawn: the hook must return a Command, not {type(edited).__name__}")
        command = edited
    return command.options(before_spawn=())


def captures(expression: Expression) -> frozenset[str]:
    """Return which of "stdout" and "stderr" an expression captures somewhere."""
    if isinstance(expression, Scoped):
        own = frozenset((expression.name,)) if expression.value is PIPE else frozenset()
        return own | captures(expression.inner)
    found: frozenset[str] = frozenset()
    for part in parts(expression):
        found |= captures(part)
    values = getattr(expression, "_options", None)
    if values is not None:
        found |= frozenset(name for name in ("stdout", "stderr") if values.get(name) is PIPE)
    return found


def parts(expression: Expression) -> tuple[Expression, ...]:
    """Return the expressions of which one is made, from left to right; the substitutions of a command."""
    if isinstance(expression, (Pipe, Sequence)):
        return expression.parts
    if isinstance(expression, Tee):
        return expression.source, *expression.consumers
    if isinstance(expression, Scoped):
        return (expression.inner,)
    options = expression._options  # type: ignore[attr-defined]
    return tuple(item.expression for item in options.get("substitutes"))


def leaves(expression: Expression) -> Iterator[Command]:
    """Give the commands of an expression from left to right, those of substitutions before the command itself."""
    for part in parts(expression):
        yield from leaves(part)
    if not isinstance(expression, Combination):
        yield expression  # type: ignore[misc]
