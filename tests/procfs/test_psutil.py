"""What psutil tells too is the same, for the processes of this machine.

A value that changes is read by ours, by psutil and by ours again: psutil's must lie between, or be one of the two. A
value that changed twice meanwhile, such as a state, is asked for again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psutil
import pytest

from fastproc import procfs
from fastproc.procfs import Absent, Host, Process, ProcessGone, need

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGESIZE")
TRIES = 200
REFUSED = (psutil.AccessDenied, psutil.ZombieProcess)

STATES = {
    "R": psutil.STATUS_RUNNING,
    "S": psutil.STATUS_SLEEPING,
    "D": psutil.STATUS_DISK_SLEEP,
    "T": psutil.STATUS_STOPPED,
    "t": psutil.STATUS_TRACING_STOP,
    "Z": psutil.STATUS_ZOMBIE,
    "X": psutil.STATUS_DEAD,
    "I": psutil.STATUS_IDLE,
    "P": psutil.STATUS_PARKED,
}


@contextmanager
def strange_processes() -> Iterator[None]:
    """A zombie, a stopped one, one with threads, one of another user, and odd names and arguments."""
    reads = "import sys; sys.stdin.read()"
    thread = "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    threads = f"import threading, time; [{thread} for _ in range(3)]; {reads}"
    named = f"open('/proc/self/comm', 'wb').write(b'a (b) \\n\\xff)'); {reads}"
    env = {**os.environ, "ODD": "a=b\nc", "EMPTY": ""}
    children = []
    try:
        for code in (threads, named, reads):
            args = [sys.executable, "-c", code, "", "a b\n\tc", "\u00e4"]
            children.append(subprocess.Popen(args, stdin=subprocess.PIPE, env=env))
        children[2].send_signal(signal.SIGSTOP)
        if os.geteuid() == 0:
            children.append(subprocess.Popen(["sleep", "600"], user=65533, group=65533, extra_groups=[]))
        children.append(subprocess.Popen(["true"]))
        os.waitid(os.P_PID, children[-1].pid, os.WEXITED | os.WNOWAIT)
        yield
    finally:
        for child in children:
            child.kill()
            child.communicate()


def within(before: Any, theirs: Any, after: Any) -> bool:
    """Whether theirs is one of ours or, number for number, between the two."""
    if theirs in (before, after):
        return True
    if isinstance(theirs, (int, float)) and isinstance(before, (int, float)) and isinstance(after, (int, float)):
        return min(before, after) - 1e-9 <= theirs <= max(before, after) + 1e-9
    if isinstance(theirs, tuple) and isinstance(before, tuple) and isinstance(after, tuple):
        return len(before) == len(theirs) == len(after) and all(map(within, before, theirs, after))
    return False


def nothing(value: Any) -> bool:
    return value is None or (not isinstance(value, (int, float)) and not any(value))


def agree(ours: Callable[[], Any], theirs: Callable[[], Any], may_refuse: bool = False) -> str:
    """Return "" when they agree, else both values; ProcessGone or NoSuchProcess when it has gone."""
    said = ""
    for _ in range(TRIES):
        before = ours()
        try:
            value = theirs()
        except REFUSED as error:
            if isinstance(before, Absent) or may_refuse:
                return ""
            said = f"{before!r}, and psutil {error!r}"
            continue
        after = ours()
        if isinstance(before, Absent) or isinstance(after, Absent):
            if nothing(value):
                return ""
        elif within(before, value, after):
            return ""
        said = f"{before!r}, {value!r}, {after!r}"
    return said


def stat(process: Process, *names: str) -> Any:
    found = need(process.stat())
    return tuple(getattr(found, name) for name in names)


def of(value: Any, read: Callable[[Any], Any]) -> Any:
    return value if isinstance(value, Absent) else read(value)


def psutil_cmdline(args: tuple[str, ...]) -> list[str]:
    """Psutil splits what a process wrote over its arguments at blanks; ours does not guess."""
    if len(args) == 1 and " " in args[0]:
        return args[0].split(" ")
    return list(args)


def threads_of(process: Process) -> tuple[Any, ...]:
    found = []
    for task in process.tasks():
        with task:
            try:
                numbers = need(task.stat())
            except ProcessGone:
                continue
            found.append((task.pid, numbers.utime / TICKS, numbers.stime / TICKS))
    return tuple(sorted(found))


def terminal_of(process: Process) -> Any:
    tty = need(process.stat()).tty
    if tty is None:
        return None
    names = [f"/dev/pts/{name}" for name in os.listdir("/dev/pts")] + [f"/dev/{name}" for name in os.listdir("/dev")]
    for name in names:
        if name.startswith(("/dev/pts/", "/dev/tty")) and os.path.exists(name):
            rdev = os.stat(name).st_rdev
            if (os.major(rdev), os.minor(rdev)) == tty:
                return name
    return None


def open_files_of(process: Process) -> Any:
    fds = process.fds()
    if isinstance(fds, Absent):
        return fds
    found = []
    for fd in fds:
        if fd.target.kind == "path" and not fd.target.deleted and os.path.isfile(fd.target.text):
            info = process.fdinfo(fd.number)
            if not isinstance(info, Absent):
                found.append((fd.target.text, fd.number, info.pos, info.flags))
    return tuple(sorted(found))


def connections_of(process: Process) -> Any:
    fds = process.fds()
    if isinstance(fds, Absent):
        return fds
    sockets = {fd.target.id: fd.number for fd in fds if fd.target.kind == "socket"}
    found = []
    tables = {
        (socket.AF_INET, socket.SOCK_STREAM): process.net.tcp(),
        (socket.AF_INET6, socket.SOCK_STREAM): process.net.tcp6(),
        (socket.AF_INET, socket.SOCK_DGRAM): process.net.udp(),
        (socket.AF_INET6, socket.SOCK_DGRAM): process.net.udp6(),
    }
    for (family, kind), table in tables.items():
        for one in () if isinstance(table, Absent) else table:
            if one.inode in sockets:
                ends = tuple((end.ip, end.port) if end.port else () for end in (one.local, one.remote))
                state = one.state if kind == socket.SOCK_STREAM else psutil.CONN_NONE
                found.append((sockets[one.inode], int(family), int(kind), *ends, state))
    return tuple(sorted(found, key=repr))


def connections_psutil(other: psutil.Process) -> Any:
    return tuple(
        sorted(
            (
                (one.fd, int(one.family), int(one.type), tuple(one.laddr), tuple(one.raddr), one.status)
                for one in other.net_connections("inet")
            ),
            key=repr,
        )
    )


def unix_of(process: Process) -> Any:
    fds = process.fds()
    if isinstance(fds, Absent):
        return fds
    sockets = {fd.target.id: fd.number for fd in fds if fd.target.kind == "socket"}
    return tuple(sorted((sockets[one.inode], one.path) for one in need(process.net.unix()) if one.inode in sockets))


def duplicated(process: Process) -> set[str]:
    names = [entry.split(b"=")[0] for entry in need(process.read("environ")).split(b"\0")]
    return {name.decode("utf-8", "surrogateescape") for name in names if names.count(name) > 1}


def environment(process: Process, found: dict[str, str]) -> dict[str, str]:
    skipped = duplicated(process) | {""}
    return {name: value for name, value in found.items() if name not in skipped}


IO = ("syscr", "syscw", "read_bytes", "write_bytes", "rchar", "wchar")
LIMITS = {
    "nofile": psutil.RLIMIT_NOFILE,
    "core": psutil.RLIMIT_CORE,
    "nproc": psutil.RLIMIT_NPROC,
    "as": psutil.RLIMIT_AS,
}
SHARED = (
    "rss",
    "size",
    "pss",
    "shared_clean",
    "shared_dirty",
    "private_clean",
    "private_dirty",
    "referenced",
    "anonymous",
    "swap",
)


def infinite(value: int | None) -> int:
    return -1 if value is None else value


def maps_of(process: Process) -> Any:
    found = process.smaps()
    return of(
        found,
        lambda maps: tuple(
            (
                f"{one.mapping.start:08x}-{one.mapping.end:08x}",
                one.mapping.perms,
                one.mapping.path.removesuffix(" (deleted)") or "[anon]",
                one.size,
                *(getattr(one.usage, name) for name in SHARED if name != "size"),
            )
            for one in maps
        ),
    )


def maps_psutil(other: psutil.Process) -> Any:
    return tuple(
        (
            one.addr,
            one.perms,
            one.path.removesuffix(" (deleted)"),
            one.size,
            *(getattr(one, name) for name in SHARED if name != "size"),
        )
        for one in other.memory_maps(grouped=False)
    )


# Limits: psutil asks prlimit(2), which wants more than the file does. Descriptors: while psutil lists its own,
# there is one more.
FIELDS: dict[str, tuple[Callable[[Process], Any], Callable[[psutil.Process], Any]]] = {
    "ppid": (lambda p: need(p.stat()).ppid, lambda o: o.ppid()),
    "ppid, by status": (lambda p: need(p.status()).ppid, lambda o: o.ppid()),
    "status": (lambda p: STATES[need(p.stat()).state], lambda o: o.status()),
    "status, by status": (lambda p: STATES[need(p.status()).state], lambda o: o.status()),
    "name": (lambda p: need(p.stat()).comm[:15], lambda o: o.name()[:15]),
    "name, by status": (lambda p: need(p.status()).name[:15], lambda o: o.name()[:15]),
    "name, by comm": (lambda p: need(p.comm())[:15], lambda o: o.name()[:15]),
    "exe": (lambda p: of(p.exe(), lambda target: target.text), lambda o: o.exe()),
    "cwd": (lambda p: of(p.cwd(), lambda target: target.text), lambda o: o.cwd()),
    "cmdline": (lambda p: of(p.cmdline(), psutil_cmdline), lambda o: o.cmdline()),
    "uids": (lambda p: need(p.status()).uids[:3], lambda o: tuple(o.uids())),
    "gids": (lambda p: need(p.status()).gids[:3], lambda o: tuple(o.gids())),
    "nice": (lambda p: need(p.stat()).nice, lambda o: o.nice()),
    "terminal": (terminal_of, lambda o: o.terminal()),
    "num_threads": (lambda p: need(p.stat()).num_threads, lambda o: o.num_threads()),
    "num_threads, by status": (lambda p: need(p.status()).threads, lambda o: o.num_threads()),
    "threads": (threads_of, lambda o: tuple(sorted((one.id, one.user_time, one.system_time) for one in o.threads()))),
    "cpu_times": (
        lambda p: tuple(
            ticks / TICKS for ticks in stat(p, "utime", "stime", "cutime", "cstime", "delayacct_blkio_ticks")
        ),
        lambda o: tuple(o.cpu_times())[:5],
    ),
    "cpu_num": (lambda p: need(p.stat()).processor, lambda o: o.cpu_num()),
    "cpu_affinity": (lambda p: list(need(need(p.status()).cpus_allowed)), lambda o: o.cpu_affinity()),
    "context switches": (
        lambda p: (need(p.status()).voluntary_ctxt_switches, need(p.status()).nonvoluntary_ctxt_switches),
        lambda o: tuple(o.num_ctx_switches()),
    ),
    "memory": (
        lambda p: tuple(
            getattr(need(p.statm()), name) * PAGE
            for name in ("size", "resident", "shared", "code", "data", "lib", "dirty")
        ),
        lambda o: tuple(
            getattr(o.memory_info(), name) for name in ("vms", "rss", "shared", "text", "data", "lib", "dirty")
        ),
    ),
    "full memory": (
        lambda p: of(p.smaps_rollup(), lambda usage: (usage.uss, usage.pss, usage.swap)),
        lambda o: tuple(getattr(o.memory_full_info(), name) for name in ("uss", "pss", "swap")),
    ),
    "memory maps": (maps_of, maps_psutil),
    "io": (
        lambda p: of(p.io(), lambda io: tuple(getattr(io, name) for name in IO)),
        lambda o: tuple(o.io_counters()),
    ),
    "num_fds": (lambda p: of(p.fd_numbers(), len), lambda o: o.num_fds() - (o.pid == os.getpid())),
    "open files": (
        open_files_of,
        lambda o: tuple(sorted((one.path, one.fd, one.position, one.flags) for one in o.open_files())),
    ),
    "connections": (connections_of, connections_psutil),
    "unix sockets": (unix_of, lambda o: tuple(sorted((one.fd, one.laddr) for one in o.net_connections("unix")))),
    "limits": (
        lambda p: tuple(
            (infinite(need(p.limits())[name].soft), infinite(need(p.limits())[name].hard)) for name in LIMITS
        ),
        lambda o: tuple(o.rlimit(number) for number in LIMITS.values()),
    ),
    "create_time": (
        lambda p: round(need(p.stat()).starttime / TICKS + need(Host().stat()).boot_time, 2),
        lambda o: round(o.create_time(), 2),
    ),
}


def compare(most: int | None) -> list[str]:
    """Compare each field of the processes, at most so many of one name; print how many, and return what differs."""
    names: dict[str, int] = {}
    wrong: list[str] = []
    compared = dict.fromkeys([*FIELDS, "environ"], 0)
    processes = 0
    with strange_processes():
        for process in Host().processes():
            with process:
                try:
                    other = psutil.Process(process.pid)
                    name = need(process.comm()).split("/")[0]
                    names[name] = names.get(name, 0) + 1
                    if most is not None and names[name] > most:
                        continue
                    for field, (ours, theirs) in FIELDS.items():
                        said = agree(partial(ours, process), partial(theirs, other), field == "limits")
                        # Process.threads() of psutil takes the first parenthesis for the end of the name.
                        if said and field == "threads" and ")" in need(process.stat()).comm:
                            continue
                        if said:
                            # It may have ended in between: that is told by an exception, and then it is no fault.
                            process.stat()
                            if need(process.stat()).is_zombie == other.status().startswith("z"):
                                wrong.append(f"{process.pid} {field}: {said}"[:2000])
                        compared[field] += 1
                    found = process.environ()
                    try:
                        value = other.environ()
                    except REFUSED:
                        assert isinstance(found, Absent)
                    else:
                        if isinstance(found, Absent):
                            assert value == {}
                        elif environment(process, found) != environment(process, value):
                            wrong.append(f"{process.pid} environ")
                    compared["environ"] += 1
                    processes += 1
                except (ProcessGone, psutil.NoSuchProcess, procfs.Missing):
                    assert not process.is_alive() or process.pid in psutil.pids()
    print(f"{processes} processes, {sum(compared.values())} values of {len(compared)} fields, {len(wrong)} differ")
    print("\n".join(wrong))
    assert processes >= 6
    return wrong


@pytest.mark.slow
def test_every_kind_of_process_agrees_with_psutil() -> None:
    """Each field of four processes of each name; all of them: tests/procfs/test_soak.py."""
    assert compare(4) == []


def test_children_agree_with_psutil() -> None:
    with strange_processes(), Process.current() as me:
        assert need(me.children()) == tuple(sorted(child.pid for child in psutil.Process().children()))


HOST: dict[str, tuple[Callable[[Host], Any], Callable[[], Any]]] = {
    "cpu_times": (
        lambda h: tuple(
            round(ticks / TICKS, 2)
            for ticks in (
                lambda c: (c.user, c.nice, c.system, c.idle, c.iowait, c.irq, c.softirq, c.steal, c.guest, c.guest_nice)
            )(need(h.stat()).cpu)
        ),
        lambda: tuple(psutil.cpu_times()),
    ),
    "per cpu": (
        lambda h: tuple(
            tuple(round(ticks / TICKS, 2) for _, ticks in times.items()) for times in need(h.stat()).cpus.values()
        ),
        lambda: tuple(tuple(one) for one in psutil.cpu_times(percpu=True)),
    ),
    "cpu_stats": (
        lambda h: (need(h.stat()).context_switches, need(h.stat()).interrupts, need(h.stat()).softirqs),
        lambda: tuple(psutil.cpu_stats())[:3],
    ),
    "cores": (
        lambda h: len({(cpu.package, cpu.core) for cpu in need(h.cpuinfo()).cpus}),
        lambda: psutil.cpu_count(logical=False),
    ),
    "cached": (
        lambda h: need(h.meminfo()).cached + need(need(h.meminfo()).sreclaimable),
        lambda: psutil.virtual_memory().cached,
    ),
    "boot_time": (lambda h: float(need(h.stat()).boot_time), psutil.boot_time),
    "cpu_count": (lambda h: len(need(h.cpuinfo()).cpus), psutil.cpu_count),
    "memory": (
        lambda h: (
            need(h.meminfo()).mem_total,
            need(need(h.meminfo()).mem_available),
            need(h.meminfo()).mem_free,
            need(need(h.meminfo()).active),
            need(need(h.meminfo()).inactive),
            need(h.meminfo()).buffers,
            need(need(h.meminfo()).shmem),
            need(need(h.meminfo()).slab),
        ),
        lambda: tuple(
            getattr(psutil.virtual_memory(), name)
            for name in ("total", "available", "free", "active", "inactive", "buffers", "shared", "slab")
        ),
    ),
    "swap": (
        lambda h: (need(need(h.meminfo()).swap_total), need(need(h.meminfo()).swap_free)),
        lambda: (psutil.swap_memory().total, psutil.swap_memory().free),
    ),
    "swapped": (
        lambda h: (need(h.vmstat())["pswpin"] * 4096, need(h.vmstat())["pswpout"] * 4096),
        lambda: (psutil.swap_memory().sin, psutil.swap_memory().sout),
    ),
    "load": (
        lambda h: tuple(value for _, value in need(h.loadavg()).items())[:3],
        lambda: tuple(round(one, 2) for one in psutil.getloadavg()),
    ),
    "disks": (
        lambda h: tuple(
            sorted(
                (
                    one.name,
                    one.reads,
                    one.writes,
                    one.sectors_read * 512,
                    one.sectors_written * 512,
                    one.read_ms,
                    one.write_ms,
                    one.reads_merged,
                    one.writes_merged,
                    one.io_ms,
                )
                for one in need(h.diskstats())
            )
        ),
        lambda: tuple(
            sorted((name, *tuple(one)) for name, one in psutil.disk_io_counters(perdisk=True, nowrap=False).items())
        ),
    ),
    "interfaces": (
        lambda h: tuple(
            sorted(
                (
                    one.name,
                    one.tx_bytes,
                    one.rx_bytes,
                    one.tx_packets,
                    one.rx_packets,
                    one.rx_errors,
                    one.tx_errors,
                    one.rx_dropped,
                    one.tx_dropped,
                )
                for one in need(h.net.dev())
            )
        ),
        lambda: tuple(sorted((name, *one) for name, one in psutil.net_io_counters(pernic=True, nowrap=False).items())),
    ),
    "mounts": (
        lambda h: tuple(
            sorted(
                ("" if one.source == "none" else one.source, one.target, one.fstype, ",".join(one.options))
                for one in need(h.mounts())
            )
        ),
        lambda: tuple(
            sorted((one.device, one.mountpoint, one.fstype, one.opts) for one in psutil.disk_partitions(all=True))
        ),
    ),
    "connections": (
        lambda h: tuple(
            sorted(
                ((one.local.ip, one.local.port), (one.remote.ip, one.remote.port) if one.remote.port else (), one.state)
                for table in (need(h.net.tcp()), need(h.net.tcp6()))
                for one in table
            )
        ),
        lambda: tuple(
            sorted((tuple(one.laddr), tuple(one.raddr), one.status) for one in psutil.net_connections("tcp"))
        ),
    ),
}


@pytest.mark.parametrize("field", HOST)
def test_machine_agrees_with_psutil(field: str) -> None:
    ours, theirs = HOST[field]
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_connection(one.getsockname()):
        assert agree(lambda: ours(Host()), theirs) == ""


def test_pids_agree_with_psutil() -> None:
    before = set(Host().pids())
    theirs = set(psutil.pids())
    after = set(Host().pids())
    assert before & after <= theirs <= set(range(1, max(before | after) + 1000))
