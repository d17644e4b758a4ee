"""fastproc.signals in event loops: the asynchronous iterator, beside the loops' own handlers, under load."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from conftest import isolated
from fastproc import signals
from support.drivers import LOOPS, cancelled_after, need, run_in, sleep, together
from support.programs import Programs

USR1, USR2, INT = signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT
RT = int(signal.SIGRTMIN) + 1


async def beats(loop: str, over: Callable[[], bool]) -> tuple[int, float]:
    """Sleep for a millisecond again and again; how often, and the longest time from one to the next."""
    count, gap, last = 0, 0.0, time.monotonic()
    while not over():
        await sleep(loop, 0.001)
        now = time.monotonic()
        count, gap, last = count + 1, max(gap, now - last), now
    return count, gap


def storm(sender: str, seconds: float, loop: str) -> dict[str, Any]:
    """Three senders at 1 kHz beside a loop's own handlers: numbered, acknowledged, and free."""
    count = int(seconds * 1000)
    found: dict[str, Any] = {"values": [], "other": 0, "acked": 0, "own": 0, "free": 0, "beats": 0}
    found.update(gap=0.0, quiet_gap=0.0)
    order = (str(RT), str(count), "1000", "free"), (str(int(USR1)), str(count), "1000", "ack")
    order += ((str(int(USR2)), str(count), "1000", "free"),)

    async def main() -> None:
        done = False
        if loop in ("asyncio", "uvloop"):
            asyncio.get_running_loop().add_signal_handler(USR1, lambda: found.update(own=found["own"] + 1))
        all_of = signals.Signals(RT, "USR1", "USR2")
        with all_of, signals.Signals(RT) as second, signals.Flag("USR2") as flag:
            senders = [
                subprocess.Popen([sender, str(os.getpid()), *each], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                for each in order
            ]

            async def receive() -> None:
                nonlocal done
                acknowledge = senders[1].stdin
                assert acknowledge is not None
                while len(found["values"]) < count or found["acked"] < count:
                    one = await all_of.__anext__()
                    if one.signal == RT:
                        found["values"].append(one.value)
                    elif one.signal == USR1:
                        found["acked"] += 1
                        os.write(acknowledge.fileno(), b".")
                    else:
                        found["free"] += 1
                done = True

            async def receive_too() -> None:
                async for one in second:
                    found["other"] += one.value == found["other"]
                    if found["other"] == count:
                        break

            async def beat() -> None:
                found["beats"], found["gap"] = await beats(loop, lambda: done)

            await together(loop, receive, receive_too, beat)
            if seconds > 1.0:
                until = time.monotonic() + seconds
                _, found["quiet_gap"] = await beats(loop, lambda: time.monotonic() > until)
            for child in senders:
                child.communicate()
            found["free"] += len(all_of.pending())
            found["heard"] = flag.count
            found["left"] = len(all_of.pending()), len(second.pending()), all_of.lost, second.lost
        if loop in ("asyncio", "uvloop"):
            await sleep(loop, 0.05)
            asyncio.get_running_loop().remove_signal_handler(USR1)

    run_in(loop, main)
    found["values"] = found["values"] == list(range(count))
    found["count"] = count
    return found


def check_storm(found: dict[str, Any], loop: str) -> None:
    count = found["count"]
    # Numbered ones all, in order, by both receivers; acknowledged ones all; of free ones not more than were sent.
    assert (found["values"], found["other"], found["acked"]) == (True, count, count)
    # What the kernel has given to the process, and that is all that a handler can see of them.
    assert 0 < found["free"] == found["heard"] <= count
    assert [n for n in found["left"] if n] == []
    # asyncio's own handler, of which it hears by its wake-up descriptor.
    assert found["own"] == (count if loop in ("asyncio", "uvloop") else 0)
    assert found["beats"] > count / 20


@pytest.mark.parametrize("loop", LOOPS)
def test_signals_at_1_khz_beside_a_loop(pid_namespace: None, programs: Programs, loop: str) -> None:
    """Three senders for a second: no numbered one lost or handled twice, acknowledged ones all, the loop goes on."""
    need(loop)
    check_storm(isolated(storm, programs.queue, 1.0, loop, pid_namespace=True), loop)


# -- event loops


@pytest.mark.parametrize("loop", LOOPS)
def test_async_iterator_in_every_loop(loop: str) -> None:
    """What came before the wait, what comes during it, and the end when another task closes it."""
    need(loop)

    async def main() -> list[str]:
        found: list[str] = []
        received = signals.Signals("USR1", "INT")
        signal.raise_signal(USR1)

        async def receive() -> None:
            async with received:
                async for one in received:
                    found.append(one.name)

        async def send() -> None:
            await sleep(loop, 0.02)
            signal.raise_signal(INT)
            await sleep(loop, 0.02)
            received.close()

        await together(loop, receive, send)
        return found

    assert run_in(loop, main) == ["SIGUSR1", "SIGINT"]


@pytest.mark.parametrize("loop", LOOPS)
def test_several_receivers_and_tasks_in_one_loop(loop: str) -> None:
    """Two tasks share one receiver, a third has its own: each signal goes to one of the two, and to the third."""
    need(loop)

    async def main() -> tuple[int, int]:
        shared: list[int] = []
        own: list[int] = []
        received, other = signals.Signals(RT), signals.Signals(RT)

        async def take(source: signals.Signals, into: list[int]) -> None:
            async for one in source:
                into.append(one.serial)

        async def send() -> None:
            for _ in range(50):
                signal.raise_signal(RT)
                await sleep(loop, 0.0005)
            while len(shared) < 50 or len(own) < 50:
                await sleep(loop, 0.001)
            received.close()
            other.close()

        await together(
            loop, lambda: take(received, shared), lambda: take(received, shared), lambda: take(other, own), send
        )
        return len(set(shared)), len(set(own))

    assert run_in(loop, main) == (50, 50)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_handlers_of_the_loop_are_called_too(loop: str) -> None:
    """Added before the receiver, over it, and removed while it is there: both hear, then only the receiver."""
    need(loop)

    async def main() -> list[Any]:
        running = asyncio.get_running_loop()
        heard: list[Any] = []
        fd = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(fd)

        async def one(received: signals.Signals) -> None:
            signal.raise_signal(USR1)
            heard.append((await received.__anext__()).name)
            await asyncio.sleep(0.01)

        running.add_signal_handler(USR1, heard.append, "early")
        async with signals.Signals("USR1") as received:
            await one(received)
            running.add_signal_handler(USR1, heard.append, "late")
            received.pending()
            await one(received)
            running.remove_signal_handler(USR1)
            received.pending()
            await one(received)
        now = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(now)
        return heard

    heard = run_in(loop, main)
    assert sorted(heard[:2]) == sorted(["SIGUSR1", "early"])
    assert sorted(heard[2:4]) == sorted(["SIGUSR1", "late"])
    assert heard[4:] == ["SIGUSR1"]


def test_handler_over_a_waiting_receiver_is_found() -> None:
    """A task waits, and another one gives asyncio the signal: half a second later both have it."""

    async def main() -> tuple[str, list[str]]:
        running = asyncio.get_running_loop()
        heard: list[str] = []
        async with signals.Signals("USR1") as received:
            waiting = asyncio.ensure_future(received.__anext__())
            await asyncio.sleep(0.01)
            running.add_signal_handler(USR1, heard.append, "loop")
            while not waiting.done():
                signal.raise_signal(USR1)
                await asyncio.sleep(0.05)
            running.remove_signal_handler(USR1)
            return (await waiting).name, heard[:1]

    assert asyncio.run(main()) == ("SIGUSR1", ["loop"])


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_does_not_cancel_the_main_task(loop: str) -> None:
    """asyncio.run() and trio.run() have a handler of their own for SIGINT, which is their default action."""
    need(loop)

    async def main() -> str:
        async with signals.Signals("INT") as received:
            signal.raise_signal(INT)
            await sleep(loop, 0.01)
            return (await received.__anext__()).name

    assert run_in(loop, main) == "SIGINT"


def test_receiver_opened_before_asyncio_run() -> None:
    """asyncio.run() puts its handler over ours; the first wait takes the signal back."""

    async def main(received: signals.Signals) -> str:
        waiting = asyncio.ensure_future(received.__anext__())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        signal.raise_signal(INT)
        return (await waiting).name

    with signals.Signals("INT") as received:
        assert asyncio.run(main(received)) == "SIGINT"


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_wait_loses_nothing(loop: str) -> None:
    """The signal that comes after the cancellation is there for the next wait."""
    need(loop)

    async def main() -> tuple[bool, str]:
        async with signals.Signals("USR1") as received:
            ended = await cancelled_after(loop, 0.01, received.__anext__)
            signal.raise_signal(USR1)
            return ended, (await received.__anext__()).name

    assert run_in(loop, main) == (True, "SIGUSR1")
