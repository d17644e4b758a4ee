"""The bulk path from inside: a run that does not wait for the exec, with and without a pidfd.

With one thread and the default SIGCHLD nobody else can reap, and a short run needs no pidfd; with a second thread each
has one. Both must give the same results and leave the signal mask as it was. In interpreters of their own, since only a
fresh one is sure to have a single thread.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated, wait_until
from support import observe
from support.programs import Programs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the raw mechanisms are Linux's")


def _described(call: Callable[[], Any]) -> list[Any]:
    """Return what a run gave, as JSON can carry it."""
    import fastproc

    try:
        result = call()
    except (fastproc.SpawnError, fastproc.ExitError, fastproc.TimeoutExpired) as error:
        stage = getattr(error, "stage", None)
        return [type(error).__name__, getattr(error, "errno", None), stage, repr(getattr(error, "stdout", None))]
    output = "".join(f"{len(data)}: {data[:99]!r} " for data in (result.stdout or b"", result.stderr or b""))
    return [result.returncode, output, result.stdout is None, result.usage is not None, result.mechanism]


def outcomes(thread: bool, static: str, folder: str) -> dict[str, Any]:
    """Run the same things with one thread or with two."""
    import fastproc

    end = threading.Event()
    other = threading.Thread(target=end.wait)
    if thread:
        other.start()
    text = Path(folder) / "no program"
    text.write_text("no program")
    text.chmod(0o755)
    before = observe.signal_state(), observe.fds()
    calls: dict[str, Callable[[], Any]] = {
        "nothing captured": lambda: fastproc.run(static),
        "captured": lambda: fastproc.run("sh", "-c", "echo out; echo err >&2", capture=True),
        "one stream": lambda: fastproc.run("echo", "x", stdout=fastproc.PIPE),
        "input": lambda: fastproc.run("cat", input=b"x" * 300_000, capture=True),
        "input that nobody reads": lambda: fastproc.run(static, input=b"x" * 300_000, capture=True),
        "long": lambda: fastproc.run("sh", "-c", "sleep 0.05; echo late", capture=True),
        "long, nothing captured": lambda: fastproc.run("sleep", "0.05"),
        "closes its outputs, lives on": lambda: fastproc.run("sh", "-c", "exec >&- 2>&-; sleep 0.03", capture=True),
        "status": lambda: fastproc.run("sh", "-c", "exit 3", check=False),
        "signal": lambda: fastproc.run("sh", "-c", "kill -9 $$", check=False),
        "no such program": lambda: fastproc.run("/nonexistent/program"),
        "no such program, captured": lambda: fastproc.run("/nonexistent/program", capture=True),
        "not executable": lambda: fastproc.run(str(text), capture=True),
        "limit refused": lambda: fastproc.run("true", rlimits={"NOFILE": (1 << 40, 1 << 40)}),
        "deadline": lambda: fastproc.run("sh", "-c", "echo x; exec sleep 9", capture=True, timeout=0.1),
        "deadline at once": lambda: fastproc.run("sleep", "9", timeout=0.001),
        "a grandchild holds the pipe": lambda: fastproc.run(
            "sh", "-c", "sleep 9 & echo $!", capture=True, drain_timeout=0.05
        ),
        "mask": lambda: fastproc.run("sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status", capture=True),
    }
    found: dict[str, Any] = {}
    for name, call in calls.items():
        found[name] = _described(call)
        if name == "a grandchild holds the pipe":
            os.kill(int(re.findall(r"\d+", found[name][1])[1]), signal.SIGKILL)
            found[name][1] = ""
        if (observe.signal_state(), observe.fds()) != before:
            found[name].append(f"left behind: {before} {observe.signal_state(), observe.fds()}")
    assert observe.children() == set()
    end.set()
    if thread:
        other.join()
    return found


def test_results_are_the_same_with_and_without_a_pidfd(programs: Programs, tmp_path: Path) -> None:
    """Status, output, errors, usage; nothing left, the mask as before."""
    alone = isolated(outcomes, False, programs.static_exit, str(tmp_path), pid_namespace=True)
    watched = isolated(outcomes, True, programs.static_exit, str(tmp_path), pid_namespace=True)
    assert alone == watched
    assert {name: value for name, value in alone.items() if "left behind" in str(value)} == {}
    assert alone["no such program"][:3] == ["SpawnFileNotFoundError", 2, "exec"]
    assert alone["limit refused"][2] == "rlimits"
    assert alone["deadline"][0] == "TimeoutExpired"
    assert alone["deadline"][3] == repr(b"x\n")


def interrupted(captured: bool) -> list[Any]:
    """Interrupt a run that has no pidfd yet, and one that got one late."""
    import fastproc

    found: list[Any] = []
    for delay in (0.001, 0.05):
        before = observe.signal_state(), observe.fds()
        signal.setitimer(signal.ITIMER_REAL, delay)
        start = time.monotonic()
        try:
            fastproc.run("sleep", "20", capture=captured)
        except InterruptedError:
            found.append(time.monotonic() - start < 5)
        found.append((observe.signal_state(), observe.fds()) == before)
        found.append(sorted(observe.children()))
    return found


def _raise(*_: object) -> None:
    raise InterruptedError


def interrupts(captured: bool) -> list[Any]:
    """As `interrupted`, with a handler that raises."""
    signal.signal(signal.SIGALRM, _raise)
    return interrupted(captured)


@pytest.mark.parametrize("captured", [True, False])
def test_interrupt_without_a_pidfd_leaves_nothing(captured: bool) -> None:
    """A handler that raises ends the run; the child is gone, the mask is as before."""
    assert isolated(interrupts, captured) == [True, True, []] * 2


def busy_text(folder: str) -> list[Any]:
    """Execute a file that is open for writing for a while."""
    import fastproc

    target = Path(folder) / "program"
    shutil.copy("/bin/cat", target)
    found = []
    for capture in (True, False):
        writer = os.open(target, os.O_WRONLY)
        timer = threading.Timer(0.01, os.close, (writer,))
        timer.start()
        result = fastproc.run(target, input=b"fed twice, read once", capture=capture, stdout=fastproc.PIPE)
        timer.join()
        found.append((result.stdout or b"").decode())
    return found


def test_file_open_for_writing_is_tried_again(tmp_path: Path) -> None:
    """GOTCHAS C2: ETXTBSY comes after the parent has gone on; the whole is made again, and input is whole."""
    assert isolated(busy_text, str(tmp_path)) == ["fed twice, read once"] * 2


def slow_exec(program: str) -> list[Any]:
    """Run while the exec takes longer than the deadline, and the tracer then holds the dead child."""
    import fastproc
    from fastproc._engine import orphans

    try:
        fastproc.run(program, capture=True, timeout=0.2)
    except fastproc.TimeoutExpired as error:
        found = [error.result is None, (error.stdout or b"").decode(), [one.why for one in error.survivors]]
        wait_until(lambda: orphans.reap() == 0)
        return [*found, sorted(observe.children())]
    return ["ended"]


def slow_start(program: str) -> list[Any]:
    """Start while the exec takes 1.5 s: a handler that raises ends it, and the next start gets over it all."""
    import fastproc
    from fastproc._engine import orphans

    signal.signal(signal.SIGALRM, _raise)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    begin = time.monotonic()
    with pytest.raises(InterruptedError):
        fastproc.start(program, stdout=fastproc.PIPE)
    early = time.monotonic() - begin < 1.5
    gc.collect()  # the handle is an orphan when the traceback has gone
    held = orphans.reap()
    wait_until(lambda: orphans.reap() == 0)
    code = fastproc.start(program).wait()
    return [early, held, code, sorted(observe.children()), observe.stacks_and_pages()[0] <= observe.STACK_CACHE]


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
def test_deadline_holds_during_a_slow_exec(programs: Programs, tmp_path: Path) -> None:
    """The parent does not stand still until the exec: the signals are sent in time."""
    log = tmp_path / "log"
    inject = ("-e", "trace=execve,pidfd_send_signal", "-e", "inject=execve:delay_enter=1500000")
    prefix = ("strace", "-f", "-ttt", "-o", str(log), *inject)
    outcome = isolated(slow_exec, programs.static_exit, prefix=prefix)
    assert outcome == [True, "", ["killed, and held by a tracer"], []]
    lines = [line.split() for line in log.read_text().splitlines()]
    executed = next(float(words[1]) for words in lines if f'execve("{programs.static_exit}"' in " ".join(words))
    signals = [float(words[1]) for words in lines if words[2].startswith("pidfd_send_signal(") and "SIG" in words[3]]
    assert len(signals) == 2
    assert 0.1 < signals[0] - executed < 1.2


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
def test_slow_exec_does_not_keep_signal_handlers_from_running(programs: Programs) -> None:
    """GOTCHAS A15: vfork's parent could not be woken; here the wait for the exec comes back for a signal."""
    delay = ("-e", "trace=execve", "-e", "inject=execve:delay_enter=1500000")
    found = isolated(slow_start, programs.static_exit, prefix=("strace", "-f", "-qq", "-o", "/dev/null", *delay))
    assert found == [True, 1, 0, [], True]


def busy_until_the_deadline(folder: str) -> list[Any]:
    """Execute a file that is open for writing, so slowly that the deadline comes first."""
    import fastproc

    target = Path(folder) / "program"
    shutil.copy("/bin/sleep", target)
    writer = os.open(target, os.O_WRONLY)
    timer = threading.Timer(0.9, os.close, (writer,))  # after the first execve(2), before the end of a second
    timer.start()
    start = time.monotonic()
    try:
        fastproc.run(target, "5", timeout=0.2, grace=20, sigmask=[signal.SIGTERM])
    except (fastproc.SpawnError, fastproc.TimeoutExpired) as error:
        return [type(error).__name__, getattr(error, "errno", None), time.monotonic() - start < 4]
    finally:
        timer.join()
    return []


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
def test_busy_file_is_not_tried_again_after_the_deadline(tmp_path: Path) -> None:
    """A second child would have no deadline."""
    inject = ("-e", "trace=execve", "-e", "inject=execve:delay_enter=600000")
    prefix = ("strace", "-f", "-qq", "-o", "/dev/null", *inject)
    assert isolated(busy_until_the_deadline, str(tmp_path), prefix=prefix) == ["SpawnError", errno.ETXTBSY, True]


def interrupted_at_the_border() -> list[Any]:
    """An interrupt just before the C core is entered, and just after it has come back."""
    import fastproc

    module = sys.modules["fastproc._run"]
    real = module.fp_run  # type: ignore[attr-defined]

    def before(*_args: Any) -> int:
        raise InterruptedError

    def after(*args: Any) -> int:
        real(*args)
        raise InterruptedError

    found: list[Any] = []
    for replaced in (after, before, after, before):
        for call in (
            lambda: fastproc.run("echo", "x", capture=True),
            lambda: fastproc.run("echo", "x", capture=True, umask=0o77),
            lambda: fastproc.run("/nonexistent/program", capture=True),
        ):
            fastproc.run("echo", "earlier", capture=True)
            fastproc.run("echo", "earlier", capture=True, umask=0o77)
            module.fp_run = replaced  # type: ignore[attr-defined]
            try:
                call()
            except InterruptedError as error:
                result = getattr(error, "result", None)
                found.append(result and [result.returncode, result.stdout.decode()])
            finally:
                module.fp_run = real  # type: ignore[attr-defined]
    return found


def test_run_interrupted_at_its_very_end_keeps_its_result() -> None:
    """And one interrupted before it began has none, not that of the run before."""
    ended = [[0, "x\n"], [0, "x\n"], None]
    assert isolated(interrupted_at_the_border) == [*ended, None, None, None] * 2


def interrupted_while_feeding() -> list[Any]:
    """Interrupt a run whose child ends by itself with input unread, where SIGPIPE is deadly."""
    import fastproc
    from fastproc import subprocess

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    script = "echo x; sleep 0.05; kill -INT $PPID; sleep 0.01"
    found: list[Any] = []
    for call in (
        lambda: fastproc.run("sh", "-c", script, input=b"x" * 1_000_000, capture=True),
        lambda: subprocess.run(["sh", "-c", script], input=b"x" * 1_000_000, capture_output=True),
    ):
        try:
            call()
        except KeyboardInterrupt as error:
            result = getattr(error, "result", None)
            found.append(result.stdout.decode() if result else None)
    return found


def test_interrupt_while_feeding_raises_no_sigpipe() -> None:
    """GOTCHAS E4: also in the time that an interrupted child has to end by itself."""
    assert isolated(interrupted_while_feeding) == ["x\n", None]


def oom_score_of_the_parent() -> list[str]:
    """The parent's own score after children with others were made in every way."""
    import asyncio

    import fastproc
    from fastproc import aio

    def own() -> str:
        return Path("/proc/self/oom_score_adj").read_text().strip()

    found = [own()]
    fastproc.run("true", oom_score_adj=300)
    found.append(own())
    with fastproc.start("true", oom_score_adj=310) as process:
        process.wait()
    found.append(own())

    async def in_a_loop() -> None:
        await aio.run("true", oom_score_adj=320)
        found.append(own())
        async with await aio.start("true", oom_score_adj=330) as process:
            await process.wait()
        found.append(own())

    asyncio.run(in_a_loop())
    return found


def test_score_of_a_child_stays_its_own() -> None:
    """The kernel spreads it over all who share the memory, but for a parent that waits in vfork."""
    found = isolated(oom_score_of_the_parent)
    assert found == [found[0]] * 5


def lost_pidfd(folder: str) -> list[Any]:
    """Lose the pidfd to a stranger's dup2 while the exec is held up."""
    import fastproc

    read_end, write_end = os.pipe()
    os.close(write_end)  # readable at once, as a pidfd is after the end

    def steal() -> None:
        while True:
            for fd in observe.fds():
                try:
                    if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[pidfd]":
                        os.dup2(read_end, fd)
                        return
                except FileNotFoundError:
                    pass

    thief = threading.Thread(target=steal)
    thief.start()
    found: list[Any] = []
    marker = os.path.join(folder, "marker")
    script = f"printf '%s' {'x' * 3000} >{marker}; exit 7"
    found.append(fastproc.run("sh", "-c", script, timeout=20, check=False).returncode)
    thief.join()
    found.append(Path(marker).read_text() == "x" * 3000)
    found.append(len(observe.children()))
    return found


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace")
def test_child_whose_pidfd_is_lost_is_waited_for_by_number() -> None:
    """Its status is true, and what it reads of our memory in its set-up is not given back before."""
    with tempfile.TemporaryDirectory() as folder:
        inject = ("-e", "trace=execve", "-e", "inject=execve:delay_enter=400000")
        prefix = ("strace", "-f", "-qq", "-o", "/dev/null", *inject)
        assert isolated(lost_pidfd, folder, prefix=prefix) == [7, True, 0]


def _dropped_in_a_cycle() -> list[int]:
    import gc

    from fastproc import _native

    seen: list[int] = []

    class Late:
        """Reads the job when it is collected, as a run in an event loop does."""

        def __init__(self, job: Any) -> None:
            self.job = job
            self.cycle = self

        def __del__(self) -> None:
            seen.append(self.job[0].key)

    for key in (1234567, 7654321):
        job = _native.new_job()
        job[0].key = key
        Late(job)
        del job
    gc.collect()
    return seen


def test_job_dropped_in_a_cycle_stays_readable() -> None:
    """Its destructor runs before the __del__ of what holds it, which must not read freed memory."""
    # Memory that is freed is gone, so that a read of it cannot go unseen (mallopt(3)).
    assert isolated(_dropped_in_a_cycle, env={"MALLOC_MMAP_THRESHOLD_": "65536"}) == [1234567, 7654321]
