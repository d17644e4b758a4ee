"""Run CPython's own tests of subprocess and asyncio's children against fastproc, on Python 3.11, 3.12 and 3.13.

    python tests/cpython/run_suite.py                  all suites on all three
    python tests/cpython/run_suite.py subprocess 3.13 --only 'RunFuncTestCase.*'

The suites: `subprocess` (fastproc.subprocess), `asyncio` (fastproc.aio), `installed` (asyncio after
fastproc.install()) and `uvloop` (the same on uvloop's loop, from the package index).

The tests are those of each Python's own test package; README.md has the rest. For each Python the package is installed
into build/suite, with its tools from the package index. Ends with 1 when a suite could not be run, a public test
failed, a child or descriptor was left, or the standard library made a child that it need not make.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness
from harness import Options, Suite

ROOT = harness.HERE.parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
SUBPROCESS = ("subprocess", "test.test_subprocess", "excluded_subprocess.json")
ASYNCIO = ("asyncio", "test.test_asyncio.test_subprocess", "excluded_asyncio.json")
SUITES = {
    "subprocess": Suite(*SUBPROCESS, "fastproc_guarded"),
    "asyncio": Suite(*ASYNCIO, "fastproc_aio_guarded"),
    "installed": Suite(*ASYNCIO, "fastproc_installed"),
    "uvloop": Suite(*ASYNCIO, "fastproc_installed_uvloop"),
}
# Grandchildren that tests leave behind on purpose, with any module: test_run_with_shell_timeout_and_capture_output, and
# test_kill_issue43884, which kills the shell of `sleep 1; sleep 1`. The harness, a subreaper, gets them, and reaps
# them at its end: the second is a zombie by then, of which no more than its name is known.
LEFT_BY_THE_SUITES = ("sleep 3", "sleep 1", "sleep")


def find_python(version: str) -> str | None:
    """Return an interpreter with its test package, or None."""
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    found = [*sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python")), shutil.which(f"python{version}")]
    for python in found:
        trial = [python or "", "-c", f"import sys, test.test_subprocess; sys.exit(sys.version[:4] != {version!r})"]
        if python and subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            return python
    return None


def install(python: str, site: Path, *what: str) -> bool:
    """Install packages for that interpreter, from source or the package index; return whether it could be done."""
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    options = ("--root-user-action=ignore", "--target", str(site))
    return subprocess.run([*pip, "install", *options, *what], check=False).returncode == 0


def run(version: str, python: str, suites: list[str], options: Options) -> list[str]:
    """Run suites on one Python; return what is wrong."""
    site = harness.BUILD / f"site-{version}"
    site.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(site, ignore_errors=True)
    if not install(python, site, str(ROOT)):
        return [f"{version}: the package could not be installed"]
    environment = harness.make_environment(python, version)
    wrong = []
    for suite in suites:
        print(f"== {suite}, {version}", flush=True)
        if suite == "uvloop" and not install(python, site, "--only-binary", ":all:", "uvloop"):
            wrong.append(f"{version}: uvloop: uvloop could not be installed; name the other suites to run without it")
            continue
        out, children, log = (harness.BUILD / f"{name}-{suite}-{version}" for name in ("report", "children", "log"))
        for path in (out, children, log):
            path.unlink(missing_ok=True)
        os.environ["FASTPROC_SUITE_LOG"] = str(children)
        report = harness.run_suite(python, environment, version, SUITES[suite], [site, harness.HERE], log, options)
        out.write_text(json.dumps(report, indent=1))
        show(report, out)
        wrong += [f"{version}: {suite}: {fault}" for fault in faults(report, children)]
    return wrong


def show(report: dict[str, Any], out: Path) -> None:
    """Print what a suite came to."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(report["outcomes"].items()))
    print(f"  {report['suite']}, {report['target']}: {len(report['tests'])} tests in {report['seconds']} s: {counts}")
    for name in report["public_failures"]:
        result = report["tests"][name]
        print(f"  {result['outcome']}: {name}: {''.join(result['msg'].strip().splitlines()[-1:])}")
    print(f"  report: {out}")


def faults(report: dict[str, Any], log: Path) -> list[str]:
    """Return what is wrong in a report, and in the list of children made by the standard library."""
    children = log.read_text("utf-8").splitlines() if log.exists() else []
    forbidden = [line for line in children if not line.startswith("allowed")]
    print(f"  children made by the standard library: {len(children) - len(forbidden)} because they have to be")
    found = [f"failed: {name}" for name in report["public_failures"]]
    found += [f"the run broke off: {report['fatal']}"] if report["fatal"] else []
    found += [] if report["passed"] else ["no test passed"]
    found += [f"left children: {name}" for name in report["tests_leaving_children"]]
    found += [f"left descriptors: {name}" for name in report["tests_leaking_fds"]]
    left = [process for process in report["leaked_processes"] if process["cmd"] not in LEFT_BY_THE_SUITES]
    found += [f"left at the end: {process}" for process in left]
    return found + [f"made by the standard library: {line}" for line in forbidden]


def main(arguments: list[str]) -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    words = [*SUITES, *VERSIONS]
    parser.add_argument("what", nargs="*", metavar="what", help=f"all by default: {', '.join(words)}")
    parser.add_argument("--only", action="append", default=[], help="run the tests whose names match this pattern")
    parser.add_argument("--all", action="store_true", help="run the excluded tests too")
    parser.add_argument("--shuffle", type=int, metavar="SEED", help="in another order")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each test")
    asked = parser.parse_args(arguments)
    for word in asked.what:
        if word not in words:
            parser.error(f"{word} is not one of {', '.join(words)}")
    versions = [name for name in VERSIONS if name in asked.what] or list(VERSIONS)
    suites = [name for name in SUITES if name in asked.what] or list(SUITES)
    if sys.platform != "linux":
        sys.exit("make suite cannot run here: it needs Linux's subreaper and /proc")
    pythons = {version: find_python(version) for version in versions}
    missing = [version for version, python in pythons.items() if python is None]
    if missing:
        there = " ".join(version for version in versions if version not in missing)
        instead = f', or run it on what is here: make suite SUITE_ARGS="{there}"' if there else ""
        sys.exit(
            f"make suite cannot run: no Python {' or '.join(missing)} with its test package (test.test_subprocess) "
            f"is in ~/.pyenv/versions or on PATH. Install it{instead}"
        )
    options = Options(asked.only, asked.all, asked.shuffle, asked.verbose)
    wrong = [fault for version in versions for fault in run(version, pythons[version] or "", suites, options)]
    print("\n".join(wrong) or "passed")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
