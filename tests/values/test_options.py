"""The options of a command: normal forms, refusals, exclusions."""

from __future__ import annotations

import ast
import inspect
import io
import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values import options
from fastproc._values.options import DEFAULTS, RUN_LEVEL, normalise
from fastproc._values.redirect import DEVNULL, PIPE, STDERR, STDOUT

FILE = io.BytesIO()


class HasFileno:
    def __init__(self, number):
        self.number = number

    def fileno(self):
        return self.number


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_value_is_dropped(name):
    """Saying a default is saying nothing."""
    assert normalise({name: {"rlimits": {}, "fds": {}, "env_add": {}}.get(name, DEFAULTS[name])}) is options.NONE
    assert options.NONE.get(name) is DEFAULTS[name]


@pytest.mark.parametrize(
    ("name", "value", "normal"),
    [
        ("cwd", Path("/x"), "/x"),
        ("cwd", b"/\xff", "/\udcff"),
        ("cwd", 0, 0),
        ("env", {}, ()),
        ("env", {b"A": b"1", "B": Path("/x"), "A": "2"}, (("A", "2"), ("B", "/x"))),
        ("env_add", {"A": ""}, (("A", ""),)),
        ("env_remove", ["A", b"B", "A"], ("A", "B")),
        ("argv0", "", ""),
        ("argv0", b"-sh", "-sh"),
        ("stdin", DEVNULL, DEVNULL),
        ("stdout", PIPE, PIPE),
        ("swap_outputs", True, True),
        ("fds", {5: 3, 4: FILE}, ((4, FILE), (5, 3))),
        ("pass_fds", [7, 3, 7], (7, 3)),
        ("close_fds", False, False),
        ("check", False, False),
        ("ok_codes", 1, (1,)),
        ("ok_codes", [1, 0, 1, -15], (-15, 0, 1)),
        ("capture", True, True),
        ("input", b"", b""),
        ("input", bytearray(b"x"), b"x"),
        ("input", memoryview(b"x"), b"x"),
        ("input", [b"a", b"b"], (b"a", b"b")),
        ("input", FILE, FILE),
        ("timeout", 5, 5.0),
        ("timeout", Fraction(1, 2), 0.5),
        ("timeout", Decimal("0.5"), 0.5),
        ("grace", 0, 0.0),
        ("drain_timeout", None, None),
        ("drain_timeout", math.inf, None),
    ],
)
def test_value_is_normalised(name, value, normal):
    """Each option has one form."""
    made = normalise({name: value}).values
    assert made == {name: normal}
    assert type(made[name]) is type(normal)


@pytest.mark.parametrize("value", [math.inf, 1e300, 10**400, 2.0**31])
def test_endless_timeout_is_none(value):
    """More than 68 years is no limit (GOTCHAS D19)."""
    assert normalise({"timeout": value}) is options.NONE


@given(st.floats(), st.sampled_from(["timeout", "grace", "drain_timeout"]))
def test_any_float_is_a_time_or_refused(value, name):
    """NaN and negatives are refused; the rest is a time that fits 64 bits of nanoseconds, or none."""
    if not value >= 0 or (name == "grace" and value >= 2**31):
        with pytest.raises(ValueError, match=f"^{name}: "):
            normalise({name: value})
    else:
        seconds = normalise({name: value}).get(name)
        assert seconds is None or 0 <= int(seconds * 1e9) < 2**63


@pytest.mark.parametrize(
    ("name", "value", "kind", "text"),
    [
        ("nosuch", 1, TypeError, "nosuch: there is no such option"),
        ("timout", 1, TypeError, "timout: there is no such option; did you mean timeout?"),
        ("cwd", "", ValueError, "cwd: the path is empty"),
        ("cwd", "a\0", ValueError, "cwd: has a NUL byte at index 1"),
        ("cwd", -1, ValueError, "cwd: -1 is not a descriptor number"),
        ("cwd", True, TypeError, "cwd: True is not a descriptor number"),
        ("cwd", 1.0, TypeError, "cwd: must be str, bytes or os.PathLike, not float"),
        ("env", [("A", "1")], TypeError, "env: must be a mapping, not list"),
        ("env", {"": "1"}, ValueError, "env: '' cannot be the name of a variable"),
        ("env", {"A=": "1"}, ValueError, "env: 'A=' cannot be the name of a variable"),
        ("env", {"A\0": "1"}, ValueError, "env: name of a variable: has a NUL byte at index 1"),
        ("env", {"A": "\0"}, ValueError, "env: value of 'A': has a NUL byte at index 0"),
        ("env", {"A": 1}, TypeError, "env: value of 'A': must be str, bytes or os.PathLike, not int"),
        ("env", {1: "A"}, TypeError, "env: name of a variable: must be str"),
        ("env", {"A": "\ud800"}, ValueError, "env: value of 'A': cannot be encoded"),
        ("env_add", None, TypeError, "env_add: must be a mapping, not NoneType"),
        ("env_remove", "PATH", TypeError, "env_remove: must be an iterable, not str"),
        ("env_remove", ["A=B"], ValueError, "env_remove: 'A=B' cannot be the name of a variable"),
        ("argv0", "\0", ValueError, "argv0: has a NUL byte at index 0"),
        ("stdin", 1.5, TypeError, "stdin: must be None"),
        ("swap_outputs", 1, TypeError, "swap_outputs: must be True or False, not 1"),
        ("fds", [5], TypeError, "fds: must be a mapping, not list"),
        ("fds", {2: 5}, ValueError, "fds: 2 is a standard stream"),
        ("fds", {-1: 5}, ValueError, "fds: number in the child: -1 is not in the range"),
        ("fds", {True: 5}, TypeError, "fds: number in the child: must be an int, not bool"),
        ("fds", {5: -1}, ValueError, "fds: -1 is not a descriptor number"),
        ("fds", {5: "x"}, TypeError, "fds: must be a descriptor number or a file, not str"),
        ("pass_fds", 5, TypeError, "pass_fds: must be an iterable, not int"),
        ("pass_fds", [1], ValueError, "pass_fds: 1 is a standard stream"),
        ("pass_fds", [HasFileno(2)], ValueError, "pass_fds: 2 is a standard stream"),
        ("pass_fds", [FILE], ValueError, "pass_fds: <_io.BytesIO object at "),
        ("pass_fds", [-1], ValueError, "pass_fds: -1 is not a descriptor number"),
        ("check", None, TypeError, "check: must be True or False, not None"),
        ("ok_codes", [], ValueError, "ok_codes: is empty"),
        ("ok_codes", [256], ValueError, "ok_codes: 256 is not in the range -64 to 255"),
        ("ok_codes", ["0"], TypeError, "ok_codes: must be an int, not str"),
        ("input", "text", TypeError, "input: must be bytes, not str: use input=text.encode()"),
        ("input", 5, TypeError, "input: must be bytes-like or an iterable of bytes, not int"),
        ("timeout", "5", TypeError, "timeout: must be a number of seconds or None, not str"),
        ("timeout", True, TypeError, "timeout: must be a number of seconds or None, not bool"),
        ("timeout", [], TypeError, "timeout: must be a number of seconds or None, not list"),
        ("timeout", -0.001, ValueError, "timeout: -0.001 is not a time in seconds (0 or more)"),
        ("timeout", -(10**400), ValueError, "timeout: -1"),
        ("timeout", math.nan, ValueError, "timeout: nan is not a time in seconds"),
        ("grace", None, ValueError, "grace: must be a number of seconds"),
    ],
)
def test_bad_value_is_refused(name, value, kind, text):
    """The message starts with the option and says the reason."""
    with pytest.raises(kind) as caught:
        normalise({name: value})
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"input": b"", "stdin": DEVNULL}, "input: cannot be used with stdin"),
        ({"stdout": STDERR, "stderr": STDOUT}, "stderr: stdout goes to stderr and stderr to stdout"),
        ({"ctty": 3}, "ctty: needs setsid=True"),
        ({"setsid": True, "pgid": 0}, "pgid: a session leader"),
        ({"sigignore": ["TERM", "INT"], "sigdefault": ["INT"]}, "sigignore: signals [2] are in sigdefault too"),
        ({"fds": {5: 3}, "pass_fds": [5]}, "pass_fds: 5 is in fds too"),
    ],
)
def test_options_that_exclude_each_other(values, text):
    """They are refused together, however they come together."""
    with pytest.raises(ValueError) as caught:
        normalise(values)
    assert str(caught.value).startswith(text)
    (first, value), *others = values.items()
    if others:
        with pytest.raises(ValueError):
            normalise({first: value}).merged(dict(others))


@pytest.mark.parametrize(
    "values",
    [
        {"input": b"x", "stdin": PIPE},
        {"ctty": 3, "setsid": True},
        {"pgid": 0, "setsid": False},
        {"sigignore": ["TERM"], "sigdefault": ["INT"]},
        {"fds": {5: 5}, "pass_fds": [5]},
        {"stdout": STDERR, "stderr": PIPE},
    ],
)
def test_options_that_go_together(values):
    """What is possible together is accepted."""
    assert set(normalise(values).values) == set(values)


def test_pass_fds_of_a_file_keeps_its_number():
    """The pair of a file in pass_fds is its number twice."""
    values = normalise({"pass_fds": [HasFileno(9), 4], "fds": {6: 3}}).values
    assert options.fd_pairs(values) == ((4, 4), (6, 3), (9, 9))


def test_merged_default_undoes():
    """A default value takes an option away; the original stays."""
    first = normalise({"timeout": 5, "check": False})
    assert first.merged({"timeout": None, "nice": 3}).values == {"check": False, "nice": 3}
    assert first.values == {"timeout": 5.0, "check": False}
    assert first.merged({"timeout": None, "check": True}) is options.NONE


def test_equal_options_share_one_object():
    """Options that may be kept are one object, so that what is made of them is made once; others are not kept."""
    assert normalise({"timeout": 5, "check": False}) is normalise({"timeout": 5.0, "check": False})
    assert normalise({"capture": True}) is options.CAPTURE
    assert normalise({"capture": True, "timeout": 5}).merged({"timeout": None}) is options.CAPTURE
    assert normalise({"input": b"x"}) is not normalise({"input": b"x"})
    assert normalise({"env_add": {"A": "x"}}) is not normalise({"env_add": {"A": "x"}})
    for n in range(200):
        normalise({"nice": 1, "timeout": n})
    assert len(options._shared) <= options._SHARED_MAX


def test_equal_options_share_one_object_when_the_cache_is_emptied():
    """What was given before and what is made afterwards are not two."""
    options._given.clear()
    normalise({"timeout": 7, "check": False})
    for n in range(options._SHARED_MAX):
        before = len(options._shared)
        normalise({"nice": 2, "timeout": n + 1000})
        if len(options._shared) < before:
            break
    else:
        pytest.fail("it was not emptied")
    assert normalise({"timeout": 7, "check": False}) is normalise({"timeout": 7.0, "check": False})


def test_every_option_has_a_check_and_a_type():
    """The table of defaults, the checks and the types for type checkers have the same names."""
    from fastproc._values import attributes, command

    normalise({"nice": 1, "user": 1})
    # What type checkers alone see is not there when the program runs.
    tree = ast.parse(inspect.getsource(command))
    types = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "OptionsDict")
    typed = {node.target.id for node in types.body if isinstance(node, ast.AnnAssign)}
    assert set(options._CHECKS) == set(DEFAULTS) == typed
    assert not set(attributes.CHECKS) & RUN_LEVEL
