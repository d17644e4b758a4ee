/* report.c: how a child without shared memory sends its report.
 *
 * The report. A child has to tell its parent at which step it failed and with which errno, and the parent has to tell a
 * child that failed from a child that executed. The child writes the number of each step into struct fp__report before
 * it begins the step, so that also a child that is killed in between leaves the step in which it died. It takes one of
 * three ways:
 *
 * 1. clone3_vm and clone_vm: the struct is in the parent's own memory. The parent reads it when the child has left that
 * memory.
 *
 * 2. clone: the struct is in a page that is mapped shared (fp__report_map()), read when vfork returns.
 *
 * 3. fork_pipe, and every child with an identity that executes the launcher: the child writes the struct into a pipe.
 * It is written when something failed, before execve(2), and before a seccomp filter that may kill the child is
 * installed; the last record that arrives counts. The write end is close-on-exec, so the end of file says that the
 * child has executed or ended, and the record before it says which: stage EXEC without an error means executed. No
 * record at all means that the child died before it could write one.
 *
 * The end of file may be late: a process that another thread forked while the pipe was open holds a copy of the write
 * end until it executes (GOTCHAS B1). Whoever waits at the pipe therefore looks at the child as well (reported.c). */
#include "internal.h"

#if FP_LINUX

/* A record is smaller than PIPE_BUF, so it is written whole or not at all. On EPIPE nobody reads: trying again would
 * spin (GOTCHAS B6). */
FP__BARE void fp__send_report(struct fp__context *c)
{
    struct fp__report copy = *(struct fp__report *)c->report;
    if (c->report_fd < 0)
        return;
    while (fp__sys3(SYS_write, c->report_fd, &copy, sizeof copy) == -EINTR)
        ;
}

#endif
