"""The search finds exactly the best slices: those of a search through all of them, and one that was planted."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aimass.explain.rows import Feature, Rows
from aimass.explain.segviz.predicates import holds, predicates_of, sentence
from aimass.explain.segviz.sliceline import Measured, bound, measure, score, search
from aimass.explain.work import Work
from aimass.proto.errors import BadInput

Flags = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
Places = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def table(seed: int, rows: int = 200) -> Rows:
    """Two numbers, one with missing cells, and a category."""
    random = np.random.default_rng(seed)
    values = np.stack(
        [random.normal(size=rows), random.integers(0, 4, rows).astype(float), random.integers(0, 3, rows)], axis=1
    )
    values[random.random(rows) < 0.1, 0] = np.nan
    return Rows((Feature(name="a"), Feature(name="b"), Feature(name="c", kind="category", values=tuple("xyz"))), values)


def encoded(rows: Rows, cuts: int = 3) -> tuple[Flags, Places]:
    predicates = predicates_of(rows, cuts)
    met = np.stack([holds((one,), rows) for one in predicates])
    return met, np.array([rows.place(one.column) for one in predicates])


def everything(
    met: Flags, errors: Floats, columns: Places, depth: int, least: int, alpha: float
) -> dict[tuple[int, ...], float]:
    """The scores of all slices, by the definition."""
    n, total, found = len(errors), errors.sum(), {}
    for level in range(1, depth + 1):
        for places in itertools.combinations(range(len(met)), level):
            if len({columns[place] for place in places}) < level:
                continue
            inside = met[list(places)].all(axis=0)
            if inside.sum() >= least and errors[inside].sum() > 0:
                mean = errors[inside].mean() / (total / n)
                found[places] = alpha * (mean - 1) - (1 - alpha) * (n / inside.sum() - 1)
    return {places: value for places, value in found.items() if value > 0}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("alpha", [0.7, 0.95, 1.0])
def test_it_finds_the_best_of_all_slices(seed: int, alpha: float) -> None:
    rows = table(seed)
    met, columns = encoded(rows)
    random = np.random.default_rng(seed + 100)
    errors = random.exponential(size=len(rows)) if seed % 2 else (random.random(len(rows)) < 0.3).astype(float)
    errors[met[0] & met[-1]] *= 3 if seed % 2 else 1
    every = everything(met, errors, columns, 3, 12, alpha)
    found = search(met, errors, columns, Work(), count=8, depth=3, least=12, alpha=alpha)
    wanted = sorted(every.values(), reverse=True)[:8]
    np.testing.assert_allclose(found.scores, wanted, atol=1e-9)
    for places, value in zip(found.slices, found.scores, strict=True):
        assert every[places] == pytest.approx(value)
    assert found.evaluated <= found.possible
    assert found.possible == sum(
        len({columns[p] for p in places}) == level
        for level in (1, 2, 3)
        for places in itertools.combinations(range(len(met)), level)
    )


def test_most_slices_are_never_measured_where_one_stands_out() -> None:
    random = np.random.default_rng(0)
    rows = Rows.of(random.normal(size=(2000, 8)))
    met, columns = encoded(rows)
    errors = (random.random(2000) < 0.1).astype(float)
    planted = (rows.values[:, 0] >= np.quantile(rows.values[:, 0], 0.75)) & (rows.values[:, 1] < 0)
    errors[planted] = 1.0
    found = search(met, errors, columns, Work(), count=3, depth=3, least=100, alpha=0.95)
    assert found.evaluated < found.possible / 2
    inside = met[list(found.slices[0])].all(axis=0)
    assert (inside & planted).sum() > 0.9 * planted.sum()


def test_no_slice_within_limits_scores_more_than_the_bound() -> None:
    random = np.random.default_rng(3)
    for _ in range(300):
        size, most, total = float(random.integers(5, 60)), random.random(), 30.0
        limits = Measured(np.array([size]), np.array([random.random() * size * most]), np.array([most]))
        top = bound(limits, 5, 100, total, 0.9)[0]
        sizes = np.arange(5.0, size + 1)
        sums = np.minimum(limits.sums, sizes * most)
        scores = score(sizes, sums, 100, total, 0.9)
        assert scores.max() <= top + 1e-9


def test_measures_of_parts_add_up_to_those_of_the_whole() -> None:
    rows = table(5)
    met, _ = encoded(rows)
    errors = np.random.default_rng(1).integers(0, 2, len(rows)).astype(float)
    slices = np.array(list(itertools.combinations(range(len(met)), 2)))
    whole = measure(slices, met, errors, Work())
    left, right = (measure(slices, met[:, part], errors[part], Work()) for part in (slice(80), slice(80, None)))
    np.testing.assert_array_equal(left.sizes + right.sizes, whole.sizes)
    np.testing.assert_array_equal(left.sums + right.sums, whole.sums)


def test_the_result_does_not_depend_on_chunks_workers_or_the_order_of_columns() -> None:
    rows = table(7, 3000)
    met, columns = encoded(rows)
    errors = np.random.default_rng(2).random(len(rows))
    plain = search(met, errors, columns, Work(), count=5, depth=3, least=30, alpha=0.9)
    chunked = search(met, errors, columns, Work(memory_bytes=1 << 20, workers=2), count=5, depth=3, least=30, alpha=0.9)
    back = search(met[::-1], errors, columns[::-1], Work(), count=5, depth=3, least=30, alpha=0.9)
    assert plain.slices == chunked.slices
    np.testing.assert_allclose(back.scores, plain.scores, atol=1e-12)


def test_a_model_that_is_never_wrong_has_no_slices() -> None:
    met, columns = encoded(table(1))
    assert search(met, np.zeros(200), columns, Work(), count=5, depth=3, least=10, alpha=0.9).slices == ()
    assert search(met[:0], np.ones(200), columns[:0], Work(), count=5, depth=3, least=10, alpha=0.9).slices == ()
    assert search(met[:, :0], np.ones(0), columns, Work(), count=5, depth=3, least=10, alpha=0.9).slices == ()


def test_more_slices_than_memory_holds_are_refused_by_name() -> None:
    random = np.random.default_rng(0)
    met, errors = random.random((600, 40)) < 0.9, random.random(40)
    with pytest.raises(BadInput, match="more slices than memory holds"):
        search(met, errors, np.arange(600), Work(memory_bytes=1 << 20), count=5, depth=3, least=1, alpha=0.9)


def test_predicates_say_what_a_person_would_and_missing_is_one_of_them() -> None:
    rows = table(2)
    says = [one.says for one in predicates_of(rows, 3)]
    assert "a is missing" in says
    assert {"c = x", "c = y", "c = z", "b < 2", "b >= 2"} <= set(says)
    both = tuple(one for one in predicates_of(rows, 3) if one.says in {"b >= 2", "c = x"})
    assert sentence(both) == "b >= 2 and c = x"
    np.testing.assert_array_equal(holds(both, rows), (rows.values[:, 1] >= 2) & (rows.values[:, 2] == 0))


def test_a_cut_is_where_its_words_say() -> None:
    rows = Rows.of(np.random.default_rng(0).normal(1000, 0.01, size=(50, 1)))
    for one in predicates_of(rows, 3):
        said = float(one.says.split()[-1].replace(",", ""))
        assert said == one.value
        assert 0 < holds((one,), rows).sum() < 50


def test_columns_that_tell_no_row_apart_give_no_predicate() -> None:
    values = np.array([[1.0, np.nan, 0.0], [1.0, np.nan, 0.0]])
    features = (Feature(name="a"), Feature(name="b"), Feature(name="c", kind="category", values=("x",)))
    assert predicates_of(Rows(features, values), 3) == ()
    unseen = Rows(features, np.array([[1.0, np.nan, 0.0], [1.0, np.nan, 7.0]]))
    assert [one.says for one in predicates_of(unseen, 3)] == ["c = x", "c = value 7"]
