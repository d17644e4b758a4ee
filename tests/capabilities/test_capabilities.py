"""`fastproc.capabilities`: what this kernel, processes and files have."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import isolated
from fastproc import capabilities
from fastproc.capabilities import Capabilities, Capability, CapabilitySet, FileCapabilities
from support.libcap import Libcap


def tool(name: str) -> str:
    """A program of libcap2-bin, which lives where PATH of a user does not look."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"no {name} (Debian: libcap2-bin)")
    return found


def told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# -- this kernel


def test_last_capability_is_the_kernels() -> None:
    assert capabilities.cap_last_cap() == int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert capabilities.cap_last_cap() == Libcap().last_cap


def last_cap_without_proc(fake: str) -> int:
    from fastproc import capabilities as module

    real = open

    def opened(path: Any, *arguments: Any) -> Any:
        if path == "/proc/sys/kernel/cap_last_cap":
            if not fake:
                raise FileNotFoundError(path)
            path = fake
        return real(path, *arguments)

    module.open = opened  # type: ignore[attr-defined]
    return module.cap_last_cap()


@pytest.mark.parametrize("text", ["", "12\n", "99\n", "nonsense", "-1"])
def test_last_capability_without_a_true_file(tmp_path: Path, text: str) -> None:
    """No /proc, or another file in its place (GOTCHAS G23): then the kernel is asked for each."""
    fake = tmp_path / "fake"
    fake.write_text(text)
    assert isolated(last_cap_without_proc, str(fake) if text else "") == capabilities.cap_last_cap()


def test_support_probes(tmp_path: Path) -> None:
    assert capabilities.ambient_supported() is True
    (tmp_path / "file").write_text("")
    assert capabilities.file_capabilities_supported(tmp_path / "file") is True
    assert capabilities.file_capabilities_supported("/proc/version") is False
    with pytest.raises(FileNotFoundError):
        capabilities.file_capabilities_supported(tmp_path / "missing")


# -- processes


def masks(pid: int) -> list[int]:
    lines = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return [int(lines["Cap" + name], 16) for name in ("Eff", "Prm", "Inh", "Bnd", "Amb")]


@pytest.mark.parametrize("pid", [None, 1, os.getpid()])
def test_sets_of_a_process_are_procs(pid: int | None) -> None:
    found = capabilities.of_process(pid)
    assert isinstance(found, Capabilities)
    assert [some.mask for some in found] == masks(pid or os.getpid())
    for capability in Capability:
        assert capabilities.has_cap(capability, pid) == (capability in found.effective)
    assert capabilities.has_cap("chown", pid) == capabilities.has_cap(0, pid)


def test_sets_of_another_process_agree_with_getpcaps() -> None:
    """A child of ours, which has what we have."""
    getpcaps = tool("getpcaps")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert (
            told(getpcaps, str(child.pid)) == f"{child.pid}: {capabilities.to_text(capabilities.of_process(child.pid))}"
        )
        iab = told(getpcaps, "--iab", str(child.pid)).partition("[")[2].rstrip("]")
        assert capabilities.to_iab(capabilities.of_process(child.pid)) == iab


def test_process_that_is_none() -> None:
    for pid in (2**31 - 1, 4_000_000):
        with pytest.raises(ProcessLookupError):
            capabilities.of_process(pid)
    for pid in (0, -1, 2**31):
        with pytest.raises(ValueError, match=r"pid: .* is no pid"):
            capabilities.of_process(pid)
    for wrong in (True, "1"):
        with pytest.raises(TypeError, match="pid: a pid is a number"):
            capabilities.of_process(wrong)  # type: ignore[arg-type]


# -- text


def test_text_forms_are_for_this_kernel() -> None:
    state = capabilities.from_text("all=eip cap_chown-e")
    assert state.permitted == CapabilitySet.all(capabilities.cap_last_cap())
    assert capabilities.to_text(state) == "=eip cap_chown-e"
    iab = capabilities.from_iab("!cap_chown,^cap_net_raw")
    assert capabilities.to_iab(iab) == "!cap_chown,^cap_net_raw"


# -- files


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_bytes(b"")
    if not capabilities.file_capabilities_supported(path):
        pytest.skip("this file system holds no capabilities")
    return path


def test_file_without_capabilities(target: Path) -> None:
    assert capabilities.read_file(target) is None
    assert capabilities.read_file("/proc/version") is None
    with pytest.raises(FileNotFoundError):
        capabilities.read_file(target.with_name("missing"))


@pytest.mark.privileged
def test_file_capabilities_round_trip_with_setcap_and_getcap(target: Path) -> None:
    """What we write getcap reads; what setcap writes we read, to the byte; with and without the root of a namespace."""
    setcap, getcap = tool("setcap"), tool("getcap")
    pick = random.Random(3)
    last = capabilities.cap_last_cap()
    for turn in range(60):
        permitted, inheritable = (CapabilitySet.from_mask(pick.getrandbits(last + 1)) for _ in range(2))
        if turn % 3 == 0:
            permitted, inheritable = CapabilitySet([turn % (last + 1)]), CapabilitySet()
        effective = bool(turn % 2)
        rootid = pick.choice((0, 0, 1000, 2**31 - 1))  # getcap shows larger ones as negative
        value = FileCapabilities(permitted, inheritable, effective, rootid)
        text = capabilities.to_text(value)
        for place in (target, str(target), os.fsencode(target)):
            capabilities.write_file(place, value)
            assert capabilities.read_file(place) == value
        seen = told(getcap, "-n", str(target)).split(" ", 1)[1]
        assert seen == (f"{text} [rootid={rootid}]" if rootid else text)
        ours = os.getxattr(target, "security.capability")
        assert capabilities.remove_file(target) is True
        assert capabilities.remove_file(target) is False
        subprocess.run([setcap, *(["-n", str(rootid)] if rootid else []), text, str(target)], check=True)
        assert os.getxattr(target, "security.capability") == ours == value.to_bytes()
        assert capabilities.read_file(target) == value


@pytest.mark.privileged
def test_file_capabilities_by_descriptor(target: Path) -> None:
    fd = os.open(target, os.O_RDWR)
    try:
        capabilities.write_file(fd, "cap_net_raw=ep")
        assert capabilities.read_file(fd) == capabilities.read_file(target) == FileCapabilities("net_raw")
        assert capabilities.remove_file(fd) is True
        assert capabilities.read_file(fd) is None
    finally:
        os.close(fd)


@pytest.mark.privileged
def test_a_program_gets_what_its_file_has(target: Path) -> None:
    """The kernel agrees: an ordinary user's child of that file has the capability."""
    setpriv, cat = shutil.which("setpriv"), shutil.which("cat")
    if setpriv is None or cat is None:
        pytest.skip("no setpriv(1)")
    shutil.copy(cat, target)
    target.chmod(0o755)
    for folder in (target.parent, target.parent.parent, target.parent.parent.parent):
        if str(folder) != "/tmp":
            folder.chmod(0o755)
    capabilities.write_file(target, "cap_net_raw,cap_chown=ep")
    status = told(setpriv, "--reuid=65533", "--regid=65533", "--clear-groups", str(target), "/proc/self/status")
    found = dict(line.split(":\t") for line in status.splitlines())
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == CapabilitySet("net_raw,chown").mask


def test_a_text_that_a_file_cannot_hold_is_refused(target: Path) -> None:
    for text, why in (
        ("cap_chown=ep cap_kill=p", "cap_kill would be effective too"),
        ("cap_chown=e", "cap_chown is effective, but neither"),
        ("63=p", "does not have 63"),
        ("cap_typo=p", "a capability such as"),
    ):
        with pytest.raises(ValueError, match=why):
            capabilities.write_file(target, text)
    with pytest.raises(TypeError, match="capabilities: must be"):
        capabilities.write_file(target, b"cap_chown=p")  # type: ignore[arg-type]
    assert capabilities.read_file(target) is None


@pytest.mark.privileged
def test_version_1_is_refused_as_the_kernel_does(target: Path) -> None:
    old = FileCapabilities("chown", version=1)
    with pytest.raises(ValueError, match="version 1"):
        capabilities.write_file(target, old)
    with pytest.raises(OSError) as caught:
        os.setxattr(target, "security.capability", old.to_bytes())
    assert caught.value.errno == errno.EINVAL


def test_only_regular_files_are_written(target: Path, tmp_path: Path) -> None:
    """GOTCHAS H8: a link may lead to what was not meant."""
    link, fifo = tmp_path / "link", tmp_path / "fifo"
    link.symlink_to(target)
    os.mkfifo(fifo)
    for place, why in (
        (link, "is a symbolic link"),
        (fifo, "is not a regular file"),
        (tmp_path, "is not a regular file"),
    ):
        with pytest.raises(ValueError, match=why):
            capabilities.write_file(place, "cap_chown=p")
        with pytest.raises(ValueError, match=why):
            capabilities.remove_file(place)
    assert capabilities.read_file(link) is None


def without_setfcap(path: str) -> list[str]:
    os.setresuid(65533, 65533, 65533)
    found = []
    for call in (lambda: capabilities.write_file(path, "cap_chown=p"), lambda: capabilities.remove_file(path)):
        try:
            call()
        except PermissionError as error:
            found.append(str(error))
    return found


@pytest.mark.privileged
def test_who_may_not_is_told_the_capability(target: Path, pid_namespace: None) -> None:
    capabilities.write_file(target, "cap_chown=p")
    for folder in (target.parent, target.parent.parent, target.parent.parent.parent):
        if str(folder) != "/tmp":
            folder.chmod(0o755)
    errors = isolated(without_setfcap, str(target), pid_namespace=True)
    assert len(errors) == 2
    assert all("cap_setfcap" in text and str(target) in text for text in errors)
