/* child.c: the only code that runs between clone and exec, as a table of steps.
 *
 * The child may share its memory with a parent whose other threads continue (clone.c). So there are only inline system
 * calls here: no function of the C library, no errno, no allocation, no lock, and no path lookup except execve(2)'s and
 * those below /proc. A test checks the build for it: the object files of this code refer to no function outside of
 * themselves.
 *
 * The parent has opened and computed everything before the clone; a step reads it from struct fp__context, makes its
 * calls, and returns 0 or a negative errno. The first error ends the child. Its number, its step and a detail are in
 * the report then (report.c). */
#include "internal.h"

#if FP_LINUX

#include <limits.h>

#define FP__PR_SET_PDEATHSIG 1
#define FP__PR_GET_PDEATHSIG 2
#define FP__PR_SET_TIMERSLACK 29
#define FP__TIOCSCTTY 0x540E
#define FP__TIOCSPGRP 0x5410

/* Where clone3 could not place the child in its cgroup: the child writes 0, which means itself, to the cgroup.procs
 * that the parent opened (cgroups(7)). */
static FP__BARE long step_cgroup(struct fp__context *c)
{
    if (c->cgroup_fd < 0)
        return 0;
    long r = fp__sys3(SYS_write, c->cgroup_fd, "0\n", 2);
    return r < 0 ? r : 0;
}

static FP__BARE long set_disposition(uint64_t set, long handler)
{
    for (int sig = 1; set != 0; sig++, set >>= 1) {
        if (!(set & 1))
            continue;
        struct fp__sigaction action = {.handler = (void *)handler, .flags = 0, .restorer = 0, .mask = 0};
        long r = fp__sys4(SYS_rt_sigaction, sig, &action, 0, 8);
        if (r < 0)
            return r;
    }
    return 0;
}

/* A handler of the parent must never run here: it would work on the parent's memory (GOTCHAS A1). clone3 resets the
 * handlers in the kernel. Elsewhere every caught signal, also 32 and 33 of the C library (GOTCHAS A2), is reset here,
 * before the mask opens. Ignored signals survive execve(2) (GOTCHAS A3), so sigdefault names those that Python
 * ignores. */
static FP__BARE long step_signals(struct fp__context *c)
{
    if (!c->sighand_cleared) {
        uint64_t caught = 0;
        for (int sig = 1; sig <= 64; sig++) {
            struct fp__sigaction action;
            if (sig == SIGKILL || sig == SIGSTOP || fp__sys4(SYS_rt_sigaction, sig, 0, &action, 8) < 0)
                continue;
            if (action.handler != (void *)0 && action.handler != (void *)1)
                caught |= 1ULL << (sig - 1);
        }
        long r = set_disposition(caught, 0);
        if (r < 0)
            return r;
    }
    long r = set_disposition(c->attr->sigdefault, 0);
    return r < 0 ? r : set_disposition(c->attr->sigignore, 1);
}

static FP__BARE long step_setsid(struct fp__context *c)
{
    (void)c;
    long r = fp__call(SYS_setsid, 0, 0, 0, 0, 0);
    return r > 0 ? 0 : r < 0 ? r : -FP__NOT_VERIFIED;
}

static FP__BARE long step_setpgid(struct fp__context *c)
{
    return fp__sys2(SYS_setpgid, 0, c->attr->pgid);
}

static FP__BARE long step_ctty(struct fp__context *c)
{
    return fp__sys3(SYS_ioctl, c->attr->ctty_fd, FP__TIOCSCTTY, 0);
}

/* In a background group TIOCSPGRP raises SIGTTOU, which would stop the child and hold the parent: the signal is still
 * blocked here, as the mask opens last (GOTCHAS A6). The terminal is the controlling terminal that was asked for, or
 * what becomes stdin; both still have the parent's numbers. */
static FP__BARE long step_foreground(struct fp__context *c)
{
    int32_t pgrp = (int32_t)fp__sys1(SYS_getpgid, 0);
    return fp__sys3(SYS_ioctl, c->tty_fd, FP__TIOCSPGRP, &pgrp);
}

/* Returns a copy of fd on a number that no move writes to. */
static FP__BARE long copy_aside(struct fp__context *c, int32_t fd)
{
    long copy = 2;
    do
        copy = fp__sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, copy + 1);
    while (copy >= 0 && fp__is_kept(c->keep, c->nkeep, (int32_t)copy));
    return copy;
}

/* Two phases, so that swaps and chains come out right: first a copy of every source that an earlier move overwrites,
 * then the moves in order (GOTCHAS C7). dup3(2) onto the same number is an error, and dup2(2) onto it keeps
 * close-on-exec, so such a move only clears the flag (GOTCHAS C6). */
static FP__BARE long step_fds(struct fp__context *c)
{
    int32_t *const needed[] = {&c->cwd_fd, &c->root_fd, &c->launcher_fd};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (*needed[i] < 0 || !fp__is_kept(c->keep, c->nkeep, *needed[i]))
            continue;
        long r = copy_aside(c, *needed[i]);
        if (r < 0)
            return r;
        *needed[i] = (int32_t)r;
    }
    for (uint32_t i = 0; i < c->nmoves; i++) {
        if (!c->moves[i].lift)
            continue;
        c->report->detail = c->moves[i].to;
        long r = copy_aside(c, c->moves[i].from);
        if (r < 0)
            return r;
        c->moves[i].from = (int32_t)r;
    }
    for (uint32_t i = 0; i < c->nmoves; i++) {
        struct fp__move *move = &c->moves[i];
        c->report->detail = move->to;
        long r = move->from == move->to ? fp__sys3(SYS_fcntl, move->to, F_SETFD, 0)
                                        : fp__sys3(SYS_dup3, move->from, move->to, 0);
        if (r < 0)
            return r;
    }
    c->report->detail = 0;
    return 0;
}

static FP__BARE long step_cwd(struct fp__context *c)
{
    if (c->cwd_fd < 0)
        return 0;
    long r = fp__call(SYS_fchdir, c->cwd_fd, 0, 0, 0, 0);
    return r == 0 && c->credentials && !fp__same_place(c->cwd_fd, ".") ? -FP__NOT_VERIFIED : r;
}

/* By prlimit64(2): the C library's setrlimit synchronises threads on some systems (GOTCHAS A11). */
static FP__BARE long step_rlimits(struct fp__context *c)
{
    for (uint32_t i = 0; i < c->attr->nrlimits; i++) {
        const struct fp_rlimit *limit = &c->attr->rlimits[i];
        uint64_t pair[2] = {limit->soft, limit->hard};
        c->report->detail = (int32_t)i;
        long r = fp__call(SYS_prlimit64, 0, limit->resource, (long)pair, 0, 0);
        if (r == 0 && c->credentials) {
            r = fp__sys4(SYS_prlimit64, 0, limit->resource, 0, pair);
            if (r == 0 && (pair[0] != limit->soft || pair[1] != limit->hard))
                r = -FP__NOT_VERIFIED;
        }
        if (r < 0)
            return r;
    }
    c->report->detail = 0;
    return 0;
}

static FP__BARE long step_nice(struct fp__context *c)
{
    return fp__sys3(SYS_setpriority, 0, 0, c->attr->nice);
}

static FP__BARE long step_scheduler(struct fp__context *c)
{
    int32_t priority = c->attr->sched_priority;
    return fp__sys3(SYS_sched_setscheduler, 0, c->attr->sched_policy, &priority);
}

static FP__BARE long step_affinity(struct fp__context *c)
{
    return fp__sys3(SYS_sched_setaffinity, 0, c->attr->ncpu_words * 8, c->attr->cpus);
}

static FP__BARE long step_ionice(struct fp__context *c)
{
    return fp__sys3(SYS_ioprio_set, 1, 0, c->attr->ionice);
}

/* A child of vfork gets its own value: the kernel looks at vfork_done before it copies the value to all processes that
 * share the memory. */
static FP__BARE long step_oom_score_adj(struct fp__context *c)
{
    char text[8];
    int at = (int)sizeof text;
    int value = c->attr->oom_score_adj;
    unsigned rest = value < 0 ? 0u - (unsigned)value : (unsigned)value;
    do
        text[--at] = (char)('0' + rest % 10);
    while ((rest /= 10) != 0);
    if (value < 0)
        text[--at] = '-';

    long fd = fp__proc_open("/proc/self/oom_score_adj", O_WRONLY);
    if (fd < 0)
        return fd;
    long r = fp__sys3(SYS_write, fd, text + at, (long)sizeof text - at);
    fp__close((int)fd);
    return r < 0 ? r : 0;
}

static FP__BARE long step_timer_slack(struct fp__context *c)
{
    return fp__sys5(SYS_prctl, FP__PR_SET_TIMERSLACK, c->attr->timer_slack_ns, 0, 0, 0);
}

static FP__BARE long step_umask(struct fp__context *c)
{
    fp__call(SYS_umask, c->attr->umask, 0, 0, 0, 0);
    return c->credentials && fp__sys1(SYS_umask, c->attr->umask) != c->attr->umask ? -FP__NOT_VERIFIED : 0;
}

/* Returns the lowest number from `first` on that stays open: a kept one, or one that is needed until the exec. */
static FP__BARE long next_open(struct fp__context *c, long first)
{
    const int32_t needed[] = {c->report_fd, c->launcher_fd, c->ruleset_fd};
    uint32_t at = fp__keep_from(c->keep, c->nkeep, first);
    long next = at < c->nkeep ? c->keep[at] : (long)UINT_MAX + 1;
    for (int i = 0; i < 3; i++) {
        if (needed[i] >= first && needed[i] < next)
            next = needed[i];
    }
    return next;
}

static FP__BARE void close_span(long first, long last)
{
    for (long fd = first; fd <= last; fd++)
        fp__close((int)fd);
}

/* Closes what /proc/self/fd lists. Closing changes the directory while it is read, so it is read again until nothing is
 * found. */
static FP__BARE long close_listed(struct fp__context *c)
{
    char buffer[4096] __attribute__((aligned(8)));
    for (int pass = 0; pass < 64; pass++) {
        long dir = fp__proc_open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
        if (dir < 0)
            return dir;
        bool found = false;
        for (;;) {
            long n = fp__sys3(SYS_getdents64, dir, buffer, sizeof buffer);
            if (n < 0) {
                fp__close((int)dir);
                return n;
            }
            if (n == 0)
                break;
            for (long at = 0; at < n;) {
                struct fp__dirent *entry = (struct fp__dirent *)(buffer + at);
                at += entry->reclen;
                long fd = 0;
                const char *p = entry->name;
                for (; *p >= '0' && *p <= '9'; p++)
                    fd = fd * 10 + (*p - '0');
                if (p == entry->name || *p != 0 || fd == dir || next_open(c, fd) == fd)
                    continue;
                fp__close((int)fd);
                found = true;
            }
        }
        fp__close((int)dir);
        if (!found)
            return 0;
    }
    return -EBUSY;
}

/* Closes everything but the kept numbers, whether close-on-exec or not (GOTCHAS C1, C3, C4). Where close_range(2) is
 * refused (before 5.9, or by a sandbox's filter), closes what is listed, or else counts up to the parent's highest
 * number. Where neither is possible the child does not start. */
static FP__BARE long step_close_fds(struct fp__context *c)
{
    if (c->attr->flags & FP_ATTR_KEEP_FDS)
        return 0;
    long refused = c->has_close_range ? 0 : -ENOSYS;
    for (long first = 0, next; first <= UINT_MAX && refused == 0; first = next + 1) {
        next = next_open(c, first);
        if (next > first)
            refused = fp__sys3(SYS_close_range, first, next - 1, 0);
    }
    if (refused == 0)
        return 0;
    refused = close_listed(c);
    if (refused == 0 || c->highest_fd < 0)
        return refused;
    for (long first = 0, next; first <= c->highest_fd; first = next + 1) {
        next = next_open(c, first);
        close_span(first, next <= c->highest_fd ? next - 1 : c->highest_fd);
    }
    return 0;
}

/* A program that is activated compares LISTEN_PID with its own pid (sd_listen_fds(3)). Nobody knows the pid before: in
 * a new PID namespace it differs from the one that the parent sees. The strings belong to the caller and may be in use
 * by other children; the vector belongs to this child. */
static FP__BARE long step_listen_pid(struct fp__context *c)
{
    static const char name[] = "LISTEN_PID=";
    char **envp = (char **)c->envp;
    char *end = c->listen_pid + sizeof c->listen_pid - 1;
    *end = 0;
    for (long pid = fp__sys0(SYS_getpid); pid > 0; pid /= 10)
        *--end = (char)('0' + pid % 10);
    for (size_t i = sizeof name - 1; i > 0; i--)
        *--end = name[i - 1];
    for (; *envp != NULL; envp++) {
        size_t i = 0;
        while (name[i] != 0 && (*envp)[i] == name[i])
            i++;
        if (name[i] == 0) {
            *envp = end;
            return 0;
        }
    }
    return -EINVAL;
}

/* After every change of ids, which clears it (prctl(2)). If the parent ended before the call, no signal will ever come,
 * and this child must not start (GOTCHAS G19). */
static FP__BARE long step_pdeathsig(struct fp__context *c)
{
    int32_t set = -1;
    long r = fp__call(SYS_prctl, FP__PR_SET_PDEATHSIG, c->attr->pdeathsig, 0, 0, 0);
    if (r < 0)
        return r;
    if (c->credentials && (fp__sys2(SYS_prctl, FP__PR_GET_PDEATHSIG, &set) < 0 || set != c->attr->pdeathsig))
        return -FP__NOT_VERIFIED;
    /* In a new PID namespace the parent has no number. */
    int32_t parent = c->credentials && (c->credentials->namespaces & FP__CLONE_NEWPID) ? 0 : c->parent_pid;
    return fp__sys0(SYS_getppid) == parent ? 0 : -ESRCH;
}

/* execve(2) keeps the flag, and children do not inherit it (prctl(2)). A descendant of the program that loses its
 * parent becomes the program's child, so that it can still be found. */
static FP__BARE long step_subreaper(struct fp__context *c)
{
    (void)c;
    return fp__sys5(SYS_prctl, FP__PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* A stop signal that came during the set-up (Ctrl-Z reaches the whole group) would stop this child as soon as the mask
 * opens, before its exec, and with it a parent that waits for the exec. The child discards it, by ignoring it for a
 * moment, and the parent sends it again when the program runs. */
static FP__BARE long hold_back_stops(struct fp__context *c, uint64_t mask)
{
    const uint64_t stops = 1ULL << (SIGTSTP - 1) | 1ULL << (SIGTTIN - 1) | 1ULL << (SIGTTOU - 1);
    uint64_t pending = 0;
    long r = fp__sys2(SYS_rt_sigpending, &pending, 8);
    if (r < 0)
        return r;
    pending &= stops & ~mask & ~c->attr->sigignore;
    c->report->stops = pending;
    r = set_disposition(pending, 1);
    return r < 0 ? r : set_disposition(pending, 0);
}

static FP__BARE long step_sigmask(struct fp__context *c)
{
    uint64_t mask = c->attr->flags & FP_ATTR_KEEP_SIGMASK ? c->parent_mask : c->attr->sigmask;
    long r = c->parent_waits ? hold_back_stops(c, mask) : 0;
    return r < 0 ? r : fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
}

/* A file without a shebang is not given to /bin/sh (GOTCHAS F2, F9). */
static FP__BARE long step_exec(struct fp__context *c)
{
    long result = -ENOENT;
    int32_t denied = -1;
    fp__send_report(c); /* if the pipe ends without this record, the child died before its exec */
    for (uint32_t i = 0; i < c->npaths; i++) {
        c->report->detail = (int32_t)i;
        result = fp__sys3(SYS_execve, c->paths[i], c->argv, c->envp);
        if (!fp__exec_goes_on(-result))
            return result;
        if (result == -EACCES && denied < 0)
            denied = (int32_t)i;
    }
    if (denied >= 0) {
        c->report->detail = denied;
        return -EACCES;
    }
    return result;
}

#define FP__ATTR_IDENTITY (1U << 31)

struct step {
    int32_t stage;
    uint32_t flag; /* the FP_ATTR_ bit that asks for it, or FP__ATTR_IDENTITY; 0: always */
    long (*run)(struct fp__context *);
};

/* The kernel's rules force the order (GOTCHAS G2). Namespaces come first, as they decide what later steps mean. No file
 * is opened after chroot, not even below /proc. close_range comes before a filter that could refuse it; the bounding
 * set while there still is CAP_SETPCAP; a keyring while it counts against the parent's quota; then groups, gid, uid in
 * this order, as each takes away the right to the one before. Capabilities follow the uid, which clears them, and the
 * ambient set follows these. PDEATHSIG follows everything that clears it. Landlock and seccomp come when no_new_privs
 * allows them. Where there is a launcher, it runs the rows from LAUNCHER on, in its own memory. */
static const struct step steps[] = {
    {FP_STAGE_CGROUP, 0, step_cgroup},
    {FP_STAGE_SIGNALS, 0, step_signals},
    {FP_STAGE_SETSID, FP_ATTR_SETSID, step_setsid},
    {FP_STAGE_SETPGID, FP_ATTR_PGID, step_setpgid},
    {FP_STAGE_CTTY, FP_ATTR_CTTY, step_ctty},
    {FP_STAGE_FOREGROUND, FP_ATTR_FOREGROUND, step_foreground},
    {FP_STAGE_FDS, 0, step_fds},
    {FP_STAGE_NAMESPACES, FP__ATTR_IDENTITY, fp__step_namespaces},
    {FP_STAGE_OOM_SCORE_ADJ, FP_ATTR_OOM_SCORE_ADJ, step_oom_score_adj},
    {FP_STAGE_CHROOT, FP__ATTR_IDENTITY, fp__step_chroot},
    {FP_STAGE_CWD, 0, step_cwd},
    {FP_STAGE_NICE, FP_ATTR_NICE, step_nice},
    {FP_STAGE_SCHEDULER, FP_ATTR_SCHEDULER, step_scheduler},
    {FP_STAGE_AFFINITY, FP_ATTR_AFFINITY, step_affinity},
    {FP_STAGE_IONICE, FP_ATTR_IONICE, step_ionice},
    {FP_STAGE_TIMER_SLACK, FP_ATTR_TIMER_SLACK, step_timer_slack},
    {FP_STAGE_UMASK, FP_ATTR_UMASK, step_umask},
    {FP_STAGE_CLOSE_FDS, 0, step_close_fds},
    {FP_STAGE_LISTEN_PID, FP_ATTR_LISTEN_PID, step_listen_pid},
    {FP_STAGE_LAUNCHER, FP__ATTR_IDENTITY, fp__step_launcher},
    {FP_STAGE_LAUNCHER, FP__ATTR_IDENTITY, fp__step_in_launcher},
    {FP_STAGE_RLIMITS, 0, step_rlimits},
    {FP_STAGE_SECUREBITS, FP__ATTR_IDENTITY, fp__step_securebits},
    {FP_STAGE_BOUNDING, FP__ATTR_IDENTITY, fp__step_bounding},
    {FP_STAGE_KEYRING, FP__ATTR_IDENTITY, fp__step_keyring},
    {FP_STAGE_GROUPS, FP__ATTR_IDENTITY, fp__step_groups},
    {FP_STAGE_GID, FP__ATTR_IDENTITY, fp__step_gid},
    {FP_STAGE_UID, FP__ATTR_IDENTITY, fp__step_uid},
    {FP_STAGE_CAPABILITIES, FP__ATTR_IDENTITY, fp__step_capabilities},
    {FP_STAGE_AMBIENT, FP__ATTR_IDENTITY, fp__step_ambient},
    {FP_STAGE_LOCKS, FP__ATTR_IDENTITY, fp__step_locks},
    {FP_STAGE_VERIFY_IRREVOCABLE, FP__ATTR_IDENTITY, fp__step_verify_irrevocable},
    {FP_STAGE_PDEATHSIG, FP_ATTR_PDEATHSIG, step_pdeathsig},
    {FP_STAGE_SUBREAPER, FP_ATTR_SUBREAPER, step_subreaper},
    {FP_STAGE_NO_NEW_PRIVS, FP_ATTR_NO_NEW_PRIVS, fp__step_no_new_privs},
    {FP_STAGE_LANDLOCK, FP__ATTR_IDENTITY, fp__step_landlock},
    {FP_STAGE_SECCOMP, FP__ATTR_IDENTITY, fp__step_seccomp},
    {FP_STAGE_SIGMASK, 0, step_sigmask},
    {FP_STAGE_EXEC, 0, step_exec},
};
#define NSTEPS (sizeof steps / sizeof steps[0])

static FP__BARE long run_step(struct fp__context *c, const struct step *step)
{
    if (step->flag == FP__ATTR_IDENTITY ? c->credentials == NULL : step->flag && !(c->attr->flags & step->flag))
        return 0;
    c->report->stage = step->stage;
#ifdef FP_FAULTS
    if (fp__fault.point == step->stage && --fp__fault.nth == 0) {
        int error = fp__fault.error; /* while this child is stopped, another fault may be armed */
        fp__fault.hits++;
        if (error < 0)
            fp__sys2(SYS_kill, fp__sys0(SYS_getpid), -error);
        if (error == -SIGSTOP) /* somebody has continued it */
            return step->run(c);
        return -error;
    }
#endif
    return step->run(c);
}

#ifdef FP_FAULTS
/* Runs the table in a wrong order, which the tests must notice (fp_fault_order()). */
static FP__BARE long run_moved(struct fp__context *c, int32_t stage)
{
    for (size_t i = 0; i < NSTEPS; i++) {
        if (steps[i].stage == stage)
            return run_step(c, &steps[i]);
    }
    return 0;
}

static FP__BARE long run_row(struct fp__context *c, const struct step *step)
{
    long error = 0;
    if (fp__fault.moved == 0)
        return run_step(c, step);
    if (step->stage == fp__fault.moved)
        return 0;
    if (step->stage == fp__fault.other && !fp__fault.after)
        error = run_moved(c, fp__fault.moved);
    if (error == 0)
        error = run_step(c, step);
    if (error == 0 && step->stage == fp__fault.other && fp__fault.after)
        error = run_moved(c, fp__fault.moved);
    return error;
}
#else
#define run_row run_step
#endif

static FP__BARE void run_steps(struct fp__context *c, size_t i, long error)
{
    for (; i < NSTEPS && error == 0; i++)
        error = run_row(c, &steps[i]);
    c->report->error = (int32_t)-error;
    fp__send_report(c);
    for (;;)
        fp__sys1(SYS_exit_group, 127);
}

FP__BARE int fp__child_main(void *context)
{
    struct fp__context *c = context;
    long error = 0;
    c->report->alive = 1;
    if (c->gate_fd[0] >= 0) {
        if (c->gated)
            c->report->stage = FP_STAGE_NAMESPACES;
        error = fp__step_gate(c);
    }
    run_steps(c, 0, error);
    return 0;
}

FP__BARE void fp__child_finish(struct fp__context *c)
{
    size_t i = 0;
    while (steps[i++].stage != FP_STAGE_LAUNCHER)
        ;
    run_steps(c, i, 0);
}

/* The probe's child: shows that it runs, in memory that is shared or only seems to be. */
FP__BARE int fp__child_probe(void *report)
{
    ((volatile struct fp__report *)report)->alive = 1;
    for (;;)
        fp__sys1(SYS_exit_group, 0);
}

/* Makes calls that a filter may answer by killing the caller, in a child that can be lost. */
FP__BARE int fp__child_attempt(void *attempts)
{
    const struct fp__attempts *a = attempts;
    for (size_t i = 0; i < a->n; i++)
        fp__sys2(a->list[i].nr, a->list[i].args[0], a->list[i].args[1]);
    for (;;)
        fp__sys1(SYS_exit_group, 0);
}

#endif
