"""Many processes in one call: what psutil says too, odd processes, absent values with their reasons, other forms."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

import fastproc
from conftest import isolated, wait_until
from fastproc._native import snapshot as native
from fastproc.errors import Unsupported
from fastproc.info import FIELDS, REASONS, snapshot
from fastproc.info._fields import ABOUT, DEFAULT, DERIVED, UNTOLD, expand

STAT = "1234 ({}) {} 1 1234 1230 0 -1 {} 10 20 3 4 250 50 7 8 20 0 5 0 4200 8192000 100 18446744073709551615"
REST = " 1 2 3 4 5 6 7 8 9 1 0 0 17 1 0 0 5 0 0 1 2 3 4 5 6 7 0\n"
KTHREAD = 0x00200000


def made(root: Path, pid: int = 1234, /, **files: bytes | str) -> Path:
    """A folder like /proc with one process more."""
    folder = root / str(pid)
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else os.fsencode(text))
    return root


def stat(comm: str = "x", state: str = "S", flags: int = 0, rest: str = REST) -> str:
    return STAT.format(comm, state, flags) + rest


# -- which fields there are


def test_fields_that_are_described_are_those_that_are_read() -> None:
    """No field of the C core lacks its meaning, and none is described that cannot be had."""
    assert set(ABOUT) == set(native.FIELDS) | set(DERIVED)
    assert set(native.KINDS.values()) == {"I", "U", "D", "S"}
    assert FIELDS is ABOUT


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ("pid", TypeError, "fields: must be several names, not 'pid'"),
        ([1], TypeError, "fields: a name must be a string, not 1"),
        (["pid", "nonsense"], ValueError, "fields: there is no 'nonsense'"),
    ],
)
def test_wrong_fields_are_refused(fields: Any, kind: type[Exception], text: str) -> None:
    """With the argument's name and the reason."""
    with pytest.raises(kind, match=text):
        snapshot(fields)


@pytest.mark.parametrize("pid", [0, -1, 2**31, True, "1", 1.0])
def test_what_is_no_pid_is_refused(pid: Any) -> None:
    """Also -1, which is what an unchecked failure looks like."""
    with pytest.raises((TypeError, ValueError), match="pids:"):
        snapshot(("pid",), [pid])


def test_a_field_that_was_not_asked_for_says_so() -> None:
    """It is not read behind the caller's back."""
    mine = snapshot(("pid",), [os.getpid()])[0]
    with pytest.raises(AttributeError, match="'exe' was not asked for; there are pid"):
        mine.exe  # noqa: B018
    with pytest.raises(KeyError, match="'nonsense' is not a field"):
        mine["nonsense"]
    assert not hasattr(mine, "cpu_time")


def test_default_fields_need_one_file() -> None:
    """Everything in the default comes from stat: see expand()."""
    assert expand(DEFAULT) == (DEFAULT, DEFAULT)


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        (("pid", "utime", "rss", "comm"), {"stat"}),
        (("pid", "resident"), {"stat", "statm"}),
        (("rchar", "uid"), {"stat", "status", "io"}),
        (("exe", "num_fds"), {"stat", "fd"}),
    ],
)
def test_nothing_is_opened_that_no_field_needs(fields: tuple[str, ...], files: set[str]) -> None:
    """A tracer sees each file of a process that is opened."""
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    # The proof that /proc is this namespace's reads self/status once for each process and mount.
    code = "import os, fastproc.info as i; i.snapshot(('pid',), [1]); print('begin', flush=True); "
    code += f"i.snapshot({fields!r}, [os.getppid()])"
    command = ["strace", "-e", "trace=openat,write", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ptrace" in done.stderr and done.returncode:
        pytest.skip("strace may not trace here")
    after = done.stderr.partition('write(1, "begin')[2].splitlines()
    calls = [line for line in after if line.startswith("openat") and "O_PATH" not in line]
    opened = {line.split('"')[1].rpartition("/")[2] for line in calls}
    assert opened - {"proc"} == files


# -- what psutil says


def _by_psutil(process: psutil.Process) -> dict[str, Any]:
    """What psutil tells, under our names; what it is not let see is left out."""
    found: dict[str, Any] = {}

    def put(make: Any) -> None:
        try:
            found.update(make())
        except psutil.AccessDenied:
            pass

    put(lambda: {"pid": process.pid, "ppid": process.ppid(), "name": process.name()})
    put(lambda: {"num_threads": process.num_threads(), "nice": process.nice()})
    put(lambda: {"create_time": process.create_time()})
    put(lambda: dict(zip(("utime", "stime", "cutime", "cstime"), process.cpu_times()[:4], strict=True)))
    sizes = ("resident", "size", "shared", "text", "lib", "data")
    put(lambda: dict(zip(sizes, process.memory_info()[:6], strict=True)))
    put(lambda: dict(zip(("uid", "euid", "suid"), process.uids(), strict=True)))
    put(lambda: dict(zip(("gid", "egid", "sgid"), process.gids(), strict=True)))
    put(
        lambda: dict(
            zip(("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"), process.num_ctx_switches(), strict=True)
        )
    )
    names = ("syscr", "syscw", "read_bytes", "write_bytes", "rchar", "wchar")
    put(lambda: dict(zip(names, process.io_counters(), strict=True)))
    put(lambda: {"cwd": process.cwd()})
    put(lambda: {"num_fds": process.num_fds()})
    put(lambda: {"processor": process.cpu_num()})
    put(lambda: {"cmdline": process.cmdline()})
    put(lambda: {"environ": process.environ()})
    put(lambda: {"exe": process.exe()})
    put(lambda: {"delayacct_blkio_ticks": process.cpu_times().iowait})
    full = {"pss": "pss", "uss": "uss", "swap": "swap"}
    put(lambda: {ours: getattr(process.memory_full_info(), theirs) for ours, theirs in full.items()})
    return found


LETTERS = {"R": "running", "S": "sleeping", "D": "disk-sleep", "Z": "zombie", "T": "stopped", "I": "idle"}
COMPARED = (
    *("pid", "ppid", "name", "state", "num_threads", "nice", "create_time", "utime", "stime", "cutime", "cstime"),
    *("resident", "size", "shared", "text", "lib", "data", "uid", "euid", "suid", "gid", "egid", "sgid"),
    *("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "syscr", "syscw", "read_bytes", "write_bytes"),
    *("rchar", "wchar", "cwd", "num_fds", "processor", "cmdline", "environ", "exe", "delayacct_blkio_ticks"),
    *("pss", "uss", "swap"),
)


def _differing(pid: int, compared: set[str]) -> dict[str, Any]:
    """What psutil says alike before and after our look, and we say otherwise."""
    process = psutil.Process(pid)
    before = _by_psutil(process)
    mine = snapshot(COMPARED, [pid])[0].to_dict()
    after = _by_psutil(process)
    differ = {}
    for name, value in before.items():
        if after.get(name) != value:
            continue
        compared.add(name)
        ours = mine[name]
        if ours is None and value in ("", [], {}, 0):
            continue  # psutil has an empty value for what we say is absent
        if name == "create_time":
            ours, value = round(ours, 2), round(value, 2)
        if name in ("exe", "cwd") and ours is not None:
            ours = ours.removesuffix(" (deleted)")  # which psutil cuts off
        if ours != value:
            differ[name] = (mine["name"], ours, value)
    return differ


@pytest.mark.slow
def test_what_psutil_says_too_agrees() -> None:
    """On all processes: what psutil gives alike before and after is what we have between, at one of three tries."""
    compared: set[str] = set()
    differ = {}
    for pid in psutil.pids():
        if pid == os.getpid():
            continue  # it is busy with this comparison
        try:
            found = [_differing(pid, compared)]
            while found[-1] and len(found) < 3:  # a value may change and change back
                found.append(_differing(pid, compared))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if found[-1]:
            differ[pid] = found[-1]
    assert differ == {}
    assert compared == set(COMPARED) - {"state"}


@pytest.mark.slow
def test_state_agrees_with_psutil() -> None:
    """Where psutil says the same before and after, at one of 30 tries: it changes faster than all else."""
    differ = {}
    for pid in psutil.pids():
        for _ in range(30):
            try:
                before = psutil.Process(pid).status()
                mine = snapshot(("state",), [pid])[0].state
                after = psutil.Process(pid).status()
            except psutil.NoSuchProcess:
                differ.pop(pid, None)
                break
            differ[pid] = (before, mine)
            if pid == os.getpid() or before != after or LETTERS.get(mine) == before:
                del differ[pid]
                break
    assert differ == {}


def test_all_processes_are_those_of_psutil() -> None:
    """Nobody who lives all the time is missing, and no pid is made up."""
    before = set(psutil.pids())
    found = set(snapshot(("pid", "ppid")).pids)
    after = set(psutil.pids())
    assert before & after <= found
    assert set(snapshot(("pid",)).pids) >= before & set(psutil.pids())


def test_own_values_are_true() -> None:
    """What this process knows of itself otherwise."""
    me = os.getpid()
    fields = ("ppid", "pgrp", "session", "uid", "egid", "cwd", "cmdline", "exe", "ns_pid", "pidns", "umask", "age")
    fields = (*fields, "kthread")
    mask = os.umask(0)
    os.umask(mask)
    mine = snapshot(fields, [me])[0].to_dict()
    assert 0 < mine.pop("age") < 86_400 * 365
    assert mine.pop("cmdline")[0].endswith(os.path.basename(sys.orig_argv[0]))
    assert mine == {
        "ppid": os.getppid(),
        "pgrp": os.getpgrp(),
        "session": os.getsid(0),
        "uid": os.getuid(),
        "egid": os.getegid(),
        "cwd": os.getcwd(),
        "exe": os.path.realpath("/proc/self/exe"),
        "ns_pid": (me,),
        "pidns": os.stat("/proc/self/ns/pid").st_ino,
        "umask": mask,
        "kthread": False,
    }


# -- odd processes


@contextmanager
def zombie() -> Iterator[int]:
    """A child that has ended and was not waited for."""
    child = subprocess.Popen(["true"])
    try:
        wait_until(lambda: snapshot(("state",), [child.pid])[0].state == "Z")
        yield child.pid
    finally:
        child.wait()


def test_zombie_has_what_it_has_and_says_what_it_lost() -> None:
    """Its parent, state and times are there; its memory, program and arguments are not."""
    with zombie() as pid:
        lost = ("exe", "cmdline", "environ", "vm_rss", "pss", "cwd")
        found = snapshot(("ppid", "state", "utime", "rss", *lost), [pid])[0]
    assert (found.ppid, found.state, found.rss) == (os.getpid(), "Z", 0)
    assert found.absent == dict.fromkeys(lost, "zombie")


def test_kernel_threads_say_what_they_do_not_have() -> None:
    """Those of this machine, where there are any to be seen."""
    threads = snapshot(("pid", "kthread", "exe", "cmdline", "environ", "vm_rss", "pss", "ppid")).where(kthread=True)
    if not len(threads) or os.geteuid() != 0:
        pytest.skip("no kernel threads to be seen, or no right to look at them")
    for one in threads:
        if one.absent.get("exe") not in ("EACCES", "gone"):
            assert one.absent == dict.fromkeys(("exe", "cmdline", "environ", "vm_rss", "pss"), "kernel thread"), one.pid


def test_kernel_thread_of_a_saved_folder(tmp_path: Path) -> None:
    """Its flags tell, on every kernel."""
    status = "Name:\tk\nUid:\t0\t0\t0\t0\n"
    made(tmp_path, stat=stat("kworker/u8:2-events_unbound", "I", KTHREAD), cmdline=b"", status=status)
    found = snapshot(("name", "state", "kthread", "cmdline", "vm_rss", "uid", "exe"), root=tmp_path)[0]
    assert found.to_dict() == {
        "name": "kworker/u8:2-events_unbound",
        "state": "I",
        "kthread": True,
        "cmdline": None,
        "vm_rss": None,
        "uid": 0,
        "exe": None,
    }
    assert found.absent == dict.fromkeys(("cmdline", "vm_rss", "exe"), "kernel thread")


@pytest.mark.parametrize("comm", ["a b", "x) R 1 (y", "new\nline", "", "((", "))", "\udcff\udcfe", " ) S 5 5"])
def test_any_name_is_read_whole(tmp_path: Path, comm: str) -> None:
    """Spaces, line feeds, parentheses, bytes that are not UTF-8: proc(5) escapes none of them in stat."""
    made(tmp_path, stat=stat(comm))
    found = snapshot(("pid", "comm", "name", "state", "ppid"), root=tmp_path)[0]
    assert found.to_dict() == {"pid": 1234, "comm": comm, "name": comm, "state": "S", "ppid": 1}


def test_any_name_of_a_live_process_is_read_whole(tmp_path: Path) -> None:
    """The same through the kernel."""
    for raw in (b"a) R 1 (b", b"new\nline", b"\xff\xfe", b"  "):
        program = os.path.join(os.fsencode(tmp_path), raw)
        shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
        with subprocess.Popen([program, "60"]) as child:
            wait_until(lambda child=child: snapshot(("cmdline",), [child.pid])[0].cmdline[1:] == ["60"])
            found = snapshot(("comm", "exe", "state"), [child.pid])[0]
            assert (os.fsencode(found.comm), os.fsencode(found.exe)) == (raw, program)
            child.kill()


def test_name_that_was_cut_is_completed(tmp_path: Path) -> None:
    """As psutil does it: by the program's name in cmdline, if that begins with what is left."""
    made(tmp_path, 1, stat=stat("a-very-long-pro"), cmdline=b"/usr/bin/a-very-long-program-name\0-x\0")
    made(tmp_path, 2, stat=stat("a-very-long-pro"), cmdline=b"another\0")
    made(tmp_path, 3, stat=stat("a-very-long-pro"))
    table = snapshot(("pid", "name", "comm"), root=tmp_path)
    assert table.values("name") == ["a-very-long-program-name", "a-very-long-pro", "a-very-long-pro"]
    assert table.values("comm") == ["a-very-long-pro"] * 3


def test_processes_that_vanish_are_left_out_or_gone() -> None:
    """While hundreds come and go no row is half of another's; who is asked for and not there is "gone"."""
    with subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"]) as busy:
        try:
            end = time.monotonic() + 1.0
            pids: set[int] = set()
            while time.monotonic() < end:
                table = snapshot(("pid", "ppid", "comm", "exe", "cmdline", "vm_rss", "uid", "rchar"))
                pids |= set(table.pids)
                assert all(one.ppid is not None and one.comm for one in table)
                for why in table.absent("uid").values():
                    assert why == "gone"
            assert len(pids) > 20
        finally:
            busy.kill()
    gone = busy.pid
    found = snapshot(("pid", "ppid", "exe"), [gone, os.getpid()])
    assert found[0].to_dict() == {"pid": gone, "ppid": None, "exe": None}
    assert found[0].absent == {"ppid": "gone", "exe": "gone"}
    assert found[1].ppid == os.getppid()


# -- kernels, rights, no /proc


def test_old_kernel_lacks_lines_and_fields(tmp_path: Path) -> None:
    """A stat of 44 fields, a status without NSpid, no io and no smaps_rollup: told apart from what cannot be read."""
    old = " 1 2 3 4 5 6 7 8 9 1 0 0 17 1 0 0 5 0 0\n"
    made(tmp_path, stat=stat(rest=old), status="Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t1\n")
    found = snapshot(("starttime", "exit_code", "uid", "fsuid", "egid", "ns_pid", "rchar", "pss"), root=tmp_path)[0]
    assert found.to_dict() == {
        "starttime": 42.0,
        "exit_code": None,
        "uid": 1,
        "fsuid": 4,
        "egid": None,
        "ns_pid": None,
        "rchar": None,
        "pss": None,
    }
    told = {"exit_code": "not in this kernel", "egid": "malformed", "ns_pid": "not in this kernel"}
    assert found.absent == told | dict.fromkeys(("rchar", "pss"), "not in this kernel")


def test_boot_that_is_not_told_leaves_create_time_absent(tmp_path: Path) -> None:
    """A proc file system with subset=pid has no /proc/stat: all else is there."""
    assert native.ABSENT[UNTOLD] == "untold"
    found = snapshot(("pid", "age", "create_time"), root=made(tmp_path, stat=stat()))[0]
    assert (found.pid, found.create_time, found.why("create_time")) == (1234, None, "not in this kernel")
    assert found.age > 0
    (tmp_path / "stat").write_text("cpu 1 2 3\nbtime 1000\n")
    assert snapshot(("create_time",), root=tmp_path)[0].create_time == 1042.0


def _subset() -> list[Any]:
    subprocess.run(["mount", "-t", "proc", "-o", "subset=pid", "proc", "/proc"], check=True)
    return list(snapshot(("pid", "ppid", "create_time"), [os.getpid()])[0].absent.items())


@pytest.mark.privileged
def test_proc_with_processes_alone(pid_namespace: None) -> None:
    """Mounted with subset=pid (5.8), as containers do it."""
    assert isolated(_subset, pid_namespace=True) == [["create_time", "not in this kernel"]]


@pytest.mark.parametrize("text", ["", "1234", "1234 (x", "1234 x) S", "1234 (x)", ")(", "1234 (x) "])
def test_broken_stat_is_malformed(tmp_path: Path, text: str) -> None:
    """No value is made out of it."""
    made(tmp_path, stat=text)
    found = snapshot(("pid", "comm", "ppid"), root=tmp_path)[0]
    assert found.to_dict() == {"pid": 1234, "comm": None, "ppid": None}
    assert set(found.absent.values()) <= {"malformed", "not in this kernel"}


def _as_nobody(pid: int) -> dict[str, Any]:
    snapshot(("pid",))
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    fields = ("pid", "ppid", "name", "utime", "uid", "exe", "environ", "rchar", "pss", "cwd", "pidns")
    found = snapshot(fields, [pid])[0]
    return {"values": found.to_dict(), "absent": found.absent, "all": len(snapshot())}


@pytest.mark.privileged
def test_ordinary_user_sees_what_everybody_sees() -> None:
    """Of another user's process: who it is, and what it costs; the rest is EACCES, one field at a time."""
    found = isolated(_as_nobody, os.getpid())
    assert found["values"] | dict.fromkeys(("utime", "name"), 0) == {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "name": 0,
        "utime": 0,
        "uid": os.getuid(),
        **dict.fromkeys(("exe", "environ", "rchar", "pss", "cwd", "pidns")),
    }
    assert found["absent"] == dict.fromkeys(("exe", "environ", "rchar", "pss", "cwd", "pidns"), "EACCES")
    assert found["all"] > 1


def test_descriptor_that_is_being_opened_is_not_counted(tmp_path: Path) -> None:
    """The size of the fd directory has it: a FIFO whose other side nobody has."""
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(["sh", "-c", "read x <$1", "sh", str(tmp_path / "fifo")]) as child:
        fields = ("comm", "state", "cmdline")
        # It sleeps nowhere else.
        wait_until(lambda: list(snapshot(fields, [child.pid])[0].to_dict().values())[:2] == ["sh", "S"], 10)
        assert snapshot(("num_fds",), [child.pid])[0].num_fds == len(os.listdir(f"/proc/{child.pid}/fd"))
        child.kill()


def _hidden(option: str) -> Any:
    subprocess.run(["mount", "-o", f"remount,hidepid={option}", "/proc"], check=True)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    table = snapshot(("pid", "ppid", "name", "uid"))
    one = snapshot(("pid", "ppid"), [1])[0]
    return {"pids": table.pids, "me": os.getpid(), "absent": table.absent("ppid"), "one": one.absent}


@pytest.mark.privileged
def test_hidepid_hides_others_and_says_so(pid_namespace: None) -> None:
    """2: they are not listed, and one that is asked for is "hidden", not "gone"."""
    found = isolated(_hidden, "2", pid_namespace=True)
    assert (found["pids"], found["absent"], found["one"]) == ([found["me"]], {}, {"ppid": "hidden"})


@pytest.mark.privileged
def test_hidepid_that_forbids_names_the_error(pid_namespace: None) -> None:
    """1: they are listed and cannot be read."""
    found = isolated(_hidden, "1", pid_namespace=True)
    assert found["pids"][0] == 1
    assert found["me"] in found["pids"]
    assert found["absent"]["1"] in ("EPERM", "EACCES")
    assert found["one"] == {"ppid": found["absent"]["1"]}


def _without_proc() -> list[str]:
    subprocess.run(["mount", "-t", "tmpfs", "none", "/proc"], check=True)
    assert os.listdir("/proc") == []
    told = []
    for call in (lambda: snapshot(), lambda: snapshot(("pid",), [1]), lambda: fastproc.info.children(1)):
        try:
            told.append(repr(call()))
        except Unsupported as error:
            told.append(str(error))
    return told


@pytest.mark.privileged
def test_missing_proc_is_unsupported_and_never_an_empty_table(pid_namespace: None) -> None:
    """An empty folder has no processes either: that would be a lie."""
    told = isolated(_without_proc, pid_namespace=True)
    assert told == ["/proc is not mounted: no process can be looked up"] * 3


def test_missing_root_is_an_os_error(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        snapshot(root=tmp_path / "nowhere")
    assert len(snapshot(root=tmp_path)) == 0


def _out_of_descriptors() -> list[Any]:
    import resource

    snapshot(("pid",))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    told = []
    for free in (0, 1, 2):
        for _ in range(free):
            os.close(held.pop())
        for fields in (("pid",), ("ppid",), ("exe", "rchar", "num_fds")):
            try:
                told.append(len(snapshot(fields, [os.getpid()])) if fields != ("pid",) else len(snapshot(fields)) > 0)
            except OSError as error:
                told.append(error.errno)
    return told


def test_own_lack_of_descriptors_is_an_error_and_no_absence() -> None:
    """EMFILE says nothing about a process."""
    assert isolated(_out_of_descriptors) == [24, 24, 24, True, 24, 24, True, 1, 1]


# -- the table


def test_table_is_filtered_sorted_sliced(tmp_path: Path) -> None:
    """By value, by a test, by fields; what is absent comes last in both directions."""
    for pid, comm, statm in ((1, "b", "10 5 1"), (2, "a", "10 7 1"), (3, "b", None), (10, "c", "10 6 1")):
        files = {"stat": stat(comm)} | ({"statm": statm} if statm else {})
        made(tmp_path, pid, **files)
    table = snapshot(("pid", "comm", "resident"), root=tmp_path)
    page = os.sysconf("SC_PAGESIZE")
    assert len(table) == 4
    assert set(table.pids) == {1, 2, 3, 10}
    assert table.where(comm="b").sort_by("pid").pids == [1, 3]
    assert table.where(lambda one: one.pid > 2, comm="b").pids == [3]
    assert table.sort_by("resident").pids == [1, 10, 2, 3]
    assert table.sort_by("resident", reverse=True).pids == [2, 10, 1, 3]
    assert table.sort_by("comm", "pid").pids == [2, 1, 3, 10]
    assert table.sort_by("pid")[1:3].pids == [2, 3]
    assert table.sort_by("pid")[-1].comm == "c"
    assert list(table.sort_by("pid").column("resident")) == [5 * page, 7 * page, 0, 6 * page]
    assert table.sort_by("pid").values("resident") == [5 * page, 7 * page, None, 6 * page]
    assert table.absent("resident") == {3: "not in this kernel"}
    assert (3 in table, 4 in table, table.get(4)) == (True, False, None)
    with pytest.raises(KeyError):
        table.by_pid(4)
    again = pickle.loads(pickle.dumps(table.sort_by("pid")))
    assert again.to_dicts() == table.sort_by("pid").to_dicts()


def test_pids_asked_for_keep_their_order() -> None:
    """Also one that comes twice."""
    me, parent = os.getpid(), os.getppid()
    table = snapshot(("ppid",), [me, parent, me])
    assert table.pids == [me, parent, me]
    assert table.values("ppid")[0] == table.values("ppid")[2] == parent


def test_columns_are_memory_and_no_objects() -> None:
    """int64, uint64 and double, for whoever reads them by the buffer protocol."""
    table = snapshot(("pid", "vsize", "utime", "name"))
    formats = [table.column(name).format for name in ("pid", "vsize", "utime")]  # type: ignore[union-attr]
    assert formats == ["q", "Q", "d"]
    assert len(table.column("name")) == len(table)


def test_large_values_are_read_whole() -> None:
    """An environment of a megabyte, in a program with as many arguments."""
    environment = {f"V{number}": "x" * 100_000 for number in range(10)}
    arguments = ["y" * 100_000] * 5
    with subprocess.Popen(["sleep", "60", *["0"] * 5], env=environment | {"PATH": os.environ["PATH"]}) as child:
        wait_until(lambda: len(snapshot(("cmdline",), [child.pid])[0].cmdline or []) == 7)
        found = snapshot(("environ",), [child.pid])[0].environ
        child.kill()
    assert {name: found[name] for name in environment} == environment
    code = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE) as child:
        wait_until(lambda: (snapshot(("cmdline",), [child.pid])[0].cmdline or [])[3:] == arguments)


def _converted(folder: str) -> Any:
    fields = ("pid", "comm", "state", "rsslim", "resident", "utime", "cmdline", "cgroup", "kthread")
    table = snapshot(fields, root=folder)
    frame = table.to_pandas()
    columns = {name: frame[name].astype(object).where(frame[name].notna(), None).tolist() for name in frame.columns}
    return table.to_arrow().to_pydict(), columns, {name: str(kind) for name, kind in frame.dtypes.items()}


def test_to_arrow_and_pandas_keep_values_and_absences(tmp_path: Path) -> None:
    """Absent becomes null; text that is not UTF-8 can be read; numbers keep their 64 bits."""
    missing = [name for name in ("pyarrow", "pandas") if find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    made(tmp_path, 1, stat=stat("\udcff"), statm="10 5 1", cmdline=b"a\0\xffb\0", cgroup="0::/x\n")
    made(tmp_path, 2, stat=stat("y", flags=KTHREAD), cmdline=b"")
    # In a process of its own: pyarrow starts threads.
    arrow, columns, kinds = isolated(_converted, str(tmp_path))
    expected = {
        "pid": [1, 2],
        "comm": ["\\xff", "y"],
        "state": ["S", "S"],
        "rsslim": [2**64 - 1] * 2,
        "resident": [5 * os.sysconf("SC_PAGESIZE"), None],
        "utime": [2.5, 2.5],
        "cmdline": [["a", "\\xffb"], None],
        "kthread": [False, True],
    }
    assert arrow == {**expected, "cgroup": [[["", "/x"]], None]}
    assert columns == {**expected, "cgroup": [{"": "/x"}, None]}
    assert [kinds[name] for name in ("pid", "rsslim", "utime")] == ["Int64", "UInt64", "Float64"]


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    for name, method in (("pyarrow", "to_arrow"), ("pandas", "to_pandas")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ModuleNotFoundError, match=rf"{method}\(\) needs {name}"):
            getattr(snapshot(("pid",)), method)()


# -- rates


def _at(root: Path, pid: int, start: int, ticks: int, faults: int, rchar: int | None) -> None:
    text = f"{pid} (x) S 1 1 1 0 -1 0 {faults} 0 {faults} 0 {ticks} {ticks} 0 0 20 0 1 0 {start} 8192 100 99" + REST
    made(root, pid, stat=text)
    if rchar is not None:
        made(root, pid, io=f"rchar: {rchar}\n")


def test_rates_are_what_changed_by_the_second(tmp_path: Path) -> None:
    """CPU in hundredths of one, counters by the second; by the time between the two looks at each process."""
    fields = ("pid", "utime", "stime", "starttime", "minflt", "rchar")
    _at(tmp_path, 1, 100, 50, 10, 1000)
    _at(tmp_path, 2, 100, 50, 10, 1000)
    _at(tmp_path, 3, 100, 50, 10, None)
    earlier = snapshot(fields, root=tmp_path)
    _at(tmp_path, 1, 100, 60, 30, 3000)  # 20 ticks of 10 ms
    _at(tmp_path, 2, 101, 60, 30, 3000)  # another process of this number
    _at(tmp_path, 3, 100, 50, 5, None)  # went back
    _at(tmp_path, 4, 100, 60, 30, 3000)  # a new one
    time.sleep(0.05)
    later = snapshot(fields, root=tmp_path)
    found = later.rates(earlier).sort_by("pid")
    elapsed = later.by_pid(1), earlier.by_pid(1)
    seconds = (later._at[elapsed[0]._row] - earlier._at[elapsed[1]._row]) / 1e9
    assert found.fields == (*fields, "cpu_percent", "minflt_per_s", "rchar_per_s")
    assert found[0].cpu_percent == pytest.approx(20 / os.sysconf("SC_CLK_TCK") / seconds * 100)
    assert found[0].minflt_per_s == pytest.approx(20 / seconds)
    assert found[0].rchar_per_s == pytest.approx(2000 / seconds)
    assert found.values("cpu_percent")[1:] == [None, 0.0, None]
    assert found.absent("minflt_per_s") == {2: "new", 4: "new"}
    assert found.absent("rchar_per_s") == {2: "new", 3: "not in this kernel", 4: "new"}
    assert found.sort_by("cpu_percent", reverse=True).pids[0] == 1
    with pytest.raises(ValueError, match="earlier: it is later than this snapshot"):
        earlier.rates(later)
    with pytest.raises(ValueError, match="need starttime"):
        later.rates(snapshot(("pid",), root=tmp_path))


@pytest.mark.slow
def test_rates_of_a_busy_process_are_one_cpu() -> None:
    """More than nothing and not more than all of one, on a machine that others use too."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        fields = ("pid", "utime", "stime", "starttime")
        earlier = snapshot(fields, [busy.pid])
        time.sleep(0.7)
        found = snapshot(fields, [busy.pid]).rates(earlier)[0].cpu_percent
        busy.kill()
    assert 0 < found < 115


def test_reasons_are_explained() -> None:
    """Every word that why() can say, but an errno, has its sentence."""
    words = {"gone", "zombie", "kernel thread", "not in this kernel", "malformed", "hidden", "new"}
    assert set(REASONS) == words
