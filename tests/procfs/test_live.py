"""Real processes, threads and files of this machine; saved folders; what happens while they are read."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from conftest import wait_until
from fastproc import procfs
from fastproc.procfs import Absent, Host, NoProcfs, Process, ProcessGone, ProcessHidden, Record, Task, need
from support.programs import Programs

REASONS_OF_A_LIVE_ONE = {"denied", "kernel thread", "zombie", "ending", "not in this kernel", "disabled"}


@pytest.mark.slow
def test_every_file_of_every_process_and_thread_is_read() -> None:
    """No file of this kernel is refused by its parser, and nothing is absent without one of the known reasons."""
    read = 0
    reasons: dict[str, int] = {}
    for process in Host().processes():
        with process:
            try:
                values = list(process.read_all().items())
                fds = process.fd_numbers()
                values += [("fdinfo", process.fdinfo(fd)) for fd in (() if isinstance(fds, Absent) else fds)]
                values += [(name, getattr(process.net, name)()) for name in ("tcp", "unix", "dev", "snmp")]
                for task in process.tasks():
                    with task:
                        values += task.read_all().items()
            except ProcessGone:
                continue
            for name, value in values:
                if isinstance(value, Absent):
                    assert value.reason in REASONS_OF_A_LIVE_ONE | {"gone"}, (process, name, value)
                    reasons[value.reason] = reasons.get(value.reason, 0) + 1
                read += 1
            status = dict(values)["status"]
            if isinstance(status, procfs.Status):
                assert status.others.keys() <= {"x86_Thread_features", "x86_Thread_features_locked"}
    print(f"{read} files, absent: {reasons}")
    assert read > 100


def test_every_file_of_the_machine_is_read() -> None:
    host = Host()
    for name in (
        "stat",
        "meminfo",
        "loadavg",
        "uptime",
        "vmstat",
        "diskstats",
        "mounts",
        "swaps",
        "cpuinfo",
        "devices",
    ):
        assert not isinstance(getattr(host, name)(), Absent), name
    for name in ("partitions", "modules", "locks", "cgroups", "filesystems", "cmdline", "version"):
        assert getattr(host, name)() is not None, name
    for name in (name for name in dir(procfs.Net) if name[0] != "_"):
        value = getattr(host.net, name)()
        assert not isinstance(value, Absent) or value.reason == "not in this kernel", (name, value)
    for resource_name in ("cpu", "memory", "io", "irq"):
        found = host.pressure(resource_name)
        assert isinstance(found, procfs.Pressure) or found.reason in ("not in this kernel", "disabled")
    kernel, files = host.sys_kernel(), host.sys_fs()
    assert need(kernel.osrelease) == os.uname().release
    assert need(kernel.hostname) == os.uname().nodename
    assert need(files.file_max) == need(files.file_nr)[2]
    for record in (kernel, files):
        for name, value in record.items():
            assert not isinstance(value, Absent) or value.reason in ("not in this kernel", "denied"), (name, value)
    with pytest.raises(ValueError, match="resource: 'disk' is none of cpu"):
        host.pressure("disk")


def test_values_of_sysctl() -> None:
    host = Host()
    assert host.sysctl("kernel.ostype") == host.sysctl("kernel/ostype") == "Linux"
    assert isinstance(host.sysctl("kernel.pid_max"), int)
    assert host.sysctl("kernel.no_such_value") == Absent("not in this kernel")
    for name in ("", ".", "kernel..pid_max", "kernel/../../stat", "/etc/passwd", "a\0b"):
        with pytest.raises(ValueError, match="names nothing below /proc/sys"):
            host.sysctl(name)


def test_this_process_is_as_it_knows_itself() -> None:
    with Process.current() as me:
        status = need(me.status())
        assert (status.pid, status.ppid) == (os.getpid(), os.getppid())
        assert status.uids[:3] == os.getresuid()
        assert status.groups == tuple(sorted(os.getgroups()))
        assert need(me.environ()) == {key: value for key, value in need(me.environ()).items() if key != ""}
        assert need(me.exe()).text == os.path.realpath(sys.executable)
        assert need(me.cwd()).text == os.getcwd()
        assert need(me.root()).text == "/"
        assert need(me.auxv())["pagesz"] == os.sysconf("SC_PAGESIZE")
        assert need(me.auxv())["clktck"] == os.sysconf("SC_CLK_TCK")
        assert need(me.auxv())["uid"] == os.getuid()
        for name, number in (
            ("nofile", resource.RLIMIT_NOFILE),
            ("stack", resource.RLIMIT_STACK),
            ("as", resource.RLIMIT_AS),
        ):
            limit = need(me.limits())[name]
            assert tuple(-1 if one is None else one for one in (limit.soft, limit.hard)) == resource.getrlimit(number)
        assert need(me.namespaces())["pid"].inode == os.stat("/proc/self/ns/pid").st_ino
        assert need(me.namespaces())["pid_for_children"].kind == "pid"
        mounts = need(me.mountinfo())
        assert os.stat("/proc").st_dev in {os.makedev(*one.device) for one in mounts if one.target == "/proc"}
        total = need(me.smaps_rollup())
        assert abs(sum(one.usage.rss for one in need(me.smaps())) - total.rss) < 4 << 20
        assert me.fileno() in need(me.fd_numbers())
        assert threading.get_native_id() in need(me.tids())
        assert os.path.basename(need(me.cmdline())[0]).startswith("python")
        assert me.is_alive()


def test_kinds_of_descriptors() -> None:
    """What fdinfo tells of each kind is what it was made with."""
    with tempfile.TemporaryFile() as file, socket.socket(socket.AF_UNIX) as sock, select.epoll() as epoll:
        file.write(b"12345")
        file.flush()
        fcntl.lockf(file, fcntl.LOCK_EX)
        epoll.register(sock, select.EPOLLIN)
        event, pidfd = os.eventfd(7), os.pidfd_open(os.getpid())
        memory = os.memfd_create("a b\n")
        try:
            with Process.current() as me:
                info = need(me.fdinfo(file.fileno()))
                assert (info.pos, info.flags & os.O_ACCMODE) == (5, os.O_RDWR)
                assert info.inode == os.fstat(file.fileno()).st_ino or isinstance(info.inode, Absent)
                assert [(one.kind, one.access, one.pid) for one in info.locks] == [("POSIX", "WRITE", os.getpid())]
                targets = {fd.number: fd.target for fd in need(me.fds())}
                watched = {one.fd: one for one in need(me.fdinfo(epoll.fileno())).epoll}
                assert watched[sock.fileno()].events & select.EPOLLIN
                assert need(me.fdinfo(event)).eventfd_count == 7
                assert need(me.fdinfo(pidfd)).pid == os.getpid()
                assert targets[sock.fileno()].id == os.fstat(sock.fileno()).st_ino
                assert targets[sock.fileno()].kind == "socket"
                assert targets[file.fileno()].deleted
                assert targets[memory].text.startswith("/memfd:a b")
                assert targets[epoll.fileno()].kind == "anon_inode"
                assert me.fdinfo(99999) == Absent("not in this kernel")
                locks = [one for one in need(Host().locks()) if one.pid == os.getpid() and one.kind == "POSIX"]
                assert os.fstat(file.fileno()).st_ino in {one.inode for one in locks}
        finally:
            for fd in (event, pidfd, memory):
                os.close(fd)


def test_sockets_are_found_by_their_inode() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        with Process.current() as me:
            tables = {one.inode: one for one in need(me.net.tcp())}
        assert tables[os.fstat(server.fileno()).st_ino].state == "LISTEN"
        assert tables[os.fstat(server.fileno()).st_ino].rx_queue == 1
        one = tables[os.fstat(client.fileno()).st_ino]
        assert (one.local.ip, one.local.port) == client.getsockname()
        assert (one.remote.ip, one.remote.port) == client.getpeername()
        assert one.uid == os.getuid()


def test_unix_sockets_with_odd_names(tmp_path: Path) -> None:
    """A newline in a name does not make another entry of it, and any byte comes back."""
    names = [os.fsencode(tmp_path) + b"/a\nb c", os.fsencode(tmp_path) + b"/\xff", b"\0abstract \xfe\n\0x"]
    sockets = [socket.socket(socket.AF_UNIX) for _ in names]
    try:
        for sock, name in zip(sockets, names, strict=True):
            sock.bind(name)
        with Process.current() as me:
            found = {one.inode: procfs.raw(one.path) for one in need(me.net.unix())}
        for sock, name in zip(sockets, names, strict=True):
            # The kernel writes "@" for each NUL of an abstract name.
            assert found[os.fstat(sock.fileno()).st_ino] == name.replace(b"\0", b"@")
    finally:
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize(
    "name", [b"a b", b"a\nb", b") R 1 (", b"\\n", b"\\", b" x ", b"\xff\xfe", b"((", b"\t", "ä€".encode()]
)
def test_odd_names_come_back_as_they_are(name: bytes) -> None:
    code = f"import sys; open('/proc/self/comm', 'wb').write({name!r}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with Process(child.pid) as process:
            stat, status, comm = need(process.stat()), need(process.status()), need(process.comm())
            assert [procfs.raw(one) for one in (stat.comm, status.name, comm)] == [name] * 3
            assert (stat.ppid, status.ppid) == (os.getpid(), os.getpid())
        child.communicate()


def test_zombie_has_a_state_and_nothing_else() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        with Process(child.pid) as process:
            assert not process.is_alive()
            assert need(process.stat()).is_zombie
            assert need(process.status()).vm_rss == Absent("zombie")
            found = process.read_all()
            for name in (
                "cmdline",
                "environ",
                "exe",
                "cwd",
                "root",
                "maps",
                "smaps",
                "smaps_rollup",
                "auxv",
                "mountinfo",
            ):
                assert found[name] == Absent("zombie"), name
            for name in ("stat", "status", "statm", "oom_score", "schedstat", "cgroup", "limits"):
                assert found[name] or found[name] == 0, name
            child.wait()
            for read in (
                process.stat,
                process.maps,
                process.exe,
                process.fds,
                process.namespaces,
                process.tids,
                process.net.tcp,
            ):
                with pytest.raises(ProcessGone, match=f"no process {child.pid}"):
                    read()
            with pytest.raises(ProcessGone):
                process.read_all()
            with pytest.raises(ProcessGone):
                process.children()
            with pytest.raises(ProcessGone):
                process.task(child.pid)
            assert not process.is_alive()
    finally:
        child.wait()


def test_leader_that_has_ended_while_its_thread_runs(programs: Programs) -> None:
    """It looks like a zombie; the other thread has the memory."""
    with subprocess.Popen([programs.leader_exits, "60000"]) as child, Process(child.pid) as process:
        wait_until(lambda: need(process.stat()).is_zombie)
        (other,) = set(need(process.tids())) - {child.pid}
        assert need(process.stat()).num_threads == 2
        assert process.exe() == Absent("zombie")
        with process.task(other) as task:
            assert need(task.maps())
            assert need(task.exe()).text.endswith("leader_exits")
            assert not need(task.stat()).is_zombie
            child.kill()
            child.wait()
            with pytest.raises(ProcessGone):
                task.stat()
            with pytest.raises(ProcessGone):
                task.maps()


def test_kernel_threads_where_they_are_seen() -> None:
    threads = []
    for process in Host().processes():
        with process:
            stat = process.stat()
            if isinstance(stat, procfs.Stat) and stat.is_kernel_thread:
                threads.append(process.pid)
                found = process.read_all()
                for name in ("cmdline", "environ", "exe", "maps", "smaps", "smaps_rollup", "numa_maps", "auxv"):
                    assert found[name] in (Absent("kernel thread"), Absent("denied")), (process, name)
                assert need(process.status()).vm_rss == Absent("kernel thread")
    if not threads:
        pytest.skip("this PID namespace has no kernel threads; test_saved_kernel_thread has one")


def saved(folder: Path, pid: int, **files: bytes) -> None:
    (folder / str(pid)).mkdir()
    for name, data in files.items():
        (folder / str(pid) / name).write_bytes(data)


def test_saved_kernel_thread(tmp_path: Path) -> None:
    """A folder that looks like /proc is read the same way."""
    from support import procfiles

    saved(tmp_path, 17, stat=procfiles.STAT_KERNEL_THREAD, status=procfiles.STATUS_KTHREAD_4_18, cmdline=b"", maps=b"")
    with Process(17, tmp_path) as process:
        assert process.cmdline() == process.maps() == Absent("kernel thread")
        assert need(process.status()).vm_rss == Absent("kernel thread")
        assert process.io() == Absent("not in this kernel")
        assert process.exe() == Absent("not in this kernel")
        assert process.is_alive()
        assert repr(process) == f"Process(17, {str(tmp_path)!r})"


def test_saved_files_of_this_process(tmp_path: Path) -> None:
    """Copied elsewhere they mean the same."""
    names = ("status", "stat", "limits", "maps", "cgroup", "mountinfo", "auxv", "environ", "cmdline")
    saved(tmp_path, 5, **{name: Path(f"/proc/self/{name}").read_bytes() for name in names})
    shutil.copy("/proc/meminfo", tmp_path / "meminfo")
    (tmp_path / "net").mkdir()
    shutil.copy("/proc/net/dev", tmp_path / "net/dev")
    with Process(5, tmp_path) as copy, Process.current() as me:
        for name in ("limits", "cgroup", "mountinfo", "auxv", "environ", "cmdline"):
            assert getattr(copy, name)() == getattr(me, name)()
    host = Host(tmp_path)
    assert host.pids() == (5,)
    assert need(host.meminfo()).mem_total == need(Host().meminfo()).mem_total
    assert {one.name for one in need(host.net.dev())} == {one.name for one in need(Host().net.dev())}
    assert host.loadavg() == Absent("not in this kernel")


def test_saved_folder_without_state_is_no_dead_process(tmp_path: Path) -> None:
    saved(tmp_path, 5, cmdline=b"", io=b"nonsense\n")
    with Process(5, tmp_path) as process:
        assert process.cmdline() == ()
        assert process.stat() == Absent("not in this kernel")
        assert process.io() == Absent("error")
        assert "io, line 1: no colon" in str(process.io())
        assert process.read_all(["io", "cmdline"]) == {"io": Absent("error"), "cmdline": ()}
        shutil.rmtree(tmp_path / "5")
        with pytest.raises(ProcessGone):
            process.stat()


def test_nothing_at_the_root(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        host = Host(root)
        with pytest.raises(NoProcfs, match="is it mounted") as caught:
            Process(1, root)
        assert isinstance(caught.value, (FileNotFoundError, procfs.ProcfsError))
        with pytest.raises(NoProcfs):
            host.pids()
        assert host.meminfo() == host.net.tcp() == host.sys_fs().nr_open == Absent("no procfs")


@pytest.mark.parametrize(
    ("pid", "kind"), [(0, ValueError), (-1, ValueError), (2**31, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_what_is_no_pid_is_refused(pid: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^pid: "):
        Process(pid)  # type: ignore[arg-type]


def test_no_such_process() -> None:
    with pytest.raises(ProcessGone) as caught:
        Process(2**31 - 1)
    assert isinstance(caught.value, ProcessLookupError)
    assert caught.value.pid == 2**31 - 1


def test_closed_handle_is_refused_and_reads_nobody_elses_files() -> None:
    process = Process.current()
    process.close()
    process.close()
    with open(os.devnull, "rb"):  # it may have the number of the descriptor now
        for read in (process.stat, process.fds, process.exe, process.fileno, process.tids):
            with pytest.raises(ValueError, match="the descriptor is closed"):
                read()


def test_names_of_read_all_are_checked() -> None:
    with Process.current() as me:
        assert list(me.read_all(["io", "stat"])) == ["io", "stat"]
        assert me.read_all([]) == {}
        with pytest.raises(ValueError, match="names: 'close' is none of stat"):
            me.read_all(["stat", "close"])
        for names in (Process.NAMES, Task.NAMES):
            assert len(set(names)) == len(names)


def test_children_of_each_thread() -> None:
    with subprocess.Popen(["sleep", "600"]) as child, Process.current() as me:
        assert need(me.children()) == (child.pid,)
        with me.task(threading.get_native_id()) as task:
            assert need(task.children()) == (child.pid,)
            assert isinstance(repr(task), str)
        child.kill()
        child.wait()
        assert need(me.children()) == ()


def test_lack_of_descriptors_is_raised_and_no_reason() -> None:
    """GOTCHAS K2: EMFILE says nothing about the file."""
    with Process.current() as me:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (me.fileno() + 1, hard))
        fill = []
        try:
            while True:
                fill.append(os.dup(0))
        except OSError:
            pass
        try:
            for read in (me.stat, me.fds, me.tids, Host().meminfo, Host().pids, lambda: Process(os.getpid())):
                with pytest.raises(OSError, match="Too many open files"):
                    read()
        finally:
            for fd in fill:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_process_that_ends_while_it_is_read() -> None:
    """Values, absences with a reason, or ProcessGone: nothing else, wherever the end comes."""
    seen: dict[str, int] = {}
    for round_number in range(150):
        child = subprocess.Popen(["sleep", "600"])
        with Process(child.pid) as process:
            names = list(Process.NAMES)
            at = round_number % len(names)
            before = process.read_all(names[:at])
            child.send_signal(signal.SIGKILL)
            # At any moment of its end.
            try:
                after = process.read_all(names)
            except ProcessGone:
                after = {}
            child.wait()
            with pytest.raises(ProcessGone):
                process.read_all(names)
        assert not any(
            isinstance(value, Absent) and value.reason in ("ending", "zombie", "gone") for value in before.values()
        )
        for name, value in after.items():
            if isinstance(value, Absent):
                seen[value.reason] = seen.get(value.reason, 0) + 1
                assert value.reason in ("zombie", "ending", "gone", "not in this kernel", "denied", "disabled"), (
                    name,
                    value,
                )
    print(seen)
    assert seen


def test_records_of_live_processes_go_to_json() -> None:
    import json

    with Process.current() as me:
        for value in me.read_all().values():
            if isinstance(value, Record):
                json.dumps(value.to_dict())


def test_exported_errors_are_pickled() -> None:
    import pickle

    for error in (ProcessGone(5), ProcessHidden(6)):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.pid) == (type(error), str(error), error.pid)


def test_handle_that_several_threads_read_at_once() -> None:
    """Each listing opens its directory anew: a place in a shared one would be moved by the others."""
    wrong: list[object] = []

    def read(process: Process, expected: list[object]) -> None:
        for _ in range(50):
            found = [
                process.tids(),
                process.fd_numbers(),
                process.namespaces(),
                process.get("nothing", procfs.parse_line),
            ]
            if found != expected:
                wrong.append(found)

    with subprocess.Popen(["sleep", "600"]) as child:
        with Process(child.pid) as process:
            # While it is loaded it has its libraries open.
            wait_until(
                lambda: process.comm() == "sleep" and process.stat().state == "S" and process.fd_numbers() == (0, 1, 2)
            )
            expected: list[object] = [process.tids(), process.fd_numbers(), process.namespaces()]
            expected.append(Absent("not in this kernel"))
            threads = [threading.Thread(target=read, args=(process, expected)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        child.kill()
    assert wrong == []
