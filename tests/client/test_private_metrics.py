"""Metrics from a noised histogram: one row is one count, the noise is what is stated, and the figures are still of use."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aimass.client.private_metrics import measures_of, metrics_of, noised_metrics, score_histogram
from aimass.client.private_trainer import PrivateTrainer
from aimass.client.shards import Shard, make_shard
from aimass.client.tasks.heart import task as heart
from aimass.client.trainer import evaluate
from aimass.privacy.dp.gaussian import noised
from aimass.privacy.dp.private_terms import metric_noise
from aimass.proto.contribution import Metric
from aimass.proto.manifest import ShardManifest
from aimass.proto.plan import EvaluateSettings, MetricNoise
from aimass.proto.rows import read_table, require
from aimass.proto.task import auc, first_model
from aimass.proto.tensors import Blob
from tests.support.datasets import dataset
from tests.support.noise import seeded

Rows = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def scored(rows: int, seed: int, classes: int = 2, apart: float = 1.5) -> Rows:
    """Labels, and probabilities that tell something of them."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, rows)
    logits = chance.normal(size=(rows, classes)) + apart * np.eye(classes)[labels]
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True), labels


def means(metrics: dict[str, Metric]) -> dict[str, float]:
    return {name: metric.total / metric.weight for name, metric in metrics.items()}


@st.composite
def any_rows(draw: st.DrawFn) -> Rows:
    """Whatever a model may say, no numbers among it."""
    classes, rows = draw(st.integers(2, 4)), draw(st.integers(1, 12))
    values = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0, math.nan, math.inf, -math.inf]))
    return (
        draw(arrays(np.float64, (rows, classes), elements=values)),
        draw(arrays(np.int64, rows, elements=st.integers(0, classes - 1))),
    )


@given(any_rows(), st.integers(2, 50), st.data())
def test_one_row_less_changes_exactly_one_count_by_one(rows: Rows, bins: int, data: st.DataObject) -> None:
    chances, labels = rows
    whole = score_histogram(chances, labels, bins)
    assert whole.shape == (2, bins)
    assert whole.sum() == len(labels)
    left = data.draw(st.integers(0, len(labels) - 1))
    less = score_histogram(np.delete(chances, left, axis=0), np.delete(labels, left), bins)
    assert sorted((whole - less).reshape(-1).tolist()) == [0.0] * (2 * bins - 1) + [1.0]


def test_each_count_has_the_noise_that_is_stated_and_no_other() -> None:
    setting, repeats = MetricNoise(noise_multiplier=3.0, bins=10), 500
    counts, stream = score_histogram(*scored(200, 1), setting.bins), seeded("metrics")
    drawn = np.stack([noised(metric_noise(setting), counts, stream) - counts for _ in range(repeats)])
    degrees = drawn.size
    chi_square = float((drawn**2).sum()) / setting.noise_multiplier**2
    assert abs(chi_square - degrees) < 5 * math.sqrt(2 * degrees)  # 5 %: half the noise is 75 % off
    assert abs(float(drawn.mean())) < 5 * 3.0 / math.sqrt(degrees)
    assert abs(float(np.corrcoef(drawn[:, 0, 0], drawn[:, 1, 3])[0, 1])) < 0.25  # every count has its own


@pytest.mark.parametrize("apart", [0.0, 1.5, 3.0])
def test_the_auc_of_two_thousand_rows_under_noise_two_is_near_the_exact_one(apart: float) -> None:
    setting = MetricNoise(noise_multiplier=2.0)
    for seed in range(20):
        chances, labels = scored(2_000, seed, apart=apart)
        exact = auc(chances[:, 1], labels == 1)
        assert exact is not None
        noisy = noised_metrics(chances, labels, setting, seeded("auc", seed))["auc"]
        assert noisy.total / noisy.weight == pytest.approx(exact, abs=0.03)
        assert noisy.weight != 2_000


@pytest.mark.parametrize("classes", [2, 5])
def test_without_noise_accuracy_is_exact_and_loss_and_auc_are_those_of_fine_bins(classes: int) -> None:
    chances, labels = scored(2_000, 3, classes)
    exact = means(heart.measures(chances, labels))
    found = means(metrics_of(score_histogram(chances, labels, 1_000), classes))
    assert set(found) == set(exact)
    assert found["accuracy"] == pytest.approx(exact["accuracy"], abs=1e-12)
    assert found["loss"] == pytest.approx(exact["loss"], abs=2e-3)
    assert found.get("auc", 0.0) == pytest.approx(exact.get("auc", 0.0), abs=1e-3)


def test_a_probability_of_one_half_counts_for_the_class_that_is_chosen_then() -> None:
    half, labels = np.full((2, 2), 0.5), np.array([0, 1])
    for bins in (2, 20, 21):
        assert means(metrics_of(score_histogram(half, labels, bins), 2))["accuracy"] == 0.5
    assert means(metrics_of(score_histogram(half[:1], labels[:1], 20), 2))["accuracy"] == 1.0


@given(arrays(np.float64, (2, 7), elements=st.floats(-1e6, 1e6)), st.integers(2, 3))
def test_whatever_noise_makes_of_the_counts_no_metric_leaves_its_range(counts: npt.NDArray[Any], classes: int) -> None:
    metrics = metrics_of(counts, classes)
    assert {"loss", "accuracy"} <= set(metrics) <= {"loss", "accuracy", "auc"}
    for name, metric in metrics.items():
        assert metric.weight == max(counts.sum(), 1.0)
        assert 0 <= metric.total <= metric.weight * (1 if name != "loss" else -math.log(0.5 / 7)) * (1 + 1e-12)


def test_a_partner_without_held_out_rows_sends_metrics_of_noise_alone() -> None:
    none = np.zeros((0, 2)), np.zeros(0, np.int64)
    assert {"loss", "accuracy"} <= set(noised_metrics(*none, MetricNoise(noise_multiplier=1.0), seeded("none")))


def test_a_task_that_measures_something_else_sends_nothing_that_it_does_not_measure() -> None:
    class Own(type(heart)):  # type: ignore[misc]
        def measures(self, probabilities: Any, labels: Any) -> dict[str, Metric]:
            return {"recall": Metric(1.0, 2.0), "accuracy": super().measures(probabilities, labels)["accuracy"]}

    assert measures_of(heart) == {"loss", "accuracy", "auc"}
    assert measures_of(Own()) == {"recall", "accuracy"}
    trainer = PrivateTrainer(Own())
    shard, model = hospital(), Blob(first_model(heart, 1))
    assert set(trainer.evaluate(shard, model, MetricNoise(noise_multiplier=1.0)).metrics) == {"accuracy"}


def test_a_trained_models_noised_metrics_are_near_its_own_and_never_the_same() -> None:
    shard, model = hospital(), Blob(first_model(heart, 1))
    exact = evaluate(heart, shard, model, EvaluateSettings())
    trainer, setting = PrivateTrainer(heart), MetricNoise(noise_multiplier=0.05, bins=100)
    first, second = (trainer.evaluate(shard, model, setting) for _ in "ab")
    assert set(first.metrics) == set(exact.metrics)
    for name, figure in exact.figures.items():
        assert first.figures[name] == pytest.approx(figure, abs=0.05)
        assert first.metrics[name] != second.metrics[name]


def hospital() -> Shard:
    path = dataset("heart") / "cleveland.parquet"
    manifest = ShardManifest(
        name="heart", data_schema="heart/1", uris=(str(path),), format="parquet", participant="cleveland",
        salt="00" * 32, held_out=0.3,
    )  # fmt: skip
    with path.open("rb") as file:
        return make_shard(require(read_table(heart.schema, [io.BytesIO(file.read())], "parquet")), manifest)
