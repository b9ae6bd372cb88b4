"""Ten who look at once: nine sessions without a screen, and a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from scripts.benches.app_crowd import crowd
from scripts.demos.processes import cpu_seconds, family

from tests.support.app_house import Furnished
from tests.support.browser.serving_app import explainer, options_of
from tests.support.browser.viewer import viewing

pytestmark = pytest.mark.browser

_PAGE, _QUERY = "gap", "model=heart%40champion&rows=heart"
_LONGEST_S = 120.0


def spent_on(browser: Browser, found: Furnished, folder: Path, others: int) -> float:
    """Seconds of a core that an app which has computed nothing yet takes to answer so many and a browser."""
    with (
        explainer(folder, options_of(found, "operator")) as shown,
        viewing(browser, shown.address) as viewer,
        crowd(shown.address, others) as beside,
    ):
        before = cpu_seconds(family(shown.pid))
        coming = beside.visit(_PAGE, _QUERY)
        viewer.open(f"{_PAGE}?{_QUERY}")
        visits = coming.result(_LONGEST_S)
        viewer.answered()
        assert [visit.exceptions for visit in visits] == [()] * others
        assert all(visit.first_chart_s is not None for visit in visits)
        assert viewer.see().exceptions == ()
        assert viewer.page.get_by_test_id("stVegaLiteChart").count() > 0
        return cpu_seconds(family(shown.pid)) - before


def test_ten_who_ask_the_same_are_answered_and_it_is_computed_once(
    browser: Browser, found: Furnished, tmp_path: Path
) -> None:
    alone = spent_on(browser, found, tmp_path / "alone", 0)
    together = spent_on(browser, found, tmp_path / "ten", 9)
    assert together < 2 * alone
