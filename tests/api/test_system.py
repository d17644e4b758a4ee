"""The machine: what psutil says, what changed between two looks, limits and use of cgroups of both versions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fastproc.info import CgroupUse, CpuUse, System, cgroup_use

MIB = 1 << 20


def test_nothing_is_read_before_the_first_look() -> None:
    """And it is said so."""
    system = System()
    assert (system.cpu, system.cpus, system.disk_io, system.networks) == (None, None, {}, {})
    with pytest.raises(RuntimeError, match=r"refresh\(\) reads the processes"):
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
