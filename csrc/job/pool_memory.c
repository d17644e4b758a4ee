/* pool_memory.c: the memory of a pool: tasks in slabs, jobs that are used again, and the references that keep all of
 * it. */
#include "grow.h"
#include "pool.h"

#if FP_LINUX

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10
/* The analyzer loses track of memory from realloc(3) that is stored in the pool. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define SLAB 256

/* Returns the memory of a task in state FREE. */
void fp__task_unused(struct pool *pool, struct task *task)
{
    task->serial = 0;
    task->next = pool->free_tasks;
    pool->free_tasks = task;
}

void fp__task_free(struct pool *pool, struct task *task, enum task_event event)
{
    task_move(&task->state, event);
    task->completions->tasks--;
    task->completions = NULL;
    fp__task_unused(pool, task);
}

struct task *fp__task_new(struct pool *pool)
{
    if (pool->free_tasks == NULL) {
        struct task **slabs = fp__grow(pool->slabs, &pool->slabs_room, pool->nslabs + 1, sizeof *slabs);
        if (slabs == NULL)
            return NULL;
        pool->slabs = slabs;
        struct task *slab = calloc(SLAB, sizeof *slab);
        if (slab == NULL)
            return NULL;
        slabs[pool->nslabs++] = slab;
        for (int i = SLAB - 1; i >= 0; i--)
            fp__task_unused(pool, &slab[i]);
    }
    struct task *task = pool->free_tasks;
    pool->free_tasks = task->next;
    *task = (struct task){.serial = ++pool->serial};
    return task;
}

struct fp_job *fp__pool_job_take(struct pool *pool)
{
    if (pool->njobs > 0)
        return pool->jobs[--pool->njobs];
    struct pool_job *made = malloc(sizeof *made);
    if (made == NULL)
        return NULL;
    fp_job_init(&made->job);
    made->next = NULL;
    made->at = NULL;
    return &made->job;
}

void fp__pool_job_give(struct pool *pool, struct fp_job *job)
{
    struct fp_job **jobs = fp__grow(pool->jobs, &pool->jobs_room, pool->njobs + 1, sizeof *jobs);
    if (jobs == NULL) {
        fp_job_close(job);
        free(job);
        return;
    }
    pool->jobs = jobs;
    pool->jobs[pool->njobs++] = job;
}

void fp__pool_job_lend(struct pool *pool, struct fp_job *job)
{
    struct pool_job *lent = (struct pool_job *)job;
    lent->next = pool->lent;
    lent->at = &pool->lent;
    if (lent->next != NULL)
        lent->next->at = &lent->next;
    pool->lent = lent;
}

void fp__pool_job_back(struct fp_job *job)
{
    struct pool_job *lent = (struct pool_job *)job;
    *lent->at = lent->next;
    if (lent->next != NULL)
        lent->next->at = lent->at;
    lent->next = NULL;
    lent->at = NULL;
}

/* Closes the pool's jobs. A lent job belongs to its holder. */
void fp__pool_close_jobs(struct pool *pool)
{
    for (size_t i = 0; i < pool->nslabs; i++) {
        for (int k = 0; k < SLAB; k++) {
            struct fp_job *job = pool->slabs[i][k].job;
            if (pool->slabs[i][k].state != TASK_FREE && job != NULL) {
                fp_job_close(job);
                free(job);
            }
            pool->slabs[i][k].job = NULL;
        }
    }
    for (size_t i = 0; i < pool->njobs; i++) {
        fp_job_close(pool->jobs[i]);
        free(pool->jobs[i]);
    }
    pool->njobs = 0;
}

static void free_all(struct pool *pool)
{
    for (struct pool_job *next, *lent = pool->lent; lent != NULL; lent = next) {
        next = lent->next;
        fp_job_close(&lent->job);
        free(lent);
    }
    for (unsigned i = 0; i < pool->nworkers; i++)
        free(pool->workers[i].epolled);
    for (size_t i = 0; i < pool->nslabs; i++)
        free(pool->slabs[i]);
    for (struct completion_queue *next, *completions = pool->queues; completions != NULL; completions = next) {
        next = completions->next;
        free(completions->throttled.tasks);
        free(completions);
    }
    free(pool->slabs);
    free(pool->jobs);
    free(pool->ready.tasks);
    free(pool->delayed.tasks);
    pthread_cond_destroy(&pool->closed);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Drops one reference: the pool's own handle or the handle of a completion queue. */
void fp__pool_unref(struct pool *pool)
{
    unsigned left;
    if (in_forked_copy(pool)) {
        left = --pool->references;
    } else {
        pthread_mutex_lock(&pool->lock);
        left = --pool->references;
        pthread_mutex_unlock(&pool->lock);
    }
    if (left == 0)
        free_all(pool);
}

#endif
