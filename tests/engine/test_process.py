"""One running child: status, signals, and what becomes of a dropped handle."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastproc
from conftest import isolated, wait_until
from fastproc import PIPE, _native
from fastproc._engine import guard, orphans
from fastproc._engine import signal_api as killable
from fastproc._engine.fds import Opened, OwnedFd
from fastproc._engine.process import Process
from fastproc._engine.resolve import resolve
from fastproc._engine.running import run_exchange
from fastproc._values.command import cmd
from fastproc._values.plan import settle
from support.programs import CAT, EXIT, IGNORE_TERM, KILLED, SLEEP, Programs


def start(argv: tuple[str, ...], **options: Any) -> Process:
    return fastproc.start(*argv, **options)


def without_pidfd(process: Process) -> Process:
    """Make a handle as on a system that has no pidfds."""
    process._pidfd.close()
    return process


def state_of(pid: int) -> str:
    """The letter of /proc/PID/stat, or "" when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1].decode()
    except OSError:
        return ""


@pytest.fixture(params=["pidfd", "number"])
def begin(request: pytest.FixtureRequest) -> Callable[..., Process]:
    """Start a program, with a pidfd and without one."""
    return start if request.param == "pidfd" else lambda *args, **options: without_pidfd(start(*args, **options))


# -- its end


def test_wait_gives_the_return_code(begin: Callable[..., Process]) -> None:
    """Exit codes as they are, signals negative; known for good after the first time."""
    for argv, expected in ((EXIT(0), 0), (EXIT(7), 7), (KILLED(signal.SIGTERM), -15)):
        process = begin(argv)
        assert process.wait() == expected
        assert (process.wait(), process.poll(), process.returncode) == (expected, expected, expected)


def test_handle_tells_what_it_is() -> None:
    """pid, pidfd, mechanism while it runs; usage and no pidfd after."""
    with start(SLEEP) as process:
        assert process.argv == SLEEP
        assert process.fileno() == process.pidfd >= 3
        assert process.mechanism in _native.features() or process.mechanism
        assert (process.returncode, process.usage, process.core_dumped) == (None, None, False)
        assert repr(process) == f"<Process 'sleep' pid={process.pid} running>"
    assert repr(process) == f"<Process 'sleep' pid={process.pid} returncode=-9>"
    usage = process.usage
    assert usage is not None
    assert usage.maxrss > 0
    assert process.pidfd == -1
    with pytest.raises(ValueError, match="closed"):
        process.fileno()


def test_poll_is_none_while_it_runs(begin: Callable[..., Process]) -> None:
    """And the code as soon as it has ended: no try-lock says None of a dead child (GOTCHAS D20)."""
    with begin(CAT, stdin=PIPE) as process:
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        assert wait_until(lambda: process.poll() is not None)


def test_wait_ends_at_its_timeout(begin: Callable[..., Process]) -> None:
    """Also for times that no clock has (GOTCHAS D19); the child goes on."""
    with begin(SLEEP) as process:
        begun = monotonic()
        for timeout in (0.05, 0, -5, -1e300):
            with pytest.raises(fastproc.TimeoutExpired, match="sleep 60"):
                process.wait(timeout)
        assert 0.05 <= monotonic() - begun < 0.3
        with pytest.raises(ValueError, match="timeout: NaN"):
            process.wait(float("nan"))
        process.kill()
        assert process.wait(float("inf")) == -9


def test_wait_from_many_threads_tells_all_of_them(begin: Callable[..., Process]) -> None:
    """One of them reaps; nobody waits on a closed pidfd or gets nothing."""
    process = begin(CAT, stdin=PIPE)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(process.wait())) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert process.stdin is not None
    process.stdin.close()
    for thread in threads:
        thread.join()
    assert codes == [0] * 8
    assert process.pidfd == -1


def test_stopped_child_has_not_ended(begin: Callable[..., Process]) -> None:
    """A stop is never reported as an end (GOTCHAS D23)."""
    with begin(SLEEP) as process:
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: state_of(process.pid) == "T")
        with pytest.raises(fastproc.TimeoutExpired):
            process.wait(0.02)
        assert process.poll() is None
        process.send_signal(signal.SIGCONT)


def test_traced_child_is_waited_for_without_spinning(programs: Programs) -> None:
    """The pidfd is readable while a tracer keeps the status (GOTCHAS D6)."""
    with start((programs.static_exit, "3"), stdin=PIPE) as quick:
        quick.wait()
    with start(SLEEP) as process, start((programs.tracer, str(process.pid), "300"), stdout=PIPE) as tracer:
        assert tracer.stdout is not None
        if tracer.stdout.readline() != b"ready\n":
            pytest.skip("ptrace is not allowed here")
        process.terminate()
        before = os.times()
        assert process.wait() == -15
        after = os.times()
        tracer.wait()
    assert after.user + after.system - before.user - before.system < 0.1


def test_status_taken_by_others_is_recovered_or_unknown() -> None:
    """Never 0 (GOTCHAS D2)."""
    process = start(EXIT(42))
    os.waitpid(process.pid, 0)
    if _native.features()["pidfd_info"]:
        assert (process.wait(), process.usage) == (42, None)
    else:
        with pytest.raises(fastproc.ExitStatusUnknown):
            process.wait()


def test_status_taken_by_others_without_pidfd_is_unknown() -> None:
    """Each look says so, and the handle signals nobody."""
    process = without_pidfd(start(EXIT(42)))
    os.waitpid(process.pid, 0)
    process.kill()
    for look in (process.wait, process.poll):
        with pytest.raises(fastproc.ExitStatusUnknown) as caught:
            look()
        assert (caught.value.pid, caught.value.argv) == (process.pid, EXIT(42))
    assert process.returncode is None
    assert "status unknown" in repr(process)
    with process:
        pass


def test_look_inside_a_look_keeps_the_true_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler may call poll or wait while this thread is in it: the status it got stays."""
    process = start(EXIT(5))
    original = _native.wait
    inner: list[int | None] = []

    def interrupted(*args: Any) -> int:
        if not inner:
            inner.append(None)
            inner[0] = process.wait()
            # The outer look still uses the number of the pidfd.
            assert process.pidfd >= 0
        return original(*args)

    monkeypatch.setattr(_native, "wait", interrupted)
    wait_until(lambda: state_of(process.pid) == "Z")
    assert (process.poll(), inner, process.pidfd) == (5, [5], -1)


def test_interrupt_right_after_the_reaping_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is in the struct before Python sees it (GOTCHAS I4)."""
    process = start(EXIT(5))
    original = _native.wait

    def interrupted(*args: Any) -> int:
        original(*args)
        raise KeyboardInterrupt

    wait_until(lambda: state_of(process.pid) == "Z")
    with monkeypatch.context() as patch:
        patch.setattr(_native, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            process.poll()
    assert (process.poll(), process.pidfd) == (5, -1)


def test_interrupt_at_any_line_of_the_look_that_reaps_loses_no_status() -> None:
    """The next look finds what the C call has written. Without a pidfd the kernel has nothing more to tell."""
    at = 0
    fired = True
    while fired:
        process = without_pidfd(start(EXIT(3)))
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        fired = interrupted_at(at, process.poll)
        assert process.poll() == 3
        assert process not in guarded_now()
        at += 1
    assert at > 20


def guarded_now() -> list[Process | None]:
    return [known() for known in guard.guarded.values()]


def interrupted_at(number: int, call: Callable[[], object]) -> bool:
    """Raise KeyboardInterrupt at the line of the package at which a call arrives after so many, if there is one."""
    left = number

    def on_line(frame: Any, event: str, _arg: object) -> Any:
        nonlocal left
        if event == "line" and "/fastproc/_" in frame.f_code.co_filename:
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return on_line

    sys.settrace(on_line)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_wait_runs_signal_handlers_and_keeps_its_time() -> None:
    """A handler every 5 ms neither ends nor prolongs the wait (GOTCHAS I6)."""
    ran: list[float] = []
    before = signal.signal(signal.SIGALRM, lambda *_: ran.append(monotonic()))
    with start(SLEEP) as process:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
            begun = monotonic()
            with pytest.raises(fastproc.TimeoutExpired):
                process.wait(0.2)
            took = monotonic() - begun
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert 0.2 <= took < 0.3
    assert len(ran) > 20


@pytest.mark.parametrize("pidfd", [True, False])
def test_interrupt_ends_a_wait_at_once(pidfd: bool) -> None:
    """Ctrl-C is seen in wait(None), and the handle stays usable (GOTCHAS I7)."""

    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    with start(SLEEP) if pidfd else without_pidfd(start(SLEEP)) as process:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            begun = monotonic()
            with pytest.raises(KeyboardInterrupt):
                process.wait()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert monotonic() - begun < 0.15
        assert process.poll() is None
    assert process.pidfd == -1


# -- signals


def test_signals_reach_the_child(begin: Callable[..., Process]) -> None:
    """And do nothing, silently, when it has ended (GOTCHAS D13)."""
    for send, code in ((Process.terminate, -15), (Process.kill, -9)):
        process = begin(SLEEP)
        send(process)
        assert process.wait() == code
        send(process)
        process.send_signal(0)


def test_signal_to_a_child_reaped_by_others_is_nothing() -> None:
    """The pidfd says ESRCH; nobody is hit (GOTCHAS D1)."""
    process = start(EXIT(0))
    os.waitpid(process.pid, 0)
    process.kill()
    wait_until(lambda: process.poll() is not None)


@given(st.integers().filter(lambda number: not 0 <= number <= 64))
def test_numbers_that_are_no_signals_are_refused(number: int) -> None:
    """Before anything is sent (GOTCHAS D17)."""
    with pytest.raises(ValueError, match="sig: "):
        Process(("x",)).send_signal(number)


def test_stop_ends_it_with_and_without_its_help(begin: Callable[..., Process]) -> None:
    """SIGTERM, the grace, SIGKILL; at once without grace."""
    assert begin(SLEEP).stop(5) == -15
    with begin(IGNORE_TERM, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        begun = monotonic()
        assert process.stop(0.1) == -9
        assert 0.1 <= monotonic() - begun < 0.4
    assert begin(SLEEP).stop(0) == -9
    assert process.stop() == -9


# -- streams


def test_stop_goes_by_the_grace_given_to_start() -> None:
    """A command's own patience, unless stop() is told another."""
    with fastproc.start(*IGNORE_TERM, stdout=PIPE, grace=0.0) as process:
        next(process.lines())
        assert process.stop() == -signal.SIGKILL
    # SIGTERM would have been in time for this one.
    with fastproc.start(*SLEEP, grace=0) as process:
        assert process.stop() == -signal.SIGKILL
    with fastproc.start(*SLEEP, grace=0) as process:
        assert process.stop(grace=10) == -signal.SIGTERM


def test_pipes_are_blocking_files() -> None:
    """Buffered, one object each, None without a pipe; leaving the block closes them."""
    with start(CAT, stdin=PIPE, stdout=PIPE) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        assert (process.stdin, process.stdout, process.stderr) == (stdin, stdout, None)
        stdin.write(b"hello\n")
        stdin.flush()
        assert stdout.readline() == b"hello\n"
        stdin.write(b"never read")
        process.kill()
        process.wait()
    assert (stdin.closed, stdout.closed) == (True, True)


# -- the handle


def test_leaving_the_block_kills_and_reaps() -> None:
    """Also when the body raises."""
    with pytest.raises(LookupError), start(SLEEP) as process:
        raise LookupError
    assert process.returncode == -9
    assert state_of(process.pid) == ""


def test_leaving_the_block_does_not_wait_for_a_grandchild() -> None:
    """What the file still holds for a full pipe, which only a grandchild keeps open, is dropped."""
    with fastproc.start("/bin/sh", "-c", "sleep 60 <&0 & echo $!; exec sleep 60", stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        grandchild = int(next(process.lines()))
        os.set_blocking(process.stdin.fileno(), False)
        with suppress(BlockingIOError):
            while True:
                process.stdin.write(b"x" * 65_536)
        os.set_blocking(process.stdin.fileno(), True)
        holder = os.pidfd_open(grandchild)
    try:
        assert process.returncode == -signal.SIGKILL
        assert process.stdin.closed
    finally:
        signal.pidfd_send_signal(holder, signal.SIGKILL)
        os.close(holder)


def test_leaving_the_block_of_a_stolen_child_is_silent() -> None:
    """It has ended; that nobody knows how is of no interest any more."""
    with without_pidfd(start(EXIT(0))) as process:
        os.waitpid(process.pid, 0)
    assert process.returncode is None


def test_detached_child_lives_on() -> None:
    """It is killed neither by leaving the block nor by dropping the handle, and reaped later."""
    with start(SLEEP) as process:
        process.detach()
    pidfd, pid = os.pidfd_open(process.pid), process.pid
    del process
    gc.collect()
    assert state_of(pid) in "SRD"
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    wait_until(lambda: orphans.reap() == 0)
    assert state_of(pid) == ""


def test_dropped_children_warn_and_are_reaped_by_later_spawns() -> None:
    """Nothing is killed by dropping; no zombie stays (GOTCHAS D22)."""
    count = 3 * orphans.AT_ONCE
    read_end, write_end = os.pipe()
    children = [start(CAT, stdin=read_end, stdout=fastproc.DEVNULL) for _ in range(count)]
    os.close(read_end)
    with pytest.warns(ResourceWarning, match="was dropped while it ran") as warned:
        children.clear()
    assert len(warned) == count
    assert orphans.reap() == count
    os.close(write_end)

    def spawns_left() -> int:
        fastproc.start(*EXIT(0)).wait()
        return len(orphans.pending)

    wait_until(lambda: spawns_left() == 0)


LONG = orphans.ORPHANS_EVERY + 0.6


def _watched(other: Process) -> None:
    next(iter(fastproc.as_completed([other], LONG)))


def _in_a_thread(call: Callable[[], object]) -> None:
    with ThreadPoolExecutor(1) as threads:
        threads.submit(call).result()


LOOKS: dict[str, Callable[[Process], object]] = {
    "wait": lambda other: other.wait(LONG),
    "as_completed": _watched,
    "run": lambda _: fastproc.run(*SLEEP, timeout=LONG),
    "run in a thread": lambda _: _in_a_thread(lambda: fastproc.run(*SLEEP, timeout=LONG)),
    "exchange": lambda _: run_exchange(command := cmd(*SLEEP, timeout=LONG), settle(command)),
}


@pytest.mark.parametrize("how", ["poll", *LOOKS])
def test_dropped_children_are_reaped_while_another_is_looked_at(how: str) -> None:
    """No spawn is needed: any poll or wait does it, and a long wait looks again."""
    dropped = start(SLEEP)
    pid = dropped.pid
    dropped.detach()
    with start(SLEEP) as other:
        pidfd = os.pidfd_open(pid)
        del dropped
        timer = threading.Timer(0.1, signal.pidfd_send_signal, (pidfd, signal.SIGKILL))
        timer.start()
        if how == "poll":
            wait_until(lambda: other.poll() is None and state_of(pid) == "")
        else:
            with pytest.raises(fastproc.TimeoutExpired):
                LOOKS[how](other)
            assert state_of(pid) == ""
        timer.join()
        os.close(pidfd)


@pytest.mark.parametrize("after", [False, True], ids=["before the kernel answers", "after"])
@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
def test_interrupted_look_at_an_orphan_loses_nothing(after: bool, ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle: the child is on the list once, unless its status has been taken."""
    dropped = start(EXIT(0) if ended else SLEEP)
    pid, pidfd = dropped.pid, os.pidfd_open(dropped.pid)
    if ended:
        wait_until(lambda: state_of(pid) == "Z")
    dropped.detach()
    del dropped
    original = _native.wait

    def interrupted(*args: Any) -> int:
        if after:
            original(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_native, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            orphans.reap()
    assert [orphan[0] for orphan in orphans.pending] == ([] if after and ended else [pid])
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    wait_until(lambda: orphans.reap() == 0)
    assert state_of(pid) == ""


def test_orphans_of_a_fork_and_of_others_are_forgotten() -> None:
    """A forked copy of the list is not its children; what cannot be waited for is dropped."""
    with start(SLEEP) as process:
        orphans.adopt((process.pid, OwnedFd(), os.getpid() + 1))
        orphans.adopt((1, OwnedFd(), os.getpid()))
        assert orphans.reap() == 0
        assert process.poll() is None


def test_orphans_taken_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list may become empty while it is gone through."""
    taken: list[object] = []

    def look(orphan: object, _status: object) -> bool:
        taken.append(orphan)
        orphans.pending.clear()
        return False

    monkeypatch.setattr(orphans, "_look", look)
    for _ in range(3):
        orphans.adopt((1, OwnedFd(), 0))
    assert (orphans.reap(), len(taken)) == (0, 1)


def test_finalizers_of_unfinished_handles_are_silent() -> None:
    """A handle without a child, or one that was never built up, has nothing to say."""
    Process(("x",))
    Process.__new__(Process)
    with pytest.raises(fastproc.ProcessError, match="has no child"):
        Process().poll()
    assert repr(Process()) == "<Process ? pid=-1 not started>"


def test_failed_spawn_leaves_nothing() -> None:
    """The handle has no child, and says so."""
    process = Process(("nosuch",))
    with pytest.raises(FileNotFoundError), Opened() as opened:
        process.spawn(resolve(cmd("/nosuch/program", stdin=PIPE, stdout=PIPE), opened))
    with pytest.raises(fastproc.ProcessError, match="has no child"):
        process.kill()


def test_interrupt_right_after_the_spawn_kills_and_reaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is in the handle before Python runs again (GOTCHAS I4)."""
    original = _native.spawn
    made: list[int] = []

    def interrupted(plan: Any, child: Any, stays: bool, timeout_ns: int) -> None:
        original(plan, child, stays, timeout_ns)
        made.append(child.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(_native, "spawn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(SLEEP, stdin=PIPE, stdout=PIPE)
    assert state_of(made[0]) == ""


def test_interrupt_of_the_spawn_is_passed_on_to_a_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child that leads a group sees SIGINT, and has a moment to end by itself, as after every other Ctrl-C."""
    original = _native.spawn
    says = tmp_path / "says"
    script = f"trap 'echo interrupted >{says}; exit 7' INT; echo ready; while :; do sleep 0.005; done"

    def interrupted(plan: Any, child: Any, stays: bool, timeout_ns: int) -> None:
        original(plan, child, stays, timeout_ns)
        assert select.select([child.fd[1]], [], [], 10)[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(_native, "spawn", interrupted)
    monkeypatch.setattr(killable, "CTRL_C_PATIENCE", 5.0)  # nothing here depends on the time
    with pytest.raises(KeyboardInterrupt):
        fastproc.start("sh", "-c", script, stdout=PIPE, pgid=0)
    assert says.read_text() == "interrupted\n"


def test_abandon_leaves_a_child_that_cannot_be_killed_to_the_orphans(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error on its way to the user is not replaced, and nothing hangs."""

    def refused(*_args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    process = start(SLEEP)
    with monkeypatch.context() as patch:
        patch.setattr(_native, "signal", refused)
        process.abandon()
    assert process.poll() is None
    process.abandon()
    assert process.returncode == -9
    process.abandon()


def test_abandon_tells_whether_it_had_to_kill() -> None:
    """A child that has ended by itself keeps its status."""
    process = start(EXIT(3))
    wait_until(lambda: state_of(process.pid) == "Z")
    assert (process.abandon(), process.returncode) == (False, 3)
    process = start(SLEEP)
    assert (process.abandon(), process.returncode) == (True, -9)


def test_forked_copy_does_nothing() -> None:
    """Methods refuse, leaving the block and dropping the handle touch nobody (GOTCHAS D12, I2)."""
    read_end, write_end = os.pipe()
    with start(SLEEP) as process, start(EXIT(4)) as ended:
        ended.wait()
        pid = os.fork()
        if pid == 0:
            said = b""
            try:
                for method in (process.poll, process.kill, process.wait, process.stop):
                    try:
                        method()
                    except fastproc.ProcessError as error:
                        said += b"refused " if "is a fork of it" in str(error) else b"?"
                said += b"%d" % ended.wait()
                process.abandon()
                process.__exit__()
                dropped = process._guard
                assert dropped is not None
                dropped.__callback__(dropped)
                os.write(write_end, said)
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        os.close(write_end)
        assert os.read(read_end, 100) == b"refused refused refused refused 4"
        os.close(read_end)
        assert process.poll() is None
        assert orphans.pending == []


# -- storms and exits, each in an interpreter of its own


def spawns_in_a_storm() -> list[int]:
    """Ctrl-C every millisecond during spawns; returns the interrupts, and the children and descriptors left."""
    armed: list[int] = []

    def interrupt(*_args: object) -> None:
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    command = cmd("/bin/true", stdin=PIPE, stdout=PIPE)
    with Opened() as opened:
        plan = resolve(command, opened)
    Process(()).abandon()
    before = len(os.listdir("/proc/self/fd"))
    signal.signal(signal.SIGALRM, interrupt)
    interrupts = 0
    end = monotonic() + 1.0
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    while monotonic() < end:
        process = Process(command.argv)
        try:
            armed.append(1)
            process.spawn(plan)
            armed.clear()
        except KeyboardInterrupt:
            interrupts += 1
        process.abandon()
    signal.setitimer(signal.ITIMER_REAL, 0)
    del process
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        left = len(file.read().split())
    return [interrupts, left, len(os.listdir("/proc/self/fd")) - before, len(orphans.pending)]


@pytest.mark.slow
def test_interrupts_in_mid_spawn_leave_no_child() -> None:
    """Live children are registered children (GOTCHAS I4)."""
    interrupts, children, descriptors, orphaned = isolated(spawns_in_a_storm)
    assert interrupts > 100
    assert (children, descriptors, orphaned) == (0, 0, 0)


def test_interpreter_exits_silently_with_live_children() -> None:
    """No traceback, no wait, and the children untouched (GOTCHAS I9)."""
    script = (
        "import fastproc, sys\n"
        "streams = {'stdin': int(sys.argv[1]), 'stdout': fastproc.PIPE, 'stderr': fastproc.DEVNULL}\n"
        "kept = [fastproc.start('cat', **streams) for _ in range(3)]\n"
        "cycle = [kept]; cycle.append(cycle)\n"
        "print(*[p.pid for p in kept])\n"
    )
    read_end, write_end = os.pipe()
    command = [sys.executable, "-c", script, str(read_end)]
    done = subprocess.run(command, pass_fds=(read_end,), capture_output=True, text=True, timeout=10, check=False)
    states = [state_of(int(pid)) for pid in done.stdout.split()]
    os.close(read_end)
    os.close(write_end)
    assert (done.returncode, done.stderr, len(states)) == (0, "", 3)
    assert all(states)
