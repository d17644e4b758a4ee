"""Run the test suites of packages that live on subprocess: as they are, and with fastproc.subprocess installed.

    python tests/packages/run_packages.py              all of them
    python tests/packages/run_packages.py sarge trio   some

Each package's source archive comes from the package index, of the version pinned in requirements.txt, and its suite is
run twice in an environment of its own below build/packages: by `python -m pytest`, and by `python -m fastproc
run-module pytest`. Ends with 1 when a test passed in the first run and not in the second, when there was nothing to
compare, or when the standard library made a child of the second run that it need not make. What fails without it is
said.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "packages"
PYTHON = BUILD / "venv" / "bin" / "python"
PIP = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
LIMIT = 600  # seconds for one run of a suite
AGAIN = 3  # a test that passed only without it has to pass so often when tried alone, to count as one that is unsteady


class Suite(NamedTuple):
    """How a package's tests are run, in its source folder.

    Attributes:
        arguments: pytest's.
        plugins: what is loaded beside the common ones.
        other: a part of the names of tests that ask for what fastproc does otherwise on purpose.
    """

    arguments: tuple[str, ...]
    plugins: tuple[str, ...] = ()
    other: str | None = None


SUITES = {
    # Pipelines, background processes and remote shells by Popen, also by asyncio's subprocesses.
    "plumbum": Suite(("tests", "-o", "addopts=", "-o", "required_plugins="), ("pytest_asyncio.plugin", "pytest_mock")),
    # Shell pipelines of Popen objects and threads that read them.
    "sarge": Suite(("test_sarge.py",)),
    # Interpreters started by Popen and talked to over their pipes.
    "execnet": Suite(("testing",)),
    # An event loop of its own on Popen objects and their descriptors. The four tests want 0 where SIGCHLD is ignored
    # and the child was killed: "exit status unknowable". Here it is known, and is -9.
    "trio": Suite(
        ("--pyargs", "trio._tests.test_subprocess", "--run-slow"),
        ("trio._tests.pytest_plugin",),
        "test_wait_reapable_fails",
    ),
}


def pinned() -> dict[str, str]:
    """Return the versions in requirements.txt by name."""
    lines = (HERE / "requirements.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def make_environment() -> None:
    """Make the environment with the package as it is now, and what the suites need."""
    stamp = BUILD / "requirements.txt"
    wanted = (HERE / "requirements.txt").read_text("utf-8")
    if not stamp.exists() or stamp.read_text("utf-8") != wanted:
        shutil.rmtree(BUILD, ignore_errors=True)
        venv.create(BUILD / "venv", with_pip=True)
        subprocess.run([*PIP, "install", "--requirement", str(HERE / "requirements.txt")], check=True)
        stamp.write_text(wanted, "utf-8")
    subprocess.run([*PIP, "install", str(ROOT)], check=True)
    # Otherwise pytest would find this repository's own settings for a package that has none.
    (BUILD / "pytest.ini").write_text("[pytest]\n", "utf-8")


def source(name: str, version: str) -> Path:
    """Return the folder of a package's source, fetched and unpacked when it is not there."""
    folder = BUILD / f"{name}-{version}"
    if not folder.exists():
        archives = BUILD / "archives"
        subprocess.run(
            [*PIP, "download", "--no-deps", "--no-binary", name, "--dest", str(archives), f"{name}=={version}"],
            check=True,
        )
        shutil.unpack_archive(next(archives.glob(f"{name}-{version}.*")), BUILD, filter="data")
    return folder


def run(name: str, folder: Path, installed: bool, only: list[str] | None = None) -> dict[str, Any]:
    """Run a suite, or some tests of it; return what outcomes.py wrote, and what children the standard library made."""
    suite = SUITES[name]
    way = "installed" if installed else "standard"
    out, log = BUILD / f"{name}-{way}.json", BUILD / f"{name}-{way}.log"
    children = BUILD / f"{name}-children.log"
    for old in (out, children):
        old.unlink(missing_ok=True)
    command = [str(PYTHON), "-m", *(["fastproc", "run-module"] if installed else []), "pytest"]
    for plugin in ("outcomes", "pytest_timeout", *suite.plugins):
        command += ["-p", plugin]
    command += ["-p", "no:cacheprovider", "--timeout", "60", "-q", "-rfE", *suite.arguments]
    env = {
        **os.environ,
        "OUTCOMES": str(out),
        "OUTCOMES_ONLY": json.dumps(only),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": f"{HERE}:{ROOT / 'tests' / 'cpython'}",
        "FASTPROC_SUITE_LOG": str(children) if installed else "",
    }
    # Some tests ask whether byte code is written.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    with log.open("wb") as file:
        try:
            subprocess.run(
                command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            print(f"  {way}: broken off after {LIMIT} s, see {log}")
    found: dict[str, Any] = {"children": 0, "popen": "", "outcomes": {}}
    if out.exists():
        found = json.loads(out.read_text("utf-8"))
    lines = children.read_text("utf-8").splitlines() if children.exists() else []
    found["allowed"] = sum(line.startswith("allowed") for line in lines)
    found["forbidden"] = [line for line in lines if not line.startswith("allowed")]
    return found


def again(name: str, folder: Path, test: str) -> bool:
    """Return whether a test passes by itself, with fastproc.subprocess."""
    return bool(run(name, folder, installed=True, only=[test])["outcomes"].get(test) == "passed")


def compare(name: str, version: str) -> list[str]:
    """Run a package's suite both ways; print what there was and return what is wrong."""
    folder = source(name, version)
    standard, installed = run(name, folder, installed=False), run(name, folder, installed=True)
    before, after = standard["outcomes"], installed["outcomes"]
    passed = [test for test, outcome in before.items() if outcome == "passed"]
    worse = {test: after.get(test, "not run") for test in passed if after.get(test) != "passed"}
    unsteady = {test for test in worse if all(again(name, folder, test) for _ in range(AGAIN))}
    for test in unsteady:
        print(f"  not the same each time: {test}")
        del worse[test]
    otherwise = SUITES[name].other
    other = [test for test in worse if otherwise is not None and otherwise in test]
    print(f"{name} {version}: {len(passed) - len(worse)} of {len(passed)} pass with fastproc.subprocess too", end="")
    print(f"; {len(other)} want what is otherwise on purpose" if other else "")
    print(f"  children: {standard['children']} without it, {installed['children']} with it, of these", end=" ")
    print(f"{installed['allowed']} made by the standard library, because they have to be")
    for test, outcome in before.items():
        if outcome == "failed":
            print(f"  fails without it: {test}; with it: {after.get(test, 'not run')}")
    wrong = [f"{outcome} with it: {test}" for test, outcome in worse.items() if test not in other]
    wrong += [f"made by the standard library: {line}" for line in installed["forbidden"]]
    if not passed or not installed["children"]:
        wrong.append(f"nothing to compare: {len(passed)} passed, {installed['children']} children")
    if (standard["popen"], installed["popen"]) != ("subprocess", "fastproc.subprocess"):
        wrong.append(f"Popen was that of {standard['popen'] or None} and {installed['popen'] or None}")
    return [f"{name}: {fault}" for fault in wrong]


def main(names: list[str]) -> int:
    """Run what is asked for."""
    unknown = set(names) - set(SUITES)
    if unknown:
        raise SystemExit(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    make_environment()
    versions = pinned()
    wrong = [fault for name in names or SUITES for fault in compare(name, versions[name])]
    print("\n".join(wrong) or "passed")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
