#!/bin/sh
# Installs the Debian packages that the file $1 names, a line each with what it is for behind a #, as far as they are missing.
# The tests' other sides: without one of them the tests that need it are skipped and say so, so nothing here fails.
set -u

missing=
while read -r package _; do
    case $package in '' | '#'*) continue ;; esac
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done <"$1"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing$missing (other programs that the tests compare with)"
    # A package must not start its service here.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null \
        || echo "not installed:$missing; the tests that need them are skipped"
else
    echo "missing:$missing; the tests that need them are skipped (on Debian and Ubuntu: sudo apt-get install$missing)"
fi
