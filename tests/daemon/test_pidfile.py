"""Pid files under attack: each is refused, or what it says is right; nobody else is ever signalled."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated, wait_until
from support import daemons

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]


def a_daemon(path: Path, **options: Any) -> Any:
    """Start one that waits for signals."""
    from fastproc.daemon import Daemon

    one = Daemon(pid_file=path, **options)
    outcome = one.execute()
    if outcome.is_child:
        outcome.ready()
        while True:
            signal.pause()
    return one, outcome.pid


def victim() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"])


def lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def facts(pid: int) -> tuple[int, str]:
    """When a process began, and which boot this is; read without fastproc."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[19]), Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def content(pid: int, start: int | None = None) -> str:
    began, boot = facts(pid)
    return f"{pid}\nstart={began if start is None else start} boot={boot}\n"


def tried(path: Path, **given: Any) -> list[str]:
    """What a starter, and each way to find or signal the daemon, says of a file."""
    from fastproc.daemon import Daemon, DaemonError, PidFile, PidFileError

    said = []
    for name in ("start", "status", "signal", "stop"):
        try:
            if name == "start":
                outcome = Daemon(pid_file=path, **given).execute()
                if outcome.is_child:
                    outcome.ready()
                    signal.pause()
                said.append("started")
                continue
            file = PidFile(path)
            said.append(repr(file.signal("USR1") if name == "signal" else getattr(file, name)()))
        except DaemonError as error:
            said.append(f"{error.step}: {error.kind}: {error.text}")
            if name == "stop" and said[-1] == "None":
                file.stop()  # and once more
        except (PidFileError, OSError) as error:
            said.append(f"{type(error).__name__}: {error}")
    return [one.replace(str(path.parent), "PLACE") for one in said]


# -- what lies there, before a daemon starts


def lies(kind: str) -> dict[str, Any]:
    place, other = daemons.folder(), daemons.folder()
    path, target = place / "x.pid", other / "precious"
    target.write_text("keep me")
    prey = victim()
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "dangling symlink":
        target.unlink()
        path.symlink_to(target)
    elif kind == "hard link":
        os.link(target, path)
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        import socket

        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "device":
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    elif kind == "foreign owner":
        path.write_text(content(prey.pid))
        os.chown(path, 1000, 1000)
    elif kind == "world-writable file":
        path.write_text(content(prey.pid))
        path.chmod(0o666)
    elif kind == "world-writable directory":
        place.chmod(0o777)
    elif kind == "sticky directory":
        place.chmod(0o1777)
    elif kind == "group-writable directory":
        place.chmod(0o775)
    elif kind == "foreign directory":
        os.chown(place, 1000, 1000)
    elif kind == "symlink on the way":
        place.chmod(0o1777)
        (place / "way").symlink_to(other)
        os.lchown(place / "way", 1000, 1000)
        path = place / "way" / "x.pid"
    begin = time.monotonic()
    said = tried(path)
    hung = time.monotonic() - begin > 10.0
    alive = prey.poll() is None
    prey.kill()
    prey.wait()
    precious = target.read_text() if target.exists() else None
    return {
        "said": [one.replace(str(place), "PLACE") for one in said],
        "hung": hung,
        "victim lives": alive,
        "precious": [precious, sorted(os.listdir(other))],
        "left": daemons.nobody_left(),
    }


LIES = {
    "symlink": "it is a symbolic link",
    "dangling symlink": "it is a symbolic link",
    "hard link": "it has 2 names (hard links)",
    "FIFO": "it is a FIFO",
    "directory": "it is a directory",
    "socket": "it is a socket",
    "device": "it is a device",
    "foreign owner": "it belongs to user 1000",
    "world-writable file": "it can be written by others (mode 0666)",
    "world-writable directory": "the directory PLACE can be written by others (mode 0777)",
    "sticky directory": "the directory PLACE can be written by others (mode 1777)",
    "group-writable directory": "the directory PLACE can be written by others (mode 0775)",
    "foreign directory": "the directory PLACE belongs to user 1000",
    "symlink on the way": "PLACE can be written by others (mode 1777), and PLACE is a symbolic link",
}


@pytest.mark.parametrize("kind", LIES)
def test_pid_file_that_is_something_else_is_refused_by_all(kind: str) -> None:
    """No start, no status, no signal; no hang; nothing behind it is touched."""
    found = isolated(lies, kind, pid_namespace=True)
    for one in found.pop("said"):
        assert LIES[kind] in one
        assert one.startswith(("pid file: PidFileError: ", "PidFileError: "))
    precious = [None, []] if kind == "dangling symlink" else ["keep me", ["precious"]]
    assert found == {"hung": False, "victim lives": True, "precious": precious, "left": []}


# -- what stands there, while nobody holds the lock


def strange(kind: str) -> dict[str, Any]:
    """A file that fastproc has not written: what is said of it, and what is left of it."""
    from fastproc.daemon import Daemon, DaemonError

    path = daemons.folder() / "x.pid"
    prey = victim()
    data = {
        "1": b"1\n",
        "0": b"0\n",
        "-1": b"-1\n",
        "a victim's number alone": b"%d\n" % prey.pid,
        "a victim's number without an end": b"%d" % prey.pid,
        "one's own number": b"%d\n" % os.getpid(),
        "a number of nobody": b"31999\n",
        "nothing": b"",
        "a blank line": b"\n",
        "text": b"precious data\n",
        "binary": b"\0\xff" * 50,
        "much": b"7" * 5000,
        "a digit of another script": "\u0663\n".encode(),
        "a number and more": b"%d\n/var/lib/db\n5432\n" % prey.pid,
        "a number, and a start without a boot": b"%d\nstart=7 boot=\n" % prey.pid,
        "ours and more": content(prey.pid, 1).encode() + b"more\n",
        "huge": b"",
    }[kind]
    path.write_bytes(data)
    path.chmod(0o640)
    if kind == "huge":
        os.truncate(path, 1 << 40)
    before, folder = path.stat(), path.parent.stat().st_mtime_ns
    said = [one for one in tried(path) if kind != "nothing" or "started" not in one]
    try:
        Daemon(pid_file=path).spawn("/nonexistent/program")
    except DaemonError as error:
        said.append(error.step)
    after = path.stat()
    same = [getattr(before, name) == getattr(after, name) for name in ("st_ino", "st_mode", "st_uid", "st_size")]
    alive = prey.poll() is None
    prey.kill()
    prey.wait()
    return {
        "said": [named(one, {prey.pid: "PREY", os.getpid(): "SELF"}) for one in said],
        "same": [*same, kind == "huge" or path.read_bytes() == data],
        # Nothing was made beside it, not even for a moment.
        "others": [*os.listdir(path.parent), path.parent.stat().st_mtime_ns == folder],
        "victim lives": alive,
        "left": daemons.nobody_left(),
    }


def named(text: str, names: dict[int, str]) -> str:
    for pid, name in names.items():
        text = text.replace(f"process {pid} ", f"process {name} ")
    return text


RUNS = (
    "the file belongs to another program, and process PREY is running, and is not proven to be the daemon: "
    "stop it with that program's own command"
)
NOT_ONE = "it is not a pid file: "
STRANGE = {
    "1": "it names process 1, which is never a daemon's",
    "0": "it names process 0, which is never a daemon's",
    "-1": "it names process -1, which is never a daemon's",
    "a victim's number alone": RUNS,
    "a victim's number without an end": RUNS,
    "one's own number": RUNS.replace("PREY", "SELF"),
    "a blank line": NOT_ONE + "the pid is not a number: ''",
    "text": NOT_ONE + "the pid is not a number: 'precious data'",
    "binary": NOT_ONE + "it is not text",
    "much": NOT_ONE + "it has more than 512 bytes",
    "huge": NOT_ONE + "it has more than 512 bytes",
    "a digit of another script": NOT_ONE + "it is not text",
    "a number and more": NOT_ONE + "its second line is not in fastproc's format",
    "a number, and a start without a boot": NOT_ONE + "its second line is not in fastproc's format",
    "ours and more": NOT_ONE + "its second line is not in fastproc's format",
}


@pytest.mark.parametrize("kind", STRANGE)
def test_file_that_is_not_ours_is_refused_and_never_touched(kind: str) -> None:
    """By a start, a start that fails, a status, a signal and a stop. No lock file is left beside it."""
    found = isolated(strange, kind, pid_namespace=True)
    started, status, signalled, stopped, failed = found.pop("said")
    if RUNS[:20] in STRANGE[kind]:
        assert started.startswith("pid file: AlreadyRunning: ")
        assert status.startswith("Status('unverified', ")
    else:
        assert started.startswith("pid file: PidFileError: ")
        assert status.startswith("PidFileError: ")
    assert [STRANGE[kind] in one for one in (started, status.replace('"', ""), signalled, stopped)] == [True] * 4
    assert failed == "pid file"
    assert found == {"same": [True] * 5, "others": ["x.pid", True], "victim lives": True, "left": []}


def test_pid_file_of_another_program_that_has_ended_is_stale_and_stays() -> None:
    """A number alone may be anything: a start says that somebody should remove it."""
    found = isolated(strange, "a number of nobody", pid_namespace=True)
    reason = "the file belongs to another program, and process 31999 does not run"
    assert found == {
        "said": [
            f"pid file: PidFileError: pid file PLACE/x.pid: {reason}: remove it, if nobody needs it",
            f"Status('stale', 31999, '{reason}')",
            f"PidFileError: pid file PLACE/x.pid: {reason}",
            "None",
            "pid file",
        ],
        "same": [True] * 5,
        "others": ["x.pid", True],
        "victim lives": True,
        "left": [],
    }


def changed(text: str) -> list[Any]:
    """Another program writes its file after ours was looked at, and before its lock is held."""
    from fastproc.daemon import DaemonError, _lock

    path = daemons.folder() / "x.pid"
    hold = _lock.hold

    def late(*arguments: Any, **options: Any) -> Any:
        path.write_text(text)
        return hold(*arguments, **options)

    _lock.hold = late  # type: ignore[assignment]
    try:
        a_daemon(path)
    except DaemonError as error:
        return [error.kind, path.read_text() == text, os.listdir(path.parent)]
    return ["started"]


@pytest.mark.parametrize("text", ["31999\n", "precious\n"])
def test_file_that_becomes_another_ones_before_it_is_locked_is_not_touched(text: str) -> None:
    """It is read again under the lock."""
    assert isolated(changed, text, pid_namespace=True) == ["PidFileError", True, ["x.pid"]]


def empty(kind: str) -> list[Any]:
    """An empty file, as mktemp(1) makes one, or a daemon of ours that was killed before it had written."""
    from fastproc.daemon import Daemon, DaemonError, PidFile

    path = daemons.folder() / "x.pid"
    path.touch(0o600)
    if kind == "ours":
        lock_of(path).touch(0o600)
    file = PidFile(path)
    found: list[Any] = [file.status().state]
    try:
        Daemon(pid_file=path).spawn("/nonexistent/program")
    except DaemonError as error:
        found.append(error.step)
    found += [sorted(os.listdir(path.parent)), file.stop(), sorted(os.listdir(path.parent))]
    one, pid = a_daemon(path)
    return [*found, one.status().pid == pid, one.stop().pid == pid, os.listdir(path.parent), daemons.nobody_left()]


def test_empty_file_is_taken_and_stays_until_a_daemon_has_written_it() -> None:
    """An empty one can mean something by being there: neither a stop nor a failed start removes it."""
    expected = ["stopped", "exec", ["x.pid"], None, ["x.pid"], True, True, [], []]
    assert isolated(empty, "another's", pid_namespace=True) == expected


def test_empty_file_beside_its_lock_file_is_ours() -> None:
    """Nothing else makes a lock file of that name, mode and size."""
    expected = ["stopped", "exec", [], None, [], True, True, [], []]
    assert isolated(empty, "ours", pid_namespace=True) == expected


def locks(kind: str) -> list[Any]:
    """What lies in the place of the lock file."""
    path = daemons.folder() / "x.pid"
    lock = lock_of(path)
    if kind == "content":
        lock.write_text("precious")
        lock.chmod(0o600)
    elif kind == "readable":
        lock.touch(0o644)
        lock.chmod(0o644)
    elif kind == "symlink":
        lock.symlink_to(path.with_name("precious"))
    elif kind == "hard link":
        path.with_name("precious").touch(0o600)
        os.link(path.with_name("precious"), lock)
    before = os.lstat(lock)
    path.write_text(content(os.getpid(), 1))
    said = tried(path)
    after = os.lstat(lock)
    return [said, before == after, path.exists(), daemons.nobody_left()]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("content", "its lock file PLACE/.x.pid.lock has content, so it was not made by fastproc"),
        ("readable", "its lock file PLACE/.x.pid.lock has the mode 0644, so it was not made by fastproc"),
        ("symlink", "it is a symbolic link"),
        ("hard link", "it has 2 names (hard links)"),
    ],
)
def test_lock_file_that_is_not_ours_is_refused_and_never_touched(kind: str, reason: str) -> None:
    """It is neither locked nor removed, and its mode is not changed."""
    said, *rest = isolated(locks, kind, pid_namespace=True)
    assert [one.partition(": ")[0] for one in said] == ["pid file", *["PidFileError"] * 3]
    assert [reason in one for one in said] == [True] * 4
    assert rest == [True, True, []]


def abandoned() -> list[Any]:
    from fastproc.daemon import PidFile

    path = daemons.folder() / "x.pid"
    prey = victim()
    file = PidFile(path)
    found: list[Any] = []
    for text in (content(prey.pid, 1), content(prey.pid).replace("boot=", "boot=0")):
        path.write_text(text)
        found += [file.status().state, file.stop(), path.exists()]
        path.write_text(text)
        one, pid = a_daemon(path)
        found += [one.status().pid == pid, one.stop().pid == pid]
    alive = prey.poll() is None
    prey.kill()
    prey.wait()
    return [*found, alive, daemons.nobody_left()]


def test_pid_file_of_ours_whose_process_has_ended_is_stale() -> None:
    """The start time and the boot tell. The file goes, and a new daemon is not kept from starting."""
    expected = ["stale", None, False, True, True]
    assert isolated(abandoned, pid_namespace=True) == [*expected, *expected, True, []]


def lost_lock(how: str) -> list[Any]:
    """The lock file of a living daemon is removed, by a cleaner of old files perhaps."""
    from fastproc.daemon import Daemon, PidFile

    path = daemons.folder() / "x.pid"
    one = Daemon(pid_file=path)
    pid = one.spawn("sleep", "1000") if how == "spawn" else a_daemon(path)[1]
    before = path.read_bytes()
    lock_of(path).unlink()
    said = [line.replace(f"process {pid} ", "process PID ") for line in tried(path)]
    found = [said, path.read_bytes() == before, os.listdir(path.parent), len(daemons.living())]
    for each, _ in daemons.others():
        daemons.kill(each)
    return [*found, one.status().state, PidFile(path).stop(), os.listdir(path.parent)]


@pytest.mark.parametrize(("how", "count"), [("spawn", 2), ("execute", 1)])
def test_daemon_whose_lock_file_was_lost_is_unverified_and_no_second_one_starts(how: str, count: int) -> None:
    """The message names the file that is missing."""
    said, *rest = isolated(lost_lock, how, pid_namespace=True)
    reason = "its lock file PLACE/.x.pid.lock is missing, and process PID still runs: "
    assert [reason in one for one in said] == [True] * 4
    assert said[0].startswith("pid file: AlreadyRunning: ")
    assert said[1].startswith("Status('unverified', ")
    assert rest == [True, ["x.pid"], count, "stale", None, []]


def lost_file() -> list[Any]:
    """The pid file of a living daemon is removed, and its lock file stays."""
    from fastproc.daemon import Daemon, PidFile, PidFileError

    path = daemons.folder() / "x.pid"
    one = Daemon(pid_file=path)
    one.spawn("sleep", "1000")
    path.unlink()
    status = PidFile(path).status()
    found: list[Any] = [status.state, status.pid, "is held" in status.reason]
    try:
        found.append(PidFile(path).stop())
    except PidFileError as error:
        found.append(error.reason == status.reason)
    found.append(len(daemons.living()))
    for each, _ in daemons.others():
        daemons.kill(each)
    return [*found, PidFile(path).status().state, PidFile(path).stop()]


def test_daemon_whose_pid_file_was_lost_is_unverified() -> None:
    """It was taken for stopped: only who holds the lock says that it runs."""
    assert isolated(lost_file, pid_namespace=True) == ["unverified", 0, True, True, 2, "stopped", None]


def gave_its_lock_up() -> list[Any]:
    """A daemon that closes all descriptors, as old programs do when they begin."""
    from fastproc.daemon import Daemon

    path = daemons.folder() / "x.pid"
    one = Daemon(pid_file=path)
    outcome = one.execute()
    if outcome.is_child:
        outcome.ready()
        os.closerange(3, 256)
        os.write(1, b"")
        path.with_name("closed").touch()
        while True:
            signal.pause()
    wait_until(path.with_name("closed").exists)
    said = [line.replace(f"process {outcome.pid} ", "process PID ") for line in tried(path)]
    daemons.kill(outcome.pid)
    return [said, one.status().state]


def test_daemon_that_has_closed_its_lock_is_unverified_and_no_second_one_starts() -> None:
    """It is the daemon, but nobody can prove it."""
    said, state = isolated(gave_its_lock_up, pid_namespace=True)
    assert ["nobody holds its lock, and process PID still runs" in one for one in said] == [True] * 4
    assert [one.partition(":")[0] for one in said[2:]] == ["PidFileError"] * 2
    assert state == "stale"


WITHOUT_PROC = """
import fcntl, os, subprocess, sys
from fastproc.daemon import Daemon, DaemonError, PidFile, PidFileError
path, lock = sys.argv[1:]
prey = subprocess.Popen(["sleep", "1000"])
boot = open("/proc/sys/kernel/random/boot_id").read().strip()
for held in (False, True):
    with open(path, "w") as file:
        file.write(f"{prey.pid}\\nstart=5 boot={boot}\\n")
    os.chmod(path, 0o644)
    if held:
        holder = os.open(lock, os.O_RDONLY | os.O_CREAT, 0o600)
        fcntl.flock(holder, fcntl.LOCK_EX)
    print(PidFile(path).status().state)
    try:
        print(PidFile(path).stop())
    except PidFileError as error:
        print(error.reason)
os.unlink(path), os.unlink(lock)
try:
    Daemon(pid_file=path).spawn("sleep", "1000")
except DaemonError as error:
    print(error.step, error.text)
print(prey.poll())
prey.kill()
"""


def without_a_proc() -> list[str]:
    """A PID namespace that has the /proc of another one: every number there is somebody else's."""
    path = daemons.folder() / "x.pid"
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", WITHOUT_PROC, path, lock_of(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return [*done.stdout.replace(str(path.parent), "PLACE").splitlines(), done.stderr, *os.listdir(path.parent)]


def test_foreign_proc_proves_nothing_about_a_daemon() -> None:
    """A process that is there may be the daemon, and none is proven to be it; none can be started with a pid file."""
    found = isolated(without_a_proc, pid_namespace=True)
    assert [found[0], found[2]] == ["unverified", "unverified"]
    assert "its lock file PLACE/.x.pid.lock is missing, and process " in found[1]
    assert "/proc" in found[3]
    assert found[4].startswith("pid file ")
    assert "/proc" in found[4]
    assert found[5:] == ["None", ""]


# -- what stands there, while the lock is held


def forged(kind: str) -> dict[str, Any]:
    """A daemon runs; its file is written over, by root's mistake or by one who could; then it is told to stop."""
    from fastproc.daemon import PidFile, PidFileError

    path = daemons.folder() / "x.pid"
    one, pid = a_daemon(path)
    prey = victim()
    honest = path.read_text()
    path.write_text(
        {
            "1": "1\n",
            "1 and its start": content(1),
            "a victim": content(prey.pid),
            "a victim's number alone": f"{prey.pid}\n",
            "the daemon's number alone": f"{pid}\n",
            "the daemon and another start": content(pid, 1),
            "another boot": content(pid).replace("boot=", "boot=0"),
            "a number of nobody": "31999\nstart=5 boot=" + facts(pid)[1] + "\n",
            "oneself": content(os.getpid()),
            "a victim with the daemon as its keeper": content(prey.pid).rstrip("\n")
            + f" keeper={pid} keeper-start={facts(pid)[0]}\n",
            "nothing": "",
        }[kind]
    )
    said = []
    for call in ("stop", "reload"):
        try:
            said.append(repr(getattr(PidFile(path), call)()))
        except PidFileError as error:
            said.append(error.reason)
    alive = [prey.poll() is None, os.path.exists(f"/proc/{pid}")]
    path.write_text(honest)
    stopped = one.stop()
    prey.kill()
    prey.wait()
    return {"said": said, "alive": alive, "then": stopped.pid == pid, "left": daemons.nobody_left()}


FORGED = {
    "1": "it names process 1, which is never a daemon's",
    "1 and its start": "it names process 1, which is never a daemon's",
    "a victim": "does not hold the lock",
    "a victim's number alone": "it records no start time",
    "the daemon's number alone": "it records no start time",
    "the daemon and another start": "is another process: it began at another time",
    "another boot": "it is from before the last boot",
    "a number of nobody": "process 31999 has ended; another process, perhaps a child of it, holds the lock",
    "oneself": "it names this very process",
    "a victim with the daemon as its keeper": "is not a child of its keeper",
    "nothing": "starting",
}


@pytest.mark.parametrize("kind", FORGED)
def test_pid_file_that_names_another_than_the_holder_of_its_lock_signals_nobody(kind: str) -> None:
    """GOTCHAS H9: neither 1 nor a victim, neither by a number nor by a true start time."""
    found = isolated(forged, kind, pid_namespace=True)
    assert [FORGED[kind] in one for one in found.pop("said")] == [True, True]
    assert found == {"alive": [True, True], "then": True, "left": []}


# -- a file that belongs to the daemon's user


def owned(kind: str) -> list[Any]:
    from fastproc.daemon import Daemon, PidFile, PidFileError

    path = daemons.folder() / "x.pid"
    one = Daemon(pid_file=path, user="nobody", chown_pid_file=True)
    outcome = one.execute()
    if outcome.is_child:
        outcome.ready()
        signal.pause()
    found: list[Any] = [path.stat().st_uid]
    if kind == "honest":
        try:
            PidFile(path).stop()
        except PidFileError as error:
            found.append(error.reason)
        return [*found, one.status().pid == outcome.pid, one.stop().pid == outcome.pid, daemons.nobody_left()]
    # The user's own process takes the lock, and names one of root's that it has made hold it, too.
    one.stop()
    for one_file in (path, lock_of(path)):
        one_file.touch(0o600)
        os.chown(one_file, 65534, 65534)
    holder = os.open(lock_of(path), os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    os.set_inheritable(holder, True)
    prey = subprocess.Popen(["sleep", "1000"], pass_fds=[holder])
    path.write_text(content(prey.pid))
    try:
        found.append(repr(one.stop()))
    except PidFileError as error:
        found.append(error.reason.replace(f"process {prey.pid} ", "process PREY "))
    found.append(prey.poll() is None)
    prey.kill()
    prey.wait()
    os.close(holder)
    return found


def test_pid_file_of_the_daemons_user_is_believed_where_it_is_declared() -> None:
    """Others refuse it."""
    expected = [65534, "it belongs to user 65534", True, True, []]
    assert isolated(owned, "honest", pid_namespace=True) == expected


def test_pid_file_of_a_user_cannot_make_root_signal_roots_processes() -> None:
    """Not even one that holds the lock: who writes the file must be able to signal the process himself."""
    said = "it belongs to user 65534, and process PREY runs as another user"
    assert isolated(owned, "forged", pid_namespace=True) == [65534, said, True]


def tried_to_write() -> list[Any]:
    from fastproc.daemon import Daemon

    path = daemons.folder() / "x.pid"
    log = path.with_name("log")
    one = Daemon(pid_file=path, user="nobody", stdout=log)
    outcome = one.execute()
    if outcome.is_child:
        outcome.ready()
        said = []
        for name in os.listdir("/proc/self/fd"):
            try:
                if "x.pid" in os.readlink(f"/proc/self/fd/{name}"):
                    os.write(int(name), b"1\n")
                    said.append("written")
            except OSError as error:
                said.append(os.strerror(error.errno or 0))
        for call in (lambda: path.write_text("1\n"), path.unlink):
            try:
                call()
                said.append("done")
            except OSError as error:
                said.append(os.strerror(error.errno or 0))
        print(said, flush=True)
        signal.pause()
    wait_until(lambda: log.read_text().endswith("\n"))
    return [log.read_text().strip(), one.stop().pid == outcome.pid]


def test_daemon_that_became_another_user_cannot_write_its_pid_file() -> None:
    """Its descriptor holds the lock and only reads. /proc/self/fd is not its to list, as it is not dumpable."""
    said, stopped = isolated(tried_to_write, pid_namespace=True)
    assert "written" not in said
    assert "done" not in said
    assert stopped is True


# -- a stale file and a number that is used again


class CloneArgs(ctypes.Structure):
    """struct clone_args of clone3(2)."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls")
    ] + [("set_tid", ctypes.c_uint64), ("set_tid_size", ctypes.c_uint64), ("cgroup", ctypes.c_uint64)]


def make_with_pid(pid: int) -> None:
    """Make a child with this very number, which sleeps."""
    numbers = (ctypes.c_int * 1)(pid)
    args = CloneArgs(exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(numbers), set_tid_size=1)
    libc = ctypes.PyDLL(None, use_errno=True)
    made = libc.syscall(435, ctypes.byref(args), ctypes.sizeof(args))
    if made == 0:
        try:
            os.execvp("sleep", ["sleep", "1000"])
        finally:
            os._exit(1)
    if made != pid:
        raise OSError(ctypes.get_errno(), "clone3(set_tid)")


def reused(kind: str) -> list[Any]:
    from fastproc.daemon import PidFile, PidFileError

    path = daemons.folder() / "x.pid"
    one, pid = a_daemon(path)
    honest = path.read_text()
    daemons.kill(pid)
    make_with_pid(pid)
    found: list[Any] = [path.read_text() == honest]
    holder = -1
    if kind == "the lock inherited":
        # What a child of the dead daemon could do, if it had its descriptor.
        holder = os.open(lock_of(path), os.O_RDONLY)
        fcntl.flock(holder, fcntl.LOCK_EX)
    for call in ("stop", "reload"):
        path.write_text(honest)
        try:
            found.append(repr(getattr(PidFile(path), call)()))
        except PidFileError as error:
            found.append(error.reason.replace(f"process {pid} ", "process PID "))
    found.append(one.status().state)
    found.append(os.path.exists(f"/proc/{pid}"))
    if holder >= 0:
        os.close(holder)
    _, second = a_daemon(path)
    found += [one.status().pid == second, one.stop().pid == second, os.path.exists(f"/proc/{pid}")]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return [*found, daemons.nobody_left()]


def test_stale_pid_file_whose_number_is_used_again_signals_nobody() -> None:
    """GOTCHAS H10: the number made again by clone3(set_tid); its process lives on, and a new daemon starts."""
    reload = "no daemon is running (stale)"
    expected = [True, "None", reload, "stale", True, True, True, True, []]
    assert isolated(reused, "", pid_namespace=True) == expected


def test_number_used_again_under_a_held_lock_signals_nobody() -> None:
    """The start time tells them apart."""
    said = "process PID is another process: it began at another time"
    expected = [True, said, said, "unverified", True, True, True, True, []]
    assert isolated(reused, "the lock inherited", pid_namespace=True) == expected


# -- a lock that strangers hold

STRANGER = """
import fcntl, os, sys, time
os.setgroups([]); os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
held = []
for path in sys.argv[1:]:
    try:
        held.append(os.open(path, os.O_RDONLY))
        fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("held", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
time.sleep(1000)
"""

OBSERVER = """
import encodings.ascii, os, sys  # the interpreter may lie where nobody else can read
from fastproc.daemon import PidFile
os.setgroups([]); os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
status = PidFile(sys.argv[1]).status()
print(status.state, status.pid)
"""


def held_by_a_stranger(when: str) -> list[Any]:
    path = daemons.folder() / "x.pid"
    one, pid = a_daemon(path)
    if when == "before":
        daemons.kill(pid)
    stranger = subprocess.Popen(
        [sys.executable, "-c", STRANGER, path, lock_of(path)], stdout=subprocess.PIPE, text=True
    )
    assert stranger.stdout is not None
    found: list[Any] = [[stranger.stdout.readline().strip() for _ in range(2)], one.status().state]
    if when == "before":
        _, pid = a_daemon(path)
    found.append([one.status().pid == pid, one.stop().pid == pid, os.listdir(path.parent)])
    stranger.kill()
    stranger.wait()
    return found


@pytest.mark.parametrize(("when", "state"), [("before", "stale"), ("meanwhile", "running")])
def test_lock_held_by_a_stranger_keeps_no_daemon_from_starting_or_ending(when: str, state: str) -> None:
    """flock(2) asks for no more than to read: the lock is that of a file that only its owner can open."""
    expected = [["held", "PermissionError"], state, [True, True, []]]
    assert isolated(held_by_a_stranger, when, pid_namespace=True) == expected


def observed() -> list[Any]:
    path = daemons.folder() / "x.pid"
    one, pid = a_daemon(path)
    said = [daemons.python(OBSERVER, path).stdout.strip() == f"running {pid}", oct(lock_of(path).stat().st_mode)]
    daemons.kill(pid)
    said += [daemons.python(OBSERVER, path).stdout.strip() == f"stale {pid}", one.stop()]
    return [*said, daemons.python(OBSERVER, path).stdout.strip(), os.listdir(path.parent)]


def test_status_is_known_to_others_who_may_not_open_the_lock() -> None:
    """The kernel's list of locks tells it."""
    assert isolated(observed, pid_namespace=True) == [True, "0o100600", True, None, "stopped 0", []]


# -- the lock and the daemon's children


def inherited(kind: str) -> list[Any]:
    from fastproc.daemon import Daemon

    path = daemons.folder() / "x.pid"
    one = Daemon(pid_file=path)
    outcome = one.execute()
    if outcome.is_child:
        if kind == "a program":
            subprocess.Popen(["sleep", "1000"], close_fds=False)
        elif kind == "a fork":
            if os.fork() == 0:
                signal.pause()
        else:
            import multiprocessing

            multiprocessing.get_context("fork").Process(target=signal.pause).start()
        outcome.ready()
        signal.pause()
    daemons.kill(outcome.pid)
    left = daemons.living()
    found: list[Any] = [len(left), one.status().state]
    _, second = a_daemon(path)
    found += [one.status().pid == second, one.stop().pid == second, len(daemons.living())]
    for pid, _ in daemons.others():
        daemons.kill(pid)
    return found


@pytest.mark.parametrize("kind", ["a program", "a fork", "multiprocessing"])
def test_lock_is_not_inherited_by_the_daemons_children(kind: str) -> None:
    """GOTCHAS C17: they live on when the daemon is killed, and it can be started again."""
    assert isolated(inherited, kind, pid_namespace=True) == [1, "stale", True, True, 1]


# -- several at once

ROUNDS = 30


def test_two_starters_at_once_are_one_daemon() -> None:
    """One starts, the other is refused and names it; nothing of the other is left. 500 times in tests/soak."""
    found = isolated(daemons.starters, ROUNDS, pid_namespace=True)
    assert found == {"wrong": [], "refused": ROUNDS, "left": []}


def test_lock_that_is_removed_and_taken_in_turn_has_one_holder() -> None:
    """GOTCHAS H11: two processes take, remove and leave the file; never do both hold it."""
    assert isolated(daemons.successors, 200, pid_namespace=True) == [[0, 0], [True, True], []]


# -- telling


def stubborn(grace: float) -> list[Any]:
    from fastproc.daemon import Daemon

    path = daemons.folder() / "x.pid"
    one = Daemon(pid_file=path)
    outcome = one.execute()
    if outcome.is_child:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        outcome.ready()
        while True:
            signal.pause()
    begin = time.monotonic()
    stopped = one.stop(grace=grace)
    took = time.monotonic() - begin
    return [stopped.killed, stopped.pid == outcome.pid, took >= grace, one.status().state, os.listdir(path.parent)]


def test_stop_kills_after_the_grace() -> None:
    """And returns when the daemon and its file are gone."""
    assert isolated(stubborn, 0.3, pid_namespace=True) == [True, True, True, "stopped", []]


def stays_when_killed() -> list[Any]:
    from fastproc.daemon import PidFileError, _pidfile

    path = daemons.folder() / "x.pid"
    one, pid = a_daemon(path)
    _pidfile.KILL_PATIENCE = 0.2
    send, _pidfile._Look.send = _pidfile._Look.send, lambda *_: None  # type: ignore[method-assign, assignment]
    try:
        found = [repr(one.stop(grace=0.0))]
    except PidFileError as error:
        found = [error.reason.replace(str(pid), "PID")]
    _pidfile._Look.send = send  # type: ignore[method-assign]
    return [*found, one.stop().pid == pid]


def test_stop_of_a_daemon_that_does_not_end_when_killed_says_so() -> None:
    """It sleeps in the kernel, or is frozen; here no signal reaches it."""
    said = "process PID was killed, and has not ended after 0.2 s (state S)"
    assert isolated(stays_when_killed, pid_namespace=True) == [said, True]


def test_pid_file_option_is_checked() -> None:
    """The error names the argument."""
    from fastproc.daemon import PidFile

    with pytest.raises(ValueError, match="pid_file: "):
        PidFile("")
    with pytest.raises(TypeError, match="pid_file: "):
        PidFile(7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grace: "):
        PidFile("/run/x.pid").stop(grace=-1)
    with pytest.raises(ValueError, match="sig: "):
        PidFile("/run/x.pid").stop(sig="NONSENSE")
