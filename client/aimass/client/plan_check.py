"""What a plan's privacy is worth and what its noise does, for the data scientist: told before the run, from the plan
and the task alone. No row is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Final

from aimass.privacy.dp.accounting import Accountant, Figure
from aimass.privacy.dp.calibrate import rounds_left
from aimass.privacy.dp.events import UNCOUNTED_DELTA, Budget, Event, Terms, Unit, tally
from aimass.privacy.dp.noise_plan import NoisePlan
from aimass.privacy.dp.private_terms import analysis_events, planned_events, round_events
from aimass.privacy.dp.signal import SIZES, CohortNoise, by_cohort, clear_from
from aimass.privacy.secagg.rounds import noise_of, ppm
from aimass.proto.boosting import noise_of_trees
from aimass.proto.errors import BadInput
from aimass.proto.plan import PlanDraft, PrivacySettings, TrainSettings, planned_rounds, planned_steps
from aimass.proto.plan_settings import TREES
from aimass.proto.step import StepKind

__all__ = [
    "Case",
    "Price",
    "Sizes",
    "case_of",
    "cohort_noise",
    "figure_of",
    "noise_sentences",
    "prices",
    "round_noise",
    "step_noise",
]

_ROWS: Final = 1_000
_RUINED: Final = 3.0


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A plan with what it does not say itself: how large the model is, and who would train it.

    `elements` are the trained numbers, None where the task is not installed here. `rows` are of a typical partner.
    """

    draft: PlanDraft
    elements: int | None
    rows: int
    partners: int

    @property
    def units(self) -> int:
        """Of a typical partner: its rows, or persons."""
        privacy = self.draft.privacy
        return max(1, self.rows // ((privacy.rows_per_person if privacy else None) or 1))

    @property
    def by_steps(self) -> bool:
        """Whether the plan trains by steps, which can be tried in this process; trees cannot."""
        return all(stage.driver != TREES for stage in self.draft.stages)

    @property
    def terms(self) -> tuple[Terms, ...]:
        """What the plan protects, the smallest unit first. Trees have no delta: a usual one stands in for it."""
        privacy, secure = self.draft.privacy, self.draft.secure
        found = []
        if privacy is not None:
            found.append(Terms.usual(Unit(privacy.unit), privacy.delta))
        if secure is not None and secure.noise is not None:
            found.append(Terms.usual(Unit.PARTNER, secure.noise.delta))
        if not found and noise_of_trees(self.draft):
            found.append(Terms.usual(Unit.EXAMPLE, min(UNCOUNTED_DELTA, 0.1 / self.rows)))
        return tuple(found)

    @property
    def noise_plan(self) -> NoisePlan | None:
        """The constants of noise for partners; None without it, or where the model is not known.

        Raises `FaultError` for noise that would not be what is accounted.
        """
        secure = self.draft.secure
        return None if secure is None or self.elements is None else noise_of(secure, self.elements)

    def of(self, draft: PlanDraft) -> Case:
        """The same people under another plan."""
        return dataclasses.replace(self, draft=draft)


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """What a whole plan spends towards one unit, as a sentence says it, and how many of its rounds fit a budget."""

    each: str
    epsilon: float
    figure: str
    rounds: int
    one_round: float
    budget: float | None
    rounds_that_fit: int | None

    @property
    def fits(self) -> bool:
        """True where there is no budget to fit."""
        return self.budget is None or self.epsilon <= self.budget


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """What noise for partners does to a mean update: in the plan's cohort, in others, and from where on it is clear."""

    own: CohortNoise
    others: tuple[CohortNoise, ...]
    clear_from: int | None

    def sentence(self) -> str:
        """The plain truth about the plan's own cohort."""
        ratio, partners = self.own.ratio, f"{self.own.partners:,} partners"
        if ratio < 1:
            return f"with {partners} the noise on each number is {ratio:.2g} of the update"
        ruin = "this plan destroys it" if ratio >= _RUINED else "little of it is left"
        return f"with {partners} the noise on each number is {ratio:.3g} times the update: {ruin}"


def case_of(draft: PlanDraft, elements: int | None, rows: int | None = None, partners: int | None = None) -> Case:
    """A plan among its people. Without `rows`, those that the plan's public divisor stands for; without `partners`, as
    many as it names, asks or makes its noise for.

    Raises `BadInput` for a plan that protects nobody, or has no end.
    """
    privacy, secure, cohort = draft.privacy, draft.secure, draft.cohort
    noise = None if secure is None else secure.noise
    if privacy is None and noise is None and not noise_of_trees(draft):
        raise BadInput(
            "the plan has no differential privacy",
            code="plan.privacy",
            value=draft.name,
            limit="[privacy], [secure.noise] or both; of trees noise_multiplier",
            cure="See docs/scientist.md: training with noise for each row.",
        )
    if not math.isfinite(planned_rounds(draft) + planned_steps(draft, StepKind.ANALYSE, TREES)):
        raise BadInput("the plan's rounds cannot be read", code="plan.rounds", cure="Give `options = { rounds = 10 }`.")
    if rows is None:
        per = 1 if privacy is None else privacy.rows_per_person or 1
        rows = _ROWS if privacy is None else max(1, round(privacy.divisor / privacy.sampling_rate)) * per
    known = cohort.sample or len(cohort.partners) or (noise.members if noise else 0) or cohort.quorum
    return Case(draft, elements, rows, partners or known)


def figure_of(case: Case, terms: Terms) -> Figure:
    """What the whole plan costs. Raises `Refused` for noise that would not be what is accounted."""
    return Accountant().figure(terms, tuple(_whole(case, terms)))


def _whole(case: Case, terms: Terms) -> Iterator[Event]:
    return planned_events(case.draft, case.elements, case.units, widest=terms.unit)


def prices(case: Case, epsilon: float | None = None) -> tuple[Price, ...]:
    """Of each unit that the plan protects, against a budget of `epsilon` for each; raises as `figure_of` does."""
    return tuple(_price(case, terms, epsilon) for terms in case.terms)


def _price(case: Case, terms: Terms, epsilon: float | None) -> Price:
    once = round_events(case.draft, case.elements, case.units, terms.unit)
    whole, rounds = figure_of(case, terms), int(planned_rounds(case.draft))
    fit = None
    if epsilon is not None:
        # A round is priced with its evaluation, whether or not each has one.
        fit = rounds_left(Budget(terms=terms, epsilon=epsilon), once, tally(analysis_events(case.draft)))
        fit = max(fit, rounds) if whole.epsilon <= epsilon else fit
    return Price(
        each=str(terms.unit),
        epsilon=whole.epsilon,
        figure=whole.sentence(),
        rounds=rounds,
        one_round=Accountant().figure(terms, once).epsilon,
        budget=epsilon,
        rounds_that_fit=fit,
    )


def step_noise(privacy: PrivacySettings) -> float:
    """Deviation on each number of one optimiser's step's gradient."""
    return privacy.noise_multiplier * privacy.clip / privacy.divisor


def round_noise(privacy: PrivacySettings, train: TrainSettings, partners: int) -> float | None:
    """Deviation of each number of a round's mean update; None where it is no multiple of the noise (Adam).

    The noise of a step is carried on by momentum m: of S steps the one that has j to go moves the update by
    rate (1 - m^j) / (1 - m) times itself.
    """
    if train.optimizer != "sgd" or train.steps is None:
        return None
    carried = (sum(train.momentum**back for back in range(steps)) for steps in range(1, min(train.steps, 1_000) + 1))
    square = sum(one**2 for one in carried) * max(1.0, train.steps / 1_000)
    return train.learning_rate * step_noise(privacy) * math.sqrt(square / partners)


def noise_sentences(case: Case) -> Iterator[str]:
    """How much noise, in the units of what is trained."""
    privacy, secure, train = case.draft.privacy, case.draft.secure, case.draft.train
    if privacy is not None:
        by = f"noise {privacy.noise_multiplier:g} x clip {privacy.clip:g} / divisor {privacy.divisor:g}"
        told = f"{step_noise(privacy):.3g} on each number of a step's mean gradient ({by})"
        whole = round_noise(privacy, train, case.partners)
        if whole is not None:
            told += f"; {whole:.3g} on each number of a round's mean update over {case.partners:,} partners"
        yield told
    if secure is not None and secure.noise is not None:
        noise = secure.noise
        by = f"noise {noise.multiplier:g} x clip {noise.clip:g}, made for {noise.members:,} partners"
        if case.elements is None:
            yield f"in the sum of each round: {noise.multiplier * noise.clip:.3g} on each number at least ({by})"
        elif (plan := case.noise_plan) is not None:
            yield f"{plan.mean_deviation:.3g} on each number of a round's mean update ({by})"
    if trees := noise_of_trees(case.draft):
        rounds = planned_rounds(case.draft)
        steps = planned_steps(case.draft, StepKind.ANALYSE, TREES)
        by = f"one for the bins, and {(steps - 1) / rounds:g} levels in each of {rounds:,} rounds"
        yield f"{trees:g} x what one row can add, on each number of a step's histograms; {steps:,} such steps: {by}"


def cohort_noise(case: Case) -> Sizes | None:
    """What noise for partners leaves of an update; None and raises as `Case.noise_plan`."""
    secure, plan = case.draft.secure, case.noise_plan
    if secure is None or plan is None:
        return None
    gamma, members = ppm(secure.colluders), plan.setting.circle.members
    (own,) = by_cohort(plan, gamma, [members])
    return Sizes(own, tuple(by_cohort(plan, gamma, SIZES)), clear_from(plan, gamma))
