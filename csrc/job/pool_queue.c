/* pool_queue.c: decides which task of a pool starts next and when, and which thread is woken for it.
 *
 * Three queues feed the threads: `dispatched` (tasks that already have a worker slot; first in, first out), `ready` (by
 * priority, then by age) and `delayed` (by time). A task whose completion queue has UNDELIVERED_MAX results that nobody
 * has taken leaves `ready` for the throttled heap of that completion queue, so that a consumer that has stopped reading
 * cannot fill the memory with results. It returns as results are taken. No task is lost there: a throttled task exists
 * only while another task of the same consumer runs or waits to be taken, and each of these resumes one when it goes.
 *
 * Where no memory is left to move a task from one heap to the other, the task ends with ENOMEM. */
#include "grow.h"
#include "pool.h"

#if FP_LINUX

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 10
/* The analyzer loses track of memory from realloc(3) that is stored in the pool. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define UNDELIVERED_MAX 512 /* with so many untaken results no task of a consumer starts */

/* -- heaps: ordered by time, or by priority (highest first) and then by age */

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
    task->index = at;
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
    struct task **tasks = fp__grow(heap->tasks, &heap->room, heap->n + 1, sizeof *tasks);
    if (tasks != NULL)
        heap->tasks = tasks;
    return tasks != NULL;
}

bool fp__heap_push(struct heap *heap, struct task *task)
{
    if (!heap_room(heap))
        return false;
    heap_up(heap, heap->n++, task);
    return true;
}

void fp__heap_remove(struct heap *heap, size_t at)
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

/* -- the caller holds the lock */

void fp__pool_post(struct task *task)
{
    struct completion_queue *completions = task->completions;
    task->worker = NULL;
    if (task->state == TASK_ENDED)
        completions->undelivered++;
    list_add(&completions->ended, task);
    if (++completions->count >= completions->want && !completions->notified) {
        completions->notified = true;
        notify(completions->fd);
    }
}

/* Ends a task that no queue has memory for. */
static void fail(struct task *task)
{
    task_move(&task->state, TASK_FAIL);
    task->result = -ENOMEM;
    fp__pool_post(task);
}

/* Wakes the idle thread that polls the fewest children, if a task may be able to start. */
void fp__pool_wake_one(struct pool *pool)
{
    if (pool->ready.n == 0 && pool->delayed.n == 0 && pool->dispatched.first == NULL)
        return;
    if (pool->dispatched.first == NULL && pool->running >= pool->limit)
        return;
    struct worker *found = NULL;
    for (unsigned i = 0; i < pool->nworkers; i++) {
        struct worker *worker = &pool->workers[i];
        if (worker->idle && (found == NULL || worker->load < found->load))
            found = worker;
    }
    if (found != NULL) {
        found->idle = false;
        notify(found->wake);
    }
}

void fp__pool_wake_all(struct pool *pool)
{
    for (unsigned i = 0; i < pool->nworkers; i++)
        notify(pool->workers[i].wake);
}

/* Moves tasks that must wait for their consumer from the front of the ready queue to their throttled heap. Returns
 * whether a task is left that may start. */
static bool throttle(struct pool *pool)
{
    while (pool->ready.n > 0) {
        struct task *task = pool->ready.tasks[0];
        if (task->completions->undelivered < UNDELIVERED_MAX)
            return true;
        if (!heap_room(&task->completions->throttled))
            return false; /* then every task waits */
        fp__heap_remove(&pool->ready, 0);
        fp__heap_push(&task->completions->throttled, task);
        task_move(&task->state, TASK_THROTTLE);
        pool->nthrottled++;
    }
    return false;
}

/* Moves up to n throttled tasks back to the ready queue. Called when n tasks of this consumer were taken or removed;
 * see above for why none stays behind. */
void fp__pool_resume_throttled(struct pool *pool, struct completion_queue *completions, int n)
{
    for (; n > 0 && completions->throttled.n > 0 && completions->undelivered < UNDELIVERED_MAX; n--) {
        struct task *task = completions->throttled.tasks[0];
        fp__heap_remove(&completions->throttled, 0);
        pool->nthrottled--;
        if (fp__heap_push(&pool->ready, task))
            task_move(&task->state, TASK_RESUME);
        else
            fail(task);
    }
}

/* Returns the next task that may start now, with a worker slot taken for it, or NULL. Then *until is made earlier: the
 * time at which to ask again, or -1. */
struct task *fp__pool_next_task(struct pool *pool, int64_t now, int64_t *until)
{
    struct task *task = list_take(&pool->dispatched);
    if (task != NULL)
        return task;
    while (pool->delayed.n > 0 && pool->delayed.tasks[0]->not_before_ns <= now) {
        task = pool->delayed.tasks[0];
        fp__heap_remove(&pool->delayed, 0);
        if (fp__heap_push(&pool->ready, task)) {
            task_move(&task->state, TASK_FALL_DUE);
        } else {
            task->not_before_ns = now + FP_POOL_STARVED_NS;
            fp__heap_push(&pool->delayed, task); /* it was just removed there, so there is room */
        }
    }
    if (pool->delayed.n > 0)
        *until = fp__earlier(*until, pool->delayed.tasks[0]->not_before_ns);
    if (pool->running >= pool->limit || pool->gated || !throttle(pool))
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
    fp__heap_remove(&pool->ready, 0);
    pool->running++;
    return task;
}

void fp__pool_requeue(struct pool *pool, struct task *task, int64_t not_before_ns)
{
    task->not_before_ns = not_before_ns;
    if (fp__heap_push(&pool->delayed, task))
        task_move(&task->state, TASK_POSTPONE);
    else
        fail(task);
}

#endif
