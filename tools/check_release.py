"""Check a release: the version, the changelog, and what is in the sdist and the wheels.

    python tools/check_release.py                  the version is the same everywhere
    python tools/check_release.py v0.2.0           it is this one, and the changelog has a dated section for it
    python tools/check_release.py v0.2.0 dist/*    and the archives have this version, all they need, and nothing else

The tag may be left out. Prints what is wrong, and then ends with 1. Needs the standard library only.
"""

from __future__ import annotations

import re
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What only the tests' build has (csrc/faults.c).
FAULT_POINT = b"fp_fault_set"
IN_SDIST = (
    "PKG-INFO",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "GOTCHAS.md",
    "SECURITY.md",
    "build_ffi.py",
    "pyproject.toml",
    "setup.py",
    "csrc/fastproc.h",
    "csrc/spawn/launcher.c",
    "src/fastproc/__init__.py",
)
IN_WHEEL = ("fastproc/__init__.py", "fastproc/py.typed", "fastproc/_native/_ffi.pyi")
EXTENSIONS = ("fastproc/_native/_ffi.", "fastproc/_native/_lines.")


def version() -> str:
    """Return the version that pyproject.toml has."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def check_version(tag: str | None) -> list[str]:
    """Return what is wrong with the version and the changelog."""
    number = version()
    package = re.search(r'^__version__ = "(.+)"$', (ROOT / "src/fastproc/__init__.py").read_text("utf-8"), re.MULTILINE)
    sections = re.findall(r"^## \[(.+?)\](.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    wrong = []
    if package is None or package[1] != number:
        wrong.append(f"pyproject.toml has the version {number}, src/fastproc/__init__.py has another one")
    if not sections or sections[0][0] != "Unreleased":
        wrong.append("CHANGELOG.md does not begin with a section [Unreleased]")
    if tag is not None:
        if tag != f"v{number}":
            wrong.append(f"the tag is {tag}, the version {number}")
        if not any(name == number and re.fullmatch(r" - \d{4}-\d\d-\d\d", rest) for name, rest in sections):
            wrong.append(f"CHANGELOG.md has no section '## [{number}] - YYYY-MM-DD'")
    return wrong


def check_sdist(path: Path, number: str) -> list[str]:
    """Return what is wrong with a source archive."""
    with tarfile.open(path) as archive:
        names = archive.getnames()
    top = f"fastproc-{number}"
    wrong = [f"{name} is missing" for name in IN_SDIST if f"{top}/{name}" not in names]
    wrong += [f"{name} is not below {top}" for name in names if name.split("/")[0] != top]
    built = [name for name in names if name.endswith((".so", ".o", ".pyc", "/_native/launcher"))]
    return wrong + [f"{name} was built on the maker's machine" for name in built]


def check_wheel(path: Path, number: str) -> list[str]:
    """Return what is wrong with a wheel."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        libraries = {name: archive.read(name) for name in entries if name.endswith((".so", "/launcher"))}
    wanted = [*IN_WHEEL, f"fastproc-{number}.dist-info/METADATA", f"fastproc-{number}.dist-info/licenses/LICENSE"]
    wrong = [f"{name} is missing" for name in wanted if name not in entries]
    wrong += [f"{part}*.so is missing" for part in EXTENSIONS if not any(name.startswith(part) for name in libraries)]
    wrong += [f"{name} has fault points" for name, data in libraries.items() if FAULT_POINT in data]
    if "linux" in path.name:
        launcher = entries.get("fastproc/_native/launcher")
        if launcher is None:
            wrong.append("fastproc/_native/launcher is missing")
        elif launcher.external_attr >> 16 & 0o7777 != 0o755:
            wrong.append(f"fastproc/_native/launcher has the mode {launcher.external_attr >> 16 & 0o7777:o}, not 755")
    return wrong + [
        f"{name} is not a part of the package"
        for name in entries
        if not name.startswith(("fastproc/", f"fastproc-{number}.dist-info/")) or "__pycache__" in name
    ]


def main(arguments: list[str]) -> int:
    """Check what is named."""
    tag = arguments.pop(0) if arguments and re.fullmatch(r"v\d[\w.]*", arguments[0]) else None
    wrong = check_version(tag)
    for name in arguments:
        check = check_sdist if name.endswith(".tar.gz") else check_wheel
        wrong += [f"{name}: {fault}" for fault in check(Path(name), version())]
    print("\n".join(wrong) or f"passed: {version()}, {len(arguments)} archives")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
