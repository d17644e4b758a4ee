"""`fastproc.map`: templates, the log and resuming, retries, halting, output, progress.

What becomes of its results is in test_pipeline_handle.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fastproc
from fastproc import cmd
from fastproc.mapping import Template

HEADER = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"


def sh(line: str) -> fastproc.Command:
    return cmd("sh", "-c", line)


def outs(*args: Any, **options: Any) -> list[bytes]:
    return [bytes(result.stdout or b"") for result in fastproc.map(*args, **options)]


def columns(path: Path) -> list[tuple[str, str, str, str]]:
    """Number, exit code, signal and command of each line of a job log."""
    header, *lines = path.read_text().splitlines()
    assert header + "\n" == HEADER
    return [(row[0], row[6], row[7], row[8]) for row in (line.split("\t") for line in lines)]


# -- what is run


def test_map_template_takes_items_of_every_kind(tmp_path: Path) -> None:
    items = ["a b", b"c", tmp_path / "d.e", 5, ("x", "y")]
    assert outs("printf %s-{#} {/.}", items) == [b"a b-1", b"c-2", b"d-3", b"5-4", b"x-5y-5"]


def test_map_command_is_a_template_with_its_options(tmp_path: Path) -> None:
    command = cmd("sh", "-c", 'printf "$X$1$PWD"', "-", "{}", env_add={"X": "v"}, cwd=tmp_path)
    assert outs(command, "ab") == [f"v{item}{tmp_path}".encode() for item in "ab"]


def test_map_pipelines_and_input() -> None:
    """What `feed` makes of an item is what its task reads."""
    assert outs(lambda item: cmd("printf", item) | cmd("tr", "a-z", "A-Z"), ["ab", "c"]) == [b"AB", b"C"]
    assert outs("tr a-z A-Z", ["ab", "c"], feed=str.encode) == [b"AB", b"C"]
    assert outs("sh -c cat", [1, 2], input=b"same") == [b"same", b"same"]


def test_map_slots_are_those_of_the_workers() -> None:
    """Never two tasks in one at the same time, and none beyond."""
    found = outs("sh -c 'echo $0' {%}", range(40), workers=3, ordered=False)
    assert {int(out) for out in found} <= {1, 2, 3}


def test_map_without_output_runs_as_many_as_there_are_items() -> None:
    mapped = fastproc.map("true", range(10), workers=4, ordered=False)
    assert len(list(mapped)) == 10
    summary = mapped.summary
    assert (summary.total, summary.started, summary.succeeded, summary.failed) == (10, 10, 10, 0)
    assert str(summary).startswith("10 succeeded, 0 failed in ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"work": 5}, "work: must be a template"),
        ({"work": "a | b"}, "template: '|' is for a shell"),
        ({"retries": -1}, "retries: "),
        ({"halt": "later"}, "halt: "),
        ({"halt": "now,fail=0"}, "halt: "),
        ({"delay": -1}, "delay: "),
        ({"doubt": "maybe"}, "doubt: "),
        ({"resume": "no"}, "resume: "),
        ({"resume": True}, "resume, doubt, durable: need"),
        ({"joblog": "a", "results": "b"}, "joblog: cannot be combined with results"),
        ({"output": "all"}, "output: must be one of"),
        ({"tag": True}, "tag: needs output"),
        ({"tag": True, "output": "ungroup"}, "tag: not possible with"),
        ({"progress": "bars"}, "progress: must be one of"),
    ],
)
def test_map_what_is_not_possible_is_refused(
    options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is run or written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError)) as caught:
        fastproc.map(**{"work": "true", "items": "a", **options})
    assert str(caught.value).startswith(message)
    assert os.listdir(tmp_path) == []


# -- the log


def test_joblog_has_each_task_with_its_status(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = ["exit 0", "exit 3", "kill -9 $$", "echo\ta"]
    with pytest.raises(fastproc.ExitError):
        list(fastproc.map(sh, lines, workers=1, joblog=log))
    with fastproc.map(sh, lines, workers=2, joblog=log, resume=True, check=False) as mapped:
        list(mapped)
    found = columns(log)
    assert sorted(found) == [
        ("1", "0", "0", "sh -c 'exit 0'"),
        ("2", "3", "0", "sh -c 'exit 3'"),
        ("3", "0", "9", "sh -c 'kill -9 $$'"),
        ("4", "0", "0", "sh -c $'echo\\\\ta'"),
    ]


def test_resume_runs_what_is_missing(tmp_path: Path) -> None:
    """In whatever order the items come, and how often; {%} does not matter."""
    log = tmp_path / "log"
    assert outs("printf %s{%} {}", "aab", workers=1, joblog=log) == [b"a1", b"a1", b"b1"]
    mapped = fastproc.map("printf %s{%} {}", "bcaaa", workers=1, joblog=log, resume=True)
    assert [result.stdout for result in mapped] == [b"c1", b"a1"]
    assert (mapped.summary.skipped, mapped.summary.total) == (3, 5)
    assert [number for number, *_ in columns(log)] == ["1", "2", "3", "4", "5"]
    assert outs("printf %s{%} {}", "abcaa", workers=1, joblog=log, resume=True) == []


def test_resume_failed_runs_what_failed(tmp_path: Path) -> None:
    log, flag = tmp_path / "log", tmp_path / "flag"
    work = Template.parse(f"sh -c 'test $0 = b || test -e {flag}' {{}}")
    with pytest.raises(fastproc.ExitError):
        list(fastproc.map(work, "ba", workers=1, joblog=log))
    assert list(fastproc.map(work, "ba", workers=1, joblog=log, resume=True)) == []
    flag.touch()
    assert len(list(fastproc.map(work, "ba", workers=1, joblog=log, resume="failed"))) == 1
    assert list(fastproc.map(work, "ba", workers=1, joblog=log, resume="failed")) == []
    assert [(number, code) for number, code, *_ in columns(log)] == [("1", "0"), ("2", "1"), ("2", "0")]


def test_old_log_is_not_overwritten(tmp_path: Path) -> None:
    log = tmp_path / "log"
    outs("true", "a", joblog=log)
    before = log.read_bytes()
    with pytest.raises(FileExistsError, match="resume, or use another file"):
        fastproc.map("true", "a", joblog=log)
    assert log.read_bytes() == before


def test_log_is_one_map_s(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with fastproc.map("true", "a", joblog=log) as first:
        next(first)
        with pytest.raises(BlockingIOError, match="another map writes to it"):
            fastproc.map("true", "a", joblog=log, resume=True)
    assert list(fastproc.map("true", "a", joblog=log, resume=True)) == []


@pytest.mark.parametrize("form", ["joblog", "results"])
def test_log_cut_anywhere_is_taken_up(form: str, tmp_path: Path) -> None:
    """As a kill in the middle of a write leaves it: what has its end counts, the rest is run again."""
    log = tmp_path / "log"
    outs("printf %s {}", "abcde", workers=1, **{form: log})
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    header = form == "joblog"
    for cut in {0, 6, 20, *range(len(whole) - 60, len(whole), 7), len(whole) - 1, len(lines[0]), len(lines[0]) + 1}:
        log.write_bytes(whole[:cut])
        done = max(0, whole[:cut].count(b"\n") - header)
        assert len(outs("printf %s {}", "abcde", workers=1, **{form: log}, resume=True)) == 5 - done
        again = log.read_bytes().splitlines(keepends=True)
        assert [line.split(b"\t")[-1] if header else json.loads(line)["command"] for line in again] == [
            line.split(b"\t")[-1] if header else json.loads(line)["command"] for line in lines
        ]


def not_logs(place: Path) -> dict[str, bytes]:
    """Files that are something else."""
    return {
        "text": b"precious data\n",
        "text without an end": b"precious data",
        "binary": b"\0\xff" * 50,
        "a byte of ours": b"S",
        "a brace": b"{",
        "a header of another kind": b"Seq\tName\n1\tx",
        "JSON of others": b'{"name": "x"}\n{"half": ',
        "JSON of others that begins as ours": b'{"seq": 1, "name": "x',
        "a number": b"4711\n",
        "a blank line": b"\n",
        "a record behind something else": b"x\n" + HEADER.encode(),
        "the other kind": HEADER.encode() if place.name == "results" else b'{"seq": 1, "command": "a", "start": 1.0}\n',
    }


@pytest.mark.parametrize("resume", [False, True, "failed"])
@pytest.mark.parametrize("form", ["joblog", "results"])
def test_file_that_is_not_a_log_is_refused_and_never_touched(form: str, resume: bool | str, tmp_path: Path) -> None:
    """Neither its last line is cut off nor anything added; nothing is run."""
    ran = tmp_path / "ran"
    log = tmp_path / form
    for name, data in not_logs(log).items():
        log.write_bytes(data)
        log.chmod(0o640)
        before = log.stat().st_mtime_ns, log.stat().st_mode
        with pytest.raises(FileExistsError, match=r"it is not a .*, and is not written to"):
            fastproc.map(f"touch {ran}", "a", resume=resume, **{form: log})
        assert (name, log.read_bytes()) == (name, data)
        assert (log.stat().st_mtime_ns, log.stat().st_mode) == before
    assert not ran.exists()


def test_file_that_is_not_a_log_is_not_even_locked(tmp_path: Path) -> None:
    """The lock may be what the file is for."""
    log = tmp_path / "lock"
    log.write_text("4711\n")
    with open(log) as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(FileExistsError, match="it is not a job log"):
            fastproc.map("true", "a", joblog=log, resume=True)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("kind", ["full", "zero", "null", "FIFO", "directory", "socket", "link to a FIFO"])
def test_log_that_is_not_a_regular_file_is_refused_at_once(kind: str, resume: bool, tmp_path: Path) -> None:
    """/dev/full can be read without end, and nobody reads the other side of the FIFO."""
    log: Path = tmp_path / "log"
    if kind == "FIFO":
        os.mkfifo(log)
    elif kind == "directory":
        log.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(log))
    elif kind == "link to a FIFO":
        os.mkfifo(tmp_path / "target")
        log.symlink_to("target")
    else:
        log = Path("/dev", kind)
    refused = r"it is a (device|FIFO|directory|socket), and a log must be a regular file"
    with pytest.raises(OSError, match=refused):
        fastproc.map("true", "a", joblog=log, resume=resume)
    if resume:
        with pytest.raises(OSError, match=refused):
            fastproc.map("true", "a", joblog=log, resume=True, dry_run=True)


def test_dry_run_reads_no_other_file_as_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("127.0.0.1 localhost\n")
    with pytest.raises(FileExistsError, match="it is not a job log"):
        fastproc.map("true", "a", joblog=log, resume=True, dry_run=True)


def test_results_hold_what_was_written(tmp_path: Path) -> None:
    """Any bytes."""
    log = tmp_path / "results"
    outs(lambda item: sh(f"printf '{item}'; printf e >&2"), ["a\\377\\n", ""], workers=1, results=log)
    found = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row["seq"], row["status"], row["stdout"], row["stderr"]) for row in found] == [
        (1, 0, "a\udcff\n", "e"),
        (2, 0, "", "e"),
    ]


def test_doubt_is_told_and_skipped_when_asked(tmp_path: Path) -> None:
    """A start without an end: run again, or not, and named in the summary."""
    log = tmp_path / "log"
    outs("printf %s {}", "ab", workers=1, joblog=log, doubt="skip")
    lines = log.read_text().splitlines(keepends=True)
    assert [line.split("\t")[6] for line in lines[1:]] == ["-", "0", "-", "0"]
    log.write_text("".join(lines[:4]))
    mapped = fastproc.map("printf %s {}", "abc", workers=1, joblog=log, resume=True, doubt="skip")
    assert ([result.stdout for result in mapped], mapped.summary.doubt) == ([b"c"], ["printf %s b"])
    mapped = fastproc.map("printf %s {}", "abc", workers=1, joblog=log, resume=True)
    assert ([result.stdout for result in mapped], mapped.summary.doubt) == ([b"b"], ["printf %s b"])


def test_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """The record that does not fit is an error, and not in the file."""
    if os.geteuid() != 0:
        pytest.skip("needs a file system of its own")
    script = f"""
import fastproc, os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
fastproc.run("mount", "-t", "tmpfs", "-o", "size=12k", "none", {str(tmp_path)!r})
path = {str(tmp_path / "log")!r}
try:
    list(fastproc.map("printf %s {{}}", ["x" * 3000] * 9, workers=1, results=path))
except OSError as error:
    print(error.errno, open(path, "rb").read().endswith(b"\\n"))
"""
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", script]
    done = subprocess.run(unshare, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("28 True\n", "")


# -- its course


def test_retries_run_a_task_again(tmp_path: Path) -> None:
    counter = tmp_path / "tries"
    line = f"echo x >>{counter}; test $(wc -l <{counter}) -ge 3"
    mapped = fastproc.map(sh, [line], retries=5)
    assert [result.returncode for result in mapped] == [0]
    assert (mapped.summary.retried, mapped.summary.started, mapped.summary.succeeded) == (2, 1, 1)
    with pytest.raises(fastproc.ExitError):
        list(fastproc.map(sh, ["exit 1"], retries=1))


@pytest.mark.parametrize(("halt", "ran"), [("soon,fail=1", 2), ("now,fail=1", 2), ("soon,fail=2", 4), ("never", 5)])
def test_halt_starts_no_more(halt: str, ran: int) -> None:
    lines = ["exit 0", "exit 1", "exit 0", "exit 1", "exit 0"]
    mapped = fastproc.map(sh, lines, workers=1, halt=halt, check=False)
    assert len(list(mapped)) == ran
    assert mapped.summary.halted == (halt != "never")


def test_halt_now_kills_what_runs() -> None:
    """They are given, and not counted: how they would have ended is not known."""
    mapped = fastproc.map(sh, ["sleep 60", "exit 3"], workers=2, halt="now,fail=1", check=False)
    assert [result.returncode for result in mapped] == [-9, 3]
    assert (mapped.summary.failed, mapped.summary.succeeded) == (1, 0)


def test_tasks_of_a_map_with_a_log_die_with_it(tmp_path: Path) -> None:
    """The option is on where there is a log, unless it is given."""
    read = cmd(sys.executable, "-c", "import fastproc, sys; sys.stdout.write(open('/proc/self/status').read())")
    del read  # the kernel does not show it there: prctl(2) tells the process alone
    ask = "import ctypes as c; n = c.c_int(); c.CDLL(None).prctl(2, c.byref(n)); print(n.value)"
    work = Template([sys.executable, "-c", ask], append=False)
    assert outs(work, "a", joblog=tmp_path / "log") == [b"9\n"]
    assert outs(work, "a", joblog=tmp_path / "log2", die_with_parent=False) == [b"0\n"]
    assert outs(work, "a") == [b"0\n"]


# -- output


class Reader:
    """Stands for our stdout: tells what has come, and lets tasks go on by their FIFOs when all they wait for has."""

    def __init__(self, folder: Path, after: dict[str, str]) -> None:
        self.folder = folder
        self.after = after
        self.lines: list[str] = []

    def flush(self) -> None:
        pass

    def write(self, text: str) -> None:
        self.lines += text.splitlines()
        for task in [task for task, awaited in self.after.items() if set(awaited.split(" ")) <= set(self.lines)]:
            del self.after[task]
            (self.folder / task).write_text("go\n")


@pytest.mark.parametrize(
    ("options", "after", "expected"),
    [
        # Both have begun before one may end; then each waits for the other's last line.
        ({"ordered": False}, {"b": "a1 b1", "a": "b2"}, ["b2", "a2"]),
        # The second one's first line is held back, as the first one still runs.
        ({"ordered": True}, {"b": "a1", "a": "a1"}, ["b1", "b2"]),
        ({"ordered": False, "tag": True}, {"b": "a\ta1", "a": "b\tb2"}, ["b\tb2", "a\ta2"]),
    ],
)
def test_output_by_line_is_printed_as_it_comes(
    options: dict[str, Any], after: dict[str, str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        os.mkfifo(tmp_path / name)
    reader = Reader(tmp_path, dict(after))
    monkeypatch.setattr(sys, "stdout", reader)
    work = Template(["sh", "-c", f"echo $0''1; read x <{tmp_path}/$0; echo $0''2"])
    list(fastproc.map(work, "ab", workers=2, output="line", **options))
    assert sorted(line[-2:] for line in reader.lines) == ["a1", "a2", "b1", "b2"]
    assert reader.lines[2:] == expected


@pytest.mark.parametrize("ordered", [True, False])
def test_output_by_group_is_not_mixed(ordered: bool, capfdbinary: Any, tmp_path: Path) -> None:
    """Two tasks that write in turn, each waiting for the other by a FIFO."""
    for name in "12":
        os.mkfifo(tmp_path / name)
    tasks = {
        "a": f"cd {tmp_path}; read x <1; echo a1; echo >2; echo a2; echo a >&2",
        "b": f"cd {tmp_path}; echo b1; echo >1; read x <2; echo b2",
    }
    list(fastproc.map(lambda item: sh(tasks[item]), "ab", workers=2, output="group", ordered=ordered))
    found = capfdbinary.readouterr()
    groups = ["a1\na2\n", "b1\nb2\n"]
    assert found.err == b"a\n"
    assert found.out.decode() in ["".join(groups)] + ([] if ordered else ["".join(groups[::-1])])


def test_output_has_tags(capfdbinary: Any) -> None:
    list(fastproc.map("printf '1\\n2'", ["x"], output="group", tag=True))
    list(fastproc.map("printf '1\\n2'", ["x"], output="line", tag=lambda task: f"<{task.number}>"))
    assert capfdbinary.readouterr().out == b"x\t1\nx\t2" + b"<1>\t1\n<1>\t2"


def test_output_ungrouped_is_ours(capfdbinary: Any) -> None:
    results = list(fastproc.map("printf %s {}", "a", output="ungroup"))
    assert (results[0].stdout, capfdbinary.readouterr().out) == (None, b"a")


def test_dry_run_runs_nothing(capfdbinary: Any, tmp_path: Path) -> None:
    assert list(fastproc.map("touch {}", [tmp_path / "a b"], dry_run=True)) == []
    assert capfdbinary.readouterr().out.decode() == f"touch '{tmp_path}/a b'\n"
    assert list(tmp_path.iterdir()) == []


# -- progress


def test_progress_is_told() -> None:
    seen: list[tuple[int, int | None, int]] = []
    work = ["exit 0", "exit 1", "exit 0"]
    told = lambda s: seen.append((s.finished, s.total, s.failed))  # noqa: E731
    list(fastproc.map(sh, work, workers=1, progress=told, check=False))
    assert seen == [(1, 3, 0), (2, 3, 1), (3, 3, 1), (3, 3, 1)]


def test_progress_plain_says_the_end(capfdbinary: Any) -> None:
    list(fastproc.map(sh, ["exit 0", "exit 1"], progress="plain", check=False))
    last = capfdbinary.readouterr().err.decode().splitlines()[-1]
    assert last.startswith("2/2 (100%), ")
    assert last.endswith(", 1 failed")


@pytest.mark.parametrize("kind", ["rich", "tqdm"])
def test_progress_bars(kind: str, capfdbinary: Any) -> None:
    pytest.importorskip(kind)
    list(fastproc.map("true", range(3), progress=kind))
    assert "3/3" in capfdbinary.readouterr().err.decode()


def test_dry_run_shows_the_options_of_the_map_and_nothing_that_does_not_print(capfd, tmp_path) -> None:
    """A line does what the task would, or no shell runs it; the command's own options and those of map() are in it."""
    items = ["a b", "\x1b[2J\n", "\udcff"]
    list(fastproc.map("rm {}", items, dry_run=True, cwd="/srv", env_add={"A": "\x1b"}))
    list(fastproc.map(cmd("rm", "{}", root="/srv"), items, dry_run=True))
    list(fastproc.map("rm {}", items[:1], dry_run=True, user="nobody"))
    list(fastproc.map(Template(["rm {}; echo x"], shell=True), items, dry_run=True))
    list(fastproc.map("rm {}", ["a\0b"], dry_run=True))
    lines = capfd.readouterr().out.splitlines()
    shown = ["'a b'", r"$'\033[2J\n'", r"$'\377'"]
    assert lines == [
        *(rf"cd /srv && A=$'\033' rm {item}" for item in shown),
        *(f"(root=/srv) rm {item}" for item in shown),
        "(user=nobody) rm 'a b'",
        *(f"rm {item}; echo x" for item in shown),
        "rm $'a'(NUL)$'b'",
    ]


def test_tag_of_an_item_is_one_line_that_prints(capfd) -> None:
    """An item chooses its name, and not what the terminal does."""
    list(fastproc.map("echo x", ["\x1b[2Ja\nb\u202e"], output="group", tag=True, feed=lambda item: b""))
    assert capfd.readouterr().out == "\\x1b[2Ja b\\u202e\tx\n"


NASTY_ITEMS = ["a", "b\0c", "x" * 131_072, "\ud800", "d"]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("work", ["echo {}", lambda item: cmd("echo", item)], ids=["template", "function"])
def test_item_that_cannot_be_run_fails_alone(work: Any, ordered: bool) -> None:
    """NUL, too long for the kernel, not to be encoded: with check=False a result says why, and the others run."""
    mapped = fastproc.map(work, NASTY_ITEMS, workers=2, ordered=ordered, check=False)
    found = list(mapped)
    assert sorted(result.text() for result in found if result.ok) == ["a\n", "d\n"]
    failed = [result for result in found if not result.ok]
    assert [type(result).__name__ for result in failed] == ["NotStarted"] * 3
    assert {result.returncode for result in failed} == {126}
    texts = [str(result.error) for result in failed]
    assert all(any(word in text for text in texts) for word in ("NUL byte", "too long", "cannot be encoded")), texts
    assert all(result.status_text().startswith("not started: ") and repr(result).isprintable() for result in failed)
    for result in failed:
        with pytest.raises(type(result.error)):
            result.check()
        again = pickle.loads(pickle.dumps(result))
        assert (again.returncode, str(again.error)) == (126, str(result.error))
    assert (mapped.summary.started, mapped.summary.succeeded, mapped.summary.failed) == (5, 2, 3)


def test_item_that_cannot_be_run_raises_in_its_turn_and_not_before() -> None:
    """As every other failure: the results before it are given, then it is raised, and the rest is ended."""
    mapped = fastproc.map("sh -c 'sleep 0.1; echo $0' {}", ["a", "b", "c\0", "d"], workers=4)
    assert [next(mapped).text() for _ in range(2)] == ["a\n", "b\n"]
    with pytest.raises(ValueError, match="NUL byte"):
        next(mapped)
    assert list(mapped) == []


@pytest.mark.parametrize(
    ("options", "work", "why"),
    [
        ({}, lambda item: 1 / item and cmd("true"), ZeroDivisionError),
        ({}, lambda item: "true" if item == 0 else cmd("true"), TypeError),
        ({}, lambda item: cmd("true", "/no") if item else cmd("/no/such/program"), FileNotFoundError),
        ({}, lambda item: cmd("true", cwd="/no/such" if item == 0 else "/"), FileNotFoundError),
        ({}, lambda item: cmd("true", stdout="/no/such/file" if item == 0 else None), FileNotFoundError),
        ({}, lambda item: cmd("true", stdin=77 if item == 0 else None), OSError),
        ({}, lambda item: cmd("true", before_spawn=lambda _: 1 // 0) if item == 0 else cmd("true"), ZeroDivisionError),
        ({"feed": lambda item: b"x" if item else 1 // 0}, "cat", ZeroDivisionError),
        ({}, "test {} -ge 0", TypeError),
    ],
)
def test_whatever_is_wrong_with_one_item_is_its_failure(options: Any, work: Any, why: type, tmp_path: Path) -> None:
    """What a function raises or returns, a program, directory or file that is not there: log, halt and counts know."""
    items = [1, 0, 2] if callable(work) or options else [1, object(), 2]
    log = tmp_path / "log"
    mapped = fastproc.map(work, items, workers=1, check=False, joblog=log, retries=1, **options)
    found = list(mapped)
    assert [result.ok for result in found] == [True, False, True]
    assert isinstance(found[1].error, why)
    assert (mapped.summary.failed, mapped.summary.retried) == (1, 1)
    assert len(log.read_text().splitlines()) == 4
    again = fastproc.map(work, items, workers=1, check=False, joblog=log, resume=True, **options)
    assert (list(again), again.summary.skipped) == ([], 3)
    halted = fastproc.map(work, items, workers=1, check=False, halt="now,fail=1", **options)
    assert [result.ok for result in halted] == [True, False]
    assert halted.summary.halted


def test_endlessly_many_items_that_cannot_be_run_are_given_one_by_one() -> None:
    """As many results as are asked for, and no more items are taken than there is room for."""
    taken = itertools.count()
    with fastproc.map("echo {}", (f"{next(taken)}\0" for _ in itertools.count()), check=False, workers=2) as mapped:
        assert [result.returncode for result in itertools.islice(mapped, 50)] == [126] * 50
        assert next(taken) < 200


def test_timeout_without_check_is_a_result_and_the_others_go_on() -> None:
    found = list(fastproc.map("sleep {}", [0, 60, 0], timeout=0.2, check=False))
    assert [(result.ok, result.timed_out) for result in found] == [(True, False), (False, True), (True, False)]


def test_dry_run_leaves_out_what_the_log_has_and_shows_tags(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With the file as it is: it is neither made nor changed."""
    log = tmp_path / "log"
    list(fastproc.map("test {} = b", "abc", joblog=log, resume=True, dry_run=True))
    assert (capfd.readouterr().out, log.exists()) == ("test a = b\ntest b = b\ntest c = b\n", False)
    list(fastproc.map("test {} = b", "ab", joblog=log, check=False))
    before = log.read_bytes()
    for resume, left in ((True, "c"), ("failed", "ac")):
        list(fastproc.map("test {} = b", "abc", joblog=log, resume=resume, dry_run=True, output="group", tag=True))
        assert capfd.readouterr().out == "".join(f"{item}\ttest {item} = b\n" for item in left)
    assert log.read_bytes() == before
