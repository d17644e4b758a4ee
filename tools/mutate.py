"""Make small mutations of the sources, one at a time, run the tests that should notice, and print those that survive.

    python tools/mutate.py csrc/spawn/identity.c csrc/spawn/shared.c        # every mutation of these files
    python tools/mutate.py --list csrc/spawn/credentials.c                  # only say which there are
    python tools/mutate.py --only 137,401 csrc/spawn/identity.c       # those on these lines
    python tools/mutate.py --sample 50 --seed 1 csrc/*/*.c        # a fixed sample

A mutation takes out one check, one operand of a check, one statement, or moves one bound. Each is built and tested in a
copy of the tree, inside PID and mount namespaces of its own whose file system is read-only: a mutated kill(2) or
setresuid(2) reaches nothing outside. Needs root and unshare(1).

A line of the sources that carries `mutate: equivalent` in a comment is left alone; the comment says why.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIP = "mutate: equivalent"

TRUTH = tuple(
    f"tests/native/test_identity.py::test_{name}"
    for name in (
        "truth_table",
        "each_deviation_is_found_by_its_own_look",
        "calls_that_fail_or_lie_are_refused",
        "lies_that_the_state_hides_are_refused",
        "truth_table_of_other_parents",
        "launcher_has_no_more_than_the_parent",
        "bounding_set_cannot_grow",
        "wrong_orders_are_noticed",
        "another_user_gets_no_key_of_ours",
        "new_keyring_counts_against_the_quota_of_the_parent",
        "dumpable_flag_of_the_parent_stays",
        "forty_thousand_groups",
        "directory_is_found_below_the_root",
    )
)
LAUNCHER = tuple(
    f"tests/native/test_identity.py::test_{name}"
    for name in (
        "launcher_that_is_told_wrong_executes_nothing",
        "program_has_the_standard_streams_only",
        "child_without_the_launcher",
        "launcher_of_somebody_else_is_not_executed",
        "forked_copy_does_not_wait_for_who_opens_the_launcher",
        "threads_open_the_launcher_once",
    )
)
TESTS: dict[str, tuple[str, ...]] = {
    "csrc/spawn/identity.c": (*TRUTH, "tests/native/test_shared.py", "tests/native/test_confinement.py", *LAUNCHER),
    "csrc/spawn/shared.c": ("tests/native/test_shared.py", *TRUTH[:2]),
    "csrc/spawn/launcher.c": (*LAUNCHER, *TRUTH[:2]),
    "csrc/spawn/credentials.c": (*TRUTH[:2], *LAUNCHER, "tests/native/test_confinement.py", *TRUTH[2:5]),
}
"""The tests that should notice a mutation of a file, quick ones first."""


@dataclass(frozen=True)
class Mutation:
    """One change of one file.

    Attributes:
        path: the file, below the top of the tree.
        line: the number of the line where the change begins, from 1.
        begin: where in the text the changed part begins.
        end: where it ends.
        new: what stands there instead.
        what: the change in words.
    """

    path: str
    line: int
    begin: int
    end: int
    new: str
    what: str


def blanked(text: str) -> str:
    """The text of a C file with comments, strings and directives as blanks, so that places stay the same."""
    pattern = re.compile(
        r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^[ \t]*#(?:\\\n|[^\n])*',
        re.DOTALL | re.MULTILINE,
    )
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def closing(text: str, at: int) -> int:
    """The place of the parenthesis that closes the one at `at`."""
    depth = 0
    for place in range(at, len(text)):
        depth += text[place] == "("
        depth -= text[place] == ")"
        if depth == 0:
            return place
    raise ValueError("an open parenthesis")


def operands(text: str, begin: int, end: int) -> Iterator[tuple[int, int, str]]:
    """The operands of && and || in an expression, at every depth, with the operator that they stand at."""
    depth, start, places = 0, begin, []
    for place in range(begin, end):
        char = text[place]
        if char == "(":
            if depth == 0:
                yield from operands(text, place + 1, closing(text, place))
            depth += 1
        elif char == ")":
            depth -= 1
        elif depth == 0 and text[place : place + 2] in ("&&", "||"):
            places.append((start, place, text[place : place + 2]))
            start = place + 2
    if places:
        yield from places
        yield start, end, places[-1][2]


STATEMENT = re.compile(
    r"^([ \t]+)((?:\(void\))?[A-Za-z_][\w.>\[\]*-]*(?:\s*(?:[|&+-]?=)[^=;][^;{}]*|\([^;{}]*\)|\+\+|--));[ \t]*$",
    re.MULTILINE,
)
DECLARATION = re.compile(
    r"^(?:return|goto|break|continue|case|default|else|do|static|const|struct|enum|union|char|int|long|bool|void|double|unsigned|u?int\d+_t|size_t|_\w+)\b"
)
BOUNDS = {" < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == "}


def mutations_of(path: str) -> list[Mutation]:
    """Every mutation of one C file, in the order of its lines."""
    source = (ROOT / path).read_text("utf-8")
    text = blanked(source)
    found: dict[tuple[int, int, str], str] = {}

    def add(begin: int, end: int, new: str, what: str) -> None:
        found.setdefault((begin, end, new), what)

    for match in re.finditer(r"\b(if|while) \(", text):
        begin, end = match.end(), closing(text, match.end() - 1)
        shown = " ".join(source[begin:end].split())
        if match[1] == "if":
            add(begin, end, "0", f"if ({shown}): never")
            add(begin, end, "1", f"if ({shown}): always")
        for first, last, operator in operands(text, begin, end):
            neutral = "1" if operator == "&&" else "0"
            part = " ".join(source[first:last].split())
            add(first, last, f" {neutral} ", f"operand taken out: {part}")
    for match in re.finditer(r"\b(return|=) ?([^;{}]*?(?:&&|\|\||\?)[^;{}]*);", text):
        begin, end = match.start(2), match.end(2)
        for first, last, operator in operands(text, begin, end):
            while text[first:last].count("(") != text[first:last].count(")") and first < last:
                first += 1
            cut = text.find("?", first, last)
            last = cut if cut > 0 else last
            neutral = "1" if operator == "&&" else "0"
            part = " ".join(source[first:last].split())
            if part:
                add(first, last, f" {neutral} ", f"operand taken out: {part}")
        question = text.find("?", begin, end)
        if question > 0 and text[begin:end].count("?") == 1:
            colon = text.find(":", question)
            for first, last in ((question + 1, colon), (colon + 1, end)):
                part = " ".join(source[first:last].split())
                add(begin, end, part, f"{match[1]} always {part}")
    for match in re.finditer(r"\breturn (-[A-Z_a-z]\w*|true|false);", text):
        new = {"true": "false", "false": "true"}.get(match[1], "0")
        add(match.start(1), match.end(1), new, f"return {match[1]} -> {new}")
    for match in STATEMENT.finditer(text):
        if not DECLARATION.match(match[2]) and not re.match(r"\w+ \*?\w+ =", match[2]):
            add(match.start(2), match.end(2), "", f"statement taken out: {' '.join(match[2].split())}")
    for old, new in BOUNDS.items():
        for match in re.finditer(re.escape(old), text):
            add(match.start(), match.end(), new, f"{old.strip()} -> {new.strip()}")
    lines = source.split("\n")
    made = [
        Mutation(path, source.count("\n", 0, begin) + 1, begin, end, new, what)
        for (begin, end, new), what in found.items()
    ]
    made = [one for one in made if SKIP not in lines[one.line - 1] and SKIP not in lines[max(0, one.line - 2)]]
    return sorted(made, key=lambda one: (one.line, one.begin, one.what))


class Copy:
    """A copy of the tree with objects of its own, so that a mutation costs one compilation and three links."""

    def __init__(self, folder: Path, chosen: str) -> None:
        """Copy and build."""
        self.chosen = chosen
        self.last = ""
        self.tree = folder / "tree"
        ignore = shutil.ignore_patterns(
            ".git",
            ".venv*",
            "__pycache__",
            ".mypy_cache",
            ".ruff_cache",
            ".hypothesis",
            "results",
            "fastproc-mutants-*",
        )
        shutil.copytree(ROOT, self.tree, ignore=ignore, symlinks=True)
        sys.path.insert(0, str(ROOT))
        import build_ffi

        self.ffi = build_ffi
        self.include = f"-I{sysconfig.get_path('include')}"
        self.objects: dict[bool, dict[str, Path]] = {False: {}, True: {}}
        names = build_ffi.core_sources()
        for faults in (False, True):
            for name in names:
                self._compile(name, faults)
            self._compile(str(self._generated(faults)), faults)

    def _generated(self, faults: bool) -> Path:
        folder = self.tree / "build" / ("temp-faults" if faults else "temp")
        return next(folder.rglob("fastproc._native._ffi.c"))

    def _compile(self, source: str, faults: bool) -> bool:
        target = self.tree / "build" / "mutant" / f"{int(faults)}-{source}.o".replace("/", "-")
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = [flag for flag in self.ffi.COMPILE_ARGS if not flag.startswith("-W")]
        command = ["cc", "-c", "-w", "-fPIC", "-O2", *flags, "-D_GNU_SOURCE", self.include, "-Icsrc"]
        command += ["-DPy_LIMITED_API=0x030B0000"] if "_ffi.c" in source else []
        command += ["-DFP_FAULTS=1"] if faults else []
        done = subprocess.run([*command, "-o", str(target), source], cwd=self.tree, capture_output=True, check=False)
        self.objects[faults][source] = target
        return done.returncode == 0

    def build(self, path: str) -> bool:
        """Compile one file again and link; False where the mutation does not compile."""
        name = Path(path).name
        for faults in (False, True):
            if name != "launcher.c" and not self._compile(path, faults):
                return False
            place = self.tree / ("build/faults/fastproc/_native" if faults else "src/fastproc/_native")
            target = next(place.glob("_ffi*.so"))
            objects = map(str, self.objects[faults].values())
            subprocess.run(["cc", "-shared", *self.ffi.LINK_ARGS, "-o", str(target), *objects, "-lpthread"], check=True)
            if path.removeprefix("csrc/") in self.ffi.LAUNCHER:
                sources = [f"csrc/{one}" for one in self.ffi.LAUNCHER]
                flags = [flag for flag in self.ffi.LAUNCHER_ARGS if not flag.startswith("-Werror")]
                command = ["cc", "-w", *flags, *(["-DFP_FAULTS=1"] if faults else []), "-Icsrc", *sources]
                done = subprocess.run(
                    [*command, "-o", str(place / "launcher")], cwd=self.tree, capture_output=True, check=False
                )
                if done.returncode != 0:
                    return False
                (place / "launcher").chmod(0o755)
        return True

    def test(self, tests: tuple[str, ...], seconds: float) -> tuple[bool, str]:
        """Run the tests in namespaces of their own; whether all passed, and which failed first."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", self.chosen, *tests]
        script = (
            f"mount -o remount,bind,ro / && mount --bind {shlex.quote(str(self.tree))} {shlex.quote(str(self.tree))}"
            " && mount -t tmpfs -o mode=1777 t /var/tmp && mount -t tmpfs -o mode=1777 t /tmp && exec "
            + shlex.join(command)
        )
        wrapped = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--propagation", "private"]
        environment = {**os.environ, "PYTHONPATH": str(self.tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [*wrapped, "bash", "-c", script],
                cwd=self.tree,
                env=environment,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False, "no end"
        self.last = done.stdout[-6000:]
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        return done.returncode == 0, failed[0] if failed else (done.stdout + done.stderr)[-900:].strip()


def main() -> int:
    """Run as the module's docstring says; 1 where a mutation survived."""
    parser = argparse.ArgumentParser(description="Mutate the sources and print what no test notices.")
    parser.add_argument("files", nargs="+", help="source files, below the top of the tree")
    parser.add_argument("--list", action="store_true", help="print the mutations and do nothing")
    parser.add_argument("--only", default="", help="numbers of lines, with commas")
    parser.add_argument(
        "--checks", action="store_true", help="only checks that are taken out, one operand or refusal at a time"
    )
    parser.add_argument("--sample", type=int, default=0, help="so many of them, chosen by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tests", nargs="*", help="other tests than the usual ones")
    parser.add_argument("-k", default="", help="as pytest's: which of the tests")
    parser.add_argument("--seconds", type=float, default=300, help="how long the tests of one mutation may take")
    options = parser.parse_args()
    all_of = [one for name in options.files for one in mutations_of(name)]
    if options.only:
        lines = {int(number) for number in options.only.split(",")}
        all_of = [one for one in all_of if one.line in lines]
    if options.checks:
        all_of = [one for one in all_of if re.search(r": never$|^operand|^return ", one.what)]
    if options.sample:
        all_of = sorted(
            random.Random(options.seed).sample(all_of, min(options.sample, len(all_of))),
            key=lambda one: (one.path, one.begin),
        )
    if options.list:
        for one in all_of:
            print(f"{one.path}:{one.line}: {one.what}")
        print(len(all_of), "mutations")
        return 0
    survived, broken = [], 0
    with tempfile.TemporaryDirectory(prefix="fastproc-mutants-", dir=ROOT / "build") as folder:
        os.chmod(folder, 0o755)  # the tests import it as other users
        copy = Copy(Path(folder), options.k)
        for tests in {tuple(options.tests or TESTS[one.path]) for one in all_of}:
            passed, why = copy.test(tests, 3 * options.seconds)
            if not passed:
                raise SystemExit(f"the tests fail without any mutation: {why}\n{copy.last}")
        for number, one in enumerate(all_of, 1):
            path = copy.tree / one.path
            source = (ROOT / one.path).read_text("utf-8")
            path.write_text(source[: one.begin] + one.new + source[one.end :], "utf-8")
            begin = time.monotonic()
            if not copy.build(one.path):
                broken += 1
                verdict = "does not compile"
            else:
                alive, why = copy.test(tuple(options.tests or TESTS[one.path]), options.seconds)
                verdict = "SURVIVED" if alive else f"killed by {why}"
                if alive:
                    survived.append(one)
            path.write_text(source, "utf-8")
            if number == len(all_of) or all_of[number].path != one.path:
                copy.build(one.path)
            seconds = time.monotonic() - begin
            print(
                f"[{number}/{len(all_of)}] {one.path}:{one.line}: {one.what}: {verdict} ({seconds:.0f} s)", flush=True
            )
    tried = len(all_of) - broken
    print(f"{tried - len(survived)} of {tried} killed; {broken} do not compile")
    for one in survived:
        print(f"survived: {one.path}:{one.line}: {one.what}")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
