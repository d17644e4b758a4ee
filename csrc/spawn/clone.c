/* clone.c: one child on its own stack, by each raw mechanism; the stacks; the shared report page.
 *
 * Why the memory is shared. fork(2) copies the page tables of the parent, which takes milliseconds in a large process
 * and fails where memory may not be overcommitted. A child that only sets itself up and executes needs no copy. So the
 * child gets CLONE_VM, as with vfork(2).
 *
 * What it shares and what it does not. Memory is shared; the parent's other threads continue to use it, and without
 * CLONE_VFORK the calling thread does too. The descriptor table, the signal handlers, the directory and the umask are
 * copies (no CLONE_FILES, CLONE_SIGHAND, CLONE_FS), so the child can change them freely. The rules for the child follow
 * from that:
 *
 * 1. It runs on its own stack, with a guard page below.
 *
 * 2. It must not run a signal handler: that would be the parent's code, working on the parent's memory as if it were
 * the parent. Every signal is blocked before the clone, 32 and 33 of the C library too, and all handlers are reset
 * before the mask opens again: by the kernel (CLONE_CLEAR_SIGHAND), or by the child itself (GOTCHAS A1, A2).
 *
 * 3. It has the thread pointer of the calling thread, so errno and every lock of the C library are the parent's. The
 * child therefore makes inline system calls only (child.c); a lock that another thread holds would never be released
 * for it.
 *
 * 4. It must not return: the frames above it belong to the parent (GOTCHAS A8).
 *
 * 5. It must not change its uid, as the kernel judges access to the shared memory by it (shared.c, launcher.c). */
#include "internal.h"

#if FP_LINUX

#include <sched.h>
#include <sys/mman.h>

/* The child needs some hundred bytes of stack, and a page for the fallback of close_range(2). A sanitizer build needs
 * more. */
#define STACK_SIZE (64 * 1024)
#define STACK_GUARD (64 * 1024) /* at least one page, also with pages of 64 KiB */
#define STACK_CACHE 8

/* Blocks every signal, also 32 and 33, which pthread_sigmask(3) leaves out: see above. *ret_mask is the mask to
 * restore. */
int fp__mask_block(uint64_t *ret_mask)
{
    uint64_t all = ~0ULL;
    return (int)FP__TRY(FP_POINT_MASK, fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, ret_mask, 8));
}

void fp__mask_restore(uint64_t mask)
{
    fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
}

/* Unused stacks: reusing one saves mmap(2), munmap(2) and the page faults. At most STACK_CACHE stay mapped. */
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

/* A new page for each spawn: a page kept for the next one would be shared with every forked copy of this process. */
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

/* clone3 with CLONE_VM cannot go through syscall(3): the child would return into the parent's frame (GOTCHAS A8). Here
 * the child wakes on its own stack, calls fn, and never returns. */
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

/* Returns the pid, or a negative errno. *ret_pidfd is -1 where the kernel gives none.
 *
 * The child has no exit signal unless options->exit_signal asks for one: a child that dies before exec then raises no
 * SIGCHLD, and no stranger's waitpid(-1) sees it; execve(2) sets the signal to SIGCHLD (GOTCHAS B3). The child of
 * fork_pipe may outlive this call, so it has SIGCHLD from the start.
 *
 * With options->memory_in_use the caller continues at once: spawn_state.c. */
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
        /* A fork by the raw call: it runs no pthread_atfork(3) handler and takes no lock of the C library. */
        pid = fp__sys5(SYS_clone, flags | SIGCHLD, 0, ret_pidfd, 0, 0);
        if (pid == 0)
            fn(arg);
        return pid;
    default:
        return -EINVAL;
    }
}

#endif
