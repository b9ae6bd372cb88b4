"""Exact integer noise from a secret stream: discrete Gaussian and Skellam, many at a time.

Values are drawn by inversion of a 128-bit distribution function; no floating-point number takes part, so what a
result's low bits could tell (Mironov 2012) does not exist. Which entries are read depends on the noise: another
process on the same machine that watches the cache is not kept from learning of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.dp.tables import Table, gaussian_table, poisson_table
from aimass.privacy.secagg.masks import Lanes
from aimass.proto.errors import BadInput

__all__ = ["MOST_DEVIATION", "check_variance", "discrete_gaussian", "draw", "skellam", "wide_parts"]

MOST_DEVIATION: Final = 1 << 40
"""Beyond, sums would not fit int64."""
_LEAST_VARIANCE: Final = Fraction(1, 64)
"""Below, 2^-128 is larger than the probability of a value that is not 0."""
_DIRECT: Final = 1 << 14
"""One table to here: 443 000 entries of 16 bytes."""
_FACTOR: Final = 1 << 9
_FINE: Final = Fraction(16 * _FACTOR**2)
"""Variance of the fine part of a wide one: a standard deviation of four steps of the coarse part."""
_BLOCK: Final = 1 << 14


def check_variance(variance: Fraction) -> None:
    """Raise `BadInput` for a variance of integer noise that is too small to be noise, or too large to draw."""
    if not _LEAST_VARIANCE <= variance <= MOST_DEVIATION**2:
        raise BadInput(
            "integer noise has no such variance",
            code="dp.noise_variance",
            value=float(variance),
            limit=f"{_LEAST_VARIANCE} to {MOST_DEVIATION**2}",
            cure="Check the noise multiplier, the clipping norm and the lanes' bits.",
        )


def discrete_gaussian(variance: Fraction, count: int, stream: NoiseStream) -> npt.NDArray[np.int64]:
    """`count` independent draws of N_Z(0, variance): P[X = x] proportional to exp(-x^2 / (2 variance)).

    To a standard deviation of 2^14 from one table, within 2^-108 in total variation a draw. A wider one is a sum of
    multiples of narrower ones, see `wide_parts`. Raises `BadInput` as `check_variance` does.
    """
    check_variance(variance)
    if variance <= _DIRECT**2:
        return draw(gaussian_table(variance), count, stream)
    total = np.zeros(count, np.int64)
    for factor, table in wide_parts(variance):
        total += factor * draw(table, count, stream)
    return total


@lru_cache(maxsize=16)
def wide_parts(variance: Fraction) -> Sequence[tuple[int, Table]]:
    """Factors and tables whose sum of products is N_Z(0, variance), to a factor of 1 +- 2^-220 in each probability.

    m A + B with A of variance a, B of variance b has P[x] = exp(-x^2 / (2 (m^2 a + b))) times a sum of a Gaussian of
    variance t = m^2 a b / (m^2 a + b) over a shifted m Z, which is constant in the shift to 2 exp(-2 pi^2 t / m^2)
    (Poisson's summation; Micciancio and Walter 2017, theorem 3). Here b = 16 m^2 and m^2 a >= b, so t / m^2 >= 8.
    """
    parts, factor = [], 1
    while variance > 2 * _FINE:
        parts.append((factor, gaussian_table(_FINE)))
        factor *= _FACTOR
        variance = (variance - _FINE) / _FACTOR**2
    return (*parts, (factor, gaussian_table(variance)))


def skellam(variance: Fraction, count: int, stream: NoiseStream) -> npt.NDArray[np.int64]:
    """`count` independent differences of two Poisson variables of half the variance each; sums of them are Skellam."""
    check_variance(variance)
    table = poisson_table(variance / 2)
    return draw(table, count, stream) - draw(table, count, stream)


def draw(table: Table, count: int, stream: NoiseStream) -> npt.NDArray[np.int64]:
    """`count` independent values of a table's distribution: the first whose entry exceeds 128 uniform bits.

    The low 64 bits are drawn where the high ones equal an entry's, about once in 2^64 / N draws.
    """
    out = np.empty(count, np.int64)
    for start in range(0, count, _BLOCK):
        part = out[start : start + _BLOCK]
        uniform = stream.take(len(part))
        places = _places(table, uniform)
        last = np.take(table.high, places - 1, mode="clip")
        for tie in np.flatnonzero(last == uniform).tolist():
            places[tie] = _resolve(table, uniform[tie], stream)
        part[:] = places
    out += table.first
    return out


def _places(table: Table, uniform: Lanes) -> npt.NDArray[np.int32]:
    """np.searchsorted(table.high, uniform, "right"), quicker: most cells of the guide hold one entry or none."""
    cells = (uniform >> np.uint64(64 - table.guide_bits)).astype(np.intp)
    places = table.guide[cells]
    open_ = np.flatnonzero(places != table.guide[cells + 1])
    high, found, most = uniform[open_], places[open_], table.guide[cells[open_] + 1]
    for _ in range(2):
        found += (np.take(table.high, found, mode="clip") <= high) & (found < most)
    rest = np.flatnonzero(found < most)
    found[rest] = np.searchsorted(table.high, high[rest], "right")
    places[open_] = found
    return places


def _resolve(table: Table, high: np.uint64, stream: NoiseStream) -> int:
    """How many entries 128 bits that begin with `high` reach."""
    left, right = (int(np.searchsorted(table.high, high, side)) for side in ("left", "right"))
    low = stream.take(1)[0]
    return left + int(np.searchsorted(table.low[left:right], low, "right"))
