"""Command as a value: construction, equality, copies, texts, builders."""

from __future__ import annotations

import copy
import os
import pickle
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.command import Command, cmd
from fastproc._values.options import NONE
from fastproc._values.redirect import DEVNULL, PIPE, STDERR, STDOUT, Append

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
encoded = st.binary().map(lambda data: data.replace(b"\0", b""))
argvs = st.tuples(words.filter(bool) | encoded.filter(bool)).flatmap(
    lambda first: st.lists(words | encoded | words.filter(bool).map(Path)).map(lambda rest: (*first, *rest))
)


@given(argvs)
def test_argv_of_any_kind_round_trips(argv):
    """Text, bytes and paths become text; the blob holds exactly their bytes."""
    command = cmd(*argv)
    assert command.argv == tuple(os.fsdecode(item) for item in argv)
    assert command._blob == b"".join(os.fsencode(item) + b"\0" for item in argv)
    assert command == cmd(list(argv)) == cmd(tuple(argv)) == Command(iter(argv))


@given(argvs)
def test_repr_evaluates_to_an_equal_command(argv):
    """The shown call makes the command again."""
    command = cmd(*argv)
    assert eval(repr(command)) == command


@given(st.lists(words, min_size=1).filter(lambda items: items[0]))
def test_str_is_a_line_of_printing_characters_that_a_shell_splits_into_argv(argv):
    """The line is shlex.join's, where all that is in it prints and the program's name is nothing to a shell."""
    line = str(cmd("p", *argv))
    assert line.isprintable()
    if "".join(argv).isprintable() and not any(item[:1] == "=" != item for item in argv):
        assert line == shlex.join(["p", *argv])


@given(st.lists(words | st.just("a\0b") | st.just(b"\0"), min_size=1))
def test_nul_is_refused_wherever_it_is(argv):
    """GOTCHAS F5: an argument with a NUL is named, and never cut."""
    bad = [index for index, item in enumerate(argv) if "\0" in os.fsdecode(item)]
    if bad:
        with pytest.raises(ValueError, match=f"^argument {bad[0]}: has a NUL byte at index"):
            cmd(argv)
    elif argv[0]:
        assert len(cmd(argv).argv) == len(argv)


@pytest.mark.parametrize(
    ("argv", "kind", "text"),
    [
        ([], ValueError, "argv: is empty"),
        ([""], ValueError, "argument 0: the program's name is empty"),
        (["", "a"], ValueError, "argument 0: the program's name is empty"),
        ([b""], ValueError, "argument 0: the program's name is empty"),
        (["\0"], ValueError, "argument 0: has a NUL byte at index 0"),
        (["ls", 5], TypeError, "argument 1: must be str, bytes or os.PathLike, not int"),
        (["ls", None], TypeError, "argument 1: must be str, bytes or os.PathLike, not NoneType"),
        (["ls", ["a"]], TypeError, "argument 1: must be str, bytes or os.PathLike, not list"),
        (["ls", "\ud800"], ValueError, "argument 1: cannot be encoded"),
    ],
)
def test_bad_argv_is_refused(argv, kind, text):
    """GOTCHAS F8: no program, or what is no argument, is refused with its index."""
    for make in (lambda: cmd(argv), lambda: cmd(tuple(argv)), lambda: Command(argv)):
        with pytest.raises(kind) as caught:
            make()
        assert str(caught.value).startswith(text)


def test_one_text_is_not_an_argv():
    """Command("ls") would be the arguments l and s."""
    for text in ("ls", b"ls"):
        with pytest.raises(TypeError, match="argv: must be a list or tuple"):
            Command(text)
    with pytest.raises(TypeError, match="argument 0: must be str"):
        cmd(["ls"], "x")


def test_empty_arguments_are_kept():
    """An empty argument is one."""
    command = cmd("a", "", "")
    assert (command.argv, command._blob) == (("a", "", ""), b"a\0\0\0")


def test_command_cannot_be_changed():
    """No attribute can be set."""
    command = cmd("ls")
    for name in ("argv", "option", "nosuch"):
        with pytest.raises(AttributeError):
            setattr(command, name, ("rm",))


def test_equality_and_hash_are_of_arguments_and_normal_options():
    """Equal commands hash alike; anything else differs."""
    first = cmd("ls", cwd=Path("/x"), env={b"A": b"1"}, timeout=5, sigmask=["TERM"])
    same = cmd(b"ls", cwd="/x", env={"A": "1"}, timeout=5.0, sigmask=[15], check=True)
    assert first == same
    assert hash(first) == hash(same) == hash(first)
    assert {first, same} == {first}
    assert cmd("ls") != cmd("ls", "x")
    assert cmd("ls") != cmd("ls", nice=0)
    assert cmd("ls") != "ls"


COMMANDS = [
    cmd("ls"),
    cmd("ls", "-l", b"\xff", cwd="/", env={"A": "1"}, rlimits={"NOFILE": (1, 2)}, sigmask="keep"),
    cmd("ls", stdout=PIPE, stderr=STDOUT, stdin=DEVNULL, fds={5: 3}, affinity=[0, 70], ionice="idle", timeout=0.5),
    cmd("ls", stdout=Append("log"), input=b"x", scheduler=("rr", 3), check=False, env_remove=["A"], env_add={"B": "2"}),
]


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_copies_and_pickles_are_equal(command):
    """A copy of a command is the command; what is cached does not travel."""
    from fastproc._values.environment import Environment
    from fastproc._values.plan import lower, settle

    if not settle(command).needs_io:
        lower(command, Environment({}))
    hash(command)
    for again in (
        copy.copy(command),
        copy.deepcopy(command),
        eval(repr(command)),
        *(pickle.loads(pickle.dumps(command, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)),
    ):
        assert again == command
        assert (hash(again), repr(again), again._plan) == (hash(command), repr(command), None)


def test_default_options_are_one_object():
    """A command without options has the shared empty ones."""
    assert cmd("ls", check=True)._options is cmd("ls")._options is NONE
    assert cmd("ls", cwd="/x").option("cwd") == "/x"
    assert cmd("ls").option("timeout") is None


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (lambda c: c.options(nice=3), {"nice": 3}),
        (lambda c: c.options(nice=3).options(nice=None), {}),
        (lambda c: c.dir("/x"), {"cwd": "/x"}),
        (lambda c: c.dir(4), {"cwd": 4}),
        (lambda c: c.dir("/x").dir("/y"), {"cwd": "/x"}),
        (lambda c: c.env("A", "1").env("B", "2").env(b"A", b"3"), {"env_add": {"A": "1", "B": "2"}}),
        (lambda c: c.env("A", "1").env_remove("A", "B"), {"env_remove": ["B"], "env_add": {"A": "1"}}),
        (lambda c: c.env_remove("A").env("A", "1"), {"env_remove": ["A"]}),
        (
            lambda c: c.env("A", "1").env_remove("B").full_env({"C": "3"}),
            {"env": {"C": "3"}, "env_add": {"A": "1"}, "env_remove": ["B"]},
        ),
        (lambda c: c.full_env({}), {"env": {}}),
        (lambda c: c.full_env({}).env("A", "1").env_remove("B").full_env({"C": "3"}), {"env": {}}),
        (lambda c: c.stdin_path("f").stdin_bytes(b"x"), {"stdin": "f"}),
        (lambda c: c.stdin_bytes(b"x").stdin_path("f"), {"input": b"x"}),
        (lambda c: c.stdin_file(3).stdin_null(), {"stdin": 3}),
        (lambda c: c.stdin_null(), {"stdin": DEVNULL}),
        (lambda c: c.stdout_null().stdout_capture(), {"stdout": DEVNULL}),
        (lambda c: c.stdout_null().stdout_to_stderr(), {"stdout": DEVNULL}),
        (lambda c: c.stdout_stderr_swap().stdout_capture(), {"swap_outputs": True, "stdout": PIPE}),
        (lambda c: c.stderr_to_stdout().stdout_path("f"), {"stdout": "f", "stderr": STDOUT}),
        (lambda c: c.stdout_path("f"), {"stdout": "f"}),
        (lambda c: c.stdout_append("f"), {"stdout": Append("f")}),
        (lambda c: c.stdout_file(3), {"stdout": 3}),
        (lambda c: c.stdout_null(), {"stdout": DEVNULL}),
        (lambda c: c.stdout_capture(), {"stdout": PIPE}),
        (lambda c: c.stdout_to_stderr(), {"stdout": STDERR}),
        (lambda c: c.stderr_path("f"), {"stderr": "f"}),
        (lambda c: c.stderr_append("f"), {"stderr": Append("f")}),
        (lambda c: c.stderr_file(3), {"stderr": 3}),
        (lambda c: c.stderr_null(), {"stderr": DEVNULL}),
        (lambda c: c.stderr_capture(), {"stderr": PIPE}),
        (lambda c: c.stderr_to_stdout(), {"stderr": STDOUT}),
        (lambda c: c.stdout_stderr_swap(), {"swap_outputs": True}),
        (lambda c: c.stdout_stderr_swap().stdout_stderr_swap(), {}),
        (lambda c: c.unchecked(), {"check": False}),
        (lambda c: c.before_spawn(len).before_spawn(repr), {"before_spawn": [repr, len]}),
    ],
)
def test_builder_returns_a_new_command(build, options):
    """Each builder is the same as its options, and leaves the original alone."""
    command = cmd("ls", "-l")
    made = build(command)
    assert made == cmd("ls", "-l", **options)
    assert made._blob == command._blob
    assert command == cmd("ls", "-l")


@pytest.mark.parametrize(
    "build",
    [
        lambda c: c.stdout_path("f").stderr_to_stdout(),
        lambda c: c.stderr_path("f").stdout_to_stderr(),
        lambda c: c.stdout_path("f").stdout_stderr_swap(),
        lambda c: c.stderr_to_stdout().stdout_to_stderr(),
        lambda c: c.stdout_stderr_swap().stderr_to_stdout(),
    ],
)
def test_redirection_that_options_cannot_say_is_put_around_the_command(build):
    """Where a stream goes depends on what is outside of the command then, not on its own redirection."""
    from fastproc._values.combination import Scoped

    assert isinstance(build(cmd("ls")), Scoped)


def test_path_object_is_the_file_of_that_name():
    """As duct has it: pathlib drops a leading "./", and execvp(3) would search PATH; text is left alone."""
    assert cmd(Path("run.sh"), Path("x")).argv == ("./run.sh", "x")
    assert cmd(Path("bin/run.sh")).argv == ("bin/run.sh",)
    assert cmd(Path("/bin/ls")).argv == ("/bin/ls",)
    assert cmd("run.sh").argv == ("run.sh",)


def test_dir_leaves_a_relative_program_where_it_is():
    """The method has duct's rule; the option has execve(2)'s."""
    assert cmd("./ls").dir("/x") == cmd("./ls", cwd="/x", relative_to_parent=True)
    assert cmd("ls").dir("/x") == cmd("ls", cwd="/x")
    assert cmd("/bin/ls").dir("/x") == cmd("/bin/ls", cwd="/x")
    assert str(cmd("./ls").dir("/x")) == 'cd /x && "$OLDPWD"/./ls'


def test_args_adds_arguments_and_keeps_options():
    """args() takes what cmd() takes."""
    assert cmd("ls", nice=3).args("-l", b"\xff").args(Path("x")) == cmd("ls", "-l", b"\xff", "x", nice=3)
    with pytest.raises(TypeError, match="argument 2: must be str"):
        cmd("ls", "a").args(5)


@pytest.mark.parametrize("build", [lambda c: c.env("", "1"), lambda c: c.env_remove("A=B"), lambda c: c.dir("")])
def test_builder_refuses_what_the_option_refuses(build):
    """A bad value fails in the builder's call."""
    with pytest.raises(ValueError):
        build(cmd("ls"))


class HasFileno:
    def fileno(self):
        return 9


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (cmd("git", "log", "--format=%h %s", cwd="/s p"), "cd '/s p' && git log '--format=%h %s'"),
        (cmd("ls", cwd=5), "cd /dev/fd/5 && ls"),
        (cmd("ls", env_add={"LANG": "C", "a-b": "x y"}), "env LANG=C 'a-b=x y' ls"),
        (cmd("ls", env_add={"a b": "1"}, env_remove=["X", "Y"]), "env -u X -u Y 'a b=1' ls"),
        (cmd("ls", env={}), "env -i ls"),
        (cmd("ls", env={"A": "1", "B": "2"}, env_remove=["B"], env_add={"C": "3"}), "env -i A=1 C=3 ls"),
        (cmd("ls", stdin="a b", stdout="o", stderr="e"), "ls <'a b' >o 2>e"),
        (cmd("ls", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL), "ls </dev/null >/dev/null 2>/dev/null"),
        (cmd("ls", stdout=Append("o"), stderr=Append("e")), "ls >>o 2>>e"),
        (cmd("ls", stdout="o", stderr=STDOUT), "ls >o 2>&1"),
        (cmd("ls", stdout=STDERR, stderr="e"), "ls 2>e 1>&2"),
        (cmd("ls", stdin=4, stdout=5, stderr=6), "ls <&4 >&5 2>&6"),
        (cmd("ls", stdout=HasFileno(), fds={7: HasFileno(), 8: 3}), "ls >&9 7<&9 8<&3"),
        (cmd("ls", swap_outputs=True), "ls 3>&1 1>&2 2>&3 3>&-"),
        (cmd("ls", capture=True, input=b"x", nice=3, timeout=3), "ls"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_str_shows_what_a_shell_can_say(command, line):
    """Directory, environment and redirections are in the line."""
    assert str(command) == line


def test_run_start_and_read_use_the_front_door(monkeypatch):
    """The three methods hand the command and the options on."""
    import sys

    import fastproc._run  # noqa: F401
    from fastproc._values.status import Result

    module = sys.modules["fastproc._run"]  # fastproc.run is the function
    calls = []

    def fake(command, **options):
        calls.append((command, options))
        return Result(command.argv, 0, b"out\n\n", None, 1, 1, None, "clone")

    monkeypatch.setattr(module, "run", fake)
    monkeypatch.setattr(module, "start", fake)
    command = cmd("ls")
    command.run(timeout=5)
    command.start(nice=3)
    assert command.read(check=False) == "out"
    assert calls == [
        (command, {"timeout": 5}),
        (command, {"nice": 3}),
        (cmd("ls", stdout=PIPE), {"check": False}),
    ]
