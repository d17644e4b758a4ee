"""The line that an expression prints as: what bash makes of it, and what no shell shall run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastproc import cmd, errors
from fastproc._values.combination import fd_of
from fastproc._values.options import DEFAULTS
from fastproc._values.quoting import CUT, cut, joined, pasteable, printable
from fastproc._values.shellline import LEFT_OUT, SHOWN
from fastproc._values.status import Result

REFUSED = {
    *("user", "group", "groups", "capabilities", "ambient", "bounding", "securebits", "root", "namespaces", "landlock"),
    *("seccomp", "uid_map", "gid_map", "time_offsets", "clean_env", "argv0", "listen_fds", "ctty", "cgroup"),
    "before_spawn",
}

TELL = (
    "import os,sys,json,signal,resource;"
    "print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), os.umask(0), os.getsid(0) == os.getpid(),"
    "sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))), signal.getsignal(signal.SIGUSR1) == 1,"
    "resource.getrlimit(resource.RLIMIT_NOFILE), open('/proc/self/status').read().split('NoNewPrivs:')[1].split()[0]]))"
)
NASTY = [
    "\x1b[31m",
    "a\nb",
    "\t",
    "'",
    "!x",
    "$HOME",
    "`id`",
    "\\",
    '"',
    "\x85",
    "\u202e",
    "\u2028",
    "\udcff",
    "~",
    "=ls",
]


def bash(line: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", "--", os.fsencode(line)], capture_output=True, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


def arguments(line: str) -> list[bytes]:
    """What bash makes of the words behind the program's name."""
    done = bash(f"p() {{ printf '%s\\0' \"$@\"; }}; {line}", env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr
    return done.stdout.split(b"\0")[:-1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary().map(lambda data: data.replace(b"\0", b"")), min_size=1))
def test_line_of_any_bytes_is_split_by_bash_into_the_same_bytes_and_prints(words):
    """Also what is no UTF-8, in any locale."""
    line = str(cmd("p", *words))
    assert line.isprintable()
    assert arguments(line) == words


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("a'!\x1b\n\\\x85\u202e\u2028\u00e9\U0001f600=~") | st.characters()), min_size=1)
)
def test_line_of_any_text_is_split_by_bash_into_the_same_text(words):
    """Those that mean something to a shell or a terminal above all."""
    words = [os.fsencode(word.encode("utf-8", "replace").replace(b"\0", b"")) for word in words]
    assert arguments(str(cmd("p", *words))) == words


def test_line_in_an_interactive_bash_is_free_of_history():
    """Each `!` of a word with escapes is one, and a quote in it ends nothing."""
    word = pasteable("a'\x1b!x!!")
    assert (word, arguments(f"p {word}")) == ("$'a\\047\\033\\041x\\041\\041'", [b"a'\x1b!x!!"])


def test_line_of_a_word_with_a_nul_is_a_syntax_error():
    """A shell would end the word there."""
    line = joined(["echo", "a\0b"])
    assert line.isprintable()
    assert (bash(line).returncode, bash(line).stdout) == (2, b"")


@pytest.mark.parametrize(
    "program", ["if", "exit", "cd", "time", "A=b", "%1", "-x", ".", "eval", "exec", "coproc", "=", "kill"]
)
def test_program_with_a_name_that_bash_has_itself_is_that_program(program, tmp_path):
    """Keywords are quoted, and env(1) starts what bash would do."""
    path = tmp_path / program if program != "." else None
    if path is not None:
        path.write_text("#!/bin/sh\necho program\n")
        path.chmod(0o755)
    line = str(cmd(program, "7"))
    done = bash(line, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.stdout == (b"program\n" if path is not None else b""), (line, done.stderr)


def test_every_option_is_shown_or_left_out_for_a_reason_or_refused():
    """A new option needs a decision: SHOWN or LEFT_OUT in shellline.py, or REFUSED here."""
    assert {*SHOWN, *LEFT_OUT, *REFUSED} == set(DEFAULTS)
    assert not SHOWN & set(LEFT_OUT)
    assert not REFUSED & {*SHOWN, *LEFT_OUT}
    assert all(LEFT_OUT.values())


REFUSING = [
    {"user": 65534},
    {"user": "nobody"},
    {"group": 65534},
    {"groups": [1, 2], "user": 1},
    {"root": "/srv"},
    {"root": "/srv", "cwd": "/"},
    {"capabilities": ()},
    {"namespaces": ("user", "mount")},
    {"argv0": "other"},
    {"cgroup": "/sys/fs/cgroup/x"},
    {"before_spawn": lambda command: command},
    {"user": "a b\x1b)", "cwd": "/tmp"},
    {"root": "/srv", "umask": 0o77, "env": {}, "stdout": "out"},
]


@pytest.mark.parametrize("options", REFUSING, ids=lambda options: "+".join(options))
def test_line_that_cannot_say_an_option_names_it_and_no_shell_runs_anything_of_it(options, tmp_path):
    """Alone, in a pipe, in a sequence, under a redirection, in a substitution, to a tee, behind another one."""
    (tmp_path / "data").touch()
    command = cmd("rm", "-rf", "data", **options)
    other = cmd("rm", "-rf", "data")
    many = [command, command | other, other | command, other.then(command), other.or_else(command), command.then(other)]
    many += [(other | command).stderr_null(), other.tee(command, other), other.tee(other, command)]
    many += [
        cmd("rm", "-rf", "data", fd_of(command)),
        cmd("rm", "data", fd_of(other | command)),
        command.unchecked() | other,
    ]
    for shell in ("bash", "dash"):
        for one in many:
            line = str(one)
            assert all(name in line for name in options if name in REFUSED), line
            assert line.isprintable()
            done = subprocess.run([shell, "-c", line], cwd=tmp_path, capture_output=True, timeout=60)
            assert (tmp_path / "data").exists(), (shell, line)
            assert b"yntax error" in done.stderr, (shell, line)
            assert os.listdir(tmp_path) == ["data"], (shell, line)


SAYING = [
    {},
    {"cwd": "/"},
    {"cwd": "-"},
    {"cwd": "sub"},
    {"umask": 0o77},
    {"umask": 0o77, "cwd": "/"},
    {"env": {"A": "1", "a-b": "x\x1b y"}},
    {"env_add": {"A": "x'\ny"}},
    {"env_add": {"é": "1"}},
    {"env_remove": ["HOME", "A B"]},
    {"env": {}, "umask": 0o27, "rlimits": {"nofile": (50, 60)}, "sigmask": ["INT", "TERM"]},
    {"setsid": True},
    {"setsid": True, "env_add": {"A": "1"}},
    {"no_new_privs": True},
    {"rlimits": {"nofile": 64, "core": 0}},
    {"sigmask": ["USR2", "INT"]},
    {"sigignore": ["USR1"]},
    {"sigignore": ["USR1"], "env_remove": ["HOME"], "setsid": True},
]


@pytest.mark.parametrize("options", SAYING, ids=lambda options: "+".join(options) or "none")
def test_line_run_by_bash_does_what_the_command_does(options, tmp_path, monkeypatch):
    """Arguments, directory, environment, umask, session, signals, limits and no_new_privs are those of the run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "-").mkdir()
    command = cmd(sys.executable, "-I", "-S", "-c", TELL, *NASTY, **options)
    line = str(command)
    assert line.isprintable()
    told = json.loads(command.run(capture=True).stdout)
    done = bash(line)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for one in (told, found):
        # bash's own, and those that it may set of the terminal's size.
        for name in ("_", "OLDPWD", "PWD", "SHLVL", "LC_CTYPE", "LINES", "COLUMNS"):
            one[2].pop(name, None)
    assert found == told


def test_redirections_of_a_line_are_opened_where_those_of_the_run_are(tmp_path, monkeypatch):
    """In the directory of whoever starts it, and not in that of the program; with the umask of the former."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    os.umask(old := os.umask(0o22))
    del old
    command = cmd("sh", "-c", "cat; pwd; umask", stdin="in", stdout="out", stderr="err", cwd="sub", umask=0o77)
    (tmp_path / "in").write_text("input\n")
    command.run()
    ran = [(tmp_path / name).read_text() for name in ("out", "err")], (tmp_path / "out").stat().st_mode
    for name in ("out", "err"):
        (tmp_path / name).unlink()
    assert bash(str(command)).returncode == 0
    assert ([(tmp_path / name).read_text() for name in ("out", "err")], (tmp_path / "out").stat().st_mode) == ran
    assert os.listdir(tmp_path / "sub") == []


def test_line_that_was_cut_is_run_by_no_shell(tmp_path):
    """Half of a command may do more than the whole, and its last word would be a pattern."""
    (tmp_path / "data").touch()
    line = str(cmd("rm", "-rf", "data", *["x y$(id)\x1b"] * 9, "--help"))
    for length in range(len("rm -rf data"), len(line)):
        short = cut(line, length)
        assert short.endswith(CUT)
        assert bash(short, cwd=tmp_path).returncode != 0
        assert (tmp_path / "data").exists(), short


CONTROLS = "\x1b[2J\r\n\x9b31m\x7f\u202e\u2066\u2028\u2029\udc80\x00"


def test_printable_text_has_no_control_in_it():
    """C0, DEL, C1, bidirectional overrides, separators of lines, surrogates."""
    assert printable(CONTROLS) == r"\x1b[2J\r\n\x9b31m\x7f\u202e\u2066\u2028\u2029\udc80\x00"
    assert printable("a\nb\x1b", "\n") == "a\nb\\x1b"
    assert printable("é 日本 \U0001f600") == "é 日本 \U0001f600"


def test_messages_show_no_control_of_arguments_and_outputs():
    """The line in str() and repr() is one line; the end of stderr keeps its lines, and nothing else."""
    argv = ("prog\x1b", "a\nERROR: forged", CONTROLS.replace("\x00", ""))
    stderr = b"one\x1b[2Jtwo\r\n\tthree \xc2\x9b \xff\x00 \xe2\x80\xae\n"
    result = Result(argv, 1, b"", stderr, 12, 5_000_000, None, "clone")
    failed = errors.exit_error(result)
    late = errors.timeout_expired(argv, 1.0, result)
    for text in (str(failed), str(late), str(errors.timeout_expired("sleep\x1b\n", 1.0))):
        assert all(line.replace("\t", "").isprintable() for line in text.split("\n")), text
    assert str(failed).split("\n")[1:] == ["one\\x1b[2Jtwo", "\tthree \\x9b \\xff\\x00 \\u202e"]
    assert repr(result).isprintable()
    assert str(failed).split("\n")[0].startswith("`$'prog\\033' $'a\\nERROR: forged' $'\\033[2J")


def test_messages_of_others_show_no_control():
    """A path that was searched, a reason of an executor, the name of a watched process, a daemon's error, a status."""
    from fastproc.daemon import DaemonError, PidFileError
    from fastproc.monitor._rules import ProcessAlert, Rule
    from fastproc.systemd import NotReady

    bad = "x\x1b[2J\u202e"
    shown = [
        errors.spawn_error(2, "exec", argv=[bad], searched=bad, extra=bad),
        errors.spawn_error(2, "cwd", argv=[bad], filename=bad),
        errors.WorkerLost(bad, [bad], bad),
        errors.ExitStatusUnknown(5, [bad]),
        ProcessAlert("died", 5, bad, 0.0, returncode=1),
        ProcessAlert("unknown", 5, bad, 0.0, rule=Rule("cpu", above=1), reason=bad),
        DaemonError(bad, bad, bad, exit_code=1),
        DaemonError("ready", bad, bad, f"Traceback:\n  {bad}"),
        PidFileError(bad, bad),
        NotReady((bad,), 5, None, bad, None, "is not ready"),
    ]
    for one in shown:
        assert "[2J" in str(one)
        assert all(line.isprintable() for line in str(one).split("\n")), repr(str(one))
        assert repr(one).isprintable()


@pytest.mark.parametrize("place", ["data", "+1", "-", "a b/../c"])
def test_relative_directory_is_not_searched_elsewhere(place, tmp_path):
    """CDPATH and a stack of directories would lead to others."""
    here, other = tmp_path / "here" / "a b", tmp_path / "other"
    for folder in (here, *(one / place for one in (tmp_path / "here", other))):
        folder.mkdir(parents=True, exist_ok=True)
    script = f"cd {tmp_path / 'other'} && cd {tmp_path / 'here'} && " + str(cmd("pwd", cwd=place))
    done = bash(script, env={"CDPATH": str(other), "PATH": "/usr/bin:/bin"})
    assert done.stdout.decode().splitlines()[-1] == os.path.normpath(tmp_path / "here" / place)


def test_printf_assigns_no_variable_of_the_shell():
    line = str(cmd("printf", "-v", "PATH", "x"))
    assert bash(f"{line} 2>/dev/null; echo $PATH", env={"PATH": "/usr/bin:/bin"}).stdout.endswith(b"/usr/bin:/bin\n")
    assert str(cmd("printf", "x")) == "printf x"
