"""Build script of the C core's binding, `fastproc._native._ffi`, and of `fastproc._native._lines`.

The declarations are the text between the markers of csrc/fastproc.h; the sources are csrc/*.c and csrc/*/*.c
without the launcher and csrc/python. setup.py uses `ffibuilder`. Run directly it builds in place under src/, or into
another folder:

    python build_ffi.py
    FASTPROC_FAULTS=1 python build_ffi.py --dest build/faults    # with the fault points that the tests use
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from cffi import FFI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from setuptools import Extension

ROOT = Path(__file__).resolve().parent
FAULTS = os.environ.get("FASTPROC_FAULTS", "") not in ("", "0")
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
HEADER = ROOT / "csrc" / "fastproc.h"

# A program of its own, without the C library, executed by children whose identity changes (csrc/spawn/launcher.c).
LAUNCHER = ("spawn/launcher.c", "spawn/child.c", "spawn/identity.c", "spawn/report.c")


def core_sources() -> list[str]:
    """The C core's files, relative to the root: all but the launcher and what knows Python."""
    found = (path.relative_to(ROOT) for path in (*ROOT.glob("csrc/*.c"), *ROOT.glob("csrc/*/*.c")))
    return sorted(str(path) for path in found if path.name != "launcher.c" and path.parent.name != "python")


COMPILE_ARGS = [
    *("-std=gnu11", "-O2", "-fvisibility=hidden", "-fstack-protector-strong"),
    # Some compilers and Python builds define it already: -U avoids the warning. Level 3 warns on glibc < 2.34.
    *("-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"),
    *("-Wall", "-Wextra", "-Wshadow", "-Wvla"),
    # An sdist (it has a PKG-INFO) meets compilers that do not exist yet: a new warning must not stop an installation.
    *(() if (ROOT / "PKG-INFO").exists() else ("-Werror",)),
]
LINK_ARGS = [] if sys.platform == "darwin" else ["-Wl,-z,relro,-z,now"]

# What cffi generates is not ours to keep free of warnings.
PREAMBLE = """
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wcast-function-type"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#include "fastproc.h"
"""


def declarations(name: str) -> str:
    """The text of the header between `/* NAME-begin */` and `/* NAME-end */`."""
    found = re.search(rf"/\* {name}-begin \*/\n(.*?)/\* {name}-end \*/", HEADER.read_text("utf-8"), re.DOTALL)
    if not found:
        raise SystemExit(f"{HEADER}: no {name} region")
    return found[1]


LAUNCHER_ARGS = [
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-D_GNU_SOURCE", "-fvisibility=hidden"),
    *("-ffreestanding", "-fno-stack-protector", "-U_FORTIFY_SOURCE", "-fno-asynchronous-unwind-tables"),
    *("-fno-pie", "-no-pie", "-static", "-nostdlib", "-nostartfiles", "-ffunction-sections", "-Wl,--gc-sections"),
    *("-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-z,noseparate-code", "-s"),
]


def build_launcher(folder: Path) -> Path | None:
    """Compile the launcher into a folder; None on systems that have no use for it.

    Without it, where a compiler cannot make it, an sdist still installs: such children are then made by fork.
    """
    if sys.platform != "linux":
        return None
    target = folder / "launcher"
    folder.mkdir(parents=True, exist_ok=True)
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
    sources = [str(ROOT / "csrc" / name) for name in LAUNCHER]
    command = [*compiler, *LAUNCHER_ARGS, *(["-DFP_FAULTS=1"] if FAULTS else []), f"-I{ROOT / 'csrc'}", *sources]
    try:
        subprocess.run([*command, "-o", str(target)], check=True)
        target.chmod(0o755)  # whatever the umask: one that a group may write to is not executed
    except (OSError, subprocess.CalledProcessError) as error:
        if not (ROOT / "PKG-INFO").exists():
            raise
        print(f"fastproc: the launcher cannot be built ({error}); children with an identity will be made by fork")
        return None
    return target


def command_classes() -> dict[str, type]:
    """The setuptools command that builds the launcher beside the extension."""
    from setuptools.command.build_ext import build_ext

    class BuildExt(build_ext):
        def run(self) -> None:
            super().run()
            for where in {self.get_ext_fullpath("fastproc._native._ffi"), str(self._built())}:
                build_launcher(Path(where).resolve().parent)

        def _built(self) -> Path:
            name: str = self.get_ext_filename("fastproc._native._ffi")  # type: ignore[no-untyped-call]
            return Path(self.build_lib, name)

        def get_outputs(self) -> list[str]:
            outputs: list[str] = super().get_outputs()
            return [*outputs, str(self._built().parent / "launcher")] if sys.platform == "linux" else outputs

    return {"build_ext": BuildExt}


def extensions() -> list[Extension]:
    """What knows Python, beside the binding: the lines that C makes. Without it they are made in Python."""
    from setuptools import Extension

    return [
        Extension(
            "fastproc._native._lines",
            [os.path.relpath(ROOT / "csrc" / "python" / "lines.c")],
            depends=[os.path.relpath(ROOT / "build_ffi.py")],
            define_macros=[] if FREE_THREADED else [("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=[*COMPILE_ARGS, "-Wno-missing-field-initializers", "-Wno-cast-function-type"],
            extra_link_args=LINK_ARGS,
            py_limited_api=not FREE_THREADED,
            optional=(ROOT / "PKG-INFO").exists(),
        )
    ]


ffibuilder = FFI()
ffibuilder.cdef(declarations("cdef"))
if FAULTS:
    ffibuilder.cdef(declarations("cdef-faults"))
ffibuilder.set_source(
    "fastproc._native._ffi",
    PREAMBLE,
    sources=[os.path.relpath(ROOT / path) for path in core_sources()],
    depends=[os.path.relpath(path) for path in (*ROOT.glob("csrc/**/*.h"), ROOT / "build_ffi.py")],
    include_dirs=[os.path.relpath(ROOT / "csrc")],
    define_macros=[("_GNU_SOURCE", None), *([("FP_FAULTS", "1")] if FAULTS else [])],
    extra_compile_args=COMPILE_ARGS,
    extra_link_args=LINK_ARGS,
    py_limited_api=not FREE_THREADED,
)

if __name__ == "__main__":
    from setuptools import setup

    parser = argparse.ArgumentParser(description="Build fastproc._native._ffi.")
    parser.add_argument("--dest", type=Path, help="a folder to build into (default: in place, under src)")
    dest = parser.parse_args().dest
    where = [f"--build-lib={dest.resolve()}"] if dest else ["--inplace"]
    where.append(f"--build-temp=build/{'temp-faults' if FAULTS else 'temp'}")
    os.chdir(ROOT)
    setup(
        script_name="setup.py",
        script_args=["--quiet", "build_ext", *where],
        cffi_modules=["build_ffi.py:ffibuilder"],
        cmdclass=command_classes(),
        ext_modules=extensions(),
    )
