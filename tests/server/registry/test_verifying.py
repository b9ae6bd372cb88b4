"""Everything that a reader would refuse is found by looking."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.privacy.model_trust import ListedTrust
from aimass.proto.errors import NotFound
from aimass.proto.numbered import Numbered
from aimass.proto.registry.layout import alias_prefix, parameters_key, versions_prefix
from aimass.proto.registry.rules import PromotionRules
from aimass.server.registry.rule_writing import set_rules
from aimass.server.registry.verifying import verified
from tests.support.objects import MemoryObjects
from tests.support.registries import author_of, promoting, publication_of, publishing, reading, trusting

BOTH = ListedTrust(trusting("olga", "petra"))


@pytest.fixture
def store(tmp_path: Path) -> MemoryObjects:
    """Two versions, the second of which is the champion."""
    store = MemoryObjects()
    found = [publishing(store).publish(publication_of(tmp_path, seed=seed)) for seed in (1, 2)]
    promoting(store, "petra", "olga").point("champion", found[1], "good")
    return store


def told(store: MemoryObjects, number: int = 0) -> list[tuple[str, str, bool]]:
    findings = verified(store, BOTH, "heart", number)
    return [(one.of, one.code, one.collected) for one in findings]


def key_of(store: MemoryObjects, number: int) -> str:
    return parameters_key("heart", reading(store, "olga").resolve(f"heart@{number}").version.parameters.digest)


def test_of_what_is_whole_nothing_is_told(store: MemoryObjects) -> None:
    assert told(store) == told(store, 1) == []


def test_other_bytes_are_told(store: MemoryObjects) -> None:
    store.put(key_of(store, 1), b"other")
    assert told(store) == told(store, 1) == [("heart@1", "registry.parts", False)]
    assert told(store, 2) == []


def test_what_is_gone_is_a_fault_where_an_alias_needs_it(store: MemoryObjects) -> None:
    for number in (1, 2):
        store.delete(key_of(store, number))
    assert told(store) == [("heart@2", "storage.unknown", False), ("heart@1", "storage.unknown", True)]


def test_a_document_that_is_not_believed_is_told(store: MemoryObjects) -> None:
    key = Numbered(store, versions_prefix("heart")).key(2)
    store.put(key, store.read(key).replace(b'"by":"olga"', b'"by":"eve"'))
    assert told(store) == [
        ("heart@2", "signature.model_version", False),
        ("heart@champion", "signature.model_version", False),
    ]


def test_an_alias_that_is_not_believed_is_told(store: MemoryObjects) -> None:
    key = Numbered(store, alias_prefix("heart", "champion")).key(1)
    store.put(key, b"{}")
    assert told(store) == [("heart@champion", "value.invalid", False)]


def test_a_model_that_is_not_there_is_told(store: MemoryObjects) -> None:
    with pytest.raises(NotFound) as error:
        verified(store, BOTH, "lung")
    assert error.value.code == "registry.no_version"


def test_rules_that_are_not_believed_are_told(store: MemoryObjects) -> None:
    set_rules(store, BOTH, author_of("petra"), "heart", PromotionRules(), 0.0)
    assert told(store) == []
    set_rules(store, ListedTrust(trusting("eve", "petra")), author_of("eve"), "heart", PromotionRules(), 0.0)
    assert told(store) == [("heart, rules", "registry.unknown_signer", False)]
