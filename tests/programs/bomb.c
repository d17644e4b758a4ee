/* A fork bomb that ends: every process forks again and again, every third child in a session of its own, until LIMIT processes
 * were made in all; then they wait. Prints "ready" once there are READY of them.
 *
 *     bomb LIMIT READY
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const int limit = atoi(argv[1]), ready = atoi(argv[2]);
    atomic_int *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return 2;
    for (;;) {
        int number = atomic_fetch_add(made, 1);
        if (number >= limit)
            for (;;)
                pause();
        if (number == ready && write(1, "ready\n", 6) != 6)
            return 2;
        if (fork() == 0 && number % 3 == 0)
            setsid();
        usleep(2000);
    }
}
