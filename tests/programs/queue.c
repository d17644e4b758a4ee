/* queue PID SIGNAL COUNT PERIOD_US ack|free: sends a signal COUNT times to one process, each with its number as value, every
 * PERIOD_US; with "ack" the next one only when a byte came on stdin. A full queue is tried again. Prints "ready" first, and at the
 * end how many were sent and how often the queue was full. Only for PID namespaces made for it. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void pause_until(struct timespec *next, long ns)
{
    next->tv_nsec += ns;
    while (next->tv_nsec >= 1000000000) {
        next->tv_nsec -= 1000000000;
        next->tv_sec++;
    }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}

int main(int argc, char **argv)
{
    int pid = argc > 5 ? atoi(argv[1]) : 0;
    if (pid <= 1)
        return 2;
    int sig = atoi(argv[2]), ack = strcmp(argv[5], "ack") == 0;
    long count = atol(argv[3]), period = atol(argv[4]) * 1000, full = 0, sent = 0;
    struct timespec next;
    puts("ready");
    fflush(stdout);
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (; sent < count; sent++) {
        union sigval value = {.sival_ptr = (void *)sent};
        while (sigqueue(pid, sig, value) < 0) {
            if (errno != EAGAIN)
                return 1;
            full++;
            struct timespec pause = {0, 100000};
            nanosleep(&pause, NULL);
        }
        char byte;
        if (ack && read(0, &byte, 1) != 1)
            return 3;
        if (period > 0)
            pause_until(&next, period);
    }
    printf("%ld %ld\n", sent, full);
    return 0;
}
