"""The model of trees and its codec: one blob for one ensemble, and what is none is refused by name."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.trees import MAX_DEPTH, Ensemble, Objective, Tree, decode, encode
from tests.support.drawn_trees import drawn_ensemble

Arrays = dict[str, np.ndarray]
ZERO = np.zeros(1, np.float32)


def stump(**changed: object) -> Tree:
    """One split by a number, and its two leaves."""
    fields = {
        "feature": np.array([0, -1, -1], np.int32),
        "threshold": np.array([0.5, 0, 0], np.float32),
        "default_left": np.array([True, False, False]),
        "value": np.array([0, -1, 1], np.float32),
        "gain": np.array([3, 0, 0], np.float32),
        "cover": np.array([2, 1, 1], np.float32),
    }
    return Tree(**(fields | changed))  # type: ignore[arg-type]


@given(st.integers(0, 2**32), st.sampled_from(Objective), st.integers(0, 6))
def test_an_ensemble_comes_back_from_its_blob_bit_for_bit(seed: int, objective: Objective, trees: int) -> None:
    ensemble = drawn_ensemble(seed, objective, trees)
    found = decode(Blob(encode(ensemble)))
    assert (found.objective, found.base.tolist()) == (ensemble.objective, ensemble.base.tolist())
    assert found.sizes.tolist() == ensemble.sizes.tolist()
    for tree, expected in zip(found.trees, ensemble.trees, strict=True):
        assert tree.output == expected.output
        for name in ("feature", "threshold", "default_left", "value", "gain", "cover"):
            np.testing.assert_array_equal(getattr(tree, name), getattr(expected, name))
        assert {node: codes.tolist() for node, codes in tree.right_codes.items()} == {
            node: codes.tolist() for node, codes in expected.right_codes.items()
        }
    assert encode(found) == encode(ensemble)


def test_children_follow_from_which_nodes_split() -> None:
    """0 splits into 1 and 2; 2 into 3 and 4; 3 into 5 and 6."""
    tree = Tree(
        feature=np.array([0, -1, 0, 0, -1, -1, -1], np.int32),
        threshold=np.zeros(7, np.float32),
        default_left=np.zeros(7, bool),
        value=np.zeros(7, np.float32),
        gain=np.zeros(7, np.float32),
        cover=np.zeros(7, np.float32),
    )
    assert tree.left.tolist() == [1, -1, 3, 5, -1, -1, -1]
    assert tree.levels == (slice(0, 1), slice(1, 3), slice(3, 5), slice(5, 7))
    assert tree.depth == 3


def chain(depth: int) -> Tree:
    """Each right child splits again."""
    feature = np.array([0] + [-1, 0] * (depth - 1) + [-1, -1], np.int32)
    zeros = np.zeros(len(feature), np.float32)
    return Tree(feature, zeros, np.zeros(len(feature), bool), zeros, zeros, zeros)


def test_a_tree_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    assert chain(MAX_DEPTH).depth == MAX_DEPTH
    with pytest.raises(BadInput) as caught:
        chain(MAX_DEPTH + 1)
    assert caught.value.code == "trees.depth"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"feature": np.array([0, -1], np.int32)}, "lengths"),
        ({"value": np.zeros(2, np.float32)}, "lengths"),
        ({"feature": np.array([-2, -1, -1], np.int32)}, "feature"),
        ({"feature": np.array([-1, -1, -1], np.int32)}, "shape"),
        ({"feature": np.array([0, 0, -1], np.int32)}, "shape"),
        ({"feature": np.array([-1, 0, -1], np.int32)}, "shape"),
        ({"feature": np.array([-1, -1, 0], np.int32)}, "shape"),
        ({"threshold": np.array([np.nan, 0, 0], np.float32)}, "not_finite"),
        ({"value": np.array([0, np.inf, 0], np.float32)}, "not_finite"),
        ({"threshold": np.array([0.5, 0.5, 0], np.float32)}, "idle"),
        ({"gain": np.array([3, 1, 0], np.float32)}, "idle"),
        ({"default_left": np.array([True, True, False])}, "idle"),
        ({"cover": np.array([2, -1, 3], np.float32)}, "idle"),
        ({"right_codes": {0: np.array([0], np.int32)}}, "idle"),
        ({"threshold": np.zeros(3, np.float32), "right_codes": {1: np.array([0], np.int32)}}, "idle"),
        ({"threshold": np.zeros(3, np.float32), "right_codes": {-3: np.array([0], np.int32)}}, "idle"),
        ({"threshold": np.zeros(3, np.float32), "right_codes": {0: np.array([], np.int32)}}, "codes"),
        ({"threshold": np.zeros(3, np.float32), "right_codes": {0: np.array([1, 1], np.int32)}}, "codes"),
        ({"threshold": np.zeros(3, np.float32), "right_codes": {0: np.array([2, 1], np.int32)}}, "codes"),
        ({"threshold": np.zeros(3, np.float32), "right_codes": {0: np.array([-1], np.int32)}}, "codes"),
    ],
)
def test_what_is_no_tree_is_refused(changed: dict[str, object], code: str) -> None:
    with pytest.raises(BadInput) as caught:
        stump(**changed)
    assert caught.value.code == f"trees.{code}"


def test_trees_must_fit_their_ensemble() -> None:
    by_code = stump(threshold=np.zeros(3, np.float32), right_codes={0: np.array([0, 4], np.int32)})
    number, category = np.array([0], np.int32), np.array([5], np.int32)
    Ensemble(Objective.LOGISTIC, ZERO, number, (stump(),))
    Ensemble(Objective.LOGISTIC, ZERO, category, (by_code,))
    cases: list[tuple[Callable[[], Ensemble], str]] = [
        (lambda: Ensemble(Objective.LOGISTIC, ZERO, number, (by_code,)), "codes"),
        (lambda: Ensemble(Objective.LOGISTIC, ZERO, category, (stump(),)), "codes"),
        (lambda: Ensemble(Objective.LOGISTIC, ZERO, category - 1, (by_code,)), "codes"),
        (lambda: Ensemble(Objective.LOGISTIC, ZERO, number, (stump(output=1),)), "outputs"),
        (lambda: Ensemble(Objective.LOGISTIC, ZERO, number[:0], (stump(),)), "feature"),
        (lambda: Ensemble(Objective.LOGISTIC, np.zeros(2, np.float32), number), "outputs"),
        (lambda: Ensemble(Objective.SOFTMAX, ZERO, number), "outputs"),
        (lambda: Ensemble(Objective.LOGISTIC, ZERO[:0], number), "outputs"),
        (lambda: Ensemble(Objective.LOGISTIC, ZERO + np.float32(np.inf), number), "not_finite"),
        (lambda: Ensemble(Objective.LOGISTIC, ZERO, number - 1), "sizes"),
    ]
    for make, code in cases:
        with pytest.raises(BadInput) as caught:
            make()
        assert caught.value.code == f"trees.{code}"


def test_a_tree_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        stump().output = 1  # type: ignore[misc]


def _without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {key: value for key, value in arrays.items() if key != name}


def _with(name: str, value: np.ndarray) -> Callable[[Arrays], Arrays]:
    return lambda arrays: arrays | {name: value}


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_without("nodes.gain"), "tensors"),
        (_with("more", np.zeros(1, np.float32)), "tensors"),
        (_with("nodes.feature", np.zeros(3, np.int64)), "tensors"),
        (_with("ensemble.version", np.zeros(1, np.int32)), "tensors"),
        (_with("ensemble.version", np.array(2, np.int32)), "version"),
        (_with("ensemble.objective", np.array(3, np.int32)), "objective"),
        (_with("ensemble.objective", np.array(-1, np.int32)), "objective"),
        (_with("trees.nodes", np.array([2], np.int32)), "lengths"),
        (_with("trees.nodes", np.array([3, 0], np.int32)), "lengths"),
        (_with("trees.output", np.array([0, 0], np.int32)), "lengths"),
        (_with("nodes.value", np.zeros(4, np.float32)), "lengths"),
        (_with("nodes.codes", np.array([1, -1, 0], np.int32)), "lengths"),
        (_with("nodes.codes", np.array([1, 0, 0], np.int32)), "lengths"),
        (_with("codes", np.array([0], np.int32)), "lengths"),
        (_with("nodes.feature", np.array([7, -1, -1], np.int32)), "feature"),
        (_with("nodes.default_left", np.array([2, 0, 0], np.uint8).view(bool)), "truth"),
    ],
)
def test_a_blob_that_is_no_ensemble_is_refused(spoil: Callable[[Arrays], Arrays], code: str) -> None:
    good = Blob(encode(Ensemble(Objective.LOGISTIC, ZERO, np.array([0, 5], np.int32), (stump(),))))
    decode(good)
    with pytest.raises(BadInput) as caught:
        decode(Blob(encode_numpy(spoil(good.arrays()))))
    assert caught.value.code == f"trees.{code}"


@given(st.data())
def test_a_blob_with_a_changed_byte_is_refused_or_is_another_ensembles(data: st.DataObject) -> None:
    blob = bytearray(encode(drawn_ensemble(7, trees=2, depth=2)))
    start = len(Blob(blob).layout.header)
    blob[data.draw(st.integers(start, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BadInput):
        assert encode(decode(Blob(blob))) == bytes(blob)
