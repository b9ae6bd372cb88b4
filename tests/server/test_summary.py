"""Summaries of steps against plain numpy over the whole models."""

from __future__ import annotations

import numpy as np

from aimass.proto.tensors import Array, Blob, encode_numpy
from aimass.proto.views import StepSummary
from aimass.server.aggregation.models import BLOCK
from aimass.server.aggregation.summary import Summariser, compared

_SHAPES = {"wide": (BLOCK + 100, 2), "deep": (40,)}


def _models(count: int, seed: int = 0) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [{name: rng.normal(size=shape) for name, shape in _SHAPES.items()} for _ in range(count)]


def _summarised(
    first: dict[str, Array], before: dict[str, Array] | None, old: dict[str, Array], new: dict[str, Array]
) -> StepSummary:
    summariser = Summariser(Blob(encode_numpy(first)), Blob(encode_numpy(before)) if before else None)
    for spec in Blob(encode_numpy(old)).layout.tensors:
        for start in range(0, spec.count, BLOCK):
            part = slice(start, min(start + BLOCK, spec.count))
            summariser.add(spec, part, old[spec.name].reshape(-1)[part], new[spec.name].reshape(-1)[part])
    summary = summariser.summary()
    assert summary is not None
    return summary


def _flat(model: dict[str, Array]) -> Array:
    return np.concatenate([array.reshape(-1) for _, array in sorted(model.items())])


def test_norm_drift_and_similarity_are_those_of_the_whole_models_and_of_each_layer() -> None:
    first, before, old, new = _models(4)
    summary = _summarised(first, before, old, new)
    change, previous, way = _flat(new) - _flat(old), _flat(old) - _flat(before), _flat(new) - _flat(first)
    cosine = change @ previous / np.linalg.norm(change) / np.linalg.norm(previous)
    np.testing.assert_allclose(summary.norm, np.linalg.norm(change))
    np.testing.assert_allclose(summary.drift, np.linalg.norm(way))
    assert summary.similarity is not None
    np.testing.assert_allclose(summary.similarity, cosine)
    np.testing.assert_allclose(summary.layers["deep"].norm, np.linalg.norm(new["deep"] - old["deep"]))
    np.testing.assert_allclose(summary.layers["deep"].drift, np.linalg.norm(new["deep"] - first["deep"]))


def test_the_first_change_has_no_similarity_and_an_unchanged_layer_none_either() -> None:
    first, new = _models(2)
    assert _summarised(first, None, first, new).similarity is None
    assert _summarised(first, new, first, first).similarity is None


def test_a_layer_that_earlier_models_lack_drifts_from_zeros_and_is_like_no_change() -> None:
    old, new = _models(2)
    for first, before in (({}, {}), ({"deep": np.zeros(3)}, {"deep": np.zeros(3), "other": np.zeros(1)})):
        summary = _summarised(first, before, old, new)
        np.testing.assert_allclose(summary.drift, np.linalg.norm(_flat(new)))
        np.testing.assert_allclose(summary.norm, np.linalg.norm(_flat(new) - _flat(old)))
        assert summary.similarity is None


def test_quantiles_of_a_small_layer_are_exact_and_of_a_large_one_close() -> None:
    first, new = _models(2)
    layers = _summarised(first, None, first, new).layers
    quantiles = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    np.testing.assert_allclose(layers["deep"].quantiles, np.quantile(new["deep"], quantiles))
    np.testing.assert_allclose(layers["wide"].quantiles[1:6], np.quantile(new["wide"], quantiles)[1:6], atol=0.1)


def test_inner_products_of_sketches_estimate_those_of_changes() -> None:
    zero = {name: np.zeros(shape) for name, shape in _SHAPES.items()}
    errors = []
    for seed in range(20):
        one, noise = _models(2, seed)
        other = {name: 0.8 * one[name] + 0.6 * noise[name] for name in one}
        a, b = (np.asarray(_summarised(zero, None, zero, model).sketch) for model in (one, other))
        errors.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b) - 0.8)
    assert abs(np.mean(errors)) < 0.05
    assert np.std(errors) < 2 / np.sqrt(128)


def test_a_model_that_was_made_elsewhere_is_described_as_one_that_was_made_here() -> None:
    first, before, old, new = _models(4)
    blobs = [Blob(encode_numpy(model | {"frozen": np.ones(3)})) for model in (first, before, old, new)]
    assert compared(*blobs) == _summarised(first, before, old, new)
    assert compared(blobs[0], blobs[1], blobs[2], blobs[2]) is None, "nothing changed"
