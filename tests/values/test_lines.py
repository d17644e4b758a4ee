"""Lines: nothing lost, nothing reordered, whatever the pieces."""

from __future__ import annotations

import io
import pickle
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.lines import LineSplitter, LineTooLong

BYTES = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\0", b"\r\n", b"\n\n", "é€😀".encode()])).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut at the places; some pieces may be empty."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def split(pieces: list[bytes], *args: Any, **options: Any) -> list[Any]:
    splitter = LineSplitter(*args, **options)
    found = []
    for piece in pieces:
        found += splitter.feed(piece)
    return found + splitter.finish()


PLACES = st.lists(st.integers(0, 1000), max_size=8)


@pytest.mark.parametrize("newline", ["\n", "\0", "universal"])
@pytest.mark.parametrize("encoding", [None, "utf-8"])
@given(data=BYTES, places=PLACES, keep=st.booleans(), longest=st.sampled_from([None, 2]))
def test_batches_are_the_same_lines(
    newline: str, encoding: str | None, data: bytes, places: list[int], keep: bool, longest: int | None
) -> None:
    """As they come by feed(), with the same left over."""
    options: dict[str, Any] = {"encoding": encoding, "keep_ends": keep, "longest": longest}
    splitter = LineSplitter(newline, **options)
    pieces = cut(data, places)
    found = [line for piece in pieces for line in splitter.batch(piece)]
    assert found + splitter.finish() == split(pieces, newline, **options)


@pytest.mark.parametrize("newline", ["\n", b"\n", "\0"])
@given(data=BYTES, places=PLACES)
def test_lines_of_bytes(newline: str | bytes, data: bytes, places: list[int]) -> None:
    """As one split of the whole."""
    end = newline if isinstance(newline, bytes) else newline.encode()
    expected = data.split(end)
    if not expected[-1]:
        expected.pop()
    assert split(cut(data, places), newline) == expected
    assert b"".join(split(cut(data, places), newline, keep_ends=True)) == data


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@given(data=BYTES, places=PLACES)
def test_lines_of_text(encoding: str, data: bytes, places: list[int]) -> None:
    """A character may be cut anywhere (HAZARDS E8)."""
    text = data.decode()
    pieces = cut(text.encode(encoding), places)
    expected = text.split("\n")
    if not expected[-1]:
        expected.pop()
    assert split(pieces, encoding=encoding) == expected
    assert "".join(split(pieces, encoding=encoding, keep_ends=True)) == text


@given(data=BYTES, places=PLACES)
def test_universal_newlines(data: bytes, places: list[int]) -> None:
    """As io.open has them, also where a carriage return and its line feed come apart."""
    expected = io.StringIO(data.decode(), newline=None).readlines()
    pieces = cut(data, places)
    assert split(pieces, "universal", encoding="utf-8", keep_ends=True) == expected
    assert split(pieces, "universal", keep_ends=True) == [line.encode() for line in expected]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("encoding", [None, "latin-1"])
@given(data=BYTES, places=PLACES, longest=st.integers(1, 4))
def test_long_lines(keep: bool, encoding: str | None, data: bytes, places: list[int], longest: int) -> None:
    """Split gives all of it in pieces that fit, truncate the beginnings, raise stops at the first."""

    def same(lines: list[Any]) -> list[bytes]:
        return [line.encode("latin-1") if isinstance(line, str) else line for line in lines]

    pieces = cut(data, places)
    whole = data.split(b"\n")
    last = whole.pop()
    whole = [line + b"\n" for line in whole] + ([last] if last else [])

    def bare(line: bytes) -> bytes:
        return line.removesuffix(b"\n")

    def shown(line: bytes) -> bytes:
        return line if keep else bare(line)

    expected = []
    for line in whole:
        body = bare(line)
        parts = [body[at : at + longest] for at in range(0, len(body), longest)] or [b""]
        parts[-1] += line[len(body) :]
        expected += [shown(part) for part in parts]
    options: dict[str, Any] = {"longest": longest, "keep_ends": keep, "encoding": encoding}
    assert same(split(pieces, over="split", **options)) == expected
    cut_off = [shown(line) if len(bare(line)) <= longest else shown(line[:longest] + b"\n") for line in whole]
    assert same(split(pieces, over="truncate", **options)) == cut_off

    splitter = LineSplitter(over="raise", **options)
    found: list[Any] = []
    try:
        for piece in pieces:
            found += splitter.feed(piece)
        found += splitter.finish()
        assert all(len(bare(line)) <= longest for line in whole)
    except LineTooLong as error:
        assert len(error.start) == longest
        assert any(len(bare(line)) > longest for line in whole)
        assert "longer than" in str(pickle.loads(pickle.dumps(error)))
        with pytest.raises(LineTooLong):
            splitter.feed(b"more")
    short = []
    for line in whole:
        if len(bare(line)) > longest:
            break
        short.append(shown(line))
    assert same(found) == short


def test_carry_is_bounded_and_long_lines_are_not_copied_again_and_again() -> None:
    """A line without end keeps at most the limit; without one, 20,000 pieces are joined once."""
    splitter = LineSplitter(longest=100, over="truncate")
    for _ in range(1000):
        splitter.feed(b"x" * 1000)
        assert sum(map(len, splitter._carry)) <= 100
    assert splitter.feed(b"\nnext\n") == [b"next"]
    assert split([b"x" * 1000] * 20_000) == [b"x" * 20_000_000]


def test_wrong_bytes_raise_as_decoding_does() -> None:
    """Strict by default; the other error handlers as they are known."""
    with pytest.raises(UnicodeDecodeError):
        split([b"a\xff\n"], encoding="utf-8")
    assert split([b"a\xff\n"], encoding="utf-8", errors="replace") == ["a\ufffd"]
    with pytest.raises(UnicodeDecodeError):
        split([b"\xe2"], encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"newline": ""}, "newline"),
        ({"newline": "\r"}, "newline"),
        ({"newline": "\r\n"}, "newline"),
        ({"newline": None}, "newline"),
        ({"over": "drop"}, "over"),
        ({"longest": 0}, "longest"),
        ({"longest": True}, "longest"),
    ],
)
def test_impossible_arguments_are_named(options: dict[str, Any], name: str) -> None:
    """Before anything is split."""
    with pytest.raises(ValueError, match=f"^{name}: "):
        LineSplitter(**options)
