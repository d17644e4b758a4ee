/* pool: submitting, taking, cancelling and running delegated tasks from several threads on one pool, and closing it in the middle. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pool.h"

#include "fastproc.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#define THREADS 4
#define BATCH 16

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static const struct fp_attr plain = {.size = sizeof(struct fp_attr), .flags = FP_ATTR_PGID};
static const struct fp_request request = {
    .attr = &plain,
    .input = "in",
    .input_len = 2,
    .timeout_ns = -1,
    .grace_ns = 100000000,
    .drain_ns = 1000000000,
    .cwd_fd = -1,
    .cgroup_fd = -1,
    .stdio = {FP_STDIO_PIPE, FP_STDIO_PIPE, FP_STDIO_PIPE},
};

static struct {
    void *pool;
    struct fp_job *job;
    int rounds;
} shared;

static void submit(void *queue, int64_t key, const char *script, const struct fp_request *what,
                   struct fp_ticket *ticket)
{
    MUST(fp_pool_submit(shared.pool, queue, key, what, "/bin/sh", 1, script, 3, "PATH=/bin:/usr/bin", 1, key % 3,
                        key % 5 ? 0 : 1000000, ticket) == 0);
}

/* Every round: one that writes, one that is missing, one that is stopped, one that this thread runs itself. */
static void *work(void *unused)
{
    (void)unused;
    void *queue;
    int fd = fp_completion_queue_new(shared.pool, &queue), taken = 0, expected = 0, delegated = 0;
    struct fp_done done[BATCH];
    char arena[4096];
    MUST(fd >= 3);
    for (int i = 0; i < shared.rounds; i++) {
        struct fp_ticket tickets[4];
        submit(queue, 4 * i, "sh\0-c\0cat; echo err >&2", &request, &tickets[0]);
        submit(queue, 4 * i + 1, "sh\0-c\0exit 7", &request, &tickets[1]);
        submit(queue, 4 * i + 2, "sh\0-c\0sleep 60", &request, &tickets[2]);
        submit(queue, 4 * i + 3, "sh\0-c\0exit 0", NULL, &tickets[3]);
        expected += 3;
        if (fp_pool_cancel(shared.pool, &tickets[2], 2) == FP_TASK_QUEUED)
            expected--;
        bool over = false;
        while (taken < expected || !over) {
            int n = fp_completion_queue_take(queue, done, BATCH, arena, sizeof arena, 2, 1000000000);
            MUST(n >= 0);
            for (int k = 0; k < n; k++) {
                int kind = (int)(done[k].key % 4);
                if (done[k].what == FP_DONE_DELEGATED) {
                    MUST(kind == 3 && fp_pool_cancel(shared.pool, &tickets[3], 0) == FP_TASK_DELEGATED);
                    MUST(fp_pool_release(shared.pool, &tickets[3]) == 0);
                    MUST(fp_pool_release(shared.pool, &tickets[3]) == -ESRCH);
                    delegated++;
                    over = true;
                    continue;
                }
                MUST(done[k].what == FP_DONE_PLAIN && done[k].job == NULL);
                int64_t code = done[k].summary[FP_SUM_RETURNCODE];
                MUST(kind != 0 || (code == 0 && memcmp(arena + done[k].at, "inerr\n", 6) == 0));
                MUST(kind != 1 || code == 7);
                MUST(kind != 2 || code == -9);
                taken++;
            }
        }
        MUST(fp_pool_cancel(shared.pool, &tickets[0], 2) == FP_TASK_GONE);
    }
    MUST(delegated == shared.rounds);
    fp_completion_queue_close(queue);
    MUST(fp_completion_queue_take(queue, done, BATCH, arena, sizeof arena, 1, -1) == -ESHUTDOWN);
    fp_completion_queue_free(&queue);
    return NULL;
}

/* A signal handler of the interpreter may close a pool at any moment before a call into it: every call finds it closed. */
static void check_closed(void *queue, struct fp_ticket *ticket)
{
    struct fp_done done[BATCH];
    char arena[64];
    int64_t queued, running;
    void *other;
    fp_pool_close(shared.pool);
    fp_pool_close(shared.pool);
    MUST(fp_completion_queue_take(queue, done, BATCH, arena, sizeof arena, 1, -1) == -ESHUTDOWN);
    MUST(fp_completion_queue_new(shared.pool, &other) == -ESHUTDOWN);
    MUST(fp_pool_submit(shared.pool, queue, 1, &request, "/bin/true", 1, "true", 1, "", 0, 0, 0, ticket) == -ESHUTDOWN);
    MUST(fp_pool_cancel(shared.pool, ticket, 2) == FP_TASK_GONE);
    MUST(fp_pool_dispatch(shared.pool, ticket, &request, "", 0, "", 0, "", 0) == -ESRCH);
    MUST(fp_pool_release(shared.pool, ticket) == -ESRCH);
    MUST(fp_pool_count(shared.pool, &queued, &running) == 0 && queued == 0 && running == 0);
    MUST(fp_pool_set(shared.pool, 1, 0, 0) == 0);
    fp_completion_queue_notify(queue);
    fp_completion_queue_close(queue);
    fp_pool_free(&shared.pool);
    fp_completion_queue_notify(queue);
    MUST(fp_completion_queue_take(queue, done, BATCH, arena, sizeof arena, 1, 0) == -ESHUTDOWN);
    fp_completion_queue_free(&queue);
    fp_completion_queue_free(&queue);
}

/* Closed while a thread waits in it; a job that was taken outlives the pool. */
static void *wait_for_end(void *queue)
{
    struct fp_done done[BATCH];
    char arena[1];
    int n;
    while ((n = fp_completion_queue_take(queue, done, BATCH, arena, sizeof arena, 1, -1)) >= 0)
        for (int i = 0; i < n; i++)
            if (done[i].what == FP_DONE_JOB)
                shared.job = done[i].job;
    MUST(n == -ESHUTDOWN);
    return NULL;
}

static void check_waiting(void)
{
    pthread_t thread;
    void *queue;
    struct fp_ticket ticket;
    int64_t queued, running = 1;
    MUST(fp_pool_new(1, 1, &shared.pool) == 0 && fp_completion_queue_new(shared.pool, &queue) >= 3);
    submit(queue, 1, "sh\0-c\0echo too much for its place", &request, &ticket);
    MUST(pthread_create(&thread, NULL, wait_for_end, queue) == 0);
    for (queued = 1; queued + running > 0;)
        MUST(fp_pool_count(shared.pool, &queued, &running) == 0);
    struct timespec pause = {.tv_nsec = 50000000};
    nanosleep(&pause, NULL);
    fp_pool_close(shared.pool);
    pthread_join(thread, NULL);
    void *pool = shared.pool;
    fp_pool_free(&shared.pool);
    if (shared.job != NULL) {
        MUST(shared.job->sink[0].len == 23);
        fp_pool_recycle(pool, shared.job);
    }
    fp_completion_queue_free(&queue);
}

void check_pool(int rounds)
{
    pthread_t threads[THREADS];
    int r = fp_pool_new(6, 2, &shared.pool);
    if (r == -ENOSYS) /* the portable build */
        return;
    MUST(r == 0);
    shared.rounds = rounds;
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_create(&threads[i], NULL, work, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    int64_t queued, running;
    MUST(fp_pool_count(shared.pool, &queued, &running) == 0 && queued == 0 && running == 0);
    void *queue;
    MUST(fp_completion_queue_new(shared.pool, &queue) >= 3);
    struct fp_ticket ticket;
    for (int i = 1; i < 20; i++) /* those that run are killed, those that wait forgotten */
        submit(queue, i, "sh\0-c\0sleep 60", &request, &ticket);
    check_closed(queue, &ticket);
    check_waiting();
    printf("pool: %d threads, %d rounds each\n", THREADS, rounds);
}
