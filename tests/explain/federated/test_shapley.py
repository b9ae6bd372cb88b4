"""Mean |SHAP| over partners: the closed form of a linear model, and a background that is nobody's rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from aimass.explain.federated import shapley
from aimass.explain.federated.background import (
    background_of,
    noised_background,
    public_background,
    synthetic_background,
    told_background,
)
from aimass.explain.federated.marginals import counted
from aimass.explain.federated.sums import Release, added
from aimass.explain.lineage import Lineage
from aimass.explain.models import model_of_function
from aimass.explain.rows import Rows
from aimass.proto.asks import Ask, Shared
from aimass.proto.errors import BadInput, LimitExceeded
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.tensors import Array
from tests.explain.federated.hospitals import TASK, at, hospitals
from tests.explain.federated.test_analyses import SHARED, ask, few
from tests.explain.federated.together import together

WEIGHTS = np.array([2.0, -1.0, 0.0])


def test_a_linear_model_has_its_closed_form() -> None:
    rng = np.random.default_rng(3)
    parts, background = [rng.normal(k, 1 + k, (40, 3)) for k in range(3)], rng.normal(size=(30, 3))
    model = model_of_function(lambda values: values @ WEIGHTS, ["a", "b", "unused"])
    sums = added(shapley.partial(model, Rows.of(one, ["a", "b", "unused"]), background, (0,)) for one in parts)
    values = WEIGHTS * (np.concatenate(parts) - background.mean(axis=0))
    np.testing.assert_allclose(sums["sizes"][:, 0], np.abs(values).sum(axis=0), atol=1e-9)
    np.testing.assert_allclose(sums["values"][:, 0], values.sum(axis=0), atol=1e-9)
    np.testing.assert_allclose(sums["squares"][:, 0], (values**2).sum(axis=0), atol=1e-9)


def test_the_result_names_its_background_and_its_partners() -> None:
    found = together(shapley.analysis, ask({}, shared=True), at(few()))
    told = shapley.analysis.read(ask({}, shared=True), found, Lineage(model="heart", partners=4), Release(partners=4))
    assert any("background that is synthetic" in line for line in told.caveats)
    assert (told.low > 0).all()
    assert told.describe()[0] == "Over 100 rows at 4 partners, mean |SHAP| of yes:"


def test_without_a_background_nothing_is_explained() -> None:
    with pytest.raises(BadInput, match="background is empty"):
        shapley.analysis.check(ask({}))
    odd = Shared.of("public", "rows of another table", {"background": np.zeros((5, 2))})
    with pytest.raises(BadInput, match="does not fit"):
        shapley.analysis.check(Ask(schema=TASK.schema, shared=odd))


def test_more_features_than_all_coalitions_allow_are_refused() -> None:
    columns = tuple(Number(name=f"x{place}", minimum=0, maximum=1) for place in range(14))
    schema = Schema(name="wide/1", columns=columns, label=Category(name="y", values=("a", "b")))
    with pytest.raises(LimitExceeded, match="too many features"):
        shapley.analysis.check(Ask(schema=schema, shared=synthetic_background(schema)))


def test_synthetic_rows_lie_within_the_schema() -> None:
    values = background_of(Ask(schema=TASK.schema, shared=synthetic_background(TASK.schema, rows=200)))
    for column, cells in zip(TASK.schema.columns, values.T, strict=True):
        if isinstance(column, Number):
            assert column.minimum <= cells.min() < cells.max() <= column.maximum
        else:
            assert set(cells) == set(range(len(column.values)))  # type: ignore[union-attr]


def test_a_noised_background_is_spread_as_its_counts_are() -> None:
    rows = hospitals()[0].rows
    shared = noised_background(TASK.schema, counted(rows)["marginals"], "the histogram of run r1", rows=2_000)
    assert (shared.kind, "run r1" in shared.says) == ("noised", True)
    values = background_of(Ask(schema=TASK.schema, shared=shared))
    for place, feature in enumerate(rows.features):
        if feature.kind == "number" and not np.isnan(rows.values[:, place]).all():
            mean, spread = np.nanmean(rows.values[:, place]), np.nanstd(rows.values[:, place])
            assert np.nanmean(values[:, place]) == pytest.approx(mean, abs=float(0.15 * spread + 0.3))


def sharing(kind: str, says: str, arrays: Mapping[str, Array]) -> Ask:
    return Ask(schema=TASK.schema, shared=Shared.of(kind, says, dict(arrays)))  # type: ignore[arg-type]


def test_what_is_said_to_be_synthetic_is_made_again_to_the_bit() -> None:
    shared = synthetic_background(TASK.schema, rows=5, seed=9)
    arrays, person = dict(shared.arrays()), hospitals()[0].rows.values[:1]
    assert len(background_of(Ask(schema=TASK.schema, shared=shared))) == 5
    bit = arrays["background"].copy()
    bit[2, 0] = np.nextafter(bit[2, 0], np.inf)
    forged: list[dict[str, Array]] = [
        arrays | {"background": person},
        arrays | {"background": bit},
        arrays | {"background": np.concatenate([arrays["background"], person])},
        arrays | {"seed": np.array(8)},
        arrays | {"seed": np.array([9])},
        arrays | {"background": arrays["background"].astype(np.float32)},
        {"background": arrays["background"]},
    ]
    for one in forged:
        with pytest.raises(BadInput, match="said to be synthetic"):
            background_of(sharing("synthetic", shared.says, one))
    with pytest.raises(BadInput, match="said to be synthetic"):
        background_of(sharing("synthetic", "made from nothing", arrays))


def test_nothing_else_is_shared_beside_a_background_and_it_fits_its_columns() -> None:
    shared = synthetic_background(TASK.schema, rows=5, seed=9)
    with pytest.raises(BadInput, match="more is shared"):
        background_of(sharing("synthetic", shared.says, shared.arrays() | {"extra": np.arange(5.0)}))
    rows = hospitals()[0].rows.values[:3]
    with pytest.raises(BadInput, match="more is shared"):
        background_of(sharing("public", "UCI", {"background": rows, "seed": np.array(9)}))
    for odd in (-1.0, 0.5, 99.0):
        wrong = rows.copy()
        wrong[0, next(place for place, one in enumerate(TASK.schema.columns) if isinstance(one, Category))] = odd
        with pytest.raises(BadInput, match="has a value that its column has not"):
            background_of(sharing("public", "UCI", {"background": wrong}))


def test_what_only_who_asks_knows_is_said_to_be_by_his_word() -> None:
    rows = hospitals()[0].rows.take(slice(5))
    for shared in (
        public_background(rows, "UCI"),
        noised_background(TASK.schema, counted(rows)["marginals"], "run r1", rows=5),
    ):
        told = told_background(Ask(schema=TASK.schema, shared=shared))
        assert f"that is {shared.kind}, by the word of who asks: " in told
    assert "word" not in told_background(Ask(schema=TASK.schema, shared=SHARED))


def test_public_rows_are_what_they_are() -> None:
    rows = hospitals()[0].rows.take(slice(5))
    shared = public_background(rows, "the cleveland file of UCI")
    np.testing.assert_array_equal(background_of(Ask(schema=TASK.schema, shared=shared)), rows.values)
    assert SHARED.kind == "synthetic"
    with pytest.raises(BadInput, match="cannot be shown"):
        public_background(rows, "a file\nshared nothing")
