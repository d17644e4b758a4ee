/* group.c: the calls that event loops use: many jobs on one epoll, and a spawn that does not wait for the exec.
 *
 * No call here waits longer than its caller allows. The calling thread makes the child itself, so the child inherits
 * the affinity, namespaces, capabilities and filters of that thread; only the wait for its exec is left out. */
#include "internal.h"

#include <stdlib.h>

#if FP_LINUX

#include <sys/epoll.h>

int fp_job_watch(struct fp_job *job, int epoll, int64_t key)
{
    job->epoll = epoll;
    job->key = key;
    for (int slot = 0; slot <= FP__JOB_PIDFD; slot++) {
        int fd = slot == FP__JOB_PIDFD ? job->child.pidfd : job->child.fd[slot];
        if (fd < 0 || (slot == FP__JOB_PIDFD && (job->recheck > 0 || job->status.state != FP_WAIT_RUNNING)))
            continue;
        struct epoll_event event = {.events = slot == 0 ? EPOLLOUT : EPOLLIN, .data = {.ptr = job}};
        long r = fp__sys4(SYS_epoll_ctl, epoll, EPOLL_CTL_ADD, fd, &event);
        if (r < 0) {
            for (int i = 0; i < slot; i++)
                fp__job_unwatch(job, i);
            return (int)r;
        }
        job->watched |= 1 << slot;
    }
    return 0;
}

int fp_group_step(int epoll, int64_t *ret_keys, int n)
{
    struct epoll_event events[FP_GROUP_BATCH];
    long r = fp__sys6(SYS_epoll_pwait, epoll, (long)events, n < FP_GROUP_BATCH ? n : FP_GROUP_BATCH, 0, 0, 8);
    int reported = 0;
    int64_t until = r > 1 ? fp__now() + FP_GROUP_SLICE_NS : 0;
    for (long i = 0; i < r; i++) {
        /* The remaining events are still ready: the next call gets them first. */
        if (i > 0 && fp__now() >= until)
            break;
        struct fp_job *job = events[i].data.ptr;
        if (!job->live) /* an earlier event of this batch ended it */
            continue;
        int64_t due = job->due_ns;
        if (fp_job_step(job, 0) != FP_JOB_AGAIN || job->due_ns != due)
            ret_keys[reported++] = job->key;
    }
    return r < 0 && r != -EINTR ? (int)r : reported;
}

struct launch {
    struct fp__spawn_state state; /* first: fp__spawn_abandon() frees the whole block */
    struct fp_attr attr;
    char text[];
};

static size_t blob_size(const char *blob, uint32_t n)
{
    const char *end = blob;
    while (n-- > 0)
        end += strlen(end) + 1;
    return (size_t)(end - blob);
}

int fp_launch(const struct fp_attr *attr, const struct fp_identity *identity, const char *paths, uint32_t npaths,
              const char *argv, uint32_t argc, const char *env, uint32_t envc, int cwd_fd, int cgroup_fd, int in,
              int out, int err, const int32_t *fds, uint32_t nfds, struct fp_child *ret_child, void **ret_launch)
{
    int saved = errno;
    size_t first = blob_size(paths, npaths), second = blob_size(argv, argc), third = blob_size(env, envc);
    struct launch *launch = malloc(sizeof *launch + first + second + third);
    *ret_launch = NULL;
    if (launch == NULL) {
        *ret_child = fp__no_child(FP_STAGE_VECTORS);
        errno = saved;
        return -ENOMEM;
    }
    launch->attr = *attr;
    memcpy(launch->text, paths, first);
    memcpy(launch->text + first, argv, second);
    memcpy(launch->text + first + second, env, third);
    launch->state.args = (struct fp__spawn_args){
        .attr = &launch->attr,
        .identity = identity,
        .paths = launch->text,
        .argv = launch->text + first,
        .env = launch->text + first + second,
        .fds = fds,
        .npaths = npaths,
        .argc = argc,
        .envc = envc,
        .nfds = nfds,
        .cwd_fd = cwd_fd,
        .cgroup_fd = cgroup_fd,
        .stdio = {in, out, err},
        .nonblock = 7,
        .deferred = true,
    };
    int r = fp__spawn(&launch->state, ret_child);
    if (r == FP__DEFERRED)
        *ret_launch = launch;
    else
        free(launch);
    errno = saved;
    return r == FP__DEFERRED ? FP_JOB_AGAIN : r;
}

int fp_launch_over(void *of, int64_t wait_ns, struct fp_child *child)
{
    struct launch *launch = of;
    struct fp__spawn_state *state = &launch->state;
    if (!state->exec_unknown)
        return 0;
    if (wait_ns > 0)
        fp__spawn_await_left(state, wait_ns);
    if (!fp__spawn_reclaim(state))
        return FP_JOB_AGAIN;
    state->exec_unknown = false;
    if (state->report.error == 0 && state->report.stage == FP_STAGE_EXEC)
        return fp__report_read(state->report, child->pidfd, child->pid, child);
    int sig = fp__reap_before_exec(child->pidfd, child->pid);
    int r = fp__spawn_verdict(state, sig, child);
    child->pid = child->pidfd = child->fd[0] = child->fd[1] = child->fd[2] = -1;
    return r;
}

void fp_launch_free(void *of)
{
    if (of != NULL)
        fp__spawn_abandon(&((struct launch *)of)->state);
}

#else

int fp_job_watch(struct fp_job *job, int epoll, int64_t key)
{
    (void)job;
    (void)epoll;
    (void)key;
    return -ENOSYS;
}

int fp_group_step(int epoll, int64_t *ret_keys, int n)
{
    (void)epoll;
    (void)ret_keys;
    (void)n;
    return -ENOSYS;
}

int fp_launch(const struct fp_attr *attr, const struct fp_identity *identity, const char *paths, uint32_t npaths,
              const char *argv, uint32_t argc, const char *env, uint32_t envc, int cwd_fd, int cgroup_fd, int in,
              int out, int err, const int32_t *fds, uint32_t nfds, struct fp_child *ret_child, void **ret_launch)
{
    *ret_launch = NULL;
    return fp_spawn(attr, identity, paths, npaths, argv, argc, env, envc, cwd_fd, cgroup_fd, in, out, err, fds, nfds,
                    -1, ret_child);
}

int fp_launch_over(void *launch, int64_t wait_ns, struct fp_child *child)
{
    (void)launch;
    (void)wait_ns;
    (void)child;
    return 0;
}

void fp_launch_free(void *launch)
{
    (void)launch;
}

#endif
