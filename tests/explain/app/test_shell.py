"""The frame around a result: its table is made once it is opened, and of a long one only its beginning is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app import shell
from aimass.explain.app.house import House
from aimass.explain.app.settings import AppSettings
from aimass.explain.charts.altair_charts import specs_of
from aimass.explain.charts.picture import Picture
from aimass.explain.charts.theme import Theme
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.explain.app.told_server import ToldServer, seams
from tests.explain.runs.made import evaluated, run

RUN = "a" * 32


def test_a_table_is_sent_when_it_is_opened_and_not_before(opened: Opened) -> None:
    server = ToldServer(run([evaluated(n, n + 1, {"auc": 0.5}) for n in range(1_500)], run_id=RUN))
    page = opened("runs", AppSettings(), seams=seams(server), run=RUN)
    assert not page.exception
    assert "table-course" not in {one.proto.id for one in page.dataframe}
    sent = len(page.dataframe)
    page.session_state[f"figures-{RUN[:8]}-course"] = True
    page.run()
    assert len(page.dataframe) == sent + 1
    assert max(len(one.value) for one in page.dataframe) == 1_000
    assert "The first 1,000 of 1,500 rows" in said(page)


def _script() -> None:
    from aimass.explain.app.shell import frame
    from aimass.explain.runs.course import course
    from tests.explain.runs.made import evaluated, run

    frame(course(run([evaluated(n, n + 1, {"auc": 0.5}) for n in range(5)])), "made-anew")


def test_a_result_that_is_made_anew_at_each_run_is_drawn_once_for_all_viewers(
    entered: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered(AppSettings())
    drawn: list[str] = []

    def counted(picture: Picture, theme: Theme) -> tuple[str, ...]:
        drawn.append(picture.title)
        return specs_of(picture, theme)

    monkeypatch.setattr(shell, "specs_of", counted)
    for _ in range(2):
        page = AppTest.from_function(_script, default_timeout=60).run()
        assert not page.exception
        page.run()
    assert len(drawn) == 1


def _private_script() -> None:
    import streamlit as st

    from aimass.explain.app.house import Here, house
    from aimass.explain.app.people import ALONE
    from aimass.explain.app.shell import computed

    def found(here: Here, place: int) -> int:
        while (answer := computed(here, str(place), "Why", lambda work: place, private=True)) is None:
            house().jobs.wait(f"{place} tab", 60)
        return answer

    for place in range(30):
        st.markdown(f"found {found(house().visit(ALONE, 'tab'), place)}")


def test_a_session_keeps_the_newest_answers_about_brought_rows_and_the_app_none(entered: Callable[..., House]) -> None:
    house = entered(AppSettings())
    page = AppTest.from_function(_private_script, default_timeout=60).run()
    assert not page.exception
    assert list(page.session_state["_private"].values()) == list(range(14, 30))
    assert all(house.jobs.look(f"{place} tab", "tab") is None for place in range(30))
