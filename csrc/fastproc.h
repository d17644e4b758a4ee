/* fastproc.h: the whole contract of the C core.
 *
 * The text between the two `cdef` markers is read by build_ffi.py and handed to cffi as it stands, so there is no second
 * copy of any declaration. Inside it: no preprocessor lines except integer #defines.
 *
 * Conventions: a function returns 0 or a non-negative result on success and a negative errno on failure; errno itself is
 * never changed. The caller owns every buffer it passes; nothing is returned that must be freed, except what a
 * struct fp_job holds, which fp_job_close() gives back. On failure no descriptor, child or mapping is left behind.
 */
#ifndef FASTPROC_H
#define FASTPROC_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* cdef-begin */

/* The set-up step that failed. The child's stages are in the order in which they run; the kernel's rules force it. */
enum fp_stage {
    FP_STAGE_NONE = 0,
    /* parent, before the child exists */
    FP_STAGE_REDIRECT = 1,  /* opening a file given as stdin, stdout, stderr (done by the caller) */
    FP_STAGE_VECTORS = 2,   /* memory for the argument and environment vectors */
    FP_STAGE_PIPE = 3,      /* pipe2(2), fcntl(2) on the pipes */
    FP_STAGE_NULL = 4,      /* opening /dev/null */
    FP_STAGE_STACK = 5,     /* mmap(2) of the child's stack and report */
    FP_STAGE_MECHANISM = 6, /* an option that the chosen mechanism cannot carry out */
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
    FP_STAGE_LAUNCHER = 52, /* executing the launcher, where one does the steps from here on */
    FP_STAGE_RLIMITS = 53,
    FP_STAGE_SECUREBITS = 54,
    FP_STAGE_BOUNDING = 55,
    FP_STAGE_KEYRING = 56, /* a session keyring of its own */
    FP_STAGE_GROUPS = 57,
    FP_STAGE_GID = 58,
    FP_STAGE_UID = 59,
    FP_STAGE_CAPABILITIES = 60,
    FP_STAGE_AMBIENT = 61,
    FP_STAGE_LOCKS = 62, /* the securebits that would be in the way of the ambient set, and the last capset(2) */
    FP_STAGE_VERIFY_IRREVOCABLE = 63, /* the proof that what was given up cannot be had again */
    FP_STAGE_PDEATHSIG = 64,
    FP_STAGE_SUBREAPER = 65,
    FP_STAGE_NO_NEW_PRIVS = 66,
    FP_STAGE_LANDLOCK = 67,
    FP_STAGE_SECCOMP = 68,
    FP_STAGE_SIGMASK = 69,
    FP_STAGE_EXEC = 70,
};

/* How the child was made: best first. */
enum fp_mechanism {
    FP_MECHANISM_AUTO = 0,
    FP_MECHANISM_CLONE3_VM = 1,   /* clone3, shared memory, own stack, handled signals cleared by the kernel */
    FP_MECHANISM_CLONE_VM = 2,    /* clone, shared memory, own stack */
    FP_MECHANISM_CLONE = 3,       /* clone without shared memory; the report lies in a shared page */
    FP_MECHANISM_POSIX_SPAWN = 4, /* the C library's posix_spawn; only some options */
    FP_MECHANISM_FORK_PIPE = 5,   /* fork and an error pipe: where nothing else works or memory sharing is emulated */
    FP_MECHANISM_LAUNCHER = 6,    /* with an identity: the first or second, then a small program that changes it */
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
#define FP_ATTR_LISTEN_PID 65536 /* the variable LISTEN_PID, which the environment must have, becomes its own pid */

#define FP_RLIMITS_MAX 16
#define FP_CPU_WORDS 16

struct fp_rlimit {
    int32_t resource;
    uint32_t reserved;
    uint64_t soft;
    uint64_t hard;
};

/* What belongs to the command: filled once, never changed, may be shared by threads. size must be sizeof(struct fp_attr). */
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
    uint32_t pipe_size; /* bytes; 0 leaves the kernel's choice */
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
#define FP_ID_CAPS 8 /* effective, permitted, inheritable, ambient; without it an ambient set given is added */
#define FP_ID_AMBIENT 16
#define FP_ID_BOUNDING 32
#define FP_ID_SECUREBITS 64
#define FP_ID_ROOT_HIDDEN 256    /* no Landlock rule lets / be listed, which proves the ruleset */
#define FP_ID_DENY_SETGROUPS 128 /* before gid_map is written (user_namespaces(7)) */

/* Who the child is and what it may do. Each step is read back in the child before it executes, and that root cannot be had
 * again is proven there. A uid other than 0 without FP_ID_CAPS leaves no capability but the ambient ones that are given. */
struct fp_identity {
    uint32_t flags;
    uint32_t uid; /* 0 without its flag, as gid */
    uint32_t gid;
    uint32_t ngroups;
    const uint32_t *groups; /* ascending, each once */
    uint64_t effective;
    uint64_t permitted;
    uint64_t inheritable;
    uint64_t ambient;
    uint64_t bounding; /* what stays in it */
    uint32_t securebits;
    uint32_t namespaces; /* CLONE_NEW* */
    const char *uid_map; /* the text for /proc/PID/uid_map, or NULL */
    const char *gid_map;
    int64_t time_offset_ns[2]; /* of the monotonic and the boottime clock, with CLONE_NEWTIME */
    const uint64_t *filter;    /* seccomp(2): struct sock_filter */
    uint32_t nfilter;
    int32_t root_fd;    /* a directory to be the root, or -1; the directory is / then, unless cwd_fd is given */
    int32_t ruleset_fd; /* landlock_create_ruleset(2), or -1 */
};

/* The choices for a standard stream besides a descriptor number of the parent (>= 0). */
#define FP_STDIO_INHERIT -1
#define FP_STDIO_PIPE -2
#define FP_STDIO_NULL -3
#define FP_STDIO_STDOUT -4 /* stderr only: wherever stdout goes */
#define FP_STDIO_STDERR -5 /* stdout only: wherever stderr goes */
/* The parent's own stream of that name, whichever is being set; /dev/null when it is closed. */
#define FP_STDIO_PARENT_STDOUT -6
#define FP_STDIO_PARENT_STDERR -7

/* What fp_spawn() gives. On failure pid, pidfd and the pipe ends are -1 and stage, detail say where it failed.
 * detail: the child's descriptor number, the index of the rlimit or of the PATH candidate. A child that died before exec without a
 * report gives -ECANCELED, the stage it had reached, and in detail the signal (or 0 when that is not known). */
struct fp_child {
    int32_t pid;
    int32_t pidfd;
    int32_t fd[3]; /* the parent's ends of the pipes: stdin, stdout, stderr; non-blocking, close-on-exec */
    int32_t stage;
    int32_t detail;
    int32_t mechanism;
    void *spawn_state; /* after FP_SPAWN_AGAIN: what is waited for */
};

/* Time limits in nanoseconds, for the callers too. */
#define FP_SLICE_NS 50000000           /* a call comes back this often, so that its caller's signal handlers run */
#define FP_PIDFD_AFTER_NS 5000000      /* a child that nobody else can reap gets a pidfd when it has lived this long */
#define FP_EXECS_NS 50000000           /* longest wait for the execs of a pipeline's commands */
#define FP_BUSY_TRIES 4                /* a file that is open for writing (ETXTBSY) is tried again so often, */
#define FP_BUSY_PAUSE_NS 1000000       /* after this pause, and each time after one four times as long */
#define FP_HELD_BY_OTHERS_NS 100000000 /* after a deadline: longest wait for pipes that other processes hold */
#define FP_CTRL_C_NS 40000000          /* an interrupted child gets this long to end by itself */
#define FP_DEATH_NS                                                                                                    \
    5000000000 /* longest wait for the end of a killed child, which a tracer or a file system can hold */
#define FP_TRACED_NS 100000000      /* a killed child that is still there is looked at, for a tracer too, this often */
#define FP_POOL_POLLED_NS 5000000   /* a pool's thread polls a child directly until it has lived this long */
#define FP_POOL_STARVED_NS 10000000 /* a pool that lacked resources for a start tries again after this long */
#define FP_POOL_LINGER_NS 300000    /* a consumer that wants more than one result waits this long for them */

#define FP_SPAWN_AGAIN 1 /* a signal arrived, or some time has passed: call fp_spawn_resume() */
#define FP_SPAWN_LATE 2  /* the child had not executed when the time was over: it was killed, and is not reaped */

#define FP_WAIT_RUNNING 0   /* not yet */
#define FP_WAIT_EXITED 1    /* status and usage are the kernel's */
#define FP_WAIT_RECOVERED 2 /* somebody else reaped it: the status is PIDFD_GET_INFO's, usage is not known */
#define FP_WAIT_UNKNOWN 3   /* somebody else reaped it and the kernel does not tell */
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
#define FP_JOB_PIPES_OPEN 8 /* the child has exited but somebody still holds a pipe */

/* One captured stream: the first bytes in the fixed buffer, all of them in heap when there are more. */
struct fp_sink {
    uint64_t len;
    uint64_t cap;
    char *heap;
    uint64_t ready; /* up to here the pages are there */
    int32_t wide;   /* its pipe was made larger */
    int32_t slow;   /* large pages that came slowly */
    char fixed[FP_JOB_FIXED];
};

/* What a finished fp_run() gave, in one array that can be read at once; its indices. */
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

/* The state of one fp_run(). Zeroed at first, or given to fp_job_init(), and reused afterwards. */
struct fp_job {
    int64_t summary[FP_SUM_COUNT];
    struct fp_child child;
    struct fp_status status;
    int32_t flags;
    int32_t
        error; /* errno of a read, write, poll or SIGKILL that broke the exchange, else 0. After a refused SIGKILL the
                    * child still runs, status.state says so, and its pidfd is the caller's. */
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
    int32_t live;      /* a child or a descriptor is owned by this job */
    int32_t owner;     /* the process that made the child: a forked copy of the job only closes */
    int32_t recheck;   /* looks at a pidfd that was readable with nothing to reap (a traced child) */
    int32_t failure;   /* errno of a spawn whose child never executed, else 0 */
    void *spawn_state; /* what the child memory_in_use until it has executed; made once, freed by fp_job_close() */
    int32_t
        abandoned; /* the child was killed and does not die: status.state stays RUNNING, it and its pidfd are the caller's */
    uint64_t held_pipes[2]; /* the inodes of pipes that others still held when they were given up, else 0 */
    /* Of a job that an event loop drives. */
    int32_t epoll;   /* where it is watched, once fp_job_watch() was called */
    int32_t watched; /* bits: the streams, the pidfd */
    int32_t stopped; /* by fp_job_stop(): what looks like a deadline is none */
    int32_t group;   /* the child leads a process group, which is stopped with it */
    int64_t key;     /* the caller's */
    int64_t due_ns;  /* when fp_job_step() is to be called although nothing is ready, or -1 */
    struct fp_sink sink[2];
};

/* Sets a child up completely and executes the first of `paths` that execve(2) takes, in execvp(3)'s order of errors.
 * A blob is `n` strings, each ended by NUL. fds are nfds pairs (child's number, parent's number), in addition to stdio.
 * cwd_fd and cgroup_fd are -1 or directory descriptors.
 * Waits until the child has executed, timeout_ns at most (-1: without limit). 0, a negative errno, FP_SPAWN_AGAIN or
 * FP_SPAWN_LATE; these two come only by clone3_vm, with the other mechanisms the thread stands still. After FP_SPAWN_AGAIN
 * what all arguments point to must stay, until fp_spawn_resume() gives something else, or the child was killed. */
int fp_spawn(const struct fp_attr *attr, const struct fp_identity *identity, const char *paths, uint32_t npaths,
             const char *argv, uint32_t argc, const char *env, uint32_t envc, int cwd_fd, int cgroup_fd, int in,
             int out, int err, const int32_t *fds, uint32_t nfds, int64_t timeout_ns, struct fp_child *ret_child);
int fp_spawn_resume(struct fp_child *child);

/* The exec is waited for no more: the child was killed, reaped or not. Does nothing where nothing is waited for. */
void fp_spawn_abandon(struct fp_child *child);

/* Where the launcher is, a program of this library that is executed by descriptor. The file that lies there now is remembered,
 * by stat alone; it is opened when it is needed, and executed only if it is the same, and only root or the caller's user can
 * write to it. Else children are forked. A negative errno where there is none. Once, before the first spawn. */
int fp_launcher_set(const char *path);

/* openat2(2) below a directory as if that were the root, for a directory of the child's. */
int fp_open_in_root(int root_fd, const char *path, int flags);

/* A Landlock ruleset about files (landlock(7)); what this kernel's version does not have is left out. access is a bit set of
 * FP_LANDLOCK_*; the path's descriptor may be O_PATH. -EOPNOTSUPP, -ENOSYS: this kernel has it not, or switched off. */
#define FP_LANDLOCK_READ 1
#define FP_LANDLOCK_WRITE 2
#define FP_LANDLOCK_EXECUTE 4
int fp_landlock_ruleset(void);
int fp_landlock_allow(int ruleset_fd, int path_fd, int access);

/* Collects the status and the resource usage in one call. pid is used where pidfd is -1. */
int fp_wait(int pidfd, int pid, int options, struct fp_status *ret_status);
/* The status of a process that somebody has reaped, by a pidfd from before (6.15): 1 when it is known, 0 when the kernel does
 * not tell, as of a zombie. `reaped` says that it is none: then the moment in which the kernel learns it is waited for. Takes
 * nobody's status. */
int fp_pidfd_status(int pidfd, int reaped, struct fp_status *ret_status);

/* Sends a signal through the pidfd. Where there is none (pidfd -1), by number: refuses pid <= 1, and the caller must hold
 * the unreaped child. */
int fp_signal(int pidfd, int pid, int sig);

/* Sends a signal to the process group that a child leads. -ESRCH when it leads none, or was reaped. */
int fp_signal_group(int pidfd, int pid, int sig);

/* Whether a child that was not reaped yet has a tracer (proc_pid_status(5)), which can hold its end: 1, 0 or a negative errno. */
int fp_traced(int pid);

/* pidfd_open(2) of any process but 0 and 1. Who it is must be checked afterwards: the number may be another's by then. */
int fp_pidfd_open(int pid);

/* The pidfd of a child that somebody else has made, which is ours for certain; -1 where there is none, or it was reaped. */
int fp_pidfd_of_child(int pid);

/* PR_SET_CHILD_SUBREAPER of this process, on or off, when on is 1 or 0. Returns what it was. */
int fp_subreaper(int on);

/* What a run needs besides its program, arguments and environment: filled once for all runs with the same options. Times in
 * nanoseconds, -1 for none. */
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

/* Makes memory that was not zeroed a job, without touching the pages of its buffers. */
void fp_job_init(struct fp_job *job);

/* fp_spawn, feed, collect, wait, deadline: the bulk path. slice_ns bounds one call so that the caller can run its signal
 * handlers. Returns FP_JOB_DONE, FP_JOB_AGAIN or a negative errno of the spawn, which may also come from fp_run_resume(): the
 * caller need not wait until the child has executed. What all arguments point to must stay until the job is done. */
int fp_run(const struct fp_request *request, const char *paths, uint32_t npaths, const char *argv, uint32_t argc,
           const char *env, uint32_t envc, int64_t slice_ns, struct fp_job *job);
int fp_run_resume(struct fp_job *job, int64_t slice_ns);

/* The same for a caller who must not wait, such as an event loop. fp_job_begin() goes on for slice_ns at most, fp_job_step()
 * looks at least once; a busy file is not tried again but reported (ETXTBSY). After FP_JOB_AGAIN: job->due_ns. */
int fp_job_begin(const struct fp_request *request, const char *paths, uint32_t npaths, const char *argv, uint32_t argc,
                 const char *env, uint32_t envc, int64_t slice_ns, struct fp_job *job);
int fp_job_step(struct fp_job *job, int64_t slice_ns);

/* Asks the child to end, as a deadline does, or gives up what others hold; and goes on. */
int fp_job_stop(struct fp_job *job);

/* Leaves a child that does not die, or may not be killed: its pid and pidfd are the caller's. What was read stays. */
void fp_job_abandon(struct fp_job *job);

/* Watches what a job waits for in an epoll descriptor of the caller's, until it is over. The job must stay where it is. */
int fp_job_watch(struct fp_job *job, int epoll, int64_t key);

/* Goes on with the jobs that are ready, without waiting, and for about FP_GROUP_SLICE_NS: the others come first in the next call.
 * Gives how many keys it wrote: of the jobs that are over (live is 0; its result is in `error` or `failure` and the summary) and
 * of those whose due_ns has changed. */
#define FP_GROUP_BATCH 64
#define FP_GROUP_SLICE_NS 2000000
int fp_group_step(int epoll, int64_t *ret_keys, int n);

/* As fp_spawn() for such a caller: FP_JOB_AGAIN says that the child has perhaps not executed yet. Then fp_launch_over() tells,
 * which waits wait_ns at most: FP_JOB_AGAIN, 0, or the negative errno of a spawn that has failed: the child is reaped then, and
 * its descriptors are for the caller to close.
 * *ret_launch is to be freed by fp_launch_free(), which keeps what a child that was killed still needs; it has copies of all
 * arguments. */
int fp_launch(const struct fp_attr *attr, const struct fp_identity *identity, const char *paths, uint32_t npaths,
              const char *argv, uint32_t argc, const char *env, uint32_t envc, int cwd_fd, int cgroup_fd, int in,
              int out, int err, const int32_t *fds, uint32_t nfds, struct fp_child *ret_child, void **ret_launch);
int fp_launch_over(void *launch, int64_t wait_ns, struct fp_child *child);
void fp_launch_free(void *launch);

/* Gives the child wait_ns to end by itself, then kills and reaps it and closes the descriptors. What was read stays, and the
 * summary is filled; its pid is 0 when there was no child. */
void fp_job_abort(struct fp_job *job, int64_t wait_ns);

/* Copies what came on stdout (0) or stderr (1) to memory that nobody else uses yet, such as a new bytes object's; the pages of
 * much data change their place instead, and the sink is then empty. */
void fp_job_take(struct fp_job *job, int index, char *to);

/* fp_job_abort(job, 0), and frees the heap buffers. */
void fp_job_close(struct fp_job *job);

/* One command of a pipeline, as fp_run() takes it. Of its streams in `request` those that a pipe to a neighbour takes are not
 * looked at, and the times are those of the first one's. */
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

/* What became of it; usage is valid in the state FP_WAIT_EXITED. */
struct fp_ended {
    int64_t summary[FP_SUM_COUNT];
    struct fp_usage usage;
};

#define FP_MEMBERS_MAX 16

/* 2 to FP_MEMBERS_MAX commands with a pipe between each two, of pipe_size bytes if not 0. */
struct fp_pipeline {
    uint32_t n;
    uint32_t pipe_size;
    struct fp_member *members;
    struct fp_ended *ended; /* filled when it is over, or was broken off */
    /* What the calls give. */
    int64_t duration_ns;
    uint64_t out;      /* bytes of the last one's stdout */
    uint64_t err;      /* bytes of stderr of all */
    int32_t failed;    /* the command that could not be started, or -1 */
    int32_t clean;     /* all ended with 0, made by the best mechanism, and there is nothing else to tell */
    int32_t no_pidfds; /* for the calls: SIGCHLD is blocked, and no pidfds were made */
    int32_t reserved;
};

/* fp_run() for a whole pipeline. A deadline, and the time for which others may hold outputs after the end, count for all of
 * them together. When one cannot be started, the others that were are killed; a later one may have been started by then only
 * where what stands in execve(2)'s way cannot be seen from here. */
int fp_pipeline(struct fp_pipeline *pipeline, int64_t slice_ns);
int fp_pipeline_resume(struct fp_pipeline *pipeline, int64_t slice_ns);

/* fp_job_abort() for all of them. */
void fp_pipeline_abort(struct fp_pipeline *pipeline, int64_t wait_ns);

/* The owner of a descriptor is a cell with its number, or -1. Taking the number out, to close it or to give it away, is one
 * step, so that no number is closed twice, whatever threads, signal handlers and destructors come between. fp_fd_close()
 * returns 0 or a negative errno; the descriptor is gone in any case. fp_fd_drop() is the destructor of a cell. */
int fp_fd_take(int32_t *cell);
int fp_fd_close(int32_t *cell);
void fp_fd_drop(int32_t *cell);

/* Many commands, a limited number at a time, by threads of the pool's own. They block every signal and run no code of the caller's;
 * fp_pool_close() kills and reaps what still runs and joins them. In a forked copy every call gives -ECHILD, and fp_pool_close()
 * only lets go. All calls may come from any thread. */
int fp_pool_new(int64_t limit, int threads, void **ret_pool);
void fp_pool_close(void *pool);
/* Gives back the handle in a cell, if there is one: the destructor of the cell that fp_pool_new() filled. The memory of a pool
 * lasts until all its handles are dropped, those of its trays too, and calls on a closed pool return -ESHUTDOWN: so a signal
 * handler may close it between any two instructions of a caller. */
void fp_pool_free(void **cell);

/* limit: how many run at the same time; interval_ns: the shortest time between two starts, or 0; gated: none is started. */
int fp_pool_set(void *pool, int64_t limit, int64_t interval_ns, int gated);

/* Where the tasks come that have ended; several may take from one pool. Gives a descriptor that is readable when there are some. It
 * is closed when no task of it is left. */
int fp_completion_queue_new(void *pool, void **ret_tray);
void fp_completion_queue_close(void *completions);
void fp_completion_queue_free(void **cell);         /* as fp_pool_free() */
void fp_completion_queue_notify(void *completions); /* whoever waits for it, or will, looks */

/* What a task in the pool is known by: filled before anything can become of the task, so that it can be in other hands. */
struct fp_ticket {
    void *task;
    int64_t serial;
};

/* Puts a command in the queue: those of a higher priority first, then in this order. What the arguments point to must stay until
 * the task was taken. 0 or a negative errno.
 * Without a request the task only gets its turn (FP_DONE_DELEGATED): the caller runs it himself, until fp_pool_release(); or it tells
 * then what to run, by fp_pool_dispatch(). */
int fp_pool_submit(void *pool, void *completions, int64_t key, const struct fp_request *request, const char *paths,
                   uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc, int64_t priority,
                   int64_t delay_ns, struct fp_ticket *ret_ticket);
int fp_pool_dispatch(void *pool, const struct fp_ticket *ticket, const struct fp_request *request, const char *paths,
                     uint32_t npaths, const char *argv, uint32_t argc, const char *env, uint32_t envc);
int fp_pool_release(void *pool, const struct fp_ticket *ticket);

/* What a task is: gone, in the queue, running here, or by the caller. With how 1 or 2 one in the queue is taken out, for good, and
 * one that runs here is asked to end or killed, with the group that it leads; it is taken as any other. With -1 only the former. */
#define FP_TASK_GONE 0
#define FP_TASK_QUEUED 1
#define FP_TASK_RUNNING 2
#define FP_TASK_DELEGATED 3
int fp_pool_cancel(void *pool, const struct fp_ticket *ticket, int how);
int fp_pool_count(void *pool, int64_t *ret_queued, int64_t *ret_running);

/* One that was taken. */
#define FP_DONE_PLAIN 0 /* all of it is here; its output lies in the arena from `at` on, stdout first */
#define FP_DONE_JOB 1   /* there is more to it: it is in the job, which goes back by fp_pool_recycle() */
#define FP_DONE_FAILED                                                                                                 \
    2 /* it was not started: code is a negative errno, the job's child says where, if there is a job */
#define FP_DONE_DELEGATED 3 /* its turn has come */
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

/* Takes up to n of them, waiting wait_ns at most (-1: without limit) for the first, and for a moment more when there are fewer than
 * want. Gives their number, or -EINTR after a signal when there were none. */
int fp_completion_queue_take(void *completions, struct fp_done *ret_done, int n, char *arena, uint64_t size,
                             int64_t want, int64_t wait_ns);
void fp_pool_recycle(void *pool, struct fp_job *job);

/* tee(2): duplicates up to size bytes of one pipe into another without taking them. Never blocks. */
int64_t fp_tee(int from, int to, uint64_t size);

/* What this kernel and sandbox allow, tested once with harmless calls. refused[m] is 0 or the errno that made mechanism m
 * impossible here. */
struct fp_features {
    int32_t refused[7];
    int32_t pidfd; /* clone gives a pidfd */
    int32_t pidfd_open;
    int32_t pidfd_signal;
    int32_t pidfd_wait; /* waitid(P_PIDFD) */
    int32_t pidfd_info; /* PIDFD_GET_INFO tells the exit status of a child that was reaped */
    int32_t close_range;
    int32_t shared_memory; /* CLONE_VM really shares memory (not so under valgrind and qemu-user) */
};
int fp_probe(int again, struct fp_features *ret_features);

/* What the calling thread may do, as system calls tell it (capget(2), prctl(2)). -1 in an int32_t: this kernel has it not. */
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

/* Is a capability in the bounding set: 0 or 1; -EINVAL for one that this kernel does not have. */
int fp_bounding_read(int capability);
int fp_ambient_supported(void);

/* PR_SET_DUMPABLE of the process (GOTCHAS G20); 0 or 1. */
int fp_dumpable_set(int on);

/* One change of what every thread may do. */
#define FP_CRED_CAPSET 1       /* mask: effective, permitted, inheritable */
#define FP_CRED_BOUNDING 2     /* mask[0]: these are dropped */
#define FP_CRED_AMBIENT 3      /* mask[0]: exactly these */
#define FP_CRED_SECUREBITS 4   /* mask[0]: the flags */
#define FP_CRED_KEEPCAPS 5     /* mask[0]: 0 or 1 */
#define FP_CRED_NO_NEW_PRIVS 6 /* for good */
struct fp_cred_op {
    int32_t what;
    int32_t unused;
    uint64_t mask[3];
};

#define FP_CRED_THREADS_MAX 8192

/* How far fp_credentials_set() came. */
struct fp_cred_report {
    int32_t threads; /* those that took part, with the calling one */
    int32_t op;      /* index of the change that failed, or -1: none was begun */
    int32_t tid;     /* the thread that failed or could not be reached; 0 is the calling one */
    int32_t state;   /* of a thread that could not be reached, the letter in /proc/PID/stat, or 0 */
};

/* Where fp_credentials_set() finds /proc: a descriptor, which stays the caller's, for a process in a root without one; -1 for
 * the path. */
void fp_proc_set(int fd);

/* Makes the changes in every thread of the process: all are brought to a halt in a signal handler first (33, which no thread
 * can block through libc), then each change is made by the calling thread, and, when the kernel took it, by all others.
 * Until all threads stand still nothing is changed: -ETIMEDOUT with report.op -1 says that a thread did not come within
 * timeout_ns, -EXDEV that /proc does not show this process's threads, -E2BIG that there are too many. Another error with
 * op >= 0 is that change's; with a tid it failed in that thread alone, and the threads differ now. */
int fp_credentials_set(const struct fp_cred_op *ops, uint32_t nops, int64_t timeout_ns,
                       struct fp_cred_report *ret_report);

/* An entry of the user database. The strings lie in the caller's buffer. */
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

/* One entry, by name, or by number when name is NULL: 1 when there is one, 0 when there is none, -ERANGE when the buffer is
 * too small, another negative errno when the database could not be asked. */
int fp_passwd_get(const char *name, uint32_t uid, char *buffer, size_t size, struct fp_passwd *ret_passwd);
int fp_group_get(const char *name, uint32_t gid, char *buffer, size_t size, struct fp_group *ret_group);

/* Real, effective, saved and filesystem ids of the calling thread. */
void fp_ids_get(uint32_t ret_uids[4], uint32_t ret_gids[4]);

/* What a snapshot can tell of a process, in the terms of proc(5); ps(1) names the namespaces. The comment says where it is
 * read and in which form (struct fp_column): I int64_t, U uint64_t, D double in seconds, S bytes. Sizes are in bytes. */
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
    FP_FIELD_NAME = 52,                  /* S: comm, or where that was cut off the name in cmdline */
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
    FP_FIELD_MAX = 188, /* below */
};

/* Why a cell is empty, when it is not the errno of reading it. */
#define FP_ABSENT_GONE 1001    /* the process had ended, or there was none */
#define FP_ABSENT_ZOMBIE 1002  /* it has ended and waits for its parent */
#define FP_ABSENT_KTHREAD 1003 /* a kernel thread, which has no such thing */
#define FP_ABSENT_UNTOLD 1004  /* the file is there, and has not this value: another kernel's */
#define FP_ABSENT_FORMAT 1005  /* the file says something else than proc(5) promises */
#define FP_ABSENT_HIDDEN 1006  /* it lives, and /proc does not show it: hidepid= */

/* One field of all rows. */
struct fp_column {
    void *cells;     /* rows values of 8 bytes; for S rows + 1 offsets into the blob */
    int16_t *absent; /* 0: there is a value; an errno or FP_ABSENT_ */
    char *blob;
    uint64_t size;     /* of the blob */
    uint64_t capacity; /* of the blob */
    int32_t field;
    int32_t kind; /* 'I', 'U', 'D', 'S' */
};
/* A table. Rows that were not there when their first file was read are only in it when their pid was asked for. */
struct fp_snapshot {
    struct fp_column *columns;
    int64_t *at_ns;      /* CLOCK_MONOTONIC before each row was read */
    int64_t boottime_ns; /* CLOCK_BOOTTIME at the beginning: the clock of starttime */
    uint32_t rows;
    uint32_t ncolumns;
};

/* Whether the numbers below a directory, or below /proc where it is -1, are those that system calls of this process take: 0
 * for a proc file system of this process's own PID namespace. -EXDEV: it belongs to another one; -ENODEV: it is no proc file
 * system, or is not there; another errno: it could not be looked at (EMFILE). Looked at on each call, as a fork, a chroot or a
 * mount may change the answer. */
int fp_proc_check(int directory);
/* Whether a descriptor is of a cgroup v2 file system. */
int fp_is_cgroup2(int fd);

/* Reads the fields of these processes, or of all that /proc shows (pids NULL), from a proc file system mounted at root. A
 * file is read only when a field of it is asked for, and stat, which says whether a process is a zombie or the kernel's;
 * all files of a row are one process's, whatever becomes of its pid. -EMFILE, -ENFILE, -ENOMEM: nothing is returned. When
 * is_proc, root must be as fp_proc_check() wants it. fp_snapshot_close() gives the memory back. */
int fp_snapshot_read(const char *root, int is_proc, const int32_t *pids, uint32_t npids, const int32_t *fields,
                     uint32_t nfields, struct fp_snapshot *ret_snapshot);
void fp_snapshot_close(struct fp_snapshot *snapshot);
/* 'I', 'U', 'D', 'S'; 0: there is no such field. */
int fp_field_kind(int field);

/* The children of a process, with recursive all its descendants, each after its parent, by /proc/PID/task/TID/children of
 * all threads: no other process is looked at. Returns their number, of which the first max are in ret_pids. -ESRCH: there is
 * no such process; -EOPNOTSUPP: this kernel has no such files (CONFIG_PROC_CHILDREN). When is_proc, root must be as
 * fp_proc_check() wants it. */
int fp_children(const char *root, int is_proc, int32_t pid, int recursive, int32_t *ret_pids, uint32_t max);

/* -- the signals of this process: see csrc/self/signals.c. Not on other systems than Linux (-ENOSYS). */

/* One signal that came. What the kernel does not tell of this kind of origin is 0 (sigaction(2)). */
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
    int64_t serial;  /* the same for all who are told of it */
};

#define FP_TAPS_MAX 256

#define FP_TAP_COUNT 1
#define FP_TAP_PIPE 2    /* a record is written to fd, the end of a pipe that does not block */
#define FP_TAP_FORWARD 3 /* sent on to the child of the pidfd fd, by a handler: at once, whatever this process does */
#define FP_TAP_FORCE 4   /* the first asks; a later one of force_mask ends the process */
struct fp_tap_options {
    uint64_t mask;       /* bit n-1 is signal n */
    uint64_t force_mask; /* FP_TAP_FORCE */
    int64_t patience_ns; /* sooner after the first it is the same press of the key */
    int32_t status;      /* to end with; -1: by the signal itself */
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

/* Tells someone of every signal of a set from now on, all others too; the handler that was there is called after them. Returns
 * a number for it. -ENOSPC: FP_TAPS_MAX are. */
int64_t fp_tap_add(const struct fp_tap_options *options);

/* Nobody touches its descriptor any more. With the last one the earlier handler of a signal comes back, unless
 * another was installed over ours. -ENOENT: it was removed, or this is a forked copy. */
int fp_tap_remove(int64_t id);
int fp_tap_look(int64_t id, struct fp_tap_counts *ret_counts);

/* How many came, to be looked at without a call; valid until it is removed. NULL: there is none. */
const int64_t *fp_tap_seen(int64_t id);

/* Puts our handlers back over those that others have installed since, which are called after ours from then on; not those of
 * the signals in `defaults`, whose handler only does what happens by default. */
int fp_signal_renew(uint64_t defaults, uint64_t *ret_renewed);

/* In a copy by fork: gives up what it has inherited. */
int fp_signals_forked(void);

/* For signals that are blocked: a signalfd, and what is done with all that it has: they are told as if they had come. Returns
 * how many, 0 when there are none. */
int fp_signalfd(uint64_t mask);
int fp_signal_pump(int fd);

/* Does what the signal does when nobody handles it: ends this process by it, stops it until it is continued, or nothing. Pid 1
 * of a namespace cannot be ended by a signal and exits with 128 plus its number. */
int fp_signal_default(int sig);

/* fp_signal() with a value, as sigqueue(3) sends it; only by a pidfd. -EAGAIN: the receiver's queue is full. */
int fp_signal_queue(int pidfd, int pid, int sig, int64_t value);

/* The signal that this process gets when the thread that made it ends (prctl(2)); 0 for none. */
int fp_parent_death(int sig);

/* Forces a mechanism for all following spawns of the process; FP_MECHANISM_AUTO ends it. */
int fp_mechanism_force(int mechanism);

/* cdef-end */

/* Only in builds with FP_FAULTS, which are made for the tests. */
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
    FP_POINT_MOVE = 18, /* its pages to their last place */
    FP_POINT_PIPE_BETWEEN = 19,
    FP_POINT_TEE = 20,
    FP_POINT_MAPS = 21,  /* writing the maps of a user namespace */
    FP_POINT_CALL = 31,  /* a system call of the child, see fp_fault_call() */
    FP_POINT_LIMIT = 32, /* below: parent; FP_STAGE_* values from 32 on name the child's steps */
};
/* The nth passage (1 is the next) through the point or child stage fails with error; error < 0 makes the child die there by
 * signal -error, or stop (SIGSTOP) and then go on. 0, 0, 0 disarms. */
int fp_fault_set(int point, int error, int nth);
/* Every identity call number nr of the child, with this first argument unless it is -1, returns -error and does nothing; with
 * 0 it returns success. With a negative error the call is made, then the caller sends itself the signal -error; with
 * FP_FAULT_GATE the caller waits before the call until the fault is taken back. */
#define FP_FAULT_GATE -1000
#define FP_FAULT_ALSO -1001
int fp_fault_call(int nr, int first, int error);
/* After fp_fault_call(): only the hit-th of these calls is meant, and the caller then also makes the call nr: after it with
 * FP_FAULT_ALSO, in its place with error 0. capset(2) takes the low words of the effective, permitted and inheritable sets,
 * setgroups(2) one group, every other call up to three numbers. nr 0 makes none. */
int fp_fault_also(int hit, int nr, int a, int b, int c);
/* In the child the step of one stage runs just before that of another (or after it) instead of in its place. 0, 0, 0 ends it. */
int fp_fault_order(int stage, int other, int after);
/* How often an armed fault was hit. */
int fp_fault_hits(void);
/* cdef-faults-end */
#endif

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
