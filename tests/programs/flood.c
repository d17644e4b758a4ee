/* flood PID GROUP PERIOD_US SIGNAL...: sends each signal to the process and to its group (GROUP 1), one after another, every
 * PERIOD_US, until there is no such process. Prints "ready" first. Only for PID namespaces made for it. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int pid = argc > 4 ? atoi(argv[1]) : 0;
    if (pid <= 1)
        return 2;
    int group = atoi(argv[2]);
    long period = atol(argv[3]) * 1000;
    struct timespec next;
    puts("ready");
    fflush(stdout);
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (;;) {
        for (int i = 4; i < argc; i++) {
            if (kill(pid, atoi(argv[i])) < 0)
                return 0;
            if (group)
                kill(-pid, atoi(argv[i]));
        }
        next.tv_nsec += period;
        while (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
}
