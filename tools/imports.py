"""Who imports whom in src/fastproc, and the circles.

    python tools/imports.py            # the circles, largest first; exit status 1 if a file is in one
    python tools/imports.py --edges    # every import: FILE -> FILE, at once, late, or for types

Every import counts: those inside of functions, and those for type checkers alone.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).resolve().parents[1] / "src"


class Import(NamedTuple):
    """One import of a file."""

    name: str
    """The module that is imported, of whatever package."""
    late: bool
    """It is inside a function."""
    types: bool
    """It is below `if TYPE_CHECKING:`, and never executed."""


def module_name(path: Path, source: Path = SOURCE) -> str:
    """Return the dotted name of a file below a source folder."""
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files(source: Path = SOURCE) -> dict[str, Path]:
    """Return the files of the package by their dotted names."""
    return {module_name(path, source): path for path in sorted((source / "fastproc").rglob("*.py"))}


def imports(tree: ast.Module, modules: Mapping[str, object]) -> Iterator[Import]:
    """Yield every import of a file; `from a import b` is an import of `a.b` if that is one of the modules."""

    def walk(node: ast.AST, late: bool, types: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, late, types) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute"
                assert child.module
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    yield Import(inner if inner in modules else child.module, late, types)
            elif isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
                yield from walk(ast.Module(child.body, []), late, True)
                yield from walk(ast.Module(child.orelse, []), late, types)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, late or function, types)

    yield from walk(tree, False, False)


def graph(source: Path = SOURCE) -> dict[str, set[str]]:
    """Return which files of the package each file imports. The top level itself, which only has names, is left out."""
    modules = files(source)
    found = {}
    for name, path in modules.items():
        theirs = {one.name for one in imports(ast.parse(path.read_text("utf-8")), modules)}
        found[name] = {other for other in theirs if other in modules and other not in (name, "fastproc")}
    return found


def circles(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the sets of nodes that reach one another, largest first (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        path.append(node)
        for other in edges.get(node, ()):
            if other not in order:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in path:
                lowest[node] = min(lowest[node], order[other])
        if lowest[node] == order[node]:
            start = path.index(node)
            if len(path) - start > 1:
                found.append(sorted(path[start:]))
            del path[start:]

    for node in edges:
        if node not in order:
            visit(node)
    return sorted(found, key=lambda circle: (-len(circle), circle))


def main() -> int:
    """Print the circles or the imports."""
    parser = argparse.ArgumentParser(description="Who imports whom in src/fastproc, and the circles.")
    parser.add_argument("--edges", action="store_true", help="print every import instead")
    if parser.parse_args().edges:
        modules = files()
        for name, path in modules.items():
            for one in sorted(set(imports(ast.parse(path.read_text("utf-8")), modules))):
                when = "for types" if one.types else "when it is used" if one.late else "at once"
                print(f"{name} -> {one.name} ({when})")
        return 0
    found = circles(graph())
    for circle in found:
        print(f"{len(circle)} files: {' '.join(circle)}")
    print(f"{len(found)} circles" if found else "no circles")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
