"""One layer's weights: quantiles as the server kept them, histograms that lose no weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aimass.explain.lineage import Lineage
from aimass.explain.runs.layers import layers
from aimass.explain.runs.weights import Histograms, Spread, histograms, read_weights, spread
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.tensors import encode_torch
from tests.explain.runs import made

OF = Lineage(model="heart")
FINITE = st.floats(-1e6, 1e6)


def trained(rounds: int):  # type: ignore[no-untyped-def]
    kept = made.summary({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 3.0}, np.ones(made.BUCKETS))
    return layers(made.run([made.step(n, n + 1, summary=kept) for n in range(rounds)]))


def test_the_spread_is_that_of_the_layer_that_was_chosen() -> None:
    found = spread(trained(3), "b")
    assert found.rounds.tolist() == [1, 2, 3]
    assert found.quantiles[0].tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert found.describe()[0].startswith("b: median 0 after round 1, 0 after round 3; nine tenths lay within 4")
    assert Spread.from_json(found.to_json()) == found
    with pytest.raises(NotFound, match="no such layer; got c; allowed: a, b"):
        spread(trained(2), "c")


@given(st.dictionaries(st.integers(1, 99), st.lists(FINITE, min_size=1, max_size=30), min_size=1, max_size=5))
def test_every_weight_falls_into_one_bin_of_its_model(values: dict[int, list[float]]) -> None:
    weights: dict[int, npt.NDArray[np.floating]] = {round_: np.array(some) for round_, some in values.items()}
    found = histograms("a", weights, OF)
    assert found.rounds.tolist() == sorted(values)
    assert found.counts.sum(axis=1).tolist() == [len(values[round_]) for round_ in sorted(values)]
    assert found.edges[0] <= min(min(some) for some in values.values())
    assert Histograms.from_json(found.to_json()) == found


def test_what_is_no_number_is_left_out_and_told() -> None:
    found = histograms("a", {1: np.array([[0.0, np.nan], [1.0, np.inf]]), 2: np.array([2.0, 3.0, 4.0, 5.0])}, OF)
    assert found.not_finite.tolist() == [2, 0]
    assert "2 weights of a model are no number" in found.describe()[-1]
    assert found.describe()[0] == "a has 4 weights; of 2 rounds the model is kept."
    with pytest.raises(BadInput, match="no weight to count"):
        histograms("a", {1: np.array([np.nan])}, OF)
    with pytest.raises(BadInput, match="no weight to count"):
        histograms("a", {}, OF)


def test_weights_that_moved_away_changed_their_bin() -> None:
    found = histograms("a", {1: np.zeros(100), 2: np.concatenate([np.zeros(50), np.ones(50)])}, OF)
    assert "50 % of the weights changed bin" in found.describe()[1]
    assert found.to_svg().startswith("<svg")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_weights_of_a_file_are_read_as_torch_reads_them(tmp_path: Path, dtype: str) -> None:
    tensor = torch.tensor([[0.5, -1.25], [3.0, 1e-3]], dtype=getattr(torch, dtype))
    path = tmp_path / "model.safetensors"
    path.write_bytes(encode_torch({"a.weight": tensor, "b": torch.zeros(1)}))
    assert read_weights(path, "a.weight").tolist() == tensor.float().ravel().tolist()
    with pytest.raises(NotFound, match="no such tensor"):
        read_weights(path, "c")
