/* raw.c: each of the peers' cases in the fewest system calls that do the job: the limit for all of them.
 *
 *     raw EXIT FEED    (see README.md for what it is asked, and how it answers)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 100
#define LINES_OF_A_PIPELINE 300
#define SIZE_OF_A_LINE 32
#define STAGES 3
#define MOST_HELD 4096

extern char **environ;

static char *ends_at_once;
static char *feed;
static struct {
    pid_t pid;
    int out;
    int err;
} held[MOST_HELD];
static long held_count;

static void need(int right, const char *what)
{
    if (!right) {
        perror(what);
        exit(1);
    }
}

/* Starts a program; -1 as in, out or err leaves that one alone. */
static pid_t spawn(char **argv, int in, int out, int err)
{
    pid_t pid = vfork();
    if (pid == 0) {
        if (in >= 0) {
            dup2(in, 0);
        }
        if (out >= 0) {
            dup2(out, 1);
        }
        if (err >= 0) {
            dup2(err, 2);
        }
        execve(argv[0], argv, environ);
        _exit(127);
    }
    need(pid > 0, "vfork");
    return pid;
}

static void reap(pid_t pid)
{
    int status = 0;
    need(waitpid(pid, &status, 0) == pid && status == 0, "a child");
}

static void pair(int ends[2])
{
    need(pipe2(ends, O_CLOEXEC) == 0, "pipe2");
}

static void run(void)
{
    char *argv[] = {ends_at_once, NULL};
    reap(spawn(argv, -1, -1, -1));
}

static void capture(void)
{
    char *argv[] = {ends_at_once, NULL};
    char buffer[4096];
    int out[2];
    int err[2];
    pair(out);
    pair(err);
    pid_t pid = spawn(argv, -1, out[1], err[1]);
    close(out[1]);
    close(err[1]);
    struct pollfd watched[2] = {{.fd = out[0], .events = POLLIN}, {.fd = err[0], .events = POLLIN}};
    for (int open = 2; open > 0;) {
        poll(watched, 2, -1);
        for (int i = 0; i < 2; i++) {
            if (watched[i].fd >= 0 && watched[i].revents && read(watched[i].fd, buffer, sizeof(buffer)) <= 0) {
                close(watched[i].fd);
                watched[i].fd = -1;
                open--;
            }
        }
    }
    reap(pid);
}

static atomic_long left;

static void *capture_all(void *unused)
{
    while (atomic_fetch_sub(&left, 1) > 0) {
        capture();
    }
    return unused;
}

static void many(long count)
{
    pthread_t threads[AT_ONCE];
    atomic_store(&left, count);
    for (int i = 0; i < AT_ONCE; i++) {
        need(pthread_create(&threads[i], NULL, capture_all, NULL) == 0, "pthread_create");
    }
    for (int i = 0; i < AT_ONCE; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* Starts `feed WHAT COUNT` with its output in a pipe; the read end. */
static int fed(const char *what, long count, pid_t *pid)
{
    char number[32];
    char *argv[] = {feed, (char *)what, number, NULL};
    int out[2];
    snprintf(number, sizeof(number), "%ld", count);
    pair(out);
    *pid = spawn(argv, -1, out[1], -1);
    close(out[1]);
    return out[0];
}

static void big(long count)
{
    pid_t pid;
    int out = fed("bytes", count, &pid);
    long have = 0;
    char *memory = mmap(NULL, (size_t)count + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(memory != MAP_FAILED, "mmap");
    madvise(memory, (size_t)count, MADV_HUGEPAGE);
    fcntl(out, F_SETPIPE_SZ, 1 << 20);
    for (ssize_t got; (got = read(out, memory + have, (size_t)(count + 1 - have))) > 0;) {
        have += got;
    }
    need(have == count, "big");
    munmap(memory, (size_t)count + 1);
    close(out);
    reap(pid);
}

static void lines(long count)
{
    static char buffer[1 << 16];
    pid_t pid;
    int out = fed("lines", count, &pid);
    long seen = 0;
    for (ssize_t got; (got = read(out, buffer, sizeof(buffer))) > 0;) {
        char *end = buffer + got;
        for (char *at = buffer; (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++) {
            seen++;
        }
    }
    need(seen == count, "lines");
    close(out);
    reap(pid);
}

static void pipeline(void)
{
    char number[32];
    char buffer[1 << 16];
    char *first[] = {feed, "lines", number, NULL};
    char *other[] = {feed, "copy", NULL};
    pid_t pids[STAGES];
    int in = -1;
    long have = 0;
    snprintf(number, sizeof(number), "%d", LINES_OF_A_PIPELINE);
    for (int i = 0; i < STAGES; i++) {
        int ends[2];
        pair(ends);
        pids[i] = spawn(i == 0 ? first : other, in, ends[1], -1);
        close(ends[1]);
        if (in >= 0) {
            close(in);
        }
        in = ends[0];
    }
    for (ssize_t got; (got = read(in, buffer, sizeof(buffer))) > 0;) {
        have += got;
    }
    need(have == LINES_OF_A_PIPELINE * SIZE_OF_A_LINE, "pipeline");
    close(in);
    for (int i = 0; i < STAGES; i++) {
        reap(pids[i]);
    }
}

static void hold(long count)
{
    char *argv[] = {feed, "pause", NULL};
    need(count <= MOST_HELD, "hold");
    for (held_count = 0; held_count < count; held_count++) {
        int out[2];
        int err[2];
        pair(out);
        pair(err);
        held[held_count].pid = spawn(argv, -1, out[1], err[1]);
        held[held_count].out = out[0];
        held[held_count].err = err[0];
        close(out[1]);
        close(err[1]);
    }
}

static void drop(void)
{
    for (long i = 0; i < held_count; i++) {
        int status;
        kill(held[i].pid, SIGKILL); /* a child that was not waited for, so nobody else has its number */
        waitpid(held[i].pid, &status, 0);
        close(held[i].out);
        close(held[i].err);
    }
    held_count = 0;
}

static void ballast(long count)
{
    char *memory = mmap(NULL, (size_t)count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(memory != MAP_FAILED, "mmap");
    memset(memory, 1, (size_t)count);
}

static void repeat(void (*what)(void), long count)
{
    for (long i = 0; i < count; i++) {
        what();
    }
}

int main(int argc, char **argv)
{
    char name[32];
    long count;
    need(argc == 3, "usage: raw EXIT FEED");
    ends_at_once = argv[1];
    feed = argv[2];
    while (scanf("%31s %ld", name, &count) == 2) {
        struct timespec from;
        struct timespec to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        if (strcmp(name, "spawn") == 0) {
            repeat(run, count);
        } else if (strcmp(name, "capture") == 0) {
            repeat(capture, count);
        } else if (strcmp(name, "many") == 0) {
            many(count);
        } else if (strcmp(name, "big") == 0) {
            big(count);
        } else if (strcmp(name, "lines") == 0) {
            lines(count);
        } else if (strcmp(name, "pipeline") == 0) {
            repeat(pipeline, count);
        } else if (strcmp(name, "hold") == 0) {
            hold(count);
        } else if (strcmp(name, "drop") == 0) {
            drop();
        } else if (strcmp(name, "ballast") == 0) {
            ballast(count);
        } else {
            puts("-");
            fflush(stdout);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &to);
        printf("%lld\n", (to.tv_sec - from.tv_sec) * 1000000000LL + (to.tv_nsec - from.tv_nsec));
        fflush(stdout);
    }
    return 0;
}
