/* pidfd.c: the pidfds of children, and signals that cannot reach a stranger.
 *
 * A pid may be reused as soon as the process was reaped. Two things make a signal safe: a pidfd, which names one
 * process for as long as it is open; or a child of ours that was not reaped yet, as until then nobody else can have its
 * number. Where neither holds, no signal is sent. */
#include "internal.h"

#include <sys/wait.h>

#if FP_LINUX

#define FP__PIDFD_SIGNAL_PROCESS_GROUP 4 /* 6.9 */

/* Opens the pidfd that clone did not give. Afterwards the process must still be an unreaped child of ours: when SIGCHLD
 * is ignored, or somebody else reaps, a stranger could have got the number in between. */
long fp__pidfd_open(const struct fp_features *features, int pid)
{
    if (!features->pidfd_open)
        return -1;
    long r = FP__TRY(FP_POINT_PIDFD, fp__sys2(SYS_pidfd_open, pid, 0));
    siginfo_t info;
    if (r >= 0 &&
        fp__sys5(SYS_waitid, FP__P_PIDFD, r, &info, WEXITED | WNOHANG | WNOWAIT | FP__WALL, NULL) == -ECHILD) {
        fp__close((int)r);
        return -1;
    }
    return r == -ENOSYS || r == -EPERM || r == -ESRCH || r == -EINVAL ? -1 : r;
}

long fp__look(int pidfd, int pid, int more, siginfo_t *info)
{
    const int flags = WEXITED | WNOHANG | WNOWAIT | FP__WALL | more;
    long r = -EINVAL;
    if (pidfd >= 0)
        r = fp__sys5(SYS_waitid, FP__P_PIDFD, pidfd, info, flags, NULL);
    if (r == -EINVAL) /* waitid(2) takes pidfds since 5.4 */
        r = fp__sys5(SYS_waitid, P_PID, pid, info, flags, NULL);
    return r;
}

/* Whether the number belongs to a child of ours that was not reaped yet, so that nobody else can have it: 0 or a
 * negative errno. */
static long is_still_ours(int pidfd, int pid)
{
    siginfo_t info;
    long r = fp__look(pidfd, pid, 0, &info);
    return r == -ECHILD ? -ESRCH : r;
}

int fp_signal(int pidfd, int pid, int sig)
{
    if (sig < 0 || sig > 64)
        return -EINVAL;
    /* A sandbox without the call returns EPERM, as the kernel does for another user's process: then kill(2) decides
     * (GOTCHAS K1). */
    if (pidfd >= 0 && fp__may_signal_by_pidfd()) {
        long r = fp__sys4(SYS_pidfd_send_signal, pidfd, sig, 0, 0);
        if ((r != -ENOSYS && r != -EPERM) || pid <= 1)
            return (int)r;
    }
    /* kill(2) takes 0 for our own group, -1 for everybody and other negatives for a group, and 1 is init: none is ever
     * meant (GOTCHAS D17). Only a child of ours that was not reaped: its number cannot belong to a stranger (GOTCHAS
     * D1). */
    if (pid <= 1)
        return -EINVAL;
    long r = is_still_ours(pidfd, pid);
    return (int)(r < 0 ? r : fp__sys2(SYS_kill, pid, sig));
}

int fp_signal_group(int pidfd, int pid, int sig)
{
    if (sig < 0 || sig > 64 || pid <= 1)
        return -EINVAL;
    /* Through the pidfd, no later group of the same number can be meant (GOTCHAS D14). Before 6.9 the flag fails with
     * EINVAL. */
    if (pidfd >= 0 && fp__may_signal_by_pidfd()) {
        long r = fp__sys4(SYS_pidfd_send_signal, pidfd, sig, 0, FP__PIDFD_SIGNAL_PROCESS_GROUP);
        if (r != -ENOSYS && r != -EPERM && r != -EINVAL)
            return (int)r;
    }
    /* A group has the number of its leader, which no other group can have while the leader is our unreaped child. Our
     * own group, or a group that the child has not made, is never meant (GOTCHAS D15). */
    long r = is_still_ours(pidfd, pid);
    if (r < 0)
        return (int)r;
    if (fp__sys1(SYS_getpgid, pid) != pid)
        return -ESRCH;
    return (int)fp__sys2(SYS_kill, -pid, sig);
}

int fp_pidfd_open(int pid)
{
    if (pid <= 1)
        return -EINVAL;
    return (int)fp__sys2(SYS_pidfd_open, pid, 0); /* always close-on-exec */
}

#else /* other POSIX systems */

int fp_signal(int pidfd, int pid, int sig)
{
    (void)pidfd;
    if (sig < 0 || pid <= 1)
        return -EINVAL;
    int saved = errno;
    int r = kill(pid, sig) < 0 ? -errno : 0;
    errno = saved;
    return r;
}

int fp_signal_group(int pidfd, int pid, int sig)
{
    (void)pidfd;
    if (sig < 0 || pid <= 1)
        return -EINVAL;
    int saved = errno;
    siginfo_t info;
    int r = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 ? -ESRCH : 0;
    if (r == 0 && getpgid(pid) != pid)
        r = -ESRCH;
    if (r == 0 && kill(-pid, sig) < 0)
        r = -errno;
    errno = saved;
    return r;
}

int fp_pidfd_open(int pid)
{
    (void)pid;
    return -ENOSYS;
}

#endif
