"""The documentation: its examples run, and the tests that it names exist."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
TESTS = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str) -> None:
    """What a page shows is what happens."""
    failed, tried = doctest.testfile(str(ROOT / page), module_relative=False)
    assert (failed, tried > 0) == (0, True)


@pytest.mark.parametrize("page", PAGES)
def test_named_tests_exist(page: str) -> None:
    """A rule's proof can be looked up."""
    text = (ROOT / page).read_text("utf-8")
    missing = [name for name in re.findall(r"\btest_\w+\b(?!\.py)", text) if f"def {name}(" not in TESTS]
    assert missing == []


def test_every_record_of_procfs_is_listed() -> None:
    """docs/procfs.md has each public name, each field of each record and each method, and no other record."""
    from fastproc import procfs

    text = (ROOT / "docs" / "procfs.md").read_text("utf-8")
    records = {
        name: kind
        for name, kind in vars(procfs).items()
        if isinstance(kind, type) and issubclass(kind, procfs.Record) and kind is not procfs.Record
    }
    parts = {part.split("\n", 1)[0]: part for part in text.split("\n### ")[1:]}
    missing = [
        f"{name}.{field}" for name, kind in records.items() for field in kind._fields if f"`{field}`" not in parts[name]
    ]
    missing += [name for name in procfs.__all__ if name not in text]
    for kind in (procfs.Process, procfs.Task, procfs.Net, procfs.Host):
        for owner in kind.__mro__[:-1]:
            public = (name for name, value in vars(owner).items() if callable(value) and name[0] != "_")
            missing += [
                f"{kind.__name__}.{name}" for name in public if f"`{name}(" not in text and f".{name}(" not in text
            ]
    assert missing == []
