"""The views of one row one by one, and changes written as they are read."""

from __future__ import annotations

import numpy as np
import pytest

from aimass.explain.lpi import LpiOptions, explain
from aimass.explain.lpi.cells import changes_of, with_changes, written
from aimass.explain.questions import Asking, question
from aimass.explain.rows import Feature, Rows
from aimass.explain.work import Work
from aimass.proto.errors import BadInput
from tests.explain.lpi.test_moves import MIXED, MODEL, ROWS

OPTIONS = LpiOptions(row=4, what_if=("a=3",), immutable=("d",), orders=30)


@pytest.mark.parametrize("view", ["attribution", "what_if", "counterfactual", "faithfulness"])
@pytest.mark.parametrize("background", [None, ROWS.take(slice(20, 50))])
def test_a_view_alone_is_that_of_the_whole(view: str, background: Rows | None) -> None:
    part = question("lpi").part(view)
    found = Asking(part, MODEL, ROWS, OPTIONS, background).answer(Work(seed=3))
    assert found == explain(MODEL, ROWS, OPTIONS, Work(seed=3), background=background).views()[view]
    assert part.result is type(found)
    assert part.takes_background


def test_gradients_of_what_is_no_network_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match="no network"):
        Asking(question("lpi").part("gradients"), MODEL, ROWS, OPTIONS).answer(Work())


def test_the_changes_of_a_way_lead_to_its_prediction() -> None:
    found = explain(MODEL, ROWS, LpiOptions(row=4)).counterfactual
    assert found is not None
    assert found.ways
    for way in found.ways:
        cells = with_changes(ROWS.values[4], changes_of(ROWS, way.changes))
        assert MODEL.predict(cells[None])[0, 1] == pytest.approx(way.path[-1])
        assert len(way.changes) == len(way.names)


@pytest.mark.parametrize("cell", [0.0, -0.5, 61.25, 1e-7, 3e9, np.nan])
def test_a_change_of_a_number_is_read_as_it_was_written(cell: float) -> None:
    rows = Rows(MIXED, np.array([[50.0, 1.0]]))
    np.testing.assert_equal(changes_of(rows, [written(MIXED[0], cell)]), {0: cell})


def test_names_and_words_may_hold_the_sign_between_them() -> None:
    features = (Feature(name="cp=a"), Feature(name="cp", kind="category", values=("x=y", "z")))
    rows = Rows(features, np.array([[0.0, 1.0]]))
    assert changes_of(rows, ["cp=a=1", "cp=x=y"]) == {0: 1.0, 1: 0.0}
    assert written(features[1], 0.0) == "cp=x=y"
