/* clone.c: one child on a stack of its own, by each of the raw mechanisms; the stacks; the shared report page. */
#include "internal.h"

#if FP_LINUX

#include <sched.h>
#include <sys/mman.h>

/* The child needs some hundred bytes of stack, plus a page for close_range's fallback; a sanitizer build needs more. */
#define STACK_SIZE (64 * 1024)
#define STACK_GUARD (64 * 1024) /* a whole page on kernels with 64 KiB pages too */
#define STACK_CACHE 8

/* Every signal, 32 and 33 too, which pthread_sigmask leaves out: a handler that runs in the child would work on the parent's
 * memory (GOTCHAS A1, A2). *ret_mask is what to restore. */
int fp__mask_block(uint64_t *ret_mask)
{
    uint64_t all = ~0ULL;
    return (int)FP__TRY(FP_POINT_MASK, fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, ret_mask, 8));
}

void fp__mask_restore(uint64_t mask)
{
    fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
}

/* Unused stacks, so that a spawn costs no mmap, munmap and page faults. At most STACK_CACHE stay mapped. */
static _Atomic(char *) stack_cache[STACK_CACHE];

int fp__stack_take(struct fp__stack *ret_stack)
{
    char *base = NULL;
    for (int i = 0; i < STACK_CACHE && base == NULL; i++) {
        if (atomic_load_explicit(&stack_cache[i], memory_order_relaxed) != NULL)
            base = atomic_exchange(&stack_cache[i], NULL);
    }
#ifdef FP_FAULTS
    if (base != NULL && (fp__fault.point == FP_POINT_STACK || fp__fault.point == FP_POINT_STACK_GUARD)) {
        munmap(base, STACK_GUARD + STACK_SIZE);
        base = NULL;
    }
#endif
    if (base == NULL) {
        long r = FP__TRY(FP_POINT_STACK, fp__sys6(SYS_mmap, 0, STACK_GUARD + STACK_SIZE, PROT_NONE,
                                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0));
        if (r < 0 && r > -4096)
            return (int)r;
        base = (char *)r;
        r = FP__TRY(FP_POINT_STACK_GUARD,
                    fp__sys3(SYS_mprotect, base + STACK_GUARD, STACK_SIZE, PROT_READ | PROT_WRITE));
        if (r < 0) {
            fp__sys2(SYS_munmap, base, STACK_GUARD + STACK_SIZE);
            return (int)r;
        }
    }
    ret_stack->base = base;
    ret_stack->top = base + STACK_GUARD + STACK_SIZE;
    return 0;
}

void fp__stack_give(struct fp__stack *stack)
{
    for (int i = 0; i < STACK_CACHE; i++) {
        char *empty = NULL;
        if (atomic_compare_exchange_strong(&stack_cache[i], &empty, stack->base))
            return;
    }
    fp__sys2(SYS_munmap, stack->base, STACK_GUARD + STACK_SIZE);
}

/* Made anew for each spawn: a page kept for the next one would be shared with every forked copy of this process. */
struct fp__report *fp__report_map(void)
{
    long r = FP__TRY(FP_POINT_REPORT_PAGE, fp__sys6(SYS_mmap, 0, sizeof(struct fp__report), PROT_READ | PROT_WRITE,
                                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return (struct fp__report *)r;
}

void fp__report_unmap(struct fp__report *report)
{
    fp__sys2(SYS_munmap, report, sizeof *report);
}

/* clone3 with CLONE_VM cannot go through syscall(3): the child would return over the parent's frame (GOTCHAS A8). Here the
 * child wakes on its own stack, calls fn and never comes back. */
static long clone3_call(struct fp__clone_args *args, size_t size, int (*fn)(void *), void *arg)
{
#if defined(__x86_64__)
    long ret;
    register int (*r8)(void *) __asm__("r8") = fn;
    register void *r9 __asm__("r9") = arg;
    __asm__ volatile("syscall\n\t"
                     "testq %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xorl %%ebp, %%ebp\n\t"
                     "movq %%r9, %%rdi\n\t"
                     "callq *%%r8\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(ret)
                     : "a"((long)SYS_clone3), "D"(args), "S"(size), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory", "cc");
    return ret;
#else
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = (long)size;
    register int (*x9)(void *) __asm__("x9") = fn;
    register void *x10 __asm__("x10") = arg;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, #0\n\t"
                     "mov x30, #0\n\t"
                     "mov x0, x10\n\t"
                     "blr x9\n\t"
                     "brk #1\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x9), "r"(x10)
                     : "memory", "cc");
    return x0;
#endif
}

/* The pid, or a negative errno. The exit signal is none unless asked for: a child that dies before exec raises no SIGCHLD and is
 * not seen by a stranger's waitpid(-1); execve sets it to SIGCHLD (GOTCHAS B3). fork_pipe's child may outlive this call, so it
 * has SIGCHLD from the start. *ret_pidfd is -1 where the kernel gives none.
 *
 * With `memory_in_use` the caller goes on at once. What CLONE_VFORK would tell by waking it, that the child uses its
 * memory no more, CLONE_CHILD_CLEARTID says in the word `memory_in_use`: the kernel clears it and wakes its futex in the same place
 * (mm_release(), at exec and at death). So a run spends no wake-up and no switch back to the parent on the exec, and a wait for
 * it can be ended by a signal or a deadline, which vfork's cannot. */
long fp__clone(int mechanism, int (*fn)(void *), void *arg, const struct fp__clone_options *options, int *ret_pidfd)
{
    *ret_pidfd = -1;
    uint64_t flags = (options->want_pidfd ? CLONE_PIDFD : 0) | options->namespaces;
    long pid;
    switch (mechanism) {
    case FP_MECHANISM_CLONE3_VM: {
        struct fp__clone_args args = {
            .flags = flags | CLONE_VM | FP__CLONE_CLEAR_SIGHAND,
            .pidfd = (uintptr_t)ret_pidfd,
            .exit_signal = (uint64_t)options->exit_signal,
            .stack = (uintptr_t)options->stack->base + STACK_GUARD,
            .stack_size = STACK_SIZE,
        };
        if (options->memory_in_use != NULL) {
            atomic_store_explicit(options->memory_in_use, 1, memory_order_relaxed);
            args.flags |= CLONE_CHILD_CLEARTID;
            args.child_tid = (uintptr_t)options->memory_in_use;
        } else {
            args.flags |= CLONE_VFORK;
        }
        if (options->cgroup_fd >= 0) {
            args.flags |= FP__CLONE_INTO_CGROUP;
            args.cgroup = (uint64_t)options->cgroup_fd;
        }
        return clone3_call(&args, options->cgroup_fd >= 0 ? FP__CLONE_ARGS_V2 : FP__CLONE_ARGS_V0, fn, arg);
    }
    case FP_MECHANISM_CLONE_VM:
    case FP_MECHANISM_CLONE: {
        int saved = errno;
        if (mechanism == FP_MECHANISM_CLONE_VM)
            flags |= CLONE_VM;
        pid = clone(fn, options->stack->top, (int)(flags | CLONE_VFORK), arg, ret_pidfd);
        if (pid < 0)
            pid = -errno;
        errno = saved;
        return pid;
    }
    case FP_MECHANISM_FORK_PIPE:
        /* A plain fork by the raw call: no handlers of pthread_atfork, no locks of the C library. */
        pid = fp__sys5(SYS_clone, flags | SIGCHLD, 0, ret_pidfd, 0, 0);
        if (pid == 0)
            fn(arg);
        return pid;
    default:
        return -EINVAL;
    }
}

#endif
