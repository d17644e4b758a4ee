"""Pty: the value, and what excludes it; how much of a line has been typed."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc import PIPE, STDERR, STDOUT, Pty, cmd
from fastproc._values.plan import settle
from fastproc._values.pty import LINE_MAX, LineCount


def test_option_takes_a_size_or_a_value() -> None:
    """True is a terminal of 24 lines and 80 columns, a pair its size; False and None are none."""
    assert cmd("true", pty=True).option("pty") == Pty(24, 80)
    assert cmd("true", pty=(30, 100)).option("pty") == Pty(30, 100)
    assert cmd("true", pty=Pty(echo=False)).option("pty") == Pty(24, 80, echo=False)
    assert cmd("true", pty=False) == cmd("true", pty=None) == cmd("true")


@pytest.mark.parametrize("pty", [Pty(), Pty(1, 65_535), Pty(raw=True), Pty(5, 6, echo=False)])
def test_value_is_a_value(pty: Pty) -> None:
    """Printed as its call, pickled, hashed; not to be changed."""
    assert eval(repr(pty)) == pty
    assert pickle.loads(pickle.dumps(pty)) == pty
    assert len({pty, pickle.loads(pickle.dumps(pty))}) == 1
    with pytest.raises(AttributeError, match=r"Process\.terminal"):
        pty.rows = 3
    assert pty != object()


def test_raw_has_no_echo() -> None:
    """cfmakeraw(3) switches it off."""
    assert not Pty(raw=True).echo


def test_streams_that_are_the_terminal() -> None:
    """All that were not sent elsewhere; the outputs are one."""
    assert settle(cmd("true", pty=True)).on_terminal == (True, True, True)
    assert settle(cmd("true", pty=True, capture=True)).on_terminal == (True, True, True)
    assert settle(cmd("true", pty=True, stdin=PIPE, stderr=PIPE)).on_terminal == (False, True, False)
    assert settle(cmd("true", pty=True, stderr=STDOUT, input=b"")).on_terminal == (True, True, True)
    assert settle(cmd("true", pty=True, stderr=PIPE)).streams == (PIPE, PIPE, PIPE)
    assert settle(cmd("true", capture=True)).on_terminal == (False, False, False)


@pytest.mark.parametrize(
    ("options", "kind", "part"),
    [
        ({"pty": 3}, TypeError, "pty: must be"),
        ({"pty": "yes"}, TypeError, "pty: must be"),
        ({"pty": (1, 2, 3)}, TypeError, "pty: must be"),
        ({"pty": (0, 80)}, ValueError, "pty: rows: 0"),
        ({"pty": (24, 65_536)}, ValueError, "pty: cols: 65536"),
        ({"pty": True, "stdout": "/dev/null"}, ValueError, "stdout: is the terminal's"),
        ({"pty": True, "stdout": STDERR}, ValueError, "stdout: is the terminal's"),
        ({"pty": True, "ctty": 0, "setsid": True}, ValueError, "ctty: cannot"),
        ({"pty": True, "pgid": 0}, ValueError, "pgid: cannot"),
        ({"pty": True, "swap_outputs": True}, ValueError, "swap_outputs: cannot"),
        ({"pty": True, "input": b"x" * 5000}, ValueError, "input: a line has more than 4095"),
    ],
)
def test_impossible_is_named(options: dict[str, object], kind: type[Exception], part: str) -> None:
    """Before any child exists."""
    with pytest.raises(kind, match=part):
        cmd("true", **options)  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"\r", b"\x04", b"ab\n", b"x" * 4000])))
def test_line_is_counted_over_pieces(pieces: list[bytes]) -> None:
    """What one piece would be refused for, all of them together are."""
    count = LineCount()
    refused = False
    for piece in pieces:
        try:
            count.check("data", piece)
        except ValueError:
            refused = True
        count.add(piece)
    whole = b"".join(pieces).replace(b"\r", b"\n").replace(b"\x04", b"\n")
    lines = whole.split(b"\n")
    assert count.size == len(lines[-1])
    assert refused == any(len(line) > LINE_MAX for line in lines)
