/* posix.c: the C library's posix_spawn, for what it can do: streams, descriptors, directory, session, group, signals.
 *
 * It returns one errno for all its steps, and it is the only mechanism on other systems than Linux. What it cannot do
 * is refused with FP_STAGE_MECHANISM and never left out. */
#include "internal.h"

#include <spawn.h>

#ifndef POSIX_SPAWN_SETSID
#if defined(__APPLE__)
#define POSIX_SPAWN_SETSID 0x0400
#else
#define POSIX_SPAWN_SETSID 0x80 /* glibc 2.26, musl 1.1.17 */
#endif
#endif

#if defined(__linux__)
/* Weak: glibc has the first since 2.34 and the second since 2.29; musl has only the second, since 1.1.24. */
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *, int) __attribute__((weak));
extern int posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t *, int) __attribute__((weak));
#define HAVE_CLOSEFROM (posix_spawn_file_actions_addclosefrom_np != NULL)
#define HAVE_FCHDIR (posix_spawn_file_actions_addfchdir_np != NULL)
#elif defined(__APPLE__)
#define HAVE_FCHDIR 1
#else
#define HAVE_FCHDIR 0
#endif

#define POSSIBLE (FP_ATTR_SETSID | FP_ATTR_PGID | FP_ATTR_KEEP_SIGMASK | FP_ATTR_KEEP_FDS)

static void to_sigset(uint64_t mask, sigset_t *set)
{
    sigemptyset(set);
    for (int sig = 1; sig <= 64; sig++) {
        if (mask >> (sig - 1) & 1)
            sigaddset(set, sig); /* refuses 32 and 33 of the C library, which is right */
    }
}

/* Copies each source that an earlier dup2 overwrites. */
static int lift_sources(struct fp__context *c)
{
    for (uint32_t i = 0; i < c->nmoves; i++) {
        struct fp__move *move = &c->moves[i];
        if (!move->lift)
            continue;
        int fd = fp__fd_copy_aside(move->from, c->keep, c->nkeep);
        if (fd < 0) {
            move->lift = 0;
            return -fd;
        }
        move->from = fd;
        move->lift = 2;
    }
    return 0;
}

static int add_closes(struct fp__context *c, posix_spawn_file_actions_t *actions, short *flags)
{
    if (c->attr->flags & FP_ATTR_KEEP_FDS)
        return 0;
#if defined(__APPLE__)
    *flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
    for (uint32_t i = 0; i < c->nkeep; i++) {
        if (fcntl(c->keep[i], F_GETFD) >= 0)
            posix_spawn_file_actions_addinherit_np(actions, c->keep[i]);
    }
    return 0;
#else
    (void)flags;
    int last = c->keep[c->nkeep - 1], limit = last, error = 0;
    bool closes_from = false;
#if defined(__linux__)
    closes_from = HAVE_CLOSEFROM;
#endif
    if (!closes_from) {
        int highest = c->highest_fd >= 0 ? c->highest_fd : fp__fd_highest();
        if (highest < 0)
            return ENOTSUP;
        limit = highest > last ? highest : last;
    }
    for (int fd = 3; fd <= limit && error == 0; fd++) {
        if (!fp__is_kept(c->keep, c->nkeep, fd))
            error = posix_spawn_file_actions_addclose(actions, fd);
    }
#if defined(__linux__)
    if (error == 0 && closes_from)
        error = posix_spawn_file_actions_addclosefrom_np(actions, last + 1);
#endif
    return error;
#endif
}

/* The dup2s come before the fchdir and may write to its number. */
static int lift_cwd(struct fp__context *c)
{
    if (c->cwd_fd < 0 || !fp__is_kept(c->keep, c->nkeep, c->cwd_fd))
        return 0;
    int fd = fp__fd_copy_aside(c->cwd_fd, c->keep, c->nkeep);
    if (fd < 0)
        return -fd;
    c->cwd_fd = c->lifted_cwd = fd;
    return 0;
}

static int fill(struct fp__context *c, posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr)
{
    short flags = POSIX_SPAWN_SETSIGDEF;
    sigset_t set;
    int error = lift_cwd(c);
    if (error == 0)
        error = lift_sources(c);
    for (uint32_t i = 0; i < c->nmoves && error == 0; i++)
        error = posix_spawn_file_actions_adddup2(actions, c->moves[i].from, c->moves[i].to);
#if defined(__linux__) || defined(__APPLE__)
    if (error == 0 && c->cwd_fd >= 0)
        error = HAVE_FCHDIR ? posix_spawn_file_actions_addfchdir_np(actions, c->cwd_fd) : ENOTSUP;
#else
    if (error == 0 && c->cwd_fd >= 0)
        error = ENOTSUP;
#endif
    if (error == 0)
        error = add_closes(c, actions, &flags);
    if (error != 0)
        return error;
    to_sigset(c->attr->sigdefault, &set);
    posix_spawnattr_setsigdefault(attr, &set);
    if (!(c->attr->flags & FP_ATTR_KEEP_SIGMASK)) {
        flags |= POSIX_SPAWN_SETSIGMASK;
        to_sigset(c->attr->sigmask, &set);
        posix_spawnattr_setsigmask(attr, &set);
    } else if (fp__child_mask) {
        flags |= POSIX_SPAWN_SETSIGMASK;
        to_sigset(*fp__child_mask, &set);
        posix_spawnattr_setsigmask(attr, &set);
    }
    if (c->attr->flags & FP_ATTR_SETSID)
        flags |= POSIX_SPAWN_SETSID;
    if (c->attr->flags & FP_ATTR_PGID) {
        flags |= POSIX_SPAWN_SETPGROUP;
        posix_spawnattr_setpgroup(attr, c->attr->pgid);
    }
    return posix_spawnattr_setflags(attr, flags);
}

static int spawn_first(struct fp__context *c, posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr,
                       pid_t *ret_pid, int *ret_detail)
{
    int error = ENOENT, denied = -1;
    for (uint32_t i = 0; i < c->npaths; i++) {
        *ret_detail = (int)i;
        error = posix_spawn(ret_pid, c->paths[i], actions, attr, c->argv, c->envp);
        if (error == 0)
            return 0;
        if (!fp__exec_goes_on(error))
            return error;
        if (error == EACCES && denied < 0)
            denied = (int)i;
    }
    if (denied >= 0) {
        *ret_detail = denied;
        return EACCES;
    }
    return error;
}

int fp__posix_spawn(struct fp__context *c, int *ret_pid, int *ret_stage, int *ret_detail)
{
    const struct fp_attr *a = c->attr;
    int saved = errno;
    pid_t pid = -1;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;

    c->lifted_cwd = -1;
    *ret_detail = 0;
    *ret_stage = FP_STAGE_MECHANISM;
    if ((a->flags & ~(uint32_t)POSSIBLE) || a->sigignore || a->nrlimits || c->cgroup_fd >= 0)
        return -ENOTSUP;
    *ret_stage = FP_STAGE_CLONE;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0)
        return -error;
    error = posix_spawnattr_init(&attr);
    if (error != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -error;
    }
    error = fill(c, &actions, &attr);
    if (error == ENOTSUP)
        *ret_stage = FP_STAGE_MECHANISM;
    else if (error != 0)
        *ret_stage = FP_STAGE_FDS;
    if (error == 0) {
        error = spawn_first(c, &actions, &attr, &pid, ret_detail);
        if (error != EAGAIN && error != ENOMEM)
            *ret_stage = FP_STAGE_EXEC;
    }
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    for (uint32_t i = 0; i < c->nmoves; i++) {
        if (c->moves[i].lift == 2)
            fp__close(c->moves[i].from);
    }
    if (c->lifted_cwd >= 0)
        fp__close(c->lifted_cwd);
    *ret_pid = (int)pid;
    errno = saved;
    return -error;
}
