"""Random expressions beside bash: `str()` of an expression, run by bash with pipefail, does the same.

What differs on purpose is in docs/pipelines.md; the trees here have none of it. Every stage reads to the end before it
writes (tests/programs/node.c), so that the order of all output is the order of the stages, and is compared too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastproc
from fastproc import Expression, cmd, fd_of
from support.programs import Programs

TREES = 150

Spec = tuple[Any, ...]

CODES = st.sampled_from((0, 0, 0, 1, 2, 3))
STREAMS = ("stderr_null", "stderr_to_stdout", "stderr_path")
"""Those that leave a command's standard output what it is."""
QUIET = (*STREAMS, "env", "env_remove", "full_env", "dir")
WRAPS = (*QUIET, "swap", "stdout_null", "stdout_to_stderr", "stdout_path", "stdout_append")
SHELL = 'x=$(cat; echo .); printf "%s%s %s %s\\n" "${x%.}" "$0" "${K-none}" "$(pwd -P)"; exit "$1"'


def nodes(codes: st.SearchStrategy[int]) -> st.SearchStrategy[Spec]:
    """One command: how it treats its input, whether it writes to either output, its status."""
    plain = st.tuples(st.just("node"), st.sampled_from(("cat", "drain")), st.booleans(), st.booleans(), codes)
    return st.one_of(plain, plain, st.tuples(st.just("shell"), codes))


def combined(inner: st.SearchStrategy[Spec], wraps: tuple[str, ...]) -> st.SearchStrategy[Spec]:
    """Combinations of what there is."""
    unchecked = st.tuples(st.just("unchecked"), inner)
    part = st.one_of(inner, inner, unchecked, st.tuples(st.sampled_from(STREAMS), unchecked))
    return st.one_of(
        st.lists(part, min_size=2, max_size=4).map(lambda parts: ("pipe", *parts)),
        st.tuples(st.just("then"), part, part),
        st.tuples(st.just("or_else"), part, part),
        st.tuples(st.sampled_from(wraps), inner),
    )


def trees(codes: st.SearchStrategy[int] = CODES, wraps: tuple[str, ...] = WRAPS) -> st.SearchStrategy[Spec]:
    """An expression as nested tuples."""
    return st.recursive(nodes(codes), lambda inner: combined(inner, wraps), max_leaves=8)


# At the beginning of a line, where no other stage would be cut off: a file to read, or another tree in an argument.
# The latter has succeeded, and writes to the argument to the end, as bash forgets its status and does not wait for it.
LINES = st.one_of(
    trees(),
    trees(),
    st.tuples(st.just("stdin_path"), trees()),
    st.tuples(st.just("pipe"), st.tuples(st.just("cat_of"), trees(st.just(0), QUIET)), trees()),
)


class Builder:
    """Makes an expression of a Spec; every token and file has a number of its own."""

    def __init__(self, node: str, folder: Path) -> None:
        self.node = node
        self.folder = folder
        self.count = 0

    def build(self, spec: Spec) -> Expression:
        """Return the expression."""
        self.count += 1
        name, number = spec[0], self.count
        if name == "node":
            _, mode, out, err, code = spec
            return cmd(self.node, mode, f"o{number}\n" * out, f"e{number}\n" * err, str(code))
        if name == "shell":
            return cmd("sh", "-c", SHELL, f"s{number}", str(spec[1]))
        if name == "pipe":
            first, *others = map(self.build, spec[1:])
            return first.pipe(*others)
        if name in ("then", "or_else"):
            left, right = map(self.build, spec[1:])
            return getattr(left, name)(right)  # type: ignore[no-any-return]
        inner = self.build(spec[1])
        if name == "cat_of":
            return cmd("cat", fd_of(inner.stdin_null()))
        if name == "stdin_path":
            return inner.stdin_path(self.folder / "input")
        if name in ("stdout_path", "stdout_append", "stderr_path"):
            return getattr(inner, name)(self.folder / f"file{number}")  # type: ignore[no-any-return]
        if name == "swap":
            return inner.stdout_stderr_swap()
        if name == "env":
            return inner.env("K", f"v {number}")
        if name == "env_remove":
            return inner.env_remove("K")
        if name == "full_env":
            return inner.full_env({"PATH": os.environ["PATH"], "K": f"w{number}"})
        if name == "dir":
            return inner.dir(self.folder / "sub")
        return getattr(inner, name)()  # type: ignore[no-any-return]


def words(spec: Spec) -> Iterator[str]:
    """Give the names of all that is in it."""
    yield spec[0]
    for item in spec[1:]:
        if isinstance(item, tuple):
            yield from words(item)


def ordered(spec: Spec) -> bool:
    """Whether no stage can let its reader see the end before it has written all that it writes.

    That is so where its standard output, or what an exchange made of it, goes elsewhere: then both run side by side.
    """
    if spec[0] == "pipe":
        for part in spec[1:-1]:
            found = set(words(part))
            if any(name.startswith("stdout_") for name in found):
                return False
            if "swap" in found and any(name.startswith("stderr_") for name in found):
                return False
    return all(ordered(item) for item in spec[1:] if isinstance(item, tuple))


class Bench:
    """A folder in which an expression is run by us and by bash."""

    def __init__(self, node: str, folder: Path) -> None:
        self.node = node
        self.folder = folder
        (folder / "input").write_bytes(b"in\n")
        (folder / "sub").mkdir()

    def files(self) -> dict[str, bytes]:
        """Return what was written to files, and remove them."""
        found = {}
        for path in sorted(self.folder.glob("file*")):
            found[path.name] = path.read_bytes()
            path.unlink()
        return found

    def ours(self, expression: Expression) -> tuple[int, bytes, dict[str, bytes]]:
        """Run it here. An unchecked status is none."""
        with open(self.folder / "file_err", "wb") as err:
            try:
                # By methods: they are done outside of what the expression says, as the shell's are.
                whole = expression.stdin_null().stderr_file(err).stdout_capture()
                result = fastproc.run(whole, sigpipe_ok=False, timeout=60)
                status, out = 0, result.stdout
            except fastproc.ExitError as error:
                status, out = error.returncode, error.stdout
        # None where nothing of it is captured in the end.
        return status, out or b"", self.files()

    def bash(self, expression: Expression) -> tuple[int, bytes, dict[str, bytes]]:
        """Run its line."""
        with open(self.folder / "file_err", "wb") as err:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", str(expression)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                check=False,
                timeout=60,
            )
        return done.returncode, done.stdout, self.files()

    def compare(self, spec: Spec) -> None:
        """Run it both ways."""
        self.files()
        expression = Builder(self.node, self.folder).build(spec)
        ours, theirs = self.ours(expression), self.bash(expression)
        if not ordered(spec):
            ours, theirs = _sorted(ours), _sorted(theirs)
        assert ours == theirs, str(expression)


def _sorted(found: tuple[int, bytes, dict[str, bytes]]) -> Any:
    status, out, files = found
    return status, sorted(out.splitlines()), {name: sorted(data.splitlines()) for name, data in files.items()}


@pytest.fixture
def bench(programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("K", "outside")
    return Bench(programs.node, tmp_path)


def compare_with_bash(bench: Bench, count: int) -> int:
    """Compare so many random expressions, and return how many it were."""
    compared = 0

    @settings(max_examples=count, deadline=None, database=None)
    @given(LINES)
    def compare(spec: Spec) -> None:
        nonlocal compared
        bench.compare(spec)
        compared += 1

    compare()
    return compared


def test_random_expressions_do_what_bash_does(bench: Bench) -> None:
    """The same bytes on both outputs and in files, the same status; 10,000 of them in tests/soak."""
    assert compare_with_bash(bench, TREES) >= TREES // 2


def test_comparison_sees_a_difference(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fail: each of what is compared is changed in turn."""
    spec = ("stderr_path", ("pipe", ("node", "cat", True, True, 0), ("stdout_path", ("node", "cat", True, True, 3))))
    bench.compare(spec)
    status, out, files = bench.ours(Builder(bench.node, bench.folder).build(spec))
    assert (status, out) == (3, b"")
    assert sorted(files.values()) == [b"", b"e3\ne5\n", b"o3\no5\n"]
    for wrong in ((0, out, files), (status, b"x", files), (status, out, {**files, "file_err": b"x"})):
        monkeypatch.setattr(bench, "ours", lambda _expression, wrong=wrong: wrong)
        with pytest.raises(AssertionError):
            bench.compare(spec)
