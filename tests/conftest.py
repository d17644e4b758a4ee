"""Fixtures: programs, mechanisms, engines, processes of their own, and the leak check that watches every test."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import observe
from support.programs import Probed, Programs

ROOT = Path(__file__).resolve().parent.parent
MECHANISMS = ("clone3_vm", "clone_vm", "clone", "posix_spawn", "fork_pipe")
ENGINES = ("plain", "bulk", "exchange")
BOUND = 150.0
"""Seconds after which a test that waits fails, above every limit of its own; less than `faulthandler_timeout`."""
BOUND_AGAIN = 15.0
"""Seconds between the failures of one that goes on waiting, in what it does to clean up."""


def wait_until(condition: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Return the condition's first true value; fail when there is none in time."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"not true within {timeout} s: {condition}")
        time.sleep(0.001)
    return value


def faults_extension() -> str:
    """Return the path of the extension with the fault points, or skip the test."""
    found = sorted(ROOT.glob("build/faults/fastproc/_native/_ffi*.so"))
    if not found:
        pytest.skip("no build with fault points (`make test` makes it)")
    return str(found[0])


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """The programs of tests/programs, compiled once."""
    return Programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture(params=MECHANISMS)
def mechanism(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each mechanism in turn, forced; skipped where this system refuses it."""
    from fastproc import _native

    name: str = request.param
    _native.features()
    reason = _native.refused().get(name)
    if reason:
        pytest.skip(f"{name} is refused here: {reason}")
    _native.force(name)
    yield name
    _native.force("auto")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in which run() can work, forced: without a Plan, with one, and by the Exchange in Python."""
    name: str = request.param
    monkeypatch.setattr(sys.modules["fastproc._run"], "_FORCED_ENGINE", "" if name == "plain" else name)
    return name


@pytest.fixture
def probe(programs: Programs) -> Callable[..., Probed]:
    """Run the probe with some options; returns what it said, on standard output unless an option says otherwise."""
    import fastproc

    def run(*args: Any, **options: Any) -> Probed:
        options.setdefault("stdout", fastproc.PIPE)
        result = fastproc.run(programs.probe, *args, **options)
        return Probed(result.stdout)

    return run


def isolated(
    function: Callable[..., Any],
    *arguments: Any,
    faults: bool = False,
    pid_namespace: bool = False,
    timeout: float = 60.0,
    prefix: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
) -> Any:
    """Run a function of a test module in a fresh interpreter and return its value.

    Arguments and value pass as JSON. With pid_namespace the process sees only its own descendants, and all of them end
    with it: the place for everything that sends signals by number.
    """
    extension = faults_extension() if faults else ""  # or the test is skipped here
    read_end, write_end = os.pipe()
    path = sys.modules[function.__module__].__file__
    command = [*prefix, sys.executable, str(ROOT / "tests" / "support" / "isolate.py")]
    command += [str(write_end), str(path), function.__name__, json.dumps(arguments), extension]
    if pid_namespace:
        # The shell is process 1, which signals cannot harm; "exit" keeps it from turning into its command.
        command = [
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            '"$@"; exit $?',
            "sh",
            *command,
        ]
    with open(read_end, "rb") as result:
        try:
            done = subprocess.run(
                command,
                pass_fds=(write_end,),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                env={**os.environ, **(env or {})},
            )
        except subprocess.TimeoutExpired as error:
            pytest.fail(
                f"{function.__name__}{arguments} did not end within {timeout} s\n{error.stdout}\n{error.stderr}"
            )
        finally:
            os.close(write_end)
        text = result.read()
    if done.returncode != 0 or not text:
        pytest.fail(f"{function.__name__}{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    if done.stdout:
        print(done.stdout, end="")
    return json.loads(text)


@contextmanager
def cgroup_folder() -> Iterator[Path | None]:
    """A cgroup v2 of the test's own; None where none can be made."""
    for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        folder = root / f"fastproc-test-{os.getpid()}"
        if (root / "cgroup.procs").exists() and os.access(root, os.W_OK):
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                yield folder
            finally:
                folder.rmdir()
            return
    yield None


@pytest.fixture(scope="session")
def pid_namespace() -> None:
    """Skip where no PID namespace can be made."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare(1)")
    trial = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "true"]
    if subprocess.run(trial, capture_output=True, check=False).returncode != 0:
        pytest.skip("PID namespaces are not allowed here")


def pytest_configure() -> None:
    """Begin as a login shell's child does: `nohup` and a shell's `&` hand down ignored signals, which children keep."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGALRM, _too_long)


def pytest_unconfigure() -> None:
    """A thread that a failed test left must not keep the interpreter from ending."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        faulthandler.dump_traceback_later(30, exit=True)


class Hangs(BaseException):
    """A test waits for ever. Not an Exception: an event loop goes on after those of its callbacks."""


def _too_long(_number: int, _frame: object) -> None:
    raise Hangs(f"the test is not over within {BOUND} s")


@pytest.fixture(autouse=True)
def bounded(request: pytest.FixtureRequest, leak_check: None) -> Iterator[None]:
    """Fail a test whose main thread waits for ever: SIGALRM ends the wait, its handler raises. Not in a soak test.

    The timer is this process's alone: fork clears it, and execve resets the handler. A thread that is not waited for is
    not bounded: the leak check tells of that.
    """
    if request.node.get_closest_marker("soak"):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, BOUND, BOUND_AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked privileged where there is no privilege."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("privileged"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


def _snapshot() -> dict[str, Any]:
    return {
        "fds": observe.fds(),
        "children": observe.children(),
        "threads": observe.threads(),
        "mappings": observe.stacks_and_pages(),
        "signals": observe.signal_state(),
        "cwd": os.getcwd() if os.path.exists("/proc/self/cwd/.") else None,
    }


def _epolls(snapshot: dict[str, Any]) -> int:
    return sum("[eventpoll]" in what for what in snapshot["fds"].values())


def _leaks(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what there is now and was not before.

    Allowed: the one epoll descriptor that a thread's reactor keeps, the launcher's, the few stacks kept for the next
    child.
    """
    found: dict[str, Any] = {}
    new = {fd: what for fd, what in after["fds"].items() if before["fds"].get(fd) != what}
    gone = {fd: what for fd, what in before["fds"].items() if fd not in after["fds"]}
    if _epolls(after) <= max(1, _epolls(before)):
        new, gone = ({fd: what for fd, what in some.items() if "[eventpoll]" not in what} for some in (new, gone))
    # The library opens its launcher once.
    new = {fd: what for fd, what in new.items() if "/_native/launcher " not in what}
    if new or gone:
        found["descriptors"] = {"new": new, "gone": gone}
    if after["children"] - before["children"]:
        found["children"] = after["children"] - before["children"]
    if after["threads"] > before["threads"]:
        found["threads"] = (before["threads"], after["threads"])
    stacks, pages = after["mappings"]
    if stacks > max(before["mappings"][0], observe.STACK_CACHE) or pages > before["mappings"][1]:
        found["mappings"] = (before["mappings"], after["mappings"])
    for name in ("signals", "cwd"):
        if before[name] != after[name]:
            found[name] = (before[name], after[name])
    return found


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a descriptor, child, thread, mapping, or changed signal state behind."""
    if request.node.get_closest_marker("soak"):
        faulthandler.cancel_dump_traceback_later()
    before = _snapshot()
    yield
    leaks = _leaks(before, _snapshot())
    end = time.monotonic() + 1.0
    while leaks and time.monotonic() < end:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        time.sleep(0.005)
        leaks = _leaks(before, _snapshot())
    if leaks:
        for pid in leaks.get("children", ()):  # they must not disturb the tests that follow
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        pytest.fail(f"{request.node.nodeid} left behind: {leaks}")
