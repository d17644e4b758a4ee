/* parts: the spin lock that a forked copy takes over, and the array that grows. */
#include "parts.h"

#include "grow.h"
#include "internal.h"

#include <stdio.h>
#include <sys/wait.h>

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                  \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static void check_array(void)
{
    size_t room = 0;
    int *numbers = NULL;
    for (size_t n = 0; n < 1000; n++) {
        size_t before = room;
        int *grown = fp__grow(numbers, &room, n + 1, sizeof *numbers);
        MUST(grown != NULL && room > n && (room == before || room >= 2 * before));
        numbers = grown;
        numbers[n] = (int)n;
    }
    for (size_t n = 0; n < 1000; n++)
        MUST(numbers[n] == (int)n);
    size_t before = room;
    MUST(fp__grow(numbers, &room, SIZE_MAX / 4 + 2, sizeof *numbers) == NULL && room == before && numbers[999] == 999);
    free(numbers);
}

#if FP_LINUX
/* A thread of this process has the lock; in the copy by fork nobody does. */
static void check_lock(void)
{
    static _Atomic int32_t word;
    int status = 0;
    MUST(!fp__lock(&word, getpid()) && word == getpid());
    pid_t pid = fork();
    if (pid == 0) {
        bool taken = fp__lock(&word, getpid());
        fp__unlock(&word);
        _exit(taken && !fp__lock(&word, getpid()) ? 0 : 1);
    }
    MUST(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    fp__unlock(&word);
    MUST(word == 0);
}
#else
static void check_lock(void)
{
}
#endif

void check_parts(void)
{
    check_array();
    check_lock();
}
