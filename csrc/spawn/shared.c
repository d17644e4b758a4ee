/* shared.c: children that change their ids while they share our memory, and how that memory is kept closed meanwhile.
 *
 * The danger. A process may read the memory of any process with the same uid, if that memory is "dumpable" (ptrace(2),
 * access mode checking). A child that becomes another user while it shares our memory would open that memory to the new
 * user (GOTCHAS G20).
 *
 * The guard. The dumpable flag belongs to the memory, not to the process (PR_SET_DUMPABLE, prctl(2)). So the flag is
 * cleared before such a child is made, and set again when the last such child has left our memory, by exec or death.
 * Both happen under one lock, which also admits new children: a child with another uid and a dumpable memory of ours
 * never exist at the same time. The child itself asks for the flag before each change of its ids and after the change
 * of its uid, and ends where it is set (memory_is_open() in identity.c).
 *
 * The kernel clears the flag itself at a change of ids and leaves it cleared forever; after the last child the flag is
 * set again only if it was set before and this process is still root.
 *
 * Forked copies. A copy has its own memory, with the flag as it was at the fork. It sets the flag again in the
 * pthread_atfork(3) handler, or, after a raw clone, with its next child of this kind; `epoch` marks the states
 * that it has only inherited.
 *
 * Where somebody could notice the cleared flag, the launcher is used instead: see fp__memory_close(). */
#include "internal.h"

#if FP_LINUX

#include <linux/capability.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <sys/prctl.h>

enum { UNKNOWN, POSSIBLE, REFUSED };

static _Atomic int possible;
static _Atomic int32_t guard; /* fp__lock(), for the variables below */
static int32_t owner;         /* the process whose children are counted */
static int32_t epoch = 1;     /* another one in each copy, as a copy can have the same pid in its own PID namespace */
static int32_t children;
static int32_t before; /* the flag while there was no child */

static long flag(void)
{
    return fp__sys5(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
}

static bool is_root(void)
{
    return fp__sys0(SYS_geteuid) == 0 && fp__sys0(SYS_getuid) == 0 && fp__sys0(SYS_getegid) == 0;
}

/* Sets the flag again. Not where this process has become another user, from whom the kernel has closed the memory; also
 * not when that happens just now. */
static void restore_flag(void)
{
    if (before != 1 || !is_root())
        return;
    fp__call(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    if (!is_root())
        fp__call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* A copy of this process has the flag as it was at the fork, and its own memory. */
static void start_over(int32_t self)
{
    if (children > 0)
        restore_flag();
    children = 0;
    epoch++;
    owner = self;
}

/* Runs in the only thread of the copy: the holder of the lock was a thread of the parent. */
static void after_fork(void)
{
    start_over((int32_t)fp__sys0(SYS_getpid));
    fp__unlock(&guard);
}

/* What the kernel does with the flag at a change of ids (proc_sys_fs(5)): 1 would open the memory, and with 2, before
 * Linux 5.17, a core dump of the child would end all processes that share its memory. */
static bool kernel_closes(void)
{
    char value[2] = {0, 0};
    long fd = fp__proc_open("/proc/sys/fs/suid_dumpable", O_RDONLY);
    if (fd < 0)
        return false;
    fp__sys3(SYS_read, fd, value, 2);
    fp__close((int)fd);
    return value[0] == '0' && value[1] == '\n';
}

static bool is_possible(int32_t self)
{
    int known = atomic_load_explicit(&possible, memory_order_acquire);
    if (known == UNKNOWN) {
        bool comparable = fp__sys5(SYS_kcmp, self, self, KCMP_VM, 0, 0) == 0;
        int next = comparable && kernel_closes() && pthread_atfork(NULL, NULL, after_fork) == 0 ? POSSIBLE : REFUSED;
        if (atomic_compare_exchange_strong(&possible, &known, next))
            known = next;
    }
    return known == POSSIBLE;
}

/* Without CAP_SYS_PTRACE this process may not ask whether a child of another user still has its memory. */
static bool may_compare(void)
{
    struct fp__capabilities have;
    return fp__capabilities_get(&have) == 0 && (have.effective >> CAP_SYS_PTRACE & 1);
}

#define PLAIN_FLAGS (FP_ID_UID | FP_ID_GID | FP_ID_GROUPS | FP_ID_CAPS | FP_ID_AMBIENT | FP_ID_BOUNDING)

/* Only for root, for whom the cleared flag changes little (for another user all of /proc/self would belong to root
 * meanwhile, proc(5)), and only for a change to another user and nothing else: the uid is what the memory is protected
 * by. The group has to change too: then the kernel applies its rule about the flag before the uid changes, and the
 * child can look at the result in time. */
bool fp__memory_close(struct fp__spawn_state *s)
{
    const struct fp_identity *identity = s->args.identity;
    int32_t self = (int32_t)fp__sys0(SYS_getpid);
    bool plain = (identity->flags & ~(uint32_t)PLAIN_FLAGS) == 0 && identity->namespaces == 0 &&
                 identity->nfilter == 0 && identity->root_fd < 0 && identity->ruleset_fd < 0;
    if (!plain || identity->uid == 0 || identity->gid == 0 || (s->args.attr->flags & FP_ATTR_OOM_SCORE_ADJ) ||
        !is_root() || !may_compare() || !is_possible(self))
        return false;
    fp__lock(&guard, self);
    if (owner != self)
        start_over(self);
    bool closed = children > 0;
    if (!closed)
        before = (int32_t)flag();
    children++; /* before the flag is cleared: a copy made in between sets it again */
    if (!closed)
        closed = (before == 0 || before == 1) && fp__call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && flag() == 0;
    children -= !closed;
    s->closed_epoch = closed ? epoch : 0;
    fp__unlock(&guard);
    return closed;
}

/* The kernel clears `memory_in_use` a little before the child, with its new uid, gives the memory up: mm_release()
 * comes before exit_mm() has waited for a lock of the memory, and before exec_mmap() has put the new memory in its
 * place. kcmp(2) waits for an exec that is under way, and then distinguishes the two. A child that its parent sees as
 * dead has given the memory up. */
bool fp__memory_left(const struct fp__spawn_state *s, bool dead)
{
    int32_t self = (int32_t)fp__sys0(SYS_getpid);
    long r = fp__sys5(SYS_kcmp, self, s->child_pid, KCMP_VM, 0, 0);
    return r > 0 || r == -ESRCH || (r < 0 && dead);
}

void fp__memory_open(struct fp__spawn_state *s)
{
    int32_t self = (int32_t)fp__sys0(SYS_getpid);
    fp__lock(&guard, self);
    if (owner == self && s->closed_epoch == epoch) { /* not inherited by a fork */
        if (children == 1 && flag() != 0)
            atomic_store(&possible, REFUSED); /* somebody else decides about the flag too: never again */
        else if (children == 1)
            restore_flag();
        children--;
    }
    fp__unlock(&guard);
    s->closed_epoch = 0;
}

int fp__dumpable_get(void)
{
    int32_t self = (int32_t)fp__sys0(SYS_getpid);
    fp__lock(&guard, self);
    int r = owner == self && children > 0 ? before : (int)flag();
    fp__unlock(&guard);
    return r;
}

int fp__dumpable_set(int on)
{
    int r = 0;
    int32_t self = (int32_t)fp__sys0(SYS_getpid);
    fp__lock(&guard, self);
    if (owner == self && children > 0)
        before = on;
    else
        r = (int)fp__sys5(SYS_prctl, PR_SET_DUMPABLE, on, 0, 0, 0);
    fp__unlock(&guard);
    return r;
}

#endif
