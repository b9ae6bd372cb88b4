"""What a reader of the registry returns is verified to the end."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aimass.proto.errors import BadInput, NotFound
from aimass.proto.registry.entries import Interval
from aimass.proto.registry.layout import Reference, read_reference
from tests.support.objects import MemoryObjects
from tests.support.registries import PARAMETERS, put_alias, put_version, reading, version_of


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


def test_a_version_is_read_as_it_was_published(store: MemoryObjects, tmp_path: Path) -> None:
    digest = put_version(store, version_of("heart", 1))
    found = reading(store, "olga").resolve("heart@1")
    assert (found.version, found.digest, found.signer, found.alias) == (version_of("heart", 1), digest, "olga", None)
    assert reading(store, "olga").parameters(found.version, tmp_path).read_bytes() == PARAMETERS
    assert (reading(store, "olga").names(), reading(store, "olga").versions("heart")) == (("heart",), (1,))


def test_a_name_alone_is_its_champion(store: MemoryObjects) -> None:
    digest = put_version(store, version_of("heart", 1))
    reader = reading(store, "olga", "petra")
    with pytest.raises(NotFound, match="no such alias"):
        reader.resolve("heart")
    put_alias(store, "heart", "champion", 1, 1, digest, "petra")
    found = reader.resolve("heart")
    assert (found.version.number, found.seen, found.promoter) == (1, 1, "petra")
    assert reader.aliases("heart") == ("champion",)


def test_the_highest_number_of_an_alias_wins_and_is_seen_by_one_request(store: MemoryObjects) -> None:
    digests = {n: put_version(store, version_of("heart", n)) for n in (1, 2)}
    put_alias(store, "heart", "champion", 1, 1, digests[1], "olga")
    reader = reading(store, "olga")
    assert reader.newer("heart", 1) is None
    put_alias(store, "heart", "champion", 2, 2, digests[2], "olga")
    put_alias(store, "heart", "champion", 3, 1, digests[1], "olga")
    found = reader.newer("heart", 1)
    assert found is not None
    assert (found.version.number, found.seen) == (1, 3)
    assert [alias.version for alias in reader.history("heart", "champion")] == [1, 2, 1]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("heart", Reference("heart", alias="champion")),
        ("heart@candidate", Reference("heart", alias="candidate")),
        ("heart@4", Reference("heart", number=4)),
    ],
)
def test_a_reference_is_read(text: str, meant: Reference) -> None:
    assert read_reference(text) == meant


@pytest.mark.parametrize("text", ["", "@", "heart@", "heart@0", "heart@04", "heart@4@5", "Heart", "heart@-", "a/b@1"])
def test_what_names_no_version_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="names no version"):
        read_reference(text)


def test_whole_numbers_among_fractions_are_read_as_they_were_signed(store: MemoryObjects) -> None:
    whole = msgspec.structs.replace(version_of("heart", 1), created_at=7, metrics={"auc": Interval(mean=1, rows=40)})
    put_version(store, whole)
    assert reading(store, "olga").resolve("heart@1").version == whole
