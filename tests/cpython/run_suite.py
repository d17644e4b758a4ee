"""Run CPython's own test_subprocess against fastproc.subprocess, on every supported Python that is here.

    python tests/cpython/run_suite.py                  3.11, 3.12, 3.13
    python tests/cpython/run_suite.py 3.13 --only 'RunFuncTestCase.*'

The runner and the list of tests that look at the standard module's private parts are not in this repository: they are
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
# A grandchild that test_run_with_shell_timeout_and_capture_output leaves behind on purpose, with any module.
LEFT_BY_THE_SUITE = "sleep 3"


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


def run(version: str, more: list[str]) -> list[str]:
    """Run the suite on one Python; return what is wrong."""
    python = find_python(version)
    if python is None:
        print(f"{version}: skipped, no interpreter with its test suite is here")
        return []
    build = ROOT / "build" / "suite"
    build.mkdir(parents=True, exist_ok=True)
    site, out, log = build / f"site-{version}", build / f"report-{version}.json", build / f"children-{version}.log"
    install(python, site)
    log.unlink(missing_ok=True)
    out.unlink(missing_ok=True)
    command = [sys.executable, str(SUITES / "run_cpython_suite.py"), "fastproc_guarded", "--python", python]
    command += ["--path", str(site), "--path", str(HERE), "--out", str(out)]
    subprocess.run([*command, *more], check=False, env={**os.environ, "FASTPROC_SUITE_LOG": str(log)})
    if not out.exists():
        return [f"{version}: the suite's runner gave no report"]
    return [f"{version}: {fault}" for fault in faults(json.loads(out.read_text("utf-8")), log)]


def faults(report: dict[str, Any], log: Path) -> list[str]:
    """Return what is wrong in a report, and in the list of children made by the standard library."""
    children = log.read_text("utf-8").splitlines() if log.exists() else []
    forbidden = [line for line in children if not line.startswith("allowed")]
    print(f"  children made by the standard library: {len(children) - len(forbidden)} because they have to be")
    found = [f"failed: {name}" for name in report["public_failures"]]
    found += [f"the run broke off: {report['fatal']}"] if report["fatal"] else []
    found += [f"left children: {name}" for name in report["tests_leaving_children"]]
    found += [f"left descriptors: {name}" for name in report["tests_leaking_fds"]]
    found += [f"left at the end: {left}" for left in report["leaked_processes"] if left["cmd"] != LEFT_BY_THE_SUITE]
    return found + [f"made by the standard library: {line}" for line in forbidden]


def main(arguments: list[str]) -> int:
    """Run what is asked for."""
    if not (SUITES / "run_cpython_suite.py").exists():
        print(f"skipped: no run_cpython_suite.py in {SUITES} (FASTPROC_SUITES names another folder)")
        return 0
    versions = [name for name in arguments if name in VERSIONS]
    more = [name for name in arguments if name not in VERSIONS]
    wrong = [fault for version in versions or VERSIONS for fault in run(version, more)]
    print("\n".join(wrong) or "passed")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
