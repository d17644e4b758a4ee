"""Limits: what is kept is the beginning and the end, whatever the pieces."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.capture import CaptureLimit, Event, HeadTail


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut at the places; some pieces may be empty."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


PLACES = st.lists(st.integers(0, 1000), max_size=8)


def test_event_is_a_tuple_with_names() -> None:
    """It compares, unpacks and pickles."""
    event = Event("stdout", 1.5, 3, b"x")
    assert pickle.loads(pickle.dumps(event)) == event == ("stdout", 1.5, 3, b"x")
    assert (event.stream, event.offset) == ("stdout", 3)


@given(data=st.binary(max_size=60), places=PLACES, head=st.integers(0, 30), tail=st.integers(0, 30))
def test_head_and_tail_of_any_pieces(data: bytes, places: list[int], head: int, tail: int) -> None:
    """As slices of the whole; what is dropped is counted."""
    kept = HeadTail(head, tail)
    for piece in cut(data, places):
        kept.add(piece)
    assert kept.value() == data[:head] + data[max(head, len(data) - tail) :]
    assert (kept.size, kept.dropped) == (len(data), max(0, len(data) - head - tail))


def test_head_and_tail_stay_small() -> None:
    """Whatever the size of the pieces."""
    for size in (1, 100, 100_000):
        kept = HeadTail(1000, 50_000)
        for _ in range(3_000_000 // max(size, 30)):
            kept.add(b"x" * size)
        assert sum(map(len, kept._pieces)) <= 50_000 + 4096
        assert len(kept._pieces) <= 1 + 50_000 // min(size, 2048) or size == 1
        assert len(kept._pieces) < 600


def test_limit_is_a_value() -> None:
    """It compares, hashes, shows itself, pickles, and cannot be changed."""
    limit = CaptureLimit(1, 2, over="stop", spill="/tmp/x")
    assert eval(repr(limit)) == limit == pickle.loads(pickle.dumps(limit))
    assert hash(limit) == hash(CaptureLimit(1, 2, over="stop", spill=b"/tmp/x"))
    assert limit != CaptureLimit(1, 2)
    with pytest.raises(AttributeError, match="immutable"):
        limit.head = 3
    with pytest.raises(ValueError, match=r"^over: "):
        CaptureLimit(over="drop")
    with pytest.raises(ValueError, match=r"^tail: "):
        CaptureLimit(1, -1)
    with pytest.raises(TypeError, match=r"^head: "):
        CaptureLimit("1")  # type: ignore[arg-type]
