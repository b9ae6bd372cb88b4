"""Smoke inputs as tensors, and what a model may say of them."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from aimass.proto.errors import BadInput
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.registry.smoke import worst_difference
from aimass.proto.servable import TensorSpec, check_inputs
from aimass.server.serving.watching.smoke import smoke_tensors, what_is_wrong

_SPECS = (
    TensorSpec("age", "FP64", (-1, 1)),
    TensorSpec("sex", "BYTES", (-1, 1)),
    TensorSpec("scan", "UINT8", (-1, 2, 2)),
)
_SMOKE = SmokeInputs(
    columns={"age": (30.0, None), "sex": ("f", None), "scan": (base64.b64encode(bytes(4)).decode(),) * 2},
    expected=((0.25, 0.75), (0.5, 0.5)),
    tolerance=1e-6,
)


def test_cells_become_the_tensors_that_the_model_takes() -> None:
    tensors = smoke_tensors(_SMOKE, _SPECS)
    assert check_inputs({spec.name: spec for spec in _SPECS}, tensors) == 2
    assert tensors["sex"].tolist() == [b"f", b""]
    assert np.isnan(tensors["age"][1])
    assert tensors["scan"].shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("columns", "specs"),
    [({"bmi": (1.0,)}, _SPECS), ({"age": ("old",)}, _SPECS), ({"scan": ("!",)}, _SPECS), ({"scan": ("AAAA",)}, _SPECS)],
)
def test_cells_that_fit_no_tensor_are_named(
    columns: dict[str, tuple[float | str | None, ...]], specs: tuple[TensorSpec]
) -> None:
    with pytest.raises(BadInput) as caught:
        smoke_tensors(SmokeInputs(columns=columns, expected=((1.0,),)), specs)
    assert caught.value.code == "smoke.form"


def test_an_answer_within_the_tolerance_is_right() -> None:
    assert what_is_wrong(_SMOKE, {"probabilities": np.array([[0.25, 0.75], [0.5 + 9e-7, 0.5]])}) == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"probabilities": np.array([[0.25, 0.75], [0.4, 0.6]])}, "smoke input 2 of 2 came to 0.4 where 0.5"),
        ({"probabilities": np.array([[np.nan, 0.75], [0.5, 0.5]])}, "smoke input 1 of 2 came to nan where 0.25"),
        ({"probabilities": np.array([[0.25, 0.75]])}, "the shape [1, 2], and not [2, 2]"),
        ({"other": np.zeros(2)}, "none of probabilities, prediction"),
    ],
)
def test_any_other_answer_is_told_apart(answer: dict[str, np.ndarray], said: str) -> None:
    assert said in what_is_wrong(_SMOKE, answer)


def test_a_prediction_is_compared_as_one_column() -> None:
    smoke = SmokeInputs(columns={"age": (1.0, 2.0)}, expected=((10.0,), (20.0,)), tolerance=0.045)
    assert what_is_wrong(smoke, {"prediction": np.array([10.4, 19.6])}) == ""
    assert "came to 19 where 20" in what_is_wrong(smoke, {"prediction": np.array([10.4, 19.0])})


def test_large_numbers_are_held_to_as_many_digits_as_by_the_promotion_rules() -> None:
    smoke = SmokeInputs(columns={"age": (1.0, 2.0)}, expected=((1e5,), (-2e5,)))
    near, far = np.array([1e5 + 0.008, -2e5]), np.array([1e5, -2e5 + 0.3])
    assert worst_difference(smoke, near[:, None]) <= smoke.tolerance
    assert what_is_wrong(smoke, {"prediction": near}) == ""
    assert worst_difference(smoke, far[:, None]) > smoke.tolerance
    assert "smoke input 2 of 2 came to" in what_is_wrong(smoke, {"prediction": far})
