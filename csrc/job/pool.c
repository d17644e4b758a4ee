/* pool.c: a pool runs many commands, a limited number at a time, in threads of its own. Here: the calls on a pool and
 * on its tasks.
 *
 * One mutex protects everything but the fields of a thread that only that thread uses. It is never held during a system
 * call that can block, and no signal handler takes it: the pool's threads block every signal, and a caller's handler
 * that calls into the same pool while its own thread holds the mutex cannot happen, as Python runs handlers between
 * bytecodes only.
 *
 * A forked copy of the process has the pool's memory and none of its threads, and a thread of the parent may have held
 * the mutex at the fork. Every call therefore compares the pid first, and in a copy does nothing but close descriptors
 * (GOTCHAS I2). */
#include "pool.h"

#if FP_LINUX

#include <stdlib.h>

#define THREADS_MAX 16

/* Closes descriptors and children, and frees nothing. The pool has no thread any more. */
static void close_all(struct pool *pool)
{
    for (unsigned i = 0; i < pool->nworkers; i++) {
        struct worker *worker = &pool->workers[i];
        if (worker->wake >= 0)
            fp__close(worker->wake);
        if (worker->epoll >= 0)
            fp__close(worker->epoll);
        worker->wake = worker->epoll = -1;
    }
    for (struct completion_queue *completions = pool->queues; completions != NULL; completions = completions->next)
        fp__completion_queue_end(completions);
    fp__pool_close_jobs(pool);
}

int fp_pool_new(int64_t limit, int threads, void **ret_pool)
{
    int saved = errno, r = 0;
    unsigned n = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : (unsigned)threads;
    struct pool *pool = calloc(1, sizeof *pool + n * sizeof pool->workers[0]);
    *ret_pool = NULL;
    if (pool == NULL)
        return -ENOMEM;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->closed, NULL);
    pool->references = 1;
    pool->owner = (int32_t)getpid();
    pool->limit = limit;
    pool->delayed.by_time = true;
    pool->nworkers = n;
    uint64_t old = 0, all = ~0ULL & ~(3ULL << 31); /* signals 32 and 33 belong to the C library */
    fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
    pool->child_mask = old;
    for (unsigned i = 0; i < n; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].wake = pool->workers[i].epoll = -1;
        pool->workers[i].polled_max = POLLED_MIN;
        pool->workers[i].epolled_due_ns = -1;
    }
    for (unsigned i = 0; i < n && r == 0; i++)
        r = fp__pool_make_thread(&pool->workers[i]);
    fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
    if (!pool->workers[0].started) {
        close_all(pool);
        fp__pool_unref(pool);
        errno = saved;
        return -r;
    }
    *ret_pool = pool; /* with fewer threads than asked for where the system gave no more */
    errno = saved;
    return 0;
}

void fp_pool_close(void *of)
{
    struct pool *pool = of;
    int saved = errno;
    if (pool == NULL)
        return;
    if (in_forked_copy(pool)) {
        /* A thread of the parent may have held the lock. fp_job_close() only closes descriptors in a copy (GOTCHAS
         * I2). */
        for (struct completion_queue *completions = pool->queues; completions != NULL; completions = completions->next)
            completions->waiters =
                0; /* they are threads of the parent: notifying the eventfd would wake the parent's */
        if (pool->phase != CLOSED)
            close_all(pool);
        pool->phase = CLOSED;
        errno = saved;
        return;
    }
    pthread_mutex_lock(&pool->lock);
    if (pool->phase != OPEN) {
        while (pool->phase != CLOSED)
            pthread_cond_wait(&pool->closed, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
        errno = saved;
        return;
    }
    pool->phase = CLOSING;
    fp__pool_wake_all(pool);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->nworkers; i++) {
        if (pool->workers[i].started)
            pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_mutex_lock(&pool->lock);
    while (pool->copying > 0)
        pthread_cond_wait(&pool->closed, &pool->lock);
    close_all(pool);
    pool->phase = CLOSED;
    pthread_cond_broadcast(&pool->closed);
    pthread_mutex_unlock(&pool->lock);
    errno = saved;
}

void fp_pool_free(void **cell)
{
    struct pool *pool = *cell;
    if (pool == NULL)
        return;
    *cell = NULL;
    fp_pool_close(pool);
    fp__pool_unref(pool);
}

int fp_pool_set(void *of, int64_t limit, int64_t interval_ns, int gated)
{
    struct pool *pool = of;
    if (in_forked_copy(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    pool->limit = limit;
    pool->interval_ns = interval_ns;
    pool->gated = gated;
    if (pool->phase == OPEN)
        fp__pool_wake_all(pool);
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

static void set_command(struct task *task, const struct fp_request *request, const char *paths, uint32_t npaths,
                        const char *argv, uint32_t argc, const char *env, uint32_t envc)
{
    task->request = request;
    task->paths = paths;
    task->npaths = npaths;
    task->argv = argv;
    task->argc = argc;
    task->env = env;
    task->envc = envc;
}

int fp_pool_submit(void *of, void *to, int64_t key, const struct fp_request *request, const char *paths,
                   uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc, int64_t priority,
                   int64_t delay_ns, struct fp_ticket *ret_ticket)
{
    struct pool *pool = of;
    struct completion_queue *completions = to;
    if (in_forked_copy(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    if (pool->phase != OPEN || completions->closed) {
        pthread_mutex_unlock(&pool->lock);
        return -ESHUTDOWN;
    }
    struct task *task = fp__task_new(pool);
    int r = -ENOMEM;
    if (task != NULL) {
        task->key = key;
        task->order = ++pool->order;
        task->priority = priority;
        set_command(task, request, paths, npaths, argv, argc, env, envc);
        task->completions = completions;
        task->not_before_ns = delay_ns > 0 ? fp__now() + delay_ns : 0;
        *ret_ticket = (struct fp_ticket){.task = task, .serial = (int64_t)task->serial};
        if (fp__heap_push(delay_ns > 0 ? &pool->delayed : &pool->ready, task)) {
            r = 0;
            completions->tasks++;
            task_move(&task->state, delay_ns > 0 ? TASK_SUBMIT_DELAYED : TASK_SUBMIT);
            fp__pool_wake_one(pool);
        } else {
            fp__task_unused(pool, task);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return r;
}

/* Returns the task that a ticket stands for, or NULL. The caller holds the lock. The memory of a task is reused, but
 * not freed before the pool's. */
static struct task *task_of_ticket(const struct pool *pool, const struct fp_ticket *ticket)
{
    struct task *task = pool->phase == OPEN ? ticket->task : NULL;
    return task != NULL && task->serial == (uint64_t)ticket->serial ? task : NULL;
}

int fp_pool_dispatch(void *of, const struct fp_ticket *ticket, const struct fp_request *request, const char *paths,
                     uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc)
{
    struct pool *pool = of;
    if (request == NULL)
        return -EINVAL;
    if (in_forked_copy(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    struct task *task = task_of_ticket(pool, ticket);
    int r = -ESRCH;
    if (task != NULL && task->state == TASK_DELEGATED) {
        set_command(task, request, paths, npaths, argv, argc, env, envc);
        task_move(&task->state, TASK_DISPATCH);
        list_add(&pool->dispatched, task);
        fp__pool_wake_one(pool);
        r = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return r;
}

int fp_pool_release(void *of, const struct fp_ticket *ticket)
{
    struct pool *pool = of;
    if (in_forked_copy(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    struct task *task = task_of_ticket(pool, ticket);
    int r = -ESRCH;
    if (task != NULL && task->state == TASK_DELEGATED) {
        pool->running--;
        pool->starved_ns = 0;
        fp__pool_resume_throttled(pool, task->completions, 1);
        fp__task_free(pool, task, TASK_RELEASE);
        fp__pool_wake_one(pool);
        r = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return r;
}

int fp_pool_cancel(void *of, const struct fp_ticket *ticket, int how)
{
    struct pool *pool = of;
    int r = FP_TASK_GONE;
    if (in_forked_copy(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    struct task *task = task_of_ticket(pool, ticket);
    if (task != NULL) {
        switch (task->state) {
        case TASK_THROTTLED:
            r = FP_TASK_QUEUED;
            if (how != 0) {
                fp__heap_remove(&task->completions->throttled, task->index);
                pool->nthrottled--;
                fp__task_free(pool, task, TASK_WITHDRAW);
            }
            break;
        case TASK_QUEUED:
        case TASK_DELAYED:
            r = FP_TASK_QUEUED;
            if (how != 0) {
                fp__heap_remove(task->state == TASK_QUEUED ? &pool->ready : &pool->delayed, task->index);
                fp__pool_resume_throttled(pool, task->completions, 1);
                fp__task_free(pool, task, TASK_WITHDRAW);
                fp__pool_wake_one(pool);
            }
            break;
        case TASK_DISPATCHED:
        case TASK_RUNNING:
            r = FP_TASK_RUNNING;
            if (how > task->stop) {
                task->stop = how;
                if (task->worker != NULL) {
                    task->worker->has_stops = true;
                    notify(task->worker->wake);
                }
            }
            break;
        case TASK_DELEGATED:
            r = FP_TASK_DELEGATED;
            break;
        default:
            break;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return r;
}

void fp_pool_recycle(void *of, struct fp_job *job)
{
    struct pool *pool = of;
    fp_job_close(job); /* it may have heap buffers, or a child that belongs to the caller now */
    if (in_forked_copy(pool))
        return; /* the memory is freed together with the pool's */
    pthread_mutex_lock(&pool->lock);
    fp__pool_job_back(job);
    if (pool->phase == OPEN)
        fp__pool_job_give(pool, job);
    else
        free(job);
    pthread_mutex_unlock(&pool->lock);
}

int fp_pool_count(void *of, int64_t *ret_queued, int64_t *ret_running)
{
    struct pool *pool = of;
    if (in_forked_copy(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    bool open = pool->phase == OPEN;
    *ret_queued = open ? (int64_t)(pool->ready.n + pool->delayed.n) + pool->nthrottled : 0;
    *ret_running = open ? pool->running : 0;
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

#else /* other POSIX systems */

int fp_pool_new(int64_t limit, int threads, void **ret_pool)
{
    (void)limit;
    (void)threads;
    *ret_pool = NULL;
    return -ENOSYS;
}

void fp_pool_close(void *pool)
{
    (void)pool;
}

void fp_pool_free(void **cell)
{
    (void)cell;
}

int fp_pool_set(void *pool, int64_t limit, int64_t interval_ns, int gated)
{
    (void)pool;
    (void)limit;
    (void)interval_ns;
    (void)gated;
    return -ENOSYS;
}

int fp_pool_submit(void *pool, void *completions, int64_t key, const struct fp_request *request, const char *paths,
                   uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc, int64_t priority,
                   int64_t delay_ns, struct fp_ticket *ret_ticket)
{
    (void)pool, (void)completions, (void)key, (void)request, (void)paths, (void)npaths, (void)argv, (void)argc,
        (void)env;
    (void)envc, (void)priority, (void)delay_ns;
    ret_ticket->task = NULL;
    return -ENOSYS;
}

int fp_pool_dispatch(void *pool, const struct fp_ticket *ticket, const struct fp_request *request, const char *paths,
                     uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc)
{
    (void)pool, (void)ticket, (void)request, (void)paths, (void)npaths, (void)argv, (void)argc, (void)env;
    (void)envc;
    return -ENOSYS;
}

int fp_pool_release(void *pool, const struct fp_ticket *ticket)
{
    (void)pool, (void)ticket;
    return -ENOSYS;
}

int fp_pool_cancel(void *pool, const struct fp_ticket *ticket, int how)
{
    (void)pool, (void)ticket, (void)how;
    return -ENOSYS;
}

void fp_pool_recycle(void *pool, struct fp_job *job)
{
    (void)pool, (void)job;
}

int fp_pool_count(void *pool, int64_t *ret_queued, int64_t *ret_running)
{
    (void)pool;
    *ret_queued = *ret_running = 0;
    return -ENOSYS;
}

#endif
