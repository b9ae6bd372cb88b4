"""What nobody can need any more is deleted in two phases; documents never are."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.privacy.model_trust import ListedTrust
from aimass.proto.errors import Conflict, IntegrityError, NotFound, Unauthenticated, WrongState
from aimass.proto.registry.entries import Alias, Parent
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.server.keeping import Hold
from aimass.server.registry.collecting import Collected, collect, kept_numbers
from tests.server.registry.test_aliases import states
from tests.support.objects import MemoryObjects
from tests.support.registries import promoting, publication_of, publishing, reading, tensors, trusting, version_of

SIZE = len(tensors())


@pytest.fixture
def store(tmp_path: Path) -> MemoryObjects:
    """Five versions, of which the second is the champion."""
    store = MemoryObjects()
    found = [publishing(store).publish(publication_of(tmp_path, seed=seed)) for seed in range(5)]
    promoting(store, "petra", "olga").point("champion", found[1], "good")
    return store


def gc(store: MemoryObjects, at: float, keep: int = 1) -> Collected:
    return collect(store, reading(store, "olga", "petra"), "heart", lambda: at, 100.0, keep)


def test_what_stays_is_named_or_new_or_their_parent(store: MemoryObjects, tmp_path: Path) -> None:
    reader = reading(store, "olga", "petra")
    assert gc(store, 0.0) == Collected(deleted=0, bytes=0, waiting=3)
    assert gc(store, 99.0) == Collected(deleted=0, bytes=0, waiting=3)
    assert gc(store, 101.0) == Collected(deleted=3, bytes=3 * SIZE, waiting=0)
    assert reader.versions("heart") == (1, 2, 3, 4, 5)
    for number, kept in ((1, False), (2, True), (3, False), (4, False), (5, True)):
        version = reader.resolve(f"heart@{number}").version
        if kept:
            assert reader.parameters(version, tmp_path / "cache").is_file()
        else:
            with pytest.raises(NotFound, match="not kept any more"):
                reader.parameters(version, tmp_path / "cache")


def test_what_is_named_again_within_the_grace_stays(store: MemoryObjects, tmp_path: Path) -> None:
    gc(store, 0.0)
    reader = reading(store, "olga", "petra")
    promoting(store, "petra", "olga").point("candidate", reader.resolve("heart@3"), "again")
    assert gc(store, 200.0).deleted == 2
    assert reader.parameters(reader.resolve("heart@3").version, tmp_path / "cache").is_file()


def test_nothing_is_deleted_while_a_version_is_published(store: MemoryObjects) -> None:
    gc(store, 0.0)
    Hold(store, "heart", "another", lambda: 150.0)
    with pytest.raises(WrongState) as told:
        gc(store, 200.0)
    assert told.value.code == "keeping.held"


def test_what_is_promoted_while_it_would_be_deleted_is_kept_or_the_promoter_is_told(
    store: MemoryObjects, tmp_path: Path
) -> None:
    gc(store, 0.0)
    reader = reading(store, "olga", "petra")
    third, told = reader.resolve("heart@3"), []

    def promotes(verb: str, key: str) -> None:
        """At each call of the collector somebody promotes what it may be about to delete."""
        store.before = lambda verb, key: None
        try:
            promoting(store, "petra", "olga", at=200.0).point("champion", third, "in between")
            told.append("promoted")
        except (WrongState, NotFound, Conflict) as error:
            told.append(error.code)

    for call in range(60):
        held = dict(store.held)
        calls = iter(range(call))
        store.before = lambda verb, key, calls=calls: None if next(calls, None) is not None else promotes(verb, key)  # type: ignore[misc]
        try:
            gc(store, 200.0)
        except WrongState as error:
            told.append(error.code)
        store.before = lambda verb, key: None
        champion = reader.resolve("heart")
        assert reader.parameters(champion.version, tmp_path / f"cache{call}").is_file()
        store.held = held
    assert {"promoted", "keeping.sweeping"} <= set(told)


def test_what_is_collected_cannot_be_promoted(store: MemoryObjects) -> None:
    gc(store, 0.0)
    gc(store, 200.0)
    third = reading(store, "olga", "petra").resolve("heart@3")
    with pytest.raises(NotFound) as told:
        promoting(store, "petra", "olga").point("champion", third, "too late")
    assert told.value.code == "registry.collected"


def test_nothing_is_deleted_where_a_version_or_an_alias_is_not_believed(store: MemoryObjects) -> None:
    gc(store, 0.0)
    for believed in ("olga", "petra"):
        reader = RegistryReader(store, ListedTrust(trusting(believed)))
        with pytest.raises((IntegrityError, Unauthenticated)):
            collect(store, reader, "heart", lambda: 200.0, 100.0)
    assert gc(store, 200.0).deleted == 3


def test_a_version_that_is_not_believed_is_named(store: MemoryObjects) -> None:
    with pytest.raises(IntegrityError, match="heart@5"):
        collect(store, reading(store, "petra"), "heart", lambda: 0.0, 100.0)


def resolved(number: int, parent: int) -> Resolved:
    version = version_of("heart", number)
    if 0 < parent < number:
        version = msgspec.structs.replace(version, parent=Parent(number=parent, digest="0" * 64))
    return Resolved(version, "0" * 64, "olga")


@given(st.lists(st.integers(0, 12), max_size=12), st.lists(st.integers(1, 12), max_size=20), st.integers(0, 4))
def test_the_newest_the_named_and_their_parents_always_stay(parents: list[int], moves: list[int], keep: int) -> None:
    versions = [resolved(number, parent) for number, parent in enumerate(parents, 1)]
    history: list[Alias] = states(moves)
    kept = kept_numbers(versions, [history], keep)
    assert set(moves[-1:]) <= kept
    assert {found.version.number for found in versions[len(versions) - min(keep, len(versions)) :]} <= kept
    for found in versions:
        if found.version.number in set(moves[-1:]) and found.version.parent is not None:
            assert found.version.parent.number in kept
