"""The bytes of a file's capabilities."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.capabilities import CapabilitySet
from fastproc.capabilities._file import ROOTID_MAX, FileCapabilities

MASK = st.integers(0, 2**64 - 1)


@st.composite
def values(draw: st.DrawFn) -> FileCapabilities:
    version = draw(st.sampled_from([1, 2, 3]))
    bits = 2 ** (32 if version == 1 else 64) - 1
    permitted, inheritable = (CapabilitySet.from_mask(draw(MASK) & bits) for _ in range(2))
    rootid = draw(st.integers(0, ROOTID_MAX)) if version == 3 else 0
    return FileCapabilities(permitted, inheritable, draw(st.booleans()), rootid, version)


@given(values())
def test_bytes_go_both_ways(value: FileCapabilities) -> None:
    data = value.to_bytes()
    assert len(data) == {1: 12, 2: 20, 3: 24}[value.version]
    assert FileCapabilities.from_bytes(data) == value
    assert FileCapabilities.from_bytes(data).to_bytes() == data
    assert pickle.loads(pickle.dumps(value)) == value
    assert hash(pickle.loads(pickle.dumps(value))) == hash(value)


def test_known_bytes() -> None:
    """What setcap(8) writes for cap_net_raw=ep, and a version 3 of a container's root."""
    assert FileCapabilities("net_raw").to_bytes().hex() == "0100000200200000000000000000000000000000"
    wanted = FileCapabilities([], ["chown", "bpf"], effective=False, rootid=100000)
    assert wanted.version == 3
    assert wanted.to_bytes().hex() == ("00000003" + "00000000" + "01000000" + "00000000" + "80000000" + "a0860100")
    assert FileCapabilities.from_bytes(wanted.to_bytes()) == wanted


def fuzz(data: bytes) -> None:
    """A value that gives the same bytes again, flags that the kernel ignores aside; or a ValueError."""
    try:
        value = FileCapabilities.from_bytes(data)
    except ValueError:
        return
    again = value.to_bytes()
    assert again[4:] == data[4:]
    assert again[3] == data[3]
    assert FileCapabilities.from_bytes(again) == value


@given(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(st.sampled_from([1, 2, 3, 4]), st.binary(min_size=8, max_size=24)).map(
            lambda pair: b"\1\0\0" + bytes([pair[0]]) + pair[1]
        ),
    )
)
def test_parser_survives_any_bytes(data: bytes) -> None:
    fuzz(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no version"),
        (b"\1\0\0", "no version"),
        (b"\1\0\0\4" + bytes(20), "no version"),
        (b"\1\0\0\2" + bytes(15), "has 20 bytes, not 19"),
        (b"\1\0\0\3" + bytes(16), "has 24 bytes, not 20"),
    ],
)
def test_damaged_bytes_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        FileCapabilities.from_bytes(data)


@pytest.mark.parametrize(
    ("arguments", "error", "why"),
    [
        ({"rootid": -1}, ValueError, "rootid: -1"),
        ({"rootid": 2**32 - 1}, ValueError, "rootid: 4294967295"),
        ({"rootid": 5, "version": 2}, ValueError, "version 2 has no rootid"),
        ({"rootid": True}, TypeError, "rootid: must be"),
        ({"version": 4}, ValueError, "version: 4"),
        ({"permitted": "bpf", "version": 1}, ValueError, "first 32"),
        ({"permitted": "typo"}, ValueError, "permitted: 'typo'"),
        ({"inheritable": 5}, TypeError, "inheritable: "),
        ({"effective": 1}, TypeError, "effective: must be"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        FileCapabilities(**arguments)  # type: ignore[arg-type]


def test_is_immutable() -> None:
    value = FileCapabilities("chown")
    with pytest.raises(AttributeError, match="immutable"):
        value.rootid = 5
    with pytest.raises(AttributeError, match="immutable"):
        del value.rootid
