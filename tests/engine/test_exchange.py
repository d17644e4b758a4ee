"""One child, its streams and its deadlines on a reactor."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import fastproc
from conftest import isolated, wait_until
from fastproc import PIPE, Result, _native
from fastproc._engine import exchange as module
from fastproc._engine import running
from fastproc._engine.exchange import Exchange
from fastproc._engine.fds import STDERR, STDOUT, Opened
from fastproc._engine.process import Process
from fastproc._engine.reactor import Reactor
from fastproc._engine.resolve import resolve
from fastproc._engine.running import make_result, run_exchange
from fastproc._engine.streams.feeder import Feeder
from fastproc._values import lifecycle
from fastproc._values.command import cmd
from fastproc._values.plan import settle
from support import observe
from support.programs import CAT, EXIT, GRANDCHILD_HOLDS_STDOUT, IGNORE_TERM, KILLED, SLEEP, Programs


def run(*argv: str, **options: Any) -> Result:
    """Take the exchange, whatever the front door would choose."""
    command = cmd(*argv, **options)
    return run_exchange(command, settle(command))


BOTH_BUSY = (
    "/bin/sh",
    "-c",
    "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; cat >/dev/null; head -c 1000000 /dev/zero >&2",
)


# -- streams


def test_both_streams_and_stdin_full_do_not_deadlock() -> None:
    """More than a pipe holds on all three, in an order that a naive parent hangs on (GOTCHAS E1)."""
    result = run(*BOTH_BUSY, capture=True, input=b"x" * 5_000_000, timeout=30)
    assert (len(result.stdout or b""), len(result.stderr or b"")) == (3_000_000, 4_000_000)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3_000_000])
def test_bytes_come_back_as_they_went(size: int) -> None:
    """Byte for byte, from bytes and from any cut of them (GOTCHAS E7)."""
    data = os.urandom(size)
    assert run(*CAT, stdout=PIPE, input=data).stdout == data
    pieces = [data[:1], b"", bytearray(data[1:1000]), memoryview(data)[1000:]]
    assert run(*CAT, stdout=PIPE, input=iter(pieces)).stdout == data


def test_iterator_is_asked_only_when_the_child_reads() -> None:
    """Back-pressure: an endless input is not read ahead of the child (GOTCHAS E6)."""
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield b"x" * 65_536

    result = run("/bin/sh", "-c", "head -c 100000 | wc -c", stdout=PIPE, input=endless())
    assert (result.stdout or b"").strip() == b"100000"
    assert len(taken) < 40


def test_reader_that_goes_early_is_no_error() -> None:
    """EPIPE while feeding: the status tells (GOTCHAS E4)."""
    assert run(*EXIT(3), input=b"x" * 10_000_000, check=False).returncode == 3
    assert run("/bin/sh", "-c", "exec <&-; echo on", input=iter([b"x" * 1000] * 1000), stdout=PIPE).stdout == b"on\n"


def default_sigpipe() -> list[int]:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    first = run(*EXIT(3), input=b"x" * 1_000_000, check=False).returncode
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
    second = run(*EXIT(4), input=b"x" * 1_000_000, check=False).returncode
    pending = signal.SIGPIPE in signal.sigpending()
    return [first, second, pending]


def test_host_with_the_default_sigpipe_survives() -> None:
    """Where SIGPIPE ends processes, a child that does not read must not end us (GOTCHAS E4)."""
    # With the signal blocked by the host it stays pending, as its own write(2) would leave it.
    assert isolated(default_sigpipe) == [3, 4, True]


def test_closed_outputs_do_not_end_the_run() -> None:
    """The child may read on, and exit, when its outputs are closed."""
    script = "exec >&- 2>&-; cat >/dev/null; exit 9"
    result = run("/bin/sh", "-c", script, capture=True, input=b"x" * 1_000_000, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (9, b"", b"")


def test_uncaptured_run_has_no_outputs() -> None:
    """None, not empty, for a stream that was not captured."""
    result = run(*EXIT(0))
    assert (result.stdout, result.stderr) == (None, None)
    result = run("/bin/sh", "-c", "echo e >&2", stderr=PIPE)
    assert (result.stdout, result.stderr) == (None, b"e\n")


def test_refused_pipe_size_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user over his share of pipe memory gets EPERM, and the output all the same (GOTCHAS E11)."""
    import fcntl

    def refuse(*_args: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    assert len(run("head", "-c", "300000", "/dev/zero", stdout=PIPE).stdout or b"") == 300_000


# -- input that fails


def test_exception_of_the_iterator_comes_out() -> None:
    """The child is killed and reaped before the caller sees it."""
    before = observe.children()

    def failing() -> Iterator[bytes]:
        yield b"x"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as caught:
        run(*CAT, capture=True, input=failing())
    assert observe.children() == before
    result = caught.value.result  # type: ignore[attr-defined]
    assert (result.returncode, result.killed) == (-9, "killed")


def test_failed_input_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    """The child is killed before its stdin ends: it must not act on a part as if it were all."""
    target = tmp_path / "target"

    def failing() -> Iterator[bytes]:
        yield b"x"
        raise LookupError

    for _ in range(5):
        with pytest.raises(LookupError):
            run("/bin/sh", "-c", f"cat >/dev/null; echo done >{target}", input=failing())
        assert not target.exists()


@pytest.mark.parametrize("item", ["text", 5, None])
def test_item_that_is_no_bytes_is_refused(item: object) -> None:
    """By its number; the child is killed and reaped."""
    with pytest.raises(TypeError, match="input: item 1 must be bytes-like, not"):
        run(*CAT, capture=True, input=iter([b"fine", item]))


def test_input_that_runs_commands_itself() -> None:
    """A driver inside a driver has a reactor of its own."""

    def nested() -> Iterator[bytes]:
        for number in range(3):
            yield run("echo", str(number), stdout=PIPE, input=iter([b"x"])).stdout or b""

    assert run(*CAT, stdout=PIPE, input=nested()).stdout == b"0\n1\n2\n"


def test_feeder_gives_way() -> None:
    """One go writes a bounded amount, so that a fast reader cannot hold the loop."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    sink = os.open("/dev/null", os.O_WRONLY)
    feeder = Feeder(b"x" * 60_000 for _ in range(100))
    assert not feeder.write(write_end)
    feeder = Feeder(b"x" * 60_000 for _ in range(100))
    rounds = 1
    while not feeder.write(sink):
        rounds += 1
    assert 5 <= rounds <= 7
    assert Feeder(None).write(write_end)
    for fd in (read_end, write_end, sink):
        os.close(fd)


# -- deadlines


def test_deadline_ends_the_child_and_keeps_its_output() -> None:
    """SIGTERM is enough for most."""
    begun = monotonic()
    with pytest.raises(fastproc.TimeoutExpired) as caught:
        run("/bin/sh", "-c", "echo before; exec sleep 60", capture=True, timeout=0.2)
    result = caught.value.result
    assert isinstance(result, Result)
    assert 0.2 <= monotonic() - begun < 0.5
    assert (result.stdout, result.returncode, result.killed, result.timed_out) == (b"before\n", -15, "terminated", True)
    assert 0.2 <= result.duration < 0.5


def test_deadline_kills_a_child_that_ignores_sigterm() -> None:
    """After the grace; at once without grace; also when it is stopped."""
    for argv, grace, killed in ((IGNORE_TERM, 0.1, "killed"), (IGNORE_TERM, 0, "killed")):
        begun = monotonic()
        with pytest.raises(fastproc.TimeoutExpired) as caught:
            run(*argv, stdout=PIPE, timeout=0.1, grace=grace)
        result = caught.value.result
        assert result is not None
        assert (result.returncode, result.killed) == (-9, killed)
        assert 0.1 + grace <= monotonic() - begun < 0.5 + grace


def test_deadline_of_zero_ends_at_once() -> None:
    """And one in the past, which a long wait for a FIFO leaves."""
    with pytest.raises(fastproc.TimeoutExpired):
        run(*SLEEP, timeout=0, grace=0)


def test_grandchild_that_holds_a_pipe_does_not_hold_us() -> None:
    """What was read is returned, and that a pipe is still open (GOTCHAS E2)."""
    begun = monotonic()
    result = run(*GRANDCHILD_HOLDS_STDOUT, capture=True, drain_timeout=0.1)
    assert monotonic() - begun < 0.5
    assert (result.stdout, result.returncode, result.pipes_still_open) == (b"hi\n", 0, True)


def test_deadline_ends_the_wait_for_a_grandchild() -> None:
    """The child itself has ended in time."""
    begun = monotonic()
    result = run(*GRANDCHILD_HOLDS_STDOUT, capture=True, drain_timeout=None, timeout=0.2)
    assert 0.15 <= monotonic() - begun < 0.5
    assert (result.stdout, result.timed_out, result.pipes_still_open) == (b"hi\n", False, True)


@pytest.mark.parametrize("drain_timeout", [None, 30.0])
def test_stopped_child_gets_little_patience_for_its_pipes(drain_timeout: float | None) -> None:
    """A shell ends by SIGTERM, and its child holds the pipe on."""
    begun = monotonic()
    with pytest.raises(fastproc.TimeoutExpired) as caught:
        run("/bin/sh", "-c", "echo hi; sleep 1; :", capture=True, timeout=0.2, drain_timeout=drain_timeout)
    assert monotonic() - begun < 0.6
    assert caught.value.result is not None
    assert (caught.value.result.stdout, caught.value.result.pipes_still_open) == (b"hi\n", True)


# -- interrupts and statuses


@pytest.mark.parametrize(
    ("then", "patience", "outcome"),
    [
        ("exec sleep 60", 0.04, (-9, b"ready\n", "killed")),
        ("echo end; exit 7", 60.0, (7, b"ready\nend\n", "")),
    ],
)
def test_interrupt_kills_reaps_and_comes_out(
    then: str, patience: float, outcome: tuple[int, bytes, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at once, whatever the child does, which gets a moment to end by itself (GOTCHAS I7)."""

    def interrupt(*_args: object) -> None:
        os.write(go, b"\n")
        raise KeyboardInterrupt

    def interrupt_when_ready() -> None:
        assert os.read(ready, 1) == b"."
        signal.pthread_kill(main, signal.SIGALRM)

    main = threading.get_ident()
    children = observe.children()
    monkeypatch.setattr(running, "CTRL_C_PATIENCE", patience)
    (ready, says), (goes, go) = os.pipe(), os.pipe()
    thread = threading.Thread(target=interrupt_when_ready)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        thread.start()
        # What it has said is in the pipe by then, and it goes on when it is over: nothing here depends on the time.
        script = f"echo ready; printf . >&5; read x <&6; {then}"
        with pytest.raises(KeyboardInterrupt) as caught:
            run("/bin/sh", "-c", script, capture=True, input=iter([b"x\n"]), fds={5: says, 6: goes})
        assert observe.children() == children
    finally:
        os.close(says)
        thread.join()
        for fd in (ready, goes, go):
            os.close(fd)
        signal.signal(signal.SIGALRM, before)
    result = caught.value.result  # type: ignore[attr-defined]
    assert (result.returncode, result.stdout, result.killed) == outcome


def test_failed_spawn_leaves_nothing() -> None:
    """Also for an iterator, which is not asked."""
    with pytest.raises(FileNotFoundError):
        run("/nosuch/program", capture=True, input=iter([]))


def test_check_and_ok_codes() -> None:
    """As run() does it."""
    with pytest.raises(fastproc.ExitError, match="exit status 3"):
        run(*EXIT(3))
    assert run(*EXIT(3), ok_codes=(0, 3)).ok
    assert run(*KILLED(signal.SIGTERM), check=False).signal == signal.SIGTERM


def test_traced_child_does_not_spin(programs: Programs) -> None:
    """Readable but not to be reaped: looked at by a timer (GOTCHAS D6)."""
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(run(*SLEEP, check=False, capture=True)))
    known = observe.children()
    thread.start()
    (pid,) = wait_until(lambda: observe.children() - known)
    # Before that a signal that ends it makes the spawn fail: nothing has run (GOTCHAS A17).
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
    with fastproc.start(programs.tracer, str(pid), "300", stdout=PIPE) as tracer:
        assert tracer.stdout is not None
        traced = tracer.stdout.readline() == b"ready\n"
        pidfd = os.pidfd_open(pid)
        before = os.times()
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)
        thread.join()
        after = os.times()
        tracer.wait()
    if not traced:
        pytest.skip("ptrace is not allowed here")
    assert found[0].returncode == -15
    assert after.user + after.system - before.user - before.system < 0.1


def _begun(reactor: Reactor, *argv: str, pidfd: bool = True, **options: Any) -> Exchange:
    """An exchange as its owner makes it, on a given reactor."""
    ran: list[Exchange] = []
    process = Process(argv)
    exchange = Exchange(process, reactor, on_done=ran.append, grace=options.pop("grace", 0.1))
    with Opened() as opened:
        process.spawn(resolve(cmd(*argv, **options), opened))
    if not pidfd:
        process._pidfd.close()
    exchange.open()
    return exchange


def test_many_exchanges_share_one_reactor() -> None:
    """Whoever drives the reactor drives all of them; on_done is called once for each."""
    reactor = Reactor()
    done: list[Exchange] = []
    exchanges = []
    for number in range(20):
        exchange = _begun(reactor, *EXIT(number), capture=True)
        exchange.on_done = done.append
        exchanges.append(exchange)
    while len(done) < 20:
        reactor.run_once(5)
    assert sorted(exchange.process.wait() for exchange in done) == list(range(20))
    assert (reactor._watched, reactor.timeout()) == ({}, None)
    reactor.close()


@pytest.mark.parametrize(("grace", "code", "flags"), [(5.0, -15, 2), (0.0, -9, 4)])
def test_stop_ends_the_child(grace: float, code: int, flags: int) -> None:
    """With grace by SIGTERM; a stop after the end does nothing."""
    reactor = Reactor()
    exchange = _begun(reactor, *SLEEP, capture=True, grace=grace)
    exchange.stop()
    exchange.stop()
    while not exchange.done:
        reactor.run_once(5)
    exchange.stop()
    assert (exchange.process.returncode, exchange.flags) == (code, flags)
    assert (exchange.output(STDOUT), exchange.output(STDERR)) == (b"", b"")
    reactor.close()


def test_child_without_a_pidfd_is_looked_at() -> None:
    """By a timer, less and less often."""
    reactor = Reactor()
    exchange = _begun(reactor, "/bin/sh", "-c", "echo hi; sleep 0.1; exit 6", pidfd=False, stdout=PIPE)
    rounds = 0
    while not exchange.done:
        reactor.run_once(5)
        rounds += 1
    assert (exchange.process.returncode, exchange.output(STDOUT)) == (6, b"hi\n")
    assert rounds < 40
    reactor.close()


def test_unknown_status_keeps_the_output() -> None:
    """A run whose status was stolen says so, and gives what was read (GOTCHAS D2, D18)."""
    reactor = Reactor()
    command = cmd("/bin/sh", "-c", "echo hi", stdout=PIPE)
    exchange = _begun(reactor, *command.argv, pidfd=False, stdout=PIPE)
    os.waitpid(exchange.process.pid, 0)
    while not exchange.done:
        reactor.run_once(5)
    with pytest.raises(fastproc.ExitStatusUnknown) as caught:
        make_result(exchange, settle(command), 0, Opened())
    assert (caught.value.stdout, caught.value.stderr) == (b"hi\n", None)
    reactor.close()


def test_abort_leaves_nothing_on_the_reactor() -> None:
    """Whatever was going on, and however often."""
    reactor = Reactor()
    exchange = _begun(reactor, *SLEEP, capture=True, stdin=PIPE)
    exchange.stop()
    exchange.abort()
    exchange.abort()
    assert (exchange.done, reactor._watched, reactor.timeout()) == (True, {}, None)
    assert exchange.process.returncode in (-9, -15)
    reactor.close()


def test_stop_that_is_refused_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that became another user may not be signalled; a later kill still works."""

    def refuse(*_args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    reactor = Reactor()
    exchange = _begun(reactor, *SLEEP, capture=True)
    with monkeypatch.context() as patch:
        patch.setattr(_native, "signal", refuse)
        with pytest.raises(PermissionError):
            exchange.stop()
    assert exchange.flags == 0
    exchange._grace = 0.0
    exchange.stop()
    while not exchange.done:
        reactor.run_once(5)
    assert (exchange.process.returncode, exchange.flags) == (-9, 4)
    reactor.close()


def test_report_without_data_reads_nothing() -> None:
    """A stream that is reported ready and is not must neither block nor end."""
    reactor = Reactor()
    exchange = _begun(reactor, *SLEEP, capture=True)
    exchange._read(STDOUT)
    exchange._read(STDERR)
    assert not exchange.process.ends[STDOUT].closed
    exchange.abort()
    reactor.close()


def test_system_without_large_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """F_SETPIPE_SZ is Linux's."""
    import fcntl

    monkeypatch.delattr(fcntl, "F_SETPIPE_SZ")
    assert len(run("head", "-c", "300000", "/dev/zero", stdout=PIPE).stdout or b"") == 300_000


def test_every_action_of_the_table_is_known() -> None:
    """The table and the exchange cannot drift apart."""
    assert set(module._ACTIONS) == set(lifecycle.ACTIONS)


# -- beside the bulk path

PARITY = [
    ("echo", (), {"capture": True}),
    ("/bin/sh", ("-c", "echo out; echo err >&2; exit 3"), {"capture": True}),
    ("/bin/sh", ("-c", "echo out; echo err >&2"), {"capture": True, "stderr": fastproc.STDOUT}),
    ("/bin/sh", ("-c", "echo out; echo err >&2"), {"capture": True, "swap_outputs": True}),
    ("/bin/sh", ("-c", "echo out; echo err >&2"), {"stdout": PIPE, "stderr": fastproc.DEVNULL, "swap_outputs": True}),
    ("/bin/sh", ("-c", "kill -9 $$"), {"capture": True}),
    ("cat", (), {"capture": True, "input": b"hello"}),
    ("cat", (), {"stdout": PIPE, "input": bytes(range(256)) * 10_000}),
    ("cat", (), {"stdout": PIPE, "stdin": "/etc/passwd"}),
    ("true", (), {"input": b"x" * 1_000_000}),
    ("head", ("-c", "200000", "/dev/zero"), {"capture": True}),
    ("/bin/sh", ("-c", "sleep 30 & echo hi"), {"capture": True, "drain_timeout": 0.05}),
    ("/bin/sh", ("-c", "echo hi; exec sleep 30"), {"capture": True, "timeout": 0.1}),
    ("/bin/sh", ("-c", "trap '' TERM; echo hi; sleep 30"), {"capture": True, "timeout": 0.1, "grace": 0.05}),
    ("/bin/sh", ("-c", "echo hi; sleep 30"), {"capture": True, "timeout": 0.1, "grace": 0}),
    ("/bin/sh", ("-c", "sleep 30 & echo hi"), {"capture": True, "timeout": 0.1, "drain_timeout": None}),
    ("/nosuch/program", (), {"capture": True}),
    ("sort", (), {"cwd": "/nosuch"}),
]


def _outcome(call: Any) -> dict[str, object]:
    """Everything of a run that does not depend on the moment."""
    error: BaseException | None = None
    result: Result | None = None
    try:
        result = call()
    except (fastproc.ExitError, fastproc.TimeoutExpired) as caught:
        error, result = caught, caught.result
    except fastproc.SpawnError as caught:
        error = caught
    found: dict[str, object] = {"error": type(error), "text": str(error) if error else ""}
    if result is not None:
        names = ("argv", "returncode", "stdout", "stderr", "mechanism", "mechanism_refused")
        flags = ("timed_out", "killed", "pipes_still_open", "core_dumped", "ok")
        found |= {name: getattr(result, name) for name in (*names, *flags)}
        found["usage"] = result.usage is not None
    return found


@pytest.mark.parametrize(("program", "args", "options"), PARITY)
def test_exchange_and_bulk_path_agree(program: str, args: tuple[str, ...], options: dict[str, Any]) -> None:
    """One is the reference of the other: the whole outcome is the same."""
    command = cmd(program, *args, **options)
    expected = _outcome(lambda: fastproc.run(command))
    assert _outcome(lambda: run_exchange(command, settle(command))) == expected


def test_mechanism_and_refusals_are_told(mechanism: str) -> None:
    """Each mechanism in turn, by name, and why a faster one was not taken."""
    result = run(*EXIT(0), capture=True)
    assert result.mechanism == mechanism
    assert dict(result.mechanism_refused) == ({} if mechanism == "clone3_vm" else _native.refused())
