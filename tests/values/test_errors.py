"""The exception tree: classes, texts, copies. No process is started."""

from __future__ import annotations

import copy
import errno
import pickle
import subprocess
import sys

import pytest

from fastproc import errors
from fastproc._values.status import CORE_DUMPED, TERMINATED, TIMED_OUT, Result

ROUND_TRIPS = [
    copy.copy,
    copy.deepcopy,
    *(lambda error, n=n: pickle.loads(pickle.dumps(error, n)) for n in range(2, pickle.HIGHEST_PROTOCOL + 1)),
]


def result(returncode=2, stdout=b"out", stderr=b"ls: no\n", flags=0, argv=("ls", "/no such")):
    return Result(argv, returncode, stdout, stderr, 12, 5_000_000, None, "clone", flags)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, FileNotFoundError),
        (errno.EACCES, PermissionError),
        (errno.EPERM, PermissionError),
        (errno.ENOTDIR, NotADirectoryError),
        (errno.EISDIR, IsADirectoryError),
        (errno.EAGAIN, BlockingIOError),
        (errno.ENOMEM, OSError),
    ],
)
def test_spawn_error_of_errno_is_the_standard_subclass(number, kind):
    """It can be caught under the class that the standard library would raise."""
    error = errors.spawn_error(number, "exec", argv=("x",))
    assert isinstance(error, kind)
    assert isinstance(error, errors.SpawnError)
    assert isinstance(error, errors.ProcessError)
    assert (error.errno, error.filename, error.stage, error.detail) == (number, "x", "exec", 0)


@pytest.mark.parametrize("number", range(1, 134))
def test_spawn_error_of_every_errno_says_number_and_stage(number):
    """No errno makes the factory fail."""
    text = str(errors.spawn_error(number, "clone", argv=("x",)))
    assert text.startswith(f"[Errno {number}] cannot start 'x': ")
    assert text.endswith("(stage clone)")


def test_spawn_error_texts():
    """The text names program, reason, stage, and what belongs to the stage."""
    make = errors.spawn_error
    assert [
        str(make(2, "exec", 1, argv=("nosuch",), searched=b"/usr/bin:/bin")),
        str(make(2, "exec", argv=("./script",), extra="its interpreter is missing")),
        str(make(8, "exec", argv=("./script",))),
        str(make(2, "cwd", argv=("ls",), filename=b"/gone")),
        str(make(13, "redirect", argv=("ls",), filename="/root/x")),
        str(make(1, "rlimits", 3, argv=("ls",))),
        str(make(12, "stack")),
    ] == [
        "[Errno 2] cannot start 'nosuch': no such file (stage exec, searched /usr/bin:/bin)",
        "[Errno 2] cannot start './script': no such file: its interpreter is missing (stage exec)",
        "[Errno 8] cannot start './script': exec format error (no #! line? it is not handed to /bin/sh; "
        "run it as `sh FILE`) (stage exec)",
        "[Errno 2] cannot start 'ls': cannot enter '/gone': no such file or directory (stage cwd)",
        "[Errno 13] cannot start 'ls': cannot open '/root/x': permission denied (stage redirect)",
        "[Errno 1] cannot start 'ls': operation not permitted (stage rlimits)",
        "[Errno 12] cannot start None: cannot allocate memory (stage stack)",
    ]


@pytest.mark.parametrize("again", ROUND_TRIPS)
@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOMEM])
def test_spawn_error_copied_keeps_class_and_attributes(again, number):
    """Pickles and copies are the same error, notes included."""
    error = errors.spawn_error(number, "cwd", 4, argv=("a", "b"), filename="/x", searched="/bin", extra="more")
    error.add_note("note")
    other = again(error)
    assert type(other) is type(error)
    assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))
    assert (other.errno, other.filename) == (number, "/x")


def test_exit_error_is_a_called_process_error():
    """It has what subprocess's has, and the result."""
    error = errors.exit_error(result())
    assert type(error) is errors.ExitError
    assert isinstance(error, subprocess.CalledProcessError)
    assert isinstance(error, errors.ProcessError)
    assert (error.returncode, error.cmd, error.output, error.stdout, error.stderr) == (
        2,
        ["ls", "/no such"],
        b"out",
        b"out",
        b"ls: no\n",
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (result(), "`ls '/no such'`: exit status 2\nls: no"),
        (result(stderr=None), "`ls '/no such'`: exit status 2"),
        (result(-9, stderr=b""), "`ls '/no such'`: killed by SIGKILL"),
        (result(-11, stderr=b"\xff", flags=CORE_DUMPED), "`ls '/no such'`: killed by SIGSEGV (core dumped)\n\\xff"),
    ],
)
def test_exit_error_text(given, text):
    """It shows the shell line, the status in words and the end of stderr."""
    assert str(errors.exit_error(given)) == text


def test_exit_error_of_long_arguments_is_cut():
    """A long line does not hide the status."""
    text = str(errors.exit_error(result(argv=("x" * 5000,), stderr=b"")))
    assert text == f"`{'x' * 1000} ([...])`: exit status 2"


def test_exit_error_of_much_stderr_shows_the_end():
    """A long stderr is cut at its start."""
    text = str(errors.exit_error(result(stderr=b"".join(b"line %d\n" % n for n in range(10_000)))))
    assert text.startswith("`ls '/no such'`: exit status 2\n[...]\n")
    assert text.endswith("line 9999")
    assert len(text) < 2100
    assert str(errors.exit_error(result(stderr=b"z" * 10_000))).count("z") == 2000


@pytest.mark.parametrize("again", ROUND_TRIPS)
def test_exit_error_copied_keeps_the_result(again):
    """Pickles and copies carry the result."""
    other = again(errors.exit_error(result()))
    assert type(other) is errors.ExitError
    assert (str(other), other.result.stdout) == ("`ls '/no such'`: exit status 2\nls: no", b"out")


def test_timeout_expired_is_both_standard_ones():
    """It has what subprocess's has, and the partial result."""
    partial = result(-15, flags=TIMED_OUT | TERMINATED)
    error = errors.timeout_expired(partial.argv, 0.5, partial)
    assert type(error) is errors.TimeoutExpired
    assert isinstance(error, subprocess.TimeoutExpired)
    assert isinstance(error, TimeoutError)
    assert isinstance(error, errors.ProcessError)
    assert (error.cmd, error.timeout, error.output, error.stdout, error.stderr) == (
        ["ls", "/no such"],
        0.5,
        b"out",
        b"out",
        b"ls: no\n",
    )
    assert error.result is partial
    assert str(error) == "`ls '/no such'` timed out after 0.5 seconds: killed by SIGTERM\nls: no"


def test_timeout_expired_without_result_is_a_wait_that_ended():
    """A wait() that timed out has no result, and its arguments are subprocess's."""
    assert str(errors.timeout_expired(("a",), 3)) == "`a` timed out after 3 seconds"
    error = errors.TimeoutExpired("a b", 3, b"o", b"e")
    assert (error.cmd, error.output, error.stderr, error.result) == ("a b", b"o", b"e", None)
    assert str(error) == "`a b` timed out after 3 seconds"


@pytest.mark.parametrize("again", ROUND_TRIPS)
def test_timeout_expired_copied_keeps_everything(again):
    """Pickles and copies carry output and result."""
    error = errors.timeout_expired(("ls",), 0.5, result(-15, flags=TIMED_OUT))
    other = again(error)
    assert type(other) is errors.TimeoutExpired
    assert (str(other), other.output, other.result.timed_out) == (str(error), b"out", True)


@pytest.mark.parametrize("again", ROUND_TRIPS)
def test_exit_status_unknown_copied_keeps_who_it_was(again):
    """It carries pid, arguments and output."""
    error = errors.ExitStatusUnknown(7, ["x", "y"], b"o", None)
    for each in (error, again(error)):
        assert (each.pid, each.argv, each.stdout, each.stderr) == (7, ("x", "y"), b"o", None)
        assert str(each) == "'x' (pid 7) has ended, but its status was taken by another wait() in this process"
    assert str(errors.ExitStatusUnknown(7)).startswith("the child (pid 7)")


def test_unsupported_is_not_implemented():
    """It is caught as NotImplementedError too."""
    assert issubclass(errors.Unsupported, (errors.ProcessError, NotImplementedError))


def test_module_names():
    """The lazily made classes are found by name, and pickle under it."""
    assert errors.ExitError is sys.modules["fastproc.errors"].__getattr__("ExitError")
    assert errors.ExitError.__module__ == errors.TimeoutExpired.__module__ == "fastproc.errors"
    assert set(errors.__all__) <= set(dir(errors))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        errors.__getattr__("Nothing")
