"""What a study would reserve here, shown to who decides about it: from its plan, the policy and the ledger alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from aimass.client.policy import Policy, rules
from aimass.client.studies import reserved, waits
from aimass.privacy.dp.events import Event, Unit, events_of
from aimass.proto.errors import Refused
from aimass.proto.plan import Plan, Study, costliest_run
from aimass.proto.studies import study_digest
from aimass.proto.values import Scalar, Value

if TYPE_CHECKING:
    from aimass.privacy.dp.ledger_state import Ledger

__all__ = ["StudyCost", "StudyPreview", "reserved_by", "study_preview"]


class StudyCost(Value, frozen=True):
    """Of one budget: epsilon of the costliest run and of the study, each alone, and what is left of the budget before
    and after the study is reserved; infinite where an event has no bound for its unit."""

    each: str
    delta: float
    costliest_run: float
    study: float
    left: float
    left_after: float
    fits: bool


class StudyPreview(Value, frozen=True):
    """A study as it is stated; `beyond_policy` names the rules that its costliest run would break here."""

    study: str
    terms: str
    trials: int
    costliest: dict[str, Scalar]
    costs: tuple[StudyCost, ...]
    beyond_policy: tuple[str, ...]
    waits: str
    ends_after_days: float


def study_preview(
    policy: Policy,
    ledger: Ledger | None,
    plan: Plan,
    units: int,
    participants: int,
    levels: frozenset[str],
    summed: int | None = None,
) -> StudyPreview:
    """What the study of `plan` reserves; without a ledger it is nothing. `summed` are the elements of a sum of the
    costliest run, where the model is here. Raises `Refused` for a plan of no study."""
    study = plan.study
    if study is None:
        raise Refused("this run is of no study", code="client.study", value=plan.name)
    events = () if ledger is None else reserved_by(ledger, plan, units, summed)
    waiting = None if ledger is None else waits(policy.studies, study, events, ledger)
    checked = rules(policy, costliest_run(plan, study), participants, levels)
    return StudyPreview(
        study=study.id,
        terms=study_digest(study),
        trials=study.trials,
        costliest=study.costliest,
        costs=() if ledger is None else _costs(ledger, study, events),
        beyond_policy=tuple(
            f"{one.name}: {one.value}, {one.limit}" for one in checked if not (one.holds or one.pending)
        ),
        waits="" if waiting is None else waiting.sentence(),
        ends_after_days=policy.studies.days,
    )


def reserved_by(ledger: Ledger, plan: Plan, units: int, summed: int | None = None) -> tuple[Event, ...]:
    """What the study of a plan reserves of a ledger, or has reserved: what is approved. Without the model, which says
    the elements of a sum, it is what costs most."""
    known = None if plan.study is None else ledger.study_named(plan.study.id)
    if known is not None and plan.study is not None and known.terms == study_digest(plan.study):
        return known.events
    return reserved(plan, units, Unit.widest(budget.terms.unit for budget in ledger.budgets), summed)


def _costs(ledger: Ledger, study: Study, whole: Sequence[Event]) -> tuple[StudyCost, ...]:
    from aimass.privacy.dp import ledger as decisions  # noqa: PLC0415  (accounting loads where it is needed)
    from aimass.privacy.dp.accounting import Accountant  # noqa: PLC0415

    accountant, begun = Accountant(), ledger.study_named(study.id) is not None
    once = tuple(msgspec.structs.replace(event, times=event.times // study.trials) for event in whole)
    found = []
    for stand in decisions.standing(ledger, accountant):
        terms, budget = stand.budget.terms, stand.budget.epsilon
        after = accountant.figure(
            terms, ledger.settled(), (*events_of(ledger.pending()), *(() if begun else whole))
        ).epsilon
        found.append(
            StudyCost(
                each=str(terms.unit),
                delta=terms.delta,
                costliest_run=accountant.figure(terms, once).epsilon,
                study=accountant.figure(terms, whole).epsilon,
                left=stand.left,
                left_after=max(0.0, budget - after),
                fits=after <= budget,
            )
        )
    return tuple(found)
