"""The distinguishing game on noised sums: a canary with all its norm in one coordinate, there or not.

Who guesses knows everything but the noise. Coordinates have independent noise, so each is a trial of its own; that they
are independent is looked at from inside (`inside`). One coordinate is the worst that a bound of the L2 norm admits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp import adaptive, distributed, gaussian, matrix
from aimass.privacy.dp.accounting import Accountant
from aimass.privacy.dp.adaptive import Adaptive
from aimass.privacy.dp.calibrate import distributed_event, distributed_noise
from aimass.privacy.dp.events import Budget, Event, Gaussian, Relation, Terms, Unit
from aimass.privacy.dp.matrix import MatrixPlan, MatrixState, release
from aimass.privacy.dp.noise_plan import Circle, NoiseKind, NoisePlan
from aimass.privacy.dp.sampler import discrete_gaussian, skellam
from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.secagg.quantise import centred
from aimass.proto.errors import Refused
from tests.audit.findings import CONFIDENCE, Bound, Subject
from tests.audit.seams import REAL, Seam, half, nothing, replaced
from tests.support.dp_looks import whitened
from tests.support.games import epsilon_at_least
from tests.support.noise_plans import TEN, setting

__all__ = ["DELTA", "KEY", "SUMS", "game"]

DELTA: Final = 1e-5
KEY: Final = bytes(range(16))
_LOG_LANES: Final = 16
_COORDINATES: Final = 1 << 17
_ZETA: Final = 3.75

Scores = npt.NDArray[np.float64]
Play = Callable[[int], tuple[Scores, Scores]]
"""So many scores with the canary and without it; larger ones mean with."""


def _trials(quick: bool) -> int:
    """For each side: enough to tell half the noise of epsilon 1."""
    return 1 << 19 if quick else 1 << 22


def game(stated: float, delta: float, with_: Scores, without: Scores) -> Bound:
    """What the scores of a played game prove."""
    least = max(0.0, epsilon_at_least(with_, without, delta, CONFIDENCE))
    return Bound("game", stated, delta, least, len(with_))


def _stated(event: Event, relation: Relation) -> float:
    return Accountant().figure(Terms(unit=Unit.PARTNER, relation=relation, delta=DELTA), [event]).epsilon


# ------------------------------------------------------------------- noise inside a secure sum


@cache
def _plan(kind: NoiseKind) -> NoisePlan:
    """Ten partners, one of whom adds no noise, sums of nine and more; epsilon 1 for a round."""
    terms = Terms(unit=Unit.PARTNER, relation=Relation.REPLACE_SPECIAL, delta=DELTA)
    return distributed_noise(setting(TEN, _LOG_LANES, 18, kind=kind), Budget(terms=terms, epsilon=1.0), 1)


def _lanes(plan: NoisePlan) -> Scores:
    """The least sum that is ever opened, of contributions of zero, as encoded by the partners that add noise."""
    zeros, shares = np.zeros(plan.setting.count), plan.setting.circle.shares
    total = sum(distributed.encode(plan, zeros, KEY, NoiseStream()) for _ in range(shares))
    return centred(np.asarray(total), plan.setting.bits).astype(np.float64)


def _secure_sum(kind: NoiseKind, seam: Seam, quick: bool) -> Bound:
    """The canary is the largest whole number that passes the bound of the norm."""
    plan = _plan(kind)
    stated = _stated(distributed_event(plan), Relation.REPLACE_SPECIAL)
    with seam():
        scores = np.concatenate([_lanes(plan) for _ in range(2 * _trials(quick) // plan.setting.size)])
    middle = len(scores) // 2
    return game(stated, DELTA, scores[:middle] + math.isqrt(plan.norm_squared), scores[middle:])


def _votes(seam: Seam, quick: bool) -> Bound:
    """The lane in which partners vote on the clip: the least sum of votes, all up, or nothing in the place of one."""
    rule = Adaptive(Circle(40, 12, 27), 1.0)
    stream = NoiseStream()

    def total() -> int:
        return sum(adaptive.vote(rule, 0.5, 1.0, stream) for _ in range(rule.circle.shares))

    with seam():
        count = 2_000 if quick else 20_000
        with_, without = (np.array([total() for _ in range(count)]) for _ in "ab")
    return game(_stated(rule.event, Relation.REPLACE_SPECIAL), DELTA, with_, without - rule.steps / 2)


# ------------------------------------------------------------------- noise on real numbers


def _grid_sum(seam: Seam, quick: bool) -> Bound:
    """One clipped sum with the noise of a DP-SGD step, the canary's clipped gradient in it or not."""
    noise = gaussian.GridNoise(_ZETA, 0.7, _COORDINATES)
    stated = _stated(Event(mechanism=Gaussian(sigma=noise.accounted), unit=Unit.PARTNER), Relation.ADD_OR_REMOVE_ONE)
    rounds, stream = _trials(quick) // _COORDINATES, NoiseStream()
    with seam():
        with_, without = (
            np.concatenate([gaussian.noised(noise, np.full(_COORDINATES, each), stream) for _ in range(rounds)])
            for each in (noise.clip, 0.0)
        )
    return game(stated, DELTA, with_, without)


def _rounds_taken(plan: MatrixPlan) -> list[int]:
    """As many rounds as a partner's own check lets it take part in, asked in each."""
    taken: list[int] = []
    for round_ in range(plan.rounds):
        try:
            matrix.check_separation(taken[-1] if taken else None, round_, plan.bands)
        except Refused:
            continue
        taken.append(round_)
    return taken


def _run(bands: int, seam: Seam, quick: bool) -> Bound:
    """A whole run of a trusted server; the score is the run's likelihood ratio, which is linear in what it released."""
    plan = MatrixPlan(8, bands, _ZETA, 0.7, _COORDINATES)
    event = Event(mechanism=Gaussian(sigma=plan.accounted), unit=Unit.PARTNER)
    scores: dict[bool, list[Scores]] = {True: [], False: []}
    with seam():
        canary = np.zeros((plan.rounds, 1))
        canary[_rounds_taken(plan)] = plan.clip
        signal = (matrix.matrix(plan.rounds, plan.bands) @ canary)[:, 0]
        for there, found in scores.items():
            for _ in range(_trials(quick) // _COORDINATES):
                released = _released(plan, canary * there)
                found.append(signal @ whitened(plan, np.zeros_like(released), released))
    stated = _stated(event, Relation.ADD_OR_REMOVE_ONE)
    return game(stated, DELTA, np.concatenate(scores[True]), np.concatenate(scores[False]))


def _released(plan: MatrixPlan, sums: Scores) -> Scores:
    """[rounds, count]: what the server releases where every coordinate of a round's sum is the same."""
    state, stream, found = MatrixState(), NoiseStream(), np.empty((plan.rounds, plan.count))
    for round_, each in enumerate(sums):
        state, found[round_] = release(plan, state, np.full(plan.count, each[0]), stream)
    return found


_BROKEN_GRID: Final = {
    "half the noise": replaced(gaussian, "discrete_gaussian", half(discrete_gaussian)),
    "no noise": replaced(gaussian, "discrete_gaussian", nothing),
}

SUMS: Final = (
    Subject(
        "discrete Gaussian in a secure sum",
        partial(_secure_sum, NoiseKind.DISCRETE_GAUSSIAN),
        REAL,
        {
            "half the noise": replaced(distributed, "discrete_gaussian", half(discrete_gaussian)),
            "no noise": replaced(distributed, "discrete_gaussian", nothing),
        },
    ),
    Subject(
        "Skellam in a secure sum",
        partial(_secure_sum, NoiseKind.SKELLAM),
        REAL,
        {"half the noise": replaced(distributed, "skellam", half(skellam))},
    ),
    Subject("votes on the clip", _votes, REAL, {"no noise": replaced(adaptive, "discrete_gaussian", nothing)}),
    Subject("Gaussian on the grid, one sum", _grid_sum, REAL, _BROKEN_GRID),
    Subject("central Gaussian, 8 rounds", partial(_run, 1), REAL, {}),
    Subject(
        "matrix mechanism, 8 rounds of 4 bands",
        partial(_run, 4),
        REAL,
        {"rounds of a partner too close": replaced(matrix, "check_separation", lambda *_: None)},
    ),
)
