from __future__ import annotations

import pytest

from aimass.explain.tune.pruning import Pruning, why_cut

MEDIAN, HALVING = Pruning(rule="median", after=2, least=3), Pruning(rule="halving", after=2, least=3)


def curve(*values: float | None) -> list[tuple[int, float | None]]:
    return list(enumerate(values, 1))


OTHERS = [curve(0.5, 0.6, 0.7), curve(0.5, 0.7, 0.8), curve(0.5, 0.8, 0.9)]


def test_a_run_is_cut_where_its_best_is_below_the_median_of_the_others_at_that_round() -> None:
    assert why_cut(MEDIAN, curve(0.5, 0.69), OTHERS, 1) == "0.69 at round 2, where the median of 3 others has 0.7"
    assert not why_cut(MEDIAN, curve(0.5, 0.7), OTHERS, 1)
    assert not why_cut(MEDIAN, curve(0.75, 0.1), OTHERS, 1)  # its best so far counts
    assert why_cut(MEDIAN, curve(None, None), OTHERS, 1).startswith("no number at round 2")


def test_a_metric_that_is_better_lower_is_cut_above_the_median() -> None:
    lower = [[(at, 1 - (value or 0)) for at, value in other] for other in OTHERS]
    assert why_cut(MEDIAN, curve(0.5, 0.31), lower, -1)
    assert not why_cut(MEDIAN, curve(0.5, 0.29), lower, -1)


def test_nobody_is_cut_before_the_round_nor_while_few_have_come_as_far() -> None:
    assert not why_cut(MEDIAN, curve(0.0), OTHERS, 1)
    assert not why_cut(MEDIAN, curve(0.0, 0.0), OTHERS[:2], 1)
    assert not why_cut(MEDIAN, curve(0.0, 0.0), [*OTHERS[:2], curve(0.9)], 1)
    assert not why_cut(Pruning(rule="none"), curve(0.0, 0.0), OTHERS, 1)
    assert not why_cut(MEDIAN, [], OTHERS, 1)


def test_halving_keeps_the_best_third_at_its_rungs_alone() -> None:
    assert why_cut(HALVING, curve(0.5, 0.79), OTHERS, 1) == "0.79 at round 2, where the best third of 3 others has 0.8"
    assert not why_cut(HALVING, curve(0.5, 0.8), OTHERS, 1)
    assert not why_cut(HALVING, curve(0.5, 0.8, 0.1), OTHERS, 1)  # round 3 is no rung: the next is 6


def test_a_rung_that_evaluation_skips_is_looked_at_once_when_it_is_passed() -> None:
    others = [[(5, 0.5), (10, 0.9)]] * 3
    assert not why_cut(HALVING, [(5, 0.6), (10, 0.8)], others, 1)  # at rung 6 it had 0.6, and others 0.5
    assert why_cut(HALVING, [(5, 0.4), (10, 0.95)], others, 1)
    assert not why_cut(HALVING, [(5, 0.4), (10, 0.4), (15, 0.4)], others, 1)  # the next rung is 18


@pytest.mark.parametrize("rule", [MEDIAN, HALVING])
def test_the_best_of_all_is_never_cut(rule: Pruning) -> None:
    for rounds in range(1, 10):
        assert not why_cut(rule, curve(*[0.95] * rounds), OTHERS, 1)
