/* feed.c: what the peers' children do besides ending at once. Linked statically, so that the linker is not measured.
 *
 *     feed bytes N    writes N bytes
 *     feed lines N    writes N lines of 32 bytes
 *     feed copy       copies stdin to stdout
 *     feed pause      lives until it is killed
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE 32

static char buffer[1 << 16];

static int put(const char *data, size_t size)
{
    while (size > 0) {
        ssize_t done = write(1, data, size);
        if (done < 0) {
            return -1;
        }
        data += done;
        size -= (size_t)done;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    size_t left = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    if (strcmp(what, "pause") == 0) {
        for (;;) {
            pause();
        }
    }
    if (strcmp(what, "copy") == 0) {
        ssize_t got;
        while ((got = read(0, buffer, sizeof(buffer))) > 0) {
            if (put(buffer, (size_t)got) < 0) {
                return 1;
            }
        }
        return got < 0;
    }
    memset(buffer, 'x', sizeof(buffer));
    if (strcmp(what, "lines") == 0) {
        left *= LINE;
        for (size_t end = LINE - 1; end < sizeof(buffer); end += LINE) {
            buffer[end] = '\n';
        }
    } else if (strcmp(what, "bytes") != 0) {
        fprintf(stderr, "usage: feed bytes|lines|copy|pause [N]\n");
        return 2;
    }
    for (; left > 0; left -= left < sizeof(buffer) ? left : sizeof(buffer)) {
        if (put(buffer, left < sizeof(buffer) ? left : sizeof(buffer)) < 0) {
            return 1;
        }
    }
    return 0;
}
