"""Modules that are loaded before a change of root or user, and what is refused after one of root."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated, wait_until
from fastproc._engine import loading
from support import daemons

SOURCE = Path(loading.__file__).parents[1]


def lazy_imports() -> set[str]:
    """What functions of fastproc import of the standard library."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        if "_commands" in path.parts or path.name == "__main__.py":
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import):
                        found.update(alias.name for alias in node.names)
                    elif isinstance(node, ast.ImportFrom) and node.module:
                        found.add(node.module)
    return {name for name in found if not name.startswith("fastproc")}


ALL = """
import sys
before = set(sys.modules)
from fastproc._engine import loading
loading.load_all()
loading.load_all()
print(*sorted(sys.modules))
"""


def test_all_modules_are_loaded_and_nobody_elses() -> None:
    """Each file of fastproc, and each module that a function of its imports."""
    done = subprocess.run([sys.executable, "-c", ALL], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    ours = set()
    for path in SOURCE.rglob("*.py"):
        name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        ours.add(name)
    left_out = {name for name in ours if "._commands" in name} | {"fastproc.__main__", *loading.OPTIONAL}
    assert ours - loaded - left_out == set()
    assert lazy_imports() - loaded == set()
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"fastproc", "_cffi_backend"}
    # What .pth files load belongs to the installation.
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert foreign - {name.partition(".")[0] for name in bare.stdout.split()} <= {"psutil"}


def test_optional_modules_are_loaded_with_their_package() -> None:
    """Who uses trio may use it in the new root, too."""
    pytest.importorskip("trio")
    program = "import trio, sys; from fastproc._engine import loading; loading.load_all(); import fastproc.aio._trio"
    program = program.replace("import fastproc", "print('fastproc.aio._trio' in sys.modules); import fastproc")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"


# -- a daemon in another root

EVIL = "import os; os.write(1, ('foreign: ' + __name__ + '\\n').encode())\n"

IN_THE_ROOT = """
import os, signal, sys
from fastproc.daemon import Daemon
place, root, user = sys.argv[1:]
one = Daemon(pid_file=place + "/x.pid", stdout=place + "/log", stderr=place + "/err", chroot=root, user=user or None)
outcome = one.execute()
if outcome.is_parent:
    print(outcome.pid)
    sys.exit()
def tried(name, call):
    try:
        call()
        print(name, "done", flush=True)
    except Exception as error:
        print(name, type(error).__name__, error, flush=True)
import fastproc
def pool():
    with fastproc.Pool(2) as pool:
        list(pool.map(lambda item: fastproc.cmd("/sleep", item), "ab", check=False, timeout=0.01))
def loop():
    import asyncio
    from fastproc import aio
    asyncio.run(aio.run("/missing"))
def everything():
    import fastproc.subprocess, fastproc.signals, fastproc.syslog, fastproc.systemd, fastproc.users, fastproc.monitor
    for name in fastproc.__all__:
        getattr(fastproc, name)
tried("pipeline", lambda: (fastproc.cmd("/sleep") | fastproc.cmd("/sleep")).run(timeout=0.01, check=False))
tried("pool", pool)
tried("map", lambda: list(fastproc.map("/missing", "ab", progress=print)))
tried("loop", loop)
tried("names", everything)
tried("snapshot", lambda: fastproc.snapshot(["pid"]))
tried("look-up", lambda: fastproc.run("/sleep", user="nobody-of-this-name"))
tried("line", lambda: fastproc.run("/sleep", on_line=print, capture=fastproc.MEMFD, timeout=0.01, check=False))
tried("codec", lambda: "a".encode("idna"))
tried("unknown codec", lambda: "a".encode("cp437"))
tried("time", lambda: __import__("time").strptime("1", "%d"))
tried("not loaded", lambda: __import__("wave"))
tried("package", lambda: __import__("another"))
tried("part of a package", lambda: __import__("xml.dom"))
tried("built in", lambda: __import__("_sre"))
tried("frozen", lambda: __import__("__hello__"))
tried("interpreter", lambda: Daemon(pid_file="/x.pid").spawn("/sleep"))
try:
    1 / 0
except ZeroDivisionError:
    import traceback
    tried("traceback", traceback.format_exc)
print("end", flush=True)
outcome.ready()
signal.pause()
"""


def in_another_root(user: str) -> list[str]:
    place, root = daemons.folder(), daemons.folder()
    shutil.copy(daemons.static_sleep(place), root / "sleep")
    # Whoever may write there has put modules where this interpreter looks for them.
    names = ("wave", "another", "xml", "_strptime", "asyncio", "encodings", "stringprep", "fastproc", "linecache")
    for folder in {entry for entry in sys.path if entry and not entry.endswith(".zip")} | {str(SOURCE.parent)}:
        inside = root / folder.lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        for name in names:
            (inside / name).mkdir(exist_ok=True)
            (inside / name / "__init__.py").write_text(EVIL)
    inner = root / str(SOURCE).lstrip("/")
    for path in SOURCE.rglob("*.py"):
        target = inner / path.relative_to(SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(EVIL)
    done = daemons.python(IN_THE_ROOT, place, root, user)
    log = place / "log"
    wait_until(lambda: log.exists() and "end\n" in log.read_text())
    os.kill(int(done.stdout), signal.SIGKILL)
    return [*log.read_text().splitlines(), (place / "err").read_text()]


@pytest.mark.privileged
@pytest.mark.usefixtures("pid_namespace")
@pytest.mark.parametrize("user", ["", "nobody"])
def test_daemon_in_another_root_imports_nothing_of_it(user: str) -> None:
    """All of fastproc works as far as there are files; what is not loaded is refused with a sentence."""
    found = isolated(in_another_root, user, pid_namespace=True)
    assert [line for line in found if "foreign: " in line] == []
    said = dict(line.split(" ", 1) for line in found[:-1] if " " in line)
    assert said["pipeline"].startswith("TimeoutExpired")
    assert "Module" not in said["pool"]
    assert said["map"].startswith("Spawn")
    assert said["loop"].startswith("Spawn")
    assert said["names"] == "done"
    assert "Module" not in said["snapshot"]
    assert said["look-up"].startswith("UnknownUser")
    assert "Module" not in said["line"]
    for name in ("codec", "time", "traceback", "frozen"):
        assert (name, said[name]) == (name, "done")
    why = "it was not imported before the chroot, and imports from files are refused after it: "
    lines = [line for line in found if why in line]
    assert [line.partition(" ModuleNotFoundError ")[2] for line in lines] == [
        f"{name}: {why}import it before" for name in ("wave", "another", "xml")
    ]
    assert "unknown codec LookupError unknown encoding: cp437" in found
    assert said["interpreter"].startswith("Unsupported this process is in another root")
    assert found[-1] == ""


# -- another user

DROPS = """
import os, sys
shown = sys.argv[2]
from fastproc import privileges
def use():
    import fastproc
    (fastproc.cmd("true") | fastproc.cmd("true")).run()
    with fastproc.Pool(1) as pool:
        list(pool.map(lambda _: fastproc.cmd("true"), "a"))
    return fastproc.snapshot(["pid"]) is not None
if shown == "drop":
    privileges.drop_privileges("nobody")
    print(use())
else:
    with privileges.temporarily("nobody"):
        print(use())
    import fastproc.monitor, fastproc.mapping
"""


def unreadable(how: str) -> list[Any]:
    """A package that only root can read, as `pip install` with umask 077 leaves it."""
    place = daemons.folder()
    shutil.copytree(SOURCE, place / "lib" / "fastproc", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "lib").chmod(0o755)
    (place / "lib" / "fastproc").chmod(0o700)
    program = f"import sys; sys.path.insert(0, {str(place / 'lib')!r})\n" + DROPS
    done = daemons.python(program, place, how)
    return [done.stdout, done.stderr]


@pytest.mark.privileged
@pytest.mark.usefixtures("pid_namespace")
@pytest.mark.parametrize("how", ["drop", "temporarily"])
def test_modules_that_the_new_user_cannot_read_are_loaded_before(how: str) -> None:
    """All of fastproc works after it, and inside."""
    assert isolated(unreadable, how, pid_namespace=True) == ["True\n", ""]


def test_what_everybody_can_read_is_not_loaded_before() -> None:
    """It would cost 0.3 s."""
    readable = loading._is_for_all("/usr/bin") and not loading._is_for_all("/root") and not loading._is_for_all("/none")
    assert readable or os.stat("/root").st_mode & 0o5 == 0o5
