/* harness: the C core alone, from eight threads, for the sanitizers (`make asan`, `make tsan`) and valgrind.
 *
 *     harness [ROUNDS] [MECHANISM]
 *
 * Spawns, feeds, collects, signals, waits from several threads on one child, fails in each way that has a fault point, and at
 * the end counts descriptors and children. Ends with 1 at the first thing that is not as it must be. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fastproc.h"
#include "parts.h"
#include "pool.h"
#include "signals.h"
#include "snapshots.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8

/* The core for other systems than Linux, built and run here: no epoll, tee(2), /proc or signals of this process. */
#ifdef FP_PORTABLE
#define PORTABLE 1
#else
#define PORTABLE 0
#endif

#if defined(__SANITIZE_THREAD__)
/* The report page is mapped by a raw call, which the sanitizer does not see: it takes a page at a number that another thread
 * has given back for the same memory. So it does with descriptors: fstat(2) by the C library, close(2) by a raw call. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race_top:spawn_shared\n"
           "race:apply_deadlines\n";
}
#endif

static const struct fp_attr plain = {
    .size = sizeof(struct fp_attr),
    .sigdefault = PORTABLE ? 1ULL << (SIGPIPE - 1) : 0,
};

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Blobs with their counts. */
#define SH(script) "/bin/sh", "sh\0-c\0" script, 3
#define ENVIRONMENT "PATH=/bin:/usr/bin\0A=b", 2

/* A spawn that takes long comes back in between. */
static int made(int r, struct fp_child *child)
{
    while (r == FP_SPAWN_AGAIN)
        r = fp_spawn_resume(child);
    return r;
}

static int spawn(const struct fp_attr *attr, const char *path, const char *argv, uint32_t argc, int in, int out,
                 int err, struct fp_child *child)
{
    return made(fp_spawn(attr, NULL, path, 1, argv, argc, ENVIRONMENT, -1, -1, in, out, err, NULL, 0, -1, child),
                child);
}

static void close_all(struct fp_child *child)
{
    for (int i = 0; i < 3; i++) {
        if (child->fd[i] >= 0)
            close(child->fd[i]);
    }
    if (child->pidfd >= 0)
        close(child->pidfd);
}

static int wait_end(struct fp_child *child, struct fp_status *status)
{
    int r;
    do
        r = fp_wait(child->pidfd, child->pid, 0, status);
    while (r == -EINTR);
    return r;
}

static void check_exit(void)
{
    struct fp_child child;
    struct fp_status status;
    errno = 77;
    MUST(spawn(&plain, SH("exit 3"), FP_STDIO_NULL, FP_STDIO_NULL, FP_STDIO_NULL, &child) == 0);
    MUST(errno == 77); /* the library never changes it (GOTCHAS A12) */
    MUST(child.pid > 1 && child.fd[0] == -1 && child.fd[1] == -1 && child.fd[2] == -1);
    MUST(wait_end(&child, &status) == 0);
    MUST(status.state == FP_WAIT_EXITED && status.returncode == 3);
    close_all(&child);
}

static void check_missing(void)
{
    struct fp_child child;
    errno = 77;
    int r = fp_spawn(&plain, NULL, "/nonexistent/a\0/nonexistent/b", 2, "a", 1, ENVIRONMENT, -1, -1, FP_STDIO_PIPE,
                     FP_STDIO_PIPE, FP_STDIO_PIPE, NULL, 0, -1, &child);
    MUST(made(r, &child) == -ENOENT);
    MUST(errno == 77);
    MUST(child.stage == FP_STAGE_EXEC && child.pid == -1 && child.pidfd == -1);
    MUST(child.fd[0] == -1 && child.fd[1] == -1 && child.fd[2] == -1);
}

static void check_setup(void)
{
    struct fp_attr attr = plain;
    struct fp_child child;
    struct fp_status status;
    attr.flags =
        FP_ATTR_SETSID | FP_ATTR_UMASK | FP_ATTR_NICE | FP_ATTR_SUBREAPER | FP_ATTR_NO_NEW_PRIVS | FP_ATTR_TIMER_SLACK;
    attr.umask = 077;
    attr.nice = 5;
    attr.timer_slack_ns = 1000;
    attr.nrlimits = 1;
    attr.rlimits[0] = (struct fp_rlimit){.resource = RLIMIT_CORE, .soft = 0, .hard = 0};
    int r = spawn(&attr, SH("test $(umask) = 0077 && test $(ulimit -c) = 0"), FP_STDIO_NULL, FP_STDIO_INHERIT,
                  FP_STDIO_STDOUT, &child);
    if (r == -ENOTSUP) { /* posix_spawn cannot */
        MUST(child.stage == FP_STAGE_MECHANISM);
        return;
    }
    MUST(r == 0);
    MUST(wait_end(&child, &status) == 0 && status.state == FP_WAIT_EXITED && status.returncode == 0);
    close_all(&child);
}

/* An identity that changes nothing: each step, its proof and the way back, for who has no privilege too. */
static void check_identity(void)
{
    static uint32_t groups[1];
    struct fp_attr attr = plain;
    struct fp_identity identity = {.root_fd = -1, .ruleset_fd = -1, .groups = groups};
    struct fp_child child;
    struct fp_status status;
    attr.flags = FP_ATTR_NO_NEW_PRIVS;
    identity.flags = FP_ID_UID | FP_ID_GID;
    identity.uid = geteuid();
    identity.gid = getegid();
    int r = fp_spawn(&attr, &identity, "/bin/sh", 1, "sh\0-c\0exit 5", 3, ENVIRONMENT, -1, -1, FP_STDIO_NULL,
                     FP_STDIO_NULL, FP_STDIO_NULL, NULL, 0, -1, &child);
    if (r == -ENOTSUP) { /* posix_spawn cannot */
        MUST(child.stage == FP_STAGE_MECHANISM);
        return;
    }
    MUST(r == 0 && child.mechanism == FP_MECHANISM_FORK_PIPE);
    MUST(wait_end(&child, &status) == 0 && status.state == FP_WAIT_EXITED && status.returncode == 5);
    close_all(&child);
    identity.flags = FP_ID_CAPS;
    identity.permitted = 1ULL << 63;
    r = fp_spawn(&attr, &identity, "/bin/sh", 1, "sh\0-c\0exit 5", 3, ENVIRONMENT, -1, -1, FP_STDIO_NULL, FP_STDIO_NULL,
                 FP_STDIO_NULL, NULL, 0, -1, &child);
    MUST(r == -EPERM && child.stage == FP_STAGE_CAPABILITIES && child.detail == 63 && child.pid == -1);
}

static void check_fds(void)
{
    int file[2], a, b;
    struct fp_child child;
    struct fp_status status;
    char word[8];
    MUST(pipe2(file, O_CLOEXEC) == 0);
    a = fcntl(file[0], F_DUPFD_CLOEXEC, 100);
    b = fcntl(file[1], F_DUPFD_CLOEXEC, 100);
    const int32_t swap[4] = {a, b, b, a}; /* the child's a is our b */
    char script[64];
    int n = snprintf(script, sizeof script, "bash%c-c%cecho hi >&%d", 0, 0, a);
    MUST(n > 0);
    int r = fp_spawn(&plain, NULL, "/bin/bash\0/usr/bin/bash", 2, script, 3, ENVIRONMENT, -1, -1, FP_STDIO_NULL,
                     FP_STDIO_NULL, FP_STDIO_INHERIT, swap, 2, -1, &child);
    MUST(made(r, &child) == 0);
    MUST(wait_end(&child, &status) == 0 && status.returncode == 0);
    close(b);
    close(file[1]);
    MUST(read(file[0], word, sizeof word) == 3 && memcmp(word, "hi\n", 3) == 0);
    close(a);
    close(file[0]);
    close_all(&child);
}

/* Both outputs captured, stdin fed or none. */
static struct fp_request request_of(const char *input, size_t len, int64_t timeout_ns)
{
    return (struct fp_request){
        .attr = &plain,
        .input = input,
        .input_len = len,
        .timeout_ns = timeout_ns,
        .grace_ns = 20000000,
        .drain_ns = 1000000000,
        .cwd_fd = -1,
        .cgroup_fd = -1,
        .stdio = {input ? FP_STDIO_PIPE : FP_STDIO_NULL, FP_STDIO_PIPE, FP_STDIO_PIPE},
    };
}

static void run(struct fp_job *job, const char *path, const char *argv, uint32_t argc, const char *input, size_t len,
                int64_t timeout_ns)
{
    const struct fp_request request = request_of(input, len, timeout_ns);
    int r = fp_run(&request, path, 1, argv, argc, ENVIRONMENT, 50000000, job);
    while (r == FP_JOB_AGAIN)
        r = fp_run_resume(job, 50000000);
    MUST(r == FP_JOB_DONE);
    MUST(job->error == 0);
}

static const char *text(const struct fp_sink *sink)
{
    return sink->heap ? sink->heap : sink->fixed;
}

static void check_run(struct fp_job *job, const char *big, size_t len)
{
    run(job, SH("cat; echo err >&2"), big, len, -1);
    MUST(job->sink[0].len == len && memcmp(text(&job->sink[0]), big, len) == 0);
    MUST(job->sink[1].len == 4 && memcmp(text(&job->sink[1]), "err\n", 4) == 0);
    MUST(job->status.state == FP_WAIT_EXITED && job->status.returncode == 0);
    char *copy = malloc(len);
    MUST(copy != NULL);
    fp_job_take(job, 0, copy);
    MUST(memcmp(copy, big, len) == 0);
    free(copy);

    run(job, SH("exec sleep 60"), NULL, 0, 5000000);
    MUST(job->flags & FP_JOB_TIMED_OUT);
    MUST(job->status.returncode == -SIGTERM || job->status.returncode == -SIGKILL);

    run(job, SH("exit 9"), "unread", 6, -1);
    MUST(job->status.returncode == 9);
}

/* Several jobs on one epoll: each is told when it is over, and the memory of all is given back. */
#define JOBS 6
static void check_group(void)
{
    struct fp_job *jobs = calloc(JOBS, sizeof *jobs);
    int epoll = epoll_create1(EPOLL_CLOEXEC), left = 0;
    MUST(jobs != NULL && epoll >= 0);
    const struct fp_request request = request_of("x", 1, -1);
    for (int i = 0; i < JOBS; i++) {
        const char *script = i < JOBS - 1 ? "sh\0-c\0cat; echo err >&2; exit 4" : "sh\0-c\0exec sleep 60";
        int r = fp_job_begin(&request, "/bin/sh", 1, script, 3, ENVIRONMENT, 0, &jobs[i]);
        MUST(r == FP_JOB_AGAIN || r == FP_JOB_DONE);
        if (r == FP_JOB_AGAIN) {
            MUST(fp_job_watch(&jobs[i], epoll, i) == 0);
            left++;
        }
    }
    fp_job_stop(&jobs[JOBS - 1]);
    left -= !jobs[JOBS - 1].live;
    while (left > 0) {
        struct pollfd ready = {.fd = epoll, .events = POLLIN};
        int64_t keys[JOBS];
        poll(&ready, 1, 5);
        int n = fp_group_step(epoll, keys, JOBS);
        MUST(n >= 0);
        left = 0;
        for (int i = 0; i < JOBS; i++) { /* by the deadline, as the caller's timer does; a key may have come twice */
            if (jobs[i].live && jobs[i].due_ns >= 0)
                fp_job_step(&jobs[i], 0);
            left += jobs[i].live != 0;
        }
    }
    for (int i = 0; i < JOBS; i++) {
        MUST(jobs[i].error == 0 && jobs[i].failure == 0 && jobs[i].status.state == FP_WAIT_EXITED);
        MUST(i == JOBS - 1 ? jobs[i].status.returncode == -SIGTERM || jobs[i].status.returncode == -SIGKILL
                           : jobs[i].status.returncode == 4 && jobs[i].sink[0].len == 1 && jobs[i].sink[1].len == 4);
        fp_job_close(&jobs[i]);
    }
    close(epoll);
    free(jobs);
}

static int launch(const char *path, struct fp_child *child)
{
    void *made;
    int r = fp_launch(&plain, NULL, path, 1, "sh\0-c\0exit 6", 3, ENVIRONMENT, -1, -1, FP_STDIO_NULL, FP_STDIO_PIPE,
                      FP_STDIO_NULL, NULL, 0, child, &made);
    struct fp_child before = *child;
    while (r == FP_JOB_AGAIN)
        r = fp_launch_over(made, 1000000, child);
    if (r < 0 && made != NULL) { /* its descriptors are ours to close */
        close_all(&before);
        MUST(child->pid == -1 && child->pidfd == -1 && child->fd[1] == -1);
    }
    fp_launch_free(made);
    return r;
}

static void check_launch(void)
{
    struct fp_child child;
    struct fp_status status;
    MUST(launch("/bin/sh", &child) == 0);
    MUST(wait_end(&child, &status) == 0 && status.returncode == 6);
    close_all(&child);
    MUST(launch("/nonexistent/sh", &child) == -ENOENT && child.stage == FP_STAGE_EXEC);
}

#define STAGES 3

/* A pipeline of three, fed and read. Returns what fp_pipeline() does; *ended is filled. */
static int pipe_through(struct fp_job *jobs, const char *const scripts[STAGES], const char *input, size_t len,
                        int64_t timeout_ns, struct fp_pipeline *pipeline, struct fp_ended *ended)
{
    const struct fp_request request = request_of(input, len, timeout_ns);
    struct fp_member members[STAGES];
    for (int i = 0; i < STAGES; i++) {
        members[i] = (struct fp_member){
            .request = &request,
            .paths = "/no/such/shell\0/bin/sh",
            .npaths = 2,
            .argv = scripts[i],
            .argc = 3,
            .env = "PATH=/bin:/usr/bin",
            .envc = 1,
            .job = &jobs[i],
        };
    }
    *pipeline = (struct fp_pipeline){.n = STAGES, .pipe_size = 65536, .members = members, .ended = ended};
    int r = fp_pipeline(pipeline, 50000000);
    while (r == FP_JOB_AGAIN)
        r = fp_pipeline_resume(pipeline, 50000000);
    for (int i = 0; i < STAGES; i++)
        MUST(!jobs[i].live);
    return r;
}

static const char *const passing[STAGES] = {"sh\0-c\0exec cat", "sh\0-c\0cat; echo err >&2", "sh\0-c\0exec cat"};

static void check_pipeline(struct fp_job *jobs, const char *big, size_t len)
{
    static const char *const broken[STAGES] = {"sh\0-c\0while :; do echo y; done", "sh\0-c\0exec cat",
                                               "sh\0-c\0exit 3"};
    static const char *const slow[STAGES] = {"sh\0-c\0exec sleep 60", "sh\0-c\0exec cat", "sh\0-c\0exec sleep 60"};
    struct fp_pipeline pipeline;
    struct fp_ended ended[STAGES];
    MUST(pipe_through(jobs, passing, big, len, -1, &pipeline, ended) == FP_JOB_DONE);
    MUST(pipeline.failed == -1 && pipeline.out == len && pipeline.err == 4);
    MUST(memcmp(text(&jobs[2].sink[0]), big, len) == 0 && memcmp(text(&jobs[1].sink[1]), "err\n", 4) == 0);
    for (int i = 0; i < STAGES; i++)
        MUST(ended[i].summary[FP_SUM_STATE] == FP_WAIT_EXITED && ended[i].summary[FP_SUM_RETURNCODE] == 0);

    MUST(pipe_through(jobs, broken, NULL, 0, -1, &pipeline, ended) == FP_JOB_DONE);
    MUST(ended[0].summary[FP_SUM_RETURNCODE] == -SIGPIPE && ended[2].summary[FP_SUM_RETURNCODE] == 3);

    MUST(pipe_through(jobs, slow, NULL, 0, 5000000, &pipeline, ended) == FP_JOB_DONE);
    MUST(ended[0].summary[FP_SUM_FLAGS] & FP_JOB_TIMED_OUT);
    MUST(ended[0].summary[FP_SUM_RETURNCODE] < 0 && ended[2].summary[FP_SUM_RETURNCODE] < 0);

    MUST(pipe_through(jobs, passing, "", 0, -1, &pipeline, ended) == FP_JOB_DONE);
    MUST(pipeline.out == 0 && pipeline.err == 4);
}

/* What lies in one pipe goes into another and stays where it is. */
static void check_tee(void)
{
    int from[2], to[2];
    char word[8];
    MUST(pipe2(from, O_CLOEXEC) == 0 && pipe2(to, O_CLOEXEC) == 0);
    MUST(fp_tee(from[0], to[1], 100) == -EAGAIN);
    MUST(write(from[1], "abc", 3) == 3);
    MUST(fp_tee(from[0], to[1], 100) == 3);
    MUST(read(from[0], word, sizeof word) == 3 && read(to[0], word, sizeof word) == 3);
    MUST(memcmp(word, "abc", 3) == 0);
    close(from[1]);
    int64_t r = fp_tee(from[0], to[1], 100); /* another thread's half-made child may have the end for a moment */
    MUST(r == 0 || r == -EAGAIN);
    MUST(fp_tee(-1, to[1], 100) == -EBADF);
    close(from[0]);
    close(to[0]);
    close(to[1]);
}

/* One child, three threads that wait for it and one that signals. */
struct shared {
    struct fp_child child;
    int told;
};

static void *wait_shared(void *arg)
{
    struct shared *s = arg;
    struct fp_status status;
    struct pollfd item = {s->child.pidfd, POLLIN, 0};
    memset(&status, 0, sizeof status);
    while (poll(&item, 1, -1) < 0)
        ;
    do
        MUST(fp_wait(s->child.pidfd, s->child.pid, 0, &status) == 0);
    while (status.state == FP_WAIT_RUNNING);
    MUST(status.state == FP_WAIT_UNKNOWN || status.returncode == -SIGTERM);
    if (status.state == FP_WAIT_EXITED)
        __atomic_fetch_add(&s->told, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void check_shared(void)
{
    struct shared s = {.told = 0};
    pthread_t threads[3];
    MUST(spawn(&plain, SH("exec sleep 60"), FP_STDIO_NULL, FP_STDIO_NULL, FP_STDIO_NULL, &s.child) == 0);
    if (s.child.pidfd >= 0) {
        for (int i = 0; i < 3; i++)
            MUST(pthread_create(&threads[i], NULL, wait_shared, &s) == 0);
    }
    MUST(fp_signal(s.child.pidfd, s.child.pid, SIGTERM) == 0);
    if (s.child.pidfd >= 0) {
        for (int i = 0; i < 3; i++)
            pthread_join(threads[i], NULL);
        MUST(s.told == 1);
        MUST(fp_signal(s.child.pidfd, s.child.pid, SIGTERM) == -ESRCH);
    } else {
        struct fp_status status;
        MUST(wait_end(&s.child, &status) == 0 && status.returncode == -SIGTERM);
    }
    close_all(&s.child);
}

static int rounds;

static void *work(void *arg)
{
    (void)arg;
    struct fp_job *job = calloc(1, sizeof *job), *jobs = calloc(STAGES, sizeof *jobs);
    size_t len = 300000;
    char *big = malloc(len);
    MUST(job && jobs && big);
    for (size_t i = 0; i < len; i++)
        big[i] = (char)('a' + i % 23);
    for (int i = 0; i < rounds; i++) {
        check_exit();
        check_missing();
        check_setup();
        check_fds();
        check_identity();
        if (i % 4 == 0) {
            check_run(job, big, len);
            check_shared();
            if (!PORTABLE)
                check_group();
            check_pipeline(jobs, big, len);
            if (!PORTABLE)
                check_tee();
        }
        check_launch();
    }
    fp_job_close(job);
    for (int i = 0; i < STAGES; i++)
        fp_job_close(&jobs[i]);
    free(job);
    free(jobs);
    free(big);
    return NULL;
}

#ifdef FP_FAULTS
/* Each point and stage, with an errno and with the child's death. From one thread: the armed fault is global. */
static int check_faults(void)
{
    int done = 0;
    for (int point = 1; point <= FP_STAGE_EXEC; point++) {
        for (int error = -SIGKILL; error <= ENOMEM; error += SIGKILL + ENOMEM) {
            if (error < 0 && point < FP_POINT_LIMIT)
                continue;
            struct fp_child child;
            struct fp_status status;
            fp_fault_set(point, error, 1);
            int r = spawn(&plain, SH("cat"), FP_STDIO_PIPE, FP_STDIO_PIPE, FP_STDIO_NULL, &child);
            fp_fault_set(0, 0, 0);
            if (r < 0) {
                MUST(r == (error < 0 ? -ECANCELED : -ENOMEM));
                MUST(child.pid == -1 && child.pidfd == -1 && child.fd[0] == -1 && child.fd[1] == -1);
                done++;
            } else {
                close(child.fd[0]);
                child.fd[0] = -1;
                /* Not hit; or killed when all was set up, which cannot be told from a program killed at its start. */
                MUST(wait_end(&child, &status) == 0);
                MUST(status.returncode == 0 || (point == FP_STAGE_EXEC && status.returncode == error));
                close_all(&child);
            }
        }
    }
    return done;
}
/* The same in the first, second and third command of a pipeline. */
static int check_pipeline_faults(void)
{
    int done = 0;
    struct fp_job *jobs = calloc(STAGES, sizeof *jobs);
    struct fp_pipeline pipeline;
    struct fp_ended ended[STAGES];
    MUST(jobs != NULL);
    for (int point = 1; point <= FP_STAGE_EXEC; point++) {
        if (point == FP_POINT_GROW || point == FP_POINT_MOVE) /* of the output, not of the start */
            continue;
        for (int nth = 1; nth <= STAGES; nth++) {
            fp_fault_set(point, ENOMEM, nth);
            int r = pipe_through(jobs, passing, "in", 2, -1, &pipeline, ended);
            fp_fault_set(0, 0, 0);
            if (r < 0) {
                MUST(r == -ENOMEM && pipeline.failed >= 0 && pipeline.failed < STAGES);
                done++;
            } else {
                MUST(pipeline.out == 2);
            }
        }
    }
    for (int i = 0; i < STAGES; i++)
        fp_job_close(&jobs[i]);
    free(jobs);
    return done;
}
#endif

static int count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"auto", "clone3_vm", "clone_vm", "clone", "posix_spawn", "fork_pipe"};
    rounds = argc > 1 ? atoi(argv[1]) : 12;
    int only = -1;
    for (int m = 0; argc > 2 && m <= 5; m++) {
        if (strcmp(argv[2], names[m]) == 0)
            only = m;
    }
    if (PORTABLE)
        signal(SIGPIPE, SIG_IGN); /* it does not block it for a write; Python ignores it */
    struct fp_features features;
    MUST(fp_probe(1, &features) == 0);
    int before = count_fds(), faults = 0;
    check_parts();
    if (only <= FP_MECHANISM_CLONE3_VM)
        work(NULL); /* before there is a second thread: runs without a pidfd */
    for (int m = 0; m <= FP_MECHANISM_FORK_PIPE; m++) {
        if (features.refused[m] || (only >= 0 && only != m)) {
            if (features.refused[m])
                printf("%s: refused, errno %d\n", names[m], features.refused[m]);
            continue;
        }
        MUST(fp_mechanism_force(m) == 0);
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            MUST(pthread_create(&threads[i], NULL, work, NULL) == 0);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
#ifdef FP_FAULTS
        faults += check_faults();
        faults += check_pipeline_faults();
#endif
        printf("%s: %d threads, %d rounds each, %d faults so far\n", names[m], THREADS, rounds, faults);
    }
    if (only < 0)
        check_signals(rounds * 20);
    if (!PORTABLE)
        check_snapshots(rounds * 5);
    MUST(fp_mechanism_force(FP_MECHANISM_AUTO) == 0);
    check_pool(rounds);
    MUST(count_fds() == before);
    MUST(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    puts("ok");
    return 0;
}
