/* signals.c: the signals of this process: reported to several receivers at once, with their origin; and their default
 * actions.
 *
 * Our handler is installed for a signal while anybody here wants that signal. It passes each signal to all taps, and
 * then to the handler that was there before. For a blocked signal fp_signal_pump() does the same with what a signalfd
 * returns.
 *
 * Invariants: on_signal() makes system calls and uses atomics only; and no handler uses a tap any more when
 * fp_tap_remove() has returned. */
#include "internal.h"

#if FP_LINUX

#include <sched.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <ucontext.h>

_Static_assert(sizeof(struct fp_signal_record) == 64, "a pipe takes it whole or not at all, and 64 of them in a page");
_Static_assert(sizeof(struct signalfd_siginfo) == 128, "signalfd(2)");

#define BIT(sig) (1ULL << ((sig) - 1))
#define SIGNALS 64

typedef void (*handler)(int, siginfo_t *, void *);

struct tap {
    _Atomic uint64_t mask; /* 0: no handler may read the other fields */
    _Atomic int32_t users; /* handlers that are using it now */
    _Atomic int64_t seen;
    _Atomic int64_t lost;
    _Atomic int64_t first_ns; /* FP_TAP_FORCE: time of the first request, or 0 */
    struct fp_tap_options options;
    _Atomic int64_t id; /* each is given once; FREE: the tap is unused */
};

#define FREE 0

static struct tap taps[FP_TAPS_MAX];
static int64_t given;
static _Atomic int32_t taps_end; /* one after the last tap that was ever used */
static _Atomic int32_t owner;    /* the process that owns all this; a forked copy differs (GOTCHAS I2, I3) */
static _Atomic int32_t guard;    /* fp__lock(), of the table */
static _Atomic uint64_t serial;

static _Atomic uintptr_t chained[SIGNALS + 1]; /* the handler before ours; kept when ours is gone; 0: none */
static _Atomic uint64_t quiet;                 /* signals whose earlier handler is not called */
static uint64_t quiet_by_host;
static struct sigaction before[SIGNALS + 1];
static _Atomic uint64_t installed;

static bool is_taken(struct tap *tap)
{
    return atomic_load(&tap->id) != FREE;
}

static int32_t self(void)
{
    return (int32_t)fp__sys0(SYS_getpid);
}

/* -- the default action of a signal (signal(7)) */

#define STOPS (BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU))
#define NOTHING (BIT(SIGCHLD) | BIT(SIGCONT) | BIT(SIGURG) | BIT(SIGWINCH))

int fp_signal_default(int sig)
{
    if (sig < 1 || sig > SIGNALS)
        return -EINVAL;
    if (BIT(sig) & NOTHING)
        return 0;
    int saved = errno;
    uint64_t mask;
    int r = fp__mask_block(&mask);
    if (r < 0)
        return r;
    struct sigaction old, none = {.sa_handler = SIG_DFL};
    bool changed = sig != SIGKILL && sig != SIGSTOP && sigaction(sig, &none, &old) == 0;
    /* To this thread only: another one could be in code that must not see the signal twice. It is delivered when the
     * mask opens, and ends or stops the whole process. */
    fp__sys3(SYS_tgkill, self(), fp__sys0(SYS_gettid), sig);
    uint64_t one = BIT(sig);
    fp__sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &one, NULL, 8);
    fp__sys4(SYS_rt_sigprocmask, SIG_BLOCK, &one, NULL, 8);
    if (!(one & STOPS)) /* pid 1, which only ends by itself (pid_namespaces(7)) */
        fp__sys1(SYS_exit_group, 128 + sig);
    if (changed)
        sigaction(sig, &old, NULL);
    fp__mask_restore(mask);
    errno = saved;
    return 0;
}

/* -- the taps */

/* A terminal sends these to the whole foreground group: a child in our group has got it already. */
#define FROM_TERMINAL (BIT(SIGINT) | BIT(SIGQUIT) | BIT(SIGHUP) | BIT(SIGWINCH) | BIT(SIGCONT) | STOPS)

static void forward(const struct fp_tap_options *to, const struct fp_signal_record *record)
{
    int sig = record->signo;
    if (to->group) {
        fp_signal_group(to->fd, to->pid, sig);
        return;
    }
    if (record->code == SI_KERNEL && BIT(sig) & FROM_TERMINAL &&
        fp__sys1(SYS_getpgid, to->pid) == fp__sys1(SYS_getpgid, 0))
        return;
    if (record->code == SI_QUEUE && fp_signal_queue(to->fd, to->pid, sig, record->value) == 0)
        return;
    fp_signal(to->fd, to->pid, sig);
}

static void force(struct tap *tap, const struct fp_signal_record *record)
{
    int64_t first = 0, now = record->time_ns;
    if (atomic_compare_exchange_strong(&tap->first_ns, &first, now) ||
        !(tap->options.force_mask & BIT(record->signo)) || now - first < tap->options.patience_ns)
        return;
    if (tap->options.status >= 0)
        fp__sys1(SYS_exit_group, tap->options.status);
    fp_signal_default(record->signo);
}

static void notify_tap(struct tap *tap, const struct fp_signal_record *record)
{
    switch (tap->options.kind) {
    case FP_TAP_PIPE:
        if (fp__sys3(SYS_write, tap->options.fd, record, sizeof *record) != sizeof *record)
            atomic_fetch_add(&tap->lost, 1);
        break;
    case FP_TAP_FORWARD:
        forward(&tap->options, record);
        break;
    default:
        break;
    }
    atomic_fetch_add(&tap->seen, 1);
    if (tap->options.kind == FP_TAP_FORCE)
        force(tap, record);
}

/* Returns whether anybody wanted it. */
static bool deliver(struct fp_signal_record *record)
{
    uint64_t bit = BIT(record->signo);
    bool wanted = false;
    record->time_ns = fp__now();
    record->serial = (int64_t)atomic_fetch_add(&serial, 1);
    int32_t end = atomic_load(&taps_end);
    /* A tap that ends the process comes last: all others have been notified then. */
    for (int last = 0; last < 2; last++) {
        for (int32_t i = 0; i < end; i++) {
            struct tap *tap = &taps[i];
            if (!(atomic_load(&tap->mask) & bit))
                continue;
            atomic_fetch_add(&tap->users, 1);
            /* Read again: fp_tap_remove() waits for the handlers that `users` counts. */
            if (atomic_load(&tap->mask) & bit && (tap->options.kind == FP_TAP_FORCE) == last) {
                wanted = true;
                notify_tap(tap, record);
            }
            atomic_fetch_sub(&tap->users, 1);
        }
    }
    return wanted;
}

/* Takes the fields that the kernel sets for this kind of origin (sigaction(2)). */
static void from_siginfo(struct fp_signal_record *record, int sig, const siginfo_t *info)
{
    memset(record, 0, sizeof *record);
    record->signo = sig;
    record->code = info->si_code;
    if (info->si_code == SI_TIMER) {
        record->overrun = info->si_overrun;
        record->value = (intptr_t)info->si_value.sival_ptr;
    } else if (info->si_code == SI_SIGIO || (sig == SIGIO && info->si_code > 0 && info->si_code != SI_KERNEL)) {
        record->band = info->si_band;
        record->fd = info->si_fd;
    } else if (sig == SIGCHLD && info->si_code > 0 && info->si_code != SI_KERNEL) {
        record->pid = info->si_pid;
        record->uid = info->si_uid;
        record->status = info->si_status;
    } else if (info->si_code <= 0) {
        record->pid = info->si_pid;
        record->uid = info->si_uid;
        if (info->si_code != SI_USER && info->si_code != SI_TKILL)
            record->value = (intptr_t)info->si_value.sival_ptr;
    }
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t next = atomic_load(&chained[sig]);
    /* In a forked copy that has not given up what it inherited, only the earlier handler counts (GOTCHAS I3). */
    bool ours = atomic_load(&owner) == self(), left_over = false;
    if (ours) {
        struct fp_signal_record record;
        from_siginfo(&record, sig, info);
        /* Our handler was removed, but one that was installed over it still calls it. */
        left_over = !deliver(&record) && !(atomic_load(&installed) & BIT(sig));
    }
    if (next > 1) {
        /* A handler that takes only the number ignores the other arguments. */
        if (!ours || !(atomic_load(&quiet) & BIT(sig)))
            ((handler)next)(sig, info, context);
    } else if ((!ours || left_over) && next == (uintptr_t)SIG_DFL) {
        fp_signal_default(sig);
    }
    errno = saved;
}

/* -- the table: changed by one thread at a time, with all signals of that thread blocked */

static int lock(uint64_t *ret_mask)
{
    int r = fp__mask_block(ret_mask);
    if (r < 0)
        return r;
    fp__lock(&guard, self());
    return 0;
}

static void unlock(uint64_t mask)
{
    fp__unlock(&guard);
    fp__mask_restore(mask);
}

static bool is_ours(const struct sigaction *action)
{
    return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_signal;
}

/* Installs our handler over the current one, unless ours is the current one. */
static int install(int sig)
{
    struct sigaction now, mine = {.sa_sigaction = on_signal};
    if (sigaction(sig, NULL, &now) < 0)
        return -errno;
    if (is_ours(&now))
        return 0;
    before[sig] = now;
    bool is_function = now.sa_flags & SA_SIGINFO || (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN);
    atomic_store(&chained[sig], now.sa_flags & SA_SIGINFO ? (uintptr_t)now.sa_sigaction : (uintptr_t)now.sa_handler);
    sigfillset(&mine.sa_mask);
    /* Where a handler is chained, system calls are interrupted as that handler wants: Python runs its handlers then.
     * SIGCHLD for stopped children comes, or not, as before. */
    mine.sa_flags = SA_SIGINFO | SA_ONSTACK | (is_function ? now.sa_flags & SA_RESTART : SA_RESTART);
    mine.sa_flags |= now.sa_flags & (SA_NOCLDSTOP | SA_NOCLDWAIT);
    /* Ended children left no zombies before, and leave none now (waitpid(2)). */
    if (sig == SIGCHLD && !is_function && now.sa_handler == SIG_IGN)
        mine.sa_flags |= SA_NOCLDWAIT;
    return sigaction(sig, &mine, NULL) < 0 ? -errno : 1;
}

static void uninstall(int sig)
{
    struct sigaction now;
    /* A handler that somebody installed over ours stays. It may call ours, which was there before it: so `chained`
     * remains. */
    if (sigaction(sig, NULL, &now) == 0 && is_ours(&now))
        sigaction(sig, &before[sig], NULL);
    installed &= ~BIT(sig);
}

/* Installs and removes handlers, so that exactly the signals that the taps want have ours. */
static int update_handlers(void)
{
    uint64_t wanted = 0, silent = quiet_by_host;
    for (int i = 0; i < taps_end; i++) {
        uint64_t mask = atomic_load(&taps[i].mask);
        wanted |= mask;
        if (is_taken(&taps[i]) && taps[i].options.quiet)
            silent |= mask;
    }
    atomic_store(&quiet, silent);
    int r = 0;
    for (int sig = 1; sig <= SIGNALS; sig++) {
        if (!(wanted & BIT(sig)) && installed & BIT(sig))
            uninstall(sig);
        if (wanted & BIT(sig) && !(installed & BIT(sig)) && r >= 0) {
            r = install(sig);
            if (r >= 0)
                installed |= BIT(sig);
        }
    }
    return r < 0 ? r : 0;
}

static void give_up(struct tap *tap)
{
    atomic_store(&tap->mask, 0);
    /* A handler in another thread may be using the descriptor. It does not wait for anything. */
    while (atomic_load(&tap->users) > 0)
        sched_yield();
}

static void close_fd(struct tap *tap)
{
    if (tap->options.fd >= 0)
        fp__close(tap->options.fd);
    tap->options.fd = -1;
    atomic_store(&tap->id, FREE);
}

/* Gives up what a forked copy has inherited: restores the handlers and closes the descriptors; the numbers belong to
 * the copy. */
static void forget(void)
{
    for (int i = 0; i < taps_end; i++) {
        atomic_store(&taps[i].mask, 0);
        atomic_store(&taps[i].users, 0); /* they were threads of the parent */
        if (is_taken(&taps[i]))
            close_fd(&taps[i]);
    }
    update_handlers();
    atomic_store(&owner, self());
}

int fp_signals_forked(void)
{
    uint64_t mask;
    int32_t was = atomic_load(&owner);
    if (was == 0 || was == self())
        return 0;
    int r = lock(&mask);
    if (r < 0)
        return r;
    forget();
    unlock(mask);
    return 1;
}

static struct tap *find(int64_t id)
{
    if (id <= 0)
        return NULL;
    struct tap *tap = &taps[id % FP_TAPS_MAX];
    return atomic_load(&tap->id) == id && atomic_load(&owner) == self() ? tap : NULL;
}

int64_t fp_tap_add(const struct fp_tap_options *options)
{
    uint64_t mask;
    int r = lock(&mask);
    if (r < 0)
        return r;
    if (atomic_load(&owner) != self())
        forget();
    int place = 0;
    while (place < FP_TAPS_MAX && is_taken(&taps[place]))
        place++;
    if (place == FP_TAPS_MAX) {
        unlock(mask);
        return -ENOSPC;
    }
    struct tap *tap = &taps[place];
    tap->options = *options;
    if (options->fd >= 0) {
        r = tap->options.fd = (int)fp__sys3(SYS_fcntl, options->fd, F_DUPFD_CLOEXEC, 3);
        if (r < 0) {
            unlock(mask);
            return r;
        }
    }
    int64_t id = ++given * FP_TAPS_MAX + place;
    atomic_store(&tap->id, id);
    atomic_store(&tap->seen, 0);
    atomic_store(&tap->lost, 0);
    atomic_store(&tap->first_ns, 0);
    if (place >= taps_end)
        atomic_store(&taps_end, place + 1);
    atomic_store(&tap->mask, options->mask);
    r = update_handlers();
    if (r < 0) {
        give_up(tap);
        close_fd(tap);
        update_handlers();
        id = r;
    }
    unlock(mask);
    return id;
}

int fp_tap_remove(int64_t id)
{
    uint64_t mask;
    int r = lock(&mask);
    if (r < 0)
        return r;
    struct tap *tap = find(id);
    r = -ENOENT;
    if (tap != NULL) {
        /* Handlers first: without ours the signal does what it did before, so none is lost in between. */
        atomic_store(&tap->mask, 0);
        update_handlers();
        give_up(tap);
        close_fd(tap);
        r = 0;
    }
    unlock(mask);
    return r;
}

int fp_tap_look(int64_t id, struct fp_tap_counts *ret_counts)
{
    struct tap *tap = find(id);
    if (tap == NULL)
        return -ENOENT;
    ret_counts->seen = atomic_load(&tap->seen);
    ret_counts->lost = atomic_load(&tap->lost);
    ret_counts->first_ns = atomic_load(&tap->first_ns);
    return 0;
}

const int64_t *fp_tap_seen(int64_t id)
{
    struct tap *tap = find(id);
    return tap == NULL ? NULL : (const int64_t *)&tap->seen;
}

int fp_signal_renew(uint64_t defaults, uint64_t *ret_renewed)
{
    uint64_t mask;
    int r = lock(&mask);
    if (r < 0)
        return r;
    *ret_renewed = 0;
    if (atomic_load(&owner) == self()) {
        quiet_by_host = defaults;
        r = update_handlers();
        for (int sig = 1; sig <= SIGNALS && r >= 0; sig++) {
            if (installed & BIT(sig)) {
                r = install(sig);
                if (r > 0)
                    *ret_renewed |= BIT(sig);
            }
        }
    } else if (atomic_load(&owner) == 0) {
        quiet_by_host = defaults;
    }
    unlock(mask);
    return r < 0 ? r : 0;
}

/* -- blocked signals */

int fp_signalfd(uint64_t mask)
{
    return (int)fp__sys4(SYS_signalfd4, -1, &mask, 8, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void to_siginfo(siginfo_t *info, const struct signalfd_siginfo *from)
{
    memset(info, 0, sizeof *info);
    info->si_signo = (int)from->ssi_signo;
    info->si_code = from->ssi_code;
    if (from->ssi_code == SI_TIMER) {
        info->si_timerid = (int)from->ssi_tid;
        info->si_overrun = (int)from->ssi_overrun;
        info->si_value.sival_ptr = (void *)(uintptr_t)from->ssi_ptr;
    } else if (from->ssi_code == SI_SIGIO ||
               (from->ssi_signo == SIGIO && from->ssi_code > 0 && from->ssi_code != SI_KERNEL)) {
        info->si_band = (long)from->ssi_band;
        info->si_fd = from->ssi_fd;
    } else if (from->ssi_signo == SIGCHLD && from->ssi_code > 0 && from->ssi_code != SI_KERNEL) {
        info->si_pid = (pid_t)from->ssi_pid;
        info->si_uid = from->ssi_uid;
        info->si_status = from->ssi_status;
    } else {
        info->si_pid = (pid_t)from->ssi_pid;
        info->si_uid = from->ssi_uid;
        info->si_value.sival_ptr = (void *)(uintptr_t)from->ssi_ptr;
    }
}

/* Calls the installed handler, as the kernel would have. */
static void call_handler(int sig, siginfo_t *info)
{
    struct sigaction now;
    if (atomic_load(&quiet) & BIT(sig) || sigaction(sig, NULL, &now) < 0)
        return;
    uintptr_t next = is_ours(&now)               ? atomic_load(&chained[sig])
                     : now.sa_flags & SA_SIGINFO ? (uintptr_t)now.sa_sigaction
                                                 : (uintptr_t)now.sa_handler;
    if (next > 1) {
        ucontext_t context;
        getcontext(&context);
        ((handler)next)(sig, info, &context);
    }
}

int fp_signal_pump(int fd)
{
    struct signalfd_siginfo batch[16];
    int saved = errno;
    long r = fp__sys3(SYS_read, fd, batch, sizeof batch);
    if (r < 0)
        return r == -EAGAIN || r == -EINTR ? 0 : (int)r;
    int n = (int)(r / (long)sizeof batch[0]);
    for (int i = 0; i < n; i++) {
        siginfo_t info;
        struct fp_signal_record record;
        int sig = (int)batch[i].ssi_signo;
        to_siginfo(&info, &batch[i]);
        from_siginfo(&record, sig, &info);
        deliver(&record);
        call_handler(sig, &info);
    }
    errno = saved;
    return n;
}

/* -- sending */

int fp_signal_queue(int pidfd, int pid, int sig, int64_t value)
{
    if (sig < 0 || sig > SIGNALS || pidfd < 0)
        return -EINVAL;
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = sig;
    info.si_code = SI_QUEUE;
    info.si_pid = self();
    info.si_uid = (uid_t)fp__sys0(SYS_getuid);
    info.si_value.sival_ptr = (void *)(uintptr_t)value;
    (void)pid;
    return (int)fp__sys4(SYS_pidfd_send_signal, pidfd, sig, &info, 0);
}

int fp_parent_death(int sig)
{
    return (int)fp__sys5(SYS_prctl, PR_SET_PDEATHSIG, sig, 0, 0, 0);
}

#else /* other POSIX systems */

int64_t fp_tap_add(const struct fp_tap_options *options)
{
    (void)options;
    return -ENOSYS;
}

int fp_tap_remove(int64_t id)
{
    (void)id;
    return -ENOENT;
}

int fp_tap_look(int64_t id, struct fp_tap_counts *ret_counts)
{
    (void)id;
    (void)ret_counts;
    return -ENOENT;
}

const int64_t *fp_tap_seen(int64_t id)
{
    (void)id;
    return NULL;
}

int fp_signal_renew(uint64_t defaults, uint64_t *ret_renewed)
{
    (void)defaults;
    *ret_renewed = 0;
    return 0;
}

int fp_signals_forked(void)
{
    return 0;
}

int fp_signalfd(uint64_t mask)
{
    (void)mask;
    return -ENOSYS;
}

int fp_signal_pump(int fd)
{
    (void)fd;
    return -ENOSYS;
}

int fp_signal_default(int sig)
{
    (void)sig;
    return -ENOSYS;
}

int fp_signal_queue(int pidfd, int pid, int sig, int64_t value)
{
    (void)pidfd;
    (void)pid;
    (void)sig;
    (void)value;
    return -ENOSYS;
}

int fp_parent_death(int sig)
{
    (void)sig;
    return -ENOSYS;
}

#endif
