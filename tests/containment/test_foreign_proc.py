"""/proc of another PID namespace: its numbers name strangers here, so nobody is signalled, watched or read by them.

Each test runs below a PID namespace with a /proc of its own, in a second one that keeps the /proc of the first: there
the strangers are the test's too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated
from fastproc import _native, capabilities, info, privileges, procfs
from fastproc._engine.streams import sink as capture
from fastproc._native import proc
from fastproc.containment._cgroup import Cgroup
from fastproc.containment._member import facts_of
from fastproc.monitor import Monitor
from fastproc.systemd import _notify_receive as notified

pytestmark = [pytest.mark.privileged, pytest.mark.usefixtures("pid_namespace")]

INNER = (
    *("sh", "-c", 'echo 5000 >/proc/sys/kernel/ns_last_pid && exec "$@"', "sh"),
    *("unshare", "--pid", "--fork", "--kill-child"),
)
"""A namespace that keeps the outer one's /proc, in which numbers are far from its own."""

CLONE_NEWPID = 0x20000000
PTRACE_SEIZE = 0x4206

TREE = """
echo a $$
sh -c 'echo b $$; exec sleep 60' &
setsid sh -c 'echo c $$; exec sleep 60' &
wait
"""
"""A child, one in its group, one in a session of its own; each says its number behind a letter."""


def nested(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function where /proc belongs to the namespace above."""
    return isolated(function, *arguments, pid_namespace=True, prefix=INNER)


def outer_number(pid: int) -> int:
    """What a process of this namespace is called in /proc."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        for line in Path(f"/proc/{name}/status").read_text().splitlines():
            if line.startswith("NSpid:") and line.split()[1:] == [name, str(pid)]:
                return int(name)
    raise AssertionError(pid)


@contextmanager
def stranger(number: int) -> Iterator[int]:
    """A process of this namespace with a number of our choice; the value is its pidfd."""
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
    sleeper = subprocess.Popen(["sleep", "60"])
    assert sleeper.pid == number
    fd = os.pidfd_open(number)
    try:
        yield fd
    finally:
        os.close(fd)
        sleeper.kill()
        sleeper.wait()


def has_ended(pidfd: int) -> bool:
    return bool(os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT))


def killing(with_cgroup: bool, grace: float) -> dict[str, Any]:
    make = Cgroup.make
    if not with_cgroup:
        Cgroup.make = lambda _parent: None  # type: ignore[method-assign]
    process = fastproc.start("sh", "-c", TREE, stdout=fastproc.PIPE, kill_tree=True)
    Cgroup.make = make  # type: ignore[method-assign]
    assert process.stdout is not None
    numbers = [int(line.split()[1]) for line in sorted(process.stdout.readline() for _ in range(3))]
    tree = [os.pidfd_open(number) for number in numbers]
    process.stdout.close()
    outer = [outer_number(number) for number in numbers]
    with stranger(outer[0]) as one, stranger(outer[1]) as two, stranger(outer[2]) as three:
        # The stranger is listed in /proc as somebody else, and that one as the stranger's number.
        end = process.kill_tree(grace)
        # A killed process that is not our child is waited for by its pidfd.
        ended = [gone_within(fd, 5.0 if end.gone or at < 2 else 0.0) for at, fd in enumerate(tree)]
        strangers = [has_ended(fd) for fd in (one, two, three)]
    if not ended[2]:
        signal.pidfd_send_signal(tree[2], signal.SIGKILL)
    return {
        "ended": ended,
        "strangers": strangers,
        "end": [list(end.found_by), end.killed, len(end.survivors), end.unseen, end.gone],
        "text": repr(end),
    }


def gone_within(pidfd: int, seconds: float) -> bool:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


@pytest.mark.parametrize("grace", [0, 0.05])
def test_kill_tree_by_group_alone(grace: float) -> None:
    """The child and its group are ended; nobody is looked for by the numbers of /proc, and TreeEnd says so."""
    found = nested(killing, False, grace)
    assert found["strangers"] == [False] * 3
    assert found["ended"] == [True, True, False]
    assert found["end"] == [["group"], None, 0, proc.FOREIGN, False]
    assert "another PID namespace" in found["text"]


def test_kill_tree_by_cgroup() -> None:
    """The kernel knows who is in a cgroup: the whole tree is ended, and nothing is unseen."""
    found = nested(killing, True, 0)
    if found["end"][0] != ["cgroup"]:
        pytest.skip("no cgroup v2 can be made here")
    assert found["strangers"] == [False] * 3
    assert found["ended"] == [True] * 3
    assert found["end"] == [["cgroup"], 3, 0, "", True]


def without_group() -> list[Any]:
    """A child that leads no group, as the drop-in and plain start() make it: only itself is ended."""
    process = fastproc.start("sh", "-c", TREE, stdout=fastproc.PIPE)
    assert process.stdout is not None
    numbers = [int(line.split()[1]) for line in sorted(process.stdout.readline() for _ in range(3))]
    tree = [os.pidfd_open(number) for number in numbers]
    process.stdout.close()
    end = process.kill_tree(0)
    ended = [gone_within(fd, 5.0 if at == 0 else 0.0) for at, fd in enumerate(tree)]
    for fd in tree[1:]:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    return [list(end.found_by), end.killed, bool(end.unseen), ended]


def test_kill_tree_of_a_plain_child_ends_the_child() -> None:
    assert nested(without_group) == [[], 1, True, [True, False, False]]


def terminated_once() -> list[Any]:
    """Who is sent SIGTERM, by the two ways in which a tree is."""
    Cgroup.make = lambda _parent: None  # type: ignore[method-assign]
    sent: list[str] = []
    process = fastproc.start("sleep", "60", kill_tree=True)
    signal_group, send_signal = type(process).signal_group, type(process).send_signal

    def to_group(self: fastproc.Process, sig: int) -> None:
        sent.append(f"group {sig}")
        signal_group(self, sig)

    def to_child(self: fastproc.Process, sig: int) -> None:
        sent.append(f"child {sig}")
        send_signal(self, sig)

    type(process).signal_group, type(process).send_signal = to_group, to_child  # type: ignore[method-assign]
    process.signal_tree(signal.SIGCONT)
    process.kill_tree(0.2)
    return sent[:2]


def test_child_gets_one_signal() -> None:
    """With the group that it leads, or alone."""
    assert nested(terminated_once) == [f"group {int(signal.SIGCONT)}", f"group {int(signal.SIGTERM)}"]


def known_before() -> list[Any]:
    """Members found while /proc was ours are ended by their pidfds when it is not any more."""
    libc = ctypes.CDLL(None, use_errno=True)
    Cgroup.make = lambda _parent: None  # type: ignore[method-assign]
    with fastproc.start("sh", "-c", TREE, stdout=fastproc.PIPE, kill_tree=True) as process:
        assert process.stdout is not None
        numbers = [int(line.split()[1]) for line in sorted(process.stdout.readline() for _ in range(3))]
        tree = [os.pidfd_open(number) for number in numbers]
        assert process.tree is not None
        process.tree.is_gone()
        assert libc.mount(b"none", b"/proc", b"tmpfs", 0, None) == 0
        end = process.kill_tree(0)
    ended = [gone_within(fd, 5.0) for fd in tree]
    return [ended, end.unseen, len(end.survivors)]


def test_members_that_were_found_are_ended_without_proc() -> None:
    ended, unseen, survivors = isolated(known_before, pid_namespace=True)
    assert (ended, unseen, survivors) == ([True] * 3, proc.MISSING, 0)


# -- whoever reads about a number


def outcome(call: Callable[[], Any]) -> list[Any]:
    try:
        value = call()
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["value", value if isinstance(value, (bool, int, str, list, tuple)) else type(value).__name__]


def watch(pid: int) -> None:
    with Monitor() as monitor:
        monitor.watch(pid)


def mapped() -> None:
    fastproc.run("true", namespaces=["user"], uid_map=[(0, 5, 1)], gid_map=[(0, 5, 1)])


def readings() -> dict[str, list[Any]]:
    """What each reader says of a number that is one process's in /proc, and another's here."""
    child = subprocess.Popen(["sleep", "60"])
    reader, writer = os.pipe()
    number = outer_number(child.pid)
    # In /proc the number is a process that has a tracer.
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.ptrace(PTRACE_SEIZE, child.pid, None, None) == 0
    calls: dict[str, Callable[[], Any]] = {
        "Process.current": procfs.Process.current,
        "Process": lambda: procfs.Process(number),
        "Process, spelled otherwise": lambda: procfs.Process(number, "//proc/."),
        "Host.pids": lambda: procfs.Host().pids(),
        "snapshot": info.snapshot,
        "snapshot of pids": lambda: info.snapshot(("pid",), [number]),
        "snapshot, spelled otherwise": lambda: info.snapshot(root="/proc/"),
        "children": lambda: info.children(os.getpid()),
        "tree": info.tree,
        "Monitor.watch": lambda: watch(child.pid),
        "facts_of": lambda: facts_of(child.pid),
        "of_process": lambda: capabilities.of_process(child.pid),
        "own capabilities": lambda: capabilities.of_process() == privileges._credentials.sets(),
        "identity": privileges.identity,
        "threads": privileges.threads,
        "drop": lambda: privileges.effective.drop("chown"),
        "maps": mapped,
        "is_traced": lambda: _native.is_traced(number),
        "holders": lambda: capture.holders({os.fstat(reader).st_ino}),
        "descends": lambda: notified.descends(child.pid, os.getpid()),
        "host": lambda: procfs.Host().uptime(),
    }
    with stranger(number):
        found = {name: outcome(call) for name, call in calls.items()}
    child.kill()
    child.wait()
    os.close(reader)
    os.close(writer)
    return found


def test_no_reader_believes_it() -> None:
    """What needs a number is refused with the reason; what can be told without one is."""
    found = nested(readings)
    foreign = "another PID namespace"
    for name, kind in {
        "Process.current": "NoProcfs",
        "Process": "NoProcfs",
        "Process, spelled otherwise": "NoProcfs",
        "Host.pids": "NoProcfs",
        "snapshot": "Unsupported",
        "snapshot of pids": "Unsupported",
        "snapshot, spelled otherwise": "Unsupported",
        "children": "Unsupported",
        "tree": "Unsupported",
        "Monitor.watch": "Unsupported",
        "facts_of": "OSError",
        "of_process": "OSError",
        "identity": "OSError",
        "threads": "OSError",
        "maps": "SpawnError",
    }.items():
        assert (name, found[name][0], foreign in found[name][1]) == (name, kind, True)
    assert found["own capabilities"] == ["value", True]
    assert found["drop"][0] in ("OSError", "NotAllThreads")
    assert found["is_traced"] == ["value", False]
    assert found["holders"] == ["value", []]
    assert found["descends"] == ["value", False]
    assert found["host"] == ["value", "Uptime"]


# -- the check itself


def checked() -> str:
    return proc.why_not()


def same_number(folder: str) -> list[Any]:
    """A process with the same number in both namespaces, by accident; again when it has seen a /proc of its own."""
    libc = ctypes.CDLL(None, use_errno=True)

    def twice() -> str:
        found = [str(os.readlink("/proc/self") == str(os.getpid())), proc.why_not()]
        assert libc.mount(b"none", folder.encode(), b"proc", 0, None) == 0
        fd = os.open(folder, os.O_RDONLY)
        proc.check(fd)
        return "|".join([*found, proc.why_not()])

    last = in_copy(lambda: os.readlink("/proc/self"))
    Path("/proc/sys/kernel/ns_last_pid").write_text(last)
    return in_copy(twice).split("|")


def test_same_number_by_accident_is_no_proof(tmp_path: Path) -> None:
    assert nested(same_number, str(tmp_path)) == ["True", proc.FOREIGN, proc.FOREIGN]


def in_copy(function: Callable[[], str]) -> str:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, function().encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        found = file.read().decode()
    os.waitpid(pid, 0)
    return found


def without_names() -> str:
    """On a kernel that does not list a process's names (before Linux 4.1) its number must be the same at least."""
    libc = ctypes.CDLL(None, use_errno=True)
    over = f"/proc/{os.readlink('/proc/self')}/status"
    lines = Path(over).read_text().splitlines(keepends=True)
    with tempfile.NamedTemporaryFile("w") as file:
        file.writelines(line for line in lines if not line.startswith("NS"))
        file.flush()
        assert libc.mount(file.name.encode(), over.encode(), None, 4096, None) == 0
        assert "NSpid" not in Path(over).read_text()
        found = proc.why_not()
        assert libc.umount2(over.encode(), 2) == 0
    return found


def test_other_number_is_enough_to_refuse() -> None:
    assert nested(without_names) == proc.FOREIGN


def changing(empty: str) -> dict[str, str]:
    """The answer after each thing that changes it."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = {"first": checked(), "fork": in_copy(checked)}

    def chrooted() -> str:
        os.chroot(empty)
        return checked()

    def unshared() -> str:
        assert libc.unshare(CLONE_NEWPID) == 0
        return f"{checked()}|{in_copy(checked)}"

    found["chroot"] = in_copy(chrooted)
    found["unshare"] = in_copy(unshared)
    assert libc.mount(b"none", b"/proc", b"tmpfs", 0, None) == 0
    found["tmpfs"] = checked()
    os.symlink(str(os.getpid()), "/proc/self")
    os.mkdir(f"/proc/{os.getpid()}")
    Path(f"/proc/{os.getpid()}/status").write_text(f"NSpid:\t{os.getpid()}\n")
    found["imitation"] = checked()
    assert libc.umount2(b"/proc", 2) == 0
    found["uncovered"] = checked()
    assert libc.mount(b"none", b"/proc", b"proc", 0, b"subset=pid") == 0
    found["subset"] = checked()
    assert libc.mount(b"none", b"/proc", b"proc", 0, b"hidepid=2") == 0

    def unprivileged() -> str:
        os.setgid(65534)
        os.setuid(65534)
        return checked()

    found["hidepid"] = in_copy(unprivileged)
    return found


def test_answer_changes_with_its_reason(tmp_path: Path) -> None:
    """No remembered answer outlives a fork into another namespace, a chroot or a mount."""
    found = isolated(changing, str(tmp_path), pid_namespace=True)
    assert found == {
        "first": "",
        "fork": "",
        "chroot": proc.MISSING,
        "unshare": f"|{proc.FOREIGN}",
        "tmpfs": proc.MISSING,
        "imitation": proc.MISSING,
        "uncovered": "",
        "subset": "",
        "hidepid": "",
    }


def descendant(depth: int) -> list[str]:
    """In a namespace above that of /proc this process has no number there."""
    code = "import time; time.sleep(60)"
    below = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
    inner = subprocess.Popen([*below, sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for pid in info.children(inner.pid):
                root = f"/proc/{pid}/root/proc"
                if os.path.exists(f"{root}/1/comm") and Path(f"{root}/1/comm").read_text().startswith("python"):
                    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
                    try:
                        proc.check(fd)
                    except OSError as error:
                        return [errno.errorcode[error.errno or 0], error.strerror or ""]
                    finally:
                        os.close(fd)
            time.sleep(0.01)
        return ["never"]
    finally:
        inner.kill()
        inner.wait()


def test_namespace_below_is_another_one() -> None:
    assert isolated(descendant, 1, pid_namespace=True) == ["EXDEV", proc.FOREIGN]


def closed_without_proc(how: str) -> list[bool]:
    from fastproc.daemon._close_inherited import close_all_but

    subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)
    if how == "false":
        os.makedirs("/proc/self/fd")
        Path("/proc/self/fd/0").touch()
    kept, other = os.pipe()
    close_all_but([kept, *range(700, 720)])  # where the result goes
    found = []
    for number in (kept, other):
        try:
            os.fstat(number)
            found.append(True)
        except OSError:
            found.append(False)
    return found


@pytest.mark.parametrize("how", ["none", "false"])
def test_daemon_closes_what_it_inherited_without_proc(how: str) -> None:
    """A list of descriptors that is not the kernel's would leave files of others open in the daemon."""
    assert isolated(closed_without_proc, how, pid_namespace=True) == [True, False]
