/* slow_exec FILE MS: holds up every execve(2) of the file for MS milliseconds, each on its own, until its standard input ends. It
 * says "ready" when that has begun, or why it cannot (fanotify(7): root, and a kernel with permission events). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fanotify.h>
#include <time.h>
#include <unistd.h>

#define MOST 4096

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
    static struct {
        int64_t until;
        int fd;
    } held[MOST];
    int first = 0, last = 0, hold = argc > 2 ? atoi(argv[2]) : 0;
    int group = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC);
    if (group < 0 || fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN_EXEC_PERM, AT_FDCWD, argv[1]) < 0) {
        perror("fanotify");
        return 3;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int64_t left = first == last ? -1 : held[first % MOST].until - now_ms();
        struct pollfd items[] = {{group, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        poll(items, 2, left < 0 && first != last ? 0 : (int)left);
        if (items[1].revents)
            return 0; /* with the group goes what it holds */
        struct fanotify_event_metadata events[64], *event = events;
        ssize_t size = read(group, events, sizeof events);
        for (; size > 0 && FAN_EVENT_OK(event, size); event = FAN_EVENT_NEXT(event, size))
            if (event->fd >= 0 && last - first < MOST) {
                held[last % MOST].until = now_ms() + hold;
                held[last++ % MOST].fd = event->fd;
            }
        while (first != last && held[first % MOST].until <= now_ms()) {
            struct fanotify_response answer = {held[first % MOST].fd, FAN_ALLOW};
            if (write(group, &answer, sizeof answer) < 0)
                return 4;
            close(held[first++ % MOST].fd);
        }
    }
}
