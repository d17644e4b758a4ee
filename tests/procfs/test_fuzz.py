"""Whatever a file holds: a value or a ParseError. The same inputs for minutes: tests/procfs/test_soak.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastproc import procfs
from fastproc.procfs import ParseError
from support import procfiles as files

KINDS = sorted({kind for kind, _, _ in files.FORMS})
# What the formats are made of.
PIECES = (
    b"\n", b" ", b"\t", b":", b"-", b"->", b"0", b"1", b"-1", b"/", b"\\040", b"\\", b"(", b")", b",", b"=", b"\0",
    b"0x", b"kB", b"cpu", b"_", b"9" * 30, b"ffffffffffffffffff", b"\xff", b"\xc3\xa9", "\u0661".encode(), b"EOF",
    b"unlimited",
)  # fmt: skip


def fuzz(kind: str, data: bytes) -> None:
    """A value that can be shown, or a ParseError that can."""
    parse: Callable[[bytes], Any] = getattr(procfs, f"parse_{kind}")
    try:
        value = parse(data)
    except ParseError as error:
        assert str(error)
        assert error.line >= 1
        return
    assert value == parse(data)
    repr(value)
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(one, procfs.Record):
            one.to_dict()


def damaged(pick: random.Random, kind: str) -> bytes:
    """A form of the file with a few bytes changed, cut, doubled or put in."""
    data = bytearray(pick.choice([data for one, _, data in files.FORMS if one == kind]))
    for _ in range(pick.randrange(1, 6)):
        at = pick.randrange(len(data) + 1)
        how = pick.randrange(5)
        if how == 0:
            data[at : at + pick.randrange(1, 9)] = pick.choice(PIECES)
        elif how == 1:
            data[at:at] = pick.choice(PIECES)
        elif how == 2:
            del data[at : at + pick.randrange(1, 40)]
        elif how == 3:
            data[at:at] = data[at : at + pick.randrange(1, 40)]
        else:
            data[at : at + 1] = pick.randbytes(1)
    return bytes(data)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_read(kind: str, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from([form for one, _, form in files.FORMS if one == kind]))
    at, length = data.draw(st.integers(0, len(form))), data.draw(st.integers(0, 30))
    piece = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from(PIECES)))
    fuzz(kind, form[:at] + piece + form[at + length :])


@pytest.mark.parametrize("kind", KINDS)
def test_many_damages_at_once(kind: str) -> None:
    pick = random.Random(kind)
    for _ in range(300):
        fuzz(kind, damaged(pick, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_refused_or_read(kind: str) -> None:
    """A file that ends early, at each place."""
    form = next(form for one, _, form in files.FORMS if one == kind)
    for end in range(len(form)):
        fuzz(kind, form[:end])


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for kind in KINDS:
        fuzz(kind, data)


@pytest.mark.parametrize("kind", KINDS)
def test_one_file_as_another(kind: str) -> None:
    for _, _, data in files.FORMS:
        fuzz(kind, data)
