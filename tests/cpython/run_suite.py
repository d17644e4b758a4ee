"""Run CPython's own tests of subprocess and asyncio's children against fastproc, on every Python that is here.

    python tests/cpython/run_suite.py                  all suites on 3.11, 3.12, 3.13
    python tests/cpython/run_suite.py subprocess 3.13 --only 'RunFuncTestCase.*'

The suites: `subprocess` (fastproc.subprocess), `asyncio` (fastproc.aio), `installed` (asyncio after
fastproc.install()) and `uvloop` (the same on uvloop's loop, from the package index).

The runners and the list of tests that look at the standard modules' private parts are not in this repository: they are
looked for in ../shared/suites or in $FASTPROC_SUITES; without them there is nothing to do, which is said. For each
Python the package is installed into build/suite, with its tools from the package index. Ends with 1 when a test of the
class `public` failed, a child or descriptor was left, or the standard library made a child that it need not make.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SUITES = Path(os.environ.get("FASTPROC_SUITES") or ROOT.parent / "shared" / "suites")
VERSIONS = ("3.11", "3.12", "3.13")
# The runner in SUITES, the module in the place of the standard one, arguments.
AVAILABLE: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "subprocess": ("run_cpython_suite.py", "fastproc_guarded", ()),
    "asyncio": ("run_asyncio_suite.py", "fastproc_aio_guarded", ("--tag", "loop")),
    "installed": ("run_asyncio_suite.py", "fastproc_installed", ("--tag", "loop")),
    "uvloop": ("run_asyncio_suite.py", "fastproc_installed_uvloop", ("--tag", "loop")),
}
# Grandchildren that tests leave behind on purpose, with any module: test_run_with_shell_timeout_and_capture_output, and
# test_kill_issue43884, which kills the shell of `sleep 1; sleep 1`. The runner, a subreaper, gets them, and reaps
# them at its end: the second is a zombie by then, of which no more than its name is known.
LEFT_BY_THE_SUITES = ("sleep 3", "sleep 1", "sleep")


def find_python(version: str) -> str | None:
    """Return an interpreter with its test suite, or None."""
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    found = [*sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python")), shutil.which(f"python{version}")]
    for python in found:
        trial = [python or "", "-c", f"import sys, test.test_subprocess; sys.exit(sys.version[:4] != {version!r})"]
        if python and subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            return python
    return None


def install(python: str, site: Path) -> None:
    """Install the package as it is now, for that interpreter."""
    shutil.rmtree(site, ignore_errors=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    subprocess.run([*pip, "install", "--root-user-action=ignore", "--target", str(site), str(ROOT)], check=True)


def install_uvloop(python: str, site: Path) -> bool:
    """Install uvloop beside it; return whether it could be."""
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input"]
    command = [*pip, "install", "--root-user-action=ignore", "--only-binary", ":all:", "--target", str(site), "uvloop"]
    return subprocess.run(command, check=False).returncode == 0


def run(version: str, suites: list[str], more: list[str]) -> list[str]:
    """Run suites on one Python; return what is wrong."""
    python = find_python(version)
    if python is None:
        print(f"{version}: skipped, no interpreter with its test suite is here")
        return []
    site = ROOT / "build" / "suite" / f"site-{version}"
    site.parent.mkdir(parents=True, exist_ok=True)
    install(python, site)
    wrong = []
    for suite in suites:
        if suite == "uvloop" and not install_uvloop(python, site):
            print(f"{version}: uvloop skipped, it cannot be installed")
            continue
        print(f"== {suite}")
        wrong += [f"{version}: {suite}: {fault}" for fault in run_suite(suite, version, python, site, more)]
    return wrong


def run_suite(suite: str, version: str, python: str, site: Path, more: list[str]) -> list[str]:
    """Run one suite; return what is wrong."""
    runner, module, options = AVAILABLE[suite]
    out, log = (site.with_name(f"{name}-{suite}-{version}") for name in ("report", "children"))
    log.unlink(missing_ok=True)
    out.unlink(missing_ok=True)
    command = [sys.executable, str(SUITES / runner), module, "--python", python, *options]
    command += ["--path", str(site), "--path", str(HERE), "--out", str(out)]
    subprocess.run([*command, *more], check=False, env={**os.environ, "FASTPROC_SUITE_LOG": str(log)})
    if not out.exists():
        return ["the suite's runner gave no report"]
    return faults(json.loads(out.read_text("utf-8")), log)


def faults(report: dict[str, Any], log: Path) -> list[str]:
    """Return what is wrong in a report, and in the list of children made by the standard library."""
    children = log.read_text("utf-8").splitlines() if log.exists() else []
    forbidden = [line for line in children if not line.startswith("allowed")]
    print(f"  children made by the standard library: {len(children) - len(forbidden)} because they have to be")
    found = [f"failed: {name}" for name in report["public_failures"]]
    found += [f"the run broke off: {report['fatal']}"] if report["fatal"] else []
    found += [f"left children: {name}" for name in report["tests_leaving_children"]]
    found += [f"left descriptors: {name}" for name in report["tests_leaking_fds"]]
    left = [process for process in report["leaked_processes"] if process["cmd"] not in LEFT_BY_THE_SUITES]
    found += [f"left at the end: {process}" for process in left]
    return found + [f"made by the standard library: {line}" for line in forbidden]


def main(arguments: list[str]) -> int:
    """Run what is asked for."""
    if not (SUITES / "run_cpython_suite.py").exists():
        print(f"skipped: no run_cpython_suite.py in {SUITES} (FASTPROC_SUITES names another folder)")
        return 0
    versions = [name for name in arguments if name in VERSIONS]
    suites = [name for name in arguments if name in AVAILABLE]
    more = [name for name in arguments if name not in VERSIONS and name not in AVAILABLE]
    chosen = suites or list(AVAILABLE)
    wrong = [fault for version in versions or VERSIONS for fault in run(version, chosen, more)]
    print("\n".join(wrong) or "passed")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
