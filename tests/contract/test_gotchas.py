"""GOTCHAS.md: each code that is cited has an entry, each entry is in its place, and what an entry names exists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "GOTCHAS.md").read_text("utf-8")
FOLDERS = ("src", "csrc", "tests", "docs", "tools", "benchmarks", "examples", "demo", ".github", ".ci")
KINDS = (".py", ".pyi", ".c", ".h", ".md", ".sh", ".txt", ".toml", ".yml", ".yaml", ".rs")
CODE = r"[A-K]\d{1,2}"
# "GOTCHAS C8", "GOTCHAS D1, D14", "GOTCHAS G20".
CITED = re.compile(rf"GOTCHAS,? ({CODE}(?:(?:, (?:and )?| and ){CODE})*)\b")
# A code in brackets without the word cannot be found by who looks for the word.
BARE = re.compile(rf"\({CODE}(?:, {CODE})*\)")
# The names of documents that are not in this repository. Written so that this file does not match.
FOREIGN = re.compile(r"\bHAZ[A]RDS\b|\bfinding[s]? \d|\b(?:shared/)?(?:LAYOUT|WORDS|REFERENCE|SUPERVISOR)[.]md\b")


def sources() -> Iterator[tuple[str, str]]:
    """Every text of the repository but GOTCHAS.md; a comment of several lines is one line of words."""
    top = [
        path for path in ROOT.iterdir() if path.is_file() and path.name not in ("GOTCHAS.md", "CHANGELOG.md", ".git")
    ]
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    for path in [*top, *below]:
        if path.is_file() and (path.suffix in KINDS or path.parent == ROOT or path.parent.name == ".ci"):
            text = path.read_text("utf-8", "replace")
            yield str(path.relative_to(ROOT)), re.sub(r"\n[ \t]*(?:\*|//|#)?[ \t]*", " ", text)


def entries() -> list[tuple[str, list[str]]]:
    """The letter of the part that each entry is in, and the entry's codes."""
    found, letter = [], ""
    for line in PAGE.splitlines():
        if part := re.match(r"## ([A-K])\. ", line):
            letter = part[1]
        elif line.startswith("### "):
            title = re.match(rf"### ({CODE}(?:, {CODE})*)\. \S", line)
            assert title, f"an entry's title begins with its codes: {line}"
            found.append((letter, title[1].split(", ")))
    return found


KNOWN = [code for _, codes in entries() for code in codes]


def test_each_cited_code_has_an_entry() -> None:
    """A reader of a comment finds what it means."""
    cited = {
        (code, name) for name, text in sources() for group in CITED.findall(text) for code in re.findall(CODE, group)
    }
    assert len({code for code, _ in cited}) > 120
    assert sorted((code, name) for code, name in cited if code not in KNOWN) == []


def test_codes_are_cited_in_full() -> None:
    """GOTCHAS and the code, so that a search for either finds it."""
    code_files = [(name, text) for name, text in sources() if not name.endswith(".md")]
    assert [(name, bare) for name, text in code_files for bare in BARE.findall(text)] == []
    alone = re.compile(rf"\bGOTCHAS\b(?!\.md)(?!,? {CODE}\b)")
    own = "tests/contract/test_gotchas.py"
    assert [name for name, text in code_files if name != own and alone.search(text)] == []


def test_no_document_from_elsewhere_is_cited() -> None:
    """What a comment refers to is in the repository."""
    texts = [*sources(), ("GOTCHAS.md", PAGE), ("CHANGELOG.md", (ROOT / "CHANGELOG.md").read_text("utf-8"))]
    assert [(name, found) for name, text in texts for found in FOREIGN.findall(text)] == []


def test_entries_are_in_order() -> None:
    """Each code once, in the part of its letter, by number."""
    assert [code for code, count in Counter(KNOWN).items() if count > 1] == []
    assert [codes for letter, codes in entries() if {code[0] for code in codes} != {letter}] == []
    firsts = [(codes[0][0], int(codes[0][1:])) for _, codes in entries()]
    assert firsts == sorted(firsts)


def test_what_the_page_names_exists() -> None:
    """Codes, files, tests, pages and the table of contents."""
    named = set(re.findall(rf"\b{CODE}\b", PAGE))
    assert sorted(named - set(KNOWN)) == []
    files = re.findall(r"`([\w.-]+(?:/[\w.-]+)+)`", PAGE) + re.findall(r"\]\(([\w./-]+)\)", PAGE)
    files = [name for name in files if name.split("/")[0] in (*FOLDERS, "docs") or name.endswith(".md")]
    assert len(files) > 200
    assert [name for name in files if not (ROOT / name).exists()] == []
    tests = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", PAGE) if f"def {name}(" not in tests] == []
    assert re.findall(r"\]\(#([\w-]+)\)", PAGE) == anchors("##")


def anchors(level: str) -> list[str]:
    """The anchors that GitHub gives to the titles of a level."""
    titles = re.findall(rf"^{level} (.+)$", PAGE, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def test_links_to_the_page_lead_somewhere() -> None:
    """And no other page names a part by its title, which may change, without a link."""
    linked = [(name, anchor) for name, text in sources() for anchor in re.findall(r"GOTCHAS\.md#([\w-]+)", text)]
    assert len(linked) >= 3
    assert [link for link in linked if link[1] not in (*anchors("##"), *anchors("###"))] == []
    assert [name for name, text in sources() if re.search(r"GOTCHAS(?:\.md\)?)?, \*", text)] == []


def test_each_entry_says_where_its_code_is() -> None:
    """All but those about what fastproc does not do."""
    bodies = re.split(r"^(?:## .+|### (.+))$", PAGE, flags=re.MULTILINE)
    pairs = zip(bodies[1::2], bodies[2::2], strict=True)
    assert [title for title, body in pairs if title and "\nCode: `" not in body] == ["F16. Arguments are public"]
