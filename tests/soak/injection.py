"""One exception at every line that a public call goes through: it comes out, and nothing is left or broken.

A trace function stands for a signal handler that raises. A first run notes the lines of `fastproc` at which the calling
thread arrives; then there is one run for each of them in which the exception is raised just there. After each of these

- the exception that was raised has come out, that very object, and was swallowed nowhere;
- no child, thread, descriptor or cgroup is left;
- the same call, and a plain run, a pipeline and an iteration work.

    python tests/soak/injection.py [--visits N] [--step N] [SCENARIO ...]

prints one line for each fault, and at the end how many of how many points held. A point that hangs ends the process;
the one above, `sweep()`, begins again after it.
"""

from __future__ import annotations

import argparse
import contextlib
import dis
import faulthandler
import gc
import json
import os
import subprocess
import sys
import time
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent.parent))

import fastproc  # noqa: E402
from fastproc._engine import orphans  # noqa: E402

SOURCE = str(Path(fastproc.__file__).parent) + os.sep
HANG = 12
"""Seconds after which a point is one that hangs."""
PATIENCE = 3.0
"""Seconds in which what was ended must be gone."""

Point = tuple[str, int, int]
"""A file, a line, and the how manieth arrival there."""


class Injected(KeyboardInterrupt):
    """What is raised."""


# -- the trace


def _leaves_block(frame: types.FrameType) -> bool:
    """Whether a line event is that of the end of a `with` block, which calls `__exit__(None, None, None)`.

    No signal handler can run there: nothing between the last call of the block and that one asks for signals.
    """
    code = frame.f_code
    found = _exits.get(code)
    if found is None:
        steps = [step for step in dis.get_instructions(code) if step.opname not in ("CACHE", "NOP")]
        found = _exits[code] = set()
        for first, second, third in zip(steps, steps[1:], steps[2:], strict=False):
            if all(step.opname == "LOAD_CONST" and step.argval is None for step in (first, second, third)):
                found.add(first.offset)
    return frame.f_lasti in found


_exits: dict[types.CodeType, set[int]] = {}

OUT_OF_REACH = {
    # Python code that the interpreter calls in a destructor: whatever it raises is printed.
    "finalize.__call__",
    # Of `with start(...)`: whoever has called start() has the handle already, and nobody else could end its child.
    "Process.__enter__",
    "Pipeline.__enter__",
    "Popen.__enter__",
    "Pool.__enter__",
    "Process.__aenter__",
}


def _is_out_of_reach(frame: types.FrameType | None) -> bool:
    """Whether the interpreter or the caller, and not the library, decides what becomes of an exception here."""
    trio = sys.modules.get("trio")
    if trio is not None:
        # Trio keeps KeyboardInterrupt from its own tasks and from what it calls itself.
        with contextlib.suppress(RuntimeError):
            if trio.lowlevel.currently_ki_protected():
                return True
    while frame is not None:
        if frame.f_code.co_qualname in OUT_OF_REACH:
            return True
        frame = frame.f_back
    return False


class Tracer:
    """Calls something at the lines of the package that this thread arrives at."""

    def __init__(self, on_line: Callable[[types.FrameType, Point], None]) -> None:
        self._on_line = on_line
        self._counts: Counter[tuple[str, int]] = Counter()

    def _call(self, frame: types.FrameType, _event: str, _arg: object) -> Any:
        name = frame.f_code.co_filename
        return self._line if name.startswith(SOURCE) and frame.f_code.co_name != "<module>" else None

    def _line(self, frame: types.FrameType, event: str, _arg: object) -> Any:
        if event == "line" and not _leaves_block(frame):
            place = frame.f_code.co_filename[len(SOURCE) :], frame.f_lineno
            self._counts[place] += 1
            self._on_line(frame, (*place, self._counts[place]))
        return self._line

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(None)


def points(action: Callable[[], object], visits: int) -> list[Point]:
    """Return the places at which an action arrives, each up to so many times."""
    found: dict[Point, None] = {}

    def note(frame: types.FrameType, point: Point) -> None:
        if point[2] <= visits and not _is_out_of_reach(frame):
            found[point] = None

    with Tracer(note).on():
        action()
    return list(found)


# -- what is left


def state() -> tuple[Counter[str], int, set[str]]:
    """Return the open descriptors, the number of threads, and the cgroups of this process's making."""
    names: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if not target.startswith(f"/proc/{os.getpid()}/fd"):
                names[
                    "pipe" if target.startswith("pipe:") else "socket" if target.startswith("socket:") else target
                ] += 1
    return names, len(os.listdir("/proc/self/task")), cgroups()


def cgroups() -> set[str]:
    """Return the cgroups that a contained tree of this process has."""
    return {str(path) for path in Path("/sys/fs/cgroup").glob(f"**/fastproc*{os.getpid()}*")} if GROUPS else set()


GROUPS = Path("/sys/fs/cgroup/cgroup.controllers").exists()


def children() -> list[int]:
    """Return the pids of the children, zombies too."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def left(before: tuple[Counter[str], int, set[str]]) -> str:
    """Say what is more than before, once what is being ended had time; nothing is ""."""
    until = time.monotonic() + PATIENCE
    while True:
        orphans.reap()
        gc.collect()
        names, threads, groups = state()
        found = []
        if pids := children():
            found.append(f"children {[(pid, _command(pid)) for pid in pids]}")
        if more := names - before[0]:
            found.append(f"descriptors {dict(more)}")
        if threads > before[1]:
            found.append(f"{threads - before[1]} threads")
        if groups - before[2]:
            found.append(f"cgroups {sorted(groups - before[2])}")
        if not found or time.monotonic() > until:
            return ", ".join(found)
        time.sleep(0.002)


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return "?"


# -- one point


class Sweep:
    """Runs one action with an exception at one point after the other.

    Args:
        action: what to do, again and again with the same effect.
        visits: how many arrivals at one line count.
    """

    def __init__(self, action: Callable[[], object], visits: int) -> None:
        self._action = action
        for _ in range(3):
            action()
            self.probe()
        gc.collect()
        self.points = points(action, visits)
        found = points(action, visits)
        # Not every run goes the same way: a child may be over at once.
        self.points += [point for point in found if point not in set(self.points)]
        self.before = state()

    @staticmethod
    def probe() -> None:
        """Use the library as anybody would afterwards."""
        assert fastproc.run("echo", "x", capture=True).stdout == b"x\n"
        assert list(fastproc.cmd("echo", "x").lines()) == [b"x"]
        pipeline = fastproc.cmd("echo", "x") | fastproc.cmd("cat")
        assert pipeline.run(capture=True).stdout == b"x\n"

    def inject(self, point: Point) -> str:
        """Raise the exception at a point; return what was wrong, or "" when nothing was."""
        injected = Injected(point)
        fired: list[str] = []
        wrong: list[str] = []
        ignored: list[str] = []

        def strike(frame: types.FrameType, here: Point) -> None:
            if here == point and not fired and not _is_out_of_reach(frame):
                fired.append(frame.f_code.co_qualname)
                sys.settrace(None)
                raise injected

        hook = sys.unraisablehook
        sys.unraisablehook = lambda args: ignored.append(f"{args.err_msg} {args.object!r}: {args.exc_value!r}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                try:
                    with Tracer(strike).on():
                        self._action()
                    if fired:
                        wrong.append("nothing came out")
                except BaseException as error:
                    if error is not injected and not _holds(error, injected):
                        wrong.append(f"{type(error).__name__}({str(error)[:80]}) came out")
                    if not fired:
                        wrong.append("without an injection")
                    error.__traceback__ = None
                injected.__traceback__ = None
                injected.__context__ = None
                injected.__dict__.clear()
                if fired and (more := left(self.before)):
                    wrong.append(f"left: {more}")
                    self.before = state()
                if fired:
                    try:
                        self._action()
                        self.probe()
                    except BaseException as error:
                        wrong.append(f"afterwards {type(error).__name__}({str(error)[:80]})")
                    if more := left(self.before):
                        wrong.append(f"left afterwards: {more}")
                        self.before = state()
        finally:
            sys.unraisablehook = hook
        wrong += [f"ignored: {text}" for text in ignored]
        return f"{fired[0] if fired else '?'}: {'; '.join(wrong)}" if wrong else ""


def _holds(error: BaseException, injected: BaseException) -> bool:
    """Whether an exception group, as trio raises it, has this one and no other."""
    return isinstance(error, BaseExceptionGroup) and all(
        one is injected or _holds(one, injected) for one in error.exceptions
    )


def work(name: str, visits: int, first: int, step: int = 1) -> None:
    """Sweep one scenario from a point on, and print a JSON line before and after each."""
    from injected import SCENARIOS

    faulthandler.enable()
    with contextlib.ExitStack() as stack:
        action = SCENARIOS[name](stack)
        # Its thread counts from the beginning.
        faulthandler.dump_traceback_later(60, exit=True)
        sweep = Sweep(action, visits)
        for number in range(first, len(sweep.points), step):
            point = sweep.points[number]
            print(json.dumps({"at": number, "point": point}), flush=True)
            faulthandler.dump_traceback_later(HANG, exit=True)
            wrong = sweep.inject(point)
            print(json.dumps({"done": number, "wrong": wrong}), flush=True)


def sweep(name: str, visits: int = 1, first: int = 0, step: int = 1) -> tuple[int, list[str]]:
    """Sweep each `step`-th point of one scenario, in processes of its own; return their number, and what was wrong."""
    done = 0
    faults: list[str] = []
    while True:
        command = [sys.executable, str(HERE), "--work", f"--visits={visits}", f"--from={first}", f"--step={step}", name]
        begun: tuple[int, Any] | None = None
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            assert worker.stderr is not None
            for text in worker.stdout:
                if not text.startswith("{"):
                    continue
                message = json.loads(text)
                if "at" in message:
                    begun = message["at"], message["point"]
                else:
                    if message["wrong"]:
                        assert begun is not None
                        faults.append(f"{name} {begun[1]} {message['wrong']}")
                    begun = None
                    done += 1
                    first = message["done"] + step
            said = worker.stderr.read()
        if worker.returncode == 0:
            return done, faults
        if begun is None:
            faults.append(f"{name}: the worker ended with {worker.returncode}: {said[-1500:]}")
            return max(done, 1), faults
        lines = [line.strip() for line in said.splitlines() if SOURCE in line or "Error" in line]
        faults.append(f"{name} {begun[1]} hangs or ends the process ({worker.returncode}): {' | '.join(lines[:6])}")
        done += 1
        first = begun[0] + step


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--visits", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--work", action="store_true")
    parser.add_argument("scenario", nargs="*")
    given = parser.parse_args()
    if given.work:
        work(given.scenario[0], given.visits, given.first, given.step)
        return 0
    from injected import SCENARIOS

    held = total = 0
    for name in given.scenario or SCENARIOS:
        number, faults = sweep(name, given.visits, given.first, given.step)
        total += number
        held += number - len(faults)
        for fault in faults:
            print("FAULT", fault, flush=True)
        print(f"{name}: {number - len(faults)} of {number}", flush=True)
    print(f"{held} of {total}", flush=True)
    return held != total


if __name__ == "__main__":
    sys.exit(main())
