/* spawn.c: the parent's half of a spawn: argument vectors, pipes, the descriptor map, one child by the chosen
 * mechanism, and the clean-up after a failure. */
#include "internal.h"

#include <pthread.h>
#include <stdlib.h>
#if FP_LINUX
#include <sys/wait.h>
#endif

#if FP_LINUX
static long sys_fcntl(int fd, int op, long arg)
{
    return fp__sys3(SYS_fcntl, fd, op, arg);
}
static long sys_pipe(int fds[2])
{
    return fp__sys2(SYS_pipe2, fds, O_CLOEXEC);
}
static long sys_open(int dir, const char *path, int flags)
{
    return fp__sys4(SYS_openat, dir, path, flags | O_CLOEXEC, 0);
}
#else
static long sys_fcntl(int fd, int op, long arg)
{
    int r = fcntl(fd, op, arg);
    return r < 0 ? -errno : r;
}
/* Without pipe2(2) another thread's fork may inherit the ends; the child itself closes them. */
static long sys_pipe(int fds[2])
{
    if (pipe(fds) < 0)
        return -errno;
    fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    fcntl(fds[1], F_SETFD, FD_CLOEXEC);
    return 0;
}
static long sys_open(int dir, const char *path, int flags)
{
    int r = openat(dir, path, flags | O_CLOEXEC);
    return r < 0 ? -errno : r;
}
#endif

static const char *split(const char *blob, uint32_t n, const char **vector)
{
    for (uint32_t i = 0; i < n; i++) {
        vector[i] = blob;
        blob += strlen(blob) + 1;
    }
    return blob;
}

/* One block for all vectors; for ordinary commands a part of the state. */
static long make_vectors(struct fp__spawn_state *s)
{
    const struct fp__spawn_args *args = &s->args;
    size_t pointers = (size_t)args->npaths + args->argc + 1 + args->envc + 1;
    size_t bytes =
        pointers * sizeof(char *) + (args->nfds + 3) * sizeof(struct fp__move) + (args->nfds + 6) * sizeof(int32_t);
    char *block = s->local;
    if (bytes > FP__LOCAL_BYTES) {
        block = s->heap = malloc(bytes);
        if (block == NULL)
            return -ENOMEM;
    }
    const char **vector = (const char **)block;
    s->context.paths = vector;
    s->context.npaths = args->npaths;
    split(args->paths, args->npaths, vector);
    vector += args->npaths;
    s->context.argv = (char *const *)vector;
    split(args->argv, args->argc, vector);
    vector[args->argc] = NULL;
    vector += args->argc + 1;
    s->context.envp = (char *const *)vector;
    split(args->env, args->envc, vector);
    vector[args->envc] = NULL;
    vector += args->envc + 1;
    s->context.moves = (struct fp__move *)vector;
    s->keep = (int32_t *)(s->context.moves + args->nfds + 3);
    return 0;
}

/* Checks that every descriptor that the caller names is open, before one of ours could take its number. */
static long check_fds(struct fp__spawn_state *s, struct fp_child *child, int *stage)
{
    const struct fp__spawn_args *args = &s->args;
    const struct fp_attr *attr = args->attr;
    const struct {
        int fd;
        int stage;
    } others[] = {
        {args->cwd_fd, FP_STAGE_CWD},
        {args->cgroup_fd, FP_STAGE_CGROUP},
        {attr->flags & FP_ATTR_CTTY ? attr->ctty_fd : -1, FP_STAGE_CTTY},
        {args->identity ? args->identity->root_fd : -1, FP_STAGE_CHROOT},
        {args->identity ? args->identity->ruleset_fd : -1, FP_STAGE_LANDLOCK},
    };
    for (int i = 0; i < 5; i++) {
        if (others[i].fd >= 0 && sys_fcntl(others[i].fd, F_GETFD, 0) < 0) {
            *stage = others[i].stage;
            return -EBADF;
        }
    }
    for (int i = 0; i < 3; i++) {
        if (args->stdio[i] >= 0 && sys_fcntl(args->stdio[i], F_GETFD, 0) < 0) {
            child->detail = i;
            return -EBADF;
        }
    }
    for (uint32_t i = 0; i < args->nfds; i++) {
        const int32_t *pair = args->fds + (size_t)2 * i;
        if (pair[0] < 0 || pair[1] < 0 || sys_fcntl(pair[1], F_GETFD, 0) < 0) {
            child->detail = pair[0];
            return -EBADF;
        }
    }
    return 0;
}

/* Makes a pipe: both ends above 2 (GOTCHAS C8), close-on-exec, blocking. On failure one of the ends may be open. */
long fp__pipe(uint32_t size, int ends[2])
{
    long r = sys_pipe(ends);
    if (r < 0)
        return r;
    ends[0] = fp__fd_lift(ends[0], 3);
    ends[1] = fp__fd_lift(ends[1], 3);
    if (ends[0] < 0 || ends[1] < 0)
        return ends[0] < 0 ? ends[0] : ends[1];
#if defined(F_SETPIPE_SZ)
    if (size) /* only a wish: EPERM above the user's limit is no reason not to start (GOTCHAS E11) */
        sys_fcntl(ends[0], F_SETPIPE_SZ, (long)size);
#else
    (void)size;
#endif
    return 0;
}

static long make_pipe(struct fp__spawn_state *s, int slot, struct fp_child *child)
{
    int ends[2] = {-1, -1};
    long r = FP__TRY(FP_POINT_PIPE_IN + slot, fp__pipe(s->context.attr->pipe_size, ends));
    int ours = slot == 0 ? 1 : 0;
    child->fd[slot] = ends[ours];
    s->child_end[slot] = ends[1 - ours];
    if (r < 0)
        return r;
    /* Only our end: the flag belongs to the open file, and the two ends of a pipe are two open files (GOTCHAS C10). */
    if (s->args.nonblock >> slot & 1)
        return FP__TRY(FP_POINT_NONBLOCK,
                       sys_fcntl(ends[ours], F_SETFL, O_NONBLOCK | (slot == 0 ? O_WRONLY : O_RDONLY)));
    return 0;
}

static long open_null(struct fp__spawn_state *s)
{
    if (s->null_fd >= 0)
        return s->null_fd;
    long r = FP__TRY(FP_POINT_NULL, sys_open(AT_FDCWD, "/dev/null", O_RDWR));
    if (r < 0)
        return r;
    r = fp__fd_lift((int)r, 3);
    s->null_fd = r < 0 ? -1 : (int)r;
    return r;
}

/* Returns the parent's number that becomes stream `slot`, or a negative errno with *stage set. An inherited stream that
 * is closed in the parent becomes /dev/null: otherwise the first file that the child opens would become its standard
 * output (GOTCHAS C8). *ret_flags are the descriptor flags of an inherited stream. */
static long source(struct fp__spawn_state *s, int slot, int *stage, long *ret_flags)
{
    const int *stdio = s->args.stdio;
    int choice = stdio[slot];
    if (choice == FP_STDIO_STDOUT || choice == FP_STDIO_STDERR) {
        int other = choice == FP_STDIO_STDOUT ? 1 : 2;
        if (other == slot || slot == 0 || stdio[other] == FP_STDIO_STDOUT || stdio[other] == FP_STDIO_STDERR) {
            *stage = FP_STAGE_FDS;
            return -EINVAL;
        }
        slot = other;
        choice = stdio[slot];
    }
    if (choice >= 0)
        return choice;
    if (choice == FP_STDIO_PIPE)
        return s->child_end[slot];
    int inherited = choice == FP_STDIO_PARENT_STDOUT ? 1 : choice == FP_STDIO_PARENT_STDERR ? 2 : slot;
    if (choice != FP_STDIO_NULL && (*ret_flags = sys_fcntl(inherited, F_GETFD, 0)) >= 0)
        return inherited;
    *stage = FP_STAGE_NULL;
    return open_null(s);
}

static long plan_stdio(struct fp__spawn_state *s, struct fp_child *child, int *stage)
{
    long from[3], flags[3] = {-1, -1, -1};
    *stage = FP_STAGE_PIPE;
    for (int i = 0; i < 3; i++) {
        if (s->args.stdio[i] != FP_STDIO_PIPE)
            continue;
        long r = make_pipe(s, i, child);
        if (r < 0)
            return r;
    }
    for (int i = 0; i < 3; i++) {
        from[i] = source(s, i, stage, &flags[i]);
        if (from[i] < 0)
            return from[i];
    }
    s->context.tty_fd = s->context.attr->flags & FP_ATTR_CTTY ? s->context.attr->ctty_fd : (int)from[0];
    for (int i = 0; i < 3; i++) {
        /* An inherited stream needs nothing, unless it is close-on-exec. */
        if (from[i] == i && flags[i] == 0)
            continue;
        s->wanted[s->nwanted++] = (struct fp__move){.to = i, .from = (int32_t)from[i], .lift = 0};
    }
    return 0;
}

static void prepare_moves(struct fp__spawn_state *s)
{
    struct fp__context *c = &s->context;
    c->nmoves = 0;
    for (uint32_t i = 0; i < s->nwanted; i++)
        c->moves[c->nmoves++] = s->wanted[i];
    const int32_t *pair = s->args.fds;
    for (uint32_t i = 0; i < s->args.nfds; i++, pair += 2)
        c->moves[c->nmoves++] = (struct fp__move){.to = pair[0], .from = pair[1], .lift = 0};
    fp__fdmap_prepare(c, s->keep);
}

/* The child has its own copies from the clone on. */
static void close_child_fds(struct fp__spawn_state *s)
{
    fp__close_all(s->child_end, 3);
    fp__close_all(&s->null_fd, 1);
    fp__close_all(&s->procs_fd, 1);
}

#if FP_LINUX

/* Opens the pidfd of a child that was made without one while nobody else could reap it. Returns -1 where there is
 * none. */
long fp__pidfd_of_child(int pid)
{
    struct fp_features features;
    fp__mechanism_choose(&features);
    long fd = fp__pidfd_open(&features, pid);
    if (fd >= 0 && fd < 3)
        fd = fp__fd_lift((int)fd, 3);
    return fd < 0 ? -1 : fd;
}

int fp_pidfd_of_child(int pid)
{
    return (int)fp__pidfd_of_child(pid);
}

/* cgroup.freeze has the cgroup's own setting; cgroup.events shows whether an ancestor is frozen, and it with the
 * ancestor (cgroups(7)). */
static bool is_frozen(int cgroup_fd)
{
    char text[256];
    long fd = sys_open(cgroup_fd, "cgroup.freeze", O_RDONLY);
    if (fd >= 0) {
        long n = fp__sys3(SYS_read, fd, text, 1);
        fp__close((int)fd);
        if (n == 1 && text[0] == '1')
            return true;
    }
    fd = sys_open(cgroup_fd, "cgroup.events", O_RDONLY);
    if (fd < 0)
        return false;
    long n = fp__sys3(SYS_read, fd, text, sizeof text - 1);
    fp__close((int)fd);
    text[n > 0 ? n : 0] = 0;
    return strstr(text, "frozen 1") != NULL;
}

/* Where clone3 cannot place the child at birth, the child moves itself; here its cgroup.procs is opened. A frozen
 * cgroup is refused at once: the child would be born frozen and vfork never return (GOTCHAS A16). A cgroup that is
 * frozen between this look and the clone still holds the caller until it is thawed. */
static long open_cgroup(struct fp__spawn_state *s, int cgroup_fd, int mechanism, struct fp_child *child)
{
    child->stage = FP_STAGE_CGROUP;
    /* The same answer as clone3's. A directory of cgroup v1 has a cgroup.procs too. */
    if (!fp_is_cgroup2(cgroup_fd))
        return -EBADF;
    if (is_frozen(cgroup_fd))
        return -EBUSY;
    if (mechanism == FP_MECHANISM_CLONE3_VM)
        return 0;
    long fd = FP__TRY(FP_POINT_CGROUP_OPEN, sys_open(cgroup_fd, "cgroup.procs", O_WRONLY));
    if (fd < 0)
        return fd;
    fd = fp__fd_lift((int)fd, 3);
    if (fd < 0)
        return fd;
    s->procs_fd = s->context.cgroup_fd = (int)fd;
    return 0;
}

static int spawn_once(struct fp__spawn_state *s, int mechanism, const struct fp_features *features,
                      struct fp_child *child)
{
    const struct fp_identity *identity = s->args.identity;
    int cgroup_fd = s->args.cgroup_fd;
    s->context.cwd_fd = s->args.cwd_fd; /* in shared memory, the child of an earlier attempt may have changed it */
    s->context.report_fd = s->context.gate_fd[0] = s->context.gate_fd[1] = -1;
    prepare_moves(s);
    child->mechanism = mechanism;
    if (cgroup_fd >= 0 && s->procs_fd < 0) {
        long r = open_cgroup(s, cgroup_fd, identity ? FP_MECHANISM_CLONE_VM : mechanism, child);
        if (r < 0)
            return (int)r;
    }
    if (identity)
        return fp__spawn_identity(s, mechanism, features, child);
    if (mechanism == FP_MECHANISM_POSIX_SPAWN) {
        int r = fp__posix_spawn(&s->context, &child->pid, &child->stage, &child->detail);
        if (r < 0) {
            child->pid = -1;
            return r;
        }
        long fd = fp__pidfd_open(features, child->pid);
        if (fd < -1) {
            int pid = child->pid;
            child->pid = -1;
            return fp__child_undo(child, pid, FP_STAGE_PIDFD, fd);
        }
        child->pidfd = (int)fd;
        child->stage = FP_STAGE_NONE;
        return 0;
    }
    if (mechanism == FP_MECHANISM_FORK_PIPE)
        return fp__spawn_reported(s, mechanism, features, child);
    if (mechanism != FP_MECHANISM_CLONE3_VM || cgroup_fd < 0)
        return fp__spawn_shared(s, mechanism, features, -1, child);
    int r = fp__spawn_shared(s, mechanism, features, cgroup_fd, child);
    if (child->stage != FP_STAGE_CLONE || r >= 0)
        return r;
    /* Linux 5.5 and 5.6 have this clone3, but not CLONE_INTO_CGROUP. */
    if (r == -E2BIG || r == -EINVAL)
        return spawn_once(s, FP_MECHANISM_CLONE_VM, features, child);
    if (r == -EBADF || r == -EACCES || r == -EOPNOTSUPP || r == -EBUSY)
        child->stage = FP_STAGE_CGROUP;
    return r;
}

#else

int fp_pidfd_of_child(int pid)
{
    (void)pid;
    return -1;
}

static int spawn_once(struct fp__spawn_state *s, int mechanism, const struct fp_features *features,
                      struct fp_child *child)
{
    (void)features;
    s->context.cwd_fd = s->args.cwd_fd;
    prepare_moves(s);
    child->mechanism = mechanism;
    if (mechanism != FP_MECHANISM_POSIX_SPAWN || s->args.cgroup_fd >= 0)
        return fp__fail(child, FP_STAGE_MECHANISM, -ENOTSUP);
    int r = fp__posix_spawn(&s->context, &child->pid, &child->stage, &child->detail);
    if (r < 0)
        child->pid = -1;
    return r;
}

int fp__fd_highest(void)
{
    long limit = sysconf(_SC_OPEN_MAX);
    return limit > 0 && limit < 65536 ? (int)limit - 1 : 65535;
}

#endif

/* A file that was just written may still be open for writing in a half-made child of another thread: then execve(2)
 * fails with ETXTBSY, for some milliseconds (GOTCHAS C2). A mechanism that no longer works since the probe is replaced
 * by the next one. */
static int spawn_retrying(struct fp__spawn_state *s, struct fp_child *child)
{
    struct fp_features features;
    int busy = 0, lost = 0, r;
    for (;;) {
        int mechanism = fp__mechanism_choose(&features);
        s->context.has_close_range = features.close_range;
        if (!features.close_range && s->context.highest_fd < 0)
            s->context.highest_fd = fp__fd_highest();
        r = spawn_once(s, mechanism, &features, child);
        if (r == -ETXTBSY && child->stage == FP_STAGE_EXEC && busy < FP_BUSY_TRIES) {
            struct timespec pause = {0, (long)fp__busy_pause(busy++)};
            nanosleep(&pause, NULL);
        } else if ((r == -ENOSYS || r == -EPERM || r == -EINVAL) && child->stage == FP_STAGE_CLONE && lost < 4 &&
                   fp__mechanism_lost(mechanism)) {
            lost++;
#if FP_LINUX
        } else if (r < 0 && lost < 4 && fp__launcher_lost(r, child)) {
            lost++;
        } else if (r == -E2BIG && child->stage == FP_STAGE_LAUNCHER) {
            child->stage = FP_STAGE_EXEC; /* the same strings, and a little more */
            break;
#endif
        } else {
            break;
        }
        child->stage = child->detail = 0;
    }
#if FP_LINUX
    if (r >= 0 && child->pidfd >= 0 && child->pidfd < 3) {
        int fd = fp__fd_lift(child->pidfd, 3);
        child->pidfd = fd < 0 ? -1 : fd;
    }
#endif
    return r;
}

void fp__child_close_ends(struct fp_child *child)
{
    fp__close_all(child->fd, 3);
}

int fp__spawn(struct fp__spawn_state *s, struct fp_child *child)
{
    const struct fp__spawn_args *args = &s->args;
    const struct fp_attr *attr = args->attr;
    int stage = FP_STAGE_VECTORS;

    s->context = (struct fp__context){.attr = attr,
                                      .cgroup_fd = -1,
                                      .highest_fd = -1,
                                      .report_fd = -1,
                                      .gate_fd = {-1, -1},
                                      .launcher_fd = -1,
                                      .root_fd = -1,
                                      .ruleset_fd = -1};
    s->child_end[0] = s->child_end[1] = s->child_end[2] = s->null_fd = s->procs_fd = -1;
    s->heap = s->launcher_block = NULL;
    s->ruleset_fd = s->report_fd = -1;
    s->nwanted = 0;
    fp__spawn_sweep_abandoned();
    s->unreclaimed = s->exec_unknown = s->no_pidfd = false;
    s->closed_epoch = 0;
    *child = fp__no_child(FP_STAGE_NONE);
    if (attr->size != sizeof *attr || args->argc == 0 || args->npaths == 0 || attr->nrlimits > FP_RLIMITS_MAX ||
        attr->ncpu_words > FP_CPU_WORDS)
        return fp__fail(child, FP_STAGE_VECTORS, -EINVAL);
#if FP_LINUX
    s->context.parent_pid = attr->flags & FP_ATTR_PDEATHSIG ? (int32_t)fp__sys0(SYS_getpid) : 0;
#endif
    int cancel = 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
    long r = FP__TRY(FP_POINT_VECTORS, make_vectors(s));
    if (r == 0) {
        stage = FP_STAGE_FDS;
        r = check_fds(s, child, &stage);
    }
#if FP_LINUX
    if (r == 0 && args->identity)
        r = fp__credentials_make(args->identity, &s->credentials, &stage, &child->detail);
#else
    if (r == 0 && args->identity) {
        stage = FP_STAGE_MECHANISM;
        r = -ENOTSUP;
    }
#endif
    if (r == 0)
        r = plan_stdio(s, child, &stage);
    if (r == 0) {
        stage = FP_STAGE_NONE;
        r = spawn_retrying(s, child);
    }
    close_child_fds(s);
    if (!s->unreclaimed)
        fp__vectors_free(s);
    pthread_setcancelstate(cancel, NULL);
    if (r < 0) {
        if (stage != FP_STAGE_NONE)
            child->stage = stage;
        fp__child_close_ends(child);
    }
    return (int)r;
}

/* Frees a state that is over. Otherwise the state stays with the child, or, when nobody waits for it, in the list of
 * abandoned states. */
static int finish(struct fp__spawn_state *state, int r, struct fp_child *child)
{
    child->spawn_state = NULL;
    if (r == FP_SPAWN_AGAIN) {
        child->spawn_state = state;
    } else if (r == FP_SPAWN_LATE) {
        fp__spawn_abandon(state);
    } else {
        fp__vectors_free(state);
        free(state);
    }
    return r;
}

int fp_spawn(const struct fp_attr *attr, const struct fp_identity *identity, const char *paths, uint32_t npaths,
             const char *argv, uint32_t argc, const char *env, uint32_t envc, int cwd_fd, int cgroup_fd, int in,
             int out, int err, const int32_t *fds, uint32_t nfds, int64_t timeout_ns, struct fp_child *ret_child)
{
    int saved = errno;
    struct fp__spawn_state *state = malloc(sizeof *state); /* the state may outlive this call */
    if (state == NULL) {
        errno = saved;
        *ret_child = fp__no_child(FP_STAGE_VECTORS);
        return -ENOMEM;
    }
    int64_t now = timeout_ns < 0 ? 0 : fp__now();
    state->args = (struct fp__spawn_args){
        .attr = attr,
        .identity = identity,
        .paths = paths,
        .npaths = npaths,
        .argv = argv,
        .argc = argc,
        .env = env,
        .envc = envc,
        .fds = fds,
        .nfds = nfds,
        .cwd_fd = cwd_fd,
        .cgroup_fd = cgroup_fd,
        .stdio = {in, out, err},
        .nonblock = 7,
        .until_ns = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? -1 : now + timeout_ns,
    };
    int r = finish(state, fp__spawn(state, ret_child), ret_child);
    errno = saved;
    return r;
}

int fp_spawn_resume(struct fp_child *child)
{
    int saved = errno;
    struct fp__spawn_state *state = child->spawn_state;
    if (state == NULL)
        return 0;
    int r = fp__spawn_await_exec(state, child);
    if (r < 0) {
        fp__vectors_free(state);
        fp__child_close_ends(child);
        if (r == -ETXTBSY && child->stage == FP_STAGE_EXEC) /* once more, with its pauses */
            r = fp__spawn(state, child);
    }
    r = finish(state, r, child);
    errno = saved;
    return r;
}

void fp_spawn_abandon(struct fp_child *child)
{
    if (child->spawn_state != NULL)
        fp__spawn_abandon(child->spawn_state);
    child->spawn_state = NULL;
}
