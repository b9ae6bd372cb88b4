"""Pages of mapped files that were read once are let go: the bytes stay what they are, and other memory is not touched."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np

from aimass.proto.pages import forget_behind, forget_pages
from aimass.proto.storage import map_file

SIZE = 64 << 20


def resident_bytes() -> int:
    """Pages of files that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * mmap.PAGESIZE


def test_what_was_read_and_let_go_counts_for_nobody_and_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(np.arange(SIZE // 4, dtype=np.uint32).tobytes())
    array = np.frombuffer(map_file(path), np.uint32)
    before = resident_bytes()
    total = int(array.sum(dtype=np.uint64))
    held = resident_bytes() - before
    forget_pages(array[1000:-1000].reshape(-1))
    assert held > SIZE * 0.9
    assert resident_bytes() - before < SIZE * 0.1
    assert int(array.sum(dtype=np.uint64)) == total


def test_part_by_part_no_more_than_a_window_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    array = np.frombuffer(map_file(path), np.uint8)
    before, most = resident_bytes(), 0
    for start in range(0, SIZE, 1 << 20):
        part = slice(start, start + (1 << 20))
        assert not array[part].any()
        forget_behind(array, part, window=4 << 20)
        most = max(most, resident_bytes() - before)
    assert most <= 6 << 20


def test_what_a_late_thread_reads_behind_a_window_stays_no_longer_than_the_next_ones(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(SIZE))
    array = np.frombuffer(map_file(path), np.uint8)
    before, block = resident_bytes(), 1 << 20
    for start in range(0, SIZE, block):
        part = slice(start, start + block)
        assert not array[part].any()
        forget_behind(array, part, window=block)
        assert not array[max(0, start - 2 * block) : start].any()  # another one is two blocks behind
    assert resident_bytes() - before <= 12 << 20


def test_memory_that_is_no_map_of_a_file_is_left_alone() -> None:
    own = np.ones(1 << 20, np.uint8)
    view = np.frombuffer(memoryview(bytearray(b"x" * (1 << 20))), np.uint8)
    for array in (own, view):
        forget_pages(array)
        assert array.all()
