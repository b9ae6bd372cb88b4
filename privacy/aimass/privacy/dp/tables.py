"""Distribution functions of integer distributions as 128-bit fixed-point numbers, by integer arithmetic alone.

Weights come from a recurrence of ratios in 320 bits, so each entry is the true probability to 2^-128. What is drawn
from a table of N entries is therefore within N 2^-128 of the true distribution in total variation; a mechanism of D
coordinates adds (1 + e^epsilon) D N 2^-128 to its delta, which is below 2^-80 for every size that is allowed here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["ENTRY_BITS", "Table", "exp_of_minus", "gaussian_table", "poisson_table"]

ENTRY_BITS: Final = 128
_BITS: Final = 320
_ONE: Final = 1 << _BITS
_LEAST: Final = 1 << _BITS - 150
"""Weights below 2^-150 of the largest are left out: with the rest of their tail they are below 2^-130."""
_MOST_GUIDE_BITS: Final = 18
_WORD: Final = np.dtype("<u8")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Table:
    """P[X <= first + i] as (high[i] 2^64 + low[i]) / 2^128, not decreasing; the last value, which has 1, is left out.

    The arrays are read-only: a table is shared by all that draw from it.
    """

    first: int
    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    guide_bits: int
    guide: npt.NDArray[np.int32]
    """[2^guide_bits + 1]: how many entries have a high word below i 2^(64 - guide_bits); all, at last."""

    def entries(self) -> list[int]:
        """The entries as whole numbers, for checks."""
        return [high << 64 | low for high, low in zip(self.high.tolist(), self.low.tolist(), strict=True)]


def exp_of_minus(x: Fraction, bits: int) -> int:
    """exp(-x) 2^bits for x >= 0, wrong by less than 1: Taylor's series of a small part, squared again and again."""
    halvings = max(0, x.numerator.bit_length() - x.denominator.bit_length() + 9)
    work = bits + 64 + 2 * halvings
    part = (x.numerator << work) // (x.denominator << halvings)
    total, term, count = 0, 1 << work, 0
    while term:
        total += -term if count & 1 else term
        count += 1
        term = (term * part >> work) // count
    for _ in range(halvings):
        total = total * total >> work
    return total >> work - bits


@lru_cache(maxsize=8)
def gaussian_table(variance: Fraction) -> Table:
    """The discrete Gaussian on the integers: P[X = x] proportional to exp(-x^2 / (2 variance)); symmetric exactly.

    Canonne, Kamath and Steinke 2020, definition 1. Takes about a microsecond an entry, 27 entries a standard
    deviation.
    """
    if variance <= 0:
        raise ValueError("a discrete Gaussian has a positive variance")
    weights = list(_gaussian_weights(variance))
    below = list(accumulate(reversed(weights[1:])))
    high, low = _words(_entries(below, 2 * below[-1] + weights[0]))
    high_too, low_too = _mirrored(high, low)
    return _table(-len(high), np.concatenate((high, high_too)), np.concatenate((low, low_too)))


def _mirrored(
    high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """2^128 - entry of each, the last first."""
    return ~high[::-1] + (low[::-1] == 0), -low[::-1]


def _gaussian_weights(variance: Fraction) -> Iterator[int]:
    """exp(-x^2 / (2 variance)) 2^320 for x = 0, 1, ...: each ratio is the last one times exp(-1 / variance)."""
    ratio = exp_of_minus(1 / (2 * variance), _BITS)
    step, weight = exp_of_minus(1 / variance, _BITS), _ONE
    while weight >= _LEAST:
        yield weight
        weight = weight * ratio >> _BITS
        ratio = ratio * step >> _BITS
    yield weight


@lru_cache(maxsize=8)
def poisson_table(mean: Fraction) -> Table:
    """Poisson's distribution, its weights by ratios from the mode to both sides."""
    if mean <= 0:
        raise ValueError("a Poisson distribution has a positive mean")
    mode = int(mean)
    below = list(_poisson_below(mean, mode))[::-1]
    weights = [*below, *_poisson_above(mean, mode)]
    sums = list(accumulate(weights))
    most = (1 << ENTRY_BITS) - 1
    entries = [min(entry, most) for entry in _entries(sums[:-1], sums[-1])]
    return _table(mode - len(below) + len(weights) - 1 - len(entries), *_words(entries))


def _poisson_above(mean: Fraction, mode: int) -> Iterator[int]:
    weight, value = _ONE, mode
    while weight >= _LEAST:
        yield weight
        value += 1
        weight = weight * mean.numerator // (mean.denominator * value)


def _poisson_below(mean: Fraction, mode: int) -> Iterator[int]:
    weight = _ONE
    for value in range(mode, 0, -1):
        weight = weight * value * mean.denominator // mean.numerator
        if weight < _LEAST:
            return
        yield weight


def _entries(sums: Iterable[int], total: int) -> list[int]:
    """Growing sums over their total, to the nearest 2^-128; leading zeros are dropped."""
    shift = 2 * _BITS
    factor = (1 << shift + ENTRY_BITS) // total
    half = 1 << shift - 1
    return [entry for value in sums if (entry := value * factor + half >> shift)]


def _words(entries: Sequence[int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """High and low words."""
    words = np.frombuffer(b"".join([entry.to_bytes(16, "little") for entry in entries]), _WORD).reshape(-1, 2)
    return words[:, 1].astype(np.uint64), words[:, 0].astype(np.uint64)


def _table(first: int, high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> Table:
    bits = min(len(high).bit_length() + 2, _MOST_GUIDE_BITS)
    cells = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
    guide = np.append(np.searchsorted(high, cells), len(high)).astype(np.int32)
    for array in (high, low, guide):
        array.flags.writeable = False
    return Table(first, high, low, bits, guide)
