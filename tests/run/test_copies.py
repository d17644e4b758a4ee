"""What run() does with an output besides keeping it: lines told and logged, copies to files and to our own streams."""

from __future__ import annotations

import asyncio
import bz2
import fcntl
import gzip
import io
import logging
import lzma
import os
import pickle
import pty
import select
import signal
import socket
import tempfile
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import fastproc
from fastproc import (
    MEMFD,
    PIPE,
    CaptureLimit,
    ExitError,
    LineTooLong,
    Logger,
    OnLine,
    OutputTooLarge,
    Result,
    SpawnError,
    TimeoutExpired,
    aio,
    cmd,
    run,
)

SEQ = b"".join(b"%d\n" % number for number in range(1, 100_001))


def sh(script: str, **options: Any) -> Result:
    return run("/bin/sh", "-c", script, **options)


@contextmanager
def as_stdout(fd: int) -> Iterator[None]:
    """Our own stdout is another file for a while."""
    saved = os.dup(1)
    os.dup2(fd, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@contextmanager
def full_pipe() -> Iterator[tuple[int, int, int]]:
    """A pipe that takes no more: both its ends, and how much is in it."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        size = 0
        try:
            while True:
                size += os.write(writer, b"." * 4096)
        except BlockingIOError:
            pass
        os.set_blocking(writer, True)
        yield reader, writer, size
    finally:
        os.close(reader)
        os.close(writer)


# -- lines


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({}, [b"abcdef", b"g"]),
        ({"keep_ends": True}, [b"abcdef\n", b"g"]),
        ({"longest": 4}, [b"abcd", b"ef", b"g"]),
        ({"longest": 4, "over": "truncate"}, [b"abcd", b"g"]),
        ({"text": True, "longest": 5}, ["abcde", "f", "g"]),
        ({"newline": b"c"}, [b"ab", b"def\ng"]),
        ({"longest": None}, [b"abcdef", b"g"]),
    ],
)
def test_lines_are_cut_as_asked(options: dict[str, Any], lines: list[Any]) -> None:
    """The choices are those of Process.lines()."""
    found: list[Any] = []
    result = sh("printf 'abcdef\\ng'", capture=True, on_line=OnLine(lambda _, line: found.append(line), **options))
    assert found == lines
    assert result.stdout == b"abcdef\ng"


def test_text_is_decoded_across_pieces_and_newlines_are_universal() -> None:
    """Half a character waits for its other half, a return for its newline."""
    found: list[str] = []
    call = OnLine(lambda _, line: found.append(line), text=True, newline="universal")
    sh(r"printf '\303'; sleep 0.05; printf '\251\r'; sleep 0.05; printf '\nx\ry'", capture=True, on_line=call)
    assert found == ["é", "x", "y"]


def test_line_too_long_ends_the_run() -> None:
    """The lines before it are told, what was read is in the error, the child is gone."""
    found: list[bytes] = []
    call = OnLine(lambda _, line: found.append(line), longest=3, over="raise")
    begin = monotonic()
    with pytest.raises(LineTooLong) as caught:
        sh("echo ab; echo abcd; sleep 60", capture=True, on_line=call)
    assert monotonic() - begin < 10
    assert found == [b"ab"]
    assert caught.value.result.stdout.startswith(b"ab\nabcd")  # type: ignore[attr-defined]


def test_callback_that_always_raises_is_called_once() -> None:
    """Also by a child that goes on writing: the first error is the one that comes out, with the output."""
    calls: list[bytes] = []

    def failing(_stream: str, line: bytes) -> None:
        calls.append(line)
        raise LookupError(line)

    with pytest.raises(LookupError) as caught:
        run("yes", stdout=PIPE, stdout_limit=CaptureLimit(4), on_line=failing)
    assert calls == [b"y"]
    assert caught.value.result.stdout == b"y\ny\n"  # type: ignore[attr-defined]
    with pytest.raises(LineTooLong) as too_long:
        run("yes", "long", stdout=PIPE, stdout_limit=CaptureLimit(4), on_line=OnLine(failing, longest=3, over="raise"))
    assert too_long.value.result.stdout == b"long"  # type: ignore[attr-defined]


def test_unfinished_line_is_bounded_by_default() -> None:
    """A child that never ends a line cannot fill memory: it is told in pieces."""
    sizes: list[int] = []
    limit = CaptureLimit(1)
    run(
        "head",
        "-c",
        "3M",
        "/dev/zero",
        stdout=PIPE,
        stdout_limit=limit,
        on_line=lambda _, line: sizes.append(len(line)),
    )
    assert sizes == [1 << 20] * 3


def test_wrong_cuts_are_named() -> None:
    """When the OnLine is made, long before any child."""
    for options, word in (({"longest": 0}, "longest"), ({"over": "drop"}, "over"), ({"newline": "ab"}, "newline")):
        with pytest.raises(ValueError, match=f"^{word}: "):
            OnLine(print, **options)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^call: "):
        OnLine(5)  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        OnLine(print, text=True, encoding="no such")


def test_lines_become_log_records(caplog: pytest.LogCaptureFixture) -> None:
    """Each at its stream's level, also what is no text; a stream may be left out."""
    script = r"echo plain; printf 'b\377d %%s\n' >&2"
    with caplog.at_level(logging.DEBUG, "child"):
        sh(script, capture=True, on_line=Logger("child"))
        records = sorted((record.levelname, record.getMessage(), record.stream) for record in caplog.records)  # type: ignore[attr-defined]
        assert records == [("INFO", "plain", "stdout"), ("WARNING", "b\\xffd %s", "stderr")]
        caplog.clear()
        adapter = logging.LoggerAdapter(logging.getLogger("child"), {})
        sh(script, capture=True, on_line=Logger(adapter, stdout=None, stderr=logging.ERROR))
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("ERROR", "b\\xffd %s")]


def test_wrong_loggers_are_named() -> None:
    """Before any child exists."""
    with pytest.raises(TypeError, match=r"^logger: "):
        Logger(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^stderr: .*DEBUG"):
        Logger("x", stderr="LOUD")
    with pytest.raises(TypeError, match=r"^stdout: "):
        Logger("x", stdout=1.5)  # type: ignore[arg-type]


# -- copies to our own streams


def test_copy_that_nobody_takes_stops_no_deadline() -> None:
    """A full pipe in the place of our stdout: the run ends in time, and all that was captured is in the error."""
    with full_pipe() as (_, writer, _), as_stdout(writer):
        begin = monotonic()
        with pytest.raises(TimeoutExpired) as caught:
            sh("seq 100000; exec sleep 60", capture=True, tee=True, timeout=0.4)
        taken = monotonic() - begin
        assert os.get_blocking(1)
    assert taken < 0.4 + 0.3
    assert caught.value.result is not None
    assert caught.value.result.stdout == SEQ


def test_copy_that_is_not_taken_by_the_deadline_is_told() -> None:
    """The child has long ended well; its copy has not come out: no silent loss, and no wait beyond the deadline."""
    with full_pipe() as (_, writer, _), as_stdout(writer):
        begin = monotonic()
        with pytest.raises(TimeoutExpired) as caught:
            sh("echo a", capture=True, tee=True, timeout=0.3)
        assert 0.3 <= monotonic() - begin < 0.6
    result = caught.value.result
    assert result is not None
    assert (result.stdout, result.returncode, result.killed) == (b"a\n", 0, "")


def test_slow_copy_holds_the_child_and_loses_nothing() -> None:
    """More than waits in memory: the child is held by its pipe until the copy goes on, and all comes out in order."""
    size = 5 << 20
    with full_pipe() as (reader, writer, before), tempfile.TemporaryFile() as copy:
        pid = os.fork()
        if pid == 0:
            # Begins to read late, in small pieces; ends with the last writer.
            try:
                os.close(writer)
                import time

                time.sleep(0.5)
                while data := os.read(reader, 50_000):
                    copy.write(data)
                copy.flush()
            finally:
                os._exit(0)
        script = f"head -c {size} /dev/zero | tr '\\0' x"
        with as_stdout(writer):
            result = sh(script, capture=True, tee=True, drain_timeout=0.1, idle_timeout=0.2)
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), writer)
        os.waitpid(pid, 0)
        copy.seek(0)
        assert copy.read() == b"." * before + b"x" * size
    assert result.stdout == b"x" * size
    assert not result.pipes_still_open


def test_copy_to_a_terminal_that_is_stopped() -> None:
    """Ctrl-S at our terminal: the deadline holds, nothing that was captured is lost, the terminal is as it was."""
    master, slave = pty.openpty()
    try:
        termios.tcflow(slave, termios.TCOOFF)
        flags = fcntl.fcntl(slave, fcntl.F_GETFL)
        with as_stdout(slave), pytest.raises(TimeoutExpired) as caught:
            sh("seq 100000; exec sleep 60", capture=True, tee=True, timeout=0.3)
        assert fcntl.fcntl(slave, fcntl.F_GETFL) == flags
        termios.tcflow(slave, termios.TCOON)
        with as_stdout(slave):
            assert sh("echo shown", capture=True, tee=True, timeout=10).stdout == b"shown\n"
        assert b"shown\r\n" in os.read(master, 10_000)
    finally:
        os.close(master)
        os.close(slave)
    assert caught.value.result is not None
    assert caught.value.result.stdout == SEQ


def test_copy_to_a_socket() -> None:
    """Which cannot be opened anew; a full one holds no deadline either."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with as_stdout(ours.fileno()):
            assert sh("echo a", capture=True, tee=True).stdout == b"a\n"
            assert theirs.recv(10) == b"a\n"
            with pytest.raises(TimeoutExpired) as caught:
                sh("yes | head -c 2M; exec sleep 60", capture=True, tee=True, timeout=0.3)
    assert caught.value.result is not None
    assert len(caught.value.result.stdout or b"") > 1 << 20


def test_copy_whose_reader_has_gone_is_an_error() -> None:
    """As for every program that writes to a closed pipe; what was captured is in the error."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with as_stdout(writer), pytest.raises(BrokenPipeError) as caught:
            sh("echo a; exec sleep 60", capture=True, tee=True)
    finally:
        os.close(writer)
    assert caught.value.result.stdout == b"a\n"  # type: ignore[attr-defined]


def test_copy_to_a_closed_stream_is_refused() -> None:
    """Before the child exists."""
    saved = os.dup(1)
    os.close(1)
    try:
        with pytest.raises(SpawnError, match="stdout of this process"):
            sh("exit 0", capture=True, tee=True)
    finally:
        os.dup2(saved, 1)
        os.close(saved)


# -- copies to files


def test_spill_to_a_file_goes_on_at_its_place(tmp_path: Path) -> None:
    """What was written to the file object before stands before; it is the caller's, and stays open."""
    limit_of = lambda file: CaptureLimit(3, 2, spill=file)  # noqa: E731
    with open(tmp_path / "all", "w+b") as file:
        file.write(b"before\n")
        result = sh("seq 100000", stdout=PIPE, stdout_limit=limit_of(file))
        assert not file.closed
        file.write(b"after\n")
        file.seek(0)
        assert file.read() == b"before\n" + SEQ + b"after\n"
    assert (result.stdout, result.stdout_dropped) == (SEQ[:3] + SEQ[-2:], len(SEQ) - 5)
    with pytest.raises(ValueError, match=r"^stdout_limit: spill: .*closed"):
        sh("exit 0", stdout=PIPE, stdout_limit=limit_of(file))


def test_spill_to_an_object_with_write() -> None:
    """A file without a descriptor; one for both outputs."""
    file = io.BytesIO()
    limit = CaptureLimit(0, spill=file)
    result = sh("echo a; sleep 0.05; echo b >&2", capture=True, stdout_limit=limit, stderr_limit=limit)
    assert file.getvalue() == b"a\nb\n"
    assert (result.stdout, result.stderr) == (b"", b"")


def test_spill_to_memory() -> None:
    """All of it as a view in the Result; pickled as bytes; also where the streams are exchanged, and in errors."""
    limit = CaptureLimit(2, spill=MEMFD)
    result = sh("seq 100000", stdout=PIPE, stdout_limit=limit)
    assert result.stdout == SEQ[:2]
    assert isinstance(result.stdout_spill, memoryview)
    assert result.stdout_spill.readonly
    assert result.stdout_spill == SEQ
    assert result.stderr_spill is None
    copy = pickle.loads(pickle.dumps(result))
    assert (copy.stdout_spill, copy.stderr_spill) == (SEQ, None)
    swapped = sh("echo out; echo error >&2", capture=True, swap_outputs=True, stdout_limit=limit)
    assert (swapped.stdout, bytes(swapped.stdout_spill or b""), swapped.stderr) == (b"er", b"error\n", b"out\n")
    with pytest.raises(TimeoutExpired) as caught:
        sh("echo abc; exec sleep 60", stdout=PIPE, stdout_limit=limit, timeout=0.2)
    assert caught.value.result is not None
    assert caught.value.result.stdout_spill == b"abc\n"
    assert run("true", capture=True).stdout_spill is None


def test_spill_to_a_pipe_that_nobody_reads_stops_no_deadline() -> None:
    """As a copy to our own streams."""
    with full_pipe() as (_, writer, _), os.fdopen(os.dup(writer), "wb") as file:
        begin = monotonic()
        with pytest.raises(TimeoutExpired):
            sh("echo a; exec sleep 60", stdout=PIPE, stdout_limit=CaptureLimit(1, spill=file), timeout=0.2)
        assert monotonic() - begin < 0.5


def test_spill_that_fails_is_an_error_with_the_output(tmp_path: Path) -> None:
    """No space: told, and what was read is in the error."""
    with pytest.raises(OSError, match="No space") as caught:
        sh("echo abc; exec sleep 60", stdout=PIPE, stdout_limit=CaptureLimit(10, spill="/dev/full"))
    assert caught.value.result.stdout == b"abc\n"  # type: ignore[attr-defined]


def test_every_policy_spills(tmp_path: Path) -> None:
    """What was read until the child was stopped is in the file."""
    for over in ("discard", "stop", "raise"):
        spill = tmp_path / over
        limit = CaptureLimit(4, 2, over=over, spill=spill)
        try:
            result = sh("seq 20; exec sleep 0.3", stdout=PIPE, stdout_limit=limit, check=False)
        except Exception as error:
            result = error.result  # type: ignore[attr-defined]
        data = spill.read_bytes()
        assert data.startswith(b"1\n2\n")
        assert result.stdout == data[:4] + data[-2:]


def test_wrong_spills_are_named(tmp_path: Path) -> None:
    """When they are given."""
    with open(tmp_path / "t", "w") as file, pytest.raises(TypeError, match=r"^spill: must be a binary file"):
        CaptureLimit(1, spill=file)
    with pytest.raises(TypeError, match=r"^spill: must be a path, a binary file"):
        CaptureLimit(1, spill=5)
    limit = CaptureLimit(1, spill=tmp_path / "same")
    with pytest.raises(ValueError, match=r"^stderr_limit: its spill file"):
        cmd("x", capture=True, stdout_limit=limit, stderr_limit=limit)


def test_records_that_end_by_nul() -> None:
    """In the Result as in the readings."""
    result = sh(r"printf 'a\nb\0c\0'; printf 'x\r\ny\rz' >&2", capture=True)
    assert result.lines(newline="\0") == ["a\nb", "c"]
    assert sh(r"printf 'x\r\ny\rz\n'", capture=True).lines(newline="universal") == ["x", "y", "z"]
    with pytest.raises(ValueError, match=r"^newline: "):
        result.lines(newline="")


# -- pipelines


def test_pipeline_has_the_same_copies() -> None:
    """Copies that nobody takes, or takes late; files in memory; lines as asked."""
    cat = cmd("cat")
    with full_pipe() as (_, writer, _), as_stdout(writer):
        begin = monotonic()
        with pytest.raises(TimeoutExpired) as caught:
            (cmd("sh", "-c", "seq 100000; exec sleep 60") | cat).run(capture=True, tee=True, timeout=0.4)
        assert monotonic() - begin < 0.7
        with pytest.raises(TimeoutExpired):
            (cmd("echo", "a") | cat).run(capture=True, tee=True, timeout=0.2)
    assert caught.value.result is not None
    assert caught.value.result.stdout == SEQ
    with full_pipe() as (reader, writer, before), as_stdout(writer):
        pid = os.fork()
        if pid == 0:
            try:
                while before > 0:
                    before -= len(os.read(reader, 4096))
                os.read(reader, 4096)
            finally:
                os._exit(0)
        assert (cmd("echo", "late") | cat).run(capture=True, tee=True, timeout=10).stdout == b"late\n"
        os.waitpid(pid, 0)
    found: list[str] = []
    call = OnLine(lambda _, line: found.append(line), text=True)
    limit = CaptureLimit(1, spill=MEMFD)
    result = (cmd("printf", "a\\nb") | cat).run(capture=True, stdout_limit=limit, on_line=call)
    assert (result.stdout, result.stdout_spill, found) == (b"a", b"a\nb", ["a", "b"])


# -- what goes wrong on the way


def test_two_runs_copy_to_one_socket() -> None:
    """On one reactor, which has one registration for a descriptor; also where that does not block already."""
    ours, theirs = socket.socketpair()
    with ours, theirs, as_stdout(ours.fileno()):
        assert copied_by_many(theirs.fileno()) == 6_000_000
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        with as_stdout(writer):
            assert copied_by_many(reader) == 6_000_000
    finally:
        os.close(reader)
        os.close(writer)


def copied_by_many(fd: int) -> int:
    """How much arrives of what three runs in an event loop, and three of map(), copy."""
    size = 0
    over = threading.Event()

    def read() -> None:
        nonlocal size
        while not over.is_set() or select.select([fd], [], [], 0)[0]:
            if select.select([fd], [], [], 0.05)[0]:
                size += len(os.read(fd, 1 << 16))

    async def all_runs() -> None:
        options: dict[str, Any] = {"capture": True, "tee": True, "timeout": 20}
        await asyncio.gather(*[aio.run("head", "-c", "1000000", "/dev/zero", **options) for _ in range(3)])

    thread = threading.Thread(target=read)
    thread.start()
    try:
        asyncio.run(all_runs())
        make = lambda size: cmd("head", "-c", size, "/dev/zero")  # noqa: E731
        for _ in fastproc.map(make, ["1000000"] * 3, workers=3, capture=True, tee=True, timeout=20):
            pass
    finally:
        over.set()
        thread.join()
    return size


@pytest.mark.parametrize("module", [gzip, bz2, lzma])
def test_spill_through_a_compressor(module: Any, tmp_path: Path) -> None:
    """Which has a descriptor, that of the compressed file."""
    with module.open(tmp_path / "packed", "wb") as file:
        sh("seq 100000", stdout=PIPE, stdout_limit=CaptureLimit(spill=file))
    with module.open(tmp_path / "packed") as file:
        assert file.read() == SEQ


@pytest.mark.parametrize("taken", [3, None])
def test_spill_that_takes_a_piece_at_a_time(taken: int | None) -> None:
    """As io.RawIOBase.write() may; a method that gives no number has taken all."""
    found = []

    class Short:
        def write(self, data: bytes) -> int | None:
            found.append(data[:taken])
            return taken and len(found[-1])

    sh("echo abcdefgh", stdout=PIPE, stdout_limit=CaptureLimit(spill=Short()))
    assert b"".join(found) == b"abcdefgh\n"


def test_spill_that_does_not_block_and_is_full() -> None:
    """It cannot be waited for."""

    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, _data: Any) -> None:
            return None

    with pytest.raises(BlockingIOError):
        sh("echo a", stdout=PIPE, stdout_limit=CaptureLimit(spill=Full()))


def test_spill_to_a_temporary_file() -> None:
    """A wrapper that has the descriptor of a file; one that moves to a file when it is large."""
    for make in (tempfile.NamedTemporaryFile, tempfile.SpooledTemporaryFile):
        with make() as file:
            file.write(b"before\n")
            sh("seq 100000", stdout=PIPE, stdout_limit=CaptureLimit(spill=file))
            file.seek(0)
            assert file.read() == b"before\n" + SEQ


def test_spill_that_is_only_read_is_named(tmp_path: Path) -> None:
    """Before the child exists."""
    (tmp_path / "all").touch()
    with open(tmp_path / "all", "rb") as file, pytest.raises(ValueError, match=r"^stderr_limit: spill: .*for writing"):
        sh(f"touch {tmp_path}/ran", capture=True, stderr_limit=CaptureLimit(spill=file))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("program", ["run", "aio"])
def test_spill_that_raises_ends_the_run(program: str) -> None:
    """Once, whatever it raises; the next run in this thread knows nothing of it."""

    class Bad:
        def write(self, _data: bytes) -> int:
            raise LookupError("no")

    options: dict[str, Any] = {"stdout": PIPE, "stdout_limit": CaptureLimit(1, spill=Bad()), "timeout": 20}
    with pytest.raises(LookupError) as caught:
        run("yes", **options) if program == "run" else asyncio.run(aio.run("yes", **options))
    assert caught.value.result.stdout == b"y"  # type: ignore[attr-defined]
    assert sh("echo a", capture=True, on_line=lambda _stream, _line: None).stdout == b"a\n"


def test_spill_to_the_master_side_of_a_terminal() -> None:
    """To open it anew would make another terminal."""
    master, slave = pty.openpty()
    try:
        with open(master, "wb", 0, closefd=False) as file:
            sh("echo hello", stdout=PIPE, stdout_limit=CaptureLimit(spill=file))
        os.set_blocking(slave, False)
        assert os.read(slave, 100) == b"hello\n"
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("over", ["stop", "raise"])
def test_copy_that_nobody_takes_ends_with_the_limit(over: str) -> None:
    """Without a deadline: the run is over when the child was stopped, and ends by what it was stopped for."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    with full_pipe() as (_, writer, _), as_stdout(writer):
        signal.alarm(20)
        try:
            limit = CaptureLimit(10, over=over)
            if over == "raise":
                with pytest.raises(OutputTooLarge):
                    run("yes", stdout=PIPE, tee=True, stdout_limit=limit)
            else:
                result = run("yes", stdout=PIPE, tee=True, stdout_limit=limit, check=False)
                assert (result.killed, result.timed_out) == ("terminated", False)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)


def test_copy_that_nobody_takes_holds_no_cancellation() -> None:
    """The child is stopped, and what is not taken is left."""

    async def cancelled() -> float:
        task = asyncio.create_task(aio.run("yes", stdout=PIPE, tee=True, stdout_limit=CaptureLimit(10)))
        await asyncio.sleep(0.2)
        task.cancel()
        begin = monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        return monotonic() - begin

    with full_pipe() as (_, writer, _), as_stdout(writer):
        assert asyncio.run(cancelled()) < 3


def test_second_interrupt_leaves_nothing_to_the_next_run() -> None:
    """It comes while the child of the first run has its moment to end."""
    left = 2

    def interrupt(*_args: object) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(3):
            left = 2
            signal.setitimer(signal.ITIMER_REAL, 0.2, 0.02)
            script = 'trap "" INT; echo begun; while :; do sleep 0.005; echo x; done'
            with pytest.raises(KeyboardInterrupt) as caught:
                sh(script, capture=True, on_line=lambda _stream, _line: None)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert caught.value.result.killed  # type: ignore[attr-defined]
            assert sh("sleep 0.1; echo a", capture=True, on_line=lambda _stream, _line: None).stdout == b"a\n"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_end_inside_a_character_hides_no_end_of_the_child() -> None:
    """Neither a deadline nor a status; it is told where there is nothing else."""
    call = OnLine(lambda _stream, _line: None, text=True)
    script = r"printf 'abc\303'; "
    with pytest.raises(TimeoutExpired):
        sh(script + "exec sleep 60", capture=True, timeout=0.2, on_line=call)
    with pytest.raises(ExitError):
        sh(script + "exit 3", capture=True, check=True, on_line=call)
    with pytest.raises(UnicodeDecodeError) as caught:
        sh(script, capture=True, on_line=call)
    assert caught.value.result.stdout == b"abc\xc3"  # type: ignore[attr-defined]
    with pytest.raises(UnicodeDecodeError):
        (cmd("printf", r"abc\303") | cmd("cat")).run(capture=True, on_line=call)


@pytest.mark.parametrize("end", ["\\n", ""])
def test_undecodable_line_ends_the_telling_after_the_lines_before_it(end: str) -> None:
    """At the end of the output, too, where it must not hide how the child has ended."""
    found: list[str] = []
    call = OnLine(lambda _, line: found.append(line), text=True)
    with pytest.raises(UnicodeDecodeError) as caught:
        sh(rf"printf 'a\nb\n\377x{end}'", capture=True, on_line=call)
    assert (found, caught.value.object) == (["a", "b"], b"\xffx")
