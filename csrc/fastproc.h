/* fastproc.h: the whole contract of the C core.
 *
 * build_ffi.py reads the text between the two `cdef` markers and passes it to cffi, so there is no second copy of any
 * declaration. Inside it the only preprocessor lines are integer #defines.
 *
 * Conventions. A function returns 0 or a non-negative result on success, and a negative errno on failure; it never
 * changes errno. The caller owns every buffer that it passes. Nothing that is returned must be freed, except what a
 * struct fp_job holds, by fp_job_close(), and what a function's comment names. After a failure no descriptor, child or
 * mapping is left. */
#ifndef FASTPROC_H
#define FASTPROC_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* cdef-begin */

/* The set-up step that failed. The child's stages are in the order in which they run, which the kernel's rules
 * force. */
enum fp_stage {
    FP_STAGE_NONE = 0,
    /* parent, before the child exists */
    FP_STAGE_REDIRECT = 1,  /* opening a file for stdin, stdout, stderr (by the caller) */
    FP_STAGE_VECTORS = 2,   /* memory for the argument and environment vectors */
    FP_STAGE_PIPE = 3,      /* pipe2(2), fcntl(2) on the pipes */
    FP_STAGE_NULL = 4,      /* opening /dev/null */
    FP_STAGE_STACK = 5,     /* mmap(2) of the child's stack and report */
    FP_STAGE_MECHANISM = 6, /* the chosen mechanism does not support an option */
    FP_STAGE_MASK = 7,      /* blocking the signals of the calling thread */
    FP_STAGE_CLONE = 8,     /* clone3(2), clone(2), posix_spawn(3) */
    FP_STAGE_PIDFD = 9,     /* pidfd_open(2), where clone could not give the pidfd */
    FP_STAGE_REPORT = 10,   /* reading the child's report */
    /* child, between clone and exec */
    FP_STAGE_BORN = 32,
    FP_STAGE_CGROUP = 33,
    FP_STAGE_SIGNALS = 34,
    FP_STAGE_SETSID = 35,
    FP_STAGE_SETPGID = 36,
    FP_STAGE_CTTY = 37,
    FP_STAGE_FOREGROUND = 38,
    FP_STAGE_FDS = 39,
    FP_STAGE_NAMESPACES = 40,
    FP_STAGE_OOM_SCORE_ADJ = 41,
    FP_STAGE_CHROOT = 42,
    FP_STAGE_CWD = 43,
    FP_STAGE_NICE = 44,
    FP_STAGE_SCHEDULER = 45,
    FP_STAGE_AFFINITY = 46,
    FP_STAGE_IONICE = 47,
    FP_STAGE_TIMER_SLACK = 48,
    FP_STAGE_UMASK = 49,
    FP_STAGE_CLOSE_FDS = 50,
    FP_STAGE_LISTEN_PID = 51,
    FP_STAGE_LAUNCHER = 52, /* executing the launcher, where it runs the following steps */
    FP_STAGE_RLIMITS = 53,
    FP_STAGE_SECUREBITS = 54,
    FP_STAGE_BOUNDING = 55,
    FP_STAGE_KEYRING = 56, /* a new session keyring */
    FP_STAGE_GROUPS = 57,
    FP_STAGE_GID = 58,
    FP_STAGE_UID = 59,
    FP_STAGE_CAPABILITIES = 60,
    FP_STAGE_AMBIENT = 61,
    FP_STAGE_LOCKS = 62,              /* the securebits that would block the ambient set; the last capset(2) */
    FP_STAGE_VERIFY_IRREVOCABLE = 63, /* proving that what was given up cannot be got back */
    FP_STAGE_PDEATHSIG = 64,
    FP_STAGE_SUBREAPER = 65,
    FP_STAGE_NO_NEW_PRIVS = 66,
    FP_STAGE_LANDLOCK = 67,
    FP_STAGE_SECCOMP = 68,
    FP_STAGE_SIGMASK = 69,
    FP_STAGE_EXEC = 70,
};

/* How the child was made, best first. */
enum fp_mechanism {
    FP_MECHANISM_AUTO = 0,
    FP_MECHANISM_CLONE3_VM = 1,   /* clone3, shared memory, own stack; the kernel resets handlers */
    FP_MECHANISM_CLONE_VM = 2,    /* clone, shared memory, own stack */
    FP_MECHANISM_CLONE = 3,       /* clone without shared memory; the report is in a shared page */
    FP_MECHANISM_POSIX_SPAWN = 4, /* the C library's posix_spawn; only some options */
    FP_MECHANISM_FORK_PIPE = 5,   /* fork and a report pipe: where nothing else works */
    FP_MECHANISM_LAUNCHER = 6,    /* with an identity: one of the first two, then the launcher */
};

#define FP_ATTR_SETSID 1
#define FP_ATTR_PGID 2
#define FP_ATTR_CTTY 4
#define FP_ATTR_FOREGROUND 8
#define FP_ATTR_UMASK 16
#define FP_ATTR_NICE 32
#define FP_ATTR_IONICE 64
#define FP_ATTR_AFFINITY 128
#define FP_ATTR_SCHEDULER 256
#define FP_ATTR_OOM_SCORE_ADJ 512
#define FP_ATTR_KEEP_SIGMASK 1024
#define FP_ATTR_PDEATHSIG 2048
#define FP_ATTR_NO_NEW_PRIVS 4096
#define FP_ATTR_TIMER_SLACK 8192
#define FP_ATTR_KEEP_FDS 16384
#define FP_ATTR_SUBREAPER 32768
#define FP_ATTR_LISTEN_PID 65536 /* the child puts its pid into LISTEN_PID, which the environment must have */

#define FP_RLIMITS_MAX 16
#define FP_CPU_WORDS 16

struct fp_rlimit {
    int32_t resource;
    uint32_t reserved;
    uint64_t soft;
    uint64_t hard;
};

/* Belongs to the command: filled once, never changed, may be shared by threads. size must be sizeof(struct fp_attr). */
struct fp_attr {
    uint32_t size;
    uint32_t flags;
    int32_t pgid;
    int32_t ctty_fd;
    uint32_t umask;
    int32_t nice;
    int32_t ionice; /* class << 13 | level, ioprio_set(2) */
    int32_t sched_policy;
    int32_t sched_priority;
    int32_t oom_score_adj;
    int32_t pdeathsig;
    uint32_t pipe_size; /* bytes; 0: the kernel's default */
    uint64_t timer_slack_ns;
    uint64_t sigmask;    /* bit n-1 is signal n */
    uint64_t sigdefault; /* to SIG_DFL */
    uint64_t sigignore;  /* to SIG_IGN, after sigdefault */
    uint32_t nrlimits;
    uint32_t ncpu_words;
    uint64_t cpus[FP_CPU_WORDS];
    struct fp_rlimit rlimits[FP_RLIMITS_MAX];
};

#define FP_ID_UID 1
#define FP_ID_GID 2
#define FP_ID_GROUPS 4
#define FP_ID_CAPS 8 /* effective, permitted, inheritable, ambient; without it `ambient` is added to the sets */
#define FP_ID_AMBIENT 16
#define FP_ID_BOUNDING 32
#define FP_ID_SECUREBITS 64
#define FP_ID_ROOT_HIDDEN 256    /* no Landlock rule lets / be listed: listing it must fail, which proves the ruleset */
#define FP_ID_DENY_SETGROUPS 128 /* before gid_map is written (user_namespaces(7)) */

/* The child's identity and privileges. The child reads back the result of each step before it executes, and proves that
 * root cannot be got back. A uid other than 0 without FP_ID_CAPS leaves no capability except the ambient ones that are
 * given. */
struct fp_identity {
    uint32_t flags;
    uint32_t uid; /* 0 without its flag; gid too */
    uint32_t gid;
    uint32_t ngroups;
    const uint32_t *groups; /* ascending, each once */
    uint64_t effective;
    uint64_t permitted;
    uint64_t inheritable;
    uint64_t ambient;
    uint64_t bounding; /* the capabilities that stay in it */
    uint32_t securebits;
    uint32_t namespaces; /* CLONE_NEW* */
    const char *uid_map; /* the text for /proc/PID/uid_map, or NULL */
    const char *gid_map;
    int64_t time_offset_ns[2]; /* of the monotonic and the boottime clock; needs CLONE_NEWTIME */
    const uint64_t *filter;    /* seccomp(2): struct sock_filter */
    uint32_t nfilter;
    int32_t root_fd;    /* the new root directory, or -1; the child's directory is / then, unless cwd_fd is given */
    int32_t ruleset_fd; /* landlock_create_ruleset(2), or -1 */
};

/* The values for a standard stream, besides a descriptor number of the parent (>= 0). */
#define FP_STDIO_INHERIT -1
#define FP_STDIO_PIPE -2
#define FP_STDIO_NULL -3
#define FP_STDIO_STDOUT -4 /* stderr only: the same as stdout */
#define FP_STDIO_STDERR -5 /* stdout only: the same as stderr */
/* The parent's stream of that name, for any of the child's streams; /dev/null when it is closed. */
#define FP_STDIO_PARENT_STDOUT -6
#define FP_STDIO_PARENT_STDERR -7

/* The result of fp_spawn(). On failure pid, pidfd and the pipe ends are -1, and stage and detail say what failed.
 * detail: the child's descriptor number, the index of the rlimit, or the index of the PATH candidate. A child that died
 * before its exec without a report gives -ECANCELED, the stage that it had reached, and in detail the signal (0:
 * unknown). */
struct fp_child {
    int32_t pid;
    int32_t pidfd;
    int32_t fd[3]; /* the parent's ends of the pipes: stdin, stdout, stderr; non-blocking, close-on-exec */
    int32_t stage;
    int32_t detail;
    int32_t mechanism;
    void *spawn_state; /* after FP_SPAWN_AGAIN: the spawn that is waited for */
};

/* Time limits in nanoseconds, for callers too. */
#define FP_SLICE_NS 50000000           /* a call returns this often, so that the caller's signal handlers can run */
#define FP_PIDFD_AFTER_NS 5000000      /* a child that nobody else can reap gets its pidfd after this long */
#define FP_EXECS_NS 50000000           /* longest wait for the execs of a pipeline's commands */
#define FP_BUSY_TRIES 4                /* tries again of a file that is open for writing (ETXTBSY) */
#define FP_BUSY_PAUSE_NS 1000000       /* the pause before the first of them; each later one is four times as long */
#define FP_HELD_BY_OTHERS_NS 100000000 /* after a deadline: longest wait for pipes that other processes hold */
#define FP_CTRL_C_NS 40000000          /* how long an interrupted child may take to end by itself */
#define FP_DEATH_NS 5000000000         /* longest wait for the end of a killed child */
#define FP_TRACED_NS 100000000         /* how often a killed child that is still there is looked at */
#define FP_POOL_POLLED_NS 5000000      /* a pool's thread polls a child by ppoll(2) for this long */
#define FP_POOL_STARVED_NS 10000000    /* a pool that lacked resources tries again after this long */
#define FP_POOL_LINGER_NS 300000       /* how long a consumer that wants several results waits for more */

#define FP_SPAWN_AGAIN 1 /* a signal arrived, or the slice is over: call fp_spawn_resume() */
#define FP_SPAWN_LATE 2  /* time was over before the exec: the child was killed, and is not reaped */

#define FP_WAIT_RUNNING 0   /* not yet */
#define FP_WAIT_EXITED 1    /* status and usage are from the kernel */
#define FP_WAIT_RECOVERED 2 /* somebody else reaped it: the status is from PIDFD_GET_INFO, the usage is unknown */
#define FP_WAIT_UNKNOWN 3   /* somebody else reaped it, and the kernel does not report the status */
#define FP_WAIT_STOPPED 4   /* only when asked for */
#define FP_WAIT_CONTINUED 5 /* only when asked for */

#define FP_WAIT_NOHANG 1
#define FP_WAIT_UNTRACED 2
#define FP_WAIT_CONTINUE 4

struct fp_usage {
    int64_t utime_us;
    int64_t stime_us;
    int64_t maxrss; /* KiB */
    int64_t minflt;
    int64_t majflt;
    int64_t inblock;
    int64_t oublock;
    int64_t nvcsw;
    int64_t nivcsw;
};

struct fp_status {
    int32_t state;      /* FP_WAIT_* */
    int32_t returncode; /* exit code, or minus the signal; the signal for STOPPED */
    int32_t core_dumped;
    int32_t reserved;
    struct fp_usage usage;
};

#define FP_JOB_FIXED 65536

#define FP_JOB_DONE 0
#define FP_JOB_AGAIN 1 /* a signal arrived or the slice is over: call fp_run_resume() */

#define FP_JOB_TIMED_OUT 1
#define FP_JOB_TERMINATED 2 /* SIGTERM was sent */
#define FP_JOB_KILLED 4     /* SIGKILL was sent */
#define FP_JOB_PIPES_OPEN 8 /* the child has exited, but other processes still hold a pipe */

/* One captured stream. Its first bytes are in the fixed buffer; when there are more, all bytes are in heap. */
struct fp_sink {
    uint64_t len;
    uint64_t cap;
    char *heap;
    uint64_t ready; /* pages are made up to here */
    int32_t wide;   /* its pipe was made larger */
    int32_t slow;   /* huge pages that came slowly */
    char fixed[FP_JOB_FIXED];
};

/* The indices of the result of a finished fp_run(), one array that can be read at once. */
#define FP_SUM_STATE 0
#define FP_SUM_RETURNCODE 1
#define FP_SUM_FLAGS 2
#define FP_SUM_CORE_DUMPED 3
#define FP_SUM_ERROR 4
#define FP_SUM_PID 5
#define FP_SUM_MECHANISM 6
#define FP_SUM_DURATION_NS 7
#define FP_SUM_OUT 8      /* bytes of stdout */
#define FP_SUM_ERR 9      /* bytes of stderr */
#define FP_SUM_ON_HEAP 10 /* 1 when a stream did not fit its fixed buffer */
#define FP_SUM_COUNT 11

/* The state of one fp_run(). Zeroed, or given to fp_job_init(), before its first use; then used again. After a SIGKILL
 * that was refused (error EPERM) status.state is RUNNING, and the caller owns the child and its pidfd. */
struct fp_job {
    int64_t summary[FP_SUM_COUNT];
    struct fp_child child;
    struct fp_status status;
    int32_t flags;
    int32_t error; /* errno of what ended the exchange: a read, a write, poll, a refused SIGKILL; else 0 */
    int64_t started_ns;
    int64_t ended_ns;
    int64_t deadline_ns;
    int64_t grace_ns;
    int64_t kill_ns;
    int64_t drain_ns;
    int64_t drain_end_ns;
    const char *input;
    uint64_t input_len;
    uint64_t input_done;
    int32_t live;           /* this job owns a child or a descriptor */
    int32_t owner;          /* the process that made the child: in a forked copy the job only closes */
    int32_t recheck;        /* looks at a readable pidfd with nothing to reap (a traced child) */
    int32_t failure;        /* errno of a spawn whose child never executed, else 0 */
    void *spawn_state;      /* what the child uses until its exec; made once, freed by fp_job_close() */
    int32_t abandoned;      /* killed and still alive: state stays RUNNING, the caller owns it and its pidfd */
    uint64_t held_pipes[2]; /* the inodes of pipes that others held when we gave them up, else 0 */
    /* For a job that an event loop drives. */
    int32_t epoll;   /* where it is watched, after fp_job_watch() */
    int32_t watched; /* bits: the streams, the pidfd */
    int32_t stopped; /* by fp_job_stop(): what looks like a deadline is not one */
    int32_t group;   /* the child leads a process group, which is stopped with it */
    int64_t key;     /* the caller's */
    int64_t due_ns;  /* when to call fp_job_step() although nothing is ready, or -1 */
    struct fp_sink sink[2];
};

/* Sets a child up completely and executes the first of `paths` that execve(2) accepts, with execvp(3)'s order of
 * errors. A blob is `n` strings, each with a NUL at its end. fds are nfds pairs (the child's number, the parent's
 * number), in addition to stdio. cwd_fd and cgroup_fd are directory descriptors or -1.
 *
 * Waits until the child has executed, at most timeout_ns (-1: no limit). Returns 0, a negative errno, FP_SPAWN_AGAIN or
 * FP_SPAWN_LATE. FP_SPAWN_AGAIN comes with clone3_vm only; FP_SPAWN_LATE with it, and where the child reports through
 * a pipe. With the other mechanisms this thread waits without a limit. After FP_SPAWN_AGAIN everything that the
 * arguments point to must stay until fp_spawn_resume() returns something else, or the child was killed. */
int fp_spawn(const struct fp_attr *attr, const struct fp_identity *identity, const char *paths, uint32_t npaths,
             const char *argv, uint32_t argc, const char *env, uint32_t envc, int cwd_fd, int cgroup_fd, int in,
             int out, int err, const int32_t *fds, uint32_t nfds, int64_t timeout_ns, struct fp_child *ret_child);
int fp_spawn_resume(struct fp_child *child);

/* Stops waiting for the exec of a child that was killed, reaped or not. Does nothing where nothing is waited for. */
void fp_spawn_abandon(struct fp_child *child);

/* Sets the path of the launcher, a program of this library that is executed by descriptor. Call it once, before the
 * first spawn. It remembers the file that is there now, by stat alone. The file is opened when it is needed, and
 * executed only if it is still the same file and only root or the caller's user can write to it; otherwise children are
 * forked. Returns a negative errno where there is none. */
int fp_launcher_set(const char *path);

/* openat2(2) below a directory as if it were the root; for a directory of the child. */
int fp_open_in_root(int root_fd, const char *path, int flags);

/* A Landlock ruleset for files (landlock(7)), without what this kernel's version lacks. access is a bit set of
 * FP_LANDLOCK_*; path_fd may be opened with O_PATH. -EOPNOTSUPP, -ENOSYS: this kernel has no Landlock, or it is
 * switched off. */
#define FP_LANDLOCK_READ 1
#define FP_LANDLOCK_WRITE 2
#define FP_LANDLOCK_EXECUTE 4
int fp_landlock_ruleset(void);
int fp_landlock_allow(int ruleset_fd, int path_fd, int access);

/* Reaps a child: its status and its resource usage in one call. pid is used where pidfd is -1. */
int fp_wait(int pidfd, int pid, int options, struct fp_status *ret_status);
/* The status of a process that somebody has reaped, through a pidfd that was opened before (6.15). Returns 1 when it is
 * known; 0 when the kernel does not report it, as for a zombie. `reaped`: the process is not a zombie, so the call
 * waits for the moment in which the kernel stores the status. Reaps nothing. */
int fp_pidfd_status(int pidfd, int reaped, struct fp_status *ret_status);

/* Sends a signal through the pidfd. Without one (pidfd -1) by number: refuses pid <= 1, and a process that is not an
 * unreaped child of ours. */
int fp_signal(int pidfd, int pid, int sig);

/* Sends a signal to the process group that a child leads. -ESRCH when it leads none, or was reaped. */
int fp_signal_group(int pidfd, int pid, int sig);

/* Whether a child that was not reaped yet has a tracer (proc_pid_status(5)), which can hold its end: 1, 0 or a negative
 * errno. */
int fp_traced(int pid);

/* pidfd_open(2) of any process but 0 and 1. The caller checks afterwards which process it is: another one may have the
 * number. */
int fp_pidfd_open(int pid);

/* Returns the pidfd of a child that somebody else has made, which is certainly a child of ours; -1 where there is none,
 * or it was reaped. */
int fp_pidfd_of_child(int pid);

/* PR_SET_CHILD_SUBREAPER of this process: sets it when on is 1 or 0. Returns the old value. */
int fp_subreaper(int on);

/* What a run needs besides program, arguments and environment: filled once for all runs with the same options. Times
 * are in nanoseconds, -1 for none. */
struct fp_request {
    const struct fp_attr *attr;
    const struct fp_identity *identity; /* or NULL */
    const int32_t *fds;
    const char *input;
    uint64_t input_len;
    int64_t timeout_ns;
    int64_t grace_ns;
    int64_t drain_ns;
    uint32_t nfds;
    int32_t cwd_fd;
    int32_t cgroup_fd;
    int32_t stdio[3];
};

/* Turns memory that was not zeroed into a job, without touching the pages of its buffers. */
void fp_job_init(struct fp_job *job);

/* The bulk path: spawns, feeds, collects, waits, keeps the deadline. slice_ns limits one call, so that the caller can
 * run its signal handlers. Returns FP_JOB_DONE, FP_JOB_AGAIN or the negative errno of the spawn, which fp_run_resume()
 * may return too, as the call does not wait for the exec. Everything that the arguments point to must stay until the
 * job is done. */
int fp_run(const struct fp_request *request, const char *paths, uint32_t npaths, const char *argv, uint32_t argc,
           const char *env, uint32_t envc, int64_t slice_ns, struct fp_job *job);
int fp_run_resume(struct fp_job *job, int64_t slice_ns);

/* The same for a caller that must not wait, such as an event loop. fp_job_begin() continues for at most slice_ns,
 * fp_job_step() looks at least once. A busy file is reported (ETXTBSY) and not tried again. After FP_JOB_AGAIN see
 * job->due_ns. */
int fp_job_begin(const struct fp_request *request, const char *paths, uint32_t npaths, const char *argv, uint32_t argc,
                 const char *env, uint32_t envc, int64_t slice_ns, struct fp_job *job);
int fp_job_step(struct fp_job *job, int64_t slice_ns);

/* Asks the child to end, as a deadline does, or gives up pipes that others hold; then continues. */
int fp_job_stop(struct fp_job *job);

/* Abandons a child that does not die, or may not be killed: the caller owns its pid and pidfd. The output that was read
 * stays. */
void fp_job_abandon(struct fp_job *job);

/* Watches what a job waits for in the caller's epoll, until the job is over. The job must not move. */
int fp_job_watch(struct fp_job *job, int epoll, int64_t key);

/* Continues the jobs that are ready, without waiting, for about FP_GROUP_SLICE_NS; the remaining ones come first in the
 * next call. Writes the keys of the jobs that are over (live is 0; the result is in `error` or `failure` and the
 * summary), and of those whose due_ns has changed. Returns their number. */
#define FP_GROUP_BATCH 64
#define FP_GROUP_SLICE_NS 2000000
int fp_group_step(int epoll, int64_t *ret_keys, int n);

/* As fp_spawn() for such a caller. FP_JOB_AGAIN: the child may not have executed yet. Then fp_launch_over(), which
 * waits at most wait_ns, returns FP_JOB_AGAIN, 0, or the negative errno of a spawn that failed: then the child is
 * reaped, and the caller closes its descriptors.
 *
 * The caller frees *ret_launch, which has copies of all arguments, by fp_launch_free(); this keeps what a killed child
 * still needs. */
int fp_launch(const struct fp_attr *attr, const struct fp_identity *identity, const char *paths, uint32_t npaths,
              const char *argv, uint32_t argc, const char *env, uint32_t envc, int cwd_fd, int cgroup_fd, int in,
              int out, int err, const int32_t *fds, uint32_t nfds, struct fp_child *ret_child, void **ret_launch);
int fp_launch_over(void *launch, int64_t wait_ns, struct fp_child *child);
void fp_launch_free(void *launch);

/* Gives the child wait_ns to end by itself, then kills and reaps it, and closes the descriptors. The output that was
 * read stays, and the summary is filled; its pid is 0 when there was no child. */
void fp_job_abort(struct fp_job *job, int64_t wait_ns);

/* Copies the output of stdout (0) or stderr (1) to memory that nobody else uses yet, such as a new bytes object's. The
 * pages of large outputs are moved instead of copied, and the sink is then empty. */
void fp_job_take(struct fp_job *job, int index, char *to);

/* fp_job_abort(job, 0), and frees the heap buffers. */
void fp_job_close(struct fp_job *job);

/* One command of a pipeline, as fp_run() takes it. The streams that a pipe to a neighbour replaces are ignored in
 * `request`; the times are the first command's. */
struct fp_member {
    const struct fp_request *request;
    const char *paths;
    const char *argv;
    const char *env;
    uint32_t npaths;
    uint32_t argc;
    uint32_t envc;
    uint32_t reserved;
    struct fp_job *job;
};

/* The result of one command. usage is valid in the state FP_WAIT_EXITED. */
struct fp_ended {
    int64_t summary[FP_SUM_COUNT];
    struct fp_usage usage;
};

#define FP_MEMBERS_MAX 16

/* 2 to FP_MEMBERS_MAX commands with a pipe between neighbours, of pipe_size bytes unless that is 0. */
struct fp_pipeline {
    uint32_t n;
    uint32_t pipe_size;
    struct fp_member *members;
    struct fp_ended *ended; /* filled at the end, also of an abort */
    /* Filled by the calls. */
    int64_t duration_ns;
    uint64_t out;      /* bytes of the last command's stdout */
    uint64_t err;      /* bytes of all stderr */
    int32_t failed;    /* the command that could not be started, or -1 */
    int32_t clean;     /* all returned 0, by the best mechanism, and nothing else is to be reported */
    int32_t no_pidfds; /* used by the calls: SIGCHLD is blocked, and no pidfds were made */
    int32_t reserved;
};

/* fp_run() for a whole pipeline. The deadline, and the time for which others may hold outputs after the end, count for
 * all commands together. When one command cannot be started, the others are killed. A later command can only have been
 * started by then where access(2) did not show that the earlier one cannot be executed. */
int fp_pipeline(struct fp_pipeline *pipeline, int64_t slice_ns);
int fp_pipeline_resume(struct fp_pipeline *pipeline, int64_t slice_ns);

/* fp_job_abort() for all commands. */
void fp_pipeline_abort(struct fp_pipeline *pipeline, int64_t wait_ns);

/* The owner of a descriptor is a cell with its number, or -1. Taking the number out, to close it or to pass it on, is
 * one atomic step, so that no number is closed twice, whichever threads, signal handlers and destructors run in
 * between. fp_fd_close() returns 0 or a negative errno; the descriptor is closed in any case. fp_fd_drop() is the
 * destructor of a cell. */
int fp_fd_take(int32_t *cell);
int fp_fd_close(int32_t *cell);
void fp_fd_drop(int32_t *cell);

/* A pool runs many commands, a limited number at a time, in its own threads. They block every signal and run no code of
 * the caller's. fp_pool_close() kills and reaps what still runs, and joins the threads. In a forked copy every call
 * returns -ECHILD, and fp_pool_close() only closes descriptors. All calls may come from any thread. */
int fp_pool_new(int64_t limit, int threads, void **ret_pool);
void fp_pool_close(void *pool);
/* Drops the handle in a cell, if there is one: the destructor of the cell that fp_pool_new() filled. The memory of a
 * pool stays until its handle and those of its completion queues are dropped, and calls on a closed pool return
 * -ESHUTDOWN. So a signal handler may close a pool between any two instructions of a caller. */
void fp_pool_free(void **cell);

/* limit: how many commands run at the same time; interval_ns: the shortest time between two starts, or 0; gated: none
 * is started. */
int fp_pool_set(void *pool, int64_t limit, int64_t interval_ns, int gated);

/* A completion queue takes the tasks of one consumer that have ended; a pool may have several. Returns a descriptor
 * that is readable while there are any. Close the queue when the pool has no task of it any more. */
int fp_completion_queue_new(void *pool, void **ret_completions);
void fp_completion_queue_close(void *completions);
void fp_completion_queue_free(void **cell);         /* as fp_pool_free() */
void fp_completion_queue_notify(void *completions); /* wakes whoever waits for it, or will wait */

/* Identifies a task in the pool. It is filled before anything can happen to the task, so that other threads may use
 * it. */
struct fp_ticket {
    void *task;
    int64_t serial;
};

/* Queues a command: higher priorities first, then in the order of the calls. Everything that the arguments point to
 * must stay until the task was taken. Returns 0 or a negative errno.
 *
 * Without a request the task is delegated to the caller when its turn comes (FP_DONE_DELEGATED). The caller then runs
 * it and calls fp_pool_release(), or says what to run by fp_pool_dispatch(). */
int fp_pool_submit(void *pool, void *completions, int64_t key, const struct fp_request *request, const char *paths,
                   uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc, int64_t priority,
                   int64_t delay_ns, struct fp_ticket *ret_ticket);
int fp_pool_dispatch(void *pool, const struct fp_ticket *ticket, const struct fp_request *request, const char *paths,
                     uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc);
int fp_pool_release(void *pool, const struct fp_ticket *ticket);

/* The state of a task: gone, in the queue, running here, or delegated to the caller. With how 1 or 2 a queued task is
 * removed, and a running one is asked to end or killed, with the group that it leads; it is taken as any other. With -1
 * only a queued task is removed. */
#define FP_TASK_GONE 0
#define FP_TASK_QUEUED 1
#define FP_TASK_RUNNING 2
#define FP_TASK_DELEGATED 3
int fp_pool_cancel(void *pool, const struct fp_ticket *ticket, int how);
int fp_pool_count(void *pool, int64_t *ret_queued, int64_t *ret_running);

/* A task that was taken. */
#define FP_DONE_PLAIN 0     /* everything is here; the output is in the arena at `at`, stdout first */
#define FP_DONE_JOB 1       /* there is more, in the job; return it by fp_pool_recycle() */
#define FP_DONE_FAILED 2    /* not started: code is a negative errno; the job, if there is one, says where */
#define FP_DONE_DELEGATED 3 /* its turn has come: see fp_pool_submit() */
struct fp_done {
    int64_t key;
    int64_t at;
    struct fp_job *job;
    int32_t what;
    int32_t code;
    int64_t stopped; /* by fp_pool_cancel() */
    int64_t summary[FP_SUM_COUNT];
    struct fp_usage usage;
};

/* Takes up to n tasks. Waits at most wait_ns (-1: no limit) for the first, and a moment longer when there are fewer
 * than `want`. Returns their number, or -EINTR after a signal when there are none. */
int fp_completion_queue_take(void *completions, struct fp_done *ret_done, int n, char *arena, uint64_t size,
                             int64_t want, int64_t wait_ns);
void fp_pool_recycle(void *pool, struct fp_job *job);

/* tee(2): copies up to size bytes from one pipe into another, without removing them. Never blocks. */
int64_t fp_tee(int from, int to, uint64_t size);

/* What this kernel and sandbox allow, tried once with harmless calls. refused[m] is 0, or the errno for which mechanism
 * m cannot be used here. */
struct fp_features {
    int32_t refused[7];
    int32_t pidfd; /* clone gives a pidfd */
    int32_t pidfd_open;
    int32_t pidfd_signal;
    int32_t pidfd_wait; /* waitid(P_PIDFD) */
    int32_t pidfd_info; /* PIDFD_GET_INFO reports the status of a reaped child */
    int32_t close_range;
    int32_t shared_memory; /* CLONE_VM really shares memory (not so under valgrind and qemu-user) */
};
int fp_probe(int again, struct fp_features *ret_features);

/* The privileges of the calling thread, as system calls report them (capget(2), prctl(2)). -1 in an int32_t: this
 * kernel has no such attribute. */
struct fp_credentials {
    uint64_t effective;
    uint64_t permitted;
    uint64_t inheritable;
    uint64_t bounding;
    uint64_t ambient;
    int32_t securebits;
    int32_t keepcaps;
    int32_t no_new_privs;
    int32_t dumpable; /* of the process */
};
int fp_credentials_get(struct fp_credentials *ret_credentials);

/* Whether a capability is in the bounding set: 0 or 1; -EINVAL for one that this kernel does not have. */
int fp_bounding_read(int capability);
int fp_ambient_supported(void);

/* PR_SET_DUMPABLE of the process (GOTCHAS G20); 0 or 1. */
int fp_dumpable_set(int on);

/* One change of the privileges of every thread. */
#define FP_CRED_CAPSET 1       /* mask: effective, permitted, inheritable */
#define FP_CRED_BOUNDING 2     /* mask[0]: these are dropped */
#define FP_CRED_AMBIENT 3      /* mask[0]: exactly these */
#define FP_CRED_SECUREBITS 4   /* mask[0]: the flags */
#define FP_CRED_KEEPCAPS 5     /* mask[0]: 0 or 1 */
#define FP_CRED_NO_NEW_PRIVS 6 /* cannot be undone */
struct fp_cred_op {
    int32_t what;
    int32_t unused;
    uint64_t mask[3];
};

#define FP_CRED_THREADS_MAX 8192

/* How far fp_credentials_set() came. */
struct fp_cred_report {
    int32_t threads; /* that took part, with the calling one */
    int32_t op;      /* index of the change that failed, or -1: none was begun */
    int32_t tid;     /* of the thread that failed or could not be reached; 0: the calling thread */
    int32_t state;   /* of a thread that could not be reached: the letter in /proc/PID/stat, or 0 */
};

/* Where fp_credentials_set() finds /proc: a descriptor, which stays the caller's, for a process in a root without
 * /proc; -1: by path. */
void fp_proc_set(int fd);

/* Makes the changes in every thread of the process. First all threads are stopped in a signal handler (of 33, which no
 * thread can block through the C library). Then the calling thread makes each change, and, if the kernel accepts it,
 * all others do. Nothing is changed before all threads have stopped: -ETIMEDOUT with report.op -1: a thread did not
 * stop within timeout_ns; -EXDEV: /proc does not show the threads of this process; -E2BIG: too many threads. Another
 * error with op >= 0 is the error of that change; with a tid, it failed in that thread only, and the threads differ
 * now. */
int fp_credentials_set(const struct fp_cred_op *ops, uint32_t nops, int64_t timeout_ns,
                       struct fp_cred_report *ret_report);

/* An entry of the user database. The strings are in the caller's buffer. */
struct fp_passwd {
    const char *name;
    const char *password;
    const char *gecos;
    const char *dir;
    const char *shell;
    uint32_t uid;
    uint32_t gid;
};
/* An entry of the group database; members ends with NULL. */
struct fp_group {
    const char *name;
    const char *password;
    char **members;
    uint32_t gid;
};

/* One entry, by name, or by number when name is NULL. Returns 1 when there is one, 0 when there is none, -ERANGE when
 * the buffer is too small, another negative errno when the database could not be read. */
int fp_passwd_get(const char *name, uint32_t uid, char *buffer, size_t size, struct fp_passwd *ret_passwd);
int fp_group_get(const char *name, uint32_t gid, char *buffer, size_t size, struct fp_group *ret_group);

/* Real, effective, saved and filesystem ids of the calling thread. */
void fp_ids_get(uint32_t ret_uids[4], uint32_t ret_gids[4]);

/* The fields of a snapshot, in the terms of proc(5); the names of the namespaces are ps(1)'s. The comment of each has
 * its form (struct fp_column): I int64_t, U uint64_t, D double in seconds, S bytes. Sizes are in bytes. */
enum fp_field {
    FP_FIELD_PID = 0, /* the name of the directory; I */
    /* /proc/PID/stat, in its order */
    FP_FIELD_COMM = 1,                   /* S */
    FP_FIELD_STATE = 2,                  /* I: the letter */
    FP_FIELD_PPID = 3,                   /* I */
    FP_FIELD_PGRP = 4,                   /* I */
    FP_FIELD_SESSION = 5,                /* I */
    FP_FIELD_TTY_NR = 6,                 /* I */
    FP_FIELD_TPGID = 7,                  /* I */
    FP_FIELD_FLAGS = 8,                  /* U */
    FP_FIELD_MINFLT = 9,                 /* U */
    FP_FIELD_CMINFLT = 10,               /* U */
    FP_FIELD_MAJFLT = 11,                /* U */
    FP_FIELD_CMAJFLT = 12,               /* U */
    FP_FIELD_UTIME = 13,                 /* D */
    FP_FIELD_STIME = 14,                 /* D */
    FP_FIELD_CUTIME = 15,                /* D */
    FP_FIELD_CSTIME = 16,                /* D */
    FP_FIELD_PRIORITY = 17,              /* I */
    FP_FIELD_NICE = 18,                  /* I */
    FP_FIELD_NUM_THREADS = 19,           /* I */
    FP_FIELD_ITREALVALUE = 20,           /* I */
    FP_FIELD_STARTTIME = 21,             /* D: since boot */
    FP_FIELD_VSIZE = 22,                 /* U */
    FP_FIELD_RSS = 23,                   /* I: bytes; the kernel's quick count, statm's is exact */
    FP_FIELD_RSSLIM = 24,                /* U */
    FP_FIELD_STARTCODE = 25,             /* U */
    FP_FIELD_ENDCODE = 26,               /* U */
    FP_FIELD_STARTSTACK = 27,            /* U */
    FP_FIELD_KSTKESP = 28,               /* U */
    FP_FIELD_KSTKEIP = 29,               /* U */
    FP_FIELD_SIGNAL = 30,                /* U */
    FP_FIELD_BLOCKED = 31,               /* U */
    FP_FIELD_SIGIGNORE = 32,             /* U */
    FP_FIELD_SIGCATCH = 33,              /* U */
    FP_FIELD_WCHAN = 34,                 /* U */
    FP_FIELD_NSWAP = 35,                 /* U */
    FP_FIELD_CNSWAP = 36,                /* U */
    FP_FIELD_EXIT_SIGNAL = 37,           /* I */
    FP_FIELD_PROCESSOR = 38,             /* I */
    FP_FIELD_RT_PRIORITY = 39,           /* U */
    FP_FIELD_POLICY = 40,                /* U */
    FP_FIELD_DELAYACCT_BLKIO_TICKS = 41, /* D */
    FP_FIELD_GUEST_TIME = 42,            /* D */
    FP_FIELD_CGUEST_TIME = 43,           /* D */
    FP_FIELD_START_DATA = 44,            /* U */
    FP_FIELD_END_DATA = 45,              /* U */
    FP_FIELD_START_BRK = 46,             /* U */
    FP_FIELD_ARG_START = 47,             /* U */
    FP_FIELD_ARG_END = 48,               /* U */
    FP_FIELD_ENV_START = 49,             /* U */
    FP_FIELD_ENV_END = 50,               /* U */
    FP_FIELD_EXIT_CODE = 51,             /* I: as wait(2) has it */
    FP_FIELD_NAME = 52,                  /* S: comm, or where that was cut off, the name in cmdline */
    /* /proc/PID/statm */
    FP_FIELD_SIZE = 64,     /* U */
    FP_FIELD_RESIDENT = 65, /* U */
    FP_FIELD_SHARED = 66,   /* U */
    FP_FIELD_TEXT = 67,     /* U */
    FP_FIELD_LIB = 68,      /* U: 0 since 2.6 */
    FP_FIELD_DATA = 69,     /* U */
    FP_FIELD_DT = 70,       /* U: 0 since 2.6 */
    /* /proc/PID/status */
    FP_FIELD_UMASK = 80,                       /* I */
    FP_FIELD_TGID = 81,                        /* I */
    FP_FIELD_TRACER_PID = 82,                  /* I */
    FP_FIELD_UID = 83,                         /* I */
    FP_FIELD_EUID = 84,                        /* I */
    FP_FIELD_SUID = 85,                        /* I */
    FP_FIELD_FSUID = 86,                       /* I */
    FP_FIELD_GID = 87,                         /* I */
    FP_FIELD_EGID = 88,                        /* I */
    FP_FIELD_SGID = 89,                        /* I */
    FP_FIELD_FSGID = 90,                       /* I */
    FP_FIELD_GROUPS = 91,                      /* S */
    FP_FIELD_NS_PID = 92,                      /* S */
    FP_FIELD_FD_SIZE = 93,                     /* I */
    FP_FIELD_VM_PEAK = 94,                     /* U */
    FP_FIELD_VM_SIZE = 95,                     /* U */
    FP_FIELD_VM_LCK = 96,                      /* U */
    FP_FIELD_VM_PIN = 97,                      /* U */
    FP_FIELD_VM_HWM = 98,                      /* U */
    FP_FIELD_VM_RSS = 99,                      /* U */
    FP_FIELD_RSS_ANON = 100,                   /* U */
    FP_FIELD_RSS_FILE = 101,                   /* U */
    FP_FIELD_RSS_SHMEM = 102,                  /* U */
    FP_FIELD_VM_DATA = 103,                    /* U */
    FP_FIELD_VM_STK = 104,                     /* U */
    FP_FIELD_VM_EXE = 105,                     /* U */
    FP_FIELD_VM_LIB = 106,                     /* U */
    FP_FIELD_VM_PTE = 107,                     /* U */
    FP_FIELD_VM_SWAP = 108,                    /* U */
    FP_FIELD_SIGPND = 109,                     /* U */
    FP_FIELD_SHDPND = 110,                     /* U */
    FP_FIELD_SIGBLK = 111,                     /* U */
    FP_FIELD_SIGIGN = 112,                     /* U */
    FP_FIELD_SIGCGT = 113,                     /* U */
    FP_FIELD_CAP_INH = 114,                    /* U */
    FP_FIELD_CAP_PRM = 115,                    /* U */
    FP_FIELD_CAP_EFF = 116,                    /* U */
    FP_FIELD_CAP_BND = 117,                    /* U */
    FP_FIELD_CAP_AMB = 118,                    /* U */
    FP_FIELD_NO_NEW_PRIVS = 119,               /* I */
    FP_FIELD_SECCOMP = 120,                    /* I */
    FP_FIELD_CPUS_ALLOWED_LIST = 121,          /* S */
    FP_FIELD_MEMS_ALLOWED_LIST = 122,          /* S */
    FP_FIELD_VOLUNTARY_CTXT_SWITCHES = 123,    /* U: of the main thread */
    FP_FIELD_NONVOLUNTARY_CTXT_SWITCHES = 124, /* U: of the main thread */
    /* /proc/PID/io */
    FP_FIELD_RCHAR = 140,                 /* U */
    FP_FIELD_WCHAR = 141,                 /* U */
    FP_FIELD_SYSCR = 142,                 /* U */
    FP_FIELD_SYSCW = 143,                 /* U */
    FP_FIELD_READ_BYTES = 144,            /* U */
    FP_FIELD_WRITE_BYTES = 145,           /* U */
    FP_FIELD_CANCELLED_WRITE_BYTES = 146, /* I */
    /* /proc/PID/smaps_rollup, 4.14 */
    FP_FIELD_PSS = 150,      /* U */
    FP_FIELD_USS = 151,      /* U: the sum of all Private_ lines */
    FP_FIELD_SWAP = 152,     /* U */
    FP_FIELD_SWAP_PSS = 153, /* U */
    /* files of one value, links, directories */
    FP_FIELD_CMDLINE = 160,          /* S */
    FP_FIELD_ENVIRON = 161,          /* S */
    FP_FIELD_EXE = 162,              /* S */
    FP_FIELD_CWD = 163,              /* S */
    FP_FIELD_ROOT = 164,             /* S */
    FP_FIELD_CGROUP = 165,           /* S */
    FP_FIELD_LIMITS = 166,           /* S */
    FP_FIELD_NUM_FDS = 167,          /* I */
    FP_FIELD_OOM_SCORE = 168,        /* I */
    FP_FIELD_OOM_SCORE_ADJ = 169,    /* I */
    FP_FIELD_LOGINUID = 170,         /* I */
    FP_FIELD_SESSIONID = 171,        /* I */
    FP_FIELD_SCHED_RUN_NS = 172,     /* U: /proc/PID/schedstat, of the main thread */
    FP_FIELD_SCHED_WAIT_NS = 173,    /* U */
    FP_FIELD_SCHED_TIMESLICES = 174, /* U */
    FP_FIELD_CGROUPNS = 180,         /* I: the inode, as the others below */
    FP_FIELD_IPCNS = 181,
    FP_FIELD_MNTNS = 182,
    FP_FIELD_NETNS = 183,
    FP_FIELD_PIDNS = 184,
    FP_FIELD_TIMENS = 185, /* 5.6 */
    FP_FIELD_USERNS = 186,
    FP_FIELD_UTSNS = 187,
    FP_FIELD_MAX = 188, /* all fields are below */
};

/* Why a cell has no value, where it is not the errno of reading it. */
#define FP_ABSENT_GONE 1001    /* the process had ended, or never existed */
#define FP_ABSENT_ZOMBIE 1002  /* it has ended, and its parent has not reaped it */
#define FP_ABSENT_KTHREAD 1003 /* a kernel thread has no such value */
#define FP_ABSENT_UNTOLD 1004  /* the file exists, and has no such value: another kernel version */
#define FP_ABSENT_FORMAT 1005  /* the file does not have the format of proc(5) */
#define FP_ABSENT_HIDDEN 1006  /* it exists, and /proc does not show it (hidepid=) */

/* One field of all rows. */
struct fp_column {
    void *cells;     /* rows values of 8 bytes; for S rows + 1 offsets into the blob */
    int16_t *absent; /* 0: the cell has a value; otherwise an errno or FP_ABSENT_ */
    char *blob;
    uint64_t size;     /* of the blob */
    uint64_t capacity; /* of the blob */
    int32_t field;
    int32_t kind; /* 'I', 'U', 'D', 'S' */
};
/* A table. A process that was gone when its first file was read has a row only when its pid was asked for. */
struct fp_snapshot {
    struct fp_column *columns;
    int64_t *at_ns;      /* CLOCK_MONOTONIC before each row was read */
    int64_t boottime_ns; /* CLOCK_BOOTTIME at the beginning: the clock of starttime */
    uint32_t rows;
    uint32_t ncolumns;
};

/* Whether system calls of this process accept the pids below a directory, or below /proc where it is -1. Returns 0 for
 * a proc file system of this process's own PID namespace. -EXDEV: of another namespace; -ENODEV: not a proc file
 * system, or missing; another errno: it could not be looked at (EMFILE). It looks at each call, as a fork, a chroot or
 * a mount can change the answer. */
int fp_proc_check(int directory);
/* Whether a descriptor is in a cgroup v2 file system. */
int fp_is_cgroup2(int fd);

/* Reads the fields of these processes, or of all that /proc shows (pids NULL), from a proc file system mounted at root.
 * A file is read only for a field that is asked for; stat also to tell a zombie or a kernel thread. All files of a row
 * belong to one process, even when its pid is reused. -EMFILE, -ENFILE, -ENOMEM: nothing is returned. With is_proc,
 * root must pass fp_proc_check(). fp_snapshot_close() frees the memory. */
int fp_snapshot_read(const char *root, int is_proc, const int32_t *pids, uint32_t npids, const int32_t *fields,
                     uint32_t nfields, struct fp_snapshot *ret_snapshot);
void fp_snapshot_close(struct fp_snapshot *snapshot);
/* Returns 'I', 'U', 'D' or 'S'; 0: there is no such field. */
int fp_field_kind(int field);

/* The children of a process; with `recursive` all its descendants, each after its parent. By
 * /proc/PID/task/TID/children of all threads: no other process is looked at. Returns their number; the first max of
 * them are in ret_pids. -ESRCH: no such process; -EOPNOTSUPP: this kernel has no such files (CONFIG_PROC_CHILDREN).
 * With is_proc, root must pass fp_proc_check(). */
int fp_children(const char *root, int is_proc, int32_t pid, int recursive, int32_t *ret_pids, uint32_t max);

/* -- the signals of this process: csrc/self/signals.c; -ENOSYS on other systems than Linux. */

/* One signal that arrived. A field that the kernel does not set for this kind of origin is 0 (sigaction(2)). */
struct fp_signal_record {
    int32_t signo;
    int32_t code;
    int32_t pid;
    uint32_t uid;
    int32_t status; /* SIGCHLD */
    int32_t fd;     /* SIGIO */
    int32_t overrun;
    int32_t unused;
    int64_t value;
    int64_t band;
    int64_t time_ns; /* monotonic */
    int64_t serial;  /* the same for all receivers of this signal */
};

#define FP_TAPS_MAX 256

#define FP_TAP_COUNT 1
#define FP_TAP_PIPE 2    /* a record is written to fd, the end of a non-blocking pipe */
#define FP_TAP_FORWARD 3 /* sent to the child of the pidfd fd, by the handler: at once, whatever this process does */
#define FP_TAP_FORCE 4   /* the first one asks; a later one of force_mask ends the process */
struct fp_tap_options {
    uint64_t mask;       /* bit n-1 is signal n */
    uint64_t force_mask; /* FP_TAP_FORCE */
    int64_t patience_ns; /* sooner after the first, it is the same press of the key */
    int32_t status;      /* the exit status; -1: end by the signal itself */
    int32_t kind;
    int32_t fd; /* or -1; the tap keeps a copy */
    int32_t pid;
    int32_t group; /* FP_TAP_FORWARD: to the group that the child leads */
    int32_t quiet; /* earlier handlers are not called */
};
struct fp_tap_counts {
    int64_t seen;
    int64_t lost; /* FP_TAP_PIPE: the pipe was full */
    int64_t first_ns;
};

/* From now on the tap receives every signal of a set, together with all other taps; the handler that was there is
 * called after them. Returns the tap's number. -ENOSPC: there are FP_TAPS_MAX. */
int64_t fp_tap_add(const struct fp_tap_options *options);

/* When it returns, nobody uses the tap's descriptor any more. With the last tap of a signal its earlier handler is
 * restored, unless another was installed over ours. -ENOENT: it was removed before, or this is a forked copy. */
int fp_tap_remove(int64_t id);
int fp_tap_look(int64_t id, struct fp_tap_counts *ret_counts);

/* A counter of the signals that arrived, which can be read without a call; valid until the tap is removed. NULL: no
 * such tap. */
const int64_t *fp_tap_seen(int64_t id);

/* Installs our handlers again over those that others have installed since; ours call these from then on. Not those of
 * the signals in `defaults`, whose handlers only do the default action. */
int fp_signal_renew(uint64_t defaults, uint64_t *ret_renewed);

/* In a forked copy: gives up what the copy has inherited. */
int fp_signals_forked(void);

/* For blocked signals: a signalfd, and a call that passes everything in it to the taps as if it had arrived. Returns
 * how many; 0 when there are none. */
int fp_signalfd(uint64_t mask);
int fp_signal_pump(int fd);

/* The default action of a signal: ends this process by it, stops it until it is continued, or does nothing. Pid 1 of a
 * namespace cannot be ended by a signal, and exits with 128 plus its number. */
int fp_signal_default(int sig);

/* fp_signal() with a value, as sigqueue(3) sends it; through a pidfd only. -EAGAIN: the receiver's queue is full. */
int fp_signal_queue(int pidfd, int pid, int sig, int64_t value);

/* The signal that this process gets when the thread that made it ends (prctl(2)); 0 for none. */
int fp_parent_death(int sig);

/* Forces one mechanism for all following spawns of this process; FP_MECHANISM_AUTO ends that. */
int fp_mechanism_force(int mechanism);

/* cdef-end */

/* Only in builds with FP_FAULTS, for the tests. */
#ifdef FP_FAULTS
/* cdef-faults-begin */
enum fp_point {
    FP_POINT_NONE = 0,
    FP_POINT_VECTORS = 1,
    FP_POINT_PIPE_IN = 2,
    FP_POINT_PIPE_OUT = 3,
    FP_POINT_PIPE_ERR = 4,
    FP_POINT_NONBLOCK = 5,
    FP_POINT_LIFT = 6,
    FP_POINT_NULL = 7,
    FP_POINT_STACK = 8,
    FP_POINT_STACK_GUARD = 9,
    FP_POINT_MASK = 10,
    FP_POINT_CLONE = 11,
    FP_POINT_PIDFD = 12,
    FP_POINT_REPORT_PIPE = 13,
    FP_POINT_REPORT_READ = 14,
    FP_POINT_REPORT_PAGE = 15,
    FP_POINT_CGROUP_OPEN = 16,
    FP_POINT_GROW = 17, /* memory for a captured stream */
    FP_POINT_MOVE = 18, /* moving its pages to their last place */
    FP_POINT_PIPE_BETWEEN = 19,
    FP_POINT_TEE = 20,
    FP_POINT_MAPS = 21,  /* writing the maps of a user namespace */
    FP_POINT_CALL = 31,  /* a system call of the child, see fp_fault_call() */
    FP_POINT_LIMIT = 32, /* lower numbers are the parent's; from 32 on FP_STAGE_* are the child's steps */
};
/* The nth pass (1 is the next) through the point or stage of the child fails with error. error < 0: the child dies
 * there by signal -error, or stops (SIGSTOP) and continues later. 0, 0, 0 disarms. */
int fp_fault_set(int point, int error, int nth);
/* Every identity call number nr of the child with this first argument (-1: any) returns -error and does nothing; with
 * error 0 it returns success. With a negative error the call is made, and then the caller sends itself the signal
 * -error. With FP_FAULT_GATE the caller waits before the call until the fault is disarmed. */
#define FP_FAULT_GATE -1000
#define FP_FAULT_ALSO -1001
int fp_fault_call(int nr, int first, int error);
/* After fp_fault_call(): only the hit-th of these calls is meant, and the caller also makes the call nr, after it with
 * FP_FAULT_ALSO, in its place with error 0. capset(2) takes the low words of the effective, permitted and inheritable
 * sets, setgroups(2) one group, every other call up to three numbers. nr 0: no other call. */
int fp_fault_also(int hit, int nr, int a, int b, int c);
/* In the child, the step of one stage runs just before the step of another (or after it) instead of in its place. 0, 0,
 * 0 ends that. */
int fp_fault_order(int stage, int other, int after);
/* How often an armed fault was hit. */
int fp_fault_hits(void);
/* cdef-faults-end */
#endif

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
