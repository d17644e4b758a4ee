/* sleep_until.c NANOSECONDS: ends at an instant of the monotonic clock, so that whoever waits for it knows when it did. */
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
    long long when = argc > 1 ? strtoll(argv[1], NULL, 10) : 0;
    struct timespec until = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
        ;
    return 0;
}
