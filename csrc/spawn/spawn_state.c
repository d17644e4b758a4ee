/* spawn_state.c: one spawn from its clone to its exec, for a parent that does not stop: how it waits for the exec, what
 * the child reports, and when memory that the child uses can be reused.
 *
 * The deferred exec. With CLONE_VFORK the kernel stops the calling thread until the child has executed or ended. That
 * costs a wake-up and a switch to the parent on each spawn, and neither a handled signal nor a deadline can end the
 * wait. So clone3_vm does without CLONE_VFORK: parent and child run at the same time in one memory. What the
 * child reads and writes there is struct fp__spawn_state: its stack, its argument vectors, its report. None of it may
 * be freed or reused while the child can still use it, and the state, with everything that it points to, may outlive
 * the call that made it.
 *
 * When the child has left. CLONE_CHILD_CLEARTID makes the kernel clear one word, `memory_in_use`, and wake its futex,
 * in the same place in which it would wake a vfork parent: mm_release() in kernel/fork.c, when the child gives up the
 * memory, at exec or at death. After that the child executes no instruction in this memory. Four rules follow.
 *
 * 1. The report is read only after the word was read as 0 (acquire); before that the child may be writing it.
 *
 * 2. The state is freed only then. A state that nobody waits for any more (its child was killed, and may hang before
 * its exec) goes to the list `abandoned`, which each later spawn looks through.
 *
 * 3. The futex is waited for as a shared one: mm_release() does not use the private flag.
 *
 * 4. Before Linux 5.16 a death with a core dump leaves the word as it is. A child that waitid(2) reports as dead has
 * left the memory in any case, so its death counts as well.
 *
 * Whether the child executed is known from its report and not from the word, which is cleared by both: stage EXEC
 * without an error means that execve(2) did not return. A caller that does not wait for the exec at all, such as a run,
 * asks when the child has ended (fp__spawn_verdict()): a child that ended without having executed is a spawn that
 * failed. */
#include "internal.h"

#include <stdlib.h>

void fp__vectors_free(struct fp__spawn_state *s)
{
    free(s->heap);
    free(s->launcher_block);
    s->heap = s->launcher_block = NULL;
}

#if FP_LINUX

#include <linux/futex.h>
#include <poll.h>
#include <sys/wait.h>

#define PAUSE_NS 100000LL

static int set_failure(const struct fp__report *report, int sig, struct fp_child *child)
{
    child->stage = report->stage > 0 ? report->stage : FP_STAGE_BORN;
    child->detail = report->error ? report->detail : sig;
    return report->error ? -report->error : -ECANCELED;
}

int fp__report_read(struct fp__report report, int pidfd, int pid, struct fp_child *child)
{
    if (report.error == 0 && report.stage == FP_STAGE_EXEC) {
        for (int sig = SIGTSTP; report.stops != 0 && sig <= SIGTTOU; sig++) {
            if (report.stops >> (sig - 1) & 1)
                fp_signal(pidfd, pid, sig);
        }
        return 0;
    }
    int sig = fp__reap_before_exec(pidfd, pid);
    if (pidfd >= 0)
        fp__close(pidfd);
    return set_failure(&report, sig, child);
}

static bool reclaim(struct fp__spawn_state *s, bool dead)
{
    if (!s->unreclaimed)
        return true;
    if (atomic_load_explicit(&s->memory_in_use, memory_order_acquire) != 0)
        return false;
    if (s->closed_epoch != 0 && !fp__memory_left(s, dead))
        return false;
    s->unreclaimed = false;
    fp__stack_give(&s->stack);
    if (s->closed_epoch != 0)
        fp__memory_open(s);
    return true;
}

static bool has_left(struct fp__spawn_state *s)
{
    return reclaim(s, false);
}

void fp__spawn_close_report(struct fp__spawn_state *s)
{
    fp__close_all(&s->report_fd, 1);
}

/* Reads what the launcher reported, once the child is dead: the last record counts. Other processes may hold the pipe
 * open (GOTCHAS B1), so it reads only what is there. */
static void read_report(struct fp__spawn_state *s)
{
    struct timespec none = {0, 0};
    struct fp__report next;
    struct pollfd look = {.fd = s->report_fd, .events = POLLIN};
    while (s->report_fd >= 0 && fp__sys5(SYS_ppoll, &look, 1, &none, NULL, 8) == 1 &&
           fp__sys3(SYS_read, s->report_fd, &next, sizeof next) == (long)sizeof next)
        s->report = next;
    fp__spawn_close_report(s);
}

void fp__spawn_child_left(struct fp__spawn_state *s)
{
    atomic_store_explicit(&s->memory_in_use, 0, memory_order_relaxed);
    reclaim(s, true);
}

bool fp__spawn_reclaim(struct fp__spawn_state *s)
{
    if (!has_left(s))
        return false;
    fp__vectors_free(s);
    return true;
}

long fp__spawn_await_left(struct fp__spawn_state *s, int64_t timeout_ns)
{
    struct timespec ts = {timeout_ns / FP_NSEC, timeout_ns % FP_NSEC};
    if (has_left(s))
        return 0;
    if (s->closed_epoch != 0 && atomic_load_explicit(&s->memory_in_use, memory_order_acquire) == 0) {
        /* The child is on its last steps out of our memory. Nothing reports their end. */
        struct timespec pause = {0, timeout_ns < PAUSE_NS ? timeout_ns : PAUSE_NS};
        return fp__sys2(SYS_nanosleep, &pause, NULL);
    }
    /* Not FUTEX_PRIVATE_FLAG: mm_release() wakes a shared futex. */
    return fp__sys4(SYS_futex, &s->memory_in_use, FUTEX_WAIT, 1, &ts);
}

int fp__spawn_verdict(struct fp__spawn_state *s, int sig, struct fp_child *child)
{
    /* Before 5.16 a death with a core dump leaves the word as it is; a dead child uses no memory. */
    fp__spawn_child_left(s);
    fp__spawn_reclaim(s);
    read_report(s);
    s->exec_unknown = false;
    if (s->report.error == 0 && s->report.stage == FP_STAGE_EXEC)
        return 0;
    return set_failure(&s->report, sig, child);
}

static bool is_dead(const struct fp_child *child)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    long r = fp__look(child->pidfd, child->pid, 0, &info);
    return r == -ECHILD || (r == 0 && info.si_pid != 0);
}

int fp__spawn_await_exec(struct fp__spawn_state *s, struct fp_child *child)
{
    int64_t end = 0;
    while (!has_left(s)) { /* the vectors stay: another attempt may follow */
        int64_t now = fp__now();
        if (s->args.until_ns >= 0 && now >= s->args.until_ns) {
            /* The child does not return to code of ours after SIGKILL; the memory is its own until the word is
             * cleared. */
            fp_signal(child->pidfd, child->pid, SIGKILL);
            return FP_SPAWN_LATE;
        }
        if (end == 0)
            end = now + FP_SLICE_NS;
        else if (now >= end)
            return FP_SPAWN_AGAIN;
        int64_t left = s->args.until_ns >= 0 && s->args.until_ns < end ? s->args.until_ns - now : end - now;
        long r = fp__spawn_await_left(s, left);
        if (r == -EINTR && !has_left(s))
            return FP_SPAWN_AGAIN;
        if (r == -ETIMEDOUT && is_dead(child)) /* before 5.16, with a core dump */
            atomic_store_explicit(&s->memory_in_use, 0, memory_order_relaxed);
    }
    s->exec_unknown = false;
    int r = fp__report_read(s->report, child->pidfd, child->pid, child);
    if (r < 0)
        child->pid = child->pidfd = -1;
    return r;
}

/* The states of killed children that nobody waits for, until the kernel has cleared their words. */
static _Atomic(struct fp__spawn_state *) abandoned;

void fp__spawn_abandon(struct fp__spawn_state *s)
{
    fp__spawn_close_report(s);
    if (fp__spawn_reclaim(s)) {
        free(s);
        return;
    }
    s->next = atomic_load_explicit(&abandoned, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&abandoned, &s->next, s))
        ;
}

void fp__spawn_sweep_abandoned(void)
{
    if (atomic_load_explicit(&abandoned, memory_order_relaxed) == NULL)
        return;
    struct fp__spawn_state *next, *s = atomic_exchange(&abandoned, NULL);
    for (; s != NULL; s = next) {
        next = s->next;
        fp__spawn_abandon(s);
    }
}

#else

void fp__spawn_close_report(struct fp__spawn_state *s)
{
    (void)s;
}

void fp__spawn_child_left(struct fp__spawn_state *s)
{
    (void)s;
}

bool fp__spawn_reclaim(struct fp__spawn_state *s)
{
    (void)s;
    return true;
}

long fp__spawn_await_left(struct fp__spawn_state *s, int64_t timeout_ns)
{
    (void)s;
    (void)timeout_ns;
    return 0;
}

int fp__spawn_verdict(struct fp__spawn_state *s, int sig, struct fp_child *child)
{
    (void)s;
    (void)sig;
    (void)child;
    return 0;
}

int fp__spawn_await_exec(struct fp__spawn_state *s, struct fp_child *child)
{
    (void)s;
    (void)child;
    return 0;
}

void fp__spawn_abandon(struct fp__spawn_state *s)
{
    free(s);
}

void fp__spawn_sweep_abandoned(void)
{
}

#endif
