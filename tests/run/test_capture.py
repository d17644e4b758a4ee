"""What run() keeps of an output: limits, files in memory, callbacks, silence, who holds the pipes."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import fastproc
from conftest import isolated
from fastproc import (
    MEMFD,
    PIPE,
    STDOUT,
    CaptureLimit,
    ExitError,
    OutputTooLarge,
    Result,
    TimeoutExpired,
    aio,
    run,
    start,
)

SEQ = b"".join(b"%d\n" % number for number in range(1, 100_001))


def sh(script: str, **options: Any) -> Result:
    return run("/bin/sh", "-c", script, **options)


@pytest.mark.parametrize(("head", "tail"), [(10, 20), (0, 20), (10, 0), (0, 0), (300_000, 300_000)])
def test_head_and_tail_are_kept(head: int, tail: int) -> None:
    """The beginning, the end, and how much is missing between them."""
    result = sh("seq 100000; echo e >&2", capture=True, stdout_limit=CaptureLimit(head, tail))
    assert result.stdout == SEQ[:head] + SEQ[max(head, len(SEQ) - tail) :]
    assert (result.stdout_dropped, result.stderr_dropped) == (max(0, len(SEQ) - head - tail), 0)
    assert result.stderr == b"e\n"
    copy = pickle.loads(pickle.dumps(result))
    assert (copy.stdout, copy.stdout_dropped) == (result.stdout, result.stdout_dropped)


def test_limit_belongs_to_the_name_of_the_stream() -> None:
    """Also where the streams are exchanged."""
    result = sh("echo out; echo error >&2", capture=True, swap_outputs=True, stdout_limit=CaptureLimit(2))
    assert (result.stdout, result.stderr) == (b"er", b"out\n")
    assert result.stdout_dropped == 4


def peak() -> int:
    """The largest resident size in KiB of this program; not ru_maxrss, which keeps that of the one before exec."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def endless() -> int:
    run("true", capture=True, stderr_limit=CaptureLimit(1))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
    before = peak()
    limit = CaptureLimit(1 << 20, 1 << 20)
    with pytest.raises(TimeoutExpired) as caught:
        run("yes", stdout=PIPE, stdout_limit=limit, timeout=1.0)
    result = caught.value.result
    assert result is not None
    assert len(result.stdout or b"") == 2 << 20
    assert result.stdout_dropped > 50 << 20
    return peak() - before


def test_endless_writer_leaves_memory_bounded() -> None:
    """Under 8 MiB for one of head and one of tail (GOTCHAS E6)."""
    grown = isolated(endless)
    print(f"grown by {grown} KiB")
    assert grown < 8 * 1024


def test_over_stops_the_child() -> None:
    """At once, by SIGTERM; the status says so."""
    limit = CaptureLimit(100, over="stop")
    result = run("yes", stdout=PIPE, stdout_limit=limit, check=False, timeout=10)
    assert (result.returncode, result.killed, result.stdout) == (-15, "terminated", b"y\n" * 50)
    with pytest.raises(ExitError):
        run("yes", stdout=PIPE, stdout_limit=limit, timeout=10)
    assert run("echo", "x", stdout=PIPE, stdout_limit=limit).stdout == b"x\n"


def test_over_raises_with_the_result() -> None:
    """After the child has been stopped, whatever check says."""
    with pytest.raises(OutputTooLarge, match=r"^stderr passed its limit") as caught:
        sh("yes >&2", stderr=PIPE, stderr_limit=CaptureLimit(10, over="raise"), check=False, timeout=10)
    assert (caught.value.stream, caught.value.result.stderr) == ("stderr", b"y\n" * 5)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_spill_file_has_all(tmp_path: Path) -> None:
    """What is not kept in memory is in the file."""
    spill = tmp_path / "all"
    result = sh("seq 100000", stdout=PIPE, stdout_limit=CaptureLimit(10, spill=spill))
    assert result.stdout == SEQ[:10]
    assert spill.read_bytes() == SEQ
    with pytest.raises(FileNotFoundError, match="cannot open"):
        sh("exit 0", stdout=PIPE, stdout_limit=CaptureLimit(10, spill=tmp_path / "no" / "file"))


def test_memory_file_is_a_view() -> None:
    """The child writes it itself; nothing is copied; both streams may share it."""
    result = sh("seq 100000", stdout=MEMFD)
    assert isinstance(result.stdout, memoryview)
    assert result.stdout == SEQ
    assert result.stdout.readonly
    assert result.lines()[-1] == "100000"
    assert pickle.loads(pickle.dumps(result)).stdout == SEQ
    assert sh("echo a; echo b >&2", stdout=MEMFD, stderr=STDOUT).text() == "a\nb\n"
    empty = sh("exit 0", stdout=MEMFD, stderr=MEMFD)
    assert (bytes(empty.stdout or b"?"), empty.stderr) == (b"?", b"")
    assert sh("echo e >&2; cat", input=b"x", stdout=MEMFD, stderr=PIPE).stderr == b"e\n"


def test_memory_file_cannot_shrink_under_the_view() -> None:
    """A grandchild that truncates it is refused, so that reading it is never a SIGBUS."""
    result = sh("printf %5000s x; (sleep 0.2; : >/dev/stdout) 2>/dev/null &", stdout=MEMFD)
    end = monotonic() + 0.5
    while monotonic() < end:
        assert bytes(result.stdout or b"")[4999:5000] == b"x"


def test_failed_run_shows_the_end_of_a_memory_file() -> None:
    """The error's message is made from a view as from bytes."""
    with pytest.raises(ExitError, match="problem"):
        sh("echo problem >&2; exit 3", stderr=MEMFD)


def test_memory_file_is_for_outputs() -> None:
    """Not for stdin."""
    with pytest.raises(ValueError, match=r"^stdin: MEMFD"):
        run("cat", stdin=MEMFD)


def test_memory_file_of_a_started_child() -> None:
    """result() has it, each time; a pipe beside it is read as ever, and what nobody asked for is closed."""
    script = "seq 100000; echo e >&2; read x; echo $x"
    with start("sh", "-c", script, stdin=PIPE, stdout=MEMFD, stderr=PIPE) as process:
        assert process.stdout is None
        with pytest.raises(ValueError, match="stdout"):
            process.lines()
        assert next(process.lines("stderr")) == b"e"
        result = process.result(input=[b"y\n"])
        assert result.stdout == SEQ + b"y\n"
        assert isinstance(result.stdout, memoryview)
        assert process.result().stdout == result.stdout
        assert result.stderr == b""
    assert result.stdout is not None
    assert result.stdout[:2] == b"1\n"
    with start("echo", "x", stdout=MEMFD, stderr=STDOUT) as process:
        assert process.wait() == 0
    with pytest.raises(fastproc.SpawnError):
        start("/no/such/program", stdout=MEMFD)
    with pytest.raises(fastproc.SpawnError):
        start("true", stdout=MEMFD, stderr="/no/such/folder/file")


def test_memory_file_of_a_child_in_an_event_loop() -> None:
    """As in blocking code."""

    async def main() -> fastproc.Result:
        async with aio.start("seq", "100000", stdout=MEMFD) as process:
            return await process.result()

    assert asyncio.run(main()).stdout == SEQ


def test_lines_are_told_as_they_come() -> None:
    """Each line of each stream, also the last without its end; the output is captured all the same."""
    found: list[tuple[str, bytes]] = []
    result = sh("echo a; echo b >&2; sleep 0.05; printf c", capture=True, on_line=lambda *item: found.append(item))
    assert sorted(found) == [("stderr", b"b"), ("stdout", b"a"), ("stdout", b"c")]
    assert (result.stdout, result.stderr) == (b"a\nc", b"b\n")

    def failing(_stream: str, line: bytes) -> None:
        raise LookupError(line)

    with pytest.raises(LookupError) as caught:
        sh("echo a; sleep 60", capture=True, on_line=failing)
    assert caught.value.result.stdout == b"a\n"  # type: ignore[attr-defined]


def test_tee_shows_and_captures(capfd: pytest.CaptureFixture[str]) -> None:
    """Both streams go on to our own, too."""
    result = sh("echo a; echo b >&2", capture=True, tee=True)
    assert (result.stdout, result.stderr) == (b"a\n", b"b\n")
    assert capfd.readouterr() == ("a\n", "b\n")


def test_silence_ends_the_run() -> None:
    """Each piece of output begins the time anew; what came is in the error."""
    result = sh("for i in 1 2 3 4; do echo $i; sleep 0.1; done", capture=True, idle_timeout=0.4)
    assert result.stdout == b"1\n2\n3\n4\n"
    begin = monotonic()
    with pytest.raises(TimeoutExpired, match=r"timed out after 0\.2 seconds") as caught:
        sh("echo a; exec sleep 60", capture=True, idle_timeout=0.2)
    assert 0.2 <= monotonic() - begin < 0.8
    found = caught.value.result
    assert found is not None
    assert (found.stdout, found.killed, found.timed_out) == (b"a\n", "terminated", True)


def test_holders_of_the_pipe_are_named(engine: str) -> None:
    """The pids of those who keep the pipe open after the child's end (GOTCHAS E2)."""
    result = sh("sleep 1 & echo $!", capture=True, drain_timeout=0.1)
    assert result.pipes_still_open
    assert result.pipe_holders == (int(result.stdout or b"0"),)
    assert pickle.loads(pickle.dumps(result)).pipe_holders == result.pipe_holders
    assert sh("exit 0", capture=True).pipe_holders == ()


def test_holders_are_in_the_exception(engine: str) -> None:
    """A deadline that finds only others: all output, who was ended, and who holds the pipe."""
    with pytest.raises(TimeoutExpired) as caught:
        sh("sleep 2 & echo $!; exec sleep 60", capture=True, timeout=0.2)
    result = caught.value.result
    assert result is not None
    assert (result.killed, result.pipes_still_open) == ("terminated", True)
    assert result.pipe_holders == (int(result.stdout or b"0"),)


@pytest.mark.parametrize(
    "option", [{"stdout_limit": CaptureLimit(1)}, {"on_line": print}, {"tee": True}, {"idle_timeout": 1}]
)
def test_options_about_captured_output_need_one(option: dict[str, Any]) -> None:
    """Said by name, before any child exists."""
    with pytest.raises(ValueError, match=rf"^{next(iter(option))}: needs a captured output"):
        run("true", **option)
    with pytest.raises(ValueError, match="needs a captured output"):
        run("true", stdout=PIPE, stderr_limit=CaptureLimit(1))


def test_wrong_kinds_are_named() -> None:
    """As every option."""
    for name in ("stdout_limit", "on_line"):
        with pytest.raises(TypeError, match=f"^{name}: must be"):
            run("true", capture=True, **{name: 5})  # type: ignore[arg-type]
