"""A child on a pseudo-terminal: whose it is, what passes, keys, window; a conversation over it and over pipes."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated, wait_until
from fastproc import PIPE, EndOfOutput, Process, Pty, SpawnError, TimeoutExpired, Unsupported, aio
from fastproc._engine.streams import terminal as module
from support.programs import CAT, SLEEP, Probed, Programs

QUIET = Pty(echo=False)


def sh(script: str, **options: Any) -> Process:
    options.setdefault("pty", True)
    return fastproc.start("/bin/sh", "-c", script, **options)


# -- whose it is


def test_child_gets_session_terminal_and_size(mechanism: str, programs: Programs) -> None:
    """All three streams, its own session, it as the controlling terminal; no other descriptor."""
    script = "stty size; echo x >/dev/tty; exec ps -o pid=,sid=,tpgid=,tty= -p $$"
    try:
        result = fastproc.run("/bin/sh", "-c", script, pty=(30, 100))
    except SpawnError as error:
        assert (mechanism, error.stage) == ("posix_spawn", "mechanism")
        return
    assert result.stderr is None
    size, x, line = (result.stdout or b"").decode().split("\r\n")[:3]
    assert (size, x) == ("30 100", "x")
    pid, session, foreground, tty = line.split()
    assert pid == session == foreground
    assert tty.startswith("pts/")
    probed = Probed(fastproc.run(programs.probe, pty=True).stdout or b"")
    assert set(probed.fd_ids) == {0, 1, 2}
    assert len(set(probed.fd_ids.values())) == 1


def test_terminal_does_not_become_ours() -> None:
    """GOTCHAS H6: a session leader without a terminal gets none by opening one for a child."""
    assert isolated(_opened_by_a_session_leader) == ["no terminal", True]


def _opened_by_a_session_leader() -> list[Any]:
    os.setsid()
    with fastproc.start("cat", pty=True) as process:
        try:
            os.close(os.open("/dev/tty", os.O_RDWR))
            ours = "has one"
        except OSError:
            ours = "no terminal"
        process.send_key("eof")
        return [ours, process.wait(10) == 0]


def test_streams_can_go_elsewhere() -> None:
    """Stderr to a pipe, stdin from one or from a file, while the terminal is the controlling one."""
    result = fastproc.run("/bin/sh", "-c", "cat; echo e >&2; test -t 1 && echo t", pty=True, stdin=PIPE, stderr=PIPE)
    assert (result.stdout, result.stderr) == (b"t\r\n", b"e\n")
    assert fastproc.run(*CAT, pty=True, stdin="/dev/null").stdout == b""
    with fastproc.start(*CAT, pty=True, stdin=PIPE) as process:
        process.write(b"x" * 100_000)
        process.close_stdin()
        assert process.read(timeout=10) == b"x" * 100_000


@pytest.mark.parametrize(("device", "kind"), [("/dev/null", Unsupported), ("/nonexistent", SpawnError)])
def test_path_of_the_master_is_not_trusted(monkeypatch: pytest.MonkeyPatch, device: str, kind: type[Exception]) -> None:
    """Another file in that place is no terminal; nothing is left open."""
    monkeypatch.setattr(module, "PTMX", device)
    with pytest.raises(kind, match=device):
        fastproc.run("true", pty=True)


def test_kernel_without_the_way_to_the_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason, and nothing left."""
    monkeypatch.setattr(module, "TIOCGPTPEER", 0x54FF)
    with pytest.raises(Unsupported, match="TIOCGPTPEER"):
        fastproc.start("true", pty=True)


def test_failed_spawn_leaves_no_terminal() -> None:
    """The leak check sees to it."""
    with pytest.raises(FileNotFoundError):
        fastproc.start("/nonexistent/program", pty=True)
    with pytest.raises(FileNotFoundError):
        fastproc.run("true", pty=True, stderr="/nonexistent/file")


# -- what passes


def test_end_is_an_end_and_nothing_is_lost() -> None:
    """GOTCHAS E16: EIO is the end of the output, after the last byte, for fast and for slow readers."""
    wanted = b"".join(b"%d\r\n" % number for number in range(1, 100_001))
    assert fastproc.run("seq", "100000", pty=True).stdout == wanted
    with fastproc.start("seq", "100000", pty=True) as process:
        assert b"".join(line + b"\n" for line in process.lines()) == wanted
    with sh("head -c 4000 /dev/zero | tr '\\0' x; echo end") as process:
        wait_until(lambda: process.poll() is not None)
        assert process.read() == b"x" * 4000 + b"end\r\n"
        assert process.read() == b""


def test_grandchild_that_keeps_the_terminal_loses_nothing_of_ours() -> None:
    """The end of the session's leader hangs the terminal up; what had been written is there."""
    result = fastproc.run("/bin/sh", "-c", "sleep 3 & head -c 30000 /dev/zero | tr '\\0' x; echo end", pty=True)
    assert result.stdout == b"x" * 30_000 + b"end\r\n"


def test_raw_terminal_passes_every_byte() -> None:
    """Both ways, and more than it holds."""
    data = bytes(range(256)) * 1000
    with fastproc.start(*CAT, pty=Pty(raw=True)) as process:
        process.write(data, timeout=20)
        assert process.read(len(data), timeout=20) == data
        assert not process.terminal.canonical  # type: ignore[union-attr]


def test_input_of_a_run_is_typed_and_ended() -> None:
    """Echoed, with an end of input after it, also within a line, and without any input."""
    assert fastproc.run(*CAT, pty=QUIET, input=b"a\nb").stdout == b"a\r\nb"
    assert fastproc.run(*CAT, pty=QUIET, input=iter([b"a\n", bytearray(b"b\n")])).stdout == b"a\r\nb\r\n"
    assert fastproc.run(*CAT, pty=True, input=b"a\n", timeout=20).stdout == b"a\r\na\r\n"
    assert fastproc.run(*CAT, pty=True, timeout=20).stdout == b""
    many = b"0123456789\n" * 20_000
    assert fastproc.run(*CAT, pty=QUIET, input=many, timeout=20).stdout == many.replace(b"\n", b"\r\n")


def test_wrong_items_of_the_input_end_the_run() -> None:
    """As with a pipe, and lines that the terminal would cut."""
    with pytest.raises(TypeError, match="item 1"):
        fastproc.run(*CAT, pty=True, input=iter([b"a", "b"]))  # type: ignore[list-item]
    with pytest.raises(ValueError, match="4095"):
        fastproc.run(*CAT, pty=True, input=iter([b"a" * 4000, b"b" * 4000]))


def test_deadline_has_what_came() -> None:
    """As with a pipe; limits, lines and callbacks too."""
    with pytest.raises(TimeoutExpired) as caught:
        fastproc.run("/bin/sh", "-c", "echo here; sleep 60", pty=True, timeout=0.3)
    assert caught.value.stdout == b"here\r\n"
    lines: list[tuple[str, bytes]] = []
    result = fastproc.run("seq", "3", pty=True, on_line=lambda *line: lines.append(line))
    assert lines == [("stdout", b"1\r"), ("stdout", b"2\r"), ("stdout", b"3\r")]
    assert result.stdout == b"1\r\n2\r\n3\r\n"


def test_child_that_has_gone_is_no_error_of_the_writer() -> None:
    """As with a pipe (GOTCHAS E4): the status tells."""
    with sh("exit 3") as process:
        assert process.wait(10) == 3
        process.write(b"x\n")
        process.close_stdin()
        process.close_stdin()
        # The terminal may still have echoed it.
        assert process.read() in (b"", b"x\r\n")


# -- its window, its settings, its keys


def test_resize_reaches_the_program() -> None:
    """SIGWINCH, and the new size."""
    with sh("trap 'stty size; exit' WINCH; echo ready; sleep 60 & wait", pty=(24, 80)) as process:
        process.expect("ready\r\n", timeout=10)
        terminal = process.terminal
        assert terminal is not None
        assert terminal.size == (24, 80)
        terminal.resize(50, 132)
        process.expect("50 132\r\n", timeout=10)
        assert terminal.size == (50, 132)
        with pytest.raises(ValueError, match="rows"):
            terminal.resize(0, 80)
    with pytest.raises(ValueError, match="closed"):
        terminal.resize(1, 1)


def test_keys_do_what_they_do_for_a_person() -> None:
    """Ctrl-C interrupts the foreground group; Ctrl-D ends the input, within a line too."""
    with fastproc.start(*SLEEP, pty=True) as process:
        process.send_key("intr")
        assert process.wait(10) == -signal.SIGINT
    with fastproc.start(*CAT, pty=QUIET) as process:
        process.write(b"unfinished")
        process.send_key("eof")
        assert process.read(timeout=10) == b"unfinished"
        assert process.wait(10) == 0
    with fastproc.start(*CAT, pty=QUIET) as process:
        process.write(b"line\n")
        process.close_stdin()
        assert process.read(timeout=10) == b"line\r\n"
        with pytest.raises(ValueError, match="closed"):
            process.write(b"x")
    with sh("stty eof undef; echo ready; cat") as process:
        process.expect("ready", timeout=10)
        with pytest.raises(ValueError, match="switched off"):
            process.send_key("eof")
        with pytest.raises(ValueError, match="none of"):
            process.send_key("escape")


def test_key_of_a_program_that_reads_it_itself() -> None:
    """A raw terminal hands it over as a byte."""
    with fastproc.start(*CAT, pty=Pty(raw=True)) as process:
        process.send_key("intr")
        process.send_key("eof")
        assert process.read(2, timeout=10) == b"\x03\x04"
        process.close_stdin()


def test_echo_tells_of_a_question_for_a_password() -> None:
    """As the program sets it, and as we do."""
    with sh("read go; stty -echo; echo pass; read x; echo; stty echo; echo got $x; read y") as process:
        terminal = process.terminal
        assert terminal is not None
        assert terminal.echo
        process.write(b"\n")
        process.expect("pass", timeout=10)
        assert not terminal.echo
        process.write(b"secret\n")
        assert b"got secret" in process.expect(re.compile(rb"got .*\n"), timeout=10).data
        terminal.echo = False
        assert not terminal.echo
        terminal.echo = True
        assert terminal.echo
        terminal.make_raw()
        assert not terminal.echo


def test_line_that_the_terminal_would_cut_is_refused() -> None:
    """Before anything of it is written; raw terminals take any."""
    with fastproc.start(*CAT, pty=QUIET) as process:
        process.write(b"x" * 4000)
        with pytest.raises(ValueError, match="4095"):
            process.write(b"x" * 96 + b"\n")
        process.write(b"x" * 95 + b"\n")
        assert process.readline(timeout=10) == b"x" * 4095 + b"\r\n"


def test_leaving_hangs_up() -> None:
    """GOTCHAS H4: what is left of the session gets SIGHUP when its leader is killed."""
    with sh("sleep 60 & echo $!; wait") as process:
        pid = int(process.readline(timeout=10))
        # Before that it is a copy of the shell.
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        background = os.pidfd_open(pid)
    try:
        assert select.select([background], [], [], 10)[0]
    finally:
        os.close(background)


def test_files_and_missing_terminals_are_refused() -> None:
    """With what to use instead."""
    with fastproc.start(*CAT, pty=True) as process:
        for name in ("stdin", "stdout"):
            with pytest.raises(ValueError, match=f"{name}: is a terminal"):
                getattr(process, name)
        assert process.stderr is None
    with fastproc.start(*CAT, stdin=PIPE) as process:
        assert process.terminal is None
        with pytest.raises(ValueError, match="pty=True"):
            process.send_key("intr")


# -- a conversation


@pytest.fixture(params=["pipes", "pty"])
def talk(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options for a child to talk with."""
    return {"pty": Pty(raw=True)} if request.param == "pty" else {"stdin": PIPE, "stdout": PIPE}


def test_question_and_answer(talk: dict[str, Any]) -> None:
    """Prompts without a newline, alternatives, what was before, lines, the end."""
    script = "printf 'name? '; read n; echo hello $n; echo again; printf '> '; read n; echo bye"
    with sh(script, **{"pty": None, **talk}) as process:
        assert process.expect("name? ", timeout=10) == (0, b"", b"name? ", None)
        process.write(b"you\n")
        assert process.readline(timeout=10) == b"hello you\n"
        found = process.expect([b"nothing", re.compile(rb"> |\$ "), EOFError], timeout=10)
        assert (found.which, found.before, found.data) == (1, b"again\n", b"> ")
        process.write(b"\n")
        with pytest.raises(EndOfOutput) as caught:
            process.expect("never", timeout=10)
        assert caught.value.before == b"bye\n"
        assert process.expect([b"never", EOFError], timeout=10) == (1, b"bye\n", b"", None)
        assert process.readline() == b""
        assert process.wait(10) == 0


def test_time_that_is_over_loses_nothing(talk: dict[str, Any]) -> None:
    """The exception has what came; another call, or another way of reading, goes on with it."""
    with sh("printf abc; read x; echo def; read x; echo ghi", **{"pty": None, **talk}) as process:
        for call in (lambda: process.expect("def", 0.2), lambda: process.readline(0.2), lambda: process.read(9, 0.2)):
            with pytest.raises(TimeoutExpired, match=r"0\.2") as caught:
                call()
            assert caught.value.output == b"abc"
        process.write(b"\n")
        assert process.expect("d", timeout=10).before == b"abc"
        assert process.read(2, timeout=10) == b"ef"
        process.write(b"\n")
        assert list(process.lines()) == [b"", b"ghi"]


def test_timeout_of_zero_looks_once(talk: dict[str, Any]) -> None:
    """What lies in the pipe is found."""
    with sh("echo here; sleep 60", **{"pty": None, **talk}) as process:
        process.expect("h", timeout=10)
        assert process.readline(timeout=0) == b"ere\n"
        with pytest.raises(TimeoutExpired):
            process.expect("x", timeout=0)


def test_conversation_and_iteration_share_the_stream() -> None:
    """Whoever reads takes what was not taken, in order; the other stream is kept meanwhile."""
    with sh("seq 10; echo end; head -c 300000 /dev/zero >&2; seq 20", pty=None, capture=True) as process:
        assert next(process.lines()) == b"1"
        assert process.readline() == b"2\n"
        assert process.expect("end\n").before == b"".join(b"%d\n" % number for number in range(3, 11))
        assert process.read(4, timeout=10) == b"1\n2\n"
        assert list(process.lines())[-1] == b"20"
        assert process.read(stream="stderr") == bytes(300_000)


def test_literal_in_pieces_and_much_before_it() -> None:
    """Found at once when it is whole, however much was searched in vain."""
    script = "head -c 5000000 /dev/zero; printf 'nee'; sleep 0.05; printf dle; echo"
    with sh(script, pty=None, stdout=PIPE) as process:
        found = process.expect(b"needle", timeout=20)
        assert (len(found.before), found.data) == (5_000_000, b"needle")
        assert process.read() == b"\n"


def test_child_that_does_not_read_ends_a_write() -> None:
    """A timeout for write(): the rest is dropped, and the child can be talked to no more or less than before."""
    with sh("echo ready; read x; echo; cat >/dev/null; echo done", pty=None, stdin=PIPE, stdout=PIPE) as process:
        process.expect("ready")
        os.kill(process.pid, 0)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutExpired, match=r"0\.1"):
            process.write(b"x" * 1_000_000, timeout=0.1)
        process.send_signal(signal.SIGCONT)
        process.write(b"\n", timeout=10)
        process.close_stdin()
        assert process.expect("done", timeout=10)


def test_both_talk_at_once_without_deadlock() -> None:
    """GOTCHAS E1: what the child says while it is written to is kept."""
    data = os.urandom(3_000_000)
    with fastproc.start(*CAT, stdin=PIPE, stdout=PIPE) as process:
        process.write(data, timeout=20)
        assert process.read(len(data), timeout=20) == data


def test_interpreter_is_driven() -> None:
    """A real program that edits its line itself."""
    options: dict[str, Any] = {"pty": QUIET, "env_add": {"TERM": "dumb", "PYTHON_BASIC_REPL": "1"}}
    with fastproc.start(sys.executable, "-q", "-i", **options) as process:
        process.expect(">>> ", timeout=20)
        process.write(b"print(6 * 7)\n")
        found = process.expect(re.compile(r"(\d+)\r\n"), timeout=20)
        assert found.match is not None
        assert found.match.group(1) == "42"
        process.expect(">>> ", timeout=20)
        process.send_key("eof")
        assert process.expect([EOFError], timeout=20).which == 0
        assert process.wait(20) == 0


def test_interrupt_while_waiting_loses_nothing() -> None:
    """What a signal handler raises comes out; what was read is there."""

    def alarm(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with sh("printf abc; sleep 60", pty=None, stdout=PIPE) as process:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                process.expect("never")
            assert process.read(3, timeout=10) == b"abc"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_many_terminals_come_and_go() -> None:
    """None is left with the system: their number is limited (pts(4))."""

    def count() -> int:
        with open("/proc/sys/kernel/pty/nr") as file:
            return int(file.read())

    before = count()
    for _ in range(50):
        fastproc.run("true", pty=True)
    end = time.monotonic() + 10
    while count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert count() <= before


def test_input_by_iterator_is_asked_at_the_childs_pace() -> None:
    """As with a pipe: the next item when the one before has gone."""
    asked: list[int] = []

    def items() -> Iterator[bytes]:
        for number in range(1000):
            asked.append(number)
            yield b"x" * 1000 + b"\n"

    result = fastproc.run("/bin/sh", "-c", "read x; echo $x", pty=QUIET, input=items())
    assert result.stdout == b"x" * 1000 + b"\r\n"
    assert len(asked) < 500


def test_conversation_in_an_event_loop() -> None:
    """The same methods, awaited; a cancelled wait loses nothing."""
    import asyncio

    async def talk() -> None:
        async with aio.start("/bin/sh", "-c", "printf 'name? '; read n; echo hello $n; cat", pty=QUIET) as process:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(process.expect("never"), 0.1)
            found = await process.expect(["no", "? "], timeout=10)
            assert (found.which, found.before) == (1, b"name")
            await process.write(b"you\n", timeout=10)
            assert await process.readline(timeout=10) == b"hello you\r\n"
            assert process.terminal is not None
            process.terminal.resize(3, 4)
            await process.send_key("eof")
            with pytest.raises(EndOfOutput):
                await process.expect("never", timeout=10)
            assert await process.wait(10) == 0
        result = await aio.run("stty", "size", pty=(7, 8))
        assert result.stdout == b"7 8\r\n"

    asyncio.run(talk())
