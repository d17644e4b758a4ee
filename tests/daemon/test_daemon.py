"""Daemons: what they are when they are ready, and what is told of every start that fails."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated, wait_until
from support import daemons

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

NOBODY = 65534


# -- what a daemon is

LAUNCHER = """
import json, os, signal, sys
os.umask(0); os.setgroups([0, 4, 27])
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
kept, lost = os.open("/proc/self/stat", os.O_RDONLY), os.open("/proc/self/stat", os.O_RDONLY)
os.set_inheritable(lost, True)
file = open("/proc/self/status")
os.dup2(kept, 20, inheritable=True); os.close(kept)
print("said once", end="")
from fastproc.daemon import Daemon
options = json.loads(sys.argv[1])
if options.pop("action", 0): options["privileged_action"] = lambda: os.getuid()
running = Daemon("model", foreground=False, keep_fds=[20], **options).start()
print(json.dumps({"pid": os.getpid(), "value": running.value, "env": sorted(os.environ)}), flush=True)
running.ready()
signal.pause()
"""


def under_a_terminal(options: dict[str, Any]) -> list[Any]:
    """Launch a daemon from a session with a terminal; what the launcher wrote there, and how it ended."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir("/usr")
        os.environ.update(SECRET="1", LANG="C.UTF-8", LD_LIBRARY_PATH="/tmp")
        os.execv(sys.executable, [sys.executable, "-c", LAUNCHER, json.dumps(options)])
    said = b""
    while True:
        try:
            piece = os.read(terminal, 1000)
        except OSError:
            break
        if not piece:
            break
        said += piece
    os.close(terminal)
    return [said.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


def the_model(options: dict[str, Any], with_action: bool) -> dict[str, Any]:
    place = daemons.folder()
    given = {"pid_file": str(place / "model.pid"), "stdout": str(place / "log"), **options, "action": with_action}
    said, code = under_a_terminal(given)
    assert code == 0, said
    report = json.loads((place / "log").read_text())
    pid = report["pid"]
    status, stat = daemons.status_of(pid), daemons.stat_of(pid)
    fds = {name: what.replace(str(place), "PLACE") for name, what in daemons.fds_of(pid).items()}
    found = {
        "launcher": [said, code],
        "recorded": int((place / "model.pid").read_text().split()[0]) == pid,
        "ppid": stat["ppid"],
        "tty": stat["tty"],
        "leads": pid in (stat["session"], stat["pgrp"]),
        "session is the launcher's": stat["session"] == os.getsid(0),
        "session's leader lives": os.path.exists(f"/proc/{stat['session']}"),
        "cwd": os.readlink(f"/proc/{pid}/cwd"),
        "root": os.readlink(f"/proc/{pid}/root"),
        "core": daemons.limit_of(pid, "Max core file size"),
        "nofile": daemons.limit_of(pid, "Max open files"),
        "fds": {name: what for name, what in fds.items() if "model.pid" not in what},
        "pid file": [what for what in fds.values() if "model.pid" in what],
        "log mode": oct((place / "log").stat().st_mode),
        "pid file mode": [oct((place / "model.pid").stat().st_mode), (place / "model.pid").stat().st_uid],
        "env": report["env"],
        "value": report["value"],
        **{name: status[name] for name in ("Uid", "Gid", "Groups", "Umask", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
        **{name: status[name] for name in ("NoNewPrivs", "SigBlk", "SigIgn", "Threads")},
    }
    from fastproc.daemon import PidFile

    stopped = PidFile(place / "model.pid").stop()
    assert stopped is not None
    found["stopped"] = [stopped.pid == pid, stopped.killed, daemons.nobody_left()]
    return found


COMMON: dict[str, Any] = {
    # What was in the launcher's buffer came out once.
    "launcher": ["said once", 0],
    "recorded": True,
    "ppid": 1,
    "tty": 0,
    "leads": False,
    "session is the launcher's": False,
    "session's leader lives": False,
    "root": "/",
    "core": ["0", "0"],
    "fds": {"0": "/dev/null", "1": "PLACE/log", "2": "/dev/null", "20": "KEPT"},
    "pid file": ["PLACE/.model.pid.lock"],
    "pid file mode": ["0o100644", 0],
    "SigBlk": "0000000000000000",
    # SIGPIPE and SIGXFSZ, which Python ignores; SIGHUP no more.
    "SigIgn": 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1,
    "Threads": "1",
    "CapAmb": "0000000000000000",
    "stopped": [True, False, []],
}


def normalised(found: dict[str, Any]) -> dict[str, Any]:
    kept = found["fds"].get("20", "")
    # 32 and 33 are the C library's, and may be inherited as ignored; Python has no access to them.
    found["SigIgn"] = int(found["SigIgn"], 16) & ~(3 << 31)
    found["fds"]["20"] = "KEPT" if kept.startswith("/proc/") and kept.endswith("/stat") else kept
    return found


def test_daemon_as_root_is_the_model() -> None:
    """Parent, session, terminal, directory, umask, descriptors, signals, limits: read from /proc by another process."""
    found = normalised(isolated(the_model, {}, False, pid_namespace=True))
    env = found.pop("env")
    assert "SECRET" in env
    mine = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    assert found == {
        **COMMON,
        "cwd": "/",
        "nofile": daemons.limit_of(os.getpid(), "Max open files"),
        "log mode": "0o100640",
        "Umask": "0027",
        "Uid": "0 0 0 0",
        "Gid": "0 0 0 0",
        "Groups": "0 4 27",
        "CapPrm": mine["CapPrm"],
        "CapEff": mine["CapEff"],
        "CapBnd": mine["CapBnd"],
        "NoNewPrivs": "0",
        "value": None,
    }


def test_daemon_as_another_user_is_the_model() -> None:
    """The same with everything asked for: nothing of root is left, and the action had been root's."""
    options = {
        "user": "nobody",
        "working_directory": "/usr/lib",
        "umask": 0o077,
        "rlimits": {"nofile": [200, 300]},
        "clean_env": True,
        "capabilities": ["net_bind_service"],
    }
    found = normalised(isolated(the_model, options, True, pid_namespace=True))
    assert found == {
        **COMMON,
        "cwd": "/usr/lib",
        "nofile": ["200", "300"],
        "log mode": "0o100600",
        "Umask": "0077",
        "Uid": " ".join([str(NOBODY)] * 4),
        "Gid": " ".join([str(NOBODY)] * 4),
        "Groups": str(NOBODY),
        "CapPrm": "0000000000000400",
        "CapEff": "0000000000000400",
        "CapBnd": "0000000000000400",
        "NoNewPrivs": "1",
        "env": ["LANG", "PATH", "TERM"] if "TERM" in os.environ else ["LANG", "PATH"],
        "value": 0,
    }


def in_a_chroot() -> list[Any]:
    from fastproc.daemon import Daemon

    place, new = daemons.folder(), daemons.folder()
    (new / "inside").mkdir()
    log = place / "log"
    one = Daemon("c", pid_file=place / "c.pid", user="nobody", chroot=new, working_directory="/inside", stdout=log)
    outcome = Daemon.execute(one)
    if outcome.is_child:
        outcome.ready()
        tried = []
        for path in ("../../../../etc", "/etc", "/proc"):
            try:
                tried.append(os.listdir(path))
            except OSError as error:
                tried.append(error.errno)
        print(json.dumps([os.getcwd(), os.listdir("/"), tried]), flush=True)
        signal.pause()
    wait_until(lambda: log.read_text().endswith("\n"))
    status = daemons.status_of(outcome.pid)
    links = [os.readlink(f"/proc/{outcome.pid}/{name}") for name in ("root", "cwd")]
    fds = sorted(daemons.fds_of(outcome.pid).values())
    stopped = one.stop()
    assert stopped is not None
    return [
        json.loads(log.read_text()),
        [link.replace(str(new), "NEW") for link in links],
        [what.replace(str(place), "PLACE") for what in fds],
        [status[name] for name in ("Uid", "Groups", "CapPrm", "CapBnd", "NoNewPrivs")],
        stopped.killed,
    ]


def test_daemon_in_a_chroot_has_no_way_out_and_no_privilege() -> None:
    """The drop is proven by a /proc that the new root does not have; no descriptor of a directory is left."""
    zero = "0000000000000000"
    assert isolated(in_a_chroot, pid_namespace=True) == [
        ["/inside", ["inside"], [2, 2, 2]],
        ["NEW", "NEW/inside"],
        ["/dev/null", "/dev/null", "PLACE/.c.pid.lock", "PLACE/log"],
        [" ".join([str(NOBODY)] * 4), str(NOBODY), zero, zero, "1"],
        False,
    ]


def opens_a_terminal() -> list[int]:
    from fastproc.daemon import Daemon

    place = daemons.folder()
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    one = Daemon(pid_file=place / "t.pid")
    outcome = one.execute()
    if outcome.is_child:
        os.open(name, os.O_RDWR)
        outcome.ready()
        signal.pause()
    tty = daemons.stat_of(outcome.pid)["tty"]
    one.stop()
    os.close(master)
    os.close(slave)
    return [tty]


def test_daemon_that_opens_a_terminal_does_not_get_it() -> None:
    """GOTCHAS H6: it leads no session."""
    assert isolated(opens_a_terminal, pid_namespace=True) == [0]


# -- what is told of a start that fails

EXECUTE = """
import json, os, resource, signal, sys, time
from fastproc.daemon import Daemon, DaemonError
how, options = sys.argv[1], json.loads(sys.argv[2])
def explode(): raise LookupError("the socket is taken")
if options.pop("action", 0): options["privileged_action"] = explode
daemon = Daemon("late", foreground=False, **options)
def main(running):
    if how == "raises": raise LookupError("no configuration")
    if how == "says so": running.fail("no configuration")
    if how == "exits 7": sys.exit(7)
    if how == "exits 0": sys.exit(0)
    if how == "is killed": os.kill(os.getpid(), signal.SIGKILL)
    if how == "aborts": os.abort()
    if how == "is silent": time.sleep(100)
    if how == "is silent and stubborn": signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)
    running.ready()
    time.sleep(100)
if FORM == "start":
    main(daemon.start())
elif FORM == "execute":
    outcome = daemon.execute()
    if outcome.is_child: main(outcome)
else:
    daemon.run(main)
"""

OWN = {  # what the daemon's own code does: the step that is named, what the message has, the real exit code
    "raises": ("ready", "LookupError: no configuration", 1),
    "says so": ("ready", "no configuration", 1),
    "exits 7": ("ready", "exit status 7", 7),
    "exits 0": ("ready", "exit status 0", 0),
    "is killed": ("ready", "signal 9", -9),
    "aborts": ("ready", "signal 6", -6),
    "is silent": ("ready", "within 0.5 s", -15),
    "is silent and stubborn": ("ready", "within 0.5 s", -9),
}
STEPS: dict[str, tuple[dict[str, Any], str, str]] = {  # options, the step that is named, what the message has
    "locked": ({"pid_file": "PLACE/taken.pid"}, "pid file", "is running"),
    "in the open": ({"pid_file": "/tmp/late.pid"}, "pid file", "can be written by others"),
    "no directory": ({"pid_file": "PLACE/none/late.pid"}, "pid file", "/none'"),
    "no root": ({"chroot": "PLACE/none"}, "chroot", "/none'"),
    "root is a file": ({"chroot": "/etc/passwd"}, "chroot", "Not a directory"),
    "no user": ({"user": "no-such-user"}, "user", "no-such-user"),
    "no group": ({"group": "no-such-group"}, "user", "no-such-group"),
    "no owner": ({"pid_file": "PLACE/l.pid", "chown_pid_file": "no-such-user"}, "pid file owner", "no-such-user"),
    "action": ({"action": 1}, "privileged action", "LookupError: the socket is taken"),
    "stdin": ({"stdin": "PLACE/none"}, "stdin", "/none'"),
    "log": ({"stdout": "PLACE/none/log"}, "stdout", "/none'"),
    "log is a directory": ({"stderr": "PLACE"}, "stderr", "Is a directory"),
    "log is a FIFO": ({"stdout": "PLACE/fifo"}, "stdout", "FIFO without a reader"),
    "journal": ({"stdout": "journal"}, "stdout", "No such file or directory: '/run/systemd"),
    "directory": ({"working_directory": "/no/such/place"}, "working directory", "No such file"),
    "limit": ({"rlimits": {"nofile": [2**40, 2**40]}}, "rlimits", "PermissionError"),
    "closed descriptor": ({"keep_fds": [77]}, "descriptors", "descriptor 77 is not open"),
    "capability": ({"user": "nobody", "capabilities": ["sys_resource"]}, "user", "sys_resource"),
}


def place_for_failures() -> tuple[Path, Any]:
    from fastproc.daemon import Daemon

    place = daemons.folder()
    os.mkfifo(place / "fifo")
    taken = Daemon(pid_file=place / "taken.pid", foreground=False)
    outcome = taken.execute()
    if outcome.is_child:
        outcome.ready()
        signal.pause()
    return place, taken


def fails(form: str, how: str, options: dict[str, Any]) -> dict[str, Any]:
    from fastproc import privileges

    if "sys_resource" in str(options):
        privileges.permitted.drop("sys_resource")
    place, taken = place_for_failures()
    given = json.dumps({"start_timeout": 0.5 if how in OWN else 20.0, **options}).replace("PLACE", str(place))
    done = daemons.python(f"FORM = {form!r}\n{EXECUTE}", how, given)
    running = taken.status().running
    taken.stop()
    return {
        "code": done.returncode,
        "out": done.stdout,
        "message": done.stderr,
        "other runs on": running,
        "left": daemons.nobody_left(),
    }


@pytest.mark.parametrize("form", ["start", "execute", "run"])
@pytest.mark.parametrize("case", STEPS)
def test_step_that_fails_is_named_by_the_launcher(form: str, case: str) -> None:
    """The launcher's exit status is not 0, and its message has the step, the error and its text; nothing is left."""
    options, step, text = STEPS[case]
    found = isolated(fails, form, "", options, pid_namespace=True)
    message = found.pop("message")
    assert f"the daemon did not start: step {step!r}: " in message
    assert text in message
    assert found == {"code": 1, "out": "", "other runs on": True, "left": []}


@pytest.mark.parametrize("form", ["start", "execute", "run"])
@pytest.mark.parametrize("how", OWN)
def test_daemon_that_does_not_get_ready_is_told_by_the_launcher(form: str, how: str) -> None:
    """Exceptions with their traceback, exits, crashes and silence before ready()."""
    step, text, _ = OWN[how]
    found = isolated(fails, form, how, {}, pid_namespace=True)
    message = found.pop("message")
    assert f"the daemon did not start: step {step!r}: " in message
    assert text in message
    assert ('raise LookupError("no configuration")' in message or "in main" in message) == (how == "raises")
    assert found == {"code": 1, "out": "", "other runs on": True, "left": []}


def error_of(how: str) -> list[Any]:
    from fastproc.daemon import Daemon, DaemonError

    def main(running: Any) -> None:
        if how == "raises":
            raise LookupError("no configuration")
        if how == "says so":
            running.fail("no configuration")
        if how.startswith("exits"):
            sys.exit(int(how[-1]))
        if how in ("is killed", "aborts"):
            os.kill(os.getpid(), signal.SIGKILL if how == "is killed" else signal.SIGABRT)
        if how == "is silent and stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()

    try:
        Daemon(start_timeout=0.5).run(main)
    except DaemonError as error:
        return [error.step, error.kind, error.exit_code, "LookupError" in error.traceback, daemons.nobody_left()]
    raise AssertionError


@pytest.mark.parametrize("how", OWN)
def test_error_of_a_start_has_the_real_exit_code(how: str) -> None:
    """It is the daemon's own, as its parent sees it."""
    step, _, code = OWN[how]
    raised = how == "raises"
    expected = [step, "LookupError" if raised else "", code, raised, []]
    assert isolated(error_of, how, pid_namespace=True) == expected


def leaves_children(how: str) -> list[Any]:
    from fastproc.daemon import Daemon, DaemonError

    def main(running: Any) -> None:
        subprocess.Popen(["sleep", "1000"])
        if how == "fails":
            running.fail("no configuration")
        if how == "exits":
            os._exit(3)
        signal.pause()

    try:
        Daemon(start_timeout=0.5, stderr="syslog" if how == "exits" else None).run(main)
    except DaemonError as error:
        return [error.exit_code, daemons.nobody_left()]
    raise AssertionError


@pytest.mark.parametrize(("how", "code"), [("fails", 1), ("exits", 3), ("is silent", -15)])
def test_children_of_a_daemon_that_does_not_start_are_killed(how: str, code: int) -> None:
    """All of its process group."""
    assert isolated(leaves_children, how, pid_namespace=True) == [code, []]


def interrupted_before_the_fork() -> list[Any]:
    from fastproc.daemon import Daemon

    real = signal.pthread_sigmask

    def raises(how: int, mask: Any) -> Any:
        before = real(how, mask)
        if how == signal.SIG_SETMASK and mask and not found:
            found.append("raised")
            raise KeyboardInterrupt
        return before

    found: list[Any] = []
    fds = os.listdir("/proc/self/fd")
    signal.pthread_sigmask = raises  # type: ignore[assignment]
    try:
        Daemon(foreground=False).execute()
    except KeyboardInterrupt:
        found.append([*real(signal.SIG_BLOCK, ())])
    return [*found, os.listdir("/proc/self/fd") == fds]


def test_handler_that_raises_before_the_fork_leaves_no_signal_blocked() -> None:
    """pthread_sigmask() runs those that are due, when the mask is set already."""
    assert isolated(interrupted_before_the_fork, pid_namespace=True) == ["raised", [], True]


def given_a_pipe() -> list[str]:
    from fastproc.daemon import Daemon

    read, write = os.pipe()
    outcome = Daemon(stdout=write, foreground=False).execute()
    if outcome.is_child:
        outcome.ready()
        os.close(1)
        signal.pause()
    os.close(write)
    with open(read) as file:
        ended = [file.read()]
    daemons.kill(outcome.pid)
    return ended


def test_descriptor_that_became_a_stream_is_open_once() -> None:
    """A reader hears the end when the stream is closed."""
    assert isolated(given_a_pipe, pid_namespace=True) == [""]


def logs_at(path: Path, append: bool) -> str:
    """Start a daemon of ours with its output there; what it wrote, or the reason."""
    from fastproc import Append
    from fastproc.daemon import Daemon, DaemonError

    try:
        outcome = Daemon(stdout=Append(path) if append else path, foreground=False).execute()
    except DaemonError as error:
        return f"{error.step}: {error.text}".replace(str(path), "PATH").replace(str(path.parent), "FOLDER")
    if outcome.is_child:
        outcome.ready()
        os.write(1, b"new")
        signal.pause()
    wait_until(lambda: path.read_text().endswith("new"))
    daemons.kill(outcome.pid)
    return path.read_text()


def planted_logs(append: bool) -> dict[str, str]:
    victim = daemons.folder() / "victim"
    victim.write_text("old ")
    found = {}
    for case in ("none", "own", "link", "hard link", "foreign", "fifo", "wide", "theirs", "link to a link", "own link"):
        place = daemons.folder(0o755 if case in ("own link", "link to a link") else 0o1777)
        path = place / "log"
        if case == "wide":
            place.chmod(0o775)  # as /var/log of some systems
        if case == "theirs":
            os.chown(place, 12345, 12345)
            path.write_text("old ")
            os.chown(path, 12345, 12345)
        elif case == "link to a link":
            another = daemons.folder()
            os.chown(another, 12345, 12345)
            path.symlink_to(another / "log")
            (another / "log").symlink_to(victim)
        elif case in ("link", "own link"):
            path.symlink_to(victim)
            os.chown(path, 0 if case == "own link" else 12345, 0, follow_symlinks=False)
        elif case == "hard link":
            os.link(victim, path)
        elif case == "fifo":
            os.mkfifo(path)
            os.chown(path, 12345, 12345)
        elif case in ("foreign", "own"):
            path.write_text("old ")
            os.chown(path, 12345 if case == "foreign" else 0, 0)
        with open(path, opener=lambda path, _: os.open(path, os.O_RDWR)) if case == "fifo" else nullcontext():
            found[case] = logs_at(path, append)
        if case != "own link":
            assert victim.read_text() == "old "
    return found


@pytest.mark.parametrize("append", [False, True])
def test_log_is_no_file_that_somebody_else_has_put_there(append: bool) -> None:
    """GOTCHAS H8, of a daemon that stays root."""
    found = isolated(planted_logs, append, pid_namespace=True)
    # In a sticky directory the kernel may refuse them itself (protected_symlinks and its like; proc_sys_fs(5)).
    kernel = "stdout: [Errno 13] Permission denied: 'PATH'"
    for case in ("foreign", "fifo", "theirs"):
        assert found.pop(case) in ("stdout: PATH: it belongs to user 12345", kernel)
    assert found.pop("link") in ("stdout: PATH is a symbolic link, where others can make one", kernel)
    old = "old " if append else ""
    assert re.fullmatch(r"stdout: .*/log is a symbolic link, where others can make one", found.pop("link to a link"))
    assert found == {
        "none": "new",
        "own": f"{old}new",
        "wide": "new",
        "hard link": "stdout: PATH: it has 2 names (hard links)",
        "own link": f"{old}new",
    }


def logs_of_a_user() -> list[str]:
    from fastproc._engine import trusted

    place = daemons.folder(0o777)
    (place / "link").symlink_to("/dev/null")
    (place / "colleague's").write_text("")
    (place / "colleague's").chmod(0o666)
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setresgid(12345, 12345, 12345)
        os.setresuid(12345, 12345, 12345)
        for name in ("file", "link", "colleague's"):
            try:
                with trusted.open_file(str(place / name), os.O_WRONLY | os.O_CREAT) as fd:
                    said = "regular" if os.fstat(fd.number).st_uid == 12345 else "another's"
            except trusted.Untrusted as error:
                said = str(error)
            os.write(write, said.encode() + b"\n")
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as file:
        return file.read().replace(str(place), "PLACE").splitlines()


def test_user_without_privileges_may_log_where_others_write_too() -> None:
    """A home directory may be the group's; no link is followed there."""
    assert isolated(logs_of_a_user, pid_namespace=True) == [
        "regular",
        "PLACE/link is a symbolic link, where others can make one",
        "another's",
    ]


def ignores_children() -> list[Any]:
    from fastproc.daemon import Daemon, DaemonError

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        Daemon().run(lambda _: os._exit(7))
    except DaemonError as error:
        return [error.step, error.exit_code]
    raise AssertionError


def test_exit_code_is_known_where_the_launcher_ignores_sigchld() -> None:
    """The watcher does not, or the kernel would throw it away (wait(2))."""
    assert isolated(ignores_children, pid_namespace=True) == ["ready", 7]


# -- launchers


def two_processes() -> list[Any]:
    from fastproc.daemon import Daemon

    place = daemons.folder()
    one = Daemon(pid_file=place / "p.pid", privileged_action=lambda: "bound")
    me = os.getpid()
    outcome = one.execute()
    if outcome.is_child:
        assert outcome.value == "bound"
        assert not outcome.is_parent
        outcome.ready()
        outcome.ready()
        signal.pause()
    first = [os.getpid() == me, outcome.is_parent, outcome.value, one.status().pid == outcome.pid]
    second = one.restart()
    if second.is_child:
        second.ready()
        signal.pause()
    try:
        outcome.ready()
    except RuntimeError as error:
        first.append(str(error))
    first += [second.pid != outcome.pid, one.status().pid == second.pid, one.reload() == second.pid]
    wait_until(lambda: not one.status().running)
    return [first, one.stop(), sorted(os.listdir(place)), daemons.nobody_left()]


def test_launcher_that_lives_on_can_restart_and_reload() -> None:
    """execute() returns in both; SIGHUP is the daemon's to handle, and this one does not."""
    said = "ready() is for the daemon, and this is its launcher"
    expected = [[True, True, None, True, said, True, True, True], None, [], []]
    assert isolated(two_processes, pid_namespace=True) == expected


def threads_refused() -> list[str]:
    import threading
    import time

    from fastproc.daemon import Daemon, UnsafeFork

    threads = [threading.Thread(target=lambda: [bytes(10**5) for _ in range(10**9)], daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    found = []
    for call in ("execute", "start", "restart"):
        try:
            getattr(Daemon(pid_file="/run/none.pid"), call)()
        except UnsafeFork as error:
            found.append(str(error))
    time.sleep(0)
    return found


def test_process_with_threads_is_not_forked() -> None:
    """GOTCHAS I1: refused with the way out named."""
    text = "this process has 9 threads, and a forked copy would have one, and the locks of all: use Daemon.spawn() or"
    text += " Daemon.call(), which start a new interpreter"
    assert isolated(threads_refused, pid_namespace=True) == [text] * 3


def launcher_dies(sig: int) -> list[Any]:
    place = daemons.folder()
    program = (
        "import signal, sys\nfrom fastproc.daemon import Daemon\n"
        "outcome = Daemon(pid_file=sys.argv[1], start_timeout=None, foreground=False).execute()\n"
        "if outcome.is_child:\n    open(sys.argv[2], 'w').close()\n    signal.pause()\n"
    )
    import subprocess

    launcher = subprocess.Popen(
        [sys.executable, "-c", program, place / "p.pid", place / "there"], stderr=subprocess.DEVNULL
    )
    wait_until((place / "there").exists)
    launcher.send_signal(sig)
    code = launcher.wait(60)
    return [code, daemons.nobody_left()]


@pytest.mark.parametrize(("sig", "code"), [("SIGKILL", -9), ("SIGINT", -2), ("SIGTERM", -15)])
def test_launcher_that_ends_before_the_daemon_is_ready_takes_it_along(sig: str, code: int) -> None:
    """A start that nobody waits for any more leaves nothing."""
    assert isolated(launcher_dies, int(getattr(signal, sig)), pid_namespace=True) == [code, []]
