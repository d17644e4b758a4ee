"""`python -m fastproc map` beside xargs and GNU parallel: a table of what each does with the same input.

A row is run by all that have a line in it. Without `differs` all print the same and end with the same status; else the
difference is named there, for each program, and stands in docs/map.md.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conftest import wait_until

ROOT = Path(__file__).resolve().parents[2]
OURS = (sys.executable, "-m", "fastproc", "map")
FAIL = ("sh", "-c", "echo $0; exit 4")
FAILS = ("echo {}; exit 4; :",)


class Row(NamedTuple):
    name: str
    stdin: str
    ours: tuple[str, ...]
    xargs: tuple[str, ...] | None
    parallel: tuple[str, ...] | None
    differs: dict[str, tuple[str, int]] = {}  # noqa: RUF012 - never changed
    why: str = ""


def row(
    name: str, stdin: str, ours: Any, xargs: Any, parallel: Any, why: str = "", /, **differs: tuple[str, int]
) -> Row:
    words = [line.split() if isinstance(line, str) else line for line in (ours, xargs, parallel)]
    return Row(name, stdin, *(None if line is None else tuple(line) for line in words), differs, why)  # type: ignore[arg-type]


SAME = "the same"
TABLE = [
    # What an item is.
    row("an item is a line", "a\nb c\n", "-k echo X{}", r"-d\n -I{} echo X{}", "-k echo X{}"),
    row("an empty line is an item", "a\n\nb\n", "-k echo X{}", r"-d\n -I{} echo X{}", "-k echo X{}"),
    row("the last line needs no newline", "a\nb", "-k echo X{}", r"-d\n -I{} echo X{}", "-k echo X{}"),
    row("spaces in an item are kept", " a  b \n", "printf [%s] {}", r"-d\n -I{} printf [%s] {}", "printf [%s] {}"),
    row("quotes in an item are kept", "a'b\"c\n", "echo {}", r"-d\n -I{} echo {}", "echo {}"),
    row("an item is not expanded", "a;b $(echo x) *\n", "echo {}", r"-d\n -I{} echo {}", "echo {}"),
    row("bytes that are not text", "\udcff\n", "printf %s", "-n1 printf %s", "printf %s"),
    row("an item that begins with -", "-n\n", "printf [%s]", "-n1 printf [%s]", "printf [%s]"),
    row("-0", "a\nb\0c\0", "-k -0 printf [%s]", "-0 -n1 printf [%s]", "-k -0 printf [%s]"),
    row("-d ,", "a,b,c", "-k -d, echo", "-d, -n1 echo", "-k -d , echo"),
    row("-d , keeps the final newline", "a,b\n", "-k -d, echo", "-d, -n1 echo", "-k -d , echo"),
    row(r"-d \t", "a\tb\t", r"-k -d \t echo", r"-d \t -n1 echo", r"-k -d \t echo"),
    row(
        r"-d \x78",
        "axb",
        r"-k -d \x78 echo",
        r"-d \x78 -n1 echo",
        r"-k -d \x78 echo",
        "GNU parallel 20221122 does not know hexadecimal delimiters",
        parallel=("axb\n", 0),
    ),
    row(
        "quotes and spaces between items",
        "'a b' c\n",
        "-n1 echo",
        "-n1 echo",
        "-n1 echo",
        "xargs splits at spaces and interprets quotes, unless -d or -0 is given",
        xargs=("a b\nc\n", 0),
    ),
    row(
        "-L counts lines",
        "a b\nc\n",
        "-k -L1 printf [%s]",
        "-L1 printf [%s]",
        "-k -L1 printf [%s]",
        "xargs -L splits each line at spaces",
        xargs=("[a][b][c]", 0),
    ),
    row("-L 2", "a\nb\nc\n", "-k -L2 echo", "-L2 echo", "-k -L2 echo"),
    row("-a", "", ["-k", "-a", "{f1}", "echo"], ["-a", "{f1}", "-n1", "echo"], ["-k", "-a", "{f1}", "echo"]),
    row(
        "no items",
        "",
        "echo x",
        "echo x",
        "echo x",
        "xargs runs the command once without items, unless -r is given",
        xargs=("x\n", 0),
    ),
    row("no items, -r", "", "-r echo x", "-r echo x", "-r echo x"),
    # Where it goes.
    row("without a placeholder the item comes last", "a\nb\n", "-k echo pre", "-n1 echo pre", "-k echo pre"),
    row("-n 2", "a\nb\nc\n", "-k -n2 echo", "-n2 echo", "-k -n2 echo"),
    row("-n 2 by number", "a\nb\nc\n", "-k -n2 echo {2}-{1}", None, "-k -N2 echo {2}-{1}"),
    row("-n 2 in a word", "a\nb\nc\n", "-k -n2 echo x{}y", None, "-k -n2 echo x{}y"),
    row("-X takes all", "a\nb\nc\n", "-X echo", "echo", "-j1 -X echo"),
    row("-I%", "a\n", "-I% echo %-% {}", "-I% echo %-% {}", "-I% echo %-% {}"),
    row("-I takes one at a time", "a\nb\n", "-k -I{} echo {}", "-I{} echo {}", "-k -I{} echo {}"),
    row(
        "{.} {/} {//} {/.}",
        "d.e/b.c.d\n.h\nd/\n",
        "-k printf [%s] {.} {/} {//} {/.}",
        None,
        "-k printf [%s] {.} {/} {//} {/.}",
    ),
    row("{#} {%}", "", "-j1 echo {#} {%} ::: a b", None, "-j1 echo {#} {%} ::: a b"),
    row("{-1}, and a number too high", "", "echo {-1} {1} [{3}] ::: a ::: b", None, "echo {-1} {1} [{3}] ::: a ::: b"),
    row("{1/.} {2//}", "", "echo {1/.} {2//} ::: a/b.c ::: d/e", None, "echo {1/.} {2//} ::: a/b.c ::: d/e"),
    # Several sources.
    row(":::", "", "-k echo ::: a b", None, "-k echo ::: a b"),
    row("::: :::", "", "-k echo {1}{2} ::: a b ::: x y", None, "-k echo {1}{2} ::: a b ::: x y"),
    row("{} of several sources", "", "-k echo {} ::: a b ::: x y", None, "-k echo {} ::: a b ::: x y"),
    row(
        ":::+", "", "-k echo {1}{2}{3} ::: a b c :::+ x y ::: 1 2", None, "-k echo {1}{2}{3} ::: a b c :::+ x y ::: 1 2"
    ),
    row("--link", "", "-k --link echo {1}{2} ::: a b c ::: x y", None, "-k --link echo {1}{2} ::: a b c ::: x y"),
    row("::::", "", "-k echo {1}{2} :::: {f1} {f2}", None, "-k echo {1}{2} :::: {f1} {f2}"),
    row("::::+", "", "-k echo {1}{2} :::: {f1} ::::+ {f2}", None, "-k echo {1}{2} :::: {f1} ::::+ {f2}"),
    row(":::: -", "p\nq\n", "-k echo {1}{2} :::: - ::: 1 2", None, "-k echo {1}{2} :::: - ::: 1 2"),
    row("-a twice", "", "-k -a {f1} -a {f2} echo {1}{2}", None, "-k -a {f1} -a {f2} echo {1}{2}"),
    row("-a and :::", "", "-k -a {f1} echo {1}{2} ::: x y", None, "-k -a {f1} echo {1}{2} ::: x y"),
    row("-C", "a,b\nc,d\n", "-k -C , echo {2}{1}", None, "-k -C , echo {2}{1}"),
    # Options together.
    row("-N 2 repeats a word", "a\nb\nc\n", "-k -N2 echo x{}y z{.}{}", None, "-k -N2 echo x{}y z{.}{}"),
    row("-L 2 repeats a word", "a\nb\nc\n", "-k -L2 echo x{}y", None, "-k -L2 echo x{}y"),
    row("-X repeats a word", "a\nb\nc\n", "-j1 -X echo x{}y {} {#}", None, "-j1 -X echo x{}y {} {#}"),
    row("-m fills a word", "a\nb\nc\n", "-j1 -m echo x{}y", None, "-j1 -m echo x{}y"),
    row("-X -n 2", "a\nb\nc\n", "-k -X -n2 echo x{}y", None, "-j1 -k -X -n2 echo x{}y"),
    row("-m -n 2", "a\nb\nc\n", "-k -m -n2 echo x{}y", None, "-j1 -k -m -n2 echo x{}y"),
    row("-X of several sources", "", "-j1 -X echo x{} ::: a b ::: 1 2", None, "-j1 -X echo x{} ::: a b ::: 1 2"),
    row(
        "-C of several sources",
        "",
        "-k -C , echo {1}+{2}+{3} ::: a,b c ::: x y,z",
        None,
        "-k -C , echo {1}+{2}+{3} ::: a,b c ::: x y,z",
    ),
    row(
        "-C and :::+",
        "",
        "-k -C , echo {1}+{2}+{3} ::: a,b c,d :::+ x y z",
        None,
        "-k -C , echo {1}+{2}+{3} ::: a,b c,d :::+ x y z",
    ),
    row(
        "-C and --link",
        "",
        "-k --link -C , echo {1}+{2}+{3} ::: a,b c,d ::: x y z",
        None,
        "-k --link -C , echo {1}+{2}+{3} ::: a,b c,d ::: x y z",
    ),
    row("-C and ::::", "", "-k -C 1 echo {1}+{2}+{3} :::: {f1} {f2}", None, "-k -C 1 echo {1}+{2}+{3} :::: {f1} {f2}"),
    row(
        "-C and -N 2",
        "",
        "-k -C , -N2 echo {1}+{2}+{3}+{4} ::: a,b c,d e",
        None,
        "-k -C , -N2 echo {1}+{2}+{3}+{4} ::: a,b c,d e",
    ),
    row("-C and -X", "", "-j1 -X -C , echo x{}y ::: a,b c,d", None, "-j1 -X -C , echo x{}y ::: a,b c,d"),
    row("-C with empty columns", "a,,b\n,c\n\nx\n", "-k -C , echo {1}+{2}+{-1}", None, "-k -C , echo {1}+{2}+{-1}"),
    row(
        "-C with a group",
        "a,b;c\n",
        "-k -C (,)|; echo {1}+{2}+{3}+{4}+{5}",
        None,
        "-k -C (,)|; echo {1}+{2}+{3}+{4}+{5}",
    ),
    row("-C without a placeholder", "", "-k -C , echo ::: a,b ::: x", None, "-k -C , echo ::: a,b ::: x"),
    row("{} of columns", "", "-k -C , echo x{}y {/} ::: a/b,c ::: x", None, "-k -C , echo x{}y {/} ::: a/b,c ::: x"),
    row(
        "-d splits the arguments after :::",
        "",
        "-k -d , echo {1}{2} ::: a,b c ::: x,y",
        None,
        "-k -d , echo {1}{2} ::: a,b c ::: x,y",
    ),
    row("an empty source", "", "-k echo {1}+{2} ::: a b :::", None, "-k echo {1}+{2} ::: a b :::"),
    # The command.
    row("one word is a line", "a b\n", ["printf '<%s>' {} z"], None, ["printf '<%s>' {} z"]),
    row("--shell", "a b;c\n", ["--shell", "printf '<%s>' {} | tr a-z A-Z"], None, ["printf '<%s>' {} | tr a-z A-Z"]),
    row(
        "a shell's characters in the command",
        "a\n",
        ["echo", "{}", ";", "echo", "x"],
        ["-I{}", "echo", "{}", ";", "echo", "x"],
        ["echo", "{}", ";", "echo", "x"],
        "GNU parallel runs every command with a shell; fastproc only with --shell",
        parallel=("a\nx\n", 0),
    ),
    row("no command: items are the commands", "", "-k ::: true", None, "-k ::: true"),
    row(
        "no command, xargs",
        "echo a\necho 'b c'\n",
        "-k",
        "",
        "-k",
        "xargs without a command runs echo",
        xargs=("echo a echo b c\n", 0),
    ),
    row(
        "stdin of a task is empty",
        "x\ny\n",
        ["-j1", "sh", "-c", "cat; echo [$0]"],
        ["-n1", "sh", "-c", "cat; echo [$0]"],
        ["-j1", "cat; echo [{}]"],
    ),
    row("--dry-run", "a b\nc;d\n", "-k --dry-run echo {} x", None, "-k --dry-run echo {} x"),
    # What is printed.
    row(
        "-k", "3\n1\n2\n", ["-k", "-j3", "sh", "-c", "sleep 0.$0; echo $0"], None, ["-k", "-j3", "sleep 0.{}; echo {}"]
    ),
    row(
        "in the order of their ends",
        "3\n1\n",
        ["-j2", "sh", "-c", "sleep 0.$0; echo $0"],
        ["-P2", "-n1", "sh", "-c", "sleep 0.$0; echo $0"],
        ["-j2", "sleep 0.{}; echo {}"],
    ),
    row(
        "--tag", "a\nb\n", ["-k", "--tag", "sh", "-c", r"printf '1\n2\n'"], None, ["-k", "--tag", r"printf '1\n2\n'; :"]
    ),
    row("--tag without a final newline", "a\n", "--tag printf x", None, "--tag printf x"),
    row("--line-buffer", "a\n", "--line-buffer printf x%s", None, "--line-buffer printf x%s"),
    row("--group without a final newline", "a\nb\n", "-k printf %s", None, "-k printf %s"),
    row("-u", "a\n", "-u echo", "-n1 echo", "-u echo"),
    # The status.
    row("all succeed", "a\n", "true", "true", "true"),
    row(
        "three fail",
        "a\nb\nc\n",
        "false",
        "-n1 false",
        "false",
        "xargs exits with 123, the others with the number of failed tasks",
        xargs=("", 123),
    ),
    row(
        "more than 100 fail",
        "x\n" * 102,
        "false",
        "-n1 false",
        "false",
        "xargs exits with 123, the others with 101",
        xargs=("", 123),
    ),
    row(
        "killed by a signal",
        "a\n",
        ["sh", "-c", "kill -9 $$"],
        ["-n1", "sh", "-c", "kill -9 $$"],
        ["kill -9 $$; :"],
        "xargs exits with 125 and stops",
        xargs=("", 125),
    ),
    row(
        "status 255",
        "a\nb\n",
        ["-P1", "sh", "-c", "echo $0; exit 255"],
        ["-n1", "sh", "-c", "echo $0; exit 255"],
        ["-j1", "echo {}; exit 255; :"],
        "xargs exits with 124 and stops",
        xargs=("a\n", 124),
    ),
    row(
        "no such program",
        "a\n",
        "no-such-program",
        "no-such-program",
        "no-such-program",
        "xargs exits with 127 and stops",
        xargs=("", 127),
    ),
    # Its course.
    row(
        "--halt soon,fail=1",
        "1\n2\n3\n",
        ["-j1", "--halt", "soon,fail=1", *FAIL],
        None,
        ["-j1", "--halt", "soon,fail=1", *FAILS],
    ),
    row(
        "--halt soon,fail=2",
        "1\n2\n3\n",
        ["-j1", "--halt", "soon,fail=2", *FAIL],
        None,
        ["-j1", "--halt", "soon,fail=2", *FAILS],
    ),
    row(
        "--halt soon,fail=50%",
        "1\n2\n3\n4\n5\n6\n",
        ["-j1", "--halt", "soon,fail=50%", *FAIL],
        None,
        ["-j1", "--halt", "soon,fail=50%", *FAILS],
    ),
    row(
        "--halt now,fail=1",
        "1\n2\n",
        [
            "-j2",
            "--halt",
            "now,fail=1",
            "sh",
            "-c",
            "if [ $0 = 1 ]; then sleep 0.2; exit 5; else sleep 30; echo late; fi",
        ],
        None,
        ["-j2", "--halt", "now,fail=1", "if [ {} = 1 ]; then sleep 0.2; exit 5; else sleep 30; echo late; fi"],
    ),
    row(
        "--halt now,success=1",
        "1\n2\n3\n",
        ["-j1", "--halt", "now,success=1", "sh", "-c", "echo $0; [ $0 -gt 1 ]"],
        None,
        ["-j1", "--halt", "now,success=1", "echo {}; [ {} -gt 1 ]"],
    ),
    row(
        "--halt soon,done=2",
        "1\n2\n3\n",
        "-j1 --halt soon,done=2 echo",
        None,
        "-j1 --halt soon,done=2 echo",
        "GNU parallel 20221122 exits with 101 although no task failed",
        parallel=("1\n2\n", 101),
    ),
    row(
        "--retries 3",
        "a\n",
        ["--retries", "3", "sh", "-c", "echo t; exit 1"],
        None,
        ["--retries", "3", "echo t; exit 1; :"],
    ),
    row(
        "--timeout",
        "a\n",
        ["--timeout", "0.5", "sh", "-c", "exec sleep 30"],
        None,
        ["--timeout", "0.5", "exec sleep 30; : {}"],
    ),
    row("-P 0", "a\nb\n", "-k -P0 echo", "-P1 -n1 echo", "-k -P0 echo"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("items")
    (folder / "f1").write_text("1\n2\n")
    (folder / "f2").write_text("a\nb\nc\n")
    (folder / "home").mkdir()
    return {"{f1}": str(folder / "f1"), "{f2}": str(folder / "f2"), "home": str(folder / "home")}


def ran(line: tuple[str, ...], stdin: str, files: dict[str, str]) -> tuple[str, int]:
    """What a program prints and how it ends."""
    words = [files.get(word, word) for word in line]
    env = {**os.environ, "HOME": files["home"]}
    data = stdin.encode("utf-8", "surrogateescape")
    done = subprocess.run(words, input=data, capture_output=True, check=False, env=env, timeout=60)
    return done.stdout.decode("utf-8", "surrogateescape"), done.returncode


@pytest.mark.parametrize("one", TABLE, ids=lambda one: one.name)
def test_behaves_as_the_others(one: Row, files: dict[str, str]) -> None:
    """Every program of the row is run; a difference is one that is named."""
    expected = ran((*OURS, *one.ours), one.stdin, files)
    for name, line in (("xargs", one.xargs), ("parallel", one.parallel)):
        if line is None:
            continue
        if shutil.which(name) is None:
            pytest.skip(f"no {name} here")
        command = (name, *(["--will-cite"] if name == "parallel" else []), *line)
        assert (name, ran(command, one.stdin, files)) == (name, one.differs.get(name, expected))


def test_differences_are_documented() -> None:
    """docs/map.md has a row for every row here, and names every difference."""
    page = (ROOT / "docs" / "map.md").read_text()
    missing = [one.name for one in TABLE if one.name not in page or one.why not in page]
    assert missing == []


# -- what the others do not have, or cannot be compared


def ours(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*OURS, *arguments], input=stdin, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "--nonsense: no such option"),
        (["-n", "0", "true"], "--max-args: must be a number from 1 on"),
        (["-P", "x", "true"], "-P: must be a number"),
        (["--joblog"], "--joblog: needs a value"),
        (["--resume=yes", "true"], "--resume: takes no value"),
        (["--timeout", "soon", "true"], "--timeout: must be seconds"),
        (["-d", "ab", "true"], "-d: must be one character"),
        (["true", ":::+", "a"], ":::+: there is no source before it"),
        (["--resume", "true"], "resume, doubt, durable: need joblog= or results="),
        (["echo | cat"], "template: '|' is for a shell"),
        (["--shell", "echo '{}'"], "omit the quotes"),
        (["-C", "(", "true"], "-C: '(' is not a valid regular expression"),
        (["-C", "", "true"], "-C: is empty"),
        (["-n2", "-L2", "true"], "-L: cannot be combined with -n"),
        (["-n2", "-N2", "true"], "-N: cannot be combined with -n"),
        (["-m", "-N2", "true"], "-m: puts all items into one word, and -N repeats"),
        (["-m", "-L2", "true"], "-m: puts all items into one word, and -L repeats"),
        (["-X", "echo", "{1}"], "-X, -m: take as many items as fit"),
        (["-m", "echo x{2/}"], "-X, -m: take as many items as fit"),
        (["-X", "--shell", "echo x{}"], "a whole word to be repeated"),
        (["-0", "-d", ",", "true"], "-d: -0 is given too"),
        (["-k", "-u", "true"], "-k: with -u"),
        (["-u", "--tag", "true"], "tag: not possible with"),
        (["-X"], "-X, -m: there is no command"),
        (["-I", "%"], "-I: there is no command"),
        (["-u", "--results", "/dev/null", "true"], "results: "),
        (["-d", r"\xffffffffffffffffffff", "true"], "-d: must be one character"),
        (["-n", "9" * 30, "true"], "--max-args: must be at most"),
        (["-P", "9" * 30, "true"], "-P: '999"),
        (["-P", "+9999999", "true"], "-P: '+9999999' is more than"),
        (["--retries", "9" * 5000, "true"], "--retries: must be at most"),
        *(
            ([option, value, "true"], f"{option}: must be seconds")
            for option in ("--timeout", "--delay")
            for value in ("-1", "nan", "inf", "1e300", "9" * 400, "")
        ),
    ],
)
def test_wrong_command_line_is_told(arguments: list[str], message: str) -> None:
    done = ours(*arguments, stdin="a\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_no_file_is_told() -> None:
    done = ours("echo", "::::", "/no/such/file")
    assert (done.returncode, done.stdout) == (2, "")
    assert "/no/such/file" in done.stderr


def test_one_of_several_files_that_is_not_there_is_told_before_anything_is_run(tmp_path: Path) -> None:
    """What the user asked for is wrong, as any other argument."""
    for arguments in (["-a", "{}", "-a", str(tmp_path / "no")], ["-a", str(tmp_path)]):
        done = ours(*(__file__ if word == "{}" else word for word in arguments), "touch", str(tmp_path / "ran"))
        assert (done.returncode, done.stdout, os.listdir(tmp_path)) == (2, "", [])
        assert str(tmp_path) in done.stderr


def test_item_that_cannot_be_run_is_a_task_that_failed(tmp_path: Path) -> None:
    """Too long, with a NUL, without a quote's end: the others run, and log, status and message tell of it."""
    long, log = "x" * 131072, tmp_path / "log"
    for keep in ("-k", "-P1"):
        done = ours(keep, "-d", "\\n", "--summary", "echo", stdin=f"a\nb\0c\n{long}\nd\n")
        assert (done.returncode, sorted(done.stdout.split())) == (2, ["a", "d"])
        assert "argument 1: has a NUL byte" in done.stderr
        assert "rgument list too long" in done.stderr
        assert "2 succeeded, 2 failed" in done.stderr
    done = ours("-k", "--joblog", str(log), stdin="echo a\necho 'b\necho c | d\necho e\n")
    assert (done.returncode, done.stdout) == (2, "a\ne\n")
    assert [line.split("\t")[6] for line in sorted(log.read_text().splitlines()[1:])] == ["0", "126", "126", "0"]
    assert ours("--joblog", str(log), "--resume", "--summary", stdin="echo a\necho 'b\n").stderr.startswith("0 succ")
    halted = ours("-j1", "--halt", "now,fail=1", "echo", stdin="a\0\nb\n")
    assert (halted.returncode, halted.stdout) == (126, "")


@pytest.mark.parametrize(
    "words", [["echo"], ["echo", "x{}y", "{.}-{#}", "{}"], ["--shell", "echo {} z"], ["-m", "echo", "x{}"]]
)
@pytest.mark.parametrize(
    ("stack", "more"), [(8 << 20, 0), (256 << 10, 0), (1 << 20, 120_000), (1 << 20, 230_000), (8 << 20, 2_000_000)]
)
def test_packed_commands_are_as_long_as_the_kernel_takes(
    words: list[str], stack: int, more: int, tmp_path: Path
) -> None:
    """Under any limit of the stack and beside any environment: nothing is refused, and no item is lost."""
    items = [f"item {number}'" for number in range(15_000)]
    size = sum(map(len, items)) + len(items)
    # Variables may not be longer than one argument.
    env = {f"V{number}": "v" * 9_990 for number in range(more // 10_000)}
    line = ["prlimit", f"--stack={stack}:", *OURS, "-k", "-X", "--summary", *words]
    done = subprocess.run(
        line, input="\n".join(items), capture_output=True, text=True, check=False, env=os.environ | env, timeout=100
    )
    summary = done.stderr.split(" succeeded, ")
    assert (done.returncode, summary[1][:8]) == (0, "0 failed"), done.stderr[-300:]
    assert all(done.stdout.count(item) >= 1 for item in ("item 0'", "item 7777'", "item 14999'"))
    assert done.stdout.count("item ") % len(items) == 0
    assert done.stdout.count("item ") // len(items) == (3 if "{}" in words else 1)
    if words == ["echo"] and not more:
        # Each has at least half of what is there, the last one perhaps less.
        assert int(summary[0]) <= 2 * (size + 8 * len(items)) // (110_000 if stack > 1 << 20 else 100_000) + 1


def test_packed_command_that_the_kernel_refuses_all_the_same_is_run_as_two(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In the order of the items, each once, and so in the log; an item that is too long alone fails alone."""
    from fastproc._commands import map as command

    monkeypatch.setattr(command, "room", lambda: 40 << 20)
    items = [*map(str, range(3)), "x" * 131_072, *map(str, range(4, 900_000))]
    path, log = tmp_path / "items", tmp_path / "log"
    path.write_text("\n".join(items))
    for order in ("-k", "-P2"):
        arguments = [order, "-X", "--joblog", str(log), "--resume", "-a", str(path), "echo"]
        assert command.map_(arguments) == (order == "-k")
        found = capfd.readouterr()
        assert ("too long" in found.err) is (order == "-k")
        printed = found.out.split()
        if order == "-k":
            assert printed == [item for item in items if len(item) < 10]
            lines = log.read_text().splitlines()[1:]
            assert len(lines) > 3
            assert sum(line.split("\t")[6] != "0" for line in lines) == 1
    # Resumed: all parts are known again, and only the one that failed is not run again either.
    assert printed == []


def test_help_names_every_option() -> None:
    done = ours("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in ("--resume-failed", "-P, -j, --jobs", ":::+", "--at-most-once"))


def test_joblog_resume_summary(tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    first = ours("-k", "--joblog", log, "--summary", "sh", "-c", "test $0 != b", ":::", "a", "b")
    assert first.returncode == 1
    assert first.stderr.startswith("1 succeeded, 1 failed in ")
    again = ours(
        "--joblog", log, "--resume-failed", "--summary", "-t", "sh", "-c", "test $0 != b", ":::", "a", "b", "c"
    )
    assert again.returncode == 1
    assert sorted(again.stderr.splitlines())[1:] == ["sh -c 'test $0 != b' b", "sh -c 'test $0 != b' c"]


def test_log_of_gnu_parallel_is_read(tmp_path: Path) -> None:
    """The tasks that it has run are not run again; and the other way round."""
    if shutil.which("parallel") is None:
        pytest.skip("no parallel here")
    log = str(tmp_path / "log")
    parallel = ["parallel", "--will-cite", "--joblog", log, "--resume", "-k", "echo"]
    subprocess.run([*parallel, ":::", "a", "b"], check=True, capture_output=True)
    assert ours("--joblog", log, "--resume", "-k", "echo", ":::", "a", "b", "c").stdout == "c\n"
    done = subprocess.run([*parallel, ":::", "a", "b", "c", "d"], check=True, capture_output=True)
    assert done.stdout == b"d\n"


def test_reader_that_leaves_ends_the_tasks() -> None:
    """As `| head -1`."""
    line = f"{sys.executable} -m fastproc map -j2 sh -c 'echo $0; sleep 0.01' ::: $(seq 1000) | head -n 1"
    done = subprocess.run(["bash", "-c", line + "; echo ${PIPESTATUS[0]}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1:] == ["141"]


def test_ctrl_c_ends_the_tasks() -> None:
    """The status is the shell's for SIGINT, and no task is left."""
    line = [*OURS, "-j2", "-u", "sh", "-c", "echo $$; exec sleep 100", ":::", "a", "b"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_start_up_is_light() -> None:
    """Neither argparse nor what needs it, nor the parts that are not used."""
    code = (
        "import sys; from fastproc.__main__ import main; sys.argv = ['x', 'map', 'true', ':::', 'a']; main(); "
        "print([n for n in ('argparse', 'subprocess', 'json', 'asyncio', 'logging') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]},
    )
    assert done.stdout == "[]\n"


class Counted(bytes):
    """A piece that counts the bytes that are copied to put something before it."""

    copied = 0

    def __radd__(self, before: bytes) -> bytes:
        Counted.copied += len(before) + len(self)
        return bytes(before) + bytes(self)


def test_item_of_many_pieces_is_copied_once() -> None:
    """Whatever its length: 2,000 pieces of one line are not put together 2,000 times."""
    from fastproc._commands.map import _cut

    class Stream:
        def __init__(self) -> None:
            self.left = [b"a\nb", *[b"x" * 1000] * 2000, b"\nc\n", b"d"]

        def read1(self, _size: int) -> bytes:
            return Counted(self.left.pop(0)) if self.left else b""

    Counted.copied = 0
    assert list(_cut(Stream(), b"\n")) == ["a", "b" + "x" * 2_000_000, "c", "d"]
    assert Counted.copied < 10_000


def test_record_of_many_pieces_is_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a results file, where one line has all that a task wrote; a last line without an end is cut off."""
    import fastproc.mapping._log as log

    path = tmp_path / "results"
    whole = ours("--results", str(path), "sh", "-c", "head -c 300000 /dev/zero; echo $0", ":::", "a", "b")
    assert whole.returncode == 0
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"begun": ' * 50)
    monkeypatch.setattr(log, "_CHUNK", 512)
    real = os.pread
    monkeypatch.setattr(log.os, "pread", lambda *args: Counted(real(*args)))
    Counted.copied = 0
    opened = log.LogFile(path, log.JSONLines, True, False)
    opened.close()
    assert (opened.book.broken, len(opened.book._tasks), path.stat().st_size) == (0, 2, size)
    assert Counted.copied < 10_000


@pytest.mark.parametrize(
    ("stack", "variables", "expected"),
    [
        (8 << 20, 0, 128 << 10),
        (256 << 10, 0, (128 << 10) - 24),
        (256 << 10, 4, (128 << 10) - 24 - 4 * (2 + 9_998 + 2 + 8)),
        (2 << 20, 45, (512 << 10) - 24 - 45 * (2 + 9_998 + 2 + 8)),
        (-1, 0, 128 << 10),
    ],
)
def test_room_of_arguments_is_the_kernel_s(
    stack: int, variables: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the stack's limit, at least 128 KiB, without the environment and its pointers."""
    import resource

    from fastproc._commands import map as command

    monkeypatch.setattr(resource, "getrlimit", lambda _: (stack, stack))
    environ = {b"%02d" % number: b"v" * 9_998 for number in range(variables)}
    monkeypatch.setattr(os, "environb", environ)
    assert command.room() == min(expected, command.PACKED) - command.HEADROOM
