"""Any program as a daemon: spawn(), call(), `python -m fastproc daemon`; under a supervisor; its output in a log."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated, wait_until
from support import daemons

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

NOBODY = 65534
ZERO = "0000000000000000"
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in ("NOTIFY_SOCKET", "JOURNAL_STREAM", "LISTEN_PID", "SYSTEMD_EXEC_PID")
}


def command(*words: object, **options: Any) -> list[Any]:
    """`python -m fastproc daemon ...`: exit status, output, errors."""
    options.setdefault("env", CLEAN)
    with open("/dev/null") as null:
        done = subprocess.run(
            [sys.executable, "-m", "fastproc", "daemon", *map(str, words)],
            stdin=null,
            capture_output=True,
            text=True,
            timeout=30,
            **options,
        )
    return [done.returncode, done.stdout, done.stderr]


# -- what a program is


def with_threads(count: int) -> None:
    for _ in range(count):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


def the_model(form: str, chroot: bool) -> dict[str, Any]:
    from fastproc.daemon import Daemon

    with_threads(3)
    place = daemons.folder()
    program = ["sleep", "1000"]
    given: dict[str, Any] = {"user": "nobody", "umask": 0o077, "stdout": place / "log", "clean_env": True}
    given |= {"rlimits": {"nofile": [200, 300]}, "working_directory": "/usr/lib"}
    if chroot:
        root = daemons.folder()
        (root / "in").mkdir()
        shutil.copy("/bin/busybox" if os.path.exists("/bin/busybox") else daemons.static_sleep(root), root / "sleep")
        given |= {"chroot": root, "working_directory": "/in"}
        program = ["/sleep", "1000"]
    path = place / "x.pid"
    if form == "command":
        words = ["--user", "nobody", "--umask", "077", "--stdout", place / "log", "--clean-env"]
        words += ["--rlimit", "nofile=200:300", "--directory", given["working_directory"]]
        words += ["--chroot", given["chroot"]] if chroot else []
        said = command("start", "x", "--pid-file", path, *words, "--", *program)
        pid = int(path.read_text().split()[0])
        assert said == [0, f"x: started (pid {pid})\n", ""], said
    else:
        pid = Daemon("x", pid_file=path, **given).spawn(*program)
    facts = path.read_text()
    keeper = int(facts.partition("keeper=")[2].split()[0])
    shown = {}
    for name, one in (("program", pid), ("keeper", keeper)):
        status, stat = daemons.status_of(one), daemons.stat_of(one)
        shown[name] = {
            "tty": stat["tty"],
            "leads": one in (stat["session"], stat["pgrp"]),
            "cwd": os.readlink(f"/proc/{one}/cwd").replace(str(given.get("chroot")), "NEW"),
            "root": os.readlink(f"/proc/{one}/root").replace(str(given.get("chroot")), "NEW"),
            "fds": {n: what.replace(str(place), "PLACE") for n, what in daemons.fds_of(one).items() if n in "012"},
            "others": sorted(
                what.replace(str(place), "PLACE")
                for n, what in daemons.fds_of(one).items()
                if n not in "012" and "anon_inode" not in what and "/launcher" not in what
            ),
            "nofile": daemons.limit_of(one, "Max open files"),
            "core": daemons.limit_of(one, "Max core file size"),
            **{key: status[key] for key in ("Uid", "Gid", "Groups", "Umask", "CapPrm", "CapBnd", "NoNewPrivs")},
            **{key: status[key] for key in ("SigBlk", "Threads")},
        }
    shown["parents"] = [daemons.stat_of(pid)["ppid"] == keeper, daemons.stat_of(keeper)["ppid"]]
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    shown["env"] = sorted({item.partition(b"=")[0].decode() for item in environ if item} - {"LC_CTYPE", "LC_ALL"})
    from fastproc.daemon import PidFile

    shown["status"] = repr(PidFile(path).status()) == f"Status('running', {pid})"
    shown["stopped"] = repr(PidFile(path).stop()) == f"Stopped(pid={pid}, killed=False)"
    shown["left"] = [daemons.nobody_left(), sorted(os.listdir(place))]
    return shown


@pytest.mark.parametrize("form", ["spawn", "command"])
def test_program_and_its_keeper_are_the_model(form: str) -> None:
    """From a process with threads: both are the user's, none has a terminal or a descriptor more; read from /proc."""
    found = isolated(the_model, form, False, pid_namespace=True)
    common = {
        "tty": 0,
        "leads": False,
        "root": "/",
        "fds": {"0": "/dev/null", "1": "PLACE/log", "2": "/dev/null"},
        "nofile": ["200", "300"],
        "core": ["0", "0"],
        "Uid": " ".join([str(NOBODY)] * 4),
        "Gid": " ".join([str(NOBODY)] * 4),
        "Groups": str(NOBODY),
        "Umask": "0077",
        "CapPrm": ZERO,
        "CapBnd": ZERO,
        "NoNewPrivs": "1",
        "SigBlk": ZERO,
        "Threads": "1",
    }
    env = found.pop("env")
    assert "PATH" in env
    assert set(env) <= {"PATH", "TERM", "LANG", "LANGUAGE", "TZ", "COLORTERM", "NO_COLOR"}
    assert found == {
        "program": {**common, "cwd": "/usr/lib", "others": []},
        "keeper": {**common, "cwd": "/", "others": ["PLACE/.x.pid.lock"]},
        "parents": [True, 1],
        "status": True,
        "stopped": True,
        "left": [[], ["log"]],
    }


def test_program_in_a_chroot_is_in_it_and_its_keeper_is_not() -> None:
    """The keeper has no privilege left, and no descriptor that the program could take."""
    found = isolated(the_model, "spawn", True, pid_namespace=True)
    places = [[found[name]["root"], found[name]["cwd"], found[name]["Uid"]] for name in ("program", "keeper")]
    uids = " ".join([str(NOBODY)] * 4)
    assert places == [["NEW", "NEW/in", uids], ["/", "/", uids]]
    assert [found["program"]["others"], found["status"], found["stopped"]] == [[], True, True]


# -- what is told of a start that fails

FAILURES: dict[str, tuple[list[str], list[str], str, str, int]] = {
    # options, program, the step, what the message has, the exit status
    "locked": (["--pid-file", "PLACE/taken.pid"], ["sleep", "1"], "pid file", "is running", 1),
    "in the open": (["--pid-file", "/tmp/late.pid"], ["sleep", "1"], "pid file", "can be written by others", 1),
    "no root": (["--chroot", "PLACE/none"], ["sleep", "1"], "chroot", "PLACE/none", 1),
    "no user": (["--user", "no-such-user"], ["sleep", "1"], "user", "no-such-user", 1),
    "no group": (["--group", "no-such-group"], ["sleep", "1"], "user", "no-such-group", 1),
    "stdin": (["--stdin", "PLACE/none"], ["sleep", "1"], "stdin", "No such file", 1),
    "log": (["--stdout", "PLACE/none/log"], ["sleep", "1"], "stdout", "No such file", 1),
    "log is a directory": (["--stderr", "PLACE"], ["sleep", "1"], "stderr", "Is a directory", 1),
    "journal": (["--stderr", "journal"], ["sleep", "1"], "stderr", "No such file", 1),
    "directory": (["--directory", "/no/such/place"], ["sleep", "1"], "working directory", "/no/such/place", 1),
    "limit": (["--rlimit", f"nofile={2**40}"], ["sleep", "1"], "rlimits", "PermissionError", 1),
    "closed descriptor": (["--keep-fd", "77"], ["sleep", "1"], "descriptors", "77", 1),
    "no program": ([], ["/no/such/program"], "exec", "no such file", 1),
    "no permission": ([], ["/etc/passwd"], "exec", "ermission denied", 1),
    "crash": (["--ready", "5"], ["sh", "-c", "kill -SEGV $$"], "ready", "signal 11", 1),
    "exit 7": (["--ready", "notify"], ["sh", "-c", "exit 7"], "ready", "exit status 7", 7),
    "exit 0": (["--ready", "notify"], ["true"], "ready", "exit status 0", 1),
    "silence": (["--ready", "notify", "--timeout", "0.5"], ["sleep", "100"], "ready", "within 0.5 s", 1),
    "stubborn silence": (
        ["--ready", "notify", "--timeout", "0.5"],
        ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
        "ready",
        "within 0.5 s",
        1,
    ),
}


def fails(options: list[str], program: list[str]) -> dict[str, Any]:
    from fastproc.daemon import Daemon

    place = daemons.folder()
    taken = Daemon(pid_file=place / "taken.pid")
    taken.spawn("sleep", "1000")
    words = [word.replace("PLACE", str(place)) for word in options]
    if "--pid-file" not in words:
        words += ["--pid-file", str(place / "late.pid")]
    code, out, err = command("start", "late", *words, "--", *program)
    running = taken.status().running
    taken.stop()
    left = daemons.nobody_left()
    return {"code": code, "out": out, "err": err.replace(str(place), "PLACE"), "other": running, "left": left}


@pytest.mark.parametrize("case", FAILURES)
def test_start_of_a_program_that_fails_names_the_step(case: str) -> None:
    """The exit status is not 0, the message has the step and the reason; neither program nor keeper is left."""
    options, program, step, text, code = FAILURES[case]
    found = isolated(fails, options, program, pid_namespace=True)
    message = found.pop("err")
    assert f"step {step!r}: " in message
    assert text in message
    assert len(message.splitlines()) == 1
    assert found == {"code": code, "out": "", "other": True, "left": []}


# -- the life of a program


def life() -> list[Any]:
    place = daemons.folder()
    path, log = place / "x.pid", place / "log"
    program = ["sh", "-c", "trap 'echo reloaded' HUP; echo began; while :; do sleep 0.02; done"]
    found: list[Any] = [command("status", "x", "-p", path)]
    found.append(command("start", "x", "-p", path, "--stdout", f"+{log}", "--", *program)[0])
    wait_until(lambda: log.read_text() == "began\n")
    first = int(path.read_text().split()[0])
    found.append(command("status", "x", "-p", path) == [0, f"running (pid {first})\n", ""])
    found.append(json.loads(command("status", "x", "-p", path, "--json")[1])["pid"] == first)
    found.append(command("reload", "x", "-p", path) == [0, f"x: told to reload (pid {first})\n", ""])
    wait_until(lambda: log.read_text() == "began\nreloaded\n")
    code, out, _ = command("restart", "x", "-p", path, "--stdout", f"+{log}", "--", *program)
    second = int(path.read_text().split()[0])
    found.append([code, out == f"x: stopped (pid {first})\nx: started (pid {second})\n", first != second])
    wait_until(lambda: log.read_text() == "began\nreloaded\nbegan\n")
    found.append(command("stop", "x", "-p", path) == [0, f"x: stopped (pid {second})\n", ""])
    found.append(command("stop", "x", "-p", path))
    found.append(command("reload", "x", "-p", path)[0])
    return [*found, sorted(os.listdir(place)), daemons.nobody_left()]


def test_command_starts_finds_reloads_restarts_and_stops() -> None:
    """Each with its exit status, as init scripts have them."""
    gone = [3, "stopped\n", ""]
    expected = [gone, 0, True, True, True, [0, True, True], True, [0, "x: was not running\n", ""], 1, ["log"], []]
    assert isolated(life, pid_namespace=True) == expected


def given_away(owner: str, more: list[str]) -> list[Any]:
    path = daemons.folder() / "x.pid"
    found = [command("start", "x", "-p", path, "--user", "1", "--chown-pid-file", owner, *more, "--", "sleep", "1000")]
    status = path.stat()
    pid = int(path.read_text().split()[0])
    found += [[status.st_uid, status.st_gid], daemons.status_of(pid)["NoNewPrivs"]]
    found.append(command("status", "x", "-p", path)[0])
    found.append(command("status", "x", "-p", path, "--chown-pid-file", owner)[0])
    found.append(command("stop", "x", "-p", path, "--chown-pid-file", owner)[0])
    found[0] = found[0][0]
    return [*found, daemons.nobody_left()]


@pytest.mark.parametrize(
    ("owner", "ids", "more", "no_new_privs"),
    [("1", [1, 0], [], "1"), ("1:12345", [1, 12345], ["--allow-new-privs"], "0")],
)
def test_command_gives_the_pid_file_away(owner: str, ids: list[int], more: list[str], no_new_privs: str) -> None:
    """It is found by who says whose it is; user 1 is no word for true."""
    assert isolated(given_away, owner, more, pid_namespace=True) == [0, ids, no_new_privs, 4, 0, 0, []]


def test_command_line_that_is_not_possible_is_refused() -> None:
    """With exit status 2, before anything is started."""
    assert command("start", "x")[0] == 2
    assert command("stop", "x", "--", "true")[0] == 2
    assert command("start", "a/b", "--", "true")[0] == 2
    assert command("start", "x", "--stdout", "x", "--umask", "9", "--", "true")[0] == 2
    assert command()[0] == 2


def restarted_in_vain() -> list[Any]:
    from fastproc.daemon import Daemon, DaemonError

    path = daemons.folder() / "x.pid"
    one = Daemon(pid_file=path)
    pid = one.spawn("sleep", "1000")
    codes = [
        command("restart", "x", "-p", path, *options, "--", program)[0]
        for options, program in (
            (("--user", "no-such-user"), "sleep"),
            (("--chroot", "/no/such/root"), "sleep"),
            ((), "no-such-program"),
            ((), "/no/such/program"),
        )
    ]
    try:
        Daemon(pid_file=path, chroot="/no/such/root").restart()
    except DaemonError as error:
        codes.append(error.step)
    return [codes, one.status().pid == pid, one.stop().pid == pid]


def test_restart_that_cannot_succeed_stops_nobody() -> None:
    """User, root and program are looked for before."""
    assert isolated(restarted_in_vain, pid_namespace=True) == [[1, 1, 1, 1, "chroot"], True, True]


def dies(who: str) -> list[Any]:
    from fastproc.daemon import Daemon

    path = daemons.folder() / "x.pid"
    one = Daemon(pid_file=path)
    pid = one.spawn("sleep", "1000")
    keeper = int(path.read_text().partition("keeper=")[2].split()[0])
    if who == "keeper":
        daemons.kill(keeper)
    elif who == "program":
        daemons.kill(pid)
    else:
        os.kill(keeper, signal.SIGTERM)
    return [daemons.nobody_left(), one.status().state]


@pytest.mark.parametrize(("who", "state"), [("keeper", "stale"), ("program", "stopped"), ("keeper by TERM", "stopped")])
def test_program_and_keeper_end_together(who: str, state: str) -> None:
    """The lock is held as long as the program runs, and no longer."""
    assert isolated(dies, who, pid_namespace=True) == [[], state]


RENAMED = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: open(sys.argv[1] + ".term", "w").close())
os.setgroups([]); os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
os.set_blocking(int(sys.argv[2]), True); os.write(int(sys.argv[2]), b"r")
while True:
    signal.pause()
"""


def changes_its_user(how: str) -> list[Any]:
    from fastproc.daemon import Daemon, DaemonError, PidFileError

    path = daemons.folder() / "x.pid"
    told, tell = os.pipe()
    options = {"user": "root", "capabilities": ["setuid", "setgid"]} if how == "TERM" else {}
    one = Daemon(pid_file=path, keep_fds=[tell], **options)  # type: ignore[arg-type]
    pid = one.spawn(sys.executable, "-c", RENAMED, str(path), str(tell))
    os.read(told, 1)
    keeper = int(path.read_text().partition("keeper=")[2].split()[0])
    found: list[Any] = []
    if how == "TERM":
        os.kill(keeper, signal.SIGTERM)
        time.sleep(0.3)
        found = [os.path.exists(f"/proc/{keeper}"), one.status().pid == pid]
        one.stop(grace=0.2)
        return [*found, one.status().state, daemons.nobody_left()]
    daemons.kill(keeper)
    status = one.status()
    found = [status.state, status.pid == pid]
    for call in (one.stop, lambda: one.spawn("sleep", "1000")):
        try:
            found.append(repr(call()))
        except PidFileError as error:
            found.append(error.reason.replace(str(pid), "PID"))
        except DaemonError as error:
            found.append(f"{error.kind}: {error.text.replace(str(pid), 'PID').partition('.pid: ')[2]}")
    daemons.kill(pid)
    return [*found, one.status().state, daemons.nobody_left()]


def test_program_that_changed_its_user_is_not_doubled_when_its_keeper_is_killed() -> None:
    """The kernel forgets the parent-death signal then (prctl(2)); the pid file still tells who it is."""
    reason = "nobody holds its lock, as its keeper has ended, and process PID still runs"
    refused = f"AlreadyRunning: {reason}"
    expected = ["unverified", True, reason, refused, "stale", []]
    assert isolated(changes_its_user, "KILL", pid_namespace=True) == expected


def test_keeper_that_may_not_pass_a_signal_on_keeps_on_keeping() -> None:
    """It has given its capabilities up, and the program is another user's."""
    assert isolated(changes_its_user, "TERM", pid_namespace=True) == [True, True, "stopped", []]


def holds_no_lock() -> list[Any]:
    from fastproc.daemon import Daemon

    path = daemons.folder() / "x.pid"
    one = Daemon(pid_file=path)
    pid = one.spawn("sh", "-c", "setsid sleep 1000 & exec sleep 1000")
    wait_until(lambda: len(daemons.living()) == 3)
    daemons.kill(pid)
    wait_until(lambda: len(daemons.living()) == 1)
    again = one.spawn("sleep", "1000")
    found = [one.status().pid == again, one.stop().pid == again]
    for other, _ in daemons.others():
        daemons.kill(other)
    return found


def test_grandchild_of_a_dead_program_holds_no_lock() -> None:
    """GOTCHAS C17, for any program."""
    assert isolated(holds_no_lock, pid_namespace=True) == [True, True]


def stays_alive(outcome: Any, log: str) -> None:
    """The function of a daemon, found by its name in this module."""
    Path(log).write_text(f"{os.getpid()} {outcome.is_child} {len(os.listdir('/proc/self/task'))}")
    outcome.ready()
    while True:
        signal.pause()


def called() -> list[Any]:
    from fastproc.daemon import Daemon, DaemonError

    sys.modules["test_programs"] = sys.modules[__name__]
    stays_alive.__module__ = breaks.__module__ = "test_programs"
    sys.path.append(os.path.dirname(__file__))
    with_threads(3)
    place = daemons.folder()
    one = Daemon(pid_file=place / "x.pid")
    pid = one.call(stays_alive, str(place / "log"))
    found = [(place / "log").read_text() == f"{pid} True 1", one.status().pid == pid, one.stop().pid == pid]
    try:
        one.call(breaks)
    except DaemonError as error:
        found += [error.step, error.kind, "in breaks" in error.traceback, error.exit_code]
    for wrong in (lambda _: None, 7):
        try:
            one.call(wrong)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            found.append(str(error).partition(":")[0])
    return [*found, daemons.nobody_left()]


def breaks(_outcome: Any) -> None:
    raise LookupError("no configuration")


def test_function_is_called_in_a_fresh_interpreter() -> None:
    """From a process with threads; its error comes back with its traceback."""
    expected = [True, True, True, "ready", "LookupError", True, 1, "function, options", "function", []]
    assert isolated(called, pid_namespace=True) == expected


def hangs() -> list[Any]:
    from fastproc.daemon import Daemon, DaemonError, _fresh

    _fresh.BOOT, _fresh.PATIENCE = "import time; time.sleep(1000)", 0.2
    try:
        return [Daemon(start_timeout=0.2).spawn("sleep", "1000")]
    except DaemonError as error:
        return [error.step, error.kind, error.text, daemons.nobody_left()]


def test_fresh_interpreter_that_hangs_is_told_as_any_other_failure() -> None:
    """spawn() and call() raise DaemonError, and nothing else."""
    expected = ["fork", "TimeoutExpired", "the new interpreter hangs", []]
    assert isolated(hangs, pid_namespace=True) == expected


def removed_directory() -> list[Any]:
    place = daemons.folder()
    gone = place / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    env = {**CLEAN, "PYTHONPATH": os.path.dirname(os.path.dirname(fastproc.__file__))}
    found = [
        command("status", "x", "-p", "x.pid", env=env),
        command("start", "x", "-p", "x.pid", "--", "true", env=env),
    ]
    started = command("start", "x", "-p", place / "x.pid", "--", "sleep", "1000", env=env)
    return [*found, started[0], command("stop", "x", "-p", place / "x.pid", env=env)[0], daemons.nobody_left()]


def test_relative_path_in_a_removed_directory_is_named() -> None:
    """An absolute one does not need it."""
    said = "[Errno 2] pid_file: it is relative to the current directory, which was removed: 'x.pid'\n"
    expected = [
        [code, "", f"python -m fastproc daemon {what} x: {said}"] for what, code in (("status", 4), ("start", 1))
    ]
    assert isolated(removed_directory, pid_namespace=True) == [*expected, 0, 0, []]


def manager_is_away() -> list[Any]:
    place = daemons.folder()
    env = {**CLEAN, "NOTIFY_SOCKET": str(place / "none")}
    said = command("start", "x", "-p", place / "x.pid", "--", "sleep", "1000", env=env)
    return [said[0], said[2].replace(str(place), "PLACE"), os.listdir(place), daemons.nobody_left()]


def test_manager_that_is_away_is_named() -> None:
    """Nothing of the program is left."""
    said = "python -m fastproc daemon start x: [Errno 2] No such file or directory: 'PLACE/none'\n"
    assert isolated(manager_is_away, pid_namespace=True) == [1, said, [], []]


ISOLATED = """
import json, os, sys
sys.path += json.loads(sys.argv[2])
from fastproc.daemon import Daemon
place = sys.argv[1]
os.environ["PYTHONPATH"] = place
pid = Daemon(pid_file=place + "/x.pid", stdout=place + "/log").spawn("sh", "-c", "echo $PYTHONPATH; exec sleep 1000")
print(Daemon(pid_file=place + "/x.pid").stop().pid == pid)
import test_programs
pid = Daemon(pid_file=place + "/x.pid").call(test_programs.stays_alive, place + "/called")
print(Daemon(pid_file=place + "/x.pid").stop().pid == pid)
"""


def isolated_launcher(option: str) -> list[Any]:
    place = daemons.folder()
    for name in ("sitecustomize", "usercustomize", "json", "pickle"):
        (place / f"{name}.py").write_text(f"import os; open({str(place / 'ran')!r}, 'a').write(__name__)")
    paths = json.dumps([*(entry for entry in sys.path if entry), os.path.dirname(__file__)])
    words = [sys.executable, *([option] if option else []), "-c", ISOLATED, str(place), paths]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=place if option else "/")
    log = (place / "log").read_text().replace(str(place), "PLACE")
    return [done.stdout, done.stderr, log, (place / "ran").exists(), (place / "called").exists(), daemons.nobody_left()]


@pytest.mark.parametrize("option", ["-I", ""])
def test_fresh_interpreter_of_root_obeys_no_environment(option: str) -> None:
    """The environment is the program's: neither its PYTHONPATH nor sitecustomize is the keeper's."""
    expected = ["True\nTrue\n", "", "PLACE\n", False, True, []]
    assert isolated(isolated_launcher, option, pid_namespace=True) == expected


def ready_by(how: str) -> list[Any]:
    from fastproc.daemon import Daemon

    place = daemons.folder()
    flag = place / "flag"
    tell = f"{sys.executable} -c 'from fastproc import systemd; systemd.notify(ready=True, status=\"well\")'"
    if how == "systemd-notify":
        tell = "systemd-notify --ready --status=well"
    program = f"sleep 0.2; touch {flag}; {tell}; exec sleep 1000"
    # The interpreter may lie where nobody else can read.
    one = Daemon(pid_file=place / "x.pid", user=None if how == "sd_notify" else "nobody")
    flag.touch()
    flag.chmod(0o666)
    flag.write_text("")
    before = time.time_ns()
    pid = one.spawn("sh", "-c", program.replace("touch", "echo yes >"), ready=0.4 if how == "seconds" else "notify")
    took = (time.time_ns() - before) / 1e9
    return [flag.read_text(), took > 0.2, one.status().pid == pid, one.stop().pid == pid, daemons.nobody_left()]


@pytest.mark.parametrize("how", ["sd_notify", "systemd-notify", "seconds"])
def test_program_is_ready_when_it_says_so(how: str) -> None:
    """The launcher does not return before, whichever user's the program is."""
    if how == "systemd-notify" and shutil.which("systemd-notify") is None:
        pytest.skip("no systemd-notify")
    assert isolated(ready_by, how, pid_namespace=True) == ["yes\n", True, True, True, []]


def stranger_says_ready() -> list[Any]:
    from fastproc.daemon import Daemon, DaemonError

    seen = threading.Event()

    def forge() -> None:
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([])
                os.setresgid(1000, 1000, 1000)
                os.setresuid(1000, 1000, 1000)
                for _ in range(100):
                    for line in Path("/proc/net/unix").read_text().splitlines():
                        name = line.split()[-1]
                        if name.startswith("@fastproc-daemon-"):
                            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
                                one.sendto(b"READY=1", "\0" + name[1:])
                                os.write(2, b"sent")
                    time.sleep(0.01)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        seen.set()

    thread = threading.Thread(target=forge)
    thread.start()
    try:
        Daemon(start_timeout=0.8).spawn("sleep", "1000", ready="notify")
        found = ["believed"]
    except DaemonError as error:
        found = [error.step, error.text]
    thread.join()
    return found


def test_ready_of_a_stranger_is_not_believed() -> None:
    """The kernel says who sent it."""
    expected = ["ready", "the daemon did not report within 0.8 s that it is ready"]
    assert isolated(stranger_says_ready, pid_namespace=True) == expected


TALKS = """
import encodings.ascii, encodings.idna, os, sys, time
from fastproc import systemd
def say(**what):
    systemd.notify(**what)
    systemd.barrier(timeout=10.0)
say(ready=True, status="first")
say(status="second", watchdog=True)
say(reloading=True)
say(ready=True)
say(stopping=True)
with open(sys.argv[1], "w") as file:
    file.write(f"{os.environ.get('WATCHDOG_USEC')} {os.environ.get('WATCHDOG_PID')}")
time.sleep(1000)
"""


def talks_on(form: str) -> list[Any]:
    from fastproc.daemon import Daemon, PidFile

    place = daemons.folder()
    path, log = place / "x.pid", place / "log"
    if form == "spawn":
        one = Daemon(pid_file=path)
        one.spawn(sys.executable, "-c", TALKS, str(log), ready="notify")
        wait_until(lambda: log.exists() and log.read_text() != "")
        return [log.read_text(), one.stop() is not None, daemons.nobody_left()]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        manager.settimeout(20.0)
        words = [sys.executable, "-m", "fastproc", "daemon", "start", "x", "-p", path, "--ready", "notify", "--"]
        env = {**CLEAN, "NOTIFY_SOCKET": str(place / "notify"), "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}
        service = subprocess.Popen([*words, sys.executable, "-c", TALKS, log], env=env)
        said: list[str] = []
        while not said or "STOPPING=1" not in said[-1]:
            said.append(manager.recv(4096).decode())
        wait_until(lambda: log.exists() and log.read_text() != "")
        PidFile(path).stop()
        service.wait()
    lines = [sorted(line for line in one.split() if not line.startswith("MONOTONIC")) for one in said]
    return [log.read_text(), lines, daemons.nobody_left()]


def test_program_that_says_more_than_ready_is_heard() -> None:
    """Its barriers end, and nothing is refused."""
    assert isolated(talks_on, "spawn", pid_namespace=True) == ["None None", True, []]


def test_program_that_says_more_than_ready_is_heard_by_the_keepers_manager() -> None:
    """By the keeper, which is its main process: pings, status, reloads and the end; not READY=1 before it is."""
    said = [
        ["STATUS=first"],
        ["READY=1", "STATUS=first"],
        ["STATUS=second", "WATCHDOG=1"],
        ["RELOADING=1"],
        ["READY=1"],
        ["STOPPING=1"],
    ]
    assert isolated(talks_on, "command", pid_namespace=True) == ["5000000 None", said, []]


# -- under a supervisor


def supervised(form: str) -> list[Any]:
    place = daemons.folder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        manager.settimeout(20.0)
        env = {**CLEAN, "NOTIFY_SOCKET": str(place / "notify")}
        if form == "command":
            words = [sys.executable, "-m", "fastproc", "daemon", "start", "x", "-p", str(place / "x.pid"), "--"]
            words += ["sh", "-c", "echo out; exec sleep 1000"]
        else:
            options = "chroot='/usr', user='nobody'," if form == "chroot" else ""
            words = [
                sys.executable,
                "-c",
                "import os, signal, sys\nfrom fastproc.daemon import Daemon\n"
                f"running = Daemon('x', {options} pid_file=sys.argv[1]).start()\n"
                "print('out', running.foreground, os.getpid(), flush=True)\n"
                "running.ready('serving')\nrunning.ready('again')\nwhile True:\n    signal.pause()",
                str(place / "x.pid"),
            ]
        service = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
        said = manager.recv(4096).decode().split("\n")
        assert service.stdout is not None
        line = service.stdout.readline().replace(str(service.pid), "PID")
        from fastproc.daemon import PidFile

        file = PidFile(place / "x.pid")
        status = file.status()
        ids = {str(service.pid): "PID", str(status.pid): "PROGRAM"}
        said = [f"{word.partition('=')[0]}={ids.get(word.partition('=')[2], word.partition('=')[2])}" for word in said]
        before = [daemons.stat_of(service.pid)["ppid"] == os.getpid(), status.running]
        if form == "command":
            service.send_signal(signal.SIGTERM)
        else:
            stopped = file.stop()
            assert stopped is not None
            before.append(stopped.pid == service.pid)
        code = service.wait(20)
        service.stdout.close()
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            said.append(manager.recv(4096).decode())
    return [sorted(word for word in said if word.strip("=")), line, before, code, daemons.nobody_left()]


def test_daemon_under_a_manager_stays_in_the_foreground_and_says_ready() -> None:
    """GOTCHAS H12: the same process, its streams kept, READY=1 to NOTIFY_SOCKET, once."""
    expected = [["READY=1", "STATUS=serving"], "out True PID\n", [True, True, True], -15, []]
    assert isolated(supervised, "start", pid_namespace=True) == expected


def test_daemon_in_a_chroot_says_ready_to_its_manager() -> None:
    """Whose socket the new root does not have."""
    expected = [["READY=1", "STATUS=serving"], "out True PID\n", [True, True, True], -15, []]
    assert isolated(supervised, "chroot", pid_namespace=True) == expected


def test_command_under_a_manager_is_the_keeper_and_names_the_program() -> None:
    """MAINPID is the program; what ends the keeper ends it, and the status is the program's."""
    expected = [["MAINPID=PROGRAM", "READY=1"], "out\n", [True, True], 143, []]
    assert isolated(supervised, "command", pid_namespace=True) == expected


def as_pid_one() -> list[Any]:
    place = daemons.folder()
    program = (
        "import os, sys\nfrom fastproc.daemon import daemonize\n"
        "running = daemonize(pid_file=sys.argv[1])\nrunning.ready()\nprint(os.getpid(), running.foreground)"
    )
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program, place / "x.pid"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, env=CLEAN)
    return [done.returncode, done.stdout, done.stderr, os.listdir(place)]


def test_daemon_as_first_process_of_a_container_stays_in_the_foreground() -> None:
    """It is process 1 and stays that; its file goes at the end."""
    code, out, err, left = isolated(as_pid_one, pid_namespace=True)
    assert [code, out, left] == [0, "1 True\n", []], err


def the_example() -> list[Any]:
    place = daemons.folder()
    example = Path(__file__).resolve().parents[2] / "examples" / "daemon.py"

    def say(action: str) -> list[Any]:
        done = subprocess.run(
            [sys.executable, example, action, place], capture_output=True, text=True, timeout=30, env=CLEAN
        )
        return [done.returncode, "".join(c for c in done.stdout.strip() if not c.isdigit()), done.stderr[-300:]]

    def ask() -> str:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(place / "socket"))
            return one.recv(100).decode()

    found = [say("status"), say("start"), say("status"), ask(), say("reload")]
    wait_until(lambda: ask() == "hello again\n")
    found += [say("start")[0], say("stop"), say("status")]
    wait_until(lambda: (place / "log").read_text().startswith("one more\none more\n"))
    return [*found, daemons.nobody_left()]


def test_example_starts_serves_reloads_and_stops() -> None:
    """examples/daemon.py does what it says; a second start is refused."""
    gone = [3, "stopped", ""]
    begun = [[0, "started, pid ", ""], [0, "running", ""], "hello\n", [0, "told pid ", ""], 1]
    stopped = [0, "Stopped(pid=, killed=False)", ""]
    # It may not remove its file, as it is nobody's; who stops it may.
    assert isolated(the_example, pid_namespace=True) == [gone, *begun, stopped, gone, []]


# -- logs


# "set -e": where the mount fails, the test must not go on with the machine's own files.
OWN_DEV = """
set -e
mount -t tmpfs none /dev/shm
mkdir /dev/shm/d
for device in null zero random urandom tty full; do
    touch /dev/shm/d/$device
    mount --bind /dev/$device /dev/shm/d/$device
done
mount --rbind /dev/shm/d /dev
"$@"
"""


def logged(form: str) -> list[Any]:
    """A receiver in the place of /dev/log, in a mount namespace of its own."""
    from fastproc.daemon import Daemon

    place = daemons.folder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(place / "log"))
        os.chmod(place / "log", 0o666)
        receiver.settimeout(20.0)
        assert not os.path.lexists("/dev/log")  # this /dev is the test's own
        os.symlink(place / "log", "/dev/log")
        one = Daemon("teller", pid_file=place / "x.pid", user="nobody", stdout="syslog", stderr="syslog")
        program = "echo one; echo two >&2; printf three; exec sleep 0.3"
        if form == "spawn":
            pid = one.spawn("sh", "-c", program)
            pid = int((place / "x.pid").read_text().partition("keeper=")[2].split()[0])
        else:
            outcome = one.execute()
            if outcome.is_child:
                outcome.ready()
                os.execvp("sh", ["sh", "-c", program])
            pid = outcome.pid
        messages = sorted(receiver.recv(4096).decode().replace(f"[{pid}]", "[PID]") for _ in range(3))
        left = daemons.nobody_left()
    return [[[message.partition(">")[0] + ">", message.rpartition("teller")[2]] for message in messages], left]


@pytest.mark.parametrize("form", ["spawn", "execute"])
def test_output_goes_to_syslog_line_by_line(form: str) -> None:
    """Output as information, standard error as errors, of the facility daemon; the last line without its end, too."""
    expected = [[["<27>", "[PID]: two"], ["<30>", "[PID]: one"], ["<30>", "[PID]: three"]], []]
    prefix = ("unshare", "--mount", "sh", "-c", OWN_DEV, "sh")
    assert isolated(logged, form, pid_namespace=True, prefix=prefix) == expected


LAST_WORDS = """
import os, sys
from fastproc import STDOUT
from fastproc.daemon import Daemon
def main(running):
    running.ready()
    os.write(1, b"first\\n")
    print("buffered", end="", flush=sys.argv[1] == "one")
    os.write(2, b"last " + str(os.getpid()).encode())
def fails(running):
    os.write(1, b"first\\nbuffered")
    os.write(2, b"last " + str(os.getpid()).encode())
    running.fail("no database", 0)
if sys.argv[1] == "fail":
    fails(Daemon("teller", stdout="syslog", stderr="syslog").execute())
Daemon("teller", stdout="syslog", stderr=STDOUT if sys.argv[1] == "one" else "syslog").run(main)
"""


def as_pid_one_with_logs(how: str) -> list[Any]:
    place = daemons.folder()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(place / "log"))
        receiver.settimeout(5.0)
        assert not os.path.lexists("/dev/log")
        os.symlink(place / "log", "/dev/log")
        words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", LAST_WORDS, how]
        begin = time.monotonic()
        with subprocess.Popen(words, env=CLEAN) as container:
            try:
                said = sorted(
                    receiver.recv(4096).decode().rpartition("teller")[2] for _ in range((how == "one" and 2) or 3)
                )
            finally:
                container.wait(20)
        return [said, time.monotonic() - begin < 5]


@pytest.mark.parametrize("how", ["end", "one", "fail"])
def test_last_words_of_a_first_process_reach_syslog(how: str) -> None:
    """The kernel kills all processes of its namespace with it. It waits no longer than is needed."""
    prefix = ("unshare", "--mount", "sh", "-c", OWN_DEV, "sh")
    found = isolated(as_pid_one_with_logs, how, pid_namespace=True, prefix=prefix)
    said = {
        "end": ["[1]: buffered", "[1]: first", "[1]: last 1"],
        "one": ["[1]: bufferedlast 1", "[1]: first"],
        "fail": ["[1]: buffered", "[1]: first", "[1]: last 1the daemon did not start: step 'ready': no database"],
    }
    assert found == [said[how], True]


def in_the_journal() -> list[Any]:
    from fastproc.daemon import Daemon

    os.makedirs("/run/systemd/journal", exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as journal:
        journal.bind("/run/systemd/journal/stdout")
        journal.listen()
        journal.settimeout(20.0)
        one = Daemon("teller", stdout="journal")
        one.spawn("sh", "-c", "echo one; exec sleep 0.1")
        connection, _ = journal.accept()
        with connection:
            data = b""
            while piece := connection.recv(4096):
                data += piece
    return [data.decode(), daemons.nobody_left()]


def test_output_goes_to_the_journal() -> None:
    """By a stream of its own, after the header that journald reads."""
    prefix = ("unshare", "--mount", "sh", "-c", 'set -e; mount -t tmpfs none /run; "$@"', "sh")
    expected = ["teller\n\n6\n1\n0\n0\n0\none\n", []]
    assert isolated(in_the_journal, pid_namespace=True, prefix=prefix) == expected
