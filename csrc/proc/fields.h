/* fields.h: in which file each field of a snapshot is, and how it is written there. */
#ifndef FASTPROC_FIELDS_H
#define FASTPROC_FIELDS_H

#include "fastproc.h"

/* The files below /proc/PID. A set of bits says which of them a call reads. */
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

/* How a number is written, and its unit. */
enum unit { PLAIN, TICKS, PAGES, KILOBYTES, OCTAL, HEX };

struct field {
    uint8_t file;
    uint8_t unit;
    char kind;  /* 0: no such field */
    uint8_t at; /* the number of the word; in a line with a key, of the word after it */
    const char *key;
};

/* Indexed by enum fp_field. */
extern const struct field fp__fields[FP_FIELD_MAX] __attribute__((visibility("hidden")));

#endif
