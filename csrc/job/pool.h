/* pool.h: what the files of a pool share: its types, and the functions that one of them offers another. */
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
    uint64_t serial; /* of this use of the memory: what the caller knows it by */
    uint64_t order;
    int64_t priority;
    int64_t not_before_ns;
    const struct fp_request *request; /* NULL: the caller runs it himself */
    const char *paths, *argv, *env;
    uint32_t npaths, argc, envc;
    struct fp_job *job;
    struct completion_queue *completions;
    struct worker *worker;
    struct task *next; /* free, granted or ended */
    size_t index;      /* in its heap */
    int result;
    int stop;      /* 1: asked to end, 2: to be killed */
    uint8_t state; /* task_move() */
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
    unsigned waiters; /* calls that wait for its descriptor */
    size_t tasks;     /* in the pool, or ended and not taken */
    struct list ended;
    struct heap throttled; /* wait until more of the ended ones are taken */
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
    unsigned load; /* nyoung, when it began to be idle */
    /* Only the thread itself looks at what follows. */
    struct task *polled[POLLED_MAX];
    unsigned npolled, polled_max;
    struct task **epolled;
    size_t nepolled, epolled_room;
    int64_t epolled_due_ns;
};

/* A job as the pool has it. A lent one is with the caller, who gives it back by fp_pool_recycle(). */
struct pool_job {
    struct fp_job job; /* first: fp_job * and this are one address */
    struct pool_job *next, **at;
};

/* How far a pool is with its end: none of its memory is given back before the last handle, its own or a tray's, is dropped, so that
 * a call that begins late finds a closed pool and not somebody else's memory. */
enum phase { OPEN, CLOSING, CLOSED };

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t closed;
    enum phase phase;
    unsigned references;
    unsigned copying; /* calls that take records out of jobs, without the lock */
    struct pool_job *lent;
    int32_t owner;
    uint64_t child_mask; /* what children inherit where they are to keep the caller's mask */
    int64_t limit, running, nthrottled;
    int64_t interval_ns, next_start_ns, starved_ns;
    uint64_t serial, order;
    struct heap ready, delayed;
    struct list dispatched;
    struct task *free_tasks;
    struct task **slabs;
    size_t nslabs, slabs_room;
    struct fp_job **jobs; /* not in use */
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

/* pool_memory.c. With the lock held, but for the last. */
struct task *fp__task_new(struct pool *pool);
void fp__task_unused(struct pool *pool, struct task *task);
void fp__task_free(struct pool *pool, struct task *task, enum task_event event);
struct fp_job *fp__pool_job_take(struct pool *pool);
void fp__pool_job_give(struct pool *pool, struct fp_job *job);
void fp__pool_job_lend(struct pool *pool, struct fp_job *job);
void fp__pool_job_back(struct fp_job *job);
void fp__pool_close_jobs(struct pool *pool);
void fp__pool_unref(struct pool *pool);

/* pool_queue.c. With the lock held. */
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

/* pool_completions.c. With the lock held. */
void fp__completion_queue_end(struct completion_queue *completions);

#endif

#endif
