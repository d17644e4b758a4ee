"""wait_any, as_completed, wait_all: many children, one epoll."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, process_time
from typing import Any

import pytest

import fastproc
from conftest import isolated
from fastproc import PIPE, Process, TimeoutExpired, aio, as_completed, wait_all, wait_any, waiting
from support import observe
from support.programs import CAT, EXIT, SLEEP, Programs


@contextmanager
def started(*commands: tuple[str, ...], **options: Any) -> Iterator[list[Process]]:
    """Start commands, and end them after the test."""
    processes: list[Process] = []
    try:
        for argv in commands:
            processes.append(fastproc.start(*argv, **options))
        yield processes
    finally:
        for process in processes:
            process.__exit__(None, None, None)


def end(process: Process) -> None:
    """Let a `cat` see the end of its input."""
    assert process.stdin is not None
    process.stdin.close()


def test_wait_any_gives_the_one_that_ended() -> None:
    """Not the first, and without its status being asked for."""
    with started(SLEEP, EXIT(3), SLEEP) as processes:
        found = wait_any(processes, timeout=10)
        assert found is processes[1]
        assert found.returncode == 3
        assert wait_any(processes) is found


def test_as_completed_follows_the_ends() -> None:
    """The order is that of the ends; a process given twice comes once."""
    with started(CAT, CAT, CAT, stdin=PIPE) as processes:
        order = [processes[2], processes[0], processes[1]]
        ends = as_completed([*processes, *processes], timeout=10)
        found = []
        for process in order:
            end(process)
            found.append(next(ends))
        assert found == order
        assert next(ends, None) is None


def test_as_completed_gives_what_has_ended_first() -> None:
    """Processes that were reaped before need no wait, in the order given."""
    with started(EXIT(1), SLEEP, EXIT(2)) as processes:
        processes[2].wait()
        processes[0].wait()
        ends = as_completed(processes)
        assert [next(ends).returncode, next(ends).returncode] == [1, 2]
        del ends


def test_wait_all_gives_codes_in_the_order_given() -> None:
    """Whatever the order of their ends, also for a process given twice."""
    with started(EXIT(4), ("/bin/sh", "-c", "kill -9 $$"), EXIT(0)) as processes:
        assert wait_all([*processes, processes[0]], timeout=10) == [4, -9, 0, 4]


def test_empty_lists() -> None:
    """Nothing is at once complete; to wait for one of none is a mistake."""
    assert wait_all([]) == []
    assert list(as_completed([])) == []
    with pytest.raises(ValueError, match=r"^processes: there are none"):
        wait_any([])


def test_other_objects_are_refused() -> None:
    """With their name, and before anything is waited for."""
    with pytest.raises(TypeError, match=r"^processes: must be processes from start\(\), not int"):
        as_completed([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^timeout: NaN"):
        as_completed([], timeout=float("nan"))


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_timeout_names_who_runs(timeout: float) -> None:
    """A TimeoutError with the command; what had ended has been given; all still run."""
    with started(SLEEP, EXIT(0), SLEEP) as processes:
        processes[1].wait()
        found: list[Process] = []
        begin = monotonic()
        with pytest.raises(TimeoutExpired, match=r"^`sleep 60 \(and 1 more\)` timed out after"):
            found.extend(as_completed(processes, timeout))
        assert timeout <= monotonic() - begin < timeout + 0.3
        assert found == [processes[1]]
        with pytest.raises(TimeoutError, match=r"^`sleep 60` timed"):
            wait_any(processes[:1], 0.01)
        assert processes[0].poll() is None


def test_late_caller_gets_all_that_ended_before_the_deadline() -> None:
    """More than one look can take; the deadline passes while the caller is busy."""
    with started(*[EXIT(0)] * 70, SLEEP) as processes:
        ends = as_completed(processes, timeout=0.3)
        found = [next(ends)]
        for process in processes[:-1]:
            os.waitid(os.P_PIDFD, process.fileno(), os.WEXITED | os.WNOWAIT) if process.pidfd >= 0 else None
        threading.Event().wait(0.35)
        with pytest.raises(TimeoutExpired):
            found.extend(ends)
        assert len(found) == 70


def test_works_without_pidfds() -> None:
    """Where the kernel has none, by looking again and again."""
    with started(EXIT(5), SLEEP) as processes:
        for process in processes:
            process._pidfd.close()
        assert wait_any(processes, timeout=10).returncode == 5
        processes[1].kill()
        assert wait_all(processes, timeout=10) == [5, -9]


def test_readable_with_nothing_to_reap_is_not_spun_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a tracer: looked at by a timer, until the status is there (GOTCHAS D6)."""
    with started(EXIT(6)) as processes:
        looks = 0
        true_poll = Process.poll

        def poll(self: Process) -> int | None:
            nonlocal looks
            looks += 1
            return None if looks < 6 else true_poll(self)

        monkeypatch.setattr(Process, "poll", poll)
        assert wait_any(processes, timeout=10).returncode == 6
        assert looks == 6


def test_reaped_by_another_thread_meanwhile() -> None:
    """The pidfd stays open while it is watched (GOTCHAS C12)."""
    with started(CAT, SLEEP, stdin=PIPE) as processes:
        thread = threading.Thread(target=processes[0].wait)
        thread.start()
        end(processes[0])
        assert wait_any(processes, timeout=10) is processes[0]
        thread.join()
        assert processes[0].pidfd == -1


def test_abandoned_iteration_holds_nothing() -> None:
    """Neither epoll nor pidfd stays when the loop is left, and an exception in it comes out."""
    with started(EXIT(0), EXIT(0), SLEEP) as processes:
        before = len(observe.fds())
        for process in as_completed(processes):
            assert process.returncode == 0
            break
        processes[0].wait()
        processes[1].wait()
        assert len(observe.fds()) <= before


def stolen() -> list[str]:
    """With SIGCHLD ignored the kernel reaps; where it does not tell the status, wait_all does not guess one."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    processes = [fastproc.start(*EXIT(3)), fastproc.start(*EXIT(0))]
    seen = len(list(as_completed(processes, timeout=10)))
    try:
        return [str(seen), str(wait_all(processes))]
    except fastproc.ExitStatusUnknown:
        return [str(seen), "[3, 0]"]


def test_lost_status_is_an_end() -> None:
    """Reported as ended; the true status or ExitStatusUnknown (GOTCHAS D2)."""
    assert isolated(stolen) == ["2", "[3, 0]"]


def forked_copy() -> int:
    process = fastproc.start(*SLEEP)
    pid = os.fork()
    if pid == 0:
        try:
            wait_any([process], timeout=5)
        except fastproc.ProcessError:
            os._exit(7)
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    running = process.poll() is None
    process.__exit__(None, None, None)
    return code if running else -1


def test_forked_copy_refuses() -> None:
    """A handle belongs to the process that started the child (GOTCHAS I2)."""
    assert isolated(forked_copy) == 7


def many(program: str, count: int) -> dict[str, float]:
    """Start, sleep, then end them one by one; how much CPU the sleep took, how late the reports were."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * count + 100), hard))
    read_end, write_end = os.pipe()
    before = len(observe.fds())
    processes = [fastproc.start(program, stdin=read_end) for _ in range(count)]
    begin, cpu = monotonic(), process_time()
    try:
        list(as_completed(processes, timeout=1.0))
    except TimeoutExpired:
        pass
    share = (process_time() - cpu) / (monotonic() - begin)
    ends = as_completed(processes, timeout=60.0)
    processes[0].kill()
    seen = int(next(ends) is processes[0])  # the first one waits for 2,000 registrations too
    delays = []
    for process in processes[1:200]:
        process.kill()
        sent = monotonic()
        assert next(ends) is process
        delays.append(monotonic() - sent)
        seen += 1
    os.close(write_end)
    seen += sum(1 for _ in ends)
    delays.sort()
    os.close(read_end)
    return {
        "share": share,
        "most": delays[-3],
        "worst": delays[-1],
        "seen": seen,
        "leaked": len(observe.fds()) - before + 2,
    }


def test_many_children_cost_nothing_while_they_sleep(programs: Programs) -> None:
    """2,000 of them: under 5% of a CPU, each end reported within 20 ms, no descriptor left."""
    found = isolated(many, "/bin/cat", 2000)
    print(found)
    assert (found["seen"], found["leaked"]) == (2000, 0)
    assert found["share"] < 0.05
    assert found["most"] < 0.02  # two may meet the machine's other work


SEQ = b"".join(b"%d\n" % number for number in range(1, 100_001))


@pytest.mark.parametrize("how", ["wait_all", "wait_any", "as_completed", "asyncio"])
def test_children_with_a_callback_are_read(how: str) -> None:
    """Their pipes are too small for what they write; the others are waited for as ever."""
    told: list[Any] = []
    options: dict[str, Any] = {"capture": True, "on_line": lambda _stream, line: told.append(line)}

    async def all_of_them() -> None:
        async with aio.start("seq", "100000", **options) as first, aio.start("seq", "100000", **options) as second:
            async with aio.start("sh", "-c", "exit 3") as third:
                assert await aio.wait_all([first, second, third], timeout=20) == [0, 0, 3]
            for process in (first, second):
                assert (await process.result()).stdout == SEQ

    if how == "asyncio":
        asyncio.run(all_of_them())
    else:
        commands = (("seq", "100000"), ("seq", "100000"))
        with started(*commands, **options) as processes, started(EXIT(3)) as others:
            if how == "wait_all":
                assert wait_all([*processes, *others], timeout=20) == [0, 0, 3]
            elif how == "as_completed":
                assert set(as_completed([*processes, *others], timeout=20)) == {*processes, *others}
            else:
                assert wait_any(processes, timeout=20) in processes
                wait_all(processes, timeout=20)
            assert [process.result().stdout for process in processes] == [SEQ, SEQ]
    assert sorted(told, key=int) == sorted(SEQ.split() * 2, key=int)


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_what_a_callback_raises_comes_out_of_the_wait(kind: str) -> None:
    """And another wait goes on."""
    left = 2

    def call(_stream: str, _line: bytes) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise LookupError

    async def waited() -> None:
        async with aio.start("seq", "9", capture=True, on_line=call) as process:
            for _ in range(2):
                with pytest.raises(LookupError):
                    await aio.wait_all([process], timeout=20)
            assert await aio.wait_all([process], timeout=20) == [0]

    if kind == "asyncio":
        asyncio.run(waited())
    else:
        with started(("seq", "9"), capture=True, on_line=call) as processes:
            for _ in range(2):
                with pytest.raises(LookupError):
                    wait_all(processes, timeout=20)
            assert wait_all(processes, timeout=20) == [0]
    assert left == 2 - 9


def test_child_that_is_read_may_be_late() -> None:
    """The wait ends in time, and nothing is lost."""
    with started(("sh", "-c", "echo a; exec sleep 60"), capture=True, on_line=lambda _stream, _line: None) as processes:
        with pytest.raises(TimeoutExpired):
            wait_all(processes, timeout=0.2)
        processes[0].kill()
        assert wait_all(processes, timeout=20) == [-signal.SIGKILL]
        assert processes[0].result().stdout == b"a\n"


def test_exception_in_the_cleanup_of_wait_any_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that raises at the end is not left to the collector, which would swallow the exception."""

    class Interrupted(waiting.Reactor):
        def run_once(self, timeout: float | None = None) -> int:
            first.kill()  # now, as one that has ended before needs no reactor
            return super().run_once(timeout)

        def close(self) -> None:
            super().close()
            raise KeyboardInterrupt

    with started(SLEEP, SLEEP) as (first, second):
        monkeypatch.setattr(waiting, "Reactor", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            wait_any([first, second])
