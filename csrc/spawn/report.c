/* report.c: what a child that has no memory in common with its parent writes into the pipe between them. */
#include "internal.h"

#if FP_LINUX

/* At most PIPE_BUF, so whole or not at all; on EPIPE nobody listens and trying again would spin (GOTCHAS B6). */
FP__BARE void fp__send_report(struct fp__context *c)
{
    struct fp__report copy = *(struct fp__report *)c->report;
    if (c->report_fd < 0)
        return;
    while (fp__sys3(SYS_write, c->report_fd, &copy, sizeof copy) == -EINTR)
        ;
}

#endif
