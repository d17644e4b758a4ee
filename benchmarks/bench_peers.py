"""Measure fastproc beside what else starts programs: in C, Rust, Go, JavaScript and Python, and two command-line tools.

Every rival is a program of its own (peers/README.md) that does the same eight cases with the same two children. All are
started at once; a round asks each of them once for each case, in shuffled order, so that whatever else the machine does
hits all alike. Two cases want a process that did nothing else, and get it: a parent with 1 GiB, and the memory for a
child that lives. The limit is peers/raw.c, each case in the fewest system calls that do the job.

    python benchmarks/bench_peers.py [--rounds N] [--only NAME,...]

Builds what is needed into build/peers (cargo, go and pip take current releases from their registries where no lock
file says which). Writes docs/peers.md, docs/peers.svg, docs/peers-many.svg, and what README.md quotes of them. A rival
whose tool is not here is left out, and named. With --only nothing is written, the table is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import psutil

import fastproc
from bench_spawn import HERE, machine
from peers_report import CASES, RAW, Figures, markdown, plot, quoted

ROOT = HERE.parent
PEERS = HERE / "peers"
BUILD = ROOT / "build" / "peers"
DOCS = ROOT / "docs"
GIB = 1 << 30
PATIENCE = 120.0
COUNTS = {"spawn": 50, "capture": 50, "many": 1000, "big": 64 << 20, "lines": 200_000, "pipeline": 10}
"""What one question asks for."""
HELD, WARM = 300, 20
PACKAGES = ("psutil", "sh", "plumbum", "uvloop", "anyio", "trio")
SLOW = {"sh": 10, "GNU parallel": 1}
"""What is asked for a tenth only, or once in three rounds: a round of theirs would take longer than all others."""

EXIT, FEED = str(BUILD / "exit"), str(BUILD / "feed")


def call(*argv: str | Path, cwd: Path | None = None) -> str:
    """A program of the build; its output."""
    done = subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} {argv[1]}: {done.stdout[-2000:]}")
    return done.stdout


def first_number(text: str) -> str:
    """The version in what a program says of itself."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return found.group() if found else "?"


class Rivals:
    """Who takes part: the name, how its program is started, the version; and who does not, with the reason."""

    def __init__(self) -> None:
        self.argv: dict[str, list[str]] = {}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def build(self) -> None:
        """Build all; what cannot be is left out."""
        BUILD.mkdir(parents=True, exist_ok=True)
        self.c()
        for names, what in (
            (("Rust std", "tokio", "tokio, one thread", "duct", "subprocess (crate)"), self.rust),
            (("Go os/exec",), self.go),
            (("Node child_process",), self.node),
            (("subprocess", "asyncio", *PACKAGES), self.python),
            (("xargs",), lambda: self.tool("xargs")),
            (("GNU parallel",), lambda: self.tool("parallel")),
        ):
            try:
                what()
            except (OSError, RuntimeError) as error:
                print(f"left out: {', '.join(names)}: {error}", file=sys.stderr)
                self.missing |= dict.fromkeys(names, str(error).splitlines()[0][:200])

    def c(self) -> None:
        compiler = os.environ.get("CC", "cc")
        call(compiler, "-O2", "-static", "-o", FEED, PEERS / "feed.c")
        freestanding = ("-static", "-nostdlib", "-DFREESTANDING")
        call(compiler, "-O2", *freestanding, "-o", EXIT, HERE / "static_exit.c")
        call(compiler, "-O2", "-pthread", "-o", BUILD / "raw", PEERS / "raw.c")
        self.argv[RAW] = [str(BUILD / "raw"), EXIT, FEED]
        self.versions[RAW] = call(compiler, "--version").splitlines()[0]
        for name in ("fastproc", "fastproc.aio"):
            self.argv[name] = [sys.executable, str(PEERS / "python.py"), name, EXIT, FEED]
            self.versions[name] = f"{fastproc.__version__}, {commit()}, CPython {sys.version.split()[0]}"

    def rust(self) -> None:
        call("cargo", "build", "--release", "--locked", "--target-dir", BUILD / "rust", cwd=PEERS / "rust")
        release = BUILD / "rust" / "release"
        compiler = f"rustc {first_number(call('rustc', '--version'))}"
        lock = (PEERS / "rust" / "Cargo.lock").read_text()
        locked = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
        for name, program, crate, *more in (
            ("Rust std", "peer_std", ""),
            ("tokio", "peer_tokio", "tokio"),
            ("tokio, one thread", "peer_tokio", "tokio", "current"),
            ("duct", "peer_duct", "duct"),
            ("subprocess (crate)", "peer_subprocess", "subprocess"),
        ):
            self.argv[name] = [str(release / program), EXIT, FEED, *more]
            self.versions[name] = f"{crate} {locked[crate]}, {compiler}" if crate else compiler

    def go(self) -> None:
        call("go", "build", "-o", BUILD / "peer_go", ".", cwd=PEERS / "go")
        self.argv["Go os/exec"] = [str(BUILD / "peer_go"), EXIT, FEED]
        self.versions["Go os/exec"] = f"go {first_number(call('go', 'version'))}"

    def node(self) -> None:
        self.versions["Node child_process"] = f"node {first_number(call('node', '--version'))}"
        self.argv["Node child_process"] = ["node", str(PEERS / "node.js"), EXIT, FEED]

    def python(self) -> None:
        python = BUILD / "venv" / "bin" / "python"
        if not python.exists():
            call(sys.executable, "-m", "venv", BUILD / "venv")
        call(python, "-m", "pip", "install", "--quiet", "--upgrade", *PACKAGES)
        ask = "import sys, importlib.metadata as m; print(*(m.version(n) for n in sys.argv[1:]))"
        found = dict(zip(PACKAGES, call(python, "-c", ask, *PACKAGES).split(), strict=True))
        for name in ("subprocess", "asyncio", *PACKAGES):
            shown = {"psutil": "psutil.Popen"}.get(name, name)
            self.argv[shown] = [str(python), str(PEERS / "python.py"), name, EXIT, FEED]
            self.versions[shown] = f"CPython {sys.version.split()[0]}" if name not in found else f"{name} {found[name]}"

    def tool(self, program: str) -> None:
        path = shutil.which(program)
        if path is None:
            raise RuntimeError(f"no program {program}")
        name = "GNU parallel" if program == "parallel" else program
        self.versions[name] = first_number(call(path, "--version").replace("GNU parallel ", ""))


def commit() -> str:
    """Which state of the repository this is."""
    try:
        return "commit " + call("git", "-C", ROOT, "describe", "--always", "--dirty").strip()
    except (OSError, RuntimeError):
        return "no commit"


class Server:
    """A rival's program, asked by lines."""

    def __init__(self, argv: list[str]) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def ask(self, case: str, count: int) -> int | None:
        """The nanoseconds that it took; None where it has no such case, or failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(f"{case} {count}\n".encode())
        except BrokenPipeError:
            return None
        answer = b""
        deadline = time.monotonic() + PATIENCE
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not piece:
                return None
            answer += piece
        return int(answer) if answer.strip().isdigit() else None

    def resident(self) -> int:
        """The bytes of memory that it has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found.group(1)) * 1024 if found else 0

    def close(self) -> None:
        """Let it end; one that hangs is killed, and so are the children that it leaves."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


@contextmanager
def served(argv: list[str]) -> Iterator[Server]:
    """A rival's program for a while."""
    server = Server(argv)
    try:
        yield server
    finally:
        server.close()


def by_xargs(count: int) -> int:
    """The nanoseconds of xargs; what its children write goes together into one pipe."""
    return timed(["xargs", "-P", "100", "-n", "1", EXIT], count)


def by_parallel(count: int) -> int:
    return timed(["parallel", "--will-cite", "-j", "100", EXIT], count)


def timed(argv: list[str], count: int) -> int:
    numbers = "".join(f"{number}\n" for number in range(count)).encode()
    begin = time.perf_counter_ns()
    done = subprocess.run(argv, input=numbers, capture_output=True)
    taken = time.perf_counter_ns() - begin
    if done.returncode != 0 or done.stdout:
        raise RuntimeError(f"{argv[0]}: status {done.returncode}, {done.stderr[-500:]!r}")
    return taken


TOOLS: dict[str, Callable[[int], int]] = {"xargs": by_xargs, "GNU parallel": by_parallel}


def main_cases(rivals: Rivals, rounds: int) -> Iterator[tuple[str, str, float]]:
    """Case, rival, and the nanoseconds of one: of a run, of a child among many, of a byte, of a line."""
    servers = {name: Server(argv) for name, argv in rivals.argv.items()}
    try:
        for number in range(-1, rounds):
            for case, count in COUNTS.items():
                names = [*servers, *(TOOLS if case == "many" else ())]
                random.shuffle(names)
                for name in names:
                    if name in rivals.missing:
                        continue
                    share = SLOW.get(name, 1)
                    asked = max(5, count // share) if number >= 0 else max(5, count // 20)
                    if name in TOOLS:
                        if number < 0 or (name == "GNU parallel" and number % 3):
                            continue
                        taken: int | None = TOOLS[name](asked)
                    else:
                        taken = servers[name].ask(case, asked)
                        if taken is None and servers[name].process.poll() is not None:
                            raise RuntimeError(f"{name} ended in {case}")
                    if taken is not None and number >= 0:
                        yield case, name, taken / asked
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    finally:
        for server in servers.values():
            server.close()


def apart_cases(rivals: Rivals, rounds: int) -> Iterator[tuple[str, str, float]]:
    """The same for those that want a fresh process: nanoseconds of a run beside 1 GiB, bytes for a child that lives."""
    for number in range(rounds):
        names = list(rivals.argv)
        random.shuffle(names)
        for name in names:
            with served(rivals.argv[name]) as server:
                server.ask("ballast", GIB)
                server.ask("capture", 3)
                taken = server.ask("capture", 20)
                if taken is not None:
                    yield "gigabyte", name, taken / 20
            with served(rivals.argv[name]) as server:
                # What comes with the first children only is no part of what one more takes.
                server.ask("hold", WARM)
                server.ask("drop", 0)
                server.ask("hold", WARM)
                before = server.resident()
                held = server.ask("hold", HELD)
                after = server.resident()
                server.ask("drop", 0)
                if held is not None:
                    yield "live", name, max(0, after - before) / HELD
        print(f"round {number + 1} of {rounds} in processes of their own", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="comma-separated names; prints, and writes nothing")
    chosen = parser.parse_args()
    where = machine(os.getloadavg()[0])
    # Two pipes and a pidfd for each child that is held.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))

    rivals = Rivals()
    rivals.build()
    if chosen.only:
        wanted = {RAW, *chosen.only.split(",")}
        rivals.argv = {name: argv for name, argv in rivals.argv.items() if name in wanted}
        rivals.missing |= {name: "not asked for" for name in TOOLS if name not in wanted}

    taken: dict[str, dict[str, list[float]]] = {case.key: {} for case in CASES}
    for case, name, value in main_cases(rivals, chosen.rounds):
        taken[case].setdefault(name, []).append(value)
    for case, name, value in apart_cases(rivals, max(1, chosen.rounds // 3)):
        taken[case].setdefault(name, []).append(value)

    figures: Figures = {case: {name: median(all_) for name, all_ in rows.items()} for case, rows in taken.items()}
    text = markdown(figures, rivals.versions, rivals.missing, where, chosen.rounds)
    if chosen.only:
        print(text)
        return
    (DOCS / "peers.md").write_text(text)
    (DOCS / "peers.svg").write_text(plot(figures, [case.key for case in CASES], where))
    (DOCS / "peers-many.svg").write_text(plot(figures, ["many", "capture"], where))
    readme = DOCS.parent / "README.md"
    readme.write_text(quoted(figures, readme.read_text()))
    print("README.md, docs/peers.md, peers.svg, peers-many.svg written")


if __name__ == "__main__":
    main()
