/* node.c: a stage whose every effect is in order: it reads its input to the end, then writes, then exits.
 *
 * `node cat|drain OUT ERR STATUS`: writes ERR to standard error, what it read (if it is a cat) and OUT to standard
 * output; exits with STATUS. */
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
    size_t room = 65536, size = 0;
    char *buffer = malloc(room);
    ssize_t n;
    if (argc != 5 || buffer == NULL)
        return 98;
    while ((n = read(0, buffer + size, room - size)) > 0) {
        size += (size_t)n;
        if (size == room && (buffer = realloc(buffer, room *= 2)) == NULL)
            return 97;
    }
    put(2, argv[3], strlen(argv[3]));
    if (strcmp(argv[1], "cat") == 0)
        put(1, buffer, size);
    put(1, argv[2], strlen(argv[2]));
    free(buffer);
    return atoi(argv[4]);
}
