"""Programs that are not ours and tell who they are: setpriv(1), capsh(1); and /proc read without fastproc."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def _told(*command: str) -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    program = shutil.which(command[0], path=path)
    if program is None:
        return ""
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, check=True).stdout


def _fields(text: str, separator: str) -> dict[str, str]:
    pairs = (line.split(separator, 1) for line in text.splitlines() if separator in line)
    return {key.strip(): value.strip() for key, value in pairs}


def setpriv() -> dict[str, str]:
    """What `setpriv --dump` says of a child of this process, by the words before the colon."""
    return _fields(_told("setpriv", "--dump"), ":")


def capsh() -> dict[str, str]:
    """What `capsh --print` says of a child of this process, by the words before the equals sign."""
    return _fields(_told("capsh", "--print"), "=")


def sets_of(task: str) -> list[str]:
    """Effective, permitted, inheritable, bounding, ambient as /proc/TASK/status has them; then ids, groups and flag."""
    shown = _fields(Path(f"/proc/{task}/status").read_text(), ":")
    keys = ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "Uid", "Gid", "Groups", "NoNewPrivs")
    return [shown[key] for key in keys]
