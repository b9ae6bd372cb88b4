"""What every object store promises, on every store that can be had."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aimass.proto.errors import BadInput, Conflict, NotFound
from aimass.proto.objects import CHUNK_BYTES, ObjectStore, commits

DATA = bytes(range(256)) * 40
LARGE = random.Random(7).randbytes(9 * CHUNK_BYTES + 17)
"""More than one part of an upload."""


def test_what_was_put_is_read_back_whole_and_in_ranges(store: ObjectStore) -> None:
    info = store.put("a/b=1/c.d@2_-", DATA)
    assert (info.key, info.size) == ("a/b=1/c.d@2_-", len(DATA))
    assert store.head(info.key) == info
    assert store.read(info.key) == DATA
    assert store.read(info.key, 7, 300, info.version) == DATA[7:307]
    assert store.read(info.key, 7) == DATA[7:]
    assert store.read(info.key, 0, 0) == b""


def test_bytes_of_every_kind_of_buffer_are_taken(store: ObjectStore) -> None:
    signed = memoryview(DATA).cast("b")  # as Arrow hands out its buffers
    store.put("a", signed)
    store.create("b", signed)
    store.write("c", (signed, signed))
    large = memoryview(LARGE).cast("b")
    store.write("d", (large[start : start + CHUNK_BYTES] for start in range(0, len(large), CHUNK_BYTES)))
    assert store.read("a") == store.read("b") == DATA
    assert store.read("c") == DATA + DATA
    assert store.read("d") == LARGE


def test_a_range_beyond_the_end_is_cut(store: ObjectStore) -> None:
    store.put("a", DATA)
    assert store.read("a", len(DATA) - 3, 100) == DATA[-3:]
    assert store.read("a", len(DATA), 1) == store.read("a", len(DATA) + 9) == b""
    assert b"".join(store.stream("a", len(DATA))) == b""


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    assert store.create("a", b"").size == 0
    assert store.read("a") == b"".join(store.stream("a")) == b""
    assert store.write("b", ()).size == 0
    assert [one.key for one in store.list()] == ["a", "b"]
    with pytest.raises(Conflict):
        store.create("a", b"")


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "..", "a/../b", ".", "ä", "a b", "a\n", "~a", "a" * 256, "a/" * 256 + "a"]
)
def test_a_key_that_some_store_cannot_hold_is_refused(store: ObjectStore, key: str) -> None:
    verbs: tuple[Callable[[str], object], ...] = (
        store.head,
        store.read,
        store.delete,
        lambda key: list(store.stream(key)),
        lambda key: store.put(key, b""),
        lambda key: store.create(key, b""),
    )
    for verb in verbs:
        with pytest.raises(BadInput) as caught:
            verb(key)
        assert caught.value.code == "storage.key"


def test_the_longest_key_is_held(store: ObjectStore) -> None:
    key = "a" * 255 + "/" + "b" * 254 + "/"
    assert len(store.put(f"{key}c", b"1").key) == 512
    assert [one.key for one in store.list(key[:500])] == [f"{key}c"]


def test_a_range_that_is_none_is_refused(store: ObjectStore) -> None:
    store.put("a", DATA)
    for start, size in ((-1, None), (0, -1)):
        with pytest.raises(BadInput) as caught:
            store.read("a", start, size)
        assert caught.value.code == "storage.range"


def test_what_is_not_there_is_not_found(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    for key in ("nothing", "a", "a/c", "a/b/c", "nothing/at/all"):
        for verb in (store.head, store.read, lambda key: b"".join(store.stream(key))):
            with pytest.raises(NotFound) as caught:
                verb(key)
            assert caught.value.code == "storage.unknown"
        store.delete(key)
    assert store.read("a/b") == b"1"


def test_the_second_creation_of_a_key_fails_and_changes_nothing(store: ObjectStore) -> None:
    first = store.create("versions/1", b"first")
    with pytest.raises(Conflict) as caught:
        store.create("versions/1", b"second")
    assert caught.value.code == "storage.exists"
    with pytest.raises(Conflict) as caught:
        store.write("versions/1", (b"se", b"cond"), create=True)
    assert caught.value.code == "storage.exists"
    assert store.read("versions/1") == b"first"
    assert store.head("versions/1") == first
    store.delete("versions/1")
    store.create("versions/1", b"third")
    assert store.read("versions/1") == b"third"


def test_of_many_who_create_one_key_one_wins_and_its_bytes_stand_there(store: ObjectStore) -> None:
    def create(number: int) -> int | None:
        try:
            store.create("one", b"%03d" % number)
        except Conflict:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        won = [number for number in pool.map(create, range(16)) if number is not None]
    assert len(won) == 1
    assert store.read("one") == b"%03d" % won[0]


def test_the_store_proves_its_commits_and_keeps_no_probe(store: ObjectStore) -> None:
    commits(store)
    assert not list(store.list())


def test_a_put_replaces_whole_and_who_reads_on_is_told(store: ObjectStore) -> None:
    before = store.put("a", LARGE)
    after = store.put("a", LARGE[::-1])
    assert store.read("a") == LARGE[::-1]
    if before.version:
        assert before.version != after.version
        with pytest.raises(Conflict) as caught:
            store.read("a", 10, 10, before.version)
        assert caught.value.code == "storage.replaced"
        with pytest.raises(Conflict):
            list(store.stream("a", 0, before.version))


def test_a_stream_is_of_one_version(store: ObjectStore) -> None:
    store.put("a", LARGE)
    stream = store.stream("a")
    found = next(stream)
    store.put("a", bytes(len(LARGE)))
    try:
        found += b"".join(stream)
    except Conflict as error:
        found = error.code.encode()
    assert found in (LARGE, b"storage.replaced")


def test_a_large_object_goes_in_and_comes_out_in_chunks(store: ObjectStore) -> None:
    chunks = [memoryview(LARGE)[at : at + 300_001] for at in range(0, len(LARGE), 300_001)]
    info = store.write("large", iter(chunks))
    assert info.size == len(LARGE)
    assert store.head("large") == info
    pieces = list(store.stream("large", 5, info.version))
    assert b"".join(pieces) == LARGE[5:]
    assert max(map(len, pieces)) <= CHUNK_BYTES


def test_a_large_object_is_created_once(store: ObjectStore) -> None:
    chunks = [LARGE[at : at + CHUNK_BYTES] for at in range(0, len(LARGE), CHUNK_BYTES)]
    info = store.write("large", chunks, create=True)
    assert store.head("large") == info
    with pytest.raises(Conflict) as caught:
        store.write("large", iter(chunks[::-1]), create=True)
    assert caught.value.code == "storage.exists"
    assert store.read("large") == LARGE
    assert [one.key for one in store.list()] == ["large"]


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("size", [10, CHUNK_BYTES])
def test_a_writer_that_breaks_off_leaves_what_was_there(store: ObjectStore, create: bool, size: int) -> None:
    def broken() -> Iterator[bytes]:
        for _ in range(12):
            yield bytes(size)
        raise RuntimeError("broken off")

    if not create:
        store.put("a", DATA)
    with pytest.raises(RuntimeError, match="broken off"):
        store.write("a", broken(), create=create)
    assert [one.key for one in store.list()] == ([] if create else ["a"])
    if not create:
        assert store.read("a") == DATA


def test_a_listing_is_in_the_order_of_the_keys(store: ObjectStore) -> None:
    keys = ["a-b", "a.b/c", "a/b", "a/c/d", "a/c0", "a0", "aa", "b/1", "b/10", "b/2", "B", "_", "-", "@x", "=x"]
    for key in keys:
        store.put(key, key.encode())
    assert [one.key for one in store.list()] == sorted(keys)
    assert [one.key for one in store.list("a")] == sorted(key for key in keys if key.startswith("a"))
    assert [one.key for one in store.list("a/")] == ["a/b", "a/c/d", "a/c0"]
    assert [one.key for one in store.list("a/c")] == ["a/c/d", "a/c0"]
    assert [one.key for one in store.list("b/1")] == ["b/1", "b/10"]
    assert [one.key for one in store.list("a/b")] == ["a/b"]
    assert not list(store.list("nothing")) + list(store.list("a//")) + list(store.list("a/b/"))
    assert next(iter(store.list("b/10"))) == store.head("b/10")


def test_a_prefix_that_no_key_can_have_is_refused(store: ObjectStore) -> None:
    with pytest.raises(BadInput) as caught:
        list(store.list("a b"))
    assert caught.value.code == "storage.key"


def test_what_is_deleted_while_a_listing_runs_does_not_break_it(store: ObjectStore) -> None:
    for number in range(20):
        store.put(f"d/{number:02}/x", b"1")
    listing = store.list("d/")
    first = next(listing)
    for number in range(1, 20):
        store.delete(f"d/{number:02}/x")
    assert {one.key for one in listing} <= {f"d/{number:02}/x" for number in range(1, 20)}
    assert [one.key for one in store.list("d/")] == [first.key]


def test_threads_share_a_store(store: ObjectStore) -> None:
    def turn(number: int) -> bool:
        key = f"t/{number}"
        store.put(key, DATA[number:])
        return store.read(key) == DATA[number:] and b"".join(store.stream(key, 1)) == DATA[number + 1 :]

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(turn, range(24)))
    assert len(list(store.list("t/"))) == 24
