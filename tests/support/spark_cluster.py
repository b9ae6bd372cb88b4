"""Spark's processes below this one, for tests that kill some of them."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.demos.processes import family

__all__ = ["executors", "trainers"]


def executors() -> list[int]:
    """The JVMs that Spark started for its work."""
    return [pid for pid, line in _lines().items() if b"CoarseGrainedExecutorBackend" in line and line.startswith(b"/")]


def trainers() -> list[int]:
    """The processes in lockstep that `TorchDistributor` started."""
    return [
        pid for pid, line in _lines().items() if line.endswith(b"train.py\0") and b"torch.distributed.run" not in line
    ]


def _lines() -> dict[int, bytes]:
    return {pid: _line(pid) for pid in family(os.getpid())}


def _line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
