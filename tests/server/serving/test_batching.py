from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.servable import TensorSpec
from aimass.server.serving.dispatch.batching import (
    Entry,
    expired,
    gathered,
    least_lately,
    outputs_of,
    rows_at_once,
    take,
)
from aimass.server.serving.dispatch.requests import ANY_TIME, Request

Y = TensorSpec("y", "FP64", (-1,))
Z = TensorSpec("z", "FP64", (-1, 2))


def entry(rows: int = 1, dtype: str = "f8", width: int = 2, name: str = "x", **fields: Any) -> Entry:
    outputs = fields.pop("outputs", ())
    deadline = fields.pop("deadline", ANY_TIME)
    request = Request("m", {name: np.zeros((rows, width), dtype)}, outputs=outputs, deadline=deadline)
    return Entry(request, lambda _: None, rows, 0.0, 0.0, **fields)


def test_what_waits_goes_together_as_far_as_the_rows_allow() -> None:
    entries = [entry(2), entry(1), entry(1), entry(1)]
    queue = deque(entries)
    assert take(queue, 4) == entries[:3]
    assert list(queue) == entries[3:]


def test_a_request_of_more_rows_goes_alone() -> None:
    entries = [entry(9), entry(1)]
    queue = deque(entries)
    assert take(queue, 4) == entries[:1]


@pytest.mark.parametrize("other", [{"dtype": "f4"}, {"width": 3}, {"name": "z"}, {"alone": True}])
def test_what_cannot_be_joined_waits_for_the_next_batch(other: dict[str, Any]) -> None:
    queue = deque([entry(), entry(**other), entry()])
    assert [len(take(queue, 8)) for _ in range(3)] == [1, 1, 1]


def test_what_is_over_is_left_out() -> None:
    entries = [entry(over=True), entry(), entry(over=True), entry()]
    queue = deque(entries)
    assert take(queue, 8) == [entries[1], entries[3]]
    assert not take(queue, 8)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.sampled_from(["f4", "f8"])), max_size=20), st.integers(1, 8)
)
def test_no_request_is_lost_or_doubled_and_their_order_stays(kinds: list[tuple[int, bool, str]], most: int) -> None:
    entries = [entry(rows, dtype, alone=alone) for rows, alone, dtype in kinds]
    queue, taken = deque(entries), []
    while queue:
        batch = take(queue, most)
        assert sum(each.rows for each in batch) <= most or len(batch) == 1
        assert len({each.request.tensors["x"].dtype for each in batch}) == 1
        taken += batch
    assert taken == entries


def test_each_request_gets_its_own_rows_of_the_outputs_that_it_wants() -> None:
    batch = [entry(2), entry(1, outputs=("z",))]
    answer = {"y": np.array([0.0, 1.0, 2.0]), "z": np.arange(6.0).reshape(3, 2)}
    first, second = (outputs for _, outputs in outputs_of(batch, (Y, Z), answer))
    assert not isinstance(first, str)
    assert not isinstance(second, str)
    assert first["y"].tolist() == [0.0, 1.0]
    assert list(second) == ["z"]
    assert second["z"].tolist() == [[4.0, 5.0]]
    assert [len(parts) for parts in gathered(batch).values()] == [2]


def test_a_row_that_is_not_finite_spoils_no_other_request() -> None:
    batch = [entry(1), entry(1)]
    first, second = (outputs for _, outputs in outputs_of(batch, (Y,), {"y": np.array([np.nan, 2.0])}))
    assert first == "output y is not finite"
    assert not isinstance(second, str)


def test_who_wants_an_output_that_the_model_does_not_make_spoils_no_other_request() -> None:
    batch = [entry(1, outputs=("z",)), entry(1)]
    first, second = (outputs for _, outputs in outputs_of(batch, (Y,), {"y": np.array([1.0, 2.0])}))
    assert first == "no output z"
    assert not isinstance(second, str)
    assert second["y"].tolist() == [2.0]


def test_an_answer_for_another_number_of_rows_is_nobodys() -> None:
    for batch in ([entry(1)], [entry(1), entry(1)]):
        assert all(isinstance(outputs, str) for _, outputs in outputs_of(batch, (Y,), {"y": np.zeros(5)}))


def test_who_waits_beyond_the_deadline_is_found() -> None:
    late, soon, over = entry(deadline=1.0), entry(deadline=3.0), entry(deadline=1.0, over=True)
    assert expired([late, soon, over, entry()], 2.0) == [late]


def test_a_batch_is_no_longer_than_who_comes_meanwhile_may_wait() -> None:
    assert rows_at_once(256, 0.0, 0.05) == 256
    assert rows_at_once(256, 0.001, 0.05) == 50
    assert rows_at_once(256, 0.00001, 0.05) == 256
    assert rows_at_once(256, 3.0, 0.05) == 1


def test_a_pause_of_the_machine_does_not_make_a_model_slow() -> None:
    row_s = least_lately(0.0, 0.001)
    assert row_s == 0.001
    assert least_lately(row_s, 5.0) == pytest.approx(0.00102)
    assert least_lately(row_s, 0.0005) == 0.0005
