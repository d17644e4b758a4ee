/* procfile.c: the files of one process: how they are read, what they contain, and which cells that becomes.
 *
 * Any content leads to a value or to a reason why there is none: lines of later kernels, a folder that somebody made,
 * garbage. */
#include "grow.h"
#include "snapshot.h"

#if FP_LINUX
#include <stdio.h>

#if defined(__GNUC__) && !defined(__clang__)
/* The analyzer does not follow a column's bytes into the caller's table, where fp_snapshot_close() finds them. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"
#endif

#define PF_KTHREAD 0x00200000  /* include/linux/sched.h; in stat's flags */
#define TASK_COMM_CUT 15       /* a comm of this length may have been cut */
#define STRING_MAX (16u << 20) /* prctl(PR_SET_MM) can claim terabytes of arguments */

union cell {
    int64_t i;
    uint64_t u;
    double d;
};

/* -- cells */

void fp__put_absent(struct work *work, struct fp_column *column, int reason)
{
    column->absent[work->row] = (int16_t)reason;
    if (column->kind != 'S') /* whose cell is the offset of the row's bytes */
        ((union cell *)column->cells)[work->row].u = 0;
}

void fp__put_failed(struct work *work, enum file file, int reason)
{
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        int32_t field = work->snapshot->columns[i].field;
        if (fp__fields[field].file == file)
            fp__put_absent(work, &work->snapshot->columns[i], reason);
    }
}

void fp__put_number(struct work *work, struct fp_column *column, uint64_t value, uint8_t unit)
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

int fp__put_bytes(struct work *work, struct fp_column *column, const char *bytes, size_t size)
{
    size_t room = column->capacity;
    if (room - column->size < size) {
        char *blob = fp__grow(column->blob, &room, column->size + size + 4096, 1);
        if (!blob)
            return -ENOMEM;
        column->blob = blob;
        column->capacity = room;
    }
    if (size)
        memcpy(column->blob + column->size, bytes, size);
    column->size += size;
    column->absent[work->row] = 0;
    return 0;
}

/* -- files */

/* A shortage of this process, not a property of the other. */
bool fp__is_own_lack(long error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM;
}

int fp__take_space(struct work *work, size_t more)
{
    char *text = fp__grow(work->text, &work->capacity, work->size + more + 1, 1);
    if (!text)
        return -ENOMEM;
    work->text = text;
    return 0;
}

/* Reads a file into work->text and adds a NUL. With `once` it reads what the kernel returns in one piece, and does not
 * read again to see the end, as long as the buffer had room for all of it. */
int fp__slurp(struct work *work, int directory, const char *name, bool once)
{
    long fd = fp__sys4(SYS_openat, directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0)
        return (int)fd;
    long n;
    size_t room = 0;
    work->size = 0;
    do {
        n = fp__take_space(work, 4096);
        if (n < 0)
            break;
        room = work->capacity - work->size - 1;
        n = fp__sys3(SYS_read, fd, work->text + work->size, room);
        if (n > 0)
            work->size += (size_t)n;
        if (work->size > STRING_MAX)
            n = -EFBIG;
    } while (n == -EINTR || (n > 0 && (!once || (size_t)n == room)));
    fp__close((int)fd);
    if (n < 0)
        return (int)n;
    work->text[work->size] = '\0';
    return 0;
}

int fp__read_link(struct work *work, const char *name)
{
    int r = fp__take_space(work, 4096);
    if (r < 0)
        return r;
    long n = fp__sys4(SYS_readlinkat, work->directory, name, work->text, work->capacity - 1);
    if (n < 0)
        return (int)n;
    work->size = (size_t)n;
    work->text[n] = '\0';
    return 0;
}

/* Returns the letter of the state in a stat, after the last parenthesis, as the name may contain some. NULL when there
 * is none. */
static char *behind_name(struct work *work)
{
    char *end = memrchr(work->text, ')', work->size);
    return end && end[1] == ' ' && end[2] ? end + 2 : NULL;
}

/* Finds out whether the process has ended since its stat was read: a zombie still has a stat. */
int fp__reason_of(struct work *work, int error)
{
    if (error != -ENOENT && error != -ESRCH)
        return -error;
    if (work->kthread)
        return FP_ABSENT_KTHREAD;
    int r = fp__slurp(work, work->directory, "stat", true);
    if (r < 0)
        return r == -ENOENT || r == -ESRCH ? FP_ABSENT_GONE : -error;
    char *state = behind_name(work);
    if (state && (*state == 'Z' || *state == 'X'))
        return FP_ABSENT_ZOMBIE;
    return error == -ESRCH ? FP_ABSENT_GONE : FP_ABSENT_UNTOLD;
}

/* -- forms */

/* Reads one number and moves *at behind it. Returns false where there is none, or none of 64 bits. */
bool fp__number(const char **at, uint8_t unit, uint64_t *ret_value)
{
    const char *p = *at;
    while (*p == ' ' || *p == '\t')
        p++;
    bool minus = *p == '-';
    p += minus;
    unsigned base = unit == OCTAL ? 8 : unit == HEX ? 16 : 10;
    uint64_t value = 0;
    const char *first = p;
    bool fits = true;
    for (;; p++) {
        unsigned digit = (unsigned char)*p - '0';
        unsigned letter = ((unsigned char)*p | 32u) - 'a';
        if (base == 16 && letter < 6)
            digit = letter + 10;
        if (digit >= base)
            break;
        fits = fits && !__builtin_mul_overflow(value, base, &value) && !__builtin_add_overflow(value, digit, &value);
    }
    if (p == first || !fits)
        return false;
    *at = p;
    *ret_value = minus ? 0 - value : value;
    return true;
}

/* Why there is no number: the kernel writes fewer of them, or the text is not a number. */
static int why_no_number(const char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return *at == '\n' || *at == '\0' ? FP_ABSENT_UNTOLD : FP_ABSENT_FORMAT;
}

/* Fills the columns of a file that consists of numbers. */
void fp__put_words(struct work *work, enum file file)
{
    uint64_t values[8];
    unsigned n = 0;
    const char *at = work->text;
    while (n < 8 && fp__number(&at, PLAIN, &values[n]))
        n++;
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        struct fp_column *column = &work->snapshot->columns[i];
        const struct field *field = &fp__fields[column->field];
        if (field->file != file)
            continue;
        if (field->at < n)
            fp__put_number(work, column, values[field->at], field->unit);
        else
            fp__put_absent(work, column, n || work->size == 0 ? why_no_number(at) : FP_ABSENT_FORMAT);
    }
}

/* The text of a line after its key, without the blanks around it. */
static int put_line(struct work *work, struct fp_column *column, const char *text, const char *end)
{
    bool numbers = column->field == FP_FIELD_GROUPS || column->field == FP_FIELD_NS_PID;
    if (numbers && strspn(text, "0123456789 \t") < (size_t)(end - text)) {
        fp__put_absent(work, column, FP_ABSENT_FORMAT);
        return 0;
    }
    while (text < end && (*text == ' ' || *text == '\t'))
        text++;
    while (end > text && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return fp__put_bytes(work, column, text, (size_t)(end - text));
}

static int value_of_line(struct work *work, struct fp_column *column, const char *text, const char *end)
{
    const struct field *field = &fp__fields[column->field];
    if (field->kind == 'S')
        return put_line(work, column, text, end);
    uint64_t value = 0;
    for (unsigned i = 0; i <= field->at; i++) {
        if (!fp__number(&text, field->unit, &value)) {
            fp__put_absent(work, column, FP_ABSENT_FORMAT);
            return 0;
        }
    }
    if (column->field == FP_FIELD_USS && column->absent[work->row] == 0)
        value += ((union cell *)column->cells)[work->row].u / 1024;
    fp__put_number(work, column, value, field->unit);
    return 0;
}

static bool has_key(const struct field *field, const char *line, size_t length)
{
    size_t n = strlen(field->key);
    if (field->key[n - 1] == '*')
        return length >= n && memcmp(line, field->key, n - 1) == 0;
    return length == n && memcmp(line, field->key, n) == 0;
}

/* Fills the columns of a file of "Key: value" lines. */
int fp__put_lines(struct work *work, enum file file)
{
    int missing = work->kthread ? FP_ABSENT_KTHREAD : work->state == 'Z' ? FP_ABSENT_ZOMBIE : FP_ABSENT_UNTOLD;
    fp__put_failed(work, file, missing);
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
        int r = column->field == (int32_t)wanted ? fp__put_bytes(work, column, name, size) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

/* The kernel keeps 15 bytes of a name. Where it was cut, the longer name in cmdline begins with it. */
static int put_name(struct work *work, const char *comm, size_t size)
{
    char kept[64], path[32];
    size = size < sizeof kept ? size : sizeof kept;
    memcpy(kept, comm, size);
    if (size < TASK_COMM_CUT || work->kthread)
        return put_comm(work, FP_FIELD_NAME, kept, size);
    snprintf(path, sizeof path, "%d/cmdline", work->pid);
    /* A new process with the same number has another name, which does not begin with these bytes. */
    bool own = work->directory >= 0;
    int r = fp__slurp(work, own ? work->directory : work->pids, own ? "cmdline" : path, true);
    if (fp__is_own_lack(r))
        return r;
    const char *name = r < 0 ? kept : work->text;
    const char *slash = r < 0 ? NULL : strrchr(name, '/');
    name = slash ? slash + 1 : name;
    if (r < 0 || strncmp(name, kept, size) != 0)
        return put_comm(work, FP_FIELD_NAME, kept, size);
    return put_comm(work, FP_FIELD_NAME, name, strlen(name));
}

/* For callers that may not trace the process do_task_stat() in fs/proc/array.c writes 0 or 1 in place of these. */
static bool is_hidden(int32_t field)
{
    return (field >= FP_FIELD_STARTCODE && field <= FP_FIELD_KSTKEIP) ||
           (field >= FP_FIELD_START_DATA && field <= FP_FIELD_EXIT_CODE);
}

/* A zombie has no memory whose start would show that; reading its exe needs the same right. */
static void prove_exit_code(struct work *work)
{
    if ((work->state != 'Z' && work->state != 'X') || work->directory < 0)
        return;
    int r = fp__read_link(work, "exe");
    for (uint32_t i = 0; (r == -EACCES || r == -EPERM) && i < work->snapshot->ncolumns; i++)
        if (work->snapshot->columns[i].field == FP_FIELD_EXIT_CODE)
            fp__put_absent(work, &work->snapshot->columns[i], -r);
}

int fp__put_stat(struct work *work)
{
    const char *first = memchr(work->text, '(', work->size);
    const char *at = behind_name(work);
    if (!first || !at || first > at - 2) {
        fp__put_failed(work, STAT, FP_ABSENT_FORMAT);
        return 0;
    }
    const char *comm = first + 1;
    size_t length = (size_t)(at - 2 - comm);
    uint64_t values[STAT_FIELDS];
    int n = FP_FIELD_PPID;
    values[FP_FIELD_STATE] = (unsigned char)*at++;
    while (n < STAT_FIELDS && fp__number(&at, PLAIN, &values[n]))
        n++;
    work->state = (char)values[FP_FIELD_STATE];
    work->kthread = n > FP_FIELD_FLAGS && (values[FP_FIELD_FLAGS] & PF_KTHREAD);
    bool denied = n > FP_FIELD_STARTCODE && values[FP_FIELD_STARTCODE] == 1;
    int missing = why_no_number(at);
    for (uint32_t i = 0; i < work->snapshot->ncolumns; i++) {
        struct fp_column *column = &work->snapshot->columns[i];
        const struct field *field = &fp__fields[column->field];
        if (field->file != STAT || field->kind == 'S')
            continue;
        if (field->at >= n)
            fp__put_absent(work, column, missing);
        else if (denied && is_hidden(column->field))
            fp__put_absent(work, column, EACCES);
        else
            fp__put_number(work, column, values[field->at], field->unit);
    }
    int r = put_comm(work, FP_FIELD_COMM, comm, length);
    if (r >= 0 && work->name)
        r = put_name(work, comm, length);
    if (r >= 0 && work->exit_code)
        prove_exit_code(work);
    return r;
}

#endif
