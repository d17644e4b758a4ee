"""What the values know of the C core's header, and what importing them may cost."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastproc._values import attributes, redirect, status

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "csrc" / "fastproc.h").read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FP_STDIO_INHERIT", redirect.STDIO_INHERIT),
        ("FP_STDIO_PIPE", redirect.STDIO_PIPE),
        ("FP_STDIO_NULL", redirect.STDIO_NULL),
        ("FP_STDIO_STDOUT", redirect.STDIO_STDOUT),
        ("FP_STDIO_STDERR", redirect.STDIO_STDERR),
        ("FP_STDIO_PARENT_STDOUT", redirect.STDIO_PARENT_STDOUT),
        ("FP_STDIO_PARENT_STDERR", redirect.STDIO_PARENT_STDERR),
        ("FP_JOB_TIMED_OUT", status.TIMED_OUT),
        ("FP_JOB_TERMINATED", status.TERMINATED),
        ("FP_JOB_KILLED", status.KILLED),
        ("FP_JOB_PIPES_OPEN", status.PIPES_OPEN),
        ("FP_RLIMITS_MAX", attributes.RLIMITS_MAX),
    ],
)
def test_number_is_the_headers(name, value):
    """The numbers that the pure layer shares with C are equal."""
    found = re.search(rf"^#define {name} (-?\d+)", HEADER, re.MULTILINE)
    assert found is not None
    assert int(found[1]) == value


def test_cpus_fit_the_header():
    """The largest CPU number fits the words of struct fp_attr."""
    words = re.search(r"^#define FP_CPU_WORDS (\d+)", HEADER, re.MULTILINE)
    assert words is not None
    assert 64 * int(words[1]) == attributes.CPU_MAX


def test_usage_has_the_fields_of_the_header():
    """The order of Usage's arguments is that of struct fp_usage."""
    body = re.search(r"struct fp_usage \{(.*?)\};", HEADER, re.DOTALL)
    assert body is not None
    names = re.findall(r"int64_t (\w+);", body[1])
    assert [name.removesuffix("_us") for name in names] == list(status._USAGE_ORDER)


HEAVY = {"subprocess", "dataclasses", "enum", "re", "shlex", "inspect", "typing", "signal", "logging", "collections"}


def test_import_loads_nothing_heavy():
    """The values and errors load none of the slow modules of the standard library."""
    code = (
        "import sys; before = set(sys.modules); import types; p = types.ModuleType('fastproc');"
        f"p.__path__ = [{str(ROOT / 'src' / 'fastproc')!r}]; sys.modules['fastproc'] = p;"
        "import fastproc.errors, fastproc._values.command, fastproc._values.plan, fastproc._values.status;"
        "import fastproc._values.lifecycle, fastproc._values.attributes, fastproc._values.quoting;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "fastproc._values.plan" in loaded
    assert not loaded & HEAVY
    assert not loaded & {"fastproc._subprocess_errors", "fastproc._native", "fastproc._engine"}
