"""Paths that somebody else can change: a privileged process does not follow their links, a user does follow his own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc._engine import trusted
from fastproc._engine.fds import OwnedFd
from support import daemons

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

USER = 12345
WRITE = os.O_WRONLY | os.O_CREAT


def said(path: Path, flags: int = WRITE | os.O_TRUNC, **options: Any) -> str:
    """Where an open leads, or why it is refused."""
    try:
        with trusted.open_file(str(path), flags, **options) as fd:
            return os.readlink(f"/proc/self/fd/{fd.number}")
    except trusted.Untrusted as error:
        return f"Untrusted: {error}"
    except OSError as error:
        return f"{type(error).__name__}: {error.filename}"


def theirs(path: Path, mode: int = 0o755) -> Path:
    path.mkdir(mode)
    path.chmod(mode)
    os.chown(path, USER, USER)
    return path


def as_user(call: Callable[[], object]) -> str:
    """What a call returns in a process of another user."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
            os.write(write, str(call()).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as file:
        return file.read()


def link_by_user(path: Path, target: str | Path) -> None:
    path.symlink_to(target)
    os.lchown(path, USER, USER)


def ways(case: str) -> list[Any]:
    """A user has prepared the way to a file of root's."""
    place = daemons.folder()
    secret = place / "secret"
    secret.mkdir()
    (secret / "app").write_text("keep me")
    home = theirs(place / "home")
    path = home / "logs" / "app"
    flags = WRITE | os.O_TRUNC
    if case in ("link", "read"):
        link_by_user(home / "logs", secret)
        flags = os.O_RDONLY if case == "read" else flags
    elif case == "relative link":
        link_by_user(home / "logs", "../secret")
    elif case == "root's link":
        (home / "logs").symlink_to(secret)
    elif case == "deep":
        theirs(home / "a")
        (home / "a" / "b").mkdir()
        link_by_user(home / "a" / "b" / "logs", secret)
        path = home / "a" / "b" / "logs" / "app"
    elif case == "behind root's link":
        (place / "way").symlink_to(home)
        link_by_user(home / "logs", secret)
        path = place / "way" / "logs" / "app"
    elif case == "up again":
        theirs(home / "logs")
        (place / "way").symlink_to("home/logs/../../secret")
        path = place / "way" / "app"
    elif case == "last":
        theirs(home / "logs")
        link_by_user(path, secret / "app")
    elif case == "dangling":
        theirs(home / "logs")
        link_by_user(path, secret / "new")
    elif case == "hard link":
        theirs(home / "logs")
        os.link(secret / "app", path)
    elif case == "FIFO":
        theirs(home / "logs")
        os.mkfifo(path)
        os.chown(path, USER, USER)
    elif case == "group":
        place.chmod(0o775)
        os.chown(place, 0, USER)
        link_by_user(place / "way", secret)
        path = place / "way" / "app"
    elif case == "group, root's link":
        place.chmod(0o775)
        (place / "way").symlink_to(secret)
        path = place / "way" / "app"
    elif case == "sticky":
        place.chmod(0o1777)
        (place / "way").symlink_to(secret)
        path = place / "way" / "app"
    elif case == "another's descriptor":
        theirs(home / "logs")
        link_by_user(path, "/proc/self/fd/0")
    signal.alarm(20)
    answer = said(path, flags).replace(str(place), "PLACE")
    return [answer, (secret / "app").read_text(), sorted(os.listdir(secret))]


HOME = "Untrusted: the directory PLACE/home belongs to user 12345"
REFUSED = {
    "link": f"{HOME}, and PLACE/home/logs is a symbolic link",
    "read": f"{HOME}, and PLACE/home/logs is a symbolic link",
    "relative link": f"{HOME}, and PLACE/home/logs is a symbolic link",
    "root's link": f"{HOME}, and PLACE/home/logs is a symbolic link",
    "deep": f"{HOME}, and PLACE/home/a/b/logs is a symbolic link",
    "behind root's link": f"{HOME}, and PLACE/home/logs is a symbolic link",
    "up again": f'{HOME}, and the path has ".." below it',
    "last": "Untrusted: PLACE/home/logs/app is a symbolic link, where others can make one",
    "dangling": "Untrusted: PLACE/home/logs/app is a symbolic link, where others can make one",
    "another's descriptor": "Untrusted: PLACE/home/logs/app is a symbolic link, where others can make one",
    "hard link": "Untrusted: PLACE/home/logs/app: it has 2 names (hard links)",
    "FIFO": "OSError: PLACE/home/logs/app",
    "group": "Untrusted: the directory PLACE can be written by others (mode 0775), and PLACE/way is a symbolic link",
    "group, root's link": "Untrusted: the directory PLACE can be written by others (mode 0775), "
    "and PLACE/way is a symbolic link",
    "sticky": "Untrusted: the directory PLACE can be written by others (mode 1777), and PLACE/way is a symbolic link",
}


@pytest.mark.parametrize("case", REFUSED)
def test_way_that_somebody_else_has_prepared_leads_root_nowhere(case: str) -> None:
    """What is refused was not opened, emptied or made; nothing hangs."""
    answer, kept, names = isolated(ways, case, pid_namespace=True)
    assert answer == REFUSED[case] or (case == "dangling" and answer.startswith("PermissionError"))
    assert [kept, names] == ["keep me", ["app"]]


def of_the_directorys_owner() -> list[str]:
    """A log that a user has made, and that root goes on with."""
    place = daemons.folder()
    home = theirs(place / "home")
    for name, owner in (("log", USER), ("stranger's", 999)):
        (home / name).touch()
        os.chown(home / name, owner, owner)
    os.link(home / "log", home / "second")
    (home / "single").touch()
    os.chown(home / "single", USER, USER)
    answers = [said(home / name, WRITE, shared=True) for name in ("single", "log", "stranger's")]
    return [one.replace(str(place), "PLACE") for one in [*answers, said(home / "single", WRITE)]]


def test_log_of_the_directorys_owner_is_taken_where_that_harms_nobody() -> None:
    """Not one with a second name, and not one of a third user."""
    assert isolated(of_the_directorys_owner, pid_namespace=True) == [
        "PLACE/home/single",
        "Untrusted: PLACE/home/log: it has 2 names (hard links)",
        "Untrusted: PLACE/home/stranger's: it belongs to user 999",
        "Untrusted: PLACE/home/single: it belongs to user 12345",
    ]


def allowed() -> dict[str, str]:
    place = daemons.folder()
    home = theirs(place / "home")
    theirs(home / "logs")
    (place / "real").mkdir()
    (place / "way").symlink_to("real")
    (place / "absolute").symlink_to(place / "way")
    (place / "up").symlink_to("real/../way/.")
    (place / "real" / "first").symlink_to("second")
    (place / "loop").symlink_to("loop")
    sticky = place / "tmp"
    sticky.mkdir()
    sticky.chmod(0o1777)
    (sticky / "mine").mkdir()
    answers = {
        "their directory": said(home / "logs" / "app"),
        "again": said(home / "logs" / "app"),
        "root's links": said(place / "absolute" / "app"),
        "up": said(place / "up" / "app"),
        "dangling": said(place / "way" / "first"),
        "sticky": said(sticky / "log"),
        "below sticky": said(sticky / "mine" / "log"),
        "descriptor": said(Path("/dev/null")),
        "loop": said(place / "loop" / "app"),
        "missing": said(place / "way" / "none" / "app"),
        "no directory": said(place / "way" / "second" / "app"),
        "directory": said(place / "real"),
        "in /var/run": said(Path("/var/run") / place.relative_to("/run") / "app"),
    }
    return {name: answer.replace(str(place), "PLACE") for name, answer in answers.items()}


def test_way_that_only_root_has_made_is_followed() -> None:
    """Root's links, also one after the other, and a file of its own in another user's directory."""
    assert isolated(allowed, pid_namespace=True) == {
        "their directory": "PLACE/home/logs/app",
        "again": "PLACE/home/logs/app",
        "root's links": "PLACE/real/app",
        "up": "PLACE/real/app",
        "dangling": "PLACE/real/second",
        "sticky": "PLACE/tmp/log",
        "below sticky": "PLACE/tmp/mine/log",
        "descriptor": "/dev/null",
        "loop": "OSError: PLACE/loop",
        "missing": "FileNotFoundError: PLACE/real/none",
        "no directory": "NotADirectoryError: PLACE/real/second",
        "directory": "IsADirectoryError: PLACE/real",
        "in /var/run": "PLACE/app",
    }


def of_a_user() -> dict[str, str]:
    """A user's own program, in places of his, of his group's and of others."""
    place = daemons.folder()
    mine = theirs(place / "mine", 0o775)
    theirs(mine / "real", 0o775)
    link_by_user(mine / "way", "real")
    link_by_user(mine / "real" / "last", "other")
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "way").symlink_to(mine)
    os.lchown(shared / "way", 999, 999)
    bobs = place / "bobs"
    bobs.mkdir()
    link_by_user(bobs / "way", mine / "real")
    os.chown(bobs, 999, 999)
    link_by_user(mine / "twice", "real")
    os.link(mine / "twice", mine / "twice as well", follow_symlinks=False)
    answers = {
        "guarded, where another user is the owner": as_user(lambda: said(bobs / "way" / "log", guarded=True)),
        "guarded, with two names": as_user(lambda: said(mine / "twice" / "log", guarded=True)),
        "own link": as_user(lambda: said(mine / "way" / "log")),
        "own last link": as_user(lambda: said(mine / "way" / "last")),
        "a colleague's link": as_user(lambda: said(shared / "way" / "log")),
        "guarded": as_user(lambda: said(shared / "way" / "log", guarded=True)),
        "guarded own link": as_user(lambda: said(mine / "way" / "log", guarded=True)),
    }
    return {name: answer.replace(str(place), "PLACE") for name, answer in answers.items()}


def test_user_follows_his_own_links() -> None:
    """And others' as the kernel does, unless it is for root that he opens a file."""
    assert isolated(of_a_user, pid_namespace=True) == {
        "own link": "PLACE/mine/real/log",
        "own last link": "PLACE/mine/real/other",
        "a colleague's link": "PLACE/mine/log",
        "guarded": "Untrusted: the directory PLACE/shared can be written by others (mode 0777), "
        "and PLACE/shared/way is a symbolic link",
        "guarded own link": "PLACE/mine/real/log",
        "guarded, where another user is the owner": "Untrusted: the directory PLACE/bobs belongs to user 999, "
        "and PLACE/bobs/way is a symbolic link",
        "guarded, with two names": "Untrusted: the directory PLACE/mine can be written by others (mode 0775), "
        "and PLACE/mine/twice is a symbolic link",
    }


def logs_of_root() -> list[Any]:
    """Root's own logs, each kind below a directory where a user has made a link."""
    import fastproc
    from fastproc.daemon import Daemon, DaemonError
    from fastproc.systemd import NotifyServer

    place = daemons.folder()
    secret = place / "secret"
    secret.mkdir()
    link_by_user(theirs(place / "home") / "logs", secret)
    path = place / "home" / "logs" / "app"
    found: list[str] = []
    for name in ("stdin", "stdout", "stderr", "pid_file"):
        if name == "stdin":
            (secret / "app").write_text("secret")
        try:
            Daemon(foreground=False, **{name: path}).spawn("true")
            found.append("started")
        except DaemonError as error:
            found.append(error.text)
        (secret / "app").unlink(missing_ok=True)
    for name in ("joblog", "results"):
        try:
            list(fastproc.map("true", "a", **{name: path}))
            found.append("mapped")
        except PermissionError as error:
            found.append(str(error))
    try:
        limit = fastproc.CaptureLimit(1, spill=str(path))
        fastproc.run("echo", "ab", capture=True, stdout_limit=limit)
        found.append("ran")
    except fastproc.SpawnError as error:
        found.append(str(error))
    try:
        NotifyServer(path=str(path)).close()
        found.append("bound")
    except PermissionError as error:
        found.append(str(error))
    return [[one.replace(str(place), "PLACE") for one in found], os.listdir(secret)]


def test_logs_and_pid_files_of_root_are_not_where_a_user_has_led_them() -> None:
    """Streams of a daemon, its pid file, and what a map keeps."""
    said, made = isolated(logs_of_root, pid_namespace=True)
    below = "the directory PLACE/home belongs to user 12345"
    link = f"{below}, and PLACE/home/logs is a symbolic link"
    log = f"[Errno 1] {link}: 'PLACE/home/logs/app'"
    spill = said.pop(6)
    assert link in spill
    assert said == [link, link, link, f"pid file PLACE/home/logs/app: {below}", log, log, log]
    assert made == []


def test_failed_walk_leaves_no_descriptor(tmp_path: Path) -> None:
    """Neither of what was opened on the way nor of what was found."""
    (tmp_path / "file").touch()
    before = os.listdir("/proc/self/fd")
    for path in ("none/x", "file/x"):
        with pytest.raises((OSError, trusted.Untrusted)):
            trusted.enter(str(tmp_path / path))
        with pytest.raises(OSError, match=path[:4]):
            trusted.approach(str(tmp_path / path))
    place, _why = trusted.approach(str(tmp_path))
    assert isinstance(place, OwnedFd)
    place.close()
    assert os.listdir("/proc/self/fd") == before


def descriptors_of_others() -> list[str]:
    """A link to a descriptor of a process, as containers have for their logs: of root's, and of another user's."""
    place = daemons.folder()
    target = place / "target"
    target.touch()
    out = os.open(target, os.O_WRONLY)
    found = []
    for user in (0, USER):
        ready, tell = os.pipe()
        if (child := os.fork()) == 0:
            os.dup2(out, 1)
            os.setresuid(user, user, user)
            os.write(tell, b"x")
            signal.pause()
        os.read(ready, 1)
        link = place / f"log-{user}"
        link.symlink_to(f"/proc/{child}/fd/1")
        for path in (link, Path(f"/proc/{child}/task/{child}/fd/1"), Path(f"/proc/./{child}/fd/1")):
            said_of = said(path, os.O_WRONLY)
            found.append("target" if said_of == str(target) else said_of.partition(":")[0])
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return found


def test_descriptor_of_a_process_is_opened_where_root_has_it() -> None:
    """Another user's process may have made its links lead anywhere."""
    found = isolated(descriptors_of_others, pid_namespace=True)
    assert found[:3] == ["target"] * 3
    assert "target" not in found[3:]
