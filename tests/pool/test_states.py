"""The states of a task in the C core's pool: the table of csrc/job/pool_states.h, walked, and its drawing."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from conftest import ROOT
from support.programs import SOURCES, WARNINGS

HEADER = ROOT / "csrc" / "job" / "pool_states.h"
REFUSED = "refused"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program that knows the table, with the check that builds with fault points have."""
    target = tmp_path_factory.mktemp("states") / "task_states"
    command = [os.environ.get("CC", "cc"), *WARNINGS, "-D_GNU_SOURCE", "-DFP_FAULTS=1", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*command, "-o", str(target), str(SOURCES / "task_states.c")], check=True, capture_output=True)
    return str(target)


@pytest.fixture(scope="module")
def table(program: str) -> dict[tuple[str, str], str]:
    """Every pair of state and event: the state that it leads to, or REFUSED."""
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    return {(state, event): to for state, event, to in map(str.split, lines)}


def legal(table: dict[tuple[str, str], str]) -> set[tuple[str, str, str]]:
    """The moves of a table."""
    return {(state, event, to) for (state, event), to in table.items() if to != REFUSED}


def reached(moves: set[tuple[str, str]], start: str) -> set[str]:
    """The states that these moves lead to."""
    found = {start}
    while more := {to for state, to in moves if state in found} - found:
        found |= more
    return found


def test_every_state_is_reached_and_left(table: dict[tuple[str, str], str]) -> None:
    """From FREE each state can be reached, and from each state FREE, so no task's memory is lost."""
    states = {state for state, _ in table}
    moves = {(state, to) for state, _, to in legal(table)}
    assert reached(moves, "FREE") == states
    assert reached({(to, state) for state, to in moves}, "FREE") == states


def test_every_event_leads_to_one_state(table: dict[tuple[str, str], str]) -> None:
    """The state before does not matter, on which the compiler relies; and every move leads to another state."""
    events = {event for _, event in table}
    for event in events:
        assert len({to for _, which, to in legal(table) if which == event}) == 1, event
    assert not [move for move in legal(table) if move[0] == move[2]]


def test_every_pair_is_a_move_or_refused_by_name(table: dict[tuple[str, str], str], program: str) -> None:
    """All pairs, each in a process of its own: the new state, or SIGABRT and the names of both."""
    states = list(dict.fromkeys(state for state, _ in table))
    events = list(dict.fromkeys(event for _, event in table))
    assert len(table) == len(states) * len(events)
    for (state, event), to in table.items():
        command = [program, str(states.index(state)), str(events.index(event))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if to == REFUSED:
            text = f"fastproc: a task in state {state} does not take the event {event}\n"
            assert (done.returncode, done.stdout, done.stderr) == (-6, "", text)
        else:
            assert (done.returncode, done.stdout, done.stderr) == (0, f"{to}\n", "")


def test_the_drawing_is_the_table(table: dict[tuple[str, str], str]) -> None:
    """Each arrow of the header's drawing is a legal move, and each legal move is drawn."""
    drawing = HEADER.read_text("utf-8").partition("*/")[0]
    drawn = []
    for line in drawing.splitlines():
        words = re.findall(r"\w+", line) if "►" in line else []
        drawn += [(words[i], words[i + 1], words[i + 2]) for i in range(0, len(words) - 2, 2)]
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == legal(table)


def test_no_state_changes_but_by_the_table() -> None:
    """No file of the pool assigns a task's state; each event is used."""
    text = "".join(path.read_text("utf-8") for path in HEADER.parent.glob("pool*.c"))
    assert not re.findall(r"(?:->|\.)state\s*=[^=]", text)
    used = set(re.findall(r"TASK_[A-Z_]+", text))
    declared = HEADER.read_text("utf-8")
    events = re.search(r"enum task_event \{(.*?)TASK_EVENTS", declared, re.DOTALL)
    assert events
    assert set(re.findall(r"TASK_[A-Z_]+", events[1])) <= used
