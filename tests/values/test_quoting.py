"""Quoting, against shlex and a real split."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.quoting import join, quote

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(words)
def test_quote_text_is_shlex_quote(text):
    """The result is the standard library's for any text."""
    assert quote(text) == shlex.quote(text)


@given(st.lists(words))
def test_join_split_again_is_the_same(items):
    """A shell's split of the line gives the words back."""
    assert shlex.split(join(items)) == items


@given(st.binary().map(lambda data: data.replace(b"\0", b"")))
def test_quote_bytes_is_exact(data):
    """Encoded again, the quoted bytes split into the same bytes."""
    encoded = os.fsencode(quote(data))
    assert encoded.replace(b"'\"'\"'", b"\0").replace(b"'", b"").replace(b"\0", b"'") == data


def test_quote_path():
    """A path object is quoted as its text."""
    assert quote(Path("/a b")) == "'/a b'"
