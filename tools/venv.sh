#!/bin/sh
# Makes the virtual environment $2 with the interpreter $1, or accepts the one that is there and works.
# Debian keeps venv's ensurepip and Python.h in packages of their own: installed here as root, named otherwise.
set -eu

python=$1
venv=$2

usable() {
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

missing() {
    "$python" - <<'PYTHON'
import importlib.util, os, sys, sysconfig

name = "python%d.%d" % sys.version_info[:2]
if importlib.util.find_spec("ensurepip") is None:
    print(name + "-venv")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print(name + "-dev")
PYTHON
}

if usable; then
    python=$venv/bin/python
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "fastproc needs Python 3.11 or newer; '$python' is not. Say which: make PYTHON=python3.13" >&2
    exit 1
fi

packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $packages(Debian's python3 comes without)"
        apt-get update -qq
        # shellcheck disable=SC2086  # a list of words
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages >/dev/null
    else
        echo "missing: $packages" >&2
        echo "On Debian and Ubuntu: sudo apt-get install $packages" >&2
        exit 1
    fi
fi

if ! command -v "${CC:-cc}" >/dev/null; then
    echo "missing: a C compiler (on Debian and Ubuntu: sudo apt-get install gcc libc6-dev)" >&2
    exit 1
fi

usable || "$python" -m venv --clear "$venv"
