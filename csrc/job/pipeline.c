/* pipeline.c: the bulk path of a plain pipeline, many jobs driven by one poll; tee(2).
 *
 * The engine's Run is its reference and gives the same results. All commands are started before any of them is known to
 * have executed, so that their set-ups run side by side. */
#include "internal.h"

#include <poll.h>
#include <stdlib.h>

#if FP_LINUX
#define FP__SPLICE_NONBLOCK 2

int64_t fp_tee(int from, int to, uint64_t size)
{
    return FP__TRY(FP_POINT_TEE, fp__sys4(SYS_tee, from, to, size, FP__SPLICE_NONBLOCK));
}

static long may_execute(int dir, const char *path)
{
    return fp__sys3(SYS_faccessat, dir, path, X_OK);
}
#else
int64_t fp_tee(int from, int to, uint64_t size)
{
    (void)from;
    (void)to;
    (void)size;
    return -ENOSYS;
}

static long may_execute(int dir, const char *path)
{
    int saved = errno, r = faccessat(dir, path, X_OK, 0);
    errno = saved;
    return r;
}
#endif

/* Whether access(2) sees nothing that would keep the command from executing. Only then are all commands started before
 * the first has executed: otherwise a later command could take effect although an earlier one cannot be started. */
static bool looks_startable(const struct fp_member *member)
{
    int dir = member->request->cwd_fd >= 0 ? member->request->cwd_fd : AT_FDCWD;
    const char *path = member->paths;
    for (uint32_t i = 0; i < member->npaths; i++) {
        if (may_execute(dir, path) == 0)
            return true;
        path += strlen(path) + 1;
    }
    return false;
}

/* A child that may not be killed, or does not die, counts as exited. */
static bool all_have_exited(const struct fp_pipeline *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (!fp__job_has_exited(p->members[i].job) && !fp__job_is_over(p->members[i].job))
            return false;
    }
    return true;
}

/* Ends the time without pidfds, for all children at once, as run.c does for one. `more`: some are still waited for. */
static void open_pidfd(struct fp_pipeline *p, bool more)
{
    if (!p->no_pidfds)
        return;
    for (uint32_t i = 0; i < p->n; i++) {
        struct fp_job *job = p->members[i].job;
        if (job->live && fp__job_has_no_pidfd(job))
            fp__job_open_pidfd(job, more && !fp__job_has_exited(job));
    }
    p->no_pidfds = 0;
    fp__sigchld_unblock();
}

static void summarise(struct fp_pipeline *p)
{
    int64_t ended = 0;
    p->clean = p->failed < 0;
    p->err = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct fp_job *job = p->members[i].job;
        const int64_t *sum = job->summary;
        memcpy(p->ended[i].summary, sum, sizeof job->summary);
        p->ended[i].usage = job->status.usage;
        if (sum[FP_SUM_STATE] != FP_WAIT_EXITED || sum[FP_SUM_RETURNCODE] != 0 || sum[FP_SUM_FLAGS] != 0 ||
            sum[FP_SUM_ERROR] != 0 || sum[FP_SUM_ON_HEAP] != 0 || sum[FP_SUM_MECHANISM] != FP_MECHANISM_CLONE3_VM)
            p->clean = 0;
        if (sum[FP_SUM_PID] > 0 && job->ended_ns > ended)
            ended = job->ended_ns;
        p->err += (uint64_t)sum[FP_SUM_ERR];
    }
    p->out = (uint64_t)p->members[p->n - 1].job->summary[FP_SUM_OUT];
    p->duration_ns = ended > 0 ? ended - p->members[0].job->started_ns : 0;
}

/* Kills all children first, so that they die side by side. */
static void kill_all(struct fp_pipeline *p)
{
    open_pidfd(p, true);
    for (uint32_t i = 0; i < p->n; i++) {
        struct fp_job *job = p->members[i].job;
        if (job->live && job->owner == (int32_t)getpid() && !fp__job_has_exited(job)) {
            job->flags |= FP_JOB_KILLED;
            fp_signal(job->child.pidfd, job->child.pid, SIGKILL);
        }
    }
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->members[i].job->live)
            fp_job_abort(p->members[i].job, 0);
    }
    summarise(p);
}

static int fail(struct fp_pipeline *p, uint32_t failed, int r)
{
    p->failed = (int32_t)failed;
    kill_all(p);
    return r;
}

/* When the last command has ended, starts the time for which other processes may keep outputs open. */
static void begin_draining(struct fp_pipeline *p)
{
    int64_t drain = p->members[0].request->drain_ns;
    for (uint32_t i = 0; i < p->n; i++)
        drain = fp__job_drain(p->members[i].job, drain);
    int64_t end = fp__now() + drain;
    for (uint32_t i = 0; drain >= 0 && i < p->n; i++)
        p->members[i].job->drain_end_ns = fp__earlier(p->members[i].job->drain_end_ns, end);
}

/* Waits once for all jobs, and handles what came. While outputs are open, the exits of the first milliseconds are not
 * watched: each would wake this thread, and the exits of a short pipeline come together. */
static int turn(struct fp_pipeline *p, int64_t until, bool any_pipes)
{
    struct pollfd fds[FP_MEMBERS_MAX * FP__JOB_FDS];
    unsigned first[FP_MEMBERS_MAX + 1] = {0};
    int64_t early = p->members[0].job->started_ns + FP_PIDFD_AFTER_NS;
    bool is_early = fp__now() < early;
    if (!is_early)
        open_pidfd(p, true);
    bool watch_ends = !any_pipes || !is_early;
    if (!watch_ends || p->no_pidfds)
        until = fp__earlier(until, early);
    if (watch_ends && p->no_pidfds) { /* no pipes are open then */
        int result = fp__wait_for_sigchld(until);
        for (uint32_t i = 0; i < p->n; i++) {
            if (!fp__job_has_exited(p->members[i].job))
                fp__job_try_reap(p->members[i].job);
        }
        return all_have_exited(p) ? FP_JOB_DONE : result;
    }
    for (uint32_t i = 0; i < p->n; i++)
        first[i + 1] = first[i] + fp__job_pollfds(p->members[i].job, fds + first[i], watch_ends, &until);
    int r = fp__wait_for(fds, first[p->n], until);
    if (r == -EINTR)
        return FP_JOB_AGAIN;
    for (uint32_t i = 0; i < p->n; i++) {
        struct fp_job *job = p->members[i].job;
        unsigned count = first[i + 1] - first[i];
        if (r < 0)
            fp__job_break_off(job, r);
        bool watched = count > 0 && fds[first[i + 1] - 1].fd == job->child.pidfd;
        bool ended = r > 0 && fp__job_handle_ready(job, fds + first[i], count);
        if (watch_ends && !fp__job_has_exited(job) && (ended || !watched))
            fp__job_try_reap(job);
        if (job->spawn_state != NULL)
            fp__spawn_reclaim(job->spawn_state);
    }
    return FP_JOB_DONE;
}

static int drive(struct fp_pipeline *p, int64_t slice_end)
{
    bool exited = all_have_exited(p);
    for (bool turned = false;; turned = true) {
        bool over = true, any_pipes = false;
        int64_t due = slice_end;
        for (uint32_t i = 0; i < p->n; i++) {
            struct fp_job *job = p->members[i].job;
            if (job->failure != 0)
                return fail(p, i, -job->failure);
            due = fp__earlier(due, fp__job_apply_deadlines(job));
            over = over && fp__job_is_over(job);
            any_pipes = any_pipes || fp__job_has_pipes(job);
        }
        if (over)
            return FP_JOB_DONE;
        if (slice_end >= 0 && turned && fp__now() >= slice_end)
            return FP_JOB_AGAIN;
        if (turn(p, due, any_pipes) == FP_JOB_AGAIN)
            return FP_JOB_AGAIN;
        if (!exited && all_have_exited(p)) {
            exited = true;
            begin_draining(p);
        }
    }
}

/* Blocks SIGPIPE while the first command may be fed. */
static int drive_feeding(struct fp_pipeline *p, int64_t slice_end)
{
    struct fp_job *head = p->members[0].job;
    if (head->child.fd[0] < 0)
        return drive(p, slice_end);
#if FP_LINUX
    uint64_t old = 0;
    bool was_pending = fp__sigpipe_block(&old);
#endif
    fp__job_feed(head);
    int result = drive(p, slice_end);
#if FP_LINUX
    fp__sigpipe_unblock(old, was_pending);
#endif
    return result;
}

static int resume(struct fp_pipeline *p, int64_t slice_ns)
{
    int64_t slice_end = slice_ns < 0 ? -1 : fp__now() + slice_ns;
    int result = drive_feeding(p, slice_end);
    open_pidfd(p, true);
    if (result == FP_JOB_DONE) {
        for (uint32_t i = 0; i < p->n; i++)
            fp__job_finish(p->members[i].job, result);
        summarise(p);
    }
    return result;
}

int fp_pipeline_resume(struct fp_pipeline *p, int64_t slice_ns)
{
    int saved = errno;
    int result = resume(p, slice_ns);
    errno = saved;
    return result;
}

/* Makes the child of one command, and the pipe to the next command, whose ends go to *reader and *writer. */
static int begin_member(struct fp_pipeline *p, uint32_t i, bool deferred, int before, int *reader, int *writer)
{
    const struct fp_member *member = &p->members[i];
    struct fp_request request = *member->request;
    int ends[2] = {-1, -1};
    long r = 0;
    if (i + 1 < p->n)
        r = FP__TRY(FP_POINT_PIPE_BETWEEN, fp__pipe(p->pipe_size, ends));
    *reader = ends[0];
    *writer = ends[1];
    if (r < 0) {
        member->job->child = fp__no_child(FP_STAGE_PIPE);
        return (int)r;
    }
    if (i > 0)
        request.stdio[0] = before;
    if (i + 1 < p->n)
        request.stdio[1] = ends[1];
    request.timeout_ns = p->members[0].request->timeout_ns;
    request.grace_ns = p->members[0].request->grace_ns;
    request.drain_ns = -1; /* set by begin_draining() */
    return fp__job_begin(&request, member->paths, member->npaths, member->argv, member->argc, member->env, member->envc,
                         deferred, false, p->no_pidfds ? FP__PIDFD_LATER : FP__PIDFD_NOW, member->job);
}

/* A half-made child of another thread may hold a file open for writing, so that execve(2) fails with ETXTBSY. Where the
 * process has other threads, this waits until every command has executed, within a limit, before it closes the ends of
 * the pipes that a second try needs. */
static int await_execs(struct fp_pipeline *p, uint32_t *ret_failed)
{
    int64_t until = fp__now() + FP_EXECS_NS;
    for (uint32_t i = 0; i < p->n; i++) {
        int r = fp__job_await_exec(p->members[i].job, until);
        if (r < 0) {
            *ret_failed = i;
            return r;
        }
    }
    return 0;
}

static int begin(struct fp_pipeline *p)
{
    int ends[2 * (FP_MEMBERS_MAX + 1)]; /* of the pipe before each command; none after the last */
    bool deferred = true, wait = !fp__is_single_threaded();
    uint32_t i;
    int r = 0;
    for (i = 0; deferred && i < p->n; i++)
        deferred = looks_startable(&p->members[i]);
    p->no_pidfds = deferred && fp__sigchld_block();
    memset(ends, -1, sizeof ends);
    for (i = 0; i < p->n; i++) {
        int *before = ends + (size_t)2 * i, *after = before + 2;
        r = begin_member(p, i, deferred, before[0], &after[0], &after[1]);
        if (r < 0)
            break;
        /* At once: our copies would keep readers from their end of file and writers from SIGPIPE (GOTCHAS E14). */
        if (!deferred || !wait) {
            fp__close_all(before, 1);
            fp__close_all(after + 1, 1);
        }
    }
    if (r >= 0 && deferred && wait)
        r = await_execs(p, &i);
    fp__close_all(ends, 2 * (FP_MEMBERS_MAX + 1));
    if (r < 0)
        return fail(p, i, r);
    for (i = 0; i < p->n; i++) {
        struct fp_job *job = p->members[i].job;
        job->deadline_ns = p->members[0].job->deadline_ns; /* one moment for all */
        if (!fp__job_has_no_pidfd(job))                    /* made by another mechanism */
            open_pidfd(p, true);
    }
    return 0;
}

int fp_pipeline(struct fp_pipeline *p, int64_t slice_ns)
{
    int saved = errno;
    p->failed = -1;
    p->no_pidfds = 0;
    if (p->n < 2 || p->n > FP_MEMBERS_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < p->n; i++) {
        struct fp_job *job = p->members[i].job;
        if (job->live)
            fp_job_close(job);
        memset(job->summary, 0, sizeof job->summary);
        job->child.pid = -1;
    }
    int r = begin(p);
    if (r >= 0)
        r = resume(p, slice_ns);
    errno = saved;
    return r;
}

void fp_pipeline_abort(struct fp_pipeline *p, int64_t wait_ns)
{
    int saved = errno;
    struct fp_job *head = p->members[0].job;
    bool ours = head->live && head->owner == (int32_t)getpid();
    int64_t until = fp__now() + wait_ns;
    if (ours && head->child.fd[0] >= 0) {
        head->input_done = head->input_len; /* nothing more is fed */
        fp__job_feed(head);
    }
    while (ours && wait_ns > 0 && fp__now() < until && !all_have_exited(p)) {
        if (drive(p, until) != FP_JOB_AGAIN)
            break;
    }
    kill_all(p);
    errno = saved;
}
