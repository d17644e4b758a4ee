"""Plain pipelines by the C core: which are, and its edges; the results are compared in test_pipeline.py."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated
from fastproc import DEVNULL, PIPE, Command, _native, cmd
from fastproc._values.combination import Pipe
from fastproc.pipeline import _bulk as plain
from fastproc.pipeline._bulk import prepare
from support import observe
from support.programs import Programs

CAT = cmd("cat")


def sh(script: str, **options: Any) -> Command:
    return cmd("sh", "-c", script, **options)


def is_plain(pipe: Any, **options: Any) -> bool:
    assert isinstance(pipe, Pipe)
    return prepare(pipe, options) is not None


def test_which_pipes_the_core_runs() -> None:
    """Commands and kernel attributes; streams of the whole that are kept, fed, or nowhere."""
    for options in (
        {},
        {"capture": True, "timeout": 5, "grace": 0, "drain_timeout": None, "check": False},
        {"stdin": DEVNULL, "stdout": PIPE, "stderr": DEVNULL, "pipe_size": 1 << 20, "sigpipe_ok": False},
        {"input": b"x", "stdout": DEVNULL, "ok_codes": (0, 1)},
    ):
        assert is_plain(CAT | CAT, **options)
    assert is_plain(cmd("cat", umask=0o77, fds={9: 2}).env("A", "b") | CAT.unchecked())
    assert not is_plain(CAT.stderr_null() | CAT)
    assert not is_plain(CAT | CAT.dir("/"))
    assert not is_plain(CAT | (CAT | CAT).stderr_null())
    assert not is_plain(CAT | cmd("cat", kill_tree=True))
    assert not is_plain(CAT | CAT.before_spawn(lambda command: command))
    for other in ({"input": [b"x"]}, {"pgid": 0}, {"stdout": "/dev/null"}, {"idle_timeout": 1}, {"stdin": 0}):
        assert not is_plain(CAT | CAT, **other)
    assert not is_plain(Pipe([CAT] * 17))
    with pytest.raises(TypeError, match=r"^timeout: "):
        prepare(Pipe((CAT, CAT)), {"timeout": "5"})


def test_what_is_prepared_is_kept_and_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each way of running it; an equal value of another type is looked at again."""
    pipe: Any = sh('echo "$SEEN"') | CAT
    for value in ("one", "two"):
        monkeypatch.setenv("SEEN", value)
        assert pipe.run(capture=True).text() == value + "\n"
    assert len(pipe._prepared) == 1
    with pytest.raises(TypeError, match="capture"):
        pipe.run(capture=1)
    for number in range(20):
        pipe.run(stdout=PIPE, timeout=30 + number)
    assert len(pipe._prepared) <= plain.KEPT
    pipe = CAT | CAT
    for number in range(20):
        assert pipe.run(stdout=PIPE, input=b"%d" % number).stdout == b"%d" % number
    assert pipe._prepared == {}


def test_stages_of_a_clean_run_are_made_when_asked_for() -> None:
    """They tell what they told at the end, whatever ran since."""
    pipe = cmd("true") | sh("cat; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done") | CAT
    first = pipe.run(capture=True, stdin=DEVNULL)
    pids = [stage.pid for stage in pipe.run(capture=True, stdin=DEVNULL).stages]
    found = first.stages
    assert [stage.argv[0] for stage in found] == ["true", "sh", "cat"]
    assert [(stage.returncode, stage.stderr, stage.mechanism) for stage in found] == [(0, b"", first.mechanism)] * 3
    assert not {stage.pid for stage in found}.intersection(pids)
    usages = [stage.usage for stage in found]
    assert all(usages)
    assert usages[1].utime > usages[0].utime  # type: ignore[union-attr]
    assert found is first.stages
    assert first.pid == found[-1].pid


def test_program_that_is_not_there_starts_nothing_after_it(tmp_path: Path) -> None:
    """Nor does what comes later touch anything, as when one is started after the other."""
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(FileNotFoundError) as caught:
        (cmd("no-such-program") | sh(f": >{tmp_path}/kept")).run(capture=True)
    assert not hasattr(caught.value, "result")
    assert (tmp_path / "kept").read_text() == "kept"
    with pytest.raises(PermissionError) as denied:
        (CAT | cmd(str(tmp_path / "kept")) | sh(f": >{tmp_path}/kept")).run(capture=True, input=b"")
    error: Any = denied.value
    assert [stage.argv for stage in error.result.stages] == [("cat",)]
    assert (tmp_path / "kept").read_text() == "kept"


def fails_at_exec(place: int, script: str) -> list[Any]:
    """Run a pipeline in which one program has no interpreter; what is raised, after how long, and the others' ends."""
    stages = [cmd("sleep", "60"), cmd("sleep", "60"), cmd("sleep", "60")]
    stages[place] = cmd(script)
    began = time.monotonic()
    try:
        stages[0].pipe(*stages[1:]).run(capture=True, input=b"x" * 100_000)
    except fastproc.SpawnError as error:
        result: Any = getattr(error, "result", None)
        ends = [] if result is None else [stage.returncode for stage in result.stages]
        return [error.argv, error.stage, time.monotonic() - began < 5, ends, sorted(observe.children())]
    return []


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("alone", [False, True])
def test_program_that_fails_at_its_exec_ends_the_others(place: int, alone: bool, tmp_path: Path) -> None:
    """What cannot be seen beforehand: those after it have been started, too."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    # pytest has a second thread.
    found: Any = isolated(fails_at_exec, place, str(script)) if alone else fails_at_exec(place, str(script))
    assert [list(found[0]), *found[1:3], found[4]] == [[str(script)], "exec", True, []]
    assert found[3] == [-9, -9]


def test_whole_suite_in_a_process_of_one_thread() -> None:
    """Where no exec is waited for and no pidfd made; pytest's own watch dog would be a second thread."""
    suite = Path(__file__).resolve().parents[1] / "pipeline" / "test_pipeline.py"
    options = ("-q", "-o", "faulthandler_timeout=0", "-p", "no:cacheprovider", "-k", "blocking", str(suite))
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    # Where it hangs, SIGABRT makes it say where.
    command = ("timeout", "-s", "ABRT", "200", sys.executable, "-m", "pytest", *options)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert int(done.stdout.splitlines()[-1].split()[0]) >= 75


@pytest.mark.parametrize("place", [0, 1, 2])
def test_busy_file_is_tried_again_beside_threads(place: int, programs: Programs, tmp_path: Path) -> None:
    """GOTCHAS C2: as another thread's half-made child may have it; the neighbours see neither an end nor a new pipe."""
    target = tmp_path / "node"
    shutil.copy(programs.node, target)
    node = cmd(programs.node, "cat", "", "e\n", "0")
    stages = [node, node, node]
    stages[place] = cmd(str(target), "cat", "", "e\n", "0")
    pipe = stages[0].pipe(*stages[1:])
    for _ in range(5):
        writing = os.open(target, os.O_WRONLY)
        thread = threading.Timer(0.01, os.close, (writing,))
        thread.start()
        result = pipe.run(capture=True, input=b"x" * 100_000)
        thread.join()
        assert (result.stdout, [stage.stderr for stage in result.stages]) == (b"x" * 100_000, [b"e\n"] * 3)


def test_beside_a_thread_all_is_the_same() -> None:
    """Execs are waited for, and pidfds used."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        result = (sh("cat; echo a >&2") | CAT | sh("cat; exit 3")).run(input=b"x", capture=True, check=False)
        assert (result.stdout, result.stderr, result.returncode) == (b"x", b"a\n", 3)
        with pytest.raises(FileNotFoundError):
            (CAT | cmd("no-such-program") | CAT).run(capture=True, input=b"")
        with pytest.raises(fastproc.TimeoutExpired):
            (cmd("sleep", "60") | CAT).run(capture=True, timeout=0.05)
    finally:
        done.set()
        thread.join()


def test_long_pipeline_of_short_and_long_stages() -> None:
    """The ends are seen before and after pidfds are made, with and without outputs."""
    for options in ({"capture": True}, {}):
        for script in ("sleep 0.02", "exit 0", "sleep 0.004"):
            pipe = (sh(script) | sh("sleep 0.01") | cmd("true")).pipe(*[cmd("true")] * 13)
            assert len(pipe.run(stdin=DEVNULL, **options).stages) == 16


def signals_as_before() -> list[Any]:
    """Run pipelines of all kinds, and return what is blocked or pending afterwards, and who heard of children."""
    heard: list[int] = []
    (CAT | CAT).run(input=b"x", capture=True)
    (cmd("sleep", "0.02") | CAT).run(stdin=DEVNULL)
    signal.signal(signal.SIGCHLD, lambda number, _frame: heard.append(number))
    (cmd("sleep", "0.02") | CAT).run(stdin=DEVNULL, capture=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
    (cmd("true") | CAT).run(stdin=DEVNULL, capture=True)
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return [sorted(blocked), sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), sorted(signal.sigpending())]


def test_signal_mask_is_as_before() -> None:
    """SIGCHLD is blocked meanwhile only, and stays blocked for who had it so."""
    assert isolated(signals_as_before) == [[int(signal.SIGCHLD)], [], []]


def interrupted() -> list[Any]:
    """Be interrupted in a pipeline by a signal handler that raises; its last stage sends the signal."""

    def handler(_number: int, _frame: object) -> None:
        raise LookupError("enough")

    signal.signal(signal.SIGALRM, handler)
    last = sh('read x; echo "$x"; kill -ALRM $PPID; exec sleep 60')
    try:
        (sh("echo a; exec sleep 60") | CAT | last).run(capture=True)
    except LookupError as error:
        result: Any = error.result  # type: ignore[attr-defined]
        return [result.stdout.decode(), [stage.signal for stage in result.stages], sorted(observe.children())]
    return ["not interrupted"]


def test_handler_that_raises_ends_all() -> None:
    """What was read up to then is in the exception."""
    out, signals, left = isolated(interrupted)
    assert (out, left) == ("a\n", [])
    # The middle one may see the end of its input before it is killed.
    assert (signals[0], signals[2]) == (9, 9)


def test_interrupt_before_the_start_touches_no_job_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is prepared has no jobs between its runs; they may be another run's by then."""

    def refuse() -> object:
        raise LookupError("no memory")

    pipe: Any = CAT | CAT
    pipe.run(stdout=PIPE, stdin=DEVNULL)
    (prepared,) = pipe._prepared.values()
    assert [members.jobs for members in prepared._free] == [[]]
    monkeypatch.setattr(_native, "jobs", [])
    monkeypatch.setattr(_native, "new_job", refuse)
    with pytest.raises(LookupError):
        pipe.run(stdout=PIPE, stdin=DEVNULL)
    assert prepared._free == []


def handler_runs_meanwhile() -> list[Any]:
    """Let a handler that raises nothing run a pipeline of its own in the middle of one."""
    pipe = sh("sleep 0.2; echo x") | CAT
    inner: list[Any] = []
    pipe.run(capture=True)  # what is imported late is there by now
    signal.signal(signal.SIGALRM, lambda *_args: inner.append(pipe.run(capture=True).text()))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return [pipe.run(capture=True).text(), inner]


def test_handler_may_run_the_same_pipeline() -> None:
    """A run has its own jobs."""
    assert isolated(handler_runs_meanwhile) == ["x\n", ["x\n"]]


def test_many_threads_run_one_pipeline(programs: Programs) -> None:
    """The value is shared, the runs are not."""
    pipe = cmd(programs.node, "cat", "", "", "0") | CAT
    found: list[bytes | None] = []

    def work(number: int) -> None:
        for _ in range(20):
            found.append(pipe.run(input=b"%d" % number, stdout=PIPE).stdout)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(filter(None, found)) == sorted(b"%d" % number for number in range(4) for _ in range(20))


def test_output_that_is_much_and_pieces_that_are_many() -> None:
    """On the heap, from several stages."""
    result = (sh("head -c 3000000 /dev/zero; head -c 200000 /dev/zero >&2") | CAT).run(capture=True, stdin=DEVNULL)
    assert result.stdout == bytes(3_000_000)
    assert [len(stage.stderr or b"") for stage in result.stages] == [200_000, 0]
    assert (sh("echo a >&2") | sh("cat; echo b >&2")).run(capture=True, stdin=DEVNULL).stderr == b"a\nb\n"


def test_usage_of_the_whole_is_that_of_its_stages() -> None:
    """Also when it is asked for late."""
    result = (cmd("true") | CAT).run(capture=True, stdin=DEVNULL)
    assert result.usage is not None
    assert result.usage.minflt == sum(stage.usage.minflt for stage in result.stages if stage.usage)
    assert os.getpid() not in {stage.pid for stage in result.stages}
