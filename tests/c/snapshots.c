/* snapshots.c: all fields of all processes, and of processes whose files are cut, mixed up or made of random bytes.
 *
 * What is in a file is whatever a kernel, or the folder that somebody hands in, has there: nothing of it may lead out of a
 * buffer, and a table must hold together whatever was read. */
#include "snapshots.h"
#include "../../csrc/fastproc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define PIDS 4

static const char *const files[] = {"stat",          "statm",    "status",    "io",       "smaps_rollup",
                                    "cmdline",       "environ",  "cgroup",    "limits",   "oom_score",
                                    "oom_score_adj", "loginuid", "sessionid", "schedstat"};
#define FILES (sizeof files / sizeof *files)

static int32_t wanted[FP_FIELD_MAX];
static uint32_t nwanted;
static unsigned seed = 1;

static unsigned any(unsigned below)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

/* Reads all there is of a table, as Python's side does. */
static void check_table(const struct fp_snapshot *table)
{
    MUST(table->ncolumns == nwanted);
    for (uint32_t i = 0; i < table->ncolumns; i++) {
        const struct fp_column *column = &table->columns[i];
        const uint64_t *cells = column->cells;
        MUST(column->kind == fp_field_kind(column->field));
        for (uint32_t row = 0; row < table->rows; row++) {
            MUST(column->absent[row] >= 0);
            MUST(column->kind != 'S' || (cells[row] <= cells[row + 1] && cells[row + 1] <= column->size));
            MUST(column->kind == 'S' || column->absent[row] == 0 || cells[row] == 0);
        }
    }
}

static size_t text_of(const char *file, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/%s", file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size);
    if (fd >= 0)
        close(fd);
    return n < 0 ? 0 : (size_t)n;
}

/* A file of this process, spoiled in one of several ways. */
static size_t spoiled(const char *file, char *text, size_t size)
{
    size_t n = text_of(file, text, size);
    switch (any(6)) {
    case 0:
        return n ? any((unsigned)n) : 0;
    case 1:
        for (size_t i = 0; i < 64 && n; i++)
            text[any((unsigned)n)] = (char)any(256);
        return n;
    case 2:
        n = any(2000);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)any(256);
        return n;
    case 3:
        for (size_t i = 0; i < n; i++)
            if (text[i] >= '0' && text[i] <= '9')
                text[i] = "9-) (\n:["[any(8)];
        return n;
    case 4:
        memset(text, "9(:)\n "[any(6)], size);
        return size;
    default:
        return n;
    }
}

static void put(const char *root, int pid, const char *file, const char *text, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%d/%s", root, pid, file);
    unlink(path);
    if (any(12) == 0)
        return;
    if (any(12) == 0) { /* a folder in a file's place */
        mkdir(path, 0700);
        return;
    }
    rmdir(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    MUST(write(fd, text, size) == (ssize_t)size);
    close(fd);
}

static void clear(const char *root, int pid)
{
    char path[256];
    for (size_t i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "%s/%d/%s", root, pid, files[i]);
        if (unlink(path) < 0)
            rmdir(path);
    }
    snprintf(path, sizeof path, "%s/%d", root, pid);
    rmdir(path);
}

static void check_nonsense(int rounds)
{
    static char text[20000];
    char root[] = "/tmp/fastproc-snapshots-XXXXXX", path[256];
    MUST(mkdtemp(root));
    for (int pid = 1; pid <= PIDS; pid++) {
        snprintf(path, sizeof path, "%s/%d", root, pid);
        MUST(mkdir(path, 0700) == 0);
    }
    for (int i = 0; i < rounds; i++) {
        for (int pid = 1; pid <= PIDS; pid++)
            for (size_t at = 0; at < FILES; at++)
                put(root, pid, files[at], text, spoiled(files[at], text, sizeof text));
        struct fp_snapshot table;
        MUST(fp_snapshot_read(root, 0, NULL, 0, wanted, nwanted, &table) == 0);
        check_table(&table);
        fp_snapshot_close(&table);
    }
    for (int pid = 1; pid <= PIDS; pid++)
        clear(root, pid);
    MUST(rmdir(root) == 0);
}

void check_snapshots(int rounds)
{
    int32_t pids[4096];
    struct fp_snapshot table;
    nwanted = 0;
    for (int field = 0; field < FP_FIELD_MAX; field++)
        if (fp_field_kind(field))
            wanted[nwanted++] = field;
    if (nwanted == 0) /* the portable build */
        return;
    MUST(fp_snapshot_read("/proc", 1, NULL, 0, wanted, nwanted, &table) == 0);
    check_table(&table);
    MUST(table.rows > 0);
    fp_snapshot_close(&table);
    int32_t asked[] = {getpid(), 1 << 22, 1, getpid()};
    MUST(fp_snapshot_read("/proc", 1, asked, 4, wanted, nwanted, &table) == 0);
    check_table(&table);
    MUST(table.rows == 4);
    fp_snapshot_close(&table);
    int32_t unknown = FP_FIELD_MAX;
    MUST(fp_snapshot_read("/proc", 1, NULL, 0, &unknown, 1, &table) == -EINVAL);
    MUST(fp_proc_check(-1) == 0);
    MUST(fp_snapshot_read("/", 1, NULL, 0, wanted, nwanted, &table) == -ENODEV);
    MUST(fp_snapshot_read("/nowhere", 0, NULL, 0, wanted, nwanted, &table) == -ENOENT);
    MUST(fp_children("/proc", 1, 1 << 22, 0, pids, 4096) == -ESRCH);
    int n = fp_children("/proc", 1, 1, 1, pids, 4096);
    MUST(n >= 0 || n == -EOPNOTSUPP);
    MUST(n < 2 || fp_children("/proc", 1, 1, 1, pids, 1) > 1);
    check_nonsense(rounds);
}
