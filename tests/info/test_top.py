"""`python -m fastproc ps`, `tree` and `top`: as text, on a terminal of our own, and in a real one."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import Any

import psutil
import pytest

import fastproc
from conftest import wait_until
from fastproc import Pty
from fastproc._commands.text import clip, duration, size
from fastproc._commands.top import HELP, View, bar
from fastproc.info import System

PROGRAM = [sys.executable, "-m", "fastproc"]
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
# What was before, and what is after: the terminal's settings, and how top ended.
SHELL = """trap : INT
before=$(stty -g); {} ; status=$?
[ "$before" = "$(stty -g)" ] && echo "same $status"; echo over"""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False)


def top_on(terminal: Pty, *arguments: str) -> fastproc.Process:
    line = shlex.join([*PROGRAM, "top", *arguments])
    return fastproc.start("/bin/sh", "-c", SHELL.format(line), pty=terminal)


def screens(data: bytes) -> list[list[str]]:
    """The lines of each whole screen that was drawn."""
    parts = data.split(b"\x1b[H")[1:]
    whole = [part for part in parts if part.endswith(b"\x1b[J") or b"\x1b[J" in part]
    texts = [ESCAPES.sub(b"", part.partition(b"\x1b[J")[0]).decode() for part in whole]
    return [[line.rstrip("\r") for line in text.split("\r\n")] for text in texts if text]


# -- ps


def test_ps_shows_what_is_asked_for() -> None:
    """As a table, sorted; the program itself among all."""
    with subprocess.Popen(["sleep", "61.25"]) as child:
        wait_until(lambda: psutil.Process(child.pid).name() == "sleep")
        done = command("ps", str(child.pid), "-o", "pid,ppid,name,cmdline")
        assert done.stdout.split("\n")[0].split() == ["PID", "PPID", "NAME", "COMMAND"]
        assert done.stdout.split("\n")[1].split() == [str(child.pid), str(os.getpid()), "sleep", "sleep", "61.25"]
        found = json.loads(command("ps", "-j", "-c", str(os.getpid()), "-n", "sleep", "-o", "pid,name,rss").stdout)
        assert [(one["pid"], one["name"]) for one in found] == [(child.pid, "sleep")]
        assert found[0]["rss"] > 0
        child.kill()


def test_ps_sorts_and_chooses() -> None:
    """By any field, in both directions, of one user."""
    rows = json.loads(command("ps", "-j", "-s", "rss", "-r", "-o", "pid,rss,euid", "-u", str(os.geteuid())).stdout)
    sizes = [row["rss"] for row in rows if row["rss"] is not None]
    assert sizes == sorted(sizes, reverse=True)
    assert {row["euid"] for row in rows} == {os.geteuid()}


def test_ps_of_nobody_fails_and_says_so() -> None:
    """What is there is shown all the same."""
    child = subprocess.Popen(["true"])
    child.wait()
    done = command("ps", str(child.pid), str(os.getpid()), "-o", "pid")
    assert (done.returncode, done.stdout.split()) == (1, ["PID", str(os.getpid())])
    assert done.stderr == f"python -m fastproc ps: {child.pid}: there is no such process\n"
    done = command("ps", "-o", "nonsense")
    assert (done.returncode, done.stderr.startswith("python -m fastproc ps: fields: there is no 'nonsense'")) == (
        1,
        True,
    )


@pytest.mark.parametrize("field", ["cgroup", "environ", "groups", "cmdline"])
def test_ps_sorts_by_any_field(field: str) -> None:
    """Also by one whose values have no order."""
    done = command("ps", "-s", field, "-o", "pid")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(os.getpid()) in done.stdout.split()


def test_ps_of_an_unknown_user_fails_and_says_so() -> None:
    """An empty table would say that the user has no processes."""
    done = command("ps", "-u", "nosuchuser-61")
    told = "python -m fastproc ps: nosuchuser-61: there is no such user\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


def test_ps_lists_its_fields() -> None:
    """With unit and meaning."""
    lines = command("ps", "-L").stdout.splitlines()
    assert lines[0].split() == ["FIELD", "UNIT", "MEANING"]
    assert any(line.split()[:2] == ["utime", "seconds"] for line in lines)


# -- tree


def test_tree_is_pstrees() -> None:
    """The command too, with pids and arguments."""
    if shutil.which("pstree") is None:
        pytest.skip("no pstree")
    with subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & echo; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout
        shell.stdout.readline()
        members = psutil.Process(shell.pid).children()
        wait_until(lambda: all(one.name() == "sleep" for one in members))
        for ours, theirs in (([], ["-T"]), (["-p"], ["-T", "-p"]), (["-a"], ["-T", "-a"]), (["-t"], [])):
            done = command("tree", "-A", *ours, str(shell.pid))
            line = ["pstree", "-A", "-l", *theirs, str(shell.pid)]
            assert done.stdout == subprocess.run(line, capture_output=True, text=True, check=True).stdout
        for one in (shell, *members):
            one.kill()


def test_tree_on_a_terminal_is_cut_at_its_width() -> None:
    """Of 40 columns; of a pipe not."""
    result = fastproc.run(*PROGRAM, "tree", "-p", pty=(24, 40))
    lines = (result.stdout or b"").decode().split("\r\n")
    assert max(map(len, lines)) == 40
    assert any(line.endswith("+") for line in lines)
    assert command("tree", "0").returncode == 1


# -- top


@pytest.mark.parametrize("arguments", [("-p",), ()], ids=["plain", "rich"])
def test_top_fits_quits_and_gives_the_terminal_back(arguments: tuple[str, ...]) -> None:
    """80 columns and 24 lines, columns below their titles; q ends it, and all settings are as before."""
    if not arguments and find_spec("rich") is None:
        pytest.skip("rich is not installed")
    with top_on(Pty(24, 80), "-d", "0.2", *arguments) as shell:
        seen = shell.expect(b"COMMAND", 20).before
        seen += b"COMMAND" + shell.expect(b"\x1b[J", 20).before + b"\x1b[J"
        assert b"\x1b[?1049h\x1b[?25l" in seen
        first = screens(seen)[-1]
        for _ in range(3):
            found = shell.expect(b"\x1b[H", 20)
        seen = b"\x1b[H" + shell.expect(b"\x1b[J", 20).before + b"\x1b[J"
        shell.write(b"q")
        rest = shell.expect(b"over", 20)
        assert b"\x1b[?25h\x1b[?1049l" in rest.before
        assert b"same 0" in rest.before
        assert found is not None
    for screen in (first, screens(seen)[-1]):
        assert len(screen) <= 24
        assert max(map(len, screen)) <= 80
        assert screen[-1].rstrip() == HELP
    screen = screens(seen)[-1]
    title = next(at for at, line in enumerate(screen) if line.lstrip().startswith("PID"))
    rows = [line.split(None, 8) for line in screen[title + 1 : -1] if line.strip()]
    assert len(rows) > 1
    for row in rows:
        assert row[0].isdigit()
        assert row[2] in "RSDZTtIXP"
        # A process that is new in this look has no rate yet.
        assert re.fullmatch(r"[\d.]+|-", row[5]), row
    rates = [float(row[5]) for row in rows if row[5] != "-"]
    assert rates == sorted(rates, reverse=True)
    assert any(line.startswith("CPU [") for line in screen)
    assert any(line.startswith("Mem [") for line in screen)


@pytest.mark.parametrize(
    ("end", "status"),
    [("ctrl-c", 0), *((number, 128 + number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT))],
)
def test_top_that_is_ended_otherwise_gives_the_terminal_back(end: Any, status: int) -> None:
    """Ctrl-C, and the signals by which others end a program."""
    with top_on(Pty(24, 80), "-d", "30", "-p") as shell:
        shell.expect(b"COMMAND", 20)
        if end == "ctrl-c":
            shell.send_key("intr")
        else:
            (child,) = psutil.Process(shell.pid).children()
            child.send_signal(end)
        rest = shell.expect(b"over", 20).before
        assert b"\x1b[?25h\x1b[?1049l" in rest
        assert f"same {status}".encode() in rest


def test_top_takes_keys_and_sizes() -> None:
    """Keys act at once, without the next look, and what is drawn then fills the window as it is now."""
    with top_on(Pty(24, 80), "-d", "30", "-p") as shell:
        shell.expect(b"COMMAND", 20)
        shell.expect(b"\x1b[J", 20)
        assert shell.terminal is not None
        shell.terminal.resize(10, 120)
        shell.write(b"Mc")
        screen: list[str] = []
        while len(screen) != 10:
            drawn = screens(b"\x1b[H" + shell.expect(b"\x1b[J", 20).before + b"\x1b[J")
            screen = drawn[-1] if drawn else []
        assert max(map(len, screen)) <= 120
        shell.write(b"q")
        assert b"same 0" in shell.expect(b"over", 20).before


def test_top_redraws_when_its_window_changes_and_takes_keys_behind_others() -> None:
    """Without a key; Ctrl-backslash is none that ends it, and what is typed behind an arrow counts."""
    with top_on(Pty(24, 80), "-d", "30", "-p") as shell:
        shell.expect(b"COMMAND", 20)
        shell.expect(b"\x1b[J", 20)
        shell.expect(b"\x1b[J", 20)  # the second look
        assert shell.terminal is not None
        shell.terminal.resize(10, 120)
        drawn = screens(b"\x1b[H" + shell.expect(b"\x1b[J", 20).before + b"\x1b[J")
        assert len(drawn[-1]) == 10
        shell.write(b"\x1c")
        shell.expect(b"\x1b[J", 20)
        shell.write(b"\x1b[A\x1bOPq")
        assert b"same 0" in shell.expect(b"over", 20).before


def test_top_in_a_pipe_is_one_text() -> None:
    """And with --batch as many as are asked for, with all processes; a reader that goes ends it."""
    done = command("top", "-d", "0.1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.count(" COMMAND\n") == 1
    done = command("top", "-b", "-n", "2", "-d", "0.1", "-s", "mem")
    assert done.stdout.count(" COMMAND\n") == 2
    line = shlex.join([*PROGRAM, "top", "-b", "-d", "0.05"])
    piped = subprocess.run(["sh", "-c", f"{line} | head -3"], capture_output=True, text=True, timeout=60)
    assert (len(piped.stdout.splitlines()), piped.stderr) == (3, "")


@pytest.mark.parametrize("interval", ["0", "nan", "-1"])
def test_top_refuses_what_is_no_interval(interval: str) -> None:
    """Before anything is drawn."""
    done = command("top", f"--interval={interval}")
    assert done.returncode == 2
    assert "--interval: from 0.05 to 86400 seconds" in done.stderr


def test_top_looks_right_in_a_real_terminal() -> None:
    """In tmux, which does what the sequences say: a screen of 80 by 24, and what stood there before is there again."""
    if shutil.which("tmux") is None:
        pytest.skip("no tmux")

    def tmux(*arguments: str) -> str:
        line = ["tmux", "-L", f"fastproc-test-{os.getpid()}", "-f", "/dev/null", *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=False).stdout

    tmux("new-session", "-d", "-x", "80", "-y", "24", "env PS1='ready> ' sh")
    try:
        wait_until(lambda: "ready>" in tmux("capture-pane", "-p"), 20)
        tmux("send-keys", f"clear; echo before; {shlex.join(PROGRAM)} top -d 0.3", "Enter")
        wait_until(lambda: "COMMAND" in tmux("capture-pane", "-p"), 20)
        wait_until(lambda: re.search(r"\n +\d+ .* +\d+\.\d +", tmux("capture-pane", "-p")), 20)
        lines = tmux("capture-pane", "-p").splitlines()
        assert lines[-1].rstrip() == HELP
        assert len(lines) == 24
        assert all(len(line) <= 80 for line in lines)
        tmux("send-keys", "q")
        wait_until(lambda: "before" in tmux("capture-pane", "-p"), 20)
        assert "COMMAND" not in tmux("capture-pane", "-p")
        tmux("send-keys", "echo it is echoed", "Enter")
        wait_until(lambda: tmux("capture-pane", "-p").count("it is echoed") == 2, 20)
    finally:
        tmux("kill-server")


# -- their parts


def test_view_orders_by_each_key() -> None:
    """The busiest first, by pid the smallest; R turns it round."""
    system = System(("pid", "euid", "state", "num_threads", "rss", "cpu_time", "name", "cmdline", "kthread"))
    system.refresh("processes")
    time.sleep(0.02)
    system.refresh("processes")
    view = View("P", 1.0)
    view.press("k")
    for key, field in (("P", "cpu_percent"), ("M", "rss"), ("T", "cpu_time")):
        assert not view.press(key)
        values = [one[field] for one in view.ordered(system.processes) if one[field] is not None]
        assert values == sorted(values, reverse=True)
        view.press("R")
        values = [one[field] for one in view.ordered(system.processes) if one[field] is not None]
        assert values == sorted(values)
    view.press("N")
    assert [one.pid for one in view.ordered(system.processes)] == sorted(system.processes.pids)
    view.press("+")
    assert (view.interval, view.press("q"), view.press("\x03")) == (2.0, True, True)


def test_texts_are_as_wide_as_they_should_be() -> None:
    """Sizes, times, bars, wide characters."""
    assert [size(value) for value in (0, 999, 1000, 1536, 10**6, 10**12)] == [
        "0",
        "999",
        "1.0K",
        "1.5K",
        "977K",
        "931G",
    ]
    assert all(len(size(1.7**power)) <= 5 for power in range(100))
    assert all(len(duration(1.5**power)) <= 8 for power in range(40))
    assert [clip("日本語", width) for width in (0, 1, 2, 3, 6)] == ["", "", "日", "日", "日本語"]
    assert (bar(0.5, 4), bar(2.0, 4), bar(-1, 4)) == ("[||  ]", "[||||]", "[    ]")
