/* snapshot.c: the files of many processes below /proc, read in one call, as a table with a column for each field.
 *
 * One row is one process. A pid can be reused between two reads. So the files of a row are opened below one descriptor
 * of /proc/PID: when that process has gone they fail with ESRCH or ENOENT, also when another process has its number by
 * then. A row for which only stat is read is one file, and needs no descriptor.
 *
 * A cell has the kernel's value, or the reason why there is none; nothing is guessed. The same ENOENT can mean that the
 * process has ended, is a zombie (which has no environment), is a kernel thread (which has no executable), that this
 * kernel has no such file, or that /proc hides the process from us (hidepid=). stat distinguishes the first three, so
 * it is read for every row that needs any other file, and once more when a file of the row was missing (fp__reason_of()).
 *
 * Values that the kernel hides. stat has 0 or 1 in place of addresses and of the exit code for callers that may not
 * trace the process. The start of the code is 1 only then, so it shows which of the others are not real; a zombie has
 * no code, so its exe is asked for the same right.
 *
 * What it costs the others. stat, statm and status take no lock that a process can hold for long. cmdline, environ,
 * smaps_rollup and exe take the lock of the process's memory, which a process that waits in an uninterruptible page
 * fault may hold; reading them can then wait as long. So they are read only when a column needs them; cmdline also for
 * a name of 15 bytes, which the kernel may have cut.
 *
 * Our own shortage (EMFILE, ENFILE, ENOMEM) is never a cell: it is not a property of the process, and ends the call. */
#include "grow.h"
#include "snapshot.h"

#if FP_LINUX
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#if defined(__GNUC__) && !defined(__clang__)
/* The analyzer does not follow a table into the caller's struct, where fp_snapshot_close() finds it. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

static const char *const names[FILES] = {
    [STAT] = "stat",
    [STATM] = "statm",
    [STATUS] = "status",
    [IO] = "io",
    [ROLLUP] = "smaps_rollup",
    [CMDLINE] = "cmdline",
    [ENVIRON] = "environ",
    [CGROUP] = "cgroup",
    [LIMITS] = "limits",
    [OOM] = "oom_score",
    [OOM_ADJ] = "oom_score_adj",
    [LOGINUID] = "loginuid",
    [SESSION] = "sessionid",
    [SCHED] = "schedstat",
    [EXE] = "exe",
    [CWD] = "cwd",
    [ROOT] = "root",
    [FDS] = "fd",
};

/* -- one row */

static int put_whole(struct work *work, enum file file)
{
    /* Neither a kernel thread nor a zombie has arguments or an environment: an empty value would be false. */
    bool none = work->size == 0 && (file == CMDLINE || file == ENVIRON);
    int reason = !none ? 0 : work->kthread ? FP_ABSENT_KTHREAD : work->state == 'Z' ? FP_ABSENT_ZOMBIE : 0;
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        struct fp_column *column = &work->snapshot->columns[i];
        if (fp__fields[column->field].file != file)
            continue;
        if (reason) {
            fp__put_absent(work, column, reason);
            continue;
        }
        int r = fp__put_bytes(work, column, work->text, work->size);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Counts the names in a directory that are numbers. */
static int count_numbers(struct work *work, const char *name)
{
    long fd = fp__sys4(SYS_openat, work->directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return (int)fd;
    _Alignas(struct fp__dirent) char buffer[4096];
    int count = 0;
    long n;
    while ((n = fp__sys3(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n;) {
            const struct fp__dirent *entry = (const void *)(buffer + at);
            count += entry->name[0] >= '0' && entry->name[0] <= '9';
            at += entry->reclen;
        }
    fp__close((int)fd);
    return n < 0 ? (int)n : count;
}

static int put_fds(struct work *work)
{
    struct stat status;
    int n = count_numbers(work, "fd");
    /* In this process three descriptors of the snapshot itself are among them: /proc, the row's directory, and fd while
     * it is listed. */
    int own = work->pid == work->self ? 3 : 0;
    int saved = errno;
    /* Since 6.2 anybody may ask for the size of the directory, which is the number of descriptors. It also counts a
     * descriptor that is being opened (a FIFO that waits for its other side), so it is used only where the directory
     * may not be listed. */
    if ((n == -EACCES || n == -EPERM) && fstatat(work->directory, "fd", &status, 0) == 0 && status.st_size > 0) {
        n = (int)status.st_size;
        own -= own != 0;
    }
    errno = saved;
    if (fp__is_own_lack(n))
        return n;
    if (n < 0) {
        fp__put_failed(work, FDS, fp__reason_of(work, n));
        return 0;
    }
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++)
        if (work->snapshot->columns[i].field == FP_FIELD_NUM_FDS)
            fp__put_number(work, &work->snapshot->columns[i], (uint64_t)(n - own), PLAIN);
    return 0;
}

/* Returns the number of this process in a proc file system; 0 in a folder, and in one that belongs to no namespace of
 * ours. */
static int32_t find_self(int directory)
{
    struct statfs status;
    char text[32];
    const char *at = text;
    uint64_t pid;
    int saved = errno;
    bool is_proc = fstatfs(directory, &status) == 0 && status.f_type == FP__PROC_SUPER_MAGIC;
    errno = saved;
    long n = is_proc ? fp__sys4(SYS_readlinkat, directory, "self", text, sizeof text - 1) : -1;
    text[n > 0 ? n : 0] = '\0';
    return fp__number(&at, PLAIN, &pid) && pid <= INT32_MAX ? (int32_t)pid : 0;
}

static int put_namespaces(struct work *work)
{
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        struct fp_column *column = &work->snapshot->columns[i];
        const struct field *field = &fp__fields[column->field];
        if (field->file != NAMESPACE)
            continue;
        int r = fp__read_link(work, field->key);
        if (fp__is_own_lack(r))
            return r;
        if (r < 0) {
            fp__put_absent(work, column, fp__reason_of(work, r));
            continue;
        }
        const char *at = memchr(work->text, '[', work->size);
        uint64_t inode;
        at = at ? at + 1 : "";
        if (fp__number(&at, PLAIN, &inode))
            fp__put_number(work, column, inode, PLAIN);
        else
            fp__put_absent(work, column, FP_ABSENT_FORMAT);
    }
    return 0;
}

static int put_file(struct work *work, enum file file)
{
    if (file == FDS)
        return put_fds(work);
    if (file == NAMESPACE)
        return put_namespaces(work);
    bool link = file == EXE || file == CWD || file == ROOT;
    bool once = file == STATM || file == IO || file == STATUS;
    int r = link ? fp__read_link(work, names[file]) : fp__slurp(work, work->directory, names[file], once);
    if (fp__is_own_lack(r))
        return r;
    if (r < 0) {
        fp__put_failed(work, file, fp__reason_of(work, r));
        return 0;
    }
    switch (file) {
    case STATUS:
    case IO:
    case ROLLUP:
        return fp__put_lines(work, file);
    case STATM:
    case OOM:
    case OOM_ADJ:
    case LOGINUID:
    case SESSION:
    case SCHED:
        fp__put_words(work, file);
        return 0;
    default:
        return put_whole(work, file);
    }
}

/* A process that is not found may exist all the same, when /proc hides it (proc(5), hidepid=2). */
static int why_not_found(const struct work *work)
{
    long fd = work->is_proc ? fp__sys2(SYS_pidfd_open, work->pid, 0) : -ENOSYS;
    if (fd < 0)
        return fp__is_own_lack(fd) ? (int)fd : FP_ABSENT_GONE;
    fp__close((int)fd);
    return FP_ABSENT_HIDDEN;
}

/* Reads stat: by its path alone, or below the row's directory, which is opened when other files are needed. */
static int begin_row(struct work *work)
{
    char path[32];
    if (!work->exit_code && !(work->files & ~((1u << STAT) | (1u << DIRECTORY)))) {
        snprintf(path, sizeof path, "%d/stat", work->pid);
        return fp__slurp(work, work->pids, path, true);
    }
    snprintf(path, sizeof path, "%d", work->pid);
    long fd = fp__sys4(SYS_openat, work->pids, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return (int)fd;
    work->directory = (int)fd;
    return fp__slurp(work, work->directory, "stat", true);
}

/* Fills a row. Returns 1 when there is one, 0 when there is no such process and nobody asked for it. */
static int read_row(struct work *work, bool asked)
{
    struct fp_snapshot *snapshot = work->snapshot;
    work->directory = -1;
    work->state = '?';
    work->kthread = false;
    snapshot->at_ns[work->row] = fp__now();
    int reason = 0, r = 0;
    if (asked || (work->files & ~(1u << DIRECTORY)))
        r = begin_row(work);
    else
        work->size = 0;
    if (r == -ENOENT || r == -ESRCH)
        reason = asked ? why_not_found(work) : -ESRCH;
    else if (r < 0)
        reason = fp__is_own_lack(r) ? r : -r;
    if (reason >= 0) {
        r = reason == 0 && (work->files & (1u << STAT)) ? fp__put_stat(work) : 0;
        for (int file = STATM; r >= 0 && file < FILES; file++)
            if (reason == 0 && (work->files & (1u << file)))
                r = put_file(work, (enum file)file);
        if (r < 0)
            reason = r;
    }
    if (work->directory >= 0)
        fp__close(work->directory);
    if (reason < 0)
        return reason == -ESRCH ? 0 : reason;
    for (uint32_t i = 0; i < snapshot->ncolumns; i++) {
        struct fp_column *column = &snapshot->columns[i];
        if (column->field == FP_FIELD_PID)
            fp__put_number(work, column, (uint64_t)work->pid, PLAIN);
        else if (reason)
            fp__put_absent(work, column, reason);
        /* The end of this row's bytes is the beginning of the next row's. */
        if (column->kind == 'S')
            ((uint64_t *)column->cells)[work->row + 1] = column->size;
    }
    return 1;
}

/* -- the table */

static int by_number(const void *one, const void *other)
{
    int32_t a = *(const int32_t *)one, b = *(const int32_t *)other;
    return (a > b) - (a < b);
}

/* Returns the numbers in a directory, ascending, as the kernel lists them; a folder in its place is sorted. */
static int list_pids(int directory, int32_t **ret_pids, uint32_t *ret_count)
{
    enum { BUFFER = 32768 };
    char *buffer = malloc(BUFFER);
    int32_t *pids = NULL;
    uint32_t count = 0;
    size_t room = 0;
    long n = buffer ? 0 : -ENOMEM;
    while (buffer && (n = fp__sys3(SYS_getdents64, directory, buffer, BUFFER)) > 0) {
        for (long at = 0; at < n;) {
            const struct fp__dirent *entry = (const void *)(buffer + at);
            const char *name = entry->name;
            uint64_t pid = 0;
            at += entry->reclen;
            if (!fp__number(&name, PLAIN, &pid) || *name || pid == 0 || pid > INT32_MAX)
                continue;
            int32_t *grown = fp__grow(pids, &room, count + 1, sizeof *pids);
            if (!grown) {
                n = -ENOMEM;
                break;
            }
            pids = grown;
            pids[count++] = (int32_t)pid;
        }
        if (n < 0)
            break;
    }
    free(buffer);
    if (n < 0) {
        free(pids);
        return (int)n;
    }
    for (uint32_t i = 1; i < count; i++)
        if (pids[i] < pids[i - 1]) {
            qsort(pids, count, sizeof *pids, by_number);
            break;
        }
    *ret_pids = pids;
    *ret_count = count;
    return 0;
}

static int make_columns(struct work *work, const int32_t *wanted, uint32_t n, uint32_t rows)
{
    struct fp_snapshot *snapshot = work->snapshot;
    size_t places = (size_t)rows + 1;
    /* One block: the columns, the times at which the rows were read, all cells, all reasons. */
    size_t of_columns = n * sizeof *snapshot->columns;
    char *memory = calloc(1, of_columns + places * 8 + n * places * (8 + sizeof(int16_t)));
    if (!memory)
        return -ENOMEM;
    snapshot->columns = (void *)memory;
    snapshot->at_ns = (void *)(memory + of_columns);
    char *cells = memory + of_columns + places * 8;
    char *absent = cells + n * places * 8;
    for (uint32_t i = 0; i < n; i++) {
        int kind = fp_field_kind(wanted[i]);
        if (!kind)
            return -EINVAL;
        struct fp_column *column = &snapshot->columns[snapshot->ncolumns++];
        column->field = wanted[i];
        column->kind = kind;
        column->cells = cells + i * places * 8;
        column->absent = (void *)(absent + i * places * sizeof(int16_t));
        work->files |= 1u << fp__fields[wanted[i]].file;
        work->name |= wanted[i] == FP_FIELD_NAME;
        work->exit_code |= wanted[i] == FP_FIELD_EXIT_CODE;
    }
    /* Only stat shows whether another file is missing because the process is a zombie or a kernel thread. */
    if (work->files & ~(1u << DIRECTORY))
        work->files |= 1u << STAT;
    return 0;
}

void fp_snapshot_close(struct fp_snapshot *snapshot)
{
    for (uint32_t i = 0; i < snapshot->ncolumns; i++)
        free(snapshot->columns[i].blob);
    free(snapshot->columns);
    memset(snapshot, 0, sizeof *snapshot);
}

static int open_root(const char *root, bool is_proc)
{
    long fd = fp__sys4(SYS_openat, AT_FDCWD, root, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0 || !is_proc)
        return (int)fd;
    /* An empty directory has no processes, and the /proc of another PID namespace has other ones: either table would be
     * false (GOTCHAS K5). */
    int r = fp_proc_check((int)fd);
    if (r < 0) {
        fp__close((int)fd);
        return r;
    }
    return (int)fd;
}

int fp_snapshot_read(const char *root, int is_proc, const int32_t *pids, uint32_t npids, const int32_t *wanted,
                     uint32_t nfields, struct fp_snapshot *ret_snapshot)
{
    struct timespec boottime;
    int32_t *listed = NULL;
    struct work work = {
        .snapshot = ret_snapshot,
        .ticks = (double)sysconf(_SC_CLK_TCK),
        .page = (uint64_t)sysconf(_SC_PAGESIZE),
        .directory = -1,
        .is_proc = is_proc,
    };
    memset(ret_snapshot, 0, sizeof *ret_snapshot);
    clock_gettime(CLOCK_BOOTTIME, &boottime);
    ret_snapshot->boottime_ns = boottime.tv_sec * FP_NSEC + boottime.tv_nsec;
    int r = work.pids = open_root(root, is_proc);
    if (r < 0)
        return r;
    bool asked = pids != NULL;
    r = asked ? 0 : list_pids(work.pids, &listed, &npids);
    if (r >= 0)
        r = make_columns(&work, wanted, nfields, npids);
    if (r >= 0)
        r = fp__take_space(&work, 16384);
    if (r >= 0 && (work.files & (1u << FDS)))
        work.self = find_self(work.pids);
    for (uint32_t i = 0; r >= 0 && i < npids; i++) {
        work.row = ret_snapshot->rows;
        work.pid = asked ? pids[i] : listed[i];
        r = read_row(&work, asked);
        if (r > 0)
            ret_snapshot->rows++;
    }
    fp__close(work.pids);
    free(listed);
    free(work.text);
    if (r < 0)
        fp_snapshot_close(ret_snapshot);
    return r < 0 ? r : 0;
}

#else

int fp_snapshot_read(const char *root, int is_proc, const int32_t *pids, uint32_t npids, const int32_t *wanted,
                     uint32_t nfields, struct fp_snapshot *ret_snapshot)
{
    (void)root, (void)is_proc, (void)pids, (void)npids, (void)wanted, (void)nfields, (void)ret_snapshot;
    return -ENOSYS;
}

void fp_snapshot_close(struct fp_snapshot *snapshot)
{
    (void)snapshot;
}

#endif
