"""The tour: every question leads to its page, and every answer is what that page's result says."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest

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
from tests.explain.app.told_server import ToldServer, ToldSources
from tests.explain.app.views.rows import heart_settings


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
    assert all("model=heart%401" in link and "rows=both" in link for link in links)


def test_without_a_model_the_tour_says_what_to_do(opened: Opened, tmp_path: Path) -> None:
    server = ToldServer()
    page = opened("tour", AppSettings(), seams={"sources": functools.partial(ToldSources, server=server)})
    assert "There is no model of rows to explain" in said(page)
