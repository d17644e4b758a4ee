"""Stands for fastproc.subprocess in CPython's suite, and writes down every child that the standard library makes.

Lines of the file FASTPROC_SUITE_LOG: "allowed" where preexec_fn, user, group or extra_groups ask for it, else
"forbidden" with the arguments. In the child interpreters of the suite too.
"""

from __future__ import annotations

import _posixsubprocess
import os
import subprocess as standard
import sys
from typing import Any

import fastproc.subprocess

LOG = os.environ.get("FASTPROC_SUITE_LOG", os.devnull)
# gid, gids, uid, preexec_fn among the arguments of fork_exec(), from 3.11 to 3.13 at least.
ALLOWING = (17, 18, 19, 21)


def _write(word: str, args: tuple[Any, ...]) -> None:
    fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        os.write(fd, f"{word} {args[:2]!r}\n".encode("utf-8", "backslashreplace"))
    finally:
        os.close(fd)


def _fork_exec(*args: Any, _real: Any = _posixsubprocess.fork_exec) -> Any:
    _write("allowed" if any(args[index] is not None for index in ALLOWING) else "forbidden", args)
    return _real(*args)


def _posix_spawn(*args: Any, _real: Any = os.posix_spawn, **options: Any) -> int:
    _write("forbidden", args)
    return _real(*args, **options)


standard._fork_exec = _fork_exec  # type: ignore[attr-defined]
os.posix_spawn = _posix_spawn
sys.modules[__name__] = fastproc.subprocess
