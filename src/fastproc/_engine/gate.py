"""Whether the machine has room for more: what a Gate asks for, read from /proc."""

from __future__ import annotations

from fastproc import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastproc._values.gate import Gate


def is_open(gate: Gate) -> bool:
    """Look.

    Raises:
        Unsupported: this kernel does not tell one of them.
    """
    if gate.load is not None and float(_read("/proc/loadavg").split(maxsplit=1)[0]) >= gate.load:
        return False
    if gate.memory is not None and _available() < gate.memory:
        return False
    for name, limit in gate.pressures.items():
        # "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", then "full ..."
        first = _read(f"/proc/pressure/{name}").split()
        if float(first[1].partition("=")[2]) >= limit:
            return False
    return True


def _available() -> int:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise errors.Unsupported("gate: this kernel does not tell MemAvailable (Linux 3.14)")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError as error:
        raise errors.Unsupported(f"gate: {error}") from error
