"""asyncio's own interface on our core: create_subprocess_exec and _shell, the loops' calls, install().

CPython's suite is run against it by `make suite`; here is what that does not ask.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest

from conftest import wait_until
from fastproc import aio
from fastproc._engine import orphans
from fastproc.aio._hub import Patience
from support import drivers, observe
from support.programs import Programs

pytestmark = pytest.mark.filterwarnings("error")

PIPE, STDOUT, DEVNULL = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT, asyncio.subprocess.DEVNULL


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    """Each loop that has this interface."""
    drivers.need(request.param)
    return str(request.param)


@pytest.fixture(params=["deferred", "inline"])
def spawning(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A spawn that does not wait for the exec, not for a moment; and FASTPROC_AIO_SPAWN=inline."""
    monkeypatch.setattr(aio._run, "INLINE", request.param == "inline")
    monkeypatch.setattr(Patience, "ask", lambda _: 0)
    return str(request.param)


class Events(asyncio.SubprocessProtocol):
    """What a transport tells, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append("made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.told.append((fd, data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.told.append((fd, exc))

    def process_exited(self) -> None:
        self.told.append("exited")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.lost.set_result(exc)


# -- the processes


def test_communicate_gives_what_asyncio_gives(loop: str, spawning: str) -> None:
    """Both streams, a status, a signal, a shell, a directory, an environment, a working stdin."""

    async def outcomes(module: Any) -> list[Any]:
        found: list[Any] = []
        for args, data, options in (
            (("sh", "-c", "cat; echo err >&2; exit 3"), b"in", {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE}),
            (("sh", "-c", "echo out; echo err >&2"), None, {"stdout": PIPE, "stderr": STDOUT}),
            (("sh", "-c", "echo out; kill -9 $$"), None, {"stdout": PIPE, "stderr": DEVNULL}),
            (("sh", "-c", "pwd; echo $X; umask"), None, {"stdout": PIPE, "cwd": "/", "env": {"X": "y"}, "umask": 0o31}),
            (("cat",), b"x" * 300_000, {"stdin": PIPE, "stdout": PIPE, "pipesize": 4096}),
            (("true",), None, {"start_new_session": True}),
        ):
            child = await module.create_subprocess_exec(*args, **options)
            found.append([await child.communicate(data), child.returncode, await child.wait()])
        child = await module.create_subprocess_shell("read x; echo $x$x; exit 4", stdin=PIPE, stdout=PIPE)
        child.stdin.write(b"ab\n")
        await child.stdin.drain()
        found.append([await child.stdout.readline(), await child.stdout.read(), await child.wait()])
        return found

    theirs = asyncio.run(outcomes(asyncio))
    assert drivers.run_in(loop, outcomes, aio) == theirs
    assert [entry[1] for entry in theirs[:3]] == [3, 0, -9]


def test_spawn_failures_are_asyncios(loop: str, spawning: str) -> None:
    """The same class and errno, before there is a child; and nothing is left of it (leak_check)."""

    async def failures(module: Any) -> list[Any]:
        found: list[Any] = []
        for args, options in (
            (("/nonexistent/program",), {}),
            (("/etc/passwd",), {}),
            (("true",), {"cwd": "/nonexistent"}),
            (("true",), {"text": True}),
            (("true",), {"bufsize": 1}),
            (("true",), {"encoding": "utf-8"}),
            (("true",), {"universal_newlines": True}),
            (("true",), {"shell": True}),
            (("true",), {"nonsense": 1}),
        ):
            try:
                await module.create_subprocess_exec(*args, stdout=PIPE, **options)
            except Exception as error:
                kind = OSError if isinstance(error, OSError) else type(error)
                found.append((kind, getattr(error, "errno", None), getattr(error, "filename", None)))
        try:
            await module.create_subprocess_shell(["a", "list"])
        except ValueError as error:
            found.append(str(error))
        return found

    theirs = asyncio.run(failures(asyncio))
    assert drivers.run_in(loop, failures, aio) == theirs
    assert len(theirs) == 10


def test_protocol_is_told_in_order(loop: str, spawning: str) -> None:
    """connection_made first, connection_lost last; each stream ends; nothing is told twice."""

    async def main() -> list[Any]:
        running = asyncio.get_running_loop()
        transport, protocol = await aio.subprocess_exec(running, Events, "sh", "-c", "echo out; exit 5")
        assert transport.get_pid() > 1
        assert transport.get_pipe_transport(1) is not None
        await protocol.lost
        assert transport.get_returncode() == 5
        with pytest.raises(ProcessLookupError):
            transport.terminate()
        transport.close()
        assert transport.is_closing()
        told: list[Any] = protocol.told
        return told

    told = drivers.run_in(loop, main)
    assert (told[0], told[-1]) == ("made", "lost")
    assert b"".join(entry[1] for entry in told if entry[0] == 1 and isinstance(entry[1], bytes)) == b"out\n"
    ends = [entry[0] for entry in told if isinstance(entry, tuple) and not isinstance(entry[1], bytes)]
    assert sorted(ends) == [0, 1, 2]
    assert told.count("exited") == 1


def test_wait_does_not_wait_for_a_pipe_that_others_hold(loop: str) -> None:
    """The status is there when the child has ended."""

    async def main() -> int:
        child = await aio.create_subprocess_shell("sleep 60 & echo $!", stdout=PIPE)
        assert child.stdout is not None
        pid = int(await child.stdout.readline())
        try:
            return await asyncio.wait_for(child.wait(), 10)
        finally:
            os.kill(pid, signal.SIGKILL)
            await child.stdout.read()

    assert drivers.run_in(loop, main) == 0


def test_limit_of_the_reader_is_asyncios(loop: str) -> None:
    """A line longer than `limit` is an error of the StreamReader, as there."""

    async def main() -> None:
        child = await aio.create_subprocess_exec("printf", "%0999d\n", "1", stdout=PIPE, limit=64)
        assert child.stdout is not None
        with pytest.raises(ValueError, match="limit"):
            await child.stdout.readline()
        await child.wait()
        await child.stdout.read()

    drivers.run_in(loop, main)


def test_transport_closed_kills(loop: str) -> None:
    """close() ends a running child; the protocol gets to know."""

    async def main() -> None:
        transport, protocol = await aio.subprocess_exec(asyncio.get_running_loop(), Events, "sleep", "60")
        transport.close()
        await protocol.lost
        assert transport.get_returncode() == -9

    drivers.run_in(loop, main)


@pytest.mark.filterwarnings("ignore:.*unclosed transport:ResourceWarning")
def test_loop_closed_with_a_running_child_warns_and_kills(loop: str) -> None:
    """The transport is dropped with the loop: a warning names the child, which is killed and reaped later."""
    found: list[int] = []

    async def main() -> None:
        child = await aio.create_subprocess_exec("sleep", "60", stdin=PIPE)
        found.append(child.pid)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drivers.run_in(loop, main)
        gc.collect()
    assert any(f"pid={found[0]}" in str(warning.message) for warning in caught)
    wait_until(lambda: orphans.reap() == 0)
    assert found[0] not in observe.children()


def test_lost_status_ends_the_wait_when_warnings_are_errors(loop: str) -> None:
    """The loop's handler gets the warning; who waits gets 255, as asyncio has it."""
    told: list[Any] = []

    class Lost:
        """A child whose status nobody can tell."""

        returncode = None

        def __init__(self, child: Any) -> None:
            self.child = child

        def __getattr__(self, name: str) -> Any:
            return getattr(self.child, name)

    async def main() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
        process = await aio.create_subprocess_exec("cat", stdin=PIPE)
        transport: Any = process._transport  # type: ignore[attr-defined]
        transport._child = Lost(transport._child)
        assert process.stdin is not None
        process.stdin.close()
        code = await asyncio.wait_for(process.wait(), 20)
        transport.close()
        return code

    assert drivers.run_in(loop, main) == 255
    assert [type(error) for error in told] == [RuntimeWarning]


def test_cancelled_making_leaves_no_child(loop: str, spawning: str) -> None:
    """At each step of it; leak_check sees what is left."""

    async def main() -> None:
        for steps in range(12):
            task = asyncio.ensure_future(aio.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            try:
                child = await task
            except asyncio.CancelledError:
                continue
            child.kill()
            await child.communicate()

    drivers.run_in(loop, main)


def test_child_made_in_pythons_way_is_one_too(loop: str) -> None:
    """preexec_fn, user, extra_groups, close_fds=False: by Popen; its pipes and its end are told as any other's."""

    async def main() -> list[Any]:
        found: list[Any] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for options in ({"preexec_fn": int}, {"close_fds": False}, {"user": os.getuid()}):
                child = await aio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, **options)
                found.append((await child.communicate(b"x"), child.returncode))
        return found

    assert drivers.run_in(loop, main) == [((b"x", None), 0)] * 3


def test_no_watcher_no_thread_no_sigchld_in_any_threads_loop(loop: str) -> None:
    """A loop of another thread waits for its children itself."""
    found: list[Any] = []

    async def main() -> None:
        before = observe.threads(), signal.getsignal(signal.SIGCHLD)
        child = await aio.create_subprocess_exec("sh", "-c", "echo x; exit 7", stdout=PIPE)
        found.append((await child.communicate(), child.returncode))
        found.append((observe.threads(), signal.getsignal(signal.SIGCHLD)) == before)

    thread = threading.Thread(target=drivers.run_in, args=(loop, main))
    thread.start()
    thread.join()
    assert found == [((b"x\n", None), 7), True]


def test_ends_are_closed_once_while_others_open_files(loop: str) -> None:
    """Libuv closes its descriptors itself: a second close would hit what another thread has opened in between."""
    stop = threading.Event()
    wrong: list[OSError] = []

    def open_and_close() -> None:
        while not stop.is_set():
            read, write = os.pipe()
            for fd in (read, write):
                try:
                    os.close(fd)
                except OSError as error:
                    wrong.append(error)

    async def main() -> None:
        for _ in range(60):
            child = await aio.create_subprocess_exec("echo", "x", stdin=PIPE, stdout=PIPE, stderr=PIPE)
            assert (await child.communicate())[0] == b"x\n"

    thread = threading.Thread(target=open_and_close)
    thread.start()
    try:
        drivers.run_in(loop, main)
    finally:
        stop.set()
        thread.join()
    assert wrong == []


# -- FASTPROC_AIO_SPAWN


def test_inline_is_asked_for_by_the_environment(programs: Programs) -> None:
    """run, start and the drop-in then make their children as blocking code does, and give the same."""
    code = """
import asyncio, sys
from fastproc import aio
from fastproc.aio._launch import Launch
from fastproc._native import loop
made = []
def refuse(*args): raise AssertionError("not inline")
Launch.__init__ = aio._run.job_begin = refuse
async def main():
    assert (await aio.run("echo", "x", capture=True)).stdout == b"x\\n"
    async with aio.start("cat", stdin=-1, stdout=-1) as process:
        pass
    child = await aio.create_subprocess_exec("echo", "y", stdout=-1)
    assert (await child.communicate())[0] == b"y\\n"
    print("inline")
asyncio.run(main())
"""
    for value, ending in (("inline", "inline\n"), ("", "")):
        environment = {**os.environ, "FASTPROC_AIO_SPAWN": value}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.stdout, "not inline" in done.stderr) == (ending, not ending)


# -- install()

INSTALLED = """
import sys
import fastproc
if BEFORE:
    import asyncio, uvloop
fastproc.install(); fastproc.install()
if not BEFORE:
    assert "asyncio" not in sys.modules and "uvloop" not in sys.modules
    import asyncio, uvloop
from fastproc.aio._transport import Transport

for module in (asyncio.base_events, uvloop):
    assert module.__loader__ is module.__spec__.loader and type(module.__loader__).__module__ != "fastproc._install"

class Own(uvloop.Loop):
    async def subprocess_exec(self, *args, **options):
        raise LookupError

async def kinds():
    found = []
    for make in (
        asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1),
        asyncio.create_subprocess_shell("cat", stdin=-1, stdout=-1),
    ):
        child = await make
        found.append(type(child._transport))
        assert await child.communicate(b"x") == (b"x", None) and child.returncode == 0
    found.append(type((await asyncio.get_running_loop().subprocess_exec(Protocol, "true"))[0]))
    await asyncio.get_running_loop().ended
    return found

class Protocol(asyncio.SubprocessProtocol):
    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.loop.ended = self.loop.create_future()
    def connection_lost(self, exc):
        self.loop.ended.set_result(None)

class Plain(asyncio.SelectorEventLoop): pass
class Uv(uvloop.Loop): pass

def both():
    found = []
    for factory in (Plain, Uv):
        with asyncio.Runner(loop_factory=factory) as runner:
            found += runner.run(kinds())
    return found

assert both() == [Transport] * 6
with asyncio.Runner(loop_factory=Own) as runner:
    try:
        runner.run(asyncio.create_subprocess_exec("true"))
    except LookupError:
        print("own")
fastproc.uninstall(); fastproc.uninstall()
assert "subprocess_exec" not in vars(uvloop.Loop)
assert Transport not in both()
assert not [finder for finder in sys.meta_path if getattr(finder, "__module__", "") == "fastproc._install"]
fastproc.install()
assert both() == [Transport] * 6
"""


@pytest.mark.parametrize("before", [True, False])
def test_install_covers_the_loops(before: bool) -> None:
    """Those imported before and later, and classes derived from them; uninstall() gives back what was there."""
    drivers.need("uvloop")
    code = INSTALLED.replace("BEFORE", str(before))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "own\n", "")
