"""The door to the lines that C makes (csrc/python/lines.c), an extension of its own."""

from __future__ import annotations

try:
    from fastproc._native._lines import Cut as Cut
except ImportError:
    # An sdist installs also where the compiler makes no such extension.
    Cut = None  # as fastproc._values.lines.Cut
