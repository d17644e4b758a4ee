"""libcap's text forms, against libcap itself."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.capabilities import LAST_KNOWN, Capability, CapabilitySet
from fastproc.capabilities._text import IAB, CapabilityState, iab_from_text, iab_to_text, state_from_text, state_to_text
from support.libcap import Libcap

NAMES = [member.text for member in Capability]
MASK = st.integers(0, 2**64 - 1)
PIECES = [
    *NAMES,
    *("all", "ALL", "All", "cap_", "_", "0", "7", "40", "41", "63", "64", "010", "08", "0x1f", "0x", "0X3F"),
    "99999999999",
    *("=", "+", "-", "=+", "=-", ",", "e", "i", "p", "ep", "eip", "pie", "ee", " ", "  ", "\t", "\n", "\v"),
    *("x", "E", "!", "^", "%"),
    *("alle", "all_", "all0", "Cap_Chown", "CAP_KILL", "cap_chown0", "chown", "1e", "0x1e", "037"),
]


def strings(count: int, seed: int) -> list[str]:
    """Texts of all grades: well formed, nearly so, and pieces in any order."""
    pick = random.Random(seed)

    def flags(least: int = 0) -> str:
        return "".join(pick.choice("eip") for _ in range(pick.randint(least, 3)))

    def names() -> str:
        some = [pick.choice([*NAMES, "all", str(pick.randint(0, 65))]) for _ in range(pick.randint(1, 4))]
        return ",".join(name.upper() if pick.random() < 0.1 else name for name in some)

    def clause() -> str:
        head = names() if pick.random() < 0.85 else ""
        actions = "=" + flags() if pick.random() < 0.6 else pick.choice("+-") + flags(1)
        for _ in range(pick.choice((0, 0, 0, 1, 2))):
            actions += pick.choice("+-") + flags(1)
        return head + actions

    found = []
    for index in range(count):
        if index % 4 == 3:
            text = "".join(pick.choice(PIECES) for _ in range(pick.randint(0, 7)))
        else:
            text = pick.choice((" ", " ", "\t", "  ")).join(clause() for _ in range(pick.randint(1, 4)))
        if index % 4 == 2 and text:
            at = pick.randrange(len(text))
            text = text[:at] + pick.choice(PIECES) + text[at + pick.randint(0, 2) :]
        found.append(text)
    return found


def iab_strings(count: int, seed: int) -> list[str]:
    pick = random.Random(seed)

    def item() -> str:
        prefix = "".join(pick.choice("!^%") for _ in range(pick.choice((0, 1, 1, 2, 3))))
        return prefix + pick.choice([*NAMES, *NAMES, str(pick.randint(0, 65)), "all", "CAP_CHOWN", ""])

    found = []
    for index in range(count):
        text = ",".join(item() for _ in range(pick.randint(0, 6)))
        if index % 4 == 3:
            at = pick.randrange(len(text) + 1)
            text = text[:at] + pick.choice(PIECES) + text[at + pick.randint(0, 2) :]
        found.append(text)
    return found


def ours(text: str, last_cap: int) -> tuple[int, int, int] | None:
    try:
        state = state_from_text(text, last_cap)
    except ValueError:
        return None
    return state.effective.mask, state.permitted.mask, state.inheritable.mask


def test_ten_thousand_strings_mean_what_libcap_says() -> None:
    """Refused by both or read by both as the same; and what is read is written as the same text."""
    libcap = Libcap()
    taken = 0
    for text in strings(10_000, seed=1):
        theirs = libcap.state_from_text(text)
        assert ours(text, libcap.last_cap) == theirs, text
        if theirs is not None:
            taken += 1
            sets = map(CapabilitySet.from_mask, theirs)
            assert state_to_text(*sets, last_cap=libcap.last_cap) == libcap.state_to_text(*theirs), text
    assert 4_000 < taken < 9_000  # neither all nor nothing was refused


def test_ten_thousand_iab_strings_mean_what_libcap_says() -> None:
    libcap = Libcap()
    taken = 0
    known = CapabilitySet.all(libcap.last_cap).mask
    for text in iab_strings(10_000, seed=2):
        theirs = libcap.iab_from_text(text)
        try:
            mine = iab_from_text(text)
        except ValueError:
            assert theirs is None, text
            continue
        assert tuple(some.mask & known for some in mine) == theirs, text
        assert iab_to_text(*mine, last_cap=libcap.last_cap) == libcap.iab_text(text), text
        taken += 1
    assert 2_000 < taken < 9_000


@given(MASK, MASK, MASK)
def test_writing_agrees_with_libcap(effective: int, permitted: int, inheritable: int) -> None:
    """Any three sets, also with capabilities that no kernel has."""
    libcap = Libcap()
    masks = effective, permitted, inheritable
    assert state_to_text(*map(CapabilitySet.from_mask, masks), last_cap=libcap.last_cap) == libcap.state_to_text(*masks)


@given(MASK, MASK, MASK, st.sampled_from([36, 37, 40]))
def test_state_goes_both_ways(effective: int, permitted: int, inheritable: int, last_cap: int) -> None:
    state = CapabilityState(*map(CapabilitySet.from_mask, (effective, permitted, inheritable)))
    assert state_from_text(state_to_text(*state, last_cap=last_cap), last_cap) == state


@given(MASK, MASK, MASK)
def test_iab_goes_both_ways(inheritable: int, ambient: int, blocked: int) -> None:
    """Up to the last capability; what is ambient is inheritable."""
    known = CapabilitySet.all()
    ambient_set, blocked_set = (CapabilitySet.from_mask(mask) & known for mask in (ambient, blocked))
    iab = IAB(CapabilitySet.from_mask(inheritable | ambient) & known, ambient_set, blocked_set)
    assert iab_from_text(iab_to_text(*iab)) == iab


@pytest.mark.parametrize(
    ("text", "effective", "permitted", "inheritable"),
    [
        ("", "", "", ""),
        ("=", "", "", ""),
        ("cap_net_bind_service=ep", "net_bind_service", "net_bind_service", ""),
        ("all=eip cap_chown-e", CapabilitySet.all().without("chown"), "all", "all"),
        ("=p", "", "all", ""),
        ("cap_kill,cap_chown=i cap_kill+e", "kill", "", "kill,chown"),
        ("5=e", "kill", "", ""),
        ("all=p all=", "", "", ""),
    ],
)
def test_known_texts(text: str, effective: object, permitted: object, inheritable: object) -> None:
    wanted = CapabilityState(*(CapabilitySet(some) for some in (effective, permitted, inheritable)))  # type: ignore[arg-type]
    assert state_from_text(text) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cap_chown", "one of = . -"),
        ("cap_typo=e", "a capability such as"),
        ("+ep", "needs a list"),
        ("=+e", "needs a list"),
        ("cap_chown=x", "e i p"),
        ("cap_chown+", "one of e i p is expected"),
        ("cap_chown,=e", "after the comma"),
        ("64=e", "0 to 63"),
        ("9" * 5000 + "=e", "0 to 63"),
        ("cap_chown=e\0", "e i p"),
        ("cap_chown=é", "e i p"),
    ],
)
def test_errors_say_where_and_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("+", r"\+")):
        state_from_text(text)


@pytest.mark.parametrize("text", ["all", "cap_chown;", "!cap_typo", "cap_chown,,", "^64"])
def test_iab_errors(text: str) -> None:
    with pytest.raises(ValueError, match="at "):
        iab_from_text(text)


def test_no_string_is_a_type_error() -> None:
    for function in (state_from_text, iab_from_text):
        with pytest.raises(TypeError, match="must be a string"):
            function(b"=")  # type: ignore[arg-type]


def fuzz(text: str) -> None:
    """Either a value that can be written and read again, or a ValueError; nothing else, ever."""
    try:
        state = state_from_text(text)
    except ValueError:
        pass
    else:
        assert state_from_text(state_to_text(*state)) == state
    try:
        iab = iab_from_text(text)
    except ValueError:
        pass
    else:
        known = CapabilitySet.all()
        assert iab_from_text(iab_to_text(*iab)) == tuple(some & known for some in iab)


TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map("".join), st.text("capl_eip=+-,!^% 0x9\t\0é"))


@given(TEXTS)
def test_parsers_survive_any_text(text: str) -> None:
    fuzz(text)


def test_last_cap_is_the_lists_own_by_default() -> None:
    assert state_from_text("all=e").effective == CapabilitySet.all(LAST_KNOWN)
    assert state_from_text("=e", 10).effective == CapabilitySet.all(10)
