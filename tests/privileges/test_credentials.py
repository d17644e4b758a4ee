"""`fp_credentials_set`: a change reaches every thread of the process, or none.

Everything here changes what a process may do, and so runs in processes and PID namespaces of its own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

SECOND = 10**9
CHOWN, SETPCAP, NET_RAW = 1 << 0, 1 << 8, 1 << 13
SYS = {"x86_64": {"rt_sigprocmask": 14, "capset": 126}, "aarch64": {"rt_sigprocmask": 135, "capset": 91}}[
    os.uname().machine
]


def lines(task: str = "self") -> dict[str, str]:
    text = Path(f"/proc/{task}/status").read_text()
    wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    return {key: value for key, value in (line.split(":\t", 1) for line in text.splitlines()) if key in wanted}


def of_all() -> list[dict[str, str]]:
    """What each thread shows, without repetition."""
    found: list[dict[str, str]] = []
    for task in os.listdir("/proc/self/task"):
        try:
            one = lines(f"self/task/{task}")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        if one not in found:
            found.append(one)
    return found


class Threads:
    """Threads that do what threads do: sleep, wait for a lock, spin, read a pipe, wait in poll, start others."""

    def __init__(self, count: int) -> None:
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.lock.acquire()
        self.read_end, self.write_end = os.pipe()
        ways: list[Callable[[], Any]] = [self.wait, self.want, self.spin, self.read, self.breed, self.doze]
        self.threads = [threading.Thread(target=ways[i % len(ways)]) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def wait(self) -> None:
        self.over.wait()

    def want(self) -> None:
        with self.lock:
            pass

    def spin(self) -> None:
        while not self.over.is_set():
            sum(range(1000))

    def read(self) -> None:
        os.read(self.read_end, 1)

    def breed(self) -> None:
        while not self.over.is_set():
            one = threading.Thread(target=int)
            one.start()
            one.join()

    def doze(self) -> None:
        while not self.over.is_set():
            time.sleep(0.0001)

    def end(self) -> None:
        self.over.set()
        self.lock.release()
        os.write(self.write_end, bytes(len(self.threads)))
        for thread in self.threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self.threads)
        os.close(self.read_end)
        os.close(self.write_end)


def in_thread(function: Callable[[], Any]) -> Any:
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(function()))
    thread.start()
    thread.join(30)
    return got[0]


def told(spread: Any) -> list[Any]:
    return [spread.error, spread.op, spread.tid, spread.state]


# -- it reaches all


def all_changes(count: int) -> list[Any]:
    from fastproc._native import credentials as native

    before = native.held()
    threads = Threads(count)
    left = before.permitted & ~CHOWN
    changes = [
        (native.CAPSET, (left, left, NET_RAW | SETPCAP)),
        (native.AMBIENT, (NET_RAW,)),
        (native.BOUNDING, (CHOWN,)),
        (native.SECUREBITS, (0b11,)),
        (native.KEEPCAPS, (0,)),
        (native.NO_NEW_PRIVS, (1,)),
    ]
    spread = in_thread(lambda: native.spread(changes, 10 * SECOND))
    shown = of_all()
    securebits = [native.held().securebits, in_thread(native.held).securebits]
    threads.end()
    expected = {
        "CapInh": f"{NET_RAW | SETPCAP:016x}",
        "CapPrm": f"{left:016x}",
        "CapEff": f"{left:016x}",
        "CapBnd": f"{before.bounding & ~CHOWN:016x}",
        "CapAmb": f"{NET_RAW:016x}",
        "NoNewPrivs": "1",
    }
    return [told(spread), spread.threads > count, shown == [expected], shown, securebits]


@pytest.mark.parametrize("count", [1, 8, 96])
def test_change_reaches_every_thread(count: int) -> None:
    """Also those that hold the interpreter, a lock, or start threads meanwhile (GOTCHAS G9)."""
    spread, all_took_part, as_expected, shown, securebits = isolated(all_changes, count, pid_namespace=True)
    assert spread == [0, 5, 0, ""]
    assert all_took_part
    assert as_expected, shown
    assert securebits == [3, 3]


def without_threads() -> list[Any]:
    from fastproc._native import credentials as native

    held = native.held()
    left = held.permitted & ~CHOWN
    spread = native.spread([(native.CAPSET, (left, left, 0))], SECOND)
    return [told(spread), spread.threads, native.held().permitted == left]


def test_change_of_a_process_with_one_thread() -> None:
    assert isolated(without_threads, pid_namespace=True) == [[0, 0, 0, ""], 1, True]


def many_times(rounds: int) -> list[Any]:
    """Two threads change at once, again and again, while libc changes ids with the same signal."""
    from fastproc._native import credentials as native

    threads = Threads(8)
    held = native.held()
    failed: list[Any] = []

    def change(mask: int) -> None:
        for number in range(rounds):
            effective = held.permitted & ~mask if number % 2 else held.permitted
            spread = native.spread([(native.CAPSET, (effective, held.permitted, 0))], 20 * SECOND)
            if spread.error:
                failed.append(told(spread))

    def ids() -> None:
        for number in range(rounds):
            os.setresgid(number % 2, number % 2, 0)

    workers = [threading.Thread(target=change, args=(CHOWN,)), threading.Thread(target=change, args=(NET_RAW,))]
    workers.append(threading.Thread(target=ids))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(50)
    stuck = sum(worker.is_alive() for worker in workers)
    shown = len(of_all())
    threads.end()
    return [failed, stuck, shown]


def test_changes_from_several_threads_and_by_libc_at_once() -> None:
    assert isolated(many_times, 100, pid_namespace=True) == [[], 0, 1]


def in_a_fork() -> list[Any]:
    """A copy of the process, made while a change was under way again and again, can make changes of its own."""
    from fastproc._native import credentials as native

    held = native.held()
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            native.spread([(native.CAPSET, (held.permitted, held.permitted, 0))], 10 * SECOND)

    thread = threading.Thread(target=change)
    thread.start()
    codes = []
    for _ in range(30):
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            left = held.permitted & ~CHOWN
            spread = native.spread([(native.CAPSET, (left, left, 0))], SECOND)
            os._exit(0 if told(spread) == [0, 0, 0, ""] and native.held().permitted == left else 1)
        codes.append(os.waitpid(pid, 0)[1])
    over.set()
    thread.join(20)
    return [sorted(set(codes)), native.held().permitted == held.permitted]


def test_change_in_a_forked_copy() -> None:
    assert isolated(in_a_fork, pid_namespace=True) == [[0], True]


# -- or none


def _block(how: int) -> None:
    mask = ctypes.c_uint64(1 << 32)
    assert ctypes.CDLL(None).syscall(SYS["rt_sigprocmask"], how, ctypes.byref(mask), None, 8) == 0


def unreachable() -> list[Any]:
    """One thread has the signal blocked, by the raw call."""
    from fastproc._native import credentials as native

    threads = Threads(6)
    ready, go = threading.Event(), threading.Event()
    tids: list[int] = []

    def deaf() -> None:
        _block(0)
        tids.append(threading.get_native_id())
        ready.set()
        go.wait()
        _block(1)  # the signal comes now, when nobody waits for it

    thread = threading.Thread(target=deaf)
    thread.start()
    ready.wait()
    held = native.held()
    left = held.permitted & ~CHOWN
    changes = [(native.CAPSET, (left, left, 0))]
    before = of_all()
    refused = native.spread(changes, SECOND // 5)
    unchanged = of_all() == before
    go.set()
    thread.join(10)
    second = native.spread(changes, 10 * SECOND)
    same = of_all()
    threads.end()
    return [
        told(refused),
        refused.tid == tids[0],
        unchanged,
        told(second),
        len(same),
        same[0]["CapPrm"] == f"{left:016x}",
    ]


def test_thread_that_does_not_come_leaves_all_unchanged() -> None:
    refused, is_that_thread, unchanged, second, shown, changed = isolated(unreachable, pid_namespace=True)
    assert refused[:2] == [errno.ETIMEDOUT, -1]
    assert refused[3] == "S"
    assert is_that_thread
    assert unchanged
    # Later, when it hears again, the next change reaches it, and the late signal has done no harm.
    assert [second, shown, changed] == [[0, 0, 0, ""], 1, True]


def not_permitted() -> list[Any]:
    """The kernel refuses the second of three changes, in the calling thread."""
    from fastproc._native import credentials as native

    threads = Threads(6)
    held = native.held()
    left = held.permitted & ~CHOWN
    changes = [
        (native.CAPSET, (left, left, 0)),
        (native.CAPSET, (left, left | CHOWN, 0)),
        (native.NO_NEW_PRIVS, (1,)),
    ]
    spread = native.spread(changes, 10 * SECOND)
    shown = of_all()
    unknown = native.spread([(99, ())], 10 * SECOND)
    threads.end()
    return [told(spread), [[one["CapPrm"] == f"{left:016x}", one["NoNewPrivs"]] for one in shown], told(unknown)]


def test_refused_change_is_made_in_no_thread() -> None:
    refused = [errno.EPERM, 1, 0, ""]
    assert isolated(not_permitted, pid_namespace=True) == [refused, [[True, "0"]], [errno.EINVAL, 0, 0, ""]]


def one_differs() -> list[Any]:
    """Another thread holds less than the calling one: a change that only it cannot make."""
    from fastproc._native import credentials as native

    ready, over = threading.Event(), threading.Event()
    tids: list[int] = []

    def poorer() -> None:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        assert ctypes.CDLL(None).syscall(SYS["capset"], header, (ctypes.c_uint32 * 6)()) == 0
        tids.append(threading.get_native_id())
        ready.set()
        over.wait()

    thread = threading.Thread(target=poorer)
    thread.start()
    ready.wait()
    held = native.held()
    spread = native.spread([(native.CAPSET, (held.permitted, held.permitted, 0))], 10 * SECOND)
    over.set()
    thread.join()
    return [told(spread)[:2], spread.tid == tids[0]]


def test_change_that_fails_in_another_thread_names_it() -> None:
    assert isolated(one_differs, pid_namespace=True) == [[errno.EPERM, 0], True]


def false_proc(how: str) -> list[Any]:
    """No /proc, or another file system in its place: whether all threads were reached could not be told."""
    from fastproc._native import credentials as native

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0
    assert libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0
    if how == "none":
        assert libc.umount2(b"/proc", 2) == 0
    assert libc.mount(b"tmpfs", b"/proc", b"tmpfs", 0, None) == 0
    if how == "fake":
        os.makedirs(f"/proc/self/task/{os.getpid()}")
    held = native.held()
    spread = native.spread([(native.CAPSET, (0, 0, 0))], SECOND)
    return [told(spread), native.held() == held]


@pytest.mark.parametrize("how", ["none", "fake"])
def test_change_without_a_true_proc_is_refused(how: str) -> None:
    assert isolated(false_proc, how, pid_namespace=True) == [[errno.EXDEV, -1, 0, ""], True]


# -- reading


def dumpable_flag() -> list[Any]:
    from fastproc._native import credentials as native

    found = [native.held().dumpable]
    for on in (False, True):
        native.set_dumpable(on)
        found.append(native.held().dumpable)
    return found


def test_dumpable_is_set_and_read() -> None:
    assert isolated(dumpable_flag, pid_namespace=True) == [1, 0, 1]


def test_held_is_what_the_kernel_shows() -> None:
    from fastproc._native import credentials as native

    held, shown = native.held(), lines()
    names = ("inheritable", "permitted", "effective", "bounding", "ambient")
    masks = [f"{getattr(held, name):016x}" for name in names]
    assert masks == [shown[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    assert str(held.no_new_privs) == shown["NoNewPrivs"]
