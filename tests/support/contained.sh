#!/bin/sh
# Runs a command in namespaces of its own in which nothing outside can be written or signalled: what a service manager does
# to "its" machine must not reach this one.
#
#     contained.sh CGROUP COMMAND...      as root, below `unshare --pid --fork --kill-child`, in the cgroup (v2) CGROUP
#
# The file system is read-only; /run is empty, writable and private; /sys/fs/cgroup is the cgroup and what is below it.
# Every one of these is looked at before the command runs.
set -eu
if [ "${CONTAINED-}" != yes ]; then
    echo $$ >"$1/cgroup.procs"
    export CONTAINED=yes
    exec unshare --mount --cgroup --ipc --uts --net "$0" "$@"
fi
shift
mount --make-rprivate /
mount -t proc proc /proc
# Every file system that is there, before there are new ones.
cut -d " " -f 5 /proc/self/mountinfo | while read -r point; do
    mount -o remount,bind,ro "$point" 2>/dev/null || true
done
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t cgroup2 none /sys/fs/cgroup
mount -o bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys

fail() {
    echo "contained.sh: $1" >&2
    exit 99
}
for place in / /tmp /dev /sys /var /var/tmp /var/log /etc /home /root /usr "$PWD" "$(dirname "$0")"; do
    probe=$place/.contained-$$
    if (: >"$probe") 2>/dev/null; then
        rm -f "$probe"
        fail "$place can be written"
    fi
done
(echo 1 >/proc/sys/kernel/pid_max) 2>/dev/null && fail "/proc/sys can be written"
# The root of all cgroups has no such file (cgroups(7)).
[ -e /sys/fs/cgroup/cgroup.events ] || fail "/sys/fs/cgroup is the machine's"
[ "$(stat -f -c %T /run)" = tmpfs ] || fail "/run is the machine's"
[ $$ -lt 100 ] || fail "this is no PID namespace of its own"
ip link set lo up 2>/dev/null || true
exec "$@"
