/* snapshot.c: many processes' files below /proc in one call, as columns.
 *
 * A row's files are opened below one descriptor of its directory, so that all belong to one process: when that has gone they
 * say ESRCH or ENOENT, also when its number lives on (a row of stat alone is one file, and needs no descriptor). Nothing is
 * guessed: a cell has the kernel's value or the reason why there is none.
 *
 * What stat says costs no lock of the process; cmdline, environ, smaps_rollup and exe take the lock of its memory, which a
 * process in an uninterruptible page fault may hold: they are read only when asked for. */
#include "fields.h"
#include "internal.h"

#if FP_LINUX
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#if defined(__GNUC__) && !defined(__clang__)
/* The analyzer does not follow a table into the caller's struct, where fp_snapshot_close() finds it. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define PROC_MAGIC 0x9fa0
#define PF_KTHREAD 0x00200000  /* include/linux/sched.h; in stat's flags */
#define TASK_COMM_CUT 15       /* a comm of this length may have been cut */
#define STRING_MAX (16u << 20) /* prctl(PR_SET_MM) may say that the arguments are terabytes */

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

union cell {
    int64_t i;
    uint64_t u;
    double d;
};

/* The file that was read last, and what one call needs for all its rows. */
struct work {
    struct fp_snapshot *snapshot;
    char *text;
    size_t size;
    size_t capacity;
    double ticks; /* in a second */
    uint64_t page;
    uint32_t files; /* a bit for each that a column needs */
    uint32_t row;
    int pids;      /* the proc directory */
    int directory; /* the row's, or -1: only its stat is read */
    int32_t pid;
    char state;
    bool kthread;
    bool is_proc;
    bool name; /* FP_FIELD_NAME is asked for */
};

/* -- cells */

static void put_absent(struct work *work, struct fp_column *column, int reason)
{
    column->absent[work->row] = (int16_t)reason;
    if (column->kind != 'S') /* of which the cell is where the bytes begin */
        ((union cell *)column->cells)[work->row].u = 0;
}

static void put_failed(struct work *work, enum file file, int reason)
{
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        int32_t field = work->snapshot->columns[i].field;
        if (fp__fields[field].file == file)
            put_absent(work, &work->snapshot->columns[i], reason);
    }
}

static void put_number(struct work *work, struct fp_column *column, uint64_t value, uint8_t unit)
{
    union cell *cell = (union cell *)column->cells + work->row;
    column->absent[work->row] = 0;
    if (unit == TICKS)
        cell->d = (double)(int64_t)value / work->ticks;
    else if (unit == PAGES)
        cell->u = value * work->page;
    else if (unit == KILOBYTES)
        cell->u = value * 1024;
    else
        cell->u = value;
}

static int put_bytes(struct work *work, struct fp_column *column, const char *bytes, size_t size)
{
    if (column->capacity - column->size < size) {
        uint64_t capacity = column->capacity * 2 + size + 4096;
        char *blob = realloc(column->blob, capacity);
        if (!blob)
            return -ENOMEM;
        column->blob = blob;
        column->capacity = capacity;
    }
    if (size)
        memcpy(column->blob + column->size, bytes, size);
    column->size += size;
    column->absent[work->row] = 0;
    return 0;
}

/* -- files */

/* Our own lack, which says nothing about the process. */
static bool is_ours(long error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

static int take_space(struct work *work, size_t more)
{
    if (work->capacity - work->size > more)
        return 0;
    size_t capacity = work->capacity * 2 + more;
    char *text = realloc(work->text, capacity);
    if (!text)
        return -ENOMEM;
    work->text = text;
    work->capacity = capacity;
    return 0;
}

/* Reads a file into work->text and puts a NUL behind it. With once: what the kernel gives in one piece. */
static int slurp(struct work *work, int directory, const char *name, bool once)
{
    long fd = fp__sys4(SYS_openat, directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0)
        return (int)fd;
    long n;
    work->size = 0;
    do {
        n = take_space(work, 4096);
        if (n < 0)
            break;
        n = fp__sys3(SYS_read, fd, work->text + work->size, work->capacity - work->size - 1);
        if (n > 0)
            work->size += (size_t)n;
        if (work->size > STRING_MAX)
            n = -EFBIG;
    } while (n == -EINTR || (n > 0 && !once));
    fp__close((int)fd);
    if (n < 0)
        return (int)n;
    work->text[work->size] = '\0';
    return 0;
}

static int read_link(struct work *work, const char *name)
{
    int r = take_space(work, 4096);
    if (r < 0)
        return r;
    long n = fp__sys4(SYS_readlinkat, work->directory, name, work->text, work->capacity - 1);
    if (n < 0)
        return (int)n;
    work->size = (size_t)n;
    work->text[n] = '\0';
    return 0;
}

/* The letter in a stat, behind the last parenthesis: the name may have some itself. NULL when it is none. */
static char *behind_name(struct work *work)
{
    char *end = memrchr(work->text, ')', work->size);
    return end && end[1] == ' ' && end[2] ? end + 2 : NULL;
}

/* From the error of a row's file to the reason that is told. One that has ended since its stat was read is found out. */
static int reason_of(struct work *work, int error)
{
    if (error != -ENOENT && error != -ESRCH)
        return -error;
    if (work->kthread)
        return FP_ABSENT_KTHREAD;
    if (work->state == 'Z' || work->state == 'X')
        return FP_ABSENT_ZOMBIE;
    int r = slurp(work, work->directory, "stat", true);
    if (r < 0)
        return r == -ENOENT || r == -ESRCH ? FP_ABSENT_GONE : -error;
    char *state = behind_name(work);
    if (state && (*state == 'Z' || *state == 'X'))
        return FP_ABSENT_ZOMBIE;
    return error == -ESRCH ? FP_ABSENT_GONE : FP_ABSENT_UNTOLD;
}

/* -- forms */

/* One number; *at is moved behind it. False: there is none. */
static bool number(const char **at, uint8_t unit, uint64_t *ret_value)
{
    const char *p = *at;
    while (*p == ' ' || *p == '\t')
        p++;
    bool minus = *p == '-';
    p += minus;
    unsigned base = unit == OCTAL ? 8 : unit == HEX ? 16 : 10;
    uint64_t value = 0;
    const char *first = p;
    for (;; p++) {
        unsigned digit = (unsigned char)*p - '0';
        unsigned letter = ((unsigned char)*p | 32u) - 'a';
        if (base == 16 && letter < 6)
            digit = letter + 10;
        if (digit >= base)
            break;
        value = value * base + digit;
    }
    if (p == first)
        return false;
    *at = p;
    *ret_value = minus ? 0 - value : value;
    return true;
}

/* The words of a file that is nothing but numbers. */
static void words(struct work *work, enum file file)
{
    uint64_t values[8];
    unsigned n = 0;
    const char *at = work->text;
    while (n < 8 && number(&at, PLAIN, &values[n]))
        n++;
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        struct fp_column *column = &work->snapshot->columns[i];
        const struct field *field = &fp__fields[column->field];
        if (field->file != file)
            continue;
        if (field->at < n)
            put_number(work, column, values[field->at], field->unit);
        else
            put_absent(work, column, n || work->size == 0 ? FP_ABSENT_UNTOLD : FP_ABSENT_FORMAT);
    }
}

/* The text of a line behind its key, without the blanks around it. */
static int put_line(struct work *work, struct fp_column *column, const char *text, const char *end)
{
    while (text < end && (*text == ' ' || *text == '\t'))
        text++;
    while (end > text && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return put_bytes(work, column, text, (size_t)(end - text));
}

static int value_of_line(struct work *work, struct fp_column *column, const char *text, const char *end)
{
    const struct field *field = &fp__fields[column->field];
    if (field->kind == 'S')
        return put_line(work, column, text, end);
    uint64_t value = 0;
    for (unsigned i = 0; i <= field->at; i++) {
        if (!number(&text, field->unit, &value)) {
            put_absent(work, column, FP_ABSENT_FORMAT);
            return 0;
        }
    }
    if (column->field == FP_FIELD_USS && column->absent[work->row] == 0)
        value += ((union cell *)column->cells)[work->row].u / 1024;
    put_number(work, column, value, field->unit);
    return 0;
}

static bool has_key(const struct field *field, const char *line, size_t length)
{
    size_t n = strlen(field->key);
    if (field->key[n - 1] == '*')
        return length >= n && memcmp(line, field->key, n - 1) == 0;
    return length == n && memcmp(line, field->key, n) == 0;
}

/* "Key: value" lines. */
static int lines(struct work *work, enum file file)
{
    int missing = work->kthread ? FP_ABSENT_KTHREAD : work->state == 'Z' ? FP_ABSENT_ZOMBIE : FP_ABSENT_UNTOLD;
    put_failed(work, file, missing);
    const char *line = work->text, *last = work->text + work->size;
    while (line < last) {
        const char *end = memchr(line, '\n', (size_t)(last - line));
        if (!end)
            end = last;
        const char *colon = memchr(line, ':', (size_t)(end - line));
        for (uint32_t i = 0; colon && i < work->snapshot->ncolumns; i++) {
            struct fp_column *column = &work->snapshot->columns[i];
            const struct field *field = &fp__fields[column->field];
            if (field->file != file || !has_key(field, line, (size_t)(colon - line)))
                continue;
            int r = value_of_line(work, column, colon + 1, end);
            if (r < 0)
                return r;
        }
        line = end + 1;
    }
    return 0;
}

/* -- stat */

static int put_comm(struct work *work, enum fp_field wanted, const char *name, size_t size)
{
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        struct fp_column *column = &work->snapshot->columns[i];
        int r = column->field == (int32_t)wanted ? put_bytes(work, column, name, size) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

/* The kernel keeps 15 bytes of a name. Where it was cut, the program's name in cmdline that begins with it is longer. */
static int put_name(struct work *work, const char *comm, size_t size)
{
    char kept[64], path[32];
    size = size < sizeof kept ? size : sizeof kept;
    memcpy(kept, comm, size);
    if (size < TASK_COMM_CUT || work->kthread)
        return put_comm(work, FP_FIELD_NAME, kept, size);
    snprintf(path, sizeof path, "%d/cmdline", work->pid);
    /* A number that was given anew in between has a name of its own, which does not begin so. */
    bool own = work->directory >= 0;
    int r = slurp(work, own ? work->directory : work->pids, own ? "cmdline" : path, true);
    if (is_ours(r))
        return r;
    const char *name = r < 0 ? kept : work->text;
    const char *slash = r < 0 ? NULL : strrchr(name, '/');
    name = slash ? slash + 1 : name;
    if (r < 0 || strncmp(name, kept, size) != 0)
        return put_comm(work, FP_FIELD_NAME, kept, size);
    return put_comm(work, FP_FIELD_NAME, name, strlen(name));
}

static int parse_stat(struct work *work)
{
    const char *first = memchr(work->text, '(', work->size);
    const char *at = behind_name(work);
    if (!first || !at || first > at - 2) {
        put_failed(work, STAT, FP_ABSENT_FORMAT);
        return 0;
    }
    const char *comm = first + 1;
    size_t length = (size_t)(at - 2 - comm);
    uint64_t values[STAT_FIELDS];
    int n = FP_FIELD_PPID;
    values[FP_FIELD_STATE] = (unsigned char)*at++;
    while (n < STAT_FIELDS && number(&at, PLAIN, &values[n]))
        n++;
    work->state = (char)values[FP_FIELD_STATE];
    work->kthread = n > FP_FIELD_FLAGS && (values[FP_FIELD_FLAGS] & PF_KTHREAD);
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        struct fp_column *column = &work->snapshot->columns[i];
        const struct field *field = &fp__fields[column->field];
        if (field->file != STAT || field->kind == 'S')
            continue;
        if (field->at < n)
            put_number(work, column, values[field->at], field->unit);
        else
            put_absent(work, column, FP_ABSENT_UNTOLD);
    }
    int r = put_comm(work, FP_FIELD_COMM, comm, length);
    return r < 0 || !work->name ? r : put_name(work, comm, length);
}

/* -- one row */

static int put_whole(struct work *work, enum file file)
{
    /* Neither has arguments or an environment: an empty one would be a lie. */
    bool none = work->size == 0 && (file == CMDLINE || file == ENVIRON);
    int reason = !none ? 0 : work->kthread ? FP_ABSENT_KTHREAD : work->state == 'Z' ? FP_ABSENT_ZOMBIE : 0;
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        struct fp_column *column = &work->snapshot->columns[i];
        if (fp__fields[column->field].file != file)
            continue;
        if (reason) {
            put_absent(work, column, reason);
            continue;
        }
        int r = put_bytes(work, column, work->text, work->size);
        if (r < 0)
            return r;
    }
    return 0;
}

struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* The number of names in a directory that are numbers. */
static int count_numbers(struct work *work, const char *name)
{
    long fd = fp__sys4(SYS_openat, work->directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return (int)fd;
    _Alignas(struct entry) char buffer[4096];
    int count = 0;
    long n;
    while ((n = fp__sys3(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < n;) {
            const struct entry *entry = (const void *)(buffer + at);
            count += entry->name[0] >= '0' && entry->name[0] <= '9';
            at += entry->length;
        }
    fp__close((int)fd);
    return n < 0 ? (int)n : count;
}

static int put_fds(struct work *work)
{
    struct stat status;
    int n = count_numbers(work, "fd");
    int saved = errno;
    /* Since 6.2 the size of the directory is their number, for everybody. One that is being opened is counted too (a FIFO
     * that waits for its other side), so it is asked for only where the directory may not be listed. */
    if ((n == -EACCES || n == -EPERM) && fstatat(work->directory, "fd", &status, 0) == 0 && status.st_size > 0)
        n = (int)status.st_size;
    errno = saved;
    if (is_ours(n))
        return n;
    if (n < 0) {
        put_failed(work, FDS, reason_of(work, n));
        return 0;
    }
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++)
        if (work->snapshot->columns[i].field == FP_FIELD_NUM_FDS)
            put_number(work, &work->snapshot->columns[i], (uint64_t)n, PLAIN);
    return 0;
}

static int put_namespaces(struct work *work)
{
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        struct fp_column *column = &work->snapshot->columns[i];
        const struct field *field = &fp__fields[column->field];
        if (field->file != NAMESPACE)
            continue;
        int r = read_link(work, field->key);
        if (is_ours(r))
            return r;
        if (r < 0) {
            put_absent(work, column, reason_of(work, r));
            continue;
        }
        const char *at = memchr(work->text, '[', work->size);
        uint64_t inode;
        at = at ? at + 1 : "";
        if (number(&at, PLAIN, &inode))
            put_number(work, column, inode, PLAIN);
        else
            put_absent(work, column, FP_ABSENT_FORMAT);
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
    int r = link ? read_link(work, names[file]) : slurp(work, work->directory, names[file], once);
    if (is_ours(r))
        return r;
    if (r < 0) {
        put_failed(work, file, reason_of(work, r));
        return 0;
    }
    switch (file) {
    case STATUS:
    case IO:
    case ROLLUP:
        return lines(work, file);
    case STATM:
    case OOM:
    case OOM_ADJ:
    case LOGINUID:
    case SESSION:
    case SCHED:
        words(work, file);
        return 0;
    default:
        return put_whole(work, file);
    }
}

/* A process that cannot be found may live all the same, when /proc hides it from us (proc(5), hidepid=2). */
static int why_not_found(const struct work *work)
{
    long fd = work->is_proc ? fp__sys2(SYS_pidfd_open, work->pid, 0) : -ENOSYS;
    if (fd < 0)
        return is_ours(fd) ? (int)fd : FP_ABSENT_GONE;
    fp__close((int)fd);
    return FP_ABSENT_HIDDEN;
}

/* Reads stat, alone or below the row's directory, which is opened when more is asked for. */
static int begin_row(struct work *work)
{
    char path[32];
    if (!(work->files & ~((1u << STAT) | (1u << DIRECTORY)))) {
        snprintf(path, sizeof path, "%d/stat", work->pid);
        return slurp(work, work->pids, path, true);
    }
    snprintf(path, sizeof path, "%d", work->pid);
    long fd = fp__sys4(SYS_openat, work->pids, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return (int)fd;
    work->directory = (int)fd;
    return slurp(work, work->directory, "stat", true);
}

/* Puts a row. Returns 1 when there is one, 0 when there is no such process and nobody asked for it. */
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
        reason = is_ours(r) ? r : -r;
    if (reason >= 0) {
        r = reason == 0 && (work->files & (1u << STAT)) ? parse_stat(work) : 0;
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
            put_number(work, column, (uint64_t)work->pid, PLAIN);
        else if (reason)
            put_absent(work, column, reason);
        /* The end of this row's bytes is where the next one's begin. */
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

/* The numbers in a directory, ascending, as the kernel lists them; a folder that stands for it is sorted. */
static int list_pids(int directory, int32_t **ret_pids, uint32_t *ret_count)
{
    enum { BUFFER = 32768 };
    char *buffer = malloc(BUFFER);
    int32_t *pids = NULL;
    uint32_t count = 0, capacity = 0;
    long n = buffer ? 0 : -ENOMEM;
    while (buffer && (n = fp__sys3(SYS_getdents64, directory, buffer, BUFFER)) > 0) {
        for (long at = 0; at < n;) {
            const struct entry *entry = (const void *)(buffer + at);
            const char *name = entry->name;
            uint64_t pid = 0;
            at += entry->length;
            if (!number(&name, PLAIN, &pid) || *name || pid == 0 || pid > INT32_MAX)
                continue;
            if (count == capacity) {
                capacity = capacity * 2 + 1024;
                int32_t *grown = realloc(pids, capacity * sizeof *pids);
                if (!grown) {
                    n = -ENOMEM;
                    break;
                }
                pids = grown;
            }
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
    /* One piece of memory: the columns, then when each row was read, then all cells, then all reasons. */
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
    }
    /* Only stat says whether another file is missing because the process is a zombie or the kernel's. */
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
    struct statfs status;
    int saved = errno;
    /* An empty directory has no processes either: the table would be a lie (HAZARDS K5). */
    int r = fstatfs((int)fd, &status) < 0 ? -errno : status.f_type == PROC_MAGIC ? 0 : -ENODEV;
    errno = saved;
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
        r = take_space(&work, 16384);
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
