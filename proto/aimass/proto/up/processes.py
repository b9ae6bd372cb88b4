"""Processes that belong together: they end with the one that started them, and are known again by the next one."""

from __future__ import annotations

import ctypes
import os
import select
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["die_with", "end_left", "identity"]

_PR_SET_PDEATHSIG: Final = 1
_PRCTL: Final = getattr(ctypes.CDLL(None), "prctl", None)
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_START_TIME: Final = 19
"""Its place in /proc/PID/stat behind the name in brackets: field 22 of proc(5)."""


def die_with(parent: int) -> None:
    """Have this process, which was just forked of `parent`, ended by SIGTERM when that is gone, however it went."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # gone before it was asked
            os._exit(1)


def identity(pid: int) -> str:
    """What tells a process from a later one of the same number: boot and start. "" of none that
    runs, or without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        if fields[0] == "Z":  # over, though nobody has asked how it ended
            return ""
        return f"{_BOOT.read_text('ascii').strip()}:{fields[_START_TIME]}"
    except (OSError, IndexError):
        return ""


def end_left(processes: Iterable[tuple[int, str]], patience_s: float) -> list[int]:
    """End those processes, by number and identity, that are still there; after `patience_s` by force, with all that
    they started. Returns their numbers when they are gone."""
    opened = {pid: os.pidfd_open(pid) for pid, known in processes if known and identity(pid) == known}
    try:
        for descriptor in opened.values():
            _signal(descriptor, signal.SIGTERM)
        for pid, descriptor in opened.items():
            if not select.select([descriptor], [], [], patience_s)[0]:
                os.killpg(pid, signal.SIGKILL)  # it is the first of a session of its own
                select.select([descriptor], [], [])
        return list(opened)
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


def _signal(descriptor: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
