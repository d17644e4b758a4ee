"""fastproc.signals: receivers, in blocking code.

What is sent by number is sent in PID namespaces of its own; the other tests raise signals in this process.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import pytest

import fastproc
from conftest import isolated, wait_until
from fastproc import signals
from fastproc.signals._inbox import Inbox
from support.programs import Programs

USR1, USR2, INT = signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT
RT = int(signal.SIGRTMIN) + 1


def told(received: signals.Received) -> tuple[str, str]:
    return received.name, received.cause


# -- receivers


@pytest.mark.parametrize("block", [False, True])
def test_receiver_gets_what_comes_in_order(block: bool) -> None:
    """Standard and real-time signals, blocked or not; nothing is left, and nothing comes twice."""
    with signals.Signals("USR1", RT, block=block) as received:
        for sig in (USR1, RT, RT):
            signal.raise_signal(sig)
        found = [received.get(5.0) for _ in range(3)]
        assert received.pending() == []
    assert sorted(map(told, found)) == [("SIGRTMIN+1", "SI_TKILL")] * 2 + [("SIGUSR1", "SI_TKILL")]
    assert [one.pid for one in found] == [os.getpid()] * 3
    assert len({one.serial for one in found}) == 3


@pytest.mark.parametrize("blocks", [(False, False), (True, False), (False, True), (True, True)])
def test_receivers_are_independent(blocks: tuple[bool, bool]) -> None:
    """Each gets every signal, the very same one, whoever of them has it blocked and whoever asks first."""
    with signals.Signals("USR1", block=blocks[0]) as first, signals.Signals("USR1", "USR2", block=blocks[1]) as second:
        signal.raise_signal(USR1)
        signal.raise_signal(USR2)
        one, others = first.get(5.0), [second.get(5.0), second.get(5.0)]
        # The one that is not blocked comes at once.
        assert (one.name, one in others, sorted(other.name for other in others)) == (
            "SIGUSR1",
            True,
            ["SIGUSR1", "SIGUSR2"],
        )
        with signals.Signals("USR1") as late:
            assert (first.pending(), second.pending(), late.pending()) == ([], [], [])


def test_receiver_beside_others_closes_alone() -> None:
    """The end of one does not end the others, and the last one brings the earlier handler back."""
    seen: list[int] = []
    before = signal.signal(USR1, lambda number, _frame: seen.append(number))
    try:
        first, second = signals.Signals("USR1"), signals.Signals("USR1")
        first.close()
        first.close()
        signal.raise_signal(USR1)
        assert second.get(5.0).signal == USR1
        second.close()
        signal.raise_signal(USR1)
        assert seen == [USR1, USR1]
    finally:
        signal.signal(USR1, before)


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_handlers_of_others_are_called_too(when: str, block: bool) -> None:
    """Of signal.signal(), installed before the receiver or over it; with chain=False they are not."""
    for chain in (True, False):
        seen: list[int] = []

        def handler(number: int, _frame: object, seen: list[int] = seen) -> None:
            seen.append(number)

        before = signal.getsignal(USR1)
        if when == "before":
            signal.signal(USR1, handler)
        try:
            with signals.Signals("USR1", chain=chain, block=block) as received:
                if when == "after":
                    signal.signal(USR1, handler)
                    received.pending()
                signal.raise_signal(USR1)
                assert received.get(5.0).signal == USR1
                assert seen == ([USR1] if chain else [])
        finally:
            signal.signal(USR1, before)


def test_ctrl_c_is_received_and_raises_nothing() -> None:
    """Python's own handler for SIGINT only does what happens by default."""
    assert signal.getsignal(INT) is signal.default_int_handler
    with signals.Signals("INT") as received:
        signal.raise_signal(INT)
        assert received.get(5.0).name == "SIGINT"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(INT)


def test_waiting_ends_in_time() -> None:
    """At the timeout, and when another thread closes the receiver."""
    received = signals.Signals("USR1")
    with pytest.raises(TimeoutError, match=r"no signal within 0.01 seconds"):
        received.get(0.01)
    rest: list[signals.Received] = []
    thread = threading.Thread(target=lambda: rest.extend(received))
    thread.start()
    signal.raise_signal(USR1)
    wait_until(lambda: len(rest) == 1)
    received.close()
    thread.join(5.0)
    assert (thread.is_alive(), [one.name for one in rest]) == (False, ["SIGUSR1"])
    with pytest.raises(ValueError, match="closed"):
        received.get()
    with pytest.raises(ValueError, match="closed"):
        received.fileno()
    assert (received.pending(), list(received), repr(received)) == ([], [], "<Signals SIGUSR1 closed>")


def test_signal_that_comes_in_another_thread_is_received() -> None:
    """Blocked here, but not in a thread that was there before: the handler takes it in that one."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with signals.Signals("USR1", block=True) as received:
            assert thread.ident is not None
            signal.pthread_kill(thread.ident, USR1)
            assert received.get(5.0).cause == "SI_TKILL"
    finally:
        stop.set()
        thread.join()


def test_receiver_shared_by_threads_gives_each_signal_once() -> None:
    """Four threads take from one receiver: every signal goes to one of them."""
    found: list[int] = []
    with signals.Signals(RT) as received:
        threads = [threading.Thread(target=lambda: found.extend(one.serial for one in received)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            signal.raise_signal(RT)
        wait_until(lambda: len(found) >= 200)
    for thread in threads:
        thread.join(5.0)
    assert (len(found), len(set(found))) == (200, 200)


def test_receiver_that_another_thread_closes_ends_the_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the moment between the look and the wait."""
    held = Inbox._hold

    def closed_just_then(inbox: Inbox) -> int:
        inbox.close()
        return held(inbox)

    monkeypatch.setattr(Inbox, "_hold", closed_just_then)
    with signals.Signals(RT) as received:
        assert list(received) == []


def test_blocked_receiver_belongs_to_its_thread() -> None:
    """Another thread cannot unblock what was blocked here, and says so; the mask is as before with the right one."""
    caught: list[BaseException] = []
    received = signals.Signals("USR1", block=True)

    def close() -> None:
        try:
            received.close()
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert "blocked in another thread" in str(caught[0])
    assert signal.pthread_sigmask(signal.SIG_UNBLOCK, (USR1,)) == {USR1}


def test_closed_receiver_is_dropped_without_python() -> None:
    """What a signal handler raises in a finalizer is lost."""
    entered: list[str] = []
    receiver = signals.Signals("USR1")
    receiver.close()
    sys.setprofile(lambda frame, event, _: entered.append(frame.f_code.co_qualname) if event == "call" else None)
    try:
        del receiver
    finally:
        sys.setprofile(None)
    assert entered == []


def test_dropped_receiver_stops_and_warns() -> None:
    """Without close() the handler goes with the object."""
    received = signals.Signals("USR1", block=True)
    with pytest.warns(ResourceWarning, match="use `with` or close"):
        del received
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ((), ValueError, "signals: at least one signal is needed"),
        (("KILL",), ValueError, "signals: SIGKILL cannot be received: the kernel lets nobody catch it"),
        (("STOP",), ValueError, "signals: SIGSTOP cannot"),
        (("TERM", "SEGV"), ValueError, "signals: SIGSEGV cannot be received: it tells a thread of a fault"),
        ((33,), ValueError, "signals: signal 33 belongs to the C library"),
        ((0,), ValueError, "signals: 0 is not a signal number"),
        ((2.0,), TypeError, "signals: a signal must be an int or a name"),
    ],
)
@pytest.mark.parametrize("kind_of", [signals.Signals, signals.Flag, signals.Shutdown])
def test_bad_signals_are_refused(kind_of: Any, given: tuple[Any, ...], kind: type[Exception], text: str) -> None:
    """With the reason, before anything is changed."""
    if kind_of is signals.Shutdown and not given:
        return
    with pytest.raises(kind) as caught:
        kind_of(*given)
    assert str(caught.value).startswith(text)


def test_too_many_are_refused_and_leave_nothing() -> None:
    """256 at once; then there is room again."""
    with pytest.raises(OSError, match="256 receivers, flags and forwardings"):
        flags = [signals.Flag("USR1") for _ in range(300)]
    flags = []
    for _ in range(256):
        flags.append(signals.Flag("USR1"))
    signal.raise_signal(USR1)
    assert [flag.count for flag in flags] == [1] * 256
    for flag in flags:
        flag.close()


def out_of_descriptors() -> list[str]:
    signal.signal(USR1, handler := lambda *_args: None)
    failures = []
    for room in range(6):
        before = sorted(os.listdir("/proc/self/fd"))
        hold = [os.dup(0)]
        top = max(hold[0], 3) + 1 + room
        os.close(hold.pop())
        low, high = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, high))
        try:
            signals.Signals("USR1").close()
            failures.append("none")
        except OSError as error:
            failures.append(os.strerror(error.errno or 0))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (low, high))
        after = sorted(os.listdir("/proc/self/fd"))
        if after != before or signal.getsignal(USR1) is not handler:
            failures.append(f"left {after}, before {before}")
    return failures


def test_receiver_without_descriptors_leaves_nothing(pid_namespace: None) -> None:
    """Whichever of its descriptors is the one too many."""
    found = isolated(out_of_descriptors, pid_namespace=True)
    assert set(found) <= {"Too many open files", "none"}
    assert found[0] == "Too many open files"


def test_other_libraries_handlers_in_c_are_called_too(pid_namespace: None) -> None:
    """Those of faulthandler, which Python's signal module does not know."""
    assert isolated(beside_faulthandler, pid_namespace=True) == [True, "SIGUSR1"]


def beside_faulthandler() -> list[Any]:
    with tempfile.TemporaryFile() as file:
        faulthandler.register(USR1, file=file)
        with signals.Signals("USR1") as received:
            signal.raise_signal(USR1)
            file.seek(0)
            return [b"most recent call first" in file.read(), received.get(5.0).name]


def test_interrupted_wait_loses_nothing() -> None:
    """A handler of Python's that raises ends the wait; what comes afterwards is there."""

    def handler(_number: int, _frame: object) -> None:
        raise OverflowError("now")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with signals.Signals("USR1") as received:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(OverflowError, match="now"):
                received.get(30.0)
            signal.raise_signal(USR1)
            assert received.get(5.0).name == "SIGUSR1"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_runs_work_while_ends_of_children_are_received(engine: str) -> None:
    """A handler for SIGCHLD is in the way of no wait, and takes no status."""
    with signals.Signals("CHLD"), signals.Flag("CHLD"):
        for code in (0, 3):
            result = fastproc.run("sh", "-c", f"echo x; exit {code}", capture=True, check=False)
            assert (result.returncode, result.stdout) == (code, b"x\n")
        with fastproc.start("sh", "-c", "exit 4") as child:
            assert child.wait(20) == 4


# -- origin


def origins(sender: str) -> dict[str, Any]:
    me = os.getpid()
    found = {}
    with signals.Signals("USR1", "CHLD", "ALRM", RT) as received:

        def next_of(*names: str) -> signals.Received:
            while (one := received.get(10.0)).name not in names:
                pass
            return one

        for sig in (USR1, RT):
            child = subprocess.Popen([sender, str(me), str(int(sig)), "1", "0", "free"], stdout=subprocess.DEVNULL)
            one = next_of("SIGUSR1", "SIGRTMIN+1")
            found[one.name] = [one.cause, one.pid == child.pid, one.uid, one.value]
            child.wait()
        child = subprocess.Popen(["sh", "-c", f"kill -USR1 {me}; exit 7"])
        one = next_of("SIGUSR1")
        found["kill"] = [one.cause, one.pid == child.pid, one.uid, one.value]
        while (one := next_of("SIGCHLD")).pid != child.pid:
            pass
        found["exited"] = [one.cause, one.uid, one.status]
        child.wait()
        child = subprocess.Popen(["sh", "-c", "kill -KILL $$"])
        while (one := next_of("SIGCHLD")).pid != child.pid:
            pass
        found["killed"] = [one.cause, one.uid, one.status]
        child.wait()
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        one = next_of("SIGALRM")
        found["timer"] = [one.cause, one.pid, one.uid]
        before = time.monotonic()
        signal.raise_signal(USR1)
        found["time"] = before <= next_of("SIGUSR1").time <= time.monotonic()
    return found


def test_origin_of_every_kind(pid_namespace: None, programs: Programs) -> None:
    """Who sent it, as whom, how, with which value; a child's end; a timer, which is nobody."""
    assert isolated(origins, programs.queue, pid_namespace=True) == {
        "SIGUSR1": ["SI_QUEUE", True, 0, 0],
        "SIGRTMIN+1": ["SI_QUEUE", True, 0, 0],
        "kill": ["SI_USER", True, 0, None],
        "exited": ["CLD_EXITED", 0, 7],
        "killed": ["CLD_KILLED", 0, 9],
        "timer": ["SI_KERNEL", None, None],
        "time": True,
    }


# -- under load


def counted(sender: str, count: int, block: bool, read: bool) -> list[Any]:
    """Real-time signals with numbers, as fast as they go; read meanwhile or only at the end."""
    with signals.Signals(RT, block=block) as received:
        command = [sender, str(os.getpid()), str(RT), str(count), "0", "free"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        found = []
        if read:
            found += [received.get(20.0).value for _ in range(count)]
            full = int(child.communicate()[0].split()[-1])
        else:
            full = int(child.communicate()[0].split()[-1])
            found += [one.value for one in received.pending()]
        return [found == list(range(len(found))), len(found), received.lost, len(received.pending()), full > 0]


@pytest.mark.parametrize("block", [False, True])
def test_no_real_time_signal_is_lost(pid_namespace: None, programs: Programs, block: bool) -> None:
    """10,000 as fast as they go: each comes once, in order."""
    found = isolated(counted, programs.queue, 10_000, block, True, pid_namespace=True)
    assert found[:4] == [True, 10_000, 0, 0]


def test_full_pipe_is_counted(pid_namespace: None, programs: Programs) -> None:
    """Nobody reads 20,000: what is kept comes in order, and the others are counted."""
    in_order, kept, lost, left, _ = isolated(counted, programs.queue, 20_000, False, False, pid_namespace=True)
    assert (in_order, kept + lost, left) == (True, 20_000, 0)
    assert 0 < lost < 20_000
