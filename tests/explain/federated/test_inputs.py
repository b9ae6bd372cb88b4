"""What a server sends for a later step: honest inputs are taken, all others are errors with a name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from aimass.explain.federated.asking import bounded_model_at, largest_loss
from aimass.explain.federated.marginals import FINE, edges_of
from aimass.explain.federated.slice_search import predicates_in
from aimass.explain.losses import losses
from aimass.explain.rows import features_of
from aimass.proto.analysis import AtPartner, check_sums
from aimass.proto.asks import phase_at
from aimass.proto.errors import BadInput
from aimass.proto.predictors import Predictor
from aimass.proto.rows import Batch
from aimass.proto.tensors import Blob
from tests.explain.federated.hospitals import TASK, at, heart_blob, hospitals
from tests.explain.federated.test_analyses import ALL, SHARED, few
from tests.explain.federated.together import together

Floats = npt.NDArray[np.float64]
STEPS = ("permutation", "ale", "pdp", "prim", "slices")
FEATURES = features_of(TASK.schema)
_SOUND = {("edges", "nan"), ("grid", "nan"), ("marginals", "drawn")}
"""No steps at all, and counts that noise has moved."""
AGE = next(place for place, one in enumerate(FEATURES) if one.kind == "number")
SEX = next(place for place, one in enumerate(FEATURES) if one.kind == "category")


def honest(name: str) -> dict[str, Floats]:
    """What the second step has."""
    analysis, question = ALL[name]
    found = together(analysis, question, at(few(12)))
    return {key: np.array(one) for key, one in (analysis.next(question, found[:1]) or {}).items()}


def answered(name: str, inputs: Mapping[str, Any], rows: int = 12) -> None:
    analysis, question = ALL[name]
    partner = dataclasses.replace(at(few(rows))[0], inputs=inputs)
    check_sums(phase_at(analysis.phases(question), 1), analysis.compute(question, 1, partner))


def spoilt(one: Floats, rng: np.random.Generator) -> dict[str, Any]:
    """The same array in ways that no honest server has it."""
    return {
        "nan": np.full_like(one, np.nan), "infinite": np.full_like(one, np.inf), "huge": np.full_like(one, 1e300),
        "drawn": rng.normal(size=one.shape) * 50, "less": one[:, :-1], "repeated": np.concatenate([one] * 5, axis=-1),
        "flat": one.reshape(-1), "deeper": one[None], "single": one.astype(np.float32), "whole": np.nan_to_num(one).astype(np.int64),
    }  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_odd_inputs_are_errors_with_a_name_whether_there_are_rows_or_none(name: str) -> None:
    inputs, rng = honest(name), np.random.default_rng(3)
    answered(name, inputs)
    with pytest.raises(BadInput, match="is not there"):
        answered(name, {})
    for key, one in inputs.items():
        for way, odd in spoilt(one, rng).items():
            for rows in (0, 12):
                if (key, way) in _SOUND:
                    answered(name, inputs | {key: odd}, rows)
                    continue
                with pytest.raises(BadInput) as error:
                    answered(name, inputs | {key: odd}, rows)
                    pytest.fail(f"{way} {key} are taken")
                assert error.value.code == "explain.inputs"


@pytest.mark.parametrize("name", ["confusion", "ale", "pdp", "prim", "slices"])
def test_what_computes_with_nothing_shared_refuses_what_is_shared(name: str) -> None:
    analysis, question = ALL[name]
    analysis.check(question)
    with pytest.raises(BadInput, match="nothing that is shared"):
        analysis.check(msgspec.structs.replace(question, shared=SHARED))


@pytest.mark.parametrize(("name", "key"), [("ale", "edges"), ("pdp", "grid")])
def test_edges_ascend_over_the_public_ones(name: str, key: str) -> None:
    own, inputs = edges_of(FEATURES[AGE], FINE), honest(name)
    for steps in ([own[3], own[3]], [own[9], own[3]], [own[3], np.nan, own[9]], [own[3], (own[3] + own[4]) / 2]):
        edges = inputs[key].copy()
        edges[AGE] = np.nan
        edges[AGE, : len(steps)] = steps
        with pytest.raises(BadInput, match=f"{key} of {FEATURES[AGE].name}"):
            answered(name, {key: edges}, rows=0)
    edges[AGE, :3] = own[3], own[9], np.nan
    edges[SEX] = np.nan
    edges[SEX, :2] = 0.0, 1.0
    answered(name, {key: edges})
    edges[SEX, :2] = 0.0, 0.5
    with pytest.raises(BadInput, match=f"{key} of {FEATURES[SEX].name}"):
        answered(name, {key: edges})


def test_a_predicate_names_the_place_of_a_public_edge() -> None:
    inputs = honest("slices")
    cuts = inputs["predicates"][(inputs["predicates"][:, 1] < 2)]
    assert len(cuts)
    assert (cuts[:, 2] == np.rint(cuts[:, 2])).all()
    for (place, _, value), told in zip(cuts, predicates_in(FEATURES, cuts), strict=True):
        assert told.value == edges_of(FEATURES[int(place)], FINE)[int(value)]
    for odd in ((AGE, 0, 3.5), (AGE, 0, 0), (AGE, 1, FINE), (AGE, 2, 1), (SEX, 0, 1), (SEX, 2, 0.5), (SEX, 2, 9), (SEX, 3, 1),
                (-1, 0, 3), (99, 0, 3), (AGE, 4, 3), (AGE, -1, 3), (AGE, 0.5, 3)):  # fmt: skip
        table = inputs["predicates"].copy()
        table[0] = odd
        with pytest.raises(BadInput) as error:
            answered("slices", inputs | {"predicates": table}, rows=0)
        assert error.value.code == "explain.inputs"


def test_slices_are_of_these_predicates_and_no_more_than_a_step_measures() -> None:
    inputs = honest("slices")
    wanted, size = inputs["slices"], 2_048
    odds = (wanted - len(inputs["predicates"]), wanted + 1e6, wanted + 0.5, np.tile(wanted[:1], (size + 1, 1)))
    for odd in (*odds, np.tile(wanted, (1, 3))):
        with pytest.raises(BadInput) as error:
            answered("slices", inputs | {"slices": odd})
        assert error.value.code == "explain.inputs"
    with pytest.raises(BadInput, match="more predicates"):
        answered("slices", inputs | {"predicates": np.tile(inputs["predicates"], (20, 1))})


def test_what_a_task_says_beyond_chances_is_cut_to_them() -> None:
    class Loud(type(TASK)):  # type: ignore[misc]
        """The heart task, which shouts."""

        def predictor(self, parameters: Blob, device: str = "cpu") -> Predictor:
            def shout(rows: Batch, block: int = 0, /) -> Floats:
                return np.tile([-4.0, 9.0], (len(rows.labels), 1))

            return shout

    partner = AtPartner.of(Loud(), heart_blob(), few(5)[0].rows.batch())
    question, rows = ALL["permutation"][1], hospitals()[0].rows.take(slice(5))
    said = bounded_model_at(question, partner).predict(rows.values)
    assert (said == np.tile([0.0, 1.0], (5, 1))).all()
    analysis, question = ALL["confusion"]
    sums = analysis.compute(question, 0, partner)
    assert sums["scores"].min() == 0.0
    assert np.abs(sums["scores"]).max() <= len(rows)
    three = losses(np.ones((1, 3)), np.array([0]), "brier") + losses(np.array([[0.0, 1, 1]]), np.array([0]), "brier")
    assert three.max() <= 2 * largest_loss(TASK.schema, "brier")
    assert losses(np.array([[0.0, 1, 1, 1]]), np.array([0]), "brier") == largest_loss(TASK.schema, "brier")
