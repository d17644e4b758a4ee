/* tracer PID HOLD_MS: attaches to the process, says "ready", and after the process has ended keeps its status from the real
 * parent for HOLD_MS more (the pidfd is readable, but there is nothing to reap). */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int pid = argc > 2 ? atoi(argv[1]) : 0;
    if (pid <= 1)
        return 2;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0) {
        perror("PTRACE_SEIZE");
        return 3;
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        siginfo_t info;
        struct pollfd item = {pidfd, POLLIN, 0};
        if (poll(&item, 1, 10) > 0) {
            usleep((useconds_t)atoi(argv[2]) * 1000);
            return waitpid(pid, NULL, __WALL) == pid ? 0 : 4;
        }
        info.si_pid = 0;
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WNOWAIT | WNOHANG | __WALL) == 0 &&
            info.si_pid == pid && info.si_code == CLD_TRAPPED) {
            int status;
            waitpid(pid, &status, __WALL);
            ptrace(PTRACE_CONT, pid, NULL, (void *)(long)(status >> 16 ? 0 : WSTOPSIG(status)));
        }
    }
}
