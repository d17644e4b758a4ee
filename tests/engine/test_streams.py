"""Reading a running child piece by piece: order, deadlocks, leaving and going on, silence, pipes held by others."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastproc
from conftest import wait_until
from fastproc import PIPE, STDOUT, Event, LineTooLong, Process, TimeoutExpired
from support import observe
from support.programs import CAT, SLEEP


def sh(script: str, **options: Any) -> Process:
    options.setdefault("capture", True)
    return fastproc.start("/bin/sh", "-c", script, **options)


def test_lines_come_as_they_are_written() -> None:
    """Each before the child goes on; bytes without ends; the end of the stream ends them."""
    with sh("echo a; read x; echo b; read x; printf c", stdin=PIPE) as process:
        lines = process.lines()
        assert next(lines) == b"a"
        process.write(b"\n")
        assert next(lines) == b"b"
        process.write(b"\n")
        assert list(lines) == [b"c"]
        assert process.wait() == 0


def test_lines_of_text_and_records() -> None:
    """Text on request, NUL-separated records, universal newlines, ends kept."""
    script = r"printf 'h\303\251\r\nx\n'; printf 'e1\0e2\0' >&2"
    with sh(script) as process:
        assert list(process.lines(text=True)) == ["hé\r", "x"]
        assert list(process.lines("stderr", newline="\0")) == [b"e1", b"e2"]
    with sh(script) as process:
        assert list(process.lines(text=True, newline="universal", keep_ends=True)) == ["hé\n", "x\n"]
    with sh(script) as process:
        assert list(process.lines(longest=3, over="truncate")) == ["hé".encode(), b"x"]
    with sh(script) as process, pytest.raises(LineTooLong, match="longer than 3"):
        list(process.lines(longest=3, over="raise"))


def test_iteration_left_and_taken_up_loses_nothing() -> None:
    """A second loop goes on after the line at which the first was left."""
    with fastproc.start("seq", "1000", stdout=PIPE) as process:
        first = []
        for line in process.lines():
            first.append(line)
            if len(first) == 3:
                break
        second = next(process.lines())
        rest = b"".join(process.chunks())
        assert first == [b"1", b"2", b"3"]
        assert second == b"4"
        assert rest == b"".join(b"%d\n" % number for number in range(5, 1001))


def test_other_way_of_reading_that_would_lose_is_refused() -> None:
    """Text that was decoded is not made bytes again; what is finished may be asked for in any way."""
    with sh("printf 'a\nb\nc'") as process:
        assert next(process.lines(text=True)) == "a"
        with pytest.raises(ValueError, match=r"^stream: stdout is being read in another way"):
            process.chunks()
        assert list(process.lines(text=True)) == ["b", "c"]
        assert list(process.chunks()) == []


def test_child_that_fills_every_pipe_is_no_deadlock() -> None:
    """It reads all of its input last; the caller reads only stdout (GOTCHAS E1)."""
    script = "head -c 3000000 /dev/zero >&2; seq 300000; head -c 1000000 /dev/zero >&2; wc -c"
    with sh(script, stdin=PIPE) as process:
        lines = list(process.lines(input=b"x" * 5_000_000))
        assert lines[-1].strip() == b"5000000"
        assert len(lines) == 300_001
        assert sum(map(len, process.chunks("stderr"))) == 4_000_000
        assert process.wait() == 0


def test_write_does_not_block_for_ever() -> None:
    """A child that answers more than it reads: what it says is kept while we write."""
    with fastproc.start(*CAT, stdin=PIPE, stdout=PIPE) as process:
        process.write(b"y\n" * 2_000_000)
        process.close_stdin()
        assert sum(1 for _ in process.lines()) == 2_000_000
        process.close_stdin()
        assert process.wait() == 0


def test_input_comes_from_an_iterator_at_the_childs_pace() -> None:
    """An endless one is asked only while somebody waits; its error comes out."""
    asked = []

    def endless() -> Iterator[bytes]:
        while True:
            asked.append(1)
            yield b"x" * 999 + b"\n"

    with sh("head -n 5000", stdin=PIPE) as process:
        assert len(list(process.lines(input=endless()))) == 5000
    assert len(asked) < 8000

    def failing() -> Iterator[bytes]:
        yield b"x\n"
        raise LookupError("mine")

    with fastproc.start(*CAT, stdin=PIPE, stdout=PIPE) as process:
        with pytest.raises(LookupError, match="mine"):
            list(process.lines(input=failing()))
        # Stdin is still open: the child has not seen an end, and the caller may go on.
        process.write(b"y\n")
        process.close_stdin()
        assert b"".join(process.chunks()) == b"x\ny\n"


def test_closed_outputs_do_not_end_the_feeding() -> None:
    """The child may read on when its outputs are closed, and go when it likes (GOTCHAS E4)."""
    with sh("exec >&- 2>&-; wc -c | grep -q 3000000", stdin=PIPE) as process:
        assert list(process.lines(input=b"x" * 3_000_000)) == []
        assert process.wait() == 0
    with sh("exec <&-; echo on", stdin=PIPE) as process:
        assert list(process.lines(input=b"x" * 3_000_000)) == [b"on"]
    with sh("exit 0", stdin=PIPE) as process:
        process.wait()
        process.write(b"x" * 3_000_000)


def test_nothing_is_read_ahead_of_the_caller() -> None:
    """Back-pressure: an endless writer is held by its pipe while the caller does something else."""
    with fastproc.start("yes", stdout=PIPE) as process:
        lines = process.lines()
        assert next(lines) == b"y"
        threading.Event().wait(0.1)
        streams = process._streams
        assert streams is not None
        assert streams.outputs["stdout"].offset <= 3 * 65536
        process.kill()
        assert process.wait() == -9


def test_events_have_stream_time_and_offset() -> None:
    """Both streams in one iteration."""
    with sh("echo one; read x; echo two >&2; read x; echo three", stdin=PIPE) as process:
        found = []
        begin = monotonic()
        for event in process.events(text=True):
            found.append(event)
            process.write(b"\n")
        assert [event._replace(time=0.0) for event in found] == [
            Event("stdout", 0.0, 0, "one"),
            Event("stderr", 0.0, 0, "two"),
            Event("stdout", 0.0, 4, "three"),
        ]
        times = [event.time for event in found]
        assert begin <= times[0] <= times[1] <= times[2] <= monotonic()


def test_exact_order_is_one_pipe() -> None:
    """With stderr=STDOUT nothing can change its place; the stream has no tag."""
    script = "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done"
    with sh(script, stdout=PIPE, stderr=STDOUT) as process:
        assert list(process.lines()) == [b"%c%d" % (kind, n) for n in range(1, 6) for kind in b"oe"]


WRITER = """
import os, sys
for number, size in {plan}:
    data = b"".join(b"%d:%d\\n" % (number, i) for i in range(size))
    while data:
        data = data[os.write(number, data):]
"""


@settings(max_examples=12, deadline=None)
@given(
    plan=st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([0, 1, 100, 20_000])), max_size=6),
    unit=st.sampled_from(["lines", "chunks"]),
    longest=st.sampled_from([None, 3]),
)
def test_events_of_two_busy_streams(plan: list[tuple[int, int]], unit: str, longest: int | None) -> None:
    """Nothing is lost and nothing changes its place within a stream; offsets are exact."""
    expected = {"stdout": b"", "stderr": b""}
    for number, size in plan:
        expected["stdout" if number == 1 else "stderr"] += b"".join(b"%d:%d\n" % (number, i) for i in range(size))
    code = WRITER.format(plan=plan)
    with fastproc.start(sys.executable, "-SIc", code, capture=True) as process:
        found = {"stdout": b"", "stderr": b""}
        for event in process.events(unit, longest=longest):
            if longest is None:
                assert event.offset == len(found[event.stream])
            else:
                assert unit == "chunks" or len(event.data) <= longest
            found[event.stream] += event.data + (b"\n" if unit == "lines" and longest is None else b"")
        if unit == "lines" and longest is not None:
            expected = {name: data.replace(b"\n", b"") for name, data in expected.items()}
        assert found == expected


def test_silence_is_an_error_that_loses_nothing() -> None:
    """TimeoutExpired after the time without output; the child runs, and another call goes on."""
    with sh("printf abc; read x; echo d", stdin=PIPE) as process:
        begin = monotonic()
        with pytest.raises(TimeoutExpired, match=r"timed out after 0\.1 seconds"):
            list(process.lines(idle_timeout=0.1))
        assert 0.1 <= monotonic() - begin < 0.4
        process.write(b"\n")
        assert list(process.lines(idle_timeout=5)) == [b"abcd"]


def test_times_given_to_start_are_those_of_the_iterations() -> None:
    """idle_timeout and drain_timeout need not be repeated; what the call says goes before."""
    with sh("read x; sleep 30 & echo $!; exit", stdin=PIPE, idle_timeout=0.05, drain_timeout=None) as process:
        with pytest.raises(TimeoutExpired, match=r"0\.05"):
            next(process.lines())
        process.write(b"\n")
        assert next(process.chunks(idle_timeout=None)).strip().isdigit()
        assert process.wait() == 0
        with pytest.raises(TimeoutExpired, match=r"0\.05"):
            next(process.chunks())
        assert list(process.chunks(idle_timeout=None, drain_timeout=0.0)) == []
        assert process.pipes_still_open


def test_grandchild_that_holds_the_pipe() -> None:
    """The iteration ends drain_timeout after the child, with all that came (GOTCHAS E2)."""
    with sh("sleep 3 & echo hi") as process:
        begin = monotonic()
        assert list(process.lines(drain_timeout=0.1)) == [b"hi"]
        assert monotonic() - begin < 0.5
        assert process.pipes_still_open
        assert process.wait() == 0
    with sh("echo hi") as process:
        assert list(process.lines()) == [b"hi"]
        assert not process.pipes_still_open


def test_slow_reader_gets_all_that_is_in_the_pipe() -> None:
    """The drain deadline has passed long ago; the pipe is emptied all the same."""
    with sh("sleep 3 & seq 10000") as process:
        lines = process.lines(drain_timeout=0.0)
        assert next(lines) == b"1"
        process.wait()
        assert sum(1 for _ in lines) == 9999


def test_works_without_a_pidfd() -> None:
    """Where the kernel has none, by looking again and again."""
    with sh("sleep 3 & echo hi") as process:
        process._pidfd.close()
        assert list(process.lines(drain_timeout=0.1)) == [b"hi"]


def test_files_and_iterations_exclude_each_other() -> None:
    """A pipe has one reader: the file of the standard kind, or this."""
    with sh("echo a; echo b >&2", stdin=PIPE) as process:
        assert process.stdout is not None
        with pytest.raises(ValueError, match=r"^stream: stdout is no pipe, or is in use as a file"):
            process.lines()
        assert list(process.lines("stderr")) == [b"b"]
        with pytest.raises(ValueError, match=r"^stderr: is in use by lines"):
            _ = process.stderr
        assert process.stdin is not None
        with pytest.raises(ValueError, match=r"^input: stdin is no pipe, is closed, or is in use"):
            process.write(b"x")


@pytest.mark.parametrize(
    ("method", "options", "name"),
    [
        ("lines", {"stream": "stdin"}, "stream"),
        ("lines", {"newline": "ab"}, "newline"),
        ("lines", {"idle_timeout": -1}, "idle_timeout"),
        ("lines", {"drain_timeout": float("nan")}, "drain_timeout"),
        ("lines", {"input": b"x"}, "input"),
        ("events", {"unit": "words"}, "unit"),
        ("events", {"unit": "chunks", "text": True}, "text"),
        ("events", {"newline": "universal"}, "newline"),
        ("events", {"text": True, "encoding": "utf-16-le"}, "encoding"),
    ],
)
def test_impossible_arguments_are_named(method: str, options: dict[str, Any], name: str) -> None:
    """At the call, not at the first line."""
    with sh("exit 0") as process, pytest.raises(ValueError, match=f"^{name}: "):
        getattr(process, method)(**options)


def test_uncaptured_streams_are_refused() -> None:
    """With what to do about it."""
    with fastproc.start(*SLEEP) as process:
        with pytest.raises(ValueError, match="start with stdout=PIPE"):
            process.lines()
        with pytest.raises(ValueError, match="start with capture=True"):
            process.events()


def test_dropped_handle_is_freed_at_once() -> None:
    """No cycle keeps the pipes or the epoll after the last reference."""
    before = observe.fds()
    gc.disable()
    try:
        process = sh("echo a; echo b")
        lines = process.lines()
        assert next(lines) == b"a"
        process.wait()
        gone = weakref.ref(process)
        del process
        assert list(lines) == [b"b"]
        del lines
        assert gone() is None
        assert observe.fds() == before
    finally:
        gc.enable()


def test_leaving_the_with_block_ends_everything() -> None:
    """Also in the middle of an iteration; a later step of it gives nothing."""
    with fastproc.start("yes", stdout=PIPE) as process:
        chunks = process.chunks()
        next(chunks)
    assert process.returncode == -9
    assert list(chunks) == []


def test_ended_child_is_seen_by_its_end_of_file() -> None:
    """The descriptors are given back at the end of the streams, with no `with`."""
    before = observe.fds()
    process = sh("echo a")
    assert list(process.lines()) == [b"a"]
    assert list(process.lines("stderr")) == []
    process.wait()
    wait_until(lambda: observe.fds() == before)
    assert os.path.exists("/proc/self/fd")


UNDECODABLE = r"printf 'a\nb\n\377x\nc\n\nd\303'"


@pytest.mark.parametrize("how", ["lines", "universal", "limited", "events", "merged"])
def test_undecodable_line_is_raised_in_its_place_and_the_next_reading_goes_on(how: str) -> None:
    """Each good line is given once, each bad one is in its error, and nothing waits for more."""
    with sh(UNDECODABLE, stderr=STDOUT) as process:
        found: list[object] = []
        options: dict[str, Any] = {"universal": {"newline": "universal"}, "limited": {"longest": 5}}.get(how, {})
        for _ in range(3):
            try:
                if how in ("events", "merged"):
                    for event in getattr(process, how)(text=True):
                        found.append(event.data)
                else:
                    for line in process.lines(text=True, **options):
                        found.append(line)
            except UnicodeDecodeError as error:
                found.append(error.object)
        assert found == ["a", "b", b"\xffx", "c", "", b"d\xc3"]
        assert process.wait() == 0


def test_undecodable_line_is_raised_before_more_is_waited_for() -> None:
    """The child says no more."""
    with sh(r"printf 'a\n\377\n'; exec sleep 60") as process:
        lines = process.lines(text=True)
        assert next(lines) == "a"
        with pytest.raises(UnicodeDecodeError):
            next(lines)


class Fake:
    """One output of a child, of which each wait brings one piece more."""

    def __init__(self, pieces: list[bytes]) -> None:
        from collections import deque

        self.pieces = deque(pieces)
        self.items: Any = deque()
        self.offset = 0
        self.ended = False
        self.times = (None, None, None)
        self.argv = ("x",)

    def uncut(self) -> None:
        """Nothing is cut."""

    def read(self) -> bool:
        """Nothing comes without a wait."""
        return False

    def waiting(self, *_arguments: object) -> Any:
        """Bring the next piece."""
        if not self.pieces:
            return False
        data = self.pieces.popleft()
        self.items.append((0.0, self.offset, data))
        self.offset += len(data)
        return True
        yield


@pytest.mark.parametrize("how", ["readline", "read", "expect"])
def test_waiting_for_more_copies_nothing_of_what_has_come(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of 3,000 pieces is copied a few times, and not with each of them."""
    from fastproc._engine.streams import expect as expecting
    from fastproc._values import expect as values

    copied = 0

    def counted(*arguments: Any) -> bytes:
        nonlocal copied
        made = bytes(*arguments)
        copied += len(made)
        return made

    monkeypatch.setattr(expecting, "bytes", counted, raising=False)
    fake: Any = Fake([b"x" * 100] * 3000 + [b"END\n" + b"y" * 100_000])
    line = b"x" * 300_000 + b"END\n"
    calls = {
        "readline": lambda: expecting.readline(fake, fake, fake, None),
        "read": lambda: expecting.read(fake, fake, fake, len(line), None),
        "expect": lambda: expecting.expect(fake, fake, fake, values.Search([b"END\n", b"no"]), None),
    }
    with pytest.raises(StopIteration) as end:
        next(calls[how]())
    found = end.value.value
    assert (found.before + found.data if how == "expect" else found) == line
    assert copied < 4 * (len(line) + 100_000)
    # And what was given back costs a bounded copy for each further line.
    fake.items.extend([(0.0, 0, b"short\n" * 10)])
    copied = 0
    for _ in range(5):
        with pytest.raises(StopIteration):
            next(expecting.read(fake, fake, fake, 10, None))
    assert copied < 5 * (3 << 14)
