"""The result of a snapshot: a table of columns, with records as rows, and its methods. Pure: no file, no clock.

A column is the memory that the C core returned; a value is made when it is requested. A filtered or sorted table shares
the columns of its original. Invariant: a value is the kernel's value, or None with a reason.
"""

from __future__ import annotations

from os import cpu_count, fsdecode

from fastproc.info._fields import ABOUT, COUNTERS, DECODERS, DERIVED, NEW, PF_KTHREAD, UNORDERED, UNTOLD, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

TICK = 0.01
"""Seconds: the resolution of utime and stime (USER_HZ)."""

_FORMATS = {"I": "q", "U": "Q", "D": "d", "S": "q"}


class Column:
    """One field of all rows, as it was read.

    Attributes:
        kind: "I" int64, "U" uint64, "D" double, "S" bytes.
        cells: a memoryview with one item for each row, 0 if the value is absent. For "S": the offsets in `blob` at
            which the bytes of each row start, and the end of the last.
        absent: a memoryview of int16: 0, or the code of a reason.
        blob: the bytes of an "S" column.
    """

    __module__ = "fastproc.info"
    __slots__ = ("_raw", "absent", "blob", "cells", "kind")

    def __init__(self, kind: str, cells: bytes, absent: bytes, blob: bytes = b"") -> None:
        self._raw = (kind, cells, absent, blob)
        self.kind = kind
        self.cells: memoryview[Any] = memoryview(cells).cast(_FORMATS[kind])  # type: ignore[call-overload]
        self.absent = memoryview(absent).cast("h")
        self.blob = blob

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the bytes, because a memoryview cannot be pickled."""
        return Column, self._raw

    def bytes_at(self, row: int) -> bytes:
        """Return the bytes of a row of an "S" column; b"" if absent."""
        return self.blob[self.cells[row] : self.cells[row + 1]]


class Record:
    """One process of a table. Each field is an attribute and an item. An absent value is None: see `why`."""

    __module__ = "fastproc.info"

    __slots__ = ("_row", "_table")

    def __init__(self, table: Snapshot, row: int) -> None:
        self._table = table
        self._row = row

    def __getitem__(self, name: str) -> Any:
        return self._table._value(name, self._row)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._table._value(name, self._row)
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def why(self, name: str) -> str | None:
        """Return why a field is absent: a word of fastproc.info.REASONS, such as "gone", or the name of an errno.

        Returns None if the field is not absent.
        """
        code = self._table._why(name, self._row)
        return reason(code, self._table._codes) if code else None

    @property
    def absent(self) -> dict[str, str]:
        """The absent fields, with their reasons."""
        return {name: why for name in self._table.fields if (why := self.why(name)) is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return {name: self._table._value(name, self._row) for name in self._table.fields}

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._table.fields})

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"


class Snapshot:
    """Many processes at one time: a table with a row for each process and a column for each field.

    Iteration yields a `Record` for each process, in the order of /proc, which is ascending by pid, or in the order of
    the requested pids.

    Attributes:
        fields: the names of the fields.
        root: the mount point of the proc file system.
        taken: the monotonic time in seconds when the first row was read; 0.0 if the table is empty.
    """

    __module__ = "fastproc"

    __slots__ = ("_at", "_begin", "_codes", "_columns", "_index", "_rows", "fields", "root", "taken")

    def __init__(
        self,
        fields: tuple[str, ...],
        columns: dict[str, Column],
        at_ns: bytes,
        begin: tuple[float, float | None],
        codes: dict[int, str],
        root: str = "/proc",
        rows: Sequence[int] | None = None,
    ) -> None:
        """Called by `snapshot()`; `begin` is CLOCK_BOOTTIME and the time of the boot in seconds since 1970, or None."""
        self.fields = fields
        self.root = root
        self._columns = columns
        self._at = memoryview(at_ns).cast("q")
        self._begin = begin
        self._codes = codes
        self._rows: Sequence[int] = range(len(self._at)) if rows is None else rows
        self._index: dict[int, int] | None = None
        self.taken = min(self._at) / 1e9 if self._at else 0.0

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the columns as bytes."""
        rows = None if isinstance(self._rows, range) else tuple(self._rows)
        return Snapshot, (self.fields, self._columns, bytes(self._at), self._begin, self._codes, self.root, rows)

    def _with(self, rows: Sequence[int]) -> Snapshot:
        at = bytes(self._at)
        return Snapshot(self.fields, self._columns, at, self._begin, self._codes, self.root, rows)

    # -- values

    def _column(self, name: str) -> Column:
        column = self._columns.get(name)
        if column is not None:
            return column
        if name not in DERIVED:
            known = "was not asked for" if name in ABOUT else "is not a field"
            raise KeyError(f"{name!r} {known}; there are {', '.join(self.fields)}")
        if any(source not in self._columns for source in DERIVED[name]):
            raise KeyError(f"{name!r} was not asked for; there are {', '.join(self.fields)}")
        column = self._columns[name] = _derive(name, [self._columns[one] for one in DERIVED[name]], self._begin)
        return column

    def _value(self, name: str, row: int) -> Any:
        column = self._column(name)
        if column.absent[row]:
            return None
        if column.kind == "S":
            return DECODERS.get(name, fsdecode)(column.bytes_at(row))
        if name == "state":
            return chr(column.cells[row])
        return bool(column.cells[row]) if name == "kthread" else column.cells[row]

    def _why(self, name: str, row: int) -> int:
        return self._column(name).absent[row]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Record]:
        return (Record(self, row) for row in self._rows)

    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return self._with(tuple(self._rows[at]))
        return Record(self, self._rows[at])

    def __contains__(self, pid: object) -> bool:
        return pid in self._by_pid()

    def _by_pid(self) -> dict[int, int]:
        if self._index is None:
            cells = self._columns["pid"].cells
            self._index = {cells[row]: row for row in self._rows}
        return self._index

    def get(self, pid: int) -> Record | None:
        """Return the record of a pid; None if the table has no such pid."""
        row = self._by_pid().get(pid)
        return None if row is None else Record(self, row)

    def by_pid(self, pid: int) -> Record:
        """Return the record of a pid.

        Raises:
            KeyError: the table has no such pid.
        """
        return Record(self, self._by_pid()[pid])

    @property
    def pids(self) -> list[int]:
        """The pids in the order of the rows."""
        cells = self._columns["pid"].cells
        return [cells[row] for row in self._rows]

    def column(self, name: str) -> Any:
        """Return a field of all rows as a memoryview of int64 ("q"), uint64 ("Q") or double ("d"), without objects.

        An absent value is 0. For a field of bytes the result is a list of undecoded bytes objects.

        Raises:
            KeyError: the field is not in the snapshot.
        """
        column = self._column(name)
        if column.kind == "S":
            return [column.bytes_at(row) for row in self._rows]
        if isinstance(self._rows, range) and len(self._rows) == len(self._at):
            return column.cells
        from array import array

        return memoryview(array(_FORMATS[column.kind], (column.cells[row] for row in self._rows)))

    def values(self, name: str) -> list[Any]:
        """Return a field of all rows as a list of Python values, None if absent.

        Raises:
            KeyError: the field is not in the snapshot.
        """
        column = self._column(name)
        if column.kind == "S" or name in ("state", "kthread"):
            return [self._value(name, row) for row in self._rows]
        cells, absent = column.cells, column.absent
        return [None if absent[row] else cells[row] for row in self._rows]

    def absent(self, name: str) -> dict[int, str]:
        """Return the pids whose field is absent, with the reasons.

        Raises:
            KeyError: the field is not in the snapshot.
        """
        column, pid = self._column(name), self._columns["pid"].cells
        found = ((pid[row], column.absent[row]) for row in self._rows)
        return {one: reason(code, self._codes) for one, code in found if code}

    # -- other tables

    def where(self, test: Callable[[Record], object] | None = None, /, **equal: object) -> Snapshot:
        """Return a table of the rows for which `test(record)` is true and whose fields equal the given values.

        Raises:
            KeyError: a field is not in the snapshot.
        """
        rows = self._rows
        for name, wanted in equal.items():
            self._column(name)
            rows = [row for row in rows if self._value(name, row) == wanted]
        return self._with(tuple(row for row in rows if test is None or test(Record(self, row))))

    def sort_by(self, *names: str, reverse: bool = False) -> Snapshot:
        """Return a table of the rows sorted by these fields. Absent values come last, also with `reverse`.

        Raises:
            KeyError: a field is not in the snapshot.
        """
        rows = list(self._rows)
        for name in reversed(names):
            column = self._column(name)
            there = [row for row in rows if not column.absent[row]]
            # Values without an order, such as an environment, are sorted by their bytes.
            raw = name in UNORDERED
            there.sort(key=lambda row: column.bytes_at(row) if raw else self._value(name, row), reverse=reverse)
            rows = there + [row for row in rows if column.absent[row]]
        return self._with(tuple(rows))

    def rates(self, earlier: Snapshot) -> Snapshot:
        """Return the same rows with the changes since an earlier snapshot, per second.

        The new fields are `cpu_percent` (100 is one CPU) if both snapshots have utime and stime, and NAME_per_s for
        each counter that both have, such as read_bytes_per_s, majflt_per_s and voluntary_ctxt_switches_per_s. The rates
        are absent ("new") if the process did not exist before or its pid belonged to another process, by its starttime.
        CPU times have a resolution of 10 ms (USER_HZ), so the percentage is rough over a short interval. A percentage
        that this rounding has raised above the maximum of the process's threads (num_threads, if present) and the
        machine's CPUs is reduced to it. A larger excess is kept: threads may have started and ended meanwhile.

        Raises:
            ValueError: starttime is not in both snapshots, or `earlier` is later than this snapshot.
        """
        if "starttime" not in self._columns or "starttime" not in earlier._columns:
            raise ValueError("rates: both snapshots need starttime, which identifies a process together with its pid")
        if len(self) and len(earlier) and earlier.taken > self.taken:
            raise ValueError("earlier: it is later than this snapshot")
        return _rates(self, earlier)

    # -- other forms

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a list with a dict for each row."""
        columns = [self.values(name) for name in self.fields]
        return [dict(zip(self.fields, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_arrow(self) -> Any:
        r"""Return a pyarrow.Table. Absent values are null; undecodable bytes in text become \\xNN.

        Raises:
            ModuleNotFoundError: pyarrow is not installed.
        """
        from fastproc.info._export import to_arrow

        return to_arrow(self)

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame with nullable columns, indexed by row number. Absent values are NA.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        from fastproc.info._export import to_pandas

        return to_pandas(self)

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self)} processes: {', '.join(self.fields)}>"


def _derive(name: str, sources: list[Column], begin: tuple[float, float | None]) -> Column:
    """Return a computed column. A cell is absent if one of its sources is absent."""
    from array import array

    absent = bytes(sources[0].absent)
    if len(sources) > 1:
        absent = array("h", map(max, sources[0].absent, sources[1].absent)).tobytes()
    first = sources[0].cells
    if name == "kthread":
        return Column("I", array("q", (flags & PF_KTHREAD != 0 for flags in first)).tobytes(), absent)
    if name == "cpu_time":
        cells = array("d", (user + kernel for user, kernel in zip(first, sources[1].cells, strict=True)))
    elif name == "create_time":
        if begin[1] is None:
            absent = array("h", (code or UNTOLD for code in sources[0].absent)).tobytes()
        cells = array("d", ((begin[1] or 0.0) + start for start in first))
    else:
        cells = array("d", (begin[0] - start for start in first))
    return Column("D", cells.tobytes(), absent)


def _rates(later: Snapshot, earlier: Snapshot) -> Snapshot:
    from array import array

    starts, before, pids = later._columns["starttime"], earlier._columns["starttime"], later._columns["pid"].cells
    index = earlier._by_pid()
    pairs = {}
    for row in later._rows:
        old = index.get(pids[row])
        if old is None or starts.absent[row] or before.absent[old] or starts.cells[row] != before.cells[old]:
            continue
        elapsed = (later._at[row] - earlier._at[old]) / 1e9
        if elapsed > 0:
            pairs[row] = (old, elapsed)
    both = [name for name in COUNTERS if name in later._columns and name in earlier._columns]
    wanted: list[tuple[str, tuple[str, ...], float]] = [(f"{name}_per_s", (name,), 1.0) for name in both]
    times = ("utime", "stime")
    if all(name in later._columns and name in earlier._columns for name in times):
        wanted.insert(0, ("cpu_percent", times, 100.0))
    columns = dict(later._columns)
    for name, sources, factor in wanted:
        cells, absent = array("d", [0.0]) * len(later._at), array("h", [NEW]) * len(later._at)
        for row, (old, elapsed) in pairs.items():
            change, code = 0.0, 0
            for source in sources:
                now, then = later._columns[source], earlier._columns[source]
                code = code or now.absent[row] or then.absent[old]
                change += now.cells[row] - then.cells[old]
            # The kernel does not sum over threads at one instant, so a counter may decrease slightly.
            cells[row], absent[row] = (0.0, code) if code else (max(change, 0.0) / elapsed * factor, 0)
        if sources == times:
            _cap(cells, pairs, later, earlier)
        columns[name] = Column("D", cells.tobytes(), absent.tobytes())
    fields = (*later.fields, *(name for name, _, _ in wanted))
    return Snapshot(fields, columns, bytes(later._at), later._begin, later._codes, later.root, later._rows)


def _cap(cells: Any, pairs: dict[int, tuple[int, float]], later: Snapshot, earlier: Snapshot) -> None:
    """Reduce percentages of CPU time to the maximum, if the resolution of utime and stime explains the excess."""
    now, then = later._columns.get("num_threads"), earlier._columns.get("num_threads")
    cpus = cpu_count() or 1
    for row, (old, elapsed) in pairs.items():
        threads = cpus
        if now is not None and then is not None and not now.absent[row] and not then.absent[old]:
            threads = min(max(now.cells[row], then.cells[old], 1), cpus)
        possible = 100.0 * threads
        if 0 < cells[row] - possible <= 2 * TICK / elapsed * 100.0 * (1 + 1e-9):
            cells[row] = possible
