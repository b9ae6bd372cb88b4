"""The page of Tuning over real searches in a folder: while one goes, when it has ended, and when there is none."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.house import House
from aimass.explain.app.settings import AppSettings
from aimass.explain.tune.search import Searching
from tests.explain.app.conftest import Opened
from tests.explain.app.hearts import settled
from tests.explain.app.shown import said
from tests.explain.tune.made import SPACE, space
from tests.explain.tune.planted import Planted, begun
from tests.explain.tune.test_search import Killed, killed_after


@pytest.fixture
def settings(tmp_path: Path) -> AppSettings:
    """`done` has ended, `half` was killed in its midst."""
    folder, search = begun(tmp_path / "searches" / "done", trials=8, seeds=(5, 6, 7))
    Searching(folder, search, Planted()).go_on()
    folder, search = begun(tmp_path / "searches" / "half", trials=8, seeds=(5, 6))
    with pytest.raises(Killed):
        Searching(folder, search, Planted(), tell=killed_after(30)).go_on()
    return AppSettings(studies=str(tmp_path / "searches"))


def test_a_search_that_has_ended_says_what_decided_what_is_tied_and_what_comes_next(
    opened: Opened, settings: AppSettings
) -> None:
    page = settled(opened("tuning", settings, search="done"))
    titles = [one.value for one in page.subheader]
    assert titles[:2] == ["What was tried", "What to run next"]
    assert "Settings that cannot be told from the best" in titles
    assert "Which settings decided" in titles
    assert "8 of 8 settings were begun: 8 finished." in said(page)
    (plan,) = [one for one in page.get("download_button") if one.proto.id.endswith("next-plan")]
    assert plan


def test_a_search_that_goes_shows_what_it_has_so_far(opened: Opened, settings: AppSettings) -> None:
    page = settled(opened("tuning", settings, search="half"))
    assert "**State** open" in said(page)
    assert "What is tried" in [one.value for one in page.subheader]
    assert "of 8 settings were begun" in said(page)
    assert page.button(key="compare-more").label == "All runs that have ended are compared below"
    assert page.button(key="compare-more").disabled


def test_runs_that_end_while_somebody_reads_are_offered_and_compared_when_they_want(
    entered: Callable[..., House], settings: AppSettings
) -> None:
    entered(settings)
    test = AppTest.from_function(_part, kwargs={"folder": f"{settings.studies}/half"}, default_timeout=60).run()
    assert not test.exception
    offer = test.button(key="compare-more")
    assert (offer.label, offer.disabled) == ("Compare 2 more runs below", False)


def _part(folder: str) -> None:
    from pathlib import Path

    from aimass.explain.app.house import house
    from aimass.explain.app.people import local_person
    from aimass.explain.app.views.tuning import _ended, _live
    from aimass.explain.tune.folder import SearchFolder

    found = SearchFolder(Path(folder))
    _live(house().visit(local_person(None), "viewer"), found, _ended(found.read()) - 2)


def test_a_search_for_several_goals_shows_its_front_of_settings_and_which_of_it_comes_next(
    opened: Opened, tmp_path: Path
) -> None:
    also = space(SPACE.replace('metric = "auc"', 'metric = "auc"\nalso = ["seconds"]'))
    folder, search = begun(tmp_path / "goals", of=also, trials=5, seeds=(5, 6, 7))
    search = Searching(folder, search, Planted()).go_on()
    page = settled(opened("tuning", AppSettings(studies=str(tmp_path)), search="goals"))
    assert "**Metric** auc, at little seconds" in said(page)
    assert "of 5 settings" in said(page)
    assert "beaten by none in all of auc and seconds" in said(page)
    assert "the front of auc and seconds" in said(page)


def test_without_searches_and_with_a_dead_link_the_page_says_so(
    opened: Opened, settings: AppSettings, tmp_path: Path
) -> None:
    assert "knows no folder of searches" in said(opened("tuning"))
    assert "There is no search yet" in said(opened("tuning", AppSettings(studies=str(tmp_path / "none"))))
    assert "app.gone" in said(opened("tuning", settings, search="gone"))


def test_the_plan_to_run_next_is_a_plan(settings: AppSettings) -> None:
    from aimass.explain.tune.answer import answered, next_plan
    from aimass.explain.tune.folder import SearchFolder
    from aimass.explain.tune.plan_text import written_plan
    from aimass.explain.work import Work

    folder = SearchFolder(Path(settings.studies) / "done")
    search = folder.read()
    found = answered(search, folder.views(search), Work())
    assert found is not None
    assert tomllib.loads(written_plan(*next_plan(search, found)))["task"] == "heart"
