"""A snapshot as a table of other libraries. A library is imported only here, when its function is called."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    class Table(Protocol):
        """The parts of a Snapshot that are used here. info._snapshot imports this file."""

        fields: tuple[str, ...]

        def __len__(self) -> int: ...
        def _column(self, name: str) -> Any: ...
        def absent(self, name: str) -> Any: ...
        def column(self, name: str) -> Any: ...
        def values(self, name: str) -> Sequence[Any]: ...


def _library(name: str, method: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        text = f"{method}() needs {name}, which is not installed (pip install {name}); to_dicts() needs nothing"
        raise ModuleNotFoundError(text, name=name) from None


def _plain(value: Any) -> Any:
    r"""Return a value in which all strings are valid Unicode: undecodable bytes become \\xNN."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {_plain(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def to_arrow(table: Table) -> Any:
    """Return a pyarrow.Table. A column of numbers without absent values shares the snapshot's memory."""
    arrow = _library("pyarrow", "to_arrow")
    kinds = {"I": arrow.int64(), "U": arrow.uint64(), "D": arrow.float64()}
    text = arrow.string()
    structured = {
        "cmdline": arrow.list_(text),
        "environ": arrow.map_(text, text),
        "cgroup": arrow.map_(text, text),
        "groups": arrow.list_(arrow.int64()),
        "ns_pid": arrow.list_(arrow.int64()),
        "state": text,
        "kthread": arrow.bool_(),
    }
    arrays = []
    for name in table.fields:
        kind = table._column(name).kind
        form = structured.get(name) or kinds.get(kind, text)
        if name not in structured and kind in kinds and not table.absent(name):
            arrays.append(arrow.Array.from_buffers(form, len(table), [None, arrow.py_buffer(table.column(name))]))
            continue
        values = [_plain(value) for value in table.values(name)]
        if arrow.types.is_map(form):
            values = [None if value is None else list(value.items()) for value in values]
        arrays.append(arrow.array(values, type=form))
    return arrow.table(dict(zip(table.fields, arrays, strict=True)))


def to_pandas(table: Table) -> Any:
    """Return a pandas.DataFrame."""
    pandas = _library("pandas", "to_pandas")
    kinds = {"I": "Int64", "U": "UInt64", "D": "Float64"}
    columns = {}
    for name in table.fields:
        kind = table._column(name).kind
        values = table.values(name)
        if name in ("state", "kthread") or kind not in kinds:
            columns[name] = pandas.Series([_plain(value) for value in values], dtype="object")
        else:
            columns[name] = pandas.array(values, dtype=kinds[kind])
    return pandas.DataFrame(columns)
