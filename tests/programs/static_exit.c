/* static_exit [CODE]: ends at once. Linked statically: what is measured with it is the spawn, not the dynamic linker. */
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    _exit(argc > 1 ? atoi(argv[1]) : 0);
}
