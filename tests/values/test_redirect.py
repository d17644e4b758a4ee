"""The values for standard streams."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
from pathlib import Path

import pytest

from fastproc._values import redirect
from fastproc._values.checks import check_text
from fastproc._values.redirect import DEVNULL, INHERIT, PIPE, STDERR, STDOUT, Append, check_stream


@pytest.mark.parametrize("name", ["PIPE", "STDOUT", "DEVNULL", "STDERR"])
def test_special_shows_copies_and_pickles_as_itself(name):
    """A constant stays the one object."""
    item = getattr(redirect, name)
    assert repr(item) == name
    assert copy.deepcopy(item) is item
    assert all(pickle.loads(pickle.dumps(item, n)) is item for n in range(pickle.HIGHEST_PROTOCOL + 1))


def test_special_equals_subprocess_constants():
    """The standard library's constants mean the same here."""
    assert (PIPE, STDOUT, DEVNULL) == (subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL)
    assert check_stream("stdout", subprocess.PIPE) is PIPE
    assert check_stream("stderr", subprocess.STDOUT) is STDOUT
    assert check_stream("stdin", subprocess.DEVNULL) is DEVNULL


def test_append_is_an_immutable_value():
    """Equal paths are equal, hash alike and pickle; nothing can be set."""
    item = Append(Path("/a"))
    assert item == Append(b"/a") == eval(repr(item))
    assert item != Append("/b")
    assert item != "/a"
    assert hash(item) == hash(Append("/a"))
    assert pickle.loads(pickle.dumps(item)) == copy.copy(item) == item
    with pytest.raises(AttributeError, match="immutable"):
        item.path = "/b"


def test_check_stream_normalises():
    """Paths become text, descriptors ints, and objects with fileno() stay."""
    file = io.BytesIO()
    assert check_stream("stdin", None) is INHERIT
    assert check_stream("stdin", Path("/a")) == "/a"
    assert check_stream("stdout", b"/\xff") == "/\udcff"
    assert check_stream("stdout", 5) == 5
    assert check_stream("stderr", Append("x")) == Append("x")
    assert check_stream("stderr", file) is file
    assert check_stream("stdout", STDERR) is STDERR


@pytest.mark.parametrize(
    ("name", "value", "kind", "text"),
    [
        ("stdin", STDOUT, ValueError, "stdin: STDOUT is not possible here"),
        ("stdin", STDERR, ValueError, "stdin: STDERR is not possible here"),
        ("stdout", STDOUT, ValueError, "stdout: STDOUT is not possible here"),
        ("stderr", STDERR, ValueError, "stderr: STDERR is not possible here"),
        ("stdin", Append("x"), ValueError, "stdin: Append is for outputs"),
        ("stdout", -6, ValueError, "stdout: -6 is not a descriptor number (0 to 2147483647)"),
        ("stdout", 2**31, ValueError, "stdout: 2147483648 is not a descriptor number"),
        ("stdout", True, TypeError, "stdout: must be None, PIPE, DEVNULL, a path, Append, a descriptor number or a"),
        ("stdout", 1.5, TypeError, "stdout: must be None, PIPE"),
        ("stdout", "", ValueError, "stdout: the path is empty"),
        ("stdout", "a\0b", ValueError, "stdout: has a NUL byte at index 1"),
        ("stdout", "\ud800", ValueError, "stdout: cannot be encoded: "),
    ],
)
def test_check_stream_refuses(name, value, kind, text):
    """What cannot be is an error that starts with the option's name."""
    with pytest.raises(kind) as caught:
        check_stream(name, value)
    assert str(caught.value).startswith(text)


def test_check_text_refuses_other_objects():
    """Only what names a file is text."""
    with pytest.raises(TypeError, match=r"^x: must be str, bytes or os.PathLike, not int$"):
        check_text("x", 1)


def test_check_fd_refuses_bool():
    """True is not descriptor 1."""
    with pytest.raises(TypeError, match="x: True is not a descriptor number"):
        redirect.check_fd("x", True)
