"""The search for the first of several patterns, however what is searched arrives."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc import EndOfOutput, ProcessError
from fastproc._values.expect import Expected, Search


def find(patterns: Any, data: bytes) -> Expected | None:
    return Search(patterns).find(data)


def test_first_place_counts_and_then_the_first_pattern() -> None:
    """Not the order of the patterns alone."""
    assert find([b"world", b"hello"], b"hello world") == (1, b"", b"hello", None)
    assert find([b"he", b"hello"], b"hello") == (0, b"", b"he", None)
    assert find([b"hello", b"he"], b"hello") == (0, b"", b"hello", None)
    assert find(b"nothing", b"hello") is None


def test_text_is_utf8() -> None:
    """Literals and regular expressions of str, over characters that have come only in part."""
    data = "äö-ü".encode()
    assert find("ü", data) == (0, "äö-".encode(), "ü".encode(), None)
    found = find(re.compile(r"\w-(\w)"), data)
    assert found is not None
    assert found[:3] == (0, "ä".encode(), "ö-ü".encode())
    assert found.match is not None
    assert found.match.group(1) == "ü"
    search = Search(re.compile("ü$"))
    assert search.find(data[:-1]) is None
    assert search.find(data) is not None


def test_bytes_that_are_no_text_keep_their_place() -> None:
    """A regular expression of str does not stumble over them."""
    found = find(re.compile("x"), b"\xff\xc3\xa4\xfex.")
    assert found is not None
    assert found[:3] == (0, b"\xff\xc3\xa4\xfe", b"x")


def test_end_is_a_pattern_of_its_own() -> None:
    """Never found in bytes; at the end all that was there is before it."""
    search = Search([b"x", EOFError])
    assert search.find(b"abc") is None
    assert search.at_end(b"abc") == (1, b"abc", b"", None)
    assert Search(b"x").at_end(b"abc") is None


def test_error_says_what_was_expected() -> None:
    """And the last of what came."""
    error = EndOfOutput((b"a", re.compile("b+"), EOFError), b"x" * 1000 + b"!")
    assert isinstance(error, ProcessError)
    assert isinstance(error, EOFError)
    assert "b'a' or 'b+' or its end" in str(error)
    assert "x!'" in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        (b"", ValueError),
        ("", ValueError),
        ([], ValueError),
        (3, TypeError),
        ([b"a", None], TypeError),
        (str, TypeError),
    ],
)
def test_no_pattern(pattern: Any, kind: type[Exception]) -> None:
    """Named as the argument."""
    with pytest.raises(kind, match="pattern"):
        Search(pattern)


letters = st.binary(max_size=12).map(lambda data: bytes(97 + byte % 3 for byte in data))


@given(st.lists(letters), st.lists(letters.filter(bool), min_size=1, max_size=4))
def test_pieces_do_not_matter_for_literals(pieces: list[bytes], literals: list[bytes]) -> None:
    """The same place as in all of it at once, at the first moment at which it is there."""
    whole = b"".join(pieces)
    search = Search(literals)
    data = b""
    found = None
    for piece in pieces:
        data += piece
        found = search.find(data)
        if found is not None:
            break
    places = sorted((data.find(item), index) for index, item in enumerate(literals) if item in data)
    if found is None:
        assert not any(item in whole for item in literals)
    else:
        assert (len(found.before), found.which) == places[0]
        assert found.before + found.data == data[: places[0][0] + len(literals[found.which])]
