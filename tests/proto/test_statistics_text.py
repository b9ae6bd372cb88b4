"""Statistics as people read them."""

from __future__ import annotations

from aimass.proto.statistics import (
    CategoryCounts,
    Counts,
    Histogram,
    Moment,
    Moments,
    NumberCounts,
    Present,
    Quantile,
    Quantiles,
    Statistics,
)
from aimass.proto.statistics_text import heading, picture, table_of

LABEL = CategoryCounts(column="outcome", values=("no", "yes"), counts=(30.4, 9.7))


def test_a_picture_has_a_bar_for_each_count_and_shows_what_is_there_at_all() -> None:
    assert picture((0, 1, 50, 100)) == " ▁▄█"
    assert picture((0.0, -3.0)) == "  "
    assert picture(()) == ""


def test_each_survey_is_a_table_with_a_row_for_each_column() -> None:
    age = NumberCounts(column="age", minimum=0, maximum=120, counts=(0, 8.2, 4), missing=-0.4)
    assert table_of(Histogram(numbers=(age,), categories=(), label=LABEL)) == [
        {"column": "age", "rows": 12, "missing": 0, "spread": "0  █▄ 120"},
        {"column": "outcome", "rows": 40, "missing": 0, "spread": "no 30, yes 10"},
    ]
    counts = Counts(columns=(Present(column="age", present=12.2, missing=3),), label=LABEL)
    assert table_of(counts)[0] == {"column": "age", "present": 12, "missing": 3}
    quantile = Quantile(column="age", shares=(0.25, 0.5), values=(41.5, None), error=6.0)
    assert table_of(Quantiles(numbers=(quantile,))) == [{"column": "age", "0.25": 41.5, "0.5": None, "within": 6.0}]
    moment = Moment(column="age", count=12.2, mean=50.0, deviation=9.0, skewness=0.1, kurtosis=None)
    assert table_of(Moments(numbers=(moment,)))[0]["count"] == 12


def test_a_heading_says_over_whom_and_with_what_noise_or_why_there_is_nothing() -> None:
    found = Counts(columns=(), label=LABEL)
    assert heading(Statistics(survey="counts", partners=3, found=found)) == "counts over the rows of 3 partners"
    assert heading(Statistics(survey="counts", partners=3, noise=2.5, found=found)).endswith("with noise of 2.5")
    assert heading(Statistics(survey="counts", partners=0, reason="nobody may")) == "counts: nothing: nobody may"
