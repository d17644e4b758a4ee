"""Another interpreter of this one's kind: nothing is trusted there that is not trusted here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastproc._engine import interpreter
from fastproc.errors import Unsupported

SOURCE = str(Path(interpreter.__file__).parents[2])

PARENT = """
import json, sys
sys.path += json.loads(sys.argv[1])
from fastproc._engine import interpreter
import subprocess
import fastproc
line = interpreter.command("import fastproc; exec(sys.argv[1])", sys.argv[2])
child = subprocess.run(line, stdout=subprocess.PIPE, encoding="utf-8", check=True)
exec(sys.argv[2])
print(child.stdout, end="")
"""

SAID = """
import json, sys
names = {name for name in dir(sys.flags) if not name.startswith(("_", "n_"))} - {"count", "index"}
flags = {name: getattr(sys.flags, name) for name in names}
print(json.dumps([flags, sorted(set(sys.warnoptions)), sys.pycache_prefix, sys.modules["fastproc"].__file__]))
"""


def both(*options: str, env: dict[str, str] | None = None) -> list[Any]:
    """What the flags are in an interpreter, and in one that it has started."""
    paths = json.dumps([SOURCE, *(entry for entry in sys.path if "site-packages" in entry)])
    done = subprocess.run(
        [sys.executable, *options, "-c", PARENT, paths, SAID],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
        cwd="/",
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


OPTIONS = [
    ("-I",),
    ("-E",),
    ("-s",),
    ("-P",),
    ("-S",),
    ("-I", "-S", "-B"),
    ("-O",),
    ("-OO", "-b"),
    ("-bb",),
    ("-X", "dev"),
    ("-X", "utf8=1"),
    ("-X", "utf8=0"),
    ("-X", "int_max_str_digits=1000"),
    ("-X", "pycache_prefix=/nonexistent/cache"),
    ("-X", "warn_default_encoding"),
    ("-W", "error::ResourceWarning", "-W", "ignore:some text"),
    (),
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_interpreter_has_the_options_of_its_maker(options: tuple[str, ...]) -> None:
    """All flags but those by which it trusts less; the same fastproc."""
    mine, its = both(*options)
    for name, value in mine[0].items():
        if name in ("isolated", "ignore_environment", "no_user_site", "safe_path"):
            assert its[0][name] >= value
        else:
            assert (name, its[0][name]) == (name, value)
    assert mine[1:] == its[1:]
    assert its[0]["safe_path"]
    assert its[0]["isolated"] == int(os.geteuid() == 0 or "-I" in options)


def test_what_the_environment_has_said_reaches_an_interpreter_that_ignores_it() -> None:
    """PYTHONDONTWRITEBYTECODE and its like."""
    env = {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONOPTIMIZE": "1",
        "PYTHONUTF8": "1",
        "PYTHONWARNINGS": "error::UserWarning",
    }
    env |= {"PYTHONPYCACHEPREFIX": "/nonexistent/cache", "PYTHONINTMAXSTRDIGITS": "999", "PYTHONDEVMODE": "1"}
    mine, its = both(env=env)
    for name in ("dont_write_bytecode", "optimize", "utf8_mode", "int_max_str_digits", "dev_mode"):
        assert (name, its[0][name]) == (name, mine[0][name])
        assert its[0][name]
    assert mine[1:] == its[1:]


EVIL = "import os, sys\nos.write(int(os.environ['EVIL']), f'{__name__} as {os.geteuid()}\\n'.encode())\n"


@pytest.mark.parametrize("variable", ["PYTHONPATH", "PYTHONUSERBASE"])
@pytest.mark.parametrize("how", ["-I", "-E", ""])
def test_interpreter_runs_nobody_elses_code(how: str, variable: str, tmp_path: Path) -> None:
    """The environment has changed since this interpreter began: the one that it starts does not listen either."""
    if not how and os.geteuid() != 0:
        pytest.skip("who is neither isolated nor privileged believes his environment")
    evil = tmp_path / "evil"
    folder = evil
    if variable == "PYTHONUSERBASE":
        folder = evil / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    folder.mkdir(parents=True)
    for name in ("sitecustomize", "usercustomize", "json", "fastproc", "_json"):
        (folder / f"{name}.py").write_text(EVIL)
    read, write = os.pipe()
    change = f"import fastproc, os; os.environ[{variable!r}] = {str(evil)!r}\n"
    program = PARENT.replace("import fastproc\n", change).replace("check=True", f"check=True, pass_fds=[{write}]")
    paths = json.dumps([SOURCE, *(entry for entry in sys.path if "site-packages" in entry)])
    done = subprocess.run(
        [sys.executable, *([how] if how else []), "-c", program, paths, "pass"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "EVIL": str(write)},
        cwd="/",
        pass_fds=[write],
    )
    os.close(write)
    with open(read) as file:
        ran = file.read()
    assert (done.returncode, done.stderr) == (0, "")
    assert ran == ""


def test_relative_places_of_modules_are_only_for_ones_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keeper of root's runs none of the program's."""
    monkeypatch.setattr(sys, "path", ["", "lib", "/usr/lib/x", Path("/no/string")])
    everything = [os.getcwd(), os.path.abspath("lib"), "/usr/lib/x"]
    assert interpreter.path(True) == everything
    monkeypatch.setattr(interpreter, "is_privileged", lambda: True)
    assert interpreter.path(False) == ["/usr/lib/x"]
    monkeypatch.setattr(interpreter, "is_privileged", lambda: False)
    assert interpreter.path(False) == everything


@pytest.mark.parametrize(
    ("executable", "reason"),
    [(None, "know its own program"), ("", "know its own program"), ("bin/python", "not an absolute path")],
)
def test_interpreter_that_is_not_known_is_refused(
    executable: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(Unsupported, match=reason):
        interpreter.command("pass")


def test_frozen_program_is_not_an_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its executable would run the program again."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(Unsupported, match="frozen"):
        interpreter.program()
