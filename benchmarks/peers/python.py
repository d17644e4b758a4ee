"""The peers' cases by Python's libraries: `python.py NAME EXIT FEED`; README.md says what it is asked.

Each library is used as its documentation shows it. Not here: which of them is measured when (bench_peers.py).
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

AT_ONCE = 100
LINES_OF_A_PIPELINE = 300
SIZE_OF_A_LINE = 32
ARGV = sys.argv
EXIT, FEED = (*ARGV[2:4], "", "")[:2]
FIRST, COPY = [FEED, "lines", str(LINES_OF_A_PIPELINE)], [FEED, "copy"]

ballast: list[bytearray] = []
held: list[Any] = []


def weigh(count: int) -> None:
    """Keep so many bytes resident."""
    block = bytearray(count)
    block[::4096] = b"x" * len(range(0, count, 4096))
    ballast.append(block)


def check(right: object) -> None:
    if not right:
        raise RuntimeError("not what was expected")


def check_lines(lines: Any, count: int) -> None:
    seen = 0
    for line in lines:
        check(len(line) >= SIZE_OF_A_LINE - 1)
        seen += 1
    check(seen == count)


Cases = dict[str, Callable[[int], object]]


def repeat(call: Callable[[], object]) -> Callable[[int], None]:
    def times(count: int) -> None:
        for _ in range(count):
            call()

    return times


def threads(call: Callable[[], object]) -> Callable[[int], None]:
    """As a program does without a pool of its own: a ThreadPoolExecutor."""
    from concurrent.futures import ThreadPoolExecutor

    executor: list[ThreadPoolExecutor] = []

    def many(count: int) -> None:
        if not executor:
            executor.append(ThreadPoolExecutor(AT_ONCE))
        for future in [executor[0].submit(call) for _ in range(count)]:
            future.result()

    return many


def by_popen(popen: Any, run: Any) -> Cases:
    """What subprocess and everything with its Popen have in common."""
    from subprocess import PIPE

    def capture() -> None:
        check(run([EXIT], capture_output=True, check=True).stdout == b"")

    def big(count: int) -> None:
        check(len(run([FEED, "bytes", str(count)], capture_output=True, check=True).stdout) == count)

    def lines(count: int) -> None:
        with popen([FEED, "lines", str(count)], stdout=PIPE) as process:
            check_lines(process.stdout, count)
        check(process.returncode == 0)

    def pipeline() -> None:
        first = popen(FIRST, stdout=PIPE)
        second = popen(COPY, stdin=first.stdout, stdout=PIPE)
        first.stdout.close()
        third = popen(COPY, stdin=second.stdout, stdout=PIPE)
        second.stdout.close()
        check(len(third.communicate()[0]) == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE)
        check([process.wait() for process in (first, second, third)] == [0, 0, 0])

    def hold(count: int) -> None:
        held.extend(popen([FEED, "pause"], stdout=PIPE, stderr=PIPE) for _ in range(count))

    def drop(_count: int) -> None:
        for process in held:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()
        held.clear()

    return {
        "spawn": repeat(lambda: run([EXIT], check=True)),
        "capture": repeat(capture),
        "many": threads(capture),
        "big": big,
        "lines": lines,
        "pipeline": repeat(pipeline),
        "hold": hold,
        "drop": drop,
    }


def standard() -> Cases:
    import subprocess

    return by_popen(subprocess.Popen, subprocess.run)


def psutil_popen() -> Cases:
    import subprocess

    import psutil

    def run(argv: list[str], capture_output: bool = False, check: bool = False) -> Any:
        pipe = subprocess.PIPE if capture_output else None
        with psutil.Popen(argv, stdout=pipe, stderr=pipe) as process:
            out, err = process.communicate()
        if check and process.returncode != 0:
            raise RuntimeError(argv)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    return by_popen(psutil.Popen, run)


def sh() -> Cases:
    import sh as library

    # A finished command and not its text is what gives bytes.
    exit_, feed = (library.Command(program).bake(_return_cmd=True) for program in (EXIT, FEED))

    def capture() -> None:
        check(exit_().stdout == b"")

    def pipeline() -> None:
        out = feed("copy", _in=feed("copy", _in=feed("lines", LINES_OF_A_PIPELINE, _piped=True), _piped=True)).stdout
        check(len(out) == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE)

    def drop(_count: int) -> None:
        for process in held:
            process.kill()
            try:
                process.wait()
            except library.SignalException_SIGKILL:
                pass
        held.clear()

    return {
        "spawn": repeat(lambda: exit_(_fg=True)),
        "capture": repeat(capture),
        "many": threads(capture),
        "big": lambda count: check(len(feed("bytes", count).stdout) == count),
        "lines": lambda count: check_lines(feed("lines", count, _iter=True), count),
        "pipeline": repeat(pipeline),
        "hold": lambda count: held.extend(feed("pause", _bg=True, _bg_exc=False) for _ in range(count)),
        "drop": drop,
    }


def plumbum() -> Cases:
    from subprocess import PIPE

    from plumbum import FG, local

    exit_, feed = local[EXIT], local[FEED]

    def capture() -> None:
        check(exit_.run()[1] == "")

    def uncaptured() -> None:
        exit_ & FG

    def lines(count: int) -> None:
        check_lines((out for out, _ in feed["lines", count].popen().iter_lines()), count)

    def pipeline() -> None:
        whole = feed["lines", LINES_OF_A_PIPELINE] | feed["copy"] | feed["copy"]
        check(len(whole()) == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE)

    def drop(_count: int) -> None:
        for process in held:
            process.kill()
            process.communicate()
        held.clear()

    return {
        "spawn": repeat(uncaptured),
        "capture": repeat(capture),
        "many": threads(capture),
        "big": lambda count: check(len(feed("bytes", count)) == count),
        "lines": lines,
        "pipeline": repeat(pipeline),
        "hold": lambda count: held.extend(feed["pause"].popen(stdout=PIPE, stderr=PIPE) for _ in range(count)),
        "drop": drop,
    }


def ours() -> Cases:
    import fastproc
    from fastproc import cmd
    from fastproc.pool import Pool

    exit_, feed, pause = cmd(EXIT), cmd(FEED), cmd(FEED, "pause")
    whole = feed.args("lines", str(LINES_OF_A_PIPELINE)) | feed.args("copy") | feed.args("copy")

    def capture() -> None:
        check(fastproc.run(EXIT, capture=True).stdout == b"")

    pool: list[Pool] = []

    def many(count: int) -> None:
        if not pool:
            pool.append(Pool(AT_ONCE))
        for result in pool[0].map(lambda _: exit_, range(count), ordered=False):
            check(result.stdout == b"")

    def pipeline() -> None:
        check(len(fastproc.run(whole, stdout=fastproc.PIPE).stdout or b"") == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE)

    def big(count: int) -> None:
        check(len(fastproc.run(FEED, "bytes", str(count), capture=True).stdout or b"") == count)

    def lines(count: int) -> None:
        with fastproc.start(FEED, "lines", str(count), stdout=fastproc.PIPE) as process:
            check_lines(process.lines(), count)
        check(process.returncode == 0)

    def hold(count: int) -> None:
        held.extend(fastproc.start(pause, stdout=fastproc.PIPE, stderr=fastproc.PIPE) for _ in range(count))

    def drop(_count: int) -> None:
        for process in held:
            with process:
                process.kill()
        held.clear()

    return {
        "spawn": repeat(lambda: fastproc.run(EXIT)),
        "capture": repeat(capture),
        "many": many,
        "big": big,
        "lines": lines,
        "pipeline": repeat(pipeline),
        "hold": hold,
        "drop": drop,
    }


AsyncCases = dict[str, Callable[[int], Awaitable[object]]]


def again(call: Callable[[], Awaitable[object]]) -> Callable[[int], Awaitable[None]]:
    async def times(count: int) -> None:
        for _ in range(count):
            await call()

    return times


def gathered(call: Callable[[], Awaitable[object]]) -> Callable[[int], Awaitable[None]]:
    async def many(count: int) -> None:
        places = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with places:
                await call()

        await asyncio.gather(*(one() for _ in range(count)))

    return many


def asyncio_cases() -> AsyncCases:
    from asyncio import create_subprocess_exec as create
    from asyncio.subprocess import PIPE

    async def uncaptured() -> None:
        check(await (await create(EXIT)).wait() == 0)

    async def whole(*argv: str) -> bytes:
        process = await create(*argv, stdout=PIPE, stderr=PIPE)
        out, _ = await process.communicate()
        check(process.returncode == 0)
        return out

    async def capture() -> None:
        check(await whole(EXIT) == b"")

    async def big(count: int) -> None:
        check(len(await whole(FEED, "bytes", str(count))) == count)

    async def lines(count: int) -> None:
        process = await create(FEED, "lines", str(count), stdout=PIPE)
        seen = 0
        assert process.stdout is not None
        async for line in process.stdout:
            check(len(line) == SIZE_OF_A_LINE)
            seen += 1
        check(seen == count)
        check(await process.wait() == 0)

    async def pipeline() -> None:
        stages = []
        before = None
        for argv in (FIRST, COPY):
            end, start = os.pipe()
            stages.append(await create(*argv, stdin=before, stdout=start))
            os.close(start)
            if before is not None:
                os.close(before)
            before = end
        stages.append(await create(*COPY, stdin=before, stdout=PIPE))
        assert before is not None
        os.close(before)
        out, _ = await stages[-1].communicate()
        check(len(out) == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE)
        check([await process.wait() for process in stages] == [0, 0, 0])

    async def hold(count: int) -> None:
        for _ in range(count):
            held.append(await create(FEED, "pause", stdout=PIPE, stderr=PIPE))

    async def drop(_count: int) -> None:
        for process in held:
            process.kill()
            await process.communicate()
        held.clear()

    return {
        "spawn": again(uncaptured),
        "capture": again(capture),
        "many": gathered(capture),
        "big": big,
        "lines": lines,
        "pipeline": again(pipeline),
        "hold": hold,
        "drop": drop,
    }


def ours_async() -> AsyncCases:
    from fastproc import PIPE, aio, cmd

    exit_ = cmd(EXIT)
    whole = cmd(*FIRST) | cmd(*COPY) | cmd(*COPY)

    async def capture() -> None:
        check((await aio.run(EXIT, capture=True)).stdout == b"")

    async def many(count: int) -> None:
        async with aio.Pool(AT_ONCE) as pool:
            async for result in pool.map(lambda _: exit_, range(count), ordered=False):
                check(result.stdout == b"")

    async def big(count: int) -> None:
        check(len((await aio.run(FEED, "bytes", str(count), capture=True)).stdout or b"") == count)

    async def lines(count: int) -> None:
        seen = 0
        async with aio.start(FEED, "lines", str(count), stdout=PIPE) as process:
            async for line in process.lines():
                check(len(line) == SIZE_OF_A_LINE - 1)
                seen += 1
        check(process.returncode == 0)
        check(seen == count)

    async def pipeline() -> None:
        check(len((await aio.run(whole, stdout=PIPE)).stdout or b"") == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE)

    async def hold(count: int) -> None:
        for _ in range(count):
            held.append(await aio.start(FEED, "pause", stdout=PIPE, stderr=PIPE))

    async def drop(_count: int) -> None:
        for process in held:
            async with process:
                process.kill()
        held.clear()

    return {
        "spawn": again(lambda: aio.run(EXIT)),
        "capture": again(capture),
        "many": many,
        "big": big,
        "lines": lines,
        "pipeline": again(pipeline),
        "hold": hold,
        "drop": drop,
    }


async def cut(chunks: Any, count: int) -> None:
    """Lines of a stream that has none of its own."""
    seen, rest = 0, b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            check(len(line) == SIZE_OF_A_LINE - 1)
        seen += len(whole)
    check(seen == count and not rest)


def trio_cases() -> AsyncCases:
    from functools import partial
    from subprocess import PIPE

    import trio

    async def capture() -> None:
        check((await trio.run_process([EXIT], capture_stdout=True, capture_stderr=True)).stdout == b"")

    async def many(count: int) -> None:
        places = trio.CapacityLimiter(AT_ONCE)

        async def one() -> None:
            async with places:
                await capture()

        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(one)

    async def big(count: int) -> None:
        argv = [FEED, "bytes", str(count)]
        check(len((await trio.run_process(argv, capture_stdout=True, capture_stderr=True)).stdout) == count)

    async def lines(count: int) -> None:
        async with trio.open_nursery() as nursery:
            process = await nursery.start(partial(trio.run_process, [FEED, "lines", str(count)], stdout=PIPE))
            await cut(process.stdout, count)

    async def pipeline() -> None:
        (one, to_two), (two, to_three) = os.pipe(), os.pipe()
        first = await trio.lowlevel.open_process(FIRST, stdout=to_two)
        second = await trio.lowlevel.open_process(COPY, stdin=one, stdout=to_three)
        third = await trio.lowlevel.open_process(COPY, stdin=two, stdout=PIPE)
        for end in (one, to_two, two, to_three):
            os.close(end)
        size = 0
        assert third.stdout is not None
        async for chunk in third.stdout:
            size += len(chunk)
        check(size == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE)
        check([await process.wait() for process in (first, second, third)] == [0, 0, 0])
        await third.stdout.aclose()

    async def hold(count: int) -> None:
        for _ in range(count):
            held.append(await trio.lowlevel.open_process([FEED, "pause"], stdout=PIPE, stderr=PIPE))

    async def drop(_count: int) -> None:
        for process in held:
            process.kill()
            await process.wait()
            for stream in (process.stdout, process.stderr):
                await stream.aclose()
        held.clear()

    return {
        "spawn": again(lambda: trio.run_process([EXIT])),
        "capture": again(capture),
        "many": many,
        "big": big,
        "lines": lines,
        "pipeline": again(pipeline),
        "hold": hold,
        "drop": drop,
    }


def anyio_cases() -> AsyncCases:
    from subprocess import PIPE

    import anyio

    async def uncaptured() -> None:
        await anyio.run_process([EXIT], stdout=None, stderr=None)

    async def capture() -> None:
        check((await anyio.run_process([EXIT])).stdout == b"")

    async def many(count: int) -> None:
        places = anyio.CapacityLimiter(AT_ONCE)

        async def one() -> None:
            async with places:
                await capture()

        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(one)

    async def big(count: int) -> None:
        check(len((await anyio.run_process([FEED, "bytes", str(count)])).stdout) == count)

    async def lines(count: int) -> None:
        async with await anyio.open_process([FEED, "lines", str(count)], stderr=None) as process:
            await cut(process.stdout, count)

    async def pipeline() -> None:
        (one, to_two), (two, to_three) = os.pipe(), os.pipe()
        first = await anyio.open_process(FIRST, stdin=None, stdout=to_two, stderr=None)
        second = await anyio.open_process(COPY, stdin=one, stdout=to_three, stderr=None)
        third = await anyio.open_process(COPY, stdin=two, stdout=PIPE, stderr=None)
        for end in (one, to_two, two, to_three):
            os.close(end)
        size = 0
        assert third.stdout is not None
        async for chunk in third.stdout:
            size += len(chunk)
        check(size == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE)
        check([await process.wait() for process in (first, second, third)] == [0, 0, 0])
        for process in (first, second, third):
            await process.aclose()

    async def hold(count: int) -> None:
        for _ in range(count):
            held.append(await anyio.open_process([FEED, "pause"], stdin=None))

    async def drop(_count: int) -> None:
        for process in held:
            process.kill()
            await process.wait()
            await process.aclose()
        held.clear()

    return {
        "spawn": again(uncaptured),
        "capture": again(capture),
        "many": many,
        "big": big,
        "lines": lines,
        "pipeline": again(pipeline),
        "hold": hold,
        "drop": drop,
    }


BLOCKING: dict[str, Callable[[], Cases]] = {
    "fastproc": ours,
    "subprocess": standard,
    "psutil": psutil_popen,
    "sh": sh,
    "plumbum": plumbum,
}


def in_uvloop(main: Any) -> None:
    import uvloop

    uvloop.run(main)


def in_trio(main: Any) -> None:
    import trio

    async def wrapped() -> None:
        await main

    trio.run(wrapped)


LOOPS: dict[str, tuple[Callable[[], AsyncCases], Callable[[Any], object]]] = {
    "fastproc.aio": (ours_async, asyncio.run),
    "asyncio": (asyncio_cases, asyncio.run),
    "uvloop": (asyncio_cases, in_uvloop),
    "anyio": (anyio_cases, asyncio.run),
    "trio": (trio_cases, in_trio),
}


async def serve(cases: dict[str, Any], awaited: bool) -> None:
    """Answer each line `CASE COUNT` with the nanoseconds it took."""
    cases = {**cases}
    while line := sys.stdin.readline():
        name, count = line.split()
        begin = time.perf_counter_ns()
        if name == "ballast":
            weigh(int(count))
        elif name not in cases:
            print("-", flush=True)
            continue
        else:
            done = cases[name](int(count))
            if awaited:
                await done
        print(time.perf_counter_ns() - begin, flush=True)


def main() -> None:
    name = ARGV[1]
    if name in LOOPS:
        make, run = LOOPS[name]
        run(serve(make(), True))
        return
    # What blocks runs in no loop: the coroutine never waits.
    try:
        serve(BLOCKING[name](), False).send(None)
    except StopIteration:
        pass


if __name__ == "__main__":
    main()
