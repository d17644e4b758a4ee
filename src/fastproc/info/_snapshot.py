"""What a snapshot read: a table of columns, its rows as records, and what can be done with it. Pure: no file, no clock.

A column is the C core's memory as it came; a value is made when it is asked for. A table that was filtered or sorted
shares the columns of the first one. Invariant: a value is the kernel's, or None with a reason.
"""

from __future__ import annotations

from os import cpu_count, fsdecode

from fastproc.info._fields import ABOUT, COUNTERS, DECODERS, DERIVED, NEW, PF_KTHREAD, UNORDERED, UNTOLD, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

TICK = 0.01
"""Seconds: the steps of utime and stime (USER_HZ)."""

_FORMATS = {"I": "q", "U": "Q", "D": "d", "S": "q"}


class Column:
    """One field of all rows of a table as it was read.

    Attributes:
        kind: "I" int64, "U" uint64, "D" double, "S" bytes.
        cells: a memoryview of one item for each row, 0 where absent; of "S" one more: the offsets in `blob` at which
            each row's bytes begin, and the end.
        absent: a memoryview of int16: 0, or the code of a reason.
        blob: the bytes of an "S".
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
        """Pickle by the bytes: a memoryview cannot be."""
        return Column, self._raw

    def bytes_at(self, row: int) -> bytes:
        """The bytes of an "S" column's row; b"" where absent."""
        return self.blob[self.cells[row] : self.cells[row + 1]]


class Record:
    """One process of a table: each field is an attribute, and an item. None is a value that is absent: see `why`."""

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
        """Why a field is absent: a word of fastproc.info.REASONS, such as "gone" or "zombie", or an errno's name.

        None when it is not absent.
        """
        code = self._table._why(name, self._row)
        return reason(code, self._table._codes) if code else None

    @property
    def absent(self) -> dict[str, str]:
        """The fields that are absent, with their reasons."""
        return {name: why for name in self._table.fields if (why := self.why(name)) is not None}

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return {name: self._table._value(name, self._row) for name in self._table.fields}

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._table.fields})

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"


class Snapshot:
    """Many processes at one time: a table with a row for each and a column for each field.

    Iterates over its `Record`s, in the order of /proc, which is that of the pids, or in that of the pids asked for.

    Attributes:
        fields: their names.
        root: of the proc file system that was read.
        taken: monotonic seconds when its first row was read; 0.0 if it is empty.
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
        """Only `snapshot()` makes one; `begin` is CLOCK_BOOTTIME then, and the epoch's second of the boot, if known."""
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
            known = "was not asked for" if name in ABOUT else "is no field"
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
        """The record of a pid; None when the table has none."""
        row = self._by_pid().get(pid)
        return None if row is None else Record(self, row)

    def by_pid(self, pid: int) -> Record:
        """The record of a pid.

        Raises:
            KeyError: the table has none.
        """
        return Record(self, self._by_pid()[pid])

    @property
    def pids(self) -> list[int]:
        """The pids, in the order of the rows."""
        cells = self._columns["pid"].cells
        return [cells[row] for row in self._rows]

    def column(self, name: str) -> Any:
        """A field of all rows without an object for each: a memoryview of int64 ("q"), uint64 ("Q") or double ("d").

        0 stands where it is absent. A field of bytes gives a list of them, undecoded.

        Raises:
            KeyError: the field was not asked for.
        """
        column = self._column(name)
        if column.kind == "S":
            return [column.bytes_at(row) for row in self._rows]
        if isinstance(self._rows, range) and len(self._rows) == len(self._at):
            return column.cells
        from array import array

        return memoryview(array(_FORMATS[column.kind], (column.cells[row] for row in self._rows)))

    def values(self, name: str) -> list[Any]:
        """A field of all rows as Python's own values, None where it is absent.

        Raises:
            KeyError: the field was not asked for.
        """
        column = self._column(name)
        if column.kind == "S" or name in ("state", "kthread"):
            return [self._value(name, row) for row in self._rows]
        cells, absent = column.cells, column.absent
        return [None if absent[row] else cells[row] for row in self._rows]

    def absent(self, name: str) -> dict[int, str]:
        """The pids of which a field is absent, with the reasons.

        Raises:
            KeyError: the field was not asked for.
        """
        column, pid = self._column(name), self._columns["pid"].cells
        found = ((pid[row], column.absent[row]) for row in self._rows)
        return {one: reason(code, self._codes) for one, code in found if code}

    # -- other tables

    def where(self, test: Callable[[Record], object] | None = None, /, **equal: object) -> Snapshot:
        """The rows for which `test(record)` is true and whose fields equal those given.

        Raises:
            KeyError: a field was not asked for.
        """
        rows = self._rows
        for name, wanted in equal.items():
            self._column(name)
            rows = [row for row in rows if self._value(name, row) == wanted]
        return self._with(tuple(row for row in rows if test is None or test(Record(self, row))))

    def sort_by(self, *names: str, reverse: bool = False) -> Snapshot:
        """The rows in the order of some fields; what is absent comes last, whichever the direction.

        Raises:
            KeyError: a field was not asked for.
        """
        rows = list(self._rows)
        for name in reversed(names):
            column = self._column(name)
            there = [row for row in rows if not column.absent[row]]
            # What has no order of its own, such as an environment, is ordered by its bytes.
            raw = name in UNORDERED
            there.sort(key=lambda row: column.bytes_at(row) if raw else self._value(name, row), reverse=reverse)
            rows = there + [row for row in rows if column.absent[row]]
        return self._with(tuple(rows))

    def rates(self, earlier: Snapshot) -> Snapshot:
        """The same rows with what changed since an earlier snapshot, by the second.

        `cpu_percent` (100 is one CPU) where both have utime and stime; NAME_per_s of each counter that both have, as
        read_bytes_per_s, majflt_per_s, voluntary_ctxt_switches_per_s. A process that was not there before, or whose pid
        was another's (its starttime tells), has none: "new". CPU times have steps (USER_HZ, 10 ms), so over a short
        interval the percentage is rough; it is not more than threads (num_threads, if asked for) and CPUs make
        possible, unless the steps do not explain it: threads that came and went.

        Raises:
            ValueError: starttime was not asked for, or `earlier` is the later one.
        """
        if "starttime" not in self._columns or "starttime" not in earlier._columns:
            raise ValueError("rates: both snapshots need starttime, which tells whether a pid is the same process")
        if len(self) and len(earlier) and earlier.taken > self.taken:
            raise ValueError("earlier: it is the later one")
        return _rates(self, earlier)

    # -- other forms

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dict for each row."""
        columns = [self.values(name) for name in self.fields]
        return [dict(zip(self.fields, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_arrow(self) -> Any:
        r"""A pyarrow.Table; absent values are null, and bytes that are not UTF-8 stand in text as \\xNN.

        Raises:
            ModuleNotFoundError: pyarrow is not installed.
        """
        from fastproc.info._export import to_arrow

        return to_arrow(self)

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with nullable columns, indexed by row; absent values are NA.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        from fastproc.info._export import to_pandas

        return to_pandas(self)

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self)} processes: {', '.join(self.fields)}>"


def _derive(name: str, sources: list[Column], begin: tuple[float, float | None]) -> Column:
    """Compute a column; a cell is absent when one of its sources is."""
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
            # The kernel's sums over threads are not taken at one instant, and may go back a little.
            cells[row], absent[row] = (0.0, code) if code else (max(change, 0.0) / elapsed * factor, 0)
        if sources == times:
            _cap(cells, pairs, later, earlier)
        columns[name] = Column("D", cells.tobytes(), absent.tobytes())
    fields = (*later.fields, *(name for name, _, _ in wanted))
    return Snapshot(fields, columns, bytes(later._at), later._begin, later._codes, later.root, later._rows)


def _cap(cells: Any, pairs: dict[int, tuple[int, float]], later: Snapshot, earlier: Snapshot) -> None:
    """Take from percentages of CPU what is beyond the possible and may come of the steps of utime and stime."""
    now, then = later._columns.get("num_threads"), earlier._columns.get("num_threads")
    cpus = cpu_count() or 1
    for row, (old, elapsed) in pairs.items():
        threads = cpus
        if now is not None and then is not None and not now.absent[row] and not then.absent[old]:
            threads = min(max(now.cells[row], then.cells[old], 1), cpus)
        possible = 100.0 * threads
        if 0 < cells[row] - possible <= 2 * TICK / elapsed * 100.0 * (1 + 1e-9):
            cells[row] = possible
