"""What each promotion rule says of a candidate, and by which figures."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.proto.registry.entries import Contributors, HeldOut, Interval, ModelVersion, Spent
from aimass.proto.registry.rules import MetricRule, PromotionRules, read_rules
from aimass.server.registry.promotion import Judgement, Smoked, gain, judge, least_gain
from tests.support.registries import version_of

NOW = 1_000_000.0
DAY = 86_400.0
WELL = Smoked(worst=1e-7, tolerance=1e-6, rows=8)
AUC = MetricRule(name="auc", better="higher")
LOSS = MetricRule(name="loss", better="lower")


def of(number: int, mean: float = 0.9, half: float | None = 0.01, **fields: Any) -> ModelVersion:
    """A version whose AUC has this mean and half width."""
    ends = {} if half is None else {"low": mean - half, "high": mean + half}
    metrics = {"auc": Interval(mean=mean, rows=500.0, **ends)}
    version = msgspec.structs.replace(version_of("heart", number), metrics=metrics, created_at=NOW - DAY)
    return msgspec.structs.replace(version, **fields)


def judged(
    rules: PromotionRules, candidate: ModelVersion, champion: ModelVersion | None = None, smoked: Smoked = WELL
) -> Judgement:
    return judge(rules, candidate, champion, smoked, NOW)


def broken(judgement: Judgement) -> list[str]:
    return [verdict.rule for verdict in judgement.verdicts if not verdict.passed]


def test_a_metric_is_better_only_where_its_whole_interval_is() -> None:
    rules = PromotionRules(metrics=(AUC,))
    clearly = judged(rules, of(2, 0.93), of(1, 0.90))
    assert clearly.passed
    assert clearly.verdicts[0].figures == pytest.approx(
        {"new": 0.93, "old": 0.90, "gain": 0.03, "by": 0.0, "least_gain": 0.03 - math.hypot(0.01, 0.01)}
    )
    barely = judged(rules, of(2, 0.91), of(1, 0.90))
    assert broken(barely) == ["metric auc"]
    assert "better by 0.01, with 95 % confidence by -0.004142 or more, asked for more than 0" in barely.said


def test_by_asks_for_more_or_for_no_worse() -> None:
    more = PromotionRules(metrics=(msgspec.structs.replace(AUC, by=0.05),))
    no_worse = PromotionRules(metrics=(msgspec.structs.replace(AUC, by=-0.05),))
    assert not judged(more, of(2, 0.93), of(1, 0.90)).passed
    assert judged(no_worse, of(2, 0.89), of(1, 0.90)).passed
    assert not judged(no_worse, of(2, 0.84), of(1, 0.90)).passed


def test_a_metric_of_unknown_spread_decides_by_its_mean_where_the_rule_says_so() -> None:
    by_mean = PromotionRules(metrics=(msgspec.structs.replace(AUC, compare="mean"),))
    assert judged(by_mean, of(2, 0.901, None), of(1, 0.90, None)).passed
    assert not judged(by_mean, of(2, 0.90, None), of(1, 0.90, None)).passed
    unsure = judged(PromotionRules(metrics=(AUC,)), of(2, 0.99, None), of(1, 0.90))
    assert broken(unsure) == ["metric auc"]
    assert 'compare = "mean"' in unsure.said


def test_a_bound_holds_for_the_first_version_too() -> None:
    rules = PromotionRules(metrics=(msgspec.structs.replace(AUC, bound=0.8),))
    assert judged(rules, of(1, 0.8)).passed
    assert broken(judged(rules, of(1, 0.79))) == ["metric auc, bound"]
    low = PromotionRules(metrics=(MetricRule(name="auc", better="lower", bound=0.8),))
    assert broken(judged(low, of(1, 0.81))) == ["metric auc, bound"]


@pytest.mark.parametrize("mean", [math.nan, math.inf])
def test_a_metric_that_is_absent_or_no_number_promotes_nothing(mean: float) -> None:
    rules = PromotionRules(metrics=(AUC,))
    assert broken(judged(rules, of(2, metrics={}), of(1))) == ["metric auc"]
    assert broken(judged(rules, of(2), of(1, metrics={}))) == ["metric auc"]
    assert broken(judged(rules, of(2, mean))) == ["metric auc"]
    assert "(there are auc)" in judged(PromotionRules(metrics=(LOSS,)), of(2)).said


def test_privacy_has_to_be_stated_and_within_its_limits() -> None:
    rules = PromotionRules(most_epsilon=4.0, most_delta=1e-5, unit="row")
    told = of(2, privacy=Spent(epsilon=3.9, delta=1e-5, unit="row", accountant="pld"))
    assert judged(rules, told).passed
    dear = of(2, privacy=Spent(epsilon=4.1, delta=1e-4, unit="row", accountant="pld"))
    assert broken(judged(rules, dear)) == ["most_epsilon", "most_delta"]
    silent = judged(rules, of(2, privacy=Spent(reason="trained without noise")))
    assert broken(silent) == ["most_epsilon", "most_delta", "unit"]
    assert "trained without noise" in silent.said
    coarse = of(2, privacy=Spent(epsilon=1.0, delta=1e-6, unit="partner", accountant="pld"))
    assert broken(judged(rules, coarse)) == ["unit"]


def test_an_old_version_and_one_of_the_future_are_not_promoted() -> None:
    rules = PromotionRules(most_age_days=7.0)
    assert judged(rules, of(2, created_at=NOW - 7 * DAY)).passed
    assert broken(judged(rules, of(2, created_at=NOW - 7.1 * DAY))) == ["most_age_days"]
    assert judged(rules, of(2, created_at=NOW + 200)).passed
    ahead = judged(rules, of(2, created_at=NOW + 2 * DAY))
    assert broken(ahead) == ["most_age_days"]
    assert "2.0 days in the future" in ahead.said


def test_metrics_of_too_few_rows_promote_nothing() -> None:
    rules = PromotionRules(metrics=(AUC,), least_rows=501)
    verdicts = judged(rules, of(2))
    assert broken(verdicts) == ["least_rows"]
    assert "auc was measured on 500 held-out rows, asked for at least 501" in verdicts.said
    assert judged(PromotionRules(metrics=(AUC,), least_rows=500), of(2)).passed
    assert broken(judged(PromotionRules(least_rows=1), of(2, metrics={}))) == ["least_rows"]
    assert broken(judged(rules, of(2, metrics={}))) == ["metric auc"], "what was not measured is told once"


def test_the_fewest_contributors_of_any_round_count() -> None:
    rules = PromotionRules(least_members=3)
    assert judged(rules, of(2, contributors=Contributors(kind="partners", members=9, fewest=3))).passed
    few = of(2, contributors=Contributors(kind="partners", members=9, fewest=2))
    assert broken(judged(rules, few)) == ["least_members"]
    assert broken(judged(rules, of(2))) == ["least_members"]


def test_smoke_inputs_have_to_be_tried_and_answered() -> None:
    rules = PromotionRules()
    assert judged(rules, of(2), of(1), Smoked(worst=1e-6, tolerance=1e-6, rows=1)).passed
    assert broken(judged(rules, of(2), of(1), Smoked(worst=2e-6, tolerance=1e-6, rows=1))) == ["smoke"]
    assert broken(judged(rules, of(2), of(1), Smoked(worst=math.nan, tolerance=1e-6, rows=1))) == ["smoke"]
    untried = judged(rules, of(2), of(1), Smoked(reason="the task is not installed here"))
    assert broken(untried) == ["smoke"]
    assert "not installed here" in untried.said
    assert judged(PromotionRules(smoke=False), of(2), of(1), Smoked(reason="not asked for")).passed


def test_another_schema_or_other_rows_cannot_be_compared() -> None:
    rules = PromotionRules(same_held_out=True)
    rows = HeldOut(digest="1" * 64)
    assert judged(rules, of(2, held_out=rows), of(1, held_out=rows)).passed
    assert broken(judged(rules, of(2, held_out=HeldOut(digest="2" * 64)), of(1, held_out=rows))) == ["same_held_out"]
    unknown = judged(rules, of(2), of(1))
    assert broken(unknown) == ["same_held_out"]
    assert "the partners' own rows" in unknown.said
    assert broken(judged(PromotionRules(), of(2, schema=None), of(1))) == ["same_schema"]


def test_a_judgement_says_what_decided() -> None:
    rules = PromotionRules(metrics=(AUC,), least_members=3)
    assert judged(rules, of(2, 0.93), of(1)).said == (
        "at least 3 contributors are asked for, and nobody says how many there were"
    )
    assert judged(PromotionRules(smoke=False, same_schema=False), of(2)).said == "the rules ask for nothing"


means = st.floats(min_value=0.0, max_value=1.0)
halves = st.floats(min_value=0.0, max_value=0.2)


@given(new=means, old=means, wide=halves, narrow=halves)
def test_lower_is_better_is_the_mirror_of_higher_is_better(new: float, old: float, wide: float, narrow: float) -> None:
    one, other = (
        Interval(mean=mean, rows=10, low=mean - half, high=mean + 2 * half)
        for mean, half in ((new, wide), (old, narrow))
    )
    mirrored = [Interval(mean=-i.mean, rows=10, low=-(i.high or 0.0), high=-(i.low or 0.0)) for i in (one, other)]
    assert least_gain(AUC, one, other) == pytest.approx(least_gain(LOSS, mirrored[0], mirrored[1]), abs=1e-12)
    assert (least_gain(AUC, one, other) or 0.0) <= gain(AUC, one, other) + 1e-12


@given(new=means, old=means, half=halves, more=halves)
def test_a_less_certain_figure_is_never_promoted_sooner(new: float, old: float, half: float, more: float) -> None:
    rules = PromotionRules(metrics=(AUC,))
    if judged(rules, of(2, new, half + more), of(1, old, half)).passed:
        assert judged(rules, of(2, new, half), of(1, old, half)).passed


def test_rules_are_read_strictly() -> None:
    text = 'least_members = 3\n[[metrics]]\nname = "auc"\nbetter = "higher"\nby = 0.01\n'
    assert read_rules(text, "rules.toml") == PromotionRules(
        least_members=3, metrics=(MetricRule(name="auc", better="higher", by=0.01),)
    )
    twice = text + text.partition("\n")[2]
    for wrong in ("epsilon = 3", "most_age_days = 0", twice, '[[metrics]]\nname = "auc"'):
        with pytest.raises(BadInput, match=r"rules\.toml"):
            read_rules(wrong, "rules.toml")
