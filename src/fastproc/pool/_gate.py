"""Limits of the machine above which a pool starts nothing: the value, and the look at /proc."""

from __future__ import annotations

from fastproc import errors
from fastproc.pool._retries import number

PRESSURES = ("cpu", "memory", "io")


class Gate:
    """Limits of load, memory and pressure above which a pool starts no further task; those that run go on.

    Args:
        load: the load average of the last minute must be below (proc_loadavg(5)).
        memory: so many bytes of memory must be available (MemAvailable of proc_meminfo(5)).
        cpu: the share of time, in percent of the last 10 s, in which some tasks waited for a CPU must be below
            (proc_pressure_cpu, Linux 4.20).
        memory_pressure: the same for memory.
        io: the same for input and output.
        interval: seconds between two looks.
    """

    __module__ = "fastproc"

    __slots__ = ("interval", "load", "memory", "pressures")

    def __init__(
        self,
        *,
        load: float | None = None,
        memory: int | None = None,
        cpu: float | None = None,
        memory_pressure: float | None = None,
        io: float | None = None,
        interval: float = 1.0,
    ) -> None:
        """Keep them.

        Raises:
            TypeError, ValueError: one is not possible, or there is none; its name comes first.
        """
        self.load = None if load is None else number("load", load)
        self.memory = None if memory is None else number("memory", memory)
        given = zip(PRESSURES, (cpu, memory_pressure, io), ("cpu", "memory_pressure", "io"), strict=True)
        self.pressures = {file: number(name, limit) for file, limit, name in given if limit is not None}
        self.interval = number("interval", interval)
        if self.interval == 0:
            raise ValueError("interval: must be more than 0")
        if self.load is None and self.memory is None and not self.pressures:
            raise ValueError("gate: no limit was given")

    def __repr__(self) -> str:
        """Show the limits."""
        return f"<Gate load={self.load} memory={self.memory} pressures={self.pressures}>"


def is_open(gate: Gate) -> bool:
    """Look.

    Raises:
        Unsupported: this kernel does not tell one of them.
    """
    if gate.load is not None and _number("/proc/loadavg", *_read("/proc/loadavg").split()[:1]) >= gate.load:
        return False
    if gate.memory is not None and _available() < gate.memory:
        return False
    for name, limit in gate.pressures.items():
        # "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", then "full ..."
        path = f"/proc/pressure/{name}"
        if _number(path, *[word[6:] for word in _read(path).split() if word.startswith("avg10=")][:1]) >= limit:
            return False
    return True


def _number(path: str, word: str = "") -> float:
    """The number that stands in a file, which decides: what is none, or is no finite one, is no answer."""
    if not word.isascii() or word.strip("0123456789.") or len(word) > 40:
        word = ""
    try:
        return float(word)
    except ValueError:
        raise errors.Unsupported(f"gate: {path} does not have what the kernel writes there") from None


def _available() -> int:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(_number("/proc/meminfo", *line.split()[1:2])) * 1024
    raise errors.Unsupported("gate: this kernel does not tell MemAvailable (Linux 3.14)")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise errors.Unsupported(f"gate: {error}") from error
