"""A signal that came: from the record of the C core to what a user reads."""

from __future__ import annotations

import signal
import struct

import pytest

from fastproc._native._ffi import ffi
from fastproc.signals._received import RECORD_SIZE, Received, unpack

FIELDS = ("signo", "code", "pid", "uid", "status", "fd", "overrun", "unused", "value", "band", "time_ns", "serial")


def made(**given: int) -> Received:
    """One with these fields, by way of the C structure."""
    record = ffi.new("struct fp_signal_record *", given)
    (fields,) = unpack(ffi.buffer(record)[:])
    return Received(fields)


def test_record_is_the_structure_of_the_header() -> None:
    """Each field lies where the C core puts it."""
    assert ffi.sizeof("struct fp_signal_record") == RECORD_SIZE == 64
    names = [name for name, _ in ffi.typeof("struct fp_signal_record").fields]
    assert tuple(names) == FIELDS
    record = ffi.new("struct fp_signal_record *", {name: place + 1 for place, name in enumerate(FIELDS)})
    assert list(unpack(ffi.buffer(record)[:])) == [tuple(range(1, 13))]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"signo": 15, "code": 0, "pid": 7, "uid": 3}, "<Received SIGTERM SI_USER pid=7 uid=3>"),
        ({"signo": 2, "code": 0x80}, "<Received SIGINT SI_KERNEL>"),
        ({"signo": 10, "code": -6, "pid": 7}, "<Received SIGUSR1 SI_TKILL pid=7 uid=0>"),
        ({"signo": 10, "code": -1, "pid": 7, "value": -5}, "<Received SIGUSR1 SI_QUEUE pid=7 uid=0 value=-5>"),
        ({"signo": 14, "code": -2, "overrun": 3, "value": 9}, "<Received SIGALRM SI_TIMER value=9 overrun=3>"),
        ({"signo": 17, "code": 1, "pid": 7, "status": 4}, "<Received SIGCHLD CLD_EXITED pid=7 uid=0 status=4>"),
        ({"signo": 17, "code": 6, "pid": 7, "status": 18}, "<Received SIGCHLD CLD_CONTINUED pid=7 uid=0 status=18>"),
        ({"signo": 29, "code": 1, "band": 65, "fd": 5}, "<Received SIGIO POLL_IN band=65 fd=5>"),
        ({"signo": 10, "code": 77}, "<Received SIGUSR1 code 77>"),
    ],
)
def test_origin_is_told_as_far_as_the_kernel_tells_it(given: dict[str, int], told: str) -> None:
    """What does not apply to a cause is None, and not 0."""
    assert repr(made(**given)) == told


def test_names_of_real_time_signals() -> None:
    """By their distance from the first one."""
    first = int(signal.SIGRTMIN)
    assert [made(signo=first + n).name for n in (0, 1, 30)] == ["SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+30"]


def test_equal_is_the_same_signal() -> None:
    """Told by two receivers it is one; another of the same kind is not."""
    one, same, other = made(signo=10, serial=4), made(signo=10, serial=4), made(signo=10, serial=5)
    assert (one == same, one == other, hash(one) == hash(same), one == 10, int(one)) == (True, False, True, False, 10)


def test_parts_of_a_record_are_an_error() -> None:
    """Records lie one after another, whole."""
    assert [int(Received(fields)) for fields in unpack(bytes(struct.pack("=i60x", 1)) * 3)] == [1, 1, 1]
    with pytest.raises(struct.error):
        unpack(b"x" * 63)
