/* wait.c: a child's status and usage in one call; its tracer; the subreaper flag. */
#include "internal.h"

#include <sys/resource.h>
#include <sys/wait.h>

static void set_usage(struct fp_usage *usage, const struct rusage *ru)
{
    usage->utime_us = (int64_t)ru->ru_utime.tv_sec * 1000000 + ru->ru_utime.tv_usec;
    usage->stime_us = (int64_t)ru->ru_stime.tv_sec * 1000000 + ru->ru_stime.tv_usec;
#if defined(__APPLE__)
    usage->maxrss = ru->ru_maxrss / 1024;
#else
    usage->maxrss = ru->ru_maxrss;
#endif
    usage->minflt = ru->ru_minflt;
    usage->majflt = ru->ru_majflt;
    usage->inblock = ru->ru_inblock;
    usage->oublock = ru->ru_oublock;
    usage->nvcsw = ru->ru_nvcsw;
    usage->nivcsw = ru->ru_nivcsw;
}

/* Decodes a status as wait(2) encodes it. */
static void set_wait_status(struct fp_status *status, int state, int code)
{
    status->state = state;
    status->core_dumped = 0;
    if (WIFSIGNALED(code)) {
        status->returncode = -WTERMSIG(code);
        status->core_dumped = (code & 0x80) != 0;
    } else {
        status->returncode = WEXITSTATUS(code);
    }
}

#if FP_LINUX

#include <stdio.h>
#include <sys/ioctl.h>

/* struct pidfd_info of 6.15. Older kernels accept this size and do not write the end of it. */
struct pidfd_info {
    uint64_t mask;
    uint64_t cgroupid;
    uint32_t ids[11];
    int32_t exit_code;
};
#define PIDFD_GET_INFO_IOCTL _IOWR(0xFF, 11, struct pidfd_info)
#define PIDFD_INFO_PID_BIT 1
#define PIDFD_INFO_EXIT_BIT 8 /* 6.15 */
#define FP__PR_GET_CHILD_SUBREAPER 37

/* Since 6.15 the kernel keeps the status of a reaped process for the holders of its pidfd. So the status is known
 * although somebody else reaped the child, or SIGCHLD is ignored (GOTCHAS D2). waitid(2) stops finding the child some
 * microseconds before the status is kept, while the other process reaps it; recover() waits for that. */
#define REAPED_TRIES 200

static bool recover(int pidfd, int tries, struct fp_status *status)
{
    int missed = 0;
    for (; tries > 0; tries--) {
        struct pidfd_info info;
        memset(&info, 0, sizeof info);
        info.mask = PIDFD_INFO_PID_BIT | PIDFD_INFO_EXIT_BIT;
        long r = fp__sys3(SYS_ioctl, pidfd, PIDFD_GET_INFO_IOCTL, &info);
        /* The kernel looks up the status first and the process second. For a process that is reaped in between it
         * returns ESRCH, and the status at the next call. 6.13 and 6.14 always return ESRCH. */
        if (r == -ESRCH && missed++ < 3)
            continue;
        if (r < 0)
            return false;
        if (info.mask & PIDFD_INFO_EXIT_BIT) {
            set_wait_status(status, FP_WAIT_RECOVERED, info.exit_code);
            return true;
        }
        struct timespec pause = {0, 50000};
        if (tries > 1)
            fp__sys2(SYS_nanosleep, &pause, NULL);
    }
    return false;
}

int fp_pidfd_status(int pidfd, int reaped, struct fp_status *ret_status)
{
    memset(ret_status, 0, sizeof *ret_status);
    return pidfd >= 0 && recover(pidfd, reaped ? REAPED_TRIES : 1, ret_status);
}

int fp_wait(int pidfd, int pid, int options, struct fp_status *ret_status)
{
    if (pidfd < 0 && pid <= 1)
        return -EINVAL;
    int flags = WEXITED | FP__WALL;
    if (options & FP_WAIT_NOHANG)
        flags |= WNOHANG;
    if (options & FP_WAIT_UNTRACED)
        flags |= WSTOPPED;
    if (options & FP_WAIT_CONTINUE)
        flags |= WCONTINUED;

    siginfo_t info;
    struct rusage ru;
    /* POSIX lets WNOHANG leave it unchanged (GOTCHAS D7). */
    memset(&info, 0, sizeof info);
    long r = pidfd >= 0 ? fp__sys5(SYS_waitid, FP__P_PIDFD, pidfd, &info, flags, &ru)
                        : fp__sys5(SYS_waitid, P_PID, pid, &info, flags, &ru);
    if (r == -EINVAL && pidfd >= 0 && pid > 1) /* waitid(2) takes pidfds since 5.4, clone gives them since 5.2 */
        r = fp__sys5(SYS_waitid, P_PID, pid, &info, flags, &ru);
    if (r == -EAGAIN) { /* a non-blocking pidfd (GOTCHAS D8) */
        ret_status->state = FP_WAIT_RUNNING;
        return 0;
    }
    if (r == -ECHILD) {
        memset(ret_status, 0, sizeof *ret_status);
        if (pidfd < 0 || !recover(pidfd, REAPED_TRIES, ret_status))
            ret_status->state = FP_WAIT_UNKNOWN;
        return 0;
    }
    if (r < 0)
        return (int)r;
    if (info.si_pid == 0) {
        ret_status->state = FP_WAIT_RUNNING;
        return 0;
    }
    ret_status->core_dumped = info.si_code == CLD_DUMPED;
    set_usage(&ret_status->usage, &ru);
    switch (info.si_code) {
    case CLD_EXITED:
        ret_status->state = FP_WAIT_EXITED;
        ret_status->returncode = info.si_status & 0xff;
        break;
    case CLD_KILLED:
    case CLD_DUMPED:
        ret_status->state = FP_WAIT_EXITED;
        ret_status->returncode = -info.si_status;
        break;
    case CLD_CONTINUED:
        ret_status->state = FP_WAIT_CONTINUED;
        ret_status->returncode = info.si_status;
        break;
    default:
        ret_status->state = FP_WAIT_STOPPED;
        ret_status->returncode = info.si_status;
        break;
    }
    return 0;
}

int fp_traced(int pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    int r = fp_proc_check(-1);
    if (r < 0)
        return r;
    long fd = fp__sys4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return (int)fd;
    long n = fp__sys3(SYS_read, fd, text, sizeof text - 1);
    fp__close((int)fd);
    if (n < 0)
        return (int)n;
    text[n] = 0;
    /* The name comes before it, with newlines escaped. TracerPid is 0 for a tracer outside of our PID namespace; the
     * state 't' is shown in any case. */
    const char *tracer = strstr(text, "\nTracerPid:\t");
    return strstr(text, "\nState:\tt") != NULL || (tracer != NULL && tracer[12] != '0');
}

int fp_subreaper(int on)
{
    int was = 0;
    long r = fp__sys5(SYS_prctl, FP__PR_GET_CHILD_SUBREAPER, &was, 0, 0, 0);
    if (r == 0 && (on == 0 || on == 1))
        r = fp__sys5(SYS_prctl, FP__PR_SET_CHILD_SUBREAPER, on, 0, 0, 0);
    return r < 0 ? (int)r : was;
}

#else /* other POSIX systems */

int fp_pidfd_status(int pidfd, int reaped, struct fp_status *ret_status)
{
    (void)pidfd;
    (void)reaped;
    memset(ret_status, 0, sizeof *ret_status);
    return 0;
}

int fp_wait(int pidfd, int pid, int options, struct fp_status *ret_status)
{
    (void)pidfd;
    if (pid <= 1)
        return -EINVAL;
    int flags = 0, code = 0, saved = errno;
    if (options & FP_WAIT_NOHANG)
        flags |= WNOHANG;
    if (options & FP_WAIT_UNTRACED)
        flags |= WUNTRACED;
    if (options & FP_WAIT_CONTINUE)
        flags |= WCONTINUED;
    struct rusage ru;
    int r = wait4(pid, &code, flags, &ru);
    int error = errno;
    errno = saved;
    if (r == 0) {
        ret_status->state = FP_WAIT_RUNNING;
        return 0;
    }
    if (r < 0 && error == ECHILD) {
        memset(ret_status, 0, sizeof *ret_status);
        ret_status->state = FP_WAIT_UNKNOWN;
        return 0;
    }
    if (r < 0)
        return -error;
    set_usage(&ret_status->usage, &ru);
    if (WIFSTOPPED(code)) {
        ret_status->state = FP_WAIT_STOPPED;
        ret_status->returncode = WSTOPSIG(code);
    } else if (WIFCONTINUED(code)) {
        ret_status->state = FP_WAIT_CONTINUED;
        ret_status->returncode = SIGCONT;
    } else {
        set_wait_status(ret_status, FP_WAIT_EXITED, code);
    }
    return 0;
}

int fp_traced(int pid)
{
    (void)pid;
    return -ENOSYS;
}

int fp_subreaper(int on)
{
    (void)on;
    return -ENOSYS;
}

#endif

/* Reaps a child that never executed its program. It blocks, as the kernel may need a moment. Returns the signal that
 * ended the child, or 0. */
int fp__reap_before_exec(int pidfd, int pid)
{
    struct fp_status status;
    int r;
    do
        r = fp_wait(pidfd, pid, 0, &status);
    while (r == -EINTR);
    return r == 0 && status.state != FP_WAIT_UNKNOWN && status.returncode < 0 ? -status.returncode : 0;
}
