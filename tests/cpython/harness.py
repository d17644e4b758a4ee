"""Runs one of CPython's test modules against another module, and reports how each test ended.

The tests run in a worker (worker.py), a process of the Python under test, which reports one JSON line for each event.
A crash or a hang of the code under test costs that one test: it is noted, and a new worker runs the rest. This process
is a subreaper, so that what a test leaves behind is found, listed and ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import fnmatch
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "suite"
GOOD = ("pass", "skip", "xfail")
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
TEST_TIMEOUT = START_TIMEOUT = 120.0
TOTAL_TIMEOUT = 3000.0
NOFILE = 1024  # test_close_fds counts up to the soft limit of the worker


class Suite(NamedTuple):
    """A test module of CPython, and what stands in for the module that it tests.

    Attributes:
        kind: how the stand-in is put in place: "subprocess" or "asyncio".
        module: the name of the test module.
        excluded: the file with the tests that look at private parts, each with its reason.
        target: the name of the stand-in.
    """

    kind: str
    module: str
    excluded: str
    target: str


class Options(NamedTuple):
    """How the tests are run: `only` are patterns of names, `all` includes the excluded tests, `shuffle` is a seed."""

    only: list[str]
    all: bool
    shuffle: int | None
    verbose: bool


def make_environment(python: str, version: str) -> str:
    """Make a bare environment whose .pth file swaps modules in the tests' own child interpreters too, under -I as well.

    Returns:
        The path of its interpreter.
    """
    root = BUILD / f"venv-{version}"
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run([python, "-m", "venv", "--without-pip", str(root)], check=True)
    site = root / "lib" / f"python{version}" / "site-packages"
    shutil.copy(HERE / "swap_in_children.py", site)
    (site / "swap_in_children.pth").write_text("import swap_in_children\n")
    return str(root / "bin" / "python")


def entries_for(suite: Suite, version: str) -> list[dict[str, Any]]:
    """Return the entries of excluded tests that hold for a version of Python."""
    wanted = tuple(map(int, version.split(".")))
    entries = json.loads((HERE / suite.excluded).read_text("utf-8"))["entries"]
    return [entry for entry in entries if tuple(map(int, entry.get("since", "3.0").split("."))) <= wanted]


def find_entry(test: str, entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the first entry that matches a test, or None: the test is public, and must pass."""
    return next((entry for entry in entries if fnmatch.fnmatchcase(test, entry["match"])), None)


# -- what a test leaves behind


def _stat(pid: int) -> dict[str, Any] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    begin, end = text.index("("), text.rindex(")")
    state, ppid = text[end + 2 :].split()[:2]
    return {"pid": pid, "comm": text[begin + 1 : end], "state": state, "ppid": int(ppid)}


def _descendants() -> list[dict[str, Any]]:
    children: dict[int, list[dict[str, Any]]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        found = _stat(int(name))
        if found is not None:
            children.setdefault(found["ppid"], []).append(found)
    all_of_them, todo = [], [os.getpid()]
    while todo:
        for child in children.get(todo.pop(), ()):
            all_of_them.append(child)
            todo.append(child["pid"])
    return all_of_them


def _command_line(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return text.replace(b"\0", b" ").decode("utf-8", "replace").strip()[:160]


def _kill(pid: int) -> None:
    """Kill a descendant by a pidfd that was opened before it was seen once more to be one (GOTCHAS D1)."""
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if any(process["pid"] == pid for process in _descendants()):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


def end_descendants() -> list[dict[str, Any]]:
    """Kill and reap every process below this one, orphans of the worker included; return them."""
    if os.readlink("/proc/self") != str(os.getpid()):
        raise SystemExit(
            "make suite cannot run here: /proc belongs to another PID namespace, whose numbers are strangers'"
        )
    left: dict[int, dict[str, Any]] = {}
    for _ in range(50):
        now = _descendants()
        for process in now:
            pid = process["pid"]
            left.setdefault(pid, {**process, "cmd": _command_line(pid) or process["comm"]})
            _kill(pid)
        if not now:
            break
        time.sleep(0.02)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return list(left.values())


# -- the run


class Run:
    """One run of a suite: workers one after the other until each test has ended."""

    def __init__(self, python: str, suite: Suite, paths: list[Path], entries: list[dict[str, Any]], options: Options):
        self.python = python
        self.verbose = options.verbose
        self.ids: list[str] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.meta: dict[str, Any] = {}
        self.leaked: list[dict[str, Any]] = []
        self.fatal: str | None = None
        self.restarts = 0
        self.seconds = 0.0
        self._current: str | None = None
        self._finished = False
        self._excluded = [] if options.all else [entry["match"] for entry in entries]
        self._config = {
            "kind": suite.kind,
            "module": suite.module,
            "target": suite.target,
            "path": list(map(str, paths)),
            "excluded": self._excluded,
            "only": options.only,
            "shuffle": options.shuffle,
        }

    def execute(self, log: Path) -> None:
        """Run to the end; the workers' own output goes to the log."""
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise SystemExit("make suite cannot run here: prctl(PR_SET_CHILD_SUBREAPER) is refused")
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="fastproc-suite-", ignore_cleanup_errors=True) as folder:
            while True:
                before = len(self.results)
                if not self._run_worker(Path(folder), log, begin + TOTAL_TIMEOUT):
                    break
                if len(self.results) == before:
                    self.fatal = self.fatal or "the worker made no progress"
                    break
                if time.monotonic() > begin + TOTAL_TIMEOUT:
                    self.fatal = f"not at its end after {TOTAL_TIMEOUT:g} s"
                    break
                self.restarts += 1
        for test in self.ids:
            self.results.setdefault(test, {"outcome": "notrun", "secs": 0.0, "msg": self.fatal or "the worker stopped"})
        self.seconds += time.monotonic() - begin

    def _start(self, folder: Path, log: Path) -> subprocess.Popen[bytes]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "SUITE_"))}
        env |= {"PYTHONDONTWRITEBYTECODE": "1", "SUITE_CONFIG": json.dumps(self._config)}
        env |= {"SUITE_EVENTS": str(folder / "events"), "SUITE_DONE": str(folder / "done")}
        (folder / "events").write_bytes(b"")
        (folder / "done").write_text(json.dumps(sorted(self.results)))

        def set_up() -> None:
            # As from a terminal, also where this process runs under nohup.
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (NOFILE, hard))

        with log.open("ab") as output:
            return subprocess.Popen(
                [self.python, str(HERE / "worker.py")],
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=set_up,
            )

    def _run_worker(self, folder: Path, log: Path, until: float) -> bool:
        """Run one worker; return whether another one has to go on."""
        worker = self._start(folder, log)
        self._current, self._finished = None, False
        position, last, hangs = 0, time.monotonic(), False
        while True:
            ended = worker.poll() is not None  # before the look, so that the last events are read
            with (folder / "events").open("rb") as events:
                events.seek(position)
                text = events.read()
            end = text.rfind(b"\n") + 1
            position += end
            for line in text[:end].splitlines():
                last = time.monotonic()
                self._take(json.loads(line))
            if ended:
                break
            now = time.monotonic()
            if now > until or now - last > (TEST_TIMEOUT if self._current else START_TIMEOUT):
                hangs = True
                self._end_worker(worker)
                break
            time.sleep(0.02)
        self.leaked += end_descendants()
        return not self._finished and self._note_the_end(worker.returncode, hangs, time.monotonic() - last)

    def _end_worker(self, worker: subprocess.Popen[bytes]) -> None:
        worker.send_signal(signal.SIGABRT)  # faulthandler writes the stacks to the log
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(3)
        if worker.poll() is None:
            worker.kill()
            worker.wait()

    def _note_the_end(self, code: int, hangs: bool, seconds: float) -> bool:
        """Note which test a worker has not survived; return whether another worker has to go on."""
        if self._current is not None:
            how = f"ended with {signal.Signals(-code).name if code < 0 else code}"
            outcome, message = ("hang", f"no result in {TEST_TIMEOUT:g} s") if hangs else ("crash", f"the worker {how}")
            self.results[self._current] = {"outcome": outcome, "secs": round(seconds, 3), "msg": message}
            return True
        if self.ids and not self.fatal:
            return True
        self.fatal = self.fatal or f"the worker ended ({code}) before any test; see the log"
        return False

    def _take(self, event: dict[str, Any]) -> None:
        kind = event.pop("ev")
        if kind == "list":
            self.ids = self.ids or event["ids"]
        elif kind == "meta":
            self.meta.update(event)
        elif kind == "start":
            self._current = event["id"]
        elif kind == "end":
            test = event.pop("id")
            if test not in self.ids:  # setUpModule(), setUpClass(): the tests behind it do not run
                self.fatal = f"{test}: {event['msg'].strip().splitlines()[-1]}"
            before = self.results.get(test, {}).get("outcome")
            if before not in ("fail", "error") or event["outcome"] != "pass":
                self.results[test] = event
            if self.verbose:
                print(f"  {event['outcome']:8} {event['secs']:7.2f} s  {test}", flush=True)
            if self._current == test:
                self._current = None
        elif kind == "fatal":
            self.fatal = event["msg"]
        elif kind == "done":
            self._finished = True


def run_suite(
    python: str, environment: str, version: str, suite: Suite, paths: list[Path], log: Path, options: Options
):
    """Run a suite; return the report, as JSON has it."""
    entries = entries_for(suite, version)
    run = Run(environment, suite, paths, entries, options)
    run.execute(log)
    # Some tests need an interpreter that is no venv's.
    skipped = [test for test, result in run.results.items() if result["outcome"] == "skip" and "venv" in result["msg"]]
    if skipped:
        again = Run(python, suite, paths, entries, options._replace(only=skipped, shuffle=None))
        again.execute(log)
        run.results |= {test: result for test, result in again.results.items() if result["outcome"] != "notrun"}
        run.seconds += again.seconds
        run.leaked += again.leaked
        run.fatal = run.fatal or again.fatal
    return _report(run, entries, version, suite)


def _report(run: Run, entries: list[dict[str, Any]], version: str, suite: Suite) -> dict[str, Any]:
    tests = {}
    for test in run.ids:
        entry = find_entry(test, entries)
        tests[test] = {**run.results[test], "class": entry["category"] if entry else "public"}
    public = {test: result for test, result in tests.items() if result["class"] == "public"}
    counts: dict[str, int] = {}
    for result in tests.values():
        counts[result["outcome"]] = counts.get(result["outcome"], 0) + 1
    return {
        "suite": suite.module,
        "target": suite.target,
        "python": version,
        "platform": platform.platform(),
        "uid": os.getuid(),
        "seconds": round(run.seconds, 2),
        "outcomes": counts,
        "passed": sum(result["outcome"] == "pass" for result in public.values()),
        "public_failures": [test for test, result in public.items() if result["outcome"] not in GOOD],
        "fatal": run.fatal,
        "worker_restarts": run.restarts,
        "leaked_processes": run.leaked,
        "tests_leaving_children": {test: result["left"] for test, result in tests.items() if result.get("left")},
        "tests_leaking_fds": {test: result["fds"] for test, result in tests.items() if result.get("fds")},
        "meta": run.meta,
        "tests": tests,
    }
