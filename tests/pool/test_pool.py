"""Pools: every option, over the blocking door and every kind of event loop."""

from __future__ import annotations

import errno
import inspect
import itertools
import os
import signal
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import wait_until
from fastproc import CaptureLimit, Gate, Retries, aio, cmd
from support.pools import DOORS, Door
from support.programs import Programs

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    """Each door in turn."""
    return Door(request.param)


def sh(script: str, *args: str, **options: Any) -> fastproc.Command:
    """A command of a shell."""
    return cmd("sh", "-c", script, "sh", *args, **options)


def is_gone(pid: int) -> bool:
    """Whether no process has this number, or only a zombie of somebody else."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_doors_have_one_signature() -> None:
    """The two classes take the same, everywhere."""
    for name in ("__init__", "submit", "imap_unordered", "drain", "close", "stop", "workers", "running", "queued"):
        theirs, ours = getattr(fastproc.Pool, name), getattr(aio.Pool, name)
        if not isinstance(theirs, property):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
    assert list(inspect.signature(aio.Pool.map).parameters) == list(inspect.signature(fastproc.Pool.map).parameters)


def test_map_gives_whole_results_in_order(door: Door) -> None:
    """The fields are those of run()."""

    async def body() -> None:
        async with door.Pool(4) as pool:
            found = [
                result
                async for result in pool.map(
                    lambda number: sh("echo $1; echo e$1 >&2; exit $1", str(number)), range(20), check=False
                )
            ]
        for number, result in enumerate(found):
            plain = sh("echo $1; echo e$1 >&2; exit $1", str(number)).run(capture=True, check=False)
            for name in ("argv", "returncode", "stdout", "stderr", "mechanism", "mechanism_refused", "timed_out"):
                assert getattr(result, name) == getattr(plain, name), name
            assert result.pid > 1
            assert result.duration > 0
            assert result.usage.minflt > 0

    door.run(body)


def test_pipelines_may_die_with_their_parent(door: Door) -> None:
    """The thread that starts them outlives them."""

    async def body() -> None:
        async with door.Pool(2, die_with_parent=True) as pool:
            result = await pool.submit(cmd("echo", "x") | cmd("tr", "x", "y"))
            assert result.stdout == b"y\n"

    door.run(body)


def test_unordered_gives_what_ended_first(door: Door, tmp_path: Path) -> None:
    """The first item waits for what is done with the second one's result."""
    os.mkfifo(tmp_path / "go")

    async def body() -> None:
        async with door.Pool(2) as pool:
            order = []
            async for result in pool.imap_unordered(
                None, [sh("read x <$1; echo slow", str(tmp_path / "go")), cmd("echo", "fast")]
            ):
                order.append(result.text().strip())
                if order == ["fast"]:
                    (tmp_path / "go").write_text("now\n")
        assert order == ["fast", "slow"]

    door.run(body)


def test_endless_items_are_taken_with_a_bounded_look_ahead(door: Door) -> None:
    """Of an endless iterable no more is taken than asked for, and leaving the loop ends the rest."""
    taken = itertools.count()
    last = 0

    def items() -> Any:
        nonlocal last
        for number in taken:
            last = number
            yield number

    async def body() -> None:
        async with door.Pool(3) as pool:
            given = []
            async with aclosing(pool.map(lambda number: cmd("echo", str(number)), items(), ahead=7)) as results:
                async for result in results:
                    given.append(int(result.text().strip()))
                    assert last < len(given) + 7
                    if len(given) == 20:
                        break
            assert given == list(range(20))
            assert pool.queued == 0

    door.run(body)


def test_asynchronous_items(door: Door) -> None:
    """An event loop's map takes them too."""
    if door.name == "blocking":
        pytest.skip("there is no loop")

    async def items() -> Any:
        for number in range(5):
            await door.until(lambda: True)
            yield number

    async def body() -> None:
        async with door.Pool(2) as pool:
            assert [r.text().strip() async for r in pool.map(lambda n: cmd("echo", str(n)), items())] == list("01234")

    door.run(body)


def test_no_more_run_than_there_are_workers(door: Door, tmp_path: Path) -> None:
    """And as many do."""
    log = tmp_path / "log"

    async def body() -> None:
        async with door.Pool(3) as pool:
            async for _ in pool.map(lambda _: sh("echo 1 >>$1; sleep 0.05; echo -1 >>$1", str(log)), range(12)):
                pass

    door.run(body)
    levels = list(itertools.accumulate(map(int, log.read_text().split())))
    assert max(levels) == 3
    assert levels[-1] == 0


def test_workers_can_be_changed(door: Door) -> None:
    """More start at once when there are more."""

    async def body() -> None:
        async with door.Pool(1) as pool:
            futures = [pool.submit("sleep", "60") for _ in range(4)]
            await door.until(lambda: pool.running == 1)
            assert pool.queued == 3
            pool.workers = 3
            await door.until(lambda: pool.running == 3)
            assert [f.running() for f in futures] == [True, True, True, False]
            await pool.stop()
            assert [f.cancelled() for f in futures] == [True] * 4

    door.run(body)


def test_rate_spaces_the_starts(door: Door) -> None:
    """Between n starts there are n - 1 intervals at least."""
    import time

    async def body() -> None:
        begin = time.monotonic()
        async with door.Pool(8, rate=40.0) as pool:
            assert len([r async for r in pool.map(None, [cmd("true")] * 9)]) == 9
        # The first of them may follow a start that was late.
        assert time.monotonic() - begin >= 7 / 40

    door.run(body)


def test_deadline_ends_the_group_of_its_task_and_no_other(door: Door) -> None:
    """The output until then is in the exception."""

    async def body() -> None:
        async with door.Pool(4, deadline=0.3) as pool:
            late = pool.submit(sh("sleep 60 & echo $!; wait"))
            other = pool.submit("sleep", "0.8", timeout=None)
            with pytest.raises(fastproc.TimeoutExpired) as caught:
                await late
            assert caught.value.timeout == 0.3
            pid = int(caught.value.stdout)
            await door.until(lambda: is_gone(pid))
            assert (await other).returncode == 0

    door.run(body)


def test_deadline_kills_what_ignores_sigterm(door: Door) -> None:
    """And what its group still holds after the leader's end."""

    async def body() -> None:
        async with door.Pool(2) as pool:
            stubborn = sh("(trap '' TERM; exec sleep 60) & trap '' TERM; echo $!; wait", timeout=0.3, grace=0.1)
            with pytest.raises(fastproc.TimeoutExpired) as caught:
                await pool.submit(stubborn)
            assert caught.value.result.killed == "killed"
            await door.until(lambda: is_gone(int(caught.value.stdout)))

    door.run(body)


def test_kill_tree_ends_what_left_the_group(door: Door) -> None:
    """A task's whole tree goes with its deadline."""

    async def body() -> None:
        async with door.Pool(2) as pool:
            with pytest.raises(fastproc.TimeoutExpired) as caught:
                await pool.submit(sh("setsid sleep 60 & echo $!; wait"), kill_tree=True, timeout=0.5)
            await door.until(lambda: is_gone(int(caught.value.stdout)))

    door.run(body)


FAILS_TWICE = "echo x >>$1; test $(wc -l <$1) -gt 2"


def test_retries_until_it_succeeds(door: Door, tmp_path: Path) -> None:
    """The future tells how many tries it took."""

    async def body() -> None:
        async with door.Pool(2, retries=Retries(5, delay=0.01)) as pool:
            future = pool.submit(sh(FAILS_TWICE, str(tmp_path / "a")))
            assert (await future).returncode == 0
            assert future.tries == 3
            found = [r async for r in pool.map(lambda name: sh(FAILS_TWICE, str(tmp_path / name)), "bcd")]
            assert [r.returncode for r in found] == [0, 0, 0]

    door.run(body)


def test_retries_end_with_the_last_failure(door: Door, tmp_path: Path) -> None:
    """Not more than asked for; the task's own number goes before the pool's."""

    async def body() -> None:
        async with door.Pool(2, retries=9) as pool:
            future = pool.submit(sh("echo x >>$1; exit 3", str(tmp_path / "a")), retries=Retries(2, delay=0.001))
            with pytest.raises(fastproc.ExitError) as caught:
                await future
            assert caught.value.returncode == 3
            assert (tmp_path / "a").read_text() == "x\n" * 3

    door.run(body)


def test_retries_only_what_the_predicate_wants(door: Door) -> None:
    """It sees exceptions and Results; what it raises is the task's outcome."""
    seen: list[Any] = []

    def when(outcome: Any) -> bool:
        seen.append(outcome)
        if len(seen) == 4:
            raise ZeroDivisionError
        return bool(isinstance(outcome, fastproc.Result) and len(seen) < 3)

    async def body() -> None:
        async with door.Pool(1, retries=Retries(5, delay=0.0, when=when)) as pool:
            assert (await pool.submit("true")).returncode == 0
            assert [type(item) for item in seen] == [fastproc.Result] * 3
            with pytest.raises(ZeroDivisionError):
                await pool.submit("true")

    door.run(body)


def test_missing_program_is_not_tried_again(door: Door) -> None:
    """It would be missing the next time; the error is run()'s."""

    async def body() -> None:
        async with door.Pool(1, retries=5) as pool:
            future = pool.submit("/nowhere/at/all")
            with pytest.raises(fastproc.SpawnError) as caught:
                await future
            assert (caught.value.errno, caught.value.stage, future.tries) == (errno.ENOENT, "exec", 1)
            assert isinstance(caught.value, FileNotFoundError)

    door.run(body)


def test_busy_file_is_started_when_it_is_free(door: Door, tmp_path: Path) -> None:
    """ETXTBSY is over in a moment (GOTCHAS C2)."""
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)

    async def body() -> None:
        async with door.Pool(1) as pool:
            with open(program, "r+b"):
                future = pool.submit(program)
                await door.until(lambda: pool.queued == 1 or future.done())
            assert (await future).returncode == 0

    door.run(body)


def test_map_ends_with_the_first_failure(door: Door, tmp_path: Path) -> None:
    """The others that run are ended, those that wait are not begun."""

    async def body() -> None:
        async with door.Pool(2) as pool:
            commands = [sh("echo $$ >$1; exec sleep 60", str(tmp_path / "pid")), sh("exit 7"), cmd("sleep", "61")]
            with pytest.raises(fastproc.ExitError):
                async for _ in pool.imap_unordered(None, commands):
                    pass
            if (tmp_path / "pid").exists():
                pid = (tmp_path / "pid").read_text()
                assert not pid or is_gone(int(pid))
            assert (await pool.submit("echo", "on")).text().strip() == "on"

    door.run(body)


def test_map_does_not_return_an_interrupt(door: Door) -> None:
    """KeyboardInterrupt is for the program, also with return_exceptions."""

    def interrupt(_name: str, _line: bytes) -> None:
        raise KeyboardInterrupt

    async def body() -> None:
        async with door.Pool(1) as pool:
            command = cmd("echo", "x", capture=True, on_line=interrupt)
            with pytest.raises(KeyboardInterrupt):
                async for _ in pool.map(None, [command], return_exceptions=True):
                    pass

    door.run(body)


def test_map_goes_on_with_return_exceptions(door: Door) -> None:
    """Failures come in their place."""

    async def body() -> None:
        async with door.Pool(2) as pool:
            commands = [cmd("true"), sh("exit 7"), cmd("/nowhere"), cmd("echo", "x")]
            found = [item async for item in pool.map(None, commands, return_exceptions=True)]
            assert [type(item).__name__ for item in found][::3] == ["Result", "Result"]
            assert isinstance(found[1], fastproc.ExitError)
            assert isinstance(found[2], fastproc.SpawnError)

    door.run(body)


def test_fail_fast_ends_the_pool(door: Door) -> None:
    """The running and the waiting tasks are cancelled, and further ones refused with the cause."""

    async def body() -> None:
        async with door.Pool(2, fail_fast=True) as pool:
            long = pool.submit("sleep", "60")
            await door.until(long.running)
            bad = pool.submit(sh("exit 5"))
            waiting = [pool.submit("sleep", "60") for _ in range(3)]
            with pytest.raises(fastproc.ExitError):
                await bad
            for future in (long, *waiting):
                with pytest.raises(CancelledError):
                    await future
            with pytest.raises(RuntimeError, match="failure") as caught:
                pool.submit("true")
            assert isinstance(caught.value.__cause__, fastproc.ExitError)

    door.run(body)


def test_priority_decides_who_starts_first(door: Door, tmp_path: Path) -> None:
    """The highest first; of equal ones the first."""
    os.mkfifo(tmp_path / "go")
    log = str(tmp_path / "log")

    async def body() -> None:
        async with door.Pool(1) as pool:
            blocker = pool.submit(sh("read x <$1", str(tmp_path / "go")))
            await door.until(blocker.running)
            for name, priority in (("a", 0), ("b", -1), ("c", 5), ("d", 0), ("e", 5)):
                pool.submit(sh("echo $2 >>$1", log, name), priority=priority)
            (tmp_path / "go").write_text("now\n")
            assert await pool.drain()
        assert (tmp_path / "log").read_text().split() == ["c", "e", "a", "d", "b"]

    door.run(body)


def test_cancel_of_a_waiting_task(door: Door, tmp_path: Path) -> None:
    """It never starts."""

    async def body() -> None:
        async with door.Pool(1) as pool:
            blocker = pool.submit("sleep", "60")
            await door.until(blocker.running)
            future = pool.submit(sh("touch $1", str(tmp_path / "ran")))
            assert not future.running()
            assert future.cancel()
            assert future.cancelled()
            assert future.done()
            with pytest.raises(CancelledError):
                await future
            assert future.partial is None
            assert blocker.cancel(kill=True)
        assert not (tmp_path / "ran").exists()

    door.run(body)


def test_cancel_of_a_running_task(door: Door) -> None:
    """Its group is ended; what it said is kept; the place is free for the next."""

    async def body() -> None:
        async with door.Pool(1) as pool:
            future = pool.submit(sh("echo out; echo err >&2; sleep 60 & echo $!; wait"))
            await door.until(future.running)
            await door.until(lambda: pool.running == 1)
            import time

            time.sleep(0.1)
            assert future.cancel()
            assert future.cancelled()
            assert (await pool.submit("echo", "next")).text().strip() == "next"
            partial = await door.until(lambda: future.partial)
            assert partial.returncode == -signal.SIGTERM
            assert partial.killed == "terminated"
            assert partial.stderr == b"err\n"
            out, pid = partial.stdout.split()
            assert out == b"out"
            assert is_gone(int(pid))
            assert future.cancel()

    door.run(body)


def test_cancel_of_a_finished_task_does_nothing(door: Door) -> None:
    """Its result stays."""

    async def body() -> None:
        async with door.Pool(1) as pool:
            future = pool.submit("echo", "x")
            await future
            assert not future.cancel()
            assert (await future).text().strip() == "x"

    door.run(body)


def test_drain_waits_and_the_pool_goes_on(door: Door) -> None:
    """With a timeout it tells whether all had ended."""

    async def body() -> None:
        async with door.Pool(2) as pool:
            assert await pool.drain()
            future = pool.submit("sleep", "60")
            assert not await pool.drain(0.05)
            future.cancel(kill=True)
            assert await pool.drain(10)
            done = pool.submit("echo", "x")
            assert await pool.drain()
            assert done.done()

    door.run(body)


def test_close_waits_for_everything(door: Door, tmp_path: Path) -> None:
    """And takes nothing more."""

    async def body() -> None:
        pool = door.Pool(2)
        for name in "abcdef":
            pool.submit(sh("sleep 0.02; touch $1", str(tmp_path / name)))
        await pool.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == list("abcdef")
        with pytest.raises(RuntimeError, match="closed"):
            pool.submit("true")
        await pool.close()
        await pool.stop()

    door.run(body)


def test_block_left_by_an_exception_stops_all(door: Door) -> None:
    """What runs is ended, what waits is cancelled."""
    futures: list[Any] = []

    async def body() -> None:
        async def fail() -> None:
            async with door.Pool(2) as pool:
                futures.extend(pool.submit("sleep", "60") for _ in range(5))
                await door.until(futures[0].running)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert all(future.cancelled() for future in futures)

    door.run(body)


def test_a_map_of_a_stopped_pool_says_so(door: Door) -> None:
    """It does not wait for ever."""

    async def body() -> None:
        pool = door.Pool(2)
        results = pool.map(None, [cmd("echo", "a"), cmd("sleep", "60"), cmd("sleep", "61")])
        assert (await anext(results)).text().strip() == "a"
        await pool.stop(kill=True)
        with pytest.raises(CancelledError):
            await anext(results)

    door.run(body)


@pytest.mark.parametrize(
    ("options", "check"),
    [
        ({"stdout_limit": CaptureLimit(5, 5)}, lambda result: result.stdout_dropped > 0),
        ({"input": b"in"}, lambda result: result.stdout.startswith(b"out\nin")),
        ({"input": [b"i", b"n"]}, lambda result: result.stdout.startswith(b"out\nin")),
        ({"kill_tree": True}, lambda result: result.stdout.startswith(b"out\n")),
        ({"stdout": fastproc.MEMFD}, lambda result: bytes(result.stdout).startswith(b"out\n")),
        ({"swap_outputs": True}, lambda result: result.stderr.startswith(b"out\n") and result.stdout == b"err\n"),
        ({"stderr": fastproc.STDOUT}, lambda result: b"err\n" in result.stdout and result.stderr is None),
        ({"env_add": {"WORD": "w"}}, lambda result: result.stdout.endswith(b"w\n")),
        ({"cwd": "/usr"}, lambda result: b"/usr" in result.stdout),
        ({"argv0": "other"}, lambda result: result.stdout.startswith(b"out\n")),
        ({"pgid": None, "setsid": True}, lambda result: result.stdout.startswith(b"out\n")),
    ],
    ids=["limit", "input", "iterator", "tree", "memfd", "swap", "merge", "env", "cwd", "argv0", "session"],
)
def test_options_mean_what_they_mean_in_run(door: Door, options: dict[str, Any], check: Callable[[Any], bool]) -> None:
    """Whether the C core runs the command or Python does."""

    async def body() -> None:
        async with door.Pool(2) as pool:
            result = await pool.submit(sh("echo out; cat; echo err >&2; pwd; echo $WORD"), **options)
            assert check(result), result

    door.run(body)


def test_callback_gets_each_line_and_its_error_is_the_tasks(door: Door) -> None:
    """The pool goes on."""
    lines: list[Any] = []

    def bad(_stream: str, _line: bytes) -> None:
        raise ZeroDivisionError

    async def body() -> None:
        async with door.Pool(2) as pool:
            await pool.submit(sh("echo a; echo b"), on_line=lambda stream, line: lines.append((stream, line)))
            with pytest.raises(ZeroDivisionError):
                await pool.submit(sh("echo a; sleep 60"), on_line=bad)
            assert (await pool.submit("echo", "on")).text().strip() == "on"
        assert lines == [("stdout", b"a"), ("stdout", b"b")]

    door.run(body)


def test_files_are_opened_when_the_turn_comes(door: Door, tmp_path: Path) -> None:
    """Each task has its own."""

    async def body() -> None:
        async with door.Pool(2) as pool:
            commands = [cmd("echo", str(n), stdout=tmp_path / str(n)) for n in range(20)]
            found = [result.stdout async for result in pool.map(None, commands)]
            assert found == [None] * 20
            with pytest.raises(fastproc.SpawnError) as caught:
                await pool.submit("true", stdout="/nowhere/file")
            assert caught.value.stage == "redirect"
        assert [(tmp_path / str(n)).read_text() for n in range(20)] == [f"{n}\n" for n in range(20)]

    door.run(body)


def test_pipelines_are_tasks(door: Door) -> None:
    """With deadline, retries, cancellation and results of every stage."""

    async def body() -> None:
        async with door.Pool(2, deadline=20.0) as pool:
            line = cmd("printf", "b\\na\\n") | cmd("sort")
            result = await pool.submit(line)
            assert result.stdout == b"a\nb\n"
            assert [stage.returncode for stage in result.stages] == [0, 0]
            late = pool.submit(cmd("sleep", "60") | cmd("cat"), timeout=0.2)
            with pytest.raises(fastproc.TimeoutExpired):
                await late
            running = pool.submit(cmd("sleep", "60") | cmd("cat"))
            await door.until(running.running)
            assert running.cancel()
            with pytest.raises(CancelledError):
                await running
            with pytest.raises(fastproc.ExitError):
                await pool.submit(cmd("false") | cmd("cat"), retries=Retries(1, delay=0.0))
            found = [
                r.text().strip()
                async for r in pool.map(lambda word: cmd("echo", word) | cmd("tr", "a-z", "A-Z"), "xyz")
            ]
            assert found == ["X", "Y", "Z"]

    door.run(body)


def test_much_output_comes_whole(door: Door, programs: Programs) -> None:
    """More than a record carries, and more than a batch does."""

    async def body() -> None:
        async with door.Pool(4) as pool:
            commands = [cmd("head", "-c", str(size), "/dev/zero") for size in (3_000_000, 60_000, 0) * 8]
            found = [len(r.stdout) async for r in pool.map(None, commands)]
            assert found == [3_000_000, 60_000, 0] * 8

    door.run(body)


def test_pipe_held_by_others_is_given_up(door: Door) -> None:
    """After drain_timeout, as in run()."""

    async def body() -> None:
        async with door.Pool(2) as pool:
            result = await pool.submit(sh("sleep 60 & echo $!"), drain_timeout=0.1)
            assert result.pipes_still_open
            os.kill(int(result.stdout), signal.SIGKILL)

    door.run(body)


def test_gate_holds_the_starts(door: Door) -> None:
    """Nothing starts before it opens; a Gate is looked at as often as it says."""
    state = {"open": False}

    class Soon(Gate):
        __slots__ = ()

    async def body() -> None:
        async with door.Pool(2, gate=lambda: state["open"]) as pool:
            future = pool.submit("echo", "x")
            assert not await pool.drain(0.1)
            assert pool.queued == 1
            state["open"] = True
            assert (await future).text().strip() == "x"
        async with door.Pool(2, gate=Gate(memory=1, load=1e9, interval=0.01)) as pool:
            assert (await pool.submit("echo", "y")).text().strip() == "y"
        async with door.Pool(2, gate=Gate(memory=1 << 60, interval=0.01)) as pool:
            future = pool.submit("echo", "x")
            assert not await pool.drain(0.1)
            assert future.cancel()

    door.run(body)


def test_exceptions_of_the_items_end_the_map(door: Door) -> None:
    """Those of the iterable, and of the function."""

    def items() -> Any:
        yield "a"
        raise ZeroDivisionError

    async def body() -> None:
        async with door.Pool(2) as pool:
            with pytest.raises(ZeroDivisionError):
                async for _ in pool.map(lambda word: cmd("echo", word), items()):
                    pass
            with pytest.raises(TypeError, match=r"^function: must return, not str"):
                async for _ in pool.map(lambda word: word, "ab"):
                    pass
            with pytest.raises(TypeError, match=r"^items: "):
                async for _ in pool.map(None, "ab"):
                    pass

    door.run(body)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"workers": 0}, "workers"),
        ({"workers": True}, "workers"),
        ({"workers": 1.5}, "workers"),
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": "1"}, "rate"),
        ({"deadline": -1}, "deadline"),
        ({"deadline": 1, "timeout": 1}, "deadline"),
        ({"retries": -1}, "retries"),
        ({"retries": "3"}, "retries"),
        ({"gate": 1}, "gate"),
        ({"cwd": 1.5}, "cwd"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_impossible_pools_are_refused(options: dict[str, Any], name: str) -> None:
    """The argument comes first, and no thread is left."""
    for kind in (fastproc.Pool, aio.Pool):
        with pytest.raises((TypeError, ValueError), match=name):
            kind(**options)


def test_impossible_tasks_are_refused(door: Door) -> None:
    """Before anything is queued."""

    async def body() -> None:
        async with door.Pool(1) as pool:
            for call in (
                lambda: pool.submit(""),
                lambda: pool.submit("true", priority="x"),
                lambda: pool.submit("true", priority=1 << 63),
                lambda: pool.submit("true", retries=-1),
                lambda: pool.submit("true", timeout="x"),
                lambda: pool.submit(cmd("true"), "argument"),
                lambda: pool.submit("a\0b"),
            ):
                with pytest.raises((TypeError, ValueError)):
                    call()
            for options in ({"ahead": 0}, {"ahead": 1.5}, {"priority": None}, {"retries": -1}, {"bad": 1}):
                with pytest.raises((TypeError, ValueError)):
                    await anext(pool.map(lambda n: cmd("true"), [1], **options))
            assert pool.queued == 0

    door.run(body)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retries(-1),
        lambda: Retries(True),
        lambda: Retries(1, jitter=2),
        lambda: Retries(1, delay=-1),
        lambda: Retries(1, when=3),
        lambda: Gate(),
        lambda: Gate(load=-1),
        lambda: Gate(memory="x"),
        lambda: Gate(load=1, interval=0),
    ],
)
def test_impossible_values_are_refused(make: Callable[[], Any]) -> None:
    """By themselves."""
    with pytest.raises((TypeError, ValueError)):
        make()


def test_every_mechanism(mechanism: str) -> None:
    """The threads make children by whichever there is, with the signal mask of who made the pool."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        with fastproc.Pool(4) as pool:
            for result in pool.map(None, [cmd("grep", "SigBlk", "/proc/self/status", sigmask="keep")] * 8):
                assert result.mechanism == mechanism
            status = result.stdout.split()[-1]
            assert int(status, 16) == 1 << (signal.SIGUSR2 - 1), status
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_exchange_as_engine(engine: str) -> None:
    """The pool gives the same by the Exchange as by the C core."""
    with fastproc.Pool(4) as pool:
        assert [r.text().strip() for r in pool.map(lambda n: cmd("echo", str(n)), range(20))] == [
            str(n) for n in range(20)
        ]
        with pytest.raises(fastproc.TimeoutExpired):
            pool.submit("sleep", "60", timeout=0.1).result()


def test_a_dropped_pool_ends_by_itself() -> None:
    """What was submitted is done, and no thread is left (the leak check looks)."""
    future = fastproc.Pool(2).submit("echo", "x")
    assert future.result().text().strip() == "x"
    wait_until(lambda: future.done())


@pytest.mark.parametrize("ordered", [True, False])
def test_item_of_which_no_command_can_be_made_fails_alone(door: Door, ordered: bool) -> None:
    """In its place with return_exceptions; else in its turn, after the results before it."""

    def made(item: str) -> Any:
        if item == "raises":
            raise LookupError(item)
        return "no command" if item == "text" else cmd("echo", item)

    items = ["a", "b\0", "\ud800", "x" * 131_072, "raises", "text", "z"]

    async def body() -> None:
        async with door.Pool(2) as pool:
            found = [one async for one in pool.map(made, items, ordered=ordered, return_exceptions=True)]
            kinds = [type(one) if isinstance(one, Exception) else one.text() for one in found]
            wanted = ["a\n", ValueError, ValueError, fastproc.SpawnError, LookupError, TypeError, "z\n"]
            if not ordered:
                kinds.sort(key=str)
                wanted.sort(key=str)
            assert kinds == wanted
            got = []
            with pytest.raises(ValueError, match="NUL byte"):  # noqa: PT012 - what comes before it counts
                async for one in pool.map(made, items):
                    got.append(one.text())
            assert got == ["a\n"]
            assert (await pool.submit("true")).ok

    door.run(body)


def test_item_of_which_no_command_can_be_made_is_a_first_failure(door: Door) -> None:
    """With fail_fast, as every other."""

    async def body() -> None:
        async with door.Pool(2, fail_fast=True) as pool:
            sleeper = pool.submit("sleep", "60")
            with pytest.raises((ValueError, CancelledError)):
                [one async for one in pool.map(lambda item: cmd("echo", item), ["\0"])]
            await door.until(sleeper.done)
            assert sleeper.cancelled()

    door.run(body)
