"""What `import fastproc` gives, and what it costs."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
import re
import subprocess
import sys
from importlib.resources import files

import pytest

import fastproc

NAMES = {
    "DEVNULL",
    "INHERIT",
    "MEMFD",
    "PIPE",
    "STDERR",
    "STDOUT",
    "Append",
    "CaptureLimit",
    "Change",
    "Command",
    "EndOfOutput",
    "Event",
    "ExitError",
    "ExitStatusUnknown",
    "Expected",
    "Expression",
    "Gate",
    "LineTooLong",
    "Logger",
    "OnLine",
    "OutputTooLarge",
    "Pipeline",
    "PipelineResult",
    "Pool",
    "Process",
    "ProcessAlert",
    "ProcessError",
    "Pty",
    "Reactor",
    "Result",
    "Retries",
    "Snapshot",
    "SpawnError",
    "Survivor",
    "System",
    "TimeoutExpired",
    "TreeEnd",
    "Unsupported",
    "Usage",
    "WorkerLost",
    "as_completed",
    "capabilities",
    "cmd",
    "daemon",
    "fd_of",
    "fd_to",
    "info",
    "install",
    "map",
    "monitor",
    "privileges",
    "procfs",
    "quote",
    "run",
    "signals",
    "snapshot",
    "start",
    "subreaper",
    "syslog",
    "systemd",
    "uninstall",
    "users",
    "wait_all",
    "wait_any",
    "which",
}


def test_public_names_are_these() -> None:
    """A name appears or goes only together with this list; all can be reached and are documented."""
    assert set(fastproc.__all__) == NAMES
    assert set(dir(fastproc)) >= NAMES
    for name in NAMES - {"DEVNULL", "INHERIT", "MEMFD", "PIPE", "STDERR", "STDOUT"}:
        assert inspect.getdoc(getattr(fastproc, name)), name


def test_unknown_name_is_an_attribute_error() -> None:
    """The module's lazy names do not swallow mistakes."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fastproc.nonsense  # noqa: B018


def test_run_and_start_take_the_same_command() -> None:
    """The front doors have one signature; only what they return differs."""
    run, start = inspect.signature(fastproc.run), inspect.signature(fastproc.start)
    assert list(run.parameters.values()) == list(start.parameters.values())


def test_errors_are_the_ecosystems_too() -> None:
    """Code that catches the standard exceptions goes on working."""
    assert issubclass(fastproc.SpawnError, OSError)
    assert issubclass(fastproc.ExitError, subprocess.CalledProcessError)
    assert issubclass(fastproc.TimeoutExpired, (subprocess.TimeoutExpired, TimeoutError))
    assert issubclass(fastproc.TimeoutExpired, subprocess.TimeoutExpired)
    assert all(
        issubclass(kind, fastproc.ProcessError)
        for kind in (fastproc.SpawnError, fastproc.ExitError, fastproc.TimeoutExpired, fastproc.ExitStatusUnknown)
    )


def test_package_is_typed() -> None:
    """PEP 561: type checkers read the annotations."""
    assert files("fastproc").joinpath("py.typed").is_file()


IMPORT = """
import json, os, signal, sys, threading
before_modules, before_fds = set(sys.modules), sorted(os.listdir("/proc/self/fd"))
handlers = [signal.getsignal(number) for number in range(1, 32)]
import fastproc
print(json.dumps({
    "modules": sorted(set(sys.modules) - before_modules),
    "fds": sorted(os.listdir("/proc/self/fd")) == before_fds,
    "threads": len(os.listdir("/proc/self/task")),
    "handlers": [signal.getsignal(number) for number in range(1, 32)] == handlers,
    "children": open(f"/proc/self/task/{os.getpid()}/children").read(),
}))
"""


def test_import_starts_nothing() -> None:
    """No thread, no descriptor, no signal handler, no child, and none of the heavy modules."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True)
    found = json.loads(done.stdout)
    heavy = {"subprocess", "asyncio", "psutil", "logging", "http", "typing", "dataclasses", "inspect", "re", "shlex"}
    heavy |= {
        "fastproc.capabilities",
        "fastproc.daemon",
        "fastproc.info",
        "fastproc.monitor",
        "fastproc.privileges",
        "fastproc.procfs",
        "fastproc.signals",
        "fastproc.users",
        "fastproc._values.identity",
        "enum",
        "pwd",
        "grp",
    }
    assert heavy & set(found.pop("modules")) == set()
    assert found == {"fds": True, "threads": 1, "handlers": True, "children": ""}


MODULES = (
    *("aio", "subprocess", "capabilities", "containment", "daemon", "embedding", "errors", "info", "mapping"),
    *("monitor", "pipeline", "pool", "privileges", "procfs", "signals", "syslog", "systemd", "users", "waiting"),
)


@pytest.mark.parametrize("name", ["fastproc", *(f"fastproc.{name}" for name in MODULES)])
def test_names_say_their_public_module(name: str) -> None:
    """What a traceback and a pickle name is what a program can import."""
    module = importlib.import_module(name)
    for public in module.__all__:
        value = getattr(module, public)
        if isinstance(value, type) or inspect.isfunction(value):
            home = value.__module__
            assert not any(part.startswith("_") for part in home.split(".")), (public, home)
            assert getattr(importlib.import_module(home), value.__qualname__) is value, (public, home)


def _values() -> list[object]:
    from fastproc import mapping, privileges

    command = fastproc.cmd("printf", "a", cwd="/")
    return [
        *((command | command).run(capture=True), fastproc.snapshot(["pid", "comm"], [1]), mapping.Template("gzip {}")),
        *(command, command | fastproc.cmd("cat"), command.then(fastproc.cmd("cat")), fastproc.Append("/dev/null")),
        *(fastproc.DEVNULL, fastproc.PIPE, fastproc.run(command, capture=True), fastproc.Event(1, 0.5, 0, b"a")),
        *(privileges.Ids(1, 2, 3, 4), fastproc.fd_of(command), fastproc.CaptureLimit(10), fastproc.Pty()),
        *(fastproc.run, fastproc.Pool, fastproc.snapshot, fastproc.SpawnError),
    ]


LOAD = "import pickle, sys; value = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(pickle.dumps(value, 2))"


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_pickles_name_public_modules(protocol: int) -> None:
    """A pickle outlives a move of the private modules, and a fresh interpreter loads it."""
    for value in _values():
        text = pickle.dumps(value, protocol)
        assert not re.search(rb"fastproc\.(\w+\.)*_", text), (value, text)
        done = subprocess.run([sys.executable, "-c", LOAD], input=text, capture_output=True, check=True)
        again = pickle.loads(done.stdout)
        assert type(again) is type(value)
        if type(value).__repr__ is not object.__repr__:  # the one of object is an address
            assert repr(again) == repr(value)
    error = privileges_error()
    found = pickle.loads(pickle.dumps(error, protocol))
    assert (str(found), found.changed, found.tid) == ("text", True, 7)


def privileges_error() -> fastproc.privileges.NotAllThreads:
    """Make an error whose facts are keyword arguments."""
    return fastproc.privileges.NotAllThreads("text", changed=True, tid=7)


def test_a_kept_pickle_loads() -> None:
    """A command that an earlier process has stored."""
    kept = b"cfastproc\n_restore_command\n((Vprintf\nVa\nt(dtR."
    assert pickle.loads(kept) == fastproc.cmd("printf", "a")
