/* pool_completions.c: the completion queues. Each consumer of a pool has one: its tasks arrive there when they have
 * ended, and its eventfd is readable while there are any.
 *
 * fp_completion_queue_take() copies records out of jobs without the lock, as outputs may be large; fp_pool_close()
 * waits for these calls (pool->copying). A queue's memory is freed by its handle, or, when a task may still be posted
 * to it, together with the pool's. */
#include "pool.h"

#if FP_LINUX

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* Closes the descriptor, or leaves that to the last call that waits for it. The caller holds the lock. */
void fp__completion_queue_end(struct completion_queue *completions)
{
    completions->closed = true;
    if (completions->fd >= 0 && completions->waiters == 0) {
        fp__close(completions->fd);
        completions->fd = -1;
    } else if (completions->fd >= 0) {
        notify(completions->fd);
    }
}

int fp_completion_queue_new(void *of, void **ret_completions)
{
    struct pool *pool = of;
    *ret_completions = NULL;
    if (in_forked_copy(pool))
        return -ECHILD;
    int saved = errno;
    struct completion_queue *completions = calloc(1, sizeof *completions);
    int fd = completions == NULL ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = errno;
    errno = saved;
    if (fd >= 0 && fd < 3) {
        fd = fp__fd_lift(fd, 3);
        error = -fd;
    }
    if (fd < 0) {
        free(completions);
        return -error;
    }
    *completions = (struct completion_queue){.pool = pool, .fd = fd, .want = 1};
    pthread_mutex_lock(&pool->lock);
    if (pool->phase != OPEN) {
        pthread_mutex_unlock(&pool->lock);
        fp__close(fd);
        free(completions);
        return -ESHUTDOWN;
    }
    completions->next = pool->queues;
    pool->queues = completions;
    pool->references++;
    pthread_mutex_unlock(&pool->lock);
    *ret_completions = completions;
    return fd;
}

/* The pool has no task of this queue any more. */
void fp_completion_queue_close(void *of)
{
    struct completion_queue *completions = of;
    struct pool *pool = completions->pool;
    if (in_forked_copy(pool))
        return;
    pthread_mutex_lock(&pool->lock);
    fp__completion_queue_end(completions);
    pthread_mutex_unlock(&pool->lock);
}

void fp_completion_queue_free(void **cell)
{
    struct completion_queue *completions = *cell;
    if (completions == NULL)
        return;
    *cell = NULL;
    struct pool *pool = completions->pool;
    if (!in_forked_copy(pool)) {
        pthread_mutex_lock(&pool->lock);
        fp__completion_queue_end(completions);
        bool used = completions->tasks > 0; /* one may still be posted: then the pool frees the memory */
        for (struct completion_queue **at = &pool->queues; !used && *at != NULL; at = &(*at)->next) {
            if (*at == completions) {
                *at = completions->next;
                break;
            }
        }
        pthread_mutex_unlock(&pool->lock);
        if (!used) {
            free(completions->throttled.tasks);
            free(completions);
        }
    }
    fp__pool_unref(pool);
}

void fp_completion_queue_notify(void *of)
{
    struct completion_queue *completions = of;
    if (in_forked_copy(completions->pool))
        return;
    pthread_mutex_lock(&completions->pool->lock);
    if (completions->fd >= 0)
        notify(completions->fd);
    pthread_mutex_unlock(&completions->pool->lock);
}

/* Whether a record and the arena have room for all that there is to tell about the job. */
static bool is_plain(const struct fp_job *job, uint64_t room)
{
    return job->error == 0 && !job->abandoned && !(job->flags & FP_JOB_PIPES_OPEN) &&
           job->status.state == FP_WAIT_EXITED && !job->summary[FP_SUM_ON_HEAP] &&
           job->sink[0].len + job->sink[1].len <= room;
}

static void record(const struct task *task, struct fp_done *done, char *arena, uint64_t size, uint64_t *used)
{
    struct fp_job *job = task->job;
    *done = (struct fp_done){.key = task->key, .job = job, .code = task->result, .stopped = task->stop};
    if (task->state == TASK_DELEGATED) {
        done->what = FP_DONE_DELEGATED;
    } else if (task->result < 0) {
        done->what = FP_DONE_FAILED;
    } else {
        memcpy(done->summary, job->summary, sizeof done->summary);
        done->usage = job->status.usage;
        done->what = is_plain(job, size - *used) ? FP_DONE_PLAIN : FP_DONE_JOB;
    }
    if (done->what != FP_DONE_PLAIN)
        return;
    done->job = NULL;
    done->at = (int64_t)*used;
    for (int i = 0; i < 2; i++) {
        if (job->sink[i].len > 0)
            memcpy(arena + *used, job->sink[i].fixed, job->sink[i].len);
        *used += job->sink[i].len;
    }
}

static int await_ended(struct completion_queue *completions, int64_t want, int64_t wait_ns)
{
    struct pool *pool = completions->pool;
    int64_t until = wait_ns < 0 ? -1 : fp__now() + wait_ns;
    while (completions->count == 0) {
        struct pollfd fd = {.fd = completions->fd, .events = POLLIN};
        if (completions->closed)
            return -ESHUTDOWN;
        completions->want = 1;
        pthread_mutex_unlock(&pool->lock);
        int r = fp__wait_for(&fd, 1, until);
        pthread_mutex_lock(&pool->lock);
        if (r == -EINTR)
            return r;
        if (completions->closed)
            return -ESHUTDOWN;
        if (r > 0 && completions->count == 0) { /* fp_completion_queue_notify() */
            clear(completions->fd);
            return 0;
        }
        if (r == 0)
            return 0;
    }
    if (completions->count < want && (wait_ns < 0 || wait_ns > FP_POOL_LINGER_NS)) {
        struct pollfd fd = {.fd = completions->fd, .events = POLLIN};
        clear(completions->fd);
        completions->notified = false;
        completions->want = want;
        pthread_mutex_unlock(&pool->lock);
        fp__wait_for(&fd, 1, fp__now() + FP_POOL_LINGER_NS);
        pthread_mutex_lock(&pool->lock);
        completions->want = 1;
    }
    return completions->closed ? -ESHUTDOWN : 0;
}

int fp_completion_queue_take(void *of, struct fp_done *ret_done, int n, char *arena, uint64_t size, int64_t want,
                             int64_t wait_ns)
{
    struct completion_queue *completions = of;
    struct pool *pool = completions->pool;
    struct list taken = {0};
    int count = 0, i = 0;
    uint64_t used = 0;
    if (in_forked_copy(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    completions->waiters++;
    int r = completions->closed ? -ESHUTDOWN
            : wait_ns == 0      ? 0
                                : await_ended(completions, want < n ? want : n, wait_ns);
    completions->waiters--;
    if (completions->closed || pool->phase != OPEN) {
        fp__completion_queue_end(completions);
        pthread_mutex_unlock(&pool->lock);
        return -ESHUTDOWN;
    }
    for (struct task *task; count < n && (task = list_take(&completions->ended)) != NULL; count++) {
        list_add(&taken, task);
        completions->count--;
    }
    if (completions->count == 0) {
        clear(completions->fd);
        completions->notified = false;
    } else if (!completions->notified) {
        completions->notified = true;
        notify(completions->fd);
    }
    pool->copying++; /* keeps fp_pool_close() from closing what was taken */
    pthread_mutex_unlock(&pool->lock);
    count = 0;
    for (const struct task *task = taken.first; task != NULL; task = task->next)
        record(task, &ret_done[count++], arena, size, &used);
    pthread_mutex_lock(&pool->lock);
    for (struct task *task; (task = list_take(&taken)) != NULL;) {
        const struct fp_done *done = &ret_done[i++];
        if (done->what == FP_DONE_DELEGATED)
            continue;
        struct fp_job *job = task->job;
        completions->undelivered--;
        task->job = NULL; /* it belongs to the pool's unused jobs or to the caller now */
        if (done->what == FP_DONE_PLAIN)
            fp__pool_job_give(pool, job);
        else if (job != NULL)
            fp__pool_job_lend(pool, job);
        fp__task_free(pool, task, TASK_TAKE);
    }
    if (i > 0) {
        fp__pool_resume_throttled(pool, completions, i);
        fp__pool_wake_one(pool);
    }
    if (--pool->copying == 0 && pool->phase == CLOSING)
        pthread_cond_broadcast(&pool->closed);
    pthread_mutex_unlock(&pool->lock);
    return count > 0 ? count : r; /* what was taken is returned even after a signal */
}

#else /* other POSIX systems */

int fp_completion_queue_new(void *pool, void **ret_completions)
{
    (void)pool;
    *ret_completions = NULL;
    return -ENOSYS;
}

void fp_completion_queue_close(void *completions)
{
    (void)completions;
}

void fp_completion_queue_free(void **cell)
{
    (void)cell;
}

void fp_completion_queue_notify(void *completions)
{
    (void)completions;
}

int fp_completion_queue_take(void *completions, struct fp_done *ret_done, int n, char *arena, uint64_t size,
                             int64_t want, int64_t wait_ns)
{
    (void)completions, (void)ret_done, (void)n, (void)arena, (void)size, (void)want, (void)wait_ns;
    return -ENOSYS;
}

#endif
