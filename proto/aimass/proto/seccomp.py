"""A filter of system calls for the training child: no sockets, no other processes, no way around the other locks.

A classic BPF program (Linux seccomp, mode 2) that answers EPERM to what is listed and lets everything else pass.
Threads may be made, processes may not; signals and limits are for the child alone, also signals that the kernel would
send for it. Pairs of sockets may be made where they reach each other alone: a datagram socket of a pair sends to
whoever has a name. Modes, owners, times and attributes of files, which Landlock does not watch, stay as they are, and
nothing is left in the kernel's own queues and segments, which outlive a process. `io_uring` is closed because its rings
make sockets without the call being seen.

Where a driver of a GPU is to start, local sockets of one kind (SOCK_SEQPACKET) may be made and named: CUDA listens on
one for processes that it shares memory with, and does not start without. They cannot connect to anything, and who
connects to them is let in only within a network namespace of the child's own, where nobody else is.
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
    "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466, "file_setattr": 469,
}  # fmt: skip
_DENIED: Final = {
    "x86_64": {
        "socket": 41, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "rt_sigqueueinfo": 129,
        "pivot_root": 155, "chroot": 161, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
        "swapoff": 168, "reboot": 169, "init_module": 175, "delete_module": 176, "tkill": 200, "clock_settime": 227,
        "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
        "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320,
        "bpf": 321, "execveat": 322, "userfaultfd": 323, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240,
        "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "utime": 132, "setxattr": 188,
        "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199,
        "utimes": 235, "fchownat": 260, "futimesat": 261, "fchmodat": 268, "utimensat": 280, **_COMMON,
    },
    "aarch64": {
        "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "unshare": 97, "kexec_load": 104,
        "init_module": 105, "delete_module": 106, "clock_settime": 112, "ptrace": 117, "kill": 129, "tkill": 130,
        "rt_sigqueueinfo": 138, "reboot": 142, "settimeofday": 170, "socket": 198, "add_key": 217,
        "request_key": 218, "keyctl": 219, "execve": 221, "swapon": 224, "swapoff": 225, "rt_tgsigqueueinfo": 240,
        "perf_event_open": 241, "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "bpf": 280, "execveat": 281, "userfaultfd": 282,
        "kexec_file_load": 294, "mq_open": 180, "msgget": 186, "semget": 190, "shmget": 194, "fchmod": 52,
        "fchmodat": 53, "fchownat": 54, "fchown": 55, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7,
        "removexattr": 14, "lremovexattr": 15, "fremovexattr": 16, "utimensat": 88, **_COMMON,
    },
}  # fmt: skip
_AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CALLS: Final = {
    "x86_64": {
        "ioctl": 16, "socket": 41, "connect": 42, "accept": 43, "socketpair": 53, "clone": 56, "fcntl": 72,
        "tgkill": 234, "accept4": 288, "prlimit64": 302, "clone3": 435,
    },
    "aarch64": {
        "fcntl": 25, "ioctl": 29, "tgkill": 131, "socket": 198, "socketpair": 199, "accept": 202, "connect": 203,
        "clone": 220, "accept4": 242, "prlimit64": 261, "clone3": 435,
    },
}  # fmt: skip
"""Calls of which the filter looks at the arguments, or at who asks."""
_AF_UNIX, _SOCK_STREAM, _SOCK_SEQPACKET, _KIND = 1, 1, 5, 0xF
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX, _FIOSETOWN, _SIOCSPGRP = 8, 10, 15, 0x8901, 0x8902
_REFUSE, _MISSING, _NOBODY = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS, _ERRNO | errno.ENOENT


def filter_program(machine: str, pid: int, *, driver: bool = False, own_network: bool = False) -> bytes | None:
    """The program for a process `pid` on `machine`, in which a GPU's `driver` starts or not; None for a machine that is
    not known here."""
    if machine not in _DENIED:
        return None
    call = _CALLS[machine]
    program = [
        _step(_LOAD, _ARCH),
        _step(_EQUAL, _AUDIT_ARCH[machine], 1, 0),
        _step(_RETURN, _REFUSE),  # the calls of another architecture have other numbers
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32, 0, 1),
        _step(_RETURN, _REFUSE),
        # glibc falls back to clone, whose flags can be seen; those of clone3 stand in memory.
        *_answer(call["clone3"], _MISSING),
        *_rule(call["clone"], *_with(_FIRST_ARGUMENT, _CLONE_THREAD)),
        *_rule(call["tgkill"], *_one_of(_FIRST_ARGUMENT, pid)),
        *_rule(call["prlimit64"], *_one_of(_FIRST_ARGUMENT, 0, pid)),
        *_rule(call["fcntl"], *_none_of(_SECOND_ARGUMENT, _F_SETOWN, _F_SETSIG, _F_SETOWN_EX)),
        *_rule(call["ioctl"], *_none_of(_SECOND_ARGUMENT, _FIOSETOWN, _SIOCSPGRP)),
        *_rule(call["socketpair"], *_local(_SOCK_STREAM, _SOCK_SEQPACKET)),
    ]
    if driver:
        # Who connects finds nobody: what CUDA is told where no process shares the GPU by MPS.
        program += [*_rule(call["socket"], *_local(_SOCK_SEQPACKET)), *_answer(call["connect"], _NOBODY)]
    if not (driver and own_network):
        program += [*_answer(call["accept"], _REFUSE), *_answer(call["accept4"], _REFUSE)]
    for number in sorted(_DENIED[machine].values()):
        program += _answer(number, _REFUSE)
    return b"".join([*program, _step(_RETURN, _ALLOW)])


def _answer(number: int, answer: int) -> list[bytes]:
    """What is said to a call, whatever its arguments."""
    return [_step(_EQUAL, number, 0, 1), _step(_RETURN, answer)]


def _rule(number: int, *looks: bytes) -> list[bytes]:
    """A call that passes where its arguments do: no look comes back to the number, which is not held any more."""
    return [_step(_EQUAL, number, 0, len(looks) + 1), *looks, _step(_RETURN, _ALLOW)]


def _one_of(argument: int, *values: int, bits: int = 0) -> list[bytes]:
    """Refuse but for these values, of the argument's `bits` where some are given."""
    masked = [_step(_AND, bits)] if bits else []
    equals = [_step(_EQUAL, value, len(values) - place, 0) for place, value in enumerate(values)]
    return [_step(_LOAD, argument), *masked, *equals, _step(_RETURN, _REFUSE)]


def _none_of(argument: int, *values: int) -> list[bytes]:
    """Refuse these values."""
    return [_step(_LOAD, argument), *(each for value in values for each in _answer(value, _REFUSE))]


def _with(argument: int, bit: int) -> list[bytes]:
    """Refuse where a flag is not set."""
    return [_step(_LOAD, argument), _step(_HAS_BITS, bit, 1, 0), _step(_RETURN, _REFUSE)]


def _local(*kinds: int) -> list[bytes]:
    """Refuse but for Unix sockets of these kinds."""
    return [*_one_of(_FIRST_ARGUMENT, _AF_UNIX), *_one_of(_SECOND_ARGUMENT, *kinds, bits=_KIND)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def install(libc: ctypes.CDLL, *, driver: bool = False, own_network: bool = False) -> bool:
    """Put the filter on this process, for good; False where the machine does not take it. Call it before threads."""
    program = filter_program(platform.machine(), os.getpid(), driver=driver, own_network=own_network)
    if program is None:
        return False
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    held = Program(len(program) // 8, ctypes.addressof(code))
    return bool(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(held), 0, 0) == 0)
