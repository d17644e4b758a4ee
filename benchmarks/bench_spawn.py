"""Measure what one run of a program costs: fastproc.run beside the standard library and beside C.

Rivals run interleaved: a round runs each of them once, in shuffled order, so that whatever else the machine does hits
all alike. Two parents, a small one and one with 1 GiB resident, take turns in blocks of rounds. The limit is
`raw_loop.c` (vfork, exec, two pipes, poll, waitid), called inside the measuring process and, for comparison, in a
process of its own.

    python benchmarks/bench_spawn.py [--rounds N]

Writes results/spawn.md (tables) and results/spawn.svg (a plot) beside this file.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import fastproc
import fastproc.subprocess
from spawn_report import DROP_IN, PARENTS, RAW, RAW_APART, RIVALS, STANDARD, Case, Row, markdown, svg

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "bench"
RESULTS = HERE / "results"
BLOCK = 25  # rounds that one parent makes before it is the other's turn
GIB = 1 << 30


def compile_programs() -> dict[str, str]:
    """Compile raw_loop and static_exit into build/bench; the programs to run by name."""
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    raw, static = HERE / "raw_loop.c", HERE / "static_exit.c"
    subprocess.run([compiler, "-O2", "-o", BUILD / "raw_loop", raw], check=True)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", BUILD / "raw_loop.so", raw], check=True)
    plain = [compiler, "-O2", "-o", str(BUILD / "static_exit"), str(static)]
    freestanding = [*plain, "-static", "-nostdlib", "-DFREESTANDING"]
    if subprocess.run(freestanding, stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run(plain, check=True)
    true = "/bin/true" if os.path.exists("/bin/true") else shutil.which("true")
    if true is None:
        raise SystemExit("no program `true`")
    return {"static program": str(BUILD / "static_exit"), true: true}


def posix_spawn(program: str) -> None:
    """One run by os.posix_spawn and waitpid, nothing captured."""
    pid = os.posix_spawn(program, [program], os.environ)
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError(program)


def posix_spawn_captured(program: str) -> None:
    """The same with both outputs read to their end, as a careful user would write it."""
    out, out_child = os.pipe()
    err, err_child = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, out_child, 1), (os.POSIX_SPAWN_DUP2, err_child, 2)]
    pid = os.posix_spawn(program, [program], os.environ, file_actions=actions)
    os.close(out_child)
    os.close(err_child)
    poll = select.poll()
    poll.register(out, select.POLLIN)
    poll.register(err, select.POLLIN)
    chunks: dict[int, list[bytes]] = {out: [], err: []}
    while chunks:
        for fd, _ in poll.poll():
            chunk = os.read(fd, 65536)
            if chunk:
                chunks[fd].append(chunk)
            else:
                poll.unregister(fd)
                os.close(fd)
                del chunks[fd]
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError(program)


class RawApart:
    """The raw loop in a process of its own: one run per byte sent, answered by the nanoseconds it took."""

    def __init__(self, program: str, captured: bool) -> None:
        argv = [str(BUILD / "raw_loop"), program, "0", str(int(captured))]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def run(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b".")
        (taken,) = struct.unpack("=q", self.process.stdout.read(8))
        return int(taken)


def callables(program: str, captured: bool, raw: Any) -> dict[str, Callable[[], object]]:
    """What one round calls, by the rival's name; the raw loop apart takes its own time."""
    encoded = os.fsencode(program)
    flag = int(captured)
    standard, ours = subprocess.run, fastproc.subprocess.run
    calls: dict[str, Callable[[], object]] = {
        RAW: lambda: raw.raw_run(encoded, flag),
    }
    if captured:
        calls["fastproc.run"] = lambda: fastproc.run(program, capture=True)
        calls[DROP_IN] = lambda: ours([program], capture_output=True, check=True)
        calls["os.posix_spawn"] = lambda: posix_spawn_captured(program)
        calls[STANDARD] = lambda: standard([program], capture_output=True, check=True)
    else:
        calls["fastproc.run"] = lambda: fastproc.run(program)
        calls[DROP_IN] = lambda: ours([program], check=True)
        calls["os.posix_spawn"] = lambda: posix_spawn(program)
        calls[STANDARD] = lambda: standard([program], check=True)
    return calls


def work(resident: int) -> None:
    """A parent: holds `resident` bytes, makes the blocks of rounds asked for on stdin, answers with the nanoseconds."""
    ballast = bytearray(resident)
    ballast[::4096] = b"x" * len(range(0, resident, 4096))
    raw = ctypes.CDLL(str(BUILD / "raw_loop.so"))
    prepared: dict[tuple[str, bool], tuple[dict[str, Callable[[], object]], RawApart]] = {}
    clock = time.perf_counter_ns
    for line in sys.stdin:
        program, captured, rounds = json.loads(line)
        case = (program, captured)
        if case not in prepared:
            prepared[case] = callables(program, captured, raw), RawApart(program, captured)
        calls, apart = prepared[case]
        taken: dict[str, list[int]] = {name: [] for name in (*calls, RAW_APART)}
        order = list(taken)
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                if name == RAW_APART:
                    taken[name].append(apart.run())
                    continue
                call = calls[name]
                start = clock()
                call()
                taken[name].append(clock() - start)
        print(json.dumps(taken), flush=True)
    for _, apart in prepared.values():
        apart.process.communicate()


def measure(rounds: int) -> dict[Case, dict[str, list[int]]]:
    """Nanoseconds of every rival in every case, in the order of the rounds."""
    programs = compile_programs()
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", str(resident)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for resident in (0, GIB)
    ]

    def ask(worker: subprocess.Popen[str], program: str, captured: bool, count: int) -> dict[str, list[int]]:
        assert worker.stdin is not None
        assert worker.stdout is not None
        print(json.dumps([program, captured, count]), file=worker.stdin, flush=True)
        answer: dict[str, list[int]] = json.loads(worker.stdout.readline())
        return answer

    found: dict[Case, dict[str, list[int]]] = {}
    for name, program in programs.items():
        for captured in (True, False):
            for worker in workers:
                ask(worker, program, captured, BLOCK)  # not counted: caches, probes, first imports
            for _ in range(0, rounds, BLOCK):
                for parent, worker in zip(PARENTS, workers, strict=True):
                    taken = found.setdefault((name, captured, parent), {rival: [] for rival in RIVALS})
                    for rival, times in ask(worker, program, captured, BLOCK).items():
                        taken[rival] += times
            print(f"measured: {name}, {'captured' if captured else 'not captured'}", flush=True)
    for worker in workers:
        worker.communicate()
    return found


def summary(taken: dict[str, list[int]]) -> dict[str, Row]:
    """Microseconds and ratios by rival."""
    rows = {}
    for rival, times in taken.items():
        cuts = quantiles(times, n=10)
        rows[rival] = Row(
            median=median(times) / 1000,
            p10=cuts[0] / 1000,
            p90=cuts[-1] / 1000,
            of_medians=median(times) / median(taken[RAW]),
            of_rounds=median(mine / raw for mine, raw in zip(times, taken[RAW], strict=True)),
            of_medians_apart=median(times) / median(taken[RAW_APART]),
            faster_than_standard=median(theirs / mine for mine, theirs in zip(times, taken[STANDARD], strict=True)),
        )
    return rows


def machine(load: float) -> str:
    """What was measured on: processor, load, kernel, Python, the mechanism fastproc chose."""
    release = ".".join(platform.release().split(".")[:2])
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    mechanism = fastproc.run("true", capture=True).mechanism
    return (
        f"{model}, {os.cpu_count()} cores, load {load:.1f} before; {platform.system()} {release}; "
        f"{platform.python_implementation()} {platform.python_version()}; fastproc by {mechanism}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what one run of a program costs.")
    parser.add_argument("--rounds", type=int, default=1000, help="rounds for each case (default: 1000)")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.work)
        return
    rounds = max(1, -(-options.rounds // BLOCK)) * BLOCK
    where = machine(os.getloadavg()[0])
    found = {case: summary(taken) for case, taken in measure(rounds).items()}
    RESULTS.mkdir(exist_ok=True)
    text = markdown(found, where, rounds)
    (RESULTS / "spawn.md").write_text(text)
    (RESULTS / "spawn.svg").write_text(svg(found, where))
    print(text)


if __name__ == "__main__":
    main()
