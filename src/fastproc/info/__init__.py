"""Processes of this machine: all of them in one call, their trees, the machine itself.

>>> from fastproc import snapshot
>>> import os
>>> table = snapshot(["pid", "ppid", "name", "rss"])
>>> table.by_pid(os.getpid()).ppid == os.getppid()
True
"""

from __future__ import annotations

from fastproc._values.fields import ABOUT as FIELDS
from fastproc._values.fields import REASONS
from fastproc._values.forest import Tree
from fastproc._values.snapshot import Record, Snapshot
from fastproc.info._reading import children, snapshot, thread_names, tree

__all__ = ["FIELDS", "REASONS", "Record", "Snapshot", "Tree", "children", "snapshot", "thread_names", "tree"]
