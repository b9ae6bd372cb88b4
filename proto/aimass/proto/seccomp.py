"""A filter of system calls for the training child: no sockets, no other processes, no way around the other locks.

A classic BPF program (Linux seccomp, mode 2) that answers EPERM to what is listed and lets everything else pass.
Threads may be made, processes may not; signals reach the child alone. `io_uring` is closed because its rings make
sockets without the call being seen.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

__all__ = ["filter_program", "install"]

_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_CLONE_THREAD: Final = 0x00010000
_X32: Final = 0x40000000

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND: Final = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_HAS_BITS: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_NUMBER, _ARCH, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in struct seccomp_data, little-endian

_COMMON: Final = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "pidfd_getfd": 438, "mount_setattr": 442,
}  # fmt: skip
_DENIED: Final = {
    "x86_64": {
        "socket": 41, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "rt_sigqueueinfo": 129,
        "pivot_root": 155, "chroot": 161, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
        "swapoff": 168, "reboot": 169, "init_module": 175, "delete_module": 176, "tkill": 200, "clock_settime": 227,
        "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
        "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320,
        "bpf": 321, "execveat": 322, "userfaultfd": 323, **_COMMON,
    },
    "aarch64": {
        "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "unshare": 97, "kexec_load": 104,
        "init_module": 105, "delete_module": 106, "clock_settime": 112, "ptrace": 117, "kill": 129, "tkill": 130,
        "rt_sigqueueinfo": 138, "reboot": 142, "settimeofday": 170, "socket": 198, "add_key": 217,
        "request_key": 218, "keyctl": 219, "execve": 221, "swapon": 224, "swapoff": 225, "rt_tgsigqueueinfo": 240,
        "perf_event_open": 241, "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "bpf": 280, "execveat": 281, "userfaultfd": 282,
        "kexec_file_load": 294, **_COMMON,
    },
}  # fmt: skip
_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE: Final = {"x86_64": 56, "aarch64": 220}
_TGKILL: Final = {"x86_64": 234, "aarch64": 131}
_CLONE3: Final = 435
_SOCKET: Final = {"x86_64": 41, "aarch64": 198}
_CONNECT: Final = {"x86_64": 42, "aarch64": 203}
_AF_UNIX, _SOCK_SEQPACKET, _TYPE = 1, 5, 0xF


def filter_program(machine: str, pid: int, *, driver: bool = False) -> bytes | None:
    """The program for a process `pid` on `machine`, in which a GPU's `driver` starts or not; None for a machine that is
    not known here."""
    if machine not in _DENIED:
        return None
    denied = sorted(_DENIED[machine].values())
    refuse, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    program = [
        _step(_LOAD, _ARCH),
        _step(_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _step(_RETURN, refuse),  # the calls of another architecture have other numbers
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32, 0, 1),
        _step(_RETURN, refuse),
        # glibc falls back to clone, whose flags can be seen; those of clone3 stand in memory.
        _step(_EQUAL, _CLONE3, 0, 1),
        _step(_RETURN, missing),
        _step(_EQUAL, _CLONE[machine], 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_HAS_BITS, _CLONE_THREAD, 1, 0),
        _step(_RETURN, refuse),
        _step(_RETURN, _ALLOW),
        _step(_EQUAL, _TGKILL[machine], 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_EQUAL, pid, 1, 0),
        _step(_RETURN, refuse),
        _step(_RETURN, _ALLOW),
    ]
    if driver:
        program += _sockets_of_a_driver(machine)
    for number in denied:
        program += [_step(_EQUAL, number, 0, 1), _step(_RETURN, refuse)]
    return b"".join([*program, _step(_RETURN, _ALLOW)])


def _sockets_of_a_driver(machine: str) -> list[bytes]:
    """Who connects finds nobody: what CUDA is told where no process shares the GPU by MPS."""
    return [
        _step(_EQUAL, _SOCKET[machine], 0, 7),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_EQUAL, _AF_UNIX, 0, 4),
        _step(_LOAD, _SECOND_ARGUMENT),
        _step(_AND, _TYPE),
        _step(_EQUAL, _SOCK_SEQPACKET, 0, 1),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_EQUAL, _CONNECT[machine], 0, 1),
        _step(_RETURN, _ERRNO | errno.ENOENT),
    ]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def install(libc: ctypes.CDLL, *, driver: bool = False) -> bool:
    """Put the filter on this process, for good; False where the machine does not take it. Call it before threads."""
    program = filter_program(platform.machine(), os.getpid(), driver=driver)
    if program is None:
        return False
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    held = Program(len(program) // 8, ctypes.addressof(code))
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(held), 0, 0) == 0)
