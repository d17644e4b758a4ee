/* pool_threads.c: the threads of a pool. Each starts tasks, watches their children, and passes ended tasks on.
 *
 * Polled and epolled. Most commands of a pool live for a few milliseconds. An epoll costs two more system calls for
 * each descriptor of such a child, about as many as all its reads. So a thread passes the descriptors of its youngest
 * children to ppoll(2) directly, and moves a child to its epoll when it has lived for FP_POOL_POLLED_NS. The epoll then
 * carries any number of long-lived children at a cost that does not grow with their number.
 *
 * How many at once. A thread polls between POLLED_MIN and POLLED_MAX children. The maximum doubles whenever a child
 * becomes old enough for the epoll, and shrinks by a quarter of the excess whenever one ends before that. While
 * commands are short, a thread so keeps only as many children as keep the processors busy: a new child gets a copy of
 * every descriptor of this process, the pipes of all unfinished children included, and has to close them, so each
 * further child makes the next one more expensive. While commands are long, the pool reaches its limit soon.
 *
 * Locking. A thread holds the lock while it takes tasks and posts results, and releases it for every clone, read, wait
 * and poll. The lists `polled` and `epolled` belong to the thread. Another thread that wants a task to end sets
 * task->stop under the lock and notifies the thread's eventfd; the thread acts on it (apply_stops()).
 *
 * Signals. The threads block every signal, so that a handler of the process never runs here, and run no code of the
 * caller's. Children get the caller's mask instead (fp__child_mask). Every child gets its pidfd at once: with several
 * threads the SIGCHLD of run.c cannot be used. */
#include "grow.h"
#include "pool.h"

#if FP_LINUX

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10
/* The analyzer loses track of memory from realloc(3) that is stored in the pool. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define STARTS 8 /* started in one turn, before ended children are looked at */
#define FP__PR_SET_NAME 15

/* Starts that failed for lack of resources (EAGAIN, EMFILE, ...) can succeed once another task ends. */
static bool is_shortage(const struct task *task)
{
    int error = -task->result, stage = task->job->child.stage;
    if (error == EAGAIN && stage == FP_STAGE_EXEC) /* RLIMIT_NPROC, execve(2) */
        return true;
    return (error == EMFILE || error == ENFILE || error == EAGAIN || error == ENOMEM) && stage < FP_STAGE_BORN;
}

/* Posts a task whose child has ended or could not be started, or queues it again. The caller holds the lock. */
static void finish(struct pool *pool, struct task *task)
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

/* The caller does not hold the lock. */
static void start(struct worker *worker, struct task *task)
{
    struct fp_job *job = task->job;
    int r = fp__job_begin(task->request, task->paths, task->npaths, task->argv, task->argc, task->env, task->envc, true,
                          true, FP__PIDFD_NOW, job);
    const struct fp_attr *attr = task->request->attr;
    job->group = (attr->flags & FP_ATTR_SETSID) || ((attr->flags & FP_ATTR_PGID) && attr->pgid == 0);
    task->result = r < 0 ? r : FP_JOB_AGAIN;
    worker->polled[worker->npolled++] = task;
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

static bool has_ended(struct task *task)
{
    struct fp_job *job = task->job;
    if (task->result < 0)
        return true;
    if (job->failure == 0 && !fp__job_is_over(job))
        return false;
    task->result = fp__job_finish(job, FP_JOB_DONE);
    return true;
}

/* Advances an epolled task. Returns whether it has ended. */
static bool step_epolled(struct worker *worker, struct task *task)
{
    if (fp_job_step(task->job, 0) == FP_JOB_AGAIN) {
        worker->epolled_due_ns = fp__earlier(worker->epolled_due_ns, task->job->due_ns);
        return false;
    }
    task->result = task->job->failure ? -task->job->failure : FP_JOB_DONE;
    struct task *last = worker->epolled[--worker->nepolled];
    worker->epolled[task->index] = last;
    last->index = task->index;
    return true;
}

/* Moves a task from ppoll to the epoll. Without memory or a free watch it stays polled. */
static bool move_to_epoll(struct worker *worker, struct task *task)
{
    struct task **epolled = fp__grow(worker->epolled, &worker->epolled_room, worker->nepolled + 1, sizeof *epolled);
    if (epolled == NULL)
        return false;
    worker->epolled = epolled;
    task->job->recheck = 0;
    if (fp_job_watch(task->job, worker->epoll, (int64_t)(intptr_t)task) < 0)
        return false;
    task->index = worker->nepolled;
    worker->epolled[worker->nepolled++] = task;
    task->job->due_ns = worker->epolled_due_ns = 0; /* 0: the next turn finds out when it is due */
    return true;
}

static void serve_polled(struct worker *worker, const struct pollfd *fds, const unsigned *counts, bool any_ready,
                         struct list *ended)
{
    unsigned kept = 0, n = worker->npolled;
    int64_t now = fp__now();
    for (unsigned i = 0; i < n; i++) {
        struct task *task = worker->polled[i];
        struct fp_job *job = task->job;
        if (task->result >= 0) {
            bool look = any_ready && fp__job_handle_ready(job, fds, counts[i]);
            look |= job->child.pidfd < 0 || job->recheck > 0;
            if (look && !fp__job_has_exited(job))
                fp__job_try_reap(job);
            fp__spawn_reclaim(job->spawn_state);
            if (job->failure == 0)
                fp__job_apply_deadlines(job);
        }
        fds += counts[i];
        if (has_ended(task)) {
            list_add(ended, task);
            worker->polled_max -= (worker->polled_max - POLLED_MIN + 3) / 4;
        } else if (now - job->started_ns >= FP_POOL_POLLED_NS && move_to_epoll(worker, task)) {
            worker->polled_max = worker->polled_max * 2 > POLLED_MAX ? POLLED_MAX : worker->polled_max * 2;
        } else {
            worker->polled[kept++] = task;
        }
    }
    worker->npolled = kept;
}

static void serve_epolled(struct worker *worker, bool ready, struct list *ended)
{
    struct epoll_event events[FP_GROUP_BATCH];
    long r = ready ? fp__sys6(SYS_epoll_pwait, worker->epoll, (long)events, FP_GROUP_BATCH, 0, 0, 8) : 0;
    for (long i = 0; i < r; i++) {
        struct fp_job *job = events[i].data.ptr;
        struct task *task = (struct task *)(intptr_t)job->key;
        if (job->live && task->job == job &&
            step_epolled(worker, task)) /* an earlier event of this batch may have ended it */
            list_add(ended, task);
    }
    if (worker->epolled_due_ns < 0 || fp__now() < worker->epolled_due_ns)
        return;
    worker->epolled_due_ns = -1;
    int64_t now = fp__now();
    for (size_t i = worker->nepolled; i-- > 0;) {
        struct task *task = worker->epolled[i];
        if (task->job->due_ns < 0)
            continue;
        if (task->job->due_ns > now)
            worker->epolled_due_ns = fp__earlier(worker->epolled_due_ns, task->job->due_ns);
        else if (step_epolled(worker, task))
            list_add(ended, task);
    }
}

/* The caller holds the lock. */
static void apply_stops(struct worker *worker)
{
    worker->has_stops = false;
    for (unsigned i = 0; i < worker->npolled; i++) {
        if (worker->polled[i]->stop && worker->polled[i]->result >= 0)
            stop(worker->polled[i]);
    }
    for (size_t i = 0; i < worker->nepolled; i++) {
        struct task *task = worker->epolled[i];
        if (task->stop) {
            stop(task);
            task->job->due_ns = worker->epolled_due_ns = 0;
        }
    }
}

static void start_tasks(struct worker *worker, int64_t *until)
{
    struct pool *pool = worker->pool;
    for (int n = 0; n < STARTS && worker->npolled < worker->polled_max; n++) {
        struct task *task = fp__pool_next_task(pool, fp__now(), until);
        if (task == NULL) {
            worker->idle = true;
            worker->load = worker->npolled;
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
        worker->has_stops |= task->stop != 0;
        pthread_mutex_unlock(&pool->lock);
        start(worker, task);
        pthread_mutex_lock(&pool->lock);
    }
    if (worker->npolled < worker->polled_max)
        *until = 0;
    else
        fp__pool_wake_one(pool); /* another thread may be able to start more */
}

static void abort_all(struct worker *worker)
{
    for (unsigned i = 0; i < worker->npolled; i++)
        fp_job_abort(worker->polled[i]->job, 0);
    for (size_t i = 0; i < worker->nepolled; i++)
        fp_job_abort(worker->epolled[i]->job, 0);
}

static void *run_thread(void *of)
{
    struct worker *worker = of;
    struct pool *pool = worker->pool;
    struct pollfd fds[2 + POLLED_MAX * FP__JOB_FDS];
    unsigned counts[POLLED_MAX];
    struct list ended = {0};
    fp__child_mask = &pool->child_mask;
    fp__sys5(SYS_prctl, FP__PR_SET_NAME, "fastproc-pool", 0, 0, 0);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        int64_t until = -1;
        for (struct task *task; (task = list_take(&ended)) != NULL;)
            finish(pool, task);
        if (pool->phase != OPEN)
            break;
        start_tasks(worker, &until);
        if (worker->has_stops)
            apply_stops(worker);
        pthread_mutex_unlock(&pool->lock);

        unsigned n = 2;
        int64_t now = fp__now();
        fds[0] = (struct pollfd){.fd = worker->wake, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = worker->nepolled ? worker->epoll : -1, .events = POLLIN};
        for (unsigned i = 0; i < worker->npolled; i++) {
            struct task *task = worker->polled[i];
            counts[i] = 0;
            if (task->result < 0 || task->job->failure != 0) {
                until = 0;
                continue;
            }
            until = fp__earlier(until, fp__job_apply_deadlines(task->job));
            int64_t later = task->job->started_ns + FP_POOL_POLLED_NS;
            until = fp__earlier(until,
                                later > now ? later : now + FP_POOL_POLLED_NS); /* it stayed polled: try again later */
            counts[i] = fp__job_pollfds(task->job, fds + n, true, &until);
            n += counts[i];
        }
        until = fp__earlier(until, worker->epolled_due_ns);
        int r = fp__wait_for(fds, n, until);
        if (r > 0 && fds[0].revents)
            clear(worker->wake);
        serve_polled(worker, fds + 2, counts, r > 0, &ended);
        if (worker->nepolled)
            serve_epolled(worker, r > 0 && fds[1].revents, &ended);
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
    int r = pthread_create(&worker->thread, &attr, run_thread, worker);
    pthread_attr_destroy(&attr);
    worker->started = r == 0;
    return r;
}

#endif
