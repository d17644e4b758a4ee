"""Environments, their blobs, and the search in PATH."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values import environment
from fastproc._values.environment import DEFAULT_PATH, Environment, candidates, prefixes

data = st.binary().map(lambda item: item.replace(b"\0", b""))
names = data.map(lambda item: item.replace(b"=", b"") or b"N")
variables = st.dictionaries(names, data)


@given(variables)
def test_blob_split_again_is_the_same(given_variables):
    """Any variables round-trip, in their order."""
    made = Environment(given_variables)
    strings = made.blob.split(b"\0")
    assert strings.pop() == b""
    assert len(strings) == made.count
    assert [tuple(item.split(b"=", 1)) for item in strings] == list(given_variables.items())


def test_empty_environment():
    """No variable is no byte."""
    made = Environment({})
    assert (made.blob, made.count, made.path) == (b"", 0, None)


def test_environment_is_a_copy():
    """A later change of the mapping does not reach it."""
    source = {b"PATH": b"/x"}
    made = Environment(source)
    source[b"A"] = b"1"
    assert (made.variables, made.path) == ({b"PATH": b"/x"}, b"/x")


def test_edited_removes_then_adds():
    """The original stays; what is added wins over what is removed."""
    first = Environment({b"A": b"1", b"B": b"2", b"C": b"3"})
    other = first.edited(["A", "C", "NOSUCH"], [("B", "\udcff"), ("C", "4")])
    assert other.variables == {b"B": b"\xff", b"C": b"4"}
    assert first.count == 3


@pytest.mark.parametrize(
    ("program", "path", "found"),
    [
        (b"ls", b"/a:/b/", [b"/a/ls", b"/b/ls"]),
        (b"ls", b":/b::c:", [b"ls", b"/b/ls", b"ls", b"c/ls", b"ls"]),
        (b"ls", b"", [b"ls"]),
        (b"ls", None, [b"/bin/ls", b"/usr/bin/ls"]),
        (b"./ls", b"/a:/b", [b"./ls"]),
        (b"a/", b"/a:/b", [b"a/"]),
    ],
)
def test_candidates_are_execvp_order(program, path, found):
    """Each element in order; an empty one is the current directory (GOTCHAS F1)."""
    assert candidates(program, path) == found


def test_prefixes_cache_is_bounded():
    """Ever new PATHs do not fill the memory."""
    for n in range(200):
        assert prefixes(b"/%d" % n) == (b"/%d/" % n, b"")
    assert len(environment._prefixes) <= environment._PREFIXES_KEPT
    assert prefixes(DEFAULT_PATH) == (b"/bin/", b"/usr/bin/", b"")
