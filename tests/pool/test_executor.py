"""Pools whose commands an executor of `concurrent.futures` runs in other processes."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated
from fastproc import MEMFD, CaptureLimit, Pool, Retries, cmd
from fastproc.pool import Executor, Loss
from support.pools import DOORS, Door

pytestmark = pytest.mark.filterwarnings("error")


class Never(concurrent.futures.Executor):
    """Nothing may come here."""

    def submit(self, *_arguments: Any, **_options: Any) -> Any:
        raise AssertionError("submitted")


class Asker:
    """An iterable that is no value."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("stdin", {"stdin": 0}),
    ("stdin", {"stdin": sys.__stdin__}),
    ("stdout", {"stdout": 1}),
    ("stderr", {"stderr": sys.__stderr__}),
    ("cwd", {"cwd": 0}),
    ("cgroup", {"cgroup": 0}),
    ("root", {"root": 0, "setsid": False}),
    ("fds", {"fds": {7: 0}}),
    ("pass_fds", {"pass_fds": [5]}),
    ("listen_fds", {"listen_fds": {"web": 0}}),
    ("foreground", {"foreground": True}),
    ("ctty", {"ctty": 0, "setsid": True}),
    ("input", {"input": Asker()}),
    ("input", {"input": (item for item in (b"x",))}),
    ("on_line", {"on_line": print}),
    ("before_spawn", {"before_spawn": lambda command: command}),
    ("tee", {"tee": True}),
    ("stdout_limit", {"stdout_limit": CaptureLimit(1, spill=sys.__stdout__.buffer)}),
]


@pytest.mark.parametrize(("name", "options"), REFUSED, ids=[f"{name}{n}" for n, (name, _) in enumerate(REFUSED)])
def test_what_belongs_to_this_process_is_refused_by_name(name: str, options: dict[str, Any]) -> None:
    """Of a command, of a part of a pipeline, of the pool, of a map: before anything is given to the executor."""
    with Pool(executor=Never()) as pool:
        with pytest.raises(ValueError, match=f"^{name}: cannot go to another process"):
            pool.submit("cat", **options)
        with pytest.raises(ValueError, match=f"^{name}: cannot go to another process"):
            next(pool.map(None, [cmd("cat", **{"capture": True, **options})]))
        whole = {"on_line", "tee", "stdout_limit"}
        if name not in whole:
            with pytest.raises(ValueError, match=f"^{name}: cannot go to another process"):
                pool.submit(cmd("echo", "x") | cmd("cat", **options))
            with pytest.raises(ValueError, match=f"^{name}: cannot go to another process"):
                pool.submit("cat", fastproc.fd_of(cmd("cat", **options)))
        else:
            with pytest.raises(ValueError, match=f"^{name}: cannot go to another process"):
                pool.submit(cmd("echo", "x") | cmd("cat"), **options)
        assert pool.running == pool.queued == 0
    with pytest.raises(ValueError, match=f"^{name}: cannot go to another process"):
        Pool(executor=Never(), **options)
    with pytest.raises(ValueError, match=f"^{name}: cannot go to another process"):
        fastproc.map("cat", "a", executor=Never(), **options)


def test_redirections_of_expressions_are_looked_at() -> None:
    """A file that a part of a pipeline was given belongs to this process, too."""
    with Pool(executor=Never()) as pool:
        for bad in (
            (cmd("cat") | cmd("cat")).stdin_file(0),
            cmd("cat").then(cmd("cat").stdout_file(1)),
            (cmd("cat") | cmd("cat")).stdin_bytes(Asker()),
            cmd("cat").tee(cmd("cat").stderr_file(sys.__stderr__)),
        ):
            with pytest.raises(ValueError, match=r"^(stdin|stdout|stderr|input): cannot go to another process"):
                pool.submit(bad)


def test_what_does_not_pickle_is_named() -> None:
    """Whatever it is."""
    with Pool(executor=Never()) as pool:
        with pytest.raises(TypeError, match=r"^env_remove: cannot go to another process: "):
            pool.submit(cmd("cat") | cmd("cat"), env_remove={"A": 1}.keys())


@pytest.mark.parametrize("executor", [5, "tcp://127.0.0.1:8786", Never])
def test_no_executor_is_refused(executor: Any) -> None:
    """And it says what is meant."""
    for make in (lambda: Pool(executor=executor), lambda: fastproc.map("cat", "a", executor=executor)):
        with pytest.raises(
            TypeError, match=r"^executor: must be a concurrent.futures.Executor.*fastproc\[dask\].*, not "
        ):
            make()
    with Executor(1) as own, pytest.raises(TypeError, match=r"^executor: runs commands itself"):
        Pool(executor=own)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        with pytest.raises(TypeError, match=r"^executor: its workers must be other processes"):
            Pool(executor=threads)


class Threads(concurrent.futures.Executor):
    """Threads of this process, which nobody knows as such."""

    def __init__(self, threads: concurrent.futures.Executor) -> None:
        self.threads = threads

    def submit(self, *arguments: Any, **options: Any) -> Any:
        return self.threads.submit(*arguments, **options)


def test_threads_of_this_process_run_nothing(tmp_path: Path) -> None:
    """Whoever ends the commands of a worker would end those of others with them."""
    with concurrent.futures.ThreadPoolExecutor(1) as threads, Pool(executor=Threads(threads)) as pool:
        with pytest.raises(fastproc.Unsupported, match=r"^executor: its workers must be other processes"):
            pool.submit("touch", f"{tmp_path}/ran").result(10)
    assert not Path(tmp_path, "ran").exists()


def test_output_of_a_map_is_grouped() -> None:
    """Lines as they come would have to be called here."""
    for output in ("line", "ungroup"):
        with pytest.raises(ValueError, match=r"^output: "):
            fastproc.map("cat", "a", executor=Never(), output=output)


@contextmanager
def processes(workers: int = 2) -> Iterator[concurrent.futures.Executor]:
    with concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as executor:
        yield executor


def same(theirs: Any, ours: Any) -> bool:
    """Whether a Result or an exception says the same, but for what differs from run to run."""
    if isinstance(ours, BaseException):
        mine, other = dict(ours.__dict__), dict(theirs.__dict__)
        pairs = [(mine.pop("result", None), other.pop("result", None))]
        return (
            type(theirs) is type(ours)
            and str(theirs) == str(ours)
            and mine == other
            and all((a is None) is (b is None) and (a is None or same(b, a)) for a, b in pairs)
        )
    names = ["argv", "returncode", "stdout", "stderr", "mechanism", "ok", "timed_out", "killed", "stdout_dropped"]
    equal = type(theirs) is type(ours) and all(getattr(theirs, name) == getattr(ours, name) for name in names)
    if equal and isinstance(ours, fastproc.PipelineResult):
        equal = len(theirs.stages) == len(ours.stages) and all(map(same, theirs.stages, ours.stages))
        equal = equal and theirs.line == ours.line and (theirs.failed is None) is (ours.failed is None)
    return equal


def outcomes(pool: Pool, folder: str) -> list[Any]:
    """What a pool makes of commands of every kind."""
    sh = "sh", "-c"
    given: list[tuple[Any, ...]] = [
        (("echo", "a b", "ä"), {}),
        ((b"printf", b"%s.", b"\xff\xfe", Path("x y")), {}),
        (("cat",), {"input": b"in\0\xff"}),
        (("cat",), {"input": [b"a", b"b"]}),
        ((*sh, 'echo "$X$PWD"; echo e >&2'), {"env_add": {"X": "v"}, "cwd": folder}),
        (("env",), {"env": {"A": b"\xff"}}),
        ((*sh, "echo $0; umask; exit 3"), {"umask": 0o27, "argv0": "other", "ok_codes": [0, 3]}),
        ((*sh, "echo out; echo err >&2; exit 3"), {}),
        ((*sh, "echo out; exit 3"), {"check": False}),
        ((*sh, "kill -9 $$"), {}),
        (("no-such-program", "x"), {}),
        (("cat",), {"cwd": "/no such directory"}),
        ((*sh, "echo begun; exec sleep 60"), {"timeout": 0.3, "grace": 20.0}),
        ((*sh, "setsid sleep 60 & echo begun; wait"), {"timeout": 0.3, "kill_tree": True, "grace": 20.0}),
        (("seq", "1", "1000"), {"stdout_limit": CaptureLimit(10, 10)}),
        ((*sh, "printf 0123456789abc; exec sleep 60"), {"stdout_limit": CaptureLimit(10, over="raise"), "grace": 20.0}),
        (("seq", "3"), {"stdout": MEMFD}),
        (("cat",), {"stdin": f"{folder}/given", "stdout": f"{folder}/taken"}),
        ((cmd("printf", "b\\na\\n") | cmd("sort"),), {}),
        ((cmd("false") | cmd("cat"),), {}),
        ((cmd("echo", "x").then(cmd("false")).or_else(cmd("echo", "y")),), {"timeout": 60}),
        ((cmd("no-such-program") | cmd("cat"),), {}),
        (("cat", fastproc.fd_of(cmd("echo", "sub"))), {}),
        ((cmd("cat") | cmd("tr", "a", "b"),), {"input": b"aa", "env_add": {"A": "b"}}),
    ]
    futures = [pool.submit(*arguments, **options) for arguments, options in given]
    return [future.exception() or future.result() for future in futures]


def compare_with_a_local_pool(folder: str) -> list[Any]:
    Path(folder, "given").write_text("given\n")
    with processes() as executor, Pool(executor=executor) as remote, Pool(2) as local:
        theirs, ours = outcomes(remote, folder), outcomes(local, folder)
        different = [(repr(a), repr(b)) for a, b in zip(theirs, ours, strict=True) if not same(a, b)]
        results = [getattr(item, "result", item) for item in theirs]
        workers = {result.worker.rpartition(":")[0] for result in results if isinstance(result, fastproc.Result)}
        return [different, sorted(workers) == [os.uname().nodename], Path(folder, "taken").read_text()]


@pytest.mark.slow
def test_results_and_exceptions_are_those_of_a_local_pool(tmp_path: Path) -> None:
    """Values, limits, deadlines, trees, pipelines, substitutions, errors: of every kind the same comes back."""
    assert isolated(compare_with_a_local_pool, str(tmp_path)) == [[], True, "given\n"]


def all_of_the_pool(name: str, folder: str) -> None:
    """What is the pool's own holds for tasks of an executor."""
    door = Door(name)
    log = Path(folder, "log")

    async def body() -> None:
        with processes(1) as executor:
            async with door.Pool(1, executor=executor) as pool:
                first = pool.submit("sh", "-c", f"echo first >>{log}; while [ ! -e {folder}/go ]; do sleep 0.02; done")
                await door.until(log.exists)
                waiting = pool.submit("touch", f"{folder}/never")
                for priority in (1, 3, 2):
                    pool.submit("sh", "-c", f"echo {priority} >>{log}", priority=priority)
                assert waiting.cancel()
                # Where the executor cannot end what runs, that is told: it keeps its place until it has ended.
                assert first.cancel()
                assert first.cancelled()
                Path(folder, "go").touch()
                assert await pool.drain(30)
                assert first.partial.ok
                assert log.read_text().split() == ["first", "3", "2", "1"]
                assert not Path(folder, "never").exists()
                # Tried again.
                again = pool.submit("sh", "-c", f"echo try >>{folder}/tries; exit 1", retries=Retries(2, delay=0.01))
                with pytest.raises(fastproc.ExitError):
                    await again
                assert again.tries == 3
                assert Path(folder, "tries").read_text() == "try\n" * 3
                results = [r.text() async for r in pool.map(lambda n: cmd("echo", str(n)), range(5), ahead=2)]
                assert results == [f"{n}\n" for n in range(5)]
                assert pool.losses == ()
            failing = door.Pool(2, executor=executor, fail_fast=True, deadline=20)
            bad = failing.submit("false")
            with pytest.raises(fastproc.ExitError):
                await bad
            with pytest.raises(RuntimeError, match="ended by the failure"):
                failing.submit("true")
            await failing.stop()
            # The worker dies with a command, which dies too.
            lost = door.Pool(executor=executor)
            future = lost.submit("sh", "-c", f"echo $$ $PPID >{folder}/pids; exec sleep 600")
            await door.until(lambda: Path(folder, "pids").exists() and Path(folder, "pids").read_text())
            child, worker = map(int, Path(folder, "pids").read_text().split())
            (process,) = [one for one in multiprocessing.active_children() if one.pid == worker]
            process.kill()
            with pytest.raises(fastproc.WorkerLost, match="BrokenProcessPool") as raised:
                await future
            assert raised.value.line == f"{future.expression}"
            await door.until(lambda: not Path(f"/proc/{child}").exists() or is_zombie(child))
            with pytest.raises(fastproc.WorkerLost):
                await lost.submit("true")
            await lost.close()

    door.run(body)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.slow
@pytest.mark.parametrize("name", DOORS)
def test_limits_and_ends_are_the_pools_own(name: str, tmp_path: Path) -> None:
    """Priority, cancellation, retries, look-ahead, fail-fast, a lost worker: over each door."""
    Door(name)
    isolated(all_of_the_pool, name, str(tmp_path))


def resumed(folder: str) -> list[Any]:
    log = f"{folder}/joblog"
    with processes() as executor:
        first = fastproc.map("sh -c 'echo {}; exit {}'", "0102", check=False, executor=executor, joblog=log)
        codes = [result.returncode for result in first]
        again = fastproc.map(
            "sh -c 'echo {}; exit {}'",
            "0102",
            check=False,
            executor=executor,
            joblog=log,
            resume="failed",
            output="group",
        )
        return [codes, [result.returncode for result in again], str(again.summary).partition(" in ")[0]]


@pytest.mark.slow
def test_map_with_a_log_on_an_executor(tmp_path: Path) -> None:
    """Logged, resumed, printed."""
    assert isolated(resumed, str(tmp_path)) == [[0, 1, 0, 2], [1, 2], "0 succeeded, 2 failed, 2 skipped"]


class Answering(concurrent.futures.Executor):
    """Gives one answer to all."""

    def __init__(self, answer: BaseException, at_once: bool) -> None:
        self.answer = answer
        self.at_once = at_once

    def submit(self, *_arguments: Any, **_options: Any) -> Any:
        if self.at_once:
            raise self.answer
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_exception(self.answer)
        return future


MISSING = ModuleNotFoundError("No module named 'fastproc'", name="fastproc")


@pytest.mark.parametrize(
    ("answer", "at_once", "kind", "text"),
    [
        (MISSING, False, fastproc.Unsupported, "^executor: its workers must have fastproc, as here: No module"),
        (OSError("gone"), False, fastproc.WorkerLost, "^`echo x`: .*: OSError: gone$"),
        (concurrent.futures.BrokenExecutor("broken"), True, fastproc.WorkerLost, ": broken$"),
        (RuntimeError("cannot schedule new futures"), True, RuntimeError, "^cannot schedule new futures$"),
        (KeyboardInterrupt(), False, fastproc.WorkerLost, "KeyboardInterrupt"),
    ],
)
def test_what_the_executor_raises(answer: BaseException, at_once: bool, kind: type, text: str) -> None:
    """It comes as the exception of the task, with the executor's own as the cause; the task may be tried again."""
    with Pool(executor=Answering(answer, at_once)) as pool:
        future = pool.submit("echo", "x", retries=Retries(1, delay=0.0))
        error = future.exception(10)
        assert type(error) is kind
        with pytest.raises(kind, match=text):
            raise error
        assert future.tries == (2 if kind is fastproc.WorkerLost else 1)
        if kind is fastproc.WorkerLost:
            assert error.__cause__ is answer


class Answered(concurrent.futures.Executor):
    """Gives what a worker would."""

    def __init__(self, result: Any, error: BaseException | None) -> None:
        self.answer = pickle.dumps(("there", result, error))

    def submit(self, *_arguments: Any, **_options: Any) -> Any:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_result(self.answer)
        return future


def test_stages_tell_who_ran_them() -> None:
    """As the Result of the pipeline. Nothing of what was sent is kept."""
    whole = fastproc.run(cmd("echo", "x") | cmd("cat"), capture=True)
    with Pool(executor=Answered(whole, None)) as pool:
        future = pool.submit(cmd("echo", "x") | cmd("cat"))
        result = future.result(10)
        assert isinstance(result, fastproc.PipelineResult)
        assert [one.worker for one in (result, *result.stages)] == ["there"] * 3
        assert future._task is not None
        assert future._task.options is None


def test_an_exception_with_another_kind_of_result() -> None:
    """It comes as it is."""
    error = ValueError("other")
    error.result = 5  # type: ignore[attr-defined]
    with Pool(executor=Answered(None, error)) as pool:
        found = pool.submit("echo").exception(10)
        assert (type(found), str(found), found.result) == (ValueError, "other", 5)  # type: ignore[union-attr]


class Interrupted(concurrent.futures.Executor):
    """A signal handler raises when it has a task already."""

    def __init__(self) -> None:
        self.futures: list[Any] = []

    def submit(self, *_arguments: Any, **_options: Any) -> Any:
        class Future(concurrent.futures.Future[Any]):
            def add_done_callback(self, fn: Any) -> None:
                super().add_done_callback(fn)
                raise KeyboardInterrupt

        self.futures.append(Future())
        return self.futures[-1]


def test_an_interrupt_while_a_task_is_given_to_the_executor() -> None:
    """It is taken back, and not tried again."""
    executor = Interrupted()
    with Pool(1, executor=executor, retries=Retries(3, delay=0.0)) as pool:
        with pytest.raises(KeyboardInterrupt):
            next(pool.map(None, [cmd("sleep", "60")]))
        assert [future.cancelled() for future in executor.futures] == [True]
        assert (pool.running, pool.queued) == (0, 0)


def leave_running(folder: str) -> str:
    """A pool that is left open, with a task in an executor, at the exit."""
    code = f"""
import concurrent.futures, multiprocessing, fastproc
if __name__ == "__main__":
    executor = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    pool = fastproc.Pool(executor=executor)
    futures = [pool.submit("sh", "-c", "sleep 0.3; echo x >>{folder}/out") for _ in range(2)]
    futures[0].add_done_callback(lambda future: None)
"""
    script = Path(folder, "leaves.py")
    script.write_text(code)
    done = fastproc.run(sys.executable, str(script), capture=True, timeout=60)
    return json.dumps([done.returncode, done.stderr.decode()])


@pytest.mark.slow
def test_an_open_pool_at_the_exit(tmp_path: Path) -> None:
    """The interpreter ends, with what its executor was given done or not, and no complaint."""
    assert json.loads(leave_running(str(tmp_path))) == [0, ""]


def test_a_lost_worker_as_a_value() -> None:
    """It pickles, and tells who and what."""
    error = fastproc.WorkerLost("sleep 9", ["a", "b"], "gone")
    again = pickle.loads(pickle.dumps(error))
    assert (again.line, again.workers, again.reason) == ("sleep 9", ("a", "b"), "gone")
    assert str(again) == "`sleep 9`: the executor has lost it (held by a, b), so it may have run or not: gone"
    loss = Loss("a", (cmd("sleep", "9"),))
    assert pickle.loads(pickle.dumps(loss)) == loss
