"""A pool while everything goes wrong: every future ends once, for the right reason, and nothing is left."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import isolated

WORKERS = 24
DEADLINE = 1.0
FLOOD = 300_000
SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM}

SCRIPTS = {
    "true": "exit 0",
    "fails": "exit 3",
    "suicide": "kill -9 $$",
    "floods": f"head -c {FLOOD} /dev/zero",
    "errs": f"head -c {FLOOD} /dev/zero >&2; exit 0",
    "forks": "sleep 1.5 & sleep 1.5 & wait",
    "late": "sleep 30",
    "stops": "kill -STOP $$",
    "stubborn": "trap '' TERM; sleep 1.5; sleep 1.5",
}


def chaos(seconds: float) -> dict[str, Any]:
    """Run it, in a PID namespace of its own; give what came of the futures, and what is left."""
    import fastproc

    rng = random.Random(7)
    pool = fastproc.Pool(WORKERS, deadline=DEADLINE, retries=fastproc.Retries(1, delay=0.02))
    warm_up(pool)
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    calls: Counter[int] = Counter()
    futures: list[tuple[str, Any]] = []
    over = threading.Event()
    helpers = [
        threading.Thread(target=function, args=(over,)) for function in (harass, squeeze_files, squeeze_processes)
    ]
    for helper in helpers:
        helper.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kind = rng.choice([*SCRIPTS, "missing", "tree", "pipeline", "limited"])
        try:
            future = submit(pool, kind)
        except OSError as error:
            # The submitting side needs a descriptor itself where it looks for a file or a user.
            if error.errno not in SHORTAGES:
                raise
            continue
        number = len(futures)
        future.add_done_callback(lambda _, number=number: calls.update([number]))
        futures.append((kind, future))
        if rng.random() < 0.1:
            rng.choice(futures)[1].cancel(kill=rng.random() < 0.5)
        while pool.queued > 2 * WORKERS:
            time.sleep(0.005)
    over.set()
    for helper in helpers:
        helper.join()
    drained = pool.drain(60.0)
    for number, (kind, future) in enumerate(futures):
        outcome = named(future)
        outcomes[f"{kind}: {outcome}"] += 1
        if not allowed(kind, outcome, future) or calls[number] != 1:
            wrong.append(f"{kind}: {outcome}, told {calls[number]} times")
    restored = takes_as_many_as_before(pool)
    pool.stop(kill=True)
    return {
        "futures": len(futures),
        "outcomes": dict(sorted(outcomes.items())),
        "wrong": wrong[:20],
        "drained": drained,
        "restored": restored,
        "left": what_is_left(),
    }


def submit(pool: Any, kind: str) -> Any:
    from fastproc import CaptureLimit, cmd

    if kind == "missing":
        return pool.submit("/nowhere/program")
    if kind == "tree":
        return pool.submit("sh", "-c", "setsid sleep 30 & exit 0", kill_tree=True, drain_timeout=0.2)
    if kind == "pipeline":
        return pool.submit(cmd("sh", "-c", "echo b; echo a") | cmd("sort"))
    if kind == "limited":
        return pool.submit("sh", "-c", SCRIPTS["floods"], stdout_limit=CaptureLimit(10, 10))
    return pool.submit("sh", "-c", SCRIPTS[kind])


def warm_up(pool: Any) -> None:
    """Everything that is imported when it is first needed is there before descriptors run out."""
    for kind in (*SCRIPTS, "missing", "tree", "pipeline", "limited"):
        future = submit(pool, kind)
        future.exception()
    assert pool.submit("true").result().pipe_holders == ()
    future = pool.submit("sleep", "30")
    future.cancel(kill=True)
    pool.drain()


def named(future: Any) -> str:
    import fastproc

    try:
        error = future.exception(timeout=0)
    except CancelledError:
        return "cancelled"
    except TimeoutError:
        return "never ended"
    if error is None:
        return "ok"
    if isinstance(error, fastproc.TimeoutExpired):
        return "late"
    if isinstance(error, fastproc.ExitError):
        return f"exit {error.returncode}"
    if isinstance(error, OSError):
        return f"errno {error.errno}" if error.errno not in SHORTAGES else "shortage"
    return type(error).__name__


def allowed(kind: str, outcome: str, future: Any) -> bool:
    """Whether a future may end so. Any child may be killed, stopped until its deadline, cancelled, or not be made."""
    own = {
        "fails": {"exit 3"},
        "suicide": set(),
        "missing": {f"errno {errno.ENOENT}"},
        "late": set(),
        "stops": {"ok"},  # harass() continues it
    }.get(kind, {"ok"})
    if outcome == "ok":
        result = future.result()
        if kind == "floods" and len(result.stdout) != FLOOD:
            return False
        if kind == "errs" and len(result.stderr) != FLOOD:
            return False
        if kind == "pipeline" and result.stdout != b"a\nb\n":
            return False
    # A shell that can fork no more ends with 2 (dash), 254 (bash), or 126 and 127 where it cannot find its program.
    shell = {"exit 1", "exit 2", "exit 126", "exit 127", "exit 137", "exit 254", "exit -13"}
    # Killed by harass(), perhaps before it could execute its program (ECANCELED).
    killed = {"exit -9", "exit -15", f"errno {errno.ECANCELED}"}
    return outcome in own | killed | {"late", "cancelled", "shortage"} | (shell if kind != "missing" else set())


def children() -> Iterator[int]:
    """The children of this process."""
    for tasks in Path("/proc/self/task").glob("*/children"):
        try:
            yield from map(int, tasks.read_text().split())
        except OSError:
            continue


def harass(over: threading.Event) -> None:
    """Kill and stop children; in the namespace there is nobody else."""
    rng = random.Random(8)
    while not over.wait(0.01):
        try:
            found = [pid for pid in children() if pid > 1]
            if found and rng.random() < 0.5:
                os.kill(rng.choice(found), rng.choice((signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGTERM)))
        except OSError:
            continue


def squeeze_files(over: threading.Event) -> None:
    """Let descriptors run out for moments."""
    rng = random.Random(9)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    while not over.wait(0.2):
        try:
            highest = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + rng.randrange(12), hard))
            over.wait(0.05)
        except OSError:
            pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def pids_cgroup() -> Iterator[Path | None]:
    """A cgroup of our own that limits processes, where one can be made."""
    name = f"fastproc-chaos-{os.getpid()}-{time.monotonic_ns()}"
    for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        folder = root / name
        try:
            folder.mkdir()
            (folder / "pids.max").write_text("max")
            (folder / "cgroup.procs").write_text("0")
        except OSError:
            if folder.exists():
                folder.rmdir()
            continue
        try:
            yield folder
        finally:
            (root / "cgroup.procs").write_text("0")
            end = time.monotonic() + 5
            while time.monotonic() < end:
                try:
                    folder.rmdir()
                    break
                except OSError:
                    # Children that were born there are still in it.
                    for pid in (folder / "cgroup.procs").read_text().split():
                        try:
                            (root / "cgroup.procs").write_text(pid)
                        except OSError:
                            continue
        return
    yield None


def squeeze_processes(over: threading.Event) -> None:
    """Let processes run out for moments: by a cgroup, as RLIMIT_NPROC does not bind root."""
    rng = random.Random(10)
    with pids_cgroup() as folder:
        while not over.wait(0.3):
            if folder is None:
                soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
                resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
                over.wait(0.05)
                resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
                continue
            now = int((folder / "pids.current").read_text())
            (folder / "pids.max").write_text(str(max(1, now + rng.randrange(-3, 5))))
            over.wait(0.05)
            (folder / "pids.max").write_text("max")


def takes_as_many_as_before(pool: Any) -> bool:
    """Whether all places of the pool are free again."""
    if (pool.running, pool.queued, pool.workers) != (0, 0, WORKERS):
        return False
    waiting = [pool.submit("sleep", "20", timeout=None, retries=0) for _ in range(WORKERS + 1)]
    end = time.monotonic() + 10
    while pool.running < WORKERS and time.monotonic() < end:
        time.sleep(0.005)
    full = bool(pool.running == WORKERS and pool.queued == 1)
    for future in waiting:
        future.cancel(kill=True)
    return bool(pool.drain(10.0)) and full


def what_is_left() -> dict[str, Any]:
    """Children, threads and descriptors of this process that a closed pool should not have left."""
    end = time.monotonic() + 5
    while True:
        fds = [
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
        ]
        found = {
            "children": len(list(children())),
            "threads": len(os.listdir("/proc/self/task")) - 1,
            "fds": [target for target in fds if "eventfd" in target or "pidfd" in target],
        }
        from fastproc._engine import orphans

        orphans.reap()
        if found == {"children": 0, "threads": 0, "fds": []} or time.monotonic() > end:
            return found
        time.sleep(0.05)


def check(found: dict[str, Any]) -> None:
    """Compare what chaos() gave with what must be."""
    assert found["futures"] > 100, found
    assert found["wrong"] == [], found["wrong"]
    assert found["drained"], found
    assert found["restored"], found
    assert found["left"] == {"children": 0, "threads": 0, "fds": []}, found


def test_pool_in_chaos(pid_namespace: None) -> None:
    """For some seconds; the soak does it for a minute."""
    check(isolated(chaos, 4.0, pid_namespace=True, timeout=100))
