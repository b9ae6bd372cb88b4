"""The tour: every question leads to its page, and every answer is what that page's result says."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.house import House
from aimass.explain.app.pages_table import PAGES, pages_for
from aimass.explain.app.people import ALONE
from aimass.explain.app.settings import AppSettings
from aimass.explain.app.tour_steps import STEPS
from aimass.explain.opening import Where, open_rows, open_subject
from aimass.explain.questions import question
from aimass.explain.work import Work
from tests.explain.app.conftest import Opened
from tests.explain.app.hearts import settled
from tests.explain.app.shown import said
from tests.explain.app.told_server import ToldServer, ToldSources, seams
from tests.explain.app.views.rows import heart_settings
from tests.explain.runs import made

RUN = "a" * 32


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> AppSettings:
    return heart_settings(tmp_path_factory.mktemp("heart"), rows=30)


def test_every_step_leads_to_a_page_that_there_is() -> None:
    assert {step.page for step in STEPS} <= {page.name for page in PAGES}
    assert len({step.name for step in STEPS}) == len(STEPS)
    assert all(step.warning and step.look for step in STEPS)


@pytest.mark.parametrize("name", ["uses", "why", "means", "wrong"])
def test_an_answer_is_what_the_library_says_of_the_chosen_model(name: str, opened: Opened, heart: AppSettings) -> None:
    page = opened("tour", heart, model="heart@champion", rows="both")
    settled(page.toggle(key=f"tour-{name}").set_value(True).run())
    step = next(step for step in STEPS if step.name == name)
    setting = next(one for one in heart.rows if one.name == "both")
    subject = open_subject("heart@champion", Where(registry=heart.registry, trust=heart.trust))
    rows = dataclasses.replace(open_rows(setting.files, subject.schema, held_out=True), name="both")
    asked = {"uses": "gap", "why": "lpi", "means": "prim", "wrong": "segviz"}[name]
    given: dict[str, dict[str, Any]] = {"segviz": {"beside": "partner"}, "prim": {"beside": "partner"}}
    of = question(asked)
    result = of.explain(subject.build(rows), rows.labelled(("no", "yes")), of.options(**given.get(asked, {})), Work())
    expected = step.says(result)
    assert expected
    for sentence in expected:
        assert f"> {sentence}" in said(page)


def test_links_carry_the_model_and_the_rows(opened: Opened, heart: AppSettings) -> None:
    page = opened("tour", heart, model="heart@1", rows="both")
    links = [one.proto.query_string for one in page.get("page_link")]
    there = {page.name for page in pages_for(ALONE)}
    assert len(links) == sum(step.page in there for step in STEPS)
    assert "trained on these rows" not in said(page)
    assert all("model=heart%401" in link and "rows=both" in link for link in links)


def test_without_a_model_the_tour_says_what_to_do(opened: Opened, tmp_path: Path) -> None:
    server = ToldServer()
    page = opened("tour", AppSettings(), seams={"sources": functools.partial(ToldSources, server=server)})
    assert "There is no model of rows to explain" in said(page)


def test_what_the_tour_says_of_the_run_stands_on_the_runs_own_pages(
    opened: Opened, entered: Callable[..., House]
) -> None:
    steps = [made.step(0, 1), made.evaluated(1, 1, {"auc": 0.6}, a=0.5), made.evaluated(2, 2, {"auc": 0.7})]
    server = ToldServer(made.run(steps, run_id=RUN))
    entered(AppSettings(), **seams(server))
    tour = AppTest.from_function(_questions_of_a_run, kwargs={"run": RUN}, default_timeout=60).run()
    for key, page in (("tour-training", "runs"), ("tour-privacy", "privacy")):
        told = said(tour.toggle(key=key).set_value(True).run())
        answer = [line.removeprefix("> ") for line in told.splitlines() if line.startswith("> ")]
        assert len(answer) == 2
        there = said(opened(page, seams=seams(server), run=RUN))
        assert [line for line in answer if line not in there] == []
        entered(AppSettings(), **seams(server))
        tour.toggle(key=key).set_value(False)
    assert [one.proto.query_string for one in tour.get("page_link")] == [f"run={RUN}"] * 2


def _questions_of_a_run(run: str) -> None:
    from types import SimpleNamespace

    from aimass.explain.app.choosing import Chosen
    from aimass.explain.app.house import house
    from aimass.explain.app.people import local_person
    from aimass.explain.app.views.tour import _training

    subject = SimpleNamespace(version=None)
    _training(house().visit(local_person(None), "viewer"), Chosen(f"run:{run}", subject, ()))  # type: ignore[arg-type]
