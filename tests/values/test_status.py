"""Result and Usage."""

from __future__ import annotations

import copy
import pickle
import signal
import struct

import pytest

from fastproc import errors
from fastproc._values.status import CORE_DUMPED, KILLED, PIPES_OPEN, TERMINATED, TIMED_OUT, Result, Usage

RAW = (1_500_000, 250_000, 2048, 5, 6, 7, 8, 9, 10)


def result(returncode=0, stdout=b"a\nb\n", stderr=b"e", usage=RAW, flags=0, ok_codes=(0,), refused=None):
    return Result(("ls", "a b"), returncode, stdout, stderr, 12, 1_500_000, usage, "clone_vm", flags, ok_codes, refused)


def fields(item):
    names = (
        "ok",
        "signal",
        "shell_code",
        "duration",
        "usage",
        "core_dumped",
        "timed_out",
        "killed",
        "pipes_still_open",
    )
    plain = ("argv", "returncode", "stdout", "stderr", "pid", "mechanism", "mechanism_refused")
    return {name: getattr(item, name) for name in names + plain}


def test_result_of_success():
    """Every attribute of a plain result."""
    assert fields(result()) == {
        "ok": True,
        "signal": None,
        "shell_code": 0,
        "duration": 0.0015,
        "usage": Usage(*RAW),
        "core_dumped": False,
        "timed_out": False,
        "killed": "",
        "pipes_still_open": False,
        "argv": ("ls", "a b"),
        "returncode": 0,
        "stdout": b"a\nb\n",
        "stderr": b"e",
        "pid": 12,
        "mechanism": "clone_vm",
        "mechanism_refused": {},
    }


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (result(3), {"ok": False, "signal": None, "shell_code": 3}),
        (result(-9), {"ok": False, "signal": 9, "shell_code": 137}),
        (result(-15, flags=TIMED_OUT | TERMINATED), {"ok": False, "timed_out": True, "killed": "terminated"}),
        (result(0, flags=TIMED_OUT | TERMINATED), {"ok": False, "timed_out": True, "killed": "terminated"}),
        (result(-9, flags=TIMED_OUT | TERMINATED | KILLED), {"killed": "killed"}),
        (result(flags=PIPES_OPEN), {"ok": True, "pipes_still_open": True}),
        (result(-11, flags=CORE_DUMPED), {"core_dumped": True, "signal": signal.SIGSEGV}),
        (result(1, ok_codes=(0, 1)), {"ok": True}),
        (result(usage=None), {"usage": None}),
        (result(refused={"clone3_vm": "EPERM"}), {"mechanism_refused": {"clone3_vm": "EPERM"}}),
    ],
)
def test_result_attributes(made, expected):
    """Status and flags are told in both conventions and in words."""
    assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (result(2), "exit status 2"),
        (result(-15), "killed by SIGTERM"),
        (result(-6, flags=CORE_DUMPED), "killed by SIGABRT (core dumped)"),
        (result(-40), "killed by signal 40"),
    ],
)
def test_status_text(made, text):
    """The status in words."""
    assert made.status_text() == text


def test_text_and_lines():
    """Decoding is strict utf-8 unless told otherwise; only a newline ends a line."""
    assert result().text() == "a\nb\n"
    assert result().lines() == ["a", "b"]
    assert result(stdout=b"").lines() == []
    assert result(stdout=b"a\r\n\nb\x0b\xc2\x85c").lines() == ["a\r", "", "b\x0b\x85c"]
    assert result(stdout=b"\xe9").text("latin-1") == "é"
    assert result(stdout=b"\xe9").lines(errors="replace") == ["�"]
    assert result().stderr_text() == "e"
    with pytest.raises(UnicodeDecodeError):
        result(stdout=b"\xe9").text()


@pytest.mark.parametrize(("name", "method"), [("stdout", "text"), ("stdout", "lines"), ("stderr", "stderr_text")])
def test_text_of_what_was_not_captured_is_refused(name, method):
    """None is not an empty text."""
    with pytest.raises(ValueError, match=f"^{name} was not captured: use capture=True or {name}=PIPE$"):
        getattr(result(stdout=None, stderr=None), method)()


def test_check():
    """An accepted result returns itself; another raises with itself inside."""
    good = result()
    assert good.check() is good
    for bad in (result(2), result(0, flags=TIMED_OUT)):
        with pytest.raises(errors.ExitError) as caught:
            bad.check()
        assert caught.value.result is bad


def test_usage_of_bytes_is_the_struct():
    """The bytes of struct fp_usage are read as its fields, and only when asked for."""
    made = result(usage=struct.pack("9q", *RAW))
    assert made.usage == made.usage == Usage(*RAW)


def test_usage():
    """Times are seconds, sizes bytes; it is a value."""
    usage = Usage(*RAW)
    assert repr(usage) == (
        "Usage(utime=1.5, stime=0.25, maxrss=2097152, minflt=5, majflt=6, inblock=7, oublock=8, nvcsw=9, nivcsw=10)"
    )
    assert pickle.loads(pickle.dumps(usage)) == copy.copy(usage) == usage
    assert hash(copy.copy(usage)) == hash(usage)
    assert usage != Usage(*RAW[:-1], 11)
    assert usage != RAW


@pytest.mark.parametrize("usage", [None, RAW, struct.pack("9q", *RAW)])
def test_result_pickles(usage):
    """A pickled result has every attribute, the lazy ones too."""
    made = result(-9, usage=usage, flags=KILLED | TIMED_OUT, ok_codes=(1,), refused={"a": "b"})
    for again in (copy.copy(made), *(pickle.loads(pickle.dumps(made, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1))):
        assert fields(again) == fields(made)
        assert again.__reduce__() == made.__reduce__()


def test_repr():
    """It shows the command, the status and how much was captured."""
    assert repr(result(2)) == "<Result `ls 'a b'`: exit status 2, stdout 4 bytes, stderr 1 bytes>"
    assert repr(result(-9, stdout=None, stderr=b"")) == "<Result `ls 'a b'`: killed by SIGKILL>"
