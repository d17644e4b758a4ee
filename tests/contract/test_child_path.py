"""What runs between clone and exec calls nothing outside itself, and releases have no fault points.

The cheapest proof that the child is safe in memory it shares: its object file refers to no function, and in the built
extension its code has no call that leaves it.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = next(iter(sorted((ROOT / "src" / "fastproc" / "_native").glob("_ffi*.so"))), None)

sys.path.insert(0, str(ROOT))

JUMP = re.compile(r"\b(?:call|jmp|j[a-z]+)q?\s+[0-9a-f]+ <([^>+]+)(?:\+0x[0-9a-f]+)?>")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the child's own code is Linux's"),
    pytest.mark.skipif(shutil.which("nm") is None or shutil.which("objdump") is None, reason="no binutils"),
]


def release_flags() -> list[str]:
    """The compiler's flags as build_ffi.py has them."""
    text = (ROOT / "build_ffi.py").read_text("utf-8")
    found = re.search(r"COMPILE_ARGS = \[(.*?)\n\]", text, re.DOTALL)
    assert found
    flags = re.findall(r'"(-[^"]+)"', found[1])
    assert "-O2" in flags
    return flags


@pytest.mark.parametrize("extra", [(), ("-O0",), ("-O3",), ("-fstack-protector-all",)], ids=" ".join)
def test_child_object_refers_to_no_function(tmp_path: Path, extra: tuple[str, ...]) -> None:
    """`nm -u` of its three objects together is empty: no libc, no helper of the compiler, not even memset."""
    target = tmp_path / "both.o"
    sources = [str(ROOT / "csrc" / "spawn" / name) for name in ("child.c", "identity.c", "report.c")]
    command = ["cc", *release_flags(), *extra, "-fPIC", f"-I{ROOT / 'csrc'}", "-c", *sources]
    subprocess.run(command, cwd=tmp_path, check=True)
    subprocess.run(["ld", "-r", "-o", str(target), "child.o", "identity.o", "report.o"], cwd=tmp_path, check=True)
    undefined = subprocess.run(["nm", "-u", str(target)], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in undefined if name != "U"] == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86_64 code")
def test_child_code_in_the_extension_calls_only_itself() -> None:
    """Every call in the child's functions goes to one of them, none through the PLT."""
    assert EXTENSION is not None
    code = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(EXTENSION)], capture_output=True, text=True, check=True
    ).stdout
    functions = dict(re.findall(r"^[0-9a-f]+ <([^>]+)>:\n((?:.+\n)*)", code, re.MULTILINE))
    entry = "fp__child_main"
    if entry not in functions:
        pytest.skip("the extension is stripped")
    seen: set[str] = set()
    todo = [entry]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        # Jumps and calls to another function; calls through a register are the step table's.
        todo += [
            target
            for target in re.findall(
                r"\b(?:call|jmp|j[a-z]+)q?\s+[0-9a-f]+ <([^>+]+)(?:\+0x[0-9a-f]+)?>", functions[name]
            )
            if target != name
        ]
    tables = {name for name in functions if name.startswith(("step_", "fp__step_", "fp__child_"))}
    assert not {name for name in seen if "@plt" in name}
    for name in tables:
        assert "@plt" not in functions[name], name
    assert len(tables) >= 3


def test_release_has_no_fault_points() -> None:
    """The fault points exist only in the build made for the tests."""
    assert EXTENSION is not None
    symbols = subprocess.run(["nm", str(EXTENSION)], capture_output=True, text=True, check=False).stdout
    assert "fp__fault" not in symbols
    assert b"fp_fault_set" not in EXTENSION.read_bytes()


def test_only_the_module_is_exported() -> None:
    """Hidden visibility: the extension exports its entry point and none of the core's functions."""
    assert EXTENSION is not None
    listed = subprocess.run(["nm", "-D", "--defined-only", str(EXTENSION)], capture_output=True, text=True, check=True)
    exported = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert {name for name in exported if name.startswith("fp")} == set()
    assert any(name.startswith(("PyInit_", "_cffi_pypyinit_")) for name in exported)


def test_extension_is_hardened() -> None:
    """RELRO and immediate binding; a stack that is not executable."""
    if shutil.which("readelf") is None:
        pytest.skip("no readelf")
    found = subprocess.run(["readelf", "-lW", "-d", str(EXTENSION)], capture_output=True, text=True, check=True).stdout
    assert "GNU_RELRO" in found
    assert "BIND_NOW" in found or "NOW" in found
    stack = next(line for line in found.splitlines() if "GNU_STACK" in line)
    assert " RWE" not in stack
