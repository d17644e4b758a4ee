"""Limits and use of a process's cgroups: of version 2, of version 1, or of both.

A limit holds for all cgroups below the cgroup that sets it, so the smallest limit on the way to the root is effective.
In a container the way ends at the root of its cgroup namespace. Limits that the host has set above it are invisible.
"""

from __future__ import annotations

import os
from errno import EMFILE, ENFILE, ENOMEM
from typing import NamedTuple

from fastproc._native import proc
from fastproc.procfs import ParseError, parse_cgroup, parse_mountinfo, parse_pressure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypeVar

    from fastproc.procfs import Pressure

    T = TypeVar("T")

UNLIMITED_V1 = 1 << 62
"""Version 1 shows "no limit" as a number near 2**63, rounded down to pages."""


class CgroupUse(NamedTuple):
    """Limits and use of a process's cgroups. None: no limit, not counted, or the controller is missing.

    Attributes:
        paths: for each controller, or "" for version 2, the directory below /sys/fs/cgroup.
        memory_max: the limit of memory in bytes.
        memory_high: bytes of memory above which the processes are throttled; for version 1 the soft limit, above which
            memory is reclaimed first.
        memory_used: bytes of memory.
        swap_max, swap_used: bytes of swap. Version 1 counts memory and swap together, so there swap_max is the limit of
            both minus memory_max, and swap_used the use of both minus memory_used.
        oom_kills: the number of processes that the OOM killer has killed.
        cpu_max: CPUs, such as 1.5.
        cpu_used: seconds of CPU time.
        throttled: seconds during which the processes were throttled.
        pids_max, pids_used: tasks.
        read_bytes, write_bytes: bytes read from and written to disks.
        pressure: for "cpu", "memory" and "io" the pressure of the cgroup (version 2).
    """

    paths: dict[str, str]
    memory_max: int | None = None
    memory_high: int | None = None
    memory_used: int | None = None
    swap_max: int | None = None
    swap_used: int | None = None
    oom_kills: int | None = None
    cpu_max: float | None = None
    cpu_used: float | None = None
    throttled: float | None = None
    pids_max: int | None = None
    pids_used: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    pressure: dict[str, Pressure] = {}  # noqa: RUF012 - a tuple's default, never changed


CgroupUse.__module__ = "fastproc.info"


def cgroup_use(pid: int | None = None, root: str = "/proc") -> CgroupUse:
    """Return limits and use of the cgroups of a process. Default: this process.

    Raises:
        ProcessLookupError: the process does not exist.
        OSError: the cgroups of the process cannot be read; /proc is not mounted, or belongs to another PID namespace.
    """
    who = "self" if pid is None else str(int(pid))
    if pid is not None and proc.is_proc(root):
        proc.check()
    try:
        with open(os.path.join(root, who, "cgroup"), "rb") as file:
            lines = parse_cgroup(file.read())
    except FileNotFoundError:
        raise ProcessLookupError(3, "No such process", f"{root}/{who}") from None
    with open(os.path.join(root, "self", "mountinfo"), "rb") as file:
        mounts = parse_mountinfo(file.read())
    folders: dict[str, _Folder] = {}
    for line in lines:
        for name in line.controllers or ("",):
            for mount in mounts:
                kind = "cgroup" if line.controllers else "cgroup2"
                if mount.fstype != kind or (line.controllers and name not in mount.super_options):
                    continue
                folder = _Folder.of(mount.target, mount.root, line.path)
                if folder is not None:
                    folders[name] = folder
                    break
    found = CgroupUse({name: folder.path for name, folder in folders.items()})
    if "" in folders:
        found = found._replace(**_version_2(folders[""]))
    return found._replace(**_version_1(folders))


cgroup_use.__module__ = "fastproc.info"


def pressure(root: str = "/proc") -> dict[str, Pressure]:
    """Return the contents of /proc/pressure, as `System.pressure`."""
    found = {}
    for name in ("cpu", "memory", "io", "irq"):
        try:
            with open(os.path.join(root, "pressure", name), "rb") as file:
                found[name] = parse_pressure(file.read())
        except OSError as error:
            if is_own_lack(error):
                raise
        except ParseError:
            # This file is malformed; the others are still valid.
            continue
    return found


def is_own_lack(error: OSError) -> bool:
    """Return whether this process lacks descriptors or memory. Such an error says nothing about the file."""
    return error.errno in (EMFILE, ENFILE, ENOMEM)


class _Folder:
    """The directory of a cgroup, and the directories above it up to the mount point."""

    __slots__ = ("_top", "path")

    def __init__(self, top: str, path: str) -> None:
        self._top = top
        self.path = path

    @classmethod
    def of(cls, top: str, root: str, path: str) -> _Folder | None:
        """Return the directory of a cgroup whose hierarchy is mounted at `top`; None if it is outside the mount.

        In a container without a cgroup namespace the path is the host's path, and the mount starts at `root` of it.
        """
        inner = path
        if root != "/":
            if path == root or path.startswith(root + "/"):
                inner = path[len(root) :]
            elif root.startswith("/.."):
                return None
            else:
                inner = "/"
        folder = os.path.normpath(top + "/" + inner.lstrip("/"))
        if "/.." in path or not os.path.isdir(folder):
            return None
        return cls(top, folder)

    def text(self, name: str, path: str | None = None) -> str | None:
        """Return the contents of a file; None if it cannot be read."""
        try:
            with open(os.path.join(path or self.path, name), encoding="ascii", errors="replace") as file:
                return file.read()
        except OSError as error:
            if is_own_lack(error):
                raise
            return None

    def number(self, name: str, path: str | None = None) -> int | None:
        """Return the number in a file; None for "max", or if the file cannot be read."""
        text = self.text(name, path)
        try:
            value = int(text) if text is not None else None
        except ValueError:
            return None
        return value if value is not None and 0 <= value < UNLIMITED_V1 else None

    def words(self, name: str) -> dict[str, int]:
        """Return the numbers of a file with lines "key number"."""
        found = {}
        for line in (self.text(name) or "").splitlines():
            key, _, value = line.partition(" ")
            if _is_number(value.strip()):
                found[key] = int(value)
        return found

    def upwards(self) -> Iterator[str]:
        """Yield this directory and the directories above it, in the same mount."""
        path = self.path
        while True:
            yield path
            if path == self._top or len(path) <= len(self._top):
                return
            path = os.path.dirname(path)

    def least(self, name: str) -> int | None:
        """Return the smallest limit on the way up."""
        return _least(self.number(name, path) for path in self.upwards())


def _least(values: Iterator[T | None]) -> T | None:
    found = [value for value in values if value is not None]
    return min(found, default=None)  # type: ignore[type-var]


def _quota(folder: _Folder, path: str) -> float | None:
    """Return the number of CPUs that cpu.max of one directory allows."""
    quota, _, period = (folder.text("cpu.max", path) or "").strip().partition(" ")
    return int(quota) / int(period) if _is_number(quota) and _is_number(period) and int(period) else None


def _is_number(text: str) -> bool:
    """Return whether the kernel could have written this number. isdigit() alone accepts more than int()."""
    return text.isascii() and text.isdigit() and len(text) <= 20


def _io(text: str | None) -> tuple[int, int] | None:
    """Return the bytes read and written, of all disks in io.stat."""
    if text is None:
        return None
    pairs = [word.partition("=") for line in text.splitlines() for word in line.split()[1:]]
    read = sum(int(value) for key, _, value in pairs if key == "rbytes" and _is_number(value))
    written = sum(int(value) for key, _, value in pairs if key == "wbytes" and _is_number(value))
    return read, written


def _version_2(folder: _Folder) -> dict[str, Any]:
    cpu, events = folder.words("cpu.stat"), folder.words("memory.events")
    pressure = {}
    for name in ("cpu", "memory", "io"):
        text = folder.text(f"{name}.pressure")
        if text:
            try:
                pressure[name] = parse_pressure(text.encode())
            except ParseError:
                continue
    moved = _io(folder.text("io.stat"))
    found = {
        "memory_max": folder.least("memory.max"),
        "memory_high": folder.least("memory.high"),
        "memory_used": folder.number("memory.current"),
        "swap_max": folder.least("memory.swap.max"),
        "swap_used": folder.number("memory.swap.current"),
        "oom_kills": events.get("oom_kill"),
        "cpu_max": _least(_quota(folder, path) for path in folder.upwards()),
        "cpu_used": cpu["usage_usec"] / 1e6 if "usage_usec" in cpu else None,
        "throttled": cpu["throttled_usec"] / 1e6 if "throttled_usec" in cpu else None,
        "pids_max": folder.least("pids.max"),
        "pids_used": folder.number("pids.current"),
        "read_bytes": moved[0] if moved else None,
        "write_bytes": moved[1] if moved else None,
        "pressure": pressure,
    }
    return {name: value for name, value in found.items() if value is not None}


def _version_1(folders: dict[str, _Folder]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    memory = folders.get("memory")
    if memory is not None:
        limit, both = memory.least("memory.limit_in_bytes"), memory.least("memory.memsw.limit_in_bytes")
        used, used_both = memory.number("memory.usage_in_bytes"), memory.number("memory.memsw.usage_in_bytes")
        found.update(memory_max=limit, memory_used=used, memory_high=memory.least("memory.soft_limit_in_bytes"))
        found["swap_max"] = both - limit if both is not None and limit is not None else None
        found["swap_used"] = max(used_both - used, 0) if used_both is not None and used is not None else None
        found["oom_kills"] = memory.words("memory.oom_control").get("oom_kill")
    cpu = folders.get("cpu")
    if cpu is not None:
        found["cpu_max"] = _least(_quota_v1(cpu, path) for path in cpu.upwards())
        throttled = cpu.words("cpu.stat").get("throttled_time")
        found["throttled"] = throttled / 1e9 if throttled is not None else None
    used = folders["cpuacct"].number("cpuacct.usage") if "cpuacct" in folders else None
    found["cpu_used"] = used / 1e9 if used is not None else None
    if "pids" in folders:
        found["pids_max"] = folders["pids"].least("pids.max")
        found["pids_used"] = folders["pids"].number("pids.current")
    if "blkio" in folders:
        for line in (folders["blkio"].text("blkio.throttle.io_service_bytes") or "").splitlines():
            words = line.split()
            if len(words) == 3 and words[1] in ("Read", "Write") and _is_number(words[2]):
                name = "read_bytes" if words[1] == "Read" else "write_bytes"
                before = found.get(name, 0)
                assert isinstance(before, int)
                found[name] = before + int(words[2])
    return {name: value for name, value in found.items() if value is not None}


def _quota_v1(folder: _Folder, path: str) -> float | None:
    quota, period = folder.number("cpu.cfs_quota_us", path), folder.number("cpu.cfs_period_us", path)
    return quota / period if quota and period else None
