/* fields.h: where each field of a snapshot is read, and how it is written there. */
#ifndef FASTPROC_FIELDS_H
#define FASTPROC_FIELDS_H

#include "fastproc.h"

/* The files below /proc/PID; which of them a call reads is a set of bits. */
enum file {
    DIRECTORY,
    STAT,
    STATM,
    STATUS,
    IO,
    ROLLUP,
    CMDLINE,
    ENVIRON,
    CGROUP,
    LIMITS,
    OOM,
    OOM_ADJ,
    LOGINUID,
    SESSION,
    SCHED,
    EXE,
    CWD,
    ROOT,
    FDS,
    NAMESPACE,
    FILES
};

#define STAT_FIELDS 52

/* How a number is written, and in which unit. */
enum unit { PLAIN, TICKS, PAGES, KILOBYTES, OCTAL, HEX };

struct field {
    uint8_t file;
    uint8_t unit;
    char kind;  /* 0: there is no such field */
    uint8_t at; /* which word; of a line with a key the word behind it */
    const char *key;
};

/* By enum fp_field. */
extern const struct field fp__fields[FP_FIELD_MAX] __attribute__((visibility("hidden")));

#endif
