"""Who may import whom: the layers of ARCHITECTURE.md, read from the source. tools/imports.py finds the imports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import calls
import imports as graph

SOURCE = graph.SOURCE
MODULES = graph.files()

LAYERS = {
    "fastproc.errors": 0,
    "fastproc._process_error": 0,
    "fastproc._subprocess_errors": 0,
    "fastproc._native": 1,
    "fastproc._values": 2,
    "fastproc._engine": 3,
    "fastproc.capabilities": 4,
    "fastproc.containment": 4,
    "fastproc.info": 4,
    "fastproc.pipeline": 4,
    "fastproc.procfs": 4,
    "fastproc.syslog": 4,
    "fastproc.users": 4,
    "fastproc.waiting": 4,
    "fastproc._run": 5,
    "fastproc.aio": 5,
    "fastproc.embedding": 5,
    "fastproc.mapping": 5,
    "fastproc.pool": 5,
    "fastproc.privileges": 5,
    "fastproc.signals": 5,
    "fastproc.subprocess": 5,
    "fastproc.systemd": 5,
    "fastproc._commands": 6,
    "fastproc._install": 6,
    "fastproc.__main__": 6,
    "fastproc.daemon": 6,
    "fastproc.monitor": 6,
    "fastproc": 6,
}

# Upward imports, each with its reason.
ALLOWED = {
    ("fastproc._engine.signal_api", "fastproc.containment"): "the killer of trees; the engine knows no cgroups",
    ("fastproc._engine.identity", "fastproc.users"): "users and groups are looked up before the child exists",
    ("fastproc._native.failure", "fastproc._values.capabilities"): "a message names the capability that is missing",
    ("fastproc._subprocess_errors", "fastproc._values.quoting"): "a message shows the command as a shell line",
    ("fastproc.errors", "fastproc._values.quoting"): "a message shows the command as a shell line",
}

# Outside names that only these may use: the files that wait (select) and that read a clock (time) are named one by one.
ONLY = {
    # The drop-in derives from the standard module and takes its place.
    "subprocess": {"fastproc._subprocess_errors", "fastproc.subprocess", "fastproc._install"},
    "select": {
        "fastproc._engine.process",
        "fastproc._engine.reactor",
        "fastproc._engine.resolve",
        "fastproc._engine.streams.tee",
        "fastproc.signals._inbox",
        "fastproc.subprocess._communicate",
        "fastproc.syslog._channel",
        "fastproc.syslog._stream",
        "fastproc.systemd._notify_send",
    },
    "time": {
        "fastproc._engine.exchange",
        "fastproc._engine.job_control",
        "fastproc._engine.orphans",
        "fastproc._engine.process",
        "fastproc._engine.reactor",
        "fastproc._engine.resolve",
        "fastproc._engine.running",
        "fastproc._engine.signal_api",
        "fastproc._engine.streams.collect",
        "fastproc._engine.streams.expect",
        "fastproc._engine.streams.feeder",
        "fastproc._engine.streams.output_queue",
        "fastproc._engine.streams.pump",
        "fastproc._engine.streams.readings",
        "fastproc._engine.streams.result_of_started",
        "fastproc._engine.streams.sink",
        "fastproc._engine.streams.tee",
        "fastproc._run",
        "fastproc.aio._fifo",
        "fastproc.aio._run",
        "fastproc.mapping._mapped",
        "fastproc.pipeline._member",
        "fastproc.pipeline._plumbing",
        "fastproc.pipeline._run",
        "fastproc.pool._dask",
        "fastproc.pool._server",
        "fastproc.signals._inbox",
        "fastproc.subprocess._communicate",
        "fastproc.syslog._channel",
        "fastproc.syslog._stream",
        "fastproc.systemd._notify_receive",
        "fastproc.systemd._notify_send",
    },
    "asyncio": {"fastproc.aio"},
    "trio": {"fastproc.aio"},
    "psutil": {"fastproc.info._system"},
    # They report an unreadable database as an unknown user.
    "pwd": {"fastproc.users"},
    "grp": {"fastproc.users"},
    # Futures are completed by a thread of the pool's, as those of the standard pools are.
    "threading": {"fastproc.pool"},
}


def belongs(name: str, entry: str) -> bool:
    """Whether a module is a package, or is inside of it."""
    return name == entry or name.startswith(entry + ".")


def owner(name: str) -> str | None:
    """The longest entry of LAYERS that a module belongs to; the top level itself owns nothing below it."""
    found = [entry for entry in LAYERS if (entry == name if entry == "fastproc" else belongs(name, entry))]
    return max(found, key=len) if found else None


def imports_of(name: str) -> list[graph.Import]:
    """Every import of a module."""
    return list(graph.imports(ast.parse(MODULES[name].read_text("utf-8")), MODULES))


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    """A module imports only from its own layer or below, or is named here with the reason."""
    mine = owner(name)
    assert mine is not None, f"{name} has no layer: add it to the table and to ARCHITECTURE.md"
    wrong = []
    for imported, _, types in imports_of(name):
        theirs = owner(imported)
        if types or theirs is None or imported == "fastproc":
            continue
        upward = LAYERS[theirs] > LAYERS[mine]
        # The pure values and the binding do not know each other.
        sideways = {mine, theirs} == {"fastproc._native", "fastproc._values"}
        if (upward or sideways) and (name, imported) not in ALLOWED:
            wrong.append(imported)
    assert wrong == []


def test_every_exception_and_every_row_is_needed() -> None:
    """No entry stays behind when its import, or its module, has gone."""
    made = {(name, one.name) for name in MODULES for one in imports_of(name)}
    assert set(ALLOWED) - made == set()
    assert [row for row in LAYERS if row not in MODULES] == []
    allowed = {(outside, entry) for outside, entries in ONLY.items() for entry in entries}
    unused = [
        (outside, entry)
        for outside, entry in sorted(allowed)
        if not any(other == outside and belongs(name, entry) for name, other in made)
    ]
    assert unused == []


def test_imports_make_no_circle() -> None:
    """Imports inside of functions, and those for types, count."""
    assert graph.circles(graph.graph()) == []


@pytest.mark.parametrize("flags", [(), (calls.FAULTS,)], ids=["release", "faults"])
def test_calls_in_c_make_no_circle(flags: tuple[str, ...]) -> None:
    """The files of csrc, by the names that each defines and uses, with the launcher, which none of them uses."""
    uses = {source: set(names.values()) for source, names in calls.calls(*flags).items()}
    assert len(uses["csrc/spawn/spawn.c"]) > 5
    assert "csrc/spawn/child.c" in uses[calls.LAUNCHER]
    assert graph.circles(uses) == []


def test_circles_are_found() -> None:
    """Two circles that one file connects, a chain, and a file that imports nothing."""
    edges = {"a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["e"], "e": ["c"], "f": ["a"], "g": []}
    assert graph.circles(edges) == [["c", "d", "e"], ["a", "b"]]


def test_every_import_is_seen(tmp_path: Path) -> None:
    """At the top, in a function, for types, of a module by its package."""
    folder = tmp_path / "fastproc"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "b.py").write_text("import fastproc.c\n")
    (folder / "c.py").write_text("if TYPE_CHECKING:\n    from fastproc.a import name\nelse:\n    import os\n")
    (folder / "a.py").write_text("def call():\n    from fastproc import b\n")
    assert graph.graph(tmp_path) == {
        "fastproc": set(),
        "fastproc.a": {"fastproc.b"},
        "fastproc.b": {"fastproc.c"},
        "fastproc.c": {"fastproc.a"},
    }


@pytest.mark.parametrize("name", MODULES)
def test_what_only_some_may_use(name: str) -> None:
    """The files that wait or read a clock are named; only aio imports an event loop."""
    wrong = [
        one.name
        for one in imports_of(name)
        if one.name in ONLY and not any(belongs(name, entry) for entry in ONLY[one.name])
    ]
    assert wrong == []


# What of fastproc.procfs reads; the rest parses bytes.
READERS = {"fastproc.procfs" + name for name in ("", "._process", "._entry", "._nets", "._system", "._reading")}
PURE = {"fastproc.errors", "fastproc._values", "fastproc.procfs", "__future__", "re", "sys", "socket", "typing"}


@pytest.mark.parametrize("name", [name for name in MODULES if belongs(name, "fastproc.procfs")])
def test_parsers_of_procfs_touch_nothing(name: str) -> None:
    """They import no `os`, no engine, no door to C, and none of the modules that read: they serve for saved files."""
    found = {one.name for one in imports_of(name) if not one.types}
    if name not in READERS:
        assert found & READERS == set()
        foreign = {other for other in found if not any(belongs(other, entry) for entry in PURE)}
        assert foreign == set()


def test_only_the_door_names_the_binding() -> None:
    """`_ffi` and `_lines` are imported by fastproc._native and nobody else."""
    texts = {name: path.read_text("utf-8") for name, path in MODULES.items()}
    users = {name for name, text in texts.items() if "_native._ffi" in text or "_native._lines" in text}
    assert {name for name in users if not name.startswith("fastproc._native")} == set()
