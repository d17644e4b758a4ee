"""Pools whose commands an executor runs in other processes: Dask distributed on a real scheduler.

Each test has a process of its own: distributed leaves threads behind.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("distributed") is None, reason="no distributed"),
]

TASKS = 2000
FAILING = {400: 3, 900: 4, 1500: 5}
CANCELLED = 500
HELD = 700
AT_ONCE = 100


@contextmanager
def cluster(workers: int, threads: int) -> Iterator[Any]:
    """A scheduler and worker processes on loopback; its client."""
    import logging

    from distributed import LocalCluster

    for name in ("distributed.nanny", "distributed.scheduler", "distributed.worker", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        ) as made,
        made.get_client() as client,
    ):
        yield client


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "not true in time"
        time.sleep(0.02)
    return value


def words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill_worker(pid: int) -> None:
    """Kill a worker by a handle: it is a child of this process."""
    import psutil

    (worker,) = [child for child in psutil.Process().children(recursive=True) if child.pid == pid]
    worker.kill()


# Appends a line to a file of its own, its pid and that of the worker; then does what it is for.
SCRIPT = r"""
log=$1/$2
echo $$ $PPID >>"$log"
case $3 in
fail) echo out; echo "task $2 fails" >&2; exit $4;;
sleep) echo begun; exec sleep 600;;
held) while read -r line; do lines=x$lines; done <"$log"; [ "$lines" = x ] && exec sleep 600;;
esac
echo "$2"
"""


def run_on_four_workers(folder: str) -> dict[str, Any]:
    """2,000 commands; three fail, one is cancelled, and a worker is killed in the middle."""
    import fastproc
    from fastproc import Pool, cmd

    def command(number: int) -> fastproc.Command:
        what = {CANCELLED: "sleep", HELD: "held", **dict.fromkeys(FAILING, "fail")}.get(number, "")
        return cmd("sh", "-c", SCRIPT, "sh", folder, str(number), what, str(FAILING.get(number, 0)))

    with cluster(4, 1) as client:
        pids = client.run(os.getpid)
        with Pool(AT_ONCE, executor=client.get_executor()) as pool:
            futures = [pool.submit(command(number)) for number in range(TASKS)]
            (sleeper, _) = map(int, until(lambda: words(Path(folder, str(CANCELLED)))[:2]))
            assert futures[CANCELLED].cancel()
            (orphan, worker) = map(int, until(lambda: words(Path(folder, str(HELD)))[:2]))
            # In the middle: of those behind it some have ended, some run, and some wait.
            until(lambda: sum(future.done() for future in futures) > 1000)
            in_the_middle = not all(future.done() for future in futures)
            kill_worker(worker)
            assert pool.drain(60)
        (address,) = [address for address, pid in pids.items() if pid == worker]
    outcomes: Counter[str] = Counter()
    wrong = []
    for number, future in enumerate(futures):
        if future.cancelled():
            kind = "cancelled"
            right = number == CANCELLED and future.partial.stdout == b"begun\n"
            right = right and future.partial.signal == signal.SIGTERM and future.partial.killed == "terminated"
        elif error := future.exception():
            kind = type(error).__name__
            result = error.result  # type: ignore[attr-defined]
            right = FAILING.get(number) == result.returncode == error.returncode  # type: ignore[attr-defined]
            right = right and (result.stdout, result.stderr) == (b"out\n", f"task {number} fails\n".encode())
            right = right and f"task {number} fails" in str(error)
        else:
            kind, result = "done", future.result()
            right = number not in FAILING and result.stdout == f"{number}\n".encode() and result.ok
            right = right and result.argv == command(number).argv and result.usage.minflt > 0
            right = right and result.worker.startswith("tcp://127.0.0.1:")
        outcomes[kind] += 1
        if not right:
            wrong.append((number, kind))
    runs = {number: len(words(Path(folder, str(number)))) // 2 for number in range(TASKS)}
    held = [expression for loss in pool.losses for expression in loss.expressions]
    reported = {number for number in range(TASKS) if futures[number].lost_workers}
    again = futures[HELD].result()
    return {
        "outcomes": outcomes,
        "wrong": wrong,
        "in_the_middle": in_the_middle,
        "losses": [loss.worker for loss in pool.losses] == [address],
        "held": sorted(int(expression.argv[5]) for expression in held) == sorted(reported),  # type: ignore[attr-defined]
        "reported": sorted(reported),
        "by_whom": {worker for number in reported for worker in futures[number].lost_workers} == {address},
        "not once": sorted(number for number in range(TASKS) if runs[number] != 1 and number not in reported),
        "most": max(runs.values()),
        "held one": (runs[HELD], again.lost_workers == (address,), again.worker != address),
        "left": [pid for pid in (sleeper, orphan) if not is_gone(pid)],
    }


def test_two_thousand_commands_on_four_workers_of_dask(tmp_path: Path) -> None:
    """Every result is right, and nothing runs twice but what the killed worker held, which is reported."""
    found = isolated(run_on_four_workers, str(tmp_path), timeout=120)
    assert found["outcomes"] == {"done": TASKS - 4, "ExitError": 3, "cancelled": 1}
    assert found["wrong"] == []
    assert found["in_the_middle"]
    assert found["losses"]
    assert found["held"]
    assert found["by_whom"]
    assert HELD in found["reported"]
    assert len(found["reported"]) <= AT_ONCE
    assert found["not once"] == []
    assert found["held one"] == [2, True, True]
    assert found["most"] == 2
    assert found["left"] == []


def fill(folder: Path, pool: Any, places: int) -> list[Any]:
    """Tasks that sleep on all places of the workers."""
    sleepers = [pool.submit("sh", "-c", SCRIPT, "sh", str(folder), f"fill{n}", "sleep") for n in range(places)]
    until(lambda: all(words(folder / f"fill{n}") for n in range(places)))
    return sleepers


def end_tasks(folder: str) -> None:
    """Everything that ends a task before its time."""
    import dask
    from distributed import Client

    import fastproc
    from fastproc import Pool, cmd

    place = Path(folder)
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), cluster(1, 2) as client:
        heard: list[Any] = []
        client.subscribe_topic("all", heard.append)
        executor = client.get_executor()
        with pytest.raises(TypeError, match=r"executor: .*client.get_executor.*not the client itself"):
            Pool(executor=client)
        with Pool(executor=executor) as pool, Pool(2, executor=executor) as other:
            # Cancelled while it runs: its whole group is ended, and the Result is that up to then.
            sleepers = fill(place, pool, 2)
            waiting = pool.submit("touch", str(place / "never"))
            assert waiting.cancel()
            assert sleepers[0].cancel()
            assert sleepers[1].cancel(kill=True)
            assert pool.drain(30)
            assert [sleeper.partial.returncode for sleeper in sleepers] == [-signal.SIGTERM, -signal.SIGKILL]
            assert [sleeper.partial.stdout for sleeper in sleepers] == [b"begun\n"] * 2
            assert waiting.cancelled()
            assert waiting.partial is None
            assert all(is_gone(int(words(place / f"fill{n}")[0])) for n in range(2))
            # What was cancelled before its turn has not run: those behind it have.
            assert other.submit("echo", "x").result().stdout == b"x\n"
            assert not (place / "never").exists()
            # A deadline takes the whole tree with it.
            late = other.submit("sh", "-c", "setsid sleep 600 & echo $!; wait", timeout=0.5, kill_tree=True)
            with pytest.raises(fastproc.TimeoutExpired) as raised:
                late.result()
            assert raised.value.result.worker.startswith("tcp://")
            assert is_gone(int(raised.value.stdout))
            # The commands of a pipeline end with it, too.
            piped = other.submit(cmd("sh", "-c", SCRIPT, "sh", folder, "piped", "sleep") | cmd("cat"))
            until(lambda: words(place / "piped"))
            assert piped.cancel()
            assert other.drain(30)
            assert is_gone(int(words(place / "piped")[0]))
        # A map on it, with its summary.
        seen: list[int] = []
        with fastproc.map(
            "sh -c 'exit {}'",
            "0102",
            check=False,
            executor=executor,
            progress=lambda summary: seen.append(summary.finished),
        ) as results:
            assert [result.returncode for result in results] == [0, 1, 0, 2]
            assert (results.summary.succeeded, results.summary.failed) == (2, 2)
        assert max(seen) == 4
        # stop() waits until what runs there is gone.
        stopped = Pool(executor=executor)
        for n in range(2):
            (place / f"fill{n}").unlink()
        futures = fill(place, stopped, 2)
        stopped.stop()
        assert all(is_gone(int(words(place / f"fill{n}")[0])) for n in range(2))
        assert [future.cancelled() for future in futures] == [True, True]
        # A client that goes takes its commands with it.
        for n in range(2):
            (place / f"fill{n}").unlink()
        gone = Client(client.scheduler.address, set_as_default=False)
        pool = Pool(executor=gone.get_executor())
        futures = fill(place, pool, 2)
        gone.close()
        for n, future in enumerate(futures):
            with pytest.raises(fastproc.WorkerLost, match="cancelled there"):
                future.result(30)
            until(lambda: is_gone(int(words(place / f"fill{n}")[0])))  # noqa: B023
        pool.close()
        # A worker that dies takes its commands with it; here the scheduler may not run them again.
        with Pool(executor=executor) as pool:
            lost = pool.submit("sh", "-c", SCRIPT, "sh", folder, "lost", "sleep")
            (child, worker) = map(int, until(lambda: words(place / "lost")))
            ((address, _),) = client.run(os.getpid).items()
            kill_worker(worker)
            error = lost.exception(30)
            assert isinstance(error, fastproc.WorkerLost)
            assert (error.workers, lost.lost_workers) == ((address,), (address,))
            assert type(error.__cause__).__name__ == "KilledWorker"
            assert [(loss.worker, loss.expressions) for loss in pool.losses] == [(address, (lost.expression,))]
            until(lambda: is_gone(child))
            # With the next worker it goes on.
            assert pool.submit("echo", "y").result(30).worker != address
        assert any(event[1].get("action") == "remove-worker" for event in heard)


def test_ends_of_tasks_on_dask(tmp_path: Path) -> None:
    """Cancelled, stopped, too late, their client or worker gone: the command is gone, and what is told is true."""
    isolated(end_tasks, str(tmp_path), timeout=120)


def forget_tasks(folder: str) -> None:
    """What the scheduler knows of cancelled tasks, with one worker that is killed, and stopped by a signal."""
    from fastproc import Pool
    from fastproc.pool import _dask

    log, held = Path(folder, "log"), Path(folder, "held")
    _dask._RECENT_SECONDS = 0.2
    with cluster(1, 1) as client:
        scheduler = client.cluster.scheduler

        def asks() -> list[int]:
            """How the tasks of a worker were asked to end; called there."""
            from fastproc.pool import _worker

            return [held._asked for held in list(_worker._running.values())]

        def keys() -> list[str]:
            return [key for key in list(scheduler.tasks) if str(key).startswith("fastproc-")]

        with Pool(executor=client.get_executor()) as pool:
            # SIGTERM is ignored: it runs until its worker is killed.
            stubborn = f"echo $$ $PPID >>{log}; trap '' TERM; exec sleep 600"
            sleeper = pool.submit("sh", "-c", stubborn, grace=60.0)
            (child, worker) = map(int, until(lambda: words(log)))
            waiting = pool.submit("touch", f"{folder}/never")
            until(lambda: len(keys()) == 2)
            # What waits in the scheduler's queue leaves it.
            assert waiting.cancel()
            until(lambda: len(keys()) == 1)
            assert sleeper.cancel()
            until(lambda: client.run(asks) == {next(iter(scheduler.workers)): [1]})
            kill_worker(worker)
            assert pool.drain(30)
            assert pool.submit("echo", "x").result(30).stdout == b"x\n"
            until(lambda: is_gone(child))
            until(lambda: not keys())
            # It has begun once.
            assert words(log) == [str(child), str(worker)]
            # Nothing is remembered for long.
            until(lambda: not pool._crew.link._recent)  # type: ignore[union-attr]
            # A worker that does not answer holds up nobody; what it runs ends when it goes on.
            _dask._PATIENCE_SECONDS = 0.5
            late = pool.submit("sh", "-c", SCRIPT, "sh", folder, "held", "sleep")
            (child, worker) = map(int, until(lambda: words(held)))
            os.kill(worker, signal.SIGSTOP)
            try:
                assert late.cancel()
                assert pool.drain(15)
            finally:
                os.kill(worker, signal.SIGCONT)
            until(lambda: is_gone(child))
            until(lambda: not keys())
        assert not Path(folder, "never").exists()


def test_cancelled_tasks_are_forgotten_by_the_scheduler(tmp_path: Path) -> None:
    """They are not run again when their worker dies, nor begun later; a worker that is silent is not waited for."""
    isolated(forget_tasks, str(tmp_path), timeout=120)


def refuse_threads() -> None:
    from distributed import Client, LocalCluster

    import fastproc
    from fastproc import Pool

    def make(**options: Any) -> Any:
        return LocalCluster(n_workers=1, processes=False, dashboard_address=None, memory_limit=0, **options)

    with make() as made, Client(made) as client:
        with pytest.raises(TypeError, match=r"^executor: its workers must be other processes"):
            Pool(executor=client.get_executor())
    with make(protocol="tcp", host="127.0.0.1") as made, Client(made) as client:
        with Pool(executor=client.get_executor()) as pool:
            with pytest.raises(fastproc.Unsupported, match=r"^executor: its workers must be other processes"):
                pool.submit("true").result(10)


def test_workers_of_this_process_are_refused() -> None:
    """By their address, or when they get a task."""
    isolated(refuse_threads)


def run_in_a_loop(folder: str) -> None:
    """The pool of a loop with a client of the same loop."""
    import asyncio

    from distributed import Client

    from fastproc import aio, cmd

    async def main(address: str) -> None:
        async with (
            Client(address, asynchronous=True, set_as_default=False) as client,
            aio.Pool(8, executor=client.get_executor()) as pool,
        ):
            found = [result.stdout async for result in pool.map(lambda n: cmd("echo", str(n)), range(20))]
            assert found == [f"{n}\n".encode() for n in range(20)]
            future = pool.submit("sh", "-c", SCRIPT, "sh", folder, "loop", "sleep")
            while not words(Path(folder, "loop")):
                await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError):
                # The cancellation of the task that waits ends the command, and sees it gone.
                async with asyncio.timeout(0):
                    await future
            assert is_gone(int(words(Path(folder, "loop"))[0]))
            assert future.partial.stdout == b"begun\n"

    with cluster(1, 1) as client:
        asyncio.run(main(client.scheduler.address))


def test_an_asynchronous_pool_on_dask(tmp_path: Path) -> None:
    """As the blocking one."""
    isolated(run_in_a_loop, str(tmp_path), timeout=120)
