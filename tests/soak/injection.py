"""One exception at every line that a public call goes through: it comes out, and nothing is left or broken.

A trace function stands for a signal handler that raises. A first run notes the lines of `fastproc` at which the calling
thread arrives; then there is one run for each of them in which the exception is raised just there. After each of these

- the exception that was raised has come out, that very object, and was swallowed nowhere;
- no child, thread, descriptor or cgroup is left;
- the same call works: the next point is in it. After every eighth point, and after a fault, it is done to its end, with
  a plain run, a pipeline and an iteration.

    python tests/soak/injection.py [--visits N] [--step N] [--file NAME] [--jobs N] [SCENARIO ...]

prints one line for each fault, and at the end how many of how many points held, and how many were left out because
no library can keep the promise there (`OUT_OF_REACH`). A point that hangs ends the process; `sweep()` begins
again after it.

As root, each scenario runs in a PID namespace: whatever it stops by its number, or leaves, is in there.
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
import tempfile
import time
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve()
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent.parent))

import fastproc  # noqa: E402
from fastproc._engine import orphans  # noqa: E402
from fastproc.containment import _cgroup  # noqa: E402

SOURCE = str(Path(fastproc.__file__).parent) + os.sep
HANG = 12
"""Seconds after which a point is one that hangs."""
SLOW = 6.0
"""Seconds after which a point has waited for something that did not come, and gone on by a limit of time."""
WHOLE_EVERY = 8
"""Points after which the action is done to its end."""
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

DESTRUCTOR = "a destructor: CPython prints what is raised there"
CALLER = "the caller of start() has the handle, and the library is not in charge of it yet"
PROTECTED = "trio keeps KeyboardInterrupt from its own tasks"
ENTRY = "the first instruction of __exit__: CPython calls handlers there, and no try can cover it"
NO_CALL = "the end of a with block: CPython asks for no signals between it and __exit__"

OUT_OF_REACH = {
    "finalize.__call__": DESTRUCTOR,
    # Of `with start(...)`: whoever has called start() has the handle already, and nobody else could end its child.
    "Process.__enter__": CALLER,
    "Pipeline.__enter__": CALLER,
    "Popen.__enter__": CALLER,
    "Pool.__enter__": CALLER,
    "Process.__aenter__": CALLER,
}


def _is_entry(frame: types.FrameType) -> bool:
    """Whether the line is the first of its function's body."""
    first = frame.f_code.co_firstlineno
    return frame.f_lineno == min(line for _, _, line in frame.f_code.co_lines() if line and line > first)


def _out_of_reach(frame: types.FrameType | None) -> str:
    """Why the interpreter or the caller, and not the library, decides what becomes of an exception here; or ""."""
    trio = sys.modules.get("trio")
    if trio is not None:
        with contextlib.suppress(RuntimeError):
            if trio.lowlevel.currently_ki_protected():
                return PROTECTED
    if frame is not None and frame.f_code.co_qualname == "temporarily.__exit__" and _is_entry(frame):
        return ENTRY
    while frame is not None:
        if reason := OUT_OF_REACH.get(frame.f_code.co_qualname):
            return reason
        frame = frame.f_back
    return ""


class Tracer:
    """Calls something at the lines of the package that this thread arrives at."""

    def __init__(self, on_line: Callable[[types.FrameType, Point], None], left_out: set[object] | None = None) -> None:
        self._on_line = on_line
        self._left_out = left_out
        self._counts: Counter[tuple[str, int]] = Counter()

    def _call(self, frame: types.FrameType, _event: str, _arg: object) -> Any:
        name = frame.f_code.co_filename
        return self._line if name.startswith(SOURCE) and frame.f_code.co_name != "<module>" else None

    def _line(self, frame: types.FrameType, event: str, _arg: object) -> Any:
        if event != "line":
            return self._line
        if _leaves_block(frame):
            if self._left_out is not None:
                self._left_out.add((NO_CALL, frame.f_code.co_filename, frame.f_lineno))
        else:
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


def points(action: Callable[[], object], visits: int, left_out: set[Any]) -> list[Point]:
    """Return the places at which an action arrives, each up to so many times; add those out of reach to `left_out`."""
    found: dict[Point, None] = {}

    def note(frame: types.FrameType, point: Point) -> None:
        if point[2] > visits:
            return
        if reason := _out_of_reach(frame):
            left_out.add((reason, *point))
        else:
            found[point] = None

    with Tracer(note, left_out).on():
        action()
    return list(found)


# -- what is left


State = tuple[Counter[str], int, set[str], set[int]]


def state() -> State:
    """Return the open descriptors, the number of threads, this process's cgroups, and who is in the namespace."""
    names: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if not target.startswith(f"/proc/{os.getpid()}/fd"):
                names[
                    "pipe" if target.startswith("pipe:") else "socket" if target.startswith("socket:") else target
                ] += 1
    return names, len(os.listdir("/proc/self/task")), cgroups(), strangers()


_made: set[str] = set()
"""The names of this process's cgroups: others have the same number in another PID namespace."""


def _remember(cgroup: _cgroup.Cgroup, name: str, parent: tuple[int, int]) -> None:
    _made.add(name)
    _begin(cgroup, name, parent)


_begin, _cgroup.Cgroup.__init__ = _cgroup.Cgroup.__init__, _remember  # type: ignore[method-assign]


def cgroups() -> set[str]:
    """Return the cgroups that a contained tree of this process has."""
    _cgroup.remove_left()
    folder = _cgroup._own_folder()
    with contextlib.suppress(OSError):
        return _made.intersection(os.listdir(folder or "/nonexistent"))
    return set()


CONTAINED = "FASTPROC_SWEEP_CONTAINED"
"""In the environment of a worker that has a PID namespace: whoever is in it is the scenario's."""


def strangers() -> set[int]:
    """Return the pids of all that run in the worker's PID namespace."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} if CONTAINED in os.environ else set()


def children() -> list[int]:
    """Return the pids of the children, zombies too."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def left(before: State) -> str:
    """Say what is more than before, once what is being ended had time; nothing is ""."""
    until = time.monotonic() + PATIENCE
    while True:
        orphans.reap()
        gc.collect()
        names, threads, groups, pids_now = state()
        found = []
        if pids := children():
            found.append(f"children {[(pid, _command(pid)) for pid in pids]}")
        if more := names - before[0]:
            found.append(f"descriptors {dict(more)}")
        if threads > before[1]:
            found.append(f"{threads - before[1]} threads")
        if others := pids_now - before[3] - set(pids):
            found.append(f"processes {[(pid, _command(pid)) for pid in others]}")
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
        tidy: ends what may live on after an interrupt, by the means that a user has: a daemon, by its pid file.
    """

    def __init__(self, action: Callable[[], object], visits: int, tidy: Callable[[], object] | None = None) -> None:
        self._action = action
        self._tidy = tidy or (lambda: None)
        self.left_out: set[Any] = set()
        for _ in range(3):
            action()
            self.probe()
        gc.collect()
        self.points = points(action, visits, self.left_out)
        found = points(action, visits, self.left_out)
        # Not every run goes the same way: a child may be over at once.
        self.points += [point for point in found if point not in set(self.points)]
        # What is there by now stays: each of the many collections looks at what is new alone.
        gc.freeze()
        self.before = state()

    @staticmethod
    def probe() -> None:
        """Use the library as anybody would afterwards."""
        assert fastproc.run("echo", "x", capture=True).stdout == b"x\n"
        assert list(fastproc.cmd("echo", "x").lines()) == [b"x"]
        pipeline = fastproc.cmd("echo", "x") | fastproc.cmd("cat")
        assert pipeline.run(capture=True).stdout == b"x\n"

    def inject(self, point: Point, whole: bool = True) -> str:
        """Raise the exception at a point; return what was wrong, or "" when nothing was.

        Args:
            point: where.
            whole: whether the action is done to its end afterwards.
        """
        injected = Injected(point)
        begun = time.monotonic()
        fired: list[str] = []
        wrong: list[str] = []
        ignored: list[str] = []

        def strike(frame: types.FrameType, here: Point) -> None:
            if here == point and not fired and not _out_of_reach(frame):
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
                    if error is not injected and not _tells(error, injected):
                        wrong.append(f"{type(error).__name__}({str(error)[:80]}) came out")
                    if not fired:
                        wrong.append("without an injection")
                    error.__traceback__ = None
                injected.__traceback__ = None
                injected.__context__ = None
                injected.__dict__.clear()
                if fired:
                    self._tidy()
                if fired and (more := left(self.before)):
                    wrong.append(f"left: {more}")
                    self.before = state()
                if fired and (whole or wrong or ignored):
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
        if fired and time.monotonic() - begun > SLOW:
            wrong.append("waited until a limit of time")
        wrong += [f"ignored: {text}" for text in ignored]
        return f"{fired[0] if fired else '?'}: {'; '.join(wrong)}" if wrong else ""


def _tells(error: BaseException, injected: BaseException) -> bool:
    """Whether an exception group, as trio raises it, has this one and no other; or HalfSwitched has it as its cause."""
    if str(error) == "Event loop stopped before Future completed." and "uvloop" in sys.modules:
        # uvloop goes round once more after KeyboardInterrupt came out of a callback. If its main task ends in that
        # round, the order to stop is left for the next run, which closes the generators, and ends that too early.
        # A loop without anything of ours does the same.
        return error.__context__ is injected
    if isinstance(error, BaseExceptionGroup):
        return all(one is injected or _tells(one, injected) for one in error.exceptions)
    return type(error).__name__ == "HalfSwitched" and error.__cause__ is injected


def in_a_copy(function: Callable[[], Any]) -> Any:
    """Return what a function returns in a forked copy of this process, for what cannot be undone; by JSON."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            text = json.dumps(function())
        except BaseException as error:
            text = json.dumps(f"?: the copy failed: {error!r}")
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return json.loads(text)


def work(name: str, visits: int, first: int, step: int = 1, file: str = "") -> None:
    """Sweep one scenario from a point on, and print a JSON line before and after each."""
    from injected import FORKED, NAMESPACE, SCENARIOS

    if name in NAMESPACE and CONTAINED not in os.environ:
        raise SystemExit(f"{name}: runs only in a PID namespace, for which it needs root")
    faulthandler.enable()
    with contextlib.ExitStack() as stack:
        made = SCENARIOS[name](stack)
        action, tidy = made if isinstance(made, tuple) else (made, None)
        # Its thread counts from the beginning.
        faulthandler.dump_traceback_later(60, exit=True)
        if name in FORKED:
            work_in_copies(action, visits, first, step)
            return
        sweep = Sweep(action, visits, tidy)
        print(json.dumps({"left_out": sorted(Counter(one[0] for one in sweep.left_out).items())}), flush=True)
        swept = [point for point in sweep.points if point[0].startswith(file)]
        for number in range(first, len(swept), step):
            point = swept[number]
            print(json.dumps({"at": number, "point": point}), flush=True)
            faulthandler.dump_traceback_later(HANG, exit=True)
            wrong = sweep.inject(point, tidy is not None or number % WHOLE_EVERY == 0 or number == len(swept) - 1)
            print(json.dumps({"done": number, "wrong": wrong}), flush=True)


def work_in_copies(action: Callable[[], object], visits: int, first: int, step: int) -> None:
    """As `work()`, of an action that cannot be undone: each time in a forked copy."""

    def prepare() -> Any:
        left_out: set[Any] = set()
        return points(action, visits, left_out), sorted(Counter(one[0] for one in left_out).items())

    def inject(point: Point) -> str:
        sweep = Sweep.__new__(Sweep)
        sweep._action, sweep._tidy = action, lambda: None
        sweep.before = state()
        return sweep.inject(point)

    Sweep.probe()
    found, left_out = in_a_copy(prepare)
    print(json.dumps({"left_out": left_out}), flush=True)
    for number in range(first, len(found), step):
        point = tuple(found[number])
        print(json.dumps({"at": number, "point": point}), flush=True)
        faulthandler.dump_traceback_later(HANG, exit=True)
        wrong = in_a_copy(lambda point=point: inject(point))  # type: ignore[misc]
        print(json.dumps({"done": number, "wrong": wrong}), flush=True)


class Swept(NamedTuple):
    """What became of the points of one scenario.

    Attributes:
        count: how many there were.
        faults: what was wrong, one line for each.
        left_out: the number of lines out of reach, by the reason.
    """

    count: int
    faults: list[str]
    left_out: dict[str, int]


def _in_namespace(command: list[str]) -> tuple[list[str], dict[str, str]]:
    """A command in a PID namespace, if this is root; its first process is a shell, which reaps what is left to it."""
    environment = {name: value for name, value in os.environ.items() if name != CONTAINED}
    if os.geteuid() != 0:
        return command, environment
    # All of it ends with this process.
    first = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*first, "sh", "-c", '"$@"; exit $?', "sh", *command], {**environment, CONTAINED: "yes"}


def sweep(name: str, visits: int = 1, first: int = 0, step: int = 1, file: str = "") -> Swept:
    """Sweep each `step`-th point of one scenario, in all files or in one, in processes of its own."""
    done = 0
    faults: list[str] = []
    left_out: dict[str, int] = {}
    while True:
        own = [sys.executable, str(HERE), "--work", f"--visits={visits}", f"--from={first}", f"--step={step}"]
        own += [f"--file={file}", name]
        command, environment = _in_namespace(own)
        begun: tuple[int, Any] | None = None
        # A file: what asyncio logs of interrupted tasks would fill a pipe that nobody reads yet.
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as worker,
        ):
            assert worker.stdout is not None
            for text in worker.stdout:
                if not text.startswith("{"):
                    continue
                message = json.loads(text)
                if "left_out" in message:
                    left_out = dict(message["left_out"])
                elif "at" in message:
                    begun = message["at"], message["point"]
                else:
                    if message["wrong"]:
                        assert begun is not None
                        faults.append(f"{name} {begun[1]} {message['wrong']}")
                    begun = None
                    done += 1
                    first = message["done"] + step
            worker.wait()
            errors.seek(0)
            said = errors.read()
        if worker.returncode == 0:
            return Swept(done, faults, left_out)
        if begun is None:
            faults.append(f"{name}: the worker ended with {worker.returncode}: {said[-1500:]}")
            return Swept(max(done, 1), faults, left_out)
        lines = [line.strip() for line in said.splitlines() if SOURCE in line or "Error" in line]
        faults.append(f"{name} {begun[1]} hangs or ends the process ({worker.returncode}): {' | '.join(lines[:6])}")
        done += 1
        first = begun[0] + step


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--visits", type=int, default=1)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--file", default="", help="points in this file of the package alone")
    parser.add_argument("--work", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="scenarios at a time")
    parser.add_argument("scenario", nargs="*")
    given = parser.parse_args()
    if given.work:
        work(given.scenario[0], given.visits, given.first, given.step, given.file)
        return 0
    from injected import SCENARIOS

    held = total = 0
    left_out: Counter[str] = Counter()
    names = given.scenario or list(SCENARIOS)
    with ThreadPoolExecutor(given.jobs) as jobs:
        swept = jobs.map(lambda name: sweep(name, given.visits, given.first, given.step, given.file), names)
        for name, found in zip(names, swept, strict=True):
            total += found.count
            held += found.count - len(found.faults)
            left_out.update(found.left_out)
            for fault in found.faults:
                print("FAULT", fault, flush=True)
            beyond = sum(found.left_out.values())
            print(f"{name}: {found.count - len(found.faults)} of {found.count}; {beyond} out of reach", flush=True)
    print(f"{held} of {total}; {sum(left_out.values())} lines out of reach:", flush=True)
    for reason, number in sorted(left_out.items()):
        print(f"  {number}: {reason}", flush=True)
    return held != total


if __name__ == "__main__":
    sys.exit(main())
