"""fastproc.subprocess beside the standard module: the same outcomes, our core behind them.

CPython's own suite is run against it by `make suite`; here is what that does not ask.
"""

from __future__ import annotations

import gc
import inspect
import io
import os
import signal
import subprocess as standard
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated, wait_until
from fastproc import _native
from fastproc import subprocess as ours
from fastproc.errors import SpawnError
from support.programs import PIDFD_GET_INFO, SYS_IOCTL, Probed, Programs

RECOVERS = pytest.mark.skipif(not _native.features()["pidfd_info"], reason="the kernel forgets a taken status")


@pytest.fixture(params=["whole", "Popen"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """run() in one call of the core, and by a Popen."""
    if request.param == "Popen":
        monkeypatch.setattr(ours, "_OWN_POPEN", None)
    return str(request.param)


@pytest.fixture(autouse=True)
def no_standard_children(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The standard library makes no child for us, except where a test says that it must."""
    if "handed_to_the_standard" in request.node.name:
        return

    def refuse(*args: Any, **options: Any) -> int:
        # The oracle beside us is the standard module itself.
        frame: Any = sys._getframe()
        while frame is not None:
            if "fastproc" in frame.f_code.co_filename and "tests" not in frame.f_code.co_filename:
                pytest.fail("a child of ours was made by the standard library")
            frame = frame.f_back
        return int(real(*args, **options))

    real = standard._fork_exec  # type: ignore[attr-defined]
    monkeypatch.setattr(standard, "_fork_exec", refuse)
    monkeypatch.setattr(standard, "_USE_POSIX_SPAWN", False)


def outcome(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what a call gave or raised, in a form that can be compared."""
    try:
        found = call(*args, **options)
    except (OSError, ValueError, TypeError, IndexError, LookupError, AttributeError, standard.SubprocessError) as error:
        details = {name: value for name, value in vars(error).items() if not name.startswith("_")}
        names = getattr(error, "errno", None), getattr(error, "filename", None)
        message = "" if isinstance(error, (TypeError, AttributeError)) else str(error)
        if isinstance(error, standard.TimeoutExpired) and options["timeout"] <= 0:
            # The standard module says how much the time is over.
            message = ""
            del details["timeout"]
        return type(error), message, names, details
    return (type(found), vars(found)) if isinstance(found, standard.CompletedProcess) else found


# -- names


def test_names_are_the_standard_ones() -> None:
    """The same __all__; exceptions, constants, CompletedProcess are the very same; Popen derives from the standard."""
    assert set(ours.__all__) == set(standard.__all__)
    same = set(ours.__all__) - {
        "Popen",
        "run",
        "call",
        "check_call",
        "check_output",
        "getoutput",
        "getstatusoutput",
    }
    assert all(getattr(ours, name) is getattr(standard, name) for name in same)
    assert ours.list2cmdline is standard.list2cmdline
    assert issubclass(ours.Popen, standard.Popen)
    assert ours._args_from_interpreter_flags is standard._args_from_interpreter_flags  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        ours.nonsense  # noqa: B018


@pytest.mark.parametrize("name", ["run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"])
def test_functions_take_what_the_standard_ones_take(name: str) -> None:
    """Names, kinds and defaults of the parameters."""

    def shape(function: Any) -> list[tuple[Any, ...]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert shape(getattr(ours, name)) == shape(getattr(standard, name))


def test_popen_takes_what_the_standard_one_takes() -> None:
    """The same, for the class."""

    def shape(function: Any) -> list[tuple[Any, ...]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert shape(ours.Popen.__init__) == shape(standard.Popen.__init__)


def test_import_of_the_package_does_not_load_it() -> None:
    """Neither it nor the standard module is loaded by `import fastproc`."""
    code = "import fastproc, sys; print([n for n in sys.modules if n.partition('.')[2] or n == 'subprocess'])"
    loaded = standard.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "subprocess'" not in loaded.replace("_subprocess_errors", "")


# -- the same outcomes

SH = "/bin/sh"
CASES: list[tuple[Any, dict[str, Any]]] = [
    ([SH, "-c", "echo out; echo err >&2; exit 3"], {"capture_output": True}),
    ([SH, "-c", "echo out; echo err >&2; exit 3"], {"capture_output": True, "check": True}),
    ([SH, "-c", "echo out; echo err >&2"], {"stdout": -1, "stderr": standard.STDOUT}),
    ([SH, "-c", "echo err >&2"], {"stderr": -1, "stdout": standard.DEVNULL}),
    ([SH, "-c", "kill -9 $$"], {}),
    ("echo $0 $1; exit 4", {"shell": True, "stdout": -1}),
    (["echo $0 $1", "name", "x"], {"shell": True, "stdout": -1}),
    ("echo $0", {"shell": True, "stdout": -1, "executable": "/bin/sh"}),
    (["name", "-c", "echo $0"], {"executable": SH, "stdout": -1}),
    (["cat"], {"input": b"x" * 200_000, "stdout": -1}),
    (["cat"], {"input": bytearray(b"bytes-like"), "capture_output": True}),
    (["cat"], {"input": memoryview(b"12345678").cast("i"), "capture_output": True}),
    (["cat"], {"input": "text\r\nlines\rhere\n", "capture_output": True, "text": True}),
    (["cat"], {"input": "\u00e9\u20ac", "stdout": -1, "encoding": "utf-16"}),
    (["cat"], {"input": b"\xff".decode("latin-1"), "stdout": -1, "encoding": "latin-1"}),
    ([SH, "-c", r"printf 'a\377b'"], {"stdout": -1, "errors": "replace", "encoding": "ascii"}),
    ([SH, "-c", r"printf 'a\377b'"], {"capture_output": True, "encoding": "ascii"}),
    (["cat"], {"input": b"", "capture_output": True}),
    (["cat"], {"input": "", "capture_output": True}),
    (["cat"], {"input": "text", "capture_output": True}),
    (["cat"], {"stdin": standard.DEVNULL, "stdout": -1}),
    (["cat"], {"stdin": -1, "stdout": -1}),
    (["pwd"], {"cwd": "/", "stdout": -1}),
    (["pwd"], {"cwd": Path("/"), "stdout": -1}),
    (["pwd"], {"cwd": "/nowhere"}),
    (["pwd"], {"cwd": b"/nowhere"}),
    (["pwd"], {"cwd": ""}),
    (["pwd"], {"cwd": "/etc/passwd"}),
    (["/usr/bin/env"], {"env": {"A": "1", b"B": b"2"}, "stdout": -1}),
    (["/usr/bin/env"], {"env": {}, "stdout": -1}),
    (["env"], {"env": {"PATH": "/nowhere"}, "stdout": -1}),
    (["env"], {"env": {"A": "1"}, "stdout": -1}),
    (["env"], {"env": {"A=B": "1"}}),
    (["env"], {"env": {"A": "1\0B=2"}}),
    (["env"], {"env": {"A": 1}}),
    (["nosuchprogram"], {}),
    (["/nowhere/nosuch"], {"stdout": -1}),
    (["/etc/passwd"], {}),
    (["/etc"], {}),
    ([""], {}),
    ([], {}),
    (["echo", "a\0b"], {}),
    (["echo", 1], {}),
    ([b"echo", Path("x"), "y"], {"stdout": -1}),
    (Path("/bin/true"), {"shell": True}),
    (["echo"], {"stdout": -7}),
    (["echo"], {"stdout": 12345}),
    (["echo"], {"stdout": "no file"}),
    (["echo"], {"stdout": standard.STDOUT}),
    (["echo"], {"input": b"", "stdin": -1}),
    (["echo"], {"capture_output": True, "stderr": -1}),
    (["echo"], {"nosuch": 1}),
    (["echo"], {"bufsize": "x"}),
    (["echo"], {"pipesize": "x"}),
    (["echo"], {"text": True, "universal_newlines": False}),
    (["echo"], {"encoding": "nosuch", "stdout": -1}),
    (["echo"], {"startupinfo": 1}),
    (["echo"], {"creationflags": 1}),
    (["echo"], {"pass_fds": (-1,)}),
    (["echo"], {"pass_fds": (4321,)}),
    (["sleep", "5"], {"timeout": 0.05, "capture_output": True}),
    (["sleep", "5"], {"timeout": 0}),
    (["sleep", "5"], {"timeout": -1, "stdout": -1}),
    ([SH, "-c", "echo partial; exec sleep 5"], {"timeout": 0.2, "capture_output": True, "text": True}),
    ([SH, "-c", "sleep 0.3 & echo partial"], {"timeout": 0.1, "stdout": -1}),
    (["echo", "in time"], {"timeout": 60, "stdout": -1}),
]


@pytest.mark.parametrize(("args", "options"), CASES, ids=lambda value: str(value)[:60])
def test_run_gives_what_the_standard_one_gives(args: Any, options: dict[str, Any], way: str) -> None:
    """The same result, or the same exception with the same attributes."""
    if "STDOUT" in repr(options.get("stdout")) or (options.get("stdout") == -2 and sys.version_info < (3, 13)):
        pytest.skip("refused by name from 3.13 on, by the kernel before")
    assert outcome(ours.run, args, **options) == outcome(standard.run, args, **options)


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("call", ["false"], {}),
        ("check_call", ["false"], {}),
        ("check_call", ["true"], {}),
        ("call", ["sleep", "5"], {"timeout": 0.05}),
        ("check_output", ["echo", "x"], {"input": None, "text": True}),
        ("check_output", ["echo", "x"], {"stdout": -1}),
        ("check_output", [SH, "-c", "echo x; exit 2"], {"stderr": standard.STDOUT}),
        ("getoutput", "echo a; echo b >&2; echo", {}),
        ("getstatusoutput", "printf 'x\\n'; kill -15 $$", {}),
        ("getstatusoutput", "nosuchprogram 2>/dev/null", {"encoding": "utf-8"}),
    ],
)
def test_other_functions_give_what_the_standard_ones_give(name: str, args: Any, options: dict[str, Any]) -> None:
    """As run()."""
    assert outcome(getattr(ours, name), args, **options) == outcome(getattr(standard, name), args, **options)


def test_failure_names_the_stage_as_its_cause(way: str) -> None:
    """The plain OSError of the standard module comes from the SpawnError, which says more."""
    with pytest.raises(FileNotFoundError) as caught:
        ours.run(["nosuchprogram"])
    assert type(caught.value) is FileNotFoundError
    assert isinstance(caught.value.__cause__, SpawnError)
    assert caught.value.__cause__.stage == "exec"


FIELDS = ("umask", "sigmask", "SigBlk", "SigIgn", "SigCgt", "argv", "env", "cwd", "fds")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"umask": 0o027},
        {"restore_signals": False},
        {"start_new_session": True},
        {"process_group": 0},
        {"close_fds": False},
        {"pass_fds": True},
        {"stdin": standard.PIPE},
    ],
    ids=str,
)
def test_child_is_as_the_standard_ones(programs: Programs, options: dict[str, Any], way: str) -> None:
    """Signals, mask, descriptors, session and group of the child, as the probe sees them."""
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    if options.get("pass_fds"):
        options = {"pass_fds": (write_end, 1)}
    found = []
    try:
        for module in (standard, ours):
            child = Probed(module.run([programs.probe, "x"], stdout=ours.PIPE, env={"A": "1"}, **options).stdout)
            fields = {name: value for name, value in child.fields.items() if name in FIELDS}
            fields["fds"] = {fd: seen.get("flags") for fd, seen in fields.get("fds", {}).items() if int(fd) > 2}
            # The C library's own two, which its posix_spawn() leaves ignored.
            fields["SigIgn"] = child.signals("SigIgn") - {32, 33}
            fields["own group"] = child.fields.get("pgid") == child.fields.get("pid")
            fields["own session"] = child.fields.get("sid") == child.fields.get("pid")
            found.append(fields)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(read_end)
        os.close(write_end)
    assert len(found[0]) > 5
    assert found[0] == found[1]


def _audited(name: str) -> list[str]:
    import importlib

    module = importlib.import_module(name)
    events: list[str] = []
    sys.addaudithook(lambda event, args: events.append(repr(args)) if event == "subprocess.Popen" else None)
    module.run(["echo", "x"], stdout=module.DEVNULL)
    module.run("exit 0", shell=True, cwd="/", env={"A": "1"})
    ours.Popen([b"true"], executable="/bin/true").wait()
    return events


def test_audit_event_is_the_standard_one() -> None:
    """Once for each child, with program, arguments, directory and environment."""
    assert isolated(_audited, "fastproc.subprocess") == isolated(_audited, "subprocess")


# -- Popen


def test_popen_shows_itself_as_the_standard_one_does() -> None:
    """repr() with at most 80 characters, attributes, universal_newlines."""
    with ours.Popen(["true", "x" * 80], text=True, pipesize=8192, stdout=ours.PIPE) as process:
        assert process.stdout is not None
        seen = process.pid > 0, process.returncode, process.universal_newlines, process.encoding is not None
        assert (seen, process.pipesize, process.errors) == ((True, None, True, True), 8192, None)
        assert repr(process).startswith("<Popen: returncode: None args: ['true', 'xxx")
        assert len(repr(process)) == 80
    assert (process.returncode, process.stdout.closed) == (0, True)


@pytest.mark.parametrize(
    ("bufsize", "kind"),
    [(-1, io.BufferedReader), (None, io.BufferedReader), (0, io.FileIO), (4096, io.BufferedReader)],
)
def test_streams_are_files_of_the_standard_kind(bufsize: int | None, kind: type) -> None:
    """As open() makes them with that bufsize; blocking."""
    with ours.Popen(["cat"], bufsize, stdin=ours.PIPE, stdout=ours.PIPE) as process:
        assert process.stdout is not None
        assert type(process.stdout) is kind
        assert os.get_blocking(process.stdout.fileno())
        assert process.communicate(b"x") == (b"x", None)


def test_text_streams_are_line_buffered_on_request() -> None:
    """bufsize=1 in text mode: a line goes to the child at once."""
    with ours.Popen(["cat"], bufsize=1, stdin=ours.PIPE, stdout=ours.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdin.line_buffering  # type: ignore[attr-defined]
        process.stdin.write("a line\n")
        assert process.stdout.readline() == "a line\n"


def test_communicate_neither_blocks_nor_loses_when_all_pipes_are_full() -> None:
    """Two megabytes each way, with standard error as well."""
    data = os.urandom(1 << 21)
    with ours.Popen([SH, "-c", "tee /dev/stderr"], stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.communicate(data) == (data, data)
        assert process.communicate() == (data, data)


def test_communicate_goes_on_after_a_timeout() -> None:
    """What was read and written stays; the exception has what there was; new input is refused."""
    script = "head -c 100000; echo; sleep 0.3; cat | wc -c; echo err >&2"
    data = b"x" * 400_000
    with ours.Popen([SH, "-c", script], stdin=-1, stdout=-1, stderr=-1) as process:
        with pytest.raises(standard.TimeoutExpired) as caught:
            process.communicate(data, timeout=0.15)
        assert type(caught.value) is standard.TimeoutExpired
        assert caught.value.output is not None
        assert data.startswith(caught.value.output.rstrip())
        with pytest.raises(ValueError, match="Cannot send input after starting communication"):
            process.communicate(b"more")
        out, err = process.communicate(timeout=10)
    first, count = out.split()
    assert (err, process.returncode, len(first) + int(count) <= len(data), set(first)) == (b"err\n", 0, True, {120})


@pytest.mark.parametrize("options", [{}, {"timeout": 10.0}], ids=str)
@pytest.mark.parametrize("pipes", [{"stdout": -1}, {"stdout": -1, "stderr": -1}], ids=str)
def test_communicate_waits_by_the_public_name(pipes: dict[str, int], options: dict[str, float]) -> None:
    """Programs replace wait() on the object, as plumbum does for the first program of a pipeline."""
    with ours.Popen(["echo", "x"], **pipes) as process:
        calls: list[Any] = []
        wait = process.wait
        process.wait = lambda timeout=None: calls.append(timeout) or wait(timeout)  # type: ignore[method-assign]
        assert process.communicate(**options)[0] == b"x\n"
        assert [timeout is None for timeout in calls] == [not options]


def test_communicate_survives_a_reader_that_goes() -> None:
    """EPIPE at write, flush and close is no error."""
    for options in ({"timeout": 5.0}, {}):
        with ours.Popen(["true"], stdin=-1, stdout=-1) as process:
            assert process.communicate(b"x" * 1_000_000, **options) == (b"", None)
    with ours.Popen(["true"], stdin=-1) as process:
        assert process.communicate(b"x" * 1_000_000) == (None, None)


def test_wait_sleeps_until_the_end(programs: Programs) -> None:
    """No look every 50 ms: the processor is idle, and the end is seen at once."""
    with ours.Popen(["sleep", "0.4"]) as process:
        with pytest.raises(standard.TimeoutExpired) as caught:
            process.wait(0.05)
        assert (type(caught.value), caught.value.cmd, caught.value.timeout) == (
            standard.TimeoutExpired,
            ["sleep", "0.4"],
            0.05,
        )
        before = os.times()
        assert process.wait(10) == 0
        after = os.times()
    assert after.user + after.system - before.user - before.system <= 0.02


@pytest.mark.parametrize("method", ["terminate", "kill"])
def test_signals_reach_the_child_and_nothing_after_it(method: str) -> None:
    """And a signal to a child that has ended does nothing; a number that is no signal is EINVAL."""
    with ours.Popen(["sleep", "60"]) as process:
        with pytest.raises(OSError, match="Invalid argument"):
            process.send_signal(4000)
        getattr(process, method)()
        assert process.wait() == {"terminate": -15, "kill": -9}[method]
        getattr(process, method)()
        process.send_signal(4000)


def test_dropped_popen_warns_and_is_reaped_by_a_later_spawn() -> None:
    """No zombie is left, and nothing is killed."""
    process = ours.Popen(["sleep", "0.1"])
    pid = process.pid
    with pytest.warns(ResourceWarning, match=f"subprocess {pid} is still running"):
        del process
    assert wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
    ours.run(["true"])
    assert not os.path.exists(f"/proc/{pid}")


def test_dropped_popen_that_has_ended_leaves_no_zombie() -> None:
    """It is reaped with its object."""
    process = ours.Popen(["true"])
    pid = process.pid
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z")
    with pytest.warns(ResourceWarning):
        del process
    assert not os.path.exists(f"/proc/{pid}")


@pytest.fixture
def interrupted() -> Iterator[None]:
    """Ctrl-C after 0.1 s."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_interrupted_run_lets_the_child_end_by_itself(interrupted: None, way: str, tmp_path: Path) -> None:
    """A quarter of a second, as bpo-25942 has it; then it is killed."""
    mark = tmp_path / "ended"
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ours.run([SH, "-c", f"sleep 0.2; echo > {mark}; exec sleep 10"], capture_output=True)
    assert (mark.exists(), 0.2 < time.monotonic() - start < 2.0) == (True, True)


# -- the truth


def _stolen(name: str, how: str) -> list[Any]:
    import importlib

    module = importlib.import_module(name)
    if how == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    found: list[Any] = []
    for code in (0, 42):
        process = ours.Popen([SH, "-c", f"exit {code}"])
        if how == "waited":
            os.waitpid(process.pid, 0)
        process.terminate()
        found.append(process.wait() if how == "ignored" else process.poll())
    return found if how == "waited" else [*found, module.run([SH, "-c", "exit 7"]).returncode]


@RECOVERS
def test_stolen_status_is_the_true_one() -> None:
    """Where the standard module says 0: somebody else waited, or SIGCHLD is ignored."""
    assert isolated(_stolen, "fastproc.subprocess", "waited") == [0, 42]
    ignored = isolated(_stolen, "fastproc.subprocess", "ignored")
    assert ignored[2] == 7
    assert ignored[0] in (0, -15)
    assert ignored[1] in (42, -15)


def _polled(*args: Any, **options: Any) -> int:
    process = ours.Popen(*args, **options)
    while (code := process.poll()) is None:
        time.sleep(0.001)
    return int(code)


def _left(*args: Any, **options: Any) -> int | None:
    with ours.Popen(*args, **options) as process:
        pass
    return process.returncode


def _untold(hostile: str, how: str) -> dict[str, list[Any]]:
    """Every way to a status, where another wait() took it and the kernel does not tell it again (before 6.15)."""
    import ctypes

    from fastproc.errors import ExitStatusUnknown

    library = ctypes.CDLL(hostile)
    assert library.hostile_refuse(SYS_IOCTL, 25, 1, ctypes.c_uint32(PIDFD_GET_INFO)) == 0
    if how == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    else:
        assert library.hostile_steal() == 0
    ways: dict[str, Callable[..., Any]] = {
        "run": lambda args: ours.run(args, capture_output=True).returncode,
        "run, text": lambda args: ours.run(args, capture_output=True, text=True).returncode,
        "run, Popen": lambda args: ours.run(args, stdout=-1, pass_fds=(1,)).returncode,
        "call": ours.call,
        "check_call": ours.check_call,
        "wait": lambda args: ours.Popen(args).wait(),
        "poll": _polled,
        "communicate": lambda args: ours.Popen(args, stdout=-1).communicate()[0],
        "communicate, two": lambda args: ours.Popen(args, stdout=-1, stderr=-1).communicate(timeout=20)[0],
        "with": _left,
    }
    found: dict[str, list[Any]] = {}
    for name, way in ways.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                value = way([SH, "-c", "echo out; sleep 0.01; exit 3"])
            except ExitStatusUnknown as error:
                assert (error.argv[:2], error.pid > 1) == ((SH, "-c"), True)
                value = f"unknown, {error.stdout!r}"
        # The place is the caller's.
        told = [(entry.category.__name__, os.path.basename(entry.filename)) for entry in caught]
        found[name] = [value.decode() if isinstance(value, bytes) else value, told]
    # Nothing is sent to what has ended, and a time limit is still told as one.
    process = ours.Popen(["true"])
    time.sleep(0.05)
    process.kill()
    if how == "stolen":
        assert process.returncode == 255
        for ask in (process.poll, process.wait, process.communicate):
            with pytest.raises(ExitStatusUnknown):
                ask()
        process.kill()
    with pytest.raises(standard.TimeoutExpired):
        ours.run(["sleep", "60"], timeout=0.05, pass_fds=(1,))
    return found


def test_status_that_nobody_tells_is_unknown_and_never_zero(programs: Programs) -> None:
    """ExitStatusUnknown by each way, with the output; no warning besides, not even that the child still runs."""
    found = isolated(_untold, programs.hostile, "stolen")
    captured = {"run", "run, text", "run, Popen", "communicate", "communicate, two"}
    assert found == {name: [f"unknown, {b'out' + bytes([10]) if name in captured else None!r}", []] for name in found}


def test_status_that_the_program_threw_away_is_told_by_a_warning(programs: Programs) -> None:
    """With SIGCHLD ignored it is 0, as the standard module has it and its tests demand, but not silently."""
    found = isolated(_untold, programs.hostile, "ignored")
    warned = [["RuntimeWarning", "test_subprocess.py"]]
    assert found == {name: ["out\n" if "communicate" in name else 0, warned] for name in found}


# -- what the standard library has to do


def test_preexec_fn_is_handed_to_the_standard_library(tmp_path: Path) -> None:
    """The child is made there; the rest is ours."""
    mark = tmp_path / "mark"
    process = ours.Popen(["cat"], stdin=-1, stdout=-1, preexec_fn=mark.touch)
    assert process.communicate(b"x" * 100_000, timeout=10) == (b"x" * 100_000, None)
    assert (process.returncode, mark.exists(), process._child.mechanism) == (0, True, "auto")
    process = ours.Popen(["sleep", "60"], preexec_fn=int)
    process.kill()
    assert process.wait() == -9
    with pytest.raises(standard.SubprocessError, match="preexec_fn"):
        ours.run(["true"], preexec_fn=lambda: 1 / 0)
    with pytest.raises(FileNotFoundError):
        ours.run(["nosuchprogram"], preexec_fn=int)


def test_class_with_a_changed_inside_is_handed_to_the_standard_library() -> None:
    """Third-party classes override private methods of Popen, and expect them to be called."""

    class Mine(ours.Popen):
        """Reads what the child writes to either stream from stdout."""

        def _get_handles(self, stdin: Any, stdout: Any, stderr: Any) -> Any:
            return super()._get_handles(stdin, standard.PIPE, standard.STDOUT)  # type: ignore[misc]

    with Mine([SH, "-c", "echo out; echo err >&2"], stdout=-9) as process:
        assert process.communicate(timeout=10) == (b"out\nerr\n", None)


@pytest.mark.privileged
def test_identity_is_handed_to_the_standard_library() -> None:
    """user, group, extra_groups."""
    options = {"user": 65534, "group": 65534, "extra_groups": [65533]}
    assert ours.check_output(["/usr/bin/id", "-u"], **options) == b"65534\n"
    assert ours.check_output(["/usr/bin/id", "-G"], **options) == b"65534 65533\n"


def test_replaced_popen_is_used_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program, or a test, that puts its own class in the place of Popen sees it used."""

    class Mine(ours.Popen):
        """Counts."""

        made = 0

        def __init__(self, *args: Any, **options: Any) -> None:
            Mine.made += 1
            super().__init__(*args, **options)

    monkeypatch.setattr(ours, "Popen", Mine)
    assert ours.run(["echo", "x"], stdout=ours.PIPE).stdout == b"x\n"
    assert Mine.made == 1


# -- in the place of the standard module

INSTALLED = """
import asyncio, concurrent.futures, functools, importlib.util, multiprocessing, os, sys
import subprocess as before
from subprocess import Popen as kept, run as kept_run
# A name that only a function, a class, a table keep.
standard_Popen, standard_run = [kept], [kept_run]
part = functools.partial(kept_run, capture_output=True)
def default(command, kind=kept): return kind(command)
class Derived(kept): pass
made = kept(["true"])
# A module that is to be loaded when it is first used, and may not be before.
spec = importlib.util.find_spec("this")
spec.loader = importlib.util.LazyLoader(spec.loader)
lazy = sys.modules["this"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lazy)
import fastproc
fastproc.install(); fastproc.install()
import subprocess
import fastproc.subprocess as ours
assert subprocess is ours and before is ours and kept is ours.Popen, (subprocess, before, kept)
assert type(lazy) is not type(sys)
standard = ours._standard
assert standard is not ours and ours._args_from_interpreter_flags is standard._args_from_interpreter_flags
try:
    ours.no_such_name
except AttributeError:
    pass

def refuse(*args): raise AssertionError("a child of the standard library")
fork_exec, standard._fork_exec, standard._USE_POSIX_SPAWN = standard._fork_exec, refuse, False
assert part(["echo", "x"]).stdout == b"x\\n"
assert standard_run[0]("exit 3", shell=True).returncode == 3
for child in (standard_Popen[0](["true"]), default(["true"])):
    assert type(child) is ours.Popen and child.wait() == 0
with os.popen("echo x") as file:
    assert file.read() == "x\\n"
try:
    standard_run[0](["sleep", "60"], timeout=0.01, capture_output=True)
except standard.TimeoutExpired as error:
    assert error.stdout is None
async def main():
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert type(child._transport._proc) is ours.Popen and "fastproc" in type(child._transport).__module__
    assert (await child.communicate(b"x"), child.returncode) == ((b"x", None), 0)
    child = await asyncio.create_subprocess_exec("sleep", "60")
    child.kill()
    assert await child.wait() == -9
asyncio.run(main())
def work(number):
    import subprocess
    return subprocess.run(["sh", "-c", f"exit {number}"], capture_output=True, text=True).returncode
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(work, range(40))) == list(range(40))
with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
    assert list(pool.map(work, range(8))) == list(range(8))
standard._fork_exec = fork_exec
assert made.wait() == 0 and type(made) is standard.Popen
with Derived(["echo"], stdout=-1) as derived:
    assert derived.communicate() == (b"\\n", None) and not isinstance(derived, ours.Popen)
fastproc.uninstall(); fastproc.uninstall()
assert before is not ours and before is sys.modules["subprocess"] and kept is before.Popen
assert asyncio.base_events.subprocess is before
with standard_Popen[0](["true"]) as child:
    assert type(child) is standard.Popen
assert part(["echo", "x"]).stdout == b"x\\n"
"""


def test_install_takes_the_place_of_the_standard_module() -> None:
    """For those who have imported it already too, asyncio among them; and gives it back."""
    done = standard.run([sys.executable, "-W", "error", "-c", INSTALLED], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_run_module_runs_a_module_with_it(tmp_path: Path) -> None:
    """`python -m fastproc run-module`: arguments and exit status are the module's."""
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
            import subprocess, sys
            print(subprocess.Popen.__module__, sys.argv[1:], __name__)
            sys.exit(subprocess.run(["false"]).returncode + 4)
        """)
    )
    command = [sys.executable, "-m", "fastproc", "run-module", "program", "a", "--b"]
    done = standard.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (5, "fastproc.subprocess ['a', '--b'] __main__\n", "")


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["nosuch"], 2), (["run-module"], 2), (["--help"], 0)])
def test_command_line_says_how_it_is_used(arguments: list[str], code: int) -> None:
    """On standard error and with status 2, or on request."""
    done = standard.run([sys.executable, "-m", "fastproc", *arguments], capture_output=True, text=True)
    assert (done.returncode, "usage: python -m fastproc" in done.stdout + done.stderr) == (code, True)


@pytest.mark.parametrize("name", ["nosuch", "nosuch.module", "json.nosuch"])
def test_run_module_says_that_there_is_no_module(name: str) -> None:
    """As `python -m` does, without a traceback."""
    found = []
    for command in (["-m", name], ["-m", "fastproc", "run-module", name]):
        done = standard.run([sys.executable, *command], capture_output=True, text=True)
        found.append((done.returncode, done.stderr.count("\n"), f"No module named {name}" in done.stderr))
    assert found[1] == (1, 1, True)
    assert found[1][0] == found[0][0]


def test_forked_copy_leaves_the_child_alone() -> None:
    """A copy of the handle in a forked process neither waits, nor warns, nor signals."""
    with ours.Popen(["cat"], stdin=-1) as process:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with process:
                    pass
                process.__del__()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert process.poll() is None


def test_finalizer_of_a_child_whose_end_is_known_runs_no_python() -> None:
    """What a signal handler raises in one is lost. Derived classes may call it by its class and by super()."""

    class Derived(ours.Popen):
        def __del__(self) -> None:
            super().__del__()
            ours.Popen.__del__(self)

    entered: list[str] = []
    for kind in (ours.Popen, Derived):
        process = kind(["true"])
        process.wait()
        with pytest.raises(FileNotFoundError):
            kind(["/does/not/exist"])
        gc.collect()
        sys.setprofile(lambda frame, event, _: entered.append(frame.f_code.co_qualname) if event == "call" else None)
        try:
            del process
        finally:
            sys.setprofile(None)
    assert [name for name in entered if name.startswith("Popen.")] == []
    assert [name for name in entered if name.endswith("Derived.__del__")] != []


@pytest.mark.parametrize("value", [1 << 31, 1 << 40, 1 << 70])
@pytest.mark.parametrize("name", ["pipesize", "umask", "process_group"])
def test_number_that_no_system_call_takes_is_named(name, value):
    """Before there is a child; of the types that the standard module has, where it raises."""
    with pytest.raises((ValueError, OverflowError), match=rf"^{name}: {value} is"):
        ours.Popen(["true"], stdout=ours.PIPE, **{name: value})
    if name != "pipesize":
        with pytest.raises(OverflowError, match=rf"^{name}: -{value + 1} is"):
            ours.Popen(["true"], **{name: -value - 1})
