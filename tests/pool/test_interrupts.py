"""A pool and what comes between: signals, exceptions in the middle of a batch, callbacks that end it, other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import faulthandler
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc import Pool, Retries, aio, cmd


class Interrupt(BaseException):
    """What a signal handler raises."""


def under_signals() -> int:
    """A map while a handler that does nothing is called all the time."""
    faulthandler.dump_traceback_later(55, exit=True)
    signal.signal(signal.SIGALRM, lambda *_args: None)
    with Pool(4) as pool:
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        count = sum(1 for _ in pool.imap_unordered(None, [cmd("/bin/true")] * 10000, ahead=200))
        signal.setitimer(signal.ITIMER_REAL, 0)
    return count


def test_no_result_is_lost_by_a_signal() -> None:
    """What is taken when poll(2) is interrupted is told."""
    assert isolated(under_signals) == 10000


def interrupted_batches() -> str:
    """Maps that a handler ends at a random place."""
    faulthandler.dump_traceback_later(50, exit=True)

    def handler(*_args: object) -> None:
        if armed:
            raise Interrupt

    armed: list[int] = []
    signal.signal(signal.SIGALRM, handler)
    rng = random.Random(5)
    for _ in range(15):
        pool = Pool(4)
        try:
            armed.append(1)
            # Again: an exception that comes in a finalizer is lost.
            signal.setitimer(signal.ITIMER_REAL, 0.02 + rng.random() * 0.03, 3.0)
            for _ in pool.map(None, [cmd("/bin/true")] * 100000, ahead=200):
                pass
        except Interrupt:
            armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        pool.stop(kill=True)
    return "stopped"


def test_an_exception_in_the_middle_of_a_batch_loses_nothing() -> None:
    """The map ends, and so does the pool."""
    assert isolated(interrupted_batches) == "stopped"


@pytest.mark.parametrize("how", ["stop", "close"])
def test_a_callback_may_end_the_pool(how: str) -> None:
    """In the middle of a batch; every future is done, and the thread ends."""
    for _ in range(10):
        pool = Pool(16)
        futures = []
        ended = threading.Event()

        def end(_future: object, pool: Pool = pool, ended: threading.Event = ended) -> None:
            getattr(pool, how)()
            ended.set()

        for number in range(200):
            try:
                future = pool.submit("/bin/true")
            except RuntimeError:
                break
            futures.append(future)
            if number == 40:
                future.add_done_callback(end)
        assert not concurrent.futures.wait(futures, timeout=20).not_done
        assert ended.wait(20)
        assert pool._server is not None
        thread = pool._server._claim[0]
        assert thread is not None
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_a_callback_exits_with_ends_nothing_else() -> None:
    """SystemExit in a callback or a predicate is that future's."""

    def leave(*_args: object) -> Any:
        sys.exit(3)

    read, write = os.pipe()
    with open(read, "rb") as gate, Pool(2) as pool:
        # Of a future that has ended it would be called here.
        first = pool.submit("/bin/cat", stdin=gate)
        first.add_done_callback(leave)
        os.close(write)
        refused = pool.submit("/bin/false", check=True, retries=Retries(2, when=leave))
        others = [pool.submit("/bin/sleep", "0.2") for _ in range(4)]
        assert not concurrent.futures.wait(others, timeout=20).not_done
        assert isinstance(refused.exception(20), SystemExit)
        pool.stop()


RACE = """
import faulthandler, random, sys, threading, time
import concurrent.futures
from fastproc import Pool
faulthandler.dump_traceback_later(50, exit=True)
rng = random.Random(3)
for number in range(25):
    pool = Pool(4)
    futures = []
    def submit():
        try:
            while True:
                futures.append(pool.submit("/bin/true"))
        except RuntimeError:
            pass
    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(rng.random() * 0.003)
    getattr(pool, sys.argv[1])()
    for thread in threads:
        thread.join()
    assert not concurrent.futures.wait(futures, timeout=10).not_done
"""


@pytest.mark.parametrize("how", ["close", "stop", "close_later"])
def test_submitting_in_one_thread_and_ending_in_another(how: str) -> None:
    """A task is refused, or its future ends."""
    done = subprocess.run([sys.executable, "-c", RACE, how], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_stopped_between_its_turn_and_its_start(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose files are opened when its turn has come does not run on."""
    from fastproc._native.pool import Workers

    begun, told = threading.Event(), threading.Event()
    go = Workers.go

    def late(*args: Any) -> int:
        begun.set()
        told.wait(20)
        return go(*args)

    monkeypatch.setattr(Workers, "go", late)
    with Pool(2) as pool:
        future = pool.submit("/bin/sleep", "30", stdout=str(tmp_path / "out"))
        assert begun.wait(20)
        begin = time.monotonic()
        future.cancel()
        told.set()
        assert pool.drain(20)
        assert time.monotonic() - begin < 15


def test_a_map_that_nobody_takes_from_holds_up_no_other() -> None:
    """However far ahead it is."""
    with Pool(8) as pool:
        results = pool.map(None, [cmd("/bin/true")] * 1500, ahead=1500)
        next(results)
        assert pool.submit("/bin/true").result(20).returncode == 0
        end = time.monotonic() + 20
        while pool.running and time.monotonic() < end:
            time.sleep(0.01)
        assert pool.queued > 0
        assert pool.submit("/bin/true").result(20).returncode == 0
        assert sum(1 for _ in results) == 1499


def test_what_is_held_back_can_be_stopped() -> None:
    """Also when it is in no queue."""
    pool = Pool(8)
    results = pool.map(None, [cmd("/bin/true")] * 1500, ahead=1500)
    next(results)
    time.sleep(1.0)
    pool.stop()
    assert (pool.running, pool.queued) == (0, 0)


# -- a signal handler that raises within a run that the loop of an event loop's pool drives


class Halved(KeyboardInterrupt):
    """What goes through asyncio's loop."""


def halved_in(place: str) -> tuple[int, str, list[str]]:
    """Raise at the first line of a function that the loop's reactor calls; run the loop on, and use the pool again.

    Returns how often it came out, what the task amounts to, and the children that are left then.
    """
    faulthandler.dump_traceback_later(20, exit=True)
    struck: list[str] = []

    def trace(frame: Any, event: str, _arg: object) -> Any:
        if event == "line" and not struck:
            struck.append(place)
            sys.settrace(None)
            raise Halved
        return trace

    def look(frame: Any, _event: str, _arg: object) -> Any:
        if frame.f_code.co_qualname != place:
            return None
        caller = frame.f_back
        while caller is not None and caller.f_code.co_qualname != "AsyncioHub.pump":
            caller = caller.f_back
        return None if caller is None else trace

    async def submit() -> tuple[aio.Pool, Any]:
        pool = aio.Pool(2)
        return pool, pool.submit(cmd("echo", "x") | cmd("cat"), capture=True)

    async def go_on() -> tuple[str, list[str]]:
        await future.wait()
        # Asked for here: what nobody has asked for comes out of close().
        name = type(future.exception()).__name__
        left = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        assert (await pool.submit(cmd("echo", "x") | cmd("cat"), capture=True)).stdout == b"x\n"
        await pool.close()
        return name, left

    out = 0
    loop = asyncio.new_event_loop()
    pool, future = loop.run_until_complete(submit())
    sys.settrace(look)
    try:
        loop.run_until_complete(future.wait())
    except Halved:
        out = 1
    finally:
        sys.settrace(None)
    assert struck
    name, left = loop.run_until_complete(go_on())
    loop.close()
    return out, name, left


@pytest.mark.parametrize(
    ("place", "comes_out"),
    [
        ("Process._reap", 0),
        ("Leaf._ended", 0),
        ("Run._finish", 0),
        ("ExitWatch.close", 0),
        ("Node._end", 0),
        ("_Scoped.__call__", 1),
        ("Running.__call__", 1),
        ("Channel.released", 1),
    ],
)
def test_halved_in_a_loop_the_task_is_told(place: str, comes_out: int) -> None:
    """Its run cannot go on: it is killed and reaped, and the task gets the exception; the pool goes on."""
    assert isolated(halved_in, place) == [comes_out, "Halved", []]


# -- a signal handler that uses the pool, at each line of whatever it interrupts


def _uses(pool: Pool, use: str) -> None:
    """One use of a pool, with commands that end by themselves and others that do not."""
    if use == "submit":
        for _ in range(3):
            pool.submit("/bin/true")
    elif use == "result":
        pool.submit("/bin/true").result(10)
    elif use == "drain":
        pool.submit("/bin/true")
        pool.drain(10)
    elif use == "close":
        pool.submit("/bin/true")
        pool.close()
    elif use == "stop":
        pool.submit("/bin/sleep", "0.05")
        pool.stop(kill=True)
    else:
        for _ in pool.map(None, [cmd("/bin/true"), cmd("/bin/true", capture=True, on_line=lambda _n, _l: None)]):
            pass


def used_at_every_line(use: str, act: str, start: int) -> tuple[int, list[str]]:
    """Call the handler once at each fourth line of a use; return how many there were, and what went wrong."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "soak"))
    import injection

    faulthandler.dump_traceback_later(60, exit=True)

    def handle() -> None:
        if act == "submit":
            others.append(pool.submit("/bin/true"))
        elif act == "close":
            pool.close()
        else:
            pool.stop(kill=act == "kill")

    def strike(_frame: object, here: injection.Point) -> None:
        if here == point and not struck:
            struck.append(here)
            sys.settrace(None)
            try:
                handle()
            except (RuntimeError, OSError) as error:
                if "closed" not in str(error):
                    wrong.append(f"{point}: in the handler {error!r}")

    def whole() -> None:
        with Pool(2) as used:
            _uses(used, use)

    wrong: list[str] = []
    count = 0
    for point in injection.points(whole, 1, set())[start::4]:
        struck: list[object] = []
        others: list[Any] = []
        pool = Pool(2)
        try:
            with injection.Tracer(strike).on():
                _uses(pool, use)
        except (RuntimeError, concurrent.futures.CancelledError) as error:
            if isinstance(error, RuntimeError) and "closed" not in str(error):
                wrong.append(f"{point}: {error!r}")
        count += len(struck)
        for other in others:
            # It may come before the end that it interrupts.
            if other.exception(10) if not other.cancelled() else use not in ("stop", "close"):
                wrong.append(f"{point}: {other}")
        pool.stop(kill=True)
        if threading.active_count() > 1 or Path(f"/proc/self/task/{os.getpid()}/children").read_text():
            wrong.append(f"{point}: left {threading.enumerate()}")
    faulthandler.cancel_dump_traceback_later()
    return count, wrong


@pytest.mark.parametrize("act", ["stop", "kill", "close", "submit"])
@pytest.mark.parametrize("use", ["submit", "result", "drain", "close", "stop", "map"])
def test_handler_may_use_the_pool_at_every_line(use: str, act: str) -> None:
    """It ends or feeds the pool that the interrupted call uses: nothing hangs, crashes or is left."""
    count, wrong = isolated(used_at_every_line, use, act, len(use) % 4, timeout=90)
    assert wrong == []
    assert count > 12
