/* raw_loop.c: one run of a program in the fewest system calls that do the job: the limit for every other way.
 *
 * As a shared library: raw_run() is one run, called from the measuring process.
 * As a program: `raw_loop PROGRAM N CAPTURE` prints the nanoseconds of N runs, one a line. With N = 0 it makes one run per
 * byte read from its input and answers each with the nanoseconds, 8 bytes in the machine's order, until the input ends.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int close_on_exec_pipe(int ends[2])
{
#ifdef __linux__
    return pipe2(ends, O_CLOEXEC);
#else
    if (pipe(ends) < 0) {
        return -1;
    }
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    return fcntl(ends[1], F_SETFD, FD_CLOEXEC);
#endif
}

/* Runs the program once and waits for it. Returns its exit code, -1 where a system call failed. */
int raw_run(const char *program, int capture)
{
    char *argv[] = {(char *)program, NULL};
    int out[2];
    int err[2];
    if (capture && (close_on_exec_pipe(out) < 0 || close_on_exec_pipe(err) < 0)) {
        return -1;
    }

    pid_t pid = vfork();
    if (pid == 0) {
        if (capture) {
            dup2(out[1], 1);
            dup2(err[1], 2);
        }
        execve(program, argv, environ);
        _exit(127);
    }
    if (pid < 0) {
        return -1;
    }

    if (capture) {
        static char buffer[65536];
        struct pollfd watched[2] = {{.fd = out[0], .events = POLLIN}, {.fd = err[0], .events = POLLIN}};
        close(out[1]);
        close(err[1]);
        for (int open = 2; open > 0;) {
            poll(watched, 2, -1);
            for (int i = 0; i < 2; i++) {
                if (watched[i].fd >= 0 && watched[i].revents && read(watched[i].fd, buffer, sizeof(buffer)) <= 0) {
                    close(watched[i].fd);
                    watched[i].fd = -1;
                    open--;
                }
            }
        }
    }

    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 || info.si_code != CLD_EXITED) {
        return -1;
    }
    return info.si_status;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: raw_loop PROGRAM N CAPTURE\n");
        return 2;
    }
    int capture = atoi(argv[3]);
    long count = atol(argv[2]);
    char request;
    for (long i = 0; count == 0 ? read(0, &request, 1) == 1 : i < count; i++) {
        int64_t start = now_ns();
        if (raw_run(argv[1], capture) != 0) {
            fprintf(stderr, "raw_loop: %s failed\n", argv[1]);
            return 1;
        }
        int64_t taken = now_ns() - start;
        if (count > 0) {
            printf("%lld\n", (long long)taken);
        } else if (write(1, &taken, sizeof(taken)) != sizeof(taken)) {
            return 1;
        }
    }
    return 0;
}
