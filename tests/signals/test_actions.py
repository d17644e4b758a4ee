"""fastproc.signals: flags, shutdown, default actions, what children and copies have of it, forwarding.

What is sent by number is sent in PID namespaces of its own.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated
from fastproc import signals
from support.drivers import LOOPS, need, run_in, sleep, together

USR1, USR2, INT, TERM = signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGTERM
RT = int(signal.SIGRTMIN) + 1


# -- flags and shutdown


def test_flag_counts_and_is_cleared() -> None:
    """Set at once, for each of its signals, and kept after its end."""
    with signals.Flag("USR1", "USR2") as flag, signals.Flag("USR1") as other:
        assert (bool(flag), flag.count) == (False, 0)
        signal.raise_signal(USR1)
        signal.raise_signal(USR2)
        assert (bool(flag), flag.count, bool(other), other.count) == (True, 2, True, 1)
        assert (flag.clear(), bool(flag), flag.clear(), bool(other)) == (True, False, False, True)
        signal.raise_signal(USR2)
        assert (bool(flag), other.count) == (True, 1)
    assert (bool(flag), flag.count, other.count) == (True, 3, 1)


@pytest.mark.parametrize("loop", LOOPS)
def test_shutdown_is_awaited_by_several(loop: str) -> None:
    """All tasks that wait hear of the first signal, also later ones."""
    need(loop)

    async def main() -> list[Any]:
        with signals.Shutdown("USR1", force=()) as shutdown:

            async def wait() -> str:
                return (await shutdown).name

            async def send() -> str:
                await sleep(loop, 0.01)
                signal.raise_signal(USR1)
                signal.raise_signal(USR1)
                return ""

            found = await together(loop, wait, wait, send)
            return [*found, (await shutdown).name, shutdown.requested, shutdown.count]

    assert run_in(loop, main) == ["SIGUSR1", "SIGUSR1", "", "SIGUSR1", True, 2]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"force": ("HUP",)}, "force: each of these signals must be one of"),
        ({"force": ("KILL",)}, "force: SIGKILL cannot"),
        ({"patience": -1}, "patience: must be seconds"),
        ({"patience": float("nan")}, "patience: must be seconds"),
        ({"status": 256}, "status: must be an exit status"),
        ({"status": True}, "status: must be an exit status"),
    ],
)
def test_shutdown_refuses_bad_options(options: dict[str, Any], text: str) -> None:
    """By name, before anything is installed."""
    with pytest.raises(ValueError, match=text):
        signals.Shutdown(**options)


SHUTDOWN = """
import ctypes, signal, sys, time
from fastproc import signals
with signals.Shutdown({options}) as shutdown:
    print("ready", flush=True)
    {body}
    print(shutdown.signal.name, flush=True)
"""
# Locks a mutex twice, and holds the interpreter: no handler of Python's can run.
HANG = "c = ctypes.PyDLL(None); lock = (ctypes.c_char * 64)(); c.pthread_mutex_lock(lock); c.pthread_mutex_lock(lock)"
WAIT = "shutdown.wait()"


def shut_down(options: str, body: str, sent: list[int]) -> list[Any]:
    code = SHUTDOWN.format(options=options, body=body)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    for sig in sent:
        child.send_signal(sig)
        time.sleep(0.03)
    if child.poll() is None and body == HANG:
        child.kill()
    with child:
        return [child.stdout.read(), child.wait(20)]


@pytest.mark.parametrize(
    ("options", "body", "sent", "expected"),
    [
        ("", WAIT, [TERM], ["SIGTERM\n", 0]),
        ("", WAIT, [INT], ["SIGINT\n", 0]),
        ("patience=0", HANG, [INT, INT], ["", -INT]),
        ("patience=0", HANG, [TERM, INT], ["", -INT]),
        ("patience=0", HANG, [TERM, TERM], ["", -signal.SIGKILL]),
        ("patience=0, force=('TERM',)", HANG, [TERM, TERM], ["", -TERM]),
        ("patience=0, status=3", HANG, [INT, INT], ["", 3]),
        ("patience=60", HANG, [INT, INT], ["", -signal.SIGKILL]),
    ],
)
def test_shutdown_asks_first_and_forces_then(
    pid_namespace: None, options: str, body: str, sent: list[int], expected: list[Any]
) -> None:
    """The second Ctrl-C ends even a program that hangs in C, by the signal or with the status that was asked for."""
    assert isolated(shut_down, options, body, [int(sig) for sig in sent], pid_namespace=True) == expected


# -- default actions

DEFAULT = """
import signal, sys
from fastproc import signals
number = int(sys.argv[1])
received = signals.Signals(number) if number in {catchable} else None
signals.do_default(number)
still = received is None
if received is not None:
    signal.raise_signal(number)
    still = received.get(5).signal == number
    received.close()
print("went on", still)
"""


def default_actions() -> dict[str, list[int]]:
    """What the parent of a program sees that does the default action of each signal."""
    catchable = set(range(1, 65)) - {9, 19, 11, 7, 8, 4, 32, 33}
    found: dict[str, list[int]] = {}
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(1, 65):
        if number in (32, 33):
            continue
        code = DEFAULT.format(catchable=catchable)
        child = subprocess.Popen([sys.executable, "-c", code, str(number)], stdout=subprocess.PIPE, process_group=0)
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        what = "?"
        if os.WIFSTOPPED(status):
            what = "stop" if os.WSTOPSIG(status) == number else "stopped by another"
            child.send_signal(signal.SIGCONT)
            _, status = os.waitpid(child.pid, 0)
        elif os.WIFSIGNALED(status):
            what = "end" if os.WTERMSIG(status) == number else "ended by another"
        assert child.stdout is not None
        said = child.stdout.read()
        child.stdout.close()
        child.returncode = status
        if what == "?" or what == "stop":
            what += f" {said.decode().strip()} {status}"
        found.setdefault(what, []).append(number)
    return found


def test_default_action_of_every_signal(pid_namespace: None) -> None:
    """The parent sees the true signal; stops are stops, and the receiver is there afterwards; others do nothing."""
    found = isolated(default_actions, pid_namespace=True, timeout=120)
    by_kind: dict[str, list[int]] = {}
    for number in range(1, 65):
        if number not in (32, 33):
            by_kind.setdefault(signals.default_of(number), []).append(number)
    assert found == {
        "end": sorted(by_kind["terminate"] + by_kind["core"]),
        "stop went on True 0": by_kind["stop"],
        "? went on True 0": sorted(by_kind["ignore"] + by_kind["continue"]),
    }


def test_default_action_of_process_1_is_an_exit(pid_namespace: None) -> None:
    """No signal of its own can end it: 128 plus the number."""
    code = "from fastproc import signals; signals.do_default('TERM')"
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", code]
    assert subprocess.run(command, check=False, timeout=60).returncode == 128 + TERM


# -- children and copies


@pytest.mark.parametrize("block", [False, True])
def test_children_inherit_neither_mask_nor_handlers(mechanism: str, probe: Callable[..., Any], block: bool) -> None:
    """Whatever is received here: a child begins with an empty mask and the default action."""
    with signals.Signals("USR1", "TERM", "CHLD", RT, block=block), signals.Flag("HUP"):
        found = probe()
    assert (found.signals("SigBlk"), found.signals("SigCgt")) == (set(), set())
    assert found.signals("SigIgn") & {USR1, TERM, signal.SIGCHLD, signal.SIGHUP, RT} == set()


def copies() -> list[Any]:
    """A fork has none of it: not the mask, not the receiver, and a signal to it reaches no receiver of ours."""
    received = signals.Signals("USR1", "TERM", block=True)
    handled: list[int] = []
    signal.signal(USR1, lambda number, _frame: handled.append(number))
    read, write = os.pipe()
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with received._inbox._lock:
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    pid = os.fork()
    if pid != 0:
        release.set()
        thread.join()
    if pid == 0:
        said: list[Any] = [sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))]
        try:
            received.pending()
        except fastproc.ProcessError as error:
            said.append("fork" in str(error))
        signal.raise_signal(USR1)
        said.append(list(handled))
        received.close()
        with signals.Signals("USR1") as own:
            signal.raise_signal(USR1)
            said.append(own.get(5.0).pid == os.getpid())
        os.write(write, repr(said).encode())
        signal.pause()
    said = os.read(read, 1000).decode()
    os.kill(pid, TERM)
    _, status = os.waitpid(pid, 0)
    os.kill(os.getpid(), USR1)
    found = [said, os.WTERMSIG(status), [one.pid == os.getpid() for one in received.pending()]]
    received.close()
    return found


def test_forked_copy_is_told_of_its_own_signals_only(pid_namespace: None) -> None:
    """GOTCHAS I2, I3: the copy has the earlier handler and no mask, and can receive; the parent hears nothing.

    It may close what another thread was using.
    """
    assert isolated(copies, pid_namespace=True) == ["[[], True, [10], True]", TERM, [True]]


# -- forwarding

TRAP = "trap 'echo got {0}; exit 5' {0}; echo ready; while :; do sleep 0.01; done"


def forwarded(mark: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    me = os.getpid()
    # One child, while this process waits; twice the same signal is no error, after its end it reaches nobody.
    child = fastproc.start("sh", "-c", TRAP.format("TERM"), stdout=fastproc.PIPE)
    with child, signals.forward(child) as forwarding:
        assert child.readline() == b"ready\n"
        os.kill(me, TERM)
        found["child"] = [child.wait(10), child.read().decode(), forwarding.count]
        os.kill(me, TERM)
        found["after"] = forwarding.count
    # A pipeline, and a command that it starts later.
    first = fastproc.cmd("sh", "-c", "echo one; sleep 0.2")
    trap = TRAP.format("USR1").replace("echo ready", f"echo >{mark}")
    second = fastproc.cmd("sh", "-c", trap)
    with first.then(second).start(capture=True, check=False) as pipeline, signals.forward(pipeline, "USR1"):
        deadline = time.monotonic() + 20
        while not os.path.exists(mark) and time.monotonic() < deadline:
            pipeline.wait_timeout(0.01)
        os.kill(me, USR1)
        result = pipeline.wait(10)
        found["pipeline"] = [stage.returncode for stage in result.stages]
    # Values are kept.
    code = (
        "from fastproc import signals\n"
        f"with signals.Signals({RT}) as received:\n"
        "    print('ready', flush=True)\n"
        "    print([received.get(20).value for _ in range(3)], flush=True)"
    )
    child = fastproc.start(sys.executable, "-c", code, stdout=fastproc.PIPE)
    with child:
        assert child.readline() == b"ready\n"
        for value in (1, -(1 << 62), 1 << 40):
            signals.queue(child, RT, value)
        found["values"] = child.readline().decode()
        child.wait(10)
        signals.queue(child, RT, 1)
    # The group that it leads.
    child = fastproc.start("sh", "-c", "sleep 600 & echo $!; wait; wait", stdout=fastproc.PIPE, pgid=0)
    with child, signals.forward(child, "TERM", group=True):
        inner = int(child.readline())
        pidfd = os.pidfd_open(inner)
        os.kill(me, TERM)
        found["group"] = child.wait(10)
        found["inner"] = bool(select.select([pidfd], [], [], 10)[0])
        os.close(pidfd)
    return found


def test_forwarding_to_a_child_a_pipeline_a_group(pid_namespace: None, tmp_path: Path) -> None:
    """At once, while we wait; to commands that are started later; values are kept."""
    assert isolated(forwarded, str(tmp_path / "mark"), pid_namespace=True) == {
        "child": [5, "got TERM\n", 1],
        "after": 2,
        "pipeline": [0, 5],
        "values": f"[1, {-(1 << 62)}, {1 << 40}]\n",
        "group": -TERM,
        "inner": True,
    }


TERMINAL = """
import signal, sys, time
import fastproc
from fastproc import signals

COUNT = (
    "import signal, time; seen = []; signal.signal(signal.SIGINT, lambda *_: seen.append(1));"
    "print('child', flush=True); end = time.monotonic() + 0.6;"
    "exec('while time.monotonic() < end: time.sleep(0.05)'); print('interrupts', len(seen), flush=True)"
)
pgid = {} if sys.argv[1] == "ours" else {"pgid": 0}
child = fastproc.start(sys.executable, "-c", COUNT, **pgid)
with child, signals.forward(child, "INT"):
    child.wait()
"""


@pytest.mark.parametrize("group", ["ours", "own"])
def test_ctrl_c_is_forwarded_to_whom_the_terminal_does_not_send_it(group: str) -> None:
    """A child in our group has it from the terminal, one in its own gets it passed on: once each."""
    command = fastproc.cmd(sys.executable, "-c", TERMINAL, group)
    with command.start(pty=True, setsid=True) as process:
        process.expect(b"child", timeout=30)
        process.send_key("intr")
        process.expect(b"interrupts 1", timeout=30)
        assert process.wait(30) == 0


@pytest.mark.parametrize("target", [None, 1, os, "x"])
def test_only_children_of_ours_are_targets(target: Any) -> None:
    """A number is none: it could be anybody's."""
    with pytest.raises(TypeError, match="target: must be a Process or Pipeline"):
        signals.forward(target, "TERM")
    with pytest.raises(TypeError, match="target: must be a Process or Pipeline"):
        signals.queue(target, "USR1", 1)


def test_forwarding_and_values_refuse_bad_input() -> None:
    """By name, and nothing is installed."""
    with fastproc.start("sleep", "60") as child:
        for bad, kind in ((1.5, TypeError), (True, TypeError), (1 << 63, ValueError), (-(1 << 63) - 1, ValueError)):
            with pytest.raises(kind, match="value: "):
                signals.queue(child, "USR1", bad)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="group: the child does not lead a process group"):
            signals.forward(child, "TERM", group=True)
        with pytest.raises(ValueError, match="signals: SIGKILL cannot"):
            signals.forward(child, "KILL")
    with (fastproc.cmd("true") | fastproc.cmd("true")).start() as pipeline:
        with pytest.raises(ValueError, match="group: is for one child"):
            signals.forward(pipeline, "TERM", group=True)
        with pytest.raises(TypeError, match="a value is sent to one Process"):
            signals.queue(pipeline, "USR1", 1)
    with signals.forward(child, "TERM") as forwarding:
        signal.raise_signal(TERM)
        assert forwarding.count == 1


@pytest.mark.parametrize("loop", LOOPS)
def test_forwarding_to_what_a_loop_has_started(loop: str) -> None:
    """A process and a pipeline of fastproc.aio."""
    need(loop)
    from fastproc import aio

    async def main() -> list[Any]:
        found: list[Any] = []
        async with aio.start("sh", "-c", TRAP.format("USR1"), stdout=fastproc.PIPE) as child:
            assert await child.readline() == b"ready\n"
            with signals.forward(child, "USR1"):
                signal.raise_signal(USR1)
                found.append(await child.wait())
        pair = fastproc.cmd("sleep", "60") | fastproc.cmd("sleep", "61")
        async with aio.start(pair, check=False) as pipeline:
            with signals.forward(pipeline, "TERM"):
                signal.raise_signal(TERM)
                result = await pipeline.wait()
            found.append([stage.returncode for stage in result.stages])
        return found

    assert run_in(loop, main) == [5, [-TERM, -TERM]]
