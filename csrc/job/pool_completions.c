/* pool_completions.c: where the tasks of one consumer come when they have ended, and how it takes them. */
#include "pool.h"

#if FP_LINUX

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* A tray's descriptor: closed by the last call that waits for it. With the lock held. */
void fp__tray_end(struct fp_tray *tray)
{
    tray->closed = true;
    if (tray->fd >= 0 && tray->users == 0) {
        fp__close(tray->fd);
        tray->fd = -1;
    } else if (tray->fd >= 0) {
        ring(tray->fd);
    }
}

int fp_tray_new(void *of, void **ret_tray)
{
    struct fp_pool *pool = of;
    *ret_tray = NULL;
    if (is_foreign(pool))
        return -ECHILD;
    int saved = errno;
    struct fp_tray *tray = calloc(1, sizeof *tray);
    int fd = tray == NULL ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = errno;
    errno = saved;
    if (fd >= 0 && fd < 3) {
        fd = fp__fd_lift(fd, 3);
        error = -fd;
    }
    if (fd < 0) {
        free(tray);
        return -error;
    }
    *tray = (struct fp_tray){.pool = pool, .fd = fd, .want = 1};
    pthread_mutex_lock(&pool->lock);
    if (pool->end != OPEN) {
        pthread_mutex_unlock(&pool->lock);
        fp__close(fd);
        free(tray);
        return -ESHUTDOWN;
    }
    tray->next = pool->trays;
    pool->trays = tray;
    pool->handles++;
    pthread_mutex_unlock(&pool->lock);
    *ret_tray = tray;
    return fd;
}

/* No task of it is left. */
void fp_tray_close(void *of)
{
    struct fp_tray *tray = of;
    struct fp_pool *pool = tray->pool;
    if (is_foreign(pool))
        return;
    pthread_mutex_lock(&pool->lock);
    fp__tray_end(tray);
    pthread_mutex_unlock(&pool->lock);
}

void fp_tray_free(void **cell)
{
    struct fp_tray *tray = *cell;
    if (tray == NULL)
        return;
    *cell = NULL;
    struct fp_pool *pool = tray->pool;
    if (!is_foreign(pool)) {
        pthread_mutex_lock(&pool->lock);
        fp__tray_end(tray);
        bool used = tray->tasks > 0; /* a task of it may still be posted to it: then its memory goes with the pool's */
        for (struct fp_tray **at = &pool->trays; !used && *at != NULL; at = &(*at)->next) {
            if (*at == tray) {
                *at = tray->next;
                break;
            }
        }
        pthread_mutex_unlock(&pool->lock);
        if (!used) {
            free(tray->held.tasks);
            free(tray);
        }
    }
    fp__pool_drop(pool);
}

void fp_tray_ring(void *of)
{
    struct fp_tray *tray = of;
    if (is_foreign(tray->pool))
        return;
    pthread_mutex_lock(&tray->pool->lock);
    if (tray->fd >= 0)
        ring(tray->fd);
    pthread_mutex_unlock(&tray->pool->lock);
}

/* Whether all of it fits a record and the arena. */
static bool is_plain(const struct fp_job *job, uint64_t room)
{
    return job->error == 0 && !job->left && !(job->flags & FP_JOB_PIPES_OPEN) && job->status.state == FP_WAIT_EXITED &&
           !job->summary[FP_SUM_ON_HEAP] && job->sink[0].len + job->sink[1].len <= room;
}

static void record(const struct task *task, struct fp_done *done, char *arena, uint64_t size, uint64_t *used)
{
    struct fp_job *job = task->job;
    *done = (struct fp_done){.key = task->key, .job = job, .code = task->result, .stopped = task->stop};
    if (task->state == TASK_DELEGATED) {
        done->what = FP_DONE_GRANTED;
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

static int await_ended(struct fp_tray *tray, int64_t want, int64_t wait_ns)
{
    struct fp_pool *pool = tray->pool;
    int64_t until = wait_ns < 0 ? -1 : fp__now() + wait_ns;
    while (tray->count == 0) {
        struct pollfd fd = {.fd = tray->fd, .events = POLLIN};
        if (tray->closed)
            return -ESHUTDOWN;
        tray->want = 1;
        pthread_mutex_unlock(&pool->lock);
        int r = fp__wait_for(&fd, 1, until);
        pthread_mutex_lock(&pool->lock);
        if (r == -EINTR)
            return r;
        if (tray->closed)
            return -ESHUTDOWN;
        if (r > 0 && tray->count == 0) { /* somebody rang */
            hush(tray->fd);
            return 0;
        }
        if (r == 0)
            return 0;
    }
    if (tray->count < want && (wait_ns < 0 || wait_ns > FP_POOL_LINGER_NS)) {
        struct pollfd fd = {.fd = tray->fd, .events = POLLIN};
        hush(tray->fd);
        tray->told = false;
        tray->want = want;
        pthread_mutex_unlock(&pool->lock);
        fp__wait_for(&fd, 1, fp__now() + FP_POOL_LINGER_NS);
        pthread_mutex_lock(&pool->lock);
        tray->want = 1;
    }
    return tray->closed ? -ESHUTDOWN : 0;
}

int fp_tray_take(void *of, struct fp_done *ret_done, int n, char *arena, uint64_t size, int64_t want, int64_t wait_ns)
{
    struct fp_tray *tray = of;
    struct fp_pool *pool = tray->pool;
    struct list taken = {0};
    int count = 0, i = 0;
    uint64_t used = 0;
    if (is_foreign(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    tray->users++;
    int r = tray->closed ? -ESHUTDOWN : wait_ns == 0 ? 0 : await_ended(tray, want < n ? want : n, wait_ns);
    tray->users--;
    if (tray->closed || pool->end != OPEN) {
        fp__tray_end(tray);
        pthread_mutex_unlock(&pool->lock);
        return -ESHUTDOWN;
    }
    for (struct task *task; count < n && (task = list_take(&tray->ended)) != NULL; count++) {
        list_add(&taken, task);
        tray->count--;
    }
    if (tray->count == 0) {
        hush(tray->fd);
        tray->told = false;
    } else if (!tray->told) {
        tray->told = true;
        ring(tray->fd);
    }
    pool->copying++; /* nothing that was taken is closed meanwhile */
    pthread_mutex_unlock(&pool->lock);
    count = 0;
    for (const struct task *task = taken.first; task != NULL; task = task->next)
        record(task, &ret_done[count++], arena, size, &used);
    pthread_mutex_lock(&pool->lock);
    for (struct task *task; (task = list_take(&taken)) != NULL;) {
        const struct fp_done *done = &ret_done[i++];
        if (done->what == FP_DONE_GRANTED)
            continue;
        struct fp_job *job = task->job;
        tray->untaken--;
        task->job = NULL; /* another's from now on */
        if (done->what == FP_DONE_PLAIN)
            fp__pool_job_give(pool, job);
        else if (job != NULL)
            fp__pool_job_lend(pool, job);
        fp__task_free(pool, task, TASK_TAKE);
    }
    if (i > 0) {
        fp__pool_unhold(pool, tray, i);
        fp__pool_nudge(pool);
    }
    if (--pool->copying == 0 && pool->end == CLOSING)
        pthread_cond_broadcast(&pool->closed);
    pthread_mutex_unlock(&pool->lock);
    return count > 0 ? count : r; /* what was taken is told, also when a signal came */
}

#else /* other POSIX systems */

int fp_tray_new(void *pool, void **ret_tray)
{
    (void)pool;
    *ret_tray = NULL;
    return -ENOSYS;
}

void fp_tray_close(void *tray)
{
    (void)tray;
}

void fp_tray_free(void **cell)
{
    (void)cell;
}

void fp_tray_ring(void *tray)
{
    (void)tray;
}

int fp_tray_take(void *tray, struct fp_done *ret_done, int n, char *arena, uint64_t size, int64_t want, int64_t wait_ns)
{
    (void)tray, (void)ret_done, (void)n, (void)arena, (void)size, (void)want, (void)wait_ns;
    return -ENOSYS;
}

#endif
