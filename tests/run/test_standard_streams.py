"""Standard streams that are closed, full or read by nobody: of the commands, and of a program that uses the library."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc._engine import standard
from support import daemons

CLOSED = [combo for size in range(4) for combo in itertools.combinations(range(3), size)]
NAMES = {0: "<&-", 1: ">&-", 2: "2>&-"}


def names(combo: tuple[int, ...]) -> str:
    return " ".join(NAMES[number] for number in combo) or "all open"


def ours(*arguments: object, closed: tuple[int, ...] = (), **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command with some of its standard streams closed; what is printed to one of them is ""."""
    line = [sys.executable, "-m", "fastproc", *map(str, arguments)]
    if closed:
        line = ["sh", "-c", f'exec "$@" {names(closed)}', "sh", *line]
    options.setdefault("stdin", subprocess.DEVNULL)
    for name in ("stdout", "stderr"):
        options.setdefault(name, subprocess.PIPE)
    return subprocess.run(line, text=True, timeout=60, check=False, **options)


COMMANDS: dict[str, tuple[list[str], int]] = {
    "map": (["map", "echo", "X{}", ":::", "a"], 0),
    "map of stdin": (["map", "echo"], 0),
    "map by line": (["map", "--line-buffer", "sh", "-c", "echo $0; echo e >&2", ":::", "a"], 0),
    "map ungrouped": (["map", "-u", "sh", "-c", "echo $0; echo e >&2", ":::", "a"], 0),
    "map with a bar": (["map", "--bar", "true", ":::", "a"], 0),
    "map that fails": (["map", "/nonexistent", ":::", "a"], 1),
    "map --dry-run": (["map", "--dry-run", "echo", ":::", "a"], 0),
    "map -t": (["map", "-t", "--summary", "true", ":::", "a"], 0),
    "map --help": (["map", "--help"], 0),
    "no command": ([], 2),
    "ps": (["ps", "1"], 0),
    "ps of nobody": (["ps", "-u", "nobody-of-this-name"], 1),
    "id": (["id", "1"], 0),
    "caps": (["caps", "1"], 0),
    "caps wrong": (["caps", "--nonsense"], 2),
    "tree": (["tree", "1"], 0),
    "top": (["top", "-n", "1", "-d", "0.05"], 0),
    "init": (["init", "-s", "-v", "--", "sh", "-c", "exit 7"], 7),
    "init of nothing": (["init", "-s", "--", "/nonexistent"], 127),
    "run-module": (["run-module", "this"], 0),
    "run-module of nothing": (["run-module", "nonexistent.module"], 1),
    "syslog": (["syslog", "--address", "/nonexistent", "--timeout", "0.1"], 0),
    "daemon status": (["daemon", "status", "x", "--pid-file", "/proc/none/x.pid"], 3),
    "daemon stop": (["daemon", "stop", "x", "--pid-file", "/proc/none/x.pid"], 0),
    "daemon wrong": (["daemon", "start", "x"], 2),
}


@pytest.mark.parametrize("closed", CLOSED, ids=names)
def test_command_with_closed_streams_does_its_work_and_tells_by_its_status(closed: tuple[int, ...]) -> None:
    """What is still open gets what it always gets."""
    for name, (arguments, status) in COMMANDS.items():
        done = ours(*arguments, closed=closed)
        assert (name, done.returncode) == (name, status)
        assert "Traceback" not in done.stdout + done.stderr
        assert not (1 in closed and done.stdout)
        assert not (2 in closed and done.stderr)
        if name.startswith("map") and status == 0 and 1 not in closed and name not in ("map with a bar", "map -t"):
            assert bool(done.stdout) == (name != "map of stdin")


FULL = {
    "map": 255,
    "map by line": 255,
    "map --dry-run": 255,
    "map --help": 1,
    "ps": 1,
    "id": 1,
    "caps": 1,
    "tree": 1,
    "top": 1,
    "init": 7,
    "daemon status": 3,
    "daemon stop": 0,
    "run-module": 1,
}


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("name", FULL)
def test_output_that_is_full_is_one_line_and_a_status(name: str, unbuffered: bool) -> None:
    """No traceback; standard error may be full as well. The status of what was done stays."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    for both in (False, True):
        with open("/dev/full", "w") as full:
            done = ours(*COMMANDS[name][0], stdout=full, env=env, **({"stderr": full} if both else {}))
        if name == "run-module" and unbuffered:
            # The module's own print() raises.
            assert done.returncode == 1
            continue
        assert done.returncode == FULL[name]
        if not both and name != "init":
            # What the task itself writes to stderr may come first.
            assert done.stderr.removeprefix("e\n").count("\n") == 1
            assert "No space left on device" in done.stderr


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("map", 141),
        ("map --dry-run", 141),
        ("map --help", 0),
        ("ps", 0),
        ("id", 0),
        ("tree", 0),
        ("top", 0),
        ("init", 7),
    ],
)
def test_output_that_nobody_reads_is_no_traceback(name: str, status: int, unbuffered: bool) -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": "1" if unbuffered else ""}
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        done = ours(*COMMANDS[name][0], stdout=pipe, env=env)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_output_that_does_not_block_is_waited_for() -> None:
    """Somebody else has made the pipe non-blocking, as they share it: every byte arrives."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(write, False)
    line = [sys.executable, "-m", "fastproc", "map", "head -c {} /dev/zero", ":::", "1000000"]
    with subprocess.Popen(line, stdout=write, stderr=subprocess.PIPE, text=True) as child:
        os.close(write)
        with open(read, "rb") as pipe:
            assert len(pipe.read()) == 1_000_000
        assert child.communicate()[1] == ""
    assert child.returncode == 0


def test_full_output_is_waited_for_and_not_tried_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    with open(read, "rb", buffering=0) as reader, open(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        got = []

        def make_room(fd: int) -> None:
            assert fd == write
            got.append(reader.read(1 << 20))

        monkeypatch.setattr(standard, "_wait_until_writable", make_room)
        standard.write("stdout", b"x" * 300_000)
        got.append(reader.read(1 << 20))
    assert sum(map(len, got)) == 300_000
    assert 1 < len(got) < 300


def test_map_whose_output_is_full_has_logged_what_was_done(tmp_path: Path) -> None:
    """A task that has ended is in the log, and not run again."""
    log, ran = tmp_path / "log", tmp_path / "ran"
    words = ["map", "-P1", "--results", log, "sh", "-c", f"echo $0 >> {ran}; echo $0", ":::", "a"]
    with open("/dev/full", "w") as full:
        assert ours(*words, stdout=full).returncode == 255
    assert [json.loads(line)["stdout"] for line in log.read_text().splitlines()] == ["a\n"]
    assert ours(*words[:2], "--resume", *words[2:]).returncode == 0
    assert ran.read_text() == "a\n"


def test_input_that_cannot_be_read_is_one_line() -> None:
    """A descriptor that is only open for writing."""
    for arguments, status in ((["map", "echo"], 255), (["syslog", "--address", "/nonexistent", "--timeout", "0.1"], 1)):
        with open("/dev/null", "w") as written:
            done = ours(*arguments, stdin=written)
        assert done.returncode == status
        assert done.stderr.count("\n") == 1
        assert "Bad file descriptor" in done.stderr


LIBRARY = """
import json, os, sys
for number in map(int, sys.argv[2].split()):
    os.close(number)
import fastproc
from fastproc import Pool, PIPE, STDOUT, Pty, cmd
report = {}
def tried(name, call):
    try:
        report[name] = call()
    except BaseException as error:
        report[name] = f"{type(error).__name__}: {error}"
def closed():
    # As the interpreter has them that was started so.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            setattr(sys, name, None)
closed()
tried("run", lambda: fastproc.run("cat", input=b"a", capture=True).stdout.decode())
tried("inherit", lambda: fastproc.run("sh", "-c", "cat; echo o; echo e >&2", timeout=30).returncode)
def start():
    with fastproc.start("cat", stdin=PIPE, stdout=PIPE) as child:
        low = [one.fileno() for one in (child.stdin, child.stdout) if one.fileno() < 3]
        child.stdin.write(b"b")
        child.stdin.close()
        return [child.stdout.read().decode(), low]
tried("start", start)
tried("pipeline", lambda: (cmd("echo", "c") | cmd("cat")).run(capture=True).stdout.decode())
tried("pty", lambda: fastproc.run("tty", pty=True, capture=True).ok)
tried("tee", lambda: fastproc.run("sh", "-c", "echo o", capture=True, tee=True).stdout.decode())
def pool():
    with Pool(2) as pool:
        return [bytes(one.stdout).decode() for one in pool.map(lambda item: cmd("echo", item), "ab", capture=True)]
tried("pool", pool)
for output in ("group", "line", "ungroup"):
    tried(output, lambda: [r.returncode for r in fastproc.map("echo {}", "ab", output=output, progress=True)])
tried("dry", lambda: list(fastproc.map("echo {}", "ab", dry_run=True)))
tried("bars", lambda: [len(list(fastproc.map("true", "a", progress=kind))) for kind in ("plain", "rich", "tqdm")])
with open(sys.argv[1], "w") as file:
    json.dump(report, file)
"""


RESERVES = """
import os
os.close(0), os.close(2)
import fastproc
with fastproc.Pool(1):
    held = [os.readlink(f"/proc/self/fd/{number}") for number in (0, 2)]
    given = os.get_inheritable(0) or os.get_inheritable(2)
print(held, given, flush=True)
"""


def test_threads_do_not_use_the_numbers_of_closed_streams() -> None:
    """A child that another thread makes would inherit one for a moment's sake (GOTCHAS C8)."""
    done = subprocess.run([sys.executable, "-c", RESERVES], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "['/dev/null', '/dev/null'] False\n"


@pytest.mark.parametrize("closed", CLOSED, ids=names)
def test_library_in_a_program_with_closed_streams(closed: tuple[int, ...], tmp_path: Path) -> None:
    """No descriptor of ours becomes a standard stream, and nothing is refused but a copy to what is not there."""
    report = tmp_path / "report"
    line = [sys.executable, "-c", LIBRARY, report, " ".join(map(str, closed))]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert (done.returncode, b"Traceback" in done.stdout + done.stderr) == (0, False)
    found = json.loads(report.read_text())
    tee = found.pop("tee")
    assert tee == "o\n" if not {1, 2} & {*closed} else "SpawnError" in tee
    assert found == {
        "run": "a",
        "inherit": 0,
        "start": ["b", []],
        "pipeline": "c\n",
        "pty": True,
        "pool": ["a\n", "b\n"],
        "group": [0, 0],
        "line": [0, 0],
        "ungroup": [0, 0],
        "dry": [],
        "bars": [1, 1, 1],
    }


# -- daemons

DAEMONS = """
import json, os, sys
report, how, closed = sys.argv[1:]
for number, name in enumerate(("stdin", "stdout", "stderr")):
    if str(number) in closed:
        os.close(number)
        setattr(sys, name, None)
from fastproc.daemon import Daemon
import signal
one = Daemon("x", pid_file=report + ".pid", stdout=report + ".log")
if how == "spawn":
    pid = one.spawn("sh", "-c", "echo out; echo err >&2; exec sleep 1000")
else:
    outcome = one.execute()
    if outcome.is_child:
        print("out", flush=True)
        outcome.ready()
        signal.pause()
    pid = outcome.pid
with open(report, "w") as file:
    json.dump([one.status().pid == pid, one.stop().pid == pid], file)
"""


def daemon_with_closed(how: str) -> list[Any]:
    """A daemon started by a program with closed streams, for each combination of them."""
    found = []
    for combo in CLOSED:
        report = daemons.folder() / "report"
        line = [sys.executable, "-c", DAEMONS, report, how, " ".join(map(str, combo))]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        log = Path(f"{report}.log")
        answer = json.loads(report.read_text()) if report.exists() else done.stderr
        found.append([done.returncode, answer, log.read_text() if how == "spawn" and log.exists() else "out\n"])
    return found


@pytest.mark.privileged
@pytest.mark.usefixtures("pid_namespace")
@pytest.mark.parametrize("how", ["execute", "spawn"])
def test_daemon_of_a_launcher_with_closed_streams_runs(how: str) -> None:
    assert isolated(daemon_with_closed, how, pid_namespace=True) == [[0, [True, True], "out\n"]] * len(CLOSED)


def daemon_commands() -> list[Any]:
    found = []
    for combo in CLOSED:
        path = daemons.folder() / "x.pid"
        for words in (["start", "x", "-p", path, "--", "sleep", "1000"], ["status", "x", "-p", path]):
            found.append(ours("daemon", *words, closed=combo).returncode)
        for words in (["reload", "x", "-p", path], ["stop", "x", "-p", path], ["status", "x", "-p", path]):
            found.append(ours("daemon", *words, closed=combo).returncode)
    with open("/dev/full", "w") as full:
        path = daemons.folder() / "x.pid"
        for words in (["start", "x", "-p", path, "--", "sleep", "1000"], ["status", "x", "-p", path]):
            done = ours("daemon", *words, stdout=full)
            found.append([done.returncode, done.stderr])
        found.append(ours("daemon", "stop", "x", "-p", path, stdout=full, stderr=full).returncode)
    return [*found, daemons.nobody_left()]


@pytest.mark.privileged
@pytest.mark.usefixtures("pid_namespace")
def test_daemon_command_with_closed_or_full_streams_does_what_it_should() -> None:
    """A status that cannot be printed is still an exit status."""
    full = [0, "standard output: No space left on device\n"]
    expected = [0, 0, 0, 0, 3] * len(CLOSED)
    assert isolated(daemon_commands, pid_namespace=True, timeout=120) == [*expected, full, full, 0, []]
