/* spawn_state.c: the time from the clone to the exec, for a parent that does not stand still: waiting for it with a deadline, what
 * the child says of it, and giving back what it borrows.
 *
 * A birth is given back when the kernel has cleared its word `borrows`, and not before: the kernel writes there when the child
 * leaves our memory, however late that is. */
#include "internal.h"

#include <stdlib.h>

void fp__vectors_free(struct fp__birth *s)
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

static int say_failure(const struct fp__report *report, int sig, struct fp_child *child)
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
    return say_failure(&report, sig, child);
}

static bool has_left_for(struct fp__birth *s, bool dead)
{
    if (!s->pending)
        return true;
    if (atomic_load_explicit(&s->borrows, memory_order_acquire) != 0)
        return false;
    if (s->closed_in != 0 && !fp__memory_left(s, dead))
        return false;
    s->pending = false;
    fp__stack_give(&s->stack);
    if (s->closed_in != 0)
        fp__memory_open(s);
    return true;
}

static bool has_left(struct fp__birth *s)
{
    return has_left_for(s, false);
}

void fp__birth_deaf(struct fp__birth *s)
{
    fp__close_all(&s->heard_fd, 1);
}

/* What the launcher said, once the child is dead: the last record counts. Others may hold the pipe open (GOTCHAS B1), so only
 * what is there is read. */
static void hear(struct fp__birth *s)
{
    struct timespec none = {0, 0};
    struct fp__report next;
    struct pollfd look = {.fd = s->heard_fd, .events = POLLIN};
    while (s->heard_fd >= 0 && fp__sys5(SYS_ppoll, &look, 1, &none, NULL, 8) == 1 &&
           fp__sys3(SYS_read, s->heard_fd, &next, sizeof next) == (long)sizeof next)
        s->report = next;
    fp__birth_deaf(s);
}

void fp__birth_left(struct fp__birth *s)
{
    atomic_store_explicit(&s->borrows, 0, memory_order_relaxed);
    has_left_for(s, true);
}

bool fp__birth_over(struct fp__birth *s)
{
    if (!has_left(s))
        return false;
    fp__vectors_free(s);
    return true;
}

long fp__birth_await(struct fp__birth *s, int64_t timeout_ns)
{
    struct timespec ts = {timeout_ns / FP_NSEC, timeout_ns % FP_NSEC};
    if (has_left(s))
        return 0;
    if (s->closed_in != 0 && atomic_load_explicit(&s->borrows, memory_order_acquire) == 0) {
        /* On its last steps out of our memory, of which nothing tells. */
        struct timespec pause = {0, timeout_ns < PAUSE_NS ? timeout_ns : PAUSE_NS};
        return fp__sys2(SYS_nanosleep, &pause, NULL);
    }
    /* Not a private one: mm_release() in the kernel's fork.c wakes it as a shared futex. */
    return fp__sys4(SYS_futex, &s->borrows, FUTEX_WAIT, 1, &ts);
}

int fp__birth_failure(struct fp__birth *s, int sig, struct fp_child *child)
{
    /* Before 5.16 a death with a core dump leaves the word as it is; who is dead borrows nothing. */
    fp__birth_left(s);
    fp__birth_over(s);
    hear(s);
    s->undecided = false;
    if (s->report.error == 0 && s->report.stage == FP_STAGE_EXEC)
        return 0;
    return say_failure(&s->report, sig, child);
}

static bool is_dead(const struct fp_child *child)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    long r = fp__look(child->pidfd, child->pid, 0, &info);
    return r == -ECHILD || (r == 0 && info.si_pid != 0);
}

int fp__exec_await(struct fp__birth *s, struct fp_child *child)
{
    int64_t end = 0;
    while (!has_left(s)) { /* the vectors stay: another attempt may follow */
        int64_t now = fp__now();
        if (s->order.until_ns >= 0 && now >= s->order.until_ns) {
            /* It runs no instruction of ours any more, so only the word is its own. */
            fp_signal(child->pidfd, child->pid, SIGKILL);
            return FP_SPAWN_LATE;
        }
        if (end == 0)
            end = now + FP_SLICE_NS;
        else if (now >= end)
            return FP_SPAWN_AGAIN;
        int64_t left = s->order.until_ns >= 0 && s->order.until_ns < end ? s->order.until_ns - now : end - now;
        long r = fp__birth_await(s, left);
        if (r == -EINTR && !has_left(s))
            return FP_SPAWN_AGAIN;
        if (r == -ETIMEDOUT && is_dead(child)) /* before 5.16, with a core dump */
            atomic_store_explicit(&s->borrows, 0, memory_order_relaxed);
    }
    s->undecided = false;
    int r = fp__report_read(s->report, child->pidfd, child->pid, child);
    if (r < 0)
        child->pid = child->pidfd = -1;
    return r;
}

/* Births that nobody waits for, of children that were killed: until the kernel has cleared the word. */
static _Atomic(struct fp__birth *) left_births;

void fp__birth_leave(struct fp__birth *s)
{
    fp__birth_deaf(s);
    if (fp__birth_over(s)) {
        free(s);
        return;
    }
    s->next = atomic_load_explicit(&left_births, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&left_births, &s->next, s))
        ;
}

void fp__births_sweep(void)
{
    if (atomic_load_explicit(&left_births, memory_order_relaxed) == NULL)
        return;
    struct fp__birth *next, *s = atomic_exchange(&left_births, NULL);
    for (; s != NULL; s = next) {
        next = s->next;
        fp__birth_leave(s);
    }
}

#else

void fp__birth_deaf(struct fp__birth *s)
{
    (void)s;
}

void fp__birth_left(struct fp__birth *s)
{
    (void)s;
}

bool fp__birth_over(struct fp__birth *s)
{
    (void)s;
    return true;
}

long fp__birth_await(struct fp__birth *s, int64_t timeout_ns)
{
    (void)s;
    (void)timeout_ns;
    return 0;
}

int fp__birth_failure(struct fp__birth *s, int sig, struct fp_child *child)
{
    (void)s;
    (void)sig;
    (void)child;
    return 0;
}

int fp__exec_await(struct fp__birth *s, struct fp_child *child)
{
    (void)s;
    (void)child;
    return 0;
}

void fp__birth_leave(struct fp__birth *s)
{
    free(s);
}

void fp__births_sweep(void)
{
}

#endif
