/* node.c: a stage whose every effect is in order: it reads its input to the end, then writes, then exits.
 *
 * `node cat|drain OUT ERR STATUS`: copies its standard input to its standard output, or drops it; writes ERR to standard
 * error, OUT to standard output; exits with STATUS. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0)
            exit(99);
        data += n;
        size -= (size_t)n;
    }
}

int main(int argc, char **argv)
{
    static char buffer[65536];
    ssize_t n;
    if (argc != 5)
        return 98;
    while ((n = read(0, buffer, sizeof buffer)) > 0) {
        if (strcmp(argv[1], "cat") == 0)
            put(1, buffer, (size_t)n);
    }
    put(2, argv[3], strlen(argv[3]));
    put(1, argv[2], strlen(argv[2]));
    return atoi(argv[4]);
}
