/* credentials.c: the parent's half of an identity: the credentials of the child, the launcher and its arguments, the
 * maps of a user namespace, directories below a root, Landlock rulesets. */
#include "internal.h"

#if FP_LINUX

#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define RESOLVE_NO_MAGICLINKS_ 0x02
#define RESOLVE_IN_ROOT_ 0x10

static int fail(int *stage, int32_t *detail, int32_t where, int32_t what, int error)
{
    *stage = where;
    *detail = what;
    return error;
}

static uint64_t ambient_now(uint64_t possible)
{
    uint64_t found = 0;
    for (int number = 0; number < 64; number++) {
        if (possible >> number & 1)
            found |= (uint64_t)(fp__sys5(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, number, 0, 0) == 1)
                     << number;
    }
    return found;
}

static uint64_t all_capabilities(void)
{
    uint64_t all = 0;
    for (int number = 0; number < 64; number++) {
        if (fp__sys5(SYS_prctl, PR_CAPBSET_READ, number, 0, 0, 0) >= 0)
            all |= 1ULL << number;
    }
    return all;
}

/* Computes what the child shall have. Nobody can give more than he has: whatever is outside of the calling thread's
 * permitted set is refused here, although a launcher executed by root could get it back from the bounding set. In a new
 * user namespace the child has all capabilities. */
long fp__credentials_make(const struct fp_identity *identity, struct fp__child_credentials *credentials, int *ret_stage,
                          int32_t *ret_detail)
{
    struct fp__capabilities have;
    bool newuser = identity->namespaces & FP__CLONE_NEWUSER;
    long r = fp__capabilities_get(&have);
    if (r < 0)
        return fail(ret_stage, ret_detail, FP_STAGE_CAPABILITIES, 0, (int)r);
    if (newuser) {
        have.effective = have.permitted = all_capabilities();
        have.inheritable = 0;
    }
    struct fp__child_credentials g = {
        .flags = identity->flags,
        .uid = identity->uid,
        .gid = identity->gid,
        .ngroups = identity->ngroups,
        .nfilter = identity->nfilter,
        .namespaces = identity->namespaces,
        .securebits = identity->securebits,
        .parent_uid = (uint32_t)fp__sys0(SYS_getuid),
        .parent_gid = (uint32_t)fp__sys0(SYS_getgid),
        .parent_permitted = have.permitted,
        .bounding = identity->bounding,
        .time_offset_ns = {identity->time_offset_ns[0], identity->time_offset_ns[1]},
    };
    bool drops = (identity->flags & FP_ID_UID) && identity->uid != 0;
    if (identity->flags & FP_ID_CAPS) {
        g.effective = identity->effective;
        g.permitted = identity->permitted;
        g.inheritable = identity->inheritable;
        g.ambient = identity->ambient;
    } else {
        if (!drops) {
            g.effective = have.effective;
            g.permitted = have.permitted;
            g.inheritable = have.inheritable;
            g.ambient = newuser ? 0 : ambient_now(have.permitted & have.inheritable);
        }
        if (identity->flags & FP_ID_AMBIENT) {
            g.ambient = identity->ambient;
            g.inheritable |= identity->ambient;
            g.permitted |= identity->ambient;
            g.effective |= identity->ambient;
        }
    }
    uint64_t missing = g.permitted & ~have.permitted;
    for (int number = 0; number < 64; number++) {
        if (missing >> number & 1)
            return fail(ret_stage, ret_detail, FP_STAGE_CAPABILITIES, number, -EPERM);
    }
    *credentials = g;
    return 0;
}

/* -- the launcher */

static char launcher_path[4096];
static struct fp__file_id launcher_id; /* of the file when the path was set */
static _Atomic int launcher_fd = -1;
static _Atomic int launcher_error = ENOENT;

/* Called once, when the extension is loaded. The file at the path may be another one later, below another root or
 * placed there by somebody. It is executed with all privileges of the caller, so it must be this very file. */
int fp_launcher_set(const char *path)
{
    size_t n = strlen(path);
    if (n >= sizeof launcher_path)
        return -ENAMETOOLONG;
    memcpy(launcher_path, path, n + 1);
    long r = fp__file_id(AT_FDCWD, launcher_path, &launcher_id);
    atomic_store(&launcher_error, (int)-r);
    return (int)r;
}

void fp__launcher_refuse(int error)
{
    atomic_store(&launcher_error, error);
}

int fp__launcher_refused(void)
{
    return atomic_load(&launcher_error);
}

/* -ESTALE: another file. -ETXTBSY: not a program that only root or the caller may write to. */
static long launcher_check(int fd)
{
    struct fp__file_id now;
    long r = fp__file_id(fd, "", &now);
    if (r < 0)
        return r;
    if (!fp__same_file(&now, &launcher_id))
        return -ESTALE;
    bool ours = now.uid == 0 || now.uid == (uint32_t)fp__sys0(SYS_geteuid);
    return (now.mode & S_IFMT) == S_IFREG && ours && (now.mode & (S_IWGRP | S_IWOTH)) == 0 ? 0 : -ETXTBSY;
}

/* Opens the launcher once, and again when somebody has closed the number; with O_PATH, so that opening another kind of
 * file does not wait. No flag marks that a thread is opening it: a forked copy would wait for a thread that it does not
 * have. */
long fp__launcher_fd(struct fp__file_id *ret_id)
{
    *ret_id = launcher_id;
    for (;;) {
        int none = -1, fd = atomic_load(&launcher_fd);
        long r = fd < 0 ? -EBADF : launcher_check(fd);
        if (r == 0)
            return fd;
        if (fd >= 0 && r != -ETXTBSY)
            atomic_compare_exchange_strong(&launcher_fd, &fd, -1); /* the number is another file's, which stays open */
        if (r != -ETXTBSY) {
            r = fp__sys4(SYS_openat, AT_FDCWD, launcher_path, O_PATH | O_CLOEXEC, 0);
            if (r < 0)
                return r;
            fd = fp__fd_lift((int)r, 3);
            if (fd < 0)
                return fd;
            r = launcher_check(fd);
            if (r == 0 && atomic_compare_exchange_strong(&launcher_fd, &none, fd))
                return fd;
            fp__close(fd);
        }
        if (r < 0) {
            fp__launcher_refuse((int)-r);
            return r;
        }
    }
}
static char *encode(char *to, size_t *column, const void *data, size_t n)
{
    const unsigned char *from = data;
    for (size_t i = 0; i < n; i++) {
        *to++ = (char)('a' + (from[i] >> 4));
        *to++ = (char)('a' + (from[i] & 15));
        *column += 2;
        if (*column == FP__CHUNK) {
            *to++ = 0;
            *column = 0;
        }
    }
    return to;
}

/* Makes one block: the launcher's argument vector, followed by the text of its first arguments. */
long fp__launcher_arguments(const struct fp__context *c, void **ret_block)
{
    const struct fp__child_credentials *g = c->credentials;
    size_t bytes = sizeof(struct fp__launcher_message) + (size_t)g->nfilter * 8 + (size_t)g->ngroups * 4;
    size_t chunks = (2 * bytes + FP__CHUNK - 1) / FP__CHUNK, argc = 0;
    while (c->argv[argc] != NULL)
        argc++;
    size_t pointers = chunks + c->npaths + argc + 1;
    char **vector = malloc(pointers * sizeof(char *) + 2 * bytes + chunks + 1);
    if (vector == NULL)
        return -ENOMEM;
    struct fp__launcher_message message;
    memset(&message, 0, sizeof message); /* with the padding: /proc shows it */
    message.size = sizeof message;
    message.chunks = (uint32_t)chunks;
    message.npaths = c->npaths;
    message.report_fd = c->report_fd;
    message.ruleset_fd = c->ruleset_fd;
    message.parent_pid = c->parent_pid;
    message.parent_waits = c->parent_waits;
    message.parent_mask = c->parent_mask;
    message.credentials = *g;
    message.attr = *c->attr;
#ifdef FP_FAULTS
    _Static_assert(sizeof message.fault == sizeof fp__fault, "a copy of it");
    memcpy(message.fault, &fp__fault, sizeof message.fault);
#endif
    char *text = (char *)(vector + pointers), *to = text;
    size_t column = 0;
    to = encode(to, &column, &message, sizeof message);
    to = encode(to, &column, c->filter, (size_t)g->nfilter * 8);
    to = encode(to, &column, c->groups, (size_t)g->ngroups * 4);
    *to = 0;
    size_t at = 0;
    for (size_t i = 0; i < chunks; i++)
        vector[at++] = text + i * (FP__CHUNK + 1);
    for (uint32_t i = 0; i < c->npaths; i++)
        vector[at++] = (char *)c->paths[i];
    for (size_t i = 0; i <= argc; i++)
        vector[at++] = c->argv[i];
    *ret_block = vector;
    return 0;
}

/* -- the maps of a user namespace: written by the parent, as only it has the rights in both namespaces */

void fp__proc_path(char path[FP__PROC_PATH], int pid, const char *name)
{
    char digits[12];
    size_t n = 6, m = 0;
    memcpy(path, "/proc/", n);
    do
        digits[m++] = (char)('0' + pid % 10);
    while ((pid /= 10) != 0);
    while (m > 0)
        path[n++] = digits[--m];
    path[n++] = '/';
    memcpy(path + n, name, strlen(name) + 1);
}

static long write_proc(int pid, const char *name, const char *text)
{
    char path[FP__PROC_PATH];
    fp__proc_path(path, pid, name);
    /* In the /proc of another PID namespace the number is a stranger's. */
    int ours = fp_proc_check(-1);
    if (ours < 0)
        return ours;
    long fd = fp__proc_open(path, O_WRONLY);
    if (fd < 0)
        return fd;
    long r = fp__sys3(SYS_write, fd, text, strlen(text));
    fp__close((int)fd);
    return r < 0 ? r : 0;
}

/* "deny" comes before gid_map, for callers without CAP_SETGID (user_namespaces(7), CVE-2014-8989; GOTCHAS G21). */
long fp__maps_write(const struct fp_identity *identity, int pid)
{
    long r = identity->uid_map == NULL ? 0 : write_proc(pid, "uid_map", identity->uid_map);
    if (r == 0 && (identity->flags & FP_ID_DENY_SETGROUPS))
        r = write_proc(pid, "setgroups", "deny");
    if (r == 0 && identity->gid_map != NULL)
        r = write_proc(pid, "gid_map", identity->gid_map);
    return FP__TRY(FP_POINT_MAPS, r);
}

/* -- for the caller of a spawn */

int fp_open_in_root(int root_fd, const char *path, int flags)
{
    const uint64_t how[3] = {(uint64_t)(unsigned)flags | O_CLOEXEC, 0, RESOLVE_IN_ROOT_ | RESOLVE_NO_MAGICLINKS_};
    return (int)fp__sys4(SYS_openat2, root_fd, path, how, sizeof how);
}

/* linux/landlock.h of 6.10, as far as it concerns files. */
#define LANDLOCK_READS (1ULL << 2 | 1ULL << 3) /* read a file, list a directory */
#define LANDLOCK_EXECUTES (1ULL << 0)
#define LANDLOCK_WRITES (1ULL << 1 | 0x1ff0) /* write, and remove or make entries of every kind */
#define LANDLOCK_REFER (1ULL << 13)          /* version 2, 5.19: link and rename between directories */
#define LANDLOCK_TRUNCATE (1ULL << 14)       /* version 3, 6.2 */
#define LANDLOCK_IOCTL (1ULL << 15)          /* version 5, 6.10: of devices */
#define LANDLOCK_OF_FILES (1ULL << 0 | 1ULL << 1 | 1ULL << 2 | LANDLOCK_TRUNCATE | LANDLOCK_IOCTL)

static uint64_t landlock_known(void)
{
    long version = fp__sys3(SYS_landlock_create_ruleset, 0, 0, 1);
    if (version < 0)
        return 0;
    uint64_t known = LANDLOCK_READS | LANDLOCK_EXECUTES | LANDLOCK_WRITES;
    known |= version >= 2 ? LANDLOCK_REFER : 0;
    known |= version >= 3 ? LANDLOCK_TRUNCATE : 0;
    known |= version >= 5 ? LANDLOCK_IOCTL : 0;
    return known;
}

int fp_landlock_ruleset(void)
{
    uint64_t handled = landlock_known();
    long fd = fp__sys3(SYS_landlock_create_ruleset, &handled, sizeof handled, 0);
    return (int)(fd < 0 ? fd : fp__fd_lift((int)fd, 3));
}

int fp_landlock_allow(int ruleset_fd, int path_fd, int access)
{
    struct {
        uint64_t access;
        int32_t fd;
    } __attribute__((packed)) rule = {0, path_fd};
    struct fp__file_id file;
    long r = fp__file_id(path_fd, "", &file);
    if (r < 0)
        return (int)r;
    if (access & FP_LANDLOCK_READ)
        rule.access |= LANDLOCK_READS;
    if (access & FP_LANDLOCK_EXECUTE)
        rule.access |= LANDLOCK_EXECUTES;
    if (access & FP_LANDLOCK_WRITE)
        rule.access |= LANDLOCK_WRITES | LANDLOCK_REFER | LANDLOCK_TRUNCATE | LANDLOCK_IOCTL;
    rule.access &= landlock_known();
    if ((file.mode & S_IFMT) != S_IFDIR)
        rule.access &= LANDLOCK_OF_FILES;
    return (int)fp__sys4(SYS_landlock_add_rule, ruleset_fd, 1, &rule, 0);
}

#else

int fp_launcher_set(const char *path)
{
    (void)path;
    return 0;
}

int fp_open_in_root(int root_fd, const char *path, int flags)
{
    (void)root_fd, (void)path, (void)flags;
    return -ENOSYS;
}

int fp_landlock_ruleset(void)
{
    return -ENOSYS;
}

int fp_landlock_allow(int ruleset_fd, int path_fd, int access)
{
    (void)ruleset_fd, (void)path_fd, (void)access;
    return -ENOSYS;
}

#endif
