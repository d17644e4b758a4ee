/* internal.h: what the C files share: raw system calls, constants that old headers lack, the child's context, and the
 * functions (fp__...) that one file exports to others.
 *
 * Raw calls are used on both sides of clone: they do not touch errno, are not cancellation points, and need no PLT. */
#ifndef FASTPROC_INTERNAL_H
#define FASTPROC_INTERNAL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "fastproc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__) && !defined(FP_PORTABLE)
#define FP_LINUX 1
#else
#define FP_LINUX 0
#endif

#define FP_NSEC 1000000000LL

static inline int64_t fp__now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * FP_NSEC + ts.tv_nsec;
}

/* The pause before the next try of a file that is open for writing (GOTCHAS C2): 1, 4, 16, 64 ms. */
static inline int64_t fp__busy_pause(int tries)
{
    return (int64_t)FP_BUSY_PAUSE_NS << (2 * tries);
}

#if FP_LINUX
#include <sys/syscall.h>

#if defined(__x86_64__)
static inline long fp__sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
static inline long fp__sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
    return x0;
}
#else
#error "fastproc: no raw system calls for this architecture; build with -DFP_PORTABLE"
#endif

#define fp__sys0(nr) fp__sys6((nr), 0, 0, 0, 0, 0, 0)
#define fp__sys1(nr, a) fp__sys6((nr), (long)(a), 0, 0, 0, 0, 0)
#define fp__sys2(nr, a, b) fp__sys6((nr), (long)(a), (long)(b), 0, 0, 0, 0)
#define fp__sys3(nr, a, b, c) fp__sys6((nr), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define fp__sys4(nr, a, b, c, d) fp__sys6((nr), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define fp__sys5(nr, a, b, c, d, e) fp__sys6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

/* A spin lock for a few system calls. Its word is the pid of the process whose thread holds it, or 0. A forked copy has
 * no thread but the one that forked, so it takes over a lock that a thread of its parent held; fp__lock() returns true
 * then. */
static inline bool fp__lock(_Atomic int32_t *word, int32_t self)
{
    for (;;) {
        int32_t holder = 0;
        if (atomic_compare_exchange_weak_explicit(word, &holder, self, memory_order_acquire, memory_order_relaxed))
            return false;
        if (holder != 0 && holder != self &&
            atomic_compare_exchange_strong_explicit(word, &holder, self, memory_order_acquire, memory_order_relaxed))
            return true;
        fp__sys0(SYS_sched_yield);
    }
}

static inline void fp__unlock(_Atomic int32_t *word)
{
    atomic_store_explicit(word, 0, memory_order_release);
}

static inline void fp__close(int fd)
{
    /* Never repeated after EINTR: Linux has freed the number by then, and a second close would hit another owner's file
     * (close(2); GOTCHAS C11). */
    fp__sys1(SYS_close, fd);
}
#else
static inline void fp__close(int fd)
{
    int saved = errno;
    close(fd);
    errno = saved;
}
#endif

/* Closes the descriptors that are not -1, and sets them to -1. */
static inline void fp__close_all(int *fds, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (fds[i] >= 0)
            fp__close(fds[i]);
        fds[i] = -1;
    }
}

/* Constants, with the kernel that introduced them. Each can go when that kernel is the oldest supported one. */
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000 /* 5.2 */
#endif
#define FP__CLONE_CLEAR_SIGHAND 0x100000000ULL /* 5.5 */
#define FP__CLONE_INTO_CGROUP 0x200000000ULL   /* 5.7 */
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424 /* 5.1 */
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* 5.3 */
#endif
#ifndef SYS_clone3
#define SYS_clone3 435 /* 5.3 */
#endif
#ifndef SYS_close_range
#define SYS_close_range 436 /* 5.9 */
#endif
#ifndef SYS_openat2
#define SYS_openat2 437 /* 5.6 */
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444 /* 5.13 */
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#define FP__P_PIDFD 3          /* 5.4 */
#define FP__CLONE_NEWTIME 0x80 /* 5.6 */
#define FP__CLONE_NEWUSER 0x10000000
#define FP__CLONE_NEWPID 0x20000000
#define FP__CLONE_NEWNS 0x00020000
#define FP__WALL 0x40000000
#define FP__PR_SET_CHILD_SUBREAPER 36 /* 3.4 */

/* struct clone_args of clone3(2), as of 5.7. */
struct fp__clone_args {
    uint64_t flags;
    uint64_t pidfd;
    uint64_t child_tid;
    uint64_t parent_tid;
    uint64_t exit_signal;
    uint64_t stack;
    uint64_t stack_size;
    uint64_t tls;
    uint64_t set_tid;
    uint64_t set_tid_size;
    uint64_t cgroup;
};
#define FP__CLONE_ARGS_V0 64
#define FP__CLONE_ARGS_V2 88

/* Two structs of the kernel, the same on x86_64 and aarch64: of getdents64(2), and of rt_sigaction(2), which differs
 * from the C library's. */
struct fp__dirent {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};
struct fp__sigaction {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

/* What the child reports: report.c. */
struct fp__report {
    int32_t stage;
    int32_t error;
    int32_t detail;
    int32_t alive;
    uint64_t stops; /* stop signals that the child discarded: the parent sends them again after the exec */
};

/* The credentials that the child shall have, with those of the parent taken into account. Plain data: the launcher gets
 * a copy. */
struct fp__child_credentials {
    uint32_t flags; /* FP_ID_* */
    uint32_t uid;
    uint32_t gid;
    uint32_t ngroups;
    uint32_t nfilter;
    uint32_t namespaces;
    uint32_t securebits;
    uint32_t parent_uid; /* must not be possible to get back */
    uint32_t parent_gid;
    uint32_t reserved;
    uint64_t parent_permitted; /* the launcher keeps no more than these */
    uint64_t effective;
    uint64_t permitted;
    uint64_t inheritable;
    uint64_t ambient;
    uint64_t bounding;
    int64_t time_offset_ns[2];
};

/* Identifies a file, by inode and device; with who may write to it. */
struct fp__file_id {
    uint64_t inode;
    uint32_t major;
    uint32_t minor;
    uint32_t uid;
    uint32_t mode;
};

struct fp__move {
    int32_t to;
    int32_t from;
    int32_t lift; /* an earlier move overwrites `from`: copy it first */
};

/* Everything that the child reads. The parent fills it before the clone. */
struct fp__context {
    const struct fp_attr *attr;
    const char *const *paths;
    uint32_t npaths;
    uint32_t nmoves;
    char *const *argv;
    char *const *envp; /* only this child uses the vector */
    char listen_pid[24];
    struct fp__move *moves;
    const int32_t *keep; /* sorted numbers that stay open, with 0 to 2 */
    uint32_t nkeep;
    int32_t highest_fd; /* of the parent, where close_range(2) is refused; else -1 */
    int32_t cwd_fd;
    int32_t lifted_cwd; /* posix_spawn: a copy of cwd_fd to close, or -1 */
    int32_t cgroup_fd;  /* cgroup.procs, where clone3 did not place the child; else -1 */
    int32_t report_fd;  /* fork_pipe, launcher; else -1 */
    int32_t gate_fd[2]; /* the child waits here for its pidfd or its maps; else -1 */
    /* The fields below are set with an identity. */
    const struct fp__child_credentials *credentials; /* or NULL */
    uint32_t *groups;                                /* with room for as many after them */
    const uint64_t *filter;
    char *const *launcher_argv; /* or NULL: the child does all steps itself */
    struct fp__file_id launcher_id;
    int32_t launcher_fd;
    int32_t root_fd;
    int32_t ruleset_fd;
    bool gated;         /* a byte opens the gate; without a byte the parent is gone */
    bool shares_memory; /* the ids change in the parent's memory: shared.c */
    int32_t parent_pid;
    int32_t tty_fd;    /* for FOREGROUND; the parent's number */
    bool parent_waits; /* until the exec */
    bool sighand_cleared;
    bool has_close_range;
    uint64_t parent_mask;
    volatile struct fp__report *report;
};

/* For functions of the child: no instrumentation, which would use memory of the parent's threads or call a library. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 11)
#define FP__BARE __attribute__((no_sanitize("address", "undefined", "thread"), no_stack_protector))
#else
#define FP__BARE __attribute__((no_sanitize("address", "undefined", "thread")))
#endif

/* Returns the index of the first of these sorted numbers that is not below fd. */
static inline FP__BARE uint32_t fp__keep_from(const int32_t *keep, uint32_t nkeep, long fd)
{
    uint32_t lo = 0, hi = nkeep;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (keep[mid] < fd)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static inline FP__BARE bool fp__is_kept(const int32_t *keep, uint32_t nkeep, int32_t fd)
{
    uint32_t at = fp__keep_from(keep, nkeep, fd);
    return at < nkeep && keep[at] == fd;
}

/* execvp(3)'s order of errors: continue after "not here" and "not allowed" (EACCES, which is remembered), stop at any
 * other error. */
static inline FP__BARE bool fp__exec_goes_on(long error)
{
    return error == EACCES || error == ENOENT || error == ENOTDIR || error == ENODEV || error == ESTALE ||
           error == ETIMEDOUT || error == ENAMETOOLONG;
}

/* child.c: fp__child_main() runs the step table and executes, and never returns. fp__child_finish() is the launcher's
 * part. */
int fp__child_main(void *context);
void fp__child_finish(struct fp__context *c);
void fp__send_report(struct fp__context *c);

#define FP__IN_LAUNCHER -2 /* the value of launcher_fd in the launcher */
/* identity.c: the steps that change the child's identity. */
struct fp__capabilities {
    uint64_t effective, permitted, inheritable;
};
long fp__capabilities_get(struct fp__capabilities *ret_capabilities); /* of the calling thread */
#define FP__NOT_VERIFIED EPROTO /* a call returned success, and what is read back differs */
long fp__step_gate(struct fp__context *c);
long fp__step_namespaces(struct fp__context *c);
long fp__step_chroot(struct fp__context *c);
long fp__step_launcher(struct fp__context *c);
long fp__step_in_launcher(struct fp__context *c);
long fp__step_securebits(struct fp__context *c);
long fp__step_bounding(struct fp__context *c);
long fp__step_keyring(struct fp__context *c);
long fp__step_groups(struct fp__context *c);
long fp__step_gid(struct fp__context *c);
long fp__step_uid(struct fp__context *c);
long fp__step_capabilities(struct fp__context *c);
long fp__step_ambient(struct fp__context *c);
long fp__step_locks(struct fp__context *c);
long fp__step_verify_irrevocable(struct fp__context *c);
long fp__step_no_new_privs(struct fp__context *c);
long fp__step_landlock(struct fp__context *c);
long fp__step_seccomp(struct fp__context *c);
bool fp__same_place(int fd, const char *path);
long fp__file_id(int fd, const char *path, struct fp__file_id *ret_id);
bool fp__same_file(const struct fp__file_id *a, const struct fp__file_id *b);
long fp__proc_open(const char *path, int access);
#define FP__PROC_SUPER_MAGIC 0x9fa0
/* A system call of a step. In builds with fault points it can be made to fail, or to do nothing and return success. */
#ifdef FP_FAULTS
long fp__call(long nr, long a, long b, long c, long d, long e);
#elif FP_LINUX
static inline long fp__call(long nr, long a, long b, long c, long d, long e)
{
    return fp__sys6(nr, a, b, c, d, e, 0);
}
#endif

/* credentials.c: the parent's half of an identity. */
struct fp__launcher_message;
long fp__credentials_make(const struct fp_identity *identity, struct fp__child_credentials *credentials, int *ret_stage,
                          int32_t *ret_detail);
long fp__launcher_fd(struct fp__file_id *ret_id);
void fp__launcher_refuse(int error);
int fp__launcher_refused(void);
long fp__launcher_arguments(const struct fp__context *c, void **ret_block);
long fp__maps_write(const struct fp_identity *identity, int pid);
#define FP__PROC_PATH 48
void fp__proc_path(char path[FP__PROC_PATH], int pid, const char *name); /* /proc/PID/NAME, without the C library */
#define FP__CHUNK 65536
/* The launcher's first arguments: this, the list of groups, the filter; two letters for each byte. */
struct fp__launcher_message {
    uint32_t size;
    uint32_t chunks; /* arguments that hold all of it */
    uint32_t npaths; /* arguments after them */
    int32_t report_fd;
    int32_t ruleset_fd;
    int32_t parent_pid;
    uint32_t parent_waits;
    int32_t fault[13]; /* for builds with fault points */
    uint64_t parent_mask;
    struct fp__child_credentials credentials;
    struct fp_attr attr;
};
int fp__child_probe(void *report);
struct fp__attempt {
    long nr;
    long args[2];
};
struct fp__attempts {
    const struct fp__attempt *list;
    size_t n;
};
int fp__child_attempt(void *attempts);

/* features.c: what the probe found. */
int fp__mechanism_forced(void);
#if FP_LINUX
bool fp__features_known(struct fp_features *ret_features);
void fp__features_keep(const struct fp_features *features);
bool fp__may_signal_by_pidfd(void);
#endif

/* fds.c, the parent's half. moves and keep have room for nfds + 3 and nfds + 4 entries. */
void fp__fdmap_prepare(struct fp__context *context, int32_t *keep);
int fp__fd_lift(int fd, int floor);
int fp__fd_copy_aside(int fd, const int32_t *keep, uint32_t nkeep);
int fp__fd_highest(void);

/* clone.c */
int fp__mask_block(uint64_t *ret_mask);
void fp__mask_restore(uint64_t mask);
struct fp__stack {
    char *base; /* the guard page is first */
    char *top;
};
int fp__stack_take(struct fp__stack *ret_stack);
void fp__stack_give(struct fp__stack *stack);
struct fp__clone_options {
    struct fp__stack *stack;
    int cgroup_fd;
    bool want_pidfd;
    uint32_t namespaces;            /* CLONE_NEW* at birth */
    int exit_signal;                /* clone3_vm */
    _Atomic int32_t *memory_in_use; /* clone3_vm: no vfork; 0 when the child has left our memory */
};
long fp__clone(int mechanism, int (*fn)(void *), void *arg, const struct fp__clone_options *options, int *ret_pidfd);
struct fp__report *fp__report_map(void);
void fp__report_unmap(struct fp__report *report);

/* shared_vm.c: the mask that children of this thread inherit instead of its own, or NULL. */
extern _Thread_local const uint64_t *fp__child_mask;
static inline uint64_t fp__inherited_mask(uint64_t own)
{
    return fp__child_mask ? *fp__child_mask : own;
}

/* posix.c */
int fp__posix_spawn(struct fp__context *context, int *ret_pid, int *ret_stage, int *ret_detail);

/* probe.c */
int fp__mechanism_choose(struct fp_features *ret_features);
bool fp__mechanism_lost(int mechanism);

/* spawn.c */

/* The arguments of a spawn. What they point to must stay until the child has executed. */
struct fp__spawn_args {
    const struct fp_attr *attr;
    const struct fp_identity *identity; /* or NULL */
    const char *paths, *argv, *env;
    const int32_t *fds;
    uint32_t npaths, argc, envc, nfds;
    int cwd_fd, cgroup_fd;
    int stdio[3];
    int nonblock;         /* a bit for the pipe of each standard stream */
    int64_t until_ns;     /* when to stop waiting for the exec, or -1 */
    bool report_later;    /* with deferred: the caller will call fp__spawn_verdict() or fp__spawn_close_report() */
    bool deferred;        /* do not wait for the exec, where that is possible */
    bool no_pidfd;        /* with deferred: no pidfd where only the caller can reap; SIGCHLD stays blocked then */
    bool sigchld_blocked; /* with no_pidfd: the caller has blocked SIGCHLD */
};

/* What a spawn makes and the child uses, from the first system call until the exec: see spawn_state.c. */
#define FP__LOCAL_BYTES 6144
struct fp__spawn_state {
    struct fp__context context;
    struct fp__spawn_args args;
    struct fp__report report;
    struct fp__stack stack;
    struct fp__spawn_state *next;  /* in the list of abandoned states */
    _Atomic int32_t memory_in_use; /* clone3_vm: cleared by the kernel when the child has left our memory */
    bool unreclaimed;              /* clone3_vm: the stack and the vectors were not taken back yet */
    bool exec_unknown;             /* clone3_vm: whether it executed is not known yet */
    bool no_pidfd;                 /* the child has no pidfd, and SIGCHLD was blocked for it */
    int child_end[3];
    int null_fd;
    int procs_fd;
    int32_t *keep;
    void *heap;
    struct fp__child_credentials credentials;
    int32_t child_pid;    /* of a child for which the memory is closed */
    int32_t closed_epoch; /* the epoch in which the memory was closed for this child (shared.c), or 0 */
    void *launcher_block;
    int ruleset_fd;            /* a copy off the numbers of the moves, or -1 */
    int report_fd;             /* the launcher's report, read when the child has ended; else -1 */
    struct fp__move wanted[3]; /* the moves of the standard streams */
    uint32_t nwanted;
    char local[FP__LOCAL_BYTES] __attribute__((aligned(16)));
};

#define FP__DEFERRED FP_SPAWN_AGAIN

/* state->args is filled. Returns as fp_spawn() does; or, with `deferred`, FP__DEFERRED: the child lives and may not
 * have executed yet. Then fp__spawn_reclaim() returns whether it has left our memory, and
 * fp__spawn_verdict(), once it is dead, whether it ever executed. */
int fp__spawn(struct fp__spawn_state *state, struct fp_child *child);
void fp__child_close_ends(struct fp_child *child);
long fp__pipe(uint32_t size, int ends[2]);
#if FP_LINUX
long fp__pidfd_of_child(int pid);

/* shared_vm.c */
int fp__child_undo(struct fp_child *child, int pid, int stage, long error);
int fp__spawn_deferred(struct fp__spawn_state *state, const struct fp_features *features, int cgroup_fd,
                       struct fp_child *child);
int fp__spawn_shared(struct fp__spawn_state *state, int mechanism, const struct fp_features *features, int cgroup_fd,
                     struct fp_child *child);

/* reported.c: as fp__spawn(), by one mechanism. */
int fp__spawn_reported(struct fp__spawn_state *state, int mechanism, const struct fp_features *features,
                       struct fp_child *child);
int fp__spawn_identity(struct fp__spawn_state *state, int mechanism, const struct fp_features *features,
                       struct fp_child *child);
bool fp__launcher_lost(int r, struct fp_child *child);
#endif
static inline struct fp_child fp__no_child(int stage)
{
    return (struct fp_child){.pid = -1, .pidfd = -1, .fd = {-1, -1, -1}, .stage = stage};
}
static inline int fp__fail(struct fp_child *child, int stage, long r)
{
    child->stage = stage;
    return (int)r;
}

/* shared.c: closes the memory before a child changes its ids in it, or returns false where that must not be; and opens
 * it when the child has left. */
bool fp__memory_close(struct fp__spawn_state *state);
void fp__memory_open(struct fp__spawn_state *state);
bool fp__memory_left(const struct fp__spawn_state *state, bool dead);
/* The dumpable flag of this process as it is without such children. A new value takes effect when they have left. */
int fp__dumpable_get(void);
int fp__dumpable_set(int on);

/* spawn_state.c */

/* Evaluates the report of a child that executed, failed or died. Returns 0 only when it executed; otherwise the child
 * is reaped and the pidfd closed. */
int fp__report_read(struct fp__report report, int pidfd, int pid, struct fp_child *child);
void fp__vectors_free(struct fp__spawn_state *state);
void fp__spawn_close_report(struct fp__spawn_state *state); /* the launcher's report is not read */
void fp__spawn_child_left(struct fp__spawn_state *state);   /* the caller knows that it has */
bool fp__spawn_reclaim(struct fp__spawn_state *state);
int fp__spawn_verdict(struct fp__spawn_state *state, int sig, struct fp_child *child);
/* Sleeps until the child has left our memory, at most timeout_ns. Returns 0 or a negative errno of futex(2). */
long fp__spawn_await_left(struct fp__spawn_state *state, int64_t timeout_ns);
/* Waits for the exec. Returns 0, a negative errno, FP_SPAWN_AGAIN, or FP_SPAWN_LATE when time was over and the child
 * was killed. */
int fp__spawn_await_exec(struct fp__spawn_state *state, struct fp_child *child);
/* Frees the block that begins with this state: now, or in a later spawn when the child, which was killed, has not left
 * yet. */
void fp__spawn_abandon(struct fp__spawn_state *state);
void fp__spawn_sweep_abandoned(void);

/* sink.c */
#define FP__PIPE_LARGE (1 << 20) /* the size that a pipe gets which was full once */
char *fp__sink_room(struct fp_sink *sink, int fd, size_t *room);
void fp__sink_rest(struct fp_sink *sink, size_t came);
void fp__sink_free(struct fp_sink *sink);

/* run.c, for files that drive several jobs. Where a child cannot be polled for (no pidfd, a tracer), fp__job_pollfds()
 * makes *until earlier. */
#define FP__JOB_FDS 4
struct pollfd;
static inline bool fp__job_has_exited(const struct fp_job *job)
{
    return job->status.state != FP_WAIT_RUNNING;
}
static inline bool fp__job_has_pipes(const struct fp_job *job)
{
    return job->child.fd[1] >= 0 || job->child.fd[2] >= 0;
}
static inline int64_t fp__earlier(int64_t a, int64_t b) /* -1 is never */
{
    if (a < 0)
        return b;
    return b < 0 || a < b ? a : b;
}
/* How long other processes may keep the outputs open after the end: `drain_ns`, or less after a deadline. */
static inline int64_t fp__job_drain(const struct fp_job *job, int64_t drain_ns)
{
    bool late = job->flags & FP_JOB_TIMED_OUT && (drain_ns < 0 || drain_ns > FP_HELD_BY_OTHERS_NS);
    return late ? FP_HELD_BY_OTHERS_NS : drain_ns;
}
/* When the child gets its pidfd: at once; later, if nobody else can reap it; later, as the caller has made sure of
 * that. */
#define FP__PIDFD_NOW 0
#define FP__PIDFD_LATER_IF_SAFE 1
#define FP__PIDFD_LATER 2
int fp__job_begin(const struct fp_request *request, const char *paths, uint32_t npaths, const char *argv, uint32_t argc,
                  const char *env, uint32_t envc, bool deferred, bool report_later, int pidfd, struct fp_job *job);
bool fp__job_has_no_pidfd(const struct fp_job *job);
void fp__job_open_pidfd(struct fp_job *job, bool more);
bool fp__sigchld_block(void);
void fp__sigchld_unblock(void);
int fp__wait_for_sigchld(int64_t until);
/* Waits for the exec of a job that did not wait, and makes its child again where the file was busy. */
int fp__job_await_exec(struct fp_job *job, int64_t until);
unsigned fp__job_pollfds(struct fp_job *job, struct pollfd *fds, bool watch_end, int64_t *until);
bool fp__job_handle_ready(struct fp_job *job, const struct pollfd *fds, unsigned n); /* whether the pidfd was ready */
void fp__job_feed(struct fp_job *job);
void fp__job_try_reap(struct fp_job *job);
void fp__job_break_off(struct fp_job *job, long error);
void fp__job_ask_to_end(struct fp_job *job); /* as its deadline would */
int64_t fp__job_apply_deadlines(struct fp_job *job);
bool fp__job_is_over(const struct fp_job *job);
int fp__job_finish(struct fp_job *job, int result);
int fp__wait_for(struct pollfd *fds, unsigned n, int64_t until);
bool fp__is_single_threaded(void);
#if FP_LINUX
bool fp__sigpipe_block(uint64_t *ret_old);
void fp__sigpipe_unblock(uint64_t old, bool was_pending);
#endif

/* run.c: stops watching a descriptor, 0 to 2 for the streams. Harmless where nothing is watched. */
#define FP__JOB_PIDFD 3
void fp__job_unwatch(struct fp_job *job, int slot);

/* pidfd.c: returns the pidfd of a child that has none, or -1. */
#if FP_LINUX
long fp__pidfd_open(const struct fp_features *features, int pid);
/* Looks at a child without reaping it. Returns 0 or a negative errno; info->si_pid is 0 where nothing has happened.
 * `more`: further flags of waitid(2). It uses the pidfd where there is one, as a later child can have the same pid. */
long fp__look(int pidfd, int pid, int more, siginfo_t *info);
#endif

/* wait.c */
int fp__reap_before_exec(int pidfd, int pid);

/* faults.c */
#ifdef FP_FAULTS
struct fp__fault {
    int point;
    int error;
    int nth;
    int hits;
    int first; /* FP_POINT_CALL: its first argument; nth is its number */
    int moved; /* fp_fault_order() */
    int other;
    int after;
    int hit; /* fp_fault_also() */
    int also;
    int arguments[3];
};
extern struct fp__fault fp__fault;
int fp__fault_check(int point);
/* Makes the call, or returns the armed error instead. */
#define FP__TRY(point, call) (fp__fault_check(point) ? -(long)fp__fault.error : (long)(call))
#else
#define FP__TRY(point, call) ((long)(call))
#endif

#endif
