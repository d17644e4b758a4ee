"""What the injection sweep does: public calls, each as a function that makes an action to be repeated."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import fastproc
from fastproc import PIPE, aio, cmd
from fastproc._engine import loading

Action = Callable[[], object]
Make = Callable[[contextlib.ExitStack], Action | tuple[Action, Action]]

SCENARIOS: dict[str, Make] = {}


def plain(name: str) -> Callable[[Action], Action]:
    """Name an action that needs nothing prepared."""

    def keep(action: Action) -> Action:
        SCENARIOS[name] = lambda _stack: action
        return action

    return keep


def in_loops(name: str) -> Callable[[Callable[[], Awaitable[object]]], object]:
    """Name an action in each kind of event loop."""

    def keep(function: Callable[[], Awaitable[object]]) -> object:
        def by_asyncio() -> None:
            asyncio.run(function())  # type: ignore[arg-type]

        def by_uvloop() -> None:
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(function())  # type: ignore[arg-type]

        def by_trio() -> None:
            import trio

            trio.run(function)

        def by_anyio() -> None:
            import anyio

            anyio.run(function, backend="asyncio")

        def by_anyio_on_trio() -> None:
            import anyio

            anyio.run(function, backend="trio")

        def by_reactor() -> None:
            with fastproc.Reactor() as reactor:
                task = reactor.create_task(function())  # type: ignore[arg-type]
                while not task.done:
                    reactor.run_once()
                task.result()

        for loop, action in (
            ("asyncio", by_asyncio),
            ("uvloop", by_uvloop),
            ("trio", by_trio),
            ("anyio", by_anyio),
            ("anyio_trio", by_anyio_on_trio),
            ("reactor", by_reactor),
        ):
            plain(f"{name}-{loop}")(action)
        return function

    return keep


QUICK = cmd("sh", "-c", "echo a; echo b")
SLOW = cmd("sh", "-c", "echo a; sleep 0.01; echo b")


@plain("run")
def _() -> None:
    fastproc.run("sh", "-c", "sleep 0.002; cat", input=b"x", capture=True)


@plain("run-exchange")
def _() -> None:
    fastproc.run("cat", input=iter([b"x", b"y"]), capture=True, on_line=lambda _name, _line: None, timeout=10)


@plain("run-limits")
def _() -> None:
    fastproc.run("sh", "-c", "echo abc", capture=True, stdout_limit=fastproc.CaptureLimit(2))


@plain("run-memory")
def _() -> None:
    fastproc.run("echo", "x", stdout=fastproc.MEMFD)


@plain("run-timeout")
def _() -> None:
    with contextlib.suppress(fastproc.TimeoutExpired):
        fastproc.run("sleep", "5", timeout=0.005, grace=0.005)


@plain("run-files")
def _() -> None:
    fastproc.run("cat", stdin="/dev/null", stdout="/dev/null", stderr="/dev/null", cwd="/")


@plain("run-tree")
def _() -> None:
    fastproc.run("sh", "-c", "sleep 5 & echo x", capture=True, kill_tree=True, drain_timeout=0.0)


@plain("run-missing")
def _() -> None:
    with contextlib.suppress(fastproc.SpawnError):
        fastproc.run("/does/not/exist")


@plain("lines")
def _() -> None:
    assert list(SLOW.lines()) == [b"a", b"b"]


@plain("lines-left")
def _() -> None:
    with contextlib.closing(cmd("sh", "-c", "echo a; exec sleep 5").lines(grace=0.005)) as lines:
        next(iter(lines))


@plain("pipeline-run")
def _() -> None:
    (SLOW | cmd("cat")).run(capture=True)


@plain("pipeline-general")
def _() -> None:
    (QUICK | cmd("cat")).then(cmd("true")).run(capture=True)


@plain("pipeline-lines")
def _() -> None:
    assert list((SLOW | cmd("cat")).lines()) == [b"a", b"b"]


@plain("pipeline-reader")
def _() -> None:
    with SLOW.reader() as reader:
        reader.read()


@plain("pipeline-reader-two")
def _() -> None:
    with (SLOW | cmd("cat")).reader() as reader:
        reader.read()


@plain("pipeline-start")
def _() -> None:
    with (SLOW | cmd("cat")).start(capture=True) as running:
        running.wait()


@plain("pipeline-stop")
def _() -> None:
    with (cmd("sleep", "5") | cmd("cat")).start(capture=True, grace=0.005) as running:
        running.stop()


@plain("start-wait")
def _() -> None:
    with fastproc.start("sh", "-c", "sleep 0.003") as process:
        process.wait()


@plain("start-left")
def _() -> None:
    with fastproc.start("sleep", "5"):
        pass


@plain("start-left-tree")
def _() -> None:
    with fastproc.start("sh", "-c", "sleep 5 & wait", kill_tree=True):
        pass


@plain("pipeline-left")
def _() -> None:
    with (cmd("sleep", "5") | cmd("cat")).start():
        pass


@plain("pipeline-left-tree")
def _() -> None:
    with (cmd("sh", "-c", "sleep 5 & wait", kill_tree=True) | cmd("cat")).start():
        pass


@plain("start-stop")
def _() -> None:
    with fastproc.start("sleep", "5") as process:
        process.stop(0.01)


# kill_tree=True: without it nobody has promised anything about the descendants of a child whose start was interrupted.
@plain("start-kill_tree")
def _() -> None:
    with fastproc.start("sh", "-c", "sleep 5 & wait", kill_tree=True) as process:
        process.kill_tree(0.01)


@plain("start-contained")
def _() -> None:
    with fastproc.start("sh", "-c", "sleep 5 & wait", kill_tree=True) as process:
        process.stop(0.01)


@plain("start-lines")
def _() -> None:
    with fastproc.start(SLOW, stdout=PIPE) as process:
        assert list(process.lines()) == [b"a", b"b"]


@plain("start-events")
def _() -> None:
    with fastproc.start("sh", "-c", "echo a; echo b >&2", stdout=PIPE, stderr=PIPE) as process:
        for _event in process.events():
            pass


@plain("start-chunks-input")
def _() -> None:
    with fastproc.start("cat", stdin=PIPE, stdout=PIPE) as process:
        assert b"".join(process.chunks(input=[b"x", b"y"])) == b"xy"


@plain("start-result")
def _() -> None:
    with fastproc.start("cat", stdin=PIPE, capture=True) as process:
        assert process.result(input=b"x").stdout == b"x"


@plain("start-expect")
def _() -> None:
    with fastproc.start("sh", "-c", "echo ready; read x; echo $x", stdin=PIPE, stdout=PIPE) as process:
        process.expect(b"ready\n", timeout=10)
        process.write(b"y\n")
        assert process.readline(timeout=10) == b"y\n"


@plain("start-pty")
def _() -> None:
    with fastproc.start("sh", "-c", "echo ready; read x", pty=True) as process:
        process.expect(b"ready", timeout=10)
        process.write(b"y\n")
        process.wait(10)


@plain("start-files")
def _() -> None:
    with fastproc.start("cat", stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdin.close()
        assert process.stdout.read() == b"x"


@plain("waiting")
def _() -> None:
    with fastproc.start("sleep", "0.002") as one, fastproc.start("sleep", "0.004") as two:
        assert len(list(fastproc.as_completed([one, two]))) == 2


@plain("wait_any")
def _() -> None:
    with fastproc.start("sleep", "0.002") as one, fastproc.start("sleep", "5") as two:
        assert fastproc.wait_any([one, two]) is one


@plain("pool-submit")
def _() -> None:
    with fastproc.Pool(2) as pool:
        assert pool.submit("echo", "x").result().stdout == b"x\n"


@plain("pool-map")
def _() -> None:
    with fastproc.Pool(2) as pool:
        assert len(list(pool.map(None, [cmd("echo", str(i)) for i in range(4)]))) == 4


@plain("pool-foreign")
def _() -> None:
    with fastproc.Pool(2) as pool:
        commands = [
            cmd("echo", "x", capture=True, on_line=lambda _n, _l: None),
            cmd("echo") | cmd("cat"),
            cmd("cat", stdin="/dev/null"),
        ]
        assert len(list(pool.map(None, commands))) == 3


@plain("pool-map-left")
def _() -> None:
    with fastproc.Pool(2) as pool:
        commands = [cmd("echo"), cmd("sleep", "0.005") | cmd("cat"), cmd("sleep", "5") | cmd("cat")]
        with contextlib.closing(pool.map(None, commands)) as results:  # type: ignore[type-var]
            next(results)


@plain("pool-left")
def _() -> None:
    with fastproc.Pool(1) as pool:
        pool.submit("sleep", "0.01")
        pool.submit("sleep", "0.01", capture=True, on_line=lambda _name, _line: None)


@plain("pool-stop")
def _() -> None:
    with fastproc.Pool(1, grace=0.005) as pool:
        for _number in range(3):
            pool.submit("sleep", "5")
        pool.stop()


@plain("pool-retries")
def _() -> None:
    with fastproc.Pool(1, retries=1) as pool, contextlib.suppress(fastproc.ExitError):
        list(pool.map(None, [cmd("sh", "-c", "exit 3", check=True)]))


@plain("map")
def _() -> None:
    assert len(list(fastproc.map("echo {}", ["a", "b", "c"], workers=2))) == 3


@plain("map-left")
def _() -> None:
    with fastproc.map("sleep {}", ["0.005", "5", "5"], workers=2) as mapped:
        next(iter(mapped))


@plain("map-functions")
def _() -> None:
    with fastproc.map(lambda item: cmd("cat") | cmd("cat"), ["a", "b"], workers=2, feed=lambda item: b"x") as mapped:
        for _result in mapped:
            pass


@in_loops("aio-run")
async def _() -> None:
    assert (await aio.run("sh", "-c", "sleep 0.002; echo x", capture=True)).stdout == b"x\n"


@in_loops("aio-run-exchange")
async def _() -> None:
    await aio.run("cat", input=iter([b"x", b"y"]), capture=True, on_line=lambda _name, _line: None, timeout=10)


@in_loops("aio-start")
async def _() -> None:
    async with aio.start(SLOW, stdout=PIPE) as process:
        assert [line async for line in process.lines()] == [b"a", b"b"]
        await process.wait()


@in_loops("aio-stop")
async def _() -> None:
    async with aio.start("sleep", "5", grace=0.01) as process:
        await process.stop()


@in_loops("aio-left")
async def _() -> None:
    async with aio.start("sleep", "5", grace=0.01):
        pass


@in_loops("aio-left-tree")
async def _() -> None:
    async with aio.start("sh", "-c", "sleep 5 & wait", kill_tree=True, grace=0.01):
        pass


@in_loops("aio-pipeline-left")
async def _() -> None:
    async with aio.start(cmd("sleep", "5") | cmd("cat"), grace=0.01):
        pass


@in_loops("aio-expect")
async def _() -> None:
    async with aio.start("sh", "-c", "echo ready; read x; echo $x", stdin=PIPE, stdout=PIPE) as process:
        await process.expect(b"ready\n", timeout=10)
        await process.write(b"y\n")
        assert await process.readline(timeout=10) == b"y\n"


@in_loops("aio-pipeline")
async def _() -> None:
    await aio.run(SLOW | cmd("cat"), capture=True)


@in_loops("aio-lines")
async def _() -> None:
    async with contextlib.aclosing(aio.lines(SLOW | cmd("cat"))) as lines:  # type: ignore[type-var]
        assert [line async for line in lines] == [b"a", b"b"]


@in_loops("aio-pool")
async def _() -> None:
    async with aio.Pool(2) as pool:
        assert (await pool.submit("echo", "x")).stdout == b"x\n"


@in_loops("aio-pool-map-left")
async def _() -> None:
    async with aio.Pool(2) as pool:
        commands = [cmd("echo"), cmd("sleep", "0.005") | cmd("cat"), cmd("sleep", "5") | cmd("cat")]
        async with contextlib.aclosing(pool.map(None, commands)) as results:  # type: ignore[type-var]
            await anext(results)


@in_loops("aio-pool-left")
async def _() -> None:
    async with aio.Pool(1) as pool:
        pool.submit("sleep", "0.01")
        pool.submit("sleep", "0.01", capture=True, on_line=lambda _name, _line: None)


@in_loops("aio-pool-map")
async def _() -> None:
    async with aio.Pool(2) as pool:
        async with contextlib.aclosing(pool.map(None, [cmd("echo"), cmd("echo") | cmd("cat")])) as results:  # type: ignore[type-var]
            assert len([result async for result in results]) == 2


@in_loops("aio-waiting")
async def _() -> None:
    async with aio.start("sleep", "0.002") as one, aio.start("sleep", "0.003") as two:
        assert len([process async for process in aio.as_completed([one, two])]) == 2


@in_loops("aio-wait_any")
async def _() -> None:
    async with aio.start("sleep", "0.002") as one, aio.start("sleep", "5", grace=0.01) as two:
        assert await aio.wait_any([one, two]) is one
        two.kill()
        assert await aio.wait_all([one, two]) == [0, -9]


@in_loops("aio-result")
async def _() -> None:
    async with aio.start("cat", stdin=PIPE, capture=True) as process:
        assert (await process.result(input=b"x")).stdout == b"x"


@in_loops("aio-events")
async def _() -> None:
    async with aio.start("sh", "-c", "echo a; echo b >&2", stdout=PIPE, stderr=PIPE) as process:
        async for _event in process.events():
            pass


@in_loops("aio-chunks")
async def _() -> None:
    async with aio.start("cat", stdin=PIPE, stdout=PIPE) as process:
        assert b"".join([chunk async for chunk in process.chunks(input=[b"x", b"y"])]) == b"xy"


@in_loops("aio-input")
async def _() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"x"
        yield b"y"

    assert (await aio.run("cat", input=source(), capture=True)).stdout == b"xy"


@in_loops("aio-missing")
async def _() -> None:
    with contextlib.suppress(fastproc.SpawnError):
        await aio.run("/does/not/exist")


@in_loops("aio-timeout")
async def _() -> None:
    with contextlib.suppress(fastproc.TimeoutExpired):
        await aio.run("sleep", "5", timeout=0.005, grace=0.005)


@in_loops("aio-kill_tree")
async def _() -> None:
    async with aio.start("sh", "-c", "sleep 5 & wait", kill_tree=True) as process:
        await process.kill_tree(0.01)


@in_loops("aio-pipeline-start")
async def _() -> None:
    async with aio.start(SLOW | cmd("cat"), capture=True) as running:
        await running.wait()


@in_loops("aio-pipeline-stop")
async def _() -> None:
    async with aio.start(cmd("sleep", "5") | cmd("cat"), grace=0.01) as running:
        await running.stop()


@in_loops("aio-lines-left")
async def _() -> None:
    async with contextlib.aclosing(aio.lines(cmd("sh", "-c", "echo a; exec sleep 5"), grace=0.005)) as lines:  # type: ignore[type-var]
        assert await anext(lines) == b"a"


@in_loops("aio-pool-stop")
async def _() -> None:
    async with aio.Pool(1, grace=0.005) as pool:
        for _number in range(2):
            pool.submit("sleep", "5")
        await pool.stop()


@in_loops("aio-monitor")
async def _() -> None:
    from fastproc import monitor

    async with aio.start("sleep", "0.003") as process:
        with monitor.Monitor() as watch:
            watch.watch(process.pid)
            async with contextlib.aclosing(aiter(watch)) as alerts:  # type: ignore[type-var]
                async for _alert in alerts:
                    break


@plain("popen")
def _() -> None:
    from fastproc import subprocess

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.communicate(b"x", timeout=10) == (b"x", None)


@plain("subprocess-run")
def _() -> None:
    from fastproc import subprocess

    assert subprocess.run(["cat"], input=b"x", capture_output=True, check=True).stdout == b"x"
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["sleep", "5"], timeout=0.005)


@plain("asyncio-subprocess")
def _() -> None:
    async def main() -> None:
        process = await aio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"x") == (b"x", None)

    asyncio.run(main())


def prepared(name: str) -> Callable[[Make], Make]:
    """Name a function that prepares an action; it may give a pair, with what ends the action's traces."""

    def keep(make: Make) -> Make:
        SCENARIOS[name] = make
        return make

    return keep


def _folder(stack: contextlib.ExitStack) -> str:
    return stack.enter_context(tempfile.TemporaryDirectory(prefix="fastproc-sweep-"))


@plain("run-contained")
def _() -> None:
    fastproc.run("sh", "-c", "sleep 5 & echo x", capture=True, kill_tree=True, timeout=10, drain_timeout=0.0)


@plain("contained-dropped")
def _() -> None:
    process = fastproc.start("sleep", "0.002", kill_tree=True)
    process.wait()
    del process


@plain("contained-mark")
def _() -> None:
    from fastproc.containment import _cgroup

    make, _cgroup.Cgroup.make = _cgroup.Cgroup.make, lambda _parent: None  # type: ignore[method-assign, assignment]
    try:
        with fastproc.start("sh", "-c", "setsid sleep 5 & wait", kill_tree=True) as process:
            process.kill_tree(0.01)
    finally:
        _cgroup.Cgroup.make = make  # type: ignore[method-assign]


@plain("aio-mark")
def _() -> None:
    from fastproc.containment import _cgroup

    async def main() -> None:
        async with aio.start("sh", "-c", "setsid sleep 5 & wait", kill_tree=True) as process:
            await process.kill_tree(0.01)

    make, _cgroup.Cgroup.make = _cgroup.Cgroup.make, lambda _parent: None  # type: ignore[method-assign, assignment]
    try:
        asyncio.run(main())
    finally:
        _cgroup.Cgroup.make = make  # type: ignore[method-assign]


@plain("subreaper")
def _() -> None:
    from fastproc import containment

    assert containment.subreaper() in (True, False)


@plain("wait_all")
def _() -> None:
    with fastproc.start("sleep", "0.002") as one, fastproc.start("sleep", "0.004") as two:
        assert len(fastproc.wait_all([one, two])) == 2


@plain("wait_any-timeout")
def _() -> None:
    with fastproc.start("sleep", "5") as one, fastproc.start("sleep", "5") as two:
        with contextlib.suppress(fastproc.TimeoutExpired):
            fastproc.wait_any([one, two], timeout=0.003)


@plain("pool-python")
def _() -> None:
    limit = fastproc.CaptureLimit(2)
    with fastproc.Pool(2) as pool:
        tasks = [
            pool.submit("sh", "-c", "echo abc", capture=True, stdout_limit=limit),
            pool.submit("sh", "-c", "echo a; echo b >&2", capture=True, on_line=lambda _name, _line: None),
            pool.submit(cmd("echo", "x") | cmd("cat"), capture=True),
            pool.submit("cat", input=iter([b"x", b"y"]), capture=True),
        ]
        for task in tasks:
            task.result()


@plain("pool-python-stop")
def _() -> None:
    with fastproc.Pool(1, grace=0.005) as pool:
        for _number in range(2):
            pool.submit("sleep", "5", capture=True, on_line=lambda _name, _line: None)
        pool.stop()


@prepared("map-joblog")
def _(stack: contextlib.ExitStack) -> Action:
    place = _folder(stack)

    def action() -> None:
        path = os.path.join(place, "log")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        assert len(list(fastproc.map("echo {}", ["a", "b"], workers=2, joblog=path))) == 2
        assert len(list(fastproc.map("echo {}", ["a", "b", "c"], workers=2, joblog=path, resume=True))) >= 1

    return action


@prepared("map-results")
def _(stack: contextlib.ExitStack) -> Action:
    place = _folder(stack)

    def action() -> None:
        path = os.path.join(place, "results")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        assert len(list(fastproc.map("echo {}", ["a", "b"], workers=2, results=path))) == 2

    return action


@plain("uvloop-subprocess")
def _() -> None:
    import uvloop

    async def main() -> None:
        process = await aio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(b"x") == (b"x", None)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@plain("asyncio-subprocess-shell")
def _() -> None:
    async def main() -> None:
        process = await aio.create_subprocess_shell("echo a; echo b >&2", stdout=PIPE, stderr=PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"a\n"
        assert await process.wait() == 0

    asyncio.run(main())


@plain("asyncio-subprocess-kill")
def _() -> None:
    async def main() -> None:
        process = await aio.create_subprocess_exec("sleep", "5")
        process.kill()
        assert await process.wait() == -9

    asyncio.run(main())


@plain("subprocess-output")
def _() -> None:
    from fastproc import subprocess

    assert subprocess.check_output("echo x", shell=True, text=True) == "x\n"
    assert subprocess.call(["sh", "-c", "exit 3"]) == 3
    assert subprocess.getoutput("echo x") == "x"


@plain("popen-wait")
def _() -> None:
    from fastproc import subprocess

    # It ends by itself at the end of its input: as the standard class's, its block kills nobody.
    command = ["sh", "-c", "echo x; exec cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "x\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.001)
        process.terminate()
        assert process.wait() == -15


@plain("snapshot")
def _() -> None:
    from fastproc import info

    assert len(fastproc.snapshot()) > 0
    assert info.children(os.getpid()) == []
    info.tree()
    info.thread_names(os.getpid())


@plain("system")
def _() -> None:
    from fastproc import info

    system = info.System()
    system.refresh()
    system.refresh("processes", "cpu")
    system.cgroup()


@plain("procfs")
def _() -> None:
    from fastproc import procfs

    with procfs.Process(os.getpid()) as process:
        process.stat()
        process.status()
        process.fds()
        for task in process.tasks():
            task.stat()


@plain("signals")
def _() -> None:
    import signal

    from fastproc import signals

    with signals.Signals(signal.SIGUSR1) as received:
        signal.raise_signal(signal.SIGUSR1)
        for _one in received:
            break
        assert received.pending() == []


@plain("signals-blocked")
def _() -> None:
    import signal

    from fastproc import signals

    try:
        with signals.Signals(signal.SIGUSR1, block=True) as received:
            signal.raise_signal(signal.SIGUSR1)
            received.get(timeout=5)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])


@plain("signals-flag")
def _() -> None:
    import signal

    from fastproc import signals

    with signals.Flag("USR2") as flag:
        signal.raise_signal(signal.SIGUSR2)
        assert flag
        assert flag.clear()


@plain("signals-forward")
def _() -> None:
    from fastproc import signals

    with fastproc.start("sleep", "5") as process, signals.forward(process, "USR1"):
        signals.queue(process, "USR2", 3)
        process.wait()


@plain("notify")
def _() -> None:
    from fastproc import systemd

    with systemd.NotifyServer() as server, server.start("sh", "-c", "sleep 0.001") as process:
        with contextlib.suppress(systemd.NotReady):
            server.wait_ready(5)
        process.wait()


@plain("notify-send")
def _() -> None:
    from fastproc import systemd

    address = f"@fastproc-sweep-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:])
        os.environ["NOTIFY_SOCKET"] = address
        try:
            assert systemd.notify(ready=True, status="x")
            with open(os.devnull, "rb") as file:
                assert systemd.notify(fdstore=[file], fdname="x")
        finally:
            os.environ.pop("NOTIFY_SOCKET", None)


@plain("listen_fds")
def _() -> None:
    from fastproc import systemd

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.bind(f"\0fastproc-sweep-listen-{os.getpid()}")
        one.listen()
        low = 3
        saved = os.dup(low) if os.path.exists(f"/proc/self/fd/{low}") else -1
        try:
            os.dup2(one.fileno(), low)
            os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="x")
            (found,) = systemd.listen_fds()
            assert found.name == "x"
        finally:
            for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
                os.environ.pop(variable, None)
            if saved >= 0:
                os.dup2(saved, low)
                os.close(saved)
            else:
                with contextlib.suppress(OSError):
                    os.close(low)


@prepared("syslog")
def _(stack: contextlib.ExitStack) -> Action:
    from fastproc import syslog

    path = os.path.join(_folder(stack), "log")
    receiver = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    receiver.bind(path)
    receiver.setblocking(False)

    def action() -> None:
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(65536):
                pass
        with syslog.Syslog(path) as log:
            log.send("x")
            receiver.recv(65536)
            log.send("y", "warning", msgid="z")
            receiver.recv(65536)

    return action


@plain("syslog-tcp")
def _() -> None:
    from fastproc import syslog

    with socket.create_server(("127.0.0.1", 0)) as server:
        with syslog.Syslog(server.getsockname()[:2], protocol="tcp") as log:
            log.send("x")
            with server.accept()[0] as receiver:
                log.pump()
                assert receiver.recv(100)
                log.flush()


@plain("syslog-udp")
def _() -> None:
    from fastproc import syslog

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with syslog.Syslog(server.getsockname()[:2]) as log:
            log.send("x")


@prepared("syslog-handler")
def _(stack: contextlib.ExitStack) -> Action:
    import logging

    from fastproc import syslog

    path = os.path.join(_folder(stack), "log")
    receiver = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    receiver.bind(path)
    receiver.setblocking(False)

    def action() -> None:
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(65536):
                pass
        with syslog.Syslog(path) as log:
            handler = syslog.Handler(log)
            handler.emit(logging.LogRecord("x", 20, "x", 1, "text", (), None))
            fastproc.run("sh", "-c", "echo a; echo b >&2", capture=True, on_line=syslog.Lines(log))
            while log.counts.in_flight:
                with contextlib.suppress(BlockingIOError):
                    receiver.recv(65536)
                log.flush(0.01)

    return action


@plain("users")
def _() -> None:
    from fastproc import users

    users.current_user()
    users.user("root")
    users.group("root")
    users.groups_of("root")
    users.all_users()
    users.access_list()


@plain("capabilities")
def _() -> None:
    from fastproc import capabilities

    capabilities.of_process()
    capabilities.read_identity()
    capabilities.to_text(capabilities.from_text("cap_net_raw=ep"))
    capabilities.read_file("/bin/sh")


@plain("monitor")
def _() -> None:
    from fastproc import monitor

    with fastproc.start("sleep", "0.003") as process, monitor.Monitor() as watch:
        watch.watch(process.pid)
        for _alert in watch:
            break


@plain("monitor-rules")
def _() -> None:
    from fastproc import monitor

    seen: list[object] = []
    with fastproc.start("sleep", "5") as process, monitor.Monitor(0.002, seen.append) as watch:
        watch.watch(process.pid, monitor.Rule("rss", above=1), restart=True)
        watch.run(0.006)
        watch.unwatch(process.pid)


@plain("reactor")
def _() -> None:
    with fastproc.Reactor() as reactor:
        task = reactor.run("sh", "-c", "echo x", capture=True)
        while not task.done:
            reactor.run_once()
        assert task.result().stdout == b"x\n"


@plain("reactor-close")
def _() -> None:
    with fastproc.Reactor() as reactor:
        reactor.run("sleep", "5", grace=0.005)
        reactor.create_task(reactor.sleep(0.001))
        reactor.run_once()
        reactor.run_once(0.002)


NAMESPACE = {"daemon-spawn", "daemon-call", "pidfile-stale", "privileges-temporarily", "privileges-drop"}
"""Those that stop by number, write pid files or change who the process is."""

FORKED = {"privileges-drop", "privileges-temporarily"}
"""Those that cannot be undone, or need a process with one thread: each time in a forked copy."""


def serve(outcome: Any) -> None:
    """Be the daemon of `daemon-call`."""
    outcome.ready()
    time.sleep(60)


def _of_daemon(stack: contextlib.ExitStack, start: Callable[[Any], int]) -> tuple[Action, Action]:
    from fastproc.daemon import Daemon, PidFile, PidFileError

    path = os.path.join(_folder(stack), "pid")
    daemon = Daemon("sweep", pid_file=path, start_timeout=8.0)

    def tidy() -> None:
        # As an administrator has it: whatever runs is found by the pid file.
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            with contextlib.suppress(PidFileError):
                PidFile(path).stop(0.5)
                if PidFile(path).status().state in ("stopped", "stale"):
                    return
            time.sleep(0.01)

    def action() -> None:
        tidy()
        pid = start(daemon)
        status = daemon.status()
        assert (status.state, status.pid) == ("running", pid), status
        stopped = daemon.stop(5.0)
        assert stopped is not None
        assert stopped.pid == pid
        assert daemon.status().state == "stopped"

    return action, tidy


@prepared("daemon-spawn")
def _(stack: contextlib.ExitStack) -> tuple[Action, Action]:
    return _of_daemon(stack, lambda daemon: daemon.spawn("sleep", "60"))


@prepared("daemon-call")
def _(stack: contextlib.ExitStack) -> tuple[Action, Action]:
    import injected

    return _of_daemon(stack, lambda daemon: daemon.call(injected.serve))


@prepared("pidfile-stale")
def _(stack: contextlib.ExitStack) -> Action:
    from fastproc.daemon import PidFile

    path = os.path.join(_folder(stack), "pid")

    def action() -> None:
        with open(path, "w", encoding="ascii") as file:
            file.write("4000000\n")
        os.chmod(path, 0o644)
        assert PidFile(path).status().state == "stale"
        PidFile(path).stop(0.1)

    return action


@prepared("privileges-temporarily")
def _(_stack: contextlib.ExitStack) -> Action:
    from fastproc import privileges

    # All modules, once: the copies have them.
    loading.load_if_unreadable()

    def action() -> None:
        assert os.geteuid() == 0
        with privileges.temporarily("nobody"):
            assert os.geteuid() != 0
        assert os.geteuid() == 0

    return action


@prepared("privileges-drop")
def _(_stack: contextlib.ExitStack) -> Action:
    from fastproc import privileges

    loading.load_if_unreadable()

    def action() -> None:
        privileges.drop_privileges("nobody")
        assert os.getresuid()[0] != 0

    return action
