"""Lowering: what reaches the C core for which command."""

from __future__ import annotations

import errno
import gc
import io
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc import errors
from fastproc._values.command import cmd
from fastproc._values.environment import Environment
from fastproc._values.plan import Plan, lower, settle
from fastproc._values.redirect import (
    DEVNULL,
    PIPE,
    STDERR,
    STDIO_INHERIT,
    STDIO_NULL,
    STDIO_PARENT_STDERR,
    STDIO_PARENT_STDOUT,
    STDIO_PIPE,
    STDIO_STDERR,
    STDIO_STDOUT,
    STDOUT,
    Append,
    stdio_number,
)

PARENT = Environment({b"PATH": b"/bin:/usr/bin", b"A": b"1"})
STRING_MAX = 32 * resource.getpagesize()
ALL_INHERIT = (STDIO_INHERIT,) * 3


def test_plain_command():
    """Every field of the plainest plan."""
    command = cmd("ls", "-l")
    plan = lower(command, PARENT)
    assert {name: getattr(plan, name) for name in plan.__slots__} == {
        "paths": b"/bin/ls\0/usr/bin/ls\0",
        "npaths": 2,
        "argv": b"ls\0-l\0",
        "argc": 2,
        "env": b"PATH=/bin:/usr/bin\0A=1\0",
        "envc": 2,
        "stdio": ALL_INHERIT,
        "fds": (),
        "identity": None,
        "attr": None,
        "cwd": -1,
        "cgroup": -1,
        "parent": PARENT,
        "searched": b"/bin:/usr/bin",
        "settled": settle(command),
        "terminal": None,
        "words": ("ls", "-l"),
    }


@given(st.lists(st.binary(min_size=1).map(lambda data: data.replace(b"\0", b"") or b"x"), min_size=1))
def test_argv_blob_split_again_is_the_same(argv):
    """Any bytes without NUL cross as they are."""
    plan = lower(cmd(argv), PARENT)
    assert (plan.argv.split(b"\0"), plan.argc) == ([*argv, b""], len(argv))
    assert plan.paths.count(b"\0") == plan.npaths
    assert all(item.endswith(argv[0]) for item in plan.paths.split(b"\0")[:-1])


@pytest.mark.parametrize(
    ("command", "parent", "paths", "searched"),
    [
        (cmd("./x"), {}, b"./x\0", None),
        (cmd("/bin/x"), {}, b"/bin/x\0", None),
        (cmd("x"), {}, b"/bin/x\0/usr/bin/x\0", b"/bin:/usr/bin"),
        (cmd("x"), {b"PATH": b""}, b"x\0", b""),
        (cmd("x"), {b"PATH": b":/a"}, b"x\0/a/x\0", b":/a"),
        (cmd("x", env={"PATH": "/c"}), {b"PATH": b"/p"}, b"/c/x\0", b"/c"),
        (cmd("x", env={}), {b"PATH": b"/p"}, b"/p/x\0", b"/p"),
        (cmd("x", env_add={"PATH": "/c"}), {b"PATH": b"/p"}, b"/c/x\0", b"/c"),
        (cmd("x", env_remove=["PATH"]), {b"PATH": b"/p"}, b"/p/x\0", b"/p"),
    ],
)
def test_search_uses_the_childs_path_else_the_parents(command, parent, paths, searched):
    """GOTCHAS F1, F3: one rule, whichever way PATH was given."""
    plan = lower(command, Environment(parent))
    assert (plan.paths, plan.npaths, plan.searched) == (paths, paths.count(b"\0"), searched)


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ({}, b"PATH=/bin:/usr/bin\0A=1\0"),
        ({"env": {}}, b""),
        ({"env": {"B": "\udcff"}}, b"B=\xff\0"),
        ({"env_add": {"A": "2", "C": "3"}}, b"PATH=/bin:/usr/bin\0A=2\0C=3\0"),
        ({"env_remove": ["PATH", "X"]}, b"A=1\0"),
        ({"env": {"X": "1", "Y": "2"}, "env_remove": ["X"], "env_add": {"Z": "3"}}, b"Y=2\0Z=3\0"),
        ({"env_remove": ["A"], "env_add": {"A": "9"}}, b"PATH=/bin:/usr/bin\0A=9\0"),
    ],
)
def test_environment(options, env):
    """First env or the parent's, then without env_remove, then with env_add."""
    plan = lower(cmd("x", **options), PARENT)
    assert (plan.env, plan.envc) == (env, env.count(b"\0"))


def test_argv0_replaces_only_the_first_argument():
    """The program is still found by its own name."""
    plan = lower(cmd("/bin/sh", "-c", "x", argv0="-sh"), PARENT)
    assert (plan.paths, plan.argv, plan.argc) == (b"/bin/sh\0", b"-sh\0-c\0x\0", 3)
    assert lower(cmd("/bin/sh", argv0=""), PARENT).argv == b"\0"


@pytest.mark.parametrize(
    ("options", "stdio"),
    [
        ({"capture": True}, (STDIO_INHERIT, STDIO_PIPE, STDIO_PIPE)),
        ({"capture": True, "stdout": DEVNULL}, (STDIO_INHERIT, STDIO_NULL, STDIO_PIPE)),
        ({"capture": True, "stderr": STDOUT}, (STDIO_INHERIT, STDIO_PIPE, STDIO_STDOUT)),
        ({"capture": True, "stdout": STDERR}, (STDIO_INHERIT, STDIO_STDERR, STDIO_PIPE)),
        ({"input": b""}, (STDIO_PIPE, STDIO_INHERIT, STDIO_INHERIT)),
        ({"stdin": 7, "stdout": 8, "stderr": 0}, (7, 8, 0)),
        ({"stdin": PIPE, "stdout": PIPE, "stderr": DEVNULL}, (STDIO_PIPE, STDIO_PIPE, STDIO_NULL)),
        ({"swap_outputs": True}, (STDIO_INHERIT, STDIO_PARENT_STDERR, STDIO_PARENT_STDOUT)),
        ({"swap_outputs": True, "stdout": PIPE}, (STDIO_INHERIT, STDIO_PARENT_STDERR, STDIO_PIPE)),
        ({"swap_outputs": True, "stdout": 7, "stderr": DEVNULL}, (STDIO_INHERIT, STDIO_NULL, 7)),
        ({"swap_outputs": True, "stderr": STDOUT}, (STDIO_INHERIT, STDIO_INHERIT, STDIO_STDOUT)),
        ({"swap_outputs": True, "capture": True}, (STDIO_INHERIT, STDIO_PIPE, STDIO_PIPE)),
    ],
)
def test_stdio(options, stdio):
    """Each stream is a descriptor or one of the header's choices."""
    plan = lower(cmd("x", **options), PARENT)
    assert plan.stdio == stdio
    assert plan.settled.swapped == (("swap_outputs" in options and "stderr" not in options) or stdio[2] == 7)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({"stdout": "file"}, {"stdio": None}),
        ({"stdin": io.BytesIO()}, {"stdio": None}),
        ({"stderr": Append("x")}, {"stdio": None}),
        ({"fds": {5: io.BytesIO()}}, {"fds": None}),
        ({"cwd": "/x"}, {"cwd": "/x", "cwd_fd": -1}),
        ({"cgroup": "/x"}, {"cgroup": "/x", "cgroup_fd": -1}),
    ],
)
def test_settled_says_what_must_be_opened(options, fields):
    """What cannot be lowered without I/O is left to the engine."""
    settled = settle(cmd("x", **options))
    assert settled.needs_io
    assert {name: getattr(settled, name) for name in fields} == fields


def test_settled_of_numbers_needs_no_io():
    """Descriptors are taken as they are."""
    command = cmd("x", cwd=5, cgroup=0, fds={4: 3}, pass_fds=[9], stdout=7)
    plan = lower(command, PARENT)
    assert not plan.settled.needs_io
    assert (plan.cwd, plan.cgroup, plan.fds, plan.stdio) == (5, 0, ((4, 3), (9, 9)), (STDIO_INHERIT, 7, STDIO_INHERIT))


def test_lower_takes_what_was_opened():
    """The engine's descriptors are in the plan, which is not kept."""
    command = cmd("x", stdout="f", cwd="/x", cgroup="/y", fds={4: io.BytesIO()}, swap_outputs=True)
    plan = lower(command, PARENT, (STDIO_INHERIT, 10, STDIO_PIPE), ((4, 11),), 12, 13)
    assert (plan.stdio, plan.fds, plan.cwd, plan.cgroup) == ((STDIO_INHERIT, STDIO_PIPE, 10), ((4, 11),), 12, 13)
    assert lower(command, PARENT, ALL_INHERIT, (), 14, 15) is not plan
    with pytest.raises(ValueError, match="stdio, fds: must be given"):
        lower(command, PARENT, None, None, 12, 13)
    for directories in ((-1, 13), (12, -1)):
        with pytest.raises(ValueError, match="cwd, cgroup: must be given"):
            lower(command, PARENT, ALL_INHERIT, (), *directories)


def test_stdio_number_of_what_must_be_opened_is_none():
    """A path, an Append and a file have no number yet."""
    assert [stdio_number(item) for item in ("p", Append("p"), io.BytesIO(), None, 4)] == [
        None,
        None,
        None,
        STDIO_INHERIT,
        4,
    ]


def test_settled_run_level():
    """What belongs to the run is in the terms of fp_run()."""
    settled = settle(cmd("x"))
    assert (settled.check, settled.ok_codes, settled.input) == (True, (0,), None)
    assert (settled.timeout_ns, settled.grace_ns, settled.drain_ns) == (-1, 100_000_000, 1_000_000_000)
    settled = settle(cmd("x", check=False, ok_codes=1, input=b"i", timeout=0, grace=0, drain_timeout=None))
    assert (settled.check, settled.ok_codes, settled.input) == (False, (1,), b"i")
    assert (settled.timeout_ns, settled.grace_ns, settled.drain_ns) == (0, 0, -1)


def test_attr_is_made_once_for_equal_options():
    """Commands with equal options share what is made of them, and its native struct."""
    first, second = cmd("a", nice=3, check=False), cmd("b", check=False).options(nice=3)
    assert lower(first, PARENT).attr["nice"] == 3
    assert lower(first, PARENT).attr is lower(first.args("x"), PARENT).attr
    assert settle(first) is settle(first.args("x"))
    assert lower(second, PARENT).attr == lower(first, PARENT).attr


def test_plan_is_kept_while_the_environment_stays():
    """The same environment object gives the same plan; another gives another."""
    command = cmd("x")
    plan = lower(command, PARENT)
    assert lower(command, PARENT) is plan
    other = Environment({b"PATH": b"/o"})
    assert lower(command, other).paths == b"/o/x\0"
    assert lower(command, PARENT).paths == plan.paths


def test_kept_plan_makes_no_cycle():
    """A command that is dropped is gone at once, its plan with it."""
    command = cmd("x")
    lower(command, PARENT)
    found = gc.get_referrers(command)
    assert [item for item in found if isinstance(item, Plan)] == []


def test_edited_environment_is_made_once():
    """env_add is applied once for each environment of the parent."""
    settled = settle(cmd("x", env_add={"B": "2"}))
    assert settled.environment_for(PARENT) is settled.environment_for(PARENT)
    other = Environment({})
    assert settled.environment_for(other).blob == b"B=2\0"
    assert settle(cmd("x")).environment_for(PARENT) is PARENT


def test_longest_strings_pass():
    """GOTCHAS F7: one byte less than 32 pages, and many of them, is left to the kernel."""
    longest = "a" * (STRING_MAX - 1)
    assert lower(cmd("x", longest, longest), PARENT).argc == 3
    assert lower(cmd("x", env={"A": longest[2:]}), PARENT).envc == 1


@pytest.mark.parametrize(
    ("command", "detail", "what"),
    [
        (cmd("x", "y", "a" * STRING_MAX), 2, f"argument 2 has {STRING_MAX} bytes, the limit is {STRING_MAX - 1}"),
        (cmd("x", argv0="a" * STRING_MAX), 0, f"argument 0 has {STRING_MAX} bytes"),
        (
            cmd("x", env={"B": "", "A": "a" * (STRING_MAX - 2)}),
            1,
            f"environment variable b'A' has {STRING_MAX} bytes with its name, the limit is {STRING_MAX - 1}",
        ),
    ],
    ids=["argument", "argv0", "variable"],
)
def test_too_long_a_string_is_e2big(command, detail, what):
    """It is refused before any child exists, with which it is, its size and the limit."""
    with pytest.raises(errors.SpawnError) as caught:
        lower(command, PARENT)
    error = caught.value
    assert (error.errno, error.stage, error.detail, error.argv) == (errno.E2BIG, "vectors", detail, command.argv)
    assert what in str(error)


def test_parents_long_variable_matters_only_when_inherited():
    """An environment that is not passed on is not checked."""
    parent = Environment({b"A": b"a" * STRING_MAX})
    assert lower(cmd("x", env={}), parent).envc == 0
    assert lower(cmd("x", env_remove=["A"]), parent).envc == 0
    with pytest.raises(errors.SpawnError, match="environment variable b'A'"):
        lower(cmd("x"), parent)


def test_size_note():
    """The sizes that the kernel adds up are said."""
    plan = lower(cmd("ls", "-l"), PARENT)
    assert plan.size_note(1000).startswith(
        "6 bytes of arguments, 23 bytes of environment and their 6 pointers are 77 bytes, the limit is 1000"
    )
