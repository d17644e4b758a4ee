"""Expressions that run: one suite over the blocking driver and those of event loops.

The rules are duct's; docs/pipelines.md names the test for each.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import cgroup_folder, isolated
from fastproc import Command, Expression, PipelineResult, aio, cmd, fd_of, fd_to
from fastproc import pipeline as service
from fastproc.containment._cgroup import Cgroup
from fastproc.containment._member import facts_of
from support.drivers import need, run_in

DRIVERS = ("blocking", "exchange", "asyncio", "uvloop", "trio")
"""Blocking by the C core where it can, blocking by the engine alone, and in event loops."""

Go = Callable[..., PipelineResult]


@pytest.fixture(params=DRIVERS)
def go(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Go:
    """Run an expression by each driver."""
    name: str = request.param
    if name == "exchange":
        monkeypatch.setattr(service, "_FORCED_ENGINE", name)
    if name in ("blocking", "exchange"):
        return lambda expression, **options: fastproc.run(expression, **options)  # type: ignore[return-value]
    need(name)
    return lambda expression, **options: run_in(name, lambda: aio.run(expression, **options))


def sh(script: str, **options: Any) -> Command:
    return cmd("sh", "-c", script, **options)


def out(result: PipelineResult) -> bytes:
    assert result.stdout is not None
    return result.stdout


HELLO = cmd("printf", "hello\\n")
CAT = cmd("cat")
BOTH = sh("echo out; echo err >&2")
FAIL = sh("cat >/dev/null; exit 3")


# -- what a pipeline is


def test_pipeline_gives_what_the_last_stage_writes(go: Go) -> None:
    """Three programs, kernel pipes between them, the last one captured; each stage has a Result of its own."""
    result = go(cmd("printf", "b\\na\\n") | cmd("sort") | cmd("tr", "a-z", "A-Z"), capture=True)
    assert (result.returncode, result.stdout, result.stderr, result.ok) == (0, b"A\nB\n", b"", True)
    assert [stage.argv[0] for stage in result.stages] == ["printf", "sort", "tr"]
    for stage in result.stages:
        assert (stage.returncode, stage.stdout, stage.stderr, stage.checked) == (0, None, b"", True)
        assert stage.mechanism == result.mechanism
        assert stage.usage is not None
        assert 0 < stage.duration <= result.duration
    assert len({stage.pid for stage in result.stages}) == 3
    assert result.usage is not None
    assert result.usage.minflt == sum(stage.usage.minflt for stage in result.stages if stage.usage)
    assert result.line == "printf 'b\\na\\n' | sort | tr a-z A-Z"


def test_expression_runs_again_and_is_not_changed(go: Go) -> None:
    """A value: the second run is as the first."""
    pipeline = cmd("printf", "x") | CAT
    text = repr(pipeline)
    assert [out(go(pipeline, capture=True)) for _ in range(3)] == [b"x"] * 3
    assert repr(pipeline) == text


def test_nothing_is_captured_unless_asked(go: Go) -> None:
    """As for a command."""
    result = go(cmd("true") | cmd("true"))
    assert (result.stdout, result.stderr, [stage.stderr for stage in result.stages]) == (None, None, [None, None])


def test_input_is_fed_to_the_first_stage(go: Go) -> None:
    """More than all pipes hold, through stages that all pass it on."""
    data = os.urandom(1 << 20)
    assert out(go(CAT | CAT | CAT, input=data, capture=True)) == data
    assert out(go((CAT | CAT).stdin_bytes([b"a", b"b"]), capture=True)) == b"ab"


def test_input_that_nobody_reads_is_no_error(go: Go) -> None:
    """duct: EPIPE of the feeder is caught (GOTCHAS E4)."""
    assert go(cmd("true") | cmd("true"), input=bytes(1 << 20)).ok


def test_failing_input_iterator_ends_everything(go: Go) -> None:
    """What it raises comes out; the children are gone."""

    def broken() -> Iterator[bytes]:
        yield b"some"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        go(CAT | CAT, input=broken(), capture=True)


# -- statuses


@pytest.mark.parametrize(
    ("left", "right", "status", "stage", "raises"),
    [
        ((0, True), (0, True), 0, 1, False),
        ((3, True), (0, True), 3, 0, True),
        ((0, True), (4, True), 4, 1, True),
        ((3, True), (4, True), 4, 1, True),
        ((3, False), (4, True), 4, 1, True),
        ((3, True), (4, False), 3, 0, True),
        ((3, False), (4, False), 4, 1, False),
        ((3, False), (0, True), 3, 0, False),
        ((0, True), (4, False), 4, 1, False),
    ],
)
def test_status_precedence_of_a_pipe(
    go: Go,
    left: tuple[int, bool],
    right: tuple[int, bool],
    status: int,
    stage: int,
    raises: bool,
) -> None:
    """duct: a checked error trumps an unchecked one, any error success, and the right side wins of two alike."""

    def side(code: int, checked: bool) -> Expression:
        command = sh(f"cat; exit {code}")
        return command if checked else command.unchecked()

    pipeline = side(*left) | side(*right)
    if raises:
        with pytest.raises(fastproc.ExitError) as caught:
            go(pipeline, stdin=fastproc.DEVNULL)
        result: Any = caught.value.result
    else:
        result = go(pipeline, stdin=fastproc.DEVNULL)
    assert (result.returncode, result.argv) == (status, result.stages[stage].argv)
    assert result.failed is (result.stages[stage] if status else None)
    assert [s.returncode for s in result.stages] == [left[0], right[0]]


def test_unchecked_sticks_to_the_statuses_inside(go: Go) -> None:
    """duct: to a whole pipe, also where one side of it is checked; and not to its neighbour."""
    assert go((FAIL | CAT).unchecked(), stdin=fastproc.DEVNULL).returncode == 3
    assert go(FAIL | CAT, stdin=fastproc.DEVNULL, check=False).returncode == 3
    with pytest.raises(fastproc.ExitError):
        go((FAIL | CAT).unchecked() | sh("cat; exit 5"), stdin=fastproc.DEVNULL)
    # Inside the unchecked pipe the checked error still trumps the unchecked one.
    assert go((sh("exit 3") | sh("cat; exit 4").unchecked()).unchecked()).returncode == 3


def test_ok_codes_are_each_stages_own(go: Go) -> None:
    """A grep that finds nothing is no error where it says so, and one elsewhere."""
    nothing = cmd("grep", "x", ok_codes=(0, 1))
    assert go(HELLO | nothing | CAT, capture=True).ok
    result = go(HELLO | nothing, capture=True)
    assert (result.returncode, result.ok, [s.ok for s in result.stages]) == (1, True, [True, True])
    with pytest.raises(fastproc.ExitError):
        go(HELLO | cmd("grep", "x") | CAT, capture=True)
    assert go(HELLO | cmd("grep", "x") | CAT, capture=True, ok_codes=(0, 1)).ok


def test_sigpipe_of_an_upstream_stage_is_success_by_default(go: Go) -> None:
    """GOTCHAS E15: its reader had enough. The policy can be turned off for a stage or for all."""
    result = go(cmd("yes") | cmd("head", "-n", "1"), capture=True)
    assert (result.stdout, result.returncode, result.ok) == (b"y\n", 0, True)
    yes = result.stages[0]
    assert (yes.returncode, yes.signal, yes.broken_pipe, yes.ok) == (-13, 13, True, True)
    for pipeline, options in (
        (cmd("yes") | cmd("head", "-n", "1"), {"sigpipe_ok": False}),
        (cmd("yes", sigpipe_ok=False) | cmd("head", "-n", "1"), {}),
    ):
        with pytest.raises(fastproc.ExitError) as caught:
            go(pipeline, capture=True, **options)
        assert caught.value.returncode == -13
        assert caught.value.stdout == b"y\n"


def test_sigpipe_of_the_last_stage_is_an_error(go: Go) -> None:
    """Only where the stage writes to another one is it known who stopped reading."""
    with pytest.raises(fastproc.ExitError):
        go(CAT | sh("kill -PIPE $$"), stdin=fastproc.DEVNULL)


def test_error_names_the_stage_with_its_stderr(go: Go) -> None:
    """Not the stderr of the others."""
    with pytest.raises(fastproc.ExitError) as caught:
        go(
            sh("echo quiet >&2") | sh("cat; echo the reason >&2; exit 7") | sh("cat; echo noise >&2"),
            capture=True,
        )
    error = caught.value
    text = str(error)
    assert text.startswith("`sh -c 'cat; echo the reason >&2; exit 7'` (stage 2 of 3 of `sh -c 'echo quiet >&2' | ")
    assert text.endswith("): exit status 7\nthe reason")
    assert error.returncode == 7
    result: Any = error.result
    assert [stage.stderr for stage in result.stages] == [b"quiet\n", b"the reason\n", b"noise\n"]
    assert sorted(result.stderr.splitlines()) == [b"noise", b"quiet", b"the reason"]


# -- sequences


@pytest.mark.parametrize(
    ("expression", "written", "status"),
    [
        (sh("echo a").then(sh("echo b")), b"a\nb\n", 0),
        (sh("echo a; exit 2").then(sh("echo b")), b"a\n", 2),
        (sh("echo a").or_else(sh("echo b")), b"a\n", 0),
        (sh("echo a; exit 2").or_else(sh("echo b")), b"a\nb\n", 0),
        (sh("echo a; exit 2").or_else(sh("echo b; exit 4")), b"a\nb\n", 4),
        (sh("exit 2").then(sh("echo b")).or_else(sh("echo c")), b"c\n", 0),
        (sh("echo a; exit 2").unchecked().then(sh("echo b")), b"a\nb\n", 2),
        (sh("echo a; exit 2").unchecked().or_else(sh("echo b")), b"a\n", 2),
        (sh("echo a; exit 1", ok_codes=(0, 1)).then(sh("echo b")), b"a\nb\n", 0),
        ((sh("echo a").then(sh("echo b")) | CAT), b"a\nb\n", 0),
        (sh("printf 'x\\ny\\n'") | cmd("head", "-c", "2").then(CAT), b"x\n", None),
        ((sh("exit 1").or_else(sh("echo b")) | CAT).then(sh("echo c")), b"b\nc\n", 0),
        (sh("exit 1").then(sh("exit 2").then(sh("exit 3"))), b"", 1),
    ],
)
def test_sequences_are_a_shells(go: Go, expression: Expression, written: bytes, status: int | None) -> None:
    """`then` is `&&`, `or_else` is `||`; one that is unchecked has never failed; stdout is shared by both."""
    result = go(expression, capture=True, check=False)
    assert out(result)[: len(written)] == written
    if status is not None:
        assert (result.stdout, result.returncode) == (written, status)


def test_skipped_command_is_no_stage(go: Go) -> None:
    """Only what was started is in `stages`, in the order of the expression."""
    result = go((cmd("false").then(HELLO) | CAT).or_else(HELLO), capture=True)
    assert [stage.argv[0] for stage in result.stages] == ["false", "cat", "printf"]
    assert result.stdout == b"hello\n"


def test_sequence_whose_reader_has_gone_stops(go: Go) -> None:
    """Neither `&&` nor `||` goes on with nobody to read: their effects would be for nothing."""
    result = go(cmd("yes").or_else(HELLO) | cmd("head", "-n", "1"), capture=True)
    assert (result.stdout, [s.argv[0] for s in result.stages]) == (b"y\n", ["yes", "head"])


# -- redirections


def test_redirections_are_done_from_the_outside_in(go: Go, tmp_path: Path) -> None:
    """duct: each of these suppresses another output; the inner of two wins; every outer file is opened."""
    left = BOTH.stderr_null() | sh("cat; echo err2 >&2")
    assert go(left, capture=True).stderr == b"err2\n"
    right = BOTH | sh("cat; echo err2 >&2").stderr_null()
    assert go(right, capture=True).stderr == b"err\n"
    both = (BOTH | sh("cat; echo err2 >&2")).stderr_null()
    result = go(both, capture=True)
    assert (result.stdout, result.stderr) == (b"out\n", None)
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    go((HELLO.stdout_path(inner).then(HELLO)).stdout_path(outer))
    assert (inner.read_bytes(), outer.read_bytes()) == (b"hello\n", b"hello\n")
    go((HELLO | CAT).stdout_path(inner).stdout_path(outer))
    assert (inner.read_bytes(), outer.read_bytes()) == (b"hello\n", b"")


@pytest.mark.parametrize(
    ("expression", "stdout", "stderr"),
    [
        (BOTH.stdout_stderr_swap(), b"err\n", b"out\n"),
        ((BOTH | CAT).stdout_stderr_swap(), b"err\n", b"out\n"),
        (BOTH.stdout_stderr_swap().stdout_stderr_swap(), b"out\n", b"err\n"),
        ((CAT | BOTH).stdout_stderr_swap().stdout_stderr_swap(), b"out\n", b"err\n"),
        ((CAT | BOTH).stderr_to_stdout(), b"out\nerr\n", None),
        ((CAT | BOTH).stdout_to_stderr(), b"", b"out\nerr\n"),
        ((CAT | BOTH.stdout_to_stderr()), b"", b"out\nerr\n"),
        (BOTH.stderr_to_stdout() | CAT, b"out\nerr\n", b""),
        (BOTH.stdout_to_stderr().stderr_null() | CAT, b"", b""),
        (BOTH.stdout_null().stderr_to_stdout() | CAT, b"err\n", b""),
        (BOTH.stderr_null().stdout_to_stderr() | CAT, b"", b"out\n"),
        ((CAT | BOTH.stdout_null()).stdout_stderr_swap(), b"err\n", b""),
        (BOTH.stdout_null().stdout_stderr_swap() | CAT, b"err\n", b""),
        ((BOTH.then(BOTH)).stdout_stderr_swap(), b"err\nerr\n", b"out\nout\n"),
    ],
)
def test_where_the_streams_go(go: Go, expression: Expression, stdout: bytes, stderr: bytes | None) -> None:
    """Crossed, exchanged and shadowed streams, each against what duct's context passing gives."""
    result = go(expression, capture=True, stdin=fastproc.DEVNULL)
    assert (result.stdout, result.stderr or None) == (stdout, stderr or None)


def test_read_of_a_redirected_output_is_empty() -> None:
    """duct: the null is farther down than the capture of read()."""
    assert HELLO.stdout_null().read() == ""
    assert (HELLO | CAT).stdout_null().read() == ""
    assert (HELLO | CAT).read() == "hello"


def test_captured_outputs_share_one_pipe(go: Go) -> None:
    """duct: whatever captures stdout adds to the same bytes, also where it captures inside of a pipe."""
    result = go((sh("echo a; echo b >&2").stdout_capture() | sh("cat; echo c")).stdout_capture())
    assert sorted(out(result).splitlines()) == [b"a", b"c"]
    result = go(HELLO.then(HELLO | CAT).stdout_capture())
    assert result.stdout == b"hello\nhello\n"


def test_files_and_descriptors(go: Go, tmp_path: Path) -> None:
    """Paths, appended paths, open files and descriptors, on a whole pipe; a shared file has one offset."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"data\n")
    go((CAT | CAT).stdin_path(source).stdout_path(target))
    go((CAT | CAT).stdin_path(source).stdout_append(target))
    with open(source, "rb") as reading, open(target, "ab") as writing:
        go((CAT | CAT).stdin_file(reading).stdout_file(writing.fileno()))
        assert not writing.closed
    assert target.read_bytes() == b"data\n" * 3
    go(HELLO.then(HELLO).then(sh("echo e >&2").stderr_to_stdout()).stdout_path(target))
    assert target.read_bytes() == b"hello\nhello\ne\n"
    with pytest.raises(FileNotFoundError) as caught:
        go((CAT | CAT).stdin_path(tmp_path / "none"))
    assert isinstance(caught.value, fastproc.SpawnError)
    assert (caught.value.stage, caught.value.filename) == ("redirect", str(tmp_path / "none"))


def test_caller_may_close_a_file_before_the_last_command_starts(tmp_path: Path) -> None:
    """A redirection of a whole sequence has a copy of the caller's descriptor, as in duct."""
    with open(tmp_path / "f", "wb") as file:
        pipeline = sh("sleep 0.1").then(HELLO).stdout_file(file).start()
    assert pipeline.wait().ok
    assert (tmp_path / "f").read_bytes() == b"hello\n"


# -- environment, directory, program


def test_environment_reaches_every_stage_and_the_inner_one_wins(go: Go) -> None:
    """Duct's context: env, env_remove, full_env of the whole; a stage's own stays."""
    show = sh('cat; echo "$K-$L"')
    result = go((show.env("K", "in") | show).env("K", "out").env("L", "l"), capture=True, stdin=fastproc.DEVNULL)
    assert result.stdout == b"in-l\nout-l\n"
    os.environ["L"] = "parent"
    try:
        assert (show | show).env_remove("L").stdin_null().read() == "-\n-"
        path = os.environ["PATH"]
        assert (show.env("K", "in") | show).full_env({"PATH": path}).stdin_null().read() == "in-\n-"
    finally:
        del os.environ["L"]


def test_dir_reaches_every_stage_and_leaves_relative_programs_alone(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """duct: a program's relative path is this process's; a path object without a slash is a file, not a name."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "bin" / "where"
    script.write_text("#!/bin/sh\ncat\npwd\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    result = go((cmd("bin/where") | cmd("bin/where")).dir("elsewhere"), capture=True, stdin=fastproc.DEVNULL)
    assert result.stdout == f"{tmp_path}/elsewhere\n".encode() * 2
    monkeypatch.chdir(tmp_path / "bin")
    assert (cmd(Path("where")) | CAT).stdin_null().read() == f"{tmp_path}/bin"
    assert cmd(Path("where")).dir(tmp_path / "elsewhere").stdin_null().read() == f"{tmp_path}/elsewhere"
    with pytest.raises(FileNotFoundError):
        go(cmd("where") | CAT, stdin=fastproc.DEVNULL)
    with pytest.raises(FileNotFoundError):
        go(cmd(Path("cat")) | CAT, stdin=fastproc.DEVNULL)


def test_before_spawn_edits_every_command(go: Go) -> None:
    """duct: the outer hook first, the inner one last, on the command as it is about to be started."""
    seen: list[tuple[str, ...]] = []

    def add(word: str) -> Callable[[Command], Command]:
        def hook(command: Command) -> Command:
            seen.append((word, *command.argv))
            return command.args(word)

        return hook

    pipeline = (cmd("echo", "x").before_spawn(add("inner")) | sh("cat; echo $0", env_add={})).before_spawn(add("outer"))
    assert out(go(pipeline, capture=True)).startswith(b"x outer inner\n")
    assert [item[0] for item in seen] == ["outer", "inner", "outer"]
    assert cmd("echo").before_spawn(add("alone")).read() == "alone"
    with pytest.raises(TypeError, match="before_spawn: the hook must return a Command"):
        go(HELLO | CAT.before_spawn(lambda command: None))  # type: ignore[arg-type, return-value]


def test_options_of_a_run_reach_the_stages_that_do_not_say_the_same(go: Go) -> None:
    """Kernel attributes, environment and directory as keywords; an input is refused where a file is given too."""
    show = sh("cat; umask; ulimit -n")
    result = go(show | show.options(umask=0o077), umask=0o027, rlimits={"NOFILE": 64}, capture=True, input=b"")
    assert result.stdout == b"0027\n64\n0077\n64\n"
    with pytest.raises(TypeError, match="nonsense: there is no such option"):
        go(CAT | CAT, nonsense=3)
    with pytest.raises(ValueError, match="on_line: needs a captured output"):
        go(CAT | CAT, on_line=print)
    with pytest.raises(ValueError, match="stdin: must not be PIPE"):
        go(CAT | CAT, stdin=fastproc.PIPE)
    with pytest.raises(ValueError, match="stdout: MEMFD is for the run of one command"):
        go(CAT | CAT.options(stdout=fastproc.MEMFD), stdin=fastproc.DEVNULL)


# -- fan-out and substitution


def test_tee_gives_everything_to_every_consumer(go: Go, tmp_path: Path) -> None:
    """More than the pipes hold, to consumers of different pace, in the kernel."""
    files = [tmp_path / str(number) for number in range(3)]
    data = os.urandom(3 << 20)
    slow = sh("sleep 0.05; cat").stdout_path(files[2])
    result = go(CAT.tee(CAT.stdout_path(files[0]), CAT.stdout_path(files[1]), slow), input=data, capture=True)
    assert [file.read_bytes() == data for file in files] == [True] * 3
    assert [stage.argv[0] for stage in result.stages] == ["cat", "cat", "cat", "sh"]


def test_tee_goes_on_for_those_who_still_read(go: Go) -> None:
    """One consumer that has had enough is left out; with the last one gone the source gets SIGPIPE."""
    result = go(cmd("seq", "100000").tee(cmd("head", "-n", "1"), cmd("tail", "-n", "1")), capture=True)
    assert sorted(out(result).splitlines()) == [b"1", b"100000"]
    result = go(cmd("yes").tee(cmd("head", "-n", "1"), cmd("true")), capture=True)
    assert (result.stdout, result.stages[0].returncode) == (b"y\n", -13)


@pytest.mark.parametrize("reason", ["tee", "splice"])
def test_tee_without_the_calls_copies(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel or sandbox that refuses tee(2) is found out by the first call; no byte is lost or doubled."""
    from fastproc import _native

    if reason == "tee":

        def refuse(*_args: object) -> int:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(_native, "tee", refuse)
    else:
        monkeypatch.delattr(os, "splice")
    data = os.urandom(1 << 20)
    result = CAT.tee(cmd("md5sum"), cmd("md5sum"), cmd("wc", "-c")).run(input=data, capture=True)
    lines = result.lines()
    assert len(set(lines)) == 2
    assert str(len(data)) in lines


def test_substitution_is_a_path_of_a_pipe(go: Go) -> None:
    """`diff <(...) <(...)`: /dev/fd in the child, a stage for each, no descriptor too many."""
    left, right = cmd("printf", "a\\nb\\n") | cmd("sort"), cmd("printf", "a\\nc\\n")
    result = go(cmd("diff", fd_of(left), fd_of(right), ok_codes=(0, 1)), capture=True)
    assert result.stdout == b"2c2\n< b\n---\n> c\n"
    assert [stage.argv[0] for stage in result.stages] == ["printf", "sort", "printf", "diff"]
    assert result.returncode == 1
    assert out(go(cmd("cat", fd_of(HELLO), fd_of(HELLO)) | cmd("wc", "-l"), capture=True)).strip() == b"2"
    assert fastproc.run("cat", fd_of(HELLO), capture=True).stdout == b"hello\n"


def test_substitution_that_is_written_to(go: Go) -> None:
    """`tee >(...)`."""
    result = go(HELLO | cmd("tee", fd_to(cmd("tr", "a-z", "A-Z"))), capture=True)
    assert sorted(out(result).splitlines()) == [b"HELLO", b"hello"]


def test_status_of_a_substitution_counts_as_a_left_side(go: Go) -> None:
    """Unlike bash, which forgets it; SIGPIPE is accepted as between stages."""
    with pytest.raises(fastproc.ExitError) as caught:
        go(cmd("cat", fd_of(sh("exit 4"))))
    assert caught.value.returncode == 4
    assert go(cmd("cat", fd_of(sh("exit 4").unchecked()))).returncode == 4
    assert go(cmd("head", "-n", "1", fd_of(cmd("yes"))), capture=True).stdout == b"y\n"


# -- what must not hang


def test_middle_stage_that_writes_ten_mebibytes_to_stderr(go: Go) -> None:
    """plumbum#632: captured, kept to its stage, and nobody waits for ever."""
    noisy = sh("cat; head -c 10485760 /dev/zero >&2")
    result = go(HELLO | noisy | CAT, capture=True)
    assert (result.stdout, [len(stage.stderr or b"") for stage in result.stages]) == (b"hello\n", [0, 10485760, 0])


def test_stage_that_does_not_read_ends_the_writers(go: Go) -> None:
    """The parent holds no end of any pipe (GOTCHAS E14), so that SIGPIPE comes as soon as the reader has gone."""
    result = go(cmd("yes") | CAT | cmd("true"))
    assert [stage.returncode for stage in result.stages] == [-13, -13, 0]
    assert go(CAT | cmd("true"), input=bytes(1 << 20)).ok


@pytest.mark.parametrize("place", [0, 1, 2])
def test_stage_that_cannot_start_cleans_up_the_others(go: Go, place: int) -> None:
    """GOTCHAS E13: at once, with the program named; the earlier ones are killed and reaped."""
    stages: list[Expression] = [cmd("sleep", "60"), cmd("sleep", "60"), cmd("sleep", "60")]
    stages[place] = cmd("no-such-program")
    started = time.monotonic()
    with pytest.raises(FileNotFoundError) as caught:
        go(stages[0].pipe(*stages[1:]), capture=True, input=b"x")
    assert time.monotonic() - started < 5
    error: Any = caught.value
    assert (error.argv, error.stage) == (("no-such-program",), "exec")
    if place:
        assert [stage.returncode for stage in error.result.stages] == [-9] * place


def test_command_of_a_sequence_that_cannot_start_ends_everything(go: Go) -> None:
    """Later than the start of all: the rest is killed, the output so far is in the exception."""
    with pytest.raises(FileNotFoundError) as caught:
        go(HELLO.then(cmd("no-such-program")) | sh("cat; sleep 60"), capture=True, grace=0)
    result: Any = caught.value.result  # type: ignore[attr-defined]
    assert [stage.argv[0] for stage in result.stages] == ["printf", "sh"]


def test_grandchild_that_holds_the_last_pipe_does_not_hold_us(go: Go) -> None:
    """GOTCHAS E2: what came is returned, and it is said that somebody still has the pipe."""
    held, holding = os.pipe()
    try:
        # It holds the outputs until the pipe in its stdin is closed.
        result = go(HELLO | sh("cat; cat <&9 &", fds={9: held}), capture=True, drain_timeout=0.05)
        assert (result.stdout, result.pipes_still_open, result.ok) == (b"hello\n", True, True)
        assert len(result.pipe_holders) == 1
        assert result.pipe_holders[0] not in {stage.pid for stage in result.stages}
    finally:
        os.close(held)
        os.close(holding)


@pytest.mark.parametrize("ignore", [False, True])
def test_deadline_reaches_every_stage(go: Go, ignore: bool) -> None:
    """SIGTERM to all, SIGKILL after the grace; what was written in time is in the exception."""
    trap = "trap '' TERM; " if ignore else ""
    stage = sh(f"{trap}echo go; while :; do sleep 0.05; done")
    with pytest.raises(fastproc.TimeoutExpired) as caught:
        go(stage | sh(f"{trap}cat; while :; do sleep 0.05; done"), capture=True, timeout=1.0, grace=0.1)
    result: Any = caught.value.result
    assert result.stdout == b"go\n"
    assert (result.timed_out, result.killed) == (True, "killed" if ignore else "terminated")
    assert {s.returncode for s in result.stages} <= ({-9} if ignore else {-15, -13, 0})
    assert "timed out after 1 second" in str(caught.value)


def test_deadline_starts_nothing_more(go: Go, tmp_path: Path) -> None:
    """A sequence stops where it is."""
    with pytest.raises(fastproc.TimeoutExpired):
        go(cmd("sleep", "60").or_else(cmd("touch", str(tmp_path / "ran"))), timeout=0.1)
    assert not (tmp_path / "ran").exists()


def test_idle_timeout_and_limits_are_of_the_whole(go: Go) -> None:
    """What a run of one command has, a pipeline has."""
    with pytest.raises(fastproc.TimeoutExpired):
        go(sh("echo x; exec sleep 60") | CAT, capture=True, idle_timeout=0.2)
    limit = fastproc.CaptureLimit(4, over="stop")
    result = go(cmd("yes") | CAT, capture=True, stdout_limit=limit, check=False)
    assert out(result)[:4] == b"y\ny\n"
    told: list[tuple[str, bytes]] = []
    go(sh("echo a; echo b >&2") | CAT, capture=True, on_line=lambda *line: told.append(line))
    assert sorted(told) == [("stderr", b"b"), ("stdout", b"a")]


def test_one_process_group_for_all(go: Go) -> None:
    """Asked for by pgid=0: led by the first stage, not ours; also when the leader has ended long before."""
    show = sh("cat; ps -o pgid= -p $$")
    result = go(show | show | show, pgid=0, capture=True, stdin=fastproc.DEVNULL)
    groups = {int(line) for line in out(result).split()}
    assert groups == {result.stages[0].pid}
    assert os.getpgrp() not in groups
    result = go(show.then(show).then(show | show), pgid=0, capture=True, stdin=fastproc.DEVNULL)
    assert os.getpgrp() not in {int(line) for line in out(result).split()}


STRAYS = """
(setsid sh -c 'echo $$ >&9; exec sleep 60' >&2 &)
sh -c 'echo $$ >&9; exec sleep 60' >&2 &
"""
"""An orphan in a session of its own and a grandchild, which tell their numbers to descriptor 9 and hold stderr."""


@pytest.mark.parametrize("way", ["best", "mark"])
@pytest.mark.parametrize("ends_by", ["itself", "deadline", "failing start"])
def test_kill_tree_ends_the_trees_of_all_stages(
    go: Go, way: str, ends_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By cgroups or by marks: nothing of any stage is there when run() returns or raises."""
    if way == "mark":
        monkeypatch.setattr(Cgroup, "make", lambda _parent: None)
    with open(tmp_path / "pids", "ab") as told:
        stage = sh(STRAYS + "cat", fds={9: told})
        pipeline = stage | stage | sh(STRAYS + ("cat; sleep 60" if ends_by == "deadline" else "cat"), fds={9: told})
        began = time.monotonic()
        if ends_by == "itself":
            result = go(pipeline, kill_tree=True, capture=True, drain_timeout=0.05, stdin=fastproc.DEVNULL)
            assert (result.ok, result.survivors) == (True, ())
        elif ends_by == "deadline":
            with pytest.raises(fastproc.TimeoutExpired):
                go(pipeline, kill_tree=True, timeout=0.5, capture=True, stdin=fastproc.DEVNULL)
        else:
            later = sh("sleep 0.2").then(cmd("no-such-program"))
            with pytest.raises(FileNotFoundError):
                go(pipeline | later, kill_tree=True, capture=True, stdin=fastproc.DEVNULL)
        assert time.monotonic() - began < 20
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 6 or ends_by != "itself"
    assert [pid for pid in pids if (facts := facts_of(pid)) is not None and not facts.ended] == []


def test_one_cgroup_for_all(go: Go) -> None:
    """Asked for by cgroup: every stage is born in it."""
    with cgroup_folder() as folder:
        if folder is None:
            pytest.skip("no cgroup v2 can be made here")
        show = sh("cat; grep ^0:: /proc/self/cgroup")
        result = go(show | show | show, cgroup=str(folder), capture=True, stdin=fastproc.DEVNULL)
    assert [line.endswith(folder.name) for line in out(result).decode().splitlines()] == [True] * 3


def test_pipe_size_is_a_wish_for_every_pipe(go: Go) -> None:
    """GOTCHAS E11."""
    ask = cmd(sys.executable, "-c", "import fcntl; print(fcntl.fcntl(0, 1032))")
    assert out(go(cmd("true") | ask, capture=True, pipe_size=1 << 18)).strip() == b"262144"
    assert go(cmd("true") | CAT, pipe_size=2**31 - 1).ok


def test_no_byte_passes_through_this_process_between_stages(tmp_path: Path) -> None:
    """The stages' descriptors are two ends of one pipe, which nobody else has."""
    ask = "import os, sys; sys.stderr.write(os.readlink('/proc/self/fd/%d') + ' ')"
    pipeline = cmd(sys.executable, "-c", ask % 1) | cmd(sys.executable, "-c", ask % 0)
    first, second = pipeline.run(capture=True).stages
    assert first.stderr == second.stderr
    assert first.stderr is not None
    assert first.stderr.startswith(b"pipe:[")
    with (cmd("sleep", "60") | cmd("sleep", "60")).start() as running:
        links = {os.readlink(f"/proc/{running.pids[0]}/fd/1"), os.readlink(f"/proc/{running.pids[1]}/fd/0")}
        assert len(links) == 1
        mine = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)}
        assert links & mine == set()


def _is_open(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")


def lost_status() -> list[Any]:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        result: Any = fastproc.run(cmd("true") | sh("cat; exit 3"), stdin=fastproc.DEVNULL, check=False)
        return [[stage.returncode for stage in result.stages], result.returncode]
    except fastproc.ExitStatusUnknown as error:
        return ["unknown", error.argv[0]]


def test_status_that_somebody_else_took_is_true_or_unknown() -> None:
    """GOTCHAS D2: never guessed."""
    assert isolated(lost_status) in ([[0, 3], 3], ["unknown", "true"], ["unknown", "sh"])


# -- one command through the same doors


def test_single_command_runs_as_a_pipeline_of_one_where_it_must(go: Go) -> None:
    """Hooks and substitutions; its own options of a whole run are the run's."""
    hooked = cmd("cat", capture=True, input=b"x", timeout=5).before_spawn(lambda command: command.args("-"))
    assert go(hooked).stdout == b"x"
    with pytest.raises(fastproc.ExitError):
        go(sh("exit 2").before_spawn(lambda command: command))
    assert go(sh("exit 2", check=False).before_spawn(lambda command: command)).returncode == 2


def test_cancelled_task_ends_every_stage() -> None:
    """In an event loop: SIGTERM to all, and the children are reaped before the cancellation goes on."""
    import asyncio

    async def main() -> Any:
        task = asyncio.create_task(aio.run(sh("echo x; exec sleep 60") | CAT | cmd("sleep", "60"), capture=True))
        await asyncio.sleep(0.2)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            return error.result  # type: ignore[attr-defined]

    result = asyncio.run(main())
    assert [stage.signal for stage in result.stages] == [15, 15, 15]


def test_lines_in_an_event_loop() -> None:
    """All of them, and early leaving that ends the stages."""
    import asyncio
    from contextlib import aclosing

    async def main() -> list[Any]:
        found = [line async for line in aio.lines(cmd("seq", "3") | CAT, text=True)]
        async with aclosing(aio.lines(cmd("yes") | CAT)) as lines:  # type: ignore[type-var]
            async for line in lines:
                found.append(line)
                break
        try:
            async for line in aio.lines(sh("echo last; exit 3") | CAT):
                found.append(line)
        except fastproc.ExitError as error:
            found.append(error.returncode)
        return found

    assert asyncio.run(main()) == ["1", "2", "3", b"y", b"last", 3]


def test_long_chain_runs() -> None:
    """Each after the one before; with the meaning that two have, of both operators, in any order."""
    chain: fastproc.Expression = cmd("true")
    for number in range(400):
        chain = chain.then(cmd("true")) if number % 2 else chain.or_else(sh("exit 9"))
    result = chain.run()
    assert (result.returncode, len(result.stages)) == (0, 201)
    for signs in itertools.product("&|", repeat=3):
        for codes in itertools.product((0, 1), repeat=4):
            words = [f"exit {code}" for code in codes]
            chain = sh(f"echo 0; {words[0]}")
            line = f"(echo 0; {words[0]})"
            for number, (sign, word) in enumerate(zip(signs, words[1:], strict=True), 1):
                other = sh(f"echo {number}; {word}")
                chain = chain.then(other) if sign == "&" else chain.or_else(other)
                line += f" {sign * 2} (echo {number}; {word})"
            found = chain.run(capture=True, check=False)
            bash = subprocess.run(["bash", "-c", line], capture_output=True, check=False)
            assert (found.stdout, found.returncode) == (bash.stdout, bash.returncode), line


def test_deepest_expression_runs() -> None:
    """What can be made can be run, also where Python is some calls deep already."""
    deep: fastproc.Expression = cmd("true")
    with pytest.raises(ValueError, match="nested more than 100 levels deep"):  # noqa: PT012 - the last of many
        while True:
            previous, deep = deep, cmd("true").then(deep)
    assert previous.run().ok
    deep = cmd("true")
    with pytest.raises(ValueError, match="nested more than 100 levels deep"):  # noqa: PT012 - the last of many
        while True:
            previous, deep = deep, (cmd("true") | cmd("true").then(deep)).stderr_null()
    assert previous.run().ok
