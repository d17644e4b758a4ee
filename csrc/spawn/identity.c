/* identity.c: the steps that change the child's identity and privileges. They are rows of the table in child.c and
 * follow its rules; the launcher has them too.
 *
 * Every step is verified. A call that returns 0 proves nothing: a seccomp filter or a tracer can return 0 without
 * having done anything (GOTCHAS G3), and a child that keeps its privileges unnoticed is the worst failure there is. So:
 *
 * 1. Each step reads back, by another call, what holds now. Where the kernel has no call for that, or its answer would
 * not tell (mount propagation, Landlock, seccomp), the step first makes its call with an argument that the kernel, and
 * only the kernel, refuses with a certain errno: a filter would have answered something else.
 *
 * 2. After all changes, fp__step_verify_irrevocable() tries to get back what was given up, root and the old ids, which
 * must fail; and it compares the complete list of ids, groups, capability sets and securebits once more, since a later
 * call could have undone an earlier step.
 *
 * 3. What is read back differs from what was asked for: EPROTO (FP__NOT_VERIFIED), and the program is not executed. */
#include "internal.h"

#if FP_LINUX

#define FP__PR_GET_DUMPABLE 3
#define FP__PR_SET_KEEPCAPS 8
#define FP__PR_GET_KEEPCAPS 7
#define FP__PR_GET_SECCOMP 21
#define FP__PR_CAPBSET_READ 23
#define FP__PR_CAPBSET_DROP 24
#define FP__PR_GET_SECUREBITS 27
#define FP__PR_SET_SECUREBITS 28
#define FP__PR_SET_NO_NEW_PRIVS 38
#define FP__PR_GET_NO_NEW_PRIVS 39
#define FP__PR_CAP_AMBIENT 47
#define FP__AMBIENT_IS_SET 1
#define FP__AMBIENT_RAISE 2
#define FP__AMBIENT_CLEAR_ALL 4
#define FP__CAP_VERSION_3 0x20080522
#define FP__SETGID (1ULL << 6)
#define FP__SETUID (1ULL << 7)
#define FP__SETPCAP (1ULL << 8)
#define FP__SECBIT_NOROOT 1u
#define FP__SECBITS_LATE 0xE0u /* the lock of KEEP_CAPS; NO_CAP_AMBIENT_RAISE and its lock */
#define FP__SECCOMP_SET_MODE_FILTER 1
#define FP__MS_PRIVATE (0x40000 | 0x4000)
#define FP__STATX_WANTED 0x10B /* type, mode, uid, inode */
#define FP__KEYCTL_GET_KEYRING_ID 0
#define FP__KEYCTL_JOIN_SESSION 1
#define FP__KEY_SESSION -3L
#define FP__UNCHANGED 0xFFFFFFFFL

struct statx_words {
    uint32_t head[5];
    uint32_t uid;
    uint32_t gid;
    uint16_t mode;
    uint16_t spare;
    uint64_t inode;
    uint64_t body[12];
    uint32_t device[2];
    uint64_t rest[14];
};

#ifdef FP_FAULTS
static FP__BARE void call_also(void)
{
    const int *arguments = fp__fault.arguments;
    uint32_t header[2] = {FP__CAP_VERSION_3, 0}, data[6] = {0}, group = (uint32_t)arguments[0];
    for (int i = 0; i < 3; i++)
        data[i] = (uint32_t)arguments[i];
    if (fp__fault.also == SYS_capset)
        fp__sys2(SYS_capset, header, data);
    else if (fp__fault.also == SYS_setgroups)
        fp__sys2(SYS_setgroups, 1, &group);
    else if (fp__fault.also)
        fp__sys5(fp__fault.also, arguments[0], arguments[1], arguments[2], 0, 0);
}

FP__BARE long fp__call(long nr, long a, long b, long c, long d, long e)
{
    volatile struct fp__fault *fault = &fp__fault;
    bool armed = fault->point == FP_POINT_CALL && fault->nth == nr && (fault->first < 0 || fault->first == a);
    int error = fault->error; /* while this child waits at the gate, another fault may be armed */
    if (armed && ++fault->hits != fault->hit && fault->hit)
        armed = false;
    if (armed && error >= 0) {
        call_also();
        return -error;
    }
    while (armed && error == FP_FAULT_GATE && fault->point == FP_POINT_CALL)
        fp__sys0(SYS_sched_yield);
    long r = fp__sys6(nr, a, b, c, d, e, 0);
    if (armed && error == FP_FAULT_ALSO)
        call_also();
    else if (armed && error > FP_FAULT_GATE && error < 0)
        fp__sys2(SYS_kill, fp__sys0(SYS_getpid), -error);
    return r;
}
#endif

static FP__BARE long control(long option, long a, long b)
{
    return fp__call(SYS_prctl, option, a, b, 0, 0);
}

static FP__BARE long ask(long option, long a, long b)
{
    return fp__sys5(SYS_prctl, option, a, b, 0, 0);
}

/* -- files */

FP__BARE long fp__file_id(int fd, const char *path, struct fp__file_id *ret_id)
{
    struct statx_words words;
    long r = fp__sys5(SYS_statx, fd, path, *path ? 0 : 0x1000 /* AT_EMPTY_PATH */, FP__STATX_WANTED, &words);
    if (r < 0)
        return r;
    ret_id->inode = words.inode;
    ret_id->major = words.device[0];
    ret_id->minor = words.device[1];
    ret_id->uid = words.uid;
    ret_id->mode = words.mode;
    return 0;
}

/* Opens a file of a real procfs only: a file mounted over it could redirect a write, or report something false (GOTCHAS
 * G23). */
FP__BARE long fp__proc_open(const char *path, int access)
{
    long fs[32];
    long fd = fp__sys4(SYS_openat, AT_FDCWD, path, access | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    long r = fp__sys2(SYS_fstatfs, fd, fs);
    if (r == 0 && fs[0] == FP__PROC_SUPER_MAGIC)
        return fd;
    fp__close((int)fd);
    return r < 0 ? r : -EXDEV;
}

FP__BARE bool fp__same_file(const struct fp__file_id *a, const struct fp__file_id *b)
{
    return a->inode == b->inode && a->major == b->major && a->minor == b->minor;
}

FP__BARE bool fp__same_place(int fd, const char *path)
{
    struct fp__file_id a, b;
    return fp__file_id(fd, "", &a) == 0 && fp__file_id(AT_FDCWD, path, &b) == 0 && fp__same_file(&a, &b);
}

/* Waits for what the parent has to do first: it cannot open or map a child before the child is born. */
FP__BARE long fp__step_gate(struct fp__context *c)
{
    char byte = 0;
    long r;
    fp__close(c->gate_fd[1]); /* our copy of the parent's end would keep the gate shut */
    do
        r = fp__sys3(SYS_read, c->gate_fd[0], &byte, 1);
    while (r == -EINTR);
    fp__close(c->gate_fd[0]);
    return c->gated && (r != 1 || byte != 1) ? -ESRCH : 0;
}

/* The directory is entered by descriptor and becomes the root. A directory outside of the root would be a way out
 * (GOTCHAS G25): cwd_fd was opened below the root, by openat2(2). */
FP__BARE long fp__step_chroot(struct fp__context *c)
{
    long r;
    if (c->root_fd < 0)
        return 0;
    r = fp__call(SYS_fchdir, c->root_fd, 0, 0, 0, 0);
    if (r == 0)
        r = fp__call(SYS_chroot, (long)".", 0, 0, 0, 0);
    if (r < 0)
        return r;
    return fp__same_place(c->root_fd, "/") && fp__same_place(c->root_fd, ".") ? 0 : -FP__NOT_VERIFIED;
}

/* -- capabilities */

FP__BARE long fp__capabilities_get(struct fp__capabilities *ret)
{
    uint32_t header[2] = {FP__CAP_VERSION_3, 0}, data[6] = {0}; /* valgrind takes the second half for unwritten */
    long r = fp__sys2(SYS_capget, header, data);
    ret->effective = data[0] | (uint64_t)data[3] << 32;
    ret->permitted = data[1] | (uint64_t)data[4] << 32;
    ret->inheritable = data[2] | (uint64_t)data[5] << 32;
    return r;
}

static FP__BARE long set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
    uint32_t header[2] = {FP__CAP_VERSION_3, 0}, data[6];
    struct fp__capabilities now;
    data[0] = (uint32_t)effective;
    data[1] = (uint32_t)permitted;
    data[2] = (uint32_t)inheritable;
    data[3] = (uint32_t)(effective >> 32);
    data[4] = (uint32_t)(permitted >> 32);
    data[5] = (uint32_t)(inheritable >> 32);
    long r = fp__call(SYS_capset, (long)header, (long)data, 0, 0, 0);
    if (r < 0)
        return r;
    r = fp__capabilities_get(&now);
    if (r < 0)
        return r;
    return now.effective == effective && now.permitted == permitted && now.inheritable == inheritable
               ? 0
               : -FP__NOT_VERIFIED;
}

/* Makes all capabilities of this child survive the exec of the launcher, which comes before the identity changes.
 * execve(2) by anybody but an ordinary root keeps the ambient set only, so the permitted set becomes inheritable and,
 * where needed, ambient. */
static FP__BARE long carry(void)
{
    struct fp__capabilities now;
    long r = fp__capabilities_get(&now);
    if (r < 0 || now.permitted == 0)
        return r;
    r = now.inheritable == now.permitted ? 0 : set_capabilities(now.effective, now.permitted, now.permitted);
    if (r < 0)
        return r == -EPERM ? 0 : r; /* then the step that lacks a capability reports it */
    long bits = ask(FP__PR_GET_SECUREBITS, 0, 0);
    if (fp__sys0(SYS_geteuid) == 0 && bits >= 0 && !(bits & (long)FP__SECBIT_NOROOT))
        return 0;
    for (long number = 0; number < 64; number++) {
        if (now.permitted >> number & 1)
            ask(FP__PR_CAP_AMBIENT, FP__AMBIENT_RAISE, number);
    }
    return 0;
}

/* The descriptor of the launcher must still be the file that was opened: a caller that closes all numbers it does not
 * know could have opened another file there. */
FP__BARE long fp__step_launcher(struct fp__context *c)
{
    struct fp__file_id id;
    if (c->launcher_argv == 0)
        return 0;
    long r = fp__file_id(c->launcher_fd, "", &id);
    if (r == 0 && !fp__same_file(&id, &c->launcher_id))
        r = -ESTALE;
    if (r == 0)
        r = carry();
    if (r == 0)
        r = fp__sys3(SYS_fcntl, c->report_fd, F_SETFD, 0);
    if (r == 0 && c->ruleset_fd >= 0)
        r = fp__sys3(SYS_fcntl, c->ruleset_fd, F_SETFD, 0);
    if (r < 0)
        return r;
    return fp__sys5(SYS_execveat, c->launcher_fd, "", c->launcher_argv, c->envp, 0x1000 /* AT_EMPTY_PATH */);
}

/* In the launcher: drops what execve(2) may have given back from the bounding set and the parent does not have. */
FP__BARE long fp__step_in_launcher(struct fp__context *c)
{
    struct fp__capabilities now;
    if (c->launcher_fd != FP__IN_LAUNCHER)
        return 0;
    long r = fp__capabilities_get(&now);
    uint64_t permitted = now.permitted & c->credentials->parent_permitted;
    if (r < 0 || (permitted == now.permitted && now.effective == permitted))
        return r;
    return set_capabilities(permitted, permitted, now.inheritable & permitted);
}

/* -- namespaces: the time namespace is entered by the next execve(2) (Linux 6.1), so that its clocks can be set
 * first */

static FP__BARE char *put_number(char *end, uint64_t value)
{
    do
        *--end = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    return end;
}

static FP__BARE long write_offset(const char *clock, long n, int64_t ns)
{
    char text[80];
    int64_t seconds = ns / FP_NSEC, rest = ns % FP_NSEC;
    if (rest < 0) {
        rest += FP_NSEC;
        seconds--;
    }
    char *at = text + sizeof text;
    *--at = '\n';
    at = put_number(at, (uint64_t)rest);
    *--at = ' ';
    at = put_number(at, (uint64_t)(seconds < 0 ? -seconds : seconds));
    if (seconds < 0)
        *--at = '-';
    *--at = ' ';
    while (n > 0)
        *--at = clock[--n];
    long fd = fp__proc_open("/proc/self/timens_offsets", O_WRONLY);
    if (fd < 0)
        return fd;
    long length = text + sizeof text - at, r = fp__call(SYS_write, fd, (long)at, length, 0, 0);
    fp__close((int)fd);
    return r < 0 ? r : r == length ? 0 : -FP__NOT_VERIFIED;
}

/* Reads the number at *at, after blanks, and moves *at behind it. */
static FP__BARE int64_t get_number(const char **at, const char *end)
{
    const char *p = *at;
    int64_t value = 0;
    bool negative;
    while (p < end && *p == ' ')
        p++;
    negative = p < end && *p == '-';
    for (p += negative; p < end && *p >= '0' && *p <= '9'; p++)
        value = value * 10 + (*p - '0');
    *at = p;
    return negative ? -value : value;
}

/* Compares the offsets as the kernel lists them, one clock on a line: "monotonic 5 0", "boottime 0 0"
 * (time_namespaces(7)). */
static FP__BARE long check_offsets(const int64_t want[2])
{
    char text[256];
    long fd = fp__proc_open("/proc/self/timens_offsets", O_RDONLY);
    if (fd < 0)
        return fd;
    long n = fp__sys3(SYS_read, fd, text, sizeof text);
    fp__close((int)fd);
    if (n < 0)
        return n;
    int found = 0;
    for (const char *at = text, *end = text + n; at < end; at++) {
        char clock = *at;
        while (at < end && *at != ' ' && *at != '\n')
            at++;
        int64_t seconds = get_number(&at, end), ns = seconds * FP_NSEC + get_number(&at, end);
        if (clock != 'm' && clock != 'b')
            return -FP__NOT_VERIFIED;
        if (ns != want[clock == 'b'])
            return -FP__NOT_VERIFIED;
        found |= clock == 'b' ? 2 : 1;
        while (at < end && *at != '\n')
            at++;
    }
    return found == 3 ? 0 : -FP__NOT_VERIFIED;
}

/* A new mount namespace shares mounts with the old one by default; made private, nothing propagates in either
 * direction. Two proofs: an error that only the kernel returns shows that the call reaches the kernel, and the list of
 * mounts has no optional field (proc_pid_mountinfo(5)). Where no /proc is mounted, the first has to do. */
static FP__BARE long make_private(void)
{
    char text[1024];
    long r = fp__call(SYS_mount, (long)"none", 0, 0, FP__MS_PRIVATE, 0);
    if (r != -EFAULT)
        return r < 0 ? r : -FP__NOT_VERIFIED;
    r = fp__call(SYS_mount, (long)"none", (long)"/", 0, FP__MS_PRIVATE, 0);
    if (r < 0)
        return r;
    long fd = fp__proc_open("/proc/self/mountinfo", O_RDONLY);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    long fields = 0, n;
    bool begins = true;
    while ((n = fp__sys3(SYS_read, fd, text, sizeof text)) > 0) {
        for (long i = 0; i < n; i++) {
            if (begins && fields == 6 && text[i] != '-')
                n = -FP__NOT_VERIFIED; /* the optional fields begin at the seventh; a single "-" ends them */
            begins = text[i] == ' ' || text[i] == '\n';
            fields = text[i] == '\n' ? 0 : fields + begins;
        }
        if (n < 0)
            break;
    }
    fp__close((int)fd);
    return n;
}

FP__BARE long fp__step_namespaces(struct fp__context *c)
{
    long r;
    if (c->credentials->namespaces & FP__CLONE_NEWNS) {
        r = make_private();
        if (r < 0)
            return r;
    }
    if (!(c->credentials->namespaces & FP__CLONE_NEWTIME))
        return 0;
    struct fp__file_id now, next;
    r = fp__call(SYS_unshare, FP__CLONE_NEWTIME, 0, 0, 0, 0);
    if (r == 0)
        r = fp__file_id(AT_FDCWD, "/proc/self/ns/time", &now);
    if (r == 0)
        r = fp__file_id(AT_FDCWD, "/proc/self/ns/time_for_children", &next);
    if (r == 0 && fp__same_file(&now, &next))
        r = -FP__NOT_VERIFIED;
    const int64_t *offsets = c->credentials->time_offset_ns;
    if (r == 0 && offsets[0])
        r = write_offset("monotonic", 9, offsets[0]);
    if (r == 0 && offsets[1])
        r = write_offset("boottime", 8, offsets[1]);
    return r == 0 && (offsets[0] || offsets[1]) ? check_offsets(offsets) : r;
}

/* -- before the uid: what needs CAP_SETPCAP */

FP__BARE long fp__step_securebits(struct fp__context *c)
{
    const struct fp__child_credentials *g = c->credentials;
    if (g->flags & FP_ID_SECUREBITS) {
        long early = (long)(g->securebits & ~FP__SECBITS_LATE);
        long r = control(FP__PR_SET_SECUREBITS, early, 0);
        if (r < 0)
            return r;
        if (ask(FP__PR_GET_SECUREBITS, 0, 0) != early)
            return -FP__NOT_VERIFIED;
    }
    /* KEEPCAPS keeps the permitted set through the change of the uid (GOTCHAS G11); execve(2) clears it. */
    if ((g->flags & FP_ID_UID) && (g->permitted || (g->securebits & FP__SECBITS_LATE))) {
        long r = control(FP__PR_SET_KEEPCAPS, 1, 0);
        if (r < 0)
            return r;
        if (ask(FP__PR_GET_KEEPCAPS, 0, 0) != 1)
            return -FP__NOT_VERIFIED;
    }
    return 0;
}

FP__BARE long fp__step_bounding(struct fp__context *c)
{
    if (!(c->credentials->flags & FP_ID_BOUNDING))
        return 0;
    for (long number = 0; number < 64; number++) {
        bool keep = c->credentials->bounding >> number & 1;
        long has = ask(FP__PR_CAPBSET_READ, number, 0);
        c->report->detail = (int32_t)number;
        if (has < 0 && !keep)
            continue; /* this kernel does not have it */
        if (has == keep)
            continue;
        if (has <= 0)
            return -EPERM; /* it cannot be added again */
        long r = control(FP__PR_CAPBSET_DROP, number, 0);
        if (r < 0)
            return r;
        if (ask(FP__PR_CAPBSET_READ, number, 0) != 0)
            return -FP__NOT_VERIFIED;
    }
    c->report->detail = 0;
    return 0;
}

/* Whoever has a session keyring possesses the keys in it, whatever his uid (GOTCHAS G22). So a child with another uid
 * gets a new one, without a name. Where the kernel has no keys, or a filter refuses all of keyctl(2), the program
 * cannot read a key either. */
FP__BARE long fp__step_keyring(struct fp__context *c)
{
    if (!(c->credentials->flags & FP_ID_UID))
        return 0;
    long before = fp__sys3(SYS_keyctl, FP__KEYCTL_GET_KEYRING_ID, FP__KEY_SESSION, 0);
    long r = fp__call(SYS_keyctl, FP__KEYCTL_JOIN_SESSION, 0, 0, 0, 0);
    if (r < 0)
        return (r == -ENOSYS || r == -EPERM) && before == r ? 0 : r;
    long now = fp__sys3(SYS_keyctl, FP__KEYCTL_GET_KEYRING_ID, FP__KEY_SESSION, 0);
    return r > 0 && now == r && now != before ? 0 : -FP__NOT_VERIFIED;
}

/* -- ids: by raw calls, which change this thread only, and all three ids each (GOTCHAS G4, A10) */

/* Whether the parent's memory is open to the new user, which must not be (shared.c). Then this child ends at once, and
 * the launcher makes another. */
static FP__BARE bool memory_is_open(struct fp__context *c)
{
    if (!c->shares_memory || ask(FP__PR_GET_DUMPABLE, 0, 0) == 0)
        return false;
    c->report->stage = FP_STAGE_LAUNCHER;
    return true;
}

static FP__BARE bool has_groups(struct fp__context *c)
{
    uint32_t some[64];
    long n = (long)c->credentials->ngroups;
    if (fp__sys2(SYS_getgroups, 0, 0) != n)
        return false;
    if (n == 0)
        return true;
    /* A longer list goes to the memory behind the wanted one. */
    uint32_t *now = n <= 64 ? some : c->groups + n;
    if (fp__sys2(SYS_getgroups, n, now) != n)
        return false;
    for (long i = 0; i < n; i++) {
        if (now[i] != c->groups[i])
            return false;
    }
    return true;
}

FP__BARE long fp__step_groups(struct fp__context *c)
{
    if (!(c->credentials->flags & FP_ID_GROUPS))
        return 0;
    long r = fp__call(SYS_setgroups, c->credentials->ngroups, (long)c->groups, 0, 0, 0);
    if (r < 0) /* a caller who may not set them may have them already */
        return r == -EPERM && has_groups(c) ? 0 : r;
    return has_groups(c) ? 0 : -FP__NOT_VERIFIED;
}

FP__BARE long fp__step_gid(struct fp__context *c)
{
    uint32_t ids[3], want = c->credentials->gid;
    if (!(c->credentials->flags & FP_ID_GID))
        return 0;
    if (memory_is_open(c))
        return -ESTALE;
    long r = fp__call(SYS_setresgid, want, want, want, 0, 0);
    if (r == 0)
        r = fp__sys3(SYS_getresgid, &ids[0], &ids[1], &ids[2]);
    if (r < 0)
        return r;
    return ids[0] == want && ids[1] == want && ids[2] == want && fp__sys1(SYS_setfsgid, -1) == (long)want
               ? 0
               : -FP__NOT_VERIFIED;
}

FP__BARE long fp__step_uid(struct fp__context *c)
{
    uint32_t ids[3], want = c->credentials->uid;
    if (!(c->credentials->flags & FP_ID_UID))
        return 0;
    if (memory_is_open(c))
        return -ESTALE;
    long r = fp__call(SYS_setresuid, want, want, want, 0, 0);
    if (r == 0 && memory_is_open(c))
        return -ESTALE;
    if (r == 0)
        r = fp__sys3(SYS_getresuid, &ids[0], &ids[1], &ids[2]);
    if (r < 0)
        return r;
    return ids[0] == want && ids[1] == want && ids[2] == want && fp__sys1(SYS_setfsuid, -1) == (long)want
               ? 0
               : -FP__NOT_VERIFIED;
}

/* -- after the uid */

/* CAP_SETPCAP stays until LOCKS where securebits are set that late. */
FP__BARE long fp__step_capabilities(struct fp__context *c)
{
    const struct fp__child_credentials *g = c->credentials;
    uint64_t more = (g->flags & FP_ID_SECUREBITS) && (g->securebits & FP__SECBITS_LATE) ? FP__SETPCAP : 0;
    return set_capabilities(g->effective | more, g->permitted | more, g->inheritable);
}

/* Only capabilities that are both permitted and inheritable can be ambient, so only these are asked for. */
static FP__BARE bool has_ambient(const struct fp__child_credentials *g)
{
    uint64_t possible = (g->permitted & g->inheritable) | g->ambient;
    for (long number = 0; number < 64; number++) {
        if ((possible >> number & 1) &&
            ask(FP__PR_CAP_AMBIENT, FP__AMBIENT_IS_SET, number) != (long)(g->ambient >> number & 1))
            return false;
    }
    return true;
}

/* The change of the uid has cleared the set, with KEEPCAPS too (GOTCHAS G10). The kernel accepts only what is permitted
 * and inheritable. */
FP__BARE long fp__step_ambient(struct fp__context *c)
{
    const struct fp__child_credentials *g = c->credentials;
    if ((g->permitted & g->inheritable) == 0 && g->ambient == 0)
        return 0;
    long r = control(FP__PR_CAP_AMBIENT, FP__AMBIENT_CLEAR_ALL, 0);
    if (r < 0)
        return r == -EINVAL && g->ambient == 0 ? 0 : r; /* before 4.3 */
    for (long number = 0; number < 64; number++) {
        if (!(g->ambient >> number & 1))
            continue;
        c->report->detail = (int32_t)number;
        r = control(FP__PR_CAP_AMBIENT, FP__AMBIENT_RAISE, number);
        if (r < 0)
            return r;
    }
    c->report->detail = 0;
    return has_ambient(g) ? 0 : -FP__NOT_VERIFIED;
}

FP__BARE long fp__step_locks(struct fp__context *c)
{
    const struct fp__child_credentials *g = c->credentials;
    if (!(g->flags & FP_ID_SECUREBITS) || !(g->securebits & FP__SECBITS_LATE))
        return 0;
    long r = control(FP__PR_SET_SECUREBITS, g->securebits, 0);
    if (r < 0)
        return r;
    if (ask(FP__PR_GET_SECUREBITS, 0, 0) != (long)g->securebits)
        return -FP__NOT_VERIFIED;
    return set_capabilities(g->effective, g->permitted, g->inheritable);
}

/* Tries to get back what was given up, which must fail (as OpenSSH does; GOTCHAS G3, G4). Then compares everything that
 * holds once more: a call that undid an earlier step would have been missed there. */
FP__BARE long fp__step_verify_irrevocable(struct fp__context *c)
{
    const struct fp__child_credentials *g = c->credentials;
    const long none = FP__UNCHANGED;
    if (memory_is_open(c))
        return -ESTALE;
    if ((g->flags & FP_ID_UID) && g->uid != 0 && !(g->permitted & FP__SETUID)) {
        if (fp__call(SYS_setresuid, none, 0, none, 0, 0) >= 0)
            return -FP__NOT_VERIFIED;
        if (g->parent_uid != g->uid && fp__call(SYS_setresuid, none, g->parent_uid, none, 0, 0) >= 0)
            return -FP__NOT_VERIFIED;
    }
    if ((g->flags & FP_ID_GID) && g->gid != 0 && !(g->permitted & FP__SETGID)) {
        c->report->detail = 1;
        if (fp__call(SYS_setresgid, none, 0, none, 0, 0) >= 0)
            return -FP__NOT_VERIFIED;
        if (g->parent_gid != g->gid && fp__call(SYS_setresgid, none, g->parent_gid, none, 0, 0) >= 0)
            return -FP__NOT_VERIFIED;
    }
    struct fp__capabilities now;
    uint32_t u[3], gids[3];
    c->report->detail = 2;
    if (fp__capabilities_get(&now) < 0 || now.effective != g->effective || now.permitted != g->permitted ||
        now.inheritable != g->inheritable)
        return -FP__NOT_VERIFIED;
    c->report->detail = 3;
    if (fp__sys3(SYS_getresuid, &u[0], &u[1], &u[2]) < 0 || fp__sys3(SYS_getresgid, &gids[0], &gids[1], &gids[2]) < 0)
        return -FP__NOT_VERIFIED;
    if ((g->flags & FP_ID_UID) && (u[0] != g->uid || u[1] != g->uid || u[2] != g->uid))
        return -FP__NOT_VERIFIED;
    if ((g->flags & FP_ID_GID) && (gids[0] != g->gid || gids[1] != g->gid || gids[2] != g->gid))
        return -FP__NOT_VERIFIED;
    c->report->detail = 4;
    if ((g->flags & FP_ID_GROUPS) && !has_groups(c))
        return -FP__NOT_VERIFIED;
    c->report->detail = 5;
    if ((g->flags & FP_ID_SECUREBITS) && (ask(FP__PR_GET_SECUREBITS, 0, 0) & ~0x10L) != (long)g->securebits)
        return -FP__NOT_VERIFIED;
    c->report->detail = 6;
    if (!has_ambient(g))
        return -FP__NOT_VERIFIED;
    c->report->detail = 0;
    return 0;
}

FP__BARE long fp__step_no_new_privs(struct fp__context *c)
{
    (void)c;
    long r = control(FP__PR_SET_NO_NEW_PRIVS, 1, 0);
    return r < 0 ? r : ask(FP__PR_GET_NO_NEW_PRIVS, 0, 0) == 1 ? 0 : -FP__NOT_VERIFIED;
}

/* No call reports a Landlock domain. An error that only the kernel returns shows that the call reaches the kernel; and
 * where no rule lets the root be listed, failing to list it proves the whole ruleset. */
FP__BARE long fp__step_landlock(struct fp__context *c)
{
    if (c->ruleset_fd < 0)
        return 0;
    long r = fp__call(SYS_landlock_restrict_self, -1, 0, 0, 0, 0);
    if (r != -EBADF)
        return r < 0 ? r : -FP__NOT_VERIFIED;
    r = fp__call(SYS_landlock_restrict_self, c->ruleset_fd, 0, 0, 0, 0);
    if (r < 0)
        return r;
    fp__close(c->ruleset_fd);
    c->ruleset_fd = -1;
    if (!(c->credentials->flags & FP_ID_ROOT_HIDDEN))
        return 0;
    long fd = fp__sys4(SYS_openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd >= 0)
        fp__close((int)fd);
    return fd == -EACCES ? 0 : -FP__NOT_VERIFIED;
}

FP__BARE long fp__step_seccomp(struct fp__context *c)
{
    struct {
        uint16_t length;
        const uint64_t *filter;
    } program;
    if (c->credentials->nfilter == 0)
        return 0;
    program.length = (uint16_t)c->credentials->nfilter;
    program.filter = c->filter;
    fp__send_report(c); /* the filter may end this process at the next call */
    /* The mode is 2 also where only the parent has a filter, so first a call whose error only the kernel returns. */
    long r = fp__call(SYS_seccomp, FP__SECCOMP_SET_MODE_FILTER, 0, 0, 0, 0);
    if (r != -EFAULT)
        return r < 0 ? r : -FP__NOT_VERIFIED;
    r = fp__call(SYS_seccomp, FP__SECCOMP_SET_MODE_FILTER, 0, (long)&program, 0, 0);
    return r < 0 ? r : ask(FP__PR_GET_SECCOMP, 0, 0) == 2 ? 0 : -FP__NOT_VERIFIED;
}

#endif
