"""What a link asks of a widget and cannot be is told above the page; what can be, however it is written, is not."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain import app
from aimass.explain.app.settings import AppSettings
from aimass.explain.app.unmet import is_met
from tests.explain.app.conftest import Opened
from tests.explain.app.hearts import heart_settings, settled


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    return heart_settings(tmp_path_factory.mktemp("registry"))


def opened_at(**address: str | list[str]) -> AppTest:
    test = AppTest.from_function(_page, default_timeout=30)
    for name, value in address.items():
        test.query_params[name] = value
    return shown(test.run())


def shown(test: AppTest) -> AppTest:
    assert not test.exception
    return test


def _page() -> None:
    import streamlit as st

    from aimass.explain.app.unmet import bound, unmet_told

    with unmet_told(st.session_state.get("page", "one")):
        late = st.session_state.setdefault("late", 0)
        st.session_state["late"] = late + 1
        st.session_state["_private"], st.session_state["upload"] = {"abc": object()}, None
        if st.session_state.get("ends early"):
            return
        st.selectbox("Colour", ["red", "blue"], key=bound("colour"), bind="query-params")
        st.number_input("Many", 1, 9, 5, key=bound("many"), bind="query-params")
        st.toggle("On", key=bound("on"), bind="query-params")
        st.multiselect("Some", ["a", "b"], key=bound("some"), bind="query-params")
        st.text_input("Words", key=bound("words"), bind="query-params")
        if late:
            st.slider("Level", 0.0, 1.0, 0.5, key=bound("level"), bind="query-params")
        if st.session_state.get("begins anew"):
            del st.session_state["begins anew"]
            st.rerun()


def told(page: AppTest) -> list[str]:
    return [line.replace("\\", "") for one in page.warning for line in one.value.split("  \n")]


@pytest.mark.parametrize(
    ("key", "asked", "instead"),
    [("colour", "green", "red"), ("many", "many", "5"), ("on", "perhaps", "False"), ("some", "c", "nothing")],
)
def test_what_is_not_here_is_told_with_what_is_shown(key: str, asked: str, instead: str) -> None:
    page = opened_at(**{key: asked})
    assert told(page) == [f"The link asks for {key} = “{asked}”, which is not here; shown is “{instead}”."]
    assert told(shown(page.run())) == told(page)


@pytest.mark.parametrize(
    "address",
    [
        {},
        {"colour": "blue", "many": "7", "on": "true", "some": ["a", "b"], "words": "x * y"},
        {"colour": "red", "many": "5", "on": "FALSE"},
        {"nothing": "of ours"},
        {"_private": "1", "upload": "x", "late": "x", "_bound": "x", "_unmet": "x"},
        {"level": "0.25"},
    ],
)
def test_of_what_can_be_nothing_is_told(address: dict[str, str | list[str]]) -> None:
    page = opened_at(**address)
    assert told(page) == []
    assert told(shown(page.run())) == []


def test_it_is_told_until_another_value_is_chosen_and_a_later_one_that_is_chosen_is_no_link() -> None:
    page = opened_at(colour="green", many="0x")
    assert len(told(page)) == 2
    page.selectbox(key="colour").select("blue").run()
    assert [line.split(" ")[4] for line in told(page)] == ["many"]
    page.number_input(key="many").set_value(6).run()
    assert told(page) == []


def test_a_widget_that_comes_later_is_held_to_the_link_then() -> None:
    page = opened_at(level="high")
    assert told(page) == []
    assert "level = “high”" in told(shown(page.run()))[0]


def test_a_page_that_begins_anew_at_once_tells_it_too() -> None:
    test = AppTest.from_function(_page, default_timeout=30)
    test.query_params["colour"] = "green"
    test.session_state["begins anew"] = True
    assert "colour = “green”" in told(shown(test.run()))[0]


def test_another_page_does_not_tell_what_the_former_was_asked() -> None:
    page = opened_at(colour="green")
    page.session_state["page"] = "two"
    assert told(shown(page.run())) == []


def test_what_a_widget_held_that_is_not_shown_any_more_is_held_to_no_link() -> None:
    page = opened_at(colour="red")
    page.session_state["page"], page.session_state["ends early"] = "two", True
    page.query_params["colour"] = "blue"
    assert told(shown(page.run())) == []
    assert page.session_state["colour"] == "red"


def test_what_was_told_of_a_widget_is_told_again_when_the_widget_is_back() -> None:
    page = opened_at(colour="green")
    before = told(page)
    page.session_state["ends early"] = True
    assert told(shown(page.run())) == []
    page.session_state["ends early"] = False
    assert told(shown(page.run())) == before


def test_every_widget_of_the_app_that_is_bound_to_the_address_is_looked_at() -> None:
    sources = [path.read_text() for path in Path(app.__file__).parent.rglob("*.py")]
    calls = [call for source in sources for call in ast.walk(ast.parse(source)) if isinstance(call, ast.Call)]
    asked = [ast.unparse(call) for call in calls if any(one.arg == "bind" for one in call.keywords)]
    assert len(asked) > 10
    assert [call for call in asked if "bound(" not in call] == []


def test_a_page_of_the_app_tells_it(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened("lpi", settings, rows="hungarian", row="2", view="Because", **{"lpi-references": "many"}))
    assert "shown is “Why”" in told(page)[0]
    assert "lpi-references = “many”, which is not here; shown is “100”" in told(page)[1]
    page = settled(opened("lpi", settings, rows="hungarian", row="2", view="What if", **{"lpi-references": "90"}))
    assert told(page) == []


@pytest.mark.parametrize(
    ("asked", "held", "expected"),
    [
        (["1.50"], 1.5, True),
        (["x"], 1.5, False),
        (["True"], True, True),
        ([""], None, True),
        (["a"], None, False),
        (["a", "b"], ("a", "b"), True),
        (["a"], ["a", "b"], False),
        (["1", "2"], (1.0, 2.0), True),
    ],
)
def test_a_value_is_met_however_it_is_written(asked: Sequence[str], held: object, expected: bool) -> None:
    assert is_met(asked, held) is expected
