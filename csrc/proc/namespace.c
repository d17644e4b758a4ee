/* namespace.c: whether a proc file system shows this process's own PID namespace, so that system calls of this process
 * accept the pids in it.
 *
 * /proc can belong to another namespace: after unshare(CLONE_NEWPID) without a new mount, or in a container that has
 * its host's /proc. Then its pids name strangers here (pid_namespaces(7)). */
#include "internal.h"

#if FP_LINUX
#include <stdatomic.h>
#include <sys/stat.h>

#define CGROUP2_SUPER_MAGIC 0x63677270
#define NSPID "\nNSpid:\t"

/* Returns the number of PID namespaces in which self/status names this process: from the namespace of the proc file
 * system down to its own (Linux 4.1). 0 where the kernel does not list them. The line may come after a line with 65,536
 * groups. */
static long count_names(int directory)
{
    char buffer[2048];
    size_t matched = 0;
    long names = 0, n = 0;
    long fd = fp__sys4(SYS_openat, directory, "self/status", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    bool ended = false;
    while (!ended && (n = fp__sys3(SYS_read, fd, buffer, sizeof buffer)) > 0) {
        for (long i = 0; i < n && !ended; i++) {
            char c = buffer[i];
            if (matched == sizeof NSPID - 1) {
                names += c == '\t' || c == '\n';
                ended = c == '\n';
            } else {
                matched = c == NSPID[matched] ? matched + 1 : c == '\n';
            }
        }
    }
    fp__close((int)fd);
    return n < 0 ? n : names;
}

/* Identifies a process and a mount for which count_names() has returned 1. Neither can move to another namespace. A
 * forked copy has another pid and stays in its namespace forever; a mount has its own device and time of birth. */
static _Atomic uint64_t proven;

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15;
    return hash ^ hash >> 29;
}

static uint64_t name_of(int directory, long pid)
{
    struct stat status;
    int saved = errno, r = fstat(directory, &status);
    errno = saved;
    if (r < 0)
        return 0;
    uint64_t hash = mix(mix(1, (uint64_t)pid), (uint64_t)status.st_dev);
    return mix(mix(hash, (uint64_t)status.st_ctim.tv_sec), (uint64_t)status.st_ctim.tv_nsec);
}

/* Returns 0, -ENODEV or -EXDEV. */
static long check(int directory)
{
    long fs[32];
    char text[16];
    long pid = 0, r = fp__sys2(SYS_fstatfs, directory, fs);
    if (r < 0)
        return r;
    if (fs[0] != FP__PROC_SUPER_MAGIC)
        return -ENODEV;
    /* In the proc file system of a namespace that this process is not in, self points nowhere (proc_self_get_link() in
     * fs/proc/self.c). */
    long n = fp__sys4(SYS_readlinkat, directory, "self", text, sizeof text);
    if (n < 0)
        return n == -ENOENT ? -EXDEV : n;
    for (long i = 0; i < n; i++)
        pid = pid * 10 + (text[i] - '0');
    if (pid != fp__sys0(SYS_getpid))
        return -EXDEV;
    /* In an outer namespace this process may have the same number by accident. */
    uint64_t name = name_of(directory, pid);
    if (name != 0 && name == atomic_load(&proven))
        return 0;
    n = count_names(directory);
    if (n == 1)
        atomic_store(&proven, name);
    return n < 0 ? n : n > 1 ? -EXDEV : 0;
}

int fp_is_cgroup2(int fd)
{
    long fs[32];
    return fp__sys2(SYS_fstatfs, fd, fs) == 0 && fs[0] == CGROUP2_SUPER_MAGIC;
}

int fp_proc_check(int directory)
{
    if (directory >= 0)
        return (int)check(directory);
    long fd = fp__sys4(SYS_openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd == -ENOENT || fd == -ENOTDIR ? -ENODEV : (int)fd;
    long r = check((int)fd);
    fp__close((int)fd);
    return (int)r;
}

#else

int fp_proc_check(int directory)
{
    (void)directory;
    return -ENODEV;
}

int fp_is_cgroup2(int fd)
{
    (void)fd;
    return 0;
}

#endif
