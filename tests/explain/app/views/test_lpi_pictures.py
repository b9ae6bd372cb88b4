"""The page of LPI over images and texts: one of them by the address or found, its maps by method, its pieces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.house import House
from aimass.explain.app.settings import AppSettings
from aimass.explain.texts import TextModel, Texts
from tests.explain.app.conftest import Opened
from tests.explain.app.hearts import fashion_settings, settled
from tests.explain.app.shown import said
from tests.explain.app.views.rows import nuclei_settings
from tests.explain.lpi.test_texts import TEXTS, WORTH, bag

LPI = "lpi"


@pytest.fixture(scope="module")
def clothes(tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    return fashion_settings(tmp_path_factory.mktemp("clothes"))


def titles(page: AppTest) -> list[str]:
    return [one.value for one in page.subheader]


def test_a_link_shows_all_maps_of_an_image_or_one_method(opened: Opened, clothes: AppSettings) -> None:
    page = settled(opened(LPI, clothes, image="3", output="7", **{"pixels-steps": "8", "pixels-samples": "2"}))
    assert titles(page) == ["Where 7 is seen"]
    assert len(page.get("vega_lite_chart")) == 5
    assert "The model says" in said(page)
    page.selectbox(key="method").set_value("occlusion")
    page = settled(page.run())
    assert len(page.get("vega_lite_chart")) == 2
    assert "Occlusion for 7" in said(page)
    assert page.query_params["method"] == "occlusion"


def test_an_image_is_found_by_what_the_model_says_of_it(opened: Opened, clothes: AppSettings) -> None:
    page = settled(opened(LPI, clothes, find="true", which="wrong", **{"pixels-steps": "8", "pixels-samples": "2"}))
    wrong = page.dataframe[0].value
    assert 0 < len(wrong) < 12
    assert (wrong["the model says"] != wrong["outcome"]).all()
    page.button(key="Next-image").click()
    assert settled(page.run()).number_input(key="image").value in wrong["image"].tolist()


@pytest.mark.parametrize(("name", "value"), [("image", "12"), ("output", "shoe"), ("method", "magic")])
def test_what_a_link_names_and_is_not_there_is_said(
    opened: Opened, clothes: AppSettings, name: str, value: str
) -> None:
    page = settled(opened(LPI, clothes, **{name: value, "pixels-steps": "8", "pixels-samples": "2"}))
    assert "app.gone" in said(page)


def test_of_a_model_that_answers_each_pixel_its_class_is_explained(
    opened: Opened, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tiles = nuclei_settings(tmp_path_factory.mktemp("nuclei"), tiles=2)
    page = opened(LPI, tiles, image="1", **{"pixels-steps": "8", "pixels-samples": "2"})
    assert not page.exception
    assert page.number_input(key="image").value == 1
    assert "find" not in [one.key for one in page.expander]
    assert page.get("image")


def test_the_pieces_of_a_text_are_shown_and_none_of_it_is_markup(entered: Callable[..., House]) -> None:
    entered(AppSettings())
    page = settled(AppTest.from_function(_texts, default_timeout=60).run())
    assert titles(page) == ["Which pieces speak for it"]
    assert "Good film, uneven" in said(page)
    assert "Outcome** not known" in said(page)
    page.number_input(key="text").set_value(5)
    shown = settled(page.run()).markdown
    assert any("\\*\\*loud\\*\\* \\<b\\>good\\<" in one.value for one in shown)
    assert page.query_params["text"] in ("4", ["4"])
    page.number_input(key="text").set_value(3)
    assert "The text is empty" in said(settled(page.run()))


def reviews() -> tuple[TextModel, Texts]:
    return bag(np.asarray(WORTH)), Texts((*TEXTS.texts, "**loud** <b>good</b>"), TEXTS.classes)


def _texts() -> None:
    from aimass.explain.app.choosing import Chosen
    from aimass.explain.app.house import house
    from aimass.explain.app.lpi.pictures import text_page
    from aimass.explain.app.people import ALONE
    from aimass.explain.opening import Subject
    from tests.explain.app.views.test_lpi_pictures import reviews

    model, texts = reviews()
    subject = Subject(lambda _: None, texts=model)  # type: ignore[arg-type,return-value]
    text_page(house().visit(ALONE, "ann"), Chosen("bag", subject, texts), model, texts)
