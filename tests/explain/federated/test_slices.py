"""Slices from sums: those that SliceLine finds in the pooled rows, judged by counts as exactly as by shuffles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import hypergeom

from aimass.explain.federated import slices
from aimass.explain.federated.marginals import uniforms
from aimass.explain.federated.slice_search import predicates_in
from aimass.explain.federated.sums import Release
from aimass.explain.federated.tested import Moments, difference_interval, interval_of, permutation_p
from aimass.explain.lineage import Lineage
from aimass.explain.losses import losses
from aimass.explain.rows import features_of
from aimass.explain.segviz.predicates import holds
from aimass.explain.segviz.regions import Regions
from aimass.explain.segviz.sliceline import search
from aimass.explain.significance import difference_interval as difference_of_rows
from aimass.explain.significance import mean_and_interval, shuffled_p
from aimass.explain.work import Work
from aimass.proto.analysis import Summed
from aimass.proto.asks import Ask
from tests.explain.federated.hospitals import TASK, at, heart, hospitals, pooled
from tests.explain.federated.test_analyses import ask
from tests.explain.federated.together import together

QUESTION = ask({"depth": 2, "cuts": 4, "slices": 5})


def told(question: Ask = QUESTION) -> tuple[Regions, list[Summed]]:
    found = together(slices.analysis, question, at(hospitals()))
    return slices.analysis.read(question, found, Lineage(model="heart", partners=4), Release(partners=4)), found


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("loss", ["error_rate", "brier"])
def test_the_best_slices_are_those_of_the_pooled_rows(depth: int, loss: str) -> None:
    question = ask({"depth": depth, "cuts": 4, "slices": 3, "loss": loss, "at_once": 512, "steps": 40})
    regions, found = told(question)
    whole = pooled(hospitals()).rows
    table = np.asarray(slices.analysis.next(question, found[:1])["predicates"])  # type: ignore[index]
    predicates = predicates_in(features_of(TASK.schema), table)
    keys = np.concatenate([one.keys for one in at(hospitals())])
    searched = uniforms(keys, "slices", question.seed) < 0.5
    met = np.array([holds((one,), whole) for one in predicates])[:, searched]
    errors = losses(heart().predict(whole.values), whole.need_labels(), "brier" if loss == "brier" else "error_rate")
    best = search(
        met, errors[searched], table[:, 0].astype(np.int64), Work(),
        count=30, depth=depth, least=max(20, int(np.ceil(0.05 * searched.sum()))), alpha=0.95,
    )  # fmt: skip
    assert len(regions.says) == 3
    assert regions.scores[0] == pytest.approx(best.scores[0], abs=1e-9)
    assert set(np.round(regions.scores, 9)) <= set(np.round(best.scores, 9))
    assert regions.possible == best.possible >= regions.evaluated >= best.evaluated


def test_what_judges_a_slice_is_what_its_rows_say() -> None:
    regions, found = told()
    whole, table = pooled(hospitals()).rows, slices.analysis.next(QUESTION, found[:1])
    predicates = {one.says: one for one in predicates_in(features_of(TASK.schema), np.asarray(table["predicates"]))}  # type: ignore[index]
    keys = np.concatenate([one.keys for one in at(hospitals())])
    judges = uniforms(keys, "slices", QUESTION.seed) >= 0.5
    wrong = (heart().predict(whole.values).argmax(axis=1) != whole.need_labels()).astype(np.float64)
    assert regions.judging_rows == judges.sum()
    for place, says in enumerate(regions.says):
        inside = holds(tuple(predicates[word] for word in says.split(" and ")), whole)[judges]
        mean, low, high = mean_and_interval(wrong[judges][inside], share=True)
        assert (regions.rows[place], regions.mean[place]) == (inside.sum(), pytest.approx(mean))
        assert (regions.low[place], regions.high[place]) == pytest.approx((low, high))
        gap = difference_of_rows(wrong[judges][inside], wrong[judges][~inside], share=True)
        assert (regions.more_low[place], regions.more_high[place]) == pytest.approx(gap)


def moments(values: npt.NDArray[np.float64]) -> Moments:
    return Moments(rows=len(values), total=values.sum(), squares=(values**2).sum())


def test_a_p_value_from_counts_is_exact() -> None:
    for rows, wrong, drawn, seen in ((100, 20, 30, 10), (50, 5, 10, 0), (40, 40, 10, 10), (920, 110, 60, 25)):
        found = permutation_p(
            Moments(rows=drawn, total=seen, squares=seen), Moments(rows=rows, total=wrong, squares=wrong), share=True
        )
        assert found == pytest.approx(hypergeom.sf(seen - 1, rows, wrong, drawn), rel=1e-9)
    assert permutation_p(Moments(), Moments(rows=9, total=3, squares=3), share=True) == 1.0


def test_p_values_and_intervals_from_sums_are_those_of_rows() -> None:
    rng = np.random.default_rng(2)
    errors = rng.gamma(2.0, 1.0, 400)
    inside = np.zeros((400, 2), bool)
    inside[:60, 0], inside[30:130, 1] = True, True
    errors[:60] += 0.35
    shuffled = shuffled_p(inside, errors, 20_000, Work(), "test")
    for place in range(2):
        one, other = errors[inside[:, place]], errors[~inside[:, place]]
        found = permutation_p(moments(one), moments(errors), share=False)
        assert found == pytest.approx(shuffled[place], abs=0.01)
        assert difference_interval(moments(one), moments(other), share=False) == pytest.approx(
            difference_of_rows(one, other, share=False)
        )
        assert interval_of(moments(one), share=False) == pytest.approx(mean_and_interval(one, share=False)[1:])


def test_noise_widens_intervals_and_weakens_p_values() -> None:
    one, whole = (Moments(rows=100, total=40, squares=40), Moments(rows=900, total=200, squares=200))
    shaken = Moments(rows=100, total=40, squares=40, rows_noise=5, total_noise=5)
    assert permutation_p(one, whole, share=True) < permutation_p(shaken, whole, share=True) < 0.05
    for share in (True, False):
        low, high = interval_of(one, share=share)
        lower, higher = interval_of(shaken, share=share)
        assert lower < low < high < higher
        gap, wider = (difference_interval(of, whole.less(of), share=share) for of in (one, shaken))
        assert wider[0] < gap[0] < gap[1] < wider[1]


def test_a_search_that_is_cut_short_says_so() -> None:
    regions, found = told(ask({"depth": 3, "at_once": 16, "steps": 2}))
    assert len(found) == 3
    assert regions.evaluated == 32
    assert any("ended before its last step" in line for line in regions.caveats)
    assert Regions.from_json(regions.to_json()) == regions
    assert regions.to_chart().to_dict()
