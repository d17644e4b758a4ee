/* children.c: the children of a process, by /proc/PID/task/TID/children, which the kernel keeps for each thread (3.5).
 *
 * A child that ends while the list is read may make the kernel skip another child (proc(5)). So each list is read until
 * two readings are alike. */
#include "grow.h"
#include "internal.h"

#if FP_LINUX
#include <stdio.h>

#define READINGS_MAX 8

/* The bytes of a file, in a buffer that grows. */
struct text {
    char *bytes;
    size_t size;
    size_t capacity;
};

struct family {
    int32_t *pids;
    uint32_t max;
    uint32_t count;
    uint64_t *seen; /* a bit for each pid */
    struct text list, again;
};

/* The kernel's limit: PID_MAX_LIMIT, 2^22. */
#define PIDS_MAX (1u << 22)

static int read_all(int directory, const char *path, struct text *text)
{
    long fd = fp__sys4(SYS_openat, directory, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return (int)fd;
    text->size = 0;
    long n;
    do {
        if (text->capacity - text->size < 2048) {
            char *bytes = fp__grow(text->bytes, &text->capacity, text->size + 8192, 1);
            if (!bytes) {
                n = -ENOMEM;
                break;
            }
            text->bytes = bytes;
        }
        n = fp__sys3(SYS_read, fd, text->bytes + text->size, text->capacity - text->size - 1);
        if (n > 0)
            text->size += (size_t)n;
    } while (n > 0 || n == -EINTR);
    fp__close((int)fd);
    if (n < 0)
        return (int)n;
    text->bytes[text->size] = '\0';
    return 0;
}

static void add(struct family *family, const struct text *text)
{
    const char *at = text->bytes;
    while (at && *at) {
        char *end;
        unsigned long pid = strtoul(at, &end, 10);
        if (end == at)
            break;
        at = end + (*end == ' ');
        if (pid == 0 || pid >= PIDS_MAX || (family->seen[pid / 64] >> pid % 64 & 1))
            continue;
        family->seen[pid / 64] |= 1ULL << pid % 64;
        if (family->count < family->max)
            family->pids[family->count] = (int32_t)pid;
        family->count++;
    }
}

/* Adds the children of one thread. A thread that has ended has left its children to another thread of its process. */
static int of_thread(struct family *family, int tasks, const char *tid)
{
    char path[64];
    snprintf(path, sizeof path, "%.20s/children", tid);
    int r = read_all(tasks, path, &family->list);
    for (int i = 0; r >= 0 && i < READINGS_MAX; i++) {
        add(family, &family->list);
        r = read_all(tasks, path, &family->again);
        if (r < 0 || !family->list.bytes || !family->again.bytes ||
            (family->again.size == family->list.size &&
             memcmp(family->again.bytes, family->list.bytes, family->list.size) == 0))
            break;
        struct text other = family->list;
        family->list = family->again;
        family->again = other;
    }
    if (r != -ENOENT)
        return r == -ESRCH ? 0 : r;
    path[strcspn(path, "/")] = '\0';
    long there = fp__sys4(SYS_openat, tasks, path, O_PATH | O_CLOEXEC, 0);
    if (there < 0)
        return 0;
    fp__close((int)there);
    return -EOPNOTSUPP;
}

static int of_process(struct family *family, int root, int32_t pid)
{
    char path[32];
    snprintf(path, sizeof path, "%d/task", pid);
    long tasks = fp__sys4(SYS_openat, root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (tasks < 0)
        return tasks == -ENOENT ? -ESRCH : (int)tasks;
    _Alignas(struct fp__dirent) char buffer[8192];
    int r = 0;
    long n = 0;
    while (r >= 0 && (n = fp__sys3(SYS_getdents64, tasks, buffer, sizeof buffer)) > 0) {
        for (long at = 0; r >= 0 && at < n;) {
            const struct fp__dirent *entry = (const void *)(buffer + at);
            at += entry->reclen;
            if (entry->name[0] >= '0' && entry->name[0] <= '9')
                r = of_thread(family, (int)tasks, entry->name);
        }
    }
    fp__close((int)tasks);
    if (r < 0)
        return r;
    return n == -ENOENT ? -ESRCH : (int)n;
}

int fp_children(const char *root, int is_proc, int32_t pid, int recursive, int32_t *ret_pids, uint32_t max)
{
    struct family family = {.pids = ret_pids, .max = max};
    long fd = fp__sys4(SYS_openat, AT_FDCWD, root, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return (int)fd;
    int r = is_proc ? fp_proc_check((int)fd) : 0;
    if (r < 0) {
        fp__close((int)fd);
        return r;
    }
    family.seen = calloc(PIDS_MAX / 64, sizeof *family.seen);
    if (family.seen && pid > 0 && (uint32_t)pid < PIDS_MAX)
        family.seen[pid / 64] |= 1ULL << pid % 64;
    r = family.seen ? of_process(&family, (int)fd, pid) : -ENOMEM;
    /* The pids found so far are the queue of processes to look into. Where ret_pids is too small, the caller calls
     * again. */
    for (uint32_t i = 0; recursive && r >= 0 && family.count <= max && i < family.count; i++) {
        r = of_process(&family, (int)fd, ret_pids[i]);
        if (r == -ESRCH || r == -EACCES || r == -EPERM)
            r = 0; /* the process has ended since */
    }
    fp__close((int)fd);
    free(family.seen);
    free(family.list.bytes);
    free(family.again.bytes);
    return r < 0 ? r : (int)family.count;
}

#else

int fp_children(const char *root, int is_proc, int32_t pid, int recursive, int32_t *ret_pids, uint32_t max)
{
    (void)root, (void)is_proc, (void)pid, (void)recursive, (void)ret_pids, (void)max;
    return -ENOSYS;
}

#endif
