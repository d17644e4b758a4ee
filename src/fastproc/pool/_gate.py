"""What must hold of the machine before a pool starts anything: a value."""

from __future__ import annotations

from fastproc._values.retries import number

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
