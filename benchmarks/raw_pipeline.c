/* raw_pipeline.c: one run of a pipeline in the fewest system calls that do the job: the limit for every other way.
 *
 * A shared library: raw_pipeline() is one run, called from the measuring process.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define STAGES_MAX 8

static pid_t start(char *const argv[], int in, int out, int err)
{
    pid_t pid = vfork();
    if (pid == 0) {
        if (in >= 0)
            dup2(in, 0);
        if (out >= 0)
            dup2(out, 1);
        if (err >= 0)
            dup2(err, 2);
        execve(argv[0], argv, environ);
        _exit(127);
    }
    return pid;
}

/* Runs `n` times the program with a pipe between each two, reads what the last one writes, with `errors` also what each writes
 * to standard error, and takes the status and usage of all. Returns the last one's exit code, -1 where a system call failed. */
int raw_pipeline(const char *program, int n, int errors)
{
    static char buffer[65536];
    char *argv[] = {(char *)program, NULL};
    struct pollfd watched[STAGES_MAX + 1];
    pid_t pids[STAGES_MAX];
    int in = -1, open = 0;
    if (n < 1 || n > STAGES_MAX)
        return -1;
    for (int i = 0; i < n; i++) {
        int out[2], err[2] = {-1, -1};
        if (pipe2(out, O_CLOEXEC) < 0 || (errors && pipe2(err, O_CLOEXEC) < 0))
            return -1;
        pids[i] = start(argv, in, out[1], err[1]);
        if (pids[i] < 0)
            return -1;
        if (in >= 0)
            close(in);
        close(out[1]);
        in = out[0];
        if (errors) {
            close(err[1]);
            watched[open++] = (struct pollfd){.fd = err[0], .events = POLLIN};
        }
    }
    watched[open++] = (struct pollfd){.fd = in, .events = POLLIN};
    for (int left = open; left > 0;) {
        poll(watched, (nfds_t)open, -1);
        for (int i = 0; i < open; i++) {
            if (watched[i].fd >= 0 && watched[i].revents && read(watched[i].fd, buffer, sizeof buffer) <= 0) {
                close(watched[i].fd);
                watched[i].fd = -1;
                left--;
            }
        }
    }
    int code = -1;
    for (int i = 0; i < n; i++) {
        int status;
        struct rusage usage;
        if (wait4(pids[i], &status, 0, &usage) != pids[i] || !WIFEXITED(status))
            return -1;
        code = WEXITSTATUS(status);
    }
    return code;
}
