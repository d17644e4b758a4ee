"""Parsers of text and bytes that come from outside, five minutes each."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "values"))
sys.path.insert(0, str(TESTS / "capabilities"))

import test_file
import test_identity
import test_text

pytestmark = pytest.mark.soak

SECONDS = 300


def some_text(pick: random.Random) -> str:
    kind = pick.randrange(4)
    if kind == 0:
        return "".join(chr(pick.randrange(1, 0x300)) for _ in range(pick.randrange(40)))
    if kind == 1:
        return "".join(pick.choice("capl_eip=+-,!^% 0x9\t\0") for _ in range(pick.randrange(60)))
    return "".join(pick.choice(test_text.PIECES) for _ in range(pick.randrange(12)))


def some_bytes(pick: random.Random) -> bytes:
    head = pick.choice((b"", bytes([pick.randrange(3), 0, 0, pick.randrange(5)])))
    return head + pick.randbytes(pick.choice((0, 8, 16, 20, pick.randrange(64))))


def some_status(pick: random.Random) -> bytes:
    data = bytearray(test_identity.STATUS)
    for _ in range(pick.randrange(1, 6)):
        at = pick.randrange(len(data))
        data[at : at + pick.randrange(4)] = pick.choice((b"", b"\n", b"\t", b":\t", pick.randbytes(pick.randrange(4))))
    return bytes(data)


@pytest.mark.parametrize(
    ("make", "check"),
    [(some_text, test_text.fuzz), (some_bytes, test_file.fuzz), (some_status, test_identity.fuzz)],
    ids=["text", "file", "status"],
)
def test_parser_survives(make: Callable[[random.Random], object], check: Callable[[object], None]) -> None:
    """Whatever comes: a value that goes both ways, or a ValueError."""
    seed = random.SystemRandom().getrandbits(64)
    pick = random.Random(seed)
    print(f"seed {seed}")
    end = time.monotonic() + SECONDS
    rounds = 0
    while time.monotonic() < end:
        for _ in range(1000):
            check(make(pick))
        rounds += 1000
    print(f"{rounds} inputs")


def test_texts_mean_what_libcap_says_for_five_minutes() -> None:
    libcap = test_text.Libcap()
    end = time.monotonic() + SECONDS
    seed = random.SystemRandom().getrandbits(32)
    rounds = 0
    while time.monotonic() < end:
        for text in test_text.strings(1000, seed + rounds):
            assert test_text.ours(text, libcap.last_cap) == libcap.state_from_text(text), (seed, text)
        rounds += 1000
    print(f"{rounds} texts, seed {seed}")
