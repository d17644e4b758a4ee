"""Combinations of commands as values: what they are equal to, how they read, what they refuse, which status decides."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable

import pytest

from fastproc import Expression
from fastproc._values.combination import Pipe, Scoped, Sequence, Substitute, Tee, captures, fd_of, fd_to, hooked, leaves
from fastproc._values.command import cmd
from fastproc._values.options import normalise
from fastproc.pipeline._result import Outcome, precedence

A, B, C = cmd("a"), cmd("b", "x y"), cmd("c")

EXPRESSIONS = [
    (A | B, "a | b 'x y'"),
    (A | B | C, "a | b 'x y' | c"),
    (A.pipe(B, C), "a | b 'x y' | c"),
    (A.then(C).or_else(B), "a && c || b 'x y'"),
    (A.then(C.or_else(B)), "a && ( c || b 'x y' )"),
    (A.or_else(B | C).then(C), "a || b 'x y' | c && c"),
    (A.then(B) | C, "( a && b 'x y' ) | c"),
    ((A | C).stderr_null(), "( a | c ) 2>/dev/null"),
    ((A | C).stdout_path("o").stderr_to_stdout(), "( ( a | c ) >o ) 2>&1"),
    ((A | C).stdout_append("o"), "( a | c ) >>o"),
    ((A | C).stdin_path("i").stdout_stderr_swap(), "( ( a | c ) <i ) 3>&1 1>&2 2>&3 3>&-"),
    (A.stdout_path("o").stderr_to_stdout(), "( a >o ) 2>&1"),
    ((A | C).stdin_bytes(b"x").stdout_capture(), "a | c"),
    ((A | C).stdin_file(5).stderr_file(6), "( ( a | c ) <&5 ) 2>&6"),
    ((A | C).stdout_to_stderr(), "( a | c ) 1>&2"),
    (A.unchecked() | C, "( a || : ) | c"),
    ((A | C).unchecked().then(B), "( ( a | c ) || : ) && b 'x y'"),
    ((A | C).unchecked(), "a | c"),
    (A.tee(B, C), "a | tee >(b 'x y') | c"),
    (A.tee(C), "a | c"),
    (A.tee(B, C).then(A), "a | tee >(b 'x y') | c && a"),
    (cmd("diff", fd_of(A | C), fd_of(B)), "diff <(a | c) <(b 'x y')"),
    (cmd("tee", fd_to(A)) | B, "tee >(a) | b 'x y'"),
    ((A | C).dir("/d").env("K", "v"), "( cd /d && K=v a ) | ( cd /d && K=v c )"),
    ((A | C).env_remove("K").full_env({"X": "1"}), "env -i X=1 a | env -i X=1 c"),
]


@pytest.mark.parametrize(("expression", "line"), EXPRESSIONS, ids=[line for _, line in EXPRESSIONS])
def test_expression_is_a_value(expression: Expression, line: str) -> None:
    """It shows as a shell line and as the calls that make it, copies, pickles, hashes, and cannot be changed."""
    assert str(expression) == line
    again = [eval(repr(expression)), copy.deepcopy(expression)]
    again += [pickle.loads(pickle.dumps(expression, number)) for number in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in again:
        assert other == expression
        assert (hash(other), str(other), repr(other)) == (hash(expression), line, repr(expression))
    with pytest.raises(AttributeError):
        expression.parts = ()  # type: ignore[attr-defined]


def test_different_expressions_differ() -> None:
    """Every pair of the table is unequal, also where the lines are alike."""
    for (first, _), (second, _) in itertools.combinations(EXPRESSIONS, 2):
        same = first.pipe is not None and repr(first) == repr(second)
        assert (first == second) is same
    assert A.then(B) != A.or_else(B)
    assert (A | B) != A
    assert A != (A | B)
    assert (A | B) != "a | b"
    assert fd_of(A) != fd_to(A)
    assert fd_of(A) != A


def test_pipes_are_flat() -> None:
    """`(a | b) | c` and `a | (b | c)` are one pipe, as they are in a shell."""
    assert (A | B) | C == A | (B | C) == Pipe((A, B, C))


def test_commands_are_found_from_left_to_right() -> None:
    """Also inside of substitutions, which come before their command."""
    diff = cmd("diff", fd_of(A), fd_of(B | C))
    tree = (diff.then(A).or_else(B) | C.tee(A, B)).stderr_null().unchecked()
    assert [command.argv[0] for command in leaves(tree)] == ["a", "b", "c", "diff", "a", "b", "c", "a", "b"]


def test_captures_are_found_wherever_they_are() -> None:
    """For the options that need one."""
    assert captures(A | B) == set()
    assert captures((A | B.stderr_capture()).then(C)) == {"stderr"}
    assert captures(A.tee(B.stdout_capture(), C).stderr_capture()) == {"stdout", "stderr"}
    assert captures(cmd("x", fd_of(A.stderr_capture()))) == {"stderr"}


def test_environment_and_directory_reach_every_command_that_has_none() -> None:
    """Duct's context: the inner one wins; substituted expressions are inside too."""
    tree = (A.env("K", "inner") | cmd("diff", fd_of(B))).env("K", "outer").dir("/d")
    assert [(c.option("env_add"), c.option("cwd")) for c in leaves(tree)] == [
        ((("K", "inner"),), "/d"),
        ((("K", "outer"),), "/d"),
        ((("K", "outer"),), "/d"),
    ]


def test_hooks_run_from_the_outermost_to_the_innermost() -> None:
    """And each gets what the one before has made."""
    inner = A.before_spawn(lambda c: c.args("inner"))
    (leaf,) = list(leaves((inner | B).before_spawn(lambda c: c.args("outer"))))[:1]
    assert hooked(leaf).argv == ("a", "outer", "inner")
    assert hooked(leaf).option("before_spawn") == ()
    with pytest.raises(TypeError, match="before_spawn: the hook must return a Command, not NoneType"):
        hooked(A.before_spawn(lambda c: None))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("build", "kind", "text"),
    [
        (lambda: A.pipe(), ValueError, "pipe: needs an expression"),
        (lambda: A.pipe("b"), TypeError, "pipe: must be a command or another expression, not str"),
        (lambda: A | "b", TypeError, "unsupported operand"),
        (lambda: A.then(None), TypeError, "then: must be a command"),
        (lambda: A.or_else(b"x"), TypeError, "or_else: must be a command"),
        (lambda: A.tee(), ValueError, "tee: needs an expression"),
        (lambda: A.tee(A, 5), TypeError, "tee: must be a command"),
        (lambda: fd_of("x"), TypeError, "fd_of: must be a command"),
        (lambda: fd_to(None), TypeError, "fd_to: must be a command"),
        (lambda: A | cmd("b", capture=True), ValueError, "capture: belongs to a whole run"),
        (lambda: A | cmd("b", timeout=3), ValueError, "timeout: belongs to a whole run"),
        (lambda: fd_of(cmd("b", on_line=print, capture=True)), ValueError, "capture: belongs to a whole run"),
        (lambda: (A | B).stdout_path(3), TypeError, "stdout: must be a path, not int; use stdout_file"),
        (lambda: (A | B).stdout_path(""), ValueError, "stdout: the path is empty"),
        (lambda: (A | B).stdin_file(-3), ValueError, "stdin: -3 is not a descriptor"),
        (lambda: (A | B).stdin_bytes("x"), TypeError, "input: must be bytes, not str"),
        (lambda: (A | B).env("", "x"), ValueError, "env_add: '' cannot be"),
        (lambda: A.before_spawn(3), TypeError, "before_spawn: must be"),
        (lambda: A.options(substitutes=[A]), TypeError, "substitutes: must come from fd_of"),
        (lambda: cmd("x", *[fd_of(A)] * 51), ValueError, "substitutes: more than 50"),
        (lambda: cmd(fd_of(A), 5), TypeError, "argument 1: must be str"),
    ],
)
def test_what_is_not_possible_is_refused(build, kind, text) -> None:
    """At once, and by name."""
    with pytest.raises(kind) as caught:
        build()
    assert str(caught.value).startswith(text)


def test_substitutions_have_the_highest_numbers() -> None:
    """As in bash, 63 and down; the arguments show the paths."""
    command = cmd("paste", fd_of(A), "-", fd_to(B)).args(fd_of(C))
    assert command.argv == ("paste", "/dev/fd/63", "-", "/dev/fd/62", "/dev/fd/61")
    assert command.option("substitutes") == (Substitute(A, False), Substitute(B, True), Substitute(C, False))


def test_normal_options_survive_a_pickle_with_substitutions() -> None:
    """The option is normalised like every other one."""
    assert normalise({"substitutes": [fd_of(A)]}).values == {"substitutes": (fd_of(A),)}


OUTCOMES = [Outcome(0, ok, checked) for ok in (True, False) for checked in (True, False)]


@pytest.mark.parametrize(("left", "right"), list(itertools.product(OUTCOMES, OUTCOMES)))
def test_precedence_is_ducts(left: Outcome, right: Outcome) -> None:
    """pipe_status_precedence() of duct, written down: checked errors, errors, and the right side of two alike."""
    right = right._replace(stage=1)
    if not right.ok and right.checked:
        expected = right
    elif not left.ok and left.checked:
        expected = left
    elif not right.ok:
        expected = right
    elif not left.ok:
        expected = left
    else:
        expected = right
    assert precedence(left, right) == expected


def test_combinations_know_their_parts() -> None:
    """The constructors take what `_key` gives."""
    for expression, _ in EXPRESSIONS:
        if isinstance(expression, (Pipe, Scoped, Sequence, Tee)):
            assert type(expression)(*expression._key()) == expression


@pytest.mark.parametrize("name", ["then", "or_else", "pipe"])
def test_long_chain_is_not_deep(name: str) -> None:
    """Thousands of them are compared, printed, copied and changed without a call for each inside of the other."""
    chain: Expression = A
    for number in range(3000):
        chain = getattr(chain, name)(cmd("b", str(number)))
    assert chain.depth == 1  # type: ignore[attr-defined]
    assert hash(chain) == hash(pickle.loads(pickle.dumps(chain)))
    assert copy.deepcopy(chain) == chain != chain.env("K", "v")
    sign = {"then": "&&", "or_else": "||", "pipe": "|"}[name]
    assert str(chain) == f" {sign} ".join(["a", *(f"b {number}" for number in range(3000))])
    assert repr(chain).startswith("cmd('a')")
    assert len(list(leaves(chain))) == 3001
    assert captures(chain.stdout_capture()) == {"stdout"}


def test_left_side_of_a_chain_is_a_chain() -> None:
    """As if each had two sides."""
    chain = A.then(B).or_else(C)
    assert isinstance(chain, Sequence)
    assert (chain.left, chain.right, chain.on_success) == (A.then(B), C, False)
    assert A.then(B).then(C) != A.then(B.then(C))
    assert A.then(B).then(C) != A.then(B).or_else(C)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: A.then(inner),
        lambda inner: A | B.then(inner),
        lambda inner: (inner | A).stderr_null(),
        lambda inner: A.tee(inner, B),
        lambda inner: cmd("x", fd_of(inner)) | A,
    ],
)
def test_expressions_inside_of_one_another_are_limited(wrap: Callable[[Expression], Expression]) -> None:
    """Up to the limit all works; beyond it a sentence says so, and not a RecursionError."""
    deep = A.then(B)
    with pytest.raises(ValueError, match="nested more than 100 levels deep"):  # noqa: PT012
        while True:
            previous, deep = deep, wrap(deep)
    assert pickle.loads(pickle.dumps(previous)) == previous == copy.deepcopy(previous)
    assert (hash(previous), bool(str(previous)), bool(repr(previous))) == (hash(previous), True, True)
    assert list(leaves(previous.env("K", "v")))
