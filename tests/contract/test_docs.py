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
