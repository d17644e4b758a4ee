/* pool_threads.c: the threads of a pool: they start tasks, look after their children, and collect what ends.
 *
 * The threads run no code of the caller's, block every signal, and end in fp_pool_close(). Each has few children whose births it
 * just saw ("young"), which it polls directly, and an epoll for those that have lived for a while. As long as commands end
 * young, a thread starts no more than keep the processors busy: what many children that wait for a processor have open is copied
 * to each further one, and closed in it again. */
#include "grow.h"
#include "pool.h"

#if FP_LINUX

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10
/* The analyzer loses what realloc(3) gave when it is kept in the pool. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define STARTS 8 /* in one turn, before the ends are looked at */
#define FP__PR_SET_NAME 15

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
        pool->starved_ns = fp__now() + FP_POOL_STARVED_NS;
        task->job = NULL;
        fp__pool_job_give(pool, job);
        fp__pool_requeue(pool, task, pool->starved_ns);
        return;
    }
    if (task->result == -ETXTBSY && job->child.stage == FP_STAGE_EXEC && task->tries < FP_BUSY_TRIES &&
        task->stop == 0) {
        task->job = NULL;
        fp__pool_job_give(pool, job);
        fp__pool_requeue(pool, task, fp__now() + fp__busy_pause(task->tries++)); /* GOTCHAS C2 */
        return;
    }
    task_move(&task->state, TASK_END);
    fp__pool_post(task);
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
    fp__job_ask_to_end(job);
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
    struct task **old = fp__grow(worker->old, &worker->old_room, worker->nold + 1, sizeof *old);
    if (old == NULL)
        return false;
    worker->old = old;
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
        } else if (now - job->started_ns >= FP_POOL_POLLED_NS && grow_old(worker, task)) {
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
        struct task *task = fp__pool_next_task(pool, fp__now(), until);
        if (task == NULL) {
            worker->idle = true;
            worker->load = worker->nyoung;
            return;
        }
        if (task->request == NULL) {
            task_move(&task->state, TASK_DELEGATE);
            fp__pool_post(task);
            continue;
        }
        task_move(&task->state, TASK_START);
        task->worker = worker;
        task->job = fp__pool_job_take(pool);
        if (task->job == NULL) {
            pool->running--;
            fp__pool_requeue(pool, task, fp__now() + FP_POOL_STARVED_NS);
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
        fp__pool_nudge(pool); /* there may be more, for another thread */
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
            int64_t old = task->job->started_ns + FP_POOL_POLLED_NS;
            until = fp__earlier(until, old > now ? old : now + FP_POOL_POLLED_NS); /* it could not be handed on */
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

int fp__pool_make_thread(struct worker *worker)
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

#endif
