"""Every way to signal a child, tried when the child is gone and its number belongs to somebody else (GOTCHAS D1, D14).

Only in a PID namespace of its own: there clone3(set_tid) gives a process any number that is free. A stranger blocks all
signals, leads a group with the number, and has a child: whatever is sent to it, its group or its descendants is seen.

tests/run/test_strangers.py runs each way a few times, tests/soak a thousand times.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from errno import EEXIST
from pathlib import Path
from typing import Any

import fastproc
import fastproc.aio
import fastproc.subprocess as drop_in
from fastproc import _native
from fastproc._engine import orphans
from fastproc.containment import Tree
from support.sandbox import install

EXIT = "/bin/true"


class Maker:
    """Makes processes that have a number which a child of ours had, and ends them.

    Args:
        library: tests/programs/hostile.c.
    """

    def __init__(self, library: Any) -> None:
        self._library = library

    def make(self, number: int) -> None:
        """Make one; it has a child when this is over."""
        end = time.monotonic() + 5.0
        # A number is not free as long as a group or session has it.
        while (made := self._library.hostile_stranger(number)) == -EEXIST and time.monotonic() < end:
            time.sleep(0.001)
        if made != number:
            raise OSError(-made, f"clone3(set_tid={number}): {os.strerror(-made)}")
        while not child_of(number):
            pass

    def end(self, number: int) -> bool:
        """End it; return whether its status was still there."""
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
        try:
            os.waitpid(number, 0)
        except ChildProcessError:
            return False
        return True


class Foreigner(Maker):
    """Makes them in another process, forked now: they are no children of ours, and no filter of ours is theirs."""

    def __init__(self, library: Any) -> None:
        super().__init__(library)
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        if os.fork() == 0:
            try:
                os.close(self._orders)
                while order := os.read(orders, 4):
                    number = int.from_bytes(order, "little", signed=True)
                    done = super().make(number) is None if number > 0 else super().end(-number)
                    os.write(answers, bytes([done]))
            finally:
                os._exit(1)
        os.close(orders)
        os.close(answers)

    def _ask(self, number: int) -> bool:
        os.write(self._orders, number.to_bytes(4, "little", signed=True))
        answer = os.read(self._answers, 1)
        assert answer, "the other process has ended"
        return answer == b"\1"

    def make(self, number: int) -> None:
        """As the other's."""
        self._ask(number)

    def end(self, number: int) -> bool:
        """As the other's."""
        return self._ask(-number)


def child_of(number: int) -> int:
    """The only child of a process, or 0."""
    return int(Path(f"/proc/{number}/task/{number}/children").read_text() or 0)


def done_to(pid: int) -> list[str]:
    """What can be seen of signals that were sent to a process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return ["reaped"]
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    pending = (int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)) & ~(1 << (signal.SIGCHLD - 1))
    found = [fields["State"]] if fields["State"][0] not in "SR" else []
    return found + ([f"signals {pending:#x}"] if pending else [])


class Bench:
    """Runs the ways and counts.

    Attributes:
        tries: how many.
        hits: what happened to strangers: (way, what).
    """

    def __init__(self, hostile: str) -> None:
        self.library = ctypes.CDLL(hostile)
        self._makers = {True: Foreigner(self.library), False: Maker(self.library)}
        self.tries = 0
        self.hits: list[tuple[str, str]] = []

    @contextmanager
    def reborn(self, number: int, way: str, foreign: bool = True, ends: bool = False) -> Iterator[None]:
        """A stranger has the number, while something is tried.

        Args:
            number: free.
            way: what is tried.
            foreign: whether the stranger is no child of ours.
            ends: whether it has ended by itself by then: nothing can be done to it but to take its status.
        """
        maker = self._makers[foreign]
        maker.make(number)
        pids = (number, child_of(number))
        if ends:
            os.kill(number, signal.SIGKILL)
        try:
            yield
        finally:
            self.tries += 1
            found = [] if ends else [what for pid in pids for what in done_to(pid)]
            if not maker.end(number):
                found.append("status taken")
            self.hits += [(way, what) for what in found]


# -- a child that is gone: reaped by us, or by another part of the program behind our back


def _steal(pid: int) -> None:
    os.waitpid(pid, 0)


Call = Callable[[Any], object]

CALLS: dict[str, Call] = {
    "send_signal": lambda process: process.send_signal(signal.SIGUSR1),
    "terminate": lambda process: process.terminate(),
    "kill": lambda process: process.kill(),
    "stop": lambda process: process.stop(0.01),
    "stop at once": lambda process: process.stop(0),
    "kill_tree": lambda process: process.kill_tree(0.01),
    "kill_tree at once": lambda process: process.kill_tree(0),
    "with": lambda process: process.__exit__(None, None, None),
    "Ctrl-C": lambda process: process.interrupt_group(),
    "Ctrl-C in start": lambda process: process.linger(),
    "error in start": lambda process: process.abandon(),
}

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "group": {"pgid": 0},
    "session": {"setsid": True},
    "tree": {"kill_tree": True, "pgid": 0},
}


def _kinds(pidfds: bool) -> tuple[bool, ...]:
    """Whether strangers are foreign. By number alone a stolen child cannot be told from a later one of ours."""
    return (True, False) if pidfds else (True,)


def handles(bench: Bench, pidfds: bool) -> None:
    """Every call of a Process: each kind of child, reaped by each, and each kind of stranger."""
    for kind, options in OPTIONS.items():
        for call, do in CALLS.items():
            for stolen in (True, False):
                for foreign in _kinds(pidfds):
                    process = fastproc.start(EXIT, **options)
                    if stolen:
                        _steal(process.pid)
                    else:
                        process.wait()
                    way = f"{call} of a {kind}, {'stolen' if stolen else 'reaped'}, {foreign=}"
                    with bench.reborn(process.pid, way, foreign), suppress(fastproc.ExitStatusUnknown):
                        do(process)
                    process.__exit__(None, None, None)


def popens(bench: Bench, pidfds: bool) -> None:
    """The drop-in's, also of children that the standard library makes."""
    calls: dict[str, Call] = {
        "send_signal": lambda popen: popen.send_signal(signal.SIGUSR1),
        "terminate": lambda popen: popen.terminate(),
        "kill": lambda popen: popen.kill(),
        "with": lambda popen: popen.__exit__(None, None, None),
    }
    for call, do in calls.items():
        for options in ({}, {"start_new_session": True}, {"preexec_fn": int}):
            for stolen in (True, False):
                for foreign in _kinds(pidfds):
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", DeprecationWarning)
                        popen = drop_in.Popen([EXIT], **options)  # type: ignore[call-overload]
                    _ = _steal(popen.pid) if stolen else popen.wait()
                    way = f"Popen.{call} {options}, {stolen=} {foreign=}"
                    with bench.reborn(popen.pid, way, foreign), suppress(fastproc.ExitStatusUnknown):
                        do(popen)


async def _awaited(bench: Bench, pidfds: bool) -> None:
    for call in ("send_signal", "terminate", "kill", "stop"):
        for foreign in _kinds(pidfds):
            child = await fastproc.aio.start(EXIT, pgid=0)
            _steal(child.pid)
            with bench.reborn(child.pid, f"aio {call}, {foreign=}", foreign):
                done = getattr(child, call)(*((signal.SIGUSR1,) if call == "send_signal" else ()))
                if done is not None:
                    with suppress(fastproc.ExitStatusUnknown):
                        await done


def awaited(bench: Bench, pidfds: bool) -> None:
    """Those of an event loop."""
    asyncio.run(_awaited(bench, pidfds))


def dropped(bench: Bench, pidfds: bool) -> None:
    """The reaper: a dropped handle's child was stolen, and a later child of the program has its number and ends."""
    if not pidfds:
        return
    process = fastproc.start(EXIT)
    pid = process.pid
    process.detach()
    del process
    gc.collect()
    _steal(pid)
    with bench.reborn(pid, "reaper", foreign=False, ends=True):
        orphans.reap()
        assert not orphans.pending


def members(bench: Bench, _pidfds: bool) -> None:
    """A descendant that was found, and is gone when its tree is killed."""
    if not _native.features()["pidfd_signal"]:
        return  # others than the child are not signalled at all then
    script = "sleep 60 & echo $!; wait $!; echo gone; exec sleep 60"
    for kill in ("kill", "signal"):
        with fastproc.start("sh", "-c", script, stdout=fastproc.PIPE, pgid=0) as process:
            said = iter(process.lines(text=True))
            number = int(next(said))
            tree = Tree(process)
            tree.is_gone()
            assert number in tree._members
            os.kill(number, signal.SIGKILL)
            assert next(said) == "gone"
            with bench.reborn(number, f"tree {kill}"):
                if kill == "kill":
                    tree.kill()
                else:
                    tree.signal(signal.SIGUSR1)
            tree.close()


# -- a run whose child is reaped, while another process holds its pipe: its deadline, its Ctrl-C

HELD = "echo $$ >&8; read go <&9; setsid sh -c 'read end' <&9 8>&- & exit 0"


class Held:
    """A run whose child ends at once, while a descendant in another session holds its outputs.

    In another thread the child's number is given to a stranger as soon as it is free.

    Args:
        bench: see there.
        way: how the run is ended.
        then: called while the stranger is there, which stays until the run is over.
    """

    def __init__(self, bench: Bench, way: str, then: Callable[[], None] | None = None) -> None:
        self._bench, self._way, self._then = bench, way, then
        self._said, self._says = os.pipe()
        self._told, self._tell = os.pipe()
        self._over = threading.Event()
        self.reborn = 0.0

    def run(self, **options: Any) -> None:
        """Run into the deadline or the interrupt."""
        thread = threading.Thread(target=self._reuse)
        thread.start()
        try:
            fds = {8: self._says, 9: self._told}
            fastproc.run("sh", "-c", HELD, capture=True, drain_timeout=None, fds=fds, **options)
        finally:
            self._over.set()
            os.close(self._says)  # without a child the thread reads an end
            thread.join()
            for fd in (self._said, self._told, self._tell):
                os.close(fd)

    def _reuse(self) -> None:
        said = os.read(self._said, 20)
        if not said:
            return
        number = int(said)
        os.write(self._tell, b"go\n")
        while os.path.exists(f"/proc/{number}"):
            time.sleep(0.0005)
        with self._bench.reborn(number, self._way):
            self.reborn = time.monotonic()
            if self._then is not None:
                self._then()
            self._over.wait(30)
        os.write(self._tell, b"end\n")


def deadlines(bench: Bench, _pidfds: bool) -> None:
    """The timeout of run(): SIGTERM, SIGKILL."""
    for engine in ("", "bulk", "exchange"):
        for options in ({}, {"kill_tree": True}):
            _force(engine)
            timeout, tries = 0.2, bench.tries
            # On a busy machine the deadline may come first; then it was no try.
            while bench.tries == tries:
                begin = time.monotonic()
                held = Held(bench, f"run's deadline {engine} {options}")
                with suppress(fastproc.TimeoutExpired):
                    held.run(timeout=timeout, grace=0.02, check=False, **options)
                if not 0.0 < held.reborn < begin + timeout:
                    timeout, bench.tries = timeout * 2.0, tries
    _force("")


def interrupts(bench: Bench, _pidfds: bool) -> None:
    """Ctrl-C in run(), with a child in a group of its own, to which it would be passed on."""
    main = threading.main_thread().ident
    assert main is not None
    for engine in ("bulk", "exchange"):
        _force(engine)
        held = Held(bench, f"run's Ctrl-C {engine}", lambda: signal.pthread_kill(main, signal.SIGINT))
        try:
            held.run(pgid=0)
            raise AssertionError("not interrupted")
        except KeyboardInterrupt:
            pass
    _force("")


def _force(engine: str) -> None:
    sys.modules["fastproc._run"]._FORCED_ENGINE = engine  # type: ignore[attr-defined]


FAST = (handles, popens, awaited, dropped, members)
SLOW = (deadlines, interrupts)


def try_all(hostile: str, tries: int, rules: list[list[Any]]) -> dict[str, Any]:
    """Try every way once, and then again until there are so many tries, under a filter of system calls.

    Returns:
        How many tries there were, and the strangers that were hit.
    """
    bench = Bench(hostile)
    install(bench.library, rules)
    with fastproc.start(EXIT) as process:
        pidfds = process.pidfd >= 0
        process.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for way in SLOW:
            way(bench, pidfds)
        while True:
            for way in FAST:
                way(bench, pidfds)
            if bench.tries >= tries:
                return {"tries": bench.tries, "hits": bench.hits}
