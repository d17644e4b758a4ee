"""What a release needs: one version, a changelog, whole archives, and no step that this repository does not have."""

from __future__ import annotations

import io
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import check_release

NUMBER = check_release.version()
LAUNCHER = "fastproc/_native/launcher"


def wheel(place: Path, without: str = "", more: dict[str, bytes] | None = None, mode: int = 0o755) -> Path:
    """Make a wheel that has all that is asked for, but for one file."""
    files = dict.fromkeys(check_release.IN_WHEEL, b"")
    files |= {"fastproc/_native/_ffi.abi3.so": b"", "fastproc/_native/_lines.abi3.so": b"", LAUNCHER: b""}
    files |= dict.fromkeys((f"fastproc-{NUMBER}.dist-info/{name}" for name in ("METADATA", "licenses/LICENSE")), b"")
    path = place / f"fastproc-{NUMBER}-cp311-abi3-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (files | (more or {})).items():
            if name != without:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (mode if name == LAUNCHER else 0o644) << 16
                archive.writestr(entry, data)
    return path


def sdist(place: Path, without: str = "", *more: str) -> Path:
    path = place / f"fastproc-{NUMBER}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in (*check_release.IN_SDIST, *more):
            if name != without:
                archive.addfile(tarfile.TarInfo(f"fastproc-{NUMBER}/{name}"), io.BytesIO())
    return path


def test_the_version_is_one() -> None:
    """pyproject.toml and the package have the same; the changelog has room for what comes."""
    assert check_release.check_version(None) == []
    assert f"the tag is v0.0, the version {NUMBER}" in check_release.check_version("v0.0")


def test_whole_archives_pass(tmp_path: Path) -> None:
    assert check_release.check_wheel(wheel(tmp_path), NUMBER) == []
    assert check_release.check_sdist(sdist(tmp_path), NUMBER) == []


@pytest.mark.parametrize("without", [*check_release.IN_WHEEL, LAUNCHER, f"fastproc-{NUMBER}.dist-info/METADATA"])
def test_a_file_that_is_missing_from_a_wheel_is_named(tmp_path: Path, without: str) -> None:
    assert check_release.check_wheel(wheel(tmp_path, without), NUMBER) == [f"{without} is missing"]


@pytest.mark.parametrize(
    ("more", "mode", "fault"),
    [
        (
            {"fastproc/_native/_ffi.abi3.so": b"..fp_fault_set.."},
            0o755,
            "fastproc/_native/_ffi.abi3.so has fault points",
        ),
        ({"tests/test_x.py": b""}, 0o755, "tests/test_x.py is not a part of the package"),
        ({}, 0o775, "fastproc/_native/launcher has the mode 775, not 755"),
    ],
)
def test_what_a_wheel_must_not_have_is_named(tmp_path: Path, more: dict[str, bytes], mode: int, fault: str) -> None:
    assert check_release.check_wheel(wheel(tmp_path, more=more, mode=mode), NUMBER) == [fault]


def test_faults_of_an_sdist_are_named(tmp_path: Path) -> None:
    path = sdist(tmp_path, "GOTCHAS.md", "src/fastproc/_native/launcher")
    assert check_release.check_sdist(path, NUMBER) == [
        "GOTCHAS.md is missing",
        f"fastproc-{NUMBER}/src/fastproc/_native/launcher was built on the maker's machine",
    ]


def test_the_manifest_names_what_exists() -> None:
    """And what the check asks of an sdist is in the repository."""
    named = [name for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines() for name in line.split()[1:]]
    wanted = [name for name in check_release.IN_SDIST if name != "PKG-INFO"]
    assert [name for name in (*named, *wanted) if not (ROOT / name).exists()] == []


def test_pages_name_what_exists() -> None:
    """Files, make targets and workflows in the pages for contributors."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for page in ("RELEASING.md", "SECURITY.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        text = (ROOT / page).read_text("utf-8")
        links = re.findall(r"\]\(([\w./-]+)\)", text)
        files = [
            name
            for name in re.findall(r"`([\w.-]+(?:/[\w.-]+)+)`", text)
            if name.startswith(("src/", "tools/", "tests/"))
        ]
        assert [name for name in (*links, *files) if not (ROOT / name).exists()] == [], page
        commands = re.findall(r"`make ([a-z-]+)", text) + re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
        assert [name for name in commands if name not in targets] == [], page


def test_hooks_and_lint_use_the_same_tools() -> None:
    """Each tool of `make lint` and `make types` is a hook, from the same environment; no hook is fetched."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    recipes = re.search(r"^lint:.*?(?=^format:)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    tools = set(re.findall(r"\$\(BIN\)/([\w-]+(?: check| format)?)", recipes[0] if recipes else ""))
    assert tools == {"ruff check", "ruff format", "clang-format"}
    assert [tool for tool in (*sorted(tools), "mypy") if f"entry: .venv/bin/{tool}" not in hooks] == []
    assert re.findall(r"repo: (.+)", hooks) == ["local"]
