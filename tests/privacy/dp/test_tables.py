"""Distribution functions in 128 bits against the same sums in 90 decimal digits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from aimass.privacy.dp import tables
from aimass.privacy.dp.tables import ENTRY_BITS, Table, exp_of_minus, gaussian_table, poisson_table

DIGITS = 90
VARIANCES = [Fraction(1, 64), Fraction(1, 4), Fraction(1), Fraction(16), Fraction(61, 3), Fraction(150) ** 2]
MEANS = [Fraction(1, 100), Fraction(1), Fraction(8), Fraction(61, 3), Fraction(2500)]


@pytest.fixture(autouse=True)
def _digits() -> Iterator[None]:
    with localcontext() as context:
        context.prec = DIGITS
        yield


def decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def gaussian_pmf(variance: Fraction) -> dict[int, Decimal]:
    """exp(-x^2 / (2 variance)) over its sum, each exponential by itself."""
    most, doubled = int(20 * float(variance) ** 0.5) + 3, decimal(2 * variance)
    weights = {x: (-Decimal(x * x) / doubled).exp() for x in range(-most, most + 1)}
    total = sum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


def poisson_pmf(mean: Fraction) -> dict[int, Decimal]:
    """mean^k e^-mean / k!, from 0."""
    rate, value, pmf = decimal(mean), (-decimal(mean)).exp(), {}
    for k in range(int(float(mean) + 20 * float(mean) ** 0.5) + 60):
        pmf[k] = value
        value = value * rate / (k + 1)
    return pmf


def check(table: Table, pmf: dict[int, Decimal], slack: str = "0.501") -> None:
    entries = dict(enumerate(table.entries(), table.first))
    total = Decimal(0)
    for x, probability in sorted(pmf.items()):
        total += probability
        exact = total * (1 << ENTRY_BITS)
        found = entries.get(x, 0 if x < table.first else 1 << ENTRY_BITS)
        assert abs(Decimal(found) - exact) <= Decimal(slack), x
    assert set(entries) <= set(pmf)


@pytest.mark.parametrize("variance", VARIANCES)
def test_each_entry_of_the_discrete_gaussian_is_right_to_the_last_bit(variance: Fraction) -> None:
    check(gaussian_table(variance), gaussian_pmf(variance))


@pytest.mark.parametrize("mean", MEANS)
def test_each_entry_of_poissons_distribution_is_right_to_the_last_bit(mean: Fraction) -> None:
    check(poisson_table(mean), poisson_pmf(mean), slack="1")


def test_another_variance_is_another_table() -> None:
    with pytest.raises(AssertionError):
        check(gaussian_table(Fraction(16)), gaussian_pmf(Fraction(16) + Fraction(1, 10**30)))


def test_the_specifications_check_values() -> None:
    table = gaussian_table(Fraction(16))
    zero = -table.first
    assert hex(int(table.high[zero - 1])) == "0x733bdd6615e4d7b9"
    assert hex(int(table.high[zero])) == "0x8cc42299ea1b2846"


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_discrete_gaussian_is_symmetric_exactly(variance: Fraction) -> None:
    table = gaussian_table(variance)
    entries = table.entries()
    assert entries == [(1 << ENTRY_BITS) - entry for entry in reversed(entries)]
    assert table.first == -len(entries) // 2
    assert entries == sorted(entries)


@pytest.mark.parametrize("variance", VARIANCES)
def test_moments_are_those_of_the_sums(variance: Fraction) -> None:
    """Second and fourth moment of the table's own probabilities, in whole numbers, to 2^-100 of the moment."""
    table = gaussian_table(variance)
    bounds = [0, *table.entries(), 1 << ENTRY_BITS]
    pmf = gaussian_pmf(variance)
    for power in (2, 4):
        found = sum(
            (high - low) * (table.first + i) ** power for i, (low, high) in enumerate(itertools.pairwise(bounds))
        )
        exact = sum(probability * x**power for x, probability in pmf.items())
        assert abs(Decimal(found) / (1 << ENTRY_BITS) - exact) <= Decimal(2) ** -100 * max(exact, Decimal(1))


@pytest.mark.parametrize(
    "x", [Fraction(0), Fraction(1, 10**12), Fraction(1, 3), Fraction(7), Fraction(123, 2), Fraction(10**6)]
)
@pytest.mark.parametrize("bits", [64, 280])
def test_the_exponential_is_wrong_by_less_than_one(x: Fraction, bits: int) -> None:
    assert abs(Decimal(exp_of_minus(x, bits)) - (-decimal(x)).exp() * (1 << bits)) <= 1


@pytest.mark.parametrize(
    "table", [gaussian_table(Fraction(1, 64)), gaussian_table(Fraction(16)), poisson_table(Fraction(2500))]
)
def test_the_guide_counts_the_entries_below_each_cell(table: Table) -> None:
    for cell in range(0, 1 << table.guide_bits, 7):
        start = cell << 64 - table.guide_bits
        assert table.guide[cell] == int(np.count_nonzero(table.high < np.uint64(start)))
    assert table.guide[-1] == len(table.high)


def test_an_entry_is_mirrored_with_its_carry() -> None:
    entries = [1, 5 << 64, (7 << 64) + 9, (1 << 127) - 1]
    words = (np.array([entry >> shift & 2**64 - 1 for entry in entries], np.uint64) for shift in (64, 0))
    high, low = tables._mirrored(*words)
    found = [int(one) << 64 | int(other) for one, other in zip(high, low, strict=True)]
    assert found == [(1 << 128) - entry for entry in reversed(entries)]


def test_tables_are_kept_and_cannot_be_changed() -> None:
    table = gaussian_table(Fraction(16))
    assert gaussian_table(Fraction(16)) is table
    for array in (table.high, table.low, table.guide):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("make", [gaussian_table, poisson_table])
@pytest.mark.parametrize("value", [Fraction(0), Fraction(-1)])
def test_no_spread_is_refused(make: object, value: Fraction) -> None:
    with pytest.raises(ValueError, match="positive"):
        make(value)  # type: ignore[operator]
