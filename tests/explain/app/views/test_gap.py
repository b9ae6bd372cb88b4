"""The page of GAP: a model and rows by the address, each view when it is there, and honest words where one is gone."""

from __future__ import annotations

import pytest

from aimass.explain.app.settings import AppSettings
from aimass.explain.app.sources import Sources
from aimass.proto.errors import Unavailable
from tests.explain.app.conftest import Opened
from tests.explain.app.hearts import heart_settings, settled
from tests.explain.app.shown import said

GAP = "gap"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    return heart_settings(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A registry that is away while the list holds something."""
    whether: list[bool] = [True]
    names = Sources.model_names

    def model_names(self: Sources) -> tuple[str, ...]:
        if whether:
            raise Unavailable("The registry does not answer", code="test.away")
        return names(self)

    monkeypatch.setattr(Sources, "model_names", model_names)
    return whether


def titles(page: object) -> list[str]:
    return [one.value for one in page.subheader]  # type: ignore[attr-defined]


def test_a_link_shows_what_matters_of_the_model_and_the_rows_that_it_names(
    opened: Opened, settings: AppSettings
) -> None:
    page = settled(opened(GAP, settings, model="heart@1", rows="hungarian"))
    assert page.selectbox(key="model").value == "heart@1"
    assert "42 rows" in said(page)
    assert "held out" in said(page)
    assert titles(page) == [
        "What the model's errors hang on",
        "How far features move single predictions",
        "Each feature's share in what the model knows",
    ]
    assert said(page).count("How to read this") == 3
    assert len(page.get("vega_lite_chart")) >= 4


def test_curves_are_of_the_features_that_the_address_names(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(GAP, settings, rows="hungarian", view="How it acts", curves="chol", output="no"))
    assert titles(page) == [
        "How the prediction moves with a feature",
        "The mean prediction at each value, and rows that go their own way",
    ]
    assert "predicted probability of no" in said(page)
    assert "chol" in said(page)
    page.multiselect(key="curves").set_value(["age", "thal"])
    page.run()
    assert page.query_params["curves"] == ["age", "thal"]
    assert "From age" in said(settled(page))


def test_without_a_name_curves_are_of_what_matters_most(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(GAP, settings, rows="hungarian", view="What acts together"))
    assert len(page.multiselect(key="curves").value) == 6
    assert "curves" not in page.query_params
    assert titles(page) == ["Which features act together"]


def test_one_feature_alone_acts_together_with_none(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(GAP, settings, rows="hungarian", view="What acts together", curves="age"))
    assert "Choose two features or more." in said(page)


def test_rows_without_outcomes_say_what_cannot_be_said_and_show_the_rest(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(GAP, settings, rows="unknown"))
    assert "These rows have no outcomes" in said(page)
    assert titles(page) == ["How far features move single predictions"]
    page = settled(opened(GAP, settings, rows="unknown", view="How it acts", curves="age"))
    assert len(titles(page)) == 2


def test_what_a_view_does_not_hang_on_does_not_make_it_be_found_anew(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(GAP, settings, rows="hungarian", view="How it acts", curves="age"))
    page.selectbox(key="loss").set_value("brier").run()
    assert not page.get("progress")
    assert len(titles(page)) == 2


def test_a_link_to_what_is_gone_says_so_and_offers_others(opened: Opened, settings: AppSettings) -> None:
    page = opened(GAP, settings, model="heart@99")
    assert "app.gone" in said(page)
    page.button(key="clear-model").click().run()
    assert page.selectbox(key="model").value == "heart@champion"
    page = opened(GAP, settings, rows="hungarian", view="How it acts", curves="<b>weight</b>")
    assert "The link names a feature that is not here" in said(page)
    page.button(key="clear-curves").click()
    assert len(settled(page.run()).multiselect(key="curves").value) == 6


def test_groups_that_cannot_be_are_told_by_the_library(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(GAP, settings, rows="unknown", groups="body=age,weight"))
    assert said(page).count(": weight") == 1
    page.text_input(key="groups").set_value("body = age,chol").run()
    assert "o such feature" not in said(settled(page))
    assert titles(page) == ["How far features move single predictions"]


def test_without_a_model_the_page_says_what_to_do(opened: Opened) -> None:
    page = opened(GAP, AppSettings())
    assert "This app knows no model" in said(page)
    assert page.code


def test_a_registry_that_is_away_is_told_and_comes_back(
    opened: Opened, settings: AppSettings, away: list[bool]
) -> None:
    page = opened(GAP, settings, rows="unknown")
    assert "The registry does not answer" in said(page)
    away.clear()
    assert "42 rows" in said(page.run())
