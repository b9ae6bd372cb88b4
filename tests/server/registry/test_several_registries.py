"""One key signs for several registries: what it said of one does not count in another that is told apart from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from aimass.privacy.model_trust import FileTrust, ListedTrust
from aimass.proto.errors import BadInput, IntegrityError
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectStore
from aimass.proto.registry.layout import alias_prefix, rules_prefix
from aimass.proto.registry.reader import RegistryReader
from aimass.proto.registry.rules import PromotionRules, newest_rules
from aimass.proto.registry.trust import TrustFile
from aimass.server.registry.aliases import Aliases
from aimass.server.registry.rule_writing import set_rules
from aimass.server.registry.trusting import with_registry, write_trust
from tests.support.objects import MemoryObjects
from tests.support.registries import author_of, put_version, trusting, version_of


def trust_of(registry: str) -> ListedTrust:
    return ListedTrust(trusting("olga", registry=registry))


def promoted(store: ObjectStore, trust: ListedTrust, number: int) -> None:
    found = RegistryReader(store, trust).resolve(f"heart@{number}")
    Aliases(store, trust, author_of("olga"), lambda: 2_000.0).point("champion", found, "better")


@pytest.fixture
def staging() -> MemoryObjects:
    store = MemoryObjects()
    for number in (1, 2):
        put_version(store, version_of("heart", number))
    return store


@pytest.fixture
def prod(staging: MemoryObjects) -> MemoryObjects:
    """With the same versions, of which the first is promoted."""
    store = MemoryObjects()
    for info in staging.list():
        store.put(info.key, b"".join(staging.stream(info.key)))
    promoted(store, trust_of("prod"), 1)
    return store


def copy_of_the_second_state(staging: MemoryObjects, prod: MemoryObjects, trust: ListedTrust) -> None:
    promoted(staging, trust, 1)
    promoted(staging, trust, 2)
    key = Numbered(staging, alias_prefix("heart", "champion")).key(2)
    prod.put(key, b"".join(staging.stream(key)))


@pytest.mark.parametrize("signed_for", ["staging", ""])
def test_a_promotion_that_was_copied_from_another_registry_does_not_count(
    staging: MemoryObjects, prod: MemoryObjects, signed_for: str
) -> None:
    copy_of_the_second_state(staging, prod, trust_of(signed_for))
    reader = RegistryReader(prod, trust_of("prod"))
    reads: tuple[Callable[[], object], ...] = (
        lambda: reader.resolve("heart"),
        lambda: reader.newer("heart", 1),
    )
    for read in reads:
        with pytest.raises(IntegrityError, match="meant for another registry") as caught:
            read()
        assert caught.value.code == "registry.other_registry"
    assert [state.version for state in reader.history("heart", "champion")] == [1]
    promoted(prod, trust_of("prod"), 1)
    assert str(reader.resolve("heart")) == "heart@1", "who promotes again goes on from there"


def test_a_reader_that_names_no_registry_takes_any(staging: MemoryObjects, prod: MemoryObjects) -> None:
    copy_of_the_second_state(staging, prod, trust_of("staging"))
    assert str(RegistryReader(prod, trust_of("")).resolve("heart")) == "heart@2"


def test_neither_do_rules(staging: MemoryObjects, prod: MemoryObjects) -> None:
    lax = PromotionRules(smoke=False)
    set_rules(staging, trust_of("staging"), author_of("olga"), "heart", lax, 0.0)
    assert newest_rules(staging, trust_of("staging"), "heart") is not None
    key = Numbered(staging, rules_prefix("heart")).key(1)
    prod.put(key, b"".join(staging.stream(key)))
    with pytest.raises(IntegrityError, match="meant for another registry"):
        newest_rules(prod, trust_of("prod"), "heart")


def test_a_trust_file_that_is_given_a_name_is_read_again(tmp_path: Path, prod: MemoryObjects) -> None:
    path = tmp_path / "trust.json"
    write_trust(path, trusting("olga"))
    reader = RegistryReader(prod, FileTrust(path))
    assert str(reader.resolve("heart")) == "heart@1"
    write_trust(path, with_registry(trusting("olga"), "staging"))
    with pytest.raises(IntegrityError, match="meant for another registry"):
        reader.resolve("heart")
    with pytest.raises(BadInput):
        with_registry(TrustFile(), "No name")


def test_trust_files_of_before_name_none() -> None:
    fields = msgspec.to_builtins(trusting("olga"))
    del fields["registry"]
    assert msgspec.convert(fields, TrustFile) == trusting("olga")
