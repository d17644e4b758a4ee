"""run() and its streams, deadlines and names, the same on every engine and by every mechanism."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastproc
from conftest import isolated
from support.programs import GRANDCHILD_HOLDS_STDOUT, IGNORE_TERM, Probed, Programs

SLOW_OK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
text_bytes = st.binary(max_size=40).filter(lambda value: 0 not in value)


# -- streams


def test_both_pipes_full_at_once(mechanism: str, engine: str) -> None:
    """GOTCHAS E1: 4 MiB in, 4 MiB out, 4 MiB of errors first: no deadlock, no byte lost."""
    data = os.urandom(1 << 20) * 4
    script = "head -c 4194304 /dev/zero >&2; cat"
    result = fastproc.run("sh", "-c", script, input=data, capture=True)
    assert (result.stdout == data, result.stderr == bytes(4 << 20)) == (True, True)


def test_one_stream_fills_while_the_other_waits(engine: str) -> None:
    """GOTCHAS E1: the outputs are drained together, whichever fills first."""
    script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero"
    result = fastproc.run("sh", "-c", script, capture=True)
    assert (len(result.stdout or b""), len(result.stderr or b"")) == (6_000_000, 3_000_000)


def test_grandchild_that_holds_the_pipe(mechanism: str, engine: str) -> None:
    """GOTCHAS E2: the end of the program starts the drain time; what came is kept and the flag is set."""
    begin = time.monotonic()
    result = fastproc.run(*GRANDCHILD_HOLDS_STDOUT, capture=True, drain_timeout=0.2)
    took = time.monotonic() - begin
    assert (result.stdout, result.pipes_still_open, took < 1.5) == (b"hi\n", True, True)


def test_pipes_given_up_are_read_a_last_time(engine: str) -> None:
    """With no patience at all for a grandchild, what the program itself wrote is there."""
    script = "sleep 3 & head -c 1000000 /dev/zero >&2; exec head -c 1000000 /dev/zero"
    result = fastproc.run("/bin/sh", "-c", script, capture=True, drain_timeout=0, pipe_size=1 << 20)
    assert (len(result.stdout or b""), len(result.stderr or b"")) == (1_000_000, 1_000_000)
    assert result.pipes_still_open


def test_grandchild_that_writes_without_end_is_left(engine: str) -> None:
    """The last read takes what a pipe holds, not what comes meanwhile."""
    result = fastproc.run("/bin/sh", "-c", "yes & echo; exit 0", stdout=fastproc.PIPE, drain_timeout=0, timeout=20)
    assert result.pipes_still_open


def test_grandchild_and_a_deadline(engine: str) -> None:
    """GOTCHAS E2: `sh -c 'sleep 30 & echo hi'` with timeout 1 returns in less than 1.3 s."""
    begin = time.monotonic()
    result = fastproc.run("sh", "-c", "sleep 3 & echo hi", capture=True, timeout=1, drain_timeout=None, check=False)
    assert (result.stdout, time.monotonic() - begin < 1.3) == (b"hi\n", True)


def test_reader_that_ends_early(mechanism: str, engine: str) -> None:
    """GOTCHAS E4: 8 MiB into a program that reads nothing: its status counts, not the broken pipe."""
    result = fastproc.run("sh", "-c", "exec 0<&-; echo done; exit 0", input=bytes(8 << 20), capture=True)
    assert (result.stdout, result.returncode) == (b"done\n", 0)


def default_sigpipe(engine: str) -> list[Any]:
    import sys

    sys.modules["fastproc._run"].__dict__["_FORCED_ENGINE"] = "" if engine == "plain" else engine
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    codes = [fastproc.run("true", input=bytes(1 << 20)).returncode for _ in range(20)]
    codes += [fastproc.run("true", input=iter([b"x" * 100_000] * 9)).returncode for _ in range(5)]
    return [sorted(set(codes)), signal.SIGPIPE in signal.sigpending()]


def test_host_with_default_sigpipe_survives(engine: str) -> None:
    """GOTCHAS E4: a host that does not ignore SIGPIPE is not ended by a child that does not read."""
    assert isolated(default_sigpipe, engine) == [[0], False]


def test_deadline_while_feeding_a_child_that_does_not_read(mechanism: str, engine: str) -> None:
    """GOTCHAS E5: the child is ended though the pipe is full."""
    begin = time.monotonic()
    with pytest.raises(fastproc.TimeoutExpired) as caught:
        fastproc.run("sleep", "60", input=bytes(4 << 20), timeout=0.2)
    assert time.monotonic() - begin < 2
    assert caught.value.result is not None
    assert (caught.value.result.returncode, caught.value.result.killed) == (-15, "terminated")


def test_deadline_keeps_the_output_and_escalates(mechanism: str, engine: str) -> None:
    """A child that ignores SIGTERM gets SIGKILL after the grace time; what it had written is in the exception."""
    begin = time.monotonic()
    with pytest.raises(fastproc.TimeoutExpired) as caught:
        fastproc.run(*IGNORE_TERM, capture=True, timeout=0.3, grace=0.1)
    took = time.monotonic() - begin
    result = caught.value.result
    assert result is not None
    assert (result.stdout, result.returncode, result.killed, result.timed_out) == (b"ready\n", -9, "killed", True)
    assert 0.4 <= took < 2
    assert isinstance(caught.value, (TimeoutError, subprocess.TimeoutExpired))


@pytest.mark.parametrize("timeout", [0, 0.0, 1e-9])
def test_deadline_that_is_over_at_once(engine: str, timeout: float) -> None:
    """GOTCHAS D19: a timeout of nothing ends the child, and loses none."""
    with pytest.raises(fastproc.TimeoutExpired):
        fastproc.run("sleep", "60", timeout=timeout)


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 2**70, None])
def test_deadline_that_never_comes(engine: str, timeout: float | None) -> None:
    """GOTCHAS D19: infinity and what fits no clock are no limit."""
    assert fastproc.run("true", timeout=timeout).ok


@SLOW_OK
@given(data=st.binary(max_size=200_000))
def test_bytes_come_back_as_they_went(data: bytes) -> None:
    """GOTCHAS E7: any bytes through cat."""
    assert fastproc.run("cat", input=data, capture=True).stdout == data


@SLOW_OK
@given(chunks=st.lists(st.binary(max_size=3000), max_size=40))
def test_chunks_come_back_in_order(chunks: list[bytes]) -> None:
    """An iterator's chunks, empty ones too, arrive whole and in order."""
    assert fastproc.run("cat", input=iter(chunks), capture=True).stdout == b"".join(chunks)


def test_failing_input_iterator_ends_the_child(mechanism: str) -> None:
    """What the iterator raises comes out, and the child is gone."""

    def chunks() -> Iterator[bytes]:
        yield b"x"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        fastproc.run("cat", input=chunks(), capture=True)


def test_slow_input_iterator_meets_the_deadline() -> None:
    """One that gives little and often does not keep the clock from being looked at; nobody asks it after that."""
    asked = []

    def slow() -> Iterator[bytes]:
        for number in range(1000):
            asked.append(number)
            time.sleep(0.01)
            yield b"x\n"

    with pytest.raises(fastproc.TimeoutExpired) as caught:
        fastproc.run("cat", stdout=fastproc.PIPE, input=slow(), timeout=0.2)
    assert 0 < len(asked) < 100
    assert set(caught.value.stdout.split()) == {b"x"}


def test_iterator_is_left_alone_when_the_child_is_stopped(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed when its grace is over, whatever the iterator would still do."""
    asked: list[float] = []

    def endless() -> Iterator[bytes]:
        while True:
            asked.append(time.monotonic())
            time.sleep(0.05)
            yield b"x"

    with pytest.raises(fastproc.TimeoutExpired) as caught:
        fastproc.run("/bin/sh", "-c", "trap '' TERM; cat; cat", capture=True, input=endless(), timeout=0.2, grace=0.3)
    assert caught.value.result.killed
    assert time.monotonic() - asked[-1] > 0.25


def test_interleaving_of_merged_streams(mechanism: str, engine: str) -> None:
    """stderr=STDOUT keeps the order in which the program wrote."""
    result = fastproc.run("sh", "-c", "echo a; echo b >&2; echo c", stdout=fastproc.PIPE, stderr=fastproc.STDOUT)
    assert (result.stdout, result.stderr) == (b"a\nb\nc\n", None)


def test_stdout_to_stderr(mechanism: str, engine: str) -> None:
    """stdout=STDERR is the reverse."""
    result = fastproc.run("sh", "-c", "echo a; echo b >&2", stdout=fastproc.STDERR, stderr=fastproc.PIPE)
    assert (result.stdout, result.stderr) == (None, b"a\nb\n")


def test_swapped_outputs(mechanism: str, engine: str) -> None:
    """swap_outputs is the shell's 3>&1 1>&2 2>&3: each pipe's bytes are named by the stream that the parent reads."""
    result = fastproc.run("sh", "-c", "echo out; echo err >&2", capture=True, swap_outputs=True)
    assert {result.stdout, result.stderr} == {b"out\n", b"err\n"}


def test_files_for_all_streams(mechanism: str, engine: str, tmp_path: Path) -> None:
    """A path is truncated, Append appends, a file object is used from where it is; input comes from a file."""
    (tmp_path / "in").write_bytes(b"data\n")
    (tmp_path / "out").write_bytes(b"old old old old\n")
    (tmp_path / "err").write_bytes(b"old\n")
    fastproc.run(
        "sh",
        "-c",
        "cat; echo e >&2",
        stdin=tmp_path / "in",
        stdout=tmp_path / "out",
        stderr=fastproc.Append(tmp_path / "err"),
    )
    with (tmp_path / "file").open("wb") as file:
        file.write(b"before\n")
        file.flush()
        fastproc.run("echo", "after", stdout=file)
    assert [(tmp_path / name).read_bytes() for name in ("out", "err", "file")] == [
        b"data\n",
        b"old\ne\n",
        b"before\nafter\n",
    ]


def test_inherited_streams_are_the_parents(mechanism: str, engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Without options output goes where the parent's goes."""
    result = fastproc.run("sh", "-c", "echo out; echo err >&2")
    assert (tuple(capfd.readouterr()), result.stdout, result.stderr) == (("out\n", "err\n"), None, None)


def test_fifo_that_nobody_opens_meets_the_deadline(engine: str, tmp_path: Path) -> None:
    """GOTCHAS A15: a redirection is opened in the parent, where the deadline counts; no child hangs in it."""
    os.mkfifo(tmp_path / "fifo")
    for options in ({"stdin": tmp_path / "fifo"}, {"stdout": tmp_path / "fifo"}):
        begin = time.monotonic()
        with pytest.raises((fastproc.TimeoutExpired, fastproc.SpawnError)):
            fastproc.run("cat", timeout=0.2, **options)  # type: ignore[call-overload]
        assert time.monotonic() - begin < 0.6


def test_fifo_with_another_end_works(mechanism: str, engine: str, tmp_path: Path) -> None:
    """A FIFO whose other end is opened later is read as any file."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    thread = threading.Thread(target=lambda: (time.sleep(0.05), fifo.write_bytes(b"through")))
    thread.start()
    result = fastproc.run("cat", stdin=fifo, stdout=fastproc.PIPE, timeout=10)
    thread.join()
    assert result.stdout == b"through"


# -- results


def test_result_of_a_success(mechanism: str, engine: str) -> None:
    """Every field of a Result."""
    begin = time.monotonic()
    result = fastproc.run("sh", "-c", "echo a; echo b >&2", capture=True)
    took = time.monotonic() - begin
    assert (
        result.argv,
        result.returncode,
        result.shell_code,
        result.signal,
        result.stdout,
        result.stderr,
        result.mechanism,
        result.ok,
        result.timed_out,
        result.killed,
        result.core_dumped,
        result.pipes_still_open,
    ) == (("sh", "-c", "echo a; echo b >&2"), 0, 0, None, b"a\n", b"b\n", mechanism, True, False, "", False, False)
    assert result.usage is not None
    assert 0 <= result.usage.utime < 5
    assert 100_000 < result.usage.maxrss < 1 << 40
    assert 0 < result.duration <= took
    assert result.pid > 1
    assert (result.text(), result.lines(), result.stderr_text()) == ("a\n", ["a"], "b\n")


def test_failure_raises_with_the_whole_result(mechanism: str, engine: str) -> None:
    """A status that is not accepted is an ExitError, and a CalledProcessError."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        fastproc.run("sh", "-c", "echo out; echo why >&2; exit 3", capture=True)
    error = caught.value
    assert isinstance(error, fastproc.ExitError)
    assert (error.returncode, error.output, error.stderr, error.result.ok) == (3, b"out\n", b"why\n", False)
    assert "why" in str(error)


def test_accepted_codes(engine: str) -> None:
    """ok_codes and check=False decide what is an error."""
    assert fastproc.run("sh", "-c", "exit 3", ok_codes=(0, 3)).ok
    assert not fastproc.run("sh", "-c", "exit 3", check=False).ok
    with pytest.raises(fastproc.ExitError):
        fastproc.run("true", ok_codes=(1,))


def test_signalled_child(mechanism: str, engine: str) -> None:
    """Both conventions of a signal: negative, and 128 + n."""
    result = fastproc.run("sh", "-c", "kill -USR1 $$", check=False)
    assert (result.returncode, result.signal, result.shell_code) == (-10, 10, 138)


@SLOW_OK
@given(code=st.integers(0, 255), out=st.binary(max_size=50), err=st.binary(max_size=50))
def test_same_result_as_subprocess(tmp_path_factory: pytest.TempPathFactory, code: int, out: bytes, err: bytes) -> None:
    """Subprocess is the oracle for random commands."""
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "out").write_bytes(out)
    (folder / "err").write_bytes(err)
    argv = ["sh", "-c", f"cat out; cat err >&2; exit {code}"]
    ours = fastproc.run(argv, capture=True, check=False, cwd=folder)
    theirs = subprocess.run(argv, capture_output=True, check=False, cwd=folder)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


# -- names, arguments, environments


def make_program(folder: Path, name: str, text: str, mode: int = 0o755) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(mode)


def test_search_path_goes_by_execvps_rules(mechanism: str, tmp_path: Path) -> None:
    """GOTCHAS F2: what may not be executed is remembered, what is missing is passed over, the first that works runs."""
    make_program(tmp_path / "denied", "tool", "echo no", 0o644)
    make_program(tmp_path / "good", "tool", "echo good")
    make_program(tmp_path / "later", "tool", "echo later")
    (tmp_path / "file").write_text("")
    places = {name: str(tmp_path / name) for name in ("denied", "good", "later", "none", "file")}

    def search(*names: str) -> bytes | int | None:
        path = ":".join(places[name] for name in names)
        try:
            return fastproc.run("tool", env={"PATH": path}, capture=True).stdout
        except fastproc.SpawnError as error:
            assert error.stage == "exec"
            return error.errno

    found = [
        search("none", "file", "good", "later"),
        search("denied", "good"),
        search("denied", "none"),
        search("none", "denied", "none"),
        search("none", "file"),
    ]
    # The last of the errors that count as "not found", as glibc's execvp(3) gives it.
    assert found == [b"good\n", b"good\n", errno.EACCES, errno.EACCES, errno.ENOTDIR]


def test_whose_search_path(mechanism: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GOTCHAS F3: env's PATH when it has one, else the parent's."""
    make_program(tmp_path / "mine", "tool", "echo mine")
    make_program(tmp_path / "theirs", "tool", "echo theirs")
    monkeypatch.setenv("PATH", f"{tmp_path / 'mine'}:{os.environ['PATH']}")
    theirs = f"{tmp_path / 'theirs'}:/bin"
    assert [
        fastproc.run("tool", capture=True).stdout,
        fastproc.run("tool", capture=True, env={"A": "b"}).stdout,
        fastproc.run("tool", capture=True, env={"PATH": theirs}).stdout,
        fastproc.run("tool", capture=True, env_add={"PATH": theirs}).stdout,
    ] == [b"mine\n", b"mine\n", b"theirs\n", b"theirs\n"]


def test_empty_element_of_the_search_path_is_the_current_directory(mechanism: str, tmp_path: Path) -> None:
    """GOTCHAS F1: as POSIX has it, and documented."""
    make_program(tmp_path, "tool", "echo here")
    for path in (":/bin", "/bin:", "/bin::/usr/bin"):
        assert fastproc.run("tool", env={"PATH": path}, cwd=tmp_path, capture=True).stdout == b"here\n"
    with pytest.raises(FileNotFoundError):
        fastproc.run("tool", env={"PATH": "/bin:/usr/bin"}, cwd=tmp_path)


def test_which_agrees_with_run(tmp_path: Path) -> None:
    """which() finds what run() runs."""
    make_program(tmp_path / "a", "tool", "", 0o644)
    make_program(tmp_path / "b", "tool", "")
    path = f"{tmp_path / 'a'}:{tmp_path / 'b'}"
    assert fastproc.which("tool", path) == str(tmp_path / "b" / "tool")
    assert fastproc.which("nosuch-program") is None


@SLOW_OK
@given(arguments=st.lists(text_bytes, max_size=6))
def test_arguments_arrive_byte_for_byte(programs: Programs, arguments: list[bytes]) -> None:
    """GOTCHAS F5, F14: any bytes but NUL, given as bytes or as surrogate-escaped str."""
    for given_as in (list(arguments), [os.fsdecode(item) for item in arguments]):
        result = fastproc.run(programs.probe, *given_as, stdout=fastproc.PIPE)
        assert Probed(result.stdout).argv_bytes[1:] == arguments


names = st.binary(min_size=1, max_size=10).filter(lambda value: 0 not in value and b"=" not in value)


@SLOW_OK
@given(variables=st.dictionaries(names, text_bytes, max_size=6))
def test_variables_arrive_byte_for_byte(programs: Programs, variables: dict[bytes, bytes]) -> None:
    """GOTCHAS F6, F14: the whole environment and nothing else."""
    result = fastproc.run(programs.probe, stdout=fastproc.PIPE, env=variables)
    assert Probed(result.stdout).env_bytes == variables


@SLOW_OK
@given(arguments=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)))
def test_printed_command_is_read_back_by_the_shell(programs: Programs, arguments: list[str]) -> None:
    """GOTCHAS F18: str() of a Command is a shell line with the same arguments, by bash, and where all prints by sh."""
    command = fastproc.cmd(programs.probe, *arguments, stdout=fastproc.PIPE)
    line = str(fastproc.cmd(programs.probe, *arguments))
    plain = "".join(arguments).isprintable()
    if plain:
        assert shlex.split(line) == [programs.probe, *arguments]
    by_shell = Probed(fastproc.run("sh" if plain else "bash", "-c", line, stdout=fastproc.PIPE).stdout).argv_bytes
    assert by_shell == Probed(command.run().stdout).argv_bytes


def mutated_environment() -> list[int]:
    """Spawn while another thread changes os.environ."""
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            os.environ[f"FASTPROC_{number % 50}"] = "x" * (number % 100)
            os.environ.pop(f"FASTPROC_{(number + 25) % 50}", None)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    codes = [fastproc.run("true").returncode for _ in range(300)]
    stop.set()
    thread.join()
    return sorted(set(codes))


def test_environment_that_changes_meanwhile() -> None:
    """GOTCHAS F4: C never reads environ, and Python's snapshot is whole."""
    assert isolated(mutated_environment) == [0]


def test_no_shell_is_guessed_for_a_file_without_shebang(mechanism: str, tmp_path: Path) -> None:
    """GOTCHAS F9: ENOEXEC, with the advice."""
    (tmp_path / "bare").write_text("echo hi\n")
    (tmp_path / "bare").chmod(0o755)
    with pytest.raises(fastproc.SpawnError) as caught:
        fastproc.run(tmp_path / "bare")
    assert (caught.value.errno, caught.value.stage) == (errno.ENOEXEC, "exec")


def test_program_written_a_moment_ago(tmp_path: Path, programs: Programs) -> None:
    """GOTCHAS C2: a file that another thread's half-made child still holds open for writing is tried again."""
    assert isolated(fresh_programs, str(tmp_path), programs.static_exit, 150) == [0]


def fresh_programs(folder: str, static_exit: str, count: int) -> list[int]:
    import warnings

    warnings.simplefilter("ignore", DeprecationWarning)
    text = Path(static_exit).read_bytes()
    stop = threading.Event()

    def fork() -> None:
        while not stop.is_set():
            subprocess.run(["true"], check=False)

    thread = threading.Thread(target=fork)
    thread.start()
    codes = []
    for number in range(count):
        path = os.path.join(folder, f"p{number % 5}")
        if os.path.exists(path):
            os.unlink(path)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755)
        os.write(fd, text)
        os.close(fd)
        codes.append(fastproc.run(path).returncode)
    stop.set()
    thread.join()
    return sorted(set(codes))


def test_audit_event_is_raised() -> None:
    """Hooks see every spawn as subprocess.Popen's."""
    environment = {"PATH": os.environ["PATH"], "A": "b"}
    assert isolated(audited) == [
        ["echo", ["echo", "a"], None, None],
        ["true", ["true"], "/", None],
        ["true", ["true"], None, environment],
        ["true", ["true"], None, environment],
        ["true", ["true"], None, environment],
    ]


def audited() -> list[Any]:
    import sys

    seen: list[Any] = []
    sys.addaudithook(lambda event, args: seen.append(list(args)) if event == "subprocess.Popen" else None)
    fastproc.run("echo", "a", capture=True)
    fastproc.start("true", cwd="/").wait()
    options: dict[str, Any] = {"env": {"PATH": os.environ["PATH"]}, "env_add": {"A": "b"}}
    fastproc.start("true", **options).wait()
    fastproc.run("true", **options)
    fastproc.run("true", idle_timeout=10, capture=True, **options)
    return seen


def test_audit_hook_can_refuse() -> None:
    """What a hook raises prevents the child."""
    assert isolated(refused_by_hook) == ["PermissionError", []]


def refused_by_hook() -> list[Any]:
    import sys

    from support import observe

    def hook(event: str, _args: Any) -> None:
        if event == "subprocess.Popen":
            raise PermissionError("not here")

    sys.addaudithook(hook)
    try:
        fastproc.run("true")
    except PermissionError as error:
        return [type(error).__name__, sorted(observe.children())]
    return ["ran", []]


def test_other_threads_run_meanwhile(mechanism: str, engine: str) -> None:
    """GOTCHAS A18: the interpreter's lock is free while a child runs."""
    count = [0]
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            count[0] += 1
            time.sleep(0.002)

    thread = threading.Thread(target=tick)
    thread.start()
    fastproc.run("sleep", "0.15", capture=True)
    stop.set()
    thread.join()
    assert count[0] > 10
