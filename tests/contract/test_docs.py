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


def test_readme_quotes_what_was_measured() -> None:
    """Each figure of the first screen is that of docs/peers.md, and so is who is ahead."""
    page = (ROOT / "docs" / "peers.md").read_text("utf-8")
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    quote = (
        (ROOT / "README.md")
        .read_text("utf-8")
        .split("<!-- written by make bench-peers -->")[1]
        .split("<!-- end -->")[0]
    )
    rows, ahead = quote.split("Ahead of fastproc:")
    assert ahead.strip() == sections["Who is ahead of fastproc"].strip()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows.strip().splitlines()]
    quoted = {
        (row[0].rsplit(", ", 1)[0], name): figure
        for row in table[2:]
        for name, figure in zip(table[0], row, strict=True)
    }
    measured = {
        (title, line.split(" | ")[0].strip("| ")): line.split(" | ")[1].strip("| ")
        for title, _ in (row for row in quoted)
        for line in sections.get(title, "").splitlines()
        if line.startswith("|")
    }
    figures = {key: figure for key, figure in quoted.items() if key[1]}
    assert len(figures) >= 8 * 5
    assert figures == {key: measured.get(key) for key in figures}


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
