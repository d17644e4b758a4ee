"""The lifecycle table: every pair, and every run through it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastproc._values import lifecycle as lc

CLOSED = {lc.RUNNING_CLOSED, lc.STOPPING_CLOSED, lc.KILLING_CLOSED}
OPEN = {lc.RUNNING, lc.STOPPING, lc.KILLING}
ALIVE = OPEN | CLOSED


def legal(state, event):
    """Say by rule, not by table, which pairs can happen."""
    if event == lc.EXITED:
        return state in ALIVE
    if event == lc.STREAMS_CLOSED:
        return state not in CLOSED
    if event == lc.GRACE_OVER:
        return state not in (lc.RUNNING, lc.RUNNING_CLOSED)
    if event == lc.DRAIN_OVER:
        return state not in ALIVE
    return True


def test_table_is_total():
    """Every state and event has a row, and there is no other row."""
    assert set(lc.TABLE) == set(itertools.product(lc.STATES, lc.EVENTS))


@pytest.mark.parametrize(("state", "event"), list(itertools.product(lc.STATES, lc.EVENTS)))
def test_step_of_every_pair(state, event):
    """A pair is legal by the rule or raises; its row is made of known states and actions, and keeps the invariants."""
    if not legal(state, event):
        with pytest.raises(lc.IllegalEvent, match="cannot happen in the state"):
            lc.step(state, event)
        return
    after, actions = lc.step(state, event)
    assert after in lc.STATES
    assert set(actions) <= set(lc.ACTIONS)
    assert len(set(actions)) == len(actions)
    assert (lc.FINISH in actions) == (after == lc.DONE != state)
    assert lc.FINISH not in actions[:-1]
    if state not in ALIVE:
        assert not {lc.SIGNAL_TERM, lc.SIGNAL_KILL, lc.NOTE_TIMED_OUT} & set(actions)
    if state in CLOSED and after in ALIVE:
        assert after in CLOSED
    if lc.NOTE_TIMED_OUT in actions:
        assert event in (lc.DEADLINE, lc.DEADLINE_KILL)
        assert {lc.SIGNAL_TERM, lc.SIGNAL_KILL} & set(actions)


@pytest.mark.parametrize(("state", "event"), [("nowhere", lc.EXITED), (lc.RUNNING, "nothing")])
def test_step_of_unknown_raises(state, event):
    """A name that is not in the table is illegal."""
    with pytest.raises(lc.IllegalEvent):
        lc.step(state, event)


@pytest.mark.parametrize("event", [lc.STOP, lc.KILL, lc.DEADLINE, lc.DEADLINE_KILL, lc.GRACE_OVER])
def test_twins_do_the_same_while_the_child_lives(event):
    """Whether outputs are closed changes nothing about signals."""
    for open_state, closed_state in zip(lc.STATES[0:6:2], lc.STATES[1:6:2], strict=True):
        if legal(open_state, event):
            after, actions = lc.step(open_state, event)
            closed_after, closed_actions = lc.step(closed_state, event)
            assert closed_actions == actions
            assert lc.STATES.index(closed_after) == lc.STATES.index(after) + 1


@pytest.mark.parametrize(
    ("outputs", "events", "actions"),
    [
        (True, [lc.STREAMS_CLOSED, lc.EXITED], [lc.FINISH]),
        (True, [lc.EXITED, lc.STREAMS_CLOSED], [lc.CLOSE_STDIN, lc.ARM_DRAIN, lc.FINISH]),
        (False, [lc.EXITED], [lc.FINISH]),
        (True, [lc.EXITED, lc.DEADLINE], [lc.CLOSE_STDIN, lc.ARM_DRAIN, lc.CLOSE_OUTPUTS, lc.FINISH]),
        (
            True,
            [lc.DEADLINE, lc.GRACE_OVER, lc.EXITED, lc.DRAIN_OVER],
            [
                *(lc.NOTE_TIMED_OUT, lc.SIGNAL_TERM, lc.ARM_GRACE, lc.SIGNAL_KILL),
                *(lc.CLOSE_STDIN, lc.ARM_DRAIN_SHORT, lc.CLOSE_OUTPUTS, lc.FINISH),
            ],
        ),
        (False, [lc.DEADLINE_KILL, lc.EXITED], [lc.NOTE_TIMED_OUT, lc.SIGNAL_KILL, lc.FINISH]),
    ],
)
def test_whole_lives(outputs, events, actions):
    """The usual lives, action by action."""
    state = lc.begin(outputs)
    done = []
    for event in events:
        state, more = lc.step(state, event)
        done += more
    assert (state, done) == (lc.DONE, actions)


class Life(RuleBasedStateMachine):
    """Any order of events that a driver can produce, late timers included."""

    def __init__(self):
        super().__init__()
        self.state = lc.RUNNING
        self.done = []
        self.exited = False
        self.streams_closed = False
        self.drain_over = False
        self.armed = set()

    @initialize(outputs=st.booleans(), deadline=st.sampled_from([None, lc.DEADLINE, lc.DEADLINE_KILL]))
    def begin(self, outputs, deadline):
        self.state = lc.begin(outputs)
        self.armed = {deadline} - {None}
        self.streams_closed = not outputs

    def step(self, event):
        self.state, actions = lc.step(self.state, event)
        for action in actions:
            assert lc.FINISH not in self.done, "an action after the end"
            self.done.append(action)
            if action == lc.ARM_GRACE:
                self.armed.add(lc.GRACE_OVER)
            elif action in (lc.ARM_DRAIN, lc.ARM_DRAIN_SHORT):
                self.armed.add(lc.DRAIN_OVER)

    @precondition(lambda self: not self.exited)
    @rule()
    def exit(self):
        self.exited = True
        self.step(lc.EXITED)

    @precondition(lambda self: not self.streams_closed)
    @rule()
    def close(self):
        self.streams_closed = True
        self.step(lc.STREAMS_CLOSED)

    @rule(event=st.sampled_from([lc.STOP, lc.KILL]))
    def ask(self, event):
        self.step(event)

    # A disarmed timer may fire all the same: it was in the same batch of events.
    @precondition(lambda self: self.armed)
    @rule(choice=st.data())
    def timer(self, choice):
        event = choice.draw(st.sampled_from(sorted(self.armed)))
        self.armed.remove(event)
        self.drain_over |= event == lc.DRAIN_OVER
        self.step(event)

    @invariant()
    def at_most_once(self):
        assert all(self.done.count(action) <= 1 for action in lc.ACTIONS)

    @invariant()
    def no_term_after_kill(self):
        if lc.SIGNAL_KILL in self.done:
            assert lc.SIGNAL_TERM not in self.done[self.done.index(lc.SIGNAL_KILL) :]

    @invariant()
    def done_in_the_end(self):
        if self.exited and (self.streams_closed or self.drain_over):
            assert self.state == lc.DONE
        assert (self.state == lc.DONE) == (lc.FINISH in self.done)
        assert self.exited or self.state in ALIVE


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
