"""What running processes cost, as the kernel counts it: processor seconds and resident bytes."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def family(pid: int) -> set[int]:
    """A process and everything that it started."""
    found, new = {pid}, {pid}
    while new:
        new = {child for parent in new for child in _children(parent)} - found
        found |= new
    return found


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _words(task / "children")]
    except FileNotFoundError:
        return []


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of the processes so far, user and system, with that of children they waited for."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS_PER_S


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory of the processes now."""
    return sum(int(_words(Path(f"/proc/{pid}/statm"))[1]) * _PAGE_BYTES for pid in pids)


def peak_bytes(pid: int) -> int:
    """Largest resident memory of a process so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class Peak:
    """The most anonymous memory that a process has while the block runs, sampled: the kernel keeps no mark of it."""

    _EVERY_S: Final = 0.01

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid, self._stop = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        path = Path(f"/proc/{self._pid}/status")
        while not self._stop.wait(self._EVERY_S):
            lines = path.read_text().splitlines()
            kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
            self.bytes = max(self.bytes, kilobytes * 1024)


def _words(path: Path) -> list[str]:
    return path.read_text().split()
