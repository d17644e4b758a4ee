/* pool_states.h: the states of a pool's task, and every event that changes them.
 *
 *        FREE ──submit──► QUEUED ──start──► RUNNING ──end──► ENDED ──take──► FREE
 *        FREE ──submit_delayed──► DELAYED ──fall_due──► QUEUED
 *     RUNNING ──postpone──► DELAYED
 *      QUEUED ──throttle──► THROTTLED ──resume──► QUEUED
 *      QUEUED ──delegate──► DELEGATED ──dispatch──► DISPATCHED ──start──► RUNNING
 *   DELEGATED ──release──► FREE
 *      QUEUED ──withdraw──► FREE
 *     DELAYED ──withdraw──► FREE
 *   THROTTLED ──withdraw──► FREE
 *   THROTTLED ──fail──► ENDED
 *     RUNNING ──fail──► ENDED
 *
 * Each event leads to one state, whatever the state before it. So the compiler reads the table, and a move costs one
 * store. Builds with fault points check that the state takes the event; otherwise they abort and name both.
 * tests/pool/test_states.py compares the drawing with the table. */
#ifndef FASTPROC_POOL_STATES_H
#define FASTPROC_POOL_STATES_H

#include <stdint.h>

enum task_state {
    TASK_FREE,       /* not a task: memory for the next one */
    TASK_QUEUED,     /* may start when there is a worker slot */
    TASK_THROTTLED,  /* may not start until its consumer has taken more results */
    TASK_DELAYED,    /* may not start before its time */
    TASK_DELEGATED,  /* has a worker slot; the caller runs it, or says what to run */
    TASK_DISPATCHED, /* the caller has said what to run: the next thread starts it */
    TASK_RUNNING,    /* a thread of the pool has its child */
    TASK_ENDED,      /* its result waits for the consumer */
    TASK_STATES
};

enum task_event {
    TASK_SUBMIT,
    TASK_SUBMIT_DELAYED,
    TASK_FALL_DUE,
    TASK_THROTTLE,
    TASK_RESUME,
    TASK_START,
    TASK_POSTPONE, /* a start that failed for now is tried again later */
    TASK_DELEGATE,
    TASK_DISPATCH,
    TASK_RELEASE, /* the caller has run it */
    TASK_END,
    TASK_FAIL, /* no queue has memory for it */
    TASK_TAKE,
    TASK_WITHDRAW, /* cancelled before it started */
    TASK_EVENTS
};

struct task_move {
    const char *name;
    unsigned from; /* a bit for each state that takes the event */
    uint8_t to;
};

#define TASK_IN(state) (1u << TASK_##state)

static const struct task_move task_moves[TASK_EVENTS] = {
    [TASK_SUBMIT] = {"submit", TASK_IN(FREE), TASK_QUEUED},
    [TASK_SUBMIT_DELAYED] = {"submit_delayed", TASK_IN(FREE), TASK_DELAYED},
    [TASK_FALL_DUE] = {"fall_due", TASK_IN(DELAYED), TASK_QUEUED},
    [TASK_THROTTLE] = {"throttle", TASK_IN(QUEUED), TASK_THROTTLED},
    [TASK_RESUME] = {"resume", TASK_IN(THROTTLED), TASK_QUEUED},
    [TASK_START] = {"start", TASK_IN(QUEUED) | TASK_IN(DISPATCHED), TASK_RUNNING},
    [TASK_POSTPONE] = {"postpone", TASK_IN(RUNNING), TASK_DELAYED},
    [TASK_DELEGATE] = {"delegate", TASK_IN(QUEUED), TASK_DELEGATED},
    [TASK_DISPATCH] = {"dispatch", TASK_IN(DELEGATED), TASK_DISPATCHED},
    [TASK_RELEASE] = {"release", TASK_IN(DELEGATED), TASK_FREE},
    [TASK_END] = {"end", TASK_IN(RUNNING), TASK_ENDED},
    [TASK_FAIL] = {"fail", TASK_IN(THROTTLED) | TASK_IN(RUNNING), TASK_ENDED},
    [TASK_TAKE] = {"take", TASK_IN(ENDED), TASK_FREE},
    [TASK_WITHDRAW] = {"withdraw", TASK_IN(QUEUED) | TASK_IN(THROTTLED) | TASK_IN(DELAYED), TASK_FREE},
};

#ifdef FP_FAULTS
#include <stdio.h>
#include <stdlib.h>

static const char *const task_state_names[TASK_STATES] = {
    [TASK_FREE] = "FREE",       [TASK_QUEUED] = "QUEUED",       [TASK_THROTTLED] = "THROTTLED",
    [TASK_DELAYED] = "DELAYED", [TASK_DELEGATED] = "DELEGATED", [TASK_DISPATCHED] = "DISPATCHED",
    [TASK_RUNNING] = "RUNNING", [TASK_ENDED] = "ENDED",
};

static inline void task_check(unsigned state, enum task_event event)
{
    if (state < TASK_STATES && task_moves[event].from >> state & 1)
        return;
    dprintf(2, "fastproc: a task in state %s does not take the event %s\n",
            state < TASK_STATES ? task_state_names[state] : "?", task_moves[event].name);
    abort();
}
#else
#define task_check(state, event) ((void)0)
#endif

/* A task's state changes only here. */
static inline void task_move(uint8_t *state, enum task_event event)
{
    task_check(*state, event);
    *state = task_moves[event].to;
}

#endif
