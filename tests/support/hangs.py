"""Nine ways in which a run hangs for ever elsewhere, each with a deadline; how long it took, and what it left.

python tests/support/hangs.py [plain|bulk|exchange]        prints the times
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastproc
from support import observe

DEADLINE = 0.4
GRACE = 0.05
LATEST = 0.3
"""Seconds after the deadline in which all must be over, the grace included."""

IN_FRONT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from support import hangs
print("took", hangs.timed(lambda: hangs.expire("sh", "-c", sys.argv[2], pgid=0)), flush=True)
"""

TRACED = """
import sys
sys.path.insert(0, sys.argv[1])
import conftest
from support import hangs, observe
from fastproc._engine import orphans
import fastproc, fastproc.pipeline
true = fastproc.cmd("true")
sys.modules["fastproc._run"]._FORCED_ENGINE = fastproc.pipeline._FORCED_ENGINE = sys.argv[2]
print(hangs.timed(lambda: hangs.expire(true | true | true if sys.argv[3] else true)))
# The tracer holds the dead child for the rest of the two seconds; after that it is reaped.
conftest.wait_until(lambda: orphans.reap() == 0)
assert not observe.children()
"""


def expire(*argv: Any, **options: Any) -> fastproc.Result | None:
    """Run into the deadline; return the Result in the error, None for a child that a tracer holds."""
    try:
        fastproc.run(*argv, timeout=DEADLINE, grace=GRACE, **options)
    except fastproc.TimeoutExpired as error:
        return error.result  # type: ignore[no-any-return]
    raise AssertionError(f"{argv} ended before its deadline")


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def fifo_redirect() -> float:
    """A FIFO that nobody else opens, as stdin and as stdout."""
    with tempfile.TemporaryDirectory() as folder:
        fifo = os.path.join(folder, "fifo")
        os.mkfifo(fifo)
        return max(timed(lambda: expire("cat", stdin=fifo)), timed(lambda: expire("cat", stdout=fifo)))


def both_pipes_full() -> float:
    """Output on both streams, more than any pipe holds, before stdin is read: all of it is kept."""
    script = "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; exec sleep 60"
    results: list[fastproc.Result | None] = []
    took = timed(lambda: results.append(expire("sh", "-c", script, input=bytes(3_000_000), capture=True)))
    (result,) = results
    assert result is not None
    assert len(result.stdout or b"") == len(result.stderr or b"") == 3_000_000
    return took


def stdin_never_read() -> float:
    """Input that is larger than the pipe, for a program that does not look at it."""
    return timed(lambda: expire("sleep", "60", input=bytes(3_000_000), capture=True))


def grandchild_holds_stdout() -> float:
    """A process in a session of its own that keeps the pipe; it ends with the tree."""
    script = "(setsid sleep 60 &); echo hi; exec sleep 60"
    return timed(lambda: expire("sh", "-c", script, capture=True, kill_tree=True))


def child_ignores_term() -> float:
    """SIGTERM does nothing."""
    return timed(lambda: expire("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done", capture=True, kill_tree=True))


def child_stopped() -> float:
    """SIGSTOP has been there before; SIGTERM then waits."""
    return timed(lambda: expire("sh", "-c", "kill -STOP $$", capture=True))


def background_group_touches_tty() -> float:
    """A process group in the background is stopped by reading from the terminal, or by setting it."""
    found = 0.0
    for script in ("read x </dev/tty", "stty -echo </dev/tty"):
        folder = str(Path(__file__).parents[1])
        with fastproc.start(sys.executable, "-c", IN_FRONT, folder, script, pty=True) as process:
            text = b"".join(process.chunks())
            assert process.wait() == 0, text
        found = max(found, float(text.split()[-1]))
    return found


def exec_delayed_by_tracer(pipeline: str = "") -> float:
    """Every execve(2) of a traced program is held up for two seconds by its tracer, and then its death."""
    folder, engine = str(Path(__file__).parents[1]), sys.modules["fastproc._run"]._FORCED_ENGINE  # type: ignore[attr-defined]
    inject = "inject=execve:delay_enter=2000000:when=1"
    tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=execve", "-e", inject]
    # The first execve of each traced process is delayed, strace's own of the interpreter too.
    return float(fastproc.run(*tracer, sys.executable, "-c", TRACED, folder, engine, pipeline, capture=True).text())


def pipeline_delayed_by_tracer() -> float:
    """The same of three programs with pipes between them."""
    return exec_delayed_by_tracer("pipeline")


SCENARIOS = (
    fifo_redirect,
    both_pipes_full,
    stdin_never_read,
    grandchild_holds_stdout,
    child_ignores_term,
    child_stopped,
    background_group_touches_tty,
    exec_delayed_by_tracer,
    pipeline_delayed_by_tracer,
)


def possible(scenario: Callable[[], float]) -> bool:
    """Return whether the tools for it are here."""
    by_tracer = (exec_delayed_by_tracer, pipeline_delayed_by_tracer)
    return scenario not in by_tracer or shutil.which("strace") is not None


def main() -> None:
    """Print how long each takes after its deadline, the median of five, and what it leaves."""
    for engine in sys.argv[1:] or ("plain", "bulk", "exchange"):
        os.environ["FASTPROC_ENGINE"] = engine
        sys.modules["fastproc._run"]._FORCED_ENGINE = "" if engine == "plain" else engine  # type: ignore[attr-defined]
        for scenario in filter(possible, SCENARIOS):
            before = observe.children(), set(observe.fds())
            times = sorted(scenario() - DEADLINE for _ in range(5))
            left = observe.children() - before[0], set(observe.fds()) - before[1]
            print(f"{engine:9}{scenario.__name__:32}+{times[2]:.3f} s (most +{times[-1]:.3f}) left: {len(left[0])}")


if __name__ == "__main__":
    main()
