"""Processes of this machine: a snapshot of all in one call, their trees, and the state of the machine.

>>> from fastproc import snapshot
>>> import os
>>> table = snapshot(["pid", "ppid", "name", "rss"])
>>> table.by_pid(os.getpid()).ppid == os.getppid()
True
"""

from __future__ import annotations

from fastproc.info._fields import ABOUT as FIELDS
from fastproc.info._fields import REASONS
from fastproc.info._reading import children, snapshot, thread_names, tree
from fastproc.info._snapshot import Column as Column
from fastproc.info._snapshot import Record, Snapshot
from fastproc.info._tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.info._cgroups import CgroupUse as CgroupUse
    from fastproc.info._cgroups import cgroup_use as cgroup_use
    from fastproc.info._system import CpuUse as CpuUse
    from fastproc.info._system import Disk as Disk
    from fastproc.info._system import DiskIo as DiskIo
    from fastproc.info._system import Network as Network
    from fastproc.info._system import System as System

__all__ = [
    "FIELDS",
    "REASONS",
    "CgroupUse",
    "CpuUse",
    "Disk",
    "DiskIo",
    "Network",
    "Record",
    "Snapshot",
    "System",
    "Tree",
    "cgroup_use",
    "children",
    "snapshot",
    "thread_names",
    "tree",
]

# These modules import psutil, so they are loaded when a name is first used.
_LATER = {
    "CgroupUse": "_cgroups",
    "cgroup_use": "_cgroups",
    **dict.fromkeys(("CpuUse", "Disk", "DiskIo", "Network", "System"), "_system"),
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return value
