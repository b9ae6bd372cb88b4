"""Integer noise against its distributions; and what is wrong with a sampler is found by the same tests."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from aimass.privacy.dp.sampler import MOST_DEVIATION, discrete_gaussian, draw, skellam, wide_parts
from aimass.privacy.dp.streams import NoiseStream
from aimass.privacy.dp.tables import ENTRY_BITS, Table, gaussian_table, poisson_table
from aimass.proto.errors import BadInput
from tests.support.noise import Scripted, seeded
from tests.support.statistics import counts_p, normal_p

COUNT = 1 << 18
Ints = npt.NDArray[np.int64]


def pmf_of(table: Table) -> tuple[int, npt.NDArray[np.float64]]:
    """The first value and all probabilities."""
    bounds = [0, *table.entries(), 1 << ENTRY_BITS]
    return table.first, np.array([(high - low) / (1 << ENTRY_BITS) for low, high in itertools.pairwise(bounds)])


def fit_p(values: Ints, first: int, pmf: npt.NDArray[np.float64]) -> float:
    places = values - first
    if places.min() < 0 or places.max() >= len(pmf):
        return 0.0
    return counts_p(np.bincount(places, minlength=len(pmf)), pmf * len(values))


def gaussian_p(values: Ints, variance: Fraction) -> float:
    return fit_p(values, *pmf_of(gaussian_table(variance)))


def skellam_pmf(variance: Fraction) -> tuple[int, npt.NDArray[np.float64]]:
    _, pmf = pmf_of(poisson_table(variance / 2))
    return 1 - len(pmf), np.convolve(pmf, pmf[::-1])


@pytest.mark.parametrize("deviation", [0.5, 1.0, 4.0, 17.3, 467.34])
def test_the_discrete_gaussian_fits_its_probabilities(deviation: float) -> None:
    variance = Fraction(deviation) ** 2
    values = discrete_gaussian(variance, COUNT, seeded("fit", deviation))
    assert gaussian_p(values, variance) > 1e-4
    bound = 5 * deviation / math.sqrt(COUNT)
    assert abs(values.mean()) < bound


@pytest.mark.parametrize("deviation", [1.0, 4.0, 20.0])
def test_skellam_fits_its_probabilities(deviation: float) -> None:
    variance = Fraction(deviation) ** 2
    values = skellam(variance, COUNT, seeded("skellam", deviation))
    assert fit_p(values, *skellam_pmf(variance)) > 1e-4
    assert abs(values.var() / float(variance) - 1) < 5 * math.sqrt(3 / COUNT)


def test_poisson_fits_its_probabilities() -> None:
    table = poisson_table(Fraction(7, 2))
    assert fit_p(draw(table, COUNT, seeded("poisson")), *pmf_of(table)) > 1e-4


BROKEN: dict[str, Callable[[Fraction, NoiseStream], Ints]] = {
    "half the noise": lambda variance, noise: discrete_gaussian(variance / 4, COUNT, noise),
    "two percent too little": lambda variance, noise: discrete_gaussian(variance * Fraction(96, 100), COUNT, noise),
    "shifted by one": lambda variance, noise: discrete_gaussian(variance, COUNT, noise) + 1,
    "without a sign": lambda variance, noise: np.abs(discrete_gaussian(variance, COUNT, noise)),
    "no noise": lambda variance, noise: np.zeros(COUNT, np.int64),
    "skellam instead": lambda variance, noise: skellam(variance, COUNT, noise),
    "every draw used twice": lambda variance, noise: np.repeat(discrete_gaussian(variance, COUNT // 2, noise), 2),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_sampler_does_not_fit(name: str) -> None:
    variance = Fraction(4)
    values = BROKEN[name](variance, seeded("broken"))
    assert gaussian_p(values, variance) < 1e-4


def test_a_stream_that_is_used_again_gives_the_same_noise_and_is_seen() -> None:
    """The sum of two independent draws has twice the variance; of one draw twice, four times."""
    variance = Fraction(16)
    fresh = discrete_gaussian(variance, COUNT, noise := seeded("again")) + discrete_gaussian(variance, COUNT, noise)
    again = discrete_gaussian(variance, COUNT, seeded("again")) + discrete_gaussian(variance, COUNT, seeded("again"))
    assert abs(fresh.var() / 32 - 1) < 5 * math.sqrt(2 / COUNT)
    assert abs(again.var() / 64 - 1) < 5 * math.sqrt(2 / COUNT)


def plainly(table: Table, entries: list[int], words: list[int]) -> int:
    """The first value whose entry exceeds 128 bits."""
    return table.first + bisect.bisect_right(entries, words[0] << 64 | words[1])


@pytest.mark.parametrize(
    "table", [gaussian_table(Fraction(16)), gaussian_table(Fraction(300) ** 2), poisson_table(Fraction(40))]
)
def test_draws_are_a_search_among_all_128_bits(table: Table) -> None:
    """At every entry: just below, at and just above it, with the low word drawn where the high one equals."""
    low, entries = table.low.tolist(), table.entries()
    for place in range(0, len(low), max(1, len(low) // 100)):
        high = int(table.high[place])
        for below in {0, max(low[place] - 1, 0), low[place], min(low[place] + 1, 2**64 - 1), 2**64 - 1}:
            noise = Scripted([high, below])
            assert draw(table, 1, noise).tolist() == [plainly(table, entries, [high, below])]
            assert noise.left == []
        for near in {max(high - 1, 0), min(high + 1, 2**64 - 1)} - set(table.high.tolist()):
            noise = Scripted([near])
            assert draw(table, 1, noise).tolist() == [plainly(table, entries, [near, 5])]
    assert draw(table, 2, Scripted([0, 2**64 - 1, 7, 7])).tolist() == [
        plainly(table, entries, [0, 7]),
        plainly(table, entries, [2**64 - 1, 7]),
    ]


def test_many_draws_are_those_of_a_plain_search() -> None:
    for variance in (Fraction(1, 4), Fraction(2000) ** 2, Fraction(9000) ** 2):
        table = gaussian_table(variance)
        uniform = seeded("plain").take(50_000)
        expected = np.searchsorted(table.high, uniform, "right") + table.first
        assert (draw(table, 50_000, seeded("plain")) == expected).all()


# ------------------------------------------------------------------- wide noise


def test_a_wide_gaussian_is_a_sum_of_narrow_ones_of_the_same_variance() -> None:
    for deviation in (2**14 + 1, 2**20, 2**29, 10**11):
        total = Fraction(0)
        for factor, table in wide_parts(Fraction(deviation) ** 2):
            bounds = [0, *table.entries(), 1 << ENTRY_BITS]
            squares = sum(
                (high - low) * (table.first + i) ** 2 for i, (low, high) in enumerate(itertools.pairwise(bounds))
            )
            assert squares >= 15 << ENTRY_BITS
            total += factor**2 * Fraction(squares, 1 << ENTRY_BITS)
        assert abs(total / deviation**2 - 1) < Fraction(1, 10**20)


def test_multiples_and_rests_make_up_a_discrete_gaussian() -> None:
    """`wide_parts`'s claim in 120 digits for steps of 3: the convolution over the Gaussian is constant to 1e-65."""
    step, coarse, fine = 3, Fraction(16), Fraction(16 * 9)
    with localcontext() as context:
        context.prec = 120

        def weight(x: int, variance: Fraction) -> Decimal:
            return (-Decimal(x * x) * variance.denominator / (2 * variance.numerator)).exp()

        whole = coarse * step**2 + fine
        ratios = [
            sum(weight(k, coarse) * weight(x - step * k, fine) for k in range(-90, 91)) / weight(x, whole)
            for x in range(-8, 9)
        ]
        assert max(ratios) / min(ratios) - 1 < Decimal(10) ** -65
        assert max(ratios) / min(ratios) - 1 > Decimal(10) ** -110, "it is not exact: the bound is of the right kind"


@pytest.mark.parametrize("deviation", [3 * 2**14, 2**29, MOST_DEVIATION])
def test_wide_noise_is_normal_and_has_all_low_bits(deviation: int) -> None:
    values = discrete_gaussian(Fraction(deviation) ** 2, COUNT, seeded("wide", deviation))
    assert normal_p(values / deviation) > 1e-4
    assert abs(values.var() / deviation**2 - 1) < 5 * math.sqrt(2 / COUNT)
    assert counts_p(np.bincount(values & 1023, minlength=1024), np.full(1024, COUNT / 1024)) > 1e-4


# ------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("sample", [discrete_gaussian, skellam])
@pytest.mark.parametrize("variance", [Fraction(0), Fraction(-4), Fraction(1, 65), Fraction(MOST_DEVIATION + 1) ** 2])
def test_a_variance_that_cannot_be_drawn_is_refused(sample: Any, variance: Fraction) -> None:
    with pytest.raises(BadInput, match="variance"):
        sample(variance, 1, seeded("refused"))


def test_nothing_is_drawn_for_nothing() -> None:
    assert discrete_gaussian(Fraction(16), 0, Scripted([])).tolist() == []
