"""The memory of a captured stream in the C core: it grows, and its pages become a bytes object."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated

FIXED = 1 << 16
FIRST = 1 << 20
MOVED = 64 << 20
BORDERS = (FIXED - 1, FIXED, FIXED + 1, FIRST - 49, FIRST - 48, FIRST - 47, 3 << 20, MOVED - 1, MOVED)
SIZES = (*BORDERS, MOVED + 4095, 67_000_003)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has no two equal parts."""
    path = tmp_path_factory.mktemp("noise") / "noise"
    path.write_bytes(random.Random(1).randbytes(MOVED + (4 << 20)))
    return path


def mappings() -> int:
    return len(Path("/proc/self/maps").read_bytes().splitlines())


@pytest.mark.parametrize("size", SIZES)
def test_every_byte_arrives(noise: Path, size: int) -> None:
    """At every border between the buffer, its growth and the pages that change their place; on both streams."""
    result = fastproc.run("/bin/sh", "-c", f"head -c {size} '{noise}'; head -c {size} '{noise}' >&2", capture=True)
    expected = noise.read_bytes()[:size]
    assert (result.stdout == expected, result.stderr == expected) == (True, True)
    assert result.stdout is not None
    # An ordinary object: what a copy would have, also its last, hidden NUL.
    assert result.stdout + b"x" == expected + b"x"
    assert hash(result.stdout) == hash(expected)
    assert int(b"1" + result.stdout[:0]) == 1


def test_large_captures_leave_no_mapping() -> None:
    """The object's memory goes back whole, however it came together."""
    fastproc.run("head", "-c", str(MOVED * 2), "/dev/zero", capture=True)
    before = mappings()
    for _ in range(20):
        data = fastproc.run("head", "-c", str(MOVED + 12345), "/dev/zero", capture=True).stdout
        assert data is not None
        assert data.count(0) == MOVED + 12345
        del data
    assert mappings() <= before + 2


def faults(name: str, first: int) -> list[Any]:
    """Fail the nth passage through a point; [sizes and sums are right, hits, what was raised, children]."""
    from fastproc._native._ffi import lib

    found: list[Any] = []
    size = MOVED + 12345
    for nth in range(first, first + 3):
        lib.fp_fault_set(getattr(lib, f"FP_POINT_{name}"), errno.ENOMEM, nth)
        try:
            data = fastproc.run("head", "-c", str(size), "/dev/zero", stdout=fastproc.PIPE).stdout
            found.append((data is not None and data.count(0) == size, lib.fp_fault_hits()))
        except OSError as error:
            found.append((error.errno == errno.ENOMEM, lib.fp_fault_hits()))
        finally:
            lib.fp_fault_set(0, 0, 0)
        try:
            os.waitpid(-1, os.WNOHANG)
            found.append("a child is left")
        except ChildProcessError:
            pass
    return found


def test_memory_that_is_refused_is_an_error_or_made_up_for() -> None:
    """No first mapping: ENOMEM, and the child is gone. A refused step: a smaller one. A refused move: a copy."""
    assert isolated(faults, "GROW", 1, faults=True)[0] == [True, 1]
    assert isolated(faults, "GROW", 2, faults=True) == [[True, 1], [True, 1], [True, 1]]
    assert isolated(faults, "MOVE", 1, faults=True) == [[True, 1], [True, 0], [True, 0]]


def scarce() -> list[str]:
    import resource

    fastproc.run("true", capture=True)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (24 << 20), resource.RLIM_INFINITY))
    data = fastproc.run("head", "-c", str(6 << 20), "/dev/zero", stdout=fastproc.PIPE).stdout
    found = [str(data == bytes(6 << 20))]
    for size in (16 << 20, 200 << 20):
        try:
            fastproc.run("head", "-c", str(size), "/dev/zero", stdout=fastproc.PIPE)
        except (MemoryError, OSError) as error:
            found.append(type(error).__name__)
    return found


def test_scarce_addresses_are_used_up_before_it_fails() -> None:
    """RLIMIT_AS: what fits is captured; what does not is an error."""
    first, *others = isolated(scarce)
    assert first == "True"
    assert len(others) == 2
