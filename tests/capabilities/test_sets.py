"""Capabilities by name and number, and sets of them."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.capabilities import LAST_KNOWN, NUMBERS, Capabilities, Capability, CapabilitySet, as_set

HEADER = Path("/usr/include/linux/capability.h")
SETS = st.frozensets(st.integers(0, NUMBERS - 1))


def test_all_41_are_there_with_what_they_permit() -> None:
    """Numbers 0 to 40 without a gap, each with one line."""
    assert [member.value for member in Capability] == list(range(41))
    assert LAST_KNOWN == 40
    for member in Capability:
        assert member.permits
        assert "\n" not in member.permits
        assert len(member.permits) < 110
    assert len({member.permits for member in Capability}) == 41


def test_numbers_are_the_headers() -> None:
    """<linux/capability.h> says the same; it may know later ones."""
    if not HEADER.exists():
        pytest.skip("no kernel headers")
    found = dict(re.findall(r"^#define (CAP_[A-Z_]+)\s+(\d+)\s*$", HEADER.read_text(), re.MULTILINE))
    ours = {member.name: str(member.value) for member in Capability}
    assert {name: number for name, number in found.items() if name in ours} == ours


@pytest.mark.parametrize("name", ["CAP_CHOWN", "cap_chown", "chown", "Cap_Chown", 0])
def test_find_by_any_spelling(name: str | int) -> None:
    assert Capability.find(name) is Capability.CAP_CHOWN


@pytest.mark.parametrize("member", Capability, ids=lambda member: member.text)
def test_find_goes_both_ways(member: Capability) -> None:
    assert Capability.find(member.text) is Capability.find(member.value) is Capability.find(member) is member
    assert member.mask == 1 << member.value


@pytest.mark.parametrize(
    "what", ["", "cap_", "cap_nothing", " cap_chown", "0", "5", "cap_\u017fetuid", "cap_chown ", "all"]
)
def test_a_name_that_is_none_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="is no capability"):
        Capability.find(what)


@pytest.mark.parametrize("what", [-1, 64, 2**40])
def test_a_number_that_is_none_is_refused(what: int) -> None:
    with pytest.raises(ValueError, match="is no capability"):
        Capability.find(what)


@pytest.mark.parametrize("what", [True, None, 1.0, b"cap_chown"])
def test_other_things_are_refused(what: object) -> None:
    with pytest.raises(TypeError, match="a name or a number"):
        Capability.find(what)  # type: ignore[arg-type]


@given(SETS, SETS)
def test_set_algebra_is_that_of_frozensets(a: frozenset[int], b: frozenset[int]) -> None:
    """Every operator, against the same with frozensets; also with a frozenset on one side."""
    left, right = CapabilitySet(a), CapabilitySet(b)
    for other in (right, b):
        assert left | other == a | b
        assert left & other == a & b
        assert left - other == a - b
        assert left ^ other == a ^ b
        assert (left <= other, left < other, left >= other, left > other) == (a <= b, a < b, a >= b, a > b)
        assert (left == other) == (a == b)
        assert left.isdisjoint(other) == a.isdisjoint(b)
        assert type(left | other) is type(left ^ other) is CapabilitySet
    assert set(b) - left == b - a
    assert hash(left) == hash(a)
    assert list(left) == sorted(a)
    assert len(left) == len(a)
    assert bool(left) == bool(a)
    assert left.with_(*b) == a | b
    assert left.without(*b) == a - b
    assert all((number in left) == (number in a) for number in range(NUMBERS))


@given(SETS)
def test_masks_and_texts_go_both_ways(numbers: frozenset[int]) -> None:
    some = CapabilitySet(numbers)
    assert some.mask == sum(1 << number for number in numbers)
    assert CapabilitySet.from_mask(some.mask) == some == CapabilitySet.from_mask(some.hex)
    assert eval(repr(some), {"CapabilitySet": CapabilitySet}) == some
    assert pickle.loads(pickle.dumps(some)) == copy.deepcopy(some) == some


def test_set_from_text() -> None:
    assert CapabilitySet("") == CapabilitySet() == frozenset()
    assert CapabilitySet("chown, CAP_KILL").names == ("cap_chown", "cap_kill")
    assert CapabilitySet("all") == CapabilitySet.all() == CapabilitySet(range(41))
    assert CapabilitySet.all(37).mask == (1 << 38) - 1
    assert CapabilitySet([63]).names == ("63",)
    assert [type(item) for item in CapabilitySet([40, 41])] == [Capability, int]


@pytest.mark.parametrize("what", ["chown,", "chown kill", ["nothing"], [64], ","])
def test_set_of_unknown_is_refused(what: object) -> None:
    with pytest.raises(ValueError, match="is no capability"):
        CapabilitySet(what)  # type: ignore[arg-type]


def test_set_of_a_number_is_refused() -> None:
    """It could be a mask."""
    with pytest.raises(TypeError, match=r"from_mask\(5\)"):
        CapabilitySet(5)  # type: ignore[arg-type]
    for mask in (-1, 1 << 64):
        with pytest.raises(ValueError, match="64 bits"):
            CapabilitySet.from_mask(mask)
    with pytest.raises(TypeError, match="a mask is a number"):
        CapabilitySet.from_mask(True)


def test_unknown_name_is_never_just_absent() -> None:
    """`"cap_typo" in some` would be an easy way to a wrong answer."""
    with pytest.raises(ValueError, match="is no capability"):
        "cap_typo" in CapabilitySet()  # noqa: B015
    assert CapabilitySet() != {"cap_typo"}
    assert object() not in CapabilitySet()


def test_set_is_immutable() -> None:
    some = CapabilitySet("chown")
    with pytest.raises(AttributeError, match="immutable"):
        some.mask = 1  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        del some.mask


def test_as_set_names_the_argument() -> None:
    assert as_set("keep", ["chown"]) == CapabilitySet("chown")
    with pytest.raises(ValueError, match=r"^keep: 'nothing' is no capability"):
        as_set("keep", "nothing")
    with pytest.raises(TypeError, match=r"^keep: "):
        as_set("keep", 7)


def test_five_sets_have_the_man_pages_names() -> None:
    assert Capabilities._fields == ("effective", "permitted", "inheritable", "bounding", "ambient")
