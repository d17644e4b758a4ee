/* hostile: a library for the tests that puts a host process into awkward states: handlers that must not run in a child,
 * thieves of exit statuses, filters that refuse system calls, process numbers used a second time.
 *
 * Loaded with ctypes, in processes made for it. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* In shared memory: a handler that runs in a child with memory of its own must be seen too. */
struct counts {
    volatile uint64_t here;
    volatile uint64_t foreign;
    volatile uint64_t stolen;
};
static struct counts *counts;
static long home;

static void make_counts(void)
{
    if (counts == NULL)
        counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    home = syscall(SYS_getpid);
}

static void on_count(int sig)
{
    (void)sig;
    if (syscall(SYS_getpid) == home)
        __atomic_fetch_add(&counts->here, 1, __ATOMIC_SEQ_CST);
    else
        __atomic_fetch_add(&counts->foreign, 1, __ATOMIC_SEQ_CST);
}

int hostile_count(int sig)
{
    struct sigaction action = {.sa_handler = on_count, .sa_flags = SA_RESTART};
    make_counts();
    return sigaction(sig, &action, NULL);
}

uint64_t hostile_here(void)
{
    return counts->here;
}

uint64_t hostile_foreign(void)
{
    return counts->foreign;
}

uint64_t hostile_stolen(void)
{
    return counts->stolen;
}

static void on_child(int sig)
{
    (void)sig;
    int saved = errno;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        __atomic_fetch_add(&counts->stolen, 1, __ATOMIC_SEQ_CST);
    errno = saved;
}

/* A handler that takes every child's status away. */
int hostile_steal(void)
{
    struct sigaction action = {.sa_handler = on_child, .sa_flags = SA_RESTART};
    make_counts();
    return sigaction(SIGCHLD, &action, NULL);
}

/* Every signal but those that cannot have one gets a handler. */
int hostile_catch_all(void)
{
    struct sigaction action = {.sa_handler = on_count, .sa_flags = SA_RESTART};
    make_counts();
    for (int sig = 1; sig <= 64; sig++) {
        if (sig == SIGKILL || sig == SIGSTOP || sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE ||
            sig == 32 || sig == 33)
            continue;
        if (sigaction(sig, &action, NULL) < 0)
            return -errno;
    }
    return 0;
}

int hostile_nocldwait(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
    return sigaction(SIGCHLD, &action, NULL);
}

/* The real dispositions and mask, as the kernel holds them: sigaction(3) refuses to tell of 32 and 33. */
struct kernel_sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

int hostile_dispositions(uint64_t *handlers)
{
    for (int sig = 1; sig <= 64; sig++) {
        struct kernel_sigaction action;
        memset(&action, 0, sizeof action);
        if (syscall(SYS_rt_sigaction, sig, NULL, &action, 8) < 0)
            return -errno;
        handlers[sig - 1] = (uint64_t)(uintptr_t)action.handler ^ (action.mask << 1) ^ action.flags;
    }
    return 0;
}

uint64_t hostile_mask(void)
{
    uint64_t mask = 0;
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, 8);
    return mask;
}

/* Interval timer of real time: survives exec, not clone. */
int hostile_itimer_ms(int ms)
{
    struct itimerval value = {.it_value = {ms / 1000, ms % 1000 * 1000}};
    return setitimer(ITIMER_REAL, &value, NULL);
}

void hostile_errno_set(int value)
{
    errno = value;
}

int hostile_errno(void)
{
    return errno;
}

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

/* From now on call nr gives error; with arg >= 0 only where the lower half of that argument is value. For this thread and its
 * children, for ever. error 0: the call kills the process (SIGSYS). error < 0: the call answers 0 without having acted. */
int hostile_refuse(int nr, int error, int arg, uint32_t value)
{
    uint32_t verdict = error == 0 ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | (uint32_t)(error < 0 ? 0 : error);
    uint32_t offset = (uint32_t)(offsetof(struct seccomp_data, args) + 8 * (size_t)(arg < 0 ? 0 : arg));
    struct sock_filter with_arg[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, verdict),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_filter plain[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, verdict),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = arg >= 0 ? (struct sock_fprog){sizeof with_arg / sizeof *with_arg, with_arg}
                                         : (struct sock_fprog){sizeof plain / sizeof *plain, plain};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        return -errno;
    return 0;
}

/* A child with this number, which sleeps until it is killed; needs CAP_SYS_ADMIN in the PID namespace. */
int hostile_spawn_pid(int want)
{
    int32_t tid[1] = {want};
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.exit_signal = SIGCHLD;
    args.set_tid = (uint64_t)(uintptr_t)tid;
    args.set_tid_size = 1;
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        for (;;)
            pause();
    }
    return pid < 0 ? -errno : (int)pid;
}

/* Like hostile_spawn_pid(), but easy to hit: it blocks every signal, so that each one sent stays pending, and leads a group that
 * has a child of it. */
int hostile_stranger(int want)
{
    uint64_t all = ~0ULL, before;
    int32_t tid[1] = {want};
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.exit_signal = SIGCHLD;
    args.set_tid = (uint64_t)(uintptr_t)tid;
    args.set_tid_size = 1;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, 8);
    long pid = syscall(SYS_clone3, &args, sizeof args);
    int error = errno;
    if (pid == 0) {
        setpgid(0, 0);
        if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) == 0)
            prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        for (;;)
            pause();
    }
    if (pid > 0)
        setpgid((pid_t)pid, (pid_t)pid);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, 8);
    return pid < 0 ? -error : (int)pid;
}
