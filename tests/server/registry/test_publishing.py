"""Versions are published whole, once, and only by whom readers believe."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from aimass.privacy.model_trust import ListedTrust
from aimass.proto.errors import (
    BadInput,
    IntegrityError,
    LimitExceeded,
    Refused,
    Unauthenticated,
    Unavailable,
    WrongState,
)
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.registry.layout import parameters_key
from aimass.proto.values import canonical_json
from aimass.server.registry.parts import part_of
from aimass.server.registry.publishing import Publisher
from tests.support.objects import MemoryObjects
from tests.support.registries import author_of, publication_of, publishing, reading, tensors, trusting


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


def test_a_version_is_whole_with_its_reports_and_a_card(store: MemoryObjects, tmp_path: Path) -> None:
    smoke = SmokeInputs(columns={"age": (40.0,)}, expected=((0.5, 0.5),))
    data = canonical_json(smoke)
    plain = publication_of(tmp_path)
    version = msgspec.structs.replace(plain.version, smoke=part_of(data))
    found = publishing(store).publish(dataclasses.replace(plain, version=version, reports={part_of(data).digest: data}))
    reader = reading(store, "olga")
    assert (found.version.number, found.version.by, found.signer) == (1, "olga", "olga")
    assert reader.smoke(found.version) == smoke
    assert reader.parameters(found.version, tmp_path / "cache").read_bytes() == tensors()
    assert found.version.card.startswith("# heart, version 1\n")


def test_each_publication_gets_the_next_number(store: MemoryObjects, tmp_path: Path) -> None:
    numbers = [publishing(store).publish(publication_of(tmp_path, seed=seed)).version.number for seed in range(3)]
    assert numbers == [1, 2, 3]


def test_a_stray_last_number_is_named_with_what_to_do(store: MemoryObjects, tmp_path: Path) -> None:
    store.put("heart/versions/99999999.json", b"junk")
    with pytest.raises(WrongState, match=r"heart/versions/99999999\.json.*delete this object"):
        publishing(store).publish(publication_of(tmp_path))


def test_the_model_of_a_run_is_published_once(store: MemoryObjects, tmp_path: Path) -> None:
    first = publishing(store).publish(publication_of(tmp_path, run="a"))
    again = publishing(store, now=lambda: 9_000.0).publish(publication_of(tmp_path, run="a"))
    other = publishing(store).publish(publication_of(tmp_path, run="b"))
    assert (again.digest, other.version.number) == (first.digest, 2)


def test_of_many_who_publish_at_once_each_gets_a_number(store: MemoryObjects, tmp_path: Path) -> None:
    made = [publication_of(tmp_path, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: publishing(store).publish(one), made))
    assert sorted(one.version.number for one in found) == list(range(1, 9))
    for one, publication in zip(found, made, strict=True):
        assert one.version.parameters == publication.version.parameters


@pytest.mark.parametrize(
    ("trusted", "may", "kind"), [("petra", "publish", Unauthenticated), ("olga", "promote", Refused)]
)
def test_who_may_not_publish_is_told_before_anything_is_sent(
    store: MemoryObjects, tmp_path: Path, trusted: str, may: str, kind: type[Exception]
) -> None:
    trust = ListedTrust(trusting(trusted, may=[may]))  # type: ignore[list-item]
    with pytest.raises(kind):
        Publisher(store, trust, author_of("olga"), lambda: 0.0).publish(publication_of(tmp_path))
    assert not list(store.list())


def test_a_file_that_is_not_what_the_version_names_is_not_published(store: MemoryObjects, tmp_path: Path) -> None:
    publication = publication_of(tmp_path)
    publication.parameters.write_bytes(tensors(1))
    with pytest.raises(IntegrityError, match="not what the version says"):
        publishing(store).publish(publication)
    assert not list(store.list())


def test_a_file_that_is_no_safetensors_is_not_published(store: MemoryObjects, tmp_path: Path) -> None:
    publication = publication_of(tmp_path)
    publication.parameters.write_bytes(b"no pickle")
    part = part_of(b"no pickle")
    version = msgspec.structs.replace(publication.version, parameters=part)
    with pytest.raises((BadInput, LimitExceeded)):
        publishing(store).publish(dataclasses.replace(publication, version=version))
    assert not list(store.list())


def test_what_broke_off_before_the_commit_is_no_version_and_is_taken_up(store: MemoryObjects, tmp_path: Path) -> None:
    def fails_at_the_commit(verb: str, key: str) -> None:
        if verb == "write" and "/versions/" in key:
            raise Unavailable("the store is away", code="storage.unavailable")

    store.before = fails_at_the_commit
    with pytest.raises(Unavailable):
        publishing(store).publish(publication_of(tmp_path))
    assert reading(store, "olga").versions("heart") == ()
    store.before, store.asked = lambda verb, key: None, []
    found = publishing(store).publish(publication_of(tmp_path))
    assert found.version.number == 1
    key = parameters_key("heart", found.version.parameters.digest)
    assert ("write", key) not in store.asked


def test_damaged_parameters_are_made_good_by_publishing_again(store: MemoryObjects, tmp_path: Path) -> None:
    found = publishing(store).publish(publication_of(tmp_path, run="a"))
    store.put(parameters_key("heart", found.version.parameters.digest), b"x" * found.version.parameters.bytes)
    with pytest.raises(IntegrityError):
        reading(store, "olga").parameters(found.version, tmp_path / "cache")
    publishing(store).publish(publication_of(tmp_path, run="a"))
    assert reading(store, "olga").parameters(found.version, tmp_path / "cache").read_bytes() == tensors()
