/* pool.h: the types that the files of a pool share, and the functions that each file exports to the others. */
#ifndef FASTPROC_POOL_H
#define FASTPROC_POOL_H

#include "internal.h"
#include "pool_states.h"

#if FP_LINUX

#include <pthread.h>

#define POLLED_MIN 8
#define POLLED_MAX 64

struct task {
    int64_t key;
    uint64_t serial; /* of this use of the memory; the caller's ticket has the same */
    uint64_t order;
    int64_t priority;
    int64_t not_before_ns;
    const struct fp_request *request; /* NULL: the caller runs the command */
    const char *paths, *argv, *env;
    uint32_t npaths, argc, envc;
    struct fp_job *job;
    struct completion_queue *completions;
    struct worker *worker;
    struct task *next; /* in the free, dispatched or ended list */
    size_t index;      /* in its heap, or among its thread's epolled tasks */
    int result;
    int stop;      /* 1: end it as its deadline would; 2: kill it */
    uint8_t state; /* changed by task_move() only */
    uint8_t tries;
};

struct heap {
    struct task **tasks;
    size_t n, room;
    bool by_time;
};

struct list {
    struct task *first, *last;
};

struct completion_queue {
    struct pool *pool;
    struct completion_queue *next;
    unsigned waiters; /* calls that wait for the descriptor */
    size_t tasks;     /* tasks in the pool, and ended tasks that were not taken */
    struct list ended;
    struct heap throttled; /* tasks that wait until more ended tasks are taken */
    int64_t count;
    int64_t undelivered;
    int64_t want;
    int fd;
    bool notified, closed;
};

struct worker {
    struct pool *pool;
    pthread_t thread;
    int wake, epoll;
    bool started, idle, has_stops;
    unsigned load; /* npolled when the thread became idle */
    /* Only the thread itself uses the fields below. */
    struct task *polled[POLLED_MAX];
    unsigned npolled, polled_max;
    struct task **epolled;
    size_t nepolled, epolled_room;
    int64_t epolled_due_ns;
};

/* A job that belongs to a pool. While it is lent, the caller has it and returns it by fp_pool_recycle(). */
struct pool_job {
    struct fp_job job; /* first: a pointer to the job is a pointer to this */
    struct pool_job *next, **at;
};

/* How far the end of a pool has come. No memory of a pool is freed before its last reference is dropped: the pool's
 * handle and each completion queue's handle is one. So a call that starts late finds a closed pool, not memory that was
 * freed. */
enum phase { OPEN, CLOSING, CLOSED };

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t closed;
    enum phase phase;
    unsigned references;
    unsigned copying; /* calls that copy records out of jobs without the lock */
    struct pool_job *lent;
    int32_t owner;
    uint64_t child_mask; /* the signal mask of children that keep the caller's mask */
    int64_t limit, running, nthrottled;
    int64_t interval_ns, next_start_ns, starved_ns;
    uint64_t serial, order;
    struct heap ready, delayed;
    struct list dispatched;
    struct task *free_tasks;
    struct task **slabs;
    size_t nslabs, slabs_room;
    struct fp_job **jobs; /* unused jobs */
    size_t njobs, jobs_room;
    struct completion_queue *queues;
    bool gated;
    unsigned nworkers;
    struct worker workers[];
};

static inline void list_add(struct list *list, struct task *task)
{
    task->next = NULL;
    if (list->first == NULL)
        list->first = task;
    else
        list->last->next = task;
    list->last = task;
}

static inline struct task *list_take(struct list *list)
{
    struct task *task = list->first;
    if (task != NULL)
        list->first = task->next;
    return task;
}

static inline void notify(int fd)
{
    uint64_t one = 1;
    fp__sys3(SYS_write, fd, &one, sizeof one);
}

static inline void clear(int fd)
{
    uint64_t count;
    fp__sys3(SYS_read, fd, &count, sizeof count);
}

static inline bool in_forked_copy(const struct pool *pool)
{
    return pool->owner != (int32_t)getpid();
}

/* pool_memory.c. The caller holds the lock, except for fp__pool_unref(). */
struct task *fp__task_new(struct pool *pool);
void fp__task_unused(struct pool *pool, struct task *task);
void fp__task_free(struct pool *pool, struct task *task, enum task_event event);
struct fp_job *fp__pool_job_take(struct pool *pool);
void fp__pool_job_give(struct pool *pool, struct fp_job *job);
void fp__pool_job_lend(struct pool *pool, struct fp_job *job);
void fp__pool_job_back(struct fp_job *job);
void fp__pool_close_jobs(struct pool *pool);
void fp__pool_unref(struct pool *pool);

/* pool_queue.c. The caller holds the lock. */
bool fp__heap_push(struct heap *heap, struct task *task);
void fp__heap_remove(struct heap *heap, size_t at);
void fp__pool_post(struct task *task);
void fp__pool_wake_one(struct pool *pool);
void fp__pool_wake_all(struct pool *pool);
void fp__pool_resume_throttled(struct pool *pool, struct completion_queue *completions, int n);
struct task *fp__pool_next_task(struct pool *pool, int64_t now, int64_t *until);
void fp__pool_requeue(struct pool *pool, struct task *task, int64_t not_before_ns);

/* pool_threads.c */
int fp__pool_make_thread(struct worker *worker);

/* pool_completions.c. The caller holds the lock. */
void fp__completion_queue_end(struct completion_queue *completions);

#endif

#endif
