/* types: pushes a character into the terminal on stdin, then into the controlling one; prints "typed" or the errno of each. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(void)
{
    for (int i = 0; i < 2; i++) {
        int fd = i == 0 ? 0 : open("/dev/tty", O_RDWR);
        if (fd >= 0 && ioctl(fd, TIOCSTI, "x") == 0)
            puts("typed");
        else
            printf("%d\n", errno);
    }
    return 0;
}
