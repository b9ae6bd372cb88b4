"""The page of SegViz: kinds of rows with more error; of images any one of them, and the chance of any pixel."""

from __future__ import annotations

import pytest

from aimass.explain.app.settings import AppSettings
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.views.rows import heart_settings, nuclei_settings
from tests.explain.app.views.test_prim import finished


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    return heart_settings(tmp_path_factory.mktemp("heart"))


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    return nuclei_settings(tmp_path_factory.mktemp("nuclei"))


def test_rows_with_more_error_are_shown_worst_first_and_by_their_holders(opened: Opened, heart: AppSettings) -> None:
    page = finished(opened("segviz", heart, **{"rows": "both", "segviz-beside": "partner", "segviz-bands": "3"}))
    titles = [one.value for one in page.subheader]
    assert titles == [
        "Kinds of rows with more error",
        "By band of the prediction",
        "By who holds the rows",
        "A tree of errors",
    ]
    assert "both, 80 rows" in said(page)
    assert "hungarian" in said(page)


@pytest.mark.debian
def test_any_image_and_any_pixel_of_it_can_be_looked_at(opened: Opened, nuclei: AppSettings) -> None:
    page = finished(opened("segviz", nuclei, **{"masks-image": "2", "pixel-row": "5", "pixel-column": "7"}))
    assert "Image 2, row 5, column 7: chance of nucleus" in said(page)
    finished(page.number_input(key="pixel-row").set_value(9).run())
    assert "Image 2, row 9, column 7" in said(page)
    finished(page.slider(key="masks-image").set_value(0).run())
    assert "Image 0, row 9, column 7" in said(page)
    assert "The worst images" in [one.value for one in page.subheader]
