"""Boxes from sums: the trail of peels is that of the pooled rows, a planted box is found, and in noise there is none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from aimass.explain.federated import prim
from aimass.explain.federated.boxes import SIDES, coded, conditions_of, replayed
from aimass.explain.federated.marginals import uniforms
from aimass.explain.federated.sums import Release
from aimass.explain.lineage import Lineage
from aimass.explain.prim.box import contains
from aimass.explain.prim.coding import Coded
from aimass.explain.prim.peeling import peel
from aimass.explain.prim.regions import Regions
from aimass.explain.work import Work
from aimass.proto.analysis import AtPartner
from aimass.proto.asks import Ask
from aimass.proto.rows import Batch
from tests.explain.federated.hospitals import TASK, at, heart, heart_blob, hospitals, pooled
from tests.explain.federated.test_analyses import ask
from tests.explain.federated.together import together

QUESTION = ask({"target": "label", "boxes": 2, "support": 0.1})


def told(question: Ask, partners: tuple[AtPartner, ...]) -> Regions:
    found = together(prim.analysis, question, partners)
    return prim.analysis.read(question, found, Lineage(model="heart", partners=4), Release(partners=4))


def test_the_trail_is_the_one_that_the_pooled_rows_are_peeled_along() -> None:
    whole, search = pooled(hospitals()), prim.search_of(QUESTION)
    found = together(prim.analysis, QUESTION, at(hospitals()))
    trail = replayed(search, [one.sums for one in found]).done[0]
    keys = np.concatenate([one.keys for one in at(hospitals())])
    searches = uniforms(keys, "prim sides", QUESTION.seed) < SIDES["searched"][1]
    data = Coded(search.columns, coded(search.columns, whole.rows)[searches])
    target = whole.rows.need_labels()[searches].astype(np.float64)
    path = peel(data, target, search.fraction, search.support * searches.sum(), search.conditions, Work())
    assert len(path.peels) == len(trail.keeps) - 1 > 5
    np.testing.assert_array_equal(path.counts, [one["searched"] for one in trail.sums])
    for step, keeps in enumerate(trail.keeps):
        for one, other in zip(path.box(step), keeps, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_box_in_words_holds_the_rows_that_were_counted() -> None:
    whole = pooled(hospitals())
    found = told(QUESTION, at(hospitals()))
    assert found.regions
    first = found.regions[0]
    within = contains(first.conditions, whole.rows)
    sides = uniforms(np.concatenate([one.keys for one in at(hospitals())]), "prim sides", QUESTION.seed)
    judged = within & (sides >= SIDES["judged"][0])
    assert (first.judged.rows, first.judged.of) == (judged.sum(), (sides >= 0.7).sum())
    assert first.judged.mean == pytest.approx(whole.rows.need_labels()[judged].mean())
    assert first.judged.mean is not None
    assert first.judged.mean > 0.8
    true = whole.rows.need_labels()
    tail = stats.hypergeom.sf(true[judged].sum() - 1, first.judged.of, true[sides >= 0.7].sum(), judged.sum())
    assert first.p == pytest.approx(2 * tail, rel=1e-6)  # the smaller of two, corrected
    assert first.more_low is not None
    assert 0 < first.more_low < first.judged.mean - (first.judged.outside or 0)
    assert "p = " in found.describe()[1]
    assert ": confirmed" in found.describe()[1]
    second = found.regions[1]
    assert second.searched.of == first.searched.of - first.searched.rows


def planted(rows: int, seed: int, *, null: bool) -> AtPartner:
    """Labels are likely at an age from 60 on and of men; or by chance alone."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 920, rows)
    batch = pooled(hospitals()).rows.take(drawn).batch()
    numbers = batch.numbers.copy()
    numbers[:, 0] = rng.uniform(20, 90, rows)
    within = (numbers[:, 0] >= 60) & (batch.categories[:, 0] == 1) & (not null)
    labels = (rng.random(rows) < np.where(within, 0.9, 0.2)).astype(np.int64)
    return AtPartner.of(TASK, heart_blob(), Batch(numbers, batch.categories, None, labels))


def test_a_planted_box_is_recovered_over_partners() -> None:
    partners = tuple(planted(rows, seed, null=False) for seed, rows in enumerate((700, 500, 300)))
    found = told(ask({"target": "label", "boxes": 1}), partners)
    first = found.regions[0]
    by_name = {one.feature.name: one for one in first.conditions}
    assert by_name["sex"].places == (1,)
    assert by_name["age"].low == pytest.approx(60, abs=2)
    assert first.judged.low is not None
    assert first.judged.low > 0.75


def test_in_labels_by_chance_what_is_held_out_is_near_the_base_rate() -> None:
    partners = tuple(planted(rows, seed, null=True) for seed, rows in enumerate((700, 500, 300)))
    for one in told(ask({"target": "label", "boxes": 1}), partners).regions:
        assert one.judged.low is not None
        assert one.judged.low < 0.2 < (one.judged.high or 0) + 0.03
        assert not one.confirmed


def test_low_boxes_and_errors_are_asked_for_alike() -> None:
    low = told(ask({"direction": "low", "boxes": 1}), at(hospitals()))
    assert low.regions[0].judged.mean is not None
    assert low.regions[0].judged.mean < 0.3
    assert low.regions[0].confirmed
    assert (low.regions[0].more_high or 0) < 0
    rare = told(ask({"direction": "low", "target": "label", "boxes": 1}), at(hospitals()))
    assert rare.regions[0].confirmed
    assert all(check.passed for check in rare.checks)
    wrong = told(ask({"target": "error", "boxes": 1, "support": 0.2}), at(hospitals()))
    assert wrong.target == "error rate"
    said = heart().predict(pooled(hospitals()).rows.values).argmax(axis=1)
    whole = (said != pooled(hospitals()).rows.need_labels()).mean()
    assert wrong.judged.mean == pytest.approx(whole, abs=0.05)


def test_a_search_that_is_cut_short_says_so() -> None:
    question = ask({"target": "label", "steps": 3})
    found = together(prim.analysis, question, at(hospitals()))
    assert len(found) == 3
    cut = prim.analysis.read(question, found, Lineage(model="heart"), Release(partners=4))
    assert any("ended after 3 peels" in line for line in cut.caveats)
    assert Regions.from_json(cut.to_json()) == cut


def test_bounds_are_edges_of_bins() -> None:
    search = prim.search_of(QUESTION)
    keeps = tuple(np.ones(len(column.levels) + 1, bool) for column in search.columns)
    keeps[0][:32] = False  # below half of 0 to 120 years
    keeps[0][48:-1] = False
    (condition,) = conditions_of(search.columns, keeps)
    assert condition.holds(np.array([59.99, 60.0, 89.999, 90.0, np.nan])).tolist() == [False, True, True, False, True]
    assert condition.says() == "60 <= age <= 90 years or age is missing"
    assert dataclasses.replace(search, sign=-1.0).width == 65
