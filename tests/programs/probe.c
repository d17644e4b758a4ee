/* probe: prints, as one line of JSON, what it was given by whoever started it.
 *
 * The line goes to the descriptor in the environment's PROBE_FD, or to standard output. Strings are bytes: each byte from 0x80
 * up is written as \u00XX, so the reader gets them back by encoding to latin-1. With PROBE=fds only the descriptors are
 * reported. Nothing is opened before the descriptors are listed, and the listing leaves out its own directory. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

static char *out;
static size_t used, room;

static void put(const char *format, ...)
{
    va_list list;
    for (;;) {
        va_start(list, format);
        int n = vsnprintf(out ? out + used : NULL, room - used, format, list);
        va_end(list);
        if (used + (size_t)n < room) {
            used += (size_t)n;
            return;
        }
        room = (used + (size_t)n + 1) * 2;
        out = realloc(out, room);
        if (out == NULL)
            _exit(70);
    }
}

static void put_string(const char *text)
{
    put("\"");
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            put("\\%c", *p);
        else if (*p < 0x20 || *p >= 0x7f)
            put("\\u%04x", *p);
        else
            put("%c", *p);
    }
    put("\"");
}

static void put_strings(const char *name, char **list)
{
    put("\"%s\": [", name);
    for (int i = 0; list[i]; i++) {
        put(i ? ", " : "");
        put_string(list[i]);
    }
    put("], ");
}

static void put_fds(void)
{
    static const char *const access_modes[] = {"r", "w", "rw", "?"};
    put("\"fds\": {");
    int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char buffer[8192] __attribute__((aligned(8)));
    long n;
    const char *comma = "";
    while (dir >= 0 && (n = syscall(SYS_getdents64, dir, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n;) {
            unsigned short length;
            memcpy(&length, buffer + at + 16, sizeof length);
            const char *name = buffer + at + 19;
            at += length;
            int fd = atoi(name);
            struct stat st;
            if (name[0] == '.' || fd == dir || fstat(fd, &st) < 0)
                continue;
            int flags = fcntl(fd, F_GETFL);
            put("%s\"%d\": {\"id\": \"%lu:%lu\", \"mode\": \"%s\", \"nonblock\": %s, \"append\": %s, \"cloexec\": %s}",
                comma, fd, (unsigned long)st.st_dev, (unsigned long)st.st_ino, access_modes[flags & O_ACCMODE],
                flags & O_NONBLOCK ? "true" : "false", flags & O_APPEND ? "true" : "false",
                fcntl(fd, F_GETFD) & FD_CLOEXEC ? "true" : "false");
            comma = ", ";
        }
    }
    if (dir >= 0)
        close(dir);
    put("}");
}

static size_t slurp(const char *path, char *buffer, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n;
    while (fd >= 0 && len < size - 1 && (n = read(fd, buffer + len, size - 1 - len)) > 0)
        len += (size_t)n;
    if (fd >= 0)
        close(fd);
    buffer[len] = 0;
    return len;
}

/* The lines of /proc/self/status that concern identity and signals, as strings. */
static void put_status(void)
{
    static char text[16384];
    static const char *const wanted[] = {"Uid",     "Gid",    "Groups", "CapInh", "CapPrm", "CapEff",
                                         "CapBnd",  "CapAmb", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs",
                                         "Seccomp", "SigPnd", "ShdPnd", NULL};
    slurp("/proc/self/status", text, sizeof text);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char *colon = strchr(line, ':');
        if (colon == NULL)
            continue;
        *colon = 0;
        for (int i = 0; wanted[i]; i++) {
            if (strcmp(line, wanted[i]) == 0) {
                put("\"%s\": ", line);
                put_string(colon + 1 + strspn(colon + 1, " \t"));
                put(", ");
            }
        }
    }
}

static void put_tty(void)
{
    static char text[4096];
    int tty = 0, foreground = -1;
    slurp("/proc/self/stat", text, sizeof text);
    char *after = strrchr(text, ')');
    if (after)
        sscanf(after + 2, "%*c %*d %*d %*d %d %d", &tty, &foreground);
    put("\"tty\": %d, \"foreground\": %d, ", tty, foreground);
}

static void put_limits(void)
{
    put("\"rlimits\": [");
    for (int i = 0; i < 16; i++) {
        struct rlimit limit = {0, 0};
        getrlimit(i, &limit);
        put("%s[%lld, %lld]", i ? ", " : "", (long long)limit.rlim_cur, (long long)limit.rlim_max);
    }
    put("], ");
}

static void put_scheduling(void)
{
    struct sched_param param = {0};
    sched_getparam(0, &param);
    put("\"nice\": %ld, ", 20 - syscall(SYS_getpriority, PRIO_PROCESS, 0));
    put("\"ionice\": %ld, ", syscall(SYS_ioprio_get, 1, 0));
    put("\"scheduler\": [%d, %d], \"affinity\": [", sched_getscheduler(0), param.sched_priority);
    unsigned long words[128] = {0};
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof words, words);
    const char *comma = "";
    for (long cpu = 0; cpu < bytes * 8; cpu++) {
        if (words[cpu / 64] >> (cpu % 64) & 1) {
            put("%s%ld", comma, cpu);
            comma = ", ";
        }
    }
    put("], ");
}

static void put_places(void)
{
    static const char *const spaces[] = {"mnt", "cgroup", "uts", "ipc", "user", "pid", "net", "time", NULL};
    char path[64], text[64];
    struct stat st = {0};
    stat("/", &st);
    put(", \"root\": \"%lu:%lu\", \"ns\": {", (unsigned long)st.st_dev, (unsigned long)st.st_ino);
    for (int i = 0; spaces[i]; i++) {
        snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i]);
        ssize_t n = readlink(path, text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        put("%s\"%s\": \"%s\"", i ? ", " : "", spaces[i], text);
    }
    put("}");
}

int main(int argc, char **argv)
{
    (void)argc;
    const char *where = getenv("PROBE_FD"), *what = getenv("PROBE");
    int target = where ? atoi(where) : 1;

    put("{");
    put_fds();
    if (what == NULL || strcmp(what, "fds") != 0) {
        char text[4096];
        put(", ");
        put_strings("argv", argv);
        put_strings("env", environ);
        if (getcwd(text, sizeof text) == NULL)
            strcpy(text, errno == ENOENT ? "(deleted)" : "(unknown)");
        put("\"cwd\": ");
        put_string(text);
        ssize_t n = readlink("/proc/self/exe", text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        put(", \"exe\": ");
        put_string(text);
        put(", \"pid\": %d, \"ppid\": %d, \"pgid\": %d, \"sid\": %d, ", getpid(), getppid(), getpgrp(), getsid(0));
        put_status();
        put_tty();
        put_limits();
        put_scheduling();
        slurp("/proc/self/oom_score_adj", text, sizeof text);
        put("\"oom_score_adj\": %d, ", atoi(text));
        slurp("/proc/self/cgroup", text, sizeof text);
        put("\"cgroup\": ");
        put_string(text);
        int pdeathsig = 0;
        prctl(PR_GET_PDEATHSIG, &pdeathsig);
        int subreaper = 0;
        prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
        put(", \"subreaper\": %d", subreaper);
        put(", \"keepcaps\": %d", prctl(PR_GET_KEEPCAPS));
        put_places();
        mode_t mask = umask(0);
        umask(mask);
        put(", \"umask\": %d, \"timer_slack_ns\": %ld, \"pdeathsig\": %d, \"dumpable\": %d, \"securebits\": %d", mask,
            syscall(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0), pdeathsig, prctl(PR_GET_DUMPABLE),
            prctl(PR_GET_SECUREBITS));
    }
    put("}\n");
    for (size_t done = 0; done < used;) {
        ssize_t n = write(target, out + done, used - done);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return 71;
        if (n > 0)
            done += (size_t)n;
    }
    return 0;
}
