/* snapshot.h: what the two halves of a snapshot share: the files and forms of a row (procfile.c), rows and tables
 * (snapshot.c). */
#ifndef FASTPROC_SNAPSHOT_H
#define FASTPROC_SNAPSHOT_H

#include "fields.h"
#include "internal.h"

/* The file that was read last, and what one call needs for all its rows. */
struct work {
    struct fp_snapshot *snapshot;
    char *text;
    size_t size;
    size_t capacity;
    double ticks; /* in a second */
    uint64_t page;
    uint32_t files; /* a bit for each file that a column needs */
    uint32_t row;
    int pids;      /* the proc directory */
    int directory; /* the row's directory, or -1: only its stat is read */
    int32_t pid;
    int32_t self; /* this process's number in it, where it matters, or 0 */
    char state;
    bool kthread;
    bool is_proc;
    bool name; /* FP_FIELD_NAME is asked for */
    bool exit_code;
};

/* Fill the cells of the row: a reason for one column, or for all columns of a file; a number in its unit; bytes. */
void fp__put_absent(struct work *work, struct fp_column *column, int reason);
void fp__put_failed(struct work *work, enum file file, int reason);
void fp__put_number(struct work *work, struct fp_column *column, uint64_t value, uint8_t unit);
int fp__put_bytes(struct work *work, struct fp_column *column, const char *bytes, size_t size);
/* A shortage of descriptors or memory in this process, not a property of the other. */
bool fp__is_own_lack(long error);
int fp__take_space(struct work *work, size_t more);
/* Reads a file into work->text and adds a NUL. With `once`: only what the kernel returns in one piece. */
int fp__slurp(struct work *work, int directory, const char *name, bool once);
int fp__read_link(struct work *work, const char *name);
/* Turns the error of a row's file into the reason that its cells get. */
int fp__reason_of(struct work *work, int error);
/* Reads one number and moves *at behind it. Returns false where there is none, or none of 64 bits. */
bool fp__number(const char **at, uint8_t unit, uint64_t *ret_value);
/* Fill the columns of the file that was read: numbers; lines of a key and a value; stat. */
void fp__put_words(struct work *work, enum file file);
int fp__put_lines(struct work *work, enum file file);
int fp__put_stat(struct work *work);

#endif
