"""Which C file calls which in csrc, and the circles.

    python tools/calls.py            # the circles, largest first, with the calls; exit status 1 if there is one
    python tools/calls.py --edges    # every pair of files: FILE -> FILE, with the names
    python tools/calls.py --faults   # of the build with fault points
    python tools/calls.py --folders  # every pair of folders; `.` is csrc itself

Each file is compiled, and nm(1) says which names it defines and which it uses. The launcher is a program of its own:
it uses files of the core, and none of them can use it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from build_ffi import core_sources  # noqa: E402
from imports import circles  # noqa: E402

LAUNCHER = "csrc/spawn/launcher.c"
FAULTS = "-DFP_FAULTS=1"


def calls(*flags: str) -> dict[str, dict[str, str]]:
    """Return for each file, compiled with the flags, the names that it uses of others, and who defines these."""
    defined: dict[str, str] = {}
    used: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in (*core_sources(), LAUNCHER):
            target = f"{folder}/{source.replace('/', '-')}.o"
            command = [
                "cc",
                "-std=gnu11",
                "-D_GNU_SOURCE",
                "-O1",
                "-w",
                f"-I{ROOT / 'csrc'}",
                *flags,
                "-c",
                "-o",
                target,
            ]
            subprocess.run([*command, str(ROOT / source)], check=True)
            used[source] = []
            for line in subprocess.run(["nm", target], check=True, capture_output=True, text=True).stdout.splitlines():
                *_, kind, name = line.split()
                if kind == "U":
                    used[source].append(name)
                elif kind in "TDBRC" and source != LAUNCHER:
                    defined[name] = source
    return {
        source: {name: defined[name] for name in names if defined.get(name, source) != source}
        for source, names in used.items()
    }


def folder(source: str) -> str:
    """Return the folder of a file below csrc; `.` for csrc itself."""
    return str(Path(source).parent.relative_to("csrc"))


def main() -> int:
    """Print the circles."""
    parser = argparse.ArgumentParser(description="Which C file calls which in csrc, and the circles.")
    parser.add_argument("--edges", action="store_true", help="print every pair of files, with the names")
    parser.add_argument("--folders", action="store_true", help="print every pair of folders")
    parser.add_argument("--faults", action="store_true", help="look at the build with fault points")
    options = parser.parse_args()
    found: Mapping[str, Mapping[str, str]] = calls(*([FAULTS] if options.faults else []))
    pairs = {(source, file) for source, names in found.items() for file in names.values()}
    if options.edges:
        for source, file in sorted(pairs):
            print(f"{source} -> {file}: {', '.join(sorted(n for n, at in found[source].items() if at == file))}")
    if options.folders:
        for mine, theirs in sorted({(folder(a), folder(b)) for a, b in pairs if folder(a) != folder(b)}):
            print(f"{mine} -> {theirs}")
    left = circles({source: sorted(set(names.values())) for source, names in found.items()})
    for circle in left:
        print(f"{len(circle)} files: {' '.join(circle)}")
        for source in circle:
            inside = sorted(f"{name} ({file})" for name, file in found[source].items() if file in circle)
            print(f"  {source}: {', '.join(inside)}")
    print(f"{len(left)} circles" if left else "no circles")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
