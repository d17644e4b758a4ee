/* write_zeros.c: writes zeros to its standard output and does nothing else: what the kernel takes for that.
 *     write_zeros BYTES PIECE */
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t left = strtoull(argv[1], NULL, 10), piece = strtoull(argv[2], NULL, 10);
    char *zeros = calloc(1, piece);
    while (zeros != NULL && left > 0) {
        ssize_t n = write(1, zeros, left < piece ? left : piece);
        if (n < 0)
            return 1;
        left -= (size_t)n;
    }
    return left > 0;
}
