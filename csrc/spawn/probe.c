/* probe.c: finds out what this kernel and sandbox really allow, once, by harmless calls.
 *
 * The errno of a real spawn cannot tell a missing feature from a refused request (EPERM is both). So the choice of a
 * mechanism depends on these trials alone. features.c keeps the answer. */
#include "internal.h"

#if FP_LINUX

#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define UNTRIED 254 /* no errno is that large, and it fits in eight bits */

/* A shortage is not a property of the kernel and must not be remembered (GOTCHAS K2). */
static bool is_shortage(long r)
{
    return r == -EAGAIN || r == -ENOMEM || r == -EMFILE || r == -ENFILE;
}

enum { TRY_CLONE3, TRY_PIDFD_SIGNAL, TRY_PIDFD_OPEN, TRY_CLOSE_RANGE, TRY_COUNT };

/* Each with arguments for which it does nothing. */
static const struct fp__attempt attempts[TRY_COUNT] = {
    [TRY_CLONE3] = {SYS_clone3, {0, 0}},
    [TRY_PIDFD_SIGNAL] = {SYS_pidfd_send_signal, {-1, 0}},
    [TRY_PIDFD_OPEN] = {SYS_pidfd_open, {-1, 0}},
    [TRY_CLOSE_RANGE] = {SYS_close_range, {~0U, 0}},
};

/* Makes some of the calls in a forked child. Returns false when that killed the child. Not in a child that shares
 * memory: before 5.16 the core dump of a SIGSYS ends all processes that share it. */
static bool survives(size_t first, size_t n)
{
    struct fp__attempts some = {attempts + first, n};
    const struct fp__clone_options plain = {.cgroup_fd = -1};
    int pidfd;
    uint64_t mask = 0;
    if (fp__mask_block(&mask) < 0)
        return true;
    long pid = fp__clone(FP_MECHANISM_FORK_PIPE, fp__child_attempt, &some, &plain, &pidfd);
    fp__mask_restore(mask);
    return pid < 0 || fp__reap_before_exec(-1, (int)pid) == 0;
}

/* Returns a bit for each call that this process may try. Under a seccomp filter a call may raise SIGSYS, which kills.
 * So a child tries all of them first, and one by one only when that child died. */
static unsigned find_harmless(void)
{
    unsigned harmless = (1u << TRY_COUNT) - 1;
    if (fp__sys5(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0) != 2 || survives(0, TRY_COUNT))
        return harmless;
    for (size_t i = 0; i < TRY_COUNT; i++) {
        if (!survives(i, 1))
            harmless &= ~(1u << i);
    }
    return harmless;
}

/* Tries the calls on a pidfd, with a child that has ended and was not reaped. Reaps it. */
static void try_pidfd(struct fp_features *f, int pidfd, int pid, unsigned harmless)
{
    f->pidfd = 1;
    f->pidfd_signal = (harmless >> TRY_PIDFD_SIGNAL & 1) && fp__sys4(SYS_pidfd_send_signal, pidfd, 0, 0, 0) == 0;
    siginfo_t info;
    f->pidfd_wait = fp__sys5(SYS_waitid, FP__P_PIDFD, pidfd, &info, WEXITED | FP__WALL, 0) == 0;
    if (!f->pidfd_wait) {
        fp__reap_before_exec(-1, pid);
        return;
    }
    struct fp_status status;
    f->pidfd_info = fp_wait(pidfd, pid, FP_WAIT_NOHANG, &status) == 0 && status.state == FP_WAIT_RECOVERED;
}

/* Returns 0, or a negative errno that says why the mechanism cannot be used here. */
static long try_mechanism(int mechanism, unsigned harmless, struct fp_features *f, bool *shortage)
{
    struct fp__stack stack;
    struct fp__report local = {.alive = 0}, *report = &local;
    long r = 0;

    if (mechanism == FP_MECHANISM_POSIX_SPAWN || mechanism == FP_MECHANISM_FORK_PIPE)
        return 0;
    if (mechanism == FP_MECHANISM_CLONE3_VM && !(harmless >> TRY_CLONE3 & 1))
        return -ENOSYS;
    if (fp__stack_take(&stack) < 0)
        return 0;
    if (mechanism == FP_MECHANISM_CLONE) {
        report = fp__report_map();
        if ((long)report < 0 && (long)report > -4096) {
            fp__stack_give(&stack);
            return 0;
        }
    }
    int pidfd = -1;
    for (int want_pidfd = 1; want_pidfd >= 0; want_pidfd--) {
        uint64_t mask = 0;
        r = fp__mask_block(&mask);
        if (r < 0)
            break;
        const struct fp__clone_options options = {.stack = &stack, .cgroup_fd = -1, .want_pidfd = want_pidfd};
        r = fp__clone(mechanism, fp__child_probe, report, &options, &pidfd);
        fp__mask_restore(mask);
        if (r > 0 || is_shortage(r))
            break;
    }
    if (is_shortage(r)) {
        /* What could not be found out is assumed to work, so that the real call fails with the shortage itself. */
        *shortage = true;
        f->pidfd = f->pidfd_signal = f->pidfd_wait = 1;
    }
    if (r > 0) {
        if (pidfd >= 0 && !f->pidfd_wait)
            try_pidfd(f, pidfd, (int)r, harmless);
        else
            fp__reap_before_exec(-1, (int)r);
        if (pidfd >= 0)
            fp__close(pidfd);
        /* Under valgrind and qemu-user CLONE_VM is a fork: what the child writes does not arrive (GOTCHAS A14). */
        if (*(volatile int32_t *)&report->alive)
            r = 0;
        else
            r = -ENOTSUP;
        if (mechanism != FP_MECHANISM_CLONE)
            f->shared_memory = r == 0;
    }
    if (mechanism == FP_MECHANISM_CLONE)
        fp__report_unmap(report);
    fp__stack_give(&stack);
    return is_shortage(r) ? 0 : r;
}

static void try_calls(struct fp_features *f, unsigned harmless, bool *shortage)
{
    /* A range above every descriptor: it closes nothing. */
    f->close_range = (harmless >> TRY_CLOSE_RANGE & 1) && fp__sys3(SYS_close_range, ~0U - 1, ~0U - 1, 0) == 0;
    if (harmless >> TRY_PIDFD_OPEN & 1) {
        long fd = fp__sys2(SYS_pidfd_open, fp__sys0(SYS_getpid), 0);
        f->pidfd_open = fd >= 0 || is_shortage(fd);
        *shortage |= is_shortage(fd);
        if (fd >= 0)
            fp__close((int)fd);
    }
}

/* Tries the mechanisms, best first. Without `all` it stops at the first that works, as `clone` copies the page tables
 * of the whole process. */
static struct fp_features probe(bool all)
{
    struct fp_features f;
    memset(&f, 0, sizeof f);
    bool shortage = false, found = false, emulated = false;
    unsigned harmless = find_harmless();
    try_calls(&f, harmless, &shortage);
    for (int m = FP_MECHANISM_CLONE3_VM; m <= FP_MECHANISM_FORK_PIPE; m++) {
        if (found && !all) {
            f.refused[m] = UNTRIED;
            continue;
        }
        /* Emulators that emulate CLONE_VM do not know CLONE_VFORK alone (valgrind ends the process). */
        if (m == FP_MECHANISM_CLONE && emulated) {
            f.refused[m] = ENOTSUP;
            continue;
        }
        f.refused[m] = (int32_t)-try_mechanism(m, harmless, &f, &shortage);
        emulated |= f.refused[m] == ENOTSUP;
        found |= f.refused[m] == 0 && m != FP_MECHANISM_POSIX_SPAWN;
    }
    if (!shortage)
        fp__features_keep(&f);
    return f;
}

int fp_probe(int again, struct fp_features *ret_features)
{
    struct fp_features f;
    bool known = fp__features_known(&f);
    for (int m = 1; known && m <= 5; m++)
        known = f.refused[m] != UNTRIED;
    if (again || !known)
        f = probe(true);
    f.refused[FP_MECHANISM_LAUNCHER] = fp__launcher_refused();
    *ret_features = f;
    return 0;
}

int fp__mechanism_choose(struct fp_features *ret_features)
{
    if (!fp__features_known(ret_features))
        *ret_features = probe(false);
    int mechanism = fp__mechanism_forced();
    if (mechanism != FP_MECHANISM_AUTO && mechanism != FP_MECHANISM_LAUNCHER)
        return mechanism;
    /* posix_spawn comes after fork_pipe: on Linux it can do nothing that fork cannot, and much less. */
    for (mechanism = FP_MECHANISM_CLONE3_VM; mechanism <= FP_MECHANISM_CLONE; mechanism++) {
        if (ret_features->refused[mechanism] == 0)
            return mechanism;
    }
    return FP_MECHANISM_FORK_PIPE;
}

/* Called after a clone that failed as a missing feature would. Probes again, since a filter may have been installed
 * later (GOTCHAS K2). Returns true when the mechanism is gone and another has to be chosen. */
bool fp__mechanism_lost(int mechanism)
{
    if (fp__mechanism_forced() != FP_MECHANISM_AUTO)
        return false;
    struct fp_features f = probe(false);
    return f.refused[mechanism] != 0 && f.refused[mechanism] != UNTRIED;
}

#else

int fp_probe(int again, struct fp_features *ret_features)
{
    (void)again;
    memset(ret_features, 0, sizeof *ret_features);
    ret_features->refused[FP_MECHANISM_CLONE3_VM] = ENOSYS;
    ret_features->refused[FP_MECHANISM_CLONE_VM] = ENOSYS;
    ret_features->refused[FP_MECHANISM_CLONE] = ENOSYS;
    ret_features->refused[FP_MECHANISM_FORK_PIPE] = ENOSYS;
    ret_features->refused[FP_MECHANISM_LAUNCHER] = ENOSYS;
    return 0;
}

int fp__mechanism_choose(struct fp_features *ret_features)
{
    int mechanism = fp__mechanism_forced();
    fp_probe(0, ret_features);
    return mechanism != FP_MECHANISM_AUTO ? mechanism : FP_MECHANISM_POSIX_SPAWN;
}

bool fp__mechanism_lost(int mechanism)
{
    (void)mechanism;
    return false;
}

#endif
