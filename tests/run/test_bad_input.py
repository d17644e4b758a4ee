"""Wrong arguments, missing files, full disks: one clear error each, at once, and nothing left behind."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastproc
from conftest import isolated
from support.programs import Programs

# Call, exception, what the message must contain.
WRONG_VALUES: dict[str, tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = {
    "NUL in argument": (lambda: fastproc.run("echo", "a", "b\0c"), ValueError, ("argument 2", "NUL")),
    "NUL in program": (lambda: fastproc.run("ec\0ho"), ValueError, ("NUL",)),
    "NUL in env value": (lambda: fastproc.run("true", env={"A": "b\0c"}), ValueError, ("env", "'A'", "NUL")),
    "NUL in env name": (lambda: fastproc.run("true", env={"A\0": "b"}), ValueError, ("env", "NUL")),
    "NUL in cwd": (lambda: fastproc.run("true", cwd="/tm\0p"), ValueError, ("cwd", "NUL")),
    "NUL in argv0": (lambda: fastproc.run("true", argv0="a\0"), ValueError, ("argv0", "NUL")),
    "NUL in a path": (lambda: fastproc.run("true", stdout="/tm\0p"), ValueError, ("stdout", "NUL")),
    "'=' in a name": (lambda: fastproc.run("true", env_add={"A=B": "c"}), ValueError, ("env_add", "'A=B'")),
    "empty name": (lambda: fastproc.run("true", env={"": "c"}), ValueError, ("env",)),
    "'=' in a removed name": (lambda: fastproc.run("true", env_remove=["A=B"]), ValueError, ("env_remove",)),
    "empty argv": (lambda: fastproc.run([]), ValueError, ("argv",)),
    "empty program": (lambda: fastproc.run(""), ValueError, ("argument 0", "empty")),
    "empty argv of Command": (lambda: fastproc.Command(()), ValueError, ("argv",)),
    "negative fd": (lambda: fastproc.run("true", stdout=-7), ValueError, ("stdout", "-7")),
    "negative fd in fds": (lambda: fastproc.run("true", fds={5: -1}), ValueError, ("fds", "-1")),
    "negative target": (lambda: fastproc.run("true", fds={-5: 1}), ValueError, ("fds", "-5")),
    "bool as fd": (lambda: fastproc.run("true", stdin=True), TypeError, ("stdin",)),
    "standard stream in fds": (lambda: fastproc.run("true", fds={1: 2}), ValueError, ("fds", "stdout")),
    "number as argument": (lambda: fastproc.run("echo", 3), TypeError, ("argument 1", "int")),  # type: ignore[arg-type]
    "str as input": (lambda: fastproc.run("cat", input="x"), TypeError, ("input", "encode")),  # type: ignore[arg-type]
    "item of a list": (lambda: fastproc.run("cat", input=_items("list")), TypeError, ("input", "item 1", "str")),
    "item of a tuple": (lambda: fastproc.cmd("cat", input=_items("tuple")), TypeError, ("input", "item 1", "str")),
    "input and stdin": (lambda: fastproc.run("cat", input=b"", stdin=0), ValueError, ("input", "stdin")),
    "NaN": (lambda: fastproc.run("true", timeout=float("nan")), ValueError, ("timeout", "nan")),
    "negative time": (lambda: fastproc.run("true", timeout=-1), ValueError, ("timeout", "-1")),
    "unknown option": (lambda: fastproc.run("true", cdw="/"), TypeError, ("cdw", "cwd")),  # type: ignore[call-arg]
    "unknown signal": (lambda: fastproc.run("true", sigmask=["NOSUCH"]), ValueError, ("sigmask", "NOSUCH")),
    "unknown limit": (lambda: fastproc.run("true", rlimits={"NOSUCH": 1}), ValueError, ("rlimits", "NOSUCH")),
    "soft above hard": (lambda: fastproc.run("true", rlimits={"CORE": (2, 1)}), ValueError, ("rlimits", "soft")),
    "signals to ignore": (lambda: fastproc.run("true", sigignore=["KILL"]), ValueError, ("sigignore", "SIGKILL")),
    "nice": (lambda: fastproc.run("true", nice=20), ValueError, ("nice", "20")),
    "umask": (lambda: fastproc.run("true", umask=0o1000), ValueError, ("umask",)),
    "ctty without setsid": (lambda: fastproc.run("true", ctty=0), ValueError, ("ctty", "setsid")),
    "pgid and setsid": (lambda: fastproc.run("true", pgid=0, setsid=True), ValueError, ("pgid", "setsid")),
    "pdeathsig 0": (lambda: fastproc.run("true", pdeathsig=0), ValueError, ("pdeathsig",)),
    "input of start": (lambda: fastproc.start("cat", input=b""), ValueError, ("input", "write()")),
    "timeout of start": (lambda: fastproc.start("true", timeout=1), ValueError, ("timeout", "wait(")),
    "ok_codes of start": (lambda: fastproc.cmd("true", ok_codes=1).start(), ValueError, ("ok_codes", "wait()")),
    "closed file": (lambda: fastproc.run("true", stdout=_closed_file()), ValueError, ("closed",)),
}


def _items(kind: str) -> Any:
    return {"list": list, "tuple": tuple}[kind]([b"a", "b"])


def _closed_file() -> Any:
    file = open("/dev/null", "wb")  # noqa: SIM115  # closed at once
    file.close()
    return file


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_wrong_value_is_named_before_any_child_exists(case: str) -> None:
    """A ValueError or TypeError that says which argument and why."""
    call, kind, parts = WRONG_VALUES[case]
    with pytest.raises(kind) as caught:
        call()
    missing = [part for part in parts if part not in str(caught.value)]
    assert missing == [], str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Files that cannot be used, each in its own way."""
    (tmp_path / "plain").write_text("no program")
    (tmp_path / "folder").mkdir()
    script = tmp_path / "script"
    script.write_text("#!/nonexistent/interpreter -x\n")
    script.chmod(0o755)
    bare = tmp_path / "bare"
    bare.write_text("echo no first line\n")
    bare.chmod(0o755)
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


# Program or options, exception, errno, stage, part of the message. {p} is the folder.
REFUSED: dict[str, tuple[str, dict[str, Any], type[OSError], int, str, str]] = {
    "missing program": ("nosuch-program", {}, FileNotFoundError, errno.ENOENT, "exec", "searched"),
    "missing path": ("/no/such/program", {}, FileNotFoundError, errno.ENOENT, "exec", "no such file"),
    "missing interpreter": ("{p}/script", {}, FileNotFoundError, errno.ENOENT, "exec", "/nonexistent/interpreter"),
    "not executable": ("{p}/plain", {}, PermissionError, errno.EACCES, "exec", "not executable"),
    "directory": ("{p}/folder", {}, PermissionError, errno.EACCES, "exec", "directory"),
    "through a file": ("{p}/plain/x", {}, NotADirectoryError, errno.ENOTDIR, "exec", "plain"),
    "no first line": ("{p}/bare", {}, OSError, errno.ENOEXEC, "exec", "#!"),
    "loop of links": ("{p}/loop", {}, OSError, errno.ELOOP, "exec", "loop"),
    "missing cwd": ("true", {"cwd": "{p}/none"}, FileNotFoundError, errno.ENOENT, "cwd", "{p}/none"),
    "cwd is a file": ("true", {"cwd": "{p}/plain"}, NotADirectoryError, errno.ENOTDIR, "cwd", "{p}/plain"),
    "missing input": ("cat", {"stdin": "{p}/none"}, FileNotFoundError, errno.ENOENT, "redirect", "{p}/none"),
    "output into nothing": ("ls", {"stdout": "{p}/none/x"}, FileNotFoundError, errno.ENOENT, "redirect", "{p}/none/x"),
    "output is a directory": (
        "ls",
        {"stdout": "{p}/folder"},
        IsADirectoryError,
        errno.EISDIR,
        "redirect",
        "{p}/folder",
    ),
    "stderr is a directory": (
        "ls",
        {"stderr": "{p}/folder"},
        IsADirectoryError,
        errno.EISDIR,
        "redirect",
        "{p}/folder",
    ),
    "cgroup is no cgroup": ("true", {"cgroup": "{p}/folder"}, OSError, 0, "", ""),
    "missing cgroup": ("true", {"cgroup": "{p}/none"}, FileNotFoundError, errno.ENOENT, "cgroup", "{p}/none"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("door", ["run", "start"])
def test_refusal_says_errno_stage_and_file(mechanism: str, place: Path, case: str, door: str) -> None:
    """GOTCHAS B7: the right OSError subclass, errno, stage, and the file concerned."""
    program, options, kind, number, stage, part = REFUSED[case]
    options = {name: value.format(p=place) for name, value in options.items()}
    with pytest.raises(fastproc.SpawnError) as caught:
        getattr(fastproc, door)(program.format(p=place), **options)
    error = caught.value
    assert isinstance(error, kind)
    if number:
        assert (error.errno, error.stage) == (number, stage)
    assert part.format(p=place) in str(error)
    assert error.argv[0] == program.format(p=place)


@pytest.mark.privileged
def test_unreadable_file_is_a_permission_error(place: Path) -> None:
    """What may not be read says so; root may read all, so this is tried as nobody."""
    secret = place / "secret"
    secret.write_text("x")
    secret.chmod(0)
    place.chmod(0o755)
    for folder in place.parents:
        if folder.owner() == "root" and str(folder).startswith("/tmp/pytest"):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    assert isolated(as_nobody, str(secret)) == [
        ["PermissionError", errno.EACCES, "redirect"],
        ["PermissionError", errno.EACCES, "redirect"],
        ["PermissionError", errno.EACCES, "cwd"],
    ]


def as_nobody(secret: str) -> list[Any]:
    import fastproc

    locked = os.path.join(os.path.dirname(secret), "locked")
    os.mkdir(locked, 0o700)
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    found = []
    cases: list[dict[str, Any]] = [{"stdin": secret}, {"stdout": secret}, {"cwd": locked}]
    for options in cases:
        try:
            fastproc.run("/bin/cat", **options)
        except fastproc.SpawnError as error:
            kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins")
            found.append([kind, error.errno, error.stage])
    return found


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_full_disk_is_the_programs_error_with_its_words(mechanism: str, engine: str) -> None:
    """Output to a full disk: the program fails, and its own message is in the exception."""
    with pytest.raises(fastproc.ExitError) as caught:
        fastproc.run("cat", "/etc/passwd", stdout="/dev/full", stderr=fastproc.PIPE)
    assert caught.value.returncode == 1
    assert "No space left" in str(caught.value)


LIMIT = 32 * resource.getpagesize()


@pytest.mark.parametrize("door", ["run", "start"])
def test_one_argument_at_the_limit(mechanism: str, door: str) -> None:
    """GOTCHAS F7: one byte below the limit works; at the limit E2BIG names the argument, its size, and the limit."""
    fits, too_long = "x" * (LIMIT - 1), "x" * LIMIT
    outcome = getattr(fastproc, door)("true", fits)
    assert (outcome.returncode if door == "run" else outcome.wait()) == 0
    with pytest.raises(fastproc.SpawnError) as caught:
        getattr(fastproc, door)("true", "a", too_long)
    assert caught.value.errno == errno.E2BIG
    for part in ("argument 2", str(LIMIT), str(LIMIT - 1)):
        assert part in str(caught.value)


def test_one_variable_too_long() -> None:
    """The same for a variable, name and value together."""
    with pytest.raises(fastproc.SpawnError) as caught:
        fastproc.run("true", env_add={"LONG": "x" * LIMIT})
    assert caught.value.errno == errno.E2BIG
    assert "LONG" in str(caught.value)
    assert fastproc.run("true", env_add={"LONG": "x" * (LIMIT - 6)}).ok


def test_all_arguments_together_too_long(mechanism: str, engine: str) -> None:
    """Many arguments beyond a quarter of the stack limit: E2BIG with the size and the limit."""
    many = ["x" * 100_000] * 100
    with pytest.raises(fastproc.SpawnError) as caught:
        fastproc.run("true", *many)
    text = str(caught.value)
    assert caught.value.errno == errno.E2BIG
    assert str(os.sysconf("SC_ARG_MAX")) in text
    assert "limit" in text
    assert len(text) < 1000


def test_hundred_thousand_arguments(mechanism: str, engine: str) -> None:
    """GOTCHAS A9: long vectors are no matter for the child's small stack."""
    result = fastproc.run("sh", "-c", "echo $#", "sh", *(["a"] * 100_000), capture=True)
    assert result.stdout == b"100000\n"


def test_long_search_path(mechanism: str) -> None:
    """GOTCHAS A9: elements of PATH of 4 KiB each; the kernel's ENAMETOOLONG counts as not found."""
    path = ":".join(["/" + "x" * 4090, "/" + "y" * 5000, "/bin:/usr/bin"])
    assert fastproc.run("true", env={"PATH": path}).ok


def test_no_room_for_processes(mechanism: str) -> None:
    """EAGAIN at the limit of processes is a BlockingIOError of stage clone, as os.fork() has it."""
    found = isolated(at_process_limit, mechanism)
    if found == ["root is not limited"]:
        return
    assert found[:3] == ["BlockingIOError", errno.EAGAIN, "clone"]
    assert "RLIMIT_NPROC of this user (0), pids.max of the cgroup" in found[3]


def at_process_limit(mechanism: str) -> list[Any]:
    import fastproc
    from fastproc import _native

    _native.features()
    _native.force(mechanism)
    if os.geteuid() == 0:
        os.setresgid(65533, 65533, 65533)
        os.setresuid(65533, 65533, 65533)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    try:
        fastproc.run("/bin/true")
    except fastproc.SpawnError as error:
        kind = next(base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins")
        return [kind, error.errno, error.stage, str(error)]
    return ["root is not limited"]


def test_no_room_for_descriptors(mechanism: str, programs: Programs) -> None:
    """GOTCHAS C9: with the limit of descriptors stepped up from 3, each spawn works or says EMFILE; 0, 1, 2 stay."""
    found = isolated(with_few_descriptors, programs.static_exit, mechanism)
    assert found["wrong"] == []
    assert found["worked"] > 0
    assert found["failed"] > 3


def with_few_descriptors(static_exit: str, mechanism: str) -> dict[str, Any]:
    import fastproc
    from fastproc import _native
    from support import observe

    fastproc.run("true", capture=True)
    _native.features()
    _native.force(mechanism)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    before = [os.fstat(fd).st_ino for fd in range(3)]
    all_before = observe.fds()
    found: dict[str, Any] = {"wrong": [], "worked": 0, "failed": 0}
    for limit in range(3, 16):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        try:
            fastproc.run(static_exit, input=b"x", capture=True)
            found["worked"] += 1
        except fastproc.SpawnError as error:
            found["failed"] += 1
            if error.errno != errno.EMFILE:
                found["wrong"].append([limit, str(error)])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if [os.fstat(fd).st_ino for fd in range(3)] != before or observe.fds() != all_before:
            found["wrong"].append([limit, "descriptors changed"])
    return found


ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0"


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"#!/bin/sh\r\necho x\r\n", FileNotFoundError, ("'/bin/sh\\r'", "carriage returns")),
        (b"#! /bin/sh -e\r\n", PermissionError, None),
        (b"#!/no/such/thing -x\n", FileNotFoundError, ("'/no/such/thing'",)),
        (b"#!/tmp\n", PermissionError, ("its interpreter '/tmp' is not",)),
        (b"#!\necho x\n", OSError, ("without an interpreter",)),
        (b"#!" + b" " * 300 + b"/bin/sh\n", OSError, ("longer than 255 bytes",)),
        (ELF + b"\xb7\0" + bytes(100), OSError, ("ELF file for aarch64, 64 bits; this machine is",)),
        (ELF[:4] + b"\1\2" + ELF[6:] + b"\0\x08" + bytes(100), OSError, ("ELF file for mips, 32 bits",)),
        (ELF[:7], OSError, ("cut off after 7 bytes",)),
        (b"MZ" + bytes(60), OSError, ("a program of Windows",)),
        (b"\xcf\xfa\xed\xfe" + bytes(60), OSError, ("a program of macOS",)),
        (b"\xef\xbb\xbf#!/bin/sh\n", OSError, ("byte order mark",)),
        (b"\1\2\0\3", OSError, ("neither a program for this system nor a script",)),
        (b"", OSError, ("is empty",)),
        (b"echo x\n", OSError, ("run it as `sh FILE`",)),
    ],
)
def test_file_that_cannot_be_executed_is_described(data, kind, words, tmp_path):
    """By what it is: only a file of text without a #! line is one for a shell."""
    path = tmp_path / "file"
    path.write_bytes(data)
    path.chmod(0o755)
    if words is None:
        assert fastproc.run(path, check=False).returncode != 126
        return
    with pytest.raises(fastproc.SpawnError) as caught:
        fastproc.run(path)
    assert isinstance(caught.value, kind)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert ("sh FILE" in text) is (data == b"echo x\n")
    assert text.isprintable()


@pytest.mark.parametrize("value", [1 << 31, 1 << 40, 1 << 70, -1, -(1 << 70), 65])
def test_number_that_is_no_signal_or_time_is_refused_by_name(value: int) -> None:
    """Whatever takes it: no OverflowError of the border to C."""
    with fastproc.start("sleep", "60", pgid=0) as process:
        for call in (process.send_signal, process.signal_group):
            with pytest.raises(ValueError, match=rf"^sig: {value} is no signal number"):
                call(value)
        assert process.poll() is None
        process.kill()
    from fastproc.syslog import Syslog

    log = Syslog("/no/such/socket")
    if abs(value) > 1 << 39:
        with pytest.raises(ValueError, match=r"^created: "):
            log.send("x", created=value)
    log.send("x", created=-62_135_500_000)
    log.send("x", created=253_370_000_000)
    log.close(0)
