from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aimass.client.flower_sums import summable
from aimass.proto.contribution import Limits, Metric, check_contribution
from aimass.proto.elements import update_shapes
from aimass.proto.errors import BadInput
from aimass.proto.step import StepKind
from aimass.proto.tensors import Blob, encode_numpy
from tests.support.flower_node import arrays

OLD: dict[str, np.ndarray] = {
    "w": np.array([[1.0, 2.0]], np.float32),
    "s": np.array(0.5),
    "n": np.array([3], np.int64),
    "flag": np.array([True]),
    "preprocess.mean": np.array([7.0]),
}
MODEL = Blob(encode_numpy(OLD))


def reply(record: ArrayRecord | None = None, **metrics: Any) -> RecordDict:
    content = RecordDict({"metrics": MetricRecord({"num-examples": 10, **metrics})})
    if record is not None:
        content["arrays"] = record
    return content


def test_an_update_is_new_minus_old_weighted_by_the_count_of_examples() -> None:
    new = arrays(**(OLD | {"w": OLD["w"] + np.float32(1), "s": np.array(1.0), "n": np.array([5])}))
    made = summable(StepKind.TRAIN, reply(new, loss=0.5), MODEL, "rows")
    update = made.groups["update"]
    assert {name: each.tolist() for name, each in update.tensors.items()} == {"w": [[1.0, 1.0]], "s": 0.5, "n": [2]}
    assert update.weight == 10
    assert made.metrics == {"loss": Metric(5.0, 10.0)}
    check_contribution(made, {"update": update_shapes(MODEL.layout)}, Limits())


def test_where_every_partner_counts_alike_the_count_of_examples_stays_here() -> None:
    made = summable(StepKind.TRAIN, reply(arrays(**OLD), loss=0.5), MODEL, "one")
    assert made.groups["update"].weight == 1
    assert made.metrics == {"loss": Metric(0.5, 1.0)}
    assert summable(StepKind.EVALUATE, RecordDict({"m": MetricRecord({"loss": 2.0})}), MODEL, "rows").metrics == {
        "loss": Metric(2.0, 1.0)
    }


def test_numpys_numbers_are_numbers_and_truth_values_are_none() -> None:
    made = summable(StepKind.EVALUATE, reply(loss=np.float64(0.5)), MODEL, "rows")
    assert made.metrics == {"loss": Metric(5.0, 10.0)}
    legacy = ConfigRecord({"accuracy": 0.5, "sure": True, "who": "north"})
    made = summable(StepKind.EVALUATE, RecordDict({"evaluateres.metrics": legacy}), MODEL, "rows")
    assert made.metrics == {"accuracy": Metric(0.5, 1.0)}


def test_of_an_evaluation_the_numbers_are_summed_and_nothing_else_leaves() -> None:
    content = reply(loss=0.5, many=[1.0, 2.0])
    content["notes"] = ConfigRecord({"name": "Mr Miller", "rate": 0.5})
    made = summable(StepKind.EVALUATE, content, MODEL, "rows")
    assert made.groups == {}
    assert made.metrics == {"loss": Metric(5.0, 10.0)}


@hypothesis.given(
    old=hnp.arrays(np.float32, (3,), elements=st.floats(-1e6, 1e6, width=32)),
    new=hnp.arrays(np.float32, (3,), elements=st.floats(-1e6, 1e6, width=32)),
)
def test_a_sum_of_updates_leads_to_the_mean_of_the_replies(old: np.ndarray, new: np.ndarray) -> None:
    made = summable(StepKind.TRAIN, reply(arrays(w=new)), Blob(encode_numpy({"w": old})), "rows")
    moved = old.astype(np.float64) + made.groups["update"].tensors["w"]
    assert np.allclose(moved, new, rtol=1e-6, atol=1e-6 * (1 + np.abs(old).max()))


def _without(content: RecordDict, key: str) -> RecordDict:
    del content["metrics"][key]
    return content


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        (StepKind.TRAIN, RecordDict({"a": arrays(**OLD), "b": arrays(**OLD), **reply()}), "flower.array_records"),
        (StepKind.TRAIN, reply(), "flower.array_records"),
        (StepKind.EVALUATE, reply(arrays(**OLD)), "flower.array_records"),
        (StepKind.TRAIN, reply(arrays(w=OLD["w"])), "flower.arrays"),
        (StepKind.TRAIN, reply(arrays(**OLD, more=np.zeros(1))), "flower.arrays"),
        (StepKind.TRAIN, reply(arrays(**(OLD | {"w": np.zeros((1, 2))}))), "flower.arrays"),
        (StepKind.TRAIN, reply(arrays(**(OLD | {"w": np.zeros((2, 1), np.float32)}))), "flower.arrays"),
        (StepKind.TRAIN, reply(arrays(**(OLD | {"flag": np.array([False])}))), "flower.not_summable"),
        (StepKind.TRAIN, reply(arrays(**(OLD | {"preprocess.mean": np.array([8.0])}))), "flower.not_summable"),
        (StepKind.TRAIN, reply(arrays(**(OLD | {"n": np.array([3], np.uint32)}))), "flower.not_summable"),
        (StepKind.TRAIN, _without(reply(arrays(**OLD)), "num-examples"), "flower.weight"),
        (StepKind.TRAIN, reply(arrays(**OLD), **{"num-examples": 0}), "flower.weight"),
        (StepKind.TRAIN, reply(arrays(**OLD), **{"num-examples": float("nan")}), "flower.weight"),
        (
            StepKind.EVALUATE,
            RecordDict({**reply(), "evaluateres.status": ConfigRecord({"code": 2, "message": "Mr Miller"})}),
            "flower.error",
        ),
    ],
)
def test_a_reply_of_which_no_sum_can_be_made_is_refused_by_name(kind: StepKind, content: RecordDict, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        summable(kind, content, MODEL, "rows")
    assert caught.value.code == code
    assert "Miller" not in str(caught.value)


def test_a_number_that_is_not_finite_does_not_pass_the_gate() -> None:
    record = arrays(**OLD)
    record["w"] = Array(np.array([[np.nan, 1.0]], np.float32))
    for content in (reply(record), reply(arrays(**OLD), loss=float("inf"))):
        made = summable(StepKind.TRAIN, content, MODEL, "rows")
        with pytest.raises(BadInput):
            check_contribution(made, {"update": update_shapes(MODEL.layout)}, Limits())
