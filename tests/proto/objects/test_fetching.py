"""Objects on the local disk: the right bytes or none, once for all who ask, and no more of them than there is room."""

from __future__ import annotations

import hashlib
import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from aimass.proto.errors import Conflict, IntegrityError, LimitExceeded, Unavailable
from aimass.proto.fetching import RANGE_BYTES, ObjectCache, fetch, ranges
from tests.support.objects import MemoryObjects

SMALL = random.Random(1).randbytes(3_000_000)
LARGE = random.Random(2).randbytes(2 * RANGE_BYTES + 99)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def store() -> MemoryObjects:
    store = MemoryObjects()
    store.put("small", SMALL)
    store.put("large", LARGE)
    return store


def get(store: MemoryObjects, folder: Path, key: str, data: bytes) -> bytes:
    return fetch(store, key, digest(data), len(data), folder).read_bytes()


def test_what_is_fetched_is_asked_for_once(store: MemoryObjects, tmp_path: Path) -> None:
    assert get(store, tmp_path, "small", SMALL) == SMALL
    asked = list(store.asked)
    assert get(store, tmp_path, "small", SMALL) == SMALL
    assert store.asked == asked


def test_a_transfer_that_broke_off_goes_on_where_it_was(store: MemoryObjects, tmp_path: Path) -> None:
    store.cut_at = [2_500_000]
    with pytest.raises(Unavailable):
        get(store, tmp_path, "small", SMALL)
    store.held["small"] = bytes(2_500_000) + SMALL[2_500_000:], 1  # what is here already is not asked for again
    assert get(store, tmp_path, "small", SMALL) == SMALL


def test_a_large_object_is_read_in_ranges_and_put_together_in_order(store: MemoryObjects, tmp_path: Path) -> None:
    assert get(store, tmp_path, "large", LARGE) == LARGE
    assert [verb for verb, _ in store.asked if verb == "read"] == ["read"] * 3
    assert b"".join(ranges(store, "large", 5, len(LARGE), "")) == LARGE[5:]


def test_a_large_object_that_broke_off_asks_for_the_rest_alone(store: MemoryObjects, tmp_path: Path) -> None:
    reads = itertools.count()

    def third_fails(verb: str, key: str) -> None:
        if verb == "read" and next(reads) == 2:
            raise Unavailable("away")

    store.before = third_fails
    with pytest.raises(Unavailable):
        get(store, tmp_path, "large", LARGE)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.part")) == 2 * RANGE_BYTES
    store.asked.clear()
    assert get(store, tmp_path, "large", LARGE) == LARGE
    assert [verb for verb, _ in store.asked] == ["head", "stream"]


def test_other_bytes_of_the_same_size_are_not_handed_out(store: MemoryObjects, tmp_path: Path) -> None:
    store.put("small", SMALL[::-1])
    with pytest.raises(IntegrityError) as caught:
        get(store, tmp_path, "small", SMALL)
    assert caught.value.code == "storage.digest"
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
    store.put("small", SMALL)
    assert get(store, tmp_path, "small", SMALL) == SMALL


@pytest.mark.parametrize("held", [SMALL[:-1], SMALL + b"0", b""])
def test_an_object_of_another_size_is_refused_before_its_first_byte(
    store: MemoryObjects, tmp_path: Path, held: bytes
) -> None:
    store.put("small", held)
    with pytest.raises(IntegrityError) as caught:
        get(store, tmp_path, "small", SMALL)
    assert caught.value.code == "storage.size"
    assert store.asked[-1] == ("head", "small")


def test_an_object_that_is_replaced_between_two_ranges_is_refused(store: MemoryObjects, tmp_path: Path) -> None:
    reads = itertools.count()

    def replaced(verb: str, key: str) -> None:
        if verb == "read" and next(reads) == 1:
            store.held["large"] = LARGE[::-1], 99

    store.before = replaced
    with pytest.raises(Conflict) as caught:
        get(store, tmp_path, "large", LARGE)
    assert caught.value.code == "storage.replaced"


def test_a_file_that_changed_on_the_disk_is_fetched_again(store: MemoryObjects, tmp_path: Path) -> None:
    path = fetch(store, "small", digest(SMALL), len(SMALL), tmp_path)
    path.write_bytes(SMALL[:-1] + b"!")
    assert get(store, tmp_path, "small", SMALL) == SMALL
    with ObjectCache(tmp_path, 10**9).held(store, "small", digest(SMALL), len(SMALL)) as path:
        path.write_bytes(b"")
    with ObjectCache(tmp_path, 10**9).held(store, "small", digest(SMALL), len(SMALL)) as path:
        assert path.read_bytes() == SMALL


def test_of_many_who_want_one_object_one_fetches_it(store: MemoryObjects, tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: get(store, tmp_path, "small", SMALL), range(12)))
    assert found == [SMALL] * 12
    assert [verb for verb, _ in store.asked if verb == "stream"] == ["stream"]


def cached(store: MemoryObjects, folder: Path, limit: int, count: int) -> tuple[ObjectCache, list[bytes]]:
    objects = [bytes([number]) * 1000 for number in range(count)]
    for number, data in enumerate(objects):
        store.put(f"{number}", data)
    ticks = itertools.count(1)
    return ObjectCache(folder, limit, lambda: next(ticks)), objects


def touch(cache: ObjectCache, store: MemoryObjects, number: int, data: bytes) -> None:
    with cache.held(store, f"{number}", digest(data), len(data)) as path:
        assert path.read_bytes() == data


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_what_was_used_longest_ago_makes_room(store: MemoryObjects, tmp_path: Path) -> None:
    cache, objects = cached(store, tmp_path, 3000, 5)
    for number in (0, 1, 2, 0, 3):
        touch(cache, store, number, objects[number])
    assert files(tmp_path) == {digest(objects[number]) for number in (0, 2, 3)}
    touch(cache, store, 4, objects[4])
    assert files(tmp_path) == {digest(objects[number]) for number in (0, 3, 4)}


def test_what_is_held_is_not_removed_and_a_cache_that_is_all_held_says_so(store: MemoryObjects, tmp_path: Path) -> None:
    cache, objects = cached(store, tmp_path, 2000, 4)
    with ExitStack() as stack:
        for number in (0, 1):
            stack.enter_context(cache.held(store, f"{number}", digest(objects[number]), 1000))
        with pytest.raises(LimitExceeded) as caught:
            touch(ObjectCache(tmp_path, 2000), store, 2, objects[2])
        assert caught.value.code == "cache.full"
    touch(cache, store, 2, objects[2])
    assert len(files(tmp_path)) == 2


def test_the_rest_of_a_transfer_makes_room_too(store: MemoryObjects, tmp_path: Path) -> None:
    store.cut_at = [2_500_000]
    with pytest.raises(Unavailable):
        get(store, tmp_path, "small", SMALL)
    cache, objects = cached(store, tmp_path, 2000, 1)
    touch(cache, store, 0, objects[0])
    assert files(tmp_path) == {digest(objects[0])}


def test_what_was_seen_and_has_not_changed_is_not_read_again(
    store: MemoryObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, objects = cached(store, tmp_path, 2000, 1)
    touch(cache, store, 0, objects[0])
    store.before = lambda verb, key: pytest.fail("asked")
    monkeypatch.setattr("aimass.proto.fetching.fetch", lambda *_: pytest.fail("checked"))
    touch(cache, store, 0, objects[0])


def test_many_share_a_cache_that_holds_two(store: MemoryObjects, tmp_path: Path) -> None:
    cache, objects = cached(store, tmp_path, 4000, 6)
    other = ObjectCache(tmp_path, 4000)

    def turn(number: int) -> None:
        touch(cache if number % 2 else other, store, number % 6, objects[number % 6])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(turn, range(120)))
    assert len(files(tmp_path)) <= 4 + 2
