"""Who a process is, from the text of /proc/PID/status; and what is an id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastproc._values.capabilities import CapabilitySet
from fastproc._values.identity import ID_MAX, Identity, Ids, Securebits, check_id, check_name

STATUS = b"""Name:\ta b)\\n c
Umask:\t0022
State:\tS (sleeping)
Tgid:\t70
Pid:\t71
PPid:\t1
Uid:\t1000\t1001\t1002\t1003
Gid:\t5\t6\t7\t8
FDSize:\t64
Groups:\t27 4 100 
CapInh:\t0000000000000001
CapPrm:\t000001fffeffffff
CapEff:\t0000000000000020
CapBnd:\t000001fffeffffff
CapAmb:\t0000000000000001
NoNewPrivs:\t1
Seccomp:\t2
"""  # noqa: W291


def test_status_is_read() -> None:
    found = Identity.from_status(STATUS)
    assert (found.pid, found.name) == (71, "a b)\n c")
    assert found.uids == Ids(1000, 1001, 1002, 1003)
    assert found.gids == Ids(5, 6, 7, 8)
    assert found.groups == (4, 27, 100)
    assert found.capabilities.effective == CapabilitySet("kill")
    assert found.capabilities.inheritable == found.capabilities.ambient == CapabilitySet("chown")
    assert found.capabilities.permitted.mask == found.capabilities.bounding.mask == 0x1FFFEFFFFFF
    assert (found.no_new_privs, found.seccomp, found.securebits) == (True, "filter", None)
    assert found == Identity.from_status(STATUS) != Identity.from_status(STATUS.replace(b"NoNewPrivs:\t1", b""))
    assert hash(found) == hash(Identity.from_status(STATUS))
    assert found.to_dict()["capabilities"]["effective"] == ["cap_kill"]  # type: ignore[index,call-overload]


def test_status_of_an_old_kernel() -> None:
    """Before 3.17 there was no CapAmb, NoNewPrivs, Seccomp, and no name in the list of groups."""
    old = b"\n".join(
        line for line in STATUS.split(b"\n") if not line.startswith((b"CapAmb", b"NoNew", b"Secc", b"Groups"))
    )
    found = Identity.from_status(old)
    assert (found.capabilities.ambient, found.no_new_privs, found.seccomp, found.groups) == (
        frozenset(),
        False,
        "none",
        (),
    )


@pytest.mark.parametrize(
    "data", [b"", b"Name:\tx\n", STATUS.replace(b"1003", b""), STATUS.replace(b"\t5\t", b"\tfive\t"), STATUS[:60]]
)
def test_other_text_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no /proc/PID/status"):
        Identity.from_status(data)


def fuzz(data: bytes) -> None:
    """An Identity or a ValueError."""
    try:
        found = Identity.from_status(data)
    except ValueError:
        return
    assert len(found.uids) == len(found.gids) == 4
    assert all(isinstance(some, CapabilitySet) for some in found.capabilities)


@given(st.binary(max_size=4), st.integers(0, len(STATUS)), st.integers(0, 20))
def test_reading_survives_damage(data: bytes, at: int, length: int) -> None:
    fuzz(STATUS[:at] + data + STATUS[at + length :])


@given(st.integers(-(2**70), 2**70))
def test_ids_that_mean_unchanged_are_refused(value: int) -> None:
    """GOTCHAS G6, CVE-2019-14287."""
    if 0 <= value <= ID_MAX and value != 65535:
        assert check_id("user", value) == value
    else:
        with pytest.raises(ValueError, match=r"^user: "):
            check_id("user", value)


@pytest.mark.parametrize("value", [-1, 65535, 4294967295, -2, 2**32, 2**64])
def test_known_bad_ids(value: int) -> None:
    with pytest.raises(ValueError, match=rf"^user: {value} is no id"):
        check_id("user", value)


@pytest.mark.parametrize("value", [True, "0", 0.0, None])
def test_ids_are_numbers(value: object) -> None:
    with pytest.raises(TypeError, match=r"^user: an id is a number"):
        check_id("user", value)


def test_good_ids_and_names() -> None:
    assert [check_id("user", value) for value in (0, 65534, 65536, ID_MAX)] == [0, 65534, 65536, ID_MAX]
    assert check_name("user", "0day") == "0day"
    for name in ("", "a:b", "a\nb", "a\0b"):
        with pytest.raises(ValueError, match=r"^user: .* cannot be a name"):
            check_name("user", name)


def test_securebits_are_the_kernels() -> None:
    """<linux/securebits.h>: issecure_mask of 0 to 11, each second one a lock."""
    assert [int(flag) for flag in Securebits] == [1 << number for number in range(12)]
    for number, flag in enumerate(Securebits):
        assert str(flag.name).endswith("_LOCKED") == bool(number % 2)
    assert Securebits(0x15).names == ("noroot", "no_setuid_fixup", "keep_caps")
