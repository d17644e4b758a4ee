/* launcher.c: a small program that runs the identity steps of a child in its own memory, and then executes what was
 * asked for.
 *
 * Why it exists. A child that shares memory with its parent must not change its uid: the kernel then clears the
 * parent's dumpable flag forever, and a parent that sets it again opens its memory to the new uid (GOTCHAS G20). A fork
 * has its own memory, but copies the page tables of the whole process. So the child executes this program first, still
 * as the parent's user: from then on it has a few pages of its own, and until the steps are done only the parent's user
 * and root can touch it.
 *
 * How it works. It is the second half of the step table: made of child.c, identity.c and report.c, it runs the rows
 * after LAUNCHER. Its first arguments describe what to do (struct fp__launcher_message, the list of groups, the seccomp
 * filter, as letters), followed by the paths and the arguments of the program. It reports through a pipe (report.c). It
 * has no C library: a few pages are all that is executed.
 *
 * What is checked before it is executed, as it gets all privileges of the caller: the file is the one that was there
 * when the extension was loaded (inode and device), only root or the caller's user can write to it (launcher_check() in
 * credentials.c), and the descriptor is still that file in the child (fp__step_launcher()). What it checks itself: that
 * its arguments are whole. And it drops at once what execve(2) may have added to the parent's capabilities
 * (fp__step_in_launcher()). */
#include "internal.h"

#if FP_LINUX

#ifdef FP_FAULTS
struct fp__fault fp__fault;
#endif

/* The compiler may call these two to copy structs. */
void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    char *t = to;
    const char *f = from;
    while (n-- > 0)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int value, size_t n);
void *memset(void *to, int value, size_t n)
{
    for (char *t = to; n-- > 0;)
        *t++ = (char)value;
    return to;
}

static _Noreturn void leave(int code)
{
    for (;;)
        fp__sys1(SYS_exit_group, code);
}

/* Negative for every character but 'a' to 'p'. */
static int letter(char c)
{
    return c <= 'p' ? c - 'a' : -1;
}

/* Turns two letters into one byte, in place, as the result is shorter. Returns the number of bytes, or -1. */
static long decode(const char *from, char *to)
{
    long n = 0;
    for (; from[0]; from += 2, n++) {
        int high = letter(from[0]), low = letter(from[1]);
        if (high < 0 || low < 0)
            return -1;
        to[n] = (char)(high << 4 | low);
    }
    return n;
}

_Noreturn void fp__launcher_main(long *stack);
_Noreturn void fp__launcher_main(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)(stack + 1), **envp = argv + argc + 1;
    struct fp__launcher_message message;
    struct fp__report report = {.stage = FP_STAGE_LAUNCHER};
    if (argc < 1) /* mutate: equivalent; since Linux 5.18 there is an empty argument */
        leave(126);
    char *text = argv[0];
    long n = decode(text, text);
    if (n < (long)sizeof message)
        leave(126);
    memcpy(&message, text, sizeof message);
    if (message.size != sizeof message || (uint64_t)message.chunks + message.npaths >= (uint64_t)argc ||
        message.chunks == 0 || message.npaths == 0)
        leave(126);
    for (uint32_t i = 1; i < message.chunks; i++) {
        long more = decode(argv[i], text + n);
        if (more < 0)
            leave(126);
        n += more;
    }
    if (n != (long)(sizeof message + message.credentials.nfilter * 8UL + message.credentials.ngroups * 4UL))
        leave(126);
    struct fp__context c;
    memset(&c, 0, sizeof c);
    c.attr = &message.attr;
    c.credentials = &message.credentials;
    c.filter = (const uint64_t *)(text + sizeof message);
    c.groups = (uint32_t *)(text + sizeof message + message.credentials.nfilter * 8UL);
    c.paths = (const char *const *)(argv + message.chunks);
    c.npaths = message.npaths;
    c.argv = argv + message.chunks + message.npaths;
    c.envp = envp;
    c.cwd_fd = c.root_fd = c.cgroup_fd = c.gate_fd[0] = c.gate_fd[1] = -1;
    c.launcher_fd = FP__IN_LAUNCHER;
    c.report_fd = message.report_fd;
    c.ruleset_fd = message.ruleset_fd;
    c.parent_pid = message.parent_pid;
    c.parent_waits = message.parent_waits;
    c.parent_mask = message.parent_mask;
    c.report = &report;
#ifdef FP_FAULTS
    memcpy(&fp__fault, message.fault, sizeof fp__fault);
#endif
    if (fp__sys3(SYS_fcntl, c.report_fd, F_SETFD, FD_CLOEXEC) < 0)
        leave(126);
    fp__child_finish(&c);
    leave(126);
}

#if defined(__x86_64__)
__asm__(".text\n.globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall "
        "fp__launcher_main\n\thlt\n");
#else
__asm__(
    ".text\n.globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tbl fp__launcher_main\n\tbrk #1\n");
#endif

#endif
