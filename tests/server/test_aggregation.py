"""Sums against plain numpy, and drivers against what the papers say."""

from __future__ import annotations

import functools
import math
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aimass.proto.contribution import Contribution, Group, Metric, decode_contribution
from aimass.proto.elements import as_float64
from aimass.proto.plan import AnalysisNoise, Plan, PrivacySettings, Stage, TaskRef, TrainSettings
from aimass.proto.storage import FileBlobs
from aimass.proto.tensors import Array, Blob, encode_numpy
from aimass.server.aggregation.models import BLOCK, ModelStore
from aimass.server.aggregation.sums import SpooledSums, added_metrics
from aimass.server.drivers.averaging import AveragingState
from aimass.server.drivers.averaging import driver as averaging
from aimass.server.drivers.base import Context, Done, StepResult
from aimass.server.drivers.statistics import StatisticsState
from aimass.server.drivers.statistics import driver as statistics


def plan(*stages: Stage) -> Plan:
    return Plan(
        name="test", task=TaskRef(name="heart", digest="0" * 64), data_schema="heart/1", seed=1, model="0" * 64,
        stages=stages, train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1),
    )  # fmt: skip


def update(weight: float, **tensors: object) -> Contribution:
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in tensors.items()}
    made = Contribution({"update": Group(weight, arrays)}, {"loss": Metric(weight, 2.0)}, {})
    return decode_contribution(Blob(made.encode()))


@given(
    st.lists(
        st.tuples(st.floats(1, 100), st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3)),
        min_size=1,
        max_size=5,
    )
)
def test_a_sum_is_the_ordered_float64_sum_of_weight_times_tensor(parts: list[tuple[float, list[float]]]) -> None:
    sums = SpooledSums([update(weight, a=values) for weight, values in parts])
    terms = [weight * np.asarray(values, dtype=np.float32).astype(np.float64) for weight, values in parts]
    oracle = functools.reduce(np.add, terms)
    assert sums.total("update", "a").tobytes() == oracle.tobytes()
    for part in (slice(0, 1), slice(1, 3), slice(3, 3)):
        assert sums.part("update", "a", part).tobytes() == oracle[part].tobytes()
    assert sums.weight("update") == sum(weight for weight, _ in parts)


@given(st.permutations(("north", "south", "east", "west")), st.integers(1, 7))
def test_a_sum_has_the_same_bits_in_whatever_parts_and_order_of_arrival_and_for_all_element_types(
    arrival: list[str], part: int
) -> None:
    rng = np.random.default_rng(3)
    kinds: dict[str, Array] = {
        "f64": rng.normal(size=20), "f32": rng.normal(size=20).astype(np.float32),
        "f16": rng.normal(size=20).astype(np.float16), "bf16": (rng.normal(size=20).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16),
        "i64": rng.integers(-9, 9, 20), "grid": rng.normal(size=(4, 5)).astype(np.float32),
    }  # fmt: skip
    weights = {"east": 0.1, "north": 7.3, "south": 1e-7, "west": 41.0}
    stored = {
        name: decode_contribution(Blob(Contribution({"update": Group(weight, kinds)}, {}, {}).encode()))
        for name, weight in weights.items()
    }
    arrived = {name: stored[name] for name in arrival}
    sums = SpooledSums([arrived[name] for name in sorted(arrived)])
    for name, values in kinds.items():
        terms = [weights[key] * as_float64(values).reshape(-1) for key in sorted(weights)]
        oracle = functools.reduce(np.add, terms)
        cut = [sums.part("update", name, slice(start, start + part)) for start in range(0, 20, part)]
        assert np.concatenate(cut).tobytes() == oracle.tobytes()
        assert sums.total("update", name).tobytes() == oracle.tobytes()


def test_metrics_add_up_and_a_partner_without_one_adds_nothing() -> None:
    both = added_metrics([update(3.0, a=[0]).metrics, {"loss": Metric(1.0, 1.0), "auc": Metric(2.0, 4.0)}])
    assert both == {"auc": Metric(2.0, 4.0), "loss": Metric(4.0, 3.0)}


def test_averaging_moves_the_model_by_the_weighted_mean_times_the_server_rate(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    model: dict[str, Array] = {
        "w": np.array([1.0, 2.0], np.float32),
        "steps": np.array(5, np.int64),
        "preprocess.mean": np.array([9.0]),
    }
    start = blobs.put([encode_numpy(model)])
    stage = Stage(driver="averaging", options={"rounds": 1, "server_learning_rate": 0.5})
    context = Context(plan(stage), stage, ("a", "b"), 0)
    (step,) = averaging.next(AveragingState(model=start), context)  # type: ignore[misc]
    counted: list[dict[str, Array]] = [
        {"w": np.array([1, 1], np.float32), "steps": np.array(3)},
        {"w": np.array([5, 9], np.float32), "steps": np.array(-2)},
    ]
    sums = SpooledSums(
        [
            decode_contribution(Blob(Contribution({"update": Group(weight, arrays)}, {}, {}).encode()))
            for weight, arrays in zip((1.0, 3.0), counted, strict=True)
        ]
    )
    state = averaging.receive(
        averaging.start(context, start), StepResult(step, ("a", "b"), {}, sums), ModelStore(blobs), context
    )
    after = Blob(blobs.open(state.model)).arrays()
    np.testing.assert_array_equal(after["w"], np.array([1 + 0.5 * 4, 2 + 0.5 * 7], np.float32))
    assert after["steps"] == 5 + round(0.5 * (3 - 6) / 4)
    np.testing.assert_array_equal(after["preprocess.mean"], model["preprocess.mean"])
    assert state.phase == "evaluate"


def test_statistics_give_mean_and_deviation_of_all_rows_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(0.2, 0.3, (n, 2)) for n in (5, 40)]
    rows[0][:, 1] = np.nan
    zero, one = np.zeros(2), np.ones(2)
    blobs = FileBlobs(tmp_path)
    start = blobs.put(
        [
            encode_numpy(
                {"preprocess.shift": zero, "preprocess.span": one, "preprocess.mean": zero, "preprocess.scale": one}
            )
        ]
    )
    parts = []
    for part in rows:
        seen = ~np.isnan(part)
        filled = np.where(seen, part, 0.0)
        tensors = {"count": seen.sum(0).astype(float), "sum": filled.sum(0), "sum_of_squares": (filled**2).sum(0)}
        parts.append(decode_contribution(Blob(Contribution({"statistics": Group(1.0, tensors)}, {}, {}).encode())))
    stage = Stage(driver="statistics")
    context = Context(plan(stage), stage, ("a", "b"), 0)
    (step,) = statistics.next(StatisticsState(model=start), context)  # type: ignore[misc]
    state = statistics.receive(
        StatisticsState(model=start), StepResult(step, ("a", "b"), {}, SpooledSums(parts)), ModelStore(blobs), context
    )
    learnt = Blob(blobs.open(state.model))
    pooled = np.concatenate(rows)
    np.testing.assert_allclose(learnt.numpy("preprocess.mean"), np.nanmean(pooled, axis=0), rtol=1e-12)
    np.testing.assert_allclose(learnt.numpy("preprocess.scale"), np.nanstd(pooled, axis=0), rtol=1e-9)
    assert isinstance(statistics.next(state, context), Done)


@given(
    arrays(np.float64, (3, 4), elements=st.floats(-1e5, 1e5)),
    st.floats(0.1, 100),
)
def test_whatever_noise_makes_of_the_sums_mean_and_scale_are_ones_that_numbers_to_one_can_have(
    sums: npt.NDArray[np.float64], multiplier: float
) -> None:
    privacy = PrivacySettings(
        noise_multiplier=1.0, clip=1.0, sampling_rate=0.1, delta=1e-5, divisor=1.0,
        analyses=AnalysisNoise(noise_multiplier=multiplier),
    )  # fmt: skip
    mean, scale = standardised(sums, privacy)
    assert (np.abs(mean) <= 1).all()
    assert ((scale > 0) & (scale <= 1)).all()
    unknown = sums[0] <= multiplier * math.sqrt(3 * 4)
    assert (mean[unknown] == 0).all()
    assert (scale[unknown] == 1).all()


def test_a_spread_that_is_lost_in_the_noise_is_taken_to_be_as_large_as_that() -> None:
    sums = np.array([[900.0], [450.0], [200.0]])  # z of 0.5, and a sum of squares that noise has made too small
    privacy = PrivacySettings(
        noise_multiplier=1.0, clip=1.0, sampling_rate=0.1, delta=1e-5, divisor=1.0,
        analyses=AnalysisNoise(noise_multiplier=5.0),
    )  # fmt: skip
    (mean,), (scale,) = standardised(sums, privacy)
    assert mean == 0.5
    assert scale == pytest.approx(math.sqrt(5.0 * math.sqrt(3) / 900))
    assert standardised(sums, None)[1] == 1.0  # without noise: a column that is constant


def standardised(
    sums: npt.NDArray[np.float64], privacy: PrivacySettings | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and scale that one partner's count, sum and sum of squares lead to."""
    zero, one = np.zeros(sums.shape[1]), np.ones(sums.shape[1])
    model = {"preprocess.shift": zero, "preprocess.span": one, "preprocess.mean": zero, "preprocess.scale": one}
    parts = dict(zip(("count", "sum", "sum_of_squares"), sums, strict=True))
    made = decode_contribution(Blob(Contribution({"statistics": Group(1.0, parts)}, {}, {}).encode()))
    stage = Stage(driver="statistics")
    private = msgspec.structs.replace(
        plan(stage), train=TrainSettings(batch_size=1, learning_rate=0.1, steps=1, weight="one"), privacy=privacy
    )
    context = Context(private, stage, ("a",), 0)
    with tempfile.TemporaryDirectory() as folder:
        blobs = FileBlobs(Path(folder))
        start = StatisticsState(model=blobs.put([encode_numpy(model)]))
        (step,) = statistics.next(start, context)  # type: ignore[misc]
        result = StepResult(step, ("a",), {}, SpooledSums([made]))
        learnt = Blob(blobs.open(statistics.receive(start, result, ModelStore(blobs), context).model))
        return learnt.numpy("preprocess.mean").copy(), learnt.numpy("preprocess.scale").copy()


def test_a_model_of_several_blocks_and_kinds_is_edited_in_place_of_each_element(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model: dict[str, Array] = {
        "wide": rng.normal(size=(3, BLOCK)).astype(np.float32),
        "half": rng.normal(size=7).astype(np.float16),
        "none": np.empty((0, 4), np.float32),
        "scalar": np.array(2.0),
        "kept": rng.integers(0, 9, BLOCK + 1),
    }
    blobs = FileBlobs(tmp_path)
    start = blobs.put([encode_numpy(model)])
    names = ("wide", "half", "none", "scalar")
    moved = {name: rng.normal(size=model[name].size) for name in names}
    made = ModelStore(blobs).edit(start, names, lambda name, part, old: old.astype(np.float64) + moved[name][part])
    after = Blob(blobs.open(made)).arrays()
    for name, held in model.items():
        step = moved[name].reshape(held.shape) if name in names else 0
        np.testing.assert_array_equal(after[name], (held.astype(np.float64) + step).astype(held.dtype))
