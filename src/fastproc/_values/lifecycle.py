"""One child from its spawn to the end of everything, as a table: (state, event) -> (next state, actions). Pure.

The exchange turns what happens into events, asks `step()`, keeps the state and does the actions in order. The table is
total: every pair has a row. Late events are the usual case (a timer that fires after the exit, a stream that ends after
a stop), and their rows do nothing; a pair that can only be a mistake of the caller is ILLEGAL, which raises and changes
nothing.

States. The child runs: RUNNING; STOPPING (SIGTERM was sent); KILLING (SIGKILL was sent); each with a twin *_CLOSED in
which no output can come any more. The child is reaped: DRAINING (others still hold its outputs), DONE.

Events
    EXITED          the child was reaped, or somebody else did it; once
    STREAMS_CLOSED  stdout and stderr have ended; once. Without captured outputs, begin with `begin(False)` instead.
                    Feeding stdin is no part of it: the child may read on when its outputs are closed.
    STOP            asked to end it: SIGTERM, SIGKILL when the grace is over
    KILL            asked to end it at once; also for an error in the exchange, and for a STOP without grace
    DEADLINE        the timeout is over, and there is a grace
    DEADLINE_KILL   the timeout is over, and there is none; one of the two, at most once
    GRACE_OVER      the timer of ARM_GRACE
    DRAIN_OVER      the timer of ARM_DRAIN or ARM_DRAIN_SHORT

Actions
    SIGNAL_TERM, SIGNAL_KILL     send it, and note TERMINATED, KILLED in the result; no child is no error (GOTCHAS D13)
    NOTE_TIMED_OUT               note TIMED_OUT in the result
    ARM_GRACE, DISARM_GRACE      the timer between SIGTERM and SIGKILL
    CLOSE_STDIN                  stop feeding; nobody is there who was meant to read it
    ARM_DRAIN                    the timer of drain_timeout, none where that is None; the deadline stays armed
    ARM_DRAIN_SHORT              the same, but at most 0.1 s: a child that had to be stopped gets no more patience
    CLOSE_OUTPUTS                close the outputs unread, and note PIPES_OPEN in the result
    FINISH                       disarm every timer, close what is open, publish the result; once, and the last action
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

RUNNING: Final = "running"
RUNNING_CLOSED: Final = "running, outputs closed"
STOPPING: Final = "stopping"
STOPPING_CLOSED: Final = "stopping, outputs closed"
KILLING: Final = "killing"
KILLING_CLOSED: Final = "killing, outputs closed"
DRAINING: Final = "draining"
DONE: Final = "done"

STATES = (RUNNING, RUNNING_CLOSED, STOPPING, STOPPING_CLOSED, KILLING, KILLING_CLOSED, DRAINING, DONE)

EXITED: Final = "exited"
STREAMS_CLOSED: Final = "streams closed"
STOP: Final = "stop"
KILL: Final = "kill"
DEADLINE: Final = "deadline"
DEADLINE_KILL: Final = "deadline without grace"
GRACE_OVER: Final = "grace over"
DRAIN_OVER: Final = "drain over"

EVENTS = (EXITED, STREAMS_CLOSED, STOP, KILL, DEADLINE, DEADLINE_KILL, GRACE_OVER, DRAIN_OVER)

SIGNAL_TERM: Final = "signal TERM"
SIGNAL_KILL: Final = "signal KILL"
NOTE_TIMED_OUT: Final = "note timed out"
ARM_GRACE: Final = "arm grace"
DISARM_GRACE: Final = "disarm grace"
CLOSE_STDIN: Final = "close stdin"
ARM_DRAIN: Final = "arm drain"
ARM_DRAIN_SHORT: Final = "arm drain short"
CLOSE_OUTPUTS: Final = "close outputs"
FINISH: Final = "finish"

ACTIONS = (
    SIGNAL_TERM,
    SIGNAL_KILL,
    NOTE_TIMED_OUT,
    ARM_GRACE,
    DISARM_GRACE,
    CLOSE_STDIN,
    ARM_DRAIN,
    ARM_DRAIN_SHORT,
    CLOSE_OUTPUTS,
    FINISH,
)

ILLEGAL = None
_GIVE_UP = (DONE, (CLOSE_OUTPUTS, FINISH))

# fmt: off
TABLE: dict[tuple[str, str], tuple[str, tuple[str, ...]] | None] = {
    (RUNNING, EXITED):                  (DRAINING, (CLOSE_STDIN, ARM_DRAIN)),
    (RUNNING, STREAMS_CLOSED):          (RUNNING_CLOSED, ()),
    (RUNNING, STOP):                    (STOPPING, (SIGNAL_TERM, ARM_GRACE)),
    (RUNNING, KILL):                    (KILLING, (SIGNAL_KILL,)),
    (RUNNING, DEADLINE):                (STOPPING, (NOTE_TIMED_OUT, SIGNAL_TERM, ARM_GRACE)),
    (RUNNING, DEADLINE_KILL):           (KILLING, (NOTE_TIMED_OUT, SIGNAL_KILL)),
    (RUNNING, GRACE_OVER):              ILLEGAL,
    (RUNNING, DRAIN_OVER):              ILLEGAL,

    (RUNNING_CLOSED, EXITED):           (DONE, (FINISH,)),
    (RUNNING_CLOSED, STREAMS_CLOSED):   ILLEGAL,
    (RUNNING_CLOSED, STOP):             (STOPPING_CLOSED, (SIGNAL_TERM, ARM_GRACE)),
    (RUNNING_CLOSED, KILL):             (KILLING_CLOSED, (SIGNAL_KILL,)),
    (RUNNING_CLOSED, DEADLINE):         (STOPPING_CLOSED, (NOTE_TIMED_OUT, SIGNAL_TERM, ARM_GRACE)),
    (RUNNING_CLOSED, DEADLINE_KILL):    (KILLING_CLOSED, (NOTE_TIMED_OUT, SIGNAL_KILL)),
    (RUNNING_CLOSED, GRACE_OVER):       ILLEGAL,
    (RUNNING_CLOSED, DRAIN_OVER):       ILLEGAL,

    # The reason that came first stays: a deadline after STOP neither is noted nor shortens the grace.
    (STOPPING, EXITED):                 (DRAINING, (DISARM_GRACE, CLOSE_STDIN, ARM_DRAIN_SHORT)),
    (STOPPING, STREAMS_CLOSED):         (STOPPING_CLOSED, ()),
    (STOPPING, STOP):                   (STOPPING, ()),
    (STOPPING, KILL):                   (KILLING, (DISARM_GRACE, SIGNAL_KILL)),
    (STOPPING, DEADLINE):               (STOPPING, ()),
    (STOPPING, DEADLINE_KILL):          (KILLING, (NOTE_TIMED_OUT, DISARM_GRACE, SIGNAL_KILL)),
    (STOPPING, GRACE_OVER):             (KILLING, (SIGNAL_KILL,)),
    (STOPPING, DRAIN_OVER):             ILLEGAL,

    (STOPPING_CLOSED, EXITED):          (DONE, (FINISH,)),
    (STOPPING_CLOSED, STREAMS_CLOSED):  ILLEGAL,
    (STOPPING_CLOSED, STOP):            (STOPPING_CLOSED, ()),
    (STOPPING_CLOSED, KILL):            (KILLING_CLOSED, (DISARM_GRACE, SIGNAL_KILL)),
    (STOPPING_CLOSED, DEADLINE):        (STOPPING_CLOSED, ()),
    (STOPPING_CLOSED, DEADLINE_KILL):   (KILLING_CLOSED, (NOTE_TIMED_OUT, DISARM_GRACE, SIGNAL_KILL)),
    (STOPPING_CLOSED, GRACE_OVER):      (KILLING_CLOSED, (SIGNAL_KILL,)),
    (STOPPING_CLOSED, DRAIN_OVER):      ILLEGAL,

    # A child in an uninterruptible sleep dies later (signal(7)); a second SIGKILL would not hurry it.
    (KILLING, EXITED):                  (DRAINING, (CLOSE_STDIN, ARM_DRAIN_SHORT)),
    (KILLING, STREAMS_CLOSED):          (KILLING_CLOSED, ()),
    (KILLING, STOP):                    (KILLING, ()),
    (KILLING, KILL):                    (KILLING, ()),
    (KILLING, DEADLINE):                (KILLING, ()),
    (KILLING, DEADLINE_KILL):           (KILLING, ()),
    (KILLING, GRACE_OVER):              (KILLING, ()),
    (KILLING, DRAIN_OVER):              ILLEGAL,

    (KILLING_CLOSED, EXITED):           (DONE, (FINISH,)),
    (KILLING_CLOSED, STREAMS_CLOSED):   ILLEGAL,
    (KILLING_CLOSED, STOP):             (KILLING_CLOSED, ()),
    (KILLING_CLOSED, KILL):             (KILLING_CLOSED, ()),
    (KILLING_CLOSED, DEADLINE):         (KILLING_CLOSED, ()),
    (KILLING_CLOSED, DEADLINE_KILL):    (KILLING_CLOSED, ()),
    (KILLING_CLOSED, GRACE_OVER):       (KILLING_CLOSED, ()),
    (KILLING_CLOSED, DRAIN_OVER):       ILLEGAL,

    # There is nobody to signal. A deadline ends the wait for the others but is not the child's: it ended in time.
    (DRAINING, EXITED):                 ILLEGAL,
    (DRAINING, STREAMS_CLOSED):         (DONE, (FINISH,)),
    (DRAINING, STOP):                   _GIVE_UP,
    (DRAINING, KILL):                   _GIVE_UP,
    (DRAINING, DEADLINE):               _GIVE_UP,
    (DRAINING, DEADLINE_KILL):          _GIVE_UP,
    (DRAINING, GRACE_OVER):             (DRAINING, ()),
    (DRAINING, DRAIN_OVER):             _GIVE_UP,

    (DONE, EXITED):                     ILLEGAL,
    (DONE, STREAMS_CLOSED):             (DONE, ()),
    (DONE, STOP):                       (DONE, ()),
    (DONE, KILL):                       (DONE, ()),
    (DONE, DEADLINE):                   (DONE, ()),
    (DONE, DEADLINE_KILL):              (DONE, ()),
    (DONE, GRACE_OVER):                 (DONE, ()),
    (DONE, DRAIN_OVER):                 (DONE, ()),
}
# fmt: on


class IllegalEvent(RuntimeError):
    """An event that cannot happen in a state: a mistake in the caller. Nothing was changed."""


def begin(outputs: bool) -> str:
    """Return the first state of a spawned child; outputs says whether stdout or stderr is read."""
    return RUNNING if outputs else RUNNING_CLOSED


def step(state: str, event: str) -> tuple[str, tuple[str, ...]]:
    """Return the next state and the actions to do, in order.

    Raises:
        IllegalEvent: the event cannot happen in this state.
    """
    row = TABLE.get((state, event))
    if row is None:
        raise IllegalEvent(f"{event!r} cannot happen in the state {state!r}")
    return row
