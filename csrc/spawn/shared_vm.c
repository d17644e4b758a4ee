/* shared_vm.c: one child that shares the memory of its parent until it executes, by each mechanism that can do so. */
#include "internal.h"

_Thread_local const uint64_t *fp__child_mask;

#if FP_LINUX

int fp__child_undo(struct fp_child *child, int pid, int stage, long error)
{
    fp_signal(-1, pid, SIGKILL);
    fp__reap_before_exec(-1, pid);
    return fp__fail(child, stage, error);
}

/* Returns at once: fp__spawn_reclaim() takes back the memory that the child uses. When the child gets no pidfd, SIGCHLD
 * stays blocked: the caller waits for it. */
int fp__spawn_deferred(struct fp__spawn_state *s, const struct fp_features *features, int cgroup_fd,
                       struct fp_child *child)
{
    int pidfd = -1;
    long r = fp__stack_take(&s->stack);
    if (r < 0)
        return fp__fail(child, FP_STAGE_STACK, r);
    s->report = (struct fp__report){.stage = FP_STAGE_BORN};
    s->context.report = &s->report;
    s->context.sighand_cleared = true;
    s->context.parent_waits = !s->args.deferred;
    uint64_t mask = 0;
    r = fp__mask_block(&mask);
    if (r < 0) {
        fp__stack_give(&s->stack);
        return fp__fail(child, FP_STAGE_MASK, r);
    }
    s->context.parent_mask = fp__inherited_mask(mask);
    const uint64_t sigchld = 1ULL << (SIGCHLD - 1);
    s->no_pidfd = s->args.sigchld_blocked || (s->args.no_pidfd && features->pidfd_open && !(mask & sigchld));
    const struct fp__clone_options options = {
        .stack = &s->stack,
        .cgroup_fd = cgroup_fd,
        .want_pidfd = features->pidfd && !s->no_pidfd,
        .exit_signal = s->no_pidfd ? SIGCHLD : 0, /* nobody else can see it */
        .memory_in_use = &s->memory_in_use,
        .namespaces = s->context.credentials ? s->credentials.namespaces & ~(uint32_t)FP__CLONE_NEWTIME : 0,
    };
    r = FP__TRY(FP_POINT_CLONE, fp__clone(FP_MECHANISM_CLONE3_VM, fp__child_main, &s->context, &options, &pidfd));
    s->no_pidfd = s->no_pidfd && r > 0;
    fp__mask_restore(s->no_pidfd ? mask | sigchld : mask);
    if (r < 0) {
        fp__stack_give(&s->stack);
        return fp__fail(child, FP_STAGE_CLONE, r);
    }
    s->unreclaimed = s->exec_unknown = true;
    child->pidfd = pidfd;
    child->pid = (int)r;
    return FP__DEFERRED;
}

int fp__spawn_shared(struct fp__spawn_state *s, int mechanism, const struct fp_features *features, int cgroup_fd,
                     struct fp_child *child)
{
    struct fp__stack stack;
    struct fp__report *report = &s->report;
    int pidfd = -1;
    /* Not with an OOM score: the kernel gives the score to all processes that share the memory, unless the parent is
     * stopped in vfork. */
    if (mechanism == FP_MECHANISM_CLONE3_VM && !(s->args.attr->flags & FP_ATTR_OOM_SCORE_ADJ)) {
        int born = fp__spawn_deferred(s, features, cgroup_fd, child);
        return born < 0 || s->args.deferred ? born : fp__spawn_await_exec(s, child);
    }
    long r = fp__stack_take(&stack);
    if (r < 0)
        return fp__fail(child, FP_STAGE_STACK, r);
    s->report = (struct fp__report){.stage = FP_STAGE_BORN};
    if (mechanism == FP_MECHANISM_CLONE) {
        report = fp__report_map();
        if ((long)report < 0 && (long)report > -4096) {
            fp__stack_give(&stack);
            return fp__fail(child, FP_STAGE_STACK, (long)report);
        }
        report->stage = FP_STAGE_BORN;
    }
    s->context.report = report;
    s->context.sighand_cleared = mechanism == FP_MECHANISM_CLONE3_VM;
    s->context.parent_waits = true;
    const struct fp__clone_options options = {
        .stack = &stack,
        .cgroup_fd = cgroup_fd,
        .want_pidfd = features->pidfd,
    };
    uint64_t mask = 0;
    int masked = fp__mask_block(&mask);
    s->context.parent_mask = fp__inherited_mask(mask);
    if (masked == 0) {
        r = FP__TRY(FP_POINT_CLONE, fp__clone(mechanism, fp__child_main, &s->context, &options, &pidfd));
        fp__mask_restore(mask);
    }
    struct fp__report received = *(volatile struct fp__report *)report;
    if (mechanism == FP_MECHANISM_CLONE)
        fp__report_unmap(report);
    fp__stack_give(&stack);
    if (masked < 0)
        return fp__fail(child, FP_STAGE_MASK, masked);
    if (r < 0)
        return fp__fail(child, FP_STAGE_CLONE, r);
    int result = fp__report_read(received, pidfd, (int)r, child);
    if (result < 0)
        return result;
    child->pidfd = pidfd;
    child->pid = (int)r;
    return 0;
}

#endif
