"""Pages of mapped files that were read once are let go: the bytes stay what they are, and other memory is not touched."""

from __future__ import annotations

import mmap
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from aimass.proto.pages import PartReader, forget_behind, forget_pages
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


@pytest.mark.parametrize("keep_file", [True, False])
def test_read_part_by_part_a_file_is_what_it_was_and_hardly_resident(tmp_path: Path, keep_file: bool) -> None:
    path, wanted = tmp_path / "file", np.arange(SIZE // 4, dtype=np.uint32)
    path.write_bytes(wanted.tobytes())
    array = np.frombuffer(map_file(path, keep_file=keep_file), np.uint32)
    path.unlink()
    before, most, read = resident_bytes(), 0, PartReader(window=4 << 20)
    for start in range(0, len(array), 100_003):
        part = slice(start, start + 100_003)
        assert np.array_equal(read(array, part), wanted[part])
        most = max(most, resident_bytes() - before)
    assert most <= (1 << 20 if keep_file else 14 << 20)


def test_a_reader_gives_memory_that_is_no_file_as_it_is() -> None:
    own, read = np.arange(10.0), PartReader()
    assert read(own, slice(2, 5)).base is own
    assert len(read(own, slice(5, 5))) == 0


def test_a_map_that_keeps_its_file_closes_it_with_its_last_view(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8192))
    held = len(list(Path("/proc/self/fd").iterdir()))
    array = np.frombuffer(map_file(tmp_path / "file", keep_file=True), np.uint8)
    assert len(list(Path("/proc/self/fd").iterdir())) == held + 1
    del array
    assert len(list(Path("/proc/self/fd").iterdir())) == held


def test_maps_leave_most_descriptors_to_connections(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8192))
    held = len(list(Path("/proc/self/fd").iterdir()))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, allowed[0]), allowed[1]))
    try:
        views = [map_file(tmp_path / "file", keep_file=True) for _ in range(60)]
        assert len(list(Path("/proc/self/fd").iterdir())) - held <= 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert all(not PartReader()(np.frombuffer(view, np.uint8), slice(None)).any() for view in views)


def test_a_file_that_became_shorter_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    array = np.frombuffer(map_file(path, keep_file=True), np.uint8)
    os.truncate(path, 100)
    with pytest.raises(OSError, match="shorter"):
        PartReader()(array, slice(None))
