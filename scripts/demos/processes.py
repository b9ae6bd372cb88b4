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


def shared_bytes(pids: Iterable[int]) -> int:
    """Memory of the processes now, each page divided among those that share it (PSS)."""
    rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in pids)
    return sum(int(line.split()[1]) * 1024 for lines in rollups for line in lines if line.startswith("Pss:"))


def peak_bytes(pid: int) -> int:
    """Largest resident memory of a process so far."""
    return _status(pid)["VmHWM"]


def _status(pid: int) -> dict[str, int]:
    """What the kernel counts of a process's memory, in bytes; nothing of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: int(size) * 1024 for name, size in (_amount(line) for line in lines if line.endswith(" kB"))}


def _amount(line: str) -> tuple[str, str]:
    name, _, size = line.removesuffix(" kB").partition(":")
    return name, size


class Peak:
    """The most that a process, or each of its children, has while the block runs: `bytes` of anonymous memory, which
    is sampled, since the kernel keeps no mark of it; `resident` in all."""

    _EVERY_S: Final = 0.01

    def __init__(self, pid: int, *, children: bool = False) -> None:
        self.bytes = self.resident = 0
        self._pid, self._of_children = pid, children
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._EVERY_S):
            for pid in _children(self._pid) if self._of_children else [self._pid]:
                self.bytes = max(self.bytes, _status(pid).get("RssAnon", 0))
                self.resident = max(self.resident, _status(pid).get("VmHWM", 0))


def _words(path: Path) -> list[str]:
    return path.read_text().split()
