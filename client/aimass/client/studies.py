"""A study at the daemon: what it reserves as a whole, which run of it may draw on that, and what ends it.

The reservation is on the disk before the first of its runs touches a row. A study ends when its submitter says so, when
a person here does, or when none of its runs has begun a step for as long as the policy says.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from aimass.client.policy import Policy
from aimass.client.study_policy import Studies
from aimass.privacy.dp.covering import uncovered
from aimass.privacy.dp.events import Event, Unit, events_of, tally
from aimass.privacy.dp.private_terms import planned_events, study_events
from aimass.privacy.dp.study_rules import check_terms, check_trial
from aimass.privacy.dp.unknown_model import dearest_sum
from aimass.proto.errors import AimassError, Refused, WrongState
from aimass.proto.plan import Plan, Study, costliest_run
from aimass.proto.studies import study_digest

if TYPE_CHECKING:
    from aimass.privacy.dp.ledger_file import LedgerFile
    from aimass.privacy.dp.ledger_state import Ledger

__all__ = ["begun_study", "check_run", "ended", "lapsed", "reserved", "waits"]

log = logging.getLogger("aimass.client")
_DAY_S: Final = 86_400.0


def check_run(
    ledger: Ledger,
    policy: Policy,
    plan: Plan,
    study: Study,
    run_id: str,
    units: int,
    begun: Mapping[str, int],
    summed: int | None = None,
) -> AimassError | None:
    """Whether a run may join: None where it may, an error of what a person has to approve first. Reserves nothing.

    `summed` are the elements of a sum of the costliest run, None where the model is not here: then a study is refused
    by the least that it may cost, and waits by the most.

    Raises `Refused` for a study that is over, full, or stated otherwise than before, for a run that costs more than its
    costliest, and for a study that fits no budget.
    """
    widest = Unit.widest(budget.terms.unit for budget in ledger.budgets)
    asked = tuple(planned_events(plan, None, units, begun, widest))
    if not asked:
        return None
    _check_costliest(plan, study, asked, units, widest)
    whole = tuple(study_events(plan, None, units, widest))
    known = ledger.study_named(study.id)
    if known is not None:
        check_trial(known, run_id)
        check_terms(known, study_digest(study))
        _check_reserved(known.events, whole)
        return None
    from aimass.privacy.dp import ledger as rules  # noqa: PLC0415  (accounting loads where it is needed)
    from aimass.privacy.dp.accounting import Accountant  # noqa: PLC0415

    if refusal := rules.refused(ledger, Accountant(), tuple(study_events(plan, None, units, widest, summed))):
        raise refusal.error()
    return waits(policy.studies, study, reserved(plan, units, widest, summed), ledger)


def reserved(plan: Plan, units: int, widest: Unit, summed: int | None) -> tuple[Event, ...]:
    """What the study of a plan will reserve, which a person approves and the policy bounds: never less.

    `summed` are the elements of a sum of the costliest run; without them it is the dearest one. Training is priced as
    the ledger does for models of up to `MANY` elements; a larger one reserves more, in the sixth digit. Raises
    `Refused` for noise that would not be what is accounted.
    """
    if summed is None and plan.study is not None:
        summed = dearest_sum(costliest_run(plan, plan.study).secure)
    return tuple(study_events(plan, None, units, widest, summed))


def _check_costliest(plan: Plan, study: Study, asked: Sequence[Event], units: int, widest: Unit) -> None:
    """Raise `Refused` for a run that the costliest of its study does not cover: what it would draw was not reserved."""
    covered = tally(planned_events(costliest_run(plan, study), None, units, widest=widest))
    if over := uncovered(tally(asked), covered):
        raise _too_dear("a run of a study costs more than the costliest that the study names", over, events_of(covered))


def _check_reserved(reserved: Sequence[Event], whole: Sequence[Event]) -> None:
    """Raise `Refused` for a run by whose plan the study would have reserved more than it has: in a setting that
    `study.costliest` does not name this run is dearer than the first was. Lanes of another kind than is known without
    the model are left to the debits."""
    kinds = {type(event.mechanism) for event in reserved}
    asked = tally(event for event in whole if type(event.mechanism) in kinds)
    if over := uncovered(asked, tally(reserved)):
        raise _too_dear("a run of a study is dearer than what the study has reserved for", over, reserved)


def _too_dear(what: str, over: Sequence[Event], reserved: Sequence[Event]) -> Refused:
    return Refused(
        what,
        code="ledger.study_costliest",
        value=_told(over),
        limit=_told(reserved) or "no step with noise",
        cure="Name under `study.costliest` each setting that makes a run dearer, as the dearest run has it.",
    )


def _told(events: Sequence[Event]) -> str:
    """What a plan says of mechanisms, and nothing that only a partner knows: a server is told it."""
    public = ("sigma", "q", "rho", "mu")
    found = []
    for event in events:
        numbers = (f"{name} {getattr(event.mechanism, name):.4g}" for name in public if hasattr(event.mechanism, name))
        found.append(f"{event.times} x {type(event.mechanism).__name__} ({', '.join(numbers)}) for one {event.unit}")
    return ", ".join(found)


def waits(studies: Studies, study: Study, whole: Sequence[Event], ledger: Ledger) -> AimassError | None:
    """What a person has to approve before a study reserves `whole` of a ledger; None where nothing has to be."""
    approval = studies.approval(study, ledger.data_set)
    if approval is not None and not uncovered(tally(whole), tally(approval.events)):
        return None
    from aimass.privacy.dp.accounting import Accountant  # noqa: PLC0415  (as above)

    accountant = Accountant()
    epsilon = max((accountant.figure(budget.terms, whole).epsilon for budget in ledger.budgets), default=0.0)
    if study.trials <= studies.trials and epsilon <= studies.epsilon:
        return None
    return WrongState(
        f"study {study.id[:8]} waits for approval at the partner",
        code="policy.approval_pending",
        value=f"{study.trials} runs, epsilon {epsilon:.4f} in all",
        limit=f"to {studies.trials} runs and epsilon {studies.epsilon:g} without approval",
        cure="aimass client preview RUN shows what it reserves, then: aimass client approve --study RUN.",
    )


def begun_study(
    ledger: LedgerFile, policy: Policy, plan: Plan, study: Study, sizes: tuple[int, int], summed: int | None
) -> int:
    """The number of a run's study in the ledger, reserved as a whole where this is its first step.

    `sizes` are the trained elements of the model and the rows, or persons, here; `summed` the elements of a sum of the
    costliest run. Raises the error of `waits`, and as `LedgerFile.enter_study` does.
    """
    elements, units = sizes
    widest = Unit.widest(budget.terms.unit for budget in ledger.state.budgets)
    if ledger.state.study_named(study.id) is None:
        whole = reserved(plan, units, widest, elements if summed is None else summed)
        if (waiting := waits(policy.studies, study, whole, ledger.state)) is not None:
            raise waiting
    entered = ledger.enter_study(
        study.id,
        study_digest(study),
        study.trials,
        lambda: study_events(plan, elements, units, widest, summed),
    )
    return entered.number


def ended(ledgers: Sequence[LedgerFile], study: str) -> bool:
    """End a study in each ledger that has it open; whether one had."""
    found = False
    for ledger in ledgers:
        known = ledger.state.study_named(study)
        if known is not None and known.open:
            ledger.end_study(known.number)
            log.info("study %s has ended: what its runs did not spend is free", study[:8])
            found = True
    return found


def lapsed(ledgers: Sequence[LedgerFile], studies: Studies, now: float) -> None:
    """End studies that nobody has ended and that were not drawn on for as long as the policy lets them stand.

    A clock that is wrong ends one early or late, which spends nothing: only what no run has drawn is given back.
    """
    for ledger in ledgers:
        for study in [one for one in ledger.state.studies.values() if one.open]:
            if now - ledger.state.used_at(study) >= studies.days * _DAY_S:
                log.warning("study %s was not drawn on for %g days: it ends here", study.name[:8], studies.days)
                ledger.end_study(study.number)
