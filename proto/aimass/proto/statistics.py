"""What surveys found over all partners: values for people, for a model's manifest, and for who watches drift later.

With noise counts may be negative: they are shown as they came, because sums over cells then stay unbiased.
"""

from __future__ import annotations

from aimass.proto.values import Value

__all__ = [
    "CategoryCounts",
    "Counts",
    "Found",
    "Histogram",
    "Moment",
    "Moments",
    "NumberCounts",
    "PhaseSums",
    "Present",
    "Quantile",
    "Quantiles",
    "Statistics",
    "Sum",
]


class NumberCounts(Value, frozen=True):
    """Rows by equal parts of a number's range from `minimum` to `maximum`, and those without a value."""

    column: str
    minimum: float
    maximum: float
    counts: tuple[float, ...]
    missing: float


class CategoryCounts(Value, frozen=True):
    """Rows by value, and those without one."""

    column: str
    values: tuple[str, ...]
    counts: tuple[float, ...]
    missing: float = 0.0


class Present(Value, frozen=True):
    """How many rows have a value in a column, and how many have none."""

    column: str
    present: float
    missing: float


class Moment(Value, frozen=True):
    """Of a number's values: mean, standard deviation, skewness and excess kurtosis, in the column's unit where they
    have one. None where too few rows have a value, or the values do not differ."""

    column: str
    count: float
    mean: float | None
    deviation: float | None
    skewness: float | None
    kurtosis: float | None


class Quantile(Value, frozen=True):
    """Of a number's values: for each share the value that this share of them does not exceed.

    Without noise and withheld counts each is within `error`, the width of a bin, of the one over all rows.
    """

    column: str
    shares: tuple[float, ...]
    values: tuple[float | None, ...]
    error: float


class Counts(Value, frozen=True, tag_field="kind", tag="counts"):
    """How many values there are; a label that is a number is not counted."""

    columns: tuple[Present, ...]
    label: CategoryCounts | None = None


class Histogram(Value, frozen=True, tag_field="kind", tag="histogram"):
    """How the values of each column are spread, and those of a label that is a category."""

    numbers: tuple[NumberCounts, ...]
    categories: tuple[CategoryCounts, ...]
    label: CategoryCounts | None = None


class Moments(Value, frozen=True, tag_field="kind", tag="moments"):
    """Where the values of each number lie, and how they spread around it."""

    numbers: tuple[Moment, ...]


class Quantiles(Value, frozen=True, tag_field="kind", tag="quantiles"):
    """Below what the values of each number lie."""

    numbers: tuple[Quantile, ...]


class Sum(Value, frozen=True):
    """A tensor of sums, row by row, and the standard deviation of the noise on each number."""

    name: str
    shape: tuple[int, ...]
    values: tuple[float, ...]
    noise: float = 0.0


class PhaseSums(Value, frozen=True, tag_field="kind", tag="sums"):
    """What a phase of an analysis came to over the rows of the `counted` partners.

    `quantum` is the most that the rounding of a secure sum has changed any number.
    """

    analysis: str
    number: int
    counted: tuple[str, ...]
    sums: tuple[Sum, ...]
    quantum: float = 0.0


Found = Counts | Histogram | Moments | Quantiles | PhaseSums


class Statistics(Value, frozen=True):
    """What one step of a survey, or of an explanation, came to over the rows of so many `partners`.

    `noise` is the standard deviation of the noise on each count, or on each sum of a moment; 0 without any. `found` is
    None where too few partners may take part, for the `reason`.
    """

    survey: str
    partners: int
    noise: float = 0.0
    found: Found | None = None
    reason: str = ""
