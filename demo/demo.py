"""Run real programs over this machine's own files, check every answer, and report: `make demo`.

The input is the library of the interpreter that runs this. Every line compares what a program said with what Python
computes itself; a difference ends the demo with exit code 1.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fastproc

LIBRARY = Path(sysconfig.get_path("stdlib"))
FILES = sorted(path for path in LIBRARY.glob("*.py") if path.is_file())
TEXT = b"".join(path.read_bytes() for path in FILES)
ROUNDS = 300


class WrongError(Exception):
    """An answer that is not what Python computes."""


def expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongError(f"{str(found)[:120]!r} is not {str(wanted)[:120]!r}")


def count_lines() -> str:
    result = fastproc.run("wc", "-l", *FILES, capture=True)
    total = int(result.text().split()[-2])
    expect(total, TEXT.count(b"\n"))
    return f"{total:,} lines in {len(FILES)} files"


def check_sums() -> str:
    lines = fastproc.run("sha256sum", *FILES, capture=True).lines()
    for line, path in zip(lines, FILES, strict=True):
        expect(line.split()[0], hashlib.sha256(path.read_bytes()).hexdigest())
    return f"{len(lines)} sums, each as hashlib's"


def sort_input() -> str:
    lines = TEXT.split(b"\n")
    result = fastproc.cmd("sort").env("LC_ALL", "C").run(input=b"\n".join([*lines, b""]), capture=True)
    expect(result.stdout, b"\n".join([*sorted(lines), b""]))
    return f"{len(TEXT) / 1e6:.1f} MB fed, as much sorted and read back"


def compress_iterator() -> str:
    def blocks() -> Iterator[bytes]:
        for path in FILES:
            yield path.read_bytes()

    result = fastproc.run("gzip", "-1", input=blocks(), capture=True)
    expect(result.stdout is not None and gzip.decompress(result.stdout), TEXT)
    return f"{len(TEXT):,} bytes from an iterator, {len(result.stdout or b''):,} compressed"


def to_a_file() -> str:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "names")
        fastproc.run("ls", "-1", cwd=LIBRARY, stdout=target)
        expect(set(target.read_text().split("\n")) >= {path.name for path in FILES}, True)
        return f"{len(target.read_text().splitlines())} names, listed from inside the folder"


def hash_with_git() -> str:
    content = FILES[0].read_bytes()
    wanted = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    expect(fastproc.cmd("git", "hash-object", "--stdin").stdin_bytes(content).read(), wanted)
    return f"{FILES[0].name} is blob {wanted[:12]}"


def set_up() -> str:
    command = fastproc.cmd("sh", "-c", "umask; ulimit -n; echo $GREETING; pwd").options(
        umask=0o027, rlimits={"NOFILE": (64, 64)}, env_add={"GREETING": "hello"}, cwd="/", setsid=True
    )
    expect(command.read().split("\n"), ["0027", "64", "hello", "/"])
    return "umask, limit, variable, directory and session of its own, all before exec"


def meet_deadline() -> str:
    start = time.monotonic()
    try:
        fastproc.run("sh", "-c", "echo started; exec sleep 30", capture=True, timeout=0.3)
    except fastproc.TimeoutExpired as error:
        expect(error.stdout, b"started\n")
        expect(time.monotonic() - start < 3, True)
        return f"{error}; what it had written is kept"
    raise WrongError("no deadline fired")


def fail() -> str:
    try:
        fastproc.run("ls", "/nowhere", capture=True)
    except fastproc.ExitError as error:
        return str(error).replace("\n", ": ")
    raise WrongError("ls found /nowhere")


def misspell() -> str:
    try:
        fastproc.run("no-such-program", env_add={"PATH": "/usr/bin:/bin"})
    except FileNotFoundError as error:
        return str(error)
    raise WrongError("no-such-program ran")


def used() -> str:
    result = fastproc.run("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", capture=True)
    usage = result.usage
    if usage is None:
        raise WrongError("no usage")
    expect(0 < usage.utime + usage.stime < result.duration * 1.5 + 0.1, True)
    switches = usage.nvcsw + usage.nivcsw
    return f"{usage.utime + usage.stime:.3f} s of processor time, {switches} context switches, of this child alone"


PARTS: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("wc", "count", count_lines),
    ("sha256sum", "check sums", check_sums),
    ("sort", "feed and collect", sort_input),
    ("gzip", "feed an iterator", compress_iterator),
    ("ls", "output to a file", to_a_file),
    ("git", "hash", hash_with_git),
    ("sh", "set up the child", set_up),
    ("sh", "resource usage", used),
    ("sleep", "a deadline", meet_deadline),
    ("ls", "a failing program", fail),
    ("", "a missing program", misspell),
)


def speed() -> None:
    """Interleaved rounds of one small captured run, by fastproc and by subprocess."""
    mine: list[float] = []
    theirs: list[float] = []
    clock = time.perf_counter
    for round_ in range(ROUNDS + 20):
        for first in (round_ % 2, 1 - round_ % 2):
            start = clock()
            if first:
                fastproc.run("true", capture=True)
            else:
                subprocess.run(["true"], capture_output=True, check=True)
            (mine if first else theirs).append(clock() - start)
    fast, slow = statistics.median(mine[20:]) * 1e6, statistics.median(theirs[20:]) * 1e6
    print(f"\nSpeed: `true`, captured, {ROUNDS} rounds, each running both, median of one run")
    print(f"  fastproc.run    {fast:7.0f} µs")
    print(f"  subprocess.run  {slow:7.0f} µs   ({slow / fast:.2f} times as long)")


def main() -> int:
    version = ".".join(map(str, sys.version_info[:3]))
    result = fastproc.run("true")
    refused = "".join(f"; {name} refused: {reason}" for name, reason in result.mechanism_refused.items())
    print(f"fastproc {fastproc.__version__} on Python {version}, spawning by {result.mechanism}{refused}")
    print(f"input: {len(FILES)} files, {len(TEXT) / 1e6:.1f} MB, the interpreter's library\n")
    wrong = 0
    for program, what, part in PARTS:
        label = f"{what} ({program})" if program else what
        if program and shutil.which(program) is None:
            print(f"  skip  {label:30} {program} is not installed here")
            continue
        start = time.perf_counter()
        try:
            text = part()
            print(f"  ok    {label:30} {text}  [{(time.perf_counter() - start) * 1e3:.1f} ms]")
        except (WrongError, fastproc.ProcessError) as error:
            wrong += 1
            print(f"  WRONG {label:30} {type(error).__name__}: {error}")
    speed()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
