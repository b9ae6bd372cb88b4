"""Blobs and spool: what is stored is what was sent, whatever breaks in between."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimass.proto.durable import remove_file
from aimass.proto.errors import BadInput, Conflict, IntegrityError, LimitExceeded, NotFound, OutOfSpace
from aimass.proto.storage import FileBlobs, Spool, map_file, scratch
from aimass.proto.stored import open_blobs

DATA = bytes(range(256)) * 20
DIGEST = hashlib.sha256(DATA).hexdigest()


class Crash(Exception):
    """The process ends here."""


class CrashAt:
    """Dies at the nth durable point."""

    def __init__(self, left: int) -> None:
        self.left = left

    def reached(self, _: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash


@pytest.mark.parametrize("point", [1, 2, 3])
def test_a_blob_is_there_whole_or_not_at_all_after_a_crash(tmp_path: Path, point: int) -> None:
    with contextlib.suppress(Crash):
        FileBlobs(tmp_path, CrashAt(point)).put([DATA[:100], DATA[100:]])
    again = FileBlobs(tmp_path)
    assert list(again.digests()) in ([], [DIGEST])
    assert again.put([DATA]) == DIGEST
    assert bytes(again.open(DIGEST)) == DATA


def test_a_blob_that_changed_on_the_disk_is_not_handed_out(tmp_path: Path) -> None:
    FileBlobs(tmp_path).put([DATA])
    path = tmp_path / DIGEST[:2] / DIGEST
    path.write_bytes(DATA[:-1] + b"\x00")
    with pytest.raises(IntegrityError) as caught:
        FileBlobs(tmp_path).open(DIGEST)
    assert caught.value.code == "storage.changed"


def test_a_deleted_blob_stays_readable_where_it_is_open(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    view = blobs.open(blobs.put([DATA]))
    blobs.delete(DIGEST)
    assert bytes(view) == DATA
    assert not blobs.has(DIGEST)
    with pytest.raises(NotFound):
        blobs.open(DIGEST)


@pytest.mark.parametrize("digest", ["../secret", "", "0" * 63, "0" * 64 + "\n", "A" * 64])
def test_what_is_no_digest_names_no_file(tmp_path: Path, digest: str) -> None:
    with pytest.raises(BadInput):
        FileBlobs(tmp_path).open(digest)


@pytest.mark.parametrize("key", ["../secret", "", ".hidden", "a/b", "a\n", "a" * 300])
def test_what_is_no_key_names_no_upload(tmp_path: Path, key: str) -> None:
    with pytest.raises(BadInput):
        Spool(tmp_path).begin(key, 1, DIGEST)


@settings(max_examples=50)
@given(st.lists(st.integers(0, len(DATA)), max_size=6))
def test_an_upload_that_breaks_at_any_byte_goes_on_there(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    for cut in sorted(cuts):
        writer = spool.begin("key", len(DATA), DIGEST)
        writer.append(DATA[writer.offset : cut])
        writer.close()
    writer = spool.begin("key", len(DATA), DIGEST)
    assert writer.offset == max(cuts, default=0)
    writer.append(DATA[writer.offset :])
    assert writer.finish().read_bytes() == DATA
    assert spool.begin("key", len(DATA), DIGEST).offset == len(DATA)


def test_bytes_beyond_the_stated_size_and_an_early_end_are_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    writer = spool.begin("key", 10, DIGEST)
    with pytest.raises(LimitExceeded):
        writer.append(b"0" * 11)
    writer.append(b"0" * 9)
    with pytest.raises(Conflict):
        writer.finish()
    writer.close()


def test_other_bytes_than_the_digest_says_are_dropped_and_begun_afresh(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    writer = spool.begin("key", len(DATA), DIGEST)
    writer.append(DATA[::-1])
    with pytest.raises(IntegrityError):
        writer.finish()
    again = spool.begin("key", len(DATA), DIGEST)
    assert again.offset == 0
    again.close()


def test_part_of_another_upload_is_not_taken_for_this_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    other = spool.begin("key", 100, "0" * 64)
    other.append(b"other")
    other.close()
    writer = spool.begin("key", len(DATA), DIGEST)
    assert writer.offset == 0
    writer.append(DATA)
    assert writer.finish().read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_changed_file_between_two_parts_is_found_at_the_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    writer = spool.begin("key", len(DATA), DIGEST)
    writer.append(DATA[:1000])
    writer.close()
    part = next(tmp_path.iterdir())
    part.write_bytes(b"\xff" + part.read_bytes()[1:])
    writer = spool.begin("key", len(DATA), DIGEST)
    writer.append(DATA[1000:])
    with pytest.raises(IntegrityError):
        writer.finish()


def test_a_disk_that_is_full_is_told_as_that_and_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    (tmp_path / f"key.{DIGEST}.part").symlink_to("/dev/full")
    writer = spool.begin("key", len(DATA), DIGEST)
    with pytest.raises(OutOfSpace) as caught:
        writer.append(DATA)
    assert "Free space" in caught.value.cure
    writer.close()


@pytest.mark.parametrize("url", ["file://host/x", "file:relative", "/plain", "ftp://x/y"])
def test_a_url_without_a_store_is_refused_with_what_there_is(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_blobs(url)
    assert "file:///" in caught.value.sentence()


def test_a_store_by_url_is_the_folder_that_it_names(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    url = f"file://{tmp_path}/with%20space"
    digest = open_blobs(url).put([DATA])
    assert (folder / digest[:2] / digest).is_file()


def test_files_that_are_mapped_hold_no_descriptor_and_go_with_their_last_view(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)
    held = len(list(Path("/proc/self/fd").iterdir()))
    views = [map_file(path) for _ in range(50)]
    assert len(list(Path("/proc/self/fd").iterdir())) == held
    part = views[0][100:200]
    path.unlink()
    views.clear()
    assert part == DATA[100:200]
    assert Path("/proc/self/maps").read_text().count(str(path)) == 1
    del part
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_an_empty_file_is_mapped_as_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert bytes(map_file(tmp_path / "a")) == b""


class Noting:
    """Keeps the names of the durable points."""

    def __init__(self) -> None:
        self.points: list[str] = []

    def reached(self, point: str) -> None:
        self.points.append(point)


def test_an_upload_that_is_found_finished_is_flushed_before_it_is_acknowledged(tmp_path: Path) -> None:
    """The process may have died between the upload's new name and the flush of the folder."""
    noting = Noting()
    for _ in range(2):
        writer = Spool(tmp_path, noting).begin("key", len(DATA), DIGEST)
        noting.points.clear()
        writer.append(DATA[writer.offset :]) if writer.offset < len(DATA) else None
        writer.finish()
        assert noting.points[-1] == "spool.written"


@pytest.mark.parametrize("size", [10, 5 << 20])
def test_a_file_that_is_removed_has_lost_its_name_at_once_and_who_reads_it_reads_on(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * size)
    view = map_file(path)
    remove_file(path)
    assert list(tmp_path.iterdir()) == []
    assert bytes(view[-5:]) == b"xxxxx"
    remove_file(path)


class _Slow(dict[str, memoryview]):
    """Another thread comes between the look for the oldest and its removal."""

    def __iter__(self) -> Iterator[str]:
        oldest = next(super().__iter__())
        time.sleep(0.01)
        return iter((oldest,))


def test_threads_that_open_blobs_at_once_do_not_meet_where_the_oldest_maps_go(tmp_path: Path) -> None:
    """A sum that adopts its model while partners fetch would end its run: the driver failed, and nobody knows why."""
    blobs = FileBlobs(tmp_path)
    blobs._verified = _Slow({f"{number:064x}": memoryview(b"") for number in range(64)})
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(blobs.put, ([b"%d" % number] for number in range(8))))) == 8
    assert len(blobs._verified) == 64


def test_room_for_work_has_no_name_and_is_written_like_memory(tmp_path: Path) -> None:
    room = scratch(tmp_path, 5_000)
    assert bytes(room) == bytes(5_000)
    room[1_000:1_003] = b"abc"
    assert bytes(room[999:1_004]) == b"\0abc\0"
    assert list(tmp_path.iterdir()) == []
    assert bytes(scratch(tmp_path, 0)) == b""


def test_room_that_the_disk_does_not_have_is_refused_before_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(OutOfSpace):
        scratch(tmp_path, 1 << 43)
