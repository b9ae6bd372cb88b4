"""The parts of a plan: its stages, what shapes training, evaluation, who takes part, the sums, and the noise.

Each says in its own words what it does; what they ask of each other `plan` checks. A field that is added has a default
that means what a plan without it meant.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import msgspec

from aimass.proto.names import Name
from aimass.proto.robust import RULES, RuleName, least
from aimass.proto.values import Scalar, Value

__all__ = [
    "TREES",
    "TREE_DEPTH",
    "TREE_GRID",
    "AdaptiveClip",
    "AnalysisNoise",
    "Cohort",
    "DistributedNoise",
    "EarlyStop",
    "EvaluateSettings",
    "MetricNoise",
    "Needs",
    "PrivacySettings",
    "Promote",
    "SecureSettings",
    "Stage",
    "TrainSettings",
]

TREES: Final = "trees"
"""The driver of gradient boosted trees."""
TREE_DEPTH: Final = 6
"""Levels of splits where a stage of trees does not say how many."""
TREE_GRID: Final = 4_096
"""Parts of a number's range between which bins may end, where a stage of trees does not say how many."""

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=30 * 86_400)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1_000)]
NonNegative = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=127)]


class Stage(Value, frozen=True):
    """One driver of the run with its options; the driver checks its own options when the plan is submitted."""

    driver: Name
    options: dict[str, Scalar] = {}


class TrainSettings(Value, frozen=True):
    """Local work of one partner in one training step; a partner's policy bounds each field.

    Exactly one of `epochs` (passes over the training rows) and `steps` (optimiser steps) is given. `proximal_mu` is
    the FedProx coefficient (Li et al. 2020, eq. 2). `weight` is what a contribution counts for: its training rows, or
    one. `keep_optimizer` keeps the optimiser's moments at the partner from one counted step to the next.
    With `mixed_precision` partners may compute forward and backward passes in bfloat16; updates stay as they are. With
    `fewer_steps` a partner may stop after the `most_steps` of its own settings: FedNova weighs what was done.

    Tensors whose names match a pattern of `keep_local` (`head.*`) are each partner's own: they are trained there, take
    the place of the global ones there, in training and evaluation, and never leave (FedPer, Arivazhagan et al. 2019;
    LG-FedAvg, Liang et al. 2020). The global model keeps its first values of them.

    Where memory is short, `accumulate` cuts each batch into so many parts that go through the model one after the
    other, to the same gradient up to rounding; with `checkpointing` the layers that the task names compute their
    activations twice instead of keeping them, to the same bits.
    """

    batch_size: Count
    learning_rate: Rate
    epochs: Count | None = None
    steps: Count | None = None
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    weight_decay: NonNegative = 0.0
    proximal_mu: NonNegative = 0.0
    gradient_clip: Rate | None = None
    weight: Literal["rows", "one"] = "rows"
    keep_optimizer: bool = False
    mixed_precision: bool = False
    fewer_steps: bool = False
    keep_local: Annotated[tuple[Pattern, ...], msgspec.Meta(max_length=100)] = ()
    accumulate: Count = 1
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either `epochs` or `steps`")
        if self.accumulate > self.batch_size:
            raise ValueError(f"`accumulate`: a batch of {self.batch_size} rows has no {self.accumulate} parts")


class EvaluateSettings(Value, frozen=True):
    """How the held-out rows of each partner are evaluated after a round; `every` counts rounds, 0 means never."""

    every: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    batch_size: Count = 1024

    def follows(self, round_: int, rounds: int) -> bool:
        """Whether the model of this round of so many is evaluated; that of the last one always is, unless none is."""
        return bool(self.every) and (round_ % self.every == 0 or round_ == rounds)


class EarlyStop(Value, frozen=True):
    """Stop when `metric`'s weighted mean has not improved by `min_delta` for `patience` evaluations."""

    metric: str
    mode: Literal["max", "min"] = "max"
    patience: Count = 5
    min_delta: NonNegative = 0.0


class Cohort(Value, frozen=True):
    """Who takes part. `partners` empty means every partner of the roster.

    A run starts when all have joined, or at `join_deadline_s` with at least `quorum`; a step closes when all have
    answered, or at `step_deadline_s` with at least `quorum` contributions, and fails the run with fewer. With `sample`
    so many partners, chosen by the plan's seed, train in each round (0: all), and `spare` more are asked beside them:
    such a step closes when `sample` of those have answered, whoever they are. `weights` says how much likelier than
    others, which count 1, a partner is to be chosen. With `connected` those alone are asked that are here when a step
    opens, as long as they are a quorum.

    At the deadline a step that lacks its quorum waits `grace_s` longer and closes with the contribution that makes it.
    `late` says what becomes of work that comes after its step has closed: it is refused, or counted in the training
    step that is next or open when it comes, at most `late_rounds` rounds later; no step waits for it.

    A partner that brought nothing to `exclude_after` steps in a row is asked no more (0: always asked): for
    `readmit_after` steps, or, with 0, until a person readmits it.
    """

    partners: tuple[Name, ...] = ()
    quorum: Count = 1
    join_deadline_s: Seconds = 3_600.0
    step_deadline_s: Seconds = 3_600.0
    sample: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    spare: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    weights: dict[Name, Annotated[float, msgspec.Meta(gt=0, le=1e6)]] = {}
    connected: bool = False
    grace_s: Annotated[float, msgspec.Meta(ge=0, le=30 * 86_400)] = 0.0
    late: Literal["refuse", "next"] = "refuse"
    late_rounds: Count = 1
    exclude_after: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    readmit_after: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0

    def __post_init__(self) -> None:
        if self.sample and self.quorum > self.sample:
            raise ValueError(f"`quorum` {self.quorum} is more than the {self.sample} of `sample`")
        if self.spare and not self.sample:
            raise ValueError("`spare` needs a `sample`")
        if self.weights and not self.sample:
            raise ValueError("`weights` needs a `sample`")
        if self.readmit_after and not self.exclude_after:
            raise ValueError("`readmit_after` needs an `exclude_after`")
        if self.partners and not set(self.weights) <= set(self.partners):
            raise ValueError("`weights` names somebody who is not among `partners`")
        if len(set(self.partners)) != len(self.partners):
            raise ValueError("`partners` names somebody twice")
        if self.partners and self.quorum > len(self.partners):
            raise ValueError(f"`quorum` {self.quorum} is more than the {len(self.partners)} partners named")


Bytes = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]


class Needs(Value, frozen=True):
    """What a partner must have to take part: memory for training, the same on its GPU where it computes on one, room on
    its disk. In a draft 0 leaves it to the estimate (see `aimass.proto.needs`)."""

    memory_bytes: Bytes = 0
    gpu_bytes: Bytes = 0
    disk_bytes: Bytes = 0


class Promote(Value, frozen=True):
    """What the server does with the last model once the run has finished.

    It publishes it in its registry as the next version of `model`, which is the model's `candidate` then. With `auto`
    it makes it the champion where the rules of the model allow it.
    """

    model: Name
    auto: bool = False


Share = Annotated[float, msgspec.Meta(ge=0, lt=0.5)]
Noise = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Delta = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class AdaptiveClip(Value, frozen=True):
    """A clip that follows the `quantile` of the partners' norms (Andrew et al. 2021).

    Each partner adds a noised vote, whether its update was within the clip; after a round the clip is multiplied by
    exp(-`rate` (share within - `quantile`)).
    """

    quantile: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    rate: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.2


class DistributedNoise(Value, frozen=True):
    """Differential privacy for each partner's whole contribution, by noise inside a secure sum (Kairouz et al. 2021).

    Each partner clips its update to an L2 norm of `clip`, rotates and rounds it, and adds a share of integer noise of
    `kind`; any sum that may be opened has noise of `multiplier` times `clip` at least on each element, though
    `secure.colluders` of the partners add none. The constants are made for at most `members` partners in a step and
    at least `secure.min_cohort`, so that they are the same in every step and attempt. `delta` is what epsilon is
    stated at. `secure.clip`, which bounds single elements, serves for nothing then.

    With `adaptive` the `clip` is that of the first round. Votes cost privacy, so the update has more noise: both
    together cost what `multiplier` says.
    """

    multiplier: Noise
    clip: Rate
    delta: Delta
    members: Annotated[int, msgspec.Meta(ge=3, le=65_535)]
    kind: Literal["discrete-gaussian", "skellam"] = "discrete-gaussian"
    adaptive: AdaptiveClip | None = None


class SecureSettings(Value, frozen=True):
    """Secure aggregation: the server learns the sum of a step and no partner's part of it.

    `profile` says what the server may do: follow the protocol and look ("hbc", honest but curious), or lie
    ("malicious"). A sum is of `min_cohort` partners at least; `colluders` is the share of partners that may work
    together with the server, and `dropouts` of those that may vanish. An update is clipped to +-`clip` in each
    coordinate and quantised to `bits` with its sign, a weight to `max_weight`; of all other numbers (`metrics` by
    name, statistics) none may be larger than `real_bound`. Each phase takes `phase_s` at most, and a step that cannot
    be summed is tried in `attempts`.

    With `groups` the partners of a step are dealt at random into so many circles, each summed by itself: the server
    sees that many sums, each of `min_cohort` partners at least, and takes of their means what `rule` says: the mean
    weighted by the rows, or a rule of `robust`, to which each group is one of those that send. As long as no more than
    `tolerated` partners lie, no more groups have any of them.

    A partner of more rows than `max_weight` counts with so many; a mean's coordinate is off by about
    clip max_weight / (2^bits w sqrt(n)) for n partners of w rows, so a bound far above the rows costs precision.
    """

    profile: Literal["malicious", "hbc"] = "malicious"
    min_cohort: Annotated[int, msgspec.Meta(ge=3, le=65_535)] = 3
    colluders: Share = 0.1
    dropouts: Share = 0.1
    clip: Rate = 1.0
    bits: Annotated[int, msgspec.Meta(ge=2, le=32)] = 20
    max_weight: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)] = 10_000
    real_bound: Annotated[float, msgspec.Meta(gt=0, le=1e18)] = 1e9
    metrics: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=127)], ...] = ("accuracy", "auc", "loss")
    phase_s: Seconds = 60.0
    attempts: Annotated[int, msgspec.Meta(ge=1, le=8)] = 4
    groups: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    rule: RuleName = "mean"
    tolerated: Annotated[int, msgspec.Meta(ge=0, le=499)] = 0
    noise: DistributedNoise | None = None

    def __post_init__(self) -> None:
        if (self.rule == "mean") != (self.tolerated == 0):
            raise ValueError(
                '`tolerated` partners that lie need a `rule` other than "mean", and such a rule needs them'
            )
        if self.groups < (needed := least(self.rule, self.tolerated)):
            raise ValueError(
                f"`groups` n = {self.groups} is less than the {needed} of which `rule` {self.rule!r} withstands "
                f"`tolerated` f = {self.tolerated}: {self.rule} needs n >= 2 f + {RULES[self.rule]}"
            )
        if list(self.metrics) != sorted(set(self.metrics)):
            raise ValueError("`metrics` must be sorted and name nothing twice")


class MetricNoise(Value, frozen=True):
    """Noise on what is measured of the held-out rows: on the counts of a histogram of their scores, of so many bins.

    Metrics are computed from the noised counts alone. `noise_multiplier` is the noise's standard deviation on each
    count; a row is in one count.
    """

    noise_multiplier: Noise
    bins: Annotated[int, msgspec.Meta(ge=2, le=1_000)] = 20


class AnalysisNoise(Value, frozen=True):
    """Noise on the sums of an analysis: `noise_multiplier` times the largest L2 norm of what one row adds to them."""

    noise_multiplier: Noise


class PrivacySettings(Value, frozen=True):
    """Differential privacy at the partner, for each training row or person: DP-SGD (Abadi et al. 2016).

    In each of `train.steps` steps of a round every `unit` is drawn by itself with probability `sampling_rate`; each
    drawn one's gradient is clipped to an L2 norm of `clip`; Gaussian noise of `noise_multiplier` times `clip` is added
    to each coordinate of their sum, and the sum is divided by `divisor`. `train.batch_size` only says how many rows
    are held in memory at once. `delta` is what the round's epsilon is stated at; a partner refuses one above one in
    the number of its units.

    A "person" is all rows of one value in the column that a data set names for it. A drawn person gives
    `rows_per_person` of them at most, chosen at random in each step, and the mean of their gradients is its gradient.

    `divisor` is public and the same for all, about the sampling rate times the units of a typical partner. A partner's
    own expected batch would stand in the scale of its noise, where everybody could read its number of rows: neighbours
    of the add-or-remove kind differ in just that, and no accountant sees it. So who has more rows moves the model
    more, and a partner's own rows appear in nothing that leaves but the noised sum.

    With `cap_deviations` a batch is cut at random to so many standard deviations above its mean, for hardware that
    needs an upper bound; 5 and more cost nothing. Without it nothing is cut: memory is bounded by `train.batch_size`.

    Of a data set with a budget, metrics leave with the noise of `metrics` and analyses with that of `analyses`, or not
    at all. Both are for rows: a plan for persons has neither.
    """

    noise_multiplier: Noise
    clip: Rate
    sampling_rate: Annotated[float, msgspec.Meta(gt=0, le=1)]
    delta: Delta
    divisor: Annotated[float, msgspec.Meta(gt=0, le=1e12)]
    unit: Literal["example", "person"] = "example"
    rows_per_person: Count | None = None
    cap_deviations: Annotated[float, msgspec.Meta(ge=5, le=1_000)] | None = None
    metrics: MetricNoise | None = None
    analyses: AnalysisNoise | None = None

    def __post_init__(self) -> None:
        if (self.unit == "person") != (self.rows_per_person is not None):
            raise ValueError('`rows_per_person` goes with `unit = "person"`, and the other way round')
        if self.unit == "person" and (self.metrics is not None or self.analyses is not None):
            raise ValueError("noise on `metrics` and `analyses` is made for single rows: a plan for persons has none")

    def cap(self, rows: int) -> int | None:
        """Most rows of a batch at a partner of so many rows; `None` where batches are not cut."""
        if self.cap_deviations is None:
            return None
        mean = self.sampling_rate * rows
        return min(rows, math.ceil(mean + self.cap_deviations * math.sqrt(mean * (1 - self.sampling_rate))))
