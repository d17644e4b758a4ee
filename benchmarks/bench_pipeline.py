"""Measure pipelines: what starting one costs, and a gigabyte through one; beside C, Popen by hand, bash and others.

Rivals run interleaved: a round runs each of them once, in shuffled order, in this process. The limit is
`raw_pipeline.c` (vfork, exec, a pipe between each two, poll, wait4), called inside this process. Other libraries for
pipelines take part where they are installed: plumbum, and duct.py in a process of its own, as it starts threads, beside
which fastproc waits for each exec.

    python benchmarks/bench_pipeline.py [--rounds N] [--floods N]

Writes results/pipeline.md beside this file.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import fastproc
from bench_spawn import BUILD, HERE, RESULTS, compile_programs, machine
from fastproc import PIPE, cmd

GIB = 1 << 30
RAW, OURS, CHAIN, BASH = "raw C", "fastproc.run", "Popen by hand", "bash -c, by subprocess.run"

Rivals = dict[str, Callable[[], object]]


def chain(program: str, stages: int) -> bytes:
    """Popen after Popen, as the documentation of subprocess shows it, with every status looked at."""
    processes: list[subprocess.Popen[bytes]] = []
    for _ in range(stages):
        before = processes[-1].stdout if processes else None
        processes.append(subprocess.Popen([program], stdin=before, stdout=subprocess.PIPE))
        if before is not None:
            before.close()
    out = processes[-1].communicate()[0]
    if any(process.wait() for process in processes):
        raise RuntimeError(program)
    return out


def joined(parts: list[Any]) -> Any:
    """Join commands by `|`, which all libraries for it have."""
    whole = parts[0]
    for part in parts[1:]:
        whole = whole | part
    return whole


def others(program: str, stages: int) -> Rivals:
    """Libraries that are installed here."""
    found: Rivals = {}
    try:
        plumbum = import_module("plumbum")
    except ImportError:
        pass
    else:
        whole = joined([plumbum.local[program] for _ in range(stages)])
        found["plumbum"] = lambda: whole.run()
    return found


def threaded(program: str, stages: int) -> Rivals:
    """The rivals in a process with threads."""
    calls = starts(program, stages, False)
    done = threading.Event()
    threading.Thread(target=done.wait, daemon=True).start()
    try:
        duct = import_module("duct")
    except ImportError:
        return calls
    expression = duct.cmd(program)
    for _ in range(stages - 1):
        expression = expression.pipe(duct.cmd(program))
    calls["duct.py"] = expression.stdout_capture().run
    return calls


def starts(program: str, stages: int, errors: bool) -> Rivals:
    """One run of as many programs that end at once; what they write to stdout is kept, and perhaps stderr of each."""
    raw = ctypes.CDLL(str(BUILD / "raw_pipeline.so"))
    encoded, flag = os.fsencode(program), int(errors)
    whole = joined([cmd(program) for _ in range(stages)])
    calls: Rivals = {RAW: lambda: raw.raw_pipeline(encoded, stages, flag)}
    if errors:
        calls[OURS] = lambda: fastproc.run(whole, capture=True)
        return calls
    line = " | ".join([program] * stages)
    calls[OURS] = lambda: fastproc.run(whole, stdout=PIPE)
    calls[CHAIN] = lambda: chain(program, stages)
    calls[BASH] = lambda: subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True)
    calls |= others(program, stages)
    return calls


def floods(path: str) -> Rivals:
    """A gigabyte from a file through `cat | cat | wc -c`."""
    whole = (cmd("cat") | cmd("cat") | cmd("wc", "-c")).stdin_path(path)
    plain = cmd("cat", path) | cmd("cat") | cmd("wc", "-c")

    def by_bash() -> bytes:
        line = f"cat <{path} | cat | wc -c"
        return subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True).stdout

    def check(out: bytes | None) -> None:
        if out is None or int(out) != GIB:
            raise RuntimeError(f"{out!r} bytes arrived")

    return {
        BASH: lambda: check(by_bash()),
        OURS: lambda: check(fastproc.run(plain, stdout=PIPE).stdout),
        "fastproc.run, with a redirection": lambda: check(fastproc.run(whole, stdout=PIPE).stdout),
    }


def measure(calls: Rivals, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each rival in each round, and the CPU time of this process in it."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    order = list(calls)
    for number in range(-max(1, rounds // 20), rounds):
        random.shuffle(order)
        for name in order:
            cpu, start = time.process_time(), time.perf_counter()
            calls[name]()
            spent = time.perf_counter() - start, time.process_time() - cpu
            if number >= 0:  # before: caches, probes, first imports
                taken[name].append(spent)
    return taken


def table(taken: dict[str, list[tuple[float, float]]], scale: float, unit: str, bases: list[str], cpu: bool) -> str:
    """Medians, deciles and ratios as a table."""
    times = {name: [first for first, _ in pairs] for name, pairs in taken.items()}
    head = ["", f"median {unit}", "p10", "p90", *(f"× {base}" for base in bases)]
    if cpu:
        head.append("CPU of the parent")
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, found in times.items():
        cuts = quantiles(found, n=10)
        row = [name, *(f"{value * scale:.{0 if scale > 1e3 else 3}f}" for value in (median(found), cuts[0], cuts[-1]))]
        row += [f"{median(found) / median(times[base]):.2f}" for base in bases]
        if cpu:
            row.append(f"{100 * sum(second for _, second in taken[name]) / sum(found):.2f} %")
        rows.append(row)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure pipelines.")
    parser.add_argument("--rounds", type=int, default=500, help="rounds for each start (default: 500)")
    parser.add_argument("--floods", type=int, default=7, help="rounds of a gigabyte (default: 7)")
    parser.add_argument("--threaded", metavar="PROGRAM", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threaded:
        found = measure(threaded(options.threaded, 3), options.rounds)
        print(table(found, 1e6, "µs", [RAW, CHAIN], False), end="")
        return
    where = machine(os.getloadavg()[0])
    program = compile_programs()["static program"]
    compiler = os.environ.get("CC", "cc")
    source, target = HERE / "raw_pipeline.c", BUILD / "raw_pipeline.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", target, source], check=True)
    text = f"""# What pipelines cost

Written by `make bench-pipeline`. {where}.

{options.rounds} rounds for each start, {options.floods} of a gigabyte; a round runs every rival once, in shuffled
order. The columns with × are ratios of the medians: how many times the time of that rival.
"""
    for stages in (2, 3):
        for errors in (False, True):
            calls = starts(program, stages, errors)
            found = measure(calls, options.rounds)
            what = "stdout, and stderr of each, captured" if errors else "stdout captured"
            bases = [base for base in (RAW, CHAIN) if base in calls]
            text += f"\n## {stages} static programs that end at once, {what}\n\n{table(found, 1e6, 'µs', bases, False)}"
            print(text[text.rindex("##") :], flush=True)
    command = [sys.executable, __file__, "--rounds", str(options.rounds), "--threaded", program]
    beside = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    text += f"\n## The same of 3, stdout captured, in a process with threads\n\n{beside}"
    print(text[text.rindex("##") :], flush=True)
    with tempfile.NamedTemporaryFile(prefix="bench-") as file:
        os.truncate(file.name, GIB)
        found = measure(floods(file.name), options.floods)
    text += f"\n## 1 GiB through `cat | cat | wc -c`\n\n{table(found, 1, 's', [BASH], True)}"
    print(text[text.rindex("##") :], flush=True)
    RESULTS.mkdir(exist_ok=True)
    Path(RESULTS / "pipeline.md").write_text(text)


if __name__ == "__main__":
    main()
