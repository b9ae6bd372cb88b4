"""Rows of named features: what they become, what is said of those that do not fit."""

from __future__ import annotations

import base64
import difflib
import gc
import json
import time
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import AimassError, BadInput, LimitExceeded
from aimass.server.serving.http.features import Features, read_rows, soon_read
from aimass.server.serving.input_rules import InputRules
from tests.support.fronts import PATIENTS, ROW

WARN = InputRules()
REFUSE = InputRules(category="refuse", missing="refuse", range="refuse")


def read(said: Any, rules: InputRules = WARN) -> Any:
    return read_rows(json.dumps(said).encode(), PATIENTS, rules)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ROW.items() if key != name}


def test_one_row_becomes_the_tensors_of_its_columns() -> None:
    features = read(dict(ROW), REFUSE)
    assert (features.single, features.rows, features.warnings) == (True, 1, {})
    tensors = features.tensors
    assert (tensors["age"].tolist(), tensors["age"].dtype) == ([61.0], np.float64)
    assert (tensors["sex"].tolist(), tensors["note"].tolist()) == ([b"Male"], [b"no pain"])
    assert tensors["scan"].tolist() == [[[0, 1], [2, 255]]]


def test_pixels_may_be_base64() -> None:
    scan = base64.b64encode(bytes([0, 1, 2, 255])).decode()
    assert (read({**ROW, "scan": scan}).tensors["scan"] == read(dict(ROW)).tensors["scan"]).all()


def test_what_does_not_fit_counts_as_missing_and_is_said_row_by_row() -> None:
    features = read([dict(ROW), {**ROW, "age": 130, "sex": "other"}, without("age")])
    assert not features.single
    assert np.isnan(features.tensors["age"]).tolist() == [False, True, True]
    assert features.tensors["sex"].tolist() == [b"Male", b"", b"Male"]
    assert features.warnings == {
        1: (
            "age lies outside 0 to 120: it counts as missing",
            "sex is none of Female, Male: it counts as missing",
        ),
        2: ("age is missing",),
    }


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({**ROW, "age": 130}, "age lies outside 0 to 120"),
        ({**ROW, "sex": "other"}, "sex is none of Female, Male"),
        (without("age"), "age is missing"),
    ],
)
def test_each_may_be_refused_by_setting(row: dict[str, Any], named: str) -> None:
    read(row)
    with pytest.raises(BadInput, match=named) as refused:
        read(row, REFUSE)
    assert refused.value.code == "predict.features"


def test_null_says_that_a_value_is_not_known_and_is_no_fault() -> None:
    features = read({**ROW, "age": None, "sex": None}, REFUSE)
    assert (np.isnan(features.tensors["age"][0]), features.tensors["sex"][0], features.warnings) == (True, b"", {})


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({**ROW, "agee": 3}, "agee is no feature of the model: did you mean age?"),
        ({**ROW, "disease": "yes"}, "disease is what the model predicts"),
        ({**ROW, "age": "old"}, "age is not a number"),
        ({**ROW, "age": [61]}, "age is not a number"),
        ({**ROW, "chol": None}, "chol is required and missing"),
        (without("chol"), "chol is required and missing"),
        ({**ROW, "chol": 0}, "chol is required and missing"),
        ({**ROW, "sex": {"a": 1}}, "sex is none of the 2 values"),
        ({**ROW, "note": "   "}, "note has no text"),
        ({**ROW, "note": "x" * 51}, "note is longer than 50"),
        ({**ROW, "scan": "no base64!"}, "scan is not 4 bytes"),
        ({**ROW, "scan": [[0, 1], [2, 256]]}, "scan is not 4 bytes"),
        ({**ROW, "scan": [[0, 1], [2]]}, "scan is not 4 bytes"),
        (without("scan"), "scan is not 4 bytes"),
    ],
)
def test_what_no_training_row_could_say_is_refused_by_name(row: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput) as refused:
        read(row)
    assert named in str(refused.value)


def test_no_value_of_a_request_is_in_its_error() -> None:
    with pytest.raises(BadInput) as refused:
        read({**ROW, "age": 4711, "sex": "a secret", "note": "x" * 60}, REFUSE)
    assert not any(secret in str(refused.value) for secret in ("4711", "a secret", "xxx"))


@pytest.mark.parametrize("body", [b"", b"[]", b"3", b"[3]", b'{"a":', b"\xff\xfe", b"[" * 100_000, b'"age"', b"null"])
def test_what_is_no_row_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        read_rows(body, PATIENTS, WARN)


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(LimitExceeded):
        read([dict(ROW)] * 3, InputRules(rows=2))


def test_cells_count_though_they_are_left_out() -> None:
    with pytest.raises(LimitExceeded) as refused:
        read([{}] * 3, InputRules(cells=14))
    assert refused.value.code == "predict.cells"


def test_rows_that_leave_out_everything_are_not_read_where_others_wait() -> None:
    assert soon_read(json.dumps(dict(ROW)).encode(), PATIENTS)
    assert not soon_read(b"[" + b"{}," * 9_000 + b"{}]", PATIENTS)


def test_a_row_among_many_costs_no_more_than_among_few() -> None:
    def seconds(rows: int) -> float:
        began = time.process_time()
        outcome(lambda: read([{}] * rows))
        return time.process_time() - began

    gc.disable()  # a collection walks over what other tests have left
    try:
        few, many = (min(seconds(rows) for _ in range(3)) for rows in (1_000, 8_000))
    finally:
        gc.enable()
    assert many < 24 * few


def test_a_search_for_the_name_that_was_meant_is_made_for_those_alone_that_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searched = []

    def search(name: str, known: Collection[str], most: int) -> list[str]:
        searched.append(name)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", search)
    body = json.dumps({**ROW, **{f"agee{number}": 1 for number in range(20_000)}}).encode()
    with pytest.raises(BadInput, match="agee0 is no feature of the model"):
        read_rows(body, PATIENTS, WARN)
    assert 1 <= len(searched) <= 20


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
CELLS = st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=8) | st.lists(st.integers(), max_size=3)


@given(st.dictionaries(st.sampled_from([*ROW, "other"]), CELLS))
def test_any_row_gives_tensors_of_its_schema_or_a_named_error(row: dict[str, Any]) -> None:
    features = outcome(lambda: read({**ROW, **row}))
    if isinstance(features, AimassError):
        assert features.code == "predict.features"
        return
    assert set(features.tensors) == set(ROW)
    assert all(len(tensor) == 1 for tensor in features.tensors.values())
    age = features.tensors["age"][0]
    assert np.isnan(age) or 0 <= age <= 120
    assert features.tensors["sex"][0] in {b"", b"Female", b"Male"}


def outcome(read_it: Callable[[], Features]) -> Features | AimassError:
    try:
        return read_it()
    except AimassError as error:
        return error
