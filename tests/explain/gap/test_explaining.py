"""The whole question: every view of one model, told, drawn and read again, and what is hard to ask."""

from __future__ import annotations

import re
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.explain.cache import asking_key
from aimass.explain.gap import GapOptions, GapResult, explain
from aimass.explain.models import FunctionModel, model_of_function
from aimass.explain.questions import Asking, question
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work
from aimass.explain.writing import write_result
from aimass.proto.errors import BadInput, DeadlinePassed, NotFound

QUICK = GapOptions(
    features=2, curve_rows=60, pair_rows=40, shapley_rows=30, references=20, sage_rows=40, sage_references=10
)
FEATURES = (
    Feature(name="age", unit="years"),
    Feature(name="oldpeak", unit="mm"),
    Feature(name="cp", kind="category", values=("none", "typical", "other")),
    Feature(name="spare"),
)


def ward(rows: int = 200, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    values = np.stack(
        [rng.normal(55, 10, rows), rng.exponential(size=rows), rng.integers(0, 3, rows), rng.normal(size=rows)], axis=1
    )
    values[:9, 1] = np.nan
    labels = (rng.random(rows) < doctor().predict(values)[:, 1]).astype(np.int64)
    return Rows(FEATURES, values, labels, ("healthy", "ill"), "ward", True)


def doctor() -> FunctionModel:
    def says(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> object:
        score = (values[:, 0] - 55) / 5 + np.nan_to_num(values[:, 1]) * np.nan_to_num(values[:, 2])
        return 1 / (1 + np.exp(-score))

    return model_of_function(says, FEATURES, ("healthy", "ill"), name="doctor")


def test_every_view_is_told_drawn_and_read_again() -> None:
    found = explain(doctor(), ward(), QUICK, Work(seed=2))
    assert list(found.views()) == ["importance", "sage", "shapley", "ale", "dependence", "interactions"]
    assert GapResult.from_json(found.to_json()) == found
    for view in found.views().values():
        assert view.lineage.line() == "doctor (a function); ward: 200 rows, held out"
        assert view.lineage.seed == 2
        assert view.describe()
        assert len({len(column) for column in view.to_columns().values()}) == 1
        assert view.picture().shows_not
        assert "<svg" in view.to_svg()
        assert view.checks
        assert type(view).from_json(view.to_json()) == view
    assert set(found.importance.top(2)) == {one.feature.name for one in found.ale.curves}


@pytest.mark.parametrize("view", ["importance", "sage", "shapley", "ale", "dependence", "interactions"])
def test_a_view_alone_is_that_of_the_whole(view: str) -> None:
    part = question("gap").part(view)
    asking = Asking(part, doctor(), ward(), QUICK)
    found = asking.answer(Work(seed=2))
    assert found == explain(doctor(), ward(), QUICK, Work(seed=2)).views()[view]
    assert part.result is type(found)
    assert asking_key(asking, 2) != asking_key(Asking(question("gap"), doctor(), ward(), QUICK), 2)


def test_curves_are_of_the_features_that_are_named() -> None:
    found = explain(doctor(), ward(), msgspec.structs.replace(QUICK, curves=("spare", "cp")))
    assert [one.feature.name for one in found.ale.curves] == ["spare", "cp"]
    assert [one.feature.name for one in found.dependence.curves] == ["spare", "cp"]
    assert len(found.interactions.pairs) == 1
    with pytest.raises(NotFound, match="no such feature"):
        explain(doctor(), ward(), msgspec.structs.replace(QUICK, curves=("weight",)))


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_goes_forward_through_all_views(workers: int) -> None:
    heard: list[tuple[float, str]] = []
    work = Work(memory_bytes=1 << 20, workers=workers, tell=lambda share, what: heard.append((share, what)))
    explain(doctor(), ward(2_000), QUICK, work)
    shares = [share for share, _ in heard]
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
    assert any("SAGE" in what for _, what in heard)


def test_the_same_seed_gives_the_same_result_whatever_the_workers() -> None:
    assert explain(doctor(), ward(), QUICK, Work(seed=5)) == explain(doctor(), ward(), QUICK, Work(seed=5, workers=2))
    other = explain(doctor(), ward(), QUICK, Work(seed=6))
    assert other.importance.value[0] != explain(doctor(), ward(), QUICK, Work(seed=5)).importance.value[0]


def test_a_row_whose_features_are_given_in_another_order_has_the_same_importance() -> None:
    rows, turn = ward(), np.array([3, 2, 0, 1])
    turned = Rows(tuple(FEATURES[place] for place in turn), rows.values[:, turn], rows.labels, rows.classes)
    model = model_of_function(
        lambda values: doctor().predict(values[:, np.argsort(turn)])[:, 1], turned.features, ("healthy", "ill")
    )
    one, other = explain(doctor(), rows, QUICK), explain(model, turned, QUICK)
    np.testing.assert_allclose(other.importance.value, one.importance.value[turn], atol=1e-12)
    by_name = {curve.feature.name: curve.value for curve in other.ale.curves}
    for curve in one.ale.curves:
        np.testing.assert_allclose(by_name[curve.feature.name], curve.value, atol=1e-12)


def test_one_feature_has_no_pair_and_a_constant_no_curve() -> None:
    values = np.stack([np.arange(30.0)], axis=1)
    model = model_of_function(lambda cells: cells[:, 0], ("a",))
    found = explain(model, Rows.of(values, ("a",), values[:, 0]), QUICK)
    assert found.interactions.pairs == ()
    assert found.sage.value[0] == pytest.approx(found.sage.whole)
    for lonely in (np.ones((30, 1)), np.full((30, 1), np.nan)):
        flat = explain(
            model_of_function(lambda cells: np.zeros(len(cells)), ("a",)), Rows.of(lonely, ("a",), values[:, 0]), QUICK
        )
        assert flat.importance.value.tolist() == [0.0]
        assert flat.ale.curves == ()
        for view in flat.views().values():
            assert view.describe() is not None
            assert "<svg" in view.to_svg()


def test_ten_thousand_classes_stay_within_the_memory() -> None:
    classes = tuple(map(str, range(10_000)))

    def says(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> object:
        assert len(values) * 10_000 * 8 <= 32 << 20
        found = np.full((len(values), 10_000), 1e-4)
        found[:, 7] += np.tanh(values[:, 0]) * 1e-5
        return found

    model = model_of_function(says, ("a", "b"), classes)
    rows = Rows.of(np.random.default_rng(0).normal(size=(40, 2)), ("a", "b"), np.full(40, 7), classes)
    few = msgspec.structs.replace(QUICK, shapley_rows=3, references=3, sage_rows=5, sage_references=3, pair_rows=5)
    found = explain(model, rows, few, Work(memory_bytes=32 << 20))
    assert found.ale.output == "predicted probability of 7"


def test_what_cannot_be_asked_is_named() -> None:
    with pytest.raises(BadInput, match="too few rows"):
        explain(doctor(), ward(2), QUICK)
    with pytest.raises(BadInput, match="no labels"):
        explain(doctor(), Rows(FEATURES, ward().values), QUICK)
    with pytest.raises(BadInput, match="background is empty"):
        explain(doctor(), ward(), QUICK, background=ward().take(slice(0, 0)))
    with pytest.raises(BadInput, match="other columns"):
        explain(doctor(), Rows.of(np.ones((9, 2)), labels=np.ones(9)), QUICK)
    with pytest.raises(DeadlinePassed):
        explain(doctor(), ward(), QUICK, Work(until=time.monotonic() - 1))


def test_what_holds_single_rows_is_private_and_says_so_and_by_default_no_cell_is_exact(tmp_path: Path) -> None:
    found = explain(doctor(), ward(), QUICK, Work(seed=2))
    ages = ward().values[:, 0]
    assert not {repr(age) for age in ages} & set(re.findall(r"[0-9.]+", found.shapley.to_json().decode()))
    assert found.rows_held == 30
    for path in write_result(tmp_path, "gap", found, ("html", "json", "csv")):
        private = path.name in {"gap.html", "gap.json", "gap-shapley.csv"}
        assert path.stat().st_mode & 0o777 == (0o600 if private else 0o644), path
    assert "Something of single rows or images stands in this file: of 30 in" in (tmp_path / "gap.html").read_text()
    whole = explain(doctor(), ward(), msgspec.structs.replace(QUICK, with_rows=True), Work(seed=2))
    assert set(whole.shapley.cells[:, 0]) <= set(ages)
    assert "30 single rows stand in it: keep it as you keep the rows." in " ".join(whole.warnings())
