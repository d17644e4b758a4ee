/* fds.c: the parent's half of the descriptor map: which descriptors the child must copy before it moves others, and
 * which stay open; cells that own a descriptor. */
#include "internal.h"

#include <stdlib.h>

#if FP_LINUX
/* Returns the highest open number, or -1 where /proc does not list them. By raw calls, as a spawn uses it. */
int fp__fd_highest(void)
{
    char buffer[4096] __attribute__((aligned(8)));
    long dir = fp__proc_open("/proc/self/fd", O_RDONLY | O_DIRECTORY);
    if (dir < 0)
        return -1;
    int highest = -1;
    for (;;) {
        long n = fp__sys3(SYS_getdents64, dir, buffer, sizeof buffer);
        if (n <= 0) {
            if (n < 0)
                highest = -1;
            break;
        }
        for (long at = 0; at < n;) {
            const struct fp__dirent *entry = (const void *)(buffer + at);
            int fd = 0;
            for (const char *p = entry->name; *p >= '0' && *p <= '9'; p++)
                fd = fd * 10 + (*p - '0');
            at += entry->reclen;
            if (fd > highest)
                highest = fd;
        }
    }
    fp__close((int)dir);
    return highest;
}
#endif

/* Returns a close-on-exec copy of fd with a number of at least `floor`, or a negative errno. */
static long dup_above(int fd, int floor)
{
#if FP_LINUX
    return FP__TRY(FP_POINT_LIFT, fp__sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, floor));
#else
    int r = fcntl(fd, F_DUPFD_CLOEXEC, floor);
    return r < 0 ? -errno : r;
#endif
}

/* Moves fd to a number of at least `floor`: a data file must never become a standard stream because 0, 1 or 2 was
 * closed (GOTCHAS C8). Returns the number, or a negative errno with fd closed. */
int fp__fd_lift(int fd, int floor)
{
    if (fd < 0 || fd >= floor)
        return fd;
    long r = dup_above(fd, floor);
    fp__close(fd);
    return (int)r;
}

/* Returns a close-on-exec copy of fd, above 2, with a number that no move writes to; or a negative errno. */
int fp__fd_copy_aside(int fd, const int32_t *keep, uint32_t nkeep)
{
    int floor = 3;
    for (;;) {
        long copy = dup_above(fd, floor);
        if (copy < 0 || !fp__is_kept(keep, nkeep, (int32_t)copy))
            return (int)copy;
        fp__close((int)copy);
        floor = (int)copy + 1;
    }
}

static int compare(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void sort(int32_t *numbers, uint32_t n)
{
    if (n > 32) {
        qsort(numbers, n, sizeof *numbers, compare);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        int32_t value = numbers[i];
        uint32_t j = i;
        for (; j > 0 && numbers[j - 1] > value; j--)
            numbers[j] = numbers[j - 1];
        numbers[j] = value;
    }
}

/* Fills keep (which has room for nmoves + 3) and marks the moves whose source an earlier move overwrites. The caller
 * has checked that no two moves have one target. */
void fp__fdmap_prepare(struct fp__context *context, int32_t *keep)
{
    uint32_t n = 0;
    for (int32_t fd = 0; fd < 3; fd++)
        keep[n++] = fd;
    for (uint32_t i = 0; i < context->nmoves; i++)
        keep[n++] = context->moves[i].to;
    sort(keep, n);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (kept == 0 || keep[i] != keep[kept - 1])
            keep[kept++] = keep[i];
    }
    context->keep = keep;
    context->nkeep = kept;

    for (uint32_t i = 0; i < context->nmoves; i++) {
        struct fp__move *move = &context->moves[i];
        /* A source that is also a target may be overwritten before its turn. One copy too many is harmless. */
        move->lift = move->from != move->to && fp__is_kept(keep, kept, move->from);
    }
}

/* -- cells that own a descriptor */

int fp_fd_take(int32_t *cell)
{
    return __atomic_exchange_n(cell, -1, __ATOMIC_SEQ_CST);
}

int fp_fd_close(int32_t *cell)
{
    int saved = errno, fd = fp_fd_take(cell), r = 0;
    if (fd >= 0 && close(fd) != 0 && errno != EINTR) /* GOTCHAS C11: Linux has freed the number by then */
        r = -errno;
    errno = saved;
    return r;
}

void fp_fd_drop(int32_t *cell)
{
    fp_fd_close(cell);
}
