"""An exception of a signal handler in the middle of a call: a part of the sweep of tests/soak/injection.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import isolated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "soak"))

import injection

STEP = 23


@pytest.mark.parametrize(
    "name",
    [
        "run-exchange",
        "lines",
        "pipeline-reader",
        "start-lines",
        "start-stop",
        "pool-submit",
        "pool-map",
        "aio-run-asyncio",
        "run-contained",
        "monitor",
        "signals-forward",
        "notify",
        pytest.param("pidfile-stale", marks=pytest.mark.privileged),
        pytest.param("privileges-temporarily", marks=pytest.mark.privileged),
        "aio-run-exchange-asyncio",
        "aio-stop-trio",
        "aio-lines-left-uvloop",
        "aio-pipeline-stop-asyncio",
        "aio-pool-stop-asyncio",
        "aio-pool-map-asyncio",
        "asyncio-subprocess-kill",
        "popen",
    ],
)
def test_exception_at_some_lines_comes_out_and_leaves_nothing(name: str) -> None:
    """That very object; no child, thread or descriptor is left, and the next calls work."""
    count, faults, _ = injection.sweep(name, first=len(name) % STEP, step=STEP)
    assert faults == []
    assert count > 7


@pytest.mark.parametrize(
    ("name", "file", "visits"),
    [
        # The loop of a Reactor: no task is lost, whichever of the steps of waking it was cut.
        ("aio-kill_tree-reactor", "embedding.py", 2),
        ("aio-lines-reactor", "embedding.py", 1),
        # The hub of asyncio: its timer, the waking of tasks and the end of a helper.
        ("aio-kill_tree-asyncio", "aio/_asyncio.py", 2),
        ("aio-input-asyncio", "aio/_asyncio.py", 2),
        ("aio-input-uvloop", "aio/_asyncio.py", 1),
        # The first lines of __exit__, before any `try`: whoever is dropped then is killed, with its tree.
        ("start-contained", "_engine/process.py", 1),
        ("pipeline-left-tree", "pipeline/__init__.py", 1),
        ("aio-pipeline-left-asyncio", "aio/_pipeline.py", 1),
        # Tasks that Python runs, and nobody waits for: what was raised in them comes out at the end.
        ("aio-pool-left-asyncio", "_engine/exchange.py", 1),
        ("pool-map-left", "pipeline/_run.py", 1),
        ("aio-pool-map-left-asyncio", "pipeline/_run.py", 1),
    ],
)
def test_exception_at_each_line_of_a_file(name: str, file: str, visits: int) -> None:
    """Whoever waits goes on, nothing is left, and what was raised is not lost."""
    count, faults, _ = injection.sweep(name, visits, file=file)
    assert faults == []
    assert count > 20


PIPELINE = '(cmd("echo", "{}") | cmd("cat")).run(capture=True).stdout'
MAP = (
    'next(iter(fastproc.map("cat", ["{}"], feed=lambda item: item.encode() + b"\\n", on_line=lambda *_: None))).stdout'
)


def used_in_a_lazy_import(names: list[str], what: str) -> dict[str, str]:
    """Do something in a handler that comes while the interrupted code imports one module; in a copy for each."""
    found = {}
    for name in names:
        script = f"""
import signal, sys
import fastproc
from fastproc import cmd
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append({what.format("x")}))
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGUSR1)
sys.meta_path.insert(0, Hook())
print({what.format("y")}, seen, len(sys.meta_path))
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
        found[name] = done.stdout.strip() or done.stderr[-300:]
    return found


def test_handler_may_use_a_part_during_its_first_import() -> None:
    """Of a program with one thread: it waits until the modules are whole."""
    names = [
        *("fastproc.pipeline", "fastproc._values.combination", "fastproc.pipeline._run", "fastproc.pipeline._nodes"),
        *(
            "fastproc.pipeline._request",
            "fastproc.pipeline._bulk",
            "fastproc._engine.process",
            "fastproc._engine.reactor",
        ),
    ]
    found = isolated(used_in_a_lazy_import, names, PIPELINE)
    assert {text.rsplit(" ", 1)[0] for text in found.values()} == {r"b'y\n' [b'x\n']"}


def test_handler_may_use_map_during_the_first_import_of_its_parts() -> None:
    """As above, of modules that are imported deep inside of a call."""
    names = ["fastproc.pool._foreign", "fastproc._values.on_line", "fastproc.mapping._runner"]
    found = isolated(used_in_a_lazy_import, names, MAP)
    assert {text.rsplit(" ", 1)[0] for text in found.values()} == {r"b'y\n' [b'x\n']"}


SAME = """
import os, signal, sys
import fastproc
from fastproc import cmd

def same():
    found = {}
    exec(sys.argv[1], {"fastproc": fastproc, "cmd": cmd, "os": os}, found)
    return found["r"]

seen, busy = [], []

def handler(*_):
    if not busy:
        busy.append(1)
        try:
            seen.append(same())
        except BaseException as error:
            seen.append(repr(error))
        busy.clear()

lines = set()

def trace(frame, _event, _arg):
    if frame.f_code.co_name != "<module>" or "fastproc" not in frame.f_code.co_filename:
        return None

    def line(frame, event, _arg):
        place = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and place not in lines:
            lines.add(place)
            signal.raise_signal(signal.SIGUSR1)
        return line

    return line

signal.signal(signal.SIGUSR1, handler)
sys.settrace(trace)
out = same()
sys.settrace(None)
assert lines and seen and all(one == out for one in seen), (len(lines), out, seen[:3])
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


@pytest.mark.parametrize(
    "what",
    [
        "try: fastproc.run(cmd('false'))\nexcept fastproc.ExitError as error: r = error.returncode",
        "r = fastproc.run('echo', 'x', capture=True, on_line=lambda *_: None).stdout",
        "r = str(cmd('x', umask=0o22, rlimits={'CORE': 0}))",
        "r = str(cmd('a') | cmd('b'))",
        "with fastproc.start('true', kill_tree=True) as child: r = child.wait()",
        "with fastproc.Pool(1) as pool: r = pool.submit('true').result().returncode",
        "r = [one.returncode for one in fastproc.map('true {}', ['a'])]",
        "r = len(fastproc.snapshot(('pid',), [os.getpid()]))",
        "try: fastproc.run('sleep', '5', timeout=0.01)\nexcept fastproc.TimeoutExpired: r = 1",
    ],
)
def test_handler_may_do_the_same_while_its_parts_are_imported(what: str) -> None:
    """The signal comes at every line of every module that the first use imports."""
    subprocess.run([sys.executable, "-c", SAME, what], check=True, timeout=60)
