/* pool.c: many commands, a limited number at a time, by threads of the pool's own: what starts when, and collecting it all.
 *
 * The threads run no code of the caller's, block every signal, and end in fp_pool_close(). Each has few children whose births it
 * just saw ("young"), which it polls directly, and an epoll for those that have lived for a while. As long as commands end
 * young, a thread starts no more than keep the processors busy: what many children that wait for a processor have open is copied
 * to each further one, and closed in it again. */
#include "internal.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

#if FP_LINUX

#include <sys/epoll.h>
#include <sys/eventfd.h>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10
/* The analyzer loses what realloc(3) gave when it is kept in the pool. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define YOUNG_NS (5 * 1000000LL)
#define YOUNG_MIN 8
#define YOUNG_MAX 64
#define STARTS 8    /* in one turn, before the ends are looked at */
#define UNTAKEN 512 /* tasks of a tray that have ended and were not taken, from which on none of it is started */
#define STARVED_NS (10 * 1000000LL)
#define SLAB 256
#define THREADS_MAX 16
#define FP__PR_SET_NAME 15

enum state { FREE, QUEUED, HELD, DELAYED, GRANTED, RUNNING, FOREIGN, ENDED };

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
    struct fp_tray *tray;
    struct worker *worker;
    struct task *next; /* free, granted or ended */
    size_t place;      /* in its heap */
    int result;
    int stop; /* 1: asked to end, 2: to be killed */
    uint8_t state;
    bool busy_file; /* tried again, as its file was open for writing */
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

struct fp_tray {
    struct fp_pool *pool;
    struct fp_tray *next;
    unsigned users; /* calls that wait for its descriptor */
    size_t tasks;   /* in the pool, or ended and not taken */
    struct list ended;
    struct heap held; /* wait until more of the ended ones are taken */
    int64_t count;
    int64_t untaken;
    int64_t want;
    int fd;
    bool told, closed;
};

struct worker {
    struct fp_pool *pool;
    pthread_t thread;
    int wake, epoll;
    bool started, idle, stops;
    unsigned load; /* nyoung, when it began to be idle */
    /* Only the thread itself looks at what follows. */
    struct task *young[YOUNG_MAX];
    unsigned nyoung, cap;
    struct task **old;
    size_t nold, old_room;
    int64_t old_due_ns;
};

/* A job as the pool has it. A lent one is with the caller, who gives it back by fp_pool_recycle(). */
struct pool_job {
    struct fp_job job; /* first: fp_job * and this are one address */
    struct pool_job *next, **at;
};

/* How far a pool is with its end: none of its memory is given back before the last handle, its own or a tray's, is dropped, so that
 * a call that begins late finds a closed pool and not somebody else's memory. */
enum end { OPEN, CLOSING, CLOSED };

struct fp_pool {
    pthread_mutex_t lock;
    pthread_cond_t closed;
    enum end end;
    unsigned handles;
    unsigned copying; /* calls that take records out of jobs, without the lock */
    struct pool_job *lent;
    int32_t owner;
    uint64_t child_mask; /* what children inherit where they are to keep the caller's mask */
    int64_t limit, running, nheld;
    int64_t interval_ns, next_start_ns, starved_ns;
    uint64_t serial, order;
    struct heap ready, delayed;
    struct list granted;
    struct task *free_tasks;
    struct task **slabs;
    size_t nslabs;
    struct fp_job **jobs; /* not in use */
    size_t njobs, jobs_room;
    struct fp_tray *trays;
    bool gated;
    unsigned nworkers;
    struct worker workers[];
};

static void list_add(struct list *list, struct task *task)
{
    task->next = NULL;
    if (list->first == NULL)
        list->first = task;
    else
        list->last->next = task;
    list->last = task;
}

static struct task *list_take(struct list *list)
{
    struct task *task = list->first;
    if (task != NULL)
        list->first = task->next;
    return task;
}

/* -- heaps: by time, or by priority (the higher first) and then by age */

static bool comes_before(const struct heap *heap, const struct task *a, const struct task *b)
{
    if (heap->by_time && a->not_before_ns != b->not_before_ns)
        return a->not_before_ns < b->not_before_ns;
    if (!heap->by_time && a->priority != b->priority)
        return a->priority > b->priority;
    return a->order < b->order;
}

static void heap_put(struct heap *heap, size_t at, struct task *task)
{
    heap->tasks[at] = task;
    task->place = at;
}

static void heap_up(struct heap *heap, size_t at, struct task *task)
{
    while (at > 0 && comes_before(heap, task, heap->tasks[(at - 1) / 2])) {
        heap_put(heap, at, heap->tasks[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(heap, at, task);
}

static bool heap_room(struct heap *heap)
{
    if (heap->n == heap->room) {
        size_t room = heap->room ? heap->room * 2 : 64;
        struct task **tasks = realloc(heap->tasks, room * sizeof *tasks);
        if (tasks == NULL)
            return false;
        heap->tasks = tasks;
        heap->room = room;
    }
    return true;
}

static bool heap_push(struct heap *heap, struct task *task)
{
    if (!heap_room(heap))
        return false;
    heap_up(heap, heap->n++, task);
    return true;
}

static void heap_remove(struct heap *heap, size_t at)
{
    struct task *task = heap->tasks[--heap->n];
    if (at == heap->n)
        return;
    for (size_t child; (child = 2 * at + 1) < heap->n; at = child) {
        if (child + 1 < heap->n && comes_before(heap, heap->tasks[child + 1], heap->tasks[child]))
            child++;
        if (!comes_before(heap, heap->tasks[child], task))
            break;
        heap_put(heap, at, heap->tasks[child]);
    }
    heap_up(heap, at, task);
}

/* -- with the lock held */

static void ring(int fd)
{
    uint64_t one = 1;
    fp__sys3(SYS_write, fd, &one, sizeof one);
}

static void hush(int fd)
{
    uint64_t count;
    fp__sys3(SYS_read, fd, &count, sizeof count);
}

static void post(struct task *task)
{
    struct fp_tray *tray = task->tray;
    task->worker = NULL;
    if (task->state == RUNNING || task->state == ENDED)
        tray->untaken++;
    list_add(&tray->ended, task);
    if (++tray->count >= tray->want && !tray->told) {
        tray->told = true;
        ring(tray->fd);
    }
}

static void task_free(struct fp_pool *pool, struct task *task)
{
    if (task->tray != NULL)
        task->tray->tasks--;
    task->tray = NULL;
    task->state = FREE;
    task->serial = 0;
    task->next = pool->free_tasks;
    pool->free_tasks = task;
}

static struct task *task_new(struct fp_pool *pool)
{
    if (pool->free_tasks == NULL) {
        struct task **slabs = realloc(pool->slabs, (pool->nslabs + 1) * sizeof *slabs);
        if (slabs == NULL)
            return NULL;
        pool->slabs = slabs;
        struct task *slab = calloc(SLAB, sizeof *slab);
        if (slab == NULL)
            return NULL;
        slabs[pool->nslabs++] = slab;
        for (int i = SLAB - 1; i >= 0; i--)
            task_free(pool, &slab[i]);
    }
    struct task *task = pool->free_tasks;
    pool->free_tasks = task->next;
    *task = (struct task){.serial = ++pool->serial};
    return task;
}

static struct fp_job *job_take(struct fp_pool *pool)
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

static void job_give(struct fp_pool *pool, struct fp_job *job)
{
    if (pool->njobs == pool->jobs_room) {
        size_t room = pool->jobs_room ? pool->jobs_room * 2 : 64;
        struct fp_job **jobs = realloc(pool->jobs, room * sizeof *jobs);
        if (jobs == NULL) {
            fp_job_close(job);
            free(job);
            return;
        }
        pool->jobs = jobs;
        pool->jobs_room = room;
    }
    pool->jobs[pool->njobs++] = job;
}

static void job_lend(struct fp_pool *pool, struct fp_job *job)
{
    struct pool_job *lent = (struct pool_job *)job;
    lent->next = pool->lent;
    lent->at = &pool->lent;
    if (lent->next != NULL)
        lent->next->at = &lent->next;
    pool->lent = lent;
}

static void job_back(struct fp_job *job)
{
    struct pool_job *lent = (struct pool_job *)job;
    *lent->at = lent->next;
    if (lent->next != NULL)
        lent->next->at = lent->at;
    lent->next = NULL;
    lent->at = NULL;
}

/* Wakes one thread that sleeps and has room, if there may be something to start. */
static void nudge(struct fp_pool *pool)
{
    if (pool->ready.n == 0 && pool->delayed.n == 0 && pool->granted.first == NULL)
        return;
    if (pool->granted.first == NULL && pool->running >= pool->limit)
        return;
    struct worker *found = NULL;
    for (unsigned i = 0; i < pool->nworkers; i++) {
        struct worker *worker = &pool->workers[i];
        if (worker->idle && (found == NULL || worker->load < found->load))
            found = worker;
    }
    if (found != NULL) {
        found->idle = false;
        ring(found->wake);
    }
}

static void wake_all(struct fp_pool *pool)
{
    for (unsigned i = 0; i < pool->nworkers; i++)
        ring(pool->workers[i].wake);
}

/* Puts aside, from the front of the queue, what may not start before more of its tray is taken. Whether any other is left. */
static bool hold(struct fp_pool *pool)
{
    while (pool->ready.n > 0) {
        struct task *task = pool->ready.tasks[0];
        if (task->tray->untaken < UNTAKEN)
            return true;
        if (!heap_room(&task->tray->held))
            return false; /* all wait for it then */
        heap_remove(&pool->ready, 0);
        heap_push(&task->tray->held, task);
        task->state = HELD;
        pool->nheld++;
    }
    return false;
}

/* After so many tasks of a tray have gone: as many that were put aside are in the queue again. While there are any, some
 * task of the tray is under way or not taken, and comes here when it goes. */
static void unhold(struct fp_pool *pool, struct fp_tray *tray, int n)
{
    for (; n > 0 && tray->held.n > 0 && tray->untaken < UNTAKEN; n--) {
        struct task *task = tray->held.tasks[0];
        heap_remove(&tray->held, 0);
        pool->nheld--;
        task->state = QUEUED;
        if (!heap_push(&pool->ready, task)) {
            task->state = ENDED;
            task->result = -ENOMEM;
            post(task);
        }
    }
}

/* The next that may start now, with its place taken; or NULL, and *until is when to ask again, or -1. */
static struct task *next_task(struct fp_pool *pool, int64_t now, int64_t *until)
{
    struct task *task = list_take(&pool->granted);
    if (task != NULL)
        return task;
    while (pool->delayed.n > 0 && pool->delayed.tasks[0]->not_before_ns <= now) {
        task = pool->delayed.tasks[0];
        heap_remove(&pool->delayed, 0);
        task->state = QUEUED;
        if (!heap_push(&pool->ready, task)) {
            task->state = DELAYED;
            task->not_before_ns = now + STARVED_NS;
            heap_push(&pool->delayed, task); /* it has just had room there */
        }
    }
    if (pool->delayed.n > 0)
        *until = fp__earlier(*until, pool->delayed.tasks[0]->not_before_ns);
    if (pool->running >= pool->limit || pool->gated || !hold(pool))
        return NULL;
    if (now < pool->starved_ns) {
        *until = fp__earlier(*until, pool->starved_ns);
        return NULL;
    }
    if (pool->interval_ns > 0) {
        if (now < pool->next_start_ns) {
            *until = fp__earlier(*until, pool->next_start_ns);
            return NULL;
        }
        pool->next_start_ns += pool->interval_ns;
        if (pool->next_start_ns < now)
            pool->next_start_ns = now + pool->interval_ns;
    }
    task = pool->ready.tasks[0];
    heap_remove(&pool->ready, 0);
    pool->running++;
    return task;
}

static void requeue(struct fp_pool *pool, struct task *task, int64_t not_before_ns)
{
    task->not_before_ns = not_before_ns;
    task->state = DELAYED;
    if (!heap_push(&pool->delayed, task)) {
        task->state = ENDED;
        task->result = -ENOMEM;
        post(task);
    }
}

/* -- the threads */

/* Starts that failed for lack of resources (EAGAIN, EMFILE, ...) can succeed once another task ends. */
static bool is_shortage(const struct task *task)
{
    int error = -task->result, stage = task->job->child.stage;
    if (error == EAGAIN && stage == FP_STAGE_EXEC) /* RLIMIT_NPROC, execve(2) */
        return true;
    return (error == EMFILE || error == ENFILE || error == EAGAIN || error == ENOMEM) && stage < FP_STAGE_BORN;
}

/* It has ended, or could not be started. With the lock held. */
static void over(struct fp_pool *pool, struct task *task)
{
    pool->running--;
    struct fp_job *job = task->job;
    bool shortage = task->result < 0 && is_shortage(task);
    if (!shortage)
        pool->starved_ns = 0;
    if (shortage && pool->running > 0 && task->stop == 0) {
        pool->starved_ns = fp__now() + STARVED_NS;
        task->job = NULL;
        job_give(pool, job);
        requeue(pool, task, pool->starved_ns);
        return;
    }
    if (task->result == -ETXTBSY && job->child.stage == FP_STAGE_EXEC && task->tries < 4 && task->stop == 0) {
        task->job = NULL;
        job_give(pool, job);
        requeue(pool, task, fp__now() + (1000000LL << (2 * task->tries++))); /* GOTCHAS C2: 1, 4, 16, 64 ms */
        return;
    }
    task->state = ENDED;
    post(task);
}

/* Without the lock. */
static void start(struct worker *worker, struct task *task)
{
    struct fp_job *job = task->job;
    int r = fp__job_begin(task->request, task->paths, task->npaths, task->argv, task->argc, task->env, task->envc, true,
                          true, FP__ALONE_NO, job);
    const struct fp_attr *attr = task->request->attr;
    job->group = (attr->flags & FP_ATTR_SETSID) || ((attr->flags & FP_ATTR_PGID) && attr->pgid == 0);
    task->result = r < 0 ? r : FP_JOB_AGAIN;
    worker->young[worker->nyoung++] = task;
}

static void stop(struct task *task)
{
    struct fp_job *job = task->job;
    if (task->stop == 2) {
        job->grace_ns = 0;
        if (job->flags & FP_JOB_TIMED_OUT && !(job->flags & FP_JOB_KILLED))
            job->kill_ns = fp__now();
    }
    if (fp__job_has_exited(job)) {
        job->drain_end_ns = fp__now();
    } else if (!(job->flags & FP_JOB_TIMED_OUT)) {
        job->deadline_ns = fp__now();
        job->stopped = 1;
    }
}

static bool settle(struct task *task)
{
    struct fp_job *job = task->job;
    if (task->result < 0)
        return true;
    if (job->failure == 0 && !fp__job_is_over(job))
        return false;
    task->result = fp__job_settle(job, FP_JOB_DONE);
    return true;
}

/* One more look at an old one; whether it has ended. */
static bool step_old(struct worker *worker, struct task *task)
{
    if (fp_job_step(task->job, 0) == FP_JOB_AGAIN) {
        worker->old_due_ns = fp__earlier(worker->old_due_ns, task->job->due_ns);
        return false;
    }
    task->result = task->job->failure ? -task->job->failure : FP_JOB_DONE;
    struct task *last = worker->old[--worker->nold];
    worker->old[task->place] = last;
    last->place = task->place;
    return true;
}

/* Hands a young one on to the epoll. It stays young where there is no memory or watch for it. */
static bool grow_old(struct worker *worker, struct task *task)
{
    if (worker->nold == worker->old_room) {
        size_t room = worker->old_room ? worker->old_room * 2 : 64;
        struct task **old = realloc(worker->old, room * sizeof *old);
        if (old == NULL)
            return false;
        worker->old = old;
        worker->old_room = room;
    }
    task->job->recheck = 0;
    if (fp_job_watch(task->job, worker->epoll, (int64_t)(intptr_t)task) < 0)
        return false;
    task->place = worker->nold;
    worker->old[worker->nold++] = task;
    task->job->due_ns = worker->old_due_ns = 0; /* when it is to be looked at next is found out then */
    return true;
}

static void look_after_young(struct worker *worker, const struct pollfd *fds, const unsigned *counts, bool polled,
                             struct list *ended)
{
    unsigned kept = 0, n = worker->nyoung;
    int64_t now = fp__now();
    for (unsigned i = 0; i < n; i++) {
        struct task *task = worker->young[i];
        struct fp_job *job = task->job;
        if (task->result >= 0) {
            bool look = polled && fp__job_serve(job, fds, counts[i]);
            look |= job->child.pidfd < 0 || job->recheck > 0;
            if (look && !fp__job_has_exited(job))
                fp__job_look(job);
            fp__birth_over(job->birth);
            if (job->failure == 0)
                fp__job_keep_deadlines(job);
        }
        fds += counts[i];
        if (settle(task)) {
            list_add(ended, task);
            worker->cap -= (worker->cap - YOUNG_MIN + 3) / 4;
        } else if (now - job->started_ns >= YOUNG_NS && grow_old(worker, task)) {
            worker->cap = worker->cap * 2 > YOUNG_MAX ? YOUNG_MAX : worker->cap * 2;
        } else {
            worker->young[kept++] = task;
        }
    }
    worker->nyoung = kept;
}

static void look_after_old(struct worker *worker, bool ready, struct list *ended)
{
    struct epoll_event events[FP_GROUP_BATCH];
    long r = ready ? fp__sys6(SYS_epoll_pwait, worker->epoll, (long)events, FP_GROUP_BATCH, 0, 0, 8) : 0;
    for (long i = 0; i < r; i++) {
        struct fp_job *job = events[i].data.ptr;
        struct task *task = (struct task *)(intptr_t)job->key;
        if (job->live && task->job == job && step_old(worker, task)) /* not by an earlier event of this batch */
            list_add(ended, task);
    }
    if (worker->old_due_ns < 0 || fp__now() < worker->old_due_ns)
        return;
    worker->old_due_ns = -1;
    int64_t now = fp__now();
    for (size_t i = worker->nold; i-- > 0;) {
        struct task *task = worker->old[i];
        if (task->job->due_ns < 0)
            continue;
        if (task->job->due_ns > now)
            worker->old_due_ns = fp__earlier(worker->old_due_ns, task->job->due_ns);
        else if (step_old(worker, task))
            list_add(ended, task);
    }
}

/* With the lock held. */
static void find_stops(struct worker *worker)
{
    worker->stops = false;
    for (unsigned i = 0; i < worker->nyoung; i++) {
        if (worker->young[i]->stop && worker->young[i]->result >= 0)
            stop(worker->young[i]);
    }
    for (size_t i = 0; i < worker->nold; i++) {
        struct task *task = worker->old[i];
        if (task->stop) {
            stop(task);
            task->job->due_ns = worker->old_due_ns = 0;
        }
    }
}

static void start_some(struct worker *worker, int64_t *until)
{
    struct fp_pool *pool = worker->pool;
    for (int n = 0; n < STARTS && worker->nyoung < worker->cap; n++) {
        struct task *task = next_task(pool, fp__now(), until);
        if (task == NULL) {
            worker->idle = true;
            worker->load = worker->nyoung;
            return;
        }
        if (task->request == NULL) {
            task->state = FOREIGN;
            post(task);
            continue;
        }
        task->state = RUNNING;
        task->worker = worker;
        task->job = job_take(pool);
        if (task->job == NULL) {
            pool->running--;
            requeue(pool, task, fp__now() + STARVED_NS);
            continue;
        }
        worker->stops |= task->stop != 0;
        pthread_mutex_unlock(&pool->lock);
        start(worker, task);
        pthread_mutex_lock(&pool->lock);
    }
    if (worker->nyoung < worker->cap)
        *until = 0;
    else
        nudge(pool); /* there may be more, for another thread */
}

static void abort_all(struct worker *worker)
{
    for (unsigned i = 0; i < worker->nyoung; i++)
        fp_job_abort(worker->young[i]->job, 0);
    for (size_t i = 0; i < worker->nold; i++)
        fp_job_abort(worker->old[i]->job, 0);
}

static void *serve(void *of)
{
    struct worker *worker = of;
    struct fp_pool *pool = worker->pool;
    struct pollfd fds[2 + YOUNG_MAX * FP__JOB_FDS];
    unsigned counts[YOUNG_MAX];
    struct list ended = {0};
    fp__child_mask = &pool->child_mask;
    fp__sys5(SYS_prctl, FP__PR_SET_NAME, "fastproc-pool", 0, 0, 0);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        int64_t until = -1;
        for (struct task *task; (task = list_take(&ended)) != NULL;)
            over(pool, task);
        if (pool->end != OPEN)
            break;
        start_some(worker, &until);
        if (worker->stops)
            find_stops(worker);
        pthread_mutex_unlock(&pool->lock);

        unsigned n = 2;
        int64_t now = fp__now();
        fds[0] = (struct pollfd){.fd = worker->wake, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = worker->nold ? worker->epoll : -1, .events = POLLIN};
        for (unsigned i = 0; i < worker->nyoung; i++) {
            struct task *task = worker->young[i];
            counts[i] = 0;
            if (task->result < 0 || task->job->failure != 0) {
                until = 0;
                continue;
            }
            until = fp__earlier(until, fp__job_keep_deadlines(task->job));
            int64_t old = task->job->started_ns + YOUNG_NS;
            until = fp__earlier(until, old > now ? old : now + YOUNG_NS); /* it could not be handed on */
            counts[i] = fp__job_gather(task->job, fds + n, true, &until);
            n += counts[i];
        }
        until = fp__earlier(until, worker->old_due_ns);
        int r = fp__wait_for(fds, n, until);
        if (r > 0 && fds[0].revents)
            hush(worker->wake);
        look_after_young(worker, fds + 2, counts, r > 0, &ended);
        if (worker->nold)
            look_after_old(worker, r > 0 && fds[1].revents, &ended);
        pthread_mutex_lock(&pool->lock);
        worker->idle = false;
    }
    pthread_mutex_unlock(&pool->lock);
    abort_all(worker);
    return NULL;
}

/* -- for the caller */

static bool is_foreign(const struct fp_pool *pool)
{
    return pool->owner != (int32_t)getpid();
}

/* A tray's descriptor: closed by the last call that waits for it. With the lock held. */
static void tray_end(struct fp_tray *tray)
{
    tray->closed = true;
    if (tray->fd >= 0 && tray->users == 0) {
        fp__close(tray->fd);
        tray->fd = -1;
    } else if (tray->fd >= 0) {
        ring(tray->fd);
    }
}

/* Gives back all but memory: descriptors, and children. No thread of the pool is left. */
static void close_all(struct fp_pool *pool)
{
    for (unsigned i = 0; i < pool->nworkers; i++) {
        struct worker *worker = &pool->workers[i];
        if (worker->wake >= 0)
            fp__close(worker->wake);
        if (worker->epoll >= 0)
            fp__close(worker->epoll);
        worker->wake = worker->epoll = -1;
    }
    for (struct fp_tray *tray = pool->trays; tray != NULL; tray = tray->next)
        tray_end(tray);
    for (size_t i = 0; i < pool->nslabs; i++) {
        for (int k = 0; k < SLAB; k++) {
            struct fp_job *job = pool->slabs[i][k].job;
            if (pool->slabs[i][k].state != FREE && job != NULL) {
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

static void free_all(struct fp_pool *pool)
{
    for (struct pool_job *next, *lent = pool->lent; lent != NULL; lent = next) {
        next = lent->next;
        fp_job_close(&lent->job);
        free(lent);
    }
    for (unsigned i = 0; i < pool->nworkers; i++)
        free(pool->workers[i].old);
    for (size_t i = 0; i < pool->nslabs; i++)
        free(pool->slabs[i]);
    for (struct fp_tray *next, *tray = pool->trays; tray != NULL; tray = next) {
        next = tray->next;
        free(tray->held.tasks);
        free(tray);
    }
    free(pool->slabs);
    free(pool->jobs);
    free(pool->ready.tasks);
    free(pool->delayed.tasks);
    pthread_cond_destroy(&pool->closed);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static int make_thread(struct worker *worker)
{
    pthread_attr_t attr;
    worker->wake = fp__fd_lift(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), 3);
    worker->epoll = fp__fd_lift(epoll_create1(EPOLL_CLOEXEC), 3);
    if (worker->wake < 0 || worker->epoll < 0)
        return EMFILE;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    int r = pthread_create(&worker->thread, &attr, serve, worker);
    pthread_attr_destroy(&attr);
    worker->started = r == 0;
    return r;
}

int fp_pool_new(int64_t limit, int threads, void **ret_pool)
{
    int saved = errno, r = 0;
    unsigned n = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : (unsigned)threads;
    struct fp_pool *pool = calloc(1, sizeof *pool + n * sizeof pool->workers[0]);
    *ret_pool = NULL;
    if (pool == NULL)
        return -ENOMEM;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->closed, NULL);
    pool->handles = 1;
    pool->owner = (int32_t)getpid();
    pool->limit = limit;
    pool->delayed.by_time = true;
    pool->nworkers = n;
    uint64_t old = 0, all = ~0ULL & ~(3ULL << 31); /* 32 and 33 are the C library's */
    fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
    pool->child_mask = old;
    for (unsigned i = 0; i < n; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].wake = pool->workers[i].epoll = -1;
        pool->workers[i].cap = YOUNG_MIN;
        pool->workers[i].old_due_ns = -1;
    }
    for (unsigned i = 0; i < n && r == 0; i++)
        r = make_thread(&pool->workers[i]);
    fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
    if (!pool->workers[0].started) {
        close_all(pool);
        free_all(pool);
        errno = saved;
        return -r;
    }
    *ret_pool = pool; /* with fewer threads where there were no more to be had */
    errno = saved;
    return 0;
}

void fp_pool_close(void *of)
{
    struct fp_pool *pool = of;
    int saved = errno;
    if (pool == NULL)
        return;
    if (is_foreign(pool)) {
        /* Another thread of the parent may have held the lock. fp_job_close() only lets go of what it has (GOTCHAS I2). */
        for (struct fp_tray *tray = pool->trays; tray != NULL; tray = tray->next)
            tray->users = 0; /* threads of the parent: who rings for them would wake the parent's */
        if (pool->end != CLOSED)
            close_all(pool);
        pool->end = CLOSED;
        errno = saved;
        return;
    }
    pthread_mutex_lock(&pool->lock);
    if (pool->end != OPEN) {
        while (pool->end != CLOSED)
            pthread_cond_wait(&pool->closed, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
        errno = saved;
        return;
    }
    pool->end = CLOSING;
    wake_all(pool);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->nworkers; i++) {
        if (pool->workers[i].started)
            pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_mutex_lock(&pool->lock);
    while (pool->copying > 0)
        pthread_cond_wait(&pool->closed, &pool->lock);
    close_all(pool);
    pool->end = CLOSED;
    pthread_cond_broadcast(&pool->closed);
    pthread_mutex_unlock(&pool->lock);
    errno = saved;
}

/* One handle less, the pool's own or a tray's. */
static void drop(struct fp_pool *pool)
{
    unsigned left;
    if (is_foreign(pool)) {
        left = --pool->handles;
    } else {
        pthread_mutex_lock(&pool->lock);
        left = --pool->handles;
        pthread_mutex_unlock(&pool->lock);
    }
    if (left == 0)
        free_all(pool);
}

void fp_pool_free(void **cell)
{
    struct fp_pool *pool = *cell;
    if (pool == NULL)
        return;
    *cell = NULL;
    fp_pool_close(pool);
    drop(pool);
}

int fp_pool_set(void *of, int64_t limit, int64_t interval_ns, int gated)
{
    struct fp_pool *pool = of;
    if (is_foreign(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    pool->limit = limit;
    pool->interval_ns = interval_ns;
    pool->gated = gated;
    if (pool->end == OPEN)
        wake_all(pool);
    pthread_mutex_unlock(&pool->lock);
    return 0;
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
    tray_end(tray);
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
        tray_end(tray);
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
    drop(pool);
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

int fp_pool_submit(void *of, void *to, int64_t key, const struct fp_request *request, const char *paths,
                   uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc, int64_t priority,
                   int64_t delay_ns, struct fp_ticket *ret_ticket)
{
    struct fp_pool *pool = of;
    struct fp_tray *tray = to;
    if (is_foreign(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    if (pool->end != OPEN || tray->closed) {
        pthread_mutex_unlock(&pool->lock);
        return -ESHUTDOWN;
    }
    struct task *task = task_new(pool);
    int r = -ENOMEM;
    if (task != NULL) {
        task->key = key;
        task->order = ++pool->order;
        task->priority = priority;
        task->request = request;
        task->paths = paths;
        task->npaths = npaths;
        task->argv = argv;
        task->argc = argc;
        task->env = env;
        task->envc = envc;
        task->tray = tray;
        tray->tasks++;
        task->state = delay_ns > 0 ? DELAYED : QUEUED;
        task->not_before_ns = delay_ns > 0 ? fp__now() + delay_ns : 0;
        *ret_ticket = (struct fp_ticket){.task = task, .serial = (int64_t)task->serial};
        if (heap_push(delay_ns > 0 ? &pool->delayed : &pool->ready, task)) {
            r = 0;
            nudge(pool);
        } else {
            task_free(pool, task);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return r;
}

/* With the lock held: the task that a ticket still stands for. The memory of tasks is used again, but not given back
 * before the pool is. */
static struct task *of_ticket(const struct fp_pool *pool, const struct fp_ticket *ticket)
{
    struct task *task = pool->end == OPEN ? ticket->task : NULL;
    return task != NULL && task->serial == (uint64_t)ticket->serial ? task : NULL;
}

int fp_pool_go(void *of, const struct fp_ticket *ticket, const struct fp_request *request, const char *paths,
               uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc)
{
    struct fp_pool *pool = of;
    if (is_foreign(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    struct task *task = of_ticket(pool, ticket);
    int r = -ESRCH;
    if (task != NULL && task->state == FOREIGN) {
        task->request = request;
        task->paths = paths;
        task->npaths = npaths;
        task->argv = argv;
        task->argc = argc;
        task->env = env;
        task->envc = envc;
        task->state = GRANTED;
        list_add(&pool->granted, task);
        nudge(pool);
        r = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return r;
}

int fp_pool_release(void *of, const struct fp_ticket *ticket)
{
    struct fp_pool *pool = of;
    if (is_foreign(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    struct task *task = of_ticket(pool, ticket);
    int r = -ESRCH;
    if (task != NULL && task->state == FOREIGN) {
        pool->running--;
        pool->starved_ns = 0;
        unhold(pool, task->tray, 1);
        task_free(pool, task);
        nudge(pool);
        r = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return r;
}

int fp_pool_cancel(void *of, const struct fp_ticket *ticket, int how)
{
    struct fp_pool *pool = of;
    int r = FP_TASK_GONE;
    if (is_foreign(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    struct task *task = of_ticket(pool, ticket);
    if (task != NULL) {
        switch (task->state) {
        case HELD:
            r = FP_TASK_QUEUED;
            if (how != 0) {
                heap_remove(&task->tray->held, task->place);
                pool->nheld--;
                task_free(pool, task);
            }
            break;
        case QUEUED:
        case DELAYED:
            r = FP_TASK_QUEUED;
            if (how != 0) {
                heap_remove(task->state == QUEUED ? &pool->ready : &pool->delayed, task->place);
                unhold(pool, task->tray, 1);
                task_free(pool, task);
                nudge(pool);
            }
            break;
        case GRANTED:
        case RUNNING:
            r = FP_TASK_RUNNING;
            if (how > task->stop) {
                task->stop = how;
                if (task->worker != NULL) {
                    task->worker->stops = true;
                    ring(task->worker->wake);
                }
            }
            break;
        case FOREIGN:
            r = FP_TASK_FOREIGN;
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
    struct fp_pool *pool = of;
    fp_job_close(job); /* it may have much on the heap, or a child that is the caller's now */
    if (is_foreign(pool))
        return; /* its memory goes with the pool's */
    pthread_mutex_lock(&pool->lock);
    job_back(job);
    if (pool->end == OPEN)
        job_give(pool, job);
    else
        free(job);
    pthread_mutex_unlock(&pool->lock);
}

int fp_pool_count(void *of, int64_t *ret_queued, int64_t *ret_running)
{
    struct fp_pool *pool = of;
    if (is_foreign(pool))
        return -ECHILD;
    pthread_mutex_lock(&pool->lock);
    bool open = pool->end == OPEN;
    *ret_queued = open ? (int64_t)(pool->ready.n + pool->delayed.n) + pool->nheld : 0;
    *ret_running = open ? pool->running : 0;
    pthread_mutex_unlock(&pool->lock);
    return 0;
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
    if (task->state == FOREIGN) {
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

/* How long a taker waits for more than one, so that it is not woken for each. */
#define LINGER_NS 300000

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
    if (tray->count < want && (wait_ns < 0 || wait_ns > LINGER_NS)) {
        struct pollfd fd = {.fd = tray->fd, .events = POLLIN};
        hush(tray->fd);
        tray->told = false;
        tray->want = want;
        pthread_mutex_unlock(&pool->lock);
        fp__wait_for(&fd, 1, fp__now() + LINGER_NS);
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
        tray_end(tray);
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
            job_give(pool, job);
        else if (job != NULL)
            job_lend(pool, job);
        task_free(pool, task);
    }
    if (i > 0) {
        unhold(pool, tray, i);
        nudge(pool);
    }
    if (--pool->copying == 0 && pool->end == CLOSING)
        pthread_cond_broadcast(&pool->closed);
    pthread_mutex_unlock(&pool->lock);
    return count > 0 ? count : r; /* what was taken is told, also when a signal came */
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

int fp_pool_submit(void *pool, void *tray, int64_t key, const struct fp_request *request, const char *paths,
                   uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc, int64_t priority,
                   int64_t delay_ns, struct fp_ticket *ret_ticket)
{
    (void)pool, (void)tray, (void)key, (void)request, (void)paths, (void)npaths, (void)argv, (void)argc, (void)env;
    (void)envc, (void)priority, (void)delay_ns;
    ret_ticket->task = NULL;
    return -ENOSYS;
}

int fp_pool_go(void *pool, const struct fp_ticket *ticket, const struct fp_request *request, const char *paths,
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

int fp_tray_take(void *tray, struct fp_done *ret_done, int n, char *arena, uint64_t size, int64_t want, int64_t wait_ns)
{
    (void)tray, (void)ret_done, (void)n, (void)arena, (void)size, (void)want, (void)wait_ns;
    return -ENOSYS;
}

#endif
