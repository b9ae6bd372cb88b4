"""Noise that is correlated over rounds, so that a model pays less of it: the matrix mechanism, without sampling.

The server, which is trusted with the exact sums x, releases A x + A C^-1 Z for the prefix sums A, with a
lower-triangular C of few bands: a partner that takes part at most once in so many rounds touches disjoint rows, so
with columns of norm one its whole part in the run has sensitivity sqrt(participations) times the clip (Choquette-Choo
et al. 2023, theorem 2; Denisov et al. 2022 for updates that depend on earlier releases). The run is one Gaussian event.

What is noised is C x, on a grid and in whole numbers (`gaussian`); the rest is arithmetic on noised numbers, so nothing
leaks by floating point. Off unless a partner's policy names it. The separation of a partner's rounds is checked by the
partner itself, from its own durable record.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.gaussian import GridNoise, noised
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.errors import BadInput, Refused

__all__ = ["MatrixPlan", "MatrixState", "check_separation", "matrix", "release", "rmse_factor"]

_MOST_ROUNDS: Final = 10_000
_SUMMING: Final = 1e-9
"""What adding up `bands` rows in float64 may change, as a part of the clip."""

Vector = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class MatrixPlan:
    """The mechanism of a run: `multiplier` (zeta) is what it is accounted with, as one event for all rounds."""

    rounds: int
    bands: int
    """b_s: a partner's rounds are at least so far apart."""
    multiplier: float
    clip: float
    """C: the L2 norm of a partner's part in a round's sum."""
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.bands <= self.rounds <= _MOST_ROUNDS:
            raise BadInput(
                "a matrix mechanism has one band or more, and no more than rounds",
                code="dp.matrix",
                value=f"{self.bands} of {self.rounds}",
                limit=f"1 to rounds, to {_MOST_ROUNDS} rounds",
            )
        _ = self.noise

    @property
    def participations(self) -> int:
        """Rounds that a partner can take part in."""
        return -(-self.rounds // self.bands)

    @property
    def sensitivity(self) -> float:
        """L2, of all rows together."""
        return math.sqrt(self.participations) * self.clip

    @property
    def noise(self) -> GridNoise:
        """That of each row, independent."""
        return GridNoise(self.multiplier, self.sensitivity, self.count, _SUMMING)

    @property
    def accounted(self) -> float:
        """The noise multiplier that an accountant is told, for one Gaussian event: the rounding of every row counts."""
        return dataclasses.replace(self.noise, count=self.count * self.rounds).accounted


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MatrixState:
    """After so many rounds: their last exact sums and their last releases, newest first, bands - 1 of each at most.

    The sums are secrets of the server, as the noise would be.
    """

    round: int = 0
    sums: tuple[Vector, ...] = ()
    released: tuple[Vector, ...] = ()


def _coefficients(bands: int) -> list[float]:
    """c_0 = 1, c_j = c_{j-1} (2j - 1) / (2j): the square root of the prefix sums (Fichtenberger et al. 2023)."""
    values = [1.0]
    for j in range(1, bands):
        values.append(values[-1] * (2 * j - 1) / (2 * j))
    return values


def _row(rounds: int, bands: int, row: int) -> list[float]:
    """C[row, row - j] for j = 0, 1, ...: columns are cut at the matrix's end, then normalised."""
    coefficients = _coefficients(bands)
    squares = np.cumsum(np.square(coefficients)).tolist()
    return [coefficients[j] / math.sqrt(squares[min(bands, rounds - row + j) - 1]) for j in range(min(bands, row + 1))]


def matrix(rounds: int, bands: int) -> npt.NDArray[np.float64]:
    """C as a whole, [rounds, rounds]."""
    whole = np.zeros((rounds, rounds))
    for row in range(rounds):
        entries = _row(rounds, bands, row)
        whole[row, row - len(entries) + 1 : row + 1] = entries[::-1]
    return whole


def rmse_factor(rounds: int, bands: int) -> float:
    """Root mean square error of a prefix sum's coordinate over zeta times the clip: sens |A C^-1|_F / sqrt(rounds).

    Independent noise of the same privacy has sqrt(participations (rounds + 1) / 2).
    """
    sums = np.tril(np.ones((rounds, rounds)))
    whole = np.linalg.solve(matrix(rounds, bands).T, sums.T)
    return float(math.sqrt(-(-rounds // bands)) * np.linalg.norm(whole) / math.sqrt(rounds))


def release(
    plan: MatrixPlan, state: MatrixState, total: npt.NDArray[Any], stream: NoiseStream
) -> tuple[MatrixState, Vector]:
    """The round's noised sum, float64 [count], in the place of the exact one `total`, of contributions of norm C.

    Sums of the results are the prefix sums that the mechanism is made for. Raises `BadInput` after the last round, and
    as `noised` does. A result that is asked for twice is noised twice: keep the state that comes with it.
    """
    if state.round >= plan.rounds:
        raise BadInput("the matrix mechanism's rounds are over", code="dp.matrix", value=state.round, limit=plan.rounds)
    first, *rest = _row(plan.rounds, plan.bands, state.round)
    exact: Vector = total.reshape(-1).astype(np.float64)
    mixed = first * exact
    for weight, past in zip(rest, state.sums, strict=True):
        mixed += weight * past
    found: Vector = noised(plan.noise, mixed, stream)
    for weight, past in zip(rest, state.released, strict=True):
        found -= weight * past
    found /= first
    kept = min(plan.bands - 1, state.round + 1)
    return MatrixState(state.round + 1, (exact, *state.sums)[:kept], (found.copy(), *state.released)[:kept]), found


def check_separation(last: int | None, round_: int, bands: int) -> None:
    """Refuse (E_MIN_SEP) a round that is less than `bands` after the `last` one that this partner took part in.

    Both are the run's own round numbers; `last` is from the partner's durable record, written before it contributes.
    """
    if last is not None and round_ - last < bands:
        raise Refused(
            "this round is too soon after the last one that this partner took part in: the noise of the run is not "
            "made for it",
            code="dp.E_MIN_SEP",
            value=round_,
            limit=f"from round {last + bands}",
            cure="Sit this round out; the plan says how far apart a partner's rounds are.",
        )
