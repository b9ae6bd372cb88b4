"""Promotion rules are numbered, signed, and believed only where they stand."""

from __future__ import annotations

import pytest

from aimass.privacy.model_trust import ListedTrust, signed
from aimass.proto.errors import Conflict, IntegrityError, Refused, Unauthenticated, WrongState
from aimass.proto.numbered import Numbered
from aimass.proto.objects import ObjectInfo
from aimass.proto.registry.layout import rules_prefix
from aimass.proto.registry.rules import MetricRule, PromotionRules, newest_rules
from aimass.proto.registry.trust import Kind
from aimass.server.registry.authors import Author
from aimass.server.registry.rule_writing import set_rules
from tests.support.objects import MemoryObjects
from tests.support.registries import key_of, trusting

RULES = PromotionRules(metrics=(MetricRule(name="auc", better="higher"),))
BELIEVED = ListedTrust(trusting("olga"))
OLGA = Author("olga", key_of("olga"))


def test_the_newest_rules_hold_and_say_who_signed_them() -> None:
    store = MemoryObjects()
    assert newest_rules(store, BELIEVED, "heart") is None
    set_rules(store, BELIEVED, OLGA, "heart", PromotionRules(), 1.0)
    set_rules(store, BELIEVED, OLGA, "heart", RULES, 2.0)
    held = newest_rules(store, BELIEVED, "heart")
    assert held is not None
    assert (held.said.rules, held.said.number, held.said.at, held.signer) == (RULES, 2, 2.0, "olga")
    assert newest_rules(store, BELIEVED, "lungs") is None


def test_rules_of_a_stranger_or_of_a_publisher_alone_are_not_believed() -> None:
    store = MemoryObjects()
    set_rules(store, BELIEVED, OLGA, "heart", RULES, 1.0)
    with pytest.raises(Unauthenticated, match="does not name"):
        newest_rules(store, ListedTrust(trusting("petra")), "heart")
    with pytest.raises(Refused, match="may not promote"):
        newest_rules(store, ListedTrust(trusting("olga", may=("publish",))), "heart")


def test_a_stray_last_number_is_named_with_what_to_do() -> None:
    store = MemoryObjects()
    store.put("heart/rules/99999999.json", b"junk")
    with pytest.raises(WrongState, match=r"heart/rules/99999999\.json.*delete this object"):
        set_rules(store, BELIEVED, OLGA, "heart", RULES, 1.0)


def test_rules_that_were_copied_to_another_place_are_refused() -> None:
    store = MemoryObjects()
    set_rules(store, BELIEVED, OLGA, "heart", PromotionRules(), 1.0)
    document = Numbered(store, rules_prefix("heart"))
    lungs = Numbered(store, rules_prefix("lungs"))
    lungs.commit(1, document.read(1))
    document.commit(2, document.read(1))
    for name in ("heart", "lungs"):
        with pytest.raises(IntegrityError, match="not those that their place says"):
            newest_rules(store, BELIEVED, name)


class _Overtaken(MemoryObjects):
    """Another sets rules just before."""

    def create(self, key: str, data: bytes | memoryview) -> ObjectInfo:
        super().put(key, signed(key_of("petra"), Kind.RULES, RULES))
        return super().create(key, data)


def test_of_two_who_set_rules_at_once_one_is_told() -> None:
    with pytest.raises(Conflict, match="meanwhile"):
        set_rules(_Overtaken(), BELIEVED, OLGA, "heart", RULES, 1.0)


def test_who_may_not_promote_sets_no_rules() -> None:
    store = MemoryObjects()
    publisher = ListedTrust(trusting("olga", may=("publish",)))
    with pytest.raises(Refused, match="may not promote"):
        set_rules(store, publisher, OLGA, "heart", RULES, 1.0)
    assert not store.held
