/* Part of the harness: taps that come and go in eight threads, while signals come in all of them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fastproc.h"
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 8

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static _Atomic int earlier; /* runs of the handler that was there before */

static void on_earlier(int sig)
{
    (void)sig;
    earlier++;
}

static int64_t seen(int64_t tap)
{
    return __atomic_load_n(fp_tap_seen(tap), __ATOMIC_RELAXED);
}

/* All of them read_report of each signal, so that more than three may come. */
static void one_round(void)
{
    int ends[2];
    MUST(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    const uint64_t usr1 = 1ULL << (SIGUSR1 - 1);
    struct fp_tap_options options = {.mask = usr1, .kind = FP_TAP_PIPE, .fd = ends[1], .status = -1};
    int64_t told = fp_tap_add(&options);
    MUST(told >= 0);
    close(ends[1]);
    options = (struct fp_tap_options){.mask = usr1 | 1ULL << (SIGUSR2 - 1), .kind = FP_TAP_COUNT, .fd = -1};
    int64_t counted = fp_tap_add(&options);
    MUST(counted >= 0);
    for (int i = 0; i < 3; i++)
        raise(SIGUSR1);
    raise(SIGUSR2);
    int own = 0;
    struct fp_signal_record record;
    while (read(ends[0], &record, sizeof record) == sizeof record) {
        MUST(record.signo == SIGUSR1 && record.code == SI_TKILL && record.pid == getpid());
        own++;
    }
    struct fp_tap_counts counts;
    MUST(fp_tap_look(counted, &counts) == 0);
    MUST(own >= 3 && counts.seen >= 4 && seen(counted) >= 4 && counts.lost == 0);
    uint64_t renewed;
    MUST(fp_signal_renew(0, &renewed) == 0);
    MUST(fp_tap_remove(told) == 0 && fp_tap_remove(counted) == 0);
    MUST(fp_tap_remove(told) == -ENOENT && fp_tap_look(told, &counts) == -ENOENT);
    close(ends[0]);
}

static void *work(void *rounds)
{
    for (int i = 0; i < *(int *)rounds; i++)
        one_round();
    return NULL;
}

/* Blocked ones come by a signalfd, and are told as if they had come. */
static void check_pump(void)
{
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    MUST(pthread_sigmask(SIG_BLOCK, &set, &old) == 0);
    struct fp_tap_options options = {.mask = 1ULL << (SIGUSR1 - 1), .kind = FP_TAP_COUNT, .fd = -1};
    int64_t tap = fp_tap_add(&options);
    int fd = fp_signalfd(options.mask);
    MUST(tap >= 0 && fd >= 0 && fp_signal_pump(fd) == 0);
    int before = earlier;
    raise(SIGUSR1);
    MUST(seen(tap) == 0 && fp_signal_pump(fd) == 1 && seen(tap) == 1 && earlier == before + 1);
    close(fd);
    MUST(fp_tap_remove(tap) == 0);
    MUST(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
}

static void check_copy(void)
{
    struct fp_tap_options options = {.mask = 1ULL << (SIGUSR1 - 1), .kind = FP_TAP_COUNT, .fd = -1};
    int64_t tap = fp_tap_add(&options);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        int before = earlier;
        raise(SIGUSR1); /* still with the handler of the original, which does nothing but call the earlier one */
        MUST(earlier == before + 1 && fp_signals_forked() == 1 && fp_tap_remove(tap) == -ENOENT);
        struct sigaction now;
        MUST(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == on_earlier);
        fp_signal_default(SIGTERM);
        _exit(1);
    }
    int status;
    MUST(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    MUST(seen(tap) == 0 && fp_tap_remove(tap) == 0);
}

void check_signals(int rounds)
{
    struct sigaction mine = {.sa_handler = on_earlier}, before[2], now;
    MUST(sigaction(SIGUSR1, &mine, &before[0]) == 0 && sigaction(SIGUSR2, &mine, &before[1]) == 0);
    struct fp_tap_options none = {.mask = 1, .kind = FP_TAP_COUNT, .fd = -1};
    int64_t first = fp_tap_add(&none);
    if (first == -ENOSYS) /* the portable build */
        return;
    MUST(fp_tap_remove(first) == 0);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        MUST(pthread_create(&threads[i], NULL, work, &rounds) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    MUST(earlier == THREADS * rounds * 4);
    check_pump();
    check_copy();
    MUST(sigaction(SIGUSR1, &before[0], &now) == 0 && now.sa_handler == on_earlier);
    MUST(sigaction(SIGUSR2, &before[1], &now) == 0 && now.sa_handler == on_earlier);
    printf("signals: %d threads, %d rounds each\n", THREADS, rounds);
}
