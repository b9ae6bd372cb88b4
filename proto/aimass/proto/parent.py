"""Ties the life of a process to that of the one which started it."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

__all__ = ["end_with"]

_PR_SET_PDEATHSIG: Final = 1


def end_with(parent: int) -> None:
    """Be interrupted when the process `parent`, which started this one, ends; raises `SystemExit` where it has."""
    # A shell has what it starts in the background ignore interrupts, and so would all that this starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)
