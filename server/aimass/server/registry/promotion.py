"""Whether a version may take a champion's place: each promotion rule's verdict, with its figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from aimass.proto.registry.entries import Interval, ModelVersion
from aimass.proto.registry.rules import MetricRule, PromotionRules
from aimass.proto.values import Value

__all__ = ["Judgement", "Smoked", "Verdict", "gain", "judge", "least_gain"]

_DAY_S: Final = 86_400.0
_CLOCKS_DIFFER_S: Final = 300.0
"""So far clocks of two machines may differ before a version counts as dated in the future."""


class Smoked(Value, frozen=True):
    """What became of the smoke inputs: the worst difference from what was expected, or why there is none."""

    worst: float | None = None
    tolerance: float = 0.0
    rows: int = 0
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether it answered every row as expected."""
        return self.worst is not None and self.worst <= self.tolerance


class Verdict(Value, frozen=True):
    """One rule: whether it holds, and a sentence that says why; `figures` are what it was decided by."""

    rule: str
    passed: bool
    said: str
    figures: dict[str, float] = {}


class Judgement(Value, frozen=True):
    """All verdicts on a `candidate` that would follow `champion`, which is empty where there is none."""

    candidate: str
    champion: str
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def said(self) -> str:
        """What decides, as one line: the rules that do not hold, or all that do."""
        chosen = [verdict for verdict in self.verdicts if verdict.passed == self.passed]
        return "; ".join(verdict.said for verdict in chosen) or "the rules ask for nothing"


def judge(
    rules: PromotionRules, candidate: ModelVersion, champion: ModelVersion | None, smoked: Smoked, now: float
) -> Judgement:
    """The verdict of each rule, in the order of the file; `smoked` is read where the rules ask for it."""
    verdicts = (
        *(verdict for rule in rules.metrics for verdict in _metric(rule, candidate, champion)),
        *_rows(rules, candidate),
        *_comparable(rules, candidate, champion),
        *_privacy(rules, candidate),
        *_age(rules, candidate, now),
        *_members(rules, candidate),
        *((_smoke(smoked),) if rules.smoke else ()),
    )
    return Judgement(candidate=_named(candidate), champion=_named(champion), verdicts=verdicts)


def gain(rule: MetricRule, new: Interval, old: Interval) -> float:
    """By how much the new mean is better."""
    return new.mean - old.mean if rule.better == "higher" else old.mean - new.mean


def least_gain(rule: MetricRule, new: Interval, old: Interval) -> float | None:
    """The lower end of the 95 % interval of `gain`; None where one of the two has no interval.

    From the two intervals, by squares of their distances from the means: Newcombe 1998 (Statistics in Medicine 17,
    873-890), method 10; for any two estimates Zou and Donner 2008. It takes them as independent: on the same rows their
    errors go together, and the true interval is narrower.
    """
    if new.low is None or new.high is None or old.low is None or old.high is None:
        return None
    if rule.better == "higher":
        return gain(rule, new, old) - math.hypot(new.mean - new.low, old.high - old.mean)
    return gain(rule, new, old) - math.hypot(new.high - new.mean, old.mean - old.low)


def _metric(rule: MetricRule, candidate: ModelVersion, champion: ModelVersion | None) -> Iterator[Verdict]:
    name = f"metric {rule.name}"
    new = candidate.metrics.get(rule.name)
    if new is None or not math.isfinite(new.mean):
        yield Verdict(rule=name, passed=False, said=f"{rule.name} was not measured{_those(candidate.metrics)}")
        return
    if rule.bound is not None:
        yield _bound(name, rule, rule.bound, new)
    if champion is None:
        yield Verdict(
            rule=name,
            passed=True,
            said=f"{rule.name} is {new.mean:.4g}, and there is no champion to be better than",
            figures={"new": new.mean},
        )
    elif (old := champion.metrics.get(rule.name)) is None:
        told = (
            f"{rule.name} of {_named(champion)} was not measured{_those(champion.metrics)}: nothing to be better than"
        )
        yield Verdict(rule=name, passed=False, said=told, figures={"new": new.mean})
    else:
        yield _better(name, rule, new, old, _named(champion))


def _bound(name: str, rule: MetricRule, bound: float, new: Interval) -> Verdict:
    reached = new.mean >= bound if rule.better == "higher" else new.mean <= bound
    word = "at least" if rule.better == "higher" else "at most"
    return Verdict(
        rule=f"{name}, bound",
        passed=reached,
        said=f"{rule.name} is {new.mean:.4g}, asked for {word} {bound:g}",
        figures={"new": new.mean, "bound": bound},
    )


def _better(name: str, rule: MetricRule, new: Interval, old: Interval, champion: str) -> Verdict:
    better = gain(rule, new, old)
    told = f"{rule.name} {new.mean:.4g} against {old.mean:.4g} of {champion}: better by {better:.4g}"
    figures = {"new": new.mean, "old": old.mean, "gain": better, "by": rule.by}
    if rule.compare == "mean":
        said = f"{told}, asked for more than {rule.by:g}"
        return Verdict(rule=name, passed=better > rule.by, said=said, figures=figures)
    least = least_gain(rule, new, old)
    if least is None:
        said = f'{told}, and nobody knows how surely: its interval is not known. The rule may say compare = "mean"'
        return Verdict(rule=name, passed=False, said=said, figures=figures)
    said = f"{told}, with 95 % confidence by {least:.4g} or more, asked for more than {rule.by:g}"
    return Verdict(rule=name, passed=least > rule.by, said=said, figures=figures | {"least_gain": least})


def _rows(rules: PromotionRules, candidate: ModelVersion) -> Iterator[Verdict]:
    """Whether the metrics that decide were measured on rows enough; those that were not measured fail by themselves."""
    found = {rule.name: candidate.metrics[rule.name].rows for rule in rules.metrics if rule.name in candidate.metrics}
    if not rules.least_rows or (rules.metrics and not found):
        return
    found = found or {name: metric.rows for name, metric in candidate.metrics.items()}
    name = min(found, key=lambda metric: found[metric], default="")
    rows, least = found.get(name, 0.0), rules.least_rows
    said = f"{name or 'nothing'} was measured on {rows:.0f} held-out rows, asked for at least {least}"
    figures = {"rows": rows, "least": float(least)}
    yield Verdict(rule="least_rows", passed=rows >= least, said=said, figures=figures)


def _comparable(rules: PromotionRules, candidate: ModelVersion, champion: ModelVersion | None) -> Iterator[Verdict]:
    """Whether it answers the same questions, and was measured on the same rows."""
    if champion is None:
        return
    if rules.same_schema:
        same = candidate.schema == champion.schema
        said = f"{'the schema' if same else 'another schema than that'} of {_named(champion)}"
        yield Verdict(rule="same_schema", passed=same, said=said)
    if rules.same_held_out:
        rows, before = candidate.held_out, champion.held_out
        same = rows.digest is not None and rows.digest == before.digest
        unknown = rows.reason if rows.digest is None else before.reason if before.digest is None else ""
        said = "measured on the same rows" if same else f"not measured on the rows that {_named(champion)} was"
        yield Verdict(rule="same_held_out", passed=same, said=f"{said}: {unknown}" if unknown else said)


def _privacy(rules: PromotionRules, candidate: ModelVersion) -> Iterator[Verdict]:
    spent = candidate.privacy
    for name, found, most in (
        ("epsilon", spent.epsilon, rules.most_epsilon),
        ("delta", spent.delta, rules.most_delta),
    ):
        if most is None:
            continue
        if found is None:
            told = f"{name} at most {most:g} is asked for, and none is stated: {spent.reason or 'no reason is given'}"
            yield Verdict(rule=f"most_{name}", passed=False, said=told, figures={"most": most})
        else:
            told = f"{name} is {found:.4g} for one {spent.unit}, asked for at most {most:g}"
            yield Verdict(rule=f"most_{name}", passed=found <= most, said=told, figures={name: found, "most": most})
    if rules.unit:
        said = f"privacy is stated for one {spent.unit or 'nothing'}, asked for {rules.unit}"
        yield Verdict(rule="unit", passed=spent.epsilon is not None and spent.unit == rules.unit, said=said)


def _age(rules: PromotionRules, candidate: ModelVersion, now: float) -> Iterator[Verdict]:
    if rules.most_age_days is None:
        return
    age = (now - candidate.created_at) / _DAY_S
    ahead = candidate.created_at - now > _CLOCKS_DIFFER_S
    said = f"published {age:.1f} days ago, asked for at most {rules.most_age_days:g}"
    if ahead:
        said = f"dated {-age:.1f} days in the future: its age is not known"
    yield Verdict(
        rule="most_age_days",
        passed=not ahead and age <= rules.most_age_days,
        said=said,
        figures={"days": age, "most": rules.most_age_days},
    )


def _members(rules: PromotionRules, candidate: ModelVersion) -> Iterator[Verdict]:
    if not rules.least_members:
        return
    least, told = rules.least_members, candidate.contributors
    if told is None:
        said = f"at least {least} contributors are asked for, and nobody says how many there were"
        yield Verdict(rule="least_members", passed=False, said=said, figures={"least": least})
        return
    said = f"{told.fewest} {told.kind} or more in every round, asked for at least {least}"
    figures = {"fewest": float(told.fewest), "least": float(least)}
    yield Verdict(rule="least_members", passed=told.fewest >= least, said=said, figures=figures)


def _smoke(smoked: Smoked) -> Verdict:
    if smoked.worst is None:
        return Verdict(rule="smoke", passed=False, said=f"its smoke inputs were not tried: {smoked.reason}")
    said = f"{smoked.rows} smoke inputs answered within {smoked.worst:.2g} of what is expected, asked for "
    figures = {"worst": smoked.worst, "tolerance": smoked.tolerance}
    return Verdict(rule="smoke", passed=smoked.passed, said=f"{said}{smoked.tolerance:g}", figures=figures)


def _those(metrics: Mapping[str, Interval]) -> str:
    return f" (there are {', '.join(sorted(metrics))})" if metrics else " (no metric was)"


def _named(version: ModelVersion | None) -> str:
    return "" if version is None else f"{version.name}@{version.number}"
