"""Contributions as they arrive from outside: what spoils a sum is refused by name, before it is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aimass.proto.contribution import (
    Contribution,
    Group,
    Limits,
    Metric,
    check_contribution,
    decode_contribution,
    group_norm,
)
from aimass.proto.errors import AimassError, BadInput
from aimass.proto.tensors import Array, Blob, encode_numpy

GOOD = Contribution(
    {"update": Group(3.0, {"w": np.arange(4, dtype=np.float32), "b": np.zeros((), np.float64)})},
    {"loss": Metric(1.5, 3.0)},
    {"auc": 0.9},
)
EXPECTED = {"update": {"w": ("F32", (4,)), "b": ("F64", ())}}


def refused(contribution: Contribution, limits: Limits | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        check_contribution(contribution, EXPECTED, limits or Limits())
    return caught.value.code.removeprefix("contribution.")


def changed(weight: float = 3.0, **tensors: Array) -> Contribution:
    return Contribution({"update": Group(weight, {**GOOD.groups["update"].tensors, **tensors})}, {}, {})


def test_a_contribution_comes_back_as_it_was_sent_and_in_one_way_alone() -> None:
    data = GOOD.encode()
    again = decode_contribution(Blob(data))
    check_contribution(again, EXPECTED, Limits())
    assert again.encode() == data == b"".join(GOOD.parts())
    assert again.metrics == GOOD.metrics
    assert again.figures == GOOD.figures


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused_wherever_it_stands(bad: float) -> None:
    spoilt = np.array([0, bad, 0, 0], np.float32)
    assert refused(changed(w=spoilt)) == "not_finite"
    assert refused(changed(weight=bad)) == "weight"
    assert refused(Contribution(GOOD.groups, {"loss": Metric(bad, 1.0)}, {})) == "metric"
    assert refused(Contribution(GOOD.groups, {"loss": Metric(1.0, bad)}, {})) == "metric"
    assert refused(Contribution(GOOD.groups, {}, {"auc": bad})) == "figure"


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.1e9])
def test_a_weight_that_would_drown_or_turn_the_sum_is_refused(weight: float) -> None:
    assert refused(changed(weight=weight)) == "weight"


def test_an_absurd_norm_has_another_name_than_a_number_that_is_none() -> None:
    assert refused(changed(w=np.full(4, 1e6, np.float32))) == "norm"
    assert refused(changed(w=np.full(4, 3e38, np.float32))) == "norm"  # its square is no float32


def test_totals_that_would_overflow_a_sum_of_many_are_refused() -> None:
    assert refused(Contribution(GOOD.groups, {"loss": Metric(1e300, 1.0)}, {})) == "metric"
    assert refused(Contribution(GOOD.groups, {}, {"auc": 1e300})) == "figure"


def test_other_tensors_types_or_shapes_than_the_step_asks_for_are_refused() -> None:
    assert refused(changed(extra=np.zeros(1, np.float32))) == "tensors"
    assert refused(changed(w=np.zeros(4, np.float64))) == "shape"
    assert refused(changed(w=np.zeros((2, 2), np.float32))) == "shape"
    assert refused(Contribution({}, {}, {})) == "groups"
    assert refused(Contribution({**GOOD.groups, "more": GOOD.groups["update"]}, {}, {})) == "groups"
    assert (
        refused(Contribution(GOOD.groups, {f"m{i}": Metric(0.0, 1.0) for i in range(9)}, {}), Limits(labels=8))
        == "labels"
    )


@pytest.mark.parametrize(
    "tensors",
    [
        {"loose": np.zeros(1)},
        {"update/w": np.zeros(1)},
        {"weight/update": np.array(1.0)},
        {"weight/update": np.array([1.0]), "update/w": np.zeros(1)},
        {"metric/loss": np.zeros(3)},
        {"metric/loss": np.zeros(2, np.float32)},
        {"metric/": np.zeros(2)},
        {"figure/a b": np.array(1.0)},
        {"Update/w": np.zeros(1), "weight/Update": np.array(1.0)},
    ],
)
def test_a_blob_that_is_no_contribution_is_refused(tensors: dict[str, Array]) -> None:
    with pytest.raises(BadInput) as caught:
        decode_contribution(Blob(encode_numpy(tensors)))
    assert caught.value.code.startswith("contribution.") or caught.value.code.startswith("tensors.")


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_a_value_and_never_the_form(position: int, flip: int) -> None:
    data = bytearray(GOOD.encode())
    data[position % len(data)] ^= flip
    try:
        read = decode_contribution(Blob(bytes(data)))
        check_contribution(read, EXPECTED, Limits())
    except AimassError:
        return
    assert read.encode() == bytes(data)


@given(arrays.arrays(np.float32, st.integers(0, 300), elements=st.floats(-1e3, 1e3, width=32)))
def test_the_norm_is_that_of_numpy_to_six_digits(values: Array) -> None:
    exact = float(np.linalg.norm(values.astype(np.float64)))
    assert group_norm(Group(1.0, {"w": values})) == pytest.approx(exact, rel=1e-6, abs=1e-18)


@pytest.mark.parametrize(
    "made",
    [
        Contribution(GOOD.groups, {"Huntington": Metric(np.nan, 1.0)}, {}),
        Contribution(GOOD.groups, {}, {"Huntington": np.inf}),
        Contribution({"huntington": Group(1.0, {"w": np.zeros(4)})}, {}, {}),
        changed(Huntington=np.zeros(1, np.float32)),
    ],
)
def test_a_refusal_has_the_contributions_own_names_in_its_value_alone(made: Contribution) -> None:
    with pytest.raises(BadInput) as caught:
        check_contribution(made, EXPECTED, Limits())
    assert "huntington" not in caught.value.what.lower()
    assert "huntington" in (caught.value.value or "").lower()
