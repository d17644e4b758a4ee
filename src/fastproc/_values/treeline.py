"""Combinations of commands as text: the calls that make them, and a line for bash."""

from __future__ import annotations

from fastproc._values.combination import Pipe, Scoped, Sequence, Tee
from fastproc._values.command import Command
from fastproc._values.redirect import DEVNULL, PIPE, STDERR, STDOUT, Append
from fastproc._values.shellline import line, notes, redirection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._values.expression import Expression

_SIGNS = {"stdin": ("<", ""), "stdout": (">", ""), "stderr": ("2>", "2")}
_SWAP = "3>&1 1>&2 2>&3 3>&-"


def calls(expression: Expression) -> str:
    """Return the calls that make a combination."""
    if isinstance(expression, Pipe):
        return " | ".join(map(repr, expression.parts))
    if isinstance(expression, Sequence):
        following = zip(expression.conditions, expression.parts[1:], strict=True)
        words = [f".{'then' if on_success else 'or_else'}({part!r})" for on_success, part in following]
        return _operand(expression.parts[0]) + "".join(words)
    if isinstance(expression, Tee):
        return f"{_operand(expression.source)}.tee({', '.join(map(repr, expression.consumers))})"
    assert isinstance(expression, Scoped)
    return f"{_operand(expression.inner)}.{_method(expression.name, expression.value)}"


def _operand(expression: Expression) -> str:
    return f"({expression!r})" if isinstance(expression, Pipe) else repr(expression)


def _method(name: str, value: object) -> str:
    if name == "swap":
        return "stdout_stderr_swap()"
    if name == "unchecked":
        return "unchecked()"
    if name == "input":
        return f"stdin_bytes({value!r})"
    for special, word in ((DEVNULL, "null"), (PIPE, "capture"), (STDERR, "to_stderr"), (STDOUT, "to_stdout")):
        if value is special:
            return f"{name}_{word}()"
    if isinstance(value, Append):
        return f"{name}_append({value.path!r})"
    return f"{name}_{'path' if isinstance(value, str) else 'file'}({value!r})"


def lines(expression: Expression) -> str:
    """Return a combination as a line for bash.

    Where an expression is unchecked inside of another one, `|| :` says that its failure is none.
    """
    if isinstance(expression, Pipe):
        return " | ".join(map(_part, expression.parts))
    if isinstance(expression, Sequence):
        # Both operators have the same precedence and bind to the left.
        following = zip(expression.conditions, expression.parts[1:], strict=True)
        after = [f" {'&&' if on_success else '||'} {_and_part(part)}" for on_success, part in following]
        return _and_part(expression.parts[0]) + "".join(after)
    if isinstance(expression, Tee):
        *others, last = expression.consumers
        words = "".join(f" >({line(item)})" for item in others)
        middle = f" | tee{words}" if others else ""
        # bash reads what is in >( ) only when it runs it: what no line can say stands before all.
        refused = [word for item in others for word in notes(item)]
        before = f"({' '.join(refused)}) " if refused else ""
        return f"{before}{_part(expression.source)}{middle} | {_part(last)}"
    assert isinstance(expression, Scoped)
    if expression.name == "unchecked":
        return line(expression.inner)
    shown = _redirected(expression)
    if not shown:
        return line(expression.inner)
    # A command's own redirections are the inner ones.
    text, unchecked = _checked_line(expression.inner)
    return f"( {text} || : ) {shown}" if unchecked else f"( {text} ) {shown}"


def _redirected(expression: Scoped) -> str:
    """Return the redirection as a shell has it; "" for what it has no word for."""
    if expression.name == "swap":
        return _SWAP
    if expression.name not in _SIGNS:
        return ""
    return redirection(expression.value, *_SIGNS[expression.name])


def _part(expression: Expression) -> str:
    """Return a part of a pipe."""
    text, unchecked = _checked_line(expression)
    if unchecked:
        return f"( {text} || : )"
    return f"( {text} )" if _needs_shell(expression) or isinstance(_bare(expression), (Sequence, Tee)) else text


def _and_part(expression: Expression) -> str:
    """Return a part of a sequence."""
    text, unchecked = _checked_line(expression)
    if unchecked:
        return f"( {text} || : )"
    return f"( {text} )" if _needs_shell(expression) or isinstance(_bare(expression), (Sequence, Scoped)) else text


def _bare(expression: Expression) -> Expression:
    """Return it without what the line does not show."""
    while isinstance(expression, Scoped) and not _redirected(expression):
        expression = expression.inner
    return expression


def _checked_line(expression: Expression) -> tuple[str, bool]:
    """Return its line, and whether a failure of it is none, which the line does not show."""
    bare = _bare(expression)
    text = line(bare)
    unchecked = isinstance(bare, Command) and "check" in bare._options.values
    while expression is not bare:
        assert isinstance(expression, Scoped)
        unchecked = unchecked or expression.name == "unchecked"
        expression = expression.inner
    if unchecked and isinstance(bare, (Sequence, Pipe)):
        text = f"( {text} )"
    return text, unchecked


def _needs_shell(expression: Expression) -> bool:
    return isinstance(expression, Command) and "cwd" in expression._options.values
