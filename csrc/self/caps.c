/* caps.c: capabilities and securebits of this process: read in one call, changed in all threads at once.
 *
 * The kernel keeps them for each thread (GOTCHAS G9), and no function of the C library changes them for the whole
 * process. So every other thread is sent the signal with which the C library spreads setuid(2), which nobody can block
 * through the C library. In its handler the thread waits until the calling thread has made the change and then makes
 * the change too, or until the calling thread gives up. A stopped thread may hold any lock, of malloc, of stdio, of the
 * interpreter; so between the first signal and the last thread's return from the handler only raw system calls are made
 * here. */
#include "internal.h"

#if FP_LINUX

#include <linux/capability.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/vfs.h>

#define SIG_SPREAD 33 /* glibc: SIGSETXID; musl: SIGCANCEL. sival_ptr marks ours. */
#define SLOTS (2 * FP_CRED_THREADS_MAX)
#define SLICE_NS 1000000
#define LOOK_NS 20000000 /* after so long, the state of a missing thread is looked at */

/* One thread. The low two bits of `word` are its state, the others the generation: a signal that arrives after its
 * generation has ended finds another word and changes nothing. */
enum { SENT = 1, STOPPED = 2, OVER = 3 };
struct slot {
    _Atomic uint64_t word;
    _Atomic int32_t tid;
    _Atomic int32_t result;
};

static struct slot slots[SLOTS];
static _Atomic uint64_t generation;
static _Atomic int32_t busy;  /* fp__lock() */
static _Atomic uint32_t step; /* futex: counts the steps; `current` is the change to make, or NULL: return */
static const struct fp_cred_op *_Atomic current;
static _Atomic uint32_t changes;    /* futex: counts each stop, change and return of a thread */
static _Atomic int32_t stopped;     /* threads in the handler */
static _Atomic int32_t done;        /* those of them that made the change */
static _Atomic int32_t undelivered; /* a signal was sent and not taken: the handler stays installed */
static struct fp__sigaction chained;

static long futex(_Atomic uint32_t *word, int op, uint32_t value, int64_t timeout_ns)
{
    struct timespec ts = {.tv_sec = timeout_ns / FP_NSEC, .tv_nsec = timeout_ns % FP_NSEC};
    return fp__sys4(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout_ns < 0 ? NULL : &ts);
}

static void notify_caller(void)
{
    atomic_fetch_add(&changes, 1);
    futex(&changes, FUTEX_WAKE, 1, -1);
}

/* -- the changes */

static int capset_(const uint64_t mask[3])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(mask[0] >> (32 * i));
        data[i].permitted = (uint32_t)(mask[1] >> (32 * i));
        data[i].inheritable = (uint32_t)(mask[2] >> (32 * i));
    }
    return (int)fp__sys2(SYS_capset, &header, data);
}

static int prctl_(int option, uint64_t a, uint64_t b)
{
    return (int)fp__sys5(SYS_prctl, option, a, b, 0, 0);
}

static int drop_bounding(uint64_t mask)
{
    for (int number = 0; number < 64; number++) {
        if (mask >> number & 1) {
            int r = prctl_(PR_CAPBSET_DROP, (uint64_t)number, 0);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int set_ambient(uint64_t mask)
{
    for (int number = 0; number < 64; number++) {
        bool want = mask >> number & 1;
        int has = prctl_(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, (uint64_t)number);
        if (has < 0 && !want)
            continue;
        int r = has == want
                    ? 0
                    : prctl_(PR_CAP_AMBIENT, want ? PR_CAP_AMBIENT_RAISE : PR_CAP_AMBIENT_LOWER, (uint64_t)number);
        if (r < 0)
            return r;
    }
    return 0;
}

static int change(const struct fp_cred_op *op)
{
    switch (op->what) {
    case FP_CRED_CAPSET:
        return capset_(op->mask);
    case FP_CRED_BOUNDING:
        return drop_bounding(op->mask[0]);
    case FP_CRED_AMBIENT:
        return set_ambient(op->mask[0]);
    case FP_CRED_SECUREBITS:
        return prctl_(PR_SET_SECUREBITS, op->mask[0], 0);
    case FP_CRED_KEEPCAPS:
        return prctl_(PR_SET_KEEPCAPS, op->mask[0], 0);
    case FP_CRED_NO_NEW_PRIVS:
        return prctl_(PR_SET_NO_NEW_PRIVS, 1, 0);
    default:
        return -EINVAL;
    }
}

/* -- the other threads */

static void handler(int sig, siginfo_t *info, void *context)
{
    if (info->si_code != SI_QUEUE) {
        /* Sent by the C library: setuid(2) in another thread. */
        if ((uintptr_t)chained.handler > (uintptr_t)SIG_IGN)
            ((void (*)(int, siginfo_t *, void *))chained.handler)(sig, info, context);
        return;
    }
    uint64_t value = (uint64_t)(uintptr_t)info->si_value.sival_ptr;
    struct slot *slot = &slots[value % SLOTS];
    uint64_t mine = value / SLOTS << 2;
    uint64_t expected = mine | SENT;
    /* The step cannot change between this line and the change of the word: the caller waits for this slot. */
    uint32_t seen = atomic_load(&step);
    atomic_fetch_add(&stopped, 1);
    bool in_time = atomic_compare_exchange_strong(&slot->word, &expected, mine | STOPPED);
    notify_caller();
    while (in_time) {
        uint32_t now = atomic_load(&step);
        if (now == seen) {
            futex(&step, FUTEX_WAIT, seen, -1);
            continue;
        }
        seen = now;
        const struct fp_cred_op *op = atomic_load(&current);
        if (!op)
            break;
        atomic_store(&slot->result, change(op));
        atomic_fetch_add(&done, 1);
        notify_caller();
    }
    atomic_fetch_sub(&stopped, 1);
    notify_caller();
}

#if defined(__x86_64__)
/* rt_sigreturn(2); debuggers recognise these bytes. */
__asm__(".text\n.align 16\n.type fp__restore_rt,@function\nfp__restore_rt:\n\tmov $15, %rax\n\tsyscall\n"
        ".size fp__restore_rt, .-fp__restore_rt\n");
extern void fp__restore_rt(void) __attribute__((visibility("hidden")));
#define RESTORER ((void *)fp__restore_rt)
#define SA_RESTORER_ 0x04000000UL
#else
#define RESTORER NULL /* aarch64: the vdso's */
#define SA_RESTORER_ 0UL
#endif

static int install(void)
{
    struct fp__sigaction old, mine = {.handler = (void *)handler, .restorer = RESTORER, .mask = ~0ULL};
    mine.flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | SA_RESTORER_;
    int r = (int)fp__sys4(SYS_rt_sigaction, SIG_SPREAD, NULL, &old, sizeof old.mask);
    if (r < 0 || old.handler == (void *)handler)
        return r;
    chained = old;
    return (int)fp__sys4(SYS_rt_sigaction, SIG_SPREAD, &mine, NULL, sizeof mine.mask);
}

static int send_signal(struct slot *slot, uint64_t gen, pid_t pid, int32_t tid)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIG_SPREAD;
    info.si_code = SI_QUEUE;
    info.si_pid = pid;
    info.si_value.sival_ptr = (void *)(uintptr_t)(gen * SLOTS + (uint64_t)(slot - slots));
    atomic_store(&slot->tid, tid);
    atomic_store(&slot->word, gen << 2 | SENT);
    return (int)fp__sys4(SYS_rt_tgsigqueueinfo, pid, tid, SIG_SPREAD, &info);
}

static struct slot *find(uint64_t gen, int32_t tid)
{
    uint32_t at = (uint32_t)tid * 2654435761U % SLOTS;
    for (;; at = (at + 1) % SLOTS) {
        struct slot *slot = &slots[at];
        if (atomic_load(&slot->word) >> 2 != gen || atomic_load(&slot->tid) == tid)
            return slot;
    }
}

static int32_t number(const char *text)
{
    int32_t n = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        n = n * 10 + (*text - '0');
    return *text ? 0 : n;
}

/* Returns the letter of the state in /proc/self/task/TID/stat; 'X' when the thread is gone, 0 when it is unknown. */
static char state_of(int tasks, int32_t tid)
{
    char path[24] = {0}, text[512];
    char *end = path + 11;
    int at = 11;
    for (int32_t n = tid; n; n /= 10)
        path[--at] = (char)('0' + n % 10);
    memcpy(end, "/stat", 6);
    int fd = (int)fp__sys4(SYS_openat, tasks, path + at, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd == -ENOENT || fd == -ESRCH ? 'X' : 0;
    long n = fp__sys3(SYS_read, fd, text, sizeof text);
    fp__close(fd);
    if (n < 0)
        return n == -ESRCH ? 'X' : 0;
    while (n > 2 && text[n - 1] != ')') /* the name may contain anything */
        n--;
    return n > 2 ? text[n + 1] : 0;
}

struct scan {
    uint64_t gen;
    pid_t pid;
    int32_t self;
    int tasks;
    int signalled; /* threads that were sent the signal */
    int added;     /* of them in this scan */
    int pending;   /* threads that have not stopped */
    bool look;     /* look at the state of missing threads */
    int32_t missing;
    char state;
};

static int visit(struct scan *s, int32_t tid)
{
    struct slot *slot = find(s->gen, tid);
    uint64_t word = atomic_load(&slot->word);
    if (word >> 2 != s->gen) {
        if (s->signalled == FP_CRED_THREADS_MAX)
            return -E2BIG;
        int r = s->signalled ? 0 : install();
        if (r < 0)
            return r;
        s->signalled++;
        s->added++;
        r = send_signal(slot, s->gen, s->pid, tid);
        if (r < 0) {
            atomic_store(&slot->word, s->gen << 2 | OVER);
            return r == -ESRCH ? 0 : r;
        }
        return 0;
    }
    if ((word & 3) != SENT)
        return 0;
    if (s->look) {
        char state = state_of(s->tasks, tid);
        uint64_t expected = s->gen << 2 | SENT;
        /* Dead, but still listed: the main thread after pthread_exit(3). It will do nothing more. */
        if (state == 'Z' || state == 'X') {
            if (atomic_compare_exchange_strong(&slot->word, &expected, s->gen << 2 | OVER))
                return 0;
        }
        s->state = state;
    }
    s->missing = tid;
    s->pending++;
    return 0;
}

static int scan(struct scan *s)
{
    _Alignas(8) char buffer[4096];
    bool self_seen = false;
    s->added = s->pending = 0;
    if (fp__sys3(SYS_lseek, s->tasks, 0, SEEK_SET) < 0)
        return -EXDEV;
    for (;;) {
        long n = fp__sys3(SYS_getdents64, s->tasks, buffer, sizeof buffer);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return self_seen ? 0 : -EXDEV;
        for (long at = 0; at < n;) {
            const struct fp__dirent *entry = (const void *)(buffer + at);
            at += entry->reclen;
            int32_t tid = number(entry->name);
            if (tid == s->self)
                self_seen = true;
            int r = tid > 0 && tid != s->self ? visit(s, tid) : 0;
            if (r < 0)
                return r;
        }
    }
}

/* Only the calling thread runs when two scans in a row find no new thread and no missing one: a stopped thread makes no
 * threads. */
static int stop_threads(struct scan *s, int64_t timeout_ns)
{
    int64_t begin = fp__now();
    for (int calm = 0; calm < 2;) {
        uint32_t before = atomic_load(&changes);
        int r = scan(s);
        if (r < 0)
            return r;
        calm = s->added || s->pending ? 0 : calm + 1;
        int64_t past = fp__now() - begin;
        s->look = past > LOOK_NS;
        if (s->pending && past > timeout_ns)
            return -ETIMEDOUT;
        if (s->pending)
            futex(&changes, FUTEX_WAIT, before, SLICE_NS);
    }
    return 0;
}

static void next_step(const struct fp_cred_op *op)
{
    atomic_store(&done, 0);
    atomic_store(&current, op);
    atomic_fetch_add(&step, 1);
    futex(&step, FUTEX_WAKE, INT32_MAX, -1);
}

static void await(_Atomic int32_t *count, int32_t value)
{
    for (;;) {
        uint32_t before = atomic_load(&changes);
        if (atomic_load(count) == value)
            return;
        futex(&changes, FUTEX_WAIT, before, -1);
    }
}

static int perform(const struct fp_cred_op *ops, uint32_t nops, struct scan *s, struct fp_cred_report *report)
{
    int32_t others = 0;
    for (int at = 0; s->signalled && at < SLOTS; at++)
        others += atomic_load(&slots[at].word) == (s->gen << 2 | STOPPED);
    report->threads = others + 1;
    for (uint32_t i = 0; i < nops; i++) {
        report->op = (int32_t)i;
        int r = change(&ops[i]);
        if (r < 0)
            return r;
        if (others == 0)
            continue;
        next_step(&ops[i]);
        await(&done, others);
        for (int at = 0; at < SLOTS; at++) {
            if (atomic_load(&slots[at].word) != (s->gen << 2 | STOPPED))
                continue;
            r = atomic_load(&slots[at].result);
            if (r < 0) {
                report->tid = atomic_load(&slots[at].tid);
                return r;
            }
        }
    }
    return 0;
}

/* Lets all threads return, also those whose signal is still on its way. */
static void release_threads(struct scan *s)
{
    if (!s->signalled)
        return;
    for (int at = 0; at < SLOTS; at++) {
        uint64_t expected = s->gen << 2 | SENT;
        if (atomic_compare_exchange_strong(&slots[at].word, &expected, s->gen << 2 | OVER))
            atomic_store(&undelivered, 1);
    }
    next_step(NULL);
    await(&stopped, 0);
    /* A signal on its way must find the handler: the default action of 33 is to kill. */
    if (!atomic_load(&undelivered))
        fp__sys4(SYS_rt_sigaction, SIG_SPREAD, &chained, NULL, sizeof chained.mask);
}

/* A descriptor of /proc, for a process in a root without it or with another. */
static _Atomic int proc_fd = -1;

void fp_proc_set(int fd)
{
    atomic_store(&proc_fd, fd);
}

int fp_credentials_set(const struct fp_cred_op *ops, uint32_t nops, int64_t timeout_ns,
                       struct fp_cred_report *ret_report)
{
    struct fp_cred_report report = {.op = -1};
    struct scan s = {.pid = (pid_t)fp__sys0(SYS_getpid), .self = (int32_t)fp__sys0(SYS_gettid)};
    uint64_t all = ~0ULL, mask;
    int proc = atomic_load(&proc_fd);
    const char *path = proc < 0 ? "/proc/self/task" : "self/task";
    s.tasks = (int)fp__sys4(SYS_openat, proc < 0 ? AT_FDCWD : proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    /* In the /proc of another PID namespace the threads have other numbers: some would be missed. */
    int r = s.tasks < 0 || fp_proc_check(proc) < 0 ? -EXDEV : 0;
    if (r == 0) {
        /* A thread that waits here can still be stopped by the holder. After a fork, the threads counted as stopped
         * were the parent's. */
        if (fp__lock(&busy, s.pid))
            atomic_store(&stopped, 0);
        fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof mask);
        s.gen = atomic_fetch_add(&generation, 1) + 1;
        r = stop_threads(&s, timeout_ns);
        if (r == 0) {
            r = perform(ops, nops, &s, &report);
        } else {
            report.tid = r == -ETIMEDOUT ? s.missing : 0;
            report.state = r == -ETIMEDOUT ? s.state : 0;
        }
        release_threads(&s);
        fp__unlock(&busy);
        fp__sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
    }
    if (s.tasks >= 0)
        fp__close(s.tasks);
    *ret_report = report;
    return r;
}

/* -- reading */

int fp_bounding_read(int capability)
{
    return prctl_(PR_CAPBSET_READ, (uint64_t)(unsigned)capability, 0);
}

int fp_ambient_supported(void)
{
    return prctl_(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0) >= 0;
}

int fp_dumpable_set(int on)
{
    return on == 0 || on == 1 ? fp__dumpable_set(on) : -EINVAL;
}

static int32_t or_absent(int r)
{
    return r < 0 ? -1 : r;
}

int fp_credentials_get(struct fp_credentials *ret_credentials)
{
    struct fp__capabilities have;
    long r = fp__capabilities_get(&have);
    if (r < 0)
        return (int)r;
    struct fp_credentials got = {
        .effective = have.effective, .permitted = have.permitted, .inheritable = have.inheritable};
    for (int number = 0; number < 64; number++) {
        got.bounding |= (uint64_t)(fp_bounding_read(number) == 1) << number;
        got.ambient |= (uint64_t)(prctl_(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, (uint64_t)number) == 1) << number;
    }
    got.securebits = or_absent(prctl_(PR_GET_SECUREBITS, 0, 0));
    got.keepcaps = or_absent(prctl_(PR_GET_KEEPCAPS, 0, 0));
    got.no_new_privs = or_absent(prctl_(PR_GET_NO_NEW_PRIVS, 0, 0));
    got.dumpable = or_absent(fp__dumpable_get());
    *ret_credentials = got;
    return 0;
}

#else

int fp_credentials_get(struct fp_credentials *ret_credentials)
{
    (void)ret_credentials;
    return -ENOSYS;
}

int fp_bounding_read(int capability)
{
    (void)capability;
    return -ENOSYS;
}

int fp_ambient_supported(void)
{
    return 0;
}

int fp_dumpable_set(int on)
{
    (void)on;
    return -ENOSYS;
}

void fp_proc_set(int fd)
{
    (void)fd;
}

int fp_credentials_set(const struct fp_cred_op *ops, uint32_t nops, int64_t timeout_ns,
                       struct fp_cred_report *ret_report)
{
    (void)ops, (void)nops, (void)timeout_ns;
    *ret_report = (struct fp_cred_report){.op = -1};
    return -ENOSYS;
}

#endif
