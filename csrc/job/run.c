/* run.c: the bulk path. One call spawns a child, feeds its stdin, collects both outputs, waits for it and keeps its
 * deadlines.
 *
 * The engine's Exchange is its reference and gives the same results. A call returns early with FP_JOB_AGAIN when a
 * signal arrives or its slice is over, so that the caller's signal handlers can run; the next call continues where this
 * one stopped.
 *
 * Why it costs little more than a vfork loop. It does not wait for the exec (spawn_state.c): the child's report is read
 * when the child has ended. And it does without a pidfd where it can. A pidfd costs 5 us of the 90 us that a short run
 * takes: the kernel makes it at the clone, and this process closes it. It has two uses: to wait for the exit together
 * with the pipes, and to name a process whose number could go to a stranger. Neither is needed while nobody but this
 * thread can reap the child: then the number stays the child's until this thread reaps it, and the exit is seen by
 * SIGCHLD.
 *
 * When nobody else can reap it: the process has one thread, SIGCHLD has its default action without SA_NOCLDWAIT (so
 * that the kernel keeps zombies), SIGCHLD was not blocked before, and pidfd_open(2) works. SIGCHLD is blocked from
 * before the clone until the run has ended or the pidfd is made, so that its arrival ends rt_sigtimedwait(2); by its default
 * action nobody else would see it. A child without a pidfd has the exit signal SIGCHLD from birth. While outputs are
 * open, poll(2) on them is enough, as they usually close when the child exits; the wait follows their end of file.
 *
 * After FP_PIDFD_AFTER_NS, or when the call returns with the child alive, the child gets its pidfd after all, and
 * SIGCHLD its old mask (open_pidfd()): Python code may run then, which can start threads and reap children. */
#include "internal.h"

#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#if FP_LINUX
#include <sys/epoll.h>
#include <sys/wait.h>
#endif

#define OUTPUT(job, i) ((job)->child.fd[1 + (i)])

static struct fp__spawn_state *spawn_state(const struct fp_job *job)
{
    return job->spawn_state;
}

#if FP_LINUX

/* Called before a descriptor is closed: an epoll remembers the open file, not the number, and a forked copy of this
 * process may keep the file open (GOTCHAS C15). */
void fp__job_unwatch(struct fp_job *job, int slot)
{
    if (!(job->watched >> slot & 1))
        return;
    job->watched &= ~(1 << slot);
    int fd = slot == FP__JOB_PIDFD ? job->child.pidfd : job->child.fd[slot];
    struct epoll_event none = {0}; /* before 2.6.9 the argument had to be valid */
    fp__sys4(SYS_epoll_ctl, job->epoll, EPOLL_CTL_DEL, fd, &none);
}

#else

void fp__job_unwatch(struct fp_job *job, int slot)
{
    (void)job;
    (void)slot;
}

#endif

static void close_end(struct fp_job *job, int slot)
{
    if (job->child.fd[slot] >= 0) {
        fp__job_unwatch(job, slot);
        fp__close(job->child.fd[slot]);
    }
    job->child.fd[slot] = -1;
}

static void close_pidfd(struct fp_job *job)
{
    if (job->child.pidfd >= 0) {
        fp__job_unwatch(job, FP__JOB_PIDFD);
        fp__close(job->child.pidfd);
    }
    job->child.pidfd = -1;
}

/* Sends a signal to the group that the child leads, where that is wanted and the group exists; otherwise to the
 * child. */
static int deliver(struct fp_job *job, int sig)
{
    if (job->group && fp_signal_group(job->child.pidfd, job->child.pid, sig) == 0)
        return 0;
    return fp_signal(job->child.pidfd, job->child.pid, sig);
}

void fp__job_break_off(struct fp_job *job, long error)
{
    if (job->error == 0)
        job->error = (int32_t)-error;
    for (int i = 0; i < 3; i++)
        close_end(job, i);
    if (job->status.state == FP_WAIT_RUNNING) { /* later the number may belong to a stranger */
        job->flags |= FP_JOB_KILLED;
        job->kill_ns = fp__now();
        deliver(job, SIGKILL);
    }
}

static long read_fd(int fd, char *to, size_t room)
{
#if FP_LINUX
    return fp__sys3(SYS_read, fd, to, room);
#else
    ssize_t n = read(fd, to, room);
    return n < 0 ? -errno : n;
#endif
}

static long write_fd(int fd, const char *from, size_t n)
{
#if FP_LINUX
    return fp__sys3(SYS_write, fd, from, n);
#else
    ssize_t done = write(fd, from, n);
    return done < 0 ? -errno : done;
#endif
}

/* Reads one output. Our end is blocking, but poll(2) has just said that this read does not block. */
static void collect(struct fp_job *job, int i, short events)
{
    struct fp_sink *sink = &job->sink[i];
    for (;;) {
        size_t room;
        char *to = fp__sink_room(sink, OUTPUT(job, i), &room);
        if (to == NULL) {
            fp__job_break_off(job, -ENOMEM);
            return;
        }
        long n = read_fd(OUTPUT(job, i), to, room);
        if (n > 0) {
            sink->len += (uint64_t)n;
            /* All writers have closed it: the rest of the output, or the end of file, is there already. */
            if (events & POLLHUP)
                continue;
            if (job->child.fd[0] < 0) /* the child does not wait for input from us */
                fp__sink_rest(sink, (size_t)n);
            return;
        }
        if (n == -EINTR || n == -EAGAIN)
            return;
        if (n < 0)
            fp__job_break_off(job, n);
        else
            close_end(job, 1 + i);
        return;
    }
}

/* A reader that closes its end early is not an error; the child's status shows how it ended (GOTCHAS E4). */
void fp__job_feed(struct fp_job *job)
{
    while (job->input_done < job->input_len) {
        uint64_t rest = job->input_len - job->input_done;
        long n = write_fd(job->child.fd[0], job->input + job->input_done, rest > INT_MAX ? INT_MAX : (size_t)rest);
        if (n == -EAGAIN || n == -EINTR)
            return;
        if (n < 0) {
            if (n != -EPIPE)
                fp__job_break_off(job, n);
            break;
        }
        job->input_done += (uint64_t)n;
    }
    close_end(job, 0);
}

static bool has_exited(const struct fp_job *job)
{
    return fp__job_has_exited(job);
}

static bool has_pipes(const struct fp_job *job)
{
    return fp__job_has_pipes(job);
}

/* The job has ended, whatever became of the child. Memory that the child still uses stays. */
static void release_spawn_state(struct fp_job *job)
{
    struct fp__spawn_state *state = spawn_state(job);
    if (state != NULL)
        fp__spawn_close_report(state);
    if (state == NULL || fp__spawn_reclaim(state))
        return;
    /* Its arguments belong to the caller, and a child that was not killed will still read them. */
    if (!(job->flags & FP_JOB_KILLED) || job->error != 0)
        fp__spawn_await_left(state, FP_DEATH_NS);
    if (fp__spawn_reclaim(state))
        return;
    fp__spawn_abandon(state);
    job->spawn_state = NULL;
}

/* Whether the child ended before it executed, and not because this process stopped it: then the spawn has failed, and
 * nothing else has happened. */
static bool never_executed(struct fp_job *job)
{
    struct fp__spawn_state *state = spawn_state(job);
    if (!state->exec_unknown)
        return false;
    int sig = job->status.returncode < 0 ? -job->status.returncode : 0;
    int r = fp__spawn_verdict(state, sig, &job->child);
    if (r == 0 || (r == -ECANCELED && ((job->flags & FP_JOB_TIMED_OUT) || job->error != 0)))
        return false;
    job->failure = -r;
    for (int i = 0; i < 3; i++)
        close_end(job, i);
    return true;
}

/* Kills what is left of the group of a child that was stopped and is dead. Before the child is reaped, as until then no
 * other group can have its number (GOTCHAS D14). */
static void sweep_group(struct fp_job *job)
{
#if FP_LINUX
    siginfo_t info;
    memset(&info, 0, sizeof info);
    long r = fp__look(-1, job->child.pid, 0, &info);
    if (r == 0 && info.si_pid == job->child.pid)
        fp_signal_group(-1, job->child.pid, SIGKILL);
#else
    (void)job;
#endif
}

/* Reaps the child if it has ended. Under a tracer a pidfd can be readable before there is anything to reap: then the
 * next look is delayed, a little longer each time, instead of spinning (GOTCHAS D6). */
void fp__job_try_reap(struct fp_job *job)
{
    if (job->group && (job->flags & (FP_JOB_TIMED_OUT | FP_JOB_KILLED)))
        sweep_group(job);
    int r = fp_wait(job->child.pidfd, job->child.pid, FP_WAIT_NOHANG, &job->status);
    if (r < 0 && job->child.pidfd >= 0) {
        /* Somebody closed the pidfd, or opened another file with its number, which is not ours to close. The child may
         * be anywhere in its set-up and use our memory: it is waited for by its pid, which stays its own until it is
         * reaped (GOTCHAS D1). */
        fp__job_unwatch(job, FP__JOB_PIDFD);
        job->child.pidfd = -1;
        r = fp_wait(-1, job->child.pid, FP_WAIT_NOHANG, &job->status);
    }
    if (r < 0)
        job->status.state = FP_WAIT_UNKNOWN;
    if (!has_exited(job)) {
        if (!spawn_state(job)->no_pidfd)
            job->recheck = job->recheck < 5 ? job->recheck + 1 : 5;
        return;
    }
    job->ended_ns = fp__now();
    if (never_executed(job))
        return;
    close_end(job, 0);
    int64_t drain = fp__job_drain(job, job->drain_ns);
    job->drain_end_ns = drain < 0 ? -1 : job->ended_ns + drain;
    if (job->deadline_ns >= 0 && !(job->flags & FP_JOB_TIMED_OUT) &&
        (job->drain_end_ns < 0 || job->drain_end_ns > job->deadline_ns))
        job->drain_end_ns = job->deadline_ns;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return fp__earlier(a, b);
}

int fp__wait_for(struct pollfd *fds, unsigned n, int64_t until)
{
    int saved = errno, r;
    int64_t left = until < 0 ? -1 : until - fp__now();
    if (until >= 0 && left < 0)
        left = 0;
#if FP_LINUX
    struct timespec ts = {left / FP_NSEC, left % FP_NSEC};
    r = (int)fp__sys5(SYS_ppoll, fds, n, until < 0 ? NULL : &ts, NULL, 8);
#else
    int64_t ms = left < 0 ? -1 : (left + 999999) / 1000000;
    r = poll(fds, n, ms > INT_MAX ? INT_MAX : (int)ms);
    if (r < 0)
        r = -errno;
#endif
    errno = saved;
    return r;
}

/* Reads what is in the pipes now, but not more than a pipe holds: other processes may write to them forever. */
static void take_rest(struct fp_job *job)
{
    for (int i = 0; i < 2; i++) {
        uint64_t end = job->sink[i].len + FP__PIPE_LARGE;
        while (OUTPUT(job, i) >= 0 && job->sink[i].len < end && job->error == 0) {
            struct pollfd fd = {.fd = OUTPUT(job, i), .events = POLLIN};
            uint64_t before = job->sink[i].len;
            int r;
            do
                r = fp__wait_for(&fd, 1, fp__now());
            while (r == -EINTR);
            if (r <= 0)
                break;
            collect(job, i, POLLIN);
            if (job->sink[i].len == before)
                break;
        }
    }
}

/* After SIGKILL: returns when to look again, or marks the child as abandoned. A tracer may hold it indefinitely
 * (ptrace(2)), or it is stuck in the kernel. */
static int64_t await_death(struct fp_job *job)
{
    int64_t waited = fp__now() - job->kill_ns;
    if (waited >= FP_DEATH_NS || (waited >= FP_TRACED_NS && fp_traced(job->child.pid) > 0))
        job->abandoned = 1;
    return job->kill_ns + (waited / FP_TRACED_NS + 1) * FP_TRACED_NS;
}

/* Does what is due, and returns when the next thing is due, or -1. */
int64_t fp__job_apply_deadlines(struct fp_job *job)
{
    if (has_exited(job)) {
        if (job->drain_end_ns >= 0 && fp__now() >= job->drain_end_ns) {
            take_rest(job);
            for (int i = 0; i < 2; i++) {
                struct stat st;
                if (OUTPUT(job, i) < 0)
                    continue;
                job->flags |= FP_JOB_PIPES_OPEN;
                if (fstat(OUTPUT(job, i), &st) == 0)
                    job->held_pipes[i] = st.st_ino;
                close_end(job, 1 + i);
            }
        }
        return job->drain_end_ns;
    }
    if (job->flags & FP_JOB_KILLED)
        return await_death(job);
    if (job->deadline_ns < 0)
        return -1;
    if (!(job->flags & FP_JOB_TIMED_OUT)) {
        int64_t now = fp__now();
        if (now < job->deadline_ns)
            return job->deadline_ns;
        job->flags |= FP_JOB_TIMED_OUT;
        job->kill_ns = now + job->grace_ns;
        if (job->grace_ns > 0) {
            job->flags |= FP_JOB_TERMINATED;
            deliver(job, SIGTERM);
        }
    }
    int64_t now = fp__now();
    if (now < job->kill_ns)
        return job->kill_ns;
    job->flags |= FP_JOB_KILLED;
    job->kill_ns = now;
    int r = deliver(job, SIGKILL);
    if (r < 0 && r != -ESRCH)
        job->error = -r; /* the child runs as another user by now: waiting for it could take forever */
    return await_death(job);
}

#if FP_LINUX
/* Whether nobody but this thread can reap a child of this process: see above. */
extern char __libc_single_threaded __attribute__((weak, visibility("default"))); /* glibc 2.32 */

bool fp__is_single_threaded(void)
{
    return &__libc_single_threaded != NULL && __libc_single_threaded;
}

static bool nobody_else_reaps(void)
{
    struct fp__sigaction action;
    return fp__is_single_threaded() && fp__sys4(SYS_rt_sigaction, SIGCHLD, 0, &action, 8) == 0 &&
           action.handler == (void *)SIG_DFL && !(action.flags & SA_NOCLDWAIT);
}

/* Blocks SIGCHLD, so that several children can be waited for by it. Returns false, and changes nothing, where that is
 * not possible. */
bool fp__sigchld_block(void)
{
    struct fp_features features;
    const uint64_t set = 1ULL << (SIGCHLD - 1);
    uint64_t old = 0;
    fp__mechanism_choose(&features);
    if (!features.pidfd_open || !nobody_else_reaps())
        return false;
    fp__sys4(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, 8);
    return !(old & set);
}

void fp__sigchld_unblock(void)
{
    uint64_t set = 1ULL << (SIGCHLD - 1);
    fp__sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, 8);
}

/* Waits for the exit of a child without a pidfd: for SIGCHLD, which is blocked. SIGCHLD for another child ends the wait
 * early. Returns FP_JOB_AGAIN when another signal did. */
int fp__wait_for_sigchld(int64_t until)
{
    uint64_t set = 1ULL << (SIGCHLD - 1);
    int64_t left = until - fp__now();
    struct timespec ts = {left > 0 ? left / FP_NSEC : 0, left > 0 ? left % FP_NSEC : 0};
    return fp__sys4(SYS_rt_sigtimedwait, &set, NULL, &ts, 8) == -EINTR ? FP_JOB_AGAIN : FP_JOB_DONE;
}

/* Ends the time without a pidfd. `more`: the child is still waited for, so it gets one. */
void fp__job_open_pidfd(struct fp_job *job, bool more)
{
    spawn_state(job)->no_pidfd = false;
    if (more)
        job->child.pidfd = (int)fp__pidfd_of_child(job->child.pid);
}

static void open_pidfd(struct fp_job *job, bool more)
{
    if (!spawn_state(job)->no_pidfd)
        return;
    fp__job_open_pidfd(job, more);
    fp__sigchld_unblock();
}
#else
static void open_pidfd(struct fp_job *job, bool more)
{
    (void)job;
    (void)more;
}

void fp__job_open_pidfd(struct fp_job *job, bool more)
{
    open_pidfd(job, more);
}

bool fp__sigchld_block(void)
{
    return false;
}

void fp__sigchld_unblock(void)
{
}

int fp__wait_for_sigchld(int64_t until)
{
    (void)until;
    return FP_JOB_DONE;
}

bool fp__is_single_threaded(void)
{
    return false;
}
#endif

bool fp__job_has_no_pidfd(const struct fp_job *job)
{
    return spawn_state(job) != NULL && spawn_state(job)->no_pidfd;
}

/* When to look again at a child whose exit no descriptor reports: after 1 ms for a child known by its pid only, after 1
 * to 16 ms for a traced child. */
static int64_t next_look(const struct fp_job *job)
{
    return fp__now() + (500000LL << (job->recheck ? job->recheck : 1));
}

unsigned fp__job_pollfds(struct fp_job *job, struct pollfd *fds, bool watch_end, int64_t *until)
{
    unsigned n = 0;
    for (int i = 0; i < 3; i++) {
        if (job->child.fd[i] >= 0)
            fds[n++] = (struct pollfd){.fd = job->child.fd[i], .events = i == 0 ? POLLOUT : POLLIN};
    }
    if (has_exited(job) || !watch_end)
        return n;
    if (job->child.pidfd >= 0 && job->recheck == 0)
        fds[n++] = (struct pollfd){.fd = job->child.pidfd, .events = POLLIN};
    else
        *until = earlier(*until, next_look(job));
    return n;
}

bool fp__job_handle_ready(struct fp_job *job, const struct pollfd *fds, unsigned n)
{
    bool ended = false;
    for (unsigned i = 0; i < n; i++) {
        if (fds[i].revents == 0)
            continue;
        if (fds[i].fd == job->child.pidfd)
            ended = true;
        else if (fds[i].fd == job->child.fd[0])
            fp__job_feed(job);
        else if (fds[i].fd == OUTPUT(job, 0))
            collect(job, 0, fds[i].revents);
        else if (fds[i].fd == OUTPUT(job, 1))
            collect(job, 1, fds[i].revents);
    }
    return ended;
}

/* Waits once, and handles what came. Returns FP_JOB_AGAIN after a signal. */
static int turn(struct fp_job *job, int64_t until)
{
    struct pollfd fds[FP__JOB_FDS];
    bool no_pidfd = spawn_state(job)->no_pidfd && !has_exited(job);
    if (no_pidfd && fp__now() - job->started_ns >= FP_PIDFD_AFTER_NS) {
        open_pidfd(job, true);
        no_pidfd = false;
    }
    unsigned n = fp__job_pollfds(job, fds, !no_pidfd, &until);
    bool watched = n > 0 && !has_exited(job) && fds[n - 1].fd == job->child.pidfd;
    if (no_pidfd) {
        until = earlier(until, job->started_ns + FP_PIDFD_AFTER_NS);
#if FP_LINUX
        if (n == 0) {
            int result = fp__wait_for_sigchld(until);
            fp__job_try_reap(job);
            return has_exited(job) ? FP_JOB_DONE : result;
        }
#endif
    }
    int r = fp__wait_for(fds, n, until);
    if (r == -EINTR)
        return FP_JOB_AGAIN;
    if (r < 0)
        fp__job_break_off(job, r);
    bool ended = r > 0 && fp__job_handle_ready(job, fds, n);
    if (!has_exited(job) && (no_pidfd ? !has_pipes(job) : !watched || ended))
        fp__job_try_reap(job);
    fp__spawn_reclaim(spawn_state(job));
    return FP_JOB_DONE;
}

#if FP_LINUX
/* Where SIGPIPE is not ignored, a child that closes its stdin early must not end this process. The signal stays blocked
 * while stdin is fed, and a SIGPIPE that our write raised is taken away (GOTCHAS E4). */
bool fp__sigpipe_block(uint64_t *ret_old)
{
    uint64_t set = 1ULL << (SIGPIPE - 1), pending = 0;
    fp__sys4(SYS_rt_sigprocmask, SIG_BLOCK, &set, ret_old, 8);
    fp__sys2(SYS_rt_sigpending, &pending, 8);
    return (pending & set) != 0;
}

void fp__sigpipe_unblock(uint64_t old, bool was_pending)
{
    uint64_t set = 1ULL << (SIGPIPE - 1);
    struct timespec zero = {0, 0};
    if (!was_pending)
        fp__sys4(SYS_rt_sigtimedwait, &set, NULL, &zero, 8);
    if (!(old & set))
        fp__sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, NULL, 8);
}
#endif

static void summarise(struct fp_job *job)
{
    int64_t *sum = job->summary;
    sum[FP_SUM_STATE] = job->status.state;
    sum[FP_SUM_RETURNCODE] = job->status.returncode;
    sum[FP_SUM_FLAGS] = job->stopped ? job->flags & ~FP_JOB_TIMED_OUT : job->flags;
    sum[FP_SUM_CORE_DUMPED] = job->status.core_dumped;
    sum[FP_SUM_ERROR] = job->error;
    sum[FP_SUM_PID] = job->child.pid;
    sum[FP_SUM_MECHANISM] = job->child.mechanism;
    sum[FP_SUM_DURATION_NS] = job->ended_ns - job->started_ns;
    sum[FP_SUM_OUT] = (int64_t)job->sink[0].len;
    sum[FP_SUM_ERR] = (int64_t)job->sink[1].len;
    sum[FP_SUM_ON_HEAP] = job->sink[0].heap != NULL || job->sink[1].heap != NULL;
}

/* Most likely a half-made child of another thread still has the file open for writing (GOTCHAS C2). Starts over, by a
 * spawn that waits for the exec and tries several times. Nothing was read yet, and the input is fed again from its
 * beginning. */
static int spawn_again(struct fp_job *job)
{
    struct fp__spawn_state *state = spawn_state(job);
    close_pidfd(job);
    state->args.deferred = state->args.no_pidfd = state->args.report_later = false;
    state->args.until_ns = job->deadline_ns;
    job->status.state = FP_WAIT_RUNNING;
    job->failure = job->recheck = 0;
    job->input_done = 0;
    return fp__spawn(state, &job->child);
}

int fp__job_await_exec(struct fp_job *job, int64_t until)
{
    struct fp__spawn_state *state = spawn_state(job);
    if (!state->exec_unknown)
        return 0;
    while (!fp__spawn_reclaim(state)) {
        int64_t left = until - fp__now();
        if (left <= 0)
            return 0;
        fp__spawn_await_left(state, left);
    }
    if (state->report.error != ETXTBSY || state->report.stage != FP_STAGE_EXEC)
        return 0; /* any other failure is reported when the child has ended */
    for (int i = 0; i < 3; i++)
        close_end(job, i);
    fp__reap_before_exec(job->child.pidfd, job->child.pid);
    return spawn_again(job);
}

/* A child that may not be killed continues as somebody else's; a child that does not die is reaped later. */
bool fp__job_is_over(const struct fp_job *job)
{
    return (has_exited(job) && !has_pipes(job)) || job->abandoned ||
           (job->error == EPERM && (job->flags & FP_JOB_KILLED));
}

/* `turned`: it may return without looking at what is ready. */
static int resume(struct fp_job *job, int64_t slice_ns, bool turned)
{
    int64_t slice_end = slice_ns < 0 ? -1 : fp__now() + slice_ns;
    int result = FP_JOB_DONE;
#if FP_LINUX
    bool feeding = job->child.fd[0] >= 0, was_pending = false;
    uint64_t old = 0;
    if (feeding)
        was_pending = fp__sigpipe_block(&old);
#else
    bool feeding = job->child.fd[0] >= 0;
#endif
    if (feeding) /* the pipe is empty at first: small input needs no poll */
        fp__job_feed(job);
    while (result == FP_JOB_DONE && (!has_exited(job) || has_pipes(job))) {
        int64_t due = fp__job_apply_deadlines(job);
        if (fp__job_is_over(job))
            break;
        if (slice_end >= 0 && turned && fp__now() >= slice_end) {
            result = FP_JOB_AGAIN;
        } else {
            result = turn(job, earlier(due, slice_end));
            turned = true;
        }
    }
#if FP_LINUX
    if (feeding)
        fp__sigpipe_unblock(old, was_pending);
#endif
    open_pidfd(job, !has_exited(job));
    return result;
}

int fp__job_finish(struct fp_job *job, int result)
{
    if (job->failure != 0) {
        close_pidfd(job);
        job->child.pid = -1;
        job->live = 0;
        return -job->failure;
    }
    if (result == FP_JOB_DONE) {
        for (int i = 0; i < 3; i++)
            close_end(job, i);
        if (has_exited(job))
            close_pidfd(job);
        release_spawn_state(job);
        job->live = 0;
        summarise(job);
    }
    return result;
}

int fp_run_resume(struct fp_job *job, int64_t slice_ns)
{
    int result = resume(job, slice_ns, false);
    bool again = job->failure == ETXTBSY && job->child.stage == FP_STAGE_EXEC;
    again |= job->failure != 0 &&
             job->child.stage == FP_STAGE_LAUNCHER; /* nothing has changed yet: the child can be forked */
    if (again && !(job->flags & FP_JOB_TIMED_OUT)) {
        result = spawn_again(job);
        if (result < 0)
            job->failure = -result;
        else
            result = resume(job, slice_ns, false);
    }
    return fp__job_finish(job, result);
}

static int step(struct fp_job *job, int64_t slice_ns, bool turned)
{
    int result = resume(job, slice_ns, turned);
    job->due_ns = -1;
    if (result == FP_JOB_AGAIN && job->failure == 0) {
        job->due_ns = fp__job_apply_deadlines(job);
        if (fp__job_is_over(job))
            result = FP_JOB_DONE;
        else if (!has_exited(job) && (job->child.pidfd < 0 || job->recheck > 0))
            job->due_ns = earlier(job->due_ns, next_look(job));
        if (job->recheck > 0) /* the epoll would report it forever */
            fp__job_unwatch(job, FP__JOB_PIDFD);
    }
    return fp__job_finish(job, result);
}

/* In a forked copy the child belongs to the parent: nothing is signalled, waited for or removed from the epoll;
 * descriptors are closed (GOTCHAS D12, I2). */
static bool leave_in_forked_copy(struct fp_job *job)
{
    if (!job->live || job->owner == (int32_t)getpid())
        return false;
    fp_job_abort(job, 0);
    return true;
}

int fp_job_step(struct fp_job *job, int64_t slice_ns)
{
    if (leave_in_forked_copy(job))
        return FP_JOB_DONE;
    int saved = errno;
    int result = step(job, slice_ns, false);
    errno = saved;
    return result;
}

void fp__job_ask_to_end(struct fp_job *job)
{
    if (has_exited(job)) {
        job->drain_end_ns = fp__now();
    } else if (!(job->flags & FP_JOB_TIMED_OUT)) {
        job->deadline_ns = fp__now();
        job->stopped = 1;
    }
}

int fp_job_stop(struct fp_job *job)
{
    if (leave_in_forked_copy(job))
        return FP_JOB_DONE;
    fp__job_ask_to_end(job);
    return fp_job_step(job, 0);
}

void fp_job_abandon(struct fp_job *job)
{
    if (leave_in_forked_copy(job))
        return;
    fp__job_unwatch(job, FP__JOB_PIDFD);
    for (int i = 0; i < 3; i++)
        close_end(job, i);
    release_spawn_state(job);
    job->live = 0;
    summarise(job);
}

void fp_job_init(struct fp_job *job)
{
    memset(job, 0, offsetof(struct fp_job, sink));
    for (int i = 0; i < 2; i++)
        memset(&job->sink[i], 0, offsetof(struct fp_sink, fixed));
}

int fp__job_begin(const struct fp_request *request, const char *paths, uint32_t npaths, const char *argv, uint32_t argc,
                  const char *env, uint32_t envc, bool deferred, bool report_later, int pidfd, struct fp_job *job)
{
    if (job->live)
        fp_job_close(job);
    if (job->spawn_state == NULL) {
        job->spawn_state = malloc(sizeof(struct fp__spawn_state));
        if (job->spawn_state == NULL) {
            job->child = fp__no_child(FP_STAGE_VECTORS);
            return -ENOMEM;
        }
    }
    job->summary[FP_SUM_PID] = 0;
    job->status.state = FP_WAIT_RUNNING;
    job->status.returncode = job->status.core_dumped = 0;
    job->flags = job->error = job->recheck = job->failure = 0;
    job->watched = job->stopped = job->abandoned = job->group = 0;
    job->sink[0].len = job->sink[1].len = 0;
    job->held_pipes[0] = job->held_pipes[1] = 0;
    job->input = request->input;
    job->input_len = request->input_len;
    job->input_done = 0;
    job->grace_ns = request->grace_ns;
    job->drain_ns = request->drain_ns;
    job->drain_end_ns = -1;
    job->started_ns = fp__now();
    int64_t timeout = request->timeout_ns;
    job->deadline_ns = timeout < 0 || timeout > INT64_MAX - job->started_ns ? -1 : job->started_ns + timeout;
    job->live = 1;
    job->owner = (int32_t)getpid();
    struct fp__spawn_state *state = spawn_state(job);
    state->args = (struct fp__spawn_args){
        .attr = request->attr,
        .identity = request->identity,
        .paths = paths,
        .argv = argv,
        .env = env,
        .fds = request->fds,
        .npaths = npaths,
        .argc = argc,
        .envc = envc,
        .nfds = request->nfds,
        .cwd_fd = request->cwd_fd,
        .cgroup_fd = request->cgroup_fd,
        .stdio = {request->stdio[0], request->stdio[1], request->stdio[2]},
        .until_ns = job->deadline_ns,
        .nonblock = 1,
        .deferred = deferred,
        .report_later = report_later,
#if FP_LINUX
        .no_pidfd = pidfd == FP__PIDFD_LATER || (pidfd == FP__PIDFD_LATER_IF_SAFE && nobody_else_reaps()),
#endif
        .sigchld_blocked = pidfd == FP__PIDFD_LATER,
    };
    int r = fp__spawn(state, &job->child);
    if (r < 0)
        job->live = 0;
    return r;
}

int fp_run(const struct fp_request *request, const char *paths, uint32_t npaths, const char *argv, uint32_t argc,
           const char *env, uint32_t envc, int64_t slice_ns, struct fp_job *job)
{
    int saved = errno;
    int r = fp__job_begin(request, paths, npaths, argv, argc, env, envc, true, true, FP__PIDFD_LATER_IF_SAFE, job);
    if (r >= 0)
        r = fp_run_resume(job, slice_ns);
    errno = saved;
    return r;
}

int fp_job_begin(const struct fp_request *request, const char *paths, uint32_t npaths, const char *argv, uint32_t argc,
                 const char *env, uint32_t envc, int64_t slice_ns, struct fp_job *job)
{
    int saved = errno;
    int r = fp__job_begin(request, paths, npaths, argv, argc, env, envc, true, false,
                          slice_ns > 0 ? FP__PIDFD_LATER_IF_SAFE : FP__PIDFD_NOW, job);
    if (r >= 0)
        r = step(job, slice_ns, slice_ns <= 0);
    errno = saved;
    return r;
}

void fp_job_abort(struct fp_job *job, int64_t wait_ns)
{
    int saved = errno;
    bool ours = job->live && job->owner == (int32_t)getpid(); /* false in a forked copy (GOTCHAS D12, I2) */
    if (!ours)
        job->watched = 0; /* before anything is closed: the parent uses the same epoll */
    if (ours && job->child.pid > 1 && !has_exited(job)) {
        int64_t until = fp__now() + wait_ns;
        close_end(job, 0); /* feeding is over: it needs SIGPIPE blocked */
        while (wait_ns > 0 && !has_exited(job) && fp__now() < until)
            turn(job, until);
        if (!has_exited(job)) {
            job->flags |= FP_JOB_KILLED;
            int r = deliver(job, SIGKILL);
            if (r < 0 && r != -ESRCH)
                job->error = -r;
            job->kill_ns = fp__now();
            until = await_death(job);
            while (job->error != EPERM && !has_exited(job) && !job->abandoned) {
                turn(job, until);
                until = await_death(job);
            }
        }
    }
    if (ours) {
        release_spawn_state(job);
        take_rest(job);
    }
    if (job->live) {
        for (int i = 0; i < 3; i++)
            close_end(job, i);
        /* If the child is still alive, the caller keeps the pidfd. */
        if (has_exited(job) || !ours)
            close_pidfd(job);
        else
            fp__job_unwatch(job, FP__JOB_PIDFD); /* otherwise the epoll returns the job's address when the child ends */
    }
    if (ours)
        summarise(job);
    else if (job->live || job->owner != (int32_t)getpid())
        job->summary[FP_SUM_PID] = 0;
    job->live = 0;
    errno = saved;
}

void fp_job_close(struct fp_job *job)
{
    fp_job_abort(job, 0);
    for (int i = 0; i < 2; i++)
        fp__sink_free(&job->sink[i]);
    if (job->spawn_state != NULL)
        fp__spawn_close_report(spawn_state(job)); /* in a forked copy the job was not released */
    free(job->spawn_state);
    job->spawn_state = NULL;
}
