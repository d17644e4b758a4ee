/* reported.c: children that report through a pipe: forked children, and all with an identity.
 *
 * Which way a child with an identity takes (fp__spawn_identity()):
 *
 * 1. In the parent's memory, which is closed to the new user meanwhile (shared.c): a run by root that only changes to
 * another user. The fastest way.
 *
 * 2. By the launcher without waiting (spawn_by_launcher()): any other identity in a run, which looks at its child all
 * the time anyway. The report is read when the child has ended.
 *
 * 3. By the launcher, waiting for its report: fp_spawn(), and identities with a user namespace, whose maps the parent
 * has to write while the child waits.
 *
 * 4. By fork: where the launcher cannot be executed, or memory is not really shared.
 *
 * Why the parent never waits in vfork here. From the change of ids until the exec, processes of the new uid may signal
 * the child. One SIGSTOP would hold the parent in vfork until somebody sends SIGCONT. At a pipe the parent can look at
 * the child now and then and continue it (await_report()). */
#include "internal.h"

#if FP_LINUX

#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>

static long make_report_pipe(struct fp__spawn_state *s, int ends[2])
{
    long r = FP__TRY(FP_POINT_REPORT_PIPE, fp__sys2(SYS_pipe2, ends, O_CLOEXEC));
    if (r < 0)
        return r;
    ends[0] = fp__fd_lift(ends[0], 3);
    /* Off every number that a move writes to: otherwise the child overwrites its own way to the parent (GOTCHAS B2). */
    if (fp__is_kept(s->context.keep, s->context.nkeep, ends[1])) {
        int fd = fp__fd_copy_aside(ends[1], s->context.keep, s->context.nkeep);
        fp__close(ends[1]);
        ends[1] = fd;
    }
    if (ends[0] >= 0 && ends[1] >= 0)
        return 0;
    r = ends[0] < 0 ? ends[0] : ends[1];
    fp__close_all(ends, 2);
    return r;
}

/* How often a child that somebody stops before its exec is continued, and how long it may stay stopped. Only its new
 * uid may signal it, from the change of ids until the exec: for some microseconds, unless it is stopped within them. */
#define STOPS_MAX 100
#define LOOK_NS (5 * 1000000LL)

/* Whether a child that reported "about to execute" has executed, where the end of the pipe did not say so: a process
 * that another thread forked while the pipe was open holds a copy of it (GOTCHAS B1). */
static bool has_executed(const struct fp__context *c, int pid)
{
    char path[FP__PROC_PATH];
    struct fp__file_id id;
    if (c->launcher_argv == NULL)
        return false;
    fp__proc_path(path, pid, "exe");
    return fp_proc_check(-1) == 0 && fp__file_id(AT_FDCWD, path, &id) == 0 && !fp__same_file(&id, &c->launcher_id);
}

/* Reads reports until the child has executed or ended. The last record counts; the first may be "about to execute".
 * Returns 0, FP_SPAWN_LATE, or a negative errno with the child in an unknown state. */
static long await_report(const struct fp__spawn_state *s, int fd, int pidfd, int pid, struct fp__report *report)
{
    const struct fp__context *c = &s->context;
    const int64_t until = s->args.until_ns;
    bool gone = false;
    for (int stops = 0; stops <= STOPS_MAX;) {
        struct pollfd look = {.fd = fd, .events = POLLIN};
        struct timespec slice = {0, gone ? 0 : LOOK_NS};
        if (until > 0 && fp__now() >= until)
            return FP_SPAWN_LATE;
        struct fp__report next;
        siginfo_t info;
        long r = fp__sys5(SYS_ppoll, &look, 1, &slice, NULL, 8);
        if (r > 0) {
            r = FP__TRY(FP_POINT_REPORT_READ, fp__sys3(SYS_read, fd, &next, sizeof next));
            if (r == 0)
                return 0;
            if (r == (long)sizeof next)
                *report = next;
            else if (r != -EINTR)
                return r < 0 ? r : -EPROTO;
            continue;
        }
        if (r < 0 && r != -EINTR)
            return r;
        if (gone || (report->stage == FP_STAGE_EXEC && report->error == 0 && has_executed(c, pid)))
            return 0;
        info.si_pid = 0;
        r = fp__look(pidfd, pid, WSTOPPED, &info);
        if (r < 0 && r != -EINTR)
            gone = true; /* somebody reaped it */
        else if (r == 0 && info.si_pid != 0 && info.si_code != CLD_STOPPED && info.si_code != CLD_TRAPPED)
            gone = true;
        else if (r == 0 && info.si_pid != 0) {
            stops++;
            fp_signal(pidfd, pid, SIGCONT);
        }
    }
    return -ETIMEDOUT;
}

/* Prepares what an identity needs besides: with the launcher its arguments, without it memory for the list of
 * groups. */
static long prepare_identity(struct fp__spawn_state *s, bool by_launcher, int *stage)
{
    const struct fp_identity *identity = s->args.identity;
    struct fp__context *c = &s->context;
    c->credentials = &s->credentials;
    c->filter = identity->filter;
    c->groups = (uint32_t *)(uintptr_t)identity->groups; /* the caller's list is only read */
    c->gated = identity->namespaces & FP__CLONE_NEWUSER;
    *stage = FP_STAGE_VECTORS;
    if (!by_launcher) {
        size_t bytes = identity->ngroups * sizeof(uint32_t);
        if (bytes == 0)
            return 0;
        c->groups = s->launcher_block = malloc(2 * bytes);
        if (c->groups == NULL)
            return -ENOMEM;
        memcpy(c->groups, identity->groups, bytes);
        return 0;
    }
    if (c->attr->flags & FP_ATTR_KEEP_SIGMASK)
        fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &c->parent_mask, 8);
    c->parent_mask = fp__inherited_mask(c->parent_mask);
    long r = fp__launcher_arguments(c, &s->launcher_block);
    if (r < 0)
        return r;
    c->launcher_argv = s->launcher_block;
    r = fp__launcher_fd(&c->launcher_id);
    *stage = FP_STAGE_LAUNCHER;
    c->launcher_fd = r < 0 ? -1 : (int)r;
    return r < 0 ? r : 0;
}

/* Does what the child waits for at its gate: writes the maps of its user namespace, which only the parent may do; or,
 * without CLONE_PIDFD, opens its pidfd. With SIGCHLD ignored a child that did not wait could end, be reaped by the
 * kernel, and leave its number to a stranger (GOTCHAS D11). */
static long pass_gate(struct fp__spawn_state *s, const struct fp_features *features, const int gate[2], long pid,
                      int *pidfd, int *stage)
{
    long r = 0;
    *stage = FP_STAGE_PIDFD;
    if (pid > 0 && *pidfd < 0) {
        r = fp__pidfd_open(features, (int)pid);
        *pidfd = r < 0 ? -1 : (int)r;
        r = r < -1 ? r : 0;
    }
    if (r == 0 && pid > 0 && s->context.gated) {
        *stage = FP_STAGE_NAMESPACES;
        r = fp__maps_write(s->args.identity, (int)pid);
        if (r == 0)
            r = fp__sys3(SYS_write, gate[1], "\1", 1);
    }
    return r < 0 ? r : 0;
}

/* Makes one child that reports through a pipe: by fork, or by a clone that shares memory until the launcher executes.
 * This thread waits only where it can also look after a child that is stopped. */
int fp__spawn_reported(struct fp__spawn_state *s, int mechanism, const struct fp_features *features,
                       struct fp_child *child)
{
    const bool by_launcher = mechanism != FP_MECHANISM_FORK_PIPE;
    int ends[2], gate[2] = {-1, -1}, pidfd = -1, stage = FP_STAGE_CLONE;
    struct fp__report report = {.stage = FP_STAGE_BORN};
    struct fp__clone_options options = {.cgroup_fd = -1, .want_pidfd = features->pidfd, .stack = &s->stack};
    long pid = -1, r = make_report_pipe(s, ends);
    if (r < 0)
        return fp__fail(child, FP_STAGE_PIPE, r);
    s->report = report;
    s->context.report = &s->report;
    s->context.report_fd = ends[1];
    s->context.sighand_cleared = mechanism == FP_MECHANISM_CLONE3_VM;
    s->context.parent_waits = true;
    if (s->args.identity) {
        r = prepare_identity(s, by_launcher, &stage);
        options.namespaces = s->args.identity->namespaces & ~(uint32_t)FP__CLONE_NEWTIME;
    }
    if (r == 0 && ((!features->pidfd && features->pidfd_open) || s->context.gated)) {
        stage = FP_STAGE_PIPE;
        r = fp__sys2(SYS_pipe2, gate, O_CLOEXEC);
        memcpy(s->context.gate_fd, gate, sizeof gate);
    }
    if (r == 0 && by_launcher) {
        stage = FP_STAGE_STACK;
        r = fp__stack_take(&s->stack);
        options.memory_in_use = mechanism == FP_MECHANISM_CLONE3_VM ? &s->memory_in_use : NULL;
        atomic_store_explicit(&s->memory_in_use, 0, memory_order_relaxed);
        s->unreclaimed = r == 0;
    }
    if (r < 0) {
        fp__close_all(ends, 2);
        fp__close_all(gate, 2);
        return fp__fail(child, stage, r);
    }
    uint64_t mask = 0;
    int masked = fp__mask_block(&mask);
    s->context.parent_mask = fp__inherited_mask(mask);
    if (masked == 0) {
        pid = FP__TRY(FP_POINT_CLONE, fp__clone(mechanism, fp__child_main, &s->context, &options, &pidfd));
        fp__mask_restore(mask);
    }
    fp__close(ends[1]);
    fp__close_all(&gate[0], 1);
    r = pass_gate(s, features, gate, pid, &pidfd, &stage);
    fp__close_all(&gate[1], 1);
    if (pid > 0 && r == 0) {
        stage = FP_STAGE_REPORT;
        r = await_report(s, ends[0], pidfd, (int)pid, &report);
    }
    fp__close(ends[0]);
    if (pid > 0 && r < 0) {
        if (pidfd >= 0)
            fp__close(pidfd);
        r = fp__child_undo(child, (int)pid, stage, r);
    }
    if (r == FP_SPAWN_LATE) {
        fp_signal(pidfd, (int)pid, SIGKILL);
        child->pidfd = pidfd;
        child->pid = (int)pid;
        return (int)r;
    }
    fp__spawn_child_left(s); /* it executed, or at least the launcher did, or it is dead */
    if (pid < 0)
        return masked < 0 ? fp__fail(child, FP_STAGE_MASK, masked)
                          : fp__fail(child, options.namespaces ? FP_STAGE_NAMESPACES : FP_STAGE_CLONE, pid);
    if (r < 0)
        return (int)r;
    if (by_launcher && report.stage == FP_STAGE_BORN)
        report = s->report; /* it died before it could send a report */
    int result = fp__report_read(report, pidfd, (int)pid, child);
    if (result < 0)
        return result;
    child->pidfd = pidfd;
    child->pid = (int)pid;
    return 0;
}

/* For a run, which looks at its child all the time: the launcher's report is read when the child has ended. */
static int spawn_by_launcher(struct fp__spawn_state *s, const struct fp_features *features, struct fp_child *child)
{
    int ends[2], stage = FP_STAGE_NONE;
    long r = make_report_pipe(s, ends);
    if (r < 0)
        return fp__fail(child, FP_STAGE_PIPE, r);
    s->context.report_fd = ends[1];
    s->context.parent_waits = false;
    r = prepare_identity(s, true, &stage);
    if (r < 0)
        fp__fail(child, stage, r);
    else
        r = fp__spawn_deferred(s, features, -1, child);
    fp__close(ends[1]);
    if (r < 0)
        fp__close(ends[0]);
    else
        s->report_fd = ends[0];
    if (r < 0 && child->stage == FP_STAGE_CLONE && s->credentials.namespaces)
        child->stage = FP_STAGE_NAMESPACES;
    return (int)r;
}

/* For a run by root: the ids change in our memory, which is closed meanwhile. A child that its new user stops holds
 * nobody, as a run looks at its deadline all the time. Returns FP_SPAWN_LATE, which is not an errno, where this way is
 * not possible. */
static int spawn_in_closed_memory(struct fp__spawn_state *s, const struct fp_features *features, struct fp_child *child)
{
    int stage = FP_STAGE_NONE;
    if (!fp__memory_close(s))
        return FP_SPAWN_LATE;
    child->mechanism = FP_MECHANISM_CLONE3_VM;
    s->context.shares_memory = true;
    long r = prepare_identity(s, false, &stage);
    if (r < 0)
        fp__fail(child, stage, r);
    else
        r = fp__spawn_deferred(s, features, -1, child);
    s->child_pid = child->pid;
    if (!s->unreclaimed)
        fp__memory_open(s);
    return (int)r;
}

/* Never in shared memory that is open when the ids change (GOTCHAS G20), and never with a thread that waits in vfork
 * while the new uid can stop the child. */
int fp__spawn_identity(struct fp__spawn_state *s, int mechanism, const struct fp_features *features,
                       struct fp_child *child)
{
    const struct fp_identity *identity = s->args.identity;
    struct fp__context *c = &s->context;
    bool shared = mechanism == FP_MECHANISM_CLONE3_VM ||
                  (mechanism == FP_MECHANISM_CLONE_VM && !(identity->namespaces & FP__CLONE_NEWUSER));
    bool by_launcher = shared && fp__launcher_refused() == 0;
    if (mechanism == FP_MECHANISM_POSIX_SPAWN)
        return fp__fail(child, FP_STAGE_MECHANISM, -ENOTSUP);
    child->mechanism = by_launcher ? FP_MECHANISM_LAUNCHER : FP_MECHANISM_FORK_PIPE;
    c->launcher_argv = NULL;
    c->launcher_fd = -1;
    c->root_fd = identity->root_fd;
    c->ruleset_fd = identity->ruleset_fd;
    if (c->ruleset_fd >= 0 && fp__is_kept(c->keep, c->nkeep, c->ruleset_fd)) {
        int fd = fp__fd_copy_aside(c->ruleset_fd, c->keep, c->nkeep);
        if (fd < 0)
            return fp__fail(child, FP_STAGE_LANDLOCK, fd);
        c->ruleset_fd = s->ruleset_fd = fd;
    }
    bool gated = identity->namespaces & FP__CLONE_NEWUSER;
    bool report_later = s->args.report_later && mechanism == FP_MECHANISM_CLONE3_VM;
    c->shares_memory = false;
    int r = report_later && fp__mechanism_forced() != FP_MECHANISM_LAUNCHER ? spawn_in_closed_memory(s, features, child)
                                                                            : FP_SPAWN_LATE;
    if (r != FP_SPAWN_LATE)
        ;
    else if (by_launcher && report_later && !gated)
        r = spawn_by_launcher(s, features, child);
    else
        r = fp__spawn_reported(s, by_launcher ? mechanism : FP_MECHANISM_FORK_PIPE, features, child);
    if (!s->unreclaimed) {
        free(s->launcher_block);
        s->launcher_block = NULL;
    }
    fp__close_all(&s->ruleset_fd, 1);
    return r;
}

/* Whether another way may be tried. Nothing has changed before the launcher runs: it may be missing, be on a file
 * system without exec, or be refused by a sandbox. */
bool fp__launcher_lost(int r, struct fp_child *child)
{
    if (child->stage != FP_STAGE_LAUNCHER)
        return false;
    if (r == -ESTALE) /* in the child the number was another file's: it is opened again, unless refused */
        return true;
    if (r != -ETXTBSY && r != -ENOENT && r != -EACCES && r != -ENOSYS && r != -EPERM && r != -ENOEXEC &&
        r != -ENOTDIR && r != -ELOOP)
        return false;
    fp__launcher_refuse(-r);
    return true;
}

#endif
