"""Who may import whom: the layers of ARCHITECTURE.md, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
FILES = sorted((SOURCE / "fastproc").rglob("*.py"))

LAYERS = {
    "fastproc.errors": 0,
    "fastproc._subprocess_errors": 0,
    "fastproc._native": 1,
    "fastproc._values": 2,
    "fastproc._engine": 3,
    "fastproc.containment._member": 4,
    "fastproc.containment._cgroup": 4,
    "fastproc.containment": 4,
    "fastproc.info": 4,
    "fastproc.monitor": 6,
    "fastproc.waiting": 4,
    "fastproc.capabilities": 4,
    "fastproc.users": 4,
    "fastproc.syslog": 4,
    "fastproc.pipeline": 4,
    "fastproc.procfs": 4,
    "fastproc.privileges._all_threads": 5,
    "fastproc.privileges._switch": 5,
    "fastproc.privileges._drop": 5,
    "fastproc.privileges": 5,
    "fastproc.pool": 5,
    "fastproc.run": 5,
    "fastproc.systemd": 5,
    "fastproc.subprocess": 5,
    "fastproc.aio": 5,
    "fastproc.embedding": 5,
    "fastproc.signals": 5,
    "fastproc.mapping": 5,
    "fastproc.daemon": 6,
    "fastproc._commands": 6,
    "fastproc": 6,
}

# Upward imports inside a function, each with its reason.
ALLOWED = {
    ("fastproc._values.command", "fastproc.run"): "Command.run() and start() are run() and start()",
    ("fastproc._engine.signal_api", "fastproc.containment"): "the killer of trees; the engine knows no cgroups",
    ("fastproc._values.expression", "fastproc.pipeline"): "Expression.run() and start() are pipeline.run() and start()",
    ("fastproc._engine.identity", "fastproc.users"): "users and groups are looked up before the child exists",
    ("fastproc._native.failure", "fastproc._values.capabilities"): "a message names the capability that is missing",
    ("fastproc._subprocess_errors", "fastproc._values.quoting"): "a message shows the command as a shell line",
    ("fastproc.errors", "fastproc._values.quoting"): "a message shows the command as a shell line",
}

# Outside names that only these may use.
ONLY = {
    # The drop-in derives from the standard module and takes its place.
    "subprocess": {"fastproc._subprocess_errors", "fastproc.subprocess", "fastproc._install"},
    "cffi": set(),
    "select": {"fastproc._engine"},
    "time": {
        "fastproc._engine",
        "fastproc.run",
        "fastproc.aio._run",
        "fastproc.aio._fifo",
        "fastproc.mapping",
        "fastproc.pool",
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


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def owner(name: str, table: dict[str, int]) -> str | None:
    """The longest entry of the table that the dotted name is, or is inside of."""
    found = [entry for entry in table if name == entry or name.startswith(entry + ".")]
    return max(found, key=len) if found else None


def imports(tree: ast.Module) -> Iterator[str]:
    """Every imported module, but not what is imported for type checkers alone."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            skipped.update(child for statement in node.body for child in ast.walk(statement))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = (SOURCE / inner.replace(".", "/")).with_suffix(".py").exists() or (
                    SOURCE / inner.replace(".", "/")
                ).is_dir()
                yield inner if is_module else node.module


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path: Path) -> None:
    """A module imports only from its own layer or below, or is named here with the reason."""
    name = module_name(path)
    mine = owner(name, LAYERS)
    assert mine is not None, f"{name} has no layer: add it to the table and to ARCHITECTURE.md"
    wrong = []
    for imported in imports(ast.parse(path.read_text("utf-8"))):
        theirs = owner(imported, LAYERS)
        if theirs is None or imported == "fastproc":
            continue
        upward = LAYERS[theirs] > LAYERS[mine]
        # The pure values and the door to C do not know each other.
        sideways = {mine, theirs} == {"fastproc._native", "fastproc._values"}
        if (upward or sideways) and (name, imported) not in ALLOWED:
            wrong.append(imported)
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_what_only_some_may_use(path: Path) -> None:
    """Only the engine waits and reads clocks, only one file imports subprocess, only aio imports an event loop."""
    name = module_name(path)
    wrong = [
        imported
        for imported in imports(ast.parse(path.read_text("utf-8")))
        if imported in ONLY and not any(name == entry or name.startswith(entry + ".") for entry in ONLY[imported])
    ]
    assert wrong == []


# What of fastproc.procfs reads; the rest parses bytes.
READERS = {"fastproc.procfs" + name for name in ("", "._process", "._entry", "._nets", "._system", "._reading")}
PURE = {"fastproc.errors", "fastproc._values", "fastproc.procfs", "__future__", "re", "sys", "socket", "typing"}


@pytest.mark.parametrize("path", sorted((SOURCE / "fastproc" / "procfs").glob("*.py")), ids=module_name)
def test_parsers_of_procfs_touch_nothing(path: Path) -> None:
    """They import no `os`, no engine, no door to C, and none of the modules that read: they serve for saved files."""
    found = set(imports(ast.parse(path.read_text("utf-8"))))
    if module_name(path) not in READERS:
        assert found & READERS == set()
        foreign = {name for name in found if not any(name == one or name.startswith(one + ".") for one in PURE)}
        assert foreign == set()


def test_only_the_door_names_the_binding() -> None:
    """`_ffi` and `_lines` are imported by fastproc._native and nobody else."""
    texts = {module_name(path): path.read_text("utf-8") for path in FILES}
    users = {name for name, text in texts.items() if "_native._ffi" in text or "_native._lines" in text}
    assert {name for name in users if not name.startswith("fastproc._native")} == set()
