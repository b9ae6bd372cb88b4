"""Confusion over a federation: the hospitals' counts add up to the pooled ones, and read as scikit-learn reads them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import confusion_matrix

from aimass.explain.federated.confusion import ConfusionOptions, FederatedConfusion, partial, result, row_norm, tables
from aimass.explain.federated.sums import Release, Sums, added
from aimass.explain.lineage import Lineage
from aimass.explain.models import FunctionModel, model_of_function
from aimass.explain.rows import Rows
from aimass.proto.errors import BadInput
from tests.explain.federated.hospitals import heart, hospitals, pooled

OPTIONS = ConfusionOptions(bins=10, thresholds="0.25, 0.5, 0.8")


def told(sums: Sums, model: FunctionModel, release: Release | None = None) -> FederatedConfusion:
    return result(OPTIONS, model.outputs, sums, Lineage(model=model.name), release or Release(partners=4))


def test_hospitals_sums_are_the_pooled_counts() -> None:
    model, whole = heart(), pooled(hospitals())
    sums = added(partial(OPTIONS, model, one.rows) for one in hospitals())
    every = partial(OPTIONS, model, whole.rows)
    np.testing.assert_array_equal(sums["cells"], every["cells"])
    np.testing.assert_array_equal(sums["classes"], every["classes"])
    np.testing.assert_allclose(sums["scores"], every["scores"], rtol=0, atol=1e-9 * len(whole.rows))


def test_the_confusion_at_every_threshold_is_scikit_learns() -> None:
    model, whole = heart(), pooled(hospitals()).rows
    found = told(added(partial(OPTIONS, model, one.rows) for one in hospitals()), model)
    said, labels = model.predict(whole.values), whole.need_labels()
    np.testing.assert_array_equal(found.classes, confusion_matrix(labels, said.argmax(axis=1)))
    for cut in (0.1, 0.25, 0.5, 0.8):
        (tn, fp), (fn, tp) = confusion_matrix(labels, said[:, 1] >= cut)
        assert found.confusion(cut) == (tp, fp, fn, tn)
    with pytest.raises(BadInput, match="no edge"):
        found.confusion(0.33)


def test_bands_count_what_lies_between_the_thresholds() -> None:
    model = heart()
    found = told(added(partial(OPTIONS, model, one.rows) for one in hospitals()), model)
    whole = pooled(hospitals()).rows
    score, labels = model.predict(whole.values)[:, 1], whole.need_labels()
    band = np.digitize(score, found.cuts)
    for place, (rows, hits, scores) in enumerate(found.bands()):
        assert (rows, hits) == ((band == place).sum(), labels[band == place].sum())
        assert scores == pytest.approx(score[band == place].sum(), abs=1e-6)
    assert sum(f"{place} rows" in line for line in found.describe() for place in map(int, found.bands()[:, 0])) >= 4


def three(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    raised: npt.NDArray[np.float64] = np.exp(values)
    raised /= raised.sum(axis=1, keepdims=True)
    return raised


def test_each_of_several_classes_is_asked_for() -> None:
    model = model_of_function(three, ["a", "b", "c"], ["red", "green", "blue"])
    rng = np.random.default_rng(1)
    rows = Rows.of(rng.normal(size=(50, 3)), ["a", "b", "c"], rng.integers(0, 3, 50))
    found = result(OPTIONS, model.outputs, partial(OPTIONS, model, rows), Lineage(model="m"), Release(partners=1))
    assert found.targets == ("red", "green", "blue")
    assert found.cells.sum(axis=(1, 2)).tolist() == [50, 50, 50]
    assert FederatedConfusion.from_json(found.to_json()) == found
    assert len(found.to_columns()["rows"]) == 3 * (len(OPTIONS.edges) - 1)


def test_no_row_adds_more_than_its_norm() -> None:
    model, rows = heart(), hospitals()[0].rows
    most = max(
        np.sqrt(sum((one**2).sum() for one in partial(OPTIONS, model, rows.take(slice(k, k + 1))).values()))
        for k in range(60)
    )
    assert 1 < most <= row_norm(2)


def test_noise_widens_the_interval_and_is_stated() -> None:
    model, rows = heart(), pooled(hospitals()).rows
    sums = partial(OPTIONS, model, rows)
    bands = told(sums, model).bands()[:, :2]
    _, low, high = told(sums, model).rates(bands)
    noisy = told(sums, model, Release(partners=4, noise={"cells": 8.0}, least_count=5))
    _, lower, higher = noisy.rates(bands)
    assert (higher - lower > high - low).all()
    assert any("cells 8" in line for line in noisy.caveats)
    assert any("fewer than 5 rows" in line for line in noisy.caveats)


def test_what_cannot_be_counted_is_an_error() -> None:
    with pytest.raises(BadInput, match="more than it may"):
        tables(OPTIONS, 10_000)
    with pytest.raises(BadInput, match="of classes"):
        tables(OPTIONS, 1)
    with pytest.raises(ValueError, match="no scores"):
        ConfusionOptions(thresholds="1.5")
    with pytest.raises(BadInput, match="no labels"):
        partial(OPTIONS, heart(), Rows(heart().features, hospitals()[0].rows.values))


def test_the_picture_shows_the_sums() -> None:
    found = told(partial(OPTIONS, heart(), hospitals()[0].rows), heart())
    titles = [panel.title for panel in found.picture().panels]
    assert titles == ["Label and likeliest class", "Calibration", "Bands"]
    assert found.to_chart().to_dict()
