"""What a snapshot must not make up: long files, what may not be seen, its own descriptors, numbers that are none."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc.info import System, snapshot

STAT = "7 (x) S 1 7 7 0 -1 0 10 20 3 4 250 50 7 8 20 0 1 0 4200 8192000 {} 18446744073709551615"
REST = " 94000000 2 3 4 5 6 7 8 9 1 0 0 17 1 0 0 5 0 0 1 2 3 4 5 6 7 0\n"


def _many_groups(number: int) -> list[Any]:
    os.setgroups(range(100_000, 100_000 + number))
    fields = ("groups", "vm_rss", "cap_eff", "voluntary_ctxt_switches")
    mine = snapshot(fields, [os.getpid()])[0]
    return [list(mine.groups) == os.getgroups(), mine.absent]


@pytest.mark.privileged
@pytest.mark.parametrize("number", [5, 2_300, 5_000, 60_000])
def test_status_of_many_groups_is_read_to_its_end(number: int) -> None:
    """Longer than the place that there was at first; the lines behind the groups too."""
    assert isolated(_many_groups, number) == [True, {}]


def test_name_is_completed_of_a_long_first_argument(tmp_path: Path) -> None:
    """Its last part lies beyond the first 16 KiB."""
    (tmp_path / "7").mkdir()
    long = "/" + "d" * 40_000 + "/abcdefghijklmnopqrst"
    (tmp_path / "7" / "stat").write_text(STAT.format("100").replace("(x)", "(abcdefghijklmno)") + REST)
    (tmp_path / "7" / "cmdline").write_text(long + "\0more\0")
    assert snapshot(("name",), root=tmp_path)[0].name == "abcdefghijklmnopqrst"


HIDDEN = ("startcode", "endcode", "kstkesp", "arg_start", "env_end", "exit_code")


def _seen_by_nobody() -> list[Any]:
    ended = subprocess.Popen(["sh", "-c", "exit 7"])
    alive = subprocess.Popen(["sleep", "60"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    fields = ("exit_code", "state")
    before = snapshot(fields, [ended.pid])[0].to_dict()
    os.seteuid(65534)
    found = [snapshot((*HIDDEN, "ppid"), [alive.pid])[0].absent, snapshot(fields, [ended.pid])[0].absent]
    os.seteuid(0)
    alive.send_signal(signal.SIGKILL)
    alive.wait()
    ended.wait()
    return [before, *found]


@pytest.mark.privileged
def test_what_stat_hides_has_a_reason() -> None:
    """The kernel writes 0 or 1 for who may not trace the process."""
    before, alive, ended = isolated(_seen_by_nobody)
    assert before == {"exit_code": 7 << 8, "state": "Z"}
    assert alive == dict.fromkeys(HIDDEN, "EACCES")
    assert ended == {"exit_code": "EACCES"}


def _own_descriptors() -> list[int]:
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
    listed = os.listdir("/proc/self/fd")
    found = [snapshot(("num_fds",), [os.getpid()], root)[0].num_fds for root in ("/proc", "/proc/")]
    for one in held:
        os.close(one)
    return [number - (len(listed) - 1) for number in found]


def test_own_descriptors_are_counted_without_those_of_the_snapshot() -> None:
    """Which has three while it counts."""
    assert isolated(_own_descriptors) == [0, 0]


def test_numbers_of_a_folder_that_are_none_are_malformed(tmp_path: Path) -> None:
    """Groups with letters, and numbers that do not fit into 64 bits: neither an exception nor another number."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(STAT.format("99999999999999999999999") + REST)
    (tmp_path / "7" / "status").write_text("Groups:\t1 x 3\nNSpid:\t7\nUid:\t0\t18446744073709551616\t0\t0\n")
    (tmp_path / "7" / "statm").write_text("18446744073709551616 1\n")
    found = snapshot(("vsize", "rss", "rsslim", "groups", "ns_pid", "uid", "euid", "size"), root=tmp_path)[0]
    assert found.to_dict() | {} == {
        "vsize": 8192000,
        "rss": None,
        "rsslim": None,
        "groups": None,
        "ns_pid": (7,),
        "uid": 0,
        "euid": None,
        "size": None,
    }
    assert set(found.absent.values()) == {"malformed"}


def _spent(root: Path, utime: int, stime: int, threads: int) -> Any:
    text = f"7 (x) S 1 7 7 0 -1 0 0 0 0 0 {utime} {stime} 0 0 20 0 {threads} 0 4200 8192 1 1" + REST
    (root / "7").mkdir(exist_ok=True)
    (root / "7" / "stat").write_text(text)
    return snapshot(("pid", "utime", "stime", "starttime", "num_threads"), root=root)


def test_cpu_of_a_short_interval_is_not_more_than_possible(tmp_path: Path) -> None:
    """Both times have steps of 10 ms; what is more than they explain came of threads that are gone."""
    earlier = _spent(tmp_path, 50, 50, 1)
    stepped, gone = _spent(tmp_path, 51, 51, 1).rates(earlier)[0], _spent(tmp_path, 90, 90, 1).rates(earlier)[0]
    assert stepped.cpu_percent == 100.0
    assert gone.cpu_percent > 200.0


def test_cpus_of_two_looks_in_a_row_are_not_zeros() -> None:
    """The second look says nothing; it does not say 0 %."""
    system = System().refresh("cpu").refresh("cpu")
    for _ in range(3):
        system.refresh("cpu")
        assert system.cpu is None or sum(system.cpu[1:]) == pytest.approx(100)
    deadline = time.monotonic() + 20
    while system.cpu is None and time.monotonic() < deadline:
        system.refresh("cpu")
    used = system.cpu
    assert used is not None
    assert sum(used[1:]) == pytest.approx(100)
    system.refresh("cpu")
    assert sum(system.cpu[1:]) == pytest.approx(100)
