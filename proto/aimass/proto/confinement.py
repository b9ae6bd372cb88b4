"""A process locks itself in before it runs a task: what it can reach is listed, and tried, and reported.

So do the training child and the workers of serving.

Levels: `process` (a process of its own without inherited descriptors, environment or new privileges), `files`
(Landlock: only Python, its packages and system libraries can be read, and one empty folder written), `network` (a
network namespace of its own, without even the loopback of the host), `calls` (seccomp: no sockets, no other processes,
no signals to others; see `seccomp`). A level is reported only after a probe from inside has failed to do what the
level forbids. Memory, files and core dumps are limited besides, and root is left no capability. Where the machine has
an NVIDIA GPU its driver is let in: its devices, the names of this process's own threads, and a local socket that
reaches nobody. Memory that a process shares with itself counts to no limit of ours: a container's does for that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, get_args

from aimass.proto.home import ChildLimits
from aimass.proto.seccomp import install as install_filter

__all__ = ["Confinement", "confine", "cuda_inside", "enforceable", "forbid_core_files"]

Confinement = Literal["process", "files", "network", "calls"]
"""A level, see above."""

_NO_LIMITS: Final = ChildLimits()
_PROBE_S: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_DUMPABLE: Final = 4
_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_CLONE_NEWIPC: Final = 0x0800_0000
_SYS_LANDLOCK_CREATE: Final = 444
_SYS_LANDLOCK_ADD_RULE: Final = 445
_SYS_LANDLOCK_RESTRICT: Final = 446
_LANDLOCK_VERSION: Final = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
_TRUNCATE, _IOCTL = 0x4000, 0x8000
_BENEATH: Final = _WRITE_FILE | _READ_FILE | _READ_DIR | 0x10 | 0x20 | 0x80 | 0x100 | _TRUNCATE  # make, remove
_DEVICE: Final = _READ_FILE | _WRITE_FILE | _READ_DIR | _IOCTL
_FS_RIGHTS_BY_ABI: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_RIGHTS: Final = 3  # to bind and to connect TCP
_SCOPED: Final = 3  # no abstract Unix socket and no signal leads out
_CAPABILITY_VERSION: Final = 0x2008_0522
_SYSTEM: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/null",
    "/dev/zero",
    "/dev/urandom",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/mmap_min_addr",
    "/proc/sys/vm/overcommit_memory",
    "/proc/driver/nvidia",
    "/sys/devices/system",
    "/sys/bus/pci",
)

_libc = ctypes.CDLL(None, use_errno=True)


def confine(
    readable: Iterable[Path], scratch: Path, forbidden: Path, parent: int, limits: ChildLimits = _NO_LIMITS
) -> frozenset[str]:
    """Lock this process in; returns the levels that hold. Call it before any thread exists.

    `readable` are folders of code to keep, `scratch` an empty folder that may be written; `forbidden` is a file that
    must be out of reach afterwards, used as probe.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    os.umask(0o077)
    _limit(limits)
    _own_network()
    _drop_capabilities()
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # after the namespaces, whose maps its owner alone may write
    levels = {"process"} if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 else set()
    os.environ.setdefault("LOGNAME", f"uid_{os.getuid()}")  # torch asks, and the list of users is out of reach
    devices = _nvidia_devices()
    _landlock([Path(place) for place in _SYSTEM] + [*readable, *_python_places()], devices, scratch)
    if not _can_read(forbidden) and not _can_read(Path(f"/proc/{parent}/environ")):
        levels.add("files")
    alone = not _sees_interfaces()
    if alone:
        levels.add("network")
    if install_filter(_libc, driver=bool(devices), own_network=alone) and not _may_open_sockets():
        levels |= {"calls", "network"}  # who cannot open a socket reaches no network, whatever there is
    return frozenset(levels)


def forbid_core_files() -> None:
    """This process's memory, keys and plain numbers in it, goes into no core file, and to no program that takes them.

    A limit of 0 stops files alone; with 1, less than any core file, Linux does not start a handler either.
    """
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    least = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (least, least))


def _limit(limits: ChildLimits) -> None:
    forbid_core_files()
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
    # What is allocated, not what is reserved: drivers of accelerators reserve more address space than there is memory.
    memory = limits.memory_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _may_open_sockets() -> bool:
    """Whether there is a socket that can send to whom it wants."""
    for opens in (socket.socket, socket.socketpair):
        with contextlib.suppress(OSError):
            opens(socket.AF_UNIX, socket.SOCK_DGRAM)
            return True
    return False


def _drop_capabilities() -> None:
    """What root may do beyond its own files and processes, for good."""
    header, none = struct.pack("<Ii", _CAPABILITY_VERSION, 0), bytes(24)
    _libc.capset(header, none)


def _python_places() -> list[Path]:
    places = {Path(place).resolve() for place in (sys.prefix, sys.base_prefix, *sys.path) if place}
    return [place for place in places if place != Path("/")]


def _nvidia_devices() -> list[Path]:
    """What CUDA opens: not the screens' devices, nor the first two of caps, which lead to the GPU's own settings."""
    devices = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia(ctl|[0-9]+|-uvm)", path.name)]
    parts = Path("/dev/nvidia-caps").glob("nvidia-cap*")
    return devices + [path for path in parts if path.name not in ("nvidia-cap1", "nvidia-cap2")]


def _own_network() -> None:
    """A network namespace, as root or through a user namespace; where neither is permitted nothing changes."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        _libc.unshare(_CLONE_NEWNET | _CLONE_NEWIPC)
    elif _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with contextlib.suppress(OSError):  # without a map the files that we own stay ours
                Path(f"/proc/self/{name}").write_bytes(text.encode())


def _landlock(readable: list[Path], devices: list[Path], scratch: Path) -> None:
    """Allow reading beneath `readable`, all that a driver takes of `devices`, everything beneath `scratch`, and nothing
    else.

    Where there are devices this process may also write what /proc has of its own threads: CUDA names those that it
    makes, and does not start where it cannot. Where the kernel has no Landlock nothing changes, and the probe tells.
    """
    abi = _libc.syscall(_SYS_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if abi < 1:
        return
    handled = (1 << _FS_RIGHTS_BY_ABI.get(abi, 16)) - 1
    attribute = struct.pack("<QQQ", handled, _NETWORK_RIGHTS, _SCOPED)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _libc.syscall(_SYS_LANDLOCK_CREATE, attribute, ctypes.c_size_t(len(attribute)), 0)
    if ruleset < 0:
        return
    for place in readable:
        _allow(ruleset, place, _READ)
    for device in devices:
        _allow(ruleset, device, handled & _DEVICE)
    if devices:
        # Stays open: a rule ends where the kernel forgets the entry of a file system that is made up as it is read.
        os.open("/proc/self/task", os.O_PATH | os.O_CLOEXEC)
        _allow(ruleset, Path("/proc/self/task"), handled & (_WRITE_FILE | _TRUNCATE))
    _allow(ruleset, scratch, handled & ~_EXECUTE & _BENEATH)
    _libc.syscall(_SYS_LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, place: Path, rights: int) -> None:
    try:
        descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what cannot be opened needs no leave to be read
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISCHR(mode):
        rights = _READ_FILE | _WRITE_FILE | rights & _IOCTL
    elif not stat.S_ISDIR(mode):
        rights = _READ_FILE
    rule = struct.pack("<Qi", rights, descriptor)
    _libc.syscall(_SYS_LANDLOCK_ADD_RULE, ruleset, 1, rule, 0)
    os.close(descriptor)


def _can_read(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError:
        return False
    return True


def _sees_interfaces() -> bool:
    """Whether there is any network interface but a loopback of this namespace's own, which is down."""
    names = [name for _, name in socket.if_nameindex()]
    if names not in ([], ["lo"]):
        return True
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("127.0.0.1", 9))
        except OSError:
            return False
    return True


def enforceable(folder: Path) -> tuple[str, ...]:
    """The levels that this machine can enforce, tried in a process of its own with files in `folder`."""
    told = _from_inside(folder)
    return tuple(level for level in get_args(Confinement) if level in told)


def cuda_inside(folder: Path) -> int | None:
    """What CUDA's driver answers when it is started inside (`cuInit`): 0 where it starts, -1 where it does not come
    back; None without a GPU or driver. Tried in a process of its own with files in `folder`."""
    if not _nvidia_devices():
        return None
    told = [word for word in _from_inside(folder, "cuda") if word.startswith("cuda=")]
    answer = told[-1].removeprefix("cuda=") if told else "-1"
    return None if answer == "absent" else int(answer)


def _from_inside(folder: Path, *more: str) -> list[str]:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        forbidden, scratch = Path(name) / "forbidden", Path(name) / "scratch"
        forbidden.touch(mode=0o600)
        scratch.mkdir()
        command = [sys.executable, "-I", "-m", "aimass.proto.confinement", str(scratch), str(forbidden), *more]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=_PROBE_S)
        except subprocess.TimeoutExpired:
            return []
    return done.stdout.split()


def _start_cuda() -> str:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "cuda=absent"
    return f"cuda={driver.cuInit(0)}"


if __name__ == "__main__":
    sys.stdout.write(" ".join(sorted(confine([], Path(sys.argv[1]), Path(sys.argv[2]), os.getppid()))))
    if sys.argv[3:]:
        sys.stdout.write(f" {_start_cuda()}")
