"""Pipelines that are started and waited for, read line by line, mapped over items, interrupted at a terminal."""

from __future__ import annotations

import gc
import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastproc
from conftest import wait_until
from fastproc import aio, cmd
from support import observe
from support.drivers import need, run_in

CAT = cmd("cat")
SLEEP = cmd("sleep", "60")


def sh(script: str, **options: Any) -> fastproc.Command:
    return cmd("sh", "-c", script, **options)


def gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


# -- the handle


def test_wait_gives_the_same_result_again() -> None:
    """Once it is done, wait() and try_wait() only look; an error is raised each time."""
    with (cmd("printf", "x") | CAT).start(capture=True) as pipeline:
        result = pipeline.wait()
        assert (result.stdout, result.ok) == (b"x", True)
        assert pipeline.try_wait().stdout == pipeline.wait(0).stdout == b"x"  # type: ignore[union-attr]
        assert pipeline.done
    pipeline = (sh("exit 3") | CAT).start()
    for _ in range(2):
        with pytest.raises(fastproc.ExitError):
            pipeline.wait()


def test_waiting_for_a_while() -> None:
    """None, or TimeoutExpired, while it runs; nothing is stopped."""
    with (SLEEP | CAT).start() as pipeline:
        assert pipeline.try_wait() is None
        assert pipeline.wait_timeout(0.01) is None
        with pytest.raises(fastproc.TimeoutExpired) as caught:
            pipeline.wait(0.01)
        assert (caught.value.result, caught.value.cmd) == (None, "sleep 60 | cat")
        assert not pipeline.done
        assert not any(gone(pid) for pid in pipeline.pids)
    assert all(gone(pid) for pid in pipeline.pids)
    with pytest.raises(fastproc.TimeoutExpired) as caught:
        (SLEEP | CAT).start(timeout=0.1).wait()
    assert caught.value.result is not None


def test_several_threads_may_wait() -> None:
    """All of them get the result."""
    with (sh("sleep 0.1; echo x") | CAT).start(capture=True) as pipeline:
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda: found.append(pipeline.wait().stdout)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [b"x\n"] * 3


def test_kill_reaches_every_command_and_waits_for_nothing() -> None:
    """From another thread, while one waits; no later command of a sequence is started."""
    with (SLEEP.or_else(cmd("echo", "never")) | SLEEP | CAT).start(capture=True) as pipeline:
        killer = threading.Timer(0.1, pipeline.kill)
        killer.start()
        with pytest.raises(fastproc.ExitError) as caught:
            pipeline.wait()
        killer.join()
    result: Any = caught.value.result
    assert [stage.signal for stage in result.stages][:2] == [9, 9]
    assert (result.stdout, result.killed) == (b"", "killed")


def test_signal_and_stop_reach_every_command() -> None:
    """SIGTERM first; SIGKILL when the grace is over."""
    with (SLEEP | SLEEP).start() as pipeline:
        pipeline.send_signal(signal.SIGUSR1)
        with pytest.raises(fastproc.ExitError):
            pipeline.wait()
    with (sh("trap '' TERM; echo; while :; do sleep 0.05; done") | SLEEP).start(check=False, grace=0.2) as pipeline:
        time.sleep(0.1)
        pipeline.stop()
        result = pipeline.wait()
    assert [stage.signal for stage in result.stages] == [9, 15]


def test_pids_are_in_the_order_of_the_expression() -> None:
    """Left to right, whoever was started first."""
    pipeline = (SLEEP.unchecked().then(cmd("echo", "x")) | CAT).start(capture=True)
    with pipeline:
        first = pipeline.pids
        assert [Path(f"/proc/{pid}/comm").read_text().strip() for pid in first] == ["sleep", "cat"]
        os.kill(first[0], signal.SIGTERM)
        wait_until(lambda: pipeline.try_wait() is not None)
        assert [first[0], first[1]] == [pipeline.pids[0], pipeline.pids[2]]
    assert "ended" in repr(pipeline)


def test_output_is_read_while_somebody_waits() -> None:
    """A stage that has filled the captured pipe stands still until then, and loses nothing."""
    with (sh("head -c 300000 /dev/zero") | CAT).start(capture=True) as pipeline:
        assert len(pipeline.wait().stdout) == 300000


def test_leaving_the_block_kills() -> None:
    """All are reaped at its end."""
    with (SLEEP | SLEEP | SLEEP).start() as pipeline:
        pids = pipeline.pids
    assert all(gone(pid) for pid in pids)
    pipeline.close()


def test_dropped_handle_kills_nothing() -> None:
    """It warns, for each command; a later spawn reaps them."""
    pipeline = (SLEEP | SLEEP).start()
    pids = pipeline.pids
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pipeline
        gc.collect()
    assert [item.category for item in caught] == [ResourceWarning] * 2
    assert not any(gone(pid) for pid in pids)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: fastproc.run("true").ok and observe.children().isdisjoint(pids))


# -- reading


def test_reader_reads_by_pieces_lines_and_to_the_end() -> None:
    """read(), read(n), readline() and iteration, in any order."""
    with (cmd("printf", "one\\ntwo\\nthree\\nfour") | CAT).reader() as reader:
        assert reader.read(2) == b"on"
        assert reader.readline() == b"e\n"
        assert next(iter(reader)) == b"two\n"
        assert reader.read() == b"three\nfour"
        assert (reader.read(), reader.read(1), reader.readline()) == (b"", b"", b"")
        assert reader.try_wait().ok  # type: ignore[union-attr]
    assert list(CAT.stdin_bytes(b"a\nb").reader()) == [b"a\n", b"b"]


class Pieces:
    """In a Pipeline's place: what it hands out is known."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.take = chain(pieces, repeat(None)).__next__

    def wait(self) -> None:
        """All has ended well."""


@given(
    pieces=st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\n\n", b"ab\ncd", b"x\n"])),
    calls=st.lists(st.sampled_from([0, 1, 2, 5, "line", "for", "for 2"]), max_size=8),
)
def test_reader_is_a_file_however_it_is_read(pieces: list[bytes], calls: list[Any]) -> None:
    """As io.BytesIO has it, for any sequence of calls and whatever comes together."""
    reader, file = fastproc.pipeline.Reader(Pieces(pieces)), io.BytesIO(b"".join(pieces))  # type: ignore[arg-type]
    for call in calls:
        if call == "line":
            assert reader.readline() == file.readline()
        elif call == "for":
            assert next(iter(reader), b"") == next(file, b"")
        elif call == "for 2":
            assert list(islice(reader, 2)) == list(islice(file, 2))
        else:
            assert reader.read(call) == file.read(call)
    assert reader.read() == file.read()


def test_reader_raises_at_the_end() -> None:
    """duct: the read that finds the end; what a read() to the end has read is in the exception."""
    with (sh("echo x; exit 3") | CAT).reader() as reader:
        with pytest.raises(fastproc.ExitError) as caught:
            reader.read()
        assert (caught.value.stdout, caught.value.returncode) == (b"x\n", 3)
    with (sh("echo x; exit 3") | CAT).reader() as reader:
        assert reader.read(100) == b"x\n"
        with pytest.raises(fastproc.ExitError):
            reader.read(1)
    with (sh("echo x; exit 3") | CAT).unchecked().reader() as reader:
        assert reader.read() == b"x\n"


def test_reader_that_is_not_read_blocks_the_children() -> None:
    """The pipes fill, and everything waits; closing ends it."""
    with (cmd("yes") | CAT).reader() as reader:
        pids = reader.pids
        assert reader.read(2) == b"y\n"
        time.sleep(0.05)
        before = sum(_cpu(pid) for pid in pids)
        time.sleep(0.1)
        assert sum(_cpu(pid) for pid in pids) == before
    assert all(gone(pid) for pid in pids)
    with (cmd("yes") | CAT).unchecked().reader() as reader:
        reader.kill()
        reader.read()


def _cpu(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_lines_to_the_end() -> None:
    """Every line, text or bytes, and the statuses are looked at."""
    assert list((cmd("printf", "a\\nb") | CAT).lines()) == [b"a", b"b"]
    assert list((cmd("printf", "a\\0b\\0") | CAT).lines(newline="\0", text=True)) == ["a", "b"]
    assert list(cmd("printf", "a\\nb").lines(keep_ends=True)) == [b"a\n", b"b"]
    lines = (cmd("echo", "x") | sh("cat; exit 3")).lines()
    assert next(lines) == b"x"
    with pytest.raises(fastproc.ExitError):
        next(lines)
    with pytest.raises(ValueError, match="newline"):
        cmd("true").lines(newline="")


def test_lines_left_early_end_every_stage_at_once() -> None:
    """Also stages that would never write again."""
    seen = []
    for line in (sh("seq 1000000; exec sleep 60") | cmd("grep", "7") | CAT).lines():
        if not seen:
            seen = sorted(observe.children())
        if line == b"1007":
            break
    assert len(seen) == 3
    wait_until(lambda: all(gone(pid) for pid in seen), 2.0)
    lines = (cmd("yes") | CAT).lines()
    next(lines)
    pids = observe.children()
    lines.close()
    assert all(gone(pid) for pid in pids)
    assert list(lines) == []


def test_lines_wait_for_a_slow_reader() -> None:
    """However late the next line is asked for, none is lost, although the children ended long ago."""
    lines = (cmd("seq", "3000") | CAT).lines(drain_timeout=0.01)
    first = next(lines)
    time.sleep(0.1)
    assert [first, *lines] == [str(number).encode() for number in range(1, 3001)]


# -- map


def test_map_gives_results_in_order_with_a_bound() -> None:
    """Never more than `workers` at the same time; the results are those of a loop."""
    most = 0

    def pipeline_for(number: int) -> fastproc.Expression:
        nonlocal most
        most = max(most, len(observe.children()))
        return cmd("printf", f"{number}") | sh("sleep 0.02; cat")

    found = [int(r.stdout) for r in fastproc.map(pipeline_for, range(20), workers=3, capture=True)]
    assert found == list(range(20))
    assert 2 <= most <= 6


def test_map_as_they_end() -> None:
    """ordered=False: the quick ones first."""
    delays = ["0.3", "0", "0.1"]
    results = fastproc.map(lambda w: sh(f"sleep {w}; printf {w}"), delays, workers=3, ordered=False, capture=True)
    assert [result.stdout for result in results] == [b"0", b"0.1", b"0.3"]


def test_map_raises_at_the_turn_of_the_item_and_ends_the_rest() -> None:
    """The results before it are given; a program that is missing is one error among others."""
    for broken, error in ((sh("exit 3"), fastproc.ExitError), (cmd("no-such-program"), FileNotFoundError)):
        work = [cmd("printf", "a"), cmd("printf", "b") | CAT, broken, SLEEP, SLEEP]
        results = fastproc.map(lambda item: item, work, workers=5, capture=True)
        assert [next(results).stdout, next(results).stdout] == [b"a", b"b"]
        with pytest.raises(error):
            next(results)
        assert list(results) == []
    assert [r.returncode for r in fastproc.map(sh, ["exit 3", "exit 4"], check=False)] == [3, 4]


def test_map_refuses_what_is_not_possible() -> None:
    """Before any child."""
    for workers in (0, -1, True, "2"):
        with pytest.raises(ValueError, match="workers: must be a positive number"):
            fastproc.map(cmd, ["true"], workers=workers)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nonsense"):
        fastproc.map(cmd, ["true"], nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="function: must return a command"):
        next(fastproc.map(lambda item: item, ["true"]))  # type: ignore[arg-type, return-value]
    assert list(fastproc.map(cmd, [])) == []


def test_map_takes_items_as_there_is_room() -> None:
    """An endless iterator is not drained."""
    taken = []

    def items() -> Any:
        for number in range(10**9):
            taken.append(number)
            yield str(number)

    results = fastproc.map(lambda word: cmd("printf", word), items(), workers=2, capture=True)
    assert [next(results).stdout for _ in range(3)] == [b"0", b"1", b"2"]
    results.close()
    assert len(taken) <= 2 * 4 + 2 * 2 + 3


# -- a terminal

AT_TERMINAL = """
import sys
import fastproc
from fastproc import cmd
pipeline = {pipeline}
try:
    pipeline.run({options})
except KeyboardInterrupt as error:
    print("interrupted", [stage.signal for stage in error.result.stages], flush=True)
from support import observe
print("left", observe.children(), flush=True)
"""


@pytest.mark.parametrize("engine", ["", "exchange"])
@pytest.mark.parametrize("options", ["", "pgid=0", "capture=True"])
def test_ctrl_c_at_a_terminal_ends_the_pipeline(options: str, engine: str) -> None:
    """As a shell would: every stage gets SIGINT, also in a group of its own; all are gone, and Python is told."""
    script = AT_TERMINAL.format(pipeline='cmd("sleep", "60") | cmd("cat") | cmd("sleep", "61")', options=options)
    leader, follower = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parents[1], *sys.path])),
                "FASTPROC_ENGINE": engine,
            },
        )
        os.close(follower)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: len(children.read_text().split()) == 3, 20)
        wait_until(lambda: all(_runs_its_program(int(pid)) for pid in children.read_text().split()))
        # Inside a spawn an interrupt ends the child that is being made by SIGKILL: wait until the parent waits.
        wait_until(lambda: "epoll" in Path(f"/proc/{process.pid}/wchan").read_text() or _waits(process.pid))
        os.write(leader, b"\x03")
        text = b""
        while not text.endswith(b")\r\n"):
            text += os.read(leader, 4096)
        assert process.wait(20) == 0
        assert b"interrupted [2, 2, 2]" in text or b"interrupted [2, None, 2]" in text
        assert b"left set()" in text
    finally:
        os.close(leader)


def _waits(pid: int) -> bool:
    """Whether it is in epoll_wait(2), epoll_pwait(2) or ppoll(2), by their numbers on x86_64 and aarch64."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in ("232", "281", "22", "271", "73")


def _runs_its_program(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().strip() in ("sleep", "cat")


def test_ctrl_c_in_a_wait_is_passed_on_to_a_group_of_its_own() -> None:
    """GOTCHAS H5: a handle's wait, too; the commands end as they like."""
    script = "trap 'exit 7' INT; echo ready >&2; while :; do sleep 0.01; done"
    read_end, write_end = os.pipe()
    try:
        pipeline = (cmd("sh", "-c", script) | cmd("sh", "-c", script)).unchecked()
        with pipeline.start(pgid=0, stderr=write_end) as handle:
            text = b""
            while text.count(b"ready") < 2:
                text += os.read(read_end, 100)
            old = signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            try:
                with pytest.raises(KeyboardInterrupt):
                    handle.wait()
            finally:
                signal.signal(signal.SIGALRM, old)
            assert [stage.returncode for stage in handle.wait().stages] == [7, 7]
    finally:
        os.close(read_end)
        os.close(write_end)


# -- in event loops


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def in_loop(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Run a coroutine function in each kind of loop."""
    name: str = request.param
    need(name)
    return lambda main: run_in(name, main)


def test_started_in_a_loop_it_is_waited_for_by_tasks(in_loop: Callable[..., Any]) -> None:
    """Its result again and again; a wait that is over stops nothing; leaving the block ends it."""

    async def main() -> list[Any]:
        async with aio.start(sh("read x; echo $x") | cmd("cat"), capture=True, input=b"a\n") as pipeline:
            first, second = await pipeline.wait(), await pipeline.wait(5)
            found = [first.stdout, second.stdout, pipeline.done, len(pipeline.pids), pipeline.try_wait().returncode]
        async with aio.start(cmd("sleep", "60") | cmd("cat")) as pipeline:
            found.append(pipeline.try_wait())
            with pytest.raises(fastproc.TimeoutExpired):
                await pipeline.wait(0.05)
            found.append(pipeline.done)
        return [*found, pipeline.done]

    assert in_loop(main) == [b"a\n", b"a\n", True, 2, 0, None, False, True]


def test_started_in_a_loop_it_is_ended_as_elsewhere(in_loop: Callable[..., Any]) -> None:
    """By kill, stop and a deadline; a failing start leaves nothing; what is wrong is said at once."""

    async def main() -> list[Any]:
        found: list[Any] = []
        for end in ("kill", "stop"):
            pipeline = await aio.start(cmd("sleep", "60") | cmd("sleep", "60"), check=False)
            done = getattr(pipeline, end)()
            if done is not None:
                await done
            found.append([stage.signal for stage in (await pipeline.wait()).stages])
        pipeline = await aio.start(cmd("sleep", "60") | cmd("sleep", "60"), timeout=0.1)
        with pytest.raises(fastproc.TimeoutExpired):
            await pipeline.wait()
        with pytest.raises(FileNotFoundError):
            await aio.start(cmd("sleep", "60") | cmd("no-such-program"))
        with pytest.raises(TypeError, match=r"^nonsense: "):
            aio.start(cmd("true") | cmd("true"), nonsense=1)
        hooked = await aio.start(cmd("cat").before_spawn(lambda command: command.args("-")), input=b"x", capture=True)
        found.append((await hooked.wait()).stdout)
        return found

    assert in_loop(main) == [[9, 9], [15, 15], b"x"]


def test_undecodable_line_of_a_pipeline_is_raised_after_the_lines_before_it() -> None:
    """Also where nothing more comes; every stage is ended."""
    for tail in ("", "; exec sleep 60"):
        lines = (sh(r"printf 'a\nb\n\377x\nc\n'" + tail) | CAT).lines(text=True)
        assert [next(lines), next(lines)] == ["a", "b"]
        pids = observe.children()
        with pytest.raises(UnicodeDecodeError) as caught:
            next(lines)
        assert caught.value.object == b"\xffx"
        assert all(gone(pid) for pid in pids)


def test_reader_that_reads_little_copies_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long output without an end of a line each read takes a piece of it, and not all."""
    from fastproc import pipeline

    class Taken:
        def __init__(self) -> None:
            self.left = [b"x" * 500_000, b"y\nz" + b"x" * 500_000, b"\nend"]

        def take(self) -> bytes | None:
            return self.left.pop(0) if self.left else None

        def wait(self) -> None:
            """It has ended."""

    sizes: list[int] = []

    class Counted(bytes):
        def __getitem__(self, key: Any) -> Any:
            found = bytes.__getitem__(self, key)
            sizes.append(len(found))
            return Counted(found)

    taken: Any = Taken()
    taken.left = [Counted(piece) for piece in taken.left]
    reader = pipeline.Reader(taken)
    whole = b"".join(taken.left)
    found = [reader.read(7) for _ in range(2000)]
    assert b"".join(found) == whole[:14_000]
    assert sum(sizes) < 500_000 + 2000 * (1 << 15)
    assert reader.readline() == whole[14_000:500_002]
    assert reader.read(3) + reader.read(-1) == whole[500_002:]
    assert reader.read(5) == b""
