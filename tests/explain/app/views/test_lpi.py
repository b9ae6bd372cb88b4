"""The page of LPI over rows: a row by the address or found, why, what if, another prediction, and what is gone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.house import house
from aimass.explain.app.lpi.sections import OTHER, TRUST, WHAT_IF
from aimass.explain.app.settings import AppSettings, RowsSetting
from aimass.explain.app.sources import Sources
from aimass.proto.errors import Unavailable
from tests.explain.app.conftest import Opened
from tests.explain.app.hearts import heart_settings, settled
from tests.explain.app.shown import said

LPI = "lpi"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    return heart_settings(tmp_path_factory.mktemp("registry"))


def address(page: AppTest, name: str) -> list[str]:
    """What stands in the address under this name."""
    found = page.query_params.get(name, [])
    return [found] if isinstance(found, str) else list(found)


def titles(page: AppTest) -> list[str]:
    return [one.value for one in page.subheader]


def cell(page: AppTest, name: str) -> object:
    """The widget of a feature's cell."""
    widgets = [*page.number_input, *page.selectbox]
    return next(one for one in widgets if one.label.replace("\\", "").split(" ")[0] == name)


def test_a_link_shows_why_the_row_that_it_names_is_predicted_so(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(LPI, settings, rows="hungarian", row="7"))
    assert page.number_input(key="row").value == 8
    assert "The model says" in said(page)
    assert "Outcome" in said(page)
    assert titles(page) == ["What moved the prediction of this row"]
    assert "Probability of yes of row 8" in said(page)
    assert "How to read this" in said(page)
    page.number_input(key="row").set_value(10)
    page = settled(page.run())
    assert address(page, "row") == ["9"]
    assert "Probability of yes of row 10" in said(page)
    (cells,) = [one.help for one in page.number_input if one.key == "row"]
    assert cells == "From 1 to 42: the first row of a file is 1. In the address it is 0."


@pytest.mark.parametrize("row", ["42", "-1", "many", "9" * 400, "²"])
def test_a_link_to_a_row_that_is_not_there_says_so_and_offers_others(
    opened: Opened, settings: AppSettings, row: str
) -> None:
    page = opened(LPI, settings, rows="hungarian", row=row)
    assert "The link names a row that is not here" in said(page)
    page.button(key="clear-row").click()
    assert settled(page.run()).number_input(key="row").value == 1


def test_fewer_rows_than_the_former_had_begin_anew(opened: Opened, settings: AppSettings) -> None:
    whole = Path(settings.rows[0].files[0])
    part = whole.with_name("few.csv")
    part.write_text("".join(whole.read_text().splitlines(keepends=True)[:11]))
    few = RowsSetting(name="few", files=(str(part),), task="heart")
    both = msgspec.structs.replace(settings, rows=(*settings.rows, few))
    page = settled(opened(LPI, both, rows="hungarian", row="41"))
    page.selectbox(key="rows").set_value("few")
    page = settled(page.run())
    assert "not here" not in said(page)
    assert page.number_input(key="row").value == 1


def test_rows_are_found_by_conditions_and_by_what_is_said(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(LPI, settings, rows="hungarian", find="true", where="age >= 40 and cp = asymptomatic"))
    some = page.dataframe[0].value
    assert 0 < len(some) < 42
    assert (some["cp"] == "asymptomatic").all()
    assert f"{len(some)} rows of 42" in said(page)
    page.selectbox(key="which").set_value("wrong")
    page = settled(page.run())
    wrong = page.dataframe[0].value
    assert 0 < len(wrong) < len(some)
    assert (wrong["the model says"] != wrong["outcome"]).all()
    page.button(key="Next-row").click()
    assert settled(page.run()).number_input(key="row").value == wrong["row"].iloc[0]
    page.button(key="Next-row").click()
    page = settled(page.run())
    assert page.number_input(key="row").value == wrong["row"].iloc[1]
    assert address(page, "row") == [str(wrong["row"].iloc[1] - 1)]


def test_what_is_no_condition_is_told_where_it_stands(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(LPI, settings, rows="hungarian", find="true", where="weight > 3"))
    assert "his is no condition" in said(page)
    assert titles(page)
    page = settled(opened(LPI, settings, rows="hungarian", find="true", where="age > 119"))
    assert "None is like this" in said(page)


def test_rows_without_outcomes_are_neither_right_nor_wrong(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(LPI, settings, rows="unknown", find="true"))
    assert page.selectbox(key="which").options == ["all"]
    assert "most wrong first" not in page.selectbox(key="order").options
    assert "Outcome** not known" in said(page)


def test_changes_of_the_address_are_shown_and_those_of_widgets_stand_there(
    opened: Opened, settings: AppSettings
) -> None:
    page = settled(opened(LPI, settings, rows="hungarian", row="7", view=WHAT_IF, **{"if": "age=61"}))
    assert cell(page, "age").value == 61  # type: ignore[attr-defined]
    assert [one.label for one in page.metric] == ["yes, as it is", "yes, with the changes", "The model would say"]
    assert "With age 61 years" in said(page)
    cell(page, "cp").set_value(3)  # type: ignore[attr-defined]
    page = settled(page.run())
    assert address(page, "if") == ["age=61", "cp=typical angina"]
    assert "With age 61 years and cp typical angina" in said(page)
    cell(page, "age").set_value(None)  # type: ignore[attr-defined]
    assert address(settled(page.run()), "if") == ["age=missing", "cp=typical angina"]
    page.button(key="what-clear").click()
    page = settled(page.run())
    assert not address(page, "if")
    assert "Nothing is changed yet" in said(page)


def test_another_row_has_none_of_the_changes_of_the_former(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(LPI, settings, rows="hungarian", row="7", view=WHAT_IF, **{"if": "age=61"}))
    page.number_input(key="row").set_value(9)
    page = settled(page.run())
    assert not address(page, "if")
    assert "Nothing is changed yet" in said(page)


@pytest.mark.parametrize(
    ("change", "told"),
    [("weight=3", "o such feature"), ("age=old", "ge is a number"), ("cp=none", "p has no such value")],
)
def test_a_change_that_cannot_be_is_told_and_taken_back(
    opened: Opened, settings: AppSettings, change: str, told: str
) -> None:
    page = settled(opened(LPI, settings, rows="hungarian", view=WHAT_IF, **{"if": change}))
    assert told in said(page)
    page.button(key="what-clear").click()
    assert "Nothing is changed yet" in said(settled(page.run()))


def test_the_nearest_other_row_keeps_what_must_stay_and_can_be_tried(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(LPI, settings, rows="hungarian", row="7", view=OTHER, keep="thalch"))
    assert titles(page) == ["The nearest row that is decided otherwise"]
    assert "thalch had to stay" in said(page)
    page.button(key="try-0").click()
    page = settled(page.run())
    assert address(page, "if")
    assert titles(page) == ["How prediction and values move"]


def uploaded(opened: Opened, settings: AppSettings, **address: str) -> AppTest:
    """The page about rows that the viewer brings."""
    page = opened(LPI, settings, rows="upload", **address)
    brought = Path(settings.rows[0].files[0]).read_bytes()
    return settled(page.file_uploader(key="upload").set_value([("mine.csv", brought, "text/csv")]).run())


def test_of_rows_that_a_viewer_brings_no_change_and_no_condition_stands_in_the_address(
    opened: Opened, settings: AppSettings
) -> None:
    page = uploaded(opened, settings, view=WHAT_IF, find="true", where="age > 1", **{"if": "age=61"})
    assert "Nothing is changed yet" in said(page)
    cell(page, "age").set_value(61)  # type: ignore[attr-defined]
    page.text_input(key="where-private").set_value("age >= 40 and cp = asymptomatic")
    page = settled(page.run())
    assert "With age 61 years" in said(page)
    some = page.dataframe[0].value
    assert 0 < len(some) < 42
    assert (some["cp"] == "asymptomatic").all()
    assert not address(page, "if")
    assert not address(page, "where")
    assert set(page.query_params) <= {"model", "rows", "row", "view", "find", "which", "says", "order", "output"}
    assert not page.text_input(key="where-private").proto.query_param_key  # which a browser would write there
    page.button(key="what-clear").click()
    page = settled(page.run())
    assert "Nothing is changed yet" in said(page)
    cell(page, "age").set_value(50)  # type: ignore[attr-defined]
    page.number_input(key="row").set_value(9)
    assert "Nothing is changed yet" in said(settled(page.run()))


def test_charts_and_answers_about_brought_rows_are_kept_in_the_session_alone(
    opened: Opened, settings: AppSettings
) -> None:
    page = uploaded(opened, settings, row="7")
    assert page.get("vega_lite_chart") or page.get("arrow_vega_lite_chart")
    assert (len(house().drawn), len(house().charts), len(house().rows)) == (0, 0, 0)
    assert len(page.session_state["_private"]) > 0
    page.selectbox(key="rows").set_value("hungarian")
    settled(page.run())
    assert len(house().charts) > 0
    assert len(house().drawn) > 0


def test_the_nearest_other_of_an_uploaded_row_is_tried_without_the_address(
    opened: Opened, settings: AppSettings
) -> None:
    page = uploaded(opened, settings, row="7", view=OTHER)
    page.button(key="try-0").click()
    page = settled(page.run())
    assert titles(page) == ["How prediction and values move"]
    assert not address(page, "if")


def test_proofs_are_shown_one_by_one(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(LPI, settings, rows="hungarian", view=TRUST, keep="<script>"))
    assert titles(page) == ["Do the values tell what moves the prediction?", "Do gradients say the same?"]


def test_one_row_alone_is_held_against_others(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened(LPI, settings, rows="unknown", row="3", against="hungarian"))
    assert "42 rows of hungarian" in said(page)
    page = opened(LPI, settings, rows="unknown", against="nobody")
    assert "app.gone" in said(page)


def test_a_service_that_is_away_is_told_and_comes_back(
    opened: Opened, settings: AppSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:

        def names(_: Sources) -> tuple[str, ...]:
            raise Unavailable("the registry does not answer", code="test.away")

        away.setattr(Sources, "model_names", names)
        page = opened(LPI, settings, rows="hungarian")
        assert "he registry does not answer" in said(page)
    assert "42 rows" in said(page.run())


def test_without_a_model_the_page_says_what_to_do(opened: Opened) -> None:
    assert "This app knows no model" in said(opened(LPI, AppSettings()))
