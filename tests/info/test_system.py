"""The machine: what psutil says, what changed between two looks, limits and use of cgroups of both versions."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fastproc.errors import Unsupported
from fastproc.info import CgroupUse, CpuUse, System, cgroup_use
from fastproc.pool._gate import Gate

MIB = 1 << 20


def test_nothing_is_read_before_the_first_look() -> None:
    """And it is said so."""
    system = System()
    assert (system.cpu, system.cpus, system.disk_io, system.networks) == (None, None, {}, {})
    with pytest.raises(RuntimeError, match=r"call refresh\(\) first"):
        system.processes  # noqa: B018


def test_unknown_kind_is_refused() -> None:
    """By name."""
    with pytest.raises(ValueError, match="kinds: 'memory' is none of processes, cpu, disks, networks"):
        System().refresh("memory")


@pytest.mark.slow
def test_two_looks_make_rates() -> None:
    """Of a busy process, of the CPUs that it keeps busy, of what it writes."""
    code = "import os\nfd = os.open('/dev/null', 1)\nwhile True: os.write(fd, b'x' * 4096)"
    with subprocess.Popen([sys.executable, "-c", code]) as busy:
        system = System(["pid", "wchar"]).refresh()
        assert "cpu_percent" not in system.processes.fields
        time.sleep(0.5)
        assert system.refresh() is system
        busy.kill()
    found = system.processes.by_pid(busy.pid)
    assert 0 < found.cpu_percent < 120
    assert found.wchar_per_s > 4096
    assert system.cpu is not None
    assert system.cpus is not None
    assert len(system.cpus) == psutil.cpu_count()
    for one in (system.cpu, *system.cpus):
        assert sum(one[1:]) == pytest.approx(100)
        assert one.busy == pytest.approx(100 - one.idle - one.iowait)
        assert all(part >= 0 for part in one)
    assert system.cpu.busy > 0
    assert all(one.read_bytes_per_s is not None for one in system.disk_io.values())
    assert all(one.sent_per_s is not None for one in system.networks.values())


def test_one_kind_is_read_alone() -> None:
    """The others stay as they were."""
    system = System().refresh("cpu")
    with pytest.raises(RuntimeError):
        system.processes  # noqa: B018
    system.refresh("networks")
    assert system.cpu is None
    assert set(system.networks) == set(psutil.net_io_counters(pernic=True))


def test_use_of_a_cpu_is_shares_of_the_time() -> None:
    """Iowait may go back; a CPU that had no time has no shares."""
    from fastproc.info._system import _use

    kind = type(psutil.cpu_times())
    blank = dict.fromkeys(kind._fields, 0.0)
    earlier, later = kind(**blank | {"iowait": 9.0}), kind(**blank | {"user": 3.0, "idle": 1.0, "iowait": 8.0})
    assert _use([earlier], [later]) == CpuUse(75.0, 75.0, 0, 0, 25.0, 0, 0, 0, 0)
    assert _use([earlier], [earlier]) == CpuUse(*[0.0] * 9)


def test_host_values_are_psutils() -> None:
    """Those that do not change from one call to the next."""
    system = System()
    assert system.memory.total == psutil.virtual_memory().total
    assert system.swap.total == psutil.swap_memory().total
    assert system.boot_time == psutil.boot_time()
    assert system.users == psutil.users()
    assert (system.cpu_count, system.core_count) == (psutil.cpu_count(), psutil.cpu_count(logical=False))
    assert [disk.mountpoint for disk in system.disks] == [one.mountpoint for one in psutil.disk_partitions()]
    assert (system.hostname, system.kernel) == (os.uname().nodename, os.uname().release)
    assert abs(system.uptime - (time.time() - system.boot_time)) < 5
    assert all(one >= 0 for one in system.load)
    assert set(system.temperatures) == set(psutil.sensors_temperatures())
    assert set(system.fans) == set(psutil.sensors_fans())
    assert (system.battery is None) == (psutil.sensors_battery() is None)
    assert isinstance(system.distribution, dict)


def test_pressure_is_that_of_proc() -> None:
    """Each resource that this kernel tells of; none without PSI."""
    names = {name for name in ("cpu", "memory", "io", "irq") if os.path.exists(f"/proc/pressure/{name}")}
    found = System().pressure
    assert set(found) == names
    for name in names - {"irq"}:
        before = int(Path(f"/proc/pressure/{name}").read_text().split("total=")[1].split()[0])
        assert System().pressure[name].some.total_us >= before >= found[name].some.total_us


# -- cgroups


def machine(tmp_path: Path, lines: str, mounts: dict[str, str]) -> str:
    """A folder like /proc with one process, 7, and mounts: where -> fstype and options."""
    root = tmp_path / "proc"
    for name in ("7", "self"):
        (root / name).mkdir(parents=True)
    (root / "7" / "cgroup").write_text(lines)
    text = [
        f"{at} 1 0:{at} / {tmp_path / where} rw - {fstype} cgroup {options}\n"
        for at, (where, (fstype, _, options)) in enumerate(
            ((where, given.partition(" ")) for where, given in mounts.items()), 30
        )
    ]
    (root / "self" / "mountinfo").write_text("".join(text))
    return str(root)


def folder(tmp_path: Path, path: str, /, **files: str) -> None:
    """A cgroup with these files; __ stands for a dot."""
    (tmp_path / path).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (tmp_path / path / name.replace("__", ".")).write_text(text + "\n")


def test_limits_of_version_2_are_the_least_on_the_way_up(tmp_path: Path) -> None:
    """A limit of a parent holds below it; "max" is none."""
    root = machine(tmp_path, "0::/a/b\n", {"cg": "cgroup2 rw"})
    folder(tmp_path, "cg/a", memory__max=str(64 * MIB), cpu__max="150000 100000", pids__max="max")
    psi = "some avg10=1.50 avg60=0.10 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5"
    folder(
        tmp_path,
        "cg/a/b",
        memory__max=str(128 * MIB),
        memory__high="max",
        memory__current="1000",
        memory__events="low 0\noom 2\noom_kill 3",
        cpu__max="max 100000",
        cpu__stat="usage_usec 2500000\nthrottled_usec 500000",
        pids__max="100",
        pids__current="4",
        io__stat="8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2",
        memory__pressure=psi,
    )
    found = cgroup_use(7, root)
    assert found.pressure["memory"].some.avg10 == 1.5
    assert found._replace(pressure={}) == CgroupUse(
        {"": str(tmp_path / "cg/a/b")},
        memory_max=64 * MIB,
        memory_used=1000,
        oom_kills=3,
        cpu_max=1.5,
        cpu_used=2.5,
        throttled=0.5,
        pids_max=100,
        pids_used=4,
        read_bytes=11,
        write_bytes=22,
    )


def test_limits_of_version_1_are_found_by_controller(tmp_path: Path) -> None:
    """Each in its hierarchy; no limit is a number near 2**63, or -1."""
    mounts = {
        "memory": "cgroup rw,memory",
        "cpu": "cgroup rw,cpu,cpuacct",
        "pids": "cgroup rw,pids",
        "blkio": "cgroup rw,blkio",
        "systemd": "cgroup rw,name=systemd",
    }
    lines = "5:memory:/m\n4:cpu,cpuacct:/c\n3:pids:/\n2:blkio:/\n1:name=systemd:/s\n"
    root = machine(tmp_path, lines, mounts)
    none = str(2**63 - 4096)
    folder(tmp_path, "memory", memory__limit_in_bytes=str(32 * MIB), memory__memsw__limit_in_bytes=str(40 * MIB))
    folder(
        tmp_path,
        "memory/m",
        memory__limit_in_bytes=none,
        memory__usage_in_bytes="5000",
        memory__memsw__usage_in_bytes="7000",
        memory__soft_limit_in_bytes=none,
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1",
    )
    folder(tmp_path, "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    folder(tmp_path, "cpu/c", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000", cpuacct__usage="3000000000")
    folder(tmp_path, "pids", pids__current="9")
    folder(tmp_path, "blkio", blkio__throttle__io_service_bytes="8:0 Read 5\n8:0 Write 6\n8:16 Read 1\nTotal 12")
    folder(tmp_path, "systemd/s")
    found = cgroup_use(7, root)
    assert set(found.paths) == {"memory", "cpu", "cpuacct", "pids", "blkio", "name=systemd"}
    assert found._replace(paths={}) == CgroupUse(
        {},
        memory_max=32 * MIB,
        memory_used=5000,
        swap_max=8 * MIB,
        swap_used=2000,
        oom_kills=1,
        cpu_max=0.5,
        cpu_used=3.0,
        pids_used=9,
        read_bytes=6,
        write_bytes=6,
    )


def test_container_whose_mount_is_its_own_part(tmp_path: Path) -> None:
    """Without a cgroup namespace /proc has the host's path, and the mount begins at the container's."""
    root = machine(tmp_path, "0::/docker/abc/in\n", {"cg": "cgroup2 rw"})
    info = Path(root) / "self" / "mountinfo"
    info.write_text(info.read_text().replace(" / ", " /docker/abc "))
    folder(tmp_path, "cg", pids__max="50")
    folder(tmp_path, "cg/in", pids__current="2")
    assert (cgroup_use(7, root).pids_max, cgroup_use(7, root).pids_used) == (50, 2)


def test_cgroup_outside_the_view_is_not_made_up(tmp_path: Path) -> None:
    """Another cgroup namespace shows "/..": what would be read there is another cgroup's."""
    root = machine(tmp_path, "0::/../other\n", {"cg": "cgroup2 rw"})
    folder(tmp_path, "cg", pids__current="2")
    assert cgroup_use(7, root) == CgroupUse({})


def test_no_such_process(tmp_path: Path) -> None:
    """Told apart from one without limits."""
    with pytest.raises(ProcessLookupError):
        cgroup_use(8, machine(tmp_path, "", {}))


def test_own_cgroups_are_those_of_proc() -> None:
    """Every controller of /proc/self/cgroup that is mounted here has a folder that exists."""
    found = System().cgroup()
    assert found.paths == cgroup_use(os.getpid()).paths
    assert all(os.path.isdir(path) for path in found.paths.values())
    if "memory" in found.paths:
        assert found.memory_used


# -- files that no kernel writes, or that are not there

GOOD_DISK = "   8       0 sda 10 0 80 5 20 0 160 5 0 10 10\n"
_MEMORY = ("MemTotal", "MemFree", "Buffers", "Cached", "MemAvailable", "Active", "Inactive", "Shmem")
FULL = {
    "stat": "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\nctxt 1\nbtime 1700000000\nprocesses 5\n",
    "meminfo": "".join(f"{key}: 100 kB\n" for key in _MEMORY),
    "vmstat": "pswpin 1\npswpout 2\n",
    "diskstats": GOOD_DISK,
    "net/dev": "Inter-| x\n face |x\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n",
    "uptime": "50.00 10.00\n",
    "loadavg": "0.10 0.20 0.30 1/2 3\n",
    "filesystems": "\text4\n",
    "cpuinfo": "processor\t: 0\n",
    "self/mounts": "/dev/sda / ext4 rw 0 0\n",
}
"""A /proc as psutil reads it."""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where psutil reads the machine's files; processes are the true ones."""
    for name, text in FULL.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    return tmp_path


ODD: dict[str, tuple[str, str | bytes | None, set[str]]] = {
    "a disk with too many columns": ("diskstats", GOOD_DISK + "   8 1 sda1 1 2 3 4 5 6 7 8 9 10 11 12 13\n", set()),
    "a disk with too few columns": ("diskstats", "   8 1 sda1 1 2\n" + GOOD_DISK, set()),
    "only odd disks": ("diskstats", "   8 1 sda1 1 2\n", {"disks"}),
    "disks in letters": ("diskstats", "a b c d e f g h i j k l m n\n", {"disks"}),
    "disks in no text": ("diskstats", b"\xff\xfe\x00\n", {"disks"}),
    "no columns of a CPU": ("stat", "cpu\ncpu0 1\nbtime 1\n", {"cpu"}),
    "no times at all": ("stat", "", set()),
    "no /proc/stat": ("stat", None, {"cpu"}),
    "interfaces in letters": ("net/dev", "x\ny\nlo: a b c\n", {"networks"}),
    "no interfaces": ("net/dev", None, {"networks"}),
    "an interface without a colon": ("net/dev", "x\ny\nnonsense\n", {"networks"}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_file_breaks_only_what_needs_it(fake: Path, name: str) -> None:
    """The rest of the look stands, and `absent` has the reason; when the file is well again it is gone."""
    file, text, absent = ODD[name]
    place = fake / file
    if text is None:
        place.unlink()
    else:
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
    system = System()
    for _ in range(2):
        system.refresh()
        assert {*system.absent} == absent
        assert all(one.reason == "error" and one.detail for one in system.absent.values())
        assert len(system.processes) > 0
        if "disks" not in absent:
            assert {one: disk.read_bytes for one, disk in system.disk_io.items() if one == "sda"} == {"sda": 80 * 512}
    place.write_text(FULL[file])
    assert System().refresh().absent == system.refresh().absent == {}


def test_proc_without_files_of_the_machine(fake: Path) -> None:
    """As with subset=pid: what the clock or another call tells is told, the rest is absent."""
    for name in FULL:
        (fake / name).unlink()
    system = System(root=str(fake))
    assert not system.memory
    assert not system.swap
    assert system.uptime == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=5)
    assert system.boot_time == pytest.approx(time.time() - system.uptime, abs=5)
    assert (system.disks, system.pressure) == ([], {})
    assert system.cpu_count >= 1
    assert system.core_count is None or system.core_count >= 1
    assert isinstance(system.cpu_frequency, list)
    assert {"memory", "boot_time", "uptime", "disks"} <= {*system.absent}


@pytest.mark.parametrize("text", ["", "nan 1\n", "1e999 5\n", "\n", "many\n", "-1 2\n", "5\n"])
def test_odd_uptime(fake: Path, text: str) -> None:
    (fake / "uptime").write_text(text)
    system = System(root=str(fake))
    assert system.uptime == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=5)
    assert "uptime" in system.absent


def test_memory_of_zero_bytes_is_drawn(fake: Path) -> None:
    """No share of nothing."""
    from fastproc._commands.top import heading

    (fake / "meminfo").write_text(FULL["meminfo"].replace("100 kB", "0 kB"))
    system = System().refresh("processes")
    assert any(line.startswith("Mem [") for line in heading(system))
    (fake / "meminfo").write_text("nonsense\n")
    assert any(line.startswith("Mem ?") for line in heading(system))


def test_idle_that_goes_back_does_not_stop_the_others(fake: Path) -> None:
    """Counters of one column that go back are no time that was spent, and hold up no look."""
    line = "cpu  {0} 0 0 {1} 0 0 0 0 0 0\ncpu0 {0} 0 0 {1} 0 0 0 0 0 0\n"
    system = System()
    (fake / "stat").write_text(line.format(100, 10**9))
    system.refresh("cpu")
    (fake / "stat").write_text(line.format(600, -5))
    system.refresh("cpu")
    assert system.cpu is not None
    assert (system.cpu.user, system.cpu.idle, system.cpu.busy) == (100.0, 0.0, 100.0)


def test_own_lack_is_no_odd_file(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EMFILE says nothing about the file: it is raised."""

    def lacking(**_options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(psutil, "net_io_counters", lacking)
    with pytest.raises(OSError, match="Too many open files"):
        System().refresh("networks")


def test_processes_that_cannot_be_read_do_not_stop_the_others(fake: Path) -> None:
    system = System(root=str(fake / "nowhere"))
    with pytest.raises(FileNotFoundError):
        system.refresh()
    assert "sda" in system.disk_io


PRESSURE = "some avg10=1.00 avg60=0.00 avg300=0.00 total=5\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


def test_odd_pressure_is_left_out(fake: Path) -> None:
    (fake / "pressure").mkdir()
    for name, text in {"cpu": PRESSURE, "memory": "some avg10=x\n", "io": ""}.items():
        (fake / "pressure" / name).write_text(text)
    assert list(System(root=str(fake)).pressure) == ["cpu"]


@pytest.mark.parametrize(
    ("path", "text", "gate"),
    [
        ("loadavg", "", {"load": 1.0}),
        ("loadavg", "nan 0 0 1/2 3\n", {"load": 1.0}),
        ("loadavg", b"\xff\n", {"load": 1.0}),
        ("meminfo", "MemAvailable:\n", {"memory": 1}),
        ("meminfo", "MemAvailable: lots kB\n", {"memory": 1}),
        ("meminfo", "MemTotal: 5 kB\n", {"memory": 1}),
        ("pressure/cpu", "", {"cpu": 1.0}),
        ("pressure/cpu", "some avg10=\n", {"cpu": 1.0}),
    ],
)
def test_gate_says_what_it_cannot_read(
    monkeypatch: pytest.MonkeyPatch, path: str, text: str | bytes, gate: dict[str, float]
) -> None:
    """A number that is none decides nothing."""
    from fastproc.pool import _gate as looking

    data = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr(looking, "open", lambda *_, **__: io.StringIO(data.decode("ascii", "replace")), raising=False)
    with pytest.raises(Unsupported, match="gate: "):
        looking.is_open(Gate(**gate))  # type: ignore[arg-type]
    del path
