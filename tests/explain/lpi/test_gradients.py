"""Integrated gradients of a task's network over a table, and whether attributions follow the weights."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save

from aimass.explain.lpi import LpiOptions, explain
from aimass.explain.lpi.background import background_of
from aimass.explain.lpi.gradients import Gradients, until_complete
from aimass.explain.models import FunctionModel, model_of_task
from aimass.explain.networks import TableNetwork
from aimass.explain.rows import Rows, rows_of_table
from aimass.explain.work import Work
from aimass.proto.predictors import examples
from aimass.proto.rows import Table
from aimass.proto.task import first_model, load, locate
from aimass.proto.tensors import Blob

HEART = load(locate("heart"))
TREES = load(locate("heart-trees"))


@functools.cache
def patients() -> Rows:
    """Nobody's rows, with gaps; the outcome hangs on four of the features."""
    rng = np.random.default_rng(3)
    batch = examples(HEART.schema, 150)
    numbers = {
        c.name: rng.permutation(batch.numbers[:, i]).astype(np.float64) for i, c in enumerate(HEART.schema.numbers)
    }
    codes = {c.name: rng.permutation(batch.categories[:, i]) for i, c in enumerate(HEART.schema.categories)}
    score = np.nan_to_num(numbers["age"] - 60) / 20 + 2.0 * (codes["cp"] == 0) + np.nan_to_num(numbers["ca"] - 1.5)
    return rows_of_table(Table(HEART.schema, numbers | codes | {"disease": (score + codes["sex"] > 1).astype(int)}, ()))


@functools.cache
def trained() -> bytes:
    torch.manual_seed(1)
    network = HEART.network(Blob(first_model(HEART, 1))).train()
    batch = patients().batch()
    inputs, labels = HEART.inputs(batch), torch.from_numpy(batch.labels)
    steps = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        steps.zero_grad()
        HEART.loss(network(*inputs), labels).backward()  # type: ignore[no-untyped-call]
        steps.step()
    return save(network.state_dict())


def model(blob: bytes) -> FunctionModel:
    return model_of_task(HEART, Blob(blob), name="heart", digest="d")


def gradients_of(blob: bytes, **options: object) -> Gradients:
    found = explain(model(blob), patients(), LpiOptions(counterfactual=False, **options)).gradients  # type: ignore[arg-type]
    assert found is not None
    return found


def by_hand(
    network: TableNetwork, row: npt.NDArray[np.float64], background: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """float64 [columns of the layer]: the mean gradient of the probability along many straight paths, times each path."""
    with torch.no_grad():
        here = network.layer(*network.inputs(row[None])).double()
        there = network.layer(*network.inputs(background)).double()
    rest = torch.nn.Sequential(network.module.hidden, torch.nn.ReLU(), network.module.output).double()  # type: ignore[arg-type]
    path = (torch.arange(400) + 0.5) / 400
    points = (there[:, None] + path[None, :, None] * (here - there)[:, None]).requires_grad_()
    rest(points).softmax(-1)[..., 1].sum().backward()
    assert points.grad is not None
    found: npt.NDArray[np.float64] = (points.grad.mean(dim=1) * (here - there)).mean(dim=0).numpy()
    return found


def test_values_are_integrals_by_hand_gathered_by_feature() -> None:
    rows, found = patients(), gradients_of(trained(), row=4, references=20)
    network = model(trained()).network
    assert network is not None
    layer = by_hand(network, rows.values[4], background_of(rows, 20, "sample", Work()).values)
    expected = [layer[list(columns)].sum() for columns in network.columns]
    np.testing.assert_allclose(found.values, expected, atol=1e-3)
    assert found.incomplete < 0.01
    assert not found.warnings()


def test_the_layers_columns_are_the_features_own() -> None:
    network = model(trained()).network
    assert network is not None
    assert sorted(network.columns_of(range(13))) == list(range(sum(map(len, network.columns))))
    rows = patients().values
    with torch.no_grad():
        before = network.layer(*network.inputs(rows)).numpy()
        for place, columns in enumerate(network.columns):
            changed = rows.copy()
            changed[:, place] = np.roll(rows[:, place], 7)
            after = network.layer(*network.inputs(changed)).numpy()
            assert set(np.flatnonzero((before != after).any(axis=0)).tolist()) <= set(columns)


def test_too_few_steps_are_warned_of() -> None:
    broken = [gradients_of(trained(), row=row, references=1, steps=8) for row in range(6)]
    assert any(one.incomplete > 0.01 for one in broken)
    for one in broken:
        assert bool(one.warnings()) == (one.incomplete > 0.01)


def test_gradients_and_exact_values_agree_on_what_matters() -> None:
    found = gradients_of(trained(), row=2)
    assert np.corrcoef(found.values, found.shapley)[0, 1] > 0.9


def ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.argsort(np.argsort(np.abs(values)))


def test_attributions_change_when_the_weights_are_randomised() -> None:
    """Adebayo et al. 2018: what does not hang on the weights says nothing of the model."""
    kept: list[float] = []
    for row in range(3):
        learnt = gradients_of(trained(), row=row, scale="log_odds", references=20)
        drawn = [gradients_of(first_model(HEART, seed), row=row, scale="log_odds", references=20) for seed in (5, 6)]
        again = gradients_of(trained(), row=row, scale="log_odds", references=20)
        np.testing.assert_array_equal(again.values, learnt.values)
        kept += [np.corrcoef(ranks(learnt.values), ranks(one.values))[0, 1] for one in drawn]
        kept += [np.corrcoef(ranks(learnt.shapley), ranks(one.shapley))[0, 1] for one in drawn]
    assert np.mean(kept) < 0.5


def test_a_model_without_a_network_has_no_gradients() -> None:
    assert model_of_task(TREES, Blob(first_model(TREES, 1)), name="trees", digest="d").network is None


@pytest.mark.parametrize("scale", ["probability", "log_odds"])
def test_bases_are_those_of_shapley_values(scale: str) -> None:
    found = gradients_of(trained(), row=1, scale=scale)
    assert found.values.sum() == pytest.approx(found.shapley.sum(), rel=0.01)


@pytest.mark.parametrize(("error", "steps"), [(0.5, 32), (3.0, 256), (1e9, 1024)])
def test_steps_are_doubled_until_the_sum_is_complete_or_there_are_very_many(error: float, steps: int) -> None:
    found, missed, taken = until_complete(lambda steps: torch.tensor([1.0, 1.0 + error / steps]), 2.0, 8)
    assert taken == steps
    assert missed == pytest.approx(error / steps / 2.0)
    assert float(found.sum()) == pytest.approx(2.0 + error / steps)
