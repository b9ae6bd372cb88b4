"""Other plans that keep a budget, made from one that a person wrote: each calibrated, each checked by going back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Final

import msgspec

from aimass.client.plan_check import Case, figure_of
from aimass.privacy.dp.calibrate import distributed_noise, least_noise, rounds_left
from aimass.privacy.dp.events import Budget, Terms, Unit, tally
from aimass.privacy.dp.private_terms import analysis_events, planned_events, round_events
from aimass.privacy.secagg.faults import FaultError
from aimass.privacy.secagg.rounds import noise_setting
from aimass.proto.errors import AimassError
from aimass.proto.plan import PlanDraft, Stage, planned_rounds
from aimass.proto.plan_settings import TREES
from aimass.proto.values import Value

__all__ = ["Option", "calibrated", "least_multiplier", "options"]

_MOST: Final = 3
_TRIES: Final = 20
_ALIKE: Final = 0.02
"""Part of a budget by which a plan that keeps it may fall short and be left as it is."""
_DIGITS: Final = 3
"""After the first: of a noise that a person pastes, rounded up."""


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """A plan that fits: what is other about it, its lines to paste, what it spends."""

    what: str
    toml: str
    epsilon: float
    figure: str
    draft: PlanDraft


def options(case: Case, epsilon: float) -> tuple[Option, ...]:
    """At most three plans that spend no more than `epsilon` on any unit, none of them the plan itself.

    The noise that is calibrated is that of the unit which the plan spends most on.
    """
    spent = {terms: figure_of(case, terms).epsilon for terms in case.terms}
    terms = max(spent, key=lambda each: spent[each])
    found: list[Option] = []
    for what, draft in _candidates(case, Budget(terms=terms, epsilon=epsilon), spent[terms]):
        if draft == case.draft or any(draft == one.draft for one in found):
            continue
        option = _fitting(case.of(draft), case.draft, what, terms, epsilon)
        if option is not None:
            found.append(option)
        if len(found) == _MOST:  # each takes seconds
            break
    return tuple(found)


def _fitting(case: Case, written: PlanDraft, what: str, terms: Terms, epsilon: float) -> Option | None:
    """The option, if every unit fits by the accountant that will debit it."""
    figures = {each: figure_of(case, each) for each in case.terms}
    if any(figure.epsilon > epsilon for figure in figures.values()):
        return None
    return Option(what, _lines(case.draft, written), figures[terms].epsilon, figures[terms].sentence(), case.draft)


def _candidates(case: Case, budget: Budget, spent: float) -> Iterator[tuple[str, PlanDraft]]:
    """The likeliest first. What the plan spends already decides which are of any use."""
    draft, rounds = case.draft, int(planned_rounds(case.draft))
    fitting = rounds_left(
        budget, round_events(draft, case.elements, case.units, budget.terms.unit), tally(analysis_events(draft))
    )
    if 0 < fitting < rounds and spent > budget.epsilon:
        yield f"the same noise, {fitting:,} of {rounds:,} rounds", _with_rounds(draft, fitting)
    if abs(spent - budget.epsilon) > _ALIKE * budget.epsilon:
        yield from _calibrated(case, budget, "the same rounds", draft)
    if draft.privacy is not None and budget.terms.unit is not Unit.PARTNER:
        yield from _calibrated(case, budget, "half the sampling rate, twice the steps", _rarer(draft))
    if rounds > 1:
        yield from _calibrated(case, budget, f"half the rounds ({rounds // 2:,})", _with_rounds(draft, rounds // 2))
    yield from _calibrated(case, budget, f"twice the rounds ({2 * rounds:,})", _with_rounds(draft, 2 * rounds))


def _calibrated(case: Case, budget: Budget, what: str, draft: PlanDraft) -> Iterator[tuple[str, PlanDraft]]:
    """The draft with the least noise that keeps the budget, where there is one."""
    try:
        noise = least_multiplier(case.of(draft), budget)
    except (AimassError, FaultError):
        return
    yield f"{what}, noise {noise:g}", _with_noise(draft, budget.terms.unit, noise)


def calibrated(case: Case, budget: Budget) -> PlanDraft:
    """The plan with the least noise that keeps the budget; raises as `least_multiplier`."""
    return _with_noise(case.draft, budget.terms.unit, least_multiplier(case, budget))


def least_multiplier(case: Case, budget: Budget) -> float:
    """Of the noise for the budget's unit, rounded up to four digits: all rounds of the plan then keep the budget.

    Raises `Refused` or `FaultError` where no noise does.
    """
    draft, unit = case.draft, budget.terms.unit
    if unit is Unit.PARTNER and draft.secure is not None and case.elements is not None:
        setting = noise_setting(draft.secure, case.elements)
        if setting is not None:
            noise = _rounded(distributed_noise(setting, budget, int(planned_rounds(draft))).multiplier)
            return _with_votes(case, budget, noise)
    return _rounded(
        least_noise(
            budget,
            lambda noise: planned_events(_with_noise(draft, unit, noise), case.elements, case.units, widest=unit),
        )
    )


def _with_votes(case: Case, budget: Budget, noise: float) -> float:
    """A little more where votes on the clip, which are rounded too, cost what the update's rounding left over."""
    for _ in range(_TRIES):
        if figure_of(case.of(_with_noise(case.draft, Unit.PARTNER, noise)), budget.terms).epsilon <= budget.epsilon:
            break
        noise = _rounded(1.001 * noise)
    return noise


def _rounded(noise: float) -> float:
    """Up, to so many digits."""
    step = 10.0 ** (math.floor(math.log10(noise)) - _DIGITS)
    return float(f"{math.ceil(noise / step) * step:.{_DIGITS + 1}g}")


def _with_noise(draft: PlanDraft, unit: Unit, noise: float) -> PlanDraft:
    if unit is Unit.PARTNER and draft.secure is not None and draft.secure.noise is not None:
        inner = msgspec.structs.replace(draft.secure.noise, multiplier=noise)
        return msgspec.structs.replace(draft, secure=msgspec.structs.replace(draft.secure, noise=inner))
    if draft.privacy is None:
        return msgspec.structs.replace(draft, stages=tuple(_with_tree_noise(stage, noise) for stage in draft.stages))
    return msgspec.structs.replace(draft, privacy=msgspec.structs.replace(draft.privacy, noise_multiplier=noise))


def _with_tree_noise(stage: Stage, noise: float) -> Stage:
    if stage.driver != TREES:
        return stage
    return msgspec.structs.replace(stage, options={**stage.options, "noise_multiplier": noise})


def _with_rounds(draft: PlanDraft, rounds: int) -> PlanDraft:
    """So many rounds in all, dealt to the stages as they were; never more, each stage at least one."""
    total = planned_rounds(draft)

    def dealt(stage: Stage) -> Stage:
        own = stage.options.get("rounds")
        if not isinstance(own, int):
            return stage
        return msgspec.structs.replace(stage, options={**stage.options, "rounds": max(1, int(own * rounds / total))})

    return msgspec.structs.replace(draft, stages=tuple(dealt(stage) for stage in draft.stages))


def _rarer(draft: PlanDraft) -> PlanDraft:
    """As many rows in all, in twice the steps of half the size."""
    privacy, train = draft.privacy, draft.train
    if privacy is None or train.steps is None:
        return draft
    return msgspec.structs.replace(
        draft,
        privacy=msgspec.structs.replace(
            privacy, sampling_rate=privacy.sampling_rate / 2, divisor=max(privacy.divisor / 2, 1.0)
        ),
        train=msgspec.structs.replace(train, steps=2 * train.steps),
    )


def _lines(draft: PlanDraft, written: PlanDraft) -> str:
    """What is other than in the plan that was written, as a person pastes it over the plan's own lines."""
    noises = [None if each.secure is None else each.secure.noise for each in (draft, written)]
    lines = [
        *_changed("train", draft.train, written.train),
        *_changed("privacy", draft.privacy, written.privacy),
        *_changed("secure.noise", *noises),
    ]
    if draft.stages != written.stages:
        for stage in draft.stages:
            lines += ["[[stages]]", f'driver = "{stage.driver}"']
            lines += [f"options = {{ {_inline(stage)} }}"] if stage.options else []
    return "\n".join(lines)


def _changed(table: str, new: Value | None, old: Value | None) -> list[str]:
    if new is None or new == old:
        return []
    names = [field.name for field in msgspec.structs.fields(new)]
    changed = [f"{name} = {getattr(new, name)!r}" for name in names if getattr(new, name) != getattr(old, name)]
    return [f"[{table}]", *changed]


def _inline(stage: Stage) -> str:
    return ", ".join(f"{name} = {_toml(value)}" for name, value in stage.options.items())


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, str) else repr(value)
