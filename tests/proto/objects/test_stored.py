"""Blobs and uploads in an object store: durable there before anything is said, and this machine's folder no loss."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aimass.proto.errors import Conflict, IntegrityError, NotFound, Unavailable
from aimass.proto.storage import Blobs
from aimass.proto.stored import StoredBlobs, StoredSpool, claim, open_blobs
from tests.support.objects import MemoryObjects

MODELS = [random.Random(seed).randbytes(10_000 + seed) for seed in range(4)]
DIGESTS = [hashlib.sha256(model).hexdigest() for model in MODELS]


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def blobs(store: MemoryObjects, tmp_path: Path) -> StoredBlobs:
    return StoredBlobs(store, tmp_path / "here", 25_000)


def away(verb: str, key: str) -> None:
    raise Unavailable("away", code="storage.unavailable")


def here(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "here").glob("??/*"))


def test_what_is_put_stands_in_the_store_under_its_digest(
    blobs: StoredBlobs, store: MemoryObjects, tmp_path: Path
) -> None:
    assert blobs.put([MODELS[0][:10], MODELS[0][10:]]) == DIGESTS[0]
    path = tmp_path / "finished"
    path.write_bytes(MODELS[1])
    blobs.adopt(path, DIGESTS[1])
    assert {key: data for key, (data, _) in store.held.items()} == {
        f"{d[:2]}/{d}": m for d, m in zip(DIGESTS[:2], MODELS, strict=False)
    }
    assert not path.exists()
    elsewhere = StoredBlobs(store, tmp_path / "elsewhere", 25_000)
    assert elsewhere.has(DIGESTS[0])
    assert elsewhere.open(DIGESTS[0]) == MODELS[0]
    assert elsewhere.size(DIGESTS[1]) == len(MODELS[1])
    assert sorted(elsewhere.digests()) == sorted(DIGESTS[:2])
    descriptor = elsewhere.descriptor(DIGESTS[1])
    assert os.read(descriptor, 20_000) == MODELS[1]
    os.close(descriptor)


def test_what_cannot_be_sent_is_not_said_to_be_stored(blobs: StoredBlobs, store: MemoryObjects) -> None:
    store.before = away
    with pytest.raises(Unavailable):
        blobs.put([MODELS[0]])
    store.before = lambda verb, key: None
    assert not blobs.has(DIGESTS[0])
    assert not blobs.listed(DIGESTS[0])
    assert blobs.put([MODELS[0]]) == DIGESTS[0]
    assert blobs.has(DIGESTS[0])


def test_what_is_used_is_not_asked_for_twice_and_the_folder_stays_small(
    blobs: StoredBlobs, store: MemoryObjects, tmp_path: Path
) -> None:
    for model in MODELS:
        blobs.put([model])
    assert here(tmp_path) == sorted(DIGESTS[2:])
    view = blobs.open(DIGESTS[2])
    store.asked.clear()
    assert blobs.open(DIGESTS[2]) == MODELS[2]
    assert not store.asked
    assert blobs.open(DIGESTS[0]) == MODELS[0]
    assert here(tmp_path) == sorted([DIGESTS[0], DIGESTS[2]])
    assert blobs.open(DIGESTS[1]) == MODELS[1]
    assert here(tmp_path) == sorted([DIGESTS[0], DIGESTS[1]])
    assert view == MODELS[2]


def test_a_copy_that_changed_is_fetched_again_and_a_store_that_lies_is_not_believed(
    store: MemoryObjects, tmp_path: Path
) -> None:
    StoredBlobs(store, tmp_path / "here", 25_000).put([MODELS[0]])
    (tmp_path / "here" / DIGESTS[0][:2] / DIGESTS[0]).write_bytes(b"!" + MODELS[0][1:])
    assert StoredBlobs(store, tmp_path / "here", 25_000).open(DIGESTS[0]) == MODELS[0]
    store.put(f"{DIGESTS[0][:2]}/{DIGESTS[0]}", b"!" + MODELS[0][1:])
    with pytest.raises(IntegrityError) as caught:
        StoredBlobs(store, tmp_path / "new", 25_000).open(DIGESTS[0])
    assert caught.value.code == "storage.digest"


def test_a_store_that_lists_late_is_asked_for_what_it_does_not_show(
    blobs: StoredBlobs, store: MemoryObjects, tmp_path: Path
) -> None:
    blobs.put([MODELS[0]])
    store.list = lambda prefix="": iter(())  # type: ignore[method-assign]
    other = StoredBlobs(store, tmp_path / "other", 25_000)
    assert not other.listed(DIGESTS[0])
    assert other.has(DIGESTS[0])
    assert other.open(DIGESTS[0]) == MODELS[0]
    assert not other.has(DIGESTS[1])
    with pytest.raises(NotFound):
        other.open(DIGESTS[1])


def test_what_is_deleted_is_gone_here_and_there(blobs: StoredBlobs, store: MemoryObjects, tmp_path: Path) -> None:
    blobs.put([MODELS[0]])
    store.before = away
    with pytest.raises(Unavailable):
        blobs.delete(DIGESTS[0])
    store.before = lambda verb, key: None
    assert blobs.has(DIGESTS[0])
    blobs.delete(DIGESTS[0])
    assert not blobs.has(DIGESTS[0])
    assert not store.held
    assert not here(tmp_path)


def test_a_server_sends_first_what_its_folder_alone_holds_and_leaves_out_what_changed(
    store: MemoryObjects, tmp_path: Path
) -> None:
    for digest, data in ((DIGESTS[0], MODELS[0]), (DIGESTS[1], b"changed")):
        place = tmp_path / "here" / digest[:2] / digest
        place.parent.mkdir(parents=True)
        place.write_bytes(data)
    blobs = StoredBlobs(store, tmp_path / "here", 25_000)
    blobs.sweep()
    assert [key.rpartition("/")[2] for key in store.held] == [DIGESTS[0]]
    assert not blobs.has(DIGESTS[1])


def test_what_this_disk_alone_holds_makes_no_room_before_it_is_sent(store: MemoryObjects, tmp_path: Path) -> None:
    for digest, data in zip(DIGESTS, MODELS, strict=True):
        place = tmp_path / "here" / digest[:2] / digest
        place.parent.mkdir(parents=True)
        place.write_bytes(data)
    blobs = StoredBlobs(store, tmp_path / "here", 10)
    assert blobs.open(DIGESTS[0]) == MODELS[0]
    assert len(here(tmp_path)) == 4
    blobs.sweep()
    assert sorted(key.rpartition("/")[2] for key in store.held) == sorted(DIGESTS)
    assert len(here(tmp_path)) == 1


def test_many_threads_fetch_through_a_folder_that_holds_two(store: MemoryObjects, tmp_path: Path) -> None:
    for model in MODELS:
        StoredBlobs(store, tmp_path / "first", 10**9).put([model])
    blobs = StoredBlobs(store, tmp_path / "here", 25_000)

    def turn(number: int) -> bool:
        descriptor = blobs.descriptor(DIGESTS[number % 4])
        try:
            return blobs.open(DIGESTS[number % 4]) == MODELS[number % 4] == os.read(descriptor, 20_000)
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(turn, range(100)))


def test_blobs_open_by_their_url(s3: str, keys: None, tmp_path: Path) -> None:
    def opened(name: str) -> Blobs:
        return open_blobs(f"s3://tests/{tmp_path.name}?endpoint={s3}", tmp_path / name)

    digest = opened("a").put([MODELS[0]])
    assert opened("b").open(digest) == MODELS[0]


# ---------------------------------------------------------------- uploads


@pytest.fixture
def spool(store: MemoryObjects, tmp_path: Path) -> Iterator[StoredSpool]:
    spool = StoredSpool(store, tmp_path / "spool")
    yield spool
    spool.close()


def upload(spool: StoredSpool, key: str, data: bytes, *, kept: bool = True) -> Path:
    writer = spool.begin(key, len(data), hashlib.sha256(data).hexdigest(), kept=kept)
    writer.append(memoryview(data)[writer.offset :])
    return writer.finish()


def test_a_finished_upload_is_in_the_store_before_anybody_is_told(spool: StoredSpool, store: MemoryObjects) -> None:
    assert upload(spool, "run-0-ada", MODELS[0]).read_bytes() == MODELS[0]
    assert store.read("run-0-ada") == MODELS[0]


def test_an_upload_that_cannot_be_sent_is_not_finished_and_is_not_asked_for_again(
    spool: StoredSpool, store: MemoryObjects
) -> None:
    store.before = away
    with pytest.raises(Unavailable):
        upload(spool, "run-0-ada", MODELS[0])
    store.before = lambda verb, key: None
    writer = spool.begin("run-0-ada", len(MODELS[0]), DIGESTS[0])
    assert writer.offset == len(MODELS[0])
    writer.finish()
    assert store.read("run-0-ada") == MODELS[0]


def test_what_moves_on_is_not_sent(spool: StoredSpool, store: MemoryObjects) -> None:
    upload(spool, "model-ada", MODELS[0], kept=False)
    assert not store.held


def test_a_machine_that_lost_its_disk_finds_its_uploads_in_the_store(
    spool: StoredSpool, store: MemoryObjects, tmp_path: Path
) -> None:
    upload(spool, "run-0-ada", MODELS[0])
    shutil.rmtree(tmp_path / "spool")
    again = StoredSpool(store, tmp_path / "spool")
    assert again.has("run-0-ada")
    assert again.path("run-0-ada").read_bytes() == MODELS[0]
    assert not again.has("run-0-bob")
    again.close()


def test_what_is_discarded_goes_from_the_store_and_does_not_take_what_is_put_in_its_place(
    spool: StoredSpool, store: MemoryObjects
) -> None:
    for _ in range(20):
        upload(spool, "run-0-ada", MODELS[0])
        spool.discard("run-0-ada")
        upload(spool, "run-0-ada", MODELS[1])
        assert store.read("run-0-ada") == MODELS[1]
    spool.discard("run-0-ada")
    assert not spool.has("run-0-ada")
    spool.close()
    assert not store.held
    assert not spool._deleting


def test_what_could_not_be_deleted_is_swept(spool: StoredSpool, store: MemoryObjects) -> None:
    upload(spool, "run-0-ada", MODELS[0])
    upload(spool, "run-1-ada", MODELS[1])
    claim(store, "server")
    store.before = lambda verb, key: away(verb, key) if verb == "delete" else None
    spool.discard("run-0-ada")
    spool.close()
    assert spool.sizes() == {"run-0-ada": len(MODELS[0]), "run-1-ada": len(MODELS[1])}
    store.before = lambda verb, key: None
    spool.sweep(lambda key: key == "run-1-ada")
    assert sorted(store.held) == ["owner", "run-1-ada"]
    assert spool.path("run-1-ada").is_file()


def test_two_servers_do_not_share_a_store(store: MemoryObjects) -> None:
    claim(store, "one")
    claim(store, "one")
    with pytest.raises(Conflict) as caught:
        claim(store, "two")
    assert caught.value.code == "storage.other_owner"
