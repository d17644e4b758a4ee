"""Lines cut by C: the same as by Python, in every mode; and no memory of anybody else's."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
from itertools import pairwise
from operator import length_hint
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.lines import Cut as PythonCut
from fastproc._values.lines import LineSplitter

native = pytest.importorskip("fastproc._native._lines", reason="the extension was not built")
Cut = native.Cut

SOURCE = Path(__file__).resolve().parents[2] / "csrc" / "python" / "lines.c"
ENDS = st.sampled_from(["\n", "\0", "a", "é", "€", "😀"])
TEXTS = st.lists(st.sampled_from(["a", "bc", "\n", "\n\n", "\0", "\r", "é", "€", "😀", "x" * 40])).map("".join)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Any, Any, bool]:
    """A block, an end and whether it is kept: bytes, or text of each width that CPython stores."""
    text, end = draw(TEXTS), draw(ENDS)
    if draw(st.booleans()):
        return text.encode(), end.encode()[-1:], draw(st.booleans())
    return text, end, draw(st.booleans())


@given(blocks())
def test_lines_are_those_of_python(case: tuple[Any, Any, bool]) -> None:
    """One by one, with as many announced as are left, and nothing after the last."""
    one, other = Cut(*case), PythonCut(*case)
    found = []
    while True:
        assert length_hint(one) == length_hint(other)
        line = next(one, None)
        assert line == next(other, None)
        if line is None:
            break
        found.append(line)
    assert next(one, None) is None
    block, end, keep = case
    expected = block.split(end)
    if not expected[-1]:
        expected.pop()
    if keep:
        expected = [line + end for line in expected[:-1]] + [
            line + (end if block.endswith(end) else end[:0]) for line in expected[-1:]
        ]
    assert found == expected


@given(blocks(), st.integers(0, 5))
def test_the_rest_is_what_no_line_was_made_of(case: tuple[Any, Any, bool], taken: int) -> None:
    """After any number of lines, once."""
    block, _, keep = case
    for cut in (Cut(*case), PythonCut(*case)):
        lines = [line for _, line in zip(range(taken), cut, strict=False)]
        size = sum(map(len, lines)) if keep else sum(len(line) + 1 for line in lines)
        assert cut.rest() == block[size:]
        assert cut.rest() == block[:0]
        assert list(cut) == []
        assert length_hint(cut) == 0


@pytest.mark.parametrize("newline", ["\n", "\0", "universal"])
@pytest.mark.parametrize("encoding", [None, "utf-8"])
@given(text=TEXTS, places=st.lists(st.integers(0, 200), max_size=8), keep=st.booleans())
def test_a_splitter_gives_the_same_by_both(
    newline: str, encoding: str | None, text: str, places: list[int], keep: bool
) -> None:
    """Batch for batch, however the bytes come."""
    data = text.encode()
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    one, other = (LineSplitter(newline, encoding=encoding, keep_ends=keep) for _ in range(2))
    for begin, end in pairwise(edges):
        assert list(one.batch(data[begin:end], Cut)) == list(other.batch(data[begin:end], PythonCut))
    assert one.finish() == other.finish()


@pytest.mark.parametrize("kind", [Cut, PythonCut])
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"a", "\n"), TypeError),
        (("a", b"\n"), TypeError),
        ((bytearray(b"a"), b"\n"), TypeError),
        ((None, None), TypeError),
        ((b"a", b""), ValueError),
        (("a", ""), ValueError),
        ((b"a", b"\r\n"), ValueError),
        (("a", "\r\n"), ValueError),
        ((b"a",), TypeError),
    ],
)
def test_impossible_arguments_are_refused(kind: Any, arguments: tuple[Any, ...], error: type[Exception]) -> None:
    """Also what could change while it is cut."""
    with pytest.raises(error):
        kind(*arguments)


def test_a_line_and_its_block_are_freed() -> None:
    """Nothing holds what was given out, and an iterator that is dropped frees its block."""
    block = b"".join(b"%d\n" % number for number in range(1000, 2000))
    before = sys.getrefcount(block)
    cut = Cut(block, b"\n")
    assert sys.getrefcount(block) == before + 1
    line, same = next(cut), b"%d" % len(block)
    assert sys.getrefcount(line) == sys.getrefcount(same)
    del cut
    assert sys.getrefcount(block) == before


def test_without_it_lines_are_made_in_python() -> None:
    """Where no compiler made it: the same lines, and what is left over."""
    script = """
import sys
sys.modules["fastproc._native._lines"] = None
import fastproc
from fastproc._engine.streams.output_queue import CUT
assert CUT.__module__ == "fastproc._values.lines"
with fastproc.start("printf", "a\\nb\\nc", stdout=fastproc.PIPE) as process:
    assert next(process.lines()) == b"a"
    assert next(process.lines(keep_ends=True)) == b"b\\n"
    assert list(process.lines(text=True)) == ["c"]
assert list(fastproc.cmd("printf", "a\\nb").lines()) == [b"a", b"b"]
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_threads_that_share_one_get_each_line_once() -> None:
    """Also where no GIL orders them."""
    lines = [b"%d" % number for number in range(50_000)]
    cut = Cut(b"\n".join(lines), b"\n")
    found: list[list[bytes]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=own.extend, args=(cut,)) for own in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line for own in found for line in own) == sorted(lines)


def test_each_interpreter_has_its_own_type() -> None:
    """Made, used and ended twice beside this one."""
    interpreters = pytest.importorskip("_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters")
    for _ in range(2):
        mine = interpreters.create()
        code = "from fastproc._native._lines import Cut; assert list(Cut(b'a\\nb', b'\\n')) == [b'a', b'b']"
        # The door imports cffi's binding, which not every interpreter has: only this module.
        code = f"import sys; sys.path.insert(0, {str(Path(native.__file__).parent)!r}); " + code.replace(
            "fastproc._native._lines", "_lines"
        )
        try:
            assert interpreters.run_string(mine, code) is None
        finally:
            interpreters.destroy(mine)


EXERCISE = """
import random, sys
from _lines import Cut
assert "asan" in open("/proc/self/maps").read()
words = ["", "a", "b" * 7, "c" * 8, "d" * 200, "é", "€uro", "😀"]
for turn in range(3000):
    text = "".join(random.choice(words) + random.choice(["\\n", ""]) for _ in range(random.randrange(12)))
    for block, end in ((text, "\\n"), (text.encode(), b"\\n")):
        expected = block.split(end)
        if not expected[-1]:
            expected.pop()
        assert list(Cut(block, end)) == expected
        assert Cut(block, end).__length_hint__() == len(expected)
        cut = Cut(block, end, True)
        first = next(cut, end[:0])
        assert first + cut.rest() == block
    for wrong in ((b"a", "a"), (b"a", b""), ("a", "")):
        try:
            Cut(*wrong)
        except (TypeError, ValueError):
            pass
print("done")
"""


@pytest.mark.slow
def test_the_address_sanitizer_finds_nothing(tmp_path: Path) -> None:
    """Nor does the one for undefined behaviour, with every block on a heap that is watched."""
    compiler = shutil.which(shlex.split(os.environ.get("CC") or "cc")[0])
    runtime = (
        compiler
        and subprocess.run(
            [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    if not compiler or not runtime or not os.path.isabs(runtime):
        pytest.skip("no compiler with the address sanitizer")
    target = tmp_path / "_lines.so"
    flags = ["-g", "-O1", "-fPIC", "-shared", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    limited = [] if sysconfig.get_config_var("Py_GIL_DISABLED") else ["-DPy_LIMITED_API=0x030B0000"]
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run([compiler, *flags, *limited, include, str(SOURCE), "-o", str(target)], check=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": runtime,
        # What the interpreter itself leaves at its end is not ours.
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    done = subprocess.run([sys.executable, "-c", EXERCISE], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
