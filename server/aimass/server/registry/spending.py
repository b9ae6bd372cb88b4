"""What a run cost in differential privacy, from its plan and the steps that it took."""

from __future__ import annotations

import math

from aimass.proto.boosting import noise_of_trees
from aimass.proto.errors import AimassError
from aimass.proto.plan import Plan
from aimass.proto.registry.entries import Spent
from aimass.proto.tensors import Layout
from aimass.proto.views import RunView

__all__ = ["spent_by"]

_NO_NOISE = "trained without differential privacy"


def spent_by(run: RunView, model: Layout) -> Spent:
    """The most that the run's steps together cost a unit: of a partner that took part in each of them.

    Where the plan protects rows or persons and partners too, it is the figure for rows or persons.
    """
    plan = run.plan
    protects_partners = plan.secure is not None and plan.secure.noise is not None
    if plan.privacy is None and not protects_partners and not noise_of_trees(plan):
        return Spent(reason=_NO_NOISE)
    try:
        return _figure(run, plan, model)
    except ModuleNotFoundError as error:
        return Spent(reason=f"the accountant needs {error.name}: pip install 'aimass[client]' where it is published")
    except AimassError as error:
        return Spent(reason=" ".join(error.sentence().split())[:500])


def _figure(run: RunView, plan: Plan, model: Layout) -> Spent:
    # The accountant's libraries are a partner's: who publishes without them publishes without a figure.
    from aimass.privacy.dp.accounting import Accountant  # noqa: PLC0415
    from aimass.privacy.dp.events import UNCOUNTED_DELTA, Terms, Unit  # noqa: PLC0415
    from aimass.privacy.dp.private_terms import sent_elements, step_events, trained_elements  # noqa: PLC0415

    privacy, noise = plan.privacy, None if plan.secure is None else plan.secure.noise
    if privacy is not None:
        terms = Terms.usual(Unit(privacy.unit), privacy.delta)
    elif noise is not None:
        terms = Terms.usual(Unit.PARTNER, noise.delta)
    else:
        terms = Terms.usual(Unit.EXAMPLE, UNCOUNTED_DELTA)
    elements, sent = trained_elements(model), sent_elements(plan, model)
    # Where batches are cut, rows matter: those that the plan's public divisor stands for.
    units = 0 if privacy is None else max(1, round(privacy.divisor / privacy.sampling_rate))
    events = [
        event
        for step in run.steps
        for event in step_events(plan, step.kind, elements, units, widest=terms.unit, purpose=step.purpose, sent=sent)
    ]
    figure = Accountant().figure(terms, events)
    if not math.isfinite(figure.epsilon):
        return Spent(unit=str(terms.unit), delta=terms.delta, reason=f"the run has no bound for one {terms.unit}")
    return Spent(epsilon=figure.epsilon, delta=terms.delta, unit=str(terms.unit), accountant=figure.accountant)
