"""`python -m fastproc init`, beside Debian's tini: statuses, orphans, signals, what the program begins with.

All in PID namespaces of their own. The same client (tests/programs/init_client.py) runs below both.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated
from fastproc import signals

pytestmark = pytest.mark.usefixtures("pid_namespace")

CLIENT = str(Path(__file__).resolve().parent.parent / "programs" / "init_client.py")
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
OURS = (sys.executable, "-m", "fastproc", "init")
INITS = ("fastproc", "tini")
TERM = int(signal.SIGTERM)
CODES = (0, 1, 127, 128, 255)
ENDING = (1, 2, 3, 4, 6, 9, 11, 13, 15, 25, 34, 64)


def init_command(which: str) -> tuple[str, ...]:
    """The command of an init, or skip."""
    if which == "fastproc":
        return OURS
    if shutil.which("tini") is None:
        pytest.skip("no tini (tests/debian.txt)")
    return ("tini",)


def below(which: str, *arguments: str, options: tuple[str, ...] = (), **more: Any) -> subprocess.CompletedProcess[str]:
    """Run something below an init that is process 1."""
    command = [*NAMESPACE, *init_command(which), *options, "--", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)


def asked(which: str, *what: str, options: tuple[str, ...] = (), **more: Any) -> Any:
    """What the client says below an init that is process 1."""
    done = below(which, sys.executable, CLIENT, *what, options=options, **more)
    assert (done.returncode, done.stderr if which == "fastproc" else "") == (0, "")
    return json.loads(done.stdout)


def statuses(command: list[str]) -> list[int]:
    """What an init ends with for each exit status and each signal; it is no process 1 here."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ends = [f"exit {code}" for code in CODES] + [f"kill -{n} $$" for n in ENDING]
    return [subprocess.run([*command, "sh", "-c", end], check=False).returncode for end in ends]


def test_status_is_the_programs() -> None:
    """Statuses, signals, cores, in one namespace: as tini has it, 128 plus the signal."""
    expected = [*CODES, *(128 + n for n in ENDING)]
    assert isolated(statuses, [*OURS, "-s", "--"], pid_namespace=True, timeout=120) == expected
    if shutil.which("tini"):
        assert isolated(statuses, ["tini", "-s", "--"], pid_namespace=True, timeout=120) == expected


@pytest.mark.parametrize("which", INITS)
@pytest.mark.parametrize(
    ("options", "command", "expected"),
    [
        ((), ("sh", "-c", "exit 7"), 7),
        ((), ("sh", "-c", "kill -KILL $$"), 137),
        (("-e", "7"), ("sh", "-c", "exit 7"), 0),
        (("-e", "8", "-e", "143"), ("sh", "-c", "kill -TERM $$"), 0),
        (("-e", "8"), ("sh", "-c", "exit 7"), 7),
        ((), ("/nonexistent",), 127),
        ((), ("no-such-program",), 127),
        ((), ("/etc/passwd",), 126),
        ((), ("/",), 126),
    ],
)
def test_status_as_process_1(which: str, options: tuple[str, ...], command: tuple[str, ...], expected: int) -> None:
    """Also what cannot be started, and those that are expected."""
    assert below(which, *command, options=options).returncode == expected


@pytest.mark.parametrize("which", INITS)
def test_script_without_interpreter_is_given_to_the_shell(which: str, tmp_path: Path) -> None:
    """As execvp(3) has it; by its path and by PATH."""
    script = tmp_path / "script-of-the-test"
    script.write_text('echo "$1"; exit 4\n')
    script.chmod(0o755)
    for name in (str(script), script.name):
        done = below(which, name, "x", env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
        assert (done.returncode, done.stdout) == (4, "x\n")


@pytest.mark.parametrize("which", INITS)
def test_orphans_are_reaped(which: str) -> None:
    """200 of them: all come to process 1, and none stays a zombie."""
    assert asked(which, "orphans", "200") == {"orphans": 200, "adopted": 200, "zombies": 0}


def test_reaping_is_told() -> None:
    """One line for each orphan with -w; nothing without."""
    done = below("fastproc", sys.executable, CLIENT, "orphans", "5", options=("-w",))
    assert [line.split("]")[1].split()[:3] for line in done.stderr.splitlines()] == [[":", "reaped", "orphan"]] * 5


@pytest.mark.parametrize("which", INITS)
def test_every_signal_is_passed_on_once(which: str) -> None:
    """All but those of a process's own faults, of its children, and of background reads and writes."""
    own = {signal.SIGABRT, signal.SIGBUS, signal.SIGCHLD, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS}
    own |= {signal.SIGTRAP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGKILL, signal.SIGSTOP, 32, 33}
    assert asked(which, "signals") == {"came": [n for n in range(1, 65) if n not in own], "twice": []}


@pytest.mark.parametrize("which", INITS)
@pytest.mark.parametrize(("options", "child"), [((), False), (("-g",), True)])
def test_group_gets_signals_where_that_is_asked_for(which: str, options: tuple[str, ...], child: bool) -> None:
    """A child of the program hears of it only with -g."""
    assert asked(which, "group", options=options) == {"program": True, "child": child}


@pytest.mark.parametrize("which", INITS)
def test_program_begins_as_without_an_init(which: str) -> None:
    """Mask and ignored signals as they were, open descriptors too, and a group of its own."""
    read, write = os.pipe()
    os.set_inheritable(read, True)
    try:
        before = ("sh", "-c", 'trap "" HUP USR2 TTIN; exec "$@"', "sh", *NAMESPACE)
        client = (sys.executable, CLIENT, "state")
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1,))
        try:
            without, found = (
                json.loads(
                    subprocess.run([*before, *init, *client], capture_output=True, check=True, close_fds=False).stdout
                )
                for init in ((), (*init_command(which), "--"))
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    finally:
        os.close(read)
        os.close(write)
    ignored = sum(1 << n - 1 for n in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN))
    assert (read in without["fds"], without["SigIgn"] & ignored) == (True, ignored)
    assert found == {
        "PPid": 1,
        "SigBlk": 1 << signal.SIGUSR1 - 1,
        "SigIgn": without["SigIgn"],
        "fds": without["fds"],
        "leads": True,
        "foreground": None,
    }


@pytest.mark.parametrize("which", INITS)
def test_program_has_the_terminal(which: str) -> None:
    """In the foreground, so that Ctrl-C reaches it, once, and the terminal's end too."""
    command = fastproc.cmd(*NAMESPACE, *init_command(which), "--", sys.executable, CLIENT, "wait", "INT", "HUP")
    with command.start(pty=True, setsid=True) as process:
        process.expect(b"ready", timeout=30)
        process.send_key("intr")
        process.expect(b"SIGINT", timeout=30)
        assert process.wait(30) == 0
    state = fastproc.cmd(*NAMESPACE, *init_command(which), "--", sys.executable, CLIENT, "state")
    with state.start(pty=True, setsid=True) as process:
        process.expect(b'"foreground": true', timeout=30)
        assert process.wait(30) == 0


# -- where it is no process 1


def as_subreaper(init: list[str]) -> list[Any]:
    done = subprocess.run(
        [*init, sys.executable, CLIENT, "orphans", "20"], capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(done.stdout), done.stderr]


@pytest.mark.parametrize("which", INITS)
def test_subreaper_adopts_orphans(which: str) -> None:
    """With -s; without it ours says that it cannot, as tini does."""
    init = init_command(which)
    found = isolated(as_subreaper, [*init, "-s", "--"], pid_namespace=True)
    assert found == [{"orphans": 20, "adopted": 20, "zombies": 0}, ""]
    found = isolated(as_subreaper, [*init, "--"], pid_namespace=True)
    assert found[0]["adopted"] == 0
    assert "subreaper" in found[1]


def told_at_parents_end(init: list[str]) -> str:
    """The init's parent ends; the init gets the signal, and its program too."""
    read, write = os.pipe()
    script = '"$@" & read line <&0; exit 0'
    parent = subprocess.Popen(
        ["sh", "-c", script, "sh", *init, sys.executable, CLIENT, "wait", "USR1", "USR2"],
        stdin=subprocess.PIPE,
        stdout=write,
    )
    os.close(write)
    with open(read, encoding="ascii") as said:
        assert json.loads(said.readline()) == "ready"
        parent.communicate(b"\n")
        return str(json.loads(said.readline())[0])


@pytest.mark.parametrize("which", INITS)
def test_parents_end_is_told(which: str) -> None:
    """With -p the init gets a signal then, and passes it on."""
    init = init_command(which)
    found = isolated(told_at_parents_end, [*init, "-s", "-p", "SIGUSR2", "--"], pid_namespace=True)
    assert found == "SIGUSR2"


def raised() -> list[int]:
    found = []
    for options in ([], ["-r"]):
        command = [*OURS, "-s", *options, "--", "sh", "-c", "kill -TERM $$"]
        found.append(subprocess.run(command, check=False).returncode)
    return found


def test_true_signal_is_raised_where_that_is_asked_for() -> None:
    """With -r the parent sees the signal itself; as process 1, which cannot end so, 128 plus it."""
    assert isolated(raised, pid_namespace=True) == [128 + TERM, -TERM]
    assert below("fastproc", "sh", "-c", "kill -TERM $$", options=("-r",)).returncode == 128 + TERM


def with_values() -> str:
    number = int(signal.SIGRTMIN) + 3
    code = (
        "from fastproc import signals\n"
        f"with signals.Signals({number}) as received:\n"
        "    print('ready', flush=True)\n"
        "    print([received.get(20).value for _ in range(3)], flush=True)"
    )
    with fastproc.start(*OURS, "-s", sys.executable, "-c", code, stdout=fastproc.PIPE) as process:
        assert process.readline() == b"ready\n"
        for value in (3, 1, 2):
            signals.queue(process, number, value)
        return process.readline().decode().strip()


def test_values_of_real_time_signals_are_kept() -> None:
    """Where tini drops them."""
    assert isolated(with_values, pid_namespace=True) == "[3, 1, 2]"


# -- the command line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "a program is needed"),
        (("-e", "x", "true"), "--expect: 'x' is no exit status"),
        (("-e", "256", "true"), "--expect: '256'"),
        (("-p", "NOSUCH", "true"), "--parent-death: unknown signal name 'NOSUCH'"),
        (("-z", "true"), "option -z not recognized"),
        (("--nonsense",), "option --nonsense not recognized"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple[str, ...], text: str) -> None:
    """With 2 and the usage, before anything is started."""
    done = subprocess.run([*OURS, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, text in done.stderr, "usage:" in done.stderr) == (2, True, True)


def test_help_is_printed() -> None:
    """And the program's own options are left to it."""
    done = subprocess.run([*OURS, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("usage: python -m fastproc init")
    assert below("fastproc", "printf", "%s ", "-e", "-p").stdout == "-e -p "
