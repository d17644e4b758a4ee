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
