"""`python -m fastproc caps` and `id`: tables and JSON, beside /proc, getpcaps(1) and id(1)."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated, wait_until
from fastproc._commands import COMMANDS, call
from fastproc._commands.text import printable, table
from fastproc.capabilities import Capability, CapabilitySet, cap_last_cap
from support.witness import sets_of


def command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "fastproc", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def facts(*arguments: str) -> Any:
    done = command(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def subject() -> Iterator[int]:
    """A process that another program than ours has made what it is."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.geteuid() != 0:
        pytest.skip("no setpriv(1), or no root")
    line = [setpriv, "--reuid=65533", "--regid=65532", "--groups=4,27", "--inh-caps=+net_raw,+chown", "--no-new-privs"]
    line += ["--ambient-caps=+net_raw", "--bounding-set=-all,+kill,+net_raw,+chown", "cat"]
    with subprocess.Popen(line, stdin=subprocess.PIPE) as child:
        wait_until(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "cat\n")
        yield child.pid


# -- caps


def test_table_of_another_process(subject: int) -> None:
    done = command("caps", str(subject))
    rows = {"cap_chown": ". . x x .", "cap_kill": ". . . x .", "cap_net_raw": "x x x x x"}
    nowhere = [name for name in CapabilitySet.all(cap_last_cap()).names if name not in rows]
    expected = [
        f"process       {subject} (cat)",
        "user          65533",
        "threads       1",
        "text          cap_net_raw=eip cap_chown+i",
        f"iab           {iab(subject)}",
        "no_new_privs  yes",
        "seccomp       none",
        "securebits    not told of other processes",
        f"in no set     {', '.join(nowhere)}",
        "",
        "capability   E  P  I  B  A  permits to",
    ]
    for name, marks in rows.items():
        expected.append(f"{name:11}  {'  '.join(marks.split())}  {Capability[name.upper()].permits}")
    assert done.stdout.splitlines() == expected
    assert (done.returncode, done.stderr) == (0, "")


def getpcaps(*arguments: str) -> str:
    found = shutil.which("getpcaps", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip("no getpcaps(1) (Debian: libcap2-bin)")
    return subprocess.run([found, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def iab(pid: int) -> str:
    return getpcaps("--iab", str(pid)).partition("[")[2].rstrip("]")


def test_facts_of_another_process(subject: int) -> None:
    (found,) = facts("caps", str(subject))
    assert getpcaps(str(subject)) == f"{subject}: {found['text']}"
    assert found.pop("iab") == iab(subject)
    assert found == {
        "pid": subject,
        "name": "cat",
        "uids": dict.fromkeys(("real", "effective", "saved", "filesystem"), 65533),
        "gids": dict.fromkeys(("real", "effective", "saved", "filesystem"), 65532),
        "groups": [4, 27],
        "capabilities": {
            "effective": ["cap_net_raw"],
            "permitted": ["cap_net_raw"],
            "inheritable": ["cap_chown", "cap_net_raw"],
            "bounding": ["cap_chown", "cap_kill", "cap_net_raw"],
            "ambient": ["cap_net_raw"],
        },
        "no_new_privs": True,
        "seccomp": "none",
        "securebits": None,
        "text": "cap_net_raw=eip cap_chown+i",
        "threads": {"count": 1, "different": []},
    }


def test_own_process_is_the_default() -> None:
    (found,) = facts("caps")
    masks = [CapabilitySet(names).hex for names in found["capabilities"].values()]
    assert masks == sets_of("self")[:5]
    assert found["securebits"] == []
    assert found["text"] == getpcaps(str(os.getpid())).split(": ", 1)[1]


def test_several_processes_in_one_list(subject: int) -> None:
    found = facts("caps", str(subject), "1", str(os.getpid()))
    assert [one["pid"] for one in found] == [subject, 1, os.getpid()]
    tables = command("caps", str(subject), "1").stdout.split("\n\n\n")
    assert sum("process  " in text for text in "\n".join(tables).splitlines()) == 2


def test_all_lists_who_has_capabilities(subject: int) -> None:
    (line,) = (line for line in command("caps", "--all").stdout.splitlines() if line.split()[0] == str(subject))
    assert line.split(None, 3) == [str(subject), "65533", "cat", "cap_net_raw=eip cap_chown+i"]
    pids = {one["pid"] for one in facts("caps", "--all")}
    assert subject in pids
    # Not the kernel's own threads.
    assert not any(
        "kthreadd" in Path(f"/proc/{pid}/comm").read_text() for pid in pids if os.path.exists(f"/proc/{pid}")
    )


def nothing_at_all() -> list[str]:
    from fastproc import privileges

    privileges.bounding.clear()
    privileges.permitted.clear()
    done = command("caps")  # uid 0 would get all from execve, but the bounding set is empty
    (found,) = json.loads(command("caps", "--all", "--json").stdout) or [{}]
    return [*done.stdout.splitlines(), str(found.get("name"))]


@pytest.mark.privileged
def test_process_without_any_capability(pid_namespace: None) -> None:
    *lines, first = isolated(nothing_at_all, pid_namespace=True)
    assert lines[-1].split() == ["in", "no", "set", "all", "of", "them"]
    assert "text          =" in lines
    assert first == "sh"


# -- id


def test_identity_table_and_facts(subject: int) -> None:
    done = command("id", str(subject))
    witness = subprocess.run(["getent", "group", "4", "27"], capture_output=True, text=True, check=False).stdout
    names = {int(line.split(":")[2]): line.split(":")[0] for line in witness.splitlines()}
    groups = ", ".join(f"{names[gid]} ({gid})" if gid in names else str(gid) for gid in (4, 27))
    assert done.stdout.splitlines() == [
        f"process  {subject} (cat)",
        "threads  1",
        f"groups   {groups}",
        "",
        "       real   effective  saved  filesystem",
        "user   65533  65533      65533  65533",
        "group  65532  65532      65532  65532",
    ]
    (found,) = facts("id", str(subject))
    assert found == {
        "pid": subject,
        "name": "cat",
        "uids": dict.fromkeys(("real", "effective", "saved", "filesystem"), 65533),
        "gids": dict.fromkeys(("real", "effective", "saved", "filesystem"), 65532),
        "groups": [4, 27],
        "user_names": {},
        "group_names": {str(gid): name for gid, name in names.items()},
        "threads": {"count": 1, "different": []},
    }


def test_own_identity_is_what_id_says() -> None:
    (found,) = facts("id")
    told = {
        flags: subprocess.run(["id", flags], capture_output=True, text=True, check=True).stdout.strip()
        for flags in ("-u", "-un", "-g", "-gn", "-G")
    }
    assert str(found["uids"]["effective"]) == told["-u"]
    assert found["user_names"][told["-u"]] == told["-un"]
    assert found["group_names"][told["-g"]] == told["-gn"]
    assert {found["gids"]["effective"], *found["groups"]} == {int(gid) for gid in told["-G"].split()}


def differing() -> list[Any]:
    ready, over = threading.Event(), threading.Event()
    tids = []

    def other() -> None:
        number = 117 if os.uname().machine == "x86_64" else 147
        ctypes.CDLL(None).syscall(number, 5, 6, 7)
        ctypes.CDLL(None).prctl(15, b"a\x1b[2Jb\xff", 0, 0, 0)
        tids.append(threading.get_native_id())
        ready.set()
        over.wait()

    threading.Thread(target=other).start()
    ready.wait()
    done = command("id", str(os.getpid()))
    (found,) = json.loads(command("caps", str(os.getpid()), "--json").stdout)
    over.set()
    return [tids[0], done.stdout.splitlines()[1], found["threads"]["count"], found["threads"]["different"][0]["uids"]]


@pytest.mark.privileged
def test_thread_that_differs_is_told_and_cannot_write_to_the_terminal(pid_namespace: None) -> None:
    tid, line, count, uids = isolated(differing, pid_namespace=True)
    # The kernel escapes some bytes itself; none that moves a cursor gets through.
    assert line.startswith(f"threads  2, of which DIFFERENT: {tid} (a")
    assert line.isprintable()
    assert "2Jb" in line
    assert (count, uids) == (2, {"real": 5, "effective": 6, "saved": 7, "filesystem": 6})


# -- the command line


def test_subcommands_are_listed_and_callable() -> None:
    done = command("--help")
    assert done.returncode == 0
    for name, (_, about) in COMMANDS.items():
        assert f"  {name:10}  {about}" in done.stdout.splitlines()
        told = command(name, "--help")
        assert (told.returncode, told.stderr) == (0, "")
        assert told.stdout.startswith(f"usage: python -m fastproc {name} ")


@pytest.mark.parametrize("name", ["caps", "id"])
def test_wrong_arguments_and_missing_processes(name: str, subject: int, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("abc", "0", "-1", " 1", "1_0", "٣", str(2**31), "1.0", ""):
        with pytest.raises(SystemExit, match="2"):
            call(name, ["--", wrong])
        out, err = capsys.readouterr()
        assert out == ""
        assert f"argument PID: {wrong!r} is no pid" in err
    missing = str(2**31 - 1)
    done = command(name, missing, str(subject), "--json")
    assert done.returncode == 1
    assert done.stderr == f"python -m fastproc {name}: {missing}: no such process\n"
    assert [one["pid"] for one in json.loads(done.stdout)] == [subject]
    done = command(name, missing)
    assert (done.returncode, done.stdout) == (1, "")
    done = command("caps", "--all", "1")
    assert done.returncode == 2
    assert "--all and PID exclude one another" in done.stderr


def test_reader_that_has_gone_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        line = [sys.executable, "-m", "fastproc", "caps", *["1"] * 50]
        done = subprocess.run(line, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


def test_text_from_strangers_moves_no_cursor() -> None:
    assert printable("a\x1b[2J\r\n\t\u202e\udc80 é") == "a\\x1b[2J\\r\\n\\t\\u202e\\udc80 é"
    assert table([("a", "b\n"), ("long", "x", "y"), ("", "z")]) == "a     b\\n\nlong  x  y\n      z"


def test_any_encoding_of_the_output_will_do() -> None:
    done = command("id", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")


REFUSED_NUMBERS = [
    *(("syslog", "--timeout", value) for value in ("-1", "nan", "inf", "1e400", "x", "9" * 5000)),
    *(("syslog", "--port", value) for value in ("0", "-1", "65536", "²", "9" * 5000)),
    ("top", "-b", "-n", "-1"),
    ("top", "-b", "-d", "nan"),
    ("ps", "-u", "²"),
    ("ps", "9" * 30),
    ("ps", "-c", "-3"),
    ("tree", "9" * 30),
    ("caps", "²"),
    ("id", "0"),
    ("init", "-e", "256", "true"),
    ("init", "-p", "9" * 30, "true"),
    ("daemon", "stop", "x", "--pid-file", "{}/pid", "--grace", "nan"),
    ("daemon", "stop", "x", "--pid-file", "{}/pid", "--signal", "9" * 30),
    ("daemon", "start", "x", "--pid-file", "{}/pid", "--timeout", "-1", "--", "true"),
    ("daemon", "start", "x", "--pid-file", "{}/pid", "--umask", "9", "--", "true"),
    ("daemon", "start", "x", "--pid-file", "{}/pid", "--rlimit", "nofile=x", "--", "true"),
    ("daemon", "start", "x", "--pid-file", "{}/pid", "--keep-fd", "9" * 30, "--", "true"),
    ("daemon", "start", "x", "--pid-file", "{}/pid", "--ready", "nan", "--", "true"),
]


@pytest.mark.parametrize("words", REFUSED_NUMBERS, ids=lambda words: " ".join(words)[:40])
def test_number_that_is_not_possible_is_refused_before_anything_is_read(words: tuple[str, ...], tmp_path: Path) -> None:
    """A sentence and a status, no traceback; stdin, which has no end here, is not waited for."""
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fastproc", *(word.format(tmp_path) for word in words)],
            stdin=reading,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr
    assert os.listdir(tmp_path) == []


BAD_NAME = "x\x1b[2J\x9b31m\u202e"


@pytest.mark.parametrize(
    "words",
    [
        ("map", "--" + BAD_NAME),
        ("map", "-a", BAD_NAME, "true"),
        ("map", BAD_NAME, ":::", "a"),
        ("map", "--tag", "--dry-run", "echo", ":::", BAD_NAME),
        ("map", "-P1", "sh -c 'echo x; exit 1'", ":::", BAD_NAME),
        ("syslog", "--" + BAD_NAME),
        ("syslog", "--severity", BAD_NAME),
        ("ps", "-u", BAD_NAME),
        ("ps", "--" + BAD_NAME),
        ("ps", "-f", BAD_NAME),
        ("tree", BAD_NAME),
        ("top", "-s", BAD_NAME),
        ("caps", BAD_NAME),
        ("id", "--" + BAD_NAME),
        ("init", "--" + BAD_NAME),
        ("init", BAD_NAME),
        ("run-module", BAD_NAME),
        ("daemon", BAD_NAME),
        ("daemon", "status", BAD_NAME),
        ("daemon", "start", "n", "--pid-file", "/no/" + BAD_NAME, "--", "true"),
        ("daemon", "stop", "n", "--pid-file", "/no/such/" + BAD_NAME),
    ],
    ids=lambda words: " ".join(words[:2]).encode("ascii", "backslashreplace").decode(),
)
def test_names_that_are_given_do_not_reach_the_terminal_as_they_are(words: tuple[str, ...]) -> None:
    """Whatever a command says of them, on both outputs."""
    done = subprocess.run(
        [sys.executable, "-m", "fastproc", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    for line in (done.stdout + done.stderr).split("\n"):
        assert line.replace("\t", "").isprintable(), line
