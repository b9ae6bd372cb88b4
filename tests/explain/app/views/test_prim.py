"""The page of PRIM: bands that move with sliders, boxes that come when they are found, all of it in the address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from aimass.explain.app.settings import AppSettings
from aimass.explain.app.views.prim import started
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.views.rows import heart_settings


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    return heart_settings(tmp_path_factory.mktemp("heart"))


def finished(page: AppTest) -> AppTest:
    """The page once nothing is computed any more."""
    while page.get("progress"):
        page.run()
    assert not page.exception
    return page


def test_bands_map_and_boxes_of_rows_are_shown_with_what_they_are_of(opened: Opened, heart: AppSettings) -> None:
    page = finished(opened("prim", heart, model="heart@champion", rows="both"))
    assert [one.value for one in page.subheader] == [
        "Bands", "Over two features", "Boxes of predicted probability of yes", "Boxes where the model is most wrong",
    ]  # fmt: skip
    assert "both, 80 rows" in said(page)
    assert "Numbers** held out" in said(page)


def test_a_slider_moves_a_threshold_and_the_sentences_follow(opened: Opened, heart: AppSettings) -> None:
    page = finished(opened("prim", heart, rows="both"))
    assert "0.2 to 0.5" in said(page)
    finished(page.slider(key="cut-3-1").set_value(0.4).run())
    assert "0.4 to 0.5" in said(page)
    assert "0.2 to 0.5" not in said(page)
    finished(page.number_input(key="cuts").set_value(1).run())
    assert "below 0.5" in said(page)


def test_the_address_holds_thresholds_and_options(opened: Opened, heart: AppSettings) -> None:
    page = finished(opened("prim", heart, **{"rows": "both", "cuts": "1", "cut-1-1": "0.6", "prim-x": "age"}))
    assert "below 0.6" in said(page)
    assert "age is" in said(page)


def test_rows_that_are_too_few_for_boxes_are_told(opened: Opened, heart: AppSettings) -> None:
    page = finished(opened("prim", heart, rows="few"))
    assert "3 rows" in said(page)
    assert not page.error


@given(st.integers(1, 5), st.floats(0, 1, exclude_max=True), st.integers(1, 5))
def test_sliders_begin_within_their_limits_and_in_order(count: int, low: float, own: int) -> None:
    high = low + 1.5
    thresholds = [low + (place + 1) / (own + 1) * 1.5 for place in range(own)]
    found = started(thresholds, count, low, high)
    assert len(found) == count
    assert list(found) == sorted(found)
    assert low < found[0]
    assert found[-1] < high
    if count == own:
        assert found == pytest.approx(thresholds, abs=1.5e-3)
