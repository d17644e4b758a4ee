"""What a failed spawn says: the errno, the stage, and what can be found out about the reason."""

from __future__ import annotations

import os
from errno import (
    E2BIG,
    EACCES,
    EAGAIN,
    EBADF,
    EBUSY,
    ECANCELED,
    EDQUOT,
    EINVAL,
    EMFILE,
    ENFILE,
    ENODEV,
    ENOENT,
    ENOEXEC,
    ENOMEM,
    ENOSPC,
    ENOTDIR,
    ENOTSUP,
    EPERM,
    EPROTO,
    EUSERS,
    EXDEV,
)

from fastproc import errors
from fastproc._native.stage import mechanism_name, stage_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STREAMS = ("stdin", "stdout", "stderr")


def spawn_error(plan: Any, number: int, child: Any) -> Exception:
    """Make the SpawnError of a spawn that gave -number and filled `child`."""
    stage = stage_name(child.stage)
    detail = child.detail
    argv = plan.words
    extra = ""
    filename: str | bytes | None = None
    if number == ECANCELED and child.stage >= 32:
        how = f"by signal {detail}" if detail else "of something unknown"
        extra = f"the child died {how} before it could execute the program"
    elif number == EPROTO and child.stage >= 32:
        extra = "the system call said that it succeeded, but what the kernel shows afterwards is not what was asked for"
    elif number in (EPERM, EACCES) and stage in _NEEDS:
        extra = _name_need(stage, detail) if stage != "namespaces" else _name_map_need(plan, number)
    elif number == EINVAL and stage in ("uid", "gid", "groups"):
        extra = "an id that has no place in the map of the user namespace"
    elif number == EDQUOT and stage == "keyring":
        extra = "this user has as many keys as /proc/sys/kernel/keys allows (keyrings(7))"
    elif number == EAGAIN and stage in ("exec", "uid"):
        extra = "the user has as many processes as RLIMIT_NPROC allows (execve(2))"
    elif number == EXDEV and stage == "namespaces":
        extra = "the maps of a child are written below its number in /proc, and this is another PID namespace's /proc"
    elif number in (ENOSPC, EUSERS) and stage in ("clone", "namespaces"):
        extra = "/proc/sys/user/max_*_namespaces does not allow one more, or they are nested too deeply (namespaces(7))"
    elif stage == "exec":
        candidates = plan.paths.split(b"\0")
        if number in (ENOENT, EACCES) and _place(plan, "chroot") is not None:
            extra = f"looked for below the root {_place(plan, 'chroot')!r}"
        elif number in (ENOENT, EACCES) and detail < len(candidates):
            number, filename, extra = _look(plan, candidates, number, detail)
        elif number == ENOEXEC and detail < len(candidates):
            extra = _foreign_format(candidates[detail])
        elif number == E2BIG:
            extra = plan.size_note(os.sysconf("SC_ARG_MAX"))
    elif stage in ("cwd", "cgroup", "chroot"):
        place = _place(plan, stage)
        filename = f"descriptor {place}" if isinstance(place, int) else place
        if stage == "cgroup":
            extra = _name_cgroup(plan, number)
    elif stage == "clone":
        extra = _name_clone(plan, number)
    elif stage == "rlimits":
        extra = _name_limit(plan, detail)
    elif number == ENOTSUP and stage == "mechanism":
        extra = f"{mechanism_name(child.mechanism)} cannot do what the command asks for"
    elif stage == "fds":
        extra = _name_fd(plan, detail)
    if number == EMFILE and not extra:
        extra = _name_descriptor_limit()
    elif number == ENFILE and not extra:
        extra = "the system has as many open files as /proc/sys/fs/file-max allows"
        if stage == "pipe":
            extra += ", or the user's pipes as many pages as /proc/sys/fs/pipe-user-pages-hard allows (pipe(7))"
    return errors.spawn_error(number, stage, detail, argv=argv, filename=filename, searched=plan.searched, extra=extra)


def _name_cgroup(plan: Any, number: int) -> str:
    """Say why a child cannot be placed in a cgroup (cgroups(7))."""
    if number in (EBADF, ENOENT, ENOTDIR):
        from fastproc._native.proc import is_cgroup2

        try:
            os.fstat(plan.cgroup)
        except (OSError, OverflowError, ValueError):
            return "there is no such descriptor"
        # The kernel's error is about what it looked for in a descriptor that is open, and of something else.
        if not is_cgroup2(plan.cgroup):
            return "it is not a cgroup v2 directory"
    if number == EBUSY:
        return "it is frozen, or has controllers for its children (cgroups(7))"
    if number == ENOTSUP:
        return "it is threaded, or below a threaded one: no process can be placed in it (cgroups(7))"
    if number == EACCES:
        return (
            "cgroup.procs must be writable in that cgroup, and in the common ancestor of it and this process's cgroup "
            "(cgroups(7))"
        )
    if number in (ENOENT, ENODEV):
        return "it was removed"
    return ""


def _name_clone(plan: Any, number: int) -> str:
    """Say which limits lead to an error of clone(2)."""
    if number == EAGAIN:
        return (
            f"there are as many processes as a limit allows: RLIMIT_NPROC of this user ({_process_limit()}), pids.max "
            "of the cgroup or of one above, or kernel.threads-max and kernel.pid_max of the system (clone(2))"
        )
    if number == ENOMEM:
        return "no memory is left, or process 1 of the PID namespace has ended (pid_namespaces(7))"
    if number in (ENOENT, ENODEV) and plan.cgroup >= 0:
        place = _place(plan, "cgroup")
        where = f"of descriptor {place}" if isinstance(place, int) else repr(place)
        return "its cgroup was removed" if place is None else f"the cgroup {where} was removed"
    return ""


def _process_limit() -> str:
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    return "unlimited" if soft == resource.RLIM_INFINITY else str(soft)


# What a step that the kernel refuses would take.
_NEEDS = {
    "uid": "cap_setuid",
    "gid": "cap_setgid",
    "groups": "cap_setgid",
    "chroot": "cap_sys_chroot",
    "bounding": "cap_setpcap",
    "securebits": "cap_setpcap",
    "locks": "cap_setpcap",
    "capabilities": "",
    "ambient": "",
    "namespaces": "cap_sys_admin, or 'user' among the namespaces",
    "rlimits": "cap_sys_resource",
    "nice": "cap_sys_nice",
    "scheduler": "cap_sys_nice",
    "oom_score_adj": "cap_sys_resource",
    "landlock": "no_new_privs, or cap_sys_admin",
    "seccomp": "no_new_privs, or cap_sys_admin",
}


def _name_need(stage: str, detail: int) -> str:
    need = _NEEDS[stage]
    if stage in ("capabilities", "ambient", "bounding"):
        from fastproc._values.capabilities import name_of

        name = name_of(detail)
        if stage == "bounding":
            return f"{name} cannot be dropped from the bounding set without cap_setpcap, or is missing there for good"
        if stage == "ambient":
            return f"{name} cannot be ambient here: not permitted and inheritable, or securebits forbid it"
        return f"this process does not have {name} (permitted), and so cannot give it"
    return f"this needs {need}"


def _name_map_need(plan: Any, number: int) -> str:
    """Say what the maps of a user namespace lack (user_namespaces(7)), or its creation."""
    from fastproc._native.credentials import held

    values = getattr(plan.settled, "identity", None) or {}
    has = held()
    if "user" in values.get("namespaces", ()):
        if number == EACCES and has.dumpable != 1:
            return (
                "this process is not dumpable, as after drop_privileges() or any change of ids, so the maps of its "
                "children in /proc belong to root: PR_SET_DUMPABLE (prctl(2)) would allow it, and let others of its "
                "user read its memory"
            )
        maps = ("uid_map", os.geteuid(), "cap_setuid", 7), ("gid_map", os.getegid(), "cap_setgid", 6)
        for name, own, need, bit in maps:
            extents = values.get(name, ())
            if any(extent[1:] != (own, 1) for extent in extents) and not has.effective >> bit & 1:
                return f"{name}: another id than this process's own, {own}, needs {need} in the parent namespace"
        if any(extent[1] == 0 for extent in values.get("uid_map", ())) and not has.effective >> 31 & 1:
            return "uid_map: uid 0 of the parent namespace needs cap_setfcap there (Linux 5.12)"
    return f"this needs {_NEEDS['namespaces']}"


def _place(plan: Any, stage: str) -> Any:
    if stage == "chroot":
        identity = getattr(plan.settled, "identity", None)  # an Order's has none
        return None if identity is None else identity.get("root")
    return plan.settled.cwd if stage == "cwd" else plan.settled.cgroup


def _name_descriptor_limit() -> str:
    # sysconf(3): no module is imported here, which would take a descriptor itself.
    return (
        f"this process may have {os.sysconf('SC_OPEN_MAX')} (RLIMIT_NOFILE, see resource.setrlimit()); each running "
        "child takes one, and one for each pipe"
    )


def _look(plan: Any, candidates: list[bytes], number: int, detail: int) -> tuple[int, bytes | None, str]:
    """After ENOENT of a file that is there, its interpreter is missing; after EACCES, say which file was refused.

    A search that met nothing but directories it may not look into has not found the program: that is ENOENT. The
    standard module's is EACCES, and stays so for its commands.
    """
    if number == EACCES:
        return _look_refused(plan, candidates, detail)
    for path in candidates:
        if path and os.path.exists(path):
            extra = f"{os.fsdecode(path)!r} is there, but its interpreter or loader is missing{_shebang(path)}"
            return number, path, extra
    return number, None, ""


def _look_refused(plan: Any, candidates: list[bytes], detail: int) -> tuple[int, bytes | None, str]:
    path = next((path for path in candidates if path and os.path.lexists(path)), candidates[detail])
    name = repr(os.fsdecode(path))
    if os.path.isdir(path):
        return EACCES, path, f"{name} is a directory"
    if not os.path.lexists(path):
        extra = f"{os.fsdecode(os.path.dirname(path))!r} or a directory above it may not be searched"
        if plan.searched is not None and hasattr(plan.settled, "identity"):
            return ENOENT, None, extra
        return EACCES, path, extra
    if not os.access(path, os.X_OK):
        return EACCES, path, f"{name} is not executable"
    if getattr(plan.settled, "identity", None) is None:
        interpreter = _interpreter(path)
        return EACCES, path, f"{name} is executable, but its interpreter {interpreter!r} is not" if interpreter else ""
    return EACCES, path, f"{name} is executable, but not to the child: by its mode, a directory above it, or landlock"


def _beginning(path: bytes) -> bytes:
    """Return what execve(2) looks at: BINPRM_BUF_SIZE bytes of a regular file, as many as there are; b"" for none."""
    try:
        # Somebody may have put a FIFO there, whose open would wait.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            return os.read(fd, 256) if os.fstat(fd).st_mode & 0o170000 == 0o100000 else b""
        finally:
            os.close(fd)
    except OSError:
        return b""


def _interpreter(path: bytes) -> str:
    """Return the interpreter that the first line of a script names, as the kernel takes it; "" for none."""
    first = _beginning(path)
    words = first[2:].split(b"\n", 1)[0].replace(b"\t", b" ").split(b" ") if first.startswith(b"#!") else []
    return os.fsdecode(next(filter(None, words), b""))


def _shebang(path: bytes) -> str:
    interpreter = _interpreter(path)
    if interpreter.endswith("\r"):
        return f" ({interpreter!r}: the lines of the script end in carriage returns; store it with line feeds alone)"
    return f" ({interpreter!r})" if interpreter else ""


_MACHINES = {
    2: "sparc",
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390",
    40: "arm",
    42: "sh",
    43: "sparc64",
    50: "ia64",
    62: "x86_64",
    183: "aarch64",
    243: "riscv",
    258: "loongarch",
}
# Magic numbers of what other systems execute, and of what is no program.
_FORMATS = (
    (b"MZ", "a program of Windows"),
    (b"\xcf\xfa\xed\xfe", "a program of macOS"),
    (b"\xce\xfa\xed\xfe", "a program of macOS"),
    (b"\xca\xfe\xba\xbe", "a program of macOS, or a class of Java"),
    (b"\0asm", "a WebAssembly module"),
    (b"\xef\xbb\xbf#!", "a script with a byte order mark before its #! line"),
)


def _foreign_format(path: bytes) -> str:
    """Say what a file is that the kernel cannot execute; "" for what may be a script without a #! line."""
    first = _beginning(path)
    name = repr(os.fsdecode(path))
    if first.startswith(b"\x7fELF"):
        if len(first) < 20:
            return f"{name} is the beginning of an ELF program, cut off after {len(first)} bytes"
        machine = int.from_bytes(first[18:20], "big" if first[5] == 2 else "little")
        made_for = f"{_MACHINES.get(machine, f'machine {machine}')}, {64 if first[4] == 2 else 32} bits"
        return f"{name} is an ELF file for {made_for}; this machine is {os.uname().machine}"
    for magic, what in _FORMATS:
        if first.startswith(magic):
            return f"{name} is {what}"
    if first.startswith(b"#!"):
        return f"{name} has a #! line without an interpreter, or one that is longer than 255 bytes"
    if b"\0" in first:
        return f"{name} is neither a program for this system nor a script"
    if not first and _is_empty(path):
        return f"{name} is empty"
    return ""


def _is_empty(path: bytes) -> bool:
    try:
        return os.stat(path).st_size == 0
    except OSError:
        return False


def _name_fd(plan: Any, target: int) -> str:
    """Say which of the command's descriptors is meant by the child's number."""
    pairs = dict(plan.fds)
    if target in pairs:
        source = pairs[target]
        name = f"fds: descriptor {source}, given for {target},"
    elif 0 <= target < len(_STREAMS):
        source = plan.stdio[target]
        name = f"{_STREAMS[target]}: descriptor {source}"
    else:
        return ""
    if source >= 0 and not _is_open(source):
        return f"{name} is not open"
    return f"{_STREAMS[target] if target < len(_STREAMS) else f'fds: {target}'} cannot be set"


def _name_limit(plan: Any, index: int) -> str:
    import resource

    number, soft, hard = plan.attr["rlimits"][index]
    names = [name for name in dir(resource) if name.startswith("RLIMIT_") and getattr(resource, name) == number]
    return f"{names[0] if names else number} to {soft}, {hard}"


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
