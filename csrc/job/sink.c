/* sink.c: the memory of one captured stream. It grows without copying, and becomes a bytes object without copying.
 *
 * Most of the cost of a large capture is making pages. The kernel makes them while the child fills its pipe, just
 * before the read that needs them, so that they are still in the processor's cache; huge pages are used as long as they
 * come quickly. */
#include "internal.h"

#include <stdlib.h>
#include <sys/mman.h>

#define FIRST (1u << 20) /* bytes of the first heap buffer */

static void reset(struct fp_sink *sink)
{
    sink->heap = NULL;
    sink->len = sink->cap = sink->ready = 0;
    sink->wide = sink->slow = 0;
}

#if FP_LINUX

#define REST_NS 100000
#define LARGE_PAGE (2u << 20)
#define STEP (256u << 10) /* bytes of small pages made at once, and of one read */
#define SMALL (16u << 10) /* a shorter read has found a nearly empty pipe */
#define SLOW_NS 500000    /* longer than as many small pages take */
#define SLOW_MAX 3
#define VERY_SLOW_NS (4 * SLOW_NS) /* no accident: once is enough */
#define NO_PAGES INT32_MAX         /* pages are not made ahead */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* 5.14 */
#endif
#define FAR (4u << 20) /* after so many bytes a child counts as one that floods */

/* glibc maps blocks above 32 MiB separately (mallopt(3), DEFAULT_MMAP_THRESHOLD_MAX). The first byte of a bytes object
 * in such a block is 48 bytes into a page: 16 of the chunk's header, 32 of the object's. Our buffer begins at the same
 * offset, so that whole pages can be moved into the object. Where the guess is wrong, everything is copied. */
#define OFFSET 48
#define MOVE_MIN (64u << 20)

static bool refused(const void *r)
{
    return (unsigned long)r > -4096UL;
}

static char *map(size_t size)
{
    if (FP__TRY(FP_POINT_GROW, 0) < 0)
        return NULL;
    char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return refused(base) ? NULL : base;
}

/* A larger step than needed costs only addresses. Where these are scarce (RLIMIT_AS), smaller steps are tried. */
static bool grow(struct fp_sink *sink)
{
    if (sink->heap == NULL) {
        char *base = map(FIRST);
        if (base == NULL)
            return false;
        sink->heap = base + OFFSET;
        sink->cap = FIRST - OFFSET;
        memcpy(sink->heap, sink->fixed, FP_JOB_FIXED);
        return true;
    }
    char *base = sink->heap - OFFSET;
    size_t size = sink->cap + OFFSET;
    for (size_t step = size * 3; step >= FIRST; step = step / 2 & ~((size_t)FIRST - 1)) {
        if (FP__TRY(FP_POINT_GROW, 0) < 0)
            continue;
        char *moved = mremap(base, size, size + step, MREMAP_MAYMOVE);
        if (refused(moved))
            continue;
        if (sink->len >= FAR - OFFSET && sink->slow < SLOW_MAX)
            madvise(moved, size + step, MADV_HUGEPAGE);
        sink->heap = moved + OFFSET;
        sink->cap = size + step - OFFSET;
        return true;
    }
    return false;
}

/* The CPU time of this thread: by the wall clock every step is slow on a busy machine. */
static int64_t used(void)
{
    struct timespec ts = {0, 0};
    fp__sys2(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec * FP_NSEC + ts.tv_nsec;
}

/* Makes the next pages in one call: one by one, in the middle of a read, they take three times as long, and the child
 * waits for the pipe's lock meanwhile. Huge pages are given up where they come slowly: a virtual machine that returns
 * free pages to its host has to get each of them again (1 GiB in 0.1 s or in 2.4 s; by small pages in 0.35 s). */
static void make_pages(struct fp_sink *sink)
{
    char *from = sink->heap + (sink->ready > sink->len ? sink->ready : sink->len), *end = sink->heap + sink->cap;
    bool large = sink->slow < SLOW_MAX;
    uintptr_t unit = large ? LARGE_PAGE : (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t next = ((uintptr_t)from + unit - 1) & ~(unit - 1);
    size_t size = large ? LARGE_PAGE : STEP;
    if (sink->slow == NO_PAGES || next >= (uintptr_t)end || size > (uintptr_t)end - next)
        return;
    int64_t before = used();
    if (fp__sys3(SYS_madvise, next, size, MADV_POPULATE_WRITE) < 0) {
        sink->slow = NO_PAGES; /* before Linux 5.14; or no memory, which the read reports */
        return;
    }
    sink->ready = next + size - (uintptr_t)sink->heap;
    int64_t took = large ? used() - before : 0;
    if (took > SLOW_NS) {
        sink->slow = took > VERY_SLOW_NS ? SLOW_MAX : sink->slow + 1;
        if (sink->slow == SLOW_MAX)
            madvise(sink->heap - OFFSET, sink->cap + OFFSET, MADV_NOHUGEPAGE);
    }
}

void fp__sink_free(struct fp_sink *sink)
{
    if (sink->heap != NULL)
        munmap(sink->heap - OFFSET, sink->cap + OFFSET);
    reset(sink);
}

/* Moves whole pages into the new place and copies the bytes before and after them. Returns false when the pages cannot
 * be moved. */
static bool move(struct fp_sink *sink, char *to)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    char *base = sink->heap - OFFSET, *end = sink->heap + sink->cap;
    if (sink->len < MOVE_MIN || (((uintptr_t)to ^ (uintptr_t)sink->heap) & (page - 1)) != 0)
        return false;
    size_t before = -(uintptr_t)to & (page - 1);
    size_t whole = (sink->len - before) & ~(size_t)(page - 1);
    char *from = sink->heap + before;
    /* By the C library's function, so that a program that interposes it to follow mappings sees this one. */
    long r = FP__TRY(FP_POINT_MOVE, 0);
    if (r == 0 && refused(mremap(from, whole, whole, MREMAP_MAYMOVE | MREMAP_FIXED, to + before)))
        r = -1;
    if (r < 0) {
        /* mremap(2) may have unmapped the target before it failed. Where the target is still mapped, this does
         * nothing. */
        void *again = mmap(to + before, whole, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (!refused(again) && again != to + before)
            munmap(again, whole); /* before Linux 4.17 the address was only a hint */
        return false;
    }
    memcpy(to, sink->heap, before);
    memcpy(to + before + whole, from + whole, sink->len - before - whole);
    /* Not in one call: another thread may have mapped something into the hole by now. */
    munmap(base, (size_t)(from - base));
    munmap(from + whole, (size_t)(end - from) - whole);
    reset(sink);
    return true;
}

#else

static bool grow(struct fp_sink *sink)
{
    uint64_t cap = sink->heap == NULL ? FIRST : sink->cap * 2;
    char *heap = realloc(sink->heap, cap);
    if (heap == NULL)
        return false;
    if (sink->heap == NULL)
        memcpy(heap, sink->fixed, FP_JOB_FIXED);
    sink->heap = heap;
    sink->cap = cap;
    return true;
}

void fp__sink_free(struct fp_sink *sink)
{
    free(sink->heap);
    reset(sink);
}

static bool move(struct fp_sink *sink, char *to)
{
    (void)sink;
    (void)to;
    return false;
}

#endif

/* Returns room for at least one more byte, or NULL. When the fixed buffer overflows for the first time, the pipe is
 * made larger too, so that a child that writes much is woken less often. A read holds the pipe's lock, for which the
 * child waits. Reads of a part of the pipe, each into pages that were just made, keep both at work (1 GiB from `head`:
 * 0.60 s; with pages made far ahead and reads of everything: 0.74 s). */
char *fp__sink_room(struct fp_sink *sink, int fd, size_t *room)
{
    if (sink->heap == NULL && sink->len < FP_JOB_FIXED) {
        *room = FP_JOB_FIXED - sink->len;
        return sink->fixed + sink->len;
    }
    if (sink->heap == NULL || sink->len == sink->cap) {
        bool first = sink->heap == NULL;
        if (!grow(sink))
            return NULL;
#if FP_LINUX
        if (first)
            sink->wide = fp__sys3(SYS_fcntl, fd, F_SETPIPE_SZ, FP__PIPE_LARGE) >= FP__PIPE_LARGE;
#endif
        (void)first;
    }
#if FP_LINUX
    if (sink->len >= FAR && sink->ready < sink->len + STEP)
        make_pages(sink);
#endif
    (void)fd;
    *room = sink->cap - sink->len;
#if FP_LINUX
    if (sink->len >= FAR && *room > STEP)
        *room = STEP;
#endif
    return sink->heap + sink->len;
}

/* Called after a read of `came` bytes. A child that writes small pieces forever would wake this thread for each of
 * them, so its large pipe gets a moment to fill, which the child does not notice. Not after a larger read: then there
 * is no time to lose. */
void fp__sink_rest(struct fp_sink *sink, size_t came)
{
#if FP_LINUX
    if (!sink->wide || sink->len < FAR || came >= SMALL)
        return;
    struct timespec ts = {0, REST_NS};
    fp__sys2(SYS_nanosleep, &ts, NULL);
#else
    (void)sink;
    (void)came;
#endif
}

void fp_job_take(struct fp_job *job, int index, char *to)
{
    struct fp_sink *sink = &job->sink[index];
    int saved = errno;
    if (sink->heap == NULL)
        memcpy(to, sink->fixed, sink->len);
    else if (!move(sink, to))
        memcpy(to, sink->heap, sink->len);
    errno = saved;
}
