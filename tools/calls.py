"""Which C file calls which in csrc, and the circles.

    python tools/calls.py            # the circles, largest first, with the calls; exit status 1 if there is one

Each file is compiled, and nm(1) says which names it defines and which it uses.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from build_ffi import core_sources  # noqa: E402
from imports import circles  # noqa: E402


def calls() -> dict[str, dict[str, str]]:
    """Return for each file the names that it uses of other files, and the files that define these."""
    defined: dict[str, str] = {}
    used: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in core_sources():
            target = f"{folder}/{source.replace('/', '-')}.o"
            command = ["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-w", f"-I{ROOT / 'csrc'}", "-c", "-o", target]
            subprocess.run([*command, str(ROOT / source)], check=True)
            used[source] = []
            for line in subprocess.run(["nm", target], check=True, capture_output=True, text=True).stdout.splitlines():
                *_, kind, name = line.split()
                if kind == "U":
                    used[source].append(name)
                elif kind in "TDBRC":
                    defined[name] = source
    return {
        source: {name: defined[name] for name in names if defined.get(name, source) != source}
        for source, names in used.items()
    }


def main() -> int:
    """Print the circles."""
    found: Mapping[str, Mapping[str, str]] = calls()
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
