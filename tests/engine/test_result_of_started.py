"""A started child whose outputs have limits, callbacks and copies: by every way of reading, and its Result."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastproc
from conftest import isolated
from fastproc import (
    DEVNULL,
    MEMFD,
    PIPE,
    STDERR,
    STDOUT,
    CaptureLimit,
    Event,
    LineTooLong,
    OnLine,
    OutputTooLarge,
    Process,
    TimeoutExpired,
    aio,
)
from fastproc._engine.fds import OwnedFd
from fastproc._engine.streams.output_queue import Output
from support import drivers

SEQ = b"".join(b"%d\n" % number for number in range(1, 100_001))

Told = list[tuple[str, Any]]


def sh(script: str, **options: Any) -> Process:
    options.setdefault("capture", True)
    return fastproc.start("/bin/sh", "-c", script, **options)


def telling(told: Told) -> Callable[[str, Any], None]:
    return lambda stream, line: told.append((stream, line))


# -- the Result of a started child


def test_result_has_what_nobody_took() -> None:
    """Both outputs, the status, its usage; what a loop has taken before is not in it."""
    with sh("echo a; echo b; echo e >&2; cat; exit 3", stdin=PIPE) as process:
        assert next(process.lines()) == b"a"
        result = process.result(input=b"fed", timeout=10)
        assert (result.stdout, result.stderr, result.returncode) == (b"b\nfed", b"e\n", 3)
        assert result.usage is not None
        assert result.duration > 0
        assert result.pid == process.pid
        with pytest.raises(fastproc.ExitError):
            result.check()
        again = process.result()
        assert (again.stdout, again.returncode) == (b"", 3)


def test_result_closes_stdin_that_nobody_feeds() -> None:
    """As communicate(): a child that reads to the end of its input would otherwise wait for ever."""
    with sh("cat; echo end", stdin=PIPE) as process:
        process.write(b"x\n")
        assert process.result(timeout=10).stdout == b"x\nend\n"


def test_result_out_of_time_loses_nothing() -> None:
    """What came is in the error, the child lives, and another call goes on."""
    with sh("echo a; echo e >&2; sleep 0.6; echo b") as process:
        with pytest.raises(TimeoutExpired) as caught:
            process.result(timeout=0.2)
        assert (caught.value.output, caught.value.stderr) == (b"a\n", b"e\n")
        assert process.poll() is None
        result = process.result(timeout=10)
        assert (result.stdout, result.stderr) == (b"a\nb\n", b"e\n")


def test_result_of_a_pipe_that_others_hold() -> None:
    """drain_timeout after the end of the child; who holds it is named, and what was written is there."""
    with sh("sleep 3 & echo $!; exec 2>&-", drain_timeout=0.1) as process:
        begin = monotonic()
        result = process.result(timeout=10)
        assert monotonic() - begin < 1.0
        assert result.pipes_still_open
        assert process.pipes_still_open
        assert result.pipe_holders == (int(result.stdout or b"0"),)


def test_silence_of_a_started_child() -> None:
    """idle_timeout of start() holds for result() and for a wait() that reads."""
    told: Told = []
    with sh("echo a; exec sleep 60", idle_timeout=0.2, on_line=telling(told)) as process:
        for call in (process.result, process.wait):
            with pytest.raises(TimeoutExpired, match=r"0\.2 seconds"):
                call()
    assert told == [("stdout", b"a")]


def test_exchanged_outputs_have_their_names() -> None:
    """swap_outputs exchanges them for every reading, limit and callback."""
    told: Told = []
    limit = CaptureLimit(2)
    with sh("echo out; echo error >&2", swap_outputs=True, on_line=telling(told), stdout_limit=limit) as process:
        result = process.result()
        assert (result.stdout, result.stderr) == (b"er", b"out\n")
    assert sorted(told) == [("stderr", b"out"), ("stdout", b"error")]
    with sh("echo out; echo error >&2", swap_outputs=True) as process:
        assert list(process.lines()) == [b"error"]
        assert list(process.lines("stderr")) == [b"out"]
    with sh("echo out; echo error >&2", capture=False, stdout=PIPE, stderr=DEVNULL, swap_outputs=True) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"error\n"


# -- callbacks and copies, whoever reads


READERS: dict[str, Callable[[Process], object]] = {
    "lines": lambda process: [*process.lines(), *process.lines("stderr")],
    "chunks": lambda process: [*process.chunks("stderr"), *process.chunks()],
    "events": lambda process: list(process.events()),
    "read": lambda process: (process.read(), process.read(stream="stderr")),
    "expect": lambda process: (process.expect(EOFError), process.expect(EOFError, stream="stderr")),
    "result": lambda process: process.result(),
    "wait": lambda process: process.wait(timeout=10),
}


@pytest.mark.parametrize("reader", READERS)
def test_everything_that_is_read_is_told_and_copied(reader: str, tmp_path: Path) -> None:
    """Once, whoever asked for it, and also what is only kept meanwhile."""
    told: Told = []
    limit = CaptureLimit(1 << 20, 1 << 20, spill=tmp_path / "all")
    with sh("seq 20000; echo e >&2; printf end", on_line=telling(told), stdout_limit=limit) as process:
        READERS[reader](process)
        assert process.wait() == 0
    lines = [b"%d" % number for number in range(1, 20_001)]
    assert [line for stream, line in told if stream == "stdout"] == [*lines, b"end"]
    assert [line for stream, line in told if stream == "stderr"] == [b"e"]
    assert (tmp_path / "all").read_bytes() == b"\n".join([*lines, b"end"])


def test_callback_that_raises_goes_to_who_reads() -> None:
    """Nothing is lost: the next reading goes on with the line after."""
    told: Told = []

    def call(stream: str, line: bytes) -> None:
        told.append((stream, line))
        if line == b"2":
            raise LookupError(line)

    with sh("seq 4", on_line=call) as process:
        with pytest.raises(LookupError):
            process.result()
        assert process.result().stdout == b"1\n2\n3\n4\n"
    assert [line for _, line in told] == [b"1", b"2", b"3", b"4"]


def test_callback_that_always_raises_is_told_every_line() -> None:
    """Also those that come with the end of the output, or are there when others hold it."""
    told: Told = []

    def call(stream: str, line: bytes) -> None:
        told.append((stream, line))
        raise LookupError(line)

    for script in ("printf 'a\nb\nc\nd'", "printf 'a\nb\nc\nd'; sleep 60 &"):
        told.clear()
        with sh(script, on_line=call, drain_timeout=0.2, kill_tree=True) as process:
            for _ in range(4):
                with pytest.raises(LookupError):
                    process.result()
            assert process.result().stdout == b"a\nb\nc\nd"
        assert [line for _, line in told] == [b"a", b"b", b"c", b"d"]


@pytest.mark.parametrize("reader", ["result", "lines", "wait"])
def test_last_line_of_an_output_that_others_hold(reader: str) -> None:
    """It is told when the output is given up."""
    told: Told = []
    with sh("echo a; printf b; sleep 60 &", on_line=telling(told), drain_timeout=0.2, kill_tree=True) as process:
        if reader == "lines":
            assert list(process.lines()) == [b"a", b"b"]
        else:
            getattr(process, reader)()
    assert told == [("stdout", b"a"), ("stdout", b"b")]


def test_end_inside_a_character_is_told_once() -> None:
    """The next call goes on."""
    call = OnLine(lambda _stream, _line: None, text=True)
    for reader in ("wait", "result", "read"):
        with sh(r"printf 'abc\303'; exit 3", on_line=call) as process:
            with pytest.raises(UnicodeDecodeError):
                process.result() if reader == "read" else getattr(process, reader)()
            assert process.result().returncode == 3


def test_failure_is_told_once() -> None:
    """A file that is full, lines that are too long: all that is read later is kept all the same."""
    limit = CaptureLimit(1 << 20, spill="/dev/full")
    options: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"stdout_limit": limit}, OSError),
        ({"on_line": OnLine(lambda _stream, _line: None, longest=2, over="raise")}, LineTooLong),
    ]
    for given_options, kind in options:
        with sh("for i in 1 2 3 4; do echo long$i; sleep 0.05; done; exit 3", **given_options) as process:
            with pytest.raises(kind):
                process.result()
            result = process.result()
            assert (result.returncode, result.stdout) == (3, b"long1\nlong2\nlong3\nlong4\n")


def test_line_too_long_goes_to_who_reads() -> None:
    """At once, not with the next piece."""
    call = OnLine(print, longest=2, over="raise")
    with sh("echo abc; exec sleep 60", on_line=call) as process, pytest.raises(LineTooLong):
        process.wait(timeout=10)


def test_lines_raise_at_once() -> None:
    """lines(over="raise"), too: after the lines before it, though the child says no more."""
    with sh("echo a; echo abc; exec sleep 60") as process:
        lines = process.lines(longest=2, over="raise")
        assert next(lines) == b"a"
        begin = monotonic()
        with pytest.raises(LineTooLong):
            next(lines)
        assert monotonic() - begin < 10


def test_copy_that_nobody_takes_holds_no_timeout() -> None:
    """A started child's output is copied to our own stdout, which takes nothing: waits end in time, nothing is lost."""
    script = """
import os, sys, threading, time
import fastproc
reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while True:
        os.write(writer, b"." * 4096)
except BlockingIOError:
    pass
os.set_blocking(writer, True)
os.dup2(writer, 1)
os.close(writer)
with fastproc.start("seq", "100000", stdout=fastproc.PIPE, tee=True) as process:
    begin = time.monotonic()
    try:
        process.result(timeout=0.3)
    except fastproc.TimeoutExpired as error:
        print(0.3 <= time.monotonic() - begin < 0.6, len(error.output), file=sys.stderr)
    left = 65536
    while left > 0:
        left -= len(os.read(reader, left))
    pid = os.fork()
    if pid == 0:
        size = 0
        while size < 588895:
            size += len(os.read(reader, 65536))
        os._exit(0)
    print(len(process.result(timeout=10).stdout), file=sys.stderr)
    os.waitpid(pid, 0)
os.set_blocking(1, False)
try:
    while True:
        os.write(1, b"." * 4096)
except BlockingIOError:
    pass
os.set_blocking(1, True)
with fastproc.start("yes", stdout=fastproc.PIPE, tee=True) as process:
    # Held by our own copy, it is not silent: there is more of it as soon as somebody takes what there is.
    timer = threading.Timer(0.7, lambda: [os.read(reader, 65536) for _ in range(40)])
    timer.daemon = True
    timer.start()
    lines = process.lines(idle_timeout=0.3)
    begin = time.monotonic()
    while time.monotonic() < begin + 0.7:
        next(lines)
    print("held", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.split() == ["True", "588895", "588895", "held"]


def test_spill_of_a_started_child() -> None:
    """Files in memory are in the Result."""
    limit = CaptureLimit(3, spill=MEMFD)
    with fastproc.start("seq", "100000", stdout=PIPE, stdout_limit=limit) as process:
        result = process.result()
        assert (result.stdout, result.stdout_dropped) == (SEQ[:3], len(SEQ) - 3)
        assert result.stdout_spill == SEQ


def test_streams_with_options_are_no_files() -> None:
    """The buffered file would go around them."""
    with sh("echo a", on_line=print) as process:
        with pytest.raises(ValueError, match=r"^stdout: has a limit, on_line or tee"):
            _ = process.stdout
        process.kill()


def test_spill_that_cannot_be_opened_makes_no_child(tmp_path: Path) -> None:
    """As for run(): an error of the set-up, with the name."""
    with pytest.raises(FileNotFoundError, match="cannot open"):
        sh("exit 0", stdout_limit=CaptureLimit(1, spill=tmp_path / "no" / "file"))


# -- limits


@pytest.mark.parametrize(("head", "tail"), [(10, 20), (0, 20), (10, 0), (0, 0), (300_000, 300_000), (70_000, 5)])
def test_limit_bounds_what_nobody_takes(head: int, tail: int) -> None:
    """Exactly the head and the tail in the Result, also of the stream that is only kept meanwhile."""
    limit = CaptureLimit(head, tail)
    with sh("seq 100000 >&2; echo o", stderr_limit=limit) as process:
        assert list(process.lines()) == [b"o"]
        result = process.result()
        assert result.stderr == SEQ[:head] + SEQ[max(head, len(SEQ) - tail) :]
        assert result.stderr_dropped == max(0, len(SEQ) - head - tail)


def test_output_that_is_taken_comes_whole() -> None:
    """A limit is on what is kept: a loop that keeps up gets every line."""
    with fastproc.start("seq", "100000", stdout=PIPE, stdout_limit=CaptureLimit(5, 5)) as process:
        assert b"\n".join(process.lines()) + b"\n" == SEQ


def test_gap_joins_no_lines() -> None:
    """What was dropped lies between two lines, and events tell where."""
    limit = CaptureLimit(10, 10)
    with sh("seq 100000 >&2; echo o", stderr_limit=limit) as process:
        assert next(process.lines()) == b"o"
        process.read()
        for event in process.events():
            data = event.data
            assert SEQ[event.offset : event.offset + len(data)] == data
    with sh("seq 100000 >&2; echo o", stderr_limit=limit) as process:
        assert next(process.lines()) == b"o"
        process.read()
        lines = list(process.lines("stderr"))
        assert lines[0] == b"1"
        assert lines[-1] == b"100000"
        assert len(set(lines).difference(SEQ.split())) <= 2


STOPPED: dict[str, Callable[[Process], object]] = {
    "lines": lambda process: list(process.lines()),
    "chunks": lambda process: list(process.chunks()),
    "events": READERS["events"],
    "result": READERS["result"],
}


@pytest.mark.parametrize("reader", STOPPED)
def test_limit_that_stops(reader: str) -> None:
    """SIGTERM, and SIGKILL for one that ignores it, while somebody reads; "raise" is an error with the Result."""
    limit = CaptureLimit(100, over="stop")
    with fastproc.start("yes", stdout=PIPE, stdout_limit=limit) as process:
        STOPPED[reader](process)
        assert process.wait(timeout=10) == -15
        result = process.result()
        assert result.killed == "terminated"
    limit = CaptureLimit(100, over="raise")
    script = "trap '' TERM; while :; do echo y; done"
    with sh(script, stdout_limit=limit, grace=0.05) as process:
        with pytest.raises(OutputTooLarge, match=r"^stdout passed its limit") as caught:
            STOPPED[reader](process)
        assert (caught.value.result.returncode, caught.value.result.killed) == (-9, "killed")


def flooded() -> tuple[int, int]:
    """How much this program grows, in KiB, while one stream is read and the other is flooded; and what was dropped."""
    limit = CaptureLimit(1 << 20, 1 << 20)
    script = "head -c 200M /dev/zero >&2; echo o"
    sh("echo e >&2; echo o", stderr_limit=limit).result()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
    before = peak()
    with sh(script, stderr_limit=limit) as process:
        assert list(process.lines()) == [b"o"]
        result = process.result()
    return peak() - before, result.stderr_dropped


def peak() -> int:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def test_flood_on_the_other_stream_leaves_memory_bounded() -> None:
    """Under 8 MiB for one of head and one of tail (GOTCHAS E6)."""
    grown, dropped = isolated(flooded)
    assert dropped == (200 - 2) << 20
    assert grown < 8 * 1024


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=30),
    st.integers(0, 60),
    st.integers(0, 60),
    st.lists(st.booleans(), max_size=30),
)
def test_queue_with_a_limit(pieces: list[bytes], head: int, tail: int, taken: list[bool]) -> None:
    """What is handed out are true pieces of the stream at their offsets, in order; all of it but what was dropped."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    from fastproc._engine.streams.sink import Tap

    tap = Tap("stdout", CaptureLimit(head, tail), None, [])
    found: list[tuple[int, bytes]] = []
    with OwnedFd(reader) as end, OwnedFd(writer) as out:
        output = Output("stdout", end, tap)
        for index, piece in enumerate(pieces):
            os.write(out.number, piece)
            assert output.read()
            output.refill()
            if index < len(taken) and taken[index]:
                _, offset, data = output.items.popleft()
                found.append((offset, data))
                output.refill()
        whole = b"".join(pieces)
        for offset, data in found:
            assert whole[offset : offset + len(data)] == data
        assert [offset for offset, _ in found] == sorted(offset for offset, _ in found)
        before = output.dropped
        left = output.peek()
        rest = output.take()
        assert sum(len(data) for _, data in found) + len(left) + before == len(whole)
        assert len(rest) <= head + tail
        assert rest == left[: min(head, len(left))] + left[max(head, len(left) - tail) :]


# -- the exact order


def test_merged_is_the_order_of_writing() -> None:
    """One pipe for both outputs: every piece in its place, at its offset, tagged with neither stream."""
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo o$i; echo e$i >&2; done"
    expected = [f"{name}{number}".encode() for number in range(1, 10) for name in "oe"]
    with sh(script, stderr=STDOUT) as process:
        events = list(process.merged())
        assert [event.data for event in events] == expected
        assert {event.stream for event in events} == {"both"}
        assert [event.offset for event in events] == list(range(0, 54, 3))
        assert isinstance(events[0], Event)
    with sh(script, capture=False, stdout=STDERR, stderr=PIPE) as process:
        assert [event.data for event in process.merged(text=True)] == [line.decode() for line in expected]
    with sh(script, capture=False, pty=True) as process:
        chunks = b"".join(event.data for event in process.merged("chunks"))
        assert chunks.split() == expected


def test_merged_needs_one_pipe() -> None:
    """Two pipes have no common order, and that is said; so with other arguments that are not possible."""
    with sh("exit 0") as process, pytest.raises(ValueError, match=r"^stderr: the outputs have no common order"):
        process.merged()
    with sh("exit 0", stderr=STDOUT) as process, pytest.raises(ValueError, match=r"^unit: "):
        process.merged("words")


# -- in an event loop


@pytest.fixture(params=drivers.LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """Each kind of event loop in turn."""
    drivers.need(request.param)
    name: str = request.param
    return name


def test_event_loops_have_the_same(loop: str) -> None:
    """Callbacks, limits, the Result, the exact order, a wait that reads."""
    told: Told = []

    async def main() -> None:
        limit = CaptureLimit(3, 2, spill=MEMFD)
        async with aio.start("seq", "100000", stdout=PIPE, stdout_limit=limit, on_line=telling(told)) as process:
            result = await process.result(timeout=30)
            assert (result.stdout, result.stdout_spill) == (SEQ[:3] + SEQ[-2:], SEQ)
        assert len(told) == 100_000
        async with aio.start("seq", "1000", stdout=PIPE, on_line=telling(told)) as process:
            assert await process.wait(timeout=30) == 0
        assert len(told) == 101_000
        async with aio.start("sh", "-c", "echo o; echo e >&2", capture=True, stderr=STDOUT) as process:
            assert [event.data async for event in process.merged()] == [b"o", b"e"]
        limit = CaptureLimit(10, over="raise")
        async with aio.start("yes", stdout=PIPE, stdout_limit=limit) as process:
            with pytest.raises(OutputTooLarge):
                await process.result(timeout=30)
        async with aio.start("sh", "-c", "echo a; exec sleep 60", stdout=PIPE, on_line=telling(told)) as process:
            with pytest.raises(TimeoutExpired) as caught:
                await process.result(timeout=0.2)
            assert caught.value.output == b"a\n"
            assert await process.stop() == -15

    drivers.run_in(loop, main)
