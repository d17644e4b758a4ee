/* leader_exits MS: the main thread ends at once, another ends the process with code 7 after MS milliseconds. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static void *late(void *ms)
{
    usleep((useconds_t)(long)ms * 1000);
    _exit(7);
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, late, (void *)(argc > 1 ? atol(argv[1]) : 0)) != 0)
        return 2;
    pthread_exit(NULL);
}
