"""The values of metrics, from the columns of a snapshot and the pressure files of cgroups."""

from __future__ import annotations

from fastproc.info._cgroups import cgroup_use, is_own_lack
from fastproc.monitor._rules import METRICS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc.info._snapshot import Record, Snapshot
    from fastproc.procfs import Pressure

PRESSURES = ("cpu_pressure", "memory_pressure", "io_pressure")
"""The metrics that the machine has too."""

_FIELDS: dict[str, tuple[str, ...]] = {
    "rss": ("rss",),
    "fds": ("num_fds",),
    "threads": ("num_threads",),
    "age": ("age",),
    "zombie": ("state", "num_threads"),
    "cpu": ("cpu_percent",),
    "read": ("read_bytes_per_s",),
    "write": ("write_bytes_per_s",),
    "io": ("read_bytes_per_s", "write_bytes_per_s"),
}
"""The columns of a metric, which are added."""


def values(metric: str, table: Snapshot) -> list[float | None]:
    """Return a metric for all rows; None if it is absent, or if it needs a second look."""
    names = _FIELDS[metric]
    if any(name not in table.fields for name in names):
        return [None] * len(table)
    columns = [table.values(name) for name in names]
    if metric == "zombie":
        pairs = zip(*columns, strict=True)
        return [None if state is None else float(state == "Z" and has_ended(state, left)) for state, left in pairs]
    if len(columns) == 1:
        return columns[0]
    return [None if None in parts else sum(parts) for parts in zip(*columns, strict=True)]


def has_ended(state: str | None, threads: int | None) -> bool:
    """Return whether all threads have ended. A leader that has ended before them is a zombie too (GOTCHAS D10)."""
    return state is not None and state in "ZX" and (threads or 0) <= 1


def of_cgroup(pid: int) -> dict[str, Pressure]:
    """Return the pressures of a process's cgroup by kind; an empty dict if the kernel does not report them.

    Raises:
        OSError: this process lacks descriptors or memory.
    """
    try:
        return cgroup_use(pid).pressure
    except OSError as error:
        if is_own_lack(error):
            raise
        return {}


def why_absent(metric: str, record: Record) -> str | None:
    """Return why a metric is absent; None if this is temporary: the process is ending, or this is the first look."""
    if metric in PRESSURES:
        return None if record.why("starttime") else "its cgroup does not report it (PSI, cgroup v2)"
    for name in METRICS[metric][1]:
        why = record.why(name)
        if why is not None and why != "gone":
            return why
    return None


def stalled(found: dict[str, Pressure], metric: str) -> float | None:
    one = found.get(metric.removesuffix("_pressure"))
    return getattr(one.some, "avg10", None) if one is not None else None


def are_rated(metrics: set[str]) -> bool:
    """Return whether one of the metrics needs two looks."""
    return not metrics.isdisjoint(("cpu", "io", "read", "write"))
