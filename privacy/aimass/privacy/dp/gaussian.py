"""Gaussian noise on sums of real numbers, for DP-SGD and for a trusted server, without the leaks of floating point.

A sum of floating-point noise and data reaches other numbers for other data, and its low bits tell which (Mironov
2012). So nothing continuous is added here: the values are rounded to a grid, discrete Gaussian noise of 2^29 steps is
added in whole numbers, and what becomes of the result (float32, an optimizer's step) is made from the noised integers
alone. What that costs is the rounding, sqrt(D) steps of sensitivity at most, and it is accounted: `accounted`.

A discrete Gaussian of 2^29 steps has the Renyi divergences of the continuous one (Canonne, Kamath and Steinke 2020,
proposition 5), and its probabilities are those of a rounded continuous one to a factor 1 +- 2^-54 within 14 deviations
(the rest has 2^-140), so events of the continuous mechanism, sampled or not, describe it: D coordinates change
a step's epsilon by D 2^-53, 2^-33 for a million.

What is not covered: sums of clipped gradients that were themselves added in floating point differ from the exact sum.
`sum_slack` bounds that; with float64 it is nothing, with float32 and thousands of terms it is not.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.sampler import discrete_gaussian
from aimass.privacy.dp.streams import NoiseStream
from aimass.proto.errors import BadInput

__all__ = ["GRID_DEVIATION", "GridNoise", "noised", "steps_of", "sum_slack"]

GRID_DEVIATION: Final = 1 << 29
"""Steps of the grid in a standard deviation: one pair of tables serves every noise."""
_LARGEST: Final = 1 << 50
"""Steps of a value: the division by the step is then wrong by an eighth of a step at most."""
_BLOCK: Final = 1 << 16
_ROUNDING: Final = 1.25
"""By how many steps the rounding and the division may part two values that differ by less: 2 (1/2 + 1/8)."""


@dataclasses.dataclass(frozen=True, slots=True)
class GridNoise:
    """Noise of `multiplier` times `clip` on each of `count` coordinates of a sum.

    `clip` bounds the L2 norm of what one unit adds to the sum. `slack` is by what part more the sum may differ, for
    the way that it was added up.
    """

    multiplier: float
    clip: float
    count: int
    slack: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (("multiplier", self.multiplier, 0.0), ("clip", self.clip, 0.0)):
            if not (math.isfinite(value) and value > least):
                raise BadInput(
                    f"the noise's {name} is no positive number",
                    code="dp.noise",
                    value=value,
                    cure="Give a finite number above 0; a mechanism without noise has no privacy to account.",
                )
        if self.count < 1 or not (math.isfinite(self.slack) and self.slack >= 0):
            raise BadInput("noise is for one coordinate or more, and its slack is from 0", code="dp.noise")

    @property
    def deviation(self) -> float:
        """Standard deviation, in the values' unit."""
        return self.multiplier * self.clip

    @property
    def step(self) -> float:
        """Width of the grid, in the values' unit."""
        return self.deviation / GRID_DEVIATION

    @property
    def accounted(self) -> float:
        """The noise multiplier that an accountant is told: the noise over the sensitivity of the rounded sum."""
        rounding = _ROUNDING * math.sqrt(self.count) * self.multiplier / GRID_DEVIATION
        return self.multiplier / (1 + self.slack + rounding)


def noised(noise: GridNoise, values: npt.NDArray[Any], stream: NoiseStream) -> npt.NDArray[Any]:
    """The values with fresh noise, in their own shape and floating type (float32 or float64).

    Raises `BadInput` for another number of values, for values that are not finite, or beyond 2^50 steps.
    """
    _check_shape(noise, values)
    out = np.empty(values.size, values.dtype)
    flat = values.reshape(-1)
    for start in range(0, len(flat), _BLOCK):
        steps = _steps(noise, flat[start : start + _BLOCK])
        steps += discrete_gaussian(Fraction(GRID_DEVIATION**2), len(steps), stream)
        out[start : start + _BLOCK] = steps * noise.step
    return out.reshape(values.shape)


def steps_of(noise: GridNoise, values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """int64 [count]: the values in whole steps, the nearest; raises as `noised` does."""
    _check_shape(noise, values)
    return _steps(noise, values.reshape(-1))


def _check_shape(noise: GridNoise, values: npt.NDArray[Any]) -> None:
    if values.dtype not in (np.float32, np.float64) or values.size != noise.count:
        raise BadInput(
            "noise was made for another vector",
            code="dp.noise_shape",
            value=f"{values.size} {values.dtype}",
            limit=f"{noise.count} of float32 or float64",
        )


def _steps(noise: GridNoise, flat: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    steps = flat.astype(np.float64)
    with np.errstate(over="ignore"):  # infinity is refused as well
        steps /= noise.step
    if not (np.abs(steps) <= _LARGEST).all():  # NaN is not either
        raise BadInput(
            "a value is not finite, or far larger than sums of clipped contributions are",
            code="dp.noise_range",
            limit=_LARGEST * noise.step,
            cure="Clip contributions before they are summed; see what made them infinite.",
        )
    return np.rint(steps).astype(np.int64)


def sum_slack(terms: int, significand_bits: int) -> float:
    """`GridNoise.slack` of `terms` clipped vectors added in any order: 24 bits of significand are float32, 53 float64.

    The computed sum is wrong by gamma terms clip at most in L2 norm, gamma = terms u / (1 - terms u), u = 2^-bits
    (Higham 2002, section 4.2), and so is the neighbour's.
    """
    share = math.ldexp(terms, -significand_bits)
    if terms < 0 or share >= 1:
        raise BadInput("so many terms cannot be summed in such numbers", code="dp.noise", value=terms)
    return 2 * terms * share / (1 - share)
