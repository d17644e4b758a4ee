/* shared.c: children that change their ids while they share our memory, and what keeps that memory closed meanwhile.
 *
 * Whoever has the uid of a process may read its memory, if that memory is "dumpable" (ptrace(2), access mode checking). The flag
 * belongs to the memory, not to the process (PR_SET_DUMPABLE, prctl(2)). So it is taken away here before such a child is made,
 * and given back when the last of them has left our memory, by exec or death, under the lock that admits new ones: a child with
 * another uid and a dumpable memory of ours never meet (GOTCHAS G20). The kernel takes the flag away itself at a change of ids,
 * and leaves it so for good.
 *
 * Whoever could be surprised by this is served by the launcher instead: see fp__memory_close(). */
#include "internal.h"

#if FP_LINUX

#include <linux/capability.h>
#include <linux/kcmp.h>
#include <pthread.h>
#include <sys/prctl.h>

enum { UNKNOWN, POSSIBLE, REFUSED };

static _Atomic int possible;
static _Atomic int32_t guard; /* fp__lock(), of what follows */
static int32_t owner;         /* the process whose children are counted */
static int32_t epoch = 1;     /* another in each copy, which may have the same number in a PID namespace of its own */
static int32_t children;
static int32_t before; /* the flag when there was none */

static long flag(void)
{
    return fp__sys5(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
}

static bool is_root(void)
{
    return fp__sys0(SYS_geteuid) == 0 && fp__sys0(SYS_getuid) == 0 && fp__sys0(SYS_getegid) == 0;
}

/* Gives the flag back. Not where this process has become somebody else, whose memory the kernel has closed to him; also not
 * when that happens just now. */
static void give_back(void)
{
    if (before != 1 || !is_root())
        return;
    fp__call(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
    if (!is_root())
        fp__call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* A copy of this process got the flag as it was just then, but its memory is its own. */
static void begin_anew(int32_t self)
{
    if (children > 0)
        give_back();
    children = 0;
    epoch++;
    owner = self;
}

/* In the only thread of the copy: whoever held the lock is not here. */
static void after_fork(void)
{
    begin_anew((int32_t)fp__sys0(SYS_getpid));
    fp__unlock(&guard);
}

/* What the kernel makes of the flag at a change of ids (proc_sys_fs(5)): 1 would open the memory, and with 2 a core dump of the
 * child would end all who share its memory before Linux 5.17. */
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

/* Without it nobody may ask whether a child of another user still has our memory. */
static bool may_compare(void)
{
    struct fp__capabilities have;
    return fp__capabilities_get(&have) == 0 && (have.effective >> CAP_SYS_PTRACE & 1);
}

#define PLAIN_FLAGS (FP_ID_UID | FP_ID_GID | FP_ID_GROUPS | FP_ID_CAPS | FP_ID_AMBIENT | FP_ID_BOUNDING)

/* Only for root, whom the missing flag costs little (of another user all of /proc/self belongs to root meanwhile, proc(5)), and
 * only for a change to another user that needs nothing else: the uid is what the memory is kept from. The group has to change
 * too: the kernel looks at its rule about the flag first then, before the uid is another's, and so does the child. */
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
        begin_anew(self);
    bool closed = children > 0;
    if (!closed)
        before = (int32_t)flag();
    children++; /* before the flag goes: a copy that is made in between gives it back */
    if (!closed)
        closed = (before == 0 || before == 1) && fp__call(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && flag() == 0;
    children -= !closed;
    s->closed_epoch = closed ? epoch : 0;
    fp__unlock(&guard);
    return closed;
}

/* The kernel clears the word `memory_in_use` a little before the child gives the memory up (mm_release() comes before exit_mm() has
 * waited for a lock of the memory, and before exec_mmap() has put the new one in its place), with its new uid. kcmp(2) waits
 * for an exec that is under way, and tells. A child that is dead for its parent has given it up. */
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
    if (owner == self && s->closed_epoch == epoch) { /* a copy of this process has begun anew */
        if (children == 1 && flag() != 0)
            atomic_store(&possible, REFUSED); /* another decides about it too: this way is not gone again */
        else if (children == 1)
            give_back();
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
