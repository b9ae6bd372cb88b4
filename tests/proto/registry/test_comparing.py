"""A difference is told where there is one, and nowhere else."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from aimass.proto.manifest import Number
from aimass.proto.registry.comparing import differences, tensor_differences
from aimass.proto.registry.entries import Interval, Spent
from aimass.proto.tensors import Blob, encode_numpy
from tests.support.registries import SCHEMA, version_of

ONE = version_of("heart", 1)


def test_of_what_says_the_same_nothing_is_told() -> None:
    assert differences(ONE, version_of("heart", 2)) == ()


def test_what_differs_is_told_with_both_sides() -> None:
    wider = msgspec.structs.replace(SCHEMA, columns=(*SCHEMA.columns, Number(name="dose", minimum=0, maximum=1)))
    two = msgspec.structs.replace(
        ONE,
        schema=wider,
        privacy=Spent(epsilon=2.0, delta=1e-5, unit="example", accountant="pld"),
        metrics={"auc": Interval(mean=0.9, rows=50, low=0.85, high=0.95)},
    )
    told = {one.what: one for one in differences(ONE, two)}
    assert set(told) == {"privacy", "column dose", "auc"}
    assert told["privacy"].second == "epsilon 2.0000 at delta 1e-05 for one example, by pld"
    assert (told["auc"].first, told["auc"].change) == ("not measured", "")


@pytest.mark.parametrize(("low", "said"), [(0.93, "+0.1500, intervals apart"), (0.88, "+0.1500, intervals overlap")])
def test_of_two_intervals_it_is_told_whether_they_meet(low: float, said: str) -> None:
    first = msgspec.structs.replace(ONE, metrics={"auc": Interval(mean=0.8, rows=50, low=0.7, high=0.9)})
    second = msgspec.structs.replace(ONE, metrics={"auc": Interval(mean=0.95, rows=50, low=low, high=0.97)})
    assert [one.change for one in differences(first, second)] == [said]


def test_tensors_are_told_by_how_far_they_moved() -> None:
    first = Blob(encode_numpy({"a": np.zeros(4, np.float32), "b": np.ones((2, 2), np.float32), "c": np.ones(1)}))
    second = Blob(encode_numpy({"a": np.full(4, 3, np.float32), "b": np.ones((2, 2), np.float32), "c": np.ones(2)}))
    told = [(one.tensor, one.norm, one.change, one.largest) for one in tensor_differences(first, second)]
    assert told == [("a", 0.0, 6.0, 3.0), ("b", 2.0, 0.0, 0.0)]
