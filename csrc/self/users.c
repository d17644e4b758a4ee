/* users.c: one entry of the user or group database, and the ids of the calling thread.
 *
 * This asks the C library, as Python's pwd and grp report a database that cannot be read (no descriptor left, a server
 * that does not answer) as a user that does not exist. */
#include "internal.h"

#include <grp.h>
#include <pwd.h>

/* 1: found; 0: not there, which getpwnam_r(3) may report in three ways; otherwise a negative errno. */
static int outcome(int r, const void *found)
{
    if (found)
        return 1;
    return r == 0 || r == ENOENT || r == ESRCH ? 0 : -r;
}

int fp_passwd_get(const char *name, uint32_t uid, char *buffer, size_t size, struct fp_passwd *ret_passwd)
{
    int saved = errno;
    struct passwd entry, *found = NULL;
    int r =
        name ? getpwnam_r(name, &entry, buffer, size, &found) : getpwuid_r((uid_t)uid, &entry, buffer, size, &found);
    if (found) {
        *ret_passwd = (struct fp_passwd){
            .name = entry.pw_name,
            .password = entry.pw_passwd,
            .gecos = entry.pw_gecos,
            .dir = entry.pw_dir,
            .shell = entry.pw_shell,
            .uid = (uint32_t)entry.pw_uid,
            .gid = (uint32_t)entry.pw_gid,
        };
    }
    errno = saved;
    return outcome(r, found);
}

int fp_group_get(const char *name, uint32_t gid, char *buffer, size_t size, struct fp_group *ret_group)
{
    int saved = errno;
    struct group entry, *found = NULL;
    int r =
        name ? getgrnam_r(name, &entry, buffer, size, &found) : getgrgid_r((gid_t)gid, &entry, buffer, size, &found);
    if (found) {
        *ret_group = (struct fp_group){
            .name = entry.gr_name,
            .password = entry.gr_passwd,
            .members = entry.gr_mem,
            .gid = (uint32_t)entry.gr_gid,
        };
    }
    errno = saved;
    return outcome(r, found);
}

void fp_ids_get(uint32_t ret_uids[4], uint32_t ret_gids[4])
{
#if FP_LINUX
    /* By system calls, as the ids belong to the thread. -1 is not a valid id: setfsuid(2) changes nothing and returns
     * the current one. */
    fp__sys3(SYS_getresuid, &ret_uids[0], &ret_uids[1], &ret_uids[2]);
    fp__sys3(SYS_getresgid, &ret_gids[0], &ret_gids[1], &ret_gids[2]);
    ret_uids[3] = (uint32_t)fp__sys1(SYS_setfsuid, -1);
    ret_gids[3] = (uint32_t)fp__sys1(SYS_setfsgid, -1);
#else
    ret_uids[0] = getuid();
    ret_uids[1] = ret_uids[2] = ret_uids[3] = geteuid();
    ret_gids[0] = getgid();
    ret_gids[1] = ret_gids[2] = ret_gids[3] = getegid();
#endif
}
