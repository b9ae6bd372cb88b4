"""What runs cost in differential privacy, from their plans and the steps that they took."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from aimass.proto.boosting import noise_of_trees
from aimass.proto.errors import AimassError
from aimass.proto.plan import Plan, PlanDraft
from aimass.proto.registry.entries import Spent
from aimass.proto.tensors import Layout
from aimass.proto.views import RunView, SlotState, StepView

if TYPE_CHECKING:
    from aimass.privacy.dp.accounting import Figure
    from aimass.privacy.dp.events import Event, Terms

__all__ = ["planned_spent", "spent_by", "spent_by_partner", "spent_together"]

_NO_NOISE = "trained without differential privacy"
_MOST_FIGURES = 24
"""Partners of so many different histories have an exact figure each, which takes a second; of more it is Rényi's."""


def spent_by(run: RunView, model: Layout | None = None) -> Spent:
    """The most that the run's steps together cost a unit: of a partner that took part in each of them.

    Where the plan protects rows or persons and partners too, it is the figure for rows or persons. Without the model's
    layout the number of its elements is taken to be what costs most, up to 100 million: that changes the sixth digit,
    but for noise inside sums of narrow lanes, whose rounding it adds; its `reason` says so then.
    """
    return spent_together([run], model)


def spent_together(runs: Sequence[RunView], model: Layout | None = None) -> Spent:
    """The most that all these runs cost a unit whose data were in each of them: a search for settings, for instance.

    They are composed as one history, not added. Where one of them promises nothing, all promise nothing together.
    """
    plain = [run for run in runs if not _private(run.plan)]
    if plain:
        few = "" if len(runs) == 1 else f"{len(plain)} of {len(runs)} runs were "
        return Spent(reason=few + _NO_NOISE)
    return _spent(runs, [run.steps for run in runs], model)


def spent_by_partner(run: RunView) -> dict[str, Spent]:
    """The same of the steps for which each partner was asked, by name, as far as a server sees it.

    A partner pays before its data are touched: also for a step that it failed in, or in which it was not counted. What
    it has spent in all, in other federations too, its own ledger alone knows.
    """
    names = sorted({name for step in run.steps for name in step.slots})
    taken = {
        name: tuple(step for step in run.steps if step.slots.get(name, SlotState.WAITING) is not SlotState.WAITING)
        for name in names
    }
    if not _private(run.plan):
        return dict.fromkeys(names, Spent(reason=_NO_NOISE))
    histories = {name: tuple(sorted((step.kind, step.purpose) for step in steps)) for name, steps in taken.items()}
    alike = {history: taken[name] for name, history in histories.items()}
    quick = len(alike) > _MOST_FIGURES
    found = {history: _spent([run], [steps], None, quick=quick) for history, steps in alike.items()}
    return {name: found[histories[name]] for name in names}


def planned_spent(plan: Plan | PlanDraft, runs: int, *, quick: bool = False) -> Spent:
    """The most that so many runs of a plan, together, will cost a unit whose data are in all their steps.

    A `quick` figure is Rényi's: milliseconds for what takes a second, and never much less. The model is taken to be
    what costs most, as in `spent_by`.
    """
    if not _private(plan):
        return Spent(reason=_NO_NOISE)
    return _rounded(_figure(lambda: [_terms(plan)], lambda: _planned(plan, runs), quick=quick), [plan])


def _planned(plan: Plan | PlanDraft, runs: int) -> list[Event]:
    from aimass.privacy.dp.private_terms import planned_events  # noqa: PLC0415
    from aimass.privacy.dp.unknown_model import dearest_sum  # noqa: PLC0415

    events = planned_events(plan, None, _units(plan), widest=_terms(plan).unit, sent=dearest_sum(plan.secure))
    return [msgspec.structs.replace(event, times=event.times * runs) for event in events]


def _private(plan: Plan | PlanDraft) -> bool:
    protects_partners = plan.secure is not None and plan.secure.noise is not None
    return plan.privacy is not None or protects_partners or bool(noise_of_trees(plan))


def _spent(
    runs: Sequence[RunView], steps: Sequence[Sequence[StepView]], model: Layout | None, *, quick: bool = False
) -> Spent:
    found = _figure(
        lambda: [_terms(run.plan) for run in runs],
        lambda: [event for run, taken in zip(runs, steps, strict=True) for event in _events(run.plan, taken, model)],
        quick=quick,
    )
    return found if model is not None else _rounded(found, [run.plan for run in runs])


def _rounded(spent: Spent, plans: Sequence[Plan | PlanDraft]) -> Spent:
    """A figure that was made without the model, with the word of what model it is of where that matters."""
    if not spent.epsilon:
        return spent
    from aimass.privacy.dp.unknown_model import rounding_told  # noqa: PLC0415

    told = next(filter(None, (rounding_told(plan.secure) for plan in plans)), "")
    return msgspec.structs.replace(spent, reason=told)


def _figure(terms_of: Callable[[], list[Terms]], events_of: Callable[[], list[Event]], *, quick: bool) -> Spent:
    """The figure of events under terms of one unit; what stands in its way is its reason."""
    try:
        terms = terms_of()
        if len({one.unit for one in terms}) > 1:
            return Spent(reason="the runs protect different units, whose figures do not compose")
        return _told(terms[0].usual(terms[0].unit, max(one.delta for one in terms)), events_of(), quick=quick)
    except ModuleNotFoundError as error:
        return Spent(reason=f"the accountant needs {error.name}: pip install 'aimass[client]'")
    except AimassError as error:
        return Spent(reason=" ".join(error.sentence().split())[:500])


def _terms(plan: Plan | PlanDraft) -> Terms:
    # The accountant's libraries are a partner's: who adds up without them states no figure.
    from aimass.privacy.dp.events import UNCOUNTED_DELTA, Terms, Unit  # noqa: PLC0415

    privacy, noise = plan.privacy, None if plan.secure is None else plan.secure.noise
    if privacy is not None:
        return Terms.usual(Unit(privacy.unit), privacy.delta)
    if noise is not None:
        return Terms.usual(Unit.PARTNER, noise.delta)
    return Terms.usual(Unit.EXAMPLE, UNCOUNTED_DELTA)


def _events(plan: Plan, steps: Sequence[StepView], model: Layout | None) -> list[Event]:
    from aimass.privacy.dp.private_terms import sent_elements, step_events, trained_elements  # noqa: PLC0415
    from aimass.privacy.dp.unknown_model import dearest_sum  # noqa: PLC0415

    elements = None if model is None else trained_elements(model)
    sent = dearest_sum(plan.secure) if model is None else sent_elements(plan, model)
    units, widest = _units(plan), _terms(plan).unit
    return [
        event
        for step in steps
        for event in step_events(plan, step.kind, elements, units, widest=widest, purpose=step.purpose, sent=sent)
    ]


def _units(plan: Plan | PlanDraft) -> int:
    """Where batches are cut, rows matter: those that the plan's public divisor stands for."""
    privacy = plan.privacy
    return 0 if privacy is None else max(1, round(privacy.divisor / privacy.sampling_rate))


def _told(terms: Terms, events: Sequence[Event], *, quick: bool) -> Spent:
    from aimass.privacy.dp.accounting import Accountant, Figure  # noqa: PLC0415
    from aimass.privacy.dp.events import tally  # noqa: PLC0415

    accountant = Accountant()
    figure: Figure = (
        Figure(terms, accountant.renyi(terms, tally(events)), "rdp", None)
        if quick
        else accountant.figure(terms, events)
    )
    if not math.isfinite(figure.epsilon):
        return Spent(unit=str(terms.unit), delta=terms.delta, reason=f"the run has no bound for one {terms.unit}")
    return Spent(epsilon=figure.epsilon, delta=terms.delta, unit=str(terms.unit), accountant=figure.accountant)
