"""Lines: nothing lost, nothing reordered, whatever the pieces."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
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
    """A character may be cut anywhere (GOTCHAS E8)."""
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


def everything(pieces: list[bytes], batch: bool = False, **options: Any) -> list[Any]:
    """All that a splitter gives: lines, and errors where they are raised."""
    splitter = LineSplitter(**options)
    found: list[Any] = []

    def take(call: Callable[[], Any]) -> None:
        try:
            found.extend(call())
        except (LineTooLong, UnicodeDecodeError) as error:
            found.append(error.object if isinstance(error, UnicodeDecodeError) else type(error))
        if splitter.waits:
            take(splitter.resume)

    for piece in pieces:
        take(lambda piece=piece: splitter.batch(piece) if batch else splitter.feed(piece))
    take(splitter.finish)
    return found


DATA = b"good\nbad\xff\xfe!\n\xc3\xa9\n\xc3\nlast \xe2\x82"


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_undecodable_bytes_are_an_error_in_the_place_of_their_line(size: int, batch: bool) -> None:
    """Lines before and behind are given, and all bytes are in the error, however the data is cut."""
    pieces = [DATA[at : at + size] for at in range(0, len(DATA), size)]
    bad = [b"bad\xff\xfe!", b"\xc3", b"last \xe2\x82"]
    assert everything(pieces, batch, encoding="utf-8") == ["good", bad[0], "é", bad[1], bad[2]]
    assert everything(pieces, batch, encoding="utf-8", newline="universal") == ["good", bad[0], "é", bad[1], bad[2]]
    kept = ["good\n", bad[0] + b"\n", "é\n", bad[1] + b"\n", bad[2]]
    assert everything(pieces, batch, encoding="utf-8", keep_ends=True) == kept
    limited = ["good", bad[0], "é", bad[1], bad[2]]
    assert everything(pieces, batch, encoding="utf-8", longest=30) == limited
    assert everything(pieces, batch, encoding="ascii", newline="!") == [b"good\nbad\xff\xfe", DATA.partition(b"!")[2]]


def test_undecodable_bytes_in_every_kind_of_encoding() -> None:
    """Of several bytes and with a state, and where the error handler lets surrogates pass."""
    assert everything([b"a\n\x82\n\x82\xa0\n"], encoding="shift_jis") == ["a", b"\x82", "あ"]
    data = "a\nb".encode("utf-16-le") + b"\x00\xdc" + "\nc\n".encode("utf-16-le")
    found = everything([data[:5], data[5:]], encoding="utf-16-le")
    assert (found[0], type(found[1]), found[2]) == ("a", bytes, "c")
    given = everything([b"\xed\xb0\x80\n\xff\nx\n"], encoding="utf-8", errors="surrogatepass")
    assert given == ["\udc00", b"\xff", "x"]


@given(st.lists(st.sampled_from([b"a", b"\n", b"\xff", b"\xc3", b"\xa9", b"\xf0\x9f", b"bb"]), max_size=30), st.data())
def test_undecodable_bytes_lose_nothing(parts: list[bytes], data: Any) -> None:
    """Line by line the text of bytes.decode(), or the bytes that it refuses."""
    whole = b"".join(parts)
    expected: list[Any] = []
    *lines, rest = whole.split(b"\n")
    for line in [*lines, *([rest] if rest else [])]:
        try:
            expected.append(line.decode())
        except UnicodeDecodeError as error:
            expected.append(line)
            assert error.object == line
    size = data.draw(st.integers(1, 8))
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert everything(pieces, data.draw(st.booleans()), encoding="utf-8") == expected


@pytest.mark.parametrize("size", [1, 3, 100])
def test_line_too_long_is_an_error_in_its_place(size: int) -> None:
    """It is raised once, and what is behind it is given."""
    data = b"a\ntoo long\nb\nlong too\nc\nendless one"
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    found = everything(pieces, longest=3, over="raise")
    assert found == [b"a", LineTooLong, b"b", LineTooLong, b"c", LineTooLong]


def test_marks_of_undecodable_bytes_are_never_cut() -> None:
    """A limited line with such bytes is an error as a whole."""
    for over in ("split", "truncate"):
        found = everything([b"ok\n", b"\xff" * 50, b"\xff\nok\n"], encoding="utf-8", longest=5, over=over)
        assert (found[0], found[-1], len(found)) == ("ok", "ok", 3)
        assert set(found[1]) == {0xFF}
