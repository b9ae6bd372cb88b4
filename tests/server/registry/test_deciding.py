"""A version becomes champion where the rules allow it, and whoever promotes at the same time is reckoned with."""

from __future__ import annotations

import msgspec
import pytest

from aimass.privacy.model_trust import ListedTrust
from aimass.proto.errors import Conflict, NotFound, Refused, Unauthenticated
from aimass.proto.registry.entries import Interval, ModelVersion
from aimass.proto.registry.reader import Resolved
from aimass.proto.registry.rules import MetricRule, PromotionRules
from aimass.server.registry.aliases import Aliases
from aimass.server.registry.authors import Author
from aimass.server.registry.deciding import Decision, promoted
from aimass.server.registry.promotion import Smoked
from aimass.server.registry.rule_writing import set_rules
from tests.support.objects import MemoryObjects
from tests.support.registries import key_of, put_alias, put_version, reading, trusting, version_of

RULES = PromotionRules(metrics=(MetricRule(name="auc", better="higher"),))
TRUST = ListedTrust(trusting("olga", "petra"))
WELL = Smoked(worst=0.0, tolerance=1e-6, rows=1)


def with_auc(number: int, mean: float) -> ModelVersion:
    metrics = {"auc": Interval(mean=mean, rows=500.0, low=mean - 0.01, high=mean + 0.01)}
    return msgspec.structs.replace(version_of("heart", number), metrics=metrics)


def published(store: MemoryObjects, number: int, mean: float) -> Resolved:
    put_version(store, with_auc(number, mean))
    return reading(store, "olga").resolve(f"heart@{number}")


def promote(store: MemoryObjects, candidate: Resolved, smoked: Smoked = WELL, by: str = "olga") -> Decision:
    aliases = Aliases(store, TRUST, Author(by, key_of(by)), lambda: 5_000.0)
    return promoted(aliases, store, TRUST, candidate, smoked, 5_000.0)


@pytest.fixture
def store() -> MemoryObjects:
    store = MemoryObjects()
    set_rules(store, TRUST, Author("olga", key_of("olga")), "heart", RULES, 1.0)
    return store


def champion(store: MemoryObjects) -> Resolved:
    return reading(store, "olga", "petra").resolve("heart")


def test_the_first_version_and_then_each_better_one_is_promoted_with_its_reason(store: MemoryObjects) -> None:
    assert promote(store, published(store, 1, 0.80)).judgement.passed
    assert not promote(store, published(store, 2, 0.805)).judgement.passed
    assert promote(store, published(store, 3, 0.90)).judgement.passed
    assert [state.version for state in reading(store, "olga").history("heart", "champion")] == [1, 3]
    alias = champion(store).alias
    assert alias is not None
    assert alias.reason.startswith("promoted by rules 1 of heart, of olga: auc 0.9 against 0.8 of heart@1")


def test_the_champion_itself_is_left_where_it_is(store: MemoryObjects) -> None:
    first = published(store, 1, 0.80)
    promote(store, first)
    again = promote(store, first)
    assert (again.passed, again.before) == (False, 1)
    assert champion(store).seen == 1


def test_without_rules_nothing_is_promoted() -> None:
    store = MemoryObjects()
    with pytest.raises(NotFound, match="nobody has set promotion rules"):
        promote(store, published(store, 1, 0.99))
    with pytest.raises(NotFound, match="no such alias"):
        champion(store)


def test_who_is_overtaken_at_any_moment_decides_anew_against_the_new_champion() -> None:
    """Another version, better still, is promoted at each of the moments at which the store is asked, until the write."""
    undisturbed, good = two_versions()
    undisturbed.asked.clear()
    promote(undisturbed, good)
    moments = undisturbed.asked.index(("write", "heart/aliases/champion/00000001.json")) + 1
    assert moments > 5
    for moment in range(1, moments + 1):
        store, good = two_versions()
        best = reading(store, "olga").resolve("heart@1")
        left = iter(range(moment, 0, -1))

        def overtake(verb: str, key: str) -> None:
            if verb != "list" and next(left, 0) == 1:  # noqa: B023  (called before the next turn)
                put_alias(store, "heart", "champion", 1, 1, best.digest, "petra")  # noqa: B023

        store.before = overtake
        assert not promote(store, good).passed, moment
        assert (champion(store).version.number, champion(store).seen) == (1, 1)


def two_versions() -> tuple[MemoryObjects, Resolved]:
    """A registry with rules and two versions, the first the better; the second."""
    store = MemoryObjects()
    set_rules(store, TRUST, Author("olga", key_of("olga")), "heart", RULES, 1.0)
    published(store, 1, 0.95)
    return store, published(store, 2, 0.90)


def test_of_two_who_promote_without_end_nobody_loops_for_ever(store: MemoryObjects) -> None:
    one, other = published(store, 1, 0.5), published(store, 2, 0.9)

    def overtake(verb: str, key: str) -> None:
        if verb == "write" and "champion" in key:
            number = int(key[-13:-5])
            store.before = lambda verb, key: None
            put_alias(store, "heart", "champion", number, 1, one.digest, "petra")
            store.before = overtake

    store.before = overtake
    with pytest.raises(Conflict, match="meanwhile"):
        promote(store, other)
    assert champion(store).seen == 10


def test_a_champion_that_is_not_believed_stops_everything(store: MemoryObjects) -> None:
    first = published(store, 1, 0.80)
    put_alias(store, "heart", "champion", 1, 1, first.digest, "mallory")
    with pytest.raises(Unauthenticated, match="does not name"):
        promote(store, published(store, 2, 0.99))


def test_who_may_not_promote_is_told_before_anything_is_written(store: MemoryObjects) -> None:
    first = published(store, 1, 0.80)
    both = (*trusting("olga").signers, *trusting("petra", may=("publish",)).signers)
    trust = ListedTrust(msgspec.structs.replace(trusting(), signers=both))
    aliases = Aliases(store, trust, Author("petra", key_of("petra")), lambda: 5_000.0)
    with pytest.raises(Refused, match="petra may not promote"):
        promoted(aliases, store, trust, first, WELL, 5_000.0)
    assert not [key for key in store.held if "/aliases/" in key]
