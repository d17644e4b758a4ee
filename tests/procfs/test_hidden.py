"""Other users' processes, hidepid, reused numbers, other namespaces, a missing /proc: each in a process of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from typing import Any

import pytest

from conftest import isolated
from fastproc.procfs import Absent, Host, Process, ProcessGone, need

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

USER = 65533
# What a user may read of another's process, and what not (proc(5), ptrace(2)).
OPEN = (
    "stat",
    "status",
    "statm",
    "comm",
    "cmdline",
    "limits",
    "cgroup",
    "mountinfo",
    "oom_score",
    "schedstat",
    "uid_map",
)
REFUSED = (
    "environ",
    "exe",
    "cwd",
    "root",
    "io",
    "maps",
    "smaps",
    "smaps_rollup",
    "numa_maps",
    "auxv",
    "namespaces",
    "syscall",
)


def mount_proc(options: str) -> None:
    """Mount /proc anew, in the mount namespace of this process only."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"proc", b"/proc", b"proc", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), options)


def become(user: int) -> None:
    socket.inet_ntop(socket.AF_INET6, bytes(16))  # imported while it may be read
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def describe(call: Any) -> str:
    try:
        value = call()
    except Exception as error:
        return type(error).__name__
    return value.reason if isinstance(value, Absent) else "value"


def as_another_user() -> dict[str, Any]:
    child = subprocess.Popen(["sleep", "600"])
    with Process(child.pid) as held:
        become(USER)
        with Process(child.pid) as process:
            found = process.read_all()
            stat = need(process.stat())
            answer = {
                "open": {name: describe(lambda name=name: found[name]) for name in OPEN},
                "refused": {name: describe(lambda name=name: found[name]) for name in REFUSED},
                "fds": describe(process.fds),
                "fdinfo": describe(lambda: process.fdinfo(0)),
                "addresses": [
                    describe(lambda name=name: getattr(stat, name)) for name in ("startcode", "env_end", "exit_code")
                ],
                "memory": isinstance(need(process.status()).vm_rss, int),
                # What was opened as root is judged by who reads.
                "held": describe(held.io),
            }
        every = {
            describe(lambda value=value: value) for process in Host().processes() for value in read_and_close(process)
        }
        answer["every"] = sorted(every)
    return answer


def read_and_close(process: Process) -> list[object]:
    with process:
        try:
            return list(process.read_all().values())
        except ProcessGone:
            return []


def test_another_users_process_tells_what_it_may_and_why_not() -> None:
    found = isolated(as_another_user, pid_namespace=True)
    assert set(found["open"].values()) == {"value"}
    assert set(found["refused"].values()) == {"denied"}
    assert (found["fds"], found["fdinfo"], found["held"]) == ("denied", "denied", "denied")
    assert found["addresses"] == ["denied"] * 3
    assert found["memory"]
    assert set(found["every"]) <= {"value", "denied", "not in this kernel", "zombie"}


def with_hidepid(option: str) -> dict[str, Any]:
    child = subprocess.Popen(["sleep", "600"])
    gone = subprocess.Popen(["true"])
    gone.wait()
    mount_proc(option)
    held = Process(child.pid)
    mine = os.getpid()
    become(USER)
    answer = {
        "new": describe(lambda: Process(child.pid)),
        "gone": describe(lambda: Process(gone.pid)),
        "held": describe(held.status),
        "alive": describe(held.is_alive),
        "listed": child.pid in Host().pids(),
        "mine": mine in Host().pids(),
        "machine": describe(Host().meminfo),
        "processes": [process.pid for process in Host().processes() if process.close() is None],
    }
    held.close()
    return answer


@pytest.mark.parametrize(
    ("option", "held", "listed"),
    [
        ("hidepid=0", "value", True),
        ("hidepid=1", "denied", True),
        ("hidepid=2", "ProcessHidden", False),
        ("hidepid=ptraceable", None, False),
    ],
)
def test_hidepid(option: str, held: str | None, listed: bool) -> None:
    """A hidden process is told from one that has gone."""
    found = isolated(with_hidepid, option, pid_namespace=True)
    assert found["new"] == ("value" if option == "hidepid=0" else "ProcessHidden")
    assert found["gone"] == "ProcessGone"
    if held is not None:
        assert found["held"] == held
    assert found["listed"] == listed
    assert found["machine"] == "value"
    if option in ("hidepid=0", "hidepid=1", "hidepid=2"):
        assert found["mine"]


def reuse() -> dict[str, Any]:
    """Give a number again, with an old handle of it open."""
    first = subprocess.Popen(["sleep", "600"])
    number = first.pid
    with Process(number) as old:
        start = need(old.stat()).starttime
        tid = next(iter(old.tasks()))
        link = need(old.exe()).text
        first.kill()
        first.wait()
        gone = {
            name: describe(getattr(old, name))
            for name in ("stat", "exe", "fds", "tids", "maps", "namespaces", "children")
        }
        time.sleep(0)
        second = None
        for _ in range(2000):
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(number - 1))
            second = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
            if second.pid == number:
                break
            second.communicate()
        assert second is not None
        with Process(number) as new:
            answer = {
                "same": second.pid == number,
                "gone": gone,
                "old": {
                    name: describe(getattr(old, name))
                    for name in ("stat", "status", "exe", "fds", "tids", "maps", "namespaces")
                },
                "task": {name: describe(getattr(tid, name)) for name in ("stat", "maps", "children")},
                "net": describe(old.net.tcp),
                "alive": old.is_alive(),
                "new": describe(new.stat),
                "other": need(new.exe()).text != link and need(new.stat()).starttime >= start,
            }
        tid.close()
        second.communicate()
    return answer


def test_reused_number_is_never_read() -> None:
    """GOTCHAS D1: the old handle says that its process has gone, while the new one is there."""
    found = isolated(reuse, pid_namespace=True)
    assert found["same"], "the number could not be had again"
    for what in ("gone", "old", "task"):
        assert set(found[what].values()) == {"ProcessGone"}, what
    assert (found["net"], found["alive"], found["new"], found["other"]) == ("ProcessGone", False, "value", True)


def without_proc() -> dict[str, Any]:
    library = ctypes.CDLL(None, use_errno=True)
    host = Host()
    with Process.current() as held:
        if library.umount2(b"/proc", 2) != 0:
            raise OSError(ctypes.get_errno(), "umount")
        while os.path.exists("/proc/self"):
            library.umount2(b"/proc", 2)
        return {
            "new": describe(lambda: Process(os.getpid())),
            "current": describe(Process.current),
            "pids": describe(host.pids),
            "processes": describe(lambda: list(host.processes())),
            "machine": [describe(getattr(host, name)) for name in ("stat", "meminfo", "mounts", "cpuinfo")],
            "net": describe(host.net.tcp),
            "sysctl": describe(lambda: host.sysctl("kernel.pid_max")),
            "fields": describe(lambda: host.sys_kernel().pid_max),
            # What is held open still answers.
            "held": describe(held.status),
        }


def test_missing_proc() -> None:
    """GOTCHAS K5."""
    assert isolated(without_proc, pid_namespace=True) == {
        "new": "NoProcfs",
        "current": "NoProcfs",
        "pids": "NoProcfs",
        "processes": "NoProcfs",
        "machine": ["no procfs"] * 4,
        "net": "no procfs",
        "sysctl": "no procfs",
        "fields": "no procfs",
        "held": "value",
    }


def other_network() -> dict[str, Any]:
    child = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up 2>/dev/null; echo; read x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    with socket.create_server(("127.0.0.1", 0)) as server, Process(child.pid) as process, Process.current() as me:
        port = server.getsockname()[1]
        answer = {
            "mine": port in [one.local.port for one in need(me.net.tcp())],
            "its": [one.local.port for one in need(process.net.tcp())],
            "interfaces": [one.name for one in need(process.net.dev())][:1],
            "namespace": need(process.namespaces())["net"].inode != need(me.namespaces())["net"].inode,
        }
    child.communicate()
    return answer


def test_tables_are_those_of_the_processs_network_namespace() -> None:
    if subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("network namespaces are not allowed here")
    found = isolated(other_network, pid_namespace=True)
    assert (found["mine"], found["its"], found["namespace"]) == (True, [], True)


def other_users() -> dict[str, Any]:
    """A process in a user and PID namespace of its own, seen from outside."""
    child = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "sh", "-c", "echo $$; read x"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    inside = int(child.stdout.readline())
    with Process(child.pid) as outer:
        (pid,) = need(outer.children())
    with Process(pid) as process:
        status = need(process.status())
        answer = {
            "map": [(one.inside, one.outside, one.count) for one in need(process.uid_map())],
            "setgroups": need(process.setgroups()),
            "pids": status.ns_pid,
            "expected": [pid, inside],
        }
    child.communicate()
    return answer


def test_namespaces_of_users_and_pids() -> None:
    if subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("user namespaces are not allowed here")
    found = isolated(other_users, pid_namespace=True)
    assert found["map"] == [[0, 0, 1]]
    assert found["pids"] == found["expected"]
    assert found["setgroups"] in ("allow", "deny")


def storm(seconds: float) -> dict[str, int]:
    """Processes of all kinds come and go while all of them are read, again and again."""
    end = time.monotonic() + seconds
    spawner = os.fork()
    if spawner == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            if os.fork() == 0:
                if os.getpid() % 3 == 0:
                    os.execvp("true", ["true"])
                time.sleep(os.getpid() % 20 / 1000)
                os._exit(0)
    seen: dict[str, int] = {}
    while time.monotonic() < end:
        # The youngest first, as they do not live for long.
        for pid in reversed(Host().pids()):
            try:
                values = read_and_close(Process(pid))
            except ProcessGone:
                values = []
            for value in values:
                reason = value.reason if isinstance(value, Absent) else "value"
                seen[reason] = seen.get(reason, 0) + 1
            if not values:
                seen["gone at once"] = seen.get("gone at once", 0) + 1
    os.kill(spawner, signal.SIGKILL)
    os.waitpid(spawner, 0)
    return seen


@pytest.mark.slow
def test_processes_that_come_and_go_are_read_without_a_fault() -> None:
    seen = isolated(storm, 3.0, pid_namespace=True)
    print(seen)
    assert "error" not in seen
    assert seen["value"] > 100
    assert seen["gone at once"] > 0
    assert seen.keys() & {"gone", "zombie", "ending"}
