from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aimass.proto.errors import AimassError, BadInput, NotFound
from aimass.proto.servable import DTYPES, TensorSpec, check_inputs, check_outputs

AGE = TensorSpec("age", "FP64", (-1, 1), also=("FP32",))
IMAGE = TensorSpec("image", "UINT8", (-1, 2, 3))
SPECS = {"age": AGE, "image": IMAGE}


def both(rows: int) -> dict[str, Any]:
    return {"age": np.zeros((rows, 1)), "image": np.zeros((rows, 2, 3), np.uint8)}


def test_tensors_that_fit_have_a_number_of_rows() -> None:
    assert check_inputs(SPECS, both(4)) == 4
    assert check_inputs(SPECS, both(4) | {"age": np.zeros(4, np.float32)}) == 4


def test_an_optional_tensor_may_be_left_out() -> None:
    specs = {"age": AGE, "rows": TensorSpec("rows", "FP32", (-1, 3), optional=True)}
    assert check_inputs(specs, {"age": np.zeros(2)}) == 2


@pytest.mark.parametrize(
    ("changed", "error", "code"),
    [
        ({"sex": np.zeros(4)}, NotFound, "serving.input_unknown"),
        ({"age": np.zeros((4, 2))}, BadInput, "serving.input_form"),
        ({"age": np.zeros((4, 1, 1))}, BadInput, "serving.input_form"),
        ({"age": np.zeros((4, 1), np.int64)}, BadInput, "serving.input_form"),
        ({"image": np.zeros((4, 2, 4), np.uint8)}, BadInput, "serving.input_form"),
        ({"image": np.zeros(4, np.uint8)}, BadInput, "serving.input_form"),
        ({"age": np.zeros((3, 1))}, BadInput, "serving.rows"),
        ({"age": np.zeros((0, 1)), "image": np.zeros((0, 2, 3), np.uint8)}, BadInput, "serving.no_rows"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], error: type[AimassError], code: str) -> None:
    with pytest.raises(error) as caught:
        check_inputs(SPECS, both(4) | changed)
    assert caught.value.code == code


def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(BadInput, match="age") as caught:
        check_inputs(SPECS, {"image": np.zeros((4, 2, 3), np.uint8)})
    assert caught.value.code == "serving.input_missing"


@pytest.mark.parametrize("datatype", sorted(DTYPES))
def test_each_datatype_admits_its_own_arrays(datatype: str) -> None:
    spec = TensorSpec("x", datatype, (-1,))
    assert spec.admits(np.zeros(3, DTYPES[datatype]))
    assert not spec.admits(np.zeros(3, np.complex64))


def test_an_answer_is_checked() -> None:
    chances, label = TensorSpec("chances", "FP64", (-1, 2)), TensorSpec("label", "BYTES", (-1,))
    good = {"chances": np.full((2, 2), 0.5), "label": np.array([b"no", b"yes"], object)}
    assert check_outputs((chances, label), good, 2) is None
    for bad in (
        {"chances": good["chances"]},
        {"chances": good["chances"], "other": good["label"]},
        good | {"chances": np.array([[0.5, np.nan], [0.5, 0.5]])},
        good | {"chances": np.array([[0.5, np.inf], [0.5, 0.5]])},
        good | {"chances": good["chances"].astype(np.float32)},
        good | {"chances": good["chances"][:1]},
    ):
        assert check_outputs((chances, label), bad, 2)
