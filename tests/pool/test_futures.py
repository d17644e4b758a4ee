"""The futures and the Executor of a pool, in the hands of the standard library; pools in forks, at exits, at limits."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated, wait_until
from fastproc import Pool, cmd
from fastproc.pool import Executor, Future

pytestmark = pytest.mark.filterwarnings("error")


def test_futures_are_standard_ones() -> None:
    """as_completed(), wait() and callbacks work."""
    with Pool(4) as pool:
        futures = [pool.submit("echo", str(number)) for number in range(30)]
        assert all(isinstance(future, concurrent.futures.Future) for future in futures)
        found = {int(future.result().stdout) for future in concurrent.futures.as_completed(futures)}
        assert found == set(range(30))
        bad = pool.submit("false")
        done, not_done = concurrent.futures.wait([bad, futures[0]], timeout=10)
        assert (len(done), not_done) == (2, set())
        assert isinstance(bad.exception(), fastproc.ExitError)
        called: list[Any] = []
        future = pool.submit("true")
        future.add_done_callback(called.append)
        pool.drain()
        assert called == [future]
        assert future.expression == cmd("true")


def test_a_cancelled_future_is_told_to_who_waits() -> None:
    """as_completed() gives it, whether it ran or not."""
    with Pool(1) as pool:
        running, waiting = pool.submit("sleep", "60"), pool.submit("sleep", "61")
        wait_until(running.running)
        assert waiting.cancel()
        assert running.cancel(kill=True)
        assert set(concurrent.futures.as_completed([running, waiting], timeout=10)) == {running, waiting}
        partial = wait_until(lambda: running.partial)
        assert partial.returncode == -signal.SIGKILL


def test_wrapped_in_a_loop() -> None:
    """asyncio.wrap_future() waits for it, and its cancellation ends the command."""

    async def main() -> None:
        with Pool(2) as pool:
            result = await asyncio.wrap_future(pool.submit("echo", "x"))
            assert result.stdout == b"x\n"
            future = pool.submit("sleep", "60")
            wrapped = asyncio.wrap_future(future)
            wrapped.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wrapped
            while not future.cancelled():  # the loop passes it on
                await asyncio.sleep(0)
            assert pool.drain(10)

    asyncio.run(main())


def test_a_future_can_be_cancelled_after_the_pool() -> None:
    """It is too late then, and harmless."""
    with Pool(2) as pool:
        future, other = pool.submit("true"), pool.submit("sleep", "60")
        wait_until(future.done)
        pool.stop(kill=True)
    assert not future.cancel()
    assert other.cancel()
    assert not other.running()


def test_run_in_executor() -> None:
    """A loop takes the Executor for its own."""

    async def main() -> Any:
        with Executor(2) as executor:
            return await asyncio.get_running_loop().run_in_executor(executor, cmd("echo", "x"))

    assert asyncio.run(main()).stdout == b"x\n"


def test_executor_does_what_the_standard_one_does() -> None:
    """Commands, programs with arguments, functions that make commands; map; shutdown."""
    with Executor(max_workers=2, check=False) as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        assert isinstance(executor.submit(cmd("true")), Future)
        assert executor.submit("echo", "x").result().stdout == b"x\n"
        assert executor.submit(lambda word: cmd("echo", word), "y").result().stdout == b"y\n"
        assert executor.submit("false").result().returncode == 1
        made = executor.map(lambda number: cmd("echo", str(number)), range(10))
        assert [int(result.stdout) for result in made] == list(range(10))
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit("true")


def test_executor_of_a_pool_leaves_it_open() -> None:
    """It only uses it."""
    with Pool(2) as pool:
        with Executor(pool) as executor:
            executor.submit("true").result()
        assert pool.submit("true").result().ok


def test_shutdown_without_waiting_finishes_what_there_is() -> None:
    """And ends the threads afterwards (the leak check looks)."""
    executor = Executor(1)
    futures = [executor.submit("echo", "x") for _ in range(5)]
    executor.shutdown(wait=False)
    assert [future.result().stdout for future in futures] == [b"x\n"] * 5


def test_shutdown_with_cancel_futures() -> None:
    """What has not begun is cancelled, what runs is waited for."""
    executor = Executor(1)
    running = executor.submit("sh", "-c", "sleep 0.2; echo x")
    wait_until(running.running)
    waiting = [executor.submit("sleep", "60") for _ in range(3)]
    executor.shutdown(cancel_futures=True)
    assert running.result().stdout == b"x\n"
    assert all(future.cancelled() for future in waiting)


def test_no_thread_for_the_futures(monkeypatch: pytest.MonkeyPatch) -> None:
    """submit() says so, and the pool can be used again when there is one."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Pool(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(OSError, match="no thread") as caught:
                pool.submit("true")
            assert caught.value.errno == errno.EAGAIN
        assert pool.submit("true").result(20).ok


def test_interrupted_while_the_thread_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends by itself, and the end of the pool does not wait for its lock."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    pool = Pool(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.submit("true")
    pool.stop()


def test_from_many_threads() -> None:
    """Threads submit and map at the same time; each gets its own."""
    failures: list[BaseException] = []

    def use(pool: Pool, name: str) -> None:
        try:
            for number in range(20):
                text = f"{name}{number}"
                assert pool.submit("echo", text).result().stdout == f"{text}\n".encode()
            words = [f"{name}-{number}" for number in range(40)]
            assert [r.stdout.decode().strip() for r in pool.map(lambda word: cmd("echo", word), words)] == words
        except BaseException as error:
            failures.append(error)

    with Pool(4) as pool:
        threads = [threading.Thread(target=use, args=(pool, name)) for name in "abcdef"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert (pool.running, pool.queued) == (0, 0)


def in_a_fork() -> list[str]:
    """A pool in a forked copy: refused, and nothing of the parent's is touched."""
    pool = Pool(2)
    future = pool.submit("sh", "-c", "sleep 0.5; echo x")
    wait_until(future.running)
    begun = pool.map(None, [cmd("true")] * 200)  # more than it takes ahead: the copy would submit some
    next(begun)
    pid = os.fork()
    if pid == 0:
        code = 0
        calls = (
            lambda: pool.submit("true"),
            pool.drain,
            lambda: next(pool.map(None, [cmd("true")])),
            lambda: list(begun),
        )
        for call in calls:
            try:
                call()
                code = 1
            except RuntimeError:
                pass
        pool.stop()
        pool.close()
        del pool, future
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(list(begun)) == 199
    text = future.result().stdout.decode()
    pool.close()
    return [text]


def test_a_forked_copy_does_nothing() -> None:
    """The parent's pool goes on."""
    assert isolated(in_a_fork) == ["x\n"]


AT_EXIT = """
import sys
from fastproc import Pool
pool = Pool(2)
future = pool.submit("sh", "-c", "echo $$ >&2; exec sleep 60", stderr=2, stdout=None)
while not future.running():
    pass
import time
time.sleep(0.2)
"""


def test_at_the_exit_of_the_interpreter_what_runs_is_killed() -> None:
    """No child outlives it, and it does not hang."""
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=30, check=True)
    wait_until(lambda: not Path(f"/proc/{int(done.stderr)}").exists())


def with_few_descriptors() -> list[Any]:
    """More workers than descriptors suffice for."""
    fastproc.run("true", capture=True)
    with Pool(100) as pool:
        pool.submit("true").result()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        most = 0
        futures = [pool.submit("sleep", "0.1") for _ in range(100)]
        while not all(future.done() for future in futures):
            most = max(most, pool.running)
            time.sleep(0.005)
        codes = [future.result().returncode for future in futures]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return [codes, most]


def test_a_shortage_of_descriptors_is_waited_out() -> None:
    """All tasks are run, fewer at a time."""
    codes, most = isolated(with_few_descriptors)
    assert codes == [0] * 100
    assert 1 <= most <= 24


def interrupted() -> list[Any]:
    """Ctrl-C in the middle of a map."""
    pool = Pool(2)
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    timer.start()
    begin = time.monotonic()
    try:
        for _ in pool.map(None, [cmd("sleep", "60")] * 5):
            pass
        return ["nothing"]
    except KeyboardInterrupt:
        took = time.monotonic() - begin
    timer.join()
    left = (pool.running, pool.queued)
    pool.stop()
    return [took < 20, *left]


def test_an_interrupt_ends_a_map() -> None:
    """Its children are gone, and the pool is as before."""
    assert isolated(interrupted) == [True, 0, 0]


def test_two_thousand_commands_leave_no_more_than_one(programs: Any) -> None:
    """The short form of the soak: every result once."""
    seen = bytearray(2000)
    with Pool(100) as pool:
        for result in pool.imap_unordered(lambda number: cmd(programs.static_exit, "0", str(number)), range(2000)):
            seen[int(result.argv[2])] += 1
    assert seen.count(1) == 2000
